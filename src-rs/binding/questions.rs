//! Questions to JavaScript: each goes out as an event with its number, and a call brings the answer.
//!
//! Invariants:
//! - A question that nobody waits for any more is forgotten; an answer to it does nothing, nor does a second one.
//! - Once the client has ended every question is answered, with nothing.
//! - A question keeps no process alive: what needs the answer does, a delivery or an operation.
//!
//! It keeps no time: whoever asks does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The questions of one kind that a client has open.
pub struct Questions<Answer> {
    state: Mutex<State<Answer>>,
}

struct State<Answer> {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    ended: bool,
}

impl<Answer> Questions<Answer> {
    /// Asks by handing `post` a number; none if nobody is left to answer.
    pub async fn ask(&self, post: impl FnOnce(u64)) -> Option<Answer> {
        let (answered, answer) = oneshot::channel();
        let question = {
            let mut state = self.state();
            if state.ended {
                return None;
            }
            state.last += 1;
            let question = state.last;
            state.waiting.insert(question, answered);
            question
        };
        let _forget = Forget {
            questions: self,
            question,
        };
        post(question);
        answer.await.ok()
    }

    /// The answer is read only if somebody waits for it.
    pub fn answer(&self, question: u64, read: impl FnOnce() -> Answer) {
        let waiting = self.state().waiting.remove(&question);
        if let Some(waiting) = waiting {
            // Whoever asked may have stopped waiting in this very moment.
            let _ = waiting.send(read());
        }
    }

    /// Nobody is left to answer.
    pub fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        // Dropping a sender is an answer, too.
        state.waiting.clear();
    }

    #[cfg(test)]
    pub fn are_forgotten(&self) -> bool {
        self.state().waiting.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State<Answer>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Answer> Default for Questions<Answer> {
    fn default() -> Self {
        Questions {
            state: Mutex::new(State {
                last: 0,
                waiting: HashMap::new(),
                ended: false,
            }),
        }
    }
}

/// Takes a question back when its time is over, or when whoever asked is gone.
struct Forget<'a, Answer> {
    questions: &'a Questions<Answer>,
    question: u64,
}

impl<Answer> Drop for Forget<'_, Answer> {
    fn drop(&mut self) {
        self.questions.state().waiting.remove(&self.question);
    }
}
