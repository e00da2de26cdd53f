//! One session: writes are cut into parts and go out on streams; answers become acknowledgements.
//!
//! Invariants:
//! - A write goes to one stream, and which one depends on its id alone, so a replay meets the same
//!   sequence on the server.
//! - Rows are acknowledged by what `flight.acknowledgement` names, and by nothing else.
//! - When the session is dropped, its connection and all bytes that it holds go with it.
//!
//! It retries nothing: the first failure of any stream ends the session.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::future::try_join_all;
use prost::Message as _;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::ack::{self, ServerProgress};
use super::chunks::Chunks;
use super::connection::Connection;
use super::connector::Connector;
use super::encode::{Encoder, Message};
use super::farewell::Farewell;
use super::outgoing::WireFormat;
use super::plan::MessagePart;
use super::progress::{FlightProgress, StreamCursor, cursor, cursor_at};
use super::sql::{self, Rollbacks, Transaction};
use super::status::{self, Secrets};
use super::stream::{Failure, Listener, PutStream, ended_early};
use super::target::Ingest;
use crate::compute;
use crate::config::{Compression, FlightAcknowledgement};
use crate::destination::{Acknowledgement, Acknowledgements, Session, Write};
use crate::error::{Code, Error, Result};

/// All that a session is made of.
pub struct FlightSession {
    /// First, so that nobody hears the connection go and takes it for a failure.
    pub(super) lanes: Vec<Lane>,
    pub(super) connection: Connection,
    pub(super) shape: Arc<SessionSettings>,
    pub(super) shared: Arc<ReaderContext>,
    pub(super) since: Option<(Instant, usize)>,
    pub(super) commit_interval: Duration,
    pub(super) commit_bytes: usize,
}

/// What goes onto the wire, and how.
pub(super) struct SessionSettings {
    pub what: Put,
    pub format: WireFormat,
    pub compression: Compression,
    pub producer: Uuid,
    pub epoch: u64,
    /// With rows from a log, and cumulative acknowledgements: what is left with them at the server.
    pub opening: Mutex<Option<u64>>,
    /// The last write that a session of this client was given.
    pub given: Arc<AtomicU64>,
    /// For what is answered at once, such as the beginning of a transaction.
    pub patience: Duration,
    /// For what is answered once rows are durable.
    pub acknowledgement_timeout: Duration,
}

pub(super) enum Put {
    Stream(arrow_flight::FlightDescriptor),
    Ingest {
        ingest: Ingest,
        /// Set once a stream of ours has made the table.
        made: Arc<AtomicBool>,
        rollbacks: Arc<Rollbacks>,
    },
}

/// One stream at a time, and what stays when it is followed by another.
pub(super) struct Lane {
    index: usize,
    stream: Option<PutStream>,
    /// What the stream is on: it goes on to its end there when the session has got another one.
    connection: Option<Connection>,
    encoder: Arc<Mutex<Encoder>>,
    chunks: Chunks,
    /// Before the stream's end: its rows count when this is committed.
    transaction: Option<Transaction>,
    /// What the server had of this lane when the session began.
    known: ServerProgress,
}

/// What the readers of the streams and the session both see.
pub(super) struct ReaderContext {
    mode: FlightAcknowledgement,
    atomic: bool,
    /// By lane: its rows are in a transaction, so none is kept before the commit.
    revocable: Vec<AtomicBool>,
    progress: Mutex<FlightProgress>,
    acknowledgements: Acknowledgements,
    connector: Arc<Connector>,
    refusing: Arc<Refusing>,
}

/// Writes of which rows were refused here and which were not settled yet. A server that has the rest of
/// such a write cannot know, so nobody may take it for landed whole.
#[derive(Default)]
pub(super) struct Refusing(Mutex<BTreeSet<u64>>);

