//! What others may ask of a stage that runs.
//!
//! It changes nothing that is delivered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::ages::Ages;
use super::feeding::FeedState;
use super::held;
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::spool::{Recovered, Spool};
use crate::transmitter::clock::now;

/// What others may ask of a stage that runs.
pub struct SpoolView {
    pub(super) spool: Arc<Spool>,
    pub(super) feed: Arc<Mutex<FeedState>>,
    pub(super) ages: Arc<Mutex<Ages>>,
    pub recovered: Recovered,
}

/// What the stage says of itself, for `stats`.
#[derive(Debug, Clone, Copy)]
pub struct SpoolStats {
    /// On the disk, failed and refused rows included.
    pub bytes: u64,
    /// Rows that are not settled.
    pub rows: u64,
    /// For how long the oldest of them has been there, as far as it was read.
    pub oldest: Option<Duration>,
    /// The same of what was there when the spool was opened, at that time.
    pub recovered_oldest: Option<Duration>,
}

impl SpoolView {
    pub fn stats(&self) -> SpoolStats {
        let oldest = held(&self.feed).oldest();
        let ages = held(&self.ages);
        let recovered_ms = self.recovered.left.oldest_ms;
        SpoolStats {
            bytes: self.spool.bytes(),
            rows: self.spool.unsettled_rows(),
            oldest: oldest.map(|(position, time_ms)| ages.age(position, time_ms, now())),
            recovered_oldest: recovered_ms.map(|time_ms| ages.when_opened(time_ms)),
        }
    }

    /// # Errors
    /// As [`Spool::keep_schema`].
    pub async fn keep_schema(&self, schema: Vec<u8>) -> Result<()> {
        let spool = self.spool.clone();
        let kept = disk::spawn(move || spool.keep_schema(&schema)).await;
        let panicked = |_| Err(Error::new(Code::Internal, "keeping a schema panicked").during("spool"));
        kept.unwrap_or_else(panicked)
    }

    pub async fn kept_schema(&self) -> Option<Vec<u8>> {
        let spool = self.spool.clone();
        disk::spawn(move || spool.kept_schema()).await.unwrap_or(None)
    }

    /// Lets others open the spool once its writer has ended, without waiting for it.
    pub fn abandon(&self) {
        self.spool.abandon();
    }
}
