//! R-12 … R-14, R-17: what is said of a delivery is what the table holds, whatever becomes of the requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_ingest::destination::delta::Delta;
use arrow_ingest::error::Code;
use arrow_ingest::outcome::{Outcome, Status};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

use crate::rigs::rig::Rig;
use crate::rigs::{batch, schema, values};
use crate::simulated::{Fault, Op, Simulated};
use crate::support::config;

fn delta(store: &Simulated, options: Value) -> Delta {
    let url = url::Url::parse("memory:///table/").unwrap();
    Delta::in_store(url, Arc::new(store.clone()), &config(options)).unwrap()
}

fn rig(store: &Simulated, options: &Value) -> Rig {
    Rig::over(Arc::new(delta(store, options.clone())), options.clone())
}

fn quick(attempts: u32) -> Value {
    json!({
        "retry": {"attempts": attempts, "baseDelay": "1ms", "maxDelay": "2ms"},
        "batching": {"linger": "1ms"},
        "delta": {"commitInterval": "1h"},
    })
}

fn rows(from: i64, to: i64) -> RecordBatch {
    batch(&schema("n"), from..to)
}

/// How often the table holds each value, as a reader of its log finds them.
async fn held(store: &Simulated) -> HashMap<i64, usize> {
    let mut counts = HashMap::new();
    for version in 0.. {
        let path = Path::from(format!("table/_delta_log/{version:020}.json"));
        let Ok(commit) = store.held.get(&path).await else {
            break;
        };
        let commit = commit.bytes().await.unwrap();
        for line in commit.split(|byte| *byte == b'\n') {
            let action: Value = serde_json::from_slice(line).unwrap();
            let Some(file) = action["add"]["path"].as_str() else {
                continue;
            };
            let path = Path::from(format!("table/{file}"));
            let file: Bytes = store.held.get(&path).await.unwrap().bytes().await.unwrap();
            let batches = ParquetRecordBatchReaderBuilder::try_new(file)
                .unwrap()
                .build()
                .unwrap();
            for value in batches.flat_map(|batch| values(&batch.unwrap())) {
                *counts.entry(value).or_default() += 1;
            }
        }
    }
    counts
}

async fn versions(store: &Simulated) -> u64 {
    let log = Path::from("table/_delta_log");
    let all: Vec<_> = store.held.list(Some(&log)).try_collect().await.unwrap();
    all.len() as u64
}

/// Another writer takes the next version.
async fn another_writer(store: &Simulated) {
    let path = Path::from(format!("table/_delta_log/{:020}.json", versions(store).await));
    let info = r#"{"commitInfo":{"operation":"OPTIMIZE"}}"#;
    // Where a late request is first, that is another interleaving.
    let options = object_store::PutOptions::from(object_store::PutMode::Create);
    let _ = store.held.put_opts(&path, info.into(), options).await;
}

/// R-17: the answer to a commit of twelve writes is lost, the replay's first commit holds fewer of them, and the
/// lost one lands just before it: all are acknowledged through what the log says, and none is written twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_lands_before_its_replay_is_not_written_twice() {
    let store = Simulated::default();
    let options = json!({
        "retry": {"attempts": 5, "baseDelay": "1ms", "maxDelay": "2ms"},
        "batching": {"maxRows": 100, "linger": 0},
        "delta": {"commitInterval": "1h"},
    });
    let rig = rig(&store, &options);
    rig.prepare(schema("n")).await.unwrap();
    // Neither the commit nor the try to settle it is answered; it lands when the replay tries its own.
    store.faults(Op::Commit, [Fault::Late(99), Fault::Request]);
    let sequences: Vec<u64> = (0..12).map(|n| rig.send(&rows(n * 100, n * 100 + 100))).collect();
    let flushing = rig.ask(|reply| rig.transmitter.flush(reply));
    rig.until(|heard| !heard.logs.is_empty()).await;
    store.land().await;
    flushing.await.unwrap();
    for sequence in sequences {
        assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
    }
    rig.close(Duration::from_secs(10)).await.unwrap();
    rig.check_the_end();
    let held = held(&store).await;
    assert_eq!((held.len(), held.values().max()), (1200, Some(&1)));
}

