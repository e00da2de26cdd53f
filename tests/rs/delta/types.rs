//! `specs/delta-types.md`, line by line: what fits arrives bit for bit, what does not is refused.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use arrow_ingest::error::Code;
use serde_json::{Value, json};

use crate::support::{Table, columns, error, field, rows};

/// Of 0001-01-01 and of 9999-12-31, in microseconds.
const FIRST: i64 = -719_162 * 86_400_000_000;
const LAST: i64 = 2_932_897 * 86_400_000_000 - 1;

fn one(name: &str, array: ArrayRef) -> RecordBatch {
    columns(vec![(name, array)])
}

fn nothing(of: &DataType) -> RecordBatch {
    one("c", new_null_array(of, 2))
}

/// every type with an exact Delta type: its name in the log, its values in the file.
#[tokio::test(flavor = "multi_thread")]
async fn exact_types_arrive_exactly() {
    let utc = |array: TimestampMicrosecondArray| -> ArrayRef { Arc::new(array.with_timezone("UTC")) };
    let strings = || -> ArrayRef { Arc::new(StringArray::from(vec![Some("a"), None, Some("ü")])) };
    let bytes = || -> ArrayRef {
        Arc::new(BinaryArray::from(vec![
            Some(b"ab".as_slice()),
            None,
            Some(b"\0\xff"),
        ]))
    };
    let days = || -> ArrayRef { Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)])) };
    let decimal = |precision, scale| -> ArrayRef {
        let array = Decimal128Array::from(vec![Some(-12), None, Some(99)]);
        Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
    };
    let times = || TimestampMicrosecondArray::from(vec![Some(-1_000_000), None, Some(5_000_000)]);
    let cases: Vec<(&str, ArrayRef, ArrayRef)> = vec![
        (
            "boolean",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "byte",
            Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(1)])),
            Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(1)])),
        ),
        (
            "short",
            Arc::new(Int16Array::from(vec![i16::MIN, 0, 1])),
            Arc::new(Int16Array::from(vec![i16::MIN, 0, 1])),
        ),
        (
            "integer",
            Arc::new(Int32Array::from(vec![i32::MIN, 0, 1])),
            Arc::new(Int32Array::from(vec![i32::MIN, 0, 1])),
        ),
        (
            "long",
            Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX])),
            Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX])),
        ),
        (
            "float",
            Arc::new(Float32Array::from(vec![f32::MIN, f32::NAN, -0.0])),
            Arc::new(Float32Array::from(vec![f32::MIN, f32::NAN, -0.0])),
        ),
        (
            "double",
            Arc::new(Float64Array::from(vec![f64::MIN, f64::INFINITY, -0.0])),
            Arc::new(Float64Array::from(vec![f64::MIN, f64::INFINITY, -0.0])),
        ),
        ("string", strings(), strings()),
        (
            "string",
            Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("ü")])),
            strings(),
        ),
        (
            "string",
            Arc::new(StringViewArray::from(vec![Some("a"), None, Some("ü")])),
            strings(),
        ),
        (
            "string",
            Arc::new(
                vec![Some("a"), None, Some("ü")]
                    .into_iter()
                    .collect::<DictionaryArray<UInt8Type>>(),
            ),
            strings(),
        ),
        (
            "string",
            Arc::new(
                DictionaryArray::<Int32Type>::try_new(
                    Int32Array::from(vec![Some(0), None, Some(1)]),
                    Arc::new(StringViewArray::from(vec!["a", "ü"])),
                )
                .unwrap(),
            ),
            strings(),
        ),
        ("binary", bytes(), bytes()),
        (
            "binary",
            Arc::new(LargeBinaryArray::from(vec![
                Some(b"ab".as_slice()),
                None,
                Some(b"\0\xff"),
            ])),
            bytes(),
        ),
        (
            "binary",
            Arc::new(BinaryViewArray::from(vec![
                Some(b"ab".as_slice()),
                None,
                Some(b"\0\xff"),
            ])),
            bytes(),
        ),
        (
            "binary",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    [Some(b"ab"), None, Some(b"\0\xff")].into_iter(),
                    2,
                )
                .unwrap(),
            ),
            bytes(),
        ),
        ("date", days(), days()),
        (
            "date",
            Arc::new(Date64Array::from(vec![
                Some(-86_400_000),
                None,
                Some(20_000 * 86_400_000),
            ])),
            days(),
        ),
        ("timestamp", utc(times()), utc(times())),
        (
            "timestamp",
            Arc::new(times().with_timezone("Europe/Berlin")),
            utc(times()),
        ),
        (
            "timestamp",
            Arc::new(TimestampSecondArray::from(vec![Some(-1), None, Some(5)]).with_timezone("UTC")),
            utc(times()),
        ),
        (
            "timestamp",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(-1_000), None, Some(5_000)]).with_timezone("UTC"),
            ),
            utc(times()),
        ),
        (
            "timestamp",
            Arc::new(
                TimestampNanosecondArray::from(vec![Some(-1_000_000_000), None, Some(5_000_000_000)])
                    .with_timezone("UTC"),
            ),
            utc(times()),
        ),
        ("timestamp_ntz", Arc::new(times()), Arc::new(times())),
        (
            "timestamp_ntz",
            Arc::new(TimestampMillisecondArray::from(vec![
                Some(-1_000),
                None,
                Some(5_000),
            ])),
            Arc::new(times()),
        ),
        ("decimal(9,2)", decimal(9, 2), decimal(9, 2)),
        ("decimal(38,0)", decimal(38, 0), decimal(38, 0)),
        (
            "decimal(9,2)",
            Arc::new(
                Decimal32Array::from(vec![Some(-12), None, Some(99)])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
            decimal(9, 2),
        ),
        (
            "decimal(18,2)",
            Arc::new(
                Decimal64Array::from(vec![Some(-12), None, Some(99)])
                    .with_precision_and_scale(18, 2)
                    .unwrap(),
            ),
            decimal(18, 2),
        ),
        (
            "decimal(20,2)",
            Arc::new(
                Decimal256Array::from_iter([Some(i256::from(-12)), None, Some(i256::from(99))])
                    .with_precision_and_scale(20, 2)
                    .unwrap(),
            ),
            decimal(20, 2),
        ),
        (
            "integer",
            Arc::new(
                DictionaryArray::<Int8Type>::try_new(
                    Int8Array::from(vec![Some(1), None, Some(0)]),
                    Arc::new(Int32Array::from(vec![7, 8])),
                )
                .unwrap(),
            ),
            Arc::new(Int32Array::from(vec![Some(8), None, Some(7)])),
        ),
    ];
    for (name, given, expected) in cases {
        let table = Table::new();
        // A slice in the middle of more: offsets must not be lost on the way.
        let batch = one("c", given.clone());
        table
            .append(&[batch.slice(1, 2), batch.slice(0, 1)], json!({}))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(table.schema()["fields"][0]["type"], name, "{}", given.data_type());
        let read = table.batches();
        let read = arrow::compute::concat_batches(read[0].schema_ref(), &read).unwrap();
        let wanted = arrow::compute::concat(&[&expected.slice(1, 2), &expected.slice(0, 1)]).unwrap();
        assert_eq!(
            read.column(0).to_data(),
            wanted.to_data(),
            "{name} from {}",
            given.data_type()
        );
        let ntz = table.protocol()["writerFeatures"]
            .to_string()
            .contains("timestampNtz");
        assert_eq!(ntz, name == "timestamp_ntz");
        table.by_deltalake().await;
    }
}

