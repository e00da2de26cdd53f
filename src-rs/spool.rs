//! The spool: a durable log of deliveries on the disk.
//!
//! [`Spool::append`] writes, [`Spool::read_from`] reads, [`Spool::settle_through`] settles.
//! `specs/spool-format.md` says what is on the disk.
//!
//! Invariants:
//! - The log is the only truth about what was written; the cursor says what of it is settled, may lag and is never
//!   ahead.
//! - What was answered as durable is found by the next opening, once and in order, whatever happens to process and
//!   power. What was refused is not found, unless the error is ambiguous.
//! - What cannot be read is set aside and told of. Nothing that is not understood is deleted.
//! - One thread of each spool writes. Beside it only readers, and callers that open or close the spool, wait for
//!   the disk.
//!
//! It does not deliver or log, and it repeats no append for its caller. Its only times are the second within which
//! the cursor is written, and the second between two tries of a disk that fails.

mod aside;
mod closing;
mod cursor;
mod encode;
mod errors;
pub mod export;
pub mod format;
pub mod inspect;
mod marks;
mod ranges;
mod reader;
mod recover;
mod retarget;
mod scan;
mod shared;
mod table_schema;
mod writer;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::ipc::CompressionType;
use tokio::sync::{oneshot, watch};

use self::format::SpoolId;
pub use self::ranges::SettledPositions;
pub use self::reader::{Damage, Reader, SpoolEntry, SpoolRows};
use self::recover::Access;
pub use self::recover::Unsettled;
pub use self::retarget::{Retargeted, retarget};
use self::shared::{SharedSpool, SpoolState, WriterCommand};
pub use self::writer::{Writer, WriterTurn, now_ms};
use crate::compute;
use crate::error::{Code, Error, Result};
use crate::file_system::{self, Disk, DiskFile};

/// When an append is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When its bytes are on the disk.
    #[default]
    Synced,
    /// When the system has its bytes: they survive the end of the process, and not a power cut.
    Written,
}

/// What becomes of an append that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    #[default]
    Wait,
    Reject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolCompression {
    Lz4,
    Zstd,
}

#[derive(Debug, Clone)]
pub struct SpoolOptions {
    pub directory: PathBuf,
    /// Name of the spool, which is that of its folder in `directory`.
    pub name: String,
    /// URL of the destination. User, password, query and fragment of it are not stored.
    pub target: String,
    /// Whether rows that are there for another target go to this one from now on.
    pub retarget: bool,
    pub durability: Durability,
    pub compression: Option<SpoolCompression>,
    /// All files together take no more than this.
    pub max_bytes: Option<u64>,
    /// Bytes of the disk that are left free.
    pub min_free_bytes: u64,
    pub segment_bytes: u64,
    /// So many bytes wait in memory to be written, or one delivery that is larger.
    pub queue_bytes: u64,
    pub when_full: WhenFull,
    /// Names this client in the error of others that try to open the spool.
    pub owner: String,
}

impl SpoolOptions {
    pub fn new(directory: impl Into<PathBuf>, target: impl Into<String>) -> SpoolOptions {
        SpoolOptions {
            directory: directory.into(),
            name: "default".into(),
            target: target.into(),
            retarget: false,
            durability: Durability::Synced,
            compression: None,
            max_bytes: None,
            min_free_bytes: 0,
            segment_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            when_full: WhenFull::Wait,
            owner: String::new(),
        }
    }
}

/// What was there when the spool was opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// What is not settled, as near as can be told without reading all of it.
    pub left: Unsettled,
    /// The first row that is not settled.
    pub position: u64,
    /// The mark that [`Spool::mark`] was given last.
    pub mark: Option<[u8; 16]>,
    /// The marks of then, each time that the spool was sent from this target to another one.
    pub former_marks: Vec<[u8; 16]>,
    /// Bytes at the end of the log that are no whole record.
    pub cut: u64,
    /// Files that belong to another spool, left alone.
    pub foreign: Vec<PathBuf>,
    /// Files with a damaged header, set aside because nothing in them or in other files says that they belong here.
    pub set_aside: Vec<PathBuf>,
}

/// A delivery that was taken.
#[derive(Debug)]
pub struct Appended {
    /// Of its first row.
    pub position: u64,
    pub durable: Durable,
}

