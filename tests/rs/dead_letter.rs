//! refused rows are on the disk when the outcome is told, whole, bounded, and readable by others.

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int8Type, Int32Type, Int64Type, UInt64Type};
use arrow_ingest::config::{Config, DeadLetter};
use arrow_ingest::dead_letter::{DeadLetters, Letter, list, read};
use arrow_ingest::outcome::Rejection;
use arrow_ingest::outcome::Status;
use arrow_ingest::telemetry::Counters;
use serde_json::{Value, json};
use support::rig::Rig;
use support::scripted::{Durable, Scripted};
use support::{batch, schema, values};

const MINUTE: Duration = Duration::from_secs(60);

fn options(directory: &Path, mut more: Value) -> DeadLetter {
    more["directory"] = json!(directory.to_str().unwrap());
    let config = Config::from_json(&json!({ "deadLetter": more })).unwrap();
    config.dead_letter.unwrap()
}

/// A thread with somebody who listens to what it complains about.
struct Bench {
    letters: DeadLetters,
    counters: Arc<Counters>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new(options: DeadLetter) -> Bench {
        let counters: Arc<Counters> = Arc::default();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let ears = said.clone();
        let warn = Box::new(move |text: &str, _: Value| ears.lock().unwrap().push(text.to_string()));
        Bench {
            letters: DeadLetters::open(options, counters.clone(), warn),
            counters,
            said,
        }
    }

    fn keep(&self, sequence: u64, batch: &RecordBatch) {
        self.letters.keep(Letter {
            schema: batch.schema(),
            batches: vec![batch.clone()],
            sequence,
            rejections: rejections(batch.num_rows()),
        });
    }

    fn sync(&self) {
        let (done, wait) = mpsc::channel();
        self.letters.sync(move || done.send(()).unwrap());
        wait.recv().unwrap();
    }

    fn close(&self) {
        let (done, wait) = mpsc::channel();
        self.letters.close(move || done.send(()).unwrap());
        wait.recv().unwrap();
    }

    fn has_said(&self, what: &str) -> bool {
        self.said.lock().unwrap().iter().any(|line| line.contains(what))
    }
}

fn rejections(rows: usize) -> Vec<Rejection> {
    let rejection = |row: usize| Rejection {
        row: row as u64,
        code: "BAD".into(),
        message: format!("row {row} is bad"),
    };
    (0..rows).map(rejection).collect()
}

fn parts(directory: &Path) -> usize {
    let names = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_str().unwrap().ends_with(".part"))
        .count()
}

/// Through the transmitter: by the time the outcome is told the rows are there, and after the close the file
/// is whole and says all that is known of them.
#[tokio::test]
async fn refused_rows_are_on_the_disk_when_the_outcome_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("letters");
    for named in [true, false] {
        let mut scripted = Scripted::new(Durable::AtWrite, true);
        scripted.refusals_are_atomic = true;
        let rig = Rig::new(
            scripted,
            json!({ "batching": { "linger": 0 }, "deadLetter": { "directory": directory } }),
        );
        let bad = [102, 103, 117];
        if named {
            rig.world().refused.extend(bad);
        } else {
            rig.world().at_fault.extend(bad);
        }
        let batches = [batch(&schema("n"), 100..110), batch(&schema("n"), 110..120)];
        let sequence = rig.send_all_waiting(&batches).await.unwrap();
        let outcome = rig.outcome(sequence).await;
        assert_eq!((outcome.status, outcome.accepted_rows), (Status::Partial, 17));
        assert_eq!(rig.counters.dead_letters_kept.get(), 3);
        rig.flush().await.unwrap();
        rig.close(MINUTE).await.unwrap();
        rig.check_the_end();
        assert_eq!(parts(&directory), 0);
        let files = list(&directory).unwrap();
        let [file] = &files[..] else { panic!("{files:?}") };
        let rows = read(&file.path).unwrap();
        let whole = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
        assert_eq!(values(&whole), bad);
        let row = whole.column_by_name("_rejection_row").unwrap();
        assert_eq!(row.as_primitive::<UInt64Type>().values().to_vec(), [2, 3, 17]);
        let code = whole.column_by_name("_rejection_code").unwrap();
        let expected = if named { "REFUSED" } else { "NOT_WELCOME" };
        assert!(code.as_string::<i32>().iter().all(|code| code == Some(expected)));
        let of = whole.column_by_name("_rejection_sequence").unwrap();
        assert_eq!(of.as_primitive::<UInt64Type>().value(0), sequence);
        for name in ["_rejection_reason", "_rejection_time"] {
            assert_eq!(whole.column_by_name(name).unwrap().null_count(), 0);
        }
        fs::remove_file(&file.path).unwrap();
    }
}

