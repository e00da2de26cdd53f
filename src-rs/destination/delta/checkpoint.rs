//! Checkpoints: when one is due, and how it is written.
//!
//! Invariants:
//! - A checkpoint comes after the acknowledgement and apart from it: one that fails is counted, fails no commit,
//!   and the next one covers its versions.
//! - It is written as the kernel reads the table, a batch at a time, off the runtime's workers. In memory are a
//!   row group (16 MiB), a piece of the upload (10 MiB), the versions that the kernel reads ahead (1,000 at
//!   most), and 150 bytes for each file that the versions since the last checkpoint name. Two are written at once
//!   in a process.
//! - Between two of a client there is nineteen times as long as the last one took, unless [`FARTHEST`] versions
//!   have come meanwhile: where a table is so large that checkpoints are slow, they are rarer.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use delta_kernel::Snapshot;
use delta_kernel::checkpoint::LastCheckpointHintStats;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use deltalake_core::TableProperty;
use object_store::ObjectStoreExt as _;
use object_store::buffered::BufWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::log;
use super::storage::Location;
use super::table::TableVersion;

/// So many versions after one was due it is written, however long it takes.
const FARTHEST: u64 = 1000;
/// Rests between two checkpoints, by the time that the last one took: one of twenty parts is spent on them.
const RESTS: u32 = 19;
/// A row group of a checkpoint, in memory.
const ROW_GROUP: usize = 16 << 20;

/// In a process at once, for all clients.
static TURNS: Semaphore = Semaphore::const_new(2);

/// The checkpoints of one client.
#[derive(Clone)]
pub struct Checkpoints {
    location: Location,
    failures: Arc<AtomicU64>,
    schedule: Arc<Mutex<CheckpointSchedule>>,
}

#[derive(Default)]
struct CheckpointSchedule {
    running: bool,
    /// The version at which one fell due that was not begun.
    due: Option<u64>,
    /// When the last one ended, and what it took.
    last: Option<(Instant, Duration)>,
}

impl CheckpointSchedule {
    /// Whether to begin one, now that the table is at `version` and was at `before`.
    fn begin(&mut self, before: u64, version: u64, interval: u64, now: Instant) -> bool {
        if version / interval > before / interval {
            self.due.get_or_insert(version);
        }
        let Some(due) = self.due.filter(|_| !self.running) else {
            return false;
        };
        let rested = self
            .last
            .is_none_or(|(ended, took)| now.saturating_duration_since(ended) >= took * RESTS);
        if !rested && version - due < FARTHEST {
            return false;
        }
        self.due = None;
        self.running = true;
        true
    }

    fn end(&mut self, began: Instant, now: Instant) {
        self.running = false;
        self.last = Some((now, now.saturating_duration_since(began)));
    }
}

