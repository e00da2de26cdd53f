//! Sessions by themselves, without a write in a window or a delivery.

use std::sync::Mutex;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use tokio::sync::Notify;

use super::*;
use crate::callbacks::RetryPredicate;
use crate::config::Config;
use crate::destination::discard::Discard;
use crate::destination::{Capabilities, Opened, Opening};
use crate::error::Code;

/// As `discard:`, and it takes note of what its sessions are opened with.
#[derive(Default)]
struct Noting {
    resumed_from: Mutex<Vec<Option<u64>>>,
    /// Sessions open once this is told, where it is set.
    gate: Option<Notify>,
}

#[async_trait]
impl Destination for Noting {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tells_what_landed: true,
            ..Discard.capabilities()
        }
    }

    fn computes_on(&self, schema: &Schema) -> bool {
        Discard.computes_on(schema)
    }

    async fn check(&self) -> Result<()> {
        Discard.check().await
    }

    async fn open(&self, opening: Opening) -> Result<Opened> {
        self.resumed_from.lock().unwrap().push(opening.resume_from);
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        Discard.open(opening).await
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn write(id: u64) -> Arc<Write> {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    Arc::new(Write {
        positions: Vec::new(),
        id,
        batches: vec![RecordBatch::try_new(schema(), vec![column]).unwrap()],
        rows: 1,
        bytes: 8,
    })
}

fn sessions(destination: &Arc<Noting>, retry: RetryOptions) -> Sessions {
    Sessions::new(destination.clone(), retry, Uuid::new_v4(), None)
}

fn retry() -> RetryOptions {
    Config::default().retry
}

async fn opened(sessions: &mut Sessions) -> bool {
    sessions.open(schema());
    assert!(!sessions.is_open() && sessions.is_between() && !sessions.is_absent());
    let Some(SessionEventKind::Opened { conclusive, .. }) = sessions.next_event().await else {
        panic!("no session");
    };
    sessions.opened();
    assert!(sessions.is_open() && sessions.schema() == Some(&schema()));
    sessions.looked(conclusive)
}

fn away() -> Error {
    Error::new(Code::Unavailable, "away")
}

/// a session takes writes and flushes, is drained, and then there is none.
#[tokio::test(start_paused = true)]
async fn one_session_lives_from_its_opening_to_its_close() {
    let destination = Arc::new(Noting::default());
    let mut sessions = sessions(&destination, retry());
    assert!(sessions.is_closed());
    opened(&mut sessions).await;
    sessions.write(write(1));
    sessions.flush(1, 1);
    // One that covers it is under way.
    sessions.flush(1, 1);
    sessions.drain();
    assert!(sessions.is_between() && !sessions.is_absent());
    let mut said = Vec::new();
    loop {
        said.push(match sessions.next_event().await.unwrap() {
            SessionEventKind::Sent { id } => format!("sent {id}"),
            SessionEventKind::Written { id, .. } => format!("written {id}"),
            SessionEventKind::Acknowledged(_) => "acknowledged".into(),
            SessionEventKind::Flushed { through } => format!("flushed {through}"),
            SessionEventKind::Closed => break,
            _ => panic!("after {said:?}"),
        });
    }
    assert_eq!(said, ["sent 1", "written 1", "acknowledged", "flushed 1"]);
    sessions.closed();
    assert!(sessions.is_closed() && sessions.is_absent() && sessions.schema().is_none());
}

/// what an earlier session still says would be taken for the word of the one that is open.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_given_up_is_not_heard() {
    let destination = Arc::new(Noting::default());
    let mut sessions = sessions(&destination, retry());
    opened(&mut sessions).await;
    sessions.write(write(1));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let broken = sessions.broke();
    assert!(broken.schema.is_some() && !broken.was_draining && broken.prepare.is_none());
    assert!(!broken.has_writes, "nobody heard that it was given one");
    opened(&mut sessions).await;
    sessions.sent();
    assert!(sessions.broke().has_writes);
}

