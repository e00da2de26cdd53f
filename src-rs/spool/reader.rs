//! Reads what is not settled, in order, one delivery at a time.
//!
//! Invariants:
//! - Only synced rows are given: so a position that a destination has seen is never that of another row.
//! - Bytes that cannot be read are set aside and reported once, and reading goes on behind them.
//! - Positions that no record has are settled here, or the cursor would stop at them.
//! - Memory is bounded by the largest delivery.
//!
//! Its calls wait for the disk: they belong on threads that may ([`crate::disk`]).

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;

use super::format::{RecordKind, SegmentName};
use super::scan::{Record, ScanStep, SegmentEnd, SegmentScan};
use super::shared::SharedSpool;
use super::{aside, encode, errors};
use crate::error::Result;
use crate::file_system::DiskFile;

/// What a reader gives next: rows, or damage.
#[derive(Debug, Clone)]
pub enum SpoolEntry {
    Rows(SpoolRows),
    Damage(Damage),
}

/// Rows of one delivery that are not settled and follow each other.
#[derive(Debug, Clone)]
pub struct SpoolRows {
    pub positions: Range<u64>,
    /// Of all rows of the delivery.
    pub delivery: Range<u64>,
    pub identity: u64,
    /// When it was appended, in milliseconds since 1970.
    pub time_ms: u64,
    pub batches: Vec<RecordBatch>,
    /// What they take in memory.
    pub bytes: usize,
}

/// Bytes that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub segment: PathBuf,
    pub offset: u64,
    pub bytes: u64,
    /// Where they are now. None if there was no room for a copy: the segment is kept then.
    pub set_aside: Option<PathBuf>,
    pub reason: String,
}

#[derive(Debug)]
pub struct Reader {
    shared: Arc<SharedSpool>,
    /// All rows below were given, or are settled.
    position: u64,
    open: Option<OpenSegment>,
    ready: VecDeque<SpoolEntry>,
}

#[derive(Debug)]
struct OpenSegment {
    name: SegmentName,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    scan: SegmentScan,
    schema: SchemaCache,
}

/// The schema that was needed last, and where it is.
#[derive(Debug, Default)]
pub(super) struct SchemaCache(Option<(u64, Buffer)>);

impl SchemaCache {
    /// The rows of a batches record that counts.
    ///
    /// # Errors
    /// What the disk says. Within: in words, why they cannot be read.
    pub(super) fn decode(
        &mut self,
        scan: &mut SegmentScan,
        record: &Record,
    ) -> io::Result<Result<Vec<RecordBatch>, String>> {
        Ok(match self.schema(scan, record.header.schema)? {
            Some(schema) => encode::decode(&schema, &record.payload, record.header.rows),
            None => Err("its schema cannot be read".into()),
        })
    }

    /// The payload of the schema's record at this place. None if there is none.
    fn schema(&mut self, scan: &mut SegmentScan, offset: u64) -> io::Result<Option<Buffer>> {
        if let Some((at, schema)) = &self.0
            && *at == offset
        {
            return Ok(Some(schema.clone()));
        }
        let record = scan.record_at(offset)?;
        let schema = record.filter(|record| RecordKind::of(record.header.kind) == Some(RecordKind::Schema));
        self.0 = schema.map(|record| (offset, record.payload));
        Ok(self.0.as_ref().map(|(_, schema)| schema.clone()))
    }
}

/// Where to read next, as of one moment.
struct ReadTarget {
    name: SegmentName,
    path: PathBuf,
    bytes: u64,
    /// No row of the segment at or above this counts.
    bound: u64,
    /// There is a later segment.
    has_next: bool,
}

impl Reader {
    pub(super) fn new(shared: Arc<SharedSpool>, position: u64) -> Reader {
        Reader {
            shared,
            position,
            open: None,
            ready: VecDeque::new(),
        }
    }

