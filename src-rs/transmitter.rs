//! admission → intake → writes → session → destination, and back up once.
//!
//! Only this module and `engine` know the order of the stages. A stage imports the types that an earlier one hands
//! over, and calls none of the others; only `deliveries` gives bytes back to `admission`. The life of a delivery:
//!
//! 1. [`Transmitter::request`] admits it, or hands out a ticket that is granted later.
//! 2. [`Transmitter::deliver`] takes it; `intake` imports it off the caller's thread.
//! 3. `engine` routes events from there on: `writes` batches the rows and keeps a window of writes in flight,
//!    `sessions` has the destination and retries, `deliveries` settles every delivery exactly once through
//!    the [`Observer`].
//!
//! With a spool, `spooling` stands between `intake` and `engine`: a delivery goes to the disk, and what is delivered
//! comes from there.
//!
//! It does not wait on the caller's thread, reorder or drop. A delivery that was admitted ends in an
//! [`Outcome`], whatever happens.

mod admission;
pub(crate) mod batch_slice;
mod clock;
mod deliveries;
mod engine;
mod facts;
mod intake;
mod rows;
mod schema;
mod sessions;
mod spooling;
pub(crate) mod writes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use tokio::sync::mpsc::{self, UnboundedSender, error::SendError};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

pub use admission::Admit;
pub use facts::{Fact, FactKind, SpooledBy};
pub use spooling::{OpenedSpool, SpoolStats, open_spool};

use crate::capture::Capture;
use crate::config::Config;
use crate::counters::Counters;
use crate::destination::Destination;
use crate::error::{Code, Error, Result};
use crate::handoff::{HandoffBatch, Pool};
use crate::outcome::{AdmittedDelivery, Ledger, Outcome, RowRange, Status};
use crate::spool::Recovered;
use admission::Admission;
use engine::{Control, Engine, RowSource};
use intake::{Inbound, Intake};
use rows::EndedRange;
use spooling::{SpoolView, StageChannels};

/// Groups of imported deliveries that may wait for the engine.
const ARRIVALS: usize = 64;

/// Carries batches of one producer to one destination.
pub struct Transmitter {
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    inbound: UnboundedSender<Inbound>,
    /// Notified when somebody waits for deliveries that the intake holds.
    urgent: Arc<Notify>,
    control: UnboundedSender<Control>,
    tasks: Vec<AbortHandle>,
    observer: Observer,
    spool: Option<SpoolView>,
    /// The budget of what the engine holds, where a spool stands before it.
    behind: Option<Arc<Admission>>,
}

/// Receives the transmitter's events. The transmitter calls it on its own threads; it must not block.
pub type Observer = Arc<dyn Fn(Event) + Send + Sync>;

/// Hears, in place of the callers, what becomes of rows that a log keeps. It must not block.
///
/// Rows are counted within their delivery, whose sequence is the position of its first row in the log.
pub trait Settlements: Send + Sync {
    /// These rows are durable at the destination.
    fn accepted(&self, range: &RowRange);
    /// These rows have ended, and not all of them are there. Answered by [`Control::Recorded`](engine::Control::Recorded)
    /// once the disk knows.
    fn ended(&self, ended: EndedRange);
    /// No row of the delivery is left to wait for. `told`: its caller has been told of it by `given_up`.
    fn settled(&self, outcome: Outcome, told: bool);
    /// Its caller waits no longer, while the delivery goes on.
    fn given_up(&self, outcome: Outcome);
}

#[derive(Debug)]
pub enum Event {
    Settled(Box<Outcome>),
    /// With a spool: this delivery is as durable as `spool.durability` says.
    Spooled(u64),
    /// With a spool: the outcome of a delivery that an earlier client left, or whose caller waits no longer.
    Recovered(Box<Outcome>),
    /// This ticket may be redeemed now.
    Granted(u64),
    Log(Log),
    Fact(Box<Fact>),
}

/// Something worth a line in the user's log.
#[derive(Debug, Clone)]
pub struct Log {
    pub level: &'static str,
    pub message: String,
    pub fields: serde_json::Value,
}

/// Answers an operation, exactly once. A reply that is dropped unanswered answers `CLOSED`, so that nobody
/// waits for ever.
pub struct Reply(Option<Box<dyn FnOnce(Result<()>) + Send>>);

