//! How writes arrive and what makes them count as durable.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use arrow_ingest::destination::Destination as _;
use arrow_ingest::error::Code;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Answers, Server, Writer, config, numbers, spooled};

#[tokio::test]
async fn a_stream_acknowledges_when_the_server_ends_it_well() {
    let server = Server::start(Answers::Nothing).await;
    let flight = server.connect(json!({})).await;
    assert_eq!(flight.capabilities().name, "flight");
    assert!(!flight.computes_on(&numbers([]).schema()));
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    assert!(writer.session.flush_due().is_none());
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    writer
        .write(2, vec![numbers(10..12), numbers(12..15)])
        .await
        .unwrap();
    assert!(writer.said().is_empty());
    assert!(writer.session.flush_due().is_some());
    writer.session.flush().await.unwrap();
    assert_eq!(writer.said(), ["through 2"]);
    assert!(writer.session.flush_due().is_none());
    // The same connection, another stream.
    writer.write(3, vec![numbers(15..16)]).await.unwrap();
    writer.session.close().await.unwrap();
    assert_eq!(server.values(), (0..16).collect::<Vec<_>>());
    let world = server.world();
    assert_eq!(world.descriptors.len(), 2);
    assert_eq!(world.descriptors[0].path, ["a", "b"]);
    assert!(world.headers.iter().all(|headers| {
        headers
            .get("user-agent")
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("arrow-ingest/")
    }));
}

#[tokio::test]
async fn a_stream_is_due_after_the_interval_and_at_half_the_budget() {
    let server = Server::start(Answers::Nothing).await;
    let flight = server
        .connect(json!({"inflight": {"maxBytes": "64KiB"}, "flight": {"commitInterval": "1h"}}))
        .await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    let due = writer.session.flush_due().unwrap();
    assert!(due > std::time::Instant::now() + Duration::from_secs(3_000));
    writer.write(2, vec![numbers(0..5_000)]).await.unwrap();
    assert!(writer.session.flush_due().unwrap() <= std::time::Instant::now());
}

#[tokio::test]
async fn an_answered_part_is_durable_before_its_stream_ends() {
    let server = Server::start(Answers::EveryPart).await;
    let flight = server
        .connect(json!({"flight": {"acknowledgement": "part", "maxMessageSize": "16KiB"}}))
        .await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..5_000)]).await.unwrap();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "through 1") {
        heard.push(writer.hear().await);
    }
    assert!(heard.len() > 1 && heard[0].ends_with(" of 1"), "{heard:?}");
    assert!(writer.session.flush_due().is_none());
    writer.session.flush().await.unwrap();
    assert_eq!(server.values(), (0..5_000).collect::<Vec<_>>());
    assert!(server.world().parts >= 3);
}

#[tokio::test]
async fn a_server_that_answers_too_little_or_too_much_is_not_believed() {
    for (answers, word) in [(Answers::Short, "unanswered"), (Answers::Long, "more parts")] {
        let server = Server::start(answers).await;
        let options = json!({"flight": {"acknowledgement": "part", "maxMessageSize": "16KiB"}});
        let flight = server.connect(options).await;
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        let wrote = writer.write(1, vec![numbers(0..5_000)]).await;
        let error = match wrote {
            Ok(()) => writer.session.flush().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code(), Code::Unsupported);
        assert!(error.message().contains(word), "{error}");
    }
}

#[tokio::test]
async fn several_streams_share_the_work_and_acknowledge_in_order() {
    let server = Server::start(Answers::EveryPart).await;
    let flight = server
        .connect(json!({"flight": {"acknowledgement": "part", "streams": 3}}))
        .await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    for id in 1..=9 {
        writer.write(id, vec![numbers([id as i64])]).await.unwrap();
    }
    writer.session.flush().await.unwrap();
    let heard = writer.said();
    assert_eq!(heard.last().unwrap(), "through 9");
    let ids: Vec<u64> = heard
        .iter()
        .filter_map(|said| said.strip_prefix("through ").map(|id| id.parse().unwrap()))
        .collect();
    assert!(ids.is_sorted(), "{heard:?}");
    let mut values = server.values();
    values.sort_unstable();
    assert_eq!(values, (1..=9).collect::<Vec<_>>());
    assert_eq!(server.world().descriptors.len(), 3);
}

