//! Handoff batches → record batches, off the caller's thread, in order.
//!
//! Large deliveries are imported side by side on the threads that compute; they still arrive in the order in
//! which they were admitted, and so do the commands between them: a `flush` that overtook a delivery
//! would not wait for it. Small ones that came together are imported together.
//!
//! A producer of small deliveries would wake this task for each, and a wake-up costs its thread more
//! than all the rest of the call. So after a turn that brought little it rests for a moment and lets more of
//! them come, unless somebody waits for what is there.

use std::collections::VecDeque;
use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::batch_slice::{BatchSlice, SMALL_BYTES, is_small};
use super::{Delivery, PayloadDigest, Reply};
use crate::compute;
use crate::config::Batching;
use crate::destination::Destination;
use crate::error::{Code, Error};
use crate::handoff::{ColumnBuffers, HandoffBatch, PayloadUse, Pool, can_join, join};

/// Below this an import is over before a thread would have been found for it.
const INLINE_BYTES: usize = 128 << 10;
/// Of what is not copied anyway, only this much is copied to be imported together: importing it by itself
/// takes longer than that.
const TINY_BYTES: usize = 8 << 10;
/// Rows that are imported together. They may be claimed and not there, and memory is asked for before it shows.
const RUN_ROWS: usize = 65_536;
/// Deliveries taken in one turn.
const TURN: usize = 256;
/// The runtime's clock has no shorter one.
const REST: Duration = Duration::from_millis(1);
/// Where rows linger for less, a rest would be a good part of it.
const LINGER: Duration = Duration::from_millis(5);

/// What the user's side asks for, in order.
pub enum Inbound {
    Deliver(Delivery),
    Prepare {
        schema: SchemaRef,
        reply: Reply,
    },
    /// Somebody waits for the outcome of what came before.
    Hurry,
    Flush {
        reply: Reply,
    },
    Close {
        deadline: Duration,
        reply: Reply,
    },
}

/// The same, with deliveries imported.
pub enum Arrival {
    Delivery(ImportedDelivery),
    Prepare { schema: SchemaRef, reply: Reply },
    Hurry,
    Flush { reply: Reply },
    Close { deadline: Duration, reply: Reply },
}

pub struct ImportedDelivery {
    pub sequence: u64,
    pub bytes: usize,
    pub charge: usize,
    pub admitted: std::time::Instant,
    pub handoff: Duration,
    pub buffers_copied_for_pin_limit: usize,
    pub buffers_realigned: usize,
    pub payload_digest: Option<PayloadDigest>,
    /// Its rows, or why the delivery is refused.
    pub slices: Result<Vec<BatchSlice>, Error>,
}

pub struct Intake {
    pub destination: Arc<dyn Destination>,
    pub pool: Arc<Pool>,
    pub parallelism: usize,
    /// What makes a write full, and how long rows wait for that.
    pub batching: Batching,
    /// Told when somebody waits: what came is imported now.
    pub urgent: Arc<Notify>,
}

/// What becomes of a turn's front: there, or on its way.
type Arrivals = Pin<Box<dyn Future<Output = Vec<Arrival>> + Send>>;

impl Intake {
    /// Runs until the sender is gone, or until `over` says that nothing more is to be imported; what
    /// was handed over by then arrives all the same, for somebody waits for its outcome.
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
                        rests_until = self.may_rest(&turn).then(|| Instant::now() + REST);
                        queue.extend(turn.drain(..));
                        continue;
                    }
                    match under_way.next().await {
                        Some(group) => group,
                        None => return,
                    }
                }
            };
            if arrivals.send(group).await.is_err() {
                return;
            }
        }
    }

    /// Whether more may be waited for, now that so much has come: not if it fills a write, which would
    /// be sent at once.
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
        // A turn that is full has left others behind, for whom somebody may wait already.
        turn.len() < TURN && self.batching.linger >= LINGER && sum.is_some_and(|sum| !full(sum))
    }

    /// Takes as much from the front of the queue as is imported in one go.
    fn begin(&self, queue: &mut VecDeque<Inbound>, is_over: bool, now: bool) -> Import {
        let mut deliveries = Vec::new();
        let mut bytes = 0_usize;
        // As long as they are still small together; and a large one by itself.
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
        // Nobody knows how large IPC bytes become.
        let is_columns = |handoff_batch: &HandoffBatch| matches!(handoff_batch, HandoffBatch::Columns(_));
        let flat = || {
            deliveries
                .iter()
                .flat_map(|delivery| &delivery.handoff_batches)
                .all(is_columns)
        };
        let inline = now && (bytes < INLINE_BYTES || deliveries.len() > 1 && flat());
        let headers: Vec<Header> = deliveries.iter().map(Header::of).collect();
        let import = move || import(deliveries, destination.as_ref(), &pool);
        if inline {
            // Uncontained, it would end the intake, and everybody after it would wait for ever.
            let imported = catch_unwind(AssertUnwindSafe(import));
            return Import::Done(imported.unwrap_or_else(|_| panicked(headers)));
        }
        let task = compute::spawn(import);
        Import::Running(Box::pin(async move {
            task.await.unwrap_or_else(|_| panicked(headers))
        }))
    }
}

