//! R-15: refused rows are on the disk when the outcome is told, whole, bounded, and readable by others.

#![allow(clippy::print_stdout)] // How a test that runs in a process of its own answers.

mod support;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int8Type, Int32Type, Int64Type, UInt64Type};
use arrow_ingest::config::{Config, DeadLetterOptions};
use arrow_ingest::counters::Counters;
use arrow_ingest::dead_letter::{DeadLetterRows, DeadLetters, list, read};
use arrow_ingest::outcome::{Rejection, Status};
use serde_json::{Value, json};
use support::rig::Rig;
use support::scripted::{Durable, Scripted};
use support::{batch, schema, values};

const MINUTE: Duration = Duration::from_secs(60);

fn options(directory: &Path, mut more: Value) -> DeadLetterOptions {
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
    fn new(options: DeadLetterOptions) -> Bench {
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
        self.letters.keep(DeadLetterRows {
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
    let (folder, bench, name, bytes) = loop {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(options(folder.path(), json!({})));
        bench.keep(1, &batch(&schema("n"), 0..5));
        bench.sync();
        bench.keep(2, &batch(&schema("n"), 5..9));
        let asked = Instant::now();
        bench.sync();
        if let Some((name, bytes)) = living(folder.path(), asked) {
            break (folder, bench, name, bytes);
        }
    };

    // The crash: the bytes are there, some of the last are not, and nobody holds the lock.
    let elsewhere = tempfile::tempdir().unwrap();
    let left = elsewhere.path().join(&name);
    // Behind the rows there is room for what the file lacks, which holds nothing.
    fs::write(&left, &bytes).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let file = File::options().write(true).open(&left).unwrap();
    file.set_len(end - 9).unwrap();
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
    let held = tempfile::tempdir().unwrap();
    let path = held.path().join(&name);
    fs::write(&path, &bytes).unwrap();
    let lock = File::options().read(true).write(true).open(&path).unwrap();
    lock.lock().unwrap();
    Bench::new(options(held.path(), json!({}))).close();
    assert!(path.exists() && list(held.path()).unwrap().is_empty());
    drop(lock);
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
    let unwritable = |sequence| DeadLetterRows {
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
    bench.letters.keep(DeadLetterRows {
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

/// What a file that was left behind has to be tried with: its bytes with some of them changed.
fn left_behind(bytes: &[u8]) -> (tempfile::TempDir, Bench) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rejected-1-0.arrow.part"), bytes).unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    (folder, bench)
}

/// In memory, where there is such a place: what is synced hundreds of times is not the disk's business.
fn scratch() -> tempfile::TempDir {
    match Path::new("/dev/shm").is_dir() {
        true => tempfile::tempdir_in("/dev/shm").unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// Whether a directory holds exactly these bytes in some file.
fn holds(directory: &Path, bytes: &[u8]) -> bool {
    let mut files = fs::read_dir(directory).unwrap();
    files.any(|entry| fs::read(entry.unwrap().path()).unwrap() == bytes)
}

fn rows_in(directory: &Path) -> usize {
    let files = list(directory).unwrap();
    let batches = files.iter().flat_map(|file| read(&file.path).unwrap());
    batches.map(|batch| batch.num_rows()).sum()
}

/// The name and the bytes of the one file, while it is written to. None where it may be finished, which is done a
/// second after the last rows; `asked` is a moment before they were synced.
fn living(folder: &Path, asked: Instant) -> Option<(OsString, Vec<u8>)> {
    let paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [path] = &paths[..] else { return None };
    let bytes = fs::read(path).ok()?;
    let lives = path.extension()? == "part" && asked.elapsed() < Duration::from_secs(1);
    lives.then(|| (path.file_name().unwrap().into(), bytes))
}

/// A file as a crash leaves it after two synced batches, of three and two rows.
fn a_crash() -> Vec<u8> {
    loop {
        if let Some(bytes) = a_crash_in_time() {
            return bytes;
        }
    }
}

fn a_crash_in_time() -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    let mut asked = Instant::now();
    for (sequence, words) in [vec!["a", "b", "b"], vec!["a", "b"]].into_iter().enumerate() {
        let rows = words.len();
        let word: DictionaryArray<Int32Type> = ["a", "b"].into_iter().chain(words).collect();
        let number = Int64Array::from_iter_values(0..rows as i64);
        let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(number)), ("w", Arc::new(word.slice(2, rows)))];
        bench.keep(sequence as u64, &RecordBatch::try_from_iter(columns).unwrap());
        asked = Instant::now();
        bench.sync();
    }
    let (_, bytes) = living(folder.path(), asked)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // Without most of the room that is reserved behind the rows.
    Some(bytes[..end.next_multiple_of(8) + 64].to_vec())
}

/// One damaged byte or page costs at most the rows that it is in: nothing dies, nothing that cannot be read is
/// removed, and rows that are refused afterwards are kept.
#[test]
fn whatever_is_damaged_is_set_aside_and_letters_go_on() {
    let whole = a_crash();
    // Where nothing but zeros may be left of the second batch.
    let first_batch = whole.len() - 64;
    let mut tried = Vec::new();
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= if index % 2 == 0 { 0xFF } else { 0x01 };
        tried.push(bytes);
    }
    for page in [64, 512] {
        for start in (0..whole.len()).step_by(page) {
            let mut bytes = whole.clone();
            let end = (start + page).min(bytes.len());
            bytes[start..end].fill(0);
            tried.push(bytes);
        }
    }
    let mut set_aside = 0;
    for (turn, group) in tried.chunks(100).enumerate() {
        let folder = scratch();
        let name = |index: usize, end: &str| folder.path().join(format!("rejected-{index}-0{end}"));
        for (index, bytes) in group.iter().enumerate() {
            fs::write(name(index, ".arrow.part"), bytes).unwrap();
        }
        let bench = Bench::new(options(folder.path(), json!({ "maxFiles": 1_000 })));
        bench.keep(9, &batch(&schema("n"), 0..4));
        bench.close();
        assert_eq!(bench.counters.dead_letters_kept.get(), 4);
        assert_eq!((parts(folder.path()), bench.has_said("contained")), (0, false));
        for file in list(folder.path()).unwrap() {
            read(&file.path).unwrap();
        }
        for (index, bytes) in group.iter().enumerate() {
            let case = format!("{turn} {index}");
            match fs::read(name(index, ".arrow.damaged")) {
                Ok(kept) => {
                    set_aside += 1;
                    assert!(kept == *bytes, "{case}");
                }
                Err(_) => {
                    // A value that is another one now, or zeros up to the end, which hold nothing.
                    let end = bytes
                        .iter()
                        .rposition(|byte| *byte != 0)
                        .map_or(0, |last| last + 1);
                    let whole = read(&name(index, ".arrow"))
                        .map(|rows| rows.iter().map(|rows| rows.num_rows()).sum());
                    assert!(
                        matches!(whole, Ok(5usize)) || end < first_batch,
                        "{case}: {whole:?} {end}"
                    );
                }
            }
        }
        assert!(bench.has_said("set aside"));
    }
    assert!(set_aside > whole.len() / 4, "{set_aside} of {}", whole.len());
}

/// Two hundred bytes at the beginning: nothing can be read, so nothing is removed.
#[test]
fn a_file_of_which_nothing_can_be_read_is_kept_as_it_is() {
    let mut bytes = a_crash();
    bytes[..200].fill(0xA5);
    let (folder, bench) = left_behind(&bytes);
    bench.close();
    assert!(holds(folder.path(), &bytes) && list(folder.path()).unwrap().is_empty());
    assert!(bench.has_said("damaged") && !bench.has_said("whole again"));
    // The next client leaves it alone.
    let next = Bench::new(options(folder.path(), json!({ "maxFiles": 1, "maxAge": 0 })));
    next.close();
    assert!(holds(folder.path(), &bytes));
    assert_eq!(next.counters.dead_letter_files_damaged.get(), 0);
}

/// What was written to its end and lacks only its name gets it, wherever in the end the crash came.
#[test]
fn a_crash_while_a_file_gets_its_end_costs_nothing() {
    let (folder, bench) = left_behind(&a_crash());
    bench.close();
    assert_eq!(
        (
            rows_in(folder.path()),
            bench.counters.dead_letter_files_damaged.get()
        ),
        (5, 0)
    );
    let finished = fs::read(&list(folder.path()).unwrap()[0].path).unwrap();
    for cut in [0, 1, 7, 30, 200] {
        let mut bytes = finished[..finished.len() - cut].to_vec();
        bytes.extend([0; 100]);
        let (folder, bench) = left_behind(&bytes);
        bench.close();
        assert_eq!(rows_in(folder.path()), 5, "{cut}");
        assert_eq!(bench.counters.dead_letter_files_damaged.get(), 0, "{cut}");
        // Without the zeros: as if it had never been interrupted.
        assert_eq!(
            fs::read(&list(folder.path()).unwrap()[0].path).unwrap().len(),
            finished.len()
        );
    }
}

/// Rows that contradict themselves is a bug of ours: they cost themselves only.
#[test]
fn a_fault_while_rows_are_kept_costs_those_rows_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    bench.keep(1, &batch(&schema("n"), 0..3));
    bench.letters.keep(DeadLetterRows {
        schema: schema("n"),
        batches: vec![batch(&schema("n"), 0..3)],
        sequence: 2,
        rejections: rejections(2),
    });
    bench.sync();
    assert!(bench.has_said("contained"));
    bench.keep(3, &batch(&schema("n"), 3..5));
    bench.close();
    let counters = &bench.counters;
    let told = (
        counters.dead_letters_kept.get(),
        counters.dead_letters_failed.get(),
    );
    // The first rows go with their file, unless they were synced before.
    assert!(matches!(told, (2, 5) | (5, 2)), "{told:?}");
    assert_eq!(rows_in(folder.path()) as u64, told.0);
}

/// Text that JavaScript changed while it was on its way can be no text any more: its rows count as failed.
#[test]
fn rows_that_changed_meanwhile_count_as_failed_and_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 1, 2].into());
    // SAFETY: it is no text, which is what is tried; nothing reads it as such before it is checked.
    let text = unsafe { StringArray::new_unchecked(offsets, vec![0xFF, 0xFE].into(), None) };
    bench.keep(
        1,
        &RecordBatch::try_from_iter([("t", Arc::new(text) as ArrayRef)]).unwrap(),
    );
    bench.keep(2, &batch(&schema("n"), 0..3));
    bench.close();
    let counters = &bench.counters;
    assert_eq!(
        (
            counters.dead_letters_failed.get(),
            counters.dead_letters_kept.get()
        ),
        (2, 3)
    );
    assert!(bench.has_said("could not be written"));
}

