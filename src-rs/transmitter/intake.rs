//! Handoff batches → record batches, off the caller's thread, in order.
//!
//! Invariants:
//! - Deliveries and commands arrive at the engine in the order in which they came, although large deliveries are
//!   imported side by side: a `flush` that overtook a delivery would not wait for it.
//! - As long as the engine takes arrivals, every delivery arrives. One that cannot be imported arrives refused.
//! - A panic of an import does not end the task.
//!
//! Small deliveries of one turn are imported together. A producer of small deliveries would wake this task for
//! each, and a wake-up costs its thread more than the rest of the call. So after a turn with few bytes the task
//! rests for a millisecond, in which more deliveries come, unless a caller waits for those that are there.
//!
//! It settles nothing and puts no writes together.

mod import;

use std::collections::VecDeque;
use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::sync::{Notify, oneshot};

pub use self::import::ImportedDelivery;
use self::import::import;
use super::batch_slice::SMALL_BYTES;
use super::clock::{now, until};
use super::{Delivery, Reply};
use crate::capture::Capture;
use crate::compute;
use crate::config::BatchingOptions;
use crate::destination::Destination;
use crate::error::{Code, Error};
use crate::handoff::{HandoffBatch, Pool};
use crate::outcome::AdmittedDelivery;

/// An import of fewer bytes takes less time than handing it to another thread.
const INLINE_BYTES: usize = 128 << 10;
/// Deliveries taken in one turn.
const TURN: usize = 256;
/// The runtime's clock has no shorter one.
const REST: Duration = Duration::from_millis(1);
/// How long a close waits for the files of a capture.
const CAPTURE_GRACE: Duration = Duration::from_secs(2);
/// Where rows linger for less, a rest would be a large part of that.
const LINGER: Duration = Duration::from_millis(5);

/// Commands of the producer, in order.
pub enum Inbound {
    Deliver(Delivery),
    Prepare {
        schema: SchemaRef,
        reply: Reply,
    },
    /// Somebody waits for the outcome of the deliveries before.
    Hurry,
    Flush {
        reply: Reply,
    },
    Close {
        deadline: Duration,
        reply: Reply,
    },
}

/// The same commands, with deliveries imported.
pub enum Arrival {
    Delivery(ImportedDelivery),
    Prepare { schema: SchemaRef, reply: Reply },
    Hurry,
    Flush { reply: Reply },
    Close { deadline: Duration, reply: Reply },
}

pub struct Intake {
    /// Copies what is recorded, before anybody may write to lent memory again.
    pub capture: Option<Arc<Capture>>,
    pub destination: Arc<dyn Destination>,
    pub pool: Arc<Pool>,
    pub parallelism: usize,
    /// What makes a write full, and how long rows wait for that.
    pub batching: BatchingOptions,
    /// Notified when somebody waits: the intake does not rest then.
    pub urgent: Arc<Notify>,
}

/// The imported front of the queue, later.
type Arrivals = Pin<Box<dyn Future<Output = Vec<Arrival>> + Send>>;

impl Intake {
    /// Runs until the sender is gone, or until `over` says that nothing more is to be imported. Deliveries
    /// that were handed over by then arrive all the same, refused, since somebody waits for their outcome.
    pub async fn run(
        self,
        mut inbound: UnboundedReceiver<Inbound>,
        arrivals: Sender<Vec<Arrival>>,
        mut over: oneshot::Receiver<()>,
    ) {
        let mut under_way: FuturesOrdered<Arrivals> = FuturesOrdered::new();
        let mut turn = Vec::with_capacity(TURN);
        let mut queue = VecDeque::with_capacity(TURN);
        let mut is_over = false;
        let mut rests_until: Option<Instant> = None;
        loop {
            let has_room = under_way.len() < self.parallelism;
            let group = tokio::select! {
                biased;
                Some(group) = under_way.next() => group,
                _ = &mut over, if !is_over => {
                    is_over = true;
                    inbound.close();
                    continue;
                }
                () = ready(()), if has_room && !queue.is_empty() => {
                    let now = under_way.is_empty();
                    match self.begin(&mut queue, is_over, now) {
                        Import::Done(group) => group,
                        Import::Running(import) => {
                            under_way.push_back(import);
                            continue;
                        }
                    }
                }
                () = until(rests_until), if rests_until.is_some() && !is_over => {
                    rests_until = None;
                    continue;
                }
                () = self.urgent.notified(), if rests_until.is_some() => {
                    rests_until = None;
                    continue;
                }
                count = inbound.recv_many(&mut turn, TURN), if has_room && (rests_until.is_none() || is_over) => {
                    if count > 0 {
                        rests_until = self.may_rest(&turn).then(|| now() + REST);
                        queue.extend(turn.drain(..));
                        continue;
                    }
                    match under_way.next().await {
                        Some(group) => group,
                        None => return,
                    }
                }
            };
            let group = self.recorded(group).await;
            if arrivals.send(group).await.is_err() {
                return;
            }
        }
    }

