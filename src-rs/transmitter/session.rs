//! Drives one session on a task of its own, so that the transmitter never waits for a destination.
//!
//! Invariants:
//! - Calls on a session never overlap, and none follows an error.
//! - Acknowledgements reach the transmitter before the event that ends the session, and that event
//!   after the session is dropped.
//! - However a session ends, in a panic too, the transmitter is told.
//! - Opening and closing end, whatever the destination waits for.
//! - Dropping the [`Driver`] drops the session: nothing it holds outlives the transmitter's interest.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::destination::{Acknowledgement, Acknowledgements, Destination, Opening, Session, Write};
use crate::error::{Code, Error, Result};

/// How long opening a session may take. It is a bound for what hangs: who waits has a deadline of their own.
const LONGEST_OPEN: Duration = Duration::from_secs(300);
/// How long closing one may take: other rows wait for it.
const LONGEST_CLOSE: Duration = Duration::from_secs(300);

/// What the transmitter asks of the session.
pub enum Call {
    Write(Arc<Write>),
    Flush,
    Close,
}

/// What the session says, with the number of the session that says it.
pub struct SessionEvent {
    pub session: u64,
    pub kind: Kind,
}

pub enum Kind {
    Opened {
        landed: Vec<Acknowledgement>,
        /// As [`Opened::conclusive`](crate::destination::Opened::conclusive).
        conclusive: bool,
    },
    Acknowledged(Acknowledgement),
    /// The session is about to be given this write.
    Taken {
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
        during: During,
    },
    /// No session's word, but about this one's end: whether those may be tried again that were tried as
    /// often as this write, the oldest of them.
    Judged {
        oldest: u64,
        answer: Result<bool>,
    },
    /// No session's word: the refused rows of this delivery are in the dead-letter directory, or never
    /// will be.
    Kept {
        sequence: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum During {
    Open,
    Write(u64),
    Flush,
    Close,
    /// Between calls.
    Idle,
}

pub struct Driver {
    calls: UnboundedSender<Call>,
    task: JoinHandle<()>,
}

impl Driver {
    pub fn start(
        session: u64,
        destination: Arc<dyn Destination>,
        opening: impl FnOnce(Acknowledgements) -> Opening,
        events: UnboundedSender<SessionEvent>,
    ) -> Driver {
        let (calls, receiver) = unbounded_channel();
        let (sender, acknowledgements) = Acknowledgements::channel();
        let opening = opening(sender);
        let drive = Drive {
            session,
            acknowledgements,
            events,
            taken: 0,
        };
        let task = tokio::spawn(drive.run(destination, opening, receiver));
        Driver { calls, task }
    }

    /// A session that has ended takes no calls; its last event says why.
    pub fn call(&self, call: Call) {
        let _ = self.calls.send(call);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Drive {
    session: u64,
    acknowledgements: UnboundedReceiver<Acknowledgement>,
    events: UnboundedSender<SessionEvent>,
    /// The last write that the session was given.
    taken: u64,
}

impl Drive {
    async fn run(
        mut self,
        destination: Arc<dyn Destination>,
        opening: Opening,
        calls: UnboundedReceiver<Call>,
    ) {
        // The session is dropped before its end is told: the next one looks up what landed, and must
        // not do so while this one can still write.
        match self.drive(destination, opening, calls).await {
            Ok(true) => {
                self.pass_on();
                self.say(Kind::Closed);
            }
            Ok(false) => {}
            Err((error, during)) => {
                self.pass_on();
                self.say(Kind::Broke { error, during });
            }
        }
    }

    /// Whether the session was closed, rather than given up.
    async fn drive(
        &mut self,
        destination: Arc<dyn Destination>,
        opening: Opening,
        mut calls: UnboundedReceiver<Call>,
    ) -> Result<bool, (Error, During)> {
        let opening = within(LONGEST_OPEN, "open", destination.open(opening));
        let opened = self.watching(During::Open, opening).await?;
        self.say(Kind::Opened {
            landed: opened.landed,
            conclusive: opened.conclusive,
        });
        let mut session = opened.session;
        loop {
            if let Some(error) = self.pass_on() {
                return Err((error, During::Idle));
            }
            // A session that is due is flushed before it is given more, or a steady stream of
            // writes would put its commit off for ever.
            if session.flush_due().is_some_and(|due| due <= std_now()) {
                self.flush(&mut session).await?;
                continue;
            }
            let due = session.flush_due().map(Instant::from_std);
            let call = tokio::select! {
                biased;
                Some(acknowledgement) = self.acknowledgements.recv() => {
                    match acknowledgement {
                        Acknowledgement::Broken { error } => return Err((error, During::Idle)),
                        other => self.say(Kind::Acknowledged(other)),
                    }
                    continue;
                }
                call = calls.recv() => call,
                () = until(due) => continue,
            };
            match call {
                Some(Call::Write(write)) => {
                    let id = write.id;
                    let start = Instant::now();
                    self.taken = id;
                    self.say(Kind::Taken { id });
                    self.watching(During::Write(id), session.write(write)).await?;
                    // Said before the acknowledgements that came with it, or a write that is settled
                    // by them would never learn what its encoding took.
                    let took = start.elapsed();
                    self.say(Kind::Written { id, took });
                }
                Some(Call::Flush) => self.flush(&mut session).await?,
                Some(Call::Close) => {
                    let closing = within(LONGEST_CLOSE, "close", session.close());
                    self.watching(During::Close, closing).await?;
                    return Ok(true);
                }
                None => return Ok(false),
            }
        }
    }

    async fn flush(&mut self, session: &mut Box<dyn Session>) -> Result<(), (Error, During)> {
        self.watching(During::Flush, session.flush()).await?;
        if let Some(error) = self.pass_on() {
            return Err((error, During::Idle));
        }
        self.say(Kind::Flushed { through: self.taken });
        Ok(())
    }

    /// Waits for a call on the session and passes on acknowledgements meanwhile: a destination may
    /// acknowledge early writes while it takes a later one.
    async fn watching<T>(
        &mut self,
        during: During,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, (Error, During)> {
        // A panic that ended this task without a word would leave every caller waiting.
        let call = AssertUnwindSafe(call).catch_unwind();
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                Some(acknowledgement) = self.acknowledgements.recv() => match acknowledgement {
                    Acknowledgement::Broken { error } => return Err((error, During::Idle)),
                    other => self.say(Kind::Acknowledged(other)),
                },
                result = &mut call => return match result {
                    Ok(result) => result.map_err(|error| (error, during)),
                    Err(_) => Err((panicked(), during)),
                },
            }
        }
    }

    /// Passes on what is there. Returns why the session broke, if it says so.
    fn pass_on(&mut self) -> Option<Error> {
        let mut broken = None;
        while let Ok(acknowledgement) = self.acknowledgements.try_recv() {
            match acknowledgement {
                Acknowledgement::Broken { error } => broken = broken.or(Some(error)),
                other => self.say(Kind::Acknowledged(other)),
            }
        }
        broken
    }

    fn say(&self, kind: Kind) {
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
    // Nobody knows how far it got.
    Error::new(Code::Internal, "the destination panicked").ambiguous()
}

fn std_now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
