//! The one owner of what is unsettled: batches, sends, retries, settles.
//!
//! A single task, a single state; whatever happens arrives as an event, and after each event
//! `advance` does all that can be done. Invariants:
//! - Every delivery that arrives is settled exactly once, through `finish`.
//! - A write is sent only to an open session of its schema, in the order of its id.
//! - Nothing here awaits a destination: `session` does that on its own task.
//!
//! `sending` is what it does with a session; `asking` what it does while a retry predicate thinks;
//! `quarantine` what it does when rows are refused; `settling` is how deliveries end.

mod asking;
mod quarantine;
mod sending;
mod settling;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::admission::Admission;
use super::backoff::Backoff;
use super::batch_slice::BatchSlice;
use super::batcher::Batcher;
use super::intake::{Arrival, ImportedDelivery};
use super::search::Search;
use super::session::{Operation, SessionEvent, SessionEventKind, SessionHandle};
use super::urgency::Urgency;
use super::window::{FailedRanges, Window};
use super::{Event, Log, Observer, PayloadDigest, Reply};
use crate::config::{Config, Quarantine, Retry};
use crate::dead_letter::{DeadLetters, Warn};
use crate::destination::{Acknowledgement, Destination};
use crate::error::{Code, Error, RetryClass};
use crate::outcome::{AdmittedDelivery, Ledger, Position, RowRange, SettledDelivery};
use crate::telemetry::Counters;
use asking::RetryQuestion;
use settling::{aborted, deadline_passed};

/// How long a session that has nothing left to deliver may take to close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Arrivals taken in one turn.
const TURN: usize = 256;

/// What does not queue behind deliveries.
pub enum Control {
    Abort(u64),
    CloseBy(Duration),
    /// Somebody waits for budget that perhaps only a flush frees.
    Waiting,
}

pub struct Engine {
    destination: Arc<dyn Destination>,
    retry: Retry,
    quarantine: Quarantine,
    max_writes: usize,
    producer: Uuid,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    observer: Observer,

    ledger: Ledger,
    batcher: Batcher,
    urgency: Urgency,
    window: Window,
    /// Under way when a destination refused rows without naming them.
    search: Option<Search>,
    dead_letters: Option<DeadLetters>,
    /// SettledDelivery deliveries of which refused rows are on their way to the disk.
    unsynced: BTreeMap<u64, SettledDelivery>,
    backoff: Backoff,
    /// When the destination last acknowledged something, or broke off for the first time after it had.
    alive: Option<Instant>,
    /// Why it is away, since it last acknowledged something.
    outage: Option<Error>,
    dice: fastrand::Rng,
    /// Checks that the development option asks for, by sequence of unsettled deliveries.
    payload_digests: HashMap<u64, PayloadDigest>,
    /// Aborted before they arrived.
    aborted: HashSet<u64>,
    last_arrived: u64,
    /// Set once a write failed for good under `onExhausted: "stop"`.
    stopped: Option<Error>,

    session: Phase,
    session_number: u64,
    schema: Option<SchemaRef>,
    /// Whether that session was given any write.
    given: bool,
    events: UnboundedSender<SessionEvent>,
    inbox: UnboundedReceiver<SessionEvent>,
    /// The last write that a flush of the open session covers.
    flushed_through: u64,
    /// The oldest write that may have landed unseen, asked about at each `open` until a look is conclusive.
    resume_from: Option<u64>,

    flushes: VecDeque<Flush>,
    prepare: Option<Reply>,
    closing: Option<Closing>,
}

