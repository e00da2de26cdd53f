//! The sessions with the destination, one after the other, and how long to wait between them.
//!
//! Invariants:
//! - At most one session is alive. Events of earlier ones are skipped.
//! - A write goes only to an open session.
//! - A session that drains is held until it says that it is closed: dropped, it would be cut short.
//! - Nothing here awaits a destination: a task of its own does that for each session.
//! - Questions to the retry predicate end with the phase `Asking`.
//!
//! It holds no write and knows no delivery: the engine says which writes a question is about, and when the
//! oldest delivery was admitted.

mod backoff;
mod question;
mod task;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

use self::backoff::Backoff;
pub use self::question::RetryAnswer;
use self::question::RetryQuestion;
pub use self::task::{Operation, SessionEventKind};
use self::task::{SessionCall, SessionEvent, SessionHandle};
use super::Reply;
use super::rows::EquallyTried;
use crate::config::RetryOptions;
use crate::destination::{Destination, Epochs, Opening, Write};
use crate::error::{Error, Result};

pub struct Sessions {
    destination: Arc<dyn Destination>,
    retry: RetryOptions,
    producer: Uuid,
    epochs: Option<Arc<dyn Epochs>>,
    phase: Phase,
    /// Of the session whose events count.
    number: u64,
    /// Of the session that is open, opens or drains.
    schema: Option<SchemaRef>,
    /// Whether that session was given any write.
    has_writes: bool,
    events: UnboundedSender<SessionEvent>,
    inbox: UnboundedReceiver<SessionEvent>,
    /// The last write that a flush of the open session covers.
    flushed_through: u64,
    /// The oldest write that may have landed unseen, asked about at each `open` until a look is conclusive.
    resume_from: Option<u64>,
    backoff: Backoff,
    dice: fastrand::Rng,
    /// When the destination last acknowledged something, or broke off for the first time after it had.
    alive: Option<Instant>,
    /// Why the destination is away, since it last acknowledged something.
    outage: Option<Error>,
    /// Waits for the session that opens.
    prepare: Option<Reply>,
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

/// What was there when a session broke.
pub struct BrokenSession {
    pub schema: Option<SchemaRef>,
    /// It was told to close.
    pub was_draining: bool,
    /// It was given writes.
    pub has_writes: bool,
    /// Who waited for it to open, and for nothing else.
    pub prepare: Option<Reply>,
}

impl Sessions {
    /// `epochs`: the producer is a log, of which an earlier process may have landed rows unseen.
    pub fn new(
        destination: Arc<dyn Destination>,
        retry: RetryOptions,
        producer: Uuid,
        epochs: Option<Arc<dyn Epochs>>,
    ) -> Sessions {
        let (events, inbox) = unbounded_channel();
        Sessions {
            destination,
            backoff: Backoff::new(&retry),
            retry,
            producer,
            resume_from: epochs.as_ref().map(|_| 0),
            epochs,
            phase: Phase::Closed,
            number: 0,
            schema: None,
            has_writes: false,
            events,
            inbox,
            flushed_through: 0,
            dice: fastrand::Rng::new(),
            alive: None,
            outage: None,
            prepare: None,
        }
    }

    /// The next event of the session. Events of sessions that were given up are skipped.
    pub async fn next_event(&mut self) -> Option<SessionEventKind> {
        loop {
            let event = self.inbox.recv().await?;
            if event.session == self.number {
                return Some(event.kind);
            }
        }
    }

    // ---- one session ----------------------------------------------------------------------------

    pub fn open(&mut self, schema: SchemaRef) {
        self.number += 1;
        self.flushed_through = 0;
        self.has_writes = false;
        self.schema = Some(schema.clone());
        let producer = self.producer;
        let resume_from = self.resume_from;
        let epochs = self.epochs.clone();
        let handle = SessionHandle::start(
            self.number,
            self.destination.clone(),
            move |acknowledgements| Opening {
                schema,
                producer,
                resume_from,
                epochs,
                acknowledgements,
            },
            self.events.clone(),
        );
        self.phase = Phase::Opening(handle);
    }

    /// Opens a session before there are rows. `reply` is answered when it is open, or with the error.
    pub fn prepare(&mut self, schema: SchemaRef, reply: Reply) {
        self.open(schema);
        self.prepare = Some(reply);
    }

