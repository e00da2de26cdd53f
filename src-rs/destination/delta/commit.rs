//! The table's log: loading, creating, widening, committing, checkpointing.
//!
//! Invariants:
//! - A commit carries the producer's application transaction, so whether it landed can always be read
//!   from the log; an error is only reported after that was tried.
//! - Files are deleted only when it is known that no version names them.
//! - Checkpoints come after the acknowledgement and apart from it: one that fails is counted, and the
//!   next one covers its versions.
//!
//! It does not wait and try again at leisure: optimistic retries against other writers end here, all
//! else is the transmitter's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use deltalake_core::DeltaTable;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitData, CommitProperties, TransactionError};
use deltalake_core::kernel::{
    Action, Add, MetadataExt as _, StructField, StructType, Transaction, new_metadata,
};
use deltalake_core::logstore::CommitOrBytes;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use futures::StreamExt as _;
use object_store::ObjectStore as _;
use uuid::Uuid;

use super::conform::Plan;
use super::errors;
use super::features::{self, Honoured};
use super::storage::Location;
use crate::error::{Code, Error, Result};

/// Rounds against other writers before a commit gives up as `CONFLICT`.
const ROUNDS: usize = 20;
/// Rounds against writers that change the schema, which is rare.
const REREADS: usize = 5;

/// The table as it is now; none if there is none.
///
/// # Errors
/// `TABLE_CORRUPT` if there is a log that cannot be read.
pub async fn load(location: &Location) -> Result<Option<DeltaTableState>> {
    let failed = |error| location.secrets.table(&error).during("open");
    if let Some(path) = &location.local
        && tokio::fs::metadata(path.join("_delta_log"))
            .await
            .is_ok_and(|log| !log.is_dir())
    {
        return Err(Error::new(Code::TableCorrupt, "_delta_log is not a directory").during("open"));
    }
    if !location.log.is_delta_table_location().await.map_err(failed)? {
        return Ok(None);
    }
    match DeltaTableState::try_new(location.log.as_ref(), None).await {
        Ok(state) => {
            whole(location, &state).await?;
            Ok(Some(state))
        }
        Err(error) => {
            let found = failed(error);
            // There is a log, so "not found" means that a part of it is missing.
            Err(match found.code() {
                Code::NotFound => Error::new(Code::TableCorrupt, found.message()).during("open"),
                _ => found,
            })
        }
    }
}

/// The kernel takes a log that begins anywhere for a whole one, and the rows before it for never written.
async fn whole(location: &Location, state: &DeltaTableState) -> Result<()> {
    let failed = |error| location.secrets.table(&error).during("open");
    if location.log.read_commit_entry(0).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    let mut entries = location.store().list(Some(location.log.log_path()));
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(|error| location.secrets.store(&error).during("open"))?;
        if entry
            .location
            .filename()
            .is_some_and(|name| name.contains(".checkpoint."))
        {
            return Ok(());
        }
    }
    let text = format!(
        "the log up to version {} has neither its first version nor a checkpoint",
        state.version()
    );
    Err(Error::new(Code::TableCorrupt, text).during("open"))
}

/// Creates the table, or finds that somebody else just did.
///
/// Not by deltalake-core's `CreateBuilder`: when two writers create at once, its second one commits a
/// second protocol and schema as version 1 over the first one's table.
pub async fn create(location: &Location, columns: Vec<StructField>, by: &[String]) -> Result<()> {
    let internal = |error: String| {
        Error::new(
            Code::Internal,
            format!("the new table's schema is invalid: {error}"),
        )
    };
    let schema = StructType::try_new(columns).map_err(|error| internal(error.to_string()))?;
    let none: [(String, String); 0] = [];
    let metadata = new_metadata(&schema, by, none).map_err(|error| internal(error.to_string()))?;
    let protocol = features::fresh(&schema);
    let operation = DeltaOperation::Create {
        mode: SaveMode::ErrorIfExists,
        location: location.url.clone(),
        protocol: protocol.clone(),
        metadata: metadata.clone(),
    };
    let actions = vec![Action::Protocol(protocol), Action::Metadata(metadata)];
    let entry = CommitData::new(actions, operation, HashMap::new(), Vec::new())
        .get_bytes()
        .map_err(|error| internal(error.to_string()))?;
    match location
        .log
        .write_commit_entry(0, CommitOrBytes::LogBytes(entry), Uuid::new_v4())
        .await
    {
        // Another writer's table: the caller loads it and checks whether it fits.
        Ok(()) | Err(TransactionError::VersionAlreadyExists(_)) => Ok(()),
        Err(error) => Err(location.secrets.table(&error.into()).during("open")),
    }
}

