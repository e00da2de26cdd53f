//! Deliveries → the disk, in the order in which they came.
//!
//! Invariants:
//! - Every arrival is answered for by one event, also after the stage was stopped: in order, but for deliveries that
//!   were taken back while one before them waited.
//! - A delivery that was aborted before it is in the spool does not come into it. Neither does one whose caller has left
//!   while it waited for the disk: there is nothing yet of which the caller could be told that it is spooled.
//!
//! It waits for room in the spool, and so do all who come behind: that is the back-pressure of the disk. It does not
//! wait until a delivery is durable, or a thousand small ones could not share a sync.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::sync::watch;

use super::moving::AsideMeasure;
use super::waiting::Waiting;
use super::{AppendedDelivery, Early, StageEvent, aborted_error, held};
use crate::error::{Code, Error, Result};
use crate::outcome::AdmittedDelivery;
use crate::spool::{Appended, Spool};
use crate::transmitter::PayloadDigest;
use crate::transmitter::batch_slice::BatchSlice;
use crate::transmitter::clock::now;
use crate::transmitter::intake::{Arrival, ImportedDelivery};

/// While somebody waits for room, rows that were put aside may be removed by hand.
const MEASURE_AGAIN: Duration = Duration::from_secs(1);
/// Whoever has waited so long for the disk waits for more than its turn.
const LONG: Duration = Duration::from_secs(1);
/// So many are looked for at once: whoever says that others are taken back waits no longer than that takes.
const TOGETHER: usize = 256;

pub struct Appending {
    pub arrivals: Receiver<Vec<Arrival>>,
    pub behind: Waiting,
    /// The last delivery waited for the disk and was taken back: so does the next one.
    pub is_waiting: bool,
    pub spool: Arc<Spool>,
    pub early: Arc<Mutex<Early>>,
    pub events: UnboundedSender<StageEvent>,
    pub stopped: watch::Receiver<bool>,
    pub measure: AsideMeasure,
}

impl Appending {
    pub async fn run(mut self) {
        loop {
            while let Some(arrival) = self.behind.pop() {
                self.take(arrival).await;
            }
            self.is_waiting = false;
            let Some(group) = self.arrivals.recv().await else {
                return self.say(StageEvent::NothingMore);
            };
            group.into_iter().for_each(|arrival| self.behind.push(arrival));
        }
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
        self.is_waiting &= appended
            .as_ref()
            .is_err_and(|error| error.code() == Code::Aborted);
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
        let spool = Arc::clone(&self.spool);
        let append = spool.append(batches, sequence);
        // By its side: a disk that hangs must not keep anybody from being taken back.
        let measuring = measuring(self.measure.clone(), &spool);
        tokio::pin!(append, measuring);
        let news = Arc::clone(&held(&self.early).news);
        let began = now();
        loop {
            tokio::select! {
                biased;
                appended = &mut append => return appended,
                () = stop(&mut self.stopped) => return Err(closed()),
                () = news.notified() => {}
                () = tokio::time::sleep(LONG) => {}
                never = &mut measuring => match never {},
            }
            // A caller who leaves while the disk takes what comes is told that it is spooled, in a moment.
            self.is_waiting |= self.spool.wants_room() || now() - began >= LONG;
            let also_left = self.is_waiting;
            // Before this one: the word of many who leave at once comes once.
            self.take_back_behind(also_left);
            if held(&self.early).is_taken_back(sequence, also_left) {
                return Err(aborted_error());
            }
        }
    }

    /// Ends those that wait behind another and were taken back: theirs may be a long time to come.
    fn take_back_behind(&mut self, also_left: bool) {
        let mut from = 0;
        loop {
            let taken_back = held(&self.early).taken_back_from(from, also_left, TOGETHER);
            let Some(last) = taken_back.last() else {
                return;
            };
            from = last + 1;
            while let Ok(group) = self.arrivals.try_recv() {
                group.into_iter().for_each(|arrival| self.behind.push(arrival));
            }
            for sequence in taken_back {
                let Some(delivery) = self.behind.take(sequence) else {
                    continue;
                };
                held(&self.early).is_taken_back(sequence, also_left);
                // The memory goes before the budget that stood for it.
                let ImportedDelivery { entry, slices, .. } = delivery;
                drop(slices);
                self.say(StageEvent::TakenBack(entry));
            }
        }
    }

    fn say(&self, event: StageEvent) {
        let _ = self.events.send(event);
    }
}

async fn measuring(measure: AsideMeasure, spool: &Spool) -> Infallible {
    loop {
        tokio::time::sleep(MEASURE_AGAIN).await;
        measure.tell(spool).await;
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
