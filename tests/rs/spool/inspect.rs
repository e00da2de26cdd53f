//! a look from outside changes nothing, finds what an opening would, and goes on behind what is damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_ingest::error::{Code, Error};
use arrow_ingest::file_system::{Disk as _, RealDisk};
use arrow_ingest::spool::inspect::{Depth, Inspection, Sight, Sights, names};
use arrow_ingest::spool::{Durability, Spool, SpoolOptions, retarget};

use crate::simulated::{Call, EIO, Simulated};
use crate::support::{SPOOL, batch, disk, open, options, path, segments, try_open, values};

fn inspected(disk: &Simulated) -> Inspection {
    Inspection::open(Arc::new(disk.clone()), Path::new("/d/spool"), "default").unwrap()
}

fn looked(disk: &Simulated, from: u64, depth: Depth) -> (Sights, Vec<i64>) {
    let mut sights = Sights::default();
    let mut left = Vec::new();
    inspected(disk)
        .look(from, depth, &mut |sight| {
            if let Sight::Delivery(delivery) = &sight {
                for rows in &delivery.left {
                    left.extend(values(&delivery.rows(rows)));
                }
            }
            sights.add(sight);
            Ok(())
        })
        .unwrap();
    (sights, left)
}

/// Everything that a look could change.
fn state(disk: &Simulated) -> (BTreeMap<PathBuf, Vec<u8>>, usize) {
    let changing = [
        "Write",
        "SetLength",
        "Sync",
        "Link",
        "Rename",
        "Unlink",
        "Create",
        "Lock",
    ];
    let story = disk.story();
    let changes = |line: &&String| changing.iter().any(|call| line.starts_with(call));
    (disk.files(), story.iter().filter(changes).count())
}

/// Deliveries of ten rows in three segments, some settled in order and out of order.
fn kept() -> Simulated {
    let disk = disk();
    for opening in 0..3 {
        let mut rig = open(&disk);
        for first in [opening * 20, opening * 20 + 10] {
            rig.keep(first..first + 10);
        }
        if opening == 2 {
            rig.spool.settle_through(7);
            rig.spool.settle(20..25);
            rig.turn_later();
        }
        rig.close();
    }
    disk
}

#[test]
fn what_is_left_is_shown_and_counted_and_nothing_is_touched() {
    let disk = kept();
    let mut rig = open(&disk);
    // Somebody has it open, and has begun what is not whole yet.
    let last = segments(&disk).pop().unwrap();
    disk.damage(&last, |bytes| bytes.extend([b'A', b'S', b'R', b'C', 3, 0]));
    let before = state(&disk);
    assert_eq!(names(&disk, Path::new("/d/spool")).unwrap(), ["default"]);
    let facts = inspected(&disk).facts();
    assert_eq!(facts.directory, Path::new(SPOOL));
    assert_eq!(facts.target.as_deref(), Some("delta:///table"));
    assert_eq!((facts.settled_through, facts.end), (7, 60));
    assert_eq!(facts.id, Some(rig.spool.id()));
    assert_eq!(facts.segments.len(), 3);
    assert!(facts.owner.unwrap().contains("pid"));
    assert!(!facts.is_cursor_damaged && facts.set_aside.is_empty());
    assert!(facts.left.rows >= 48 && facts.left.deliveries == 6);
    let (headers, none) = looked(&disk, facts.settled_through, Depth::Headers);
    let (rows, left) = looked(&disk, facts.settled_through, Depth::Rows);
    let expected: Vec<i64> = (7..20).chain(25..60).collect();
    assert_eq!((none, &left), (Vec::new(), &expected));
    assert_eq!(headers.left, rows.left);
    assert_eq!((rows.left.rows, rows.left.deliveries), (48, 6));
    assert_eq!(rows.unfinished.len(), 1);
    assert_eq!(
        (rows.unfinished[0].bytes, &rows.unfinished[0].segment),
        (6, &last)
    );
    assert!(rows.damage.is_empty());
    assert_eq!(state(&disk), before);
    assert_eq!(rig.values(), expected);
}

