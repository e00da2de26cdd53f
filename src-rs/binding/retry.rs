//! The retry predicate of JavaScript: an error goes out as an event, `answerRetry` brings the verdict.
//!
//! What it threw, or gave in place of a verdict, becomes an error for the log: the transmitter goes on
//! without a verdict then. It keeps no time: the transmitter does.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::event_queue::EventQueue;
use super::events::JsEvent;
use super::questions::Questions;
use crate::callbacks::RetryPredicate;
use crate::error::{Code, Error, Result};

/// The predicate of one client.
pub struct Predicate {
    queue: Arc<EventQueue>,
    questions: Questions<Result<bool>>,
}

impl Predicate {
    pub fn new(queue: Arc<EventQueue>) -> Arc<Predicate> {
        Arc::new(Predicate {
            queue,
            questions: Questions::default(),
        })
    }

    /// The answer to a question, as `specs/boundary.md` has it.
    pub fn answer(&self, request: u64, answer: &str) {
        self.questions.answer(request, || read(answer));
    }

    /// Nobody is left to answer.
    pub fn end(&self) {
        self.questions.end();
    }
}

#[async_trait]
impl RetryPredicate for Predicate {
    async fn allows(&self, error: &Error) -> Result<bool> {
        let post = |request| {
            let error = error.clone();
            self.queue.post(JsEvent::RetryAsked { request, error });
        };
        let closed = || Err(Error::new(Code::Closed, "the client is closed"));
        self.questions.ask(post).await.unwrap_or_else(closed)
    }
}

/// An answer as it crosses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Crossing {
    Retry(bool),
    /// The callback threw or rejected: messages of the error and of its causes, outermost first.
    Failed(Vec<String>),
    /// The callback gave something else than a boolean.
    Invalid(String),
}

fn read(answer: &str) -> Result<bool> {
    let error = |text: String| Error::new(Code::ConfigInvalid, text).during("retry.when");
    match serde_json::from_str(answer) {
        Ok(Crossing::Retry(verdict)) => Ok(verdict),
        Ok(Crossing::Failed(causes)) => Err(error("the function failed".into()).with_causes(causes)),
        Ok(Crossing::Invalid(given)) => Err(error(format!("must give true or false, not {given}"))),
        Err(_) => Err(error("was answered for with what is no answer".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-34: whatever JavaScript says becomes a verdict or one error that says what was wrong with it.
    #[test]
    fn an_answer_is_a_verdict_or_says_why_there_is_none() {
        assert!(read(r#"{"retry":true}"#).unwrap());
        assert!(!read(r#"{"retry":false}"#).unwrap());
        let failed = read(r#"{"failed":["TypeError: no","why"]}"#).unwrap_err();
        assert_eq!(failed.causes(), ["TypeError: no", "why"]);
        let invalid = read(r#"{"invalid":"a number"}"#).unwrap_err();
        assert!(invalid.message().contains("not a number"), "{invalid}");
        for odd in [r#"{"retry":1}"#, "true", "", "{}"] {
            assert_eq!(read(odd).unwrap_err().code(), Code::ConfigInvalid, "{odd}");
        }
    }

    /// R-34: a question is answered once, and by the end of the client at the latest.
    #[tokio::test]
    async fn a_question_ends_with_its_answer_or_with_the_client() {
        let predicate = Predicate::new(Arc::default());
        let error = Error::new(Code::Unavailable, "away");
        let (verdict, ()) = tokio::join!(predicate.allows(&error), async {
            tokio::task::yield_now().await;
            predicate.answer(9, r#"{"retry":true}"#);
            predicate.answer(1, r#"{"retry":false}"#);
            predicate.answer(1, r#"{"retry":true}"#);
        });
        assert!(!verdict.unwrap());
        let (verdict, ()) = tokio::join!(predicate.allows(&error), async {
            tokio::task::yield_now().await;
            predicate.end();
        });
        assert_eq!(verdict.unwrap_err().code(), Code::Closed);
        let late = predicate.allows(&error).await;
        assert_eq!(late.unwrap_err().code(), Code::Closed);
        assert!(predicate.questions.are_forgotten());
    }
}
