//! what happens on the way is told in order: of sessions always, of writes while somebody follows them.

use std::time::Duration;

use arrow_ingest::error::{Code, Error};
use arrow_ingest::outcome::Status;
use arrow_ingest::transmitter::{FactKind, SpooledBy};
use serde_json::json;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted, transient};
use crate::support::{batch, schema};

fn names(rig: &Rig) -> Vec<&'static str> {
    rig.heard().facts.iter().map(|fact| fact.kind.name()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_with_its_delay_and_before_the_outcome() {
    let rig = Rig::new(Scripted::new(Durable::AtWrite, false), json!({}));
    let throttled = Error::new(Code::ResourceExhausted, "slower").retry_after(Duration::from_secs(7));
    rig.world().writes = [Act::Fail(throttled), Act::Fail(transient().graceful())].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.status, Status::Acknowledged);
    rig.close(Duration::from_secs(100)).await.unwrap();
    let expected = [
        "opening", "opened", "broke", "opening", "opened", "rotated", "opening", "opened", "closed",
    ];
    assert_eq!(names(&rig), expected);
    let facts = rig.heard().facts.clone();
    let FactKind::Broke { delay, writes, .. } = &facts[2].kind else {
        panic!()
    };
    assert_eq!((*writes, *delay >= Duration::from_secs(7)), (1, true));
    let told = facts[2].to_json();
    assert_eq!(
        (&told["throttled"], &told["error"]["code"]),
        (&json!(true), &json!("RESOURCE_EXHAUSTED"))
    );
    assert_eq!(
        (&facts[1].to_json()["again"], &facts[4].to_json()["again"]),
        (&json!(false), &json!(true))
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_followed_is_told_with_the_deliveries_that_it_carries() {
    let rig = Rig::new(
        Scripted::new(Durable::AtWrite, false),
        json!({ "batching": { "linger": "1s" }, "retry": { "attempts": 2 } }),
    );
    rig.counters.followed.set(1);
    rig.world().writes = vec![Act::Fail(transient()); 2].into();
    let first = rig.send(&batch(&schema("n"), 0..3));
    let second = rig.send(&batch(&schema("n"), 3..5));
    rig.outcome(first).await;
    assert_eq!(rig.outcome(second).await.status, Status::Failed);
    rig.close(Duration::from_secs(100)).await.unwrap();
    let facts = rig.heard().facts.clone();
    let of = |name: &str| facts.iter().filter(|fact| fact.kind.name() == name).count();
    assert_eq!(
        (of("sent"), of("broke"), of("acknowledged"), of("taken")),
        (2, 2, 0, 0)
    );
    let sent = facts.iter().find(|fact| fact.kind.name() == "sent").unwrap();
    let told = sent.to_json();
    assert_eq!((&told["rows"], &told["attempt"]), (&json!(5), &json!(1)));
    assert_eq!(told["sequences"], json!([[first, second]]));
    // Of an engine behind a spool they would be positions, and are told as what the callers know.
    let of_disk = |whose: &dyn Fn(u64) -> SpooledBy| {
        let told = sent.clone().of_the_disk(whose).to_json();
        (told["sequences"].clone(), told["recovered"].clone())
    };
    let caller = of_disk(&|position| SpooledBy::Caller(100 - position));
    assert_eq!(caller, (json!([[99, 99], [98, 98]]), json!(0)));
    assert_eq!(of_disk(&|_| SpooledBy::Earlier), (json!([]), json!(2)));
    assert_eq!(of_disk(&|_| SpooledBy::Nobody), (json!([]), json!(0)));
    // It left without an acknowledgement.
    assert_eq!(
        facts
            .iter()
            .rev()
            .find(|fact| fact.kind.name() == "gone")
            .unwrap()
            .to_json()["before"],
        json!(2)
    );
}
