//! The metadata of cumulative acknowledgements, as `specs/flight-ack.md` has it: JSON, both ways.
//!
//! It does not decide what an answer means for a write; `session` and `progress` do.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::progress::StreamCursor;
use crate::error::{Code, Error, Result};

const VERSION: u32 = 1;

/// What goes with every part.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct PartMetadata {
    v: u32,
    producer: String,
    /// Rises with every session; a server refuses what comes from an older one.
    epoch: u64,
    sequence: u64,
    through: u64,
    /// Of a producer that outlives processes: what it leaves with the rows, to be told from a copy of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, serde(default))]
    opening: Option<u64>,
}

/// How far the server got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct ServerProgress {
    #[serde(default)]
    v: u32,
    /// All writes before this one are there,
    pub sequence: u64,
    /// and so many rows of it, from its first.
    pub through: u64,
    /// What was left with the rows that came last.
    #[serde(default)]
    pub opening: Option<u64>,
}

impl ServerProgress {
    /// Whether it speaks of rows that come after everything up to this write.
    pub fn is_beyond(&self, last: u64) -> bool {
        (self.sequence, self.through) > (last.saturating_add(1), 0)
    }

    /// The last write up to which everything on this stream is there, given that everything before
    /// `from` is, and that the stream takes every `lanes`-th id.
    pub fn complete(&self, from: u64, lane: usize, lanes: usize) -> u64 {
        let (lane, lanes) = (lane as u64, lanes as u64);
        let start = self.sequence.max(from);
        let next = start + (lane + lanes - start % lanes) % lanes;
        next.saturating_sub(1)
    }
}

/// A part without rows that asks how far the server got.
pub fn hello(producer: Uuid, lane: usize, epoch: u64) -> Vec<u8> {
    part(producer, lane, epoch, (0, 0), None)
}

/// A part after which everything before this row of this write is there.
pub fn part(producer: Uuid, lane: usize, epoch: u64, cursor: StreamCursor, opening: Option<u64>) -> Vec<u8> {
    // Streams run side by side, so each has a count of its own.
    let producer = format!("{producer}/{lane}");
    let said = PartMetadata {
        v: VERSION,
        producer,
        epoch,
        sequence: cursor.0,
        through: cursor.1 as u64,
        opening,
    };
    serde_json::to_vec(&said).unwrap_or_default()
}

/// # Errors
/// `UNSUPPORTED` if the server answers something else: it does not keep what this mode promises.
pub fn answer(metadata: &[u8]) -> Result<ServerProgress> {
    let text =
        "the server does not answer as specs/flight-ack.md says: use flight.acknowledgement \"stream\"";
    let unsupported = || Error::new(Code::Unsupported, text);
    let durable: ServerProgress =
        serde_json::from_slice(metadata).map_err(|error| unsupported().caused_by(&error))?;
    if durable.v != VERSION {
        return Err(unsupported());
    }
    Ok(durable)
}

/// Of an answer that [is beyond](Durable::is_beyond) all that was sent.
pub fn beyond() -> Error {
    let text = "the server says that it has rows which were never sent: it must keep a position for each producer, as specs/flight-ack.md says";
    Error::new(Code::Unsupported, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_and_comes_back_is_as_specified() {
        let producer = Uuid::from_u128(7);
        let said: PartMetadata = serde_json::from_slice(&part(producer, 1, 3, (8, 30), None)).unwrap();
        assert_eq!((said.v, said.epoch, said.sequence, said.through), (1, 3, 8, 30));
        assert_eq!(said.producer, "00000000-0000-0000-0000-000000000007/1");
        let hello: PartMetadata = serde_json::from_slice(&hello(producer, 0, 1)).unwrap();
        assert_eq!((hello.sequence, hello.through), (0, 0));
        let durable = answer(br#"{"v":1,"sequence":8,"through":30,"extra":true}"#).unwrap();
        // The stream of the odd ids, and that of the even ones, where 8 is the first that is not whole.
        assert_eq!(
            [
                durable.complete(1, 0, 1),
                durable.complete(1, 1, 2),
                durable.complete(1, 0, 2)
            ],
            [7, 8, 7]
        );
        assert_eq!(ServerProgress::default().complete(1, 0, 1), 0);
        assert_eq!(ServerProgress::default().complete(1, 0, 3), 2);
        assert_eq!((durable.sequence, durable.through), (8, 30));
        for other in [&b""[..], b"ok", b"{}", br#"{"v":2,"sequence":1,"through":1}"#] {
            assert_eq!(answer(other).unwrap_err().code(), Code::Unsupported);
        }
    }
}
