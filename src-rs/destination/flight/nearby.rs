//! Connections to a server on this machine.
//!
//! A congestion control that paces (BBR, the default of many kernels) spreads what is sent over time, so
//! that the queues of a network stay short. Between two processes of one machine there is no such queue:
//! the sender only sleeps and is woken again, which cost a third of the throughput and of the CPU time
//! (`specs/decisions/0004-loopback-is-not-paced.md`). Any other network is none of our business, and stays
//! as the system has it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// An address that has not answered by then, when there is another one, is given up: `localhost` may name one
/// of IPv6 that a firewall swallows.
const NEXT_ADDRESS: Duration = Duration::from_millis(300);

/// Whether a connection to it never leaves this machine, and this system may be one that paces.
pub fn is_nearby(authority: &str) -> bool {
    let is_here = |authority: Authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    };
    cfg!(target_os = "linux") && authority.parse().is_ok_and(is_here)
}

/// Connects to where `uri` says. `keep_alive`: as in the options, zero for none.
///
/// # Errors
/// Those of the last address that was tried.
pub async fn connect(uri: Uri, keep_alive: Duration) -> io::Result<TokioIo<TcpStream>> {
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    });
    let addresses = lookup_host((host, port)).await?;
    reach_one(addresses, keep_alive).await.map(TokioIo::new)
}

async fn reach_one(
    addresses: impl Iterator<Item = SocketAddr>,
    keep_alive: Duration,
) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut addresses = addresses.peekable();
    while let Some(address) = addresses.next() {
        let reached = match addresses.peek() {
            Some(_) => tokio::time::timeout(NEXT_ADDRESS, reach(address, keep_alive))
                .await
                .unwrap_or_else(|late| Err(late.into())),
            None => reach(address, keep_alive).await,
        };
        match reached {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn reach(address: SocketAddr, keep_alive: Duration) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Before it is connected: what has paced once goes on with it.
    if address.ip().is_loopback() {
        do_not_pace(&socket);
    }
    socket.set_nodelay(true)?;
    if keep_alive > Duration::ZERO {
        let options = socket2::TcpKeepalive::new().with_time(keep_alive);
        // Less than a second is more than the system offers; pings of HTTP/2 are as often as they should be.
        let _ = socket2::SockRef::from(&socket).set_tcp_keepalive(&options);
    }
    socket.connect(address).await
}

/// Where that cannot be told, the connection is as good as any other.
#[cfg(target_os = "linux")]
fn do_not_pace(socket: &TcpSocket) {
    let socket = socket2::SockRef::from(socket);
    let paces = socket.tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr"));
    if paces {
        // The one that every kernel has, and lets everybody choose.
        let _ = socket.set_tcp_congestion(b"reno");
    }
}

#[cfg(not(target_os = "linux"))]
fn do_not_pace(_: &TcpSocket) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn nearby_is_what_never_leaves_this_machine() {
        for near in [
            "localhost:1",
            "LocalHost:80",
            "127.0.0.1:1",
            "127.8.9.1:2",
            "[::1]:3",
        ] {
            assert!(is_nearby(near), "{near}");
        }
        for far in [
            "10.0.0.1:1",
            "example.com:1",
            "localhost.example.com:1",
            "[2001:db8::1]:1",
            "0.0.0.0:1",
            "",
        ] {
            assert!(!is_nearby(far), "{far}");
        }
    }

    #[tokio::test]
    async fn a_connection_on_this_machine_is_not_paced() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", server.local_addr().unwrap())
            .parse()
            .unwrap();
        let stream = connect(uri, Duration::from_secs(7)).await.unwrap().into_inner();
        assert!(stream.nodelay().unwrap());
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert!(!socket.tcp_congestion().unwrap().starts_with(b"bbr"));
    }

    #[tokio::test]
    async fn one_address_after_the_other_is_tried() {
        let [closed, open] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [&closed, &open].map(|server| server.local_addr().unwrap());
        drop(closed);
        let stream = reach_one(addresses.into_iter(), Duration::ZERO).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        let error = reach_one(std::iter::empty(), Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        // Where there is no IPv6 this is an error, too, and no other kind of end.
        let nobody = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), addresses[0].port());
        assert!(reach_one([nobody].into_iter(), Duration::ZERO).await.is_err());
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}", server.local_addr().unwrap())
            .parse()
            .unwrap();
        drop(server);
        let error = connect(uri, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
