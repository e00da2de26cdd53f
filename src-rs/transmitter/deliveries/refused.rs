//! Deliveries whose refused rows go to the dead-letter directory before their outcome is told.
//!
//! Invariants:
//! - A delivery that is held leaves once: when the disk has its rows, when the disk gives up, or when nobody
//!   waits for the disk any longer.
//! - Without a dead-letter directory nothing is held.
//!
//! It writes no file: `dead_letter` does, on a thread of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::dead_letter::{DeadLetterRows, DeadLetters};
use crate::destination::Write;
use crate::outcome::SettledDelivery;
use crate::transmitter::Reply;
use crate::transmitter::rows::{RefusedRange, pick, runs};

pub struct RefusedOnDisk {
    dead_letters: Option<DeadLetters>,
    /// Settled deliveries of which refused rows are on their way to the disk.
    held: BTreeMap<u64, SettledDelivery>,
    kept: UnboundedSender<u64>,
    inbox: UnboundedReceiver<u64>,
}

impl RefusedOnDisk {
    pub fn new(dead_letters: Option<DeadLetters>) -> RefusedOnDisk {
        let (kept, inbox) = unbounded_channel();
        RefusedOnDisk {
            dead_letters,
            held: BTreeMap::new(),
            kept,
            inbox,
        }
    }

    /// Sends refused rows of a delivery to the disk.
    pub fn keep(&self, write: &Write, refused: &RefusedRange) {
        let (Some(dead_letters), Some(first)) = (&self.dead_letters, write.batches.first()) else {
            return;
        };
        if refused.rejections.is_empty() {
            return;
        }
        let rows = refused.rejections.iter().map(|rejection| {
            let row = refused.start + rejection.row as usize - refused.range.first_row;
            row..row + 1
        });
        dead_letters.keep(DeadLetterRows {
            schema: first.schema(),
            batches: pick(&write.batches, runs(rows)),
            sequence: refused.range.sequence,
            rejections: refused.rejections.clone(),
        });
    }

    /// Sends refused rows that are in no delivery to the disk, and answers once they are there or never will be.
    pub fn keep_alone(&self, sequence: u64, rows: String, reply: Reply) {
        let Some(dead_letters) = &self.dead_letters else {
            reply.answer(Ok(()));
            return;
        };
        dead_letters.keep_json(sequence, rows);
        dead_letters.sync(move || reply.answer(Ok(())));
    }

    /// Holds a delivery with refused rows until these are on the disk. Gives back any other.
    pub fn hold(&mut self, settled: SettledDelivery) -> Option<SettledDelivery> {
        let Some(dead_letters) = self
            .dead_letters
            .as_ref()
            .filter(|_| !settled.outcome.rejections.is_empty())
        else {
            return Some(settled);
        };
        let sequence = settled.outcome.sequence;
        self.held.insert(sequence, settled);
        let kept = self.kept.clone();
        dead_letters.sync(move || {
            let _ = kept.send(sequence);
        });
        None
    }

    /// The next delivery of which the disk has the rows, or will never have them.
    pub async fn next_kept(&mut self) -> Option<u64> {
        self.inbox.recv().await
    }

    pub fn take(&mut self, sequence: u64) -> Option<SettledDelivery> {
        self.held.remove(&sequence)
    }

    pub fn take_all(&mut self) -> impl Iterator<Item = SettledDelivery> + use<> {
        std::mem::take(&mut self.held).into_values()
    }

    pub fn oldest(&self) -> Option<u64> {
        self.held.keys().next().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Gives every file its final name, for as long as somebody has the patience.
    pub async fn close(&mut self, patience: Duration) {
        let Some(dead_letters) = self.dead_letters.take() else {
            return;
        };
        let (done, closed) = oneshot::channel();
        dead_letters.close(move || {
            let _ = done.send(());
        });
        let _ = tokio::time::timeout(patience, closed).await;
    }
}
