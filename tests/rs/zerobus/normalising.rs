//! Batches are brought into the stream's schema, losing nothing.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use proptest::prelude::*;

use crate::destination::Write;
use crate::destination::zerobus::normalise::{Normalised, StreamConversion};
use crate::destination::zerobus::prepare::prepare;
use crate::destination::zerobus::types::on_the_wire;
use crate::error::Code;

fn one(name: &str, array: ArrayRef) -> RecordBatch {
    let field = Field::new(name, array.data_type().clone(), true);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
}

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

fn normalised(batch: &RecordBatch, wanted: &SchemaRef) -> Normalised {
    let plan = StreamConversion::new(&batch.schema(), wanted).unwrap();
    let normalised = plan.apply(batch).unwrap();
    assert_eq!(normalised.batch.schema_ref(), wanted);
    assert_eq!(
        normalised.batch.num_rows() + normalised.refused.len(),
        batch.num_rows()
    );
    normalised
}

fn column(array: ArrayRef, wanted: &DataType) -> (ArrayRef, Vec<usize>) {
    let wanted = schema(vec![Field::new("c", wanted.clone(), true)]);
    let Normalised { batch, refused } = normalised(&one("c", array), &wanted);
    (
        batch.column(0).clone(),
        refused.into_iter().map(|mismatch| mismatch.row).collect(),
    )
}

fn micros(zone: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zone.then(|| "UTC".into()))
}

fn texts() -> Vec<Option<&'static str>> {
    vec![Some("a"), None, Some("a longer one than a view holds"), Some("")]
}

/// The type table of `specs/zerobus.md`, the exact half.
#[test]
fn what_has_its_like_arrives_as_it_left() {
    let large: ArrayRef = Arc::new(LargeStringArray::from(texts()));
    let dictionary: DictionaryArray<Int8Type> = texts().into_iter().collect();
    let given: [ArrayRef; 4] = [
        Arc::new(StringArray::from(texts())),
        Arc::new(StringViewArray::from(texts())),
        Arc::new(dictionary),
        Arc::new(LargeStringArray::from(texts())),
    ];
    for array in given {
        assert_eq!(
            column(array.clone(), &DataType::LargeUtf8),
            (large.clone(), vec![])
        );
        let small: ArrayRef = Arc::new(StringArray::from(texts()));
        assert_eq!(column(array, &DataType::Utf8).0.as_ref(), small.as_ref());
    }
    let bytes: Vec<Option<&[u8]>> = vec![Some(b"ab"), None, Some(b"cd")];
    let large: ArrayRef = Arc::new(LargeBinaryArray::from(bytes.clone()));
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes.clone().into_iter(), 2).unwrap();
    let given: [ArrayRef; 3] = [
        Arc::new(BinaryArray::from(bytes.clone())),
        Arc::new(BinaryViewArray::from(bytes)),
        Arc::new(fixed),
    ];
    for array in given {
        assert_eq!(column(array, &DataType::LargeBinary), (large.clone(), vec![]));
    }
    let runs = RunArray::<Int32Type>::try_new(
        &Int32Array::from(vec![2, 5]),
        &StringArray::from(vec![Some("x"), None]),
    );
    let runs: ArrayRef = Arc::new(runs.unwrap());
    let (found, _) = column(runs.slice(1, 3), &DataType::LargeUtf8);
    assert_eq!(
        found.as_string::<i64>(),
        &LargeStringArray::from(vec![Some("x"), None, None])
    );
    let decimals: ArrayRef = Arc::new(
        Decimal128Array::from(vec![Some(-37), None, Some(12_345)])
            .with_precision_and_scale(10, 2)
            .unwrap(),
    );
    let (found, _) = column(decimals, &DataType::LargeUtf8);
    assert_eq!(
        found.as_string::<i64>(),
        &LargeStringArray::from(vec![Some("-0.37"), None, Some("123.45")])
    );
    let nothing: ArrayRef = Arc::new(NullArray::new(3));
    assert_eq!(column(nothing, &micros(true)).0.null_count(), 3);
}

