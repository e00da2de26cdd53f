//! Options as given → options as meant.
//!
//! Invariants:
//! - Every default of an option of `connect` that Rust reads is in this module. `ARCHITECTURE.md` names those
//!   that TypeScript repeats or owns; the emulator has its own in `emulator/options.rs`.
//! - A [`Config`] cannot be wrong: whoever holds one checks nothing again.
//! - All mistakes are reported at once, each with its path and the nearest valid name.
//!
//! It reads no file and no environment variable, and it connects to nothing.

mod capture;
mod flight;
pub(crate) mod group;
mod quarantine;
#[cfg(feature = "client")]
mod spool;
mod zerobus;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

pub use self::capture::{CaptureFormat, CaptureOptions};
pub use self::flight::{
    BasicAuth, FlightAcknowledgement, FlightDescriptor, FlightDictionaries, FlightOptions, Secret,
    TlsOptions, header_fault,
};
pub use self::group::OptionFact;
use self::group::{Group, mistakes};
pub use self::quarantine::{DeadLetterOptions, QuarantineOptions};
#[cfg(feature = "client")]
pub use self::spool::SpoolConfig;
pub use self::zerobus::ZerobusOptions;
use crate::callbacks::{HeaderProvider, RetryPredicate};
use crate::error::{Issue, Result};
use crate::trace::TraceContext;

/// What a client was asked to be.
#[derive(Debug, Clone)]
pub struct Config {
    pub batching: BatchingOptions,
    pub inflight: InflightOptions,
    pub retry: RetryOptions,
    pub quarantine: QuarantineOptions,
    pub dead_letter: Option<DeadLetterOptions>,
    #[cfg(feature = "client")]
    pub spool: Option<SpoolConfig>,
    pub capture: Option<CaptureOptions>,
    pub handoff: HandoffOptions,
    pub delta: DeltaOptions,
    pub flight: FlightOptions,
    pub zerobus: ZerobusOptions,
    /// Sent with every call to a server. Secret.
    pub headers: BTreeMap<String, Secret>,
    /// There is somebody to ask for more of them, whom the binding sets as `header_provider`.
    pub headers_asked: bool,
    /// How long an answer may take.
    pub headers_timeout: Duration,
    /// Asked for more of them. No option: a function does not cross as one.
    pub header_provider: Option<Arc<dyn HeaderProvider>>,
    /// What calls to a server carry beside the headers. No option: it changes while a client is open.
    pub trace: TraceContext,
    pub tls: TlsOptions,
    /// Create the destination when it does not exist.
    pub create_if_missing: bool,
}

/// When a write is full.
#[derive(Debug, Clone)]
pub struct BatchingOptions {
    pub max_rows: usize,
    pub max_bytes: usize,
    /// How long rows may wait for others to fill a write.
    pub linger: Duration,
}

/// What may be under way at once.
#[derive(Debug, Clone)]
pub struct InflightOptions {
    /// Bytes admitted and not settled.
    pub max_bytes: usize,
    /// Bytes of JavaScript memory held, by distinct buffer; beyond it batches are copied.
    pub max_pinned_bytes: usize,
    /// Writes handed to the destination and not acknowledged.
    pub max_writes: usize,
}

#[derive(Debug, Clone)]
pub struct RetryOptions {
    /// Tries of one write, the first included.
    pub attempts: u32,
    pub base_delay: Duration,
    pub max_delay: Duration,
    /// From the first try of a write.
    pub deadline: Duration,
    pub on_exhausted: OnExhausted,
    /// There is somebody to ask before another try, whom the binding sets as `predicate`.
    pub asked: bool,
    /// How long an answer may take.
    pub patience: Duration,
    /// Asked before another try. No option: a function does not cross as one.
    pub predicate: Option<Arc<dyn RetryPredicate>>,
}

/// What becomes of later writes when one has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    Continue,
    Stop,
}

#[derive(Debug, Clone)]
pub struct HandoffOptions {
    pub mode: HandoffMode,
    /// For development: digest pinned payload at handoff and again at settlement.
    pub verify_payload: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoffMode {
    Auto,
    Pin,
    Copy,
    Ipc,
}

#[derive(Clone)]
pub struct DeltaOptions {
    pub partition_by: Vec<String>,
    pub compression: Compression,
    pub target_file_size: usize,
    pub commit_interval: Duration,
    pub schema_evolution: SchemaEvolution,
    /// Options of the object store, as its own documentation names them. Secret.
    pub storage: BTreeMap<String, String>,
}

/// Without the values of `storage`: a config in a log must not be a leak.
impl fmt::Debug for DeltaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delta")
            .field("partition_by", &self.partition_by)
            .field("compression", &self.compression)
            .field("target_file_size", &self.target_file_size)
            .field("commit_interval", &self.commit_interval)
            .field("schema_evolution", &self.schema_evolution)
            .field("storage", &self.storage.keys())
            .finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Snappy,
    Zstd,
    Lz4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaEvolution {
    None,
    Merge,
}

impl Default for Config {
    fn default() -> Self {
        Config::from_json(&Value::Object(Map::new())).expect("no options are valid options")
    }
}

impl Config {
    /// # Errors
    /// `CONFIG_INVALID` with an [`Issue`] for every mistake.
    pub fn from_json(options: &Value) -> Result<Config> {
        let mut issues = Vec::new();
        let config = read(&mut Group::root(options, &mut issues));
        if issues.is_empty() {
            return Ok(config);
        }
        Err(mistakes(issues).during("connect"))
    }

