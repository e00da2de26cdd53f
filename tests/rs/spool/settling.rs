//! What is settled is not found again, and nothing else is gone.

use std::time::{Duration, Instant};

use arrow_ingest::spool::{SpoolOptions, WriterTurn};

use crate::support::{Rig, answer, count, disk, open, options, segments, try_open};

fn small() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 2048,
        ..options()
    }
}

#[test]
fn what_is_settled_is_not_read_again_and_its_segments_go() {
    let disk = disk();
    let mut rig = try_open(&disk, &small()).unwrap();
    for first in (0..100).step_by(10) {
        rig.keep(first..first + 10);
    }
    let now = Instant::now();
    rig.spool.settle_through(5);
    rig.writer.turn(now);
    let before = segments(&disk).len();
    let bytes = rig.spool.bytes();
    rig.spool.settle_through(75);
    assert_eq!(rig.spool.settled().through(), 75);
    assert_eq!(rig.values(), (75..100).collect::<Vec<_>>());
    // The disk knows it within a second, and not at once: settling costs no sync each.
    rig.writer.turn(now);
    assert_eq!(segments(&disk).len(), before);
    rig.turn_later();
    assert!(segments(&disk).len() < before && rig.spool.bytes() < bytes);
    let mut rig = try_open(&rig.kill(), &small()).unwrap();
    assert_eq!(rig.recovered.position, 75);
    assert_eq!((rig.recovered.left.rows, rig.recovered.left.deliveries), (25, 3));
    assert_eq!(rig.values(), (75..100).collect::<Vec<_>>());
    rig.spool.settle_through(100);
    let disk = rig.close();
    // The newest segment stays: it says where positions go on.
    assert_eq!(segments(&disk).len(), 1);
    let mut rig = try_open(&disk, &small()).unwrap();
    assert_eq!((rig.recovered.left.rows, rig.recovered.position), (0, 100));
    assert_eq!(rig.recovered.left.bytes, 0);
    assert_eq!(rig.keep([100]), 100);
    assert_eq!(rig.values(), [100]);
}

/// A segment is unlinked only after the cursor that passes it is synced.
#[test]
fn the_cursor_is_synced_before_anything_is_deleted() {
    let disk = disk();
    let mut rig = try_open(&disk, &small()).unwrap();
    for first in (0..100).step_by(10) {
        rig.keep(first..first + 10);
    }
    rig.spool.settle_through(90);
    rig.turn_later();
    let story = disk.story();
    let unlinked = story
        .iter()
        .position(|line| line.starts_with("Unlink") && line.contains("segment"))
        .unwrap();
    let synced = story
        .iter()
        .rposition(|line| line.starts_with("Sync /d/spool/default/cursor"))
        .unwrap();
    assert!(synced < unlinked, "{story:#?}");
}

#[test]
fn the_cursor_lags_by_64_mib_at_most() {
    let disk = disk();
    let mut rig = open(&disk);
    let mut values = 0..;
    for _ in 0..9 {
        // 8 MiB each.
        let rows: Vec<i64> = values.by_ref().take(1 << 20).collect();
        rig.keep_large(rows);
    }
    let now = Instant::now();
    rig.spool.settle_through(1);
    rig.writer.turn(now);
    let before = saves(&rig);
    rig.spool.settle_through(4 << 20);
    rig.writer.turn(now);
    assert_eq!(saves(&rig), before);
    rig.spool.settle_through(9 << 20);
    rig.writer.turn(now);
    assert_eq!(saves(&rig), before + 1);
}

fn saves(rig: &Rig) -> usize {
    count(&rig.disk, "Sync", "cursor")
}

/// Else it would deliver its first rows again and again, for ever.
#[test]
fn a_process_that_ends_at_each_first_acknowledgement_gets_on_all_the_same() {
    let mut disk = disk();
    let mut rig = open(&disk);
    for value in 0..5 {
        rig.keep([value]);
    }
    for life in 0..5 {
        disk = rig.disk.after_power_cut(life);
        rig = open(&disk);
        let first = life as i64;
        assert_eq!(rig.values(), (first..5).collect::<Vec<_>>());
        // What an opening does beside it takes nothing of its second.
        rig.turn();
        let durable = rig.spool.mark([life as u8 + 1; 16]);
        rig.turn();
        answer(durable).unwrap().unwrap();
        rig.spool.settle(life..life + 1);
        rig.turn();
    }
    assert_eq!(open(&rig.disk.after_power_cut(0)).values(), Vec::<i64>::new());
}

/// A destination that acknowledges out of order does not keep it back.
#[test]
fn a_first_acknowledgement_out_of_order_is_on_the_disk_at_once_too() {
    let disk = disk();
    let mut rig = open(&disk);
    for value in 0..3 {
        rig.keep([value]);
    }
    rig.spool.settle(1..2);
    rig.turn();
    assert_eq!(open(&rig.disk.after_power_cut(0)).values(), [0, 2]);
}

