//! Targets, limits and credentials.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, LargeStringArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde_json::{Value, json};

use crate::config::Config;
use crate::destination::zerobus::credentials::Credentials;
use crate::destination::zerobus::limits::{ROW_BYTES, check_schema, large_rows};
use crate::destination::zerobus::target::ZerobusTarget;
use crate::destination::zerobus::{answers_to, validate};
use crate::error::{Code, Error};

const WORKSPACE: &str = "zerobus://1234.zerobus.eu-west-1.cloud.databricks.com/main.air.flights";

fn config(options: Value) -> Config {
    Config::from_json(&options).unwrap()
}

fn parse(target: &str) -> Result<ZerobusTarget, Error> {
    ZerobusTarget::parse(target, &Config::default())
}

#[test]
fn a_target_names_endpoint_workspace_and_table() {
    let target = parse(WORKSPACE).unwrap();
    assert_eq!(
        target.endpoint,
        "https://1234.zerobus.eu-west-1.cloud.databricks.com"
    );
    assert_eq!(target.workspace, "1234");
    assert_eq!(target.table.to_string(), "main.air.flights");
    assert!(target.tls && !target.loopback);
    let local = parse("zerobus+http://127.0.0.1:4317/a.b.c").unwrap();
    assert_eq!(
        (local.endpoint.as_str(), local.tls),
        ("http://127.0.0.1:4317", false)
    );
    for loopback in ["localhost:1", "127.8.8.8", "[::1]:9", "1234.localhost:7"] {
        assert!(parse(&format!("zerobus://{loopback}/a.b.c")).unwrap().loopback);
    }
    assert!(answers_to("zerobus") && answers_to("zerobus+http") && !answers_to("zerobus+udp"));
}

#[test]
fn what_a_target_cannot_mean_is_refused_by_name() {
    for (target, word) in [
        ("zerobus:", "no host"),
        ("zerobus:// /a.b.c", "no URL"),
        ("zerobus:///a.b.c", "no host"),
        ("zerobus://id:hunter22@127.0.0.1/a.b.c", "credentials"),
        ("zerobus://127.0.0.1/a.b.c?x=1", "comes after"),
        ("zerobus://127.0.0.1/a.b.c#x", "comes after"),
        ("zerobus+http://1.zerobus.eu.example.com/a.b.c", "plain text"),
        ("zerobus://adb-1.azuredatabricks.net/a.b.c", "no Zerobus endpoint"),
        ("zerobus://127.0.0.1/a.b", "three parts"),
        ("zerobus://127.0.0.1/a.b.c.d", "three parts"),
        ("zerobus://127.0.0.1/", "three parts"),
        ("zerobus://127.0.0.1/a.b-b.c", "\"b-b\""),
        ("zerobus://127.0.0.1/a..c", "\"\""),
    ] {
        let error = validate(target, &Config::default()).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.message().contains(word), "{target}: {error}");
        assert!(!error.message().contains("hunter22"));
    }
    let tls = config(json!({"tls": {"ca": "x"}}));
    let error = ZerobusTarget::parse("zerobus+http://127.0.0.1:1/a.b.c", &tls).unwrap_err();
    assert!(error.message().contains("does not use it"));
}

fn credentials(options: Value, environment: &[(&str, &str)]) -> Result<(Credentials, bool), Error> {
    let environment: HashMap<&str, &str> = environment.iter().copied().collect();
    let target = parse(WORKSPACE).unwrap();
    let found = |name: &str| environment.get(name).map(|value| value.to_string());
    Credentials::new(&target, &config(options), found)
        .map(|(credentials, http)| (credentials, http.is_some()))
}

