//! Options as given → options as meant.
//!
//! Invariants:
//! - Every default of the product is in this module and nowhere else.
//! - A [`Config`] cannot be wrong: whoever holds one checks nothing again.
//! - All mistakes are reported at once, each with its path and the nearest valid name.
//!
//! It reads no file and no environment variable, and it connects to nothing.

#[cfg(feature = "emulator")]
pub(crate) mod emulator;
#[cfg(feature = "emulator")]
mod fault;
mod flight;
mod quarantine;
mod zerobus;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

pub use self::flight::{
    BasicAuth, Dictionaries, Flight, FlightAcknowledgement, FlightDescriptor, Secret, Tls,
};
pub use self::quarantine::{DeadLetter, Quarantine};
pub use self::zerobus::Zerobus;
use crate::destination::headers::HeaderProvider;
use crate::error::{Code, Error, Issue, Result};
use crate::transmitter::RetryPredicate;

/// What a client was asked to be.
#[derive(Debug, Clone)]
pub struct Config {
    pub batching: Batching,
    pub inflight: Inflight,
    pub retry: Retry,
    pub quarantine: Quarantine,
    pub dead_letter: Option<DeadLetter>,
    pub handoff: Handoff,
    pub delta: Delta,
    pub flight: Flight,
    pub zerobus: Zerobus,
    /// Sent with every call to a server. Secret.
    pub headers: BTreeMap<String, Secret>,
    /// There is somebody to ask for more of them, whom the binding sets as `header_provider`.
    pub headers_asked: bool,
    /// How long an answer may take.
    pub headers_timeout: Duration,
    /// Asked for more of them. No option: a function does not cross as one.
    pub header_provider: Option<Arc<dyn HeaderProvider>>,
    pub tls: Tls,
    /// Create the destination when it does not exist.
    pub create_if_missing: bool,
}

/// When a write is full.
#[derive(Debug, Clone)]
pub struct Batching {
    pub max_rows: usize,
    pub max_bytes: usize,
    /// How long rows may wait for company.
    pub linger: Duration,
}

/// What may be under way at once.
#[derive(Debug, Clone)]
pub struct Inflight {
    /// Bytes admitted and not settled.
    pub max_bytes: usize,
    /// Bytes of JavaScript memory held, by distinct buffer; beyond it batches are copied.
    pub max_pinned_bytes: usize,
    /// Writes handed to the destination and not acknowledged.
    pub max_writes: usize,
}

