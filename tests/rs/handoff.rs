//! What the handoff promises, through its own door: batches in as they crossed, record batches or errors out.
#![allow(clippy::unwrap_used)]

#[path = "support/golden.rs"]
mod golden;
mod handoff_explode;
mod handoff_golden;
mod handoff_hostile;
mod handoff_join;
mod handoff_lies;
mod handoff_memory;
mod handoff_random;
mod handoff_rows;
mod handoff_types;
#[path = "support/skipped.rs"]
mod skipped;
