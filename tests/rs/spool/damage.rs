//! what is damaged is set aside, the rest is there, and opening never fails for it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use arrow_ingest::file_system::Disk as _;
use arrow_ingest::spool::SpoolOptions;
use arrow_ingest::spool::format::{RECORD_HEADER, RecordHeader, RecordKind, RecordPlace, SEGMENT_HEADER};

use crate::simulated::{Call, EIO, ENOSPC, Simulated};
use crate::support::{Rig, disk, open, options, path, segments, try_open};

/// Three segments of two deliveries each, five rows a delivery.
fn small() -> (Simulated, Vec<Range<i64>>) {
    let disk = disk();
    let mut deliveries = Vec::new();
    for opening in 0..3 {
        let mut rig = open(&disk);
        for first in [opening * 10, opening * 10 + 5] {
            rig.keep(first..first + 5);
            deliveries.push(first..first + 5);
        }
        rig.close();
    }
    (disk, deliveries)
}

/// A record of a segment, as a reader of the format sees it.
struct Seen {
    bytes: Range<usize>,
    kind: RecordKind,
    rows: Range<u64>,
    /// Padding is nobody's.
    padding: Range<usize>,
}

fn records(disk: &Simulated, id: [u8; 16], segment: &PathBuf) -> Vec<Seen> {
    let bytes = disk.files()[segment].clone();
    let name = segment.file_stem().unwrap().to_str().unwrap();
    let place = RecordPlace::new(&id, name.split_once('-').unwrap().1.parse().unwrap());
    let mut at = SEGMENT_HEADER;
    let mut seen = Vec::new();
    while at < bytes.len() {
        let header = RecordHeader::decode(&bytes[at..at + RECORD_HEADER], place, at as u64).unwrap();
        let end = at + header.total() as usize;
        seen.push(Seen {
            bytes: at..end,
            kind: RecordKind::of(header.kind).unwrap(),
            rows: header.positions(),
            padding: at + RECORD_HEADER + header.length as usize..end,
        });
        at = end;
    }
    seen
}

/// Positions go on above all that was ever given, and a second opening finds the same and tells nothing new.
fn goes_on(mut rig: Rig, found: &[i64], what: &str) {
    let position = rig.keep([1000]);
    assert!(
        position >= found.last().map_or(0, |last| *last as u64 + 1),
        "{what}: {position}"
    );
    let mut rig = open(&rig.kill());
    let again = rig.read();
    let expected: Vec<i64> = found.iter().copied().chain([1000]).collect();
    assert_eq!(again.values(), expected, "{what}");
    assert!(again.damage.is_empty(), "{what}: told twice: {:?}", again.damage);
    // Nothing stops the cursor for good.
    rig.spool.settle_through(position + 1);
    rig.turn_later();
    let rig = open(&rig.kill());
    assert_eq!(rig.recovered.left.rows, 0, "{what}");
    assert_eq!(segments(&rig.disk).len(), 1, "{what}");
}

/// Every bit of every header, and every byte of all else.
#[test]
fn whatever_byte_is_damaged_only_what_it_belongs_to_is_gone() {
    let (disk, deliveries) = small();
    let id = open(&disk).spool.id();
    let all: Vec<i64> = deliveries.iter().cloned().flatten().collect();
    let mut lost_something = 0;
    for segment in segments(&disk) {
        let seen = records(&disk, id, &segment);
        assert_eq!(seen.len(), 4);
        for at in 0..disk.files()[&segment].len() {
            let record = seen.iter().find(|record| record.bytes.contains(&at));
            let in_header = record.is_none_or(|record| at < record.bytes.start + RECORD_HEADER);
            let gone: BTreeSet<u64> = match record {
                Some(record) if record.padding.contains(&at) => BTreeSet::new(),
                Some(record) => match record.kind {
                    RecordKind::Batches => record.rows.clone().collect(),
                    RecordKind::Schema => seen.iter().flat_map(|record| record.rows.clone()).collect(),
                    RecordKind::State | RecordKind::Settled => BTreeSet::new(),
                },
                None => BTreeSet::new(),
            };
            let is_last = segments(&disk).last() == Some(&segment);
            for bit in 0..if in_header { 8 } else { 1 } {
                let flipped = disk.after_power_cut(1);
                flipped.damage(&segment, |bytes| bytes[at] ^= 1 << bit);
                let what = format!("{} {at} {bit}", segment.display());
                let mut rig = open(&flipped);
                let read = rig.read();
                let expected: Vec<i64> = all
                    .iter()
                    .copied()
                    .filter(|value| !gone.contains(&(*value as u64)))
                    .collect();
                assert_eq!(read.values(), expected, "{what}");
                lost_something += usize::from(!gone.is_empty());
                for damage in &read.damage {
                    let copy = &flipped.files()[damage.set_aside.as_ref().unwrap()];
                    let range = damage.offset as usize..(damage.offset + damage.bytes) as usize;
                    assert_eq!(*copy, flipped.files()[&segment][range], "{what}");
                }
                // Torn is only what never was answered: here all was.
                let is_whole = gone.is_empty();
                assert!(
                    is_whole || !read.damage.is_empty() || is_last,
                    "{what}: nothing was told"
                );
                if bit == 0 && at % 7 == 0 {
                    goes_on(rig, &expected, &what);
                }
            }
        }
    }
    assert!(lost_something > 1000, "{lost_something}");
}