impl Refusing {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those before `first` were settled by others: a session that broke, an abort, a deadline.
    pub fn forget_before(&self, first: u64) {
        self.with(|writes| *writes = writes.split_off(&first));
    }

    /// The last write before the first of these, if that comes before `last`.
    pub fn before(&self, last: u64) -> u64 {
        self.with(|writes| {
            writes
                .first()
                .map_or(last, |first| last.min(first.saturating_sub(1)))
        })
    }
}

impl ReaderContext {
    pub fn new(
        mode: FlightAcknowledgement,
        atomic: bool,
        lanes: usize,
        acknowledgements: Acknowledgements,
        connector: Arc<Connector>,
        refusing: Arc<Refusing>,
    ) -> ReaderContext {
        ReaderContext {
            mode,
            atomic,
            revocable: (0..lanes).map(|_| AtomicBool::new(false)).collect(),
            progress: Mutex::new(FlightProgress::new(lanes, mode == FlightAcknowledgement::Part)),
            acknowledgements,
            connector,
            refusing,
        }
    }

    fn progress(&self) -> MutexGuard<'_, FlightProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known and says what follows from it, in one go: two readers that took turns
    /// between the two would say it in the wrong order.
    fn settle<T>(&self, change: impl FnOnce(&mut FlightProgress) -> T) -> T {
        let mut progress = self.progress();
        let result = change(&mut progress);
        for acknowledgement in progress.report() {
            if let Acknowledgement::Refused { id, .. } = &acknowledgement {
                self.refusing.with(|writes| writes.remove(id));
            }
            self.acknowledgements.send(acknowledgement);
        }
        result
    }

    /// The failure of a lane as an error that says whether rows are in doubt.
    fn failed(&self, error: Error, lane: usize) -> Error {
        let error = self.connector.remember(error);
        let progress = self.progress();
        // The other streams were not refused: what is on them may be kept.
        let undone = self.atomic && error.is_of_the_data() || self.revocable[lane].load(Ordering::Acquire);
        let kept_nothing = undone && !progress.is_in_doubt_beside(lane);
        let error = if progress.is_in_doubt() && !kept_nothing {
            error.ambiguous()
        } else {
            error
        };
        error.during("write")
    }
}

/// Hears the answers on one lane.
struct LaneListener {
    lane: usize,
    shared: Arc<ReaderContext>,
    /// Whether all of it has gone, and the end.
    ended: Arc<AtomicBool>,
    /// Of the connection that the stream is on.
    secrets: Secrets,
    farewell: Arc<Farewell>,
    /// The last write that a session of this client was given.
    given: Arc<AtomicU64>,
    /// Answers so far.
    answers: AtomicUsize,
    /// Who waits for the first answer of a cumulative stream.
    hello: Mutex<Option<oneshot::Sender<ServerProgress>>>,
}

impl Listener for LaneListener {
    fn is_owed(&self) -> bool {
        self.shared.mode != FlightAcknowledgement::Stream && self.shared.progress().open(self.lane) > 0
    }

    fn answered(&self, metadata: &[u8]) -> Result<bool> {
        let answers = self.answers.fetch_add(1, Ordering::AcqRel) + 1;
        match self.shared.mode {
            // What such a server answers is its own affair. Up to one for each part it may be at work.
            FlightAcknowledgement::Stream => Ok(answers <= self.shared.progress().open(self.lane)),
            FlightAcknowledgement::Part => {
                if self.shared.settle(|progress| progress.part(self.lane)) {
                    return Ok(true);
                }
                let text =
                    "the server answered more parts than it was sent: use flight.acknowledgement \"stream\"";
                Err(Error::new(Code::Unsupported, text))
            }
            FlightAcknowledgement::Cumulative => {
                let durable = ack::answer(metadata)?;
                let hello = self.hello.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(hello) = hello {
                    let _ = hello.send(durable);
                }
                if durable.is_beyond(self.given.load(Ordering::Acquire)) {
                    return Err(ack::beyond());
                }
                let through = usize::try_from(durable.through).unwrap_or(usize::MAX);
                let up_to = (durable.sequence, through);
                Ok(self.shared.settle(|progress| {
                    let before = progress.open(self.lane);
                    progress.up_to(self.lane, up_to);
                    progress.open(self.lane) < before
                }))
            }
        }
    }

