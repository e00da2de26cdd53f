//! The byte budget: who may come in, and in which order.
//!
//! Invariants:
//! - What is in flight never exceeds the budget, except for one delivery that is larger than the
//!   whole budget and is then alone.
//! - First come, first admitted: while a ticket is queued, or granted and not yet redeemed, nobody
//!   passes it. A small delivery that overtook a large one would starve it and break the order.
//!
//! It does not wait: a caller gets a ticket and is told later. So it can be called from a thread
//! that must never block.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Code, Error, Result};

pub struct Admission {
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    Admitted,
    /// The budget is full, or others are waiting.
    Queued(u64),
}

#[derive(Default)]
struct State {
    in_flight_bytes: usize,
    waiting: VecDeque<Ticket>,
    granted: VecDeque<Ticket>,
    last_ticket: u64,
    closed: bool,
}

#[derive(Clone, Copy)]
struct Ticket {
    number: u64,
    bytes: usize,
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
        let free_road = state.waiting.is_empty() && state.granted.is_empty();
        if free_road && state.fits(bytes, self.max_bytes) {
            state.in_flight_bytes += bytes;
            return Ok(Admit::Admitted);
        }
        state.last_ticket += 1;
        let number = state.last_ticket;
        state.waiting.push_back(Ticket { number, bytes });
        Ok(Admit::Queued(number))
    }

    /// Turns a granted ticket into an admission of `bytes`, which may differ from what was asked.
    /// Returns whom that lets in: those who were queued only because this one was before them.
    ///
    /// # Errors
    /// `INTERNAL` for a ticket that was not granted; `CLOSED` once nothing is taken.
    pub fn redeem(&self, number: u64, bytes: usize) -> Result<Vec<u64>> {
        let mut state = self.lock();
        let Some(index) = state.granted.iter().position(|ticket| ticket.number == number) else {
            if state.closed {
                return Err(closed());
            }
            return Err(Error::new(
                Code::Internal,
                format!("ticket {number} was not granted"),
            ));
        };
        if let Some(ticket) = state.granted.remove(index) {
            state.in_flight_bytes = state.in_flight_bytes - ticket.bytes + bytes;
        }
        Ok(state.grant(self.max_bytes))
    }

    /// Takes a ticket back. Returns whether there was one, and whom that lets in.
    pub fn cancel(&self, number: u64) -> (bool, Vec<u64>) {
        let mut state = self.lock();
        let mut found = false;
        if let Some(index) = state.waiting.iter().position(|ticket| ticket.number == number) {
            state.waiting.remove(index);
            found = true;
        } else if let Some(index) = state.granted.iter().position(|ticket| ticket.number == number)
            && let Some(ticket) = state.granted.remove(index)
        {
            state.in_flight_bytes -= ticket.bytes;
            found = true;
        }
        (found, state.grant(self.max_bytes))
    }

    /// Gives bytes back. Returns whom that lets in, in order.
    pub fn release(&self, bytes: usize) -> Vec<u64> {
        let mut state = self.lock();
        debug_assert!(bytes <= state.in_flight_bytes, "more released than admitted");
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(bytes);
        state.grant(self.max_bytes)
    }

    /// Lets nobody in any more. Returns the tickets that are void now.
    pub fn close(&self) -> Vec<u64> {
        let mut state = self.lock();
        state.closed = true;
        let granted = std::mem::take(&mut state.granted);
        for ticket in &granted {
            state.in_flight_bytes -= ticket.bytes;
        }
        let waiting = std::mem::take(&mut state.waiting);
        granted
            .into_iter()
            .chain(waiting)
            .map(|ticket| ticket.number)
            .collect()
    }

    pub fn in_flight_bytes(&self) -> usize {
        self.lock().in_flight_bytes
    }

    pub fn waiting(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + state.granted.len()
    }

    /// Whether somebody waits and nobody is on the way in: only what is released helps then.
    pub fn is_stalled(&self) -> bool {
        let state = self.lock();
        !state.waiting.is_empty() && state.granted.is_empty()
    }

    /// A panic of another holder left numbers, not broken memory: going on is better than a second panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fits(&self, bytes: usize, max_bytes: usize) -> bool {
        self.in_flight_bytes == 0 || self.in_flight_bytes.saturating_add(bytes) <= max_bytes
    }

    fn grant(&mut self, max_bytes: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(ticket) = self.waiting.front().copied() {
            if !self.fits(ticket.bytes, max_bytes) {
                break;
            }
            self.waiting.pop_front();
            self.in_flight_bytes += ticket.bytes;
            self.granted.push_back(ticket);
            numbers.push(ticket.number);
        }
        numbers
    }
}

fn closed() -> Error {
    Error::new(Code::Closed, "the client is closed")
}
