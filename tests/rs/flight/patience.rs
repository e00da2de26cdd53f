//! Servers that say nothing, and servers that are asked too often: nothing waits without bound, and what a
//! server says when it hangs up is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow_ingest::config::Config;
use arrow_ingest::destination::flight::Flight;
use arrow_ingest::error::{Code, Error};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;

use crate::support::{Answers, Server, Writer, config, numbers};

fn hasty(acknowledgement: &str) -> Value {
    json!({"flight": {
        "acknowledgement": acknowledgement,
        "acknowledgementTimeout": "300ms",
        "keepAlive": 0,
    }})
}

fn check_silence(error: &Error) {
    check_silence_of(error, "300ms");
}

fn check_silence_of(error: &Error, patience: &str) {
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.is_ambiguous(), "{error}");
    assert!(
        error
            .message()
            .contains(&format!("flight.acknowledgementTimeout ({patience})")),
        "{error}"
    );
}

/// What a server does with a put, beside answering pings.
#[derive(Clone, Copy, PartialEq)]
enum Put {
    Reads,
    IsLeft,
    IsReset,
    /// It is not read, and its end is a good one.
    EndsWell,
    /// By somebody in between who speaks no gRPC.
    IsAnsweredBy(u16),
}

async fn hanging(put: Put) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (line, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(line).await?;
                while let Some(request) = connection.accept().await {
                    let (request, mut respond) = request?;
                    if request.uri().path().ends_with("GetSchema") {
                        let unimplemented = http::Response::builder()
                            .header("content-type", "application/grpc")
                            .header("grpc-status", "12");
                        respond.send_response(unimplemented.body(()).unwrap(), true)?;
                        continue;
                    }
                    if put == Put::IsReset {
                        respond.send_reset(h2::Reason::INTERNAL_ERROR);
                        continue;
                    }
                    if let Put::IsAnsweredBy(status) = put {
                        let page = http::Response::builder()
                            .status(status)
                            .header("content-type", "text/html");
                        let mut page = respond.send_response(page.body(()).unwrap(), false)?;
                        page.send_data("<html>no</html>".into(), true)?;
                        continue;
                    }
                    tokio::spawn(async move {
                        if put == Put::EndsWell {
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            let good = http::Response::builder()
                                .header("content-type", "application/grpc")
                                .header("grpc-status", "0");
                            let _ = respond.send_response(good.body(()).unwrap(), true);
                        }
                        let mut body = request.into_body();
                        while put == Put::Reads
                            && let Some(Ok(bytes)) = body.data().await
                        {
                            let _ = body.flow_control().release_capacity(bytes.len());
                        }
                        std::future::pending::<()>().await;
                        drop((body, respond));
                    });
                }
                Ok::<_, h2::Error>(())
            });
        }
    });
    format!("grpc://{address}/a")
}

#[tokio::test]
async fn a_server_that_reads_and_hangs_leaves_rows_in_doubt_after_its_time() {
    let options = config(hasty("stream"));
    let flight = Flight::connect(&hanging(Put::Reads).await, &options)
        .await
        .unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    check_silence(&writer.session.flush().await.unwrap_err());
    check_silence(&writer.broken().await);
    // Closing is no less bounded.
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    check_silence(&writer.session.close().await.unwrap_err());
}

#[tokio::test]
async fn a_server_that_does_not_even_read_is_given_up_while_rows_are_written() {
    let options = config(hasty("stream"));
    let flight = Flight::connect(&hanging(Put::IsLeft).await, &options)
        .await
        .unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    let mut wrote = Ok(());
    for id in 1..50 {
        wrote = writer.write(id, vec![numbers(0..100_000)]).await;
        if wrote.is_err() {
            break;
        }
    }
    check_silence(&wrote.unwrap_err());
}

#[tokio::test]
async fn a_stream_that_is_reset_is_told_with_its_reason() {
    let options = config(hasty("stream"));
    let flight = Flight::connect(&hanging(Put::IsReset).await, &options)
        .await
        .unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    let _ = writer.write(1, vec![numbers(0..10)]).await;
    let error = writer.broken().await;
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(
        error.message().contains("the server broke the stream off"),
        "{error}"
    );
    assert!(!error.message().contains("answered"), "{error}");
}

