//! One write in the window: whose rows it holds, and in which place.
//!
//! Invariants:
//! - Rows are settled from their place in the write as it was sent. So rows that left early (aborted, too
//!   late) are marked as settled first, and are cut out only while nobody counts by that place: while no
//!   session has the write and nothing of it is in doubt.
//! - Marking takes time that grows with the slices marked, cutting with the slices of the write. Cutting is done
//!   before a write is sent and when most of it is settled.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::state::{Attempts, History, WriteState};
use crate::destination::Write;
use crate::error::Error;
use crate::outcome::RowRange;
use crate::transmitter::rows::{FailedRanges, pick, pick_positions, runs};
use crate::transmitter::writes::batcher::WriteDraft;

/// Rows of one delivery in a write, in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteSlice {
    pub range: RowRange,
    /// They are settled: nobody waits for them, though they may be sent.
    pub settled: bool,
}

#[derive(Debug, Clone)]
pub struct WindowWrite {
    pub write: Arc<Write>,
    pub schema: SchemaRef,
    /// In order. Whose rows the write holds behind its done rows.
    slices: Vec<WriteSlice>,
    /// The first delivery that it held.
    began: u64,
    settled_rows: usize,
    attempts: Attempts,
    state: WriteState,
}

impl WindowWrite {
    /// `positioned`: the sequence of a delivery is the position of its first row in a log.
    pub fn new(id: u64, draft: WriteDraft, positioned: bool) -> WindowWrite {
        let slice = |range| WriteSlice {
            range,
            settled: false,
        };
        let positions = match positioned {
            true => draft.positions(),
            false => Vec::new(),
        };
        WindowWrite {
            write: Arc::new(Write {
                id,
                batches: draft.batches,
                rows: draft.rows,
                bytes: draft.bytes,
                positions,
            }),
            schema: draft.schema,
            began: draft.ranges.first().map_or(0, |range| range.sequence),
            slices: draft.ranges.into_iter().map(slice).collect(),
            settled_rows: 0,
            attempts: Attempts::default(),
            state: WriteState::Waiting(History::Untried),
        }
    }

    pub fn id(&self) -> u64 {
        self.write.id
    }

    /// The first delivery that it held when it came here.
    pub(super) fn began(&self) -> u64 {
        self.began
    }

    pub fn is_sent(&self) -> bool {
        matches!(self.state, WriteState::Sent { .. })
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.state, WriteState::Waiting(_))
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> WriteState {
        self.state
    }

    /// Rows of an earlier session may be held.
    pub fn is_in_doubt(&self) -> bool {
        matches!(
            self.state,
            WriteState::Waiting(History::InDoubt)
                | WriteState::Queued(History::InDoubt)
                | WriteState::Sent { in_doubt: true, .. }
        )
    }

    /// Rows may be held, or about to be, by this session or an earlier one.
    pub fn may_be_held(&self) -> bool {
        !self.is_waiting() || self.is_in_doubt()
    }

    /// Nobody counts rows by their place in it.
    pub fn is_free(&self) -> bool {
        self.is_waiting() && !self.is_in_doubt()
    }

    /// Rows at its start, counted as it was sent, that are durable and already settled.
    pub fn done_rows(&self) -> usize {
        match self.state {
            WriteState::Sent { done_rows, .. } => done_rows,
            WriteState::Waiting(_) | WriteState::Queued(_) => 0,
        }
    }

    pub fn attempts(&self) -> u32 {
        self.attempts.count()
    }

    pub fn slices(&self) -> &[WriteSlice] {
        &self.slices
    }

    /// What of it nobody has settled.
    pub fn ranges(&self) -> impl Iterator<Item = &RowRange> {
        let open = self.slices.iter().filter(|slice| !slice.settled);
        open.map(|slice| &slice.range)
    }

    /// What nobody has settled, and the error that it ends with.
    pub fn ending(self, error: &Error, now: Instant) -> FailedRanges {
        FailedRanges {
            ranges: self.ranges().copied().collect(),
            error: self.verdict(error, now),
        }
    }

    /// Takes it apart, so that its memory can go before its outcomes are told.
    pub fn into_slices(self) -> Vec<WriteSlice> {
        self.slices
    }

    pub fn is_settled(&self) -> bool {
        self.slices.iter().all(|slice| slice.settled)
    }

    // ---- transitions --------------------------------------------------------------------------

    pub(super) fn queue(&mut self) {
        self.state = self.state.queued();
    }

    /// Whether no session was given it before.
    pub(super) fn mark_sent(&mut self, now: Instant) -> bool {
        let anew = matches!(
            self.state,
            WriteState::Waiting(History::Untried) | WriteState::Queued(History::Untried)
        );
        self.state = self.state.sent();
        self.attempts.begin(now);
        anew
    }

    pub(super) fn rewind(&mut self, ambiguous: bool) {
        self.cut_front(self.done_rows());
        self.state = self.state.rewound(ambiguous);
    }

    pub(super) fn looked_for(&mut self) {
        self.state = self.state.looked_for();
    }

    pub(super) fn count_try(&mut self, now: Instant) {
        self.attempts.begin(now);
    }

    pub(super) fn refund_try(&mut self) {
        self.attempts.refund();
    }

    // ---- rows ---------------------------------------------------------------------------------

