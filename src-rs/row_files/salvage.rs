//! Files that a crash or a full disk left half-written, made whole as far as they go.
//!
//! Invariants:
//! - A file is removed or given its final name only if all of it was read, up to bytes that are zero: those hold
//!   nothing. Any other keeps every byte under a name that nobody removes, beside a copy of the rows that
//!   could be read; or, where its owner does not sync rows ([`Torn::Cut`]), ends where it cannot be read any more.
//! - Sizes are checked before they are believed, and no panic of a decoder leaves this file: damaged bytes
//!   must not cost the rows that come after them.
//! - What is whole is finished where it is: on a full disk there is no room for a copy.
//!
//! It cannot know of a value that was changed and is still one: Arrow files have no checksums.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{Block, MessageHeader, MetadataVersion, root_as_message};

use super::names::{FileKind, rename, set_aside};
use super::{END, FileError, IsSchema, MARK, ending};
use crate::error::{Code, Error, Result};
use crate::handoff::contained;
use crate::locked_file::LockedFile;

/// What became of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Under a final name now.
    pub rows: usize,
    /// Not all of it could be read, so all of it is here.
    pub damaged: Option<PathBuf>,
}

/// What a file is, and what becomes of one that is torn.
pub struct Rules {
    pub kind: FileKind,
    pub layout: Layout,
    pub is_schema: IsSchema,
    pub torn: Torn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// An Arrow IPC file.
    File,
    /// An Arrow IPC stream.
    Stream,
    /// Rows of text, each ended by a line feed.
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Torn {
    /// Rows that were told to be kept may be in what cannot be read: every byte stays.
    SetAside,
    /// Nobody was told that the last rows are kept.
    Cut,
}

/// Makes a file whole. Nothing if somebody still writes to it. `synced`: bytes from there on are of a write that
/// is known to have failed.
///
/// # Errors
/// What the file system says; the file is as it was.
pub fn recover(
    path: &Path,
    synced: Option<u64>,
    rules: &Rules,
) -> std::result::Result<Option<Salvaged>, FileError> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let Some(file) = LockedFile::try_lock(file)? else {
        return Ok(None);
    };
    // Whoever held the lock a moment ago may have finished it, and its rows would be there twice.
    if !path.try_exists()? {
        return Ok(None);
    }
    let found = match rules.layout {
        Layout::Lines => scan_lines(&file)?,
        layout => scan(&file, layout, rules.is_schema)?,
    };
    let rows = found.rows;
    let is_whole = found.is_whole || synced.is_some_and(|synced| found.end >= synced);
    if !is_whole && rules.torn == Torn::SetAside {
        return keep_aside(path, &file, &found, rules).map(Some);
    }
    if rows == 0 {
        fs::remove_file(path)?;
        return Ok(Some(Salvaged::default()));
    }
    finish(&file, &found, rules.layout)?;
    rename(path)?;
    Ok(Some(Salvaged { rows, damaged: None }))
}

/// What a file holds, from its beginning up to the first thing that cannot be read.
#[derive(Default)]
struct Found {
    schema: Option<SchemaRef>,
    dictionaries: Vec<Block>,
    batches: Vec<Block>,
    rows: usize,
    /// Behind the last message.
    end: u64,
    is_whole: bool,
}

/// Lines up to the last that has its end.
fn scan_lines(file: &File) -> io::Result<Found> {
    let mut found = Found::default();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            found.is_whole = length == 0;
            return Ok(found);
        }
        found.rows += 1;
        found.end += length as u64;
    }
}

fn scan(file: &File, layout: Layout, is_schema: IsSchema) -> io::Result<Found> {
    let length = file.metadata()?.len();
    let mut found = Found::default();
    let mut reader = BufReader::new(file);
    let mut mark = [0; MARK.len()];
    let begins = layout == Layout::Stream || read_whole(&mut reader, &mut mark)? && mark == *MARK;
    if begins {
        if layout == Layout::File {
            found.end = mark.len() as u64;
        }
        let mut decoder = Decoder::new(is_schema);
        while let Some(frame) = Frame::read(&mut reader, length - found.end)? {
            let block = Block::new(
                found.end as i64,
                frame.metadata.len() as i32 + 8,
                frame.body.len() as i64,
            );
            match contained(|| decoder.take(&frame)) {
                Ok(Taken::Schema) => {}
                Ok(Taken::Dictionary) => found.dictionaries.push(block),
                Ok(Taken::Rows(rows)) => {
                    found.batches.push(block);
                    found.rows += rows;
                }
                Err(_) => break,
            }
            found.end += frame.length();
        }
        found.schema = decoder.schema;
    }
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(found.end))?;
    found.is_whole = ends_here(&mut reader, &found, layout)?;
    Ok(found)
}

/// Whether nothing follows but zeros, or some of what a file lacks before it gets its final name.
fn ends_here(rest: &mut impl Read, found: &Found, layout: Layout) -> io::Result<bool> {
    // A footer, and room for another one, take far less.
    const MOST: u64 = 16 << 20;
    let mut bytes = Vec::new();
    rest.take(MOST).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == MOST {
        return Ok(false);
    }
    let written = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let bytes = &bytes[..written];
    if layout == Layout::Stream {
        return Ok(END.starts_with(bytes));
    }
    let Some(schema) = &found.schema else {
        return Ok(bytes.is_empty());
    };
    if ending(schema, &found.dictionaries, &found.batches).starts_with(bytes) {
        return Ok(true);
    }
    // The same in another order: metadata has none.
    let footer = bytes.strip_prefix(&END);
    let footer = footer.and_then(|footer| footer.strip_suffix(b"ARROW1")?.split_last_chunk::<4>());
    Ok(footer
        .is_some_and(|(footer, length)| usize::try_from(i32::from_le_bytes(*length)) == Ok(footer.len())))
}

fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// One message: its metadata, verified, and its body.
struct Frame {
    metadata: Vec<u8>,
    body: Buffer,
}

impl Frame {
    /// None where the next bytes, of which there are `left`, are no message.
    fn read(reader: &mut impl Read, left: u64) -> io::Result<Option<Frame>> {
        let mut head = [0; 8];
        if !read_whole(reader, &mut head)? || !head.starts_with(&[0xFF; 4]) {
            return Ok(None);
        }
        let [_, _, _, _, length @ ..] = head;
        let left = left - head.len() as u64;
        let size = |size: i64| u64::try_from(size).ok().filter(|size| *size > 0 && *size <= left);
        let Some(length) = size(i32::from_le_bytes(length).into()) else {
            return Ok(None);
        };
        let mut metadata = vec![0; length as usize];
        reader.read_exact(&mut metadata)?;
        let Ok(message) = root_as_message(&metadata) else {
            return Ok(None);
        };
        let body_length = message.bodyLength();
        let fits = u64::try_from(body_length).is_ok_and(|body| body <= left - length);
        if !fits {
            return Ok(None);
        }
        let mut body = vec![0; body_length as usize];
        reader.read_exact(&mut body)?;
        let body = body.into();
        Ok(Some(Frame { metadata, body }))
    }

    fn length(&self) -> u64 {
        (8 + self.metadata.len() + self.body.len()) as u64
    }
}

enum Taken {
    Schema,
    Dictionary,
    Rows(usize),
}

struct Decoder {
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    is_schema: IsSchema,
}

impl Decoder {
    fn new(is_schema: IsSchema) -> Decoder {
        Decoder {
            schema: None,
            dictionaries: HashMap::new(),
            is_schema,
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<Taken> {
        let message = root_as_message(&frame.metadata).map_err(|error| damaged().caused_by(&error))?;
        let unreadable = |error: arrow::error::ArrowError| damaged().caused_by(&error);
        // A reader of files insists on one for all.
        if message.version() != MetadataVersion::V5 {
            return Err(damaged());
        }
        let Some(schema) = &self.schema else {
            let header = message.header_as_schema().ok_or_else(damaged)?;
            let schema = Arc::new(fb_to_schema(header));
            if !(self.is_schema)(&schema) {
                return Err(damaged());
            }
            self.schema = Some(schema);
            return Ok(Taken::Schema);
        };
        let version = message.version();
        match message.header_type() {
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch().ok_or_else(damaged)?;
                // Written by nobody here, and a declared size is all that would bound what it takes.
                if batch.compression().is_some() {
                    return Err(damaged());
                }
                let schema = Arc::clone(schema);
                let read = read_record_batch(&frame.body, batch, schema, &self.dictionaries, None, &version);
                Ok(Taken::Rows(read.map_err(unreadable)?.num_rows()))
            }
            MessageHeader::DictionaryBatch => {
                let batch = message.header_as_dictionary_batch().ok_or_else(damaged)?;
                if batch.data().is_none_or(|data| data.compression().is_some()) {
                    return Err(damaged());
                }
                read_dictionary(&frame.body, batch, schema, &mut self.dictionaries, &version)
                    .map_err(unreadable)?;
                Ok(Taken::Dictionary)
            }
            _ => Err(damaged()),
        }
    }
}

fn damaged() -> Error {
    Error::new(Code::BatchInvalid, "the file is damaged")
}

/// Writes what a file lacks behind its last message.
fn finish(mut file: &File, found: &Found, layout: Layout) -> io::Result<()> {
    let schema = found.schema.as_deref().cloned().unwrap_or_else(Schema::empty);
    let ending = match layout {
        Layout::File => ending(&schema, &found.dictionaries, &found.batches),
        Layout::Stream => END.to_vec(),
        Layout::Lines => Vec::new(),
    };
    // Over what may be reserved for it, and then without the rest: cut off first, the room could be gone.
    file.seek(SeekFrom::Start(found.end))?;
    file.write_all(&ending)?;
    file.set_len(found.end + ending.len() as u64)?;
    file.sync_all()
}

/// Keeps the whole file out of everybody's way, and what could be read of it as a file of its own.
fn keep_aside(
    path: &Path,
    file: &File,
    found: &Found,
    rules: &Rules,
) -> std::result::Result<Salvaged, FileError> {
    // Before the copy: a crash between the two must not lead to another one.
    let damaged = set_aside(path)?;
    if found.rows > 0 {
        let copied = copy(file, found, path.parent().unwrap_or(Path::new(".")), rules);
        if copied.is_err() {
            // There is another try, by the next client.
            fs::rename(&damaged, path)?;
        }
        copied?;
    }
    Ok(Salvaged {
        rows: found.rows,
        damaged: Some(damaged),
    })
}

fn copy(
    mut file: &File,
    found: &Found,
    directory: &Path,
    rules: &Rules,
) -> std::result::Result<(), FileError> {
    let (mut whole, target) = rules.kind.create(directory)?;
    let copied = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| io::copy(&mut file.take(found.end), &mut whole))
        .and_then(|_| finish(&whole, found, rules.layout));
    if copied.is_err() {
        let _ = fs::remove_file(&target);
    }
    copied?;
    Ok(rename(&target)?)
}
