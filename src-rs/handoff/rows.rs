//! Just the rows that an array has: as a copy of its own, or in buffers no longer than they need.
//!
//! Invariants:
//! - What [`own`] returns refers to no memory of anybody else's, and was checked after copying.
//! - [`trim`] copies no payload and reads none.
//!
//! It decides nothing: who is about to compute on payload that was imported as
//! [`PayloadUse::Moved`](super::PayloadUse::Moved) calls [`own`] first.

use std::ptr::NonNull;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, MutableArrayData, RecordBatch, RecordBatchOptions, make_array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{ArrowNativeType, DataType};

use super::{contained, invalid};
use crate::error::Result;

/// Whether [`own`] takes arrays of this type: of those with views, dictionaries or runs, arrow's copy would
/// go on referring to the original's values.
pub fn can_own(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::Map(item, _) => {
            can_own(item.data_type())
        }
        T::Struct(fields) => fields.iter().all(|field| can_own(field.data_type())),
        T::Utf8 | T::LargeUtf8 | T::Binary | T::LargeBinary | T::FixedSizeBinary(_) => true,
        T::Null | T::Boolean => true,
        other => other.primitive_width().is_some(),
    }
}

/// A copy of the rows, made now and checked in full: what JavaScript writes from here on changes it no more.
///
/// # Errors
/// `BATCH_INVALID` if what was copied is not sound, because it was written to since it was imported, or if
/// the type is none that [`can_own`].
pub fn own(array: &ArrayRef) -> Result<ArrayRef> {
    if !can_own(array.data_type()) {
        let text = format!("a column of type {} cannot be copied alone", array.data_type());
        return Err(invalid(text));
    }
    contained(|| {
        let data = array.to_data();
        let mut copy = MutableArrayData::new(vec![&data], false, data.len());
        copy.try_extend(0, 0, data.len())
            .map_err(|error| invalid(error.to_string()).caused_by(&error))?;
        let copy = copy.freeze();
        copy.validate_full()
            .map_err(|error| invalid("a column was written to while it was on its way").caused_by(&error))?;
        Ok(make_array(copy))
    })
}

/// The same rows, of which buffers say how much memory they take: a slice's say how much the whole takes, and
/// whoever cuts batches by that cuts a slice into crumbs. Nested columns and views stay as they are.
///
/// # Errors
/// `BATCH_INVALID` if arrow cannot put the batch together again.
pub fn trim(batch: &RecordBatch) -> Result<RecordBatch> {
    contained(|| {
        let columns: Result<Vec<ArrayRef>> = batch.columns().iter().map(trimmed).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(batch.schema(), columns?, &options)
            .map_err(|error| invalid(error.to_string()).caused_by(&error))
    })
}

fn trimmed(array: &ArrayRef) -> Result<ArrayRef> {
    use DataType as T;
    let data = array.to_data();
    let buffers = match data.data_type() {
        T::Utf8 | T::Binary => bytes::<i32>(&data),
        T::LargeUtf8 | T::LargeBinary => bytes::<i64>(&data),
        T::FixedSizeBinary(width) => fixed(&data, *width as usize),
        other => match other.primitive_width() {
            Some(width) => fixed(&data, width),
            None => None,
        },
    };
    let Some(buffers) = buffers else {
        return Ok(Arc::clone(array));
    };
    let builder = ArrayData::builder(data.data_type().clone())
        .len(data.len())
        .nulls(data.nulls().cloned())
        .buffers(buffers);
    // SAFETY: the values are those of an array that was sound, in the same order: windows begin where its
    // offset was, and offsets count from the first byte of their window.
    Ok(make_array(unsafe { builder.build_unchecked() }))
}

/// The values of fixed width; none if there is nothing to be cut off.
fn fixed(data: &ArrayData, width: usize) -> Option<Vec<Buffer>> {
    let values = data.buffers().first()?;
    let values = window(values, data.offset() * width, data.len() * width)?;
    Some(vec![values])
}

fn bytes<T: ArrowNativeType + std::ops::Sub<Output = T>>(data: &ArrayData) -> Option<Vec<Buffer>> {
    let [offsets, values] = data.buffers() else {
        return None;
    };
    let offsets: &[T] = offsets
        .typed_data::<T>()
        .get(data.offset()..=data.offset() + data.len())?;
    let (first, last) = (*offsets.first()?, *offsets.last()?);
    let values = window(values, first.as_usize(), last.as_usize() - first.as_usize())?;
    let offsets: Vec<T> = offsets.iter().map(|offset| *offset - first).collect();
    Some(vec![Buffer::from_vec(offsets), values])
}

/// A part of a buffer that claims no more memory than it has; none if it is the whole, or is not within.
fn window(buffer: &Buffer, from: usize, length: usize) -> Option<Buffer> {
    if length == buffer.capacity() || from.checked_add(length)? > buffer.len() {
        return None;
    }
    let part = buffer.slice_with_length(from, length);
    let pointer = NonNull::new(part.as_ptr().cast_mut())?;
    // SAFETY: `pointer` is the start of `length` bytes of the buffer, and the new one owns it.
    Some(unsafe { Buffer::from_custom_allocation(pointer, length, Arc::new(part)) })
}
