//! flush, close, abort, terminate: no hang, no silence, nothing lost without a word.

use std::sync::Arc;
use std::time::Duration;

use arrow_ingest::error::{Code, Error};
use arrow_ingest::outcome::Status;
use arrow_ingest::transmitter::Reply;
use serde_json::json;
use tokio::time::Instant;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted, transient};
use crate::support::{batch, columns, ipc, schema};

fn rig(durable: Durable, options: serde_json::Value) -> Rig {
    Rig::new(Scripted::new(durable, false), options)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn codes(rig: &Rig) -> Vec<(Status, Option<Code>)> {
    let mut outcomes = rig.heard().outcomes.clone();
    outcomes.sort_by_key(|outcome| outcome.sequence);
    let code = |error: &Error| error.code();
    outcomes
        .iter()
        .map(|outcome| (outcome.status, outcome.error.as_ref().map(code)))
        .collect()
}

///
#[tokio::test(start_paused = true)]
async fn flush_sends_what_lingers_and_answers_when_it_is_settled() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": "1h" } }));
    rig.flush().await.unwrap();
    assert!(rig.world().calls.is_empty(), "nothing to flush");
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    rig.flush().await.unwrap();
    assert_eq!(rig.heard().outcomes.len(), 1);
    assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
    rig.close(secs(1)).await.unwrap();
    assert_eq!(rig.flush().await.unwrap_err().code(), Code::Closed);
    rig.check_the_end();
}

/// what comes while a flush is under way is not committed write by write.
#[tokio::test(start_paused = true)]
async fn one_flush_is_one_flush_of_the_destination() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": 0 } }));
    rig.world().flushes = [Act::After(secs(5), Box::new(Act::Pass))].into();
    rig.send(&batch(&schema("n"), 0..3));
    let flush = rig.ask(|reply| rig.transmitter.flush(reply));
    for n in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.send(&batch(&schema("n"), n..n + 1));
    }
    flush.await.unwrap();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.world().calls_like("flush").len(), 1);
    rig.close(secs(10)).await.unwrap();
    rig.check_the_end();
}

///
#[tokio::test(start_paused = true)]
async fn flush_waits_through_a_reconnect() {
    let rig = rig(Durable::AtFlush, json!({}));
    rig.world().flushes = [Act::Fail(transient()), Act::Fail(transient())].into();
    rig.world().opens = [Act::Pass, Act::Fail(transient())].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    rig.flush().await.unwrap();
    assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
    assert_eq!(rig.world().held, [0, 1, 2]);
    rig.close(secs(1)).await.unwrap();
    rig.check_the_end();
}

