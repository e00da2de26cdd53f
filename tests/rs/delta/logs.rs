//! How the log is read: with few requests, naming what is damaged, and calling nothing damaged that was not read.

use std::sync::Arc;

use arrow_ingest::destination::Destination as _;
use arrow_ingest::destination::delta::Delta;
use arrow_ingest::error::{Code, Result};
use arrow_ingest::outcome::Position;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::simulated::{Fault, Op, Simulated};
use crate::support::{Table, Writer, config, error, foreign, rows};

fn delta(store: &Simulated, options: Value) -> Delta {
    let url = url::Url::parse("memory:///table/").unwrap();
    Delta::in_store(url, Arc::new(store.clone()), &config(options)).unwrap()
}

fn log_file(name: &str) -> Path {
    Path::from(format!("table/_delta_log/{name}"))
}

/// So many commits of one row by one client, which is then closed.
async fn commits(delta: &Delta, count: u64) -> Uuid {
    let producer = Uuid::new_v4();
    let mut writer = Writer::open(delta, &rows(0, 1), producer, None).await.unwrap();
    for id in 1..=count {
        writer.write(id, &rows(id as i64, id as i64 + 1)).await.unwrap();
        writer.flush().await.unwrap();
    }
    writer.close().await.unwrap();
    producer
}

/// R-10: a commit costs the same requests whatever the table and its log have grown to, and a fresh client looks
/// nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_costs_the_same_requests_however_many_there_were() {
    let store = Simulated::default();
    let rarely = json!({"delta.checkpointInterval": "1000"});
    let legacy = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    let actions = foreign(legacy, json!({}), rarely);
    let text = actions
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    store
        .held
        .put(&log_file("00000000000000000000.json"), text.into())
        .await
        .unwrap();
    let delta = delta(&store, json!({}));
    delta.check().await.unwrap();
    let ids = |from: i64| {
        let ids = arrow::array::Int64Array::from(vec![from]);
        crate::support::columns(vec![("id", Arc::new(ids) as _)])
    };
    let mut writer = Writer::open(&delta, &ids(0), Uuid::new_v4(), None).await.unwrap();
    let ops = [Op::Head, Op::Get, Op::List, Op::Commit];
    for id in 1..=60 {
        let _ = ops.map(|op| store.count(op));
        writer.write(id, &ids(1)).await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(ops.map(|op| store.count(op)), [1, 0, 0, 1], "commit {id}");
    }
    writer.close().await.unwrap();
    let store = Simulated::default();
    commits(&self::delta(&store, json!({})), 15).await;
    // Behind a checkpoint: the pointer, one listing, the checkpoint's end and its columns, and five versions.
    let fresh = self::delta(&store, json!({}));
    let _ = ops.map(|op| store.count(op));
    fresh.check().await.unwrap();
    let [heads, gets, lists, _] = ops.map(|op| store.count(op));
    assert!(
        heads == 0 && lists == 1 && gets <= 1 + 5 + 20,
        "{heads} {gets} {lists}"
    );
    let mut writer = Writer::open(&fresh, &rows(0, 1), Uuid::new_v4(), None)
        .await
        .unwrap();
    assert_eq!(
        ops.map(|op| store.count(op)),
        [0, 1, 0, 0],
        "is there a newer version?"
    );
    writer.write(1, &rows(0, 1)).await.unwrap();
    assert_eq!(writer.flush().await.unwrap(), Some((1, Position::Version(16))));
    assert_eq!(ops.map(|op| store.count(op)), [1, 0, 0, 1]);
}

/// R-17: what a client landed is found behind a checkpoint, too, by a process that never heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_landed_is_found_behind_a_checkpoint() {
    let store = Simulated::default();
    let producer = commits(&delta(&store, json!({})), 7).await;
    commits(&delta(&store, json!({})), 30).await;
    let again = delta(&store, json!({}));
    let resumed = Writer::open(&again, &rows(0, 1), producer, Some(5))
        .await
        .unwrap();
    assert_eq!(resumed.landed.map(|(id, _)| id), Some(7));
    let nothing = Writer::open(&again, &rows(0, 1), Uuid::new_v4(), Some(5))
        .await
        .unwrap();
    assert_eq!(nothing.landed, None);
}