/// Times without a zone ask for a feature of the table, wherever they are: no reader opens one without it.
#[tokio::test(flavor = "multi_thread")]
async fn times_without_a_zone_are_readable_at_every_depth() {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    let map = |key: DataType, value: DataType| {
        let entries = Fields::from(vec![
            Field::new("key", key, false),
            Field::new("value", value, true),
        ]);
        DataType::Map(
            Arc::new(Field::new("entries", DataType::Struct(entries), false)),
            false,
        )
    };
    let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
    let kinds = [
        list(time()),
        DataType::Struct(Fields::from(vec![Field::new("at", time(), true)])),
        map(DataType::Utf8, time()),
        map(time(), DataType::Utf8),
        list(map(DataType::Int32, list(time()))),
    ];
    for kind in kinds {
        let table = Table::new();
        let nulls = arrow::array::new_null_array(&kind, 3);
        table.append(&[one("c", nulls)], json!({})).await.unwrap();
        let protocol = table.protocol();
        for features in ["readerFeatures", "writerFeatures"] {
            let listed = protocol[features].to_string();
            assert!(listed.contains("timestampNtz"), "{kind}: {protocol}");
        }
        table.by_deltalake().await;
    }
}

/// Lists, structs and maps, inside each other, sliced and with nulls at every level.
#[tokio::test(flavor = "multi_thread")]
async fn nested_types_arrive_exactly() {
    let text = Arc::new(Field::new("t", DataType::LargeUtf8, true));
    let time = Arc::new(Field::new(
        "at",
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        true,
    ));
    let pair: StructArray = StructArray::try_new(
        Fields::from(vec![Arc::clone(&text), Arc::clone(&time)]),
        vec![
            Arc::new(LargeStringArray::from(vec![
                Some("a"),
                None,
                Some("c"),
                Some("d"),
            ])),
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(1), Some(2), None, Some(4)]).with_timezone("UTC"),
            ),
        ],
        Some(NullBuffer::from(vec![true, true, true, false])),
    )
    .unwrap();
    let item = Arc::new(Field::new("item", pair.data_type().clone(), true));
    let nulls = Some(NullBuffer::from(vec![true, false, true]));
    let large: ArrayRef = Arc::new(LargeListArray::new(
        Arc::clone(&item),
        OffsetBuffer::new(vec![0_i64, 1, 1, 4].into()),
        Arc::new(pair.clone()),
        nulls.clone(),
    ));
    let fixed = FixedSizeListArray::from_iter_primitive::<Int16Type, _, _>(
        vec![Some(vec![Some(1), None]), None, Some(vec![Some(3), Some(4)])],
        2,
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).unwrap();
    map.append(false).unwrap();
    map.keys().append_value("l");
    map.values().append_null();
    map.append(true).unwrap();
    let batch = columns(vec![
        ("list", large),
        ("fixed", Arc::new(fixed) as ArrayRef),
        ("map", Arc::new(map.finish())),
        ("pair", Arc::new(pair.slice(1, 3))),
    ]);
    for part in [batch.clone(), batch.slice(1, 2)] {
        let table = Table::new();
        table
            .append(std::slice::from_ref(&part), json!({}))
            .await
            .unwrap();
        let read = &table.batches()[0];
        assert_eq!(as_json(read), as_json(&part));
        assert_eq!(
            table.schema()["fields"][0]["type"]["elementType"]["fields"][1]["type"],
            "timestamp"
        );
        // And once more into the table that is there now.
        table.append(&[part], json!({})).await.unwrap();
    }
}

