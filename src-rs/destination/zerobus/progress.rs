//! How far each write of a stream is: sent and durable, in rows of the write as it came. Pure.
//!
//! Invariants:
//! - The session reports writes in order, each once, when all its sent rows are durable.
//! - The session never reports a refused row as durable.
//!
//! A batch is known by its number on the stream only.

use std::collections::VecDeque;

use crate::destination::Acknowledgement;
use crate::outcome::{Position, Rejection};

#[derive(Debug, Default)]
pub struct ZerobusProgress {
    writes: VecDeque<WriteProgress>,
    /// Batches acknowledged by this stream.
    pub acknowledged: u64,
    /// Batches that this stream was given.
    pub given: u64,
}

#[derive(Debug)]
struct WriteProgress {
    id: u64,
    /// In the order of their rows.
    rejections: Vec<Rejection>,
    /// Rows of its batches that are not acknowledged.
    batches: VecDeque<usize>,
    /// Rows of its batches that are.
    done: usize,
}

impl ZerobusProgress {
    /// A write is about to be sent as batches of so many rows each.
    pub fn begin(&mut self, id: u64, rejections: Vec<Rejection>, batches: VecDeque<usize>) {
        self.given += batches.len() as u64;
        self.writes.push_back(WriteProgress {
            id,
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
        while let Some(sent) = self.writes.pop_front_if(|sent| sent.batches.is_empty()) {
            let WriteProgress { id, rejections, .. } = sent;
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
    /// rows of the oldest write are settled all the same.
    pub fn end(&self, unacknowledged: Option<usize>) -> Option<Acknowledgement> {
        let sent = self.writes.front()?;
        let next = sent.batches.front().copied().unwrap_or_default();
        let done = sent.done + unacknowledged.map_or(0, |rows| next.saturating_sub(rows));
        let (id, rows) = (sent.id, sent.through(done));
        let before = |rejection: &&Rejection| rejection.row < rows as u64;
        let rejections: Vec<Rejection> = sent.rejections.iter().filter(before).cloned().collect();
        match (rows, rejections.is_empty()) {
            (0, _) => None,
            (_, true) => Some(Acknowledgement::Partly { id, rows }),
            (_, false) => Some(Acknowledgement::PartlyRefused { id, rows, rejections }),
        }
    }
}

impl WriteProgress {
    /// Up to where the write is settled, once `done` of the rows that were sent are durable.
    fn through(&self, done: usize) -> usize {
        let refused = self.rejections.iter().map(|rejection| rejection.row as usize);
        let mut refused = refused.peekable();
        let (mut through, mut left) = (0, done);
        while left > 0 {
            if refused.next_if_eq(&through).is_none() {
                left -= 1;
            }
            through += 1;
        }
        through
    }
}
