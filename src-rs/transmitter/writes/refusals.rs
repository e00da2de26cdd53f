//! A destination's refusal of rows of a write → refused and failed rows of deliveries. Pure.
//!
//! Invariants:
//! - A rejection goes to the delivery that holds its row, and counts the row within that delivery.
//! - A row has at most one rejection, and a row that was settled before has none.
//!
//! It settles nothing and keeps nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use super::window::{WindowWrite, WriteSlice};
use crate::error::Error;
use crate::outcome::Rejection;
use crate::transmitter::rows::{FailedRanges, RefusedRange, RefusedRanges};

/// Splits rejections of a write among its slices. The slices begin after `done_rows`, which were settled
/// before; the rejections count rows of the write.
pub fn refused_ranges(
    slices: &[WriteSlice],
    done_rows: usize,
    mut rejections: Vec<Rejection>,
) -> Vec<RefusedRange> {
    let mut start = done_rows;
    // What was acknowledged cannot be refused any more.
    rejections.retain(|rejection| rejection.row >= start as u64);
    rejections.sort_by_key(|rejection| rejection.row);
    rejections.dedup_by_key(|rejection| rejection.row);
    let mut rejections = rejections.into_iter().peekable();
    let mut ranges = Vec::with_capacity(slices.len());
    for WriteSlice { range, settled } in slices {
        let end = start + range.rows;
        let mut own = Vec::new();
        while let Some(mut rejection) = rejections.next_if(|rejection| rejection.row < end as u64) {
            rejection.row = rejection.row - start as u64 + range.first_row as u64;
            own.push(rejection);
        }
        if !settled {
            ranges.push(RefusedRange {
                range: *range,
                start,
                rejections: own,
            });
        }
        start = end;
    }
    ranges
}

/// The one row of a write that was refused alone.
pub fn refused_alone(entry: WindowWrite, error: &Error) -> Option<RefusedRanges> {
    let range = *entry.ranges().next()?;
    let rejection = Rejection {
        row: range.first_row as u64,
        code: error.refusal().to_string(),
        message: error.message().to_string(),
    };
    Some(RefusedRanges {
        write: entry.write,
        ranges: vec![RefusedRange {
            range,
            start: 0,
            rejections: vec![rejection],
        }],
    })
}

/// Rows that `bound` left undecided. They end with the refusal, which says which rows of the delivery.
pub fn undecided(writes: Vec<WindowWrite>, bound: &str, error: &Error, now: Instant) -> Vec<FailedRanges> {
    let mut extents: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for range in writes.iter().flat_map(WindowWrite::ranges) {
        let (first, end) = (range.first_row, range.first_row + range.rows);
        let extent = extents.entry(range.sequence).or_insert((first, end));
        *extent = (extent.0.min(first), extent.1.max(end));
    }
    let mut failed = Vec::new();
    for entry in writes {
        let FailedRanges { ranges, error } = entry.ending(error, now);
        for range in ranges {
            let (first, end) = extents[&range.sequence];
            let text = format!(
                "some of the rows {first} to {} are at fault, and {bound} is spent: {}",
                end - 1,
                error.message()
            );
            failed.push(FailedRanges {
                ranges: vec![range],
                error: error.clone().with_message(text).at_row(first as u64),
            });
        }
    }
    failed
}
