//! The rows of a commit, by partition: mixed as they came, and one file for each partition when they go.
//!
//! Invariants:
//! - Nothing is copied before the commit. What is kept is the batches as they were given, which the transmitter
//!   keeps for as long anyway, and twelve bytes for each row.
//! - Grouping is linear in the rows: they are counted, put in order by one pass, and each is copied once.
//! - Rows keep their order within a partition.
//! - What is copied at once is bounded by [`CHUNK_ROWS`] and [`CHUNK_BYTES`], whatever partitions hold.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take_record_batch};

use super::conform::TableConversion;
use super::partitions::Key;
use crate::error::{Code, Error, Result};

const CHUNK_ROWS: usize = 32_768;
const CHUNK_BYTES: usize = 8 << 20;
/// Files that one task encodes, before others have their turn.
const CHUNK_FILES: usize = 256;

/// What has been given and not been grouped.
#[derive(Default)]
pub struct Gathered {
    batches: Vec<RecordBatch>,
    numbers: Vec<Vec<u32>>,
    rows: usize,
    bytes: usize,
}

impl Gathered {
    /// Batches as they came, and the number of the partition of each of their rows.
    pub fn push(&mut self, batches: Vec<RecordBatch>, numbers: Vec<Vec<u32>>, bytes: usize) {
        self.rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        self.bytes += bytes;
        self.batches.extend(batches);
        self.numbers.extend(numbers);
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of the rows, and of what is kept of them here.
    pub fn size(&self) -> usize {
        self.bytes + 12 * self.rows
    }

    /// In order by partition, to be copied in chunks of at most so many bytes; `keys` holds one for each number.
    pub fn group(self, keys: Vec<Arc<Key>>, most: usize) -> Grouped {
        let (batches, numbers) = joined(self.batches, self.numbers);
        let mut ends = vec![0_usize; keys.len()];
        for number in numbers.iter().flatten() {
            ends[*number as usize] += 1;
        }
        let mut before = 0;
        for end in &mut ends {
            before += std::mem::replace(end, before);
        }
        // Each is where its partition's next row goes; at last, where the next partition begins.
        let mut order = vec![(0_u32, 0_u32); self.rows];
        for (batch, numbers) in (0..).zip(&numbers) {
            for (row, number) in (0..).zip(numbers) {
                let next = &mut ends[*number as usize];
                order[*next] = (batch, row);
                *next += 1;
            }
        }
        let row_bytes = (self.bytes / self.rows.max(1)).max(1);
        Grouped {
            step: (most.min(CHUNK_BYTES) / row_bytes).clamp(1, CHUNK_ROWS),
            batches,
            order,
            ends,
            keys,
        }
    }
}

/// Rows by partition.
pub struct Grouped {
    batches: Vec<RecordBatch>,
    /// Batch and row.
    order: Vec<(u32, u32)>,
    /// Of each partition, where in `order` it ends.
    ends: Vec<usize>,
    keys: Vec<Arc<Key>>,
    /// Rows that are copied at once.
    step: usize,
}

impl Grouped {
    /// Partitions that are encoded together: several small ones, or one of any size.
    pub fn chunks(&self) -> Vec<Range<usize>> {
        let mut chunks: Vec<Range<usize>> = Vec::new();
        for partition in 0..self.keys.len() {
            let fits = chunks.last().is_some_and(|chunk| {
                let rows = self.ends[partition] - self.rows_of(chunk.start).start;
                rows <= self.step && chunk.len() < CHUNK_FILES
            });
            match chunks.last_mut().filter(|_| fits) {
                Some(chunk) => chunk.end = partition + 1,
                None => chunks.push(partition..partition + 1),
            }
        }
        chunks
    }

    /// Rows that are copied at once.
    pub fn step(&self) -> usize {
        self.step
    }

    pub fn key(&self, partition: usize) -> &Arc<Key> {
        &self.keys[partition]
    }

    /// Where in the order the rows of a partition are.
    pub fn rows_of(&self, partition: usize) -> Range<usize> {
        let start = partition.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[partition]
    }

    /// These rows of the order as the table's files have them, in one batch where that can be.
    pub fn copy(&self, range: Range<usize>, plan: &TableConversion) -> Result<Vec<RecordBatch>> {
        let order = &self.order[range];
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let rows: Vec<(usize, usize)> = order
            .iter()
            .map(|(batch, row)| (*batch as usize, *row as usize))
            .collect();
        match interleave_record_batch(&batches, &rows) {
            Ok(copied) => Ok(vec![plan.conform(&copied)?]),
            // Dictionaries of several batches may be too many values for one key type, texts too long for one
            // array. Apart they fit, as they did when they came.
            Err(_) => self.copy_apart(order, plan),
        }
    }

    fn copy_apart(&self, order: &[(u32, u32)], plan: &TableConversion) -> Result<Vec<RecordBatch>> {
        let apart = order.chunk_by(|one, next| one.0 == next.0).map(|run| {
            let rows = UInt32Array::from_iter_values(run.iter().map(|(_, row)| *row));
            let copied = take_record_batch(&self.batches[run[0].0 as usize], &rows).map_err(|error| {
                Error::new(Code::Internal, "rows cannot be put in order by partition").caused_by(&error)
            })?;
            plan.conform(&copied)
        });
        apart.collect()
    }
}

/// Small neighbours as one: each batch costs as much as many rows, in every chunk.
fn joined(batches: Vec<RecordBatch>, numbers: Vec<Vec<u32>>) -> (Vec<RecordBatch>, Vec<Vec<u32>>) {
    const SMALL: usize = 1_024;
    let mut done: (Vec<RecordBatch>, Vec<Vec<u32>>) = Default::default();
    let mut pending: (Vec<RecordBatch>, Vec<Vec<u32>>) = Default::default();
    let mut rows = 0;
    for (batch, numbers) in batches.into_iter().zip(numbers) {
        if batch.num_rows() >= SMALL {
            join(&mut pending, &mut done);
            rows = 0;
        }
        rows += batch.num_rows();
        let last = rows >= SMALL;
        pending.0.push(batch);
        pending.1.push(numbers);
        if last {
            join(&mut pending, &mut done);
            rows = 0;
        }
    }
    join(&mut pending, &mut done);
    done
}

fn join(pending: &mut (Vec<RecordBatch>, Vec<Vec<u32>>), done: &mut (Vec<RecordBatch>, Vec<Vec<u32>>)) {
    let (batches, numbers) = std::mem::take(pending);
    match batches.as_slice() {
        [] => {}
        [_] => {
            done.0.extend(batches);
            done.1.extend(numbers);
        }
        [first, ..] => match concat_batches(first.schema_ref(), &batches) {
            Ok(batch) => {
                done.0.push(batch);
                done.1.push(numbers.concat());
            }
            // As in `copy`.
            Err(_) => {
                done.0.extend(batches);
                done.1.extend(numbers);
            }
        },
    }
}
