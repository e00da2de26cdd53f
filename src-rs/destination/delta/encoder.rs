//! Batches → Parquet files, on threads that all clients share, several files at once.
//!
//! Invariants:
//! - What comes in is checked already: nothing here can fail for what a batch holds, only for what a disk or a
//!   store does. So an error breaks the session and never one write.
//! - Without partitions a lane has one open file, encoded as batches come, and a further lane joins only when a
//!   commit is large enough for another file to be worth reading. With partitions rows are gathered until the
//!   commit, and each partition is one file, or several of the target size.
//! - There is no thread of a client's: [`compute`] encodes, [`disk`](crate::disk) stores. A session has a bounded
//!   number of tasks waiting there, each of bounded size, so that no client waits for another's commit.
//! - Memory is bounded: a short queue, a row-group budget for all lanes, a number of chunks on their way.
//! - Dropping [`Encoders`] ends all work after the task that runs, and deletes its files.
//!
//! It commits nothing and acknowledges nothing.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::conform::TableConversion;
use super::dictionaries::Dictionaries;
use super::file::{Encoded, Encoding, FileSpec, Finished, Output, store};
use super::grouping::{Gathered, Grouped};
use super::over;
use super::partitions::{Key, Splitter};
use crate::compute;
use crate::config::Compression;
use crate::error::{Code, Error, Result};

/// Rows of a write.
pub enum EncoderInput {
    /// As the files hold them.
    Whole { batches: Vec<RecordBatch>, bytes: usize },
    /// As they were given, and the number of each row's partition.
    Numbered {
        batches: Vec<RecordBatch>,
        numbers: Vec<Vec<u32>>,
        bytes: usize,
    },
}

impl EncoderInput {
    pub fn rows(&self) -> usize {
        match self {
            EncoderInput::Whole { batches, .. } => batches.iter().map(RecordBatch::num_rows).sum(),
            EncoderInput::Numbered { numbers, .. } => numbers.iter().map(Vec::len).sum(),
        }
    }
}

pub struct Encoders {
    spec: Arc<FileSpec>,
    plan: Arc<TableConversion>,
    splitter: Option<Arc<Mutex<Splitter>>>,
    target_file_size: usize,
    lanes: Vec<EncoderTask>,
    most: usize,
    /// Bytes that lanes were given since the last finish.
    bytes: usize,
    gathered: Gathered,
    shared: Arc<EncoderTotals>,
}

#[derive(Default)]
struct EncoderTotals {
    failure: Mutex<Option<Error>>,
    /// What the open and finished files of this commit measure, about.
    size: AtomicUsize,
    /// What the open row groups of all lanes hold.
    memory: AtomicUsize,
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
/// Bytes that one task encodes, before others have their turn.
const STEP: usize = 8 << 20;

impl Encoders {
    /// With a `splitter`, parts are numbered by it.
    pub fn new(
        spec: Arc<FileSpec>,
        plan: Arc<TableConversion>,
        splitter: Option<Arc<Mutex<Splitter>>>,
        target_file_size: usize,
    ) -> Encoders {
        Encoders {
            spec,
            plan,
            splitter,
            target_file_size,
            lanes: Vec::new(),
            most: thread::available_parallelism().map_or(2, usize::from).min(8),
            bytes: 0,
            gathered: Gathered::default(),
            shared: Arc::default(),
        }
    }

    /// Waits for room in a queue, not for the encoding.
    pub async fn write(&mut self, part: EncoderInput) -> Result<()> {
        self.check()?;
        match part {
            EncoderInput::Numbered {
                batches,
                numbers,
                bytes,
            } => self.gathered.push(batches, numbers, bytes),
            EncoderInput::Whole { batches, bytes } => {
                self.bytes += bytes;
                let lane = self.lane();
                lane.queued.fetch_add(bytes, Ordering::Relaxed);
                let command = Command::Encode { batches, bytes };
                if lane.commands.send(command).await.is_err() {
                    self.check()?;
                    return Err(died());
                }
            }
        }
        Ok(())
    }

