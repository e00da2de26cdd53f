//! The window by itself.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::state::{History, WriteState};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<usize>),
    /// So many writes are put on their way, and so many of those are given.
    Send(usize, usize),
    Partly(usize, usize),
    Through(usize),
    Remove(usize),
    Rewind(bool),
    LookedFor,
    TakeBack(u64),
    GiveUp(u64),
    Blame(usize, Vec<u64>),
    Cut(usize, usize),
    Refund,
    Exhausted(u32),
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    let rows = prop::collection::vec(0u64..30, 1..5);
    prop_oneof![
        4 => prop::collection::vec(1usize..9, 1..4).prop_map(Step::Push),
        4 => (0usize..4, 0usize..4).prop_map(|(queued, sent)| Step::Send(queued, sent)),
        3 => (0usize..3, 0usize..30).prop_map(|(which, rows)| Step::Partly(which, rows)),
        2 => (0usize..4).prop_map(Step::Through),
        1 => (0usize..4).prop_map(Step::Remove),
        2 => any::<bool>().prop_map(Step::Rewind),
        1 => Just(Step::LookedFor),
        2 => (1u64..30).prop_map(Step::TakeBack),
        1 => (1u64..30).prop_map(Step::GiveUp),
        1 => (0usize..4, rows).prop_map(|(which, rows)| Step::Blame(which, rows)),
        1 => (0usize..4, 0usize..30).prop_map(|(which, rows)| Step::Cut(which, rows)),
        1 => Just(Step::Refund),
        1 => (2u32..6).prop_map(Step::Exhausted),
        1 => Just(Step::Tidy),
    ]
}

/// A write of as many deliveries as there are counts; row `r` of delivery `s` is `100 s + r`.
fn draft(sequence: &mut u64, counts: &[usize]) -> WriteDraft {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let mut values = Vec::new();
    let mut ranges = Vec::new();
    for rows in counts {
        *sequence += 1;
        values.extend((0..*rows).map(|row| *sequence as i64 * 100 + row as i64));
        ranges.push(RowRange {
            sequence: *sequence,
            first_row: 0,
            rows: *rows,
        });
    }
    let rows = values.len();
    let column: ArrayRef = Arc::new(Int64Array::from(values));
    let whole = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    // Cut where no delivery ends.
    let cut = rows / 2;
    WriteDraft {
        schema,
        batches: vec![whole.slice(0, cut), whole.slice(cut, rows - cut)],
        ranges,
        rows,
        bytes: rows * 8,
    }
}

fn rows_in<'a>(ranges: impl IntoIterator<Item = &'a RowRange>) -> Vec<i64> {
    ranges
        .into_iter()
        .flat_map(|s| (s.first_row..s.first_row + s.rows).map(|row| s.sequence as i64 * 100 + row as i64))
        .collect()
}

fn open_rows(slices: &[WriteSlice]) -> Vec<i64> {
    let open = slices.iter().filter(|slice| !slice.settled);
    rows_in(open.map(|slice| &slice.range))
}

