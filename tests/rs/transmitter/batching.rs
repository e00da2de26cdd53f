//! small batches coalesce and large ones split, by rows, bytes and time; order is kept.

use std::time::Duration;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use arrow_ingest::error::Code;
use arrow_ingest::handoff::{ColumnBuffers, Foreign, HandoffBatch, Node};
use arrow_ingest::outcome::{Position, Status};
use serde_json::json;
use tokio::time::Instant;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted};
use crate::support::{batch, ipc, schema};

fn at_write(options: serde_json::Value) -> Rig {
    Rig::new(Scripted::new(Durable::AtWrite, false), options)
}

///
#[tokio::test(start_paused = true)]
async fn small_batches_go_together_after_lingering() {
    let rig = at_write(json!({ "batching": { "linger": "50ms" } }));
    let schema = schema("n");
    let start = Instant::now();
    let sent: Vec<u64> = (0..10)
        .map(|n| rig.send(&batch(&schema, n * 10..n * 10 + 10)))
        .collect();
    for sequence in sent {
        let outcome = rig.outcome(sequence).await;
        assert_eq!(outcome.status, Status::Acknowledged);
        assert_eq!((outcome.rows, outcome.accepted_rows), (10, 10));
        assert_eq!((outcome.attempts, outcome.retries, outcome.writes), (1, 0, 1));
        assert_eq!(outcome.position, Position::Version(1));
    }
    assert_eq!(start.elapsed(), Duration::from_millis(50));
    assert_eq!(rig.world().writes_seen, [(0..100).collect::<Vec<_>>()]);
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}

/// small deliveries are imported together, and one that is not valid is refused by itself, with its
/// own row.
#[tokio::test(start_paused = true)]
async fn one_that_is_wrong_is_refused_and_its_neighbours_are_not() {
    let rig = at_write(json!({ "batching": { "linger": "50ms" } }));
    let schema = schema("n");
    let columns = |values: std::ops::Range<i64>, bytes: usize| {
        let rows = values.end as usize - values.start as usize;
        let mut memory: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
        memory.truncate(bytes);
        HandoffBatch::Columns(ColumnBuffers {
            schema: schema.clone(),
            rows,
            nodes: vec![Node {
                length: rows,
                null_count: 0,
                offset: 0,
                variadic: 0,
            }],
            buffers: vec![None, Some(Foreign::from_buffer(memory.into()))],
        })
    };
    let before = rig.send_handoffs(vec![columns(0..10, 80)], None);
    // Its second batch ends in the middle of its third row: the eighth of the delivery.
    let wrong = rig.send_handoffs(vec![columns(10..15, 40), columns(15..20, 20)], None);
    let after = rig.send_handoffs(vec![columns(20..25, 40), columns(25..30, 40)], None);
    let outcome = rig.outcome(wrong).await;
    assert_eq!(outcome.status, Status::Failed);
    let error = outcome.error.unwrap();
    assert_eq!(
        (error.code(), error.field(), error.row()),
        (Code::BatchInvalid, Some("n"), Some(7))
    );
    for sequence in [before, after] {
        let outcome = rig.outcome(sequence).await;
        assert_eq!(
            (outcome.status, outcome.accepted_rows),
            (Status::Acknowledged, 10)
        );
    }
    let expected: Vec<i64> = (0..10).chain(20..30).collect();
    assert_eq!(rig.world().writes_seen, [expected]);
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}