/// Settles when something is as durable as the spool's durability says.
#[derive(Debug)]
pub struct Durable(Option<oneshot::Receiver<Result<()>>>);

impl Future for Durable {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Ok(())),
            Some(answer) => Pin::new(answer).poll(context).map(|answer| match answer {
                Ok(answer) => answer,
                Err(_) => Err(Error::new(Code::Internal, "the spool's writer has ended").during("spool")),
            }),
        }
    }
}

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<SharedSpool>,
    durability: Durability,
    compression: Option<CompressionType>,
    max_bytes: Option<u64>,
    min_free_bytes: u64,
    queue_bytes: u64,
    when_full: WhenFull,
    target: String,
    segment_bytes: u64,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    /// Held while the table's schema is kept.
    keeping: Mutex<()>,
}

/// Deliveries below this are encoded on the caller's thread: handing them to another would cost more.
const SMALL: usize = 256 << 10;

impl Spool {
    /// Opens a spool, and makes it if there is none. Waits for the disk; five seconds at most for that of a spool
    /// which this process has closed.
    ///
    /// # Errors
    /// `SPOOL_LOCKED` naming who has it open, `SPOOL_FORMAT`, `CONFIG_INVALID` if rows for another target are
    /// unsettled, and what the disk says.
    pub fn open(disk: Arc<dyn Disk>, options: &SpoolOptions) -> Result<(Spool, Recovered)> {
        let (spool, recovered, writer) = Spool::open_undriven(disk, options)?;
        let named = thread::Builder::new().name("arrow-spool".into());
        let thread = named.spawn(move || {
            compute::go_last();
            writer.run();
        });
        let thread = thread.map_err(|error| {
            Error::new(Code::ResourceExhausted, "no thread can be started for the spool")
                .caused_by(&error)
                .during("spool")
        })?;
        *spool.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok((spool, recovered))
    }

