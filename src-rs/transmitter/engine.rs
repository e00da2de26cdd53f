//! Routes events between the three parts that a batch's life has from its import on.
//!
//! | part | what it owns |
//! |---|---|
//! | [`deliveries`](super::deliveries) | unsettled deliveries, their outcomes, refused rows on the disk, the budget |
//! | [`writes`](super::writes) | rows on their way: batches, the window of writes, the search for refused rows |
//! | [`sessions`](super::sessions) | the session with the destination, retry delays, questions to the user's program |
//!
//! The parts do not know each other. A single task owns them; whatever happens arrives as an event, and after
//! each event `advance` does all that can be done. With a spool the deliveries come from
//! [`spooling`](super::spooling), which hears in place of the callers what became of them.
//!
//! Invariants:
//! - Rows of a delivery enter `deliveries` before `writes`, and leave `writes` before they are settled there.
//! - A write is sent only to an open session of its schema, in the order of its id.
//! - With a log and a destination that keeps the log's positions, nothing is sent as long as the log has not recorded
//!   how earlier rows ended that did not land: the next process would take them for rows that did.
//! - Nothing here awaits a destination.
//!
//! `failures` has the steps that follow when a session fails, `closing` those that end the engine.

mod closing;
mod failures;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::oneshot;
use uuid::Uuid;

use self::closing::Closing;
use super::admission::Admission;
use super::clock::{now, until};
use super::deliveries::Deliveries;
use super::facts::{FactKind, Teller};
use super::intake::{Arrival, ImportedDelivery};
use super::rows::FailedRanges;
use super::sessions::{Operation, SessionEventKind, Sessions};
use super::writes::{Demand, Probe, Writes};
use super::{Event, Log, Observer, Reply, Settlements};
use crate::config::{Config, OnExhausted};
use crate::counters::Counters;
use crate::dead_letter::DeadLetters;
use crate::destination::{Acknowledgement, Destination, Epochs};
use crate::error::{Code, Error};
use crate::outcome::Position;
use crate::row_files::Warn;

/// Arrivals taken in one turn.
const TURN: usize = 256;
/// Ends of rows that wait for the log to record them, wherever the rows go. Beyond it nothing more is sent.
const MOST_UNRECORDED: usize = 1_024;

/// What does not queue behind deliveries.
pub enum Control {
    Abort(u64),
    /// The caller of this delivery waits no longer, and wants it delivered.
    Leave(u64),
    CloseBy(Duration),
    /// Somebody waits for budget that perhaps only a flush frees.
    Waiting,
    /// A delivery of the log has ended before it came here; `Recorded` follows.
    EndedElsewhere,
    /// The log has recorded so many ends of rows that did not land.
    Recorded(usize),
    /// The disk takes no record, and may not for long.
    CannotRecord,
    /// It takes them again.
    CanRecord,
    /// Refused rows that are in no delivery.
    KeepRefused {
        sequence: u64,
        rows: String,
        reply: Reply,
    },
}

/// Where the rows come from that the engine is given.
pub struct RowSource {
    /// Names them towards the destination.
    pub producer: Uuid,
    /// What keeps them, if something does.
    pub log: Option<Arc<dyn Settlements>>,
    pub epochs: Option<Arc<dyn Epochs>>,
}

impl RowSource {
    /// Callers alone, for as long as they live.
    pub fn callers() -> RowSource {
        RowSource {
            producer: Uuid::new_v4(),
            log: None,
            epochs: None,
        }
    }
}

pub struct Engine {
    destination: Arc<dyn Destination>,
    deliveries: Deliveries,
    writes: Writes,
    sessions: Sessions,
    /// Tries of a write.
    max_attempts: u32,
    on_exhausted: OnExhausted,
    /// Rows come from a log that keeps them: only a refusal of their own data ends a delivery.
    never_gives_up: bool,
    /// The destination tells a later process of the log how far it got.
    keeps_positions: bool,
    /// The log cannot record how rows end.
    cannot_record: bool,
    closing: Option<Closing>,
    counters: Arc<Counters>,
    teller: Teller,
}

/// What the engine was woken for.
enum WakeReason {
    Session(SessionEventKind),
    /// Refused rows of this delivery are on the disk.
    Kept(u64),
    Control(Control),
    /// The arrivals are in `turn`. What was said before they were sent comes first.
    Arrivals(Vec<Control>),
    Nothing,
}

