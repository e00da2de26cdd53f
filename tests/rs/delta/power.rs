//! The order of a commit's syncs, on a disk that loses what was not synced: whenever the power goes, what was
//! acknowledged is there afterwards, each row once, and the table can be read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path as FsPath;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use uuid::Uuid;

use super::local::Synced;
use super::*;

#[path = "../support/simulated.rs"]
mod simulated;
use simulated::{Call, EINVAL, EIO, EMFILE, ENOSPC, ENOSYS, EPERM, Simulated};

/// What lies on the simulated disk, as object_store reads it from a real one.
#[derive(Debug)]
struct View(Simulated);

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("view")
    }
}

impl View {
    async fn now(&self) -> InMemory {
        let store = InMemory::new();
        for (path, bytes) in self.0.files() {
            let path = path.to_string_lossy().into_owned();
            if !path.contains('#') {
                store
                    .put(&Path::parse(&path).unwrap(), bytes.into())
                    .await
                    .unwrap();
            }
        }
        store
    }
}

#[async_trait]
impl ObjectStore for View {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> StoreResult<PutResult> {
        unreachable!("only read")
    }
    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        unreachable!("only read")
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.now().await.get_opts(at, options).await
    }
    async fn get_ranges(&self, at: &Path, ranges: &[std::ops::Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.now().await.get_ranges(at, ranges).await
    }
    fn delete_stream(
        &self,
        at: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        at
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let (disk, prefix) = (self.0.clone(), prefix.cloned());
        futures::stream::once(async move { View(disk).now().await.list(prefix.as_ref()) })
            .flatten()
            .boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.now().await.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> StoreResult<()> {
        unreachable!("only read")
    }
}

const TABLE: &str = "/lake/deep/table";

fn delta_on(disk: &Simulated, options: &serde_json::Value) -> Delta {
    let url = url::Url::parse(&format!("memory://{TABLE}/")).unwrap();
    let poisoned = Arc::new(AtomicBool::new(false));
    let over: Arc<dyn crate::file_system::Disk> = Arc::new(disk.clone());
    let store = Synced::new(
        Arc::new(View(disk.clone())),
        Arc::clone(&over),
        Arc::clone(&poisoned),
    );
    let local = Some(TABLE.into());
    let location = Location::over(url, Arc::new(store), local, Default::default(), poisoned).unwrap();
    Delta::over(location.on(over), Config::from_json(options).unwrap())
}

fn row(id: i64) -> RecordBatch {
    let keys = StringArray::from(vec![format!("k{}", id % 2)]);
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from(vec![id])), true),
        ("key", Arc::new(keys), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn opening(acknowledgements: Acknowledgements) -> Opening {
    Opening {
        epochs: None,
        schema: row(0).schema(),
        producer: Uuid::new_v4(),
        resume_from: None,
        acknowledgements,
    }
}

fn write(id: i64) -> Arc<Write> {
    let batch = row(id);
    Arc::new(Write {
        positions: Vec::new(),
        id: id as u64,
        rows: 1,
        bytes: batch.get_array_memory_size(),
        batches: vec![batch],
    })
}

/// Writes rows 0 to 2, a commit for each, and says which were acknowledged.
async fn writes(delta: &Delta) -> (Vec<i64>, Result<()>) {
    writes_from(delta, 0).await
}

/// As [`writes`], from this row on.
async fn writes_from(delta: &Delta, first: i64) -> (Vec<i64>, Result<()>) {
    let (acknowledgements, mut heard) = Acknowledgements::channel();
    let result = async {
        delta.check().await?;
        let mut session = delta.open(opening(acknowledgements)).await?.session;
        for id in first..first + 3 {
            session.write(write(id)).await?;
            session.flush().await?;
        }
        session.close().await
    }
    .await;
    let mut acknowledged = Vec::new();
    while let Ok(Acknowledgement::Through { id, .. }) = heard.try_recv() {
        acknowledged.push(id as i64);
    }
    (acknowledged, result)
}

/// The rows of the table, by other code than wrote it; none if there is no table.
async fn rows_in(files: &BTreeMap<PathBuf, Vec<u8>>) -> std::result::Result<Vec<i64>, String> {
    let home = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = home.path().join(path.strip_prefix("/").unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let table = home.path().join(TABLE.trim_start_matches('/'));
    if !table.join("_delta_log/00000000000000000000.json").exists() {
        return Ok(Vec::new());
    }
    let url = url::Url::from_directory_path(&table).unwrap();
    let read = deltalake_core::DeltaTableBuilder::from_url(url)
        .unwrap()
        .load()
        .await
        .map_err(|error| error.to_string())?;
    let mut ids = Vec::new();
    for file in read.get_file_uris().map_err(|error| error.to_string())? {
        let bytes = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).map_err(|e| e.to_string())?;
        for batch in reader.build().map_err(|error| error.to_string())? {
            let batch = batch.map_err(|error| error.to_string())?;
            ids.extend(
                batch
                    .column_by_name("id")
                    .unwrap()
                    .as_primitive::<Int64Type>()
                    .values()
                    .iter(),
            );
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

async fn holds(disk: &Simulated, acknowledged: &[i64], what: &str) {
    let mut seen: Vec<BTreeMap<PathBuf, Vec<u8>>> = Vec::new();
    for seed in 0..12 {
        let files = disk.after_power_cut(seed).files();
        if seen.contains(&files) {
            continue;
        }
        let story = || disk.story().join("\n");
        let ids = rows_in(&files)
            .await
            .unwrap_or_else(|error| panic!("{what}, seed {seed}: {error}\n{}", story()));
        let mut once = ids.clone();
        once.dedup();
        assert_eq!(once, ids, "{what}, seed {seed}: twice\n{}", story());
        assert!(
            acknowledged.iter().all(|id| ids.contains(id)),
            "{what}, seed {seed}: {acknowledged:?} were acknowledged, {ids:?} are there\n{}",
            story()
        );
        seen.push(files);
    }
}

fn plans() -> [serde_json::Value; 2] {
    [json!({}), json!({"delta": {"partitionBy": ["key"]}})]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_cut_after_every_call() {
    for options in plans() {
        let whole = Simulated::with(&["/lake"]);
        let (acknowledged, result) = writes(&delta_on(&whole, &options)).await;
        result.unwrap();
        assert_eq!(acknowledged, [0, 1, 2]);
        assert_eq!(rows_in(&whole.files()).await.unwrap(), [0, 1, 2]);
        for calls in 0..=whole.calls() {
            let disk = Simulated::with(&["/lake"]);
            disk.lasts(calls);
            let (acknowledged, _) = writes(&delta_on(&disk, &options)).await;
            holds(&disk, &acknowledged, &format!("{options}: after {calls} calls")).await;
        }
    }
}

/// Also where the file system has no links, and names are given by renames.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_by_rename_survives_as_one_by_link_does() {
    let whole = Simulated::with(&["/lake"]);
    whole.fail(Call::Link, 0, usize::MAX, EPERM);
    let (acknowledged, result) = writes(&delta_on(&whole, &json!({}))).await;
    result.unwrap();
    assert_eq!(acknowledged, [0, 1, 2]);
    for calls in (0..=whole.calls()).step_by(2) {
        let disk = Simulated::with(&["/lake"]);
        disk.fail(Call::Link, 0, usize::MAX, EPERM);
        disk.lasts(calls);
        let (acknowledged, _) = writes(&delta_on(&disk, &json!({}))).await;
        holds(&disk, &acknowledged, &format!("after {calls} calls")).await;
    }
}

/// Each call fails once, with an error of the disk and for want of space: nothing that was acknowledged is lost
/// by a power cut afterwards, and what was not synced is not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_costs_no_acknowledged_row() {
    let calls = [
        Call::Create,
        Call::Write,
        Call::Sync,
        Call::Link,
        Call::Unlink,
        Call::CreateDirectory,
        Call::SyncDirectory,
    ];
    for call in calls {
        for (nth, options) in (0..8).flat_map(|nth| plans().map(|options| (nth, options))) {
            let errno = if nth % 2 == 0 { EIO } else { ENOSPC };
            let disk = Simulated::with(&["/lake"]);
            disk.write_short();
            disk.fail(call, nth, 1, errno);
            let delta = delta_on(&disk, &options);
            let mut acknowledged = Vec::new();
            // The client goes on, as the transmitter does: what failed once works at the next try.
            for first in [0, 10] {
                let (more, result) = writes_from(&delta, first).await;
                acknowledged.extend(more);
                if let Err(error) = &result {
                    assert_ne!(error.code(), Code::TableCorrupt, "{call:?} {nth}: {error}");
                }
                holds(
                    &disk,
                    &acknowledged,
                    &format!("{options}: {call:?} {nth}, from {first}"),
                )
                .await;
            }
        }
    }
}

/// who made the table's directory may have ended before its name was synced.
#[tokio::test(flavor = "multi_thread")]
async fn directories_that_another_process_made_are_synced_before_an_acknowledgement() {
    for options in plans() {
        let disk = Simulated::with(&["/lake"]);
        crate::file_system::make_directories(&disk, &FsPath::new(TABLE).join("_delta_log")).unwrap();
        let (acknowledged, result) = writes(&delta_on(&disk, &options)).await;
        result.unwrap();
        assert_eq!(acknowledged, [0, 1, 2]);
        holds(&disk, &acknowledged, "directories that were there").await;
    }
}

/// a directory that was not opened for want of descriptors was not asked to sync, so it is asked again; one
/// whose sync failed is not, and nothing is acknowledged any more.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_sync_that_failed_poisons_the_table() {
    for (errno, goes_on) in [(EMFILE, true), (EIO, false)] {
        for nth in 0..3 {
            let disk = Simulated::with(&["/lake"]);
            let delta = delta_on(&disk, &json!({}));
            writes(&delta).await.1.unwrap();
            disk.fail_within("table", Call::SyncDirectory, 1 + 2 * nth, 1, errno);
            let (mut acknowledged, result) = writes_from(&delta, 10).await;
            assert!(result.is_err());
            assert_eq!(acknowledged.len(), nth);
            let (more, result) = writes_from(&delta, 20).await;
            assert_eq!((result.is_ok(), delta.location.poisoned()), (goes_on, !goes_on));
            acknowledged.extend(more);
            holds(&disk, &acknowledged, &format!("{errno}, {nth}")).await;
        }
    }
}

/// where nothing can be committed safely it is said at connect, in words, and not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_cannot_keep_the_promise_is_refused_at_connect() {
    let none = Simulated::with(&["/lake"]);
    none.fail(Call::Link, 0, usize::MAX, EPERM);
    none.fail(Call::RenameNew, 0, usize::MAX, EINVAL);
    let unsynced = Simulated::with(&["/lake"]);
    unsynced.fail(Call::SyncDirectory, 0, usize::MAX, ENOSYS);
    for (disk, word) in [(none, "hard links"), (unsynced, "sync a directory")] {
        let error = delta_on(&disk, &json!({})).check().await.unwrap_err();
        assert_eq!(error.code(), Code::Unsupported, "{error}");
        assert_eq!(error.retry_class(), crate::error::RetryClass::Never);
        assert!(
            error.message().contains(word) && error.message().contains(TABLE),
            "{error}"
        );
        assert!(disk.files().is_empty());
    }
    // The log may lie on another file system than was tried: the commit says the same.
    let disk = Simulated::with(&["/lake"]);
    disk.fail_within("_delta_log", Call::Link, 0, usize::MAX, EPERM);
    disk.fail(Call::RenameNew, 0, usize::MAX, EINVAL);
    let (acknowledged, result) = writes(&delta_on(&disk, &json!({}))).await;
    assert_eq!(
        (acknowledged.len(), result.unwrap_err().code()),
        (0, Code::Unsupported)
    );
}

/// After a failed sync of the log nothing is acknowledged any more, whatever the log says.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_of_the_log_poisons_the_table() {
    let disk = Simulated::with(&["/lake"]);
    let delta = delta_on(&disk, &json!({}));
    let (_, result) = writes(&delta).await;
    result.unwrap();
    disk.fail_within("_delta_log", Call::SyncDirectory, 0, 1, EIO);
    let (acknowledged, result) = writes(&delta).await;
    assert_eq!(
        (acknowledged.len(), result.unwrap_err().code()),
        (0, Code::Unavailable)
    );
    assert!(delta.location.poisoned());
    disk.heal();
    assert_eq!(writes(&delta).await.1.unwrap_err().code(), Code::Unavailable);
}

