//! wherever something panics, every delivery still has its outcome, and `close` is answered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_ingest::config::Config;
use arrow_ingest::counters::Counters;
use arrow_ingest::error::Code;
use arrow_ingest::handoff::{HandoffBatch, Pool};
use arrow_ingest::outcome::{Outcome, Status};
use arrow_ingest::transmitter::{Delivery, Event, Reply, Transmitter};
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted, World};
use crate::support::{batch, columns, schema};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the test does on purpose need not be in its output.
fn hush() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload_as_str().unwrap_or_default();
            if !["mad", "as the script says"].contains(&text) {
                loud(info);
            }
        }));
    });
}

/// Small batches are imported where they come in, large ones on a thread that computes.
#[tokio::test]
async fn while_a_batch_is_imported() {
    hush();
    for rows in [3, 100_000] {
        let rig = Rig::new(Scripted::new(Durable::AtWrite, false), json!({}));
        rig.world().mad_at_import = true;
        let lost = rig.send(&batch(&schema("n"), 0..rows));
        let outcome = rig.outcome(lost).await;
        assert_eq!(
            (outcome.status, outcome.error.unwrap().code()),
            (Status::Failed, Code::Internal)
        );
        // It goes on with the next.
        rig.world().mad_at_import = false;
        let next = rig.send(&batch(&schema("n"), 0..rows));
        assert_eq!(rig.outcome(next).await.status, Status::Acknowledged);
        rig.close(secs(10)).await.unwrap();
        rig.check_the_end();
    }
}

#[tokio::test(start_paused = true)]
async fn in_each_call_of_a_session() {
    hush();
    let script: [fn(&mut World); 4] = [
        |world| world.opens = [Act::Panic].into(),
        |world| world.writes = [Act::Panic].into(),
        |world| world.flushes = [Act::Panic].into(),
        |world| world.closes = [Act::Panic].into(),
    ];
    for (call, set) in script.into_iter().enumerate() {
        let rig = Rig::new(Scripted::new(Durable::AtFlush, false), json!({}));
        set(&mut rig.world());
        let sequence = rig.send(&batch(&schema("n"), 0..3));
        rig.flush().await.unwrap();
        let outcome = rig.outcome(sequence).await;
        // Nothing was written where none was opened; nobody can tell what a call came to that it ended.
        let expected = [
            Status::Failed,
            Status::Unknown,
            Status::Unknown,
            Status::Acknowledged,
        ];
        assert_eq!(outcome.status, expected[call], "call {call}");
        let next = rig.send(&batch(&schema("n"), 3..6));
        rig.flush().await.unwrap();
        assert_eq!(rig.outcome(next).await.status, Status::Acknowledged);
        rig.close(secs(10)).await.unwrap();
        rig.check_the_end();
    }
}

/// Also what comes while its remains are looked through.
#[tokio::test(start_paused = true)]
async fn in_the_engine_and_again_when_it_is_over() {
    hush();
    let rig = Rig::new(Scripted::new(Durable::AtFlush, false), json!({}));
    rig.world().mad = true;
    let prepare = || rig.ask(|reply| rig.transmitter.prepare(schema("n"), reply));
    let asked = [prepare(), prepare()];
    let first = rig.send(&batch(&schema("n"), 0..3));
    let more = [prepare(), prepare()];
    let second = rig.send(&batch(&schema("n"), 3..6));
    for sequence in [first, second] {
        assert_eq!(rig.outcome(sequence).await.error.unwrap().code(), Code::Internal);
    }
    for answer in asked.into_iter().chain(more) {
        assert_eq!(answer.await.unwrap_err().code(), Code::Closed);
    }
    rig.close(secs(1)).await.unwrap();
    assert_eq!(rig.transmitter.in_flight_bytes(), 0);
}

/// The thread that writes them is gone, and with it whoever would have said that they are on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn on_the_thread_of_dead_letters() {
    hush();
    let scripted = Scripted::new(Durable::AtWrite, false);
    scripted.world().refused = [1].into();
    let (settled, mut outcomes) = unbounded_channel::<Outcome>();
    let panics: Arc<Mutex<usize>> = Arc::default();
    let counted = panics.clone();
    // A file where the directory should be: the thread complains, and its complaint panics.
    let place = tempfile::NamedTempFile::new().unwrap();
    let options = json!({ "deadLetter": { "directory": place.path() } });
    let transmitter = Transmitter::start(
        Arc::new(scripted),
        &Config::from_json(&options).unwrap(),
        Pool::new(1 << 20),
        Arc::<Counters>::default(),
        Arc::new(move |event| match event {
            Event::Settled(outcome) => drop(settled.send(*outcome)),
            Event::Log(log) if log.message.contains("dead-letter directory") => {
                *counted.lock().unwrap() += 1;
                panic!("mad");
            }
            _ => {}
        }),
        None,
    );
    for sequence in 1..=3 {
        let handoff_batch = columns(&batch(&schema("n"), 0..3));
        transmitter.request(24).unwrap();
        transmitter.deliver(Delivery {
            sequence,
            handoff_batches: vec![handoff_batch] as Vec<HandoffBatch>,
            bytes: 24,
            charge: 24,
            admitted: std::time::Instant::now(),
            handoff: Duration::ZERO,
            buffers_copied_for_pin_limit: 0,
            payload_digest: None,
        });
        let outcome = tokio::time::timeout(secs(60), outcomes.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!((outcome.sequence, outcome.status), (sequence, Status::Partial));
    }
    let (answer, answered) = tokio::sync::oneshot::channel();
    let reply = Reply::new(move |result| drop(answer.send(result)));
    transmitter.close(secs(10), reply);
    tokio::time::timeout(secs(60), answered)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(*panics.lock().unwrap() > 0, "nothing panicked");
}
