//! One Parquet file from its first row to its `add` action: [`Encoding`] computes, [`Output`] waits for a disk or a
//! store, and neither does the other's work.
//!
//! Invariants:
//! - A file that no commit took is deleted when its [`StagedFile`] goes, whichever way it goes. A kill
//!   leaves it; no reader sees it, and a vacuum takes it.
//! - A file holds as many rows as it was given, by its own footer, or nobody hears of it.
//! - On a local disk a finished file is synced before anybody hears of it. Its directory is not, nor are those
//!   above it: the flush does that once for all files.
//! - A session has at most [`UPLOADS`] files on the way to an object store.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use deltalake_core::kernel::Add;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::dictionaries::Dictionaries;
use super::errors::Classifier;
use super::over;
use super::partitions::Key;
use super::stats::{self, StatisticsColumns};
use crate::compute::Task;
use crate::config::Compression;
use crate::destination::counted;
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::file_system::{self, Appender, Disk};

/// Files of a session that are uploaded at once.
pub const UPLOADS: usize = 16;

/// Small files that one task puts on a local disk: so many are open at once, and synced one after
/// the other.
const TOGETHER: usize = 16;

/// Where files go and what they are like; the same for a whole session.
pub struct FileSpec {
    pub local: Option<PathBuf>,
    pub disk: Arc<dyn Disk>,
    pub store: Arc<dyn ObjectStore>,
    pub runtime: Handle,
    pub schema: SchemaRef,
    pub compression: Compression,
    pub wanted: StatisticsColumns,
    pub classifier: Classifier,
    /// [`UPLOADS`] permits.
    pub uploads: Arc<Semaphore>,
}

/// A file that is being encoded, into memory.
pub struct Encoding {
    writer: ArrowWriter<EncodedBytes>,
    name: String,
    key: Arc<Key>,
    nan: HashSet<String>,
    rows: usize,
}

/// A file that is encoded, and what of its bytes nobody has taken yet.
pub struct Encoded {
    add: Add,
    rest: EncodedBytes,
    rows: usize,
}

/// Encoded bytes, in pieces of [`PIECE`]. In one, a row group would be a buffer of tens of megabytes; once such
/// a one was freed, the allocator keeps as much for itself.
#[derive(Default)]
pub struct EncodedBytes(Vec<Vec<u8>>);

const PIECE: usize = 1 << 20;

impl EncodedBytes {
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    fn append_to(&self, file: &Appender) -> io::Result<()> {
        self.0.iter().try_for_each(|piece| file.append(piece))
    }

    async fn put_to(self, upload: &mut BufWriter) -> object_store::Result<()> {
        for piece in self.0 {
            upload.put(Bytes::from(piece)).await?;
        }
        Ok(())
    }
}

impl Write for EncodedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut last = self.0.pop_if(|last| last.len() < PIECE).unwrap_or_default();
        let written = bytes.len().min(PIECE - last.len());
        last.extend_from_slice(&bytes[..written]);
        self.0.push(last);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that a commit can take.
#[derive(Debug)]
pub struct Finished {
    pub add: Add,
    pub staged: StagedFile,
    pub rows: usize,
}

impl Encoding {
    pub fn new(spec: &FileSpec, key: &Arc<Key>, dictionaries: &Dictionaries) -> Result<Encoding> {
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
            .set_statistics_enabled(EnabledStatistics::Chunk);
        let options = ArrowWriterOptions::new()
            .with_properties(dictionaries.set(properties).build())
            // The table's schema is in its log. An Arrow schema in the file would contradict it where
            // dictionaries and views were written.
            .with_skip_arrow_metadata(true);
        let writer =
            ArrowWriter::try_new_with_options(EncodedBytes::default(), Arc::clone(&spec.schema), options)
                .map_err(|error| spec.classifier.parquet(&error).during("write"))?;
        Ok(Encoding {
            writer,
            name,
            key: Arc::clone(key),
            nan: HashSet::new(),
            rows: 0,
        })
    }

    pub fn write(&mut self, spec: &FileSpec, batch: &RecordBatch) -> Result<()> {
        stats::note_nan(batch, &mut self.nan);
        self.rows += batch.num_rows();
        self.writer
            .write(batch)
            .map_err(|error| spec.classifier.parquet(&error).during("write"))
    }

    /// Ends the row group, which gives its memory back.
    pub fn spill(&mut self, spec: &FileSpec) -> Result<()> {
        self.writer
            .flush()
            .map_err(|error| spec.classifier.parquet(&error).during("write"))
    }

