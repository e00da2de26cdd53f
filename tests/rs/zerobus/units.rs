//! The parts of the Zerobus destination that need no server, or a very small one.

#![allow(clippy::unwrap_used)] // In a test an unwrap is the assertion.

#[path = "addressing.rs"]
mod addressing;
#[path = "counting.rs"]
mod counting;
#[path = "mapping.rs"]
mod mapping;
#[path = "normalising.rs"]
mod normalising;
#[path = "tokens.rs"]
mod tokens;