    /// Hands what is recorded of a group to the capture, which keeps the order; at a close its files are closed, for
    /// as long as somebody has the patience.
    async fn recorded(&self, mut group: Vec<Arrival>) -> Vec<Arrival> {
        let Some(capture) = &self.capture else {
            return group;
        };
        for arrival in &mut group {
            match arrival {
                Arrival::Delivery(delivery) => {
                    if let Some(rows) = delivery.captured.take() {
                        capture.keep(rows);
                    }
                }
                Arrival::Close { deadline, .. } => {
                    let (done, closed) = oneshot::channel();
                    capture.close(move || {
                        let _ = done.send(());
                    });
                    // A disk that hangs holds up no close beyond that.
                    let _ = tokio::time::timeout(CAPTURE_GRACE.min(*deadline), closed).await;
                }
                Arrival::Prepare { .. } | Arrival::Hurry | Arrival::Flush { .. } => {}
            }
        }
        group
    }

    /// Whether the task may rest after this turn: not if the turn fills a write, which would be sent at once.
    fn may_rest(&self, turn: &[Inbound]) -> bool {
        let sum = turn
            .iter()
            .try_fold((0_usize, 0_usize), |(bytes, rows), inbound| match inbound {
                Inbound::Deliver(delivery) => Some((
                    bytes.saturating_add(delivery.bytes),
                    delivery
                        .handoff_batches
                        .iter()
                        .filter_map(HandoffBatch::rows)
                        .fold(rows, usize::saturating_add),
                )),
                _ => None,
            });
        let full = |(bytes, rows)| {
            bytes >= self.batching.max_bytes.min(SMALL_BYTES) || rows >= self.batching.max_rows
        };
        // A full turn has left deliveries in the channel, for which somebody may wait already.
        turn.len() < TURN && self.batching.linger >= LINGER && sum.is_some_and(|sum| !full(sum))
    }

    /// Takes the front of the queue and begins its import: deliveries as long as they are small together, or
    /// one large delivery, or one command.
    fn begin(&self, queue: &mut VecDeque<Inbound>, is_over: bool, now: bool) -> Import {
        let mut deliveries = Vec::new();
        let mut bytes = 0_usize;
        while let Some(Inbound::Deliver(next)) = queue.front()
            && (deliveries.is_empty() || bytes < SMALL_BYTES && next.bytes < SMALL_BYTES)
        {
            bytes = bytes.saturating_add(next.bytes);
            if let Some(Inbound::Deliver(delivery)) = queue.pop_front() {
                deliveries.push(delivery);
            }
        }
        if deliveries.is_empty() {
            let command = queue.pop_front().map(Arrival::from);
            return Import::of(command.into_iter().collect(), now);
        }
        if is_over {
            let refused = |delivery| Arrival::from(Inbound::Deliver(delivery));
            return Import::of(deliveries.into_iter().map(refused).collect(), now);
        }
        let pool = self.pool.clone();
        let destination = self.destination.clone();
        let capture = self.capture.clone();
        // Nobody knows how large IPC bytes become.
        let is_columns = |handoff_batch: &HandoffBatch| matches!(handoff_batch, HandoffBatch::Columns(_));
        let flat = || {
            deliveries
                .iter()
                .flat_map(|delivery| &delivery.handoff_batches)
                .all(is_columns)
        };
        let inline = now && (bytes < INLINE_BYTES || deliveries.len() > 1 && flat());
        let entries: Vec<AdmittedDelivery> = deliveries.iter().map(Delivery::entry).collect();
        let import = move || {
            let mut imported = import(deliveries, destination.as_ref(), &pool);
            if let Some(capture) = &capture {
                imported.iter_mut().for_each(|delivery| delivery.record(capture));
            }
            imported.into_iter().map(Arrival::Delivery).collect()
        };
        if inline {
            // A panic would end the intake, and every later caller would wait for ever.
            let imported = catch_unwind(AssertUnwindSafe(import));
            return Import::Done(imported.unwrap_or_else(|_| panicked(entries)));
        }
        let task = compute::spawn(import);
        Import::Running(Box::pin(async move {
            task.await.unwrap_or_else(|_| panicked(entries))
        }))
    }
}

/// The handoff catches panics of libraries. This one is a bug of ours, and the callers must hear of it.
fn panicked(entries: Vec<AdmittedDelivery>) -> Vec<Arrival> {
    let error = || Error::new(Code::Internal, "the import of a batch panicked");
    let refused = |entry| Arrival::Delivery(ImportedDelivery::refused(entry, error()));
    entries.into_iter().map(refused).collect()
}

enum Import {
    Done(Vec<Arrival>),
    Running(Arrivals),
}

impl Import {
    /// Arrivals that need no import, behind the imports that run.
    fn of(group: Vec<Arrival>, now: bool) -> Import {
        if now {
            Import::Done(group)
        } else {
            Import::Running(Box::pin(ready(group)))
        }
    }
}

impl From<Inbound> for Arrival {
    /// A command as it is; a delivery must be imported.
    fn from(inbound: Inbound) -> Arrival {
        match inbound {
            Inbound::Deliver(delivery) => {
                let error = Error::new(Code::Internal, "nothing was imported");
                Arrival::Delivery(ImportedDelivery::refused(delivery.entry(), error))
            }
            Inbound::Prepare { schema, reply } => Arrival::Prepare { schema, reply },
            Inbound::Hurry => Arrival::Hurry,
            Inbound::Flush { reply } => Arrival::Flush { reply },
            Inbound::Close { deadline, reply } => Arrival::Close { deadline, reply },
        }
    }
}
