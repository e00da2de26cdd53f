//! What the engine does while a retry predicate thinks: it waits as after any failure, and for the answers.
//!
//! Invariants:
//! - Asked are only tries that the retry class and the limits allow; the answers can only end them.
//! - A question that is not answered, in time or at all, is answered by the retry class: yes.
//! - No answer is waited for past `retry.deadline` of the oldest delivery.
//! - Nobody is asked about a write that the broken session was not given.
//! - Whatever else becomes of the phase takes the questions with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Engine, Phase, now};
use crate::error::{Code, Error, Result};
use crate::transmitter::session::{Operation, SessionEvent, SessionEventKind};

/// What is asked after one failure: once for all writes that were tried equally often, since that is all
/// that a predicate can tell them apart by.
pub(super) struct RetryQuestion {
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

impl Engine {
    /// The last write that a failure is of. To be called before the window forgets what was taken.
    pub(super) fn tried_through(&self, operation: Operation) -> Option<u64> {
        match operation {
            Operation::Open => self.window.last_id(),
            _ => self.window.last_sent(),
        }
    }

    /// What comes after a failure that may pass: a wait until `due`, and a question if there is somebody to ask.
    pub(super) fn wait_or_ask(&self, due: Instant, error: Error, tried_through: Option<u64>) -> Phase {
        let (Some(predicate), Some(through)) = (&self.retry.predicate, tried_through) else {
            return Phase::Waiting(due);
        };
        let now = now();
        let tried: Vec<_> = self
            .window
            .iter()
            .take_while(|entry| entry.id() <= through)
            .collect();
        let mut unanswered = Vec::new();
        let mut asking = JoinSet::new();
        for equals in tried.chunk_by(|one, next| one.attempts() == next.attempts()) {
            let ids: Vec<u64> = equals.iter().map(|entry| entry.id()).collect();
            let (oldest, session) = (ids[0], self.session_number);
            // The oldest was tried for the longest time.
            let verdict = equals[0].verdict(&error, now);
            let (predicate, events) = (Arc::clone(predicate), self.events.clone());
            asking.spawn(async move {
                let answer = predicate.allows(&verdict).await;
                let kind = SessionEventKind::RetryAnswered { oldest, answer };
                let _ = events.send(SessionEvent { session, kind });
            });
            unanswered.push(ids);
        }
        if unanswered.is_empty() {
            return Phase::Waiting(due);
        }
        Phase::Asking(RetryQuestion {
            due,
            patience: now + self.retry.patience,
            error,
            unanswered,
            warned: false,
            asking,
        })
    }

    pub(super) fn on_retry_answered(&mut self, oldest: u64, answer: Result<bool>) {
        let Phase::Asking(question) = &mut self.session else {
            return;
        };
        let about = |ids: &Vec<u64>| ids[0] == oldest;
        let Some(index) = question.unanswered.iter().position(about) else {
            return;
        };
        let ids = question.unanswered.remove(index);
        match answer {
            Ok(true) => {}
            Ok(false) => {
                let error = question.error.clone();
                let text = "retry.when allows no other try";
                self.log("error", text, &error, Duration::ZERO);
                let given_up = ids.iter().filter_map(|id| self.window.remove(*id)).collect();
                self.fail_all(given_up, &error, now());
            }
            Err(problem) => {
                if !std::mem::replace(&mut question.warned, true) {
                    self.warn_of_predicate(&problem);
                }
            }
        }
    }

    /// When to look again at a question that is not answered by then.
    pub(super) fn patience(&self, question: &RetryQuestion) -> Instant {
        self.too_late_at()
            .map_or(question.patience, |too_late| too_late.min(question.patience))
    }

    /// Goes on once all is answered, or nobody waits for the answers any more.
    pub(super) fn stop_asking(&mut self, now: Instant) {
        self.fail_what_is_too_late(now);
        let Phase::Asking(question) = &mut self.session else {
            return;
        };
        // An answer about what is gone would hold up all others, and be told as if it mattered.
        let window = &self.window;
        let matters = |ids: &Vec<u64>| ids.iter().any(|id| window.contains(*id));
        question.unanswered.retain(matters);
        let moot = question.unanswered.is_empty();
        if !moot && question.patience > now {
            return;
        }
        let (due, warned) = (question.due, question.warned);
        self.session = Phase::Waiting(due);
        if !moot && !warned {
            let text = format!("no answer within {:?}", self.retry.patience);
            self.warn_of_predicate(&Error::new(Code::DeadlineExceeded, text).during("retry.when"));
        }
    }

    /// Thinking takes time, and past its deadline nothing is tried again, whatever the answer.
    fn fail_what_is_too_late(&mut self, now: Instant) {
        let Phase::Asking(question) = &self.session else {
            return;
        };
        let (due, error) = (question.due.max(now), question.error.clone());
        if self.end_what_may_not_be_tried(due, &error, now) {
            let text = "it became too late for another try while retry.when was asked";
            self.log("error", text, &error, Duration::ZERO);
        }
    }

    fn warn_of_predicate(&self, problem: &Error) {
        let text = "retry.when gave no verdict: the retry class decides";
        self.log("warn", text, problem, Duration::ZERO);
    }
}
