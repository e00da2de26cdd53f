//! a retry predicate can end what would be tried again, and whatever else it does changes nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_ingest::callbacks::RetryPredicate;
use arrow_ingest::config::Config;
use arrow_ingest::error::{Code, Error, Result};
use arrow_ingest::outcome::Status;
use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Notify;

use crate::support::rig::Rig;
use crate::support::scripted::{Act, Durable, Scripted, never, transient};
use crate::support::{batch, schema};

/// What a predicate does when it is asked; at the end of the script it says yes.
enum Says {
    Verdict(bool),
    After(Duration, bool),
    Fails,
    Nothing,
}

#[derive(Default)]
struct Scripter {
    script: Mutex<VecDeque<Says>>,
    asked: Mutex<Vec<Error>>,
    /// Rung whenever it is asked.
    bell: Notify,
}

#[async_trait]
impl RetryPredicate for Scripter {
    async fn allows(&self, error: &Error) -> Result<bool> {
        self.asked.lock().unwrap().push(error.clone());
        self.bell.notify_one();
        let says = self.script.lock().unwrap().pop_front();
        match says {
            None => Ok(true),
            Some(Says::Verdict(verdict)) => Ok(verdict),
            Some(Says::After(time, verdict)) => {
                tokio::time::sleep(time).await;
                Ok(verdict)
            }
            Some(Says::Fails) => Err(Error::new(Code::ConfigInvalid, "it threw")),
            Some(Says::Nothing) => std::future::pending().await,
        }
    }
}

impl Scripter {
    fn saying(script: impl Into<VecDeque<Says>>) -> Arc<Scripter> {
        Arc::new(Scripter {
            script: Mutex::new(script.into()),
            ..Scripter::default()
        })
    }

    /// Waits until it was asked so often.
    async fn until_asked(&self, times: usize) {
        while self.asked.lock().unwrap().len() < times {
            self.bell.notified().await;
        }
    }

    /// How often each that it was asked about had been tried.
    fn attempts_asked(&self) -> Vec<u32> {
        self.asked.lock().unwrap().iter().map(Error::attempts).collect()
    }
}

fn rig(predicate: &Arc<Scripter>, options: serde_json::Value) -> Rig {
    let scripted = Scripted::new(Durable::AtWrite, false);
    Rig::asking(scripted, options, predicate.clone())
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn warnings_of_predicate(rig: &Rig) -> usize {
    let heard = rig.heard();
    let is_warning = |log: &&arrow_ingest::transmitter::Log| log.message.contains("no verdict");
    heard.logs.iter().filter(is_warning).count()
}

fn errors_logged(rig: &Rig) -> usize {
    let heard = rig.heard();
    heard.logs.iter().filter(|log| log.level == "error").count()
}

/// Two writes, of which the first was tried twice and the second once, the first try eight seconds before
/// that. The script begins with what is said of that first try.
fn tried_unequally(predicate: &Arc<Scripter>, retry: serde_json::Value) -> (Rig, [u64; 2]) {
    let options = json!({
        "batching": { "maxRows": 3 }, "inflight": { "maxWrites": 2 }, "retry": retry,
    });
    let rig = Rig::asking(Scripted::new(Durable::AtFlush, false), options, predicate.clone());
    let first = transient().retry_after(secs(8));
    rig.world().writes = [Act::Fail(first), Act::Pass, Act::Fail(transient())].into();
    let send = |n: i64| rig.send(&batch(&schema("n"), n * 3..n * 3 + 3));
    let sequences = [send(0), send(1)];
    (rig, sequences)
}

async fn close(rig: Rig) {
    rig.close(secs(100)).await.unwrap();
    rig.check_the_end();
}

#[tokio::test(start_paused = true)]
async fn is_asked_before_each_other_try_and_knows_what_was_tried() {
    let predicate = Scripter::saying([]);
    let rig = rig(
        &predicate,
        json!({ "retry": { "baseDelay": "1s", "attempts": 4 } }),
    );
    rig.world().writes = vec![Act::Fail(transient()); 4].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.attempts, 4);
    // The fourth failure is the last one: there is nothing to ask.
    assert_eq!(predicate.attempts_asked(), [1, 2, 3]);
    let elapsed: Vec<f64> = {
        let asked = predicate.asked.lock().unwrap();
        let number = |error: &Error| error.to_json()["elapsedMs"].as_f64().unwrap();
        asked.iter().map(number).collect()
    };
    assert!(elapsed.is_sorted() && elapsed[2] > 0.0, "{elapsed:?}");
    close(rig).await;
}

