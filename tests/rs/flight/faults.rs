//! What breaks, and what becomes of the batches: every one has an outcome, none is lost, and with
//! cumulative acknowledgements no row is there twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow_ingest::destination::flight::Flight;
use arrow_ingest::error::{Code, RetryClass};
use arrow_ingest::outcome::{Outcome, Status as Fate};
use serde_json::{Value, json};
use tonic::Status;

use crate::harness::rig::Rig;
use crate::support::{Answers, Proxy, Server, Writer, config, numbers};

const PER_BATCH: i64 = 500;

/// Options that make a transmitter quick to fail and to try again.
fn options(acknowledgement: &str) -> Value {
    json!({
        "batching": {"maxRows": 1_000, "linger": "1ms"},
        "retry": {"attempts": 1_000, "baseDelay": "1ms", "maxDelay": "20ms"},
        "flight": {
            "acknowledgement": acknowledgement,
            "maxMessageSize": "16KiB",
            "commitInterval": "20ms",
            "keepAlive": "500ms",
            "connectTimeout": "2s",
        },
    })
}

/// Sends `count` batches, disturbed after each, and closes.
async fn deliver(target: &str, options: Value, count: u64, disturb: impl AsyncFn(u64)) -> Vec<Outcome> {
    let flight = Flight::connect(target, &config(options.clone())).await.unwrap();
    let rig = Rig::over(Arc::new(flight), options);
    for turn in 0..count {
        let first = turn as i64 * PER_BATCH;
        rig.send_waiting(&numbers(first..first + PER_BATCH))
            .await
            .unwrap();
        disturb(turn).await;
    }
    rig.close(Duration::from_secs(20)).await.unwrap();
    rig.check_the_end();
    let mut outcomes = rig.heard().outcomes.clone();
    outcomes.sort_by_key(|outcome| outcome.sequence);
    assert_eq!(outcomes.len(), count as usize);
    outcomes
}

fn counted(values: Vec<i64>) -> HashMap<i64, usize> {
    let mut times = HashMap::new();
    for value in values {
        *times.entry(value).or_default() += 1;
    }
    times
}

