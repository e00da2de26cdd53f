//! Writes handed to the destination and not acknowledged, in order. Pure.
//!
//! Invariants:
//! - All writes in the window have one schema: the session is drained before another is opened.
//! - A write keeps its id in every replay; only rows that were acknowledged alone are cut off,
//!   and rows of a delivery that was aborted, refused or too late, while no session holds them.
//! - Where writes may be cut in two, an id is the number of rows up to the end of its write, so that any
//!   part of it has an id of its own between those of its neighbours, and the last part keeps the id of
//!   the whole: an id names a last row, whatever was cut before it.
//! - Ids and sequences grow together, so a write is found by either without looking at the others.
//! - A write of which everything is settled is not here.
//!
//! What a write may be, and what comes after what, is the table in [`write`].

mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::batcher::WriteDraft;
use crate::destination::Write;
use crate::error::Error;
use crate::outcome::RowRange;

pub use write::{FailedRanges, WindowWrite, WriteSlice, pick, runs};

#[derive(Default)]
pub struct Window {
    writes: BTreeMap<u64, WindowWrite>,
    /// The first delivery of each write as it came, and the write's id. Rows leave from the front, so what
    /// is first may be later by now, and is never earlier.
    begins: BTreeSet<(u64, u64)>,
    /// Of which rows were marked as gone.
    marked: BTreeSet<u64>,
    /// Writes before it are on their way to the open session, or there.
    unqueued: u64,
    last_id: u64,
    /// Whether writes may be cut in two.
    divisible: bool,
}

/// What a session is given.
pub struct SentWrite<'a> {
    pub entry: &'a WindowWrite,
    /// No earlier session was given it.
    pub anew: bool,
}

impl Window {
    /// A window whose writes may be cut in two.
    pub fn divisible() -> Window {
        Window {
            divisible: true,
            ..Window::default()
        }
    }

    pub fn push(&mut self, draft: WriteDraft) {
        self.last_id += if self.divisible { draft.rows as u64 } else { 1 };
        self.insert(WindowWrite::new(self.last_id, draft));
    }

    // ---- the session --------------------------------------------------------------------------

    /// The next write for the session, up to the one with the id `through`. What is gone is not sent.
    pub fn queue_next(&mut self, through: u64) -> Option<Arc<Write>> {
        let mut rest = self.writes.range_mut(self.unqueued..);
        let (id, entry) = rest.find(|(_, entry)| entry.is_waiting())?;
        if *id > through {
            return None;
        }
        self.unqueued = *id + 1;
        entry.tidy();
        entry.queue();
        Some(Arc::clone(&entry.write))
    }

