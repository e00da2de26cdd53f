//! A write → the batches that go onto the stream, and the rows that do not. Pure.

use arrow::array::RecordBatch;

use super::expansion::{Stretch, stretches};
use super::limits::{MESSAGE_BYTES, ROW_BYTES, evened, large_rows};
use super::normalise::{Normalised, RowMismatch, StreamConversion, without};
use crate::destination::Write;
use crate::error::{Code, Error, Result};
use crate::handoff::trim;
use crate::outcome::Rejection;

#[derive(Debug, Default)]
pub struct Prepared {
    /// None of them empty.
    pub batches: Vec<RecordBatch>,
    /// Rows of the write.
    pub rejections: Vec<Rejection>,
}

/// # Errors
/// `BATCH_INVALID`: without `quarantine` for the first row that does not fit, naming it and the column.
pub fn prepare(plan: &StreamConversion, write: &Write, quarantine: bool) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    let mut start = 0;
    for batch in &write.batches {
        for stretch in stretches(batch) {
            let mismatches = match stretch {
                Stretch::Rows { start, rows } => {
                    let (fit, mut mismatches) = match rows == batch.num_rows() {
                        // Slicing makes every array anew.
                        true => fitting(plan, batch)?,
                        false => fitting(plan, &batch.slice(start, rows))?,
                    };
                    if fit.num_rows() > 0 {
                        evened(trim(&fit)?, MESSAGE_BYTES, &mut prepared.batches);
                    }
                    mismatches.iter_mut().for_each(|mismatch| mismatch.row += start);
                    mismatches
                }
                Stretch::TooLarge { row, bytes } => vec![too_large(row, bytes)],
            };
            if let Some(mismatch) = mismatches.first().filter(|_| !quarantine) {
                return Err(Error::new(Code::BatchInvalid, said(mismatch))
                    .during("write")
                    .in_field(&mismatch.field)
                    .at_row((start + mismatch.row) as u64));
            }
            prepared
                .rejections
                .extend(mismatches.iter().map(|mismatch| Rejection {
                    row: (start + mismatch.row) as u64,
                    code: Code::BatchInvalid.as_str().to_string(),
                    message: said(mismatch),
                }));
        }
        start += batch.num_rows();
    }
    Ok(prepared)
}

fn too_large(row: usize, bytes: u64) -> RowMismatch {
    RowMismatch {
        row,
        field: String::new(),
        reason: format!("the row takes {bytes} bytes, and the service takes {ROW_BYTES}"),
    }
}

fn said(mismatch: &RowMismatch) -> String {
    match mismatch.field.as_str() {
        "" => mismatch.reason.clone(),
        field => format!("{field}: {}", mismatch.reason),
    }
}

/// What fits the stream and the service's limits, and what does not, in rows of the batch as it came.
fn fitting(plan: &StreamConversion, batch: &RecordBatch) -> Result<(RecordBatch, Vec<RowMismatch>)> {
    let Normalised { batch, mut refused } = plan.apply(batch)?;
    let large = large_rows(&batch, ROW_BYTES);
    if large.is_empty() {
        return Ok((batch, refused));
    }
    let smaller = without(&batch, large.iter().map(|(row, _)| *row))?;
    let gone: Vec<usize> = refused.iter().map(|mismatch| mismatch.row).collect();
    let large = large.into_iter();
    refused.extend(large.map(|(row, bytes)| too_large(original(row, &gone), bytes as u64)));
    refused.sort_by_key(|mismatch| mismatch.row);
    Ok((smaller, refused))
}

/// Where a row was before others, ascending, were taken out.
fn original(row: usize, gone: &[usize]) -> usize {
    gone.iter().fold(row, |row, gone| row + usize::from(*gone <= row))
}
