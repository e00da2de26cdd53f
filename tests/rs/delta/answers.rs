//! What an object store says, and what becomes of it: the same for every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow_ingest::config::Config;
use arrow_ingest::destination::delta::Delta;
use arrow_ingest::error::{Code, Error};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use super::stand_in::{Kind, Request, StandIn, Wrong};
use super::support::{Writer, config, rows};

const TARGET: &str = "delta:s3://lake/t";

async fn connect(store: &StandIn) -> Result<Delta, Error> {
    Delta::connect(TARGET, &config(store.options())).await
}

/// One row, written, committed and acknowledged.
async fn append(store: &StandIn, id: i64) -> Result<(), Error> {
    let batch = rows(id, id + 1);
    let mut writer = Writer::open(&connect(store).await?, &batch, Uuid::new_v4(), None).await?;
    writer.write(0, &batch).await?;
    writer.close().await.map(|_| ())
}

type Picks = fn(&Request) -> bool;

/// Every kind of request that an append makes.
const REQUESTS: [(&str, Picks); 4] = [
    ("a listing", |request| request.kind == Kind::List),
    ("the log read", |request| {
        request.kind == Kind::Get && request.is_of_log()
    }),
    ("a data file written", |request| {
        request.kind == Kind::Put && request.is_of_data()
    }),
    ("a commit written", |request| {
        request.kind == Kind::Put && request.is_of_log()
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_told_the_same_way() {
    let says = |status, word| Wrong::Status(status, "", word);
    let answers = [
        (says(401, ""), Code::Unauthenticated),
        (
            says(403, "<Error><Code>AccessDenied</Code></Error>"),
            Code::PermissionDenied,
        ),
        (
            says(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>"),
            Code::Unauthenticated,
        ),
        (
            says(400, "<Error><Code>ExpiredToken</Code></Error>"),
            Code::Unauthenticated,
        ),
        (
            says(404, "<Error><Code>NoSuchBucket</Code></Error>"),
            Code::NotFound,
        ),
        (
            says(409, "<Error><Code>OperationAborted</Code></Error>"),
            Code::Unavailable,
        ),
        (says(429, ""), Code::ResourceExhausted),
        (says(500, ""), Code::Unavailable),
        (
            says(503, "<Error><Code>SlowDown</Code></Error>"),
            Code::ResourceExhausted,
        ),
        (Wrong::Reset, Code::Unavailable),
    ];
    let mut tried = tokio::task::JoinSet::new();
    for (answer, code) in answers {
        for (what, picks) in REQUESTS {
            let answer = answer.clone();
            tried.spawn(async move {
                let store = StandIn::start().await;
                append(&store, 0).await.unwrap();
                let said = answer.clone();
                store.answers(move |request| picks(request).then(|| said.clone()));
                let error = append(&store, 1).await.expect_err(what);
                store.answers(|_| None);
                append(&store, 2).await.unwrap();
                // A key that is not there is an ordinary answer where one is looked for.
                let asked = what == "the log read" && code == Code::NotFound;
                let told = error.code() == code || (asked && error.code() != Code::TableCorrupt);
                let named = !error.message().contains("Failed to read delta log");
                (!told || !named).then(|| format!("{what}: {answer:?}: {error} {:?}", error.causes()))
            });
        }
    }
    let wrong: Vec<String> = tried.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// an answer that breaks off, or is not of the store, is tried again and never called corruption.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_whole_is_of_the_moment() {
    let not_there = Wrong::Status(404, "", "<html>no such page</html>");
    for (picks, wrong) in [
        (REQUESTS[0].1, Wrong::Cut),
        (REQUESTS[0].1, Wrong::Garbage),
        (REQUESTS[0].1, not_there),
        (REQUESTS[1].1, Wrong::Cut),
    ] {
        let store = StandIn::start().await;
        append(&store, 0).await.unwrap();
        let said = wrong.clone();
        store.answers(move |request| picks(request).then(|| said.clone()));
        let error = append(&store, 1).await.expect_err("broken");
        assert_eq!(
            error.code(),
            Code::Unavailable,
            "{wrong:?}: {error} {:?}",
            error.causes()
        );
        store.answers(|_| None);
        append(&store, 2).await.unwrap();
        assert_eq!(
            store.keys().iter().filter(|key| key.ends_with(".json")).count(),
            3
        );
    }
}

/// Only the n-th listing breaks, whichever it is: connecting, opening, or in the midst of a commit.
#[tokio::test(flavor = "multi_thread")]
async fn no_broken_listing_in_the_midst_is_corruption() {
    for nth in 0..6 {
        let store = StandIn::start().await;
        append(&store, 0).await.unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        store.answers(move |request| {
            let breaks = request.kind == Kind::List && count.fetch_add(1, Ordering::Relaxed) == nth;
            breaks.then_some(Wrong::Garbage)
        });
        if let Err(error) = append(&store, 1).await {
            assert_eq!(error.code(), Code::Unavailable, "listing {nth}: {error}");
        }
    }
}

/// What was read whole and cannot be understood is corrupt.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_read_whole_and_makes_no_sense_is_corrupt() {
    let store = StandIn::start().await;
    append(&store, 0).await.unwrap();
    store.put("t/_delta_log/00000000000000000001.json", "{\"add\": {\"path\"");
    let error = append(&store, 1).await.expect_err("torn");
    assert_eq!(error.code(), Code::TableCorrupt, "{error}");
}

/// The store's own word on when to come back reaches whoever waits, and holds for every request.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_the_store_asks_for_is_kept() {
    let store = StandIn::start().await;
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    store.answers(move |_| {
        asked.fetch_add(1, Ordering::Relaxed);
        Some(Wrong::Status(503, "retry-after: 60\r\n", ""))
    });
    let error = connect(&store).await.expect_err("throttled");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    let hint = error.hint().unwrap();
    assert!(
        hint > Duration::from_secs(30) && hint <= Duration::from_secs(60),
        "{hint:?}"
    );
    assert_eq!(
        count.load(Ordering::Relaxed),
        1,
        "it was asked again within its pause"
    );
    // A short one is waited out, and nobody hears of it.
    let store = StandIn::start().await;
    let first = AtomicUsize::new(0);
    store.answers(move |_| {
        let throttled = first.fetch_add(1, Ordering::Relaxed) == 0;
        throttled.then_some(Wrong::Status(
            503,
            "x-ms-retry-after-ms: 50\r\nretry-after: 1\r\n",
            "",
        ))
    });
    connect(&store).await.unwrap();
}

/// A server with a certificate that nobody has signed but itself, and what it takes to trust it.
async fn self_signed() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = acceptor.accept(socket).await else {
                    return;
                };
                // Whoever gets this far trusts it.
                let _ = socket.read(&mut [0; 4096]).await;
                let _ = socket
                    .write_all(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")
                    .await;
            });
        }
    });
    (port, made.cert.pem())
}

