//! R-19: appends beside other writers of the same table, which are deltalake's own.
//!
//! They need the Python of `scripts/ensure.mjs python`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use arrow_ingest::error::Code;
use serde_json::json;

use crate::skipped::skipped;
use crate::support::{Table, error, rows};

/// Python with deltalake, running a program that is given the table's path. None where there is no Python.
fn deltalake(program: &str, table: &Table) -> Option<Child> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/python");
    if !python.exists() {
        skipped("delta/races.rs", "no Python in .tools/venv");
        return None;
    }
    let prelude = "import os, sys, time, pyarrow as pa, deltalake as dl\npath = sys.argv[1]\n";
    // Without taking the interpreter down, in which threads of Arrow's now and then abort the process.
    let end = "\nos._exit(0)\n";
    Command::new(python)
        .arg("-c")
        .arg(format!("{prelude}{program}{end}"))
        .arg(table.path())
        .stdout(Stdio::piped())
        .spawn()
        .map(Some)
        .unwrap()
}

fn done(child: Child) {
    assert!(
        child.wait_with_output().unwrap().status.success(),
        "the other writer failed"
    );
}

/// Appends, deletes, compactions and properties of another writer are no conflict: every row arrives once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_beside_all_that_deltalake_does_arrive_once() {
    let table = Table::new();
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    // Rows below zero are the other writer's. What loses against ours is its to try again.
    let program = r#"
def insist(what):
    for _ in range(100):
        try:
            return what(dl.DeltaTable(path))
        except dl.exceptions.DeltaError:
            time.sleep(0.01)
    raise SystemExit("never got through")
for n in range(6):
    batch = pa.table({"id": pa.array([-10 * n - 1, -10 * n - 2], pa.int64()), "name": ["other", "other"]})
    insist(lambda _: dl.write_deltalake(path, batch, mode="append"))
    insist(lambda table: table.delete(f"id = {-10 * n - 1}"))
    insist(lambda table: table.alter.set_table_properties({"delta.logRetentionDuration": f"interval {n + 30} days"}))
    insist(lambda table: table.optimize.compact())
"#;
    let Some(mut other) = deltalake(program, &table) else {
        return;
    };
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    let mut id = 10;
    // An end to ours: each version that comes makes the other writer read more, and on a slow machine it would
    // never get through.
    while other.try_wait().unwrap().is_none() || id < 30 {
        if id < 70 {
            writer.write(id, &rows(id as i64, id as i64 + 1)).await.unwrap();
            writer.flush().await.unwrap();
            id += 1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    writer.close().await.unwrap();
    done(other);
    // As a reader finds them: only the files that are there at the end.
    let check = format!(
        "ids = sorted(dl.DeltaTable(path).to_pyarrow_table().column('id').to_pylist())\n\
         assert ids == [-52, -42, -32, -22, -12, -2] + list(range({id})), ids"
    );
    done(deltalake(&check, &table).unwrap());
}

/// Another writer's column is no obstacle to files without it; a feature that we cannot honour is refused by name,
/// before anything is committed.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_schema_and_protocol_are_looked_at_before_a_commit() {
    let table = Table::new();
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    writer.write(1, &rows(10, 20)).await.unwrap();
    let column =
        "dl.DeltaTable(path).alter.add_columns(dl.schema.Field('extra', dl.schema.PrimitiveType('long')))";
    let Some(other) = deltalake(column, &table) else {
        return;
    };
    done(other);
    writer.flush().await.unwrap().unwrap();
    let feed = "dl.DeltaTable(path).alter.set_table_properties({'delta.enableChangeDataFeed': 'true'})";
    done(deltalake(feed, &table).unwrap());
    let before = table.latest();
    writer.write(2, &rows(20, 30)).await.unwrap();
    let refused = error(writer.flush().await);
    assert_eq!(refused.code(), Code::Unsupported, "{refused}");
    assert!(refused.message().contains("changeDataFeed"), "{refused}");
    assert!(!refused.is_ambiguous());
    assert_eq!(table.latest(), before);
    let count = "assert len(dl.DeltaTable(path).to_pyarrow_table()) == 20";
    done(deltalake(count, &table).unwrap());
}

/// Checkpoints of ours are whole to another reader, which starts from them; transactions of clients that are long
/// gone are left out.
#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_read_by_deltalake_and_forget_old_clients() {
    let table = Table::new();
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    // A client that was here a month ago.
    let long_ago = json!({"txn": {"appId": "arrow-ingest-gone", "version": 1, "lastUpdated": 1_000_000}});
    table.write_log(
        2,
        &[
            long_ago,
            json!({"commitInfo": {"timestamp": 1, "operation": "WRITE"}}),
        ],
    );
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    for id in 1..12 {
        writer
            .write(id, &rows(id as i64 * 10, id as i64 * 10 + 10))
            .await
            .unwrap();
        writer.flush().await.unwrap();
    }
    writer.close().await.unwrap();
    let checkpoint = table
        .path()
        .join("_delta_log/00000000000000000010.checkpoint.parquet");
    assert!(checkpoint.exists());
    for version in 0..10 {
        std::fs::remove_file(table.commit_path(version)).unwrap();
    }
    let check = r#"
table = dl.DeltaTable(path)
assert table.version() == 13, table.version()
assert len(table.to_pyarrow_table()) == 120
assert table.metadata().configuration["delta.setTransactionRetentionDuration"] == "interval 7 days"
import pyarrow.parquet as pq
rows = pq.read_table(path + "/_delta_log/00000000000000000010.checkpoint.parquet").column("txn").to_pylist()
apps = [row["appId"] for row in rows if row]
assert len(apps) == 2 and "arrow-ingest-gone" not in apps, apps
"#;
    let Some(other) = deltalake(check, &table) else {
        return;
    };
    done(other);
    // Ours, too.
    table.append(&[rows(120, 130)], json!({})).await.unwrap();
}