/// Rows are their owner's alone, in directories that are.
#[test]
#[cfg(unix)]
fn nobody_else_may_read_what_was_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a").join("b");
    let bench = Bench::new(options(&directory, json!({})));
    bench.keep(1, &batch(&schema("n"), 0..3));
    bench.close();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.path().join("a")), mode(&directory)), (0o700, 0o700));
    assert_eq!(mode(&list(&directory).unwrap()[0].path), 0o600);
}

/// What was lent may go before the disk comes round: the refused rows are copies, of every kind of column.
#[test]
fn letters_hold_no_memory_that_was_lent() {
    struct Lent(Vec<u8>, mpsc::Sender<()>);
    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Lent {
        fn drop(&mut self) {
            let _ = self.1.send(());
        }
    }
    let (gone, heard) = mpsc::channel();
    let lent = |bytes: Vec<u8>| {
        let owner = bytes::Bytes::from_owner(Lent(bytes, gone.clone()));
        arrow::buffer::Buffer::from(owner)
    };
    let numbers = Int64Array::new(lent(vec![0; 80]).into(), None);
    let text = vec![b'x'; 40];
    let mut views = arrow::array::StringViewBuilder::new();
    let block = views.append_block(lent(text));
    for start in 0..10 {
        views.try_append_view(block, start, 20).unwrap();
    }
    let nulls: Vec<Option<&str>> = vec![Some("a"), None];
    let words: DictionaryArray<Int32Type> = nulls.iter().cycle().take(10).copied().collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("n", Arc::new(numbers)),
        ("v", Arc::new(views.finish())),
        ("d", Arc::new(words)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap().slice(3, 4);
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(folder.path(), json!({})));
    bench.keep(1, &batch);
    drop(batch);
    // Both buffers, though nobody has asked for a sync yet.
    for _ in 0..2 {
        heard.recv_timeout(MINUTE).unwrap();
    }
    bench.close();
    let kept = &read(&list(folder.path()).unwrap()[0].path).unwrap()[0];
    assert_eq!(kept.num_rows(), 4);
    assert_eq!(kept["v"].as_string_view().value(0), "x".repeat(20));
    assert_eq!(kept["d"].null_count(), 2);
}

