//! Unsettled deliveries, from their arrival to their outcome.
//!
//! Invariants:
//! - Every delivery that arrives is settled exactly once, through `finish`. That frees the budget, after the
//!   memory that it stood for is gone.
//! - Which deliveries are unsettled stands in the ledger alone.
//! - The outcome of a delivery with refused rows is told once these rows are on the disk, or never will be.
//! - A flush is answered when every delivery before it is settled and its outcome is told.
//!
//! It knows no write, no session and no destination: the engine says what became of rows, range by range.

mod refused;

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::refused::RefusedOnDisk;
use super::admission::Admission;
use super::batch_slice::BatchSlice;
use super::intake::ImportedDelivery;
use super::rows::{EndedRange, FailedRanges, RangeEnd, RefusedRanges};
use super::{Event, Observer, PayloadDigest, Reply, Settlements, count};
use crate::counters::Counters;
use crate::dead_letter::DeadLetters;
use crate::error::{Code, Error};
use crate::outcome::{Ledger, Outcome, Position, Rejection, RowRange, SettledDelivery, Status};

pub struct Deliveries {
    ledger: Ledger,
    refused: RefusedOnDisk,
    /// Checks that the development option asks for, by sequence of unsettled deliveries.
    payload_digests: HashMap<u64, PayloadDigest>,
    /// Aborted before they arrived.
    aborted: HashSet<u64>,
    last_arrived: u64,
    /// Why deliveries are refused that arrive from now on.
    stopped: Option<Error>,
    flushes: VecDeque<Flush>,
    /// Rows come from a log that keeps them, and that hears what becomes of them.
    log: Option<Arc<dyn Settlements>>,
    /// Ends of rows that the log was told of and has not recorded.
    unrecorded: usize,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    observer: Observer,
}

/// A promise that everything up to `barrier` is settled.
struct Flush {
    barrier: u64,
    reply: Reply,
}

impl Deliveries {
    pub fn new(
        dead_letters: Option<DeadLetters>,
        log: Option<Arc<dyn Settlements>>,
        admission: Arc<Admission>,
        counters: Arc<Counters>,
        observer: Observer,
    ) -> Deliveries {
        Deliveries {
            ledger: Ledger::default(),
            refused: RefusedOnDisk::new(dead_letters),
            payload_digests: HashMap::new(),
            aborted: HashSet::new(),
            last_arrived: 0,
            stopped: None,
            flushes: VecDeque::new(),
            log,
            unrecorded: 0,
            admission,
            counters,
            observer,
        }
    }

    // ---- what arrives ---------------------------------------------------------------------------

    /// Takes a delivery in. Returns its sequence and its rows, unless it is settled already.
    pub fn enter(&mut self, delivery: ImportedDelivery, now: Instant) -> Option<(u64, Vec<BatchSlice>)> {
        let ImportedDelivery {
            entry,
            payload_digest,
            slices,
            captured: _,
        } = delivery;
        let (sequence, rows) = (entry.sequence, entry.rows);
        self.last_arrived = sequence;
        self.counters.arriving.sub(1);
        let refusal = match self.aborted.remove(&sequence) {
            true => Some(aborted()),
            false => self.stopped.clone(),
        };
        let slices = match (refusal, slices) {
            (None, Ok(slices)) => slices,
            (Some(error), slices) => {
                // The memory goes before the budget that stood for it.
                drop(slices);
                self.ledger.enter(entry);
                match self.log.is_some() && self.stopped.is_some() {
                    true => self.leave(sequence, now),
                    false => {
                        let range = RowRange {
                            sequence,
                            first_row: 0,
                            rows,
                        };
                        self.tell_log(&range, RangeEnd::Aborted);
                        self.fail_rest(sequence, &error, now);
                    }
                }
                return None;
            }
            (None, Err(error)) => {
                self.ledger.enter(entry);
                self.fail_rest(sequence, &error, now);
                return None;
            }
        };
        // What comes from a log was counted when it went there.
        if self.log.is_none() {
            self.counters.rows_admitted.add(rows);
            self.counters.buffers_realigned.add(entry.buffers_realigned);
            self.counters
                .buffers_copied_for_pin_limit
                .add(entry.buffers_copied_for_pin_limit);
        }
        self.ledger.enter(entry);
        if let Some(payload_digest) = payload_digest {
            self.payload_digests.insert(sequence, payload_digest);
        }
        if rows > 0 {
            return Some((sequence, slices));
        }
        // Nothing to send, so nothing can happen to it.
        let nothing = RowRange {
            sequence,
            first_row: 0,
            rows: 0,
        };
        self.accept(&nothing, Position::None, now);
        None
    }

    pub fn last_arrived(&self) -> u64 {
        self.last_arrived
    }

