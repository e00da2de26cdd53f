//! a byte budget bounds what is in flight; past it callers wait, in turn; nobody for ever.

use std::sync::Arc;
use std::time::Duration;

use arrow_ingest::error::Code;
use arrow_ingest::outcome::Status;
use arrow_ingest::transmitter::Admit;
use serde_json::json;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted};
use crate::support::{batch, schema};

///
#[tokio::test(start_paused = true)]
async fn past_the_budget_callers_wait_in_turn() {
    let rig = Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "inflight": { "maxBytes": 1000 } }),
    );
    let request = |bytes| rig.transmitter.request(bytes).unwrap();
    assert_eq!(request(600), Admit::Admitted);
    assert_eq!(request(600), Admit::Queued(1));
    assert_eq!(request(10), Admit::Queued(2), "nobody passes a waiting one");
    assert_eq!(rig.transmitter.waiting(), 2);
    rig.transmitter.give_back(600);
    assert_eq!(rig.heard().granted, [1, 2]);
    assert_eq!(request(10), Admit::Queued(3), "nor one that was granted");
    rig.transmitter.redeem(1, 600).unwrap();
    rig.transmitter.redeem(2, 10).unwrap();
    assert_eq!(rig.transmitter.redeem(2, 10).unwrap_err().code(), Code::Internal);
    rig.transmitter.redeem(3, 10).unwrap();
    assert_eq!(rig.transmitter.in_flight_bytes(), 620);
}

///
#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_taken_back_lets_the_next_one_in() {
    let rig = Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "inflight": { "maxBytes": 1000 } }),
    );
    assert_eq!(rig.transmitter.request(600).unwrap(), Admit::Admitted);
    assert_eq!(rig.transmitter.request(2000).unwrap(), Admit::Queued(1));
    assert_eq!(rig.transmitter.request(300).unwrap(), Admit::Queued(2));
    assert!(rig.transmitter.cancel(1));
    assert_eq!(rig.heard().granted, [2]);
    assert!(rig.transmitter.cancel(2), "a granted one can be taken back too");
    assert!(!rig.transmitter.cancel(2));
    assert_eq!(rig.transmitter.in_flight_bytes(), 600);
    assert_eq!(rig.transmitter.waiting(), 0);
}

/// larger than the whole budget, and admitted alone.
#[tokio::test(start_paused = true)]
async fn a_batch_above_the_budget_goes_alone() {
    let rig = Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "inflight": { "maxBytes": 100 } }),
    );
    let schema = schema("n");
    let mut last = 0;
    for n in 0..5 {
        last = rig
            .send_waiting(&batch(&schema, n * 50..n * 50 + 50))
            .await
            .unwrap();
        assert_eq!(rig.transmitter.in_flight_bytes(), 400, "one at a time");
    }
    rig.close(Duration::from_secs(9)).await.unwrap();
    assert_eq!(rig.outcome(last).await.status, Status::Acknowledged);
    rig.check_the_end();
}

/// a budget that is smaller than a write, a linger of an hour, a destination that never
/// flushes of itself: somebody who waits for bytes is a reason to send and to flush.
#[tokio::test(start_paused = true)]
async fn waiting_callers_get_the_writes_flushed() {
    let rig = Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "inflight": { "maxBytes": 100 }, "batching": { "linger": "1h" } }),
    );
    let schema = schema("n");
    let start = tokio::time::Instant::now();
    rig.send(&batch(&schema, 0..10));
    // The engine has gone to sleep over the first when the second begins to wait.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for n in 1..20 {
        rig.send_waiting(&batch(&schema, n * 10..n * 10 + 10))
            .await
            .unwrap();
    }
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    rig.flush().await.unwrap();
    assert_eq!(rig.world().held, (0..200).collect::<Vec<_>>());
    rig.close(Duration::from_secs(1)).await.unwrap();
    rig.check_the_end();
}

/// a ticket that is granted and not yet redeemed is on its way, and no reason to flush.
#[tokio::test(start_paused = true)]
async fn a_granted_ticket_does_not_make_small_commits() {
    let rig = Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "inflight": { "maxBytes": 100 }, "batching": { "linger": 0 } }),
    );
    let schema = schema("n");
    rig.send(&batch(&schema, 0..10));
    let Admit::Queued(ticket) = rig.transmitter.request(80).unwrap() else {
        panic!("the budget is full");
    };
    rig.until(|heard| heard.granted.contains(&ticket)).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(rig.world().calls_like("flush").len(), 1);
    assert!(rig.transmitter.cancel(ticket));
}

/// the number of unacknowledged writes is bounded too.
#[tokio::test(start_paused = true)]
async fn the_window_is_bounded_and_a_full_one_is_flushed() {
    let rig = Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "inflight": { "maxWrites": 3 }, "batching": { "maxRows": 1, "linger": 0 } }),
    );
    rig.send(&batch(&schema("n"), 0..10));
    rig.flush().await.unwrap();
    assert_eq!(
        rig.world()
            .calls
            .iter()
            .map(|(call, _)| call.as_str())
            .collect::<Vec<_>>()[..5],
        ["open", "write 1", "write 2", "write 3", "flush"]
    );
    assert_eq!(rig.world().calls_like("flush").len(), 4);
}

/// hundreds of senders on one client, with a budget for a few, on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hundreds_of_senders_share_one_budget() {
    let rig = Arc::new(Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "inflight": { "maxBytes": 2000 }, "batching": { "linger": "1ms" } }),
    ));
    rig.world().flush_interval = Some(Duration::from_millis(5));
    let schema = schema("n");
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..300i64 {
        let (rig, schema) = (rig.clone(), schema.clone());
        senders.spawn(async move {
            for n in 0..3 {
                let first = sender * 1000 + n * 10;
                let sequence = rig
                    .send_waiting(&batch(&schema, first..first + 10))
                    .await
                    .unwrap();
                assert!(rig.transmitter.in_flight_bytes() <= 2000);
                assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
            }
        });
    }
    let all = async { while senders.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    rig.close(Duration::from_secs(30)).await.unwrap();
    let mut held = rig.world().held.clone();
    held.sort_unstable();
    held.dedup();
    assert_eq!(held.len(), 9000);
    rig.check_the_end();
}

/// a caller in the queue hears of the close.
#[tokio::test(start_paused = true)]
async fn close_turns_waiting_callers_away() {
    let rig = Rig::new(
        Scripted::new(Durable::AtFlush, false),
        json!({ "inflight": { "maxBytes": 100 } }),
    );
    let schema = schema("n");
    rig.world().opens.push_back(Act::Hang);
    rig.send(&batch(&schema, 0..10));
    let waiting = rig.transmitter.request(80).unwrap();
    let Admit::Queued(ticket) = waiting else {
        panic!("full")
    };
    rig.close(Duration::from_secs(1)).await.unwrap();
    assert_eq!(rig.heard().granted, [ticket]);
    assert_eq!(
        rig.transmitter.redeem(ticket, 80).unwrap_err().code(),
        Code::Closed
    );
    assert_eq!(rig.transmitter.request(1).unwrap_err().code(), Code::Closed);
    rig.check_the_end();
}
