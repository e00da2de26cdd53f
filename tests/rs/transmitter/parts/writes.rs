//! Writes by themselves, without a session or a delivery.

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::destination::Destination;
use crate::destination::discard::Discard;
use crate::error::Code;

const MAX_ROWS: usize = 4;

struct Fixture {
    writes: Writes,
    sequence: u64,
    next_row: i64,
    now: Instant,
}

/// Writes of up to four rows, three in the window.
fn fixture() -> Fixture {
    let batching = BatchingOptions {
        max_rows: MAX_ROWS,
        max_bytes: 1 << 20,
        linger: Duration::from_secs(1),
    };
    let quarantine = QuarantineOptions {
        enabled: true,
        max_attempts: 100,
        deadline: Duration::from_secs(60),
    };
    let capabilities = Capabilities {
        refusals_are_atomic: true,
        ..Discard.capabilities()
    };
    let interval = Some(Duration::from_secs(1));
    Fixture {
        writes: Writes::new(&batching, 3, &quarantine, capabilities, interval, false),
        sequence: 0,
        next_row: 0,
        now: Instant::now(),
    }
}

fn schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, false)]))
}

impl Fixture {
    /// A delivery of so many rows, which are numbered through all deliveries.
    fn push(&mut self, rows: usize) -> u64 {
        self.push_as("n", rows)
    }

    fn push_as(&mut self, name: &str, rows: usize) -> u64 {
        let first = self.next_row;
        self.next_row += rows as i64;
        self.sequence += 1;
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first..self.next_row));
        let batch = RecordBatch::try_new(schema(name), vec![column]).unwrap();
        let slices = vec![BatchSlice::whole(batch, rows * 8)];
        self.writes.push(self.sequence, slices, self.now);
        self.sequence
    }

    fn fill(&mut self, demand: &Demand<'_>) {
        let session = Some(schema("n"));
        assert!(self.writes.fill(self.now, session.as_ref(), demand).is_none());
    }

    /// Gives the session everything that is in the window.
    fn send(&mut self) -> Vec<Arc<Write>> {
        let sent: Vec<_> = std::iter::from_fn(|| self.writes.next_unsent(u64::MAX)).collect();
        for write in &sent {
            self.writes.sent(write.id, self.now).unwrap();
        }
        sent
    }

    fn id(&self, nth: usize) -> u64 {
        self.writes.window.iter().nth(nth).unwrap().id()
    }
}

fn nobody() -> Demand<'static> {
    Demand {
        flush_barrier: None,
        closing: false,
        arrived: false,
        is_stalled: &|| false,
    }
}

fn barrier(sequence: u64) -> Demand<'static> {
    Demand {
        flush_barrier: Some(sequence),
        is_stalled: &|| panic!("asked though somebody else waits"),
        ..nobody()
    }
}

fn rows_of(write: &Write) -> Vec<i64> {
    let values = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    write.batches.iter().flat_map(values).collect()
}

fn sequences(failed: &[FailedRanges]) -> Vec<u64> {
    let ranges = failed.iter().flat_map(|failed| &failed.ranges);
    ranges.map(|range| range.sequence).collect()
}

fn error() -> Error {
    Error::new(Code::Unavailable, "away")
}

/// rows linger for company, unless somebody waits for them or for their bytes.
#[test]
fn rows_linger_unless_somebody_waits() {
    let mut fixture = fixture();
    fixture.push(1);
    fixture.push(1);
    fixture.fill(&nobody());
    assert!(fixture.writes.is_empty());
    let due = fixture.writes.linger_due(Some(&schema("n"))).unwrap();
    assert_eq!(due, fixture.now + Duration::from_secs(1));
    let earlier = Demand {
        is_stalled: &|| false,
        ..barrier(0)
    };
    fixture.fill(&earlier);
    assert!(fixture.writes.is_empty(), "the flush was of something else");
    fixture.fill(&barrier(1));
    assert_eq!(fixture.writes.len(), 1);

    fixture.push(1);
    let stalled = Demand {
        is_stalled: &|| true,
        ..nobody()
    };
    fixture.fill(&stalled);
    assert_eq!(fixture.writes.len(), 2);

    let last = fixture.push(1);
    fixture.writes.hurry(fixture.now);
    let due = fixture.writes.hurry_due().unwrap();
    fixture.writes.expire(due, last);
    fixture.fill(&nobody());
    assert_eq!(fixture.writes.len(), 3);

    fixture.push(MAX_ROWS);
    fixture.fill(&barrier(9));
    assert_eq!(fixture.writes.len(), 3, "the window is full");
    assert_eq!(
        fixture.writes.linger_due(Some(&schema("n"))),
        None,
        "waking would spin"
    );
}