    /// Every option as it would be in force, and every mistake; a default stands in for what is wrong. Options of
    /// groups that are off unless they are given are there only if they were.
    pub fn explain(options: &Value) -> (Vec<OptionFact>, Vec<Issue>) {
        let mut issues = Vec::new();
        let mut root = Group::root(options, &mut issues);
        read(&mut root);
        let facts = root.into_facts();
        (facts, issues)
    }
}

fn read(root: &mut Group<'_>) -> Config {
    let batching = root.group("batching", |group| BatchingOptions {
        max_rows: group.count("maxRows", 65_536, 1),
        max_bytes: group.bytes("maxBytes", 8 << 20, 1),
        linger: group.duration("linger", Duration::from_millis(50)),
    });
    let inflight = root.group("inflight", |group| {
        let max_bytes = group.bytes("maxBytes", 256 << 20, 1);
        InflightOptions {
            max_bytes,
            max_pinned_bytes: group.bytes("maxPinnedBytes", max_bytes.saturating_mul(4), 0),
            max_writes: group.count("maxWrites", 1_024, 1),
        }
    });
    let retry = root.group("retry", |group| {
        let base_delay = group.duration("baseDelay", Duration::from_millis(100));
        let max_delay = group.duration("maxDelay", Duration::from_secs(30).max(base_delay));
        if max_delay < base_delay {
            group.issue("maxDelay", "is shorter than baseDelay".into(), None);
        }
        let patience = group.duration("whenTimeout", Duration::from_secs(5));
        if patience.is_zero() {
            group.issue("whenTimeout", "leaves no time for an answer".into(), None);
        }
        RetryOptions {
            asked: group.flag("when", false),
            patience,
            predicate: None,
            attempts: u32::try_from(group.count("attempts", 5, 1)).unwrap_or(u32::MAX),
            base_delay,
            max_delay,
            deadline: group.duration("deadline", Duration::from_secs(300)),
            on_exhausted: group.choice(
                "onExhausted",
                OnExhausted::Continue,
                &[("continue", OnExhausted::Continue), ("stop", OnExhausted::Stop)],
            ),
        }
    });
    const MODES: [(&str, HandoffMode); 4] = [
        ("auto", HandoffMode::Auto),
        ("pin", HandoffMode::Pin),
        ("copy", HandoffMode::Copy),
        ("ipc", HandoffMode::Ipc),
    ];
    // `handoff: "copy"` is short for `handoff: { mode: "copy" }`.
    let handoff = if root.holds_string("handoff") {
        HandoffOptions {
            mode: root.choice("handoff", HandoffMode::Auto, &MODES),
            verify_payload: false,
        }
    } else {
        root.group("handoff", |group| HandoffOptions {
            mode: group.choice("mode", HandoffMode::Auto, &MODES),
            verify_payload: group.flag("verifyPayload", false),
        })
    };
    let delta = root.group("delta", |group| DeltaOptions {
        partition_by: columns(group, "partitionBy"),
        compression: group.choice(
            "compression",
            Compression::Snappy,
            &[
                ("none", Compression::None),
                ("snappy", Compression::Snappy),
                ("zstd", Compression::Zstd),
                ("lz4", Compression::Lz4),
            ],
        ),
        target_file_size: group.bytes("targetFileSize", 128 << 20, 1),
        commit_interval: group.duration("commitInterval", Duration::from_secs(1)),
        schema_evolution: group.choice(
            "schemaEvolution",
            SchemaEvolution::None,
            &[("none", SchemaEvolution::None), ("merge", SchemaEvolution::Merge)],
        ),
        storage: group.strings("storage"),
    });
    let quarantine = quarantine::read(root);
    let dead_letter = quarantine::read_dead_letter(root);
    #[cfg(feature = "client")]
    let spool = spool::read(root);
    let capture = capture::read(root);
    let flight = root.group("flight", flight::read);
    let flight::HeadersOptions {
        given: headers,
        asked: headers_asked,
        timeout: headers_timeout,
    } = flight::read_headers(root);
    let zerobus = root.group("zerobus", zerobus::read);
    let tls = root.group("tls", flight::read_tls);
    let create_if_missing = root.flag("createIfMissing", true);
    root.finish();
    Config {
        batching,
        inflight,
        retry,
        quarantine,
        dead_letter,
        #[cfg(feature = "client")]
        spool,
        capture,
        handoff,
        delta,
        flight,
        zerobus,
        headers,
        headers_asked,
        headers_timeout,
        header_provider: None,
        trace: TraceContext::default(),
        tls,
        create_if_missing,
    }
}

/// Names of columns, each once: Delta does not tell them apart by case, and a table that has one twice cannot
/// be opened again.
fn columns(group: &mut Group<'_>, name: &'static str) -> Vec<String> {
    let names = group.names(name);
    let mut seen = std::collections::HashSet::new();
    let wrong = names.iter().find_map(|column| match column.as_str() {
        "" => Some("holds an empty name".to_string()),
        column => (!seen.insert(column.to_lowercase())).then(|| format!("names {column:?} twice")),
    });
    if let Some(text) = wrong {
        group.issue(name, text, None);
    }
    names
}
