//! Both disks, the real one and the simulated one, do what `src-rs/file_system.rs` says; and what is built on them
//! holds where a file system lacks a call.

// In a test an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

#[path = "support/simulated.rs"]
mod simulated;
#[cfg(unix)]
#[path = "support/starting.rs"]
mod starting;

#[cfg(unix)]
use std::fs::File;
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use arrow_ingest::file_system::{self, Appender, Disk, RealDisk};
#[cfg(unix)]
use arrow_ingest::locked_file::LockedFile;
use simulated::{
    Call, EACCES, EINVAL, EIO, EMFILE, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM, EROFS, EXDEV, Simulated,
};

fn both(test: impl Fn(&dyn Disk, &Path)) {
    let home = tempfile::tempdir().unwrap();
    test(&RealDisk, home.path());
    test(&Simulated::with(&["/d"]), Path::new("/d"));
}

fn bytes(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    disk.open(path).unwrap().read_to_end_at(0).unwrap()
}

#[test]
fn files_are_read_written_and_cut_at_any_place() {
    both(|disk, home| {
        let path = home.join("a");
        let file = disk.create(&path).unwrap();
        assert_eq!(disk.create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        file.write_all_at(b"world", 6).unwrap();
        file.write_all_at(b"hello ", 0).unwrap();
        assert_eq!(
            (file.length().unwrap(), bytes(disk, &path)),
            (11, b"hello world".to_vec())
        );
        file.set_length(5).unwrap();
        file.sync().unwrap();
        assert_eq!(file.read_at(&mut [0; 9], 3).unwrap(), 2);
        assert_eq!(file.read_at(&mut [0; 9], 5).unwrap(), 0);
        assert_eq!(file.read_to_end_at(9).unwrap(), b"");
        let appender = Appender::new(disk.create(&home.join("b")).unwrap());
        appender.append(b"one").unwrap();
        appender.append(b"two").unwrap();
        appender.sync_data().unwrap();
        appender.sync().unwrap();
        let parts: Vec<&[u8]> = vec![b"", b"one", b"", b"two", b""];
        let vectored = disk.create_private(&home.join("v")).unwrap();
        vectored.write_all_vectored_at(&parts, 2).unwrap();
        vectored.write_all_vectored_at(&[b"", b""], 8).unwrap();
        assert_eq!(bytes(disk, &home.join("v")), b"\0\0onetwo");
        let many = vec![b"ab".as_slice(); 3000];
        vectored.write_all_vectored_at(&many, 0).unwrap();
        assert_eq!(bytes(disk, &home.join("v")), b"ab".repeat(3000));
        assert_eq!(vectored.read_full_at(&mut [0; 9], 5995).unwrap(), 5);
        assert_eq!(bytes(disk, &home.join("b")), b"onetwo");
        assert_eq!(
            disk.open(&home.join("c")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn names_are_given_once_unless_they_are_to_be_replaced() {
    both(|disk, home| {
        let [a, b, c] = ["a", "b", "c"].map(|name| home.join(name));
        disk.create(&a).unwrap().write_all_at(b"a", 0).unwrap();
        disk.create(&b).unwrap();
        for taken in [disk.link(&a, &b), disk.rename_new(&a, &b)] {
            assert_eq!(taken.unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        disk.link(&a, &c).unwrap();
        disk.rename(&a, &b).unwrap();
        assert_eq!((bytes(disk, &b), bytes(disk, &c)), (b"a".to_vec(), b"a".to_vec()));
        disk.unlink(&c).unwrap();
        disk.rename_new(&b, &c).unwrap();
        assert_eq!(disk.list(home).unwrap(), [c]);
        assert_eq!(disk.unlink(&a).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn directories_come_with_all_above_them() {
    both(|disk, home| {
        let deep = home.join("x/y/z");
        file_system::make_directories(disk, &deep).unwrap();
        file_system::make_directories(disk, &deep).unwrap();
        file_system::make_directories(disk, &home.join("x/v/w")).unwrap();
        assert!(disk.is_directory(&deep).unwrap() && disk.is_directory(&home.join("x/v/w")).unwrap());
        disk.create(&home.join("file")).unwrap();
        assert!(!disk.is_directory(&home.join("file")).unwrap());
        let below = file_system::make_directories(disk, &home.join("file"));
        assert_eq!(below.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(
            disk.sync_directory(&home.join("no")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        disk.sync_directory(home).unwrap();
        file_system::sync_ancestors(disk, &deep).unwrap();
    });
}

/// A directory that somebody else has made and not synced would take with it what it holds.
#[test]
fn names_of_directories_are_durable_when_all_above_are_synced() {
    let disk = Simulated::with(&["/d"]);
    let deep = Path::new("/d/x/y");
    file_system::make_directories(&disk, deep).unwrap();
    assert!(!disk.after_power_cut(0).is_directory(deep).is_ok_and(|is| is));
    // What another user keeps closed, and what has no such call, is passed over.
    for errno in [EACCES, EROFS, ENOSYS] {
        // Of /d/x, /d and the root it is the root's.
        disk.fail(Call::SyncDirectory, 2, 1, errno);
        file_system::sync_ancestors(&disk, deep).unwrap();
    }
    assert!(disk.after_power_cut(0).is_directory(deep).unwrap());
    for (errno, again) in [(EIO, false), (ENOSPC, false), (EMFILE, true)] {
        disk.fail(Call::SyncDirectory, 0, 1, errno);
        let error = file_system::sync_ancestors(&disk, deep).unwrap_err();
        assert_eq!(file_system::was_not_synced(&error), again, "{error}");
    }
    let missing = RealDisk.sync_directory(Path::new("/no/such/place")).unwrap_err();
    assert!(cfg!(windows) || file_system::was_not_synced(&missing));
}

/// a lock is against everybody, the same process too, and ends with the file that has it.
#[test]
fn a_lock_is_one_holders_until_its_file_is_closed() {
    both(|disk, home| {
        let path = home.join("lock");
        let first = disk.create_private(&path).unwrap();
        assert!(first.try_lock().unwrap());
        let second = disk.open(&path).unwrap();
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    });
}

#[test]
fn what_is_private_is_its_owners_alone_and_free_space_is_told() {
    both(|disk, home| {
        let deep = home.join("p/q");
        file_system::make_private_directories(disk, &deep).unwrap();
        file_system::make_private_directories(disk, &deep).unwrap();
        disk.create_private(&deep.join("f")).unwrap();
        assert!(disk.create_private(&deep.join("f")).is_err());
        assert!(disk.free_bytes(home).unwrap() > 0);
        #[cfg(unix)]
        if home != Path::new("/d") {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(
                [mode(&home.join("p")), mode(&deep), mode(&deep.join("f"))],
                [0o700, 0o700, 0o600]
            );
        }
    });
}

#[test]
fn a_probe_says_what_stands_in_the_way_and_leaves_nothing() {
    both(|disk, home| {
        file_system::probe(disk, &home.join("not/yet/there")).unwrap();
        assert_eq!(disk.list(home).unwrap(), Vec::<PathBuf>::new());
        disk.create(&home.join("file")).unwrap();
        let on_a_file = file_system::probe(disk, &home.join("file")).unwrap_err();
        assert_eq!(on_a_file.kind(), ErrorKind::NotADirectory);
    });
}

/// FUSE, SMB and others: a rename that does not replace does what a link does.
#[test]
fn without_links_a_name_is_given_by_a_rename_that_does_not_replace() {
    for errno in [ENOSYS, EOPNOTSUPP, EXDEV, EPERM, EINVAL] {
        let disk = Simulated::with(&["/d"]);
        let [staged, other, path] = ["/d/s#1", "/d/s#2", "/d/n"].map(Path::new);
        disk.fail(Call::Link, 0, usize::MAX, errno);
        disk.create(staged).unwrap().write_all_at(b"first", 0).unwrap();
        disk.create(other).unwrap();
        file_system::name_new(&disk, staged, path).unwrap();
        let taken = file_system::name_new(&disk, other, path).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{errno}");
        assert_eq!(disk.list(Path::new("/d")).unwrap(), [path]);
        assert_eq!(bytes(&disk, path), b"first");
        file_system::probe(&disk, Path::new("/d")).unwrap();
    }
}

#[test]
fn where_neither_is_known_it_is_said_before_anything_is_written() {
    for (link, rename) in [(EPERM, EINVAL), (EOPNOTSUPP, ENOSYS)] {
        let disk = Simulated::with(&["/d"]);
        disk.fail(Call::Link, 0, usize::MAX, link);
        disk.fail(Call::RenameNew, 0, usize::MAX, rename);
        let refused = file_system::probe(&disk, Path::new("/d/table")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(refused.to_string().contains("hard links"), "{refused}");
        assert!(disk.files().is_empty());
    }
}

#[test]
fn a_directory_that_cannot_be_synced_is_refused_and_one_that_failed_is_not_misunderstood() {
    for (errno, kind) in [
        (ENOSYS, ErrorKind::Unsupported),
        (EOPNOTSUPP, ErrorKind::Unsupported),
        (EINVAL, ErrorKind::Unsupported),
        (ENOSPC, ErrorKind::StorageFull),
    ] {
        let disk = Simulated::with(&["/d"]);
        disk.fail(Call::SyncDirectory, 0, usize::MAX, errno);
        assert_eq!(
            file_system::probe(&disk, Path::new("/d")).unwrap_err().kind(),
            kind,
            "{errno}"
        );
        assert!(disk.files().is_empty());
    }
}

/// The double is only worth something if it loses things.
#[test]
fn the_simulated_disk_loses_what_was_not_synced_and_nothing_else() {
    let disk = Simulated::with(&["/d"]);
    let kept = disk.create(Path::new("/d/kept")).unwrap();
    kept.write_all_at(&[1; 2048], 0).unwrap();
    kept.sync().unwrap();
    disk.sync_directory(Path::new("/d")).unwrap();
    kept.write_all_at(&[2; 2048], 0).unwrap();
    kept.set_length(4096).unwrap();
    disk.create(Path::new("/d/nameless")).unwrap().sync().unwrap();
    disk.create_directory(Path::new("/d/e")).unwrap();
    disk.create(Path::new("/d/e/f")).unwrap();
    disk.sync_directory(Path::new("/d/e")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let files = disk.after_power_cut(seed).files();
        let bytes = &files[Path::new("/d/kept")];
        let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert!(
            sectors[..4].iter().all(|byte| [1, 2].contains(byte)),
            "{sectors:?}"
        );
        seen.insert((sectors, files.keys().cloned().collect::<Vec<_>>()));
    }
    let nothing = disk.after_power_cut(0).files();
    assert_eq!(nothing[Path::new("/d/kept")], vec![1; 2048]);
    assert_eq!(nothing.len(), 1);
    assert_eq!(disk.after_power_cut(1).files(), disk.files());
    assert!(seen.len() > 50, "only {} ways to lose it", seen.len());
}

#[test]
fn what_a_failed_sync_lost_no_second_one_brings_back() {
    let disk = Simulated::with(&["/d"]);
    let file = disk.create(Path::new("/d/a")).unwrap();
    disk.sync_directory(Path::new("/d")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    disk.fail(Call::Sync, 0, 1, EIO);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(disk.after_power_cut(1).files()[Path::new("/d/a")], b"");
}

#[test]
fn short_writes_are_gone_on_with() {
    let disk = Simulated::with(&["/d"]);
    disk.write_short();
    let file = disk.create(Path::new("/d/a")).unwrap();
    file.write_all_at(&[7; 1000], 0).unwrap();
    assert_eq!(bytes(&disk, Path::new("/d/a")), vec![7; 1000]);
    disk.fail(Call::Write, 1, 1, ENOSPC);
    assert_eq!(
        file.write_all_at(&[8; 100], 0).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
}

/// The double of a disk that is full: what fits is written, then nothing, and there is room again.
#[test]
fn the_simulated_disk_has_an_end() {
    let disk = Simulated::with(&["/d"]);
    let file = disk.create(Path::new("/d/a")).unwrap();
    disk.holds(Some(100));
    let full = file.write_all_at(&[1; 150], 0).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!((disk.used(), disk.free_bytes(Path::new("/d")).unwrap()), (100, 0));
    file.set_length(10).unwrap();
    file.write_all_at(&[2; 50], 10).unwrap();
    disk.holds(None);
    file.write_all_vectored_at(&[&[3; 500], &[4; 500]], 60).unwrap();
    assert_eq!(disk.used(), 1060);
}

/// A process that is killed leaves its writes to the next, and a power cut may still take them.
#[test]
fn what_a_killed_process_wrote_is_there_and_not_yet_durable() {
    let disk = Simulated::with(&["/d"]);
    let file = disk.create(Path::new("/d/a")).unwrap();
    disk.sync_directory(Path::new("/d")).unwrap();
    assert!(file.try_lock().unwrap());
    file.write_all_at(b"x", 0).unwrap();
    let next = disk.after_kill();
    assert!(file.write_all_at(b"y", 0).is_err());
    assert_eq!(bytes(&next, Path::new("/d/a")), b"x");
    assert!(next.open(Path::new("/d/a")).unwrap().try_lock().unwrap());
    assert_eq!(next.after_power_cut(0).files()[Path::new("/d/a")], b"");
    next.damage(Path::new("/d/a"), |bytes| bytes[0] ^= 1);
    assert_eq!(next.after_power_cut(0).files()[Path::new("/d/a")], b"y");
}

/// in one call of the system a thread keeps its processor from JavaScript for as long as it copies.
#[test]
fn a_call_of_the_system_is_given_no_more_than_a_mebibyte() {
    const MOST: usize = 1 << 20;
    let home = tempfile::tempdir().unwrap();
    let file = RealDisk.create(&home.path().join("a")).unwrap();
    let much: Vec<u8> = (0..3 * MOST + 7).map(|i| (i % 251) as u8).collect();
    assert_eq!(file.write_at(&much, 0).unwrap(), MOST);
    let parts = |lengths: &[usize]| {
        let parts: Vec<IoSlice<'_>> = lengths
            .iter()
            .map(|length| IoSlice::new(&much[..*length]))
            .collect();
        file.write_vectored_at(&parts, 0).unwrap()
    };
    assert_eq!(parts(&[MOST - 9, 8, 0, 1, 1]), MOST);
    assert_eq!(parts(&[10, MOST]), 10);
    assert_eq!(parts(&[0, much.len(), 1]), MOST);
    file.write_all_vectored_at(&[&much[..5], b"", &much[5..MOST], &much[MOST..]], 11)
        .unwrap();
    let mut read = vec![0; much.len()];
    assert_eq!(file.read_at(&mut read, 11).unwrap(), MOST);
    assert_eq!(file.read_full_at(&mut read, 11).unwrap(), much.len());
    assert!(read == much);
    file.write_all_at(&much, 0).unwrap();
    assert!(file.read_to_end_at(0).unwrap()[..much.len()] == much);
}

/// a lock ends with whoever had it, also while the process starts a program. Between its fork and its `exec` that
/// program has all files open, and on a busy machine half of all openings met one.
#[cfg(unix)]
#[test]
fn a_lock_ends_while_a_program_is_being_started() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("lock");
    let held = RealDisk.create(&path).unwrap();
    assert!(held.try_lock().unwrap());
    starting::while_a_program_starts(|| {
        assert!(!RealDisk.open(&path).unwrap().try_lock().unwrap());
        drop(held);
        assert!(RealDisk.open(&path).unwrap().try_lock().unwrap());
    });
    let open = || File::open(&path).unwrap();
    let held = LockedFile::try_lock(open()).unwrap().unwrap();
    starting::while_a_program_starts(|| {
        assert!(LockedFile::try_lock(open()).unwrap().is_none());
        // Without a lock of its own, closing it ends nobody's.
        drop(RealDisk.open(&path).unwrap());
        assert!(LockedFile::try_lock(open()).unwrap().is_none());
        drop(held);
        assert!(LockedFile::try_lock(open()).unwrap().is_some());
    });
}
