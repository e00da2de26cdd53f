//! Reading one object of options.
//!
//! Invariants:
//! - A mistake never ends the reading: it becomes an [`Issue`] with its path, and the default stands in.
//! - An option that nobody asked for is a mistake, reported with the nearest name that is known.
//! - A value that may be a secret is never part of an issue, nor of a fact.
//! - Whatever is read leaves an [`OptionFact`], so what is said of the options in force is what was read.
//!
//! It knows no option by name: those are in the modules that read groups.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{Code, Error, Issue};

/// One option as it is in force.
#[derive(Debug, Clone, serde::Serialize)]
pub struct OptionFact {
    pub path: String,
    /// `count`, `part`, `bytes`, `duration` (milliseconds), `flag`, `choice`, `text`, `secret`, `names` or `record`.
    pub kind: &'static str,
    /// Null where there is none. Of a secret never there; of a record its names alone.
    pub value: Value,
    /// Of this reading: some defaults follow from other options.
    pub default: Value,
    pub given: bool,
    /// Of a choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<&'static str>,
}

/// One object of options while it is read: takes what it knows and complains about the rest.
pub struct Group<'a> {
    path: String,
    given: Option<&'a Map<String, Value>>,
    pub known: Vec<&'static str>,
    /// Paths of the options of the groups within.
    known_within: Vec<String>,
    facts: Vec<OptionFact>,
    pub issues: &'a mut Vec<Issue>,
}

impl<'a> Group<'a> {
    pub fn root(options: &'a Value, issues: &'a mut Vec<Issue>) -> Self {
        Self::at(String::new(), options, issues)
    }

