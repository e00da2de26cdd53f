//! Reading a table's log: which files there are, and what of them an append has to know.
//!
//! Invariants:
//! - `TABLE_CORRUPT` names a file that was read whole and cannot be understood, or one that is missing in the
//!   middle of the log. Whatever was not read whole is an error of the store's, and may pass.
//! - File actions are validated as JSON and otherwise skipped; of a checkpoint only the columns of protocol,
//!   metadata and transactions are read. Nothing of the size of the table is kept.
//! - `_last_checkpoint` is a hint: what it says is looked for, and the log is listed without it where that is
//!   not there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray as _, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use bytes::Bytes;
use deltalake_core::kernel::{Metadata, Protocol};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ArrowReaderOptions, RowFilter};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::storage::Location;
use crate::error::{Code, Error, Result};

/// Commits that are fetched at once.
const FETCHES: usize = 8;
/// Times that the log is listed again because files of it went while they were read.
const LISTINGS: usize = 3;
/// Larger commits are parsed off the runtime's workers, in bytes.
const LARGE: usize = 1 << 20;

/// What one file of the log holds, as far as an append has to know.
#[derive(Debug, Default)]
pub struct Actions {
    pub protocol: Option<Protocol>,
    pub metadata: Option<Metadata>,
    /// The last transaction of the producer that was asked about.
    pub own: Option<u64>,
    /// What the producer left beside it.
    pub epoch: Option<u64>,
}

/// A transaction of the producer that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppTransaction {
    pub id: u64,
    /// The version that holds it, unless it was found in a checkpoint.
    pub version: Option<u64>,
    /// Of a producer that outlives processes: of the opening that committed it.
    pub epoch: Option<u64>,
}

/// The application whose transactions have the epochs of a producer as their versions.
pub fn epoch_app(app: &str) -> String {
    format!("{app}{EPOCH}")
}

const EPOCH: &str = "-epoch";

fn is_epoch_of(found: &str, app: Option<&str>) -> bool {
    found.strip_suffix(EPOCH).is_some_and(|found| Some(found) == app)
}

/// What the log says at its newest version.
pub struct Snapshot {
    pub version: u64,
    pub protocol: Protocol,
    pub metadata: Metadata,
    /// The last transaction of the producer that was asked about.
    pub own: Option<AppTransaction>,
    /// The bytes of the newest version's file, unless a checkpoint alone is left of it.
    pub size: Option<u64>,
}

/// The newest version, read from the last checkpoint on; none if there is no table.
///
/// # Errors
/// `TABLE_CORRUPT` naming the file, if the log was read and cannot be understood; otherwise the store's.
pub async fn read(location: &Location, app: Option<&str>) -> Result<Option<Snapshot>> {
    if let Some(path) = &location.local
        && tokio::fs::metadata(path.join("_delta_log"))
            .await
            .is_ok_and(|log| !log.is_dir())
    {
        return Err(Error::new(Code::TableCorrupt, "_delta_log is not a directory").during("open"));
    }
    for _ in 0..LISTINGS {
        let hint = hint(location).await?;
        let mut files = list(location, hint).await?;
        if let Some(hint) = hint
            && !files.has_checkpoint_from(hint)
        {
            // It points nowhere, or to half a checkpoint: an older one and the versions since do as well.
            files = list(location, None).await?;
            if files.newest().is_none() {
                let text = format!(
                    "_delta_log/_last_checkpoint names version {hint}, and the log holds no version at all"
                );
                return Err(Error::new(Code::TableCorrupt, text).during("open"));
            }
        }
        if files.newest().is_none() {
            return Ok(None);
        }
        if let Some(found) = replay(location, files, app).await? {
            return Ok(Some(found));
        }
    }
    let text = "files of the table's log keep going away while it is read";
    Err(Error::new(Code::Unavailable, text).during("open"))
}

/// The bytes of a version; none if there is no such version.
pub async fn read_commit(location: &Location, version: u64) -> Result<Option<Bytes>> {
    whole(location, &path(location, &name(version))).await
}

