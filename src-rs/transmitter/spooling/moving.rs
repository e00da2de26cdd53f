//! Rows that a destination refused for their data, from the log to files of their own: a delivery that failed whole to
//! `failed`, refused rows of another to the dead letters.
//!
//! Invariants:
//! - One move at a time. It has succeeded when as many rows are on the disk as were to be moved.
//! - Nothing is removed to make room in the spool's own directories.
//!
//! The files are those of `dead_letter`. It settles nothing: who asked for the move does.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Mutex, oneshot};

use super::{Task, held};
use crate::config::DeadLetterOptions;
use crate::counters::Counters;
use crate::dead_letter::{DeadLetterRows, DeadLetters};
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::outcome::{Outcome, Rejection, Status};
use crate::row_files::Warn;
use crate::spool::{Spool, SpoolEntry};
use crate::transmitter::rows::{pick, runs};
use crate::transmitter::{Event, Log, Observer, Reply};

const FAILED: &str = "failed";
const DEAD_LETTERS: &str = "dead-letters";
const FILE_BYTES: usize = 64 << 20;
/// A look at all files after each delivery would cost more with each of them.
const MEASURED_EACH: Duration = Duration::from_secs(1);

pub struct Mover {
    spool: Arc<Spool>,
    failed: Arc<Files>,
    refused: Arc<Files>,
    measure: AsideMeasure,
    measured: Arc<std::sync::Mutex<Instant>>,
}

/// What the rows take that were put aside.
#[derive(Clone)]
pub struct AsideMeasure(Vec<PathBuf>);

impl AsideMeasure {
    /// As the disk has it. Waits for the disk.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|directory| bytes_in(directory)).sum()
    }

    /// Tells the spool, whose budget they count in.
    pub async fn tell(&self, spool: &Spool) {
        let measure = self.clone();
        if let Ok(bytes) = disk::spawn(move || measure.bytes()).await {
            spool.set_beside(bytes);
        }
    }
}

/// Files of one directory, made when they are needed.
struct Files {
    options: DeadLetterOptions,
    counters: Arc<Counters>,
    observer: Observer,
    /// With the counters of this directory alone.
    open: Mutex<Option<(DeadLetters, Arc<Counters>)>>,
}

impl Files {
    fn begin(&self) -> (DeadLetters, Arc<Counters>) {
        let own: Arc<Counters> = Arc::default();
        let letters = DeadLetters::open(self.options.clone(), own.clone(), warn(self.observer.clone()));
        (letters, own)
    }
}

impl Mover {
    pub fn new(
        spool: &Arc<Spool>,
        dead_letter: Option<DeadLetterOptions>,
        counters: Arc<Counters>,
        observer: Observer,
    ) -> Mover {
        let failed = spool.directory().join(FAILED);
        let own = spool.directory().join(DEAD_LETTERS);
        let refused = dead_letter.unwrap_or_else(|| kept_for_ever(own.clone()));
        let files = |options| {
            let mut files = Files {
                options,
                counters: counters.clone(),
                observer: observer.clone(),
                open: Mutex::new(None),
            };
            // A process that was killed may have left a file half-written, which no reader takes.
            if files.options.directory.is_dir() {
                *files.open.get_mut() = Some(files.begin());
            }
            Arc::new(files)
        };
        Mover {
            spool: Arc::clone(spool),
            measure: AsideMeasure(vec![failed.clone(), own]),
            measured: Arc::new(std::sync::Mutex::new(Instant::now())),
            failed: files(kept_for_ever(failed)),
            refused: files(refused),
        }
    }

    pub fn measure(&self) -> AsideMeasure {
        self.measure.clone()
    }

    pub fn bytes(&self) -> u64 {
        self.measure.bytes()
    }

    /// Moves what the outcome says was refused, or is not settled of a delivery that failed.
    pub fn begin(&self, outcome: Outcome, told: bool, delay: Duration) -> Task<(Outcome, bool, Result<()>)> {
        let (spool, measure, measured) = (
            Arc::clone(&self.spool),
            self.measure(),
            Arc::clone(&self.measured),
        );
        let whole = outcome.status != Status::Partial;
        let files = Arc::clone(if whole { &self.failed } else { &self.refused });
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let result = move_rows(&spool, &files, &outcome).await;
            let is_due = {
                let mut last = held(&measured);
                let is_due = last.elapsed() >= MEASURED_EACH;
                if is_due {
                    *last = Instant::now();
                }
                is_due
            };
            if is_due {
                measure.tell(&spool).await;
            }
            (outcome, told, result)
        })
    }

    /// Puts rows that are no Arrow values beside those that a destination refused. Answers when the disk has them, or
    /// never will.
    pub fn keep_refused(&self, sequence: u64, rows: String, reply: Reply) {
        let files = Arc::clone(&self.refused);
        tokio::spawn(async move {
            files.keep_json(sequence, rows).await;
            reply.answer(Ok(()));
        });
    }

    /// Every file gets its final name. Waits for the disk, and for a move that is under way.
    pub async fn close(&self) {
        tokio::join!(self.failed.close(), self.refused.close());
    }
}