#[tokio::test(start_paused = true)]
async fn no_fails_the_write_at_once_with_its_error_and_the_next_one_goes() {
    for script in [Says::Verdict(false), Says::After(secs(3), false)] {
        let predicate = Scripter::saying([script]);
        let rig = rig(
            &predicate,
            json!({ "retry": { "baseDelay": "1h", "maxDelay": "1h", "deadline": "3h" } }),
        );
        rig.world().writes = [Act::Fail(transient())].into();
        let start = tokio::time::Instant::now();
        let lost = rig.send(&batch(&schema("n"), 0..3));
        let outcome = rig.outcome(lost).await;
        assert!(start.elapsed() < secs(5), "{:?}", start.elapsed());
        let error = outcome.error.unwrap();
        assert_eq!(
            (outcome.status, outcome.attempts, error.code(), error.attempts()),
            (Status::Failed, 1, Code::Unavailable, 1)
        );
        let next = rig.send(&batch(&schema("n"), 3..6));
        assert_eq!(rig.outcome(next).await.status, Status::Acknowledged);
        assert_eq!(rig.world().held, [3, 4, 5]);
        close(rig).await;
    }
}

/// no other try, but perhaps it landed.
#[tokio::test(start_paused = true)]
async fn no_after_an_ambiguous_failure_leaves_it_unknown() {
    let predicate = Scripter::saying([Says::Verdict(false)]);
    let rig = rig(&predicate, json!({}));
    rig.world().writes = [Act::KeepAndFail(transient().ambiguous())].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(sequence).await.status, Status::Unknown);
    close(rig).await;
}

#[tokio::test(start_paused = true)]
async fn is_not_asked_about_what_cannot_help_or_costs_nothing() {
    let predicate = Scripter::saying([]);
    let rig = rig(&predicate, json!({ "retry": { "attempts": 2 } }));
    rig.world().writes = [Act::Fail(never()), Act::Fail(transient().graceful())].into();
    let refused = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(refused).await.status, Status::Failed);
    let rotated = rig.send(&batch(&schema("n"), 3..6));
    assert_eq!(rig.outcome(rotated).await.status, Status::Acknowledged);
    assert!(predicate.attempts_asked().is_empty());
    close(rig).await;
}

/// An hour's thought would end in a write that comes much too late.
#[tokio::test(start_paused = true)]
async fn one_that_fails_or_never_answers_leaves_it_to_the_retry_class_with_one_warning() {
    for script in [Says::Fails, Says::Nothing, Says::After(secs(3600), false)] {
        let predicate = Scripter::saying([script]);
        let rig = rig(&predicate, json!({ "retry": { "whenTimeout": "4s" } }));
        rig.world().writes = [Act::Fail(transient())].into();
        let start = tokio::time::Instant::now();
        let sequence = rig.send(&batch(&schema("n"), 0..3));
        let outcome = rig.outcome(sequence).await;
        assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 2));
        assert!(start.elapsed() < secs(5), "{:?}", start.elapsed());
        assert_eq!(warnings_of_predicate(&rig), 1);
        tokio::time::sleep(secs(4000)).await;
        close(rig).await;
    }
}

/// Nobody is tried again past the deadline, also when it was the thinking that took so long.
#[tokio::test(start_paused = true)]
async fn time_spent_thinking_counts() {
    let predicate = Scripter::saying([Says::After(secs(4), true)]);
    let rig = rig(&predicate, json!({ "retry": { "deadline": "2s" } }));
    rig.world().writes = [Act::Fail(transient())].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    let outcome = rig.outcome(sequence).await;
    assert_eq!((outcome.status, outcome.attempts), (Status::Failed, 1));
    assert_eq!(rig.world().calls_like("write").len(), 1);
    close(rig).await;
}

