//! From a place to a line that HTTP/2 is spoken on.
//!
//! Invariants:
//! - Whoever is on the other side has said its first word in HTTP/2 before a line counts as one: a server of
//!   another kind is found when a client connects, and not by its first rows, which would be in doubt.
//! - What can never pass (a certificate, a name, a protocol) is told apart from what may, and says what to
//!   change. What has passed once may pass again: a server that is being replaced is no mistake in a target.
//! - A peer that is gone is found by TCP's own means, without a question that a server counts.
//! - What a server says when it hangs up is kept ([`Farewell`]): the library drops it for calls that the server
//!   had begun, which then look like a line that was cut.
//!
//! It does not try again.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::uri::Authority;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tower::Service as _;

use super::farewell::{Farewell, Frames, WORD};
#[cfg(target_os = "linux")]
use super::nearby::UNTAKEN;
use super::nearby::{self, BETWEEN_PROBES, PROBES, SILENCE};
use super::status::Secrets;
use super::target::ServerAddress;
use crate::config::TlsOptions;
use crate::destination::tls::{self, Material};
use crate::error::{Code, Error, Result};

/// How a server is reached; each call makes another line.
pub struct Dial {
    address: ServerAddress,
    secured: Option<Secured>,
    /// Some line of this client was good before.
    met: bool,
    secrets: Secrets,
    /// Who waits for the first line's first word.
    first: Mutex<Option<GreetingSender>>,
    farewell: Arc<Farewell>,
}

struct Secured {
    connector: TlsConnector,
    name: ServerName<'static>,
    own_ca: bool,
}

type GreetingSender = oneshot::Sender<Result<()>>;
/// Hears the first word on the first line.
pub type Greeting = oneshot::Receiver<Result<()>>;

/// A line, as a socket, TLS over one, or a pipe of this machine.
trait Line: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

impl Dial {
    /// # Errors
    /// `CONFIG_INVALID` for certificates that are none.
    pub fn new(
        address: &ServerAddress,
        options: &TlsOptions,
        met: bool,
        secrets: Secrets,
        farewell: Arc<Farewell>,
    ) -> Result<(Dial, Greeting)> {
        let secured = match address {
            ServerAddress::Tcp { authority, tls: true } => Some(Secured::new(authority, options)?),
            _ => None,
        };
        let (told, greeting) = oneshot::channel();
        let dial = Dial {
            address: address.clone(),
            secured,
            met,
            secrets,
            first: Mutex::new(Some(told)),
            farewell,
        };
        Ok((dial, greeting))
    }

    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// # Errors
    /// `UNAVAILABLE` if nobody is there, `CONFIG_INVALID` for a server that no client of these options can
    /// ever talk to, unless one has: then it is `UNAVAILABLE`, too.
    pub async fn reach(&self) -> Result<TokioIo<Greeted>> {
        let line: Box<dyn Line> = match &self.address {
            ServerAddress::Tcp { authority, .. } => {
                let socket = connect(authority)
                    .await
                    .map_err(|error| self.unreachable(&error))?;
                match &self.secured {
                    None => Box::new(socket),
                    Some(secured) => self.secure(secured, socket).await?,
                }
            }
            #[cfg(unix)]
            ServerAddress::Unix { path } => {
                let socket = tokio::net::UnixStream::connect(path).await;
                Box::new(socket.map_err(|error| self.unreachable(&error))?)
            }
            #[cfg(not(unix))]
            ServerAddress::Unix { .. } => {
                let text = "this system has no sockets in its file system";
                return Err(Error::new(Code::Unsupported, text).during("connect"));
            }
        };
        let told = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        // That was another line's.
        self.farewell.set(None);
        Ok(TokioIo::new(Greeted {
            line,
            first: Some(First {
                word: Vec::with_capacity(WORD),
                met: self.met,
                told,
            }),
            frames: Frames::default(),
            farewell: Arc::clone(&self.farewell),
        }))
    }

    async fn secure(&self, secured: &Secured, socket: TcpStream) -> Result<Box<dyn Line>> {
        let shaken = secured.connector.connect(secured.name.clone(), socket).await;
        let line = shaken.map_err(|error| {
            let name = secured.name.to_str();
            match tls::explained(&error, &name, secured.own_ca) {
                Some(text) => never(text, self.met).caused_by(&error),
                None if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let text = "the server hung up in the TLS handshake: it may not speak TLS on this port";
                    Error::new(Code::Unavailable, text).during("connect")
                }
                None => self.unreachable(&error),
            }
        })?;
        if !tls::speaks_http2(line.get_ref().1.alpn_protocol()) {
            return Err(never(tls::NO_HTTP2, self.met));
        }
        Ok(Box::new(line))
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let why = self.secrets.chain(error);
        let text = format!("the server at {} cannot be reached: {why}", self.address);
        Error::new(Code::Unavailable, text).during("connect")
    }
}

