//! Tables and targets that are refused, each with a code and a name.

use arrow_ingest::destination::Destination as _;
use arrow_ingest::destination::delta::Delta;
use arrow_ingest::error::Code;
use serde_json::{Value, json};

use crate::support::{Table, config, error, foreign, rows};

fn legacy(writer: i32) -> Value {
    json!({"minReaderVersion": 1, "minWriterVersion": writer})
}

fn listed(reader: &[&str], writer: &[&str]) -> Value {
    json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer})
}

/// R-20: what the writer cannot honour is refused at connect, by the feature's name.
#[tokio::test(flavor = "multi_thread")]
async fn features_in_use_are_refused_by_name() {
    let cases = [
        (
            foreign(
                json!({"minReaderVersion": 2, "minWriterVersion": 5}),
                json!({"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "c1"}),
                json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "1"}),
            ),
            "columnMapping",
        ),
        (
            foreign(
                legacy(3),
                json!({}),
                json!({"delta.constraints.positive": "id > 0"}),
            ),
            "positive",
        ),
        (
            foreign(
                legacy(2),
                json!({"delta.invariants": r#"{"expression":{"expression":"id > 0"}}"#}),
                json!({}),
            ),
            "invariants (column id)",
        ),
        (
            foreign(
                legacy(4),
                json!({}),
                json!({"delta.enableChangeDataFeed": "true"}),
            ),
            "changeDataFeed",
        ),
        (
            foreign(
                legacy(4),
                json!({"delta.generationExpression": "1 + 1"}),
                json!({}),
            ),
            "generatedColumns",
        ),
        (
            foreign(
                legacy(6),
                json!({"delta.identity.start": 1, "delta.identity.step": 1, "delta.identity.allowExplicitInsert": false}),
                json!({}),
            ),
            "identityColumns",
        ),
        (
            foreign(
                listed(&[], &["rowTracking", "domainMetadata"]),
                json!({}),
                json!({}),
            ),
            "rowTracking",
        ),
        (
            foreign(
                listed(&[], &["inCommitTimestamp"]),
                json!({}),
                json!({"delta.enableInCommitTimestamps": "true"}),
            ),
            "inCommitTimestamp",
        ),
        (
            foreign(
                listed(&[], &["clustering", "domainMetadata"]),
                json!({}),
                json!({}),
            ),
            "clustering",
        ),
        (
            foreign(listed(&[], &["somethingNew"]), json!({}), json!({})),
            "somethingNew",
        ),
        (
            foreign(listed(&["somethingNew"], &["somethingNew"]), json!({}), json!({})),
            "somethingNew",
        ),
        (
            foreign(
                json!({"minReaderVersion": 1, "minWriterVersion": 8}),
                json!({}),
                json!({}),
            ),
            "8",
        ),
    ];
    for (actions, name) in cases {
        let table = Table::new();
        table.write_log(0, &actions);
        let refused = error(table.connect(json!({})).await);
        assert_eq!(refused.code(), Code::Unsupported, "{name}: {refused}");
        assert!(refused.message().contains(name), "{name}: {refused}");
    }
}

/// A type that only an unknown feature knows is no damage of the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_an_unknown_feature_is_refused_by_the_feature_s_name() {
    let schema = json!({"type": "struct", "fields": [
        {"name": "id", "type": "long", "nullable": true, "metadata": {}},
        {"name": "place", "type": "hyperbolic(7)", "nullable": true, "metadata": {}},
    ]});
    for (protocol, code, word) in [
        (
            listed(&["hyperbolicTypes"], &["hyperbolicTypes", "appendOnly"]),
            Code::Unsupported,
            "hyperbolicTypes",
        ),
        (
            json!({"minReaderVersion": 4, "minWriterVersion": 8}),
            Code::Unsupported,
            "protocol 4/8",
        ),
        (legacy(2), Code::TableCorrupt, "hyperbolic"),
    ] {
        let mut actions = foreign(protocol, json!({}), json!({}));
        actions[1]["metaData"]["schemaString"] = schema.to_string().into();
        let table = Table::new();
        table.write_log(0, &actions);
        let refused = error(table.connect(json!({})).await);
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(word), "{refused}");
        // The same where another writer leads there.
        let table = Table::new();
        table.append(&[rows(0, 1)], json!({})).await.unwrap();
        let delta = table.connect(json!({})).await.unwrap();
        table.write_log(2, &actions);
        let refused = error(delta.check().await);
        assert_eq!(refused.code(), code, "{refused}");
    }
}

/// A feature that is listed and not in use asks nothing of an append.
#[tokio::test(flavor = "multi_thread")]
async fn features_that_ask_nothing_of_an_append_are_fine() {
    let cases = [
        foreign(legacy(1), json!({}), json!({})),
        foreign(legacy(2), json!({}), json!({"delta.appendOnly": "true"})),
        foreign(legacy(4), json!({}), json!({})),
        foreign(
            listed(
                &["deletionVectors", "timestampNtz"],
                &["appendOnly", "invariants", "deletionVectors", "timestampNtz"],
            ),
            json!({"comment": "a plain comment"}),
            json!({"delta.enableDeletionVectors": "true"}),
        ),
        foreign(
            listed(
                &["v2Checkpoint"],
                &["v2Checkpoint", "checkConstraints", "changeDataFeed"],
            ),
            json!({}),
            json!({}),
        ),
    ];
    for actions in cases {
        let table = Table::new();
        table.write_log(0, &actions);
        let batch = crate::support::columns(vec![("id", rows(0, 5).column(0).clone())]);
        table
            .append(&[batch], json!({}))
            .await
            .unwrap_or_else(|error| panic!("{error} {actions:?}"));
        assert_eq!(table.ids(), [0, 1, 2, 3, 4]);
        assert_eq!(table.by_deltalake().await.version(), Some(1));
    }
}

