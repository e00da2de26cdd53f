//! Asking the user's retry predicate about writes that failed.
//!
//! Invariants:
//! - Asked are only tries that the retry class and the limits allow; the answers can only end them.
//! - A question that is not answered, in time or at all, is answered by the retry class: yes.
//! - The predicate is asked once about all writes that were tried equally often: the number of tries is all by
//!   which it can tell them apart.
//!
//! It counts no tries and keeps no delay: `writes` and `backoff` do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::callbacks::RetryPredicate;
use crate::error::{Code, Error, Result};
use crate::transmitter::rows::EquallyTried;

/// What is asked after one failure.
pub struct RetryQuestion {
    /// When the next try is due.
    due: Instant,
    /// When an answer is no longer waited for.
    patience: Instant,
    error: Error,
    /// Ids of writes, by question.
    unanswered: Vec<Vec<u64>>,
    warned: bool,
    /// Dropped, it asks no more.
    #[allow(dead_code)]
    asking: JoinSet<()>,
}

/// What an answer comes to.
pub enum RetryAnswer {
    /// Nothing changes.
    Allowed,
    /// These writes are not tried again after this error.
    Denied(Vec<u64>, Error),
    /// The predicate gave no verdict, which is to be said once for each failure.
    Unusable(Error),
}

/// A question that nobody waits for any more.
pub struct QuestionOver {
    pub due: Instant,
    /// Why the predicate has not answered, if that was not said yet.
    pub problem: Option<Error>,
}

impl RetryQuestion {
    /// Asks about each group. `reply_for` gives where the answer about the group of this oldest write goes.
    pub fn ask<R: FnOnce(Result<bool>) + Send + 'static>(
        due: Instant,
        patience: Instant,
        error: Error,
        tried: Vec<EquallyTried>,
        predicate: &Arc<dyn RetryPredicate>,
        reply_for: impl Fn(u64) -> R,
    ) -> RetryQuestion {
        let mut unanswered = Vec::with_capacity(tried.len());
        let mut asking = JoinSet::new();
        for EquallyTried { ids, error } in tried {
            let reply = reply_for(ids[0]);
            let predicate = Arc::clone(predicate);
            asking.spawn(async move { reply(predicate.allows(&error).await) });
            unanswered.push(ids);
        }
        RetryQuestion {
            due,
            patience,
            error,
            unanswered,
            warned: false,
            asking,
        }
    }

    /// An answer about the group of which `oldest` is the oldest write.
    pub fn answered(&mut self, oldest: u64, answer: Result<bool>) -> RetryAnswer {
        let about = |ids: &Vec<u64>| ids[0] == oldest;
        let Some(index) = self.unanswered.iter().position(about) else {
            return RetryAnswer::Allowed;
        };
        let ids = self.unanswered.remove(index);
        match answer {
            Ok(false) => RetryAnswer::Denied(ids, self.error.clone()),
            Err(problem) if !std::mem::replace(&mut self.warned, true) => RetryAnswer::Unusable(problem),
            Ok(true) | Err(_) => RetryAnswer::Allowed,
        }
    }

    pub fn patience(&self) -> Instant {
        self.patience
    }

    /// When the next try is due, and the error before it.
    pub fn subject(&self) -> (Instant, Error) {
        (self.due, self.error.clone())
    }

    /// Whether all is answered that still matters, or the patience is over.
    pub fn is_over(
        &mut self,
        now: Instant,
        is_here: impl Fn(u64) -> bool,
        patience: Duration,
    ) -> Option<QuestionOver> {
        // An answer about what is gone would hold up all others, and be told as if it mattered.
        self.unanswered.retain(|ids| ids.iter().any(|id| is_here(*id)));
        let moot = self.unanswered.is_empty();
        if !moot && self.patience > now {
            return None;
        }
        let late = !moot && !self.warned;
        Some(QuestionOver {
            due: self.due,
            problem: late.then(|| {
                let text = format!("no answer within {patience:?}");
                Error::new(Code::DeadlineExceeded, text).during("retry.when")
            }),
        })
    }
}