/// Whoever delivers one thing after a while has it on the disk at once, and a stream of acknowledgements costs one
/// writing a second.
#[test]
fn the_cursor_is_written_at_once_where_it_was_not_for_a_second() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..100);
    let now = Instant::now();
    let mut through = 0;
    let mut settled_at = |rig: &mut Rig, milliseconds: u64| {
        through += 1;
        rig.spool.settle_through(through);
        rig.writer.turn(now + Duration::from_millis(milliseconds));
        saves(rig)
    };
    let first = settled_at(&mut rig, 0);
    let within: Vec<usize> = [1, 500, 999].map(|at| settled_at(&mut rig, at)).to_vec();
    assert_eq!(within, [first; 3]);
    let second = now + Duration::from_secs(1);
    assert_eq!(settled_at(&mut rig, 1000), first + 1);
    assert_eq!(settled_at(&mut rig, 1000), first + 1);
    // Nobody settles any more: the writer comes back by itself for what it has not written.
    assert!(matches!(rig.writer.turn(second), WriterTurn::Idle(Some(_))));
    assert_eq!(
        rig.writer.turn(second + Duration::from_secs(1)),
        WriterTurn::Idle(None)
    );
    assert_eq!(saves(&rig), first + 2);
    assert_eq!(settled_at(&mut rig, 3000), first + 3);
}

/// Out of order: each range by itself, over openings.
#[test]
fn rows_that_are_settled_out_of_order_do_not_come_back() {
    let disk = disk();
    let mut rig = open(&disk);
    for first in (0..50).step_by(10) {
        rig.keep(first..first + 10);
    }
    rig.spool.settle(10..20);
    rig.spool.settle(33..36);
    let left: Vec<i64> = (0..10).chain(20..33).chain(36..50).collect();
    let read = rig.read();
    assert_eq!(read.values(), left);
    let pieces: Vec<_> = read.rows.iter().map(|rows| rows.positions.clone()).collect();
    assert_eq!(pieces, [0..10, 20..30, 30..33, 36..40, 40..50]);
    assert!(
        read.rows[2..4]
            .iter()
            .all(|rows| rows.delivery == (30..40) && rows.identity == 30)
    );
    rig.turn_later();
    let mut rig = open(&rig.disk.after_power_cut(0));
    assert_eq!(rig.values(), left);
    assert_eq!(rig.recovered.left.rows, left.len() as u64);
    // Ranges go along into later segments, and become one with what is settled in order.
    rig.keep([50]);
    let mut rig = open(&rig.kill());
    rig.spool.settle_through(10);
    assert_eq!(rig.spool.settled().through(), 20);
    rig.spool.settle(20..33);
    assert_eq!(rig.spool.settled().through(), 36);
    assert_eq!(rig.values(), (36..51).collect::<Vec<_>>());
}

/// a cancellation is as durable as its batch was, when it is answered.
#[test]
fn a_cancellation_that_was_answered_survives_the_power() {
    let disk = disk();
    let mut rig = open(&disk);
    for first in (0..30).step_by(10) {
        rig.keep(first..first + 10);
    }
    let durable = rig.spool.cancel(10..20);
    rig.turn();
    answer(durable).unwrap().unwrap();
    let left: Vec<i64> = (0..10).chain(20..30).collect();
    assert_eq!(open(&disk.after_power_cut(0)).values(), left);
    assert_eq!(rig.values(), left);
}

#[test]
fn a_mark_is_kept_with_the_cursor() {
    let disk = disk();
    let mut rig = open(&disk);
    assert_eq!(rig.recovered.mark, None);
    let durable = rig.spool.mark([7; 16]);
    rig.turn();
    answer(durable).unwrap().unwrap();
    rig.keep(0..10);
    rig.spool.settle_through(5);
    rig.turn_later();
    let id = rig.spool.id();
    let rig = open(&disk.after_power_cut(0));
    assert_eq!((rig.recovered.mark, rig.spool.id()), (Some([7; 16]), id));
}

/// What is settled may not be ahead of what was appended.
#[test]
fn settling_more_than_there_is_settles_what_there_is() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..10);
    rig.spool.settle_through(1000);
    rig.spool.settle(500..600);
    rig.turn_later();
    assert_eq!(rig.keep(10..12), 10);
    assert_eq!(rig.values(), [10, 11]);
    assert_eq!(open(&rig.kill()).values(), [10, 11]);
}

/// A new segment knows what was settled out of order although the cursor on the disk is not there yet.
#[test]
fn a_new_segment_says_what_is_settled_above_the_cursor_on_the_disk() {
    let disk = disk();
    let mut rig = open(&disk);
    for value in 0..3 {
        rig.keep([value]);
    }
    let durable = rig.spool.cancel(1..2);
    rig.turn();
    answer(durable).unwrap().unwrap();
    let mut rig = open(&rig.kill());
    // In memory all below 2 is settled now, and on the disk nothing is.
    rig.spool.settle_through(1);
    rig.keep([3]);
    assert!(!open(&rig.kill()).values().contains(&1));
}

/// Nor may what is cancelled: rows that come later have these positions.
#[test]
fn cancelling_more_than_there_is_cancels_what_there_is() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..10);
    let cancelled = [rig.spool.cancel(5..u64::MAX), rig.spool.cancel(500..600)];
    rig.turn();
    for durable in cancelled {
        answer(durable).unwrap().unwrap();
    }
    rig.keep(10..12);
    let mut rig = open(&rig.kill());
    assert_eq!(rig.values(), [0, 1, 2, 3, 4, 10, 11]);
    assert_eq!(rig.keep([12]), 12);
}

/// Settled before it was written: the cursor's second begins when it is.
#[test]
fn what_is_settled_before_it_is_written_is_saved_in_time_too() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep([0]);
    let now = Instant::now();
    rig.spool.settle_through(1);
    rig.writer.turn(now);
    rig.append(1..3);
    rig.spool.settle_through(3);
    assert_ne!(rig.writer.turn(now), WriterTurn::Idle(None));
    rig.turn_later();
    assert_eq!(open(&rig.kill()).values(), Vec::<i64>::new());
}
