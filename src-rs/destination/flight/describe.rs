//! What a server says of the columns that its target has: `GetSchema`, or Flight SQL's list of tables.
//!
//! Invariants:
//! - A server that cannot say, or says something that cannot be read, is no error: few that take rows can.
//! - What it sends is hostile until decoded, and bounded: the answer for one table is small.
//! - Nobody else is asked: locations of endpoints are not followed, as credentials would go there too.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{CommandGetTables, ProstMessageExt as _};
use arrow_flight::{FlightData, FlightDescriptor, FlightInfo, Ticket};
use prost::Message as _;
use tonic::{Code as Grpc, Status};

use super::connection::Connection;
use super::target::Ingest;
use crate::error::Result;
use crate::handoff::{decode_schema, decode_stream};

/// Bytes of a list of tables. One that is longer is not about the table that was asked for.
const MAX_LIST: usize = 16 << 20;

/// # Errors
/// Of credentials and of a connection that broke.
pub async fn target(connection: &Connection, descriptor: FlightDescriptor) -> Result<Option<SchemaRef>> {
    let request = connection.request(descriptor);
    match connection.client().get_schema(request).await {
        Ok(answer) => Ok(readable(&answer.into_inner().schema)),
        Err(status) => silence(connection, &status),
    }
}

/// # Errors
/// As [`target`].
pub async fn table(connection: &Connection, ingest: &Ingest) -> Result<Option<SchemaRef>> {
    match listed(connection, ingest).await {
        Ok(stream) => Ok(stream.and_then(|stream| in_list(&decode_stream(&stream).ok()?, ingest))),
        Err(status) => silence(connection, &status),
    }
}

/// What no answer means: credentials and connections are somebody's to mend, all else is a server that does not tell.
fn silence(connection: &Connection, status: &Status) -> Result<Option<SchemaRef>> {
    match is_of_the_connection(status) {
        true => Err(connection.error(status).during("schema")),
        false => Ok(None),
    }
}

pub fn is_of_the_connection(status: &Status) -> bool {
    matches!(
        status.code(),
        Grpc::Unauthenticated | Grpc::PermissionDenied | Grpc::Unavailable
    )
}

/// None also for a schema without columns: rows have some, so it is a server's way of saying nothing.
fn readable(message: &[u8]) -> Option<SchemaRef> {
    let schema = decode_schema(message).ok()?;
    (!schema.fields().is_empty()).then_some(schema)
}

