//! Folds acknowledgements and rejections into one outcome for each delivery. Pure: no clock, no I/O.
//!
//! Invariants:
//! - The [`Ledger`] is the one place that knows which deliveries are unsettled.
//! - Every row of a delivery is settled exactly once; when the last one is, the delivery's
//!   [`Outcome`] comes out, and it comes out once.
//! - The status is the worst of the parts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Code, Error};
use crate::instant::Instant;

/// The outcome of one delivery.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub sequence: u64,
    pub status: Status,
    pub rows: usize,
    pub accepted_rows: usize,
    pub rejections: Vec<Rejection>,
    pub attempts: u32,
    pub retries: u32,
    /// How many writes carried its rows.
    pub writes: u32,
    pub bytes: usize,
    pub buffers_copied_for_pin_limit: usize,
    pub buffers_realigned: usize,
    pub payload_changed: bool,
    pub position: Position,
    pub timings: Timings,
    pub error: Option<Error>,
}

/// From good to bad, so that the worst of two is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Acknowledged,
    /// Left in the spool: a later client on it goes on. Some of its rows may have landed.
    Spooled,
    Partial,
    Failed,
    /// Possibly persisted.
    Unknown,
}

/// Where the time of a delivery went. What overlaps (several writes) is counted from the first
/// start to the last end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// On the JavaScript thread.
    pub handoff: Duration,
    /// From admission to the first hand-over to the destination.
    pub queue: Duration,
    /// Inside the destination's `write`.
    pub encode: Duration,
    /// From the first hand-over to the last.
    pub transmit: Duration,
    /// From the last hand-over to settlement.
    pub acknowledge: Duration,
    /// From admission to settlement.
    pub latency: Duration,
}

/// Where in the destination something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// A table version.
    Version(u64),
    /// An offset in a stream.
    Offset(u64),
    /// The destination has no positions.
    None,
}

/// A row that the destination refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rejection {
    /// Counted from 0, in what it is said of: a write here, a delivery towards the user.
    pub row: u64,
    pub code: String,
    pub message: String,
}

/// Some consecutive rows of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRange {
    pub sequence: u64,
    pub first_row: usize,
    pub rows: usize,
}

/// The facts of a delivery when it enters the ledger.
#[derive(Debug, Clone)]
pub struct AdmittedDelivery {
    pub sequence: u64,
    pub rows: usize,
    pub bytes: usize,
    /// What it takes of the budget until it is settled.
    pub charge: usize,
    pub admitted: Instant,
    pub handoff: Duration,
    pub buffers_copied_for_pin_limit: usize,
    pub buffers_realigned: usize,
}

/// The set of unsettled deliveries.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<u64, Entry>,
}

/// A delivery that has no row left to wait for.
#[derive(Debug)]
pub struct SettledDelivery {
    pub outcome: Outcome,
    /// The caller has an outcome already (an aborted delivery that went on); only the budget is freed.
    pub silent: bool,
    /// What of the budget is free now.
    pub charge: usize,
}

#[derive(Debug)]
struct Entry {
    admitted_delivery: AdmittedDelivery,
    open_rows: usize,
    accepted_rows: usize,
    failed_rows: usize,
    unknown_rows: usize,
    rejections: Vec<Rejection>,
    attempts: u32,
    writes: u32,
    position: Position,
    first_sent: Option<Instant>,
    last_sent: Option<Instant>,
    encode: Duration,
    error: Option<Error>,
    told: bool,
}

impl Ledger {
    /// # Panics
    /// If the sequence is in the ledger already: two callers would wait for one outcome.
    pub fn enter(&mut self, admitted_delivery: AdmittedDelivery) {
        let sequence = admitted_delivery.sequence;
        let entry = Entry {
            open_rows: admitted_delivery.rows,
            admitted_delivery,
            accepted_rows: 0,
            failed_rows: 0,
            unknown_rows: 0,
            rejections: Vec::new(),
            attempts: 0,
            writes: 0,
            position: Position::None,
            first_sent: None,
            last_sent: None,
            encode: Duration::ZERO,
            error: None,
            told: false,
        };
        let before = self.entries.insert(sequence, entry);
        assert!(before.is_none(), "delivery {sequence} entered twice");
    }

