//! Where batches go: the trait, and opening a destination by its URL.
//!
//! A destination opens a *session* for a schema; a session takes *writes* and yields
//! *acknowledgements*; a session that fails says so once and is thrown away. Invariants that every
//! session keeps, and that `tests/rs/destination_suite.rs` holds it to:
//! - Writes come with strictly increasing ids and are acknowledged in that order.
//! - An acknowledgement is sent only when the rows are durable as `specs/delivery.md` defines it.
//! - A write whose batches are not of the session's schema is refused as `SCHEMA_MISMATCH`. Writers of Arrow IPC
//!   take such a batch without an error and write bytes that no reader understands.
//! - After an error from `write`, `flush` or `close` the session is not called again.
//!
//! What a destination does not do: retry, reorder, keep a budget, count rows for users. All of that
//! is the transmitter's, so that a new destination is small (`CONTRIBUTING.md` lists its places).

pub mod delta;
pub mod discard;
pub mod flight;
pub mod headers;
pub mod tls;
mod write;
pub mod zerobus;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use tokio::sync::mpsc;
use uuid::Uuid;

pub use self::write::{Write, counted};
use crate::config::Config;
use crate::error::{Code, Error, Result, RetryClass};
use crate::outcome::{Position, Rejection};

/// A place that takes record batches.
#[async_trait]
pub trait Destination: Send + Sync {
    fn capabilities(&self) -> Capabilities;

    /// Whether it computes on the payload of such batches (Parquet, compression) or merely moves bytes.
    /// Memory that JavaScript can still write to must never be computed on, so a copy is taken first.
    fn computes_on(&self, schema: &Schema) -> bool;

    /// Tries connection, credentials and table without writing a row.
    async fn check(&self) -> Result<()>;

    /// The table's own schema as it is now: asked anew with each call. None where the destination cannot tell, or
    /// there is no table yet.
    ///
    /// # Errors
    /// What keeps it from answering and may pass, or is the user's to mend: as [`Destination::check`].
    async fn schema(&self) -> Result<Option<SchemaRef>> {
        Ok(None)
    }

    /// The schema that the user said batches would have, before any came. Most learn all they need from
    /// the batches.
    fn expect(&self, _schema: &SchemaRef) {}

    /// How long rows that were written may wait for others before they are committed together; `None` where
    /// each write is acknowledged by itself.
    fn commit_interval(&self) -> Option<Duration> {
        None
    }

    /// Whether credentials that were refused may be others at the next try.
    fn renews_credentials(&self) -> bool {
        true
    }

    /// One attempt at a session. Called again, with the same `producer`, after a session broke.
    async fn open(&self, opening: Opening) -> Result<Opened>;
}

/// What the transmitter has to know about a destination.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities {
    /// The scheme, for telemetry.
    pub name: &'static str,
    /// Whether `open` with `resume_from` finds out which earlier writes landed. Where it does not, a
    /// write that may have landed is sent again and stays in doubt. Rows that it refused by an acknowledgement, and
    /// which its position covers, it refuses again when a later process sends them.
    pub tells_what_landed: bool,
    /// Whether a write that is refused for its data, as [`Error::is_of_the_data`] has it, leaves nothing
    /// behind, and neither does any other that the session was given and has not acknowledged. Only
    /// then does the quarantine search for rows: elsewhere trying parts of the write would write rows twice.
    pub refusals_are_atomic: bool,
    /// Whether it puts small batches of a write together itself. Joined before, all of them would be copied
    /// once more, into memory that is kept until it is acknowledged and so is never warm.
    pub joins: bool,
}

/// What a session is opened with.
pub struct Opening {
    pub schema: SchemaRef,
    /// Names this client towards the destination, for as long as it lives.
    pub producer: Uuid,
    /// The first write that was never acknowledged, when a session before this one broke: the
    /// destination looks up what of it and of its successors landed after all.
    pub resume_from: Option<u64>,
    /// Where the producer is a log that outlives processes: what it knows of its own openings.
    pub epochs: Option<Arc<dyn Epochs>>,
    /// Where acknowledgements go.
    pub acknowledgements: Acknowledgements,
}

