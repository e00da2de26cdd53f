//! One HTTP/2 connection to a Flight server, with the credentials that were agreed on.
//!
//! Invariants:
//! - Everything that runs for a connection ends with it: the tasks hold bytes of batches, and those
//!   must be let go of when the session is, even if the server has stopped reading.
//! - Headers are asked for at each connect, so a token is never older than its connection.
//! - Proxies in the environment mean nothing here: what the target names is what is connected to.
//!
//! It sends no batches.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{BasicAuth as BasicAuthMessage, HandshakeRequest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, Binary, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code as Grpc, Request, Status};

use super::nearby;
use super::status::{self, Secrets};
use super::target::Place;
use crate::config::{BasicAuth, Config, Secret, Tls};
use crate::error::{Code, Error, Result};

/// Handshakes answer in pieces; one that never ends would be gathered for ever.
const HANDSHAKE_ANSWERS: usize = 16;

/// A connection, with what goes along with every call. A clone is the same connection, and keeps it.
#[derive(Clone)]
pub struct Connection {
    pub channel: Channel,
    pub metadata: MetadataMap,
    pub secrets: Secrets,
    /// Last, so that nobody is left to spawn when the tasks end.
    _tasks: Arc<Tasks>,
}

impl Connection {
    /// # Errors
    /// `UNAVAILABLE` if nobody answers, `CONFIG_INVALID` for certificates and headers that are none,
    /// `UNAUTHENTICATED` if the handshake is refused.
    pub async fn open(place: &Place, config: &Config, headers: &[(String, Secret)]) -> Result<Connection> {
        let mut secrets = Secrets::default();
        for (_, value) in headers {
            secrets.add(value);
        }
        if let Some(auth) = &config.flight.auth {
            secrets.add(&auth.password);
        }
        let tasks = Arc::new(Tasks::default());
        let endpoint = endpoint(place, config)?.executor(Spawner(Arc::downgrade(&tasks)));
        let patience = config.flight.connect_timeout;
        let connecting = async {
            match place {
                Place::Tcp { authority, .. } if nearby::is_nearby(authority) => {
                    let keep_alive = config.flight.keep_alive;
                    let connector = tower::service_fn(move |uri| nearby::connect(uri, keep_alive));
                    endpoint.connect_with_connector(connector).await
                }
                _ => endpoint.connect().await,
            }
        };
        let channel = match tokio::time::timeout(patience, connecting).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => {
                let text = format!("the server cannot be reached: {}", secrets.chain(&error));
                return Err(Error::new(Code::Unavailable, text).during("connect"));
            }
            Err(_) => {
                let text = format!("the server did not answer within {patience:?}");
                return Err(Error::new(Code::Unavailable, text).during("connect"));
            }
        };
        let mut connection = Connection {
            channel,
            metadata: metadata(headers)?,
            secrets,
            _tasks: tasks,
        };
        if let Some(auth) = &config.flight.auth {
            let handshake = connection.handshake(auth);
            match tokio::time::timeout(patience, handshake).await {
                Ok(done) => done?,
                Err(_) => {
                    let text = format!("the handshake was not answered within {patience:?}");
                    return Err(Error::new(Code::Unavailable, text).during("handshake"));
                }
            }
        }
        Ok(connection)
    }

    /// The calls that are not `DoPut`.
    pub fn client(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel.clone())
    }

    /// A request that carries the headers.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }

    pub fn error(&self, status: &Status) -> Error {
        status::error(status, &self.secrets)
    }

    /// Both ways in which Flight servers take a name and a password: as a header that is answered by a
    /// header, and as a message that is answered by a token.
    async fn handshake(&mut self, auth: &BasicAuth) -> Result<()> {
        let message = BasicAuthMessage {
            username: auth.username.clone(),
            password: auth.password.reveal().to_string(),
        };
        let payload = message.encode_to_vec().into();
        let hello = HandshakeRequest {
            protocol_version: 0,
            payload,
        };
        let mut request = self.request(futures::stream::iter([hello]));
        let plain = format!("{}:{}", auth.username, auth.password.reveal());
        let basic = Secret::new(format!("Basic {}", BASE64_STANDARD.encode(plain)));
        self.secrets.add(&basic);
        insert(request.metadata_mut(), "authorization", &basic)?;
        let response = match self.client().handshake(request).await {
            Ok(response) => response,
            // The server has no handshake: it looks at the header of each call.
            Err(status) if status.code() == Grpc::Unimplemented => {
                return insert(&mut self.metadata, "authorization", &basic);
            }
            Err(status) => return Err(self.error(&status).during("handshake")),
        };
        if let Some(value) = response.metadata().get("authorization") {
            let bearer = value.to_str().unwrap_or_default();
            let bearer = Secret::new(bearer);
            self.secrets.add(&bearer);
            return insert(&mut self.metadata, "authorization", &bearer);
        }
        let mut token = Vec::new();
        let mut answers = response.into_inner();
        for _ in 0..HANDSHAKE_ANSWERS {
            match answers.message().await {
                Ok(Some(answer)) if !answer.payload.is_empty() => token = answer.payload.to_vec(),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(status) if status.code() == Grpc::Unimplemented => {
                    return insert(&mut self.metadata, "authorization", &basic);
                }
                Err(status) => return Err(self.error(&status).during("handshake")),
            }
        }
        if !token.is_empty() {
            let key = MetadataKey::<Binary>::from_static("auth-token-bin");
            let mut value = MetadataValue::<Binary>::from_bytes(&token);
            value.set_sensitive(true);
            self.metadata.insert_bin(key, value);
        }
        Ok(())
    }
}

