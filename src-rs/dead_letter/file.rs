//! One dead-letter file, from its first row to its final name.
//!
//! An Arrow IPC file is a stream between two marks, so one that was never finished can be read as a stream
//! up to where it breaks off: that is what [`recover`] does.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use uuid::Uuid;

use super::Letter;
use crate::outcome::Rejection;

/// How names begin, and end once the file is whole.
const START: &str = "rejected-";
pub const FINAL: &str = ".arrow";
const PART: &str = ".arrow.part";

/// Says in the schema's metadata how the columns that were added begin.
pub const PREFIX_KEY: &str = "arrow-ingest.dead-letter.prefix";
const PREFIX: &str = "_rejection_";

/// The mark at the beginning, padded.
const MARK: usize = 8;

/// What can go wrong with a file.
#[derive(Debug)]
pub enum Trouble {
    Disk(io::Error),
    Arrow(ArrowError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Disk(error)
    }
}

impl From<ArrowError> for Trouble {
    fn from(error: ArrowError) -> Self {
        Trouble::Arrow(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Disk(error) => error.fmt(f),
            Trouble::Arrow(error) => error.fmt(f),
        }
    }
}

/// Refused rows that are written at once.
pub struct Part<'l> {
    pub schema: &'l SchemaRef,
    pub sequence: u64,
    pub rejections: &'l [Rejection],
    batch: RecordBatch,
}

impl Letter {
    /// One batch where that can be made, else as they are: some types cannot be put together.
    pub fn parts(&self) -> Vec<Part<'_>> {
        let batches = match concat_batches(&self.schema, &self.batches) {
            Ok(batch) => vec![batch],
            Err(_) => self.batches.clone(),
        };
        let mut first = 0;
        let parts = batches.into_iter().map(|batch| {
            let rejections = &self.rejections[first..first + batch.num_rows()];
            first += batch.num_rows();
            Part {
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
}

impl OpenFile {
    pub fn create(directory: &Path, schema: SchemaRef) -> Result<OpenFile, Trouble> {
        let extended = extended(&schema);
        let path = new_path(directory);
        // On a full disk every row that is refused would leave an empty file.
        let writer = writer(&path, &extended).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        Ok(OpenFile {
            schema,
            extended,
            writer,
            path,
            unsynced_rows: 0,
            bytes: 0,
        })
    }

    /// The schema without the columns that were added.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn unsynced_rows(&self) -> usize {
        self.unsynced_rows
    }

    /// As of the last sync.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn append(&mut self, part: &Part<'_>, now: SystemTime) -> Result<(), Trouble> {
        let rejections = part.rejections;
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let rows = rejections.len();
        let added: [ArrayRef; 5] = [
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
        Ok(())
    }

    pub fn sync(&mut self) -> Result<(), Trouble> {
        self.writer.flush()?;
        let file = self.writer.get_ref().get_ref();
        file.sync_data()?;
        self.bytes = file.metadata()?.len();
        self.unsynced_rows = 0;
        Ok(())
    }

    /// Lets go of a file that cannot be written to. What was synced stays for the next client to make whole.
    pub fn give_up(self) {
        if self.bytes == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives it its final name, if there is anything in it.
    pub fn finish(self) -> Result<(), Trouble> {
        if self.bytes == 0 && self.unsynced_rows == 0 {
            self.give_up();
            return Ok(());
        }
        let file = self.writer.into_inner()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        rename(&self.path)
    }
}

/// A new file, locked.
fn writer(path: &Path, schema: &Schema) -> Result<FileWriter<BufWriter<File>>, Trouble> {
    let file = File::create_new(path)?;
    // Until it is closed, by us or by the end of the process, nobody takes it for left behind.
    file.try_lock().map_err(io::Error::from)?;
    // Another client may have taken it for left behind just before that, and removed it.
    if !path.try_exists()? {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    }
    let options = IpcWriteOptions::try_new(MARK, false, MetadataVersion::V5)?;
    Ok(FileWriter::try_new_with_options(
        BufWriter::new(file),
        schema,
        options,
    )?)
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

fn rename(part: &Path) -> Result<(), Trouble> {
    let text = part.to_string_lossy();
    let whole = PathBuf::from(text.strip_suffix(".part").unwrap_or(&text));
    fs::rename(part, &whole)?;
    // Windows opens no directories.
    #[cfg(unix)]
    if let Some(directory) = whole.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn new_path(directory: &Path) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unique = Uuid::new_v4().simple().to_string();
    // As text in the order of time, until the year 2286; a sync lies between any two of one client.
    directory.join(format!("{START}{:016}-{}{PART}", now.as_micros(), &unique[..8]))
}

/// The schema with the columns that say why, named so that they meet none of the user's.
fn extended(schema: &SchemaRef) -> SchemaRef {
    let mut prefix = PREFIX.to_string();
    while schema
        .fields()
        .iter()
        .any(|field| field.name().starts_with(&prefix))
    {
        prefix.insert(0, '_');
    }
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let added = [
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

/// Makes a file whole that a crash left, as far as it goes. Returns its rows, or nothing if somebody still
/// writes to it.
pub fn recover(path: &Path) -> Result<Option<usize>, Trouble> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // Whoever held the lock a moment ago may have finished it, and its rows would be there twice.
    if !path.try_exists()? {
        return Ok(None);
    }
    let mut reader = BufReader::new(&file);
    let mut mark = [0; MARK];
    let readable = reader.read_exact(&mut mark).is_ok() && mark.starts_with(b"ARROW1");
    let stream = readable
        .then(|| StreamReader::try_new(reader, None).ok())
        .flatten();
    let mut rows = 0;
    if let Some(stream) = stream {
        let target = new_path(path.parent().unwrap_or(Path::new(".")));
        let copied = copy(stream, &target);
        if !matches!(copied, Ok(1..)) {
            // Half a copy beside the original would be made whole as well.
            let _ = fs::remove_file(&target);
        }
        rows = copied?;
    }
    fs::remove_file(path)?;
    Ok(Some(rows))
}

/// Writes all that can be read to a file that gets its final name. Returns the rows.
fn copy(stream: StreamReader<BufReader<&File>>, target: &Path) -> Result<usize, Trouble> {
    let mut rows = 0;
    let mut writer = writer(target, &stream.schema())?;
    // The first that cannot be read is where it breaks off.
    for batch in stream.map_while(Result::ok) {
        rows += batch.num_rows();
        writer.write(&batch)?;
    }
    let file = writer
        .into_inner()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    if rows > 0 {
        rename(target)?;
    }
    Ok(rows)
}

pub fn read(path: &Path) -> Result<Vec<RecordBatch>, Trouble> {
    let reader = FileReader::try_new(BufReader::new(File::open(path)?), None)?;
    Ok(reader.collect::<Result<_, _>>()?)
}
