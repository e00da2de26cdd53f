//! Where a write stands with the session, and how often it was tried. Pure.
//!
//! | state | what it says | becomes |
//! |---|---|---|
//! | `Waiting(history)` | no session has it | `Queued(history)` when it is put on its way to the open session |
//! | `Queued(history)` | on its way to the open session, which was not given it yet | `Sent` when it is given; `Waiting(history)` when the session is gone |
//! | `Sent` | the open session was given it | `Waiting(Tried)` or `Waiting(InDoubt)` when the session is gone |
//!
//! | history | what it says of earlier sessions | becomes |
//! |---|---|---|
//! | `Untried` | none was given it: no row is held | `Tried`, `InDoubt` through `Sent` |
//! | `Tried` | one was, and nothing of it is held but what was settled | `InDoubt` through `Sent` |
//! | `InDoubt` | one was, and rows of it may be held | `Tried` when a destination has looked and the rows are not there |
//!
//! No other combination is possible: what was given is tried, what was never given is not in doubt, and only
//! the session that was given a write says that its first rows are done. What is settled leaves the window.

use std::time::{Duration, Instant};

/// Where a write stands with the session that is open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteState {
    Waiting(History),
    Queued(History),
    Sent {
        /// Rows of an earlier try may be held.
        in_doubt: bool,
        /// Rows at its start that this session has made durable, already settled.
        done_rows: usize,
    },
}

/// What earlier sessions have left of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    Untried,
    Tried,
    InDoubt,
}

/// How often a write was tried, and since when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    count: u32,
    first: Option<Instant>,
}

impl WriteState {
    pub fn queued(self) -> WriteState {
        match self {
            WriteState::Waiting(history) => WriteState::Queued(history),
            other => other,
        }
    }

    pub fn sent(self) -> WriteState {
        match self {
            WriteState::Waiting(history) | WriteState::Queued(history) => WriteState::Sent {
                in_doubt: history == History::InDoubt,
                done_rows: 0,
            },
            sent => sent,
        }
    }

    /// The session is gone; `ambiguous` says that rows which it was given may be held.
    pub fn rewound(self, ambiguous: bool) -> WriteState {
        match self {
            WriteState::Sent { in_doubt, .. } if in_doubt || ambiguous => {
                WriteState::Waiting(History::InDoubt)
            }
            WriteState::Sent { .. } => WriteState::Waiting(History::Tried),
            WriteState::Waiting(history) | WriteState::Queued(history) => WriteState::Waiting(history),
        }
    }

    /// The destination has looked, and rows that it does not name are not there.
    pub fn looked_for(self) -> WriteState {
        match self {
            WriteState::Waiting(History::InDoubt) => WriteState::Waiting(History::Tried),
            other => other,
        }
    }
}

impl Attempts {
    pub fn count(self) -> u32 {
        self.count
    }

    pub fn begin(&mut self, now: Instant) {
        self.count += 1;
        self.first.get_or_insert(now);
    }

    /// The last one was no try: what ended it was no failure of this write.
    pub fn refund(&mut self) {
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            self.first = None;
        }
    }

    pub fn elapsed(self, now: Instant) -> Duration {
        self.first
            .map_or(Duration::ZERO, |first| now.saturating_duration_since(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [WriteState; 8] = [
        WriteState::Waiting(History::Untried),
        WriteState::Waiting(History::Tried),
        WriteState::Waiting(History::InDoubt),
        WriteState::Queued(History::Untried),
        WriteState::Queued(History::Tried),
        WriteState::Queued(History::InDoubt),
        WriteState::Sent {
            in_doubt: false,
            done_rows: 0,
        },
        WriteState::Sent {
            in_doubt: true,
            done_rows: 3,
        },
    ];

    /// The table at the top, line by line.
    #[test]
    fn states_change_as_the_table_says() {
        use History::{InDoubt, Tried, Untried};
        use WriteState::{Queued, Waiting};
        let sent = |in_doubt| WriteState::Sent {
            in_doubt,
            done_rows: 0,
        };
        let done = STATES[7];
        let all = |change: fn(WriteState) -> WriteState| STATES.map(change);
        let queued = [Queued(Untried), Queued(Tried), Queued(InDoubt)];
        let waiting = [Waiting(Untried), Waiting(Tried), Waiting(InDoubt)];
        assert_eq!(
            all(WriteState::queued),
            [
                queued[0],
                queued[1],
                queued[2],
                queued[0],
                queued[1],
                queued[2],
                sent(false),
                done
            ]
        );
        let to = [sent(false), sent(false), sent(true)];
        assert_eq!(
            all(WriteState::sent),
            [to[0], to[1], to[2], to[0], to[1], to[2], sent(false), done]
        );
        let back = |end| {
            [
                waiting[0], waiting[1], waiting[2], waiting[0], waiting[1], waiting[2], end, waiting[2],
            ]
        };
        assert_eq!(all(|state| state.rewound(false)), back(waiting[1]));
        assert_eq!(all(|state| state.rewound(true)), back(waiting[2]));
        let looked = all(WriteState::looked_for);
        assert_eq!(looked[2], waiting[1]);
        for index in [0, 1, 3, 4, 5, 6, 7] {
            assert_eq!(looked[index], STATES[index]);
        }
    }

    #[test]
    fn a_try_that_was_none_leaves_no_trace() {
        let now = Instant::now();
        let mut attempts = Attempts::default();
        attempts.begin(now);
        attempts.begin(now + Duration::from_secs(1));
        attempts.refund();
        assert_eq!(
            (attempts.count, attempts.elapsed(now + Duration::from_secs(3))),
            (1, Duration::from_secs(3))
        );
        attempts.refund();
        attempts.refund();
        assert_eq!(attempts, Attempts::default());
    }
}
