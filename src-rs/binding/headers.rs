//! Headers from JavaScript: a question goes out as an event, `answerHeaders` brings the answer.
//!
//! Invariant: an error about an answer holds no value of the answer, and without a name that is none:
//! a token in the wrong place is still a token.
//!
//! It keeps no time and asks as often as it is asked: `destination::headers` sees to both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::event_queue::EventQueue;
use super::events::JsEvent;
use super::questions::Questions;
use crate::callbacks::{HeaderProvider, HeadersReason};
use crate::error::{Code, Error, Result};

type Answer = Result<Vec<(String, String)>>;

/// The headers function of one client.
pub struct Provider {
    queue: Arc<EventQueue>,
    /// An attempt at opening failed for its credentials; the next one knows nothing of it but by this.
    refused: AtomicBool,
    questions: Questions<Answer>,
}

impl Provider {
    pub fn new(queue: Arc<EventQueue>) -> Arc<Provider> {
        Arc::new(Provider {
            queue,
            refused: AtomicBool::new(false),
            questions: Questions::default(),
        })
    }

    /// The answer to a question, as `specs/boundary.md` has it.
    pub fn answer(&self, request: u64, answer: &str) {
        self.questions.answer(request, || read(answer));
    }

    /// What was given last was refused before there was anybody to remember it.
    pub fn refused(&self) {
        self.refused.store(true, Ordering::Release);
    }

    /// Nobody is left to answer.
    pub fn end(&self) {
        self.questions.end();
    }
}

#[async_trait]
impl HeaderProvider for Provider {
    async fn headers(&self, reason: HeadersReason) -> Answer {
        let post = |request| {
            let refused = self.refused.swap(false, Ordering::AcqRel);
            let reason = if refused {
                HeadersReason::Unauthenticated
            } else {
                reason
            };
            self.queue.post(JsEvent::HeadersWanted { request, reason });
        };
        let closed = || Err(Error::new(Code::Closed, "the client is closed"));
        self.questions.ask(post).await.unwrap_or_else(closed)
    }
}

/// An answer as it crosses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Crossing {
    Headers(Map<String, Value>),
    /// The callback threw or rejected: messages of the error and of its causes, outermost first.
    Failed(Vec<String>),
    /// The callback gave something else than an object.
    Invalid(String),
}

fn read(answer: &str) -> Answer {
    let invalid = |what: String| {
        let text = format!("the headers callback {what}");
        Error::new(Code::ConfigInvalid, text).during("headers")
    };
    // The parser's own complaint may quote a value.
    match serde_json::from_str(answer)
        .map_err(|_| invalid("was answered for with what is no answer".into()))?
    {
        Crossing::Failed(causes) => Err(Error::new(Code::Unauthenticated, "the headers callback failed")
            .during("headers")
            .with_causes(causes)),
        Crossing::Invalid(given) => Err(invalid(format!("must give an object of strings, not {given}"))),
        Crossing::Headers(headers) => headers
            .into_iter()
            .map(|(name, value)| {
                if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                    return Err(invalid("gave a header whose name cannot be one".into()));
                }
                match value {
                    Value::String(value) => Ok((name, value)),
                    _ => Err(invalid(format!(
                        "gave the header {name:?} a value that is no string"
                    ))),
                }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn code(answer: &str) -> (Code, String) {
        let error = read(answer).unwrap_err();
        (error.code(), error.to_json().to_string())
    }

    /// R-34: whatever JavaScript says becomes headers or one clear error without a value in it.
    #[test]
    fn an_answer_is_read_and_what_is_wrong_with_it_is_told_without_its_values() {
        let good = read(r#"{"headers":{"Authorization":"Bearer t0ken","x-team":"ice"}}"#).unwrap();
        assert_eq!(good.len(), 2);
        assert!(read(r#"{"headers":{}}"#).unwrap().is_empty());
        for answer in [
            r#"{"headers":{"x-a":{"t0ken":1}}}"#,
            r#"{"headers":{"x-a":null}}"#,
            r#"{"headers":{"Bearer t0ken":"x"}}"#,
            r#"{"headers":{"":"t0ken"}}"#,
            r#"{"headers":"t0ken"}"#,
            r#""t0ken"#,
            r#"{"invalid":"undefined"}"#,
        ] {
            let (code, text) = code(answer);
            assert_eq!(code, Code::ConfigInvalid, "{answer}");
            assert!(!text.contains("t0ken"), "{text}");
        }
        let (failed, text) = code(r#"{"failed":["Error: no route","ECONNREFUSED"]}"#);
        assert_eq!(failed, Code::Unauthenticated);
        assert!(text.contains(r#"["Error: no route","ECONNREFUSED"]"#), "{text}");
    }

    /// R-34: what is asked is answered once, forgotten when given up, and closed at the end.
    #[tokio::test(start_paused = true)]
    async fn a_question_ends_with_its_answer_with_its_time_or_with_the_client() {
        let provider = Provider::new(Arc::default());
        let asked = provider.headers(HeadersReason::Connect);
        let (answer, ()) = tokio::join!(asked, async {
            tokio::task::yield_now().await;
            provider.answer(7, "{}");
            provider.answer(1, r#"{"headers":{"a":"b"}}"#);
            provider.answer(1, r#"{"failed":[]}"#);
        });
        assert_eq!(answer.unwrap(), [("a".to_string(), "b".to_string())]);

        let unanswered = provider.headers(HeadersReason::Connect);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), unanswered)
                .await
                .is_err()
        );
        assert!(provider.questions.are_forgotten());

        let (answer, ()) = tokio::join!(provider.headers(HeadersReason::Connect), async {
            tokio::task::yield_now().await;
            provider.end();
        });
        assert_eq!(answer.unwrap_err().code(), Code::Closed);
        let late = provider.headers(HeadersReason::Connect).await;
        assert_eq!(late.unwrap_err().code(), Code::Closed);
    }
}
