//! What was handed over, recorded in files, for whoever looks for a fault.
//!
//! Rows go to a thread of their own, which appends them to one open file per schema. Invariants:
//! - It holds up nothing: what finds no room in the queue, because the disk is slower than the producer, is not
//!   recorded, and is counted. No delivery, flush or outcome waits for it; a close does, for a moment.
//! - Memory is bounded by [`QUEUE_BYTES`], or by one delivery that is larger.
//! - The rows are copied before the delivery goes on: memory that was lent may be written to once it is settled.
//! - After each turn of the thread all that it took is in the hands of the system, so that the end of the process
//!   costs what was in the queue and nothing else. What a file that was not closed holds is made whole by the next
//!   client on the directory, up to where it is torn. Only closed files are synced.
//! - No rows and no file end the thread: a panic is counted as failed rows, and logged.
//!
//! It records what was handed over, once for each delivery, in the order of admission. It does not know what becomes
//! of a delivery, how often it is tried, nor any option of the client.

mod file;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arrow::array::RecordBatch;
use serde_json::json;

use self::file::{CaptureFile, KINDS, rules};
use crate::config::CaptureOptions;
use crate::counters::Counters;
use crate::row_files::{Bounds, FileError, Warn, make_directory, own_batch, recover, tidy};

/// Bytes of rows that may wait to be written.
pub const QUEUE_BYTES: usize = 64 << 20;
/// Schemas with an open file at once.
const MOST_OPEN: usize = 8;
/// Of one kind of complaint, however often there is a reason for it.
const QUIET: Duration = Duration::from_secs(10);

/// Where rows are recorded.
pub struct Capture {
    commands: Sender<Command>,
    queued: Arc<AtomicUsize>,
    sample: f64,
    counters: Arc<Counters>,
}

/// Rows of one delivery, copied. Their part of the queue is given back when they are dropped.
pub struct CapturedRows {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    queued: Arc<AtomicUsize>,
}

impl Drop for CapturedRows {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

enum Command {
    Keep(CapturedRows),
    /// Called when it is dropped, so that a thread that is gone leaves nobody waiting.
    Close(Done),
}

struct Done(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done();
        }
    }
}

impl Capture {
    /// Starts the thread. What is wrong with the directory is said in the log: rows that cannot be recorded are no
    /// reason to send none.
    pub fn open(options: CaptureOptions, counters: Arc<Counters>, warn: Warn) -> Capture {
        let (commands, receiver) = channel();
        let sample = options.sample;
        let mut writer = CaptureWriter {
            options,
            counters: counters.clone(),
            warn,
            open: Vec::new(),
            complained: None,
            told: 0,
        };
        // Without a thread every command is dropped.
        let _ = thread::Builder::new()
            .name("arrow-ingest-capture".into())
            .spawn(move || writer.run(&receiver));
        Capture {
            commands,
            queued: Arc::default(),
            sample,
            counters,
        }
    }

    /// A copy of the rows of a delivery, if it is one that is recorded. `bytes` is what they use. Blocks for as long as
    /// it takes to copy them.
    pub fn copy(
        &self,
        sequence: u64,
        bytes: usize,
        batches: impl Iterator<Item = RecordBatch>,
    ) -> Option<CapturedRows> {
        if !is_sampled(sequence, self.sample) {
            return None;
        }
        let mut captured = CapturedRows {
            batches: Vec::new(),
            rows: 0,
            bytes,
            queued: self.queued.clone(),
        };
        let before = self.queued.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before == 0 || before.saturating_add(bytes) <= QUEUE_BYTES;
        for batch in batches {
            captured.rows += batch.num_rows();
            if !has_room {
                continue;
            }
            match catch_unwind(AssertUnwindSafe(|| own_batch(&batch))) {
                Ok(Ok(copy)) => captured.batches.push(copy),
                Ok(Err(_)) | Err(_) => self.counters.capture_rows_failed.add(batch.num_rows()),
            }
        }
        if has_room {
            return Some(captured);
        }
        self.counters.capture_rows_dropped.add(captured.rows);
        None
    }

    /// Records rows behind those that came before.
    pub fn keep(&self, rows: CapturedRows) {
        let _ = self.commands.send(Command::Keep(rows));
    }

    /// Calls back, from another thread, once every file has its final name. Nothing is recorded after it.
    pub fn close(&self, done: impl FnOnce() + Send + 'static) {
        let _ = self.commands.send(Command::Close(Done(Some(Box::new(done)))));
    }
}

/// Every so-manieth delivery, evenly, and the same ones of the same program.
fn is_sampled(sequence: u64, sample: f64) -> bool {
    let before = sequence as f64 * sample;
    (before + sample).floor() > before.floor()
}

/// What the thread works with.
struct CaptureWriter {
    options: CaptureOptions,
    counters: Arc<Counters>,
    warn: Warn,
    /// The most recently opened last.
    open: Vec<CaptureFile>,
    complained: Option<Instant>,
    /// Rows that had found no room when it was last said.
    told: u64,
}

impl CaptureWriter {
    fn run(&mut self, commands: &Receiver<Command>) {
        self.guarded(0, CaptureWriter::begin);
        loop {
            let oldest = self.open.iter().map(CaptureFile::age).max();
            let first = match oldest {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(age) => commands.recv_timeout(self.options.rotate_after.saturating_sub(age)),
            };
            let first = match first {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => {
                    self.guarded(0, CaptureWriter::rotate);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.guarded(0, CaptureWriter::finish_all);
                    return;
                }
            };
            let mut closing = None;
            for command in std::iter::once(first).chain(commands.try_iter()) {
                match command {
                    Command::Keep(captured) => {
                        self.guarded(captured.rows, |writer| writer.keep(&captured));
                    }
                    Command::Close(done) => closing = Some(done),
                }
            }
            self.guarded(0, CaptureWriter::rotate);
            self.tell_dropped();
            if closing.is_some() {
                self.guarded(0, CaptureWriter::finish_all);
                return;
            }
        }
    }

