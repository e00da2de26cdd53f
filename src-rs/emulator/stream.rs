//! One stream, from its first frame to its end.
//!
//! Invariants:
//! - READY comes first; after it every answer says how many rows of this stream are durable, never less
//!   than the answer before.
//! - Whatever ends a stream, what came before the batch that ended it is kept and acknowledged first, and
//!   of that batch nothing is kept unless the fault says so.
//! - A batch that is refused is refused whole.

mod setup;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::utils::flight_data_to_arrow_batch;
use arrow_flight::{FlightData, PutResult};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Status, Streaming};

pub use self::setup::Caller;
use self::setup::set_up;
use super::event::EmulatorEvent;
use super::fault::{FaultKind, Seen};
use super::listener::Link;
use super::schema;
use super::table::{self, CommitReceiver, EmulatedTable};
use super::{EmulatorState, status};
use crate::error::Code;

/// How long the last word may take to be read before the connection is let go.
const FAREWELL: Duration = Duration::from_secs(5);

pub type Answers = mpsc::Sender<Result<PutResult, Status>>;

/// How a stream ends.
enum End {
    /// The client half-closed and has every acknowledgement.
    Done,
    Status(Status),
    /// The connection goes without a word.
    Cut,
    /// The client went away.
    Gone(String),
}

pub async fn serve(
    shared: Arc<EmulatorState>,
    caller: Caller,
    mut inbound: Streaming<FlightData>,
    out: Answers,
) {
    let open = shared.totals.open();
    let number = open.number;
    let link = caller.link.clone();
    let end = match set_up(&shared, caller, number, open.count, &mut inbound, out.clone()).await {
        Ok(mut stream) => {
            let end = stream.run(&mut inbound).await.err().unwrap_or(End::Done);
            stream.tell_end(&end);
            end
        }
        Err((table, status)) => {
            shared.observer.tell(EmulatorEvent::StreamRefused {
                table: table.unwrap_or_default(),
                stream: number,
                status: name_of(status.code()),
                reason: status.message().into(),
            });
            End::Status(status)
        }
    };
    match end {
        End::Done | End::Gone(_) => {}
        End::Cut => link.cut(),
        End::Status(status) => {
            if out.send(Err(status)).await.is_ok() {
                // Letting go of the request now could reset the stream before its status is read.
                let _ = timeout(FAREWELL, read_off(&mut inbound, &out)).await;
            }
        }
    }
}

/// Reads and forgets until the answer was taken.
async fn read_off(inbound: &mut Streaming<FlightData>, out: &Answers) {
    loop {
        tokio::select! {
            () = out.closed() => return,
            frame = inbound.message() => {
                if !matches!(frame, Ok(Some(_))) {
                    return out.closed().await;
                }
            }
        }
    }
}

/// What set-up found.
pub struct OpenedStream {
    pub shared: Arc<EmulatorState>,
    pub table: Arc<EmulatedTable>,
    pub number: u64,
    pub seen: Seen,
    pub authorization: Option<String>,
    pub link: Link,
    /// As the client sends it; the table may store other types.
    pub schema: SchemaRef,
    pub out: Answers,
}

pub struct StreamHandler {
    with: OpenedStream,
    pending: VecDeque<UncommittedBatch>,
    /// Batches so far, and so the offset that the next one must have.
    batches: u64,
    received: u64,
    acknowledged: u64,
    acknowledged_offset: i64,
    /// No acknowledgement before then.
    stalled: Option<Instant>,
    /// The emulator asked the client to be gone by then.
    closing: Option<Instant>,
    /// How much the connection must have written for the last answer to be out.
    mark: u64,
}

struct UncommittedBatch {
    offset: u64,
    rows: u64,
    durable: CommitReceiver,
}

impl StreamHandler {
    pub fn new(with: OpenedStream) -> StreamHandler {
        StreamHandler {
            with,
            pending: VecDeque::new(),
            batches: 0,
            received: 0,
            acknowledged: 0,
            acknowledged_offset: -1,
            stalled: None,
            closing: None,
            mark: 0,
        }
    }

    async fn run(&mut self, inbound: &mut Streaming<FlightData>) -> Result<(), End> {
        self.answer(None).await?;
        let shared = self.with.shared.clone();
        loop {
            tokio::select! {
                biased;
                () = shared.stopping() => {
                    self.drain().await?;
                    return Err(End::Status(shutting_down()));
                }
                () = at(self.stalled) => self.stalled = None,
                () = at(self.closing) => {
                    self.drain().await?;
                    return Err(End::Status(status::rotated(self.with.number)));
                }
                answer = first(&mut self.pending), if self.stalled.is_none() => self.acknowledge(answer).await?,
                frame = inbound.message() => match frame {
                    Ok(Some(frame)) => self.take(frame).await?,
                    Ok(None) => return self.drain().await,
                    // The client gets its limit. Of a client that is gone there is only the event.
                    Err(status) if status.code() == tonic::Code::OutOfRange => {
                        self.drain().await?;
                        return Err(End::Status(status));
                    }
                    Err(status) => return Err(End::Gone(status.message().into())),
                },
            }
        }
    }

