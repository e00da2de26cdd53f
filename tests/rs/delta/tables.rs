//! What a table may be, and what may be written into it: each refusal with the name of what stands in the way.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use arrow_ingest::error::{Code, Error};
use deltalake_core::kernel::DataType as Delta;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Table, Writer, columns, error, field, rows};

fn column(name: &str, of: Value, metadata: Value) -> Value {
    json!({"name": name, "type": of, "nullable": true, "metadata": metadata})
}

/// A table that another writer made.
fn made(fields: &[Value], by: &[&str]) -> Vec<Value> {
    vec![
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        metadata(fields, by),
    ]
}

fn metadata(fields: &[Value], by: &[&str]) -> Value {
    let schema = json!({"type": "struct", "fields": fields});
    json!({"metaData": {
        "id": Uuid::new_v4(), "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(), "partitionColumns": by, "configuration": {}, "createdTime": 1,
    }})
}

fn of(fields: &[Value], by: &[&str]) -> Table {
    let table = Table::new();
    table.write_log(0, &made(fields, by));
    table
}

fn strings(name: &str, values: &[&str]) -> RecordBatch {
    columns(vec![(
        name,
        Arc::new(StringArray::from(values.to_vec())) as ArrayRef,
    )])
}

fn long(name: &str) -> Value {
    column(name, json!("long"), json!({}))
}

fn string(name: &str) -> Value {
    column(name, json!("string"), json!({}))
}

fn empty(name: &str, of: DataType) -> RecordBatch {
    RecordBatch::new_empty(Arc::new(Schema::new(vec![field(name, of, true)])))
}

/// A file without a column has no rows, so what was sent would be acknowledged and gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_files_would_hold_no_column_is_refused_when_it_is_opened() {
    let void = || column("v", json!("void"), json!({}));
    for (fields, by) in [
        (vec![string("a")], vec!["a"]),
        (vec![string("a"), long("b")], vec!["b", "a"]),
        (vec![string("a"), void()], vec!["a"]),
        (vec![void()], vec![]),
    ] {
        let table = of(&fields, &by);
        let refused = error(table.append(&[strings("a", &["v", "v", "v"])], json!({})).await);
        assert_eq!(refused.code(), Code::Unsupported, "{refused}");
        assert!(
            refused.message().contains("no column that its files could store"),
            "{refused}"
        );
        assert_eq!((table.latest(), table.parquet_files()), (0, 0));
    }
    // No column at all: nothing can be written until one is added.
    let table = of(&[], &[]);
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(3));
    let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    let refused = error(table.append(&[none], json!({})).await);
    assert_eq!(refused.code(), Code::SchemaMismatch, "{refused}");
    let merge = json!({"delta": {"schemaEvolution": "merge"}});
    table.append(&[rows(0, 3)], merge).await.unwrap();
    assert_eq!(table.ids(), [0, 1, 2]);
}

/// The same when another writer leads there in the midst of a session.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_files_would_hold_no_column_is_refused_when_a_commit_looks_again() {
    let table = of(&[string("a")], &[]);
    let delta = table.connect(json!({})).await.unwrap();
    let batch = strings("a", &["v", "v", "v"]);
    let producer = Uuid::new_v4();
    let mut writer = Writer::open(&delta, &batch, producer, None).await.unwrap();
    writer.write(0, &batch).await.unwrap();
    assert_eq!(writer.flush().await.unwrap().unwrap().0, 0);
    writer.write(1, &batch).await.unwrap();
    table.write_log(2, &[metadata(&[string("a")], &["a"])]);
    let refused = error(writer.flush().await);
    assert_eq!(refused.code(), Code::Unsupported, "{refused}");
    assert!(writer.acknowledged().is_none());
    let refused = error(Writer::open(&delta, &batch, producer, Some(1)).await);
    assert_eq!(refused.code(), Code::Unsupported, "{refused}");
    assert_eq!((table.latest(), table.adds().len()), (2, 1));
}

