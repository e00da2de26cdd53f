//! what differs in nullability or metadata only goes together; a real change drains the
//! session and opens another.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_ingest::error::Code;
use arrow_ingest::outcome::Status;
use serde_json::json;

use crate::support::rig::Rig;
use crate::support::scripted::{Durable, Scripted};
use crate::support::{batch, schema};

fn nullable(values: Vec<Option<i64>>) -> RecordBatch {
    let field = Field::new("n", DataType::Int64, true).with_metadata([("unit".into(), "m".into())].into());
    let column: ArrayRef = Arc::new(Int64Array::from(values));
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
}

///
#[tokio::test(start_paused = true)]
async fn nullability_and_metadata_are_labels() {
    for durable in [Durable::AtWrite, Durable::AtFlush] {
        let rig = Rig::new(Scripted::new(durable, false), json!({}));
        rig.send(&batch(&schema("n"), 0..3));
        rig.send(&nullable(vec![Some(3), Some(4)]));
        rig.send(&batch(&schema("n"), 5..7));
        rig.flush().await.unwrap();
        assert_eq!(rig.world().held, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(rig.world().calls_like("open").len(), 1);
        assert_eq!(rig.world().writes_seen.len(), 1);
        rig.close(Duration::from_secs(1)).await.unwrap();
        rig.check_the_end();
    }
}

/// relabelling nulls as none would lie to the destination.
#[tokio::test(start_paused = true)]
async fn nulls_where_there_must_be_none_are_a_change() {
    let rig = Rig::new(Scripted::new(Durable::AtFlush, false), json!({}));
    rig.send(&batch(&schema("n"), 0..3));
    rig.send(&nullable(vec![Some(3), None]));
    // Fits the second session: whoever takes nulls takes none as well.
    rig.send(&batch(&schema("n"), 5..7));
    rig.flush().await.unwrap();
    assert_eq!(rig.world().held, [0, 1, 2, 3, -1, 5, 6]);
    let calls: Vec<String> = rig.world().calls.iter().map(|(call, _)| call.clone()).collect();
    assert_eq!(
        calls,
        ["open", "write 1", "flush", "close", "open", "write 2", "flush"]
    );
    assert!(rig.world().schemas[1].field(0).is_nullable());
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}

/// rows of another schema wait for a slow flush without burning a processor.
#[tokio::test(start_paused = true)]
async fn a_real_change_drains_the_session_first() {
    use crate::support::scripted::Act;
    let rig = Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "batching": { "linger": "10ms" } }),
    );
    let slow = Act::After(Duration::from_secs(60), Box::new(Act::Pass));
    rig.world().flushes = [slow.clone(), slow].into();
    let first = rig.send(&batch(&schema("a"), 0..3));
    let second = rig.send(&batch(&schema("b"), 3..6));
    let third = rig.send(&batch(&schema("a"), 6..9));
    rig.outcome(first).await;
    rig.outcome(second).await;
    rig.flush().await.unwrap();
    rig.outcome(third).await;
    assert_eq!(rig.world().held, (0..9).collect::<Vec<_>>());
    let names: Vec<String> = rig
        .world()
        .schemas
        .iter()
        .map(|s| s.field(0).name().clone())
        .collect();
    assert_eq!(names, ["a", "b", "a"]);
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}

/// a schema that the destination does not want fails its own batches and no others.
#[tokio::test(start_paused = true)]
async fn an_unwanted_schema_fails_its_batches_and_the_client_goes_on() {
    let rig = Rig::new(Scripted::new(Durable::AtFlush, false), json!({}));
    rig.world().unwanted = ["b".to_string()].into();
    let a = rig.send(&batch(&schema("a"), 0..3));
    let b = rig.send(&batch(&schema("b"), 3..6));
    let c = rig.send(&batch(&schema("c"), 6..9));
    rig.flush().await.unwrap();
    assert_eq!(rig.outcome(a).await.status, Status::Acknowledged);
    let failed = rig.outcome(b).await;
    assert_eq!((failed.status, failed.attempts), (Status::Failed, 1));
    let error = failed.error.unwrap();
    assert_eq!((error.code(), error.attempts()), (Code::SchemaMismatch, 1));
    assert_eq!(rig.outcome(c).await.status, Status::Acknowledged);
    assert_eq!(rig.world().held, [0, 1, 2, 6, 7, 8]);
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}

/// What is wrong with a schema is known before the first batch.
#[tokio::test(start_paused = true)]
async fn prepare_opens_the_session_that_the_first_batch_uses() {
    let rig = Rig::new(Scripted::new(Durable::AtWrite, false), json!({}));
    rig.prepare(schema("n")).await.unwrap();
    assert_eq!(rig.world().calls_like("open").len(), 1);
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    rig.outcome(sequence).await;
    rig.prepare(schema("n")).await.unwrap();
    assert_eq!(rig.world().calls_like("open").len(), 1);

    let rig = Rig::new(Scripted::new(Durable::AtWrite, false), json!({}));
    rig.world().unwanted = ["n".to_string()].into();
    let error = rig.prepare(schema("n")).await.unwrap_err();
    assert_eq!(error.code(), Code::SchemaMismatch);
    let other = rig.send(&batch(&schema("m"), 0..3));
    assert_eq!(rig.outcome(other).await.status, Status::Acknowledged);
    rig.close(Duration::from_secs(1)).await.unwrap();
    assert_eq!(rig.prepare(schema("n")).await.unwrap_err().code(), Code::Closed);
    rig.check_the_end();
}
