//! The other side of zerobus.mjs: the official client, driven directly as its documentation shows. A job a line in,
//! what it took a line out. Its defaults but for the compression, which is the job's.
//!
//! A process of its own, so that its CPU time is the client's and nobody else's.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use arrow_ipc::CompressionType;
use databricks_zerobus_ingest_sdk::{TlsConfig, ZerobusArrowStream, ZerobusResult, ZerobusSdk};
use serde::Deserialize;
use tonic::transport::Endpoint;

#[path = "shared.rs"]
mod shared;
use self::shared::{batch, cpu};

#[derive(Deserialize)]
struct Job {
    job: String,
    endpoint: String,
    table: String,
    compression: String,
    rows: usize,
    count: usize,
    ring: usize,
    /// Batches come with Utf8, and whoever uses this client casts them before it takes them.
    #[serde(default)]
    cast: bool,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for line in std::io::stdin().lock().lines() {
        let job: Job = serde_json::from_str(&line.expect("stdin")).expect("a job");
        let answer = runtime.block_on(async {
            match job.job.as_str() {
                "throughput" => throughput(&job).await,
                "latency" => latency(&job).await,
                other => panic!("there is no job {other}"),
            }
        });
        writeln!(std::io::stdout(), "{answer}").expect("stdout");
    }
}

/// Up to the end of `flush`: everything is acknowledged then.
async fn throughput(job: &Job) -> serde_json::Value {
    let ring = ring(job);
    let mut stream = open(job).await;
    let first = stream.ingest_batch(fit(&ring[0])).await.expect("taken");
    stream.wait_for_offset(first).await.expect("acknowledged");
    let (start, before) = (Instant::now(), cpu());
    for index in 0..job.count {
        let batch = &ring[index % ring.len()];
        let batch = if job.cast { fit(batch) } else { batch.clone() };
        stream.ingest_batch(batch).await.expect("taken");
    }
    stream.flush().await.expect("acknowledged");
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu() - before);
    stream.close().await.expect("closed");
    serde_json::json!({ "seconds": seconds, "cpu": cpu })
}

/// One after the other, each alone, from `ingest_batch` to its acknowledgement.
async fn latency(job: &Job) -> serde_json::Value {
    let ring = ring(job);
    let mut stream = open(job).await;
    let mut us = Vec::new();
    for index in 0..job.count {
        let start = Instant::now();
        let batch = ring[index % ring.len()].clone();
        let offset = stream.ingest_batch(batch).await.expect("taken");
        stream.wait_for_offset(offset).await.expect("acknowledged");
        us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    stream.close().await.expect("closed");
    serde_json::json!({ "us": us })
}

async fn open(job: &Job) -> ZerobusArrowStream {
    let sdk = ZerobusSdk::builder()
        .endpoint(&job.endpoint)
        .unity_catalog_url(&job.endpoint)
        .tls_config(Arc::new(PlainText))
        // A proxy in the environment is for others than this machine.
        .connector_factory(Arc::new(|_| None))
        .build()
        .expect("an endpoint");
    sdk.stream_builder()
        .table(&job.table)
        .oauth("emulator", "emulator")
        .arrow(fit(&batch(1)).schema())
        .ipc_compression(match job.compression.as_str() {
            "zstd" => Some(CompressionType::ZSTD),
            _ => None,
        })
        .build_arrow()
        .await
        .expect("a stream")
}

struct PlainText;

impl TlsConfig for PlainText {
    fn configure_endpoint(&self, endpoint: Endpoint) -> ZerobusResult<Endpoint> {
        Ok(endpoint)
    }
}

/// Batches of the same rows, each over memory of its own.
fn ring(job: &Job) -> Vec<RecordBatch> {
    let batches = (0..job.ring).map(|_| batch(job.rows));
    match job.cast {
        true => batches.collect(),
        false => fit_all(batches),
    }
}

/// All of one schema object, as a producer has them.
fn fit_all(batches: impl Iterator<Item = RecordBatch>) -> Vec<RecordBatch> {
    let fitting: Vec<RecordBatch> = batches.map(|batch| fit(&batch)).collect();
    let schema = fitting[0].schema();
    fitting
        .into_iter()
        .map(|batch| RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).expect("the same"))
        .collect()
}

/// In the service's types: text is LargeUtf8.
fn fit(batch: &RecordBatch) -> RecordBatch {
    let given = batch.schema();
    let fields: Vec<_> = given
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::LargeUtf8)),
            _ => Arc::clone(field),
        })
        .collect();
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .zip(&fields)
        .map(|(column, field)| cast(column, field.data_type()).expect("a wider type"))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("five columns")
}