/// What the store says of a version's file; none if there is no such version.
pub async fn head(location: &Location, version: u64) -> Result<Option<ObjectMeta>> {
    match location.store().head(&path(location, &name(version))).await {
        Ok(meta) => Ok(Some(meta)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(location.classifier.store(&error).during("open")),
    }
}

/// The name of a version's file in the log.
pub fn name(version: u64) -> String {
    format!("{version:020}.json")
}

/// Where a file of the log is.
pub fn path(location: &Location, name: &str) -> Path {
    location.log.log_path().clone().join(name)
}

/// A file of the log that was read whole and cannot be understood.
pub fn corrupt(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(
        Code::TableCorrupt,
        format!("{what} cannot be understood: {error}"),
    )
    .during("open")
}

/// What a commit, or a checkpoint that is JSON, holds.
pub async fn actions(name: &str, bytes: Bytes, app: Option<&str>) -> Result<Actions> {
    if bytes.len() < LARGE {
        return parse(name, &bytes, app);
    }
    let (name, app) = (name.to_string(), app.map(str::to_string));
    tokio::task::spawn_blocking(move || parse(&name, &bytes, app.as_deref()))
        .await
        .unwrap_or_else(|error| {
            Err(Error::new(Code::Internal, "reading the table's log died").caused_by(&error))
        })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    protocol: Option<Protocol>,
    meta_data: Option<Metadata>,
    #[serde(borrow)]
    txn: Option<Txn<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Txn<'a> {
    #[serde(borrow)]
    app_id: Cow<'a, str>,
    version: i64,
}

fn parse(name: &str, bytes: &[u8], app: Option<&str>) -> Result<Actions> {
    let mut found = Actions::default();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| corrupt(&format!("_delta_log/{name}, line {number},"), &error))?;
        found.protocol = line.protocol.or(found.protocol);
        found.metadata = line.meta_data.or(found.metadata);
        let Some(txn) = line.txn else { continue };
        if Some(txn.app_id.as_ref()) == app {
            found.own = u64::try_from(txn.version).ok();
        } else if is_epoch_of(&txn.app_id, app) {
            found.epoch = u64::try_from(txn.version).ok();
        }
    }
    Ok(found)
}

/// The version that `_last_checkpoint` names. Whatever it cannot say is found by listing.
async fn hint(location: &Location) -> Result<Option<u64>> {
    #[derive(Deserialize)]
    struct Hint {
        version: u64,
    }
    let bytes = whole(location, &path(location, "_last_checkpoint")).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok().map(|hint: Hint| hint.version)))
}