    pub fn at(path: String, value: &'a Value, issues: &'a mut Vec<Issue>) -> Self {
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
            known_within: Vec::new(),
            facts: Vec::new(),
            issues,
        }
    }

    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.given?.get(name).filter(|value| !value.is_null())
    }

    pub fn holds_string(&self, name: &str) -> bool {
        matches!(self.given.and_then(|map| map.get(name)), Some(Value::String(_)))
    }

    pub fn holds_flag(&self, name: &str) -> bool {
        matches!(self.given.and_then(|map| map.get(name)), Some(Value::Bool(_)))
    }

    pub fn holds(&self, name: &str) -> bool {
        self.given
            .and_then(|map| map.get(name))
            .is_some_and(|value| !value.is_null())
    }

    pub fn holds_true(&self, name: &str, inner: &str) -> bool {
        let group = self.given.and_then(|map| map.get(name));
        group.and_then(|group| group.get(inner)) == Some(&Value::Bool(true))
    }

    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub fn issue(&mut self, name: &str, message: String, suggestion: Option<String>) {
        let path = self.path_of(name);
        self.issues.push(Issue {
            path,
            message,
            suggestion,
        });
    }

    pub fn group<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Group<'_>) -> T) -> T {
        let value = self.value(name).unwrap_or(&Value::Null);
        let path = self.path_of(name);
        let mut group = Group::at(path, value, self.issues);
        let result = read(&mut group);
        group.finish();
        let mut within = std::mem::take(&mut group.known_within);
        within.extend(group.known.iter().map(|name| group.path_of(name)));
        let mut facts = std::mem::take(&mut group.facts);
        self.known_within.append(&mut within);
        self.facts.append(&mut facts);
        result
    }

    /// What was read, in the order of reading.
    pub fn into_facts(self) -> Vec<OptionFact> {
        self.facts
    }

    fn record(&mut self, name: &'static str, kind: &'static str, value: Value, default: Value) {
        let fact = OptionFact {
            path: self.path_of(name),
            kind,
            value,
            default,
            given: self.holds(name),
            words: Vec::new(),
        };
        self.facts.push(fact);
    }

    pub fn count(&mut self, name: &'static str, default: usize, least: usize) -> usize {
        let count = self.read_count(name, default, least);
        self.record(name, "count", count.into(), default.into());
        count
    }

    fn read_count(&mut self, name: &'static str, default: usize, least: usize) -> usize {
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

    /// A part of a whole: above 0, at most 1.
    pub fn part(&mut self, name: &'static str, default: f64) -> f64 {
        let given = self.value(name);
        let part = given
            .and_then(Value::as_f64)
            .filter(|part| *part > 0.0 && *part <= 1.0);
        if let (Some(value), None) = (given, part) {
            let text = format!("must be a number above 0 and at most 1, not {}", describe(value));
            self.issue(name, text, None);
        }
        let part = part.unwrap_or(default);
        self.record(name, "part", part.into(), default.into());
        part
    }

    pub fn bytes(&mut self, name: &'static str, default: usize, least: usize) -> usize {
        let bytes = self.read_bytes(name, default, least);
        self.record(name, "bytes", bytes.into(), default.into());
        bytes
    }

    /// An amount that has no default: nothing bounds it.
    #[cfg(feature = "client")]
    pub fn bytes_if_given(&mut self, name: &'static str, least: usize) -> Option<usize> {
        let bytes = self.read_bytes(name, usize::MAX, least);
        let bytes = self.holds(name).then_some(bytes);
        self.record(name, "bytes", bytes.into(), Value::Null);
        bytes
    }

    fn read_bytes(&mut self, name: &'static str, default: usize, least: usize) -> usize {
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

    pub fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        let duration = self.read_duration(name).unwrap_or(default);
        self.record(name, "duration", in_ms(duration), in_ms(default));
        duration
    }

    /// A span that has no default: nothing ends.
    pub fn duration_if_given(&mut self, name: &'static str) -> Option<Duration> {
        let duration = self.read_duration(name);
        self.record(name, "duration", duration.map_or(Value::Null, in_ms), Value::Null);
        duration
    }

    fn read_duration(&mut self, name: &'static str) -> Option<Duration> {
        // A year: beyond it timers overflow on some systems, and nobody means it.
        const MOST: Duration = Duration::from_secs(366 * 24 * 3600);
        let value = self.value(name)?;
        let parsed = match value {
            Value::Number(number) => number
                .as_f64()
                .and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
            Value::String(text) => humantime::parse_duration(text).ok(),
            _ => None,
        };
        match parsed {
            Some(duration) if duration <= MOST => Some(duration),
            _ => {
                self.issue(
                    name,
                    format!(
                        "must be a number of milliseconds or a duration such as \"50ms\" or \"5m\", not {}",
                        describe(value)
                    ),
                    None,
                );
                None
            }
        }
    }

    pub fn flag(&mut self, name: &'static str, default: bool) -> bool {
        let flag = self.read_flag(name, default);
        self.record(name, "flag", flag.into(), default.into());
        flag
    }

    fn read_flag(&mut self, name: &'static str, default: bool) -> bool {
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

    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        default: T,
        choices: &[(&'static str, T)],
    ) -> T {
        let choice = self.read_choice(name, default, choices);
        let word = |of: T| {
            let found = choices.iter().find(|(_, choice)| *choice == of);
            found.map_or(Value::Null, |(word, _)| (*word).into())
        };
        self.record(name, "choice", word(choice), word(default));
        if let Some(fact) = self.facts.last_mut() {
            fact.words = choices.iter().map(|(word, _)| *word).collect();
        }
        choice
    }

    fn read_choice<T: Copy>(&mut self, name: &'static str, default: T, choices: &[(&'static str, T)]) -> T {
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

    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let text = self.read_text(name);
        let value = text.clone().map_or(Value::Null, Value::String);
        self.record(name, "text", value, Value::Null);
        text
    }

    #[cfg(feature = "client")]
    pub fn text_or(&mut self, name: &'static str, default: &str) -> String {
        let text = self.read_text(name).unwrap_or_else(|| default.to_string());
        self.record(name, "text", text.clone().into(), default.into());
        text
    }

    /// Text that nobody may see.
    pub fn secret(&mut self, name: &'static str) -> Option<String> {
        let text = self.read_text(name);
        self.record(name, "secret", Value::Null, Value::Null);
        text
    }

    /// The value is not shown when it is wrong: keys and passwords are read here.
    fn read_text(&mut self, name: &'static str) -> Option<String> {
        match self.value(name) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.issue(name, "must be a string".into(), None);
                None
            }
        }
    }

    pub fn names(&mut self, name: &'static str) -> Vec<String> {
        let names = self.read_names(name);
        self.record(name, "names", names.clone().into(), Value::Array(Vec::new()));
        names
    }

    fn read_names(&mut self, name: &'static str) -> Vec<String> {
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

    /// Values are secrets: stores and servers have their keys here.
    pub fn strings(&mut self, name: &'static str) -> BTreeMap<String, String> {
        let strings = self.read_strings(name);
        let names: Vec<String> = strings.keys().cloned().collect();
        self.record(name, "record", names.into(), Value::Array(Vec::new()));
        strings
    }

    fn read_strings(&mut self, name: &'static str) -> BTreeMap<String, String> {
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

    /// What was given and not asked for is a mistake. Of the root: one that another group has is told its place.
    pub fn finish(&mut self) {
        self.refuse_unknown();
        if !self.path.is_empty() {
            return;
        }
        let mut known = std::mem::take(&mut self.known_within);
        known.extend(self.known.iter().map(ToString::to_string));
        for issue in self.issues.iter_mut() {
            if issue.message != NOT_AN_OPTION || issue.suggestion.is_some() {
                continue;
            }
            let name = last_step(&issue.path).to_lowercase();
            let mut places = known.iter().filter(|path| last_step(path).to_lowercase() == name);
            // In two groups it would be a guess.
            if let (Some(place), None) = (places.next(), places.next()) {
                issue.suggestion = Some(place.clone());
            }
        }
    }

    fn refuse_unknown(&mut self) {
        let Some(given) = self.given else { return };
        for key in given.keys() {
            if !self.known.contains(&key.as_str()) {
                let suggestion = nearest(key, self.known.iter().copied());
                let path = self.path_of(key);
                self.issues.push(Issue {
                    path,
                    message: NOT_AN_OPTION.into(),
                    suggestion,
                });
            }
        }
    }
}

/// `src-ts/options.ts` knows these words, too: it adds the names that only JavaScript has.
const NOT_AN_OPTION: &str = "is not an option";

fn last_step(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn in_ms(duration: Duration) -> Value {
    (duration.as_secs_f64() * 1e3).into()
}

/// All mistakes in one error, `CONFIG_INVALID`.
pub fn mistakes(issues: Vec<Issue>) -> Error {
    let lines: Vec<String> = issues
        .iter()
        .map(|issue| match &issue.suggestion {
            Some(name) => format!("{} {} (did you mean {name}?)", issue.path, issue.message),
            None => format!("{} {}", issue.path, issue.message),
        })
        .collect();
    Error::new(Code::ConfigInvalid, lines.join("; ")).with_issues(issues)
}

/// A whole number however JSON spelt it: JavaScript knows no other kind than floating point.
fn whole(value: &Value) -> Option<usize> {
    if let Some(number) = value.as_u64() {
        return usize::try_from(number).ok();
    }
    let number = value.as_f64()?;
    (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as usize)
}

pub fn describe(value: &Value) -> String {
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

pub fn nearest<'w>(given: &str, words: impl Iterator<Item = &'w str>) -> Option<String> {
    let lower = given.to_lowercase();
    // A word that is only begun, as `batch` of `batching`, is further off than letters that are mixed up.
    let begins = |word: &str| lower.len() > 2 && word.to_lowercase().starts_with(&lower);
    words
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= 2.max(word.len() / 3) || begins(word))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word.to_string())
}