/// what is lingering anyway may rest before it is looked at; nobody waits for the rest.
#[tokio::test(start_paused = true)]
async fn whoever_waits_ends_the_rest() {
    let rig = at_write(json!({ "batching": { "linger": "50ms" } }));
    let schema = schema("n");
    let start = Instant::now();
    for turn in 0..3 {
        rig.send(&batch(&schema, turn * 20..turn * 20 + 10));
        // It is taken, and more comes while the taker rests.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        rig.send(&batch(&schema, turn * 20 + 10..turn * 20 + 20));
        rig.flush().await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(rig.world().writes_seen.concat(), (0..60).collect::<Vec<_>>());
    // With nobody who waits, all that comes within its linger goes together.
    let sent: Vec<u64> = (6..9)
        .map(|n| rig.send(&batch(&schema, n * 10..n * 10 + 10)))
        .collect();
    rig.outcome(sent[2]).await;
    assert!(
        start.elapsed() <= Duration::from_millis(52),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        rig.world().writes_seen.last().unwrap(),
        &(60..90).collect::<Vec<_>>()
    );
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}

///
#[tokio::test(start_paused = true)]
async fn a_full_write_does_not_linger() {
    let rig = at_write(json!({ "batching": { "linger": "1h", "maxRows": 20 } }));
    let schema = schema("n");
    let start = Instant::now();
    let first = rig.send(&batch(&schema, 0..10));
    let second = rig.send(&batch(&schema, 10..20));
    rig.outcome(first).await;
    rig.outcome(second).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(rig.world().writes_seen.len(), 1);
}

///
#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_fit_beside_the_others_starts_the_next_write() {
    let rig = at_write(json!({ "batching": { "linger": 0, "maxBytes": 800 } }));
    let schema = schema("n");
    rig.send(&batch(&schema, 0..60));
    rig.send(&batch(&schema, 60..120));
    rig.flush().await.unwrap();
    let seen = rig.world().writes_seen.clone();
    assert_eq!(seen, [(0..60).collect::<Vec<_>>(), (60..120).collect()]);
}

///
#[tokio::test(start_paused = true)]
async fn a_large_batch_is_split_by_rows_and_by_bytes_and_is_one_delivery() {
    for options in [json!({ "maxRows": 300 }), json!({ "maxBytes": 2400 })] {
        let rig = at_write(json!({ "batching": options }));
        let sequence = rig.send(&batch(&schema("n"), 0..1000));
        rig.flush().await.unwrap();
        let outcome = rig.outcome(sequence).await;
        assert_eq!((outcome.status, outcome.writes), (Status::Acknowledged, 4));
        let world = rig.world();
        assert_eq!(world.writes_seen.concat(), (0..1000).collect::<Vec<_>>());
        assert!(world.writes_seen.iter().all(|rows| rows.len() <= 300));
    }
}

/// no copy of what is large, and of its parts neither.
#[tokio::test(start_paused = true)]
async fn large_batches_pass_uncopied() {
    let rig = at_write(json!({}));
    let schema = schema("n");
    let large = batch(&schema, 0..40_000);
    let address = large.column(0).to_data().buffers()[0].as_ptr() as usize;
    rig.send(&batch(&schema, 0..3));
    rig.send(&large);
    rig.send(&batch(&schema, 0..3));
    rig.flush().await.unwrap();
    assert!(rig.world().pointers.contains(&address));

    let rig = at_write(json!({ "batching": { "maxRows": 20_000 } }));
    rig.send(&large);
    rig.flush().await.unwrap();
    assert_eq!(rig.world().pointers, [address, address + 20_000 * 8]);
}

/// a table of several batches is one delivery.
#[tokio::test(start_paused = true)]
async fn batches_of_one_delivery_have_one_outcome() {
    let rig = at_write(json!({}));
    let schema = schema("n");
    rig.world().refused = [3, 25].into();
    let parts = [
        batch(&schema, 0..10),
        batch(&schema, 10..10),
        batch(&schema, 10..30),
    ];
    let sequence = rig.send_all(&parts);
    let after = rig.send(&batch(&schema, 30..40));
    let outcome = rig.outcome(sequence).await;
    assert_eq!((outcome.status, outcome.rows), (Status::Partial, 30));
    let rows: Vec<u64> = outcome.rejections.iter().map(|rejection| rejection.row).collect();
    assert_eq!((rows, outcome.accepted_rows), (vec![3, 25], 28));
    assert_eq!(outcome.error.unwrap().code().as_str(), "ROWS_REJECTED");
    assert_eq!(rig.outcome(after).await.status, Status::Acknowledged);
}