/// The destination's own commit interval.
#[tokio::test(start_paused = true)]
async fn a_destination_that_is_due_is_flushed_unasked() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": 0 } }));
    rig.world().flush_interval = Some(secs(3));
    let start = Instant::now();
    let first = rig.send(&batch(&schema("n"), 0..3));
    tokio::time::sleep(secs(2)).await;
    let second = rig.send(&batch(&schema("n"), 3..6));
    rig.outcome(first).await;
    rig.outcome(second).await;
    assert_eq!(
        (start.elapsed(), rig.world().calls_like("flush").len()),
        (secs(3), 1)
    );
    // A steady stream does not put it off.
    for n in 0..100 {
        rig.send(&batch(&schema("n"), n..n + 1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(rig.world().calls_like("flush").len() >= 3);
    rig.world().flushes = [Act::Fail(transient())].into();
    rig.send(&batch(&schema("n"), 0..3));
    tokio::time::sleep(secs(60)).await;
    rig.close(secs(1)).await.unwrap();
    rig.check_the_end();
}

///
#[tokio::test(start_paused = true)]
async fn close_delivers_what_was_admitted() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": "1h" } }));
    for n in 0..5 {
        rig.send(&batch(&schema("n"), n..n + 1));
    }
    rig.close(secs(30)).await.unwrap();
    assert_eq!(rig.world().held, [0, 1, 2, 3, 4]);
    assert_eq!(rig.world().calls_like("close").len(), 1);
    rig.check_the_end();
    rig.close(secs(30)).await.unwrap();
}

/// idempotent, also while the first is under way; the shorter deadline counts.
#[tokio::test(start_paused = true)]
async fn close_twice_is_answered_twice() {
    let rig = rig(Durable::AtFlush, json!({}));
    rig.world().flushes = [Act::Hang].into();
    rig.send(&batch(&schema("n"), 0..3));
    let start = Instant::now();
    let first = rig.ask(|reply| rig.transmitter.close(Duration::MAX, reply));
    let second = rig.ask(|reply| rig.transmitter.close(secs(7), reply));
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(start.elapsed(), secs(7));
    rig.check_the_end();
}

/// written is unknown, unwritten is failed, nothing is silent.
#[tokio::test(start_paused = true)]
async fn past_the_deadline_the_rest_is_unknown_or_failed() {
    let rig = rig(
        Durable::AtFlush,
        json!({ "batching": { "maxRows": 3, "linger": 0 }, "inflight": { "maxWrites": 1 } }),
    );
    rig.world().flushes = [Act::Hang].into();
    rig.send(&batch(&schema("n"), 0..3));
    rig.send(&batch(&schema("n"), 3..6));
    rig.send(&batch(&schema("n"), 6..12));
    let start = Instant::now();
    let flush = rig.ask(|reply| rig.transmitter.flush(reply));
    rig.close(secs(5)).await.unwrap();
    assert_eq!(start.elapsed(), secs(5));
    flush.await.unwrap();
    let late = Some(Code::DeadlineExceeded);
    assert_eq!(
        codes(&rig),
        [
            (Status::Unknown, late),
            (Status::Failed, late),
            (Status::Failed, late)
        ]
    );
    rig.check_the_end();
}

/// a destination that could never be reached holds nothing, and everybody may know it.
#[tokio::test(start_paused = true)]
async fn what_never_reached_a_session_failed() {
    for open in [Act::Hang, Act::Fail(transient())] {
        let rig = rig(Durable::AtFlush, json!({ "retry": { "attempts": 1000 } }));
        rig.world().opens = vec![open; 1000].into();
        rig.send(&batch(&schema("n"), 0..3));
        tokio::time::sleep(secs(1)).await;
        rig.close(secs(5)).await.unwrap();
        assert_eq!(codes(&rig)[0].0, Status::Failed);
        rig.check_the_end();
    }
}

/// at the deadline of a close an error says what kept the rows, and how often they were tried.
#[tokio::test(start_paused = true)]
async fn past_the_deadline_the_cause_is_not_forgotten() {
    let away = Error::new(Code::Unavailable, "the server cannot be reached");
    for (opens, why, attempts) in [
        (
            vec![Act::Fail(away), Act::Hang],
            "UNAVAILABLE: the server cannot be reached",
            1,
        ),
        (vec![Act::Hang], "no session was open yet", 0),
    ] {
        let rig = rig(Durable::AtFlush, json!({ "retry": { "attempts": 1000 } }));
        rig.world().opens = opens.into();
        rig.send(&batch(&schema("n"), 0..3));
        tokio::time::sleep(secs(1)).await;
        rig.close(secs(5)).await.unwrap();
        let error = rig.heard().outcomes[0].error.clone().unwrap();
        assert_eq!(
            (error.code(), error.attempts()),
            (Code::DeadlineExceeded, attempts)
        );
        assert!(
            error.causes().iter().any(|cause| cause.contains(why)),
            "{:?}",
            error.causes()
        );
        rig.check_the_end();
    }
}

/// `close` caps retries: a try that would come after it is not waited for.
#[tokio::test(start_paused = true)]
async fn no_retry_outlasts_a_close() {
    let options =
        json!({ "retry": { "attempts": 1000, "baseDelay": "1h", "maxDelay": "1h", "deadline": "9d" } });
    let rig = rig(Durable::AtFlush, options);
    let hint = secs(100);
    rig.world().flushes = [Act::Fail(transient().retry_after(hint))].into();
    rig.send(&batch(&schema("n"), 0..3));
    let start = Instant::now();
    rig.close(secs(30)).await.unwrap();
    assert_eq!(codes(&rig), [(Status::Failed, Some(Code::Unavailable))]);
    assert!(start.elapsed() < secs(30));
    rig.check_the_end();
}

/// with no time at all; deliveries that are being imported too.
#[tokio::test]
async fn close_at_once_settles_everything_at_once() {
    for _ in 0..20 {
        let rig = rig(Durable::AtFlush, json!({}));
        let large = batch(&schema("n"), 0..50_000);
        for n in 0..30 {
            if n % 2 == 0 {
                rig.send_handoffs(vec![ipc(&large)], None);
            } else {
                rig.send(&large.slice(0, 3));
            }
        }
        rig.close(Duration::ZERO).await.unwrap();
        assert_eq!(rig.heard().outcomes.len(), 30);
        rig.check_the_end();
    }
}

/// admitted by one thread while another closes: still an outcome.
#[tokio::test(start_paused = true)]
async fn a_delivery_that_comes_after_the_end_is_told_so() {
    let rig = rig(Durable::AtFlush, json!({}));
    let handoff_batch = columns(&batch(&schema("n"), 0..3));
    rig.transmitter.request(24).unwrap();
    rig.close(secs(1)).await.unwrap();
    let sequence = rig.deliver(vec![handoff_batch], 24, None);
    let outcome = rig.outcome(sequence).await;
    assert_eq!(
        (outcome.status, outcome.error.unwrap().code()),
        (Status::Failed, Code::Closed)
    );
    rig.check_the_end();
}

/// a session that does not close holds nobody up for long, once all rows are settled.
#[tokio::test(start_paused = true)]
async fn a_session_that_hangs_in_close_gets_a_short_grace() {
    for act in [Act::Hang, Act::Fail(transient())] {
        let rig = rig(Durable::AtWrite, json!({}));
        rig.world().closes = [act].into();
        rig.send(&batch(&schema("n"), 0..3));
        rig.flush().await.unwrap();
        let start = Instant::now();
        rig.close(secs(300)).await.unwrap();
        assert!(start.elapsed() <= secs(3));
        rig.check_the_end();
    }
    let rig = rig(Durable::AtWrite, json!({}));
    rig.world().opens = [Act::Hang].into();
    let prepare = rig.ask(|reply| rig.transmitter.prepare(schema("n"), reply));
    tokio::task::yield_now().await;
    rig.close(secs(300)).await.unwrap();
    assert_eq!(prepare.await.unwrap_err().code(), Code::Closed);
}

/// before it was written: failed, and the memory is given back at once.
#[tokio::test(start_paused = true)]
async fn abort_before_the_write_fails_it() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": "1h" } }));
    rig.send(&batch(&schema("n"), 0..3));
    let aborted = rig.send(&batch(&schema("n"), 3..6));
    rig.send(&batch(&schema("n"), 6..9));
    tokio::task::yield_now().await;
    rig.transmitter.abort(aborted);
    let outcome = rig.outcome(aborted).await;
    assert_eq!(
        (outcome.status, outcome.error.unwrap().code()),
        (Status::Failed, Code::Aborted)
    );
    assert_eq!(rig.transmitter.in_flight_bytes(), 48);
    rig.close(secs(1)).await.unwrap();
    assert_eq!(rig.world().held, [0, 1, 2, 6, 7, 8]);
    rig.check_the_end();
}

