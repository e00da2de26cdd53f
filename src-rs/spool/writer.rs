//! The only writer of a spool's files. A turn writes records in groups, syncs once for all appends that wait,
//! writes the cursor, and deletes the segments that nobody needs.
//!
//! Invariants:
//! - An append is answered as durable when its bytes are synced, and the directory too where the file is new.
//! - A sync that failed is not tried again. What was written since the last good one is refused to all who wait,
//!   and a segment that begins where the synced part ends makes it count for nothing.
//! - A failed write is cut off, and the cut synced, before its callers are answered: rows that were refused are
//!   not found by a later opening.
//! - The cursor is written only up to what is synced, and a segment is deleted only when the cursor that passes it
//!   is synced.
//! - A disk that fails is asked again once a second, not in a loop.
//! - Appends never take the last [`RESERVE`] of the disk: the cursor and the head of the next segment need it, without
//!   which nothing that is delivered could be deleted.
//!
//! It assigns no positions and waits for nobody but the disk.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::cursor::Cursor;
use super::encode::RecordImage;
use super::format::{
    self, RECORD_HEADER, RecordHeader, RecordKind, RecordPlace, SegmentHeader, SegmentName, SpoolId,
};
use super::shared::{Segment, SharedSpool, WriterCommand, WriterReply};
use super::{Durability, WhenFull, aside, closing, errors};
use crate::error::{Code, Error};
use crate::file_system::DiskFile;

/// The cursor on the disk lags by no more than this, in time and in bytes of records. (Bytes are known to a MiB at
/// both ends.) What is settled when it was not written for so long is written at once: a process that ends soon after
/// each start, whenever the first acknowledgement is there, would else begin at the same row for ever.
const MAX_LAG: Duration = Duration::from_secs(1);
const MAX_LAG_BYTES: u64 = 60 << 20;
/// So many files may wait for a sync, each with a descriptor.
const MAX_DIRTY: usize = 64;
/// How many bytes are written by one call, at least where there are as many.
const GROUP_BYTES: u64 = 32 << 20;

/// What is left of the disk for what makes room on it.
const RESERVE: u64 = 64 << 10;

/// What the writer needs to know of the options.
#[derive(Debug, Clone)]
pub struct WriterSettings {
    pub durability: Durability,
    pub segment_bytes: u64,
    pub min_free_bytes: u64,
    pub when_full: WhenFull,
    pub target: String,
}

/// What becomes of the writer after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterTurn {
    /// Nothing to do until the writer is woken, or until this has passed.
    Idle(Option<Duration>),
    /// The spool is closed and all is on the disk.
    End,
}

#[derive(Debug)]
struct ActiveSegment {
    file: Arc<dyn DiskFile>,
    name: SegmentName,
    path: PathBuf,
    place: RecordPlace,
    length: u64,
    /// It has records beside its state.
    used: bool,
    schema: Option<(Arc<[u8]>, u64)>,
}

#[derive(Debug)]
struct UnsyncedFile {
    file: Arc<dyn DiskFile>,
    name: SegmentName,
    path: PathBuf,
    length: u64,
}

/// Records that are written by one call.
#[derive(Debug, Default)]
struct RecordGroup {
    images: Vec<RecordImage>,
    headers: Vec<(RecordHeader, u64)>,
    waiting: Vec<Waiter>,
    bytes: u64,
}

/// Somebody who waits, and the positions that are void if it fails.
#[derive(Debug)]
struct Waiter {
    reply: WriterReply,
    rows: Range<u64>,
    /// What it takes of the queue.
    queued: u64,
    /// Being written is not enough for it.
    synced: bool,
}

#[derive(Debug)]
pub struct Writer {
    shared: Arc<SharedSpool>,
    settings: WriterSettings,
    cursor: Cursor,
    readable: watch::Sender<u64>,
    /// Of the next segment.
    sequence: u64,
    active: Option<ActiveSegment>,
    /// Written since they were synced.
    dirty: Vec<UnsyncedFile>,
    /// Of which a sync has failed, and which count all the same, and their lengths.
    stale: Vec<(SegmentName, u64)>,
    /// The directory has names that were not synced.
    renamed: bool,
    /// Rows below are written.
    end: u64,
    waiting: Vec<Waiter>,
    /// Rows and deliveries that were ever written, and those that were synced.
    totals: (u64, u64),
    synced_totals: (u64, u64),
    /// Why a sync failed that nobody had asked for: whoever asks next is told.
    untold: Option<Error>,
    /// When a disk that failed is asked again.
    retry: Option<Instant>,
    /// The last append found no room on the disk.
    short: bool,
    /// When the cursor was last written for rows that were acknowledged.
    saved: Option<Instant>,
}

