//! Batches as they were handed over → slices of record batches, small ones joined.
//!
//! Invariants:
//! - Rows keep their order, and row numbers count through the whole delivery.
//! - A delivery of which one batch is refused is refused as a whole; those that were imported with it are not.
//!
//! It does not check buffers or types itself: `handoff` does.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::capture::{Capture, CapturedRows};
use crate::destination::Destination;
use crate::error::Error;
use crate::handoff::{ColumnBuffers, HandoffBatch, PayloadUse, Pool, can_join, join};
use crate::outcome::AdmittedDelivery;
use crate::transmitter::batch_slice::{BatchSlice, SMALL_BYTES, is_small};
use crate::transmitter::{Delivery, PayloadDigest};

/// Of what is not copied anyway, only this much is copied to be imported together: importing it by itself
/// takes longer than that.
const TINY_BYTES: usize = 8 << 10;
/// Rows that are imported together. They may be claimed and not there, and memory is asked for before it shows.
const RUN_ROWS: usize = 65_536;

/// A delivery as it arrives at the engine.
pub struct ImportedDelivery {
    pub entry: AdmittedDelivery,
    pub payload_digest: Option<PayloadDigest>,
    /// Its rows, or why the delivery is refused.
    pub slices: Result<Vec<BatchSlice>, Error>,
    /// What is recorded of it.
    pub captured: Option<CapturedRows>,
}

impl ImportedDelivery {
    pub fn refused(entry: AdmittedDelivery, error: Error) -> ImportedDelivery {
        ImportedDelivery {
            entry,
            payload_digest: None,
            slices: Err(error),
            captured: None,
        }
    }

    /// Copies its rows, if this delivery is one that is recorded.
    pub fn record(&mut self, capture: &Capture) {
        let Ok(slices) = &self.slices else { return };
        if self.entry.rows == 0 {
            return;
        }
        let bytes = slices.iter().map(BatchSlice::bytes).sum();
        let batches = slices.iter().map(BatchSlice::batch);
        self.captured = capture.copy(self.entry.sequence, bytes, batches);
    }
}

/// In the order in which they came.
pub fn import(
    deliveries: Vec<Delivery>,
    destination: &dyn Destination,
    pool: &Arc<Pool>,
) -> Vec<ImportedDelivery> {
    let mut importer = Importer {
        destination,
        pool,
        deliveries: Vec::with_capacity(deliveries.len()),
        run: Vec::new(),
        owners: Vec::new(),
        run_bytes: 0,
        run_rows: 0,
        joined_below: None,
    };
    for delivery in deliveries {
        importer.deliveries.push(ImportedDelivery {
            entry: delivery.entry(),
            slices: Ok(Vec::with_capacity(delivery.handoff_batches.len().min(64))),
            payload_digest: delivery.payload_digest,
            captured: None,
        });
        let owner = importer.deliveries.len() - 1;
        for handoff_batch in delivery.handoff_batches {
            importer.add(owner, handoff_batch);
        }
    }
    importer.import_run();
    for delivery in &mut importer.deliveries {
        let slices = delivery.slices.as_deref().unwrap_or_default();
        delivery.entry.rows = slices.iter().map(BatchSlice::rows).sum();
    }
    importer.deliveries
}

/// Imports in order: small batches of one schema together, the others each by itself.
struct Importer<'a> {
    destination: &'a dyn Destination,
    pool: &'a Arc<Pool>,
    deliveries: Vec<ImportedDelivery>,
    /// Small batches of one schema, to be imported together.
    run: Vec<ColumnBuffers>,
    /// Which delivery each of them belongs to.
    owners: Vec<usize>,
    run_bytes: usize,
    run_rows: usize,
    /// The last schema that was asked about, and below how many bytes its batches are joined.
    joined_below: Option<(SchemaRef, usize)>,
}

impl Importer<'_> {
    fn add(&mut self, owner: usize, handoff_batch: HandoffBatch) {
        let bytes = handoff_batch.bytes();
        match handoff_batch {
            HandoffBatch::Columns(columns)
                if is_small(columns.rows, bytes) && bytes < self.joined_below(&columns.schema) =>
            {
                if self
                    .run
                    .last()
                    .is_some_and(|last| !is_same(&last.schema, &columns.schema))
                {
                    self.import_run();
                }
                self.run_bytes += bytes;
                self.run_rows += columns.rows;
                self.run.push(columns);
                self.owners.push(owner);
                if self.run_bytes >= SMALL_BYTES || self.run_rows >= RUN_ROWS {
                    self.import_run();
                }
            }
            handoff_batch => {
                self.import_run();
                self.import_alone(owner, handoff_batch);
            }
        }
    }

    fn joined_below(&mut self, schema: &SchemaRef) -> usize {
        match &self.joined_below {
            Some((asked, answer)) if is_same(asked, schema) => *answer,
            _ => {
                let answer = match can_join(schema) {
                    false => 0,
                    true if self.destination.computes_on(schema) => SMALL_BYTES,
                    true => TINY_BYTES,
                };
                self.joined_below = Some((Arc::clone(schema), answer));
                answer
            }
        }
    }

    fn import_run(&mut self) {
        let (run, owners) = (std::mem::take(&mut self.run), std::mem::take(&mut self.owners));
        (self.run_bytes, self.run_rows) = (0, 0);
        let joined = if run.len() > 1 {
            join(&run, self.pool)
        } else {
            None
        };
        let Some(joined) = joined else {
            for (owner, columns) in owners.into_iter().zip(run) {
                self.import_alone(owner, HandoffBatch::Columns(columns));
            }
            return;
        };
        let whole = Arc::new(joined.batch);
        let mut start = 0;
        for (owner, part) in owners.into_iter().zip(joined.parts) {
            let delivery = &mut self.deliveries[owner];
            if let Ok(slices) = &mut delivery.slices {
                // Each batch by itself: together they would be cut by their average, and rows differ.
                slices.push(BatchSlice::of(&whole, start, part.rows, part.bytes));
                delivery.entry.buffers_realigned += part.realigned_buffers;
            }
            start += part.rows;
        }
    }

    fn import_alone(&mut self, owner: usize, handoff_batch: HandoffBatch) {
        let delivery = &mut self.deliveries[owner];
        // Refused as a whole: nobody asks for the rest of it.
        let Ok(slices) = &mut delivery.slices else {
            return;
        };
        let payload = match handoff_batch.schema() {
            Some(schema) if !self.destination.computes_on(schema) => PayloadUse::Moved,
            _ => PayloadUse::Computed,
        };
        match handoff_batch.import(payload, self.pool) {
            Ok(imported) => {
                delivery.entry.buffers_realigned += imported.realigned_buffers;
                slices.extend(BatchSlice::of_batches(imported.batches, imported.bytes));
            }
            Err(error) => {
                // Row numbers count through the whole delivery.
                let before: usize = slices.iter().map(BatchSlice::rows).sum();
                let row = error.row().map(|row| row + before as u64);
                delivery.slices = Err(match row {
                    Some(row) => error.at_row(row),
                    None => error,
                });
                delivery.payload_digest = None;
            }
        }
    }
}

fn is_same(one: &SchemaRef, other: &SchemaRef) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