impl Reply {
    pub fn new(answer: impl FnOnce(Result<()>) + Send + 'static) -> Self {
        Reply(Some(Box::new(answer)))
    }

    pub fn answer(mut self, result: Result<()>) {
        if let Some(answer) = self.0.take() {
            answer(result);
        }
    }

    /// Whoever waits is answered in another way.
    pub fn forgo(mut self) {
        self.0 = None;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer(Err(Error::new(Code::Closed, "the client is closed")));
        }
    }
}

/// Asked when a delivery is settled: is its memory still what was handed over?
pub type PayloadDigest = Box<dyn FnOnce() -> bool + Send>;

/// One delivery as it comes in.
pub struct Delivery {
    /// Strictly increasing in the order of admission.
    pub sequence: u64,
    pub handoff_batches: Vec<HandoffBatch>,
    /// Bytes of its buffers.
    pub bytes: usize,
    /// Bytes of the budget that it takes.
    pub charge: usize,
    pub admitted: Instant,
    /// Time spent on the caller's thread.
    pub handoff: Duration,
    pub buffers_copied_for_pin_limit: usize,
    pub payload_digest: Option<PayloadDigest>,
}

impl Delivery {
    /// What the ledger has to know of it. Rows are counted when they are imported.
    fn entry(&self) -> AdmittedDelivery {
        AdmittedDelivery {
            sequence: self.sequence,
            rows: 0,
            bytes: self.bytes,
            charge: self.charge,
            admitted: self.admitted,
            handoff: self.handoff,
            buffers_copied_for_pin_limit: self.buffers_copied_for_pin_limit,
            buffers_realigned: 0,
        }
    }
}

/// The outcome of a delivery is told.
fn count(counters: &Counters, outcome: &Outcome) {
    counters.rows_accepted.add(outcome.accepted_rows);
    counters.rows_rejected.add(outcome.rejections.len());
    match outcome.status {
        Status::Acknowledged => {
            counters.deliveries_acknowledged.add(1);
            counters.bytes_accepted.add(outcome.bytes);
        }
        Status::Partial => counters.deliveries_partial.add(1),
        Status::Failed => counters.deliveries_failed.add(1),
        Status::Unknown => counters.deliveries_unknown.add(1),
        Status::Spooled => counters.deliveries_spooled.add(1),
    }
}

impl Transmitter {
    /// Starts the tasks on the current tokio runtime.
    pub fn start(
        destination: Arc<dyn Destination>,
        config: &Config,
        pool: Arc<Pool>,
        counters: Arc<Counters>,
        observer: Observer,
        spool: Option<OpenedSpool>,
    ) -> Transmitter {
        // One half on its way to the disk, the other on its way from there: what waits for the disk to have room
        // must not keep out what would make some.
        let budget = match spool {
            Some(_) => (config.inflight.max_bytes / 2).max(1),
            None => config.inflight.max_bytes,
        };
        let admission = Arc::new(Admission::new(budget));
        let (inbound, inbound_receiver) = mpsc::unbounded_channel();
        let (control, control_receiver) = mpsc::unbounded_channel();
        let (arrivals, arrivals_receiver) = mpsc::channel(ARRIVALS);
        let (over, end) = oneshot::channel();
        let urgent = Arc::new(Notify::new());
        let capture = config.capture.clone().map(|options| {
            let warn = engine::warn(observer.clone());
            Arc::new(Capture::open(options, counters.clone(), warn))
        });
        let intake = Intake {
            capture,
            destination: destination.clone(),
            pool,
            parallelism: std::thread::available_parallelism().map_or(2, usize::from),
            batching: config.batching.clone(),
            urgent: urgent.clone(),
        };
        let mut tasks = vec![tokio::spawn(intake.run(inbound_receiver, arrivals, end)).abort_handle()];
        let Some(spool) = spool else {
            let engine = Engine::new(
                destination,
                config,
                RowSource::callers(),
                admission.clone(),
                counters.clone(),
                observer.clone(),
            );
            tasks.push(tokio::spawn(engine.run(arrivals_receiver, control_receiver, over)).abort_handle());
            return Transmitter {
                admission,
                counters,
                inbound,
                urgent,
                control,
                tasks,
                observer,
                spool: None,
                behind: None,
            };
        };
        let (to_engine, from_stage) = mpsc::channel(ARRIVALS);
        let (engine_control, engine_orders) = mpsc::unbounded_channel();
        let channels = StageChannels {
            arrivals: arrivals_receiver,
            over,
            control: control_receiver,
            engine: to_engine,
            engine_control,
        };
        let stage = spooling::start(
            spool,
            admission.clone(),
            budget,
            channels,
            counters.clone(),
            observer.clone(),
        );
        let behind = stage.admission.clone();
        let engine = Engine::new(
            destination,
            config,
            stage.source,
            stage.admission,
            counters.clone(),
            stage.observer,
        );
        // The stage ends the intake; nobody imports for the engine.
        let (over, _) = oneshot::channel();
        tasks.push(tokio::spawn(engine.run(from_stage, engine_orders, over)).abort_handle());
        tasks.extend(stage.tasks);
        Transmitter {
            admission,
            counters,
            inbound,
            urgent,
            control,
            tasks,
            observer,
            spool: Some(stage.view),
            behind: Some(behind),
        }
    }

