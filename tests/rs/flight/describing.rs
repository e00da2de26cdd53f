//! what a server says of the columns of its target, and what is made of servers that say nothing, or nonsense.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use arrow_flight::sql::{Any, CommandGetTables};
use arrow_flight::utils::batches_to_flight_data;
use arrow_ingest::destination::Destination as _;
use arrow_ingest::destination::flight::Flight;
use arrow_ingest::error::Code;
use serde_json::json;
use tonic::Status;

use crate::support::{Answers, Server, Writer, config, numbers};

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ])
}

fn message(schema: &Schema) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn tables(names: &[&str]) -> RecordBatch {
    let messages: Vec<Vec<u8>> = names.iter().map(|_| message(&schema())).collect();
    let messages: BinaryArray = messages.iter().map(|bytes| Some(bytes.as_slice())).collect();
    let names: StringArray = names.iter().map(|name| Some(*name)).collect();
    RecordBatch::try_from_iter([
        ("table_name", Arc::new(names) as ArrayRef),
        ("table_schema", Arc::new(messages) as ArrayRef),
    ])
    .unwrap()
}

#[tokio::test]
async fn what_get_schema_says_is_the_schema() {
    let server = Server::start(Answers::Nothing).await;
    let flight = server.connect(json!({})).await;
    assert_eq!(flight.schema().await.unwrap(), None);
    server.world().schema = Some(message(&schema()));
    assert_eq!(*flight.schema().await.unwrap().unwrap(), schema());
    // Asked anew each time.
    server.world().schema = Some(message(&numbers([]).schema()));
    assert_eq!(flight.schema().await.unwrap().unwrap(), numbers([]).schema());
    for nonsense in [Vec::new(), vec![0xFF; 99], message(&Schema::empty())] {
        server.world().schema = Some(nonsense);
        assert_eq!(flight.schema().await.unwrap(), None);
    }
}

#[tokio::test]
async fn credentials_and_lines_are_errors_and_all_else_is_silence() {
    let server = Server::start(Answers::Nothing).await;
    let flight = server.connect(json!({})).await;
    for (status, code) in [
        (Status::unauthenticated("who?"), Some(Code::Unauthenticated)),
        (Status::permission_denied("no"), Some(Code::PermissionDenied)),
        (Status::unavailable("later"), Some(Code::Unavailable)),
        (Status::not_found("no such path"), None),
        (Status::internal("oh"), None),
    ] {
        server.world().schema_says = Some(status);
        match (flight.schema().await, code) {
            (Ok(said), None) => assert_eq!(said, None),
            (Err(error), Some(code)) => {
                assert_eq!(error.code(), code);
                assert_eq!(error.to_json()["operation"], "schema");
            }
            (said, _) => panic!("{said:?}"),
        }
    }
    server.world().schema_says = None;
    server.world().silent = true;
    let hasty = config(json!({"flight": {"connectTimeout": "100ms"}}));
    let hasty = Flight::new(&server.target(), &hasty).unwrap();
    assert_eq!(hasty.schema().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn flight_sql_lists_the_table_with_its_schema() {
    let server = Server::start(Answers::Nothing).await;
    let to = |query: &str| format!("flightsql://{}/trips{query}", server.address);
    let flight = Flight::connect(&to("?schema=s&catalog=c"), &config(json!({})))
        .await
        .unwrap();
    assert_eq!(flight.schema().await.unwrap(), None);
    let batch = tables(&["trips", "tripsy"]);
    server.world().tables = Some(batches_to_flight_data(&batch.schema(), vec![batch]).unwrap());
    let any: Any = prost::Message::decode(server.world().questions[0].cmd.clone()).unwrap();
    let command: CommandGetTables = any.unpack().unwrap().unwrap();
    assert_eq!(command.table_name_filter_pattern.as_deref(), Some("trips"));
    assert_eq!(command.db_schema_filter_pattern.as_deref(), Some("s"));
    assert_eq!(command.catalog.as_deref(), Some("c"));
    assert!(command.include_schema);
    // This list has no such columns to find the catalog and the schema in.
    assert_eq!(flight.schema().await.unwrap(), None);

    let flight = Flight::connect(&to("?mode=replace"), &config(json!({})))
        .await
        .unwrap();
    // What is there goes.
    assert_eq!(flight.schema().await.unwrap(), None);
    let mut writer = Writer::open(&flight, numbers([]).schema()).await.unwrap();
    writer.write(1, vec![numbers([1])]).await.unwrap();
    writer.session.flush().await.unwrap();
    assert_eq!(*flight.schema().await.unwrap().unwrap(), schema());

    let flight = Flight::connect(&to(""), &config(json!({}))).await.unwrap();
    assert_eq!(*flight.schema().await.unwrap().unwrap(), schema());
    let batch = tables(&["trips", "trips"]);
    server.world().tables = Some(batches_to_flight_data(&batch.schema(), vec![batch]).unwrap());
    assert_eq!(flight.schema().await.unwrap(), None);
    // No end of tables, and no tables.
    let long = BinaryArray::from(vec![vec![0; 3 << 20].as_slice()]);
    let names = StringArray::from(vec!["other"]);
    let columns: [(&str, ArrayRef); 2] = [("table_name", Arc::new(names)), ("table_schema", Arc::new(long))];
    let long = RecordBatch::try_from_iter(columns).unwrap();
    server.world().tables = Some(batches_to_flight_data(&long.schema(), vec![long; 6]).unwrap());
    assert_eq!(flight.schema().await.unwrap(), None);
    server.world().silent = true;
    assert_eq!(flight.schema().await.unwrap(), None);
    server.world().silent = false;
    server.world().schema_says = Some(Status::unavailable("later"));
    assert_eq!(flight.schema().await.unwrap_err().code(), Code::Unavailable);
}