    /// The session is about to be given this write.
    pub fn mark_sent(&mut self, id: u64, now: Instant) -> Option<SentWrite<'_>> {
        let entry = self.writes.get_mut(&id)?;
        let anew = entry.mark_sent(now);
        Some(SentWrite { entry, anew })
    }

    /// The last write that the session was given.
    pub fn last_sent(&self) -> Option<u64> {
        let mut writes = self.writes.values().rev();
        writes.find(|entry| entry.is_sent()).map(WindowWrite::id)
    }

    /// The first write that the session was given, or may have been.
    pub fn first_queued_or_sent(&self) -> Option<u64> {
        let mut writes = self.writes.values();
        writes.find(|entry| !entry.is_waiting()).map(WindowWrite::id)
    }

    /// The session is gone: everything is to be sent again, but for the rows that were acknowledged.
    /// `ambiguous` says that what it was given may be held.
    pub fn rewind(&mut self, ambiguous: bool) {
        self.unqueued = 0;
        for entry in self.writes.values_mut() {
            entry.rewind(ambiguous);
        }
    }

    /// The destination has looked: what it does not name is not there.
    pub fn looked_for(&mut self) {
        self.writes.values_mut().for_each(WindowWrite::looked_for);
    }

    /// No session can be had, which counts for all that wait for one.
    pub fn count_try(&mut self, now: Instant) {
        for entry in self.writes.values_mut() {
            entry.count_try(now);
        }
    }

    /// What ended the session was no failure of what it was given.
    pub fn refund_tries(&mut self) {
        let sent = self.writes.values_mut().filter(|entry| entry.is_sent());
        sent.for_each(WindowWrite::refund_try);
    }

    // ---- what leaves --------------------------------------------------------------------------

    /// Takes out every write up to `id`.
    pub fn through(&mut self, id: u64) -> Vec<WindowWrite> {
        let mut out = Vec::new();
        while let Some(first) = self.writes.first_entry().filter(|first| *first.key() <= id) {
            out.push(first.remove());
        }
        for entry in &out {
            self.forget(entry);
        }
        out
    }

    pub fn remove(&mut self, id: u64) -> Option<WindowWrite> {
        let entry = self.writes.remove(&id)?;
        self.forget(&entry);
        Some(entry)
    }

    /// The first `rows` rows of write `id`, counted as it was sent, are durable. Returns the
    /// slices that this settles; the write stays for the rest.
    pub fn partly(&mut self, id: u64, rows: usize) -> Vec<WriteSlice> {
        let Some(entry) = self.writes.get_mut(&id) else {
            return Vec::new();
        };
        let slices = entry.partly(rows);
        self.remove_settled(id);
        slices
    }

    /// Takes the rows of a delivery out of the writes that no session holds, now or perhaps.
    pub fn take_back(&mut self, sequence: u64) -> Vec<RowRange> {
        let mut taken = Vec::new();
        for id in self.of_delivery(sequence) {
            if let Some(entry) = self.writes.get_mut(&id).filter(|entry| entry.is_free()) {
                taken.extend(entry.mark(sequence));
                self.after_mark(id);
            }
        }
        taken
    }

    /// Takes out what is left of a delivery, which ends with `error`. The session is gone. Rows that may be
    /// held stay in their write, where others may be found by their place, and are nobody's.
    pub fn give_up(&mut self, sequence: u64, error: &Error, now: Instant) -> Vec<FailedRanges> {
        let mut out = Vec::new();
        for id in self.of_delivery(sequence) {
            if let Some(entry) = self.writes.get_mut(&id) {
                let error = entry.verdict(error, now);
                let ranges = entry.mark(sequence);
                out.push(FailedRanges { ranges, error });
                self.after_mark(id);
            }
        }
        out
    }

    /// Takes the deliveries that hold rows at fault out of write `id`, which stays for the others. `faults`
    /// name rows of the write, counted as it was sent; they come back naming rows of the delivery, one for
    /// each. The session is gone, or about to be.
    pub fn blame(&mut self, id: u64, mut faults: Vec<Error>, now: Instant) -> Vec<FailedRanges> {
        let Some(entry) = self.writes.get_mut(&id) else {
            return Vec::new();
        };
        faults.sort_by_key(|fault| fault.row());
        let mut faults = faults.into_iter().peekable();
        let mut blamed: BTreeMap<u64, FailedRanges> = BTreeMap::new();
        let mut end = entry.done_rows() as u64;
        for slice in entry.slices() {
            let start = end;
            end += slice.range.rows as u64;
            while let Some(fault) = faults.next_if(|fault| fault.row().is_none_or(|row| row < end)) {
                let Some(row) = fault.row().filter(|row| *row >= start) else {
                    continue;
                };
                let own_row = row - start + slice.range.first_row as u64;
                blamed
                    .entry(slice.range.sequence)
                    .or_insert_with(|| FailedRanges {
                        ranges: Vec::new(),
                        error: entry.verdict(&fault, now).at_row(own_row),
                    });
            }
        }
        if blamed.is_empty() {
            return Vec::new();
        }
        for slice in entry.take_out(|sequence| blamed.contains_key(&sequence)) {
            let failed = blamed.get_mut(&slice.range.sequence).filter(|_| !slice.settled);
            if let Some(failed) = failed {
                failed.ranges.push(slice.range);
            }
        }
        self.remove_settled(id);
        blamed.into_values().collect()
    }

    /// Cuts write `id` in two after `rows` rows. The session is gone.
    pub fn cut(&mut self, id: u64, rows: usize) {
        let Some(entry) = self.writes.get_mut(&id) else {
            return;
        };
        let left = entry.write.rows.saturating_sub(rows);
        if !self.divisible || rows == 0 || left == 0 {
            return;
        }
        let front = entry.split_front(id - left as u64, rows);
        for half in [front.id(), id] {
            self.remove_settled(half);
        }
        if !front.is_settled() {
            self.insert(front);
        }
    }

    /// Takes out what writes up to `id` hold of a delivery alone. The session is gone.
    pub fn take_delivery(&mut self, sequence: u64, id: u64) -> Vec<WindowWrite> {
        let is_own = |slice: &WriteSlice| slice.range.sequence == sequence;
        let mut ids = self.of_delivery(sequence);
        ids.retain(|own| *own <= id && self.writes[own].slices().iter().all(is_own));
        ids.into_iter().filter_map(|own| self.remove(own)).collect()
    }

    /// Takes out what was tried as often as it may be.
    pub fn exhausted(&mut self, attempts: u32) -> Vec<WindowWrite> {
        self.take_if(|entry| entry.attempts() >= attempts)
    }

    /// Takes out what the session that is open now was given.
    pub fn take_sent(&mut self) -> Vec<WindowWrite> {
        self.take_if(WindowWrite::is_sent)
    }

    pub fn take_all(&mut self) -> Vec<WindowWrite> {
        self.begins.clear();
        self.marked.clear();
        std::mem::take(&mut self.writes).into_values().collect()
    }

    /// Cuts out what is gone, wherever nobody counts rows by their place.
    pub fn tidy(&mut self) {
        for id in std::mem::take(&mut self.marked) {
            if let Some(entry) = self.writes.get_mut(&id) {
                entry.tidy();
            }
        }
    }

    // ---- what is here -------------------------------------------------------------------------

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &WindowWrite> {
        self.writes.values()
    }

    pub fn get(&self, id: u64) -> Option<&WindowWrite> {
        self.writes.get(&id)
    }

    pub fn contains(&self, id: u64) -> bool {
        self.writes.contains_key(&id)
    }

    pub fn front(&self) -> Option<&WindowWrite> {
        self.writes.values().next()
    }

    pub fn last_id(&self) -> Option<u64> {
        self.writes.keys().next_back().copied()
    }

    /// The last write with rows of deliveries up to `barrier`.
    pub fn last_id_up_to(&self, barrier: u64) -> Option<u64> {
        let began = self.begins.range(..=(barrier, u64::MAX)).rev();
        let mut ids = began.map(|(_, id)| *id);
        ids.find(|id| {
            let first = self.writes.get(id).and_then(|entry| entry.slices().first());
            first.is_some_and(|slice| slice.range.sequence <= barrier)
        })
    }

    pub fn len(&self) -> usize {
        self.writes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    // ---- the books ----------------------------------------------------------------------------

    fn insert(&mut self, entry: WindowWrite) {
        self.begins.insert((entry.began(), entry.id()));
        self.writes.insert(entry.id(), entry);
    }

    fn forget(&mut self, entry: &WindowWrite) {
        self.begins.remove(&(entry.began(), entry.id()));
        self.marked.remove(&entry.id());
    }

    fn after_mark(&mut self, id: u64) {
        self.marked.insert(id);
        self.remove_settled(id);
    }

    /// Left in the window, it would wait for an acknowledgement that has nothing more to say.
    fn remove_settled(&mut self, id: u64) {
        if self.writes.get(&id).is_some_and(WindowWrite::is_settled) {
            self.remove(id);
        }
    }

    /// The writes that hold rows of a delivery, settled or not, in order.
    fn of_delivery(&self, sequence: u64) -> Vec<u64> {
        let began = self.begins.range(..=(sequence, u64::MAX)).rev();
        let ids = began.map(|(_, id)| *id).take_while(|id| {
            let last = self.writes.get(id).and_then(|entry| entry.slices().last());
            last.is_some_and(|slice| slice.range.sequence >= sequence)
        });
        let mut ids: Vec<u64> = ids.collect();
        ids.reverse();
        ids
    }

    fn take_if(&mut self, out: impl Fn(&WindowWrite) -> bool) -> Vec<WindowWrite> {
        let ids = self
            .writes
            .values()
            .filter(|entry| out(entry))
            .map(WindowWrite::id);
        let ids: Vec<u64> = ids.collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::write::{History, WriteState};
    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(Vec<usize>),
        /// So many writes are put on their way, and so many of those are given.
        Send(usize, usize),
        Partly(usize, usize),
        Through(usize),
        Remove(usize),
        Rewind(bool),
        LookedFor,
        TakeBack(u64),
        GiveUp(u64),
        Blame(usize, Vec<u64>),
        Cut(usize, usize),
        Refund,
        Exhausted(u32),
        Tidy,
    }

    fn step() -> impl Strategy<Value = Step> {
        let rows = prop::collection::vec(0u64..30, 1..5);
        prop_oneof![
            4 => prop::collection::vec(1usize..9, 1..4).prop_map(Step::Push),
            4 => (0usize..4, 0usize..4).prop_map(|(queued, sent)| Step::Send(queued, sent)),
            3 => (0usize..3, 0usize..30).prop_map(|(which, rows)| Step::Partly(which, rows)),
            2 => (0usize..4).prop_map(Step::Through),
            1 => (0usize..4).prop_map(Step::Remove),
            2 => any::<bool>().prop_map(Step::Rewind),
            1 => Just(Step::LookedFor),
            2 => (1u64..30).prop_map(Step::TakeBack),
            1 => (1u64..30).prop_map(Step::GiveUp),
            1 => (0usize..4, rows).prop_map(|(which, rows)| Step::Blame(which, rows)),
            1 => (0usize..4, 0usize..30).prop_map(|(which, rows)| Step::Cut(which, rows)),
            1 => Just(Step::Refund),
            1 => (2u32..6).prop_map(Step::Exhausted),
            1 => Just(Step::Tidy),
        ]
    }

    /// A write of as many deliveries as there are counts; row `r` of delivery `s` is `100 s + r`.
    fn draft(sequence: &mut u64, counts: &[usize]) -> WriteDraft {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let mut values = Vec::new();
        let mut ranges = Vec::new();
        for rows in counts {
            *sequence += 1;
            values.extend((0..*rows).map(|row| *sequence as i64 * 100 + row as i64));
            ranges.push(RowRange {
                sequence: *sequence,
                first_row: 0,
                rows: *rows,
            });
        }
        let rows = values.len();
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        let whole = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
        // Cut where no delivery ends.
        let cut = rows / 2;
        WriteDraft {
            schema,
            batches: vec![whole.slice(0, cut), whole.slice(cut, rows - cut)],
            ranges,
            rows,
            bytes: rows * 8,
        }
    }

    fn rows_in<'a>(ranges: impl IntoIterator<Item = &'a RowRange>) -> Vec<i64> {
        ranges
            .into_iter()
            .flat_map(|s| (s.first_row..s.first_row + s.rows).map(|row| s.sequence as i64 * 100 + row as i64))
            .collect()
    }

    fn open_rows(slices: &[WriteSlice]) -> Vec<i64> {
        let open = slices.iter().filter(|slice| !slice.settled);
        rows_in(open.map(|slice| &slice.range))
    }

    fn rows_written(write: &Write) -> Vec<i64> {
        write
            .batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect()
    }

    fn fault(row: u64) -> Error {
        Error::new(crate::error::Code::BatchInvalid, "not like this").at_row(row)
    }

    fn id_of(window: &Window, which: usize) -> u64 {
        window.iter().nth(which).map_or(0, WindowWrite::id)
    }

    proptest! {
        /// every row leaves once, whatever its neighbours do, and a write says truly which rows it holds.
        #[test]
        fn every_row_leaves_once(steps in prop::collection::vec(step(), 1..60)) {
            let now = Instant::now();
            let mut window = Window::divisible();
            let mut sequence = 0;
            let (mut admitted_delivery, mut left) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Push(counts) => {
                        let draft = draft(&mut sequence, &counts);
                        admitted_delivery.extend(rows_in(&draft.ranges));
                        window.push(draft);
                    }
                    Step::Send(queued, sent) => {
                        let mut ids = Vec::new();
                        while ids.len() < queued && let Some(write) = window.queue_next(u64::MAX) {
                            prop_assert!(ids.is_empty() || ids.last() < Some(&write.id));
                            ids.push(write.id);
                        }
                        let untaken = window.iter().find(|p| matches!(p.state(), WriteState::Queued(_))).map(WindowWrite::id);
                        let ids: Vec<u64> = window.iter().map(WindowWrite::id).filter(|id| Some(*id) >= untaken && untaken.is_some()).collect();
                        for id in ids.into_iter().take(sent) {
                            if matches!(window.get(id).unwrap().state(), WriteState::Queued(_)) {
                                let history = window.get(id).unwrap().state();
                                let attempts = window.get(id).unwrap().attempts();
                                let sent = window.mark_sent(id, now).unwrap();
                                prop_assert_eq!(sent.anew, history == WriteState::Queued(History::Untried));
                                prop_assert_eq!(sent.entry.attempts(), attempts + 1);
                            }
                        }
                    }
                    Step::Partly(which, rows) => {
                        let id = id_of(&window, which);
                        let queued = window.get(id).is_some_and(|p| matches!(p.state(), WriteState::Queued(_)));
                        let slices = window.partly(id, rows);
                        prop_assert!(!queued || slices.is_empty(), "the session cannot know of it");
                        left.extend(open_rows(&slices));
                    }
                    Step::Through(which) => {
                        let id = id_of(&window, which);
                        for entry in window.through(id) {
                            prop_assert!(entry.id() <= id);
                            left.extend(open_rows(&entry.into_shares()));
                        }
                    }
                    Step::Remove(which) => {
                        let id = id_of(&window, which);
                        left.extend(window.remove(id).iter().flat_map(|p| rows_in(p.ranges())));
                    }
                    Step::Rewind(ambiguous) => {
                        let doubt: Vec<(u64, bool)> = window
                            .iter()
                            .map(|p| (p.id(), p.is_in_doubt() || ambiguous && p.is_sent()))
                            .collect();
                        window.rewind(ambiguous);
                        prop_assert!(window.iter().all(|p| p.is_waiting() && p.done_rows() == 0));
                        let now: Vec<_> = window.iter().map(|p| (p.id(), p.is_in_doubt())).collect();
                        prop_assert_eq!(now, doubt);
                        prop_assert!(window.first_queued_or_sent().is_none() && window.last_sent().is_none());
                    }
                    Step::LookedFor => {
                        window.looked_for();
                        prop_assert!(!window.iter().any(|p| p.is_waiting() && p.is_in_doubt()));
                    }
                    Step::Blame(which, rows) => {
                        let id = id_of(&window, which);
                        let written = window.get(id).map_or(Vec::new(), |p| rows_written(&p.write));
                        let before: Vec<i64> = window.get(id).map_or(Vec::new(), |p| rows_in(p.ranges()));
                        let faults = rows.iter().map(|row| fault(*row)).collect();
                        let mut out = Vec::new();
                        for failed in window.blame(id, faults, now) {
                            out.extend(rows_in(&failed.ranges));
                            let own_row = failed.error.row().unwrap();
                            for range in &failed.ranges {
                                let named = range.sequence as i64 * 100 + own_row as i64;
                                prop_assert!(rows.iter().any(|row| written.get(*row as usize) == Some(&named)));
                            }
                        }
                        // Nobody else left.
                        let after: Vec<i64> = window.get(id).map_or(Vec::new(), |p| rows_in(p.ranges()));
                        prop_assert_eq!(after.len() + out.len(), before.len());
                        left.extend(out);
                        window.rewind(false);
                    }
                    Step::Cut(which, rows) => {
                        let id = id_of(&window, which);
                        window.rewind(false);
                        window.cut(id, rows);
                    }
                    Step::TakeBack(sequence) => {
                        let taken = window.take_back(sequence);
                        prop_assert!(taken.iter().all(|range| range.sequence == sequence));
                        left.extend(rows_in(&taken));
                        let free = window.iter().filter(|p| p.is_free()).flat_map(WindowWrite::ranges);
                        prop_assert!(!free.into_iter().any(|range| range.sequence == sequence));
                    }
                    Step::GiveUp(sequence) => {
                        window.rewind(true);
                        for failed in window.give_up(sequence, &fault(0), now) {
                            left.extend(rows_in(&failed.ranges));
                        }
                        prop_assert!(!window.iter().flat_map(WindowWrite::ranges).any(|s| s.sequence == sequence));
                    }
                    Step::Refund => window.refund_tries(),
                    Step::Exhausted(attempts) => {
                        for entry in window.exhausted(attempts) {
                            prop_assert!(entry.attempts() >= attempts);
                            left.extend(rows_in(entry.ranges()));
                        }
                    }
                    Step::Tidy => window.tidy(),
                }
                let ids: Vec<u64> = window.iter().map(WindowWrite::id).collect();
                prop_assert!(ids.is_sorted_by(|a, b| a < b) && window.last_id() == ids.last().copied());
                prop_assert_eq!(window.begins.len(), window.len());
                prop_assert!(window.marked.iter().all(|id| window.contains(*id)));
                for entry in window.iter() {
                    let rows = rows_written(&entry.write);
                    prop_assert_eq!(rows.len(), entry.write.rows);
                    let slices = entry.slices().iter().map(|slice| &slice.range);
                    prop_assert_eq!(&rows[entry.done_rows()..], &rows_in(slices)[..]);
                    prop_assert!(!entry.is_settled());
                }
            }
            left.extend(window.take_all().iter().flat_map(|p| rows_in(p.ranges())));
            left.sort_unstable();
            prop_assert_eq!(left, admitted_delivery);
            prop_assert!(window.is_empty() && window.front().is_none());
        }
    }

    #[test]
    fn exhausted_by_attempts() {
        let now = Instant::now();
        let mut sequence = 0;
        let mut window = Window::default();
        for _ in 0..3 {
            window.push(draft(&mut sequence, &[1]));
        }
        window.queue_next(u64::MAX);
        for _ in 0..2 {
            window.count_try(now);
        }
        window.mark_sent(1, now);
        let ids = |out: Vec<WindowWrite>| out.iter().map(WindowWrite::id).collect::<Vec<_>>();
        assert_eq!(ids(window.exhausted(3)), [1]);
        assert_eq!(ids(window.exhausted(2)), [2, 3]);
    }

    #[test]
    fn a_verdict_tells_what_the_tries_came_to() {
        let now = Instant::now();
        let mut window = Window::default();
        window.push(draft(&mut 0, &[2]));
        let error = Error::new(crate::error::Code::Unavailable, "away").ambiguous();
        let verdict = |window: &Window| window.get(1).unwrap().verdict(&error, now);
        // No session was given it, whatever may have become of others.
        assert!(!verdict(&window).is_ambiguous());
        for _ in 0..4 {
            window.queue_next(u64::MAX);
            window.mark_sent(1, now);
            assert!(verdict(&window).is_ambiguous());
            window.rewind(true);
        }
        assert!(verdict(&window).is_ambiguous() && verdict(&window).attempts() == 4);
        window.looked_for();
        assert!(!verdict(&window).is_ambiguous());
        assert_eq!(window.last_id_up_to(0), None);
        assert_eq!(window.last_id_up_to(1), Some(1));
        assert!(window.partly(9, 1).is_empty());
    }

    /// what is counted is what is looked at, not time.
    #[test]
    fn taking_back_all_deliveries_of_a_write_one_by_one_costs_what_they_are() {
        let mut window = Window::default();
        let mut sequence = 0;
        const N: usize = 4_000;
        window.push(draft(&mut sequence, &[1; N]));
        let mut cuts = 0;
        let mut write = Arc::downgrade(&window.get(1).unwrap().write);
        for sequence in 1..=N as u64 {
            assert_eq!(window.take_back(sequence).len(), 1);
            let now = window.get(1).map(|entry| Arc::downgrade(&entry.write));
            if let Some(now) = now.filter(|now| !now.ptr_eq(&write)) {
                write = now;
                cuts += 1;
            }
        }
        assert!(window.is_empty());
        // Each time half of what is left.
        assert!(cuts <= N.ilog2() + 1, "the write was cut {cuts} times");
    }
}
