//! R-11 …: any interleaving of everything settles every delivery once and tells the truth.

use std::time::Duration;

use arrow_ingest::error::{Code, Error};
use arrow_ingest::outcome::{Outcome, Status};
use proptest::prelude::*;
use serde_json::json;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted, World};
use crate::support::{batch, schema};

#[derive(Debug, Clone)]
enum Step {
    /// Rows and schema of a delivery of some batches.
    Send(Vec<u8>, bool),
    Abort(u8),
    Flush,
    Sleep(u16),
}

#[derive(Debug, Clone)]
struct Run {
    durable: Durable,
    tells: bool,
    steps: Vec<Step>,
    opens: Vec<Act>,
    writes: Vec<Act>,
    flushes: Vec<Act>,
    closes: Vec<Act>,
    poison: Vec<u8>,
    refused: Vec<u8>,
    /// Rows that make the destination refuse whatever they are in, and whether it says so late.
    at_fault: Vec<u8>,
    refuses_late: Option<u16>,
    max_rows: usize,
    max_bytes: usize,
    max_writes: usize,
    linger_ms: u16,
    budget: usize,
    attempts: u32,
    stop: bool,
    flush_interval: Option<u16>,
    close_ms: u32,
}

fn error() -> impl Strategy<Value = Error> {
    prop_oneof![
        4 => Just(Error::new(Code::Unavailable, "away")),
        1 => Just(Error::new(Code::Unauthenticated, "expired")),
        1 => (0u64..5_000).prop_map(|ms| {
            Error::new(Code::ResourceExhausted, "slower").retry_after(Duration::from_millis(ms))
        }),
        1 => Just(Error::new(Code::BatchInvalid, "never")),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let end = prop_oneof![
        6 => Just(Act::Pass),
        2 => error().prop_map(Act::Fail),
        1 => error().prop_map(|error| Act::Fail(error.ambiguous())),
        2 => error().prop_map(|error| Act::KeepAndFail(error.ambiguous())),
        1 => error().prop_map(|error| Act::BreakNow(error.ambiguous())),
        1 => (0u64..500, error()).prop_map(|(ms, error)| {
            Act::BreakLater(Duration::from_millis(ms), error.ambiguous())
        }),
    ];
    let end = end.boxed();
    prop_oneof![
        3 => end.clone(),
        1 => (0u64..2_000, end.clone()).prop_map(|(ms, act)| {
            Act::After(Duration::from_millis(ms), Box::new(act))
        }),
        1 => (1usize..20, end).prop_map(|(rows, act)| Act::Partly(rows, Box::new(act))),
        1 => Just(Act::Hang).prop_filter("rare", |_| true),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec(0u8..30, 0..4), prop::bool::weighted(0.2)).prop_map(|(rows, other)| Step::Send(rows, other)),
        1 => any::<u8>().prop_map(Step::Abort),
        1 => Just(Step::Flush),
        2 => (0u16..3_000).prop_map(Step::Sleep),
    ]
}

fn run() -> impl Strategy<Value = Run> {
    let acts = || prop::collection::vec(act(), 0..8);
    let faults = (acts(), acts(), acts(), acts());
    let rows = || prop::collection::vec(any::<u8>(), 0..3);
    let at_fault = (
        prop::collection::vec(any::<u8>(), 0..4),
        prop::option::of(0u16..100),
    );
    let limits = (
        1usize..40,
        8usize..400,
        1usize..6,
        0u16..200,
        1usize..1_500,
        1u32..5,
    );
    (
        (
            prop_oneof![Just(Durable::AtWrite), Just(Durable::AtFlush)],
            any::<bool>(),
        ),
        prop::collection::vec(step(), 1..40),
        faults,
        (rows(), rows(), at_fault),
        limits,
        (
            prop::bool::weighted(0.1),
            prop::option::of(1u16..1_000),
            0u32..60_000,
        ),
    )
        .prop_map(
            |(
                (durable, tells),
                steps,
                (opens, writes, flushes, closes),
                (poison, refused, at_fault),
                limits,
                end,
            )| {
                Run {
                    durable,
                    tells,
                    steps,
                    opens,
                    writes,
                    flushes,
                    closes,
                    poison,
                    refused,
                    at_fault: at_fault.0,
                    refuses_late: at_fault.1,
                    max_rows: limits.0,
                    max_bytes: limits.1,
                    max_writes: limits.2,
                    linger_ms: limits.3,
                    budget: limits.4,
                    attempts: limits.5,
                    stop: end.0,
                    flush_interval: end.1,
                    close_ms: end.2,
                }
            },
        )
}

/// Row `n` of delivery `sequence`.
fn value(sequence: u64, row: usize) -> i64 {
    (sequence as i64) * 1_000 + row as i64
}

