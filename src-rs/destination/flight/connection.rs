//! One HTTP/2 connection to a Flight server, with the credentials that were agreed on.
//!
//! Invariants:
//! - Everything that runs for a connection ends with it: the tasks hold bytes of batches, and those
//!   must be let go of when the session is, even if the server has stopped reading.
//! - Headers are asked for at each connect, so a token is never older than its connection: one whose line is over
//!   is not used for another stream, although the library would dial again by itself.
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
use tonic::transport::{Channel, Endpoint};
use tonic::{Code as Grpc, Request, Status};

use super::dial::{Dial, Greeting};
use super::farewell::Farewell;
use super::status::{self, Secrets};
use super::target::ServerAddress;
use crate::config::{BasicAuth, Config, Secret, TlsOptions};
use crate::destination::tls;
use crate::error::{Code, Error, Result};
use crate::trace::TraceContext;

/// Handshakes answer in pieces; one that never ends would be gathered for ever.
const HANDSHAKE_ANSWERS: usize = 16;

/// A connection, with what goes along with every call. A clone is the same connection, and keeps it.
#[derive(Clone)]
pub struct Connection {
    pub channel: Channel,
    pub metadata: MetadataMap,
    trace: TraceContext,
    pub secrets: Secrets,
    pub farewell: Arc<Farewell>,
    /// Last, so that nobody is left to spawn when the tasks end.
    _tasks: Arc<Tasks>,
}

impl Connection {
    /// `silence`: after so much of it the server is asked whether it is there; zero never asks. `met`: this
    /// client has reached the server before.
    ///
    /// # Errors
    /// `UNAVAILABLE` if nobody answers, `CONFIG_INVALID` for certificates and headers that are none and, until
    /// it was met, for a server that speaks another protocol or has a certificate that is not accepted;
    /// `UNAUTHENTICATED` if the handshake is refused.
    pub async fn open(
        address: &ServerAddress,
        config: &Config,
        headers: &[(String, Secret)],
        silence: Duration,
        met: bool,
    ) -> Result<Connection> {
        let mut secrets = Secrets::default();
        for (name, value) in headers {
            match is_binary(name) {
                true => secrets.add_bytes(value.reveal().as_bytes()),
                false => secrets.add(value),
            }
        }
        if let Some(auth) = &config.flight.auth {
            secrets.add(&auth.password);
        }
        let tasks = Arc::new(Tasks::default());
        let patience = config.flight.connect_timeout;
        let endpoint = endpoint(address, silence)?.executor(Spawner(Arc::downgrade(&tasks)));
        let farewell: Arc<Farewell> = Arc::default();
        let (dial, greeting) = Dial::new(address, &config.tls, met, secrets.clone(), Arc::clone(&farewell))?;
        let channel = reach(endpoint, dial, greeting, patience, &secrets).await?;
        let mut connection = Connection {
            channel,
            metadata: metadata(headers)?,
            trace: config.trace.clone(),
            secrets,
            farewell,
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

    /// Whether a new stream needs another one.
    pub fn is_over(&self) -> bool {
        self.farewell.is_over()
    }

    /// The calls that are not `DoPut`.
    pub fn client(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel.clone())
    }

    /// A request that carries the headers.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.carried();
        request
    }

    /// What a call that begins now carries: the headers, and the user's trace unless they are one's own.
    pub fn carried(&self) -> MetadataMap {
        let mut carried = self.metadata.clone();
        for (name, value) in self.trace.headers() {
            if let Ok(value) = value.parse::<MetadataValue<Ascii>>()
                && !carried.contains_key(name)
            {
                carried.insert(name, value);
            }
        }
        carried
    }

    pub fn error(&self, status: &Status) -> Error {
        status::error_on(status, &self.secrets, &self.farewell)
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
            self.secrets.add_bytes(&token);
            let key = MetadataKey::<Binary>::from_static("auth-token-bin");
            let mut value = MetadataValue::<Binary>::from_bytes(&token);
            value.set_sensitive(true);
            self.metadata.insert_bin(key, value);
        }
        Ok(())
    }
}

