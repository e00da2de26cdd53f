//! What is refused without any fault: schemas, tokens, tables, and clients that do not keep to the protocol.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{FlightData, PutResult, SchemaAsIpc};
use databricks_zerobus_ingest_sdk::{SchemaValidationCause, ZerobusError};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::support::{Headers, Rig, TABLE, all, deliver, once, rows};

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields
        .iter()
        .map(|(name, of)| Field::new(*name, of.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn declared() -> Value {
    json!([
        { "name": "id", "type": "BIGINT", "nullable": false },
        { "name": "text", "type": "STRING" },
        { "name": "price", "type": "DECIMAL(6,2)" },
        { "name": "more", "type": "STRUCT<a: INT, b: ARRAY<MAP<STRING, DATE>>>" },
        { "name": "at", "type": "TIMESTAMP" },
        { "name": "any", "type": "VARIANT" },
    ])
}

/// every cause, from a schema that deserves it.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_does_not_fit_is_refused_with_its_causes() {
    use SchemaValidationCause as Cause;
    let rig = Rig::new(json!({ "tables": { TABLE: { "schema": declared() } } })).await;
    let (long, text) = (DataType::Int64, DataType::LargeUtf8);
    let of = |fields: Vec<Field>| DataType::Struct(fields.into());
    let a = Field::new("a", DataType::Int32, true);
    let b = |value: DataType| {
        let entry = of(vec![
            Field::new("k", DataType::Utf8, false),
            Field::new("v", value, true),
        ]);
        let map = DataType::Map(Arc::new(Field::new("entries", entry, false)), false);
        Field::new("b", DataType::List(Arc::new(Field::new("item", map, true))), true)
    };
    type Case = (Vec<(&'static str, DataType)>, Vec<Cause>);
    let cases: Vec<Case> = vec![
        (
            vec![("id", long.clone()), ("new", text.clone())],
            vec![Cause::FieldNotInTable],
        ),
        (vec![("text", text.clone())], vec![Cause::MissingRequiredColumn]),
        (
            vec![("text", text.clone()), ("id", long.clone())],
            vec![Cause::FieldOutOfOrder],
        ),
        (vec![("id", DataType::Int32)], vec![Cause::TypeIncompatible]),
        (
            vec![("id", long.clone()), ("id", long.clone())],
            vec![Cause::FieldCountMismatch],
        ),
        (
            vec![("id", long.clone()), ("price", DataType::Decimal128(6, 2))],
            vec![Cause::TypeIncompatible],
        ),
        (
            vec![
                ("id", long.clone()),
                ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ],
            vec![Cause::TypeIncompatible],
        ),
        (
            vec![("id", long.clone()), ("any", of(vec![a.clone(), a.clone()]))],
            vec![Cause::TypeIncompatible],
        ),
        (
            vec![("id", long.clone()), ("more", of(vec![a.clone()]))],
            vec![Cause::FieldCountMismatch],
        ),
        (
            vec![
                ("id", long.clone()),
                ("more", of(vec![b(DataType::Date32), a.clone()])),
            ],
            vec![Cause::FieldOutOfOrder],
        ),
        (
            vec![
                ("id", long.clone()),
                ("more", of(vec![a.clone(), a.clone().with_name("c")])),
            ],
            vec![Cause::FieldNotInTable],
        ),
        (
            vec![
                ("id", long.clone()),
                ("more", of(vec![a.clone(), b(DataType::Date64)])),
            ],
            vec![Cause::TypeIncompatible],
        ),
        (
            vec![("new", text.clone()), ("text", long.clone())],
            vec![
                Cause::FieldNotInTable,
                Cause::MissingRequiredColumn,
                Cause::TypeIncompatible,
            ],
        ),
    ];
    for (fields, wanted) in cases {
        match rig.stream(&schema(&fields)).await.err() {
            Some(ZerobusError::InvalidSchema { causes, message, .. }) => {
                assert_eq!(causes, wanted, "{message}");
            }
            other => panic!("{fields:?}: {other:?}"),
        }
    }
    // The small forms and the names of Arrow's own maps are taken, and what allows nulls may be left out.
    let fine = schema(&[
        ("id", long),
        ("text", DataType::Utf8),
        ("more", of(vec![a, b(DataType::Date32)])),
    ]);
    rig.stream(&fine).await.unwrap().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_not_made_of_what_no_table_holds() {
    let rig = Rig::new(json!({})).await;
    for (fields, wanted) in [
        (
            vec![("a", DataType::UInt8)],
            SchemaValidationCause::TypeIncompatible,
        ),
        (
            vec![("a b", DataType::Int8)],
            SchemaValidationCause::FieldNotInTable,
        ),
        (vec![], SchemaValidationCause::FieldCountMismatch),
    ] {
        match rig.stream(&schema(&fields)).await.err() {
            Some(ZerobusError::InvalidSchema { causes, .. }) => assert_eq!(causes, [wanted]),
            other => panic!("{fields:?}: {other:?}"),
        }
    }
    // Names that differ by case are two columns to Arrow, and one to Delta.
    let refused = rig
        .stream(&schema(&[("a", DataType::Int8), ("A", DataType::Int8)]))
        .await
        .err()
        .unwrap();
    assert!(!refused.is_retryable(), "{refused}");
}

fn code(error: &ZerobusError) -> Code {
    match error {
        ZerobusError::CreateStreamError(status) | ZerobusError::StreamClosedError(status) => status.code(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_tokens_and_connections_that_are_not_good_are_refused_as_what_they_are() {
    let rig = Rig::new(json!({ "autoCreate": false })).await;
    let refused = rig.stream_with(&rows(0, 1).schema(), once).await.err().unwrap();
    assert_eq!(code(&refused), Code::NotFound);
    for (header, wanted) in [
        ("Bearer unknown", Code::Unauthenticated),
        ("given-token", Code::Unauthenticated),
    ] {
        let refused = rig
            .stream_with(&rows(0, 1).schema(), |builder| {
                once(builder).headers_provider(Arc::new(Headers(header)))
            })
            .await
            .err()
            .unwrap();
        assert_eq!(code(&refused), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_where_none_is_allowed_refuses_its_batch() {
    let rig = Rig::new(json!({ "tables": { TABLE: declared() } })).await;
    let schema = schema(&[("id", DataType::Int64), ("price", DataType::LargeUtf8)]);
    let batch = |id: Option<i64>, price: &str| {
        let price = cast(
            &(Arc::new(StringArray::from(vec!["1", price])) as ArrayRef),
            &DataType::LargeUtf8,
        );
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![Some(0), id])), price.unwrap()];
        RecordBatch::try_new(schema.clone(), columns).unwrap()
    };
    for (bad, part) in [
        (batch(None, "1"), "\"id\" allows no nulls, and row 1 has one"),
        (batch(Some(1), "cheap"), "\"price\""),
        (batch(Some(1), "12345.67"), "\"price\""),
    ] {
        let stream = rig.stream_with(&schema, once).await.unwrap();
        let offset = stream.ingest_batch(bad).await.unwrap();
        let error = stream.wait_for_offset(offset).await.unwrap_err();
        let ZerobusError::StreamClosedError(status) = &error else {
            panic!("{error}");
        };
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(part), "{status:?}");
    }
    let mut stream = rig.stream(&schema).await.unwrap();
    stream.ingest_batch(batch(Some(1), "9999.99")).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(rig.ids(), [0, 1]);
}

async fn client(rig: &Rig) -> FlightServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", rig.emulator.address())).unwrap();
    FlightServiceClient::new(endpoint.connect().await.unwrap())
}

/// A client that says whatever it likes.
struct Raw {
    frames: mpsc::UnboundedSender<FlightData>,
    answers: Streaming<PutResult>,
}

impl Raw {
    async fn open(rig: &Rig, metadata: &[(&'static str, &str)]) -> Result<Raw, Status> {
        let mut client = client(rig).await;
        let (frames, receiver) = mpsc::unbounded_channel();
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            let frame = receiver.recv().await?;
            Some((frame, receiver))
        });
        let mut request = Request::new(stream);
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let answers = client.do_put(request).await?.into_inner();
        Ok(Raw { frames, answers })
    }

    /// With a token, the table, and its schema.
    async fn ready(rig: &Rig) -> Raw {
        let mut raw = Raw::open(rig, &good()).await.unwrap();
        raw.frames.send(first(&rows(0, 1).schema())).unwrap();
        assert_eq!(
            raw.said().await,
            json!({ "ack_up_to_offset": -1, "ack_up_to_records": 0 })
        );
        raw
    }

    async fn said(&mut self) -> Value {
        let answer = self.answers.message().await.unwrap().unwrap();
        serde_json::from_slice(&answer.app_metadata).unwrap()
    }

    /// The status with which the stream ends, after whatever is said before.
    async fn end(&mut self) -> Status {
        loop {
            match self.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

fn good() -> [(&'static str, &'static str); 2] {
    [
        ("authorization", "Bearer given-token"),
        ("x-databricks-zerobus-table-name", TABLE),
    ]
}

fn first(schema: &Schema) -> FlightData {
    SchemaAsIpc::new(schema, &IpcWriteOptions::default()).into()
}

fn frame(batch: &RecordBatch, metadata: &str) -> FlightData {
    let frames = batches_to_flight_data(batch.schema_ref(), vec![batch.clone()]).unwrap();
    let frame = frames.into_iter().nth(1).unwrap();
    frame.with_app_metadata(metadata.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_keep_to_the_protocol_is_told_where() {
    let rig = Rig::new(json!({})).await;
    for (metadata, wanted) in [
        (&good()[..1], Code::InvalidArgument),
        (&good()[1..], Code::Unauthenticated),
        (
            &[good()[0], ("x-databricks-zerobus-table-name", "a.b")],
            Code::InvalidArgument,
        ),
    ] {
        let mut raw = Raw::open(&rig, metadata).await.unwrap();
        assert_eq!(raw.end().await.code(), wanted);
    }
    let batch = rows(0, 10);
    let mut raw = Raw::open(&rig, &good()).await.unwrap();
    raw.frames.send(frame(&batch, "")).unwrap();
    assert!(raw.end().await.message().contains("no schema"));
    let mut raw = Raw::open(&rig, &good()).await.unwrap();
    drop(raw.frames);
    raw.frames = mpsc::unbounded_channel().0;
    assert!(raw.end().await.message().contains("no first frame"));
    for (frame, part) in [
        (frame(&batch, "{\"offset_id\":1}"), "the offset_id is 1, not 0"),
        (frame(&batch, ""), "the offset_id is none, not 0"),
        (
            frame(&batch, "{\"offset_id\":-1}"),
            "the offset_id is none, not 0",
        ),
        (
            first(&batch.schema()).with_app_metadata("{\"offset_id\":0}"),
            "cannot be read",
        ),
        (
            FlightData::new().with_app_metadata("{\"offset_id\":0}"),
            "cannot be read",
        ),
    ] {
        let mut raw = Raw::ready(&rig).await;
        raw.frames.send(frame).unwrap();
        let status = raw.end().await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(part), "{status:?}");
    }
    assert_eq!(rig.emulator.rows(TABLE).await, 0);
}

/// Acknowledgements count rows through the stream; an offset that was skipped breaks it after what came before
/// is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_cumulative_and_a_half_close_is_answered_by_the_rest() {
    let rig = Rig::new(json!({ "commitInterval": "1h" })).await;
    let mut raw = Raw::ready(&rig).await;
    raw.frames.send(frame(&rows(0, 10), "{\"offset_id\":0}")).unwrap();
    raw.frames.send(frame(&rows(0, 0), "{\"offset_id\":1}")).unwrap();
    raw.frames
        .send(frame(&rows(10, 15), "{\"offset_id\":2}"))
        .unwrap();
    raw.frames = mpsc::unbounded_channel().0;
    assert_eq!(
        raw.said().await,
        json!({ "ack_up_to_offset": 2, "ack_up_to_records": 15 })
    );
    assert_eq!(raw.end().await.code(), Code::Ok);
    let mut raw = Raw::ready(&rig).await;
    raw.frames
        .send(frame(&rows(15, 20), "{\"offset_id\":0}"))
        .unwrap();
    raw.frames
        .send(frame(&rows(20, 25), "{\"offset_id\":2}"))
        .unwrap();
    assert_eq!(
        raw.said().await,
        json!({ "ack_up_to_offset": 0, "ack_up_to_records": 5 })
    );
    assert_eq!(raw.end().await.code(), Code::InvalidArgument);
    assert_eq!(rig.ids(), all(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ignores_a_rotation_is_closed_when_its_time_is_over() {
    let rig = Rig::with_fault("rotate:grace=50ms").await;
    let mut raw = Raw::ready(&rig).await;
    raw.frames.send(frame(&rows(0, 10), "{\"offset_id\":0}")).unwrap();
    let told = raw.said().await;
    assert_eq!(told["close_stream_duration_ms"], 50);
    let status = raw.end().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("Error Code: 6002"), "{status:?}");
    assert_eq!(rig.ids(), all(10));
}

/// A client that goes away takes its stream with it, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_the_others() {
    let rig = Rig::new(json!({})).await;
    // A client with a runtime of its own dies with it, in the midst of its stream.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let raw = tokio::task::block_in_place(|| runtime.block_on(Raw::ready(&rig)));
    raw.frames
        .send(frame(&rows(0, 100), "{\"offset_id\":0}"))
        .unwrap();
    while rig.emulator.rows(TABLE).await < 100 {
        tokio::task::yield_now().await;
    }
    runtime.shutdown_background();
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    stream.ingest_batch(rows(100, 200)).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(rig.ids(), all(200));
    while !rig
        .lines()
        .iter()
        .any(|line| line.contains("the client went away"))
    {
        tokio::task::yield_now().await;
    }
    drop(raw);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_limit_is_refused() {
    let rig = Rig::new(json!({ "maxMessageSize": "64KiB" })).await;
    let mut raw = Raw::ready(&rig).await;
    raw.frames
        .send(frame(&rows(0, 100_000), "{\"offset_id\":0}"))
        .unwrap();
    let status = raw.end().await;
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

/// With TLS, plain text is for tokens and tables; rows go over TLS or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn streams_in_plain_text_are_refused_where_there_is_tls() {
    let rig = Rig::new(json!({ "tls": true })).await;
    let mut raw = Raw::open(&rig, &good()).await.unwrap();
    let status = raw.end().await;
    assert!(status.message().contains("TLS"), "{status:?}");
}

/// A disk that fails is the server's fault, and passes: the batch is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_written_breaks_its_streams_and_no_row_is_acknowledged() {
    let rig = Rig::new(json!({})).await;
    deliver(&mut rig.stream(&rows(0, 1).schema()).await.unwrap(), 1).await;
    let log = rig.table().join("_delta_log");
    let aside = rig.lake.path().join("aside");
    std::fs::rename(&log, &aside).unwrap();
    std::fs::write(&log, "no directory").unwrap();
    let mut raw = Raw::ready(&rig).await;
    raw.frames
        .send(frame(&rows(100, 110), "{\"offset_id\":0}"))
        .unwrap();
    let status = raw.end().await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(
        rig.lines().iter().any(|line| line.contains("not written")),
        "{:?}",
        rig.lines()
    );
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    let mut stream = rig.stream(&rows(0, 1).schema()).await.unwrap();
    stream.ingest_batch(rows(100, 200)).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(rig.ids(), all(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn flight_has_one_call_here() {
    let rig = Rig::new(json!({})).await;
    let mut client = client(&rig).await;
    let empty = futures::stream::empty::<FlightData>;
    let ticket = arrow_flight::Ticket::default;
    let descriptor = arrow_flight::FlightDescriptor::default;
    let hands = futures::stream::empty::<arrow_flight::HandshakeRequest>();
    let answers = [
        client.handshake(hands).await.err(),
        client.do_exchange(empty()).await.err(),
        client.do_get(ticket()).await.err(),
        client.get_schema(descriptor()).await.err(),
        client.get_flight_info(descriptor()).await.err(),
        client.poll_flight_info(descriptor()).await.err(),
        client.list_flights(arrow_flight::Criteria::default()).await.err(),
        client.do_action(arrow_flight::Action::default()).await.err(),
        client.list_actions(arrow_flight::Empty::default()).await.err(),
    ];
    for answer in answers {
        assert_eq!(answer.unwrap().code(), Code::Unimplemented);
    }
}

/// Columns of other types than the table's own are not silently made to fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_is_held_to_the_table_of_the_first() {
    let rig = Rig::new(json!({})).await;
    deliver(&mut rig.stream(&rows(0, 1).schema()).await.unwrap(), 1).await;
    let other =
        RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
    let refused = rig.stream(&other.schema()).await.err().unwrap();
    assert!(matches!(refused, ZerobusError::InvalidSchema { .. }), "{refused}");
}
