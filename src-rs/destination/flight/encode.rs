//! Record batches → gRPC messages of Arrow Flight, gathered instead of copied.
//!
//! A message is a list of pieces. Large buffers of the batch are pieces themselves; what is small is
//! copied into the piece before it, because a piece of a few bytes costs a write to the socket.
//!
//! ```text
//! 0 · length u32 BE · [1: descriptor] · 2: data_header · [3: app_metadata] · 1000: data_body
//! ```
//!
//! Invariants:
//! - What a message holds on to is released with the message: nothing here keeps a buffer.
//! - A message is never longer than [`measure`] said, metadata and framing included; one that batches share, than
//!   that with their `bitmaps`.
//!
//! It does not split ([`super::plan`] does) and does not send.

use std::borrow::Borrow;
use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow_ipc as ipc;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use bytes::{BufMut, Bytes, BytesMut};
use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

use super::arrays::{Sink, fresh, walk};
use super::chunks::Chunks;
use super::dictionaries::dictionaries;
use super::joined::{self, Segments};
use crate::config::Compression;
use crate::error::{Code, Error, Result};

/// Buffers below this are copied: each piece is a frame and a write, which wakes the other side.
const SMALL: usize = 64 << 10;
/// A message whose body is no larger than this is copied into one piece.
const WHOLE: usize = 256 << 10;
/// Every buffer starts at a multiple of this.
const ALIGNMENT: usize = 8;
/// What a message has beside nodes, buffers and metadata of the application.
const FRAME: usize = 512;
/// Dictionaries up to this are remembered, so as not to be sent again.
const REMEMBERED: usize = 1 << 20;

/// One gRPC message, in pieces.
#[derive(Debug, Default)]
pub struct Message {
    pub pieces: Vec<Bytes>,
    pub length: usize,
}

/// Makes the messages of one stream.
pub struct Encoder {
    compression: Compression,
    chunks: Chunks,
    /// The dictionaries that the server has, as they were sent.
    sent: HashMap<i64, Bytes>,
}

impl Encoder {
    pub fn new(compression: Compression, chunks: Chunks) -> Encoder {
        Encoder {
            compression,
            chunks,
            sent: HashMap::new(),
        }
    }

