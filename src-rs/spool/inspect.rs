//! A look at a spool from outside, beside the process that may have it open.
//!
//! Invariants:
//! - Nothing is written, synced, locked, moved or deleted, and files are opened for reading alone.
//! - It shows one moment. A segment that goes meanwhile had settled rows only, and what comes meanwhile is not shown.
//! - What is damaged is told of, and the look goes on behind it.
//! - Memory is bounded by the largest delivery, and by the number of segments.
//!
//! What an opening would find is found by the same code ([`super::recover`]). A row that is appended at this moment,
//! and whose sync then fails, may be shown although its caller is told that it was not taken.
//!
//! Its calls wait for the disk.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::format::{RecordHeader, RecordKind, SEGMENT_HEADER, SegmentName, SpoolId};
use super::reader::{self, Damage, SchemaCache};
use super::recover::{self, Access, FoundSpool, Unsettled};
use super::scan::{ScanStep, SegmentEnd, SegmentScan};
use super::shared::Segment;
use super::{LOCK, OWNER, aside, cursor, errors};
use crate::error::{Code, Error, Result};
use crate::file_system::Disk;

/// Segments that come and go can make a look fail so many times before it is one of the disk.
const TRIES: usize = 16;

/// What is known of a spool without reading its rows.
#[derive(Debug, Clone)]
pub struct SpoolFacts {
    pub directory: PathBuf,
    /// None where no file says it.
    pub id: Option<SpoolId>,
    /// None where no segment says it.
    pub target: Option<String>,
    /// Every row below is settled.
    pub settled_through: u64,
    /// Rows that are there lie below.
    pub end: u64,
    /// As near as can be told without reading all of it, and never too little.
    pub left: Unsettled,
    pub segments: Vec<SegmentFacts>,
    /// There is a cursor, and it cannot be read: rows that were delivered will be delivered again.
    pub is_cursor_damaged: bool,
    /// Files in `damaged/`, with their bytes.
    pub set_aside: Vec<(PathBuf, u64)>,
    /// Segments that belong to another spool.
    pub foreign: Vec<PathBuf>,
    /// Segments that cannot be read and that the next opening sets aside.
    pub unknown: Vec<PathBuf>,
    /// Who opened it last, as JSON text.
    pub owner: Option<String>,
}

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFacts {
    pub path: PathBuf,
    pub first: u64,
    pub bytes: u64,
}

/// How deep a look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The headers of records. Damage of what stands behind them is not found.
    Headers,
    /// All bytes, held against their checksums, and rows as a destination would get them.
    Rows,
}

/// What a look meets.
#[derive(Debug)]
pub enum Sight {
    Delivery(SeenDelivery),
    Damage(Damage),
    Unfinished(Unfinished),
}

/// An append that is under way, or was when its process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub segment: PathBuf,
    pub offset: u64,
    pub bytes: u64,
}

/// A delivery that counts.
#[derive(Debug)]
pub struct SeenDelivery {
    pub positions: Range<u64>,
    pub identity: u64,
    /// When it was appended, in milliseconds since 1970.
    pub time_ms: u64,
    /// Of its record.
    pub bytes: u64,
    /// Its rows that are not settled.
    pub left: Vec<Range<u64>>,
    /// Its rows. None if the look is at headers.
    pub batches: Option<Vec<RecordBatch>>,
}

impl SeenDelivery {
    pub fn rows_left(&self) -> u64 {
        self.left.iter().map(|left| left.end - left.start).sum()
    }

    /// Some rows of it.
    pub fn rows(&self, positions: &Range<u64>) -> Vec<RecordBatch> {
        let batches = self.batches.as_deref().unwrap_or_default();
        let first = self.positions.start;
        reader::slice(batches, positions.start - first, positions.end - first)
    }
}

/// What a look has met, summed up.
#[derive(Debug, Default)]
pub struct Sights {
    pub deliveries: u64,
    pub rows: u64,
    pub left: Unsettled,
    pub damage: Vec<Damage>,
    pub unfinished: Vec<Unfinished>,
}

