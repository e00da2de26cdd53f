//! Reaching a server: credentials, headers, time-outs, options.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow_ingest::callbacks::{HeaderProvider, HeadersReason};
use arrow_ingest::config::Config;
use arrow_ingest::destination;
use arrow_ingest::destination::Destination as _;
use arrow_ingest::destination::flight::Flight;
use arrow_ingest::error::{Code, Result};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::Status;

use crate::support::{Answers, Login, Server, Writer, config, numbers};

#[tokio::test]
async fn both_kinds_of_handshake_and_none() {
    for login in [Login::Header, Login::Token, Login::EveryCall] {
        let server = Server::start(Answers::Nothing).await;
        server.world().login = Some(login);
        let good = json!({"flight": {"auth": {"username": "u", "password": "secret"}}});
        let flight = server.connect(good).await;
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        writer.write(1, vec![numbers(0..3)]).await.unwrap();
        writer.session.flush().await.unwrap();
        assert_eq!(server.values(), [0, 1, 2]);
        let bad = config(json!({"flight": {"auth": {"username": "u", "password": "guess1"}}}));
        let error = Flight::connect(&server.target(), &bad).await.err().unwrap();
        assert_eq!(error.code(), Code::Unauthenticated, "{login:?}");
        assert!(!error.message().contains("guess1"), "{error}");
    }
}

/// what the server gave in the handshake is as secret as what it was given.
#[tokio::test]
async fn the_token_of_a_handshake_is_in_no_error() {
    for (login, quoted) in [
        (Login::Header, "Bearer t0ken has expired"),
        (Login::Token, "t0ken (dDBrZW4=, dDBrZW4) has expired"),
    ] {
        let server = Server::start(Answers::Nothing).await;
        server.world().login = Some(login);
        let options = json!({"flight": {"auth": {"username": "u", "password": "secret"}}});
        let flight = server.connect(options).await;
        server.world().at_once.push_back(Status::unauthenticated(quoted));
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        writer.write(1, vec![numbers(0..3)]).await.unwrap();
        let error = writer.broken().await;
        assert!(error.message().contains("has expired"), "{error}");
        for secret in ["t0ken", "dDBrZW4"] {
            assert!(!error.message().contains(secret), "{error}");
        }
    }
}

struct Tokens {
    asked: AtomicUsize,
    reasons: std::sync::Mutex<Vec<HeadersReason>>,
}

#[async_trait::async_trait]
impl HeaderProvider for Tokens {
    async fn headers(&self, reason: HeadersReason) -> Result<Vec<(String, String)>> {
        self.reasons.lock().unwrap().push(reason);
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let token = if turn == 2 { "stale" } else { "t0ken" };
        Ok(vec![("Authorization".into(), format!("Bearer {token}"))])
    }
}

#[tokio::test]
async fn a_provider_is_asked_at_each_connect_and_told_when_its_word_was_refused() {
    let server = Server::start(Answers::Nothing).await;
    server.world().login = Some(Login::Header);
    let tokens = Arc::new(Tokens {
        asked: AtomicUsize::new(0),
        reasons: Default::default(),
    });
    let mut options: Config = config(json!({"headers": {"x-team": "ice", "trace-bin": "abc"}}));
    options.header_provider = Some(tokens.clone());
    let flight = Flight::connect(&server.target(), &options).await.unwrap();
    for turn in 0..3 {
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        let wrote = async {
            writer.write(1, vec![numbers([turn])]).await?;
            writer.session.flush().await
        };
        assert_eq!(wrote.await.is_ok(), turn != 1, "{turn}");
        if turn == 1 {
            assert_eq!(writer.broken().await.code(), Code::Unauthenticated);
        }
    }
    use HeadersReason::{Connect, Unauthenticated};
    assert_eq!(
        *tokens.reasons.lock().unwrap(),
        [Connect, Connect, Connect, Unauthenticated]
    );
    assert_eq!(server.values(), [0, 2]);
    let world = server.world();
    assert!(
        world
            .headers
            .iter()
            .all(|headers| headers.get("x-team").unwrap() == "ice")
    );
    assert!(
        world
            .headers
            .iter()
            .all(|headers| headers.get_bin("trace-bin").unwrap().to_bytes().unwrap() == "abc")
    );
}