#[derive(Debug, Clone)]
pub struct Retry {
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
pub struct Handoff {
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
pub struct Delta {
    pub partition_by: Vec<String>,
    pub compression: Compression,
    pub target_file_size: usize,
    pub commit_interval: Duration,
    pub schema_evolution: SchemaEvolution,
    /// Options of the object store, as its own documentation names them. Secret.
    pub storage: BTreeMap<String, String>,
}

/// Without the values of `storage`: a config in a log must not be a leak.
impl fmt::Debug for Delta {
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
        let root = Group::root(options, &mut issues);
        let config = read(root);
        if issues.is_empty() {
            return Ok(config);
        }
        Err(mistakes(issues).during("connect"))
    }
}

/// All of them in one error.
fn mistakes(issues: Vec<Issue>) -> Error {
    let lines: Vec<String> = issues
        .iter()
        .map(|issue| match &issue.suggestion {
            Some(name) => format!("{} {} (did you mean {name}?)", issue.path, issue.message),
            None => format!("{} {}", issue.path, issue.message),
        })
        .collect();
    Error::new(Code::ConfigInvalid, lines.join("; ")).with_issues(issues)
}

fn read(mut root: Group<'_>) -> Config {
    let batching = root.group("batching", |group| Batching {
        max_rows: group.count("maxRows", 65_536, 1),
        max_bytes: group.bytes("maxBytes", 8 << 20, 1),
        linger: group.duration("linger", Duration::from_millis(50)),
    });
    let inflight = root.group("inflight", |group| {
        let max_bytes = group.bytes("maxBytes", 256 << 20, 1);
        Inflight {
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
        Retry {
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
        Handoff {
            mode: root.choice("handoff", HandoffMode::Auto, &MODES),
            verify_payload: false,
        }
    } else {
        root.group("handoff", |group| Handoff {
            mode: group.choice("mode", HandoffMode::Auto, &MODES),
            verify_payload: group.flag("verifyPayload", false),
        })
    };
    let delta = root.group("delta", |group| Delta {
        partition_by: group.names("partitionBy"),
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
    let quarantine = quarantine::read(&mut root);
    let dead_letter = quarantine::read_dead_letter(&mut root);
    let flight = root.group("flight", flight::read);
    let flight::Headers {
        given: headers,
        asked: headers_asked,
        timeout: headers_timeout,
    } = flight::read_headers(&mut root);
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
        handoff,
        delta,
        flight,
        zerobus,
        headers,
        headers_asked,
        headers_timeout,
        header_provider: None,
        tls,
        create_if_missing,
    }
}

/// One object of options while it is read: takes what it knows and complains about the rest.
struct Group<'a> {
    path: String,
    given: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    issues: &'a mut Vec<Issue>,
}

impl<'a> Group<'a> {
    fn root(options: &'a Value, issues: &'a mut Vec<Issue>) -> Self {
        Self::at(String::new(), options, issues)
    }

    fn at(path: String, value: &'a Value, issues: &'a mut Vec<Issue>) -> Self {
        let given = match value {
            Value::Object(map) => Some(map),
            Value::Null => None,
            other => {
                let name = if path.is_empty() { "options" } else { &path };
                issues.push(Issue {
                    path: name.to_string(),
                    message: format!("must be an object, not {}", describe(other)),
                    suggestion: None,
                });
                None
            }
        };
        Group {
            path,
            given,
            known: Vec::new(),
            issues,
        }
    }

    fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.given?.get(name).filter(|value| !value.is_null())
    }

    fn holds_string(&self, name: &str) -> bool {
        matches!(self.given.and_then(|map| map.get(name)), Some(Value::String(_)))
    }

    fn holds_flag(&self, name: &str) -> bool {
        matches!(self.given.and_then(|map| map.get(name)), Some(Value::Bool(_)))
    }

    fn holds(&self, name: &str) -> bool {
        self.given
            .and_then(|map| map.get(name))
            .is_some_and(|value| !value.is_null())
    }

    fn holds_true(&self, name: &str, inner: &str) -> bool {
        let group = self.given.and_then(|map| map.get(name));
        group.and_then(|group| group.get(inner)) == Some(&Value::Bool(true))
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn issue(&mut self, name: &str, message: String, suggestion: Option<String>) {
        let path = self.path_of(name);
        self.issues.push(Issue {
            path,
            message,
            suggestion,
        });
    }

    fn group<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Group<'_>) -> T) -> T {
        let value = self.value(name).unwrap_or(&Value::Null);
        let path = self.path_of(name);
        let mut group = Group::at(path, value, self.issues);
        let result = read(&mut group);
        group.finish();
        result
    }

    fn count(&mut self, name: &'static str, default: usize, least: usize) -> usize {
        let Some(value) = self.value(name) else {
            return default;
        };
        match whole(value) {
            Some(number) if number >= least => number,
            _ => {
                self.issue(
                    name,
                    format!(
                        "must be a whole number of at least {least}, not {}",
                        describe(value)
                    ),
                    None,
                );
                default
            }
        }
    }

    fn bytes(&mut self, name: &'static str, default: usize, least: usize) -> usize {
        let Some(value) = self.value(name) else {
            return default;
        };
        let parsed = match value {
            Value::String(text) => text
                .parse::<bytesize::ByteSize>()
                .ok()
                .and_then(|size| usize::try_from(size.as_u64()).ok()),
            other => whole(other),
        };
        match parsed {
            Some(number) if number >= least => number,
            _ => {
                self.issue(
                    name,
                    format!(
                        "must be a number of bytes or a size such as \"8MiB\", at least {least} B, not {}",
                        describe(value)
                    ),
                    None,
                );
                default
            }
        }
    }

    fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        // A year: beyond it timers overflow on some systems, and nobody means it.
        const MOST: Duration = Duration::from_secs(366 * 24 * 3600);
        let Some(value) = self.value(name) else {
            return default;
        };
        let parsed = match value {
            Value::Number(number) => number
                .as_f64()
                .and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
            Value::String(text) => humantime::parse_duration(text).ok(),
            _ => None,
        };
        match parsed {
            Some(duration) if duration <= MOST => duration,
            _ => {
                self.issue(
                    name,
                    format!(
                        "must be a number of milliseconds or a duration such as \"50ms\" or \"5m\", not {}",
                        describe(value)
                    ),
                    None,
                );
                default
            }
        }
    }

    fn flag(&mut self, name: &'static str, default: bool) -> bool {
        match self.value(name) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                let text = format!("must be true or false, not {}", describe(other));
                self.issue(name, text, None);
                default
            }
        }
    }

