//! The one owner of what is unsettled: batches, sends, retries, settles.
//!
//! A single task, a single state; whatever happens arrives as an event, and after each event
//! `advance` does all that can be done. Invariants:
//! - Every delivery that arrives is settled exactly once, through `finish`.
//! - A write is sent only to an open session of its schema, in the order of its id.
//! - Nothing here awaits a destination: `session` does that on its own task.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use serde_json::json;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

use super::admission::Admission;
use super::batcher::Batcher;
use super::intake::{Arrival, Delivered};
use super::retry::Pace;
use super::session::{Call, Driver, During, Kind, SessionEvent};
use super::window::{Pending, Window};
use super::{Event, Log, Observer, Reply, Witness};
use crate::config::{Config, OnExhausted, Retry};
use crate::destination::{Acknowledgement, Destination, Opening, Position, Rejection};
use crate::error::{Code, Error, RetryClass};
use crate::outcome::{Entered, Ledger, Outcome, Segment, Settled, Status};
use crate::telemetry::Counters;

/// How long a session that has nothing left to deliver may take to close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Arrivals taken in one turn.
const TURN: usize = 256;

/// What does not queue behind deliveries.
pub enum Control {
    Abort(u64),
    CloseBy(Duration),
}

pub struct Engine {
    destination: Arc<dyn Destination>,
    retry: Retry,
    max_writes: usize,
    producer: Uuid,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    observer: Observer,

    ledger: Ledger,
    batcher: Batcher,
    window: Window,
    pace: Pace,
    dice: fastrand::Rng,
    /// Checks that the development option asks for, by sequence of unsettled deliveries.
    witnesses: HashMap<u64, Witness>,
    /// Aborted before they arrived.
    aborted: HashSet<u64>,
    last_arrived: u64,
    /// Set once a write failed for good under `onExhausted: "stop"`.
    stopped: Option<Error>,

    session: Phase,
    session_number: u64,
    schema: Option<SchemaRef>,
    events: UnboundedSender<SessionEvent>,
    inbox: UnboundedReceiver<SessionEvent>,
    /// The last write that a flush of the open session covers.
    flushed_through: u64,
    /// The oldest write that may have landed unseen, asked about at the next `open`.
    resume_from: Option<u64>,

    flushes: VecDeque<Flush>,
    prepare: Option<Reply>,
    closing: Option<Closing>,
}

