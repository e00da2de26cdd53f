//! Streams batches to a Flight server through the transmitter, from memory that is handed over as JavaScript's
//! is, and prints what that took: `flight <target> <rows per batch> <batches> <options as JSON> [session|tonic]`.
//! With `session` it leaves the transmitter out and writes what the batcher would make, to tell their costs apart.
//! With `tonic` it leaves all of this crate out: tonic with the encoder of arrow-flight sends one batch after the
//! other, each when the one before was answered, and what is printed are the latencies.
//!
//! A process of its own per run, so that its CPU time is the client's and nobody else's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array as _, RecordBatch};
use arrow_flight::FlightDescriptor;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_ingest::config::Config;
use arrow_ingest::counters::Counters;
use arrow_ingest::destination::{Acknowledgements, Opening, Write};
use arrow_ingest::handoff::{ColumnBuffers, Foreign, HandoffBatch, Node, Pool};
use arrow_ingest::outcome::Status;
use arrow_ingest::transmitter::{Admit, Delivery, Event, Reply, Transmitter};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Endpoint;

#[path = "shared.rs"]
mod shared;
use self::shared::{batch, cpu};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("target, rows, batches, options");
    let (target, rows, batches): (String, usize, u64) = (
        next(),
        next().parse().expect("rows"),
        next().parse().expect("batches"),
    );
    let options = serde_json::from_str(&next()).expect("options are JSON");
    let config = Config::from_json(&options).expect("options are valid");
    // As the addon does.
    arrow_ingest::compute::dedicate_threads();
    let way = std::env::args().nth(5).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    // As in flight.mjs: more than fits into the caches, for large batches.
    let ring: Vec<RecordBatch> = (0..if rows > 10_000 { 8 } else { 64 })
        .map(|_| batch(rows))
        .collect();
    let line = match way.as_str() {
        "" => runtime.block_on(run(&target, &config, &ring, batches)),
        "session" => runtime.block_on(write(&target, &config, &ring, batches)),
        "tonic" => runtime.block_on(latency(&target, &ring[0], batches)),
        other => panic!("there is no way {other}"),
    };
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).expect("stdout");
}

async fn run(target: &str, config: &Config, ring: &[RecordBatch], batches: u64) -> String {
    let destination = arrow_ingest::destination::connect(target, config)
        .await
        .expect("a server");
    let (told, mut heard) = mpsc::unbounded_channel();
    let observer = Arc::new(move |event: Event| {
        let _ = told.send(event);
    });
    let counters: Arc<Counters> = Arc::default();
    let transmitter = Transmitter::start(destination, config, Pool::new(64 << 20), counters, observer, None);
    let bytes = handoff_batch(&ring[0]).bytes();
    let (start, cpu) = (Instant::now(), cpu());
    let mut open = batches;
    let settle = |event: Event, granted: &mut u64, open: &mut u64| match event {
        Event::Settled(outcome) => {
            assert_eq!(outcome.status, Status::Acknowledged, "{:?}", outcome.error);
            *open -= 1;
        }
        Event::Granted(ticket) => *granted = ticket,
        Event::Log(log) => eprintln!("{} {}", log.message, log.fields),
        _ => {}
    };
    let mut granted = 0;
    for sequence in 1..=batches {
        if let Admit::Queued(ticket) = transmitter.request(bytes).expect("open") {
            while granted != ticket {
                let event = heard.recv().await.expect("a transmitter");
                settle(event, &mut granted, &mut open);
            }
            transmitter.redeem(ticket, bytes).expect("granted");
        }
        transmitter.deliver(Delivery {
            sequence,
            handoff_batches: vec![handoff_batch(&ring[sequence as usize % ring.len()])],
            bytes,
            charge: bytes,
            admitted: Instant::now(),
            handoff: Duration::ZERO,
            buffers_copied_for_pin_limit: 0,
            payload_digest: None,
        });
        if sequence % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (answer, flushed) = oneshot::channel();
    transmitter.flush(Reply::new(move |result| {
        let _ = answer.send(result);
    }));
    flushed.await.expect("an answer").expect("flushed");
    while open > 0 {
        let event = heard.recv().await.expect("a transmitter");
        settle(event, &mut granted, &mut open);
    }
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), shared::cpu() - cpu);
    let total = bytes as u64 * batches;
    format!("{{\"bytes\":{total},\"batches\":{batches},\"seconds\":{seconds},\"cpu\":{cpu}}}\n")
}

