//! Every fault of the emulator, each through the real transmitter: no row is lost, and none is there twice
//! outside the windows that `specs/zerobus.md` names.

use serde_json::json;

use crate::support::{PER_BATCH, Road, check_acknowledged};

const COUNT: i64 = 30;

/// Nothing is lost, nothing repeated, everything acknowledged.
async fn survives(fault: &str) -> Road {
    let road = Road::with(fault, json!({})).await;
    let outcomes = road.deliver(COUNT).await;
    check_acknowledged(&outcomes, COUNT);
    road.check_once(COUNT);
    assert!(
        road.emulated.emulator.summary().await.faults_fired > 0,
        "nothing went wrong"
    );
    road
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_arrive_and_are_acknowledged() {
    let road = Road::new(json!({}), json!({})).await;
    check_acknowledged(&road.deliver(COUNT).await, COUNT);
    road.check_once(COUNT);
    assert_eq!(road.emulated.emulator.summary().await.streams, 1);
}

/// a rotation is no failure: it costs no attempt, even where there is only one.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_costs_no_attempt() {
    let road = Road::with(
        "rotate:after=500rows,grace=3s,times=3",
        json!({"retry": {"attempts": 1}}),
    )
    .await;
    let outcomes = road.deliver_slowly(COUNT, 3).await;
    check_acknowledged(&outcomes, COUNT);
    road.check_once(COUNT);
    assert_eq!(road.emulated.emulator.summary().await.faults_fired, 3);
    assert!(
        outcomes.iter().all(|outcome| outcome.attempts == 1),
        "{outcomes:?}"
    );
    let heard = road.rig.heard();
    assert_eq!(heard.logs.iter().filter(|log| log.level == "warn").count(), 0);
    assert_eq!(
        heard
            .logs
            .iter()
            .filter(|log| log.message.contains("rotated"))
            .count(),
        3
    );
}

/// Error 6006: the server's own time if it says one, `zerobus.pause` otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_kept() {
    for (fault, at_least) in [
        ("pause:after=900rows,for=70ms", 70.0),
        ("pause:after=900rows", 40.0),
    ] {
        let road = Road::with(fault, json!({"zerobus": {"pause": "40ms"}})).await;
        check_acknowledged(&road.deliver(COUNT).await, COUNT);
        road.check_once(COUNT);
        let heard = road.rig.heard();
        let broke = heard
            .logs
            .iter()
            .find(|log| log.message.contains("broke"))
            .unwrap();
        assert_eq!(broke.fields["error"]["code"], "RESOURCE_EXHAUSTED");
        let delay = broke.fields["retryInMs"].as_f64().unwrap();
        assert!((at_least..=at_least * 1.5).contains(&delay), "{delay}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_replaced() {
    // At the set-up the next token is tried at once, and nobody hears of it.
    let road = Road::with("expire-token", json!({"retry": {"attempts": 1}})).await;
    check_acknowledged(&road.deliver(COUNT).await, COUNT);
    road.check_once(COUNT);
    // In the midst it is a try.
    let road = survives("expire-token:after=1000rows").await;
    assert!(road.emulated.emulator.summary().await.tokens_issued >= 2);
    let heard = road.rig.heard();
    let broke = heard
        .logs
        .iter()
        .find(|log| log.message.contains("broke"))
        .unwrap();
    assert_eq!(broke.fields["error"]["retry"], "reauthenticate");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_waited_out() {
    survives("limit:streams=0,times=3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_or_hangs_up_is_tried_again() {
    survives("refuse:status=UNAVAILABLE,times=3").await;
    survives("close:after=1100rows,status=INTERNAL").await;
    survives("close:after=3batches,status=UNAVAILABLE,times=4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_before_the_commit_repeats_nothing() {
    survives("lose-before-commit:after=700rows,times=2").await;
}

/// The window of at-least-once: rows that were kept and whose acknowledgement was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_after_the_commit_repeats_what_it_did_not_acknowledge_and_no_more() {
    let road = Road::with("lose-after-commit:after=700rows", json!({})).await;
    check_acknowledged(&road.deliver(COUNT).await, COUNT);
    let repeated = road.repeated(COUNT);
    assert_eq!(
        repeated.len() as i64,
        PER_BATCH,
        "one batch was lost with its acknowledgement"
    );
    assert_eq!(repeated[0], 600);
}

/// what was acknowledged is not sent again, to the row.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_acknowledged_in_part_goes_on_with_its_next_row() {
    survives("partial:after=500rows,rows=37").await;
    survives("partial:after=500rows,rows=1,times=5").await;
    survives("partial:after=500rows,rows=99,times=5").await;
}

/// Rows are kept and not acknowledged: the stream counts as stuck, and its rows are in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_that_do_not_come_are_not_waited_for_without_end() {
    let road = Road::with(
        "stall:after=500rows,for=1h",
        json!({"zerobus": {"acknowledgementTimeout": "2s"}}),
    )
    .await;
    let outcomes = road.deliver_slowly(COUNT, 4).await;
    check_acknowledged(&outcomes, COUNT);
    let repeated = road.repeated(COUNT);
    assert!(
        repeated.first().is_none_or(|id| *id >= 400),
        "acknowledged rows were sent again"
    );
    let heard = road.rig.heard();
    let broke = heard
        .logs
        .iter()
        .find(|log| log.message.contains("broke"))
        .unwrap();
    let text = broke.fields["error"]["message"].as_str().unwrap();
    assert!(text.contains("acknowledgementTimeout"), "{text}");
}

/// Whatever comes, in whatever order, over and over.
#[tokio::test(flavor = "multi_thread")]
async fn faults_one_after_the_other_lose_and_repeat_nothing() {
    const KINDS: [&str; 8] = [
        "rotate:grace=60s,after=",
        "partial:rows=13,after=",
        "close:status=UNAVAILABLE,after=",
        "lose-before-commit:after=",
        "expire-token:after=",
        "pause:for=1ms,after=",
        "refuse:status=UNAVAILABLE,stream=",
        "limit:streams=0,times=1,stream=",
    ];
    let road = Road::new(json!({}), json!({})).await;
    let mut dice = fastrand::Rng::with_seed(7);
    for stream in 1..=40 {
        let fault = KINDS[dice.usize(..KINDS.len())];
        match fault.ends_with("stream=") {
            true => road.emulated.fault(&format!("{fault}{stream}")),
            false => road
                .emulated
                .fault(&format!("{fault}{}rows,stream={stream}", dice.usize(1..600))),
        }
    }
    let count = 80;
    check_acknowledged(&road.deliver_slowly(count, 2).await, count);
    road.check_once(count);
    assert!(road.emulated.emulator.summary().await.faults_fired > 10);
}