/// A damaged log is named by its file, and nothing is written over it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_in_a_log_is_named() {
    let store = Simulated::default();
    commits(&delta(&store, json!({})), 13).await;
    let checkpoint = log_file("00000000000000000010.checkpoint.parquet");
    store.held.head(&checkpoint).await.unwrap();
    // A checkpoint of other bytes, and one that was torn.
    let good = store.held.get(&checkpoint).await.unwrap().bytes().await.unwrap();
    for bad in [
        good.slice(..good.len() / 2),
        vec![7; good.len()].into(),
        Default::default(),
    ] {
        store.held.put(&checkpoint, bad.into()).await.unwrap();
        let refused = error(delta(&store, json!({})).check().await);
        assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
        assert!(
            refused
                .message()
                .contains("00000000000000000010.checkpoint.parquet"),
            "{refused}"
        );
    }
    store.held.put(&checkpoint, good.into()).await.unwrap();
    delta(&store, json!({})).check().await.unwrap();
    // A torn commit.
    let newest = log_file("00000000000000000013.json");
    let whole = store.held.get(&newest).await.unwrap().bytes().await.unwrap();
    store
        .held
        .put(&newest, whole.slice(..whole.len() - 3).into())
        .await
        .unwrap();
    let refused = error(delta(&store, json!({})).check().await);
    assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
    assert!(
        refused.message().contains("00000000000000000013.json"),
        "{refused}"
    );
    store.held.put(&newest, whole.into()).await.unwrap();
    // A version that is missing.
    store
        .held
        .delete(&log_file("00000000000000000012.json"))
        .await
        .unwrap();
    let refused = error(delta(&store, json!({})).check().await);
    assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
    assert!(
        refused.message().contains("00000000000000000012.json is missing"),
        "{refused}"
    );
}

/// `_last_checkpoint` is a hint: pointing nowhere, or damaged, it costs a listing and no table.
#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_that_points_nowhere_is_survived() {
    let store = Simulated::default();
    commits(&delta(&store, json!({})), 12).await;
    let pointer = log_file("_last_checkpoint");
    for text in [
        r#"{"version":99,"size":1}"#,
        r#"{"version":11,"size":1}"#,
        "not json",
        "",
    ] {
        store.held.put(&pointer, text.into()).await.unwrap();
        commits(&delta(&store, json!({})), 1).await;
    }
    // Where there is nothing else, a table was there and is gone: none is made in its place.
    let log: Vec<_> = store
        .held
        .list(Some(&Path::from("table/_delta_log")))
        .try_collect()
        .await
        .unwrap();
    for file in log {
        store.held.delete(&file.location).await.unwrap();
    }
    store
        .held
        .put(&pointer, r#"{"version":10,"size":1}"#.into())
        .await
        .unwrap();
    let refused = error(delta(&store, json!({})).check().await);
    assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
    assert!(refused.message().contains("_last_checkpoint"), "{refused}");
}

/// Whatever was not read whole is not corrupt, and the next try gets through: at connect, at open, at commit.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_read_whole_is_not_corrupt() {
    let store = Simulated::default();
    commits(&delta(&store, json!({})), 14).await;
    let faults = [
        Fault::Reset,
        Fault::Short,
        Fault::Request,
        Fault::Refused,
        Fault::Busy,
    ];
    for fault in faults {
        for (op, skipped) in [
            (Op::List, 0),
            (Op::Get, 0),
            (Op::Get, 1),
            (Op::Get, 2),
            (Op::Get, 6),
            (Op::Get, 7),
        ] {
            let delta = delta(&store, json!({}));
            store.faults(op, std::iter::repeat_n(Fault::None, skipped).chain([fault]));
            match delta.check().await {
                // Half a pointer says nothing, and is not needed.
                Ok(()) => assert!(
                    (op, skipped, fault) == (Op::Get, 0, Fault::Short),
                    "{op:?} {skipped} {fault:?}"
                ),
                Err(refused) => {
                    assert_ne!(
                        refused.code(),
                        Code::TableCorrupt,
                        "{op:?} {skipped} {fault:?}: {refused}"
                    );
                    assert_ne!(
                        refused.code(),
                        Code::Internal,
                        "{op:?} {skipped} {fault:?}: {refused}"
                    );
                }
            }
            store.heal();
            delta.check().await.unwrap();
        }
    }
    for fault in faults {
        let delta = delta(&store, json!({}));
        let mut one = Writer::open(&delta, &rows(0, 1), Uuid::new_v4(), None)
            .await
            .unwrap();
        one.write(1, &rows(0, 1)).await.unwrap();
        commits(&self::delta(&store, json!({})), 1).await;
        // Another writer was first, and its version cannot be read.
        store.faults(Op::Get, [fault]);
        let refused = error(one.flush().await);
        assert_ne!(refused.code(), Code::TableCorrupt, "{fault:?}: {refused}");
        assert!(refused.is_ambiguous(), "{fault:?}: {refused}");
        store.heal();
    }
}

