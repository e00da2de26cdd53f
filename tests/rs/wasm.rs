//! the boundary of WebAssembly, on this machine. `tests/wasm` has it where it runs, against the native client.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_ipc::writer::StreamWriter;
use serde_json::{Value, json};

use super::{IS_OUT_OF_MEMORY, arrow_ingest_call, arrow_ingest_input, arrow_ingest_output, guarded};

fn request(head: &Value, parts: &[&[u8]]) -> Vec<u8> {
    let head = head.to_string();
    let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend(parts.concat());
    bytes
}

fn answer(head: &Value, parts: &[&[u8]]) -> (Value, Vec<u8>) {
    parsed(&guarded(request(head, parts)))
}

fn parsed(answer: &[u8]) -> (Value, Vec<u8>) {
    let length = u32::from_le_bytes(answer[..4].try_into().unwrap()) as usize;
    let (head, body) = answer[4..].split_at(length);
    (serde_json::from_slice(head).unwrap(), body.to_vec())
}

fn code(answer: &(Value, Vec<u8>)) -> &str {
    answer.0["error"]["code"].as_str().unwrap_or("none")
}

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), batches[0].schema_ref()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn schema_of(fields: Vec<Field>) -> Vec<u8> {
    let schema = Schema::new(fields);
    StreamWriter::try_new(Vec::new(), &schema)
        .unwrap()
        .into_inner()
        .unwrap()
}

fn words(count: usize) -> RecordBatch {
    let word: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..count).map(|row| format!("word {row}")),
    ));
    RecordBatch::try_from_iter([("word", word)]).unwrap()
}

#[test]
fn every_row_is_in_a_message_or_refused() {
    let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(20_000), "a".into()]));
    let long = stream(&[RecordBatch::try_from_iter([("word", long)]).unwrap()]);
    let plain = stream(&[words(3), words(4)]);
    let other: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let other = stream(&[RecordBatch::try_from_iter([("n", other)]).unwrap()]);
    let deliveries: [&[u8]; 4] = [&plain, b"no batch", &long, &other];
    let lengths = deliveries.map(<[u8]>::len);
    let options = json!({ "batching": { "maxRows": 5 }, "flight": { "maxMessageSize": "16KiB", "compression": "lz4" } });
    let (head, body) = answer(
        &json!({ "do": "encode", "deliveries": lengths, "options": options }),
        &deliveries,
    );
    let rows: Vec<_> = (0..4)
        .map(|index| head["deliveries"][index]["rows"].as_u64())
        .collect();
    assert_eq!(rows, [Some(7), None, Some(2), Some(2)]);
    assert_eq!(head["deliveries"][1]["error"]["code"], "BATCH_INVALID");
    let streams = head["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 2);
    let lengths = streams
        .iter()
        .flat_map(|stream| stream["messages"].as_array().unwrap());
    assert_eq!(
        lengths.map(|length| length.as_u64().unwrap()).sum::<u64>(),
        body.len() as u64
    );
    let writes: Vec<&Value> = streams
        .iter()
        .flat_map(|stream| stream["writes"].as_array().unwrap())
        .collect();
    let (mut sent, mut refused) = (0, Vec::new());
    for write in writes {
        sent += write["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part["rows"].as_u64().unwrap())
            .sum::<u64>();
        refused.extend(write["rejections"].as_array().unwrap().clone());
    }
    assert_eq!(sent, 10);
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (&refused[0]["delivery"], &refused[0]["row"]),
        (&json!(2), &json!(0))
    );
}

#[test]
fn what_is_no_request_is_refused_by_its_code() {
    for bytes in [
        &b""[..],
        b"abc",
        b"\xff\xff\xff\xff{}",
        b"\x09\0\0\0{}",
        b"\x02\0\0\0{]",
    ] {
        assert_eq!(code(&parsed(&guarded(bytes.to_vec()))), "INPUT_INVALID");
    }
    let encode = |more: Value| {
        let mut head = json!({ "do": "encode", "deliveries": [] });
        head.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        answer(&head, &[])
    };
    assert_eq!(code(&encode(json!({}))), "none");
    assert_eq!(code(&encode(json!({ "do": 3 }))), "INPUT_INVALID");
    assert_eq!(code(&encode(json!({ "deliveries": [7] }))), "INPUT_INVALID");
    for wrong in [
        json!({ "do": "dance" }),
        json!({ "deliveries": "all" }),
        json!({ "more": 1 }),
        json!({ "deliveries": vec![0; 65_537] }),
        json!({ "options": { "spool": {} } }),
        json!({ "options": { "flight": { "streams": 2 } } }),
        json!({ "options": { "flight": 3 } }),
        json!({ "options": { "batching": { "maxRows": 0 } } }),
    ] {
        assert_eq!(code(&encode(wrong.clone())), "CONFIG_INVALID", "{wrong}");
    }
    assert_eq!(
        code(&answer(&json!({ "do": "encode", "deliveries": [] }), &[b"x"])),
        "INPUT_INVALID"
    );
}

