//! One write and where it stands.
//!
//! | state | what it says | becomes |
//! |---|---|---|
//! | `Waiting(history)` | no session has it | `Queued(history)` when it is put on its way to the open session |
//! | `Queued(history)` | on its way to the open session, which was not sent it yet | `Sent` when it is sent; `Waiting(history)` when the session is gone |
//! | `Sent` | the open session was sent it | `Waiting(Tried)` or `Waiting(InDoubt)` when the session is gone |
//!
//! | history | what it says of earlier sessions | becomes |
//! |---|---|---|
//! | `Untried` | none was sent it: no row is held | `Tried`, `InDoubt` through `Sent` |
//! | `Tried` | one was, and nothing of it is held but what was settled | `InDoubt` through `Sent` |
//! | `InDoubt` | one was, and rows of it may be held | `Tried` when a destination has looked and the rows are not there |
//!
//! Nothing else stands together: what was sent is tried, what was never sent is not in doubt, and only
//! the session that was sent a write says that its first rows are done. What is settled leaves the window.
//!
//! Invariants:
//! - Rows are settled from their place in the write as it was sent. So rows that left early (aborted, too
//!   late) are marked as gone first, and are cut out only while nobody counts by that place: while no
//!   session has the write and nothing of it is in doubt.
//! - Marks cost what they mark. Cutting costs what the write holds, and is done before a write is sent
//!   and when most of it is gone.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::destination::Write;
use crate::error::Error;
use crate::outcome::RowRange;
use crate::transmitter::batcher::WriteDraft;

/// Rows that end, and the error that they end with.
pub struct FailedRanges {
    pub ranges: Vec<RowRange>,
    pub error: Error,
}

/// Where a write stands with the session that is open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteState {
    Waiting(History),
    Queued(History),
    Sent {
        /// Rows of an earlier try may be held.
        in_doubt: bool,
        /// Rows at its start that this session has made durable, already settled.
        done_rows: usize,
    },
}

/// What earlier sessions have left of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    Untried,
    Tried,
    InDoubt,
}

/// How often a write was tried, and since when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    count: u32,
    first: Option<Instant>,
}

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

impl WriteState {
    fn queued(self) -> WriteState {
        match self {
            WriteState::Waiting(history) => WriteState::Queued(history),
            other => other,
        }
    }

    fn sent(self) -> WriteState {
        match self {
            WriteState::Waiting(history) | WriteState::Queued(history) => WriteState::Sent {
                in_doubt: history == History::InDoubt,
                done_rows: 0,
            },
            sent => sent,
        }
    }

    /// The session is gone; `ambiguous` says that rows which it was sent may be held.
    fn rewound(self, ambiguous: bool) -> WriteState {
        match self {
            WriteState::Sent { in_doubt, .. } if in_doubt || ambiguous => {
                WriteState::Waiting(History::InDoubt)
            }
            WriteState::Sent { .. } => WriteState::Waiting(History::Tried),
            WriteState::Waiting(history) | WriteState::Queued(history) => WriteState::Waiting(history),
        }
    }

    /// The destination has looked, and rows that it does not name are not there.
    fn looked_for(self) -> WriteState {
        match self {
            WriteState::Waiting(History::InDoubt) => WriteState::Waiting(History::Tried),
            other => other,
        }
    }
}

impl Attempts {
    fn begin(&mut self, now: Instant) {
        self.count += 1;
        self.first.get_or_insert(now);
    }

    /// The last one was no try: what ended it was no failure of this write.
    fn refund(&mut self) {
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            self.first = None;
        }
    }

    fn elapsed(self, now: Instant) -> Duration {
        self.first
            .map_or(Duration::ZERO, |first| now.saturating_duration_since(first))
    }
}