/// Checkpoints in every shape of the protocol are read: cut into parts, named by a UUID, as JSON with sidecars.
#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_every_shape_are_read() {
    let store = Simulated::default();
    let producer = commits(&delta(&store, json!({})), 11).await;
    let single = log_file("00000000000000000010.checkpoint.parquet");
    let bytes = store.held.get(&single).await.unwrap().bytes().await.unwrap();
    let pointer = log_file("_last_checkpoint");
    store.held.delete(&single).await.unwrap();
    store
        .held
        .delete(&log_file("00000000000000000003.json"))
        .await
        .unwrap();
    let schema = json!({"type": "struct", "fields": [
        {"name": "id", "type": "long", "nullable": true, "metadata": {}},
        {"name": "name", "type": "string", "nullable": true, "metadata": {}},
    ]});
    let manifest = [
        json!({"checkpointMetadata": {"version": 10}}),
        json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["v2Checkpoint"], "writerFeatures": ["v2Checkpoint", "appendOnly"]}}),
        json!({"metaData": {"id": "a", "format": {"provider": "parquet", "options": {}},
            "schemaString": schema.to_string(), "partitionColumns": [], "configuration": {}}}),
        json!({"sidecar": {"path": "x.parquet", "sizeInBytes": 1, "modificationTime": 1}}),
        json!({"txn": {"appId": format!("arrow-ingest-{producer}"), "version": 10}}),
    ];
    let manifest = manifest.map(|line| line.to_string()).join("\n").into_bytes();
    let part = |name| (name, bytes.to_vec());
    let shapes: [&[(&str, Vec<u8>)]; 5] = [
        // One that was cut in three, and another of two parts that is not whole.
        &[
            part("00000000000000000010.checkpoint.0000000001.0000000003.parquet"),
            part("00000000000000000010.checkpoint.0000000002.0000000003.parquet"),
            part("00000000000000000010.checkpoint.0000000003.0000000003.parquet"),
            part("00000000000000000010.checkpoint.0000000001.0000000002.parquet"),
        ],
        &[
            (
                "00000000000000000010.checkpoint.0000000001.0000000002.parquet",
                bytes.to_vec(),
            ),
            (
                "00000000000000000010.checkpoint.0000000002.0000000002.parquet",
                bytes.to_vec(),
            ),
        ],
        &[(
            "00000000000000000010.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet",
            bytes.to_vec(),
        )],
        &[(
            "00000000000000000010.checkpoint.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json",
            manifest,
        )],
        &[("00000000000000000010.checkpoint.parquet", bytes.to_vec())],
    ];
    for shape in shapes {
        for (name, bytes) in shape {
            store
                .held
                .put(&log_file(name), bytes.clone().into())
                .await
                .unwrap();
        }
        let found = delta(&store, json!({}));
        let resumed = Writer::open(&found, &rows(0, 1), producer, Some(1))
            .await
            .unwrap();
        assert_eq!(resumed.landed.map(|(id, _)| id), Some(11), "{}", shape[0].0);
        // The pointer says nothing of the parts; half of them are no checkpoint.
        for (name, _) in shape.iter().take(1) {
            store.held.delete(&log_file(name)).await.unwrap();
        }
        let refused = error(delta(&store, json!({})).check().await);
        assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
        for (name, _) in shape.iter().skip(1) {
            store.held.delete(&log_file(name)).await.unwrap();
        }
    }
    store.held.head(&pointer).await.unwrap();
}

