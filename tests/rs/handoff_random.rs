//! whatever crosses as buffers arrives as it was given.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use arrow_ingest::handoff::{ColumnBuffers, HandoffBatch, ImportedBatches, PayloadUse, Pins, Pool};
use proptest::prelude::*;

use crate::handoff_explode::{Heap, Shape};
use crate::handoff_types::{Seed, batch, leaves, nested, schema_of};

pub const MODES: [PayloadUse; 2] = [PayloadUse::Moved, PayloadUse::Computed];

pub fn arrives(given: &RecordBatch, shape: &Shape, payload: PayloadUse) -> ImportedBatches {
    let pool = Pool::new(1 << 20);
    let pins = Pins::new(1 << 30, Box::new(|_, _| {}));
    let handoff_batch = Heap::pinned(shape.clone(), &pins).handoff_batch(given);
    let imported = handoff_batch
        .import(payload, &pool)
        .unwrap_or_else(|error| panic!("{error}\n{shape:?} {payload:?} {:?}", given.schema()));
    assert_eq!(imported.batches.len(), 1);
    assert_eq!(&imported.batches[0], given, "{shape:?} {payload:?}");
    for column in imported.batches[0].columns() {
        // Nothing changes the memory in these tests, so that looking at pinned payload is fine.
        column.to_data().validate_full().unwrap();
    }
    if payload == PayloadUse::Computed {
        assert_eq!(pins.count(), 0, "nothing refers to pinned memory");
    }
    imported
}

/// every type on its own, with bitmaps at odd bits and buffers at odd addresses.
#[test]
fn every_type_arrives_bit_exactly_however_it_lies_in_memory() {
    let mut seed = Seed(1);
    let all: Vec<DataType> = leaves()
        .into_iter()
        .chain(leaves().iter().flat_map(nested))
        .chain(nested(&DataType::Utf8).iter().flat_map(nested))
        .collect();
    for kind in all {
        let schema = schema_of([kind]);
        for rows in [0, 1, 13] {
            let given = batch(&schema, rows, &mut seed);
            for shift in [0, 3, 21] {
                for payload in MODES {
                    let shape = Shape {
                        shift,
                        misalign: shift % 4,
                        unknown_nulls: shift == 3,
                        empty_bitmaps: shift == 21,
                    };
                    arrives(&given, &shape, payload);
                    if rows > 3 {
                        arrives(&given.slice(2, rows - 3), &shape, payload);
                    }
                }
            }
        }
    }
}

fn any_type() -> impl Strategy<Value = DataType> {
    let leaf = proptest::sample::select(leaves());
    leaf.prop_recursive(3, 12, 3, |inner| {
        (inner, 0..9usize).prop_map(|(item, choice)| nested(&item).swap_remove(choice))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// any mixture of columns, sliced anywhere.
    #[test]
    fn any_batch_arrives_as_it_was_given(
        kinds in prop::collection::vec(any_type(), 0..4),
        rows in 0..70usize,
        cut in (0.0..1.0f64, 0.0..1.0f64),
        shift in 0..40usize,
        misalign in 0..9usize,
        flags in any::<(bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let given = batch(&schema_of(kinds), rows, &mut Seed(seed));
        let start = (rows as f64 * cut.0) as usize;
        let length = ((rows - start) as f64 * cut.1) as usize;
        let shape = Shape { shift, misalign, unknown_nulls: flags.0, empty_bitmaps: flags.1 };
        for payload in MODES {
            arrives(&given, &shape, payload);
            arrives(&given.slice(start, length), &shape, payload);
        }
    }
}

/// names say nothing about which column is which, and metadata is kept.
#[test]
fn duplicate_names_and_metadata_are_kept() {
    let field = |kind| Field::new("same", kind, true).with_metadata([("k".into(), "v".into())].into());
    let schema = Arc::new(Schema::new_with_metadata(
        vec![field(DataType::Int32), field(DataType::Utf8)],
        [("table".into(), "t".into())].into(),
    ));
    let given = batch(&schema, 9, &mut Seed(5));
    for payload in MODES {
        let imported = arrives(&given, &Shape::default(), payload);
        assert_eq!(imported.batches[0].schema(), schema);
    }
}

/// without columns there is nothing but the number of rows.
#[test]
fn a_batch_without_columns_keeps_its_rows() {
    let columns = |rows| {
        HandoffBatch::Columns(ColumnBuffers {
            schema: Arc::new(Schema::empty()),
            rows,
            nodes: vec![],
            buffers: vec![],
        })
    };
    let imported = columns(12).import(PayloadUse::Moved, &Pool::new(0)).unwrap();
    assert_eq!(imported.batches[0].num_rows(), 12);
    assert_eq!(imported.bytes, 0);
    columns(usize::MAX)
        .import(PayloadUse::Moved, &Pool::new(0))
        .unwrap_err();
}

/// payload that is only moved stays where JavaScript put it; structure does not.
#[test]
fn moved_payload_stays_in_place_and_structure_is_copied() {
    let given = RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int64Array::from_iter((0..100).map(|n| (n % 3 > 0).then_some(n)))) as ArrayRef,
        ),
        (
            "s",
            Arc::new(StringArray::from_iter_values((0..100).map(|n| n.to_string()))) as ArrayRef,
        ),
    ])
    .unwrap();
    let pins = Pins::new(1 << 30, Box::new(|_, _| {}));
    let mut heap = Heap::pinned(Shape::default(), &pins);
    let handoff_batch = heap.handoff_batch(&given);
    assert!(handoff_batch.is_pinned());
    let imported = handoff_batch.import(PayloadUse::Moved, &Pool::new(0)).unwrap();
    let batch = &imported.batches[0];
    let address = |buffer: &arrow::buffer::Buffer| buffer.as_ptr() as usize;
    // Placed in this order: validity, values; offsets, values.
    let [validity, numbers, offsets, text] = std::mem::take(&mut heap.places).try_into().unwrap();
    drop(heap);
    let first = batch.column(0).to_data();
    assert_eq!(address(&first.buffers()[0]), numbers.0);
    assert_ne!(address(first.nulls().unwrap().buffer()), validity.0);
    let second = batch.column(1).to_data();
    assert_ne!(address(&second.buffers()[0]), offsets.0);
    assert_eq!(address(&second.buffers()[1]), text.0);
    assert_eq!(imported.realigned_buffers, 0);
    assert_eq!(imported.bytes, 13 + 800 + 404 + 190);
    // The first column and the second each hold on to the pin.
    drop((imported, first));
    assert_eq!(pins.count(), 1);
    drop(second);
    assert_eq!(pins.count(), 0);
}

