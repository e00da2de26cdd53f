//! Where a table is → an object store with the table at its root.
//!
//! Invariants:
//! - On a local disk every object that this store puts is synced, content first and name second,
//!   before the put returns: a commit that a reader can see is a commit that survives a power cut.
//! - S3 commits are conditional puts (object_store's default, `etag`), so that two writers cannot both
//!   own a version.
//! - One attempt: the transmitter and `connect` retry, the store below only bridges blips.
//!
//! It registers nothing in deltalake-core's global factories: two clients with different
//! credentials would meet there.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path as FsPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result as StoreResult,
    RetryConfig, UploadPart,
};
use url::Url;
use uuid::Uuid;

use super::errors::{Secrets, credentials};
use super::pace::Connector;
use super::target::{self, Target};
use crate::error::{Code, Error, Result};

/// Where a table is and how to reach it.
#[derive(Clone)]
pub struct Location {
    pub url: Url,
    /// The table's directory, if it is on this machine.
    pub local: Option<PathBuf>,
    pub log: LogStoreRef,
    pub secrets: Secrets,
    /// Set once a sync of the log failed: from then on nobody knows what the disk holds.
    poisoned: Arc<AtomicBool>,
}

impl Location {
    /// # Errors
    /// `CONFIG_INVALID` for a URL or storage option that means nothing.
    pub fn parse(target: &str, storage: &BTreeMap<String, String>) -> Result<Location> {
        let secrets = credentials(storage);
        let Target { url, local } = target::parse(target)?;
        let poisoned = Arc::new(AtomicBool::new(false));
        let store: Arc<dyn ObjectStore> = if local.is_some() {
            Arc::new(Synced {
                inner: Arc::new(LocalFileSystem::new()),
                poisoned: Arc::clone(&poisoned),
            })
        } else {
            cloud(&url, storage, &secrets)?
        };
        Location::over(url, store, local, secrets, poisoned)
    }

    /// A table in a store whose root is that of the URL.
    pub fn over(
        url: Url,
        store: Arc<dyn ObjectStore>,
        local: Option<PathBuf>,
        secrets: Secrets,
        poisoned: Arc<AtomicBool>,
    ) -> Result<Location> {
        let prefix = Path::from_url_path(url.path()).map_err(|error| invalid(format!("{url}: {error}")))?;
        let table = Arc::new(PrefixStore::new(Arc::clone(&store), prefix));
        let log = default_logstore(table, store, &url, &StorageConfig::default());
        Ok(Location {
            url,
            local,
            log,
            secrets,
            poisoned,
        })
    }

    pub fn poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.log.object_store(None)
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::ConfigInvalid, message).during("connect")
}

fn cloud(url: &Url, storage: &BTreeMap<String, String>, secrets: &Secrets) -> Result<Arc<dyn ObjectStore>> {
    // The AWS, Azure and Google clients may also be asked for TLS before anything else of ours is.
    crate::destination::install_crypto();
    let retry = RetryConfig {
        max_retries: 3,
        retry_timeout: Duration::from_secs(20),
        ..RetryConfig::default()
    };
    // A bucket and nothing else: the path is the prefix below it.
    let mut root = url.clone();
    root.set_path("");
    let built: StoreResult<Arc<dyn ObjectStore>> = match url.scheme() {
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::from_env();
            for (key, value) in options::<AmazonS3ConfigKey>(storage)? {
                builder = builder.with_config(key, value);
            }
            builder
                .with_url(root)
                .with_retry(retry)
                .with_http_connector(Connector(secrets.pace().clone()))
                .build()
                .map(|store| Arc::new(store) as _)
        }
        "az" | "azure" | "adl" | "abfs" | "abfss" => {
            let mut builder = MicrosoftAzureBuilder::from_env();
            for (key, value) in options::<AzureConfigKey>(storage)? {
                builder = builder.with_config(key, value);
            }
            builder
                .with_url(root)
                .with_retry(retry)
                .with_http_connector(Connector(secrets.pace().clone()))
                .build()
                .map(|store| Arc::new(store) as _)
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::from_env();
            for (key, value) in options::<GoogleConfigKey>(storage)? {
                builder = builder.with_config(key, value);
            }
            builder
                .with_url(root)
                .with_retry(retry)
                .with_http_connector(Connector(secrets.pace().clone()))
                .build()
                .map(|store| Arc::new(store) as _)
        }
        other => {
            return Err(invalid(format!(
                "delta: cannot reach {other}: URLs; it knows paths, file:, s3:, az:, abfss: and gs:"
            )));
        }
    };
    built.map_err(|error| {
        let found = secrets.store(&error);
        // What a builder complains about is always something that was, or was not, configured.
        invalid(found.message().to_string())
    })
}

