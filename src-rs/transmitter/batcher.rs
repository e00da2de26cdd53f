//! Small batches together, large ones apart, order kept. Pure: the clock is the caller's.
//!
//! Invariants:
//! - Rows leave in the order in which they came; a draft never spans two schemas.
//! - Nothing is copied here but the rows of small batches, and those only when their draft is taken:
//!   until then a delivery can be taken back whole, at a cost that is its own and not that of the others.
//! - The slice at the front is never one that was taken back; behind it those are no more than the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};

use super::batch_slice::{BatchSlice, is_small};
use super::schema::{self, Fit};
use crate::config::Batching;
use crate::error::{Code, Error, Result};
use crate::handoff::contained;
use crate::outcome::RowRange;

pub struct Batcher {
    limits: Batching,
    /// Whether small batches are joined here.
    joins: bool,
    queue: VecDeque<QueuedSlice>,
    /// Of the queue: slices that were taken back and still have their place.
    taken_back: usize,
    /// How far the next draft has been looked for. Thousands of small batches come in hundreds of turns, and
    /// each turn would count all of them again.
    next_write: Option<NextWrite>,
}

/// The front of the queue that fits one schema and the limits.
struct NextWrite {
    schema: SchemaRef,
    /// Places in the queue, those of what was taken back included.
    taken: usize,
    rows: usize,
    bytes: usize,
    /// The schema or the limits end this draft, so waiting brings it no more company.
    full: bool,
}

/// What becomes one write.
#[derive(Debug)]
pub struct WriteDraft {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub ranges: Vec<RowRange>,
    pub rows: usize,
    pub bytes: usize,
}

struct QueuedSlice {
    /// None once it was taken back.
    slice: Option<BatchSlice>,
    range: RowRange,
    since: Instant,
}

/// As [`schema::fit`].
fn fits(slice: &BatchSlice, schema: &SchemaRef) -> bool {
    let fit = match schema::fit(slice.of_whole(), schema) {
        // It may be the rows of another delivery that do not fit.
        Fit::Different => schema::fit(&slice.batch(), schema),
        fit => fit,
    };
    fit != Fit::Different
}

impl Batcher {
    pub fn new(limits: Batching, joins: bool) -> Self {
        Batcher {
            limits,
            joins,
            queue: VecDeque::new(),
            taken_back: 0,
            next_write: None,
        }
    }

    /// Takes the rows of one delivery. Empty slices vanish.
    pub fn push(&mut self, sequence: u64, slices: Vec<BatchSlice>, now: Instant) {
        let mut first_row = 0;
        for slice in slices {
            let rows = slice.rows();
            for (offset, length) in self.cuts(rows, slice.bytes()) {
                self.queue.push_back(QueuedSlice {
                    slice: Some(slice.slice(offset, length)),
                    range: RowRange {
                        sequence,
                        first_row: first_row + offset,
                        rows: length,
                    },
                    since: now,
                });
            }
            first_row += rows;
        }
    }

    /// The next write, if one is full, has waited long enough, or `force` is set.
    ///
    /// `current` is the schema of the session: a batch that fits it joins it, any other starts a
    /// draft of its own schema.
    ///
    /// # Errors
    /// Ranges with the error that their rows could not be put together for.
    pub fn next(
        &mut self,
        now: Instant,
        force: bool,
        current: Option<&SchemaRef>,
    ) -> Option<std::result::Result<WriteDraft, (Vec<RowRange>, Error)>> {
        let schema = self.next_schema(current)?;
        let mut next_write = match self.next_write.take() {
            Some(next_write) if Arc::ptr_eq(&next_write.schema, &schema) || next_write.schema == schema => {
                next_write
            }
            _ => NextWrite::new(schema),
        };
        next_write.extend(&self.queue, &self.limits);
        let full = next_write.full;
        let due = self.due().is_some_and(|due| due <= now);
        if !(full || due || force) {
            self.next_write = Some(next_write);
            return None;
        }
        let NextWrite {
            schema,
            taken,
            rows,
            bytes,
            ..
        } = next_write;
        let mut ranges: Vec<RowRange> = Vec::with_capacity(taken);
        let mut slices: Vec<BatchSlice> = Vec::with_capacity(taken);
        for queued in self.queue.drain(..taken) {
            if let Some(slice) = queued.slice {
                ranges.push(queued.range);
                slices.push(slice);
            } else {
                self.taken_back -= 1;
            }
        }
        self.drop_taken_back();
        match seal(&schema, slices, self.joins) {
            Ok(batches) => Some(Ok(WriteDraft {
                schema,
                batches,
                ranges: joined(ranges),
                rows,
                bytes,
            })),
            Err(error) => Some(Err((ranges, error))),
        }
    }