    /// About what the file would measure if it ended here.
    pub fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    pub fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    /// Bytes that go to the file's output before all others that come later.
    pub fn take(&mut self) -> EncodedBytes {
        std::mem::take(self.writer.inner_mut())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn finish(mut self, spec: &FileSpec) -> Result<Encoded> {
        let failed = |error| spec.classifier.parquet(&error).during("write");
        let metadata = self.writer.finish().map_err(failed)?;
        // What the footer says is what readers find.
        let held = usize::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        counted(self.rows, held)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let add = Add {
            path: self.name.clone(),
            partition_values: self.key.values.iter().cloned().collect(),
            size: self.writer.bytes_written() as i64,
            modification_time: now.as_millis() as i64,
            data_change: true,
            stats: Some(stats::to_json(&metadata, &spec.wanted, &self.nan)),
            ..Add::default()
        };
        Ok(Encoded {
            add,
            rest: self.take(),
            rows: self.rows,
        })
    }
}

/// Where the bytes of a file go, once there are any.
pub struct Output {
    sink: OutputSink,
    staged: StagedFile,
}

enum OutputSink {
    Local {
        file: Arc<Appender>,
        syncing: Option<Task<Result<()>>>,
    },
    /// The permit ends with the upload.
    Remote(Box<BufWriter>, OwnedSemaphorePermit),
}

impl Output {
    pub async fn create(spec: &Arc<FileSpec>, name: &str) -> Result<Output> {
        if spec.local.is_none() {
            let permit = permit(spec).await?;
            let staged = StagedFile::remote(spec, name);
            let upload = BufWriter::new(Arc::clone(&spec.store), object(name));
            return Ok(Output {
                sink: OutputSink::Remote(Box::new(upload), permit),
                staged,
            });
        }
        let (spec, name) = (Arc::clone(spec), name.to_string());
        over(disk::spawn(move || {
            let (file, staged) = StagedFile::local(&spec, &name)?;
            Ok(Output {
                sink: OutputSink::Local {
                    file: Arc::new(file),
                    syncing: None,
                },
                staged,
            })
        }))
        .await
    }

    pub async fn append(&mut self, spec: &Arc<FileSpec>, bytes: EncodedBytes) -> Result<()> {
        match &mut self.sink {
            OutputSink::Local { file, syncing } => {
                if let Some(before) = syncing.take() {
                    over(before).await?;
                }
                let (to, at, name) = (Arc::clone(file), Arc::clone(spec), self.staged.name.clone());
                over(disk::spawn(move || {
                    bytes
                        .append_to(&to)
                        .map_err(|error| at.classifier.io(&name, &error).during("write"))
                }))
                .await?;
                // A row group is large: what is on its way to the disk now is not waited for at the end.
                let (to, at, name) = (Arc::clone(file), Arc::clone(spec), self.staged.name.clone());
                *syncing = Some(disk::spawn(move || {
                    to.sync_data()
                        .map_err(|error| at.classifier.io(&name, &error).during("write"))
                }));
                Ok(())
            }
            OutputSink::Remote(upload, _) => {
                let put = bytes.put_to(upload).await;
                put.map_err(|error| {
                    spec.classifier
                        .io(&self.staged.name, &error.into())
                        .during("write")
                })
            }
        }
    }

