//! options as given become options as meant, or every mistake is said at once; every
//! error has one code, and `specs/errors.md` lists them all.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_ingest::config::{Compression, Config, HandoffMode, OnExhausted, SchemaEvolution};
use arrow_ingest::error::{Code, Error, Issue, RetryClass};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(options: Value) -> Config {
    Config::from_json(&options).unwrap()
}

fn issues(options: &Value) -> Vec<Issue> {
    let error = Config::from_json(options).unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    error.issues().to_vec()
}

/// The one mistake in these options.
fn issue(options: Value) -> Issue {
    let mut issues = issues(&options);
    assert_eq!(issues.len(), 1, "{issues:?}");
    issues.remove(0)
}

/// everything is optional, and these are the defaults that the docs name.
#[test]
fn no_options_are_good_options() {
    for options in [json!({}), Value::Null, json!({ "batching": null, "retry": {} })] {
        let config = read(options);
        assert_eq!(config.batching.max_rows, 65_536);
        assert_eq!(config.batching.max_bytes, 8 << 20);
        assert_eq!(config.batching.linger, Duration::from_millis(50));
        assert_eq!(config.inflight.max_bytes, 256 << 20);
        assert_eq!(config.inflight.max_pinned_bytes, 1 << 30);
        assert_eq!(config.inflight.max_writes, 1_024);
        assert_eq!(config.retry.attempts, 5);
        assert_eq!(config.retry.base_delay, Duration::from_millis(100));
        assert_eq!(config.retry.max_delay, Duration::from_secs(30));
        assert_eq!(config.retry.deadline, Duration::from_secs(300));
        assert_eq!(config.retry.on_exhausted, OnExhausted::Continue);
        assert_eq!(config.handoff.mode, HandoffMode::Auto);
        assert!(!config.handoff.verify_payload);
        assert!(config.delta.partition_by.is_empty());
        assert_eq!(config.delta.compression, Compression::Snappy);
        assert_eq!(config.delta.target_file_size, 128 << 20);
        assert_eq!(config.delta.commit_interval, Duration::from_secs(1));
        assert_eq!(config.delta.schema_evolution, SchemaEvolution::None);
        assert!(config.delta.storage.is_empty());
        assert!(config.create_if_missing);
    }
}

///
#[test]
fn every_option_is_read() {
    let config = read(json!({
        "batching": { "maxRows": 10.0, "maxBytes": "1MiB", "linger": "2s" },
        "inflight": { "maxBytes": 1000, "maxPinnedBytes": 0, "maxWrites": 7 },
        "retry": {
            "attempts": 9_000_000_000u64, "baseDelay": 1.5, "maxDelay": "1m", "deadline": "1h",
            "onExhausted": "stop", "when": true, "whenTimeout": "2s",
        },
        "handoff": { "mode": "pin", "verifyPayload": true },
        "delta": {
            "partitionBy": ["a", "b"], "compression": "zstd", "targetFileSize": "1GB", "commitInterval": 0,
            "schemaEvolution": "merge", "storage": { "region": "eu", "retries": 3, "http": true },
        },
        "createIfMissing": false,
        "headers": { "provider": true, "timeout": "3s" },
    }));
    assert_eq!(
        (
            config.batching.max_rows,
            config.batching.max_bytes,
            config.batching.linger
        ),
        (10, 1 << 20, Duration::from_secs(2))
    );
    assert_eq!(
        (
            config.inflight.max_bytes,
            config.inflight.max_pinned_bytes,
            config.inflight.max_writes
        ),
        (1000, 0, 7)
    );
    assert_eq!(config.retry.attempts, u32::MAX);
    assert_eq!(config.retry.base_delay, Duration::from_micros(1500));
    assert_eq!(config.retry.max_delay, Duration::from_secs(60));
    assert_eq!(config.retry.deadline, Duration::from_secs(3600));
    assert_eq!(config.retry.on_exhausted, OnExhausted::Stop);
    assert!(config.retry.asked && config.retry.predicate.is_none());
    assert_eq!(config.retry.patience, Duration::from_secs(2));
    assert_eq!(
        (config.handoff.mode, config.handoff.verify_payload),
        (HandoffMode::Pin, true)
    );
    assert_eq!(config.delta.partition_by, ["a", "b"]);
    assert_eq!(config.delta.compression, Compression::Zstd);
    assert_eq!(config.delta.target_file_size, 1_000_000_000);
    assert_eq!(config.delta.commit_interval, Duration::ZERO);
    assert_eq!(config.delta.schema_evolution, SchemaEvolution::Merge);
    let storage: BTreeMap<String, String> = [("region", "eu"), ("retries", "3"), ("http", "true")]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
    assert_eq!(config.delta.storage, storage);
    assert!(!config.create_if_missing);
    assert!(config.headers_asked && config.headers.is_empty());
    assert_eq!(config.headers_timeout, Duration::from_secs(3));
}

