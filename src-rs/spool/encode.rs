//! Record batches → the payload of a record, and back.
//!
//! Invariants:
//! - Bytes are copied once, and the checksum is of the copy: JavaScript may write to the original meanwhile.
//! - The dictionaries of a delivery are in its own record, so each can be read by itself.
//! - As many rows come out of the encoder as went in, counted in what it wrote.
//!
//! It gives no positions and writes no file: `shared` and `writer` do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, GenericByteViewArray, GenericListArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StructArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{ByteViewType, DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::ipc::{CompressionType, Endianness, MetadataVersion, root_as_message};

use super::format::{ALIGNMENT, RECORD_HEADER, padded};
use crate::error::{Code, Error, Result};

/// What stands before the metadata of a message: a mark and the length.
const PREFIX: usize = 8;
const END_OF_STREAM: [u8; PREFIX] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// A record but for its header, which is zeros until its place is known.
#[derive(Debug)]
pub struct RecordImage {
    pub bytes: Vec<u8>,
    /// Of the payload.
    pub length: usize,
    pub crc: u32,
}

impl RecordImage {
    /// The payload stands behind the room for the header already.
    fn finish(mut bytes: Vec<u8>) -> RecordImage {
        let length = bytes.len() - RECORD_HEADER;
        let crc = crc32c::crc32c(&bytes[RECORD_HEADER..]);
        bytes.resize(padded(bytes.len() as u64) as usize, 0);
        RecordImage { bytes, length, crc }
    }

    pub fn of(payload: &[u8]) -> RecordImage {
        let mut bytes = Vec::with_capacity(padded((RECORD_HEADER + payload.len()) as u64) as usize);
        bytes.resize(RECORD_HEADER, 0);
        bytes.extend_from_slice(payload);
        RecordImage::finish(bytes)
    }
}

/// One delivery, ready to be written.
#[derive(Debug)]
pub struct EncodedDelivery {
    /// The message with the schema.
    pub schema: Arc<[u8]>,
    pub image: RecordImage,
    pub rows: u64,
}

/// # Errors
/// `UNSUPPORTED` for a type that Arrow IPC has no form for, `BATCH_INVALID` for batches of several schemas.
pub fn encode(batches: &[RecordBatch], compression: Option<CompressionType>) -> Result<EncodedDelivery> {
    let invalid = |message: &str| Error::new(Code::BatchInvalid, message).during("spool");
    let first = batches
        .first()
        .ok_or_else(|| invalid("a delivery without batches"))?;
    if batches.iter().any(|batch| batch.schema() != first.schema()) {
        return Err(invalid("the batches of a delivery have more than one schema"));
    }
    let given: usize = batches.iter().map(RecordBatch::num_rows).sum();
    // The writer of Arrow panics on offsets without bytes, which JavaScript may make of whole ones meanwhile.
    let written = catch_unwind(AssertUnwindSafe(|| write(batches, first, compression)));
    let written = written
        .map_err(|_| Error::new(Code::Internal, "the writer of Arrow IPC panicked").during("spool"))?;
    let (schema, bytes) = written.map_err(|error| {
        Error::new(Code::Unsupported, "the batch cannot be written as Arrow IPC")
            .caused_by(&error)
            .during("spool")
    })?;
    let image = RecordImage::finish(bytes);
    let payload = &image.bytes[RECORD_HEADER..RECORD_HEADER + image.length];
    let written = count(payload);
    if written != Some(given as u64) {
        let message = format!("{given} rows were given, and of {written:?} the encoder has written");
        return Err(Error::new(Code::Internal, message).during("spool"));
    }
    Ok(EncodedDelivery {
        schema: schema.into(),
        image,
        rows: given as u64,
    })
}

fn write(
    batches: &[RecordBatch],
    first: &RecordBatch,
    compression: Option<CompressionType>,
) -> Result<(Vec<u8>, Vec<u8>), ArrowError> {
    let options = IpcWriteOptions::try_new(ALIGNMENT as usize, false, MetadataVersion::V5)?
        .try_with_compression(compression)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), first.schema_ref(), options)?;
    let batches: Vec<RecordBatch> = batches.iter().map(trimmed).collect::<Result<_, _>>()?;
    let room = batches.iter().map(size).sum::<usize>() + RECORD_HEADER + ALIGNMENT as usize;
    let mut record = Vec::with_capacity(room);
    record.resize(RECORD_HEADER, 0);
    let schema = std::mem::replace(writer.get_mut(), record);
    for batch in &batches {
        writer.write(batch)?;
    }
    Ok((schema, std::mem::take(writer.get_mut())))
}

