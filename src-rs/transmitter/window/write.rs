//! One write and where it stands.
//!
//! | state | what it says | becomes |
//! |---|---|---|
//! | `Waiting(past)` | no session has it | `Queued(past)` when it is put on its way to the open session |
//! | `Queued(past)` | on its way to the open session, which was not given it yet | `Given` when it is given; `Waiting(past)` when the session is gone |
//! | `Given` | the open session was given it | `Waiting(Tried)` or `Waiting(InDoubt)` when the session is gone |
//!
//! | past | what it says of earlier sessions | becomes |
//! |---|---|---|
//! | `Untried` | none was given it: no row is held | `Tried`, `InDoubt` through `Given` |
//! | `Tried` | one was, and nothing of it is held but what was settled | `InDoubt` through `Given` |
//! | `InDoubt` | one was, and rows of it may be held | `Tried` when a destination has looked and the rows are not there |
//!
//! Nothing else stands together: what was given is tried, what was never given is not in doubt, and only
//! the session that was given a write says that its first rows are done. What is settled leaves the window.
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
pub enum State {
    Waiting(Past),
    Queued(Past),
    Given {
        /// Rows of an earlier try may be held.
        in_doubt: bool,
        /// Rows at its start that this session has made durable, already settled.
        done_rows: usize,
    },
}

/// What earlier sessions have left of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    Untried,
    Tried,
    InDoubt,
}

/// How often a write was tried, and since when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    count: u32,
    first: Option<Instant>,
}

/// Rows of one delivery in a write, in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteSlice {
    pub range: RowRange,
    /// They are settled: nobody waits for them, though they may be sent.
    pub gone: bool,
}

#[derive(Debug, Clone)]
pub struct WindowWrite {
    pub write: Arc<Write>,
    pub schema: SchemaRef,
    /// In order. Whose rows the write holds behind its done rows.
    slices: Vec<WriteSlice>,
    /// The first delivery that it held.
    began: u64,
    gone_rows: usize,
    tries: Tries,
    state: State,
}

impl State {
    fn queued(self) -> State {
        match self {
            State::Waiting(past) => State::Queued(past),
            other => other,
        }
    }

    fn given(self) -> State {
        match self {
            State::Waiting(past) | State::Queued(past) => State::Given {
                in_doubt: past == Past::InDoubt,
                done_rows: 0,
            },
            given => given,
        }
    }

    /// The session is gone; `ambiguous` says that rows which it was given may be held.
    fn rewound(self, ambiguous: bool) -> State {
        match self {
            State::Given { in_doubt, .. } if in_doubt || ambiguous => State::Waiting(Past::InDoubt),
            State::Given { .. } => State::Waiting(Past::Tried),
            State::Waiting(past) | State::Queued(past) => State::Waiting(past),
        }
    }

    /// The destination has looked, and rows that it does not name are not there.
    fn looked_for(self) -> State {
        match self {
            State::Waiting(Past::InDoubt) => State::Waiting(Past::Tried),
            other => other,
        }
    }
}

