//! Looking for the rows that make a destination refuse a write. Pure.
//!
//! A search begins with a refusal of everything that a session was given and had not acknowledged. From
//! then on a session is given one *probe* at a time, a run of rows from the oldest on, and told to flush:
//! either it is durable, or something in it is at fault, and the next probe is half of it. Invariants:
//! - Probes go from the oldest row to the newest, so whatever is durable is so in order.
//! - A row is found at fault only when it was refused alone.
//! - One row at fault among n costs about log2(n) refusals: where the first half of what was refused
//!   passes, the other half is at fault and is halved untried.
//! - It ends: every refusal narrows what is at fault, settles a row, or gives up.
//!
//! It sends nothing, cuts nothing and settles nothing: `quarantine` does as it says.

use std::time::Instant;

use super::window::WriteSlice;

#[derive(Debug)]
pub struct Search {
    /// The last write that is searched; later ones wait.
    last: u64,
    /// Something is at fault between the oldest unsettled row and the end of this write.
    refused_through: Option<u64>,
    /// The last write of the probe that is under way.
    probe: Option<u64>,
    /// Writes of the next probe where nothing is known to be at fault: doubled while they pass.
    stride: usize,
    /// Refusals spent on rows of one delivery alone.
    spent: (u64, u32),
    max_attempts: u32,
    by: Instant,
}

/// An unsettled write: its id, and whose rows it holds.
pub type SearchedWrite<'a> = (u64, &'a [WriteSlice]);

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum SearchStep {
    /// Give the session all writes up to this one, and flush.
    Probe { through: u64 },
    /// Cut this write after so many rows, and ask again.
    Cut { id: u64, rows: usize },
    /// Nothing is left to search.
    Done,
}

/// What a refusal of a probe comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one row that the oldest write holds is at fault.
    Row,
    /// The next probe is smaller.
    Narrow,
    /// The time is up: everything through this write is undecided.
    OutOfTime { through: u64 },
    /// The attempts are spent: the rows of this delivery are undecided, as far as they were refused.
    OutOfAttempts { sequence: u64, through: u64 },
}

impl Search {
    /// A session refused some of the writes it was given, of which `last` was the last.
    pub fn new(last: u64, max_attempts: u32, by: Instant) -> Search {
        Search {
            last,
            refused_through: None,
            probe: None,
            stride: 1,
            spent: (0, 0),
            max_attempts,
            by,
        }
    }

    /// The last write of the probe that is under way.
    pub fn probe(&self) -> Option<u64> {
        self.probe
    }

    /// The session is gone: no probe is under way.
    pub fn rewind(&mut self) {
        self.probe = None;
    }

    /// The destination refused writes through `given`, the last that the session was given.
    pub fn refused<'a>(
        &mut self,
        given: u64,
        searched_writes: impl Iterator<Item = SearchedWrite<'a>>,
        now: Instant,
    ) -> Verdict {
        let late = now >= self.by;
        self.probe = None;
        // When it is late, one more probe for all the rest: it passes, or the rest is undecided too.
        self.stride = if late { usize::MAX } else { 1 };
        self.refused_through = Some(given);
        let mut run = searched_writes.take_while(|(id, _)| *id <= given);
        let first = run.next();
        let alone = first.filter(|_| run.next().is_none());
        let delivery = alone.and_then(|(_, slices)| match slices {
            [only] => Some(only.range),
            _ => None,
        });
        if let Some(delivery) = delivery {
            if self.spent.0 != delivery.sequence {
                self.spent = (delivery.sequence, 0);
            }
            self.spent.1 += 1;
            if delivery.rows == 1 {
                self.refused_through = None;
                return Verdict::Row;
            }
            // Time comes first: attempts are counted for each delivery, and there may be many.
            if self.spent.1 >= self.max_attempts && !late {
                self.refused_through = None;
                return Verdict::OutOfAttempts {
                    sequence: delivery.sequence,
                    through: self.last,
                };
            }
        }
        if late {
            self.refused_through = None;
            return Verdict::OutOfTime { through: given };
        }
        Verdict::Narrow
    }

    /// What to do next, given the unsettled writes from the oldest on, none of which is under way.
    pub fn next<'a>(&mut self, searched_writes: impl Iterator<Item = SearchedWrite<'a>>) -> SearchStep {
        let run: Vec<SearchedWrite<'a>> = searched_writes.take_while(|(id, _)| *id <= self.last).collect();
        if self.probe.take().is_some() && self.refused_through.is_none() {
            self.stride = self.stride.saturating_mul(2);
        }
        let Some((first, slices)) = run.first() else {
            return SearchStep::Done;
        };
        let refused_through = self
            .refused_through
            .filter(|refused_through| refused_through >= first);
        self.refused_through = refused_through;
        let through = match refused_through {
            None => run[self.stride.min(run.len()) - 1].0,
            Some(refused_through) => {
                let writes = run.partition_point(|(id, _)| *id <= refused_through);
                if writes > 1 {
                    run[writes / 2 - 1].0
                } else if let Some(rows) = middle(slices) {
                    return SearchStep::Cut { id: *first, rows };
                } else {
                    *first
                }
            }
        };
        self.probe = Some(through);
        SearchStep::Probe { through }
    }
}

