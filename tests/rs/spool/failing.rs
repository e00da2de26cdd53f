//! A disk that fails: a coded error, the rows are the caller's, and what was durable stays.

use arrow_ingest::error::{Code, Error};
use arrow_ingest::spool::{Durability, SpoolOptions};

use crate::simulated::{Call, EDQUOT, EIO, ENOSPC, EROFS, Simulated};
use crate::support::{Rig, answer, count, disk, open, options, path, refused, segments, try_open};

const ALL: [Call; 9] = [
    Call::Create,
    Call::Open,
    Call::Read,
    Call::Write,
    Call::SetLength,
    Call::Sync,
    Call::Rename,
    Call::Unlink,
    Call::SyncDirectory,
];

/// whatever the disk says, there is a code for it.
#[test]
fn each_answer_of_a_disk_has_its_code() {
    for (call, errno, code) in [
        (Call::Write, ENOSPC, Code::SpoolFull),
        (Call::Write, EDQUOT, Code::SpoolFull),
        (Call::Write, EIO, Code::SpoolFailed),
        (Call::Create, EROFS, Code::PermissionDenied),
        (Call::Sync, EIO, Code::SpoolFailed),
        (Call::Sync, ENOSPC, Code::SpoolFull),
        (Call::SyncDirectory, EIO, Code::SpoolFailed),
    ] {
        let disk = disk();
        let mut rig = open(&disk);
        disk.fail(call, 0, 1, errno);
        let appended = rig.append(0..3);
        rig.turn();
        let error: Error = refused(appended.durable);
        assert_eq!(
            (error.code(), error.is_ambiguous()),
            (code, false),
            "{call:?} {error}"
        );
        // The next goes well, and what was refused is not found: not now, and not by the next opening.
        rig.keep(3..6);
        assert_eq!(rig.values(), [3, 4, 5], "{call:?}");
        for seed in 0..20 {
            assert_eq!(
                open(&disk.after_power_cut(seed)).values(),
                [3, 4, 5],
                "{call:?} {seed}"
            );
        }
        assert_eq!(open(&rig.kill()).values(), [3, 4, 5], "{call:?}");
    }
}

/// Everybody who waited is told, and no second sync is believed: what comes goes to another segment.
#[test]
fn a_failed_sync_is_told_to_all_who_wait_and_never_tried_again() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    let before = segments(&disk).len();
    disk.fail(Call::Sync, 0, 1, EIO);
    let waiting = [rig.append(3..4), rig.append(4..5), rig.append(5..6)];
    rig.turn();
    let first = path("00000000000000000000-0000000001.segment")
        .display()
        .to_string();
    let syncs = count(&disk, "Sync", &first);
    for appended in waiting {
        assert!(refused(appended.durable).message().contains("cannot sync"));
    }
    rig.keep(6..8);
    assert_eq!(segments(&disk).len(), before + 1);
    assert_eq!(count(&disk, "Sync", &first), syncs);
    assert_eq!(rig.values(), [0, 1, 2, 6, 7]);
    for seed in 0..50 {
        assert_eq!(open(&disk.after_power_cut(seed)).values(), [0, 1, 2, 6, 7]);
    }
}

/// Written: what was answered is not taken back because a later sync fails.
#[test]
fn a_failed_sync_takes_nothing_back_that_was_answered_as_written() {
    let disk = disk();
    let written = SpoolOptions {
        durability: Durability::Written,
        ..options()
    };
    let mut rig = try_open(&disk, &written).unwrap();
    rig.keep(0..3);
    disk.fail(Call::Sync, 0, 1, EIO);
    let synced = rig.spool.sync();
    rig.turn();
    assert_eq!(refused(synced).code(), Code::SpoolFailed);
    rig.keep(3..5);
    let synced = rig.spool.sync();
    rig.turn();
    answer(synced).unwrap().unwrap();
    assert_eq!(rig.values(), [0, 1, 2, 3, 4]);
    assert_eq!(try_open(&rig.kill(), &written).unwrap().values(), [0, 1, 2, 3, 4]);
}