/// The other half: values that have no like are named, the others go.
#[test]
fn what_does_not_fit_is_named_by_row_and_the_rest_goes() {
    let nanos = TimestampNanosecondArray::from(vec![Some(1_000), Some(1_001), None, Some(-1)]);
    let nanos: ArrayRef = Arc::new(nanos.with_timezone("Europe/Berlin"));
    let (found, refused) = column(nanos, &micros(true));
    assert_eq!(refused, [1, 3]);
    let expected = TimestampMicrosecondArray::from(vec![Some(1), None]).with_timezone("UTC");
    assert_eq!(found.as_primitive::<TimestampMicrosecondType>(), &expected);

    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX, 5, i64::MIN]));
    assert_eq!(column(seconds, &micros(false)).1, [0, 2]);
    let odd: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]).with_timezone("Middle/Earth"));
    let wanted = schema(vec![Field::new("c", micros(true), true)]);
    let reason = &normalised(&one("c", odd), &wanted).refused[0].reason;
    let number = "9223372036854775807 as Timestamp(s, \"Middle/Earth\") does not fit Timestamp";
    assert!(reason.starts_with(number), "{reason}");
    let days: ArrayRef = Arc::new(Date64Array::from(vec![86_400_000, 86_400_001, -1]));
    let (found, refused) = column(days, &DataType::Date32);
    assert_eq!(
        (found.as_primitive::<Date32Type>().values().as_ref(), refused),
        ([1].as_slice(), vec![1, 2])
    );
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40, -7, i64::MIN]));
    assert_eq!(column(wide, &DataType::Int32).1, [0, 2]);
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 7]));
    assert_eq!(column(unsigned, &DataType::Int64).1, [0]);
    let negative: ArrayRef = Arc::new(Int8Array::from(vec![-1, 7]));
    assert_eq!(column(negative, &DataType::UInt16).1, [0]);
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![
        0.1,
        0.5,
        f64::NAN,
        f64::INFINITY,
        1e300,
        -0.0,
    ]));
    let (found, refused) = column(doubles, &DataType::Float32);
    assert_eq!(refused, [0, 4]);
    assert!(found.as_primitive::<Float32Type>().value(3).is_sign_negative());
    let cents: ArrayRef = Arc::new(
        Decimal128Array::from(vec![150, 155, 99_990])
            .with_precision_and_scale(5, 2)
            .unwrap(),
    );
    assert_eq!(column(cents, &DataType::Decimal128(3, 1)).1, [1, 2]);

    // A row that fails twice is told once, by its first column; nulls where none may be are told too.
    let batch = RecordBatch::try_from_iter([
        (
            "b",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(1 << 40)])) as ArrayRef,
        ),
        (
            "a",
            Arc::new(Int64Array::from(vec![Some(1 << 40), Some(2), Some(1 << 40)])) as ArrayRef,
        ),
    ])
    .unwrap();
    let wanted = schema(vec![
        Field::new("a", DataType::Int32, false),
        Field::new("b", DataType::Int32, false),
    ]);
    let refused = normalised(&batch, &wanted).refused;
    let told: Vec<(usize, &str)> = refused
        .iter()
        .map(|mismatch| (mismatch.row, mismatch.field.as_str()))
        .collect();
    assert_eq!(told, [(0, "a"), (1, "b"), (2, "a")]);
    assert!(refused[0].reason.contains("1099511627776 does not fit Int32"));
    assert!(refused[1].reason.contains("null"));
}

