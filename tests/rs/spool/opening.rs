//! Who may open a spool, and what is found there.

use std::sync::Arc;
use std::time::Duration;

use arrow_ingest::error::Code;
use arrow_ingest::file_system::Disk as _;
use arrow_ingest::spool::format::{CursorSlot, DecodedHeader, SegmentHeader};
use arrow_ingest::spool::{Spool, SpoolOptions};

use crate::simulated::{Call, EACCES, EIO, ENOSPC, EROFS, Simulated};
use crate::support::{SPOOL, answer, batch, disk, open, options, path, segments, try_open};

/// a second owner is told who the first one is.
#[test]
fn a_spool_that_is_open_is_locked_and_names_its_owner() {
    let disk = disk();
    let first = try_open(
        &disk,
        &SpoolOptions {
            owner: "worker 3".into(),
            ..options()
        },
    )
    .unwrap();
    let error = try_open(&disk, &options()).err().unwrap();
    assert_eq!(error.code(), Code::SpoolLocked);
    let pid = format!("\"pid\":{}", std::process::id());
    assert!(
        error.message().contains("worker 3") && error.message().contains(&pid),
        "{error}"
    );
    // Another name is another spool.
    let other = SpoolOptions {
        name: "other".into(),
        ..options()
    };
    try_open(&disk, &other).unwrap();
    // A spool that is dropped or closed is anybody's.
    drop(first);
    open(&disk).close();
    open(&disk);
}

#[test]
fn who_left_no_name_is_not_named() {
    let disk = disk();
    let _rig = open(&disk);
    disk.damage(&path("owner"), Vec::clear);
    let error = try_open(&disk, &options()).err().unwrap();
    assert!(error.message().contains("left no name"), "{error}");
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    for name in ["", ".", "..", "a/b", "/a", "a/"] {
        let named = SpoolOptions {
            name: name.into(),
            ..options()
        };
        let error = try_open(&disk(), &named).err().unwrap();
        assert_eq!(error.code(), Code::ConfigInvalid, "{name}");
    }
}

/// a newer format is refused whole, and nothing is changed.
#[test]
fn a_newer_format_is_refused_whole() {
    let newer = |bytes: &mut Vec<u8>| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    };
    for file in ["00000000000000000000-0000000001.segment", "cursor"] {
        let disk = disk();
        let mut rig = open(&disk);
        rig.keep(0..3);
        // The first writing of a cursor is the one with number 1.
        let disk = rig.close();
        disk.damage(&path(file), |bytes| match file {
            "cursor" => {
                let mut slot = bytes[4096..].to_vec();
                newer(&mut slot);
                bytes.truncate(4096);
                bytes.extend(slot);
            }
            _ => newer(bytes),
        });
        let mut before = disk.files();
        let error = try_open(&disk, &options()).err().unwrap();
        assert_eq!(error.code(), Code::SpoolFormat, "{file}");
        assert!(error.message().contains("format 2"), "{error}");
        let mut after = disk.files();
        // Who looked last is no part of the log.
        before.remove(&path("owner"));
        after.remove(&path("owner"));
        assert_eq!(before, after);
    }
}

#[test]
fn files_that_are_not_understood_are_left_alone() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    let id = rig.spool.id();
    let disk = rig.close();
    let names = [
        "notes.txt",
        "1-2.segment",
        "0000000000000000000x-0000000001.segment",
        "x.segment",
    ];
    for name in names {
        disk.create(&path(name))
            .unwrap()
            .write_all_at(b"mine", 0)
            .unwrap();
    }
    // A segment of another spool, under a name that could be ours; and one of ours under another name.
    let bytes = disk.files()[&segments(&disk)[0]].clone();
    let DecodedHeader::Whole(mut header) = SegmentHeader::decode(&bytes) else {
        panic!("no header")
    };
    assert_eq!(header.id, id);
    let renamed = path("00000000000000000005-0000000009.segment");
    disk.create(&renamed).unwrap().write_all_at(&bytes, 0).unwrap();
    header.id = [9; 16];
    header.name.sequence = 0;
    let foreign = path("00000000000000000000-0000000000.segment");
    disk.create(&foreign)
        .unwrap()
        .write_all_at(&header.encode(), 0)
        .unwrap();
    let before = disk.files();
    let mut rig = open(&disk);
    assert_eq!(rig.recovered.foreign, [foreign.clone(), renamed.clone()]);
    assert_eq!(rig.values(), [0, 1, 2]);
    rig.keep(3..5);
    rig.spool.settle_through(5);
    let after = rig.close().files();
    for kept in names.map(path).iter().chain([&foreign, &renamed]) {
        assert_eq!(after.get(kept), before.get(kept), "{}", kept.display());
    }
}

