//! Drives one session on a task of its own, so that the transmitter never waits for a destination.
//!
//! Invariants:
//! - Calls on a session never overlap, and none follows an error.
//! - Acknowledgements reach the transmitter before the event that ends the session.
//! - Dropping the [`Driver`] drops the session: nothing it holds outlives the transmitter's interest.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::destination::{Acknowledgement, Acknowledgements, Destination, Opening, Position, Write};
use crate::error::Error;

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
    Opened { landed: Option<(u64, Position)> },
    Acknowledged(Acknowledgement),
    Written { id: u64, took: Duration },
    Flushed,
    Closed,
    Broke { error: Error, during: During },
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
}

impl Drive {
    async fn run(
        mut self,
        destination: Arc<dyn Destination>,
        opening: Opening,
        mut calls: UnboundedReceiver<Call>,
    ) {
        let opened = match self.watching(destination.open(opening)).await {
            Ok(opened) => opened,
            Err((error, during)) => return self.broke(error, during.unwrap_or(During::Open)),
        };
        self.say(Kind::Opened {
            landed: opened.landed,
        });
        let mut session = opened.session;
        loop {
            // A session that is due is flushed before it is given more, or a steady stream of
            // writes would put its commit off for ever.
            if session.flush_due().is_some_and(|due| due <= std_now()) {
                match self.watching(session.flush()).await {
                    Ok(()) => self.say(Kind::Flushed),
                    Err((error, during)) => return self.broke(error, during.unwrap_or(During::Flush)),
                }
                continue;
            }
            let due = session.flush_due().map(Instant::from_std);
            let call = tokio::select! {
                biased;
                Some(acknowledgement) = self.acknowledgements.recv() => {
                    match acknowledgement {
                        Acknowledgement::Broken { error } => return self.broke(error, During::Idle),
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
                    match self.watching(session.write(write)).await {
                        Ok(()) => self.say(Kind::Written {
                            id,
                            took: start.elapsed(),
                        }),
                        Err((error, during)) => {
                            return self.broke(error, during.unwrap_or(During::Write(id)));
                        }
                    }
                }
                Some(Call::Flush) => match self.watching(session.flush()).await {
                    Ok(()) => self.say(Kind::Flushed),
                    Err((error, during)) => return self.broke(error, during.unwrap_or(During::Flush)),
                },
                Some(Call::Close) => {
                    return match self.watching(session.close()).await {
                        Ok(()) => self.say(Kind::Closed),
                        Err((error, during)) => self.broke(error, during.unwrap_or(During::Close)),
                    };
                }
                None => return,
            }
        }
    }

    /// Waits for a call on the session and passes on acknowledgements meanwhile: a destination may
    /// acknowledge early writes while it takes a later one.
    async fn watching<T>(
        &mut self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, (Error, Option<During>)> {
        tokio::pin!(call);
        let result = loop {
            tokio::select! {
                biased;
                Some(acknowledgement) = self.acknowledgements.recv() => match acknowledgement {
                    Acknowledgement::Broken { error } => return Err((error, Some(During::Idle))),
                    other => self.say(Kind::Acknowledged(other)),
                },
                result = &mut call => break result,
            }
        };
        self.pass_on();
        result.map_err(|error| (error, None))
    }

    fn pass_on(&mut self) {
        while let Ok(acknowledgement) = self.acknowledgements.try_recv() {
            if !matches!(acknowledgement, Acknowledgement::Broken { .. }) {
                self.say(Kind::Acknowledged(acknowledgement));
            }
        }
    }

    fn broke(mut self, error: Error, during: During) {
        self.pass_on();
        self.say(Kind::Broke { error, during });
    }

    fn say(&self, kind: Kind) {
        let _ = self.events.send(SessionEvent {
            session: self.session,
            kind,
        });
    }
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