/// Between writes nobody waits for a call, and yet somebody waits for the answer.
#[tokio::test]
async fn a_part_that_is_never_answered_breaks_the_session_by_itself() {
    for (acknowledgement, answers) in [("part", Answers::EveryPart), ("cumulative", Answers::Cumulative)] {
        let server = Server::start(answers).await;
        // The first one is to be answered in time, on a machine that stalls as well.
        let mut options = hasty(acknowledgement);
        options["flight"]["acknowledgementTimeout"] = json!("3s");
        let flight = server.connect(options).await;
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        writer.write(1, vec![numbers(0..10)]).await.unwrap();
        assert_eq!(writer.hear().await, "through 1");
        server.world().silent = true;
        writer.write(2, vec![numbers(0..10)]).await.unwrap();
        check_silence_of(&writer.broken().await, "3s");
    }
}

/// The time is counted from the last answer, not from the first row.
#[tokio::test]
async fn a_server_that_is_slow_and_steady_is_waited_for() {
    let server = Server::start(Answers::EveryPart).await;
    server.world().slow = Some(Duration::from_millis(250));
    let mut options = hasty("part");
    options["flight"]["acknowledgementTimeout"] = json!("4s");
    let flight = server.connect(options).await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    for id in 1..=20 {
        writer.write(id, vec![numbers(0..10)]).await.unwrap();
    }
    writer.session.flush().await.unwrap();
    assert_eq!(writer.said().last().unwrap(), "through 20");
}

#[tokio::test]
async fn a_transaction_that_is_not_answered_is_given_up() {
    let server = Server::start(Answers::Nothing).await;
    server.world().transactions = true;
    let target = format!("flightsql://{}/t", server.address);
    let mut options = hasty("stream");
    options["flight"]["connectTimeout"] = json!("2s");
    options["flight"]["acknowledgementTimeout"] = json!("3s");
    let options = config(options);
    let flight = Flight::connect(&target, &options).await.unwrap();
    server.world().hangs_at = Some("BeginTransaction");
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    let error = writer.write(1, vec![numbers(0..10)]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("flight.connectTimeout"), "{error}");
    // Nothing was sent, so nothing is in doubt.
    assert!(!error.is_ambiguous());
    server.world().hangs_at = Some("EndTransaction");
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    check_silence_of(&writer.session.flush().await.unwrap_err(), "3s");
}

/// A refusal travels in a header, and may be long.
#[tokio::test]
async fn a_refusal_with_a_long_text_arrives_with_its_code() {
    let server = Server::start(Answers::Nothing).await;
    let text = format!("the columns are wrong: {}", "x".repeat(60_000));
    server.world().at_end.push_back(Status::failed_precondition(text));
    let flight = server.connect(json!({})).await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    let error = writer.session.flush().await.unwrap_err();
    assert_eq!(error.code(), Code::SchemaMismatch);
    assert!(error.message().contains("the columns are wrong: xxx"));
}

/// What standard servers allow without data: one in five minutes.
#[test]
fn by_default_no_standard_server_is_asked_too_often() {
    let flight = Config::default().flight;
    assert!(flight.keep_alive > Duration::from_secs(300));
    assert_eq!(flight.acknowledgement_timeout, Duration::from_secs(300));
    let error = Config::from_json(&json!({"flight": {"acknowledgementTimeout": 0}})).unwrap_err();
    assert!(
        error
            .message()
            .contains("flight.acknowledgementTimeout leaves no time"),
        "{error}"
    );
}

/// HTTP/2 as far as a server needs it that hangs up.
mod raw {
    pub const HEADERS: u8 = 1;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Headers that say one status of gRPC and end the stream.
    pub fn status(stream: u32, status: &str) -> Vec<u8> {
        // ":status: 200", and literals that are not to be remembered.
        let mut block = vec![0x88];
        for (name, value) in [("content-type", "application/grpc"), ("grpc-status", status)] {
            block.extend([0, name.len() as u8]);
            block.extend(name.as_bytes());
            block.push(value.len() as u8);
            block.extend(value.as_bytes());
        }
        frame(HEADERS, 0x4 | 0x1, stream, &block)
    }
}