fn as_json(batch: &RecordBatch) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("∅");
    batch
        .columns()
        .iter()
        .flat_map(|column| {
            let column = arrow::compute::cast(column, &without_units(column.data_type())).unwrap();
            let shown = arrow::util::display::ArrayFormatter::try_new(&column, &options).unwrap();
            (0..column.len())
                .map(|row| shown.value(row).to_string())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Types made comparable: one kind of string, list and time.
fn without_units(of: &DataType) -> DataType {
    match of {
        DataType::LargeUtf8 => DataType::Utf8,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new(
                "item",
                without_units(item.data_type()),
                true,
            )))
        }
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Field::new(field.name(), without_units(field.data_type()), true))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// What no row refers to is no value, whatever it is: items below a null list or map, and values of a dictionary.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_row_refers_to_is_not_looked_at() {
    let beyond = LAST / 86_400_000_000 + 1;
    let days = || Date32Array::from(vec![1, beyond as i32, 2, beyond as i32, 3]);
    let item = |nullable| Arc::new(Field::new("item", DataType::Date32, nullable));
    let present = || Some(NullBuffer::from(vec![true, false, true, false, true]));
    let offsets = || OffsetBuffer::<i32>::from_lengths([1, 1, 1, 1, 1]);
    let list = ListArray::try_new(item(false), offsets(), Arc::new(days()), present()).unwrap();
    let large = LargeListArray::try_new(
        item(true),
        OffsetBuffer::from_lengths([1, 1, 1, 1, 1]),
        Arc::new(days()),
        present(),
    );
    let below = Date32Array::from(vec![Some(1), None, Some(2), None, Some(3)]);
    let fixed = FixedSizeListArray::new(item(true), 1, Arc::new(below), present());
    let entries = StructArray::from(vec![
        (
            Arc::new(Field::new("keys", DataType::Int32, false)),
            Arc::new(Int32Array::from(vec![7; 5])) as ArrayRef,
        ),
        (item(true), Arc::new(days()) as ArrayRef),
    ]);
    let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map = MapArray::try_new(entry, offsets(), entries, present(), false).unwrap();
    let keys = Int8Array::from(vec![Some(0), None, Some(2), None, Some(4)]);
    let dictionary = DictionaryArray::try_new(keys, Arc::new(days())).unwrap();
    for array in [
        Arc::new(list) as ArrayRef,
        Arc::new(large.unwrap()),
        Arc::new(fixed),
        Arc::new(map),
        Arc::new(dictionary),
    ] {
        let of = array.data_type().clone();
        let table = Table::new();
        // A slice, so that what lies before it is not looked at either.
        let batch = one("c", array).slice(1, 4);
        table
            .append(&[batch], json!({}))
            .await
            .unwrap_or_else(|error| panic!("{of}: {error}"));
        let read = table.read(&table.adds()[0]);
        let column = read[0].column(0);
        let valid: Vec<bool> = (0..4).map(|row| column.is_valid(row)).collect();
        assert_eq!(valid, [false, true, false, true], "{of}");
        let flat = match column.data_type() {
            DataType::List(_) => column.as_list::<i32>().values().clone(),
            DataType::Map(_, _) => column.as_map().values().clone(),
            _ => Arc::clone(column),
        };
        let flat = flat.as_primitive::<Date32Type>();
        assert_eq!(flat.iter().flatten().collect::<Vec<_>>(), [2, 3], "{of}");
    }
}

