//! What rows come to once a value that many of them point at is written out for each. Pure.
//!
//! Invariants:
//! - Whatever a batch points at, what is cast at once is bounded: a few bytes may stand for more than there is memory,
//!   and an allocation that fails ends the process.
//! - Payload is not read, but for keys, offsets, views and run ends.
//!
//! It casts nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericListViewArray, OffsetSizeTrait, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType as _, DataType, Int64Type};

use super::super::flight::arrays::{keys_of, runs};
use super::limits::ROW_BYTES;

/// What is cast at once.
const AT_ONCE: u64 = 8 * ROW_BYTES as u64;

/// Some consecutive rows of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Stretch {
    Rows {
        start: usize,
        rows: usize,
    },
    /// One that the service cannot take, whatever it is cast to.
    TooLarge {
        row: usize,
        bytes: u64,
    },
}

/// The rows of a batch in stretches that can be cast.
pub fn stretches(batch: &RecordBatch) -> Vec<Stretch> {
    let rows = batch.num_rows();
    if !batch
        .columns()
        .iter()
        .any(|column| points_elsewhere(column.data_type()))
    {
        return vec![Stretch::Rows { start: 0, rows }];
    }
    // Text stays as long as it is; a number may become one of an eighth.
    let (most, least) = (sizes(batch, 1), sizes(batch, 8));
    let mut found = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (row, (most, least)) in most.into_iter().zip(least).enumerate() {
        let is_large = least > ROW_BYTES as u64;
        if start < row && (is_large || bytes.saturating_add(most) > AT_ONCE) {
            let rows = row - start;
            found.push(Stretch::Rows { start, rows });
            (start, bytes) = (row, 0);
        }
        if is_large {
            found.push(Stretch::TooLarge { row, bytes: least });
            start = row + 1;
        } else {
            bytes = bytes.saturating_add(most);
        }
    }
    if start < rows || rows == 0 {
        let rows = rows - start;
        found.push(Stretch::Rows { start, rows });
    }
    found
}

fn sizes(batch: &RecordBatch, narrowing: u64) -> Vec<u64> {
    let mut sizes = vec![0; batch.num_rows()];
    for column in batch.columns() {
        add(&mut sizes, &sizes_of(column, narrowing));
    }
    sizes
}

/// Whether rows of it may share what they hold.
fn points_elsewhere(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..)
        | DataType::RunEndEncoded(..)
        | DataType::Utf8View
        | DataType::BinaryView
        | DataType::ListView(_)
        | DataType::LargeListView(_) => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => points_elsewhere(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| points_elsewhere(field.data_type())),
        _ => false,
    }
}

