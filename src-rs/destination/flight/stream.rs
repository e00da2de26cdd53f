//! One `DoPut`: messages go out, answers come in, and the server has the last word.
//!
//! Invariants:
//! - A stream ends well only through `end`. A stream that is dropped before is reset, so that no server takes
//!   half of it for all of it.
//! - Answers are read on a task of their own, so a server that answers while it reads never stalls.
//! - The verdict reaches the session's acknowledgements before whoever waits for the stream.
//! - A server that owes something and gives no sign for `flight.acknowledgementTimeout` has failed the stream:
//!   its HTTP/2 answers pings long after its handler hangs. What it owes is an answer ([`Listener::is_owed`],
//!   or the end once the stream was ended), or to take what is sent.
//!
//! Messages go to the socket as the pieces that they are; tonic's encoder would copy them twice.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::PutResult;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codec::Codec as _;
use tonic::codegen::Service as _;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::connection::Connection;
use super::encode::Message;
use crate::error::{Code, Error, Result};

/// Messages that may wait for the socket: enough that it never waits for us.
const QUEUE: usize = 4;
/// Of one answer, in bytes. No round number, so that nobody else's limit is taken for this one.
const LONGEST_ANSWER: usize = (4 << 20) + 1;
const DO_PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";

/// Hears what the server says on one stream.
pub trait Listener: Send + Sync + 'static {
    /// Whether that was a sign of rows that are taken: a server that says the same for ever gives none.
    ///
    /// # Errors
    /// What makes the stream useless.
    fn answered(&self, metadata: &[u8]) -> Result<bool>;
    /// The stream is over, for better or for worse. Returns the result for those who wait.
    ///
    /// # Errors
    /// The one given, or what was expected of the stream and did not come.
    fn ended(&self, verdict: std::result::Result<(), Failure>) -> Result<()>;
    /// Whether the server owes an answer although the stream goes on.
    fn is_owed(&self) -> bool;
}

/// How a stream failed.
pub enum Failure {
    Status(Status),
    Ours(Error),
}

pub struct PutStream {
    messages: mpsc::Sender<Item>,
    verdict: oneshot::Receiver<Result<()>>,
    reader: AbortHandle,
    pulse: Arc<Pulse>,
}

/// Since when the server has given no sign of life that it owes.
#[derive(Debug)]
struct Pulse {
    patience: Duration,
    /// Everything has gone, and the end with it, so the verdict is owed. Not before: a server that ends well what
    /// is still on this side would have acknowledged rows that it has never seen.
    ended: Arc<AtomicBool>,
    since: Mutex<Since>,
}

#[derive(Debug, Default)]
struct Since {
    /// An answer is owed.
    answer: Option<Instant>,
    /// Somebody waits for room on the stream.
    room: Option<Instant>,
}

impl Pulse {
    fn new(patience: Duration, ended: Arc<AtomicBool>) -> Pulse {
        Pulse {
            patience,
            ended,
            since: Mutex::default(),
        }
    }