/// What has no exact Delta type is refused before there is a table, naming the column.
#[tokio::test(flavor = "multi_thread")]
async fn types_without_an_exact_place_are_refused() {
    let list = |of: DataType| DataType::List(Arc::new(Field::new("item", of, true)));
    let map_of = |key: DataType| {
        let entries = DataType::Struct(Fields::from(vec![
            field("key", key, false),
            field("value", DataType::Int32, true),
        ]));
        DataType::Map(Arc::new(field("entries", entries, false)), false)
    };
    let refused: Vec<DataType> = vec![
        DataType::Null,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Time32(TimeUnit::Second),
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Duration(TimeUnit::Second),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal128(10, -2),
        DataType::Decimal256(50, 2),
        DataType::Struct(Fields::empty()),
        DataType::Struct(Fields::from(vec![field("a", DataType::UInt8, true)])),
        DataType::Struct(Fields::from(vec![
            field("a", DataType::Int8, true),
            field("A", DataType::Int8, true),
        ])),
        list(DataType::Float16),
        map_of(list(DataType::Int32)),
        DataType::ListView(Arc::new(field("item", DataType::Int32, true))),
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::UInt64)),
        DataType::Dictionary(
            Box::new(DataType::Int8),
            Box::new(DataType::Dictionary(
                Box::new(DataType::Int8),
                Box::new(DataType::Utf8),
            )),
        ),
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(list(DataType::Int32))),
    ];
    for of in refused {
        let table = Table::new();
        let schema = Arc::new(Schema::new(vec![
            field("fine", DataType::Int32, true),
            field("odd", of.clone(), true),
        ]));
        let refused = error(table.writer(&RecordBatch::new_empty(schema), json!({})).await);
        assert_eq!(refused.code(), Code::SchemaMismatch, "{of}: {refused}");
        assert!(
            refused.message().contains("exactly: odd") && !refused.message().contains("fine"),
            "{of}: {refused}"
        );
        let field = refused.field().unwrap_or_default();
        assert!(field == "odd" || field.starts_with("odd."), "{of}: {refused:?}");
        assert!(!table.path().exists());
    }
    let twice = RecordBatch::new_empty(Arc::new(Schema::new(vec![
        field("a", DataType::Int8, true),
        field("A", DataType::Int8, true),
    ])));
    let refused = error(Table::new().writer(&twice, json!({})).await);
    assert!(refused.message().contains("given twice"), "{refused}");
    let union = UnionFields::from_fields(vec![field("a", DataType::Int32, true)]);
    for of in [
        DataType::Union(union, UnionMode::Sparse),
        DataType::RunEndEncoded(
            Arc::new(field("run_ends", DataType::Int32, false)),
            Arc::new(field("values", DataType::Utf8, true)),
        ),
    ] {
        let batch = RecordBatch::new_empty(Arc::new(Schema::new(vec![field("odd", of, true)])));
        assert_eq!(
            error(Table::new().writer(&batch, json!({})).await).code(),
            Code::SchemaMismatch
        );
    }
}