/// Bytes of each row, nothing of a null.
fn sizes_of(array: &ArrayRef, narrowing: u64) -> Vec<u64> {
    let mut sizes = match array.data_type() {
        DataType::Utf8 => between(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => between(array.as_string::<i64>().value_offsets()),
        DataType::Binary => between(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => between(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => lengths(array.as_string_view().views()),
        DataType::BinaryView => lengths(array.as_binary_view().views()),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let values = sizes_of(dictionary.values(), narrowing);
            let keys = keys_of(dictionary).into_iter();
            // The key of a null may be any.
            keys.map(|key| values.get(key).copied().unwrap_or(0)).collect()
        }
        DataType::RunEndEncoded(..) => of_runs(array, narrowing),
        DataType::List(_) => of_list(
            array.as_list::<i32>().value_offsets(),
            array.as_list::<i32>().values(),
            narrowing,
        ),
        DataType::LargeList(_) => of_list(
            array.as_list::<i64>().value_offsets(),
            array.as_list::<i64>().values(),
            narrowing,
        ),
        DataType::Map(..) => {
            let entries: ArrayRef = Arc::new(array.as_map().entries().clone());
            of_list(array.as_map().value_offsets(), &entries, narrowing)
        }
        DataType::ListView(_) => of_list_view(array.as_list_view::<i32>(), narrowing),
        DataType::LargeListView(_) => of_list_view(array.as_list_view::<i64>(), narrowing),
        DataType::FixedSizeList(_, size) if *size > 0 => {
            let items = sizes_of(array.as_fixed_size_list().values(), narrowing);
            let lists = items.chunks(*size as usize);
            lists
                .map(|list| list.iter().fold(0, |sum: u64, item| sum.saturating_add(*item)))
                .collect()
        }
        DataType::Struct(_) => {
            let mut sizes = vec![0; array.len()];
            let columns = array.as_struct().columns();
            columns
                .iter()
                .for_each(|column| add(&mut sizes, &sizes_of(column, narrowing)));
            sizes
        }
        DataType::FixedSizeBinary(width) => vec![*width as u64; array.len()],
        other => vec![other.primitive_width().unwrap_or(1) as u64 / narrowing; array.len()],
    };
    if let Some(nulls) = array.nulls() {
        for (size, valid) in sizes.iter_mut().zip(nulls) {
            *size *= u64::from(valid);
        }
    }
    sizes
}

fn add(sizes: &mut [u64], others: &[u64]) {
    for (size, other) in sizes.iter_mut().zip(others) {
        *size = size.saturating_add(*other);
    }
}

fn between<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<u64> {
    offsets
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_usize() as u64)
        .collect()
}

fn lengths(views: &[u128]) -> Vec<u64> {
    views.iter().map(|view| u64::from(*view as u32)).collect()
}

/// Before each item, and behind the last: what all of them before come to.
fn sums(items: &ArrayRef, narrowing: u64) -> Vec<u64> {
    let mut sum = 0_u64;
    let added = sizes_of(items, narrowing).into_iter().map(|size| {
        sum = sum.saturating_add(size);
        sum
    });
    std::iter::once(0).chain(added).collect()
}

fn of_list<O: OffsetSizeTrait>(offsets: &[O], items: &ArrayRef, narrowing: u64) -> Vec<u64> {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    let sums = sums(&items.slice(first, last - first), narrowing);
    let at = |offset: &O| sums[offset.as_usize() - first];
    offsets
        .windows(2)
        .map(|pair| at(&pair[1]) - at(&pair[0]))
        .collect()
}

fn of_list_view<O: OffsetSizeTrait>(list: &GenericListViewArray<O>, narrowing: u64) -> Vec<u64> {
    let sums = sums(list.values(), narrowing);
    let of = |(offset, size): (&O, &O)| match size.as_usize() {
        0 => 0,
        size => sums[offset.as_usize() + size] - sums[offset.as_usize()],
    };
    list.offsets().iter().zip(list.sizes().iter()).map(of).collect()
}

fn of_runs(array: &ArrayRef, narrowing: u64) -> Vec<u64> {
    let (ends, values) = runs(array);
    let mut sizes = Vec::with_capacity(array.len());
    // Whole numbers of 16 to 64 bits: there is none that does not fit.
    let ends = cast(&ends, &DataType::Int64).unwrap_or(ends);
    let ends = ends.as_primitive::<Int64Type>().values();
    for (end, size) in ends.iter().zip(sizes_of(&values, narrowing)) {
        sizes.resize(end.as_usize(), size);
    }
    sizes.resize(array.len(), 0);
    sizes
}

#[cfg(test)]
mod tests {
    use arrow::array::*;
    use arrow::buffer::{OffsetBuffer, ScalarBuffer};
    use arrow::datatypes::{Field, Int8Type, Int32Type};

    use super::*;

    fn words() -> ArrayRef {
        Arc::new(StringViewArray::from(vec![
            Some("a"),
            Some("forty bytes, which is more than in a view"),
            None,
        ]))
    }

    fn item(array: &ArrayRef) -> Arc<Field> {
        Arc::new(Field::new("item", array.data_type().clone(), true))
    }

    /// Whatever the type, a row is worth what it points at, however often that is pointed at.
    #[test]
    fn a_row_comes_to_all_that_it_points_at() {
        let long = 41;
        let keys = Int8Array::from(vec![Some(1), Some(1), None]);
        let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(keys, words()));
        let runs =
            RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &words().slice(1, 2)).unwrap();
        let lists = ListArray::new(
            item(&dictionary),
            OffsetBuffer::from_lengths([0, 2, 1]),
            dictionary.clone(),
            None,
        );
        let lengths = OffsetBuffer::from_lengths([1, 1, 1]);
        let large = LargeListArray::new(item(&words()), lengths, words(), None);
        let views = ListViewArray::new(
            item(&words()),
            ScalarBuffer::from(vec![0, 1, 0]),
            ScalarBuffer::from(vec![2, 1, 0]),
            words(),
            None,
        );
        let both: ArrayRef = Arc::new(StructArray::from(vec![
            (item(&words()), words()),
            (item(&words()), words()),
        ]));
        let pairs = FixedSizeListArray::new(item(&both), 1, both.clone(), None);
        let mut map = MapBuilder::new(None, StringBuilder::new(), BinaryViewBuilder::new());
        map.keys().append_value("key");
        map.values().append_value([0; 30]);
        map.append(true).unwrap();
        let map: ArrayRef = Arc::new(map.finish());
        for (array, sizes) in [
            (words(), vec![1, long, 0]),
            (dictionary, vec![long, long, 0]),
            // Nothing but nulls: there is no value.
            (
                Arc::new(DictionaryArray::<Int8Type>::new(
                    Int8Array::new_null(2),
                    words().slice(0, 0),
                )),
                vec![0, 0],
            ),
            (Arc::new(runs), vec![long, long, 0]),
            (Arc::new(lists), vec![0, 2 * long, 0]),
            (Arc::new(large), vec![1, long, 0]),
            (Arc::new(views), vec![1 + long, long, 0]),
            (both, vec![2, 2 * long, 0]),
            (Arc::new(pairs), vec![2, 2 * long, 0]),
            (map, vec![33]),
            (Arc::new(BinaryArray::from(vec![b"abc".as_slice()])), vec![3]),
            (Arc::new(LargeBinaryArray::from(vec![b"abc".as_slice()])), vec![3]),
            (Arc::new(LargeStringArray::from(vec!["abc"])), vec![3]),
            (Arc::new(StringArray::from(vec!["abc"])), vec![3]),
            (
                Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once([0_u8; 5])).unwrap()),
                vec![5],
            ),
            (Arc::new(Int64Array::from(vec![Some(1), None])), vec![8, 0]),
        ] {
            assert_eq!(sizes_of(&array, 1), sizes, "{}", array.data_type());
        }
    }

    fn repeated(bytes: usize, rows: usize) -> RecordBatch {
        let words: ArrayRef = Arc::new(LargeStringArray::from(vec!["x".repeat(bytes), String::new()]));
        let keys = Int32Array::from_iter_values((0..rows).map(|row| i32::from(row % 4 == 3)));
        let column: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, words));
        RecordBatch::try_from_iter([("d", column)]).unwrap()
    }

    #[test]
    fn rows_are_cast_in_stretches_of_bounded_size() {
        // 3 of 4 rows have 4 MB, and 33 MB are cast at once.
        let cut = stretches(&repeated(4_000_000, 20));
        let rows = |start, rows| Stretch::Rows { start, rows };
        assert_eq!(cut, [rows(0, 10), rows(10, 10)]);
        assert_eq!(stretches(&repeated(4_000_000, 0)), [rows(0, 0)]);
        let bytes = 5_000_000;
        let large = |row| Stretch::TooLarge { row, bytes };
        assert_eq!(
            stretches(&repeated(5_000_000, 5)),
            [large(0), large(1), large(2), rows(3, 1), large(4)]
        );
    }
}
