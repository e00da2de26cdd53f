//! Rows of an imported batch, which several deliveries may share.
//!
//! Small deliveries are imported together, as one batch. Each delivery is a slice of that batch, so that it can
//! be taken back alone; neighbours that leave together are one batch again without a copy. The batch is kept
//! until its last slice is settled, so its memory may outlive the budget of the first: by twice
//! [`SMALL_BYTES`] at most for each batch.
//!
//! Invariants:
//! - A slice does not reach beyond its batch.
//! - Neither cutting a slice nor joining neighbours copies rows.
//! - The bytes of a slice's parts come to no more than the slice's own.
//!
//! It does not know which delivery its rows belong to.

use std::sync::Arc;

use arrow::array::RecordBatch;

/// Whether a batch is worth copying into its neighbour: a destination's cost for each batch exceeds the cost
/// of moving so few bytes.
pub fn is_small(rows: usize, bytes: usize) -> bool {
    rows < 8_192 && bytes < SMALL_BYTES
}

pub const SMALL_BYTES: usize = 256 << 10;

#[derive(Debug, Clone)]
pub struct BatchSlice {
    whole: Arc<RecordBatch>,
    start: usize,
    rows: usize,
    /// Bytes of memory that the rows use.
    bytes: usize,
}

impl BatchSlice {
    pub fn whole(batch: RecordBatch, bytes: usize) -> BatchSlice {
        let rows = batch.num_rows();
        BatchSlice {
            whole: Arc::new(batch),
            start: 0,
            rows,
            bytes,
        }
    }

    /// Each of some batches, with its share of the bytes that they have together.
    pub fn of_batches(batches: Vec<RecordBatch>, bytes: usize) -> impl Iterator<Item = BatchSlice> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        batches.into_iter().map(move |batch| {
            let share = bytes as u128 * batch.num_rows() as u128 / rows.max(1) as u128;
            BatchSlice::whole(batch, share as usize)
        })
    }

    /// Rows `start..start + rows` of `whole`.
    pub fn of(whole: &Arc<RecordBatch>, start: usize, rows: usize, bytes: usize) -> BatchSlice {
        debug_assert!(start + rows <= whole.num_rows(), "a slice beyond its batch");
        BatchSlice {
            whole: Arc::clone(whole),
            start,
            rows,
            bytes,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Some of its rows, and their share of the bytes.
    pub fn slice(&self, start: usize, rows: usize) -> BatchSlice {
        let bytes = match rows == self.rows {
            true => self.bytes,
            false => (self.bytes as u128 * rows as u128 / self.rows.max(1) as u128) as usize,
        };
        BatchSlice::of(&self.whole, self.start + start, rows, bytes)
    }

    /// Takes `next` in if its rows follow. Returns whether they did.
    pub fn extend(&mut self, next: &BatchSlice) -> bool {
        let follows = Arc::ptr_eq(&self.whole, &next.whole) && self.start + self.rows == next.start;
        if follows {
            self.rows += next.rows;
            self.bytes += next.bytes;
        }
        follows
    }

    /// The batch that it is a slice of, for questions that have one answer for all its rows.
    pub fn of_whole(&self) -> &RecordBatch {
        &self.whole
    }

    pub fn batch(&self) -> RecordBatch {
        self.clone().into_batch()
    }

    /// As [`batch`](Self::batch), without a clone where nobody else has rows of it.
    pub fn into_batch(self) -> RecordBatch {
        match self.rows == self.whole.num_rows() {
            true => Arc::unwrap_or_clone(self.whole),
            false => self.whole.slice(self.start, self.rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array};

    use super::*;

    #[test]
    fn neighbours_are_one_batch_again() {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(0..10));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut first = BatchSlice::whole(batch.clone(), 40).slice(2, 3);
        assert_eq!(
            (first.rows(), first.bytes(), first.batch()),
            (3, 12, batch.slice(2, 3))
        );
        let whole = first.whole.clone();
        // Rows between them, before them, or of another batch do not follow.
        assert!(!first.extend(&BatchSlice::of(&whole, 6, 2, 8)));
        assert!(!first.extend(&BatchSlice::of(&whole, 0, 2, 8)));
        assert!(!first.extend(&BatchSlice::of(&Arc::new(batch.clone()), 5, 2, 8)));
        assert!(first.extend(&BatchSlice::of(&whole, 5, 2, 8)));
        assert_eq!(
            (first.rows(), first.bytes(), first.batch()),
            (5, 20, batch.slice(2, 5))
        );
        assert_eq!(BatchSlice::whole(batch.clone(), 0).batch(), batch);
        assert_eq!(first.into_batch(), batch.slice(2, 5));
        assert_eq!(BatchSlice::whole(batch.clone(), 0).into_batch(), batch);
    }
}
