//! Deliveries → the disk, in the order in which they came.
//!
//! Invariants:
//! - Every arrival is answered for by one event, in order, also after the stage was stopped.
//! - A delivery that was aborted before it is in the spool does not come into it.
//!
//! It waits for room in the spool, and so do all who come behind: that is the back-pressure of the disk. It does not
//! wait until a delivery is durable, or a thousand small ones could not share a sync.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::sync::watch;

use super::moving::AsideMeasure;
use super::{AppendedDelivery, Early, StageEvent, aborted_error, held};
use crate::error::{Code, Error, Result};
use crate::outcome::AdmittedDelivery;
use crate::spool::{Appended, Spool};
use crate::transmitter::PayloadDigest;
use crate::transmitter::batch_slice::BatchSlice;
use crate::transmitter::intake::{Arrival, ImportedDelivery};

/// While somebody waits for room, rows that were put aside may be removed by hand.
const MEASURE_AGAIN: Duration = Duration::from_secs(1);

pub struct Appending {
    pub spool: Arc<Spool>,
    pub early: Arc<Mutex<Early>>,
    pub events: UnboundedSender<StageEvent>,
    pub stopped: watch::Receiver<bool>,
    pub measure: AsideMeasure,
}

impl Appending {
    pub async fn run(mut self, mut arrivals: Receiver<Vec<Arrival>>) {
        while let Some(group) = arrivals.recv().await {
            for arrival in group {
                self.take(arrival).await;
            }
        }
        self.say(StageEvent::NothingMore);
    }

    async fn take(&mut self, arrival: Arrival) {
        let end = self.spool.next_position();
        match arrival {
            Arrival::Delivery(delivery) => self.append(delivery).await,
            Arrival::Prepare { schema, reply } => self.say(StageEvent::Prepare(schema, reply)),
            Arrival::Hurry => self.say(StageEvent::Hurry(end)),
            Arrival::Flush { reply } => self.say(StageEvent::Flush(end, reply)),
            Arrival::Close { reply, .. } => self.say(StageEvent::Close(reply)),
        }
    }

    async fn append(&mut self, delivery: ImportedDelivery) {
        let ImportedDelivery {
            entry,
            payload_digest,
            slices,
            captured: _,
        } = delivery;
        let sequence = entry.sequence;
        let slices = match slices {
            Ok(slices) => slices,
            // Nothing is imported for a client that is closed.
            Err(_) if *self.stopped.borrow() => return self.say(StageEvent::Refused(entry, closed())),
            Err(error) => return self.say(StageEvent::Refused(entry, error)),
        };
        if entry.rows == 0 {
            return self.say(StageEvent::Empty(entry));
        }
        let batches: Vec<RecordBatch> = slices.iter().map(BatchSlice::batch).collect();
        drop(slices);
        if held(&self.early).aborted.remove(&sequence) {
            drop(batches);
            return self.say(StageEvent::Refused(entry, aborted_error()));
        }
        let appended = self.waited(&batches, sequence).await;
        let changed = payload_digest.is_some_and(|unchanged: PayloadDigest| !unchanged());
        // The memory goes before the budget that stood for it.
        drop(batches);
        self.say(match appended {
            Ok(Appended { position, durable }) => StageEvent::Appended(AppendedDelivery {
                positions: position..position + entry.rows as u64,
                entry,
                durable,
                changed,
            }),
            Err(error) => refused(entry, error),
        });
    }

    async fn waited(&mut self, batches: &[RecordBatch], sequence: u64) -> Result<Appended> {
        let append = self.spool.append(batches, sequence);
        tokio::pin!(append);
        let aborts = Arc::clone(&held(&self.early).news);
        loop {
            tokio::select! {
                biased;
                appended = &mut append => return appended,
                () = stop(&mut self.stopped) => return Err(closed()),
                () = aborts.notified() => {
                    if held(&self.early).aborted.remove(&sequence) {
                        return Err(aborted_error());
                    }
                }
                () = tokio::time::sleep(MEASURE_AGAIN) => self.measure.tell(&self.spool).await,
            }
        }
    }

    fn say(&self, event: StageEvent) {
        let _ = self.events.send(event);
    }
}

fn closed() -> Error {
    let text = "the client was closed before this was on the disk";
    Error::new(Code::DeadlineExceeded, text).during("close")
}

async fn stop(stopped: &mut watch::Receiver<bool>) {
    // Without a stage nobody would hear of the delivery.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn refused(entry: AdmittedDelivery, error: Error) -> StageEvent {
    StageEvent::Refused(entry, error.during("enqueue"))
}
