//! who tries again, when, how often, and what is not sent twice.

use std::time::Duration;

use arrow_ingest::error::{Code, Error};
use arrow_ingest::outcome::Status;
use serde_json::json;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted, never, transient};
use crate::support::{batch, schema};

fn rig(durable: Durable, tells: bool, options: serde_json::Value) -> Rig {
    Rig::new(Scripted::new(durable, tells), options)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn close(rig: Rig) {
    rig.close(secs(100)).await.unwrap();
    rig.check_the_end();
}

/// exponential, with full jitter, up to the longest delay.
#[tokio::test(start_paused = true)]
async fn delays_double_up_to_the_longest_and_are_jittered() {
    let options =
        json!({ "retry": { "attempts": 12, "baseDelay": "1s", "maxDelay": "8s", "deadline": "1h" } });
    let mut first_delays = std::collections::HashSet::new();
    for _ in 0..5 {
        let rig = rig(Durable::AtWrite, false, options.clone());
        rig.world().opens = vec![Act::Fail(transient()); 11].into();
        let sequence = rig.send(&batch(&schema("n"), 0..3));
        let outcome = rig.outcome(sequence).await;
        assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 12));
        let times = rig.world().times_of("open");
        let delays: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (index, delay) in delays.iter().enumerate() {
            let ceiling = secs(1 << index.min(3)) + Duration::from_millis(2);
            assert!(*delay <= ceiling, "delay {index} is {delay:?}");
        }
        first_delays.insert(delays[0]);
        close(rig).await;
    }
    assert!(first_delays.len() > 1, "no jitter at all: {first_delays:?}");
}

/// the server's own word is a floor, however odd.
#[tokio::test(start_paused = true)]
async fn hints_of_the_server_are_honoured() {
    let rig = rig(Durable::AtWrite, false, json!({ "retry": { "deadline": "2d" } }));
    let throttled = |hint| Act::Fail(Error::new(Code::ResourceExhausted, "slower").retry_after(hint));
    rig.world().writes = [throttled(secs(60)), throttled(secs(3600))].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.attempts, 3);
    let times = rig.world().times_of("write");
    assert!(times[1] - times[0] >= secs(60) && times[2] - times[1] >= secs(3600));
    // A hint of centuries fails the write; it does not overflow a clock.
    rig.world().writes = [throttled(Duration::MAX)].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.status, Status::Failed);
}

///
#[tokio::test(start_paused = true)]
async fn attempts_run_out() {
    let rig = rig(Durable::AtWrite, false, json!({ "retry": { "attempts": 3 } }));
    rig.world().writes = vec![Act::Fail(transient()); 3].into();
    let lost = rig.send(&batch(&schema("n"), 0..3));
    let outcome = rig.outcome(lost).await;
    assert_eq!(
        (outcome.status, outcome.attempts, outcome.retries),
        (Status::Failed, 3, 2)
    );
    let error = outcome.error.unwrap();
    assert_eq!((error.code(), error.attempts()), (Code::Unavailable, 3));
    let next = rig.send(&batch(&schema("n"), 3..6));
    assert_eq!(rig.outcome(next).await.status, Status::Acknowledged);
    assert_eq!(rig.world().held, [3, 4, 5]);
    close(rig).await;
}

/// a session that ends because the destination asked for another has failed nobody: no attempt is
/// used up, and nobody waits.
#[tokio::test(start_paused = true)]
async fn a_session_that_ends_gracefully_costs_no_attempt_and_no_delay() {
    let rig = rig(Durable::AtWrite, false, json!({ "retry": { "attempts": 1 } }));
    rig.world().writes = vec![Act::Fail(transient().graceful()); 7].into();
    let start = tokio::time::Instant::now();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    let outcome = rig.outcome(sequence).await;
    assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 1));
    // But for the linger of the batch.
    assert!(start.elapsed() < secs(1), "{:?}", start.elapsed());
    assert_eq!(rig.world().held, [0, 1, 2]);
    assert!(rig.heard().logs.iter().all(|log| log.level == "info"));
    close(rig).await;
}