/// rows for one target are never delivered to another.
#[test]
fn another_target_is_refused_until_it_is_said_that_it_is_meant() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    let disk = rig.close();
    let other = SpoolOptions {
        target: "delta:///other".into(),
        ..options()
    };
    let error = try_open(&disk, &other).err().unwrap();
    assert_eq!(error.code(), Code::ConfigInvalid);
    assert!(
        error.message().contains("delta:///table") && error.message().contains("delta:///other"),
        "{error}"
    );
    let retarget = SpoolOptions {
        retarget: true,
        ..other.clone()
    };
    try_open(&disk, &retarget).unwrap().close();
    let error = try_open(&disk, &options()).err().unwrap();
    assert_eq!(error.code(), Code::ConfigInvalid);
    let mut rig = try_open(&disk.after_power_cut(0), &other).unwrap();
    assert_eq!(rig.values(), [0, 1, 2]);
    // With nothing left, it may go anywhere.
    rig.spool.settle_through(3);
    open(&rig.close());
}

/// Else a destination to which it comes back would take it for a copy of itself.
#[test]
fn a_spool_that_comes_back_to_a_target_has_the_marks_that_it_had_left_there() {
    let to = |target: &str| SpoolOptions {
        target: format!("https://me:secret@{target}/?key=secret"),
        retarget: true,
        ..options()
    };
    let marked = |disk: &Simulated, target: &str, mark: u8| {
        let mut rig = try_open(disk, &to(target)).unwrap();
        rig.keep([i64::from(mark)]);
        let durable = rig.spool.mark([mark; 16]);
        rig.turn();
        answer(durable).unwrap().unwrap();
        (rig.recovered.former_marks.clone(), rig.disk.after_power_cut(0))
    };
    let (found, disk) = marked(&disk(), "a", 1);
    assert_eq!(found, Vec::<[u8; 16]>::new());
    let (found, disk) = marked(&disk, "b", 2);
    assert_eq!(found, Vec::<[u8; 16]>::new());
    let (found, disk) = marked(&disk, "a", 3);
    assert_eq!(found, [[1; 16]]);
    let (_, disk) = marked(&disk, "b", 4);
    let rig = try_open(&disk, &to("a")).unwrap();
    assert_eq!(rig.recovered.former_marks, [[1; 16], [3; 16]]);
    assert_eq!(rig.recovered.mark, Some([4; 16]));
    let disk = rig.close();
    let kept = disk.files().remove(&path("marks")).unwrap();
    assert!(!String::from_utf8(kept).unwrap().contains("secret"));
    // Many leavings later only the last ones are known.
    let disk = (0..40).fold(disk, |disk, _| marked(&marked(&disk, "b", 5).1, "a", 6).1);
    let rig = try_open(&disk, &to("b")).unwrap();
    assert_eq!(rig.recovered.former_marks, [[5; 16]; 32]);
}

/// The power goes after each call in turn: the spool has its target of before, or has kept the mark.
#[test]
fn a_mark_is_kept_before_the_spool_has_its_next_target() {
    let to = |target: &str, retarget: bool| SpoolOptions {
        target: target.into(),
        retarget,
        ..options()
    };
    let (mut stayed, mut left) = (0, 0);
    for calls in 0.. {
        let disk = disk();
        let mut rig = open(&disk);
        rig.keep(0..3);
        let durable = rig.spool.mark([7; 16]);
        rig.turn();
        answer(durable).unwrap().unwrap();
        let disk = rig.close();
        let end = disk.calls() + calls;
        disk.lasts(end);
        let is_done = try_open(&disk, &to("delta:///other", true)).is_ok() && disk.calls() < end;
        for seed in 0..4 {
            let disk = disk.after_power_cut(seed);
            // With rows in it, it opens for its own target alone.
            match try_open(&disk, &options()) {
                Ok(rig) => {
                    stayed += 1;
                    assert_eq!(rig.recovered.mark, Some([7; 16]), "{calls} {seed}");
                }
                Err(_) => {
                    left += 1;
                    drop(try_open(&disk, &to("delta:///other", false)).unwrap());
                    let back = try_open(&disk, &to("delta:///table", true)).unwrap();
                    assert!(back.recovered.former_marks.contains(&[7; 16]), "{calls} {seed}");
                }
            }
        }
        if is_done {
            break;
        }
    }
    assert!(stayed > 10 && left > 3, "{stayed} {left}");
}

