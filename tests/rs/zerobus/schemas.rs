//! Where the stream's schema comes from, and what becomes of batches that have another.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use arrow_ingest::error::Code;
use arrow_ingest::outcome::Status;
use serde_json::json;

use crate::emulated::{TABLE, read};
use crate::harness::ipc;
use crate::support::{Road, check_acknowledged, numbers};

/// The catalog's schema decides: columns are reordered and cast, what is missing is null.
#[tokio::test(flavor = "multi_thread")]
async fn batches_are_brought_into_the_tables_schema() {
    let tables = json!({"tables": {TABLE: [
        {"name": "id", "type": "bigint", "nullable": false},
        {"name": "at", "type": "timestamp"},
        {"name": "text", "type": "string"},
        {"name": "more", "type": "double"},
    ]}});
    let road = Road::new(tables, json!({})).await;
    let times = TimestampMillisecondArray::from(vec![Some(1), None, Some(3)]).with_timezone("Europe/Paris");
    let columns: [(&str, ArrayRef); 3] = [
        (
            "text",
            Arc::new(StringArray::from(vec![Some("a"), Some("b"), None])),
        ),
        ("at", Arc::new(times)),
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    road.rig.send_handoffs(vec![ipc(&batch)], None);
    check_acknowledged(&road.close().await, 1);
    assert_eq!(road.emulated.ids(), [1, 2, 3]);
    let stored = read(&road.emulated.table());
    assert_eq!(stored[0].column_by_name("text").unwrap().null_count(), 1);
    assert_eq!(stored[0].column_by_name("more").unwrap().null_count(), 3);
}

/// What no cast can save is said with the column, the type given and the type wanted, before the wire.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_cannot_fit_is_refused_before_the_wire() {
    let tables = json!({"tables": {TABLE: [{"name": "id", "type": "string"}]}});
    let road = Road::new(tables, json!({})).await;
    road.send(0..10).await;
    let outcomes = road.close().await;
    let error = outcomes[0].error.as_ref().unwrap();
    assert_eq!(
        (outcomes[0].status, error.code(), error.field()),
        (Status::Failed, Code::SchemaMismatch, Some("id"))
    );
    assert!(
        error.message().contains("given as Int64, wanted as LargeUtf8"),
        "{error}"
    );
    assert_eq!(road.emulated.emulator.summary().await.streams, 0);
}

/// Each cause by which the service refuses a schema is told in words, for good, and others go on.
#[tokio::test(flavor = "multi_thread")]
async fn every_cause_of_a_refused_schema_is_told() {
    for (cause, words) in [
        ("FIELD_NOT_IN_TABLE", "not in the table"),
        ("MISSING_REQUIRED_COLUMN", "required column is missing"),
        ("FIELD_OUT_OF_ORDER", "out of order"),
        ("TYPE_INCOMPATIBLE", "type does not fit"),
        ("FIELD_COUNT_MISMATCH", "number of fields"),
    ] {
        // Twice, because what the catalog said is asked for again.
        let road = Road::with(&format!("refuse-schema:causes={cause},times=2"), json!({})).await;
        let refused = road.send(0..10).await;
        let error = road.rig.outcome(refused).await.error.unwrap();
        assert_eq!(error.code(), Code::SchemaMismatch);
        assert!(
            error.message().contains(words) && error.message().contains("8001"),
            "{error}"
        );
        assert!(
            error
                .message()
                .contains("is the first batch's, because Unity Catalog does not know"),
            "{error}"
        );
        road.send(10..20).await;
        road.close().await;
        assert_eq!(road.emulated.ids(), (10..20).collect::<Vec<_>>());
    }
}

