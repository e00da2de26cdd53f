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

/// How names begin, and end once the file is whole.
pub const START: &str = "rejected-";
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
        let file = File::create_new(&path)?;
        // Until it is closed, by us or by the end of the process, nobody takes it for left behind.
        file.try_lock().map_err(io::Error::from)?;
        let options = IpcWriteOptions::try_new(MARK, false, MetadataVersion::V5)?;
        let writer = FileWriter::try_new_with_options(BufWriter::new(file), &extended, options)?;
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

    pub fn append(&mut self, letter: &Letter, now: SystemTime) -> Result<(), Trouble> {
        // One batch where that can be made, else as they are: some types cannot be put together.
        let batches = match concat_batches(&self.schema, &letter.batches) {
            Ok(batch) => vec![batch],
            Err(_) => letter.batches.clone(),
        };
        let mut first = 0;
        for batch in batches {
            let rejections = &letter.rejections[first..first + batch.num_rows()];
            first += batch.num_rows();
            let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
            let rows = rejections.len();
            let added: [ArrayRef; 5] = [
                Arc::new(StringArray::from_iter_values(
                    rejections.iter().map(|r| &r.message),
                )),
                Arc::new(StringArray::from_iter_values(rejections.iter().map(|r| &r.code))),
                Arc::new(UInt64Array::from(vec![letter.sequence; rows])),
                Arc::new(UInt64Array::from_iter_values(rejections.iter().map(|r| r.row))),
                Arc::new(TimestampMillisecondArray::from(vec![time; rows]).with_timezone("UTC")),
            ];
            let columns = batch.columns().iter().cloned().chain(added).collect();
            let batch = RecordBatch::try_new(Arc::clone(&self.extended), columns)?;
            self.writer.write(&batch)?;
            self.unsynced_rows += rows;
        }
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

    /// Gives it its final name.
    pub fn finish(self) -> Result<(), Trouble> {
        let file = self.writer.into_inner()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        rename(&self.path)
    }
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
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with(START) && name.ends_with(PART) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Makes a file whole that a crash left, as far as it goes. Returns its rows, or nothing if somebody still
/// writes to it.
pub fn recover(path: &Path) -> Result<Option<usize>, Trouble> {
    let file = File::open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error.into()),
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
        let options = IpcWriteOptions::try_new(MARK, false, MetadataVersion::V5)?;
        let mut writer = FileWriter::try_new_with_options(
            BufWriter::new(File::create_new(&target)?),
            &stream.schema(),
            options,
        )?;
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
            rename(&target)?;
        } else {
            fs::remove_file(&target)?;
        }
    }
    fs::remove_file(path)?;
    Ok(Some(rows))
}

pub fn read(path: &Path) -> Result<Vec<RecordBatch>, Trouble> {
    let reader = FileReader::try_new(BufReader::new(File::open(path)?), None)?;
    Ok(reader.collect::<Result<_, _>>()?)
}
