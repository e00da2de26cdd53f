//! How the engine ends: at a close, at its deadline, or after a panic.
//!
//! Invariants:
//! - Rows that are unsettled at the deadline end as unknown where a session may hold them, else as failed.
//! - A close is answered when nothing is left, whatever the disk or the destination does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use super::Engine;
use crate::error::{Code, Error};
use crate::transmitter::Reply;
use crate::transmitter::clock::{LONGEST, now};
use crate::transmitter::intake::Arrival;

/// How long a session that has nothing left to deliver may take to close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

pub struct Closing {
    deadline: Instant,
    /// The queue of deliveries has come to its end.
    arrived: bool,
    replies: Vec<Reply>,
}

impl Closing {
    /// The command to close has come, which is behind all deliveries.
    pub fn arrived(&mut self, reply: Reply) {
        self.arrived = true;
        self.replies.push(reply);
    }

    pub fn has_arrived(&self) -> bool {
        self.arrived
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Engine {
    pub(super) fn close_by(&mut self, deadline: Duration) -> &mut Closing {
        let by = now() + deadline.min(LONGEST);
        let closing = self.closing.get_or_insert(Closing {
            deadline: by,
            arrived: false,
            replies: Vec::new(),
        });
        closing.deadline = closing.deadline.min(by);
        closing
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let closing = self.closing.as_ref();
        closing.is_some_and(|closing| closing.deadline <= now)
    }

    /// Whether the deadline of a close passes before `moment`.
    pub(super) fn is_overdue_before(&self, moment: Instant) -> bool {
        let closing = self.closing.as_ref();
        closing.is_some_and(|closing| moment > closing.deadline)
    }

    pub(super) fn is_finished(&self) -> bool {
        let Some(closing) = &self.closing else {
            return false;
        };
        closing.arrived && self.deliveries.is_empty() && self.sessions.is_absent()
            // Past the deadline nobody waits any longer for what is still being imported.
            || closing.deadline <= now() && self.deliveries.all_settled()
    }

    /// Closes the session once nothing is left for it.
    pub(super) fn finish_session(&mut self, now: Instant) {
        let Some(closing) = &mut self.closing else { return };
        if !closing.arrived || !self.deliveries.is_empty() {
            return;
        }
        // All rows are settled: closing the session loses nothing if it is cut short, so the wait is short.
        closing.deadline = closing.deadline.min(now + CLOSE_GRACE);
        self.sessions.finish();
    }

    /// The deadline of `close` has passed: rows that were sent may have landed, the others did not. The error
    /// says what kept them until then.
    pub(super) fn settle_the_rest(&mut self, now: Instant) {
        let late = deadline_passed().with_causes(self.sessions.why_unavailable());
        self.sessions.abandon();
        // The memory goes before the budget that stood for it.
        let ends = self.writes.end(&late, now);
        self.deliveries
            .fail_all(now, |sequence| ends.get(&sequence).unwrap_or(&late));
        self.deliveries.wait_for_the_disk_no_longer();
    }

    /// A step panicked, which is a bug of ours: every caller gets an outcome, as far as the ledger can be read.
    pub(super) fn settle_after_panic(&mut self, arrived: Vec<Arrival>) {
        let text = "the transmitter panicked; please report this";
        let error = Error::new(Code::Internal, text).during("write");
        // All rows are in doubt: nobody knows how far the step got.
        let in_doubt = error.clone().ambiguous();
        self.deliveries.stop(error);
        self.sessions.abandon();
        self.deliveries.settle_after_panic(&in_doubt, now());
        // What was left of the turn, the last first.
        for arrival in arrived.into_iter().rev() {
            self.on_late_arrival(arrival);
        }
        self.deliveries.close_admission();
    }

    /// Refuses an arrival after the end. Each is refused alone: one that panics must not take others with it.
    fn on_late_arrival(&mut self, arrival: Arrival) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.on_arrival(arrival)));
    }

    /// Refuses what still arrives, then closes the files and answers whoever waits for the end.
    pub(super) async fn wind_up(mut self, mut arrivals: Receiver<Vec<Arrival>>) {
        if !self.deliveries.is_stopped() {
            self.deliveries.stop(deadline_passed());
        }
        while let Some(group) = arrivals.recv().await {
            for arrival in group {
                self.on_late_arrival(arrival);
            }
        }
        let patience = self.closing.as_ref().map_or(CLOSE_GRACE, |closing| {
            closing.deadline.saturating_duration_since(now())
        });
        self.deliveries
            .close_dead_letters(patience.min(CLOSE_GRACE))
            .await;
        self.deliveries.wait_for_the_disk_no_longer();
        self.deliveries.answer_flushes();
        self.publish();
        if let Some(closing) = self.closing.take() {
            for reply in closing.replies {
                reply.answer(Ok(()));
            }
        }
    }
}

fn deadline_passed() -> Error {
    Error::new(
        Code::DeadlineExceeded,
        "the client was closed before this was settled",
    )
    .during("close")
}
