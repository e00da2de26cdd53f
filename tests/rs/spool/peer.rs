//! a reader in Python, written from `specs/spool-format.md` alone, finds what ours finds.
//!
//! Without the Python of `scripts/ensure.mjs python` these tests are skipped, and `npm test` says so at its end; CI
//! has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, ListArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use arrow::ipc::reader::StreamReader;
use arrow_ingest::file_system::RealDisk;
use arrow_ingest::spool::{Spool, SpoolCompression, SpoolEntry, SpoolOptions};
use serde_json::Value;

use crate::skipped::skipped;
use crate::support::batch;

/// What a reader found of the rows that are left.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// By the position of the first row of each delivery, those of its rows that are left.
    left: BTreeMap<u64, RecordBatch>,
    identities: BTreeMap<u64, u64>,
    /// By the name of the segment, its offsets.
    damaged: BTreeMap<String, Vec<u64>>,
}

/// Skips the test without Python.
fn python(directory: &Path, out: &Path) -> Option<Output> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".tools/venv/bin/python");
    let script = "tests/interop/spool_reader.py";
    if !python.exists() {
        skipped(script, "no Python in .tools/venv");
        return None;
    }
    let mut command = Command::new(python);
    Some(
        command
            .arg(root.join(script))
            .arg(directory)
            .arg(out)
            .output()
            .unwrap(),
    )
}

fn by_python(directory: &Path) -> Option<(Found, Value)> {
    let out = tempfile::tempdir().unwrap();
    let done = python(directory, out.path())?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    let mut found = Found::default();
    for record in answer["records"].as_array().unwrap() {
        let position = record["position"].as_u64().unwrap();
        if record["left"].as_array().unwrap().is_empty() {
            continue;
        }
        let file = fs::File::open(out.path().join(format!("{position:020}.arrow"))).unwrap();
        let reader = StreamReader::try_new(file, None).unwrap();
        let schema = reader.schema();
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        let batch = concat_batches(&schema, &batches).unwrap();
        found.left.insert(position, batch);
        let identity = record["identity"].as_u64().unwrap();
        found.identities.insert(position, identity);
    }
    for (segment, ranges) in answer["damaged"].as_object().unwrap() {
        let offsets = ranges.as_array().unwrap().iter();
        let offsets = offsets.map(|range| range[0].as_u64().unwrap()).collect();
        found.damaged.insert(segment.clone(), offsets);
    }
    Some((found, answer))
}

fn by_us(options: &SpoolOptions) -> Found {
    let (spool, _) = Spool::open(Arc::new(RealDisk), options).unwrap();
    let mut reader = spool.read_from(0);
    let mut left: BTreeMap<u64, Vec<RecordBatch>> = BTreeMap::new();
    let mut found = Found::default();
    while let Some(entry) = reader.next().unwrap() {
        match entry {
            SpoolEntry::Rows(rows) => {
                left.entry(rows.delivery.start).or_default().extend(rows.batches);
                found.identities.insert(rows.delivery.start, rows.identity);
            }
            SpoolEntry::Damage(damage) => {
                let segment = damage.segment.file_name().unwrap().to_string_lossy();
                let offsets = found.damaged.entry(segment.into_owned()).or_default();
                offsets.push(damage.offset);
            }
        }
    }
    for (position, batches) in left {
        let batch = concat_batches(&batches[0].schema(), &batches).unwrap();
        found.left.insert(position, batch);
    }
    found
}

/// Words, views, lists, dictionaries and nulls.
fn mixed(seed: i32) -> RecordBatch {
    let words: Vec<Option<String>> = (0..40)
        .map(|row| (row % 7 != 3).then(|| format!("wort-{}-ß", (row * seed) % 11)))
        .collect();
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(seed..seed + 40));
    let floats: ArrayRef = Arc::new(Float64Array::from_iter(
        (0..40).map(|row| (row % 3 != 0).then_some(f64::from(row) / 7.0)),
    ));
    let texts: ArrayRef = Arc::new(StringArray::from(words.clone()));
    let views: ArrayRef = Arc::new(StringViewArray::from(words.clone()));
    let keys: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter(
        words.iter().map(Option::as_deref),
    ));
    let lists = (0..40).map(|row| (row % 5 != 0).then(|| (0..row % 4).map(Some).collect::<Vec<_>>()));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
    RecordBatch::try_from_iter_with_nullable([
        ("n", numbers, false),
        ("f", floats, true),
        ("s", texts, true),
        ("v", views, true),
        ("d", keys, true),
        ("l", lists, true),
    ])
    .unwrap()
}

