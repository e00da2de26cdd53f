//! One dead-letter file, from its first row to its final name.
//!
//! Invariants:
//! - A row counts as kept only once there is room on the disk for what the file still needs to be whole: at
//!   each sync the footer's room is written beforehand, as zeros behind the last row.
//! - A file that was synced is one whose name was synced, too.
//!
//! An Arrow IPC file is a stream between two marks, so one that was never finished can be read as a stream
//! up to where it breaks off: that is what `row_files` does.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::ipc::Block;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};

use super::DeadLetterRows;
use crate::locked_file::LockedFile;
use crate::outcome::Rejection;
use crate::row_files::{FileError, FileKind, MARK, ending, is_still, rename};

/// How names begin, and end once the file is whole.
pub const KIND: FileKind = FileKind {
    start: "rejected-",
    end: ".arrow",
};

/// Says in the schema's metadata how the columns that were added begin.
pub const PREFIX_KEY: &str = "arrow-ingest.dead-letter.prefix";
const PREFIX: &str = "_rejection_";
/// Columns that are added.
pub const ADDED: usize = 5;

/// Room for the footer is written so much further than it is needed, so that not every sync has to.
const AHEAD: u64 = 64 << 10;
/// What a footer takes for each message.
const BLOCK: u64 = size_of::<Block>() as u64;

/// Refused rows that are written at once.
pub struct RefusedBatch<'l> {
    pub schema: &'l SchemaRef,
    pub sequence: u64,
    pub rejections: &'l [Rejection],
    batch: RecordBatch,
}

/// The fields of dictionaries, each of which is a message of its own at most once in a file.
fn dictionaries(schema: &Schema) -> u64 {
    let fields = schema.flattened_fields();
    let is_one = |field: &&&Field| matches!(field.data_type(), DataType::Dictionary(..));
    fields.iter().filter(is_one).count() as u64
}

impl DeadLetterRows {
    /// One batch where that can be made, else as they are: some types cannot be put together.
    pub fn parts(&self) -> Vec<RefusedBatch<'_>> {
        let batches = match concat_batches(&self.schema, &self.batches) {
            Ok(batch) => vec![batch],
            Err(_) => self.batches.clone(),
        };
        let mut first = 0;
        let parts = batches.into_iter().map(|batch| {
            let rejections = &self.rejections[first..first + batch.num_rows()];
            first += batch.num_rows();
            RefusedBatch {
                schema: &self.schema,
                sequence: self.sequence,
                rejections,
                batch,
            }
        });
        parts.collect()
    }
}

/// A file that rows are added to.
pub struct OpenFile {
    schema: SchemaRef,
    extended: SchemaRef,
    writer: FileWriter<BufWriter<LockedFile>>,
    path: PathBuf,
    unsynced_rows: usize,
    bytes: u64,
    /// What the footer takes as of now,
    footer: u64,
    /// and up to where there is room for it.
    reserved: u64,
}

impl OpenFile {
    pub fn create(directory: &Path, schema: SchemaRef) -> Result<OpenFile, FileError> {
        let extended = extended(&schema);
        let footer = ending(&extended, &[], &[]).len() as u64 + dictionaries(&extended) * BLOCK;
        let (file, path) = KIND.create(directory)?;
        // On a full disk every row that is refused would leave an empty file.
        let writer = writer(file, &extended).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        Ok(OpenFile {
            schema,
            extended,
            writer,
            path,
            unsynced_rows: 0,
            bytes: 0,
            footer,
            reserved: 0,
        })
    }

    /// The schema without the columns that were added.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Its path, and where what was synced ends.
    pub fn synced(&self) -> (PathBuf, u64) {
        (self.path.clone(), self.bytes)
    }

    pub fn unsynced_rows(&self) -> usize {
        self.unsynced_rows
    }