    async fn take(&mut self, frame: FlightData) -> Result<(), End> {
        let offset = self.batches;
        match offset_of(&frame) {
            Some(found) if found == offset => {}
            found => {
                let found = found.map_or("none".into(), |found| found.to_string());
                return self
                    .refuse(offset, format!("the offset_id is {found}, not {offset}"))
                    .await;
            }
        }
        let (schema, stored) = (self.with.schema.clone(), self.with.table.stored.clone());
        let decoded = tokio::task::spawn_blocking(move || decode(&frame, schema, &stored)).await;
        let (sent, batch) = match decoded {
            Ok(Ok(batches)) => batches,
            Ok(Err(reason)) => return self.refuse(offset, reason).await,
            Err(_) => return self.refuse(offset, "the batch cannot be read".into()).await,
        };
        let rows = batch.num_rows() as u64;
        self.batches += 1;
        self.received += rows;
        self.with
            .table
            .counters
            .received
            .fetch_add(rows, Ordering::Relaxed);
        let mut rotation = None;
        while let Some(kind) =
            self.with
                .shared
                .faults
                .at_batch(&mut self.with.seen, self.received, self.batches, &sent)
        {
            tell_fault(
                &self.with.shared,
                self.with.table.name.full(),
                self.with.number,
                &kind,
            );
            match kind {
                FaultKind::Stall { time } => self.stalled = Some(Instant::now() + time),
                FaultKind::Rotate { grace } => rotation = Some(grace),
                other => return self.end_by(other, offset, sent, batch).await,
            }
        }
        self.write(offset, batch).await;
        match rotation {
            Some(grace) => {
                self.closing = Some(Instant::now() + grace);
                self.answer(Some(grace)).await
            }
            None => Ok(()),
        }
    }

    /// A fault that the stream does not survive.
    async fn end_by(
        &mut self,
        kind: FaultKind,
        offset: u64,
        sent: RecordBatch,
        batch: RecordBatch,
    ) -> Result<(), End> {
        if let FaultKind::Reject(rule) = kind {
            let row = rule.first_refused(&sent).unwrap_or_default();
            let reason = format!("row {row}: the value of column {:?} is not allowed", rule.column);
            return self.refuse(offset, reason).await;
        }
        self.drain().await?;
        let broken = || Err(End::Status(Status::unavailable("a fault of the emulator")));
        match kind {
            FaultKind::Close { status, message } => Err(End::Status(by_fault(status.code(), message))),
            FaultKind::Pause { time } => Err(End::Status(status::pause(self.with.number, time))),
            FaultKind::ExpireToken => {
                self.with.shared.tokens.revoke(self.with.authorization.as_deref());
                Err(End::Status(Status::unauthenticated("the token has expired")))
            }
            FaultKind::Partial { rows } => {
                let rows = rows.min(batch.num_rows());
                self.write(offset, batch.slice(0, rows)).await;
                self.drain_as(offset as i64 - i64::from(rows < batch.num_rows()))
                    .await?;
                broken()
            }
            FaultKind::LoseAfterCommit => {
                self.settle().await;
                let durable = self.with.table.write(batch).await;
                self.with.table.commit().await;
                // Kept or not: the client hears of neither.
                let _ = durable.await;
                Err(End::Cut)
            }
            FaultKind::LoseBeforeCommit => {
                self.settle().await;
                Err(End::Cut)
            }
            _ => broken(),
        }
    }

    async fn write(&mut self, offset: u64, batch: RecordBatch) {
        let rows = batch.num_rows() as u64;
        let durable = if rows == 0 {
            let (done, durable) = tokio::sync::oneshot::channel();
            let _ = done.send(Ok(()));
            durable
        } else {
            self.with.table.write(batch).await
        };
        self.pending.push_back(UncommittedBatch {
            offset,
            rows,
            durable,
        });
    }

    /// The oldest batch was answered; others of the same commit are as well.
    async fn acknowledge(&mut self, answer: crate::error::Result<()>) -> Result<(), End> {
        let mut answer = Some(answer);
        while let Some(settled) = answer.take() {
            let Some(pending) = self.pending.pop_front() else {
                break;
            };
            if let Err(error) = settled {
                return Err(End::Status(match error.code() {
                    Code::BatchInvalid | Code::SchemaMismatch => Status::invalid_argument(error.to_string()),
                    _ => Status::unavailable(error.to_string()),
                }));
            }
            self.acknowledged += pending.rows;
            self.acknowledged_offset = pending.offset as i64;
            self.with
                .table
                .counters
                .acknowledged
                .fetch_add(pending.rows, Ordering::Relaxed);
            answer = self
                .pending
                .front_mut()
                .and_then(|next| next.durable.try_recv().ok());
        }
        self.answer(None).await
    }

