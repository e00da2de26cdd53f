//! small batches that are imported together arrive as they would have arrived alone.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::concat_batches;
use arrow::datatypes::*;
use arrow_ingest::handoff::{ColumnBuffers, Foreign, JoinedPart, PayloadUse, Pins, Pool, can_join, join};
use proptest::prelude::*;

use crate::handoff_explode::{Heap, Shape};
use crate::handoff_types::{Seed, batch, leaves, nested, schema_of};

fn joinable() -> Vec<DataType> {
    leaves()
        .into_iter()
        .filter(|kind| can_join(&schema_of([kind.clone()])))
        .collect()
}

/// Pinned and in the pool, misaligned and shifted, with and without bitmaps: in turn.
fn shape(turn: usize) -> Shape {
    Shape {
        shift: [0, 3, 21, 0, 7][turn % 5],
        misalign: [0, 1, 0, 3][turn % 4],
        unknown_nulls: turn % 3 == 1,
        empty_bitmaps: turn % 2 == 1,
    }
}

fn columns(batches: &[RecordBatch], pins: &Arc<Pins>) -> Vec<ColumnBuffers> {
    batches
        .iter()
        .enumerate()
        .map(|(turn, batch)| match turn % 4 {
            3 => Heap::owned(shape(turn)).columns(batch),
            _ => Heap::pinned(shape(turn), pins).columns(batch),
        })
        .collect()
}

