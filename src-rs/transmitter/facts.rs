//! What happens on the way of rows, told as it happens: for spans, metrics and logs. Nobody waits for a fact.
//!
//! Invariants:
//! - What is told of each write costs nothing while nobody follows writes (`Counters::followed`).
//! - A fact has no data of the user's and no URL; the messages of its errors are those that results have.
//! - A write that left the window is told as gone, however it left.
//!
//! It decides nothing and keeps no write: the engine calls it where something happens.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::clock::now;
use super::writes::WindowWrite;
use super::{Event, Log, Observer};
use crate::counters::Counters;
use crate::error::{Error, RetryClass};
use crate::outcome::Position;

/// Of our own lines; those of libraries have URLs with signatures in them.
const TARGET: &str = "arrow_ingest";

/// Something that happened, and when.
#[derive(Debug, Clone)]
pub struct Fact {
    pub at: SystemTime,
    pub kind: FactKind,
}

#[derive(Debug, Clone)]
pub enum FactKind {
    /// A session is being opened; `again` if there was one before.
    Opening { again: bool },
    /// It is open.
    Opened { again: bool, took: Duration },
    /// It was closed in good order.
    Closed,
    /// A session failed; what is left of its writes is tried again after `delay`.
    Broke {
        error: Error,
        delay: Duration,
        /// Writes that are not acknowledged.
        writes: usize,
    },
    /// The destination asked for another session in time.
    Rotated { error: Error, writes: usize },
    /// The destination refused something for good.
    RefusedForGood { error: Error },
    /// The destination refused rows that it does not name; they are looked for.
    Searching { error: Error },
    /// A session is about to be given a write.
    Sent {
        id: u64,
        attempt: u32,
        rows: usize,
        bytes: usize,
        /// First and last of deliveries in a row, of which it has rows.
        sequences: Vec<(u64, u64)>,
        /// How many it has rows of that an earlier client left in the spool.
        recovered: usize,
    },
    /// The session has taken the write.
    Taken { id: u64, took: Duration },
    /// Every write up to this one is durable.
    Acknowledged { through: u64, position: Position },
    /// Every write before this one has left, acknowledged or not.
    Gone { before: u64 },
    /// Nothing is left of what an earlier client had left in the spool.
    Replayed,
}

/// Whose a delivery is that the engine has from a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpooledBy {
    /// This client's caller, by the number of the delivery.
    Caller(u64),
    /// An earlier client.
    Earlier,
    /// It is settled.
    Nobody,
}

impl Fact {
    pub fn now(kind: FactKind) -> Fact {
        let at = SystemTime::now();
        Fact { at, kind }
    }

    /// Of an engine that delivers from a spool: its sequences are positions, and are told as those of the callers.
    pub fn of_the_disk(mut self, whose: impl Fn(u64) -> SpooledBy) -> Fact {
        if let FactKind::Sent {
            sequences, recovered, ..
        } = &mut self.kind
        {
            let positions = std::mem::take(sequences);
            for position in positions.into_iter().flat_map(|(first, last)| first..=last) {
                match whose(position) {
                    SpooledBy::Caller(sequence) => add(sequences, sequence),
                    SpooledBy::Earlier => *recovered += 1,
                    SpooledBy::Nobody => {}
                }
            }
        }
        self
    }

    /// As `specs/boundary.md` has it.
    pub fn to_json(&self) -> Value {
        let at = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut json = self.kind.to_json();
        json["fact"] = self.kind.name().into();
        json["atMs"] = ms(at).into();
        json
    }
}

impl FactKind {
    pub fn name(&self) -> &'static str {
        match self {
            FactKind::Opening { .. } => "opening",
            FactKind::Opened { .. } => "opened",
            FactKind::Closed => "closed",
            FactKind::Broke { .. } => "broke",
            FactKind::Rotated { .. } => "rotated",
            FactKind::RefusedForGood { .. } => "refused-for-good",
            FactKind::Searching { .. } => "searching",
            FactKind::Sent { .. } => "sent",
            FactKind::Taken { .. } => "taken",
            FactKind::Acknowledged { .. } => "acknowledged",
            FactKind::Gone { .. } => "gone",
            FactKind::Replayed => "replayed",
        }
    }

    fn to_json(&self) -> Value {
        match self {
            FactKind::Opening { again } => json!({ "again": again }),
            FactKind::Opened { again, took } => json!({ "again": again, "tookMs": ms(*took) }),
            FactKind::Closed | FactKind::Replayed => json!({}),
            FactKind::Broke { error, delay, writes } => json!({
                "error": error.to_json(),
                "delayMs": ms(*delay),
                "writes": writes,
                "throttled": error.retry_class() == RetryClass::Throttled,
            }),
            FactKind::Rotated { error, writes } => json!({ "error": error.to_json(), "writes": writes }),
            FactKind::RefusedForGood { error } | FactKind::Searching { error } => {
                json!({ "error": error.to_json() })
            }
            FactKind::Sent {
                id,
                attempt,
                rows,
                bytes,
                sequences,
                recovered,
            } => json!({
                "id": id, "attempt": attempt, "rows": rows, "bytes": bytes, "sequences": sequences,
                "recovered": recovered,
            }),
            FactKind::Taken { id, took } => json!({ "id": id, "tookMs": ms(*took) }),
            FactKind::Acknowledged { through, position } => {
                let (kind, value) = match position {
                    Position::Version(version) => ("version", Some(version)),
                    Position::Offset(offset) => ("offset", Some(offset)),
                    Position::None => ("none", None),
                };
                json!({ "through": through, "position": kind, "value": value })
            }
            FactKind::Gone { before } => json!({ "before": before }),
        }
    }
}

