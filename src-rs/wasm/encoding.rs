//! Deliveries → the messages of Arrow Flight that a client would send.
//!
//! Invariants:
//! - What is handed over is imported, batched, planned and encoded by the code of the native client, in its order:
//!   `tests/wasm` compares the bytes.
//! - A delivery that is refused is refused alone, and every row of the others is in a message or has a rejection.
//! - All rows are here and somebody waits for them, so nothing lingers: a write goes when it is full, or is the last.
//!
//! It sends nothing, so nothing is acknowledged: see [`super::settling`].

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::envelope::{Answer, Request, check_deliveries};
use crate::config::{Compression, Config, FlightOptions};
use crate::destination::flight::chunks::Chunks;
use crate::destination::flight::encode::{Encoder, Message};
use crate::destination::flight::outgoing::WireFormat;
use crate::error::{Code, Error, Result};
use crate::handoff::{Foreign, HandoffBatch, IpcBytes, PayloadUse, Pool};
use crate::instant::Instant;
use crate::outcome::{Rejection, RowRange};
use crate::transmitter::batch_slice::BatchSlice;
use crate::transmitter::writes::batcher::{Batcher, WriteDraft};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Head {
    /// Bytes of the `FlightDescriptor`, encoded, which go before the deliveries.
    #[serde(default)]
    descriptor: usize,
    /// Bytes of each delivery, an Arrow IPC stream or file.
    deliveries: Vec<usize>,
    #[serde(default)]
    options: Map<String, Value>,
}

/// Options that decide about bytes; the others are of connections and disks, and would do nothing.
const OPTIONS: [(&str, &[&str]); 2] = [
    ("batching", &["maxRows", "maxBytes"]),
    ("flight", &["compression", "dictionaries", "maxMessageSize"]),
];

pub fn encode(request: Request) -> Result<Answer> {
    let (head, mut parts) = request.read::<Head>()?;
    check_deliveries(head.deliveries.len())?;
    let config = configured(head.options)?;
    let descriptor = parts.take(head.descriptor)?;
    let mut batcher = Batcher::new(config.batching, false);
    let pool = Pool::new(0);
    let now = moment();
    let mut deliveries = Vec::with_capacity(head.deliveries.len());
    for (sequence, length) in head.deliveries.into_iter().enumerate() {
        let bytes = Foreign::from_buffer(parts.take(length)?);
        let handoff_batch = HandoffBatch::Ipc(IpcBytes { bytes, rows: None });
        deliveries.push(match handoff_batch.import(PayloadUse::Computed, &pool) {
            Ok(imported) => {
                let slices: Vec<BatchSlice> = BatchSlice::of_batches(imported.batches, imported.bytes).collect();
                let rows: usize = slices.iter().map(BatchSlice::rows).sum();
                batcher.push(sequence as u64, slices, now);
                json!({ "rows": rows })
            }
            Err(error) => json!({ "error": error.to_json() }),
        });
    }
    parts.end()?;

    let mut sent = Vec::new();
    let mut failed = Vec::new();
    let mut streams: Vec<Stream> = Vec::new();
    loop {
        let current = streams.last().map(|stream| Arc::clone(&stream.schema));
        match batcher.next(now, true, current.as_ref()) {
            None => break,
            Some(Err(ranges)) => failed.push(json!({
                "ranges": ranges.ranges.iter().map(range_json).collect::<Vec<_>>(),
                "error": ranges.error.to_json(),
            })),
            Some(Ok(draft)) => {
                if current.is_none_or(|current| !Arc::ptr_eq(&current, &draft.schema)) {
                    streams.push(Stream::open(
                        &draft.schema,
                        &config.flight,
                        &descriptor,
                        &mut sent,
                    ));
                }
                if let Some(stream) = streams.last_mut() {
                    stream.write(draft, &mut sent);
                }
            }
        }
    }
    let mut answer = Answer::default();
    answer.head.insert("deliveries".into(), deliveries.into());
    answer.head.insert("failed".into(), failed.into());
    let streams: Vec<Value> = streams.into_iter().map(Stream::into_json).collect();
    answer.head.insert("streams".into(), streams.into());
    answer.parts = sent;
    Ok(answer)
}