fn rows_written(write: &Write) -> Vec<i64> {
    write
        .batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

fn fault(row: u64) -> Error {
    Error::new(crate::error::Code::BatchInvalid, "not like this").at_row(row)
}

fn id_of(window: &Window, which: usize) -> u64 {
    window.iter().nth(which).map_or(0, WindowWrite::id)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// every row leaves once, whatever its neighbours do, and a write says truly which rows it holds.
    #[test]
    fn every_row_leaves_once(steps in prop::collection::vec(step(), 1..60)) {
        let now = Instant::now();
        let mut window = Window::new(true, false);
        let mut sequence = 0;
        let (mut admitted_delivery, mut left) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push(counts) => {
                    let draft = draft(&mut sequence, &counts);
                    admitted_delivery.extend(rows_in(&draft.ranges));
                    window.push(draft);
                }
                Step::Send(queued, sent) => {
                    let mut ids = Vec::new();
                    while ids.len() < queued && let Some(write) = window.queue_next(u64::MAX) {
                        prop_assert!(ids.is_empty() || ids.last() < Some(&write.id));
                        ids.push(write.id);
                    }
                    let untaken = window.iter().find(|p| matches!(p.state(), WriteState::Queued(_))).map(WindowWrite::id);
                    let ids: Vec<u64> = window.iter().map(WindowWrite::id).filter(|id| Some(*id) >= untaken && untaken.is_some()).collect();
                    for id in ids.into_iter().take(sent) {
                        if matches!(window.get(id).unwrap().state(), WriteState::Queued(_)) {
                            let history = window.get(id).unwrap().state();
                            let attempts = window.get(id).unwrap().attempts();
                            let sent = window.mark_sent(id, now).unwrap();
                            prop_assert_eq!(sent.anew, history == WriteState::Queued(History::Untried));
                            prop_assert_eq!(sent.entry.attempts(), attempts + 1);
                        }
                    }
                }
                Step::Partly(which, rows) => {
                    let id = id_of(&window, which);
                    let queued = window.get(id).is_some_and(|p| matches!(p.state(), WriteState::Queued(_)));
                    let slices = window.partly(id, rows);
                    prop_assert!(!queued || slices.is_empty(), "the session cannot know of it");
                    left.extend(open_rows(&slices));
                }
                Step::Through(which) => {
                    let id = id_of(&window, which);
                    for entry in window.through(id) {
                        prop_assert!(entry.id() <= id);
                        left.extend(open_rows(&entry.into_slices()));
                    }
                }
                Step::Remove(which) => {
                    let id = id_of(&window, which);
                    left.extend(window.remove(id).iter().flat_map(|p| rows_in(p.ranges())));
                }
                Step::Rewind(ambiguous) => {
                    let doubt: Vec<(u64, bool)> = window
                        .iter()
                        .map(|p| (p.id(), p.is_in_doubt() || ambiguous && p.is_sent()))
                        .collect();
                    window.rewind(ambiguous);
                    prop_assert!(window.iter().all(|p| p.is_waiting() && p.done_rows() == 0));
                    let now: Vec<_> = window.iter().map(|p| (p.id(), p.is_in_doubt())).collect();
                    prop_assert_eq!(now, doubt);
                    prop_assert!(window.first_queued_or_sent().is_none() && window.last_sent().is_none());
                }
                Step::LookedFor => {
                    window.looked_for();
                    prop_assert!(!window.iter().any(|p| p.is_waiting() && p.is_in_doubt()));
                }
                Step::Blame(which, rows) => {
                    let id = id_of(&window, which);
                    let written = window.get(id).map_or(Vec::new(), |p| rows_written(&p.write));
                    let before: Vec<i64> = window.get(id).map_or(Vec::new(), |p| rows_in(p.ranges()));
                    let faults = rows.iter().map(|row| fault(*row)).collect();
                    let mut out = Vec::new();
                    for failed in window.blame(id, faults, now) {
                        out.extend(rows_in(&failed.ranges));
                        let own_row = failed.error.row().unwrap();
                        for range in &failed.ranges {
                            let named = range.sequence as i64 * 100 + own_row as i64;
                            prop_assert!(rows.iter().any(|row| written.get(*row as usize) == Some(&named)));
                        }
                    }
                    // Nobody else left.
                    let after: Vec<i64> = window.get(id).map_or(Vec::new(), |p| rows_in(p.ranges()));
                    prop_assert_eq!(after.len() + out.len(), before.len());
                    left.extend(out);
                    window.rewind(false);
                }
                Step::Cut(which, rows) => {
                    let id = id_of(&window, which);
                    window.rewind(false);
                    window.cut(id, rows);
                }
                Step::TakeBack(sequence) => {
                    let taken = window.take_back(sequence);
                    prop_assert!(taken.iter().all(|range| range.sequence == sequence));
                    left.extend(rows_in(&taken));
                    let free = window.iter().filter(|p| p.is_free()).flat_map(WindowWrite::ranges);
                    prop_assert!(!free.into_iter().any(|range| range.sequence == sequence));
                }
                Step::GiveUp(sequence) => {
                    window.rewind(true);
                    for failed in window.give_up(sequence, &fault(0), now) {
                        left.extend(rows_in(&failed.ranges));
                    }
                    prop_assert!(!window.iter().flat_map(WindowWrite::ranges).any(|s| s.sequence == sequence));
                }
                Step::Refund => window.refund_tries(),
                Step::Exhausted(attempts) => {
                    for entry in window.exhausted(attempts) {
                        prop_assert!(entry.attempts() >= attempts);
                        left.extend(rows_in(entry.ranges()));
                    }
                }
                Step::Tidy => window.tidy(),
            }
            let ids: Vec<u64> = window.iter().map(WindowWrite::id).collect();
            prop_assert!(ids.is_sorted_by(|a, b| a < b) && window.last_id() == ids.last().copied());
            prop_assert_eq!(window.begins.len(), window.len());
            prop_assert!(window.marked.iter().all(|id| window.contains(*id)));
            for entry in window.iter() {
                let rows = rows_written(&entry.write);
                prop_assert_eq!(rows.len(), entry.write.rows);
                let slices = entry.slices().iter().map(|slice| &slice.range);
                prop_assert_eq!(&rows[entry.done_rows()..], &rows_in(slices)[..]);
                prop_assert!(!entry.is_settled());
            }
        }
        left.extend(window.take_all().iter().flat_map(|p| rows_in(p.ranges())));
        left.sort_unstable();
        prop_assert_eq!(left, admitted_delivery);
        prop_assert!(window.is_empty() && window.front().is_none());
    }
}

