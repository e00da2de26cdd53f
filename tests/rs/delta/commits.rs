//! Commits: when they are acknowledged, what they carry, and what happens when they fail.

use std::time::{Duration, Instant};

use arrow_ingest::destination::Destination as _;
use arrow_ingest::error::Code;
use arrow_ingest::outcome::Position;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Table, Writer, error, files_under, rows};

/// creates the table, appends to it, and every row can be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_created_and_an_existing_one_appended_to() {
    let table = Table::new();
    table
        .append(&[rows(0, 100), rows(100, 200)], json!({}))
        .await
        .unwrap();
    table.append(&[rows(200, 300)], json!({})).await.unwrap();
    assert_eq!(table.ids(), (0..300).collect::<Vec<_>>());
    assert_eq!(table.latest(), 2);
    assert_eq!(table.by_deltalake().await.version(), Some(2));
    assert_eq!(table.protocol()["minWriterVersion"], 2);
}

/// nothing is acknowledged before its commit lies in the log; then all of it, with its version.
#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_follows_the_commit_file() {
    let table = Table::new();
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    writer.write(3, &rows(0, 10)).await.unwrap();
    writer.write(5, &rows(10, 20)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(writer.acknowledged(), None);
    assert!(!table.commit_path(1).exists());
    assert_eq!(writer.flush().await.unwrap(), Some((5, Position::Version(1))));
    assert!(table.commit_path(1).exists());
    // An empty flush commits nothing.
    assert_eq!(writer.flush().await.unwrap(), None);
    assert_eq!(table.latest(), 1);
    writer.write(6, &rows(20, 30)).await.unwrap();
    assert_eq!(writer.flush().await.unwrap(), Some((6, Position::Version(2))));
    let transactions: Vec<u64> = table
        .actions()
        .iter()
        .filter_map(|action| action["txn"]["version"].as_u64())
        .collect();
    assert_eq!(transactions, [5, 6]);
}

/// A write without a row is acknowledged and leaves no file.
#[tokio::test(flavor = "multi_thread")]
async fn zero_rows_are_acknowledged_without_a_commit() {
    let table = Table::new();
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    writer.write(0, &rows(0, 0)).await.unwrap();
    assert_eq!(writer.flush().await.unwrap(), Some((0, Position::Version(0))));
    assert_eq!(table.parquet_files(), 0);
}