    /// Ends all files of this commit.
    pub async fn finish(&mut self) -> Result<Vec<Finished>> {
        self.bytes = 0;
        let mut answers = Vec::new();
        for lane in &self.lanes {
            let (answer, answered) = oneshot::channel();
            lane.commands
                .send(Command::Finish(answer))
                .await
                .map_err(|_| died())?;
            answers.push(answered);
        }
        let mut files = Vec::new();
        for answered in answers {
            files.extend(answered.await.map_err(|_| died())??);
        }
        if !self.gathered.is_empty() {
            files.extend(self.by_partition().await?);
        }
        self.shared.size.store(0, Ordering::Relaxed);
        Ok(files)
    }

    /// About how much waits for a commit: bytes of files, and of rows that are not encoded yet.
    pub fn size(&self) -> usize {
        self.shared.size.load(Ordering::Relaxed) + self.gathered.size()
    }

    pub fn check(&self) -> Result<()> {
        match self.shared.failure.lock() {
            Ok(failure) => failure.clone().map_or(Ok(()), Err),
            Err(_) => Err(died()),
        }
    }

    fn lane(&mut self) -> &EncoderTask {
        let worth = (self.bytes / PER_LANE + 1).min(self.most);
        if self.lanes.len() < worth {
            let lane = EncoderTask::start(&self.spec, self.target_file_size, &self.shared);
            self.lanes.push(lane);
        }
        let least = self.lanes[..worth.min(self.lanes.len())]
            .iter()
            .enumerate()
            .min_by_key(|(_, lane)| lane.queued.load(Ordering::Relaxed));
        &self.lanes[least.map_or(0, |(index, _)| index)]
    }

    async fn by_partition(&mut self) -> Result<Vec<Finished>> {
        let gathered = std::mem::take(&mut self.gathered);
        let (splitter, target) = (self.splitter.clone(), self.target_file_size);
        let grouped = over(compute::spawn(move || {
            let keys = match splitter.as_deref().map(Mutex::lock) {
                Some(Ok(mut splitter)) => splitter.take_keys(),
                _ => return Err(died()),
            };
            // Rolling is decided between chunks, so a chunk is a fraction of a file.
            Ok(Arc::new(gathered.group(keys, target / 4)))
        }))
        .await?;
        let chunks: Vec<Range<usize>> = grouped.chunks();
        let files: Vec<Vec<Finished>> = stream::iter(chunks)
            .map(|chunk| {
                let partitions = Partitions {
                    spec: Arc::clone(&self.spec),
                    plan: Arc::clone(&self.plan),
                    splitter: self.splitter.clone(),
                    grouped: Arc::clone(&grouped),
                    target_file_size: self.target_file_size,
                    shared: Arc::clone(&self.shared),
                };
                partitions.encode(chunk)
            })
            // Some are encoded while others are stored.
            .buffer_unordered(2 * self.most)
            .try_collect()
            .await?;
        Ok(files.into_iter().flatten().collect())
    }
}

fn died() -> Error {
    Error::new(Code::Internal, "a Parquet encoder ended without a word").during("write")
}

/// Some partitions of a commit on their way into files.
struct Partitions {
    spec: Arc<FileSpec>,
    plan: Arc<TableConversion>,
    splitter: Option<Arc<Mutex<Splitter>>>,
    grouped: Arc<Grouped>,
    target_file_size: usize,
    shared: Arc<EncoderTotals>,
}

impl Partitions {
    async fn encode(self, chunk: Range<usize>) -> Result<Vec<Finished>> {
        if chunk.len() == 1 && self.grouped.rows_of(chunk.start).len() > self.grouped.step() {
            return self.encode_large(chunk.start).await;
        }
        let spec = Arc::clone(&self.spec);
        let encoded = over(compute::spawn(move || self.encode_small(chunk))).await?;
        store(&spec, encoded).await
    }