fn over_tls(port: u16) -> Config {
    let mut options = StandIn::options_at(&format!("https://127.0.0.1:{port}"));
    options["delta"]["storage"]["aws_allow_http"] = "false".into();
    config(options)
}

/// a certificate that is not trusted is told as such, and not tried again: the next try meets the same one.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_a_matter_of_configuration() {
    let (port, _) = self_signed().await;
    let error = Delta::connect(TARGET, &over_tls(port))
        .await
        .expect_err("not trusted");
    let causes = error.causes().join(" ");
    assert_eq!(error.code(), Code::ConfigInvalid, "{error} {causes}");
    assert!(causes.contains("certificate"), "{error} {causes}");
    // TLS towards a port that speaks plain text.
    let plain = StandIn::start().await;
    let error = Delta::connect(TARGET, &over_tls(plain.port))
        .await
        .expect_err("no TLS");
    assert_eq!(error.code(), Code::ConfigInvalid, "{error} {:?}", error.causes());
}

/// A machine without certificates of its own (slim images) connects all the same: those of Mozilla come with the
/// package. Where it has some, they are trusted. Each in a process of its own, as only the environment says it.
#[tokio::test(flavor = "multi_thread")]
async fn the_machines_own_certificates_may_be_missing_and_are_trusted_where_they_are_not() {
    let (port, pem) = self_signed().await;
    let home = tempfile::tempdir().unwrap();
    let roots = home.path().join("roots.pem");
    std::fs::write(&roots, pem).unwrap();
    let nothing = std::path::Path::new("/dev/null");
    for (file, code) in [(nothing, Code::ConfigInvalid), (&roots, Code::PermissionDenied)] {
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "answers::connects_over_tls",
                "--ignored",
                "--nocapture",
            ])
            .env("SSL_CERT_FILE", file)
            .env("SSL_CERT_DIR", "/var/empty")
            .env("TLS_PORT", port.to_string())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(
            child.status.success() && said.contains(&format!("told {code}:")),
            "{file:?}: {said}"
        );
    }
}

/// The child of the test above, which reads what it prints.
#[allow(clippy::print_stdout)]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the_machines_own_certificates_may_be_missing_and_are_trusted_where_they_are_not, as a child"]
async fn connects_over_tls() {
    let port = std::env::var("TLS_PORT").unwrap().parse().unwrap();
    let error = Delta::connect(TARGET, &over_tls(port))
        .await
        .expect_err("no store");
    println!("told {error}");
}