async fn move_rows(spool: &Arc<Spool>, files: &Files, outcome: &Outcome) -> Result<()> {
    let range = outcome.sequence..outcome.sequence + outcome.rows as u64;
    let reader = Arc::clone(spool);
    let rejections = outcome.rejections.clone();
    // What is not settled of a delivery that failed has failed, beside the rows that were refused one by one.
    let error = outcome
        .error
        .clone()
        .filter(|_| outcome.status != Status::Partial);
    let found = disk::spawn(move || rows_of(&reader, range, &rejections, error.as_ref())).await;
    let found =
        found.map_err(|_| Error::new(Code::Internal, "reading the spool panicked").during("spool"))??;
    files.keep(found).await
}

/// The rows to be moved, as they are in the log.
fn rows_of(
    spool: &Spool,
    range: Range<u64>,
    rejections: &[Rejection],
    error: Option<&Error>,
) -> Result<Vec<DeadLetterRows>> {
    let mut found = Vec::new();
    let mut reader = spool.read_from(range.start);
    // Not until the reader has passed the range: it passes a record before it gives the second of its gaps.
    while let Some(entry) = reader.next()? {
        // Damage was told of by the reader that delivers.
        let SpoolEntry::Rows(rows) = entry else { continue };
        if rows.positions.start >= range.end {
            break;
        }
        let first = rows.positions.start - range.start;
        let end = rows.positions.end.min(range.end) - range.start;
        let at = |row: u64| {
            rejections
                .binary_search_by_key(&row, |rejection| rejection.row)
                .ok()
        };
        let refused: Vec<Rejection> = (first..end)
            .filter_map(|row| match at(row) {
                Some(index) => rejections.get(index).cloned(),
                None => error.map(|error| failed(row, error)),
            })
            .collect();
        let Some(batch) = rows.batches.first().filter(|_| !refused.is_empty()) else {
            continue;
        };
        let places = refused.iter().map(|rejection| {
            let row = (rejection.row - first) as usize;
            row..row + 1
        });
        found.push(DeadLetterRows {
            schema: batch.schema(),
            batches: pick(&rows.batches, runs(places)),
            sequence: range.start,
            rejections: refused,
        });
    }
    Ok(found)
}

fn failed(row: u64, error: &Error) -> Rejection {
    Rejection {
        row,
        code: error.code().as_str().to_string(),
        message: error.message().to_string(),
    }
}

impl Files {
    async fn close(&self) {
        let Some((letters, _)) = self.open.lock().await.take() else {
            return;
        };
        let (done, closed) = oneshot::channel();
        letters.close(move || {
            let _ = done.send(());
        });
        let _ = closed.await;
    }

    async fn keep_json(&self, sequence: u64, rows: String) {
        let mut open = self.open.lock().await;
        let (letters, own) = open.get_or_insert_with(|| self.begin());
        let (kept, failed) = (own.dead_letters_kept.get(), own.dead_letters_failed.get());
        letters.keep_json(sequence, rows);
        synced(letters).await;
        let kept = own.dead_letters_kept.get() - kept;
        let failed = own.dead_letters_failed.get() - failed;
        self.counters.dead_letters_kept.add(kept as usize);
        self.counters.dead_letters_failed.add(failed as usize);
    }

    async fn keep(&self, found: Vec<DeadLetterRows>) -> Result<()> {
        let mut open = self.open.lock().await;
        let (letters, own) = open.get_or_insert_with(|| self.begin());
        let before = own.dead_letters_kept.get();
        let mut rows = 0;
        for refused in found {
            rows += refused.rejections.len() as u64;
            letters.keep(refused);
        }
        synced(letters).await;
        let kept = own.dead_letters_kept.get() - before;
        self.counters.dead_letters_kept.add(kept as usize);
        if kept >= rows {
            return Ok(());
        }
        self.counters.dead_letters_failed.add((rows - kept) as usize);
        // The thread may have ended: the next try begins with another.
        *open = None;
        let text = format!(
            "{kept} of {rows} rows could be put into {}",
            self.options.directory.display()
        );
        Err(Error::new(Code::SpoolFailed, text).during("spool"))
    }
}

/// Settles when all that was kept before is on the disk, or never will be.
async fn synced(letters: &DeadLetters) {
    let (done, synced) = oneshot::channel();
    letters.sync(move || {
        let _ = done.send(());
    });
    let _ = synced.await;
}

fn warn(observer: Observer) -> Warn {
    Box::new(move |message: &str, fields: Value| {
        observer(Event::Log(Log {
            level: "warn",
            message: message.to_string(),
            fields,
        }));
    })
}

fn kept_for_ever(directory: PathBuf) -> DeadLetterOptions {
    DeadLetterOptions {
        directory,
        max_file_bytes: FILE_BYTES,
        max_bytes: usize::MAX,
        max_files: usize::MAX,
        max_age: None,
    }
}

fn bytes_in(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
    sizes.map(|meta| meta.len()).sum()
}