impl Engine {
    pub fn new(
        destination: Arc<dyn Destination>,
        config: &Config,
        source: RowSource,
        admission: Arc<Admission>,
        counters: Arc<Counters>,
        observer: Observer,
    ) -> Engine {
        // Who keeps the rows keeps those that are refused, too.
        let dead_letters = config
            .dead_letter
            .clone()
            .filter(|_| source.log.is_none())
            .map(|options| DeadLetters::open(options, counters.clone(), warn(observer.clone())));
        Engine {
            never_gives_up: source.log.is_some(),
            keeps_positions: source.log.is_some() && destination.capabilities().tells_what_landed,
            cannot_record: false,
            deliveries: Deliveries::new(
                dead_letters,
                source.log.clone(),
                admission,
                counters.clone(),
                observer.clone(),
            ),
            writes: Writes::new(
                &config.batching,
                config.inflight.max_writes,
                &config.quarantine,
                destination.capabilities(),
                destination.commit_interval(),
                source.log.is_some(),
            ),
            sessions: Sessions::new(
                destination.clone(),
                config.retry.clone(),
                source.producer,
                source.epochs,
            ),
            destination,
            max_attempts: config.retry.attempts,
            on_exhausted: config.retry.on_exhausted,
            closing: None,
            teller: Teller::new(observer, counters.clone()),
            counters,
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
        let mut reason = WakeReason::Nothing;
        loop {
            // A panic that ended this task would leave every caller waiting for an event.
            match catch_unwind(AssertUnwindSafe(|| self.step(reason, &mut turn))) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    self.settle_after_panic(turn);
                    break;
                }
            }
            let wake = self.wake_at();
            reason = tokio::select! {
                biased;
                Some(event) = self.sessions.next_event() => WakeReason::Session(event),
                Some(sequence) = self.deliveries.next_kept() => WakeReason::Kept(sequence),
                Some(control) = control.recv() => WakeReason::Control(control),
                group = arrivals.recv() => match group {
                    Some(group) => {
                        turn = group;
                        while turn.len() < TURN && let Ok(mut next) = arrivals.try_recv() {
                            turn.append(&mut next);
                        }
                        // Polled before the arrivals came, it may have had nothing yet.
                        WakeReason::Arrivals(std::iter::from_fn(|| control.try_recv().ok()).collect())
                    }
                    // Nothing more can come, and nobody has closed: what is here must not wait for it.
                    None => {
                        self.settle_after_panic(Vec::new());
                        break;
                    }
                },
                () = until(wake) => WakeReason::Nothing,
            };
        }
        drop(over);
        self.wind_up(arrivals).await;
    }

    /// Whether there is anything left to do.
    fn step(&mut self, reason: WakeReason, arrivals: &mut Vec<Arrival>) -> bool {
        match reason {
            WakeReason::Session(event) => self.on_session(event),
            WakeReason::Kept(sequence) => self.deliveries.kept(sequence),
            WakeReason::Control(control) => self.on_control(control),
            WakeReason::Arrivals(said_before) => {
                // One by one: a panic under a `drain` would take those that are left with it.
                arrivals.reverse();
                for control in said_before {
                    self.on_control(control);
                }
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
            Arrival::Delivery(delivery) => self.on_delivery(delivery),
            // A dropped reply says that the client is closed.
            Arrival::Prepare { .. } if self.closing.is_some() => {}
            Arrival::Prepare { schema, reply } => {
                self.destination.expect(&schema);
                if self.sessions.is_closed() && self.writes.is_empty() {
                    self.teller.opening();
                    self.sessions.prepare(schema, reply);
                } else {
                    reply.answer(Ok(()));
                }
            }
            Arrival::Hurry => self.writes.hurry(now()),
            Arrival::Flush { reply } => self.deliveries.flush(reply),
            Arrival::Close { deadline, reply } => self.close_by(deadline).arrived(reply),
        }
    }

    fn on_delivery(&mut self, delivery: ImportedDelivery) {
        let now = now();
        if let Some((sequence, slices)) = self.deliveries.enter(delivery, now) {
            self.writes.push(sequence, slices, now);
        }
    }

    fn on_control(&mut self, control: Control) {
        match control {
            Control::Abort(sequence) => {
                if self.deliveries.abort(sequence) {
                    let taken_back = self.writes.take_back(sequence);
                    self.deliveries.end_aborted(sequence, taken_back, now());
                }
            }
            Control::CloseBy(deadline) => {
                self.close_by(deadline);
            }
            // What it asks for is done after every event. Only a spool can be left with a delivery.
            Control::Waiting | Control::Leave(_) => {}
            Control::EndedElsewhere => self.deliveries.ended_elsewhere(),
            Control::Recorded(ends) => self.deliveries.recorded(ends),
            Control::CannotRecord => self.cannot_record = true,
            Control::CanRecord => self.cannot_record = false,
            Control::KeepRefused {
                sequence,
                rows,
                reply,
            } => self.deliveries.keep_refused(sequence, rows, reply),
        }
    }

    fn on_session(&mut self, event: SessionEventKind) {
        match event {
            SessionEventKind::Opened { landed, conclusive } => self.on_opened(landed, conclusive),
            SessionEventKind::Acknowledged(acknowledgement) => self.on_acknowledged(acknowledgement),
            SessionEventKind::Sent { id } => self.on_sent(id),
            SessionEventKind::Written { id, took } => {
                if let Some(entry) = self.writes.get(id) {
                    self.deliveries.encoded(entry.ranges(), took);
                    self.teller.taken(id, took);
                }
            }
            SessionEventKind::Flushed { through } => {
                if self.writes.is_unacknowledged(through) {
                    // Nobody would ever ask for them again, and their callers would wait for ever.
                    self.on_broke(unacknowledged(), Operation::Flush);
                }
            }
            SessionEventKind::Closed => {
                self.sessions.closed();
                self.teller.tell(FactKind::Closed);
            }
            SessionEventKind::Broke { error, operation } => self.on_broke(error, operation),
            SessionEventKind::RetryAnswered { oldest, answer } => self.on_retry_answered(oldest, answer),
        }
    }

    fn on_opened(&mut self, landed: Vec<Acknowledgement>, conclusive: bool) {
        self.counters.sessions_opened.add(1);
        self.teller.opened();
        self.sessions.opened();
        for acknowledgement in landed {
            self.on_acknowledged(acknowledgement);
        }
        // What did not land then never will: the destination has looked.
        if self.sessions.looked(conclusive) {
            self.writes.looked_for();
        }
    }

    fn on_sent(&mut self, id: u64) {
        self.sessions.sent();
        let now = now();
        if let Some(sent) = self.writes.sent(id, now) {
            let attempts = sent.entry.attempts();
            self.deliveries
                .sent(sent.entry.ranges(), attempts, sent.anew, now);
            self.counters.writes_sent.add(1);
            self.teller.sent(sent.entry);
        }
    }

    fn on_acknowledged(&mut self, acknowledgement: Acknowledgement) {
        let now = now();
        if !matches!(acknowledgement, Acknowledgement::Broken { .. }) {
            if self.never_gives_up && self.sessions.outage().is_some() {
                self.note("info", "the spool goes on: the destination takes rows again");
            }
            self.sessions.acknowledged(now);
            self.writes.committed(now);
        }
        match acknowledgement {
            Acknowledgement::Through { id, position } => {
                self.teller.acknowledged(id, position);
                for entry in self.writes.through(id) {
                    self.counters.writes_acknowledged.add(1);
                    // The memory goes before the budget that stood for it.
                    for slice in entry.into_slices().iter().filter(|slice| !slice.settled) {
                        self.deliveries.accept(&slice.range, position, now);
                    }
                }
            }
            Acknowledgement::Partly { id, rows } => {
                let slices = self.writes.partly(id, rows);
                for slice in slices.iter().filter(|slice| !slice.settled) {
                    self.deliveries.accept(&slice.range, Position::None, now);
                }
            }
            Acknowledgement::PartlyRefused { id, rows, rejections } => {
                if let Some(refused) = self.writes.partly_refused(id, rows, rejections) {
                    self.deliveries.refuse(refused, Position::None, now);
                }
            }
            Acknowledgement::Refused {
                id,
                rejections,
                position,
            } => {
                if let Some(refused) = self.writes.refused(id, rejections) {
                    self.counters.writes_acknowledged.add(1);
                    self.deliveries.refuse(refused, position, now);
                }
            }
            // The session's task turns this one into the end of the session.
            Acknowledgement::Broken { .. } => {}
        }
    }

    fn fail(&mut self, failed: Vec<FailedRanges>, now: Instant) {
        for failed in &failed {
            self.deliveries.fail(failed, now);
        }
    }

    // ---- what can be done ---------------------------------------------------------------------

    fn advance(&mut self) {
        let now = now();
        if self.is_overdue(now) {
            self.settle_the_rest(now);
            return self.deliveries.answer_flushes();
        }
        self.writes.expire(now, self.deliveries.last_arrived());
        self.stop_asking(now);
        self.end_what_waits_in_vain(now);
        self.sessions.expire(now);
        if self.sessions.is_closed() {
            self.fill_window(now);
            if let Some(schema) = self.writes.schema() {
                let schema = schema.clone();
                self.teller.opening();
                self.sessions.open(schema);
            }
        }
        if self.sessions.is_open() && self.may_send() && !self.probe() {
            self.send_unsent(u64::MAX);
            self.fill_window(now);
            self.send_unsent(u64::MAX);
            // Rows that could not be put together have ended as well.
            if self.may_send() {
                self.drain_for_another_schema();
                self.flush_if_asked();
            }
        }
        self.deliveries.answer_flushes();
        self.finish_session(now);
    }

    /// Whether rows may go that lie behind others which have ended. A disk that takes no record must not stop a
    /// spool for ever that it is full of.
    fn may_send(&self) -> bool {
        let unrecorded = self.deliveries.unrecorded();
        let is_known = unrecorded == 0 || !self.keeps_positions || self.cannot_record;
        is_known && unrecorded <= MOST_UNRECORDED
    }

    fn fill_window(&mut self, now: Instant) {
        loop {
            let is_stalled = || self.deliveries.callers_are_stalled();
            let demand = self.demand(&is_stalled);
            let Some(failed) = self.writes.fill(now, self.sessions.schema(), &demand) else {
                return;
            };
            self.deliveries.fail(&failed, now);
        }
    }

    /// Who waits for rows to go.
    fn demand<'a>(&self, is_stalled: &'a dyn Fn() -> bool) -> Demand<'a> {
        Demand {
            flush_barrier: self.deliveries.flush_barrier(),
            closing: self.closing.is_some(),
            arrived: self.closing.as_ref().is_some_and(Closing::has_arrived),
            is_stalled,
        }
    }

    fn send_unsent(&mut self, through: u64) {
        while self.may_send()
            && let Some(write) = self.writes.next_unsent(through)
        {
            self.sessions.write(write);
        }
    }

    /// Sends the next probe of a search. Returns whether one is on.
    fn probe(&mut self) -> bool {
        match self.writes.next_probe() {
            Probe::Over => return false,
            Probe::UnderWay => {}
            Probe::Through(through) => {
                self.send_unsent(through);
                self.sessions.flush_now();
            }
        }
        true
    }

    fn drain_for_another_schema(&mut self) {
        if !self.writes.awaits_another_session(self.sessions.schema()) {
            return;
        }
        match self.writes.last_id() {
            None => self.sessions.drain(),
            Some(last) => self.sessions.flush(last, last),
        }
    }

    fn flush_if_asked(&mut self) {
        let is_stalled = || self.deliveries.callers_are_stalled();
        let demand = self.demand(&is_stalled);
        if let (Some(through), Some(last)) = (self.writes.flush_wanted(&demand), self.writes.last_id()) {
            self.sessions.flush(through, last);
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let is_ready = self.sessions.is_open() && self.may_send() || self.sessions.is_closed();
        let linger = match is_ready {
            true => self.writes.linger_due(self.sessions.schema()),
            false => None,
        };
        let session = self.sessions.wake_at(self.deliveries.oldest_admitted());
        let deadline = self.closing.as_ref().map(Closing::deadline);
        [linger, session, deadline, self.writes.hurry_due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn publish(&mut self) {
        self.teller.gone(self.writes.front_id());
        self.counters.window.set(self.writes.len());
        self.counters.strikes.set(self.sessions.strikes() as usize);
        let paused = self.never_gives_up && self.sessions.outage().is_some();
        self.counters.paused.set(usize::from(paused));
    }

    fn note(&self, level: &'static str, message: &str) {
        let fields = json!({ "destination": self.destination.capabilities().name });
        self.teller.log(level, message, fields);
    }

    fn log(&self, level: &'static str, message: &str, error: &Error, delay: Duration) {
        let fields = json!({
            "error": error.to_json(),
            "retryInMs": delay.as_secs_f64() * 1e3,
            "writesInFlight": self.writes.len(),
            "destination": self.destination.capabilities().name,
        });
        self.teller.log(level, message, fields);
    }
}

pub fn warn(observer: Observer) -> Warn {
    Box::new(move |message, fields| {
        observer(Event::Log(Log {
            level: "warn",
            message: message.to_string(),
            fields,
        }));
    })
}

fn unacknowledged() -> Error {
    let text = "the destination flushed without acknowledging what it was given";
    Error::new(Code::Internal, text).during("flush").ambiguous()
}

#[cfg(test)]
#[path = "../../tests/rs/transmitter/parts/engine.rs"]
mod tests;