#[tokio::test]
async fn a_cumulative_server_tells_what_it_has_and_gets_only_the_rest() {
    let server = Server::start(Answers::Cumulative).await;
    let flight = server
        .connect(json!({"flight": {"acknowledgement": "cumulative", "maxMessageSize": "16KiB"}}))
        .await;
    assert!(flight.capabilities().tells_what_landed);
    let producer = Uuid::new_v4();
    let schema = numbers([]).schema();
    let mut writer = Writer::resume(&flight, schema.clone(), producer, None)
        .await
        .unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    writer.write(2, vec![numbers(10..5_000)]).await.unwrap();
    writer.session.flush().await.unwrap();
    assert!(writer.said().contains(&"through 2".to_string()));
    drop(writer);
    // As if the second write had landed by half and its answer had been lost.
    let kept = {
        let mut world = server.world();
        let part = world.kept.pop().unwrap();
        let rows: usize = world.kept.iter().map(RecordBatch::num_rows).sum();
        let durable = world.durable.values_mut().next().unwrap();
        (durable.1, durable.2) = (2, rows as u64 - 10);
        assert!(part.num_rows() > 0 && durable.2 > 0);
        world.kept.len()
    };
    let mut writer = Writer::resume(&flight, schema.clone(), producer, Some(1))
        .await
        .unwrap();
    // Somebody who takes the second write back now must not hear that it is not there.
    assert_eq!((writer.landed, writer.conclusive), (Some(1), false));
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    assert_eq!(writer.hear().await, "through 1");
    writer.write(2, vec![numbers(10..5_000)]).await.unwrap();
    writer.write(3, vec![numbers(5_000..5_001)]).await.unwrap();
    Box::new(writer.session).close().await.unwrap();
    assert_eq!(server.values(), (0..5_001).collect::<Vec<_>>());
    assert_eq!(server.world().kept.len(), kept + 2);
    let writer = Writer::resume(&flight, schema, producer, Some(1)).await.unwrap();
    assert_eq!((writer.landed, writer.conclusive), (Some(3), true));
}

#[tokio::test]
async fn an_older_session_is_fenced_off() {
    let server = Server::start(Answers::Cumulative).await;
    let flight = server
        .connect(json!({"flight": {"acknowledgement": "cumulative"}}))
        .await;
    let (producer, schema) = (Uuid::new_v4(), numbers([]).schema());
    let mut older = Writer::resume(&flight, schema.clone(), producer, None)
        .await
        .unwrap();
    let mut newer = Writer::resume(&flight, schema, producer, Some(1)).await.unwrap();
    newer.write(1, vec![numbers(0..3)]).await.unwrap();
    newer.session.flush().await.unwrap();
    let _ = older.write(1, vec![numbers(0..3)]).await;
    let _ = older.session.flush().await;
    assert_eq!(older.broken().await.code(), Code::Conflict);
    assert_eq!(server.values(), [0, 1, 2]);
}

#[tokio::test]
async fn a_server_that_does_not_speak_cumulative_is_found_out_at_open() {
    let schema = numbers([]).schema();
    let options = json!({"flight": {"acknowledgement": "cumulative", "connectTimeout": "3s"}});
    for answers in [Answers::Nothing, Answers::Gibberish] {
        let server = Server::start(answers).await;
        let flight = server.connect(options.clone()).await;
        let error = Writer::open(&flight, schema.clone()).await.err().unwrap();
        assert_eq!(error.code(), Code::Unsupported, "{error}");
        assert!(error.message().contains("specs/flight-ack.md"));
    }
}