/// the next session looks for the oldest write that may have landed, until a look is conclusive.
#[tokio::test(start_paused = true)]
async fn writes_in_doubt_are_asked_about() {
    let destination = Arc::new(Noting::default());
    let mut sessions = sessions(&destination, retry());
    assert!(!opened(&mut sessions).await, "nothing was asked about");
    sessions.broke();
    sessions.resume_from(7, 5);
    sessions.resume_from(9, 5);
    sessions.open(schema());
    assert!(sessions.next_event().await.is_some());
    sessions.opened();
    assert!(!sessions.looked(false));
    sessions.broke();
    // What came before is settled by now.
    sessions.resume_from(9, 8);
    assert!(
        opened(&mut sessions).await,
        "a look that says of all whether they landed"
    );
    sessions.broke();
    opened(&mut sessions).await;
    let mut resumed = destination.resumed_from.lock().unwrap().clone();
    resumed.dedup();
    assert_eq!(resumed, [None, Some(7), Some(8), None]);
}

/// the clock of a delivery begins when it is admitted, or when the destination was last there.
#[tokio::test(start_paused = true)]
async fn the_clock_begins_when_the_destination_was_last_there() {
    let retry = RetryOptions {
        deadline: Duration::from_secs(60),
        ..retry()
    };
    let mut sessions = sessions(&Arc::new(Noting::default()), retry);
    let admitted = Instant::now();
    let later = |seconds| admitted + Duration::from_secs(seconds);
    assert_eq!(sessions.too_late_before(later(100)), Some(later(40)));
    assert_eq!(sessions.wake_at(Some(admitted)), None, "nothing opens");
    sessions.open(schema());
    let moment = Duration::from_millis(1);
    assert_eq!(sessions.wake_at(Some(admitted)), Some(later(60) + moment));
    sessions.acknowledged(later(50));
    assert_eq!(sessions.too_late_before(later(100)), None);
    assert_eq!(sessions.too_late_before(later(111)), Some(later(51)));
    assert_eq!(sessions.clock_began(Some(admitted)), Some(later(50)));
    assert_eq!(sessions.wake_at(Some(admitted)), Some(later(110) + moment));
    // It breaks off: until then it was there.
    sessions.broke();
    sessions.failed(&away(), Operation::Flush, later(70));
    assert_eq!(sessions.clock_began(Some(admitted)), Some(later(70)));
    // And is away since: what fails now is no sign of life.
    sessions.failed(&away(), Operation::Flush, later(80));
    sessions.failed(&away(), Operation::Open, later(80));
    assert_eq!(sessions.clock_began(Some(admitted)), Some(later(70)));
    assert_eq!(sessions.clock_began(Some(later(90))), Some(later(90)));
    assert!(sessions.outage().is_some() && sessions.strikes() == 3);
    assert!(sessions.why_unavailable()[0].contains("away"));
    sessions.acknowledged(later(95));
    assert!(sessions.outage().is_none() && sessions.why_unavailable().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_it_is_over() {
    let mut sessions = sessions(&Arc::new(Noting::default()), retry());
    let now = Instant::now();
    let due = now + Duration::from_secs(5);
    sessions.wait(due, away(), Vec::new(), now);
    assert!(sessions.is_absent() && !sessions.is_closed());
    assert_eq!(sessions.wake_at(None), Some(due));
    sessions.expire(now);
    assert!(!sessions.is_closed());
    sessions.expire(due);
    assert!(sessions.is_closed());
}

/// nobody waits for a session that opens when nothing is left for it, and `prepare` is answered however
/// it ends.
#[tokio::test(start_paused = true)]
async fn a_session_that_opens_is_given_up_or_prepared() {
    let destination = Arc::new(Noting {
        gate: Some(Notify::new()),
        ..Noting::default()
    });
    let mut sessions = sessions(&destination, retry());
    sessions.open(schema());
    assert!(sessions.why_unavailable()[0].contains("had not answered"));
    sessions.finish();
    assert!(sessions.is_closed());
    let told = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        let heard = told.clone();
        let reply = Reply::new(move |result| heard.lock().unwrap().push(result.is_ok()));
        sessions.prepare(schema(), reply);
        destination.gate.as_ref().unwrap().notify_one();
        let Some(SessionEventKind::Opened { .. }) = sessions.next_event().await else {
            panic!("no session");
        };
        if told.lock().unwrap().is_empty() {
            sessions.opened();
            sessions.finish();
            assert!(sessions.is_between(), "an open one is drained");
            sessions.broke();
        } else {
            sessions.broke().prepare.unwrap().answer(Err(away()));
        }
    }
    assert_eq!(*told.lock().unwrap(), [true, false]);
}

/// Answers what the test says, of how many tries it was asked.
#[derive(Default)]
struct Answers(Mutex<Vec<(u32, Result<bool>)>>);

#[async_trait]
impl RetryPredicate for Answers {
    async fn allows(&self, error: &Error) -> Result<bool> {
        let answer = {
            let mut answers = self.0.lock().unwrap();
            let mut asked = answers.iter();
            let index = asked.position(|(attempts, _)| *attempts == error.attempts());
            index.map(|index| answers.remove(index).1)
        };
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

fn asking(answers: Vec<(u32, Result<bool>)>) -> (Sessions, Instant) {
    let retry = RetryOptions {
        predicate: Some(Arc::new(Answers(Mutex::new(answers)))),
        patience: Duration::from_secs(5),
        ..retry()
    };
    let mut sessions = sessions(&Arc::new(Noting::default()), retry);
    assert!(sessions.has_predicate());
    let now = Instant::now();
    let tried = |ids: &[u64], attempts| EquallyTried {
        ids: ids.to_vec(),
        error: away().after(attempts, Duration::ZERO),
    };
    let all = vec![tried(&[1, 2], 3), tried(&[3], 2), tried(&[4], 1)];
    sessions.wait(now + Duration::from_secs(1), away(), all, now);
    assert!(sessions.is_absent() && sessions.asked_about().is_some());
    (sessions, now)
}

async fn next_answer(sessions: &mut Sessions) -> RetryAnswer {
    match sessions.next_event().await {
        Some(SessionEventKind::RetryAnswered { oldest, answer }) => sessions.answered(oldest, answer),
        _ => panic!("no answer"),
    }
}

/// the predicate is asked once of writes that were tried equally often, and its no ends these alone.
#[tokio::test(start_paused = true)]
async fn a_no_of_the_predicate_ends_the_writes_it_is_about() {
    let broken = || Err(Error::new(Code::Internal, "threw"));
    let (mut sessions, now) = asking(vec![(3, Ok(false)), (2, broken()), (1, broken())]);
    let (mut denied, mut problems) = (Vec::new(), 0);
    for _ in 0..3 {
        assert!(sessions.stop_asking(now, |_| true).is_none());
        match next_answer(&mut sessions).await {
            RetryAnswer::Allowed => {}
            RetryAnswer::Denied(ids, _) => denied.extend(ids),
            RetryAnswer::Unusable(_) => problems += 1,
        }
    }
    assert_eq!((denied, problems), (vec![1, 2], 1));
    assert!(sessions.stop_asking(now, |_| true).is_none(), "it was warned of");
    assert!(sessions.asked_about().is_none());
    assert_eq!(sessions.wake_at(None), Some(now + Duration::from_secs(1)));
    // Answers that nobody waits for change nothing.
    assert!(matches!(sessions.answered(1, Ok(false)), RetryAnswer::Allowed));
}

/// no answer is waited for past its patience, nor past the deadline, nor about writes that are gone.
#[tokio::test(start_paused = true)]
async fn a_predicate_that_does_not_answer_holds_up_nobody() {
    let (mut silent, now) = asking(vec![(3, Ok(true))]);
    assert!(matches!(next_answer(&mut silent).await, RetryAnswer::Allowed));
    assert!(
        matches!(silent.answered(1, Ok(false)), RetryAnswer::Allowed),
        "answered twice"
    );
    let patience = now + Duration::from_secs(5);
    assert_eq!(silent.wake_at(None), Some(patience));
    let admitted = now.checked_sub(retry().deadline).unwrap();
    assert_eq!(
        silent.wake_at(Some(admitted)),
        Some(now + Duration::from_millis(1))
    );
    assert!(silent.stop_asking(now, |id| id == 3).is_none() && silent.asked_about().is_some());
    let problem = silent.stop_asking(patience, |id| id == 3).unwrap();
    assert!(problem.message().contains("no answer within 5s"));
    assert!(silent.asked_about().is_none());

    let (mut gone, now) = asking(Vec::new());
    assert!(gone.stop_asking(now, |_| false).is_none());
    assert!(gone.asked_about().is_none(), "nobody is left to be asked about");
}
