//! Rows that a destination refused for their data, from the log to files of their own: those that fail with their
//! delivery to `failed`, others to the dead letters.
//!
//! Invariants:
//! - A move has succeeded when as many rows are on the disk as were to be moved. Then they are settled in the log, and
//!   that is durable before the move ends: a later process takes none of them for rows that landed.
//! - What was moved and settled is not moved again. A try after one that failed goes on one by one: rows of a group that
//!   was kept in part may be in a file twice, and no further try adds to files or log.
//! - Of the log no more is in memory than one delivery, and of copies no more than [`COPIED_BYTES`] beside it.
//! - Nothing is removed to make room in the spool's own directories.
//!
//! The files are those of `dead_letter`.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
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
use crate::transmitter::rows::{EndedRange, RangeEnd, pick, runs};
use crate::transmitter::{Event, Log, Observer, Reply};

const FAILED: &str = "failed";
const DEAD_LETTERS: &str = "dead-letters";
const FILE_BYTES: usize = 64 << 20;
/// A look at all files after each delivery would cost more with each of them.
const MEASURED_EACH: Duration = Duration::from_secs(1);
/// Moved with one sync.
const GROUP: usize = 256;
const GROUP_ROWS: usize = 1 << 16;
/// On their way to the files, before the disk is waited for.
const COPIED_BYTES: usize = 16 << 20;
/// A try is given up after so many deliveries that could not be put aside: on a full disk none can.
const MOST_FAILURES: usize = 8;

/// What is to be moved, in the order in which it ended.
pub enum Move {
    Rows(EndedRange),
    /// A delivery all of whose rows have ended, and whether its caller was told.
    Delivery(Outcome, bool),
}

pub struct Moved {
    pub moves: Vec<Move>,
    pub result: Result<()>,
}

/// Rows of one delivery that go from the log to one file.
struct AsideRows {
    /// The position of the first row of the delivery.
    delivery: u64,
    /// All of them have ended.
    ended: Vec<Range<u64>>,
    /// Rows counted within the delivery.
    rejections: Vec<Rejection>,
    /// What the others failed with. Without it they are at the destination.
    error: Option<Error>,
}

impl AsideRows {
    /// All that is to be read.
    fn positions(&self) -> Range<u64> {
        let start = self.ended.iter().map(|range| range.start).min();
        let end = self.ended.iter().map(|range| range.end).max();
        start.unwrap_or(0)..end.unwrap_or(0)
    }

    fn is_settled(&self, spool: &Spool) -> bool {
        self.ended.iter().all(|range| spool.is_settled(range.clone()))
    }
}

pub struct Mover {
    spool: Arc<Spool>,
    failed: Arc<Files>,
    refused: Arc<Files>,
    measure: AsideMeasure,
    measured: Arc<std::sync::Mutex<Instant>>,
}

