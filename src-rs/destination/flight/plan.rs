//! A write → parts that the server takes.
//!
//! Invariants:
//! - No part is larger than the limit; parts are in order and cover every row that is not refused.
//! - Sizes are those of the rows at hand, not of the memory behind them: batches that share a buffer
//!   are not cut to shreds.
//! - The same write gives the same parts, in whatever session it is sent.
//!
//! A row that is too large for any message is refused by itself; the others go.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use super::encode::{Measure, measure};
use crate::error::{Code, Error, Result};
use crate::outcome::Rejection;

/// Parts smaller than this are filled up from the next batch: per part, servers work as much for ten
/// rows as for ten thousand. Larger, and the memory to join them in comes fresh from the system.
const COMPANY: usize = 256 << 10;

/// What parts have to heed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a message.
    pub message: usize,
    /// Dictionaries are to be measured as values.
    pub hydrate: bool,
    /// Small batches may share a part.
    pub join: bool,
}

#[derive(Debug, Default)]
pub struct MessagePlan {
    pub parts: Vec<MessagePart>,
    pub refused: Vec<Rejection>,
}

/// Some consecutive rows of a write, but for refused ones between them.
#[derive(Debug, Default, Clone)]
pub struct MessagePart {
    slices: Vec<Slice>,
    bytes: usize,
    bitmaps: usize,
    /// Rows of the write that are settled once this part is.
    pub through: usize,
    pub rows: usize,
    /// No part of the write follows.
    pub last: bool,
}

#[derive(Debug, Clone, Copy)]
struct Slice {
    batch: usize,
    start: usize,
    rows: usize,
}

impl MessagePart {
    /// The rows of it in one batch.
    ///
    /// # Errors
    /// `BATCH_INVALID` if Arrow cannot put them together.
    pub fn batch(&self, batches: &[RecordBatch], schema: &SchemaRef) -> Result<RecordBatch> {
        let mut slices = self.slices(batches);
        match slices.len() {
            0 => Ok(RecordBatch::new_empty(schema.clone())),
            1 => Ok(slices.swap_remove(0).into_owned()),
            _ => concat_batches(&slices[0].schema(), slices.iter().map(Cow::as_ref)).map_err(|error| {
                Error::new(Code::BatchInvalid, "small batches cannot be joined")
                    .caused_by(&error)
                    .during("write")
            }),
        }
    }

    /// The rows of it, as they lie in the batches of the write.
    pub fn slices<'a>(&self, batches: &'a [RecordBatch]) -> Vec<Cow<'a, RecordBatch>> {
        let cut = |slice: &Slice| {
            let batch = &batches[slice.batch];
            match slice.rows == batch.num_rows() {
                // Slicing makes every array anew.
                true => Cow::Borrowed(batch),
                false => Cow::Owned(batch.slice(slice.start, slice.rows)),
            }
        };
        self.slices.iter().map(cut).collect()
    }

    /// Whether rows of several batches share it.
    pub fn is_joined(&self) -> bool {
        self.slices.len() > 1
    }
}

/// Plans the rows of a write after the first `skip`.
pub fn plan(batches: &[RecordBatch], skip: usize, limits: Limits) -> MessagePlan {
    let mut plan = MessagePlan::default();
    let mut seen = 0;
    for (index, batch) in batches.iter().enumerate() {
        let mut start = skip.saturating_sub(seen).min(batch.num_rows());
        // As many as are left at first, then twice what went before: measured in full for each part, a batch of
        // many parts would take a square of the time.
        let mut guess = batch.num_rows();
        while start < batch.num_rows() {
            match fitting(batch, start, guess, limits) {
                Ok((rows, measured)) => {
                    guess = rows.saturating_mul(2);
                    let slice = Slice {
                        batch: index,
                        start,
                        rows,
                    };
                    plan.add(slice, measured, seen + start, limits);
                    start += rows;
                }
                Err(bytes) => {
                    plan.refuse(seen + start, bytes, limits);
                    start += 1;
                    guess = 2;
                }
            }
        }
        seen += batch.num_rows();
    }
    if let Some(last) = plan.parts.last_mut() {
        // Refused rows at the end have no part of their own.
        last.through = seen;
        last.last = true;
    }
    plan
}

#[cfg(test)]
thread_local! {
    /// Rows that were looked at on this thread.
    pub static MEASURED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many rows from `start` on fit into a message, and what they come to; or the bytes of a single row
/// that does not. Looked for from `guess` on, either way.
fn fitting(
    batch: &RecordBatch,
    start: usize,
    guess: usize,
    limits: Limits,
) -> std::result::Result<(usize, Measure), usize> {
    let measured = |rows: usize| {
        #[cfg(test)]
        MEASURED.set(MEASURED.get() + rows);
        // Slicing makes every array anew.
        if rows == batch.num_rows() {
            return measure(batch.columns(), limits.hydrate);
        }
        let slices: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| column.slice(start, rows))
            .collect();
        measure(&slices, limits.hydrate)
    };
    let left = batch.num_rows() - start;
    let mut rows = guess.min(left);
    let mut fits = None;
    loop {
        let all = measured(rows);
        let bytes = all.bytes;
        // A little less than its share: rows differ.
        let share = (rows as u128 * limits.message as u128 / bytes as u128) as usize;
        let share = share - share / 32;
        if bytes <= limits.message {
            if rows == left || share < rows.saturating_mul(2) {
                return Ok((rows, all));
            }
            fits = Some((rows, all));
            rows = share.min(left);
            continue;
        }
        // The rows to come are larger than those that fit.
        if let Some(fits) = fits {
            return Ok(fits);
        }
        if rows == 1 {
            return Err(bytes);
        }
        rows = share.clamp(1, rows - 1);
    }
}

impl MessagePlan {
    fn add(&mut self, slice: Slice, measured: Measure, first: usize, limits: Limits) {
        let Measure { bytes, bitmaps, .. } = measured;
        let fits = |last: &MessagePart| {
            let bytes = last.bytes + bytes;
            bytes <= COMPANY && bytes + last.bitmaps + bitmaps <= limits.message
        };
        match self.parts.last_mut() {
            Some(last) if limits.join && fits(last) => {
                last.slices.push(slice);
                last.bytes += bytes;
                last.bitmaps += bitmaps;
                last.rows += slice.rows;
                last.through = first + slice.rows;
            }
            _ => self.parts.push(MessagePart {
                slices: vec![slice],
                bytes,
                bitmaps,
                through: first + slice.rows,
                rows: slice.rows,
                last: false,
            }),
        }
    }

    fn refuse(&mut self, row: usize, bytes: usize, limits: Limits) {
        let limit = limits.message;
        self.refused.push(Rejection {
            row: row as u64,
            code: Code::BatchInvalid.as_str().to_string(),
            message: format!(
                "the row takes {bytes} bytes, and a message at most {limit}: raise flight.maxMessageSize if the server takes more"
            ),
        });
    }
}