#[test]
fn columns_go_by_name_and_what_may_be_missing_is_null() {
    let batch = RecordBatch::try_from_iter([
        ("b", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        ("a", Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef),
    ])
    .unwrap();
    let wanted = schema(vec![
        Field::new("a", DataType::LargeUtf8, false),
        Field::new("n", micros(true), true),
        Field::new("b", DataType::Int64, true),
    ]);
    let found = normalised(&batch, &wanted).batch;
    assert_eq!(found.column(0).as_string::<i64>().value(1), "y");
    assert_eq!(found.column(1).null_count(), 2);
    assert_eq!(found.column(2).as_primitive::<Int64Type>().value(0), 1);
}

/// All that is wrong at once, each with column, type given and type wanted.
#[test]
fn what_no_cast_can_save_is_refused_before_any_row_is_looked_at() {
    let inner = |item: DataType| DataType::Struct(Fields::from(vec![Field::new("x", item, true)]));
    let given = schema(vec![
        Field::new("s", inner(DataType::Utf8), true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("more", DataType::Int8, true),
        Field::new("twice", DataType::Int8, true),
        Field::new("twice", DataType::Int8, true),
        Field::new("m", DataType::Int8, true),
    ]);
    let wanted = schema(vec![
        Field::new("s", inner(DataType::Int64), true),
        Field::new("t", micros(true), true),
        Field::new("twice", DataType::Int8, true),
        Field::new("required", DataType::Int32, false),
        Field::new("m", DataType::new_list(DataType::Int8, true), true),
    ]);
    let error = StreamConversion::new(&given, &wanted).unwrap_err();
    assert_eq!(error.code(), Code::SchemaMismatch);
    for line in [
        "more: given as Int8, and the table has no such column",
        "twice: there are two of that name",
        "s.x: given as Utf8, wanted as Int64",
        "t: given as Timestamp(µs), wanted as Timestamp(µs, \"UTC\")",
        "required: not given, and the table requires it as Int32",
        "m: given as Int8, wanted as List(",
    ] {
        assert!(error.message().contains(line), "{line}\n{error}");
    }
    assert_eq!(error.field(), Some("more"));
}

#[test]
fn a_batch_that_fits_goes_through_untouched() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = one("c", column.clone());
    let relabelled = Field::new("c", DataType::Int64, true).with_metadata([("k".into(), "v".into())].into());
    for wanted in [batch.schema(), schema(vec![relabelled])] {
        let plan = StreamConversion::new(&batch.schema(), &wanted).unwrap();
        assert!(plan.is_free());
        let found = plan.apply(&batch).unwrap().batch;
        assert!(Arc::ptr_eq(found.column(0), &column));
        assert_eq!(found.schema(), wanted);
    }
    let no_columns = RecordBatch::try_new_with_options(
        schema(vec![]),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(3)),
    );
    assert_eq!(
        normalised(&no_columns.unwrap(), &schema(vec![])).batch.num_rows(),
        3
    );
}

/// A list of structs with a list, every level of which is cast, sliced and with nulls all over.
#[test]
fn nested_columns_are_cast_all_the_way_down() {
    let names = StringArray::from(vec![Some("a"), None, Some("c"), Some("d")]);
    let times = TimestampMillisecondArray::from(vec![1, 2, i64::MAX, 4]);
    let inner = StructArray::from(vec![
        (
            Arc::new(Field::new("when", times.data_type().clone(), true)),
            Arc::new(times) as ArrayRef,
        ),
        (
            Arc::new(Field::new("who", DataType::Utf8, true)),
            Arc::new(names) as ArrayRef,
        ),
    ]);
    let item = Arc::new(Field::new("element", inner.data_type().clone(), true));
    let offsets = OffsetBuffer::new(vec![0, 1, 2, 3, 3, 4].into());
    let list = ListArray::new(
        item,
        offsets,
        Arc::new(inner),
        Some(NullBuffer::from(vec![true, true, true, false, true])),
    );
    let wanted_inner = DataType::Struct(Fields::from(vec![
        Field::new("who", DataType::LargeUtf8, false),
        Field::new("when", micros(false), true),
        Field::new("where", DataType::Float64, true),
    ]));
    let wanted = DataType::LargeList(Arc::new(Field::new("item", wanted_inner, false)));
    for start in [0, 1] {
        let given: ArrayRef = Arc::new(list.slice(start, 5 - start));
        let (found, refused) = column(given, &wanted);
        // Row 1 lacks a name, row 2 has no time; row 3 is null and row 4 is good.
        assert_eq!(refused, [1 - start, 2 - start]);
        let last = found.as_list::<i64>().value(2 - start);
        assert_eq!(last.as_struct().column(0).as_string::<i64>().value(0), "d");
        assert_eq!(
            last.as_struct()
                .column(1)
                .as_primitive::<TimestampMicrosecondType>()
                .value(0),
            4_000
        );
        assert!(found.is_null(1 - start));
    }
}