/// another schema waits until the session is drained. Without a session, one write says which to open.
#[test]
fn another_schema_waits_for_a_session_of_its_own() {
    let mut fixture = fixture();
    fixture.push(MAX_ROWS);
    fixture.push_as("m", MAX_ROWS);
    fixture.push_as("m", MAX_ROWS);
    assert!(fixture.writes.fill(fixture.now, None, &nobody()).is_none());
    assert_eq!(fixture.writes.len(), 1);
    let session = fixture.writes.schema().unwrap().clone();
    assert!(
        fixture
            .writes
            .fill(fixture.now, Some(&session), &nobody())
            .is_none()
    );
    assert_eq!(fixture.writes.len(), 1);
    assert!(fixture.writes.awaits_another_session(Some(&session)));
    assert!(!fixture.writes.awaits_another_session(None));
    assert_eq!(fixture.writes.linger_due(Some(&session)), None);
    fixture.send();
    let last = fixture.writes.last_id().unwrap();
    assert_eq!(fixture.writes.through(last).len(), 1);
    // No session of that schema can be had.
    assert!(fixture.writes.take_fitting(&schema("x")).is_empty());
    let taken = fixture.writes.take_fitting(&schema("m"));
    assert_eq!(
        taken.iter().map(|range| range.sequence).collect::<Vec<_>>(),
        [2, 3]
    );
    assert!(!fixture.writes.awaits_another_session(Some(&session)));
}

/// a flush is wanted for whoever waits, and covers no more than they wait for.
#[test]
fn whoever_waits_ends_in_a_flush() {
    let mut fixture = fixture();
    assert_eq!(fixture.writes.flush_wanted(&barrier(1)), None, "nothing to flush");
    for _ in 0..3 {
        fixture.push(MAX_ROWS);
    }
    fixture.fill(&nobody());
    fixture.send();
    let (first, second, last) = (fixture.id(0), fixture.id(1), fixture.id(2));
    assert_eq!(fixture.writes.flush_wanted(&nobody()), None);
    let flushed = Demand {
        is_stalled: &|| false,
        ..barrier(2)
    };
    assert_eq!(fixture.writes.flush_wanted(&flushed), Some(second));
    let stalled = Demand {
        is_stalled: &|| true,
        ..nobody()
    };
    assert_eq!(fixture.writes.flush_wanted(&stalled), Some(first));
    let closing = Demand {
        closing: true,
        arrived: true,
        ..nobody()
    };
    assert_eq!(fixture.writes.flush_wanted(&closing), Some(last));
    fixture.writes.hurry(fixture.now);
    let due = fixture.writes.hurry_due().unwrap();
    fixture.writes.expire(due, 3);
    assert_eq!(fixture.writes.flush_wanted(&nobody()), Some(last));
    // What was acknowledged waits for nothing; rows that wait for room in the window do.
    fixture.writes.committed(fixture.now);
    assert!(fixture.writes.is_unacknowledged(last));
    fixture.writes.through(first);
    fixture.push(MAX_ROWS);
    fixture.push(1);
    fixture.fill(&nobody());
    assert_eq!(fixture.writes.flush_wanted(&nobody()), Some(second));
    fixture.writes.through(second);
    let forced = Demand {
        closing: true,
        ..nobody()
    };
    assert_eq!(
        fixture.writes.flush_wanted(&forced),
        None,
        "more is about to be written"
    );
}

