//! What happens in an emulator, one value per event; its `Display` is the line of a log.
//!
//! No event holds a token or a secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum EmulatorEvent {
    Listening {
        address: String,
        tls: bool,
    },
    TokenIssued {
        client_id: String,
        /// None: a token for the table API only.
        table: Option<String>,
        #[serde(rename = "lifetimeMs", serialize_with = "millis")]
        lifetime: Duration,
    },
    TokenRefused {
        status: u16,
        reason: String,
    },
    /// A path or a method that nothing answers to: another interface of the service, or a wrong URL.
    RequestRefused {
        path: String,
        reason: String,
    },
    TableRead {
        table: String,
    },
    TableCreated {
        table: String,
        columns: usize,
    },
    StreamOpened {
        table: String,
        /// Counted through the emulator's life.
        stream: u64,
        client: String,
    },
    StreamRefused {
        table: String,
        stream: u64,
        status: String,
        reason: String,
    },
    FaultFired {
        table: String,
        stream: u64,
        fault: String,
    },
    BatchRefused {
        table: String,
        stream: u64,
        offset: u64,
        reason: String,
    },
    Committed {
        table: String,
        rows: u64,
        batches: usize,
        version: Option<u64>,
    },
    WriteFailed {
        table: String,
        reason: String,
    },
    StreamClosed {
        table: String,
        stream: u64,
        rows_received: u64,
        rows_acknowledged: u64,
        /// How it ended: `OK`, a status with its text, or that the client went away.
        end: String,
    },
    Stopped {
        rows: u64,
        tables: usize,
    },
}

fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for EmulatorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmulatorEvent::Listening { address, tls } => {
                let how = if *tls { "TLS" } else { "plain text" };
                write!(f, "listening on {address} ({how})")
            }
            EmulatorEvent::TokenIssued {
                client_id,
                table,
                lifetime,
            } => {
                let what = table.as_deref().unwrap_or("the table API");
                write!(
                    f,
                    "token for {what} to {client_id:?}, good for {}",
                    humantime::format_duration(*lifetime)
                )
            }
            EmulatorEvent::TokenRefused { status, reason } => {
                write!(f, "token refused with {status}: {reason}")
            }
            EmulatorEvent::RequestRefused { path, reason } => {
                write!(f, "request for {path:?} refused: {reason}")
            }
            EmulatorEvent::TableRead { table } => write!(f, "{table}: described"),
            EmulatorEvent::TableCreated { table, columns } => {
                write!(f, "{table}: created with {columns} columns")
            }
            EmulatorEvent::StreamOpened {
                table,
                stream,
                client,
            } => {
                write!(f, "{table}: stream {stream} opened by {client:?}")
            }
            EmulatorEvent::StreamRefused {
                table,
                stream,
                status,
                reason,
            } => {
                write!(f, "{table}: stream {stream} refused with {status}: {reason}")
            }
            EmulatorEvent::FaultFired { table, stream, fault } => {
                write!(f, "{table}: stream {stream} meets the fault {fault}")
            }
            EmulatorEvent::BatchRefused {
                table,
                stream,
                offset,
                reason,
            } => {
                write!(f, "{table}: stream {stream} had batch {offset} refused: {reason}")
            }
            EmulatorEvent::Committed {
                table,
                rows,
                batches,
                version,
            } => {
                write!(f, "{table}: {rows} rows in {batches} batches committed")?;
                match version {
                    Some(version) => write!(f, " as version {version}"),
                    None => Ok(()),
                }
            }
            EmulatorEvent::WriteFailed { table, reason } => write!(f, "{table}: not written: {reason}"),
            EmulatorEvent::StreamClosed {
                table,
                stream,
                rows_received,
                rows_acknowledged,
                end,
            } => write!(
                f,
                "{table}: stream {stream} ended ({end}) with {rows_acknowledged} of {rows_received} rows acknowledged"
            ),
            EmulatorEvent::Stopped { rows, tables } => {
                write!(f, "stopped with {rows} rows in {tables} tables")
            }
        }
    }
}

/// Gets every event, on the emulator's own threads: it must not block.
#[derive(Clone, Default)]
pub struct EmulatorObserver(Option<Arc<EventCallback>>);

type EventCallback = dyn Fn(&EmulatorEvent) + Send + Sync;

impl EmulatorObserver {
    pub fn new(told: impl Fn(&EmulatorEvent) + Send + Sync + 'static) -> EmulatorObserver {
        EmulatorObserver(Some(Arc::new(told)))
    }

    pub fn tell(&self, event: EmulatorEvent) {
        if let Some(told) = &self.0 {
            told(&event);
        }
    }
}
