//! Writes handed to the destination and not acknowledged, in order. Pure.
//!
//! Invariants:
//! - All writes in the window have one schema: the session is drained before another is opened.
//! - A write keeps its id in every replay; only rows that were acknowledged alone are cut off,
//!   and rows of a delivery that was aborted or refused, while no session holds them.
//! - Where writes may be cut in two, an id is the number of rows up to the end of its write, so that any
//!   part of it has an id of its own between those of its neighbours, and the last part keeps the id of
//!   the whole: an id names a last row, whatever was cut before it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::batcher::Draft;
use crate::config::Retry;
use crate::destination::Write;
use crate::error::Error;
use crate::outcome::Segment;

#[derive(Default)]
pub struct Window {
    writes: VecDeque<Pending>,
    last_id: u64,
    /// Whether writes may be cut in two.
    divisible: bool,
}

pub struct Pending {
    pub write: Arc<Write>,
    pub schema: SchemaRef,
    pub segments: Vec<Segment>,
    /// Tries so far, the one under way included.
    pub attempts: u32,
    pub first_sent: Option<Instant>,
    /// On its way to the session that is open now.
    pub sent: bool,
    /// That session was given it: what becomes of the session concerns it.
    pub taken: bool,
    /// Some session was given it.
    pub ever_taken: bool,
    /// An attempt ended in such a way that the write may have landed.
    pub maybe_landed: bool,
    /// Rows at its start that are durable and already settled.
    done_rows: usize,
}

impl Window {
    /// A window whose writes may be cut in two.
    pub fn divisible() -> Window {
        Window {
            divisible: true,
            ..Window::default()
        }
    }

    pub fn push(&mut self, draft: Draft) {
        self.last_id += if self.divisible { draft.rows as u64 } else { 1 };
        self.writes.push_back(Pending {
            write: Arc::new(Write {
                id: self.last_id,
                batches: draft.batches,
                rows: draft.rows,
                bytes: draft.bytes,
            }),
            schema: draft.schema,
            segments: draft.segments,
            attempts: 0,
            first_sent: None,
            sent: false,
            taken: false,
            ever_taken: false,
            maybe_landed: false,
            done_rows: 0,
        });
    }

    /// Takes out every write up to `id`.
    pub fn through(&mut self, id: u64) -> Vec<Pending> {
        let count = self.writes.partition_point(|pending| pending.write.id <= id);
        self.writes.drain(..count).collect()
    }

    pub fn remove(&mut self, id: u64) -> Option<Pending> {
        let index = self.writes.iter().position(|pending| pending.write.id == id)?;
        self.writes.remove(index)
    }

    /// The first `rows` rows of write `id`, counted as it was sent, are durable. Returns the
    /// segments that this settles; the write stays for the rest.
    pub fn partly(&mut self, id: u64, rows: usize) -> Vec<Segment> {
        let Some(index) = self.writes.iter().position(|pending| pending.write.id == id) else {
            return Vec::new();
        };
        let pending = &mut self.writes[index];
        let fresh = rows.min(pending.write.rows).saturating_sub(pending.done_rows);
        pending.done_rows += fresh;
        let segments = take_rows(&mut pending.segments, fresh);
        if pending.segments.is_empty() {
            // Left in the window, it would wait for an acknowledgement that has nothing more to say.
            self.writes.remove(index);
        }
        segments
    }

    /// Takes the rows of a delivery out of the writes that no session holds, now or perhaps.
    pub fn take_back(&mut self, sequence: u64) -> Vec<Segment> {
        let mut taken = Vec::new();
        for pending in &mut self.writes {
            let is_own = |segment: &Segment| segment.sequence == sequence;
            if pending.sent || pending.maybe_landed || !pending.segments.iter().any(is_own) {
                continue;
            }
            let mut batches = Vec::new();
            let mut start = 0;
            for segment in &pending.segments {
                if !is_own(segment) {
                    batches.extend(rows_of(&pending.write.batches, start, segment.rows));
                }
                start += segment.rows;
            }
            let (own, kept) = pending.segments.iter().partition(|segment| is_own(segment));
            pending.write = Arc::new(rest_of(&pending.write, batches));
            pending.segments = kept;
            taken.extend::<Vec<Segment>>(own);
        }
        self.writes.retain(|pending| pending.write.rows > 0);
        taken
    }

