//! Rows of several batches → the nodes and buffers of one message, without an array that holds them all.
//!
//! Invariants:
//! - What is given is one column after the other, as arrow's own `concat` would make it.
//! - Nothing is concluded from payload: bytes are referred to, and the bits of Boolean columns moved as they
//!   come; so it may be memory that others still write to.
//!
//! Flat columns only: those of one or two buffers and no children. The others are joined by arrow first.

use std::borrow::Borrow;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBufferBuilder, GenericByteArray, RecordBatch, downcast_primitive_array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{
    ArrowNativeType as _, BinaryType, ByteArrayType, DataType, LargeBinaryType, LargeUtf8Type, Schema,
    Utf8Type,
};

/// Takes the nodes and buffers of a message, in the order of the format.
pub trait Segments {
    fn node(&mut self, length: usize, nulls: usize);
    /// One buffer of the message, as what it is made up of.
    fn buffer(&mut self, segments: impl IntoIterator<Item = Buffer>);
}

/// Whether rows of batches of this schema can be given without joining them first.
pub fn is_flat(schema: &Schema) -> bool {
    schema.fields().iter().all(|field| {
        let data_type = field.data_type();
        matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::FixedSizeBinary(_)
        ) || data_type.primitive_width().is_some()
    })
}

/// Walks the columns of batches whose schemas are flat and have the same types.
pub fn walk(batches: &[impl Borrow<RecordBatch>], sink: &mut impl Segments) {
    let columns = batches.first().map_or(0, |batch| batch.borrow().num_columns());
    for index in 0..columns {
        let arrays: Vec<&ArrayRef> = batches.iter().map(|batch| batch.borrow().column(index)).collect();
        column(&arrays, sink);
    }
}

fn column(arrays: &[&ArrayRef], sink: &mut impl Segments) {
    let rows = arrays.iter().map(|array| array.len()).sum();
    let nulls = arrays.iter().map(|array| array.null_count()).sum();
    sink.node(rows, nulls);
    if nulls == 0 {
        sink.buffer(None);
    } else {
        let mut bits = BooleanBufferBuilder::new(rows);
        for array in arrays {
            match array.nulls() {
                Some(nulls) => bits.append_buffer(nulls.inner()),
                None => bits.append_n(array.len(), true),
            }
        }
        sink.buffer(Some(bits.finish().into_inner()));
    }
    match arrays[0].data_type() {
        DataType::Boolean => {
            let mut bits = BooleanBufferBuilder::new(rows);
            for array in arrays {
                bits.append_buffer(array.as_boolean().values());
            }
            sink.buffer(Some(bits.finish().into_inner()));
        }
        DataType::Utf8 => bytes::<Utf8Type>(arrays, rows, sink),
        DataType::LargeUtf8 => bytes::<LargeUtf8Type>(arrays, rows, sink),
        DataType::Binary => bytes::<BinaryType>(arrays, rows, sink),
        DataType::LargeBinary => bytes::<LargeBinaryType>(arrays, rows, sink),
        _ => sink.buffer(arrays.iter().map(|array| fixed_width(array.as_ref()))),
    }
}

fn bytes<T: ByteArrayType>(arrays: &[&ArrayRef], rows: usize, sink: &mut impl Segments) {
    let mut offsets: Vec<T::Offset> = Vec::with_capacity(rows + 1);
    let mut end = T::Offset::usize_as(0);
    offsets.push(end);
    for array in arrays {
        let own = array.as_bytes::<T>().value_offsets();
        let shift = end - own[0];
        offsets.extend(own[1..].iter().map(|offset| *offset + shift));
        end = own[own.len() - 1] + shift;
    }
    sink.buffer(Some(Buffer::from_vec(offsets)));
    sink.buffer(arrays.iter().map(|array| pointed_at(array.as_bytes::<T>())));
}

fn pointed_at<T: ByteArrayType>(array: &GenericByteArray<T>) -> Buffer {
    let offsets = array.value_offsets();
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    array.values().slice_with_length(first, last - first)
}

fn fixed_width(array: &dyn Array) -> Buffer {
    downcast_primitive_array!(
        array => array.values().inner().slice_with_length(0, std::mem::size_of_val::<[_]>(array.values())),
        DataType::FixedSizeBinary(width) => cut(array, *width as usize),
        other => cut(array, other.primitive_width().unwrap_or(0)),
    )
}

fn cut(array: &dyn Array, width: usize) -> Buffer {
    let data = array.to_data();
    data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width)
}