/// every word of every choice.
#[test]
fn every_choice_is_read() {
    let modes = ["auto", "pin", "copy", "ipc"].map(|word| read(json!({ "handoff": word })).handoff.mode);
    assert_eq!(
        modes,
        [
            HandoffMode::Auto,
            HandoffMode::Pin,
            HandoffMode::Copy,
            HandoffMode::Ipc
        ]
    );
    let read = |word: &str| {
        read(json!({ "delta": { "compression": word } }))
            .delta
            .compression
    };
    let compressions = ["none", "snappy", "zstd", "lz4"].map(read);
    assert_eq!(
        compressions,
        [
            Compression::None,
            Compression::Snappy,
            Compression::Zstd,
            Compression::Lz4
        ]
    );
}

/// pinned memory is four times the budget unless said otherwise; the longest delay is never
/// below the first.
#[test]
fn defaults_follow_what_was_given() {
    assert_eq!(
        read(json!({ "inflight": { "maxBytes": 10 } }))
            .inflight
            .max_pinned_bytes,
        40
    );
    let config = read(json!({ "retry": { "baseDelay": "1h" } }));
    assert_eq!(config.retry.max_delay, Duration::from_secs(3600));
}

/// path, what it must be, what it was.
#[test]
fn every_mistake_names_its_path() {
    let cases = [
        (json!({ "batching": 3 }), "batching", "must be an object, not 3"),
        (json!([]), "options", "must be an object, not an array"),
        (
            json!({ "batching": { "maxRows": 0 } }),
            "batching.maxRows",
            "at least 1, not 0",
        ),
        (
            json!({ "batching": { "maxRows": 1.5 } }),
            "batching.maxRows",
            "whole number",
        ),
        (
            json!({ "batching": { "maxRows": "9" } }),
            "batching.maxRows",
            "not \"9\"",
        ),
        (
            json!({ "batching": { "maxBytes": "8 florins" } }),
            "batching.maxBytes",
            "8MiB",
        ),
        (
            json!({ "batching": { "maxBytes": {} } }),
            "batching.maxBytes",
            "not an object",
        ),
        (
            json!({ "batching": { "linger": "soon" } }),
            "batching.linger",
            "50ms",
        ),
        (
            json!({ "batching": { "linger": -1 } }),
            "batching.linger",
            "not -1",
        ),
        (
            json!({ "batching": { "linger": true } }),
            "batching.linger",
            "not true",
        ),
        (
            json!({ "retry": { "deadline": "2years" } }),
            "retry.deadline",
            "duration",
        ),
        (
            json!({ "retry": { "baseDelay": 10, "maxDelay": 5 } }),
            "retry.maxDelay",
            "shorter than baseDelay",
        ),
        (
            json!({ "handoff": { "verifyPayload": "yes" } }),
            "handoff.verifyPayload",
            "true or false",
        ),
        (json!({ "handoff": 1 }), "handoff", "object"),
        (
            json!({ "delta": { "partitionBy": "a" } }),
            "delta.partitionBy",
            "array of column names",
        ),
        (
            json!({ "delta": { "partitionBy": [1] } }),
            "delta.partitionBy",
            "array of column names",
        ),
        (
            json!({ "delta": { "partitionBy": ["a", "b", "a"] } }),
            "delta.partitionBy",
            "names \"a\" twice",
        ),
        (
            json!({ "delta": { "partitionBy": ["é", "É"] } }),
            "delta.partitionBy",
            "names \"É\" twice",
        ),
        (
            json!({ "delta": { "partitionBy": ["a", ""] } }),
            "delta.partitionBy",
            "empty name",
        ),
        (
            json!({ "delta": { "storage": "x" } }),
            "delta.storage",
            "object of strings",
        ),
        (
            json!({ "delta": { "storage": { "k": [] } } }),
            "delta.storage.k",
            "must be a string",
        ),
        (
            json!({ "delta": { "storage": { "k": null } } }),
            "delta.storage.k",
            "must be a string",
        ),
        (
            json!({ "delta": { "compression": 4 } }),
            "delta.compression",
            "none, snappy, zstd, lz4",
        ),
        (json!({ "headers": "x" }), "headers", "object of strings"),
        (
            json!({ "headers": { "x-a": [] } }),
            "headers.x-a",
            "must be a string",
        ),
        (
            json!({ "headers": { "provider": true, "timeout": 0 } }),
            "headers.timeout",
            "no time",
        ),
        (
            json!({ "headers": { "provider": true, "timout": 1 } }),
            "headers.timout",
            "not an option",
        ),
        (
            json!({ "createIfMissing": "no" }),
            "createIfMissing",
            "true or false",
        ),
    ];
    for (options, path, message) in cases {
        let issue = issue(options);
        assert_eq!(issue.path, path);
        assert!(issue.message.contains(message), "{path}: {}", issue.message);
    }
}

