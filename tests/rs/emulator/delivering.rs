//! Rows arrive: every option of the official client that reaches the wire.

use std::sync::Arc;

use arrow_ingest::emulator::EmulatorEvent;
use arrow_ipc::CompressionType;
use serde_json::json;

use crate::support::{Headers, Rig, TABLE, all, deliver, once, rows};

/// what the official client was told is durable is in the Delta table.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_official_client_are_in_the_table_when_they_are_acknowledged() {
    let rig = Rig::new(json!({})).await;
    let batch = rows(0, 1000);
    let mut stream = rig.stream(&batch.schema()).await.unwrap();
    let offset = stream.ingest_batch(batch).await.unwrap();
    stream.wait_for_offset(offset).await.unwrap();
    assert_eq!(rig.ids(), all(1000));
    stream.close().await.unwrap();
    assert!(stream.get_unacked_batches().await.unwrap().is_empty());
    assert_eq!(rig.emulator.rows(TABLE).await, 1000);
    rig.emulator.shutdown().await.unwrap();
    assert!(matches!(
        rig.events().last(),
        Some(EmulatorEvent::Stopped {
            rows: 1000,
            tables: 1
        })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_is_read() {
    let rig = Rig::new(json!({})).await;
    let kinds = [
        None,
        Some(CompressionType::LZ4_FRAME),
        Some(CompressionType::ZSTD),
    ];
    for (index, kind) in kinds.into_iter().enumerate() {
        let batch = rows(index as i64 * 500, index as i64 * 500 + 500);
        let mut stream = rig
            .stream_with(&batch.schema(), |builder| builder.ipc_compression(kind))
            .await
            .unwrap();
        stream.ingest_batch(batch).await.unwrap();
        stream.close().await.unwrap();
    }
    assert_eq!(rig.ids(), all(1500));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_served_on_the_same_port_to_whoever_trusts_its_authority() {
    let rig = Rig::new(json!({ "tls": true })).await;
    assert!(rig.emulator.url(TABLE).starts_with("zerobus://localhost:"));
    assert!(rig.emulator.unity_catalog_url().starts_with("https://localhost:"));
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    deliver(&mut stream, 5).await;
    assert_eq!(rig.ids(), all(500));
    rig.emulator.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_split_into_frames_arrives_whole() {
    let rig = Rig::new(json!({})).await;
    let batch = rows(0, 400_000);
    let mut stream = rig
        .stream_with(&batch.schema(), |builder| builder.ipc_compression(None))
        .await
        .unwrap();
    let offset = stream.ingest_batch(batch).await.unwrap();
    stream.wait_for_offset(offset).await.unwrap();
    assert_eq!(rig.ids(), all(400_000));
    stream.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_side_by_side_share_commits_and_lose_nothing() {
    let rig = Rig::new(json!({})).await;
    let streams = (0..4).map(|worker| {
        let rig = &rig;
        async move {
            let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
            for index in 0..10 {
                let from = worker * 1000 + index * 100;
                stream.ingest_batch(rows(from, from + 100)).await.unwrap();
            }
            stream.close().await.unwrap();
        }
    });
    futures::future::join_all(streams).await;
    assert_eq!(rig.ids(), all(4000));
    let summary = rig.emulator.summary().await;
    let table = summary.tables[TABLE];
    assert_eq!(
        (table.streams, table.rows_received, table.rows_acknowledged),
        (4, 4000, 4000)
    );
    assert!(table.commits <= 40, "{table:?}");
    assert_eq!((summary.streams, summary.faults_fired), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_own_headers_are_as_good_as_its_token() {
    let rig = Rig::new(json!({})).await;
    let batch = rows(0, 10);
    let provider = Arc::new(Headers("Bearer given-token"));
    let sdk = rig.sdk();
    let mut stream = sdk
        .stream_builder()
        .table(TABLE)
        .headers_provider(provider)
        .arrow(batch.schema())
        .build_arrow()
        .await
        .unwrap();
    stream.ingest_batch(batch).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(rig.ids(), all(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_lake_rows_are_counted_and_acknowledged() {
    let rig = Rig::new(json!({ "lake": null })).await;
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    deliver(&mut stream, 20).await;
    assert_eq!(rig.emulator.rows(TABLE).await, 2000);
    assert_eq!(rig.emulator.rows("main.test.other").await, 0);
    assert!(!rig.table().exists());
}

/// A lake outlives its emulator: the next one goes on with the same tables.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_an_earlier_emulator_are_known() {
    let first = Rig::new(json!({})).await;
    deliver(&mut first.stream(&rows(0, 1).schema()).await.unwrap(), 2).await;
    first.emulator.shutdown().await.unwrap();
    let second = Rig::new(json!({ "lake": first.lake.path(), "autoCreate": false })).await;
    let mut stream = second.stream(&rows(0, 1).schema()).await.unwrap();
    stream.ingest_batch(rows(200, 300)).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(first.ids(), all(300));
}

/// Streams in flight are told, what they sent is committed and acknowledged, and nothing after it is taken.
#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_commits_and_acknowledges_what_came() {
    let rig = Rig::new(json!({ "commitInterval": "1h" })).await;
    let stream = rig.stream_with(&rows(0, 1).schema(), once).await.unwrap();
    let offset = stream.ingest_batch(rows(0, 100)).await.unwrap();
    while rig.emulator.summary().await.tables[TABLE].rows_received < 100 {
        tokio::task::yield_now().await;
    }
    let (waited, closed) = tokio::join!(stream.wait_for_offset(offset), rig.emulator.shutdown());
    waited.unwrap();
    closed.unwrap();
    rig.emulator.shutdown().await.unwrap();
    assert_eq!(rig.ids(), all(100));
    assert!(rig.stream_with(&rows(0, 1).schema(), once).await.is_err());
}
