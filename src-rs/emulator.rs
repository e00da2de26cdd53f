//! A Zerobus service for this machine: for tests, for development, for anyone who writes a client.
//!
//! One port serves what the real service has in three places: tokens and tables over HTTP ([`rest`]),
//! streams over Arrow Flight ([`flight`], [`setup`], [`stream`]). Rows go into Delta tables in a directory
//! ([`table`]), or are only counted, and are acknowledged when they are durable. What goes wrong on
//! purpose is a [`Fault`]. `specs/emulator.md` says what is promised.
//!
//! Invariants:
//! - What clients see is what the official client expects, and `tests/rs/emulator` lets it judge.
//! - No token and no secret is in an event, an error or a summary.
//!
//! It does not authorise: there are no users, no grants, and no table that one client may read and another
//! may not. It is not the service: where that is not documented, the stricter reading was taken.

mod event;
mod fault;
mod flight;
mod listener;
mod options;
mod rest;
mod schema;
mod status;
mod stream;
mod table;
mod tokens;
mod types;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Server;

pub use self::event::{EmulatorEvent, EmulatorObserver};
use self::fault::Faults;
pub use self::fault::{After, Cause, Fault, FaultKind, FaultRule, FaultTest, Grpc};
use self::listener::Authority;
use self::table::{CommitSchedule, Tables};
use self::tokens::IssuedTokens;
pub use self::types::{Column, Type};
use crate::error::{Code, Error, Result};
pub use options::EmulatorConfig;