/// As an opening finds them, all of them, whatever is harmed; and what is harmed stays where it is.
#[test]
fn damage_is_told_of_and_stays() {
    let whole = kept();
    let files = segments(&whole);
    let before = |disk: &Simulated| disk.files();
    let payload = |bytes: &mut Vec<u8>, at: usize| {
        let record = (128..bytes.len())
            .step_by(64)
            .filter(|at| bytes[*at..].starts_with(b"ASRC") && bytes[at + 4] == 3)
            .nth(at)
            .unwrap();
        bytes[record + 100] ^= 1;
    };
    // A payload in the middle, and one at the end.
    for (at, gone) in [(0, 20..30), (1, 30..40)] {
        let disk = whole.after_power_cut(0);
        disk.damage(&files[1], |bytes| payload(bytes, at));
        let harmed = before(&disk);
        let (sights, left) = looked(&disk, 0, Depth::Rows);
        let expected: Vec<i64> = (7..20).chain(25..60).filter(|row| !gone.contains(row)).collect();
        assert_eq!(left, expected);
        assert_eq!(sights.damage.len(), 1);
        let damage = &sights.damage[0];
        assert_eq!((&damage.segment, &damage.set_aside), (&files[1], &None));
        // The headers are whole; only the end of a segment is read by them alone.
        assert_eq!(looked(&disk, 0, Depth::Headers).0.damage.len(), 0);
        assert_eq!(before(&disk), harmed);
        // The next owner sets it aside, and a look tells where it is.
        let mut rig = open(&disk);
        assert_eq!(rig.values(), expected);
        let (again, _) = looked(&disk, 0, Depth::Rows);
        let copy = again.damage[0].set_aside.clone().unwrap();
        assert_eq!(inspected(&disk).facts().set_aside, [(copy, damage.bytes)]);
    }
    // A header of a segment, the schema of a delivery, and the cursor.
    let disk = whole.after_power_cut(0);
    disk.damage(&files[1], |bytes| bytes[20] ^= 1);
    let (sights, left) = looked(&disk, 0, Depth::Rows);
    assert_eq!(sights.damage.len(), 1);
    assert_eq!((sights.damage[0].offset, sights.damage[0].bytes), (0, 128));
    assert_eq!(left.len(), 48);
    let disk = whole.after_power_cut(0);
    disk.damage(&files[1], |bytes| {
        let schema = (128..bytes.len())
            .step_by(64)
            .find(|at| bytes[at + 4] == 2)
            .unwrap();
        bytes[schema + 70] ^= 1;
    });
    let (sights, left) = looked(&disk, 0, Depth::Rows);
    assert_eq!(left, (7..20).chain(40..60).collect::<Vec<_>>());
    assert_eq!(sights.damage.len(), 3);
    assert!(sights.damage[1].reason.contains("schema"), "{:?}", sights.damage);
    let disk = whole.after_power_cut(0);
    disk.damage(&path("cursor"), |bytes| bytes.fill(7));
    let facts = inspected(&disk).facts();
    assert!(facts.is_cursor_damaged);
    assert_eq!((facts.settled_through, facts.id.is_some()), (0, true));
    assert_eq!(disk.files()[&path("cursor")][0], 7);
}

/// An owner would set these aside, or delete them; who looks leaves them.
#[test]
fn what_is_no_part_of_the_log_is_named_and_stays() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..10);
    rig.close();
    let file = segments(&disk).pop().unwrap();
    disk.damage(&file, |bytes| bytes[0] ^= 1);
    disk.unlink(&path("cursor")).unwrap();
    let facts = inspected(&disk).facts();
    assert_eq!((facts.unknown, facts.id), (vec![file.clone()], None));
    assert!(facts.segments.is_empty() && segments(&disk) == [file]);

    // One that was refused as a whole, and whose name lies above that of a later one.
    let disk = kept();
    let files = segments(&disk);
    let bytes = disk.files()[&files[2]].clone();
    let other = path("00000000000000000000-0000000009.segment");
    disk.create_private(&other)
        .unwrap()
        .write_all_at(&bytes, 0)
        .unwrap();
    let facts = inspected(&disk).facts();
    assert_eq!(facts.foreign, [other]);
    assert_eq!(facts.segments.len(), 3);
    assert_eq!(segments(&disk).len(), 4);
}

