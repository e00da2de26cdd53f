//! Faults of the Zerobus emulator as a person writes them.
//!
//! There are two spellings with the same words: an object of JSON, and a line of text for a shell
//! (`rotate:after=1000rows,grace=2s`). The text becomes the object, so that there is one reader.

use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::group::{Group, describe, mistakes, nearest};
use crate::emulator::{After, Cause, Fault, FaultKind, FaultRule, FaultTest, Grpc, TableName};
use crate::error::{Error, Issue, Result};

pub(super) fn faults(root: &mut Group<'_>) -> Vec<Fault> {
    let Some(value) = root.value("faults") else {
        return Vec::new();
    };
    let Some(items) = value.as_array() else {
        root.issue(
            "faults",
            format!("must be an array of faults, not {}", describe(value)),
            None,
        );
        return Vec::new();
    };
    let mut faults = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("faults[{index}]");
        let given = match item {
            Value::String(text) => object_of(text),
            other => Ok(other.clone()),
        };
        match given {
            Ok(given) => faults.extend(fault(path, &given, root.issues)),
            Err(reason) => root.issue(&path, reason, None),
        }
    }
    faults
}

impl Fault {
    /// # Errors
    /// `CONFIG_INVALID` with an [`Issue`] for every mistake.
    pub fn from_json(given: &Value) -> Result<Fault> {
        let mut issues = Vec::new();
        match fault("fault".into(), given, &mut issues) {
            Some(fault) if issues.is_empty() => Ok(fault),
            _ => Err(mistakes(issues).during("start")),
        }
    }
}

impl FromStr for Fault {
    type Err = Error;

    /// `kind:key=value,key=value`, with the keys of the object.
    fn from_str(text: &str) -> Result<Fault> {
        let given = object_of(text).map_err(|message| {
            let path = "fault".to_string();
            let issue = Issue {
                path,
                message,
                suggestion: None,
            };
            mistakes(vec![issue]).during("start")
        })?;
        Fault::from_json(&given)
    }
}

fn object_of(text: &str) -> std::result::Result<Value, String> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let mut given = Map::new();
    given.insert("kind".into(), Value::String(kind.trim().into()));
    for pair in rest.split(',').filter(|pair| !pair.trim().is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(format!("{pair:?} is not key=value"));
        };
        let value = match value.trim() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => match text.parse::<i64>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::String(text.into()),
            },
        };
        given.insert(key.trim().into(), value);
    }
    Ok(Value::Object(given))
}

const KINDS: [&str; 13] = [
    "refuse",
    "refuse-schema",
    "expire-token",
    "rotate",
    "stall",
    "partial",
    "close",
    "lose-before-commit",
    "lose-after-commit",
    "pause",
    "reject",
    "limit",
    "token",
];

fn fault(path: String, given: &Value, issues: &mut Vec<Issue>) -> Option<Fault> {
    let mut group = Group::at(path, given, issues);
    let before = group.issues.len();
    let word = group.text("kind").unwrap_or_default();
    let grpc = |group: &mut Group<'_>| group.choice("status", Grpc::Unavailable, &Grpc::NAMES);
    let kind = match word.as_str() {
        "refuse" => FaultKind::Refuse {
            status: grpc(&mut group),
            message: group.text("message"),
        },
        "refuse-schema" => FaultKind::RefuseSchema {
            causes: causes(&mut group),
        },
        "expire-token" => FaultKind::ExpireToken,
        "rotate" => FaultKind::Rotate {
            grace: group.duration("grace", Duration::from_secs(2)),
        },
        "stall" => FaultKind::Stall {
            time: group.duration("for", Duration::from_secs(1)),
        },
        "partial" => FaultKind::Partial {
            rows: group.count("rows", 1, 1),
        },
        "close" => FaultKind::Close {
            status: grpc(&mut group),
            message: group.text("message"),
        },
        "lose-before-commit" => FaultKind::LoseBeforeCommit,
        "lose-after-commit" => FaultKind::LoseAfterCommit,
        "pause" => FaultKind::Pause {
            time: group.holds("for").then(|| group.duration("for", Duration::ZERO)),
        },
        "reject" => FaultKind::Reject(rule(&mut group)?),
        "limit" => FaultKind::Limit {
            streams: group.count("streams", 1, 0),
        },
        "token" => FaultKind::IssuedToken {
            status: http_status(&mut group),
        },
        other => {
            let text = format!("must be one of {}, not {other:?}", KINDS.join(", "));
            group.issue("kind", text, nearest(other, KINDS.into_iter()));
            return None;
        }
    };
    let table = group
        .text("table")
        .and_then(|name| match TableName::from_str(&name) {
            Ok(name) => Some(name),
            Err(reason) => {
                group.issue("table", reason, None);
                None
            }
        });
    let stream = group.holds("stream").then(|| group.count("stream", 1, 1) as u64);
    group.known.push("stream");
    let fault = Fault {
        after: after(&mut group, &kind),
        times: times(&mut group, &kind),
        kind,
        table,
        stream,
    };
    group.finish();
    (group.issues.len() == before).then_some(fault)
}