enum Phase {
    Closed,
    /// After a failure, until then.
    Waiting(Instant),
    /// As `Waiting`, and somebody is asked whether to try again.
    Asking(RetryQuestion),
    Opening(SessionHandle),
    Open(SessionHandle),
    /// Told to close. The handle is held because dropping it would cut the close short.
    Draining(#[allow(dead_code)] SessionHandle),
}

/// A promise that everything up to `barrier` is settled.
struct Flush {
    barrier: u64,
    reply: Reply,
}

struct Closing {
    deadline: Instant,
    /// The queue of deliveries has come to its end.
    arrived: bool,
    replies: Vec<Reply>,
}

/// What the engine was woken for.
enum WakeReason {
    Session(SessionEvent),
    Control(Control),
    /// They are in the turn.
    Arrivals,
    Nothing,
}

impl Engine {
    pub fn new(
        destination: Arc<dyn Destination>,
        config: &Config,
        producer: Uuid,
        admission: Arc<Admission>,
        counters: Arc<Counters>,
        observer: Observer,
    ) -> Engine {
        let (events, inbox) = unbounded_channel();
        let urgency = Urgency::new(destination.commit_interval(), config.batching.linger);
        let joins_here = !destination.capabilities().joins;
        let divisible = config.quarantine.enabled && destination.capabilities().refusals_are_atomic;
        let dead_letters = config
            .dead_letter
            .clone()
            .map(|options| DeadLetters::open(options, counters.clone(), warn(observer.clone())));
        Engine {
            destination,
            retry: config.retry.clone(),
            quarantine: config.quarantine.clone(),
            max_writes: config.inflight.max_writes,
            producer,
            admission,
            counters,
            observer,
            ledger: Ledger::default(),
            batcher: Batcher::new(config.batching.clone(), joins_here),
            urgency,
            window: if divisible {
                Window::divisible()
            } else {
                Window::default()
            },
            search: None,
            dead_letters,
            unsynced: BTreeMap::new(),
            backoff: Backoff::new(&config.retry),
            alive: None,
            outage: None,
            dice: fastrand::Rng::new(),
            payload_digests: HashMap::new(),
            aborted: HashSet::new(),
            last_arrived: 0,
            stopped: None,
            session: Phase::Closed,
            session_number: 0,
            schema: None,
            given: false,
            events,
            inbox,
            flushed_through: 0,
            resume_from: None,
            flushes: VecDeque::new(),
            prepare: None,
            closing: None,
        }
    }