/// Written, and the segment that would follow cannot be made: readers get the rows when one can be.
#[test]
fn written_rows_of_a_failed_sync_are_read_when_there_is_another_segment() {
    let disk = disk();
    let written = SpoolOptions {
        durability: Durability::Written,
        ..options()
    };
    let mut rig = try_open(&disk, &written).unwrap();
    rig.keep(0..3);
    disk.fail(Call::Sync, 0, 1, EIO);
    disk.fail(Call::Create, 0, 1, EIO);
    let synced = rig.spool.sync();
    rig.turn();
    assert!(refused(synced).is_ambiguous());
    assert_eq!(rig.values(), Vec::<i64>::new());
    rig.keep(3..5);
    let synced = rig.spool.sync();
    rig.turn();
    answer(synced).unwrap().unwrap();
    assert_eq!(rig.values(), [0, 1, 2, 3, 4]);
}

/// Where neither the old segment can be cut nor another be made, the error says that the rows may be found.
#[test]
fn what_may_be_found_again_is_said_to_be_ambiguous() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    disk.fail(Call::Sync, 0, usize::MAX, EIO);
    let appended = rig.append(3..6);
    rig.turn();
    assert!(refused(appended.durable).is_ambiguous());
    let appended = rig.append(6..9);
    rig.turn();
    assert!(refused(appended.durable).is_ambiguous());
    disk.heal();
    rig.keep(9..12);
    assert_eq!(rig.values(), [0, 1, 2, 9, 10, 11]);
    assert_eq!(open(&rig.kill()).values(), [0, 1, 2, 9, 10, 11]);
}

/// A long queue does not ask a disk for a new segment once for each of its appends.
#[test]
fn where_no_segment_can_be_made_a_queue_is_refused_at_once() {
    let disk = disk();
    let mut rig = open(&disk);
    disk.fail(Call::Create, 0, usize::MAX, ENOSPC);
    let waiting: Vec<_> = (0..50).map(|n| rig.append([n]).durable).collect();
    let before = count(&disk, "Create", "segment");
    rig.turn();
    assert_eq!(count(&disk, "Create", "segment") - before, 1);
    for durable in waiting {
        assert_eq!(refused(durable).code(), Code::SpoolFull);
    }
    disk.heal();
    rig.keep([50]);
    assert_eq!(rig.values(), [50]);
}

/// What the cursor could not be told is told a second later, in a new file; nobody asks in a loop.
#[test]
fn a_cursor_that_failed_is_written_anew() {
    for call in [
        Call::Write,
        Call::Sync,
        Call::Create,
        Call::Rename,
        Call::Unlink,
        Call::SyncDirectory,
    ] {
        let disk = disk();
        let mut rig = open(&disk);
        rig.keep(0..10);
        rig.spool.settle_through(3);
        rig.turn_later();
        rig.spool.settle_through(5);
        disk.fail_within("cursor", Call::Write, 0, 1, EIO);
        rig.turn_later();
        disk.fail_within("default", call, 0, 1, EIO);
        let mark = rig.spool.mark([1; 16]);
        rig.turn();
        let told = answer(mark).unwrap();
        let calls = disk.calls();
        rig.turn();
        rig.turn();
        assert!(disk.calls() <= calls + 8, "{call:?}");
        rig.writer
            .turn(std::time::Instant::now() + std::time::Duration::from_secs(9));
        rig.writer
            .turn(std::time::Instant::now() + std::time::Duration::from_secs(19));
        let mut after = open(&disk.after_power_cut(0));
        assert_eq!(after.values(), (5..10).collect::<Vec<_>>(), "{call:?} {told:?}");
    }
}