    /// The schema of the next draft.
    pub fn next_schema(&self, current: Option<&SchemaRef>) -> Option<SchemaRef> {
        let head = self.queue.front()?.slice.as_ref()?;
        match current {
            Some(current) if fits(head, current) => Some(current.clone()),
            _ => Some(head.of_whole().schema()),
        }
    }

    /// When the oldest rows have waited for `linger`.
    pub fn due(&self) -> Option<Instant> {
        let oldest = self.queue.front()?.since;
        Some(oldest + self.limits.linger.min(Duration::from_secs(366 * 24 * 3600)))
    }

    /// Takes back what is left of a delivery; returns the rows.
    pub fn take_back(&mut self, sequence: u64) -> Vec<RowRange> {
        let start = self
            .queue
            .partition_point(|queued| queued.range.sequence < sequence);
        let mut taken = Vec::new();
        for (place, queued) in self.queue.range_mut(start..).enumerate() {
            if queued.range.sequence != sequence {
                break;
            }
            let Some(slice) = queued.slice.take() else {
                continue;
            };
            self.taken_back += 1;
            taken.push(queued.range);
            if let Some(next_write) = &mut self.next_write {
                // Others may follow now that could not because of it.
                next_write.full = false;
                if start + place < next_write.taken {
                    next_write.rows -= slice.rows();
                    next_write.bytes -= slice.bytes();
                }
            }
        }
        self.drop_taken_back();
        taken
    }

    /// Takes back everything from the front that fits a session of this schema.
    pub fn take_fitting(&mut self, schema: &SchemaRef) -> Vec<RowRange> {
        let fitting = |queued: &QueuedSlice| queued.slice.as_ref().is_none_or(|slice| fits(slice, schema));
        let count = self.queue.iter().take_while(|queued| fitting(queued)).count();
        self.next_write = None;
        let mut taken = Vec::new();
        for queued in self.queue.drain(..count) {
            match queued.slice {
                Some(_) => taken.push(queued.range),
                None => self.taken_back -= 1,
            }
        }
        self.drop_taken_back();
        taken
    }

    pub fn clear(&mut self) {
        self.queue.clear();
        self.taken_back = 0;
        self.next_write = None;
    }

