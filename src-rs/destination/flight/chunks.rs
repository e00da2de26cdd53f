//! Memory for what is copied into messages or written for them, used again and again.
//!
//! Fresh memory of this size comes from the system page by page, and the page faults cost more than the
//! copying. A chunk comes back when the socket is done with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Chunks up to this are kept for the next message: what goes into one piece of a message, and the offsets of
/// as many rows as a write has by default, 8 bytes each.
const LARGEST: usize = (512 << 10) + 4096;
/// A few for each message that waits for the socket.
const KEPT: usize = 16;

#[derive(Debug, Clone, Default)]
pub struct Chunks(Arc<Mutex<Vec<Vec<u8>>>>);

impl Chunks {
    /// An empty chunk with room for `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        // A large chunk for a few bytes would be missing where it is needed.
        let fits = |chunk: &Vec<u8>| (capacity..=capacity.saturating_mul(4)).contains(&chunk.capacity());
        let mut kept = self.lock();
        match kept.iter().position(fits) {
            Some(index) => kept.swap_remove(index),
            None => Vec::with_capacity(capacity),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunk as bytes, whose last reader gives it back.
    pub fn freeze(&self, chunk: Vec<u8>) -> Bytes {
        if chunk.capacity() > LARGEST {
            return Bytes::from(chunk);
        }
        Bytes::from_owner(PooledChunk {
            chunk,
            home: self.clone(),
        })
    }
}

struct PooledChunk {
    chunk: Vec<u8>,
    home: Chunks,
}

impl AsRef<[u8]> for PooledChunk {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for PooledChunk {
    fn drop(&mut self) {
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.clear();
        let mut kept = self.home.lock();
        if kept.len() < KEPT {
            return kept.push(chunk);
        }
        // The smallest goes, or small ones of another time would keep those out that are needed now.
        if let Some(smallest) = kept.iter_mut().min_by_key(|kept| kept.capacity())
            && smallest.capacity() < chunk.capacity()
        {
            *smallest = chunk;
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
    #[test]
    fn small_chunks_do_not_keep_large_ones_out() {
        let chunks = Chunks::default();
        let lent = |capacity: usize| chunks.freeze(chunks.take(capacity));
        let small: Vec<Bytes> = (0..KEPT).map(|_| lent(100)).collect();
        let large = lent(200_000);
        drop(small);
        drop(large);
        assert!(chunks.take(200_000).capacity() >= 200_000);
        assert_eq!(chunks.lock().len(), KEPT - 1);
    }

    #[test]
    fn a_chunk_that_is_too_large_does_not_hide_the_one_that_fits() {
        let chunks = Chunks::default();
        let lent = |capacity: usize| chunks.freeze(chunks.take(capacity));
        drop([lent(500_000), lent(1_000)]);
        assert_eq!(chunks.take(900).capacity(), 1_000);
        assert_eq!(chunks.lock().len(), 1);
    }
}
