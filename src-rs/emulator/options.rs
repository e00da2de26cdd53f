//! The options of the Zerobus emulator.

mod fault;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use self::fault::faults;
use super::{Column, Fault, TableName, Type};
use crate::config::Secret;
use crate::config::group::{Group, describe, mistakes};
use crate::error::{Issue, Result};

/// What an emulator was asked to be.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    pub host: String,
    /// 0: one that is free.
    pub port: u16,
    /// Where the Delta tables are; without it rows are decoded, checked, counted and forgotten.
    pub lake: Option<PathBuf>,
    pub tables: BTreeMap<TableName, Vec<Column>>,
    /// A table that nobody declared is made from the schema of its first stream. Unless told otherwise: where
    /// none is declared.
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
        // Whoever declares tables has a misspelt name refused, as the service does, and no table made of it.
        auto_create: root.flag("autoCreate", tables.is_empty()),
        tables,
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
        texts.map(|text| text.map(Secret::new)).collect()
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