    /// Takes the delivery that holds row `row` of write `id`, counted as it was sent, out of that write,
    /// which stays for the others. The row comes back as one of the delivery. The session is gone.
    pub fn blame(&mut self, id: u64, row: u64) -> Option<(Pending, u64)> {
        let row = usize::try_from(row).ok()?;
        let index = self.writes.iter().position(|pending| pending.write.id == id)?;
        let pending = &mut self.writes[index];
        let mut end = pending.done_rows;
        let (sequence, own_row) = pending.segments.iter().find_map(|segment| {
            let start = end;
            end += segment.rows;
            (start..end)
                .contains(&row)
                .then(|| (segment.sequence, row - start + segment.first_row))
        })?;
        let is_own = |segment: &Segment| segment.sequence == sequence;
        if pending.segments.iter().all(is_own) {
            return Some((self.writes.remove(index)?, own_row as u64));
        }
        let mut batches = rows_of(&pending.write.batches, 0, pending.done_rows);
        let mut start = pending.done_rows;
        for segment in &pending.segments {
            if !is_own(segment) {
                batches.extend(rows_of(&pending.write.batches, start, segment.rows));
            }
            start += segment.rows;
        }
        let kept = Arc::new(rest_of(&pending.write, batches));
        let (own, others) = pending.segments.iter().partition(|segment| is_own(segment));
        pending.segments = others;
        let refused = Pending {
            write: std::mem::replace(&mut pending.write, kept),
            schema: Arc::clone(&pending.schema),
            segments: own,
            ..*pending
        };
        Some((refused, own_row as u64))
    }

    /// Cuts write `id` in two after `rows` rows. The session is gone.
    pub fn cut(&mut self, id: u64, rows: usize) {
        let Some(index) = self.writes.iter().position(|pending| pending.write.id == id) else {
            return;
        };
        let pending = &mut self.writes[index];
        let left = pending.write.rows.saturating_sub(rows);
        if !self.divisible || rows == 0 || left == 0 {
            return;
        }
        let write = Arc::clone(&pending.write);
        pending.write = Arc::new(rest_of(&write, rows_of(&write.batches, rows, left)));
        let front = Pending {
            write: Arc::new(Write {
                id: id - left as u64,
                ..rest_of(&write, rows_of(&write.batches, 0, rows))
            }),
            schema: Arc::clone(&pending.schema),
            segments: take_rows(&mut pending.segments, rows),
            ..*pending
        };
        self.writes.insert(index, front);
    }

    /// Takes out what writes up to `id` hold of a delivery. The session is gone.
    pub fn take_delivery(&mut self, sequence: u64, id: u64) -> Vec<Pending> {
        self.take_if(|pending| {
            pending.write.id <= id
                && pending
                    .segments
                    .iter()
                    .all(|segment| segment.sequence == sequence)
        })
    }

    /// The session is gone: everything is to be sent again, but for the rows that were acknowledged.
    pub fn rewind(&mut self) {
        for pending in &mut self.writes {
            pending.sent = false;
            pending.taken = false;
            if pending.done_rows > 0 {
                let left = pending.write.rows - pending.done_rows;
                let batches = rows_of(&pending.write.batches, pending.done_rows, left);
                pending.write = Arc::new(rest_of(&pending.write, batches));
                pending.done_rows = 0;
            }
        }
    }

    /// Takes out what may not be tried again: too many attempts, or too late for another one. `end`
    /// is when there is nobody left to try.
    pub fn exhausted(&mut self, retry: &Retry, next_try: Instant, end: Option<Instant>) -> Vec<Pending> {
        let over = end.is_some_and(|end| next_try > end);
        let spent = |pending: &Pending| {
            let late = pending
                .first_sent
                .is_some_and(|first| next_try.saturating_duration_since(first) > retry.deadline);
            over || late || pending.attempts >= retry.attempts
        };
        self.take_if(spent)
    }

    /// Takes out what the session that is open now was given.
    pub fn take_taken(&mut self) -> Vec<Pending> {
        self.take_if(|pending| pending.taken)
    }

    fn take_if(&mut self, out: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let (out, kept) = std::mem::take(&mut self.writes).into_iter().partition(out);
        self.writes = kept;
        Vec::from(out)
    }

