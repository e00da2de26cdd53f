//! The options of the Zerobus emulator, and faults as a person writes them.
//!
//! A fault has two spellings with the same words: an object of JSON, and a line of text for a shell
//! (`rotate:after=1000rows,grace=2s`). The text becomes the object, so that there is one reader.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Group, Secret, describe, mistakes, nearest};
use crate::emulator::{After, Cause, Column, Fault, Grpc, Kind, Rule, TableName, Test, Type};
use crate::error::{Error, Issue, Result};

/// What an emulator was asked to be.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    pub host: String,
    /// 0: one that is free.
    pub port: u16,
    /// Where the Delta tables are; without it rows are decoded, checked, counted and forgotten.
    pub lake: Option<PathBuf>,
    pub tables: BTreeMap<TableName, Vec<Column>>,
    /// A table that nobody declared is made from the schema of its first stream.
    pub auto_create: bool,
    pub faults: Vec<Fault>,
    pub tls: bool,
    /// Whom the token endpoint knows; everybody if there is none.
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    /// Bearer tokens that are good for every table and never expire.
    pub tokens: Vec<Secret>,
    pub token_lifetime: Duration,
    /// How long rows may wait for others before their table is committed.
    pub commit_interval: Duration,
    /// Rows of this many bytes wait no longer.
    pub commit_bytes: usize,
    /// What is taken in one gRPC message.
    pub max_message_size: usize,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        EmulatorConfig::from_json(&Value::Null).expect("no options are valid options")
    }
}

impl EmulatorConfig {
    /// # Errors
    /// `CONFIG_INVALID` with an [`Issue`] for every mistake.
    pub fn from_json(options: &Value) -> Result<EmulatorConfig> {
        let mut issues = Vec::new();
        let config = read(Group::root(options, &mut issues));
        if issues.is_empty() {
            return Ok(config);
        }
        Err(mistakes(issues).during("start"))
    }
}

fn read(mut root: Group<'_>) -> EmulatorConfig {
    let host = root.text("host").unwrap_or_else(|| "127.0.0.1".into());
    let port = root.count("port", 0, 0);
    let port = u16::try_from(port).unwrap_or_else(|_| {
        root.issue("port", "must be at most 65535".into(), None);
        0
    });
    let lake = root.text("lake").map(PathBuf::from);
    let tables = tables(&mut root);
    let faults = faults(&mut root);
    let (client_id, client_secret) = (root.text("clientId"), root.text("clientSecret").map(Secret::new));
    if client_secret.is_some() && client_id.is_none() {
        root.issue("clientSecret", "needs clientId beside it".into(), None);
    }
    let config = EmulatorConfig {
        host,
        port,
        lake,
        tables,
        auto_create: root.flag("autoCreate", true),
        faults,
        tls: root.flag("tls", false),
        client_id,
        client_secret,
        tokens: tokens(&mut root),
        token_lifetime: root.duration("tokenLifetime", Duration::from_secs(3600)),
        commit_interval: root.duration("commitInterval", Duration::from_millis(100)),
        commit_bytes: root.bytes("commitBytes", 32 << 20, 1),
        max_message_size: root.bytes("maxMessageSize", 4 << 20, 64 << 10),
    };
    root.finish();
    config
}

fn tokens(root: &mut Group<'_>) -> Vec<Secret> {
    let Some(value) = root.value("tokens") else {
        return Vec::new();
    };
    let texts: Option<Vec<Secret>> = value.as_array().and_then(|items| {
        let texts = items.iter().map(|item| item.as_str());
        texts.map(|text| text.map(|text| Secret::new(text))).collect()
    });
    texts.unwrap_or_else(|| {
        // What was given is not shown: it is secret even when it is wrong.
        root.issue("tokens", "must be an array of strings".into(), None);
        Vec::new()
    })
}

