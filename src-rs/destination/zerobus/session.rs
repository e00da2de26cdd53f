//! One stream of the official crate, its own recovery off.
//!
//! Invariants:
//! - A watcher passes acknowledgements on as they come, and sleeps between them. There is no poll.
//! - When a stream is over, the session reports how many rows of it are durable, and then why it is over.
//! - A write that is refused without a quarantine takes nobody with it: all that went before is
//!   acknowledged first, so that nothing of it is sent again.
//!
//! It retries nothing, and remembers nothing beyond its stream.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{ZerobusArrowStream, ZerobusError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::flight::status::Secrets;
use super::credentials::OnRefused;
use super::errors::{self, Context};
use super::normalise::StreamConversion;
use super::prepare::{Prepared, prepare};
use super::progress::ZerobusProgress;
use crate::compute;
use crate::destination::{Acknowledgement, Acknowledgements, Session, Write};
use crate::error::{Code, Error, Result};

pub struct ZerobusSession {
    stream: Arc<ZerobusArrowStream>,
    plan: Arc<StreamConversion>,
    shared: Arc<WatcherContext>,
    watcher: JoinHandle<()>,
    quarantine: bool,
}

/// Rotations in a row that came before anything was acknowledged: what outlives a stream.
#[derive(Default)]
pub struct Rotations(AtomicU32);

/// What the watcher and the session both see.
pub struct WatcherContext {
    pub acknowledgements: Acknowledgements,
    pub rotations: Arc<Rotations>,
    pub secrets: Secrets,
    pub schema: SchemaRef,
    pub schema_is: String,
    pub pause: Duration,
    /// A batch that is refused is refused whole, and what came before it is acknowledged.
    pub atomic: bool,
    /// Called when the server refuses the credentials of the stream.
    pub refused: OnRefused,
    pub server: errors::Server,
    progress: Mutex<ZerobusProgress>,
    state: watch::Sender<StreamStatus>,
}

#[derive(Default, Clone)]
struct StreamStatus {
    acknowledged: u64,
    broken: Option<Error>,
}

impl ZerobusSession {
    pub fn new(
        stream: ZerobusArrowStream,
        plan: StreamConversion,
        shared: WatcherContext,
        quarantine: bool,
    ) -> ZerobusSession {
        let (stream, shared) = (Arc::new(stream), Arc::new(shared));
        let watcher = tokio::spawn(watch_over(Arc::clone(&stream), Arc::clone(&shared)));
        ZerobusSession {
            stream,
            plan: Arc::new(plan),
            shared,
            watcher,
            quarantine,
        }
    }

    async fn prepared(&self, write: &Arc<Write>) -> Result<Prepared> {
        if self.plan.is_free() {
            return prepare(&self.plan, write, self.quarantine);
        }
        let (plan, write, quarantine) = (Arc::clone(&self.plan), Arc::clone(write), self.quarantine);
        let work = compute::spawn(move || prepare(&plan, &write, quarantine));
        work.await.unwrap_or_else(|error| {
            let text = "normalising a write died";
            Err(Error::new(Code::Internal, text).caused_by(&error).during("write"))
        })
    }