/// Tells facts and lines of the log to whoever listens.
pub struct Teller {
    observer: Observer,
    counters: Arc<Counters>,
    /// When the session that opens began to.
    opening: Option<Instant>,
    /// There was a session before.
    again: bool,
    /// Writes before it were told as gone.
    gone: u64,
}

impl Teller {
    pub fn new(observer: Observer, counters: Arc<Counters>) -> Teller {
        Teller {
            observer,
            counters,
            opening: None,
            again: false,
            gone: 0,
        }
    }

    pub fn opening(&mut self) {
        self.opening = Some(now());
        self.tell(FactKind::Opening { again: self.again });
    }

    pub fn opened(&mut self) {
        let began = self.opening.take();
        let took = began.map_or(Duration::ZERO, |began| now().saturating_duration_since(began));
        let again = std::mem::replace(&mut self.again, true);
        self.counters.retry_delay_ms.set(0);
        self.tell(FactKind::Opened { again, took });
    }

    pub fn broke(&self, error: &Error, delay: Duration, writes: usize) {
        self.counters.retries.add(1);
        self.counters.retry_delay_ms.set(delay.as_millis() as usize);
        if error.retry_class() == RetryClass::Throttled {
            self.counters.pauses.add(1);
        }
        let error = error.clone();
        self.tell(FactKind::Broke { error, delay, writes });
    }

    pub fn rotated(&self, error: &Error, writes: usize) {
        self.counters.sessions_rotated.add(1);
        let error = error.clone();
        self.tell(FactKind::Rotated { error, writes });
    }

    // ---- of each write, where somebody follows them ---------------------------------------------

    pub fn sent(&self, entry: &WindowWrite) {
        if !self.follows() {
            return;
        }
        let mut sequences: Vec<(u64, u64)> = Vec::new();
        for range in entry.ranges() {
            add(&mut sequences, range.sequence);
        }
        self.tell(FactKind::Sent {
            id: entry.id(),
            attempt: entry.attempts(),
            rows: entry.write.rows,
            bytes: entry.write.bytes,
            sequences,
            recovered: 0,
        });
    }

    pub fn taken(&self, id: u64, took: Duration) {
        if self.follows() {
            self.tell(FactKind::Taken { id, took });
        }
    }

    pub fn acknowledged(&self, through: u64, position: Position) {
        if self.follows() {
            self.tell(FactKind::Acknowledged { through, position });
        }
    }

    /// `front`: the oldest write that is left, or the one to come.
    pub fn gone(&mut self, front: u64) {
        if self.follows() && front > self.gone {
            self.gone = front;
            self.tell(FactKind::Gone { before: front });
        }
    }

    // ---- telling --------------------------------------------------------------------------------

    pub fn tell(&self, kind: FactKind) {
        let fact = Fact::now(kind);
        if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            tracing::debug!(target: TARGET, fact = fact.kind.name(), facts = %fact.to_json());
        }
        (self.observer)(Event::Fact(Box::new(fact)));
    }

    pub fn log(&self, level: &'static str, message: &str, fields: Value) {
        match level {
            "error" => tracing::error!(target: TARGET, %fields, "{message}"),
            "warn" => tracing::warn!(target: TARGET, %fields, "{message}"),
            _ => tracing::info!(target: TARGET, %fields, "{message}"),
        }
        let message = message.to_string();
        (self.observer)(Event::Log(Log {
            level,
            message,
            fields,
        }));
    }

    fn follows(&self) -> bool {
        self.counters.followed.get() > 0
    }
}

/// To the first and last of deliveries in a row.
fn add(sequences: &mut Vec<(u64, u64)>, sequence: u64) {
    match sequences.last_mut() {
        Some((_, last)) if *last == sequence || *last + 1 == sequence => *last = sequence,
        _ => sequences.push((sequence, sequence)),
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
