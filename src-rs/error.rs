//! The one error type.
//!
//! Invariants:
//! - Every failure has exactly one [`Code`]; a code has exactly one [`RetryClass`]. Both matches are
//!   exhaustive, so a new code cannot be forgotten by the retry loop or by the specs.
//! - A message never holds a secret: whoever builds an error from foreign text passes it through
//!   the module that knows the secrets first.
//!
//! It does not decide what happens next: `transmitter` reads the class and does.

use std::fmt;
use std::time::Duration;

/// What went wrong, in one stable word. `specs/errors.md` lists origin, class and remedy of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// An option is unknown, of the wrong type or out of range.
    ConfigInvalid,
    /// `handoff: "pin"` was asked for where pinning is not sound.
    HandoffUnsafe,
    /// A batch whose buffers contradict its schema or themselves.
    BatchInvalid,
    /// Bytes that are not what they are said to be, or break off.
    InputInvalid,
    /// An input goes beyond a bound on what it may cost.
    InputTooLarge,
    /// The bytes of a batch changed between handoff and settlement.
    PayloadChanged,
    /// The destination cannot hold this schema exactly.
    SchemaMismatch,
    /// A feature of the destination that this client cannot honour.
    Unsupported,
    /// The table or path does not exist and was not to be created.
    NotFound,
    /// The destination's own state cannot be read.
    TableCorrupt,
    /// The credentials are good but do not allow this.
    PermissionDenied,
    /// The credentials are missing, expired or wrong.
    Unauthenticated,
    /// The destination cannot be reached or broke off.
    Unavailable,
    /// The destination is out of space, quota or patience.
    ResourceExhausted,
    /// Another writer was faster, more often than the retries allow.
    Conflict,
    /// The time given ran out.
    DeadlineExceeded,
    /// The caller aborted.
    Aborted,
    /// The client is closed or closing.
    Closed,
    /// Some rows were refused by the destination.
    RowsRejected,
    /// Close found deliveries that failed and that nobody had looked at.
    Undelivered,
    /// Another client has the spool open.
    SpoolLocked,
    /// The spool, or the disk below it, has no room.
    SpoolFull,
    /// The spool was written by a newer release.
    SpoolFormat,
    /// The disk below the spool failed.
    SpoolFailed,
    /// The destination has rows of a copy of the spool.
    SpoolForeign,
    /// A bug of ours; please report it.
    Internal,
}

impl Code {
    /// Every code, for the tables in `specs/` and the tests that hold them to the code.
    pub const ALL: [Code; 26] = [
        Code::ConfigInvalid,
        Code::HandoffUnsafe,
        Code::BatchInvalid,
        Code::InputInvalid,
        Code::InputTooLarge,
        Code::PayloadChanged,
        Code::SchemaMismatch,
        Code::Unsupported,
        Code::NotFound,
        Code::TableCorrupt,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::Unavailable,
        Code::ResourceExhausted,
        Code::Conflict,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::Closed,
        Code::RowsRejected,
        Code::Undelivered,
        Code::SpoolLocked,
        Code::SpoolFull,
        Code::SpoolFormat,
        Code::SpoolFailed,
        Code::SpoolForeign,
        Code::Internal,
    ];

