//! `retry.deadline` is a delivery's own: counted from its admission or the destination's last sign of life.

use std::time::Duration;

use arrow_ingest::error::{Code, Error};
use arrow_ingest::outcome::Status;
use serde_json::json;
use tokio::time::Instant;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted, never, transient};
use crate::support::{batch, schema};

fn rig(options: serde_json::Value) -> Rig {
    Rig::new(Scripted::new(Durable::AtWrite, false), options)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn close(rig: Rig) {
    rig.close(secs(100)).await.unwrap();
    rig.check_the_end();
}

/// One row each, and a write each.
fn send(rig: &Rig, rows: std::ops::Range<i64>) -> Vec<u64> {
    rows.map(|n| rig.send(&batch(&schema("n"), n..n + 1))).collect()
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_for_all_that_wait_at_its_deadline() {
    for attempts in [4, 1_000] {
        let rig = rig(json!({
            "batching": { "maxRows": 1 },
            "retry": { "deadline": "2s", "attempts": attempts, "baseDelay": "300ms", "maxDelay": "300ms" },
        }));
        rig.world().opens = vec![Act::Fail(transient()); 1_000].into();
        let start = Instant::now();
        for sequence in send(&rig, 0..20) {
            let outcome = rig.outcome(sequence).await;
            let error = outcome.error.unwrap();
            assert_eq!(
                (outcome.status, error.code()),
                (Status::Failed, Code::Unavailable)
            );
            assert!(
                start.elapsed() <= secs(2),
                "delivery {sequence}: {:?}",
                start.elapsed()
            );
        }
        // Long before it nobody gave up who had tries left.
        assert!(attempts == 4 || start.elapsed() > Duration::from_millis(1_500));
        // Who comes later has a clock of their own.
        let late = Instant::now();
        for sequence in send(&rig, 20..22) {
            assert_eq!(rig.outcome(sequence).await.status, Status::Failed);
        }
        assert!(late.elapsed() <= secs(2));
        assert!(rig.world().held.is_empty());
        close(rig).await;
    }
}

/// They waited for much longer than the deadline, and the destination was there all the time.
#[tokio::test(start_paused = true)]
async fn a_queue_that_moves_fails_nobody() {
    let rig = rig(json!({
        "batching": { "maxRows": 1 }, "inflight": { "maxWrites": 2 }, "retry": { "deadline": "3s" },
    }));
    let slow = Act::After(secs(1), Box::new(Act::Pass));
    let stumbles = Act::After(secs(1), Box::new(Act::Fail(transient())));
    let mut writes = vec![slow; 40];
    writes[10] = stumbles.clone();
    writes[30] = stumbles;
    rig.world().writes = writes.into();
    for sequence in send(&rig, 0..38) {
        assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
    }
    close(rig).await;
}

/// What was written long ago waits for a commit, and that stumbles: the destination was there until then.
#[tokio::test(start_paused = true)]
async fn a_commit_that_comes_late_and_fails_once_is_tried_again() {
    let options = json!({ "batching": { "linger": 0 }, "retry": { "deadline": "5s" } });
    let rig = Rig::new(Scripted::new(Durable::AtFlush, true), options);
    rig.world().flush_interval = Some(secs(60));
    rig.world().flushes = vec![Act::Fail(transient())].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    let outcome = rig.outcome(sequence).await;
    assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 2));
    close(rig).await;
}

/// some of its rows may be held, and the others of its write are not late.
#[tokio::test(start_paused = true)]
async fn a_delivery_is_late_alone() {
    let rig = rig(json!({
        "batching": { "maxRows": 6, "linger": "5s" },
        "retry": { "deadline": "20s", "attempts": 1_000, "baseDelay": "1s", "maxDelay": "1s" },
    }));
    rig.world().writes = vec![Act::KeepAndFail(transient().ambiguous())].into();
    rig.world().opens = [vec![Act::Pass], vec![Act::Fail(transient()); 1_000]]
        .concat()
        .into();
    let in_doubt = rig.send(&batch(&schema("n"), 0..3));
    tokio::time::sleep(secs(4)).await;
    let other = rig.send(&batch(&schema("n"), 3..6));
    tokio::time::sleep(secs(10)).await;
    let late = rig.send(&batch(&schema("n"), 6..9));
    tokio::time::sleep(secs(9)).await;
    let younger = rig.send(&batch(&schema("n"), 9..12));
    let start = Instant::now();
    assert_eq!(rig.outcome(in_doubt).await.status, Status::Unknown);
    assert_eq!(rig.outcome(other).await.status, Status::Unknown);
    assert_eq!(rig.outcome(late).await.status, Status::Failed);
    assert!(start.elapsed() < secs(13), "{:?}", start.elapsed());
    rig.world().opens.clear();
    assert_eq!(rig.outcome(younger).await.status, Status::Acknowledged);
    assert_eq!(rig.world().times[&9], 1);
    assert!(!rig.world().times.contains_key(&6));
    close(rig).await;
}

/// Nobody has said that it failed, and nobody waits for ever to hear it.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_session_that_hangs_waits_until_the_deadline() {
    let rig = rig(json!({ "batching": { "maxRows": 1 }, "retry": { "deadline": "2s" } }));
    rig.world().opens = vec![Act::Hang].into();
    let start = Instant::now();
    for sequence in send(&rig, 0..3) {
        let outcome = rig.outcome(sequence).await;
        assert_eq!(
            (outcome.status, outcome.error.unwrap().code()),
            (Status::Failed, Code::Unavailable)
        );
    }
    assert!(start.elapsed() <= secs(3), "{:?}", start.elapsed());
    close(rig).await;
}

