//! Small batches together, large ones apart, order kept. Pure: the clock is the caller's.
//!
//! Invariants:
//! - Rows leave in the order in which they came; a draft never spans two schemas.
//! - Nothing is copied here but the rows of small batches, and those only when their draft is taken:
//!   until then a delivery can be taken back whole, at a cost that is its own and not that of the others.
//! - The slice at the front is never one that was taken back; behind it those are no more than the others.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::joining::joined_batches;
use crate::config::BatchingOptions;
use crate::instant::Instant;
use crate::outcome::RowRange;
use crate::transmitter::batch_slice::BatchSlice;
use crate::transmitter::clock::LONGEST;
use crate::transmitter::rows::FailedRanges;
use crate::transmitter::schema::{self, Fit};

pub struct Batcher {
    limits: BatchingOptions,
    /// Whether small batches are joined here.
    joins: bool,
    queue: VecDeque<QueuedSlice>,
    /// Of the queue: slices that were taken back and still have their place.
    taken_back: usize,
    /// The next draft, as far as it was counted. Thousands of small batches come in hundreds of turns, and each
    /// turn would count all of them again.
    next_write: Option<NextWrite>,
}

/// The front of the queue that fits one schema and the limits.
struct NextWrite {
    schema: SchemaRef,
    /// Places in the queue, those of slices that were taken back included.
    taken: usize,
    rows: usize,
    bytes: usize,
    /// The schema or the limits end this draft, so waiting adds no rows to it.
    full: bool,
}

/// The rows of one write, before the window gives it an id.
#[derive(Debug)]
pub struct WriteDraft {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub ranges: Vec<RowRange>,
    pub rows: usize,
    pub bytes: usize,
}

impl WriteDraft {
    /// Where its rows stand in the log whose positions are the sequences of their deliveries.
    pub fn positions(&self) -> Vec<Range<u64>> {
        let mut positions: Vec<Range<u64>> = Vec::new();
        for range in &self.ranges {
            let start = range.sequence + range.first_row as u64;
            let end = start + range.rows as u64;
            match positions.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => positions.push(start..end),
            }
        }
        positions
    }
}

struct QueuedSlice {
    /// None once it was taken back.
    slice: Option<BatchSlice>,
    range: RowRange,
    since: Instant,
}

/// As [`schema::fit`].
fn fits(slice: &BatchSlice, schema: &SchemaRef) -> bool {
    let fit = match schema::fit(slice.of_whole(), schema) {
        // It may be the rows of another delivery that do not fit.
        Fit::Different => schema::fit(&slice.batch(), schema),
        fit => fit,
    };
    fit != Fit::Different
}

impl Batcher {
    pub fn new(limits: BatchingOptions, joins: bool) -> Self {
        Batcher {
            limits,
            joins,
            queue: VecDeque::new(),
            taken_back: 0,
            next_write: None,
        }
    }

    /// Takes the rows of one delivery. Empty slices vanish.
    pub fn push(&mut self, sequence: u64, slices: Vec<BatchSlice>, now: Instant) {
        let mut first_row = 0;
        for slice in slices {
            let rows = slice.rows();
            for (offset, length) in self.cuts(rows, slice.bytes()) {
                self.queue.push_back(QueuedSlice {
                    slice: Some(slice.slice(offset, length)),
                    range: RowRange {
                        sequence,
                        first_row: first_row + offset,
                        rows: length,
                    },
                    since: now,
                });
            }
            first_row += rows;
        }
    }

    /// The next write, if one is full, has waited long enough, or `force` is set.
    ///
    /// `current` is the schema of the session: a batch that fits it joins it, any other starts a
    /// draft of its own schema.
    ///
    /// # Errors
    /// Ranges with the error that their rows could not be put together for.
    pub fn next(
        &mut self,
        now: Instant,
        force: bool,
        current: Option<&SchemaRef>,
    ) -> Option<Result<WriteDraft, FailedRanges>> {
        let schema = self.next_schema(current)?;
        let mut next_write = match self.next_write.take() {
            Some(next_write) if Arc::ptr_eq(&next_write.schema, &schema) || next_write.schema == schema => {
                next_write
            }
            _ => NextWrite::new(schema),
        };
        next_write.extend(&self.queue, &self.limits);
        let full = next_write.full;
        let due = self.due().is_some_and(|due| due <= now);
        if !(full || due || force) {
            self.next_write = Some(next_write);
            return None;
        }
        let NextWrite {
            schema,
            taken,
            rows,
            bytes,
            ..
        } = next_write;
        let mut ranges: Vec<RowRange> = Vec::with_capacity(taken);
        let mut slices: Vec<BatchSlice> = Vec::with_capacity(taken);
        for queued in self.queue.drain(..taken) {
            if let Some(slice) = queued.slice {
                ranges.push(queued.range);
                slices.push(slice);
            } else {
                self.taken_back -= 1;
            }
        }
        self.drop_taken_back();
        match joined_batches(&schema, slices, self.joins) {
            Ok(batches) => Some(Ok(WriteDraft {
                schema,
                batches,
                ranges: joined(ranges),
                rows,
                bytes,
            })),
            Err(error) => Some(Err(FailedRanges { ranges, error })),
        }
    }

