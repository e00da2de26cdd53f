//! How the stage ends: what is not settled stays in the spool, and whoever waits is told so.
//!
//! Invariants:
//! - Every caller is told before a close is answered, and the spool is free for others then: or, where the disk takes
//!   longer than [`DISK_PATIENCE`], as soon as it has answered.
//! - A disk that does not answer is waited for, past the deadline, for [`DISK_PATIENCE`] in all: each step has what the
//!   steps before it have left, and takes what is ready even when that is nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{DISK_PATIENCE, Spooling, StageEvent, ended};
use crate::disk;
use crate::error::{Code, Error};
use crate::outcome::Status;
use crate::transmitter::Reply;
use crate::transmitter::clock::{LONGEST, now};
use crate::transmitter::engine::Control;
use crate::transmitter::intake::Arrival;

/// What is to be ended with the stage.
pub struct StageTasks {
    pub feeding: JoinHandle<()>,
    pub appending: JoinHandle<()>,
    pub over: oneshot::Sender<()>,
}

pub struct SpoolClosing {
    pub deadline: Instant,
    pub arrived: bool,
    pub replies: Vec<Reply>,
}

impl Spooling {
    pub(super) fn close_by(&mut self, deadline: Duration) -> &mut SpoolClosing {
        let by = now() + deadline.min(LONGEST);
        let closing = self.closing.get_or_insert(SpoolClosing {
            deadline: by,
            arrived: false,
            replies: Vec::new(),
        });
        closing.deadline = closing.deadline.min(by);
        closing
    }

    /// Everything that is not settled stays in the spool, and whoever waits is told so.
    pub(super) async fn end(mut self, mut inbox: UnboundedReceiver<StageEvent>, ends: StageTasks) {
        let StageTasks {
            feeding,
            appending,
            over,
        } = ends;
        let _ = self.stop.send(true);
        // Nobody makes room on a full disk now, and waiting for it would take the time of all steps.
        self.spool.wait_for_room_no_longer();
        drop(over);
        feeding.abort();
        let _ = feeding.await;
        let began = now();
        let deadline = self.closing.as_ref().map_or(began, |closing| closing.deadline);
        let left = deadline.saturating_duration_since(began);
        // One moment for all steps: a disk that hangs would hold up each of them anew.
        let by = tokio::time::Instant::from_std(deadline.min(began) + DISK_PATIENCE);
        if let Some(engine) = self.engine.take() {
            let (done, engine_ended) = oneshot::channel();
            let reply = Reply::new(move |_| {
                let _ = done.send(());
            });
            let close = Arrival::Close {
                deadline: left,
                reply,
            };
            let _ = self.engine_control.send(Control::CloseBy(left));
            let ended = async move {
                let _ = engine.send(vec![close]).await;
                drop(engine);
                let _ = engine_ended.await;
            };
            let _ = tokio::time::timeout_at(by, ended).await;
        }
        let _ = tokio::time::timeout_at(by, appending).await;
        let mut turn = Vec::new();
        while let Ok(event) = inbox.try_recv() {
            turn.push(event);
        }
        self.on_events(&mut turn);
        // All that was taken is brought to the disk, as far as that answers in time.
        let _ = tokio::time::timeout_at(by, self.finish_disk()).await;
        // Both go on by themselves, whether somebody waits for them or not.
        self.spool.abandon();
        let spool = Arc::clone(&self.spool);
        let closed = disk::spawn(move || spool.end_and_wait());
        let _ =
            tokio::time::timeout_at(by, async { tokio::join!(self.recording.mover.close(), closed) }).await;
        for (_, caller) in std::mem::take(&mut self.callers) {
            let outcome = match caller.durable {
                true => ended(&caller.entry, Status::Spooled, None),
                false => {
                    let text = "the client was closed, and the disk has not said whether it has this";
                    let error = Error::new(Code::DeadlineExceeded, text)
                        .during("close")
                        .ambiguous();
                    ended(&caller.entry, Status::Unknown, Some(error))
                }
            };
            self.tell(&caller, outcome);
        }
        self.by_sequence.clear();
        // What the feeder had room for and did not bring any more.
        self.behind.release(self.behind.in_flight_bytes());
        if let Some(closing) = self.closing.take() {
            for reply in closing.replies {
                reply.answer(Ok(()));
            }
        }
    }

    /// Waits for what is on its way to the disk.
    async fn finish_disk(&mut self) {
        loop {
            self.recording.move_next();
            if self.durables.is_empty() && self.cancels.is_empty() && !self.recording.is_moving() {
                return;
            }
            tokio::select! {
                Some((position, result)) = self.durables.next(), if !self.durables.is_empty() => {
                    self.on_durable(position, result);
                }
                Some(cancelled) = self.cancels.next(), if !self.cancels.is_empty() => {
                    self.on_cancelled(cancelled);
                }
                moved = self.recording.moved() => self.on_moved(moved),
            }
        }
    }
}