/// A disk that takes nothing costs no outcome: it is told, with a line in the log and a count.
#[tokio::test]
async fn a_directory_that_cannot_be_made_loses_no_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "in the way").unwrap();
    let rig = Rig::new(
        Scripted::new(Durable::AtWrite, true),
        json!({ "batching": { "linger": 0 }, "deadLetter": { "directory": blocked } }),
    );
    rig.world().refused.insert(3);
    let sequence = rig.send(&batch(&schema("n"), 0..8));
    assert_eq!(rig.outcome(sequence).await.status, Status::Partial);
    assert_eq!(rig.counters.dead_letters_failed.get(), 1);
    assert_eq!(rig.counters.dead_letters_kept.get(), 0);
    let complained = |line: &arrow_ingest::transmitter::Log| {
        line.level == "warn"
            && line
                .message
                .contains("could not be written to the dead-letter directory")
    };
    assert!(rig.heard().logs.iter().any(complained));
    rig.close(MINUTE).await.unwrap();
    rig.check_the_end();
}

/// The columns that say why never meet the user's, whatever those are called.
#[test]
fn added_columns_meet_none_of_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    let mine: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let batch =
        RecordBatch::try_from_iter([("_rejection_row", mine.clone()), ("__rejection_x", mine)]).unwrap();
    bench.keep(1, &batch);
    bench.close();
    let rows = read(&list(folder.path()).unwrap()[0].path).unwrap();
    let schema = rows[0].schema();
    assert_eq!(
        schema.metadata()["arrow-ingest.dead-letter.prefix"],
        "___rejection_"
    );
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    let added = ["reason", "code", "sequence", "row", "time"].map(|name| format!("___rejection_{name}"));
    assert_eq!(names[..2], ["_rejection_row", "__rejection_x"]);
    assert_eq!(names[2..], added);
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 7);
}

/// One file per schema, another when it is full, and the oldest go when there are too many.
#[test]
fn files_are_rotated_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(
        folder.path(),
        json!({ "maxFileBytes": 1, "maxFiles": 3 }),
    ));
    for n in 0..6 {
        bench.keep(n, &batch(&schema("n"), [n as i64]));
        bench.sync();
    }
    bench.close();
    let files = list(folder.path()).unwrap();
    assert_eq!(files.len(), 3);
    let mut left: Vec<i64> = files
        .iter()
        .flat_map(|file| values(&read(&file.path).unwrap()[0]))
        .collect();
    left.sort_unstable();
    assert!(left.contains(&5) && !left.contains(&0), "{left:?}");
    assert_eq!(bench.counters.dead_letter_files_removed.get(), 3);
    assert!(bench.has_said("removed to make room"));

    let bench = Bench::new(options(
        folder.path(),
        json!({ "maxBytes": "64MiB", "maxAge": 0 }),
    ));
    // Twelve schemas at once, of which not all may be open.
    for n in 0..12 {
        bench.keep(n, &batch(&schema(&format!("c{n}")), [n as i64]));
    }
    bench.close();
    assert_eq!(bench.counters.dead_letters_kept.get(), 12);
    assert!(
        list(folder.path()).unwrap().is_empty(),
        "all are older than nothing"
    );
}

