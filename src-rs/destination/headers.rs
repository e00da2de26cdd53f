//! Headers that every call to a server carries: those given once, and those asked for.
//!
//! Invariants:
//! - However many calls need headers at once, the provider is asked once: a token endpoint gets one request.
//! - A provider that never answers makes the connection attempt fail after the time-out.
//! - No value is ever part of a message or of `Debug`.
//!
//! It keeps no headers: what was asked for is used for the connection that asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};

use crate::callbacks::{HeaderProvider, HeadersReason};
use crate::config::{Secret, header_fault};
use crate::error::{Code, Error, Result};

type Answer = Result<Vec<(String, String)>>;

/// All headers of one client.
pub struct Headers {
    given: BTreeMap<String, Secret>,
    provider: Option<Arc<dyn HeaderProvider>>,
    patience: Duration,
    /// Weak: a question that nobody waits for any more is forgotten, and so is its answer, which would be an old
    /// one by the time of the next.
    under_way: Mutex<Option<WeakShared<BoxFuture<'static, Answer>>>>,
}

impl Headers {
    pub fn new(
        given: BTreeMap<String, Secret>,
        provider: Option<Arc<dyn HeaderProvider>>,
        patience: Duration,
    ) -> Headers {
        Headers {
            given,
            provider,
            patience,
            under_way: Mutex::new(None),
        }
    }

    /// # Errors
    /// What the provider says; `UNAUTHENTICATED` if it says nothing in time, `CONFIG_INVALID` if it gives what
    /// cannot be sent.
    pub async fn ask(&self, reason: HeadersReason) -> Result<Vec<(String, Secret)>> {
        let mut headers: Vec<(String, Secret)> = self
            .given
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(provider) = &self.provider {
            let asked = self.share(provider, reason).await?;
            for (name, value) in &asked {
                if let Some(fault) = header_fault(name, value) {
                    // A name that is none may be what was to be a value.
                    let name = http::HeaderName::from_bytes(name.as_bytes());
                    let name = name.map_or_else(|_| "a header".into(), |name| format!("the header {name:?}"));
                    let text = format!("{name} that the provider gave {fault}");
                    return Err(Error::new(Code::ConfigInvalid, text).during("headers"));
                }
            }
            // A provider knows better than an option that was written down once.
            headers.retain(|(name, _)| !asked.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
            headers.extend(asked.into_iter().map(|(name, value)| (name, Secret::new(value))));
        }
        Ok(headers)
    }

    async fn share(&self, provider: &Arc<dyn HeaderProvider>, reason: HeadersReason) -> Answer {
        let mine = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let open = under_way.as_ref().and_then(WeakShared::upgrade);
            match open.filter(|answer: &Shared<_>| answer.peek().is_none()) {
                Some(answer) => answer,
                None => {
                    let (provider, patience) = (Arc::clone(provider), self.patience);
                    let answer = async move { ask(provider.as_ref(), reason, patience).await }
                        .boxed()
                        .shared();
                    *under_way = answer.downgrade();
                    answer
                }
            }
        };
        mine.await
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers")
            .field("names", &self.given.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

async fn ask(provider: &dyn HeaderProvider, reason: HeadersReason, patience: Duration) -> Answer {
    match tokio::time::timeout(patience, provider.headers(reason)).await {
        Ok(answer) => answer.map_err(|error| error.during("headers")),
        Err(_) => {
            let text = format!("the headers provider did not answer within {patience:?}");
            Err(Error::new(Code::Unauthenticated, text).during("headers"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counting(AtomicUsize);

    #[async_trait]
    impl HeaderProvider for Counting {
        async fn headers(&self, reason: HeadersReason) -> Answer {
            let turn = self.0.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if reason == HeadersReason::Unauthenticated && turn == 1 {
                std::future::pending::<()>().await;
            }
            Ok(vec![(
                "Authorization".into(),
                format!("{} {turn}", reason.as_str()),
            )])
        }
    }

    fn headers(provider: Arc<Counting>) -> Headers {
        let given = [("authorization", "old"), ("x-team", "ice")];
        let given = given
            .into_iter()
            .map(|(name, value)| (name.to_string(), Secret::new(value)))
            .collect();
        Headers::new(given, Some(provider), Duration::from_secs(1))
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_serves_all_who_wait_and_the_next_is_asked_anew() {
        let provider = Arc::new(Counting(AtomicUsize::new(0)));
        let headers = headers(provider.clone());
        let connect = HeadersReason::Connect;
        let (first, second) = tokio::join!(headers.ask(connect), headers.ask(connect));
        let first = first.unwrap();
        assert_eq!(first, second.unwrap());
        assert_eq!(
            first,
            vec![
                ("x-team".to_string(), Secret::new("ice")),
                ("Authorization".to_string(), Secret::new("connect 0"))
            ]
        );
        let late = headers.ask(HeadersReason::Unauthenticated).await.unwrap_err();
        assert_eq!(late.code(), Code::Unauthenticated);
        assert!(late.message().contains("1s"));
        headers.ask(connect).await.unwrap();
        assert_eq!(provider.0.load(Ordering::SeqCst), 3);
        assert!(!format!("{headers:?} {:?}", first).contains("old"));
        assert_eq!(
            format!("{:?}", provider as Arc<dyn HeaderProvider>),
            "HeaderProvider"
        );
    }
    /// headers are of the moment in which they are used: what somebody asked for who did not wait for the
    /// answer is nobody's.
    #[tokio::test(start_paused = true)]
    async fn a_question_that_was_given_up_is_asked_anew() {
        let provider = Arc::new(Counting(AtomicUsize::new(0)));
        let headers = headers(provider.clone());
        let given_up = headers.ask(HeadersReason::Connect);
        assert!(
            tokio::time::timeout(Duration::from_millis(10), given_up)
                .await
                .is_err()
        );
        for (pause, turn) in [(1, 1), (3_600, 2)] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let answer = headers.ask(HeadersReason::Connect).await.unwrap();
            assert_eq!(answer[1].1, Secret::new(format!("connect {turn}")));
        }
    }
}
