//! Memory that the handoff copies into, kept for the next copy.
//!
//! Invariants:
//! - Every block is aligned to 64 bytes, so that any Arrow type can be read in place.
//! - Only the bytes that were written are ever lent out: fresh memory is never read.
//! - At most `max_retained` bytes lie idle; what comes back beyond that goes to the allocator.
//!
//! It bounds no use: how much may be in flight is the transmitter's to say. It exists because fresh
//! pages cost three times what reused ones do.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::buffer::Buffer;

use crate::error::{Code, Error, Result};

/// Blocks are aligned to a cache line, which is also what Arrow recommends.
const ALIGNMENT: usize = 64;

/// Classes from one power of two to the next.
const STEPS: usize = 4;

/// A thread-safe pool of blocks, in size classes of 2ⁿ, 1.25·2ⁿ, 1.5·2ⁿ and 1.75·2ⁿ bytes.
pub struct Pool {
    max_retained: usize,
    state: Mutex<State>,
}

/// What a pool holds; sizes in bytes, each block counted by the size of its class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Taken from the allocator and not given back: in use or idle.
    pub allocated: usize,
    /// The most that was ever in use at once.
    pub peak: usize,
    pub in_use: usize,
    /// How often a block was used again.
    pub reused_count: u64,
    /// How often the allocator had to be asked.
    pub fresh_count: u64,
}

#[derive(Default)]
struct State {
    /// Idle blocks by class.
    idle: Vec<Vec<Idle>>,
    idle_bytes: usize,
    stats: PoolStats,
}

struct Idle(NonNull<u8>);

// SAFETY: an idle block has no other owner; it is plain memory that any thread may use or free.
unsafe impl Send for Idle {}

impl Pool {
    /// `max_retained`: bytes that may lie idle, waiting for their next use.
    pub fn new(max_retained: usize) -> Arc<Pool> {
        Arc::new(Pool {
            max_retained,
            state: Mutex::default(),
        })
    }

    pub fn stats(&self) -> PoolStats {
        self.lock().stats
    }

    /// One memcpy into the pool; the memory comes back when the last clone of the buffer is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when the allocator has no such block.
    ///
    /// # Safety
    /// `source..source + length` is allocated until this returns. Its contents may change meanwhile:
    /// they are copied as they come and nothing is concluded from them.
    pub unsafe fn copy(self: &Arc<Self>, source: *const u8, length: usize) -> Result<Buffer> {
        // SAFETY: passed on to the caller.
        Ok(unsafe { self.block(source, length) }?.freeze())
    }

    /// As [`copy`](Self::copy), still to be written to.
    pub(super) unsafe fn block(self: &Arc<Self>, source: *const u8, length: usize) -> Result<Block> {
        let mut block = self.take(length)?;
        if length > 0 {
            // SAFETY: the caller keeps the source allocated; the block is ours alone, has at least
            // `length` bytes and cannot overlap. No reference to the source is formed, so writes to
            // it by JavaScript (outside of Rust's memory model) can only change which bytes arrive.
            unsafe { std::ptr::copy_nonoverlapping(source, block.pointer.as_ptr(), length) };
        }
        block.length = length;
        Ok(block)
    }

    /// A block with room for `capacity` bytes, none of them written.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when the allocator has no such block.
    pub(super) fn room(self: &Arc<Self>, capacity: usize) -> Result<Block> {
        self.take(capacity)
    }

    fn take(self: &Arc<Self>, length: usize) -> Result<Block> {
        let Some(class) = class_of(length) else {
            return Ok(Block {
                pointer: NonNull::<u64>::dangling().cast(),
                length: 0,
                class: None,
                pool: Arc::clone(self),
            });
        };
        let size = size_of_class(class);
        let reused = {
            let mut state = self.lock();
            let idle = state.idle.get_mut(class).and_then(Vec::pop);
            if idle.is_some() {
                state.idle_bytes -= size;
                state.stats.reused_count += 1;
                state.took(size);
            }
            idle
        };
        let pointer = match reused {
            Some(Idle(pointer)) => pointer,
            // Outside of the lock: a page fault here must not hold up the other threads.
            None => {
                let layout = layout_of_class(class).ok_or_else(|| exhausted(length))?;
                // SAFETY: classes start at 64 bytes, so the size is not zero.
                let pointer = unsafe { std::alloc::alloc(layout) };
                // Not `handle_alloc_error`: that ends the user's process.
                let pointer = NonNull::new(pointer).ok_or_else(|| exhausted(length))?;
                let mut state = self.lock();
                state.stats.allocated += size;
                state.stats.fresh_count += 1;
                state.took(size);
                pointer
            }
        };
        Ok(Block {
            pointer,
            length: 0,
            class: Some(class),
            pool: Arc::clone(self),
        })
    }

    fn give_back(&self, pointer: NonNull<u8>, class: usize) {
        let size = size_of_class(class);
        {
            let mut state = self.lock();
            state.stats.in_use -= size;
            if state.idle_bytes.saturating_add(size) <= self.max_retained {
                if state.idle.len() <= class {
                    state.idle.resize_with(class + 1, Vec::new);
                }
                state.idle_bytes += size;
                state.idle[class].push(Idle(pointer));
                return;
            }
            state.stats.allocated -= size;
        }
        release(pointer, class);
    }

