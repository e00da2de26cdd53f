//! One dead-letter file, from its first row to its final name.
//!
//! Invariants:
//! - A row counts as kept only once there is room on the disk for what the file still needs to be whole: at
//!   each sync the footer's room is written beforehand, as zeros behind the last row.
//! - Files are their owner's alone (0600, directories 0700), for they hold the user's data; and a file that was
//!   synced is one whose name was synced, too.
//!
//! An Arrow IPC file is a stream between two marks, so one that was never finished can be read as a stream
//! up to where it breaks off: that is what `salvage` does.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::convert::IpcSchemaEncoder;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{DictionaryTracker, FileWriter, IpcWriteOptions};
use arrow::ipc::{Block, FooterBuilder};
use flatbuffers::FlatBufferBuilder;
use uuid::Uuid;

use super::DeadLetterRows;
use crate::outcome::Rejection;

/// How names begin, and end once the file is whole.
const START: &str = "rejected-";
pub const FINAL: &str = ".arrow";
pub const PART: &str = ".arrow.part";
/// What cannot be read to its end ends in this, and nobody removes it.
pub const DAMAGED: &str = ".arrow.damaged";

/// Says in the schema's metadata how the columns that were added begin.
pub const PREFIX_KEY: &str = "arrow-ingest.dead-letter.prefix";
const PREFIX: &str = "_rejection_";
/// Columns that are added.
pub const ADDED: usize = 5;

/// The mark at the beginning, padded.
pub const MARK: &[u8; 8] = b"ARROW1\0\0";
/// Room for the footer is written so much further than it is needed, so that not every sync has to.
const AHEAD: u64 = 64 << 10;
/// What a footer takes for each message.
const BLOCK: u64 = size_of::<Block>() as u64;

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
    writer: FileWriter<BufWriter<File>>,
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
        let (file, path) = create(directory)?;
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

    /// Whether it still has its name: whoever clears the directory takes it away from under us.
    pub fn is_there(&self) -> bool {
        let own = self.writer.get_ref().get_ref().metadata();
        match (fs::symlink_metadata(&self.path), own) {
            #[cfg(unix)]
            (Ok(named), Ok(own)) => {
                use std::os::unix::fs::MetadataExt as _;
                (named.dev(), named.ino()) == (own.dev(), own.ino())
            }
            (named, _) => named.is_ok(),
        }
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
        let mut file = self.writer.get_ref().get_ref();
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
        let mut file = self.writer.get_ref().get_ref();
        let end = file.stream_position()?;
        file.set_len(end)?;
        file.sync_all()?;
        rename(&self.path)
    }
}

/// What stands behind the last message of a file: the end of the stream, and where its messages are.
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
    let mut bytes = vec![0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    bytes.extend_from_slice(footer);
    bytes.extend_from_slice(&(footer.len() as i32).to_le_bytes());
    bytes.extend_from_slice(b"ARROW1");
    bytes
}

fn writer(file: File, schema: &Schema) -> Result<FileWriter<BufWriter<File>>, FileError> {
    let options = IpcWriteOptions::try_new(MARK.len(), false, MetadataVersion::V5)?;
    Ok(FileWriter::try_new_with_options(
        BufWriter::new(file),
        schema,
        options,
    )?)
}

/// A new file, locked: until it is closed, by us or by the end of the process, nobody takes it for left behind.
///
/// # Errors
/// What the file system says.
pub fn create(directory: &Path) -> io::Result<(File, PathBuf)> {
    const TRIES: usize = 32;
    for _ in 1..TRIES {
        if let Some(created) = try_to_create(directory)? {
            return Ok(created);
        }
    }
    try_to_create(directory)?.ok_or_else(|| io::Error::from(io::ErrorKind::WouldBlock))
}

/// None if another client took it for left behind before it was locked, and holds or has removed it.
fn try_to_create(directory: &Path) -> io::Result<Option<(File, PathBuf)>> {
    let path = new_path(directory);
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if !path.try_exists()? {
        return Ok(None);
    }
    sync_directory_of(&path)?;
    Ok(Some((file, path)))
}

/// The directory, its owner's alone if it has to be made.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = directory.ancestors().take_while(is_missing).collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    missing.into_iter().try_for_each(sync_directory_of)
}

/// A name is on the disk once the directory that holds it is.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    // Windows opens no directories.
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        let directory = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Whether a file has a name that we give: nobody else's is counted, made whole or removed.
pub fn is_ours(path: &Path, end: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let middle = name.and_then(|name| name.strip_prefix(START)?.strip_suffix(end));
    let parted = middle.and_then(|middle| middle.split_once('-'));
    let all = |text: &str, fits: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(fits);
    parted.is_some_and(|(time, unique)| {
        all(time, u8::is_ascii_digit) && all(unique, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Gives a file its final name.
pub fn rename(part: &Path) -> Result<(), FileError> {
    Ok(rename_to(part, FINAL).map(drop)?)
}

/// Gives a file that is written to another end of its name.
pub fn rename_to(part: &Path, end: &str) -> io::Result<PathBuf> {
    let text = part.to_string_lossy();
    let named = PathBuf::from(format!("{}{end}", text.strip_suffix(PART).unwrap_or(&text)));
    fs::rename(part, &named)?;
    sync_directory_of(&named)?;
    Ok(named)
}

fn new_path(directory: &Path) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unique = Uuid::new_v4().simple().to_string();
    // As text in the order of time, until the year 2286; a sync lies between any two of one client.
    directory.join(format!("{START}{:016}-{}{PART}", now.as_micros(), &unique[..8]))
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

/// Files that were never finished, by us or by another client that still lives.
pub fn left_behind(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // A link may lead anywhere, and a pipe that nobody writes to would be read for ever.
        if is_ours(&entry.path(), PART) && entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

pub fn read(path: &Path) -> Result<Vec<RecordBatch>, FileError> {
    let reader = FileReader::try_new(BufReader::new(File::open(path)?), None)?;
    Ok(reader.collect::<Result<_, _>>()?)
}