/// a session that is never opened, or never closed, is given up.
#[tokio::test(start_paused = true)]
async fn opening_and_closing_a_session_are_bounded() {
    let rig = rig(json!({ "retry": { "deadline": "1h" } }));
    rig.world().opens = vec![Act::Hang].into();
    rig.world().closes = vec![Act::Hang].into();
    let start = Instant::now();
    let first = rig.send(&batch(&schema("a"), 0..3));
    let outcome = rig.outcome(first).await;
    assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 2));
    assert!(start.elapsed() < secs(400), "{:?}", start.elapsed());
    // Another schema has the session closed first.
    let second = rig.send(&batch(&schema("b"), 3..6));
    assert_eq!(rig.outcome(second).await.status, Status::Acknowledged);
    assert!(start.elapsed() < secs(800), "{:?}", start.elapsed());
    close(rig).await;
}

/// all that waited for that session, also where it is not in a write yet, and nobody else.
#[tokio::test(start_paused = true)]
async fn what_never_passes_at_opening_fails_all_that_waited_for_it_at_once() {
    let rig = rig(json!({ "batching": { "maxRows": 1 }, "inflight": { "maxWrites": 2 } }));
    rig.world().unwanted = ["a".to_string()].into();
    let refused: Vec<u64> = (0..50)
        .map(|n| rig.send(&batch(&schema("a"), n..n + 1)))
        .collect();
    let wanted = rig.send(&batch(&schema("b"), 50..51));
    let start = Instant::now();
    for sequence in refused {
        let outcome = rig.outcome(sequence).await;
        assert_eq!(
            (outcome.status, outcome.error.unwrap().code()),
            (Status::Failed, Code::SchemaMismatch)
        );
    }
    assert!(start.elapsed() < secs(1), "{:?}", start.elapsed());
    assert_eq!(rig.outcome(wanted).await.status, Status::Acknowledged);
    assert_eq!(rig.world().calls_like("open").len(), 2);
    close(rig).await;
}

/// the next try would be refused as this one was.
#[tokio::test(start_paused = true)]
async fn credentials_that_cannot_change_are_refused_for_all_that_wait() {
    let refused = || Act::Fail(Error::new(Code::Unauthenticated, "who are you"));
    for (renews, tried) in [(false, 3), (true, 60)] {
        let mut scripted = Scripted::new(Durable::AtWrite, false);
        scripted.renews_credentials = renews;
        let options = json!({
            "batching": { "maxRows": 1 }, "inflight": { "maxWrites": 2 },
            "retry": { "attempts": 3, "deadline": "1h" },
        });
        let rig = Rig::new(scripted, options);
        rig.world().opens = vec![refused(); 60].into();
        for sequence in send(&rig, 0..20) {
            let outcome = rig.outcome(sequence).await;
            let error = outcome.error.unwrap();
            assert_eq!(
                (outcome.status, error.code()),
                (Status::Failed, Code::Unauthenticated)
            );
        }
        assert_eq!(rig.world().calls_like("open").len(), tried);
        close(rig).await;
    }
}

/// a replay that another delivery's refusal causes is no try of those that are replayed.
#[tokio::test(start_paused = true)]
async fn a_bad_neighbour_costs_no_attempt() {
    for named in [true, false] {
        let (durable, max_rows) = match named {
            true => (Durable::AtWrite, 100),
            false => (Durable::AtFlush, 1),
        };
        let options = json!({ "batching": { "maxRows": max_rows }, "retry": { "attempts": 2 } });
        let rig = Rig::new(Scripted::new(durable, false), options);
        // The good one goes along with each of the bad ones, and then fails once by itself.
        let fails = Act::Fail(transient());
        match named {
            true => {
                rig.world().faulty = (1..6).collect();
                rig.world().writes = [vec![Act::Pass; 5], vec![fails]].concat().into();
            }
            false => {
                rig.world().poison = (1..6).collect();
                rig.world().flushes = vec![fails].into();
            }
        }
        let sequences = send(&rig, 0..6);
        rig.flush().await.unwrap();
        let good = rig.outcome(sequences[0]).await;
        assert_eq!(good.status, Status::Acknowledged, "{good:?}");
        assert_eq!(good.attempts, 2);
        for sequence in &sequences[1..] {
            let outcome = rig.outcome(*sequence).await;
            let error = outcome.error.unwrap();
            assert_eq!((outcome.status, error.code()), (Status::Failed, never().code()));
            assert_eq!(error.row(), named.then_some(0));
        }
        assert_eq!(rig.world().held, [0]);
        close(rig).await;
    }
}

/// where the destination names all rows at fault at once, all their deliveries leave at once.
#[tokio::test(start_paused = true)]
async fn many_bad_deliveries_of_a_write_cost_one_session() {
    let rig = rig(json!({ "batching": { "maxRows": 1_000, "linger": "1s" } }));
    rig.world().names_all = true;
    rig.world().faulty = (0..1_000).filter(|n| n % 5 != 0).collect();
    let sequences = send(&rig, 0..1_000);
    rig.flush().await.unwrap();
    for (n, sequence) in sequences.into_iter().enumerate() {
        let outcome = rig.outcome(sequence).await;
        let expected = if n % 5 == 0 {
            Status::Acknowledged
        } else {
            Status::Failed
        };
        assert_eq!(outcome.status, expected);
    }
    assert_eq!(rig.world().held, (0..1_000).step_by(5).collect::<Vec<_>>());
    assert_eq!(rig.world().calls_like("open").len(), 2);
    close(rig).await;
}
