//! The tables, and the one writer of each.
//!
//! Invariants:
//! - A table has one writer, so streams of the same table never conflict: their rows share commits.
//! - A batch is answered once: when it is durable, or when it is known not to be.
//! - A commit happens `commit_interval` after the oldest row that waits for it, at `commit_bytes`, or when
//!   somebody asks.
//!
//! The writing itself is the product's own Delta destination; without a lake it is `discard`.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::event::{EmulatorEvent, EmulatorObserver};
use super::types::{self, Column};
use super::{TableName, TableSummary};
use crate::config::Config;
use crate::destination::delta::Delta;
use crate::destination::discard::Discard;
use crate::destination::{Acknowledgement, Acknowledgements, Destination, Opening, Session, Write};
use crate::error::{Code, Error, Result};
use crate::outcome::Position;

pub struct Tables {
    lake: Option<PathBuf>,
    schedule: CommitSchedule,
    observer: EmulatorObserver,
    open: Mutex<BTreeMap<String, Arc<EmulatedTable>>>,
}

/// When a commit is due.
#[derive(Debug, Clone, Copy)]
pub struct CommitSchedule {
    pub interval: Duration,
    pub bytes: usize,
}

pub struct EmulatedTable {
    pub name: TableName,
    pub columns: Vec<Column>,
    pub stored: SchemaRef,
    pub counters: TableCounters,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug, Default)]
pub struct TableCounters {
    pub streams: AtomicU64,
    pub received: AtomicU64,
    pub durable: AtomicU64,
    pub acknowledged: AtomicU64,
    pub refused: AtomicU64,
    pub commits: AtomicU64,
}

/// What becomes of a batch.
pub type CommitReceiver = oneshot::Receiver<Result<()>>;

enum Command {
    Write(RecordBatch, oneshot::Sender<Result<()>>),
    Commit,
    Close(oneshot::Sender<Result<()>>),
}

impl Tables {
    pub fn new(lake: Option<PathBuf>, schedule: CommitSchedule, observer: EmulatorObserver) -> Tables {
        Tables {
            lake,
            schedule,
            observer,
            open: Mutex::default(),
        }
    }

    /// The table, if it was declared, made, or is in the lake from an earlier life.
    pub async fn find(&self, name: &TableName) -> Result<Option<Arc<EmulatedTable>>> {
        let mut open = self.open.lock().await;
        if let Some(table) = open.get(name.full()) {
            return Ok(Some(table.clone()));
        }
        let Some(columns) = self.on_disk(name).await? else {
            return Ok(None);
        };
        self.start(&mut open, name, columns, false).await.map(Some)
    }

    /// The table; made of these columns if there is none.
    pub async fn find_or_create(&self, name: &TableName, columns: Vec<Column>) -> Result<Arc<EmulatedTable>> {
        let mut open = self.open.lock().await;
        if let Some(table) = open.get(name.full()) {
            return Ok(table.clone());
        }
        match self.on_disk(name).await? {
            Some(columns) => self.start(&mut open, name, columns, false).await,
            None => self.start(&mut open, name, columns, true).await,
        }
    }

    pub async fn summaries(&self) -> BTreeMap<String, TableSummary> {
        let open = self.open.lock().await;
        let summaries = open
            .iter()
            .map(|(name, table)| (name.clone(), table.counters.summary()));
        summaries.collect()
    }

    /// Commits what waits, and lets go of every table.
    pub async fn close(&self) -> Result<()> {
        let mut outcome = Ok(());
        for table in self.open.lock().await.values() {
            outcome = outcome.and(table.close().await);
        }
        outcome
    }

