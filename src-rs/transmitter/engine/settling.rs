//! How deliveries end: accepted, failed, given up.
//!
//! Invariants:
//! - `finish` is the one way out. It frees the budget, after the memory that it stood for is gone.
//! - Rows that a session was given and that nobody settled end as unknown; all others as failed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Closing, Engine, Phase, now};
use crate::config::OnExhausted;
use crate::destination::Write;
use crate::error::{Code, Error, RetryClass};

use crate::outcome::{AdmittedDelivery, Outcome, Position, Rejection, RowRange, SettledDelivery, Status};
use crate::transmitter::batch_slice::BatchSlice;
use crate::transmitter::intake::{Arrival, ImportedDelivery};
use crate::transmitter::window::{FailedRanges, WindowWrite, WriteSlice};
use crate::transmitter::{Event, Log};

impl Engine {
    pub(super) fn rewind(&mut self, ambiguous: bool) {
        if let Some(id) = self.window.first_queued_or_sent() {
            self.resume_from = Some(self.resume_from.map_or(id, |earlier| earlier.min(id)));
        }
        self.window.rewind(ambiguous);
        if let Some(search) = &mut self.search {
            search.rewind();
        }
    }

    pub(super) fn fail_all(&mut self, failed: Vec<WindowWrite>, error: &Error, now: Instant) {
        if failed.is_empty() {
            return;
        }
        for entry in failed {
            self.end(entry.ending(error, now), now);
        }
        self.stop_if_asked(error, now);
    }

