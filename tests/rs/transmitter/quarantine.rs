//! rows that make a destination refuse what they are in are found, and the rest goes through.

use std::time::Duration;

use arrow_ingest::error::{Code, Error};
use arrow_ingest::outcome::Status;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted, transient};
use crate::support::{batch, schema};

const MINUTE: Duration = Duration::from_secs(60);

fn rig(durable: Durable, tells: bool, options: Value) -> Rig {
    let mut scripted = Scripted::new(durable, tells);
    scripted.refusals_are_atomic = true;
    Rig::new(scripted, options)
}

#[derive(Debug, Clone)]
struct Run {
    durable: Durable,
    /// Batches of each delivery.
    deliveries: Vec<Vec<u8>>,
    at_fault: Vec<prop::sample::Index>,
    late: Option<u16>,
    max_rows: usize,
    max_writes: usize,
    opens: Vec<bool>,
    writes: Vec<u8>,
    flushes: Vec<bool>,
}

fn run() -> impl Strategy<Value = Run> {
    (
        prop_oneof![Just(Durable::AtWrite), Just(Durable::AtFlush)],
        prop::collection::vec(prop::collection::vec(0u8..30, 1..4), 1..12),
        prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        prop::option::of(0u16..50),
        1usize..60,
        1usize..6,
        prop::collection::vec(any::<bool>(), 0..6),
        prop::collection::vec(0u8..5, 0..30),
        prop::collection::vec(any::<bool>(), 0..6),
    )
        .prop_map(
            |(durable, deliveries, at_fault, late, max_rows, max_writes, opens, writes, flushes)| Run {
                durable,
                deliveries,
                at_fault,
                late,
                max_rows,
                max_writes,
                opens,
                writes,
                flushes,
            },
        )
}

/// The destination can look up what landed, so nothing may be held twice; it breaks off a number of times,
/// less often than would exhaust the tries of a write.
async fn play(run: Run) {
    let options = json!({
        "batching": { "maxRows": run.max_rows, "linger": 0 },
        "inflight": { "maxWrites": run.max_writes },
        "retry": { "attempts": 1000, "baseDelay": 1, "maxDelay": 10, "deadline": "1h" },
    });
    let rig = rig(run.durable, true, options);
    let total: i64 = run.deliveries.iter().flatten().map(|rows| i64::from(*rows)).sum();
    let fail = |fails: &bool| if *fails { Act::Fail(transient()) } else { Act::Pass };
    let mut at_fault = Vec::new();
    {
        let mut world = rig.world();
        if total > 0 {
            at_fault = run
                .at_fault
                .iter()
                .map(|pick| pick.index(total as usize) as i64)
                .collect();
            at_fault.sort_unstable();
            at_fault.dedup();
        }
        world.at_fault = at_fault.iter().copied().collect();
        world.refuses_late = run.late.map(|ms| Duration::from_millis(ms.into()));
        world.opens = run.opens.iter().map(fail).collect();
        world.flushes = run.flushes.iter().map(fail).collect();
        let act = |number: &u8| match number {
            1 => Act::Fail(transient().ambiguous()),
            2 => Act::KeepAndFail(transient().ambiguous()),
            3 => Act::Partly(7, Box::new(Act::Pass)),
            4 => Act::Partly(3, Box::new(Act::KeepAndFail(transient().ambiguous()))),
            _ => Act::Pass,
        };
        world.writes = run.writes.iter().map(act).collect();
    }
    let mut next = 0;
    let mut firsts = Vec::new();
    for counts in &run.deliveries {
        firsts.push(next);
        let mut batches = Vec::new();
        for rows in counts {
            batches.push(batch(&schema("n"), next..next + i64::from(*rows)));
            next += i64::from(*rows);
        }
        rig.send_all_waiting(&batches).await.unwrap();
    }
    rig.flush().await.unwrap();
    rig.close(MINUTE).await.unwrap();
    rig.check_the_end();
    let mut refused = Vec::new();
    let mut outcomes = rig.heard().outcomes.clone();
    outcomes.sort_by_key(|outcome| outcome.sequence);
    for outcome in &outcomes {
        let first = firsts[outcome.sequence as usize - 1];
        refused.extend(
            outcome
                .rejections
                .iter()
                .map(|rejection| first + rejection.row as i64),
        );
        assert!(
            outcome
                .rejections
                .iter()
                .all(|rejection| rejection.code == "NOT_WELCOME")
        );
        assert_eq!(
            outcome.accepted_rows + outcome.rejections.len(),
            outcome.rows,
            "{outcome:?}"
        );
        let expected = match (outcome.rejections.len(), outcome.accepted_rows) {
            (0, _) => Status::Acknowledged,
            (_, 0) => Status::Failed,
            _ => Status::Partial,
        };
        assert_eq!(outcome.status, expected, "{outcome:?}");
    }
    assert_eq!(refused, at_fault);
    let good: Vec<i64> = (0..total).filter(|row| !at_fault.contains(row)).collect();
    assert_eq!(rig.world().held, good);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CHAOS").ok().and_then(|n| n.parse().ok()).unwrap_or(300),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// whatever the pattern, the batching and the reconnects: exactly the rows at fault are refused,
    /// each once, and all others are held once and in order.
    #[test]
    fn exactly_the_rows_at_fault_are_refused_and_the_rest_is_held_once_and_in_order(run in run()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(run));
    }
}

