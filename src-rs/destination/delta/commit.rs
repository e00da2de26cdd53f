//! Committing: creating a table, widening it, appending to it.
//!
//! Invariants:
//! - A version is taken by a conditional put, so it is somebody's for good, and every attempt at it that is
//!   still under way can never land any more.
//! - A commit goes on to the next version only when it is known who holds the one before: what this producer
//!   has landed is never committed again, whichever session's request it was.
//! - "It did not land" is said only where that is so: the request was refused, or somebody else holds the
//!   version. Until then the version is in doubt, and the producer remembers it over its sessions.
//! - Files are deleted only when it is known that no version names them.
//!
//! Another writer's versions are no conflict for an append, whatever they add or remove. What they change of
//! protocol and metadata is looked at before the next try (`specs/delivery.md`).
//!
//! It does not wait and try again at leisure: optimistic retries against other writers end here, all
//! else is the transmitter's.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use deltalake_core::TableProperty;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{
    Action, Add, MetadataExt as _, StructField, StructType, Transaction as Txn, new_metadata,
};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use object_store::{PutMode, PutOptions};

use super::conform::TableConversion;
use super::errors;
use super::features;
use super::log;
use super::storage::Location;
use super::table::{AppTransaction, TableVersion};
use crate::error::{Code, Error, Result};

/// Rounds against other writers before a commit gives up as `CONFLICT`.
const ROUNDS: usize = 20;
/// A store that says a version is taken and then does not have it is about to decide between two writers.
const UNDECIDED: Duration = Duration::from_millis(20);
/// How long a client's transaction is of use: it is looked for after a lost answer. Kept for ever, the clients
/// that were would fill every checkpoint.
const TRANSACTION_RETENTION: &str = "interval 7 days";

/// What one producer knows of the table and of its own commits, over all its sessions.
#[derive(Debug, Default)]
pub struct View {
    pub table: Option<TableVersion>,
    /// The last of its transactions that the log is known to hold.
    pub last: Option<AppTransaction>,
    /// The highest version that a commit of it may still take, though no answer came.
    pub doubt: Option<u64>,
    /// Whether `last` covers all that the log holds, up to the table's version.
    pub looked: bool,
    /// The epoch of its transaction that came last, whatever that one's id.
    pub epoch: Option<u64>,
    /// The epochs that its own openings have left: the one that this opening found, and its own.
    pub own_epochs: Option<(Option<u64>, u64)>,
}

impl View {
    /// Brings the table forward. None if there is no table any more.
    pub async fn catch_up(&mut self, location: &Location, app: &str) -> Result<Option<TableVersion>> {
        let before = self.table.clone();
        self.look(location, app, None).await?;
        let version = self.table.as_ref().map(TableVersion::version);
        if let Some(mut before) = before.filter(|before| version > Some(before.version()))
            && !before.is_there(location).await?
        {
            // What came since is another table's.
            self.table = None;
            self.look(location, app, None).await?;
        }
        Ok(self.table.clone())
    }

    /// Reads the log for what this producer has landed, which nobody has done before.
    pub async fn look_back(&mut self, location: &Location, app: &str) -> Result<Option<TableVersion>> {
        let found = TableVersion::read(location, Some(app)).await?;
        self.looked = true;
        let Some((table, own)) = found else {
            self.table = None;
            return Ok(None);
        };
        self.epoch = own.and_then(|own| own.epoch).or(self.epoch);
        self.last = own.max_by_id(self.last);
        // A request that this process knows nothing of can only be at the next version. On a disk there is none:
        // who made it is gone.
        self.doubt = location.local.is_none().then(|| table.version() + 1);
        self.table = Some(table.clone());
        Ok(Some(table))
    }

    /// Whether nothing of this producer can land any more that the log does not hold.
    pub fn is_conclusive(&self) -> bool {
        self.doubt.is_none()
    }

