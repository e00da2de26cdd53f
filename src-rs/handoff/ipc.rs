//! IPC bytes → record batches.
//!
//! Invariants:
//! - The bytes are copied once, into the pool, before the first of them is looked at; the batches
//!   refer to that copy, and the pin is gone when the import returns.
//! - Nothing is decoded before its sizes are checked (`ipc_frame`, `ipc_compression`) and the byte
//!   order is known to be ours: arrow-rs would read foreign ones as wrong values.
//! - Validation is never skipped, and all batches are kept.
//!
//! It does not check the schema against any other; that is the transmitter's.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow::ipc::{self, Endianness, MessageHeader, MetadataVersion};

use super::ipc_blame::blame;
use super::ipc_compression::Expansion;
use super::ipc_frame::{Frame, IpcMessages, block, footer, is_file, other_format};
use super::layout::{MAX_ROWS, check_type};
use super::pool::Pool;
use super::{ImportedBatches, IpcBytes, invalid};
use crate::error::{Error, Result};

/// What a schema may take in memory, in bytes. A message can name one field a million times over, so
/// that its own size bounds nothing.
const MAX_SCHEMA: usize = 64 << 20;

pub(super) fn import(ipc: IpcBytes, pool: &Arc<Pool>) -> Result<ImportedBatches> {
    let IpcBytes { bytes, rows } = ipc;
    let copy = bytes.copy(0, bytes.len(), pool)?.freeze();
    // The pin, if there was one, goes here.
    drop(bytes);
    let mut decoder = Decoder::default();
    match is_file(&copy) {
        true => decoder.file(&copy)?,
        false => decoder.stream(&copy).map_err(|error| named(&copy, error))?,
    }
    let arrived: usize = decoder.batches.iter().map(RecordBatch::num_rows).sum();
    if let Some(given) = rows.filter(|given| *given != arrived) {
        return Err(invalid(format!("{given} rows were given and {arrived} arrived")));
    }
    Ok(ImportedBatches {
        batches: decoder.batches,
        realigned_buffers: 0,
        bytes: copy.len().saturating_add(decoder.expansion.bytes()),
    })
}

/// The same refusal, where the bytes are of another format than IPC, in the words of that.
fn named(bytes: &[u8], error: Error) -> Error {
    match other_format(bytes) {
        Some(what) => invalid(format!("these are no Arrow IPC bytes but {what}")),
        None => error,
    }
}

pub(super) fn schema(message: &[u8]) -> Result<SchemaRef> {
    let bytes = Buffer::from(message);
    let mut decoder = Decoder::default();
    decoder.stream(&bytes)?;
    if !decoder.batches.is_empty() {
        return Err(invalid("the stream holds more than a schema"));
    }
    decoder.schema()
}

pub(super) fn batches(stream: &[u8]) -> Result<Vec<RecordBatch>> {
    let bytes = Buffer::from(stream);
    let mut decoder = Decoder::default();
    decoder.stream(&bytes)?;
    Ok(decoder.batches)
}

#[derive(Default)]
struct Decoder {
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    batches: Vec<RecordBatch>,
    expansion: Expansion,
}

impl Decoder {
    fn stream(&mut self, bytes: &Buffer) -> Result<()> {
        let mut stream = IpcMessages::new(bytes);
        while let Some(frame) = stream.next()? {
            self.take(&frame)?;
        }
        self.schema().map(drop)
    }

    fn file(&mut self, bytes: &Buffer) -> Result<()> {
        let footer = footer(bytes)?;
        let schema = footer.schema().ok_or_else(|| invalid("the file has no schema"))?;
        self.read_schema(schema)?;
        // Dictionaries first, wherever they are: batches may come before them in a file.
        for place in footer.dictionaries().into_iter().flatten() {
            self.take(&block(bytes, place)?)?;
        }
        for place in footer.recordBatches().into_iter().flatten() {
            self.take(&block(bytes, place)?)?;
        }
        Ok(())
    }

    fn schema(&self) -> Result<SchemaRef> {
        self.schema
            .clone()
            .ok_or_else(|| invalid("the bytes hold no schema"))
    }