    /// Rows go to the destination, in the `attempt`-th try to get them there; `anew` says that no
    /// earlier try came as far.
    pub fn sent(&mut self, range: &RowRange, attempt: u32, anew: bool, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&range.sequence) {
            entry.attempts = entry.attempts.max(attempt);
            if anew {
                entry.writes += 1;
            }
            entry.first_sent.get_or_insert(now);
            entry.last_sent = Some(now);
        }
    }

    pub fn encoded(&mut self, range: &RowRange, took: Duration) {
        if let Some(entry) = self.entries.get_mut(&range.sequence) {
            entry.encode += took;
        }
    }

    pub fn accept(&mut self, range: &RowRange, position: Position, now: Instant) -> Option<SettledDelivery> {
        self.settle(range, now, |entry, rows| {
            entry.accepted_rows += rows;
            if position != Position::None {
                entry.position = position;
            }
        })
    }

    /// `rejections` count rows within the delivery. Rows of the range that are not named were accepted.
    pub fn refuse(
        &mut self,
        range: &RowRange,
        rejections: Vec<Rejection>,
        position: Position,
        now: Instant,
    ) -> Option<SettledDelivery> {
        self.settle(range, now, |entry, rows| {
            entry.accepted_rows += rows - rejections.len();
            entry.rejections.extend(rejections);
            if position != Position::None {
                entry.position = position;
            }
        })
    }

    /// An ambiguous error leaves the rows unknown, any other one failed.
    pub fn fail(&mut self, range: &RowRange, error: &Error, now: Instant) -> Option<SettledDelivery> {
        self.settle(range, now, |entry, rows| {
            if error.is_ambiguous() {
                entry.unknown_rows += rows;
            } else {
                entry.failed_rows += rows;
            }
            // Tries that did not get as far as the destination count too.
            entry.attempts = entry.attempts.max(error.attempts());
            // The first error is the cause; later ones tend to follow from it.
            entry.error.get_or_insert_with(|| error.clone());
        })
    }

    /// Settles all open rows of a delivery with one error.
    pub fn fail_rest(&mut self, sequence: u64, error: &Error, now: Instant) -> Option<SettledDelivery> {
        let rows = self.entries.get(&sequence)?.open_rows;
        let range = RowRange {
            sequence,
            first_row: 0,
            rows,
        };
        self.fail(&range, error, now)
    }

    /// Takes out a delivery that stays in the spool. Its open rows are settled by nobody.
    pub fn leave(&mut self, sequence: u64, now: Instant) -> Option<SettledDelivery> {
        let entry = self.entries.remove(&sequence)?;
        let mut outcome = entry.outcome(now);
        outcome.status = Status::Spooled;
        outcome.error = None;
        Some(SettledDelivery {
            outcome,
            silent: entry.told,
            charge: entry.admitted_delivery.charge,
        })
    }

    /// Tells the caller at once that the outcome is unknown while the delivery goes on.
    pub fn give_up_waiting(&mut self, sequence: u64, error: &Error, now: Instant) -> Option<Outcome> {
        let entry = self.entries.get_mut(&sequence)?;
        if std::mem::replace(&mut entry.told, true) {
            return None;
        }
        let mut outcome = entry.outcome(now);
        outcome.status = Status::Unknown;
        outcome.error = Some(error.clone());
        Some(outcome)
    }

    /// All rows of an unsettled delivery, settled ones included.
    pub fn rows(&self, sequence: u64) -> Option<usize> {
        let entry = self.entries.get(&sequence)?;
        Some(entry.admitted_delivery.rows)
    }

    pub fn contains(&self, sequence: u64) -> bool {
        self.entries.contains_key(&sequence)
    }

    /// The oldest unsettled delivery.
    pub fn oldest(&self) -> Option<u64> {
        self.entries.keys().next().copied()
    }

    /// When this delivery was let in.
    pub fn admitted(&self, sequence: u64) -> Option<Instant> {
        let entry = self.entries.get(&sequence)?;
        Some(entry.admitted_delivery.admitted)
    }

    pub fn oldest_admitted(&self) -> Option<Instant> {
        let entry = self.entries.values().next()?;
        Some(entry.admitted_delivery.admitted)
    }

    /// The unsettled deliveries that were let in before `limit`, the oldest first.
    pub fn admitted_before(&self, limit: Instant) -> Vec<u64> {
        let older = |(_, entry): &(&u64, &Entry)| entry.admitted_delivery.admitted < limit;
        let older = self.entries.iter().take_while(older);
        older.map(|(sequence, _)| *sequence).collect()
    }

    pub fn sequences(&self) -> Vec<u64> {
        self.entries.keys().copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn settle(
        &mut self,
        range: &RowRange,
        now: Instant,
        apply: impl FnOnce(&mut Entry, usize),
    ) -> Option<SettledDelivery> {
        let entry = self.entries.get_mut(&range.sequence)?;
        debug_assert!(range.rows <= entry.open_rows, "rows settled twice");
        let rows = range.rows.min(entry.open_rows);
        entry.open_rows -= rows;
        apply(entry, rows);
        if entry.open_rows > 0 {
            return None;
        }
        let entry = self.entries.remove(&range.sequence)?;
        Some(SettledDelivery {
            outcome: entry.outcome(now),
            silent: entry.told,
            charge: entry.admitted_delivery.charge,
        })
    }
}

