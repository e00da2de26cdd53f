//! What a spool knows of its own openings: how many there were, and which epoch was left at the destination.
//!
//! Invariants:
//! - What is left at a destination is on the disk before: else the next opening would take it for a copy's.
//! - Two epochs are known: the one that was found there last, and the one of the last opening that got as far as to
//!   leave one. An opening that found no destination has left none, and changes neither. Where the spool was sent to
//!   another target and back, those of then are known, too.
//!
//! In the cursor's mark: the number of openings (32 bits), the epoch that was found (48), the last own one (48).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Mutex;

use crate::destination::Epochs;
use crate::error::{Code, Error, Result};
use crate::spool::{Recovered, Spool};
use crate::transmitter::{Event, Log, Observer};

const BITS: u32 = 48;

pub struct SpoolEpochs {
    spool: Arc<Spool>,
    /// Rows were settled before this opening.
    has_delivered: bool,
    /// Of each time that the spool was sent from this target to another one.
    former: Vec<EpochMark>,
    state: Mutex<EpochState>,
    warned: AtomicBool,
    observer: Observer,
}

struct EpochState {
    mark: EpochMark,
    counted: bool,
    /// What was found first, and the epoch of this opening.
    confirmed: Option<(Option<u64>, u64)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct EpochMark {
    openings: u32,
    /// 0: none.
    found: u64,
    own: u64,
}

impl EpochMark {
    fn decode(mark: [u8; 16]) -> EpochMark {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        EpochMark {
            openings: number(&mark[..4]) as u32,
            found: number(&mark[4..10]),
            own: number(&mark[10..]),
        }
    }

    fn has(self, epoch: u64) -> bool {
        epoch == self.found || epoch == self.own
    }

    fn encode(self) -> [u8; 16] {
        let mut mark = [0; 16];
        mark[..4].copy_from_slice(&self.openings.to_le_bytes());
        mark[4..10].copy_from_slice(&self.found.to_le_bytes()[..6]);
        mark[10..].copy_from_slice(&self.own.to_le_bytes()[..6]);
        mark
    }
}

impl SpoolEpochs {
    pub fn new(spool: &Arc<Spool>, recovered: &Recovered, observer: Observer) -> SpoolEpochs {
        SpoolEpochs {
            spool: Arc::clone(spool),
            has_delivered: recovered.position > 0,
            former: recovered
                .former_marks
                .iter()
                .copied()
                .map(EpochMark::decode)
                .collect(),
            state: Mutex::new(EpochState {
                mark: recovered.mark.map(EpochMark::decode).unwrap_or_default(),
                counted: false,
                confirmed: None,
            }),
            warned: AtomicBool::new(false),
            observer,
        }
    }
}

#[async_trait]
impl Epochs for SpoolEpochs {
    async fn opening(&self) -> Result<u64> {
        let mut state = self.state.lock().await;
        if !state.counted {
            let mark = EpochMark {
                openings: state.mark.openings.wrapping_add(1),
                ..state.mark
            };
            self.spool.mark(mark.encode()).await?;
            state.mark = mark;
            state.counted = true;
        }
        Ok(u64::from(state.mark.openings))
    }

    async fn confirm(&self, found: Option<u64>) -> Result<u64> {
        let mut state = self.state.lock().await;
        if let Some((first, own)) = state.confirmed {
            return match found {
                Some(found) if found != own && Some(found) != first => Err(foreign(&self.spool)),
                _ => Ok(own),
            };
        }
        let is_known = |found| state.mark.has(found) || self.former.iter().any(|mark| mark.has(found));
        if found.is_some_and(|found| !is_known(found)) {
            return Err(foreign(&self.spool));
        }
        let fresh = fastrand::u64(1..1 << BITS);
        let mark = EpochMark {
            found: found.unwrap_or(0),
            own: fresh,
            ..state.mark
        };
        self.spool.mark(mark.encode()).await?;
        state.mark = mark;
        state.confirmed = Some((found, fresh));
        Ok(fresh)
    }

    fn written(&self) -> u64 {
        self.spool.next_position()
    }

    fn forgotten(&self) {
        if !self.has_delivered || self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        (self.observer)(Event::Log(Log {
            level: "warn",
            message: "the destination does not know this spool any more: rows that it has may be sent again"
                .into(),
            fields: json!({ "spool": self.spool.directory().display().to_string() }),
        }));
    }
}

fn foreign(spool: &Spool) -> Error {
    let text = format!(
        "the destination has rows of a copy of the spool {}: one of the two directories was copied or restored, and their rows cannot be told apart; deliver from one of them, and begin another spool for the other",
        spool.directory().display()
    );
    Error::new(Code::SpoolForeign, text).during("open")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = EpochMark {
            openings: u32::MAX - 1,
            found: (1 << BITS) - 2,
            own: 0x0102_0304_0506,
        };
        assert_eq!(EpochMark::decode(mark.encode()), mark);
        assert_eq!(EpochMark::decode([0; 16]), EpochMark::default());
    }
}
