//! Events for JavaScript as numbers and text, in the layout of `specs/boundary.md`.
//!
//! A block bounds what one call of JavaScript takes. It knows no thread and no JavaScript value.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::callbacks::HeadersReason;
use crate::error::Error;
use crate::outcome::{Outcome, Position, Status};
use crate::transmitter::{Event, FactKind, Log};

/// Events of a block. JavaScript takes microseconds for each, more for one in words.
const MAX_EVENTS: usize = 1_024;
const MAX_DETAILS: usize = 512;
const MAX_DETAIL_BYTES: usize = 512 << 10;
/// Events as `specs/boundary.md` has them: the argument of one call.
#[derive(Default)]
pub struct EventBlock {
    numbers: Vec<f64>,
    /// What the numbers refer to by index, each as JSON.
    details: Vec<String>,
    detail_bytes: usize,
    count: usize,
    /// How many of them JavaScript waits for.
    awaited: usize,
}

/// What native threads tell JavaScript.
pub enum JsEvent {
    Transmitter(Event),
    Answered {
        operation: f64,
        error: Option<Error>,
    },
    /// What the destination says of the table's schema, as an IPC stream; none if it cannot tell.
    Described {
        operation: f64,
        schema: Option<Vec<u8>>,
    },
    HeadersWanted {
        request: u64,
        reason: HeadersReason,
    },
    RetryAsked {
        request: u64,
        error: Error,
    },
    /// An operation of an emulator, done.
    #[cfg(feature = "emulator")]
    Replied {
        operation: f64,
        value: Value,
    },
    /// An event of an emulator. Nobody waits for one.
    #[cfg(feature = "emulator")]
    Happened(Value),
}

impl JsEvent {
    /// Whether it may go along with a later event: it says when it was, and nobody acts on it.
    pub fn can_wait(&self) -> bool {
        let JsEvent::Transmitter(Event::Fact(fact)) = self else {
            return false;
        };
        matches!(
            fact.kind,
            FactKind::Sent { .. } | FactKind::Taken { .. } | FactKind::Gone { .. }
        )
    }

    /// The part in words, beside the numbers, as JSON.
    pub fn detail(&self) -> Option<String> {
        match self {
            JsEvent::Transmitter(Event::Settled(outcome) | Event::Recovered(outcome)) => {
                let has_any = outcome.error.is_some() || !outcome.rejections.is_empty();
                has_any.then(|| {
                    let error = outcome.error.as_ref().map(Error::to_json);
                    json!({ "error": error, "rejections": outcome.rejections }).to_string()
                })
            }
            JsEvent::Transmitter(Event::Log(Log {
                level,
                message,
                fields,
            })) => Some(json!({ "level": level, "message": message, "fields": fields }).to_string()),
            JsEvent::Transmitter(Event::Fact(fact)) => Some(fact.to_json().to_string()),
            JsEvent::Answered { error, .. } => error.as_ref().map(|error| error.to_json().to_string()),
            JsEvent::Described { schema, .. } => schema
                .as_ref()
                .map(|schema| format!("\"{}\"", BASE64_STANDARD.encode(schema))),
            JsEvent::RetryAsked { error, .. } => Some(error.to_json().to_string()),
            #[cfg(feature = "emulator")]
            JsEvent::Replied { value, .. } | JsEvent::Happened(value) => Some(value.to_string()),
            JsEvent::Transmitter(Event::Granted(_) | Event::Spooled(_)) | JsEvent::HeadersWanted { .. } => {
                None
            }
        }
    }
}

