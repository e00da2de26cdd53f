//! Drives one session on a task of its own, so that the transmitter never waits for a destination.
//!
//! Invariants:
//! - Calls on a session never overlap, and none follows an error.
//! - Acknowledgements reach the transmitter before the event that ends the session, and that event
//!   after the session is dropped.
//! - However a session ends, in a panic too, the transmitter gets an event.
//! - Opening and closing end, whatever the destination waits for.
//! - Dropping the [`SessionHandle`] drops the session: it holds no memory after the transmitter has given it up.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::destination::{Acknowledgement, Acknowledgements, Destination, Opening, Session, Write};
use crate::error::{Code, Error, Result};
use crate::transmitter::clock::{now, until};

/// How long opening a session may take. The limit is for a destination that hangs; deliveries have deadlines of
/// their own.
const LONGEST_OPEN: Duration = Duration::from_secs(300);
/// How long closing one may take: other rows wait for it.
const LONGEST_CLOSE: Duration = Duration::from_secs(300);

/// What the transmitter asks of the session.
pub enum SessionCall {
    Write(Arc<Write>),
    Flush,
    Close,
}

/// What the session says, with the number of the session that says it.
pub struct SessionEvent {
    pub session: u64,
    pub kind: SessionEventKind,
}

pub enum SessionEventKind {
    Opened {
        landed: Vec<Acknowledgement>,
        /// As [`Opened::conclusive`](crate::destination::Opened::conclusive).
        conclusive: bool,
    },
    Acknowledged(Acknowledgement),
    /// The session is about to be given this write.
    Sent {
        id: u64,
    },
    Written {
        id: u64,
        took: Duration,
    },
    /// All that the session was given, up to this id.
    Flushed {
        through: u64,
    },
    Closed,
    Broke {
        error: Error,
        operation: Operation,
    },
    /// The retry predicate's word after the session has ended: whether the writes may be tried again that
    /// were tried as often as `oldest`, the oldest of them.
    RetryAnswered {
        oldest: u64,
        answer: Result<bool>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Open,
    Write(u64),
    Flush,
    Close,
    /// Between calls.
    Idle,
}

pub struct SessionHandle {
    calls: UnboundedSender<SessionCall>,
    task: JoinHandle<()>,
}

impl SessionHandle {
    pub fn start(
        session: u64,
        destination: Arc<dyn Destination>,
        opening: impl FnOnce(Acknowledgements) -> Opening,
        events: UnboundedSender<SessionEvent>,
    ) -> SessionHandle {
        let (calls, receiver) = unbounded_channel();
        let (sender, acknowledgements) = Acknowledgements::channel();
        let opening = opening(sender);
        let task = SessionTask {
            session,
            acknowledgements,
            events,
            last_sent: 0,
        };
        let task = tokio::spawn(task.run(destination, opening, receiver));
        SessionHandle { calls, task }
    }