/// Tells a log from a copy of it. Each opening of a log leaves an epoch at the destination, with the rows; an epoch
/// that this log has not left is that of a copy (a cloned machine, a restored backup), whose rows must not be taken
/// for the log's own.
#[async_trait]
pub trait Epochs: Send + Sync {
    /// How often the log was opened, this opening included. Durable before it is given.
    ///
    /// # Errors
    /// What the disk says.
    async fn opening(&self) -> Result<u64>;

    /// Takes the epoch that the destination holds for this producer, if any. Gives the one to leave there; durable
    /// before it is given. At most 63 bits.
    ///
    /// # Errors
    /// `SPOOL_FOREIGN` for an epoch of somebody else; what the disk says.
    async fn confirm(&self, found: Option<u64>) -> Result<u64>;

    /// Rows below this position were ever in the log.
    fn written(&self) -> u64;

    /// The destination has forgotten this producer, though rows of it were acknowledged before.
    fn forgotten(&self);
}

pub struct Opened {
    pub session: Box<dyn Session>,
    /// Acknowledgements of writes of earlier sessions, as far as the destination knows them: the writes that
    /// landed, and the rows of these that it refused. They are not sent again. In the order of the
    /// writes; `Broken` says nothing here. Rows of a `Partly` or a `Refused` are counted as the write
    /// will be sent next: without those that were acknowledged before.
    pub landed: Vec<Acknowledgement>,
    /// Whether what is not among these never will be there. False as long as a lost request may still
    /// arrive: such writes stay in doubt, and the next session is asked again. Where nobody can look,
    /// this has nothing to say.
    pub conclusive: bool,
}

#[async_trait]
pub trait Session: Send {
    /// Takes a write. Returning does not acknowledge it.
    ///
    /// An error breaks the session. If its class is `Never`, this write failed for good and the
    /// others that are unacknowledged are replayed in another session.
    async fn write(&mut self, write: Arc<Write>) -> Result<()>;

    /// Makes all that was written durable, and acknowledges it before returning.
    ///
    /// An error breaks the session. If its class is `Never`, all that this session has not
    /// acknowledged failed for good.
    async fn flush(&mut self) -> Result<()>;

    /// When `flush` is to be called though nobody asked for it (a commit interval, a full file).
    fn flush_due(&self) -> Option<Instant> {
        None
    }

    /// Flushes and lets go of everything.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// What a session says about its writes.
#[derive(Debug)]
pub enum Acknowledgement {
    /// Every write up to this id, inclusive, is durable.
    Through { id: u64, position: Position },
    /// The first `rows` rows of the oldest unacknowledged write are durable.
    Partly { id: u64, rows: usize },
    /// The first `rows` rows of the oldest unacknowledged write are settled: those named were refused, the
    /// others are durable.
    PartlyRefused {
        id: u64,
        rows: usize,
        rejections: Vec<Rejection>,
    },
    /// This write is settled: the rows named were refused and nothing else of it was.
    Refused {
        id: u64,
        rejections: Vec<Rejection>,
        position: Position,
    },
    /// The session broke between calls: a connection was lost, a server went away.
    Broken { error: Error },
}

/// The sending half of a session's acknowledgements; cheap to clone, never blocks.
#[derive(Clone)]
pub struct Acknowledgements(mpsc::UnboundedSender<Acknowledgement>);

impl Acknowledgements {
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Acknowledgement>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Acknowledgements(sender), receiver)
    }

    /// A receiver that is gone means that the session was given up; its word no longer matters.
    pub fn send(&self, acknowledgement: Acknowledgement) {
        let _ = self.0.send(acknowledgement);
    }
}

/// Whether a destination answers to this target, without reaching for it.
///
/// # Errors
/// `CONFIG_INVALID` for a URL that no destination answers to.
pub fn validate(target: &str, config: &Config) -> Result<()> {
    match scheme_of(target) {
        "discard" => discard::Discard::new(target).map(|_| ()),
        "delta" => delta::Delta::validate(target),
        scheme if flight::answers_to(scheme) => flight::validate(target, config),
        scheme if zerobus::answers_to(scheme) => zerobus::validate(target, config),
        _ => Err(unanswered(target)),
    }
}