    /// Partitions that are one step together: copied at once, a file each.
    fn encode_small(&self, chunk: Range<usize>) -> Result<Vec<Encoded>> {
        const EXAMPLES: usize = 8;
        let rows = |partition| self.grouped.rows_of(partition);
        let all = rows(chunk.start).start..rows(chunk.end - 1).end;
        let copied = self.copy(all.clone())?;
        let of = |partition: usize| -> Result<Vec<RecordBatch>> {
            match copied.as_slice() {
                [one] => Ok(vec![
                    one.slice(rows(partition).start - all.start, rows(partition).len()),
                ]),
                // Each for itself is less likely to be too much for one batch.
                _ => self.copy(rows(partition)),
            }
        };
        let step = chunk.len().div_ceil(EXAMPLES);
        let examples: Vec<Vec<RecordBatch>> = chunk.clone().step_by(step).map(of).collect::<Result<_>>()?;
        let dictionaries = Dictionaries::of_files(&examples.concat(), compressed(&self.spec));
        let mut encoded = Vec::with_capacity(chunk.len());
        for partition in chunk.clone() {
            let mut file = Encoding::new(&self.spec, self.grouped.key(partition), &dictionaries)?;
            for batch in of(partition)? {
                file.write(&self.spec, &batch)?;
            }
            encoded.push(file.finish(&self.spec)?);
        }
        Ok(encoded)
    }

    /// A partition of many steps, with others' work in between.
    async fn encode_large(self, partition: usize) -> Result<Vec<Finished>> {
        let rows = self.grouped.rows_of(partition);
        let step = self.grouped.step();
        let (spec, target, key) = (
            Arc::clone(&self.spec),
            self.target_file_size,
            Arc::clone(self.grouped.key(partition)),
        );
        let mut writer = Writer::new(spec, key, target, Arc::clone(&self.shared));
        let this = Arc::new(self);
        for start in rows.clone().step_by(step) {
            let range = start..(start + step).min(rows.end);
            let this = Arc::clone(&this);
            let batches = over(compute::spawn(move || this.copy(range))).await?;
            for batch in batches {
                writer.write(batch).await?;
            }
        }
        writer.finish().await
    }

    fn copy(&self, range: Range<usize>) -> Result<Vec<RecordBatch>> {
        let batches = self.grouped.copy(range, &self.plan)?;
        let Some(Ok(splitter)) = self.splitter.as_deref().map(Mutex::lock) else {
            return Err(died());
        };
        batches.iter().map(|batch| splitter.stored(batch)).collect()
    }
}

fn compressed(spec: &FileSpec) -> bool {
    spec.compression != Compression::None
}

/// A task that encodes a stream of batches, one file after the other.
struct EncoderTask {
    commands: mpsc::Sender<Command>,
    queued: Arc<AtomicUsize>,
    task: AbortHandle,
}

enum Command {
    Encode { batches: Vec<RecordBatch>, bytes: usize },
    Finish(oneshot::Sender<Result<Vec<Finished>>>),
}

impl EncoderTask {
    fn start(spec: &Arc<FileSpec>, target_file_size: usize, shared: &Arc<EncoderTotals>) -> EncoderTask {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let queued = Arc::new(AtomicUsize::new(0));
        let key = Arc::new(Key::whole_table());
        let writer = Writer::new(Arc::clone(spec), key, target_file_size, Arc::clone(shared));
        let task = tokio::spawn(run(writer, inbox, Arc::clone(&queued)));
        EncoderTask {
            commands,
            queued,
            task: task.abort_handle(),
        }
    }
}

impl Drop for EncoderTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut writer: Writer, mut inbox: mpsc::Receiver<Command>, queued: Arc<AtomicUsize>) {
    let mut failure: Option<Error> = None;
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Encode { batches, bytes } => {
                if failure.is_none()
                    && let Err(error) = writer.write_all(batches, bytes).await
                {
                    if let Ok(mut shared) = writer.shared.failure.lock() {
                        shared.get_or_insert_with(|| error.clone());
                    }
                    failure = Some(error);
                    // What cannot be finished is deleted now: the disk may be full of it.
                    writer.abandon();
                }
                queued.fetch_sub(bytes, Ordering::Relaxed);
            }
            Command::Finish(answer) => {
                let result = match &failure {
                    Some(error) => Err(error.clone()),
                    None => writer.finish().await,
                };
                let _ = answer.send(result);
            }
        }
    }
}

