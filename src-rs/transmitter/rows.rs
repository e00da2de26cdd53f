//! What the parts of the transmitter hand to each other: rows that failed, rows that a destination refused,
//! writes that were tried; and rows picked out of a list of batches.
//!
//! Invariant: rows count within their delivery; only [`RefusedRange::start`] counts within a write.
//!
//! It keeps no state and settles nothing.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::destination::Write;
use crate::error::Error;
use crate::outcome::{Rejection, RowRange};

/// Rows that end, and the error that they end with.
#[derive(Debug)]
pub struct FailedRanges {
    pub ranges: Vec<RowRange>,
    pub error: Error,
}

/// Settled rows of a write, of which a destination refused some.
pub struct RefusedRanges {
    pub write: Arc<Write>,
    pub ranges: Vec<RefusedRange>,
}

/// Settled rows of one delivery: those that the rejections name were refused, the others are durable.
pub struct RefusedRange {
    pub range: RowRange,
    /// Its first row in the write.
    pub start: usize,
    /// Rows counted within the delivery, in order.
    pub rejections: Vec<Rejection>,
}

/// Consecutive rows of one delivery that have ended, though not all of them at the destination. A log has to know that
/// before the destination takes later rows: a later client could not tell them from rows that landed.
#[derive(Debug, Clone)]
pub struct EndedRange {
    pub range: RowRange,
    pub end: RangeEnd,
}

#[derive(Debug, Clone)]
pub enum RangeEnd {
    /// The rows named were refused, the others are durable. They count within the delivery, in order.
    Refused {
        rejections: Vec<Rejection>,
        /// No other row is in the delivery.
        whole: bool,
    },
    Failed(Error),
    /// Nobody wants them any more.
    Aborted,
}

/// Writes that were tried equally often.
pub struct EquallyTried {
    /// Ascending, at least one.
    pub ids: Vec<u64>,
    /// What the oldest of them failed with. It was tried for the longest time.
    pub error: Error,
}

/// Neighbouring ranges as one.
pub fn runs<Place: PartialEq>(ranges: impl Iterator<Item = Range<Place>>) -> Vec<Range<Place>> {
    let mut runs: Vec<Range<Place>> = Vec::new();
    for range in ranges {
        match runs.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => runs.push(range),
        }
    }
    runs
}

/// Some of the positions of a write's rows, by ascending ranges of rows.
pub fn pick_positions(
    positions: &[Range<u64>],
    ranges: impl IntoIterator<Item = Range<usize>>,
) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut positions = positions.iter();
    let mut current = positions.next();
    // The row at which `current` begins.
    let mut start = 0;
    for range in ranges {
        let mut row = range.start as u64;
        let end = range.end as u64;
        while row < end
            && let Some(place) = current
        {
            let last = start + (place.end - place.start);
            if row < last {
                let until = last.min(end);
                let picked = place.start + (row - start)..place.start + (until - start);
                match found.last_mut() {
                    Some(before) if before.end == picked.start => before.end = picked.end,
                    _ => found.push(picked),
                }
                row = until;
            }
            if row >= last {
                start = last;
                current = positions.next();
            }
        }
    }
    found
}

/// Some rows of a row of batches, by ascending ranges, not copied.
pub fn pick(batches: &[RecordBatch], ranges: impl IntoIterator<Item = Range<usize>>) -> Vec<RecordBatch> {
    let mut found = Vec::new();
    let mut batches = batches.iter();
    let mut batch = batches.next();
    // The row at which `batch` begins.
    let mut start = 0;
    for range in ranges {
        let mut row = range.start;
        while row < range.end
            && let Some(current) = batch
        {
            let end = start + current.num_rows();
            if row < end {
                let length = end.min(range.end) - row;
                found.push(current.slice(row - start, length));
                row += length;
            }
            if row >= end {
                start = end;
                batch = batches.next();
            }
        }
    }
    found
}