/// Before anything is connected to, and for every destination: the options say so, not the destination.
#[test]
fn headers_that_cannot_be_sent_are_refused_by_name() {
    for (name, value, word) in [
        ("grpc-timeout", "1S", "the protocol's own"),
        ("te", "x", "the protocol's own"),
        ("Content-Length", "1", "the protocol's own"),
        ("host", "x", "the protocol's own"),
        ("connection", "close", "the protocol's own"),
        ("spa ce", "x", "cannot be the name"),
        ("bad bin-bin", "x", "cannot be the name"),
        ("x", "t0ken ünïcode", "visible ASCII"),
        ("x", "t0ken\u{7f}", "visible ASCII"),
        ("authorization", "Bearer t0ken\n", "line break"),
        ("authorization", "\u{feff}Bearer t0ken", "byte order mark"),
    ] {
        let error = Config::from_json(&json!({"headers": {name: value}})).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert_eq!(error.issues()[0].path, format!("headers.{name}"));
        assert!(error.message().contains(word), "{error}");
        assert!(!error.message().contains("t0ken"), "{error}");
    }
    config(json!({"headers": {"x-bytes-bin": "ünïcode", "x-empty": "", "x-tilde": "~ !"}}));
}

struct Gives(&'static str, &'static str);

#[async_trait::async_trait]
impl HeaderProvider for Gives {
    async fn headers(&self, _: HeadersReason) -> Result<Vec<(String, String)>> {
        Ok(vec![(self.0.into(), self.1.into())])
    }
}

#[tokio::test]
async fn headers_that_a_provider_gives_are_held_to_the_same() {
    let server = Server::start(Answers::Nothing).await;
    for (name, value, word) in [
        ("te", "t0ken", "\"te\""),
        ("authorization", "t0ken\r\n", "line break"),
        ("t0ken t0ken", "x", "a header that the provider gave"),
    ] {
        let mut options = config(json!({}));
        options.header_provider = Some(Arc::new(Gives(name, value)));
        let error = Flight::connect(&server.target(), &options).await.err().unwrap();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.message().contains(word), "{error}");
        assert!(!error.message().contains("t0ken"), "{error}");
    }
}

#[tokio::test]
async fn check_says_what_the_server_says_of_credentials_and_nothing_else() {
    let server = Server::start(Answers::Nothing).await;
    let flight = server.connect(json!({})).await;
    for (status, code) in [
        (Status::permission_denied("no"), Some(Code::PermissionDenied)),
        (Status::unauthenticated("no"), Some(Code::Unauthenticated)),
        (Status::unavailable("no"), Some(Code::Unavailable)),
        (Status::not_found("no"), None),
        (Status::unknown("no"), None),
    ] {
        server.world().schema_says = Some(status);
        assert_eq!(flight.check().await.err().map(|error| error.code()), code);
    }
    server.world().silent = true;
    let hasty = config(json!({"flight": {"connectTimeout": "200ms"}}));
    let error = Flight::connect(&server.target(), &hasty).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn nobody_there_and_somebody_who_says_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let options = config(
        json!({"flight": {"connectTimeout": "300ms", "auth": {"username": "u", "password": "secret"}}}),
    );
    let start = Instant::now();
    let error = Flight::connect(&format!("grpc://{address}/a"), &options)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(taken);
    let error = Flight::connect(&format!("grpc://{address}/a"), &options)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    let error = Flight::connect("grpc+unix:///nowhere/at.all", &options)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_nothing_to_us() {
    // Set for the whole process, and harmless: nothing in this crate may look at it.
    // SAFETY: no other thread of this test reads the environment through anything but std.
    unsafe {
        std::env::set_var("http_proxy", "http://127.0.0.1:9");
        std::env::set_var("HTTP_PROXY", "http://127.0.0.1:9");
    }
    let server = Server::start(Answers::Nothing).await;
    server.connect(json!({})).await;
}

#[tokio::test]
async fn targets_reach_flight_by_their_scheme() {
    let server = Server::start(Answers::Nothing).await;
    let options = Config::default();
    assert!(destination::validate(&server.target(), &options).is_ok());
    assert!(destination::validate("grpc://u:p@h:1/a", &options).is_err());
    let reached = destination::connect(&server.target(), &options).await.unwrap();
    assert_eq!(reached.capabilities().name, "flight");
    let error = destination::connect("gopher://h", &options).await.err().unwrap();
    assert!(error.message().contains("grpc://"));
}

#[test]
fn options_of_flight_are_read_and_mistakes_are_named() {
    let read = config(json!({
        "flight": {"descriptor": {"path": ["x"]}, "keepAlive": 0, "atomicRefusals": true},
        "tls": {"ca": "-----BEGIN", "cert": "c", "key": "k", "serverName": "s"},
        "headers": {"authorization": "Bearer hidden-token"},
    }));
    assert!(read.flight.atomic_refusals && read.flight.keep_alive.is_zero());
    assert_eq!(read.tls.server_name.as_deref(), Some("s"));
    assert!(!format!("{read:?}").contains("hidden-token"));
    let error = Config::from_json(&json!({
        "flight": {
            "descriptor": {"command": "a", "path": ["b"]},
            "compression": "snappy",
            "auth": {"password": "p"},
            "maxMessageSize": 5,
            "stream": 2,
        },
        "tls": {"cert": 7, "key": "k"},
    }))
    .unwrap_err();
    let paths: Vec<&str> = error.issues().iter().map(|issue| issue.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "flight.compression",
            "flight.maxMessageSize",
            "flight.descriptor.path",
            "flight.auth.username",
            "flight.stream",
            "tls.cert",
            "tls.key"
        ]
    );
    let error = Config::from_json(
        &json!({"flight": {"descriptor": {"commandBase64": "%"}, "auth": {"username": "u"}}}),
    )
    .unwrap_err();
    assert_eq!(error.issues().len(), 2);
}