/// zero rows are acknowledged and nothing is sent.
#[tokio::test(start_paused = true)]
async fn nothing_to_send_is_acknowledged_at_once() {
    let rig = at_write(json!({}));
    let empty = rig.send(&batch(&schema("n"), 0..0));
    let none = rig.send_handoffs(Vec::new(), None);
    assert_eq!(rig.outcome(empty).await.status, Status::Acknowledged);
    assert_eq!(rig.outcome(none).await.status, Status::Acknowledged);
    assert!(rig.world().calls.is_empty());
    rig.close(Duration::ZERO).await.unwrap();
    rig.check_the_end();
}

/// hundreds of deliveries of all sizes come out as they went in.
#[tokio::test(start_paused = true)]
async fn order_is_kept_whatever_the_sizes() {
    let rig = at_write(json!({ "batching": { "maxRows": 100, "maxBytes": "4KiB" } }));
    let schema = schema("n");
    let mut next = 0;
    for n in 0..300i64 {
        let rows = (n * 7919) % 263;
        let one = batch(&schema, next..next + rows);
        // Large imports run side by side on other threads, and may not overtake small ones.
        if n % 3 == 0 && rows > 0 {
            rig.send_handoffs(vec![ipc(&one)], None);
        } else {
            rig.send(&one);
        }
        next += rows;
    }
    rig.flush().await.unwrap();
    assert_eq!(rig.world().held, (0..next).collect::<Vec<_>>());
    let outcomes: Vec<u64> = rig.heard().outcomes.iter().map(|o| o.sequence).collect();
    let empty = |sequence: &u64| (*sequence as i64 - 1) * 7919 % 263 == 0;
    assert!(outcomes.iter().filter(|s| !empty(s)).is_sorted());
}

/// imports that take long on other threads keep their place too.
#[tokio::test]
async fn order_is_kept_between_large_and_small() {
    let rig = at_write(json!({ "batching": { "linger": 0 } }));
    let schema = schema("n");
    let mut next = 0;
    for n in 0..24i64 {
        let rows = if n % 4 == 0 { 60_000 } else { 5 };
        rig.send_handoffs(vec![ipc(&batch(&schema, next..next + rows))], None);
        next += rows;
    }
    rig.flush().await.unwrap();
    assert_eq!(rig.world().held, (0..next).collect::<Vec<_>>());
    rig.close(Duration::from_secs(5)).await.unwrap();
    rig.check_the_end();
}

/// what cannot be read is refused, with the row counted through the delivery; others go on.
#[tokio::test(start_paused = true)]
async fn a_batch_that_cannot_be_read_fails_alone() {
    use arrow_ingest::handoff::{Foreign, HandoffBatch, IpcBytes};
    let rig = at_write(json!({}));
    let schema = schema("n");
    let nonsense = HandoffBatch::Ipc(IpcBytes {
        bytes: Foreign::from_buffer(vec![1u8; 64].into()),
        rows: None,
    });
    let good = rig.send(&batch(&schema, 0..3));
    let bad = rig.send_handoffs(vec![ipc(&batch(&schema, 0..3)), nonsense], None);
    let outcome = rig.outcome(bad).await;
    assert_eq!(outcome.status, Status::Failed);
    assert_eq!(outcome.error.unwrap().code().as_str(), "BATCH_INVALID");
    assert_eq!(rig.outcome(good).await.status, Status::Acknowledged);
    rig.close(Duration::ZERO).await.unwrap();
    rig.check_the_end();
}

/// where the time of a delivery went.
#[tokio::test(start_paused = true)]
async fn timings_add_up() {
    use crate::support::scripted::Act;
    let rig = Rig::new(Scripted::new(Durable::AtWrite, false), json!({}));
    let ms = Duration::from_millis;
    rig.world()
        .opens
        .push_back(Act::After(ms(7), Box::new(Act::Pass)));
    rig.world()
        .writes
        .push_back(Act::After(ms(30), Box::new(Act::Pass)));
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    let timings = rig.outcome(sequence).await.timings;
    assert_eq!(timings.encode, ms(30));
    assert_eq!((timings.transmit, timings.acknowledge), (ms(0), ms(30)));
    // The linger, and the opening.
    assert_eq!((timings.queue, timings.latency), (ms(57), ms(87)));
}

