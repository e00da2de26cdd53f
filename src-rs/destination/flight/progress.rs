//! How far each write of a session is: sent, durable, reported. Pure.
//!
//! Invariants:
//! - Acknowledgements come out in the order of the writes, whatever the order of the streams' answers:
//!   a write that is durable waits for those before it.
//! - No row is reported twice.

use std::collections::VecDeque;

use crate::destination::Acknowledgement;
use crate::outcome::{Position, Rejection};

#[derive(Debug)]
pub struct FlightProgress {
    writes: VecDeque<WriteProgress>,
    /// Parts sent and not answered, by stream.
    lanes: Vec<VecDeque<SentPart>>,
    /// Whether a write may be acknowledged in part.
    partly: bool,
}

#[derive(Debug)]
struct WriteProgress {
    id: u64,
    rows: usize,
    durable: usize,
    reported: usize,
    refused: Vec<Rejection>,
}

#[derive(Debug, Clone, Copy)]
struct SentPart {
    id: u64,
    through: usize,
    cursor: StreamCursor,
}

/// How far a stream is: all writes before this one, and so many rows of it.
pub type StreamCursor = (u64, usize);

/// Where a stream is after a part of rows that come from a log: past this position. What it says is true for writes
/// that are put together otherwise by a later process.
pub fn cursor_at(position: u64) -> StreamCursor {
    (position + 1, 0)
}

/// Where a stream is after a part: past the write, if that was the last of it.
pub fn cursor(id: u64, through: usize, last: bool) -> StreamCursor {
    if last { (id + 1, 0) } else { (id, through) }
}

impl FlightProgress {
    pub fn new(lanes: usize, partly: bool) -> FlightProgress {
        FlightProgress {
            writes: VecDeque::new(),
            lanes: vec![VecDeque::new(); lanes],
            partly,
        }
    }

    /// A write begins. Its first `durable` rows need not be sent.
    pub fn begin(&mut self, id: u64, rows: usize, durable: usize, refused: Vec<Rejection>) {
        self.writes.push_back(WriteProgress {
            id,
            rows,
            durable,
            reported: 0,
            refused,
        });
    }

    /// A part of it is about to be sent; once it is durable, `through` rows of the write are settled.
    /// `cursor`: where the stream is then.
    pub fn sent(&mut self, lane: usize, id: u64, through: usize, cursor: StreamCursor) {
        self.lanes[lane].push_back(SentPart { id, through, cursor });
    }

    /// The oldest part of a stream is durable. Returns false if there is none.
    pub fn part(&mut self, lane: usize) -> bool {
        match self.lanes[lane].pop_front() {
            Some(sent) => {
                self.durable(sent);
                true
            }
            None => false,
        }
    }

    /// All parts of a stream are durable.
    pub fn all(&mut self, lane: usize) {
        while self.part(lane) {}
    }

    /// All parts of a stream up to there are durable.
    pub fn up_to(&mut self, lane: usize, cursor: StreamCursor) {
        while let Some(sent) = self.lanes[lane].front()
            && sent.cursor <= cursor
        {
            self.part(lane);
        }
    }

    /// Parts of a stream that nobody answered for.
    pub fn open(&self, lane: usize) -> usize {
        self.lanes[lane].len()
    }