    /// Waits until all that was given is acknowledged.
    async fn settled(&self) -> Result<()> {
        let given = self.shared.progress().given;
        let state = self
            .shared
            .until(|state| state.broken.is_some() || state.acknowledged >= given)
            .await;
        match state.broken {
            // What is durable is durable, whatever becomes of the stream.
            Some(error) if state.acknowledged < given => Err(error),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Session for ZerobusSession {
    async fn write(&mut self, write: Arc<Write>) -> Result<()> {
        let Prepared { batches, rejections } = match self.prepared(&write).await {
            Ok(prepared) => prepared,
            Err(error) => {
                // Of a row, so the others of the session are sent again; not what is about to be durable.
                // A batch of another session's schema is a mistake of the caller's and told at once.
                if error.row().is_some() {
                    self.settled().await?;
                }
                return Err(error);
            }
        };
        let rows: VecDeque<usize> = batches.iter().map(|batch| batch.num_rows()).collect();
        write.counted(rows.iter().sum::<usize>() + rejections.len())?;
        // Before they are sent: their acknowledgement may come before this task runs again.
        self.shared
            .settle(|progress| progress.begin(write.id, rejections, rows));
        drop(write);
        for batch in batches {
            if let Err(error) = self.stream.ingest_batch(batch).await {
                if matches!(error, ZerobusError::InvalidArgument(_)) {
                    return Err(self.shared.told(&error).during("write").ambiguous());
                }
                // The stream is over, and the watcher knows better why.
                let state = self.shared.until(|state| state.broken.is_some()).await;
                return Err(state.broken.unwrap_or_else(over));
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.settled().await
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.settled().await?;
        self.watcher.abort();
        // Its end gives the stream back to one owner.
        let _ = (&mut self.watcher).await;
        let Some(stream) = Arc::get_mut(&mut self.stream) else {
            return Ok(());
        };
        match stream.close().await {
            Ok(()) => Ok(()),
            Err(error) if errors::is_rotation(&error) => Ok(()),
            Err(error) => Err(self.shared.told(&error).during("close")),
        }
    }
}

impl Drop for ZerobusSession {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Tells what becomes durable until the stream is over, and then what became of the rest.
async fn watch_over(stream: Arc<ZerobusArrowStream>, shared: Arc<WatcherContext>) {
    let mut next = 0;
    let error = loop {
        match stream.wait_for_offset(next).await {
            Ok(()) => {
                next += 1;
                let acknowledged = shared.settle(|progress| {
                    progress.acknowledge();
                    progress.acknowledged
                });
                shared
                    .state
                    .send_modify(|state| state.acknowledged = acknowledged);
            }
            Err(error) if stream.is_closed() => break error,
            // Nothing came for longer than the crate waits. Nothing was sent either, or it would be over.
            Err(_) => {}
        }
    };
    let unacknowledged = stream.get_unacked_batches().await.unwrap_or_default();
    let rows = unacknowledged.first().map(|batch| batch.num_rows());
    if errors::is_of_credentials(&error) {
        // Whoever hears of the end opens another stream at once, and must not get these again.
        (shared.refused)().await;
    }
    shared.broke(&error, rows);
}

impl WatcherContext {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        acknowledgements: Acknowledgements,
        rotations: Arc<Rotations>,
        secrets: Secrets,
        schema: SchemaRef,
        schema_is: String,
        pause: Duration,
        atomic: bool,
        refused: OnRefused,
        server: errors::Server,
    ) -> WatcherContext {
        WatcherContext {
            acknowledgements,
            rotations,
            secrets,
            schema,
            schema_is,
            pause,
            atomic,
            refused,
            server,
            progress: Mutex::default(),
            state: watch::Sender::default(),
        }
    }

    pub fn told(&self, error: &ZerobusError) -> Error {
        let context = Context {
            secrets: &self.secrets,
            schema: &self.schema,
            schema_is: &self.schema_is,
            pause: self.pause,
            server: &self.server,
        };
        errors::error(error, &context)
    }

    fn progress(&self) -> MutexGuard<'_, ZerobusProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known and says what follows from it, in one go: a write that is settled at once
    /// must not overtake one whose acknowledgement is just being told.
    fn settle<T>(&self, change: impl FnOnce(&mut ZerobusProgress) -> T) -> T {
        let mut progress = self.progress();
        let result = change(&mut progress);
        for acknowledgement in progress.report() {
            self.acknowledgements.send(acknowledgement);
        }
        result
    }

    fn broke(&self, error: &ZerobusError, unacknowledged: Option<usize>) {
        let progress = self.progress();
        if let Some(partly) = progress.end(unacknowledged) {
            self.acknowledgements.send(partly);
        }
        let is_rotation = errors::is_rotation(error);
        let mut told = self.told(error).during("write");
        if self.rotations.is_free(is_rotation, progress.acknowledged > 0) {
            told = told.graceful();
        }
        let kept_nothing = self.atomic && told.code() == Code::RowsRejected;
        if unacknowledged.is_some() && !kept_nothing {
            // The server may have kept what it did not come round to acknowledge.
            told = told.ambiguous();
        }
        self.acknowledgements
            .send(Acknowledgement::Broken { error: told.clone() });
        drop(progress);
        self.state.send_modify(|state| state.broken = Some(told));
    }

    async fn until(&self, done: impl FnMut(&StreamStatus) -> bool) -> StreamStatus {
        let mut states = self.state.subscribe();
        match states.wait_for(done).await {
            Ok(state) => state.clone(),
            // Not while this holds the sender.
            Err(_) => StreamStatus {
                acknowledged: 0,
                broken: Some(over()),
            },
        }
    }
}

impl Rotations {
    /// Whether the end of a stream is nobody's failure. A server that rotates every stream before it takes
    /// anything would be run after without a breath, so only the first such rotation is free.
    pub fn is_free(&self, is_rotation: bool, was_fruitful: bool) -> bool {
        if was_fruitful {
            self.0.store(0, Ordering::Relaxed);
            return is_rotation;
        }
        is_rotation && self.0.fetch_add(1, Ordering::Relaxed) == 0
    }
}

fn over() -> Error {
    Error::new(Code::Unavailable, "the stream is over")
        .during("write")
        .ambiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RetryClass;

    /// The server may have kept what it was sent, and another stream may pass.
    #[test]
    fn a_stream_that_ends_without_a_reason_is_tried_again_and_may_have_kept_rows() {
        let error = over();
        assert!(error.is_ambiguous());
        assert_eq!(error.retry_class(), RetryClass::Transient);
    }
}