    /// The first message of a stream. `descriptor`: the `FlightDescriptor`, encoded.
    pub fn schema(&self, schema: &Schema, descriptor: &[u8]) -> Message {
        let mut tracker = DictionaryTracker::new(false);
        let options = IpcWriteOptions::default();
        let data = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut tracker,
            &options,
        );
        frame(&self.chunks, descriptor, &data.ipc_message, &[], Body::default())
    }

    /// The dictionaries of a batch that the server does not have.
    ///
    /// # Errors
    /// `BATCH_INVALID` if one does not compress.
    pub fn dictionaries(&mut self, batch: &RecordBatch) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        for (id, values) in dictionaries(batch) {
            let message = self.dictionary(id, &values)?;
            // A copy, so that remembering it pins nobody's memory.
            let bytes = flatten(&message);
            if self.sent.get(&id) == Some(&bytes) {
                continue;
            }
            if bytes.len() <= REMEMBERED {
                self.sent.insert(id, bytes.clone());
            } else {
                self.sent.remove(&id);
            }
            messages.push(Message {
                length: bytes.len(),
                pieces: vec![bytes],
            });
        }
        Ok(messages)
    }

    fn dictionary(&self, id: i64, values: &ArrayRef) -> Result<Message> {
        let mut gather = Gather::new(self.compression, &self.chunks);
        walk(values, &mut gather);
        let mut builder = FlatBufferBuilder::with_capacity(1024);
        let batch = gather.batch(&mut builder, values.len());
        let mut dictionary = ipc::DictionaryBatchBuilder::new(&mut builder);
        dictionary.add_id(id);
        dictionary.add_data(batch);
        let header = dictionary.finish().as_union_value();
        gather.finish(builder, ipc::MessageHeader::DictionaryBatch, header, &[])
    }

    /// A record batch. Dictionaries of it must have been sent.
    ///
    /// # Errors
    /// `BATCH_INVALID` if it does not compress.
    pub fn batch(&self, batch: &RecordBatch, app_metadata: &[u8]) -> Result<Message> {
        let mut gather = Gather::new(self.compression, &self.chunks);
        for column in batch.columns() {
            walk(column, &mut gather);
        }
        self.record_batch(gather, batch.num_rows(), app_metadata)
    }

    /// Some rows of several batches as one record batch, where they need not be joined first. None where they
    /// do: of columns that are not flat, or to compress them.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn joined<B: Borrow<RecordBatch>>(
        &self,
        batches: &[B],
        app_metadata: &[u8],
    ) -> Result<Option<Message>> {
        let Some(first) = batches.first().map(Borrow::borrow) else {
            return Ok(None);
        };
        let types = |batch: &RecordBatch| {
            let (types, of) = (first.schema_ref().fields(), batch.schema_ref().fields());
            types.len() == of.len() && types.iter().zip(of).all(|(a, b)| a.data_type() == b.data_type())
        };
        if !matches!(self.compression, Compression::None | Compression::Snappy)
            || !joined::is_flat(first.schema_ref())
            || !batches.iter().map(Borrow::borrow).all(types)
        {
            return Ok(None);
        }
        let mut gather = Gather::new(self.compression, &self.chunks);
        joined::walk(batches, &mut gather);
        let rows = batches.iter().map(|batch| batch.borrow().num_rows()).sum();
        self.record_batch(gather, rows, app_metadata).map(Some)
    }

    fn record_batch(&self, gather: Gather, rows: usize, app_metadata: &[u8]) -> Result<Message> {
        let mut builder = FlatBufferBuilder::with_capacity(1024);
        let header = gather.batch(&mut builder, rows).as_union_value();
        let kind = ipc::MessageHeader::RecordBatch;
        gather.finish(builder, kind, header, app_metadata)
    }
}