/// The same rows. Of a slice of views Arrow IPC has all data buffers, however few of their bytes are these rows':
/// where most are not, the views get buffers of their own.
fn trimmed(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !batch
        .schema_ref()
        .fields()
        .iter()
        .any(|field| has_views(field.data_type()))
    {
        return Ok(batch.clone());
    }
    let columns = batch
        .columns()
        .iter()
        .map(without_strangers)
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn has_views(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Utf8View | T::BinaryView => true,
        T::Struct(fields) => fields.iter().any(|field| has_views(field.data_type())),
        T::List(item) | T::LargeList(item) => has_views(item.data_type()),
        // Others are written as they are: more than is needed, and nothing that is wrong.
        _ => false,
    }
}

fn without_strangers(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Utf8View => views(column.as_string_view()),
        DataType::BinaryView => views(column.as_binary_view()),
        DataType::Struct(fields) if has_views(column.data_type()) => {
            let rows = column.as_struct();
            let children = rows
                .columns()
                .iter()
                .map(without_strangers)
                .collect::<Result<_, _>>()?;
            let nulls = rows.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                children,
                nulls,
                rows.len(),
            )?)
        }
        DataType::List(item) if has_views(column.data_type()) => list::<i32>(column, item)?,
        DataType::LargeList(item) if has_views(column.data_type()) => list::<i64>(column, item)?,
        _ => Arc::clone(column),
    })
}

fn views<T: ByteViewType>(views: &GenericByteViewArray<T>) -> ArrayRef {
    /// Below this it is not worth a copy.
    const SPARE: usize = 4096;
    let has: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
    match has > 2 * views.total_buffer_bytes_used() + SPARE {
        true => Arc::new(views.gc()),
        false => Arc::new(views.clone()),
    }
}

fn list<O: OffsetSizeTrait>(column: &ArrayRef, item: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let lists = column.as_list::<O>();
    let offsets = lists.offsets();
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let items = lists.values().slice(first.as_usize(), (last - first).as_usize());
    let moved = offsets.iter().map(|offset| *offset - first).collect();
    let nulls = lists.nulls().cloned();
    Ok(Arc::new(GenericListArray::<O>::try_new(
        Arc::clone(item),
        OffsetBuffer::new(moved),
        without_strangers(&items)?,
        nulls,
    )?))
}

/// About what a batch takes. More than that is grown into, which copies.
pub fn size(batch: &RecordBatch) -> usize {
    const MESSAGE: usize = 1024;
    /// Each buffer is padded, and told of in the metadata.
    const BUFFER: usize = 128;
    let columns = batch.columns().iter().map(|column| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or(0) + 3 * BUFFER
    });
    MESSAGE + columns.sum::<usize>()
}

/// The rows of all record batches of a payload. None if it is none.
fn count(mut payload: &[u8]) -> Option<u64> {
    let mut rows = 0u64;
    while !payload.is_empty() {
        let length = u32::from_le_bytes(payload.get(4..PREFIX)?.try_into().ok()?) as usize;
        let message = root_as_message(payload.get(PREFIX..PREFIX + length)?).ok()?;
        if let Some(batch) = message.header_as_record_batch() {
            rows += u64::try_from(batch.length()).ok()?;
        }
        let body = usize::try_from(message.bodyLength()).ok()?;
        payload = payload.get(PREFIX + length + body..)?;
    }
    Some(rows)
}

/// The batches of a payload, which share its memory.
///
/// # Errors
/// In words, if the bytes are no batches of that schema, or not so many rows.
pub fn decode(schema: &Buffer, payload: &Buffer, rows: u64) -> Result<Vec<RecordBatch>, String> {
    // The readers of Arrow panic on some bytes that nobody has written.
    let decoded = catch_unwind(AssertUnwindSafe(|| read(schema.clone(), payload.clone())));
    let batches = match decoded {
        Ok(Ok(batches)) => batches,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("the reader of Arrow IPC panicked".into()),
    };
    let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
    match found as u64 == rows {
        true => Ok(batches),
        false => Err(format!("{found} rows where the header says {rows}")),
    }
}

fn read(mut schema: Buffer, mut payload: Buffer) -> Result<Vec<RecordBatch>, ArrowError> {
    if !is_native(&schema) {
        return Err(ArrowError::IpcError(
            "written on a machine of other endianness".into(),
        ));
    }
    let mut decoder = StreamDecoder::new();
    decoder.decode(&mut schema)?;
    let mut batches = Vec::new();
    while !payload.is_empty() {
        batches.extend(decoder.decode(&mut payload)?);
    }
    if decoder.finish().is_err() {
        // A batch without a body is given only when something stands behind it.
        batches.extend(decoder.decode(&mut Buffer::from(&END_OF_STREAM))?);
    }
    Ok(batches)
}