    fn choice<T: Copy>(&mut self, name: &'static str, default: T, choices: &[(&'static str, T)]) -> T {
        let Some(value) = self.value(name) else {
            return default;
        };
        if let Some(text) = value.as_str()
            && let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text)
        {
            return *choice;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let suggestion = value
            .as_str()
            .and_then(|text| nearest(text, words.iter().copied()));
        self.issue(
            name,
            format!("must be one of {}, not {}", words.join(", "), describe(value)),
            suggestion,
        );
        default
    }

    /// The value is not shown when it is wrong: keys and passwords are read here.
    fn text(&mut self, name: &'static str) -> Option<String> {
        match self.value(name) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.issue(name, "must be a string".into(), None);
                None
            }
        }
    }

    fn names(&mut self, name: &'static str) -> Vec<String> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let names: Option<Vec<String>> = value.as_array().and_then(|items| {
            items
                .iter()
                .map(|item| item.as_str().map(str::to_string))
                .collect()
        });
        names.unwrap_or_else(|| {
            let text = format!("must be an array of column names, not {}", describe(value));
            self.issue(name, text, None);
            Vec::new()
        })
    }

    fn strings(&mut self, name: &'static str) -> BTreeMap<String, String> {
        let Some(value) = self.value(name) else {
            return BTreeMap::new();
        };
        let Some(map) = value.as_object() else {
            // What was given is not shown: this group is where secrets are.
            self.issue(name, "must be an object of strings".into(), None);
            return BTreeMap::new();
        };
        let mut strings = BTreeMap::new();
        for (key, item) in map {
            match item {
                Value::String(text) => {
                    strings.insert(key.clone(), text.clone());
                }
                Value::Bool(_) | Value::Number(_) => {
                    strings.insert(key.clone(), item.to_string());
                }
                _ => self.issue(&format!("{name}.{key}"), "must be a string".into(), None),
            }
        }
        strings
    }

    fn finish(&mut self) {
        let Some(given) = self.given else { return };
        for key in given.keys() {
            if !self.known.contains(&key.as_str()) {
                let suggestion = nearest(key, self.known.iter().copied());
                let path = self.path_of(key);
                self.issues.push(Issue {
                    path,
                    message: "is not an option".into(),
                    suggestion,
                });
            }
        }
    }
}

/// A whole number however JSON spelt it: JavaScript knows no other kind than floating point.
fn whole(value: &Value) -> Option<usize> {
    if let Some(number) = value.as_u64() {
        return usize::try_from(number).ok();
    }
    let number = value.as_f64()?;
    (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as usize)
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
        other => {
            let text = other.to_string();
            if text.chars().count() > 60 {
                let head: String = text.chars().take(57).collect();
                format!("{head}…")
            } else {
                text
            }
        }
    }
}

fn nearest<'w>(given: &str, words: impl Iterator<Item = &'w str>) -> Option<String> {
    let lower = given.to_lowercase();
    words
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= 2.max(word.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word.to_string())
}