/// a flush falls due by time, by half the budget, and by a full file; never without a write.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_falls_due_by_time_and_size() {
    let table = Table::new();
    let mut writer = table
        .writer(&rows(0, 1), json!({"delta": {"commitInterval": "1h"}}))
        .await
        .unwrap();
    assert_eq!(writer.session.flush_due(), None);
    writer.write(0, &rows(0, 10)).await.unwrap();
    assert!(writer.session.flush_due().unwrap() > Instant::now() + Duration::from_secs(3000));
    drop(writer);
    let options = json!({"delta": {"commitInterval": "1h"}, "inflight": {"maxBytes": 100}});
    let mut writer = table.writer(&rows(0, 1), options).await.unwrap();
    writer.write(0, &rows(0, 10)).await.unwrap();
    assert!(writer.session.flush_due().unwrap() <= Instant::now());
    drop(writer);
    let options = json!({"delta": {"commitInterval": "1h", "targetFileSize": 10}});
    let mut writer = table.writer(&rows(0, 1), options).await.unwrap();
    writer.write(0, &rows(0, 1000)).await.unwrap();
    let start = Instant::now();
    while writer.session.flush_due().unwrap() > Instant::now() {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// a session that resumes is told what landed, and where.
#[tokio::test(flavor = "multi_thread")]
async fn what_landed_is_told_on_resuming() {
    let table = Table::new();
    let delta = table.connect(json!({})).await.unwrap();
    let producer = Uuid::new_v4();
    let mut writer = Writer::open(&delta, &rows(0, 1), producer, None).await.unwrap();
    assert_eq!(writer.landed, None);
    writer.write(7, &rows(0, 10)).await.unwrap();
    writer.flush().await.unwrap();
    writer.write(8, &rows(10, 20)).await.unwrap();
    // The connection breaks here: 7 landed, 8 never did.
    drop(writer);
    table.append(&[rows(100, 101)], json!({})).await.unwrap();
    let writer = Writer::open(&delta, &rows(0, 1), producer, Some(7))
        .await
        .unwrap();
    assert_eq!(writer.landed, Some((7, Position::Version(1))));
    let writer = Writer::open(&delta, &rows(0, 1), producer, Some(8))
        .await
        .unwrap();
    assert_eq!(writer.landed, None);
    let other = Writer::open(&delta, &rows(0, 1), Uuid::new_v4(), Some(0))
        .await
        .unwrap();
    assert_eq!(other.landed, None);
}

/// two sessions of one producer (one presumed dead) never write the same rows twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_landed_elsewhere_is_not_committed_again() {
    let table = Table::new();
    let delta = table.connect(json!({})).await.unwrap();
    let producer = Uuid::new_v4();
    let mut first = Writer::open(&delta, &rows(0, 1), producer, None).await.unwrap();
    let mut second = Writer::open(&delta, &rows(0, 1), producer, None).await.unwrap();
    first.write(4, &rows(0, 10)).await.unwrap();
    second.write(4, &rows(0, 10)).await.unwrap();
    assert_eq!(first.flush().await.unwrap(), Some((4, Position::Version(1))));
    assert_eq!(second.flush().await.unwrap(), Some((4, Position::Version(1))));
    // What was on its way to the session meanwhile is taken and not written.
    second.write(4, &rows(0, 10)).await.unwrap();
    assert_eq!(second.flush().await.unwrap(), None);
    assert_eq!(table.ids(), (0..10).collect::<Vec<_>>());
    // A part of it landed: that is acknowledged and not written again, and the next session is given the rest.
    let mut third = Writer::open(&delta, &rows(0, 1), producer, None).await.unwrap();
    third.write(5, &rows(10, 20)).await.unwrap();
    second.write(5, &rows(10, 20)).await.unwrap();
    second.write(6, &rows(20, 30)).await.unwrap();
    third.flush().await.unwrap();
    let refused = error(second.flush().await);
    assert_eq!(refused.code(), Code::Conflict, "{refused}");
    assert!(refused.is_graceful() && !refused.is_ambiguous(), "{refused}");
    assert_eq!(second.acknowledged(), Some((5, Position::Version(2))));
    let resumed = Writer::open(&delta, &rows(0, 1), producer, Some(5))
        .await
        .unwrap();
    assert_eq!(resumed.landed.map(|(id, _)| id), Some(5));
    assert_eq!(table.ids(), (0..20).collect::<Vec<_>>());
}

/// several writers at one table; every row arrives once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_all_get_through() {
    let table = std::sync::Arc::new(Table::new());
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let table = std::sync::Arc::clone(&table);
            tokio::spawn(async move {
                let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
                for round in 0..5 {
                    let from = number * 1000 + round * 10;
                    loop {
                        writer.write(round as u64, &rows(from, from + 10)).await.unwrap();
                        match writer.flush().await {
                            Ok(flushed) => break assert_eq!(flushed.unwrap().0, round as u64),
                            // Now and then one loses as many rounds as it has; nothing landed, and the
                            // transmitter would come back with it.
                            Err(lost) => assert_eq!(lost.code(), Code::Conflict, "{lost}"),
                        }
                        writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
                    }
                }
                writer.close().await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let expected: Vec<i64> = (0..6).flat_map(|n| n * 1000..n * 1000 + 50).collect();
    assert_eq!(table.ids(), expected);
    assert_eq!(table.latest(), 30);
    table.by_deltalake().await;
}

/// A commit that fails is an error, acknowledges nothing and leaves no file; the table lives on.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_leaves_nothing_behind() {
    let table = Table::new();
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    writer.write(0, &rows(10, 20)).await.unwrap();
    let (log, aside) = (table.path().join("_delta_log"), table.home.path().join("aside"));
    std::fs::rename(&log, &aside).unwrap();
    std::fs::write(&log, "a file where the log should be").unwrap();
    let refused = error(writer.flush().await);
    assert_ne!(refused.code(), Code::Internal, "{refused}");
    assert_eq!(writer.acknowledged(), None);
    drop(writer);
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    assert_eq!(table.ids(), (0..10).collect::<Vec<_>>());
    table.append(&[rows(10, 20)], json!({})).await.unwrap();
    assert_eq!(table.ids(), (0..20).collect::<Vec<_>>());
}

