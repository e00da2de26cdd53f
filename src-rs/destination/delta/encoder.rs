//! Batches → Parquet files, on threads of their own, several at once.
//!
//! Invariants:
//! - What comes in is conformed and split already: nothing here can fail for what a batch holds, only
//!   for what a disk or a store does. So an error breaks the session and never one write.
//! - A partition belongs to one lane, so it has one open file. Without partitions a further lane joins
//!   only when a commit is large enough for another file to be worth reading.
//! - Memory is bounded: a short queue, a row-group budget for all lanes, a number of open files per lane.
//! - Dropping [`Encoders`] ends the threads after the batch in hand, and its files go with them.
//!
//! It commits nothing and acknowledges nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use tokio::sync::{mpsc, oneshot};

use super::file::{DataFile, Finished, Spec};
use super::partitions::Key;
use crate::error::{Code, Error, Result};

/// Rows that belong into one partition.
pub struct Part {
    pub key: Arc<Key>,
    pub batches: Vec<RecordBatch>,
    pub bytes: usize,
}

pub struct Encoders {
    spec: Arc<Spec>,
    target_file_size: usize,
    lanes: Vec<Lane>,
    most: usize,
    /// Bytes since the last finish.
    bytes: usize,
    shared: Arc<Shared>,
}

struct Lane {
    orders: mpsc::Sender<Order>,
    queued: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    failure: Mutex<Option<Error>>,
    /// What the open and finished files of this commit measure, about.
    size: AtomicUsize,
    /// What the open row groups of all lanes hold.
    memory: AtomicUsize,
}

enum Order {
    Encode(Part),
    Finish(oneshot::Sender<Result<Vec<Finished>>>),
}

/// Arrow bytes of a commit for which one more file pays.
const PER_LANE: usize = 8 << 20;
/// Parts that wait before a lane. Their memory is counted by the transmitter until the commit.
const QUEUE: usize = 16;
/// What all lanes together keep of columns that they encode before row groups are ended. Not each: memory would
/// grow with the number of processors.
const MEMORY: usize = 64 << 20;
/// But each may keep this much: columns of a row group hold a table of their values each, and one that ends
/// before it has seen many rows is larger in the file.
const LANE_MEMORY: usize = 16 << 20;
/// Files that a lane keeps open: below any limit on file descriptors.
const OPEN: usize = 64;

impl Encoders {
    pub fn new(spec: Arc<Spec>, target_file_size: usize) -> Encoders {
        Encoders {
            spec,
            target_file_size,
            lanes: Vec::new(),
            most: thread::available_parallelism().map_or(2, usize::from).min(8),
            bytes: 0,
            shared: Arc::default(),
        }
    }

    /// Waits for room in a queue, not for the encoding.
    pub async fn write(&mut self, part: Part) -> Result<()> {
        self.check()?;
        self.bytes += part.bytes;
        let lane = self.lane_for(&part)?;
        let lane = &self.lanes[lane];
        lane.queued.fetch_add(part.bytes, Ordering::Relaxed);
        if lane.orders.send(Order::Encode(part)).await.is_err() {
            self.check()?;
            return Err(died());
        }
        Ok(())
    }

    /// Ends all files of this commit.
    pub async fn finish(&mut self) -> Result<Vec<Finished>> {
        self.bytes = 0;
        let mut answers = Vec::new();
        for lane in &self.lanes {
            let (answer, answered) = oneshot::channel();
            lane.orders
                .send(Order::Finish(answer))
                .await
                .map_err(|_| died())?;
            answers.push(answered);
        }
        let mut files = Vec::new();
        for answered in answers {
            files.extend(answered.await.map_err(|_| died())??);
        }
        self.shared.size.store(0, Ordering::Relaxed);
        Ok(files)
    }

    /// About how much has been encoded since the last finish.
    pub fn size(&self) -> usize {
        self.shared.size.load(Ordering::Relaxed)
    }