impl Sights {
    pub fn add(&mut self, sight: Sight) {
        match sight {
            Sight::Delivery(delivery) => {
                self.deliveries += 1;
                self.rows += delivery.positions.end - delivery.positions.start;
                if delivery.left.is_empty() {
                    return;
                }
                self.left.deliveries += 1;
                self.left.rows += delivery.rows_left();
                self.left.bytes += delivery.bytes;
                self.left.oldest_ms.get_or_insert(delivery.time_ms);
            }
            Sight::Damage(damage) => self.damage.push(damage),
            Sight::Unfinished(unfinished) => self.unfinished.push(unfinished),
        }
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    pub records: u64,
    /// Records of rows that their callers were told not to be taken.
    pub refused: u64,
}

/// A spool, at one moment.
#[derive(Debug)]
pub struct Inspection {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    found: FoundSpool,
}

/// The names of all spools in a directory, in their order.
///
/// # Errors
/// `NOT_FOUND` if there is no such directory, and what the disk says.
pub fn names(disk: &dyn Disk, directory: &Path) -> Result<Vec<String>> {
    let paths = disk.list(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => absent(directory, &error),
        _ => errors::of_io("cannot list", directory, &error),
    })?;
    let spools = paths.into_iter().filter(|path| is_spool(disk, path));
    let mut names: Vec<String> = spools
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_string()))
        .collect();
    names.sort();
    Ok(names)
}

fn absent(directory: &Path, error: &io::Error) -> Error {
    let message = format!("there is no directory {}", directory.display());
    Error::new(Code::NotFound, message)
        .caused_by(error)
        .during("spool")
}

fn is_spool(disk: &dyn Disk, path: &Path) -> bool {
    let files = disk.list(path).unwrap_or_default();
    let is_ours = |file: &PathBuf| {
        SegmentName::of(file).is_some() || file.ends_with(cursor::NAME) || file.ends_with(LOCK)
    };
    files.iter().any(is_ours)
}

impl Inspection {
    /// # Errors
    /// `NOT_FOUND` if there is no such spool, `SPOOL_FORMAT`, `CONFIG_INVALID` for what is no name, and what the disk
    /// says.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path, name: &str) -> Result<Inspection> {
        let directory = super::directory(directory, name)?;
        if !is_spool(&*disk, &directory) {
            let message = format!("there is no spool {}", directory.display());
            return Err(Error::new(Code::NotFound, message).during("spool"));
        }
        let mut tries = TRIES;
        loop {
            let before = segments(&*disk, &directory)?;
            match recover::find(&*disk, &directory, Access::Visitor) {
                // One has gone between its name and its bytes: what is found without it is as good.
                Err(_) if tries > 0 && segments(&*disk, &directory)? != before => tries -= 1,
                found => {
                    return Ok(Inspection {
                        disk,
                        found: found?,
                        directory,
                    });
                }
            }
        }
    }

    pub fn facts(&self) -> SpoolFacts {
        let found = &self.found;
        let segments = found.segments.iter().map(|segment| SegmentFacts {
            path: segment.path.clone(),
            first: segment.name.first,
            bytes: segment.size,
        });
        let says_id = found.slot.is_some() || found.segments.len() > found.headless.len();
        // Who looks from outside need not be told why these cannot be counted.
        let aside = aside::content(&*self.disk, &self.directory).unwrap_or_default();
        SpoolFacts {
            directory: self.directory.clone(),
            id: says_id.then_some(found.id),
            target: found.target.clone(),
            settled_through: found.settled.through().min(found.end),
            end: found.end,
            left: found.left,
            segments: segments.collect(),
            is_cursor_damaged: found.foreign_cursor,
            set_aside: aside.files,
            foreign: found.foreign.clone(),
            unknown: found.taken.clone(),
            owner: reader::owner(&*self.disk, &self.directory.join(OWNER)),
        }
    }

    /// Goes over the log, from the first delivery that has a row at or above this position.
    ///
    /// # Errors
    /// What the disk says, and what `see` gives: the look ends with it.
    pub fn look(&self, from: u64, depth: Depth, see: &mut dyn FnMut(Sight) -> Result<()>) -> Result<Looked> {
        let mut looked = Looked::default();
        let segments = &self.found.segments;
        let after = segments.partition_point(|segment| segment.name.first <= from);
        for at in after.saturating_sub(1)..segments.len() {
            let bound = segments.get(at + 1).map_or(u64::MAX, |next| next.name.first);
            SegmentLook {
                inspection: self,
                segment: &segments[at],
                bound,
                see,
                looked: &mut looked,
            }
            .run(from, depth)?;
        }
        Ok(looked)
    }

    /// Where an export and other looks at what is left begin.
    pub fn settled_through(&self) -> u64 {
        self.found.settled.through()
    }
}