/// Somebody has damaged it: the spool opens, and nothing is known.
#[test]
fn marks_that_cannot_be_understood_are_none() {
    for text in [
        "",
        "{",
        "{\"marks\":7}",
        "{\"marks\":[{\"target\":\"delta:///table\",\"mark\":\"x\"}]}",
    ] {
        let disk = disk();
        open(&disk).close();
        disk.create_private(&path("marks"))
            .unwrap()
            .write_all_at(text.as_bytes(), 0)
            .unwrap();
        assert_eq!(open(&disk).recovered.former_marks, Vec::<[u8; 16]>::new());
    }
}

/// nothing that may be a key is on the disk.
#[test]
fn the_target_is_kept_without_secrets() {
    let disk = disk();
    for (number, target) in [
        "grpc://user:hunter2@host:1/a?token=hunter2#hunter2",
        "no url ?token=hunter2",
        "delta:./lake?sig=hunter2",
    ]
    .into_iter()
    .enumerate()
    {
        let named = SpoolOptions {
            target: target.into(),
            name: number.to_string(),
            ..options()
        };
        let mut rig = try_open(&disk, &named).unwrap();
        rig.keep(0..3);
        rig.close();
    }
    for (path, bytes) in disk.files() {
        assert!(
            !bytes.windows(7).any(|bytes| bytes == b"hunter2"),
            "{}",
            path.display()
        );
    }
}

/// a disk that does not let us is told of by a code.
#[test]
fn what_stands_in_the_way_of_opening_has_a_code() {
    for (call, errno, code) in [
        (Call::CreateDirectory, EACCES, Code::PermissionDenied),
        (Call::CreateDirectory, EROFS, Code::PermissionDenied),
        (Call::Create, ENOSPC, Code::SpoolFull),
        (Call::Lock, EIO, Code::SpoolFailed),
        (Call::Lock, 95, Code::Unsupported),
        (Call::List, EIO, Code::SpoolFailed),
        (Call::Sync, EIO, Code::SpoolFailed),
        (Call::Rename, EIO, Code::SpoolFailed),
    ] {
        let disk = disk();
        disk.fail(call, 0, usize::MAX, errno);
        let error = try_open(&disk, &options()).err().unwrap();
        assert_eq!(error.code(), code, "{call:?} {error}");
        disk.heal();
        open(&disk);
    }
    let disk = disk();
    disk.create(std::path::Path::new("/d/spool")).unwrap();
    assert_eq!(
        try_open(&disk, &options()).err().unwrap().code(),
        Code::ConfigInvalid
    );
}

/// A full disk must not keep anybody from draining what is on it.
#[test]
fn a_spool_on_a_full_disk_opens_and_is_drained() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..100);
    let disk = rig.close();
    disk.holds(Some(disk.used()));
    let mut rig = open(&disk);
    assert_eq!(rig.values(), (0..100).collect::<Vec<_>>());
    // The destination's mark and what is settled find their place.
    let marked = rig.spool.mark([7; 16]);
    rig.turn();
    answer(marked).unwrap().unwrap();
    rig.spool.settle_through(60);
    rig.turn_later();
    let disk = rig.kill();
    let rig = open(&disk);
    assert_eq!((rig.recovered.position, rig.recovered.mark), (60, Some([7; 16])));
}

/// The directories that were made are durable when the spool is open.
#[test]
fn a_new_spool_survives_the_power_from_its_first_delivery_on() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    let id = rig.spool.id();
    let mut rig = open(&disk.after_power_cut(0));
    assert_eq!((rig.values(), rig.spool.id()), (vec![0, 1, 2], id));
    assert!(disk.is_directory(std::path::Path::new(SPOOL)).unwrap());
}