#[test]
fn what_is_under_a_null_does_not_exist() {
    let values = Int64Array::from(vec![Some(1), None, Some(1 << 40), Some(4)]);
    let nulls = Some(NullBuffer::from(vec![true, false, false, true]));
    let field = Arc::new(Field::new("n", DataType::Int64, true));
    let inner = StructArray::new(
        vec![field.clone()].into(),
        vec![Arc::new(values.clone())],
        nulls.clone(),
    );
    let wanted = DataType::Struct(Fields::from(vec![Field::new("n", DataType::Int32, false)]));
    let (found, refused) = column(Arc::new(inner), &wanted);
    assert_eq!((found.len(), found.null_count(), refused), (4, 2, vec![]));
    let offsets = OffsetBuffer::new(vec![0, 1, 2, 3, 4].into());
    let list = ListArray::new(field, offsets, Arc::new(values), nulls);
    let wanted = DataType::List(Arc::new(Field::new("item", DataType::Int32, false)));
    let (found, refused) = column(Arc::new(list), &wanted);
    assert_eq!((found.len(), found.null_count(), refused), (4, 2, vec![]));
    assert_eq!(
        found
            .as_list::<i32>()
            .value(3)
            .as_primitive::<Int32Type>()
            .value(0),
        4
    );
}

#[test]
fn maps_are_cast_by_position_and_keep_their_entries() {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for (key, value) in [("a", 1), ("b", 1 << 40)] {
        builder.keys().append_value(key);
        builder.values().append_value(value);
        builder.append(true).unwrap();
    }
    builder.append(false).unwrap();
    let map: ArrayRef = Arc::new(builder.finish());
    let entries = Fields::from(vec![
        Field::new("keys", DataType::LargeUtf8, false),
        Field::new("values", DataType::Int32, true),
    ]);
    let wanted = DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(entries), false)),
        false,
    );
    let (found, refused) = column(map.clone(), &wanted);
    assert_eq!((refused, found.len(), found.null_count()), (vec![1], 2, 1));
    assert_eq!(found.as_map().keys().as_string::<i64>().value(0), "a");
    // Alone the wanted schema of a map is the service's.
    let wire = on_the_wire(&Schema::new(vec![Field::new("c", map.data_type().clone(), true)])).unwrap();
    let DataType::Map(entries, false) = wire.field(0).data_type() else {
        panic!("{wire:?}");
    };
    assert_eq!(entries.name(), "entries");
}

#[test]
fn other_kinds_of_lists_become_lists() {
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        vec![Some(vec![Some(1), Some(2)]), None, Some(vec![Some(5), None])],
        2,
    );
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        None,
        Some(vec![Some(5), None]),
    ]));
    let view_type = DataType::ListView(Arc::new(Field::new("item", DataType::Int32, true)));
    let large = DataType::LargeList(Arc::new(Field::new("item", DataType::Int32, true)));
    let given: [ArrayRef; 3] = [
        Arc::new(fixed),
        cast(&list, &view_type).unwrap(),
        cast(&list, &large).unwrap(),
    ];
    let wanted = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let expected = cast(&list, &wanted).unwrap();
    for array in given {
        let (found, refused) = column(array, &wanted);
        assert_eq!((&found, refused), (&expected, vec![]));
    }
}

/// Without a catalog, what goes onto the wire is what the service would have made of the table.
#[test]
fn every_type_has_its_wire_type_or_is_refused() {
    let wire = |given: DataType| {
        let given = Schema::new(vec![Field::new("c", given, true)]);
        on_the_wire(&given).map(|schema| schema.field(0).data_type().clone())
    };
    for (given, wanted) in [
        (DataType::UInt8, DataType::Int16),
        (DataType::UInt16, DataType::Int32),
        (DataType::UInt32, DataType::Int64),
        (DataType::UInt64, DataType::Int64),
        (DataType::Float16, DataType::Float32),
        (DataType::Utf8, DataType::Utf8),
        (DataType::Utf8View, DataType::LargeUtf8),
        (DataType::BinaryView, DataType::LargeBinary),
        (DataType::FixedSizeBinary(7), DataType::LargeBinary),
        (DataType::Date64, DataType::Date32),
        (
            DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
            micros(true),
        ),
        (DataType::Timestamp(TimeUnit::Second, None), micros(false)),
        (DataType::Decimal256(50, 3), DataType::LargeUtf8),
        (
            DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int8)),
            DataType::Int8,
        ),
    ] {
        assert_eq!(wire(given).unwrap(), wanted);
    }
    for given in [
        DataType::Null,
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Duration(TimeUnit::Second),
        DataType::Interval(IntervalUnit::DayTime),
        DataType::new_list(DataType::Time32(TimeUnit::Second), true),
    ] {
        let error = wire(given).unwrap_err();
        assert_eq!((error.code(), error.field()), (Code::SchemaMismatch, Some("c")));
    }
}

