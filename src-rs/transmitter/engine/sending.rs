//! What the engine does with a session: open, fill, flush, drain.
//!
//! Invariants:
//! - The window is filled only with rows that fit the session, which is drained before another
//!   schema gets its own.
//! - Nobody waits for a flush that nobody asked for: whatever makes callers wait ends in one.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;

use super::{CLOSE_GRACE, Engine, Phase};
use crate::destination::Opening;
use crate::transmitter::session::{SessionCall, SessionHandle};

impl Engine {
    /// Takes drafts until `limit` writes are in the window.
    pub(super) fn fill_window(&mut self, now: Instant, limit: usize) {
        while self.window.len() < limit {
            if self.awaits_another_session() {
                return;
            }
            let current = self.schema.clone();
            let force = self.is_forced();
            match self.batcher.next(now, force, current.as_ref()) {
                None => return,
                Some(Ok(draft)) => {
                    self.window.push(draft);
                }
                Some(Err((ranges, error))) => {
                    for range in ranges {
                        let settled = self.ledger.fail(&range, &error, now);
                        self.finish(settled);
                    }
                }
            }
        }
    }

    /// Whether the next rows have another schema than the session: that is drained first.
    pub(super) fn awaits_another_session(&self) -> bool {
        let Some(current) = &self.schema else {
            return false;
        };
        let next = self.batcher.next_schema(Some(current));
        next.is_some_and(|next| !Arc::ptr_eq(&next, current))
    }

    /// Whether rows should not wait for company: somebody waits for them, or for their bytes.
    pub(super) fn is_forced(&self) -> bool {
        let Some(head) = self.batcher.head() else {
            return false;
        };
        // The last barrier is the largest.
        head <= self.urgency.through()
            || self.flushes.back().is_some_and(|flush| head <= flush.barrier)
            || self.closing.is_some()
            || self.is_stalled()
    }

    /// Callers wait for bytes that only acknowledgements free, and nothing else is on its way.
    pub(super) fn is_stalled(&self) -> bool {
        self.admission.is_stalled() && self.counters.arriving.get() == 0
    }

    pub(super) fn open(&mut self, schema: SchemaRef) {
        self.session_number += 1;
        self.flushed_through = 0;
        self.given = false;
        self.schema = Some(schema.clone());
        let producer = self.producer;
        let resume_from = self.resume_from;
        let handle = SessionHandle::start(
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
        self.session = Phase::Opening(handle);
    }

    pub(super) fn send_unsent(&mut self) {
        let Phase::Open(handle) = &self.session else {
            return;
        };
        while let Some(write) = self.window.queue_next(u64::MAX) {
            handle.call(SessionCall::Write(write));
        }
    }

    pub(super) fn drain_for_another_schema(&mut self) {
        if !self.awaits_another_session() {
            return;
        }
        match self.window.last_id() {
            None => self.drain(),
            Some(last) => self.flush_session(last),
        }
    }

    pub(super) fn flush_if_asked(&mut self) {
        let (Some(front), Some(last)) = (self.window.front(), self.window.last_id()) else {
            return;
        };
        let hurried = self.urgency.commit_through();
        let first = front.slices().first().map(|slice| slice.range.sequence);
        // Looked for only where there is one.
        let hurried = hurried.filter(|through| first.is_some_and(|first| first <= *through));
        let front = front.id();
        if !self.batcher.is_empty() && self.window.len() >= self.max_writes {
            return self.flush_session(front);
        }
        if self.is_forced() {
            // More is about to be written that the same flush is wanted for.
            return;
        }
        let barrier = self.flushes.back().map(|flush| flush.barrier);
        let barrier = barrier.max(hurried);
        let wanted = barrier.and_then(|barrier| self.window.last_id_up_to(barrier));
        let stalled = (self.batcher.is_empty() && self.is_stalled()).then_some(front);
        let closing = self.closing.as_ref().is_some_and(|closing| closing.arrived);
        let closing = closing.then_some(last);
        if let Some(through) = [wanted, stalled, closing].into_iter().flatten().max() {
            self.flush_session(through);
        }
    }

    /// Asks the session for a flush that covers `through`, unless one that does is under way: a flush
    /// for every write that comes while another runs would commit each of them alone.
    fn flush_session(&mut self, through: u64) {
        let (Phase::Open(handle), Some(last)) = (&self.session, self.window.last_id()) else {
            return;
        };
        if self.flushed_through < through {
            self.flushed_through = last;
            handle.call(SessionCall::Flush);
        }
    }

    fn drain(&mut self) {
        if let Phase::Open(handle) = std::mem::replace(&mut self.session, Phase::Closed) {
            handle.call(SessionCall::Close);
            self.session = Phase::Draining(handle);
        }
    }

    pub(super) fn close_session_at_the_end(&mut self, now: Instant) {
        let Some(closing) = &mut self.closing else { return };
        if !closing.arrived || !self.ledger.is_empty() || !self.unsynced.is_empty() {
            return;
        }
        // All rows are settled: what is left is a courtesy and gets no long wait.
        closing.deadline = closing.deadline.min(now + CLOSE_GRACE);
        match self.session {
            Phase::Open(_) => self.drain(),
            Phase::Opening(_) => self.session = Phase::Closed,
            Phase::Closed | Phase::Waiting(_) | Phase::Asking(_) | Phase::Draining(_) => {}
        }
    }
}
