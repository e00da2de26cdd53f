//! Types: declared as SQL writes them, described as Unity Catalog does, understood by the official client,
//! kept in Delta.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapBuilder, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::array::{Int64Builder, LargeStringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, Int32Type, TimeUnit};
use arrow_ingest::emulator::{Column, Type};
use databricks_zerobus_ingest_sdk::schema::{UcTableSchema, arrow_schema_from_uc_schema};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Rig, TABLE, read};

const COLUMNS: [(&str, &str); 17] = [
    ("a_boolean", "BOOLEAN"),
    ("a_byte", "TINYINT"),
    ("a_short", "SMALLINT"),
    ("an_int", "INT"),
    ("a_long", "BIGINT"),
    ("a_float", "FLOAT"),
    ("a_double", "DOUBLE"),
    ("a_string", "STRING"),
    ("a_binary", "BINARY"),
    ("a_date", "DATE"),
    ("a_timestamp", "TIMESTAMP"),
    ("a_timestamp_ntz", "TIMESTAMP_NTZ"),
    ("a_decimal", "DECIMAL(10,2)"),
    ("a_variant", "VARIANT"),
    ("an_array", "ARRAY<INT>"),
    ("a_map", "MAP<STRING, BIGINT>"),
    ("a_struct", "STRUCT<x: INT, y: STRING NOT NULL>"),
];

async fn described(rig: &Rig) -> Value {
    let mut stream = tokio::net::TcpStream::connect(rig.emulator.address())
        .await
        .unwrap();
    let request = format!(
        "GET /api/2.1/unity-catalog/tables/{TABLE} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\
         authorization: Bearer given-token\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Three rows of every type, the last one null, of the types that the official client makes of the table.
fn batch(schema: arrow::datatypes::SchemaRef) -> RecordBatch {
    let mut map = MapBuilder::new(None, LargeStringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(7);
    map.append(true).unwrap();
    map.append(true).unwrap();
    map.append(false).unwrap();
    let bytes = |values: [Option<&[u8]>; 3]| {
        cast(
            &(Arc::new(BinaryArray::from(values.to_vec())) as ArrayRef),
            &DataType::LargeBinary,
        )
        .unwrap()
    };
    let text = |values: [Option<&str>; 3]| {
        cast(
            &(Arc::new(StringArray::from(values.to_vec())) as ArrayRef),
            &DataType::LargeUtf8,
        )
        .unwrap()
    };
    let variant = StructArray::new(
        vec![
            Field::new("metadata", DataType::LargeBinary, false),
            Field::new("value", DataType::LargeBinary, false),
        ]
        .into(),
        vec![
            bytes([Some(&[1, 0, 0]), Some(&[1, 0, 0]), Some(&[])]),
            bytes([Some(&[12, 5]), Some(&[0]), Some(&[])]),
        ],
        Some(vec![true, true, false].into()),
    );
    let nested = StructArray::new(
        vec![
            Field::new("x", DataType::Int32, true),
            Field::new("y", DataType::LargeUtf8, false),
        ]
        .into(),
        vec![
            Arc::new(Int32Array::from(vec![Some(1), None, None])),
            text([Some("one"), Some("two"), Some("")]),
        ],
        Some(vec![true, true, false].into()),
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None])),
        Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None])),
        Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        Arc::new(Float32Array::from(vec![Some(1.5), Some(-0.0), None])),
        Arc::new(Float64Array::from(vec![Some(f64::MAX), Some(-0.0), None])),
        text([Some("é"), Some(""), None]),
        bytes([Some(&[0, 255]), Some(&[]), None]),
        Arc::new(Date32Array::from(vec![Some(-1), Some(20_000), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(1), None]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(1), None])),
        text([Some("12345678.90"), Some("-0.01"), None]),
        Arc::new(variant),
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![]),
            None,
        ])),
        Arc::new(map.finish()),
        Arc::new(nested),
    ];
    let columns = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(column, field)| cast(&column, field.data_type()).unwrap())
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// the official client's own conversion of what the table API says is what the table takes.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_described_sent_and_kept() {
    let columns: Vec<Value> = COLUMNS
        .iter()
        .map(|(name, of)| json!({ "name": name, "type": of }))
        .collect();
    let rig = Rig::new(json!({ "tables": { TABLE: columns }, "autoCreate": false })).await;
    // The table is there before its first row.
    assert!(read(&rig.table()).is_empty());
    let table: UcTableSchema = serde_json::from_value(described(&rig).await).unwrap();
    let schema = Arc::new(arrow_schema_from_uc_schema(&table).unwrap());
    let mut stream = rig.stream(&schema).await.unwrap();
    stream.ingest_batch(batch(schema.clone())).await.unwrap();
    stream.close().await.unwrap();
    let stored = read(&rig.table());
    assert_eq!(stored.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    let stored = &stored[0];
    assert!(
        stored
            .columns()
            .iter()
            .all(|column| column.is_null(2) && column.is_valid(0))
    );
    for (column, sent) in stored.columns().iter().zip(batch(schema.clone()).columns()) {
        match column.data_type() {
            DataType::Decimal128(10, 2) => {
                let values = column.as_primitive::<Decimal128Type>();
                assert_eq!((values.value(0), values.value(1)), (1_234_567_890, -1));
            }
            other => assert_eq!(&cast(sent, other).unwrap(), column),
        }
    }
    // Unity Catalog describes the same from the disk, to an emulator that was told nothing.
    let again = Rig::new(json!({ "lake": rig.lake.path() })).await;
    let mut wanted = described(&rig).await;
    // Delta keeps a variant as the struct of its parts.
    wanted["columns"][13] = described(&again).await["columns"][13].clone();
    assert_eq!(
        wanted["columns"][13]["type_text"],
        "struct<metadata:binary,value:binary>"
    );
    assert_eq!(described(&again).await, wanted);
}