impl Entry {
    fn outcome(&self, now: Instant) -> Outcome {
        let mut rejections = self.rejections.clone();
        rejections.sort_by_key(|rejection| rejection.row);
        let since = |earlier: Instant| now.saturating_duration_since(earlier);
        let admitted = self.admitted_delivery.admitted;
        let first = self.first_sent.unwrap_or(now);
        let last = self.last_sent.unwrap_or(first);
        Outcome {
            sequence: self.admitted_delivery.sequence,
            status: self.status(),
            rows: self.admitted_delivery.rows,
            accepted_rows: self.accepted_rows,
            rejections,
            attempts: self.attempts,
            retries: self.attempts.saturating_sub(1),
            writes: self.writes,
            bytes: self.admitted_delivery.bytes,
            buffers_copied_for_pin_limit: self.admitted_delivery.buffers_copied_for_pin_limit,
            buffers_realigned: self.admitted_delivery.buffers_realigned,
            payload_changed: false,
            position: self.position,
            timings: Timings {
                handoff: self.admitted_delivery.handoff,
                queue: first.saturating_duration_since(admitted),
                encode: self.encode,
                transmit: last.saturating_duration_since(first),
                acknowledge: since(last),
                latency: since(admitted),
            },
            error: self.error.clone().or_else(|| self.refusal()),
        }
    }

    /// A delivery that is not whole always says why.
    fn refusal(&self) -> Option<Error> {
        let first = self.rejections.iter().min_by_key(|rejection| rejection.row)?;
        let text = format!(
            "{} of {} rows were refused; row {}: {}",
            self.rejections.len(),
            self.admitted_delivery.rows,
            first.row,
            first.message
        );
        let error = Error::new(Code::RowsRejected, text).during("write");
        Some(error.at_row(first.row).after(self.attempts, Duration::ZERO))
    }