    /// As of the last sync.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_there(&self) -> bool {
        is_still(&self.path, self.writer.get_ref().get_ref())
    }

    pub fn append(&mut self, part: &RefusedBatch<'_>, now: SystemTime) -> Result<(), FileError> {
        let rejections = part.rejections;
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let rows = rejections.len();
        let added: [ArrayRef; ADDED] = [
            Arc::new(StringArray::from_iter_values(
                rejections.iter().map(|r| &r.message),
            )),
            Arc::new(StringArray::from_iter_values(rejections.iter().map(|r| &r.code))),
            Arc::new(UInt64Array::from(vec![part.sequence; rows])),
            Arc::new(UInt64Array::from_iter_values(rejections.iter().map(|r| r.row))),
            Arc::new(TimestampMillisecondArray::from(vec![time; rows]).with_timezone("UTC")),
        ];
        let columns = part.batch.columns().iter().cloned().chain(added).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.extended), columns)?;
        self.writer.write(&batch)?;
        self.unsynced_rows += rows;
        self.footer += BLOCK;
        Ok(())
    }

    pub fn sync(&mut self) -> Result<(), FileError> {
        self.writer.flush()?;
        let mut file: &File = self.writer.get_ref().get_ref();
        let end = file.stream_position()?;
        if end + self.footer > self.reserved {
            // In proportion to what is there, or a file of many small batches would be written over and over.
            let room = 2 * self.footer + AHEAD;
            io::copy(&mut io::Read::take(io::repeat(0), room), &mut file)?;
            file.seek(SeekFrom::Start(end))?;
            self.reserved = end + room;
        }
        file.sync_data()?;
        self.bytes = end;
        self.unsynced_rows = 0;
        Ok(())
    }

    /// Lets go of a file that cannot be written to. Returns what was synced of it, which is to be made whole.
    pub fn give_up(self) -> Option<(PathBuf, u64)> {
        if self.bytes == 0 {
            let _ = fs::remove_file(&self.path);
            return None;
        }
        Some((self.path, self.bytes))
    }

    /// Gives it its final name, if there is anything in it.
    pub fn finish(mut self) -> Result<(), FileError> {
        if self.bytes == 0 && self.unsynced_rows == 0 {
            self.give_up();
            return Ok(());
        }
        self.writer.finish()?;
        let mut file: &File = self.writer.get_ref().get_ref();
        let end = file.stream_position()?;
        file.set_len(end)?;
        file.sync_all()?;
        Ok(rename(&self.path)?)
    }
}

fn writer(file: LockedFile, schema: &Schema) -> Result<FileWriter<BufWriter<LockedFile>>, FileError> {
    let options = IpcWriteOptions::try_new(MARK.len(), false, MetadataVersion::V5)?;
    Ok(FileWriter::try_new_with_options(
        BufWriter::new(file),
        schema,
        options,
    )?)
}

/// The schema with the columns that say why, named so that they meet none of the user's.
pub fn extended(schema: &SchemaRef) -> SchemaRef {
    let mut prefix = PREFIX.to_string();
    while schema
        .fields()
        .iter()
        .any(|field| field.name().starts_with(&prefix))
    {
        prefix.insert(0, '_');
    }
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let added: [(&str, DataType); ADDED] = [
        ("reason", DataType::Utf8),
        ("code", DataType::Utf8),
        ("sequence", DataType::UInt64),
        ("row", DataType::UInt64),
        ("time", time),
    ];
    let added = added.map(|(name, kind)| Arc::new(Field::new(format!("{prefix}{name}"), kind, false)));
    let fields: Vec<_> = schema.fields().iter().cloned().chain(added).collect();
    let mut metadata = schema.metadata().clone();
    metadata.insert(PREFIX_KEY.into(), prefix);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Whether a schema has the columns that say why.
pub fn is_extended(schema: &SchemaRef) -> bool {
    let Some(kept) = schema.fields().len().checked_sub(ADDED) else {
        return false;
    };
    let mut metadata = schema.metadata().clone();
    metadata.remove(PREFIX_KEY);
    let sent = Schema::new_with_metadata(schema.fields()[..kept].to_vec(), metadata);
    extended(&Arc::new(sent)) == *schema
}

pub fn read(path: &Path) -> Result<Vec<RecordBatch>, FileError> {
    let reader = FileReader::try_new(BufReader::new(File::open(path)?), None)?;
    Ok(reader.collect::<Result<_, _>>()?)
}