/// Values that the type allows and Delta does not are refused with column and row, counted through the write.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_would_be_rounded_are_refused() {
    let cases: Vec<(ArrayRef, Option<u64>)> = vec![
        (
            Arc::new(TimestampNanosecondArray::from(vec![Some(1_000), None, Some(1)])),
            Some(5),
        ),
        (
            Arc::new(Date64Array::from(vec![86_400_000, 86_400_001, 0])),
            Some(4),
        ),
        (
            Arc::new(TimestampSecondArray::from(vec![0, i64::MAX, 0])),
            Some(4),
        ),
        (
            Arc::new(TimestampMillisecondArray::from(vec![
                Some(0),
                None,
                Some(i64::MIN),
            ])),
            Some(5),
        ),
        // The years that all readers know: a missing bound hides other rows from some, year 0 stops them.
        (
            Arc::new(Date32Array::from(vec![
                Some(-719_162),
                Some(2_932_896),
                Some(2_932_897),
            ])),
            Some(5),
        ),
        (Arc::new(Date32Array::from(vec![-719_162, -719_163])), Some(4)),
        (
            Arc::new(Date64Array::from(vec![
                -719_162 * 86_400_000,
                2_932_897 * 86_400_000,
            ])),
            Some(4),
        ),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![FIRST, LAST, LAST + 1])),
            Some(5),
        ),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![FIRST - 1]).with_timezone("UTC")),
            Some(3),
        ),
        (
            Arc::new(TimestampSecondArray::from(vec![
                FIRST / 1_000_000,
                FIRST / 1_000_000 - 1,
            ])),
            Some(4),
        ),
        (
            Arc::new(TimestampMillisecondArray::from(vec![
                LAST / 1_000,
                LAST / 1_000 + 1,
            ])),
            Some(4),
        ),
        (
            Arc::new(
                Decimal32Array::from(vec![999, 1_000])
                    .with_precision_and_scale(3, 1)
                    .unwrap(),
            ),
            Some(4),
        ),
        (
            Arc::new(
                Decimal64Array::from(vec![Some(-1_000), None])
                    .with_precision_and_scale(3, 1)
                    .unwrap(),
            ),
            Some(3),
        ),
        (
            Arc::new(
                Decimal128Array::from(vec![None, Some(10_i128.pow(20))])
                    .with_precision_and_scale(20, 2)
                    .unwrap(),
            ),
            Some(4),
        ),
        (
            Arc::new(
                Decimal256Array::from(vec![
                    i256::from_i128(0),
                    i256::from_i128(10_i128.pow(38)).wrapping_neg(),
                ])
                .with_precision_and_scale(38, 0)
                .unwrap(),
            ),
            Some(4),
        ),
        (
            Arc::new(DictionaryArray::<Int8Type>::new(
                Int8Array::from(vec![0, 0, 0]),
                Arc::new(TimestampNanosecondArray::from(vec![1])),
            )),
            Some(3),
        ),
    ];
    for (array, row) in cases {
        let table = Table::new();
        let mut writer = table.writer(&one("c", array.clone()), json!({})).await.unwrap();
        let fine = nothing(array.data_type());
        let fine = arrow::compute::concat_batches(fine.schema_ref(), [&fine, &fine.slice(0, 1)]).unwrap();
        let refused = error(writer.write_all(0, &[fine, one("c", array)]).await);
        assert_eq!(refused.code(), Code::BatchInvalid, "{refused}");
        assert_eq!((refused.field(), refused.row()), (Some("c"), row), "{refused}");
    }
}