/// A server that keeps one position for all producers claims rows of others: none of ours is settled for it.
#[tokio::test]
async fn rows_that_were_never_sent_are_not_taken_for_there() {
    let server = Server::start(Answers::Cumulative).await;
    let flight = server
        .connect(json!({"flight": {"acknowledgement": "cumulative"}}))
        .await;
    let (producer, schema) = (Uuid::new_v4(), numbers([]).schema());
    let claim = |sequence, through| {
        let key = format!("{producer}/0");
        server.world().durable.insert(key, (0, sequence, through));
    };
    for (sequence, through) in [(2, 0), (1, 1), (u64::MAX, u64::MAX)] {
        claim(sequence, through);
        let opened = Writer::resume(&flight, schema.clone(), producer, Some(1)).await;
        let error = opened.err().unwrap();
        assert_eq!(error.code(), Code::Unsupported, "{error}");
        assert!(error.message().contains("never sent"));
    }
    claim(1, 0);
    let mut writer = Writer::resume(&flight, schema.clone(), producer, None)
        .await
        .unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    writer.session.flush().await.unwrap();
    drop(writer);
    // Of what was sent it may have anything.
    claim(2, 0);
    Writer::resume(&flight, schema, producer, Some(1)).await.unwrap();
    assert_eq!(server.values(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_that_no_message_can_hold_are_refused_and_the_others_arrive() {
    let server = Server::start(Answers::Nothing).await;
    let flight = server
        .connect(json!({"flight": {"maxMessageSize": "16KiB"}}))
        .await;
    let column: ArrayRef = Arc::new(StringArray::from_iter_values([
        "a".into(),
        "b".repeat(20_000),
        "c".into(),
    ]));
    let batch = RecordBatch::try_from_iter([("w", column)]).unwrap();
    let mut writer = Writer::open(&flight, batch.schema()).await.unwrap();
    writer.write(1, vec![batch.clone()]).await.unwrap();
    writer.write(2, vec![batch.slice(1, 1)]).await.unwrap();
    writer.write(3, vec![batch.slice(2, 1)]).await.unwrap();
    writer.session.flush().await.unwrap();
    assert_eq!(writer.said(), ["1 but [1]", "2 but [0]", "through 3"]);
    assert_eq!(
        server
            .world()
            .kept
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        3
    );
}

#[tokio::test]
async fn dictionaries_arrive_as_values_or_as_dictionaries() {
    let words: DictionaryArray<Int32Type> = ["x", "y", "x"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([("d", Arc::new(words) as ArrayRef)]).unwrap();
    for (option, dictionary) in [("hydrate", false), ("keep", true)] {
        for compression in ["none", "lz4", "zstd"] {
            let server = Server::start(Answers::Nothing).await;
            let flight = server
                .connect(json!({"flight": {"dictionaries": option, "compression": compression}}))
                .await;
            assert_eq!(flight.computes_on(&batch.schema()), compression != "none");
            let mut writer = Writer::open(&flight, batch.schema()).await.unwrap();
            writer
                .write(1, vec![batch.clone(), batch.slice(1, 2)])
                .await
                .unwrap();
            writer.session.flush().await.unwrap();
            let world = server.world();
            let types: Vec<_> = world
                .kept
                .iter()
                .map(|batch| batch.column(0).data_type().clone())
                .collect();
            assert!(
                types
                    .iter()
                    .all(|found| matches!(found, DataType::Dictionary(_, _)) == dictionary),
                "{types:?}"
            );
            let rows: usize = world.kept.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(rows, 5);
        }
    }
}

#[tokio::test]
async fn a_dictionary_that_cannot_go_is_refused_by_name() {
    let server = Server::start(Answers::Nothing).await;
    let flight = server
        .connect(json!({"flight": {"dictionaries": "keep", "maxMessageSize": "16KiB"}}))
        .await;
    let words: DictionaryArray<Int32Type> = [&*"x".repeat(20_000), "y"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([("d", Arc::new(words) as ArrayRef)]).unwrap();
    let mut writer = Writer::open(&flight, batch.schema()).await.unwrap();
    let error = writer.write(1, vec![batch]).await.unwrap_err();
    assert_eq!(error.code(), Code::BatchInvalid);
    assert!(error.message().contains("hydrate"));
    let inner: DictionaryArray<Int32Type> = ["x"].into_iter().collect();
    let outer = DictionaryArray::<Int32Type>::new(vec![0].into(), Arc::new(inner));
    let batch = RecordBatch::try_from_iter([("d", Arc::new(outer) as ArrayRef)]).unwrap();
    let error = Writer::open(&flight, batch.schema()).await.err().unwrap();
    assert_eq!(error.code(), Code::SchemaMismatch);
}

#[tokio::test]
async fn memory_is_let_go_of_when_the_session_is_dropped_though_the_server_does_not_read() {
    let server = Server::start(Answers::Nothing).await;
    server.world().slow = Some(Duration::from_secs(3600));
    let flight = server
        .connect(json!({"flight": {"maxMessageSize": "64MiB"}}))
        .await;
    let batch = numbers(0..2_000_000);
    let mut writer = Writer::open(&flight, batch.schema()).await.unwrap();
    let data = batch.column(0).to_data();
    let buffer = data.buffers()[0].clone();
    drop((data, writer.write(1, vec![batch]).await));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        buffer.strong_count() > 1,
        "nothing is under way: the test tries nothing"
    );
    drop(writer);
    let patience = std::time::Instant::now() + Duration::from_secs(10);
    while buffer.strong_count() > 1 {
        assert!(
            std::time::Instant::now() < patience,
            "still held {} times",
            buffer.strong_count()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(server.world().kept.is_empty());
}

#[tokio::test]
async fn memory_is_let_go_of_once_it_is_acknowledged() {
    let server = Server::start(Answers::EveryPart).await;
    let flight = server
        .connect(json!({"flight": {"acknowledgement": "part"}}))
        .await;
    let batch = numbers(0..2_000_000);
    let mut writer = Writer::open(&flight, batch.schema()).await.unwrap();
    let data = batch.column(0).to_data();
    let buffer = data.buffers()[0].clone();
    drop((data, writer.write(1, vec![batch]).await));
    while writer.hear().await != "through 1" {}
    let patience = std::time::Instant::now() + Duration::from_secs(10);
    while buffer.strong_count() > 1 {
        assert!(
            std::time::Instant::now() < patience,
            "still held {} times",
            buffer.strong_count()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(config(json!({})));
}

#[tokio::test]
async fn a_refused_row_is_told_though_the_server_has_the_rest_of_its_write() {
    let server = Server::start(Answers::Cumulative).await;
    let options = json!({"flight": {"acknowledgement": "cumulative", "maxMessageSize": "16KiB"}});
    let flight = server.connect(options).await;
    let words = ["a".into(), "b".repeat(20_000), "c".into()];
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(words));
    let batch = RecordBatch::try_from_iter([("w", column)]).unwrap();
    let producer = Uuid::new_v4();
    server.world().silent_after = Some(1);
    let mut writer = Writer::resume(&flight, batch.schema(), producer, None)
        .await
        .unwrap();
    writer.write(1, vec![batch.clone()]).await.unwrap();
    let patience = std::time::Instant::now() + Duration::from_secs(10);
    while server.world().parts == 0 {
        assert!(std::time::Instant::now() < patience);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The rows are there; the answer never came.
    assert!(writer.said().is_empty());
    drop(writer);
    server.world().silent_after = None;
    let mut writer = Writer::resume(&flight, batch.schema(), producer, Some(1))
        .await
        .unwrap();
    assert_eq!(writer.landed, None);
    writer.write(1, vec![batch]).await.unwrap();
    assert_eq!(writer.hear().await, "1 but [1]");
    writer.session.close().await.unwrap();
    assert_eq!(
        server
            .world()
            .kept
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        2
    );
}

/// a process that is killed before it has put a refused row aside leaves it to the next one.
#[tokio::test]
async fn a_row_refused_here_is_refused_again_by_the_next_process_though_the_server_is_beyond_it() {
    let server = Server::start(Answers::Cumulative).await;
    let options = json!({"flight": {"acknowledgement": "cumulative", "maxMessageSize": "16KiB"}});
    let words = ["a".into(), "b".repeat(20_000), "c".into()];
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(words));
    let batch = RecordBatch::try_from_iter([("w", column)]).unwrap();
    let producer = Uuid::new_v4();
    let killed = server.connect(options.clone()).await;
    let mut writer = Writer::spooled(&killed, batch.schema(), producer).await.unwrap();
    writer.session.write(spooled(batch.clone())).await.unwrap();
    writer.session.flush().await.unwrap();
    assert_eq!(writer.said(), ["3 but [1]"]);
    drop((writer, killed));
    let next = server.connect(options).await;
    let mut writer = Writer::spooled(&next, batch.schema(), producer).await.unwrap();
    assert_eq!((writer.landed, writer.conclusive), (None, false));
    writer.session.write(spooled(batch)).await.unwrap();
    assert_eq!(writer.hear().await, "3 but [1]");
    writer.session.close().await.unwrap();
    let world = server.world();
    assert_eq!(world.kept.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}

/// what lies on a stream that is ahead of another is there, though no answer covers it.
#[tokio::test]
async fn a_write_on_a_stream_that_is_ahead_is_not_said_to_be_missing() {
    let server = Server::start(Answers::Cumulative).await;
    let options = json!({"flight": {"acknowledgement": "cumulative", "streams": 2}});
    let flight = server.connect(options).await;
    let (producer, schema) = (Uuid::new_v4(), numbers([]).schema());
    let mut writer = Writer::resume(&flight, schema.clone(), producer, None)
        .await
        .unwrap();
    writer.write(1, vec![numbers(0..3)]).await.unwrap();
    writer.write(3, vec![numbers(3..5)]).await.unwrap();
    writer.session.flush().await.unwrap();
    drop(writer);
    // The second write went to the other stream, and did not arrive.
    let again = Writer::resume(&flight, schema, producer, Some(2)).await.unwrap();
    assert_eq!((again.landed, again.conclusive), (None, false));
}
