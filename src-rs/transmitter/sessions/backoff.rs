//! When to try again: exponential backoff with full jitter, and a slower pace while failures are
//! frequent. Pure but for the random numbers.
//!
//! Invariant: a delay is at most `retry.maxDelay`, unless the destination named a later time.
//!
//! It does not decide whether to try again: the retry class and the limits do.

use std::time::Duration;

use crate::config::RetryOptions;
use crate::error::{Error, RetryClass};
use crate::transmitter::clock::LONGEST;

/// The delay before the next try, from the failures so far.
#[derive(Debug)]
pub struct Backoff {
    base_delay: Duration,
    max_delay: Duration,
    strikes: u32,
}

impl Backoff {
    pub fn new(retry: &RetryOptions) -> Self {
        Backoff {
            base_delay: retry.base_delay,
            max_delay: retry.max_delay,
            strikes: 0,
        }
    }

    /// Something failed. Returns how long to stay away.
    pub fn failed(&mut self, error: &Error, dice: &mut fastrand::Rng) -> Duration {
        // A throttled server needs a longer rest than one that failed once.
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

    /// Something got through. One success does not undo an hour of failures: the strikes halve.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::error::Code;

    proptest! {
        /// full jitter under a ceiling that doubles, never below the server's hint.
        #[test]
        fn delays_stay_between_the_hint_and_the_ceiling(
            seed in any::<u64>(),
            base_ms in 0u64..1_000,
            max_ms in 0u64..10_000,
            happenings in prop::collection::vec((0u8..4, prop::option::of(any::<u64>())), 1..80),
        ) {
            let mut retry = Config::default().retry;
            retry.base_delay = Duration::from_millis(base_ms);
            retry.max_delay = Duration::from_millis(base_ms + max_ms);
            let mut backoff = Backoff::new(&retry);
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut strikes = 0u32;
            for (what, hint) in happenings {
                let code = match what {
                    0 => {
                        backoff.succeeded();
                        strikes /= 2;
                        prop_assert_eq!(backoff.strikes(), strikes);
                        continue;
                    }
                    1 => Code::ResourceExhausted,
                    _ => Code::Unavailable,
                };
                strikes = (strikes + if what == 1 { 2 } else { 1 }).min(32);
                let mut error = Error::new(code, "");
                if let Some(seconds) = hint {
                    error = error.retry_after(Duration::from_secs(seconds));
                }
                let delay = backoff.failed(&error, &mut dice);
                prop_assert_eq!(backoff.strikes(), strikes);
                let hint = Duration::from_secs(hint.unwrap_or(0)).min(LONGEST);
                let doubled = retry.base_delay.saturating_mul(1 << (strikes - 1).min(30));
                prop_assert!(delay >= hint && delay <= doubled.min(retry.max_delay).max(hint));
            }
        }
    }
}