/// Whether a destination answers to this target, whatever options it needs.
///
/// # Errors
/// `CONFIG_INVALID` for a URL that no destination answers to.
pub fn recognise(target: &str) -> Result<()> {
    match scheme_of(target) {
        "discard" => discard::Discard::new(target).map(|_| ()),
        "delta" => delta::Delta::validate(target),
        scheme if flight::answers_to(scheme) || zerobus::answers_to(scheme) => {
            url::Url::parse(target).map(|_| ()).map_err(|error| {
                Error::new(Code::ConfigInvalid, "the target is no URL")
                    .caused_by(&error)
                    .during("connect")
            })
        }
        _ => Err(unanswered(target)),
    }
}

/// One attempt at reaching the destination that a target URL names.
///
/// # Errors
/// `CONFIG_INVALID` for a URL that no destination answers to; otherwise what the destination says.
pub async fn connect(target: &str, config: &Config) -> Result<Arc<dyn Destination>> {
    let scheme = scheme_of(target);
    match scheme {
        "discard" => Ok(Arc::new(discard::Discard::new(target)?)),
        "delta" => Ok(Arc::new(delta::Delta::connect(target, config).await?)),
        _ if flight::answers_to(scheme) => Ok(Arc::new(flight::Flight::connect(target, config).await?)),
        _ if zerobus::answers_to(scheme) => Ok(Arc::new(zerobus::Zerobus::connect(target, config).await?)),
        _ => Err(unanswered(target)),
    }
}

/// As [`connect`], for rows that can wait: a destination that is away is given all the same, with the reason.
///
/// # Errors
/// As [`connect`], for what no wait mends.
pub async fn connect_or_wait(target: &str, config: &Config) -> Result<(Arc<dyn Destination>, Option<Error>)> {
    let (destination, reached): (Arc<dyn Destination>, _) = match scheme_of(target) {
        "discard" => (Arc::new(discard::Discard::new(target)?), Ok(())),
        "delta" => {
            let delta = delta::Delta::new(target, config)?;
            let reached = delta.check().await;
            (Arc::new(delta), reached)
        }
        scheme if flight::answers_to(scheme) => {
            let flight = flight::Flight::new(target, config)?;
            let reached = flight.check().await;
            (Arc::new(flight), reached)
        }
        scheme if zerobus::answers_to(scheme) => {
            let zerobus = zerobus::Zerobus::new(target, config)?;
            let reached = zerobus.reach().await;
            (Arc::new(zerobus), reached)
        }
        _ => return Err(unanswered(target)),
    };
    match reached {
        Ok(()) => Ok((destination, None)),
        Err(error) => match error.retry_class() {
            RetryClass::Transient | RetryClass::Throttled => Ok((destination, Some(error))),
            RetryClass::Reauthenticate | RetryClass::Never => Err(error),
        },
    }
}

/// Empty without a colon: `delta` alone is no table, and a path would be made up for it.
fn scheme_of(target: &str) -> &str {
    target.split_once(':').map_or("", |(scheme, _)| scheme)
}

fn unanswered(target: &str) -> Error {
    let meant = match target {
        "discard" => Some("discard:".to_string()),
        // A scheme alone is no path.
        "delta" => None,
        scheme if flight::answers_to(scheme) || zerobus::answers_to(scheme) => None,
        _ => delta::meant(target),
    };
    let text = match meant {
        Some(meant) => format!("no destination answers to this target; did you mean \"{meant}\"?"),
        None => {
            let scheme = target.split(':').next().unwrap_or_default();
            format!(
                "no destination answers to {scheme:?}: use delta:<path or URL>, grpc://host:port/path, flightsql://host:port/table, zerobus://<workspace>.zerobus.<region>.<domain>/<catalog>.<schema>.<table> or discard:"
            )
        }
    };
    Error::new(Code::ConfigInvalid, text).during("connect")
}