    /// Gives up places that nobody has any more: at the front, and everywhere once they are the most.
    fn drop_taken_back(&mut self) {
        let is_taken_back = |queued: &mut QueuedSlice| queued.slice.is_none();
        while self.queue.pop_front_if(is_taken_back).is_some() {
            self.taken_back -= 1;
            if let Some(next_write) = &mut self.next_write {
                next_write.taken = next_write.taken.saturating_sub(1);
            }
        }
        if self.taken_back * 2 > self.queue.len() {
            self.queue.retain(|queued| queued.slice.is_some());
            self.taken_back = 0;
            self.next_write = None;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The delivery at the head of the queue.
    pub fn head(&self) -> Option<u64> {
        self.queue.front().map(|queued| queued.range.sequence)
    }

    /// Where a batch is cut so that each part respects both limits, as evenly as rows allow: (start, length) of
    /// each.
    fn cuts(&self, rows: usize, bytes: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let by_rows = rows.div_ceil(self.limits.max_rows);
        // 128 bits: rows × bytes of a large batch overflow 64.
        let fitting = rows as u128 * self.limits.max_bytes as u128 / bytes.max(1) as u128;
        let by_bytes = rows.div_ceil(usize::try_from(fitting).unwrap_or(usize::MAX).max(1));
        let parts = by_rows.max(by_bytes);
        let cut = move |part: usize| rows * part / parts;
        (0..parts).map(move |part| (cut(part), cut(part + 1) - cut(part)))
    }
}

impl NextWrite {
    fn new(schema: SchemaRef) -> Self {
        NextWrite {
            schema,
            taken: 0,
            rows: 0,
            bytes: 0,
            full: false,
        }
    }

    fn extend(&mut self, queue: &VecDeque<QueuedSlice>, limits: &Batching) {
        for queued in queue.range(self.taken..) {
            self.full |= self.rows >= limits.max_rows || self.bytes >= limits.max_bytes;
            if self.full {
                return;
            }
            let Some(slice) = &queued.slice else {
                self.taken += 1;
                continue;
            };
            let over = self.rows > 0
                && (self.rows + slice.rows() > limits.max_rows
                    || self.bytes + slice.bytes() > limits.max_bytes);
            if over || !fits(slice, &self.schema) {
                self.full = true;
                return;
            }
            self.taken += 1;
            self.rows += slice.rows();
            self.bytes += slice.bytes();
        }
        self.full |= self.rows >= limits.max_rows || self.bytes >= limits.max_bytes;
    }
}

/// Relabels every slice with the schema and, if `joins`, copies runs of small ones into one batch each.
fn seal(schema: &SchemaRef, queue: Vec<BatchSlice>, joins: bool) -> Result<Vec<RecordBatch>> {
    // Joining dictionaries computes on their values, which JavaScript may still write to.
    let may_join = joins
        && !schema
            .fields()
            .iter()
            .any(|field| holds_dictionary(field.data_type()));
    let mut slices: Vec<BatchSlice> = Vec::new();
    for queued in queue {
        if !slices.last_mut().is_some_and(|last| last.extend(&queued)) {
            slices.push(queued);
        }
    }
    let mut sealed = Vec::with_capacity(slices.len());
    let mut run: Vec<RecordBatch> = Vec::with_capacity(slices.len());
    for slice in slices {
        let small = may_join && is_small(slice.rows(), slice.bytes());
        let batch = schema::relabel(slice.into_batch(), schema)?;
        if !small {
            join(schema, &mut run, &mut sealed)?;
            sealed.push(batch);
        } else {
            run.push(batch);
        }
    }
    join(schema, &mut run, &mut sealed)?;
    Ok(sealed)
}

fn join(schema: &SchemaRef, run: &mut Vec<RecordBatch>, sealed: &mut Vec<RecordBatch>) -> Result<()> {
    match run.len() {
        0 => {}
        1 => sealed.append(run),
        _ => {
            // It panics where the offsets of lists would overflow; on this task, everybody would hang.
            match contained(|| Ok(concat_batches(schema, run.iter()))) {
                Ok(Ok(batch)) => sealed.push(batch),
                // What cannot be joined (offsets that would overflow 32 bits) goes as it is.
                Err(_) | Ok(Err(arrow::error::ArrowError::OffsetOverflowError(_))) => sealed.append(run),
                Ok(Err(error)) => {
                    return Err(Error::new(Code::BatchInvalid, "batches cannot be joined")
                        .caused_by(&error)
                        .during("batch"));
                }
            }
            run.clear();
        }
    }
    Ok(())
}

fn holds_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_dictionary(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_dictionary(field.data_type())),
        DataType::Union(fields, _) => fields
            .iter()
            .any(|(_, field)| holds_dictionary(field.data_type())),
        _ => false,
    }
}

