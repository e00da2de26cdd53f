//! When to try again: exponential backoff with full jitter, and a slower pace while failures are
//! frequent. Pure but for the dice.
//!
//! It does not decide whether to try again; that is the retry class's, and the limits are the
//! window's.

use std::time::Duration;

use crate::config::Retry;
use crate::error::{Error, RetryClass};

const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// How fast to go, from what happened lately.
#[derive(Debug)]
pub struct Pace {
    base_delay: Duration,
    max_delay: Duration,
    strikes: u32,
}

impl Pace {
    pub fn new(retry: &Retry) -> Self {
        Pace {
            base_delay: retry.base_delay,
            max_delay: retry.max_delay,
            strikes: 0,
        }
    }

    /// Something failed. Returns how long to stay away.
    pub fn failed(&mut self, error: &Error, dice: &mut fastrand::Rng) -> Duration {
        // A throttled server asks for more patience than one that merely stumbled.
        let strikes = if error.retry_class() == RetryClass::Throttled {
            2
        } else {
            1
        };
        self.strikes = (self.strikes + strikes).min(32);
        let ceiling = self.ceiling();
        let jittered = ceiling.mul_f64(dice.f64());
        // The server's own hint is a floor: coming earlier is what it asked us not to do. A hint of
        // centuries would overflow the clock.
        jittered.max(error.hint().unwrap_or_default().min(LONGEST))
    }

    /// Something got through. One success does not wipe out a bad hour: the strikes halve.
    pub fn succeeded(&mut self) {
        self.strikes /= 2;
    }

    /// Failures that still count.
    pub fn strikes(&self) -> u32 {
        self.strikes
    }

    fn ceiling(&self) -> Duration {
        let doublings = self.strikes.saturating_sub(1).min(30);
        self.base_delay.saturating_mul(1 << doublings).min(self.max_delay)
    }
}