    /// The first `rows` rows, counted as it was sent, are durable. Gives the slices that this reaches.
    pub(super) fn partly(&mut self, rows: usize) -> Vec<WriteSlice> {
        let fresh = rows.min(self.write.rows).saturating_sub(self.done_rows());
        match &mut self.state {
            WriteState::Sent { done_rows, .. } => {
                *done_rows += fresh;
                self.take_rows(fresh)
            }
            // Of an earlier session, which nobody sends it to any more.
            WriteState::Waiting(_) => {
                self.cut_front(fresh);
                self.take_rows(fresh)
            }
            // The session cannot know of it.
            WriteState::Queued(_) => Vec::new(),
        }
    }

    /// Marks what it holds of a delivery as settled. Gives what was not before.
    pub(super) fn mark(&mut self, sequence: u64) -> Vec<RowRange> {
        let start = self
            .slices
            .partition_point(|slice| slice.range.sequence < sequence);
        let own = self.slices[start..].iter_mut();
        let mut marked = Vec::new();
        for slice in own.take_while(|slice| slice.range.sequence == sequence) {
            if !std::mem::replace(&mut slice.settled, true) {
                self.settled_rows += slice.range.rows;
                marked.push(slice.range);
            }
        }
        if self.is_free() && self.settled_rows * 2 > self.write.rows && self.settled_rows < self.write.rows {
            self.tidy();
        }
        marked
    }

    /// Cuts out what is settled, where that changes nobody's count.
    pub(super) fn tidy(&mut self) {
        if self.settled_rows == 0 || !self.is_free() {
            return;
        }
        let kept = self.runs(|slice| !slice.settled);
        self.write = Arc::new(rest_of(&self.write, &kept));
        self.slices.retain(|slice| !slice.settled);
        self.settled_rows = 0;
    }

    /// Takes out the slices of deliveries that `own` names; the rest stays. The session is gone, or
    /// about to be.
    pub(super) fn take_out(&mut self, own: impl Fn(u64) -> bool) -> Vec<WriteSlice> {
        let done = self.done_rows();
        let kept = self.runs(|slice| !own(slice.range.sequence));
        let kept: Vec<Range<usize>> = std::iter::once(0..done).chain(kept).collect();
        self.write = Arc::new(rest_of(&self.write, &kept));
        let (out, kept): (Vec<WriteSlice>, Vec<WriteSlice>) = std::mem::take(&mut self.slices)
            .into_iter()
            .partition(|slice| own(slice.range.sequence));
        self.slices = kept;
        self.count_settled_rows();
        out
    }

    /// Cuts `rows` rows off its front, which become a write with the id `id`. No session has it.
    pub(super) fn split_front(&mut self, id: u64, rows: usize) -> WindowWrite {
        let mut front = WindowWrite {
            write: Arc::new(Write {
                id,
                ..rest_of(&self.write, std::slice::from_ref(&(0..rows)))
            }),
            schema: Arc::clone(&self.schema),
            slices: self.take_rows(rows),
            ..*self
        };
        front.count_settled_rows();
        self.cut_front(rows);
        front
    }

    /// The error that its rows end with, carrying what its tries came to. `error` ended the session, if
    /// that is not gone yet.
    pub fn verdict(&self, error: &Error, now: Instant) -> Error {
        let in_doubt = self.is_in_doubt() || self.is_sent() && error.is_ambiguous();
        let error = error
            .clone()
            .after(self.attempts.count(), self.attempts.elapsed(now));
        error.with_ambiguity(in_doubt)
    }

    /// Ranges of rows in the write, whose slices are wanted.
    fn runs(&self, wanted: impl Fn(&WriteSlice) -> bool) -> Vec<Range<usize>> {
        let mut end = self.done_rows();
        let places = self.slices.iter().map(|slice| {
            let start = end;
            end += slice.range.rows;
            (slice, start..end)
        });
        let wanted = places.filter(|(slice, _)| wanted(slice));
        runs(wanted.map(|(_, place)| place))
    }

    /// Cuts rows off the batches; the slices are cut by `take_rows`.
    fn cut_front(&mut self, rows: usize) {
        if rows > 0 {
            let left = rows..self.write.rows;
            self.write = Arc::new(rest_of(&self.write, std::slice::from_ref(&left)));
        }
    }

    /// Takes so many rows off the front of the slices.
    fn take_rows(&mut self, mut rows: usize) -> Vec<WriteSlice> {
        let mut taken = Vec::new();
        let mut whole = 0;
        for slice in &mut self.slices {
            if rows == 0 {
                break;
            }
            let count = slice.range.rows.min(rows);
            taken.push(WriteSlice {
                range: RowRange {
                    rows: count,
                    ..slice.range
                },
                settled: slice.settled,
            });
            rows -= count;
            slice.range.first_row += count;
            slice.range.rows -= count;
            whole += usize::from(slice.range.rows == 0);
        }
        self.slices.drain(..whole);
        self.count_settled_rows();
        taken
    }

    fn count_settled_rows(&mut self) {
        let settled = self.slices.iter().filter(|slice| slice.settled);
        self.settled_rows = settled.map(|slice| slice.range.rows).sum();
    }
}

/// The same write with these rows alone.
fn rest_of(write: &Write, kept: &[Range<usize>]) -> Write {
    let batches = pick(&write.batches, kept.iter().cloned());
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    Write {
        id: write.id,
        batches,
        rows,
        bytes: (write.bytes as u128 * rows as u128 / write.rows.max(1) as u128) as usize,
        positions: pick_positions(&write.positions, kept.iter().cloned()),
    }
}