    /// The session says that it is open.
    pub fn opened(&mut self) {
        if let Phase::Opening(handle) = std::mem::replace(&mut self.phase, Phase::Closed) {
            self.phase = Phase::Open(handle);
        }
        if let Some(reply) = self.prepare.take() {
            reply.answer(Ok(()));
        }
    }

    /// Whether a look of the session that opened says of each earlier write whether it landed.
    pub fn looked(&mut self, conclusive: bool) -> bool {
        // A request of an earlier session may still arrive: the next session looks for it again.
        conclusive && self.resume_from.take().is_some() && self.destination.capabilities().tells_what_landed
    }

    pub fn write(&self, write: Arc<Write>) {
        self.call(SessionCall::Write(write));
    }

    /// The session is about to be given a write.
    pub fn sent(&mut self) {
        self.has_writes = true;
    }

    /// Asks for a flush that covers `through`, unless one that does is under way: a flush for every write
    /// that comes while another runs would commit each of them alone. `last` is the last write.
    pub fn flush(&mut self, through: u64, last: u64) {
        if self.is_open() && self.flushed_through < through {
            self.flushed_through = last;
            self.call(SessionCall::Flush);
        }
    }

    /// Asks for a flush, whatever is under way.
    pub fn flush_now(&self) {
        self.call(SessionCall::Flush);
    }

    /// Has the open session close.
    pub fn drain(&mut self) {
        if let Phase::Open(handle) = std::mem::replace(&mut self.phase, Phase::Closed) {
            handle.call(SessionCall::Close);
            self.phase = Phase::Draining(handle);
        }
    }

    fn call(&self, call: SessionCall) {
        if let Phase::Open(handle) = &self.phase {
            handle.call(call);
        }
    }

    /// The session says that it is closed. It is drained only when nothing waits for its acknowledgement.
    pub fn closed(&mut self) {
        self.phase = Phase::Closed;
        self.schema = None;
    }

    /// The session is gone. Its events that are still queued are skipped.
    pub fn broke(&mut self) -> BrokenSession {
        let was_draining = matches!(self.phase, Phase::Draining(_));
        let schema = self.schema.take();
        self.abandon();
        BrokenSession {
            schema,
            was_draining,
            has_writes: self.has_writes,
            prepare: self.prepare.take(),
        }
    }

    /// Drops whatever session there is.
    pub fn abandon(&mut self) {
        self.closed();
        // Events of the old session would be taken for those of a session that is still there.
        self.number += 1;
    }

    /// All rows are settled: an open session is drained, and one that opens is not waited for.
    pub fn finish(&mut self) {
        match self.phase {
            Phase::Open(_) => self.drain(),
            Phase::Opening(_) => self.abandon(),
            Phase::Closed | Phase::Waiting(_) | Phase::Asking(_) | Phase::Draining(_) => {}
        }
    }

    /// Writes from this one on may have landed unseen: the next session looks for them. Those before `front` are
    /// settled.
    pub fn resume_from(&mut self, id: u64, front: u64) {
        let earlier = self.resume_from.unwrap_or(id);
        self.resume_from = Some(earlier.min(id).max(front));
    }

    // ---- what there is --------------------------------------------------------------------------

    /// Of the session that is open, opens or drains.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether a session may be opened now.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether there is no session, nor one to come without another event.
    pub fn is_absent(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::Waiting(_) | Phase::Asking(_))
    }

    /// Whether a session that opens or closes keeps rows waiting.
    pub fn is_between(&self) -> bool {
        matches!(self.phase, Phase::Opening(_) | Phase::Draining(_))
    }

    // ---- the destination's health ---------------------------------------------------------------

    /// Something was acknowledged. It counts once, however many writes it covers: one good flush does not undo
    /// an hour of failures.
    pub fn acknowledged(&mut self, now: Instant) {
        self.backoff.succeeded();
        self.alive = Some(now);
        self.outage = None;
    }

    /// A session failed in a way that may pass. Returns how long to stay away.
    pub fn failed(&mut self, error: &Error, operation: Operation, now: Instant) -> Duration {
        if operation != Operation::Open && self.outage.is_none() {
            // Until now it was there.
            self.alive = Some(now);
        }
        self.outage = Some(error.clone());
        self.backoff.failed(error, &mut self.dice)
    }

    /// Failures that still count.
    pub fn strikes(&self) -> u32 {
        self.backoff.strikes()
    }

