//! `delta:` appends to a Delta Lake table, on a local disk or in an object store.
//!
//! How rows get there: batches are conformed to the table ([`conform`], [`types`]) and encoded into Parquet files
//! as they come ([`encoder`], [`file`], [`stats`], [`dictionaries`]). In a partitioned table the partition of each
//! row is found ([`partitions`]), and rows wait to be put in order by partition and encoded all at once
//! ([`grouping`]). A flush ends the files, syncs them and commits them as one version ([`commit`]); then, and not
//! before, all writes of that version are acknowledged.
//!
//! Invariants:
//! - Acknowledged means: on a disk, data files, their directories, the commit and its directory are synced; in an
//!   object store, the store has confirmed the files and then the commit.
//! - A commit carries the producer's id and its last write, so a lost answer never writes twice.
//! - A fault of a batch is found before the batch is queued, so the error names that write and no other.
//!
//! It does not delete, update, compact or vacuum, and it never changes a table's properties; it widens
//! a schema only when `delta.schemaEvolution` is `"merge"`.

mod checkpoint;
mod commit;
mod conform;
mod dictionaries;
mod encoder;
mod errors;
mod faults;
mod features;
mod file;
mod grouping;
mod local;
mod log;
mod partitions;
mod retry_after;
mod stats;
mod storage;
mod table;
mod target;
mod types;
mod uploads;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use uuid::Uuid;

use self::checkpoint::Checkpoints;
use self::commit::{Append, CommitOutcome, View};
use self::conform::TableConversion;
use self::encoder::{EncoderInput, Encoders};
use self::file::{FileSpec, Finished, UPLOADS};
use self::partitions::Splitter;
use self::stats::StatisticsColumns;
use self::storage::Location;
use self::table::{AppTransaction, TableVersion};
pub use self::target::meant;

use super::{
    Acknowledgement, Acknowledgements, Capabilities, Destination, Opened, Opening, Position, Session, Write,
};
use crate::compute;
use crate::config::{Config, SchemaEvolution};
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::file_system;

/// Producers whose view of the table is remembered between their sessions. One that is forgotten reads the log
/// again.
const PRODUCERS: usize = 32;

pub struct Delta {
    location: Location,
    config: Config,
    checkpoints: Checkpoints,
    /// The table as it was found, before any producer had to do with it.
    found: Mutex<Option<TableVersion>>,
    producers: Mutex<HashMap<Uuid, Arc<SharedView>>>,
}

/// What a producer knows, for whichever of its sessions is open.
type SharedView = tokio::sync::Mutex<View>;

impl Delta {
    /// Finds the table, or the place where it is to be. One attempt.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for a target or storage option that means nothing, `NOT_FOUND` if there is no
    /// table and none is to be made, `UNSUPPORTED` naming what the table asks of writers,
    /// `TABLE_CORRUPT`, `PERMISSION_DENIED`, `UNAUTHENTICATED`, `UNAVAILABLE`.
    pub async fn connect(target: &str, config: &Config) -> Result<Delta> {
        let delta = Delta::new(target, config)?;
        delta.check().await?;
        Ok(delta)
    }

