//! What of its data buffers a view column needs, and views that point there.
//!
//! A slice of a view column shares all data buffers with what it was cut from; sent as it is, every
//! part of a large batch would carry all of them. So each buffer is cut to the range that is pointed
//! at. Where the views point all over it, what they point at is gathered into a new buffer instead.
//!
//! Only views are followed, and those are ours; the data is moved unread.

use std::ops::Range;

use arrow::array::{Array, BinaryViewArray};
use arrow::buffer::Buffer;

/// Longer than this, a value is not in the view itself.
const INLINE: u32 = 12;

/// What is sent of the data buffers.
pub enum ViewBuffers {
    /// Of each buffer that is used: its index and the bytes of it, in the order they are sent.
    Cut(Vec<(usize, Range<usize>)>),
    /// One new buffer of so many bytes.
    Gather(usize),
}

pub fn plan(array: &BinaryViewArray) -> ViewBuffers {
    let mut ranges: Vec<Range<usize>> = vec![
        Range {
            start: usize::MAX,
            end: 0
        };
        array.data_buffers().len()
    ];
    let mut needed = 0;
    for (_, length, buffer, offset) in outside(array) {
        let range = &mut ranges[buffer];
        *range = range.start.min(offset)..range.end.max(offset + length);
        needed += length;
    }
    let used: Vec<_> = ranges
        .into_iter()
        .enumerate()
        .filter(|(_, range)| range.start < range.end)
        .collect();
    let cut: usize = used.iter().map(|(_, range)| range.len()).sum();
    // A quarter of it unused is cheaper to send than to sort out; and a view's offset has 31 bits.
    if cut <= needed + needed / 4 || i32::try_from(needed).is_err() {
        ViewBuffers::Cut(used)
    } else {
        ViewBuffers::Gather(needed)
    }
}

impl ViewBuffers {
    pub fn buffers(&self) -> usize {
        match self {
            ViewBuffers::Cut(used) => used.len(),
            ViewBuffers::Gather(_) => 1,
        }
    }

    /// The length of each data buffer, and how to make it.
    pub fn each(
        &self,
        array: &BinaryViewArray,
        mut take: impl FnMut(usize, Box<dyn FnOnce() -> Buffer + '_>),
    ) {
        match self {
            ViewBuffers::Cut(used) => {
                for (index, range) in used {
                    let buffer = &array.data_buffers()[*index];
                    take(
                        range.len(),
                        Box::new(move || buffer.slice_with_length(range.start, range.len())),
                    );
                }
            }
            ViewBuffers::Gather(length) => take(*length, Box::new(move || gather(array, *length))),
        }
    }

    /// The views, pointing at what `each` gives.
    pub fn views(&self, array: &BinaryViewArray) -> Buffer {
        let unmoved =
            |(sent, (index, range)): (usize, &(usize, Range<usize>))| sent == *index && range.start == 0;
        if let ViewBuffers::Cut(used) = self
            && used.iter().enumerate().all(unmoved)
            && array.null_count() == 0
        {
            return array.views().inner().slice_with_length(0, array.len() * 16);
        }
        // A null view may hold anything; what it points at is not sent.
        let mut views: Vec<u128> = (array.views().iter().enumerate())
            .map(|(row, view)| if array.is_null(row) { 0 } else { *view })
            .collect();
        let mut moved = vec![(0_usize, 0_usize); array.data_buffers().len()];
        if let ViewBuffers::Cut(used) = self {
            for (sent, (index, range)) in used.iter().enumerate() {
                moved[*index] = (sent, range.start);
            }
        }
        let mut gathered = 0;
        for (row, length, buffer, offset) in outside(array) {
            let (buffer, offset) = match self {
                ViewBuffers::Cut(_) => (moved[buffer].0, offset - moved[buffer].1),
                ViewBuffers::Gather(_) => (0, gathered),
            };
            gathered += length;
            let head = views[row] & u128::from(u64::MAX);
            views[row] = head | (buffer as u128) << 64 | (offset as u128) << 96;
        }
        Buffer::from_vec(views)
    }
}

/// Row, length, buffer and offset of every value that is not in its view.
fn outside(array: &BinaryViewArray) -> impl Iterator<Item = (usize, usize, usize, usize)> + '_ {
    array
        .views()
        .iter()
        .enumerate()
        .filter(|(row, view)| **view as u32 > INLINE && !array.is_null(*row))
        .map(|(row, view)| {
            let (length, buffer, offset) = (*view as u32, (view >> 64) as u32, (view >> 96) as u32);
            (row, length as usize, buffer as usize, offset as usize)
        })
}

fn gather(array: &BinaryViewArray, length: usize) -> Buffer {
    let mut bytes = Vec::with_capacity(length);
    for (_, length, buffer, offset) in outside(array) {
        bytes.extend_from_slice(&array.data_buffers()[buffer][offset..offset + length]);
    }
    Buffer::from_vec(bytes)
}