    fn status(&self) -> Status {
        if self.unknown_rows > 0 {
            Status::Unknown
        } else if self.failed_rows > 0 || self.error.is_some() {
            // A delivery that could not be read has no rows to count, and failed all the same.
            Status::Failed
        } else if self.rejections.is_empty() {
            Status::Acknowledged
        } else if self.accepted_rows == 0 {
            Status::Failed
        } else {
            Status::Partial
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Fate {
        Accepted,
        Refused,
        Failed,
        Unknown,
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            4 => Just(Fate::Accepted),
            1 => Just(Fate::Refused),
            1 => Just(Fate::Failed),
            1 => Just(Fate::Unknown),
        ]
    }

    fn admitted_delivery(sequence: u64, rows: usize) -> AdmittedDelivery {
        AdmittedDelivery {
            sequence,
            rows,
            bytes: rows * 8,
            charge: rows * 9,
            admitted: Instant::now(),
            handoff: Duration::ZERO,
            buffers_copied_for_pin_limit: 0,
            buffers_realigned: 0,
        }
    }

    proptest! {
        /// the outcome comes when the last row is settled, once, and its status is the worst.
        #[test]
        fn the_last_row_brings_the_outcome(
            parts in prop::collection::vec((1usize..6, fate()), 1..12),
            told_after in prop::option::of(0usize..12),
        ) {
            let now = Instant::now();
            let rows_given: usize = parts.iter().map(|(rows, _)| rows).sum();
            let rows = parts.iter().map(|(rows, _)| rows).sum();
            let mut ledger = Ledger::default();
            ledger.enter(admitted_delivery(5, rows));
            let mut first_row = 0;
            let (mut accepted, mut refused, mut worst) = (0, Vec::new(), Status::Acknowledged);
            for (index, (rows, fate)) in parts.iter().enumerate() {
                if told_after == Some(index) {
                    let told = ledger.give_up_waiting(5, &Error::new(Code::Aborted, ""), now).unwrap();
                    prop_assert_eq!(told.status, Status::Unknown);
                    prop_assert!(ledger.give_up_waiting(5, &Error::new(Code::Aborted, ""), now).is_none());
                }
                let range = RowRange { sequence: 5, first_row, rows: *rows };
                let settled = match fate {
                    Fate::Accepted => {
                        accepted += rows;
                        ledger.accept(&range, Position::Version(index as u64), now)
                    }
                    Fate::Refused => {
                        let rejection = Rejection {
                            row: first_row as u64,
                            code: "NO".into(),
                            message: "no".into(),
                        };
                        accepted += rows - 1;
                        refused.push(first_row as u64);
                        ledger.refuse(&range, vec![rejection], Position::None, now)
                    }
                    Fate::Failed => {
                        worst = worst.max(Status::Failed);
                        ledger.fail(&range, &Error::new(Code::Unavailable, "away").after(3, now - now), now)
                    }
                    Fate::Unknown => {
                        worst = worst.max(Status::Unknown);
                        ledger.fail(&range, &Error::new(Code::Unavailable, "lost").ambiguous(), now)
                    }
                };
                first_row += rows;
                prop_assert_eq!(settled.is_some(), first_row == parts.iter().map(|(rows, _)| rows).sum::<usize>());
                let Some(SettledDelivery { outcome, silent, charge }) = settled else { continue };
                prop_assert_eq!(charge, rows_given * 9);
                if !refused.is_empty() && worst == Status::Acknowledged {
                    worst = if accepted == 0 { Status::Failed } else { Status::Partial };
                }
                prop_assert_eq!(outcome.status, worst);
                prop_assert_eq!(outcome.accepted_rows, accepted);
                prop_assert_eq!(outcome.rejections.iter().map(|r| r.row).collect::<Vec<_>>(), refused.clone());
                prop_assert_eq!(outcome.error.is_none(), worst == Status::Acknowledged);
                prop_assert_eq!(silent, told_after.is_some_and(|index| index < parts.len()));
            }
            prop_assert!(ledger.is_empty() && !ledger.contains(5) && ledger.oldest().is_none());
            prop_assert!(ledger.fail_rest(5, &Error::new(Code::Internal, ""), now).is_none());
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// So many rows, let in so long after the one before.
        Enter(usize, u64),
        /// Some rows of one of them.
        Settle(usize, usize, Fate),
        /// All that is left of one of them.
        FailRest(usize),
        /// Its caller waits no longer.
        GiveUp(usize),
        /// Those that are older than this.
        Late(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..6, 0u64..50).prop_map(|(rows, later)| Step::Enter(rows, later)),
            6 => (any::<usize>(), 1usize..6, fate()).prop_map(|(which, rows, fate)| Step::Settle(which, rows, fate)),
            1 => any::<usize>().prop_map(Step::FailRest),
            2 => any::<usize>().prop_map(Step::GiveUp),
            1 => (0u64..400).prop_map(Step::Late),
        ]
    }

    proptest! {
        /// a delivery has one outcome, and of its own rows, whatever the outcome of its neighbours.
        #[test]
        fn each_of_many_is_told_once(steps in prop::collection::vec(step(), 1..80)) {
            let start = Instant::now();
            let mut ledger = Ledger::default();
            let (mut sequence, mut clock) = (0, start);
            // Sequence, when it was let in, all rows, settled rows, whether its caller was told.
            let mut open: Vec<(u64, Instant, usize, usize, bool)> = Vec::new();
            let lost = Error::new(Code::Unavailable, "away");
            for step in steps {
                match step {
                    Step::Enter(rows, later) => {
                        sequence += 1;
                        clock += Duration::from_millis(later);
                        ledger.enter(AdmittedDelivery { admitted: clock, ..admitted_delivery(sequence, rows) });
                        open.push((sequence, clock, rows, 0, false));
                    }
                    Step::Settle(which, rows, fate) if !open.is_empty() => {
                        let index = which % open.len();
                        let (sequence, _, all, done, told) = open[index];
                        let rows = rows.min(all - done);
                        let range = RowRange { sequence, first_row: done, rows };
                        let settled = match fate {
                            Fate::Accepted => ledger.accept(&range, Position::None, clock),
                            Fate::Refused => ledger.refuse(&range, Vec::new(), Position::None, clock),
                            Fate::Failed => ledger.fail(&range, &lost, clock),
                            Fate::Unknown => ledger.fail(&range, &lost.clone().ambiguous(), clock),
                        };
                        open[index].3 += rows;
                        prop_assert_eq!(settled.is_some(), done + rows == all);
                        if let Some(SettledDelivery { outcome, silent, charge }) = settled {
                            prop_assert_eq!(charge, all * 9);
                            prop_assert_eq!((outcome.sequence, outcome.rows, silent), (sequence, all, told));
                            open.remove(index);
                        }
                    }
                    Step::FailRest(which) if !open.is_empty() => {
                        let (sequence, _, all, _, told) = open.remove(which % open.len());
                        let SettledDelivery { outcome, silent, charge } = ledger.fail_rest(sequence, &lost, clock).unwrap();
                        prop_assert_eq!(charge, all * 9);
                        prop_assert_eq!((outcome.sequence, outcome.rows, silent), (sequence, all, told));
                        prop_assert!(outcome.status >= Status::Failed);
                    }
                    Step::GiveUp(which) if !open.is_empty() => {
                        let index = which % open.len();
                        let told = ledger.give_up_waiting(open[index].0, &lost, clock);
                        prop_assert_eq!(told.is_some(), !open[index].4);
                        open[index].4 = true;
                    }
                    Step::Late(age) => {
                        let limit = start + Duration::from_millis(age);
                        let late = open.iter().filter(|(_, admitted, ..)| *admitted < limit);
                        let late: Vec<u64> = late.map(|(sequence, ..)| *sequence).collect();
                        prop_assert_eq!(ledger.admitted_before(limit), late);
                    }
                    _ => {}
                }
                let sequences: Vec<u64> = open.iter().map(|(sequence, ..)| *sequence).collect();
                prop_assert_eq!(ledger.oldest_admitted(), open.first().map(|(_, admitted, ..)| *admitted));
                prop_assert_eq!(ledger.oldest(), sequences.first().copied());
                prop_assert_eq!(ledger.sequences(), sequences);
                prop_assert_eq!(ledger.is_empty(), open.is_empty());
            }
        }
    }

    #[test]
    #[should_panic(expected = "delivery 7 entered twice")]
    fn a_delivery_enters_once() {
        let mut ledger = Ledger::default();
        ledger.enter(admitted_delivery(7, 1));
        ledger.enter(admitted_delivery(7, 1));
    }

    #[test]
    fn no_rows_can_fail_too() {
        let mut ledger = Ledger::default();
        ledger.enter(admitted_delivery(1, 0));
        let error = Error::new(Code::BatchInvalid, "unreadable");
        let settled = ledger.fail_rest(1, &error, Instant::now()).unwrap();
        assert_eq!(settled.outcome.status, Status::Failed);
    }
}
