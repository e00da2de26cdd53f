//! Rows on their way to the destination: batched, kept as writes until they are acknowledged, and searched
//! where the destination refuses some without naming them.
//!
//! Invariants:
//! - Rows leave in the order in which they came.
//! - The window is filled only with rows that fit the session, which is drained before another schema gets
//!   its own.
//! - Where a caller waits for something that only a flush brings, a flush is asked for.
//!
//! It sends nothing and settles nothing. It knows no session: the engine says what became of one, and gives
//! what comes out to the deliveries.

pub(crate) mod batcher;
mod joining;
mod quarantine;
mod refusals;
mod search;
mod urgency;
mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;

use self::batcher::Batcher;
pub use self::quarantine::{Probe, Searched};
use self::refusals::refused_ranges;
use self::search::Search;
use self::urgency::Urgency;
use self::window::Window;
pub use self::window::{SentWrite, WindowWrite, WriteSlice};
use super::batch_slice::BatchSlice;
use super::rows::{EquallyTried, FailedRanges, RefusedRanges};
use crate::config::{BatchingOptions, QuarantineOptions};
use crate::destination::{Capabilities, Write};
use crate::error::Error;
use crate::outcome::{Rejection, RowRange};

pub struct Writes {
    batcher: Batcher,
    urgency: Urgency,
    window: Window,
    max_writes: usize,
    /// How refused rows are looked for, where they are.
    quarantine: Option<QuarantineOptions>,
    /// Under way when a destination refused rows without naming them.
    search: Option<Search>,
}

/// Who waits, outside the writes, for rows to go.
pub struct Demand<'a> {
    /// A flush waits for everything up to this delivery.
    pub flush_barrier: Option<u64>,
    pub closing: bool,
    /// Nothing arrives any more.
    pub arrived: bool,
    /// Whether callers wait for bytes that only acknowledgements free. It takes a lock, so it is asked last.
    pub is_stalled: &'a dyn Fn() -> bool,
}

/// Which writes fail.
pub enum Failing<'a> {
    All,
    /// What the session that is open now was given.
    Sent,
    Ids(&'a [u64]),
    /// Tried as often as they may be.
    Exhausted(u32),
}

impl Writes {
    /// `commit_interval`: as the destination has it. `positioned`: the sequence of a delivery is the position of its
    /// first row in a log.
    pub fn new(
        batching: &BatchingOptions,
        max_writes: usize,
        quarantine: &QuarantineOptions,
        capabilities: Capabilities,
        commit_interval: Option<Duration>,
        positioned: bool,
    ) -> Writes {
        let searches = quarantine.enabled && capabilities.refusals_are_atomic;
        Writes {
            batcher: Batcher::new(batching.clone(), !capabilities.joins),
            urgency: Urgency::new(commit_interval, batching.linger),
            window: Window::new(searches, positioned),
            max_writes,
            quarantine: searches.then(|| quarantine.clone()),
            search: None,
        }
    }

    // ---- rows come in ---------------------------------------------------------------------------

    pub fn push(&mut self, sequence: u64, slices: Vec<BatchSlice>, now: Instant) {
        self.batcher.push(sequence, slices, now);
    }

    /// Somebody waits for what has arrived.
    pub fn hurry(&mut self, now: Instant) {
        self.urgency.asked(now);
    }

    /// To be called before anything else of a turn: what is due by now goes with all that has arrived.
    pub fn expire(&mut self, now: Instant, last_arrived: u64) {
        self.urgency.expire(now, last_arrived);
    }

    /// Puts rows into the window until it is full: those that fit `session`, or one write where there is no
    /// session yet. Returns rows that could not be put together; it is to be called again then.
    pub fn fill(
        &mut self,
        now: Instant,
        session: Option<&SchemaRef>,
        demand: &Demand<'_>,
    ) -> Option<FailedRanges> {
        let limit = if session.is_some() { self.max_writes } else { 1 };
        while self.window.len() < limit && !self.awaits_another_session(session) {
            let force = self.is_forced(demand);
            match self.batcher.next(now, force, session)? {
                Ok(draft) => self.window.push(draft),
                Err(failed) => return Some(failed),
            }
        }
        None
    }

    /// Whether the next rows have another schema than the session, which is drained first.
    pub fn awaits_another_session(&self, session: Option<&SchemaRef>) -> bool {
        let Some(current) = session else {
            return false;
        };
        let next = self.batcher.next_schema(Some(current));
        next.is_some_and(|next| !Arc::ptr_eq(&next, current))
    }

    /// Whether rows go without waiting for others: a caller waits for their outcome, or for their bytes.
    fn is_forced(&self, demand: &Demand<'_>) -> bool {
        let Some(head) = self.batcher.head() else {
            return false;
        };
        head <= self.urgency.through()
            || demand.flush_barrier.is_some_and(|barrier| head <= barrier)
            || demand.closing
            || (demand.is_stalled)()
    }

