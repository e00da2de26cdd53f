//! The driver of spool.mjs: the spool against plain writes of the same sizes, in turn, in the same folder.
//!
//! `bench-spool <folder> <turns> <MiB to open>` prints one line of JSON.

#[path = "shared.rs"]
#[allow(dead_code, reason = "the other drivers measure CPU time")]
mod shared;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow_ingest::file_system::RealDisk;
use arrow_ingest::spool::{Durability, Spool, SpoolEntry, SpoolOptions};
use serde_json::{Value, json};
use shared::batch;

/// Of all that a turn writes.
const BYTES: usize = 128 << 20;
const SMALL_APPENDS: usize = 500;
const WAITING: usize = 1_000;
/// So many appends wait at once where they are not one by one: the client appends what it gets, and waits for none.
const AT_ONCE: usize = 4;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (folder, turns, mib) = (
        arguments.next().expect("a folder"),
        arguments.next().expect("turns").parse().expect("a number"),
        arguments.next().expect("MiB").parse().expect("a number"),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = Path::new(&folder);
    let found = runtime.block_on(async {
        let mut found = json!({});
        for (name, durability) in [("synced", Durability::Synced), ("written", Durability::Written)] {
            for size in [1, 10] {
                for (how, at_once) in [("", 1), ("AtOnce", AT_ONCE)] {
                    let row = against_plain(folder, turns, size << 20, durability, at_once).await;
                    found[format!("{name}{size}MiB{how}")] = row;
                }
            }
        }
        found["small"] = small(folder, turns).await;
        found["waiting"] = waiting(folder, turns).await;
        found["opening"] = opening(folder, mib).await;
        found["segments"] = segments(folder).await;
        found
    });
    writeln!(std::io::stdout(), "{found}").expect("a reader");
}

/// Seconds of appends of a size, of which so many wait at once, and of plain writes of as many bytes as the log then has.
async fn against_plain(
    folder: &Path,
    turns: usize,
    size: usize,
    durability: Durability,
    at_once: usize,
) -> Value {
    // 48 bytes a row.
    let batch = batch(size / 48);
    let count = BYTES / size;
    let (mut spool_s, mut plain_s) = (Vec::new(), Vec::new());
    for turn in 0..=turns {
        let mut bytes = 0;
        for ours in [turn % 2 == 0, turn % 2 != 0] {
            let seconds = if ours {
                let (seconds, written) = append_all(folder, &batch, count, durability, at_once).await;
                bytes = written;
                seconds
            } else {
                let each = if bytes > 0 { bytes / count } else { size + 1024 };
                plain(folder, each, count, durability == Durability::Synced)
            };
            // The first turn warms up.
            if turn > 0 {
                if ours { &mut spool_s } else { &mut plain_s }.push(seconds);
            }
        }
    }
    json!({ "count": count, "size": size, "atOnce": at_once, "spoolSeconds": spool_s, "plainSeconds": plain_s })
}

async fn append_all(
    folder: &Path,
    batch: &RecordBatch,
    count: usize,
    durability: Durability,
    at_once: usize,
) -> (f64, usize) {
    let directory = folder.join("spool");
    let options = SpoolOptions {
        durability,
        ..options(&directory)
    };
    let spool = open(&options);
    let began = Instant::now();
    let mut waiting = VecDeque::new();
    for identity in 0..count {
        let appended = spool.append(std::slice::from_ref(batch), identity as u64 + 1);
        waiting.push_back(appended.await.expect("room").durable);
        while waiting.len() >= at_once
            && let Some(durable) = waiting.pop_front()
        {
            durable.await.expect("a disk");
        }
    }
    for durable in waiting {
        durable.await.expect("a disk");
    }
    let seconds = began.elapsed().as_secs_f64();
    let bytes = spool.bytes() as usize;
    spool.close();
    fs::remove_dir_all(&directory).expect("removed");
    (seconds, bytes)
}