/// On a disk that takes no more, what counts as kept is in a file that can be read.
#[test]
#[cfg(unix)]
fn what_counts_as_kept_on_a_full_disk_is_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    // Files of at most 256 KiB, and an error where more is written.
    let limited = "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\"";
    let output = std::process::Command::new("bash")
        .args(["-c", limited])
        .arg(test)
        .args([
            "--exact",
            "rows_are_refused_until_the_disk_is_full",
            "--ignored",
            "--nocapture",
        ])
        .env("LETTERS", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let counted = |what: &str| -> usize {
        let line = said.lines().find_map(|line| line.split_once(what));
        line.unwrap().1.trim().parse().unwrap()
    };
    let (kept, failed) = (counted("kept:"), counted("failed:"));
    assert_eq!(kept + failed, 400_000);
    assert!(kept > 0 && failed > 0, "{said}");
    assert!(rows_in(folder.path()) >= kept, "{said}");
    assert_eq!(parts(folder.path()), 0);
}

#[test]
#[ignore = "run by what_counts_as_kept_on_a_full_disk_is_in_a_file, with a limit to the size of files"]
fn rows_are_refused_until_the_disk_is_full() {
    let directory = std::env::var("LETTERS").unwrap();
    let bench = Bench::new(options(Path::new(&directory), json!({})));
    // What fits, what fits no more, and what is given a file of its own.
    for (sequence, rows) in [500, 1_000, 200_000, 500, 198_000].into_iter().enumerate() {
        bench.keep(sequence as u64, &batch(&schema("n"), 0..rows));
        bench.sync();
    }
    bench.close();
    println!("\nkept: {}", bench.counters.dead_letters_kept.get());
    println!("\nfailed: {}", bench.counters.dead_letters_failed.get());
}

