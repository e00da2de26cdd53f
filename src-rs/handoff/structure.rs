//! Structure buffers: copied first, and the copies checked in full.
//!
//! Invariants:
//! - Nothing here reads foreign memory but through a copy into the pool. JavaScript may change the
//!   original before, while and after: what was checked is what is used.
//! - What is returned cannot lead a reader out of bounds, given the lengths it was checked against.
//! - Offsets and views are rebased onto the part of the payload that is used, so that a slice of a
//!   large buffer neither copies nor counts the rest of it.

use std::sync::Arc;

use arrow::array::OffsetSizeTrait;
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::DataType;

use super::fault::BatchFault;
use super::foreign::Foreign;
use super::pool::{Block, Pool};

/// Rows `start..start + length` of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: usize,
    pub(super) length: usize,
}

/// Copies `count` values of `width` bytes from the value `start` on.
///
/// # Errors
/// The row of the first value that is not there.
pub(super) fn copy_values(
    what: &str,
    buffer: Option<&Foreign>,
    Rows { start, length }: Rows,
    extra: usize,
    width: usize,
    pool: &Arc<Pool>,
) -> Result<Block, BatchFault> {
    let (from, bytes) = bounds(what, buffer, Rows { start, length }, extra, width)?;
    match buffer {
        Some(buffer) => Ok(buffer.copy(from, bytes, pool)?),
        None => Ok(Foreign::from_buffer(Buffer::default()).copy(0, 0, pool)?),
    }
}

/// The bytes of the buffer that hold the rows, as (start, length), if they are there.
pub(super) fn bounds(
    what: &str,
    buffer: Option<&Foreign>,
    Rows { start, length }: Rows,
    extra: usize,
    width: usize,
) -> Result<(usize, usize), BatchFault> {
    let available = buffer.map_or(0, Foreign::len);
    let needed = start
        .checked_add(length)
        .and_then(|end| end.checked_add(extra))
        .and_then(|end| end.checked_mul(width));
    match needed {
        Some(needed) if needed <= available => Ok((start * width, (length + extra) * width)),
        _ => {
            let held = (available / width.max(1)).saturating_sub(extra);
            Err(BatchFault::new(format!(
                "its {what} buffer has {available} bytes, too few for {length} rows from row {start} on"
            ))
            .at(held.saturating_sub(start).min(length.saturating_sub(1))))
        }
    }
}

/// Which rows are null; `None` if none is.
pub(super) struct Validity {
    pub(super) nulls: Option<NullBuffer>,
    /// Bits before the first row, below 8; what `keep_bit` asked for, or zero.
    pub(super) bit: usize,
}

/// `first_bit`: where the node's first row is in the bitmap. The C structs have one offset for all
/// buffers of an array, so the bitmap is moved to start at bit 0, unless `keep_bit` because the
/// values, booleans, are bits at the same place.
pub(super) fn validity(
    buffer: Option<&Foreign>,
    stated_nulls: i64,
    node_length: usize,
    first_bit: usize,
    rows: Rows,
    keep_bit: bool,
    pool: &Arc<Pool>,
) -> Result<Validity, BatchFault> {
    let start = first_bit
        .checked_add(rows.start)
        .ok_or_else(|| BatchFault::new("its offset is beyond all memory"))?;
    let bit = if keep_bit { start % 8 } else { 0 };
    let buffer = buffer.filter(|buffer| !buffer.is_empty());
    if stated_nulls < -1 || stated_nulls > node_length as i64 {
        return Err(BatchFault::new(format!(
            "{stated_nulls} nulls are stated for {node_length} rows"
        )));
    }
    let (Some(buffer), true, true) = (buffer, stated_nulls != 0, rows.length > 0) else {
        if stated_nulls > 0 && rows.length > 0 {
            return Err(BatchFault::new(format!(
                "{stated_nulls} nulls are stated but there is no validity bitmap"
            )));
        }
        return Ok(Validity { nulls: None, bit });
    };
    let end = start.checked_add(rows.length);
    if end.is_none_or(|end| end.div_ceil(8) > buffer.len()) {
        let held = buffer.len().saturating_mul(8).saturating_sub(start);
        return Err(BatchFault::new(format!(
            "its validity bitmap has {} bytes, too few for {} rows from bit {start} on",
            buffer.len(),
            rows.length
        ))
        .at(held.min(rows.length - 1)));
    }
    let shift = start % 8;
    let mut block = buffer.copy(start / 8, (shift + rows.length).div_ceil(8), pool)?;
    if !keep_bit && shift > 0 {
        shift_down(block.bytes_mut(), shift);
        block.truncate(rows.length.div_ceil(8));
    }
    let nulls = NullBuffer::new(BooleanBuffer::new(block.freeze(), bit, rows.length));
    let whole = rows.start == 0 && rows.length == node_length;
    if whole && stated_nulls >= 0 && nulls.null_count() as i64 != stated_nulls {
        return Err(BatchFault::new(format!(
            "{stated_nulls} nulls are stated but its validity bitmap has {}",
            nulls.null_count()
        )));
    }
    Ok(Validity {
        nulls: Some(nulls).filter(|nulls| nulls.null_count() > 0),
        bit,
    })
}

