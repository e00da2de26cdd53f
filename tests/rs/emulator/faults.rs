//! What goes wrong on purpose: the official client survives it, with its recovery on, and loses no row.
//!
//! Only `lose-after-commit` may keep a row twice: there the client cannot know.

use std::time::Duration;

use arrow_ingest::emulator::EmulatorEvent;
use databricks_zerobus_ingest_sdk::{SchemaValidationCause, ZerobusError};
use serde_json::json;

use crate::support::{Rig, TABLE, all, deliver, once, rows};

/// Delivers 1000 rows over an emulator with this fault; every row is there, once.
async fn survives(fault: &str) -> Rig {
    let rig = Rig::with_fault(fault).await;
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    deliver(&mut stream, 10).await;
    assert_eq!(rig.ids(), all(1000), "{fault}");
    let summary = rig.emulator.summary().await;
    assert!(summary.faults_fired > 0, "{fault} did not fire");
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_refused_for_the_moment_is_asked_for_again() {
    let rig = survives("refuse:status=UNAVAILABLE,times=2,message=later").await;
    assert_eq!(rig.emulator.summary().await.streams, 3);
    let refused = rig
        .lines()
        .iter()
        .filter(|line| line.ends_with("refused with UNAVAILABLE: later"))
        .count();
    assert_eq!(refused, 2, "{:?}", rig.lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_loses_nothing_and_ends_the_old_stream_well() {
    let rig = Rig::with_fault("rotate:after=300rows,grace=2s,times=2").await;
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    for index in 0..10 {
        stream
            .ingest_batch(rows(index * 100, index * 100 + 100))
            .await
            .unwrap();
        stream.flush().await.unwrap();
    }
    // A close that meets a rotation says so, though every row is acknowledged.
    if let Err(error) = stream.close().await {
        assert!(error.to_string().contains("rotation"), "{error}");
    }
    assert!(stream.get_unacked_batches().await.unwrap().is_empty());
    assert_eq!(rig.ids(), all(1000));
    assert_eq!(rig.emulator.summary().await.faults_fired, 2);
    let first = rig.events().into_iter().find_map(|event| match event {
        EmulatorEvent::StreamClosed { stream: 1, end, .. } => Some(end),
        _ => None,
    });
    assert_eq!(first.as_deref(), Some("OK"), "{:?}", rig.lines());
}

/// The official client skips its wait when the grace is too short for it. Rows that it sent and that were
/// kept in that moment it sends again.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_not_followed_ends_the_stream() {
    let rig = Rig::with_fault("rotate:grace=0").await;
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    for index in 0..10 {
        stream
            .ingest_batch(rows(index * 100, index * 100 + 100))
            .await
            .unwrap();
    }
    stream.flush().await.unwrap();
    // A close that meets the end of the old stream says so, though every row is acknowledged.
    let _ = stream.close().await;
    assert!(stream.get_unacked_batches().await.unwrap().is_empty());
    let mut ids = rig.ids();
    ids.dedup();
    assert_eq!(ids, all(1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_delays_acknowledgements_and_nothing_else() {
    let rig = Rig::with_fault("stall:for=1h").await;
    let stream = rig.stream_with(&rows(0, 1).schema(), once).await.unwrap();
    let offset = stream.ingest_batch(rows(0, 100)).await.unwrap();
    while rig.emulator.rows(TABLE).await < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waited = tokio::time::timeout(Duration::from_millis(200), stream.wait_for_offset(offset)).await;
    assert!(waited.is_err(), "acknowledged in spite of the stall");
    assert_eq!(rig.emulator.summary().await.tables[TABLE].rows_acknowledged, 0);
    assert_eq!(rig.ids(), all(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_ends() {
    survives("stall:for=50ms,after=3batches").await;
}

/// The client sends the rest of the batch, from the row that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_acknowledged_in_part_is_sent_again_from_there() {
    survives("partial:rows=37,after=500rows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_acknowledged_in_part_comes_back_cut_to_the_rest() {
    let rig = Rig::with_fault("partial:rows=37").await;
    let stream = rig.stream_with(&rows(0, 1).schema(), once).await.unwrap();
    let offset = stream.ingest_batch(rows(0, 100)).await.unwrap();
    stream.wait_for_offset(offset).await.unwrap_err();
    let mut stream = stream;
    let _ = stream.close().await;
    let rest = stream.get_unacked_batches().await.unwrap();
    assert_eq!(rest, [rows(37, 100)]);
    assert_eq!(rig.ids(), all(37));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_closed_in_the_midst_of_things_is_replaced() {
    survives("close:after=250rows,times=2").await;
    survives("close:status=INTERNAL,stream=1,message=oops").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_before_the_commit_leaves_nothing_of_the_batch() {
    survives("lose-before-commit:after=400rows").await;
}

/// The one window in which a row may be kept twice: kept, and never acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_commit_keeps_that_batch_twice_and_no_other() {
    let rig = Rig::with_fault("lose-after-commit:after=4batches").await;
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    deliver(&mut stream, 10).await;
    let mut wanted = all(1000);
    wanted.extend(300..400);
    wanted.sort_unstable();
    assert_eq!(rig.ids(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_error_6006_and_passes() {
    let rig = survives("pause:times=2").await;
    assert!(
        rig.lines().iter().any(|line| line.contains("Error Code: 6006")),
        "{:?}",
        rig.lines()
    );
    survives("pause:after=200rows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expired_at_set_up_is_replaced() {
    let rig = survives("expire-token").await;
    assert_eq!(rig.emulator.summary().await.tokens_issued, 2);
}

/// In the midst of a stream the official client takes this for final; a new stream asks for a new token.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_the_midst_ends_the_stream_as_unauthenticated() {
    let rig = Rig::with_fault("expire-token:after=100rows").await;
    let stream = rig.stream_with(&rows(0, 1).schema(), once).await.unwrap();
    let offset = stream.ingest_batch(rows(0, 100)).await.unwrap();
    let error = stream.wait_for_offset(offset).await.unwrap_err();
    let ZerobusError::StreamClosedError(status) = &error else {
        panic!("{error}");
    };
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    deliver(&mut rig.stream(&rows(0, 1).schema()).await.unwrap(), 1).await;
    assert_eq!(rig.ids(), all(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_endpoint_fails_for_a_while_or_for_good() {
    let rig = survives("token:status=503,times=2").await;
    assert_eq!(rig.emulator.summary().await.tokens_issued, 1);
    let rig = Rig::with_fault("token:status=400").await;
    let refused = rig.stream(&rows(0, 1).schema()).await.err().unwrap();
    assert!(
        matches!(refused, ZerobusError::InvalidUCTokenError(_)),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_above_the_limit_are_refused_until_one_ends() {
    let rig = Rig::with_fault("limit:streams=1").await;
    let mut first = rig.stream(&rows(0, 1).schema()).await.unwrap();
    let refused = rig.stream_with(&rows(0, 1).schema(), once).await.err().unwrap();
    assert!(
        matches!(&refused, ZerobusError::CreateStreamError(status) if status.code() == tonic::Code::ResourceExhausted),
        "{refused}"
    );
    first.close().await.unwrap();
    // With its recovery on, the client tries until the first one is counted out.
    deliver(&mut rig.stream(&rows(0, 1).schema()).await.unwrap(), 1).await;
    assert_eq!(rig.ids(), all(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_refused_with_each_cause() {
    let causes = [
        ("FIELD_NOT_IN_TABLE", SchemaValidationCause::FieldNotInTable),
        (
            "MISSING_REQUIRED_COLUMN",
            SchemaValidationCause::MissingRequiredColumn,
        ),
        ("FIELD_OUT_OF_ORDER", SchemaValidationCause::FieldOutOfOrder),
        ("TYPE_INCOMPATIBLE", SchemaValidationCause::TypeIncompatible),
        ("FIELD_COUNT_MISMATCH", SchemaValidationCause::FieldCountMismatch),
    ];
    for (word, wanted) in causes {
        let rig = Rig::with_fault(&format!("refuse-schema:causes={word}")).await;
        match rig.stream(&rows(0, 1).schema()).await.err().unwrap() {
            ZerobusError::InvalidSchema {
                causes, error_code, ..
            } => {
                assert_eq!(causes, [wanted]);
                assert_eq!(error_code.as_deref(), Some("8001"));
            }
            other => panic!("{other}"),
        }
    }
}

/// a refusal is of one batch, whole, and the stream says how far it got before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_row_that_a_rule_refuses_is_refused_whole() {
    let rig = Rig::with_fault("reject:column=id,equals=250").await;
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    for index in 0..4 {
        stream
            .ingest_batch(rows(index * 100, index * 100 + 100))
            .await
            .unwrap();
    }
    let error = stream.flush().await.unwrap_err();
    assert!(error.to_string().contains("row 50"), "{error}");
    let _ = stream.close().await;
    let rest = stream.get_unacked_batches().await.unwrap();
    assert_eq!(rest, [rows(200, 300), rows(300, 400)]);
    assert_eq!(rig.ids(), all(200));
    assert_eq!(rig.emulator.summary().await.tables[TABLE].batches_refused, 1);
    // It is a rule: it holds for the next stream as well, and lets the other rows pass.
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    for batch in [rows(200, 250), rows(251, 400)] {
        stream.ingest_batch(batch).await.unwrap();
    }
    stream.close().await.unwrap();
    assert_eq!(rig.ids().len(), 399);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_for_its_table_and_its_stream() {
    let rig = Rig::new(json!({
        "faults": [
            "refuse:table=main.test.other,status=NOT_FOUND",
            { "kind": "refuse", "stream": 2, "status": "PERMISSION_DENIED", "message": "not the second" },
        ],
    }))
    .await;
    deliver(&mut rig.stream(&rows(0, 1).schema()).await.unwrap(), 1).await;
    let refused = rig.stream_with(&rows(0, 1).schema(), once).await.err().unwrap();
    assert!(refused.to_string().contains("not the second"), "{refused}");
    deliver(&mut rig.stream(&rows(0, 1).schema()).await.unwrap(), 1).await;
    assert_eq!(rig.ids().len(), 200);
}
