//! A stretch of bytes and whoever keeps it alive.
//!
//! Invariants:
//! - `pointer..pointer + length` is allocated for as long as the owner lives.
//! - The bytes of a pinned stretch may change at any moment. No reference to them is ever formed
//!   here: they are copied through raw pointers, and only copies are looked at.
//!
//! It interprets nothing.

use std::sync::Arc;

use arrow::buffer::Buffer;

use super::pins::Pin;
use super::pool::{Block, Pool, exhausted};
use crate::error::Result;

/// How much of a stretch is copied to the stack at a time: small enough for the first-level cache.
pub(super) const CHUNK: usize = 8 * 1024;

/// Bytes that came from elsewhere: JavaScript's own memory, or a copy of it.
#[derive(Clone)]
pub struct Foreign {
    pointer: *const u8,
    length: usize,
    owner: Owner,
}

#[derive(Clone)]
enum Owner {
    Pinned {
        _pin: Arc<Pin>,
    },
    Owned {
        _buffer: Buffer,
    },
    /// The copy could not be made; the import says so.
    Failed,
}

// SAFETY: the memory is kept allocated by the owner, which is itself `Send + Sync`, whichever thread
// reads it; nothing is written through it.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// JavaScript's own memory.
    ///
    /// # Safety
    /// `pointer..pointer + length` stays allocated until `owner` is dropped. Its contents may change.
    pub unsafe fn pinned(pointer: *const u8, length: usize, owner: Arc<Pin>) -> Self {
        Foreign {
            pointer,
            length,
            owner: Owner::Pinned { _pin: owner },
        }
    }

    /// A copy in the pool, made now. If there is no memory for it, the import fails with
    /// `RESOURCE_EXHAUSTED`.
    ///
    /// # Safety
    /// `pointer..pointer + length` is allocated until this returns.
    pub unsafe fn copied(pointer: *const u8, length: usize, pool: &Arc<Pool>) -> Self {
        // SAFETY: passed on to the caller.
        match unsafe { pool.copy(pointer, length) } {
            Ok(buffer) => Foreign::from_buffer(buffer),
            Err(_) => Foreign {
                pointer,
                length,
                owner: Owner::Failed,
            },
        }
    }

    /// Bytes that are Rust's already and that nobody changes.
    pub fn from_buffer(buffer: Buffer) -> Self {
        Foreign {
            pointer: buffer.as_ptr(),
            length: buffer.len(),
            owner: Owner::Owned { _buffer: buffer },
        }
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether these are JavaScript's own bytes, which may change.
    pub fn is_pinned(&self) -> bool {
        matches!(self.owner, Owner::Pinned { .. })
    }

    /// CRC-32C of the bytes as they are now. Bytes that change meanwhile give one digest or another.
    pub fn digest(&self) -> u32 {
        self.digest_onto(0)
    }

    pub(super) fn digest_onto(&self, start: u32) -> u32 {
        let mut digest = start;
        self.for_each_chunk(|chunk| {
            digest = crc32c::crc32c_append(digest, chunk);
            true
        });
        digest
    }

    pub(super) fn pointer(&self) -> *const u8 {
        self.pointer
    }

    /// # Errors
    /// `RESOURCE_EXHAUSTED` for a copy that could not be made.
    pub(super) fn usable(&self) -> Result<()> {
        match self.owner {
            Owner::Failed => Err(exhausted(self.length)),
            Owner::Pinned { .. } | Owner::Owned { .. } => Ok(()),
        }
    }

    /// `start..start + length`, or nothing if that is not within.
    pub(super) fn slice(&self, start: usize, length: usize) -> Option<Foreign> {
        let end = start.checked_add(length)?;
        (end <= self.length).then(|| Foreign {
            pointer: self.pointer.wrapping_add(start),
            length,
            owner: self.owner.clone(),
        })
    }

    /// Copies `start..start + length` into the pool.
    ///
    /// # Panics
    /// Outside of the stretch: the caller has checked, and says better what is wrong.
    pub(super) fn copy(&self, start: usize, length: usize, pool: &Arc<Pool>) -> Result<Block> {
        self.usable()?;
        let part = self
            .slice(start, length)
            .expect("the caller has checked the bounds");
        // SAFETY: the part lies within what the owner keeps allocated, and `self` keeps the owner.
        unsafe { pool.block(part.pointer, part.length) }
    }

    /// Copies all of it behind what `into` has.
    ///
    /// # Panics
    /// If `into` has no room for it, or there is no memory to read: the caller has checked.
    pub(super) fn append_to(&self, into: &mut Block) {
        assert!(self.usable().is_ok(), "there is nothing to copy from");
        // SAFETY: the owner keeps the stretch allocated, and `self` keeps the owner.
        unsafe { into.append(self.pointer, self.length) }
    }

    /// Copies up to `into.len()` bytes from `start` on; how many there were.
    pub(super) fn read(&self, start: usize, into: &mut [u8]) -> usize {
        if matches!(self.owner, Owner::Failed) {
            return 0;
        }
        let length = into.len().min(self.length.saturating_sub(start));
        if length > 0 {
            // SAFETY: `start + length <= self.length`, which the owner keeps allocated; `into` is
            // ours alone and cannot overlap it. No reference to the source is formed: should it
            // change meanwhile, either byte arrives and nothing was concluded from it yet.
            unsafe {
                std::ptr::copy_nonoverlapping(self.pointer.add(start), into.as_mut_ptr(), length);
            }
        }
        length
    }

    /// Calls `look` with one copied chunk after the other, until it says to stop.
    pub(super) fn for_each_chunk(&self, mut look: impl FnMut(&[u8]) -> bool) {
        let mut chunk = [0u8; CHUNK];
        let mut position = 0;
        while position < self.length {
            let read = self.read(position, &mut chunk);
            if read == 0 || !look(&chunk[..read]) {
                return;
            }
            position += read;
        }
    }
}

impl std::fmt::Debug for Foreign {
    /// Never the contents: they are the user's, and may be changing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let owner = match self.owner {
            Owner::Pinned { .. } => "pinned",
            Owner::Owned { .. } => "owned",
            Owner::Failed => "failed",
        };
        write!(f, "Foreign({owner}, {} bytes)", self.length)
    }
}
