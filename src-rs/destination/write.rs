//! A write, as the transmitter makes it and a destination takes it. Pure.
//!
//! Invariants:
//! - Its batches are of one schema, and there is at least one.
//! - What is left of a write keeps its id.
//!
//! It knows no session.

use std::ops::Range;

use arrow::array::RecordBatch;

use crate::error::{Code, Error, Result};

/// One unit that a destination takes: some batches of one schema, kept until acknowledged.
#[derive(Debug)]
pub struct Write {
    /// Strictly increasing within a producer, the same in every replay.
    pub id: u64,
    /// Never empty, all of the session's schema.
    pub batches: Vec<RecordBatch>,
    pub rows: usize,
    pub bytes: usize,
    /// Where its rows stand in the log that they come from, in order; empty where there is none. The id is the end of
    /// the last range then, for as long as the write is whole.
    pub positions: Vec<Range<u64>>,
}

impl Write {
    /// How many of its rows, from the first, stand below a position of the log.
    pub fn rows_below(&self, position: u64) -> usize {
        let below = self.positions.iter().map(|range| {
            let end = range.end.min(position);
            end.saturating_sub(range.start) as usize
        });
        below.sum()
    }

    /// The position behind its first `rows` rows; its id where it comes from no log.
    pub fn position_behind(&self, rows: usize) -> u64 {
        let mut left = rows as u64;
        for range in &self.positions {
            let length = range.end - range.start;
            if left <= length {
                return range.start + left;
            }
            left -= length;
        }
        self.id
    }

    /// The same write without its first rows.
    pub fn without_first(&self, rows: usize) -> Write {
        let mut skip = rows;
        let mut batches = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            let skipped = skip.min(batch.num_rows());
            skip -= skipped;
            if skipped < batch.num_rows() {
                batches.push(batch.slice(skipped, batch.num_rows() - skipped));
            }
        }
        let mut left = rows as u64;
        let mut positions = Vec::with_capacity(self.positions.len());
        for range in &self.positions {
            let skipped = left.min(range.end - range.start);
            left -= skipped;
            if range.start + skipped < range.end {
                positions.push(range.start + skipped..range.end);
            }
        }
        let kept = self.rows.saturating_sub(rows);
        Write {
            id: self.id,
            batches,
            rows: kept,
            bytes: (self.bytes as u128 * kept as u128 / self.rows.max(1) as u128) as usize,
            positions,
        }
    }

    /// The id of a write that would hold its first row alone.
    pub fn first_id(&self) -> u64 {
        self.positions.first().map_or(self.id, |range| range.start + 1)
    }

    /// What a session says before it lets go of rows: as many went on as it was given. A library in between
    /// that loses some would have them acknowledged.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn counted(&self, rows: usize) -> Result<()> {
        counted(self.rows, rows)
    }
}

/// # Errors
/// `INTERNAL` unless as many rows were written as were given.
pub fn counted(given: usize, written: usize) -> Result<()> {
    if given == written {
        return Ok(());
    }
    let text = format!("{given} rows were given and {written} were written; none of them is acknowledged");
    Err(Error::new(Code::Internal, text).during("write"))
}