/// The handoff catches panics of libraries; this one is ours, and the callers must hear of it.
fn panicked(headers: Vec<Header>) -> Vec<Arrival> {
    let error = || Error::new(Code::Internal, "the import of a batch panicked");
    let refused = |header: Header| Arrival::Delivery(header.refused(error()));
    headers.into_iter().map(refused).collect()
}

enum Import {
    Done(Vec<Arrival>),
    Running(Arrivals),
}

impl Import {
    /// What needs no import, behind what is under way.
    fn of(group: Vec<Arrival>, now: bool) -> Import {
        if now {
            Import::Done(group)
        } else {
            Import::Running(Box::pin(ready(group)))
        }
    }
}

fn import(deliveries: Vec<Delivery>, destination: &dyn Destination, pool: &Arc<Pool>) -> Vec<Arrival> {
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
        let mut imported = Header::of(&delivery).refused(not_imported());
        imported.slices = Ok(Vec::with_capacity(delivery.handoff_batches.len().min(64)));
        imported.payload_digest = delivery.payload_digest;
        importer.deliveries.push(imported);
        let owner = importer.deliveries.len() - 1;
        for handoff_batch in delivery.handoff_batches {
            importer.add(owner, handoff_batch);
        }
    }
    importer.import_run();
    importer.deliveries.into_iter().map(Arrival::Delivery).collect()
}

/// Importer in order: small batches of one schema together, the others each by itself.
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
                delivery.buffers_realigned += part.realigned_buffers;
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
                delivery.buffers_realigned += imported.realigned_buffers;
                let rows: usize = imported.batches.iter().map(RecordBatch::num_rows).sum();
                for batch in imported.batches {
                    let share = imported.bytes as u128 * batch.num_rows() as u128 / rows.max(1) as u128;
                    slices.push(BatchSlice::whole(batch, share as usize));
                }
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

impl From<Inbound> for Arrival {
    /// A command as it is; a delivery must be imported.
    fn from(inbound: Inbound) -> Arrival {
        match inbound {
            Inbound::Deliver(delivery) => Arrival::Delivery(Header::of(&delivery).refused(not_imported())),
            Inbound::Prepare { schema, reply } => Arrival::Prepare { schema, reply },
            Inbound::Hurry => Arrival::Hurry,
            Inbound::Flush { reply } => Arrival::Flush { reply },
            Inbound::Close { deadline, reply } => Arrival::Close { deadline, reply },
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn not_imported() -> Error {
    Error::new(Code::Internal, "nothing was imported")
}

/// What of a delivery outlives its import.
struct Header {
    sequence: u64,
    bytes: usize,
    charge: usize,
    admitted: std::time::Instant,
    handoff: Duration,
    buffers_copied_for_pin_limit: usize,
}

impl Header {
    fn of(delivery: &Delivery) -> Self {
        Header {
            sequence: delivery.sequence,
            bytes: delivery.bytes,
            charge: delivery.charge,
            admitted: delivery.admitted,
            handoff: delivery.handoff,
            buffers_copied_for_pin_limit: delivery.buffers_copied_for_pin_limit,
        }
    }

    fn refused(self, error: Error) -> ImportedDelivery {
        ImportedDelivery {
            sequence: self.sequence,
            bytes: self.bytes,
            charge: self.charge,
            admitted: self.admitted,
            handoff: self.handoff,
            buffers_copied_for_pin_limit: self.buffers_copied_for_pin_limit,
            buffers_realigned: 0,
            payload_digest: None,
            slices: Err(error),
        }
    }
}