    fn ended(&self, verdict: std::result::Result<(), Failure>) -> Result<()> {
        let failure = match verdict {
            Err(failure) => failure,
            Ok(()) if !self.ended.load(Ordering::Acquire) => Failure::Ours(ended_early()),
            Ok(()) if self.shared.mode == FlightAcknowledgement::Stream => return Ok(()),
            Ok(()) => match self.shared.progress().open(self.lane) {
                0 => return Ok(()),
                open => {
                    let text = format!(
                        "the server ended a stream well and left {open} parts unanswered: use flight.acknowledgement \"stream\""
                    );
                    Failure::Ours(Error::new(Code::Unsupported, text))
                }
            },
        };
        let error = match failure {
            Failure::Status(status) => {
                if self.farewell.is_of_pings() {
                    self.shared.connector.pings.were_too_many();
                }
                status::error_on(&status, &self.secrets, &self.farewell)
            }
            Failure::Ours(error) => error,
        };
        let error = self.shared.failed(error, self.lane);
        self.shared
            .acknowledgements
            .send(Acknowledgement::Broken { error: error.clone() });
        Err(error)
    }
}

impl Lane {
    pub fn new(index: usize, compression: Compression) -> Lane {
        let chunks = Chunks::default();
        Lane {
            index,
            stream: None,
            connection: None,
            encoder: Arc::new(Mutex::new(Encoder::new(compression, chunks.clone()))),
            chunks,
            transaction: None,
            known: ServerProgress::default(),
        }
    }

    /// The stream that is open, or a new one with the schema sent.
    async fn stream(
        &mut self,
        connection: &Connection,
        shape: &SessionSettings,
        shared: &Arc<ReaderContext>,
    ) -> Result<&mut PutStream> {
        if self.stream.is_none() {
            let (stream, _) = self.open(connection, shape, shared).await?;
            return Ok(self.stream.insert(stream));
        }
        self.stream
            .as_mut()
            .ok_or_else(|| Error::new(Code::Internal, "a stream that is open is not"))
    }

    async fn open(
        &mut self,
        connection: &Connection,
        shape: &SessionSettings,
        shared: &Arc<ReaderContext>,
    ) -> Result<(PutStream, oneshot::Receiver<ServerProgress>)> {
        let descriptor = match &shape.what {
            Put::Stream(descriptor) => descriptor.clone(),
            Put::Ingest {
                ingest,
                made,
                rollbacks,
            } => {
                self.transaction = sql::begin(connection, rollbacks, shape.patience).await?;
                let id = self.transaction.as_ref().map(Transaction::id);
                shared.revocable[self.index].store(id.is_some(), Ordering::Release);
                sql::descriptor(ingest, made.load(Ordering::Acquire), id)
            }
        };
        let (told, hello) = oneshot::channel();
        let listener = LaneListener {
            lane: self.index,
            shared: Arc::clone(shared),
            ended: Arc::new(AtomicBool::new(false)),
            secrets: connection.secrets.clone(),
            farewell: Arc::clone(&connection.farewell),
            given: Arc::clone(&shape.given),
            answers: AtomicUsize::new(0),
            hello: Mutex::new(Some(told)),
        };
        let ended = Arc::clone(&listener.ended);
        let patience = shape.acknowledgement_timeout;
        let mut stream = PutStream::open(connection, Arc::new(listener), ended, patience);
        self.connection = Some(connection.clone());
        // A new stream knows no dictionaries.
        let encoder = Encoder::new(shape.compression, self.chunks.clone());
        let first = encoder.schema(shape.format.sent_schema(), &descriptor.encode_to_vec());
        self.encoder = Arc::new(Mutex::new(encoder));
        stream.send(first).await?;
        Ok((stream, hello))
    }