/// A running emulator. Dropping it stops it in the midst of things; [`Emulator::shutdown`] ends it well.
pub struct Emulator {
    shared: Arc<EmulatorState>,
    address: SocketAddr,
    authority: Option<Authority>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Emulator {
    /// Binds the port and makes the declared tables. Runs on the current tokio runtime.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the port cannot be had; what the Delta destination says of a declared table.
    pub async fn start(config: EmulatorConfig) -> Result<Emulator> {
        Emulator::start_observed(config, EmulatorObserver::default()).await
    }

    /// As [`Emulator::start`], and `observer` gets every [`EmulatorEvent`].
    ///
    /// # Errors
    /// As [`Emulator::start`].
    pub async fn start_observed(config: EmulatorConfig, observer: EmulatorObserver) -> Result<Emulator> {
        let failed = |text: String, error: &(dyn std::error::Error + 'static)| {
            Error::new(Code::Unavailable, text)
                .caused_by(error)
                .during("start")
        };
        let listener = TcpListener::bind((config.host.as_str(), config.port))
            .await
            .map_err(|error| failed(format!("{}:{} cannot be had", config.host, config.port), &error))?;
        let address = listener
            .local_addr()
            .map_err(|error| failed("the port is not known".into(), &error))?;
        let authority = match config.tls {
            true => Some(
                Authority::new(&config.host)
                    .map_err(|error| failed("no certificate can be made".into(), error.as_ref()))?,
            ),
            false => None,
        };
        let schedule = CommitSchedule {
            interval: config.commit_interval,
            bytes: config.commit_bytes,
        };
        let shared = Arc::new(EmulatorState {
            tokens: IssuedTokens::new(config.token_lifetime, &config.tokens),
            tables: Tables::new(config.lake.clone(), schedule, observer.clone()),
            faults: Faults::default(),
            totals: Totals::default(),
            stop: watch::Sender::new(false),
            gone: watch::Sender::new(false),
            observer,
            config,
        });
        for fault in shared.config.faults.clone() {
            shared.faults.add(fault);
        }
        for (name, columns) in &shared.config.tables {
            if let Err(error) = shared.tables.find_or_create(name, columns.clone()).await {
                // The writers of those before it would wait for ever.
                let _ = shared.tables.close().await;
                return Err(error);
            }
        }
        let server = tokio::spawn(serve(shared.clone(), listener, authority.as_ref()));
        let emulator = Emulator {
            address: listener::reachable(address),
            authority,
            server: Mutex::new(Some(server)),
            shared,
        };
        emulator.shared.observer.tell(EmulatorEvent::Listening {
            address: emulator.address.to_string(),
            tls: emulator.authority.is_some(),
        });
        Ok(emulator)
    }

    /// Where a client on this machine reaches it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The target that names this table of this emulator: `zerobus+http://127.0.0.1:PORT/a.b.c`, or with TLS
    /// `zerobus://localhost:PORT/a.b.c`.
    pub fn url(&self, table: &str) -> String {
        match self.authority {
            Some(_) => format!("zerobus://{}/{table}", self.named()),
            None => format!("zerobus+http://{}/{table}", self.address),
        }
    }

    /// Where tokens and tables are, and streams too. With TLS, `http://` at [`Emulator::address`] answers the
    /// former as well.
    pub fn unity_catalog_url(&self) -> String {
        match self.authority {
            Some(_) => format!("https://{}", self.named()),
            None => format!("http://{}", self.address),
        }
    }

    /// The address under a name that it answers to and that its certificate has. `localhost` is that of
    /// 127.0.0.1 alone: where it means another address first, or only, nobody would be there.
    fn named(&self) -> String {
        let host = &self.shared.config.host;
        match self.address.ip() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) => format!("localhost:{}", self.address.port()),
            _ if host.parse::<IpAddr>().is_ok() => self.address.to_string(),
            _ => format!("{host}:{}", self.address.port()),
        }
    }

    /// The authority that a client has to trust, when there is TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_ref().map(|authority| authority.pem.as_str())
    }

    /// Lets something go wrong from now on.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Rows of this table that are durable, of this emulator's life.
    pub async fn rows(&self, table: &str) -> u64 {
        let summaries = self.shared.tables.summaries().await;
        summaries.get(table).map_or(0, |summary| summary.rows_durable)
    }

    pub async fn summary(&self) -> Summary {
        let totals = &self.shared.totals;
        Summary {
            streams: totals.streams.load(Ordering::Relaxed),
            tokens_issued: totals.tokens.load(Ordering::Relaxed),
            faults_fired: totals.faults.load(Ordering::Relaxed),
            tables: self.shared.tables.summaries().await,
        }
    }

    /// Tells every stream, commits every table, and gives the port back. A second call does nothing.
    ///
    /// # Errors
    /// What the last commit of a table says.
    pub async fn shutdown(&self) -> Result<()> {
        let Some(mut server) = self.server.lock().await.take() else {
            return Ok(());
        };
        self.shared.stop.send_replace(true);
        // Clients that do not listen are not waited for without end.
        if tokio::time::timeout(Duration::from_secs(10), &mut server)
            .await
            .is_err()
        {
            server.abort();
        }
        // The server's end is not theirs.
        self.shared.gone.send_replace(true);
        let closed = self.shared.tables.close().await;
        let tables = self.shared.tables.summaries().await;
        self.shared.observer.tell(EmulatorEvent::Stopped {
            rows: tables.values().map(|table| table.rows_durable).sum(),
            tables: tables.len(),
        });
        closed
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        self.shared.gone.send_replace(true);
        if let Some(server) = self.server.get_mut().take() {
            server.abort();
        }
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What everything in an emulator shares.
struct EmulatorState {
    config: EmulatorConfig,
    tokens: IssuedTokens,
    tables: Tables,
    faults: Faults,
    totals: Totals,
    observer: EmulatorObserver,
    stop: watch::Sender<bool>,
    /// Every connection that is left ends.
    gone: watch::Sender<bool>,
}

impl EmulatorState {
    /// Returns when the emulator is to stop.
    async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender is part of `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

fn serve(
    shared: Arc<EmulatorState>,
    listener: TcpListener,
    authority: Option<&Authority>,
) -> impl Future<Output = ()> + use<> {
    let (incoming, accepting) = listener::incoming(
        listener,
        authority,
        shared.stop.subscribe(),
        shared.gone.subscribe(),
    );
    let routes = Routes::from(rest::router(shared.clone())).add_service(flight::service(shared.clone()));
    async move {
        let served = Server::builder()
            .accept_http1(true)
            // Batches of megabytes: with the small windows of the default every one of them waits.
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async move { shared.stopping().await })
            .await;
        // Connections fail for themselves; there is nothing else that could.
        drop(served);
        accepting.abort();
        // Whoever closes the emulator may want its port at once.
        let _ = accepting.await;
    }
}

#[derive(Default)]
struct Totals {
    streams: AtomicU64,
    open: Arc<AtomicUsize>,
    tokens: AtomicU64,
    faults: AtomicU64,
}

/// A stream that is counted for as long as it is open.
struct OpenStream {
    number: u64,
    count: usize,
    open: Arc<AtomicUsize>,
}

impl Totals {
    fn open(&self) -> OpenStream {
        OpenStream {
            number: self.streams.fetch_add(1, Ordering::Relaxed) + 1,
            count: self.open.fetch_add(1, Ordering::Relaxed) + 1,
            open: self.open.clone(),
        }
    }

    fn tokens_issued(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    fn fault_fired(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an emulator did so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Streams that were asked for, refused ones included.
    pub streams: u64,
    pub tokens_issued: u64,
    pub faults_fired: u64,
    pub tables: BTreeMap<String, TableSummary>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSummary {
    /// Streams that were opened.
    pub streams: u64,
    pub rows_received: u64,
    /// Committed; without a lake: counted.
    pub rows_durable: u64,
    pub rows_acknowledged: u64,
    pub batches_refused: u64,
    pub commits: u64,
}

/// `catalog.schema.table`, of letters, digits and underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    full: String,
    dots: [usize; 2],
}

impl TableName {
    pub fn full(&self) -> &str {
        &self.full
    }

    fn parts(&self) -> [&str; 3] {
        let [first, second] = self.dots;
        [
            &self.full[..first],
            &self.full[first + 1..second],
            &self.full[second + 1..],
        ]
    }
}

impl FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<TableName, String> {
        let parts: Vec<&str> = text.split('.').collect();
        let is_name = |part: &&str| {
            let letters = part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            !part.is_empty() && letters
        };
        match parts.as_slice() {
            [catalog, schema, _] if parts.iter().all(is_name) => Ok(TableName {
                full: text.to_string(),
                dots: [catalog.len(), catalog.len() + 1 + schema.len()],
            }),
            _ => Err(format!(
                "{text:?} is no table: a name has three parts of letters, digits and underscores"
            )),
        }
    }
}