fn write_of(batches: Vec<RecordBatch>) -> Write {
    Write {
        positions: Vec::new(),
        id: 1,
        rows: batches.iter().map(RecordBatch::num_rows).sum(),
        bytes: 0,
        batches,
    }
}

#[test]
fn without_a_quarantine_the_first_row_that_does_not_fit_fails_the_write() {
    let numbers = |values: Vec<i64>| one("n", Arc::new(Int64Array::from(values)));
    let write = write_of(vec![numbers(vec![1, 2]), numbers(vec![3, 1 << 40])]);
    let wanted = schema(vec![Field::new("n", DataType::Int32, true)]);
    let plan = StreamConversion::new(&write.batches[0].schema(), &wanted).unwrap();
    let error = prepare(&plan, &write, false).unwrap_err();
    assert_eq!(
        (error.code(), error.row(), error.field()),
        (Code::BatchInvalid, Some(3), Some("n"))
    );
    let prepared = prepare(&plan, &write, true).unwrap();
    assert_eq!(prepared.rejections[0].row, 3);
    assert_eq!(prepared.rejections[0].code, "BATCH_INVALID");
}

/// a row that is too large is refused like any other, and rows keep their numbers.
/// the official client cuts a batch by its number of rows, whatever they measure.
#[test]
fn uneven_rows_go_in_batches_that_are_cut_into_messages_small_enough() {
    let words: Vec<String> = (0..1_000)
        .map(|row| "x".repeat(if row % 500 == 7 { 4_100_000 } else { 1_000 }))
        .collect();
    let column: ArrayRef = Arc::new(LargeStringArray::from(words.clone()));
    let batch = RecordBatch::try_from_iter([("t", column)]).unwrap();
    let wanted = schema(vec![Field::new("t", DataType::LargeUtf8, true)]);
    let plan = StreamConversion::new(&batch.schema(), &wanted).unwrap();
    let prepared = prepare(&plan, &write_of(vec![batch]), true).unwrap();
    assert!(prepared.rejections.is_empty() && prepared.batches.len() > 1);
    let mut row = 0;
    for batch in &prepared.batches {
        let words_of = batch.column(0).as_string::<i64>();
        let cut = batch.num_rows() / (words_of.get_buffer_memory_size() / (2 << 20) + 1);
        for start in (0..batch.num_rows()).step_by(cut.max(1)) {
            let length = cut.max(1).min(batch.num_rows() - start);
            let bytes: usize = (start..start + length).map(|at| words_of.value(at).len()).sum();
            assert!(bytes < 4 << 20, "{length} rows of {bytes} bytes in one message");
        }
        for at in 0..batch.num_rows() {
            assert_eq!(words_of.value(at), words[row]);
            row += 1;
        }
    }
    assert_eq!(row, 1_000);
}

#[test]
fn rows_that_are_too_large_are_refused_rows() {
    let large = "x".repeat(4_194_285);
    let batch = RecordBatch::try_from_iter([
        (
            "n",
            Arc::new(Int64Array::from(vec![1 << 40, 2, 3, 4])) as ArrayRef,
        ),
        (
            "t",
            Arc::new(StringArray::from(vec!["a", large.as_str(), "b", large.as_str()])) as ArrayRef,
        ),
    ])
    .unwrap();
    let wanted = schema(vec![
        Field::new("n", DataType::Int32, true),
        Field::new("t", DataType::LargeUtf8, true),
    ]);
    let plan = StreamConversion::new(&batch.schema(), &wanted).unwrap();
    let prepared = prepare(&plan, &write_of(vec![batch]), true).unwrap();
    let rows: Vec<u64> = prepared
        .rejections
        .iter()
        .map(|rejection| rejection.row)
        .collect();
    assert_eq!(rows, [0, 1, 3]);
    assert!(prepared.rejections[1].message.contains("4194285"));
    assert_eq!(
        prepared.batches[0]
            .column(0)
            .as_primitive::<Int32Type>()
            .values()
            .as_ref(),
        [3]
    );
}

