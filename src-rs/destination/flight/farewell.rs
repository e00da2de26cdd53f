//! What a server says when it hangs up: the one frame of HTTP/2 that is read off the line itself.
//!
//! Invariants:
//! - However the bytes are cut, a frame is taken for a farewell only if it is one.
//! - What is kept of one is bounded, whatever the server sends.
//!
//! It changes no byte, and it does not decide what a farewell means for the rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Why the server ends the line, once it has said so.
#[derive(Debug, Default)]
pub struct Farewell {
    said: Mutex<Option<(u32, String)>>,
    is_over: AtomicBool,
}

impl Farewell {
    /// The reason's name, and the server's own words.
    pub fn said(&self) -> Option<(String, String)> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (reason, words) = said.as_ref()?;
        Some((format!("{:?}", h2::Reason::from(*reason)), words.clone()))
    }

    /// It was asked too often whether it is there.
    pub fn is_of_pings(&self) -> bool {
        self.said()
            .is_some_and(|(reason, words)| reason == "ENHANCE_YOUR_CALM" && words.contains("ping"))
    }

    pub fn set(&self, said: Option<(u32, String)>) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }

    /// The line takes no new calls: the server said goodbye, or it is gone.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether a line of the connection has ended, whatever came after it.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// Looks for the one frame of interest among those that come.
#[derive(Default)]
pub struct Frames {
    head: Vec<u8>,
    /// Of the payload of the frame at hand.
    left: usize,
    /// Its payload, if it is a farewell.
    goodbye: Option<Vec<u8>>,
}

impl Frames {
    /// Of the words of a farewell, in bytes.
    const WORDS: usize = 256;

    /// A farewell that ends in these bytes.
    pub fn take(&mut self, mut bytes: &[u8]) -> Option<(u32, String)> {
        let mut said = None;
        while !bytes.is_empty() {
            if self.left == 0 && self.head.len() < WORD {
                let (some, rest) = bytes.split_at(bytes.len().min(WORD - self.head.len()));
                self.head.extend_from_slice(some);
                bytes = rest;
                if self.head.len() == WORD {
                    self.left = usize::from(self.head[0]) << 16
                        | usize::from(self.head[1]) << 8
                        | usize::from(self.head[2]);
                    self.goodbye = (self.head[3] == GOAWAY).then(Vec::new);
                }
            } else {
                let (some, rest) = bytes.split_at(bytes.len().min(self.left));
                if let Some(goodbye) = &mut self.goodbye {
                    let room = (8 + Frames::WORDS).saturating_sub(goodbye.len());
                    goodbye.extend_from_slice(&some[..some.len().min(room)]);
                }
                self.left -= some.len();
                bytes = rest;
            }
            if self.left == 0 && self.head.len() == WORD {
                self.head.clear();
                let goodbye = self.goodbye.take().unwrap_or_default();
                if let Some(([_, _, _, _, reason @ ..], words)) = goodbye.split_first_chunk::<8>() {
                    said = Some((
                        u32::from_be_bytes(*reason),
                        String::from_utf8_lossy(words).into_owned(),
                    ));
                }
            }
        }
        said
    }
}

/// The head of a frame of HTTP/2: length, kind, flags, stream.
pub const WORD: usize = 9;
/// What a server's last frame may be.
const GOAWAY: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u8;
        [&[0, 0, length, kind, 0, 0, 0, 0, 0], payload].concat()
    }

    /// However the bytes come, the farewell among them is heard, and nothing else is taken for one.
    #[test]
    fn a_farewell_is_found_among_frames_however_they_are_cut() {
        let goodbye = [&[0, 0, 0, 3, 0, 0, 0, 11][..], b"too_many_pings"].concat();
        let bytes = [
            frame(4, &[]),
            frame(0, &frame(GOAWAY, &goodbye)),
            frame(GOAWAY, &goodbye),
            frame(6, &[0; 8]),
        ]
        .concat();
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let said: Vec<_> = bytes
                .chunks(size)
                .filter_map(|chunk| frames.take(chunk))
                .collect();
            assert_eq!(said, [(11, "too_many_pings".to_string())], "{size}");
        }
        let mut frames = Frames::default();
        assert_eq!(frames.take(&frame(GOAWAY, &[0; 3])), None);
        let long = [&[0; 8][..], &[b'x'; 240]].concat();
        assert_eq!(frames.take(&frame(GOAWAY, &long)).unwrap().1.len(), 240);
    }
}