fn endpoint(place: &Place, config: &Config) -> Result<Endpoint> {
    let flight = &config.flight;
    let invalid = |error: tonic::transport::Error| {
        Error::new(Code::ConfigInvalid, "the target names no server")
            .caused_by(&error)
            .during("connect")
    };
    let uri = match place {
        Place::Tcp {
            authority,
            tls: false,
        } => format!("http://{authority}"),
        Place::Tcp { authority, tls: true } => format!("https://{authority}"),
        Place::Unix { path } => format!("unix://{path}"),
    };
    let mut endpoint = Endpoint::from_shared(uri)
        .map_err(invalid)?
        .user_agent(concat!("arrow-ingest/", env!("CARGO_PKG_VERSION")))
        .map_err(invalid)?
        .connect_timeout(flight.connect_timeout)
        .tcp_nodelay(true);
    if flight.keep_alive > Duration::ZERO {
        endpoint = endpoint
            .tcp_keepalive(Some(flight.keep_alive))
            .http2_keep_alive_interval(flight.keep_alive)
            .keep_alive_timeout(flight.keep_alive.min(Duration::from_secs(20)))
            // gRPC servers hang up on a client that pings without a call.
            .keep_alive_while_idle(false);
    }
    if let Place::Tcp { tls: true, .. } = place {
        crate::destination::install_crypto();
        endpoint = endpoint.tls_config(tls(&config.tls)?).map_err(|error| {
            Error::new(Code::ConfigInvalid, "the certificates cannot be used")
                .caused_by(&error)
                .during("connect")
        })?;
    }
    Ok(endpoint)
}

/// # Errors
/// `CONFIG_INVALID` for what is neither PEM nor a file of it.
pub fn tls(options: &Tls) -> Result<ClientTlsConfig> {
    let mut tls = ClientTlsConfig::new().with_enabled_roots();
    if let Some(ca) = &options.ca {
        tls = tls.ca_certificate(Certificate::from_pem(pem(ca, "tls.ca")?));
    }
    if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
        tls = tls.identity(Identity::from_pem(
            pem(cert, "tls.cert")?,
            pem(key.reveal(), "tls.key")?,
        ));
    }
    if let Some(name) = &options.server_name {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

/// The text itself, or of the file that it names.
///
/// # Errors
/// `CONFIG_INVALID` for what is neither.
pub fn pem(given: &str, option: &str) -> Result<Vec<u8>> {
    if given.trim_start().starts_with("-----BEGIN") {
        return Ok(given.as_bytes().to_vec());
    }
    std::fs::read(given).map_err(|error| {
        // What was given is not quoted: it may be a key without its first line.
        let text = format!("{option} is neither PEM nor a file that can be read");
        Error::new(Code::ConfigInvalid, text)
            .caused_by(&error)
            .during("connect")
    })
}

fn metadata(headers: &[(String, Secret)]) -> Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers {
        insert(&mut metadata, name, value)?;
    }
    Ok(metadata)
}

fn insert(metadata: &mut MetadataMap, name: &str, value: &Secret) -> Result<()> {
    let invalid = |what: &str| {
        let text = format!("the header {name:?} {what}");
        Error::new(Code::ConfigInvalid, text).during("connect")
    };
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("grpc-") || lower == "content-type" || lower == "te" {
        return Err(invalid("is gRPC's own"));
    }
    if lower.ends_with("-bin") {
        let key =
            MetadataKey::<Binary>::from_bytes(lower.as_bytes()).map_err(|_| invalid("has no valid name"))?;
        let mut value = MetadataValue::<Binary>::from_bytes(value.reveal().as_bytes());
        value.set_sensitive(true);
        metadata.insert_bin(key, value);
        return Ok(());
    }
    let key = MetadataKey::<Ascii>::from_bytes(lower.as_bytes()).map_err(|_| invalid("has no valid name"))?;
    let mut value: MetadataValue<Ascii> = value
        .reveal()
        .parse()
        .map_err(|_| invalid("has a value that is not visible ASCII"))?;
    value.set_sensitive(true);
    metadata.insert(key, value);
    Ok(())
}

/// The tasks of one connection; aborted when it is dropped.
#[derive(Default)]
struct Tasks(Mutex<JoinSet<()>>);

/// Spawns into the tasks of a connection. Weak, because the tasks hold it: they would keep themselves
/// alive.
struct Spawner(Weak<Tasks>);

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

impl hyper::rt::Executor<Job> for Spawner {
    fn execute(&self, job: Job) {
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = tasks.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each stream is a task: without this a connection of months keeps all that ever were.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(job);
    }
}