///
#[test]
fn the_nearest_valid_name_is_suggested() {
    let cases = [
        (json!({ "bathcing": {} }), "bathcing", Some("batching")),
        (
            json!({ "batching": { "maxrows": 1 } }),
            "batching.maxrows",
            Some("maxRows"),
        ),
        (
            json!({ "delta": { "partitionsBy": [] } }),
            "delta.partitionsBy",
            Some("partitionBy"),
        ),
        (
            json!({ "retry": { "onExhausted": "halt" } }),
            "retry.onExhausted",
            None,
        ),
        (
            json!({ "retry": { "onExhausted": "stp" } }),
            "retry.onExhausted",
            Some("stop"),
        ),
        (json!({ "handoff": "cpoy" }), "handoff", Some("copy")),
        (
            json!({ "somethingElseEntirely": 1 }),
            "somethingElseEntirely",
            None,
        ),
    ];
    for (options, path, suggestion) in cases {
        let issue = issue(options);
        assert_eq!(
            (issue.path.as_str(), issue.suggestion.as_deref()),
            (path, suggestion)
        );
    }
}

/// all at once.
#[test]
fn all_mistakes_are_reported_at_once() {
    let options = json!({
        "batching": { "maxRows": -1, "lingre": 5 },
        "retry": { "attempts": 0 },
        "delta": { "storage": { "key": {} }, "compression": "zip" },
        "extra": true,
    });
    let mut paths: Vec<String> = issues(&options).into_iter().map(|issue| issue.path).collect();
    paths.sort();
    let expected = [
        "batching.lingre",
        "batching.maxRows",
        "delta.compression",
        "delta.storage.key",
        "extra",
        "retry.attempts",
    ];
    assert_eq!(paths, expected);
    let error = Config::from_json(&options).unwrap_err();
    for path in expected {
        assert!(error.message().contains(path));
    }
    assert!(error.message().contains("(did you mean linger?)"));
}

/// what is in `delta.storage` is secret, also when it is wrong.
#[test]
fn secrets_are_never_shown() {
    let secret = "AKIA-do-not-tell";
    for storage in [
        json!({ "key": { "nested": secret } }),
        json!({ "key": [secret] }),
        json!([secret]),
        json!(secret),
    ] {
        let error = Config::from_json(&json!({ "delta": { "storage": storage } })).unwrap_err();
        assert!(!error.to_json().to_string().contains(secret), "{error}");
        assert!(!format!("{error:?}").contains(secret));
    }
    let config = read(json!({ "delta": { "storage": { "key": secret } } }));
    assert!(!format!("{config:?}").contains(secret));
}