#[test]
fn whatever_byte_of_the_cursor_is_damaged_nothing_is_lost() {
    let (disk, deliveries) = small();
    let mut rig = open(&disk);
    rig.spool.settle_through(7);
    rig.turn_later();
    rig.spool.settle_through(12);
    let disk = rig.close();
    let all: Vec<i64> = deliveries.iter().cloned().flatten().collect();
    for at in 0..disk.files()[&path("cursor")].len() {
        for bit in 0..8 {
            let flipped = disk.after_power_cut(1);
            flipped.damage(&path("cursor"), |bytes| bytes[at] ^= 1 << bit);
            let found = open(&flipped).values();
            // At worst what was settled comes back, from the last cursor that can be read on.
            let is_end_of_all = all.ends_with(&found);
            assert!(is_end_of_all && found.contains(&12), "{at} {bit}: {found:?}");
        }
    }
}

/// A tail that is cut anywhere: what is whole before it is there, what was torn is not.
#[test]
fn wherever_the_last_two_records_are_cut_off_the_rest_is_there() {
    let (disk, deliveries) = small();
    let id = open(&disk).spool.id();
    let last = segments(&disk).pop().unwrap();
    let seen = records(&disk, id, &last);
    let all: Vec<i64> = deliveries.iter().cloned().flatten().collect();
    for length in seen[2].bytes.start..seen[3].bytes.end {
        let cut = disk.after_power_cut(1);
        cut.damage(&last, |bytes| bytes.truncate(length));
        let kept = seen
            .iter()
            .filter(|record| record.padding.start <= length)
            .map(|record| record.rows.end);
        let end = kept.max().unwrap() as i64;
        let mut rig = open(&cut);
        let expected: Vec<i64> = all.iter().copied().filter(|value| *value < end).collect();
        let read = rig.read();
        assert_eq!(read.values(), expected, "{length}");
        assert!(
            read.damage.is_empty(),
            "{length}: a torn end is no damage: {:?}",
            read.damage
        );
        let whole = seen
            .iter()
            .any(|record| (record.padding.start..=record.bytes.end).contains(&length));
        assert!(whole || rig.recovered.cut > 0, "{length}");
        goes_on(rig, &expected, &length.to_string());
    }
}

/// Where an end could not be read, no position that may have been seen is given again.
#[test]
fn positions_behind_an_end_that_cannot_be_read_are_new() {
    let (disk, _) = small();
    let last = segments(&disk).pop().unwrap();
    let mut cut = 0;
    for change in [
        (|bytes: &mut Vec<u8>| bytes[600] ^= 1) as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(bytes.len() - 300),
        |bytes| bytes.extend([1; 3]),
        |bytes| bytes.extend([1; 300]),
        |bytes| {
            let end = bytes.len();
            bytes[end - 1000..].fill(0);
        },
    ] {
        let changed = disk.after_power_cut(1);
        changed.damage(&last, change);
        let mut rig = open(&changed);
        let found = rig.values();
        if rig.recovered.cut > 0 {
            cut += 1;
            assert_eq!(rig.keep([7]), 1 << 32, "{found:?}");
            assert_eq!(rig.keep([8]), (1 << 32) + 1);
        }
        let mut rig = open(&rig.kill());
        assert!(rig.values().ends_with(&[7, 8]) || rig.recovered.cut == 0);
    }
    assert_eq!(cut, 4);
}

/// Zeros at the end are a length that came to the disk before its bytes: no damage.
#[test]
fn zeros_at_the_end_are_torn_and_not_set_aside() {
    let (disk, deliveries) = small();
    let last = segments(&disk).pop().unwrap();
    disk.damage(&last, |bytes| bytes.resize(bytes.len() + 5000, 0));
    let mut rig = open(&disk);
    assert_eq!(rig.recovered.cut, 5000);
    let read = rig.read();
    assert_eq!(
        read.values(),
        deliveries.into_iter().flatten().collect::<Vec<_>>()
    );
    assert!(read.damage.is_empty());
}