/// The first cursor of a process has its name, and the directory cannot be synced: a power cut brings the old one back,
/// so nobody is told that what the new one says is durable. Not for want of room either, where an old file is written to.
#[test]
fn a_cursor_whose_name_a_power_cut_may_take_is_not_believed() {
    for errno in [EIO, ENOSPC] {
        for seed in 0..8 {
            let disk = disk();
            let mut rig = open(&disk);
            rig.keep(0..10);
            rig.spool.settle_through(3);
            rig.turn_later();
            let disk = rig.kill();
            let mut rig = open(&disk);
            rig.keep(10..12);
            disk.fail_within("default", Call::SyncDirectory, 0, 1, errno);
            let mark = rig.spool.mark([1; 16]);
            rig.turn();
            let told = answer(mark).unwrap();
            let found = open(&disk.after_power_cut(seed)).recovered.mark;
            assert!(
                told.is_err() || found == Some([1; 16]),
                "{errno} {seed}: {found:?}"
            );
        }
    }
}

/// Appends, settles, reads: some of everything, whatever is answered. What was acknowledged, and what may be there.
fn work(rig: &mut Rig, from: i64) -> (Vec<i64>, Vec<i64>) {
    let (mut kept, mut maybe) = (Vec::new(), Vec::new());
    for first in (from..from + 60).step_by(10) {
        let Some(Ok(appended)) = rig.offer(&[crate::support::batch(first..first + 10)], 0) else {
            continue;
        };
        rig.turn();
        match answer(appended.durable).unwrap() {
            Ok(()) => kept.extend(first..first + 10),
            Err(error) if error.is_ambiguous() => maybe.extend(first..first + 10),
            Err(_) => {}
        }
        let mut reader = rig.spool.read_from(0);
        let _ = reader.next();
        rig.spool.settle_through(12);
        let _ = answer(rig.spool.cancel(25..30));
        rig.turn_later();
    }
    (kept, maybe)
}

fn check(disk: &Simulated, kept: &[i64], maybe: &[i64], what: &str) {
    let mut rig = try_open(disk, &small()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = rig.values();
    assert!(found.is_sorted(), "{what}: {found:?}");
    let kept: Vec<i64> = kept.iter().copied().filter(|value| *value >= 12).collect();
    let surely = kept.iter().filter(|value| !(25..30).contains(*value));
    for value in surely {
        let times = found.iter().filter(|other| *other == value).count();
        assert_eq!(times, 1, "{what}: {value} of {found:?}");
    }
    for value in &found {
        // Settled rows may come back where the disk did not take the cursor.
        assert!(
            kept.contains(value) || maybe.contains(value) || *value < 12,
            "{what}: {value} was refused"
        );
    }
    let mut sorted = found.clone();
    sorted.dedup();
    assert_eq!(sorted, found, "{what}");
}

fn small() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 1500,
        ..options()
    }
}

/// each call failing once, and failing from then on; then the power goes, or the process.
#[test]
fn whichever_call_fails_once_or_for_good_nothing_acknowledged_is_lost() {
    let mut tried = 0;
    for call in ALL {
        for times in [1, usize::MAX] {
            for nth in 0.. {
                let disk = disk();
                let (mut kept, mut maybe) = (Vec::new(), Vec::new());
                let before = try_open(&disk, &small()).unwrap();
                before.close();
                disk.fail(call, nth, times, EIO);
                let opened = try_open(&disk, &small());
                let what = format!("{call:?} {nth} {times}");
                let mut rig = match opened {
                    Ok(rig) => rig,
                    Err(error) => {
                        assert_eq!(error.code(), Code::SpoolFailed, "{what}");
                        disk.heal();
                        open(&disk)
                    }
                };
                let (some, perhaps) = work(&mut rig, 0);
                kept.extend(some);
                maybe.extend(perhaps);
                let reached = disk.failed() > 0;
                for seed in [0, 1, 2, 3] {
                    check(&disk.after_power_cut(seed), &kept, &maybe, &what);
                }
                // And it goes on where the disk does.
                disk.heal();
                let (more, perhaps) = work(&mut rig, 100);
                assert_eq!(more.len(), 60, "{what}");
                kept.extend(more);
                maybe.extend(perhaps);
                check(&rig.kill(), &kept, &maybe, &what);
                tried += 1;
                if !reached {
                    break;
                }
            }
        }
    }
    assert!(tried > 150, "{tried}");
}