impl WindowWrite {
    pub fn new(id: u64, draft: WriteDraft) -> WindowWrite {
        let slice = |range| WriteSlice {
            range,
            settled: false,
        };
        WindowWrite {
            write: Arc::new(Write {
                id,
                batches: draft.batches,
                rows: draft.rows,
                bytes: draft.bytes,
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
        self.attempts.count
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
    pub fn into_shares(self) -> Vec<WriteSlice> {
        self.slices
    }

    pub fn is_settled(&self) -> bool {
        self.slices.iter().all(|slice| slice.settled)
    }

    // ---- transitions --------------------------------------------------------------------------

    pub(super) fn queue(&mut self) {
        self.state = self.state.queued();
    }

    /// Whether no session was sent it before.
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

    /// Marks what it holds of a delivery. Gives what was not gone before.
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

    /// Cuts out what is gone, where that changes nobody's count.
    pub(super) fn tidy(&mut self) {
        if self.settled_rows == 0 || !self.is_free() {
            return;
        }
        let kept = self.runs(|slice| !slice.settled);
        self.write = Arc::new(rest_of(&self.write, pick(&self.write.batches, kept)));
        self.slices.retain(|slice| !slice.settled);
        self.settled_rows = 0;
    }

    /// Takes deliveries out, which are sent by index in `slices`; the rest stays. The session is gone, or
    /// about to be.
    pub(super) fn take_out(&mut self, own: impl Fn(u64) -> bool) -> Vec<WriteSlice> {
        let done = self.done_rows();
        let kept = self.runs(|slice| !own(slice.range.sequence));
        let kept = std::iter::once(0..done).chain(kept);
        self.write = Arc::new(rest_of(&self.write, pick(&self.write.batches, kept)));
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
                ..rest_of(&self.write, pick(&self.write.batches, std::iter::once(0..rows)))
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
            .after(self.attempts.count, self.attempts.elapsed(now));
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
            let left = pick(&self.write.batches, std::iter::once(rows..self.write.rows));
            self.write = Arc::new(rest_of(&self.write, left));
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
        let gone = self.slices.iter().filter(|slice| slice.settled);
        self.settled_rows = gone.map(|slice| slice.range.rows).sum();
    }
}

/// Neighbouring ranges as one.
pub fn runs(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match runs.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => runs.push(range),
        }
    }
    runs
}

/// Some rows of a row of batches, by ascending ranges, not copied.
pub fn pick(batches: &[RecordBatch], ranges: impl IntoIterator<Item = Range<usize>>) -> Vec<RecordBatch> {
    let mut found = Vec::new();
    let mut batches = batches.iter();
    let mut batch = batches.next();
    // The row at which `batch` begins.
    let mut start = 0;
    for range in ranges {
        let mut row = range.start;
        while row < range.end
            && let Some(current) = batch
        {
            let end = start + current.num_rows();
            if row < end {
                let length = end.min(range.end) - row;
                found.push(current.slice(row - start, length));
                row += length;
            }
            if row >= end {
                start = end;
                batch = batches.next();
            }
        }
    }
    found
}

/// The same write with fewer rows.
fn rest_of(write: &Write, batches: Vec<RecordBatch>) -> Write {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    Write {
        id: write.id,
        batches,
        rows,
        bytes: (write.bytes as u128 * rows as u128 / write.rows.max(1) as u128) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [WriteState; 8] = [
        WriteState::Waiting(History::Untried),
        WriteState::Waiting(History::Tried),
        WriteState::Waiting(History::InDoubt),
        WriteState::Queued(History::Untried),
        WriteState::Queued(History::Tried),
        WriteState::Queued(History::InDoubt),
        WriteState::Sent {
            in_doubt: false,
            done_rows: 0,
        },
        WriteState::Sent {
            in_doubt: true,
            done_rows: 3,
        },
    ];

    /// The table at the top, line by line.
    #[test]
    fn states_change_as_the_table_says() {
        use History::{InDoubt, Tried, Untried};
        use WriteState::{Queued, Waiting};
        let sent = |in_doubt| WriteState::Sent {
            in_doubt,
            done_rows: 0,
        };
        let done = STATES[7];
        let all = |change: fn(WriteState) -> WriteState| STATES.map(change);
        let queued = [Queued(Untried), Queued(Tried), Queued(InDoubt)];
        let waiting = [Waiting(Untried), Waiting(Tried), Waiting(InDoubt)];
        assert_eq!(
            all(WriteState::queued),
            [
                queued[0],
                queued[1],
                queued[2],
                queued[0],
                queued[1],
                queued[2],
                sent(false),
                done
            ]
        );
        let to = [sent(false), sent(false), sent(true)];
        assert_eq!(
            all(WriteState::sent),
            [to[0], to[1], to[2], to[0], to[1], to[2], sent(false), done]
        );
        let back = |end| {
            [
                waiting[0], waiting[1], waiting[2], waiting[0], waiting[1], waiting[2], end, waiting[2],
            ]
        };
        assert_eq!(all(|state| state.rewound(false)), back(waiting[1]));
        assert_eq!(all(|state| state.rewound(true)), back(waiting[2]));
        let looked = all(WriteState::looked_for);
        assert_eq!(looked[2], waiting[1]);
        for index in [0, 1, 3, 4, 5, 6, 7] {
            assert_eq!(looked[index], STATES[index]);
        }
    }

    #[test]
    fn a_try_that_was_none_leaves_no_trace() {
        let now = Instant::now();
        let mut attempts = Attempts::default();
        attempts.begin(now);
        attempts.begin(now + Duration::from_secs(1));
        attempts.refund();
        assert_eq!(
            (attempts.count, attempts.elapsed(now + Duration::from_secs(3))),
            (1, Duration::from_secs(3))
        );
        attempts.refund();
        attempts.refund();
        assert_eq!(attempts, Attempts::default());
    }
}