/// Rows that no file shows are not kept: somebody may clear the directory at any time.
#[test]
fn what_is_removed_while_it_is_written_to_costs_what_was_in_it_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("letters");
    let mut cases = vec![false, true];
    while let Some(is_directory) = cases.pop() {
        let _ = fs::remove_dir_all(&directory);
        let bench = Bench::new(options(&directory, json!({})));
        bench.keep(1, &batch(&schema("n"), 0..3));
        let asked = Instant::now();
        bench.sync();
        if is_directory {
            fs::remove_dir_all(&directory).unwrap();
        } else {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().unwrap() == "part" {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        bench.keep(2, &batch(&schema("n"), 3..5));
        bench.sync();
        if asked.elapsed() > Duration::from_secs(1) {
            // The file may have been finished before it was removed: a second after the last rows it is.
            bench.close();
            cases.push(is_directory);
            continue;
        }
        assert!(bench.has_said("was removed"), "{:?}", bench.said.lock().unwrap());
        bench.close();
        let kept = bench.counters.dead_letters_kept.get();
        assert_eq!((kept, bench.counters.dead_letters_failed.get()), (5, 0));
        let files = list(&directory).unwrap();
        assert_eq!(values(&read(&files.last().unwrap().path).unwrap()[0]), [3, 4]);
        assert_eq!(parts(&directory), 0);
    }
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

/// Rows that are no Arrow values: one column of JSON, in the order in which they came, under the metadata given.
#[test]
fn rows_of_json_are_kept_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(options(directory.path(), json!({})));
    let rows = |from: u64| {
        json!({
            "metadata": { "arrow-ingest.dead-letter.rows": "json" },
            "rows": (from..from + 2).map(|row| json!({
                "row": row,
                "code": "VALUE_TYPE",
                "message": format!("row {row}"),
                "json": format!("{{\"id\":\"{row}\"}}"),
            })).collect::<Vec<_>>(),
        })
        .to_string()
    };
    bench.letters.keep_json(7, rows(0));
    bench.letters.keep_json(8, rows(5));
    bench.letters.keep_json(9, "no JSON".into());
    bench.sync();
    bench.close();
    assert_eq!(bench.counters.dead_letters_kept.get(), 4);
    assert_eq!(bench.said.lock().unwrap().len(), 1);
    let files = list(directory.path()).unwrap();
    let batches = read(&files[0].path).unwrap();
    let schema = batches[0].schema();
    assert_eq!(schema.metadata()["arrow-ingest.dead-letter.rows"], "json");
    let column = |index: usize| -> Vec<String> {
        let of = |batch: &RecordBatch| -> Vec<String> {
            let column = batch.column(index).as_string::<i32>().clone();
            column.iter().map(|text| text.unwrap().to_string()).collect()
        };
        batches.iter().flat_map(of).collect()
    };
    assert_eq!(
        column(0),
        [r#"{"id":"0"}"#, r#"{"id":"1"}"#, r#"{"id":"5"}"#, r#"{"id":"6"}"#]
    );
    assert_eq!(column(1), ["row 0", "row 1", "row 5", "row 6"]);
}
