//! Servers that no client of these options can ever talk to: found when connecting, tried once, and told with
//! what to change.

use std::process::Command;
use std::sync::Arc;

use arrow_ingest::config::Config;
use arrow_ingest::destination::Destination as _;
use arrow_ingest::destination::flight::Flight;
use arrow_ingest::error::{Code, Error, RetryClass};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::support::{Answers, Server, Writer, config, numbers};

/// An authority of one test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key.
    fn signs(&self, name: &str, year: i32) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    async fn server(&self, name: &str, year: i32, clients: Option<&Authority>) -> Server {
        let (certificate, key) = self.signs(name, year);
        let mut tls =
            ServerTlsConfig::new().identity(Identity::from_pem(certificate.pem(), key.serialize_pem()));
        if let Some(clients) = clients {
            tls = tls.client_ca_root(Certificate::from_pem(clients.pem()));
        }
        Server::with(Answers::Nothing, |server| server.tls_config(tls).unwrap()).await
    }
}

async fn refused(target: &str, options: Value) -> Error {
    let mut options = options;
    options["flight"] = json!({"connectTimeout": "20s"});
    Flight::connect(target, &config(options))
        .await
        .err()
        .expect("connected")
}

fn secure(server: &Server) -> String {
    server.target().replace("grpc:", "grpc+tls:")
}

/// Never tried again, and each says what is wrong and which option or which side to change.
fn check(error: &Error, words: &[&str]) {
    assert_eq!(
        (error.code(), error.retry_class()),
        (Code::ConfigInvalid, RetryClass::Never),
        "{error}"
    );
    for word in words {
        assert!(error.message().contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_named_and_tried_once() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = theirs.server("127.0.0.1", 2101, None).await;
    check(
        &refused(&secure(&server), json!({})).await,
        &["no authority", "tls.ca"],
    );
    check(
        &refused(&secure(&server), json!({"tls": {"ca": ours.pem()}})).await,
        &["none of the authorities in tls.ca"],
    );
    let trusted = json!({"tls": {"ca": format!("{}{}", ours.pem(), theirs.pem())}});
    Flight::connect(&secure(&server), &config(trusted)).await.unwrap();

    let named = ours.server("other.example.com", 2101, None).await;
    check(
        &refused(&secure(&named), json!({"tls": {"ca": ours.pem()}})).await,
        &["other.example.com", "127.0.0.1", "tls.serverName"],
    );
    let renamed = json!({"tls": {"ca": ours.pem(), "serverName": "other.example.com"}});
    Flight::connect(&secure(&named), &config(renamed)).await.unwrap();
    let nonsense = json!({"tls": {"ca": ours.pem(), "serverName": "no name at all"}});
    check(&refused(&secure(&named), nonsense).await, &["tls.serverName"]);

    let expired = ours.server("127.0.0.1", 2002, None).await;
    check(
        &refused(&secure(&expired), json!({"tls": {"ca": ours.pem()}})).await,
        &["expired"],
    );
}

/// In TLS 1.3 a client is refused after its own handshake is over.
#[tokio::test]
async fn a_server_that_wants_a_certificate_of_the_client_says_so_at_connect() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = ours.server("127.0.0.1", 2101, Some(&ours)).await;
    check(
        &refused(&secure(&server), json!({"tls": {"ca": ours.pem()}})).await,
        &["tls.cert", "tls.key"],
    );
    let mine = |authority: &Authority| {
        let (certificate, key) = authority.signs("client", 2101);
        json!({"tls": {"ca": ours.pem(), "cert": certificate.pem(), "key": key.serialize_pem()}})
    };
    check(
        &refused(&secure(&server), mine(&theirs)).await,
        &["does not accept", "tls.cert"],
    );
    Flight::connect(&secure(&server), &config(mine(&ours)))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_no_certificate_or_key_is_refused_before_anybody_is_connected_to() {
    let ours = Authority::new("ours");
    let (certificate, key) = ours.signs("client", 2101);
    let (_, other) = ours.signs("client", 2101);
    let marks = |inner: &str| format!("-----BEGIN CERTIFICATE-----\n{inner}\n-----END CERTIFICATE-----\n");
    let own = |cert: &str, key: &str| json!({"cert": cert, "key": key});
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "\n").unwrap();
    for (tls, word) in [
        (json!({"ca": empty}), "tls.ca holds no certificate"),
        (json!({"ca": key.serialize_pem()}), "tls.ca holds no certificate"),
        (json!({"ca": marks("!!!")}), "tls.ca cannot be read as PEM"),
        (
            json!({"ca": marks("AAAA")}),
            "tls.ca holds something that is no certificate",
        ),
        (json!({"ca": "/nowhere.pem"}), "tls.ca is neither PEM nor a file"),
        (
            own(&key.serialize_pem(), &key.serialize_pem()),
            "tls.cert holds no certificate",
        ),
        (
            own(&certificate.pem(), &certificate.pem()),
            "tls.key holds no private key",
        ),
        (
            own(&certificate.pem(), &other.serialize_pem()),
            "cannot be used together",
        ),
    ] {
        // Nobody listens there.
        let error = refused("grpc+tls://127.0.0.1:1/a", json!({"tls": tls})).await;
        check(&error, &[word]);
    }
}

/// Answers each connection with one text, whatever it is asked.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut line, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(bytes, line_read(&mut line).await, line));
        }
    });
    address.to_string()
}