/// any unit of an instant is cast where that is exact; what is no instant says how to become one.
#[tokio::test(flavor = "multi_thread")]
async fn timestamps_are_cast_where_that_is_exact_and_else_the_cure_is_named() {
    let tables = json!({"tables": {TABLE: [{"name": "at", "type": "timestamp"}, {"name": "read", "type": "timestamp_ntz"}]}});
    let road = Road::new(tables, json!({})).await;
    let one = |at: ArrayRef, read: ArrayRef| {
        ipc(&RecordBatch::try_from_iter([("at", at), ("read", read)]).unwrap())
    };
    let millis = || TimestampMillisecondArray::from(vec![1_700_000_000_123]);
    let (instants, readings): (ArrayRef, ArrayRef) = (
        Arc::new(millis().with_timezone("Europe/Berlin")),
        Arc::new(millis()),
    );
    road.rig
        .send_handoffs(vec![one(instants.clone(), readings.clone())], None);
    road.rig.flush().await.unwrap();
    road.rig.send_handoffs(vec![one(readings, instants)], None);
    let outcomes = road.close().await;
    check_acknowledged(&outcomes[..1], 1);
    let held = read(&road.emulated.table());
    let at = held[0]["at"].as_primitive::<TimestampMicrosecondType>().value(0);
    let clock = held[0]["read"]
        .as_primitive::<TimestampMicrosecondType>()
        .value(0);
    assert_eq!([at, clock], [1_700_000_000_123_000; 2]);
    let error = outcomes[1].error.clone().unwrap();
    assert_eq!((error.code(), error.field()), (Code::SchemaMismatch, Some("at")));
    for word in ["such as \"UTC\"", "TIMESTAMP_NTZ", "give the type no zone"] {
        assert!(error.message().contains(word), "{word}: {error}");
    }
}

/// A refusal of the table's own: the column is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_schema_names_the_column() {
    let tables = json!({"tables": {TABLE: [{"name": "id", "type": "bigint"}, {"name": "must", "type": "int", "nullable": false}]}});
    let road = Road::new(tables, json!({})).await;
    road.rig.prepare(numbers(0..1).schema()).await.unwrap_err();
    road.send(0..10).await;
    let error = road.close().await[0].error.clone().unwrap();
    assert_eq!(error.code(), Code::SchemaMismatch);
    assert!(error.field().is_some(), "{error}");
    assert!(
        error.message().contains("is the one that connect was given"),
        "{error}"
    );
}

/// The user's own word is the stream's schema; batches of other schemas are brought into it.
#[tokio::test(flavor = "multi_thread")]
async fn the_schema_that_connect_was_given_decides() {
    let road = Road::new(json!({}), json!({})).await;
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("note", DataType::Utf8, true),
    ];
    road.rig.prepare(Arc::new(Schema::new(fields))).await.unwrap();
    road.send(0..10).await;
    let notes: [(&str, ArrayRef); 2] = [
        ("note", Arc::new(StringArray::from(vec!["x"; 10]))),
        ("id", Arc::new(Int64Array::from_iter_values(10..20))),
    ];
    road.rig
        .send_handoffs(vec![ipc(&RecordBatch::try_from_iter(notes).unwrap())], None);
    check_acknowledged(&road.close().await, 2);
    assert_eq!(road.emulated.ids(), (0..20).collect::<Vec<_>>());
    let notes = read(&road.emulated.table());
    let nulls: usize = notes
        .iter()
        .map(|batch| batch.column_by_name("note").unwrap().null_count())
        .sum();
    assert_eq!(nulls, 10);
    assert!(
        notes[0]
            .column_by_name("id")
            .unwrap()
            .as_primitive_opt::<Int64Type>()
            .is_some()
    );
}

/// A table that was altered meanwhile: the schema that was kept is asked for again, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_out_of_date_is_asked_for_again() {
    let road = Road::new(json!({}), json!({"retry": {"attempts": 1}})).await;
    road.emulated
        .fault("refuse-schema:causes=FIELD_COUNT_MISMATCH,times=1");
    road.send(0..10).await;
    check_acknowledged(&road.close().await, 1);
    assert_eq!(road.emulated.ids(), (0..10).collect::<Vec<_>>());
}
