//! Whether to try again, asked of somebody outside.
//!
//! It is asked only where the retry class and the limits allow another try: it can end what would go on,
//! and cannot make go on what has ended. How long an answer may take is the engine's to say.

use std::fmt;

use async_trait::async_trait;

use crate::error::{Error, Result};

/// Somebody with an opinion of their own on what is worth another try.
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
