//! Ends of rows that did not land, until the disk has them.
//!
//! Invariants:
//! - Rows are put aside in the order in which they ended, and what the disk did not take is tried again until it does.
//! - The engine hears of each end once, after the disk has it. Until then it holds back what lies behind.
//! - A disk that has taken nothing for [`RECORD_PATIENCE`] holds nothing up: the engine is told so once, and once more
//!   when the disk takes something again.
//!
//! It settles nothing and tells no caller.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::Task;
use super::moving::{Move, Moved, Mover};
use crate::error::Result;
use crate::transmitter::clock::now;
use crate::transmitter::engine::Control;

/// For how long nothing is delivered because a disk does not take rows that were refused.
pub const RECORD_PATIENCE: Duration = Duration::from_secs(10);
/// Until rows are put aside again that a disk did not take.
const MOVE_AGAIN: Duration = Duration::from_secs(1);

pub struct Recording {
    pub mover: Mover,
    moves: VecDeque<Move>,
    moving: Option<Task<Moved>>,
    /// Deliveries that are taken back in the log, and hold the engine up.
    cancels: usize,
    /// When the disk took an end last, or the first of those came that it has not taken.
    last: Instant,
    /// That was long ago, and the engine was told so.
    is_overdue: bool,
    engine: UnboundedSender<Control>,
}

impl Recording {
    pub fn new(mover: Mover, engine: UnboundedSender<Control>) -> Recording {
        Recording {
            mover,
            moves: VecDeque::new(),
            moving: None,
            cancels: 0,
            last: now(),
            is_overdue: false,
            engine,
        }
    }

    /// Puts rows aside when its turn comes.
    pub fn add(&mut self, next: Move) {
        self.begin();
        self.moves.push_back(next);
    }

    /// A delivery is taken back in the log, and the engine holds back what lies behind it.
    pub fn cancel(&mut self) {
        self.begin();
        self.cancels += 1;
    }

    /// The log has that.
    pub fn cancelled(&mut self) {
        self.cancels -= 1;
        self.recorded(1);
        // A log that works says nothing of the files that rows wait for.
        if !self.is_moving() {
            self.goes_on();
        }
    }

    /// Begins with what is to be put aside next.
    pub fn move_next(&mut self) {
        if self.moving.is_none()
            && let Some(first) = self.moves.pop_front()
        {
            let moves = self.mover.group(first, &mut self.moves);
            self.moving = Some(self.mover.begin(moves));
        }
    }

    /// Rows are put aside, or are to be.
    pub fn is_moving(&self) -> bool {
        self.moving.is_some() || !self.moves.is_empty()
    }

    /// Waits for the end of the try that is under way, for ever if none is. May be dropped.
    pub async fn moved(&mut self) -> Moved {
        let Some(moving) = &mut self.moving else {
            return std::future::pending().await;
        };
        let moved = moving.await;
        self.moving = None;
        moved
    }

    /// What the disk has taken in that try. The engine is told with [`Recording::recorded`], after that is settled.
    ///
    /// # Errors
    /// When it did not take all of it: it is tried again.
    pub fn finish(&mut self, moved: Moved) -> Result<Vec<Move>> {
        match moved.result {
            Ok(()) => {
                self.goes_on();
                Ok(moved.moves)
            }
            Err(error) => {
                self.moving = Some(self.mover.begin_again(moved.moves, MOVE_AGAIN));
                Err(error)
            }
        }
    }

    /// The disk knows how so many more ranges have ended.
    pub fn recorded(&self, ends: usize) {
        if ends > 0 {
            let _ = self.engine.send(Control::Recorded(ends));
        }
    }

    /// When the engine goes on, whatever the disk does.
    pub fn due(&self) -> Option<Instant> {
        let is_waiting = self.is_recording() && !self.is_overdue;
        is_waiting.then(|| self.last + RECORD_PATIENCE)
    }

    /// Lets the engine go on, if that is due. True if it was.
    pub fn give_up(&mut self) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now());
        if is_due {
            self.is_overdue = true;
            let _ = self.engine.send(Control::CannotRecord);
        }
        is_due
    }

    fn is_recording(&self) -> bool {
        self.is_moving() || self.cancels > 0
    }

    fn begin(&mut self) {
        if !self.is_recording() {
            self.last = now();
        }
    }

    /// The disk has taken the oldest end that it was asked for.
    fn goes_on(&mut self) {
        self.last = now();
        if std::mem::take(&mut self.is_overdue) {
            let _ = self.engine.send(Control::CanRecord);
        }
    }
}
