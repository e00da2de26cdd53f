//! The spool: what was durable is found again, whatever happens to process, power
//! and disk.

// In a test an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

#[path = "support/simulated.rs"]
mod simulated;
#[path = "support/skipped.rs"]
mod skipped;
#[path = "spool/support.rs"]
mod support;
#[path = "support/mod.rs"]
mod transmitting;

#[path = "spool/appending.rs"]
mod appending;
#[path = "spool/damage.rs"]
mod damage;
#[path = "spool/delivering.rs"]
mod delivering;
#[path = "spool/export.rs"]
mod export;
#[path = "spool/failing.rs"]
mod failing;
#[path = "spool/feeding.rs"]
mod feeding;
#[path = "spool/inspect.rs"]
mod inspect;
#[path = "spool/kept.rs"]
mod kept;
#[path = "spool/model.rs"]
mod model;
#[path = "spool/opening.rs"]
mod opening;
#[path = "spool/peer.rs"]
mod peer;
#[path = "spool/real.rs"]
mod real;
#[path = "spool/recording.rs"]
mod recording;
#[path = "spool/room.rs"]
mod room;
#[path = "spool/settling.rs"]
mod settling;
#[path = "spool/table_schema.rs"]
mod table_schema;
#[path = "spool/waiting.rs"]
mod waiting;
