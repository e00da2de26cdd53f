//! What `specs/emulator.md` promises, judged by the official client.
//!
//! What was written is read back by other code than wrote it: the log as plain JSON, the files by Parquet's
//! reader, the table's description by the official client's own conversion.

// In a test an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

#[cfg(target_os = "linux")]
#[path = "support/starting.rs"]
mod starting;
#[path = "emulator/support.rs"]
mod support;

#[path = "emulator/delivering.rs"]
mod delivering;
#[path = "emulator/endpoints.rs"]
mod endpoints;
#[path = "emulator/faults.rs"]
mod faults;
#[path = "emulator/options.rs"]
mod options;
#[path = "emulator/refusals.rs"]
mod refusals;
#[path = "emulator/types.rs"]
mod types;
