//! A server that nobody here wrote: every golden file through `DoPut` and back, equal.
//!
//! Without the Python of `scripts/ensure.mjs python` these tests are skipped, and `npm test` says so at its end; CI has it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Ticket};
use arrow_ingest::destination::flight::Flight;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use uuid::Uuid;

use crate::golden::{golden_root, no_golden_files};
use crate::skipped::skipped;
use crate::support::{Writer, config, numbers};

struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    fn start(script: &str, arguments: &[&str]) -> Option<Peer> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join(".tools/venv/bin/python");
        if !python.exists() {
            skipped(script, "no Python in .tools/venv");
            return None;
        }
        let mut child = Command::new(python)
            .arg(root.join(script))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().parse().expect("the server prints its port");
        Some(Peer { child, port })
    }

    fn target(&self, path: &str) -> String {
        format!("grpc://127.0.0.1:{}/{path}", self.port)
    }

    async fn client(&self) -> FlightServiceClient<tonic::transport::Channel> {
        let address = format!("http://127.0.0.1:{}", self.port);
        let channel = tonic::transport::Endpoint::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX)
    }

    async fn get(&self, name: &str) -> Vec<RecordBatch> {
        let ticket = Ticket {
            ticket: name.to_string().into(),
        };
        let data = self.client().await.do_get(ticket).await.unwrap().into_inner();
        let data = data.map_err(|status| arrow_flight::error::FlightError::Tonic(Box::new(status)));
        FlightRecordBatchStream::new_from_flight_data(data)
            .try_collect()
            .await
            .unwrap()
    }

    async fn ask(&self, action: &str, body: String) -> String {
        let action = Action {
            r#type: action.into(),
            body: body.into(),
        };
        let mut answers = self.client().await.do_action(action).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        String::from_utf8(answer.body.to_vec()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn put(target: &str, options: Value, schema: SchemaRef, batches: &[RecordBatch]) {
    let flight = Flight::connect(target, &config(options)).await.unwrap();
    let mut writer = Writer::open(&flight, schema).await.unwrap();
    for (id, batch) in (1..).zip(batches) {
        writer.write(id, vec![batch.clone()]).await.unwrap();
    }
    writer.session.flush().await.unwrap();
    assert_eq!(
        writer.said().last().unwrap(),
        &format!("through {}", batches.len())
    );
}

/// Every golden stream that this build of Arrow can read and that has rows.
fn golden() -> Vec<(PathBuf, SchemaRef, Vec<RecordBatch>)> {
    let root = golden_root();
    let mut found = Vec::new();
    for folder in [
        "0.14.1",
        "0.17.1",
        "1.0.0-littleendian",
        "2.0.0-compression",
        "4.0.0-shareddict",
    ] {
        let Ok(files) = std::fs::read_dir(root.join(folder)) else {
            continue;
        };
        for file in files.map(|file| file.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "stream") {
                continue;
            }
            let Ok(reader) = StreamReader::try_new(std::fs::File::open(&file).unwrap(), None) else {
                continue;
            };
            let schema = reader.schema();
            let Ok(batches) = reader.collect::<Result<Vec<_>, _>>() else {
                continue;
            };
            let batches: Vec<_> = batches.into_iter().filter(|batch| batch.num_rows() > 0).collect();
            if !batches.is_empty() {
                found.push((file, schema, batches));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_golden_file_goes_through_and_comes_back_equal() {
    let Some(peer) = Peer::start("tests/interop/flight_server.py", &[]) else {
        return;
    };
    let golden = golden();
    if golden.is_empty() {
        skipped("golden files through a pyarrow server", &no_golden_files());
        return;
    }
    let mut different = Vec::new();
    for (index, (file, schema, batches)) in golden.iter().enumerate() {
        for (compression, size) in [
            ("none", "4MiB"),
            ("lz4", "4MiB"),
            ("zstd", "4MiB"),
            ("none", "16KiB"),
        ] {
            let name = format!("golden/{index}/{compression}/{size}");
            let options = json!({
                "flight": {"dictionaries": "keep", "compression": compression, "maxMessageSize": size},
            });
            put(&peer.target(&name), options, schema.clone(), batches).await;
            let said = peer.ask("compare", format!("{name}\n{}", file.display())).await;
            if said != "equal" {
                different.push(format!("{} {compression} {size}: {said}", file.display()));
            }
            let name = format!("{name}/values");
            put(
                &peer.target(&name),
                json!({"flight": {"maxMessageSize": size}}),
                schema.clone(),
                batches,
            )
            .await;
            let (back, sent) = (peer.get(&name).await, text(batches));
            if text(&back) != sent {
                different.push(format!("{} as values", file.display()));
            }
        }
    }
    assert!(golden.len() > 20, "only {} golden files", golden.len());
    assert_eq!(different, Vec::<String>::new());
}

/// Row for row, whatever the encoding of the columns.
fn text(batches: &[RecordBatch]) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("∅");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = (batch.columns().iter())
            .map(|column| arrow::util::display::ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect();
            rows.push(cells.join("|"));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_each_part_acknowledges_them() {
    let Some(peer) = Peer::start("tests/interop/flight_server.py", &["--answers", "part"]) else {
        return;
    };
    let batches = [numbers(0..10_000), numbers(10_000..10_001)];
    let options = json!({"flight": {"acknowledgement": "part", "maxMessageSize": "16KiB"}});
    put(&peer.target("t"), options, batches[0].schema(), &batches).await;
    assert_eq!(text(&peer.get("t").await).len(), 10_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_handler_keeps_no_row_twice() {
    let Some(peer) = Peer::start("examples/flight-servers/durable_put.py", &[]) else {
        return;
    };
    let options =
        config(json!({"flight": {"acknowledgement": "cumulative", "maxMessageSize": "16KiB", "streams": 2}}));
    let flight = Flight::connect(&peer.target("t"), &options).await.unwrap();
    let (producer, schema) = (Uuid::new_v4(), numbers([]).schema());
    for session in 0..3 {
        let resume = (session > 0).then_some(1);
        let mut writer = Writer::resume(&flight, schema.clone(), producer, resume)
            .await
            .unwrap();
        for id in 1..=6 + session {
            let first = (id as i64 - 1) * 4_000;
            writer
                .write(id, vec![numbers(first..first + 4_000)])
                .await
                .unwrap();
        }
        // The first session is dropped in the midst of it.
        if session > 0 {
            writer.session.flush().await.unwrap();
            assert_eq!(writer.said().last().unwrap(), &format!("through {}", 6 + session));
        }
    }
    let mut rows: Vec<i64> = text(&peer.get("t").await)
        .iter()
        .map(|row| row.parse().unwrap())
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..32_000).collect::<Vec<_>>());
}
