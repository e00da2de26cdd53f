//! What the engine does when rows of a write are at fault: it looks for them, and refuses them alone.
//!
//! Invariants:
//! - Only refusals that left nothing behind are searched: anywhere else a probe could write rows twice.
//! - While a search is on, the window is not filled and nothing beyond the probe is sent, so rows reach
//!   the destination in order all the same.
//! - A refused probe is an answer, not a failed try: it uses up nothing of `retry`.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::oneshot;

use super::{CLOSE_GRACE, Engine, Phase, now};
use crate::dead_letter::Letter;
use crate::destination::Write;
use crate::error::Error;
use crate::outcome::{Position, Rejection, RowRange, SettledDelivery};
use crate::transmitter::search::{Search, SearchStep, SearchedWrite, Verdict};
use crate::transmitter::session::{Operation, SessionCall, SessionEvent, SessionEventKind};
use crate::transmitter::window::{FailedRanges, Window, WindowWrite, pick, runs};

impl Engine {
    /// Whether the rows behind a refusal can be looked for.
    fn is_searchable(&self, error: &Error, operation: Operation) -> bool {
        self.quarantine.enabled
            && self.destination.capabilities().refusals_are_atomic
            && error.is_of_the_data()
            && !error.is_ambiguous()
            // Where the row is named there is nothing to look for.
            && error.row().is_none()
            && operation != Operation::Open
    }

    /// Begins or goes on with a search, if this error calls for one. The session is gone.
    pub(super) fn look_for_rows(&mut self, error: &Error, operation: Operation, now: Instant) -> bool {
        let Some(given) = self.window.last_sent() else {
            return false;
        };
        if !self.is_searchable(error, operation) {
            return false;
        }
        self.window.refund_tries();
        self.rewind(error.is_ambiguous());
        self.window.tidy();
        self.counters.writes_refused.add(1);
        let options = &self.quarantine;
        if self.search.is_none() {
            let text = "the destination refused rows that it does not name: looking for them";
            self.log("warn", text, error, std::time::Duration::ZERO);
        }
        let search = self
            .search
            .get_or_insert_with(|| Search::new(given, options.max_attempts, now + options.deadline));
        match search.refused(given, searched_writes(&self.window), now) {
            Verdict::Narrow => {}
            Verdict::Row => {
                for entry in self.window.through(given) {
                    self.refuse_row(entry, error, now);
                }
            }
            Verdict::OutOfTime { through } => {
                let undecided = self.window.through(through);
                self.give_up(undecided, "quarantine.deadline", error, now);
            }
            Verdict::OutOfAttempts { sequence, through } => {
                let undecided = self.window.take_delivery(sequence, through);
                self.give_up(undecided, "quarantine.maxAttempts", error, now);
            }
        }
        true
    }

    /// Sends the next probe once the one before it is settled. Returns whether a search is on.
    pub(super) fn probe(&mut self) -> bool {
        let (Some(search), Phase::Open(handle)) = (&mut self.search, &self.session) else {
            return self.search.is_some();
        };
        let front = self.window.front().map(WindowWrite::id);
        if search
            .probe()
            .is_some_and(|probe| front.is_some_and(|front| front <= probe))
        {
            return true;
        }
        self.window.tidy();
        loop {
            match search.next(searched_writes(&self.window)) {
                SearchStep::Done => {
                    self.search = None;
                    return false;
                }
                SearchStep::Cut { id, rows } => self.window.cut(id, rows),
                SearchStep::Probe { through } => {
                    while let Some(write) = self.window.queue_next(through) {
                        handle.call(SessionCall::Write(write));
                    }
                    handle.call(SessionCall::Flush);
                    return true;
                }
            }
        }
    }