/// if one of the tries may have landed, nobody can say that it failed.
#[tokio::test(start_paused = true)]
async fn an_ambiguous_try_makes_it_unknown() {
    let rig = rig(Durable::AtWrite, false, json!({ "retry": { "attempts": 3 } }));
    rig.world().writes = [
        Act::KeepAndFail(transient().ambiguous()),
        Act::Fail(transient()),
        Act::Fail(transient()),
    ]
    .into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.status, Status::Unknown);
    close(rig).await;
}

/// a destination that looks makes ambiguity go away, either way.
#[tokio::test(start_paused = true)]
async fn what_landed_is_not_sent_again() {
    for durable in [Durable::AtWrite, Durable::AtFlush] {
        let rig = rig(durable, true, json!({ "batching": { "maxRows": 3 } }));
        let lost = Act::KeepAndFail(transient().ambiguous());
        match durable {
            Durable::AtWrite => rig.world().writes = [Act::Pass, lost].into(),
            Durable::AtFlush => rig.world().flushes = [lost].into(),
        }
        for n in 0..4 {
            rig.send(&batch(&schema("n"), n * 3..n * 3 + 3));
        }
        rig.flush().await.unwrap();
        assert_eq!(rig.world().held, (0..12).collect::<Vec<_>>());
        for sequence in 1..=4 {
            assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
        }
        close(rig).await;
    }
}

/// it looked and found nothing, so the write failed and is not unknown.
#[tokio::test(start_paused = true)]
async fn what_was_looked_for_and_not_found_did_not_land() {
    let rig = rig(Durable::AtWrite, true, json!({ "retry": { "attempts": 2 } }));
    rig.world().writes = [Act::Fail(transient().ambiguous()), Act::Fail(transient())].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.status, Status::Failed);
    assert_eq!(rig.world().resumed_from, [None, Some(1)]);
    close(rig).await;
}

/// it looked and could not tell yet, so the write stays in doubt until a look can; aborted
/// meanwhile it is unknown, and what landed is acknowledged and not sent again.
#[tokio::test(start_paused = true)]
async fn a_look_that_cannot_tell_yet_clears_no_doubt() {
    let spent = rig(Durable::AtWrite, true, json!({ "retry": { "attempts": 2 } }));
    spent.world().writes = [Act::Fail(transient().ambiguous()), Act::Fail(transient())].into();
    spent.world().looks_in_vain = 1;
    let lost = spent.send(&batch(&schema("n"), 0..3));
    assert_eq!(spent.outcome(lost).await.status, Status::Unknown);
    close(spent).await;

    // The session that could not tell breaks before it is given the write: the next one looks again.
    let late = rig(Durable::AtWrite, true, json!({}));
    late.world().writes = [Act::KeepAndFail(transient().ambiguous())].into();
    late.world().opens = [Act::Pass, Act::BreakNow(transient())].into();
    late.world().looks_in_vain = 1;
    let aborted = late.send(&batch(&schema("n"), 3..6));
    late.until(|heard| heard.logs.len() == 2).await;
    late.transmitter.abort(aborted);
    assert_eq!(late.outcome(aborted).await.status, Status::Unknown);
    late.flush().await.unwrap();
    assert_eq!(late.world().held, [3, 4, 5]);
    assert_eq!(late.world().resumed_from, [None, Some(1), Some(1)]);
    close(late).await;
}

/// what was acknowledged is not sent again, to the row.
#[tokio::test(start_paused = true)]
async fn replay_goes_on_after_the_last_acknowledged_row() {
    let rig = rig(Durable::AtWrite, false, json!({ "batching": { "maxRows": 10 } }));
    rig.world().writes = [
        Act::Pass,
        Act::Partly(4, Box::new(Act::Fail(transient()))),
        Act::Partly(2, Box::new(Act::Fail(transient()))),
    ]
    .into();
    let sequence = rig.send(&batch(&schema("n"), 0..30));
    let outcome = rig.outcome(sequence).await;
    assert_eq!(
        (outcome.status, outcome.accepted_rows),
        (Status::Acknowledged, 30)
    );
    assert_eq!(rig.world().held, (0..30).collect::<Vec<_>>());
    let replays = rig.world().writes_seen[1..].to_vec();
    let expected: [Vec<i64>; 4] = [
        (10..20).collect(),
        (14..20).collect(),
        (16..20).collect(),
        (20..30).collect(),
    ];
    assert_eq!(replays, expected);
    close(rig).await;
}

