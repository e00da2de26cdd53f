//! what is left leaves the spool as Arrow files, bit for bit, with the position of each batch.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow::ipc::reader::FileReader;
use arrow_ingest::error::Code;
use arrow_ingest::file_system::RealDisk;
use arrow_ingest::spool::export::{Exported, export};
use arrow_ingest::spool::inspect::Inspection;
use arrow_ingest::spool::{Spool, SpoolCompression, SpoolOptions};
use serde_json::{Value, json};

use crate::support::batch;
use crate::transmitting::rig::eventually;

fn spool(home: &Path) -> Spool {
    let options = SpoolOptions {
        compression: Some(SpoolCompression::Lz4),
        ..SpoolOptions::new(home.join("spool"), "discard:")
    };
    Spool::open(Arc::new(RealDisk), &options).unwrap().0
}

async fn keep(spool: &Spool, batches: &[RecordBatch], identity: u64) {
    let appended = spool.append(batches, identity).await.unwrap();
    appended.durable.await.unwrap();
}

fn exported(home: &Path, to: &str) -> arrow_ingest::error::Result<Exported> {
    let inspection = Inspection::open(Arc::new(RealDisk), &home.join("spool"), "default").unwrap();
    export(&inspection, &home.join(to))
}

fn lines(exported: &Exported) -> Vec<Value> {
    let text = fs::read_to_string(&exported.list).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// By the list: the batch of each line.
fn batches(exported: &Exported) -> Vec<RecordBatch> {
    let folder = exported.list.parent().unwrap();
    let read = |line: Value| {
        let file = File::open(folder.join(line["file"].as_str().unwrap())).unwrap();
        let mut reader = FileReader::try_new(file, None).unwrap();
        let batch = reader.nth(line["batch"].as_u64().unwrap() as usize);
        batch.unwrap().unwrap()
    };
    lines(exported).into_iter().map(read).collect()
}

fn words(values: [&str; 3]) -> RecordBatch {
    let keys: DictionaryArray<Int32Type> = values.into_iter().collect();
    RecordBatch::try_from_iter([("d", Arc::new(keys) as ArrayRef)]).unwrap()
}

#[tokio::test]
async fn rows_that_are_left_are_exported_with_their_positions_while_a_client_has_the_spool() {
    let home = tempfile::tempdir().unwrap();
    let spool = spool(home.path());
    keep(&spool, &[batch(0..10)], 1).await;
    keep(&spool, &[batch(10..14), batch(14..20)], 2).await;
    let other: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let other = RecordBatch::try_from_iter([("other", other)]).unwrap();
    keep(&spool, std::slice::from_ref(&other), 3).await;
    // An Arrow file takes one dictionary for each column.
    keep(&spool, &[words(["a", "b", "a"])], 4).await;
    keep(&spool, &[words(["c", "d", "c"])], 5).await;
    spool.settle_through(12);
    spool.cancel(16..18).await.unwrap();
    let settled = || {
        let inspection = Inspection::open(Arc::new(RealDisk), &home.path().join("spool"), "default");
        inspection.unwrap().facts().settled_through
    };
    eventually(|| settled() >= 12).await;
    let done = exported(home.path(), "a/b").unwrap();
    assert_eq!(
        (done.deliveries, done.rows, done.damage.len()),
        (4, 6 + 2 + 3 + 3, 0)
    );
    let expected = [
        batch(12..14),
        batch(14..16),
        batch(18..20),
        other,
        words(["a", "b", "a"]),
        words(["c", "d", "c"]),
    ];
    assert_eq!(batches(&done), expected);
    let names: Vec<_> = done
        .files
        .iter()
        .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        names,
        [12, 20, 22, 25].map(|first: u64| format!("{first:020}.arrow"))
    );
    let lines = lines(&done);
    let time = &lines[2]["appendedMs"];
    assert!(time.as_u64().unwrap() > 1_600_000_000_000);
    let third = json!({
        "file": "00000000000000000012.arrow", "batch": 2, "position": "18", "rows": 2, "delivery": "10",
        "deliveryRows": 10, "identity": "2", "appendedMs": time,
    });
    assert_eq!(lines[2], third);
    // Nothing is written over, and the spool has all of it still.
    assert_eq!(
        exported(home.path(), "a/b").unwrap_err().code(),
        Code::ConfigInvalid
    );
    assert_eq!(exported(home.path(), "again").unwrap().rows, 14);
    let blocked = exported(home.path(), "spool/default/cursor").unwrap_err();
    assert_eq!(blocked.code(), Code::ConfigInvalid, "{blocked}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.path().join("a/b")), 0o700);
        assert!(
            done.files
                .iter()
                .chain([&done.list])
                .all(|file| mode(file) == 0o600)
        );
    }
    spool.close();
}

#[tokio::test]
async fn what_cannot_be_read_is_told_of_and_the_rest_is_exported() {
    let home = tempfile::tempdir().unwrap();
    let spool = spool(home.path());
    for first in [0, 10, 20] {
        keep(&spool, &[batch(first..first + 10)], 0).await;
    }
    spool.close();
    let folder = home.path().join("spool/default");
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "segment");
    let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let segment = paths.into_iter().find(is_segment).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let is_batches = |at: &usize| bytes[*at..].starts_with(b"ASRC") && bytes[at + 4] == 3;
    let second = (128..bytes.len()).step_by(64).filter(is_batches).nth(1).unwrap();
    bytes[second + 100] ^= 1;
    // And a record that is not whole yet.
    bytes.extend(b"ASRC");
    fs::write(&segment, bytes).unwrap();
    let done = exported(home.path(), "out").unwrap();
    assert_eq!(batches(&done), [batch(0..10), batch(20..30)]);
    assert_eq!((done.damage.len(), done.damage[0].offset), (1, second as u64));
    assert_eq!(done.files.len(), 1);
}

#[tokio::test]
async fn an_empty_spool_is_an_empty_list() {
    let home = tempfile::tempdir().unwrap();
    spool(home.path()).close();
    let done = exported(home.path(), "out").unwrap();
    assert_eq!((done.files.len(), done.rows, lines(&done).len()), (0, 0, 0));
}
