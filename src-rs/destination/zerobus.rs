//! `zerobus:` streams batches into Databricks tables through the official crate.
//!
//! How rows get there: the target says which workspace and which table ([`target`]); credentials are a token or
//! headers ([`credentials`], [`token`]); the stream's schema is the user's, Unity Catalog's ([`catalog`])
//! or the batches' own ([`types`]). Each write is brought into that schema ([`normalise`], [`prepare`])
//! and goes onto a stream, whose acknowledgements are counted in rows ([`session`], [`progress`]).
//!
//! Invariants:
//! - Retry, order and replay are the transmitter's: the crate's own recovery is off.
//! - Rows are durable when the service has acknowledged them; a write may be acknowledged in parts, by rows.
//! - Rows beyond the limits of the service are found before anything is sent ([`limits`]).
//! - Where credentials come from is decided when the client connects: only then is the environment read for them.
//!   `config` reads no environment variable, so this module does, as `delta/storage.rs` does for object stores.
//!
//! The protocol cannot say what landed: a write whose acknowledgement was lost is sent again.

mod catalog;
mod credentials;
mod errors;
mod expansion;
mod http;
pub(crate) mod limits;
mod matching;
pub(crate) mod normalise;
mod prepare;
mod progress;
mod session;
mod target;
#[cfg(test)]
#[path = "../../tests/rs/zerobus/units.rs"]
mod tests;
mod token;
pub(crate) mod types;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_ipc::CompressionType;
use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{TlsConfig, ZerobusArrowStream, ZerobusError, ZerobusResult, ZerobusSdk};
use tonic::transport::{ClientTlsConfig, Endpoint};

use self::catalog::SchemaAnswer;
use self::credentials::{Credentials, Granted};
use self::http::Http;
use self::normalise::StreamConversion;
use self::session::{Rotations, WatcherContext, ZerobusSession};
use self::target::ZerobusTarget;
use self::token::TokenScope;
use super::flight::{connection, nearby};
use super::tls::Material;
use super::{Acknowledgements, Capabilities, Destination, Opened, Opening};
use crate::config::{Compression, Config};
use crate::error::{Error, Result};
use crate::handoff::can_own;

/// The crate gives up waiting for an acknowledgement after this. What is stuck is found by
/// `zerobus.acknowledgementTimeout` long before.
const FOR_EVER: Duration = Duration::from_secs(366 * 24 * 3600);

pub struct Zerobus {
    /// No proxy of the environment stands before the server.
    direct: bool,
    target: ZerobusTarget,
    config: Config,
    sdk: ZerobusSdk,
    credentials: Arc<Credentials>,
    catalog: Option<Http>,
    /// The user's own word on the schema.
    expected: Mutex<Option<SchemaRef>>,
    /// What Unity Catalog said the last time.
    told: Mutex<Option<SchemaAnswer>>,
    rotations: Arc<Rotations>,
    /// The service was reached once.
    met: AtomicBool,
}

/// What the official crate looks for a proxy in.
const PROXIES: [&str; 6] = [
    "grpc_proxy",
    "GRPC_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
];

/// The schema of a stream.
struct StreamSchema {
    schema: SchemaRef,
    /// Where it came from, in words that follow "the stream's schema".
    is: String,
    /// Unity Catalog said so a while ago, and may say otherwise now.
    may_be_old: bool,
}

/// Whether this scheme is one of Zerobus's.
pub fn answers_to(scheme: &str) -> bool {
    target::SCHEMES.contains(&scheme)
}

/// # Errors
/// `CONFIG_INVALID` for a target that means nothing.
pub fn validate(target: &str, config: &Config) -> Result<()> {
    ZerobusTarget::parse(target, config).map(|_| ())
}

impl Zerobus {
    /// Gets a token, asks Unity Catalog for the table, and meets the service where no proxy is in between.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for a target, certificates or credentials that mean nothing or are missing, and for a
    /// server that has another certificate or speaks another protocol; `UNAUTHENTICATED`,
    /// `PERMISSION_DENIED`, `UNAVAILABLE` as the workspace says.
    pub async fn connect(target: &str, config: &Config) -> Result<Zerobus> {
        Zerobus::connect_in(target, config, |name| std::env::var(name).ok()).await
    }

    async fn connect_in(
        target: &str,
        config: &Config,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Zerobus> {
        let zerobus = Zerobus::new_in(target, config, environment)?;
        zerobus.reach().await?;
        Ok(zerobus)
    }

    /// Reaches for nothing.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn new(target: &str, config: &Config) -> Result<Zerobus> {
        Zerobus::new_in(target, config, |name| std::env::var(name).ok())
    }

