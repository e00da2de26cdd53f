//! Memory for what is copied into messages, used again and again.
//!
//! Fresh memory of this size comes from the system page by page, and the page faults cost more than the
//! copying. A chunk comes back when the socket is done with it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Chunks up to this are kept for the next message.
const LARGEST: usize = 512 << 10;
/// As many as a stream has under way.
const KEPT: usize = 8;

#[derive(Debug, Clone, Default)]
pub struct Chunks(Arc<Mutex<Vec<Vec<u8>>>>);

impl Chunks {
    /// An empty chunk with room for `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|chunk| chunk.capacity() >= capacity);
        match found {
            // A large chunk for a few bytes would be missing where it is needed.
            Some(index) if capacity * 4 >= kept[index].capacity() => kept.swap_remove(index),
            _ => Vec::with_capacity(capacity),
        }
    }

    /// The chunk as bytes, whose last reader gives it back.
    pub fn freeze(&self, chunk: Vec<u8>) -> Bytes {
        if chunk.capacity() > LARGEST {
            return Bytes::from(chunk);
        }
        Bytes::from_owner(Lent {
            chunk,
            home: self.clone(),
        })
    }
}

struct Lent {
    chunk: Vec<u8>,
    home: Chunks,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            let mut chunk = std::mem::take(&mut self.chunk);
            chunk.clear();
            kept.push(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back_when_their_last_reader_is_gone() {
        let chunks = Chunks::default();
        let mut chunk = chunks.take(100_000);
        chunk.extend_from_slice(b"abc");
        let address = chunk.as_ptr();
        let bytes = chunks.freeze(chunk);
        let other = bytes.slice(1..);
        drop(bytes);
        let another = chunks.take(100_000);
        assert_ne!(another.as_ptr(), address);
        assert_eq!(&other[..], b"bc");
        drop(other);
        let small = chunks.take(10);
        assert_ne!(small.as_ptr(), address);
        let again = chunks.take(90_000);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(chunks.freeze(vec![0; LARGEST + 1]).len(), LARGEST + 1);
    }
}
