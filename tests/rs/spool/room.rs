//! Budgets: what does not fit waits or is refused, and nothing on the disk grows past them.

use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_ingest::error::Code;
use arrow_ingest::spool::{Spool, SpoolOptions, WhenFull, WriterTurn};
use futures::FutureExt as _;

use crate::support::{Rig, answer, batch, disk, open, options, refused, segments, try_open};

const SECOND: Duration = Duration::from_secs(1);

fn bounded(max_bytes: u64, when_full: WhenFull) -> SpoolOptions {
    SpoolOptions {
        max_bytes: Some(max_bytes),
        when_full,
        ..options()
    }
}

/// refused, and what was durable stays.
#[test]
fn a_full_spool_refuses_or_lets_wait_and_never_grows_past_its_budget() {
    for when_full in [WhenFull::Reject, WhenFull::Wait] {
        let disk = disk();
        let mut rig = try_open(&disk, &bounded(20_000, when_full)).unwrap();
        let mut kept = 0;
        loop {
            match rig.offer(&[batch(kept..kept + 10)], 0) {
                Some(Ok(appended)) => {
                    rig.turn();
                    answer(appended.durable).unwrap().unwrap();
                    kept += 10;
                }
                Some(Err(error)) => {
                    assert_eq!((error.code(), when_full), (Code::SpoolFull, WhenFull::Reject));
                    break;
                }
                None => {
                    assert_eq!(when_full, WhenFull::Wait);
                    break;
                }
            }
        }
        assert!(kept > 100);
        let log: usize = segments(&disk).iter().map(|path| disk.files()[path].len()).sum();
        assert!(log <= 20_000 && log as u64 == rig.spool.bytes(), "{log}");
        assert_eq!(rig.values(), (0..kept).collect::<Vec<_>>());
        // Room comes with what is settled, without waiting for the cursor's second, if somebody waits.
        let more = [batch(kept..kept + 10)];
        let waiting = rig.spool.append(&more, 0);
        if when_full == WhenFull::Wait {
            futures::executor::block_on(async {
                tokio::pin!(waiting);
                assert!(waiting.as_mut().now_or_never().is_none());
                rig.spool.settle_through(kept as u64 / 2);
                rig.writer.turn(Instant::now());
                let appended = waiting.as_mut().now_or_never().unwrap().unwrap();
                rig.writer.turn(Instant::now());
                answer(appended.durable).unwrap().unwrap();
            });
        }
    }
}

/// Reader and writer must not wait for each other: all settled, and all of it in the segment that is written to.
#[test]
fn a_spool_that_is_full_of_settled_rows_takes_more() {
    let disk = disk();
    let mut rig = try_open(&disk, &bounded(8_000, WhenFull::Wait)).unwrap();
    for round in 0..100 {
        let more = [batch(round * 100..round * 100 + 100)];
        let mut waiting = Box::pin(rig.spool.append(&more, 0));
        let appended = match waiting.as_mut().now_or_never() {
            Some(appended) => appended.unwrap(),
            None => {
                rig.spool.settle_through(round as u64 * 100);
                rig.writer.turn(Instant::now());
                waiting.as_mut().now_or_never().unwrap().unwrap()
            }
        };
        drop(waiting);
        rig.turn();
        answer(appended.durable).unwrap().unwrap();
    }
    assert!(rig.spool.bytes() <= 8_000);
    assert_eq!(rig.values().last(), Some(&9_999));
    assert_eq!(open(&rig.kill()).values().last(), Some(&9_999));
}

