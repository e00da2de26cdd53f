//! What the destination said of the table's schema is kept beside the log.

use arrow_ingest::error::Code;
use arrow_ingest::spool::SpoolOptions;

use crate::simulated::Call;
use crate::support::*;

const OLD: &[u8] = b"what was said first";
const NEW: &[u8] = b"what was said then";
const EIO: i32 = 5;

fn file() -> std::path::PathBuf {
    path("schema")
}

#[test]
fn a_schema_is_kept_over_openings_for_its_target_alone() {
    let disk = disk();
    let rig = open(&disk);
    assert_eq!(rig.spool.kept_schema(), None);
    rig.spool.keep_schema(OLD).unwrap();
    rig.spool.keep_schema(NEW).unwrap();
    assert_eq!(rig.spool.kept_schema().as_deref(), Some(NEW));
    let before = disk.calls();
    rig.spool.keep_schema(NEW).unwrap();
    // What is kept already is read, and nothing is written.
    assert!(disk.calls() - before < 5, "{:?}", disk.story());
    let disk = rig.close().after_kill();
    let rig = open(&disk);
    assert_eq!(rig.spool.kept_schema().as_deref(), Some(NEW));
    let disk = rig.close();
    let other = SpoolOptions::new("/d/spool", "delta:///other");
    let rig = try_open(&disk, &other).unwrap();
    assert_eq!(rig.spool.kept_schema(), None);
    // A secret is no part of the target, so neither of the file.
    let disk = rig.close();
    let secret = SpoolOptions::new("/d/spool", "delta:///table?token=hush");
    let rig = try_open(&disk, &secret).unwrap();
    assert_eq!(rig.spool.kept_schema().as_deref(), Some(NEW));
    rig.spool.keep_schema(OLD).unwrap();
    let written = disk.files()[&file()].clone();
    assert!(!written.windows(4).any(|bytes| bytes == b"hush"));
}

#[test]
fn a_file_that_is_damaged_or_of_a_later_release_is_none_and_the_next_one_takes_its_place() {
    let disk = disk();
    let rig = open(&disk);
    rig.spool.keep_schema(OLD).unwrap();
    let whole = disk.files()[&file()].clone();
    for at in 0..whole.len() {
        disk.damage(&file(), |bytes| bytes[at] ^= 0x10);
        assert_eq!(rig.spool.kept_schema(), None, "byte {at}");
        disk.damage(&file(), |bytes| bytes[at] ^= 0x10);
        disk.damage(&file(), |bytes| bytes.truncate(at));
        assert_eq!(rig.spool.kept_schema(), None, "cut at {at}");
        disk.damage(&file(), |bytes| bytes.clone_from(&whole));
    }
    assert_eq!(rig.spool.kept_schema().as_deref(), Some(OLD));
    let mut newer = whole.clone();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..12]).to_le_bytes();
    newer[12..16].copy_from_slice(&crc);
    let end = newer.len() - 4;
    let crc = crc32c::crc32c(&newer[..end]).to_le_bytes();
    newer[end..].copy_from_slice(&crc);
    disk.damage(&file(), |bytes| bytes.clone_from(&newer));
    assert_eq!(rig.spool.kept_schema(), None);
    disk.damage(&file(), |bytes| *bytes = vec![0; 2 << 20]);
    assert_eq!(rig.spool.kept_schema(), None);
    rig.spool.keep_schema(NEW).unwrap();
    assert_eq!(rig.spool.kept_schema().as_deref(), Some(NEW));
}

#[test]
fn whenever_the_power_goes_the_old_one_or_the_new_one_is_kept() {
    let kept = |lasts: Option<usize>, seed: u64| {
        let disk = disk();
        let mut rig = open(&disk);
        rig.keep(0..3);
        rig.spool.keep_schema(OLD).unwrap();
        let before = disk.calls();
        if let Some(calls) = lasts {
            disk.lasts(before + calls);
        }
        let answered = rig.spool.keep_schema(NEW).is_ok();
        let took = disk.calls() - before;
        let mut rig = open(&disk.after_power_cut(seed));
        assert_eq!(rig.values(), [0, 1, 2]);
        (answered, rig.spool.kept_schema().unwrap(), took)
    };
    let (answered, found, calls) = kept(None, 0);
    assert!(answered && found == NEW);
    let mut seen = [0, 0];
    for lasts in 0..=calls {
        for seed in 0..8 {
            let (answered, found, _) = kept(Some(lasts), seed);
            assert!(found == NEW || (found == OLD && !answered), "{lasts} {seed}");
            seen[usize::from(found == NEW)] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn a_disk_that_refuses_it_is_told_and_the_log_goes_on() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.spool.keep_schema(OLD).unwrap();
    disk.fail_within("schema", Call::Create, 0, 1, EIO);
    let error = rig.spool.keep_schema(NEW).unwrap_err();
    assert_eq!(error.code(), Code::SpoolFailed);
    assert_eq!(rig.spool.kept_schema().as_deref(), Some(OLD));
    let error = rig.spool.keep_schema(&vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error.code(), Code::SpoolFull);
    rig.keep(0..3);
    rig.spool.keep_schema(NEW).unwrap();
    rig.spool.abandon();
    // Another client may have the directory by now.
    assert_eq!(rig.spool.keep_schema(OLD).unwrap_err().code(), Code::Closed);
    assert_eq!(rig.spool.kept_schema().as_deref(), Some(NEW));
}