    /// The code as users see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::ConfigInvalid => "CONFIG_INVALID",
            Code::HandoffUnsafe => "HANDOFF_UNSAFE",
            Code::BatchInvalid => "BATCH_INVALID",
            Code::InputInvalid => "INPUT_INVALID",
            Code::InputTooLarge => "INPUT_TOO_LARGE",
            Code::PayloadChanged => "PAYLOAD_CHANGED",
            Code::SchemaMismatch => "SCHEMA_MISMATCH",
            Code::Unsupported => "UNSUPPORTED",
            Code::NotFound => "NOT_FOUND",
            Code::TableCorrupt => "TABLE_CORRUPT",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::Unauthenticated => "UNAUTHENTICATED",
            Code::Unavailable => "UNAVAILABLE",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::Conflict => "CONFLICT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::Aborted => "ABORTED",
            Code::Closed => "CLOSED",
            Code::RowsRejected => "ROWS_REJECTED",
            Code::Undelivered => "UNDELIVERED",
            Code::SpoolLocked => "SPOOL_LOCKED",
            Code::SpoolFull => "SPOOL_FULL",
            Code::SpoolFormat => "SPOOL_FORMAT",
            Code::SpoolFailed => "SPOOL_FAILED",
            Code::SpoolForeign => "SPOOL_FOREIGN",
            Code::Internal => "INTERNAL",
        }
    }

    /// Whether trying the same thing again can help.
    pub fn retry_class(self) -> RetryClass {
        match self {
            Code::Unavailable | Code::Conflict | Code::SpoolFailed => RetryClass::Transient,
            Code::ResourceExhausted | Code::SpoolFull => RetryClass::Throttled,
            Code::Unauthenticated => RetryClass::Reauthenticate,
            Code::ConfigInvalid
            | Code::HandoffUnsafe
            | Code::BatchInvalid
            | Code::InputInvalid
            | Code::InputTooLarge
            | Code::PayloadChanged
            | Code::SchemaMismatch
            | Code::Unsupported
            | Code::NotFound
            | Code::TableCorrupt
            | Code::PermissionDenied
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Closed
            | Code::RowsRejected
            | Code::Undelivered
            | Code::SpoolLocked
            | Code::SpoolFormat
            | Code::SpoolForeign
            | Code::Internal => RetryClass::Never,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a retry can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// The same call fails again.
    Never,
    /// The same call may pass after a while.
    Transient,
    /// The destination asks for a slower pace.
    Throttled,
    /// The same call may pass with fresh credentials.
    Reauthenticate,
}

impl RetryClass {
    /// The class as users see it.
    pub fn as_str(self) -> &'static str {
        match self {
            RetryClass::Never => "never",
            RetryClass::Transient => "transient",
            RetryClass::Throttled => "throttled",
            RetryClass::Reauthenticate => "reauthenticate",
        }
    }
}

/// A failure with all that a caller needs to act on it.
#[derive(Debug, Clone)]
pub struct Error(Box<Facts>);

#[derive(Debug, Clone)]
struct Facts {
    code: Code,
    message: String,
    causes: Vec<String>,
    operation: Option<&'static str>,
    field: Option<String>,
    row: Option<u64>,
    attempts: u32,
    elapsed: Duration,
    retry_after: Option<Duration>,
    ambiguous: bool,
    refusal: Option<&'static str>,
    graceful: bool,
    issues: Vec<Issue>,
    others: Vec<Error>,
}

