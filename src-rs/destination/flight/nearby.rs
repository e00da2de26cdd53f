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

use http::uri::Authority;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// Silence on a line after which TCP asks whether the other side is there,
pub const SILENCE: Duration = Duration::from_secs(60);
/// how often, and after how many questions the line is given up.
pub const BETWEEN_PROBES: Duration = Duration::from_secs(10);
pub const PROBES: u32 = 6;
/// How long the other side's system may leave bytes untaken, where the system can watch for that.
#[cfg(target_os = "linux")]
pub const UNTAKEN: Duration = Duration::from_secs(120);

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

/// Connects to a host and port, as they are in a URL.
///
/// # Errors
/// Those of the last address that was tried.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = lookup_host((host, port)).await?;
    reach_one(addresses).await
}

async fn reach_one(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut addresses = addresses.peekable();
    while let Some(address) = addresses.next() {
        let reached = match addresses.peek() {
            Some(_) => tokio::time::timeout(NEXT_ADDRESS, reach(address))
                .await
                .unwrap_or_else(|late| Err(late.into())),
            None => reach(address).await,
        };
        match reached {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn reach(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Before it is connected: what has paced once goes on with it.
    if address.ip().is_loopback() {
        do_not_pace(&socket);
    }
    socket.set_nodelay(true)?;
    stay_alive(&socket);
    socket.connect(address).await
}

/// A peer that is gone is found by TCP itself, which no server takes for too many questions.
fn stay_alive(socket: &TcpSocket) {
    let socket = socket2::SockRef::from(socket);
    let probes = socket2::TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(BETWEEN_PROBES);
    #[cfg(target_os = "linux")]
    let probes = probes.with_retries(PROBES);
    // A system that cannot do it has a connection all the same.
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNTAKEN));
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
        let port = server.local_addr().unwrap().port();
        let stream = connect("127.0.0.1", port).await.unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert!(!socket.tcp_congestion().unwrap().starts_with(b"bbr"));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNTAKEN));
        }
    }

    #[tokio::test]
    async fn one_address_after_the_other_is_tried() {
        let [closed, open] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [&closed, &open].map(|server| server.local_addr().unwrap());
        drop(closed);
        let stream = reach_one(addresses.into_iter()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        let error = reach_one(std::iter::empty()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        // Where there is no IPv6 this is an error, too, and no other kind of end.
        let nobody = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), addresses[0].port());
        assert!(reach_one([nobody].into_iter()).await.is_err());
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        drop(server);
        let error = connect("[127.0.0.1]", port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