    /// Puts refused rows of a delivery aside, if that was asked for. Its first row here is row `start` of
    /// the write; the rejections count rows of the delivery, in order.
    pub(super) fn keep_refused(
        &self,
        write: &Write,
        range: &RowRange,
        start: usize,
        rejections: &[Rejection],
    ) {
        let (Some(dead_letters), Some(first)) = (&self.dead_letters, write.batches.first()) else {
            return;
        };
        if rejections.is_empty() {
            return;
        }
        let rows = rejections.iter().map(|rejection| {
            let row = start + rejection.row as usize - range.first_row;
            row..row + 1
        });
        dead_letters.keep(Letter {
            schema: first.schema(),
            batches: pick(&write.batches, runs(rows)),
            sequence: range.sequence,
            rejections: rejections.to_vec(),
        });
    }

    /// Whether the outcome has to wait until its refused rows are on the disk; it is told then.
    pub(super) fn waits_for_the_disk(&mut self, settled: SettledDelivery) -> Option<SettledDelivery> {
        let Some(dead_letters) = self
            .dead_letters
            .as_ref()
            .filter(|_| !settled.outcome.rejections.is_empty())
        else {
            return Some(settled);
        };
        let sequence = settled.outcome.sequence;
        self.unsynced.insert(sequence, settled);
        let events = self.events.clone();
        dead_letters.sync(move || {
            let kind = SessionEventKind::DeadLettersSynced { sequence };
            let _ = events.send(SessionEvent { session: 0, kind });
        });
        None
    }

    pub(super) fn on_dead_letters_synced(&mut self, sequence: u64) {
        if let Some(settled) = self.unsynced.remove(&sequence) {
            self.conclude(settled);
        }
    }

    /// The time is up: outcomes are told, whatever the disk does.
    pub(super) fn wait_for_the_disk_no_longer(&mut self) {
        for (_, settled) in std::mem::take(&mut self.unsynced) {
            self.conclude(settled);
        }
    }

    /// Every file gets its final name, if the disk is fast enough for whoever waits for the close.
    pub(super) async fn close_dead_letters(&mut self) {
        let Some(dead_letters) = self.dead_letters.take() else {
            return;
        };
        let (done, closed) = oneshot::channel();
        dead_letters.close(move || {
            let _ = done.send(());
        });
        let patience = self.closing.as_ref().map_or(CLOSE_GRACE, |closing| {
            closing.deadline.saturating_duration_since(now())
        });
        let _ = tokio::time::timeout(patience.min(CLOSE_GRACE), closed).await;
    }

    /// One row, refused alone.
    fn refuse_row(&mut self, entry: WindowWrite, error: &Error, now: Instant) {
        let Some(range) = entry.ranges().next().copied() else {
            return;
        };
        let rejection = Rejection {
            row: range.first_row as u64,
            code: error.refusal().to_string(),
            message: error.message().to_string(),
        };
        self.keep_refused(&entry.write, &range, 0, std::slice::from_ref(&rejection));
        drop(entry);
        let settled = self.ledger.refuse(&range, vec![rejection], Position::None, now);
        self.finish(settled);
    }

    /// What is left undecided fails with the refusal, and says which rows.
    fn give_up(&mut self, undecided: Vec<WindowWrite>, bound: &str, error: &Error, now: Instant) {
        let mut bounds: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for range in undecided.iter().flat_map(WindowWrite::ranges) {
            let (first, end) = (range.first_row, range.first_row + range.rows);
            let bounds = bounds.entry(range.sequence).or_insert((first, end));
            *bounds = (bounds.0.min(first), bounds.1.max(end));
        }
        for entry in undecided {
            let FailedRanges {
                ranges,
                error: verdict,
            } = entry.ending(error, now);
            for range in &ranges {
                let (first, end) = bounds[&range.sequence];
                let text = format!(
                    "some of the rows {first} to {} are at fault, and {bound} is spent: {}",
                    end - 1,
                    verdict.message()
                );
                let verdict = verdict.clone().with_message(text).at_row(first as u64);
                let settled = self.ledger.fail(range, &verdict, now);
                self.finish(settled);
            }
        }
        self.stop_if_asked(error, now);
    }
}

fn searched_writes(window: &Window) -> impl Iterator<Item = SearchedWrite<'_>> {
    window.iter().map(|entry| (entry.id(), entry.slices()))
}
