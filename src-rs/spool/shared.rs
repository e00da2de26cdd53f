//! What appenders, readers and the writer of one spool share.
//!
//! Invariants:
//! - The lock is held for a moment only: nobody holds it while a disk answers.
//! - Positions are given in the order of the queue, and never twice.
//! - Bytes in the queue are bounded; so is what is remembered of segments, by what is on the disk.
//!
//! It writes nothing and decides nothing about durability: `writer` does.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, oneshot, watch};

use super::encode::RecordImage;
use super::format::{self, RecordPlace, SegmentName, SpoolId};
use super::ranges::SettledPositions;
use crate::error::{Code, Error, Result};
use crate::file_system::{Disk, DiskFile};

/// Between two entries of a segment's index, in bytes.
const INDEXED: u64 = 1 << 20;

pub type WriterReply = oneshot::Sender<Result<()>>;

/// What the writer is asked for.
#[derive(Debug)]
pub enum WriterCommand {
    Append {
        image: RecordImage,
        schema: Arc<[u8]>,
        first: u64,
        rows: u64,
        identity: u64,
        reply: WriterReply,
    },
    /// To log ranges that were settled out of order.
    Settled(Vec<Range<u64>>, WriterReply),
    /// To keep a mark in the cursor.
    Mark(SpoolId, WriterReply),
    Sync(WriterReply),
}

impl WriterCommand {
    /// What it takes of the queue, and of the disk at most: the schema may be there.
    pub fn bytes(&self) -> u64 {
        match self {
            WriterCommand::Append { image, schema, .. } => {
                image.bytes.len() as u64 + format::record_bytes(schema.len())
            }
            _ => 0,
        }
    }

    pub fn reply(self) -> WriterReply {
        match self {
            WriterCommand::Append { reply, .. }
            | WriterCommand::Settled(_, reply)
            | WriterCommand::Mark(_, reply)
            | WriterCommand::Sync(reply) => reply,
        }
    }
}

/// A file of the log.
#[derive(Debug)]
pub struct Segment {
    pub name: SegmentName,
    pub path: PathBuf,
    pub place: RecordPlace,
    /// Up to where it may be read.
    pub bytes: u64,
    /// What its file takes.
    pub size: u64,
    /// How many deliveries it has, settled ones included.
    pub deliveries: u64,
    /// This process has made it, and written nothing but its state to it.
    pub is_blank: bool,
    /// Something in it could not be read and could not be set aside: it is moved instead of deleted.
    pub keep: bool,
    /// Of an earlier process, which may not have synced all of it.
    pub unsynced: bool,
    /// Positions and where the record begins that has the next row from there on.
    index: Vec<(u64, u64)>,
}

impl Segment {
    pub fn new(name: SegmentName, path: PathBuf, id: &SpoolId, bytes: u64) -> Segment {
        Segment {
            name,
            path,
            place: RecordPlace::new(id, name.sequence),
            bytes,
            size: bytes,
            deliveries: 0,
            is_blank: false,
            keep: false,
            unsynced: false,
            index: Vec::new(),
        }
    }

    /// A record whose rows begin here was seen.
    pub fn note(&mut self, position: u64, offset: u64) {
        if self.index.last().is_none_or(|(_, last)| offset >= last + INDEXED) {
            self.index.push((position, offset));
        }
    }

    /// A record from which on the position is found, by the index.
    pub fn offset(&self, position: u64) -> Option<u64> {
        let after = self.index.partition_point(|(first, _)| *first <= position);
        after.checked_sub(1).map(|at| self.index[at].1)
    }

    /// Where the rows below the position end, at least.
    fn offset_behind(&self, position: u64) -> u64 {
        let after = self.index.partition_point(|(first, _)| *first < position);
        self.index.get(after).map_or(self.bytes, |(_, offset)| *offset)
    }
}

#[derive(Debug)]
pub struct SpoolState {
    pub queue: VecDeque<WriterCommand>,
    pub queued_bytes: u64,
    /// The next position to be given.
    pub next: u64,
    pub settled: SettledPositions,
    /// Settled out of order, and not in the log yet.
    pub unlogged: Vec<Range<u64>>,
    /// The cursor on the disk.
    pub saved: u64,
    /// Since when something is settled that the disk does not know.
    pub unsaved_since: Option<Instant>,
    /// A destination has settled rows since the cursor was written.
    pub acknowledged: bool,
    pub segments: VecDeque<Segment>,
    /// Rows below are synced, and readers may have them.
    pub readable: u64,
    /// Rows below are written.
    pub written: u64,
    /// Bytes on the disk, those set aside included.
    pub used: u64,
    /// Bytes that were set aside.
    pub aside: u64,
    /// Bytes of other files that count, too: rows that were put aside for their data.
    pub beside: u64,
    /// Deliveries in the queue and in the segments: each may be cancelled, which takes room.
    pub deliveries: u64,
    /// What the disk has left, if that matters.
    pub free: Option<u64>,
    /// Somebody waits for room on the disk, or was refused for want of it.
    pub wants_room: bool,
    /// A reader waits for what is written and not synced.
    pub wants_sync: bool,
    /// Nothing waits for room on the disk any more.
    pub impatient: bool,
    /// Nothing is taken any more.
    pub closed: bool,
    /// The writer has something to look at.
    pub woken: bool,
}