#[test]
fn every_flat_type_is_joined_and_no_other() {
    let kinds = joinable();
    assert!(kinds.len() > 25, "{}", kinds.len());
    for flat in [
        DataType::Boolean,
        DataType::Utf8,
        DataType::LargeBinary,
        DataType::Null,
    ] {
        assert!(kinds.contains(&flat), "{flat}");
    }
    for other in nested(&DataType::Int32)
        .into_iter()
        .chain([DataType::Utf8View, DataType::BinaryView])
    {
        assert!(!can_join(&schema_of([DataType::Int32, other.clone()])), "{other}");
    }
    let mut seed = Seed(5);
    for kind in kinds {
        let schema = schema_of([kind.clone()]);
        let whole = batch(&schema, 90, &mut seed);
        let parts = [0, 1, 13, 0, 8, 40, 28].iter().scan(0, |start, rows| {
            let part = whole.slice(*start, *rows);
            *start += rows;
            Some(part)
        });
        let parts: Vec<RecordBatch> = parts.collect();
        let (pool, pins) = (Pool::new(1 << 20), Pins::new(1 << 30, Box::new(|_, _| {})));
        let joined = join(&columns(&parts, &pins), &pool).unwrap_or_else(|| panic!("{kind} is not joined"));
        assert_eq!(joined.batch, whole, "{kind}");
        assert_eq!(pins.count(), 0, "{kind}: nothing refers to pinned memory");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// as if each had been imported and all of them concatenated; the parts say whose is what.
    #[test]
    fn what_is_joined_is_what_would_have_been_concatenated(
        kinds in prop::collection::vec(proptest::sample::select(joinable()), 0..5),
        rows in prop::collection::vec(0..70usize, 2..9),
        seed in any::<u64>(),
    ) {
        let (mut seed, schema) = (Seed(seed), schema_of(kinds));
        let batches: Vec<RecordBatch> = rows.iter().map(|rows| batch(&schema, *rows, &mut seed)).collect();
        let (pool, pins) = (Pool::new(1 << 20), Pins::new(1 << 30, Box::new(|_, _| {})));
        let given = columns(&batches, &pins);
        let joined = join(&given, &pool).unwrap();
        prop_assert_eq!(&joined.batch, &concat_batches(&schema, &batches).unwrap());
        for column in joined.batch.columns() {
            column.to_data().validate_full().unwrap();
        }
        let parts: Vec<usize> = joined.parts.iter().map(|share| share.rows).collect();
        prop_assert_eq!(&parts, &rows);
        // As the import by itself counts them.
        for (columns, share) in given.into_iter().zip(&joined.parts) {
            let alone = arrow_ingest::handoff::HandoffBatch::Columns(columns).import(PayloadUse::Moved, &pool).unwrap();
            prop_assert_eq!(share.realigned_buffers, alone.realigned_buffers);
            // Without rows it has an offset of its own, alone; and a bitmap there begins at the bit that the
            // booleans begin at, which may take a byte more.
            if share.rows > 0 {
                prop_assert!(share.bytes.abs_diff(alone.bytes) <= schema.fields().len());
            }
        }
        prop_assert_eq!(pins.count(), 0);
    }
}

/// Each lie, between two honest batches: refused as a whole, so that each is imported by itself and the liar
/// is told what is wrong.
#[test]
fn one_wrong_batch_leaves_all_unjoined() {
    let field = |name: &str, kind: DataType, nullable| Field::new(name, kind, nullable);
    let schema = Arc::new(Schema::new(vec![
        field("n", DataType::Int32, false),
        field("s", DataType::Utf8, true),
        field("b", DataType::Boolean, true),
    ]));
    let honest = || {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec![Some("some"), None, Some("téxt")])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        Heap::owned(Shape::default()).columns(&batch)
    };
    let pool = Pool::new(1 << 20);
    assert!(join(&[honest(), honest(), honest()], &pool).is_some());
    let place = |bytes: &[u8]| Some(Heap::owned(Shape::default()).place(bytes));
    let offsets = |numbers: [i32; 4]| place(&numbers.map(i32::to_le_bytes).concat());
    // Buffers: validity and values of n; validity, offsets and values of s; validity and values of b.
    type Lie<'a> = (&'a str, Box<dyn Fn(&mut ColumnBuffers) + 'a>);
    let lies: Vec<Lie> = vec![
        ("fewer rows than the batch", Box::new(|it| it.nodes[0].length = 2)),
        (
            "more rows than there are",
            Box::new(|it| {
                it.rows = 4;
                it.nodes.iter_mut().for_each(|node| node.length = 4);
            }),
        ),
        (
            "rows beyond all memory",
            Box::new(|it| {
                it.rows = usize::MAX / 2;
                it.nodes.iter_mut().for_each(|node| node.length = usize::MAX / 2);
            }),
        ),
        ("a short buffer", Box::new(|it| it.buffers[1] = place(&[0; 11]))),
        ("no buffer", Box::new(|it| it.buffers[1] = None)),
        (
            "nulls where there are none",
            Box::new(|it| {
                it.nodes[0].null_count = 1;
                it.buffers[0] = place(&[0b101]);
            }),
        ),
        (
            "another number of nulls",
            Box::new(|it| it.nodes[1].null_count = 2),
        ),
        (
            "a negative number of nulls",
            Box::new(|it| it.nodes[1].null_count = -2),
        ),
        ("a short bitmap", Box::new(|it| it.nodes[1].offset = 6)),
        (
            "a bitmap beyond all memory",
            Box::new(|it| it.nodes[2].offset = usize::MAX - 1),
        ),
        (
            "a negative offset",
            Box::new(|it| it.buffers[3] = offsets([-4, 0, 4, 9])),
        ),
        (
            "falling offsets",
            Box::new(|it| it.buffers[3] = offsets([0, 5, 4, 9])),
        ),
        (
            "offsets beyond the text",
            Box::new(|it| it.buffers[3] = offsets([0, 4, 4, 10])),
        ),
        (
            "offsets that wrap around",
            Box::new(|it| it.buffers[3] = offsets([i32::MIN, 0, 4, i32::MAX])),
        ),
        ("short offsets", Box::new(|it| it.buffers[3] = place(&[0; 15]))),
        (
            "half a character",
            Box::new(|it| it.buffers[3] = offsets([0, 6, 6, 9])),
        ),
        ("no UTF-8", Box::new(|it| it.buffers[4] = place(b"some\xFFtext"))),
        (
            "bits far beyond the buffer",
            Box::new(|it| {
                // Without a bitmap nothing else looks at the offset.
                it.nodes[2].null_count = 0;
                it.nodes[2].offset = 1 << 52;
                it.buffers[5] = None;
            }),
        ),
        ("short bits", Box::new(|it| it.buffers[6] = place(&[]))),
        ("a buffer too many", Box::new(|it| it.buffers.push(None))),
        ("a buffer too few", Box::new(|it| it.buffers.truncate(6))),
        ("a node too many", Box::new(|it| it.nodes.push(it.nodes[0]))),
        ("a node too few", Box::new(|it| it.nodes.truncate(2))),
        (
            "another schema",
            Box::new(|it| {
                let fields: Vec<Field> = it
                    .schema
                    .fields()
                    .iter()
                    .map(|field| field.as_ref().clone().with_name("x"))
                    .collect();
                it.schema = Arc::new(Schema::new(fields));
            }),
        ),
    ];
    for (lie, tell) in lies {
        let mut liar = honest();
        tell(&mut liar);
        assert!(join(&[honest(), liar, honest()], &pool).is_none(), "{lie}");
    }
}

/// What one says too much must not be made up for by what its neighbour says too little.
#[test]
fn lies_that_add_up_are_lies() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
    let with_nulls = |stated: i64| {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let batch = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
        let mut columns = Heap::owned(Shape::default()).columns(&batch);
        columns.nodes[0].null_count = stated;
        columns
    };
    let pool = Pool::new(1 << 20);
    assert!(join(&[with_nulls(1), with_nulls(1)], &pool).is_some());
    assert!(join(&[with_nulls(2), with_nulls(0)], &pool).is_none());
}

#[test]
fn a_copy_that_could_not_be_made_is_not_joined() {
    let schema = schema_of([DataType::Int32]);
    let given = batch(&schema, 4, &mut Seed(1));
    let mut columns = [0, 1].map(|_| Heap::owned(Shape::default()).columns(&given));
    let pool = Pool::new(0);
    // SAFETY: nothing is read: there is no such block to copy into.
    let failed = unsafe {
        Foreign::copied(
            std::ptr::NonNull::<u8>::dangling().as_ptr(),
            usize::MAX / 4,
            &pool,
        )
    };
    columns[1].buffers[1] = Some(failed);
    assert!(join(&columns, &pool).is_none());
    assert_eq!(
        join(&[], &pool).map(|joined| joined.parts),
        None::<Vec<JoinedPart>>
    );
}
