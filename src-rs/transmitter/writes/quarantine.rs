//! Looking for the rows that a destination refuses without naming them.
//!
//! Invariants:
//! - Only refusals that left nothing behind are searched: anywhere else a probe could write rows twice.
//! - While a search is on, nothing beyond the probe is sent, so rows still reach the destination in order.
//!
//! It does not decide where to cut: `search` does.

use std::time::Instant;

use super::Writes;
use super::refusals::{refused_alone, undecided};
use super::search::{Search, SearchStep, SearchedWrite, Verdict};
use super::window::{Window, WindowWrite};
use crate::error::Error;
use crate::transmitter::rows::{FailedRanges, RefusedRanges};

/// What comes of looking for rows at fault.
pub enum Searched {
    /// Nothing yet.
    Narrowed,
    /// The one row of each of these writes was refused.
    Rows(Vec<RefusedRanges>),
    /// A bound is spent: these rows end undecided.
    Undecided(Vec<FailedRanges>),
}

/// What the session is to be given while a search is on.
pub enum Probe {
    /// Nothing: a probe is under way.
    UnderWay,
    /// The writes up to this one, and a flush.
    Through(u64),
    /// No search is on.
    Over,
}

impl Writes {
    pub fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Whether the rows behind a refusal can be looked for: up to this write, the last that the session was
    /// given.
    pub fn searchable(&self, error: &Error) -> Option<u64> {
        let can_search = self.quarantine.is_some()
            && error.is_of_the_data()
            && !error.is_ambiguous()
            // Where the row is named there is nothing to look for.
            && error.row().is_none();
        self.window.last_sent().filter(|_| can_search)
    }

    /// Begins or goes on with a search for what was refused of the writes through `sent`, the last that the
    /// session was given. It is rewound.
    pub fn look_for_rows(&mut self, sent: u64, error: &Error, now: Instant) -> Searched {
        let Some(quarantine) = &self.quarantine else {
            return Searched::Narrowed;
        };
        self.window.tidy();
        let search = self
            .search
            .get_or_insert_with(|| Search::new(sent, quarantine.max_attempts, now + quarantine.deadline));
        match search.refused(sent, searched_writes(&self.window), now) {
            Verdict::Narrow => Searched::Narrowed,
            Verdict::Row => {
                let refused = self.window.through(sent).into_iter();
                Searched::Rows(refused.filter_map(|entry| refused_alone(entry, error)).collect())
            }
            Verdict::OutOfTime { through } => {
                let writes = self.window.through(through);
                Searched::Undecided(undecided(writes, "quarantine.deadline", error, now))
            }
            Verdict::OutOfAttempts { sequence, through } => {
                let writes = self.window.take_delivery(sequence, through);
                Searched::Undecided(undecided(writes, "quarantine.maxAttempts", error, now))
            }
        }
    }

    /// What to send next for the search, once the probe before it is settled.
    pub fn next_probe(&mut self) -> Probe {
        let Some(search) = &mut self.search else {
            return Probe::Over;
        };
        let front = self.window.front().map(WindowWrite::id);
        let under_way = |probe| front.is_some_and(|front| front <= probe);
        if search.probe().is_some_and(under_way) {
            return Probe::UnderWay;
        }
        self.window.tidy();
        loop {
            match search.next(searched_writes(&self.window)) {
                SearchStep::Done => {
                    self.search = None;
                    return Probe::Over;
                }
                SearchStep::Cut { id, rows } => self.window.cut(id, rows),
                SearchStep::Probe { through } => return Probe::Through(through),
            }
        }
    }
}

fn searched_writes(window: &Window) -> impl Iterator<Item = SearchedWrite<'_>> {
    window.iter().map(|entry| (entry.id(), entry.slices()))
}
