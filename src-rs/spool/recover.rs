//! What is found when a spool is opened.
//!
//! Invariants:
//! - Damage never makes an opening fail; a newer format and an error of the disk do.
//! - Nothing is changed before it is known that the format is ours, and nothing at all for a visitor.
//! - Read are the headers of all segments, all of the last segment, and of the segment that has the cursor the
//!   records below it. So the time of an opening does not grow with the rows that wait.
//! - What is found in the last segment is synced before it counts as durable: the process that wrote it may have
//!   been killed before its sync, and the power may go after this opening.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    self, CursorSlot, DecodedHeader, RecordHeader, RecordKind, RecordPlace, SEGMENT_HEADER, SegmentHeader,
    SegmentName, SpoolId,
};
use super::ranges::SettledPositions;
use super::scan::{ScanStep, SegmentEnd, SegmentScan};
use super::shared::Segment;
use super::{aside, cursor, errors};
use crate::error::{Code, Error, Result};
use crate::file_system::Disk;

/// Positions go on at the next multiple of this where an end could not be read: more than it can have held.
const JUMP: u64 = 1 << 32;

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Who holds the lock: what is no part of the log is set aside, and what is found is made durable.
    Owner,
    /// Who does not, while somebody else may write. What an owner would set aside or delete stays where it is.
    Visitor,
}

/// All that is known of a spool.
#[derive(Debug)]
pub struct FoundSpool {
    pub id: SpoolId,
    pub segments: Vec<Segment>,
    /// Rows that are found lie below.
    pub end: u64,
    /// The next position to give.
    pub next: u64,
    /// Of the next segment.
    pub sequence: u64,
    pub settled: SettledPositions,
    /// None if there is none yet, or none can be read.
    pub target: Option<String>,
    /// The cursor, if one of its slots is whole.
    pub slot: Option<CursorSlot>,
    /// There is a file of that name, and it is not this spool's cursor.
    pub foreign_cursor: bool,
    /// Rows and deliveries that were ever appended.
    pub totals: (u64, u64),
    pub left: Unsettled,
    /// Segments of other spools, left alone.
    pub foreign: Vec<PathBuf>,
    /// Segments with a damaged header, to be set aside because no other file says what spool they belong to.
    pub taken: Vec<PathBuf>,
    /// Segments whose header is damaged.
    pub headless: Vec<PathBuf>,
    /// Of the end of the last segment, in bytes.
    pub cut: u64,
}

/// What is not settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsettled {
    pub deliveries: u64,
    pub rows: u64,
    pub bytes: u64,
    pub oldest_ms: Option<u64>,
}

struct SegmentFile {
    name: SegmentName,
    path: PathBuf,
    length: u64,
    header: DecodedHeader<SegmentHeader>,
}

impl SegmentFile {
    fn scan(&self, disk: &dyn Disk, id: &SpoolId) -> io::Result<SegmentScan> {
        let place = RecordPlace::new(id, self.name.sequence);
        Ok(SegmentScan::new(
            Arc::from(disk.open_to_read(&self.path)?),
            place,
            self.length,
        ))
    }

    fn before(&self) -> (u64, u64) {
        match &self.header {
            DecodedHeader::Whole(header) => (header.rows_before, header.deliveries_before),
            _ => (0, 0),
        }
    }
}