async fn write(target: &str, config: &Config, ring: &[RecordBatch], batches: u64) -> String {
    let flight = arrow_ingest::destination::connect(target, config)
        .await
        .expect("a server");
    let (acknowledgements, _heard) = Acknowledgements::channel();
    let opening = Opening {
        epochs: None,
        schema: ring[0].schema(),
        producer: uuid::Uuid::new_v4(),
        resume_from: None,
        acknowledgements,
    };
    let mut session = flight.open(opening).await.expect("a session").session;
    let (start, cpu) = (Instant::now(), cpu());
    let (bytes, rows) = (handoff_batch(&ring[0]).bytes(), ring[0].num_rows());
    let together = (config.batching.max_rows / rows).max(1) as u64;
    let (mut left, mut turns) = (batches, ring.iter().cycle());
    for id in 1.. {
        let count = together.min(left);
        left -= count;
        let write = Write {
            positions: Vec::new(),
            id,
            batches: turns.by_ref().take(count as usize).cloned().collect(),
            rows: rows * count as usize,
            bytes: bytes * count as usize,
        };
        session.write(Arc::new(write)).await.expect("written");
        if session.flush_due().is_some_and(|due| due <= Instant::now()) {
            session.flush().await.expect("flushed");
        }
        if left == 0 {
            break;
        }
    }
    session.flush().await.expect("flushed");
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), shared::cpu() - cpu);
    let total = bytes as u64 * batches;
    format!("{{\"bytes\":{total},\"batches\":{batches},\"seconds\":{seconds},\"cpu\":{cpu}}}\n")
}

/// Microseconds of each batch, from the encoder's input to the answer.
async fn latency(target: &str, batch: &RecordBatch, batches: u64) -> String {
    let endpoint = Endpoint::from_shared(target.replacen("grpc://", "http://", 1)).expect("a target");
    let channel = endpoint.connect().await.expect("a server");
    let mut client = FlightServiceClient::new(channel);
    let (input, output) = mpsc::unbounded_channel();
    let output = futures::stream::unfold(
        output,
        async |mut output: mpsc::UnboundedReceiver<RecordBatch>| {
            output.recv().await.map(|batch| (Ok(batch), output))
        },
    );
    let descriptor = FlightDescriptor::new_path(vec!["a".into(), "b".into()]);
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(batch.schema())
        .with_flight_descriptor(Some(descriptor))
        .build(output)
        .map(|message| message.expect("encoded"));
    input.send(batch.clone()).expect("a stream");
    let mut answers = client.do_put(messages).await.expect("a stream").into_inner();
    answers.try_next().await.expect("an answer");
    let mut took = Vec::new();
    for _ in 0..batches {
        let start = Instant::now();
        input.send(batch.clone()).expect("a stream");
        answers
            .try_next()
            .await
            .expect("an answer")
            .expect("one per part");
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    format!("{{\"us\":{}}}\n", serde_json::json!(took))
}

/// The batch as it comes over the boundary.
fn handoff_batch(batch: &RecordBatch) -> HandoffBatch {
    let (mut nodes, mut buffers) = (Vec::new(), Vec::new());
    for column in batch.columns() {
        nodes.push(Node {
            length: column.len(),
            null_count: 0,
            offset: 0,
            variadic: 0,
        });
        buffers.push(None);
        let data = column.to_data();
        buffers.extend(
            data.buffers()
                .iter()
                .map(|buffer| Some(Foreign::from_buffer(buffer.clone()))),
        );
    }
    HandoffBatch::Columns(ColumnBuffers {
        schema: batch.schema(),
        rows: batch.num_rows(),
        nodes,
        buffers,
    })
}