    /// Reaches for nothing.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn new(target: &str, config: &Config) -> Result<Delta> {
        let location = Location::parse(target, &config.delta.storage)?;
        Ok(Delta::over(location, config.clone()))
    }

    /// A table in a store that the caller has built, at the path of `url` in it. Reaches for nothing.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for a URL whose path is none in a store.
    pub fn in_store(
        url: url::Url,
        store: Arc<dyn object_store::ObjectStore>,
        config: &Config,
    ) -> Result<Delta> {
        let location = Location::over(url, store, None, Default::default(), Arc::default())?;
        Ok(Delta::over(location, config.clone()))
    }

    fn over(location: Location, config: Config) -> Delta {
        Delta {
            checkpoints: Checkpoints::new(location.clone()),
            location,
            config,
            found: Mutex::default(),
            producers: Mutex::default(),
        }
    }

    /// Checkpoints that could not be written. Nothing is lost by it; reading the table gets slower.
    pub fn checkpoint_failures(&self) -> u64 {
        self.checkpoints.failures()
    }

    /// Whether the target names a table, without reaching for it.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn validate(target: &str) -> Result<()> {
        target::parse(target).map(|_| ())
    }

    /// Whether the table is one that this client can append to; none if it may be created.
    fn accept(&self, table: Option<TableVersion>) -> Result<Option<TableVersion>> {
        let Some(table) = table else {
            if self.config.create_if_missing {
                return Ok(None);
            }
            let text = format!("there is no Delta table at {}", self.location.url);
            return Err(Error::new(Code::NotFound, text).during("open"));
        };
        table.check_features()?;
        let (asked, found) = (
            &self.config.delta.partition_by,
            table.metadata().partition_columns(),
        );
        if !asked.is_empty() && asked != found {
            let text = format!("the table is partitioned by {found:?}, not by {asked:?}");
            return Err(Error::new(Code::SchemaMismatch, text).during("open"));
        }
        Ok(Some(table))
    }

    /// The table as it is now, none if it is yet to be made. Remembered for the producers to come.
    async fn look(&self) -> Result<Option<TableVersion>> {
        self.location.refuse_if_poisoned()?;
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let current = match &mut known {
            Some(table) => table.is_current(&self.location).await?,
            None => false,
        };
        let now = match known.filter(|_| current) {
            Some(table) => table
                .catch_up(&self.location, None, None)
                .await?
                .map(|(table, _)| table),
            None => TableVersion::read(&self.location, None)
                .await?
                .map(|(table, _)| table),
        };
        let accepted = self.accept(now)?;
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&accepted);
        Ok(accepted)
    }

    /// What is remembered of a producer. A fresh one has landed nothing and looks nothing up.
    fn producer(&self, opening: &Opening) -> Arc<SharedView> {
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        if producers.len() >= PRODUCERS && !producers.contains_key(&opening.producer) {
            producers.retain(|_, known| Arc::strong_count(known) > 1);
        }
        let known = producers.entry(opening.producer).or_insert_with(|| {
            let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::new(SharedView::new(View {
                table: found.clone(),
                looked: opening.resume_from.is_none(),
                ..View::default()
            }))
        });
        Arc::clone(known)
    }

    /// The table and how batches of this schema become its rows, created or widened if need be.
    async fn prepare(
        &self,
        opening: &Opening,
        view: &mut View,
        app: &str,
    ) -> Result<(TableVersion, TableConversion)> {
        self.location.refuse_if_poisoned()?;
        let now = match view.looked {
            true => view.catch_up(&self.location, app).await?,
            false => view.look_back(&self.location, app).await?,
        };
        let mut table = match self.accept(now)? {
            Some(table) => table,
            None => {
                let columns = types::table_schema(&opening.schema)?;
                let by = &self.config.delta.partition_by;
                if !by.is_empty() && by.len() >= columns.len() {
                    let text = "delta.partitionBy names every column; a table needs one that is stored";
                    return Err(Error::new(Code::ConfigInvalid, text).during("open"));
                }
                // Refused before there is a table that nobody can write to.
                let whole = TableConversion::new(&opening.schema, &struct_of(&columns)?, by, false)?;
                Splitter::new(&whole.target, by)?;
                commit::create(&self.location, columns, by).await?;
                // Another writer may have been first, with a table of another kind.
                self.accept(view.catch_up(&self.location, app).await?)?
                    .ok_or_else(|| Error::new(Code::Internal, "the new table cannot be found"))?
            }
        };
        let grow = self.config.delta.schema_evolution == SchemaEvolution::Merge;
        let plan_for = |table: &TableVersion| {
            let by = table.metadata().partition_columns();
            TableConversion::new(&opening.schema, table.schema(), by, grow)
        };
        let mut plan = plan_for(&table)?;
        if !plan.unknown.is_empty() {
            table = commit::widen(&self.location, view, app, &plan.unknown).await?;
            plan = plan_for(&table)?;
        }
        Ok((table, plan))
    }

    /// A session, what of earlier ones has landed, and whether nothing else of them can.
    async fn session(&self, opening: Opening) -> Result<(DeltaSession, Option<Acknowledgement>, bool)> {
        let app = format!("arrow-ingest-{}", opening.producer);
        let producer = self.producer(&opening);
        let mut view = producer.lock().await;
        let (table, plan) = self.prepare(&opening, &mut view, &app).await?;
        if let Some(epochs) = &opening.epochs {
            let found = view.own_epochs.map_or(view.epoch, |(found, _)| found);
            let own = epochs.confirm(view.epoch).await?;
            view.own_epochs = Some((found, own));
            if view.last.is_none() {
                epochs.forgotten();
            }
        }
        let known = view.last.filter(|_| opening.epochs.is_some());
        let landed = opening.resume_from.and_then(|first| {
            let landed = view.last.filter(|landed| landed.id >= first)?;
            Some(landed.acknowledged())
        });
        let conclusive = view.is_conclusive();
        drop(view);
        let by = table.metadata().partition_columns().to_vec();
        let splitter = match by.is_empty() {
            true => None,
            false => Some(Arc::new(Mutex::new(Splitter::new(&plan.target, &by)?))),
        };
        let stored =
            (0..plan.target.fields().len()).filter(|index| !by.contains(plan.target.field(*index).name()));
        let schema = plan
            .target
            .project(&stored.collect::<Vec<_>>())
            .map_err(|error| {
                Error::new(Code::Internal, "the table's columns cannot be read").caused_by(&error)
            })?;
        let spec = Arc::new(FileSpec {
            local: self.location.local.clone(),
            disk: Arc::clone(&self.location.disk),
            store: self.location.store(),
            runtime: Handle::current(),
            schema: Arc::new(schema),
            compression: self.config.delta.compression,
            wanted: StatisticsColumns::of(table.metadata().configuration()),
            classifier: self.location.classifier.clone(),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
        });
        let plan = Arc::new(plan);
        let target_file_size = self.config.delta.target_file_size;
        let session = DeltaSession {
            location: self.location.clone(),
            encoders: Encoders::new(spec, Arc::clone(&plan), splitter.clone(), target_file_size),
            view: producer,
            plan,
            by,
            splitter,
            app,
            landed: None,
            known,
            acknowledgements: opening.acknowledgements,
            pending: None,
            commit_interval: self.config.delta.commit_interval,
            commit_bytes: (self.config.inflight.max_bytes / 2).max(1),
            target_file_size,
            checkpoints: self.checkpoints.clone(),
            checkpoint: None,
        };
        Ok((session, landed, conclusive))
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds the storage options, and those hold secrets.
        f.debug_struct("Delta")
            .field("url", &self.location.url.as_str())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Destination for Delta {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "delta",
            tells_what_landed: true,
            // A refusal names its row where there is one, and that needs no search.
            refusals_are_atomic: false,
            joins: false,
        }
    }

    fn computes_on(&self, _: &Schema) -> bool {
        true
    }

    fn commit_interval(&self) -> Option<Duration> {
        Some(self.config.delta.commit_interval)
    }

    async fn check(&self) -> Result<()> {
        if let Some(path) = self.location.local.clone() {
            let (classifier, disk) = (self.location.classifier.clone(), Arc::clone(&self.location.disk));
            blocking(move || {
                file_system::probe(disk.as_ref(), &path)
                    .map_err(|error| classifier.io(path.display(), &error).during("open"))
            })
            .await?;
        }
        self.look().await.map(drop)
    }

    async fn schema(&self) -> Result<Option<SchemaRef>> {
        let table = self.look().await?;
        Ok(table.map(|table| Arc::new(types::arrow_schema(table.schema()))))
    }

    async fn open(&self, opening: Opening) -> Result<Opened> {
        let (session, landed, conclusive) = self.session(opening).await?;
        Ok(Opened {
            session: Box::new(session),
            landed: landed.into_iter().collect(),
            conclusive,
        })
    }
}