/// R-14: nobody has acknowledged what is still on this side of the line.
#[tokio::test]
async fn a_server_that_ends_well_what_it_has_not_read_has_acknowledged_nothing() {
    let options = config(hasty("stream"));
    let flight = Flight::connect(&hanging(Put::EndsWell).await, &options)
        .await
        .unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    for id in 1..3 {
        writer.write(id, vec![numbers(0..100_000)]).await.unwrap();
    }
    let error = writer.session.flush().await.unwrap_err();
    assert_eq!(
        (error.code(), error.is_ambiguous()),
        (Code::Unavailable, true),
        "{error}"
    );
    assert!(writer.said().iter().all(|said| said.starts_with("broken")));
}

/// R-14: a position beyond all that was sent is believed at no time.
#[tokio::test]
async fn a_server_that_says_it_has_what_was_never_sent_is_not_believed() {
    let server = Server::start(Answers::Nothing).await;
    server.world().repeats = [0, u64::MAX]
        .map(|sequence| format!(r#"{{"v":1,"sequence":{sequence},"through":0}}"#).into())
        .to_vec();
    let mut options = hasty("cumulative");
    options["flight"]["acknowledgementTimeout"] = json!("60s");
    let flight = server.connect(options).await;
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    // It may be heard before.
    let _ = writer.write(1, vec![numbers(0..10)]).await;
    let error = writer.broken().await;
    assert_eq!(error.code(), Code::Unsupported, "{error}");
}

/// R-12: what a proxy says counts as gRPC has it, so that credentials are renewed where it asks for others.
#[tokio::test]
async fn an_answer_that_is_no_grpc_counts_by_its_status() {
    for (status, code) in [
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unsupported),
        (429, Code::Unavailable),
        (502, Code::Unavailable),
        (500, Code::Unavailable),
    ] {
        let options = config(hasty("stream"));
        let target = hanging(Put::IsAnsweredBy(status)).await;
        let flight = Flight::connect(&target, &options).await.unwrap();
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        writer.write(1, vec![numbers(0..10)]).await.unwrap();
        let error = writer.broken().await;
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(&format!("HTTP {status}")), "{error}");
    }
}

