//! Where the messages are in an IPC stream or file.
//!
//! Invariant: a [`Frame`] lies within the bytes, and its metadata was verified as a flatbuffer.
//! What the messages mean is `ipc`'s to say.

use arrow::buffer::Buffer;
use arrow::ipc::{Block, Footer, Message, root_as_footer, root_as_message};

use super::invalid;
use super::layout::MAX_DEPTH;
use crate::error::{Error, Result};

const MAGIC: &[u8] = b"ARROW1";
const CONTINUATION: [u8; 4] = [0xFF; 4];

/// One message: its metadata, and the body that follows it.
pub(super) struct Frame {
    metadata: Buffer,
    pub(super) body: Buffer,
}

impl Frame {
    pub(super) fn message(&self) -> Result<Message<'_>> {
        message(&self.metadata)
    }
}

/// A file begins with its magic, which is no length that a stream could begin with.
pub(super) fn is_file(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// What bytes that are no Arrow IPC are, where their beginning says so, and what would make rows of them.
pub(super) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 5] = [
        (
            b"PAR1",
            "a Parquet file: give the bytes, or its path, to sendBytes()",
        ),
        (
            b"FEA1",
            "a Feather file of version 1: write it again as Arrow IPC",
        ),
        (
            b"\x1f\x8b",
            "compressed by gzip: of JSON, CSV or Parquet, sendBytes(bytes); of Arrow IPC, send(gunzipSync(bytes)) with node:zlib",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "compressed by zstd: of JSON, CSV or Parquet, sendBytes(bytes); of Arrow IPC, send(zstdDecompressSync(bytes)) with node:zlib",
        ),
        (b"Obj\x01", "an Avro file"),
    ];
    let known = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic));
    if let Some((_, what)) = known {
        return Some(what);
    }
    let head = &bytes[..bytes.len().min(64)];
    // A character may be cut in two where the head ends.
    let is_utf8 = std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true);
    let is_text = head.len() >= 4 && is_utf8 && head.iter().all(|byte| *byte >= b'\t');
    is_text.then_some("text, such as CSV or JSON: sendBytes(bytes) decodes it by a schema")
}

/// The messages of a stream, one by one.
pub(super) struct IpcMessages<'a> {
    bytes: &'a Buffer,
    position: usize,
}

impl<'a> IpcMessages<'a> {
    pub(super) fn new(bytes: &'a Buffer) -> Self {
        IpcMessages { bytes, position: 0 }
    }

    /// `None` at the end-of-stream marker, or where the bytes end between two messages: writers that
    /// are cut off there have lost nothing.
    pub(super) fn next(&mut self) -> Result<Option<Frame>> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        let (prefix, length) = metadata_length(&self.bytes[self.position..])?;
        let start = self.position + prefix;
        if length == 0 {
            // What follows would be lost in silence: a second stream, most likely.
            return match self.bytes[start..].iter().any(|byte| *byte != 0) {
                true => Err(invalid("the stream has bytes beyond its end")),
                false => Ok(None),
            };
        }
        let metadata = part(self.bytes, start, length)?;
        let body_length = body_length(message(&metadata)?)?;
        let body = part(self.bytes, start + length, body_length)?;
        self.position = start + length + body_length;
        Ok(Some(Frame { metadata, body }))
    }
}

/// The footer of a file.
pub(super) fn footer(bytes: &[u8]) -> Result<Footer<'_>> {
    let truncated = || invalid("the file is cut off: its footer is missing");
    let (rest, magic) = bytes
        .split_last_chunk::<6>()
        .filter(|(_, magic)| *magic == MAGIC)
        .ok_or_else(truncated)?;
    debug_assert_eq!(magic, MAGIC);
    let (rest, length) = rest.split_last_chunk::<4>().ok_or_else(truncated)?;
    let start = usize::try_from(i32::from_le_bytes(*length))
        .ok()
        .and_then(|length| rest.len().checked_sub(length))
        .ok_or_else(|| invalid("the footer of the file is longer than the file"))?;
    root_as_footer(&rest[start..]).map_err(|error| unreadable("footer", &error))
}

/// The message of a block that the footer names.
pub(super) fn block(bytes: &Buffer, block: &Block) -> Result<Frame> {
    let outside = || invalid("the footer names a block that is not in the file");
    let start = usize::try_from(block.offset()).map_err(|_| outside())?;
    let metadata_length_of_block = usize::try_from(block.metaDataLength()).map_err(|_| outside())?;
    let body_length_of_block = usize::try_from(block.bodyLength()).map_err(|_| outside())?;
    let whole = part(bytes, start, metadata_length_of_block).map_err(|_| outside())?;
    let (prefix, length) = metadata_length(&whole)?;
    let metadata = part(&whole, prefix, length)?;
    if body_length(message(&metadata)?)? != body_length_of_block {
        return Err(invalid(
            "the footer and a message disagree about the length of its body",
        ));
    }
    let end = start + metadata_length_of_block;
    let body = part(bytes, end, body_length_of_block).map_err(|_| outside())?;
    Ok(Frame { metadata, body })
}

/// The length of a message's metadata, and that of the prefix before it: 8 bytes, or 4 before 0.15.
fn metadata_length(bytes: &[u8]) -> Result<(usize, usize)> {
    let cut = || invalid("the bytes end within the length of a message");
    let (first, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
    let (prefix, length) = match *first == CONTINUATION {
        true => (8, rest.first_chunk::<4>().ok_or_else(cut)?),
        false => (4, first),
    };
    let length = usize::try_from(i32::from_le_bytes(*length))
        .map_err(|_| invalid("these are no IPC bytes: a message has a negative length"))?;
    Ok((prefix, length))
}

fn body_length(message: Message<'_>) -> Result<usize> {
    usize::try_from(message.bodyLength()).map_err(|_| invalid("a message has a body of negative length"))
}

fn message(metadata: &[u8]) -> Result<Message<'_>> {
    root_as_message(metadata).map_err(|error| unreadable("message", &error))
}

fn unreadable(what: &str, error: &dyn std::fmt::Display) -> Error {
    let reason = error.to_string();
    // The verifier's own bound, which is met before any schema is decoded.
    if reason.contains("depth limit") {
        return invalid(format!("fields are nested deeper than {MAX_DEPTH} levels"));
    }
    invalid(format!("the {what} cannot be read: {}", reason.trim()))
}

fn part(bytes: &Buffer, start: usize, length: usize) -> Result<Buffer> {
    match start.checked_add(length) {
        Some(end) if end <= bytes.len() => Ok(bytes.slice_with_length(start, length)),
        _ => Err(invalid(format!(
            "the bytes are cut off: {length} are announced from {start} on, of {}; pieces of a file or a \
             response go through RecordBatchReader.from(stream) of apache-arrow",
            bytes.len()
        ))),
    }
}