fn fields(table: &Table) -> Vec<(String, Value)> {
    table.schema()["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["name"].as_str().unwrap().to_string(), field["type"].clone()))
        .collect()
}

/// Another order of columns and missing nullable ones are fine; what is missing is null.
#[tokio::test(flavor = "multi_thread")]
async fn columns_are_found_by_name() {
    let table = Table::new();
    table.append(&[rows(0, 3)], json!({})).await.unwrap();
    let batch = rows(3, 6);
    let turned = columns(vec![
        ("name", batch.column(1).clone()),
        ("id", batch.column(0).clone()),
    ]);
    table.append(&[turned], json!({})).await.unwrap();
    table
        .append(&[one("id", Arc::new(Int64Array::from(vec![6])))], json!({}))
        .await
        .unwrap();
    assert_eq!(table.ids(), (0..7).collect::<Vec<_>>());
    let read = table.batches();
    assert_eq!(
        read.last().unwrap().column_by_name("name").unwrap().null_count(),
        1
    );
    // A column of type Null is a column that is missing.
    let null = columns(vec![
        ("id", Arc::new(Int64Array::from(vec![7])) as ArrayRef),
        ("name", Arc::new(NullArray::new(1))),
    ]);
    table.append(&[null], json!({})).await.unwrap();
}

/// Types that differ from the table's are refused, naming every such column; nothing is widened silently.
#[tokio::test(flavor = "multi_thread")]
async fn other_types_than_the_table_s_are_refused() {
    let table = Table::new();
    table.append(&[rows(0, 3)], json!({})).await.unwrap();
    let batch = columns(vec![
        ("id", Arc::new(Int32Array::from(vec![1])) as ArrayRef),
        ("name", Arc::new(BinaryArray::from(vec![b"x".as_slice()]))),
    ]);
    let refused = error(table.writer(&batch, json!({})).await);
    assert_eq!(refused.code(), Code::SchemaMismatch);
    for part in ["id: is integer here and long in the table", "name: is binary"] {
        assert!(refused.message().contains(part), "{refused}");
    }
    let spelt = one("ID", Arc::new(Int64Array::from(vec![1])));
    assert!(
        error(table.writer(&spelt, json!({})).await)
            .message()
            .contains("spells it id")
    );
    for of in [
        DataType::UInt8,
        DataType::List(Arc::new(field("item", DataType::Int64, true))),
        DataType::Struct(Fields::from(vec![field("a", DataType::Int64, true)])),
    ] {
        let refused = error(table.writer(&one("id", new_null_array(&of, 1)), json!({})).await);
        assert_eq!(refused.code(), Code::SchemaMismatch);
    }
}

/// new columns are merged when asked, also with partitions, and refused by name when not.
#[tokio::test(flavor = "multi_thread")]
async fn new_columns_are_merged_when_asked() {
    for by in [json!([]), json!(["name"])] {
        let table = Table::new();
        table
            .append(&[rows(1, 3)], json!({"delta": {"partitionBy": by}}))
            .await
            .unwrap();
        let mut wide = vec![
            ("id", Arc::new(Int64Array::from(vec![3])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ];
        wide.push((
            "when",
            Arc::new(TimestampMicrosecondArray::from(vec![1])) as ArrayRef,
        ));
        wide.push(("price", Arc::new(Float64Array::from(vec![0.5])) as ArrayRef));
        let wide = columns(wide);
        let refused = error(table.append(std::slice::from_ref(&wide), json!({})).await);
        assert_eq!(refused.code(), Code::SchemaMismatch);
        assert!(
            refused.message().contains("when") && refused.message().contains("price"),
            "{refused}"
        );
        table
            .append(&[wide], json!({"delta": {"schemaEvolution": "merge"}}))
            .await
            .unwrap();
        let names: Vec<String> = fields(&table).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["id", "name", "when", "price"]);
        let protocol = table.protocol();
        assert_eq!(protocol["minWriterVersion"], 7);
        for feature in ["timestampNtz", "appendOnly", "invariants"] {
            assert!(
                protocol["writerFeatures"].to_string().contains(feature),
                "{protocol}"
            );
        }
        // The old schema goes on.
        table
            .append(&[rows(4, 5)], json!({"delta": {"schemaEvolution": "merge"}}))
            .await
            .unwrap();
        assert_eq!(table.ids(), [1, 2, 3, 4]);
        table.by_deltalake().await;
    }
    // A column without an exact type is not merged either.
    let table = Table::new();
    table.append(&[rows(0, 1)], json!({})).await.unwrap();
    let odd = columns(vec![
        ("id", Arc::new(Int64Array::from(vec![3])) as ArrayRef),
        ("odd", Arc::new(UInt8Array::from(vec![1]))),
    ]);
    assert!(
        error(
            table
                .append(&[odd], json!({"delta": {"schemaEvolution": "merge"}}))
                .await
        )
        .message()
        .contains("odd")
    );
}

/// Where the table allows no nulls, nullable fields are fine as long as there are none.
#[tokio::test(flavor = "multi_thread")]
async fn nulls_are_refused_where_the_table_allows_none() {
    let inner = Fields::from(vec![field("x", DataType::Int32, false)]);
    let strict = Arc::new(Schema::new(vec![
        field("id", DataType::Int64, false),
        field("s", DataType::Struct(inner.clone()), true),
        field(
            "l",
            DataType::List(Arc::new(field("element", DataType::Int32, false))),
            true,
        ),
    ]));
    let make = |id: Option<i64>, x: Option<i32>, item: Option<i32>| {
        let loose = Fields::from(vec![field("x", DataType::Int32, true)]);
        let s = StructArray::new(loose, vec![Arc::new(Int32Array::from(vec![x]))], None);
        let l = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![item])]);
        columns(vec![
            ("id", Arc::new(Int64Array::from(vec![id])) as ArrayRef),
            ("s", Arc::new(s)),
            ("l", Arc::new(l)),
        ])
    };
    let table = Table::new();
    table
        .writer(&RecordBatch::new_empty(strict), json!({}))
        .await
        .unwrap();
    assert_eq!(table.schema()["fields"][0]["nullable"], false);
    table
        .append(&[make(Some(1), Some(2), Some(3))], json!({}))
        .await
        .unwrap();
    for (batch, column) in [
        (make(None, Some(2), Some(3)), "id"),
        (make(Some(1), None, Some(3)), "s.x"),
        (make(Some(1), Some(2), None), "l"),
    ] {
        let refused = error(table.append(&[batch], json!({})).await);
        assert_eq!(
            (refused.code(), refused.field()),
            (Code::BatchInvalid, Some(column)),
            "{refused}"
        );
    }
    let missing = error(
        table
            .writer(&one("l", make(Some(1), None, None).column(2).clone()), json!({}))
            .await,
    );
    assert!(missing.message().contains("id: missing"), "{missing}");
}