/// rows refused after some were acknowledged are counted from the start of the delivery.
#[tokio::test(start_paused = true)]
async fn refusals_after_partial_acknowledgement_name_the_right_rows() {
    let rig = rig(Durable::AtWrite, false, json!({}));
    rig.world().refused = [17].into();
    rig.world().writes = [Act::Partly(9, Box::new(Act::Pass))].into();
    let first = rig.send(&batch(&schema("n"), 0..10));
    let second = rig.send(&batch(&schema("n"), 10..20));
    assert_eq!(rig.outcome(first).await.status, Status::Acknowledged);
    let outcome = rig.outcome(second).await;
    assert_eq!((outcome.status, outcome.rejections[0].row), (Status::Partial, 7));
    assert_eq!(outcome.accepted_rows, 9);
    close(rig).await;
}

/// no more tries once the time is up.
#[tokio::test(start_paused = true)]
async fn the_deadline_ends_retries_before_the_attempts_do() {
    let options =
        json!({ "retry": { "attempts": 1000, "baseDelay": "10s", "maxDelay": "10s", "deadline": "60s" } });
    let rig = rig(Durable::AtWrite, false, options);
    rig.world().opens = vec![Act::Fail(transient()); 1000].into();
    let start = tokio::time::Instant::now();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    let outcome = rig.outcome(sequence).await;
    assert_eq!(outcome.status, Status::Failed);
    assert!(outcome.attempts > 5 && outcome.attempts < 1000);
    assert!(start.elapsed() <= secs(61));
    close(rig).await;
}

/// a session that breaks on every third write gets through all of them: those behind the
/// one it broke on were never tried.
#[tokio::test(start_paused = true)]
async fn writes_behind_a_broken_one_do_not_use_up_their_attempts() {
    let rig = rig(
        Durable::AtWrite,
        false,
        json!({ "retry": { "attempts": 2 }, "batching": { "maxRows": 1 } }),
    );
    let script = [Act::Pass, Act::Pass, Act::Fail(transient())];
    rig.world().writes = script.iter().cycle().take(90).cloned().collect();
    let sequence = rig.send(&batch(&schema("n"), 0..60));
    assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
    assert_eq!(rig.world().held, (0..60).collect::<Vec<_>>());
    close(rig).await;
}

/// a write that fails for good does not stop the others, sent before or after it.
#[tokio::test(start_paused = true)]
async fn a_poisonous_write_fails_alone() {
    for durable in [Durable::AtWrite, Durable::AtFlush] {
        let rig = rig(
            durable,
            true,
            json!({ "batching": { "maxRows": 2, "linger": 0 } }),
        );
        rig.world().poison = [4].into();
        for n in 0..5 {
            rig.send(&batch(&schema("n"), n * 2..n * 2 + 2));
        }
        rig.flush().await.unwrap();
        let statuses: Vec<Status> = {
            let mut outcomes = rig.heard().outcomes.clone();
            outcomes.sort_by_key(|outcome| outcome.sequence);
            outcomes.iter().map(|outcome| outcome.status).collect()
        };
        use Status::{Acknowledged as A, Failed as F};
        assert_eq!(statuses, [A, A, F, A, A]);
        assert_eq!(rig.world().held, [0, 1, 2, 3, 6, 7, 8, 9]);
        close(rig).await;
    }
}

