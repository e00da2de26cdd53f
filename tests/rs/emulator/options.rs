//! The options, the text form of faults, and what is said of mistakes in them.

use std::time::Duration;

use arrow_ingest::emulator::{
    After, Cause, Emulator, EmulatorConfig, EmulatorEvent, Fault, FaultKind, FaultRule, FaultTest, Grpc,
};
use arrow_ingest::error::{Code, Error};
use serde_json::{Value, json};

use crate::support::TABLE;

fn issues(options: Value) -> Vec<(String, String)> {
    let error: Error = EmulatorConfig::from_json(&options).unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    let issues = error.issues().iter();
    issues
        .map(|issue| (issue.path.clone(), issue.message.clone()))
        .collect()
}

#[test]
fn defaults_are_a_free_port_on_this_machine_and_no_lake() {
    let config = EmulatorConfig::default();
    assert_eq!(
        (config.host.as_str(), config.port, config.lake),
        ("127.0.0.1", 0, None)
    );
    assert!(config.auto_create && !config.tls && config.tables.is_empty() && config.faults.is_empty());
    assert_eq!(config.token_lifetime, Duration::from_secs(3600));
    assert_eq!(
        (config.commit_interval, config.commit_bytes),
        (Duration::from_millis(100), 32 << 20)
    );
}

#[test]
fn where_tables_are_declared_no_other_is_made_unless_it_is_asked_for() {
    let config = |options| EmulatorConfig::from_json(&options).unwrap().auto_create;
    let tables = json!({ "a.b.c": [{ "name": "x", "type": "INT" }] });
    assert!(!config(json!({ "tables": tables })));
    assert!(config(json!({ "tables": tables, "autoCreate": true })));
    assert!(config(json!({ "tables": {} })));
}

/// all mistakes at once, each with its path.
#[test]
fn all_mistakes_are_reported_at_once() {
    let found = issues(json!({
        "prot": 1,
        "port": 70_000,
        "clientSecret": "hush-hush",
        "tokens": [1],
        "tables": {
            "a.b": [{ "name": "x", "type": "INT" }],
            "a.b.none": {},
            "a.b.empty": [],
            "a.b.c": { "schema": [{ "name": "x", "type": "INT" }, { "name": "X", "type": "NIT" }, {}, 7], "more": 1 },
        },
        "faults": ["rotat", "stall:for", 3, { "kind": "close", "status": "UNAVAILABEL" }],
    }));
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "port",
            "tables.a.b",
            "tables.a.b.c.more",
            "tables.a.b.c.schema[1].name",
            "tables.a.b.c.schema[1].type",
            "tables.a.b.c.schema[2]",
            "tables.a.b.c.schema[3]",
            "tables.a.b.empty",
            "tables.a.b.none",
            "faults[0].kind",
            "faults[1]",
            "faults[2]",
            "faults[2].kind",
            "faults[3].status",
            "clientSecret",
            "tokens",
            "prot",
        ]
    );
    assert!(!format!("{found:?}").contains("hush-hush"));
    assert_eq!(issues(json!({ "tables": 1, "faults": 2 })).len(), 2);
    let config = EmulatorConfig::from_json(&json!({ "clientId": "a", "clientSecret": "hush-hush" })).unwrap();
    assert!(!format!("{config:?}").contains("hush-hush"));
}