/// The list of tables that may be the one, as an IPC stream; none if it is too long.
async fn listed(connection: &Connection, ingest: &Ingest) -> std::result::Result<Option<Vec<u8>>, Status> {
    let command = CommandGetTables {
        catalog: ingest.catalog.clone(),
        db_schema_filter_pattern: ingest.schema.clone(),
        // A name is a pattern that matches itself, and perhaps others.
        table_name_filter_pattern: Some(ingest.table.clone()),
        table_types: Vec::new(),
        include_schema: true,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let request = connection.request(descriptor);
    let info: FlightInfo = connection.client().get_flight_info(request).await?.into_inner();
    let Some(ticket) = info.endpoint.into_iter().find_map(|endpoint| endpoint.ticket) else {
        return Ok(None);
    };
    let request = connection.request::<Ticket>(ticket);
    let mut answers = connection.client().do_get(request).await?.into_inner();
    let mut stream = Vec::new();
    while let Some(message) = answers.message().await? {
        append(&mut stream, &message);
        if stream.len() > MAX_LIST {
            return Ok(None);
        }
    }
    Ok(Some(stream))
}

/// A message of Flight as one of an IPC stream.
fn append(stream: &mut Vec<u8>, message: &FlightData) {
    let header = &message.data_header;
    if header.is_empty() {
        return;
    }
    stream.extend(u32::MAX.to_le_bytes());
    // What is longer than that has no place in a stream, and is refused there.
    let length = u32::try_from(header.len().next_multiple_of(8)).unwrap_or(u32::MAX);
    stream.extend(length.to_le_bytes());
    stream.extend_from_slice(header);
    stream.resize(stream.len().next_multiple_of(8), 0);
    stream.extend_from_slice(&message.data_body);
    stream.resize(stream.len().next_multiple_of(8), 0);
}

/// The schema of the one table of that name; none if there are several.
fn in_list(batches: &[RecordBatch], ingest: &Ingest) -> Option<SchemaRef> {
    let mut found = batches.iter().flat_map(|batch| rows_of(batch, ingest));
    let schema = found.next()?;
    match found.next() {
        None => readable(&schema),
        Some(_) => None,
    }
}

fn rows_of(batch: &RecordBatch, ingest: &Ingest) -> Vec<Vec<u8>> {
    let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (catalogs, schemas) = (text("catalog_name"), text("db_schema_name"));
    let schema = batch.column_by_name("table_schema");
    let (Some(names), Some(messages)) = (
        text("table_name"),
        schema.and_then(|column| column.as_binary_opt::<i32>()),
    ) else {
        return Vec::new();
    };
    let is = |column: Option<&arrow::array::StringArray>, row: usize, wanted: &Option<String>| match wanted {
        None => true,
        Some(wanted) => column.is_some_and(|column| column.is_valid(row) && column.value(row) == wanted),
    };
    (0..batch.num_rows())
        .filter(|row| {
            is(Some(names), *row, &Some(ingest.table.clone()))
                && is(schemas, *row, &ingest.schema)
                && is(catalogs, *row, &ingest.catalog)
                && messages.is_valid(*row)
        })
        .map(|row| messages.value(row).to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::ipc::writer::StreamWriter;

    use super::super::target::Mode;
    use super::*;

    fn message(column: &str) -> Vec<u8> {
        let schema = Schema::new(vec![Field::new(column, DataType::Int64, true)]);
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        writer.finish().unwrap();
        writer.into_inner().unwrap()
    }

    fn list(rows: &[(&str, &str)]) -> RecordBatch {
        let names: StringArray = rows.iter().map(|(_, name)| Some(*name)).collect();
        let schemas: StringArray = rows.iter().map(|(schema, _)| Some(*schema)).collect();
        let messages: Vec<Vec<u8>> = rows.iter().map(|(schema, _)| message(schema)).collect();
        let messages: BinaryArray = messages.iter().map(|bytes| Some(bytes.as_slice())).collect();
        let column = |array: ArrayRef| array;
        RecordBatch::try_from_iter([
            ("db_schema_name", column(Arc::new(schemas))),
            ("table_name", column(Arc::new(names))),
            ("table_schema", column(Arc::new(messages))),
        ])
        .unwrap()
    }

    fn ingest(schema: Option<&str>) -> Ingest {
        Ingest {
            table: "a_b".into(),
            schema: schema.map(Into::into),
            catalog: None,
            mode: Mode::Append,
        }
    }

    /// a pattern may match others; two tables of one name are told apart by their schema, or not at all.
    #[test]
    fn of_a_list_of_tables_the_one_that_is_meant_is_taken() {
        let rows = [("main", "a_b"), ("main", "axb"), ("other", "a_b")];
        let batches = [list(&rows)];
        let named = |schema| Some(in_list(&batches, &ingest(schema))?.field(0).name().clone());
        assert_eq!(named(Some("other")), Some("other".into()));
        assert_eq!(named(Some("main")), Some("main".into()));
        assert_eq!(named(None), None);
        assert_eq!(named(Some("third")), None);
        let mut elsewhere = ingest(Some("main"));
        elsewhere.catalog = Some("c".into());
        assert_eq!(in_list(&batches, &elsewhere), None);
        let nothing = batches[0].project(&[0, 1]).unwrap();
        assert_eq!(in_list(&[nothing], &ingest(None)), None);
    }

    /// What a server sends is hostile: nothing of it ends the process, and nothing is made of it.
    #[test]
    fn what_is_no_schema_is_none() {
        for bytes in [&b""[..], b"PAR1", &[0xFF; 64], &message("c")[..20]] {
            assert_eq!(readable(bytes), None);
            assert!(decode_stream(bytes).is_err());
        }
        let mut writer = StreamWriter::try_new(Vec::new(), &Schema::empty()).unwrap();
        writer.finish().unwrap();
        assert_eq!(readable(&writer.into_inner().unwrap()), None);
        assert_eq!(readable(&message("c")).unwrap().field(0).name(), "c");
    }

    #[test]
    fn messages_of_flight_become_an_ipc_stream() {
        let batch = list(&[("main", "a_b")]);
        let sent = arrow_flight::utils::batches_to_flight_data(&batch.schema(), vec![batch.clone()]).unwrap();
        let mut stream = Vec::new();
        append(&mut stream, &FlightData::default());
        sent.iter().for_each(|message| append(&mut stream, message));
        assert_eq!(decode_stream(&stream).unwrap(), vec![batch]);
    }
}