/// Names that not every reader takes are refused before there is a table, wherever they are, and so is adding
/// such a column.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_has_a_name_that_every_reader_takes() {
    let merge = || json!({"delta": {"schemaEvolution": "merge"}});
    let existing = Table::new();
    existing.append(&[rows(0, 1)], json!({})).await.unwrap();
    for odd in [
        "a\0b", "a b", "a,b", "a;b", "a{b", "a}b", "a(b", "a)b", "a\nb", "a\tb", "a=b", "a\u{7f}b", "",
    ] {
        let inner = DataType::Struct(vec![field(odd, DataType::Int64, true)].into());
        let list = DataType::List(Arc::new(field("item", inner.clone(), true)));
        for (batch, path) in [
            (empty(odd, DataType::Int64), odd.to_string()),
            (empty("s", inner), format!("s.{odd}")),
            (empty("l", list), format!("l.element.{odd}")),
        ] {
            let table = Table::new();
            for refused in [
                error(table.writer(&batch, json!({})).await),
                error(existing.writer(&batch, merge()).await),
            ] {
                assert_eq!(refused.code(), Code::SchemaMismatch, "{odd:?}: {refused}");
                assert!(refused.message().contains("name"), "{odd:?}: {refused}");
                let path = path.trim_end_matches('.');
                assert_eq!(refused.field().unwrap_or_default(), path, "{odd:?}: {refused}");
            }
            assert!(!table.path().exists());
        }
    }
    assert_eq!(existing.latest(), 1);
    // Everything else is a name.
    let plain = ["a.b", "a-b", "a`b", "a\"b'", "a/b\\c", "a%23#", "é漢🦀", "a:b"];
    let values = |_: &&str| Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let batch = columns(plain.iter().map(|name| (*name, values(name))).collect());
    let table = Table::new();
    table
        .append(std::slice::from_ref(&batch), json!({}))
        .await
        .unwrap();
    assert_eq!(table.batches()[0].columns(), batch.columns());
}

/// A table of somebody else's is written as it spells its columns.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_a_table_has_keep_their_names() {
    let table = of(&[long("first name"), long("a=b")], &["a=b"]);
    let ids = || Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let batch = columns(vec![("first name", ids()), ("a=b", ids())]);
    table.append(&[batch], json!({})).await.unwrap();
    let adds = table.adds();
    assert_eq!(adds.len(), 2);
    let bounds: i64 = adds
        .iter()
        .filter_map(|add| table.stats(add)["minValues"]["first name"].as_i64())
        .sum();
    assert_eq!(bounds, 3);
    assert_eq!(table.by_deltalake().await.version(), Some(1));
}

/// Options and batches that would make a table which nothing opens.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_opened_again_is_not_made() {
    let batch = columns(vec![
        ("Day", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ("id", Arc::new(Int64Array::from(vec![1]))),
    ]);
    let table = Table::new();
    let refused = error(
        table
            .writer(&batch, json!({"delta": {"partitionBy": ["day"]}}))
            .await,
    );
    assert_eq!(
        (refused.code(), refused.field()),
        (Code::SchemaMismatch, Some("day")),
        "{refused}"
    );
    assert!(!table.path().exists());
    // Delta does not tell É from é either.
    let table = Table::new();
    table.append(&[strings("é", &["x"])], json!({})).await.unwrap();
    let merge = json!({"delta": {"schemaEvolution": "merge"}});
    let refused = error(table.writer(&strings("É", &["x"]), merge).await);
    assert!(refused.message().contains("the table spells it é"), "{refused}");
    assert_eq!(refused.field(), Some("É"));
}

/// One column at fault is named apart from the text; of several only the text speaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_mismatch_names_the_column_if_it_is_one() {
    let table = Table::new();
    table.append(&[rows(0, 1)], json!({})).await.unwrap();
    let refused = error(table.writer(&strings("name2", &["x"]), json!({})).await);
    assert_eq!(
        (refused.code(), refused.field()),
        (Code::SchemaMismatch, Some("name2")),
        "{refused}"
    );
    let both = columns(vec![
        ("id", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ("name", Arc::new(Int64Array::from(vec![1]))),
    ]);
    let refused = error(table.writer(&both, json!({})).await);
    assert_eq!(refused.field(), None, "{refused}");
    assert!(
        refused.message().contains("id: ") && refused.message().contains("name: "),
        "{refused}"
    );
    let entries = DataType::Struct(Fields::from(vec![
        field("key", DataType::Utf8, false),
        field("value", DataType::Float16, true),
    ]));
    let map = DataType::Map(Arc::new(field("entries", entries, false)), false);
    let refused = error(Table::new().writer(&empty("m", map), json!({})).await);
    assert_eq!(refused.field(), Some("m.value"), "{refused}");
}

