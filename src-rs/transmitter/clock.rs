//! The runtime's clock, which tests can stop.
//!
//! Invariant: engine, intake and sessions read no other clock. What is pure gets the time from its caller.

use std::time::Duration;
#[cfg(feature = "client")]
use std::time::Instant;

/// A longer time would overflow the clock.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

#[cfg(feature = "client")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until this instant, or for ever.
#[cfg(feature = "client")]
pub async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