    /// As [`Spool::open`], without a thread: the caller drives the writer.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_undriven(disk: Arc<dyn Disk>, options: &SpoolOptions) -> Result<(Spool, Recovered, Writer)> {
        let directory = directory(&options.directory, &options.name)?;
        let target = without_secrets(&options.target);
        file_system::make_private_directories(&*disk, &directory)
            .and_then(|()| file_system::sync_ancestors(&*disk, &directory))
            .map_err(|error| errors::of_io("cannot create", &directory, &error))?;
        // Of another user's directory, or where the file system knows no modes, the files are private all the same.
        let _ = disk.make_private(&directory);
        let lock = lock(&*disk, &directory, &options.owner)?;
        let mut found = recover::find(&*disk, &directory, Access::Owner)?;
        let is_other = found.target.as_ref().is_some_and(|has| *has != target);
        if is_other && found.left.rows > 0 && !options.retarget {
            let message = format!(
                "the spool {} holds rows for {}, not for {target}: arrow-ingest spool retarget sends them there",
                directory.display(),
                found.target.unwrap_or_default()
            );
            return Err(Error::new(Code::ConfigInvalid, message).during("spool"));
        }
        let aside = aside::content(&*disk, &directory)
            .map_err(|error| errors::of_io("cannot read", &directory, &error))?;
        for segment in &mut found.segments {
            // Its reader has passed the damage, and would not meet it again.
            segment.keep = aside.lacks(&segment.name.stem());
        }
        let free = match options.min_free_bytes {
            0 => None,
            _ => Some(
                disk.free_bytes(&directory)
                    .map_err(|error| errors::of_io("cannot tell the free space of", &directory, &error))?,
            ),
        };
        let slot = found.slot.unwrap_or(format::CursorSlot {
            id: found.id,
            number: 0,
            through: 0,
            mark: [0; 16],
        });
        let mut cursor = cursor::Cursor::new(&directory, slot);
        if found.foreign_cursor {
            aside::take(&*disk, &directory, &directory.join(cursor::NAME))
                .map_err(|error| errors::of_io("cannot set aside the cursor of", &directory, &error))?;
        }
        if found.slot.is_none() {
            // The id is in two places before it is needed: headers are not the only ones that know it.
            let through = found.settled.through().min(found.end);
            cursor
                .write(&*disk, through, [0; 16])
                .map_err(|error| errors::of_io("cannot write the cursor of", &directory, &error))?;
        }
        let mut marks = marks::read(&*disk, &directory)
            .map_err(|error| errors::of_io("cannot read the marks of", &directory, &error))?;
        let mark = cursor.last().mark;
        if is_other
            && let Some(former) = found.target.take()
            && mark != [0; 16]
        {
            marks
                .keep(&*disk, &directory, former, mark)
                .map_err(|error| errors::of_io("cannot write the marks of", &directory, &error))?;
        }
        let recovered = Recovered {
            left: found.left,
            position: found.settled.through(),
            mark: (mark != [0; 16]).then_some(mark),
            former_marks: marks.of(&target),
            cut: found.cut,
            foreign: found.foreign,
            set_aside: found.taken,
        };
        let deliveries = found.segments.iter().map(|segment| segment.deliveries).sum();
        let used: u64 = found.segments.iter().map(|segment| segment.size).sum();
        let state = SpoolState {
            queue: Default::default(),
            queued_bytes: 0,
            next: found.next,
            settled: found.settled,
            unlogged: Vec::new(),
            // What was found may be known to the system only: nothing is deleted for it before it is written anew.
            saved: if cursor.is_synced() {
                cursor.last().through
            } else {
                0
            },
            unsaved_since: (!cursor.is_synced()).then(Instant::now),
            acknowledged: false,
            segments: found.segments.into(),
            readable: found.next,
            written: found.next,
            used: used + aside.bytes,
            aside: aside.bytes,
            beside: 0,
            deliveries,
            free,
            wants_room: false,
            wants_sync: false,
            impatient: false,
            closed: false,
            woken: false,
        };
        let (readable, readers) = watch::channel(state.readable);
        let shared = Arc::new(SharedSpool::new(disk, directory, found.id, lock, state, readers));
        let settings = writer::WriterSettings {
            durability: options.durability,
            // Of a small budget several segments must fit, or all would have to be settled before any room comes.
            segment_bytes: options
                .segment_bytes
                .min(options.max_bytes.map_or(u64::MAX, |max| max / 4)),
            min_free_bytes: options.min_free_bytes,
            when_full: options.when_full,
            target: target.clone(),
        };
        let segment_bytes = settings.segment_bytes;
        let mut writer = Writer::new(
            Arc::clone(&shared),
            settings,
            cursor,
            readable,
            found.sequence,
            found.totals,
        );
        if is_other {
            writer.roll()?;
        }
        let spool = Spool {
            shared,
            durability: options.durability,
            compression: options.compression.map(|compression| match compression {
                SpoolCompression::Lz4 => CompressionType::LZ4_FRAME,
                SpoolCompression::Zstd => CompressionType::ZSTD,
            }),
            max_bytes: options.max_bytes,
            min_free_bytes: options.min_free_bytes,
            queue_bytes: options.queue_bytes,
            when_full: options.when_full,
            target,
            segment_bytes,
            writer: Mutex::new(None),
            keeping: Mutex::new(()),
        };
        Ok((spool, recovered, writer))
    }

    /// Random, and the same for as long as the spool lives.
    pub fn id(&self) -> [u8; 16] {
        self.shared.id
    }

    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Somebody waits for room, or was refused for want of it.
    pub fn wants_room(&self) -> bool {
        self.shared.state().wants_room
    }

    /// Takes one delivery, in the order of the calls: when there is room, the rows have their positions, and soon
    /// they are on the disk. Nothing was taken if the future is dropped before it is ready.
    ///
    /// # Errors
    /// `SPOOL_FULL`, `CLOSED`, and what is wrong with the batches. The batches are the caller's in any case.
    pub async fn append(&self, batches: &[RecordBatch], identity: u64) -> Result<Appended> {
        let _turn = self.shared.gate.lock().await;
        let encoded = match batches.iter().map(encode::size).sum::<usize>() {
            0..SMALL => encode::encode(batches, self.compression)?,
            _ => {
                let (batches, compression) = (batches.to_vec(), self.compression);
                let work = compute::spawn(move || encode::encode(&batches, compression));
                work.await.map_err(|_| {
                    Error::new(Code::Internal, "the encoder of the spool panicked").during("spool")
                })??
            }
        };
        if encoded.rows == 0 {
            let position = self.shared.state().next;
            return Ok(Appended {
                position,
                durable: Durable(None),
            });
        }
        let size = encoded.image.bytes.len() as u64 + format::record_bytes(encoded.schema.len());
        let mut waits = None;
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut state = self.shared.state();
                if state.closed {
                    return Err(Error::new(Code::Closed, "the spool is closed").during("append"));
                }
                let fits = self.fits(&state, size)?;
                let is_taken = state.queued_bytes == 0 || state.queued_bytes + size <= self.queue_bytes;
                if fits && is_taken {
                    let (reply, answer) = oneshot::channel();
                    let first = state.next;
                    state.next = first.checked_add(encoded.rows).ok_or_else(|| {
                        Error::new(Code::SpoolFull, "the spool has no positions left").during("append")
                    })?;
                    state.queued_bytes += size;
                    state.deliveries += 1;
                    state.wants_room = false;
                    state.queue.push_back(WriterCommand::Append {
                        image: encoded.image,
                        schema: encoded.schema,
                        first,
                        rows: encoded.rows,
                        identity,
                        reply,
                    });
                    self.shared.wake_writer(state);
                    return Ok(Appended {
                        position: first,
                        durable: Durable(Some(answer)),
                    });
                }
                // Said once: a writer that is woken has whoever waits look again, and they would wake each other for ever.
                if !fits && waits.is_none() {
                    let refused = (self.when_full == WhenFull::Reject).then(|| self.full(&state, size));
                    // Also for those who come next: what is known of the disk may be long ago.
                    state.wants_room = true;
                    self.shared.wake_writer(state);
                    if let Some(error) = refused {
                        return Err(error);
                    }
                    waits = Some(WaitsForRoom(&self.shared));
                }
            }
            room.await;
        }
    }

    /// Whether the disk's budget has room.
    ///
    /// # Errors
    /// If it never will have.
    fn fits(&self, state: &SpoolState, size: u64) -> Result<bool> {
        const HEADERS: u64 = 512;
        /// A record of one range. It must find room in a spool that is full, once for each delivery.
        const CANCELLATION: u64 = 2 * format::ALIGNMENT;
        let ranges = state.settled.ranges_count() as u64;
        // What a new segment begins with. Of two segments that follow each other, the records fill one at least.
        let head = HEADERS + self.target.len() as u64 + 16 * ranges;
        let filled = self.segment_bytes.saturating_sub(head).max(format::ALIGNMENT);
        let segments = match state.queued_bytes {
            0 => 1,
            queued => 2 * (queued / filled) + 3,
        };
        let around = head.saturating_mul(segments);
        if let Some(max) = self.max_bytes {
            // With all settled, one empty segment is left.
            if size + CANCELLATION + 2 * head + state.aside + state.beside > max {
                return Err(self.full(state, size));
            }
            let cancellations = CANCELLATION.saturating_mul(state.deliveries + 1);
            let taken = state.used + state.beside + state.queued_bytes + around;
            if taken.saturating_add(cancellations) + size > max {
                return Ok(false);
            }
        }
        let needed = state.queued_bytes + size + around;
        Ok(state
            .free
            .is_none_or(|free| free >= needed.saturating_add(self.min_free_bytes)))
    }

    fn full(&self, state: &SpoolState, size: u64) -> Error {
        let message = match self.max_bytes {
            Some(max)
                if self.min_free_bytes == 0
                    || state.used + state.beside + state.queued_bytes + size > max =>
            {
                format!(
                    "the spool {} has {} of {max} bytes, and {size} more do not fit",
                    self.shared.directory.display(),
                    state.used + state.beside + state.queued_bytes
                )
            }
            _ => format!(
                "the disk of {} has {} bytes left, and {} are to stay free",
                self.shared.directory.display(),
                state.free.unwrap_or(0),
                self.min_free_bytes
            ),
        };
        Error::new(Code::SpoolFull, message).during("append")
    }

    /// Reads what is not settled, from this position on.
    pub fn read_from(&self, position: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), position)
    }

    /// Rows below this are synced: changes when there is more to read, and ends with an error when the spool's writer
    /// has ended, whyever it has.
    pub fn readable(&self) -> watch::Receiver<u64> {
        self.shared.readable.clone()
    }

    /// Settles all rows below this position. That is on the disk within about a second.
    pub fn settle_through(&self, position: u64) {
        self.shared.settle(0..position, true);
    }

    /// Settles these rows, while rows before them may be unsettled. That is on the disk within about a second.
    pub fn settle(&self, range: Range<u64>) {
        self.shared.settle(range, true);
    }

    /// As [`Spool::settle`], and tells when that is as durable as an append: at once if that is not written yet.
    pub fn cancel(&self, range: Range<u64>) -> Durable {
        if self.shared.take_back(&range) {
            return Durable(None);
        }
        let range = self.shared.settle(range, false);
        match range.is_empty() {
            true => Durable(None),
            false => self.ask(|reply| WriterCommand::Settled(vec![range], reply)),
        }
    }

    /// Keeps 16 bytes with the cursor: the last opening's mark at the destination.
    pub fn mark(&self, mark: [u8; 16]) -> Durable {
        self.ask(|reply| WriterCommand::Mark(mark as SpoolId, reply))
    }

    /// Settles when all that was appended before is synced, whatever the durability. If a sync has failed, one
    /// caller gets its error; later calls settle for what was appended since.
    pub fn sync(&self) -> Durable {
        self.ask(WriterCommand::Sync)
    }

    fn ask(&self, job: impl FnOnce(oneshot::Sender<Result<()>>) -> WriterCommand) -> Durable {
        let (reply, answer) = oneshot::channel();
        let job = job(reply);
        let mut state = self.shared.state();
        if state.closed {
            let error = Error::new(Code::Closed, "the spool is closed").during("spool");
            let _ = job.reply().send(Err(error));
        } else {
            state.queue.push_back(job);
            self.shared.wake_writer(state);
        }
        Durable(Some(answer))
    }

    /// What is settled.
    pub fn settled(&self) -> SettledPositions {
        self.shared.state().settled.clone()
    }

    /// Whether all rows of a range are settled.
    pub fn is_settled(&self, range: Range<u64>) -> bool {
        self.shared.state().settled.holes(range).is_empty()
    }

    /// All rows below this position are settled.
    pub fn settled_through(&self) -> u64 {
        self.shared.state().settled.through()
    }

    /// The position of the next row that is appended.
    pub fn next_position(&self) -> u64 {
        self.shared.state().next
    }

    /// Rows that are not settled.
    pub fn unsettled_rows(&self) -> u64 {
        let state = self.shared.state();
        let between: u64 = state.settled.count_between(state.next);
        (state.next - state.settled.through().min(state.next)) - between
    }

    /// Where the spool is.
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// What the files take on the disk, those beside the log included.
    pub fn bytes(&self) -> u64 {
        let state = self.shared.state();
        state.used + state.beside
    }

    /// Files that are not the log's take so much of [`SpoolOptions::max_bytes`].
    pub fn set_beside(&self, bytes: u64) {
        self.shared.state().beside = bytes;
        self.shared.room.notify_waiters();
    }

    /// Keeps what the destination says of the table's schema, for [`Spool::kept_schema`] of this opening and of later
    /// ones with the same target. Waits for the disk.
    ///
    /// # Errors
    /// `CLOSED`, what the disk says, and `SPOOL_FULL` for a schema of more than a megabyte.
    pub fn keep_schema(&self, schema: &[u8]) -> Result<()> {
        // Others may have opened the spool since.
        if self.shared.state().closed {
            return Err(Error::new(Code::Closed, "the spool is closed").during("schema"));
        }
        let _turn = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.directory();
        table_schema::keep(&self.shared, &self.target, schema)
            .map_err(|error| errors::of_io("cannot keep the table's schema in", directory, &error))
    }

    /// What was kept last. None, too, where it cannot be read. Waits for the disk.
    pub fn kept_schema(&self) -> Option<Vec<u8>> {
        let SharedSpool { disk, directory, .. } = &*self.shared;
        table_schema::kept(&**disk, directory, &self.target)
    }

    /// As [`Spool::close`], without waiting.
    pub fn abandon(&self) {
        let mut state = self.shared.state();
        if !state.closed {
            closing::begin(&self.shared.directory);
        }
        state.closed = true;
        self.shared.wake_writer(state);
        self.shared.room.notify_waiters();
    }

    /// Whatever waits for room on the disk is tried at once, and refused if there is none.
    pub fn wait_for_room_no_longer(&self) {
        let mut state = self.shared.state();
        state.impatient = true;
        self.shared.wake_writer(state);
    }

    /// As [`Spool::close`], for one of several who have it: what the others call then is refused.
    pub fn end_and_wait(&self) {
        self.abandon();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // It catches nothing, and what it had to answer was answered when it ended.
            let _ = writer.join();
        }
    }

    /// Writes and syncs all that was taken, saves the cursor, and lets others open the spool. Waits for the disk.
    pub fn close(self) {
        self.end_and_wait();
    }
}