#[test]
fn a_fault_is_written_as_text_or_as_an_object() {
    let fault = |text: &str| text.parse::<Fault>().unwrap();
    let rotate = fault("rotate:after=1000rows,grace=2s");
    assert_eq!(
        rotate,
        Fault {
            kind: FaultKind::Rotate {
                grace: Duration::from_secs(2)
            },
            table: None,
            stream: None,
            after: Some(After::Rows(1000)),
            times: Some(1),
        }
    );
    let object = json!({ "kind": "rotate", "after": 1000, "grace": 2000 });
    assert_eq!(Fault::from_json(&object).unwrap(), rotate);
    let all = fault(&format!(
        "close:table={TABLE},stream=3,after=2batches,times=always,status=ABORTED,message=bye"
    ));
    assert_eq!(
        (all.table.as_ref().unwrap().full(), all.stream, all.times),
        (TABLE, Some(3), None)
    );
    assert_eq!(all.after, Some(After::Batches(2)));
    let message = Some("bye".to_string());
    assert_eq!(
        all.kind,
        FaultKind::Close {
            status: Grpc::Aborted,
            message
        }
    );
    let rule = |test| {
        FaultKind::Reject(FaultRule {
            column: "x".into(),
            test,
        })
    };
    assert_eq!(
        fault("reject:column=x,below=0").kind,
        rule(FaultTest::Below("0".into()))
    );
    assert_eq!(
        fault("reject:column=x,above=1.5").kind,
        rule(FaultTest::Above("1.5".into()))
    );
    assert_eq!(
        fault("reject:column=x,equals=true").kind,
        rule(FaultTest::Equals("true".into()))
    );
    assert_eq!(fault("reject:column=x,null=true").kind, rule(FaultTest::Null));
    assert_eq!(fault("reject:column=x,null=true").times, None);
    let causes = vec![Cause::FieldOutOfOrder, Cause::TypeIncompatible];
    assert_eq!(
        fault("refuse-schema:causes=FIELD_OUT_OF_ORDER+TYPE_INCOMPATIBLE").kind,
        FaultKind::RefuseSchema {
            causes: causes.clone()
        }
    );
    let object = json!({ "kind": "refuse-schema", "causes": ["FIELD_OUT_OF_ORDER", "TYPE_INCOMPATIBLE"] });
    assert_eq!(
        Fault::from_json(&object).unwrap().kind,
        FaultKind::RefuseSchema { causes }
    );
    assert_eq!(
        fault("pause:for=2s").kind,
        FaultKind::Pause {
            time: Some(Duration::from_secs(2))
        }
    );
    for (_, status) in Grpc::NAMES {
        assert_ne!(status.code(), tonic::Code::Ok);
    }
}

#[test]
fn a_fault_that_means_nothing_is_refused() {
    for (text, part) in [
        ("rotate:grace", "is not key=value"),
        ("rotat", "did you mean rotate?"),
        ("rotate:gras=2s", "did you mean grace?"),
        ("rotate:after=soon", "1000rows"),
        ("rotate:after=-1", "1000rows"),
        ("refuse:after=10rows", "set up"),
        (
            "refuse-schema:causes=FIELD_NOT_IN_TABEL",
            "did you mean FIELD_NOT_IN_TABLE?",
        ),
        ("reject:below=0", "is missing"),
        ("reject:column=x", "exactly one"),
        ("reject:column=x,below=0,above=1", "exactly one"),
        ("token:status=200", "at least"),
        ("token:status=900", "400 to 599"),
        ("close:table=x", "three parts"),
        ("close:stream=0", "at least 1"),
    ] {
        let error = text.parse::<Fault>().unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    let error = Fault::from_json(&json!({ "kind": "reject", "column": "x", "equals": [1] })).unwrap_err();
    assert!(error.to_string().contains("a single value"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_and_a_lake_that_is_a_file_are_errors_at_the_start() {
    let first = Emulator::start(EmulatorConfig::default()).await.unwrap();
    let taken = EmulatorConfig {
        port: first.address().port(),
        ..EmulatorConfig::default()
    };
    let error = Emulator::start(taken).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = json!({ "lake": file.path(), "tables": { TABLE: [{ "name": "x", "type": "INT" }] } });
    let error = Emulator::start(EmulatorConfig::from_json(&options).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    // Wherever it listens, a client on this machine is told an address that it can reach.
    let everywhere = EmulatorConfig::from_json(&json!({ "host": "0.0.0.0" })).unwrap();
    let everywhere = Emulator::start(everywhere).await.unwrap();
    assert!(everywhere.address().ip().is_loopback());
    assert!(everywhere.url(TABLE).starts_with("zerobus+http://127.0.0.1:"));
    assert!(format!("{everywhere:?}").contains("127.0.0.1"));
}

/// An event is a line for a log, and an object for a program.
#[test]
fn events_are_lines_and_objects() {
    let event = EmulatorEvent::Committed {
        table: TABLE.into(),
        rows: 10,
        batches: 2,
        version: Some(3),
    };
    assert_eq!(
        event.to_string(),
        format!("{TABLE}: 10 rows in 2 batches committed as version 3")
    );
    assert_eq!(
        serde_json::to_value(&event).unwrap(),
        json!({ "event": "committed", "table": TABLE, "rows": 10, "batches": 2, "version": 3 })
    );
    let event = EmulatorEvent::TokenIssued {
        client_id: "me".into(),
        table: None,
        lifetime: Duration::from_secs(1),
    };
    assert_eq!(
        serde_json::to_value(&event).unwrap(),
        json!({ "event": "tokenIssued", "clientId": "me", "table": null, "lifetimeMs": 1000 })
    );
}