/// A whole segment is gone, by whoever: the rest goes on.
#[test]
fn a_segment_that_is_gone_takes_only_its_own_rows() {
    let (disk, _) = small();
    disk.unlink(&segments(&disk)[1]).unwrap();
    let mut rig = open(&disk);
    let expected: Vec<i64> = (0..10).chain(20..30).collect();
    assert_eq!(rig.values(), expected);
    goes_on(rig, &expected, "a segment is gone");
}

/// No header, no cursor: what nobody can tell from other bytes is set aside whole.
#[test]
fn segments_of_which_nothing_can_be_believed_are_set_aside() {
    let (disk, _) = small();
    let all = segments(&disk);
    for segment in &all {
        disk.damage(segment, |bytes| bytes[20] ^= 1);
    }
    disk.damage(&path("cursor"), |bytes| bytes.fill(7));
    let before = disk.files();
    let mut rig = open(&disk);
    assert_eq!(rig.recovered.set_aside, all);
    assert_eq!(rig.values(), Vec::<i64>::new());
    assert_eq!(rig.keep([1]), 1 << 32);
    for segment in all {
        let aside = path("damaged").join(segment.file_name().unwrap());
        assert_eq!(disk.files()[&aside], before[&segment]);
    }
    let bytes = rig.spool.bytes();
    // What was set aside is counted against the budget, over openings too.
    assert!(open(&rig.kill()).spool.bytes() >= bytes);
}

/// Damage that cannot be copied is not deleted either: its segment is moved when all else in it is settled.
#[test]
fn where_there_is_no_room_for_a_copy_the_segment_is_kept() {
    let (disk, _) = small();
    let first = segments(&disk)[0].clone();
    disk.damage(&first, |bytes| bytes[900] ^= 1);
    let bytes = disk.files()[&first].clone();
    let mut rig = open(&disk);
    disk.fail_within("damaged", Call::Write, 0, usize::MAX, ENOSPC);
    let read = rig.read();
    assert_eq!(read.damage.len(), 1);
    assert_eq!(
        (read.damage[0].set_aside.clone(), read.damage[0].segment.clone()),
        (None, first.clone())
    );
    rig.spool.settle_through(30);
    rig.turn_later();
    let aside = path("damaged").join(first.file_name().unwrap());
    assert_eq!(disk.files()[&aside], bytes);
    assert!(!disk.files().contains_key(&first));
}

/// A copy that was begun and not finished is made again.
#[test]
fn setting_aside_survives_a_crash_in_the_middle() {
    let (disk, _) = small();
    let first = segments(&disk)[0].clone();
    disk.damage(&first, |bytes| bytes[900] ^= 1);
    let mut calls = 0;
    loop {
        let tried = disk.after_power_cut(1);
        let mut rig = open(&tried);
        tried.lasts(tried.calls() + calls);
        let mut reader = rig.spool.read_from(0);
        while let Ok(Some(_)) = reader.next() {}
        drop(reader);
        let done = rig
            .disk
            .files()
            .keys()
            .any(|path| path.extension().is_some_and(|end| end == "bytes"));
        let mut again = open(&tried.after_power_cut(0));
        assert_eq!(again.read().values().len(), 25);
        let copies = again.disk.files();
        let copy = copies
            .iter()
            .find(|(path, _)| path.extension().is_some_and(|end| end == "bytes"));
        assert!(!copy.unwrap().1.is_empty());
        calls += 1;
        rig.turn();
        if done && calls > 60 {
            break;
        }
    }
}

/// A disk that cannot read is no damage: the reader says so and goes on when it can.
#[test]
fn a_read_that_fails_is_an_error_and_not_damage() {
    let (disk, deliveries) = small();
    let rig = open(&disk);
    let all: Vec<i64> = deliveries.into_iter().flatten().collect();
    let mut reader = rig.spool.read_from(0);
    let mut found = Vec::new();
    let mut failures = 0;
    for nth in 0.. {
        disk.fail(Call::Read, nth % 3, 1, EIO);
        match reader.next() {
            Ok(Some(arrow_ingest::spool::SpoolEntry::Rows(rows))) => {
                found.extend(crate::support::values(&rows.batches))
            }
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.code(), arrow_ingest::error::Code::SpoolFailed);
                failures += 1;
            }
        }
        disk.heal();
    }
    assert_eq!((found, failures > 2), (all, true));
}

/// A user whose rows are spool files themselves does not confuse a search for records.
#[test]
fn records_inside_of_rows_are_rows() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..5);
    let inner = disk.files()[&segments(&disk)[0]].clone();
    let words = inner.chunks(8).map(|word| {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        i64::from_le_bytes(bytes)
    });
    let position = rig.keep(words.collect::<Vec<_>>());
    rig.keep(900..905);
    let segment = segments(&disk)[0].clone();
    let id = rig.spool.id();
    let outer = records(&disk, id, &segment);
    let outer = outer
        .iter()
        .find(|record| record.rows.start == position)
        .unwrap()
        .bytes
        .start;
    let disk = rig.close();
    disk.damage(&segment, |bytes| bytes[outer] ^= 1);
    let mut rig = open(&disk);
    let found: Vec<i64> = (0..5).chain(900..905).collect();
    assert_eq!(rig.values(), found);
}