    /// A session that has ended takes no calls; its last event says why.
    pub fn call(&self, call: SessionCall) {
        let _ = self.calls.send(call);
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct SessionTask {
    session: u64,
    acknowledgements: UnboundedReceiver<Acknowledgement>,
    events: UnboundedSender<SessionEvent>,
    /// The last write that the session was given.
    last_sent: u64,
}

impl SessionTask {
    async fn run(
        mut self,
        destination: Arc<dyn Destination>,
        opening: Opening,
        calls: UnboundedReceiver<SessionCall>,
    ) {
        // The session is dropped before its end is told: the next one looks up what landed, and must
        // not do so while this one can still write.
        match self.run_session(destination, opening, calls).await {
            Ok(true) => {
                self.forward_acknowledgements();
                self.report(SessionEventKind::Closed);
            }
            Ok(false) => {}
            Err((error, operation)) => {
                self.forward_acknowledgements();
                self.report(SessionEventKind::Broke { error, operation });
            }
        }
    }

    /// Whether the session was closed, rather than given up.
    async fn run_session(
        &mut self,
        destination: Arc<dyn Destination>,
        opening: Opening,
        mut calls: UnboundedReceiver<SessionCall>,
    ) -> Result<bool, (Error, Operation)> {
        let opening = within(LONGEST_OPEN, "open", destination.open(opening));
        let opened = self.watching(Operation::Open, opening).await?;
        self.report(SessionEventKind::Opened {
            landed: opened.landed,
            conclusive: opened.conclusive,
        });
        let mut session = opened.session;
        loop {
            if let Some(error) = self.forward_acknowledgements() {
                return Err((error, Operation::Idle));
            }
            // A session that is due is flushed before it is given more, or a steady stream of
            // writes would put its commit off for ever.
            if session.flush_due().is_some_and(|due| due <= now()) {
                self.flush(&mut session).await?;
                continue;
            }
            let due = session.flush_due();
            let call = tokio::select! {
                biased;
                Some(acknowledgement) = self.acknowledgements.recv() => {
                    match acknowledgement {
                        Acknowledgement::Broken { error } => return Err((error, Operation::Idle)),
                        other => self.report(SessionEventKind::Acknowledged(other)),
                    }
                    continue;
                }
                call = calls.recv() => call,
                () = until(due) => continue,
            };
            match call {
                Some(SessionCall::Write(write)) => {
                    let id = write.id;
                    let start = now();
                    self.last_sent = id;
                    self.report(SessionEventKind::Sent { id });
                    self.watching(Operation::Write(id), session.write(write)).await?;
                    // Reported before the acknowledgements that came with it: a write that these settle
                    // would never learn what its encoding took.
                    let took = now().saturating_duration_since(start);
                    self.report(SessionEventKind::Written { id, took });
                }
                Some(SessionCall::Flush) => self.flush(&mut session).await?,
                Some(SessionCall::Close) => {
                    let closing = within(LONGEST_CLOSE, "close", session.close());
                    self.watching(Operation::Close, closing).await?;
                    return Ok(true);
                }
                None => return Ok(false),
            }
        }
    }

    async fn flush(&mut self, session: &mut Box<dyn Session>) -> Result<(), (Error, Operation)> {
        self.watching(Operation::Flush, session.flush()).await?;
        if let Some(error) = self.forward_acknowledgements() {
            return Err((error, Operation::Idle));
        }
        self.report(SessionEventKind::Flushed {
            through: self.last_sent,
        });
        Ok(())
    }

    /// Waits for a call on the session and passes on acknowledgements meanwhile: a destination may
    /// acknowledge early writes while it takes a later one.
    async fn watching<T>(
        &mut self,
        operation: Operation,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, (Error, Operation)> {
        // A panic that ended this task would leave every caller waiting for an event.
        let call = AssertUnwindSafe(call).catch_unwind();
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                Some(acknowledgement) = self.acknowledgements.recv() => match acknowledgement {
                    Acknowledgement::Broken { error } => return Err((error, Operation::Idle)),
                    other => self.report(SessionEventKind::Acknowledged(other)),
                },
                result = &mut call => return match result {
                    Ok(result) => result.map_err(|error| (error, operation)),
                    Err(_) => Err((panicked(), operation)),
                },
            }
        }
    }

    /// Passes on the acknowledgements that are there. Returns why the session broke, if one says so.
    fn forward_acknowledgements(&mut self) -> Option<Error> {
        let mut broken = None;
        while let Ok(acknowledgement) = self.acknowledgements.try_recv() {
            match acknowledgement {
                Acknowledgement::Broken { error } => broken = broken.or(Some(error)),
                other => self.report(SessionEventKind::Acknowledged(other)),
            }
        }
        broken
    }

    fn report(&self, kind: SessionEventKind) {
        let _ = self.events.send(SessionEvent {
            session: self.session,
            kind,
        });
    }
}

async fn within<T>(
    limit: Duration,
    operation: &'static str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let text = format!("the destination did not {operation} a session within {limit:?}");
        Err(Error::new(Code::Unavailable, text).during(operation))
    })
}

fn panicked() -> Error {
    // The destination may hold rows of the call that panicked.
    Error::new(Code::Internal, "the destination panicked").ambiguous()
}
