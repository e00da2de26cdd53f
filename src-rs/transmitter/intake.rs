//! Parcels → record batches, off the caller's thread, in order.
//!
//! Large deliveries are imported side by side on blocking threads; they still arrive in the order in
//! which they were admitted, and so do the commands between them: a `flush` that overtook a delivery
//! would not wait for it.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::sync::oneshot;

use super::{Reply, Submission, Witness};
use crate::destination::Destination;
use crate::error::{Code, Error};
use crate::handoff::{Payload, Pool};

/// Below this an import is over before a thread would have been found for it.
const INLINE_BYTES: usize = 128 << 10;

/// What the user's side asks for, in order.
pub enum Inbound {
    Deliver(Submission),
    Prepare { schema: SchemaRef, reply: Reply },
    Flush { reply: Reply },
    Close { deadline: Duration, reply: Reply },
}

/// The same, with deliveries imported.
pub enum Arrival {
    Delivered(Delivered),
    Prepare { schema: SchemaRef, reply: Reply },
    Flush { reply: Reply },
    Close { deadline: Duration, reply: Reply },
}

pub struct Delivered {
    pub sequence: u64,
    pub bytes: usize,
    pub admitted: std::time::Instant,
    pub handoff: Duration,
    pub buffers_copied_for_pin_limit: usize,
    pub buffers_realigned: usize,
    pub witness: Option<Witness>,
    /// Each batch with its share of the bytes, or why the delivery is refused.
    pub batches: Result<Vec<(RecordBatch, usize)>, Error>,
}

pub struct Intake {
    pub destination: Arc<dyn Destination>,
    pub pool: Arc<Pool>,
    pub parallelism: usize,
}

impl Intake {
    /// Runs until the sender is gone, or until `over` says that nothing more is to be imported; what
    /// was handed over by then arrives all the same, for somebody waits for its outcome.
    pub async fn run(
        self,
        mut inbound: UnboundedReceiver<Inbound>,
        arrivals: Sender<Arrival>,
        mut over: oneshot::Receiver<()>,
    ) {
        let mut under_way: FuturesOrdered<Pin<Box<dyn Future<Output = Arrival> + Send>>> =
            FuturesOrdered::new();
        let mut is_over = false;
        loop {
            let arrival = tokio::select! {
                biased;
                Some(arrival) = under_way.next() => arrival,
                _ = &mut over, if !is_over => {
                    is_over = true;
                    inbound.close();
                    continue;
                }
                next = inbound.recv(), if under_way.len() < self.parallelism => match next {
                    Some(Inbound::Deliver(submission)) if is_over => {
                        let refused = Header::of(&submission).refused(not_imported());
                        under_way.push_back(Box::pin(ready(Arrival::Delivered(refused))));
                        continue;
                    }
                    Some(Inbound::Deliver(submission))
                        if submission.bytes < INLINE_BYTES && under_way.is_empty() =>
                    {
                        Arrival::Delivered(import(submission, self.destination.as_ref(), &self.pool))
                    }
                    Some(inbound) => {
                        under_way.push_back(self.prepare(inbound));
                        continue;
                    }
                    None => match under_way.next().await {
                        Some(arrival) => arrival,
                        None => return,
                    },
                },
            };
            if arrivals.send(arrival).await.is_err() {
                return;
            }
        }
    }

    fn prepare(&self, inbound: Inbound) -> Pin<Box<dyn Future<Output = Arrival> + Send>> {
        let submission = match inbound {
            Inbound::Deliver(submission) => submission,
            Inbound::Prepare { schema, reply } => {
                return Box::pin(ready(Arrival::Prepare { schema, reply }));
            }
            Inbound::Flush { reply } => return Box::pin(ready(Arrival::Flush { reply })),
            Inbound::Close { deadline, reply } => {
                return Box::pin(ready(Arrival::Close { deadline, reply }));
            }
        };
        let pool = self.pool.clone();
        let destination = self.destination.clone();
        let header = Header::of(&submission);
        let task = tokio::task::spawn_blocking(move || import(submission, destination.as_ref(), &pool));
        Box::pin(async move {
            Arrival::Delivered(match task.await {
                Ok(delivered) => delivered,
                // The handoff catches panics of libraries; this one is ours, and the caller must hear of it.
                Err(_) => header.refused(Error::new(Code::Internal, "the import of a batch panicked")),
            })
        })
    }
}

fn import(submission: Submission, destination: &dyn Destination, pool: &Arc<Pool>) -> Delivered {
    let header = Header::of(&submission);
    let mut delivered = header.refused(not_imported());
    let witness = submission.witness;
    let mut batches = Vec::new();
    for (index, parcel) in submission.parcels.into_iter().enumerate() {
        let payload = match parcel.schema() {
            Some(schema) if !destination.computes_on(schema) => Payload::Moved,
            _ => Payload::Computed,
        };
        match parcel.import(payload, pool) {
            Ok(imported) => {
                delivered.buffers_realigned += imported.realigned_buffers;
                let rows: usize = imported.batches.iter().map(RecordBatch::num_rows).sum();
                for batch in imported.batches {
                    let share = imported.bytes as u128 * batch.num_rows() as u128 / rows.max(1) as u128;
                    batches.push((batch, share as usize));
                }
            }
            Err(error) if index > 0 => {
                // Row numbers count through the whole delivery.
                let before: usize = batches
                    .iter()
                    .map(|(batch, _): &(RecordBatch, usize)| batch.num_rows())
                    .sum();
                let row = error.row().map(|row| row + before as u64);
                delivered.batches = Err(match row {
                    Some(row) => error.at_row(row),
                    None => error,
                });
                return delivered;
            }
            Err(error) => {
                delivered.batches = Err(error);
                return delivered;
            }
        }
    }
    delivered.witness = witness;
    delivered.batches = Ok(batches);
    delivered
}

fn not_imported() -> Error {
    Error::new(Code::Internal, "nothing was imported")
}

/// What of a submission outlives its import.
struct Header {
    sequence: u64,
    bytes: usize,
    admitted: std::time::Instant,
    handoff: Duration,
    buffers_copied_for_pin_limit: usize,
}

impl Header {
    fn of(submission: &Submission) -> Self {
        Header {
            sequence: submission.sequence,
            bytes: submission.bytes,
            admitted: submission.admitted,
            handoff: submission.handoff,
            buffers_copied_for_pin_limit: submission.buffers_copied_for_pin_limit,
        }
    }

    fn refused(self, error: Error) -> Delivered {
        Delivered {
            sequence: self.sequence,
            bytes: self.bytes,
            admitted: self.admitted,
            handoff: self.handoff,
            buffers_copied_for_pin_limit: self.buffers_copied_for_pin_limit,
            buffers_realigned: 0,
            witness: None,
            batches: Err(error),
        }
    }
}