impl Checkpoints {
    pub fn new(location: Location) -> Checkpoints {
        Checkpoints {
            location,
            failures: Arc::default(),
            schedule: Arc::default(),
        }
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// After a commit: begins a checkpoint of `table`, which was at version `before`, if one is due.
    pub fn committed(&self, before: u64, table: &TableVersion) -> Option<JoinHandle<()>> {
        let version = table.version();
        if !self
            .schedule()
            .begin(before, version, interval(table), Instant::now())
        {
            return None;
        }
        let own = self.clone();
        Some(tokio::spawn(async move {
            // Never closed, so there is nothing to wait for in vain.
            let turn = TURNS.acquire().await;
            let began = Instant::now();
            let location = own.location.clone();
            // The kernel computes and blocks in here; on a worker of the runtime it would stall others.
            let work = tokio::task::spawn_blocking(move || write(&location, version));
            if !matches!(work.await, Ok(Ok(()))) {
                own.failures.fetch_add(1, Ordering::Relaxed);
            }
            drop(turn);
            own.schedule().end(began, Instant::now());
        }))
    }

    fn schedule(&self) -> std::sync::MutexGuard<'_, CheckpointSchedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table's checkpoint interval, by its own property or the protocol's default.
fn interval(table: &TableVersion) -> u64 {
    table
        .metadata()
        .configuration()
        .get(TableProperty::CheckpointInterval.as_ref())
        .and_then(|text| text.parse().ok())
        .filter(|interval| *interval > 0)
        .unwrap_or(10)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Writes the checkpoint of a version, and then that it is the last one. Blocks.
fn write(location: &Location, version: u64) -> Result<(), BoxError> {
    let runtime = Handle::current();
    let engine = location.log.engine(None);
    let snapshot = Snapshot::builder_for(location.url.clone())
        .at_version(version)
        .build(engine.as_ref())?;
    let path = log::path(location, &format!("{version:020}.checkpoint.parquet"));
    if runtime.block_on(location.store().head(&path)).is_ok() {
        // Another writer's, of the same versions.
        return Ok(());
    }
    let checkpoint = snapshot.create_checkpoint_writer(engine.as_ref())?;
    let batches = checkpoint.checkpoint_data(engine.as_ref())?;
    let state = batches.state();
    let mut upload = Upload {
        runtime,
        writer: BufWriter::new(location.store(), path),
        size: 0,
    };
    // What is left of it after an error goes with the upload.
    write_batches(&mut upload, batches)?;
    upload.runtime.block_on(upload.writer.shutdown())?;
    let state = Arc::into_inner(state).ok_or("the checkpoint is still being read")?;
    let stats = LastCheckpointHintStats::from_reconciliation_state(state, upload.size, 0)?;
    Ok(checkpoint.finalize(engine.as_ref(), &stats)?)
}

fn write_batches(
    upload: &mut Upload,
    batches: delta_kernel::ActionReconciliationIterator,
) -> Result<(), BoxError> {
    let mut writer: Option<ArrowWriter<&mut Upload>> = None;
    let mut sink = Some(upload);
    for batch in batches {
        let batch = ArrowEngineData::try_from_engine_data(batch?.apply_selection_vector()?)?;
        let batch = batch.record_batch();
        let writer = match (&mut writer, sink.take()) {
            (Some(writer), _) => writer,
            (none, Some(sink)) => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .build();
                none.insert(ArrowWriter::try_new(sink, batch.schema(), Some(properties))?)
            }
            (None, None) => return Err("the checkpoint has lost its file".into()),
        };
        writer.write(batch)?;
        // A row group's end gives its memory back.
        if writer.memory_size() >= ROW_GROUP {
            writer.flush()?;
        }
    }
    writer.ok_or("the checkpoint holds nothing")?.close()?;
    Ok(())
}

/// A file of the log on its way to the store, from a thread that may block.
struct Upload {
    runtime: Handle,
    writer: BufWriter,
    size: u64,
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(self.writer.write_all(bytes))?;
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A checkpoint takes a twentieth of the time at the most, and is put off for so many versions and no more.
    #[test]
    fn checkpoints_are_rarer_where_they_are_slow_but_never_given_up() {
        let start = Instant::now();
        let mut schedule = CheckpointSchedule::default();
        assert!(!schedule.begin(8, 9, 10, start));
        assert!(schedule.begin(9, 10, 10, start));
        // Not two at once; the one that fell due meanwhile is not forgotten.
        assert!(!schedule.begin(19, 20, 10, start));
        schedule.end(start, start + SECOND);
        assert!(!schedule.begin(20, 21, 10, start + 19 * SECOND));
        assert!(schedule.begin(21, 22, 10, start + 20 * SECOND));
        schedule.end(start + 20 * SECOND, start + 120 * SECOND);
        let soon = start + 121 * SECOND;
        assert!(!schedule.begin(22, 30, 10, soon));
        assert!(!schedule.begin(30, 29 + FARTHEST, 10, soon));
        assert!(schedule.begin(29 + FARTHEST, 30 + FARTHEST, 10, soon));
    }
}