    /// Everything that came is committed and acknowledged.
    async fn drain(&mut self) -> Result<(), End> {
        at_or_now(self.stalled.take()).await;
        if !self.pending.is_empty() {
            self.with.table.commit().await;
        }
        while !self.pending.is_empty() {
            let answer = first(&mut self.pending).await;
            self.acknowledge(answer).await?;
        }
        Ok(())
    }

    /// As `drain`, with the offset that is said in the end: that of a batch of which only a part is kept
    /// was not reached.
    async fn drain_as(&mut self, offset: i64) -> Result<(), End> {
        self.with.table.commit().await;
        while let Some(pending) = self.pending.pop_front() {
            if let Err(error) = table::outcome(pending.durable.await) {
                return Err(End::Status(Status::unavailable(error.to_string())));
            }
            self.acknowledged += pending.rows;
            self.with
                .table
                .counters
                .acknowledged
                .fetch_add(pending.rows, Ordering::Relaxed);
        }
        self.acknowledged_offset = offset;
        self.answer(None).await
    }

    async fn refuse(&mut self, offset: u64, reason: String) -> Result<(), End> {
        self.with.table.counters.refused.fetch_add(1, Ordering::Relaxed);
        self.with.shared.observer.tell(EmulatorEvent::BatchRefused {
            table: self.with.table.name.full().into(),
            stream: self.with.number,
            offset,
            reason: reason.clone(),
        });
        self.drain().await?;
        Err(End::Status(Status::invalid_argument(format!(
            "batch {offset}: {reason}"
        ))))
    }

    async fn answer(&mut self, closing: Option<Duration>) -> Result<(), End> {
        let mut metadata = json!({
            "ack_up_to_offset": self.acknowledged_offset, "ack_up_to_records": self.acknowledged,
        });
        if let Some(grace) = closing {
            metadata["close_stream_duration_ms"] = json!(grace.as_millis() as u64);
        }
        let metadata = metadata.to_string();
        self.mark = self.with.link.written() + metadata.len() as u64;
        let answer = PutResult {
            app_metadata: metadata.into(),
        };
        let sent = self.with.out.send(Ok(answer)).await;
        sent.map_err(|_| End::Gone("the client no longer listens".into()))
    }

    /// Waits until the last answer has left, so that what is lost next is all that is lost.
    async fn settle(&self) {
        let left = async {
            while self.with.link.written() < self.mark {
                sleep(Duration::from_millis(2)).await;
            }
        };
        // Written is not yet sent: the system gets a moment. One that never comes is given up.
        let _ = timeout(Duration::from_secs(30), left).await;
        sleep(Duration::from_millis(20)).await;
    }

    fn tell_end(&self, end: &End) {
        self.with.shared.observer.tell(EmulatorEvent::StreamClosed {
            table: self.with.table.name.full().into(),
            stream: self.with.number,
            rows_received: self.received,
            rows_acknowledged: self.acknowledged,
            end: match end {
                End::Done => "OK".into(),
                End::Status(status) => format!("{}: {}", name_of(status.code()), status.message()),
                End::Cut => "the connection is cut".into(),
                End::Gone(reason) => format!("the client went away: {reason}"),
            },
        });
    }
}

/// The answer to the oldest batch; never, if there is none.
async fn first(pending: &mut VecDeque<UncommittedBatch>) -> crate::error::Result<()> {
    match pending.front_mut() {
        Some(pending) => table::outcome((&mut pending.durable).await),
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn at_or_now(time: Option<Instant>) {
    if let Some(time) = time {
        sleep_until(time).await;
    }
}

fn offset_of(frame: &FlightData) -> Option<u64> {
    let metadata: serde_json::Value = serde_json::from_slice(&frame.app_metadata).ok()?;
    metadata["offset_id"].as_u64()
}

/// The batch as it was sent, and as its table stores it.
fn decode(
    frame: &FlightData,
    schema: SchemaRef,
    stored: &SchemaRef,
) -> Result<(RecordBatch, RecordBatch), String> {
    let sent = flight_data_to_arrow_batch(frame, schema, &Default::default())
        .map_err(|error| format!("the batch cannot be read: {error}"))?;
    let batch = schema::conform(&sent, stored)?;
    Ok((sent, batch))
}

pub fn by_fault(code: tonic::Code, message: Option<String>) -> Status {
    Status::new(code, message.unwrap_or_else(|| "a fault of the emulator".into()))
}

pub fn shutting_down() -> Status {
    Status::unavailable("the emulator is shutting down")
}

pub fn tell_fault(shared: &EmulatorState, table: &str, stream: u64, kind: &FaultKind) {
    shared.totals.fault_fired();
    shared.observer.tell(EmulatorEvent::FaultFired {
        table: table.into(),
        stream,
        fault: kind.word().into(),
    });
}

/// A code as gRPC spells it.
fn name_of(code: tonic::Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