/// A log that cannot be read is `TABLE_CORRUPT`, whatever is wrong with it; nothing is written over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_log_is_said_so() {
    let good = foreign(legacy(2), json!({}), json!({}));
    for text in ["not json at all", "{\"metaData\": 5}", "{\"add\":{}}", ""] {
        let table = Table::new();
        table.write_log(0, &[]);
        std::fs::write(table.commit_path(0), text).unwrap();
        let refused = error(table.connect(json!({})).await);
        assert_eq!(refused.code(), Code::TableCorrupt, "{text:?}: {refused}");
    }
    // A version is missing.
    let table = Table::new();
    table.write_log(0, &good);
    table.write_log(2, &[json!({"commitInfo": {}})]);
    let refused = error(table.connect(json!({})).await);
    assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
    // The first version is missing.
    let table = Table::new();
    table.write_log(3, &good);
    let refused = error(table.connect(json!({})).await);
    assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
    let table = Table::new();
    std::fs::create_dir_all(table.path()).unwrap();
    std::fs::write(table.path().join("_delta_log"), "").unwrap();
    let refused = error(table.connect(json!({})).await);
    assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_cannot_hold_a_table_are_refused() {
    let table = Table::new();
    let missing = error(table.connect(json!({"createIfMissing": false})).await);
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    assert!(!table.path().exists());
    std::fs::write(table.path(), "a file where a directory should be").unwrap();
    let refused = error(table.connect(json!({})).await);
    assert_eq!(refused.code(), Code::ConfigInvalid, "{refused}");
    let below = error(Delta::connect(&format!("{}/below", table.target()), &config(json!({}))).await);
    assert_eq!(below.code(), Code::ConfigInvalid, "{below}");
    // The kernel lets nobody make a file there, root included.
    let denied = error(Delta::connect("delta:/proc/self/table", &config(json!({}))).await);
    assert!(
        matches!(denied.code(), Code::PermissionDenied | Code::NotFound),
        "{denied}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_mean_nothing_are_refused() {
    for target in [
        "delta:",
        "delta:ftp://host/table",
        "delta:file:relative",
        "delta:/tmp/100%/table",
        "delta:s3://key:secret-in-the-url@bucket/table",
        "delta:s3://bucket/table?token=secret-in-the-url",
        "delta:s3://",
        "delta:http://[broken",
    ] {
        let refused = error(Delta::connect(target, &config(json!({}))).await);
        assert_eq!(refused.code(), Code::ConfigInvalid, "{target}: {refused}");
        assert!(!refused.to_string().contains("secret-in-the-url"), "{refused}");
    }
    for target in ["delta:s3://b/t", "delta:az://c/t", "delta:gs://b/t"] {
        let options = json!({"delta": {"storage": {"no_such_option": "a-secret-value"}}});
        let refused = error(Delta::connect(target, &config(options)).await);
        assert_eq!(refused.code(), Code::ConfigInvalid, "{refused}");
        assert!(refused.message().contains("no_such_option"), "{refused}");
        assert!(!refused.message().contains("a-secret-value"), "{refused}");
    }
}

/// Paths in every spelling, and the same table by each.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_found_by_path_and_by_url() {
    let table = Table::new();
    let odd = table.home.path().join("a dir with späce & 漢");
    let path = odd.join("x/../table");
    let delta = Delta::connect(&format!("delta:{}", path.display()), &config(json!({})))
        .await
        .unwrap();
    let mut writer = crate::support::Writer::open(&delta, &rows(0, 1), uuid::Uuid::new_v4(), None)
        .await
        .unwrap();
    writer.write(0, &rows(0, 3)).await.unwrap();
    writer.close().await.unwrap();
    assert!(odd.join("table/_delta_log").is_dir());
    let url = url::Url::from_file_path(odd.join("table")).unwrap();
    Delta::connect(
        &format!("delta:{url}"),
        &config(json!({"createIfMissing": false})),
    )
    .await
    .unwrap();
}

/// Cloud stores that are not there: an error with a class that fits, no secret in it, no long wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_store_is_unavailable_and_keeps_its_secrets() {
    let options = json!({"delta": {"storage": {
        "aws_endpoint": "http://127.0.0.1:9/", "aws_access_key_id": "AKIDSECRETID", "aws_secret_access_key": "very-secret-key",
        "aws_region": "us-east-1", "allow_http": "true",
    }}});
    let refused = error(Delta::connect("delta:s3://bucket/table", &config(options)).await);
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let shown = format!("{refused:?}");
    assert!(
        !shown.contains("very-secret-key") && !shown.contains("AKIDSECRETID"),
        "{shown}"
    );
    let options = json!({"delta": {"storage": {
        "azure_storage_account_name": "account", "azure_storage_account_key": "c2VjcmV0LWtleQ==",
        "azure_storage_endpoint": "http://127.0.0.1:9", "allow_http": "true",
    }}});
    let refused = error(Delta::connect("delta:az://container/table", &config(options)).await);
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let options = json!({"delta": {"storage": {"google_service_account_key": "not a key"}}});
    let refused = error(Delta::connect("delta:gs://bucket/table", &config(options)).await);
    assert_eq!(refused.code(), Code::ConfigInvalid, "{refused:?}");
    assert!(!format!("{refused:?}").contains("not a key"));
}
