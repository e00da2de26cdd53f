//! What `specs/delivery.md` and `specs/flight-ack.md` promise of `grpc:` and `flightsql:` (R-02, R-10…R-17,
//! R-21), tried against a server in this process that does as it is told, and against pyarrow's.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // In a test an unwrap is the assertion.

#[path = "support/mod.rs"]
mod harness;

#[path = "flight/support.rs"]
mod support;

#[path = "flight/connecting.rs"]
mod connecting;
#[path = "flight/delivering.rs"]
mod delivering;
#[path = "flight/describing.rs"]
mod describing;
#[path = "flight/faults.rs"]
mod faults;
#[path = "support/golden.rs"]
mod golden;
#[path = "flight/patience.rs"]
mod patience;
#[path = "flight/pyarrow.rs"]
mod pyarrow;
#[path = "support/skipped.rs"]
mod skipped;
#[path = "flight/sql.rs"]
mod sql;
#[path = "flight/strangers.rs"]
mod strangers;
