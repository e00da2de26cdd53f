//! Refused rows, kept as Arrow files, to be looked at, corrected and sent again.
//!
//! Rows go to a thread of their own, which appends them to one open file per schema. Invariants:
//! - After [`DeadLetters::sync`] has called back, what was kept before it is on the disk, or the log and
//!   the counters say that it is not. It always calls back: a disk that fails loses no outcome.
//! - A file under its final name (`.arrow`) is whole. One that is being written has another suffix
//!   (`.arrow.part`) and is locked; what a crash left is made whole by the next client on the directory, and
//!   what cannot be read is set aside (`.arrow.damaged`), never removed.
//! - No content of a file and no command ends the thread: a panic is counted as failed rows, and logged.
//! - The thread holds copies. A disk may hang for longer than the JavaScript environment lives, and the rows are in
//!   the memory of that environment.
//! - All files together stay within the bounds: the oldest go first, and the log says so.
//!
//! It does not decide which rows are refused and sends nothing again. It writes the rows, and the code and message
//! of their refusal. `specs/quarantine.md` has the layout.

mod file;
mod json_rows;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde_json::json;

use self::file::{OpenFile, RefusedBatch};
use crate::config::DeadLetterOptions;
use crate::counters::Counters;
use crate::outcome::Rejection;
use crate::row_files::{
    Bounds, FileError, Layout, Rules, Torn, Warn, WholeFile, make_directory, own_batch, recover, tidy,
};

/// A file that nothing was added to for so long is closed, so that it can be read.
const IDLE: Duration = Duration::from_secs(1);
/// Files that could not be finished are tried again after so long.
const RESPITE: Duration = Duration::from_secs(30);
/// Schemas with an open file at once.
const MOST_OPEN: usize = 8;

const RULES: Rules = Rules {
    kind: file::KIND,
    layout: Layout::File,
    is_schema: file::is_extended,
    torn: Torn::SetAside,
};

const REMOVED: &str = "a dead-letter file was removed while refused rows were written to it";
const LOST: &str = "refused rows could not be written to the dead-letter directory";

/// Where refused rows go.
pub struct DeadLetters(Sender<Command>);

/// Refused rows of one delivery.
pub struct DeadLetterRows {
    pub schema: SchemaRef,
    /// As many rows as there are rejections, in their order.
    pub batches: Vec<RecordBatch>,
    pub sequence: u64,
    /// Rows counted within the delivery.
    pub rejections: Vec<Rejection>,
}

impl DeadLetterRows {
    /// The same rows in memory of their own.
    fn owned(mut self) -> Result<DeadLetterRows, FileError> {
        for batch in &mut self.batches {
            *batch = own_batch(batch)?;
        }
        Ok(self)
    }
}

enum Command {
    Keep(DeadLetterRows),
    KeepJson(u64, String),
    /// Rows that cannot be kept, and why.
    Lose(usize, FileError),
    Sync(Done),
    Close(Done),
}

/// Calls back when it is dropped: a command that nobody takes any more, because the thread has ended or
/// died, must not leave anybody waiting.
struct Done(Option<Box<dyn FnOnce() + Send>>);

impl Done {
    fn new(done: impl FnOnce() + Send + 'static) -> Done {
        Done(Some(Box::new(done)))
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done();
        }
    }
}

impl DeadLetters {
    /// Starts the thread. The directory is made when it is needed, and what is wrong with it is said in the
    /// log: rows that cannot be kept are no reason to send none.
    pub fn open(options: DeadLetterOptions, counters: Arc<Counters>, warn: Warn) -> DeadLetters {
        let (commands, receiver) = channel();
        let mut writer = DeadLetterWriter {
            options,
            counters,
            warn,
            open: Vec::new(),
            failed: 0,
            unsynced: 0,
            stranded: Vec::new(),
        };
        // Without a thread every command is dropped, and so answered.
        let _ = thread::Builder::new()
            .name("arrow-ingest-dead-letters".into())
            .spawn(move || writer.run(&receiver));
        DeadLetters(commands)
    }

    pub fn keep(&self, refused: DeadLetterRows) {
        let rows = refused.rejections.len();
        let command = match refused.owned() {
            Ok(refused) => Command::Keep(refused),
            Err(error) => Command::Lose(rows, error),
        };
        let _ = self.0.send(command);
    }

    /// The same for rows that are no Arrow values, as the other side of the boundary writes them.
    pub fn keep_json(&self, sequence: u64, rows: String) {
        let _ = self.0.send(Command::KeepJson(sequence, rows));
    }

    /// Calls back, from another thread, once all that was kept before is on the disk or has failed.
    pub fn sync(&self, done: impl FnOnce() + Send + 'static) {
        let _ = self.0.send(Command::Sync(Done::new(done)));
    }

    /// The same once every file has its final name. Nothing is kept after it.
    pub fn close(&self, done: impl FnOnce() + Send + 'static) {
        let _ = self.0.send(Command::Close(Done::new(done)));
    }
}

