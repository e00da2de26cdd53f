//! Writes handed to the destination and not acknowledged, in order. Pure.
//!
//! Invariants:
//! - All writes in the window have one schema: the session is drained before another is opened.
//! - A write keeps its id in every replay; only the rows that were acknowledged alone are cut off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;

use super::batcher::Draft;
use crate::destination::Write;
use crate::error::Error;
use crate::outcome::Segment;

#[derive(Default)]
pub struct Window {
    writes: VecDeque<Pending>,
    last_id: u64,
}

pub struct Pending {
    pub write: Arc<Write>,
    pub schema: SchemaRef,
    pub segments: Vec<Segment>,
    /// Tries so far, the one under way included.
    pub attempts: u32,
    pub first_sent: Option<Instant>,
    /// Handed to the session that is open now.
    pub sent: bool,
    /// An attempt ended in such a way that the write may have landed.
    pub maybe_landed: bool,
    /// Rows at its start that are durable and already settled.
    done_rows: usize,
}

impl Window {
    pub fn push(&mut self, draft: Draft) -> &mut Pending {
        self.last_id += 1;
        self.writes.push_back(Pending {
            write: Arc::new(Write {
                id: self.last_id,
                batches: draft.batches,
                rows: draft.rows,
                bytes: draft.bytes,
            }),
            schema: draft.schema,
            segments: draft.segments,
            attempts: 0,
            first_sent: None,
            sent: false,
            maybe_landed: false,
            done_rows: 0,
        });
        self.writes.back_mut().expect("pushed a line above")
    }

    /// Takes out every write up to `id`.
    pub fn through(&mut self, id: u64) -> Vec<Pending> {
        let count = self.writes.partition_point(|pending| pending.write.id <= id);
        self.writes.drain(..count).collect()
    }

    pub fn remove(&mut self, id: u64) -> Option<Pending> {
        let index = self.writes.iter().position(|pending| pending.write.id == id)?;
        self.writes.remove(index)
    }

    /// The first `rows` rows of write `id`, counted as it was sent, are durable. Returns the
    /// segments that this settles; the write stays for the rest.
    pub fn partly(&mut self, id: u64, rows: usize) -> Vec<Segment> {
        let Some(pending) = self.writes.iter_mut().find(|pending| pending.write.id == id) else {
            return Vec::new();
        };
        let fresh = rows.min(pending.write.rows).saturating_sub(pending.done_rows);
        pending.done_rows += fresh;
        take_rows(&mut pending.segments, fresh)
    }

    /// The session is gone: everything is to be sent again, but for the rows that were acknowledged.
    pub fn rewind(&mut self) {
        for pending in &mut self.writes {
            pending.sent = false;
            if pending.done_rows > 0 {
                pending.write = Arc::new(without_first(&pending.write, pending.done_rows));
                pending.done_rows = 0;
            }
        }
        self.writes.retain(|pending| pending.write.rows > 0);
    }

    /// Takes out what may not be tried again: too many attempts, or too late for another one.
    pub fn exhausted(&mut self, attempts: u32, deadline: Duration, next_try: Instant) -> Vec<Pending> {
        let spent = |pending: &Pending| {
            let late = pending
                .first_sent
                .is_some_and(|first| next_try.saturating_duration_since(first) > deadline);
            pending.attempts >= attempts || late
        };
        let (out, kept) = std::mem::take(&mut self.writes).into_iter().partition(spent);
        self.writes = kept;
        out.into_iter().collect()
    }

    /// Takes out what the session that is open now was given.
    pub fn take_sent(&mut self) -> Vec<Pending> {
        let (out, kept) = std::mem::take(&mut self.writes)
            .into_iter()
            .partition(|pending| pending.sent);
        self.writes = kept;
        out.into_iter().collect()
    }

    pub fn take_all(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.writes).into_iter().collect()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.writes.iter_mut()
    }

    pub fn find(&self, id: u64) -> Option<&Pending> {
        self.writes.iter().find(|pending| pending.write.id == id)
    }

    pub fn front(&self) -> Option<&Pending> {
        self.writes.front()
    }

    pub fn last_id(&self) -> Option<u64> {
        self.writes.back().map(|pending| pending.write.id)
    }

    pub fn all_sent(&self) -> bool {
        self.writes.iter().all(|pending| pending.sent)
    }

    pub fn len(&self) -> usize {
        self.writes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

impl Pending {
    /// The error that its rows end with, carrying what its tries came to.
    pub fn verdict(&self, error: &Error, now: Instant) -> Error {
        let elapsed = self
            .first_sent
            .map_or(Duration::ZERO, |first| now.saturating_duration_since(first));
        let error = error.clone().after(self.attempts, elapsed);
        if self.maybe_landed {
            error.ambiguous()
        } else {
            error
        }
    }
}

/// Cuts `rows` rows off the front of some segments.
fn take_rows(segments: &mut Vec<Segment>, mut rows: usize) -> Vec<Segment> {
    let mut taken = Vec::new();
    while rows > 0 && !segments.is_empty() {
        let first = &mut segments[0];
        let count = first.rows.min(rows);
        taken.push(Segment {
            rows: count,
            ..*first
        });
        rows -= count;
        first.first_row += count;
        first.rows -= count;
        if first.rows == 0 {
            segments.remove(0);
        }
    }
    taken
}

fn without_first(write: &Write, mut rows: usize) -> Write {
    let left = write.rows.saturating_sub(rows);
    let mut batches = Vec::new();
    for batch in &write.batches {
        let skip = batch.num_rows().min(rows);
        rows -= skip;
        if skip < batch.num_rows() {
            batches.push(batch.slice(skip, batch.num_rows() - skip));
        }
    }
    Write {
        id: write.id,
        batches,
        rows: left,
        bytes: (write.bytes as u128 * left as u128 / write.rows.max(1) as u128) as usize,
    }
}