/// Where to cut: between two deliveries if there are several, as near to the middle as can be, so that
/// the others are out of it first. None for a single row.
fn middle(slices: &[WriteSlice]) -> Option<usize> {
    let rows: usize = slices.iter().map(|slice| slice.range.rows).sum();
    let mut end = 0;
    let ends = slices.iter().map(|slice| {
        end += slice.range.rows;
        end
    });
    let between = ends.filter(|end| *end < rows);
    let nearest = between.min_by_key(|end| end.abs_diff(rows / 2));
    nearest.or_else(|| Some(rows / 2).filter(|half| *half > 0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::outcome::RowRange;

    /// Rows by number, in writes of deliveries; what is refused is so whole.
    struct Harness {
        writes: Vec<(u64, Vec<WriteSlice>)>,
        bad: Vec<usize>,
        accepted: Vec<usize>,
        refused: Vec<usize>,
        undecided: Vec<usize>,
        refusals: usize,
        probes: usize,
    }

    impl Harness {
        /// `deliveries[w]` are the row counts of write `w`; row numbers run through everything.
        fn new(deliveries: &[Vec<usize>], bad: Vec<usize>) -> Harness {
            let (mut row, mut sequence) = (0, 0);
            let writes = deliveries.iter().map(|counts| {
                let ranges = counts.iter().map(|rows| {
                    sequence += 1;
                    row += rows;
                    let range = RowRange {
                        sequence,
                        first_row: row - rows,
                        rows: *rows,
                    };
                    WriteSlice {
                        range,
                        settled: false,
                    }
                });
                let ranges: Vec<WriteSlice> = ranges.collect();
                (row as u64, ranges)
            });
            // Ids are the numbers of their last rows, as the window gives them out.
            let writes = writes.map(|(_, ranges)| {
                let last = ranges.last().unwrap().range;
                ((last.first_row + last.rows) as u64, ranges)
            });
            Harness {
                writes: writes.collect(),
                bad,
                accepted: Vec::new(),
                refused: Vec::new(),
                undecided: Vec::new(),
                refusals: 0,
                probes: 0,
            }
        }

        fn searched_writes(&self) -> impl Iterator<Item = SearchedWrite<'_>> {
            self.writes.iter().map(|(id, ranges)| (*id, &ranges[..]))
        }

        fn take(&mut self, through: u64, sequence: Option<u64>) -> Vec<usize> {
            let mut taken = Vec::new();
            self.writes.retain_mut(|(id, ranges)| {
                ranges.retain(|WriteSlice { range, .. }| {
                    let out = *id <= through && sequence.is_none_or(|sequence| range.sequence == sequence);
                    if out {
                        taken.extend(range.first_row..range.first_row + range.rows);
                    }
                    !out
                });
                !ranges.is_empty()
            });
            taken
        }

        fn cut(&mut self, id: u64, mut rows: usize) {
            let index = self.writes.iter().position(|write| write.0 == id).unwrap();
            let (mut left, mut right) = (Vec::new(), Vec::new());
            for WriteSlice { range, settled } in std::mem::take(&mut self.writes[index].1) {
                let count = range.rows.min(rows);
                rows -= count;
                let part = |first_row, rows| WriteSlice {
                    range: RowRange {
                        first_row,
                        rows,
                        ..range
                    },
                    settled,
                };
                if count > 0 {
                    left.push(part(range.first_row, count));
                }
                if range.rows > count {
                    right.push(part(range.first_row + count, range.rows - count));
                }
            }
            let count: usize = right.iter().map(|slice| slice.range.rows).sum();
            assert!(count > 0 && !left.is_empty());
            self.writes[index].1 = right;
            self.writes.insert(index, (id - count as u64, left));
        }

        fn run(&mut self, search: &mut Search, now: Instant) {
            loop {
                match search.next(self.writes.iter().map(|(id, ranges)| (*id, &ranges[..]))) {
                    SearchStep::Done => return,
                    SearchStep::Cut { id, rows } => self.cut(id, rows),
                    SearchStep::Probe { through } => {
                        self.probes += 1;
                        assert_eq!(search.probe(), Some(through));
                        let given = self.searched_writes().take_while(|(id, _)| *id <= through);
                        let rows = given.flat_map(|(_, ranges)| ranges);
                        let mut rows =
                            rows.flat_map(|WriteSlice { range: s, .. }| s.first_row..s.first_row + s.rows);
                        if !rows.any(|row| self.bad.contains(&row)) {
                            drop(rows);
                            let passed = self.take(through, None);
                            self.accepted.extend(passed);
                            continue;
                        }
                        drop(rows);
                        self.refusals += 1;
                        let writes = std::mem::take(&mut self.writes);
                        let searched_writes = writes.iter().map(|(id, ranges)| (*id, &ranges[..]));
                        let verdict = search.refused(through, searched_writes, now);
                        self.writes = writes;
                        match verdict {
                            Verdict::Narrow => {}
                            Verdict::Row => {
                                let row = self.take(through, None);
                                assert_eq!(row.len(), 1);
                                self.refused.extend(row);
                            }
                            Verdict::OutOfTime { through } => {
                                let rows = self.take(through, None);
                                self.undecided.extend(rows);
                            }
                            Verdict::OutOfAttempts { sequence, through } => {
                                let rows = self.take(through, Some(sequence));
                                self.undecided.extend(rows);
                            }
                        }
                    }
                }
            }
        }
    }

    fn later(now: Instant) -> Instant {
        now + Duration::from_secs(1)
    }

    proptest! {
        /// whatever the pattern, exactly the rows at fault are refused, the others pass in order, and it
        /// costs about log2(n) refusals for each.
        #[test]
        fn exactly_the_rows_at_fault_are_found(
            deliveries in prop::collection::vec(prop::collection::vec(1usize..40, 1..5), 1..8),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let total: usize = deliveries.iter().flatten().sum();
            let mut bad: Vec<usize> = picks.iter().map(|pick| pick.index(total)).collect();
            bad.sort_unstable();
            bad.dedup();
            let mut harness = Harness::new(&deliveries, bad.clone());
            let now = Instant::now();
            let mut search = Search::new(total as u64, u32::MAX, later(now));
            harness.run(&mut search, now);
            prop_assert_eq!(&harness.refused, &bad);
            prop_assert!(harness.accepted.is_sorted());
            prop_assert_eq!(harness.accepted.len() + bad.len(), total);
            let depth = total.ilog2() as usize + deliveries.len().ilog2() as usize + 6;
            prop_assert!(harness.refusals <= bad.len() * depth, "{} refusals", harness.refusals);
            prop_assert!(harness.probes <= (bad.len() + 1) * 2 * depth, "{} probes", harness.probes);
        }

        /// bounded, it ends all the same, and what it does not decide is at least all that is at fault.
        #[test]
        fn a_bound_leaves_rows_undecided_and_none_out(
            deliveries in prop::collection::vec(prop::collection::vec(1usize..40, 1..5), 1..8),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            max_attempts in 1u32..6,
            late in any::<bool>(),
        ) {
            let total: usize = deliveries.iter().flatten().sum();
            let bad: Vec<usize> = picks.iter().map(|pick| pick.index(total)).collect();
            let mut harness = Harness::new(&deliveries, bad.clone());
            let now = Instant::now();
            let by = if late { now } else { later(now) };
            harness.run(&mut Search::new(total as u64, max_attempts, by), now);
            prop_assert!(harness.accepted.is_sorted());
            prop_assert!(harness.accepted.iter().all(|row| !bad.contains(row)));
            prop_assert!(harness.refused.iter().all(|row| bad.contains(row)));
            let mut all = [harness.accepted, harness.refused, harness.undecided].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..total).collect::<Vec<_>>());
            if late {
                prop_assert!(harness.refusals <= 3);
            }
        }
    }

    #[test]
    fn one_row_of_65_536_costs_seventeen_refusals() {
        let mut harness = Harness::new(&[vec![65_536]], vec![40_000]);
        let now = Instant::now();
        harness.run(&mut Search::new(65_536, 100, later(now)), now);
        assert_eq!(harness.refused, [40_000]);
        assert!(harness.refusals <= 17, "{}", harness.refusals);
    }
}