/// A long value does not make a long error.
#[test]
fn long_values_are_cut() {
    let issue = issue(json!({ "batching": { "linger": "ä".repeat(1000) } }));
    assert!(issue.message.chars().count() < 200 && issue.message.ends_with('…'));
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9 .MiB]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        let key = prop_oneof![
            Just("batching".to_string()),
            Just("inflight".into()),
            Just("retry".into()),
            Just("delta".into()),
            Just("handoff".into()),
            Just("maxRows".into()),
            Just("maxBytes".into()),
            Just("linger".into()),
            Just("storage".into()),
            Just("deadline".into()),
            "[a-zA-Z]{1,9}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// whatever is given, the answer is options that cannot be wrong, or mistakes with paths.
    #[test]
    fn nothing_given_is_ever_a_panic(options in anything()) {
        match Config::from_json(&options) {
            Ok(config) => {
                prop_assert!(config.batching.max_rows > 0 && config.batching.max_bytes > 0);
                prop_assert!(config.inflight.max_bytes > 0 && config.inflight.max_writes > 0);
                prop_assert!(config.retry.attempts > 0);
                prop_assert!(config.retry.max_delay >= config.retry.base_delay);
            }
            Err(error) => {
                prop_assert!(!error.issues().is_empty());
                prop_assert!(error.issues().iter().all(|issue| !issue.path.is_empty()));
            }
        }
    }
}

// ---- errors -----------------------------------------------------------------------------------

/// the page names every code, and nothing that is none, with the class that the code has.
#[test]
fn the_page_of_errors_is_complete() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/specs/errors.md")).unwrap();
    let table = page.split("## Codes").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut listed = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{line}");
        let code = cells[0].trim_matches('`').to_string();
        let before = listed.insert(code, (cells[1].to_string(), cells[2].to_string()));
        assert!(before.is_none(), "twice: {line}");
    }
    for code in Code::ALL {
        let (origin, class) = listed
            .remove(code.as_str())
            .unwrap_or_else(|| panic!("{code} is not on the page"));
        assert!(
            origin.contains("native"),
            "{code} comes from the native side, not from {origin}"
        );
        assert_eq!(class, code.retry_class().as_str(), "{code}");
    }
    // What is left is TypeScript's own, and says so.
    for (code, (origin, _)) in listed {
        assert_eq!(origin, "TypeScript", "{code} is not in the native code");
    }
}

///
#[test]
fn codes_are_distinct_words() {
    let mut words: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Code::ALL.len());
    assert!(
        words
            .iter()
            .all(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    );
    assert_eq!(RetryClass::Throttled.as_str(), "throttled");
}

/// all that a caller needs to act, in the shape in which it crosses.
#[test]
fn an_error_carries_its_facts() {
    let io = std::io::Error::other("disk on fire");
    let outer = std::io::Error::other(io);
    let error = Error::new(Code::ResourceExhausted, "no room")
        .caused_by(&outer)
        .during("commit")
        .during("flush")
        .in_field("a.b")
        .at_row(7)
        .after(3, Duration::from_millis(1500))
        .retry_after(Duration::from_secs(2))
        .ambiguous();
    assert_eq!(error.to_string(), "RESOURCE_EXHAUSTED: no room");
    assert_eq!((error.field(), error.row()), (Some("a.b"), Some(7)));
    assert_eq!(
        (error.hint(), error.is_ambiguous()),
        (Some(Duration::from_secs(2)), true)
    );
    assert_eq!(error.causes(), ["disk on fire"]);
    let json = error.to_json();
    assert_eq!(json["code"], "RESOURCE_EXHAUSTED");
    assert_eq!(json["retry"], "throttled");
    assert_eq!(json["operation"], "commit", "the innermost is the most telling");
    assert_eq!(json["elapsedMs"], 1500.0);
    assert_eq!(json["retryAfterMs"], 2000.0);
    assert_eq!(
        (json["attempts"].as_u64(), json["row"].as_u64()),
        (Some(3), Some(7))
    );
    assert_eq!(
        Error::new(Code::Internal, "x").to_json()["retryAfterMs"],
        Value::Null
    );
}