/// The ranges that were settled out of order survive the loss of the newest state.
#[test]
fn without_the_newest_state_the_older_ones_are_asked() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep(0..10);
    rig.keep(10..20);
    rig.spool.settle(3..5);
    rig.turn_later();
    let mut rig = open(&rig.close());
    rig.keep(20..30);
    rig.spool.settle(12..14);
    rig.turn_later();
    let disk = rig.close();
    let last = segments(&disk).pop().unwrap();
    disk.damage(&last, |bytes| bytes[SEGMENT_HEADER + RECORD_HEADER + 9] ^= 1);
    let other = SpoolOptions {
        target: "delta:///other".into(),
        ..options()
    };
    // The target too.
    assert!(try_open(&disk, &other).is_err());
    let expected: Vec<i64> = (0..3).chain(5..12).chain(14..30).collect();
    assert_eq!(open(&disk).values(), expected);
}

/// Damage that has grown since it was told of is told of again, with all its bytes.
#[test]
fn damage_that_grows_is_set_aside_and_told_again() {
    let disk = disk();
    let mut rig = open(&disk);
    for first in [0, 5, 10] {
        rig.keep(first..first + 5);
    }
    let id = rig.spool.id();
    let disk = rig.close();
    let segment = segments(&disk)[0].clone();
    let rows: Vec<_> = records(&disk, id, &segment)
        .into_iter()
        .filter(|record| !record.rows.is_empty())
        .map(|record| record.bytes)
        .collect();
    disk.damage(&segment, |bytes| bytes[rows[0].start] ^= 1);
    let mut rig = open(&disk);
    assert_eq!(rig.read().damage.len(), 1);
    let disk = rig.kill();
    disk.damage(&segment, |bytes| bytes[rows[1].start] ^= 1);
    let bytes = disk.files()[&segment].clone();
    let mut rig = open(&disk);
    let read = rig.read();
    assert_eq!((read.values(), read.damage.len()), ((10..15).collect(), 1));
    let aside = read.damage[0].set_aside.clone().unwrap();
    assert_eq!(disk.files()[&aside], bytes[rows[0].start..rows[1].end]);
    assert!(open(&rig.kill()).read().damage.is_empty());
}

/// A reader that outlives its spool writes nothing where somebody else is the owner now.
#[test]
fn who_reads_on_after_the_spool_was_closed_sets_nothing_aside() {
    let (disk, _) = small();
    let first = segments(&disk)[0].clone();
    disk.damage(&first, |bytes| bytes[900] ^= 1);
    let rig = open(&disk);
    let mut reader = rig.spool.read_from(0);
    drop(rig.spool);
    let mut writer = rig.writer;
    while writer.turn(std::time::Instant::now()) != arrow_ingest::spool::WriterTurn::End {}
    drop(writer);
    let other = open(&disk);
    let mut read = 0;
    while let Some(entry) = reader.next().unwrap() {
        read += usize::from(matches!(entry, arrow_ingest::spool::SpoolEntry::Rows(_)));
    }
    assert_eq!(read, 5);
    let aside = disk
        .files()
        .keys()
        .any(|path| path.to_string_lossy().contains("damaged/"));
    assert!(!aside, "somebody else has the spool open");
    drop(other);
}

/// And it is kept by the next process too, which begins behind the damage.
#[test]
fn a_segment_that_is_kept_for_its_damage_is_kept_over_openings() {
    let (disk, _) = small();
    let first = segments(&disk)[0].clone();
    let id = open(&disk).spool.id();
    let at = records(&disk, id, &first)
        .iter()
        .find(|record| record.rows == (0..5))
        .unwrap()
        .bytes
        .start;
    disk.damage(&first, |bytes| bytes[at + 100] ^= 1);
    let bytes = disk.files()[&first].clone();
    let mut rig = open(&disk);
    disk.fail_within("damaged", Call::Write, 0, usize::MAX, ENOSPC);
    assert_eq!(rig.read().damage.len(), 1);
    rig.spool.settle_through(5);
    rig.turn_later();
    let mut rig = open(&rig.kill());
    let position = rig.recovered.position;
    assert_eq!(rig.read_from(position).rows.len(), 5);
    rig.spool.settle_through(30);
    rig.turn_later();
    let aside = path("damaged").join(first.file_name().unwrap());
    assert_eq!(rig.disk.files().get(&aside), Some(&bytes));
}