/// What the thread works with.
struct DeadLetterWriter {
    options: DeadLetterOptions,
    counters: Arc<Counters>,
    warn: Warn,
    /// The most recently opened last.
    open: Vec<OpenFile>,
    /// Rows lost since the last sync.
    failed: usize,
    unsynced: usize,
    /// Files with rows that count as kept and could not be finished, to be tried again, each with where its
    /// last synced row ends.
    stranded: Vec<(PathBuf, u64)>,
}

impl DeadLetterWriter {
    fn run(&mut self, commands: &Receiver<Command>) {
        self.guarded("looking through the dead-letter directory", |writer| {
            if let Err(error) = writer.begin() {
                writer.complain("the dead-letter directory cannot be used", &error);
            }
        });
        loop {
            let first = match (self.open.is_empty(), self.stranded.is_empty()) {
                (true, true) => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                (true, false) => commands.recv_timeout(RESPITE),
                (false, _) => commands.recv_timeout(IDLE),
            };
            let first = match first {
                Ok(command) => command,
                Err(end) => {
                    self.guarded("closing dead letters", |writer| writer.seal(0));
                    match end {
                        RecvTimeoutError::Timeout => continue,
                        RecvTimeoutError::Disconnected => return,
                    }
                }
            };
            let mut waiting = Vec::new();
            let mut closing = false;
            // All that is there shares one sync.
            for command in std::iter::once(first).chain(commands.try_iter()) {
                match command {
                    Command::Keep(refused) => self.keep_guarded(&refused),
                    Command::KeepJson(sequence, rows) => match DeadLetterRows::of_json(sequence, &rows) {
                        Ok(refused) => self.keep_guarded(&refused),
                        Err(error) => self.complain(LOST, &error),
                    },
                    Command::Lose(rows, error) => {
                        self.failed += rows;
                        self.complain(LOST, &error);
                    }
                    Command::Sync(done) => waiting.push(done),
                    Command::Close(done) => {
                        waiting.push(done);
                        closing = true;
                    }
                }
            }
            let least = if closing {
                0
            } else {
                self.options.max_file_bytes as u64
            };
            self.guarded("syncing dead letters", |writer| {
                writer.sync();
                writer.seal(least);
            });
            drop(waiting);
            if closing {
                return;
            }
        }
    }

    /// A fault of ours, or of a library, costs what was being done and nothing that comes later.
    fn guarded(&mut self, what: &str, work: impl FnOnce(&mut DeadLetterWriter)) -> bool {
        let done = catch_unwind(AssertUnwindSafe(|| work(self))).is_ok();
        if !done {
            self.complain("a fault while keeping refused rows was contained", &what);
        }
        done
    }

    fn begin(&mut self) -> std::io::Result<()> {
        make_directory(&self.options.directory)?;
        for path in file::KIND.left_behind(&self.options.directory)? {
            self.salvage(&path, None);
        }
        self.tidy();
        Ok(())
    }

    /// Makes a file whole, as far as it goes. Whether it can be forgotten. `synced`: what comes after it is a
    /// write of ours that failed.
    fn salvage(&mut self, path: &Path, synced: Option<u64>) -> bool {
        match recover(path, synced, &RULES) {
            Ok(Some(salvaged)) => {
                if salvaged.rows > 0 || salvaged.damaged.is_none() {
                    (self.warn)(
                        "dead letters that were left half-written are whole again",
                        json!({ "file": path.display().to_string(), "rows": salvaged.rows }),
                    );
                }
                if let Some(damaged) = salvaged.damaged {
                    self.counters.dead_letter_files_damaged.add(1);
                    (self.warn)(
                        "a dead-letter file is damaged: rows in it cannot be read, and it was set aside",
                        json!({ "file": damaged.display().to_string(), "rowsRead": salvaged.rows }),
                    );
                }
                true
            }
            // Another client writes to it, or has made it whole.
            Ok(None) => true,
            Err(error) => {
                self.complain(
                    "dead letters that were left half-written cannot be made whole",
                    &error,
                );
                false
            }
        }
    }

    fn keep_guarded(&mut self, refused: &DeadLetterRows) {
        let counted = self.unsynced + self.failed;
        if self.guarded("writing refused rows", |writer| writer.keep(refused)) {
            return;
        }
        // The file may be in any state.
        if let Some(file) = self.take(&refused.schema) {
            self.abandon(file);
        }
        let of_file = (self.unsynced + self.failed).saturating_sub(counted);
        self.failed += refused.rejections.len().saturating_sub(of_file);
    }

    fn keep(&mut self, refused: &DeadLetterRows) {
        for part in refused.parts() {
            let rows = part.rejections.len();
            let result = self.append(&part).or_else(|_| {
                // A file takes one dictionary per column: another one begins another file.
                if let Some(file) = self.take(&refused.schema) {
                    self.finish(file);
                }
                self.append(&part)
            });
            match result {
                Ok(()) => self.unsynced += rows,
                Err(error) => {
                    if let Some(file) = self.take(&refused.schema) {
                        self.abandon(file);
                    }
                    self.failed += rows;
                    self.complain(LOST, &error);
                }
            }
        }
    }