enum Phase {
    Closed,
    /// After a failure, until then.
    Waiting(Instant),
    Opening(Driver),
    Open(Driver),
    /// Told to close.
    Draining(Driver),
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
        Engine {
            destination,
            retry: config.retry.clone(),
            max_writes: config.inflight.max_writes,
            producer,
            admission,
            counters,
            observer,
            ledger: Ledger::default(),
            batcher: Batcher::new(config.batching.clone()),
            window: Window::default(),
            pace: Pace::new(&config.retry),
            dice: fastrand::Rng::new(),
            witnesses: HashMap::new(),
            aborted: HashSet::new(),
            last_arrived: 0,
            stopped: None,
            session: Phase::Closed,
            session_number: 0,
            schema: None,
            events,
            inbox,
            flushed_through: 0,
            resume_from: None,
            flushes: VecDeque::new(),
            prepare: None,
            closing: None,
        }
    }

    pub async fn run(mut self, mut arrivals: Receiver<Arrival>, mut control: UnboundedReceiver<Control>) {
        let mut turn = Vec::with_capacity(TURN);
        loop {
            self.advance();
            self.publish();
            if self.is_finished() {
                break;
            }
            let wake = self.wake_at().map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                Some(event) = self.inbox.recv() => self.on_session(event),
                Some(control) = control.recv() => self.on_control(control),
                count = arrivals.recv_many(&mut turn, TURN) => {
                    if count == 0 {
                        break;
                    }
                    for arrival in turn.drain(..) {
                        self.on_arrival(arrival);
                    }
                }
                () = until(wake) => {}
            }
        }
        // Whatever comes after the end of a close that ran into its deadline.
        if let Some(closing) = self.closing.take() {
            arrivals.close();
            while let Some(arrival) = arrivals.recv().await {
                if let Arrival::Delivered(delivered) = arrival {
                    self.refuse(&delivered, deadline_passed());
                }
            }
            self.publish();
            for reply in closing.replies {
                reply.answer(Ok(()));
            }
        }
    }

    // ---- what happens -------------------------------------------------------------------------

    fn on_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Delivered(delivered) => self.on_delivered(delivered),
            Arrival::Prepare { schema, reply } => {
                if matches!(self.session, Phase::Closed) && self.window.is_empty() {
                    self.open(schema);
                    self.prepare = Some(reply);
                } else {
                    reply.answer(Ok(()));
                }
            }
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

    fn on_delivered(&mut self, delivered: Delivered) {
        self.last_arrived = delivered.sequence;
        let now = now();
        if self.aborted.remove(&delivered.sequence) {
            return self.refuse(&delivered, aborted());
        }
        if let Some(error) = &self.stopped {
            let error = error.clone();
            return self.refuse(&delivered, error);
        }
        let sequence = delivered.sequence;
        let batches = match delivered.batches {
            Ok(batches) => batches,
            Err(ref error) => {
                let error = error.clone();
                return self.refuse(&delivered, error);
            }
        };
        self.counters.arriving.sub(1);
        let rows = batches.iter().map(|(batch, _)| batch.num_rows()).sum();
        self.counters.rows_admitted.add(rows);
        self.counters.buffers_realigned.add(delivered.buffers_realigned);
        self.counters
            .buffers_copied_for_pin_limit
            .add(delivered.buffers_copied_for_pin_limit);
        self.ledger.enter(Entered {
            sequence,
            rows,
            bytes: delivered.bytes,
            admitted: delivered.admitted,
            handoff: delivered.handoff,
            buffers_copied_for_pin_limit: delivered.buffers_copied_for_pin_limit,
            buffers_realigned: delivered.buffers_realigned,
        });
        if let Some(witness) = delivered.witness {
            self.witnesses.insert(sequence, witness);
        }
        if rows == 0 {
            // Nothing to send, so nothing can happen to it.
            let nothing = Segment {
                sequence,
                first_row: 0,
                rows: 0,
            };
            let settled = self.ledger.accept(&nothing, Position::None, now);
            return self.finish(settled);
        }
        self.batcher.push(sequence, batches, now);
    }

    fn on_control(&mut self, control: Control) {
        match control {
            Control::Abort(sequence) => self.abort(sequence),
            Control::CloseBy(deadline) => {
                self.close_by(deadline);
            }
        }
    }

    fn on_session(&mut self, event: SessionEvent) {
        // A session that was given up may still have had something to say.
        if event.session != self.session_number {
            return;
        }
        match event.kind {
            Kind::Opened { landed } => self.on_opened(landed),
            Kind::Acknowledged(acknowledgement) => self.on_acknowledged(acknowledgement),
            Kind::Written { id, took } => {
                if let Some(pending) = self.window.find(id) {
                    for segment in &pending.segments {
                        self.ledger.encoded(segment, took);
                    }
                }
            }
            Kind::Flushed => {}
            Kind::Closed => {
                // What a clean close did not acknowledge has to go through another session.
                self.window.rewind();
                self.session = Phase::Closed;
                self.schema = None;
            }
            Kind::Broke { error, during } => self.on_broke(error, during),
        }
    }

    fn on_opened(&mut self, landed: Option<(u64, Position)>) {
        self.counters.sessions_opened.add(1);
        if let Phase::Opening(driver) = std::mem::replace(&mut self.session, Phase::Closed) {
            self.session = Phase::Open(driver);
        }
        if let Some(reply) = self.prepare.take() {
            reply.answer(Ok(()));
        }
        if let Some((id, position)) = landed {
            self.on_acknowledged(Acknowledgement::Through { id, position });
        }
        // What did not land then never will: the destination has looked.
        if self.resume_from.take().is_some() && self.destination.capabilities().tells_what_landed {
            for pending in self.window.iter_mut() {
                pending.maybe_landed = false;
            }
        }
    }

    fn on_acknowledged(&mut self, acknowledgement: Acknowledgement) {
        let now = now();
        match acknowledgement {
            Acknowledgement::Through { id, position } => {
                for pending in self.window.through(id) {
                    self.counters.writes_acknowledged.add(1);
                    self.pace.succeeded();
                    let segments = pending.segments;
                    // The memory goes before the budget that stood for it.
                    drop(pending.write);
                    for segment in &segments {
                        let settled = self.ledger.accept(segment, position, now);
                        self.finish(settled);
                    }
                }
            }
            Acknowledgement::Partly { id, rows } => {
                for segment in self.window.partly(id, rows) {
                    let settled = self.ledger.accept(&segment, Position::None, now);
                    self.finish(settled);
                }
            }
            Acknowledgement::Refused {
                id,
                rejections,
                position,
            } => {
                let Some(pending) = self.window.remove(id) else {
                    return;
                };
                self.counters.writes_acknowledged.add(1);
                for (segment, rejections) in by_segment(&pending.segments, rejections) {
                    let settled = self.ledger.refuse(&segment, rejections, position, now);
                    self.finish(settled);
                }
            }
            // The driver turns this one into the end of the session.
            Acknowledgement::Broken { .. } => {}
        }
    }

    fn on_broke(&mut self, error: Error, during: During) {
        let now = now();
        self.counters.sessions_broken.add(1);
        let was_draining = matches!(self.session, Phase::Draining(_));
        self.session = Phase::Closed;
        self.schema = None;
        if let Some(reply) = self.prepare.take() {
            reply.answer(Err(error));
            return;
        }
        if was_draining && self.window.is_empty() {
            self.log("warn", "a session did not close cleanly", &error, Duration::ZERO);
            return;
        }
        if error.retry_class() == RetryClass::Never {
            let failed = match during {
                During::Open => self.window.take_all(),
                During::Write(id) => self.window.remove(id).into_iter().collect(),
                During::Flush | During::Close | During::Idle => self.window.take_sent(),
            };
            self.rewind();
            self.log(
                "error",
                "the destination refused for good",
                &error,
                Duration::ZERO,
            );
            self.fail_all(failed, &error, now);
            return;
        }
        for pending in self.window.iter_mut() {
            if during == During::Open {
                pending.attempts += 1;
                pending.first_sent.get_or_insert(now);
            } else if pending.sent {
                pending.maybe_landed |= error.is_ambiguous();
            }
        }
        self.rewind();
        let delay = self.pace.failed(&error, &mut self.dice);
        let exhausted = self
            .window
            .exhausted(self.retry.attempts, self.retry.deadline, now + delay);
        let level = if exhausted.is_empty() { "warn" } else { "error" };
        self.log(level, "a session broke", &error, delay);
        self.fail_all(exhausted, &error, now);
        self.session = Phase::Waiting(now + delay);
    }

    // ---- what can be done ---------------------------------------------------------------------

    fn advance(&mut self) {
        let now = now();
        if self
            .closing
            .as_ref()
            .is_some_and(|closing| closing.deadline <= now)
        {
            return self.settle_the_rest(now);
        }
        if let Phase::Waiting(until) = self.session
            && until <= now
        {
            self.session = Phase::Closed;
        }
        if matches!(self.session, Phase::Closed) {
            if self.window.is_empty() {
                self.fill_window(now, 1);
            }
            if let Some(pending) = self.window.front() {
                let schema = pending.schema.clone();
                self.open(schema);
            }
        }
        if matches!(self.session, Phase::Open(_)) {
            self.send_unsent(now);
            self.fill_window(now, self.max_writes);
            self.send_unsent(now);
            self.drain_for_another_schema();
            self.flush_if_asked();
        }
        let settled_through = self.ledger.oldest().map_or(u64::MAX, |oldest| oldest - 1);
        while self
            .flushes
            .front()
            .is_some_and(|flush| flush.barrier <= settled_through)
        {
            if let Some(flush) = self.flushes.pop_front() {
                flush.reply.answer(Ok(()));
            }
        }
        self.close_session_at_the_end(now);
    }

    /// Takes drafts until `limit` writes are in the window.
    fn fill_window(&mut self, now: Instant, limit: usize) {
        while self.window.len() < limit {
            let current = self.schema.clone();
            if let Some(current) = &current {
                // Another schema needs another session, which is opened once this one is drained.
                let same = |next: &SchemaRef| Arc::ptr_eq(next, current);
                if !self.batcher.next_schema(Some(current)).as_ref().is_some_and(same) {
                    return;
                }
            }
            let force = self.is_forced();
            match self.batcher.next(now, force, current.as_ref()) {
                None => return,
                Some(Ok(draft)) => {
                    self.window.push(draft);
                }
                Some(Err((segments, error))) => {
                    for segment in segments {
                        let settled = self.ledger.fail(&segment, &error, now);
                        self.finish(settled);
                    }
                }
            }
        }
    }

    /// Whether rows should not wait for company: somebody waits for them, or for their bytes.
    fn is_forced(&self) -> bool {
        let Some(head) = self.batcher.head() else {
            return false;
        };
        self.flushes.iter().any(|flush| head <= flush.barrier)
            || self.closing.is_some()
            || self.admission.waiting() > 0 && self.counters.arriving.get() == 0
    }

    fn open(&mut self, schema: SchemaRef) {
        self.session_number += 1;
        self.flushed_through = 0;
        self.schema = Some(schema.clone());
        let producer = self.producer;
        let resume_from = self.resume_from;
        let driver = Driver::start(
            self.session_number,
            self.destination.clone(),
            move |acknowledgements| Opening {
                schema,
                producer,
                resume_from,
                acknowledgements,
            },
            self.events.clone(),
        );
        self.session = Phase::Opening(driver);
    }

    fn send_unsent(&mut self, now: Instant) {
        let Phase::Open(driver) = &self.session else {
            return;
        };
        for pending in self.window.iter_mut().filter(|pending| !pending.sent) {
            pending.sent = true;
            pending.attempts += 1;
            pending.first_sent.get_or_insert(now);
            for segment in &pending.segments {
                self.ledger.sent(segment, pending.attempts, now);
            }
            self.counters.writes_sent.add(1);
            driver.call(Call::Write(pending.write.clone()));
        }
    }

    fn drain_for_another_schema(&mut self) {
        let Some(current) = &self.schema else { return };
        let Some(next) = self.batcher.next_schema(Some(current)) else {
            return;
        };
        if Arc::ptr_eq(&next, current) {
            return;
        }
        if self.window.is_empty() {
            self.drain();
        } else {
            self.flush_session();
        }
    }

    fn flush_if_asked(&mut self) {
        let Some(oldest) = self.window.front().and_then(|pending| pending.segments.first()) else {
            return;
        };
        let wanted = self.flushes.iter().any(|flush| oldest.sequence <= flush.barrier);
        let closing = self.closing.as_ref().is_some_and(|closing| closing.arrived);
        // Callers wait for bytes that only acknowledgements free, and nothing else is on its way.
        let stalled =
            self.batcher.is_empty() && self.admission.waiting() > 0 && self.counters.arriving.get() == 0;
        let full = !self.batcher.is_empty() && self.window.len() >= self.max_writes;
        if full || ((wanted || closing || stalled) && !self.is_forced()) {
            self.flush_session();
        }
    }

    /// Asks the session to flush, once for the same writes.
    fn flush_session(&mut self) {
        let (Phase::Open(driver), Some(last)) = (&self.session, self.window.last_id()) else {
            return;
        };
        if self.flushed_through < last {
            self.flushed_through = last;
            driver.call(Call::Flush);
        }
    }

    fn drain(&mut self) {
        if let Phase::Open(driver) = std::mem::replace(&mut self.session, Phase::Closed) {
            driver.call(Call::Close);
            self.session = Phase::Draining(driver);
        }
    }

    fn close_session_at_the_end(&mut self, now: Instant) {
        let Some(closing) = &mut self.closing else { return };
        if !closing.arrived || !self.ledger.is_empty() {
            return;
        }
        if matches!(self.session, Phase::Open(_)) {
            // All rows are settled: what is left is a courtesy and gets no long wait.
            closing.deadline = closing.deadline.min(now + CLOSE_GRACE);
            self.drain();
        }
    }

    fn is_finished(&self) -> bool {
        let Some(closing) = &self.closing else {
            return false;
        };
        closing.arrived && self.ledger.is_empty() && matches!(self.session, Phase::Closed | Phase::Waiting(_))
            // Past the deadline nobody waits any longer for what is still being imported.
            || closing.deadline <= now() && self.ledger.is_empty()
    }

    fn wake_at(&self) -> Option<Instant> {
        let linger = match self.session {
            // With a full window or without a session, being due changes nothing.
            Phase::Open(_) if self.window.len() < self.max_writes => self.batcher.due(),
            Phase::Closed => self.batcher.due(),
            _ => None,
        };
        let wait = match self.session {
            Phase::Waiting(until) => Some(until),
            _ => None,
        };
        let deadline = self.closing.as_ref().map(|closing| closing.deadline);
        [linger, wait, deadline].into_iter().flatten().min()
    }

    // ---- settling -----------------------------------------------------------------------------

    fn rewind(&mut self) {
        if let Some(oldest) = self.window.iter_mut().find(|pending| pending.sent) {
            let id = oldest.write.id;
            self.resume_from = Some(self.resume_from.map_or(id, |earlier| earlier.min(id)));
        }
        self.window.rewind();
    }

    fn fail_all(&mut self, failed: Vec<Pending>, error: &Error, now: Instant) {
        if failed.is_empty() {
            return;
        }
        for pending in failed {
            let verdict = pending.verdict(error, now);
            for segment in &pending.segments {
                let settled = self.ledger.fail(segment, &verdict, now);
                self.finish(settled);
            }
        }
        if self.retry.on_exhausted == OnExhausted::Stop && self.stopped.is_none() {
            self.stop(error, now);
        }
    }

    /// Fails everything that is and everything that will come.
    fn stop(&mut self, error: &Error, now: Instant) {
        let text = format!(
            "stopped because an earlier write failed for good: {}",
            error.message()
        );
        let stopped = Error::new(error.code(), text).during("write");
        self.stopped = Some(stopped.clone());
        let rest = self.window.take_all();
        for pending in rest {
            let verdict = pending.verdict(&stopped, now);
            for segment in &pending.segments {
                let settled = self.ledger.fail(segment, &verdict, now);
                self.finish(settled);
            }
        }
        for sequence in self.ledger.sequences() {
            self.batcher.take_back(sequence);
            let settled = self.ledger.fail_rest(sequence, &stopped, now);
            self.finish(settled);
        }
    }

    fn abort(&mut self, sequence: u64) {
        let now = now();
        if !self.ledger.contains(sequence) {
            if sequence > self.last_arrived {
                self.aborted.insert(sequence);
            }
            return;
        }
        let error = aborted();
        for segment in self.batcher.take_back(sequence) {
            let settled = self.ledger.fail(&segment, &error, now);
            self.finish(settled);
        }
        // What is left of it was written, or is about to be: its outcome is open, and goes on.
        if let Some(outcome) = self.ledger.give_up_waiting(sequence, &error, now) {
            self.tell(outcome);
        }
    }

    fn close_by(&mut self, deadline: Duration) -> &mut Closing {
        let by = now() + deadline.min(Duration::from_secs(366 * 24 * 3600));
        let closing = self.closing.get_or_insert(Closing {
            deadline: by,
            arrived: false,
            replies: Vec::new(),
        });
        closing.deadline = closing.deadline.min(by);
        // No retry may outlast the close.
        self.retry.deadline = self.retry.deadline.min(deadline);
        closing
    }

    /// The deadline of `close` has passed: what was sent may have landed, the rest did not.
    fn settle_the_rest(&mut self, now: Instant) {
        self.session = Phase::Closed;
        let sent: HashSet<u64> = self
            .window
            .take_all()
            .iter()
            .filter(|pending| pending.first_sent.is_some())
            .flat_map(|pending| pending.segments.iter().map(|segment| segment.sequence))
            .collect();
        for sequence in self.ledger.sequences() {
            self.batcher.take_back(sequence);
            let error = if sent.contains(&sequence) {
                deadline_passed().ambiguous()
            } else {
                deadline_passed()
            };
            let settled = self.ledger.fail_rest(sequence, &error, now);
            self.finish(settled);
        }
    }

    /// Settles a delivery that never got as far as the batcher.
    fn refuse(&mut self, delivered: &Delivered, error: Error) {
        self.counters.arriving.sub(1);
        let now = now();
        let rows = match &delivered.batches {
            Ok(batches) => batches.iter().map(|(batch, _)| batch.num_rows()).sum(),
            Err(_) => 0,
        };
        self.ledger.enter(Entered {
            sequence: delivered.sequence,
            rows,
            bytes: delivered.bytes,
            admitted: delivered.admitted,
            handoff: delivered.handoff,
            buffers_copied_for_pin_limit: delivered.buffers_copied_for_pin_limit,
            buffers_realigned: delivered.buffers_realigned,
        });
        let settled = self.ledger.fail_rest(delivered.sequence, &error, now);
        let settled = settled.map(|mut settled| {
            // A batch that could not be read has no rows to count, and failed all the same.
            settled.outcome.status = Status::Failed;
            settled
        });
        self.finish(settled);
    }

    /// The end of every delivery.
    fn finish(&mut self, settled: Option<Settled>) {
        let Some(Settled { mut outcome, silent }) = settled else {
            return;
        };
        if let Some(unchanged) = self.witnesses.remove(&outcome.sequence)
            && !unchanged()
        {
            outcome.payload_changed = true;
            let text = "the memory of this batch was written to between handoff and settlement";
            outcome
                .error
                .get_or_insert(Error::new(Code::PayloadChanged, text));
            // Some mixture of old and new bytes was sent; nobody can say which.
            outcome.status = outcome.status.max(Status::Unknown);
        }
        let bytes = outcome.bytes;
        self.counters.unsettled.sub(1);
        if !silent {
            self.tell(outcome);
        }
        for ticket in self.admission.release(bytes) {
            (self.observer)(Event::Granted(ticket));
        }
    }

    fn tell(&mut self, outcome: Outcome) {
        let counters = &self.counters;
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
        }
        (self.observer)(Event::Settled(Box::new(outcome)));
    }

    fn publish(&self) {
        self.counters.window.set(self.window.len());
        self.counters.strikes.set(self.pace.strikes() as usize);
    }

    fn log(&self, level: &'static str, message: &str, error: &Error, delay: Duration) {
        (self.observer)(Event::Log(Log {
            level,
            message: message.to_string(),
            fields: json!({
                "error": error.to_json(),
                "retryInMs": delay.as_secs_f64() * 1e3,
                "writesInFlight": self.window.len(),
                "destination": self.destination.capabilities().name,
            }),
        }));
    }
}

/// Splits rejections of a write among its segments, rows counted within each delivery.
fn by_segment(segments: &[Segment], mut rejections: Vec<Rejection>) -> Vec<(Segment, Vec<Rejection>)> {
    rejections.sort_by_key(|rejection| rejection.row);
    rejections.dedup_by_key(|rejection| rejection.row);
    let mut rejections = rejections.into_iter().peekable();
    let mut start = 0u64;
    segments
        .iter()
        .map(|segment| {
            let end = start + segment.rows as u64;
            let mut own = Vec::new();
            while let Some(mut rejection) = rejections.next_if(|rejection| rejection.row < end) {
                rejection.row = rejection.row - start + segment.first_row as u64;
                own.push(rejection);
            }
            start = end;
            (*segment, own)
        })
        .collect()
}

fn aborted() -> Error {
    Error::new(Code::Aborted, "the send was aborted").during("send")
}

fn deadline_passed() -> Error {
    Error::new(
        Code::DeadlineExceeded,
        "the client was closed before this was settled",
    )
    .during("close")
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
