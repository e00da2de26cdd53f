//! Acknowledged batches as rows of writes.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::destination::Acknowledgement;
use crate::destination::zerobus::progress::ZerobusProgress;
use crate::destination::zerobus::session::Rotations;
use crate::outcome::Rejection;

fn refused(rows: &[usize]) -> Vec<Rejection> {
    let rejection = |row: &usize| Rejection {
        row: *row as u64,
        code: "X".into(),
        message: String::new(),
    };
    rows.iter().map(rejection).collect()
}

/// What was said, short: `t3` through 3, `p3:5` five rows of 3, `r3:2` two rows of 3 refused.
fn short(said: &[Acknowledgement]) -> Vec<String> {
    let one = |said: &Acknowledgement| match said {
        Acknowledgement::Through { id, .. } => format!("t{id}"),
        Acknowledgement::Partly { id, rows } => format!("p{id}:{rows}"),
        Acknowledgement::PartlyRefused { id, rows, rejections } => {
            format!("q{id}:{rows}:{}", rejections.len())
        }
        Acknowledgement::Refused { id, rejections, .. } => format!("r{id}:{}", rejections.len()),
        Acknowledgement::Broken { .. } => "b".into(),
    };
    said.iter().map(one).collect()
}

#[test]
fn writes_are_told_in_order_and_refusals_when_their_rows_are_durable() {
    let mut progress = ZerobusProgress::default();
    progress.begin(1, vec![], VecDeque::from([2, 3]));
    progress.begin(2, refused(&[1]), VecDeque::from([3]));
    // All of it refused: it still waits its turn.
    progress.begin(3, refused(&[0, 1]), VecDeque::new());
    progress.begin(4, vec![], VecDeque::from([1]));
    progress.acknowledge();
    assert_eq!(short(&progress.report()), Vec::<String>::new());
    progress.acknowledge();
    assert_eq!(short(&progress.report()), ["t1"]);
    progress.acknowledge();
    assert_eq!(short(&progress.report()), ["r2:1", "r3:2"]);
    progress.acknowledge();
    assert_eq!(short(&progress.report()), ["t4"]);
    assert_eq!((progress.given, progress.acknowledged), (4, 4));
    assert!(progress.end(None).is_none());
}

#[test]
fn a_broken_stream_tells_how_far_it_got_to_the_row() {
    let mut progress = ZerobusProgress::default();
    progress.begin(7, vec![], VecDeque::from([4, 6]));
    progress.acknowledge();
    let said = |unacknowledged| short(progress.end(unacknowledged).as_slice());
    assert_eq!(said(Some(5)), ["p7:5"]);
    // Its second batch was never sent.
    assert_eq!(said(None), ["p7:4"]);
}

/// A server that rotates every stream before it takes anything is not run after without a breath.
#[test]
fn only_the_first_of_fruitless_rotations_is_free() {
    let rotations = Rotations::default();
    assert!(rotations.is_free(true, false));
    assert!(!rotations.is_free(true, false));
    assert!(rotations.is_free(true, true), "something was acknowledged");
    assert!(rotations.is_free(true, false));
    // A failure is none of it.
    assert!(!rotations.is_free(false, true));
    assert!(!rotations.is_free(false, false));
    assert!(rotations.is_free(true, false));
}

proptest! {
    /// however often a stream breaks within a write, and whichever of its rows are refused,
    /// no durable row is sent again, none is left out, and no refused row is told as durable.
    #[test]
    fn replays_send_each_row_once(
        fates in prop::collection::vec(prop::bool::weighted(0.7), 1..40),
        breaks in prop::collection::vec((1usize..8, 0usize..8), 0..8),
    ) {
        let total = fates.len();
        let mut cut = 0; // rows that the window has taken off
        let mut kept = vec![0; total];
        let mut told_refused = 0;
        for (batch, acknowledged) in breaks.into_iter().chain([(1, total * 2)]) {
            let rows = total - cut;
            let bad: Vec<usize> = (0..rows).filter(|row| !fates[cut + row]).collect();
            let to_send: Vec<usize> = (0..rows).filter(|row| fates[cut + row]).collect();
            let batches: VecDeque<usize> = to_send.chunks(batch).map(<[usize]>::len).collect();
            let mut progress = ZerobusProgress::default();
            progress.begin(1, refused(&bad), batches.clone());
            let acknowledged = acknowledged.min(to_send.len());
            for row in &to_send[..acknowledged] {
                kept[cut + row] += 1;
            }
            let mut left = acknowledged;
            let mut partial = None;
            for length in &batches {
                if left < *length {
                    partial = Some(length - left);
                    break;
                }
                left -= length;
                progress.acknowledge();
            }
            if !progress.report().is_empty() {
                told_refused += bad.len();
                break;
            }
            match progress.end(partial) {
                Some(Acknowledgement::Partly { rows, .. }) => cut += rows,
                Some(Acknowledgement::PartlyRefused { rows, rejections, .. }) => {
                    told_refused += rejections.len();
                    prop_assert!(rejections.iter().all(|rejection| !fates[cut + rejection.row as usize]));
                    cut += rows;
                }
                _ => prop_assert_eq!(acknowledged, 0),
            }
        }
        prop_assert_eq!(told_refused, fates.iter().filter(|fate| !**fate).count());
        for (row, fate) in fates.iter().enumerate() {
            prop_assert_eq!(kept[row], usize::from(*fate), "row {}", row);
        }
    }
}
