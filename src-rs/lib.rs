//! Arrow record batches out of a process and into a table.
//!
//! In the order of the flow: a batch is handed over ([`handoff`]), admitted, batched, written and
//! retried ([`transmitter`]) to a [`destination`], and what became of each of its rows is folded
//! into an [`outcome`]. A [`spool`] keeps deliveries on the disk; the transmitter does not use it yet.
//! [`files`] decodes bytes of other formats before they are handed over. [`config`] says how, [`error`] says what went wrong.
//!
//! Only `binding` knows of Node; `cargo test --no-default-features` builds without it.

pub mod callbacks;
pub mod capture;
pub mod compute;
pub mod config;
pub mod counters;
pub mod dead_letter;
pub mod destination;
pub mod disk;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod error;
pub mod file_system;
pub mod files;
pub mod handoff;
pub mod outcome;
pub mod row_files;
pub mod spool;
pub mod trace;
pub mod transmitter;

#[cfg(feature = "node")]
mod binding;

// What the tests share says `arrow_ingest`, inside and outside.
#[cfg(test)]
extern crate self as arrow_ingest;
