//! directories that earlier releases wrote are read by this one. `kept/1` is of format 1; to keep another,
//! run `SPOOL_KEEP=<folder> cargo test --test spool -- kept`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_ingest::file_system::RealDisk;
use arrow_ingest::spool::{Spool, SpoolCompression, SpoolEntry, SpoolOptions};

use crate::support::{batch, values};

fn read(spool: &Spool) -> Vec<i64> {
    let mut reader = spool.read_from(0);
    let mut read = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let SpoolEntry::Rows(rows) = entry else {
            panic!("{entry:?}")
        };
        assert_eq!(rows.identity, rows.delivery.start / 10 + 1);
        read.extend(values(&rows.batches));
    }
    read
}

/// Deliveries of ten rows in three segments, some compressed, some settled in order and out of order.
async fn write(directory: &Path) {
    for (opening, compression) in [None, Some(SpoolCompression::Lz4), Some(SpoolCompression::Zstd)]
        .into_iter()
        .enumerate()
    {
        let options = SpoolOptions {
            compression,
            ..SpoolOptions::new(directory, "discard:")
        };
        let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
        for delivery in 0..2 {
            let first = (opening * 2 + delivery) as i64 * 10;
            let batches = [batch(first..first + 4), batch(first + 4..first + 10)];
            let appended = spool.append(&batches, first as u64 / 10 + 1).await.unwrap();
            appended.durable.await.unwrap();
        }
        if opening == 1 {
            spool.settle_through(7);
            spool.cancel(20..25).await.unwrap();
        }
        spool.close();
    }
}

fn left() -> Vec<i64> {
    (7..20).chain(25..60).collect()
}

#[tokio::test]
async fn a_directory_of_each_format_that_was_ever_released_is_read() {
    if let Ok(directory) = std::env::var("SPOOL_KEEP") {
        write(Path::new(&directory)).await;
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rs/spool/kept");
    let mut formats = 0;
    for format in fs::read_dir(kept).unwrap() {
        let home = tempfile::tempdir().unwrap();
        let copy = home.path().join("default");
        fs::create_dir(&copy).unwrap();
        for file in fs::read_dir(format.unwrap().path().join("default")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        let options = SpoolOptions::new(home.path(), "discard:");
        let (spool, recovered) = Spool::open(Arc::new(RealDisk), &options).unwrap();
        assert_eq!((recovered.position, recovered.left.rows), (7, 48));
        assert_eq!(read(&spool), left());
        // And it goes on.
        let appended = spool.append(&[batch(60..70)], 7).await.unwrap();
        assert_eq!(appended.position, 60);
        appended.durable.await.unwrap();
        spool.close();
        let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
        assert_eq!(read(&spool).last(), Some(&69));
        formats += 1;
    }
    assert_eq!(formats, 1);
}