    fn new_in(
        target: &str,
        config: &Config,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Zerobus> {
        let target = ZerobusTarget::parse(target, config)?;
        let is_set = |name: &&str| environment(name).is_some_and(|value| !value.is_empty());
        let direct = target.loopback || !PROXIES.iter().any(is_set);
        let (credentials, catalog) = Credentials::new(&target, config, environment)?;
        Ok(Zerobus {
            direct,
            sdk: sdk(&target, config)?,
            target,
            config: config.clone(),
            credentials: Arc::new(credentials),
            catalog,
            expected: Mutex::default(),
            told: Mutex::default(),
            rotations: Arc::default(),
            met: AtomicBool::default(),
        })
    }

    /// Tries the credentials, the catalog and the server once.
    ///
    /// # Errors
    /// As [`Zerobus::connect`].
    pub async fn reach(&self) -> Result<()> {
        self.credentials.ask(TokenScope::Write).await?;
        self.ask_catalog().await?;
        if self.direct {
            let patience = self.config.zerobus.connect_timeout;
            connection::meet(&self.target.address, &self.config.tls, patience).await?;
            self.met.store(true, Ordering::Release);
        }
        Ok(())
    }

    async fn ask_catalog(&self) -> Result<Option<SchemaAnswer>> {
        let Some(http) = &self.catalog else {
            return Ok(None);
        };
        let told = catalog::ask(http, &self.credentials, &self.target.table).await?;
        *lock(&self.told) = Some(told.clone());
        Ok(Some(told))
    }

    /// The schema that a stream for batches of `given` is to have.
    async fn wanted(&self, given: Option<&SchemaRef>) -> Result<Option<StreamSchema>> {
        let expected = lock(&self.expected).clone();
        if let Some(expected) = expected {
            return Ok(Some(StreamSchema {
                schema: Arc::new(types::on_the_wire(&expected)?),
                is: "is the one that connect was given".into(),
                may_be_old: false,
            }));
        }
        let kept = lock(&self.told).clone();
        let may_be_old = kept.is_some();
        let told = match kept {
            Some(told) => Some(told),
            None => self.ask_catalog().await?,
        };
        let why = match told {
            Some(Ok(schema)) => {
                return Ok(Some(StreamSchema {
                    schema,
                    is: "is Unity Catalog's".into(),
                    may_be_old,
                }));
            }
            Some(Err(why)) => why,
            None => "zerobus.unityCatalogUrl is not given".into(),
        };
        let Some(given) = given else { return Ok(None) };
        Ok(Some(StreamSchema {
            schema: Arc::new(types::on_the_wire(given)?),
            is: format!("is the first batch's, because {why}"),
            may_be_old,
        }))
    }

    /// A stream, tried once more if what it was tried with may be out of date.
    async fn stream(&self, given: Option<&SchemaRef>) -> Result<Option<Streaming>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let Some(wanted) = self.wanted(given).await? else {
                return Ok(None);
            };
            let again = wanted.may_be_old && tries == 1;
            let plan = limits::check_schema(&wanted.schema)
                .and_then(|()| StreamConversion::new(given.unwrap_or(&wanted.schema), &wanted.schema));
            let plan = match plan {
                Ok(plan) => plan,
                Err(_) if again => {
                    *lock(&self.told) = None;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut granted = self.credentials.ask(TokenScope::Write).await?;
            granted.carry(&self.config.trace);
            let error = match self.build(&wanted.schema, &granted).await {
                Ok(stream) => {
                    self.met.store(true, Ordering::Release);
                    return Ok(Some(Streaming {
                        stream,
                        plan,
                        wanted,
                        granted,
                    }));
                }
                Err(error) => error,
            };
            if errors::is_of_credentials(&error) {
                self.credentials.refused(TokenScope::Write, &granted).await;
                if tries == 1 && !granted.fresh {
                    continue;
                }
            }
            if matches!(error, ZerobusError::InvalidSchema { .. }) && again {
                *lock(&self.told) = None;
                continue;
            }
            let (acknowledgements, _) = Acknowledgements::channel();
            return Err(self.shared(acknowledgements, &wanted, &granted).told(&error));
        }
    }

    async fn build(&self, schema: &SchemaRef, granted: &Granted) -> ZerobusResult<ZerobusArrowStream> {
        let options = &self.config.zerobus;
        self.sdk
            .stream_builder()
            .table(self.target.table.to_string())
            .headers_provider(granted.provider())
            .arrow(Arc::clone(schema))
            .recovery(false)
            .recovery_timeout_ms(millis(options.connect_timeout))
            .connection_timeout_ms(millis(options.connect_timeout))
            .server_lack_of_ack_timeout_ms(millis(options.acknowledgement_timeout))
            .flush_timeout_ms(millis(FOR_EVER))
            .max_inflight_batches(options.max_inflight_batches)
            .ipc_compression(match options.compression {
                Compression::Zstd => Some(CompressionType::ZSTD),
                Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
                Compression::None | Compression::Snappy => None,
            })
            .build_arrow()
            .await
    }

    fn shared(
        &self,
        acknowledgements: Acknowledgements,
        wanted: &StreamSchema,
        granted: &Granted,
    ) -> WatcherContext {
        WatcherContext::new(
            acknowledgements,
            Arc::clone(&self.rotations),
            granted.secrets.clone(),
            Arc::clone(&wanted.schema),
            wanted.is.clone(),
            self.config.zerobus.pause,
            self.config.zerobus.atomic_refusals,
            self.credentials.on_refusal(granted),
            errors::Server {
                address: self.target.address.clone(),
                name: self.config.tls.server_name.clone(),
                own_ca: self.config.tls.ca.is_some(),
                met: self.met.load(Ordering::Acquire),
            },
        )
    }
}

/// A stream that is open, and what it was opened with.
struct Streaming {
    stream: ZerobusArrowStream,
    plan: StreamConversion,
    wanted: StreamSchema,
    granted: Granted,
}

#[async_trait]
impl Destination for Zerobus {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "zerobus",
            tells_what_landed: false,
            refusals_are_atomic: self.config.zerobus.atomic_refusals,
            joins: false,
        }
    }

    /// Casts work on copies of their columns, as far as those can be copied one by one.
    fn computes_on(&self, schema: &Schema) -> bool {
        let one_by_one = schema.fields().iter().all(|field| can_own(field.data_type()));
        self.config.zerobus.compression != Compression::None || !one_by_one
    }

    fn expect(&self, schema: &SchemaRef) {
        *lock(&self.expected) = Some(Arc::clone(schema));
    }

    /// Unity Catalog's. What it does not tell for good is not known.
    async fn schema(&self) -> Result<Option<SchemaRef>> {
        let told = self.ask_catalog().await.map_err(|error| error.during("schema"))?;
        Ok(told.and_then(std::result::Result::ok))
    }

    async fn check(&self) -> Result<()> {
        self.credentials.ask(TokenScope::Write).await.map_err(checking)?;
        self.ask_catalog().await.map_err(checking)?;
        // Without rows a stream leaves nothing behind. Without a schema there is none to be had.
        if let Some(mut streaming) = self.stream(None).await.map_err(checking)? {
            let _ = streaming.stream.close().await;
        }
        Ok(())
    }

    async fn open(&self, opening: Opening) -> Result<Opened> {
        let streaming = self.stream(Some(&opening.schema)).await;
        let Some(streaming) = streaming.map_err(|error| error.during("open"))? else {
            return Err(target::invalid("no schema is known"));
        };
        let shared = self.shared(opening.acknowledgements, &streaming.wanted, &streaming.granted);
        let session = ZerobusSession::new(
            streaming.stream,
            streaming.plan,
            shared,
            self.config.quarantine.enabled,
        );
        Ok(Opened {
            session: Box::new(session),
            landed: Vec::new(),
            conclusive: true,
        })
    }
}