/// An append that waits for room. One waits at a time.
struct WaitsForRoom<'a>(&'a SharedSpool);

impl Drop for WaitsForRoom<'_> {
    /// Whoever gives up waits no longer: the writer would look at the disk each second until the next append.
    fn drop(&mut self) {
        self.0.state().wants_room = false;
    }
}

impl Drop for Spool {
    /// As [`Spool::close`], without waiting.
    fn drop(&mut self) {
        self.abandon();
    }
}

fn directory(within: &Path, name: &str) -> Result<PathBuf> {
    let invalid = |message: String| Error::new(Code::ConfigInvalid, message).during("spool");
    let name = Path::new(name);
    let mut parts = name.components();
    let is_plain = matches!(parts.next(), Some(std::path::Component::Normal(part)) if part == name.as_os_str())
        && parts.next().is_none();
    if !is_plain {
        return Err(invalid(format!("{name:?} is no name of a spool")));
    }
    let directory =
        std::path::absolute(within).map_err(|error| errors::of_io("cannot find", within, &error))?;
    Ok(directory.join(name))
}

/// A URL without user, password, query and fragment, which may hold keys; other text as it is.
pub fn without_secrets(target: &str) -> String {
    let Ok(mut url) = url::Url::parse(target) else {
        return target.split(['?', '#']).next().unwrap_or_default().to_string();
    };
    // A URL that cannot have them does not take them either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// For so long an opening waits for a spool that this process has closed and whose disk has not answered.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK: &str = "lock";
const OWNER: &str = "owner";

fn lock(disk: &dyn Disk, directory: &Path, owner: &str) -> Result<Box<dyn DiskFile>> {
    let path = directory.join(LOCK);
    let file = open_or_create(disk, &path).map_err(|error| errors::of_io("cannot open", &path, &error))?;
    let try_lock = || {
        let got = file.try_lock();
        got.map_err(|error| errors::of_io("cannot lock", &path, &error))
    };
    let named = directory.join(OWNER);
    let mut is_closing = false;
    let is_ours = try_lock()? || {
        is_closing = closing::wait(directory, LOCK_PATIENCE);
        try_lock()?
    };
    if !is_ours {
        let who = reader::owner(disk, &named).unwrap_or_else(|| "somebody who left no name".into());
        let state = match is_closing {
            true => "was closed, and its disk has not answered yet",
            false => "is open",
        };
        let message = format!("the spool {} {state}: {who}", directory.display());
        return Err(Error::new(Code::SpoolLocked, message).during("spool"));
    }
    // Only for that message: a full disk must not keep anybody from draining it.
    let _ = sign(disk, &named, owner);
    Ok(file)
}

fn sign(disk: &dyn Disk, path: &Path, owner: &str) -> io::Result<()> {
    let text = serde_json::json!({
        "pid": std::process::id(),
        "host": host(),
        "owner": owner,
        "sinceMs": now_ms(),
    });
    let file = open_or_create(disk, path)?;
    file.set_length(0)?;
    file.write_all_at(text.to_string().as_bytes(), 0)
}

fn open_or_create(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    match disk.create_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(path),
        created => created,
    }
}

fn host() -> String {
    #[cfg(unix)]
    {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
    #[cfg(not(unix))]
    {
        std::env::var("COMPUTERNAME").unwrap_or_default()
    }
}