/// One mistake in the options: where, what, and the nearest valid name if there is one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Issue {
    pub path: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Facts {
            code,
            message: message.into(),
            causes: Vec::new(),
            operation: None,
            field: None,
            row: None,
            attempts: 0,
            elapsed: Duration::ZERO,
            retry_after: None,
            ambiguous: false,
            refusal: None,
            graceful: false,
            issues: Vec::new(),
            others: Vec::new(),
        }))
    }

    /// Keeps the chain of a foreign error as text: foreign errors are neither `Clone` nor stable.
    pub fn caused_by(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            // Many libraries repeat the inner text in the outer one; twice the same line helps nobody.
            if self.0.causes.last() != Some(&text) {
                self.0.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// As [`Error::caused_by`], for causes that are text already, outermost first.
    pub fn with_causes(mut self, causes: Vec<String>) -> Self {
        self.0.causes = causes;
        self
    }

    /// What was being done: `open`, `write`, `commit`, …
    pub fn during(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// The column, as a dotted path, that the error is about.
    pub fn in_field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// The row, counted from 0 within what the caller handed over.
    pub fn at_row(mut self, row: u64) -> Self {
        self.0.row = Some(row);
        self
    }

    pub fn after(mut self, attempts: u32, elapsed: Duration) -> Self {
        self.0.attempts = attempts;
        self.0.elapsed = elapsed;
        self
    }

    /// The destination's own word on when to come back.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// What the session had been given and had not acknowledged may have landed although it failed:
    /// the outcome is unknown, not failed.
    pub fn ambiguous(mut self) -> Self {
        self.0.ambiguous = true;
        self
    }

    /// The same error, [`ambiguous`](Error::ambiguous) or not.
    pub fn with_ambiguity(mut self, ambiguous: bool) -> Self {
        self.0.ambiguous = ambiguous;
        self
    }

    /// Other rows of the same write are at fault too, each with an error of its own that names it.
    pub fn with_others(mut self, others: Vec<Error>) -> Self {
        self.0.others = others;
        self
    }

    /// Without the errors that `with_others` added.
    pub fn alone(mut self) -> Self {
        self.0.others.clear();
        self
    }

    /// Its rows, and those of the others, counted from so many rows before.
    pub fn rows_moved(mut self, by: u64) -> Self {
        if by > 0 {
            self.0.row = self.0.row.map(|row| row + by);
            let others = std::mem::take(&mut self.0.others);
            self.0.others = others.into_iter().map(|other| other.rows_moved(by)).collect();
        }
        self
    }

    /// The errors of all rows at fault: this one, and those that `with_others` added.
    pub fn into_faults(mut self) -> Vec<Error> {
        let mut faults = std::mem::take(&mut self.0.others);
        faults.push(self);
        faults
    }

    /// The destination's own word for why it refuses rows.
    pub fn refused_as(mut self, word: &'static str) -> Self {
        self.0.refusal = Some(word);
        self
    }

    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// Nothing failed: the destination wants another session and has said so in time. That costs no
    /// attempt and no delay.
    pub fn graceful(mut self) -> Self {
        self.0.graceful = true;
        self
    }

    pub fn with_issues(mut self, issues: Vec<Issue>) -> Self {
        self.0.issues = issues;
        self
    }

    pub fn code(&self) -> Code {
        self.0.code
    }
    /// Whether the destination refused the rows themselves, so that other rows may pass.
    pub fn is_of_the_data(&self) -> bool {
        self.0.code == Code::RowsRejected
    }
    /// The destination's own word for why it refuses rows; ours where it has none.
    pub fn refusal(&self) -> &'static str {
        self.0.refusal.unwrap_or(self.0.code.as_str())
    }
    pub fn retry_class(&self) -> RetryClass {
        self.0.code.retry_class()
    }
    pub fn message(&self) -> &str {
        &self.0.message
    }
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
    pub fn row(&self) -> Option<u64> {
        self.0.row
    }
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }
    pub fn issues(&self) -> &[Issue] {
        &self.0.issues
    }
    pub fn hint(&self) -> Option<Duration> {
        self.0.retry_after
    }
    pub fn is_ambiguous(&self) -> bool {
        self.0.ambiguous
    }
    pub fn is_graceful(&self) -> bool {
        self.0.graceful
    }
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The shape in which errors cross into JavaScript. Texts are bounded there: they quote names, which
    /// are the user's and as long as they like, and a string of JavaScript has an end.
    pub fn to_json(&self) -> serde_json::Value {
        let facts = &self.0;
        let causes: Vec<&str> = facts.causes.iter().map(|cause| bounded(cause)).collect();
        serde_json::json!({
            "code": facts.code.as_str(),
            "message": bounded(&facts.message),
            "retry": facts.code.retry_class().as_str(),
            "causes": causes,
            "operation": facts.operation,
            "field": facts.field.as_deref().map(bounded),
            "row": facts.row,
            "attempts": facts.attempts,
            "elapsedMs": facts.elapsed.as_secs_f64() * 1e3,
            "retryAfterMs": facts.retry_after.map(|d| d.as_secs_f64() * 1e3),
            "issues": facts.issues,
        })
    }
}

/// Of one text in JavaScript, in bytes.
const MAX_TEXT: usize = 8 << 10;

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl std::error::Error for Error {}