/// Who has given up waits no longer: the disk is not looked at for it, and who comes later is not taken for one who
/// waits.
#[test]
fn a_caller_who_gives_up_wants_no_room_any_more() {
    let disk = disk();
    let mut rig = try_open(&disk, &bounded(8_000, WhenFull::Wait)).unwrap();
    while let Some(appended) = rig.offer(&[batch(0..100)], 0) {
        rig.turn();
        answer(appended.unwrap().durable).unwrap().unwrap();
    }
    assert!(!rig.spool.wants_room());
    futures::executor::block_on(async {
        let more = [batch(0..100)];
        let waiting = rig.spool.append(&more, 0);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(rig.spool.wants_room());
        // Looking again in vain is no giving up.
        rig.writer.turn(Instant::now());
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(rig.spool.wants_room());
    });
    assert!(!rig.spool.wants_room());
}

/// Of large deliveries one may be all that has room, and its segment has to go before the next can come.
#[test]
fn who_has_looked_in_vain_is_let_in_when_there_is_room() {
    let disk = disk();
    let mut rig = try_open(&disk, &bounded(10_000, WhenFull::Wait)).unwrap();
    rig.keep(0..700);
    let more = [batch(700..1_400)];
    let mut waiting = Box::pin(rig.spool.append(&more, 0));
    for _ in 0..3 {
        assert!(waiting.as_mut().now_or_never().is_none());
        rig.writer.turn(Instant::now());
    }
    rig.spool.settle_through(700);
    rig.writer.turn(Instant::now());
    waiting.as_mut().now_or_never().unwrap().unwrap();
}

/// Whoever waits and the writer do not wake each other for as long as nothing changes.
#[tokio::test]
async fn waiting_for_room_keeps_no_processor_busy() {
    let disk = disk();
    disk.holds(Some(200_000));
    let patient = SpoolOptions {
        min_free_bytes: 150_000,
        ..options()
    };
    let (spool, _) = Spool::open(Arc::new(disk.clone()), &patient).unwrap();
    let full = [batch(0..10_000)];
    let waiting = spool.append(&full, 0);
    tokio::pin!(waiting);
    let mut looks = 0;
    let looking = poll_fn(|context| {
        looks += 1;
        waiting.as_mut().poll(context)
    });
    let waited = tokio::time::timeout(Duration::from_millis(400), looking).await;
    assert!(waited.is_err());
    assert!(looks <= 5, "{looks} looks");
    // And yet somebody looks.
    disk.holds(None);
    let room = tokio::time::timeout(Duration::from_secs(30), waiting);
    room.await.unwrap().unwrap();
}

/// What settles wakes the writer, and the writer whoever waits: nobody looks from time to time.
#[tokio::test]
async fn what_is_settled_makes_room_for_whoever_has_looked_in_vain() {
    let (spool, _) = Spool::open(Arc::new(disk()), &bounded(10_000, WhenFull::Wait)).unwrap();
    for round in 0..50 {
        let rows = |n: i64| [batch(n * 700..(n + 1) * 700)];
        let (first, more) = (rows(2 * round), rows(2 * round + 1));
        for full in [&first, &more] {
            let waiting = spool.append(full, 0);
            tokio::pin!(waiting);
            let quick = tokio::time::timeout(Duration::from_millis(5), waiting.as_mut()).await;
            let appended = match quick {
                Ok(appended) => appended,
                Err(_) => {
                    spool.settle_through(spool.next_position());
                    tokio::time::timeout(Duration::from_secs(30), waiting)
                        .await
                        .unwrap()
                }
            };
            appended.unwrap().durable.await.unwrap();
        }
    }
}

/// What never fits is refused at once, also by those who would wait.
#[test]
fn a_delivery_above_the_whole_budget_does_not_wait_for_ever() {
    let disk = disk();
    let mut rig = try_open(&disk, &bounded(8_000, WhenFull::Wait)).unwrap();
    let error = rig.offer(&[batch(0..2_000)], 0).unwrap().unwrap_err();
    assert_eq!(error.code(), Code::SpoolFull);
    assert!(error.message().contains("8000"), "{error}");
    assert_eq!(rig.keep(0..10), 0);
}