/// R-14: attempts are spent, or the delivery is aborted in the back-off, and the commit lands seconds later: that
/// was never called failed.
#[tokio::test(flavor = "multi_thread")]
async fn what_lands_late_was_never_called_failed() {
    // Spent.
    let store = Simulated::default();
    let rig_spent = rig(&store, &quick(1));
    rig_spent.prepare(schema("n")).await.unwrap();
    store.faults(Op::Commit, [Fault::Late(99), Fault::Request]);
    let spent = rig_spent.send(&rows(0, 10));
    rig_spent.flush().await.unwrap();
    let outcome = rig_spent.outcome(spent).await;
    assert_eq!(outcome.status, Status::Unknown);
    assert_eq!(outcome.error.unwrap().code(), Code::Unavailable);
    store.land().await;
    assert_eq!(held(&store).await.len(), 10);
    rig_spent.close(Duration::from_secs(10)).await.unwrap();

    // Aborted, while the next session cannot tell yet.
    let store = Simulated::default();
    let patient = json!({
        "retry": {"attempts": 9, "baseDelay": "300ms", "maxDelay": "300ms"},
        "delta": {"commitInterval": "1h"},
    });
    let rig_aborted = rig(&store, &patient);
    rig_aborted.prepare(schema("n")).await.unwrap();
    // Nothing is tried again before the delivery is aborted.
    store.faults(Op::Commit, [Fault::Late(99), Fault::Gone]);
    let aborted = rig_aborted.send(&rows(0, 10));
    let flushing = rig_aborted.ask(|reply| rig_aborted.transmitter.flush(reply));
    rig_aborted.until(|heard| !heard.logs.is_empty()).await;
    rig_aborted.transmitter.abort(aborted);
    assert_eq!(rig_aborted.outcome(aborted).await.status, Status::Unknown);
    store.land().await;
    store.back();
    flushing.await.unwrap();
    rig_aborted.close(Duration::from_secs(10)).await.unwrap();
    rig_aborted.check_the_end();
    let held = held(&store).await;
    assert_eq!((held.len(), held.values().max()), (10, Some(&1)));
}

/// R-13: a version that another writer has taken settles the doubt: what did not land then never will, and failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_another_writer_took_settles_the_doubt() {
    let store = Simulated::default();
    let options = json!({
        "retry": {"attempts": 2, "baseDelay": "200ms", "maxDelay": "200ms"},
        "delta": {"commitInterval": "1h"},
    });
    let rig = rig(&store, &options);
    rig.prepare(schema("n")).await.unwrap();
    // Nothing is tried again before the other writer has been there.
    store.faults(Op::Commit, [Fault::Late(99), Fault::Gone]);
    let lost = rig.send(&rows(0, 10));
    let flushing = rig.ask(|reply| rig.transmitter.flush(reply));
    rig.until(|heard| !heard.logs.is_empty()).await;
    another_writer(&store).await;
    store.faults(Op::Commit, [Fault::Refused]);
    store.back();
    flushing.await.unwrap();
    assert_eq!(rig.outcome(lost).await.status, Status::Failed);
    store.land().await;
    assert!(held(&store).await.is_empty());
    rig.close(Duration::from_secs(10)).await.unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Send(u8),
    Abort(u8),
    Flush,
    Sleep(u8),
    AnotherWriter,
    Land,
}

#[derive(Debug, Clone)]
struct Run {
    steps: Vec<Step>,
    commits: Vec<Fault>,
    puts: Vec<Fault>,
    gets: Vec<Fault>,
    heads: Vec<Fault>,
    lists: Vec<Fault>,
    attempts: u32,
    max_rows: usize,
    interval: u8,
}

fn faults(of: impl Strategy<Value = Fault>, most: usize) -> impl Strategy<Value = Vec<Fault>> {
    prop::collection::vec(of, 0..most)
}