#[test]
fn the_calls_of_a_host_use_up_a_request_and_keep_an_answer() {
    assert!(!arrow_ingest_input(100).is_null());
    // The request is zeros.
    assert!(arrow_ingest_call() > 4);
    assert!(!arrow_ingest_output().is_null());
    assert!(arrow_ingest_input(usize::MAX).is_null());
    // And there is none now.
    assert!(arrow_ingest_call() > 4);
}

#[test]
fn want_of_memory_is_said_once() {
    IS_OUT_OF_MEMORY.set(true);
    let head = json!({ "do": "encode", "deliveries": [] });
    assert_eq!(code(&answer(&head, &[])), "RESOURCE_EXHAUSTED");
    assert_eq!(code(&answer(&head, &[])), "none");
}

#[test]
fn a_schema_is_judged_as_its_destination_would() {
    let ask = |destination: &str, schema: &[u8], table: Option<&[u8]>| {
        let head = json!({
            "do": "schema", "destination": destination, "schema": schema.len(), "table": table.map(<[u8]>::len),
        });
        answer(&head, &[schema, table.unwrap_or_default()])
    };
    let word = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let kept = schema_of(vec![Field::new("word", word, true)]);
    let (head, body) = ask("flight", &kept, None);
    assert_eq!(head, json!({ "converts": true }));
    assert_eq!(body, schema_of(vec![Field::new("word", DataType::Utf8, true)]));
    assert_eq!(code(&ask("flight", &kept, Some(&kept))), "CONFIG_INVALID");
    assert_eq!(code(&ask("flight", b"no schema", None)), "BATCH_INVALID");
    let small = schema_of(vec![Field::new("n", DataType::Int16, true)]);
    let large = schema_of(vec![Field::new("n", DataType::Int64, true)]);
    assert_eq!(ask("zerobus", &large, None).0, json!({ "converts": false }));
    assert_eq!(
        ask("zerobus", &small, Some(&large)).0,
        json!({ "converts": true })
    );
    let time = schema_of(vec![Field::new(
        "t",
        DataType::Time32(arrow::datatypes::TimeUnit::Second),
        true,
    )]);
    assert_eq!(code(&ask("zerobus", &time, None)), "SCHEMA_MISMATCH");
    assert_eq!(code(&ask("delta", &small, None)), "CONFIG_INVALID");
}

#[test]
fn a_row_is_settled_once() {
    let settle = |deliveries: &[u64], settled: Value| {
        answer(
            &json!({ "do": "settle", "deliveries": deliveries, "settled": settled }),
            &[],
        )
    };
    let rejection = json!({ "row": 1, "code": "X", "message": "no" });
    let (head, _) = settle(
        &[2, 0, 3, 9],
        json!([
            { "delivery": 0, "firstRow": 0, "rows": 2, "rejections": [rejection] },
            { "delivery": 2, "firstRow": 0, "rows": 1, "end": "unknown" },
            { "delivery": 2, "firstRow": 1, "rows": 2, "end": "failed" },
        ]),
    );
    let ends: Vec<_> = (0..3)
        .map(|index| {
            (
                &head["outcomes"][index]["delivery"],
                &head["outcomes"][index]["status"],
            )
        })
        .collect();
    assert_eq!(
        ends,
        [
            (&json!(1), &json!("acknowledged")),
            (&json!(0), &json!("partial")),
            (&json!(2), &json!("unknown"))
        ]
    );
    assert_eq!(head["open"], json!([3]));
    for wrong in [
        json!([{ "delivery": 1, "firstRow": 0, "rows": 1 }]),
        json!([{ "delivery": 0, "firstRow": 0, "rows": 0 }]),
        json!([{ "delivery": 0, "firstRow": usize::MAX, "rows": 2 }]),
        json!([{ "delivery": 0, "firstRow": 0, "rows": 9, "end": "failed", "rejections": [rejection] }]),
        json!([{ "delivery": 0, "firstRow": 2, "rows": 3, "rejections": [rejection] }]),
        json!([{ "delivery": 0, "firstRow": 2, "rows": 3 }, { "delivery": 0, "firstRow": 1, "rows": 2 }]),
        json!([{ "delivery": 0, "firstRow": 2, "rows": 3 }, { "delivery": 0, "firstRow": 4, "rows": 2 }]),
    ] {
        assert_eq!(code(&settle(&[9], wrong.clone())), "CONFIG_INVALID", "{wrong}");
    }
    let failed = settle(
        &[1],
        json!([{ "delivery": 0, "firstRow": 0, "rows": 1, "end": "failed" }]),
    );
    assert_eq!(failed.0["outcomes"][0]["status"], "failed");
}