#[test]
fn so_much_of_the_disk_is_left_free() {
    let disk = disk();
    disk.holds(Some(1_000_000));
    let careful = SpoolOptions {
        min_free_bytes: 500_000,
        when_full: WhenFull::Reject,
        ..options()
    };
    let mut rig = try_open(&disk, &careful).unwrap();
    let mut kept = 0;
    while let Some(Ok(_)) = rig.offer(&[batch(kept..kept + 1_000)], 0) {
        rig.turn();
        kept += 1_000;
    }
    assert!(disk.used() < 500_000 && disk.used() > 400_000, "{}", disk.used());
    let error = rig.offer(&[batch(0..10_000)], 0).unwrap().unwrap_err();
    assert_eq!(error.code(), Code::SpoolFull);
    assert!(error.message().contains("stay free"), "{error}");
    // Somebody else frees some. Who was refused has the writer look again.
    disk.holds(Some(2_000_000));
    rig.turn();
    rig.offer(&[batch(0..10_000)], 0).unwrap().unwrap();
}

/// Those who wait for others to free the disk look again once a second.
#[test]
fn a_waiter_for_free_space_is_let_in_when_there_is_some() {
    let disk = disk();
    disk.holds(Some(200_000));
    let patient = SpoolOptions {
        min_free_bytes: 150_000,
        ..options()
    };
    let mut rig = try_open(&disk, &patient).unwrap();
    while let Some(appended) = rig.offer(&[batch(0..10)], 0) {
        appended.unwrap();
        rig.turn();
    }
    let more = [batch(0..10)];
    let mut waiting = Box::pin(rig.spool.append(&more, 0));
    for _ in 0..3 {
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_ne!(rig.writer.turn(Instant::now()), WriterTurn::Idle(None));
    }
    disk.holds(None);
    rig.writer.turn(Instant::now() + SECOND);
    waiting.as_mut().now_or_never().unwrap().unwrap();
}

/// a disk that is full is no error to who is ready to wait, whoever has filled it.
#[test]
fn an_append_waits_for_a_disk_that_is_full_and_nothing_passes_it() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..10);
    disk.holds(Some(disk.used() + 3_000));
    let (first, second) = (rig.append(10..20), rig.append(20..30));
    // What has to be written for others to be delivered is.
    let (marked, cancelled) = (rig.spool.mark([7; 16]), rig.spool.cancel(5..10));
    for _ in 0..3 {
        assert_ne!(rig.turn_later(), WriterTurn::Idle(None));
    }
    answer(marked).unwrap().unwrap();
    answer(cancelled).unwrap().unwrap();
    let mut waiting = [first.durable, second.durable];
    assert!(waiting.iter_mut().all(|durable| durable.now_or_never().is_none()));
    // What is on the disk is read meanwhile.
    assert_eq!(rig.values(), (0..5).collect::<Vec<_>>());
    disk.holds(None);
    rig.turn_later();
    assert!(
        waiting
            .into_iter()
            .all(|durable| answer(durable).unwrap().is_ok())
    );
    assert_eq!(rig.values(), (0..5).chain(10..30).collect::<Vec<_>>());
}

/// a spool that has filled the disk by itself has what it needs to empty it again.
#[test]
fn a_disk_that_the_spool_has_filled_has_room_again_once_all_is_delivered() {
    for when_full in [WhenFull::Wait, WhenFull::Reject] {
        let disk = disk();
        disk.holds(Some(1_000_000));
        let options = SpoolOptions {
            when_full,
            ..options()
        };
        let mut rig = try_open(&disk, &options).unwrap();
        let mut reader = rig.spool.read_from(0);
        for _ in 0..2 {
            let first = rig.spool.next_position() as i64;
            let mut last = first;
            let waiting = loop {
                let mut durable = rig.append(last..last + 1_000).durable;
                rig.turn();
                match (&mut durable).now_or_never() {
                    Some(Ok(())) => last += 1_000,
                    Some(Err(error)) => {
                        assert_eq!((error.code(), when_full), (Code::SpoolFull, WhenFull::Reject));
                        break None;
                    }
                    None => break Some(durable),
                }
            };
            assert!(last - first > 80_000, "{first}..{last}");
            while reader.next().unwrap().is_some() {}
            rig.spool.settle_through(last as u64);
            rig.turn_later();
            // Whoever delivers comes to the end, and leaves the file that is deleted.
            assert!(reader.next().unwrap().is_none());
            rig.turn_later();
            assert!(disk.used() < 100_000, "{}", disk.used());
            if let Some(durable) = waiting {
                answer(durable).unwrap().unwrap();
                rig.spool.settle_through(last as u64 + 1_000);
            }
        }
    }
}