/// what Rust cannot read in place is copied, and that is told.
#[test]
fn misaligned_payload_is_copied_and_counted() {
    let given = batch(
        &schema_of([DataType::Decimal128(10, 2), DataType::Int32, DataType::Int8]),
        20,
        &mut Seed(2),
    );
    let misaligned = |misalign| Shape {
        misalign,
        ..Shape::default()
    };
    for payload in MODES {
        assert_eq!(arrives(&given, &misaligned(0), payload).realigned_buffers, 0);
        assert_eq!(arrives(&given, &misaligned(8), payload).realigned_buffers, 1);
        assert_eq!(arrives(&given, &misaligned(1), payload).realigned_buffers, 2);
    }
}

/// a slice holds on to what it uses, not to the whole of what it was cut from.
#[test]
fn a_small_slice_of_a_large_batch_is_small() {
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..10_000).map(|n| format!("value {n:10}")),
    ));
    let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(
        (0..10_000).map(|n| format!("value {n:10}")),
    ));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..10_000).map(|n| Some(vec![Some(n); 5])),
    ));
    let given = RecordBatch::try_from_iter([("text", text), ("views", views), ("lists", lists)]).unwrap();
    for payload in MODES {
        let imported = arrives(&given.slice(5_000, 10), &Shape::default(), payload);
        assert!(imported.bytes < 2_000, "{}", imported.bytes);
    }
}

/// text is looked at in pieces, and characters may lie across their seams.
#[test]
fn long_text_of_wide_characters_arrives() {
    for lead in 0..5 {
        let long = "x".repeat(lead) + &"漢🦀é".repeat(5_000);
        let texts = [long.as_str(), "", "short", &long];
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts));
        let given = RecordBatch::try_from_iter([("text", text), ("views", views)]).unwrap();
        for payload in MODES {
            arrives(&given, &Shape::default(), payload);
        }
    }
}

/// R-13 needs it: the same bytes have the same digest, others another.
#[test]
fn a_digest_tells_whether_payload_changed() {
    let given = batch(&schema_of([DataType::Utf8, DataType::Int64]), 3_000, &mut Seed(3));
    let one = Heap::owned(Shape::default()).columns(&given);
    let mut other = Heap::owned(Shape::default()).columns(&given);
    let values = other.buffers.last_mut().unwrap().as_mut().unwrap();
    let mut changed = vec![0u8; values.len()];
    changed[9_000] = 1;
    *values = arrow_ingest::handoff::Foreign::from_buffer(changed.into());
    let (one, other) = (HandoffBatch::Columns(one), HandoffBatch::Columns(other));
    assert_eq!(one.digest(), one.digest());
    assert_ne!(one.digest(), other.digest());
    assert_eq!(one.bytes(), other.bytes());
    assert!(!one.is_pinned());
}