    pub fn take_all(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.writes).into_iter().collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.writes.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.writes.iter_mut()
    }

    pub fn find(&mut self, id: u64) -> Option<&mut Pending> {
        self.writes.iter_mut().find(|pending| pending.write.id == id)
    }

    pub fn contains(&self, id: u64) -> bool {
        self.writes.iter().any(|pending| pending.write.id == id)
    }

    pub fn front(&self) -> Option<&Pending> {
        self.writes.front()
    }

    pub fn last_id(&self) -> Option<u64> {
        self.writes.back().map(|pending| pending.write.id)
    }

    /// The last write with rows of deliveries up to `barrier`.
    pub fn last_id_up_to(&self, barrier: u64) -> Option<u64> {
        let reaches = |pending: &&Pending| {
            let first = pending.segments.first();
            first.is_some_and(|segment| segment.sequence <= barrier)
        };
        self.writes.iter().rfind(reaches).map(|pending| pending.write.id)
    }

    pub fn len(&self) -> usize {
        self.writes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

impl Pending {
    /// Rows at its start, counted as it was sent, that are durable and already settled.
    pub fn done_rows(&self) -> usize {
        self.done_rows
    }

    /// The error that its rows end with, carrying what its tries came to.
    pub fn verdict(&self, error: &Error, now: Instant) -> Error {
        let elapsed = self
            .first_sent
            .map_or(Duration::ZERO, |first| now.saturating_duration_since(first));
        let error = error.clone().after(self.attempts, elapsed);
        if self.maybe_landed {
            error.ambiguous()
        } else {
            error
        }
    }
}

/// Cuts `rows` rows off the front of some segments.
fn take_rows(segments: &mut Vec<Segment>, mut rows: usize) -> Vec<Segment> {
    let mut taken = Vec::new();
    while rows > 0 && !segments.is_empty() {
        let first = &mut segments[0];
        let count = first.rows.min(rows);
        taken.push(Segment {
            rows: count,
            ..*first
        });
        rows -= count;
        first.first_row += count;
        first.rows -= count;
        if first.rows == 0 {
            segments.remove(0);
        }
    }
    taken
}

/// Some consecutive rows of a row of batches, not copied.
pub fn rows_of(batches: &[RecordBatch], mut skip: usize, mut rows: usize) -> Vec<RecordBatch> {
    let mut found = Vec::new();
    for batch in batches {
        let start = batch.num_rows().min(skip);
        let length = (batch.num_rows() - start).min(rows);
        skip -= start;
        rows -= length;
        if length > 0 {
            found.push(batch.slice(start, length));
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
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(Vec<usize>),
        Send,
        Partly(usize, usize),
        Through(usize),
        Remove(usize),
        Rewind(bool),
        TakeBack(u64),
        Blame(usize, u64),
        Cut(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop::collection::vec(1usize..9, 1..4).prop_map(Step::Push),
            3 => Just(Step::Send),
            3 => (0usize..3, 0usize..30).prop_map(|(which, rows)| Step::Partly(which, rows)),
            2 => (0usize..4).prop_map(Step::Through),
            1 => (0usize..4).prop_map(Step::Remove),
            2 => any::<bool>().prop_map(Step::Rewind),
            1 => (1u64..30).prop_map(Step::TakeBack),
            1 => (0usize..4, 0u64..30).prop_map(|(which, row)| Step::Blame(which, row)),
            1 => (0usize..4, 0usize..30).prop_map(|(which, rows)| Step::Cut(which, rows)),
        ]
    }

    /// A write of as many deliveries as there are counts; row `r` of delivery `s` is `100 s + r`.
    fn draft(sequence: &mut u64, counts: &[usize]) -> Draft {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let mut values = Vec::new();
        let mut segments = Vec::new();
        for rows in counts {
            *sequence += 1;
            values.extend((0..*rows).map(|row| *sequence as i64 * 100 + row as i64));
            segments.push(Segment {
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
        Draft {
            schema,
            batches: vec![whole.slice(0, cut), whole.slice(cut, rows - cut)],
            segments,
            rows,
            bytes: rows * 8,
        }
    }

    fn rows_in(segments: &[Segment]) -> Vec<i64> {
        segments
            .iter()
            .flat_map(|s| (s.first_row..s.first_row + s.rows).map(|row| s.sequence as i64 * 100 + row as i64))
            .collect()
    }

    fn rows_written(write: &Write) -> Vec<i64> {
        write
            .batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect()
    }

    proptest! {
        /// every row leaves once, and a write says truly which rows it holds.
        #[test]
        fn every_row_leaves_once(steps in prop::collection::vec(step(), 1..60)) {
            let mut window = Window::divisible();
            let mut sequence = 0;
            let (mut entered, mut left) = (Vec::new(), Vec::new());
            for step in steps {
                let id = |window: &Window, which: usize| window.writes.get(which).map_or(0, |p| p.write.id);
                match step {
                    Step::Push(counts) => {
                        let draft = draft(&mut sequence, &counts);
                        entered.extend(rows_in(&draft.segments));
                        window.push(draft);
                    }
                    Step::Send => window.iter_mut().for_each(|pending| pending.sent = true),
                    Step::Partly(which, rows) => {
                        let id = id(&window, which);
                        if window.find(id).is_some_and(|pending| pending.sent) {
                            left.extend(rows_in(&window.partly(id, rows)));
                        }
                    }
                    Step::Through(which) => {
                        let id = id(&window, which);
                        for pending in window.through(id) {
                            prop_assert!(pending.write.id <= id);
                            left.extend(rows_in(&pending.segments));
                        }
                    }
                    Step::Remove(which) => {
                        let id = id(&window, which);
                        left.extend(window.remove(id).iter().flat_map(|p| rows_in(&p.segments)));
                    }
                    Step::Rewind(ambiguous) => {
                        window.iter_mut().for_each(|p| p.maybe_landed |= p.sent && ambiguous);
                        window.rewind();
                        prop_assert!(window.iter_mut().all(|p| !p.sent && p.done_rows == 0));
                    }
                    Step::Blame(which, row) => {
                        let id = id(&window, which);
                        let rows = window.find(id).map_or(Vec::new(), |p| rows_written(&p.write));
                        if let Some((refused, own_row)) = window.blame(id, row) {
                            let sequence = refused.segments[0].sequence;
                            prop_assert_eq!(rows[row as usize], (sequence * 100 + own_row) as i64);
                            prop_assert!(refused.segments.iter().all(|s| s.sequence == sequence));
                            left.extend(rows_in(&refused.segments));
                        }
                        window.iter_mut().for_each(|p| p.sent = false);
                        window.rewind();
                    }
                    Step::Cut(which, rows) => {
                        let id = id(&window, which);
                        window.rewind();
                        window.cut(id, rows);
                    }
                    Step::TakeBack(sequence) => {
                        let taken = window.take_back(sequence);
                        prop_assert!(taken.iter().all(|segment| segment.sequence == sequence));
                        left.extend(rows_in(&taken));
                    }
                }
                let ids: Vec<u64> = window.writes.iter().map(|p| p.write.id).collect();
                prop_assert!(ids.is_sorted_by(|a, b| a < b) && window.last_id() == ids.last().copied());
                for pending in &window.writes {
                    let rows = rows_written(&pending.write);
                    prop_assert_eq!(rows.len(), pending.write.rows);
                    prop_assert_eq!(&rows[pending.done_rows..], &rows_in(&pending.segments)[..]);
                    prop_assert!(!pending.segments.is_empty());
                }
            }
            left.extend(window.take_all().iter().flat_map(|p| rows_in(&p.segments)));
            left.sort_unstable();
            prop_assert_eq!(left, entered);
            prop_assert!(window.is_empty() && window.front().is_none());
        }
    }

    #[test]
    fn exhausted_by_attempts_by_time_and_by_the_end() {
        let now = Instant::now();
        let mut retry = crate::config::Config::default().retry;
        retry.attempts = 3;
        retry.deadline = Duration::from_secs(10);
        let mut sequence = 0;
        let mut window = Window::default();
        for (attempts, age) in [(3, 0), (1, 11), (1, 9), (0, 0)] {
            window.push(draft(&mut sequence, &[1]));
            let pending = window.writes.back_mut().unwrap();
            pending.attempts = attempts;
            pending.first_sent = now.checked_sub(Duration::from_secs(age)).filter(|_| attempts > 0);
        }
        let ids = |out: Vec<Pending>| out.iter().map(|p| p.write.id).collect::<Vec<_>>();
        assert_eq!(ids(window.exhausted(&retry, now, Some(now))), [1, 2]);
        let before = now.checked_sub(Duration::from_secs(1));
        assert_eq!(ids(window.exhausted(&retry, now, before)), [3, 4]);
    }

    #[test]
    fn a_verdict_tells_what_the_tries_came_to() {
        let now = Instant::now();
        let mut window = Window::default();
        window.push(draft(&mut 0, &[2]));
        let pending = window.find(1).unwrap();
        let error = Error::new(crate::error::Code::Unavailable, "away");
        assert!(!pending.verdict(&error, now).is_ambiguous());
        pending.attempts = 4;
        pending.maybe_landed = true;
        let verdict = pending.verdict(&error, now);
        assert!(verdict.is_ambiguous() && verdict.attempts() == 4);
        assert_eq!(window.last_id_up_to(0), None);
        assert_eq!(window.last_id_up_to(1), Some(1));
        assert!(window.partly(9, 1).is_empty());
    }
}
