//! What the engine does when a session fails: which deliveries end, which writes are tried again, and when.
//!
//! Invariants:
//! - An error of the class `Never` ends the writes or deliveries that it is about; all others are replayed.
//! - A refused probe of a search is an answer, not a failed try: it uses up nothing of `retry`.
//! - No answer of the retry predicate is waited for past `retry.deadline` of the oldest delivery.
//! - The predicate is not asked about a write that the broken session was not given.
//!
//! It keeps no state of its own: `deliveries`, `writes` and `sessions` do.

use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;

use super::Engine;
use crate::config::OnExhausted;
use crate::error::{Code, Error, Result, RetryClass};
use crate::outcome::Position;
use crate::transmitter::clock::now;
use crate::transmitter::facts::FactKind;
use crate::transmitter::rows::FailedRanges;
use crate::transmitter::sessions::{Operation, RetryAnswer};
use crate::transmitter::writes::{Failing, Searched};

impl Engine {
    pub(super) fn on_broke(&mut self, error: Error, operation: Operation) {
        let now = now();
        self.counters.sessions_broken.add(1);
        let broken = self.sessions.broke();
        if let Some(reply) = broken.prepare {
            reply.answer(Err(error));
            return;
        }
        if broken.was_draining && self.writes.is_empty() {
            self.log("warn", "a session did not close cleanly", &error, Duration::ZERO);
            return;
        }
        // If no attempt were counted, rows would wait for ever for a session that each time ends before it is
        // given a write.
        let operation = if broken.has_writes || error.is_graceful() {
            operation
        } else {
            Operation::Open
        };
        if operation == Operation::Open {
            self.writes.count_try(now);
        }
        if error.is_graceful() {
            // The destination asked for another session in time, so no write has failed.
            self.rewind(error.is_ambiguous(), false);
            self.teller.rotated(&error, self.writes.len());
            return self.log("info", "a session was rotated", &error, Duration::ZERO);
        }
        if self.look_for_rows(&error, operation, now) {
            return;
        }
        if error.retry_class() == RetryClass::Never && !self.outlasts(&error, operation) {
            return self.refused_for_good(error, operation, broken.schema, now);
        }
        // Asked for before the window forgets what was given.
        let tried = match operation {
            Operation::Open => self.writes.last_id(),
            _ => self.writes.last_sent(),
        };
        self.rewind(error.is_ambiguous(), true);
        let delay = self.sessions.failed(&error, operation, now);
        // Before the outcomes of those that end with it.
        self.teller.broke(&error, delay, self.writes.len());
        let ended = self.end_what_may_not_be_tried(now + delay, &error, now);
        let level = if ended { "error" } else { "warn" };
        self.log(level, "a session broke", &error, delay);
        let tried = match tried.filter(|_| self.sessions.has_predicate() && !self.never_gives_up) {
            Some(through) => self.writes.equally_tried(through, &error, now),
            None => Vec::new(),
        };
        self.sessions.wait(now + delay, error, tried, now);
    }

    /// Whether rows that a log keeps wait for an error to be mended. What a server says of rows, or of what they hold,
    /// ends them; what it says of credentials, tables and schemas is mended by somebody some day.
    fn outlasts(&self, error: &Error, operation: Operation) -> bool {
        let of_rows = error.is_of_the_data()
            || error.row().is_some()
            || matches!(error.code(), Code::BatchInvalid | Code::PayloadChanged);
        self.never_gives_up && (operation == Operation::Open || !of_rows)
    }

    /// Everything is to be sent again; `counts` says that the end of the session was a failed try.
    fn rewind(&mut self, ambiguous: bool, counts: bool) {
        if let Some(first) = self.writes.rewind(ambiguous, counts) {
            self.sessions.resume_from(first, self.writes.front_id());
        }
    }

    /// Another try would fail in the same way: what the error is about ends, and everything else is replayed.
    fn refused_for_good(
        &mut self,
        error: Error,
        operation: Operation,
        schema: Option<SchemaRef>,
        now: Instant,
    ) {
        let faults = error.clone().into_faults();
        let error = error.alone();
        let failed = match operation {
            Operation::Open => self.writes.fail(&Failing::All, &error, now),
            // Some deliveries are to blame: those that they happened to travel with go on.
            Operation::Write(id) => self.writes.blame(id, faults, &error, now),
            Operation::Flush | Operation::Close | Operation::Idle => {
                self.writes.fail(&Failing::Sent, &error, now)
            }
        };
        let told = error.clone();
        self.teller.tell(FactKind::RefusedForGood { error: told });
        let text = "the destination refused for good";
        self.log("error", text, &error, Duration::ZERO);
        let ends = !failed.is_empty();
        self.fail(failed, now);
        // A replay that is another write's fault is no try.
        let counts = !matches!(operation, Operation::Write(_));
        self.rewind(error.is_ambiguous(), counts);
        if let Some(schema) = schema.filter(|_| operation == Operation::Open) {
            // They wait for the same session, which cannot be had.
            let ranges = self.writes.take_fitting(&schema);
            let error = error.clone().with_ambiguity(false);
            self.deliveries.fail(&FailedRanges { ranges, error }, now);
        }
        if ends {
            self.stop_if_asked(&error, now);
        }
    }

    // ---- refused rows that are not named ----------------------------------------------------------