    /// Returns the version that is `commit`, if one of those that came is.
    async fn look(&mut self, location: &Location, app: &str, commit: Option<&[u8]>) -> Result<Option<u64>> {
        // Kept until there is a newer one: an error on the way loses nothing that was seen.
        let (found, news) = match self.table.clone() {
            Some(table) => match table.catch_up(location, Some(app), commit).await? {
                Some((table, news)) => (Some(table), Some(news)),
                None => (None, None),
            },
            None => match TableVersion::read(location, Some(app)).await? {
                Some((table, own)) => {
                    self.epoch = own.and_then(|own| own.epoch).or(self.epoch);
                    self.last = own.max_by_id(self.last);
                    (Some(table), None)
                }
                None => (None, None),
            },
        };
        self.table = found;
        let news = news.unwrap_or_default();
        self.epoch = news.own.and_then(|own| own.epoch).or(self.epoch);
        self.last = news.own.max_by_id(self.last);
        self.settle_doubt();
        Ok(news.ours)
    }

    /// # Errors
    /// `SPOOL_FOREIGN` if a copy of this producer has committed.
    fn check_epoch(&self) -> Result<()> {
        let Some((found, own)) = self.own_epochs else {
            return Ok(());
        };
        if self.epoch.is_none() || self.epoch == found || self.epoch == Some(own) {
            return Ok(());
        }
        let text = "a copy of this spool has committed to the table: rows of the two cannot be told apart";
        Err(Error::new(Code::SpoolForeign, text))
    }

    /// A version that is there can be taken by nobody any more.
    fn settle_doubt(&mut self) {
        let version = self.table.as_ref().map(TableVersion::version);
        self.doubt = self.doubt.filter(|doubt| Some(*doubt) > version);
    }
}

trait MaxById {
    fn max_by_id(self, other: Self) -> Self;
}

impl MaxById for Option<AppTransaction> {
    fn max_by_id(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(other)) if (other.id, other.version) >= (one.id, one.version) => Some(other),
            (None, other) => other,
            (one, _) => one,
        }
    }
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
    let properties = [(
        TableProperty::SetTransactionRetentionDuration.as_ref(),
        TRANSACTION_RETENTION,
    )];
    let metadata = new_metadata(&schema, by, properties).map_err(|error| internal(error.to_string()))?;
    let protocol = features::fresh(&schema);
    let operation = DeltaOperation::Create {
        mode: SaveMode::ErrorIfExists,
        location: location.url.clone(),
        protocol: protocol.clone(),
        metadata: metadata.clone(),
    };
    let actions = vec![Action::Protocol(protocol), Action::Metadata(metadata)];
    let entry = entry(actions, operation)?;
    location.is_new();
    match put(location, 0, entry).await {
        // Another writer's table: the caller loads it and checks whether it fits.
        Err(error) if !errors::is_taken(&error) => Err(location.classifier.store(&error).during("open")),
        _ => Ok(()),
    }
}

/// Adds nullable columns to the table, as a version of its own.
pub async fn widen(
    location: &Location,
    view: &mut View,
    app: &str,
    fields: &[StructField],
) -> Result<TableVersion> {
    for _ in 0..ROUNDS {
        let Some(table) = view.table.clone() else {
            return Err(Error::new(Code::NotFound, "the table is gone").during("open"));
        };
        let schema = table.schema();
        let missing: Vec<StructField> = fields
            .iter()
            .filter(|field| schema.field(&field.name).is_none())
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(table);
        }
        let internal =
            |error: String| Error::new(Code::Internal, format!("the wider schema is invalid: {error}"));
        let wide = StructType::try_new(schema.fields().cloned().chain(missing.iter().cloned()))
            .map_err(|error| internal(error.to_string()))?;
        let metadata = table
            .metadata()
            .clone()
            .with_schema(&wide)
            .map_err(|error| internal(error.to_string()))?;
        let protocol = features::upgrade(table.protocol(), &wide);
        let mut actions = vec![Action::Metadata(metadata.clone())];
        actions.extend(protocol.clone().map(Action::Protocol));
        let entry = entry(actions, DeltaOperation::AddColumn { fields: missing })?;
        let size = entry.len();
        match put(location, table.version() + 1, entry).await {
            Ok(()) => {
                let table = table.next(size, protocol, Some(metadata))?;
                view.table = Some(table.clone());
                view.settle_doubt();
                return Ok(table);
            }
            Err(error) if errors::is_taken(&error) => {
                // Whoever was first may have added the same columns, or changed what they are added to.
                if let Some(table) = view.catch_up(location, app).await? {
                    table.check_features()?;
                }
            }
            // Should it land after all, the next attempt finds the columns there.
            Err(error) => return Err(location.classifier.store(&error).during("open")),
        }
    }
    Err(Error::new(Code::Conflict, "other writers keep taking the next version").during("open"))
}