/// A table that nobody declared gets the columns of its first stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_on_the_fly_has_the_types_of_its_first_stream() {
    let rig = Rig::new(json!({})).await;
    let declared = COLUMNS
        .iter()
        .filter(|(_, of)| !of.starts_with("DECIMAL") && *of != "VARIANT");
    let columns: Vec<Column> = declared
        .map(|(name, of)| Column {
            name: name.to_string(),
            kind: Type::parse(of).unwrap(),
            nullable: true,
        })
        .collect();
    let fields = columns
        .iter()
        .map(|column| Field::new(&column.name, column.kind.stored(), true));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let mut stream = rig.stream(&schema).await.unwrap();
    stream.close().await.unwrap();
    let table = described(&rig).await;
    for (column, found) in columns.iter().zip(table["columns"].as_array().unwrap()) {
        assert_eq!(found["type_text"], column.kind.text());
        let kind: Value = serde_json::from_str(found["type_json"].as_str().unwrap()).unwrap();
        assert_eq!(Column::from_json(&kind).unwrap(), *column);
    }
}

#[test]
fn what_is_written_of_a_type_is_read_again() {
    for (text, wanted) in [
        ("decimal", "decimal(10,0)"),
        ("Numeric( 38 , 38 )", "decimal(38,38)"),
        ("decimal(5)", "decimal(5,0)"),
        (
            "array<array<struct<`odd name` int>>>",
            "array<array<struct<odd name:int>>>",
        ),
        ("MAP < int , map<bool,real> >", "map<int,map<boolean,float>>"),
        ("struct<a:long not null, b:integer>", "struct<a:bigint,b:int>"),
    ] {
        let kind = Type::parse(text).unwrap();
        assert_eq!(kind.text(), wanted);
        assert_eq!(Type::from_json(&kind.json()).unwrap(), kind);
    }
    assert_eq!(
        Type::parse("timestamp").unwrap().stored(),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    );
}

#[test]
fn what_is_no_type_is_said_to_be_none() {
    for (text, part) in [
        ("", "a word is missing"),
        ("INTERVAL", "is no type"),
        ("INT INT", "follows the type"),
        ("DECIMAL(39,0)", "1 to 38 digits"),
        ("DECIMAL(3,4)", "1 to 38 digits"),
        ("DECIMAL(x)", "no number"),
        ("ARRAY INT", "\"<\" is missing"),
        ("MAP<INT>", "\",\" is missing"),
        ("STRUCT<a: INT NOT>", "NULL should follow NOT"),
        ("STRUCT<>", "a word is missing"),
        (&"ARRAY<".repeat(100), "nested"),
    ] {
        let reason = Type::parse(text).unwrap_err();
        assert!(reason.contains(part), "{text}: {reason}");
    }
    assert!(Type::from_json(&json!("interval")).is_none());
    assert!(Type::from_json(&json!({ "type": "set" })).is_none());
}