struct DeltaSession {
    location: Location,
    encoders: Encoders,
    view: Arc<SharedView>,
    plan: Arc<TableConversion>,
    /// The columns that files are partitioned by.
    by: Vec<String>,
    splitter: Option<Arc<Mutex<Splitter>>>,
    app: String,
    /// The last write that an earlier session has landed, as far as this one had to find out.
    landed: Option<u64>,
    /// What of a log the table has, whichever process put it there.
    known: Option<AppTransaction>,
    acknowledgements: Acknowledgements,
    pending: Option<UncommittedRows>,
    commit_interval: Duration,
    commit_bytes: usize,
    target_file_size: usize,
    checkpoints: Checkpoints,
    checkpoint: Option<JoinHandle<()>>,
}

/// What was written and not committed.
struct UncommittedRows {
    since: Instant,
    first: u64,
    last: u64,
    bytes: usize,
    rows: usize,
}

#[async_trait]
impl Session for DeltaSession {
    async fn write(&mut self, write: Arc<Write>) -> Result<()> {
        if self.landed.is_some_and(|landed| write.id <= landed) {
            // It was on its way here when it was acknowledged through what the log says.
            return Ok(());
        }
        self.encoders.check()?;
        let there = self.known.map_or(0, |known| write.rows_below(known.id));
        if there > 0 && there == write.rows {
            // Writes come in order, so nothing before it is still to be committed.
            self.acknowledgements.send(Acknowledgement::Through {
                id: write.id,
                position: self
                    .known
                    .and_then(|known| known.version)
                    .map_or(Position::None, Position::Version),
            });
            return Ok(());
        }
        let write = match there {
            0 => write,
            _ => Arc::new(write.without_first(there)),
        };
        let (plan, splitter, given) = (Arc::clone(&self.plan), self.splitter.clone(), Arc::clone(&write));
        let part = over(compute::spawn(move || {
            part_of(&plan, splitter.as_deref(), &given)
        }))
        .await
        .map_err(|error| error.rows_moved(there as u64))?;
        write.counted(part.rows())?;
        self.encoders.write(part).await?;
        let pending = self.pending.get_or_insert_with(|| UncommittedRows {
            since: Instant::now(),
            first: write.first_id(),
            last: write.id,
            bytes: 0,
            rows: 0,
        });
        pending.last = write.id;
        pending.bytes += write.bytes;
        pending.rows += write.rows;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let mut files = self.encoders.finish().await?;
        super::counted(pending.rows, files.iter().map(|file| file.rows).sum())?;
        self.sync_directories(&files).await?;
        let version = if files.is_empty() {
            // Writes without a row leave nothing to commit.
            self.view.lock().await.table.as_ref().map(TableVersion::version)
        } else {
            let adds = files.iter().map(|file| file.add.clone()).collect();
            // Before the commit: if this call is cancelled in the midst of it, nobody knows.
            files.iter_mut().for_each(|file| file.staged.keep());
            match self.commit(adds, &pending).await {
                Ok(CommitOutcome::Landed(version)) => Some(version),
                Ok(CommitOutcome::Earlier(landed)) => {
                    files.into_iter().for_each(|file| file.staged.discard());
                    return self.acknowledge_earlier(landed, &pending);
                }
                Err(failed) => {
                    if !failed.may_land {
                        files.into_iter().for_each(|file| file.staged.discard());
                    }
                    return Err(failed.error);
                }
            }
        };
        self.acknowledgements.send(Acknowledgement::Through {
            id: pending.last,
            position: version.map_or(Position::None, Position::Version),
        });
        Ok(())
    }

