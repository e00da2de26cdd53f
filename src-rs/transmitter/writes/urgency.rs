//! When rows are written and committed because a caller waits for them. Pure: the clock is the caller's.
//!
//! Invariants:
//! - Where the destination was quiet for its commit interval, rows go at once, but for the moment in which
//!   other callers may join.
//! - Where it was not, rows go when the next commit comes anyway: callers who wait add no commits.
//! - Rows that stopped lingering do not linger again when their write is replayed.

use std::time::{Duration, Instant};

use crate::transmitter::clock::LONGEST;

/// Rows that come within this time go along. Callers that send together must not each have a commit.
const TOGETHER: Duration = Duration::from_millis(2);

pub struct Urgency {
    interval: Duration,
    linger: Duration,
    /// Whether rows wait for a commit once they are written.
    commits: bool,
    committed: Option<Instant>,
    due: Option<Instant>,
    through: u64,
}

impl Urgency {
    /// `commit_interval`: as the destination has it. Where it has none, rows wait only for other rows.
    pub fn new(commit_interval: Option<Duration>, linger: Duration) -> Urgency {
        let interval = commit_interval.unwrap_or(linger).min(LONGEST);
        Urgency {
            interval,
            // `batching.linger` is for callers who do not wait. Those who do wait no longer than the interval.
            linger: linger.min(interval),
            commits: commit_interval.is_some(),
            committed: None,
            due: None,
            through: 0,
        }
    }

    /// Somebody waits for what has arrived.
    pub fn asked(&mut self, now: Instant) {
        let due = match self.quiet_from() {
            Some(quiet) if now < quiet => quiet + self.linger,
            _ => now + TOGETHER,
        };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Rows were acknowledged. Whoever still waits came too late for that commit.
    pub fn committed(&mut self, now: Instant) {
        self.committed = Some(now);
        let next = now + self.interval + self.linger;
        self.due = self.due.map(|due| due.max(next));
    }

    /// To be called before anything is looked up: what is due by now goes with all that has arrived.
    pub fn expire(&mut self, now: Instant, last_arrived: u64) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.through = last_arrived;
        }
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Deliveries up to this one linger no longer.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// Deliveries up to this one are to be committed.
    pub fn commit_through(&self) -> Option<u64> {
        self.commits.then_some(self.through)
    }

    fn quiet_from(&self) -> Option<Instant> {
        Some(self.committed? + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const LINGER: Duration = Duration::from_millis(50);

    #[test]
    fn a_quiet_destination_is_hurried_once_those_who_came_together_are_there() {
        let start = Instant::now();
        let mut urgency = Urgency::new(Some(INTERVAL), LINGER);
        urgency.expire(start, 1);
        assert_eq!((urgency.through(), urgency.due()), (0, None));
        urgency.asked(start);
        urgency.asked(start + Duration::from_millis(1));
        assert_eq!(urgency.due(), Some(start + TOGETHER));
        urgency.expire(start + TOGETHER, 7);
        assert_eq!((urgency.through(), urgency.due()), (7, None));
        assert_eq!(urgency.commit_through(), Some(7));
    }

    /// Commits come as often as they do where nobody waits: an interval after rows that lingered.
    #[test]
    fn a_busy_one_is_hurried_when_its_next_commit_comes_anyway() {
        let start = Instant::now();
        let mut urgency = Urgency::new(Some(INTERVAL), LINGER);
        urgency.committed(start);
        urgency.asked(start + Duration::from_millis(1));
        assert_eq!(urgency.due(), Some(start + INTERVAL + LINGER));
        // The destination has committed by itself meanwhile.
        let committed = start + INTERVAL;
        urgency.committed(committed);
        assert_eq!(urgency.due(), Some(committed + INTERVAL + LINGER));
        let quiet = committed + 2 * INTERVAL;
        urgency.expire(quiet, 3);
        urgency.asked(quiet);
        assert_eq!(urgency.due(), Some(quiet + TOGETHER));
    }

    #[test]
    fn without_commits_there_is_only_the_linger_to_spare() {
        let start = Instant::now();
        let mut urgency = Urgency::new(None, LINGER);
        urgency.asked(start);
        urgency.expire(start + TOGETHER, 2);
        assert_eq!((urgency.through(), urgency.commit_through()), (2, None));
        urgency.committed(start + TOGETHER);
        urgency.asked(start + LINGER);
        assert_eq!(urgency.due(), Some(start + TOGETHER + 2 * LINGER));
        let mut endless = Urgency::new(Some(Duration::MAX), Duration::MAX);
        endless.committed(start);
        endless.asked(start);
        assert!(endless.due().is_some_and(|due| due > start + LONGEST));
    }
}