/// who takes back what waits for a full disk does not wait for it.
#[test]
fn an_append_that_is_not_written_is_taken_back_at_once() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..10);
    disk.holds(Some(disk.used() + 100));
    let (gone, stays) = (rig.append(10..20), rig.append(20..30));
    rig.turn();
    assert!(answer(rig.spool.cancel(10..20)).unwrap().is_ok());
    assert_eq!(refused(gone.durable).code(), Code::Aborted);
    disk.holds(None);
    rig.turn_later();
    answer(stays.durable).unwrap().unwrap();
    let rows: Vec<i64> = (0..10).chain(20..30).collect();
    assert_eq!(rig.values(), rows);
    let disk = rig.kill();
    assert_eq!(open(&disk).values(), rows);
}

/// Memory is bounded: what is not written yet waits outside.
#[test]
fn the_queue_is_bounded_in_bytes_and_takes_one_that_is_larger() {
    let disk = disk();
    let narrow = SpoolOptions {
        queue_bytes: 2_000,
        ..options()
    };
    let mut rig = try_open(&disk, &narrow).unwrap();
    let mut taken = Vec::new();
    while let Some(appended) = rig.offer(&[batch(0..10)], 0) {
        taken.push(appended.unwrap().durable);
    }
    assert!((1..6).contains(&taken.len()), "{}", taken.len());
    rig.turn();
    assert!(taken.into_iter().all(|durable| answer(durable).unwrap().is_ok()));
    let large = rig.offer(&[batch(0..5_000)], 0).unwrap().unwrap();
    assert!(rig.offer(&[batch(0..10)], 0).is_none());
    rig.turn();
    answer(large.durable).unwrap().unwrap();
}

/// An append that is given up while it waits has taken nothing.
#[test]
fn an_append_that_is_given_up_while_it_waits_leaves_nothing() {
    let disk = disk();
    let mut rig = try_open(&disk, &bounded(8_000, WhenFull::Wait)).unwrap();
    while rig.offer(&[batch(0..100)], 0).is_some() {
        rig.turn();
    }
    let found = rig.values().len();
    rig.turn();
    assert_eq!(rig.values().len(), found);
    rig.spool.settle_through(found as u64);
    rig.turn();
    assert_eq!(rig.keep(0..1), found as u64);
}

#[test]
fn a_closed_spool_takes_nothing_and_says_so() {
    let disk = disk();
    let Rig {
        spool, mut writer, ..
    } = open(&disk);
    let appended = spool.append(&[batch(0..3)], 0).now_or_never().unwrap().unwrap();
    let mut reader = spool.read_from(0);
    spool.close();
    // What was taken is written.
    while writer.turn(Instant::now()) != WriterTurn::End {}
    answer(appended.durable).unwrap().unwrap();
    assert!(reader.next().unwrap().is_some());
    drop(writer);
    assert_eq!(open(&disk).values(), [0, 1, 2]);
}