/// The bytes of a file, all of them.
async fn whole(location: &Location, path: &Path) -> Result<Option<Bytes>> {
    let failed = |error: object_store::Error| location.classifier.store(&error).during("open");
    let got = match location.store().get(path).await {
        Ok(got) => got,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let size = got.meta.size;
    let bytes = got.bytes().await.map_err(failed)?;
    if bytes.len() as u64 != size {
        return Err(Error::new(Code::Unavailable, cut_short(path, bytes.len(), size)).during("open"));
    }
    Ok(Some(bytes))
}

fn cut_short(path: &Path, got: usize, wanted: u64) -> String {
    format!("reading {path} was cut short: {got} of {wanted} bytes came")
}

// ---- which files there are ------------------------------------------------------------------------

/// The files of the log from some version on.
#[derive(Default)]
struct Files {
    commits: BTreeMap<u64, ObjectMeta>,
    checkpoints: BTreeMap<u64, Vec<CheckpointPart>>,
}

/// A file of a checkpoint.
struct CheckpointPart {
    meta: ObjectMeta,
    /// How many files the checkpoint has, if it is cut by the old scheme.
    of: Option<u64>,
}

impl Files {
    fn add(&mut self, meta: ObjectMeta, name: &str) {
        let Some((version, rest)) = name.split_once('.') else {
            return;
        };
        let Some(version) = number(version, 20) else {
            return;
        };
        let words: Vec<&str> = rest.split('.').collect();
        let of = match words[..] {
            ["json"] => {
                self.commits.insert(version, meta);
                return;
            }
            ["checkpoint", "parquet"] | ["checkpoint", _, "json" | "parquet"] => None,
            ["checkpoint", part, of, "parquet"] if number(part, 10).is_some() => match number(of, 10) {
                Some(of) => Some(of),
                None => return,
            },
            _ => return,
        };
        self.checkpoints
            .entry(version)
            .or_default()
            .push(CheckpointPart { meta, of });
    }

    fn has_checkpoint_from(&self, version: u64) -> bool {
        self.last_checkpoint().is_some_and(|(found, _)| found >= version)
    }

    /// The newest checkpoint of which every file is there.
    fn last_checkpoint(&self) -> Option<(u64, Vec<ObjectMeta>)> {
        self.checkpoints.iter().rev().find_map(|(version, parts)| {
            if let Some(single) = parts.iter().find(|part| part.of.is_none()) {
                return Some((*version, vec![single.meta.clone()]));
            }
            // Several writers may have cut it, each into a number of parts of its own.
            let cuts: BTreeSet<u64> = parts.iter().filter_map(|part| part.of).collect();
            cuts.into_iter().find_map(|of| {
                let parts: Vec<ObjectMeta> = parts
                    .iter()
                    .filter(|part| part.of == Some(of))
                    .map(|part| part.meta.clone())
                    .collect();
                (parts.len() as u64 == of).then_some((*version, parts))
            })
        })
    }

    fn newest(&self) -> Option<u64> {
        let commit = self.commits.keys().next_back().copied();
        commit.max(self.last_checkpoint().map(|(version, _)| version))
    }
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

async fn list(location: &Location, from: Option<u64>) -> Result<Files> {
    let store = location.store();
    let log = location.log.log_path();
    let mut entries = match from {
        // Before everything of that version, and after everything of the one before it.
        Some(from) => store.list_with_offset(Some(log), &path(location, &format!("{from:020}"))),
        None => store.list(Some(log)),
    };
    let mut files = Files::default();
    let depth = log.parts().count() + 1;
    while let Some(entry) = entries.next().await {
        let entry = match entry {
            Ok(entry) => entry,
            // A directory that is not there is an empty one, to those stores that have directories.
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(location.classifier.store(&error).during("open")),
        };
        if entry.location.parts().count() != depth {
            continue;
        }
        if let Some(name) = entry.location.filename().map(str::to_string) {
            files.add(entry, &name);
        }
    }
    Ok(files)
}

// ---- what they hold -------------------------------------------------------------------------------

/// From the newest version back to the newest checkpoint. None if a file went meanwhile.
async fn replay(location: &Location, files: Files, app: Option<&str>) -> Result<Option<Snapshot>> {
    let Some(newest) = files.newest() else {
        return Ok(None);
    };
    let checkpoint = files.last_checkpoint();
    let size = files.commits.get(&newest).map(|meta| meta.size);
    let first = checkpoint.as_ref().map_or(0, |(version, _)| version + 1);
    let commits: Vec<(u64, ObjectMeta)> = files.commits.into_iter().filter(|(at, _)| *at >= first).collect();
    if checkpoint.is_none() && commits.first().is_none_or(|(version, _)| *version != 0) {
        let text = format!("the log up to version {newest} has neither its first version nor a checkpoint");
        return Err(Error::new(Code::TableCorrupt, text).during("open"));
    }
    if let Some((missing, _)) = (first..).zip(&commits).find(|(at, (version, _))| at != version) {
        // A listing that another writer's clean-up overtook shows the same; then it is there or listed anew.
        if head(location, missing).await?.is_some() {
            return Ok(None);
        }
        let text = format!(
            "_delta_log/{} is missing, and later versions are there",
            name(missing)
        );
        return Err(Error::new(Code::TableCorrupt, text).during("open"));
    }
    let mut protocol = None;
    let mut metadata = None;
    let mut own: Option<AppTransaction> = None;
    let enough = |protocol: &Option<Protocol>, metadata: &Option<Metadata>, own: &Option<AppTransaction>| {
        protocol.is_some() && metadata.is_some() && (own.is_some() || app.is_none())
    };
    let mut reads = futures::stream::iter(commits.into_iter().rev())
        .map(|(version, meta)| async move {
            let Some(bytes) = whole(location, &meta.location).await? else {
                return Ok::<_, Error>(None);
            };
            Ok(Some((version, actions(&name(version), bytes, app).await?)))
        })
        .buffered(FETCHES);
    while !enough(&protocol, &metadata, &own) {
        let Some(read) = reads.next().await else { break };
        let Some((version, actions)) = read? else {
            return Ok(None);
        };
        protocol = protocol.or(actions.protocol);
        metadata = metadata.or(actions.metadata);
        own = own.or(actions.own.map(|id| AppTransaction {
            id,
            version: Some(version),
            epoch: actions.epoch,
        }));
    }
    drop(reads);
    let in_log = own.is_some();
    let mut epoch = None;
    for part in checkpoint.into_iter().flat_map(|(_, parts)| parts) {
        // Of a transaction in a checkpoint the epoch may stand in another part.
        let has_epoch = in_log || own.is_none_or(|own| own.epoch.is_some());
        if enough(&protocol, &metadata, &own) && has_epoch {
            break;
        }
        let is_json = part.location.extension() == Some("json");
        let found = if is_json {
            let Some(bytes) = whole(location, &part.location).await? else {
                return Ok(None);
            };
            actions(part.location.filename().unwrap_or_default(), bytes, app).await?
        } else {
            match checkpoint_part(location, &part, app).await? {
                Some(found) => found,
                None => return Ok(None),
            }
        };
        protocol = protocol.or(found.protocol);
        metadata = metadata.or(found.metadata);
        own = own.or(found.own.map(|id| AppTransaction {
            id,
            version: None,
            epoch: None,
        }));
        epoch = epoch.or(found.epoch);
        if let Some(own) = own.as_mut().filter(|_| !in_log) {
            own.epoch = epoch;
        }
    }
    let lacks = |what: &str| {
        let text = format!("the log up to _delta_log/{} holds no {what}", name(newest));
        Error::new(Code::TableCorrupt, text).during("open")
    };
    Ok(Some(Snapshot {
        version: newest,
        protocol: protocol.ok_or_else(|| lacks("protocol"))?,
        metadata: metadata.ok_or_else(|| lacks("metadata"))?,
        own,
        size,
    }))
}

/// What a Parquet file of a checkpoint holds. None if it is gone.
async fn checkpoint_part(
    location: &Location,
    part: &ObjectMeta,
    app: Option<&str>,
) -> Result<Option<Actions>> {
    match columns(location, part, app).await {
        Ok(actions) => Ok(Some(actions)),
        Err(ParquetError::External(error)) => match error.downcast_ref::<object_store::Error>() {
            Some(object_store::Error::NotFound { .. }) => Ok(None),
            Some(error) => Err(location.classifier.store(error).during("open")),
            None => match error.downcast::<Error>() {
                Ok(error) => Err(*error),
                Err(error) => Err(corrupt(part.location.as_ref(), &error)),
            },
        },
        Err(error) => Err(corrupt(part.location.as_ref(), &error)),
    }
}

async fn columns(
    location: &Location,
    part: &ObjectMeta,
    app: Option<&str>,
) -> std::result::Result<Actions, ParquetError> {
    const PROTOCOL: &str = "protocol";
    const METADATA: &str = "metaData";
    const TXN: &str = "txn";
    let reader = CheckpointFile {
        store: location.store(),
        meta: part.clone(),
    };
    // What another writer noted of its Arrow types says nothing that the file does not.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await?;
    let schema = builder.parquet_schema();
    let wanted = |name: &str| matches!(name, PROTOCOL | METADATA) || (name == TXN && app.is_some());
    let roots: Vec<usize> = (schema.root_schema().get_fields().iter().enumerate())
        .filter(|(_, field)| wanted(field.name()))
        .map(|(index, _)| index)
        .collect();
    let leaves: Vec<usize> = (0..schema.num_columns())
        .filter(|leaf| roots.contains(&schema.get_column_root_idx(*leaf)))
        .collect();
    let groups: Vec<usize> = (builder.metadata().row_groups().iter().enumerate())
        .filter(|(_, group)| {
            // Files fill most of a checkpoint: where none of these columns has a value, nothing is fetched.
            !leaves.iter().all(|leaf| {
                let nulls = group
                    .column(*leaf)
                    .statistics()
                    .and_then(|known| known.null_count_opt());
                nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(group.column(*leaf).num_values()))
            })
        })
        .map(|(index, _)| index)
        .collect();
    // Most rows are files: which ones are not is read from one column of each kind, and the others of those rows only.
    let firsts: Vec<usize> = roots
        .iter()
        .filter_map(|root| {
            leaves
                .iter()
                .copied()
                .find(|leaf| schema.get_column_root_idx(*leaf) == *root)
        })
        .collect();
    let filter = ArrowPredicateFn::new(ProjectionMask::leaves(schema, firsts), |batch| {
        let any = |row| batch.columns().iter().any(|column| column.is_valid(row));
        Ok((0..batch.num_rows())
            .map(|row| Some(any(row)))
            .collect::<BooleanArray>())
    });
    let mask = ProjectionMask::roots(schema, roots);
    let mut batches = builder
        .with_projection(mask)
        .with_row_filter(RowFilter::new(vec![Box::new(filter)]))
        .with_row_groups(groups)
        .with_batch_size(8192)
        .build()?;
    let mut found = Actions::default();
    while let Some(batch) = batches.try_next().await? {
        for value in rows(&batch, PROTOCOL) {
            found.protocol = Some(serde_json::from_value(value?).map_err(misread)?);
        }
        for value in rows(&batch, METADATA) {
            found.metadata = Some(serde_json::from_value(value?).map_err(misread)?);
        }
        for value in rows(&batch, TXN) {
            let value = value?;
            let id = value["appId"].as_str();
            if id == app && app.is_some() {
                found.own = value["version"].as_u64();
            } else if id.is_some_and(|id| is_epoch_of(id, app)) {
                found.epoch = value["version"].as_u64();
            }
        }
        if found.protocol.is_some() && found.metadata.is_some() && app.is_none() {
            break;
        }
        // Decoding alone never waits, and others have work for this thread.
        tokio::task::yield_now().await;
    }
    Ok(found)
}

fn misread(error: serde_json::Error) -> ParquetError {
    ParquetError::General(error.to_string())
}

/// The values of a column that has any, as JSON.
fn rows<'a>(
    batch: &'a RecordBatch,
    column: &str,
) -> impl Iterator<Item = std::result::Result<Value, ParquetError>> + 'a {
    let column = batch.column_by_name(column);
    column.into_iter().flat_map(|column| {
        (0..column.len())
            .filter(|row| column.is_valid(*row))
            .map(|row| value(column, row))
    })
}