/// a flush that fails for good fails what the session had, and not what queued behind it.
#[tokio::test(start_paused = true)]
async fn a_flush_that_fails_for_good_fails_exactly_what_was_given() {
    let rig = rig(Durable::AtFlush, false, json!({ "batching": { "linger": 0 } }));
    rig.world().flushes = [Act::After(secs(5), Box::new(Act::Fail(never())))].into();
    let doomed = rig.send(&batch(&schema("n"), 0..3));
    let flush = rig.ask(|reply| rig.transmitter.flush(reply));
    tokio::time::sleep(secs(1)).await;
    let lucky = rig.send(&batch(&schema("n"), 3..6));
    flush.await.unwrap();
    assert_eq!(rig.outcome(doomed).await.status, Status::Failed);
    rig.flush().await.unwrap();
    assert_eq!(rig.outcome(lucky).await.status, Status::Acknowledged);
    assert_eq!(rig.world().held, [3, 4, 5]);
    close(rig).await;
}

/// `retry.onExhausted: "stop"`.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_to_stop_fails_everything_after_a_failure() {
    let options = json!({ "retry": { "onExhausted": "stop" }, "batching": { "maxRows": 2, "linger": "1s" } });
    let rig = rig(Durable::AtFlush, false, options);
    rig.world().poison = [2].into();
    for n in 0..3 {
        rig.send(&batch(&schema("n"), n * 2..n * 2 + 2));
    }
    rig.send(&batch(&schema("n"), 6..7));
    rig.flush().await.unwrap();
    let late = rig.send(&batch(&schema("n"), 7..9));
    rig.flush().await.unwrap();
    for sequence in 1..=late {
        let outcome = rig.outcome(sequence).await;
        assert_eq!(outcome.status, Status::Failed, "delivery {sequence}");
    }
    let text = rig.outcome(late).await.error.unwrap().message().to_string();
    assert!(
        text.starts_with("stopped because an earlier write failed for good"),
        "{text}"
    );
    assert!(rig.world().held.is_empty());
    close(rig).await;
}

/// a connection that is lost between calls.
#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_while_idle_is_replaced() {
    for act in [Act::BreakLater(secs(3), transient()), Act::BreakNow(transient())] {
        let rig = rig(Durable::AtFlush, true, json!({ "batching": { "linger": 0 } }));
        rig.world().writes = [act].into();
        let first = rig.send(&batch(&schema("n"), 0..3));
        tokio::time::sleep(secs(60)).await;
        assert_eq!(rig.world().calls_like("open").len(), 2);
        rig.flush().await.unwrap();
        let outcome = rig.outcome(first).await;
        assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 2));
        assert_eq!(rig.world().held, [0, 1, 2]);
        assert_eq!(rig.counters.sessions_broken.get(), 1);
        close(rig).await;
    }
}

/// a session that opens and breaks before it is given anything is no better than one that does not
/// open: attempts and time run out by it.
#[tokio::test(start_paused = true)]
async fn sessions_that_break_before_they_are_given_anything_use_up_the_tries() {
    for (retry, attempts) in [
        (json!({ "attempts": 3 }), 3..=3),
        (
            json!({ "attempts": 1000, "baseDelay": "10s", "maxDelay": "10s", "deadline": "60s" }),
            6..=999,
        ),
    ] {
        let rig = rig(
            Durable::AtWrite,
            false,
            json!({ "retry": retry, "batching": { "maxRows": 1 } }),
        );
        rig.world().opens = vec![Act::BreakNow(transient()); 1000].into();
        let start = tokio::time::Instant::now();
        let lost = rig.send(&batch(&schema("n"), 0..1));
        let outcome = rig.outcome(lost).await;
        assert_eq!(outcome.status, Status::Failed);
        assert!(attempts.contains(&outcome.attempts), "{}", outcome.attempts);
        assert!(start.elapsed() <= secs(61));
        let error = outcome.error.unwrap();
        assert_eq!(
            (error.code(), error.attempts()),
            (Code::Unavailable, outcome.attempts)
        );
        assert!(rig.world().calls_like("write").is_empty());
        rig.world().opens.clear();
        let next = rig.send(&batch(&schema("n"), 1..2));
        assert_eq!(rig.outcome(next).await.status, Status::Acknowledged);
        close(rig).await;
    }
}