/// a batch of no columns still has rows.
#[test]
fn rows_without_columns_can_be_cut() {
    let options = RecordBatchOptions::new().with_row_count(Some(9));
    let batch = RecordBatch::try_new_with_options(Schema::empty().into(), vec![], &options).unwrap();
    assert_eq!(batch.slice(2, 5).num_rows(), 5);
}

fn at_flush(interval: &str) -> Rig {
    let scripted = Scripted::new(Durable::AtFlush, false);
    scripted.world().flush_interval = Some(match interval {
        "1s" => Duration::from_secs(1),
        _ => Duration::from_secs(3600),
    });
    Rig::new(scripted, json!({ "batching": { "linger": "50ms" } }))
}

/// on a destination that was quiet, a caller who waits is not kept waiting for the commit interval: what
/// came before goes along, and so does what comes within two milliseconds.
#[tokio::test(start_paused = true)]
async fn who_waits_is_committed_at_once_where_it_was_quiet() {
    let rig = at_flush("1h");
    let schema = schema("n");
    let start = Instant::now();
    let before = rig.send(&batch(&schema, 0..10));
    let urgent = rig.send(&batch(&schema, 10..20));
    rig.transmitter.hurry();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let after = rig.send(&batch(&schema, 20..30));
    for sequence in [before, urgent, after] {
        let outcome = rig.outcome(sequence).await;
        assert_eq!(outcome.status, Status::Acknowledged);
    }
    assert!(
        start.elapsed() <= Duration::from_millis(4),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(rig.world().held, (0..30).collect::<Vec<_>>());
    assert_eq!(rig.world().calls_like("flush").len(), 1);
    // Who sends right after has to wait for the interval, and for no longer than it took before.
    let next = rig.send(&batch(&schema, 30..40));
    rig.transmitter.hurry();
    rig.flush().await.unwrap();
    rig.outcome(next).await;
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}

/// where commits follow one another, callers who wait add none.
#[tokio::test(start_paused = true)]
async fn who_waits_adds_no_commit_to_a_busy_destination() {
    let mut counts = Vec::new();
    for hurries in [false, true] {
        let rig = at_flush("1s");
        let schema = schema("n");
        for turn in 0..1_000 {
            rig.send(&batch(&schema, turn..turn + 1));
            if hurries {
                rig.transmitter.hurry();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        counts.push(rig.world().calls_like("flush").len());
        rig.close(Duration::from_secs(10)).await.unwrap();
        assert_eq!(rig.world().held, (0..1_000).collect::<Vec<_>>());
        rig.check_the_end();
    }
    // But for the first, which is not kept waiting.
    assert!(counts[1] <= counts[0] + 1, "{counts:?}");
    assert!(counts[0] >= 8, "{counts:?}");
}

/// what was hurried is hurried again when its write has to be sent once more.
#[tokio::test(start_paused = true)]
async fn who_waits_is_hurried_again_after_a_lost_session() {
    let rig = at_flush("1h");
    rig.world()
        .flushes
        .push_back(Act::Fail(crate::support::scripted::transient()));
    let urgent = rig.send(&batch(&schema("n"), 0..10));
    rig.transmitter.hurry();
    let start = Instant::now();
    assert_eq!(rig.outcome(urgent).await.status, Status::Acknowledged);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(rig.world().calls_like("flush").len(), 2);
}

/// where each write is acknowledged by itself there is no flush to ask for, only no linger to wait for.
#[tokio::test(start_paused = true)]
async fn who_waits_does_not_linger_where_writes_are_acknowledged_alone() {
    let rig = at_write(json!({ "batching": { "linger": "1h" } }));
    let start = Instant::now();
    let urgent = rig.send(&batch(&schema("n"), 0..10));
    rig.transmitter.hurry();
    assert_eq!(rig.outcome(urgent).await.status, Status::Acknowledged);
    assert!(start.elapsed() <= Duration::from_millis(4));
    assert!(rig.world().calls_like("flush").is_empty());
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}