    /// A fault of ours, or of a library, costs what was being done and nothing that comes later.
    fn guarded(&mut self, rows: usize, work: impl FnOnce(&mut CaptureWriter)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            // They may be in any state.
            self.open.clear();
            self.counters.capture_rows_failed.add(rows);
            self.complain("a fault while recording rows was contained", &"a panic");
        }
    }

    fn begin(&mut self) {
        if let Err(error) = make_directory(&self.options.directory) {
            return self.complain("the capture directory cannot be used", &error);
        }
        for format in KINDS {
            let left = rules(format).kind.left_behind(&self.options.directory);
            for path in left.unwrap_or_default() {
                if let Err(error) = recover(&path, None, &rules(format)) {
                    self.complain(
                        "a capture file that was left half-written cannot be made whole",
                        &error,
                    );
                }
            }
        }
        self.tidy();
    }

    fn keep(&mut self, captured: &CapturedRows) {
        for batch in &captured.batches {
            let result = self.append(batch).or_else(|_| {
                // An Arrow file takes one dictionary per column: another one begins another file.
                if let Some(index) = self.index_of(batch) {
                    let file = self.open.remove(index);
                    self.finish(file);
                }
                self.append(batch)
            });
            match result {
                Ok(()) => self.counters.capture_rows_written.add(batch.num_rows()),
                Err(error) => {
                    if let Some(index) = self.index_of(batch) {
                        // What is whole of it is kept by the next client on the directory.
                        self.open.remove(index);
                    }
                    self.counters.capture_rows_failed.add(batch.num_rows());
                    self.complain("rows could not be recorded", &error);
                }
            }
        }
    }

    fn index_of(&self, batch: &RecordBatch) -> Option<usize> {
        self.open.iter().position(|file| *file.schema() == batch.schema())
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<(), FileError> {
        if let Some(index) = self.index_of(batch) {
            if self.open[index].is_there() {
                return self.open[index].append(batch);
            }
            self.open.remove(index);
        }
        if self.open.len() >= MOST_OPEN {
            let oldest = self.open.remove(0);
            self.finish(oldest);
        }
        make_directory(&self.options.directory)?;
        let mut file = CaptureFile::create(&self.options.directory, self.options.format, batch.schema())?;
        file.append(batch)?;
        self.open.push(file);
        Ok(())
    }

    /// Hands everything to the system, and closes what is large or old enough.
    fn rotate(&mut self) {
        for mut file in std::mem::take(&mut self.open) {
            match file.flush() {
                Ok(bytes)
                    if bytes < self.options.max_file_bytes as u64
                        && file.age() < self.options.rotate_after =>
                {
                    self.open.push(file);
                }
                Ok(_) => self.finish(file),
                Err(error) => self.complain("a capture file could not be written", &error),
            }
        }
    }

    fn finish_all(&mut self) {
        for file in std::mem::take(&mut self.open) {
            self.finish(file);
        }
    }

    fn finish(&mut self, file: CaptureFile) {
        match file.finish() {
            Ok(()) => self.tidy(),
            Err(error) => self.complain("a capture file could not be closed", &error),
        }
    }

    fn tidy(&mut self) {
        let bounds = Bounds {
            bytes: u64::MAX,
            files: self.options.max_files,
            age: self.options.max_age,
        };
        let kinds = KINDS.map(|format| rules(format).kind);
        match tidy(&self.options.directory, &kinds, &bounds, SystemTime::now()) {
            Ok(removed) => self.counters.capture_files_removed.add(removed.len()),
            Err(error) => self.complain("old capture files could not be removed", &error),
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = self.counters.capture_rows_dropped.get();
        if dropped > self.told && self.may_complain() {
            (self.warn)(
                "rows were not captured: the disk is slower than what is sent",
                json!({ "rows": dropped - self.told, "directory": self.directory() }),
            );
            self.told = dropped;
        }
    }

    /// A full disk would have a line for every delivery; the counters have all of them.
    fn complain(&mut self, text: &str, error: &dyn std::fmt::Display) {
        if self.may_complain() {
            let fields = json!({ "directory": self.directory(), "error": error.to_string() });
            (self.warn)(text, fields);
        }
    }

    fn may_complain(&mut self) -> bool {
        if self.complained.is_some_and(|last| last.elapsed() < QUIET) {
            return false;
        }
        self.complained = Some(Instant::now());
        true
    }

    fn directory(&self) -> String {
        self.options.directory.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::is_sampled;

    /// a sample is spread evenly, and one of all is all.
    #[test]
    fn a_sample_is_even() {
        for (sample, wanted) in [(1.0, 1_000), (0.5, 500), (0.1, 100), (0.001, 1)] {
            let taken: Vec<u64> = (1..=1_000).filter(|at| is_sampled(*at, sample)).collect();
            assert_eq!(taken.len(), wanted, "{sample}");
            let gaps = taken.windows(2).map(|pair| pair[1] - pair[0]);
            let most = gaps.max().unwrap_or(1);
            assert!(most as f64 <= 1.0 / sample + 1.0, "{sample}: {most}");
        }
    }
}
