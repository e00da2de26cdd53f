//! What the program around the transmitter is asked: for headers, and whether to try again.
//!
//! Traits and their words alone. Who asks, how often, and how long an answer may take stand elsewhere:
//! `destination/headers.rs` for headers, `transmitter/sessions/question.rs` for tries.

use std::fmt;

use async_trait::async_trait;

use crate::error::{Error, Result};

/// Why headers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadersReason {
    /// A connection is about to be made.
    Connect,
    /// The server took the last ones for expired or wrong.
    Unauthenticated,
}

impl HeadersReason {
    /// The reason as users see it.
    pub fn as_str(self) -> &'static str {
        match self {
            HeadersReason::Connect => "connect",
            HeadersReason::Unauthenticated => "unauthenticated",
        }
    }
}

/// Somebody who knows headers that change, such as a token.
#[async_trait]
pub trait HeaderProvider: Send + Sync {
    /// # Errors
    /// Whatever the provider says; `UNAUTHENTICATED` if there are no credentials to be had.
    async fn headers(&self, reason: HeadersReason) -> Result<Vec<(String, String)>>;
}

impl fmt::Debug for dyn HeaderProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderProvider")
    }
}

/// Decides whether a failed write is worth another try.
///
/// It is asked only where the retry class and the limits allow another try: it can end what would go on,
/// and cannot make go on what has ended.
#[async_trait]
pub trait RetryPredicate: Send + Sync {
    /// Whether to try again after this error, which says how often and for how long it was tried.
    ///
    /// # Errors
    /// What kept it from saying yes or no: the retry class decides then.
    async fn allows(&self, error: &Error) -> Result<bool>;
}

impl fmt::Debug for dyn RetryPredicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryPredicate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words are those of `HeadersRequest` in the types of TypeScript.
    #[test]
    fn reasons_have_the_words_that_users_see() {
        assert_eq!(HeadersReason::Connect.as_str(), "connect");
        assert_eq!(HeadersReason::Unauthenticated.as_str(), "unauthenticated");
    }
}
