//! Connections of one client, each with credentials of its own.
//!
//! Invariants:
//! - Headers are asked for before each connection is made, and the reason says whether the last ones were refused.
//! - What outlives a connection is here: that the server was met, and how often it lets itself be asked.
//!
//! It does not try again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::connection::Connection;
use super::target::ServerAddress;
use crate::callbacks::HeadersReason;
use crate::config::Config;
use crate::destination::headers::Headers;
use crate::error::{Code, Error, Result};

pub struct Connector {
    address: ServerAddress,
    config: Config,
    headers: Headers,
    /// The server took the last credentials for expired or wrong.
    stale: AtomicBool,
    pub pings: Pings,
    /// The server was reached once.
    met: AtomicBool,
}

impl Connector {
    pub fn new(address: ServerAddress, config: &Config) -> Connector {
        Connector {
            address,
            headers: Headers::new(
                config.headers.clone(),
                config.header_provider.clone(),
                config.headers_timeout,
            ),
            config: config.clone(),
            stale: AtomicBool::default(),
            pings: Pings::default(),
            met: AtomicBool::default(),
        }
    }

    /// # Errors
    /// What the headers' provider says, and those of [`Connection::open`].
    pub async fn connect(&self) -> Result<Connection> {
        let reason = if self.stale.swap(false, Ordering::AcqRel) {
            HeadersReason::Unauthenticated
        } else {
            HeadersReason::Connect
        };
        let headers = self.headers.ask(reason).await?;
        let silence = self.pings.silence(self.config.flight.keep_alive);
        let met = self.met.load(Ordering::Acquire);
        let connection = Connection::open(&self.address, &self.config, &headers, silence, met).await?;
        self.met.store(true, Ordering::Release);
        Ok(connection)
    }

    /// Remembers that credentials were refused, so that the next connection asks for others.
    pub fn remember(&self, error: Error) -> Error {
        if error.code() == Code::Unauthenticated {
            self.stale.store(true, Ordering::Release);
        }
        error
    }
}

/// How often servers let this client ask whether they are there: less often after each that hung up for it.
#[derive(Debug, Default)]
pub struct Pings(AtomicU32);

impl Pings {
    /// No standard server takes one in this time for too many, even if nothing is sent.
    const HARMLESS: Duration = Duration::from_secs(330);

    /// The silence before a question, given what the options say.
    pub fn silence(&self, asked: Duration) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            _ if asked.is_zero() => asked,
            0 => asked,
            times => asked.max(Pings::HARMLESS) * 2u32.saturating_pow(times.min(8) - 1),
        }
    }

    pub fn were_too_many(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