/// refused rows are said of the delivery that they are of; what was settled before is not.
#[test]
fn refusals_name_rows_of_their_delivery() {
    let mut fixture = fixture();
    fixture.push(1);
    fixture.push(3);
    fixture.fill(&barrier(2));
    fixture.send();
    let id = fixture.id(0);
    let rejection = |row| Rejection {
        row,
        code: "NO".into(),
        message: "no".into(),
    };
    assert!(fixture.writes.partly_refused(id + 9, 1, Vec::new()).is_none());
    let refused = fixture
        .writes
        .partly_refused(id, 2, vec![rejection(1), rejection(0)])
        .unwrap();
    let named = |refused: &RefusedRanges| -> Vec<(u64, usize, usize, Vec<u64>)> {
        let named = refused.ranges.iter().map(|refused| {
            let rows = refused.rejections.iter().map(|rejection| rejection.row);
            (
                refused.range.sequence,
                refused.range.rows,
                refused.start,
                rows.collect(),
            )
        });
        named.collect()
    };
    assert_eq!(named(&refused), [(1, 1, 0, vec![0]), (2, 1, 1, vec![0])]);
    // Row 1 was settled before, and row 3 is named twice.
    let again = vec![rejection(3), rejection(1), rejection(3)];
    let refused = fixture.writes.refused(id, again).unwrap();
    assert_eq!(named(&refused), [(2, 2, 2, vec![2])]);
    assert!(fixture.writes.is_empty() && fixture.writes.refused(id, Vec::new()).is_none());
}

/// all that is unacknowledged is sent again, and the first of it may have landed unseen.
#[test]
fn a_session_that_is_gone_leaves_all_to_be_sent_again() {
    let mut fixture = fixture();
    for _ in 0..3 {
        fixture.push(MAX_ROWS);
    }
    fixture.fill(&nobody());
    let sent = fixture.send();
    assert_eq!(fixture.writes.last_sent(), Some(sent[2].id));
    assert_eq!(fixture.writes.through(sent[0].id).len(), 1);
    let slices = fixture.writes.partly(sent[1].id, 1);
    assert_eq!(slices[0].range.rows, 1);
    assert_eq!(fixture.writes.rewind(true, true), Some(sent[1].id));
    assert_eq!(fixture.writes.rewind(true, true), None, "no session has any");
    let again = fixture.send();
    assert_eq!(
        again.iter().map(|write| write.id).collect::<Vec<_>>(),
        [sent[1].id, sent[2].id]
    );
    let rows: Vec<Vec<i64>> = again.iter().map(|write| rows_of(write)).collect();
    assert_eq!(rows, [vec![5, 6, 7], vec![8, 9, 10, 11]]);
    // A try that was no failure of the write does not count.
    assert_eq!(fixture.writes.get(sent[2].id).unwrap().attempts(), 2);
    fixture.writes.rewind(false, false);
    assert_eq!(fixture.writes.get(sent[2].id).unwrap().attempts(), 1);
    fixture.writes.looked_for();
    fixture.writes.count_try(fixture.now);
    assert_eq!(fixture.writes.get(sent[2].id).unwrap().attempts(), 2);
}

/// what ends says how often it was tried, and whether rows of it may be held.
#[test]
fn what_fails_is_unknown_only_where_a_session_may_hold_it() {
    let mut fixture = fixture();
    for _ in 0..3 {
        fixture.push(MAX_ROWS);
    }
    fixture.fill(&nobody());
    let first = fixture.id(0);
    let write = fixture.writes.next_unsent(first).unwrap();
    fixture.writes.sent(write.id, fixture.now);
    fixture.push(1);
    fixture.writes.rewind(true, true);
    fixture.writes.count_try(fixture.now);
    let tried = fixture.writes.equally_tried(fixture.id(1), &error(), fixture.now);
    let groups: Vec<_> = tried
        .iter()
        .map(|tried| (tried.ids.clone(), tried.error.attempts()))
        .collect();
    assert_eq!(groups, [(vec![fixture.id(0)], 2), (vec![fixture.id(1)], 1)]);
    let third = fixture.id(2);
    let one = fixture
        .writes
        .fail(&Failing::Ids(&[third, 999]), &error(), fixture.now);
    assert_eq!((sequences(&one), one[0].error.is_ambiguous()), (vec![3], false));
    let ends = fixture.writes.end(&error(), fixture.now);
    let unknown = |sequence| ends.get(&sequence).map(Error::is_ambiguous);
    assert_eq!([1, 2, 4].map(unknown), [Some(true), Some(false), None]);
    assert!(fixture.writes.is_empty());
    fixture.fill(&barrier(9));
    assert!(fixture.writes.is_empty(), "rows that no write held end too");
}