#[test]
fn what_is_no_spool_is_not_found_and_what_is_newer_is_refused() {
    let code = |error: Error| error.code();
    let disk = disk();
    let looked = |disk: &Simulated, name: &str| {
        Inspection::open(Arc::new(disk.clone()), Path::new("/d/spool"), name).map(|found| found.facts().end)
    };
    assert_eq!(
        names(&disk, Path::new("/nowhere")).map_err(code),
        Err(Code::NotFound)
    );
    assert_eq!(looked(&disk, "default").map_err(code), Err(Code::NotFound));
    assert_eq!(looked(&disk, "../other").map_err(code), Err(Code::ConfigInvalid));
    open(&disk).close();
    assert_eq!(looked(&disk, "default").map_err(code), Ok(0));
    assert_eq!(names(&disk, Path::new("/d")).unwrap(), Vec::<String>::new());
    disk.fail_within("spool", Call::List, 0, 1, EIO);
    assert_eq!(
        names(&disk, Path::new("/d/spool")).map_err(code),
        Err(Code::SpoolFailed)
    );
    disk.damage(&path("cursor"), |bytes| {
        for at in [0, 4096] {
            bytes[at + 8] = 2;
            let crc = crc32c::crc32c(&bytes[at..at + 12]);
            bytes[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        }
    });
    assert_eq!(looked(&disk, "default").map_err(code), Err(Code::SpoolFormat));
}

/// Rows that were settled while somebody looks go away under the look.
#[test]
fn a_segment_that_goes_meanwhile_is_no_error() {
    let disk = kept();
    let inspection = inspected(&disk);
    let files = segments(&disk);
    disk.unlink(&files[0]).unwrap();
    let mut sights = Sights::default();
    inspection
        .look(0, Depth::Rows, &mut |sight| {
            sights.add(sight);
            Ok(())
        })
        .unwrap();
    assert_eq!(sights.deliveries, 4);
    // And what is seen may end the look.
    let full = || Error::new(Code::SpoolFull, "no more room");
    for depth in [Depth::Headers, Depth::Rows] {
        let ended = inspection.look(0, depth, &mut |_| Err(full()));
        assert_eq!(ended.unwrap_err().code(), Code::SpoolFull);
    }
    disk.fail_within("segment", Call::Read, 0, 1, EIO);
    let failed = inspection.look(0, Depth::Rows, &mut |_| Ok(()));
    assert_eq!(failed.unwrap_err().code(), Code::SpoolFailed);
}

#[test]
fn a_disk_that_fails_is_an_error_and_not_damage() {
    let disk = kept();
    for within in ["cursor", ".segment"] {
        disk.fail_within(within, Call::Open, 0, 1, EIO);
        let failed = Inspection::open(Arc::new(disk.clone()), Path::new("/d/spool"), "default");
        assert_eq!(failed.map(|_| ()).unwrap_err().code(), Code::SpoolFailed);
    }
    assert_eq!(inspected(&disk).facts().end, 60);
}

/// Beside a client that writes, settles and deletes, on this machine's disk: what is shown is whole and in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_in_use_is_looked_at_without_an_error() {
    let home = tempfile::tempdir().unwrap();
    let options = SpoolOptions {
        durability: Durability::Written,
        max_bytes: Some(64 << 10),
        ..SpoolOptions::new(home.path(), "discard:")
    };
    let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
    let working = tokio::spawn(async move {
        for first in (0..20_000).step_by(10) {
            let appended = spool.append(&[batch(first..first + 10)], 0).await.unwrap();
            appended.durable.await.unwrap();
            spool.settle_through((first as u64).saturating_sub(50));
        }
        spool.close();
    });
    let mut looks = 0;
    while !working.is_finished() || looks == 0 {
        let inspection = Inspection::open(Arc::new(RealDisk), home.path(), "default").unwrap();
        let mut last = None;
        inspection
            .look(0, Depth::Rows, &mut |sight| {
                match sight {
                    Sight::Delivery(delivery) => {
                        let first = delivery.positions.start;
                        // Segments between may have gone, each with settled rows alone.
                        assert!(last.is_none_or(|last| first >= last), "{first} behind {last:?}");
                        last = Some(delivery.positions.end);
                        let rows = values(&delivery.rows(&delivery.positions));
                        assert_eq!(rows, (first as i64..first as i64 + 10).collect::<Vec<_>>());
                    }
                    Sight::Damage(damage) => panic!("{damage:?}"),
                    Sight::Unfinished(_) => {}
                }
                Ok(())
            })
            .unwrap();
        looks += 1;
    }
    working.await.unwrap();
}

/// another target, from now on; positions, rows and the mark stay.
#[test]
fn a_spool_is_retargeted_when_nobody_has_it_open() {
    let disk = kept();
    let mut rig = open(&disk);
    let marked = rig.spool.mark([7; 16]);
    rig.turn();
    assert!(crate::support::answer(marked).unwrap().is_ok());
    let shared: Arc<dyn arrow_ingest::file_system::Disk> = Arc::new(disk.clone());
    let to = |name: &str| {
        retarget(
            &shared,
            Path::new("/d/spool"),
            name,
            "delta://u:p@host/other?key=1",
        )
    };
    assert_eq!(to("default").unwrap_err().code(), Code::SpoolLocked);
    let disk = rig.close();
    assert_eq!(to("nobody").unwrap_err().code(), Code::NotFound);
    let done = to("default").unwrap();
    assert_eq!(done.from.as_deref(), Some("delta:///table"));
    assert_eq!(done.to, "delta://host/other");
    assert_eq!(done.left.deliveries, 6);
    let error = try_open(&disk, &options()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    let other = SpoolOptions::new("/d/spool", "delta://host/other");
    let mut rig = try_open(&disk, &other).unwrap();
    assert_eq!(rig.recovered.mark, Some([7; 16]));
    assert_eq!(rig.values(), (7..20).chain(25..60).collect::<Vec<_>>());
    assert_eq!(rig.keep([60]), 60);
}
