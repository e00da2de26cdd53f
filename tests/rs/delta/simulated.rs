//! An object store in memory that answers late, loses answers, lands late, refuses, and cuts bodies short: as it
//! is told to, call by call.
//!
//! A version of the log is the same for everybody and for good, as with every store that has conditional puts:
//! a request that lands late is still conditional.

#![allow(dead_code)] // Each test binary uses its own part.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is carried out, and the answer is lost.
    Answer,
    /// It is not carried out, and nobody can tell.
    Request,
    /// The answer is lost, and it is carried out so many calls later.
    Late(usize),
    /// It is not carried out, and the store says so: no right to do it.
    Refused,
    /// The store is too busy, and says so.
    Busy,
    /// It is not carried out: the store is deciding between two requests.
    Taken,
    /// A body that breaks off after a half, with an error.
    Reset,
    /// A body that ends after a half, as if that were all.
    Short,
    /// It is carried out and answered after so many milliseconds.
    Slow(u64),
    /// As `Request`, and whatever is asked next waits until the store is back.
    Gone,
}

/// Kinds of calls, each with faults of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Puts of versions of the log.
    Commit,
    /// All other puts: data files, checkpoints, pointers.
    Put,
    Get,
    /// Of whether an object is there.
    Head,
    List,
}

#[derive(Default)]
struct State {
    faults: BTreeMap<Op, VecDeque<Fault>>,
    calls: BTreeMap<Op, usize>,
    /// Requests under way, each with the number of calls until it arrives.
    under_way: Vec<(usize, Path, PutPayload, PutOptions)>,
    is_gone: bool,
    back: Arc<Notify>,
}

#[derive(Clone, Default)]
pub struct Simulated {
    pub held: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

impl Simulated {
    /// What becomes of the next calls of a kind.
    pub fn faults(&self, op: Op, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.entry(op).or_default().extend(faults);
    }

    /// No more faults than have happened.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Calls of a kind since the last time that this was asked.
    pub fn count(&self, op: Op) -> usize {
        self.state().calls.insert(op, 0).unwrap_or_default()
    }

    /// The end of [`Fault::Gone`].
    pub fn back(&self) {
        let mut state = self.state();
        state.is_gone = false;
        state.back.notify_waiters();
    }

    async fn is_there(&self) {
        loop {
            let back = Arc::clone(&self.state().back);
            let mut news = pin!(back.notified());
            news.as_mut().enable();
            if !self.state().is_gone {
                return;
            }
            news.await;
        }
    }

    pub fn is_under_way(&self) -> bool {
        !self.state().under_way.is_empty()
    }

    /// Whatever is under way arrives.
    pub async fn land(&self) {
        let arriving = std::mem::take(&mut self.state().under_way);
        for (_, at, payload, options) in arriving {
            // Who is too late is told so, and nobody hears it.
            let _ = self.held.put_opts(&at, payload, options).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn begin(&self, op: Op) -> Fault {
        self.is_there().await;
        let (fault, arriving) = {
            let mut state = self.state();
            *state.calls.entry(op).or_default() += 1;
            let mut arriving = Vec::new();
            for mut request in std::mem::take(&mut state.under_way) {
                match request.0 {
                    0 => arriving.push(request),
                    _ => {
                        request.0 -= 1;
                        state.under_way.push(request);
                    }
                }
            }
            let faults = state.faults.entry(op).or_default();
            let fault = faults.pop_front().unwrap_or(Fault::None);
            state.is_gone |= fault == Fault::Gone;
            (fault, arriving)
        };
        for (_, at, payload, options) in arriving {
            let _ = self.held.put_opts(&at, payload, options).await;
        }
        if let Fault::Slow(millis) = fault {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        fault
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

fn lost() -> Error {
    Error::Generic {
        store: "simulated",
        source: "the connection was reset".into(),
    }
}

fn refused(at: &Path) -> Error {
    Error::PermissionDenied {
        path: at.to_string(),
        source: "status code: 403 Forbidden".into(),
    }
}

fn busy() -> Error {
    Error::Generic {
        store: "simulated",
        source: "status code: 503 Service Unavailable: SlowDown".into(),
    }
}

#[async_trait]
impl ObjectStore for Simulated {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_commit = at.as_ref().contains("_delta_log/") && at.as_ref().ends_with(".json");
        match self.begin(if is_commit { Op::Commit } else { Op::Put }).await {
            Fault::Answer => {
                let _ = self.held.put_opts(at, payload, options).await;
                Err(lost())
            }
            Fault::Late(calls) => {
                let request = (calls, at.clone(), payload, options);
                self.state().under_way.push(request);
                Err(lost())
            }
            Fault::Refused => Err(refused(at)),
            Fault::Busy => Err(busy()),
            Fault::Taken => Err(Error::AlreadyExists {
                path: at.to_string(),
                source: "status code: 409 ConditionalRequestConflict".into(),
            }),
            Fault::Request | Fault::Reset | Fault::Short | Fault::Gone => Err(lost()),
            Fault::None | Fault::Slow(_) => self.held.put_opts(at, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.begin(Op::Put).await {
            Fault::None | Fault::Slow(_) => self.held.put_multipart_opts(at, options).await,
            Fault::Refused => Err(refused(at)),
            Fault::Busy => Err(busy()),
            _ => Err(lost()),
        }
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.begin(if options.head { Op::Head } else { Op::Get }).await;
        match fault {
            Fault::None | Fault::Slow(_) => return self.held.get_opts(at, options).await,
            Fault::Refused => return Err(refused(at)),
            Fault::Busy => return Err(busy()),
            Fault::Answer | Fault::Request | Fault::Late(_) | Fault::Taken | Fault::Gone => {
                return Err(lost());
            }
            Fault::Reset | Fault::Short => {}
        }
        let got = self.held.get_opts(at, options).await?;
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let bytes = got.bytes().await?;
        let mut body: Vec<Result<Bytes>> = vec![Ok(bytes.slice(..bytes.len() / 2))];
        if fault == Fault::Reset {
            body.push(Err(lost()));
        }
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::iter(body).boxed()),
            meta,
            range,
            attributes,
        })
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.held.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let own = self.clone();
        let prefix = prefix.cloned();
        let entries = async move {
            let fault = own.begin(Op::List).await;
            let error = match fault {
                Fault::None | Fault::Slow(_) => return own.held.list(prefix.as_ref()),
                Fault::Refused => refused(&Path::from("")),
                Fault::Busy => busy(),
                _ => lost(),
            };
            // Half of a page came, and nobody may take it for the whole.
            let half: Vec<_> = own.held.list(prefix.as_ref()).take(1).collect().await;
            futures::stream::iter(half.into_iter().chain([Err(error)])).boxed()
        };
        entries.into_stream().flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.held.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.held.copy_opts(from, to, options).await
    }
}