    fn append(&mut self, refused: &RefusedBatch<'_>) -> Result<(), FileError> {
        let mut known = self.open.iter().position(|file| file.schema() == refused.schema);
        if let Some(index) = known.take_if(|index| !self.open[*index].is_there()) {
            let file = self.open.remove(index);
            self.lose(file.unsynced_rows());
            self.complain(REMOVED, &file.synced().0.display());
        }
        let index = match known {
            Some(index) => index,
            None => {
                if self.open.len() >= MOST_OPEN {
                    let oldest = self.open.remove(0);
                    self.finish(oldest);
                }
                make_directory(&self.options.directory)?;
                let file = OpenFile::create(&self.options.directory, refused.schema.clone())?;
                self.open.push(file);
                self.open.len() - 1
            }
        };
        self.open[index].append(refused, SystemTime::now())
    }

    fn sync(&mut self) {
        if self.unsynced + self.failed == 0 {
            return;
        }
        let mut kept = std::mem::take(&mut self.unsynced);
        let mut failed = std::mem::take(&mut self.failed);
        for mut file in std::mem::take(&mut self.open) {
            let rows = file.unsynced_rows();
            match file.sync() {
                Ok(()) if file.is_there() => self.open.push(file),
                Ok(()) => {
                    kept = kept.saturating_sub(rows);
                    failed += rows;
                    self.complain(REMOVED, &file.synced().0.display());
                }
                Err(error) => {
                    kept = kept.saturating_sub(rows);
                    failed += rows;
                    self.stranded.extend(file.give_up());
                    self.complain(
                        "refused rows could not be synced to the dead-letter directory",
                        &error,
                    );
                }
            }
        }
        self.counters.dead_letters_kept.add(kept);
        self.counters.dead_letters_failed.add(failed);
    }

    /// Gives their final names to files of at least so many bytes.
    fn seal(&mut self, least: u64) {
        let (full, open) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|file| file.bytes() >= least);
        self.open = open;
        let full: Vec<OpenFile> = full;
        full.into_iter().for_each(|file| self.finish(file));
        // Each of them is read from its beginning: not after every row that is refused.
        if least == 0 {
            for (path, synced) in std::mem::take(&mut self.stranded) {
                if !self.salvage(&path, Some(synced)) {
                    self.stranded.push((path, synced));
                }
            }
        }
    }

    fn take(&mut self, schema: &SchemaRef) -> Option<OpenFile> {
        let index = self.open.iter().position(|file| file.schema() == schema)?;
        Some(self.open.remove(index))
    }

    fn finish(&mut self, file: OpenFile) {
        let (rows, stranded) = (file.unsynced_rows(), file.synced());
        match file.finish() {
            Ok(()) => self.tidy(),
            Err(error) => {
                self.lose(rows);
                self.stranded.push(stranded);
                self.complain("a dead-letter file could not be finished", &error);
            }
        }
    }

    /// Lets go of a file that cannot be written to, for what is in it to be made whole.
    fn abandon(&mut self, file: OpenFile) {
        self.lose(file.unsynced_rows());
        self.stranded.extend(file.give_up());
    }

    /// Rows that were taken for written are not.
    fn lose(&mut self, rows: usize) {
        self.unsynced = self.unsynced.saturating_sub(rows);
        self.failed += rows;
    }

    /// Removes what is too much.
    fn tidy(&mut self) {
        let bounds = Bounds {
            bytes: self.options.max_bytes as u64,
            files: self.options.max_files,
            age: self.options.max_age,
        };
        match tidy(&self.options.directory, &[file::KIND], &bounds, SystemTime::now()) {
            Ok(removed) => {
                for path in removed {
                    self.counters.dead_letter_files_removed.add(1);
                    let text = "a dead-letter file was removed to make room";
                    (self.warn)(text, json!({ "file": path.display().to_string() }));
                }
            }
            Err(error) => self.complain("old dead letters could not be removed", &error),
        }
    }

    fn complain(&self, text: &str, error: &dyn std::fmt::Display) {
        let directory = self.options.directory.display().to_string();
        (self.warn)(
            text,
            json!({ "directory": directory, "error": error.to_string() }),
        );
    }
}

/// Files under their final names, the oldest first.
///
/// # Errors
/// What the file system says.
pub fn list(directory: &Path) -> std::io::Result<Vec<WholeFile>> {
    crate::row_files::list(directory, &[file::KIND])
}

/// The rows of a file, with the columns that say why.
///
/// # Errors
/// What the file system or the Arrow reader says.
pub fn read(path: &Path) -> Result<Vec<RecordBatch>, FileError> {
    file::read(path)
}