    /// Runs until everything is settled after a close. `over` is dropped then, which tells the intake
    /// to import no more; what still arrives is refused.
    pub async fn run(
        mut self,
        mut arrivals: Receiver<Vec<Arrival>>,
        mut control: UnboundedReceiver<Control>,
        over: oneshot::Sender<()>,
    ) {
        let mut turn = Vec::with_capacity(TURN);
        let mut happened = WakeReason::Nothing;
        loop {
            // A panic that ended this task without a word would leave every caller waiting.
            match catch_unwind(AssertUnwindSafe(|| self.step(happened, &mut turn))) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    self.perish(turn);
                    break;
                }
            }
            let wake = self.wake_at().map(tokio::time::Instant::from_std);
            happened = tokio::select! {
                biased;
                Some(event) = self.inbox.recv() => WakeReason::Session(event),
                Some(control) = control.recv() => WakeReason::Control(control),
                group = arrivals.recv() => match group {
                    Some(group) => {
                        turn = group;
                        while turn.len() < TURN && let Ok(mut next) = arrivals.try_recv() {
                            turn.append(&mut next);
                        }
                        WakeReason::Arrivals
                    }
                    // Nothing more can come, and nobody has closed: what is here must not wait for it.
                    None => {
                        self.perish(Vec::new());
                        break;
                    }
                },
                () = until(wake) => WakeReason::Nothing,
            };
        }
        drop(over);
        self.stopped.get_or_insert_with(deadline_passed);
        while let Some(group) = arrivals.recv().await {
            for arrival in group {
                self.on_late_arrival(arrival);
            }
        }
        self.close_dead_letters().await;
        self.wait_for_the_disk_no_longer();
        self.answer_flushes();
        self.publish();
        if let Some(closing) = self.closing.take() {
            for reply in closing.replies {
                reply.answer(Ok(()));
            }
        }
    }

    /// Whether there is anything left to do.
    fn step(&mut self, happened: WakeReason, arrivals: &mut Vec<Arrival>) -> bool {
        match happened {
            WakeReason::Session(event) => self.on_session(event),
            WakeReason::Control(control) => self.on_control(control),
            WakeReason::Arrivals => {
                // One by one: a panic under a `drain` would take those that are left with it.
                arrivals.reverse();
                while let Some(arrival) = arrivals.pop() {
                    self.on_arrival(arrival);
                }
            }
            WakeReason::Nothing => {}
        }
        self.advance();
        self.publish();
        !self.is_finished()
    }

    // ---- what happens -------------------------------------------------------------------------

    fn on_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Delivery(delivery) => self.on_delivered(delivery),
            // A dropped reply says that the client is closed.
            Arrival::Prepare { .. } if self.closing.is_some() => {}
            Arrival::Prepare { schema, reply } => {
                self.destination.expect(&schema);
                if matches!(self.session, Phase::Closed) && self.window.is_empty() {
                    self.open(schema);
                    self.prepare = Some(reply);
                } else {
                    reply.answer(Ok(()));
                }
            }
            Arrival::Hurry => self.urgency.asked(now()),
            Arrival::Flush { reply } => self.flushes.push_back(Flush {
                barrier: self.last_arrived,
                reply,
            }),
            Arrival::Close { deadline, reply } => {
                let closing = self.close_by(deadline);
                closing.arrived = true;
                closing.replies.push(reply);
            }
        }
    }

    fn on_delivered(&mut self, delivery: ImportedDelivery) {
        self.last_arrived = delivery.sequence;
        let now = now();
        if self.aborted.remove(&delivery.sequence) {
            return self.refuse(&delivery, aborted());
        }
        if let Some(error) = &self.stopped {
            let error = error.clone();
            return self.refuse(&delivery, error);
        }
        let sequence = delivery.sequence;
        let slices = match delivery.slices {
            Ok(slices) => slices,
            Err(ref error) => {
                let error = error.clone();
                return self.refuse(&delivery, error);
            }
        };
        self.counters.arriving.sub(1);
        let rows = slices.iter().map(BatchSlice::rows).sum();
        self.counters.rows_admitted.add(rows);
        self.counters.buffers_realigned.add(delivery.buffers_realigned);
        self.counters
            .buffers_copied_for_pin_limit
            .add(delivery.buffers_copied_for_pin_limit);
        self.ledger.enter(AdmittedDelivery {
            sequence,
            rows,
            bytes: delivery.bytes,
            charge: delivery.charge,
            admitted: delivery.admitted,
            handoff: delivery.handoff,
            buffers_copied_for_pin_limit: delivery.buffers_copied_for_pin_limit,
            buffers_realigned: delivery.buffers_realigned,
        });
        if let Some(payload_digest) = delivery.payload_digest {
            self.payload_digests.insert(sequence, payload_digest);
        }
        if rows == 0 {
            // Nothing to send, so nothing can happen to it.
            let nothing = RowRange {
                sequence,
                first_row: 0,
                rows: 0,
            };
            let settled = self.ledger.accept(&nothing, Position::None, now);
            return self.finish(settled);
        }
        self.batcher.push(sequence, slices, now);
    }

    fn on_control(&mut self, control: Control) {
        match control {
            Control::Abort(sequence) => self.abort(sequence),
            Control::CloseBy(deadline) => {
                self.close_by(deadline);
            }
            // What it asks for is done after every event.
            Control::Waiting => {}
        }
    }

    fn on_session(&mut self, event: SessionEvent) {
        if let SessionEventKind::DeadLettersSynced { sequence } = event.kind {
            return self.on_dead_letters_synced(sequence);
        }
        // A session that was given up may still have had something to say.
        if event.session != self.session_number {
            return;
        }
        match event.kind {
            SessionEventKind::Opened { landed, conclusive } => self.on_opened(landed, conclusive),
            SessionEventKind::Acknowledged(acknowledgement) => self.on_acknowledged(acknowledgement),
            SessionEventKind::Sent { id } => self.on_sent(id),
            SessionEventKind::Written { id, took } => {
                if let Some(entry) = self.window.get(id) {
                    for range in entry.ranges() {
                        self.ledger.encoded(range, took);
                    }
                }
            }
            SessionEventKind::Flushed { through } => {
                let front = self.window.front();
                if front.is_some_and(|entry| entry.is_sent() && entry.id() <= through) {
                    // Nobody would ever ask for them again, and their callers would wait for ever.
                    self.session_number += 1;
                    self.on_broke(unacknowledged(), Operation::Flush);
                }
            }
            // A session is drained only when nothing waits for its acknowledgement.
            SessionEventKind::Closed => {
                self.session = Phase::Closed;
                self.schema = None;
            }
            SessionEventKind::Broke { error, operation } => self.on_broke(error, operation),
            SessionEventKind::RetryAnswered { oldest, answer } => self.on_retry_answered(oldest, answer),
            SessionEventKind::DeadLettersSynced { .. } => {}
        }
    }

    fn on_sent(&mut self, id: u64) {
        self.given = true;
        let now = now();
        // Counted here and not when it was queued: a session that breaks on one write must not use
        // up the attempts of those behind it.
        let Some(sent) = self.window.mark_sent(id, now) else {
            return;
        };
        let attempts = sent.entry.attempts();
        for range in sent.entry.ranges() {
            self.ledger.sent(range, attempts, sent.anew, now);
        }
        self.counters.writes_sent.add(1);
    }

    fn on_opened(&mut self, landed: Vec<Acknowledgement>, conclusive: bool) {
        self.counters.sessions_opened.add(1);
        if let Phase::Opening(handle) = std::mem::replace(&mut self.session, Phase::Closed) {
            self.session = Phase::Open(handle);
        }
        if let Some(reply) = self.prepare.take() {
            reply.answer(Ok(()));
        }
        for acknowledgement in landed {
            self.on_acknowledged(acknowledgement);
        }
        if !conclusive {
            // A request of an earlier session may still arrive: the next session looks for it again.
            return;
        }
        // What did not land then never will: the destination has looked.
        if self.resume_from.take().is_some() && self.destination.capabilities().tells_what_landed {
            self.window.looked_for();
        }
    }

    fn on_acknowledged(&mut self, acknowledgement: Acknowledgement) {
        let now = now();
        if !matches!(acknowledgement, Acknowledgement::Broken { .. }) {
            // Once, however many writes it covers: one good flush does not wipe out a bad hour.
            self.backoff.succeeded();
            self.urgency.committed(now);
            self.alive = Some(now);
            self.outage = None;
        }
        match acknowledgement {
            Acknowledgement::Through { id, position } => {
                for entry in self.window.through(id) {
                    self.counters.writes_acknowledged.add(1);
                    // The memory goes before the budget that stood for it.
                    for slice in entry.into_shares() {
                        self.accept(&slice, position, now);
                    }
                }
            }
            Acknowledgement::Partly { id, rows } => {
                for slice in self.window.partly(id, rows) {
                    self.accept(&slice, Position::None, now);
                }
            }
            Acknowledgement::PartlyRefused { id, rows, rejections } => {
                let Some(entry) = self.window.get(id) else {
                    return;
                };
                let (write, done_rows) = (Arc::clone(&entry.write), entry.done_rows());
                let slices = self.window.partly(id, rows);
                self.refuse_rows(write, &slices, done_rows, rejections, Position::None, now);
            }
            Acknowledgement::Refused {
                id,
                rejections,
                position,
            } => {
                let Some(entry) = self.window.remove(id) else {
                    return;
                };
                self.counters.writes_acknowledged.add(1);
                let (write, done_rows) = (Arc::clone(&entry.write), entry.done_rows());
                let slices = entry.into_shares();
                self.refuse_rows(write, &slices, done_rows, rejections, position, now);
            }
            // The handle turns this one into the end of the session.
            Acknowledgement::Broken { .. } => {}
        }
    }

    fn on_broke(&mut self, error: Error, operation: Operation) {
        let now = now();
        self.counters.sessions_broken.add(1);
        let was_draining = matches!(self.session, Phase::Draining(_));
        self.session = Phase::Closed;
        let schema = self.schema.take();
        if let Some(reply) = self.prepare.take() {
            reply.answer(Err(error));
            return;
        }
        if was_draining && self.window.is_empty() {
            self.log("warn", "a session did not close cleanly", &error, Duration::ZERO);
            return;
        }
        // Whoever waits for a session that ends each time before it is given anything would wait for ever
        // if no attempt were counted.
        let operation = if self.given || error.is_graceful() {
            operation
        } else {
            Operation::Open
        };
        if operation == Operation::Open {
            self.window.count_try(now);
        }
        if error.is_graceful() {
            // A session that ends because it was asked to has not failed anybody.
            self.window.refund_tries();
            self.rewind(error.is_ambiguous());
            return self.log("info", "a session was rotated", &error, Duration::ZERO);
        }
        if self.look_for_rows(&error, operation, now) {
            return;
        }
        if error.retry_class() == RetryClass::Never {
            return self.refused_for_good(error, operation, schema, now);
        }
        if operation != Operation::Open && self.outage.is_none() {
            // Until now it was there.
            self.alive = Some(now);
        }
        let tried = self.tried_through(operation);
        self.rewind(error.is_ambiguous());
        let delay = self.backoff.failed(&error, &mut self.dice);
        let ended = self.end_what_may_not_be_tried(now + delay, &error, now);
        let level = if ended { "error" } else { "warn" };
        self.log(level, "a session broke", &error, delay);
        self.outage = Some(error.clone());
        self.session = self.wait_or_ask(now + delay, error, tried);
    }

    /// The same again would fail again: what the error is about ends, and everything else is replayed.
    fn refused_for_good(
        &mut self,
        error: Error,
        operation: Operation,
        schema: Option<SchemaRef>,
        now: Instant,
    ) {
        let (mut writes, mut ranges) = (Vec::new(), Vec::new());
        let faults = error.clone().into_faults();
        let error = error.alone();
        match operation {
            Operation::Open => writes = self.window.take_all(),
            Operation::Write(id) => {
                // Some deliveries are to blame: those that they happened to travel with go on.
                ranges = self.window.blame(id, faults, now);
                if ranges.is_empty() {
                    writes.extend(self.window.remove(id));
                }
                // It was not their fault, and a replay that is another's fault is no try.
                self.window.refund_tries();
            }
            Operation::Flush | Operation::Close | Operation::Idle => writes = self.window.take_sent(),
        }
        let text = "the destination refused for good";
        self.log("error", text, &error, Duration::ZERO);
        let ends = !writes.is_empty() || !ranges.is_empty();
        let writes = writes.into_iter().map(|entry| entry.ending(&error, now));
        for failed in writes.chain(ranges).collect::<Vec<_>>() {
            self.end(failed, now);
        }
        self.rewind(error.is_ambiguous());
        if let Some(schema) = schema.filter(|_| operation == Operation::Open) {
            // They wait for the same session, which cannot be had.
            let ranges = self.batcher.take_fitting(&schema);
            let error = error.clone().with_ambiguity(false);
            self.end(FailedRanges { ranges, error }, now);
        }
        if ends {
            self.stop_if_asked(&error, now);
        }
    }

    // ---- what can be done ---------------------------------------------------------------------

    fn advance(&mut self) {
        let now = now();
        if self
            .closing
            .as_ref()
            .is_some_and(|closing| closing.deadline <= now)
        {
            self.settle_the_rest(now);
            return self.answer_flushes();
        }
        self.urgency.expire(now, self.last_arrived);
        self.stop_asking(now);
        self.end_what_waits_in_vain(now);
        if let Phase::Waiting(until) = self.session
            && until <= now
        {
            self.session = Phase::Closed;
        }
        if matches!(self.session, Phase::Closed) {
            if self.window.is_empty() {
                self.fill_window(now, 1);
            }
            if let Some(entry) = self.window.front() {
                let schema = entry.schema.clone();
                self.open(schema);
            }
        }
        if !self.probe() && matches!(self.session, Phase::Open(_)) {
            self.send_unsent();
            self.fill_window(now, self.max_writes);
            self.send_unsent();
            self.drain_for_another_schema();
            self.flush_if_asked();
        }
        self.answer_flushes();
        self.close_session_at_the_end(now);
    }

    fn answer_flushes(&mut self) {
        let unsynced = self.unsynced.keys().next().copied();
        let oldest = self.ledger.oldest().into_iter().chain(unsynced).min();
        let settled_through = oldest.map_or(u64::MAX, |oldest| oldest - 1);
        while let Some(flush) = self
            .flushes
            .pop_front_if(|flush| flush.barrier <= settled_through)
        {
            flush.reply.answer(Ok(()));
        }
    }

    fn is_finished(&self) -> bool {
        let Some(closing) = &self.closing else {
            return false;
        };
        closing.arrived && self.ledger.is_empty() && self.unsynced.is_empty() && matches!(self.session, Phase::Closed | Phase::Waiting(_) | Phase::Asking(_))
            // History the deadline nobody waits any longer for what is still being imported.
            || closing.deadline <= now() && self.ledger.is_empty()
    }

    fn wake_at(&self) -> Option<Instant> {
        let linger = match self.session {
            // With a full window, or with a session that is to be drained first, being due changes
            // nothing, and waking for it would spin.
            Phase::Open(_)
                if self.search.is_none()
                    && self.window.len() < self.max_writes
                    && !self.awaits_another_session() =>
            {
                self.batcher.due()
            }
            Phase::Closed => self.batcher.due(),
            _ => None,
        };
        let wait = match &self.session {
            Phase::Waiting(until) => Some(*until),
            Phase::Asking(question) => Some(self.patience(question)),
            Phase::Opening(_) | Phase::Draining(_) => self.too_late_at(),
            _ => None,
        };
        let deadline = self.closing.as_ref().map(|closing| closing.deadline);
        [linger, wait, deadline, self.urgency.due()]
            .into_iter()
            .flatten()
            .min()
    }
}