    /// Whether anything was sent that is not known to be durable.
    pub fn is_in_doubt(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.is_empty())
    }

    /// The same, of all streams but one.
    pub fn is_in_doubt_beside(&self, lane: usize) -> bool {
        let mut others = self.lanes.iter().enumerate().filter(|(index, _)| *index != lane);
        others.any(|(_, parts)| !parts.is_empty())
    }

    /// What can be said now and was not said before.
    pub fn report(&mut self) -> Vec<Acknowledgement> {
        let mut said = Vec::new();
        let mut through = None;
        while let Some(first) = self.writes.front()
            && first.durable >= first.rows
        {
            let Some(done) = self.writes.pop_front() else {
                break;
            };
            if done.refused.is_empty() {
                through = Some(done.id);
                continue;
            }
            said.extend(through.take().map(acknowledged));
            said.push(Acknowledgement::Refused {
                id: done.id,
                rejections: done.refused,
                position: Position::None,
            });
        }
        said.extend(through.map(acknowledged));
        if self.partly
            && let Some(first) = self.writes.front_mut()
            // Which rows a refusal counts would change with the rows before it.
            && first.refused.is_empty()
            && first.durable > first.reported
        {
            first.reported = first.durable;
            said.push(Acknowledgement::Partly {
                id: first.id,
                rows: first.durable,
            });
        }
        said
    }

    fn durable(&mut self, sent: SentPart) {
        if let Ok(index) = self.writes.binary_search_by_key(&sent.id, |write| write.id) {
            let write = &mut self.writes[index];
            write.durable = write.durable.max(sent.through);
        }
    }
}

fn acknowledged(id: u64) -> Acknowledgement {
    Acknowledgement::Through {
        id,
        position: Position::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(progress: &mut FlightProgress) -> Vec<String> {
        progress
            .report()
            .into_iter()
            .map(|acknowledgement| match acknowledgement {
                Acknowledgement::Through { id, .. } => format!("through {id}"),
                Acknowledgement::Partly { id, rows } => format!("{rows} of {id}"),
                Acknowledgement::Refused { id, rejections, .. } => {
                    format!("{id} but {}", rejections.len())
                }
                _ => "something else".into(),
            })
            .collect()
    }

    fn refusal() -> Rejection {
        Rejection {
            row: 1,
            code: "BATCH_INVALID".into(),
            message: String::new(),
        }
    }

    #[test]
    fn parts_are_acknowledged_in_order_and_a_write_with_its_last() {
        let mut progress = FlightProgress::new(1, true);
        progress.begin(1, 10, 0, Vec::new());
        progress.sent(0, 1, 4, super::cursor(1, 4, false));
        progress.sent(0, 1, 10, super::cursor(1, 10, true));
        progress.begin(2, 5, 0, Vec::new());
        progress.sent(0, 2, 5, super::cursor(2, 5, true));
        assert!(progress.is_in_doubt());
        assert!(said(&mut progress).is_empty());
        assert!(progress.part(0));
        assert_eq!(said(&mut progress), ["4 of 1"]);
        assert!(said(&mut progress).is_empty());
        assert!(progress.part(0));
        assert!(progress.part(0));
        assert_eq!(said(&mut progress), ["through 2"]);
        assert!(!progress.part(0));
        assert!(!progress.is_in_doubt());
    }

    #[test]
    fn a_stream_that_is_ahead_waits_for_the_one_that_is_behind() {
        let mut progress = FlightProgress::new(2, false);
        for id in 1..=4 {
            progress.begin(id, 1, 0, Vec::new());
            progress.sent(id as usize % 2, id, 1, super::cursor(id, 1, true));
        }
        progress.all(0);
        assert!(said(&mut progress).is_empty());
        assert_eq!(progress.open(1), 2);
        progress.part(1);
        assert_eq!(said(&mut progress), ["through 2"]);
        assert!(progress.is_in_doubt_beside(0) && !progress.is_in_doubt_beside(1));
        progress.all(1);
        assert_eq!(said(&mut progress), ["through 4"]);
    }

    #[test]
    fn refused_rows_are_told_when_the_rest_of_their_write_is_durable() {
        let mut progress = FlightProgress::new(1, true);
        progress.begin(1, 1, 0, Vec::new());
        progress.sent(0, 1, 1, super::cursor(1, 1, true));
        progress.begin(2, 9, 0, vec![refusal()]);
        progress.sent(0, 2, 4, super::cursor(2, 4, false));
        progress.sent(0, 2, 9, super::cursor(2, 9, true));
        progress.begin(3, 1, 1, Vec::new());
        progress.up_to(0, (2, 4));
        assert_eq!(said(&mut progress), ["through 1"]);
        progress.up_to(0, (3, 0));
        assert_eq!(said(&mut progress), ["2 but 1", "through 3"]);
    }
}
