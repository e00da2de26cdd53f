//! The batcher by itself.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Int8Type, Int64Type, Schema, UnionFields, UnionMode};
use proptest::prelude::*;

use super::super::joining::holds_dictionary;
use super::*;

fn batch(name: &str, first: i64, rows: usize) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, false)]));
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows as i64));
    RecordBatch::try_new(schema, vec![column]).unwrap()
}

fn limits(max_rows: usize, max_bytes: usize) -> BatchingOptions {
    BatchingOptions {
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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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