    fn with(&self, change: impl FnOnce(&mut Since)) {
        change(&mut self.since.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// From now on, unless one is owed already: what is sent meanwhile is no sign of the server's.
    fn owes(&self) {
        self.with(|since| {
            since.answer.get_or_insert_with(Instant::now);
        });
    }

    fn answered(&self, listener: &dyn Listener) {
        self.with(|since| since.answer = None);
        // Looked at afterwards: what was sent in between is owed from now on.
        if self.ended.load(Ordering::Acquire) || listener.is_owed() {
            self.owes();
        }
    }

    fn waits(&self, waits: bool) {
        self.with(|since| since.room = waits.then(Instant::now));
    }

    /// The server has taken something.
    fn took(&self) {
        self.with(|since| since.room = since.room.map(|_| Instant::now()));
    }

    /// Returns when the server's time is up.
    async fn stops(&self) {
        loop {
            let mut oldest = None;
            self.with(|since| oldest = since.answer.into_iter().chain(since.room).min());
            // What is owed from a moment of this sleep on is not due before its end.
            let due = oldest.unwrap_or_else(Instant::now) + self.patience;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

enum Item {
    Message(Message),
    End,
}

impl PutStream {
    /// `ended` is set when everything was given to the connection and the server is told that this was all.
    /// `patience`: how long the server may leave unanswered what it owes an answer to.
    pub fn open(
        connection: &Connection,
        listener: Arc<dyn Listener>,
        ended: Arc<AtomicBool>,
        patience: Duration,
    ) -> PutStream {
        let (messages, receiver) = mpsc::channel(QUEUE);
        let (told, verdict) = oneshot::channel();
        let pulse = Arc::new(Pulse::new(patience, ended));
        let body = Outgoing {
            messages: receiver,
            pulse: Arc::clone(&pulse),
            pieces: Vec::new().into_iter(),
            ended: false,
        };
        let mut request = http::Request::new(Body::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static(DO_PUT);
        *request.headers_mut() = connection.carried().into_headers();
        let headers = request.headers_mut();
        headers.insert("te", http::HeaderValue::from_static("trailers"));
        headers.insert("content-type", http::HeaderValue::from_static("application/grpc"));
        let channel = connection.channel.clone();
        let watched = Arc::clone(&pulse);
        let reader = tokio::spawn(async move {
            let verdict = tokio::select! {
                biased;
                verdict = read(channel, request, listener.as_ref(), &watched) => verdict,
                () = watched.stops() => Err(Failure::Ours(silent(patience))),
            };
            // Nobody may be waiting: between calls the session hears of it by its acknowledgements.
            let _ = told.send(listener.ended(verdict));
        });
        PutStream {
            messages,
            verdict,
            reader: reader.abort_handle(),
            pulse,
        }
    }

    /// What was sent last is to be answered.
    pub fn expects_an_answer(&self) {
        self.pulse.owes();
    }

    /// # Errors
    /// The server's verdict, if it came early.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        self.put(Item::Message(message)).await
    }

    /// Tells the server that this was all, and waits for its verdict.
    ///
    /// # Errors
    /// The server's verdict.
    pub async fn end(&mut self) -> Result<()> {
        self.put(Item::End).await?;
        self.verdict().await
    }

    async fn put(&mut self, item: Item) -> Result<()> {
        let item = match self.messages.try_send(item) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(item) | TrySendError::Closed(item)) => item,
        };
        self.pulse.waits(true);
        let verdict = tokio::select! {
            biased;
            room = self.messages.reserve() => match room {
                Ok(room) => {
                    self.pulse.waits(false);
                    room.send(item);
                    return Ok(());
                }
                Err(_) => (&mut self.verdict).await,
            },
            // It may come while nothing is taken any more.
            verdict = &mut self.verdict => verdict,
        };
        told(verdict).await?;
        Err(ended_early())
    }

    async fn verdict(&mut self) -> Result<()> {
        told((&mut self.verdict).await).await
    }
}

/// A verdict, once whoever drives the session has had a chance to hear the acknowledgements first: they were
/// sent before, but possibly after it last looked.
async fn told(verdict: std::result::Result<Result<()>, oneshot::error::RecvError>) -> Result<()> {
    tokio::task::yield_now().await;
    verdict.unwrap_or_else(|_| Err(Error::new(Code::Internal, "the reader of a stream died")))
}

impl Drop for PutStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    mut channel: Channel,
    request: http::Request<Body>,
    listener: &dyn Listener,
    pulse: &Pulse,
) -> std::result::Result<(), Failure> {
    let unreachable = |error: tonic::transport::Error| Failure::Status(Status::from_error(error.into()));
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .map_err(unreachable)?;
    let response = channel.call(request).await.map_err(unreachable)?;
    // A server that has nothing to answer puts its verdict where the headers are.
    if let Some(status) = Status::from_header_map(response.headers()) {
        return match status.code() {
            tonic::Code::Ok => Ok(()),
            _ => Err(Failure::Status(status)),
        };
    }
    let http_status = response.status();
    if http_status != http::StatusCode::OK {
        return Err(Failure::Status(of_http(http_status)));
    }
    let decoder = tonic_prost::ProstCodec::<PutResult, PutResult>::default().decoder();
    let longest = Some(LONGEST_ANSWER);
    let mut answers = Streaming::new_response(decoder, response.into_body(), http_status, None, longest);
    while let Some(answer) = answers.message().await.map_err(unreadable)? {
        if listener.answered(&answer.app_metadata).map_err(Failure::Ours)? {
            pulse.answered(listener);
        }
    }
    Ok(())
}

/// The verdict of somebody in between who speaks no gRPC, as gRPC has it.
fn of_http(status: http::StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => tonic::Code::Internal,
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        404 => tonic::Code::Unimplemented,
        429 | 502..=504 => tonic::Code::Unavailable,
        _ => tonic::Code::Unknown,
    };
    Status::new(code, format!("HTTP {status}, and no gRPC"))
}

/// What the server said, or that it says too much at once: the library has one status for its own limit and for
/// the server's, which is about what was sent there.
fn unreadable(status: Status) -> Failure {
    let own = format!("the limit is: {LONGEST_ANSWER} bytes");
    match status.code() == tonic::Code::OutOfRange && status.message().contains(&own) {
        true => {
            let text = "the server's answer to a part has more than 4 MiB";
            Failure::Ours(Error::new(Code::Unsupported, text))
        }
        false => Failure::Status(status),
    }
}

fn silent(patience: Duration) -> Error {
    let text = format!(
        "the server gives no sign of having taken the rows: flight.acknowledgementTimeout ({patience:?}) is over"
    );
    Error::new(Code::Unavailable, text)
}

pub fn ended_early() -> Error {
    let text = "the server ended the stream before it had all of it";
    Error::new(Code::Unavailable, text)
}

/// The request's body.
struct Outgoing {
    messages: mpsc::Receiver<Item>,
    pulse: Arc<Pulse>,
    pieces: std::vec::IntoIter<Bytes>,
    ended: bool,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.pieces.next() {
                this.pulse.took();
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match this.messages.poll_recv(context) {
                Poll::Ready(Some(Item::Message(message))) => this.pieces = message.pieces.into_iter(),
                Poll::Ready(Some(Item::End)) => {
                    this.ended = true;
                    this.pulse.ended.store(true, Ordering::Release);
                    this.pulse.owes();
                }
                // Given up in the middle: an error resets the stream, an end would look like a good one.
                Poll::Ready(None) => return Poll::Ready(Some(Err(Status::cancelled("given up")))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