/// What the rows take that were put aside.
#[derive(Clone)]
pub struct AsideMeasure(Arc<[PathBuf]>);

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
            measure: AsideMeasure(Arc::from([failed.clone(), own])),
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

    /// As much as is moved at once, of `first` and what follows.
    pub fn group(&self, first: Move, next: &mut VecDeque<Move>) -> Vec<Move> {
        let mut rows = first.rows();
        let mut group = vec![first];
        while group.len() < GROUP
            && let Some(next) = next.pop_front_if(|next| rows + next.rows() <= GROUP_ROWS)
        {
            rows += next.rows();
            group.push(next);
        }
        group
    }

    /// Moves rows that have ended and did not land.
    pub fn begin(&self, moves: Vec<Move>) -> Task<Moved> {
        self.start(moves, None)
    }

    /// The same after a try that failed, and a delay.
    pub fn begin_again(&self, moves: Vec<Move>, delay: Duration) -> Task<Moved> {
        self.start(moves, Some(delay))
    }

    fn start(&self, moves: Vec<Move>, again: Option<Duration>) -> Task<Moved> {
        let (spool, measure, measured) = (
            Arc::clone(&self.spool),
            self.measure(),
            Arc::clone(&self.measured),
        );
        let (failed, refused) = (Arc::clone(&self.failed), Arc::clone(&self.refused));
        Box::pin(async move {
            if let Some(delay) = again {
                tokio::time::sleep(delay).await;
            }
            let result = move_all(&spool, &failed, &refused, &moves, again.is_some()).await;
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
            Moved { moves, result }
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

impl Move {
    /// What it makes the mover read.
    fn rows(&self) -> usize {
        match self {
            Move::Rows(ended) => ended.range.rows,
            Move::Delivery(..) => 0,
        }
    }
}

async fn move_all(
    spool: &Arc<Spool>,
    failed: &Files,
    refused: &Files,
    moves: &[Move],
    again: bool,
) -> Result<()> {
    let (mut to_failed, mut to_refused, mut unwanted) = (Vec::new(), Vec::new(), Vec::new());
    for one in moves {
        let Move::Rows(EndedRange { range, end }) = one else {
            continue;
        };
        let first = range.sequence + range.first_row as u64;
        let positions = first..first + range.rows as u64;
        let rows = |rejections: &[Rejection], error| AsideRows {
            delivery: range.sequence,
            ended: vec![positions.clone()],
            rejections: rejections.to_vec(),
            error,
        };
        match end {
            RangeEnd::Refused {
                rejections,
                whole: true,
            } => to_failed.push(rows(rejections, None)),
            RangeEnd::Refused { rejections, .. } => join(&mut to_refused, rows(rejections, None)),
            RangeEnd::Failed(error) => to_failed.push(rows(&[], Some(error.clone()))),
            RangeEnd::Aborted => unwanted.push(positions),
        }
    }
    settle(spool, unwanted).await;
    // One folder may be on a disk that works.
    let results = [
        put_aside(spool, failed, to_failed, again).await,
        put_aside(spool, refused, to_refused, again).await,
    ];
    results.into_iter().collect::<Result<()>>()?;
    for one in moves {
        let Move::Delivery(outcome, _) = one else { continue };
        // Rows of which nobody has said how they end: the delivery's outcome says it.
        let is_partial = outcome.status == Status::Partial;
        let positions = outcome.sequence..outcome.sequence + outcome.rows as u64;
        let rest = AsideRows {
            delivery: outcome.sequence,
            ended: vec![positions],
            rejections: outcome.rejections.clone(),
            error: outcome.error.clone().filter(|_| !is_partial),
        };
        if !rest.is_settled(spool) {
            let files = if is_partial { refused } else { failed };
            put_aside(spool, files, vec![rest], again).await?;
        }
    }
    Ok(())
}

/// Adds refused rows to those of the same delivery before them: a search finds them one by one, and each would have the
/// whole delivery read.
fn join(all: &mut Vec<AsideRows>, mut next: AsideRows) {
    match all.last_mut() {
        Some(last) if last.delivery == next.delivery => {
            last.ended.append(&mut next.ended);
            last.rejections.append(&mut next.rejections);
            last.rejections.sort_by_key(|rejection| rejection.row);
        }
        _ => all.push(next),
    }
}

/// Rows from the log to files, and settles them.
async fn put_aside(
    spool: &Arc<Spool>,
    files: &Files,
    mut rows: Vec<AsideRows>,
    one_by_one: bool,
) -> Result<()> {
    if !one_by_one {
        if rows.is_empty() {
            return Ok(());
        }
        files.keep(spool, &rows).await?;
        settle(spool, rows.into_iter().flat_map(|rows| rows.ended).collect()).await;
        return Ok(());
    }
    rows.retain(|rows| !rows.is_settled(spool));
    let mut errors = Vec::new();
    for rows in rows {
        match files.keep(spool, std::slice::from_ref(&rows)).await {
            Ok(()) => settle(spool, rows.ended).await,
            Err(error) => errors.push(error),
        }
        if errors.len() >= MOST_FAILURES {
            break;
        }
    }
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// Settles rows, and waits until that is as durable as they were.
async fn settle(spool: &Spool, positions: Vec<Range<u64>>) {
    // One record for neighbours.
    let durable = runs(positions.into_iter())
        .into_iter()
        .map(|range| spool.cancel(range));
    // An error leaves them settled in memory, and in the files: the next process may report them as delivered, or put
    // them aside once more, and loses none.
    futures::future::join_all(durable).await;
}

/// The rows to be moved, as they are in the log.
fn rows_of(
    spool: &Spool,
    delivery: u64,
    positions: &Range<u64>,
    rejections: &[Rejection],
    error: Option<&Error>,
) -> Result<Option<DeadLetterRows>> {
    // All together: of several, some could be kept at each try and others never.
    let mut found: Option<DeadLetterRows> = None;
    let mut reader = spool.read_from(positions.start);
    // Not until the reader has passed the range: it passes a record before it gives the second of its gaps.
    while let Some(entry) = reader.next()? {
        // Damage was told of by the reader that delivers.
        let SpoolEntry::Rows(rows) = entry else { continue };
        if rows.positions.start >= positions.end {
            break;
        }
        // What the reader gives may begin before it was asked to.
        let from = rows.positions.start.max(positions.start);
        let skipped = from - rows.positions.start;
        let first = from - delivery;
        let end = rows.positions.end.min(positions.end) - delivery;
        let at = |row: u64| {
            rejections
                .binary_search_by_key(&row, |rejection| rejection.row)
                .ok()
        };
        let mut refused: Vec<Rejection> = (first..end)
            .filter_map(|row| match at(row) {
                Some(index) => rejections.get(index).cloned(),
                None => error.map(|error| failed(row, error)),
            })
            .collect();
        let Some(batch) = rows.batches.first().filter(|_| !refused.is_empty()) else {
            continue;
        };
        let places = refused.iter().map(|rejection| {
            let row = (rejection.row - first + skipped) as usize;
            row..row + 1
        });
        let mut batches = pick(&rows.batches, runs(places));
        match &mut found {
            Some(found) => {
                found.batches.append(&mut batches);
                found.rejections.append(&mut refused);
            }
            None => {
                found = Some(DeadLetterRows {
                    schema: batch.schema(),
                    batches,
                    sequence: delivery,
                    rejections: refused,
                });
            }
        }
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

    /// # Errors
    /// Unless all that is unsettled of them is on the disk.
    async fn keep(&self, spool: &Arc<Spool>, all: &[AsideRows]) -> Result<()> {
        let mut open = self.open.lock().await;
        let (letters, own) = open.get_or_insert_with(|| self.begin());
        let before = own.dead_letters_kept.get();
        let (mut rows, mut copied) = (0, 0);
        for aside in all {
            let (reader, delivery, positions) = (Arc::clone(spool), aside.delivery, aside.positions());
            let (rejections, error) = (aside.rejections.clone(), aside.error.clone());
            let found =
                disk::spawn(move || rows_of(&reader, delivery, &positions, &rejections, error.as_ref()));
            let panicked = |_| Error::new(Code::Internal, "reading the spool panicked").during("spool");
            let Some(refused) = found.await.map_err(panicked)?? else {
                continue;
            };
            rows += refused.rejections.len() as u64;
            copied += bytes_of(&refused.batches);
            letters.keep(refused);
            if copied > COPIED_BYTES {
                synced(letters).await;
                copied = 0;
            }
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

fn bytes_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::get_array_memory_size).sum()
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