/// The power goes after each call in turn.
#[test]
fn whenever_the_power_goes_nothing_acknowledged_is_lost() {
    let whole = disk();
    work(&mut try_open(&whole, &small()).unwrap(), 0);
    for calls in 0..whole.calls() {
        let disk = disk();
        disk.lasts(calls);
        let (kept, maybe) = match try_open(&disk, &small()) {
            Ok(mut rig) => work(&mut rig, 0),
            Err(_) => (Vec::new(), Vec::new()),
        };
        // Whoever was not answered may be there.
        let maybe: Vec<i64> = (0..60)
            .filter(|value| !kept.contains(value))
            .chain(maybe)
            .collect();
        for seed in 0..12 {
            check(
                &disk.after_power_cut(seed),
                &kept,
                &maybe,
                &format!("{calls} {seed}"),
            );
        }
    }
}

/// Refused rows that took several segments: none of these is in the way of what comes after.
#[test]
fn segments_of_refused_rows_are_gone() {
    let disk = disk();
    let mut rig = try_open(&disk, &small()).unwrap();
    rig.keep([0]);
    let first = segments(&disk);
    disk.fail(Call::Sync, 1, 1, EIO);
    let waiting: Vec<_> = (0..6)
        .map(|n| rig.append(n * 100 + 1..n * 100 + 60).durable)
        .collect();
    rig.turn();
    for durable in waiting {
        refused(durable);
    }
    // One that begins where the synced part ends is in nobody's way.
    assert_eq!(segments(&disk).len(), first.len() + 2);
    rig.keep([1000]);
    assert_eq!(rig.values(), [0, 1000]);
    assert_eq!(try_open(&rig.kill(), &small()).unwrap().values(), [0, 1000]);
}

/// And if they cannot be deleted, the next opening passes over them.
#[test]
fn segments_of_refused_rows_that_stayed_count_for_nothing() {
    let disk = disk();
    let mut rig = try_open(&disk, &small()).unwrap();
    rig.keep([0]);
    disk.fail(Call::Sync, 1, 1, EIO);
    disk.fail(Call::Unlink, 0, usize::MAX, EIO);
    for n in 0..6 {
        rig.append(n * 100 + 1..n * 100 + 60);
    }
    rig.turn();
    rig.keep([1000]);
    assert!(segments(&disk).len() > 4);
    let mut rig = try_open(&rig.kill(), &small()).unwrap();
    assert_eq!(rig.values(), [0, 1000]);
    assert_eq!(segments(&rig.disk).len(), 3);
}

/// Positions that were refused, and that a segment calls settled, are not given to other rows.
#[test]
fn a_position_that_is_settled_is_not_given_again() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    disk.fail(Call::Write, 0, 1, EIO);
    rig.append([3]);
    rig.turn();
    disk.fail(Call::Sync, 0, 1, EIO);
    rig.append([4]);
    rig.turn();
    rig.spool.settle_through(3);
    let mut rig = open(&rig.close());
    assert!(rig.keep([5, 6]) >= 4);
    assert_eq!(rig.values(), [5, 6]);
    assert_eq!(open(&rig.kill()).values(), [5, 6]);
}

/// Written: while a sync has failed and no other segment can be made, nobody is told that all is synced, and no
/// reader sees positions that another process may give again.
#[test]
fn without_another_segment_a_failed_sync_stays_failed() {
    let disk = disk();
    let written = SpoolOptions {
        durability: Durability::Written,
        ..options()
    };
    let mut rig = try_open(&disk, &written).unwrap();
    rig.keep(0..3);
    disk.fail(Call::Sync, 0, 1, EIO);
    disk.fail(Call::Create, 0, 3, EIO);
    // At one moment: a second later it tries again.
    let now = std::time::Instant::now();
    for _ in 0..2 {
        let synced = rig.spool.sync();
        rig.writer.turn(now);
        refused(synced);
        assert_eq!(rig.values(), Vec::<i64>::new());
    }
    // A reader that waits is served when the disk can, without anybody's help.
    assert_ne!(rig.writer.turn(now), arrow_ingest::spool::WriterTurn::Idle(None));
    rig.turn_later();
    rig.writer
        .turn(std::time::Instant::now() + std::time::Duration::from_secs(9));
    assert_eq!(rig.values(), [0, 1, 2]);
    let mut after = try_open(&disk.after_power_cut(0), &written).unwrap();
    assert!(after.keep([3]) >= 3);
}