/// `retry.deadline` ends the wait for an answer, of those that have reached it, and of no others.
#[tokio::test(start_paused = true)]
async fn the_deadline_does_not_wait_for_an_answer() {
    let about_other = Says::After(secs(5), true);
    let predicate = Scripter::saying([Says::Verdict(true), Says::Nothing, about_other]);
    let retry = json!({ "baseDelay": 0, "maxDelay": 0, "whenTimeout": "1h", "deadline": "10s" });
    let start = tokio::time::Instant::now();
    let options = json!({ "batching": { "maxRows": 3 }, "inflight": { "maxWrites": 2 }, "retry": retry });
    let rig = Rig::asking(Scripted::new(Durable::AtFlush, false), options, predicate.clone());
    let first = transient().retry_after(secs(8));
    rig.world().writes = [Act::Fail(first), Act::Pass, Act::Fail(transient())].into();
    let late = rig.send(&batch(&schema("n"), 0..3));
    // Let in later, so that its clock began later.
    tokio::time::sleep(secs(5)).await;
    let other = rig.send(&batch(&schema("n"), 3..6));
    let flush = rig.ask(|reply| rig.transmitter.flush(reply));
    let outcome = rig.outcome(late).await;
    assert_eq!(start.elapsed().as_secs(), 10);
    let error = outcome.error.unwrap();
    assert_eq!(
        (outcome.status, error.code(), error.attempts()),
        (Status::Failed, Code::Unavailable, 2)
    );
    assert_eq!(errors_logged(&rig), 1);
    let outcome = rig.outcome(other).await;
    assert_eq!(start.elapsed().as_secs(), 13);
    assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 2));
    flush.await.unwrap();
    assert_eq!(warnings_of_predicate(&rig), 0);
    close(rig).await;
}

/// Two writes of one session may have been tried unequally often: the verdict on one is not the other's.
#[tokio::test(start_paused = true)]
async fn writes_are_judged_by_their_own_attempts_and_unsent_ones_not_at_all() {
    let predicate = Scripter::saying([Says::Verdict(true), Says::Verdict(false), Says::Nothing]);
    let options = json!({
        "batching": { "maxRows": 3 }, "inflight": { "maxWrites": 3 }, "retry": { "whenTimeout": "4s" },
    });
    let scripted = Scripted::new(Durable::AtFlush, false);
    let rig = Rig::asking(scripted, options, predicate.clone());
    // The first session takes one write and breaks on it, the second takes two and breaks on the second.
    rig.world().writes = [Act::Fail(transient()), Act::Pass, Act::Fail(transient())].into();
    let sequences: Vec<u64> = (0..3)
        .map(|n| rig.send(&batch(&schema("n"), n * 3..n * 3 + 3)))
        .collect();
    rig.flush().await.unwrap();
    assert_eq!(predicate.attempts_asked(), [1, 2, 1]);
    let mut statuses = Vec::new();
    for sequence in sequences {
        statuses.push(rig.outcome(sequence).await.status);
    }
    assert_eq!(
        statuses,
        [Status::Failed, Status::Acknowledged, Status::Acknowledged]
    );
    assert_eq!(rig.world().held, [3, 4, 5, 6, 7, 8]);
    assert_eq!(warnings_of_predicate(&rig), 1);
    close(rig).await;
}

#[tokio::test(start_paused = true)]
async fn opening_for_the_first_write_asks_once_about_all_that_wait() {
    let predicate = Scripter::saying([Says::Verdict(false)]);
    let rig = rig(&predicate, json!({}));
    rig.world().opens = [Act::Fail(transient())].into();
    let sequences: Vec<u64> = (0..3)
        .map(|n| rig.send(&batch(&schema("n"), n * 3..n * 3 + 3)))
        .collect();
    for sequence in sequences {
        let outcome = rig.outcome(sequence).await;
        assert_eq!((outcome.status, outcome.attempts), (Status::Failed, 1));
    }
    assert_eq!(predicate.attempts_asked(), [1]);
    close(rig).await;
}

/// No session can be opened for any of them: those that the last one had, too, and they were tried equally often.
#[tokio::test(start_paused = true)]
async fn opening_anew_asks_once_about_all_writes_that_wait() {
    let predicate = Scripter::saying([Says::Verdict(true), Says::Verdict(false)]);
    let options = json!({ "batching": { "maxRows": 3 }, "inflight": { "maxWrites": 3 } });
    let rig = Rig::asking(Scripted::new(Durable::AtFlush, false), options, predicate.clone());
    rig.world().opens = [Act::Pass, Act::Fail(transient())].into();
    rig.world().writes = [Act::Pass, Act::Pass, Act::Fail(transient())].into();
    let sequences: Vec<u64> = (0..3)
        .map(|n| rig.send(&batch(&schema("n"), n * 3..n * 3 + 3)))
        .collect();
    for sequence in sequences {
        let outcome = rig.outcome(sequence).await;
        assert_eq!((outcome.status, outcome.attempts), (Status::Failed, 2));
    }
    assert_eq!(predicate.attempts_asked(), [1, 2]);
    close(rig).await;
}

/// The session was there and took nothing: its end is a failure of all that wait.
#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_before_it_is_given_anything_is_asked_about() {
    let predicate = Scripter::saying([Says::Verdict(true), Says::Verdict(false)]);
    let rig = rig(&predicate, json!({}));
    rig.world().opens = vec![Act::BreakNow(transient()); 10].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    let outcome = rig.outcome(sequence).await;
    assert_eq!((outcome.status, outcome.attempts), (Status::Failed, 2));
    assert_eq!(predicate.attempts_asked(), [1, 2]);
    rig.world().opens.clear();
    close(rig).await;
}

