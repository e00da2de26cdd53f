//! The same on this machine's disk, with threads.

use std::cell::RefCell;
use std::sync::Arc;

use arrow_ingest::file_system::RealDisk;
use arrow_ingest::spool::{Durability, Spool, SpoolEntry, SpoolOptions};
use futures::future::join_all;

use crate::support::{batch, values};
use crate::transmitting::rig::eventually;

fn read(spool: &Spool) -> Vec<i64> {
    let mut reader = spool.read_from(0);
    let mut read = Vec::new();
    while let Some(SpoolEntry::Rows(rows)) = reader.next().unwrap() {
        read.extend(values(&rows.batches));
    }
    read
}

/// many who append at once are all answered, in order, and found again.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_appends_at_once_are_durable_and_in_order() {
    let home = tempfile::tempdir().unwrap();
    let options = SpoolOptions {
        segment_bytes: 64 << 10,
        ..SpoolOptions::new(home.path().join("a/b"), "discard:")
    };
    let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
    let mut durable = Vec::new();
    for number in 0..1000 {
        let appended = spool
            .append(&[batch(number * 10..number * 10 + 10)], number as u64)
            .await
            .unwrap();
        assert_eq!(appended.position, number as u64 * 10);
        durable.push(appended.durable);
    }
    assert!(join_all(durable).await.iter().all(Result::is_ok));
    assert_eq!(read(&spool), (0..10_000).collect::<Vec<_>>());
    spool.settle_through(5_005);
    spool.close();
    let (spool, recovered) = Spool::open(Arc::new(RealDisk), &options).unwrap();
    assert_eq!(
        (recovered.position, recovered.left.rows, recovered.left.deliveries),
        (5_005, 4_995, 500)
    );
    assert_eq!(read(&spool), (5_005..10_000).collect::<Vec<_>>());
}

/// Large batches are encoded on threads that compute, and come back whole; a waiter is told when there is more.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_written_while_others_work_and_readers_are_told() {
    let home = tempfile::tempdir().unwrap();
    let options = SpoolOptions {
        durability: Durability::Written,
        ..SpoolOptions::new(home.path(), "discard:")
    };
    let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
    let mut readable = spool.readable();
    let rows: Vec<i64> = (0..3_000_000).collect();
    let appended = spool.append(&[batch(rows.clone())], 1).await.unwrap();
    appended.durable.await.unwrap();
    let mut reader = spool.read_from(0);
    // Asks for a sync, and is told of it.
    assert!(reader.next().unwrap().is_none());
    readable
        .wait_for(|readable| *readable == 3_000_000)
        .await
        .unwrap();
    let Some(SpoolEntry::Rows(found)) = reader.next().unwrap() else {
        panic!("nothing")
    };
    assert_eq!(values(&found.batches), rows);
    assert_eq!(reader.position(), 3_000_000);
}

/// nobody else may read it.
#[cfg(unix)]
#[tokio::test]
async fn files_and_directories_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let options = SpoolOptions::new(home.path().join("spool"), "discard:");
    let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
    spool
        .append(&[batch(0..3)], 0)
        .await
        .unwrap()
        .durable
        .await
        .unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = home.path().join("spool/default");
    assert_eq!(
        (mode(&home.path().join("spool")), mode(&directory)),
        (0o700, 0o700)
    );
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 4);
}

/// The cursor's second passes by itself, and a spool that is dropped is another's soon.
#[tokio::test(flavor = "multi_thread")]
async fn the_writer_keeps_the_cursor_and_ends_by_itself() {
    let home = tempfile::tempdir().unwrap();
    let options = SpoolOptions::new(home.path(), "discard:");
    let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
    spool
        .append(&[batch(0..3)], 0)
        .await
        .unwrap()
        .durable
        .await
        .unwrap();
    let cursor = home.path().join("default/cursor");
    // The first one is there at once, the next one a second later.
    for through in [1, 2] {
        let before = std::fs::read(&cursor).unwrap();
        spool.settle_through(through);
        eventually(|| std::fs::read(&cursor).unwrap() != before).await;
    }
    drop(spool);
    let opened = RefCell::new(None);
    eventually(|| {
        *opened.borrow_mut() = Spool::open(Arc::new(RealDisk), &options).ok();
        opened.borrow().is_some()
    })
    .await;
    let (_, recovered) = opened.into_inner().unwrap();
    assert_eq!(recovered.position, 2);
}

/// Who waits for more to read is told when nothing more will come, whatever has ended the writer.
#[tokio::test]
async fn readers_that_wait_are_told_of_the_end_of_the_writer() {
    let home = tempfile::tempdir().unwrap();
    let options = SpoolOptions::new(home.path(), "discard:");
    let (spool, _, writer) = Spool::open_undriven(Arc::new(RealDisk), &options).unwrap();
    let mut readable = spool.readable();
    let died = std::thread::spawn(move || {
        let _writer = writer;
        panic!("a fault of the writer");
    });
    assert!(readable.wait_for(|readable| *readable > 0).await.is_err());
    assert!(died.join().is_err());
    assert!(spool.readable().changed().await.is_err());
    let refused = spool.append(&[batch(0..3)], 0).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "CLOSED");
}

/// a directory that others may read is taken from them when the spool is opened; the one above is the user's.
#[cfg(unix)]
#[test]
fn a_directory_that_others_may_read_becomes_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let options = SpoolOptions::new(home.path().join("spool"), "discard:");
    let directory = home.path().join("spool/default");
    std::fs::create_dir_all(&directory).unwrap();
    let open_to_all = || std::fs::Permissions::from_mode(0o755);
    for path in [&directory, &home.path().join("spool")] {
        std::fs::set_permissions(path, open_to_all()).unwrap();
    }
    Spool::open(Arc::new(RealDisk), &options).unwrap().0.close();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&home.path().join("spool")), 0o755);
}