fn plain(folder: &Path, size: usize, count: usize, is_synced: bool) -> f64 {
    let bytes = vec![7_u8; size];
    let path = folder.join("plain");
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&path).expect("a file");
    let began = Instant::now();
    for _ in 0..count {
        file.write_all(&bytes).expect("written");
        if is_synced {
            file.sync_data().expect("synced");
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    drop(file);
    fs::remove_file(&path).expect("removed");
    seconds
}

/// Microseconds of one append of ten rows, and of one plain write and sync of as many bytes: all values.
async fn small(folder: &Path, turns: usize) -> Value {
    let directory = folder.join("spool");
    let (mut spool_us, mut plain_us) = (Vec::new(), Vec::new());
    let batch = batch(10);
    let spool = open(&options(&directory));
    let empty = spool.bytes();
    let mut file = File::create(folder.join("plain")).expect("a file");
    let mut record = vec![7_u8; 2048];
    for turn in 0..=turns {
        for n in 0..SMALL_APPENDS / 10 {
            let began = Instant::now();
            let appended = spool.append(std::slice::from_ref(&batch), n as u64 + 1);
            appended.await.expect("room").durable.await.expect("a disk");
            let ours = began.elapsed();
            if turn == 0 && n == 1 {
                record.resize((spool.bytes() - empty) as usize / 2, 7);
            }
            let began = Instant::now();
            file.write_all(&record).expect("written");
            file.sync_data().expect("synced");
            let plain = began.elapsed();
            if turn > 0 {
                spool_us.push(ours.as_secs_f64() * 1e6);
                plain_us.push(plain.as_secs_f64() * 1e6);
            }
        }
    }
    spool.close();
    fs::remove_dir_all(&directory).expect("removed");
    fs::remove_file(folder.join("plain")).expect("removed");
    json!({ "recordBytes": record.len(), "spoolMicroseconds": spool_us, "plainMicroseconds": plain_us })
}

/// Seconds of a thousand appends of ten rows that wait together, and of a tenth of them one by one.
async fn waiting(folder: &Path, turns: usize) -> Value {
    let directory = folder.join("spool");
    let batch = batch(10);
    let spool = open(&options(&directory));
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for turn in 0..=turns {
        let began = Instant::now();
        let mut durables = Vec::with_capacity(WAITING);
        for identity in 0..WAITING {
            let appended = spool.append(std::slice::from_ref(&batch), identity as u64 + 1);
            durables.push(appended.await.expect("room").durable);
        }
        for durable in durables {
            durable.await.expect("a disk");
        }
        let waited = began.elapsed().as_secs_f64();
        let began = Instant::now();
        for identity in 0..WAITING / 10 {
            let appended = spool.append(std::slice::from_ref(&batch), identity as u64 + 1);
            appended.await.expect("room").durable.await.expect("a disk");
        }
        if turn > 0 {
            together.push(waited);
            alone.push(began.elapsed().as_secs_f64() * 10.0);
        }
    }
    spool.close();
    fs::remove_dir_all(&directory).expect("removed");
    json!({ "appends": WAITING, "togetherSeconds": together, "oneByOneSeconds": alone })
}

/// Seconds until a spool of so many MiB is open, until its first record is read, and until all are; and of reading
/// its files without looking at them.
async fn opening(folder: &Path, mib: usize) -> Value {
    let directory = folder.join("spool");
    let batch = batch((1 << 20) / 48);
    fill(&directory, &batch, mib, options(&directory).segment_bytes).await;
    let mut plain = 0.0;
    let (mut opened, mut first, mut all) = (0.0, 0.0, 0.0);
    // The first turn brings the files into the system's memory, for both alike.
    for _ in 0..2 {
        let began = Instant::now();
        let mut buffer = vec![0_u8; 1 << 20];
        for entry in fs::read_dir(directory.join("default")).expect("a folder") {
            let mut file = File::open(entry.expect("an entry").path()).expect("a file");
            while file.read(&mut buffer).expect("bytes") > 0 {}
        }
        plain = began.elapsed().as_secs_f64();
        (opened, first, all) = read_all(&directory, mib);
    }
    let bytes = fs::read_dir(directory.join("default")).expect("a folder");
    let bytes: u64 = bytes
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("an entry").len())
        .sum();
    fs::remove_dir_all(&directory).expect("removed");
    json!({
        "bytes": bytes, "openSeconds": opened, "firstRecordSeconds": first, "allSeconds": all, "plainReadSeconds": plain,
    })
}

/// The same, of ten thousand segments.
async fn segments(folder: &Path) -> Value {
    let directory = folder.join("spool");
    let batch = batch(10);
    // A record is larger than a segment may be: each gets one of its own.
    fill(&directory, &batch, 10_000, 1).await;
    let segments = fs::read_dir(directory.join("default")).expect("a folder");
    let segments = segments
        .filter(|entry| {
            let name = entry.as_ref().expect("an entry").file_name();
            name.to_string_lossy().ends_with(".segment")
        })
        .count();
    let (opened, first, all) = read_all(&directory, 10_000);
    fs::remove_dir_all(&directory).expect("removed");
    json!({ "segments": segments, "openSeconds": opened, "firstRecordSeconds": first, "allSeconds": all })
}

async fn fill(directory: &Path, batch: &RecordBatch, count: usize, segment_bytes: u64) {
    let options = SpoolOptions {
        segment_bytes,
        durability: Durability::Written,
        ..options(directory)
    };
    let spool = open(&options);
    for identity in 0..count {
        let appended = spool.append(std::slice::from_ref(batch), identity as u64 + 1);
        appended.await.expect("room");
    }
    spool.sync().await.expect("a disk");
    spool.close();
}

fn read_all(directory: &Path, count: usize) -> (f64, f64, f64) {
    let began = Instant::now();
    let spool = open(&options(directory));
    let opened = began.elapsed().as_secs_f64();
    let mut reader = spool.read_from(0);
    let mut first = 0.0;
    let mut deliveries = 0;
    while let Some(entry) = reader.next().expect("a disk") {
        assert!(matches!(entry, SpoolEntry::Rows(_)), "damage");
        if deliveries == 0 {
            first = began.elapsed().as_secs_f64();
        }
        deliveries += 1;
    }
    assert_eq!(deliveries, count);
    let all = began.elapsed().as_secs_f64();
    spool.close();
    (opened, first, all)
}

fn options(directory: &Path) -> SpoolOptions {
    SpoolOptions::new(directory, "discard:")
}

fn open(options: &SpoolOptions) -> Spool {
    Spool::open(Arc::new(RealDisk), options).expect("a spool").0
}
