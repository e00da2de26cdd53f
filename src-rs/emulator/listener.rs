//! One port for everything: HTTP/1.1 and HTTP/2, in plain text or in TLS.
//!
//! Invariants:
//! - A slow handshake holds up nobody: each has a task of its own.
//! - A connection can be cut from within, without a word to the other side ([`Link::cut`]).
//! - With TLS the port still answers plain HTTP, told apart by its first byte, because many HTTP clients
//!   cannot be given an authority; [`Link::is_secure`] lets the Flight endpoint refuse it.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

/// What a TLS handshake begins with.
const HANDSHAKE: u8 = 0x16;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// The server's side of TLS, and the authority that a client has to trust.
pub struct Authority {
    pub pem: String,
    acceptor: TlsAcceptor,
}

impl Authority {
    /// A new authority and a certificate for this machine.
    ///
    /// # Errors
    /// What the library for certificates says.
    pub fn new(host: &str) -> Result<Authority, Box<dyn std::error::Error + Send + Sync>> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // With one name for both, OpenSSL takes the server's certificate for signed by itself.
        authority
            .distinguished_name
            .push(DnType::CommonName, "arrow-ingest emulator authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut names = vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
        if !names.iter().any(|name| name == host) {
            names.push(host.into());
        }
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "arrow-ingest emulator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Authority {
            pem: authority.pem(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        })
    }
}

/// Connections that are ready to be served, until `stop` says otherwise; cut when `gone` does. The port is given back
/// when the task has ended.
pub fn incoming(
    listener: TcpListener,
    authority: Option<&Authority>,
    mut stop: watch::Receiver<bool>,
    gone: watch::Receiver<bool>,
) -> (impl Stream<Item = io::Result<Socket>> + use<>, JoinHandle<()>) {
    let port = Port(listener);
    let acceptor = authority.map(|authority| authority.acceptor.clone());
    let (ready, sockets) = mpsc::channel(64);
    let accepting = tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = port.0.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            // Too many open files, a client that is gone already: the next one may do.
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let (acceptor, ready, gone) = (acceptor.clone(), ready.clone(), gone.clone());
            tokio::spawn(async move {
                let shaken = tokio::time::timeout(HANDSHAKE_TIME, shake(stream, acceptor, gone)).await;
                if let Ok(Ok(socket)) = shaken {
                    let _ = ready.send(Ok(socket)).await;
                }
            });
        }
    });
    let incoming = futures::stream::unfold(sockets, |mut sockets| async move {
        let socket = sockets.recv().await?;
        Some((socket, sockets))
    });
    (incoming, accepting)
}

struct Port(TcpListener);

impl Drop for Port {
    fn drop(&mut self) {
        // Closing it is not enough: a program that the process is starting has it open, too, until it runs. Where
        // a socket cannot be told not to listen, that is an error.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

async fn shake(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    gone: watch::Receiver<bool>,
) -> io::Result<Socket> {
    // An acknowledgement is a small message; it must not wait for company.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        return Ok(Socket::new(Box::pin(stream), true, gone));
    };
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first == [HANDSHAKE] {
        Ok(Socket::new(Box::pin(acceptor.accept(stream).await?), true, gone))
    } else {
        Ok(Socket::new(Box::pin(stream), false, gone))
    }
}

trait Wire: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Wire for T {}

/// A connection as the server reads and writes it.
pub struct Socket {
    wire: Pin<Box<dyn Wire>>,
    link: Link,
    cut: BoxFuture<'static, ()>,
}

/// A handle on the connection that a request came over.
#[derive(Clone)]
pub struct Link {
    secure: bool,
    cut: watch::Sender<bool>,
    written: Arc<AtomicU64>,
}

impl Link {
    /// Whether it is as secure as the emulator was asked to be.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The other side sees the connection end, and hears nothing more.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

impl Socket {
    fn new(wire: Pin<Box<dyn Wire>>, secure: bool, mut gone: watch::Receiver<bool>) -> Socket {
        let (sender, mut receiver) = watch::channel(false);
        let link = Link {
            secure,
            cut: sender,
            written: Arc::default(),
        };
        let cutter = link.cut.clone();
        let cut = Box::pin(async move {
            tokio::select! {
                // The link is part of the socket, so the sender is there for as long as somebody asks.
                _ = receiver.wait_for(|cut| *cut) => {}
                _ = gone.wait_for(|gone| *gone) => {
                    cutter.send_replace(true);
                }
            }
        });
        Socket { wire, link, cut }
    }

    fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        *self.link.cut.borrow() || self.cut.as_mut().poll(context).is_ready()
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by a fault")
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(cut()));
        }
        self.wire.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(cut()));
        }
        let written = std::task::ready!(self.wire.as_mut().poll_write(context, bytes))?;
        self.link.written.fetch_add(written as u64, Ordering::AcqRel);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.as_mut().poll_shutdown(context)
    }
}

impl Connected for Socket {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        self.link.clone()
    }
}

/// The address as a client on this machine reaches it.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (std::net::Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}