/// Files of one partition, one after the other.
struct Writer {
    spec: Arc<FileSpec>,
    key: Arc<Key>,
    target_file_size: usize,
    shared: Arc<EncoderTotals>,
    open: Option<Open>,
    finished: Vec<Finished>,
    /// This writer's part of `shared.size`.
    size: usize,
}

struct Open {
    encoding: Encoding,
    held: Held,
    /// Made when there are bytes for it.
    output: Option<Output>,
}

/// A part of `EncoderTotals::memory`, given back when it goes.
struct Held {
    shared: Arc<EncoderTotals>,
    bytes: usize,
}

impl Held {
    /// Counts what this one holds now; what all do.
    fn set(&mut self, now: usize) -> usize {
        let before = std::mem::replace(&mut self.bytes, now);
        let memory = &self.shared.memory;
        memory.fetch_add(now, Ordering::Relaxed);
        memory.fetch_sub(before, Ordering::Relaxed) - before
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Writer {
    fn new(
        spec: Arc<FileSpec>,
        key: Arc<Key>,
        target_file_size: usize,
        shared: Arc<EncoderTotals>,
    ) -> Writer {
        Writer {
            spec,
            key,
            target_file_size,
            shared,
            open: None,
            finished: Vec::new(),
            size: 0,
        }
    }

    async fn write_all(&mut self, batches: Vec<RecordBatch>, bytes: usize) -> Result<()> {
        // Of the write as a whole: a batch may be a slice of a buffer that is far larger.
        let total: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let row_bytes = (bytes / total.max(1)).max(1);
        // Rolling is decided between slices, so a slice is a fraction of a file.
        let slice = ((self.target_file_size / 4).min(STEP) / row_bytes).max(1);
        let batches = match batches.len() {
            1 => batches,
            _ => over(compute::spawn(move || joined(batches))).await?,
        };
        for batch in batches {
            for start in (0..batch.num_rows()).step_by(slice) {
                let length = slice.min(batch.num_rows() - start);
                self.write(batch.slice(start, length)).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let (spec, key, shared) = (
            Arc::clone(&self.spec),
            Arc::clone(&self.key),
            Arc::clone(&self.shared),
        );
        let open = self.open.take();
        let (mut open, bytes) = over(compute::spawn(move || {
            let mut open = match open {
                Some(open) => open,
                None => Open {
                    encoding: Encoding::new(&spec, &key, &Dictionaries::of(&batch, compressed(&spec)))?,
                    held: Held { shared, bytes: 0 },
                    output: None,
                },
            };
            open.encoding.write(&spec, &batch)?;
            let held = open.encoding.memory();
            if open.held.set(held) > MEMORY && held > LANE_MEMORY {
                open.encoding.spill(&spec)?;
            }
            let bytes = open.encoding.take();
            // Until they are stored they are in memory: not counted, another lane would take their room.
            open.held.set(open.encoding.memory() + bytes.len());
            Ok((open, bytes))
        }))
        .await?;
        if !bytes.is_empty() {
            let output = match &mut open.output {
                Some(output) => output,
                none => none.insert(Output::create(&self.spec, open.encoding.name()).await?),
            };
            output.append(&self.spec, bytes).await?;
            open.held.set(open.encoding.memory());
        }
        let size = open.encoding.size();
        self.open = Some(open);
        if size >= self.target_file_size {
            self.end().await?;
        }
        self.report();
        Ok(())
    }

    fn report(&mut self) {
        let open = self.open.as_ref().map_or(0, |open| open.encoding.size());
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

    async fn end(&mut self) -> Result<()> {
        let Some(Open {
            encoding,
            held,
            output,
        }) = self.open.take()
        else {
            return Ok(());
        };
        let spec = Arc::clone(&self.spec);
        let encoded = over(compute::spawn(move || {
            let encoded = encoding.finish(&spec);
            drop(held);
            encoded
        }))
        .await?;
        match output {
            Some(output) => self.finished.push(output.finish(&self.spec, encoded).await?),
            None => self.finished.extend(store(&self.spec, vec![encoded]).await?),
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<Vec<Finished>> {
        self.size = 0;
        self.end().await?;
        Ok(std::mem::take(&mut self.finished))
    }

    fn abandon(&mut self) {
        self.open = None;
        self.finished.clear();
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