/// # Errors
/// `SPOOL_FORMAT`, and what the disk says.
pub fn find(disk: &dyn Disk, directory: &Path, access: Access) -> Result<FoundSpool> {
    let failed = |error: &io::Error| errors::of_io("cannot read", directory, error);
    let files = files(disk, directory)?;
    let cursor = cursor::read(disk, directory).map_err(|error| failed(&error))?;
    let newer = files.iter().find_map(|file| match file.header {
        DecodedHeader::Newer(version) => Some(version),
        _ => None,
    });
    if let Some(version) = newer.or(cursor.newer) {
        let message = format!(
            "the spool {} is of format {version}, and this release reads format {} only",
            directory.display(),
            format::VERSION
        );
        return Err(Error::new(Code::SpoolFormat, message).during("spool"));
    }
    let sequence = files
        .iter()
        .map(|file| file.name.sequence)
        .max()
        .map_or(1, |last| last + 1);
    let floor = files.iter().map(|file| file.name.first).max().unwrap_or(0);
    let named: Vec<SpoolId> = files
        .iter()
        .rev()
        .filter_map(|file| match &file.header {
            DecodedHeader::Whole(header) if header.name == file.name => Some(header.id),
            _ => None,
        })
        .collect();
    // A segment that somebody has put here may be newer than all of ours: the cursor knows better.
    let known = cursor.slots.iter().max_by_key(|slot| slot.number);
    let known = known
        .map(|slot| slot.id)
        .filter(|id| named.is_empty() || named.contains(id))
        .or(named.first().copied());
    let id = known.unwrap_or_else(|| uuid::Uuid::new_v4().into_bytes());
    let (ours, others): (Vec<SegmentFile>, Vec<SegmentFile>) =
        files.into_iter().partition(|file| match &file.header {
            DecodedHeader::Whole(header) => header.id == id && header.name == file.name,
            _ => known.is_some(),
        });
    let (unknown, foreign): (Vec<SegmentFile>, Vec<SegmentFile>) = others
        .into_iter()
        .partition(|file| file.header == DecodedHeader::Damaged);
    let set_aside = |files: &[SegmentFile]| match access {
        Access::Owner => files.iter().try_for_each(|file| {
            aside::take(disk, directory, &file.path)
                .map_err(|error| errors::of_io("cannot set aside", &file.path, &error))
        }),
        Access::Visitor => Ok(()),
    };
    // Without an id no record of these can be told from other bytes.
    set_aside(&unknown)?;
    let (ours, contradicting) = without_void(disk, ours, &id, access).map_err(|error| failed(&error))?;
    set_aside(&contradicting)?;
    let headless = ours.iter().filter(|file| file.header == DecodedHeader::Damaged);
    let slot = cursor
        .slots
        .iter()
        .filter(|slot| slot.id == id)
        .max_by_key(|slot| slot.number);
    let mut found = FoundSpool {
        id,
        segments: Vec::new(),
        end: 0,
        next: if unknown.is_empty() { 0 } else { jump(floor) },
        sequence,
        settled: SettledPositions::default(),
        target: None,
        slot: slot.copied(),
        foreign_cursor: slot.is_none() && (cursor.damaged || !cursor.slots.is_empty()),
        totals: (0, 0),
        left: Unsettled::default(),
        foreign: foreign.into_iter().map(|file| file.path).collect(),
        taken: unknown
            .into_iter()
            .chain(contradicting)
            .map(|file| file.path)
            .collect(),
        headless: headless.map(|file| file.path.clone()).collect(),
        cut: 0,
    };
    let through = slot.map_or(0, |slot| slot.through);
    found.settled.settle(0..through);
    found.next = found.next.max(through);
    if let Some(last) = ours.last() {
        if access == Access::Owner {
            disk.open(&last.path)
                .and_then(|file| file.sync_data())
                .map_err(|error| errors::of_io("cannot sync", &last.path, &error))?;
            disk.sync_directory(directory)
                .map_err(|error| errors::of_io("cannot sync", directory, &error))?;
        }
        read(disk, &mut found, &ours).map_err(|error| failed(&error))?;
    }
    found.end = found.end.max(through);
    found.next = found.next.max(found.end);
    // What is settled may reach above what is found: a row that were given such a position would be lost.
    found.next = found.next.max(found.settled.last());
    found.settled.settle(found.end..found.next);
    Ok(found)
}