async fn keep(spool: &Spool, batches: &[RecordBatch], identity: u64) {
    let appended = spool.append(batches, identity).await.unwrap();
    appended.durable.await.unwrap();
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_that_is_left_is_found_by_a_reader_written_from_the_page() {
    for compression in [None, Some(SpoolCompression::Lz4), Some(SpoolCompression::Zstd)] {
        let home = tempfile::tempdir().unwrap();
        let options = SpoolOptions {
            segment_bytes: 16 << 10,
            compression,
            ..SpoolOptions::new(home.path(), "grpc://somebody:secret@host:1/a?key=secret")
        };
        let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
        for number in 0..30 {
            let batches = [mixed(number * 2 + 1), mixed(number * 2 + 2)];
            keep(&spool, &batches, number as u64 + 100).await;
            keep(&spool, &[batch(0..i64::from(number) + 1)], number as u64 + 500).await;
        }
        // In the midst of a delivery; behind it out of order, once across several deliveries.
        spool.settle_through(130);
        spool.settle(400..401);
        spool.settle(590..1_000);
        spool.close();
        let Some((found, answer)) = by_python(&home.path().join("default")) else {
            return;
        };
        assert!(segments(&home.path().join("default")).len() > 3);
        assert_eq!(answer["target"], "grpc://host:1/a");
        assert_eq!(answer["settled_through"], 130);
        assert_eq!(found.damaged, BTreeMap::new());
        let rows: usize = found.left.values().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 30 * 80 + 30 * 31 / 2 - 130 - 1 - 410);
        assert_eq!(found, by_us(&options), "{compression:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_readers_agree_on_what_is_damaged_and_what_is_behind_it() {
    let whole = tempfile::tempdir().unwrap();
    let at = |home: &Path| SpoolOptions::new(home, "discard:");
    let (spool, _) = Spool::open(Arc::new(RealDisk), &at(whole.path())).unwrap();
    for number in 0..6 {
        let rows = batch(number * 10..number * 10 + 10);
        keep(&spool, &[rows], number as u64 + 1).await;
    }
    spool.close();
    let directory = whole.path().join("default");
    let segment = segments(&directory).remove(0);
    let bytes = fs::read(&segment).unwrap();
    let is_batches = |at: &usize| bytes[*at..].starts_with(b"ASRC") && bytes[at + 4] == 3;
    let records: Vec<usize> = (128..bytes.len()).step_by(64).filter(is_batches).collect();
    assert_eq!(records.len(), 6);
    let third = records[2];
    type Harm = Box<dyn Fn(&mut Vec<u8>)>;
    let harms: [(&str, Harm, usize); 6] = [
        (
            "a byte of a payload",
            Box::new(move |bytes| bytes[third + 200] ^= 1),
            5,
        ),
        (
            "a bit of a header",
            Box::new(move |bytes| bytes[third + 9] ^= 4),
            5,
        ),
        (
            "the beginning of a record",
            Box::new(move |bytes| bytes[third..third + 128].fill(0)),
            5,
        ),
        (
            "a header in the payload before it",
            Box::new(move |bytes| bytes.copy_within(third..third + 64, third - 64)),
            5,
        ),
        (
            "a torn end",
            Box::new(|bytes| bytes.truncate(bytes.len() - 70)),
            5,
        ),
        ("an end of zeros", Box::new(|bytes| bytes.extend([0; 4096])), 6),
    ];
    for (what, harm, left) in harms {
        let home = tempfile::tempdir().unwrap();
        let copy = home.path().join("default");
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
            }
        }
        let mut harmed = bytes.clone();
        harm(&mut harmed);
        fs::write(copy.join(segment.file_name().unwrap()), harmed).unwrap();
        let Some((found, _)) = by_python(&copy) else {
            return;
        };
        assert_eq!(found.left.len(), left, "{what}");
        assert_eq!(found, by_us(&at(home.path())), "{what}");
    }
}

#[test]
fn a_newer_format_is_refused_by_both() {
    let home = tempfile::tempdir().unwrap();
    let options = SpoolOptions::new(home.path(), "discard:");
    let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
    spool.close();
    let cursor = home.path().join("default/cursor");
    let mut bytes = fs::read(&cursor).unwrap();
    let slot = [0, 4096]
        .into_iter()
        .find(|at| bytes[*at..].starts_with(b"ARROWCUR"));
    let slot = slot.unwrap();
    bytes[slot + 8] = 2;
    let crc = crc32c::crc32c(&bytes[slot..slot + 12]);
    bytes[slot + 12..slot + 16].copy_from_slice(&crc.to_le_bytes());
    fs::write(&cursor, bytes).unwrap();
    let error = Spool::open(Arc::new(RealDisk), &options).unwrap_err();
    assert_eq!(error.code().as_str(), "SPOOL_FORMAT");
    if let Some(done) = python(&home.path().join("default"), home.path()) {
        assert!(!done.status.success());
        assert!(String::from_utf8_lossy(&done.stderr).contains("SPOOL_FORMAT"));
    }
}