///
#[tokio::test(start_paused = true)]
async fn close_keeps_its_deadline_while_a_verdict_is_owed() {
    let predicate = Scripter::saying([Says::Nothing]);
    let rig = rig(&predicate, json!({ "retry": { "whenTimeout": "1h" } }));
    rig.world().writes = [Act::Fail(transient())].into();
    let sequence = rig.send(&batch(&schema("n"), 0..3));
    predicate.bell.notified().await;
    let start = tokio::time::Instant::now();
    rig.close(secs(7)).await.unwrap();
    assert!(start.elapsed() <= secs(8), "{:?}", start.elapsed());
    assert_eq!(rig.outcome(sequence).await.status, Status::Failed);
    rig.check_the_end();
}

/// What was aborted needs no verdict, and what comes after it does not wait for one.
#[tokio::test(start_paused = true)]
async fn an_abort_ends_the_question() {
    let predicate = Scripter::saying([Says::Nothing]);
    let rig = rig(&predicate, json!({ "retry": { "whenTimeout": "1h" } }));
    rig.world().writes = [Act::Fail(transient())].into();
    let aborted = rig.send(&batch(&schema("n"), 0..3));
    predicate.bell.notified().await;
    rig.transmitter.abort(aborted);
    assert_eq!(rig.outcome(aborted).await.error.unwrap().code(), Code::Aborted);
    let start = tokio::time::Instant::now();
    let next = rig.send(&batch(&schema("n"), 3..6));
    assert_eq!(rig.outcome(next).await.status, Status::Acknowledged);
    assert!(start.elapsed() < secs(2), "{:?}", start.elapsed());
    assert_eq!(warnings_of_predicate(&rig), 0);
    close(rig).await;
}

/// A question about what was aborted holds up nobody, and its answer is nobody's.
#[tokio::test(start_paused = true)]
async fn an_abort_ends_its_own_question_and_no_other() {
    for about_aborted in [Says::Nothing, Says::After(secs(2), false), Says::Fails] {
        let is_said_at_once = matches!(about_aborted, Says::Fails);
        let about_other = Says::After(secs(5), true);
        let predicate = Scripter::saying([Says::Verdict(true), about_aborted, about_other]);
        let retry = json!({ "baseDelay": 0, "maxDelay": 0, "whenTimeout": "1h" });
        let (rig, [aborted, other]) = tried_unequally(&predicate, retry);
        predicate.until_asked(3).await;
        let start = tokio::time::Instant::now();
        rig.transmitter.abort(aborted);
        assert_eq!(rig.outcome(aborted).await.error.unwrap().code(), Code::Aborted);
        let flush = rig.ask(|reply| rig.transmitter.flush(reply));
        let outcome = rig.outcome(other).await;
        assert_eq!((outcome.status, outcome.attempts), (Status::Acknowledged, 2));
        assert_eq!(start.elapsed().as_secs(), 5);
        flush.await.unwrap();
        assert_eq!(predicate.attempts_asked(), [1, 2, 1]);
        assert_eq!(warnings_of_predicate(&rig), usize::from(is_said_at_once));
        assert_eq!(errors_logged(&rig), 0);
        close(rig).await;
    }
}

/// `onExhausted: "stop"` holds for what a predicate ends, too.
#[tokio::test(start_paused = true)]
async fn no_stops_everything_where_that_was_asked_for() {
    let predicate = Scripter::saying([Says::Verdict(false)]);
    let rig = rig(&predicate, json!({ "retry": { "onExhausted": "stop" } }));
    rig.world().writes = [Act::Fail(transient())].into();
    let lost = rig.send(&batch(&schema("n"), 0..3));
    assert_eq!(rig.outcome(lost).await.status, Status::Failed);
    let next = rig.send(&batch(&schema("n"), 3..6));
    let error = rig.outcome(next).await.error.unwrap();
    assert!(error.message().contains("stopped"), "{error}");
    close(rig).await;
}

/// what stands in a log names the predicate and shows nothing of it.
#[test]
fn options_that_are_shown_show_nothing_of_their_predicate() {
    let mut retry = Config::default().retry;
    assert!(format!("{retry:?}").contains("predicate: None"));
    retry.predicate = Some(Scripter::saying([Says::Verdict(false)]));
    assert!(format!("{retry:?}").contains("predicate: Some(RetryPredicate)"));
}
