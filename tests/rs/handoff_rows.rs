//! after the import, just the rows that are there: copied, or in buffers of their size.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use arrow_ingest::error::Code;
use arrow_ingest::handoff::{PayloadUse, Pins, Pool, can_own, own, trim};

use crate::handoff_explode::{Heap, Shape};
use crate::handoff_types::{Seed, batch, leaves, nested, schema_of};

/// Every place in memory that the array refers to.
fn places(data: &ArrayData, found: &mut Vec<std::ops::Range<usize>>) {
    let nulls = data.nulls().map(|nulls| nulls.buffer().clone());
    for buffer in data.buffers().iter().chain(&nulls) {
        found.push(buffer.as_ptr() as usize..buffer.as_ptr() as usize + buffer.len());
    }
    data.child_data().iter().for_each(|child| places(child, found));
}

#[test]
fn a_copy_has_the_rows_and_none_of_the_memory() {
    let mut seed = Seed(3);
    let (mut owned, mut refused) = (0, 0);
    for kind in leaves()
        .into_iter()
        .chain(leaves().iter().flat_map(nested))
        .chain(nested(&DataType::Utf8).iter().flat_map(nested))
    {
        let whole = batch(&schema_of([kind]), 40, &mut seed);
        for given in [whole.slice(3, 20), whole.slice(40, 0), whole] {
            let column = given.column(0);
            if !can_own(column.data_type()) {
                assert_eq!(own(column).unwrap_err().code(), Code::BatchInvalid);
                refused += 1;
                continue;
            }
            let copy = own(column).unwrap();
            assert_eq!(&copy, column);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            places(&copy.to_data(), &mut ours);
            places(&column.to_data(), &mut theirs);
            let shared = |one: &std::ops::Range<usize>| {
                theirs
                    .iter()
                    .any(|other| one.start < other.end && other.start < one.end)
            };
            assert!(!ours.iter().any(shared), "{}", column.data_type());
            owned += 1;
        }
    }
    assert!(owned > 100 && refused > 30, "{owned} {refused}");
}

/// What JavaScript writes between the import and the copy is looked at again.
#[test]
fn what_changed_since_the_import_is_checked_again() {
    let given =
        RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(vec!["some", "text"])) as ArrayRef)])
            .unwrap();
    let pins = Pins::new(1 << 30, Box::new(|_, _| {}));
    let mut heap = Heap::pinned(Shape::default(), &pins);
    let handoff_batch = heap.handoff_batch(&given);
    let imported = handoff_batch.import(PayloadUse::Moved, &Pool::new(0)).unwrap();
    let column = imported.batches[0].column(0);
    let before = own(column).unwrap();
    let [_, (text, length)] = heap.places[..] else {
        panic!("{:?}", heap.places)
    };
    let write = |byte: u8| {
        // SAFETY: the memory was leaked by `Heap`, and no reference to it is alive here.
        unsafe { std::ptr::write_bytes(text as *mut u8, byte, length) }
    };
    write(0xFF);
    let error = own(column).unwrap_err();
    assert_eq!(error.code(), Code::BatchInvalid);
    assert!(error.message().contains("written to"), "{error}");
    write(b'x');
    assert_eq!(own(column).unwrap().as_string::<i32>().value(1), "xxxx");
    assert_eq!(before.as_string::<i32>().value(1), "text");
}

#[test]
fn a_trimmed_slice_is_the_slice_and_says_its_size() {
    let mut seed = Seed(4);
    for kind in leaves().into_iter().chain(leaves().iter().flat_map(nested)) {
        let whole = batch(&schema_of([kind]), 300, &mut seed);
        for (start, rows) in [(0, 300), (0, 10), (7, 20), (290, 10), (300, 0)] {
            let slice = whole.slice(start, rows);
            let trimmed = trim(&slice).unwrap();
            assert_eq!(trimmed, slice);
            trimmed.column(0).to_data().validate_full().unwrap();
            assert!(trimmed.get_array_memory_size() <= slice.get_array_memory_size() + 2_048);
        }
    }
    let numbers = RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int64Array::from_iter_values(0..100_000)) as ArrayRef,
        ),
        (
            "s",
            Arc::new(StringArray::from_iter_values((0..100_000).map(|n| n.to_string()))) as ArrayRef,
        ),
    ])
    .unwrap();
    let slice = numbers.slice(500, 1_000);
    assert!(slice.get_array_memory_size() > 1_000_000);
    let trimmed = trim(&slice).unwrap();
    assert!(
        trimmed.get_array_memory_size() < 20_000,
        "{}",
        trimmed.get_array_memory_size()
    );
    // The payload is where it was.
    let address = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().as_ptr();
    assert_eq!(address(&trimmed), address(&slice));
    drop((numbers, slice));
    assert_eq!(trimmed.column(1).as_string::<i32>().value(0), "500");
}
