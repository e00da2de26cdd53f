//! What the tests of the transmitter share: a destination that does as it is told, and a rig around
//! a transmitter that remembers every outcome.

#![allow(dead_code)] // Each test binary uses its own part.

pub mod rig;
pub mod scripted;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use arrow_ingest::handoff::{ColumnBuffers, Foreign, HandoffBatch, IpcBytes, Node};

/// One non-null column of whole numbers, named so that different names are different schemas.
pub fn schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, false)]))
}

pub fn batch(schema: &SchemaRef, values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_new(schema.clone(), vec![column]).unwrap()
}

/// The first column of a batch, nulls as -1.
pub fn values(batch: &RecordBatch) -> Vec<i64> {
    let column = batch.column(0).as_primitive::<Int64Type>();
    column.iter().map(|value| value.unwrap_or(-1)).collect()
}

/// Flat buffers of a batch whose columns are all `Int64`; nothing is copied.
pub fn columns(batch: &RecordBatch) -> HandoffBatch {
    let mut nodes = Vec::new();
    let mut buffers = Vec::new();
    for column in batch.columns() {
        let column = column.as_primitive::<Int64Type>();
        nodes.push(Node {
            length: column.len(),
            null_count: column.null_count() as i64,
            offset: 0,
            variadic: 0,
        });
        let validity = column.nulls().map(|nulls| nulls.inner().sliced());
        buffers.push(validity.map(Foreign::from_buffer));
        buffers.push(Some(Foreign::from_buffer(column.values().inner().clone())));
    }
    HandoffBatch::Columns(ColumnBuffers {
        schema: batch.schema(),
        rows: batch.num_rows(),
        nodes,
        buffers,
    })
}

pub fn ipc(batch: &RecordBatch) -> HandoffBatch {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    HandoffBatch::Ipc(IpcBytes {
        bytes: Foreign::from_buffer(Buffer::from(writer.into_inner().unwrap())),
        rows: Some(batch.num_rows()),
    })
}
