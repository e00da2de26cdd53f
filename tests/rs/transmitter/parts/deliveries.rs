//! Deliveries by themselves, without a write or a session.

use std::collections::BTreeSet;
use std::sync::Mutex;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::*;
use crate::config::DeadLetterOptions;
use crate::destination::Write;
use crate::outcome::{AdmittedDelivery, Rejection};
use crate::transmitter::admission::Admit;
use crate::transmitter::rows::RefusedRange;

const BUDGET: usize = 100;

struct Fixture {
    deliveries: Deliveries,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    events: Arc<Mutex<Vec<Event>>>,
    now: Instant,
}

fn fixture(dead_letters: Option<DeadLetters>) -> Fixture {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let heard = events.clone();
    let observer: Observer = Arc::new(move |event| heard.lock().unwrap().push(event));
    let admission = Arc::new(Admission::new(BUDGET));
    let counters: Arc<Counters> = Arc::default();
    Fixture {
        deliveries: Deliveries::new(dead_letters, None, admission.clone(), counters.clone(), observer),
        admission,
        counters,
        events,
        now: Instant::now(),
    }
}

impl Fixture {
    /// A delivery of so many rows that takes the whole budget, as it comes from the intake.
    fn imported(&self, sequence: u64, rows: usize) -> ImportedDelivery {
        self.admission.request(BUDGET).unwrap();
        self.counters.arriving.add(1);
        self.counters.unsettled.add(1);
        ImportedDelivery {
            entry: AdmittedDelivery {
                sequence,
                rows,
                bytes: rows * 8,
                charge: BUDGET,
                admitted: self.now,
                handoff: Duration::ZERO,
                buffers_copied_for_pin_limit: 0,
                buffers_realigned: 0,
            },
            payload_digest: None,
            slices: Ok(vec![BatchSlice::whole(batch(rows), rows * 8)]),
            captured: None,
        }
    }

    fn enter(&mut self, sequence: u64, rows: usize) {
        let imported = self.imported(sequence, rows);
        let (entered, slices) = self.deliveries.enter(imported, self.now).unwrap();
        assert_eq!((entered, slices[0].rows()), (sequence, rows));
    }

    fn outcomes(&self) -> Vec<(u64, Status, Option<Code>)> {
        let mut events = self.events.lock().unwrap();
        let settled = events.extract_if(.., |event| matches!(event, Event::Settled(_)));
        let outcome = |event| match event {
            Event::Settled(outcome) => {
                let code = outcome.error.map(|error| error.code());
                (outcome.sequence, outcome.status, code)
            }
            other => panic!("{other:?}"),
        };
        settled.map(outcome).collect()
    }
}

fn batch(rows: usize) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

fn range(sequence: u64, first_row: usize, rows: usize) -> RowRange {
    RowRange {
        sequence,
        first_row,
        rows,
    }
}

fn rejection(row: u64) -> Rejection {
    Rejection {
        row,
        code: "NO".into(),
        message: "not this one".into(),
    }
}

/// A write of one delivery, of which the destination refused the second row.
fn second_row_refused(sequence: u64, rows: usize) -> RefusedRanges {
    RefusedRanges {
        write: Arc::new(Write {
            positions: Vec::new(),
            id: 1,
            batches: vec![batch(rows)],
            rows,
            bytes: rows * 8,
        }),
        ranges: vec![RefusedRange {
            range: range(sequence, 0, rows),
            start: 0,
            rejections: vec![rejection(1)],
        }],
    }
}

fn ticket_of(event: &Event) -> u64 {
    match event {
        Event::Granted(ticket) => *ticket,
        other => panic!("{other:?}"),
    }
}

fn replies(told: &Arc<Mutex<Vec<&'static str>>>, name: &'static str) -> Reply {
    let told = told.clone();
    Reply::new(move |result| {
        told.lock()
            .unwrap()
            .push(if result.is_ok() { name } else { "closed" })
    })
}

