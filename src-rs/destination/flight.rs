//! `grpc:` and `flightsql:` put batches to any Arrow Flight server.
//!
//! How rows get there: a write is cut into parts that the server takes ([`plan`]); each part is gathered into a
//! gRPC message whose large buffers are those of the batch itself ([`encode`], [`arrays`]) and goes out
//! on a `DoPut` ([`stream`]) over a connection that lives as long as its session ([`connection`]). What
//! the server answers is folded into acknowledgements ([`progress`], [`session`]).
//!
//! Invariants:
//! - Memory of a batch goes to the socket without a copy and is let go of once it is sent; nothing here
//!   reads payload unless compression was asked for.
//! - Rows are acknowledged as `flight.acknowledgement` says: when the server ends their stream with `OK`, answers
//!   their part, or reports a position behind them.
//! - After bytes were sent and before they are acknowledged, a failure leaves rows in doubt: its error is
//!   ambiguous.
//!
//! It reads no rows and puts nothing but record batches. What a server says of its columns is in [`describe`].

mod ack;
pub(in crate::destination) mod arrays;
pub(crate) mod chunks;
pub(in crate::destination) mod connection;
mod connector;
mod describe;
mod dial;
mod dictionaries;
pub(crate) mod encode;
mod farewell;
mod joined;
pub(in crate::destination) mod nearby;
pub(crate) mod outgoing;
mod plan;
mod progress;
mod session;
mod sql;
pub(in crate::destination) mod status;
mod stream;
pub(in crate::destination) mod target;
#[cfg(test)]
#[path = "../../tests/rs/flight/encoder.rs"]
mod tests;
mod views;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use futures::future::try_join_all;

use self::connector::Connector;
use self::outgoing::WireFormat;
use self::session::{FlightSession, Lane, Put, ReaderContext, Refusing, SessionSettings};
use self::sql::Rollbacks;
use self::target::{FlightTarget, Mode, What};
use super::{Acknowledgement, Capabilities, Destination, Opened, Opening};
use crate::config::{Compression, Config, FlightAcknowledgement, FlightDescriptor};
use crate::error::{Code, Error, Result};
use crate::outcome::Position;

/// Room in a message for the application's metadata.
const METADATA: usize = 512;

pub struct Flight {
    target: FlightTarget,
    config: Config,
    connector: Arc<Connector>,
    /// Sessions so far; what each says to a server that counts them.
    epoch: AtomicU64,
    /// The last write that a session was given.
    given: Arc<AtomicU64>,
    /// The table of a Flight SQL target is one that we made.
    made: Arc<AtomicBool>,
    rollbacks: Arc<Rollbacks>,
    refusing: Arc<Refusing>,
}

/// Whether this scheme is one of Flight's.
pub fn answers_to(scheme: &str) -> bool {
    target::SCHEMES.contains(&scheme)
}

/// # Errors
/// `CONFIG_INVALID` for a target that means nothing.
pub fn validate(target: &str, config: &Config) -> Result<()> {
    FlightTarget::parse(target, config).map(|_| ())
}

impl Flight {
    /// Reaches the server once, to know that it is there and takes the credentials.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for a target or certificates that mean nothing; `UNAVAILABLE`,
    /// `UNAUTHENTICATED`, `PERMISSION_DENIED` as the server says.
    pub async fn connect(target: &str, config: &Config) -> Result<Flight> {
        let flight = Flight::new(target, config)?;
        flight.check().await?;
        Ok(flight)
    }

