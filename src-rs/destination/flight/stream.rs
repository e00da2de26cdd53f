//! One `DoPut`: messages go out, answers come in, and the server has the last word.
//!
//! Invariants:
//! - A stream ends well only if it was told to: dropped before, it is reset, so that no server takes
//!   half of it for all of it.
//! - Answers are read on a task of their own, so a server that answers while it reads never stalls.
//! - The verdict reaches the session's acknowledgements before whoever waits for the stream.
//!
//! Messages go to the socket as the pieces that they are; tonic's encoder would copy them twice.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use arrow_flight::PutResult;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
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
const DO_PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";

/// Hears what the server says on one stream.
pub trait Listener: Send + Sync + 'static {
    /// # Errors
    /// What makes the stream useless.
    fn answered(&self, metadata: &[u8]) -> Result<()>;
    /// The stream is over, for better or for worse. Returns what those who wait for it are told.
    ///
    /// # Errors
    /// The one given, or what was expected of the stream and did not come.
    fn ended(&self, verdict: std::result::Result<(), Failure>) -> Result<()>;
}

/// How a stream failed.
pub enum Failure {
    Status(Status),
    Ours(Error),
}

pub struct Stream {
    messages: mpsc::Sender<Item>,
    verdict: oneshot::Receiver<Result<()>>,
    reader: AbortHandle,
    ending: Arc<AtomicBool>,
}

enum Item {
    Message(Message),
    End,
}

impl Stream {
    /// `ending` is set before the server is told that this was all.
    pub fn open(connection: &Connection, listener: Arc<dyn Listener>, ending: Arc<AtomicBool>) -> Stream {
        let (messages, receiver) = mpsc::channel(QUEUE);
        let (told, verdict) = oneshot::channel();
        let body = Outgoing {
            messages: receiver,
            pieces: Vec::new().into_iter(),
            ended: false,
        };
        let mut request = http::Request::new(Body::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static(DO_PUT);
        *request.headers_mut() = connection.metadata.clone().into_headers();
        let headers = request.headers_mut();
        headers.insert("te", http::HeaderValue::from_static("trailers"));
        headers.insert("content-type", http::HeaderValue::from_static("application/grpc"));
        let channel = connection.channel.clone();
        let reader = tokio::spawn(async move {
            let verdict = read(channel, request, listener.as_ref()).await;
            // Nobody may be waiting: between calls the session hears of it by its acknowledgements.
            let _ = told.send(listener.ended(verdict));
        });
        Stream {
            messages,
            verdict,
            reader: reader.abort_handle(),
            ending,
        }
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
        self.ending.store(true, Ordering::Release);
        self.put(Item::End).await?;
        self.verdict().await
    }

    async fn put(&mut self, item: Item) -> Result<()> {
        if self.messages.send(item).await.is_ok() {
            return Ok(());
        }
        self.verdict().await?;
        Err(ended_early())
    }

    async fn verdict(&mut self) -> Result<()> {
        let verdict = (&mut self.verdict).await;
        // Whoever drives the session is to hear the acknowledgements first: they were sent before, but
        // possibly after it last looked.
        tokio::task::yield_now().await;
        verdict.unwrap_or_else(|_| Err(Error::new(Code::Internal, "the reader of a stream died")))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    mut channel: Channel,
    request: http::Request<Body>,
    listener: &dyn Listener,
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
    let decoder = tonic_prost::ProstCodec::<PutResult, PutResult>::default().decoder();
    let mut answers = Streaming::new_response(decoder, response.into_body(), http_status, None, None);
    while let Some(answer) = answers.message().await.map_err(Failure::Status)? {
        listener.answered(&answer.app_metadata).map_err(Failure::Ours)?;
    }
    Ok(())
}

pub fn ended_early() -> Error {
    let text = "the server ended the stream before it had all of it";
    Error::new(Code::Unavailable, text)
}

/// The request's body.
struct Outgoing {
    messages: mpsc::Receiver<Item>,
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
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match this.messages.poll_recv(context) {
                Poll::Ready(Some(Item::Message(message))) => this.pieces = message.pieces.into_iter(),
                Poll::Ready(Some(Item::End)) => this.ended = true,
                // Given up in the middle: an error resets the stream, an end would look like a good one.
                Poll::Ready(None) => return Poll::Ready(Some(Err(Status::cancelled("given up")))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