/// What is to be committed.
pub struct Append<'a> {
    pub plan: &'a TableConversion,
    /// The columns that its files are partitioned by.
    pub by: &'a [String],
    pub adds: Vec<Add>,
    pub app: &'a str,
    /// The first and the last write that the files hold. Of rows from a log, what an earlier commit has to reach to
    /// hold the first of them.
    pub first: u64,
    pub last: u64,
}

/// A commit that is settled.
pub enum CommitOutcome {
    /// The files are this version's.
    Landed(u64),
    /// A commit of an earlier session held some of these writes and has landed; no version names these files.
    Earlier(AppTransaction),
}

/// A commit that did not land, and whether it may still.
pub struct Failed {
    pub error: Error,
    pub may_land: bool,
}

impl Failed {
    fn sure(error: Error) -> Failed {
        Failed {
            error: error.during("commit"),
            may_land: false,
        }
    }

    fn in_doubt(error: Error) -> Failed {
        Failed {
            error: error.during("commit").ambiguous(),
            may_land: true,
        }
    }
}

/// Commits files as the next version.
pub async fn commit(
    location: &Location,
    view: &mut View,
    append: Append<'_>,
) -> std::result::Result<CommitOutcome, Failed> {
    let txn = Txn::new_with_last_update(append.app, append.last.cast_signed(), now());
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: Some(append.by.to_vec()).filter(|by| !by.is_empty()),
        predicate: None,
    };
    let epoch = view.own_epochs.map(|(_, own)| {
        let version = own.cast_signed();
        Action::Txn(Txn::new_with_last_update(
            log::epoch_app(append.app),
            version,
            now(),
        ))
    });
    let actions = append.adds.into_iter().map(Action::Add);
    let actions = actions.chain([Action::Txn(txn)]).chain(epoch);
    let entry = entry(actions.collect(), operation).map_err(Failed::sure)?;
    let current = match &mut view.table {
        Some(table) => table.is_current(location).await.map_err(Failed::sure)?,
        None => false,
    };
    if !current {
        view.table = None;
        view.look(location, append.app, None)
            .await
            .map_err(Failed::sure)?;
    }
    // Whether a request of this commit for the next version was not answered.
    let mut unanswered = false;
    for _ in 0..ROUNDS {
        // Its transactions would be taken for this one's, and rows that never came for rows that are there.
        view.check_epoch().map_err(Failed::sure)?;
        if let Some(landed) = view.last.filter(|last| last.id >= append.first) {
            return Ok(CommitOutcome::Earlier(landed));
        }
        let Some(table) = view.table.clone() else {
            return Err(Failed::sure(Error::new(Code::NotFound, "the table is gone")));
        };
        fits(&table, append.plan, append.by).map_err(Failed::sure)?;
        let version = table.version() + 1;
        if take(location, view, version, &entry, &mut unanswered).await? {
            view.table = Some(table.later(entry.len()));
            let epoch = view.own_epochs.map(|(_, own)| own);
            view.epoch = epoch.or(view.epoch);
            view.last = Some(AppTransaction {
                id: append.last,
                version: Some(version),
                epoch,
            });
            view.settle_doubt();
            return Ok(CommitOutcome::Landed(version));
        }
        // Whoever holds it, perhaps this very commit: it is the first version that is read.
        let ours = view.look(location, append.app, Some(&entry)).await;
        if let Some(version) = ours.map_err(Failed::in_doubt)? {
            return Ok(CommitOutcome::Landed(version));
        }
        if view.table.as_ref().is_some_and(|table| table.version() < version) {
            tokio::time::sleep(UNDECIDED).await;
        } else {
            unanswered = false;
        }
    }
    let text = "other writers keep taking the next version";
    Err(failed(Error::new(Code::Conflict, text), unanswered))
}