/// Reaches a server, whoever else talks to it afterwards.
///
/// # Errors
/// As [`Connection::open`], but for credentials.
pub async fn meet(address: &ServerAddress, options: &TlsOptions, patience: Duration) -> Result<()> {
    let endpoint = endpoint(address, Duration::ZERO)?;
    let secrets = Secrets::default();
    let (dial, greeting) = Dial::new(address, options, false, secrets.clone(), Arc::default())?;
    reach(endpoint, dial, greeting, patience, &secrets)
        .await
        .map(|_| ())
}

async fn reach(
    endpoint: Endpoint,
    dial: Dial,
    greeting: Greeting,
    patience: Duration,
    secrets: &Secrets,
) -> Result<Channel> {
    let address = dial.address().to_string();
    let dial = Arc::new(dial);
    // The library dials again by itself where a server ends its connection in good order.
    let endpoint = endpoint.connect_timeout(patience);
    let connecting = async {
        let dialled = tower::service_fn(move |_| {
            let dial = Arc::clone(&dial);
            async move { dial.reach().await }
        });
        let channel = endpoint.connect_with_connector(dialled).await.map_err(|error| {
            // What dialling said, which the library hands on in wrappers of its own.
            tls::found::<Error>(&error).cloned().unwrap_or_else(|| {
                let why = secrets.chain(&error);
                let text = format!("the server at {address} cannot be reached: {why}");
                Error::new(Code::Unavailable, text)
            })
        })?;
        let broken = || Err(Error::new(Code::Unavailable, "the connection broke off at once"));
        greeting.await.unwrap_or_else(|_| broken()).map(|()| channel)
    };
    let late = |_| {
        let text = format!("the server at {address} did not answer within {patience:?}");
        Err(Error::new(Code::Unavailable, text))
    };
    let connected = tokio::time::timeout(patience, connecting)
        .await
        .unwrap_or_else(late);
    connected.map_err(|error| error.during("connect"))
}

/// Of the headers of one answer. A refusal carries its text in one, and a longer one than this would arrive
/// as a connection that broke.
pub const HEADERS: u32 = 1 << 20;

fn endpoint(address: &ServerAddress, silence: Duration) -> Result<Endpoint> {
    let nameless = |error: &(dyn std::error::Error + 'static)| {
        let error = Error::new(Code::ConfigInvalid, "the target names no server").caused_by(error);
        error.during("connect")
    };
    let invalid = |error: tonic::transport::Error| nameless(&error);
    // TLS is the line's affair: the library must not put another one around it.
    let uri = match address {
        ServerAddress::Tcp { authority, .. } => format!("http://{authority}"),
        ServerAddress::Unix { .. } => "http://localhost".into(),
    };
    let mut endpoint = Endpoint::from_shared(uri)
        .map_err(invalid)?
        .user_agent(concat!("arrow-ingest/", env!("CARGO_PKG_VERSION")))
        .map_err(invalid)?
        .http2_max_header_list_size(HEADERS);
    if let ServerAddress::Tcp { authority, tls: true } = address {
        let origin = http::Uri::builder().scheme("https").authority(authority.as_str());
        let origin = origin.path_and_query("/").build();
        let origin = origin.map_err(|error| nameless(&error))?;
        endpoint = endpoint.origin(origin);
    }
    if silence > Duration::ZERO {
        endpoint = endpoint
            .http2_keep_alive_interval(silence)
            .keep_alive_timeout(silence.min(Duration::from_secs(20)))
            // gRPC servers hang up on a client that pings without a call.
            .keep_alive_while_idle(false);
    }
    Ok(endpoint)
}

fn metadata(headers: &[(String, Secret)]) -> Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers {
        insert(&mut metadata, name, value)?;
    }
    Ok(metadata)
}

/// Whether a header's value goes as base64.
fn is_binary(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("-bin")
}

fn insert(metadata: &mut MetadataMap, name: &str, value: &Secret) -> Result<()> {
    let invalid = |what: &str| {
        let text = format!("the header {name:?} {what}");
        Error::new(Code::ConfigInvalid, text).during("connect")
    };
    let lower = name.to_ascii_lowercase();
    if is_binary(&lower) {
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