fn run() -> impl Strategy<Value = Run> {
    let step = prop_oneof![
        5 => (1u8..9).prop_map(Step::Send),
        1 => (0u8..6).prop_map(Step::Abort),
        3 => Just(Step::Flush),
        2 => (0u8..8).prop_map(Step::Sleep),
        1 => Just(Step::AnotherWriter),
        1 => Just(Step::Land),
    ];
    let write = prop_oneof![
        3 => Just(Fault::None),
        3 => Just(Fault::Answer),
        3 => Just(Fault::Request),
        4 => (0usize..12).prop_map(Fault::Late),
        1 => Just(Fault::Refused),
        1 => Just(Fault::Busy),
        1 => Just(Fault::Taken),
        1 => (0u64..5).prop_map(Fault::Slow),
    ];
    let data = prop_oneof![8 => Just(Fault::None), 1 => Just(Fault::Request), 1 => Just(Fault::Busy)];
    let read = || {
        prop_oneof![
            6 => Just(Fault::None),
            1 => Just(Fault::Request),
            1 => Just(Fault::Reset),
            1 => Just(Fault::Short),
            1 => Just(Fault::Busy),
            1 => (0u64..5).prop_map(Fault::Slow),
        ]
    };
    let given = (
        prop::collection::vec(step, 1..14),
        faults(write, 12),
        faults(data, 6),
        (faults(read(), 12), faults(read(), 6), faults(read(), 4)),
        1u32..4,
        1usize..12,
        0u8..6,
    );
    given.prop_map(
        |(steps, commits, puts, (gets, heads, lists), attempts, max_rows, interval)| Run {
            steps,
            commits,
            puts,
            gets,
            heads,
            lists,
            attempts,
            max_rows,
            interval,
        },
    )
}

async fn play(run: Run) {
    let store = Simulated::default();
    let options = json!({
        "retry": {"attempts": run.attempts, "baseDelay": "1ms", "maxDelay": "3ms"},
        "batching": {"maxRows": run.max_rows, "linger": "1ms"},
        "delta": {"commitInterval": format!("{}ms", run.interval)},
    });
    let rig = rig(&store, &options);
    rig.prepare(schema("n")).await.unwrap();
    store.faults(Op::Commit, run.commits.clone());
    store.faults(Op::Put, run.puts.clone());
    store.faults(Op::Get, run.gets.clone());
    store.faults(Op::Head, run.heads.clone());
    store.faults(Op::List, run.lists.clone());
    let mut sent: Vec<(u64, std::ops::Range<i64>)> = Vec::new();
    let mut next = 0;
    let mut flushes = Vec::new();
    for step in &run.steps {
        match step {
            Step::Send(count) => {
                let range = next..next + i64::from(*count);
                next = range.end;
                sent.push((rig.send(&rows(range.start, range.end)), range));
            }
            Step::Abort(back) => {
                if let Some((sequence, _)) = sent.iter().rev().nth(usize::from(*back)) {
                    rig.transmitter.abort(*sequence);
                }
            }
            Step::Flush => flushes.push(rig.ask(|reply| rig.transmitter.flush(reply))),
            Step::Sleep(millis) => tokio::time::sleep(Duration::from_millis((*millis).into())).await,
            Step::AnotherWriter => another_writer(&store).await,
            Step::Land => store.land().await,
        }
    }
    rig.close(Duration::from_secs(20)).await.unwrap();
    for flush in flushes {
        flush.await.unwrap();
    }
    // Whatever was still under way arrives in the end.
    store.land().await;
    rig.check_the_end();
    let held = held(&store).await;
    let heard = rig.heard();
    let outcomes: HashMap<u64, &Outcome> = heard
        .outcomes
        .iter()
        .map(|outcome| (outcome.sequence, outcome))
        .collect();
    for (sequence, range) in sent {
        let outcome = outcomes[&sequence];
        let times: Vec<usize> = range
            .map(|row| held.get(&row).copied().unwrap_or_default())
            .collect();
        let there = times.iter().filter(|times| **times > 0).count();
        assert!(
            times.iter().all(|times| *times <= 1),
            "twice: {outcome:?} {times:?}"
        );
        match outcome.status {
            Status::Acknowledged => assert_eq!(there, times.len(), "lost: {outcome:?} {times:?}"),
            Status::Failed => assert_eq!(there, outcome.accepted_rows, "there: {outcome:?} {times:?}"),
            Status::Unknown => assert!(there >= outcome.accepted_rows, "{outcome:?} {times:?}"),
            Status::Partial | Status::Spooled => panic!("{outcome:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CHAOS").ok().and_then(|n| n.parse().ok()).unwrap_or(60),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/proptest-regressions/delta/settling.txt"
        )))),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    /// R-12, R-13, R-14, R-17: acknowledged is there once, failed is not there, and nothing is there twice.
    #[test]
    fn outcomes_are_what_the_table_holds(run in run()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(play(run));
    }
}