fn warn(observer: Observer) -> Warn {
    Box::new(move |message, fields| {
        observer(Event::Log(Log {
            level: "warn",
            message: message.to_string(),
            fields,
        }));
    })
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn until(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

fn unacknowledged() -> Error {
    let text = "the destination flushed without acknowledging what it was given";
    Error::new(Code::Internal, text).during("flush").ambiguous()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use tokio::sync::mpsc;

    use super::*;
    use crate::destination::discard::Discard;
    use crate::outcome::{Outcome, Status};

    /// whatever ended the intake, nobody waits for what it would have brought.
    #[tokio::test(start_paused = true)]
    async fn what_is_here_is_settled_when_nothing_more_can_come() {
        let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
        let heard = outcomes.clone();
        let mut config = Config::default();
        config.batching.linger = Duration::from_secs(3_600);
        let engine = Engine::new(
            Arc::new(Discard::new("discard:").unwrap()),
            &config,
            Uuid::new_v4(),
            Arc::new(Admission::new(1_000)),
            Arc::default(),
            Arc::new(move |event| {
                if let Event::Settled(outcome) = event {
                    heard.lock().unwrap().push(*outcome);
                }
            }),
        );
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let (arrivals, receiver) = mpsc::channel(1);
        let (_control, control) = mpsc::unbounded_channel();
        let (over, _end) = oneshot::channel();
        let delivery = ImportedDelivery {
            sequence: 1,
            bytes: 0,
            charge: 0,
            admitted: now(),
            handoff: Duration::ZERO,
            buffers_copied_for_pin_limit: 0,
            buffers_realigned: 0,
            payload_digest: None,
            slices: Ok(vec![BatchSlice::whole(batch, 16)]),
        };
        let running = tokio::spawn(engine.run(receiver, control, over));
        arrivals
            .send(vec![Arrival::Delivery(delivery)])
            .await
            .ok()
            .unwrap();
        drop(arrivals);
        running.await.unwrap();
        let outcomes = outcomes.lock().unwrap();
        assert_eq!((outcomes.len(), outcomes[0].status), (1, Status::Unknown));
        assert_eq!(outcomes[0].error.as_ref().unwrap().code(), Code::Internal);
    }
}