    /// Of the spool, if there is one.
    pub fn spool(&self) -> Option<SpoolStats> {
        self.spool.as_ref().map(SpoolView::stats)
    }

    /// Keeps in the spool, if there is one, what the destination said of the table's schema.
    ///
    /// # Errors
    /// As [`crate::spool::Spool::keep_schema`].
    pub async fn keep_schema(&self, schema: &[u8]) -> Result<()> {
        match &self.spool {
            Some(spool) => spool.keep_schema(schema.to_vec()).await,
            None => Ok(()),
        }
    }

    /// What the spool keeps of the table's schema.
    pub async fn kept_schema(&self) -> Option<Vec<u8>> {
        self.spool.as_ref()?.kept_schema().await
    }

    /// What was in the spool when it was opened.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.spool.as_ref().map(|spool| &spool.recovered)
    }

    /// Asks for the admission of `bytes`.
    ///
    /// # Errors
    /// `CLOSED` once the client takes nothing more.
    pub fn request(&self, bytes: usize) -> Result<Admit> {
        let admit = self.admission.request(bytes)?;
        if matches!(admit, Admit::Queued(_)) {
            // The engine sleeps while rows linger, and would not learn that somebody needs their bytes.
            let _ = self.control.send(Control::Waiting);
            self.urgent.notify_one();
        }
        Ok(admit)
    }

    /// Turns a granted ticket into an admission.
    ///
    /// # Errors
    /// `CLOSED`, or `INTERNAL` for a ticket that was not granted.
    pub fn redeem(&self, ticket: u64, bytes: usize) -> Result<()> {
        self.tell_granted(self.admission.redeem(ticket, bytes)?);
        // A caller that waited for the budget does not also wait for other rows to join its own.
        self.urgent.notify_one();
        Ok(())
    }

    /// Takes back a ticket. Returns whether there was one.
    pub fn cancel(&self, ticket: u64) -> bool {
        let (found, granted) = self.admission.cancel(ticket);
        self.tell_granted(granted);
        // The callers behind it may still not fit, so the engine has to look again.
        let _ = self.control.send(Control::Waiting);
        found
    }

    /// Gives back what was admitted and could not be handed over after all.
    pub fn give_back(&self, bytes: usize) {
        self.tell_granted(self.admission.release(bytes));
        let _ = self.control.send(Control::Waiting);
    }

    /// Takes a delivery that was admitted. Its outcome comes through the observer.
    pub fn deliver(&self, delivery: Delivery) {
        self.counters.deliveries_admitted.add(1);
        self.counters.bytes_admitted.add(delivery.bytes);
        self.counters.unsettled.add(1);
        if self.spool.is_none() {
            self.counters.arriving.add(1);
        }
        if let Err(SendError(Inbound::Deliver(delivery))) = self.inbound.send(Inbound::Deliver(delivery)) {
            self.turn_away(&delivery);
        }
    }

    /// Opens a session for `schema` now, so that what is wrong with it is known before the first batch.
    pub fn prepare(&self, schema: SchemaRef, reply: Reply) {
        self.ask(Inbound::Prepare { schema, reply });
    }

    /// A caller waits for the outcome of a delivery that was admitted before. What was admitted by now does not
    /// linger, and is committed as soon as the destination was quiet for its commit interval.
    pub fn hurry(&self) {
        // The intake is not notified: it rests for a moment only, and among small batches each turn has a
        // caller that waits.
        let _ = self.inbound.send(Inbound::Hurry);
    }

    /// Answers when everything admitted before is settled.
    pub fn flush(&self, reply: Reply) {
        self.ask(Inbound::Flush { reply });
    }

    /// Settles a delivery that was admitted just before a close, when the intake had ended already.
    fn turn_away(&self, delivery: &Delivery) {
        let error = Error::new(Code::Closed, "the client is closed").during("send");
        let mut ledger = Ledger::default();
        ledger.enter(delivery.entry());
        if self.spool.is_none() {
            self.counters.arriving.sub(1);
        }
        self.counters.unsettled.sub(1);
        self.counters.deliveries_failed.add(1);
        if let Some(settled) = ledger.fail_rest(delivery.sequence, &error, Instant::now()) {
            (self.observer)(Event::Settled(Box::new(settled.outcome)));
        }
        self.give_back(delivery.charge);
    }

    /// Admits nothing more. All tickets are void, and their holders are not told. Returns how many there were.
    pub fn turn_away_waiting(&self) -> usize {
        self.admission.close().len()
    }

    /// Admits nothing more, delivers what was admitted until `deadline`, then settles the rest as
    /// failed or unknown. Answers when nothing is left.
    pub fn close(&self, deadline: Duration, reply: Reply) {
        // The holders of void tickets wait. They redeem them, and hear that the client is closed.
        self.tell_granted(self.admission.close());
        let _ = self.control.send(Control::CloseBy(deadline));
        self.urgent.notify_one();
        if let Err(SendError(Inbound::Close { reply, .. })) =
            self.inbound.send(Inbound::Close { deadline, reply })
        {
            // Closed before: nothing is left.
            reply.answer(Ok(()));
        }
    }

    /// Closes at once, and settles when that is done.
    pub async fn close_now(&self) {
        let (done, closed) = oneshot::channel();
        let reply = Reply::new(move |_| {
            let _ = done.send(());
        });
        self.close(Duration::ZERO, reply);
        let _ = closed.await;
    }

    /// Keeps refused rows that are in no delivery, under the sequence of the one that they were given with. Answers
    /// when the dead-letter directory has them, or it is known that it never will; at once where there is none.
    pub fn keep_refused(&self, sequence: u64, rows: String, reply: Reply) {
        let _ = self.control.send(Control::KeepRefused {
            sequence,
            rows,
            reply,
        });
    }

    /// The caller no longer waits for this delivery.
    pub fn abort(&self, sequence: u64) {
        let _ = self.control.send(Control::Abort(sequence));
    }

    /// The caller no longer waits for this delivery, and wants it delivered. Only with a spool.
    pub fn leave(&self, sequence: u64) {
        let _ = self.control.send(Control::Leave(sequence));
    }

    /// Drops everything at once, without outcomes: the environment that would receive them ends. What is in the
    /// spool stays there.
    pub fn terminate(&self) {
        self.admission.close();
        for task in &self.tasks {
            task.abort();
        }
        if let Some(spool) = &self.spool {
            spool.abandon();
        }
    }

    pub fn in_flight_bytes(&self) -> usize {
        let behind = self.behind.as_ref().map_or(0, |behind| behind.in_flight_bytes());
        self.admission.in_flight_bytes() + behind
    }

    /// Tickets that are not redeemed.
    pub fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    fn tell_granted(&self, tickets: Vec<u64>) {
        for ticket in tickets {
            (self.observer)(Event::Granted(ticket));
        }
    }

    /// After the intake has ended the command is dropped, and with it the reply, which answers then.
    fn ask(&self, inbound: Inbound) {
        let _ = self.inbound.send(inbound);
        self.urgent.notify_one();
    }
}

impl Drop for Transmitter {
    fn drop(&mut self) {
        self.terminate();
    }
}