/// Schemas are bytes too, in memory and on the disk.
#[test]
fn schemas_count_in_the_queue_and_in_the_budget() {
    let disk = disk();
    let narrow = SpoolOptions {
        queue_bytes: 40_000,
        ..bounded(60_000, WhenFull::Wait)
    };
    let mut rig = try_open(&disk, &narrow).unwrap();
    let wide = |name: &str| {
        arrow::array::RecordBatch::try_new(
            crate::support::schema(&name.repeat(5_000)),
            batch([1]).columns().to_vec(),
        )
        .unwrap()
    };
    let mut taken = 0;
    while rig
        .offer(&[wide(["a", "b"][taken % 2])], 0)
        .is_some_and(|taken| taken.is_ok())
    {
        taken += 1;
        assert!(taken < 30);
    }
    rig.turn();
    assert!((2..9).contains(&taken), "{taken}");
    assert!(rig.spool.bytes() <= 60_000, "{}", rig.spool.bytes());
}

/// Segments that a long queue needs take room too.
#[test]
fn the_heads_of_new_segments_count_in_the_budget() {
    let disk = disk();
    let small = SpoolOptions {
        segment_bytes: 700,
        ..bounded(40_000, WhenFull::Reject)
    };
    let mut rig = try_open(&disk, &small).unwrap();
    let mut waiting = Vec::new();
    while let Some(Ok(appended)) = rig.offer(&[batch(0..10)], 0) {
        waiting.push(appended.durable);
    }
    rig.turn();
    assert!(
        waiting
            .into_iter()
            .all(|durable| answer(durable).unwrap().is_ok())
    );
    assert!(rig.spool.bytes() <= 40_000, "{}", rig.spool.bytes());
}

/// What fits when all else is settled is let in then, also if it is larger than many segments.
#[test]
fn a_delivery_of_nearly_the_whole_budget_is_let_in() {
    let disk = disk();
    let small = SpoolOptions {
        segment_bytes: 700,
        ..bounded(20_000, WhenFull::Wait)
    };
    let mut rig = try_open(&disk, &small).unwrap();
    for first in (0..200).step_by(10) {
        rig.keep(first..first + 10);
    }
    let large = [batch(200..2_350)];
    assert!(rig.offer(&large, 0).is_none());
    rig.spool.settle_through(200);
    rig.turn();
    rig.turn();
    let appended = rig.offer(&large, 0).unwrap().unwrap();
    rig.turn();
    answer(appended.durable).unwrap().unwrap();
    assert!(rig.spool.bytes() <= 20_000, "{}", rig.spool.bytes());
}

/// A cancellation finds room in a spool that is full, and the budget holds all the same.
#[test]
fn every_delivery_of_a_full_spool_can_be_cancelled_within_the_budget() {
    let disk = disk();
    let options = bounded(20_000, WhenFull::Reject);
    let mut rig = try_open(&disk, &options).unwrap();
    let mut kept = 0;
    while let Some(Ok(appended)) = rig.offer(&[batch(kept..kept + 10)], 0) {
        rig.turn();
        answer(appended.durable).unwrap().unwrap();
        kept += 10;
    }
    // As many are counted after an opening.
    let disk = rig.close();
    let mut rig = try_open(&disk, &options).unwrap();
    while let Some(Ok(appended)) = rig.offer(&[batch(kept..kept + 10)], 0) {
        rig.turn();
        answer(appended.durable).unwrap().unwrap();
        kept += 10;
    }
    assert!(kept > 200);
    // From the last to the second, so that each is out of order.
    for first in (1..kept as u64 / 10).rev().map(|delivery| delivery * 10) {
        let cancelled = rig.spool.cancel(first..first + 10);
        rig.turn();
        answer(cancelled).unwrap().unwrap();
        assert!(rig.spool.bytes() <= 20_000, "{}", rig.spool.bytes());
    }
    let log: usize = segments(&disk).iter().map(|path| disk.files()[path].len()).sum();
    assert_eq!(log as u64, rig.spool.bytes());
    assert_eq!(rig.values(), (0..10).collect::<Vec<_>>());
    // What goes makes room again.
    rig.spool.settle_through(kept as u64);
    rig.turn_later();
    assert!(
        rig.offer(&[batch(0..10)], 0)
            .is_some_and(|appended| appended.is_ok())
    );
}