/// A default is an expression for rows without the column: null where it is null, and else refused by name,
/// since null would be another value.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_with_a_default_is_never_filled_with_nulls_in_silence() {
    let default = |name: &str, text: &str| column(name, json!("string"), json!({"CURRENT_DEFAULT": text}));
    let listed = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
        "writerFeatures": ["allowColumnDefaults", "appendOnly", "invariants"]}});
    let table = Table::new();
    table.write_log(
        0,
        &[
            listed,
            metadata(
                &[long("id"), default("who", "'nobody'"), default("none", " NULL ")],
                &[],
            ),
        ],
    );
    let ids = columns(vec![("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]);
    let refused = error(table.append(std::slice::from_ref(&ids), json!({})).await);
    assert_eq!(
        (refused.code(), refused.field()),
        (Code::SchemaMismatch, Some("who")),
        "{refused}"
    );
    assert!(refused.message().contains("'nobody'"), "{refused}");
    let given = columns(vec![
        ("id", ids.column(0).clone()),
        ("who", Arc::new(StringArray::from(vec![Some("me"), None]))),
    ]);
    table.append(&[given], json!({})).await.unwrap();
    let written = &table.batches()[0];
    assert_eq!(written.column_by_name("none").unwrap().null_count(), 2);
    assert_eq!(written.column_by_name("who").unwrap().null_count(), 1);
    // In a struct.
    let inner = json!({"type": "struct", "fields": [long("a"), default("b", "5")]});
    let table = of(&[column("s", inner, json!({}))], &[]);
    let refused = error(
        table
            .writer(
                &empty(
                    "s",
                    DataType::Struct(vec![field("a", DataType::Int64, true)].into()),
                ),
                json!({}),
            )
            .await,
    );
    assert_eq!(refused.field(), Some("s.b"), "{refused}");
    // Set by another writer in the midst of a session.
    let table = of(&[long("id"), string("who")], &[]);
    let mut writer = table.writer(&ids, json!({})).await.unwrap();
    writer.write(0, &ids).await.unwrap();
    table.write_log(1, &[metadata(&[long("id"), default("who", "'nobody'")], &[])]);
    let refused = error(writer.flush().await);
    assert_eq!(refused.code(), Code::SchemaMismatch, "{refused}");
    assert!(writer.acknowledged().is_none());
}

/// Spark's VARCHAR and CHAR are strings in the log, and their lengths in a column's metadata.
#[tokio::test(flavor = "multi_thread")]
async fn lengths_of_varchar_and_char_are_kept() {
    let sized = |kind: &str| column("c", json!("string"), json!({"__CHAR_VARCHAR_TYPE_STRING": kind}));
    let refused_at = |found: Error| {
        assert_eq!(
            (found.code(), found.field()),
            (Code::BatchInvalid, Some("c")),
            "{found}"
        );
        found.row()
    };
    let texts = |values: &[&str]| -> Vec<ArrayRef> {
        let plain = StringArray::from(values.to_vec());
        vec![
            Arc::new(LargeStringArray::from(values.to_vec())),
            Arc::new(StringViewArray::from(values.to_vec())),
            Arc::new(values.iter().copied().collect::<DictionaryArray<Int32Type>>()),
            Arc::new(plain),
        ]
    };
    for array in texts(&["abc", "äöü", "", "abcde"]) {
        let table = of(&[sized("varchar(3)")], &[]);
        let batch = columns(vec![("c", array)]);
        let mut writer = table.writer(&batch, json!({})).await.unwrap();
        writer.write(0, &batch.slice(0, 3)).await.unwrap();
        assert_eq!(refused_at(error(writer.write(1, &batch).await)), Some(3));
    }
    for array in texts(&["abc", "äöü", "ab"]) {
        let table = of(&[sized("char(3)")], &[]);
        let batch = columns(vec![("c", array)]);
        let mut writer = table.writer(&batch, json!({})).await.unwrap();
        writer.write(0, &batch.slice(0, 2)).await.unwrap();
        assert_eq!(refused_at(error(writer.write(1, &batch).await)), Some(2));
    }
    // Nulls have no length, and what a dictionary holds and no row uses neither.
    let table = of(&[sized("varchar(3)")], &[]);
    let keys = Int32Array::from(vec![Some(0), None]);
    let values = Arc::new(StringArray::from(vec!["abc", "abcde"]));
    let batch = columns(vec![(
        "c",
        Arc::new(DictionaryArray::new(keys, values)) as ArrayRef,
    )]);
    table.append(&[batch], json!({})).await.unwrap();
    // Made shorter by another writer, in the midst of a session.
    let table = of(&[sized("varchar(5)")], &[]);
    let batch = strings("c", &["abcde"]);
    let mut writer = table.writer(&batch, json!({})).await.unwrap();
    writer.write(0, &batch).await.unwrap();
    table.write_log(1, &[metadata(&[sized("varchar(3)")], &[])]);
    assert_eq!(error(writer.flush().await).code(), Code::SchemaMismatch);
    // Where nothing looks at lengths, the table is refused.
    let array = json!({"type": "array", "elementType": "string", "containsNull": true});
    for odd in [
        column(
            "c",
            array,
            json!({"__CHAR_VARCHAR_TYPE_STRING": "array<varchar(3)>"}),
        ),
        column(
            "c",
            json!({"type": "struct", "fields": [sized("varchar(3)")]}),
            json!({}),
        ),
        column(
            "c",
            json!("string"),
            json!({"__CHAR_VARCHAR_TYPE_STRING": "varchar(x)"}),
        ),
    ] {
        let refused = error(of(&[odd], &[]).connect(json!({})).await);
        assert_eq!(refused.code(), Code::Unsupported, "{refused}");
        assert!(
            refused.message().contains("VARCHAR") && refused.message().contains("column c"),
            "{refused}"
        );
    }
}

/// `void` is a type without values: files have no column of it, and readers see nulls.
#[tokio::test(flavor = "multi_thread")]
async fn void_columns_are_left_away() {
    let void = |name: &str| column(name, json!("void"), json!({}));
    let table = of(&[long("id"), void("v")], &[]);
    let ids = || Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    table
        .append(&[columns(vec![("id", ids())])], json!({}))
        .await
        .unwrap();
    let nulls = columns(vec![("id", ids()), ("v", Arc::new(NullArray::new(2)))]);
    table.append(&[nulls], json!({})).await.unwrap();
    for batch in table.batches() {
        assert_eq!(batch.num_columns(), 1);
    }
    assert_eq!(table.ids(), [1, 1, 2, 2]);
    let refused = error(table.writer(&columns(vec![("v", ids())]), json!({})).await);
    assert_eq!(refused.field(), Some("v"), "{refused}");
    let inner = json!({"type": "struct", "fields": [long("a"), void("v")]});
    let array = json!({"type": "array", "elementType": "void", "containsNull": true});
    for (nested, path) in [(inner, "s.v"), (array, "s.element")] {
        // One of the same name at the top does not excuse it.
        let table = of(&[void("v"), column("s", nested, json!({}))], &[]);
        let refused = error(table.connect(json!({})).await);
        assert_eq!(refused.code(), Code::Unsupported, "{refused}");
        assert!(refused.message().contains(path), "{refused}");
    }
    assert_eq!(Delta::VOID.to_string(), "void");
}

/// What obliges a writer is found wherever it is, in a map's keys too.
#[tokio::test(flavor = "multi_thread")]
async fn obligations_of_nested_fields_are_found() {
    let bound = column("k", json!("long"), json!({"delta.invariants": "{}"}));
    let keys = json!({"type": "struct", "fields": [bound]});
    let map = json!({"type": "map", "keyType": keys, "valueType": "long", "valueContainsNull": true});
    let refused = error(of(&[column("m", map, json!({}))], &[]).connect(json!({})).await);
    assert_eq!(refused.code(), Code::Unsupported, "{refused}");
    assert!(
        refused.message().contains("invariants (column m.key.k)"),
        "{refused}"
    );
}