impl Writer {
    pub fn new(
        shared: Arc<SharedSpool>,
        settings: WriterSettings,
        cursor: Cursor,
        readable: watch::Sender<u64>,
        sequence: u64,
        totals: (u64, u64),
    ) -> Writer {
        let end = shared.state().next;
        Writer {
            shared,
            settings,
            cursor,
            readable,
            sequence,
            active: None,
            dirty: Vec::new(),
            stale: Vec::new(),
            renamed: false,
            end,
            waiting: Vec::new(),
            totals,
            synced_totals: totals,
            untold: None,
            retry: None,
            short: false,
            saved: None,
        }
    }

    /// Until the spool is closed.
    pub fn run(mut self) {
        while let WriterTurn::Idle(rest) = self.turn(Instant::now()) {
            let mut state = self.shared.state();
            while !state.woken && (state.queue.is_empty() || self.short) {
                state = match rest {
                    None => self
                        .shared
                        .wake
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner),
                    Some(rest) => {
                        let waited = self.shared.wake.wait_timeout(state, rest);
                        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                        if waited.timed_out() {
                            break;
                        }
                        state
                    }
                };
            }
        }
    }

    /// Does what there is to do now.
    pub fn turn(&mut self, now: Instant) -> WriterTurn {
        let (jobs, closing) = self.take();
        let worked = !jobs.is_empty();
        self.serve(jobs);
        let is_due = self.retry.is_none_or(|retry| now >= retry) || closing;
        if is_due && self.settle(now, closing).is_err() {
            self.retry = Some(now + MAX_LAG);
        } else if is_due {
            self.retry = None;
        }
        if self.settings.min_free_bytes > 0 && (worked || self.shared.state().wants_room) {
            let free = self.shared.disk.free_bytes(&self.shared.directory).ok();
            self.shared.state().free = free;
        }
        if worked || self.shared.state().wants_room {
            self.shared.room.notify_waiters();
        }
        let mut state = self.shared.state();
        if !state.is_unsaved() {
            state.unsaved_since = None;
        } else if state.unsaved_since.is_none() {
            // It was settled before it was written.
            state.unsaved_since = Some(now);
        }
        if closing && state.queue.is_empty() {
            return WriterTurn::End;
        }
        let late = state.unsaved_since.map(|since| since + MAX_LAG);
        let again = self.saved.map(|saved| saved + MAX_LAG);
        let again = again.filter(|_| state.acknowledged && state.is_unsaved());
        let is_polled = self.short || self.settings.min_free_bytes > 0 && state.wants_room;
        let polled = is_polled.then(|| now + MAX_LAG);
        let next = match self.retry {
            Some(retry) => [Some(retry), None, polled],
            None => [late, again, polled],
        };
        WriterTurn::Idle(
            next.into_iter()
                .flatten()
                .min()
                .map(|at| at.saturating_duration_since(now)),
        )
    }

    /// What the disk has room for, in the order of the queue. What it has none for stays in the queue, or is refused.
    fn take(&mut self) -> (VecDeque<WriterCommand>, bool) {
        {
            let mut state = self.shared.state();
            state.woken = false;
            let appends = state.queue.iter().any(|job| job.bytes() > 0);
            // Of a spool that is to be closed nothing waits any more: the disk says what it has no room for.
            if !appends || state.closed || state.impatient {
                // Who waited may have been taken back; who was refused may come again.
                self.short &= self.settings.when_full == WhenFull::Reject;
                return (std::mem::take(&mut state.queue), state.closed);
            }
        }
        // One that cannot tell is asked by writing to it.
        let free = self.shared.disk.free_bytes(&self.shared.directory);
        let free = free.unwrap_or(u64::MAX);
        let mut room = free.saturating_sub(RESERVE.max(self.settings.min_free_bytes));
        let (mut jobs, mut refused, mut held) = (VecDeque::new(), Vec::new(), VecDeque::new());
        let mut state = self.shared.state();
        for job in std::mem::take(&mut state.queue) {
            let bytes = job.bytes();
            match &job {
                WriterCommand::Append { .. } if bytes <= room && held.is_empty() => {
                    room -= bytes;
                    self.short = false;
                    jobs.push_back(job);
                }
                WriterCommand::Append { .. } if self.settings.when_full == WhenFull::Reject => {
                    refused.push(waiting(job));
                }
                WriterCommand::Append { .. } => held.push_back(job),
                // It stands for what is before it.
                WriterCommand::Sync(_) if !held.is_empty() => held.push_back(job),
                // Without a mark no session opens, and nothing is delivered that could make room.
                _ => jobs.push_back(job),
            }
        }
        self.short |= !held.is_empty() || !refused.is_empty();
        state.queue = held;
        drop(state);
        if !refused.is_empty() {
            let text = format!(
                "the disk of {} has {free} bytes left, too few for this delivery",
                self.shared.directory.display()
            );
            let error = Error::new(Code::SpoolFull, text).during("append");
            self.refuse(refused, &error);
            self.shared.room.notify_waiters();
        }
        (jobs, false)
    }

    /// Begins another segment, and makes it durable.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn roll(&mut self) -> Result<(), Error> {
        self.begin()?;
        match self.sync() && !self.renamed {
            true => Ok(()),
            false => Err(Error::new(Code::SpoolFailed, "a segment cannot be synced").during("spool")),
        }
    }

    fn serve(&mut self, jobs: impl IntoIterator<Item = WriterCommand>) {
        let mut group = RecordGroup::default();
        let mut marks: Vec<(SpoolId, WriterReply)> = Vec::new();
        let mut syncs = false;
        let mut refused: Option<Error> = None;
        for job in jobs {
            if let (Some(error), WriterCommand::Append { .. } | WriterCommand::Settled(..)) = (&refused, &job)
            {
                // Where no segment can be made, each of a long queue would try to make one.
                let error = error.clone();
                self.refuse(vec![waiting(job)], &error);
                continue;
            }
            match job {
                WriterCommand::Mark(mark, reply) => marks.push((mark, reply)),
                WriterCommand::Sync(reply) => {
                    if let Some(error) = self.untold.take() {
                        let _ = reply.send(Err(error));
                        continue;
                    }
                    syncs = true;
                    group.waiting.push(Waiter {
                        reply,
                        rows: 0..0,
                        queued: 0,
                        synced: true,
                    });
                }
                job => refused = self.put(&mut group, job).err(),
            }
            if group.bytes >= GROUP_BYTES {
                self.flush(&mut group);
            }
        }
        self.flush(&mut group);
        if syncs || self.dirty.len() > MAX_DIRTY || self.waiting.iter().any(|waiting| waiting.synced) {
            self.sync();
        }
        self.answer();
        if !marks.is_empty() {
            self.sync_names();
        }
        for (mark, reply) in marks {
            let through = self.cursor.last().through;
            let written = self.cursor.write(&*self.shared.disk, through, mark);
            let _ = reply.send(written.map_err(|error| self.error("cannot write the cursor of", &error)));
        }
    }

    /// Adds a record to the group.
    ///
    /// # Errors
    /// If there is no segment to write it to; the job was answered then.
    fn put(&mut self, group: &mut RecordGroup, job: WriterCommand) -> Result<(), Error> {
        let schema = match &job {
            WriterCommand::Append { schema, .. } => Some(Arc::clone(schema)),
            _ => None,
        };
        let payload = match &job {
            WriterCommand::Settled(ranges, _) => format::settled(ranges),
            _ => Vec::new(),
        };
        let queued = job.bytes();
        let needed = queued + format::record_bytes(payload.len());
        let is_full = self.active.as_ref().is_some_and(|active| {
            (active.used || group.bytes > 0)
                && active.length + group.bytes + needed > self.settings.segment_bytes
        });
        if is_full {
            self.flush(group);
            self.active = None;
        }
        if self.active.is_none() {
            self.flush(group);
            if let Err(error) = self.begin() {
                self.refuse(vec![waiting(job)], &error);
                return Err(error);
            }
        }
        let schema = schema.map_or(0, |schema| self.put_schema(group, schema));
        let (kind, image, rows, identity) = match job {
            WriterCommand::Append {
                image,
                first,
                rows,
                identity,
                reply,
                ..
            } => {
                let rows = first..first + rows;
                group.waiting.push(Waiter {
                    reply,
                    rows: rows.clone(),
                    queued,
                    synced: self.settings.durability == Durability::Synced,
                });
                (RecordKind::Batches, image, rows, identity)
            }
            job => {
                let position = self.next(group);
                group.waiting.push(Waiter {
                    reply: job.reply(),
                    rows: position..position,
                    queued: 0,
                    synced: self.settings.durability == Durability::Synced,
                });
                (
                    RecordKind::Settled,
                    RecordImage::of(&payload),
                    position..position,
                    0,
                )
            }
        };
        let header = RecordHeader {
            kind: kind as u8,
            length: image.length as u64,
            first: rows.start,
            rows: rows.end - rows.start,
            identity,
            time_ms: now_ms(),
            schema,
            payload_crc: image.crc,
        };
        self.place(group, header, image);
        Ok(())
    }

    /// The position of the next row behind the group.
    fn next(&self, group: &RecordGroup) -> u64 {
        let last = group.headers.last();
        last.map_or(self.end, |(header, _)| header.positions().end)
    }

    /// The offset of the record with the schema, which is added if the segment does not have it.
    fn put_schema(&mut self, group: &mut RecordGroup, schema: Arc<[u8]>) -> u64 {
        let first = self.next(group);
        let Some(active) = &mut self.active else { return 0 };
        if let Some((has, offset)) = &active.schema
            && *has == schema
        {
            return *offset;
        }
        let offset = active.length + group.bytes;
        let image = RecordImage::of(&schema);
        active.schema = Some((schema, offset));
        let header = RecordHeader {
            kind: RecordKind::Schema as u8,
            length: image.length as u64,
            first,
            rows: 0,
            identity: 0,
            time_ms: now_ms(),
            schema: 0,
            payload_crc: image.crc,
        };
        self.place(group, header, image);
        offset
    }

    fn place(&self, group: &mut RecordGroup, header: RecordHeader, mut image: RecordImage) {
        let Some(active) = &self.active else { return };
        let offset = active.length + group.bytes;
        image.bytes[..RECORD_HEADER].copy_from_slice(&header.encode(active.place, offset));
        group.bytes += image.bytes.len() as u64;
        group.headers.push((header, offset));
        group.images.push(image);
    }

    fn flush(&mut self, group: &mut RecordGroup) {
        let mut group = std::mem::take(group);
        let Some(active) = &mut self.active else {
            self.waiting.extend(group.waiting);
            return;
        };
        if group.images.is_empty() {
            self.waiting.extend(group.waiting);
            return;
        }
        let parts: Vec<&[u8]> = group.images.iter().map(|image| image.bytes.as_slice()).collect();
        if let Err(error) = active.file.write_all_vectored_at(&parts, active.length) {
            let error = errors::of_io("cannot write to", &active.path, &error);
            let is_definite = self.unwrite();
            self.refuse(group.waiting, &error.with_ambiguity(!is_definite));
            return;
        }
        active.length += group.bytes;
        active.used = true;
        let length = active.length;
        match self.dirty.iter_mut().find(|dirty| dirty.name == active.name) {
            Some(dirty) => dirty.length = length,
            None => self.dirty.push(UnsyncedFile {
                file: Arc::clone(&active.file),
                name: active.name,
                path: active.path.clone(),
                length,
            }),
        }
        let mut state = self.shared.state();
        state.used += group.bytes;
        for waiting in &mut group.waiting {
            state.queued_bytes -= std::mem::take(&mut waiting.queued);
        }
        if let Some(segment) = state.segments.back_mut() {
            segment.size += group.bytes;
            segment.is_blank = false;
        }
        for (header, offset) in &group.headers {
            if header.rows > 0 {
                self.totals.0 += header.rows;
                self.totals.1 += 1;
                self.end = header.positions().end;
                if let Some(segment) = state.segments.back_mut() {
                    segment.note(header.first, *offset);
                    segment.deliveries += 1;
                }
            }
        }
        state.written = self.end;
        drop(state);
        self.waiting.extend(group.waiting);
    }

    /// Answers those for whom it is enough that their rows are written.
    fn answer(&mut self) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.reply.send(Ok(()));
        }
    }

    /// Cuts off what a failed write has left. False if it may be found again.
    fn unwrite(&mut self) -> bool {
        let Some(active) = &mut self.active else {
            return true;
        };
        // A schema may have been among it.
        active.schema = None;
        let cut = active.file.set_length(active.length);
        let dirty = UnsyncedFile {
            file: Arc::clone(&active.file),
            name: active.name,
            path: active.path.clone(),
            length: active.length,
        };
        match cut {
            Ok(()) => {
                self.dirty.retain(|other| other.name != dirty.name);
                self.dirty.push(dirty);
                self.sync()
            }
            Err(error) => self.poison(errors::of_io("cannot cut", &dirty.path, &error)),
        }
    }

    fn refuse(&mut self, refused: Vec<Waiter>, error: &Error) {
        let mut state = self.shared.state();
        state.queued_bytes -= refused.iter().map(|waiting| waiting.queued).sum::<u64>();
        // Those that were written count until their segment goes.
        let unwritten = refused.iter().filter(|waiting| waiting.queued > 0).count() as u64;
        state.deliveries = state.deliveries.saturating_sub(unwritten);
        drop(state);
        for waiting in refused {
            self.shared.void(waiting.rows);
            let _ = waiting.reply.send(Err(error.clone()));
        }
    }

    /// Makes durable all that is written, and tells those who wait. False if what was refused may be found again.
    fn sync(&mut self) -> bool {
        if !self.stale.is_empty()
            && self.active.is_none()
            && let Err(error) = self.begin()
        {
            // Nothing keeps the positions of what is stale from being given again, so nobody may have it.
            self.tell(&error.with_ambiguity(true));
            return false;
        }
        for dirty in &self.dirty {
            if let Err(error) = dirty.file.sync_data() {
                let error = errors::of_io("cannot sync", &dirty.path, &error);
                return self.poison(error);
            }
        }
        if self.renamed {
            if let Err(error) = self.shared.sync_names() {
                let error = errors::of_io("cannot sync", &self.shared.directory, &error);
                return self.poison(error);
            }
            self.renamed = false;
        }
        self.publish();
        self.answer();
        true
    }

    /// Readers may have what is written.
    fn publish(&mut self) {
        let mut state = self.shared.state();
        self.synced_totals = self.totals;
        let dirty = self.dirty.drain(..).map(|dirty| (dirty.name, dirty.length));
        for (name, length) in self.stale.drain(..).chain(dirty) {
            if let Some(segment) = state.segment(name) {
                segment.bytes = length;
            }
        }
        state.readable = self.end;
        drop(state);
        self.readable.send_replace(self.end);
    }

    /// A sync has failed: goes on in another segment, if one can be made, before anybody is told.
    fn poison(&mut self, error: Error) -> bool {
        self.active = None;
        match self.settings.durability {
            Durability::Synced => {
                self.dirty.clear();
                self.totals = self.synced_totals;
                let mut state = self.shared.state();
                self.end = state.readable;
                state.written = self.end;
            }
            // It was answered and may still be there: it counts.
            Durability::Written => {
                let dirty = self.dirty.drain(..).map(|dirty| (dirty.name, dirty.length));
                self.stale.extend(dirty);
                let is_told = self.waiting.iter().any(|waiting| waiting.synced);
                self.untold = (!is_told).then(|| error.clone());
            }
        }
        let begun = self.begin().is_ok() && self.is_begun();
        match begun {
            true => self.publish(),
            false => {
                self.active = None;
                self.dirty.clear();
                self.renamed = false;
            }
        }
        self.tell(&error.with_ambiguity(!begun));
        begun
    }

    /// Tells those who wait for a sync that it has failed, and the others that all is well.
    fn tell(&mut self, error: &Error) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (refused, written) = waiting.partition(|waiting| waiting.synced);
        self.waiting = written;
        self.answer();
        self.refuse(refused, error);
    }

    /// Makes names durable before somebody else syncs the directory: if that sync failed, a later one would say
    /// "fine" of the names of our segments and know nothing.
    fn sync_names(&mut self) {
        if !self.renamed {
            return;
        }
        match self.shared.sync_names() {
            Ok(()) => self.renamed = false,
            Err(error) => {
                self.poison(errors::of_io("cannot sync", &self.shared.directory, &error));
            }
        }
    }

    fn is_begun(&mut self) -> bool {
        let synced = self
            .active
            .as_ref()
            .is_some_and(|active| active.file.sync_data().is_ok())
            && self.shared.sync_names().is_ok();
        self.renamed = self.renamed && !synced;
        synced
    }

    /// A new segment.
    fn begin(&mut self) -> Result<(), Error> {
        let name = SegmentName {
            sequence: self.sequence,
            first: self.end,
        };
        if name.sequence > SegmentName::MAX_SEQUENCE {
            let message = "the spool has no names for segments left";
            return Err(Error::new(Code::SpoolFull, message).during("spool"));
        }
        if self.dirty.is_empty() {
            self.shared.forget_names();
        }
        // A name that could not be given may be there all the same.
        self.sequence += 1;
        let shared = Arc::clone(&self.shared);
        let path = shared
            .directory
            .join(format!("{}{}", name.stem(), SegmentName::ENDING));
        let header = SegmentHeader {
            id: shared.id,
            name,
            created_ms: now_ms(),
            rows_before: self.totals.0,
            deliveries_before: self.totals.1,
        };
        let place = RecordPlace::new(&shared.id, name.sequence);
        let ranges = shared.state().unsaved_ranges();
        let mut known = RecordImage::of(&format::state(&self.settings.target, &ranges));
        let record = RecordHeader {
            kind: RecordKind::State as u8,
            length: known.length as u64,
            first: name.first,
            rows: 0,
            identity: 0,
            time_ms: header.created_ms,
            schema: 0,
            payload_crc: known.crc,
        };
        let offset = format::SEGMENT_HEADER as u64;
        known.bytes[..RECORD_HEADER].copy_from_slice(&record.encode(place, offset));
        let failed = |error: &io::Error| errors::of_io("cannot create", &path, error);
        let file = shared
            .disk
            .create_private(&path)
            .map_err(|error| failed(&error))?;
        self.renamed = true;
        if let Err(error) = file.write_all_vectored_at(&[&header.encode(), &known.bytes], 0) {
            let _ = shared.disk.unlink(&path);
            return Err(failed(&error));
        }
        let length = offset + known.bytes.len() as u64;
        let file: Arc<dyn DiskFile> = Arc::from(file);
        let mut segment = Segment::new(name, path.clone(), &shared.id, 0);
        segment.size = length;
        segment.is_blank = true;
        let mut state = shared.state();
        let mut void = Vec::new();
        // Of these every row was refused, and their names would be out of order. Or they hold nothing and their sync
        // has failed: a disk that goes on failing would be filled with them.
        let is_void = |last: &mut Segment| {
            last.name.first > name.first
                || (last.is_blank && last.bytes == 0 && last.name.first == name.first)
        };
        while let Some(last) = state.segments.pop_back_if(is_void) {
            state.used = state.used.saturating_sub(last.size);
            state.deliveries = state.deliveries.saturating_sub(last.deliveries);
            void.push(last.path);
        }
        state.segments.push_back(segment);
        state.used += length;
        drop(state);
        for path in void {
            // One that stays counts for nothing, and goes when the spool is opened.
            let _ = shared.disk.unlink(&path);
        }
        self.dirty.push(UnsyncedFile {
            file: Arc::clone(&file),
            name,
            path: path.clone(),
            length,
        });
        self.active = Some(ActiveSegment {
            file,
            name,
            path,
            place,
            length,
            used: false,
            schema: None,
        });
        Ok(())
    }

    /// Brings to the disk what was settled, if it is time, and deletes what nobody needs any more.
    ///
    /// # Errors
    /// What the disk says; it is tried again later.
    fn settle(&mut self, now: Instant, closing: bool) -> io::Result<()> {
        let (is_due, acknowledged, unlogged, wants_sync) = {
            let mut state = self.shared.state();
            let is_late = state.unsaved_since.is_some_and(|since| now >= since + MAX_LAG);
            let is_first = state.acknowledged && self.saved.is_none_or(|saved| now >= saved + MAX_LAG);
            let is_due = state.is_unsaved()
                && (closing
                    || is_late
                    || is_first
                    || state.wants_room
                    || self.short
                    || state.lag() >= MAX_LAG_BYTES);
            let acknowledged = is_due && std::mem::take(&mut state.acknowledged);
            let mut unlogged = Vec::new();
            if is_due {
                let through = state.settled.through();
                unlogged = std::mem::take(&mut state.unlogged);
                unlogged.retain(|range| range.end > through);
            }
            let ahead = is_due && state.settled.through() > state.readable;
            let asked = std::mem::take(&mut state.wants_sync) || closing || ahead;
            (
                is_due,
                acknowledged,
                unlogged,
                asked && state.written > state.readable,
            )
        };
        if !unlogged.is_empty() {
            self.log(unlogged)?;
        }
        let is_synced = !wants_sync || self.sync();
        if !is_synced {
            self.shared.state().wants_sync = true;
        }
        if is_due {
            self.sync_names();
            self.save()?;
        }
        if acknowledged {
            self.saved = Some(now);
        }
        self.make_room()?;
        self.delete()?;
        match is_synced {
            true => Ok(()),
            // A reader waits for it.
            false => Err(io::ErrorKind::Other.into()),
        }
    }

    /// Writes ranges that were settled out of order to the log.
    fn log(&mut self, ranges: Vec<Range<u64>>) -> io::Result<()> {
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        self.serve([WriterCommand::Settled(ranges.clone(), reply)]);
        match answer.try_recv() {
            Ok(Ok(())) => Ok(()),
            _ => {
                self.shared.state().unlogged.extend(ranges);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn save(&mut self) -> io::Result<()> {
        let through = {
            let state = self.shared.state();
            state.settled.through().min(state.readable)
        };
        if through > self.cursor.last().through || !self.cursor.is_synced() {
            let mark = self.cursor.last().mark;
            self.cursor.write(&*self.shared.disk, through, mark)?;
        }
        let mut state = self.shared.state();
        state.saved = self.cursor.last().through;
        if !state.is_unsaved() {
            state.unsaved_since = None;
        } else {
            state.unsaved_since = Some(Instant::now());
        }
        Ok(())
    }

    /// If somebody waits for room and all that is in the last segment is settled, begins another one, so that it
    /// can be deleted.
    fn make_room(&mut self) -> io::Result<()> {
        let is_settled = {
            let state = self.shared.state();
            let last = state.segments.back();
            let is_used = self.active.as_ref().is_none_or(|active| active.used) && last.is_some();
            (state.wants_room || self.short) && is_used && state.saved >= self.end
        };
        if is_settled {
            self.active = None;
            let begun = self.begin().is_ok() && self.sync();
            return match begun {
                true => Ok(()),
                false => Err(io::ErrorKind::Other.into()),
            };
        }
        Ok(())
    }

    fn delete(&mut self) -> io::Result<()> {
        let mut deleted = false;
        loop {
            let front = {
                let state = self.shared.state();
                let is_settled = state
                    .segments
                    .get(1)
                    .is_some_and(|next| next.name.first <= state.saved);
                let front = state.segments.front().filter(|_| is_settled);
                front.map(|front| (front.path.clone(), front.keep))
            };
            let Some((path, keep)) = front else { break };
            self.sync_names();
            let gone = match keep {
                true => aside::take(&*self.shared.disk, &self.shared.directory, &path),
                false => self.shared.disk.unlink(&path),
            };
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            deleted = true;
            let mut state = self.shared.state();
            if let Some(front) = state.segments.pop_front() {
                state.used = state.used.saturating_sub(if keep { 0 } else { front.size });
                state.deliveries = state.deliveries.saturating_sub(front.deliveries);
            }
        }
        if deleted {
            self.shared.room.notify_waiters();
            // There may be room for what is in the queue.
            self.short = false;
            self.shared.disk.sync_directory(&self.shared.directory)?;
        }
        Ok(())
    }

    fn error(&self, what: &str, error: &io::Error) -> Error {
        errors::of_io(what, &self.shared.directory, error)
    }
}

impl Drop for Writer {
    /// However it ends, nobody waits for it any more and somebody else may open the spool.
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let was_closed = std::mem::replace(&mut state.closed, true);
        let unserved = std::mem::take(&mut state.queue);
        drop(state);
        for job in unserved {
            let error = Error::new(Code::Internal, "the spool's writer has ended").during("spool");
            let _ = job.reply().send(Err(error));
        }
        self.shared.room.notify_waiters();
        self.shared
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if was_closed {
            closing::end(&self.shared.directory);
        }
    }
}

fn waiting(job: WriterCommand) -> Waiter {
    let queued = job.bytes();
    let rows = match &job {
        WriterCommand::Append { first, rows, .. } => *first..first + rows,
        _ => 0..0,
    };
    Waiter {
        reply: job.reply(),
        rows,
        queued,
        synced: true,
    }
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}