    pub fn outage(&self) -> Option<&Error> {
        self.outage.as_ref()
    }

    /// Why nothing could be sent, for who waited for it.
    pub fn why_unavailable(&self) -> Vec<String> {
        match (&self.outage, &self.phase) {
            (Some(error), _) => std::iter::once(error.to_string())
                .chain(error.causes().iter().cloned())
                .collect(),
            (None, Phase::Opening(_)) => {
                vec!["no session was open yet: the destination had not answered".into()]
            }
            (None, _) => Vec::new(),
        }
    }

    // ---- the clock ------------------------------------------------------------------------------

    /// When the clock of a delivery began: with its admission, or when the destination was last there.
    pub fn clock_began(&self, admitted: Option<Instant>) -> Option<Instant> {
        admitted.max(self.alive)
    }

    /// Deliveries admitted before this have waited for longer than `retry.deadline` by `next_try`.
    pub fn too_late_before(&self, next_try: Instant) -> Option<Instant> {
        let limit = next_try.checked_sub(self.retry.deadline)?;
        self.alive.is_none_or(|alive| alive < limit).then_some(limit)
    }

    /// The first instant at which it is too late for a delivery.
    fn too_late_at(&self, admitted: Option<Instant>) -> Option<Instant> {
        let began = self.clock_began(Some(admitted?))?;
        began.checked_add(self.retry.deadline + Duration::from_millis(1))
    }

    /// When to look again, if nothing happens before.
    pub fn wake_at(&self, oldest_admitted: Option<Instant>) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting(until) => Some(*until),
            Phase::Asking(question) => {
                let patience = question.patience();
                let too_late = self.too_late_at(oldest_admitted);
                Some(too_late.map_or(patience, |too_late| too_late.min(patience)))
            }
            Phase::Opening(_) | Phase::Draining(_) => self.too_late_at(oldest_admitted),
            Phase::Closed | Phase::Open(_) => None,
        }
    }

    /// Ends a wait that is over.
    pub fn expire(&mut self, now: Instant) {
        if let Phase::Waiting(until) = self.phase
            && until <= now
        {
            self.phase = Phase::Closed;
        }
    }

    // ---- the retry predicate --------------------------------------------------------------------

    /// Whether somebody is to be asked before another try.
    pub fn has_predicate(&self) -> bool {
        self.retry.predicate.is_some()
    }

    /// What comes after a failure that may pass: a wait until `due`, and a question if there is somebody to
    /// ask and something to ask about.
    pub fn wait(&mut self, due: Instant, error: Error, tried: Vec<EquallyTried>, now: Instant) {
        let Some(predicate) = self.retry.predicate.as_ref().filter(|_| !tried.is_empty()) else {
            self.phase = Phase::Waiting(due);
            return;
        };
        let patience = now + self.retry.patience;
        let session = self.number;
        let events = &self.events;
        let question = RetryQuestion::ask(due, patience, error, tried, predicate, |oldest| {
            let events = events.clone();
            move |answer| {
                let kind = SessionEventKind::RetryAnswered { oldest, answer };
                let _ = events.send(SessionEvent { session, kind });
            }
        });
        self.phase = Phase::Asking(question);
    }

    /// What an answer of the predicate comes to.
    pub fn answered(&mut self, oldest: u64, answer: Result<bool>) -> RetryAnswer {
        match &mut self.phase {
            Phase::Asking(question) => question.answered(oldest, answer),
            _ => RetryAnswer::Allowed,
        }
    }

    /// When the next try is due, and what it would be tried again after, while somebody is asked about it.
    pub fn asked_about(&self) -> Option<(Instant, Error)> {
        match &self.phase {
            Phase::Asking(question) => Some(question.subject()),
            _ => None,
        }
    }

    /// Goes on once all is answered, or nobody waits for the answers any more; `is_here` says of a write
    /// whether it is still to be sent. Returns what to warn of.
    pub fn stop_asking(&mut self, now: Instant, is_here: impl Fn(u64) -> bool) -> Option<Error> {
        let Phase::Asking(question) = &mut self.phase else {
            return None;
        };
        let over = question.is_over(now, is_here, self.retry.patience)?;
        self.phase = Phase::Waiting(over.due);
        over.problem
    }
}

#[cfg(test)]
#[path = "../../tests/rs/transmitter/parts/sessions.rs"]
mod tests;