/// Nor by a commit that another writer has outrun just then: its version may be lost, and ours with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_of_the_log_is_not_outlived_by_the_next_version() {
    let disk = Simulated::with(&["/lake"]);
    let delta = delta_on(&disk, &json!({}));
    writes(&delta).await.1.unwrap();
    let mut view = commit::View::default();
    view.catch_up(&delta.location, "app").await.unwrap();
    let plan = {
        let table = view.table.clone().unwrap();
        TableConversion::new(&row(0).schema(), table.schema(), &[], false).unwrap()
    };
    // Another writer takes the next version, and is not seen.
    writes_from(&delta, 10).await.1.unwrap();
    disk.fail_within("_delta_log", Call::SyncDirectory, 0, 1, EIO);
    let append = Append {
        plan: &plan,
        by: &[],
        adds: Vec::new(),
        app: "app",
        first: 1,
        last: 1,
    };
    let failed = commit::commit(&delta.location, &mut view, append).await.err();
    let failed = failed.expect("nothing is acknowledged on a log that may be lost");
    assert!(failed.may_land && failed.error.code() == Code::Unavailable);
}

/// Nor by a commit beside which something else, as a checkpoint, failed to sync the directory: what it took
/// along is not known.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_failed_beside_a_commit_is_not_overlooked() {
    let disk = Simulated::with(&["/lake"]);
    let delta = delta_on(&disk, &json!({}));
    writes(&delta).await.1.unwrap();
    let (acknowledgements, mut heard) = Acknowledgements::channel();
    let mut session = delta.open(opening(acknowledgements)).await.unwrap().session;
    session.write(write(10)).await.unwrap();
    disk.fail_within("_delta_log", Call::SyncDirectory, 0, 1, EIO);
    let log = FsPath::new(TABLE).join("_delta_log");
    delta.location.sync_directories(&[log]).unwrap_err();
    let error = session.flush().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.is_ambiguous() && heard.try_recv().is_err());
}