/// Neighbouring ranges of one delivery as one.
fn joined(ranges: Vec<RowRange>) -> Vec<RowRange> {
    let mut result: Vec<RowRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match result.last_mut() {
            Some(last)
                if last.sequence == range.sequence && last.first_row + last.rows == range.first_row =>
            {
                last.rows += range.rows;
            }
            _ => result.push(range),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::{Field, Fields, Int8Type, Int64Type, Schema, UnionFields, UnionMode};
    use proptest::prelude::*;

    use super::*;

    fn batch(name: &str, first: i64, rows: usize) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, false)]));
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows as i64));
        RecordBatch::try_new(schema, vec![column]).unwrap()
    }

    fn limits(max_rows: usize, max_bytes: usize) -> Batching {
        Batching {
            max_rows,
            max_bytes,
            linger: Duration::from_secs(1),
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Rows of each part, whether of the other schema, and bytes of a row.
        Push(Vec<usize>, bool, u8),
        TakeBack(u64),
        /// Takes what is full, or everything.
        Draw(bool),
        TakeFitting(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let parts = prop::collection::vec(0usize..120, 0..4);
        prop_oneof![
            6 => (parts, prop::bool::weighted(0.2), 0u8..6).prop_map(|(parts, other, width)| Step::Push(parts, other, width)),
            6 => (1u64..40).prop_map(Step::TakeBack),
            2 => prop::bool::weighted(0.2).prop_map(Step::Draw),
            1 => any::<bool>().prop_map(Step::TakeFitting),
        ]
    }

    fn values_of(ranges: &[RowRange]) -> Vec<i64> {
        let values = |s: &RowRange| {
            let sequence = s.sequence as i64 * 1_000;
            (s.first_row..s.first_row + s.rows).map(move |row| sequence + row as i64)
        };
        ranges.iter().flat_map(values).collect()
    }

    proptest! {
        /// rows come out once, in order, in drafts of one schema that respect the limits, with
        /// ranges that say truly whose they are; what is taken back, whenever, does not come out.
        #[test]
        fn what_goes_in_comes_out_in_order(
            max_rows in 1usize..50,
            max_bytes in 8usize..600,
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let start = Instant::now();
            let mut batcher = Batcher::new(limits(max_rows, max_bytes), true);
            let mut sequence = 0;
            // Rows that are in it, in order, with their schema.
            let mut inside: VecDeque<(i64, bool)> = VecDeque::new();
            for step in steps.into_iter().chain([Step::Draw(true)]) {
                match step {
                    Step::Push(parts, other, width) => {
                        sequence += 1;
                        let mut first = sequence as i64 * 1_000;
                        let mut slices = Vec::new();
                        for rows in parts {
                            let whole = batch(if other { "b" } else { "a" }, first, rows);
                            slices.push(BatchSlice::whole(whole, rows * usize::from(width)));
                            inside.extend((first..first + rows as i64).map(|value| (value, other)));
                            first += rows as i64;
                        }
                        batcher.push(sequence, slices, start);
                    }
                    Step::TakeBack(sequence) => {
                        let is_own = |value: i64| value / 1_000 == sequence as i64;
                        let taken = values_of(&batcher.take_back(sequence));
                        let own: Vec<i64> = inside.iter().map(|(value, _)| *value).filter(|value| is_own(*value)).collect();
                        prop_assert_eq!(taken, own);
                        inside.retain(|(value, _)| !is_own(*value));
                    }
                    Step::TakeFitting(other) => {
                        let schema = batch(if other { "b" } else { "a" }, 0, 0).schema();
                        let taken = values_of(&batcher.take_fitting(&schema));
                        let fitting = inside.iter().take_while(|(_, of)| *of == other).count();
                        let expected: Vec<i64> = inside.drain(..fitting).map(|(value, _)| value).collect();
                        prop_assert_eq!(taken, expected);
                    }
                    Step::Draw(force) => {
                        while let Some(draft) = batcher.next(start, force, None) {
                            let draft = draft.unwrap();
                            let rows: usize = draft.batches.iter().map(RecordBatch::num_rows).sum();
                            prop_assert_eq!(rows, draft.rows);
                            prop_assert!(rows > 0 && rows <= max_rows);
                            prop_assert!(draft.bytes <= max_bytes || rows == 1, "{} bytes", draft.bytes);
                            let values: Vec<i64> = draft
                                .batches
                                .iter()
                                .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
                                .collect();
                            prop_assert_eq!(&values, &values_of(&draft.ranges));
                            prop_assert!(draft.batches.iter().all(|batch| batch.schema() == draft.schema));
                            let expected: Vec<i64> = inside.drain(..rows).map(|(value, _)| value).collect();
                            prop_assert_eq!(values, expected);
                        }
                        prop_assert!(!force || inside.is_empty());
                    }
                }
                let head = inside.front().map(|(value, _)| *value as u64 / 1_000);
                prop_assert_eq!(batcher.head(), head);
                prop_assert_eq!(batcher.is_empty(), inside.is_empty());
                prop_assert_eq!(batcher.due().is_none(), inside.is_empty());
                let live = batcher.queue.iter().filter(|queued| queued.slice.is_some()).count();
                prop_assert_eq!(batcher.queue.len(), live + batcher.taken_back);
                prop_assert!(batcher.taken_back <= live, "{} places for nobody", batcher.taken_back);
                if let Some(next_write) = &batcher.next_write {
                    let taken = batcher.queue.range(..next_write.taken).filter_map(|queued| queued.slice.as_ref());
                    let sums = taken.fold((0, 0), |(rows, bytes), of| (rows + of.rows(), bytes + of.bytes()));
                    prop_assert_eq!(sums, (next_write.rows, next_write.bytes));
                }
            }
        }
    }

    #[test]
    fn rows_wait_for_company_until_they_are_due() {
        let start = Instant::now();
        let mut batcher = Batcher::new(limits(100, 1_000), true);
        batcher.push(1, vec![BatchSlice::whole(batch("a", 0, 3), 24)], start);
        assert!(batcher.next(start, false, None).is_none());
        assert_eq!(batcher.due(), Some(start + Duration::from_secs(1)));
        assert!(
            batcher
                .next(start + Duration::from_secs(1), false, None)
                .is_some()
        );
    }

    /// Joining dictionaries would compute on payload that JavaScript may still write to.
    #[test]
    fn dictionaries_are_not_joined_however_small() {
        let dictionary: DictionaryArray<Int8Type> = ["x", "y", "x"].into_iter().collect();
        let column: ArrayRef = Arc::new(dictionary);
        let schema = Arc::new(Schema::new(vec![Field::new(
            "d",
            column.data_type().clone(),
            true,
        )]));
        let batch = RecordBatch::try_new(schema, vec![column]).unwrap();
        let mut batcher = Batcher::new(limits(100, 1_000), true);
        batcher.push(
            1,
            vec![BatchSlice::whole(batch.clone(), 10), BatchSlice::whole(batch, 10)],
            Instant::now(),
        );
        let draft = batcher.next(Instant::now(), true, None).unwrap().unwrap();
        assert_eq!(draft.batches.len(), 2);

        let inner = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        let field = Arc::new(Field::new("item", inner, true));
        let union = UnionFields::try_new([0], [field.clone()]).unwrap();
        for holder in [
            DataType::List(field.clone()),
            DataType::FixedSizeList(field.clone(), 2),
            DataType::Struct(Fields::from(vec![field.clone()])),
            DataType::Union(union, UnionMode::Sparse),
        ] {
            assert!(holds_dictionary(&holder), "{holder}");
        }
        assert!(!holds_dictionary(&DataType::new_list(DataType::Utf8, true)));
    }

    #[test]
    fn small_texts_are_joined() {
        let schema = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8, true)]));
        let text = |words: Vec<&str>| {
            RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(words))]).unwrap()
        };
        let mut batcher = Batcher::new(limits(100, 1_000), true);
        batcher.push(1, vec![BatchSlice::whole(text(vec!["a"]), 9)], Instant::now());
        batcher.push(
            2,
            vec![BatchSlice::whole(text(vec!["b", "c"]), 9)],
            Instant::now(),
        );
        let draft = batcher.next(Instant::now(), true, None).unwrap().unwrap();
        assert_eq!(draft.batches, [text(vec!["a", "b", "c"])]);
        assert_eq!((draft.rows, draft.bytes, draft.ranges.len()), (3, 18, 2));

        let mut batcher = Batcher::new(limits(100, 1_000), false);
        batcher.push(1, vec![BatchSlice::whole(text(vec!["a"]), 9)], Instant::now());
        batcher.push(
            2,
            vec![BatchSlice::whole(text(vec!["b", "c"]), 9)],
            Instant::now(),
        );
        let draft = batcher.next(Instant::now(), true, None).unwrap().unwrap();
        assert_eq!(draft.batches, [text(vec!["a"]), text(vec!["b", "c"])]);
    }
}