    /// Rows below this were given or need not be.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// None when it has come to the end of what is synced.
    ///
    /// # Errors
    /// What the disk says; the next call goes on at the same place.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator that errs would be over; this one goes on"
    )]
    pub fn next(&mut self) -> Result<Option<SpoolEntry>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let Some(plan) = self.plan() else {
                return Ok(None);
            };
            let path = plan.path.clone();
            match self.step(&plan) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // It was deleted meanwhile, because all in it is settled.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.open = None;
                    let front = self.shared.state().segments.front().map(|front| front.name);
                    if front.is_none_or(|front| front <= plan.name) {
                        return Err(errors::of_io("cannot read", &path, &error));
                    }
                }
                Err(error) => return Err(errors::of_io("cannot read", &path, &error)),
            }
        }
    }

    fn plan(&mut self) -> Option<ReadTarget> {
        let mut state = self.shared.state();
        if self.position >= state.readable {
            let last = state.segments.back().map(|last| last.name);
            // A file that was deleted takes room for as long as somebody has it open, and others wait for that.
            let has_left = self.open.take_if(|open| Some(open.name) != last).is_some();
            let is_waited_for = has_left && (state.wants_room || !state.queue.is_empty());
            let wants_sync = state.written > state.readable;
            state.wants_sync |= wants_sync;
            if wants_sync || is_waited_for {
                self.shared.wake_writer(state);
            }
            return None;
        }
        // What is settled need not be looked for, but a segment is read from where the reader is.
        let (at, bound) = state.find(self.position)?;
        let segment = &state.segments[at];
        Some(ReadTarget {
            name: segment.name,
            path: segment.path.clone(),
            bytes: segment.bytes,
            bound,
            has_next: at + 1 < state.segments.len(),
        })
    }

    /// Goes on by one record. False at the end of all.
    fn step(&mut self, plan: &ReadTarget) -> io::Result<bool> {
        let mut open = match self.open.take() {
            Some(open) if open.name == plan.name => open,
            _ => self.enter(plan)?,
        };
        open.scan.extend(plan.bytes);
        let step = open.scan.next();
        let more = match step {
            Ok(ScanStep::Record(record)) => self.record(&mut open, plan, record).map(|()| true),
            Ok(ScanStep::Damage { from, to }) => {
                self.damaged(&open, from, to, "no record".into());
                Ok(true)
            }
            Ok(ScanStep::End(rest)) => {
                if let SegmentEnd::Damaged(from) = rest {
                    self.damaged(&open, from, plan.bytes, "no record".into());
                }
                self.pass(plan.bound);
                Ok(plan.has_next || !self.ready.is_empty())
            }
            Err(error) => Err(error),
        };
        if more.is_ok() {
            self.open = Some(open);
        }
        more
    }

    /// No record has a row below this that was not met.
    fn pass(&mut self, position: u64) {
        if position > self.position {
            self.shared.void(self.position..position);
            self.position = position;
        }
    }

    fn enter(&self, plan: &ReadTarget) -> io::Result<OpenSegment> {
        let (place, offset, unsynced) = {
            let mut state = self.shared.state();
            let segment = state.segment(plan.name);
            let Some(segment) = segment else {
                return Err(io::ErrorKind::NotFound.into());
            };
            // Tried once: after a sync that failed, a second one can succeed without the bytes being on the disk.
            let unsynced = std::mem::take(&mut segment.unsynced);
            (segment.place, segment.offset(self.position), unsynced)
        };
        let file: Arc<dyn DiskFile> = Arc::from(self.shared.disk.open(&plan.path)?);
        if unsynced {
            file.sync_data()?;
        }
        let mut scan = SegmentScan::new(Arc::clone(&file), place, plan.bytes);
        if let Some(offset) = offset {
            scan.seek(offset);
        }
        scan.skip_below(self.position, |_| {})?;
        Ok(OpenSegment {
            name: plan.name,
            path: plan.path.clone(),
            file,
            scan,
            schema: SchemaCache::default(),
        })
    }

    fn record(&mut self, open: &mut OpenSegment, plan: &ReadTarget, record: Record) -> io::Result<()> {
        let positions = record.header.positions();
        let counts = positions.end <= plan.bound && positions.end > self.position;
        if RecordKind::of(record.header.kind) != Some(RecordKind::Batches) || !counts {
            return Ok(());
        }
        let holes = {
            let mut state = self.shared.state();
            if let Some(segment) = state.segment(plan.name) {
                segment.note(positions.start, record.offset);
            }
            state
                .settled
                .holes(positions.start.max(self.position)..positions.end)
        };
        if !holes.is_empty() {
            match open.schema.decode(&mut open.scan, &record) {
                Err(error) => {
                    open.scan.seek(record.offset);
                    return Err(error);
                }
                Ok(Ok(batches)) => {
                    self.pass(positions.start);
                    self.ready.extend(holes.into_iter().map(|hole| {
                        SpoolEntry::Rows(SpoolRows {
                            batches: slice(
                                &batches,
                                hole.start - positions.start,
                                hole.end - positions.start,
                            ),
                            bytes: share(&hole, &positions, record.payload.len()),
                            positions: hole,
                            delivery: positions.clone(),
                            identity: record.header.identity,
                            time_ms: record.header.time_ms,
                        })
                    }));
                }
                // Its positions are settled when the next record, or the end, is met.
                Ok(Err(reason)) => {
                    let to = record.offset + record.header.total();
                    self.damaged(open, record.offset, to, reason);
                    return Ok(());
                }
            }
        }
        self.pass(positions.start);
        self.position = positions.end;
        Ok(())
    }

    fn damaged(&mut self, open: &OpenSegment, from: u64, to: u64, reason: String) {
        let stem = open.name.stem();
        let shared = &self.shared;
        // Who reads on after the spool was closed writes nothing: somebody else may have opened it.
        let lock = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let set_aside = match lock.is_some() {
            true => aside::copy(
                &*shared.disk,
                &shared.directory,
                &|| shared.sync_names(),
                &stem,
                &*open.file,
                from,
                to,
            ),
            false => Err(io::ErrorKind::Other.into()),
        };
        drop(lock);
        let mut state = shared.state();
        let set_aside = match set_aside {
            // An earlier process has told of it.
            Ok(None) => return,
            Ok(Some((path, more))) => {
                state.used += more;
                state.aside += more;
                Some(path)
            }
            Err(_) => {
                if let Some(segment) = state.segment(open.name) {
                    segment.keep = true;
                }
                None
            }
        };
        drop(state);
        self.ready.push_back(SpoolEntry::Damage(Damage {
            segment: open.path.clone(),
            offset: from,
            bytes: to - from,
            set_aside,
            reason,
        }));
    }
}

/// The bytes of some rows of a delivery, by their number.
fn share(rows: &Range<u64>, all: &Range<u64>, bytes: usize) -> usize {
    let (some, all) = (rows.end - rows.start, (all.end - all.start).max(1));
    (bytes as u128 * u128::from(some) / u128::from(all)) as usize
}

/// Some rows of all batches together.
pub(super) fn slice(batches: &[RecordBatch], from: u64, to: u64) -> Vec<RecordBatch> {
    let mut first = 0;
    let mut sliced = Vec::new();
    for batch in batches {
        let rows = batch.num_rows() as u64;
        let (start, end) = (from.max(first), to.min(first + rows));
        if start < end {
            sliced.push(batch.slice((start - first) as usize, (end - start) as usize));
        }
        first += rows;
    }
    sliced
}

/// Who has the spool open, as its owner wrote it down.
pub(super) fn owner(disk: &dyn crate::file_system::Disk, path: &Path) -> Option<String> {
    let bytes = disk.open(path).ok()?.read_to_end_at(0).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}