#[test]
fn credentials_come_from_options_then_from_the_environment_or_are_missed_by_name() {
    let both = [
        ("DATABRICKS_HOST", "work.example.com"),
        ("DATABRICKS_CLIENT_ID", "me"),
        ("DATABRICKS_CLIENT_SECRET", "hunter22"),
        ("ZEROBUS_CLIENT_ID", ""),
    ];
    let (found, catalog) = credentials(json!({}), &both).unwrap();
    assert!(matches!(found, Credentials::Tokens(_)) && catalog);
    assert!(!format!("{found:?}").contains("hunter22"));
    let given = json!({"zerobus": {"unityCatalogUrl": "https://w", "clientId": "a", "clientSecret": "b"}});
    assert!(credentials(given, &[]).is_ok());
    for (missing, word) in [(0, "unityCatalogUrl"), (1, "clientId"), (2, "clientSecret")] {
        let mut some = both.to_vec();
        some.remove(missing);
        let error = credentials(json!({}), &some).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(
            error.message().contains(word) && error.message().contains(both[missing].0),
            "{error}"
        );
    }
    // Headers replace all of it, and are not sent to wherever the environment points.
    let (found, catalog) = credentials(json!({"headers": {"authorization": "Bearer x"}}), &both).unwrap();
    assert!(matches!(found, Credentials::Given { .. }) && !catalog);
}

#[test]
fn a_secret_goes_nowhere_in_plain_text() {
    let certificates = json!({"ca": "no such file"});
    for (url, tls, word) in [
        ("http://work.example.com", json!({}), "plain text"),
        ("ftp://work.example.com", json!({}), "neither"),
        ("https://me:hunter22@work.example.com", json!({}), "credentials"),
        ("https://", json!({}), "no URL"),
        ("https://work.example.com", certificates, "tls.ca"),
    ] {
        let options = json!({"tls": tls, "zerobus": {
            "unityCatalogUrl": url, "clientId": "a", "clientSecret": "b"
        }});
        let error = credentials(options, &[]).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.message().contains(word), "{url}: {error}");
        assert!(!error.message().contains("hunter22"));
    }
}

fn nested(depth: usize) -> DataType {
    (1..depth).fold(DataType::Int32, |inner, _| {
        DataType::Struct(Fields::from(vec![Field::new("f", inner, true)]))
    })
}

/// every limit of the service is checked here first, and the error names the column.
#[test]
fn schemas_beyond_the_limits_are_refused_and_name_the_column() {
    let refused = |fields: Vec<Field>| check_schema(&Schema::new(fields)).unwrap_err();
    let many = |count: usize| {
        let field = |index| Field::new(format!("c{index}"), DataType::Int8, true);
        (0..count).map(field).collect::<Vec<_>>()
    };
    check_schema(&Schema::new(many(2_000))).unwrap();
    let error = refused(many(2_001));
    assert_eq!(
        (error.code(), error.field()),
        (Code::SchemaMismatch, Some("c2000"))
    );

    check_schema(&Schema::new(vec![Field::new("deep", nested(10), true)])).unwrap();
    let list = DataType::List(Arc::new(Field::new("item", nested(10), true)));
    let entries = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", nested(10), true),
    ]);
    let map = DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(entries), false)),
        false,
    );
    for deep in [nested(11), list, map] {
        let error = refused(vec![Field::new("deep", deep, true)]);
        assert_eq!(error.field(), Some("deep"));
        assert!(error.message().contains("11 deep"), "{error}");
    }

    let inner = DataType::Struct(Fields::from(vec![Field::new("a b", DataType::Int8, true)]));
    let inner = DataType::List(Arc::new(Field::new("any name", inner, true)));
    let error = refused(vec![
        Field::new("ok_1", DataType::Int8, true),
        Field::new("été", DataType::Int8, true),
        Field::new("l", inner, true),
    ]);
    assert_eq!(error.field(), Some("été"));
    assert!(error.message().contains("l.a b"), "{error}");
}

/// rows are measured each, whatever the batch weighs.
#[test]
fn rows_beyond_the_limit_are_found_among_others() {
    let large = "x".repeat(ROW_BYTES);
    let texts: Vec<&str> = vec!["a", &large, "b", "c", &large[..ROW_BYTES - 100], &large, "d"];
    let column: ArrayRef = Arc::new(LargeStringArray::from(texts));
    let batch = RecordBatch::try_from_iter([("t", column)]).unwrap();
    let found: Vec<usize> = large_rows(&batch, ROW_BYTES)
        .iter()
        .map(|(row, _)| *row)
        .collect();
    assert_eq!(found, [1, 5]);
    assert!(large_rows(&batch.slice(2, 3), ROW_BYTES).is_empty());
    assert!(large_rows(&batch.slice(0, 0), 0).is_empty());
}