    /// Begins or goes on with a search, if this error calls for one.
    fn look_for_rows(&mut self, error: &Error, operation: Operation, now: Instant) -> bool {
        let searchable = self.writes.searchable(error);
        let Some(sent) = searchable.filter(|_| operation != Operation::Open) else {
            return false;
        };
        self.rewind(error.is_ambiguous(), false);
        self.counters.writes_refused.add(1);
        if !self.writes.is_searching() {
            let told = error.clone();
            self.teller.tell(FactKind::Searching { error: told });
            let text = "the destination refused rows that it does not name: looking for them";
            self.log("warn", text, error, Duration::ZERO);
        }
        match self.writes.look_for_rows(sent, error, now) {
            Searched::Narrowed => {}
            Searched::Rows(rows) => {
                for refused in rows {
                    self.deliveries.refuse(refused, Position::None, now);
                }
            }
            Searched::Undecided(failed) => {
                self.fail(failed, now);
                self.stop_if_asked(error, now);
            }
        }
        true
    }

    // ---- limits of retry --------------------------------------------------------------------------

    /// Ends what may not be tried again: too many attempts, or too late for another one at `next_try`.
    /// Returns whether there was any.
    fn end_what_may_not_be_tried(&mut self, next_try: Instant, error: &Error, now: Instant) -> bool {
        if self.never_gives_up {
            return false;
        }
        let exhausted = self
            .writes
            .fail(&Failing::Exhausted(self.max_attempts), error, now);
        // The next one would be refused as this one was, and so would all that wait behind it.
        let in_vain = !exhausted.is_empty()
            && error.retry_class() == RetryClass::Reauthenticate
            && !self.destination.renews_credentials();
        // Nobody is left for another try.
        let over = self.is_overdue_before(next_try);
        let mut ends = !exhausted.is_empty();
        self.fail(exhausted, now);
        let late = if in_vain || over {
            self.deliveries.sequences()
        } else {
            self.too_late(next_try)
        };
        ends |= !late.is_empty();
        self.give_up_on(late, error, now);
        if ends {
            self.stop_if_asked(error, now);
        }
        ends
    }

    /// Nobody has to wait for a session past its deadline, whatever it is that takes so long.
    pub(super) fn end_what_waits_in_vain(&mut self, now: Instant) {
        if !self.sessions.is_between() || self.never_gives_up {
            return;
        }
        let late = self.too_late(now);
        if late.is_empty() {
            return;
        }
        let error = self.sessions.outage().cloned().unwrap_or_else(no_session);
        let text = "deliveries waited in vain for a session";
        self.log("error", text, &error, Duration::ZERO);
        self.give_up_on(late, &error, now);
        self.stop_if_asked(&error, now);
    }

    /// Deliveries for which a try at `next_try` comes too late.
    fn too_late(&self, next_try: Instant) -> Vec<u64> {
        let limit = self.sessions.too_late_before(next_try);
        limit.map_or_else(Vec::new, |limit| self.deliveries.admitted_before(limit))
    }

    /// Ends deliveries of which no session holds anything now.
    fn give_up_on(&mut self, sequences: Vec<u64>, error: &Error, now: Instant) {
        for sequence in sequences {
            let admitted = self.deliveries.admitted(sequence);
            let began = self.sessions.clock_began(admitted).unwrap_or(now);
            let failed = self.writes.give_up(sequence, error, began, now);
            self.fail(failed, now);
        }
    }

    /// After something failed for good: under `onExhausted: "stop"`, everything that is and everything that
    /// will come fails too.
    fn stop_if_asked(&mut self, error: &Error, now: Instant) {
        if self.on_exhausted != OnExhausted::Stop || self.deliveries.is_stopped() || self.never_gives_up {
            return;
        }
        let text = format!(
            "stopped because an earlier write failed for good: {}",
            error.message()
        );
        let stopped = Error::new(error.code(), text).during("write");
        self.deliveries.stop(stopped.clone());
        let failed = self.writes.fail(&Failing::All, &stopped, now);
        self.fail(failed, now);
        self.writes.clear_batches();
        self.deliveries.fail_all(now, |_| &stopped);
    }

    // ---- the retry predicate ----------------------------------------------------------------------

    pub(super) fn on_retry_answered(&mut self, oldest: u64, answer: Result<bool>) {
        match self.sessions.answered(oldest, answer) {
            RetryAnswer::Allowed => {}
            RetryAnswer::Denied(ids, error) => {
                let text = "retry.when allows no other try";
                self.log("error", text, &error, Duration::ZERO);
                let now = now();
                let failed = self.writes.fail(&Failing::Ids(&ids), &error, now);
                if !failed.is_empty() {
                    self.fail(failed, now);
                    self.stop_if_asked(&error, now);
                }
            }
            RetryAnswer::Unusable(problem) => self.warn_of_predicate(&problem),
        }
    }

    /// Goes on once all is answered, or nobody waits for the answers any more.
    pub(super) fn stop_asking(&mut self, now: Instant) {
        // The answer takes time, and past its deadline nothing is tried again, whatever the answer.
        if let Some((due, error)) = self.sessions.asked_about()
            && self.end_what_may_not_be_tried(due.max(now), &error, now)
        {
            let text = "it became too late for another try while retry.when was asked";
            self.log("error", text, &error, Duration::ZERO);
        }
        let writes = &self.writes;
        if let Some(problem) = self.sessions.stop_asking(now, |id| writes.contains(id)) {
            self.warn_of_predicate(&problem);
        }
    }

    fn warn_of_predicate(&self, problem: &Error) {
        let text = "retry.when gave no verdict: the retry class decides";
        self.log("warn", text, problem, Duration::ZERO);
    }
}

fn no_session() -> Error {
    let text = "no session could be had before retry.deadline";
    Error::new(Code::Unavailable, text).during("open")
}