impl SpoolState {
    /// The segment that has the position, or the next one behind it; and where its rows end at the latest.
    pub fn find(&self, position: u64) -> Option<(usize, u64)> {
        let after = self
            .segments
            .partition_point(|segment| segment.name.first <= position);
        let at = after.saturating_sub(1);
        self.segments.get(at)?;
        let bound = self.segments.get(at + 1).map(|next| next.name.first);
        Some((at, bound.unwrap_or(self.readable).min(self.readable)))
    }

    pub fn segment(&mut self, name: SegmentName) -> Option<&mut Segment> {
        let at = self.segments.partition_point(|segment| segment.name < name);
        self.segments.get_mut(at).filter(|segment| segment.name == name)
    }

    /// How many bytes of records the cursor on the disk lags by, at most.
    pub fn lag(&self) -> u64 {
        let (from, to) = (self.saved, self.settled.through());
        let (Some((first, _)), Some((last, _))) = (self.find(from), self.find(to)) else {
            return 0;
        };
        let begin = self.segments[first].offset(from).unwrap_or(0);
        let end = self.segments[last].offset_behind(to);
        let between: u64 = (first..last).map(|at| self.segments[at].bytes).sum();
        (between + end).saturating_sub(begin)
    }

    /// What is settled above the cursor on the disk, which may be behind for a while.
    pub fn unsaved_ranges(&self) -> Vec<Range<u64>> {
        let through = self.settled.through().min(self.written);
        let behind = (through > self.saved).then_some(self.saved..through);
        behind.into_iter().chain(self.settled.ranges()).collect()
    }

    /// Whether rows are settled and the disk does not have that yet.
    pub fn is_unsaved(&self) -> bool {
        // Positions that were given and not written are not settled on the disk: the write may fail.
        self.settled.through().min(self.written) > self.saved || !self.unlogged.is_empty()
    }
}

#[derive(Debug)]
pub struct SharedSpool {
    pub disk: Arc<dyn Disk>,
    pub directory: PathBuf,
    pub id: SpoolId,
    state: Mutex<SpoolState>,
    /// A sync of the directory has failed since the writer made names in it that it has not synced. Held during
    /// each such sync.
    names_lost: Mutex<bool>,
    /// The writer sleeps on it.
    pub wake: Condvar,
    /// Appenders wait for room on it.
    pub room: Notify,
    /// Appenders pass one after the other.
    pub gate: tokio::sync::Mutex<()>,
    /// [`SpoolState::readable`], for those who wait. The writer has the other end, so that they learn of its end.
    pub readable: watch::Receiver<u64>,
    /// Held for as long as the spool is open.
    pub lock: Mutex<Option<Box<dyn DiskFile>>>,
}

impl SharedSpool {
    pub fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        id: SpoolId,
        lock: Box<dyn DiskFile>,
        state: SpoolState,
        readable: watch::Receiver<u64>,
    ) -> SharedSpool {
        SharedSpool {
            disk,
            directory,
            id,
            wake: Condvar::new(),
            room: Notify::new(),
            gate: tokio::sync::Mutex::new(()),
            readable,
            lock: Mutex::new(Some(lock)),
            state: Mutex::new(state),
            names_lost: Mutex::new(false),
        }
    }

    /// The writer has something to look at.
    pub fn wake_writer(&self, mut state: MutexGuard<'_, SpoolState>) {
        state.woken = true;
        drop(state);
        self.wake.notify_all();
    }

    /// Makes the names in the directory durable. Fails where another such sync has failed, whoever asked for it: this
    /// one would say "fine" and know nothing.
    pub fn sync_names(&self) -> io::Result<()> {
        let mut lost = self.names_lost.lock().unwrap_or_else(PoisonError::into_inner);
        if *lost {
            return Err(io::Error::other("a sync of it has failed before"));
        }
        let synced = self.disk.sync_directory(&self.directory);
        *lost = synced.is_err();
        synced
    }

    /// Nobody needs the names that are not synced.
    pub fn forget_names(&self) {
        *self.names_lost.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    pub fn state(&self) -> MutexGuard<'_, SpoolState> {
        // What is done under the lock does not panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles rows, in any order. `logged` says whether those out of order are to be written to the log. Gives what
    /// of the range has positions: rows that come later may have the rest.
    pub fn settle(&self, range: Range<u64>, logged: bool) -> Range<u64> {
        let mut state = self.state();
        let range = range.start..range.end.min(state.next);
        state.settled.settle(range.clone());
        if logged && range.start < range.end && range.end > state.settled.through() {
            state.unlogged.push(range.clone());
        }
        state.acknowledged |= logged && range.start < range.end;
        if state.is_unsaved() && state.unsaved_since.is_none() {
            state.unsaved_since = Some(Instant::now());
        }
        self.wake_writer(state);
        range
    }

    /// Takes an append that the writer has not begun with out of the queue: on a full disk it may be there for long.
    pub fn take_back(&self, rows: &Range<u64>) -> bool {
        let mut state = self.state();
        let is_it = |job: &WriterCommand| matches!(job, WriterCommand::Append { first, rows: count, .. } if (*first..first + count) == *rows);
        let Some(at) = state.queue.iter().position(is_it) else {
            return false;
        };
        let Some(job) = state.queue.remove(at) else {
            return false;
        };
        state.queued_bytes -= job.bytes();
        state.deliveries = state.deliveries.saturating_sub(1);
        drop(state);
        self.void(rows.clone());
        self.room.notify_waiters();
        let error = Error::new(Code::Aborted, "it was taken back before it was written").during("append");
        let _ = job.reply().send(Err(error));
        true
    }

    /// Positions that no record has, and none will have.
    pub fn void(&self, range: Range<u64>) {
        self.settle(range, false);
    }
}