/// What an opening finds was perhaps never synced, and the power may go before anybody else writes.
#[test]
fn what_is_found_is_synced_before_it_is_given() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    let appended = rig.append(3..6);
    disk.fail(Call::Sync, 0, 1, EIO);
    rig.turn();
    drop(appended);
    // Written, and its sync has failed: as good as a process that is killed before its sync.
    let written = SpoolOptions {
        durability: arrow_ingest::spool::Durability::Written,
        segment_bytes: 1024,
        ..options()
    };
    let mut rig = try_open(&rig.kill(), &written).unwrap();
    for first in (6..66).step_by(10) {
        rig.keep(first..first + 10);
    }
    let mut rig = open(&rig.kill());
    let read = rig.read().values();
    assert_eq!(open(&rig.disk.after_power_cut(0)).values(), read);
}

/// A spool that lost its cursor begins at its beginning: at least once.
#[test]
fn without_a_cursor_nothing_is_settled() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    rig.spool.settle_through(2);
    let disk = rig.close();
    disk.unlink(&path("cursor")).unwrap();
    let mut rig = open(&disk);
    assert_eq!(rig.values(), [0, 1, 2]);
    let disk = rig.close();
    // Another spool's cursor is not ours, and is kept.
    let slot = CursorSlot {
        id: [3; 16],
        number: 8,
        through: 3,
        mark: [0; 16],
    };
    disk.damage(&path("cursor"), |bytes| *bytes = slot.encode().to_vec());
    let mut rig = open(&disk);
    assert_eq!(rig.values(), [0, 1, 2]);
    assert_eq!(disk.files()[&path("damaged/cursor")], slot.encode());
}

/// The same process, with threads: the first owner is another client.
#[test]
fn a_second_client_of_the_process_is_locked_out_until_the_first_is_closed() {
    let disk = Arc::new(disk());
    let (spool, _) = Spool::open(disk.clone(), &options()).unwrap();
    assert_eq!(
        Spool::open(disk.clone(), &options()).err().unwrap().code(),
        Code::SpoolLocked
    );
    spool.close();
    let (spool, _) = Spool::open(disk, &options()).unwrap();
    spool.close();
}

/// A close is answered although its disk is slow. Whoever opens the spool then waits for that disk.
#[test]
fn a_spool_that_is_being_closed_is_waited_for() {
    let disk = Arc::new(disk());
    let (spool, _) = Spool::open(disk.clone(), &options()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let appended = runtime.block_on(spool.append(&[batch(0..3)], 0)).unwrap();
    runtime.block_on(appended.durable).unwrap();
    disk.hang("cursor", Call::Sync);
    spool.settle_through(3);
    while disk.hanging() == 0 {
        std::thread::yield_now();
    }
    drop(spool);
    let again = {
        let disk = disk.clone();
        std::thread::spawn(move || Spool::open(disk, &options()).map(|(spool, _)| spool.close()))
    };
    std::thread::sleep(Duration::from_millis(50));
    assert!(!again.is_finished());
    disk.heal();
    again.join().unwrap().unwrap();
}

/// What is left is never told as nothing: rows for one target would go to another.
#[test]
fn what_is_left_is_not_forgotten_with_the_newest_header() {
    let small = SpoolOptions {
        segment_bytes: 1024,
        ..options()
    };
    let other = SpoolOptions {
        target: "delta:///other".into(),
        ..options()
    };
    let disk = disk();
    let mut rig = try_open(&disk, &small).unwrap();
    for first in (0..100).step_by(10) {
        rig.keep(first..first + 10);
    }
    rig.spool.settle_through(65);
    let disk = rig.close();
    // The name of a new segment may be there without its bytes.
    disk.damage(segments(&disk).last().unwrap(), Vec::clear);
    let (rig, left) = (open(&disk.after_power_cut(1)), 65..90);
    assert_eq!(rig.recovered.left.rows, left.count() as u64);
    assert_eq!(
        try_open(&disk.after_power_cut(1), &other)
            .err()
            .map(|error| error.code()),
        Some(Code::ConfigInvalid)
    );
    // And the segments behind it count on.
    let mut rig = open(&disk);
    rig.keep(100..103);
    assert_eq!(open(&rig.kill()).recovered.left.rows, 28);
}

/// Positions that no row has are settled, and are none of the rows that were.
#[test]
fn positions_without_rows_are_not_taken_off_what_is_left() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    disk.fail(Call::Write, 0, 1, EIO);
    rig.append(3..50);
    rig.turn();
    rig.keep(50..53);
    let mut disk = rig.close();
    for end in [53, 54, 55] {
        let mut rig = open(&disk);
        assert_eq!(rig.recovered.left.rows, end - 47, "{end}");
        assert_eq!(rig.recovered.left.deliveries, end - 51);
        rig.keep([end as i64]);
        disk = rig.kill();
        // A torn end: positions go on far behind it.
        let last = segments(&disk).pop().unwrap();
        disk.damage(&last, |bytes| bytes.extend([0; 64]));
    }
    let other = SpoolOptions {
        target: "delta:///other".into(),
        ..options()
    };
    assert!(try_open(&disk, &other).is_err());
}