/// # Errors
/// `CONFIG_INVALID` for what is no option here or is wrong, `UNSUPPORTED` for what this build does not have.
fn configured(options: Map<String, Value>) -> Result<Config> {
    for (name, group) in &options {
        let known = OPTIONS
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, names)| names);
        let unknown = match (known, group) {
            (None, _) => Some(name.clone()),
            // What is no group is refused below, in the words of the options.
            (Some(_), group) if !group.is_object() => None,
            (Some(names), group) => group
                .as_object()
                .into_iter()
                .flat_map(Map::keys)
                .find(|option| !names.contains(&option.as_str()))
                .map(|option| format!("{name}.{option}")),
        };
        if let Some(unknown) = unknown {
            let text = format!(
                "{unknown} is no option of encoding: there are batching.maxRows, batching.maxBytes, flight.compression, flight.dictionaries and flight.maxMessageSize"
            );
            return Err(Error::new(Code::ConfigInvalid, text).in_field(unknown));
        }
    }
    let config = Config::from_json(&Value::Object(options))?;
    if cfg!(not(feature = "zstd")) && config.flight.compression == Compression::Zstd {
        let text = "Zstandard is not in this build: use flight.compression \"lz4\" or \"none\"";
        return Err(Error::new(Code::Unsupported, text).in_field("flight.compression"));
    }
    Ok(config)
}

/// There is one moment: nothing here takes time that anybody could tell.
#[cfg(target_family = "wasm")]
pub fn moment() -> Instant {
    Instant::default()
}

#[cfg(not(target_family = "wasm"))]
pub fn moment() -> Instant {
    Instant::now()
}

/// Messages for one `DoPut`.
struct Stream {
    schema: SchemaRef,
    format: Result<WireFormat>,
    encoder: Encoder,
    /// Bytes of each message, the schema's first.
    messages: Vec<usize>,
    writes: Vec<Value>,
}

impl Stream {
    fn open(schema: &SchemaRef, options: &FlightOptions, descriptor: &[u8], sent: &mut Vec<Bytes>) -> Stream {
        let encoder = Encoder::new(options.compression, Chunks::default());
        let format = WireFormat::new(Arc::clone(schema), options, 0);
        let mut stream = Stream {
            schema: Arc::clone(schema),
            format,
            encoder,
            messages: Vec::new(),
            writes: Vec::new(),
        };
        if let Ok(format) = &stream.format {
            let first = stream.encoder.schema(format.sent_schema(), descriptor);
            stream.messages.push(first.length);
            sent.extend(first.pieces);
        }
        stream
    }

    fn write(&mut self, draft: WriteDraft, sent: &mut Vec<Bytes>) {
        let ranges: Vec<Value> = draft.ranges.iter().map(range_json).collect();
        let mut write = json!({ "rows": draft.rows, "ranges": ranges });
        match self.messages_of(&draft) {
            Ok((parts, messages, rejections)) => {
                for message in messages {
                    self.messages.push(message.length);
                    sent.extend(message.pieces);
                }
                write["parts"] = parts.into();
                write["rejections"] = refused(&draft.ranges, rejections).into();
            }
            Err(error) => write["error"] = error.to_json(),
        }
        self.writes.push(write);
    }

    /// All of a write, or none: half of it on the stream would be rows that nobody answers for.
    #[allow(clippy::type_complexity)]
    fn messages_of(&mut self, draft: &WriteDraft) -> Result<(Vec<Value>, Vec<Message>, Vec<Rejection>)> {
        let format = self.format.as_ref().map_err(Clone::clone)?;
        for batch in &draft.batches {
            format.check(batch)?;
        }
        let plan = format.plan(&draft.batches, 0);
        let planned: usize = plan.parts.iter().map(|part| part.rows).sum();
        crate::destination::counted(draft.rows, planned + plan.refused.len())?;
        let (mut parts, mut messages) = (Vec::with_capacity(plan.parts.len()), Vec::new());
        for part in &plan.parts {
            let made = format.part(&mut self.encoder, &draft.batches, part, &[])?;
            parts.push(json!({ "rows": part.rows, "messages": made.len() }));
            messages.extend(made);
        }
        Ok((parts, messages, plan.refused))
    }

    fn into_json(self) -> Value {
        let mut stream = json!({ "messages": self.messages, "writes": self.writes });
        if let Err(error) = &self.format {
            stream["error"] = error.to_json();
        }
        stream
    }
}

fn range_json(range: &RowRange) -> Value {
    json!({ "delivery": range.sequence, "firstRow": range.first_row, "rows": range.rows })
}

/// Rejections of rows of a write, as those of the deliveries that hold them.
fn refused(ranges: &[RowRange], rejections: Vec<Rejection>) -> Vec<Value> {
    let mut rejections = rejections.into_iter().peekable();
    let (mut start, mut found) = (0, Vec::new());
    for range in ranges {
        let end = start + range.rows as u64;
        while let Some(rejection) = rejections.next_if(|rejection| rejection.row < end) {
            found.push(json!({
                "delivery": range.sequence,
                "row": rejection.row - start + range.first_row as u64,
                "code": rejection.code,
                "message": rejection.message,
            }));
        }
        start = end;
    }
    found
}