    /// Ends what may not be tried again: too many attempts, or too late for another one at `next_try`.
    /// Returns whether there was any.
    pub(super) fn end_what_may_not_be_tried(
        &mut self,
        next_try: Instant,
        error: &Error,
        now: Instant,
    ) -> bool {
        let exhausted = self.window.exhausted(self.retry.attempts);
        // The next one would be refused as this one was, and so would all that wait behind it.
        let in_vain = !exhausted.is_empty()
            && error.retry_class() == RetryClass::Reauthenticate
            && !self.destination.renews_credentials();
        // Nobody is left for another try.
        let over = self
            .closing
            .as_ref()
            .is_some_and(|closing| next_try > closing.deadline);
        let mut ends = !exhausted.is_empty();
        for entry in exhausted {
            self.end(entry.ending(error, now), now);
        }
        let late = if in_vain || over {
            self.ledger.sequences()
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
        if !matches!(self.session, Phase::Opening(_) | Phase::Draining(_)) {
            return;
        }
        let late = self.too_late(now);
        if late.is_empty() {
            return;
        }
        let error = self.outage.clone().unwrap_or_else(no_session);
        let text = "deliveries waited in vain for a session";
        self.log("error", text, &error, Duration::ZERO);
        self.give_up_on(late, &error, now);
        self.stop_if_asked(&error, now);
    }

    /// Deliveries for which a try at `next_try` comes too late. The clock of a delivery runs from its
    /// admission, or from when the destination was last there.
    fn too_late(&self, next_try: Instant) -> Vec<u64> {
        let Some(limit) = next_try.checked_sub(self.retry.deadline) else {
            return Vec::new();
        };
        match self.alive {
            Some(alive) if alive >= limit => Vec::new(),
            _ => self.ledger.admitted_before(limit),
        }
    }

    /// The first instant at which it is too late for the oldest delivery.
    pub(super) fn too_late_at(&self) -> Option<Instant> {
        let admitted = self.ledger.oldest_admitted()?;
        let began = self.alive.map_or(admitted, |alive| alive.max(admitted));
        began.checked_add(self.retry.deadline + Duration::from_millis(1))
    }

    /// Ends deliveries of which no session holds anything now.
    fn give_up_on(&mut self, sequences: Vec<u64>, error: &Error, now: Instant) {
        for sequence in sequences {
            for failed in self.window.give_up(sequence, error, now) {
                self.end(failed, now);
            }
            let ranges = self.batcher.take_back(sequence);
            if ranges.is_empty() {
                continue;
            }
            // Not one of its rows was in any try.
            let began = self.ledger.admitted(sequence).max(self.alive).unwrap_or(now);
            let elapsed = now.saturating_duration_since(began);
            let error = error.clone().after(0, elapsed).with_ambiguity(false);
            self.end(FailedRanges { ranges, error }, now);
        }
    }

    /// After something failed for good.
    pub(super) fn stop_if_asked(&mut self, error: &Error, now: Instant) {
        if self.retry.on_exhausted == OnExhausted::Stop && self.stopped.is_none() {
            self.stop(error, now);
        }
    }

    pub(super) fn end(&mut self, failed: FailedRanges, now: Instant) {
        for range in &failed.ranges {
            let settled = self.ledger.fail(range, &failed.error, now);
            self.finish(settled);
        }
    }

    pub(super) fn accept(&mut self, slice: &WriteSlice, position: Position, now: Instant) {
        if !slice.settled {
            let settled = self.ledger.accept(&slice.range, position, now);
            self.finish(settled);
        }
    }

    /// Rows of a write are settled, of which some are refused. They begin after `done_rows`, which were
    /// settled before; the rejections count rows of the write.
    pub(super) fn refuse_rows(
        &mut self,
        write: Arc<Write>,
        slices: &[WriteSlice],
        done_rows: usize,
        rejections: Vec<Rejection>,
        position: Position,
        now: Instant,
    ) {
        let parted = by_share(slices, done_rows, rejections);
        for part in &parted {
            self.keep_refused(&write, &part.range, part.start, &part.rejections);
        }
        // The memory goes before the budget that stood for it.
        drop(write);
        for part in parted {
            let settled = self.ledger.refuse(&part.range, part.rejections, position, now);
            self.finish(settled);
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
        for entry in self.window.take_all() {
            self.end(entry.ending(&stopped, now), now);
        }
        self.batcher.clear();
        for sequence in self.ledger.sequences() {
            let settled = self.ledger.fail_rest(sequence, &stopped, now);
            self.finish(settled);
        }
    }

    /// A step panicked, which is a bug of ours: everybody is told, as far as the books can still be read.
    pub(super) fn perish(&mut self, arrived: Vec<Arrival>) {
        let text = "the transmitter panicked; please report this";
        let error = Error::new(Code::Internal, text).during("write");
        // In doubt all of it: nobody knows how far the step got.
        let in_doubt = error.clone().ambiguous();
        self.stopped = Some(error);
        self.session = Phase::Closed;
        self.flushes.clear();
        let settle = || {
            for sequence in self.ledger.sequences() {
                let settled = self.ledger.fail_rest(sequence, &in_doubt, now());
                self.finish(settled);
            }
        };
        // What the panic left half-done may not bear being looked at.
        let _ = catch_unwind(AssertUnwindSafe(settle));
        // What was left of the turn, the last first.
        for arrival in arrived.into_iter().rev() {
            self.on_late_arrival(arrival);
        }
        for ticket in self.admission.close() {
            (self.observer)(Event::Granted(ticket));
        }
    }

    /// What arrives once it is over is refused, each by itself: one that panics must not take others with it.
    pub(super) fn on_late_arrival(&mut self, arrival: Arrival) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.on_arrival(arrival)));
    }

    pub(super) fn abort(&mut self, sequence: u64) {
        let now = now();
        if !self.ledger.contains(sequence) {
            if sequence > self.last_arrived {
                self.aborted.insert(sequence);
            }
            return;
        }
        let error = aborted();
        let mut unwritten = self.batcher.take_back(sequence);
        unwritten.extend(self.window.take_back(sequence));
        for range in unwritten {
            let settled = self.ledger.fail(&range, &error, now);
            self.finish(settled);
        }
        // What is left of it was written: its outcome is open, and the delivery goes on.
        if let Some(outcome) = self.ledger.give_up_waiting(sequence, &error, now) {
            self.tell(outcome);
        }
    }

    pub(super) fn close_by(&mut self, deadline: Duration) -> &mut Closing {
        let by = now() + deadline.min(Duration::from_secs(366 * 24 * 3600));
        let closing = self.closing.get_or_insert(Closing {
            deadline: by,
            arrived: false,
            replies: Vec::new(),
        });
        closing.deadline = closing.deadline.min(by);
        closing
    }

    /// The deadline of `close` has passed: what was sent may have landed, the rest did not. Whoever reads it is
    /// told what kept it until then.
    pub(super) fn settle_the_rest(&mut self, now: Instant) {
        let why = match (&self.outage, &self.session) {
            (Some(error), _) => std::iter::once(error.to_string())
                .chain(error.causes().iter().cloned())
                .collect(),
            (None, Phase::Opening(_)) => {
                vec!["no session was open yet: the destination had not answered".into()]
            }
            (None, _) => Vec::new(),
        };
        let late = deadline_passed().with_causes(why);
        self.session = Phase::Closed;
        let writes = self.window.take_all();
        let mut tried: HashMap<u64, Error> = HashMap::new();
        for entry in &writes {
            let verdict = match entry.may_be_held() {
                true => entry.verdict(&late, now).ambiguous(),
                false => entry.verdict(&late, now),
            };
            for range in entry.ranges() {
                let told = tried.entry(range.sequence).or_insert_with(|| verdict.clone());
                if verdict.is_ambiguous() && !told.is_ambiguous() {
                    *told = verdict.clone();
                }
            }
        }
        // The memory goes before the budget that stood for it.
        drop(writes);
        self.batcher.clear();
        for sequence in self.ledger.sequences() {
            let error = tried.get(&sequence).unwrap_or(&late);
            let settled = self.ledger.fail_rest(sequence, error, now);
            self.finish(settled);
        }
        self.wait_for_the_disk_no_longer();
    }

    /// Settles a delivery that never got as far as the batcher.
    pub(super) fn refuse(&mut self, delivery: &ImportedDelivery, error: Error) {
        self.counters.arriving.sub(1);
        let now = now();
        let rows = match &delivery.slices {
            Ok(slices) => slices.iter().map(BatchSlice::rows).sum(),
            Err(_) => 0,
        };
        self.ledger.enter(AdmittedDelivery {
            sequence: delivery.sequence,
            rows,
            bytes: delivery.bytes,
            charge: delivery.charge,
            admitted: delivery.admitted,
            handoff: delivery.handoff,
            buffers_copied_for_pin_limit: delivery.buffers_copied_for_pin_limit,
            buffers_realigned: delivery.buffers_realigned,
        });
        let settled = self.ledger.fail_rest(delivery.sequence, &error, now);
        self.finish(settled);
    }

    /// The end of every delivery.
    pub(super) fn finish(&mut self, settled: Option<SettledDelivery>) {
        if let Some(settled) = settled.and_then(|settled| self.waits_for_the_disk(settled)) {
            self.conclude(settled);
        }
    }

    pub(super) fn conclude(&mut self, settled: SettledDelivery) {
        let SettledDelivery {
            mut outcome,
            silent,
            charge,
        } = settled;
        if let Some(unchanged) = self.payload_digests.remove(&outcome.sequence)
            && !unchanged()
        {
            outcome.payload_changed = true;
            let text = "the memory of this batch was written to between handoff and settlement";
            outcome
                .error
                .get_or_insert(Error::new(Code::PayloadChanged, text));
            // Some mixture of old and new bytes was sent; nobody can say which.
            if outcome.status != Status::Failed {
                outcome.status = Status::Unknown;
            }
        }
        self.counters.unsettled.sub(1);
        if !silent {
            self.tell(outcome);
        }
        for ticket in self.admission.release(charge) {
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

    pub(super) fn publish(&self) {
        self.counters.window.set(self.window.len());
        self.counters.strikes.set(self.backoff.strikes() as usize);
    }

    pub(super) fn log(&self, level: &'static str, message: &str, error: &Error, delay: Duration) {
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

/// What is refused of some rows of a delivery.
struct Part {
    range: RowRange,
    /// Its first row in the write.
    start: usize,
    /// Rows counted within the delivery.
    rejections: Vec<Rejection>,
}

/// Splits rejections of a write among its slices. The slices begin after `done_rows`, which were settled
/// before.
fn by_share(slices: &[WriteSlice], done_rows: usize, mut rejections: Vec<Rejection>) -> Vec<Part> {
    let mut start = done_rows;
    // What was acknowledged cannot be refused any more.
    rejections.retain(|rejection| rejection.row >= start as u64);
    rejections.sort_by_key(|rejection| rejection.row);
    rejections.dedup_by_key(|rejection| rejection.row);
    let mut rejections = rejections.into_iter().peekable();
    let mut parts = Vec::with_capacity(slices.len());
    for WriteSlice { range, settled } in slices {
        let end = start + range.rows;
        let mut own = Vec::new();
        while let Some(mut rejection) = rejections.next_if(|rejection| rejection.row < end as u64) {
            rejection.row = rejection.row - start as u64 + range.first_row as u64;
            own.push(rejection);
        }
        if !settled {
            parts.push(Part {
                range: *range,
                start,
                rejections: own,
            });
        }
        start = end;
    }
    parts
}

fn no_session() -> Error {
    let text = "no session could be had before retry.deadline";
    Error::new(Code::Unavailable, text).during("open")
}

pub(super) fn aborted() -> Error {
    Error::new(Code::Aborted, "the send was aborted").during("send")
}

pub(super) fn deadline_passed() -> Error {
    Error::new(
        Code::DeadlineExceeded,
        "the client was closed before this was settled",
    )
    .during("close")
}