impl EventBlock {
    /// An empty block in memory that is there already.
    pub fn reusing(numbers: Vec<f64>) -> EventBlock {
        EventBlock {
            numbers,
            ..EventBlock::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of its events JavaScript waits for.
    pub fn awaited(&self) -> usize {
        self.awaited
    }

    /// How much of a full block it is; 1 or a little more of one that is full.
    pub fn share(&self) -> f64 {
        let shares = [
            self.count as f64 / MAX_EVENTS as f64,
            self.details.len() as f64 / MAX_DETAILS as f64,
            self.detail_bytes as f64 / MAX_DETAIL_BYTES as f64,
        ];
        shares.into_iter().fold(0.0, f64::max)
    }

    /// Tells JavaScript that no other block comes before it asks.
    pub fn say_more(&mut self) {
        self.numbers.extend([9.0, 2.0]);
    }

    /// The numbers, and the details as one JSON array.
    pub fn into_arguments(self) -> (Vec<f64>, String) {
        let details = match self.details.as_slice() {
            [] => String::new(),
            details => format!("[{}]", details.join(",")),
        };
        (self.numbers, details)
    }

    pub fn is_full(&self) -> bool {
        self.share() >= 1.0
    }

    pub fn write(&mut self, event: &JsEvent, detail: Option<String>) {
        self.count += 1;
        let index = match detail {
            None => -1.0,
            Some(detail) => {
                // Many that end together end for one reason, in the same words.
                if self.details.last() != Some(&detail) {
                    self.detail_bytes += detail.len();
                    self.details.push(detail);
                }
                (self.details.len() - 1) as f64
            }
        };
        match event {
            JsEvent::Transmitter(Event::Settled(outcome)) => {
                self.awaited += 1;
                self.numbers.extend(settled(outcome, index, 1.0));
            }
            // Nobody waits for it.
            JsEvent::Transmitter(Event::Recovered(outcome)) => {
                self.numbers.extend(settled(outcome, index, 11.0));
            }
            JsEvent::Transmitter(Event::Spooled(sequence)) => {
                self.numbers.extend([10.0, 3.0, *sequence as f64]);
            }
            // A granted ticket stays open until it is redeemed or cancelled.
            JsEvent::Transmitter(Event::Granted(ticket)) => self.numbers.extend([2.0, 3.0, *ticket as f64]),
            JsEvent::Transmitter(Event::Log(_)) => self.numbers.extend([4.0, 3.0, index]),
            JsEvent::Transmitter(Event::Fact(_)) => self.numbers.extend([20.0, 3.0, index]),
            JsEvent::Answered { operation, .. } => {
                self.awaited += 1;
                self.numbers.extend([3.0, 4.0, *operation, index]);
            }
            JsEvent::Described { operation, .. } => {
                self.awaited += 1;
                self.numbers.extend([12.0, 4.0, *operation, index]);
            }
            JsEvent::HeadersWanted { request, reason } => {
                let reason = match reason {
                    HeadersReason::Connect => 0.0,
                    HeadersReason::Unauthenticated => 1.0,
                };
                self.numbers.extend([5.0, 4.0, *request as f64, reason]);
            }
            JsEvent::RetryAsked { request, .. } => {
                self.numbers.extend([8.0, 4.0, *request as f64, index]);
            }
            #[cfg(feature = "emulator")]
            JsEvent::Replied { operation, .. } => {
                self.awaited += 1;
                self.numbers.extend([6.0, 4.0, *operation, index]);
            }
            #[cfg(feature = "emulator")]
            JsEvent::Happened(_) => self.numbers.extend([7.0, 3.0, index]),
        }
    }
}

fn settled(outcome: &Outcome, detail: f64, kind_of_event: f64) -> [f64; 24] {
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let (kind, position) = match outcome.position {
        Position::None => (0.0, 0.0),
        Position::Version(version) => (1.0, version as f64),
        Position::Offset(offset) => (2.0, offset as f64),
    };
    let status = match outcome.status {
        Status::Acknowledged => 0.0,
        Status::Partial => 1.0,
        Status::Failed => 2.0,
        Status::Unknown => 3.0,
        Status::Spooled => 4.0,
    };
    [
        kind_of_event,
        24.0,
        outcome.sequence as f64,
        status,
        outcome.rows as f64,
        outcome.accepted_rows as f64,
        outcome.rejections.len() as f64,
        f64::from(outcome.attempts),
        outcome.bytes as f64,
        outcome.buffers_copied_for_pin_limit as f64,
        outcome.buffers_realigned as f64,
        kind,
        position,
        ms(outcome.timings.handoff),
        ms(outcome.timings.queue),
        ms(outcome.timings.encode),
        ms(outcome.timings.transmit),
        ms(outcome.timings.acknowledge),
        ms(outcome.timings.latency),
        detail,
        f64::from(outcome.retries),
        f64::from(outcome.writes),
        f64::from(u8::from(outcome.payload_changed)),
        0.0,
    ]
}
