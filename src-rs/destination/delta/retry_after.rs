//! When an object store wants to be asked again.
//!
//! Invariants:
//! - What one answer asks for holds for every request to that store: its limits are those of an account,
//!   not of a request.
//! - A short pause is waited out here. A longer pause is an error with the time, and the transmitter waits.
//!
//! object_store keeps statuses and bodies of answers and drops their headers, so they are read below it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::HeaderMap;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// What is waited out without a word.
const SHORT: Duration = Duration::from_secs(2);
/// Nobody means more than this by it.
const LONGEST: Duration = Duration::from_secs(3600);

/// The store's word on when to come back, shared by all requests to it.
#[derive(Clone, Debug, Default)]
pub struct RetryAfter(Arc<Mutex<Option<Instant>>>);

impl RetryAfter {
    /// How long the store still wants to be left alone.
    pub fn pause(&self) -> Option<Duration> {
        let until = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(until.saturating_duration_since(Instant::now())).filter(|pause| !pause.is_zero())
    }

    fn hear(&self, status: http::StatusCode, headers: &HeaderMap) {
        if status.is_success() {
            return;
        }
        if let Some(pause) = asked(headers) {
            let until = Instant::now() + pause.min(LONGEST);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }
}

/// `Retry-After` in seconds, and Azure's finer one. A date would need the store's clock to be ours.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    number("x-ms-retry-after-ms")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
}

/// A request that was not sent, because the store has asked for more patience than it is worth waiting here.
#[derive(Debug)]
pub struct Pause(pub Duration);

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store asked to be left alone for {:?} more", self.0)
    }
}

impl std::error::Error for Pause {}

/// Makes the clients of a store, which keep its retry_after.
#[derive(Debug)]
pub struct StoreConnector(pub RetryAfter);

impl HttpConnector for StoreConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Paced {
            inner: ReqwestConnector::default().connect(options)?,
            retry_after: self.0.clone(),
        }))
    }
}

#[derive(Debug)]
struct Paced {
    inner: HttpClient,
    retry_after: RetryAfter,
}

#[async_trait]
impl HttpService for Paced {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        while let Some(pause) = self.retry_after.pause() {
            if pause > SHORT {
                return Err(HttpError::new(HttpErrorKind::Unknown, Pause(pause)));
            }
            tokio::time::sleep(pause).await;
        }
        let response = self.inner.execute(request).await?;
        self.retry_after.hear(response.status(), response.headers());
        Ok(response)
    }
}