fn causes(group: &mut Group<'_>) -> Vec<Cause> {
    let words: Vec<String> = match group.value("causes") {
        None => vec![Cause::FieldNotInTable.word().into()],
        Some(Value::String(text)) => text.split('+').map(str::to_string).collect(),
        Some(_) => group.names("causes"),
    };
    let mut causes = Vec::new();
    for word in words {
        match Cause::ALL.into_iter().find(|cause| cause.word() == word) {
            Some(cause) => causes.push(cause),
            None => {
                let known = Cause::ALL.map(Cause::word);
                let text = format!("must be among {}, not {word:?}", known.join(", "));
                group.issue("causes", text, nearest(&word, known.into_iter()));
            }
        }
    }
    causes
}

fn http_status(group: &mut Group<'_>) -> u16 {
    match group.count("status", 503, 400) {
        status @ 400..=599 => status as u16,
        _ => {
            group.issue("status", "must be a status of HTTP from 400 to 599".into(), None);
            503
        }
    }
}

fn rule(group: &mut Group<'_>) -> Option<FaultRule> {
    let column = group.text("column");
    let mut tests = Vec::new();
    for (name, test) in [
        ("equals", FaultTest::Equals as fn(String) -> FaultTest),
        ("below", FaultTest::Below),
        ("above", FaultTest::Above),
    ] {
        match group.value(name) {
            None => {}
            Some(Value::String(text)) => tests.push(test(text.clone())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => tests.push(test(value.to_string())),
            Some(other) => {
                let text = format!("must be a single value, not {}", describe(other));
                group.issue(name, text, None);
            }
        }
    }
    if group.flag("null", false) {
        tests.push(FaultTest::Null);
    }
    let Some(column) = column else {
        group.issue("column", "is missing".into(), None);
        return None;
    };
    if tests.len() != 1 {
        let text = "takes exactly one of equals, below, above and null";
        group.issue("column", text.into(), None);
    }
    Some(FaultRule {
        column,
        test: tests.pop()?,
    })
}

/// `"1000rows"`, `"3batches"`; a bare number counts rows.
fn after(group: &mut Group<'_>, kind: &FaultKind) -> Option<After> {
    let value = group.value("after")?;
    if !kind.can_wait() {
        group.issue(
            "after",
            "means nothing here: this happens when a stream is set up".into(),
            None,
        );
        return None;
    }
    let text = match value {
        Value::String(text) => text.clone(),
        other => format!("{other}rows"),
    };
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    match (number.parse(), unit.trim()) {
        (Ok(rows), "rows" | "row") => Some(After::Rows(rows)),
        (Ok(batches), "batches" | "batch") => Some(After::Batches(batches)),
        _ => {
            let text = format!(
                "must be such as \"1000rows\" or \"3batches\", not {}",
                describe(value)
            );
            group.issue("after", text, None);
            None
        }
    }
}

/// `None`: for ever. That is what rules do when nothing was said; what breaks a stream does it once.
fn times(group: &mut Group<'_>, kind: &FaultKind) -> Option<u64> {
    match group.value("times") {
        Some(Value::String(text)) if text == "always" => None,
        Some(_) => Some(group.count("times", 1, 1) as u64),
        None if matches!(kind, FaultKind::Reject(_) | FaultKind::Limit { .. }) => None,
        None => Some(1),
    }
}
