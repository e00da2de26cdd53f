//! Rows in memory of their own: a disk may hang for longer than the memory that they were handed over in lives.

use arrow::array::{ArrayData, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};

use super::FileError;
use crate::handoff::{can_own, own};

/// The same rows in memory of their own.
///
/// # Errors
/// What is wrong with the rows.
pub fn own_batch(batch: &RecordBatch) -> Result<RecordBatch, FileError> {
    let columns: Result<Vec<ArrayRef>, _> = batch.columns().iter().map(owned).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        batch.schema(),
        columns?,
        &options,
    )?)
}

fn owned(column: &ArrayRef) -> Result<ArrayRef, FileError> {
    if can_own(column.data_type()) {
        return own(column).map_err(|error| FileError::Rows(error.message().to_string()));
    }
    Ok(make_array(deep(&column.to_data())?))
}

/// For types of which no kernel copies the rows alone: with all that their buffers hold.
fn deep(data: &ArrayData) -> Result<ArrayData, arrow::error::ArrowError> {
    let copy = |buffer: &Buffer| Buffer::from(buffer.as_slice());
    let nulls = data.nulls().map(|nulls| {
        let bits = BooleanBuffer::new(copy(nulls.buffer()), nulls.offset(), nulls.len());
        NullBuffer::new(bits)
    });
    let children: Result<Vec<ArrayData>, _> = data.child_data().iter().map(deep).collect();
    ArrayData::builder(data.data_type().clone())
        .len(data.len())
        .offset(data.offset())
        .nulls(nulls)
        .buffers(data.buffers().iter().map(copy).collect())
        .child_data(children?)
        .align_buffers(true)
        .build()
}
