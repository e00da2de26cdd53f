//! One capture file, from its first rows to its final name.

use std::fs::{self, File};
use std::io::{BufWriter, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::MetadataVersion;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_json::LineDelimitedWriter;

use crate::config::CaptureFormat;
use crate::locked_file::LockedFile;
use crate::row_files::{FileError, FileKind, Layout, MARK, Rules, Torn, is_still, rename};

/// Every format that files may have, this client's or another's.
pub const KINDS: [CaptureFormat; 3] = [
    CaptureFormat::ArrowFile,
    CaptureFormat::ArrowStream,
    CaptureFormat::Ndjson,
];

/// How files of a format are named, and made whole.
pub fn rules(format: CaptureFormat) -> Rules {
    let (end, layout) = match format {
        CaptureFormat::ArrowFile => (".arrow", Layout::File),
        CaptureFormat::ArrowStream => (".arrows", Layout::Stream),
        CaptureFormat::Ndjson => (".ndjson", Layout::Lines),
    };
    Rules {
        kind: FileKind {
            start: "captured-",
            end,
        },
        layout,
        is_schema: |_| true,
        torn: Torn::Cut,
    }
}

pub struct CaptureFile {
    schema: SchemaRef,
    writer: Writer,
    path: PathBuf,
    opened: Instant,
}

enum Writer {
    File(FileWriter<BufWriter<LockedFile>>),
    Stream(StreamWriter<BufWriter<LockedFile>>),
    Lines(BufWriter<LockedFile>),
}

impl CaptureFile {
    pub fn create(
        directory: &Path,
        format: CaptureFormat,
        schema: SchemaRef,
    ) -> Result<CaptureFile, FileError> {
        let (file, path) = rules(format).kind.create(directory)?;
        // On a full disk every delivery would leave an empty file.
        let writer = writer(file, format, &schema).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        Ok(CaptureFile {
            schema,
            writer,
            path,
            opened: Instant::now(),
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Whether it still has its name.
    pub fn is_there(&self) -> bool {
        is_still(&self.path, self.writer.file())
    }

    pub fn append(&mut self, batch: &RecordBatch) -> Result<(), FileError> {
        match &mut self.writer {
            Writer::File(writer) => writer.write(batch)?,
            Writer::Stream(writer) => writer.write(batch)?,
            Writer::Lines(writer) => {
                // All of the batch or nothing: a value that JSON has no words for must not leave half a line.
                let mut lines = LineDelimitedWriter::new(Vec::new());
                lines.write(batch)?;
                lines.finish()?;
                writer.write_all(&lines.into_inner())?;
            }
        }
        Ok(())
    }

    /// Hands what was appended to the system. Returns the bytes so far.
    pub fn flush(&mut self) -> Result<u64, FileError> {
        match &mut self.writer {
            Writer::File(writer) => writer.flush()?,
            Writer::Stream(writer) => writer.flush()?,
            Writer::Lines(writer) => writer.flush()?,
        }
        Ok(self.writer.file().stream_position()?)
    }

    /// Gives it its final name, on the disk.
    pub fn finish(mut self) -> Result<(), FileError> {
        match &mut self.writer {
            Writer::File(writer) => writer.finish()?,
            Writer::Stream(writer) => writer.finish()?,
            Writer::Lines(writer) => writer.flush()?,
        }
        self.flush()?;
        self.writer.file().sync_all()?;
        Ok(rename(&self.path)?)
    }
}

impl Writer {
    fn file(&self) -> &File {
        match self {
            Writer::File(writer) => writer.get_ref().get_ref(),
            Writer::Stream(writer) => writer.get_ref().get_ref(),
            Writer::Lines(writer) => writer.get_ref(),
        }
    }
}

fn writer(file: LockedFile, format: CaptureFormat, schema: &SchemaRef) -> Result<Writer, FileError> {
    let file = BufWriter::new(file);
    let options = IpcWriteOptions::try_new(MARK.len(), false, MetadataVersion::V5)?;
    Ok(match format {
        CaptureFormat::ArrowFile => Writer::File(FileWriter::try_new_with_options(file, schema, options)?),
        CaptureFormat::ArrowStream => {
            Writer::Stream(StreamWriter::try_new_with_options(file, schema, options)?)
        }
        CaptureFormat::Ndjson => Writer::Lines(file),
    })
}
