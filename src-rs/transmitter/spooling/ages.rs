//! How long deliveries have been in the spool, by a clock that nobody sets.
//!
//! Invariants:
//! - The age of a delivery of this process grows as time passes, however the system's clock is set meanwhile.
//! - That of an earlier process' delivery is what the two clocks said when the spool was opened, and grows from there.
//!   It is never negative.
//! - What is remembered does not grow: of the last [`STEPS`] times that the clock was set.
//!
//! Records have the system's time, because only that means something to another process. It reads no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const STEPS: usize = 64;
/// Less than this is a clock that is a little fast or slow.
const STEP_MS: i64 = 500;

#[derive(Debug)]
pub struct Ages {
    opened: Instant,
    /// The system's clock then, in milliseconds since 1970.
    opened_ms: u64,
    /// Of rows from here on this process has written the time.
    own_from: u64,
    /// By how much the system's clock was ahead of ours, for rows from a position on.
    steps: VecDeque<(u64, i64)>,
}

impl Ages {
    pub fn new(own_from: u64, now: Instant, wall_ms: u64) -> Ages {
        Ages {
            opened: now,
            opened_ms: wall_ms,
            own_from,
            steps: VecDeque::new(),
        }
    }

    /// Rows from this position on get the system's time.
    pub fn note(&mut self, position: u64, now: Instant, wall_ms: u64) {
        let ahead = wall_ms as i64 - self.ours(now);
        let last = self.steps.back().map_or(0, |(_, ahead)| *ahead);
        if (ahead - last).abs() < STEP_MS {
            return;
        }
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back((position, ahead));
    }

    /// Of rows at this position that were written at this time of the system's clock.
    pub fn age(&self, position: u64, time_ms: u64, now: Instant) -> Duration {
        if position < self.own_from {
            return self.when_opened(time_ms) + now.saturating_duration_since(self.opened);
        }
        let after = self.steps.partition_point(|(first, _)| *first <= position);
        let ahead = match after {
            0 => 0,
            after => self.steps[after - 1].1,
        };
        let age = self.ours(now) - (time_ms as i64 - ahead);
        Duration::from_millis(age.max(0) as u64)
    }

    /// The age of a time that an earlier process has written, when the spool was opened.
    pub fn when_opened(&self, time_ms: u64) -> Duration {
        Duration::from_millis(self.opened_ms.saturating_sub(time_ms))
    }

    /// What the system's clock would say if nobody had set it since.
    fn ours(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.opened);
        self.opened_ms as i64 + passed.as_millis() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const NOON: u64 = 20_000 * DAY;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// ages are those of the spool's own clock, whatever the system's does.
    #[test]
    fn a_clock_that_jumps_makes_no_delivery_older_or_younger() {
        let start = Instant::now();
        for jump in [-(DAY as i64), -20_000 * DAY as i64, 3_600_000, 365 * DAY as i64] {
            let wall = |ms: u64| (NOON + ms).saturating_add_signed(jump);
            let mut ages = Ages::new(100, start, NOON);
            ages.note(100, after(start, 1), NOON + 1_000);
            ages.note(200, after(start, 3), wall(3_000));
            ages.note(300, after(start, 5), NOON + 5_000);
            let age = |position, time_ms| ages.age(position, time_ms, after(start, 10)).as_secs();
            assert_eq!(age(100, NOON + 1_000), 9, "before the jump of {jump}");
            assert_eq!(age(200, wall(3_000)), 7, "after the jump of {jump}");
            assert_eq!(age(250, wall(4_000)), 6, "later");
            assert_eq!(age(300, NOON + 5_000), 5, "the clock was set back");
            // Of an earlier process.
            assert_eq!(age(0, NOON - 60_000), 70);
            assert_eq!(age(0, NOON + DAY), 10, "its clock was ahead");
        }
    }

    #[test]
    fn a_clock_that_is_set_again_and_again_is_remembered_in_bounds() {
        let start = Instant::now();
        let mut ages = Ages::new(0, start, NOON);
        for step in 0..1_000 {
            ages.note(step, start, NOON + step % 2 * DAY);
        }
        assert_eq!(ages.steps.len(), STEPS);
        assert_eq!(ages.age(999, NOON + DAY, after(start, 1)), Duration::from_secs(1));
        assert_eq!(ages.when_opened(NOON + DAY), Duration::ZERO);
    }
}