/// Moves all bits down by 1 to 7.
fn shift_down(bytes: &mut [u8], shift: usize) {
    let Some(last) = bytes.len().checked_sub(1) else {
        return;
    };
    for index in 0..last {
        bytes[index] = bytes[index] >> shift | bytes[index + 1] << (8 - shift);
    }
    bytes[last] >>= shift;
}

/// Offsets that start at zero, and the part of the values that they cut up.
pub(super) struct Offsets {
    pub(super) buffer: Buffer,
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Offsets {
    /// The row that holds position `index`, counted from `first`.
    pub(super) fn row_of<T: OffsetSizeTrait>(&self, index: usize) -> Option<usize> {
        let offsets: &[T] = self.buffer.typed_data();
        let row = offsets
            .partition_point(|offset| offset.as_usize() <= index)
            .checked_sub(1)?;
        (row + 1 < offsets.len()).then_some(row)
    }
}

/// Copies offsets and checks that they ascend. Against what they point into, the caller checks.
pub(super) fn offsets<T: OffsetSizeTrait>(
    buffer: Option<&Foreign>,
    rows: Rows,
    pool: &Arc<Pool>,
) -> Result<Offsets, BatchFault> {
    // No rows need no offsets; the C structs want one all the same.
    if rows.length == 0 {
        return Ok(Offsets {
            buffer: Buffer::from_vec(vec![T::usize_as(0)]),
            first: 0,
            last: 0,
        });
    }
    let mut block = copy_values("offsets", buffer, rows, 1, size_of::<T>(), pool)?;
    let numbers = block.numbers_mut::<T>();
    let first = numbers[0];
    if first < T::usize_as(0) {
        return Err(BatchFault::new(format!("its first offset is negative: {first:?}")).at(0));
    }
    // Without an early exit the loop is vectorised; what is wrong is searched only when something is.
    let falls = numbers
        .windows(2)
        .fold(false, |falls, pair| falls | (pair[0] > pair[1]));
    if falls {
        let row = numbers.windows(2).position(|pair| pair[0] > pair[1]).unwrap_or(0);
        return Err(BatchFault::new(format!(
            "its offsets fall from {:?} to {:?}",
            numbers[row],
            numbers[row + 1]
        ))
        .at(row));
    }
    let last = numbers[rows.length].as_usize();
    if first != T::usize_as(0) {
        for number in numbers {
            *number = *number - first;
        }
    }
    Ok(Offsets {
        buffer: block.freeze(),
        first: first.as_usize(),
        last,
    })
}

/// Refuses keys of rows that are not null and beyond the dictionary.
pub(super) fn check_keys(
    keys: &Buffer,
    key_type: &DataType,
    nulls: Option<&NullBuffer>,
    dictionary: usize,
) -> Result<(), BatchFault> {
    match key_positions(keys, key_type, |row, key| {
        nulls.is_none_or(|nulls| nulls.is_valid(row)) && key.is_none_or(|key| key >= dictionary)
    }) {
        Some(row) => Err(BatchFault::new(format!(
            "its key is not among the {dictionary} values of the dictionary"
        ))
        .at(row)),
        None => Ok(()),
    }
}

/// The first row whose key, `None` if negative, is as asked for.
pub(super) fn key_positions(
    keys: &Buffer,
    key_type: &DataType,
    wanted: impl Fn(usize, Option<usize>) -> bool,
) -> Option<usize> {
    macro_rules! search {
        ($number:ty) => {
            keys.typed_data::<$number>()
                .iter()
                .enumerate()
                .position(|(row, key)| wanted(row, usize::try_from(*key).ok()))
        };
    }
    match key_type {
        DataType::Int8 => search!(i8),
        DataType::Int16 => search!(i16),
        DataType::Int32 => search!(i32),
        DataType::Int64 => search!(i64),
        DataType::UInt8 => search!(u8),
        DataType::UInt16 => search!(u16),
        DataType::UInt32 => search!(u32),
        _ => search!(u64),
    }
}