    /// A panic elsewhere leaves the counters whole: they are only ever changed in one go.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn took(&mut self, size: usize) {
        self.stats.in_use += size;
        self.stats.peak = self.stats.peak.max(self.stats.in_use);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (class, idle) in state.idle.drain(..).enumerate() {
            for Idle(pointer) in idle {
                release(pointer, class);
            }
        }
    }
}

/// A block on loan: `length` bytes of it are written.
pub(super) struct Block {
    pointer: NonNull<u8>,
    length: usize,
    class: Option<usize>,
    pool: Arc<Pool>,
}

// SAFETY: a block is the only owner of its memory; sharing it shares plain bytes.
unsafe impl Send for Block {}
// SAFETY: as above; nothing is written through a shared reference.
unsafe impl Sync for Block {}

impl Block {
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `length` bytes were written by `Pool::block`, and `&mut self` makes us alone.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.length) }
    }

    /// The bytes as numbers, as far as they go into whole ones.
    pub(super) fn numbers_mut<T: arrow::datatypes::ArrowNativeType>(&mut self) -> &mut [T] {
        debug_assert!(std::mem::align_of::<T>() <= ALIGNMENT);
        // A dangling pointer may be less aligned than T; the empty slice needs no memory at all.
        if self.length == 0 {
            return &mut [];
        }
        // SAFETY: the block is aligned to 64, at least that of any native type, of which every bit
        // pattern is a value; `length` bytes are written; `&mut self` makes us alone.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.pointer.as_ptr().cast::<T>(),
                self.length / std::mem::size_of::<T>(),
            )
        }
    }

    /// Copies bytes behind those that are written.
    ///
    /// # Panics
    /// If there is no room for them.
    ///
    /// # Safety
    /// As [`Pool::copy`].
    pub(super) unsafe fn append(&mut self, source: *const u8, length: usize) {
        if length == 0 {
            return;
        }
        let end = self.length.checked_add(length).filter(|end| *end <= self.room());
        let end = end.expect("the block was taken with room for this");
        // SAFETY: as in `Pool::block`; `length..end` is within the block.
        unsafe { std::ptr::copy_nonoverlapping(source, self.pointer.as_ptr().add(self.length), length) };
        self.length = end;
    }

    /// Writes zeros behind what is written.
    ///
    /// # Panics
    /// If there is no room for them.
    pub(super) fn zeros(&mut self, count: usize) {
        const ZEROS: [u8; 64] = [0; 64];
        // SAFETY: it reads a constant, of which there are as many as are asked for, or it panics.
        unsafe { self.append(ZEROS[..count].as_ptr(), count) }
    }

    fn room(&self) -> usize {
        self.class.map_or(0, size_of_class)
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub(super) fn freeze(self) -> Buffer {
        if self.length == 0 {
            return Buffer::default();
        }
        let (pointer, length) = (self.pointer, self.length);
        // SAFETY: `length` bytes from `pointer` are written and stay so until the block, which the
        // buffer now owns, is dropped.
        unsafe { Buffer::from_custom_allocation(pointer, length, Arc::new(self)) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(class) = self.class {
            self.pool.give_back(self.pointer, class);
        }
    }
}

fn release(pointer: NonNull<u8>, class: usize) {
    if let Some(layout) = layout_of_class(class) {
        // SAFETY: the block was allocated with the layout of its class and has no owner any more.
        unsafe { std::alloc::dealloc(pointer.as_ptr(), layout) };
    }
}

/// Classes: 64, 80, 96, 112, 128, 160, … so that at most a fifth of a block is wasted.
fn class_of(length: usize) -> Option<usize> {
    if length == 0 {
        return None;
    }
    let length = length.max(ALIGNMENT);
    // The power of two at or below, as an exponent above that of the smallest class.
    let exponent = (length.ilog2() - ALIGNMENT.ilog2()) as usize;
    let base = 1usize << length.ilog2();
    Some(STEPS * exponent + (length - base).div_ceil(base / STEPS))
}

fn size_of_class(class: usize) -> usize {
    let base = ALIGNMENT.checked_shl((class / STEPS) as u32).unwrap_or(0);
    // A class beyond the address space: `layout_of_class` refuses it.
    base.checked_add(base / STEPS * (class % STEPS))
        .filter(|size| *size >= ALIGNMENT)
        .unwrap_or(usize::MAX)
}

fn layout_of_class(class: usize) -> Option<Layout> {
    Layout::from_size_align(size_of_class(class), ALIGNMENT).ok()
}

pub(super) fn exhausted(length: usize) -> Error {
    Error::new(
        Code::ResourceExhausted,
        format!("no memory for a copy of {length} bytes"),
    )
    .during("handoff")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_length_and_wastes_at_most_a_fifth() {
        for length in (1..5_000).chain([1 << 20, (1 << 20) + 1, (1 << 40) - 1]) {
            let size = size_of_class(class_of(length).expect("it is not empty"));
            assert!(size >= length, "{length}");
            assert!(length <= 64 || size * 4 <= length * 5, "{length} in {size}");
        }
        assert_eq!(class_of(0), None);
        assert_eq!(size_of_class(400), usize::MAX);
    }
}