    fn flush_due(&self) -> Option<Instant> {
        let pending = self.pending.as_ref()?;
        if pending.bytes >= self.commit_bytes || self.encoders.size() >= self.target_file_size {
            return Some(Instant::now());
        }
        Some(pending.since + self.commit_interval)
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.flush().await?;
        if let Some(checkpoint) = self.checkpoint.take() {
            // It counts its own failure; a half-written one would only be written again.
            let _ = checkpoint.await;
        }
        Ok(())
    }
}

impl DeltaSession {
    async fn commit(
        &mut self,
        adds: Vec<deltalake_core::kernel::Add>,
        pending: &UncommittedRows,
    ) -> std::result::Result<CommitOutcome, commit::Failed> {
        let mut view = self.view.lock().await;
        let before = view.table.as_ref().map(TableVersion::version);
        let append = Append {
            plan: &self.plan,
            by: &self.by,
            adds,
            app: &self.app,
            first: pending.first,
            last: pending.last,
        };
        let done = commit::commit(&self.location, &mut view, append).await?;
        if let (Some(before), Some(table), CommitOutcome::Landed(_)) = (before, &view.table, &done) {
            let begun = self.checkpoints.committed(before, table);
            self.checkpoint = begun.or(self.checkpoint.take());
        }
        Ok(done)
    }