proptest! {
    /// accepted and refused rows together are the rows given, in order and unchanged, for any values
    /// in any batches.
    #[test]
    fn accepted_and_refused_are_what_was_given(
        batches in prop::collection::vec(
            prop::collection::vec(prop::option::of(prop_oneof![-5i64..5, any::<i64>()]), 1..20), 1..5),
        nullable in any::<bool>(),
        nanos in any::<bool>(),
    ) {
        let (given_type, wanted_type) = match nanos {
            true => (DataType::Timestamp(TimeUnit::Nanosecond, None), micros(false)),
            false => (DataType::Int64, DataType::Int16),
        };
        let fits = |value: &Option<i64>| match value {
            None => nullable,
            Some(value) if nanos => value % 1_000 == 0,
            Some(value) => i16::try_from(*value).is_ok(),
        };
        let rows: Vec<Option<i64>> = batches.concat();
        let batches: Vec<RecordBatch> = batches
            .into_iter()
            .map(|values| one("v", cast(&Int64Array::from(values), &given_type).unwrap()))
            .collect();
        let wanted = schema(vec![Field::new("v", wanted_type, nullable)]);
        let plan = StreamConversion::new(&batches[0].schema(), &wanted).unwrap();
        let prepared = prepare(&plan, &write_of(batches), true).unwrap();
        let refused: Vec<usize> = prepared.rejections.iter().map(|rejection| rejection.row as usize).collect();
        let expected: Vec<usize> = (0..rows.len()).filter(|row| !fits(&rows[*row])).collect();
        prop_assert_eq!(refused, expected);
        let mut accepted = Vec::new();
        for batch in &prepared.batches {
            prop_assert!(batch.num_rows() > 0);
            let back = cast(&cast(batch.column(0), &given_type).unwrap(), &DataType::Int64).unwrap();
            accepted.extend(back.as_primitive::<Int64Type>().iter());
        }
        let expected: Vec<Option<i64>> = rows.iter().filter(|row| fits(row)).copied().collect();
        prop_assert_eq!(accepted, expected);
    }
}

/// JavaScript may still write to what came pinned, so what is cast is copied first; the rest stays.
#[test]
fn only_what_is_cast_is_copied() {
    let batch = RecordBatch::try_from_iter([
        ("n", Arc::new(Int64Array::from_iter_values(0..9)) as ArrayRef),
        ("s", Arc::new(StringArray::from(vec!["text"; 9])) as ArrayRef),
    ])
    .unwrap();
    let wanted = schema(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("s", DataType::LargeUtf8, true),
    ]);
    let cast = normalised(&batch, &wanted).batch;
    let numbers = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().as_ptr();
    assert_eq!(numbers(&cast), numbers(&batch));
    let given = batch.column(1).as_string::<i32>().values().as_ptr();
    assert_ne!(cast.column(1).as_string::<i64>().values().as_ptr(), given);
}

/// the client cuts by what buffers say they hold, and a slice would say that it holds the whole.
#[test]
fn a_slice_of_a_large_batch_is_not_cut_into_crumbs() {
    let whole = one("n", Arc::new(Int64Array::from_iter_values(0..1_000_000)));
    let slice = whole.slice(1_000, 60_000);
    let plan = StreamConversion::new(&whole.schema(), &whole.schema()).unwrap();
    let write = Write {
        positions: Vec::new(),
        id: 1,
        rows: slice.num_rows(),
        bytes: 480_000,
        batches: vec![slice.clone()],
    };
    let prepared = prepare(&plan, &write, false).unwrap();
    assert_eq!(prepared.batches, [slice]);
    assert!(prepared.batches[0].get_array_memory_size() < 500_000);
}