/// one refusal ends the deliveries that it names; where it names none, the write.
#[test]
fn a_refusal_for_good_ends_whom_it_is_about() {
    let mut fixture = fixture();
    fixture.push(2);
    fixture.push(2);
    fixture.push(MAX_ROWS);
    fixture.fill(&nobody());
    fixture.send();
    let (first, second) = (fixture.id(0), fixture.id(1));
    let refusal = Error::new(Code::BatchInvalid, "not like this");
    let named = fixture
        .writes
        .blame(first, vec![refusal.clone().at_row(3)], &refusal, fixture.now);
    assert_eq!((sequences(&named), named[0].error.row()), (vec![2], Some(1)));
    let unnamed = fixture
        .writes
        .blame(second, vec![refusal.clone()], &refusal, fixture.now);
    assert_eq!((sequences(&unnamed), fixture.writes.len()), (vec![3], 1));
    let sent = fixture.writes.fail(&Failing::Sent, &refusal, fixture.now);
    assert_eq!((sequences(&sent), fixture.writes.is_empty()), (vec![1], true));
}

/// an aborted delivery leaves the batcher and the writes that no session has, and no others.
#[test]
fn rows_are_taken_back_from_wherever_no_session_has_them() {
    let mut fixture = fixture();
    fixture.push(2 * MAX_ROWS + 1);
    fixture.fill(&nobody());
    let first = fixture.id(0);
    let write = fixture.writes.next_unsent(first).unwrap();
    let taken = fixture.writes.take_back(1);
    let rows: usize = taken.iter().map(|range| range.rows).sum();
    assert_eq!(rows, 2 * MAX_ROWS + 1 - write.rows);
    assert_eq!((fixture.writes.len(), fixture.writes.contains(first)), (1, true));
    // Too late for the rest, whose session is gone.
    fixture.push(1);
    fixture.writes.rewind(false, true);
    let began = fixture.now.checked_sub(Duration::from_secs(9)).unwrap();
    let late: Vec<_> = [1, 2]
        .into_iter()
        .flat_map(|sequence| fixture.writes.give_up(sequence, &error(), began, fixture.now))
        .collect();
    assert_eq!(sequences(&late), [1, 2]);
    fixture.writes.clear_batches();
    assert!(fixture.writes.is_empty() && !fixture.writes.contains(first));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// with a session that refuses all of a probe for one bad row, every good row gets through, in
    /// order, and every bad row is refused alone.
    #[test]
    fn a_search_finds_all_rows_at_fault(
        deliveries in prop::collection::vec(1usize..10, 1..12),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
    ) {
        let mut fixture = fixture();
        for rows in &deliveries {
            fixture.push(*rows);
        }
        let total: usize = deliveries.iter().sum();
        let bad: BTreeSet<i64> = picks.iter().map(|pick| pick.index(total) as i64).collect();
        let refusal = Error::new(Code::RowsRejected, "one of these is at fault");
        let last = fixture.sequence;
        let (mut accepted, mut refused, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..10_000 {
            let through = match fixture.writes.next_probe() {
                Probe::Over => {
                    fixture.fill(&barrier(last));
                    u64::MAX
                }
                Probe::UnderWay => unreachable!("each probe is answered"),
                Probe::Through(through) => through,
            };
            while let Some(write) = fixture.writes.next_unsent(through) {
                fixture.writes.sent(write.id, fixture.now);
                held.extend(rows_of(&write));
            }
            if held.is_empty() && fixture.writes.is_empty() {
                break;
            }
            let at_fault = held.iter().any(|row| bad.contains(row));
            let sent = fixture.writes.last_sent().unwrap();
            if !at_fault {
                accepted.append(&mut held);
                fixture.writes.through(sent);
                continue;
            }
            prop_assert!(matches!(fixture.writes.next_probe(), Probe::UnderWay | Probe::Over));
            prop_assert_eq!(fixture.writes.searchable(&refusal), Some(sent));
            fixture.writes.rewind(false, false);
            if let Searched::Rows(rows) = fixture.writes.look_for_rows(sent, &refusal, fixture.now) {
                prop_assert_eq!(held.len(), 1);
                refused.extend(rows.iter().flat_map(|refused| rows_of(&refused.write)));
            }
            held.clear();
        }
        prop_assert!(fixture.writes.is_empty() && !fixture.writes.is_searching());
        prop_assert!(accepted.is_sorted() && accepted.len() + refused.len() == total);
        prop_assert_eq!(refused.into_iter().collect::<BTreeSet<_>>(), bad);
    }
}

/// past its bounds a search ends, and says which rows are undecided.
#[test]
fn a_search_past_its_time_leaves_rows_undecided() {
    let mut fixture = fixture();
    fixture.push(1);
    fixture.push(3);
    fixture.fill(&barrier(2));
    let sent = fixture.send()[0].id;
    let refusal = Error::new(Code::RowsRejected, "one of these is at fault");
    for not_searched in [refusal.clone().at_row(1), refusal.clone().ambiguous(), error()] {
        assert_eq!(fixture.writes.searchable(&not_searched), None);
    }
    assert_eq!(fixture.writes.searchable(&refusal), Some(sent));
    fixture.writes.rewind(false, false);
    let begun = fixture.writes.look_for_rows(sent, &refusal, fixture.now);
    assert!(matches!(begun, Searched::Narrowed) && fixture.writes.is_searching());
    let Probe::Through(through) = fixture.writes.next_probe() else {
        panic!("no probe");
    };
    let write = fixture.writes.next_unsent(through).unwrap();
    fixture.writes.sent(write.id, fixture.now);
    fixture.writes.rewind(false, false);
    let late = fixture.now + Duration::from_secs(60);
    // The first delivery is one row, refused alone; the other one is not looked at any more.
    let Searched::Rows(rows) = fixture.writes.look_for_rows(write.id, &refusal, late) else {
        panic!("not found");
    };
    assert_eq!(rows[0].ranges[0].range.sequence, 1);
    let Probe::Through(through) = fixture.writes.next_probe() else {
        panic!("no probe");
    };
    let write = fixture.writes.next_unsent(through).unwrap();
    fixture.writes.sent(write.id, fixture.now);
    fixture.writes.rewind(false, false);
    let Searched::Undecided(failed) = fixture.writes.look_for_rows(write.id, &refusal, late) else {
        panic!("not given up");
    };
    assert_eq!((sequences(&failed), failed[0].error.row()), (vec![2], Some(0)));
    assert!(
        failed[0]
            .error
            .message()
            .contains("rows 0 to 2 are at fault, and quarantine.deadline is spent")
    );
    assert!(matches!(fixture.writes.next_probe(), Probe::Over) && !fixture.writes.is_searching());

    let without = QuarantineOptions {
        enabled: false,
        ..fixture.writes.quarantine.take().unwrap()
    };
    let batching = BatchingOptions {
        max_rows: MAX_ROWS,
        max_bytes: 1 << 20,
        linger: Duration::ZERO,
    };
    fixture.writes = Writes::new(&batching, 3, &without, Discard.capabilities(), None, false);
    fixture.push(1);
    fixture.fill(&nobody());
    fixture.send();
    assert_eq!(fixture.writes.searchable(&refusal), None);
}