    /// Opens the stream and asks how far the server got with this lane.
    pub async fn greet(
        &mut self,
        connection: &Connection,
        shape: &SessionSettings,
        shared: &Arc<ReaderContext>,
    ) -> Result<()> {
        let (mut stream, hello) = self.open(connection, shape, shared).await?;
        let nothing = RecordBatch::new_empty(shape.format.sent_schema().clone());
        let metadata = ack::hello(shape.producer, self.index, shape.epoch);
        let hello_messages = shape
            .format
            .messages(&mut lock(&self.encoder), &nothing, &metadata)?;
        for message in hello_messages {
            stream.send(message).await?;
        }
        match tokio::time::timeout(shape.patience, hello).await {
            // Believed, these rows would be settled and never sent.
            Ok(Ok(known)) if known.is_beyond(shape.given.load(Ordering::Acquire)) => {
                return Err(ack::beyond().during("open"));
            }
            Ok(Ok(known)) => self.known = known,
            // The stream is over; it knows why.
            Ok(Err(_)) => {
                stream.end().await?;
                return Err(ended_early().during("open"));
            }
            Err(_) => {
                let text = "the server does not say how far it got: it may not know specs/flight-ack.md, and then flight.acknowledgement must be \"stream\"";
                return Err(Error::new(Code::Unsupported, text).during("open"));
            }
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// What the server has of this lane.
    pub fn known(&self) -> ServerProgress {
        self.known
    }

    /// The last write up to which the server has everything of this lane.
    pub fn complete(&self, from: u64, lanes: usize) -> u64 {
        self.known.complete(from, self.index, lanes)
    }

    /// How many rows of a write the server has already.
    fn known_rows(&self, id: u64, rows: usize) -> usize {
        match id.cmp(&self.known.sequence) {
            std::cmp::Ordering::Less => rows,
            std::cmp::Ordering::Equal => usize::try_from(self.known.through).unwrap_or(rows).min(rows),
            std::cmp::Ordering::Greater => 0,
        }
    }
}

#[async_trait]
impl Session for FlightSession {
    async fn write(&mut self, write: Arc<Write>) -> Result<()> {
        for batch in &write.batches {
            self.shape.format.check(batch)?;
        }
        self.shape.given.fetch_max(write.id, Ordering::AcqRel);
        let index = (write.id % self.lanes.len() as u64) as usize;
        let lane = &mut self.lanes[index];
        let skip = match write.positions.is_empty() || self.shape.epoch == 0 {
            true => lane.known_rows(write.id, write.rows),
            false => write.rows_below(lane.known.sequence.saturating_sub(1)),
        };
        let mut plan = self.shape.format.plan(&write.batches, skip);
        if skip > 0 {
            // Rows that were refused before the ones that the server has are refused still.
            plan.refused = self.shape.format.plan(&write.batches, 0).refused;
        }
        // Rows that are not sent are refused, or known to be there.
        let sent = plan.parts.iter().map(|part| part.rows).sum::<usize>();
        let kept = plan
            .refused
            .iter()
            .filter(|refused| refused.row < skip as u64)
            .count();
        write.counted(skip + sent + plan.refused.len() - kept)?;
        if !plan.refused.is_empty() {
            self.shared.refusing.with(|writes| writes.insert(write.id));
        }
        // Without a part there is nothing to wait for.
        let durable = if plan.parts.is_empty() { write.rows } else { skip };
        self.shared
            .settle(|progress| progress.begin(write.id, write.rows, durable, plan.refused));
        if plan.parts.is_empty() {
            return Ok(());
        }
        let (_, bytes) = self.since.get_or_insert_with(|| (now(), 0));
        *bytes += write.bytes;
        if lane.stream.is_none() && self.connection.is_over() {
            // The library would dial again by itself, with the headers of the line that is over.
            let connected = self.shared.connector.connect().await;
            self.connection = connected.map_err(|error| self.shared.failed(error, index))?;
        }
        lane.stream(&self.connection, &self.shape, &self.shared).await?;
        for part in plan.parts {
            let messages = encode(&lane.encoder, &self.shape, &write, &part, index).await?;
            let last = messages.len().saturating_sub(1);
            for (nth, message) in messages.into_iter().enumerate() {
                if nth == last {
                    self.shared
                        .progress()
                        .sent(index, write.id, part.through, cursor_of(&write, &part));
                }
                let stream = lane.stream(&self.connection, &self.shape, &self.shared).await?;
                stream.send(message).await?;
                if nth == last && self.shared.mode != FlightAcknowledgement::Stream {
                    stream.expects_an_answer();
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.since = None;
        // Streams that owe nothing stay open: their next part needs no schema.
        if !self.shared.progress().is_in_doubt() {
            return Ok(());
        }
        self.end_streams().await
    }

    fn flush_due(&self) -> Option<Instant> {
        if self.shared.mode != FlightAcknowledgement::Stream {
            return None;
        }
        let (since, bytes) = self.since?;
        if bytes >= self.commit_bytes {
            return Some(now());
        }
        Some(since + self.commit_interval)
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        // Also those that owe nothing: to the server a stream that is dropped is one that failed.
        self.end_streams().await
    }
}

impl FlightSession {
    async fn end_streams(&mut self) -> Result<()> {
        let (shape, shared) = (&self.shape, &self.shared);
        let ends = self.lanes.iter_mut().map(|lane| async move {
            let Some(mut stream) = lane.stream.take() else {
                return Ok(());
            };
            stream.end().await?;
            if let Some(transaction) = lane.transaction.take() {
                transaction.commit(shape.acknowledgement_timeout).await?;
            }
            if let Put::Ingest { made, .. } = &shape.what {
                made.store(true, Ordering::Release);
            }
            if shared.mode == FlightAcknowledgement::Stream {
                shared.settle(|progress| progress.all(lane.index));
            }
            Ok::<_, Error>(())
        });
        try_join_all(ends).await?;
        Ok(())
    }
}

/// Where the stream is after a part.
fn cursor_of(write: &Write, part: &MessagePart) -> StreamCursor {
    match write.positions.is_empty() {
        true => cursor(write.id, part.through, part.last),
        false => cursor_at(write.position_behind(part.through)),
    }
}

/// The messages of one part, made where they are in nobody's way.
async fn encode(
    encoder: &Arc<Mutex<Encoder>>,
    shape: &Arc<SessionSettings>,
    write: &Arc<Write>,
    part: &MessagePart,
    lane: usize,
) -> Result<Vec<Message>> {
    let metadata = match shape.epoch {
        0 => Vec::new(),
        epoch => {
            let opening = *shape.opening.lock().unwrap_or_else(PoisonError::into_inner);
            ack::part(shape.producer, lane, epoch, cursor_of(write, part), opening)
        }
    };
    if shape.format.is_cheap() {
        return shape
            .format
            .part(&mut lock(encoder), &write.batches, part, &metadata);
    }
    let (encoder, shape, write, part) = (
        Arc::clone(encoder),
        Arc::clone(shape),
        Arc::clone(write),
        part.clone(),
    );
    let made = compute::spawn(move || {
        shape
            .format
            .part(&mut lock(&encoder), &write.batches, &part, &metadata)
    });
    made.await.unwrap_or_else(|error| {
        Err(Error::new(Code::Internal, "encoding a part died")
            .caused_by(&error)
            .during("write"))
    })
}

fn lock(encoder: &Mutex<Encoder>) -> MutexGuard<'_, Encoder> {
    encoder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