    /// Refuses what arrives from now on.
    pub fn stop(&mut self, error: Error) {
        self.stopped = Some(error);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    // ---- what becomes of rows -------------------------------------------------------------------

    /// The destination is about to be given these rows, in the `attempt`-th try.
    pub fn sent<'a>(
        &mut self,
        ranges: impl Iterator<Item = &'a RowRange>,
        attempt: u32,
        anew: bool,
        now: Instant,
    ) {
        for range in ranges {
            self.ledger.sent(range, attempt, anew, now);
        }
    }

    pub fn encoded<'a>(&mut self, ranges: impl Iterator<Item = &'a RowRange>, took: Duration) {
        for range in ranges {
            self.ledger.encoded(range, took);
        }
    }

    pub fn accept(&mut self, range: &RowRange, position: Position, now: Instant) {
        if let Some(log) = &self.log {
            log.accepted(range);
        }
        let settled = self.ledger.accept(range, position, now);
        self.finish(settled);
    }

    pub fn refuse(&mut self, refused: RefusedRanges, position: Position, now: Instant) {
        let RefusedRanges { write, ranges } = refused;
        for range in &ranges {
            self.refused.keep(&write, range);
        }
        // The memory goes before the budget that stood for it.
        drop(write);
        for refused in ranges {
            if let Some(log) = &self.log {
                for range in rows_between(&refused.range, &refused.rejections) {
                    log.accepted(&range);
                }
            }
            if !refused.rejections.is_empty() {
                let end = RangeEnd::Refused {
                    rejections: refused.rejections.clone(),
                    whole: self.ledger.rows(refused.range.sequence) == Some(refused.rejections.len()),
                };
                self.tell_log(&refused.range, end);
            }
            let settled = self
                .ledger
                .refuse(&refused.range, refused.rejections, position, now);
            self.finish(settled);
        }
    }

    pub fn fail(&mut self, failed: &FailedRanges, now: Instant) {
        for range in &failed.ranges {
            let end = match failed.error.code() {
                Code::Aborted => RangeEnd::Aborted,
                _ => RangeEnd::Failed(failed.error.clone()),
            };
            self.tell_log(range, end);
            let settled = self.ledger.fail(range, &failed.error, now);
            self.finish(settled);
        }
    }

    fn tell_log(&mut self, range: &RowRange, end: RangeEnd) {
        let Some(log) = self.log.as_ref().filter(|_| range.rows > 0) else {
            return;
        };
        self.unrecorded += 1;
        log.ended(EndedRange { range: *range, end });
    }

    /// Something that the engine never had has ended, and the log will record it.
    pub fn ended_elsewhere(&mut self) {
        self.unrecorded += 1;
    }

    /// The log has recorded so many ends.
    pub fn recorded(&mut self, ends: usize) {
        self.unrecorded = self.unrecorded.saturating_sub(ends);
    }

    /// Ends of rows that the log has not recorded.
    pub fn unrecorded(&self) -> usize {
        self.unrecorded
    }

    /// Settles all that is unsettled: each delivery with the error that `error_of` has for its sequence. What a log
    /// keeps stays there.
    pub fn fail_all<'a>(&mut self, now: Instant, error_of: impl Fn(u64) -> &'a Error) {
        for sequence in self.ledger.sequences() {
            match self.log {
                Some(_) => self.leave(sequence, now),
                None => self.fail_rest(sequence, error_of(sequence), now),
            }
        }
    }

    fn leave(&mut self, sequence: u64, now: Instant) {
        let settled = self.ledger.leave(sequence, now);
        self.finish(settled);
    }

    fn fail_rest(&mut self, sequence: u64, error: &Error, now: Instant) {
        let settled = self.ledger.fail_rest(sequence, error, now);
        self.finish(settled);
    }

    // ---- whose caller gives up ------------------------------------------------------------------

    /// The caller waits no longer. Returns whether rows of the delivery may still be taken back; one that
    /// has not arrived is refused when it does.
    pub fn abort(&mut self, sequence: u64) -> bool {
        if self.ledger.contains(sequence) {
            return true;
        }
        if sequence > self.last_arrived {
            self.aborted.insert(sequence);
        }
        false
    }

    /// Settles rows of an aborted delivery that were taken back. Where others were written, their outcome is
    /// open: the caller is told so, and the delivery goes on.
    pub fn end_aborted(&mut self, sequence: u64, taken_back: Vec<RowRange>, now: Instant) {
        let failed = FailedRanges {
            ranges: taken_back,
            error: aborted(),
        };
        self.fail(&failed, now);
        if let Some(outcome) = self.ledger.give_up_waiting(sequence, &failed.error, now) {
            match &self.log {
                Some(log) => log.given_up(outcome),
                None => self.tell(outcome),
            }
        }
    }

    // ---- what is unsettled ----------------------------------------------------------------------

    /// Whether everything is settled and told.
    pub fn is_empty(&self) -> bool {
        self.ledger.is_empty() && self.refused.is_empty()
    }

    /// Whether everything is settled, though perhaps not told.
    pub fn all_settled(&self) -> bool {
        self.ledger.is_empty()
    }

    pub fn sequences(&self) -> Vec<u64> {
        self.ledger.sequences()
    }

    pub fn admitted(&self, sequence: u64) -> Option<Instant> {
        self.ledger.admitted(sequence)
    }

    pub fn oldest_admitted(&self) -> Option<Instant> {
        self.ledger.oldest_admitted()
    }

    /// The unsettled deliveries that were let in before `limit`, the oldest first.
    pub fn admitted_before(&self, limit: Instant) -> Vec<u64> {
        self.ledger.admitted_before(limit)
    }

    /// Callers wait for bytes that only acknowledgements free, and nothing else is on its way.
    pub fn callers_are_stalled(&self) -> bool {
        self.admission.is_stalled() && self.counters.arriving.get() == 0
    }

    // ---- flushes --------------------------------------------------------------------------------

    /// Answers once everything that arrived before is settled.
    pub fn flush(&mut self, reply: Reply) {
        self.flushes.push_back(Flush {
            barrier: self.last_arrived,
            reply,
        });
    }

    /// A flush waits for everything up to this delivery.
    pub fn flush_barrier(&self) -> Option<u64> {
        // The last barrier is the largest.
        self.flushes.back().map(|flush| flush.barrier)
    }

    pub fn answer_flushes(&mut self) {
        let untold = self.refused.oldest();
        let oldest = self.ledger.oldest().into_iter().chain(untold).min();
        while let Some(flush) = self
            .flushes
            .pop_front_if(|flush| oldest.is_none_or(|oldest| flush.barrier < oldest))
        {
            flush.reply.answer(Ok(()));
        }
    }

    // ---- the disk -------------------------------------------------------------------------------

    /// The next delivery of which the refused rows are on the disk, or never will be.
    pub async fn next_kept(&mut self) -> Option<u64> {
        self.refused.next_kept().await
    }

    pub fn kept(&mut self, sequence: u64) {
        if let Some(settled) = self.refused.take(sequence) {
            self.conclude(settled);
        }
    }

    /// Keeps rows that are in no delivery, and answers when the disk has them or never will.
    pub fn keep_refused(&self, sequence: u64, rows: String, reply: Reply) {
        self.refused.keep_alone(sequence, rows, reply);
    }

    /// The deadline has passed: reports the outcomes that wait for refused rows to be on the disk.
    pub fn wait_for_the_disk_no_longer(&mut self) {
        for settled in self.refused.take_all() {
            self.conclude(settled);
        }
    }

    /// Every file of refused rows gets its final name, if the disk is fast enough.
    pub async fn close_dead_letters(&mut self, patience: Duration) {
        self.refused.close(patience).await;
    }

    // ---- the end --------------------------------------------------------------------------------

    /// A step panicked: every caller is told, as far as the ledger can still be read.
    pub fn settle_after_panic(&mut self, in_doubt: &Error, now: Instant) {
        // Dropped, they say that the client is closed.
        self.flushes.clear();
        let settle = || self.fail_all(now, |_| in_doubt);
        // A ledger that the panic left half-changed may panic again when it is read.
        let _ = catch_unwind(AssertUnwindSafe(settle));
    }

    /// Admits nothing more. The holder of each ticket is told that it was granted, redeems it and gets `CLOSED`.
    pub fn close_admission(&self) {
        for ticket in self.admission.close() {
            (self.observer)(Event::Granted(ticket));
        }
    }

    /// The end of every delivery.
    fn finish(&mut self, settled: Option<SettledDelivery>) {
        if let Some(settled) = settled.and_then(|settled| self.refused.hold(settled)) {
            self.conclude(settled);
        }
    }

    fn conclude(&mut self, settled: SettledDelivery) {
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
            // A mixture of old and new bytes was sent, and it cannot be told which.
            if outcome.status != Status::Failed {
                outcome.status = Status::Unknown;
            }
        }
        match &self.log {
            Some(log) => log.settled(outcome, silent),
            None => {
                self.counters.unsettled.sub(1);
                if !silent {
                    self.tell(outcome);
                }
            }
        }
        for ticket in self.admission.release(charge) {
            (self.observer)(Event::Granted(ticket));
        }
    }

    fn tell(&mut self, outcome: Outcome) {
        count(&self.counters, &outcome);
        (self.observer)(Event::Settled(Box::new(outcome)));
    }
}

/// Runs of rows of a range that no rejection names.
fn rows_between(range: &RowRange, rejections: &[Rejection]) -> Vec<RowRange> {
    let end = range.first_row + range.rows;
    let mut first = range.first_row;
    let mut runs = Vec::new();
    let named = rejections.iter().map(|rejection| rejection.row as usize);
    for row in named.chain([end]) {
        if row > first {
            runs.push(RowRange {
                first_row: first,
                rows: row - first,
                ..*range
            });
        }
        first = first.max(row + 1);
    }
    runs
}

fn aborted() -> Error {
    Error::new(Code::Aborted, "the send was aborted").during("send")
}

#[cfg(test)]
#[path = "../../tests/rs/transmitter/parts/deliveries.rs"]
mod tests;