    pub async fn finish(self, spec: &Arc<FileSpec>, encoded: Encoded) -> Result<Finished> {
        let Output { sink, staged } = self;
        let Encoded { add, rest, rows } = encoded;
        match sink {
            OutputSink::Local { file, syncing } => {
                if let Some(before) = syncing {
                    over(before).await?;
                }
                let spec = Arc::clone(spec);
                over(disk::spawn(move || {
                    rest.append_to(&file)
                        .and_then(|()| file.sync())
                        .map_err(|error| spec.classifier.io(&staged.name, &error).during("write"))?;
                    Ok(Finished { add, staged, rows })
                }))
                .await
            }
            OutputSink::Remote(mut upload, _permit) => {
                let sent = async {
                    rest.put_to(&mut upload).await?;
                    upload.shutdown().await
                };
                sent.await
                    .map_err(|error| spec.classifier.io(&staged.name, &error).during("write"))?;
                Ok(Finished { add, staged, rows })
            }
        }
    }
}

/// Stores files that are encoded as a whole, several at once.
pub async fn store(spec: &Arc<FileSpec>, files: Vec<Encoded>) -> Result<Vec<Finished>> {
    if spec.local.is_none() {
        return stream::iter(files)
            .map(|file| async move {
                Output::create(spec, &file.add.path)
                    .await?
                    .finish(spec, file)
                    .await
            })
            .buffer_unordered(UPLOADS)
            .try_collect()
            .await;
    }
    let mut files = files.into_iter();
    let pieces = std::iter::from_fn(|| {
        let together: Vec<Encoded> = files.by_ref().take(TOGETHER).collect();
        (!together.is_empty()).then_some(together)
    });
    let pieces = pieces.map(|together| {
        let spec = Arc::clone(spec);
        over(disk::spawn(move || store_locally(&spec, together)))
    });
    let stored: Vec<Vec<Finished>> = stream::iter(pieces)
        .buffer_unordered(disk::THREADS)
        .try_collect()
        .await?;
    Ok(stored.into_iter().flatten().collect())
}

fn store_locally(spec: &FileSpec, files: Vec<Encoded>) -> Result<Vec<Finished>> {
    let mut written = Vec::with_capacity(files.len());
    for Encoded { add, rest, rows } in files {
        let (file, staged) = StagedFile::local(spec, &add.path)?;
        rest.append_to(&file)
            .map_err(|error| spec.classifier.io(&add.path, &error).during("write"))?;
        written.push((file, Finished { add, staged, rows }));
    }
    // After all are written: the journal takes them together.
    let synced = written.into_iter().map(|(file, finished)| {
        file.sync()
            .map_err(|error| spec.classifier.io(&finished.add.path, &error).during("write"))?;
        Ok(finished)
    });
    synced.collect()
}

async fn permit(spec: &FileSpec) -> Result<OwnedSemaphorePermit> {
    Arc::clone(&spec.uploads)
        .acquire_owned()
        .await
        .map_err(|error| Error::new(Code::Internal, "uploads were given up").caused_by(&error))
}

fn object(name: &str) -> Path {
    Path::parse(name).unwrap_or_else(|_| Path::from(name))
}

/// Deletes a file unless it was kept.
#[derive(Debug)]
pub struct StagedFile {
    name: String,
    place: StagedLocation,
    kept: bool,
}

#[derive(Debug)]
enum StagedLocation {
    Local(Arc<dyn Disk>, PathBuf),
    Remote(Arc<dyn ObjectStore>, Path, Handle),
}

impl StagedFile {
    fn local(spec: &FileSpec, name: &str) -> Result<(Appender, StagedFile)> {
        let path = spec.local.as_deref().unwrap_or(FsPath::new("")).join(name);
        let file = create(spec.disk.as_ref(), &path)
            .map_err(|error| spec.classifier.io(path.display(), &error).during("write"))?;
        let staged = StagedFile {
            name: name.to_string(),
            place: StagedLocation::Local(Arc::clone(&spec.disk), path),
            kept: false,
        };
        Ok((file, staged))
    }

    fn remote(spec: &FileSpec, name: &str) -> StagedFile {
        StagedFile {
            name: name.to_string(),
            place: StagedLocation::Remote(Arc::clone(&spec.store), object(name), spec.runtime.clone()),
            kept: false,
        }
    }

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
            StagedLocation::Local(_, path) => path.parent(),
            StagedLocation::Remote(..) => None,
        }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Best effort: a file that stays is one that no version names.
        match &self.place {
            StagedLocation::Local(disk, path) => {
                let _ = disk.unlink(path);
            }
            StagedLocation::Remote(store, path, runtime) => {
                let (store, path) = (Arc::clone(store), path.clone());
                runtime.spawn(async move { store.delete(&path).await });
            }
        }
    }
}

/// A file, and the directories above it where they are missing. They are synced by the flush.
fn create(disk: &dyn Disk, path: &FsPath) -> io::Result<Appender> {
    let file = match disk.create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file_system::make_directories(disk, file_system::parent(path))?;
            disk.create(path)
        }
        other => other,
    };
    Ok(Appender::new(file?))
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatchOptions;
    use arrow::datatypes::Schema;
    use object_store::memory::InMemory;

    use super::*;

    /// A Parquet file of no columns holds no rows, whatever it is given.
    #[tokio::test]
    async fn a_file_that_lost_rows_is_no_file() {
        let spec = FileSpec {
            local: None,
            disk: Arc::new(file_system::RealDisk),
            store: Arc::new(InMemory::new()),
            runtime: Handle::current(),
            schema: Arc::new(Schema::empty()),
            compression: Compression::None,
            wanted: StatisticsColumns::First(1),
            classifier: Classifier::default(),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&spec.schema), vec![], &options).unwrap();
        let dictionaries = Dictionaries::of_files(&[], false);
        let mut file = Encoding::new(&spec, &Arc::new(Key::whole_table()), &dictionaries).unwrap();
        file.write(&spec, &rows).unwrap();
        let error = file.finish(&spec).err().unwrap();
        assert_eq!(error.code(), Code::Internal);
        let text = "3 rows were given and 0 were written";
        assert!(error.message().contains(text), "{error}");
    }
}
