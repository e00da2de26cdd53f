//! Where a table is → an object store with the table at its root.
//!
//! Invariants:
//! - On a local disk every object that is put is synced before the put returns ([`Synced`]).
//! - S3 commits are conditional puts (object_store's default, `etag`), so that two writers cannot both
//!   own a version.
//! - One attempt: the transmitter and `connect` retry, the store below only bridges blips.
//!
//! It registers nothing in deltalake-core's global factories: two clients with different
//! credentials would meet there.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, Result as StoreResult, RetryConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use super::errors::{Classifier, credentials};
use super::local::Synced;
use super::retry_after::StoreConnector;
use super::target::{self, DeltaTarget};
use super::uploads::AbortsUploads;
use crate::error::{Code, Error, Result};
use crate::file_system::{self, Disk, RealDisk};

/// Where a table is and how to reach it.
#[derive(Clone)]
pub struct Location {
    pub url: Url,
    /// The table's directory, if it is on this machine.
    pub local: Option<PathBuf>,
    pub log: LogStoreRef,
    pub classifier: Classifier,
    /// What the table's directory lies on, if it is on this machine.
    pub disk: Arc<dyn Disk>,
    /// Set once a sync of a directory failed: from then on nobody knows what the disk holds.
    poisoned: Arc<AtomicBool>,
    /// Whether the names of the table's directory and of those above it are durable.
    ancestors_synced: Arc<AtomicBool>,
}

impl Location {
    /// # Errors
    /// `CONFIG_INVALID` for a URL or storage option that means nothing.
    pub fn parse(target: &str, storage: &BTreeMap<String, String>) -> Result<Location> {
        let classifier = credentials(storage);
        let DeltaTarget { url, local } = target::parse(target)?;
        let poisoned = Arc::new(AtomicBool::new(false));
        let store: Arc<dyn ObjectStore> = if local.is_some() {
            let disk = Arc::new(RealDisk);
            Arc::new(Synced::new(
                Arc::new(LocalFileSystem::new()),
                disk,
                Arc::clone(&poisoned),
            ))
        } else {
            cloud(&url, storage, &classifier)?
        };
        Location::over(url, store, local, classifier, poisoned)
    }

    /// A table in a store whose root is that of the URL.
    pub fn over(
        url: Url,
        store: Arc<dyn ObjectStore>,
        local: Option<PathBuf>,
        classifier: Classifier,
        poisoned: Arc<AtomicBool>,
    ) -> Result<Location> {
        let store = match local {
            Some(_) => store,
            None => Arc::new(AbortsUploads(store)),
        };
        let prefix = Path::from_url_path(url.path()).map_err(|error| invalid(format!("{url}: {error}")))?;
        let table = Arc::new(PrefixStore::new(Arc::clone(&store), prefix));
        let log = default_logstore(table, store, &url, &StorageConfig::default());
        Ok(Location {
            url,
            local,
            log,
            classifier,
            disk: Arc::new(RealDisk),
            poisoned,
            ancestors_synced: Arc::default(),
        })
    }

    /// The same, with another disk below it.
    #[cfg(test)]
    pub fn on(self, disk: Arc<dyn Disk>) -> Location {
        Location { disk, ..self }
    }

    pub fn poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// # Errors
    /// `UNAVAILABLE`.
    pub fn refuse_if_poisoned(&self) -> Result<()> {
        if !self.poisoned() {
            return Ok(());
        }
        let text = "syncing a directory of the table failed before; what the disk holds is not known until it is looked at";
        Err(Error::new(Code::Unavailable, text).during("open"))
    }

    /// The table's directory is new: its name, and perhaps others above it, are not durable yet.
    pub fn is_new(&self) {
        self.ancestors_synced.store(false, Ordering::Release);
    }

    /// Makes the names in these directories durable and, once for a client, those of the table's directory and of
    /// all above it. Blocks.
    ///
    /// # Errors
    /// The directory's, after which the table is poisoned if a sync failed: a second one would say "fine".
    pub fn sync_directories(&self, directories: &[PathBuf]) -> Result<()> {
        let of = |directory: &FsPath, synced: io::Result<()>| {
            synced.map_err(|error| {
                if !file_system::was_not_synced(&error) {
                    self.poisoned.store(true, Ordering::Release);
                }
                self.classifier.io(directory.display(), &error).during("commit")
            })
        };
        if let Some(table) = &self.local
            && !self.ancestors_synced.load(Ordering::Acquire)
        {
            of(table, file_system::sync_ancestors(self.disk.as_ref(), table))?;
            self.ancestors_synced.store(true, Ordering::Release);
        }
        directories
            .iter()
            .try_for_each(|directory| of(directory, self.disk.sync_directory(directory)))
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.log.object_store(None)
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::ConfigInvalid, message).during("connect")
}

fn cloud(
    url: &Url,
    storage: &BTreeMap<String, String>,
    classifier: &Classifier,
) -> Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig {
        max_retries: 3,
        retry_timeout: Duration::from_secs(20),
        ..RetryConfig::default()
    };
    // A bucket and nothing else: the path is the prefix below it.
    let mut root = url.clone();
    root.set_path("");
    // The builders of object_store have these methods in common, and no trait that says so.
    macro_rules! build {
        ($builder:ty, $key:ty) => {{
            let mut builder = <$builder>::from_env();
            for (key, value) in options::<$key>(storage)? {
                builder = builder.with_config(key, value);
            }
            builder
                .with_url(root)
                .with_retry(retry)
                .with_http_connector(StoreConnector(classifier.retry_after().clone()))
                .build()
                .map(|store| Arc::new(store) as _)
        }};
    }
    let built: StoreResult<Arc<dyn ObjectStore>> = match url.scheme() {
        "s3" | "s3a" => build!(AmazonS3Builder, AmazonS3ConfigKey),
        "az" | "azure" | "adl" | "abfs" | "abfss" => build!(MicrosoftAzureBuilder, AzureConfigKey),
        "gs" => build!(GoogleCloudStorageBuilder, GoogleConfigKey),
        other => {
            return Err(invalid(format!(
                "delta: cannot reach {other}: URLs; it knows paths, file:, s3:, az:, abfss: and gs:"
            )));
        }
    };
    built.map_err(|error| {
        let found = classifier.store(&error);
        // What a builder complains about is always something that was, or was not, configured.
        invalid(found.message().to_string())
    })
}

fn options<K: FromStr>(storage: &BTreeMap<String, String>) -> Result<Vec<(K, String)>> {
    storage
        .iter()
        .map(|(key, value)| {
            let name = key.to_ascii_lowercase();
            let Ok(known) = K::from_str(&name) else {
                let text = format!("delta.storage.{key} is not an option of this store");
                return Err(invalid(text));
            };
            if name.ends_with("proxy_ca_certificate") && !is_certificates(value) {
                return Err(invalid(format!(
                    "delta.storage.{key} holds no certificate as PEM text"
                )));
            }
            // A slash at the end of an endpoint doubles in every request below it.
            match value.starts_with("http") {
                true => Ok((known, value.trim_end_matches('/').to_string())),
                false => Ok((known, value.clone())),
            }
        })
        .collect()
}

/// What is none would be ignored, and every connection fail for want of it.
fn is_certificates(pem: &str) -> bool {
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .all(|found| found.is_ok_and(|certificate| roots.add(certificate).is_ok()))
        && !roots.is_empty()
}

#[cfg(test)]
#[path = "../../../tests/rs/delta/stores.rs"]
mod tests;