async fn line_read(line: &mut TcpStream) -> usize {
    line.read(&mut [0; 4096]).await.unwrap_or_default()
}

async fn answer(bytes: &'static [u8], _: usize, mut line: TcpStream) {
    // In two pieces, as a network may have it.
    let (first, rest) = bytes.split_at(bytes.len().min(2));
    let _ = line.write_all(first).await;
    let _ = line.flush().await;
    tokio::task::yield_now().await;
    let _ = line.write_all(rest).await;
}

#[tokio::test]
async fn a_port_of_another_protocol_is_named_and_tried_once() {
    let http = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    check(
        &refused(&format!("grpc://{http}/a"), json!({})).await,
        &["HTTP/1", "HTTP/2"],
    );
    check(
        &refused(&format!("grpc+tls://{http}/a"), json!({})).await,
        &["does not speak TLS"],
    );
    let greeting = answering(b"220 mail.example.com ESMTP\r\n").await;
    check(
        &refused(&format!("grpc://{greeting}/a"), json!({})).await,
        &["does not answer in HTTP/2"],
    );
    let alert = answering(&[0x15, 3, 3, 0, 2, 2, 70]).await;
    check(
        &refused(&format!("grpc://{alert}/a"), json!({})).await,
        &["speaks TLS", "grpc+tls:"],
    );
    // A real one, too.
    let server = Authority::new("ours").server("127.0.0.1", 2101, None).await;
    check(
        &refused(&server.target(), json!({})).await,
        &["speaks TLS", "grpc+tls:"],
    );
    // Whoever hangs up may be about to start again.
    let silent = answering(b"").await;
    for scheme in ["grpc", "grpc+tls"] {
        let error = refused(&format!("{scheme}://{silent}/a"), json!({})).await;
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.message().contains("hung up"), "{error}");
    }
}

#[tokio::test]
async fn tls_without_http2_is_named_and_tried_once() {
    let ours = Authority::new("ours");
    let (certificate, key) = ours.signs("127.0.0.1", 2101);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    for alpn in [None, Some(b"http/1.1".to_vec())] {
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.clone_key())
            .unwrap();
        tls.alpn_protocols.extend(alpn);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("grpc+tls://{}/a", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (line, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(line).await;
        });
        check(
            &refused(&target, json!({"tls": {"ca": ours.pem()}})).await,
            &["ALPN"],
        );
    }
}

/// A server that was met may be replaced for a while by what answers in its stead.
#[tokio::test]
async fn what_has_passed_once_may_pass_again() {
    let server = Server::start(Answers::Nothing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("grpc://{}/a", listener.local_addr().unwrap());
    let address = server.address;
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut line, _) = listener.accept().await.unwrap();
            if turn == 1 {
                line_read(&mut line).await;
                let _ = line.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
                continue;
            }
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut line, &mut server).await;
            });
        }
    });
    let flight = Flight::connect(&target, &Config::default()).await.unwrap();
    let error = Writer::open(&flight, numbers([]).schema()).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("HTTP/1"), "{error}");
    flight.check().await.unwrap();
}

/// The system's authorities are read from the environment, which is a process's own.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_given_replaces_the_systems_and_serves_without_them() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = theirs.server("127.0.0.1", 2101, None).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, authority: &Authority| {
        let path = folder.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (own, system) = (file("own.pem", &ours), file("system.pem", &theirs));
    for (certificates, ca, says) in [
        (system.as_str(), None, "connected"),
        (system.as_str(), Some(&own), "none of the authorities in tls.ca"),
        ("/dev/null", Some(&system), "connected"),
        // The bundled ones were asked: there were no others.
        ("/dev/null", None, "no authority that is known here"),
    ] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args([
                "--exact",
                "strangers::one_connection_is_made_and_told_of",
                "--ignored",
                "--nocapture",
            ])
            .env("SSL_CERT_FILE", certificates)
            .env("SSL_CERT_DIR", "/var/empty")
            .env("TARGET", secure(&server))
            .env("OPTIONS", json!({"tls": {"ca": ca}}).to_string());
        let output = tokio::task::spawn_blocking(move || child.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(says), "{certificates} {ca:?}: {said}");
    }
}

#[tokio::test]
#[ignore = "run by an_authority_that_is_given_replaces_the_systems_and_serves_without_them, as a child"]
async fn one_connection_is_made_and_told_of() {
    let (target, options) = (
        std::env::var("TARGET").unwrap(),
        std::env::var("OPTIONS").unwrap(),
    );
    let options = config(serde_json::from_str(&options).unwrap());
    match Flight::connect(&target, &options).await {
        Ok(_) => println!("\nconnected"),
        Err(error) => println!("\n{error}"),
    }
}