/// the last row brings the outcome, the budget, and whoever waits for that.
#[test]
fn the_last_row_frees_the_budget_once() {
    let mut fixture = fixture(None);
    fixture.enter(1, 3);
    let Admit::Queued(ticket) = fixture.admission.request(1).unwrap() else {
        panic!("the budget is not full");
    };
    assert!(fixture.deliveries.callers_are_stalled());
    fixture
        .deliveries
        .accept(&range(1, 0, 2), Position::None, fixture.now);
    assert!(fixture.outcomes().is_empty() && !fixture.deliveries.is_empty());
    fixture
        .deliveries
        .accept(&range(1, 2, 1), Position::None, fixture.now);
    assert_eq!(fixture.outcomes(), [(1, Status::Acknowledged, None)]);
    assert!(matches!(fixture.events.lock().unwrap()[..], [Event::Granted(granted)] if granted == ticket));
    assert!(fixture.deliveries.is_empty() && fixture.counters.unsettled.get() == 0);
    // Nothing is left that a second word could settle.
    fixture
        .deliveries
        .accept(&range(1, 0, 3), Position::None, fixture.now);
    assert!(fixture.outcomes().is_empty());
}

/// what never gets as far as a write has an outcome all the same.
#[test]
fn what_is_refused_on_arrival_is_settled() {
    let mut fixture = fixture(None);
    assert!(!fixture.deliveries.abort(1));
    let aborted = fixture.imported(1, 2);
    assert!(fixture.deliveries.enter(aborted, fixture.now).is_none());
    let mut unreadable = fixture.imported(2, 0);
    unreadable.slices = Err(Error::new(Code::BatchInvalid, "unreadable"));
    assert!(fixture.deliveries.enter(unreadable, fixture.now).is_none());
    let empty = fixture.imported(3, 0);
    assert!(fixture.deliveries.enter(empty, fixture.now).is_none());
    fixture.deliveries.stop(Error::new(Code::Unavailable, "stopped"));
    let late = fixture.imported(4, 2);
    assert!(fixture.deliveries.enter(late, fixture.now).is_none());
    let failed = |sequence, code| (sequence, Status::Failed, Some(code));
    assert_eq!(
        fixture.outcomes(),
        [
            failed(1, Code::Aborted),
            failed(2, Code::BatchInvalid),
            (3, Status::Acknowledged, None),
            failed(4, Code::Unavailable),
        ]
    );
    assert_eq!(fixture.admission.in_flight_bytes(), 0);
}

/// rows that were taken back failed; where others were written, the caller hears at once that the
/// outcome is open, and nothing more.
#[test]
fn an_abort_tells_once() {
    let mut fixture = fixture(None);
    fixture.enter(1, 2);
    fixture.enter(2, 2);
    assert!(fixture.deliveries.abort(1) && fixture.deliveries.abort(2));
    fixture
        .deliveries
        .end_aborted(1, vec![range(1, 0, 2)], fixture.now);
    fixture
        .deliveries
        .end_aborted(2, vec![range(2, 1, 1)], fixture.now);
    let aborted = Some(Code::Aborted);
    assert_eq!(
        fixture.outcomes(),
        [(1, Status::Failed, aborted), (2, Status::Unknown, aborted)]
    );
    assert_eq!(fixture.deliveries.sequences(), [2]);
    fixture
        .deliveries
        .accept(&range(2, 0, 1), Position::None, fixture.now);
    assert!(fixture.outcomes().is_empty() && fixture.deliveries.is_empty());
    assert_eq!(fixture.admission.in_flight_bytes(), 0);
}

/// a flush waits for what arrived before it, and for nothing else.
#[test]
fn a_flush_is_answered_when_all_before_it_is_settled() {
    let told = Arc::default();
    let mut fixture = fixture(None);
    fixture.enter(1, 1);
    fixture.enter(2, 1);
    fixture.deliveries.flush(replies(&told, "flush"));
    fixture.enter(3, 1);
    assert_eq!(fixture.deliveries.flush_barrier(), Some(2));
    for (sequence, answered) in [(3, 0), (1, 0), (2, 1)] {
        fixture
            .deliveries
            .accept(&range(sequence, 0, 1), Position::None, fixture.now);
        fixture.deliveries.answer_flushes();
        assert_eq!(told.lock().unwrap().len(), answered);
    }
    assert_eq!(told.lock().unwrap()[..], ["flush"]);
}

