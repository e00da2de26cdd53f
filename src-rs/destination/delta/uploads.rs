//! An object store whose uploads in parts are taken back when they are given up.
//!
//! Invariants:
//! - An upload in parts is completed, or aborted as soon as nobody holds it any more: stores keep the parts of one
//!   that is neither for ever, unseen by a vacuum and paid for. (A process that is killed leaves them; a rule of
//!   the bucket can remove them.)
//! - Everything else is the store's own.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::runtime::Handle;

#[derive(Debug)]
pub struct AbortsUploads(pub Arc<dyn ObjectStore>);

impl fmt::Display for AbortsUploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for AbortsUploads {
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.0.put_multipart_opts(location, opts).await?;
        Ok(Box::new(Upload {
            upload: Some(upload),
            runtime: Handle::current(),
        }))
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload {
    /// None once it is completed or aborted.
    upload: Option<Box<dyn MultipartUpload>>,
    runtime: Handle,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match &mut self.upload {
            Some(upload) => upload.put_part(data),
            None => Box::pin(async { Err(ended()) }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        // Held here until it is known: who gives up in the midst of it, or gets no answer, leaves it to be aborted,
        // which is nothing where it was completed.
        let completed = self.upload.as_mut().ok_or_else(ended)?.complete().await?;
        self.upload = None;
        Ok(completed)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.take().ok_or_else(ended)?.abort().await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            // Best effort: who drops it does not wait.
            self.runtime.spawn(async move { upload.abort().await });
        }
    }
}

fn ended() -> Error {
    Error::Generic {
        store: "upload",
        source: "the upload has ended".into(),
    }
}
