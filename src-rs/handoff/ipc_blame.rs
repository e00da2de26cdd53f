//! Which column of a record batch cannot be decoded, once it is known that one cannot, and which row of text.
//!
//! Invariant: nothing of what is decoded here is handed on, and what a library does about it (an error, a
//! panic) changes no verdict but that on a name.
//!
//! arrow-rs says what is wrong and not where. The columns are halved until one is left, so a look costs what a
//! few decodings do.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::contained;
use super::fault::BatchFault;
use crate::error::Error;

/// `error` with column and row, as far as they can be found. `decode` decodes some columns by a schema.
pub(super) fn blame(
    error: Error,
    schema: &SchemaRef,
    decode: impl Fn(SchemaRef, &[usize]) -> Result<RecordBatch, ArrowError>,
) -> Error {
    let decodes =
        |columns: &[usize]| contained(|| Ok(decode(Arc::clone(schema), columns).is_ok())).unwrap_or(false);
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let mut rest = all.as_slice();
    // Where not even a batch without its columns can be decoded, none of them is at fault.
    if rest.is_empty() || !decodes(&[]) {
        return error;
    }
    while rest.len() > 1 {
        let (left, right) = rest.split_at(rest.len() / 2);
        rest = if decodes(left) { right } else { left };
    }
    if decodes(rest) {
        return error;
    }
    let column = rest[0];
    let name = schema.field(column).name();
    let row = contained(|| Ok(no_text(column, schema, &decode))).unwrap_or_default();
    let fault = match row {
        // In the words in which buffers are refused.
        Some(row) => BatchFault::new("it is not UTF-8").at(row),
        None => BatchFault::new(error.message()),
    };
    Error::from(fault.within(name)).with_causes(error.causes().to_vec())
}

/// The first row of a text column that is not UTF-8: the same buffers are read as bytes.
fn no_text(
    column: usize,
    schema: &SchemaRef,
    decode: impl Fn(SchemaRef, &[usize]) -> Result<RecordBatch, ArrowError>,
) -> Option<usize> {
    let bytes = match schema.field(column).data_type() {
        DataType::Utf8 => DataType::Binary,
        DataType::LargeUtf8 => DataType::LargeBinary,
        DataType::Utf8View => DataType::BinaryView,
        _ => return None,
    };
    let mut fields = schema.fields().to_vec();
    fields[column] = Arc::new(Field::new("bytes", bytes, true));
    let batch = decode(Arc::new(Schema::new(fields)), &[column]).ok()?;
    let array = batch.column(0);
    let bad = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| std::str::from_utf8(bytes).is_err());
    match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().iter().position(bad),
        DataType::LargeBinary => array.as_binary::<i64>().iter().position(bad),
        _ => array.as_binary_view().iter().position(bad),
    }
}