    /// Reaches for nothing.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn new(target: &str, config: &Config) -> Result<Flight> {
        let target = FlightTarget::parse(target, config)?;
        Ok(Flight {
            connector: Arc::new(Connector::new(target.address.clone(), config)),
            target,
            config: config.clone(),
            epoch: AtomicU64::new(0),
            given: Arc::default(),
            made: Arc::default(),
            rollbacks: Arc::default(),
            refusing: Arc::default(),
        })
    }

    /// Whether a refusal leaves nothing behind that was not acknowledged. A second stream may have
    /// kept what was on it, and what half of a write is worth to a server that counts rows of writes
    /// is nowhere promised.
    fn refusals_are_atomic(&self) -> bool {
        let flight = &self.config.flight;
        flight.atomic_refusals
            && flight.streams == 1
            && flight.acknowledgement != FlightAcknowledgement::Cumulative
    }

    /// # Errors
    /// `UNAVAILABLE` if there is no answer in time.
    async fn answered<T>(&self, asked: impl Future<Output = T>) -> Result<T> {
        let patience = self.config.flight.connect_timeout;
        tokio::time::timeout(patience, asked).await.map_err(|_| {
            let text = "the server took the connection and does not answer";
            Error::new(Code::Unavailable, text)
        })
    }

    async fn begin(&self, opening: Opening) -> Result<Opened> {
        let (flight, resume_from) = (&self.config.flight, opening.resume_from);
        self.refusing.forget_before(resume_from.unwrap_or(u64::MAX));
        let cumulative = flight.acknowledgement == FlightAcknowledgement::Cumulative;
        let reserved = if cumulative { METADATA } else { 0 };
        let format = WireFormat::new(opening.schema, flight, reserved)?;
        let epochs = opening.epochs.clone().filter(|_| cumulative);
        if epochs.is_some() && flight.streams > 1 {
            let text = "with a spool, flight.acknowledgement \"cumulative\" takes one stream: rows of a later process may come to another one";
            return Err(Error::new(Code::ConfigInvalid, text).during("open"));
        }
        let connection = self.connector.connect().await?;
        let first_epoch = match &epochs {
            // Above those of earlier processes, whatever the clock says.
            Some(epochs) => {
                self.given.fetch_max(epochs.written(), Ordering::AcqRel);
                epochs.opening().await? << 32
            }
            None => 0,
        };
        let shape = Arc::new(SessionSettings {
            what: match &self.target.what {
                What::Put(descriptor) => Put::Stream(on_the_wire(descriptor)),
                What::Ingest(ingest) => Put::Ingest {
                    ingest: ingest.clone(),
                    made: Arc::clone(&self.made),
                    rollbacks: Arc::clone(&self.rollbacks),
                },
            },
            format,
            compression: flight.compression,
            producer: opening.producer,
            // Zero is no epoch: only a server that was promised one is told.
            epoch: if cumulative {
                first_epoch + self.epoch.fetch_add(1, Ordering::AcqRel) + 1
            } else {
                0
            },
            opening: Mutex::new(None),
            given: Arc::clone(&self.given),
            patience: flight.connect_timeout,
            acknowledgement_timeout: flight.acknowledgement_timeout,
        });
        let shared = Arc::new(ReaderContext::new(
            flight.acknowledgement,
            flight.atomic_refusals,
            flight.streams,
            opening.acknowledgements,
            Arc::clone(&self.connector),
            Arc::clone(&self.refusing),
        ));
        let mut lanes: Vec<Lane> = (0..flight.streams)
            .map(|index| Lane::new(index, flight.compression))
            .collect();
        if cumulative {
            let greetings = lanes
                .iter_mut()
                .map(|lane| lane.greet(&connection, &shape, &shared));
            try_join_all(greetings).await?;
        }
        if let Some(epochs) = &epochs {
            let known = lanes.first().map(Lane::known).unwrap_or_default();
            if known.sequence > 0 {
                let own = epochs.confirm(known.opening).await?;
                *shape.opening.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
            } else {
                epochs.forgotten();
                let own = epochs.confirm(None).await?;
                *shape.opening.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
            }
        }
        // A write of which half is there is not among these; `write` sends its other half.
        let complete = resume_from.filter(|_| cumulative).map(|first| {
            let complete = lanes.iter().map(|lane| lane.complete(first, lanes.len()));
            (first, self.refusing.before(complete.min().unwrap_or(0)))
        });
        // An earlier process may have refused rows of such a write, and nobody remembers which.
        let landed = complete.filter(|(first, last)| epochs.is_none() && last >= first);
        let landed = landed.map(|(_, last)| last);
        let is_beyond = |lane: &Lane, last| match &epochs {
            Some(_) => lane.known().sequence > 0,
            None => lane.known().is_beyond(last),
        };
        // Of a write that may be there, in part or out of order, nobody may say that it is not.
        let conclusive = complete.is_none_or(|(_, last)| !lanes.iter().any(|lane| is_beyond(lane, last)));
        let through = |id| Acknowledgement::Through {
            id,
            position: Position::None,
        };
        let landed = landed.map(through).into_iter().collect();
        let session = FlightSession {
            connection,
            shape,
            shared,
            lanes,
            since: None,
            commit_interval: flight.commit_interval,
            commit_bytes: (self.config.inflight.max_bytes / 2).max(1),
        };
        Ok(Opened {
            session: Box::new(session),
            landed,
            conclusive,
        })
    }
}