/// R-14: an answer that settles nothing is no sign that the rows are being taken.
#[tokio::test]
async fn a_server_that_says_the_same_for_ever_leaves_rows_in_doubt_after_its_time() {
    for (mode, answer) in [
        ("stream", ""),
        ("cumulative", r#"{"v":1,"sequence":0,"through":0}"#),
    ] {
        let server = Server::start(Answers::Nothing).await;
        server.world().repeats = vec![answer.into()];
        let flight = server.connect(hasty(mode)).await;
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        writer.write(1, vec![numbers(0..10)]).await.unwrap();
        let flushed = tokio::time::timeout(Duration::from_secs(5), writer.session.flush()).await;
        check_silence(&flushed.expect(mode).unwrap_err());
    }
}

/// R-14: what a server says beside the end of a stream is its own affair, however long it is.
#[tokio::test]
async fn an_answer_that_is_too_long_is_told_as_what_it_is() {
    for mode in ["stream", "part"] {
        let server = Server::start(Answers::Nothing).await;
        server.world().repeats = vec![vec![b'x'; 5 << 20]];
        let mut options = hasty(mode);
        options["flight"]["acknowledgementTimeout"] = json!("60s");
        let flight = server.connect(options).await;
        let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
        writer.write(1, vec![numbers(0..10)]).await.unwrap();
        let error = writer.session.flush().await.unwrap_err();
        assert_eq!(error.code(), Code::Unsupported, "{error}");
        assert!(error.is_ambiguous(), "{error}");
        assert!(!error.message().contains("flight.maxMessageSize"), "{error}");
    }
}

/// What a server does with a put.
#[derive(Clone, Copy)]
enum Mood {
    /// Waits for so many pings, and hangs up for them.
    HangsUpAfter(usize),
    /// Says that it goes away, for a reason of its own.
    GoesAway(u32, &'static str),
    /// Takes it, after a while.
    Takes(Duration),
}

/// A server of which each connection has a mood; the first is for the question with which a client connects.
struct Moody {
    target: String,
    pings: Arc<AtomicUsize>,
}

impl Moody {
    async fn start(moods: &'static [Mood]) -> Moody {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("grpc://{}/a", listener.local_addr().unwrap());
        let pings: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&pings);
        tokio::spawn(async move {
            for mood in std::iter::once(None).chain(moods.iter().map(Some)) {
                let (line, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(line, mood, Arc::clone(&counted)));
            }
        });
        Moody { target, pings }
    }
}

async fn serve(mut line: TcpStream, mood: Option<&Mood>, pings: Arc<AtomicUsize>) -> Option<()> {
    line.write_all(&raw::frame(raw::SETTINGS, 0, 0, &[])).await.ok()?;
    line.read_exact(&mut [0; 24]).await.ok()?;
    let mut put = 0u32;
    let mut asked = 0;
    loop {
        let mut head = [0; 9];
        line.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        line.read_exact(&mut payload).await.ok()?;
        match head[3] {
            raw::SETTINGS if head[4] == 0 => {
                line.write_all(&raw::frame(raw::SETTINGS, 1, 0, &[])).await.ok()?;
            }
            raw::PING if head[4] == 0 => {
                asked += 1;
                pings.fetch_add(1, Ordering::SeqCst);
                line.write_all(&raw::frame(raw::PING, 1, 0, &payload))
                    .await
                    .ok()?;
            }
            raw::HEADERS => put = u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            _ => {}
        }
        let (reason, text) = match mood {
            _ if put == 0 => continue,
            // UNIMPLEMENTED: it does not tell schemas.
            None => {
                line.write_all(&raw::status(put, "12")).await.ok()?;
                put = 0;
                continue;
            }
            Some(Mood::Takes(pause)) => {
                tokio::time::sleep(*pause).await;
                line.write_all(&raw::status(put, "0")).await.ok()?;
                put = 0;
                continue;
            }
            Some(Mood::HangsUpAfter(count)) if asked < *count => continue,
            Some(Mood::HangsUpAfter(_)) => (11, "too_many_pings"),
            Some(Mood::GoesAway(reason, text)) => (*reason, *text),
        };
        let goodbye = [&put.to_be_bytes()[..], &u32::to_be_bytes(reason), text.as_bytes()].concat();
        line.write_all(&raw::frame(raw::GOAWAY, 0, 0, &goodbye))
            .await
            .ok()?;
        line.shutdown().await.ok()?;
        // What is on its way would be answered with a reset, which may overtake the goodbye.
        while line.read(&mut payload).await.ok()? > 0 {}
        return None;
    }
}

#[tokio::test]
async fn a_server_that_is_asked_too_often_is_heard_and_asked_less() {
    const MOODS: &[Mood] = &[Mood::HangsUpAfter(2), Mood::Takes(Duration::from_millis(2_500))];
    let moody = Moody::start(MOODS).await;
    let options = config(json!({"flight": {"keepAlive": "1s"}}));
    let flight = Flight::connect(&moody.target, &options).await.unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    let error = writer.broken().await;
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    for word in ["GOAWAY ENHANCE_YOUR_CALM", "too_many_pings", "flight.keepAlive"] {
        assert!(error.message().contains(word), "{word}: {error}");
    }
    let asked = moody.pings.load(Ordering::SeqCst);
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    writer.session.flush().await.unwrap();
    assert_eq!((asked, moody.pings.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test]
async fn why_a_server_goes_away_is_told() {
    let moody = Moody::start(&[Mood::GoesAway(2, "out of memory")]).await;
    let flight = Flight::connect(&moody.target, &Config::default()).await.unwrap();
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers(0..10)]).await.unwrap();
    let error = writer.broken().await;
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.is_ambiguous());
    for word in ["closed the connection", "GOAWAY INTERNAL_ERROR", "out of memory"] {
        assert!(error.message().contains(word), "{word}: {error}");
    }
    assert!(!error.message().contains("answered"), "{error}");
}
