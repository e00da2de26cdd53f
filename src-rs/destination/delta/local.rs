//! The local file system as an object store whose puts are on the disk when they return.
//!
//! Invariants:
//! - An object has its name only when it is whole and synced, and is put only when its name is synced too:
//!   a commit that a reader can see is a commit that survives a power cut. The directories above it are the
//!   flush's to sync.
//! - After a sync of a directory has failed nobody knows what the disk holds, and a second one would say
//!   "fine": the store is poisoned.
//!
//! Reading, listing and deleting are object_store's.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result as StoreResult, UploadPart,
};
use uuid::Uuid;

use crate::file_system::{self, Disk, DiskFile, parent};

#[derive(Debug)]
pub struct Synced {
    inner: Arc<dyn ObjectStore>,
    /// Knows where an object lies.
    paths: LocalFileSystem,
    disk: Arc<dyn Disk>,
    poisoned: Arc<AtomicBool>,
}

impl Synced {
    /// `inner` reads what `disk` holds.
    pub fn new(inner: Arc<dyn ObjectStore>, disk: Arc<dyn Disk>, poisoned: Arc<AtomicBool>) -> Synced {
        Synced {
            inner,
            paths: LocalFileSystem::new(),
            disk,
            poisoned,
        }
    }
}

impl fmt::Display for Synced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "synced {}", self.inner)
    }
}

const UNVERSIONED: PutResult = PutResult {
    e_tag: None,
    version: None,
};

#[async_trait]
impl ObjectStore for Synced {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> StoreResult<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) {
            return self.inner.put_opts(location, payload, opts).await;
        }
        let path = self.paths.path_to_filesystem(location)?;
        let (disk, poisoned) = (Arc::clone(&self.disk), Arc::clone(&self.poisoned));
        blocking(move || {
            let staged = StagedObject::create(disk, path)?;
            staged.write(&payload, 0)?;
            staged.name(opts.mode == PutMode::Create, &poisoned)
        })
        .await?;
        Ok(UNVERSIONED)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let path = self.paths.path_to_filesystem(location)?;
        let disk = Arc::clone(&self.disk);
        Ok(Box::new(Upload {
            staged: Some(Arc::new(
                blocking(move || StagedObject::create(disk, path)).await?,
            )),
            length: 0,
            poisoned: Arc::clone(&self.poisoned),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// An object under another name, which goes unless it gets its own.
#[derive(Debug)]
struct StagedObject {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    staged: PathBuf,
    path: PathBuf,
}

impl StagedObject {
    fn create(disk: Arc<dyn Disk>, path: PathBuf) -> StoreResult<StagedObject> {
        // object_store hides names that end in # and digits, so nobody lists a half-written commit.
        let number = Uuid::new_v4().as_u128() % 10_u128.pow(18);
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{number}"));
        let staged = PathBuf::from(name);
        let file = file_system::make_directories(disk.as_ref(), parent(&path))
            .and_then(|()| disk.create(&staged))
            .map_err(|error| generic(&path, error))?;
        Ok(StagedObject {
            disk,
            file,
            staged,
            path,
        })
    }

    fn write(&self, payload: &PutPayload, mut offset: u64) -> StoreResult<()> {
        for part in payload {
            self.file
                .write_all_at(part, offset)
                .map_err(|error| generic(&self.path, error))?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn name(self, create: bool, poisoned: &AtomicBool) -> StoreResult<()> {
        let fail = |error| generic(&self.path, error);
        self.file.sync().map_err(fail)?;
        let named = match create {
            true => file_system::name_new(self.disk.as_ref(), &self.staged, &self.path),
            false => self.disk.rename(&self.staged, &self.path),
        };
        // Also where that failed: it may be there all the same (a network file system that lost its own answer),
        // or be another's on which the next version is built.
        let synced = self.disk.sync_directory(parent(&self.path));
        if synced.is_err() {
            // The name is visible but perhaps not durable, and a second sync would say "fine" either way.
            poisoned.store(true, Ordering::Release);
        }
        match named {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(object_store::Error::AlreadyExists {
                    path: self.path.display().to_string(),
                    source: Box::new(error),
                })
            }
            named => named.and(synced).map_err(fail),
        }
    }
}

impl Drop for StagedObject {
    fn drop(&mut self) {
        // Best effort, and nothing at all if it has its own name by now: this one is one that nobody lists.
        let _ = self.disk.unlink(&self.staged);
    }
}

/// Checkpoints come this way. Readers find them by listing, so half of one must not have its name.
#[derive(Debug)]
struct Upload {
    /// None once it is complete or given up.
    staged: Option<Arc<StagedObject>>,
    length: u64,
    poisoned: Arc<AtomicBool>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let offset = self.length;
        self.length += data.content_length() as u64;
        let staged = self.staged.clone();
        Box::pin(blocking(move || staged.ok_or_else(ended)?.write(&data, offset)))
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        // Whoever completes has waited for all parts, so nobody else holds it.
        let staged = self.staged.take().and_then(Arc::into_inner).ok_or_else(ended)?;
        let poisoned = Arc::clone(&self.poisoned);
        blocking(move || staged.name(false, &poisoned)).await?;
        Ok(UNVERSIONED)
    }

    async fn abort(&mut self) -> StoreResult<()> {
        let staged = self.staged.take();
        blocking(move || {
            drop(staged);
            Ok(())
        })
        .await
    }
}

fn ended() -> object_store::Error {
    object_store::Error::Generic {
        store: "local",
        source: "the upload has ended".into(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    tokio::task::spawn_blocking(work).await?
}

pub fn generic(path: &FsPath, error: io::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "local",
        source: Box::new(io::Error::new(error.kind(), Named(path.to_path_buf(), error))),
    }
}

/// An `io::Error` that says which file it is about and keeps its number.
#[derive(Debug)]
struct Named(PathBuf, io::Error);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.display(), self.1)
    }
}

impl std::error::Error for Named {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.1)
    }
}