    async fn start(
        &self,
        open: &mut BTreeMap<String, Arc<EmulatedTable>>,
        name: &TableName,
        columns: Vec<Column>,
        is_new: bool,
    ) -> Result<Arc<EmulatedTable>> {
        let destination: Arc<dyn Destination> = match self.path_of(name) {
            Some(path) => {
                let path = std::path::absolute(&path).unwrap_or(path);
                std::fs::create_dir_all(&path).map_err(|error| {
                    Error::new(Code::Unavailable, format!("{} cannot be made", path.display()))
                        .caused_by(&error)
                        .during("open")
                })?;
                Arc::new(Delta::connect(&format!("delta:{}", path.display()), &Config::default()).await?)
            }
            None => Arc::new(Discard::new("discard:")?),
        };
        let stored = types::stored(&columns);
        let (commands, inbox) = mpsc::channel(64);
        let table = Arc::new(EmulatedTable {
            name: name.clone(),
            columns,
            stored: stored.clone(),
            counters: TableCounters::default(),
            commands,
        });
        let mut writer = Writer {
            table: table.clone(),
            destination,
            producer: Uuid::new_v4(),
            next: 0,
            session: None,
            waiting: VecDeque::new(),
            since: None,
            bytes: 0,
            schedule: self.schedule,
            observer: self.observer.clone(),
        };
        // The table is there before it has rows, and what cannot be a table is refused here.
        writer.session().await?;
        tokio::spawn(writer.run(inbox));
        open.insert(name.full().to_string(), table.clone());
        if is_new {
            self.observer.tell(EmulatorEvent::TableCreated {
                table: name.full().into(),
                columns: table.columns.len(),
            });
        }
        Ok(table)
    }

    fn path_of(&self, name: &TableName) -> Option<PathBuf> {
        let [catalog, schema, table] = name.parts();
        Some(self.lake.as_ref()?.join(catalog).join(schema).join(table))
    }

    /// The columns of a table that an earlier emulator, or somebody else, left in the lake.
    async fn on_disk(&self, name: &TableName) -> Result<Option<Vec<Column>>> {
        let Some(path) = self.path_of(name).filter(|path| path.join("_delta_log").is_dir()) else {
            return Ok(None);
        };
        let unread = |why: &dyn std::fmt::Display| {
            Error::new(Code::TableCorrupt, format!("the table {}: {why}", name.full())).during("open")
        };
        let path = std::path::absolute(&path).unwrap_or(path);
        let url = url::Url::from_directory_path(&path).map_err(|()| unread(&"its path is no URL"))?;
        let table = deltalake_core::open_table(url)
            .await
            .map_err(|error| unread(&error))?;
        let schema = table.snapshot().map_err(|error| unread(&error))?.schema();
        let schema: Value = serde_json::to_value(schema.as_ref()).map_err(|error| unread(&error))?;
        match types::Type::from_json(&schema) {
            Some(types::Type::Struct(columns)) => Ok(Some(columns)),
            _ => Err(unread(
                &"it has a column of a type that the service does not know",
            )),
        }
    }
}

impl EmulatedTable {
    /// Hands a batch of `stored` to the writer. Waits while the writer is behind.
    pub async fn write(&self, batch: RecordBatch) -> CommitReceiver {
        let (done, durable) = oneshot::channel();
        // A writer that is gone drops `done`, and the receiver says so.
        let _ = self.commands.send(Command::Write(batch, done)).await;
        durable
    }

    /// What waits is committed now.
    pub async fn commit(&self) {
        let _ = self.commands.send(Command::Commit).await;
    }

    async fn close(&self) -> Result<()> {
        let (done, closed) = oneshot::channel();
        let _ = self.commands.send(Command::Close(done)).await;
        closed.await.unwrap_or(Ok(()))
    }
}

/// A receiver whose writer died was not answered; the rows may be anywhere.
pub fn outcome(answer: std::result::Result<Result<()>, oneshot::error::RecvError>) -> Result<()> {
    answer.unwrap_or_else(|_| Err(Error::new(Code::Unavailable, "the table is closed")))
}

impl TableCounters {
    fn summary(&self) -> TableSummary {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TableSummary {
            streams: read(&self.streams),
            rows_received: read(&self.received),
            rows_durable: read(&self.durable),
            rows_acknowledged: read(&self.acknowledged),
            batches_refused: read(&self.refused),
            commits: read(&self.commits),
        }
    }
}