impl Secured {
    fn new(authority: &str, options: &TlsOptions) -> Result<Secured> {
        let client = Material::read(options)?.client()?;
        let host = authority
            .parse::<Authority>()
            .map(|authority| authority.host().to_string());
        let host = host.unwrap_or_default();
        let name = options.server_name.as_deref().unwrap_or(&host);
        let name = name.trim_start_matches('[').trim_end_matches(']').to_string();
        let name = ServerName::try_from(name).map_err(|error| {
            let text =
                "the name of the server (tls.serverName, or the target's host) can be in no certificate";
            Error::new(Code::ConfigInvalid, text)
                .caused_by(&error)
                .during("connect")
        })?;
        Ok(Secured {
            connector: TlsConnector::from(Arc::new(client)),
            name,
            own_ca: options.ca.is_some(),
        })
    }
}

async fn connect(authority: &str) -> io::Result<TcpStream> {
    let parsed: Authority = authority.parse().map_err(io::Error::other)?;
    if nearby::is_nearby(authority) {
        return nearby::connect(parsed.host(), parsed.port_u16().unwrap_or_default()).await;
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(SILENCE));
    connector.set_keepalive_interval(Some(BETWEEN_PROBES));
    connector.set_keepalive_retries(Some(PROBES));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNTAKEN));
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(parsed)
        .path_and_query("/");
    let uri = uri.build().map_err(io::Error::other)?;
    let line = connector.call(uri).await.map_err(io::Error::other)?;
    Ok(line.into_inner())
}

/// What the same client will meet again, unless it has met something else there before.
fn never(text: impl Into<String>, met: bool) -> Error {
    let code = match met {
        true => Code::Unavailable,
        false => Code::ConfigInvalid,
    };
    Error::new(code, text).during("connect")
}

/// A line whose other side has to begin with HTTP/2.
pub struct Greeted {
    line: Box<dyn Line>,
    /// Until it has.
    first: Option<First>,
    frames: Frames,
    farewell: Arc<Farewell>,
}

/// What a server's first frame is.
const SETTINGS: u8 = 4;

struct First {
    word: Vec<u8>,
    met: bool,
    told: Option<GreetingSender>,
}

impl First {
    /// Takes what came. Whether that was all that has to be seen of it.
    fn hear(&mut self, bytes: &[u8]) -> Result<bool> {
        let wanted = WORD - self.word.len();
        self.word.extend_from_slice(&bytes[..bytes.len().min(wanted)]);
        match self.word.as_slice() {
            [_, _, _, SETTINGS, _, 0, 0, 0, 0] => Ok(true),
            word if word.len() < WORD && (word.len() < 4 || word[3] == SETTINGS) && word[0] == 0 => Ok(false),
            word if word.len() < WORD && b"HTTP/".starts_with(word) => Ok(false),
            word => Err(self.stranger(word)),
        }
    }

    fn stranger(&self, word: &[u8]) -> Error {
        let text = match word {
            [b'H', b'T', b'T', b'P', ..] => {
                "the server answers in HTTP/1 and gRPC needs HTTP/2: this is no port that gRPC is served on, or it wants TLS (grpc+tls:)"
            }
            // A record of TLS: an alert, or a handshake.
            [0x14..=0x17, 3, ..] => {
                "the server speaks TLS on this port and was talked to in plain text: use the scheme with TLS (grpc+tls:, flightsql+tls:, zerobus:)"
            }
            _ => "the server does not answer in HTTP/2: this is no port that gRPC is served on",
        };
        never(text, self.met)
    }

    fn tell(&mut self, word: Result<()>) {
        if let Some(told) = self.told.take() {
            // Nobody waits any more where the time was up.
            let _ = told.send(word);
        }
    }
}

impl Drop for Greeted {
    fn drop(&mut self) {
        self.farewell.end();
    }
}

impl AsyncRead for Greeted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.line).poll_read(context, buffer));
        if let Some(said) = this.frames.take(&buffer.filled()[before..]) {
            this.farewell.set(Some(said));
            this.farewell.end();
        }
        let Some(first) = &mut this.first else {
            return Poll::Ready(read);
        };
        let heard = match &read {
            Ok(()) if buffer.filled().len() == before => Err(Error::new(Code::Unavailable, HUNG_UP)),
            Ok(()) => first.hear(&buffer.filled()[before..]),
            // In TLS 1.3 a server refuses a client's certificate only now.
            Err(error) => Err(match tls::explained(error, "the server", false) {
                Some(text) => never(text, first.met),
                None => Error::new(Code::Unavailable, format!("{HUNG_UP} ({error})")),
            }),
        };
        match heard {
            Ok(false) => Poll::Ready(read),
            Ok(true) => {
                first.tell(Ok(()));
                this.first = None;
                Poll::Ready(read)
            }
            Err(error) => {
                let error = error.during("connect");
                first.tell(Err(error.clone()));
                Poll::Ready(Err(io::Error::other(error)))
            }
        }
    }
}

const HUNG_UP: &str = "the server took the connection and hung up before it said anything";

impl AsyncWrite for Greeted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().line).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().line).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.line.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().line).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().line).poll_shutdown(context)
    }
}
