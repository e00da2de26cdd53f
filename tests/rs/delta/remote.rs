//! A table in an object store, which here is memory: files are uploaded, and go when nobody wants them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use serde_json::json;
use uuid::Uuid;

use super::*;

fn delta<S: ObjectStore>(store: &Arc<S>, options: serde_json::Value, poisoned: bool) -> Delta {
    let url = url::Url::parse("memory:///table/").unwrap();
    let poisoned = Arc::new(AtomicBool::new(poisoned));
    let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
    let location = Location::over(url, store, None, Default::default(), poisoned).unwrap();
    Delta::over(location, Config::from_json(&options).unwrap())
}

/// Rows that do not compress.
fn rows(from: i64, to: i64) -> RecordBatch {
    const ODD: i64 = 0x1E37_79B9_7F4A_7C15;
    let keys = StringArray::from_iter_values((from..to).map(|id| format!("k{}", id % 3)));
    let ids = Int64Array::from_iter_values((from..to).map(|id| id.wrapping_mul(ODD)));
    let columns: Vec<(&str, ArrayRef, bool)> =
        vec![("id", Arc::new(ids), true), ("key", Arc::new(keys), true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

async fn open(
    delta: &Delta,
) -> (
    Box<dyn Session>,
    tokio::sync::mpsc::UnboundedReceiver<Acknowledgement>,
) {
    let (acknowledgements, heard) = Acknowledgements::channel();
    let opening = Opening {
        epochs: None,
        schema: rows(0, 1).schema(),
        producer: Uuid::new_v4(),
        resume_from: None,
        acknowledgements,
    };
    (delta.open(opening).await.unwrap().session, heard)
}

async fn write(session: &mut dyn Session, id: u64, batch: RecordBatch) {
    let write = Write {
        positions: Vec::new(),
        id,
        rows: batch.num_rows(),
        bytes: batch.get_array_memory_size(),
        batches: vec![batch],
    };
    session.write(Arc::new(write)).await.unwrap();
}

async fn parquet_files(store: &InMemory) -> Vec<object_store::ObjectMeta> {
    let all: Vec<_> = store.list(None).try_collect().await.unwrap();
    all.into_iter()
        .filter(|file| file.location.as_ref().ends_with(".parquet"))
        .collect()
}

/// the same session writes to an object store; the log's sizes are those of the objects.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_a_store_is_written_like_a_local_one() {
    // Of the first, a row group is uploaded before the file ends.
    for (options, count) in [
        (json!({"delta": {"compression": "none"}}), 1_100_000),
        (json!({"delta": {"partitionBy": ["key"]}}), 100_000),
    ] {
        let store = Arc::new(InMemory::new());
        let delta = delta(&store, options.clone(), false);
        delta.check().await.unwrap();
        let (mut session, mut heard) = open(&delta).await;
        write(session.as_mut(), 0, rows(0, count)).await;
        session.flush().await.unwrap();
        let Ok(Acknowledgement::Through { id: 0, position }) = heard.try_recv() else {
            panic!("not acknowledged");
        };
        assert_eq!(position, Position::Version(1));
        let commit = log::read_commit(&delta.location, 1).await.unwrap().unwrap();
        let actions = commit.split(|byte| *byte == b'\n').map(serde_json::from_slice);
        let actions: Vec<serde_json::Value> = actions.collect::<Result<_, _>>().unwrap();
        let logged: i64 = actions
            .iter()
            .filter_map(|action| action["add"]["size"].as_i64())
            .sum();
        let stored: u64 = parquet_files(&store).await.iter().map(|file| file.size).sum();
        assert_eq!(u64::try_from(logged).unwrap(), stored);
        session.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_commit_took_is_deleted_from_the_store() {
    let store = Arc::new(InMemory::new());
    let delta = delta(&store, json!({"delta": {"targetFileSize": "10KB"}}), false);
    let (mut session, _heard) = open(&delta).await;
    write(session.as_mut(), 0, rows(0, 20_000)).await;
    let start = Instant::now();
    while parquet_files(&store).await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "no file was finished");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(session);
    while !parquet_files(&store).await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "files were left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Counts the files that are put at once, and what becomes of uploads in parts.
#[derive(Debug, Default)]
struct Counting {
    inner: InMemory,
    now: AtomicUsize,
    most: AtomicUsize,
    uploads: Arc<Uploads>,
}

#[derive(Debug, Default)]
struct Uploads {
    begun: AtomicUsize,
    completed: AtomicUsize,
    aborted: AtomicUsize,
    /// Parts that are taken; the ones after these fail.
    parts: AtomicUsize,
}

impl Uploads {
    fn taking(parts: usize) -> Arc<Uploads> {
        let uploads = Uploads::default();
        uploads.parts.store(parts, Ordering::SeqCst);
        Arc::new(uploads)
    }

    fn counts(&self) -> [usize; 3] {
        [&self.begun, &self.completed, &self.aborted].map(|count| count.load(Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct Counted(Box<dyn MultipartUpload>, Arc<Uploads>);

#[async_trait]
impl MultipartUpload for Counted {
    fn put_part(&mut self, data: PutPayload) -> object_store::UploadPart {
        let before = self
            .1
            .parts
            .try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match before {
            Ok(_) => self.0.put_part(data),
            Err(_) => Box::pin(async {
                Err(object_store::Error::Generic {
                    store: "counting",
                    source: "the connection was reset".into(),
                })
            }),
        }
    }
    async fn complete(&mut self) -> StoreResult<PutResult> {
        self.1.completed.fetch_add(1, Ordering::SeqCst);
        self.0.complete().await
    }
    async fn abort(&mut self) -> StoreResult<()> {
        self.1.aborted.fetch_add(1, Ordering::SeqCst);
        self.0.abort().await
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.inner.put_opts(at, payload, opts).await
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.uploads.begun.fetch_add(1, Ordering::SeqCst);
        let upload = self.inner.put_multipart_opts(at, opts).await?;
        Ok(Box::new(Counted(upload, Arc::clone(&self.uploads))))
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(
        &self,
        at: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(at)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// what the files of a commit hold is what its writes held, or nothing is committed and no file stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_lost_a_row_is_none() {
    for options in [json!({}), json!({"delta": {"partitionBy": ["key"]}})] {
        let store = Arc::new(InMemory::new());
        let delta = delta(&store, options, false);
        let (acknowledgements, mut heard) = Acknowledgements::channel();
        let opening = Opening {
            epochs: None,
            schema: rows(0, 1).schema(),
            producer: Uuid::new_v4(),
            resume_from: None,
            acknowledgements,
        };
        let (mut session, ..) = delta.session(opening).await.unwrap();
        write(&mut session, 0, rows(0, 10)).await;
        session.pending.as_mut().unwrap().rows += 1;
        let error = session.flush().await.unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        let text = "11 rows were given and 10 were written";
        assert!(error.message().contains(text), "{error}");
        assert!(heard.try_recv().is_err());
        assert!(log::read_commit(&delta.location, 1).await.unwrap().is_none());
        drop(session);
        let start = Instant::now();
        while !parquet_files(&store).await.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "files were left");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// a store keeps the parts of an upload that is neither completed nor aborted for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_that_is_given_up_is_aborted() {
    // More than a row group of what does not compress, so that parts are on their way before the file ends.
    let large = rows(0, 2_200_000);
    for (parts, flushes) in [(usize::MAX, true), (usize::MAX, false), (1, true)] {
        let store = Arc::new(Counting {
            uploads: Uploads::taking(parts),
            ..Counting::default()
        });
        let delta = delta(&store, json!({"delta": {"compression": "none"}}), false);
        let (mut session, _heard) = open(&delta).await;
        write(session.as_mut(), 0, large.clone()).await;
        let start = Instant::now();
        if flushes {
            assert_eq!(session.flush().await.is_ok(), parts > 1);
        } else {
            while store.uploads.counts()[0] == 0 {
                assert!(start.elapsed() < Duration::from_secs(60), "no upload was begun");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        drop(session);
        loop {
            let [begun, completed, aborted] = store.uploads.counts();
            if begun == 1 && completed + aborted == 1 {
                assert_eq!(completed == 1, flushes && parts > 1);
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "{begun} begun, {completed} completed, {aborted} aborted"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// a commit of many partitions asks a store for a bounded number of uploads at once, and for more than one.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_a_commit_are_bounded() {
    let store = Arc::new(Counting::default());
    let delta = delta(
        &store,
        json!({"delta": {"partitionBy": ["id"], "commitInterval": "1h"}}),
        false,
    );
    let (mut session, _heard) = open(&delta).await;
    write(session.as_mut(), 0, rows(0, 600)).await;
    session.flush().await.unwrap();
    assert_eq!(parquet_files(&store.inner).await.len(), 600);
    let most = store.most.load(Ordering::SeqCst);
    assert!((2..=UPLOADS).contains(&most), "{most} at once");
}

/// After a failed sync of the log the table is not touched again.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_table_is_not_opened() {
    let delta = delta(&Arc::new(InMemory::new()), json!({}), true);
    assert_eq!(delta.check().await.unwrap_err().code(), Code::Unavailable);
}
