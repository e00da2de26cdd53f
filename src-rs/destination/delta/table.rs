//! What a client keeps of a table: what an append needs, and nothing that grows with the table.
//!
//! Invariants:
//! - A [`Table`] is a version with the protocol and metadata that hold at it. It knows no data files.
//! - It is brought forward by reading the versions that came since; only where these are many, old or gone is
//!   the log read anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deltalake_core::kernel::{Metadata, Protocol, StructType};

use super::features;
pub use super::log::AppTransaction;
use super::log::{self, Actions, corrupt};
use super::storage::Location;
use crate::destination::{Acknowledgement, Position};
use crate::error::Result;

/// Versions that are read one by one before it is cheaper to begin from the last checkpoint.
const STEPS: u64 = 32;
/// After this long without a look, a version that is missing may have been there and been cleaned up.
const STALE: Duration = Duration::from_secs(600);

/// A version of the table, as far as an append has to know it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TableVersion {
    version: u64,
    protocol: Arc<Protocol>,
    metadata: Arc<Metadata>,
    schema: Arc<StructType>,
    /// When this was the newest version.
    seen: Instant,
    file: VersionFile,
}

/// What is known of the file of a version: another one in its place is that of another table.
#[derive(Debug, Clone, Default)]
struct VersionFile {
    size: Option<u64>,
    /// As a `HEAD` has it: other answers may spell it otherwise.
    e_tag: Option<String>,
}

impl VersionFile {
    fn of_size(size: usize) -> VersionFile {
        VersionFile {
            size: Some(size as u64),
            e_tag: None,
        }
    }

    fn may_be(&self, other: &VersionFile) -> bool {
        fn agree<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        agree(&self.size, &other.size) && agree(&self.e_tag, &other.e_tag)
    }
}

impl AppTransaction {
    /// Every write up to this one is in the table.
    pub fn acknowledged(&self) -> Acknowledgement {
        Acknowledgement::Through {
            id: self.id,
            position: self.version.map_or(Position::None, Position::Version),
        }
    }
}

/// What the versions that came since held.
#[derive(Debug, Default)]
pub struct News {
    /// The last transaction of the producer among them.
    pub own: Option<AppTransaction>,
    /// The version that is, byte for byte, the commit that was asked about.
    pub ours: Option<u64>,
}

impl TableVersion {
    /// # Errors
    /// `TABLE_CORRUPT` if the metadata holds no schema; `UNSUPPORTED` if a feature is in the way that may have
    /// brought types of its own.
    pub fn new(version: u64, protocol: Protocol, metadata: Metadata) -> Result<TableVersion> {
        let schema = metadata.parse_schema().map_err(|error| {
            let corrupt = corrupt(&format!("the metadata at version {version}"), &error);
            features::check_listed(&protocol).err().unwrap_or(corrupt)
        })?;
        Ok(TableVersion {
            version,
            protocol: Arc::new(protocol),
            metadata: Arc::new(metadata),
            schema: Arc::new(schema),
            seen: Instant::now(),
            file: VersionFile::default(),
        })
    }

    /// The newest version of the table, none if there is no table, and the last transaction of `app`.
    ///
    /// # Errors
    /// `TABLE_CORRUPT` naming the file, if the log was read and cannot be understood; otherwise the store's.
    pub async fn read(
        location: &Location,
        app: Option<&str>,
    ) -> Result<Option<(TableVersion, Option<AppTransaction>)>> {
        let Some(newest) = log::read(location, app).await? else {
            return Ok(None);
        };
        let mut table = TableVersion::new(newest.version, newest.protocol, newest.metadata)?;
        table.file.size = newest.size;
        Ok(Some((table, newest.own)))
    }

    /// Whether this writer can append to it.
    ///
    /// # Errors
    /// `UNSUPPORTED` naming every feature that stands in the way.
    pub fn check_features(&self) -> Result<()> {
        features::check(&self.protocol, &self.metadata, &self.schema)
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn schema(&self) -> &Arc<StructType> {
        &self.schema
    }

    /// Whether the version after this one cannot have been written and cleaned up since: a table that was
    /// dropped, or a log of which this end is gone, would take a commit that nobody ever reads.
    pub async fn is_current(&mut self, location: &Location) -> Result<bool> {
        Ok(self.seen.elapsed() < STALE && self.is_there(location).await?)
    }

    /// Whether the log holds this version still. A table that was dropped and made again may have one of the same
    /// number, with other columns.
    pub async fn is_there(&mut self, location: &Location) -> Result<bool> {
        let Some(meta) = log::head(location, self.version).await? else {
            return Ok(false);
        };
        let found = VersionFile {
            size: Some(meta.size),
            e_tag: meta.e_tag,
        };
        let same = self.file.may_be(&found);
        if same {
            self.file = found;
        }
        Ok(same)
    }

    /// Brings it forward to the newest version; none if there is no table any more. `commit` is looked for
    /// among the versions that came.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub async fn catch_up(
        mut self,
        location: &Location,
        app: Option<&str>,
        commit: Option<&[u8]>,
    ) -> Result<Option<(TableVersion, News)>> {
        let mut news = News::default();
        for _ in 0..STEPS {
            let version = self.version + 1;
            let Some(bytes) = log::read_commit(location, version).await? else {
                self.seen = Instant::now();
                return Ok(Some((self, news)));
            };
            if commit.is_some_and(|commit| commit == bytes) {
                news.ours = Some(version);
            }
            let size = bytes.len();
            let actions = log::actions(&log::name(version), bytes, app).await?;
            if let Some(id) = actions.own {
                news.own = Some(AppTransaction {
                    id,
                    version: Some(version),
                    epoch: actions.epoch,
                });
            }
            self = self.with(version, size, actions)?;
        }
        let Some((table, own)) = TableVersion::read(location, app).await? else {
            return Ok(None);
        };
        news.own = own.or(news.own);
        Ok(Some((table, news)))
    }

    /// This table one version later, which has so many bytes, with nothing changed that it knows of.
    pub fn later(&self, size: usize) -> TableVersion {
        TableVersion {
            version: self.version + 1,
            seen: Instant::now(),
            file: VersionFile::of_size(size),
            ..self.clone()
        }
    }

    /// This table one version later, which has so many bytes.
    pub fn next(
        &self,
        size: usize,
        protocol: Option<Protocol>,
        metadata: Option<Metadata>,
    ) -> Result<TableVersion> {
        let actions = Actions {
            protocol,
            metadata,
            ..Actions::default()
        };
        self.clone().with(self.version + 1, size, actions)
    }

    fn with(mut self, version: u64, size: usize, actions: Actions) -> Result<TableVersion> {
        if let Some(metadata) = actions.metadata {
            let protocol = actions.protocol.unwrap_or_else(|| (*self.protocol).clone());
            self = TableVersion::new(version, protocol, metadata)?;
        } else if let Some(protocol) = actions.protocol {
            self.protocol = Arc::new(protocol);
        }
        self.version = version;
        self.seen = Instant::now();
        self.file = VersionFile::of_size(size);
        Ok(self)
    }
}
