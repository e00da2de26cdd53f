//! What a stream was given and how much of it is durable, in rows of the writes as they came. Pure.
//!
//! Invariants:
//! - Writes are reported in order, each once, when all that was sent of it is durable.
//! - A row that was refused is never reported as durable, not even in passing.
//!
//! It knows batches by their number on the stream only.

use std::collections::VecDeque;

use crate::destination::{Acknowledgement, Position, Rejection};

#[derive(Debug, Default)]
pub struct Progress {
    writes: VecDeque<Sent>,
    /// Batches acknowledged by this stream.
    pub acknowledged: u64,
    /// Batches that this stream was given.
    pub given: u64,
}

#[derive(Debug)]
struct Sent {
    id: u64,
    rows: usize,
    /// Rows at its start that an earlier stream settled without being able to say so.
    settled: usize,
    rejections: Vec<Rejection>,
    /// Rows of its batches that are not acknowledged.
    batches: VecDeque<usize>,
    /// Rows of its batches that are.
    done: usize,
}

/// A write of which the first rows are settled, some refused among them: nothing in between can be told,
/// so it is remembered for when the write comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    pub id: u64,
    pub rows: usize,
}

impl Progress {
    /// A write is about to be sent as batches of so many rows each.
    pub fn begin(
        &mut self,
        id: u64,
        rows: usize,
        settled: usize,
        rejections: Vec<Rejection>,
        batches: VecDeque<usize>,
    ) {
        self.given += batches.len() as u64;
        self.writes.push_back(Sent {
            id,
            rows,
            settled,
            rejections,
            batches,
            done: 0,
        });
    }

    /// The next batch is durable.
    pub fn acknowledge(&mut self) {
        self.acknowledged += 1;
        if let Some(sent) = self.writes.iter_mut().find(|sent| !sent.batches.is_empty()) {
            sent.done += sent.batches.pop_front().unwrap_or_default();
        }
    }

    /// What can be said now.
    pub fn report(&mut self) -> Vec<Acknowledgement> {
        let mut said = Vec::new();
        let position = Position::None;
        while let Some(Sent { id, rejections, .. }) = self.writes.pop_front_if(|sent| sent.batches.is_empty())
        {
            if !rejections.is_empty() {
                said.push(Acknowledgement::Refused {
                    id,
                    rejections,
                    position,
                });
            } else if let Some(Acknowledgement::Through { id: last, .. }) = said.last_mut() {
                *last = id;
            } else {
                said.push(Acknowledgement::Through { id, position });
            }
        }
        said
    }

    /// The stream is over; of the next batch, if it was sent, so many rows were not acknowledged. Says which
    /// rows of the oldest write are durable all the same, and what has to be remembered of it; nothing if this
    /// stream held no write.
    pub fn end(&self, unacknowledged: Option<usize>) -> Option<(Option<Acknowledgement>, Option<Half>)> {
        let sent = self.writes.front()?;
        let next = sent.batches.front().copied().unwrap_or_default();
        let done = sent.done + unacknowledged.map_or(0, |rows| next.saturating_sub(rows));
        let through = sent.through(done);
        let first_refused = sent
            .rejections
            .iter()
            .map(|rejection| rejection.row as usize)
            .min();
        let told = through.min(first_refused.unwrap_or(sent.rows));
        let partly = (told > 0).then_some(Acknowledgement::Partly {
            id: sent.id,
            rows: told,
        });
        let half = (through > told).then_some(Half {
            id: sent.id,
            rows: through - told,
        });
        Some((partly, half))
    }
}

impl Sent {
    /// Up to where the write is settled, once `done` of the rows that were sent are durable.
    fn through(&self, done: usize) -> usize {
        let mut refused = self
            .rejections
            .iter()
            .map(|rejection| rejection.row as usize)
            .peekable();
        while refused.next_if(|row| *row < self.settled).is_some() {}
        let mut through = self.settled;
        let mut left = done;
        while left > 0 {
            if refused.next_if_eq(&through).is_none() {
                left -= 1;
            }
            through += 1;
        }
        through
    }
}
