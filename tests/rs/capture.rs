//! what is recorded is there up to where a file is torn, and recording holds up nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UnionArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, UnionFields};
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow_ingest::capture::{Capture, QUEUE_BYTES};
use arrow_ingest::config::{CaptureFormat, CaptureOptions};
use arrow_ingest::counters::Counters;
use tempfile::TempDir;

const FORMATS: [CaptureFormat; 3] = [
    CaptureFormat::ArrowFile,
    CaptureFormat::ArrowStream,
    CaptureFormat::Ndjson,
];

fn options(directory: &Path, format: CaptureFormat) -> CaptureOptions {
    CaptureOptions {
        directory: directory.to_path_buf(),
        format,
        max_file_bytes: 64 << 20,
        rotate_after: Duration::from_secs(3_600),
        max_files: 16,
        max_age: None,
        sample: 1.0,
    }
}

fn batch(first: i64, rows: usize) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows as i64));
    let names = (0..rows).map(|row| format!("name {row}"));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap()
}

fn record(capture: &Capture, sequence: u64, batch: &RecordBatch, bytes: usize) -> bool {
    let rows = capture.copy(sequence, bytes, std::iter::once(batch.clone()));
    let taken = rows.is_some();
    rows.into_iter().for_each(|rows| capture.keep(rows));
    taken
}

fn close(capture: &Capture) {
    let (done, closed) = mpsc::channel();
    capture.close(move || done.send(()).unwrap());
    closed.recv().unwrap();
}

fn open(options: CaptureOptions) -> (Capture, Arc<Counters>, Arc<Mutex<Vec<String>>>) {
    let counters: Arc<Counters> = Arc::default();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = lines.clone();
    let warn = Box::new(move |line: &str, _| heard.lock().unwrap().push(line.to_string()));
    (Capture::open(options, counters.clone(), warn), counters, lines)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

/// The ids in a whole file.
fn ids(path: &Path) -> Vec<i64> {
    let of_batches = |batches: Vec<RecordBatch>| {
        let columns = batches.iter().map(|batch| {
            let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            column.values().to_vec()
        });
        columns.flatten().collect()
    };
    let file = fs::File::open(path).unwrap();
    match path.extension().and_then(|end| end.to_str()).unwrap() {
        "arrow" => of_batches(
            FileReader::try_new(file, None)
                .unwrap()
                .map(Result::unwrap)
                .collect(),
        ),
        "arrows" => of_batches(
            StreamReader::try_new(file, None)
                .unwrap()
                .map(Result::unwrap)
                .collect(),
        ),
        _ => {
            let text = fs::read_to_string(path).unwrap();
            let lines = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines.map(|line| line["id"].as_i64().unwrap()).collect()
        }
    }
}

/// cut anywhere, as the end of a process or of a machine does, a file is made whole by the next client: every
/// row before the cut is there, and nothing that was not recorded.
#[test]
fn a_file_that_is_cut_anywhere_is_whole_again() {
    for format in FORMATS {
        let home = TempDir::new().unwrap();
        let (capture, counters, _) = open(options(home.path(), format));
        for turn in 0..3 {
            assert!(record(&capture, turn, &batch(turn as i64 * 10, 10), 100));
        }
        close(&capture);
        assert_eq!(counters.capture_rows_written.get(), 30);
        let whole = files(home.path()).remove(0);
        let bytes = fs::read(&whole).unwrap();
        assert_eq!(ids(&whole), (0..30).collect::<Vec<i64>>());
        let mut seen = std::collections::BTreeSet::new();
        let name = whole.file_name().unwrap().to_str().unwrap().to_string();
        for length in (0..bytes.len()).step_by(13).chain([bytes.len()]) {
            let other = TempDir::new().unwrap();
            fs::write(other.path().join(format!("{name}.part")), &bytes[..length]).unwrap();
            let (capture, _, lines) = open(options(other.path(), format));
            close(&capture);
            assert!(lines.lock().unwrap().is_empty());
            let found = files(other.path());
            let rows = found.first().map(|path| ids(path)).unwrap_or_default();
            assert_eq!(
                rows,
                (0..rows.len() as i64).collect::<Vec<i64>>(),
                "{format:?} {length}"
            );
            assert!(found.len() <= 1 && found.iter().all(|path| path.extension().unwrap() != "part"));
            seen.insert(rows.len());
        }
        let step = if format == CaptureFormat::Ndjson { 1 } else { 10 };
        assert!(
            seen.contains(&0) && seen.contains(&(30 - step)) && seen.contains(&30),
            "{seen:?}"
        );
    }
}

/// rows that find no room in the queue are left out and counted; the caller is not held up.
#[test]
fn a_disk_that_hangs_holds_up_nothing() {
    let home = TempDir::new().unwrap();
    // The thread complains of the directory, and the log takes its time: so does a disk.
    fs::write(home.path().join("file"), "").unwrap();
    let counters: Arc<Counters> = Arc::default();
    let (gate, gated) = mpsc::channel::<()>();
    let gated = Mutex::new(gated);
    let warned: Arc<AtomicUsize> = Arc::default();
    let count = warned.clone();
    let warn = Box::new(move |_: &str, _| {
        count.fetch_add(1, Ordering::Relaxed);
        let _ = gated.lock().unwrap().recv();
    });
    let capture = Capture::open(
        options(&home.path().join("file"), CaptureFormat::ArrowFile),
        counters.clone(),
        warn,
    );
    let some = batch(0, 10);
    // One that is larger than the queue is taken alone.
    assert!(record(&capture, 1, &some, QUEUE_BYTES + 1));
    assert!(!record(&capture, 2, &some, 1));
    assert!(!record(&capture, 3, &some, QUEUE_BYTES));
    assert_eq!(counters.capture_rows_dropped.get(), 20);
    drop(gate);
    close(&capture);
    assert_eq!(counters.capture_rows_failed.get(), 10);
    assert_eq!(counters.capture_rows_written.get(), 0);
    // However many reasons there are, one line.
    assert_eq!(warned.load(Ordering::Relaxed), 1);
    assert!(record(&capture, 4, &some, 1), "there is room again");
}

/// what was left out is said once the disk is back.
#[test]
fn what_was_left_out_is_told() {
    let home = TempDir::new().unwrap();
    let (capture, counters, lines) = open(options(home.path(), CaptureFormat::ArrowFile));
    let held = capture
        .copy(1, QUEUE_BYTES, std::iter::once(batch(0, 5)))
        .unwrap();
    assert!(!record(&capture, 2, &batch(5, 5), 1));
    capture.keep(held);
    close(&capture);
    assert_eq!(counters.capture_rows_dropped.get(), 5);
    let lines = lines.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("slower")), "{lines:?}");
}