fn options<K: FromStr>(storage: &BTreeMap<String, String>) -> Result<Vec<(K, String)>> {
    storage
        .iter()
        .map(|(key, value)| match K::from_str(&key.to_ascii_lowercase()) {
            // A slash at the end of an endpoint doubles in every request below it.
            Ok(known) if value.starts_with("http") => Ok((known, value.trim_end_matches('/').to_string())),
            Ok(known) => Ok((known, value.clone())),
            Err(_) => Err(invalid(format!(
                "delta.storage.{key} is not an option of this store"
            ))),
        })
        .collect()
}

/// The local file system with puts that are on the disk when they return.
#[derive(Debug)]
struct Synced {
    inner: Arc<LocalFileSystem>,
    poisoned: Arc<AtomicBool>,
}

impl fmt::Display for Synced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "synced {}", self.inner)
    }
}

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
        let path = self.inner.path_to_filesystem(location)?;
        let poisoned = Arc::clone(&self.poisoned);
        blocking(move || put_synced(&path, &payload, opts.mode == PutMode::Create, &poisoned)).await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Ok(Box::new(SyncedUpload {
            inner: self.inner.put_multipart_opts(location, opts).await?,
            path: self.inner.path_to_filesystem(location)?,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> StoreResult<Vec<Bytes>> {
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

/// Checkpoints come this way: a pointer to a checkpoint that a power cut emptied breaks the table.
#[derive(Debug)]
struct SyncedUpload {
    inner: Box<dyn MultipartUpload>,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let result = self.inner.complete().await?;
        let path = self.path.clone();
        blocking(move || {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .and_then(|()| sync_directory(parent(&path)))
                .map_err(|error| generic(&path, error))
        })
        .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.inner.abort().await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    tokio::task::spawn_blocking(work).await?
}

fn put_synced(path: &FsPath, payload: &PutPayload, create: bool, poisoned: &AtomicBool) -> StoreResult<()> {
    let fail = |error| generic(path, error);
    // object_store hides names that end in # and digits, so nobody lists a half-written commit.
    let number = Uuid::new_v4().as_u128() % 10_u128.pow(18);
    let mut name = path.as_os_str().to_owned();
    name.push(format!("#{number}"));
    let staged = PathBuf::from(name);
    create_directories(parent(path)).map_err(fail)?;
    let written = File::create_new(&staged).and_then(|mut file| {
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    });
    let named = written.and_then(|()| {
        if create {
            // Unlike a rename, a link never replaces what another writer has put there.
            fs::hard_link(&staged, path)
        } else {
            fs::rename(&staged, path)
        }
    });
    if create || named.is_err() {
        let _ = fs::remove_file(&staged);
    }
    named.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists {
            path: path.display().to_string(),
            source: Box::new(error),
        },
        _ => fail(error),
    })?;
    sync_directory(parent(path)).map_err(|error| {
        // The name is visible but perhaps not durable, and a second sync would say "fine" either way.
        poisoned.store(true, Ordering::Release);
        fail(error)
    })
}

fn parent(path: &FsPath) -> &FsPath {
    path.parent().unwrap_or(path)
}

fn generic(path: &FsPath, error: io::Error) -> object_store::Error {
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

/// Makes the entries of a directory durable. Windows has no such call and needs none.
pub fn sync_directory(directory: &FsPath) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(directory)?.sync_all()
}

/// Creates a directory and all above it, and makes each new name durable.
pub fn create_directories(directory: &FsPath) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        create_directories(above)?;
    }
    match fs::create_dir(directory) {
        Ok(()) => sync_directory(parent(directory)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether files can be made in the directory, or in the nearest one above it that exists.
pub fn probe(directory: &FsPath) -> io::Result<()> {
    let mut nearest = directory;
    loop {
        match fs::metadata(nearest) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match nearest.parent() {
                Some(above) => nearest = above,
                None => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    let file = nearest.join(format!(".arrow-ingest-{}", Uuid::new_v4()));
    File::create_new(&file)?;
    fs::remove_file(&file)
}

#[cfg(test)]
#[path = "../../../tests/rs/delta/stores.rs"]
mod tests;