/// Struct fields are found by name as well; unknown or missing ones are said.
#[tokio::test(flavor = "multi_thread")]
async fn struct_fields_are_found_by_name() {
    let of = |names: &[&str]| -> RecordBatch {
        let fields: Fields = names
            .iter()
            .map(|name| field(name, DataType::Int32, true))
            .collect();
        let arrays = (0..)
            .zip(names)
            .map(|(n, _)| Arc::new(Int32Array::from(vec![n])) as ArrayRef)
            .collect();
        one("s", Arc::new(StructArray::new(fields, arrays, None)))
    };
    let table = Table::new();
    table.append(&[of(&["a", "b"])], json!({})).await.unwrap();
    table.append(&[of(&["b", "a"])], json!({})).await.unwrap();
    table.append(&[of(&["b"])], json!({})).await.unwrap();
    let read = table.batches();
    let a = |n: usize| {
        read[n]
            .column(0)
            .as_struct()
            .column_by_name("a")
            .unwrap()
            .as_primitive::<Int32Type>()
            .clone()
    };
    assert_eq!((a(0).value(0), a(1).value(0), a(2).is_null(0)), (0, 1, true));
    let refused = error(
        table
            .writer(&of(&["a", "z"]), json!({"delta": {"schemaEvolution": "merge"}}))
            .await,
    );
    assert!(
        refused
            .message()
            .contains("s.z: the table's struct has no such field"),
        "{refused}"
    );
}