/// a draft that waits for its session is not written yet.
#[tokio::test(start_paused = true)]
async fn abort_while_the_destination_is_away_fails_it() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": 0 } }));
    rig.world().opens = [Act::Fail(transient().retry_after(secs(60)))].into();
    let parts = [batch(&schema("n"), 0..3), batch(&schema("n"), 3..6)];
    rig.send(&parts[0]);
    let aborted = rig.send_all(&parts);
    rig.send(&parts[1]);
    tokio::time::sleep(secs(1)).await;
    rig.transmitter.abort(aborted);
    assert_eq!(rig.outcome(aborted).await.status, Status::Failed);
    rig.close(secs(600)).await.unwrap();
    assert_eq!(rig.world().held, [0, 1, 2, 3, 4, 5]);
    rig.check_the_end();
}

/// it was written: unknown at once, while the delivery goes on and keeps its budget.
#[tokio::test(start_paused = true)]
async fn abort_after_the_write_is_unknown_and_goes_on() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": 0 } }));
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    tokio::time::sleep(secs(1)).await;
    rig.transmitter.abort(sequence);
    rig.transmitter.abort(sequence);
    let outcome = rig.outcome(sequence).await;
    assert_eq!(
        (outcome.status, outcome.error.unwrap().code()),
        (Status::Unknown, Code::Aborted)
    );
    assert_eq!(rig.transmitter.in_flight_bytes(), 24);
    rig.flush().await.unwrap();
    assert_eq!(rig.world().held, [0, 1, 2]);
    rig.transmitter.abort(sequence);
    rig.close(secs(1)).await.unwrap();
    rig.check_the_end();
}

/// abort may be faster than the import.
#[tokio::test(start_paused = true)]
async fn abort_before_arrival_is_remembered() {
    let rig = rig(Durable::AtFlush, json!({}));
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    rig.transmitter.abort(sequence);
    let outcome = rig.outcome(sequence).await;
    assert_eq!((outcome.status, outcome.rows), (Status::Failed, 3));
    rig.close(secs(1)).await.unwrap();
    assert!(rig.world().calls.is_empty());
    rig.check_the_end();
}