fn failed(error: Error, unanswered: bool) -> Failed {
    match unanswered {
        true => Failed::in_doubt(error),
        false => Failed::sure(error),
    }
}

/// What another writer may change under an append, and what it may not.
fn fits(table: &TableVersion, plan: &TableConversion, by: &[String]) -> Result<()> {
    table.check_features()?;
    if plan.fits(table.schema()) && by == table.metadata().partition_columns() {
        return Ok(());
    }
    let text = "the table's schema or partitioning was changed by another writer";
    Err(Error::new(Code::SchemaMismatch, text))
}

/// Tries to take a version. False if it is held by somebody, who may be this producer.
async fn take(
    location: &Location,
    view: &mut View,
    version: u64,
    entry: &Bytes,
    unanswered: &mut bool,
) -> std::result::Result<bool, Failed> {
    // Before the request: if this call is cancelled in the midst of it, nobody knows. What was in doubt before
    // is at this version too, or it would be settled.
    let before = view.doubt.replace(version);
    let answer = put(location, version, entry.clone()).await;
    if let Err(poisoned) = location.refuse_if_poisoned() {
        // By this version or by something beside it, as a checkpoint. What is visible now may be gone after a power
        // cut: this version, or the one that another writer has put there and on which the next would be built.
        return Err(Failed::in_doubt(match &answer {
            Err(error) if !errors::is_taken(error) => location.classifier.store(error),
            _ => poisoned,
        }));
    }
    let error = match answer {
        Ok(()) => return Ok(true),
        Err(error) if errors::is_taken(&error) => return Ok(false),
        Err(error) => error,
    };
    let found = location.classifier.store(&error);
    if location.local.is_none() && errors::is_refusal(&error) {
        view.doubt = before;
        return Err(failed(found, *unanswered));
    }
    *unanswered = true;
    match log::read_commit(location, version).await {
        Ok(Some(_)) => Ok(false),
        Err(_) => Err(Failed::in_doubt(found)),
        // A disk answers when it is done: what is not there now never will be.
        Ok(None) if location.local.is_some() => {
            view.doubt = before;
            Err(Failed::sure(found))
        }
        // A request that timed out can arrive after any look. Taking the version settles it, either way.
        Ok(None) => match put(location, version, entry.clone()).await {
            Ok(()) => Ok(true),
            Err(error) if errors::is_taken(&error) => Ok(false),
            Err(_) => Err(Failed::in_doubt(found)),
        },
    }
}

/// Writes a version, unless there is one.
async fn put(location: &Location, version: u64, entry: Bytes) -> object_store::Result<()> {
    let path = log::path(location, &log::name(version));
    let options = PutOptions::from(PutMode::Create);
    location
        .store()
        .put_opts(&path, entry.into(), options)
        .await
        .map(|_| ())
}

/// The bytes of a version.
fn entry(actions: Vec<Action>, operation: DeltaOperation) -> Result<Bytes> {
    CommitData::new(actions, operation, HashMap::new(), Vec::new())
        .get_bytes()
        .map_err(|error| {
            let text = "the commit cannot be written down";
            Error::new(Code::Internal, text).caused_by(&error)
        })
}

fn now() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
#[path = "../../../tests/rs/delta/lost_answers.rs"]
mod tests;