/// Certificates that only these tests trust; `openssl` made them, for a hundred years.
fn certificate(name: &str) -> String {
    format!("{}/tests/rs/flight/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn tls_with_an_own_authority_a_client_certificate_and_another_name() {
    use tonic::transport::{Certificate, Identity, ServerTlsConfig};
    let read = |name: &str| std::fs::read_to_string(certificate(name)).unwrap();
    let identity = Identity::from_pem(read("server.pem"), read("server.key"));
    let tls = ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(read("ca.pem")));
    // The first attempt at TLS installs the provider, and this server takes what the process has.
    let nobody = Flight::connect("grpc+tls://127.0.0.1:1/a", &Config::default())
        .await
        .err()
        .unwrap();
    assert_eq!(nobody.code(), Code::Unavailable);
    let server = Server::with(Answers::Nothing, |server| server.tls_config(tls).unwrap()).await;
    let target = server.target().replace("grpc:", "grpc+tls:");
    let whole = json!({"tls": {
        "ca": read("ca.pem"),
        "cert": certificate("client.pem"),
        "key": certificate("client.key"),
        "serverName": "server.test",
    }});
    let flight = Flight::connect(&target, &config(whole.clone())).await.unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..3)]).await.unwrap();
    writer.session.close().await.unwrap();
    assert_eq!(server.values(), [0, 1, 2]);
    for missing in ["ca", "serverName"] {
        let mut options = whole.clone();
        options["tls"].as_object_mut().unwrap().remove(missing);
        let error = Flight::connect(&target, &config(options)).await.err().unwrap();
        assert_eq!(error.code(), Code::ConfigInvalid, "{missing}");
    }
    for (name, value) in [
        ("key", "not-a-key-at-all"),
        ("cert", "/nowhere.pem"),
        ("ca", "-----BEGIN nothing"),
    ] {
        let mut options = whole.clone();
        options["tls"][name] = json!(value);
        let error = Flight::connect(&target, &config(options)).await.err().unwrap();
        assert!(!error.message().contains("not-a-key"), "{error}");
        assert_eq!(error.code(), Code::ConfigInvalid, "{name}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_a_place_too() {
    let server = Server::start(Answers::Nothing).await;
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("flight.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let address = server.address;
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut line = tokio::net::TcpStream::connect(address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut line).await });
        }
    });
    let target = format!("grpc+unix://{}?path=x/y", path.display());
    let flight = Flight::connect(&target, &Config::default()).await.unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..3)]).await.unwrap();
    writer.session.close().await.unwrap();
    assert_eq!(server.world().descriptors[0].path, ["x", "y"]);
}