/// a session that is dropped acknowledges nothing, and its files and threads go.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_session_leaves_no_file() {
    let table = Table::new();
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    for id in 0..10 {
        writer.write(id, &rows(0, 10_000)).await.unwrap();
    }
    drop(writer);
    let start = Instant::now();
    while table.parquet_files() > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            files_under(&table.path())
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(table.latest(), 0);
}

/// Checkpoints appear at the table's interval and a reader starts from them.
#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_made_apart_from_commits() {
    let table = Table::new();
    let delta = table.connect(json!({})).await.unwrap();
    let mut writer = Writer::open(&delta, &rows(0, 1), Uuid::new_v4(), None)
        .await
        .unwrap();
    for id in 0..11 {
        writer.write(id, &rows(id as i64, id as i64 + 1)).await.unwrap();
        writer.flush().await.unwrap();
    }
    writer.close().await.unwrap();
    let pointer = std::fs::read(table.path().join("_delta_log/_last_checkpoint")).unwrap();
    let pointer: serde_json::Value = serde_json::from_slice(&pointer).unwrap();
    // It holds the table as it was read: version 10 made it due, and 11 may have been there by then.
    let version = pointer["version"].as_u64().unwrap();
    assert!((10..=11).contains(&version), "{pointer}");
    assert!(
        table
            .path()
            .join(format!("_delta_log/{version:020}.checkpoint.parquet"))
            .exists()
    );
    assert_eq!(delta.checkpoint_failures(), 0);
    let ids = table.ids();
    std::fs::remove_file(table.commit_path(3)).unwrap();
    assert_eq!(table.by_deltalake().await.version(), Some(11));
    // A log whose beginning was cleaned up is whole as long as there is a checkpoint.
    std::fs::remove_file(table.commit_path(0)).unwrap();
    table.connect(json!({"createIfMissing": false})).await.unwrap();
    assert_eq!(ids, (0..11).collect::<Vec<_>>());
}

/// A checkpoint that cannot be written fails no write; it is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_checkpoint_fails_no_write() {
    let table = Table::new();
    let delta = table.connect(json!({})).await.unwrap();
    let mut writer = Writer::open(&delta, &rows(0, 1), Uuid::new_v4(), None)
        .await
        .unwrap();
    std::fs::create_dir_all(
        table
            .path()
            .join(format!("_delta_log/{:020}.checkpoint.parquet/x", 10)),
    )
    .unwrap();
    for id in 0..10 {
        writer.write(id, &rows(id as i64, id as i64 + 1)).await.unwrap();
        assert_eq!(writer.flush().await.unwrap().unwrap().0, id);
    }
    writer.close().await.unwrap();
    assert_eq!(delta.checkpoint_failures(), 1);
    assert_eq!(table.ids(), (0..10).collect::<Vec<_>>());
}

/// `check` says whether it would work and leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn checking_leaves_nothing_behind() {
    let table = Table::new();
    let delta = table.connect(json!({})).await.unwrap();
    delta.check().await.unwrap();
    assert!(files_under(table.home.path()).is_empty());
    assert!(!table.path().exists());
    let shown = format!("{delta:?}");
    assert!(shown.contains("table") && !shown.contains("storage"), "{shown}");
    assert_eq!(delta.capabilities().name, "delta");
}

/// Another writer changes the schema between two flushes: noticed, unless it does not matter.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_change_by_another_writer_is_noticed() {
    let table = Table::new();
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    writer.write(0, &rows(10, 20)).await.unwrap();
    let wide = crate::support::columns(vec![
        (
            "id",
            std::sync::Arc::new(arrow::array::Int64Array::from(vec![20])) as _,
        ),
        (
            "extra",
            std::sync::Arc::new(arrow::array::Float64Array::from(vec![0.5])) as _,
        ),
    ]);
    table
        .append(&[wide], json!({"delta": {"schemaEvolution": "merge"}}))
        .await
        .unwrap();
    // A new nullable column: the files that lack it are still the table's.
    assert!(writer.flush().await.unwrap().is_some());
    assert_eq!(table.ids(), (0..21).collect::<Vec<_>>());
    writer.write(1, &rows(30, 40)).await.unwrap();
    let mut metadata = table
        .actions()
        .iter()
        .rev()
        .find_map(|action| action.get("metaData").cloned())
        .unwrap();
    let retyped = metadata["schemaString"]
        .as_str()
        .unwrap()
        .replace("\"long\"", "\"string\"");
    metadata["schemaString"] = json!(retyped);
    table.write_log(table.latest() + 1, &[json!({"metaData": metadata})]);
    let refused = error(writer.flush().await);
    assert_eq!(refused.code(), Code::SchemaMismatch, "{refused}");
    assert_eq!(writer.acknowledged(), None);
    assert_eq!(table.parquet_files(), 3, "the refused file is gone");
}