    pub fn check(&self) -> Result<()> {
        match self.shared.failure.lock() {
            Ok(failure) => failure.clone().map_or(Ok(()), Err),
            Err(_) => Err(died()),
        }
    }

    fn lane_for(&mut self, part: &Part) -> Result<usize> {
        if !part.key.values.is_empty() {
            while self.lanes.len() < self.most {
                self.start()?;
            }
            let mut hash = DefaultHasher::new();
            part.key.values.hash(&mut hash);
            return Ok((hash.finish() % self.lanes.len() as u64) as usize);
        }
        let worth = (self.bytes / PER_LANE + 1).min(self.most);
        if self.lanes.len() < worth {
            self.start()?;
        }
        let least = self.lanes[..worth.min(self.lanes.len())]
            .iter()
            .enumerate()
            .min_by_key(|(_, lane)| lane.queued.load(Ordering::Relaxed));
        Ok(least.map_or(0, |(index, _)| index))
    }

    fn start(&mut self) -> Result<()> {
        let (orders, inbox) = mpsc::channel(QUEUE);
        let queued = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            spec: Arc::clone(&self.spec),
            target_file_size: self.target_file_size,
            shared: Arc::clone(&self.shared),
            queued: Arc::clone(&queued),
            open: HashMap::new(),
            finished: Vec::new(),
            size: 0,
            clock: 0,
            memory: 0,
        };
        thread::Builder::new()
            .name("arrow-ingest-parquet".into())
            .spawn(move || worker.run(inbox))
            .map_err(|error| self.spec.secrets.io("a thread for encoding", &error))?;
        self.lanes.push(Lane { orders, queued });
        Ok(())
    }
}

impl Drop for Encoders {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }
}

fn died() -> Error {
    Error::new(Code::Internal, "a Parquet encoder ended without a word").during("write")
}

struct Worker {
    spec: Arc<Spec>,
    target_file_size: usize,
    shared: Arc<Shared>,
    queued: Arc<AtomicUsize>,
    open: HashMap<Arc<Key>, Slot>,
    finished: Vec<Finished>,
    /// This lane's part of `shared.size`.
    size: usize,
    clock: u64,
    /// This lane's part of `shared.memory`.
    memory: usize,
}