#[async_trait]
impl Destination for Flight {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: match self.target.what {
                What::Put(_) => "flight",
                What::Ingest(_) => "flightsql",
            },
            tells_what_landed: self.config.flight.acknowledgement == FlightAcknowledgement::Cumulative,
            refusals_are_atomic: self.refusals_are_atomic(),
            joins: true,
        }
    }

    fn computes_on(&self, _: &Schema) -> bool {
        self.config.flight.compression != Compression::None
    }

    fn commit_interval(&self) -> Option<Duration> {
        let flight = &self.config.flight;
        (flight.acknowledgement == FlightAcknowledgement::Stream).then_some(flight.commit_interval)
    }

    /// Without a provider the same headers and passwords go with every try.
    fn renews_credentials(&self) -> bool {
        self.config.header_provider.is_some()
    }

    async fn check(&self) -> Result<()> {
        let remember = |error| self.connector.remember(error);
        let connection = self.connector.connect().await.map_err(remember)?;
        let What::Put(descriptor) = &self.target.what else {
            return Ok(());
        };
        let request = connection.request(on_the_wire(descriptor));
        let mut client = connection.client();
        match self.answered(client.get_schema(request)).await {
            Ok(Err(status)) if describe::is_of_the_connection(&status) => {
                Err(remember(connection.error(&status)).during("check"))
            }
            // Few servers that take rows can say what they look like before there are any.
            Ok(_) => Ok(()),
            Err(late) => Err(late.during("check")),
        }
    }

    async fn schema(&self) -> Result<Option<SchemaRef>> {
        let remember = |error: Error| self.connector.remember(error);
        let connection = self.connector.connect().await.map_err(remember)?;
        let said = match &self.target.what {
            What::Put(descriptor) => {
                let asked = describe::target(&connection, on_the_wire(descriptor));
                self.answered(asked).await
            }
            // The table that is there is not the one that rows will go into.
            What::Ingest(ingest)
                if matches!(ingest.mode, Mode::Create | Mode::Replace)
                    && !self.made.load(Ordering::Acquire) =>
            {
                return Ok(None);
            }
            What::Ingest(ingest) => self.answered(describe::table(&connection, ingest)).await,
        };
        said.and_then(|said| said)
            .map_err(|error| remember(error).during("schema"))
    }

    async fn open(&self, opening: Opening) -> Result<Opened> {
        let begun = self.begin(opening).await;
        begun.map_err(|error| self.connector.remember(error))
    }
}

fn on_the_wire(descriptor: &FlightDescriptor) -> arrow_flight::FlightDescriptor {
    match descriptor {
        FlightDescriptor::Path(path) => arrow_flight::FlightDescriptor::new_path(path.clone()),
        FlightDescriptor::Command(command) => arrow_flight::FlightDescriptor::new_cmd(command.clone()),
    }
}