/// What somebody has put beside the bytes that were set aside is no reason not to open.
#[test]
fn a_directory_among_what_was_set_aside_is_left_alone() {
    let disk = disk();
    open(&disk).close();
    disk.create_directory(&path("damaged")).unwrap();
    disk.create_directory(&path("damaged/seen")).unwrap();
    disk.create(&path("damaged/1.bytes"))
        .unwrap()
        .write_all_at(&[1; 100], 0)
        .unwrap();
    let rig = open(&disk);
    assert!(rig.spool.bytes() >= 100);
    assert!(disk.is_directory(&path("damaged/seen")).unwrap());
}

/// A file of another spool, newer than all of ours, does not make ours the strangers.
#[test]
fn a_newer_segment_of_another_spool_does_not_take_its_place() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    let id = rig.spool.id();
    let disk = rig.close();
    let bytes = disk.files()[&segments(&disk)[0]].clone();
    let DecodedHeader::Whole(mut header) = SegmentHeader::decode(&bytes) else {
        panic!("no header")
    };
    header.id = [9; 16];
    header.name.sequence = 7;
    let foreign = path("00000000000000000000-0000000007.segment");
    disk.create(&foreign)
        .unwrap()
        .write_all_at(&header.encode(), 0)
        .unwrap();
    let mut rig = open(&disk);
    assert_eq!((rig.spool.id(), rig.values()), (id, vec![0, 1, 2]));
    assert_eq!(rig.recovered.foreign, [foreign]);
}

/// A file of which nothing but the name can be believed does not make a whole segment count for nothing.
#[test]
fn a_file_without_a_header_deletes_no_segment() {
    let disk = disk();
    for first in [0, 10, 20] {
        let mut rig = open(&disk);
        rig.keep(first..first + 10);
        rig.close();
    }
    let stray = path("00000000000000000000-0000000009.segment");
    disk.create(&stray).unwrap().write_all_at(b"mine", 0).unwrap();
    let mut rig = open(&disk);
    assert_eq!(rig.values(), (0..30).collect::<Vec<_>>());
    assert_eq!(rig.keep([30]), 30);
    assert_eq!(open(&rig.kill()).values(), (0..31).collect::<Vec<_>>());
}

/// Positions and sequences have an end, which a name may claim to be near: an error, and no panic and no position
/// given twice.
#[test]
fn where_positions_or_sequences_end_an_append_is_refused() {
    for name in [
        "18446744073709551613-0000000009.segment",
        "00000000000000000003-9999999999.segment",
    ] {
        let disk = disk();
        let mut rig = open(&disk);
        rig.keep(0..3);
        let disk = rig.close();
        disk.create(&path(name)).unwrap();
        let mut rig = open(&disk);
        match rig.offer(&[crate::support::batch(3..9)], 0).unwrap() {
            Ok(appended) => {
                rig.turn();
                crate::support::refused(appended.durable);
            }
            Err(error) => assert_eq!(error.code(), Code::SpoolFull, "{name}"),
        }
        assert_eq!(open(&rig.kill()).values(), [0, 1, 2], "{name}");
    }
}

/// A cursor that did not get its name is none, whatever it says.
#[test]
fn a_cursor_without_its_name_is_passed_over() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..3);
    let id = rig.spool.id();
    let disk = rig.close();
    let slot = CursorSlot {
        id,
        number: 1000,
        through: 3,
        mark: [5; 16],
    };
    disk.create(&path("cursor.new"))
        .unwrap()
        .write_all_at(&slot.encode(), 0)
        .unwrap();
    let mut rig = open(&disk);
    assert_eq!((rig.values(), rig.recovered.mark), (vec![0, 1, 2], None));
    // And it is in nobody's way.
    rig.spool.settle_through(2);
    assert_eq!(open(&rig.close()).values(), [2]);
}