/// the outcome comes once the refused rows are on the disk; a flush waits for it.
#[tokio::test]
async fn refused_rows_are_on_the_disk_before_the_outcome_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let options = DeadLetterOptions {
        directory: directory.path().to_path_buf(),
        max_file_bytes: 1 << 20,
        max_bytes: 1 << 20,
        max_files: 10,
        max_age: None,
    };
    let dead_letters = DeadLetters::open(options, Arc::default(), Box::new(|text, _| panic!("{text}")));
    let told = Arc::default();
    let mut fixture = fixture(Some(dead_letters));
    fixture.enter(1, 3);
    fixture.deliveries.flush(replies(&told, "flush"));
    fixture
        .deliveries
        .refuse(second_row_refused(1, 3), Position::None, fixture.now);
    fixture.deliveries.answer_flushes();
    assert!(fixture.outcomes().is_empty() && told.lock().unwrap().is_empty());
    assert!(fixture.deliveries.all_settled() && !fixture.deliveries.is_empty());
    let kept = fixture.deliveries.next_kept().await.unwrap();
    assert!(std::fs::read_dir(directory.path()).unwrap().next().is_some());
    fixture.deliveries.kept(kept);
    fixture.deliveries.answer_flushes();
    assert_eq!(
        fixture.outcomes(),
        [(1, Status::Partial, Some(Code::RowsRejected))]
    );
    assert_eq!(told.lock().unwrap()[..], ["flush"]);
    // Past its deadline nobody waits for the disk.
    fixture.enter(2, 3);
    fixture
        .deliveries
        .refuse(second_row_refused(2, 3), Position::None, fixture.now);
    fixture.deliveries.wait_for_the_disk_no_longer();
    assert_eq!(fixture.outcomes().len(), 1);
    let late = fixture.deliveries.next_kept().await.unwrap();
    fixture.deliveries.kept(late);
    assert!(fixture.outcomes().is_empty(), "told twice");
    fixture
        .deliveries
        .close_dead_letters(Duration::from_secs(60))
        .await;
    let mut names = std::fs::read_dir(directory.path()).unwrap();
    assert!(names.any(|entry| {
        entry
            .unwrap()
            .path()
            .extension()
            .is_some_and(|end| end == "arrow")
    }));
}

/// the memory of a write goes before the budget that stood for it.
#[test]
fn memory_goes_before_its_budget() {
    let mut fixture = fixture(None);
    fixture.enter(1, 3);
    let refused = second_row_refused(1, 3);
    let write = Arc::downgrade(&refused.write);
    let admission = fixture.admission.clone();
    let gone_first = Arc::new(Mutex::new(None));
    let seen = gone_first.clone();
    fixture.deliveries.observer = Arc::new(move |event| {
        if matches!(event, Event::Settled(_)) {
            let in_flight = admission.in_flight_bytes();
            *seen.lock().unwrap() = Some((write.strong_count(), in_flight));
        }
    });
    fixture.deliveries.refuse(refused, Position::None, fixture.now);
    assert_eq!(*gone_first.lock().unwrap(), Some((0, BUDGET)));
    assert_eq!(fixture.admission.in_flight_bytes(), 0);
}

/// bytes that changed on their way are no acknowledgement.
#[test]
fn a_changed_payload_is_unknown() {
    let mut fixture = fixture(None);
    for (sequence, unchanged) in [(1, true), (2, false)] {
        let mut imported = fixture.imported(sequence, 1);
        imported.payload_digest = Some(Box::new(move || unchanged));
        fixture.deliveries.enter(imported, fixture.now).unwrap();
        fixture
            .deliveries
            .accept(&range(sequence, 0, 1), Position::None, fixture.now);
    }
    assert_eq!(
        fixture.outcomes(),
        [
            (1, Status::Acknowledged, None),
            (2, Status::Unknown, Some(Code::PayloadChanged))
        ]
    );
}

/// after a panic nobody waits for ever: not for an outcome, a flush or the budget.
#[test]
fn a_panic_leaves_nobody_waiting() {
    let told = Arc::default();
    let mut fixture = fixture(None);
    fixture.enter(1, 2);
    fixture.deliveries.flush(replies(&told, "flush"));
    let Admit::Queued(ticket) = fixture.admission.request(1).unwrap() else {
        panic!("the budget is not full");
    };
    fixture.admission.request(BUDGET).unwrap();
    let in_doubt = Error::new(Code::Internal, "panicked").ambiguous();
    fixture.deliveries.settle_after_panic(&in_doubt, fixture.now);
    fixture.deliveries.close_admission();
    assert_eq!(fixture.outcomes(), [(1, Status::Unknown, Some(Code::Internal))]);
    assert_eq!(told.lock().unwrap()[..], ["closed"]);
    let woken: BTreeSet<u64> = fixture.events.lock().unwrap().iter().map(ticket_of).collect();
    assert_eq!(woken.len(), 2, "one waits for ever");
    assert!(woken.contains(&ticket));
    assert!(fixture.admission.request(1).is_err());
}