/// one row of a large batch costs a search of its depth, and later deliveries come after it.
#[tokio::test(start_paused = true)]
async fn one_row_of_many_costs_as_much_as_the_search_is_deep() {
    let rig = rig(Durable::AtWrite, true, json!({ "batching": { "linger": 0 } }));
    rig.world().at_fault.insert(40_000);
    let first = rig.send(&batch(&schema("n"), 0..65_536));
    let second = rig.send(&batch(&schema("n"), 65_536..65_540));
    let outcome = rig.outcome(first).await;
    assert_eq!(outcome.status, Status::Partial);
    assert_eq!((outcome.accepted_rows, outcome.rejections.len()), (65_535, 1));
    let rejection = &outcome.rejections[0];
    assert_eq!((rejection.row, rejection.code.as_str()), (40_000, "NOT_WELCOME"));
    assert!(rejection.message.contains("not welcome"));
    assert_eq!(rig.outcome(second).await.status, Status::Acknowledged);
    assert!(rig.world().held.is_sorted());
    assert!(rig.counters.writes_refused.get() <= 18);
    assert_eq!(outcome.attempts, 1, "a refused probe is no failed try");
    rig.close(MINUTE).await.unwrap();
    rig.check_the_end();
}

/// what a bound leaves undecided fails with the refusal and names its rows; other deliveries go on.
#[tokio::test(start_paused = true)]
async fn past_its_attempts_a_delivery_fails_and_says_which_rows() {
    let rig = rig(
        Durable::AtWrite,
        true,
        json!({ "batching": { "linger": "10ms" }, "quarantine": { "maxAttempts": 3 } }),
    );
    rig.world().at_fault.extend(100..164);
    let sequences: Vec<u64> = (0..3)
        .map(|n| rig.send(&batch(&schema("n"), n * 100..n * 100 + 64)))
        .collect();
    let failed = rig.outcome(sequences[1]).await;
    assert_eq!(failed.status, Status::Failed);
    let error = failed.error.unwrap();
    assert_eq!(error.code(), Code::RowsRejected);
    assert!(error.message().contains("rows 0 to 63"), "{error}");
    assert!(error.message().contains("quarantine.maxAttempts"), "{error}");
    assert_eq!(error.row(), Some(0));
    for other in [sequences[0], sequences[2]] {
        assert_eq!(rig.outcome(other).await.status, Status::Acknowledged);
    }
    rig.close(MINUTE).await.unwrap();
    rig.check_the_end();
}

/// a search that takes too long ends, and one more try is made with what it did not get to.
#[tokio::test(start_paused = true)]
async fn past_its_deadline_a_search_ends() {
    let rig = rig(
        Durable::AtWrite,
        true,
        json!({ "batching": { "linger": 0 }, "quarantine": { "deadline": "3s" } }),
    );
    rig.world().at_fault.insert(60);
    let slow = || Act::After(Duration::from_secs(1), Box::new(Act::Pass));
    rig.world().writes.extend((0..20).map(|_| slow()));
    let sequence = rig.send(&batch(&schema("n"), 0..64));
    let outcome = rig.outcome(sequence).await;
    assert_eq!(outcome.status, Status::Failed);
    assert!(outcome.accepted_rows >= 32);
    let error = outcome.error.unwrap();
    assert!(error.message().contains("quarantine.deadline"), "{error}");
    assert_eq!(rig.world().held.len(), outcome.accepted_rows);
    rig.close(MINUTE).await.unwrap();
    rig.check_the_end();
}

/// without a promise that nothing was kept, or when it is not wanted, a refused write is not tried in parts.
#[tokio::test(start_paused = true)]
async fn where_a_refusal_may_have_kept_something_nothing_is_searched() {
    for (atomic, enabled) in [(false, true), (true, false)] {
        let mut scripted = Scripted::new(Durable::AtWrite, true);
        scripted.refusals_are_atomic = atomic;
        let rig = Rig::new(
            scripted,
            json!({ "batching": { "linger": 0 }, "quarantine": enabled }),
        );
        rig.world().at_fault.insert(3);
        let sequence = rig.send(&batch(&schema("n"), 0..8));
        let outcome = rig.outcome(sequence).await;
        assert_eq!((outcome.status, outcome.accepted_rows), (Status::Failed, 0));
        assert_eq!(rig.world().calls_like("write"), ["write 1"]);
        rig.close(MINUTE).await.unwrap();
    }
}

/// an error in doubt is never taken for a refusal that left nothing behind.
#[tokio::test(start_paused = true)]
async fn a_refusal_in_doubt_is_not_searched() {
    let rig = rig(Durable::AtWrite, true, json!({ "batching": { "linger": 0 } }));
    let error = Error::new(Code::RowsRejected, "some of it").ambiguous();
    rig.world().writes.push_back(Act::Fail(error));
    let sequence = rig.send(&batch(&schema("n"), 0..8));
    assert_eq!(rig.outcome(sequence).await.status, Status::Unknown);
    rig.close(MINUTE).await.unwrap();
    rig.check_the_end();
}

/// a search ends with the client, and what it had not decided is told.
#[tokio::test(start_paused = true)]
async fn a_close_cuts_a_search_short() {
    let rig = rig(Durable::AtWrite, true, json!({ "batching": { "linger": 0 } }));
    rig.world().at_fault.insert(3);
    rig.world().writes.extend([Act::Pass, Act::Hang]);
    let sequence = rig.send(&batch(&schema("n"), 0..8));
    rig.close(Duration::from_secs(1)).await.unwrap();
    assert_eq!(rig.outcome(sequence).await.status, Status::Unknown);
    rig.check_the_end();
}
