//! Files of rows on the disk: how they are named, locked, bounded, and made whole after a crash.
//!
//! Invariants:
//! - A file that is written to ends in `.part` and is locked. Under its final name it is whole.
//! - A name cannot be taken by two files, and none leads out of its directory.
//! - Nobody else's file is counted, made whole or removed: only regular files with names that this layer gives.
//! - Files are their owner's alone (0600, directories 0700), for they hold the user's data.
//!
//! What stands in the files, and when they are synced and closed, is said by `dead_letter` and `capture`.

mod directory;
mod names;
mod own;
mod salvage;

use std::fmt;
use std::io;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::IpcSchemaEncoder;
use arrow::ipc::writer::DictionaryTracker;
use arrow::ipc::{Block, FooterBuilder, MetadataVersion};
use flatbuffers::FlatBufferBuilder;
use serde_json::Value;

pub use self::directory::{Bounds, WholeFile, list, tidy};
pub use self::names::{FileKind, is_still, make_directory, rename};
pub use self::own::own_batch;
pub use self::salvage::{Layout, Rules, Salvaged, Torn, recover};

/// Says something in the user's log: a line, and what it is about.
pub type Warn = Box<dyn Fn(&str, Value) + Send>;

/// The mark at the beginning of an Arrow IPC file, padded.
pub const MARK: &[u8; 8] = b"ARROW1\0\0";

/// The end of an Arrow IPC stream.
const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// What can go wrong with a file.
#[derive(Debug)]
pub enum FileError {
    Disk(io::Error),
    Arrow(ArrowError),
    /// The rows could not be read any more when they were to be kept.
    Rows(String),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        FileError::Disk(error)
    }
}

impl From<ArrowError> for FileError {
    fn from(error: ArrowError) -> Self {
        FileError::Arrow(error)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Disk(error) => error.fmt(f),
            FileError::Arrow(error) => error.fmt(f),
            FileError::Rows(text) => f.write_str(text),
        }
    }
}

/// What stands behind the last message of an Arrow IPC file: the end of the stream, and where its messages are.
pub fn ending(schema: &Schema, dictionaries: &[Block], batches: &[Block]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let dictionaries = builder.create_vector(dictionaries);
    let batches = builder.create_vector(batches);
    let mut tracker = DictionaryTracker::new(true);
    let schema = IpcSchemaEncoder::new()
        .with_dictionary_tracker(&mut tracker)
        .schema_to_fb_offset(&mut builder, schema);
    let mut footer = FooterBuilder::new(&mut builder);
    footer.add_version(MetadataVersion::V5);
    footer.add_schema(schema);
    footer.add_dictionaries(dictionaries);
    footer.add_recordBatches(batches);
    let footer = footer.finish();
    builder.finish(footer, None);
    let footer = builder.finished_data();
    let mut bytes = END.to_vec();
    bytes.extend_from_slice(footer);
    bytes.extend_from_slice(&(footer.len() as i32).to_le_bytes());
    bytes.extend_from_slice(b"ARROW1");
    bytes
}

/// Whether this is a schema that a file of some kind has.
pub type IsSchema = fn(&SchemaRef) -> bool;
