//! How deliveries end: accepted, failed, given up.
//!
//! Invariants:
//! - `finish` is the one way out. It frees the budget, after the memory that it stood for is gone.
//! - Rows that a session was given and that nobody settled end as unknown; all others as failed.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Closing, Engine, Phase, now};
use crate::config::OnExhausted;
use crate::error::{Code, Error};
use crate::outcome::Rejection;
use crate::outcome::{Entered, Outcome, Segment, Settled, Status};
use crate::transmitter::intake::{Arrival, Delivered};
use crate::transmitter::portion::Portion;
use crate::transmitter::window::Pending;
use crate::transmitter::{Event, Log};

impl Engine {
    pub(super) fn rewind(&mut self) {
        if let Some(oldest) = self.window.iter_mut().find(|pending| pending.sent) {
            let id = oldest.write.id;
            self.resume_from = Some(self.resume_from.map_or(id, |earlier| earlier.min(id)));
        }
        self.window.rewind();
        if let Some(search) = &mut self.search {
            search.rewind();
        }
    }

    pub(super) fn fail_all(&mut self, failed: Vec<Pending>, error: &Error, now: Instant) {
        if failed.is_empty() {
            return;
        }
        for pending in failed {
            self.fail_pending(pending, error, now);
        }
        self.stop_if_asked(error, now);
    }

    /// After something failed for good.
    pub(super) fn stop_if_asked(&mut self, error: &Error, now: Instant) {
        if self.retry.on_exhausted == OnExhausted::Stop && self.stopped.is_none() {
            self.stop(error, now);
        }
    }

    fn fail_pending(&mut self, pending: Pending, error: &Error, now: Instant) {
        let verdict = pending.verdict(error, now);
        let segments = pending.segments;
        drop(pending.write);
        for segment in &segments {
            let settled = self.ledger.fail(segment, &verdict, now);
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
        for pending in self.window.take_all() {
            self.fail_pending(pending, &stopped, now);
        }
        for sequence in self.ledger.sequences() {
            self.batcher.take_back(sequence);
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
            // What was left of the turn, the last first.
            for arrival in arrived.into_iter().rev() {
                self.on_arrival(arrival);
            }
        };
        // What the panic left half-done may not bear being looked at.
        let _ = catch_unwind(AssertUnwindSafe(settle));
        for ticket in self.admission.close() {
            (self.observer)(Event::Granted(ticket));
        }
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
        for segment in unwritten {
            let settled = self.ledger.fail(&segment, &error, now);
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

    /// The deadline of `close` has passed: what was sent may have landed, the rest did not.
    pub(super) fn settle_the_rest(&mut self, now: Instant) {
        self.session = Phase::Closed;
        let maybe_there = |pending: &Pending| pending.sent || pending.maybe_landed;
        let sent: HashSet<u64> = self
            .window
            .take_all()
            .into_iter()
            .filter(maybe_there)
            .flat_map(|pending| pending.segments)
            .map(|segment| segment.sequence)
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
        self.wait_for_the_disk_no_longer();
    }

    /// Settles a delivery that never got as far as the batcher.
    pub(super) fn refuse(&mut self, delivered: &Delivered, error: Error) {
        self.counters.arriving.sub(1);
        let now = now();
        let rows = match &delivered.portions {
            Ok(portions) => portions.iter().map(Portion::rows).sum(),
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
        self.finish(settled);
    }

    /// The end of every delivery.
    pub(super) fn finish(&mut self, settled: Option<Settled>) {
        if let Some(settled) = settled.and_then(|settled| self.waits_for_the_disk(settled)) {
            self.conclude(settled);
        }
    }

    pub(super) fn conclude(&mut self, settled: Settled) {
        let Settled { mut outcome, silent } = settled;
        if let Some(unchanged) = self.witnesses.remove(&outcome.sequence)
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

    pub(super) fn publish(&self) {
        self.counters.window.set(self.window.len());
        self.counters.strikes.set(self.pace.strikes() as usize);
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

/// Splits rejections of a write among its segments, rows counted within each delivery. The segments
/// begin after `done_rows`, which were settled before.
pub(super) fn by_segment(
    segments: &[Segment],
    done_rows: usize,
    mut rejections: Vec<Rejection>,
) -> Vec<(Segment, Vec<Rejection>)> {
    let mut start = done_rows as u64;
    // What was acknowledged cannot be refused any more.
    rejections.retain(|rejection| rejection.row >= start);
    rejections.sort_by_key(|rejection| rejection.row);
    rejections.dedup_by_key(|rejection| rejection.row);
    let mut rejections = rejections.into_iter().peekable();
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
