//! What the transmitter promises, through its own door: R-10 ….
//!
//! The destination is `support::scripted`, the clock is tokio's stopped one, so hours cost nothing.

mod support;

#[path = "transmitter/asking.rs"]
mod asking;
#[path = "transmitter/batching.rs"]
mod batching;
#[path = "transmitter/budget.rs"]
mod budget;
#[path = "transmitter/chaos.rs"]
mod chaos;
#[path = "transmitter/deadlines.rs"]
mod deadlines;
#[path = "transmitter/ending.rs"]
mod ending;
#[path = "transmitter/facts.rs"]
mod facts;
#[path = "transmitter/panics.rs"]
mod panics;
#[path = "transmitter/quarantine.rs"]
mod quarantine;
#[path = "transmitter/retrying.rs"]
mod retrying;
#[path = "transmitter/schemas.rs"]
mod schemas;
