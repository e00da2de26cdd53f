//! One Parquet file from its first row to its `add` action.
//!
//! Invariants:
//! - A file that no commit took is deleted when its [`Staged`] goes, whichever way it goes. A kill
//!   leaves it; no reader sees it, and a vacuum takes it.
//! - On a local disk a finished file is synced before anybody hears of it. Its directory is not: the
//!   flush does that once for all files.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use deltalake_core::kernel::Add;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::errors::Secrets;
use super::partitions::Key;
use super::stats::{self, Wanted};
use super::storage::create_directories;
use crate::config::Compression;
use crate::error::Result;

/// Where files go and what they are like; the same for a whole session.
pub struct Spec {
    pub local: Option<PathBuf>,
    pub store: Arc<dyn ObjectStore>,
    pub runtime: Handle,
    pub schema: SchemaRef,
    pub compression: Compression,
    pub wanted: Wanted,
    pub secrets: Secrets,
}

/// A file that is being written.
pub struct DataFile {
    writer: ArrowWriter<Sink>,
    staged: Staged,
    key: Arc<Key>,
    nan: HashSet<String>,
    rows: usize,
}

/// A file that a commit can take.
#[derive(Debug)]
pub struct Finished {
    pub add: Add,
    pub staged: Staged,
}

impl DataFile {
    pub fn create(spec: &Arc<Spec>, key: &Arc<Key>) -> Result<DataFile> {
        let (codec, extension) = match spec.compression {
            Compression::None => (Codec::UNCOMPRESSED, ""),
            Compression::Snappy => (Codec::SNAPPY, ".snappy"),
            Compression::Zstd => (Codec::ZSTD(ZstdLevel::default()), ".zstd"),
            Compression::Lz4 => (Codec::LZ4_RAW, ".lz4"),
        };
        let name = format!(
            "{}part-00000-{}-c000{extension}.parquet",
            key.directory,
            Uuid::new_v4()
        );
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_created_by(concat!("arrow-ingest ", env!("CARGO_PKG_VERSION")).into())
            // Readers of Delta skip by file and row group; page statistics cost a tenth of the time.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build();
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            // The table's schema is in its log. An Arrow schema in the file would contradict it where
            // dictionaries and views were written.
            .with_skip_arrow_metadata(true);
        let (sink, place) = match &spec.local {
            Some(table) => {
                let path = table.join(&name);
                let file = path
                    .parent()
                    .map_or(Ok(()), create_directories)
                    .and_then(|()| File::create_new(&path))
                    .map_err(|error| spec.secrets.io(path.display(), &error).during("write"))?;
                (Sink::Local(file), Place::Local(path))
            }
            None => {
                let path = Path::parse(&name).unwrap_or_else(|_| Path::from(name.as_str()));
                let sink = Sink::Remote {
                    upload: Box::new(BufWriter::new(Arc::clone(&spec.store), path.clone())),
                    runtime: spec.runtime.clone(),
                    pending: Vec::new(),
                };
                (
                    sink,
                    Place::Remote(Arc::clone(&spec.store), path, spec.runtime.clone()),
                )
            }
        };
        let staged = Staged {
            name,
            place,
            kept: false,
        };
        let writer = ArrowWriter::try_new_with_options(sink, Arc::clone(&spec.schema), options)
            .map_err(|error| spec.secrets.parquet(&error).during("write"))?;
        Ok(DataFile {
            writer,
            staged,
            key: Arc::clone(key),
            nan: HashSet::new(),
            rows: 0,
        })
    }

    pub fn write(&mut self, spec: &Spec, batch: &RecordBatch) -> Result<()> {
        stats::note_nan(batch, &mut self.nan);
        self.rows += batch.num_rows();
        self.writer
            .write(batch)
            .map_err(|error| spec.secrets.parquet(&error).during("write"))
    }

    /// Ends the row group, which gives its memory back.
    pub fn spill(&mut self, spec: &Spec) -> Result<()> {
        self.writer
            .flush()
            .map_err(|error| spec.secrets.parquet(&error).during("write"))
    }

    /// About what the file would measure if it ended here.
    pub fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    pub fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    pub fn finish(mut self, spec: &Spec) -> Result<Finished> {
        let failed = |error| spec.secrets.parquet(&error).during("write");
        let metadata = self.writer.finish().map_err(failed)?;
        let size = self.writer.bytes_written();
        // A second finish writes nothing more; it hands out the sink.
        let sink = self.writer.inner_mut();
        sink.finish()
            .map_err(|error| spec.secrets.io(&self.staged.name, &error).during("write"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let add = Add {
            path: self.staged.name.clone(),
            partition_values: self.key.values.iter().cloned().collect(),
            size: size as i64,
            modification_time: now.as_millis() as i64,
            data_change: true,
            stats: Some(stats::to_json(&metadata, &spec.wanted, &self.nan)),
            ..Add::default()
        };
        Ok(Finished {
            add,
            staged: self.staged,
        })
    }
}

/// Deletes a file unless it was kept.
#[derive(Debug)]
pub struct Staged {
    name: String,
    place: Place,
    kept: bool,
}

#[derive(Debug)]
enum Place {
    Local(PathBuf),
    Remote(Arc<dyn ObjectStore>, Path, Handle),
}

impl Staged {
    /// From here on a commit may name it, and a file that a version names is never deleted.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// No commit named it after all.
    pub fn discard(mut self) {
        self.kept = false;
    }

    pub fn directory(&self) -> Option<&FsPath> {
        match &self.place {
            Place::Local(path) => path.parent(),
            Place::Remote(..) => None,
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Best effort: a file that stays is one that no version names.
        match &self.place {
            Place::Local(path) => {
                let _ = fs::remove_file(path);
            }
            Place::Remote(store, path, runtime) => {
                let (store, path) = (Arc::clone(store), path.clone());
                runtime.spawn(async move { store.delete(&path).await });
            }
        }
    }
}

enum Sink {
    Local(File),
    Remote {
        upload: Box<BufWriter>,
        runtime: Handle,
        pending: Vec<u8>,
    },
}

/// What an upload is fed at once: each piece is a hop to the runtime.
const PIECE: usize = 1 << 20;

impl Sink {
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Sink::Local(file) => file.sync_all(),
            Sink::Remote {
                upload,
                runtime,
                pending,
            } => {
                let rest = Bytes::from(std::mem::take(pending));
                runtime.block_on(async {
                    upload.put(rest).await?;
                    upload.shutdown().await
                })
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Local(file) => file.write(bytes),
            Sink::Remote {
                upload,
                runtime,
                pending,
            } => {
                pending.extend_from_slice(bytes);
                if pending.len() >= PIECE {
                    let piece = Bytes::from(std::mem::take(pending));
                    runtime.block_on(upload.put(piece))?;
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