    fn take(&mut self, frame: &Frame) -> Result<()> {
        let message = frame.message()?;
        let version = message.version();
        known_version(version)?;
        let missing = || invalid("a message does not hold what it says it holds");
        match message.header_type() {
            MessageHeader::Schema if self.schema.is_some() => Err(invalid("the stream has a second schema")),
            MessageHeader::Schema => self.read_schema(message.header_as_schema().ok_or_else(missing)?),
            MessageHeader::DictionaryBatch => {
                let dictionary = message.header_as_dictionary_batch().ok_or_else(missing)?;
                self.check(dictionary.data().ok_or_else(missing)?, &frame.body)?;
                let schema = self.schema()?;
                read_dictionary(&frame.body, dictionary, &schema, &mut self.dictionaries, &version)
                    .map_err(|error| undecodable("dictionary", &error))
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch().ok_or_else(missing)?;
                self.check(batch, &frame.body)?;
                let schema = self.schema()?;
                let decode = |schema: SchemaRef, columns: Option<&[usize]>| {
                    RecordBatchDecoder::try_new(&frame.body, batch, schema, &self.dictionaries, &version)?
                        .with_projection(columns)
                        .read_record_batch()
                };
                let batch = decode(Arc::clone(&schema), None).map_err(|error| {
                    let error = undecodable("batch", &error);
                    blame(error, &schema, |schema, columns| decode(schema, Some(columns)))
                })?;
                self.batches.push(batch);
                Ok(())
            }
            other => Err(invalid(format!(
                "a message holds a {other:?}, which is no part of a table"
            ))),
        }
    }

    fn read_schema(&mut self, schema: ipc::Schema<'_>) -> Result<()> {
        if schema.endianness() != Endianness::Little {
            return Err(invalid(
                "the bytes are big-endian; only little-endian Arrow data can be taken",
            ));
        }
        let fields = schema
            .fields()
            .ok_or_else(|| invalid("the schema has no list of fields"))?;
        let mut left = MAX_SCHEMA;
        for pair in schema.custom_metadata().into_iter().flatten() {
            weigh_pair(pair, &mut left)?;
        }
        for field in fields {
            weigh(field, &mut left)?;
        }
        let schema = fb_to_schema(schema);
        for field in schema.fields() {
            check_type(field.data_type(), 1).map_err(|fault| fault.within(field.name()))?;
        }
        self.schema = Some(Arc::new(schema));
        Ok(())
    }

    /// Refuses lengths that the decoder would take at their word.
    fn check(&mut self, batch: ipc::RecordBatch<'_>, body: &Buffer) -> Result<()> {
        let sane = |length: i64| usize::try_from(length).is_ok_and(|length| length <= MAX_ROWS);
        let mut lengths = batch
            .nodes()
            .into_iter()
            .flatten()
            .flat_map(|node| [node.length(), node.null_count()]);
        if !sane(batch.length()) || !lengths.all(sane) {
            return Err(invalid(format!("a length is negative or above {MAX_ROWS} rows")));
        }
        let buffers = batch.buffers().map_or(0, |buffers| buffers.len());
        if batch
            .variadicBufferCounts()
            .into_iter()
            .flatten()
            .any(|count| usize::try_from(count).map_or(true, |count| count > buffers))
        {
            return Err(invalid("a view column claims more data buffers than there are"));
        }
        self.expansion.check(batch, body)
    }
}

/// Takes from `left` what decoding the field allocates. The depth was bounded with the message.
fn weigh(field: ipc::Field<'_>, left: &mut usize) -> Result<()> {
    take(left, size_of::<Field>() + field.name().map_or(0, str::len))?;
    for pair in field.custom_metadata().into_iter().flatten() {
        weigh_pair(pair, left)?;
    }
    field
        .children()
        .into_iter()
        .flatten()
        .try_for_each(|child| weigh(child, left))
}

fn weigh_pair(pair: ipc::KeyValue<'_>, left: &mut usize) -> Result<()> {
    take(left, pair.key().map_or(0, str::len))?;
    take(left, pair.value().map_or(0, str::len))
}

fn take(left: &mut usize, bytes: usize) -> Result<()> {
    *left = left
        .checked_sub(bytes)
        .ok_or_else(|| invalid(format!("the schema decodes to more than {MAX_SCHEMA} bytes")))?;
    Ok(())
}

/// Older versions have another layout, and newer ones are not known.
fn known_version(version: MetadataVersion) -> Result<()> {
    match version {
        MetadataVersion::V4 | MetadataVersion::V5 => Ok(()),
        other => Err(invalid(format!(
            "IPC metadata of version {other:?} cannot be read"
        ))),
    }
}

fn undecodable(what: &str, error: &ArrowError) -> Error {
    invalid(format!("a {what} cannot be decoded: {error}")).caused_by(error)
}