/// A checkpoint has its name when it is whole and synced: readers find it by listing.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_whole_or_not_there() {
    // Of a table that is there: its directories are durable before its first rows are acknowledged.
    let log = format!("{TABLE}/_delta_log");
    let at = Path::parse(format!(
        "{TABLE}/_delta_log/00000000000000000001.checkpoint.parquet"
    ))
    .unwrap();
    let upload = async |disk: &Simulated| {
        let over: Arc<dyn crate::file_system::Disk> = Arc::new(disk.clone());
        let store = Synced::new(Arc::new(View(disk.clone())), over, Arc::default());
        let mut upload = store.put_multipart(&at).await?;
        let (one, two) = (
            upload.put_part(vec![1; 3000].into()),
            upload.put_part(vec![2; 3000].into()),
        );
        // Parts arrive in any order.
        two.await?;
        one.await?;
        upload.complete().await
    };
    let whole = Simulated::with(&[&log]);
    upload(&whole).await.unwrap();
    let expected = [vec![1; 3000], vec![2; 3000]].concat();
    let path = FsPath::new("/").join(at.as_ref());
    assert_eq!(whole.files().get(&path), Some(&expected));
    for calls in 0..=whole.calls() {
        let disk = Simulated::with(&[&log]);
        disk.lasts(calls);
        let result = upload(&disk).await;
        for seed in 0..20 {
            let files = disk.after_power_cut(seed).files();
            match files.get(&path) {
                Some(bytes) => assert_eq!(bytes, &expected, "after {calls} calls, seed {seed}"),
                None => assert!(result.is_err(), "after {calls} calls, seed {seed}"),
            }
        }
    }
}