    /// The schema of the next draft.
    pub fn next_schema(&self, current: Option<&SchemaRef>) -> Option<SchemaRef> {
        let head = self.queue.front()?.slice.as_ref()?;
        match current {
            Some(current) if fits(head, current) => Some(current.clone()),
            _ => Some(head.of_whole().schema()),
        }
    }

    /// When the oldest rows have waited for `linger`.
    pub fn due(&self) -> Option<Instant> {
        let oldest = self.queue.front()?.since;
        Some(oldest + self.limits.linger.min(LONGEST))
    }

    /// Takes back what is left of a delivery; returns the rows.
    pub fn take_back(&mut self, sequence: u64) -> Vec<RowRange> {
        let start = self
            .queue
            .partition_point(|queued| queued.range.sequence < sequence);
        let mut taken = Vec::new();
        for (place, queued) in self.queue.range_mut(start..).enumerate() {
            if queued.range.sequence != sequence {
                break;
            }
            let Some(slice) = queued.slice.take() else {
                continue;
            };
            self.taken_back += 1;
            taken.push(queued.range);
            if let Some(next_write) = &mut self.next_write {
                // Slices may follow now that did not fit with this one.
                next_write.full = false;
                if start + place < next_write.taken {
                    next_write.rows -= slice.rows();
                    next_write.bytes -= slice.bytes();
                }
            }
        }
        self.drop_taken_back();
        taken
    }

    /// Takes back everything from the front that fits a session of this schema.
    pub fn take_fitting(&mut self, schema: &SchemaRef) -> Vec<RowRange> {
        let fitting = |queued: &QueuedSlice| queued.slice.as_ref().is_none_or(|slice| fits(slice, schema));
        let count = self.queue.iter().take_while(|queued| fitting(queued)).count();
        self.next_write = None;
        let mut taken = Vec::new();
        for queued in self.queue.drain(..count) {
            match queued.slice {
                Some(_) => taken.push(queued.range),
                None => self.taken_back -= 1,
            }
        }
        self.drop_taken_back();
        taken
    }

    pub fn clear(&mut self) {
        self.queue.clear();
        self.taken_back = 0;
        self.next_write = None;
    }

    /// Removes places of slices that were taken back: at the front, and everywhere once they are the majority.
    fn drop_taken_back(&mut self) {
        let is_taken_back = |queued: &mut QueuedSlice| queued.slice.is_none();
        while self.queue.pop_front_if(is_taken_back).is_some() {
            self.taken_back -= 1;
            if let Some(next_write) = &mut self.next_write {
                next_write.taken = next_write.taken.saturating_sub(1);
            }
        }
        if self.taken_back * 2 > self.queue.len() {
            self.queue.retain(|queued| queued.slice.is_some());
            self.taken_back = 0;
            self.next_write = None;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The delivery at the head of the queue.
    pub fn head(&self) -> Option<u64> {
        self.queue.front().map(|queued| queued.range.sequence)
    }

    /// Where a batch is cut so that each part respects both limits, as evenly as rows allow: (start, length) of
    /// each.
    fn cuts(&self, rows: usize, bytes: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let by_rows = rows.div_ceil(self.limits.max_rows);
        // 128 bits: rows × bytes of a large batch overflow 64.
        let fitting = rows as u128 * self.limits.max_bytes as u128 / bytes.max(1) as u128;
        let by_bytes = rows.div_ceil(usize::try_from(fitting).unwrap_or(usize::MAX).max(1));
        let parts = by_rows.max(by_bytes);
        let cut = move |part: usize| rows * part / parts;
        (0..parts).map(move |part| (cut(part), cut(part + 1) - cut(part)))
    }
}

impl NextWrite {
    fn new(schema: SchemaRef) -> Self {
        NextWrite {
            schema,
            taken: 0,
            rows: 0,
            bytes: 0,
            full: false,
        }
    }

    fn extend(&mut self, queue: &VecDeque<QueuedSlice>, limits: &BatchingOptions) {
        for queued in queue.range(self.taken..) {
            self.full |= self.rows >= limits.max_rows || self.bytes >= limits.max_bytes;
            if self.full {
                return;
            }
            let Some(slice) = &queued.slice else {
                self.taken += 1;
                continue;
            };
            let over = self.rows > 0
                && (self.rows + slice.rows() > limits.max_rows
                    || self.bytes + slice.bytes() > limits.max_bytes);
            if over || !fits(slice, &self.schema) {
                self.full = true;
                return;
            }
            self.taken += 1;
            self.rows += slice.rows();
            self.bytes += slice.bytes();
        }
        self.full |= self.rows >= limits.max_rows || self.bytes >= limits.max_bytes;
    }
}

/// Neighbouring ranges of one delivery as one.
fn joined(ranges: Vec<RowRange>) -> Vec<RowRange> {
    let mut result: Vec<RowRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match result.last_mut() {
            Some(last)
                if last.sequence == range.sequence && last.first_row + last.rows == range.first_row =>
            {
                last.rows += range.rows;
            }
            _ => result.push(range),
        }
    }
    result
}

#[cfg(test)]
#[path = "../../../tests/rs/transmitter/parts/batcher.rs"]
mod tests;