/// What `columns` come to in a message.
pub fn measure(columns: &[ArrayRef], hydrate: bool) -> Measure {
    let mut measure = Measure {
        bytes: FRAME,
        bitmaps: 0,
        hydrate,
    };
    for column in columns {
        walk(column, &mut measure);
    }
    measure
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Measure {
    /// An upper bound of the message that they make.
    pub bytes: usize,
    /// What it grows by, at most, if they share it with rows that are null: a column has a bitmap for all or none.
    pub bitmaps: usize,
    hydrate: bool,
}

impl Sink for Measure {
    fn node(&mut self, length: usize, _: usize) {
        self.bytes += 16;
        self.bitmaps += length.div_ceil(8) + ALIGNMENT;
    }
    fn buffer(&mut self, length: usize, _: impl FnOnce() -> Buffer) {
        // Its place in the header, and the length that goes before it when it is compressed.
        self.bytes += 16 + 8 + length.next_multiple_of(ALIGNMENT);
    }
    fn variadic(&mut self, _: usize) {
        self.bytes += 8;
    }
    fn extra(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
    fn hydrates(&self) -> bool {
        self.hydrate
    }
}

/// What becomes the body, and what the header says of it.
struct Gather {
    compression: Compression,
    chunks: Chunks,
    nodes: Vec<ipc::FieldNode>,
    buffers: Vec<ipc::Buffer>,
    variadic: Vec<i64>,
    body: Body,
    failed: Option<std::io::Error>,
}

impl Gather {
    fn new(compression: Compression, chunks: &Chunks) -> Gather {
        Gather {
            compression,
            chunks: chunks.clone(),
            nodes: Vec::new(),
            buffers: Vec::new(),
            variadic: Vec::new(),
            body: Body::default(),
            failed: None,
        }
    }

    fn batch<'f>(&self, builder: &mut FlatBufferBuilder<'f>, rows: usize) -> WIPOffset<ipc::RecordBatch<'f>> {
        let codec = match self.compression {
            Compression::Lz4 => Some(ipc::CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(ipc::CompressionType::ZSTD),
            Compression::None | Compression::Snappy => None,
        };
        let compression = codec.map(|codec| {
            let mut compression = ipc::BodyCompressionBuilder::new(builder);
            compression.add_method(ipc::BodyCompressionMethod::BUFFER);
            compression.add_codec(codec);
            compression.finish()
        });
        let buffers = builder.create_vector(&self.buffers);
        let nodes = builder.create_vector(&self.nodes);
        let variadic = (!self.variadic.is_empty()).then(|| builder.create_vector(&self.variadic));
        let mut batch = ipc::RecordBatchBuilder::new(builder);
        batch.add_length(rows as i64);
        batch.add_nodes(nodes);
        batch.add_buffers(buffers);
        if let Some(compression) = compression {
            batch.add_compression(compression);
        }
        if let Some(variadic) = variadic {
            batch.add_variadicBufferCounts(variadic);
        }
        batch.finish()
    }

    fn finish(
        self,
        mut builder: FlatBufferBuilder<'_>,
        kind: ipc::MessageHeader,
        header: WIPOffset<UnionWIPOffset>,
        app_metadata: &[u8],
    ) -> Result<Message> {
        if let Some(cause) = self.failed {
            let error = Error::new(Code::BatchInvalid, "a buffer cannot be compressed");
            return Err(error.caused_by(&cause).during("write"));
        }
        let mut message = ipc::MessageBuilder::new(&mut builder);
        message.add_version(ipc::MetadataVersion::V5);
        message.add_header_type(kind);
        message.add_bodyLength(self.body.length as i64);
        message.add_header(header);
        let root = message.finish();
        builder.finish(root, None);
        Ok(frame(
            &self.chunks,
            &[],
            builder.finished_data(),
            app_metadata,
            self.body,
        ))
    }
}

impl Sink for Gather {
    fn node(&mut self, length: usize, nulls: usize) {
        self.nodes.push(ipc::FieldNode::new(length as i64, nulls as i64));
    }

    fn buffer(&mut self, length: usize, make: impl FnOnce() -> Buffer) {
        let start = self.body.length as i64;
        if length == 0 {
            return self.buffers.push(ipc::Buffer::new(start, 0));
        }
        let mut buffer = make();
        debug_assert_eq!(buffer.len(), length, "measured wrong");
        if matches!(self.compression, Compression::Lz4 | Compression::Zstd) {
            match compressed(self.compression, &buffer) {
                Ok(bytes) => buffer = Buffer::from_vec(bytes),
                Err(error) => self.failed = Some(error),
            }
        }
        self.buffers.push(ipc::Buffer::new(start, buffer.len() as i64));
        self.body.push(Some(buffer));
    }

    fn written(&mut self, length: usize, write: impl FnOnce(&mut [u8])) {
        let chunks = self.chunks.clone();
        Sink::buffer(self, length, || {
            // Copied into the frame right away, it would only take a chunk's place.
            if length < SMALL {
                return fresh(length, write);
            }
            let mut chunk = chunks.take(length);
            chunk.resize(length, 0);
            write(&mut chunk);
            Buffer::from(chunks.freeze(chunk))
        });
    }

    fn variadic(&mut self, count: usize) {
        self.variadic.push(count as i64);
    }
}

impl Segments for Gather {
    fn node(&mut self, length: usize, nulls: usize) {
        Sink::node(self, length, nulls);
    }

    fn buffer(&mut self, segments: impl IntoIterator<Item = Buffer>) {
        let start = self.body.length as i64;
        let length = self.body.push(segments);
        self.buffers.push(ipc::Buffer::new(start, length as i64));
    }
}

/// The length as it was, then the compressed bytes; or -1 and the bytes as they are, if that is less.
fn compressed(compression: Compression, buffer: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(buffer.len() / 2 + 64);
    out.extend_from_slice(&(buffer.len() as i64).to_le_bytes());
    if compression == Compression::Lz4 {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
        std::io::Write::write_all(&mut encoder, buffer)?;
        out = encoder.finish().map_err(std::io::Error::other)?;
    } else {
        #[cfg(feature = "zstd")]
        zstd::stream::copy_encode(buffer, &mut out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        #[cfg(not(feature = "zstd"))]
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    if out.len() >= buffer.len() + 8 {
        out.clear();
        out.extend_from_slice(&(-1_i64).to_le_bytes());
        out.extend_from_slice(buffer);
    }
    Ok(out)
}

/// The buffers of a message, in order.
#[derive(Default)]
struct Body {
    /// Each with how many zeros follow it.
    segments: Vec<(Buffer, usize)>,
    length: usize,
}

impl Body {
    /// Adds a buffer, as what it is made up of; how long it is.
    fn push(&mut self, segments: impl IntoIterator<Item = Buffer>) -> usize {
        let mut length = 0;
        for segment in segments.into_iter().filter(|segment| !segment.is_empty()) {
            length += segment.len();
            self.segments.push((segment, 0));
        }
        let padded = length.next_multiple_of(ALIGNMENT);
        if padded > length
            && let Some((_, padding)) = self.segments.last_mut()
        {
            *padding = padded - length;
        }
        self.length += padded;
        length
    }

    /// Below this a buffer is copied.
    fn small(&self) -> usize {
        if self.length <= WHOLE { usize::MAX } else { SMALL }
    }
}

/// A buffer as the owner of its bytes.
struct Owned(Buffer);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The gRPC prefix and the protobuf fields around a body.
fn frame(chunks: &Chunks, descriptor: &[u8], header: &[u8], app_metadata: &[u8], body: Body) -> Message {
    let small = body.small();
    let copied = |(segment, _): &&(Buffer, usize)| segment.len() < small;
    let first: usize = body
        .segments
        .iter()
        .take_while(copied)
        .map(|(segment, padding)| segment.len() + padding)
        .sum();
    let mut open = chunks.take(64 + descriptor.len() + header.len() + app_metadata.len() + first);
    open.put_bytes(0, 5);
    for (tag, bytes) in [(1_u64, descriptor), (2, header), (3, app_metadata)] {
        if !bytes.is_empty() {
            put_field(&mut open, tag, bytes.len());
            open.extend_from_slice(bytes);
        }
    }
    if body.length > 0 {
        put_field(&mut open, 1000, body.length);
    }
    let length = open.len() + body.length;
    let message = u32::try_from(length - 5).unwrap_or(u32::MAX);
    open[1..5].copy_from_slice(&message.to_be_bytes());
    let mut pieces = Vec::new();
    for (buffer, padding) in body.segments {
        if buffer.len() < small {
            open.extend_from_slice(&buffer);
        } else {
            if !open.is_empty() {
                pieces.push(chunks.freeze(std::mem::take(&mut open)));
            }
            pieces.push(Bytes::from_owner(Owned(buffer)));
        }
        open.put_bytes(0, padding);
    }
    if !open.is_empty() {
        pieces.push(chunks.freeze(open));
    }
    Message { pieces, length }
}

/// The key and the length of a field of bytes.
fn put_field(out: &mut Vec<u8>, tag: u64, length: usize) {
    for mut number in [tag << 3 | 2, length as u64] {
        while number >= 0x80 {
            out.put_u8(number as u8 | 0x80);
            number >>= 7;
        }
        out.put_u8(number as u8);
    }
}

fn flatten(message: &Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.length);
    for piece in &message.pieces {
        bytes.extend_from_slice(piece);
    }
    bytes.freeze()
}