/// The decoder takes foreign numbers for its own.
fn is_native(schema: &[u8]) -> bool {
    let native = match cfg!(target_endian = "little") {
        true => Endianness::Little,
        false => Endianness::Big,
    };
    let message = schema.get(PREFIX..).and_then(|bytes| root_as_message(bytes).ok());
    let schema = message.as_ref().and_then(|message| message.header_as_schema());
    schema.is_some_and(|schema| schema.endianness() == native)
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryViewArray, Int32Array, LargeListArray, ListArray, NullArray, StringViewArray};
    use arrow::datatypes::Field;

    use super::*;

    fn delivery() -> (Buffer, Buffer) {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("one column");
        let encoded = encode(&[batch], None).expect("a plain batch");
        let image = &encoded.image;
        let payload = &image.bytes[RECORD_HEADER..RECORD_HEADER + image.length];
        (Buffer::from(&*encoded.schema), Buffer::from(payload))
    }

    #[test]
    fn bytes_that_are_not_the_rows_of_the_header_are_refused_in_words() {
        let (schema, payload) = delivery();
        assert_eq!(decode(&schema, &payload, 3).map(|batches| batches.len()), Ok(1));
        let found = decode(&schema, &payload, 4);
        assert_eq!(found, Err("3 rows where the header says 4".into()));
        assert!(decode(&payload, &schema, 3).is_err());
        assert!(decode(&schema, &payload.slice_with_length(0, 40), 3).is_err());
        for at in 0..payload.len() {
            let mut harmed = payload.to_vec();
            harmed[at] ^= 0xFF;
            // Whatever Arrow makes of it, nothing panics.
            let _ = decode(&schema, &Buffer::from(harmed), 3);
        }
    }

    #[test]
    fn a_schema_of_another_endianness_is_refused() {
        let (schema, payload) = delivery();
        let is_foreign = |at: &usize| {
            let mut harmed = schema.to_vec();
            harmed[*at] = 1;
            let found = decode(&Buffer::from(harmed), &payload, 3);
            found.is_err_and(|reason| reason.contains("endianness"))
        };
        assert!((0..schema.len()).any(|at| is_foreign(&at)));
    }

    /// A small slice of a large array of views is small on the disk, wherever the views are, and its rows are the same.
    #[test]
    fn a_slice_of_views_takes_along_no_bytes_of_other_rows() {
        let words = || (0..1000).map(|row| (row % 7 != 3).then(|| format!("word {row} of a long text")));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter(words()));
        let bytes: ArrayRef = Arc::new(BinaryViewArray::from_iter(words()));
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let offsets = OffsetBuffer::from_lengths([2; 500]);
        let lists: ArrayRef = Arc::new(ListArray::new(
            Arc::clone(&item),
            offsets,
            Arc::clone(&texts),
            None,
        ));
        let offsets = OffsetBuffer::from_lengths([2; 500]);
        let large: ArrayRef = Arc::new(LargeListArray::new(item, offsets, Arc::clone(&texts), None));
        let plain: ArrayRef = Arc::new(Int32Array::from_iter_values(0..1000));
        let nothing: ArrayRef = Arc::new(NullArray::new(1000));
        let (texts_field, plain_field) = ("t", "p");
        let rows = StructArray::from(vec![
            (
                Arc::new(Field::new(texts_field, DataType::Utf8View, true)),
                Arc::clone(&texts),
            ),
            (
                Arc::new(Field::new(plain_field, DataType::Int32, true)),
                Arc::clone(&plain),
            ),
        ]);
        let columns: [ArrayRef; 7] = [texts, bytes, lists, large, Arc::new(rows), plain, nothing];
        for column in columns {
            let kind = column.data_type().clone();
            let whole = RecordBatch::try_from_iter([("c", column)]).expect("one column");
            let few = whole.slice(400, 10);
            let encoded = encode(std::slice::from_ref(&few), None).expect("a plain batch");
            assert!(
                encoded.image.bytes.len() < 4096,
                "{kind}: {}",
                encoded.image.bytes.len()
            );
            let image = &encoded.image;
            let payload = &image.bytes[RECORD_HEADER..RECORD_HEADER + image.length];
            let found = decode(&Buffer::from(&*encoded.schema), &Buffer::from(payload), 10);
            assert_eq!(found, Ok(vec![few]), "{kind}");
        }
    }

    #[test]
    fn rows_are_counted_in_whole_messages_alone() {
        let (schema, payload) = delivery();
        assert_eq!(count(&payload), Some(3));
        assert_eq!(count(&schema), Some(0));
        assert_eq!(count(&payload[..payload.len() - 1]), None);
        assert_eq!(count(&payload[..6]), None);
    }
}
