//! What a destination would say of a schema, before there is a row.
//!
//! It knows Flight and Zerobus. The rules of Delta are written in types of the library that opens its tables.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_ipc::writer::StreamWriter;
use serde::Deserialize;

use super::envelope::{Answer, Request};
use crate::config::{Config, FlightDictionaries};
use crate::destination::flight::outgoing::WireFormat;
use crate::destination::zerobus::limits::check_schema;
use crate::destination::zerobus::normalise::StreamConversion;
use crate::destination::zerobus::types::on_the_wire;
use crate::error::{Code, Error, Result};
use crate::handoff::{contained, decode_schema};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Head {
    destination: Named,
    /// Bytes of an Arrow IPC stream that holds the schema and nothing else.
    schema: usize,
    /// The same of the table's own schema, for Zerobus; it follows.
    table: Option<usize>,
    /// For Flight: dictionaries are kept.
    #[serde(default)]
    keep_dictionaries: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Named {
    Flight,
    Zerobus,
}

/// The schema as it goes onto the wire, as an Arrow IPC stream; `converts`: whether batches are changed on the way.
pub fn schema(request: Request) -> Result<Answer> {
    let (head, mut parts) = request.read::<Head>()?;
    let given = decode_schema(&parts.take(head.schema)?)?;
    let table = match head.table {
        Some(length) => Some(decode_schema(&parts.take(length)?)?),
        None => None,
    };
    parts.end()?;
    let (wire, converts) = match head.destination {
        Named::Flight if table.is_some() => {
            let text = "a Flight server is not asked for its table's schema";
            return Err(Error::new(Code::ConfigInvalid, text).in_field("table"));
        }
        Named::Flight => {
            let mut options = Config::default().flight;
            if head.keep_dictionaries {
                options.dictionaries = FlightDictionaries::Keep;
            }
            let format = WireFormat::new(Arc::clone(&given), &options, 0)?;
            let sent = Arc::clone(format.sent_schema());
            let converts = sent != given;
            (sent, converts)
        }
        Named::Zerobus => {
            let wanted: SchemaRef = match table {
                Some(table) => table,
                None => Arc::new(on_the_wire(&given)?),
            };
            check_schema(&wanted)?;
            let conversion = StreamConversion::new(&given, &wanted)?;
            (wanted, !conversion.is_free())
        }
    };
    let mut answer = Answer::default();
    answer.head.insert("converts".into(), converts.into());
    answer.parts.push(written(&wire)?.into());
    Ok(answer)
}

fn written(schema: &SchemaRef) -> Result<Vec<u8>> {
    let written =
        contained(|| Ok(StreamWriter::try_new(Vec::new(), schema).and_then(|writer| writer.into_inner())))?;
    written.map_err(|error| {
        Error::new(Code::SchemaMismatch, "Arrow IPC cannot say this schema").caused_by(&error)
    })
}