/// Adds nullable columns to the table, as a version of its own.
pub async fn widen(
    location: &Location,
    mut state: DeltaTableState,
    fields: &[StructField],
) -> Result<DeltaTableState> {
    let failed = |error| location.secrets.table(&error).during("open");
    for _ in 0..REREADS {
        let schema = state.schema();
        let missing: Vec<StructField> = fields
            .iter()
            .filter(|field| schema.field(&field.name).is_none())
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(state);
        }
        let internal =
            |error: String| Error::new(Code::Internal, format!("the wider schema is invalid: {error}"));
        let wide = StructType::try_new(schema.fields().cloned().chain(missing.iter().cloned()))
            .map_err(|error| internal(error.to_string()))?;
        let metadata = state
            .metadata()
            .clone()
            .with_schema(&wide)
            .map_err(|error| internal(error.to_string()))?;
        let mut actions = vec![Action::Metadata(metadata)];
        actions.extend(features::upgrade(state.protocol(), &wide).map(Action::Protocol));
        let honoured = Honoured::new(&state);
        let commit = CommitBuilder::from(CommitProperties::default().with_max_retries(ROUNDS))
            .with_actions(actions)
            .build(
                Some(&honoured),
                Arc::clone(&location.log),
                DeltaOperation::AddColumn { fields: missing },
            );
        let result = match commit.into_prepared_commit_future().await {
            Ok(prepared) => prepared.await.map(|_| ()),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            Err(error) if errors::table_changed(&error) => {}
            Err(error) => return Err(failed(error)),
        }
        state = load(location)
            .await?
            .ok_or_else(|| Error::new(Code::TableCorrupt, "the table is gone").during("open"))?;
        features::check(&state)?;
    }
    Err(Error::new(Code::Conflict, "other writers keep changing the table's schema").during("open"))
}

/// What of a producer has landed: its last write, and the version that holds it if that is near.
pub async fn landed(
    location: &Location,
    state: &DeltaTableState,
    app: &str,
) -> Result<Option<(u64, Option<u64>)>> {
    let version = state
        .transaction_version(location.log.as_ref(), app)
        .await
        .map_err(|error| location.secrets.table(&error).during("open"))?;
    let Some(id) = version.and_then(|version| u64::try_from(version).ok()) else {
        return Ok(None);
    };
    Ok(Some((id, find(location, state.version(), app, id).await)))
}

/// Looks for the version of a transaction among the last ones.
async fn find(location: &Location, latest: u64, app: &str, id: u64) -> Option<u64> {
    const FAR: u64 = 256;
    for version in (latest.saturating_sub(FAR)..=latest).rev() {
        let Ok(Some(entry)) = location.log.read_commit_entry(version).await else {
            continue;
        };
        let holds = entry.split(|byte| *byte == b'\n').any(|line| {
            serde_json::from_slice::<serde_json::Value>(line)
                .is_ok_and(|action| action["txn"]["appId"] == app && action["txn"]["version"] == id)
        });
        if holds {
            return Some(version);
        }
    }
    None
}

/// A commit that landed.
pub struct Landed {
    /// Unknown only if the log moved on so far that looking was given up.
    pub version: Option<u64>,
    /// Whether a checkpoint is due by the table's own interval.
    pub checkpoint: bool,
}

/// A commit that did not, and whether it may still.
pub struct Failed {
    pub error: Error,
    pub may_land: bool,
}