/// Another dictionary begins another file: the file format takes one for a column.
#[test]
fn dictionaries_that_differ_go_to_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    let words = [["a", "b"], ["x", "y"]];
    for (n, words) in words.iter().enumerate() {
        let column: DictionaryArray<Int32Type> = words.iter().copied().collect();
        let batch = RecordBatch::try_from_iter([("d", Arc::new(column) as ArrayRef)]).unwrap();
        bench.keep(n as u64, &batch);
    }
    bench.close();
    let mut found = Vec::new();
    for file in list(folder.path()).unwrap() {
        for batch in read(&file.path).unwrap() {
            let plain = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
            found.extend(plain.as_string::<i32>().iter().flatten().map(str::to_string));
        }
    }
    found.sort();
    assert_eq!(found, ["a", "b", "x", "y"]);
    assert_eq!(bench.counters.dead_letters_failed.get(), 0);
}

/// What a crash leaves is never under a final name, and the next client makes it whole as far as it goes.
#[test]
fn what_a_crash_left_is_made_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    bench.keep(1, &batch(&schema("n"), 0..5));
    bench.sync();
    bench.keep(2, &batch(&schema("n"), 5..9));
    bench.sync();
    assert_eq!((parts(folder.path()), list(folder.path()).unwrap().len()), (1, 0));
    let living = fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();

    // The crash: the bytes are there, some of the last are not, and nobody holds the lock.
    let elsewhere = tempfile::tempdir().unwrap();
    let left = elsewhere.path().join(living.file_name().unwrap());
    fs::copy(&living, &left).unwrap();
    let length = fs::metadata(&left).unwrap().len();
    File::options()
        .write(true)
        .open(&left)
        .unwrap()
        .set_len(length - 9)
        .unwrap();
    fs::write(elsewhere.path().join("rejected-1-0.arrow.part"), "AR").unwrap();
    fs::write(elsewhere.path().join("notes.txt"), "of somebody else").unwrap();
    let next = Bench::new(options(elsewhere.path(), json!({})));
    next.close();
    let files = list(elsewhere.path()).unwrap();
    assert_eq!((files.len(), parts(elsewhere.path())), (1, 0));
    let rows: Vec<i64> = read(&files[0].path).unwrap().iter().flat_map(values).collect();
    assert_eq!(rows, (0..5).collect::<Vec<_>>());
    assert!(next.has_said("whole again"));
    assert!(elsewhere.path().join("notes.txt").exists());

    // One that somebody still writes to is left alone.
    let other = Bench::new(options(folder.path(), json!({})));
    other.close();
    assert!(living.exists());
    bench.close();
    assert_eq!(list(folder.path()).unwrap().len(), 1);
    // Whoever asks a thread that is gone is answered.
    bench.sync();
}

/// Rows that no file takes leave none behind: on a full disk there would be two for each of them.
#[test]
fn what_cannot_be_written_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    let unwritable = |sequence| Letter {
        schema: schema("n"),
        batches: vec![
            RecordBatch::try_from_iter([("w", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)]).unwrap(),
        ],
        sequence,
        rejections: rejections(1),
    };
    for sequence in 0..5 {
        bench.letters.keep(unwritable(sequence));
        bench.sync();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // What came before it is kept, and counted as such.
    bench.keep(5, &batch(&schema("n"), 0..3));
    bench.letters.keep(unwritable(6));
    bench.keep(7, &batch(&schema("n"), 3..5));
    bench.close();
    assert_eq!(parts(folder.path()), 0);
    let files = list(folder.path()).unwrap();
    let rows: Vec<i64> = files
        .iter()
        .flat_map(|file| read(&file.path).unwrap())
        .flat_map(|batch| values(&batch))
        .collect();
    assert_eq!(rows, (0..5).collect::<Vec<_>>());
    assert_eq!(bench.counters.dead_letters_kept.get(), 5);
    assert_eq!(bench.counters.dead_letters_failed.get(), 6);
}