#[test]
fn exhausted_by_attempts() {
    let now = Instant::now();
    let mut sequence = 0;
    let mut window = Window::default();
    for _ in 0..3 {
        window.push(draft(&mut sequence, &[1]));
    }
    window.queue_next(u64::MAX);
    for _ in 0..2 {
        window.count_try(now);
    }
    window.mark_sent(1, now);
    let ids = |out: Vec<WindowWrite>| out.iter().map(WindowWrite::id).collect::<Vec<_>>();
    assert_eq!(ids(window.exhausted(3)), [1]);
    assert_eq!(ids(window.exhausted(2)), [2, 3]);
}

#[test]
fn a_verdict_tells_what_the_tries_came_to() {
    let now = Instant::now();
    let mut window = Window::default();
    window.push(draft(&mut 0, &[2]));
    let error = Error::new(crate::error::Code::Unavailable, "away").ambiguous();
    let verdict = |window: &Window| window.get(1).unwrap().verdict(&error, now);
    // No session was given it, whatever may have become of others.
    assert!(!verdict(&window).is_ambiguous());
    for _ in 0..4 {
        window.queue_next(u64::MAX);
        window.mark_sent(1, now);
        assert!(verdict(&window).is_ambiguous());
        window.rewind(true);
    }
    assert!(verdict(&window).is_ambiguous() && verdict(&window).attempts() == 4);
    window.looked_for();
    assert!(!verdict(&window).is_ambiguous());
    assert_eq!(window.last_id_up_to(0), None);
    assert_eq!(window.last_id_up_to(1), Some(1));
    assert!(window.partly(9, 1).is_empty());
}

/// what is counted is what is looked at, not time.
#[test]
fn taking_back_all_deliveries_of_a_write_one_by_one_costs_what_they_are() {
    let mut window = Window::default();
    let mut sequence = 0;
    const N: usize = 4_000;
    window.push(draft(&mut sequence, &[1; N]));
    let mut cuts = 0;
    let mut write = Arc::downgrade(&window.get(1).unwrap().write);
    for sequence in 1..=N as u64 {
        assert_eq!(window.take_back(sequence).len(), 1);
        let now = window.get(1).map(|entry| Arc::downgrade(&entry.write));
        if let Some(now) = now.filter(|now| !now.ptr_eq(&write)) {
            write = now;
            cuts += 1;
        }
    }
    assert!(window.is_empty());
    // Each time half of what is left.
    assert!(cuts <= N.ilog2() + 1, "the write was cut {cuts} times");
}