/// a table that was dropped and made again has versions of the same numbers, and other columns.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_made_again_is_another_one() {
    let other = crate::support::foreign(
        json!({"minReaderVersion": 1, "minWriterVersion": 2}),
        json!({}),
        json!({}),
    );
    for reopened in [false, true] {
        let table = Table::new();
        let delta = table.connect(json!({})).await.unwrap();
        let producer = Uuid::new_v4();
        let mut writer = Writer::open(&delta, &rows(0, 1), producer, None).await.unwrap();
        writer.write(0, &rows(0, 10)).await.unwrap();
        assert!(writer.flush().await.unwrap().is_some());
        std::fs::remove_dir_all(table.path()).unwrap();
        table.write_log(0, &other);
        for version in 1..=3 {
            table.write_log(version, &[json!({"commitInfo": {"operation": "OTHER"}})]);
        }
        let refused = if reopened {
            error(Writer::open(&delta, &rows(0, 1), producer, Some(1)).await)
        } else {
            writer.write(1, &rows(10, 20)).await.unwrap();
            error(writer.flush().await)
        };
        assert_eq!(refused.code(), Code::SchemaMismatch, "{refused}");
        assert_eq!((table.latest(), table.parquet_files()), (3, 0));
        // Columns that it has are taken.
        let ids = arrow::array::Int64Array::from(vec![7]);
        let fits = crate::support::columns(vec![("id", std::sync::Arc::new(ids) as _)]);
        let mut writer = Writer::open(&delta, &fits, producer, Some(1)).await.unwrap();
        writer.write(1, &fits).await.unwrap();
        assert_eq!(writer.flush().await.unwrap(), Some((1, Position::Version(4))));
    }
}

/// a full disk is said so, and what was acknowledged before stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_not_a_loss() {
    let table = Table::new();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(table.home.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        crate::skipped::skipped(
            "a_full_disk_is_an_error_and_not_a_loss",
            "no right to mount a tmpfs",
        );
        return;
    }
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    let mut writer = table
        .writer(&rows(0, 1), json!({"delta": {"compression": "none"}}))
        .await
        .unwrap();
    // The encoder says so as soon as it knows, without being asked to flush.
    let small = json!({"delta": {"compression": "none", "targetFileSize": "100KB"}});
    let mut rolling = table.writer(&rows(0, 1), small).await.unwrap();
    let start = Instant::now();
    let early = loop {
        assert!(start.elapsed() < Duration::from_secs(30));
        if let Err(error) = rolling.write(0, &rows(0, 50_000)).await {
            break error;
        }
    };
    assert_eq!(early.code(), Code::ResourceExhausted, "{early}");
    assert_eq!(error(rolling.flush().await).code(), Code::ResourceExhausted);
    drop(rolling);
    let mut failure = None;
    for id in 0..200 {
        let from = id * 20_000;
        let result = match writer.write(id as u64, &rows(from, from + 20_000)).await {
            Ok(()) if id % 10 == 9 => writer.flush().await.map(|_| ()),
            other => other,
        };
        if let Err(error) = result {
            failure = Some(error);
            break;
        }
    }
    let refused = failure.unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    drop(writer);
    let again = table.append(&[rows(10, 20)], json!({})).await;
    let ids = table.ids();
    let read_only = std::process::Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(table.home.path())
        .status();
    let denied = table.connect(json!({})).await.map(|_| ());
    let _ = std::process::Command::new("umount")
        .arg("-l")
        .arg(table.home.path())
        .status();
    again.unwrap();
    assert!(ids.ends_with(&[]) && ids.contains(&19), "{}", ids.len());
    if read_only.is_ok_and(|status| status.success()) {
        assert_eq!(error(denied).code(), Code::PermissionDenied);
    }
}