/// Written: the name of a new segment is not believed because a second sync of the directory went well.
#[test]
fn a_directory_sync_that_failed_for_the_cursor_is_not_tried_again_for_a_segment() {
    let disk = disk();
    let written = SpoolOptions {
        durability: Durability::Written,
        ..options()
    };
    try_open(&disk, &written).unwrap().close();
    let mut rig = try_open(&disk, &written).unwrap();
    rig.keep(0..3);
    disk.fail(Call::SyncDirectory, 0, 1, EIO);
    let mark = rig.spool.mark([1; 16]);
    rig.turn();
    let told = answer(mark).unwrap();
    let synced = rig.spool.sync();
    rig.turn();
    let synced = answer(synced).unwrap();
    let found = try_open(&disk.after_power_cut(0), &written).unwrap().values();
    assert!(
        synced.is_err() || found == [0, 1, 2],
        "{told:?} {synced:?} {found:?}"
    );
}

/// A disk whose syncs go on failing is not filled with segments that hold nothing.
#[test]
fn segments_that_could_not_be_synced_do_not_pile_up() {
    let disk = disk();
    let written = SpoolOptions {
        durability: Durability::Written,
        ..options()
    };
    let mut rig = try_open(&disk, &written).unwrap();
    rig.append(0..3);
    disk.fail(Call::Sync, 0, usize::MAX, EIO);
    for _ in 0..20 {
        refused(rig.syncing());
    }
    assert!(segments(&disk).len() <= 2, "{:?}", segments(&disk));
    disk.heal();
    rig.keep(3..5);
    answer(rig.syncing()).unwrap().unwrap();
    assert_eq!(rig.values(), [0, 1, 2, 3, 4]);
}

impl Rig {
    /// A sync that a turn has answered.
    fn syncing(&mut self) -> arrow_ingest::spool::Durable {
        let synced = self.spool.sync();
        self.turn();
        synced
    }
}

/// A segment that was synced and has no rows yet stays, whatever fails: it may be the only one with the target.
#[test]
fn a_segment_without_rows_that_was_synced_stays() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    let disk = rig.close();
    let other = SpoolOptions {
        target: "delta:///other".into(),
        retarget: true,
        ..options()
    };
    let rig = &mut try_open(&disk, &other).unwrap();
    disk.fail(Call::Write, 0, 1, EIO);
    disk.fail(Call::Sync, 0, usize::MAX, EIO);
    let appended = rig.append(3..5);
    rig.turn();
    refused(appended.durable);
    let after = disk.after_kill();
    assert!(try_open(&after, &options()).is_err());
}

/// Nor because of a sync that failed for a reader, which has made the directory for what it sets aside.
#[test]
fn a_directory_sync_that_failed_for_a_reader_is_not_tried_again_for_a_segment() {
    let disk = disk();
    let written = SpoolOptions {
        durability: Durability::Written,
        ..options()
    };
    let mut rig = try_open(&disk, &written).unwrap();
    rig.keep(0..3);
    rig.keep(3..6);
    rig.close();
    let first = segments(&disk)[0].clone();
    disk.damage(&first, |bytes| {
        let last = bytes.len() - 64;
        bytes[last - 64] ^= 1;
    });
    let mut rig = try_open(&disk, &written).unwrap();
    rig.keep(6..9);
    disk.fail(Call::SyncDirectory, 0, 1, EIO);
    let mut reader = rig.spool.read_from(0);
    while let Ok(Some(_)) = reader.next() {}
    assert_eq!(disk.failed(), 1);
    let synced = rig.spool.sync();
    rig.turn();
    let synced = answer(synced).unwrap();
    let found = try_open(&disk.after_power_cut(0), &written).unwrap().values();
    assert!(
        synced.is_err() || found.ends_with(&[6, 7, 8]),
        "{synced:?} {found:?}"
    );
}