    /// A commit of an earlier session, of which the answer was lost, holds writes that this one was given too.
    fn acknowledge_earlier(&mut self, landed: AppTransaction, pending: &UncommittedRows) -> Result<()> {
        self.landed = Some(landed.id);
        self.acknowledgements.send(landed.acknowledged());
        if landed.id >= pending.last {
            return Ok(());
        }
        // The files mix what landed with what did not. Nothing has failed: the next session is given the rest.
        let text = "an earlier commit of this client landed late, with a part of these rows";
        Err(Error::new(Code::Conflict, text).during("commit").graceful())
    }

    /// Every directory that holds a file, and those above it up to the table's: another commit may have made
    /// them and not have synced them yet.
    async fn sync_directories(&self, files: &[Finished]) -> Result<()> {
        const TOGETHER: usize = 64;
        let table = self.location.local.as_deref().unwrap_or(Path::new(""));
        let mut directories: BTreeSet<&Path> = BTreeSet::new();
        for directory in files.iter().filter_map(|file| file.staged.directory()) {
            let upwards = directory.ancestors().take_while(|above| above.starts_with(table));
            // Where one is known, so are those above it.
            for directory in upwards {
                if !directories.insert(directory) {
                    break;
                }
            }
        }
        let directories: Vec<PathBuf> = directories.into_iter().map(PathBuf::from).collect();
        let mut pieces = Vec::new();
        for some in directories.chunks(TOGETHER) {
            let (some, location) = (some.to_vec(), self.location.clone());
            pieces.push(blocking(move || location.sync_directories(&some)));
        }
        stream::iter(pieces)
            .buffer_unordered(disk::THREADS)
            .try_collect()
            .await
    }
}

/// Everything about a write that can be wrong is found here, all of it at once.
fn part_of(
    plan: &TableConversion,
    splitter: Option<&Mutex<Splitter>>,
    write: &Write,
) -> Result<EncoderInput> {
    conformed(plan, splitter, write).map_err(|error| match error.row() {
        None => error,
        Some(_) => faults::of_write(write, error, |batch| {
            let conformed = plan.conform(batch)?;
            match splitter {
                None => Ok(()),
                Some(splitter) => held(splitter)?.number(&conformed).map(|_| ()),
            }
        }),
    })
}

fn held(splitter: &Mutex<Splitter>) -> Result<MutexGuard<'_, Splitter>> {
    splitter
        .lock()
        .map_err(|_| Error::new(Code::Internal, "splitting by partition failed before"))
}

/// The write as the encoders take it.
fn conformed(
    plan: &TableConversion,
    splitter: Option<&Mutex<Splitter>>,
    write: &Write,
) -> Result<EncoderInput> {
    let mut first = 0_u64;
    let mut whole = Vec::with_capacity(write.batches.len());
    let mut numbers = Vec::new();
    for batch in &write.batches {
        let within = |error: Error| match error.row() {
            // Rows are counted through the write, not through one of its batches.
            Some(row) => error.at_row(first + row),
            None => error,
        };
        let conformed = plan.conform(batch).map_err(within)?;
        match splitter {
            None => whole.push(conformed),
            Some(splitter) => {
                let mut splitter = held(splitter)?;
                numbers.push(splitter.number(&conformed).map_err(within)?);
            }
        }
        first += batch.num_rows() as u64;
    }
    let bytes = write.bytes;
    Ok(match splitter {
        None => EncoderInput::Whole {
            batches: whole,
            bytes,
        },
        Some(_) => EncoderInput::Numbered {
            batches: write.batches.clone(),
            numbers,
            bytes,
        },
    })
}

fn struct_of(columns: &[deltalake_core::kernel::StructField]) -> Result<deltalake_core::kernel::StructType> {
    deltalake_core::kernel::StructType::try_new(columns.iter().cloned())
        .map_err(|error| Error::new(Code::SchemaMismatch, "the columns are no table").caused_by(&error))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    over(disk::spawn(work)).await
}

async fn over<T>(task: impl Future<Output = std::result::Result<Result<T>, JoinError>>) -> Result<T> {
    task.await.unwrap_or_else(|error| {
        Err(Error::new(Code::Internal, "a task of the Delta writer died").caused_by(&error))
    })
}

#[cfg(test)]
#[path = "../../tests/rs/delta/power.rs"]
mod power;
#[cfg(test)]
#[path = "../../tests/rs/delta/simulated.rs"]
mod simulated;
#[cfg(test)]
#[path = "../../tests/rs/delta/remote.rs"]
mod tests;