    // ---- writes go to the session ---------------------------------------------------------------

    /// The next write that no session has, up to the one with the id `through`.
    pub fn next_unsent(&mut self, through: u64) -> Option<Arc<Write>> {
        self.window.queue_next(through)
    }

    /// The session is about to be given this write.
    pub fn sent(&mut self, id: u64, now: Instant) -> Option<SentWrite<'_>> {
        // Counted here and not when it was queued: a session that breaks on one write must not use up the
        // attempts of those behind it.
        self.window.mark_sent(id, now)
    }

    /// The last write that a flush has to cover for those who wait, if one is to be asked for.
    pub fn flush_wanted(&self, demand: &Demand<'_>) -> Option<u64> {
        let (front, last) = (self.window.front()?, self.window.last_id()?);
        let hurried = self.urgency.commit_through();
        let first = front.slices().first().map(|slice| slice.range.sequence);
        // Looked for only where there is one.
        let hurried = hurried.filter(|through| first.is_some_and(|first| first <= *through));
        let front = front.id();
        if !self.batcher.is_empty() && self.window.len() >= self.max_writes {
            return Some(front);
        }
        if self.is_forced(demand) {
            // More is about to be written that the same flush is wanted for.
            return None;
        }
        let barrier = demand.flush_barrier.max(hurried);
        let wanted = barrier.and_then(|barrier| self.window.last_id_up_to(barrier));
        let stalled = (self.batcher.is_empty() && (demand.is_stalled)()).then_some(front);
        let closing = demand.arrived.then_some(last);
        [wanted, stalled, closing].into_iter().flatten().max()
    }

    // ---- what the session says ------------------------------------------------------------------

    /// Something was acknowledged: callers that still wait came too late for that commit.
    pub fn committed(&mut self, now: Instant) {
        self.urgency.committed(now);
    }

    /// Every write up to `id` is durable.
    pub fn through(&mut self, id: u64) -> Vec<WindowWrite> {
        self.window.through(id)
    }

    /// The first `rows` rows of write `id` are durable. Returns the slices that this settles.
    pub fn partly(&mut self, id: u64, rows: usize) -> Vec<WriteSlice> {
        self.window.partly(id, rows)
    }

    /// The first `rows` rows of write `id` are settled: those named were refused, the others are durable.
    pub fn partly_refused(
        &mut self,
        id: u64,
        rows: usize,
        rejections: Vec<Rejection>,
    ) -> Option<RefusedRanges> {
        let entry = self.window.get(id)?;
        let (write, done_rows) = (Arc::clone(&entry.write), entry.done_rows());
        let slices = self.window.partly(id, rows);
        let ranges = refused_ranges(&slices, done_rows, rejections);
        Some(RefusedRanges { write, ranges })
    }

    /// Write `id` is settled: the rows named were refused and nothing else of it was.
    pub fn refused(&mut self, id: u64, rejections: Vec<Rejection>) -> Option<RefusedRanges> {
        let entry = self.window.remove(id)?;
        let (write, done_rows) = (Arc::clone(&entry.write), entry.done_rows());
        let ranges = refused_ranges(&entry.into_slices(), done_rows, rejections);
        Some(RefusedRanges { write, ranges })
    }

    /// Whether the session was given a write up to `through` and has not acknowledged it.
    pub fn is_unacknowledged(&self, through: u64) -> bool {
        let front = self.window.front();
        front.is_some_and(|entry| entry.is_sent() && entry.id() <= through)
    }

    /// The destination has looked: what it does not name is not there.
    pub fn looked_for(&mut self) {
        self.window.looked_for();
    }

    // ---- the session is gone --------------------------------------------------------------------

    /// No session can be had, which counts for all that wait for one.
    pub fn count_try(&mut self, now: Instant) {
        self.window.count_try(now);
    }

    /// Everything is to be sent again. `ambiguous` says that rows may be held which the session was given;
    /// `counts`, that its end was a failure of what it was given. Returns the first write that it may hold.
    pub fn rewind(&mut self, ambiguous: bool, counts: bool) -> Option<u64> {
        if !counts {
            self.window.refund_tries();
        }
        let first = self.window.first_queued_or_sent();
        self.window.rewind(ambiguous);
        if let Some(search) = &mut self.search {
            search.rewind();
        }
        first
    }

    /// Takes the deliveries that hold rows at fault out of write `id`, or all of it where no fault names one.
    pub fn blame(&mut self, id: u64, faults: Vec<Error>, error: &Error, now: Instant) -> Vec<FailedRanges> {
        let blamed = self.window.blame(id, faults, now);
        match blamed.is_empty() {
            true => self.fail(&Failing::Ids(&[id]), error, now),
            false => blamed,
        }
    }

    /// Takes back rows that no write holds yet and that fit a session of this schema.
    pub fn take_fitting(&mut self, schema: &SchemaRef) -> Vec<RowRange> {
        self.batcher.take_fitting(schema)
    }

    /// Takes out writes that end with `error`.
    pub fn fail(&mut self, which: &Failing<'_>, error: &Error, now: Instant) -> Vec<FailedRanges> {
        let failed = match which {
            Failing::All => self.window.take_all(),
            Failing::Sent => self.window.take_sent(),
            Failing::Ids(ids) => ids.iter().filter_map(|id| self.window.remove(*id)).collect(),
            Failing::Exhausted(attempts) => self.window.exhausted(*attempts),
        };
        failed.into_iter().map(|entry| entry.ending(error, now)).collect()
    }

    /// Ends what is left of a delivery. `began` is when its clock did.
    pub fn give_up(
        &mut self,
        sequence: u64,
        error: &Error,
        began: Instant,
        now: Instant,
    ) -> Vec<FailedRanges> {
        let mut failed = self.window.give_up(sequence, error, now);
        let ranges = self.batcher.take_back(sequence);
        if !ranges.is_empty() {
            // Not one of its rows was in any try.
            let elapsed = now.saturating_duration_since(began);
            let error = error.clone().after(0, elapsed).with_ambiguity(false);
            failed.push(FailedRanges { ranges, error });
        }
        failed
    }

    /// Takes the rows of a delivery out of everything that no session holds, now or perhaps.
    pub fn take_back(&mut self, sequence: u64) -> Vec<RowRange> {
        let mut taken = self.batcher.take_back(sequence);
        taken.extend(self.window.take_back(sequence));
        taken
    }

    /// Ends everything. Returns what each delivery ends with of which a write holds rows: as unknown, where
    /// a session may hold them.
    pub fn end(&mut self, error: &Error, now: Instant) -> HashMap<u64, Error> {
        let mut ends: HashMap<u64, Error> = HashMap::new();
        for entry in self.window.take_all() {
            let verdict = match entry.may_be_held() {
                true => entry.verdict(error, now).ambiguous(),
                false => entry.verdict(error, now),
            };
            for range in entry.ranges() {
                let end = ends.entry(range.sequence).or_insert_with(|| verdict.clone());
                if verdict.is_ambiguous() && !end.is_ambiguous() {
                    *end = verdict.clone();
                }
            }
        }
        self.batcher.clear();
        ends
    }

    /// Drops rows that no write holds yet.
    pub fn clear_batches(&mut self) {
        self.batcher.clear();
    }

    /// Writes up to `through`, those together that were tried equally often. `error` ended their session.
    pub fn equally_tried(&self, through: u64, error: &Error, now: Instant) -> Vec<EquallyTried> {
        let tried: Vec<&WindowWrite> = self
            .window
            .iter()
            .take_while(|entry| entry.id() <= through)
            .collect();
        tried
            .chunk_by(|one, next| one.attempts() == next.attempts())
            .map(|equals| EquallyTried {
                ids: equals.iter().map(|entry| entry.id()).collect(),
                error: equals[0].verdict(error, now),
            })
            .collect()
    }

    // ---- what is here ---------------------------------------------------------------------------

    /// Writes that are not acknowledged.
    pub fn len(&self) -> usize {
        self.window.len()
    }

    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    pub fn contains(&self, id: u64) -> bool {
        self.window.contains(id)
    }

    pub fn get(&self, id: u64) -> Option<&WindowWrite> {
        self.window.get(id)
    }

    /// The schema of the oldest write.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.window.front().map(|entry| &entry.schema)
    }

    pub fn last_id(&self) -> Option<u64> {
        self.window.last_id()
    }

    /// Of the oldest write; without one, higher than that of each that there was.
    pub fn front_id(&self) -> u64 {
        let front = self.window.front();
        front.map_or_else(|| self.window.next_id(), WindowWrite::id)
    }

    /// The last write that the session was given.
    pub fn last_sent(&self) -> Option<u64> {
        self.window.last_sent()
    }

    /// When rows have lingered for as long as they may, if they can go then.
    pub fn linger_due(&self, session: Option<&SchemaRef>) -> Option<Instant> {
        // With a full window, or with a session that is to be drained first, being due changes nothing, and
        // waking for it would spin.
        let held = session.is_some()
            && (self.search.is_some()
                || self.window.len() >= self.max_writes
                || self.awaits_another_session(session));
        self.batcher.due().filter(|_| !held)
    }

    /// When rows go because somebody waits for them.
    pub fn hurry_due(&self) -> Option<Instant> {
        self.urgency.due()
    }
}

#[cfg(test)]
#[path = "../../tests/rs/transmitter/parts/writes.rs"]
mod tests;
