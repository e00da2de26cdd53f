//! The byte budget: which callers are admitted, and in which order.
//!
//! Invariants:
//! - What is in flight never exceeds the budget, except for one delivery that is larger than the
//!   whole budget and is then alone.
//! - First come, first admitted: while a ticket is queued, or granted and not yet redeemed, nobody
//!   passes it. A small delivery that overtook a large one would starve it and break the order.
//! - Nothing costs more because others wait: a ticket is found, granted and taken back by its number.
//!
//! Nothing here waits: a caller gets a ticket, which is granted later. So a thread that must never block can
//! call it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Code, Error, Result};

pub struct Admission {
    max_bytes: usize,
    state: Mutex<AdmissionState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    Admitted,
    /// The budget is full, or others are waiting.
    Queued(u64),
}

#[derive(Default)]
struct AdmissionState {
    in_flight_bytes: usize,
    /// Bytes by ticket, the first come first.
    waiting: BTreeMap<u64, usize>,
    granted: BTreeMap<u64, usize>,
    last_ticket: u64,
    closed: bool,
}

impl Admission {
    pub fn new(max_bytes: usize) -> Self {
        Admission {
            max_bytes,
            state: Mutex::default(),
        }
    }

    /// Asks for `bytes` of the budget.
    ///
    /// # Errors
    /// `CLOSED` once the client takes nothing more.
    pub fn request(&self, bytes: usize) -> Result<Admit> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        let nobody_before = state.waiting.is_empty() && state.granted.is_empty();
        if nobody_before && state.fits(bytes, self.max_bytes) {
            state.in_flight_bytes += bytes;
            return Ok(Admit::Admitted);
        }
        state.last_ticket += 1;
        let number = state.last_ticket;
        state.waiting.insert(number, bytes);
        Ok(Admit::Queued(number))
    }

    /// Turns a granted ticket into an admission of `bytes`, which may differ from what was asked.
    /// Returns the tickets that this grants: those that were queued only because this one was before them.
    ///
    /// # Errors
    /// `INTERNAL` for a ticket that was not granted; `CLOSED` once nothing is taken.
    pub fn redeem(&self, number: u64, bytes: usize) -> Result<Vec<u64>> {
        let mut state = self.lock();
        let Some(granted) = state.granted.remove(&number) else {
            if state.closed {
                return Err(closed());
            }
            return Err(Error::new(
                Code::Internal,
                format!("ticket {number} was not granted"),
            ));
        };
        state.in_flight_bytes = state.in_flight_bytes - granted + bytes;
        Ok(state.grant(self.max_bytes))
    }

    /// Takes a ticket back. Returns whether there was one, and the tickets that this grants.
    pub fn cancel(&self, number: u64) -> (bool, Vec<u64>) {
        let mut state = self.lock();
        let mut found = state.waiting.remove(&number).is_some();
        if let Some(bytes) = state.granted.remove(&number) {
            state.in_flight_bytes -= bytes;
            found = true;
        }
        (found, state.grant(self.max_bytes))
    }

    /// Gives bytes back. Returns the tickets that this grants, in order.
    pub fn release(&self, bytes: usize) -> Vec<u64> {
        let mut state = self.lock();
        debug_assert!(bytes <= state.in_flight_bytes, "more released than admitted");
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(bytes);
        state.grant(self.max_bytes)
    }

    /// Admits nothing more. Returns the tickets that are void now.
    pub fn close(&self) -> Vec<u64> {
        let mut state = self.lock();
        state.closed = true;
        let granted = std::mem::take(&mut state.granted);
        state.in_flight_bytes -= granted.values().sum::<usize>();
        let waiting = std::mem::take(&mut state.waiting);
        granted.into_keys().chain(waiting.into_keys()).collect()
    }

    pub fn in_flight_bytes(&self) -> usize {
        self.lock().in_flight_bytes
    }

    pub fn waiting(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + state.granted.len()
    }

    /// Whether a ticket waits and none is granted: only released bytes help then.
    pub fn is_stalled(&self) -> bool {
        let state = self.lock();
        !state.waiting.is_empty() && state.granted.is_empty()
    }

    /// After a panic of another holder the numbers are still numbers: a second panic would help nobody.
    fn lock(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdmissionState {
    fn fits(&self, bytes: usize, max_bytes: usize) -> bool {
        self.in_flight_bytes == 0 || self.in_flight_bytes.saturating_add(bytes) <= max_bytes
    }

    fn grant(&mut self, max_bytes: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some((number, bytes)) = self.waiting.first_key_value() {
            let (number, bytes) = (*number, *bytes);
            if !self.fits(bytes, max_bytes) {
                break;
            }
            self.waiting.remove(&number);
            self.in_flight_bytes += bytes;
            self.granted.insert(number, bytes);
            numbers.push(number);
        }
        numbers
    }
}

fn closed() -> Error {
    Error::new(Code::Closed, "the client is closed")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Request(usize),
        Redeem(usize),
        Cancel(usize),
        Release(usize),
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0usize..300).prop_map(Step::Request),
            4 => any::<usize>().prop_map(Step::Redeem),
            2 => any::<usize>().prop_map(Step::Cancel),
            4 => any::<usize>().prop_map(Step::Release),
        ]
        .boxed()
    }

    proptest! {
        /// against a model that only knows lists.
        #[test]
        fn never_above_the_budget_and_first_come_first_admitted(
            steps in prop::collection::vec(step(), 1..120),
            close_after in prop::option::of(0usize..120),
        ) {
            const BUDGET: usize = 200;
            let admission = Admission::new(BUDGET);
            let (mut waiting, mut granted) = (Vec::<(u64, usize)>::new(), Vec::<(u64, usize)>::new());
            let mut inside: Vec<usize> = Vec::new();
            let mut steps = steps;
            if let Some(after) = close_after {
                steps.insert(after.min(steps.len()), Step::Close);
            }
            let mut closed = false;
            for step in steps {
                let mut let_in = Vec::new();
                match step {
                    Step::Request(bytes) if closed => {
                        prop_assert_eq!(admission.request(bytes).unwrap_err().code(), Code::Closed);
                    }
                    Step::Request(bytes) => match admission.request(bytes).unwrap() {
                        Admit::Admitted => {
                            prop_assert!(waiting.is_empty() && granted.is_empty(), "somebody was passed");
                            inside.push(bytes);
                        }
                        Admit::Queued(ticket) => waiting.push((ticket, bytes)),
                    },
                    Step::Redeem(pick) if !granted.is_empty() => {
                        let (ticket, bytes) = granted.remove(pick % granted.len());
                        let_in = admission.redeem(ticket, bytes).unwrap();
                        inside.push(bytes);
                    }
                    Step::Cancel(pick) if !waiting.is_empty() || !granted.is_empty() => {
                        let pick = pick % (waiting.len() + granted.len());
                        let ticket = if pick < waiting.len() {
                            waiting.remove(pick).0
                        } else {
                            granted.remove(pick - waiting.len()).0
                        };
                        let (found, granted) = admission.cancel(ticket);
                        prop_assert!(found);
                        let_in = granted;
                    }
                    Step::Release(pick) if !inside.is_empty() => {
                        let_in = admission.release(inside.remove(pick % inside.len()));
                    }
                    Step::Cancel(_) => prop_assert!(!admission.cancel(u64::MAX).0),
                    Step::Close => {
                        closed = true;
                        let mut void: Vec<u64> = granted.drain(..).chain(waiting.drain(..)).map(|t| t.0).collect();
                        let mut told = admission.close();
                        void.sort_unstable();
                        told.sort_unstable();
                        prop_assert_eq!(void, told);
                        prop_assert_eq!(admission.request(0).unwrap_err().code(), Code::Closed);
                        prop_assert_eq!(admission.redeem(1, 0).unwrap_err().code(), Code::Closed);
                    }
                    _ => {}
                }
                for ticket in let_in {
                    prop_assert_eq!(waiting.first().map(|first| first.0), Some(ticket), "out of turn");
                    granted.push(waiting.remove(0));
                }
                let held: Vec<usize> = inside.iter().copied().chain(granted.iter().map(|t| t.1)).collect();
                let bytes: usize = held.iter().sum();
                prop_assert_eq!(admission.in_flight_bytes(), bytes);
                prop_assert_eq!(admission.waiting(), waiting.len() + granted.len());
                prop_assert_eq!(admission.is_stalled(), !waiting.is_empty() && granted.is_empty());
                let alone = held.iter().filter(|bytes| **bytes > 0).count() <= 1;
                prop_assert!(bytes <= BUDGET || alone, "{held:?}");
                // Nobody waits who could come in, unless another is on the way in before.
                if let Some(first) = waiting.first().filter(|_| granted.is_empty()) {
                    prop_assert!(bytes > 0 && bytes + first.1 > BUDGET, "{first:?} waits for nothing");
                }
            }
        }
    }

    #[test]
    fn a_ticket_that_nobody_has_is_said_to_be_none() {
        let admission = Admission::new(10);
        assert_eq!(admission.redeem(7, 1).unwrap_err().code(), Code::Internal);
        assert_eq!(admission.cancel(7), (false, Vec::new()));
    }
}
