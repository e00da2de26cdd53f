//! All rows of a write that the table cannot hold, once one such row is found.
//!
//! A session breaks on a write with a bad row, and the others of that session are written again. Named one at a
//! time, a thousand bad deliveries of one write would cost a thousand sessions.
//!
//! Invariants:
//! - A named row is at fault by itself, whatever its neighbours are.
//! - A row at fault costs another look at a piece of the batch, not at all of it.
//! - At most [`MOST`] are named; the others are found when the rest is written again.

use std::collections::VecDeque;

use arrow::array::RecordBatch;

use crate::destination::Write;
use crate::error::{Error, Result};

/// Rows that are looked at again together.
const PIECE: usize = 1_024;
/// Rows that are named.
const MOST: usize = 4_096;

/// The first error of a write, knowing all others. `look` finds one row at fault in a batch, if there is any.
pub fn of_write(write: &Write, found: Error, mut look: impl FnMut(&RecordBatch) -> Result<()>) -> Error {
    let mut faults = Vec::new();
    let mut first = 0;
    for batch in &write.batches {
        let rows = batch.num_rows();
        for start in (0..rows).step_by(PIECE) {
            let piece = batch.slice(start, PIECE.min(rows - start));
            in_piece(piece, first + start, &mut look, &mut faults);
        }
        first += rows;
    }
    faults.sort_by_key(Error::row);
    let mut faults = faults.into_iter();
    let first = faults.next().unwrap_or(found);
    first.with_others(faults.collect())
}

/// `first` is the piece's first row in the write.
fn in_piece(
    piece: RecordBatch,
    first: usize,
    look: &mut impl FnMut(&RecordBatch) -> Result<()>,
    faults: &mut Vec<Error>,
) {
    let mut pieces = VecDeque::from([(piece, first)]);
    while let Some((piece, first)) = pieces.pop_front() {
        if faults.len() >= MOST || piece.num_rows() == 0 {
            continue;
        }
        let fault = look(&piece).err().and_then(|error| Some((error.row()?, error)));
        let Some((row, error)) = fault else { continue };
        let row = row as usize;
        faults.push(error.at_row((first + row) as u64));
        let behind = row + 1;
        // The one that was named need not be the first: another column may be wrong before it.
        pieces.push_back((piece.slice(0, row), first));
        pieces.push_back((piece.slice(behind, piece.num_rows() - behind), first + behind));
    }
}
