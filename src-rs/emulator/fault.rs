//! What goes wrong on purpose, and when.
//!
//! Invariants:
//! - A fault fires as often as it says over the life of the emulator, and at most once per stream
//!   unless it is a rule (`reject`, `limit`).
//! - Streams are counted per table, from 1, in the order in which they ask; refused ones count.
//!
//! How a fault is written down is `config/emulator.rs`; what it does to a stream is `stream.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Array, BooleanArray, RecordBatch, StringArray};
use arrow::compute::kernels::cmp;
use arrow::compute::{CastOptions, cast_with_options};

use super::TableName;

#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    /// Every table, if none is named.
    pub table: Option<TableName>,
    /// The n-th stream of its table; any, if none is named.
    pub stream: Option<u64>,
    /// Fires at the batch with which this is reached; at the first one, if nothing is said.
    pub after: Option<After>,
    /// For ever, if none.
    pub times: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Rows(u64),
    Batches(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// The stream is refused with this status.
    Refuse { status: Grpc, message: Option<String> },
    /// The schema is refused, for these causes.
    RefuseSchema { causes: Vec<Cause> },
    /// The token is no longer known: at set-up, or in the midst of a stream.
    ExpireToken,
    /// The stream is to be closed by the client within `grace`, and is closed by the server then.
    Rotate { grace: Duration },
    /// No acknowledgement for that long; rows are kept all the same.
    Stall { time: Duration },
    /// The first `rows` rows of the batch are kept and acknowledged; then the stream breaks.
    Partial { rows: usize },
    /// The batch is not kept; the stream ends with this status.
    Close { status: Grpc, message: Option<String> },
    /// The batch is not kept; the connection is gone without a word.
    LoseBeforeCommit,
    /// The batch is kept; the connection is gone before it is acknowledged.
    LoseAfterCommit,
    /// Error 6006: come back in a while. With a time the server says how long.
    Pause { time: Option<Duration> },
    /// Batches with rows like these are refused whole.
    Reject(FaultRule),
    /// More open streams than that are refused.
    Limit { streams: usize },
    /// The token endpoint answers this.
    IssuedToken { status: u16 },
}

impl FaultKind {
    /// Whether it can happen in the midst of a stream.
    pub fn can_wait(&self) -> bool {
        use FaultKind::*;
        !matches!(
            self,
            Refuse { .. } | RefuseSchema { .. } | Reject(_) | Limit { .. } | IssuedToken { .. }
        )
    }

    pub fn word(&self) -> &'static str {
        match self {
            FaultKind::Refuse { .. } => "refuse",
            FaultKind::RefuseSchema { .. } => "refuse-schema",
            FaultKind::ExpireToken => "expire-token",
            FaultKind::Rotate { .. } => "rotate",
            FaultKind::Stall { .. } => "stall",
            FaultKind::Partial { .. } => "partial",
            FaultKind::Close { .. } => "close",
            FaultKind::LoseBeforeCommit => "lose-before-commit",
            FaultKind::LoseAfterCommit => "lose-after-commit",
            FaultKind::Pause { .. } => "pause",
            FaultKind::Reject(_) => "reject",
            FaultKind::Limit { .. } => "limit",
            FaultKind::IssuedToken { .. } => "token",
        }
    }

    fn is_rule(&self) -> bool {
        matches!(self, FaultKind::Reject(_) | FaultKind::Limit { .. })
    }
}

/// The statuses that a fault may name: a code of gRPC, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grpc {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    Internal,
    Unavailable,
    Unauthenticated,
}

impl Grpc {
    pub const NAMES: [(&str, Grpc); 12] = [
        ("CANCELLED", Grpc::Cancelled),
        ("UNKNOWN", Grpc::Unknown),
        ("INVALID_ARGUMENT", Grpc::InvalidArgument),
        ("DEADLINE_EXCEEDED", Grpc::DeadlineExceeded),
        ("NOT_FOUND", Grpc::NotFound),
        ("PERMISSION_DENIED", Grpc::PermissionDenied),
        ("RESOURCE_EXHAUSTED", Grpc::ResourceExhausted),
        ("FAILED_PRECONDITION", Grpc::FailedPrecondition),
        ("ABORTED", Grpc::Aborted),
        ("INTERNAL", Grpc::Internal),
        ("UNAVAILABLE", Grpc::Unavailable),
        ("UNAUTHENTICATED", Grpc::Unauthenticated),
    ];

    pub fn code(self) -> tonic::Code {
        match self {
            Grpc::Cancelled => tonic::Code::Cancelled,
            Grpc::Unknown => tonic::Code::Unknown,
            Grpc::InvalidArgument => tonic::Code::InvalidArgument,
            Grpc::DeadlineExceeded => tonic::Code::DeadlineExceeded,
            Grpc::NotFound => tonic::Code::NotFound,
            Grpc::PermissionDenied => tonic::Code::PermissionDenied,
            Grpc::ResourceExhausted => tonic::Code::ResourceExhausted,
            Grpc::FailedPrecondition => tonic::Code::FailedPrecondition,
            Grpc::Aborted => tonic::Code::Aborted,
            Grpc::Internal => tonic::Code::Internal,
            Grpc::Unavailable => tonic::Code::Unavailable,
            Grpc::Unauthenticated => tonic::Code::Unauthenticated,
        }
    }
}