fn checking(error: Error) -> Error {
    error.during("check")
}

/// How the crate reaches the service.
struct Wire(Option<ClientTlsConfig>);

impl TlsConfig for Wire {
    fn configure_endpoint(&self, endpoint: Endpoint) -> ZerobusResult<Endpoint> {
        let endpoint = endpoint
            .tcp_nodelay(true)
            .tcp_keepalive(Some(nearby::SILENCE))
            .tcp_keepalive_interval(Some(nearby::BETWEEN_PROBES))
            .tcp_keepalive_retries(Some(nearby::PROBES))
            .http2_max_header_list_size(connection::HEADERS);
        match &self.0 {
            None => Ok(endpoint),
            Some(tls) => endpoint
                .tls_config(tls.clone())
                .map_err(|_| ZerobusError::FailedToEstablishTlsConnectionError),
        }
    }
}

fn sdk(target: &ZerobusTarget, config: &Config) -> Result<ZerobusSdk> {
    let tls = match target.tls {
        true => Some(Material::read(&config.tls)?.tonic()?),
        false => None,
    };
    let mut builder = ZerobusSdk::builder()
        .endpoint(&target.endpoint)
        .tls_config(Arc::new(Wire(tls)))
        .application_name(concat!("arrow-ingest/", env!("CARGO_PKG_VERSION")));
    if target.loopback {
        // Proxies of the environment would be asked for a way to this machine.
        builder = builder.connector_factory(Arc::new(|_| None));
    }
    builder
        .build()
        .map_err(|error| target::invalid("the target cannot be used").caused_by(&error))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