/// The names of the segments that are there.
fn segments(disk: &dyn Disk, directory: &Path) -> Result<Vec<PathBuf>> {
    let listed = disk.list(directory);
    let mut paths = listed.map_err(|error| errors::of_io("cannot list", directory, &error))?;
    paths.retain(|path| SegmentName::of(path).is_some());
    paths.sort();
    Ok(paths)
}

struct SegmentLook<'look> {
    inspection: &'look Inspection,
    segment: &'look Segment,
    /// No row of the segment at or above this counts.
    bound: u64,
    see: &'look mut dyn FnMut(Sight) -> Result<()>,
    looked: &'look mut Looked,
}

impl SegmentLook<'_> {
    fn run(&mut self, from: u64, depth: Depth) -> Result<()> {
        let Inspection { disk, found, .. } = self.inspection;
        let segment = self.segment;
        let failed = |error: io::Error| errors::of_io("cannot read", &segment.path, &error);
        let file = match disk.open_to_read(&segment.path) {
            // It was deleted meanwhile, because all in it is settled.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        let is_last = self.bound == u64::MAX;
        if is_last && segment.size < SEGMENT_HEADER as u64 {
            // It is being made, or its maker was killed.
            return self.unfinished(0);
        }
        if found.headless.contains(&segment.path) {
            self.damage(0, SEGMENT_HEADER as u64, "its header cannot be read")?;
        }
        let mut scan = SegmentScan::new(Arc::from(file), segment.place, segment.size);
        let mut schemas = SchemaCache::default();
        scan.skip_below(from, |_| {}).map_err(failed)?;
        loop {
            if depth == Depth::Headers {
                let mut told = Ok(());
                scan.skip_below(u64::MAX, |header| {
                    if told.is_ok() {
                        told = self.record(header, None);
                    }
                })
                .map_err(failed)?;
                told?;
            }
            match scan.next().map_err(failed)? {
                ScanStep::Record(record) if depth == Depth::Rows && self.is_delivery(&record.header) => {
                    match schemas.decode(&mut scan, &record).map_err(failed)? {
                        Ok(batches) => self.record(&record.header, Some(batches))?,
                        Err(reason) => self.damage(record.offset, record.header.total(), &reason)?,
                    }
                }
                ScanStep::Record(record) => self.record(&record.header, None)?,
                ScanStep::Damage { from, to } => self.damage(from, to - from, "no record")?,
                ScanStep::End(SegmentEnd::Damaged(from)) => {
                    return self.damage(from, segment.size - from, "no record");
                }
                ScanStep::End(SegmentEnd::Torn(from)) => {
                    return self.unfinished(from);
                }
                ScanStep::End(SegmentEnd::Nothing) => return Ok(()),
            }
        }
    }

    /// Whether it is one that counts.
    fn is_delivery(&self, header: &RecordHeader) -> bool {
        RecordKind::of(header.kind) == Some(RecordKind::Batches) && header.positions().end <= self.bound
    }

    fn record(&mut self, header: &RecordHeader, batches: Option<Vec<RecordBatch>>) -> Result<()> {
        self.looked.records += 1;
        if !self.is_delivery(header) {
            self.looked.refused += u64::from(header.positions().end > self.bound);
            return Ok(());
        }
        let positions = header.positions();
        (self.see)(Sight::Delivery(SeenDelivery {
            left: self.inspection.found.settled.holes(positions.clone()),
            positions,
            identity: header.identity,
            time_ms: header.time_ms,
            bytes: header.total(),
            batches,
        }))
    }

    fn unfinished(&mut self, offset: u64) -> Result<()> {
        (self.see)(Sight::Unfinished(Unfinished {
            segment: self.segment.path.clone(),
            offset,
            bytes: self.segment.size - offset,
        }))
    }

    fn damage(&mut self, offset: u64, bytes: u64, reason: &str) -> Result<()> {
        let Inspection { disk, directory, .. } = self.inspection;
        (self.see)(Sight::Damage(Damage {
            segment: self.segment.path.clone(),
            offset,
            bytes,
            set_aside: aside::kept(&**disk, directory, &self.segment.name.stem(), offset, bytes),
            reason: reason.into(),
        }))
    }
}
