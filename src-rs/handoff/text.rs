//! Is it UTF-8? Asked of bytes that may change while being asked.
//!
//! Soundness: the bytes are copied aside, chunk by chunk, and only the copies are looked at, so
//! that no `&str` or `&[u8]` over changing memory ever exists. For pinned payload the answer is true
//! of the bytes that were read and of nothing later; nobody relies on it: destinations that get pinned
//! payload merely move bytes, and the others get copies, which cannot change.

use std::cell::RefCell;

use arrow::datatypes::ArrowNativeType;

use super::foreign::{CHUNK, Foreign};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// What is no text is named by its row.
    Named,
    /// Everything passes: arrow's full validation, which is to follow, is twice as fast and names no row.
    LeftToArrow,
}

thread_local! {
    /// Not on the stack, or it would be zeroed for each view of a column; not of the batch, because for a small
    /// one this allocation would cost more than all the others: glibc tidies up its small ones first.
    static ASIDE: RefCell<Box<[u8; CHUNK]>> = RefCell::new(Box::new([0; CHUNK]));
}

impl Text {
    /// Whether `offsets`, counted from `start` and ascending from zero, cut the bytes into pieces that
    /// are UTF-8 each; if not, the first piece that is none.
    pub(super) fn check<T: ArrowNativeType>(
        self,
        values: &Foreign,
        start: usize,
        offsets: &[T],
    ) -> Result<(), usize> {
        match self {
            Text::Named => ASIDE.with_borrow_mut(|aside| check(values, start, offsets, aside)),
            Text::LeftToArrow => Ok(()),
        }
    }
}

fn check<T: ArrowNativeType>(
    values: &Foreign,
    start: usize,
    offsets: &[T],
    memory: &mut [u8; CHUNK],
) -> Result<(), usize> {
    let length = offsets.last().map_or(0, |last| last.as_usize());
    let piece_at = |position: usize| {
        offsets
            .partition_point(|offset| offset.as_usize() <= position)
            .saturating_sub(1)
    };
    // `chunk[..kept]` are the bytes from `position` on, the start of a character.
    let (mut position, mut kept) = (0, 0);
    let mut next = 0;
    while position < length {
        let wanted = (length - position).min(CHUNK);
        let read = values.read(start + position + kept, &mut memory[kept..wanted]);
        let filled = kept + read;
        if filled == 0 {
            return Err(piece_at(position));
        }
        let chunk = &memory[..filled];
        // Most text: wherever the cuts are, each piece is UTF-8, so nobody has to know where they are.
        if chunk.is_ascii() {
            position += filled;
            kept = 0;
            continue;
        }
        let (valid, is_broken) = match std::str::from_utf8(chunk) {
            Ok(_) => (filled, false),
            // A character that the end of the chunk cuts in two is none, unless there is no more to come.
            Err(error) => {
                let is_cut = error.error_len().is_none() && position + filled < length && read > 0;
                (error.valid_up_to(), !is_cut)
            }
        };
        let until = |end: usize, from: usize| {
            from + offsets[from..].partition_point(|offset| offset.as_usize() < end)
        };
        let first = until(position, next);
        next = until(position + valid, first);
        for (index, offset) in offsets.iter().enumerate().take(next).skip(first) {
            // The bytes together may be UTF-8 where the pieces are not.
            if chunk[offset.as_usize() - position] & 0xC0 == 0x80 {
                return Err(index.saturating_sub(1));
            }
        }
        if is_broken {
            return Err(piece_at(position + valid));
        }
        memory.copy_within(valid..filled, 0);
        kept = filled - valid;
        position += valid;
    }
    Ok(())
}