/// an error that never passes fails all that waited for that session.
#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_for_good_before_it_is_given_anything_fails_what_waits() {
    let rig = rig(Durable::AtWrite, false, json!({}));
    rig.world().opens = vec![Act::BreakNow(never()); 10].into();
    let lost = rig.send(&batch(&schema("n"), 0..3));
    let outcome = rig.outcome(lost).await;
    assert_eq!(
        (outcome.status, outcome.error.unwrap().code()),
        (Status::Failed, Code::BatchInvalid)
    );
    assert_eq!(rig.world().calls_like("open").len(), 1);
    rig.world().opens.clear();
    close(rig).await;
}

/// nobody has failed, neither where the destination asked for another session, nor where all that this
/// one was given is acknowledged.
#[tokio::test(start_paused = true)]
async fn a_session_that_rotates_or_has_done_its_work_costs_those_behind_nothing() {
    let options = json!({ "retry": { "attempts": 1 }, "batching": { "maxRows": 1 } });
    let rig = rig(Durable::AtWrite, false, options);
    rig.world().opens = vec![Act::BreakNow(transient().graceful()); 7].into();
    rig.world().writes = vec![Act::BreakNow(transient()); 7].into();
    let sequence = rig.send(&batch(&schema("n"), 0..9));
    let outcome = rig.outcome(sequence).await;
    assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 1));
    assert_eq!(rig.world().held, (0..9).collect::<Vec<_>>());
    assert_eq!(rig.world().calls_like("open").len(), 15);
    close(rig).await;
}

/// the connection goes away under a call that takes long.
#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_during_a_call_is_not_waited_for() {
    let rig = rig(Durable::AtFlush, true, json!({ "batching": { "linger": 0 } }));
    rig.world().writes = [Act::BreakLater(secs(3), transient())].into();
    rig.world().flushes = [Act::Hang].into();
    rig.send(&batch(&schema("n"), 0..3));
    rig.flush().await.unwrap();
    assert_eq!(rig.world().held, [0, 1, 2]);
    close(rig).await;
}

/// a destination with a bug leaves nobody waiting.
#[tokio::test(start_paused = true)]
async fn a_destination_that_panics_or_forgets_leaves_nobody_waiting() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for act in [Act::Panic, Act::Forget] {
        let rig = rig(Durable::AtFlush, false, json!({}));
        rig.world().flushes = [act].into();
        let sequence = rig.send(&batch(&schema("n"), 0..3));
        rig.flush().await.unwrap();
        let outcome = rig.outcome(sequence).await;
        assert_eq!(outcome.status, Status::Unknown);
        assert_eq!(outcome.error.unwrap().code(), Code::Internal);
        close(rig).await;
    }
    let rig = rig(Durable::AtFlush, false, json!({}));
    rig.world().opens = [Act::Panic].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.error.unwrap().code(), Code::Internal);
    close(rig).await;
    std::panic::set_hook(quiet);
}

/// fresh credentials are the destination's business, another try is ours.
#[tokio::test(start_paused = true)]
async fn expired_credentials_are_tried_again() {
    let rig = rig(Durable::AtWrite, false, json!({}));
    rig.world().writes = [Act::Fail(Error::new(Code::Unauthenticated, "expired"))].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
    assert!(rig.counters.strikes.get() < 2);
    let logs = rig.heard().logs.clone();
    assert_eq!(
        (logs[0].level, logs[0].message.as_str()),
        ("warn", "a session broke")
    );
    close(rig).await;
}

/// a pace that was slowed down recovers by steps, not by the size of one flush.
#[tokio::test(start_paused = true)]
async fn one_good_flush_does_not_wipe_out_a_bad_hour() {
    let options = json!({ "retry": { "attempts": 100, "deadline": "1h" }, "batching": { "maxRows": 1 } });
    let rig = rig(Durable::AtFlush, false, options);
    rig.world().opens = vec![Act::Fail(transient()); 8].into();
    rig.send(&batch(&schema("n"), 0..1));
    rig.flush().await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(rig.counters.strikes.get(), 4);
    close(rig).await;
}