struct Slot {
    file: DataFile,
    used: u64,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut failure = None;
        while let Some(order) = inbox.blocking_recv() {
            if self.shared.cancelled.load(Ordering::Relaxed) {
                return;
            }
            match order {
                Order::Encode(part) => {
                    let bytes = part.bytes;
                    if failure.is_none()
                        && let Err(error) = self.encode(part)
                    {
                        if let Ok(mut shared) = self.shared.failure.lock() {
                            shared.get_or_insert_with(|| error.clone());
                        }
                        failure = Some(error);
                        // What cannot be finished is deleted now: the disk may be full of it.
                        self.open.clear();
                        self.finished.clear();
                        self.hold();
                    }
                    self.queued.fetch_sub(bytes, Ordering::Relaxed);
                }
                Order::Finish(answer) => {
                    let result = match &failure {
                        Some(error) => Err(error.clone()),
                        None => self.finish(),
                    };
                    let _ = answer.send(result);
                }
            }
        }
    }

    fn encode(&mut self, part: Part) -> Result<()> {
        let key = part.key;
        // Of the write as a whole: a batch may be a slice of a buffer that is far larger.
        let total: usize = part.batches.iter().map(RecordBatch::num_rows).sum();
        let row_bytes = (part.bytes / total.max(1)).max(1);
        // Rolling is decided between slices, so a slice is a fraction of a file.
        let slice = (self.target_file_size / 4 / row_bytes).max(1);
        for batch in joined(part.batches)? {
            let rows = batch.num_rows();
            let mut start = 0;
            while start < rows {
                if self.shared.cancelled.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let length = slice.min(rows - start);
                self.write(&key, &batch.slice(start, length))?;
                start += length;
            }
        }
        Ok(())
    }

    fn write(&mut self, key: &Arc<Key>, batch: &RecordBatch) -> Result<()> {
        self.clock += 1;
        if !self.open.contains_key(key) {
            if self.open.len() >= OPEN {
                let oldest = self
                    .open
                    .iter()
                    .min_by_key(|(_, slot)| slot.used)
                    .map(|(key, _)| Arc::clone(key));
                oldest.map_or(Ok(()), |oldest| self.end(&oldest))?;
            }
            let file = DataFile::create(&self.spec, key)?;
            self.open.insert(Arc::clone(key), Slot { file, used: 0 });
        }
        if let Some(slot) = self.open.get_mut(key) {
            slot.used = self.clock;
            slot.file.write(&self.spec, batch)?;
            if slot.file.size() >= self.target_file_size {
                self.end(key)?;
            }
        }
        while self.hold() > MEMORY && self.memory > LANE_MEMORY {
            let Some(largest) = self.open.values_mut().max_by_key(|slot| slot.file.memory()) else {
                break;
            };
            let before = largest.file.memory();
            largest.file.spill(&self.spec)?;
            if largest.file.memory() >= before {
                break;
            }
        }
        self.report();
        Ok(())
    }

    /// Counts what the open row groups hold; what those of all lanes do.
    fn hold(&mut self) -> usize {
        let now = self.open.values().map(|slot| slot.file.memory()).sum();
        let before = std::mem::replace(&mut self.memory, now);
        let shared = &self.shared.memory;
        if now >= before {
            shared.fetch_add(now - before, Ordering::Relaxed) + (now - before)
        } else {
            shared.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
        }
    }

    fn report(&mut self) {
        let open: usize = self.open.values().map(|slot| slot.file.size()).sum();
        let finished: usize = self
            .finished
            .iter()
            .map(|file| usize::try_from(file.add.size).unwrap_or(0))
            .sum();
        let size = open + finished;
        self.shared
            .size
            .fetch_add(size.saturating_sub(self.size), Ordering::Relaxed);
        self.size = self.size.max(size);
    }

    fn end(&mut self, key: &Arc<Key>) -> Result<()> {
        if let Some(slot) = self.open.remove(key) {
            self.finished.push(slot.file.finish(&self.spec)?);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Finished>> {
        self.size = 0;
        for (_, slot) in self.open.drain() {
            self.finished.push(slot.file.finish(&self.spec)?);
        }
        self.hold();
        Ok(std::mem::take(&mut self.finished))
    }
}

/// Small neighbours as one: the encoder's cost per call is that of hundreds of rows.
fn joined(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    const SMALL: usize = 8_192;
    const FULL: usize = 65_536;
    let mut done = Vec::new();
    let mut pending: Vec<RecordBatch> = Vec::new();
    let mut rows = 0;
    for batch in batches {
        if batch.num_rows() == 0 {
            continue;
        }
        if batch.num_rows() >= SMALL || rows + batch.num_rows() > FULL {
            join(&mut pending, &mut done)?;
            rows = 0;
        }
        rows += batch.num_rows();
        let large = batch.num_rows() >= SMALL;
        pending.push(batch);
        if large {
            join(&mut pending, &mut done)?;
            rows = 0;
        }
    }
    join(&mut pending, &mut done)?;
    Ok(done)
}

fn join(pending: &mut Vec<RecordBatch>, done: &mut Vec<RecordBatch>) -> Result<()> {
    match pending.as_slice() {
        [] => {}
        [one] => done.push(one.clone()),
        several => {
            // Dictionaries may be too many for one key type together; then they stay apart.
            match concat_batches(several[0].schema_ref(), several) {
                Ok(joined) => done.push(joined),
                Err(_) => done.extend(several.iter().cloned()),
            }
        }
    }
    pending.clear();
    Ok(())
}