fn tables(root: &mut Group<'_>) -> BTreeMap<TableName, Vec<Column>> {
    let Some(value) = root.value("tables") else {
        return BTreeMap::new();
    };
    let Some(given) = value.as_object() else {
        root.issue(
            "tables",
            format!("must be an object of tables, not {}", describe(value)),
            None,
        );
        return BTreeMap::new();
    };
    let mut tables = BTreeMap::new();
    for (name, table) in given {
        let path = format!("tables.{name}");
        let name = TableName::from_str(name).map_err(|reason| root.issue(&path, reason, None));
        let columns = match table {
            Value::Array(_) => columns(&path, table, root.issues),
            _ => {
                let mut group = Group::at(path.clone(), table, root.issues);
                group.value("schema");
                group.finish();
                match table.get("schema") {
                    Some(schema) => columns(&format!("{path}.schema"), schema, root.issues),
                    None => {
                        root.issue(&path, "needs a schema: an array of columns".into(), None);
                        Vec::new()
                    }
                }
            }
        };
        if let Ok(name) = name {
            tables.insert(name, columns);
        }
    }
    tables
}

/// `[{ name, type, nullable }]`, as Unity Catalog lists them.
fn columns(path: &str, value: &Value, issues: &mut Vec<Issue>) -> Vec<Column> {
    let mut issue = |path: String, message: String| {
        issues.push(Issue {
            path,
            message,
            suggestion: None,
        });
    };
    let Some(items) = value.as_array().filter(|items| !items.is_empty()) else {
        issue(
            path.into(),
            format!("must be an array of columns, not {}", describe(value)),
        );
        return Vec::new();
    };
    let mut columns: Vec<Column> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let mut group = Group::at(at.clone(), item, issues);
        let (name, text) = (group.text("name"), group.text("type"));
        let nullable = group.flag("nullable", true);
        group.finish();
        let (Some(name), Some(text)) = (name, text) else {
            if item.is_object() {
                let message = "needs a name and a type".into();
                issues.push(Issue {
                    path: at,
                    message,
                    suggestion: None,
                });
            }
            continue;
        };
        if columns
            .iter()
            .any(|column| column.name.eq_ignore_ascii_case(&name))
        {
            group.issue("name", format!("{name:?} is there already"), None);
        }
        match Type::parse(&text) {
            Ok(kind) => columns.push(Column { name, kind, nullable }),
            Err(reason) => group.issue("type", reason, None),
        }
    }
    columns
}

fn faults(root: &mut Group<'_>) -> Vec<Fault> {
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
        "refuse" => Kind::Refuse {
            status: grpc(&mut group),
            message: group.text("message"),
        },
        "refuse-schema" => Kind::RefuseSchema {
            causes: causes(&mut group),
        },
        "expire-token" => Kind::ExpireToken,
        "rotate" => Kind::Rotate {
            grace: group.duration("grace", Duration::from_secs(2)),
        },
        "stall" => Kind::Stall {
            time: group.duration("for", Duration::from_secs(1)),
        },
        "partial" => Kind::Partial {
            rows: group.count("rows", 1, 1),
        },
        "close" => Kind::Close {
            status: grpc(&mut group),
            message: group.text("message"),
        },
        "lose-before-commit" => Kind::LoseBeforeCommit,
        "lose-after-commit" => Kind::LoseAfterCommit,
        "pause" => Kind::Pause {
            time: group.holds("for").then(|| group.duration("for", Duration::ZERO)),
        },
        "reject" => Kind::Reject(rule(&mut group)?),
        "limit" => Kind::Limit {
            streams: group.count("streams", 1, 0),
        },
        "token" => Kind::Token {
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

fn rule(group: &mut Group<'_>) -> Option<Rule> {
    let column = group.text("column");
    let mut tests = Vec::new();
    for (name, test) in [
        ("equals", Test::Equals as fn(String) -> Test),
        ("below", Test::Below),
        ("above", Test::Above),
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
        tests.push(Test::Null);
    }
    let Some(column) = column else {
        group.issue("column", "is missing".into(), None);
        return None;
    };
    if tests.len() != 1 {
        let text = "takes exactly one of equals, below, above and null";
        group.issue("column", text.into(), None);
    }
    Some(Rule {
        column,
        test: tests.pop()?,
    })
}

/// `"1000rows"`, `"3batches"`; a bare number counts rows.
fn after(group: &mut Group<'_>, kind: &Kind) -> Option<After> {
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
fn times(group: &mut Group<'_>, kind: &Kind) -> Option<u64> {
    match group.value("times") {
        Some(Value::String(text)) if text == "always" => None,
        Some(_) => Some(group.count("times", 1, 1) as u64),
        None if matches!(kind, Kind::Reject(_) | Kind::Limit { .. }) => None,
        None => Some(1),
    }
}