impl Tries {
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
        let slice = |range| WriteSlice { range, gone: false };
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
            gone_rows: 0,
            tries: Tries::default(),
            state: State::Waiting(Past::Untried),
        }
    }

    pub fn id(&self) -> u64 {
        self.write.id
    }

    /// The first delivery that it held when it came here.
    pub(super) fn began(&self) -> u64 {
        self.began
    }

    pub fn is_given(&self) -> bool {
        matches!(self.state, State::Given { .. })
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Rows of an earlier session may be held.
    pub fn is_in_doubt(&self) -> bool {
        matches!(
            self.state,
            State::Waiting(Past::InDoubt)
                | State::Queued(Past::InDoubt)
                | State::Given { in_doubt: true, .. }
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
            State::Given { done_rows, .. } => done_rows,
            State::Waiting(_) | State::Queued(_) => 0,
        }
    }

    pub fn attempts(&self) -> u32 {
        self.tries.count
    }

    pub fn slices(&self) -> &[WriteSlice] {
        &self.slices
    }

    /// What of it nobody has settled.
    pub fn ranges(&self) -> impl Iterator<Item = &RowRange> {
        let open = self.slices.iter().filter(|slice| !slice.gone);
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
        self.slices.iter().all(|slice| slice.gone)
    }

    // ---- transitions --------------------------------------------------------------------------

    pub(super) fn queue(&mut self) {
        self.state = self.state.queued();
    }

    /// Whether no session was given it before.
    pub(super) fn give(&mut self, now: Instant) -> bool {
        let anew = matches!(
            self.state,
            State::Waiting(Past::Untried) | State::Queued(Past::Untried)
        );
        self.state = self.state.given();
        self.tries.begin(now);
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
        self.tries.begin(now);
    }

    pub(super) fn refund_try(&mut self) {
        self.tries.refund();
    }

    // ---- rows ---------------------------------------------------------------------------------

    /// The first `rows` rows, counted as it was sent, are durable. Gives the slices that this reaches.
    pub(super) fn partly(&mut self, rows: usize) -> Vec<WriteSlice> {
        let fresh = rows.min(self.write.rows).saturating_sub(self.done_rows());
        match &mut self.state {
            State::Given { done_rows, .. } => {
                *done_rows += fresh;
                self.take_rows(fresh)
            }
            // Of an earlier session, which nobody sends it to any more.
            State::Waiting(_) => {
                self.cut_front(fresh);
                self.take_rows(fresh)
            }
            // The session cannot know of it.
            State::Queued(_) => Vec::new(),
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
            if !std::mem::replace(&mut slice.gone, true) {
                self.gone_rows += slice.range.rows;
                marked.push(slice.range);
            }
        }
        if self.is_free() && self.gone_rows * 2 > self.write.rows && self.gone_rows < self.write.rows {
            self.tidy();
        }
        marked
    }

    /// Cuts out what is gone, where that changes nobody's count.
    pub(super) fn tidy(&mut self) {
        if self.gone_rows == 0 || !self.is_free() {
            return;
        }
        let kept = self.runs(|slice| !slice.gone);
        self.write = Arc::new(rest_of(&self.write, pick(&self.write.batches, kept)));
        self.slices.retain(|slice| !slice.gone);
        self.gone_rows = 0;
    }

    /// Takes deliveries out, which are given by index in `slices`; the rest stays. The session is gone, or
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
        self.count_gone();
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
        front.count_gone();
        self.cut_front(rows);
        front
    }

    /// The error that its rows end with, carrying what its tries came to. `error` ended the session, if
    /// that is not gone yet.
    pub fn verdict(&self, error: &Error, now: Instant) -> Error {
        let in_doubt = self.is_in_doubt() || self.is_given() && error.is_ambiguous();
        let error = error.clone().after(self.tries.count, self.tries.elapsed(now));
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
                gone: slice.gone,
            });
            rows -= count;
            slice.range.first_row += count;
            slice.range.rows -= count;
            whole += usize::from(slice.range.rows == 0);
        }
        self.slices.drain(..whole);
        self.count_gone();
        taken
    }

    fn count_gone(&mut self) {
        let gone = self.slices.iter().filter(|slice| slice.gone);
        self.gone_rows = gone.map(|slice| slice.range.rows).sum();
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

    const STATES: [State; 8] = [
        State::Waiting(Past::Untried),
        State::Waiting(Past::Tried),
        State::Waiting(Past::InDoubt),
        State::Queued(Past::Untried),
        State::Queued(Past::Tried),
        State::Queued(Past::InDoubt),
        State::Given {
            in_doubt: false,
            done_rows: 0,
        },
        State::Given {
            in_doubt: true,
            done_rows: 3,
        },
    ];

    /// The table at the top, line by line.
    #[test]
    fn states_change_as_the_table_says() {
        use Past::{InDoubt, Tried, Untried};
        use State::{Queued, Waiting};
        let given = |in_doubt| State::Given {
            in_doubt,
            done_rows: 0,
        };
        let done = STATES[7];
        let all = |change: fn(State) -> State| STATES.map(change);
        let queued = [Queued(Untried), Queued(Tried), Queued(InDoubt)];
        let waiting = [Waiting(Untried), Waiting(Tried), Waiting(InDoubt)];
        assert_eq!(
            all(State::queued),
            [
                queued[0],
                queued[1],
                queued[2],
                queued[0],
                queued[1],
                queued[2],
                given(false),
                done
            ]
        );
        let to = [given(false), given(false), given(true)];
        assert_eq!(
            all(State::given),
            [to[0], to[1], to[2], to[0], to[1], to[2], given(false), done]
        );
        let back = |end| {
            [
                waiting[0], waiting[1], waiting[2], waiting[0], waiting[1], waiting[2], end, waiting[2],
            ]
        };
        assert_eq!(all(|state| state.rewound(false)), back(waiting[1]));
        assert_eq!(all(|state| state.rewound(true)), back(waiting[2]));
        let looked = all(State::looked_for);
        assert_eq!(looked[2], waiting[1]);
        for index in [0, 1, 3, 4, 5, 6, 7] {
            assert_eq!(looked[index], STATES[index]);
        }
    }

    #[test]
    fn a_try_that_was_none_leaves_no_trace() {
        let now = Instant::now();
        let mut tries = Tries::default();
        tries.begin(now);
        tries.begin(now + Duration::from_secs(1));
        tries.refund();
        assert_eq!(
            (tries.count, tries.elapsed(now + Duration::from_secs(3))),
            (1, Duration::from_secs(3))
        );
        tries.refund();
        tries.refund();
        assert_eq!(tries, Tries::default());
    }
}
