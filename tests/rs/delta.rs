//! What `specs/delivery.md` promises of `delta:`, tried against tables on a disk (R-11…R-20).
//!
//! What was written is read back by other code than wrote it: the log as plain JSON and by
//! deltalake-core, the files by Parquet's reader. `tests/interop` has readers in other languages.

// In a test an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod rigs;
#[path = "delta/simulated.rs"]
mod simulated;
#[path = "support/skipped.rs"]
mod skipped;
#[path = "delta/stand_in.rs"]
mod stand_in;
#[path = "delta/support.rs"]
mod support;

#[path = "delta/answers.rs"]
mod answers;
#[path = "delta/commits.rs"]
mod commits;
#[path = "delta/files.rs"]
mod files;
#[path = "delta/logs.rs"]
mod logs;
#[path = "delta/races.rs"]
mod races;
#[path = "delta/refusals.rs"]
mod refusals;
#[path = "delta/settling.rs"]
mod settling;
#[path = "delta/tables.rs"]
mod tables;
#[path = "delta/targets.rs"]
mod targets;
#[path = "delta/types.rs"]
mod types;