/// Commits files as one version that carries `(app, id)`.
///
/// `state` is the table as last read; it is brought up to date, or emptied if that fails.
pub async fn commit(
    location: &Location,
    state: &mut Option<DeltaTableState>,
    plan: &Plan,
    adds: Vec<Add>,
    app: &str,
    id: u64,
) -> std::result::Result<Landed, Failed> {
    let sure = |error: Error| Failed {
        error: error.during("commit"),
        may_land: false,
    };
    let by = state
        .as_ref()
        .map(|state| state.metadata().partition_columns().to_vec());
    for _ in 0..REREADS {
        let current = match state.take() {
            Some(current) => current,
            None => load(location)
                .await
                .map_err(sure)?
                .ok_or_else(|| sure(Error::new(Code::NotFound, "the table is gone")))?,
        };
        features::check(&current).map_err(sure)?;
        let same_partitions = by
            .as_deref()
            .is_none_or(|by| by == current.metadata().partition_columns());
        if !plan.fits(current.schema().as_ref()) || !same_partitions {
            let text = "the table's schema or partitioning was changed by another writer";
            return Err(sure(Error::new(Code::SchemaMismatch, text)));
        }
        let before = current.version();
        let transaction = Transaction::new_with_last_update(app, id.cast_signed(), now());
        let properties = CommitProperties::default()
            .with_max_retries(ROUNDS)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false))
            .with_application_transaction(transaction);
        let honoured = Honoured::new(&current);
        let prepared = CommitBuilder::from(properties)
            .with_actions(adds.iter().cloned().map(Action::Add).collect())
            .build(
                Some(&honoured),
                Arc::clone(&location.log),
                DeltaOperation::Write {
                    mode: SaveMode::Append,
                    partition_by: by.clone().filter(|by| !by.is_empty()),
                    predicate: None,
                },
            )
            .into_prepared_commit_future();
        // The commit itself and nothing after it: the hooks would report their failures as its own.
        let result = match prepared.await {
            Ok(prepared) => prepared.await.map(|done| done.version),
            Err(error) => Err(error),
        };
        let error = match result {
            Ok(version) => {
                let interval = features::checkpoint_interval(&current);
                *state = refreshed(location, current, version).await;
                return Ok(Landed {
                    version: Some(version),
                    checkpoint: version / interval > before / interval,
                });
            }
            Err(error) => error,
        };
        if errors::table_changed(&error) {
            continue;
        }
        let found = location.secrets.table(&error).during("commit");
        if !errors::may_have_landed(&error) {
            return Err(sure(found));
        }
        return settle(location, state, app, id, found).await;
    }
    Err(sure(Error::new(
        Code::Conflict,
        "other writers keep changing the table's schema",
    )))
}

/// An error that does not say whether the commit landed: the log does.
async fn settle(
    location: &Location,
    state: &mut Option<DeltaTableState>,
    app: &str,
    id: u64,
    error: Error,
) -> std::result::Result<Landed, Failed> {
    if location.poisoned() {
        // It may be visible and still be gone after a power cut.
        return Err(Failed {
            error: error.ambiguous(),
            may_land: true,
        });
    }
    let now = async {
        let now = load(location).await?;
        let found = match &now {
            Some(now) => landed(location, now, app).await?,
            None => None,
        };
        Ok::<_, Error>((now, found))
    };
    match now.await {
        Ok((now, Some((last, version)))) if last >= id => {
            *state = now;
            Ok(Landed {
                version,
                checkpoint: false,
            })
        }
        // A request that timed out can arrive after this look; only a local disk or a clear refusal is sure.
        Ok(_) => Err(Failed {
            may_land: location.local.is_none() && error.code() != Code::Conflict,
            error,
        }),
        Err(_) => Err(Failed {
            error: error.ambiguous(),
            may_land: true,
        }),
    }
}

async fn refreshed(location: &Location, mut state: DeltaTableState, version: u64) -> Option<DeltaTableState> {
    // Without it the next commit would take this one for a rival's: the transaction is the same.
    match state.update(location.log.as_ref(), Some(version)).await {
        Ok(()) => Some(state),
        Err(_) => None,
    }
}

fn now() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// Writes a checkpoint in the background. Its failure harms no write and is counted.
pub fn checkpoint(location: Location, failures: Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        // The kernel computes and blocks in here; on a worker of the runtime it would stall others.
        let runtime = tokio::runtime::Handle::current();
        let work = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                let mut table = DeltaTable::new(Arc::clone(&location.log));
                table.load().await?;
                deltalake_core::checkpoints::create_checkpoint(&table, None).await
            })
        });
        if !matches!(work.await, Ok(Ok(()))) {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    })
}

#[cfg(test)]
#[path = "../../../tests/rs/delta/lost_answers.rs"]
mod tests;