/// the environment is going; whatever is held is let go of.
#[tokio::test(start_paused = true)]
async fn terminate_lets_go_of_everything() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": 0 } }));
    rig.world().flushes = [Act::Hang].into();
    let held = Arc::new(());
    let payload_digest = held.clone();
    let handoff_batch = columns(&batch(&schema("n"), 0..3));
    rig.send_handoffs(
        vec![handoff_batch],
        Some(Box::new(move || Arc::strong_count(&payload_digest) > 0)),
    );
    let flush = rig.ask(|reply| rig.transmitter.flush(reply));
    let close = rig.ask(|reply| rig.transmitter.close(secs(60), reply));
    tokio::task::yield_now().await;
    rig.transmitter.terminate();
    assert_eq!(flush.await.unwrap_err().code(), Code::Closed);
    assert_eq!(close.await.unwrap_err().code(), Code::Closed);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(rig.heard().outcomes.is_empty());
    assert_eq!(rig.transmitter.request(1).unwrap_err().code(), Code::Closed);
}

/// A reply is answered once, come what may.
#[test]
fn a_dropped_reply_says_that_the_client_is_closed() {
    let (sender, receiver) = std::sync::mpsc::channel();
    drop(Reply::new(move |result| sender.send(result).unwrap()));
    assert_eq!(receiver.recv().unwrap().unwrap_err().code(), Code::Closed);
}

/// For development: a batch that was written to in flight is reported.
#[tokio::test(start_paused = true)]
async fn changed_memory_is_reported() {
    let rig = rig(Durable::AtFlush, json!({}));
    let send = |unchanged: bool, n: i64| {
        let handoff_batch = columns(&batch(&schema("n"), n..n + 1));
        rig.send_handoffs(vec![handoff_batch], Some(Box::new(move || unchanged)))
    };
    let (good, bad, refused) = (send(true, 0), send(false, 1), send(false, 2));
    rig.transmitter.abort(refused);
    rig.flush().await.unwrap();
    assert_eq!(rig.outcome(good).await.status, Status::Acknowledged);
    let bad = rig.outcome(bad).await;
    assert!(bad.payload_changed);
    assert_eq!(
        (bad.status, bad.error.unwrap().code()),
        (Status::Unknown, Code::PayloadChanged)
    );
    assert_eq!(rig.outcome(refused).await.status, Status::Failed);
    rig.close(secs(1)).await.unwrap();
    rig.check_the_end();
}

/// a bug of the transmitter's own is no silence either.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_transmitter_settles_everything() {
    let rig = rig(Durable::AtFlush, json!({ "batching": { "linger": 0 } }));
    rig.world().writes = [Act::After(secs(1), Box::new(Act::Fail(transient())))].into();
    let first = rig.send(&batch(&schema("n"), 0..3));
    let flush = rig.ask(|reply| rig.transmitter.flush(reply));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = rig.send(&batch(&schema("n"), 3..6));
    // It is asked for its name when the broken session is logged.
    rig.world().mad = true;
    assert_eq!(flush.await.unwrap_err().code(), Code::Closed);
    for sequence in [first, second] {
        let outcome = rig.outcome(sequence).await;
        assert_eq!(outcome.status, Status::Unknown);
        assert_eq!(outcome.error.unwrap().code(), Code::Internal);
    }
    assert_eq!(rig.transmitter.request(1).unwrap_err().code(), Code::Closed);
    rig.close(secs(1)).await.unwrap();
    assert_eq!(rig.transmitter.in_flight_bytes(), 0);
}

/// What came in the same turn as what it panicked over is settled as well.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_transmitter_loses_none_that_came_behind() {
    let rig = rig(Durable::AtFlush, json!({}));
    rig.world().mad = true;
    let prepared = rig.ask(|reply| rig.transmitter.prepare(schema("n"), reply));
    let sent: Vec<u64> = (0..5).map(|n| rig.send(&batch(&schema("n"), n..n + 1))).collect();
    assert_eq!(prepared.await.unwrap_err().code(), Code::Closed);
    for sequence in sent {
        let outcome = rig.outcome(sequence).await;
        assert_eq!(outcome.error.unwrap().code(), Code::Internal);
    }
    rig.close(secs(1)).await.unwrap();
    assert_eq!(rig.transmitter.in_flight_bytes(), 0);
}