/// Without the segments that begin above a later one: every row of theirs was refused, and they may go. And
/// without the later one, given second, if nothing but its name says so: nothing is deleted for a name.
fn without_void(
    disk: &dyn Disk,
    files: Vec<SegmentFile>,
    id: &SpoolId,
    access: Access,
) -> io::Result<(Vec<SegmentFile>, Vec<SegmentFile>)> {
    let mut counting = Vec::with_capacity(files.len());
    let mut contradicting = Vec::new();
    let mut bound = u64::MAX;
    let highest: Vec<u64> = files
        .iter()
        .scan(0, |highest: &mut u64, file| {
            *highest = file.name.first.max(*highest);
            Some(*highest)
        })
        .collect();
    for (file, highest) in files.into_iter().zip(highest).rev() {
        if file.header == DecodedHeader::Damaged && file.name.first < highest && !has_record(disk, &file, id)?
        {
            contradicting.push(file);
            continue;
        }
        if file.name.first > bound {
            if access == Access::Owner {
                // One that stays is met by the next opening.
                let _ = disk.unlink(&file.path);
            }
            continue;
        }
        bound = file.name.first;
        counting.push(file);
    }
    counting.reverse();
    Ok((counting, contradicting))
}

/// Whether anything in the file is of this spool.
fn has_record(disk: &dyn Disk, file: &SegmentFile, id: &SpoolId) -> io::Result<bool> {
    let mut scan = file.scan(disk, id)?;
    loop {
        match scan.next()? {
            ScanStep::Record(_) => return Ok(true),
            ScanStep::Damage { .. } => {}
            ScanStep::End(_) => return Ok(false),
        }
    }
}

fn files(disk: &dyn Disk, directory: &Path) -> Result<Vec<SegmentFile>> {
    let paths = disk
        .list(directory)
        .map_err(|error| errors::of_io("cannot list", directory, &error))?;
    let mut named: Vec<(SegmentName, PathBuf)> = paths
        .into_iter()
        .filter_map(|path| Some((SegmentName::of(&path)?, path)))
        .collect();
    named.sort();
    let mut files = Vec::with_capacity(named.len());
    for (name, path) in named {
        let file = open(disk, name, &path).map_err(|error| errors::of_io("cannot read", &path, &error))?;
        files.push(file);
    }
    Ok(files)
}

fn open(disk: &dyn Disk, name: SegmentName, path: &Path) -> io::Result<SegmentFile> {
    // Closed again: there may be more segments than a process may have files open.
    let file = disk.open_to_read(path)?;
    let mut header = [0; SEGMENT_HEADER];
    let read = file.read_full_at(&mut header, 0)?;
    Ok(SegmentFile {
        name,
        path: path.into(),
        length: file.length()?,
        header: SegmentHeader::decode(&header[..read]),
    })
}

fn read(disk: &dyn Disk, found: &mut FoundSpool, files: &[SegmentFile]) -> io::Result<()> {
    let id = found.id;
    for file in files {
        let mut segment = Segment::new(file.name, file.path.clone(), &id, file.length);
        segment.unsynced = true;
        found.segments.push(segment);
    }
    for at in 1..files.len() {
        if let (DecodedHeader::Whole(header), DecodedHeader::Whole(next)) =
            (&files[at - 1].header, &files[at].header)
        {
            found.segments[at - 1].deliveries =
                next.deliveries_before.saturating_sub(header.deliveries_before);
        }
    }
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut has_state = false;
    let mut is_counted = false;
    // The last segment says all, unless its state or its header cannot be read.
    for (index, file) in files.iter().enumerate().rev() {
        let is_last = index + 1 == files.len();
        let seen = look(disk, file, &id)?;
        if !has_state {
            ranges.extend(seen.ranges);
            found.target = found.target.take().or(seen.target);
            has_state = seen.has_state;
        }
        if !is_counted {
            let (rows, deliveries) = file.before();
            found.totals.0 += rows + seen.rows;
            found.totals.1 += deliveries + seen.deliveries;
            is_counted = matches!(file.header, DecodedHeader::Whole(_));
        }
        if is_last {
            found.end = seen.end.max(file.name.first);
            let segment = &mut found.segments[index];
            segment.unsynced = false;
            segment.deliveries = seen.deliveries;
            if let SegmentEnd::Torn(from) | SegmentEnd::Damaged(from) = seen.rest {
                found.cut = file.length - from;
                found.next = found.next.max(jump(found.end));
                // A torn end was never answered. A damaged end is set aside by the reader that comes to it.
                if let SegmentEnd::Torn(_) = seen.rest {
                    segment.bytes = from;
                }
            }
        }
        if has_state && is_counted {
            break;
        }
    }
    for range in ranges {
        found.settled.settle(range);
    }
    found.left = left(disk, found, files)?;
    Ok(())
}