async fn play(run: Run) {
    let mut scripted = Scripted::new(run.durable, run.tells);
    scripted.refusals_are_atomic = true;
    let rig = Rig::new(
        scripted,
        json!({
            "batching": { "maxRows": run.max_rows, "maxBytes": run.max_bytes, "linger": run.linger_ms },
            "inflight": { "maxBytes": run.budget, "maxWrites": run.max_writes },
            "retry": {
                "attempts": run.attempts,
                "baseDelay": "10ms",
                "maxDelay": "1s",
                "deadline": "30s",
                "onExhausted": if run.stop { "stop" } else { "continue" },
            },
        }),
    );
    {
        let mut world = rig.world();
        world.opens = run.opens.clone().into();
        world.writes = run.writes.clone().into();
        world.flushes = run.flushes.clone().into();
        world.closes = run.closes.clone().into();
        world.poison = run.poison.iter().map(|n| value(u64::from(*n) % 40, 2)).collect();
        world.refused = run.refused.iter().map(|n| value(u64::from(*n) % 40, 1)).collect();
        world.at_fault = run
            .at_fault
            .iter()
            .map(|n| value(u64::from(*n) % 40, usize::from(n % 7)))
            .collect();
        world.refuses_late = run.refuses_late.map(|ms| Duration::from_millis(ms.into()));
        world.flush_interval = run.flush_interval.map(|ms| Duration::from_millis(ms.into()));
    }
    let mut sent: Vec<usize> = Vec::new();
    let mut aborted = std::collections::HashSet::new();
    let mut flushes = Vec::new();
    for step in &run.steps {
        match step {
            Step::Send(parts, other) => {
                let sequence = sent.len() as u64 + 1;
                let schema = schema(if *other { "b" } else { "a" });
                let mut next = 0;
                let mut batches = Vec::new();
                for rows in parts {
                    let rows = usize::from(*rows);
                    batches.push(batch(
                        &schema,
                        (next..next + rows).map(|row| value(sequence, row)),
                    ));
                    next += rows;
                }
                // A hanging destination never lets it in; that is what tickets are taken back for.
                let entering = rig.send_all_waiting(&batches);
                match tokio::time::timeout(Duration::from_secs(20), entering).await {
                    Ok(result) => {
                        result.unwrap();
                        sent.push(next);
                    }
                    Err(_) => rig.take_back_tickets(),
                }
                let bytes = rig.transmitter.in_flight_bytes();
                assert!(
                    bytes <= run.budget.max(next * 8).max(3 * 30 * 8),
                    "{bytes} in flight"
                );
            }
            Step::Abort(which) if !sent.is_empty() => {
                let sequence = u64::from(*which) % sent.len() as u64 + 1;
                aborted.insert(sequence);
                rig.transmitter.abort(sequence);
            }
            Step::Abort(_) => {}
            Step::Flush => flushes.push(rig.ask(|reply| rig.transmitter.flush(reply))),
            Step::Sleep(ms) => tokio::time::sleep(Duration::from_millis((*ms).into())).await,
        }
    }
    let deadline = Duration::from_millis(run.close_ms.into());
    let start = tokio::time::Instant::now();
    rig.close(deadline).await.unwrap();
    // The timer's own grain, and that of the clock that decides.
    assert!(
        start.elapsed() <= deadline + Duration::from_millis(5),
        "close took {:?}",
        start.elapsed()
    );
    for flush in flushes {
        flush.await.unwrap();
    }
    rig.check_the_end();
    let outcomes = rig.heard().outcomes.clone();
    let world = rig.world();
    for outcome in &outcomes {
        let rows = sent[outcome.sequence as usize - 1];
        assert_eq!(outcome.rows, rows);
        check_outcome(outcome, &world, run.tells, aborted.contains(&outcome.sequence));
    }
    let in_order = outcomes.iter().filter(|outcome| {
        matches!(outcome.status, Status::Acknowledged | Status::Partial) && outcome.rows > 0
    });
    assert!(
        in_order.is_sorted_by_key(|outcome| outcome.sequence),
        "out of order"
    );
    if run.tells {
        assert!(world.held.is_sorted(), "rows out of order: {:?}", world.held);
    }
}

/// What the caller was told is what the destination holds.
fn check_outcome(outcome: &Outcome, world: &World, tells: bool, aborted: bool) {
    let refused: Vec<u64> = outcome.rejections.iter().map(|rejection| rejection.row).collect();
    let times = |row: usize| {
        world
            .times
            .get(&value(outcome.sequence, row))
            .copied()
            .unwrap_or(0)
    };
    let held = (0..outcome.rows).filter(|row| times(*row) > 0).count();
    let has_error = outcome.error.is_some();
    match outcome.status {
        Status::Acknowledged | Status::Partial => {
            assert_eq!(outcome.accepted_rows + refused.len(), outcome.rows, "{outcome:?}");
            assert_eq!(has_error, !refused.is_empty());
            for row in 0..outcome.rows {
                let times = times(row);
                if refused.contains(&(row as u64)) {
                    assert_eq!(times, 0, "refused and held: row {row} of {outcome:?}");
                } else if tells {
                    assert_eq!(times, 1, "row {row} of {outcome:?}");
                } else {
                    assert!(times >= 1, "lost: row {row} of {outcome:?}");
                }
            }
        }
        Status::Spooled => panic!("there is no spool: {outcome:?}"),
        Status::Failed => {
            assert!(has_error);
            // Parts of it may have been accepted, and the outcome counts them.
            assert_eq!(held, outcome.accepted_rows, "{outcome:?}");
        }
        Status::Unknown => assert!(has_error && (held >= outcome.accepted_rows || aborted)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CHAOS").ok().and_then(|n| n.parse().ok()).unwrap_or(400),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    })]

    ///
    #[test]
    fn any_interleaving_settles_every_delivery_once_and_tells_the_truth(run in run()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(run));
    }
}