/// A value of one of the types that actions are made of.
fn value(array: &dyn Array, row: usize) -> std::result::Result<Value, ParquetError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items = (0..items.len()).map(|item| value(&items, item));
            Value::Array(items.collect::<std::result::Result<_, _>>()?)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(columns.columns()) {
                object.insert(field.name().clone(), value(column, row)?);
            }
            Value::Object(object)
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let mut object = Map::new();
            for entry in 0..entries.len() {
                let key = value(entries.column(0), entry)?;
                let key = key.as_str().unwrap_or_default().to_string();
                object.insert(key, value(entries.column(1), entry)?);
            }
            Value::Object(object)
        }
        other => {
            return Err(ParquetError::General(format!(
                "an action holds a value of type {other}"
            )));
        }
    })
}

/// A checkpoint as its reader fetches it: what comes is what was asked for, or an error of the store's.
struct CheckpointFile {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
}

impl AsyncFileReader for CheckpointFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let wanted = range.end - range.start;
            let bytes = self.store.get_range(&self.meta.location, range).await;
            let bytes = bytes.map_err(|error| ParquetError::External(Box::new(error)))?;
            if bytes.len() as u64 != wanted {
                let text = cut_short(&self.meta.location, bytes.len(), wanted);
                let error = Error::new(Code::Unavailable, text).during("open");
                return Err(ParquetError::External(Box::new(error)));
            }
            Ok(bytes)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.meta.size;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(64 * 1024));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