/// A session takes batches of its own schema only.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_one_schema() {
    let table = Table::new();
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    let refused = error(
        writer
            .write(0, &one("id", Arc::new(Int64Array::from(vec![1]))))
            .await,
    );
    assert_eq!(refused.code(), Code::SchemaMismatch);
}

/// Columns of every shape can be missing, and types of another shape are told apart by name.
#[tokio::test(flavor = "multi_thread")]
async fn nested_columns_may_be_missing_but_not_others() {
    let pair = vec![
        field("key", DataType::Utf8, false),
        field("value", DataType::Int32, true),
    ];
    let entries = DataType::Struct(Fields::from(pair));
    let map = DataType::Map(Arc::new(field("entries", entries, false)), false);
    let list = DataType::List(Arc::new(field("item", DataType::Int64, true)));
    let of = |fields: Vec<Field>| DataType::Struct(Fields::from(fields));
    let pair = of(vec![
        field("a", DataType::Int32, false),
        field("b", DataType::Int32, true),
    ]);
    let wide = Arc::new(Schema::new(vec![
        field("id", DataType::Int64, true),
        field("map", map.clone(), true),
        field("list", list.clone(), true),
        field("pair", pair.clone(), true),
    ]));
    let table = Table::new();
    table
        .writer(&RecordBatch::new_empty(wide), json!({}))
        .await
        .unwrap();
    table
        .append(&[one("id", Arc::new(Int64Array::from(vec![1])))], json!({}))
        .await
        .unwrap();
    assert_eq!(table.ids(), [1]);
    assert_eq!(table.batches()[0].column_by_name("list").unwrap().null_count(), 1);
    let twice = of(vec![
        field("a", DataType::Int32, true),
        field("a", DataType::Int32, true),
    ]);
    for (name, of, why) in [
        ("map", DataType::Int32, "is integer here and a map in the table"),
        ("list", map, "is a map here and array<long> in the table"),
        ("pair", list, "is array<long> here and a struct in the table"),
        ("id", pair, "is a struct here and long in the table"),
        ("list", DataType::Float16, "Float16 has no Delta type"),
        ("pair", twice, "given twice"),
        (
            "pair",
            of(vec![field("b", DataType::Int32, true)]),
            "pair.a: missing, and the table does not allow nulls there",
        ),
    ] {
        let batch = RecordBatch::new_empty(Arc::new(Schema::new(vec![field(name, of, true)])));
        let refused = error(table.writer(&batch, json!({})).await);
        assert!(refused.message().contains(why), "{name}: {refused}");
    }
}