/// Another writer's files that are no versions are passed by, and a version may be empty.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_versions_are_passed_by() {
    let table = Table::new();
    table.write_log(
        0,
        &foreign(
            json!({"minReaderVersion": 1, "minWriterVersion": 2}),
            json!({}),
            json!({}),
        ),
    );
    let log = table.path().join("_delta_log");
    for name in [
        "00000000000000000000.crc",
        "00000000000000000001.json.tmp",
        "00000000000000000000.00000000000000000000.compacted.json",
        "00000000000000000005.checkpoint.0000000001.000000000x.parquet",
        "5.json",
        "00000000000000000x05.json",
    ] {
        std::fs::write(log.join(name), "nobody reads this").unwrap();
    }
    std::fs::create_dir_all(log.join("_staged_commits")).unwrap();
    std::fs::write(log.join("_staged_commits/00000000000000000009.json"), "nor this").unwrap();
    std::fs::write(table.commit_path(1), "\n\n").unwrap();
    let ids = arrow::array::Int64Array::from(vec![1]);
    let batch = crate::support::columns(vec![("id", Arc::new(ids) as _)]);
    let said: Result<_> = table.append(&[batch], json!({})).await;
    said.unwrap();
    assert_eq!(table.latest(), 2);
}

/// A version of many files is passed over, and still has to be whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_many_files_is_checked_and_passed_over() {
    let table = Table::new();
    let legacy = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    table.write_log(0, &foreign(legacy, json!({}), json!({})));
    let add = |n: u64| {
        let add = json!({"path": format!("{n}.parquet"), "partitionValues": {}, "size": 1,
            "modificationTime": 1, "dataChange": true});
        json!({"add": add})
    };
    let adds: Vec<Value> = (0..12_000).map(add).collect();
    table.write_log(1, &adds);
    assert!(std::fs::metadata(table.commit_path(1)).unwrap().len() > 1 << 20);
    table.connect(json!({})).await.unwrap();
    let mut torn = std::fs::read(table.commit_path(1)).unwrap();
    torn.truncate((1 << 20) + 5);
    std::fs::write(table.commit_path(1), torn).unwrap();
    let refused = error(table.connect(json!({})).await);
    assert_eq!(refused.code(), Code::TableCorrupt, "{refused}");
    assert!(
        refused.message().contains("00000000000000000001.json, line"),
        "{refused}"
    );
}

/// A client that was idle while others wrote a lot goes on behind them; one that lost its table says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_fell_behind_goes_on_from_a_checkpoint() {
    let store = Simulated::default();
    let idle = delta(&store, json!({}));
    let mut writer = Writer::open(&idle, &rows(0, 1), Uuid::new_v4(), None)
        .await
        .unwrap();
    commits(&delta(&store, json!({})), 75).await;
    // A fresh client owes nobody a rest: the checkpoint of version 80.
    commits(&delta(&store, json!({})), 5).await;
    writer.write(1, &rows(0, 1)).await.unwrap();
    let log = Path::from("table/_delta_log");
    // And what it knew was cleaned up meanwhile.
    for version in 0..80 {
        store
            .held
            .delete(&log_file(&format!("{version:020}.json")))
            .await
            .unwrap();
    }
    assert_eq!(writer.flush().await.unwrap(), Some((1, Position::Version(81))));
    let files: Vec<_> = store.held.list(Some(&log)).try_collect().await.unwrap();
    for file in files {
        store.held.delete(&file.location).await.unwrap();
    }
    writer.write(2, &rows(0, 1)).await.unwrap();
    // The pointer went, too: nothing says that there was a table, and nothing is written where it was.
    let gone = error(writer.flush().await);
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    assert_eq!(
        store
            .held
            .list(Some(&log))
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .len(),
        0
    );
}