struct Writer {
    table: Arc<EmulatedTable>,
    destination: Arc<dyn Destination>,
    producer: Uuid,
    next: u64,
    session: Option<Live>,
    waiting: VecDeque<Waiting>,
    /// When the oldest row that waits came.
    since: Option<Instant>,
    bytes: usize,
    schedule: CommitSchedule,
    observer: EmulatorObserver,
}

struct Live {
    session: Box<dyn Session>,
    acknowledgements: mpsc::UnboundedReceiver<Acknowledgement>,
}

struct Waiting {
    rows: u64,
    done: oneshot::Sender<Result<()>>,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            let due = self.since.map(|since| since + self.schedule.interval);
            let command = tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Some(Command::Commit),
                command = inbox.recv() => command,
            };
            match command {
                Some(Command::Write(batch, done)) => {
                    self.write(batch, done).await;
                    if self.bytes >= self.schedule.bytes {
                        self.commit().await;
                    }
                }
                Some(Command::Commit) => self.commit().await,
                Some(Command::Close(done)) => {
                    self.commit().await;
                    let closed = match self.session.take() {
                        Some(live) => live.session.close().await,
                        None => Ok(()),
                    };
                    let _ = done.send(closed);
                    return;
                }
                None => return self.commit().await,
            }
        }
    }

    async fn session(&mut self) -> Result<&mut Live> {
        if self.session.is_none() {
            let (sender, acknowledgements) = Acknowledgements::channel();
            let opened = self
                .destination
                .open(Opening {
                    epochs: None,
                    schema: self.table.stored.clone(),
                    producer: self.producer,
                    resume_from: None,
                    acknowledgements: sender,
                })
                .await?;
            self.session = Some(Live {
                session: opened.session,
                acknowledgements,
            });
        }
        self.session
            .as_mut()
            .ok_or_else(|| Error::new(Code::Internal, "the session is gone"))
    }

    async fn write(&mut self, batch: RecordBatch, done: oneshot::Sender<Result<()>>) {
        let (rows, bytes) = (batch.num_rows(), batch.get_array_memory_size());
        let write = Arc::new(Write {
            positions: Vec::new(),
            id: self.next,
            batches: vec![batch],
            rows,
            bytes,
        });
        self.next += 1;
        let written = match self.session().await {
            Ok(live) => live.session.write(write).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                self.waiting.push_back(Waiting {
                    rows: rows as u64,
                    done,
                });
                self.since.get_or_insert_with(Instant::now);
                self.bytes += bytes;
            }
            Err(error) => {
                // The session is broken, and what it had not committed went with it.
                let _ = done.send(Err(error.clone()));
                self.fail(error);
            }
        }
    }

    async fn commit(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let flushed = match self.session().await {
            Ok(live) => match live.session.flush().await {
                Ok(()) => Ok(position(live)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match flushed {
            Ok(position) => {
                let rows = self.waiting.iter().map(|waiting| waiting.rows).sum();
                self.table.counters.durable.fetch_add(rows, Ordering::Relaxed);
                self.table.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.observer.tell(EmulatorEvent::Committed {
                    table: self.table.name.full().into(),
                    rows,
                    batches: self.waiting.len(),
                    version: match position {
                        Position::Version(version) => Some(version),
                        _ => None,
                    },
                });
                for waiting in self.waiting.drain(..) {
                    // A stream that is gone no longer asks.
                    let _ = waiting.done.send(Ok(()));
                }
                (self.since, self.bytes) = (None, 0);
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) {
        self.observer.tell(EmulatorEvent::WriteFailed {
            table: self.table.name.full().into(),
            reason: error.to_string(),
        });
        self.session = None;
        (self.since, self.bytes) = (None, 0);
        for waiting in self.waiting.drain(..) {
            let text = format!("the table could not be written: {error}");
            let _ = waiting.done.send(Err(Error::new(Code::Unavailable, text)));
        }
    }
}

/// A flush that succeeded has acknowledged all; the last word says where it went.
fn position(live: &mut Live) -> Position {
    let mut last = Position::None;
    while let Ok(acknowledgement) = live.acknowledgements.try_recv() {
        if let Acknowledgement::Through { position, .. } = acknowledgement {
            last = position;
        }
    }
    last
}
