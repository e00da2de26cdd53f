//! Commits whose answer is lost: through a store that does what it is told and then says it failed.

use std::fmt;
use std::sync::Mutex;

use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use bytes::Bytes;
use deltalake_core::logstore::{StorageConfig, default_logstore};
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::*;

/// What goes wrong with the next commit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// It lands and the answer is lost.
    Answer,
    /// It does not land, and nobody can tell.
    Request,
    /// As `Answer`, and then the log cannot be read.
    AnswerAndReads,
}

#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn ObjectStore>,
    fault: Arc<Mutex<Fault>>,
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flaky")
    }
}

fn lost() -> object_store::Error {
    object_store::Error::Generic {
        store: "flaky",
        source: "the connection was reset".into(),
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::Request {
            return Err(lost());
        }
        let result = self.inner.put_opts(at, payload, opts).await;
        if fault == Fault::None { result } else { Err(lost()) }
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(at, options).await
    }
    async fn get_ranges(&self, at: &Path, ranges: &[std::ops::Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.inner.get_ranges(at, ranges).await
    }
    fn delete_stream(
        &self,
        at: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(at)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        if *self.fault.lock().unwrap() == Fault::AnswerAndReads && prefix.is_some() {
            // After the commit, not before it: the commit itself looks for the latest version elsewhere.
            return futures::stream::iter([Err(lost())]).boxed();
        }
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

struct Bench {
    home: tempfile::TempDir,
    location: Location,
    fault: Arc<Mutex<Fault>>,
    plan: Plan,
}

async fn bench() -> Bench {
    let home = tempfile::tempdir().unwrap();
    let target = format!("delta:{}", home.path().display());
    let mut location = Location::parse(&target, &Default::default()).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let columns = super::super::types::table_schema(&schema).unwrap();
    create(&location, columns.clone(), &[]).await.unwrap();
    let fault = Arc::new(Mutex::new(Fault::None));
    let prefix = Path::from_url_path(location.url.path()).unwrap();
    let root: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
    let flaky = Flaky {
        inner: Arc::new(PrefixStore::new(Arc::clone(&root), prefix)),
        fault: Arc::clone(&fault),
    };
    location.log = default_logstore(Arc::new(flaky), root, &location.url, &StorageConfig::default());
    Bench {
        home,
        location,
        fault,
        plan: Plan::new(&schema, &StructType::try_new(columns).unwrap(), false).unwrap(),
    }
}

impl Bench {
    async fn commit(
        &self,
        state: &mut Option<DeltaTableState>,
        id: u64,
    ) -> std::result::Result<Landed, Failed> {
        let add = Add {
            path: format!("{id}.parquet"),
            data_change: true,
            ..Add::default()
        };
        commit(&self.location, state, &self.plan, vec![add], "app", id).await
    }

    fn versions(&self) -> usize {
        std::fs::read_dir(self.home.path().join("_delta_log"))
            .unwrap()
            .count()
    }
}

/// the answer was lost and the commit was not; the log says so, and nothing is written twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_settled_by_reading_the_log() {
    let bench = bench().await;
    let mut state = None;
    assert_eq!(
        bench
            .commit(&mut state, 1)
            .await
            .ok()
            .and_then(|landed| landed.version),
        Some(1)
    );
    *bench.fault.lock().unwrap() = Fault::Answer;
    let landed = bench.commit(&mut state, 2).await.ok().unwrap();
    assert_eq!(landed.version, Some(2));
    assert_eq!(bench.versions(), 3);
    // And the one after it goes on from there.
    *bench.fault.lock().unwrap() = Fault::None;
    assert_eq!(
        bench
            .commit(&mut state, 3)
            .await
            .ok()
            .and_then(|landed| landed.version),
        Some(3)
    );
}

/// A log that could not be synced is not believed, whatever it says.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_after_a_failed_sync_of_the_log() {
    let mut bench = bench().await;
    let (url, local) = (bench.location.url.clone(), bench.location.local.clone());
    let poisoned = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let log = Arc::clone(&bench.location.log);
    bench.location = Location::over(
        url,
        log.root_object_store(None),
        local,
        Default::default(),
        poisoned,
    )
    .unwrap();
    bench.location.log = log;
    *bench.fault.lock().unwrap() = Fault::Answer;
    let failed = bench.commit(&mut None, 1).await.err().unwrap();
    assert!(failed.may_land && failed.error.is_ambiguous());
    assert_eq!(bench.versions(), 2);
}

/// On a local disk a commit that is not in the log will never be; in a store it may be under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_did_not_land_is_an_error() {
    let mut bench = bench().await;
    *bench.fault.lock().unwrap() = Fault::Request;
    let failed = bench.commit(&mut None, 1).await.err().unwrap();
    assert_eq!(failed.error.code(), Code::Unavailable);
    assert!(!failed.may_land && !failed.error.is_ambiguous());
    bench.location.local = None;
    let failed = bench.commit(&mut None, 1).await.err().unwrap();
    assert!(failed.may_land);
    assert_eq!(bench.versions(), 1);
}

/// If the log cannot be asked either, the outcome is unknown, and the files must stay.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_settled_is_ambiguous() {
    let bench = bench().await;
    let mut state = load(&bench.location).await.unwrap();
    *bench.fault.lock().unwrap() = Fault::AnswerAndReads;
    let failed = bench.commit(&mut state, 1).await.err().unwrap();
    assert!(failed.may_land && failed.error.is_ambiguous());
    *bench.fault.lock().unwrap() = Fault::None;
    let now = load(&bench.location).await.unwrap().unwrap();
    assert_eq!(
        landed(&bench.location, &now, "app").await.unwrap(),
        Some((1, Some(1)))
    );
}

/// Two writers widen the table at once: both columns are there afterwards, and neither is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_wider_schema_is_agreed_on_by_all_writers() {
    let bench = bench().await;
    let column = |name: &str| {
        vec![StructField::nullable(
            name,
            deltalake_core::kernel::DataType::LONG,
        )]
    };
    let stale = load(&bench.location).await.unwrap().unwrap();
    widen(&bench.location, stale.clone(), &column("a")).await.unwrap();
    let state = widen(&bench.location, stale.clone(), &column("b")).await.unwrap();
    assert_eq!(state.schema().field_names().collect::<Vec<_>>(), ["id", "a", "b"]);
    *bench.fault.lock().unwrap() = Fault::Request;
    let failed = widen(&bench.location, state, &column("c")).await.err().unwrap();
    assert_eq!(failed.code(), Code::Unavailable);
    // Who commits with what was read before all that is told of it by the log, and goes on.
    *bench.fault.lock().unwrap() = Fault::None;
    assert!(bench.commit(&mut Some(stale), 1).await.is_ok());
}

/// A table that cannot be created is an error with the store's own class.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_created_is_said_so() {
    let bench = bench().await;
    std::fs::remove_dir_all(bench.home.path().join("_delta_log")).unwrap();
    *bench.fault.lock().unwrap() = Fault::Request;
    let column = vec![StructField::nullable(
        "id",
        deltalake_core::kernel::DataType::LONG,
    )];
    let failed = create(&bench.location, column, &[]).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    let gone = bench.commit(&mut None, 1).await.err().unwrap();
    assert_eq!(gone.error.code(), Code::NotFound);
}
