//! Writes handed to the destination and not acknowledged, in order. Pure.
//!
//! Invariants:
//! - All writes in the window have one schema: the session is drained before another is opened.
//! - A write keeps its id in every replay; only rows that were acknowledged alone are cut off,
//!   and rows of a delivery that was aborted, refused or too late, while no session holds them.
//! - Where writes may be cut in two, an id is the number of rows up to the end of its write, so that any
//!   part of it has an id of its own between those of its neighbours, and the last part keeps the id of
//!   the whole: an id names a last row, whatever was cut before it. Where rows come from a log, that row's place in
//!   the log is the id, so that it means the same to a later process.
//! - Ids and sequences grow together, so a write is found by either without looking at the others.
//! - A write of which everything is settled is not here.
//!
//! [`state`] has the table of the states of a write. The window calls no session: the engine does.

mod state;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::batcher::WriteDraft;
use crate::destination::Write;
use crate::error::Error;
use crate::outcome::RowRange;
use crate::transmitter::rows::FailedRanges;

pub use write::{WindowWrite, WriteSlice};

#[derive(Default)]
pub struct Window {
    writes: BTreeMap<u64, WindowWrite>,
    /// The first delivery of each write as it came, and the write's id. Rows leave from the front, so what
    /// is first may be later by now, and is never earlier.
    begins: BTreeSet<(u64, u64)>,
    /// Of which rows were marked as settled.
    marked: BTreeSet<u64>,
    /// Writes before it are on their way to the open session, or there.
    unqueued: u64,
    last_id: u64,
    /// Whether writes may be cut in two.
    divisible: bool,
    /// Whether an id is the position in a log that comes behind the write's last row.
    positioned: bool,
}

/// What a session is given.
pub struct SentWrite<'a> {
    pub entry: &'a WindowWrite,
    /// No earlier session was given it.
    pub anew: bool,
}

impl Window {
    /// `divisible`: its writes may be cut in two. `positioned`: their ids are positions in a log.
    pub fn new(divisible: bool, positioned: bool) -> Window {
        Window {
            divisible,
            positioned,
            ..Window::default()
        }
    }

    pub fn push(&mut self, draft: WriteDraft) {
        self.last_id = match (self.positioned, draft.ranges.last()) {
            (true, Some(last)) => last.sequence + (last.first_row + last.rows) as u64,
            _ if self.divisible => self.last_id + draft.rows as u64,
            _ => self.last_id + 1,
        };
        self.insert(WindowWrite::new(self.last_id, draft, self.positioned));
    }

    // ---- the session --------------------------------------------------------------------------

    /// The next write for the session, up to the one with the id `through`. What is settled is not sent.
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
    /// held stay in their write, so that other rows keep their place, and are marked as settled.
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
        let front_id = match entry.write.positions.is_empty() {
            true => id - left as u64,
            false => entry.write.position_behind(rows),
        };
        let front = entry.split_front(front_id, rows);
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

    /// Cuts out what is settled, wherever nobody counts rows by their place.
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

    /// Higher than the id of each write that there was.
    pub fn next_id(&self) -> u64 {
        self.last_id + 1
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

    // ---- the indexes --------------------------------------------------------------------------

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

    /// Takes out a write that is settled: no acknowledgement would ever take it out.
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
#[path = "../../../tests/rs/transmitter/parts/window.rs"]
mod tests;