/// Whatever was acknowledged is there, and at most once if that was promised.
fn check(server: &Server, outcomes: &[Outcome], once: bool) {
    let times = counted(server.values());
    for outcome in outcomes {
        let first = (outcome.sequence as i64 - 1) * PER_BATCH;
        let rows = (first..first + PER_BATCH).map(|row| times.get(&row).copied().unwrap_or(0));
        for times in rows {
            assert!(
                times > 0 || outcome.status != Fate::Acknowledged,
                "acknowledged and missing"
            );
            assert!(times <= 1 || !once, "there {times} times");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_cut_lose_nothing_and_cumulative_repeats_nothing() {
    for acknowledgement in ["cumulative", "part", "stream"] {
        let answers = match acknowledgement {
            "cumulative" => Answers::Cumulative,
            "part" => Answers::EveryPart,
            _ => Answers::Nothing,
        };
        let server = Server::start(answers).await;
        let proxy = Proxy::before(server.address).await;
        let line = Arc::clone(&proxy.line);
        let outcomes = deliver(&proxy.target(), options(acknowledgement), 40, async |turn| {
            match turn % 8 {
                1 => line.cut_after.store(100, Ordering::SeqCst),
                3 => line.cut_after.store(9_000, Ordering::SeqCst),
                5 => line.cut_answers_after.store(60, Ordering::SeqCst),
                6 => line.refuse.store(true, Ordering::SeqCst),
                7 => line.refuse.store(false, Ordering::SeqCst),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(8)).await;
            // A cut waits for bytes: those of this delivery do.
            for _ in 0..4_000 {
                if turn % 8 != 2 || line.cut_after.load(Ordering::SeqCst) == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        line.refuse.store(false, Ordering::SeqCst);
        assert!(line.connections.load(Ordering::SeqCst) > 4, "nothing was cut");
        for outcome in &outcomes {
            assert_eq!(
                outcome.status,
                Fate::Acknowledged,
                "{acknowledgement} {:?}",
                outcome.error
            );
        }
        check(&server, &outcomes, acknowledgement == "cumulative");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_commits_and_dies_before_it_says_so() {
    let server = Server::start(Answers::Cumulative).await;
    {
        let mut world = server.world();
        world.after_parts = (0..5)
            .map(|turn| (2 + turn % 3, Status::unavailable("going down")))
            .collect();
    }
    let outcomes = deliver(&server.target(), options("cumulative"), 30, async |_| {
        tokio::time::sleep(Duration::from_millis(2)).await;
    })
    .await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == Fate::Acknowledged)
    );
    check(&server, &outcomes, true);
    let times = counted(server.values());
    assert_eq!(times.len(), 30 * PER_BATCH as usize);
    assert!(server.world().after_parts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_goes_silent_is_given_up_by_keep_alive() {
    let server = Server::start(Answers::Cumulative).await;
    let proxy = Proxy::before(server.address).await;
    let line = Arc::clone(&proxy.line);
    let outcomes = deliver(&proxy.target(), options("cumulative"), 6, async |turn| {
        if turn == 2 {
            line.stalled.store(true, Ordering::SeqCst);
            let line = Arc::clone(&line);
            tokio::spawn(async move {
                // Until it was noticed, however slow the machine: beside the first question and the session.
                for _ in 0..750 {
                    if line.connections.load(Ordering::SeqCst) > 2 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                line.stalled.store(false, Ordering::SeqCst);
            });
        }
    })
    .await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == Fate::Acknowledged)
    );
    check(&server, &outcomes, true);
    assert!(
        line.connections.load(Ordering::SeqCst) > 2,
        "the silence was not noticed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_rows_in_doubt_unless_refusals_are_atomic() {
    let cases = [
        (false, true, Fate::Unknown),
        (true, false, Fate::Failed),
        // nothing was kept, so the row is looked for.
        (true, true, Fate::Partial),
    ];
    for (atomic, quarantine, fate) in cases {
        let server = Server::start(Answers::Nothing).await;
        server.world().poison = vec![7];
        let mut options = options("stream");
        options["flight"]["atomicRefusals"] = json!(atomic);
        options["quarantine"] = json!(quarantine);
        let outcomes = deliver(&server.target(), options, 1, async |_| {}).await;
        assert_eq!(outcomes[0].status, fate);
        let error = outcomes[0].error.clone().unwrap();
        assert_eq!(error.code(), Code::RowsRejected);
        assert!(error.message().contains("a row is poisoned"));
        if fate == Fate::Partial {
            let outcome = &outcomes[0];
            assert_eq!(
                (outcome.accepted_rows, outcome.rejections.len()),
                (outcome.rows - 1, 1)
            );
            assert_eq!(outcome.rejections[0].code, "INVALID_ARGUMENT");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_before_it_reads_is_heard() {
    let server = Server::start(Answers::Nothing).await;
    server
        .world()
        .at_once
        .push_back(Status::failed_precondition("other columns"));
    let flight = server.connect(json!({})).await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    let mut error = None;
    for id in 1..200 {
        error = writer.write(id, vec![numbers(0..10)]).await.err();
        if error.is_some() {
            break;
        }
    }
    // It may be slower than all of them.
    let error = match error {
        Some(error) => error,
        None => writer.session.flush().await.unwrap_err(),
    };
    assert_eq!(error.code(), Code::SchemaMismatch);
    // Whoever drives a session hears of it by the acknowledgements first.
    assert_eq!(writer.broken().await.code(), Code::SchemaMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_word_on_when_to_come_back_is_kept() {
    let server = Server::start(Answers::Nothing).await;
    let mut busy = Status::resource_exhausted("slow down");
    busy.metadata_mut()
        .insert("grpc-retry-pushback-ms", "400".parse().unwrap());
    server.world().at_end.push_back(busy);
    let start = Instant::now();
    let outcomes = deliver(&server.target(), options("stream"), 1, async |_| {}).await;
    assert_eq!(outcomes[0].status, Fate::Acknowledged);
    assert!(
        start.elapsed() >= Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(outcomes[0].attempts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_server_ends_too_early_is_no_success() {
    let server = Server::start(Answers::Nothing).await;
    server.world().after_parts.push_back((1, Status::ok("enough")));
    let flight = server.connect(json!({})).await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    let error = writer.broken().await;
    assert_eq!(error.retry_class(), RetryClass::Transient, "{error}");
    assert!(error.is_ambiguous());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_servers_limit_says_which_option_to_turn() {
    let server = Server::start(Answers::Nothing).await;
    let options = json!({"flight": {"maxMessageSize": "16MiB"}, "batching": {"maxBytes": "16MiB", "maxRows": 2_000_000}});
    let flight = server.connect(options).await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    let wrote = writer.write(1, vec![numbers(0..1_000_000)]).await;
    let error = match wrote {
        Err(error) => error,
        Ok(()) => writer.session.flush().await.unwrap_err(),
    };
    assert_eq!(error.code(), Code::ConfigInvalid, "{error}");
    assert!(error.message().contains("flight.maxMessageSize"));
}