/// Batches whose dictionaries cannot be put together are kept all the same, each row once.
#[test]
fn dictionaries_that_are_too_many_for_one_are_kept_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    let full = |letter: &str| {
        let words: Vec<String> = (0..100).map(|n| format!("{letter}{n}")).collect();
        let column: DictionaryArray<Int8Type> = words.iter().map(String::as_str).collect();
        RecordBatch::try_from_iter([("d", Arc::new(column) as ArrayRef)]).unwrap()
    };
    let batches = vec![full("a"), full("b"), full("c")];
    bench.letters.keep(Letter {
        schema: batches[0].schema(),
        batches,
        sequence: 1,
        rejections: rejections(300),
    });
    bench.close();
    let mut rows: Vec<u64> = Vec::new();
    for file in list(folder.path()).unwrap() {
        for batch in read(&file.path).unwrap() {
            rows.extend(batch["_rejection_row"].as_primitive::<UInt64Type>().values());
        }
    }
    rows.sort_unstable();
    assert_eq!(rows, (0..300).collect::<Vec<_>>());
    assert_eq!(bench.counters.dead_letters_kept.get(), 300);
    assert_eq!(parts(folder.path()), 0);
}

/// A name that merely begins and ends like ours is somebody else's: not removed to make room, not made whole.
#[test]
fn files_of_others_are_left_alone_whatever_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let others = [
        "rejected-orders.arrow",
        "rejected-.arrow",
        "rejected-2024-orders.arrow",
        "rejected-7-.arrow",
        "rejected-orders.arrow.part",
    ];
    for name in others {
        fs::write(folder.path().join(name), "mine").unwrap();
    }
    fs::create_dir(folder.path().join("rejected-things.arrow")).unwrap();
    let bench = Bench::new(options(
        folder.path(),
        json!({ "maxFileBytes": 1, "maxFiles": 1, "maxAge": 0 }),
    ));
    for n in 0..3 {
        bench.keep(n, &batch(&schema("n"), [n as i64]));
        bench.sync();
    }
    bench.close();
    for name in others {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    assert!(list(folder.path()).unwrap().is_empty());
}

/// Clients that come and go on one directory take no file of another for left behind: no row is there twice.
#[test]
fn clients_that_share_a_directory_keep_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let options = options(folder.path(), json!({ "maxFileBytes": 1 }));
            std::thread::spawn(move || {
                for turn in 0..40 {
                    let bench = Bench::new(options.clone());
                    let n = client * 1_000 + turn;
                    bench.keep(n as u64, &batch(&schema("n"), [n]));
                    bench.close();
                    assert_eq!(bench.counters.dead_letters_failed.get(), 0);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let files = list(folder.path()).unwrap();
    let mut rows: Vec<i64> = files
        .iter()
        .flat_map(|file| read(&file.path).unwrap())
        .flat_map(|batch| values(&batch))
        .collect();
    rows.sort_unstable();
    let wanted: Vec<i64> = (0..4)
        .flat_map(|client| (0..40).map(move |turn| client * 1_000 + turn))
        .collect();
    assert_eq!(rows, wanted);
    assert_eq!(parts(folder.path()), 0);
}

/// A file can be read soon after its last row, though the client lives on.
#[test]
fn a_file_that_nothing_comes_to_is_closed_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    let words: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    bench.keep(1, &RecordBatch::try_from_iter([("w", words)]).unwrap());
    bench.sync();
    while list(folder.path()).unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(
        read(&list(folder.path()).unwrap()[0].path).unwrap()[0].num_rows(),
        2
    );
    let missing = read(&folder.path().join("nothing")).unwrap_err();
    assert!(!missing.to_string().is_empty());
}