/// Values that a format has no words for cost their batch and nothing else.
#[test]
fn what_cannot_be_written_is_counted() {
    let home = TempDir::new().unwrap();
    let (capture, counters, lines) = open(options(home.path(), CaptureFormat::Ndjson));
    let fields = UnionFields::try_new([0], [Field::new("a", DataType::Int64, false)]).unwrap();
    let child: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let union = UnionArray::try_new(fields, ScalarBuffer::from(vec![0, 0]), None, vec![child]).unwrap();
    let odd = RecordBatch::try_from_iter([("u", Arc::new(union) as ArrayRef)]).unwrap();
    record(&capture, 1, &odd, 1);
    record(&capture, 2, &batch(0, 3), 1);
    close(&capture);
    assert_eq!(counters.capture_rows_failed.get(), 2);
    assert_eq!(counters.capture_rows_written.get(), 3);
    assert_eq!(lines.lock().unwrap().as_slice(), ["rows could not be recorded"]);
}

/// A file that somebody takes away costs what was in it; the next rows begin another.
#[test]
fn a_file_that_is_taken_away_is_begun_anew() {
    let home = TempDir::new().unwrap();
    let (capture, counters, _) = open(options(home.path(), CaptureFormat::ArrowStream));
    record(&capture, 1, &batch(0, 3), 1);
    while counters.capture_rows_written.get() < 3 {
        std::thread::yield_now();
    }
    for path in files(home.path()) {
        fs::remove_file(path).unwrap();
    }
    record(&capture, 2, &batch(3, 3), 1);
    close(&capture);
    let found = files(home.path());
    assert_eq!(found.len(), 1);
    assert_eq!(ids(&found[0]), [3, 4, 5]);
}

/// More schemas than there may be open files.
#[test]
fn files_of_many_schemas_are_closed_by_turns() {
    let home = TempDir::new().unwrap();
    let mut options = options(home.path(), CaptureFormat::ArrowFile);
    options.max_files = 100;
    let (capture, counters, _) = open(options);
    for which in 0..12 {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![which]));
        let one = RecordBatch::try_from_iter([(format!("c{which}"), column)]).unwrap();
        record(&capture, which as u64, &one, 1);
    }
    close(&capture);
    assert_eq!(counters.capture_rows_written.get(), 12);
    assert_eq!(files(home.path()).len(), 12);
}