/// What one segment says.
struct SegmentContent {
    end: u64,
    rows: u64,
    deliveries: u64,
    target: Option<String>,
    ranges: Vec<Range<u64>>,
    has_state: bool,
    rest: SegmentEnd,
}

fn look(disk: &dyn Disk, file: &SegmentFile, id: &SpoolId) -> io::Result<SegmentContent> {
    let mut scan = file.scan(disk, id)?;
    let mut seen = SegmentContent {
        end: 0,
        rows: 0,
        deliveries: 0,
        target: None,
        ranges: Vec::new(),
        has_state: false,
        rest: SegmentEnd::Nothing,
    };
    loop {
        let record = match scan.next()? {
            ScanStep::Record(record) => record,
            ScanStep::Damage { .. } => continue,
            ScanStep::End(rest) => {
                seen.rest = rest;
                return Ok(seen);
            }
        };
        seen.end = seen.end.max(record.header.positions().end);
        match RecordKind::of(record.header.kind) {
            Some(RecordKind::State) => {
                if let Some((target, ranges)) = format::parse_state(&record.payload) {
                    seen.target = Some(target);
                    seen.ranges.extend(ranges);
                    seen.has_state = true;
                }
            }
            Some(RecordKind::Settled) => {
                seen.ranges
                    .extend(format::parse_settled(&record.payload).unwrap_or_default());
            }
            Some(RecordKind::Batches) => {
                seen.rows += record.header.rows;
                seen.deliveries += 1;
            }
            Some(RecordKind::Schema) | None => {}
        }
    }
}

/// What is not settled: as near as can be told without reading all of it.
fn left(disk: &dyn Disk, found: &FoundSpool, files: &[SegmentFile]) -> io::Result<Unsettled> {
    let through = found.settled.through();
    let after = files.partition_point(|file| file.name.first <= through);
    let at = after.saturating_sub(1);
    let Some(file) = files.get(at) else {
        return Ok(Unsettled::default());
    };
    let mut scan = file.scan(disk, &found.id)?;
    let (mut rows, mut deliveries) = file.before();
    let is_batches = |header: &RecordHeader| header.kind == RecordKind::Batches as u8;
    scan.skip_below(through, |header| {
        if is_batches(header) {
            rows += header.rows;
            deliveries += 1;
        }
    })?;
    let mut oldest_ms = None;
    let offset = scan.offset();
    if let ScanStep::Record(record) = scan.next()? {
        // Of a delivery that is settled in part, the rest.
        rows += through
            .saturating_sub(record.header.first)
            .min(record.header.rows);
        oldest_ms = is_batches(&record.header).then_some(record.header.time_ms);
    }
    // Both count too much, and neither too little: settled positions may never have had rows, and of the rows some
    // are settled.
    let open = found.settled.holes(through..found.end);
    let open: u64 = open.iter().map(|hole| hole.end - hole.start).sum();
    let sizes: u64 = found.segments[at..].iter().map(|segment| segment.bytes).sum();
    let all = Unsettled {
        deliveries: found.totals.1.saturating_sub(deliveries),
        rows: found.totals.0.saturating_sub(rows).min(open),
        bytes: sizes.saturating_sub(offset),
        oldest_ms,
    };
    match through >= found.end {
        true => Ok(Unsettled::default()),
        false => Ok(all),
    }
}

fn jump(position: u64) -> u64 {
    (position | (JUMP - 1)).saturating_add(1)
}