/// Why a schema does not fit its table, in the service's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    FieldNotInTable,
    MissingRequiredColumn,
    FieldOutOfOrder,
    TypeIncompatible,
    FieldCountMismatch,
}

impl Cause {
    pub const ALL: [Cause; 5] = [
        Cause::FieldNotInTable,
        Cause::MissingRequiredColumn,
        Cause::FieldOutOfOrder,
        Cause::TypeIncompatible,
        Cause::FieldCountMismatch,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Cause::FieldNotInTable => "FIELD_NOT_IN_TABLE",
            Cause::MissingRequiredColumn => "MISSING_REQUIRED_COLUMN",
            Cause::FieldOutOfOrder => "FIELD_OUT_OF_ORDER",
            Cause::TypeIncompatible => "TYPE_INCOMPATIBLE",
            Cause::FieldCountMismatch => "FIELD_COUNT_MISMATCH",
        }
    }
}

/// Which rows are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    pub column: String,
    pub test: FaultTest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultTest {
    Equals(String),
    Below(String),
    Above(String),
    Null,
}

impl FaultRule {
    /// The first row of the batch that the rule refuses. A column that is not there refuses nothing,
    /// nor does a value that is none of the column's type.
    pub fn first_refused(&self, batch: &RecordBatch) -> Option<usize> {
        let column = batch.column_by_name(&self.column)?;
        let (text, compare): (_, fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> _) =
            match &self.test {
                FaultTest::Null => return (0..column.len()).find(|row| column.is_null(*row)),
                FaultTest::Equals(text) => (text, cmp::eq),
                FaultTest::Below(text) => (text, cmp::lt),
                FaultTest::Above(text) => (text, cmp::gt),
            };
        let text = StringArray::from(vec![text.as_str()]);
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let value = cast_with_options(&text, column.data_type(), &strict).ok()?;
        let found: BooleanArray = compare(column, &arrow::array::Scalar::new(value)).ok()?;
        (0..found.len()).find(|row| found.is_valid(*row) && found.value(*row))
    }
}

/// All faults, and how often each has fired.
#[derive(Default)]
pub struct Faults {
    armed: Mutex<Vec<Armed>>,
    streams: Mutex<HashMap<String, u64>>,
}

struct Armed {
    fault: Fault,
    fired: u64,
}

/// What a stream has seen of them.
pub struct Seen {
    table: String,
    stream: u64,
    fired: HashSet<usize>,
}

impl Faults {
    pub fn add(&self, fault: Fault) {
        self.lock().push(Armed { fault, fired: 0 });
    }

    /// A stream asks to be opened.
    pub fn stream(&self, table: &str) -> Seen {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.entry(table.to_string()).or_default();
        *stream += 1;
        Seen {
            table: table.to_string(),
            stream: *stream,
            fired: HashSet::new(),
        }
    }

    /// The next fault that fires when a stream is set up and that `wanted` picks.
    pub fn at_setup(&self, seen: &mut Seen, wanted: impl Fn(&FaultKind) -> bool) -> Option<FaultKind> {
        self.next(seen, |fault| fault.after.is_none() && wanted(&fault.kind))
    }

    /// The next fault that fires with a batch, after which this many rows and batches came.
    pub fn at_batch(
        &self,
        seen: &mut Seen,
        rows: u64,
        batches: u64,
        batch: &RecordBatch,
    ) -> Option<FaultKind> {
        self.next(seen, |fault| match (&fault.kind, fault.after) {
            (FaultKind::Reject(rule), _) => rule.first_refused(batch).is_some(),
            (FaultKind::ExpireToken | FaultKind::Pause { .. }, None) => false,
            (kind, None) => kind.can_wait(),
            (_, Some(After::Rows(reached))) => rows >= reached,
            (_, Some(After::Batches(reached))) => batches >= reached,
        })
    }

    /// The status with which the token endpoint is to answer.
    pub fn at_token(&self, table: &str) -> Option<u16> {
        let mut anyone = Seen {
            table: table.to_string(),
            stream: 0,
            fired: HashSet::new(),
        };
        match self.next(&mut anyone, |fault| {
            matches!(fault.kind, FaultKind::IssuedToken { .. })
        }) {
            Some(FaultKind::IssuedToken { status }) => Some(status),
            _ => None,
        }
    }

    fn next(&self, seen: &mut Seen, fires: impl Fn(&Fault) -> bool) -> Option<FaultKind> {
        let mut armed = self.lock();
        let (index, found) = armed.iter_mut().enumerate().find(|(index, armed)| {
            let fault = &armed.fault;
            fault.times.is_none_or(|times| armed.fired < times)
                && fault
                    .table
                    .as_ref()
                    .is_none_or(|table| table.full() == seen.table)
                && fault.stream.is_none_or(|stream| stream == seen.stream)
                && (fault.kind.is_rule() || !seen.fired.contains(index))
                && fires(fault)
        })?;
        found.fired += 1;
        seen.fired.insert(index);
        Some(found.fault.kind.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