/// rows are looked for unless told otherwise, and kept only where told.
#[test]
fn quarantine_and_dead_letters() {
    let config = read(json!({}));
    assert!(config.quarantine.enabled && config.dead_letter.is_none());
    assert_eq!(config.quarantine.max_attempts, 1_000);
    assert_eq!(config.quarantine.deadline, Duration::from_secs(60));
    assert!(!read(json!({ "quarantine": false })).quarantine.enabled);
    assert!(read(json!({ "quarantine": true })).quarantine.enabled);
    let quarantine =
        read(json!({ "quarantine": { "enabled": false, "maxAttempts": 3, "deadline": "2s" } })).quarantine;
    assert!(!quarantine.enabled);
    assert_eq!(
        (quarantine.max_attempts, quarantine.deadline),
        (3, Duration::from_secs(2))
    );

    let kept = read(json!({ "deadLetter": { "directory": "./letters" } }))
        .dead_letter
        .unwrap();
    assert_eq!(kept.directory.to_str(), Some("./letters"));
    assert_eq!(
        (kept.max_file_bytes, kept.max_bytes, kept.max_files),
        (64 << 20, 1 << 30, 1_000)
    );
    assert_eq!(kept.max_age, None);
    let all = json!({ "directory": "d", "maxFileBytes": "2GiB", "maxFiles": 7, "maxAge": "7d" });
    let kept = read(json!({ "deadLetter": all })).dead_letter.unwrap();
    assert_eq!(
        (kept.max_file_bytes, kept.max_bytes, kept.max_files),
        (2 << 30, 2 << 30, 7)
    );
    assert_eq!(kept.max_age, Some(Duration::from_secs(7 * 24 * 3600)));

    for (options, path, word) in [
        (json!({ "quarantine": 3 }), "quarantine", "object"),
        (
            json!({ "quarantine": { "maxAttempts": 0 } }),
            "quarantine.maxAttempts",
            "at least 1",
        ),
        (json!({ "deadLetter": {} }), "deadLetter.directory", "missing"),
        (
            json!({ "deadLetter": { "directory": "d", "maxBytes": 5, "maxFileBytes": 6 } }),
            "deadLetter.maxBytes",
            "less than maxFileBytes",
        ),
    ] {
        let issue = issue(options);
        assert_eq!(issue.path, path);
        assert!(issue.message.contains(word), "{}", issue.message);
    }
}

/// what is said of the options in force is what was read, and no secret is part of it.
#[test]
fn options_in_force_are_explained() {
    let (facts, issues) = Config::explain(&json!({
        "batching": { "maxRows": 5, "linger": "soon" },
        "inflight": { "maxBytes": "1MiB" },
        "zerobus": { "clientSecret": "hush" },
        "tls": { "key": "hush", "cert": "hush" },
        "headers": { "authorization": "hush" },
    }));
    assert_eq!(issues.len(), 1);
    let fact = |path: &str| facts.iter().find(|fact| fact.path == path).unwrap();
    assert_eq!(
        (
            fact("batching.maxRows").value.clone(),
            fact("batching.maxRows").given
        ),
        (5.into(), true)
    );
    assert_eq!(fact("batching.maxRows").default, json!(65_536));
    // What is wrong is not in force.
    assert_eq!(fact("batching.linger").value, json!(50.0));
    // A default that follows from another option.
    assert_eq!(fact("inflight.maxPinnedBytes").default, json!(4 << 20));
    assert_eq!(fact("delta.compression").words, ["none", "snappy", "zstd", "lz4"]);
    assert_eq!(fact("headers").value, json!(["authorization"]));
    for path in ["zerobus.clientSecret", "tls.key"] {
        assert_eq!(
            (fact(path).kind, &fact(path).value, fact(path).given),
            ("secret", &Value::Null, true)
        );
    }
    let secrets = facts
        .iter()
        .filter(|fact| fact.path != "tls.cert" && fact.value.to_string().contains("hush"));
    assert_eq!(secrets.count(), 0);
    assert!(!facts.iter().any(|fact| fact.path.starts_with("deadLetter")));
}

///
#[test]
fn capture_is_off_unless_it_is_given() {
    assert!(read(json!({})).capture.is_none());
    let capture = read(json!({ "capture": { "directory": "d" } })).capture.unwrap();
    assert_eq!(
        (capture.max_files, capture.max_age, capture.sample),
        (16, None, 1.0)
    );
    assert_eq!(capture.rotate_after, Duration::from_secs(60));
    let path = |options: Value| issue(json!({ "capture": options })).path;
    assert_eq!(path(json!({})), "capture.directory");
    for sample in [json!(0), json!(1.5), json!("half"), json!(-1)] {
        assert_eq!(
            path(json!({ "directory": "d", "sample": sample })),
            "capture.sample"
        );
    }
}
