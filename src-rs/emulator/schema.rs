//! What a client sends against what its table holds: at set-up by schema, then batch by batch.
//!
//! Invariants:
//! - A schema is refused with every cause at once, each with the column that it is about.
//! - A batch of an accepted schema either fits the table whole or is refused whole.
//!
//! Accepted is what the official crate makes of a table's columns, and the small forms of its text,
//! binary and map types; nothing is accepted here that only looks reasonable.

use std::collections::BTreeSet;

use arrow::array::{Array, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::fault::Cause;
use super::types::{Column, Type};

/// Why a schema was refused.
#[derive(Debug, Default)]
pub struct Mismatch {
    pub causes: BTreeSet<Cause>,
    pub details: Vec<String>,
}

impl Mismatch {
    fn add(&mut self, cause: Cause, detail: String) {
        self.causes.insert(cause);
        self.details.push(detail);
    }
}

/// Limits of the service.
const MAX_COLUMNS: usize = 2_000;

/// The columns of a table that is made for this schema.
///
/// # Errors
/// The columns that no table can hold.
pub fn columns_of(schema: &Schema) -> Result<Vec<Column>, Mismatch> {
    let mut mismatch = Mismatch::default();
    let mut columns = Vec::new();
    for field in schema.fields() {
        let name = field.name();
        if name.is_empty()
            || !name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        {
            let text = format!("column {name:?}: a name is made of letters, digits and underscores");
            mismatch.add(Cause::FieldNotInTable, text);
        }
        match Column::of_arrow(field) {
            Some(column) => columns.push(column),
            None => {
                let text = format!("column {name:?}: {} is not taken", field.data_type());
                mismatch.add(Cause::TypeIncompatible, text);
            }
        }
    }
    if schema.fields().is_empty() || schema.fields().len() > MAX_COLUMNS {
        let text = format!(
            "{} columns, where 1 to {MAX_COLUMNS} are taken",
            schema.fields().len()
        );
        mismatch.add(Cause::FieldCountMismatch, text);
    }
    if mismatch.causes.is_empty() {
        Ok(columns)
    } else {
        Err(mismatch)
    }
}

/// Whether a stream of this schema may write to a table of these columns.
///
/// # Errors
/// All that is wrong with it.
pub fn check(columns: &[Column], sent: &Schema) -> Result<(), Mismatch> {
    let mut mismatch = Mismatch::default();
    let mut places = Vec::new();
    for field in sent.fields() {
        let name = field.name();
        let Some(place) = columns.iter().position(|column| column.name == *name) else {
            mismatch.add(
                Cause::FieldNotInTable,
                format!("column {name:?} is not in the table"),
            );
            continue;
        };
        if places.contains(&place) {
            mismatch.add(
                Cause::FieldCountMismatch,
                format!("column {name:?} is sent twice"),
            );
        } else if places.last().is_some_and(|last| *last > place) {
            mismatch.add(
                Cause::FieldOutOfOrder,
                format!("column {name:?} is out of the table's order"),
            );
        }
        places.push(place);
        fits(&columns[place].kind, field, name, &mut mismatch);
    }
    for (place, column) in columns.iter().enumerate() {
        if !column.nullable && !places.contains(&place) {
            let text = format!("column {:?} allows no nulls and is not sent", column.name);
            mismatch.add(Cause::MissingRequiredColumn, text);
        }
    }
    if mismatch.causes.is_empty() {
        Ok(())
    } else {
        Err(mismatch)
    }
}

fn fits(wanted: &Type, sent: &Field, path: &str, mismatch: &mut Mismatch) {
    use DataType as Sent;
    let micros = |zone: &Option<std::sync::Arc<str>>| zone.as_deref() == Some("UTC");
    let fine = match (wanted, sent.data_type()) {
        (Type::Boolean, Sent::Boolean)
        | (Type::Byte, Sent::Int8)
        | (Type::Short, Sent::Int16)
        | (Type::Integer, Sent::Int32)
        | (Type::Long, Sent::Int64)
        | (Type::Float, Sent::Float32)
        | (Type::Double, Sent::Float64)
        | (Type::String | Type::Decimal(..), Sent::LargeUtf8 | Sent::Utf8)
        | (Type::Binary, Sent::LargeBinary | Sent::Binary)
        | (Type::Date, Sent::Date32)
        | (Type::TimestampNtz, Sent::Timestamp(TimeUnit::Microsecond, None)) => true,
        (Type::Timestamp, Sent::Timestamp(TimeUnit::Microsecond, zone)) => micros(zone),
        (Type::Variant, Sent::Struct(fields)) => {
            let is_binary = |field: &Field| matches!(field.data_type(), Sent::LargeBinary | Sent::Binary);
            fields.len() == 2
                && [(0, "metadata"), (1, "value")]
                    .iter()
                    .all(|(index, name)| fields[*index].name() == name && is_binary(&fields[*index]))
        }
        (Type::Array(item), Sent::List(field)) => {
            return fits(item, field, &format!("{path}.element"), mismatch);
        }
        (Type::Map(key, value), Sent::Map(entries, _)) => match entries.data_type() {
            Sent::Struct(fields) if fields.len() == 2 => {
                fits(key, &fields[0], &format!("{path}.key"), mismatch);
                return fits(value, &fields[1], &format!("{path}.value"), mismatch);
            }
            _ => false,
        },
        (Type::Struct(columns), Sent::Struct(fields)) => {
            if columns.len() != fields.len() {
                let text = format!("{path:?} has {} fields, not {}", columns.len(), fields.len());
                return mismatch.add(Cause::FieldCountMismatch, text);
            }
            for (column, field) in columns.iter().zip(fields) {
                let path = format!("{path}.{}", column.name);
                if column.name != *field.name() {
                    let known = columns.iter().any(|column| column.name == *field.name());
                    let cause = if known {
                        Cause::FieldOutOfOrder
                    } else {
                        Cause::FieldNotInTable
                    };
                    mismatch.add(
                        cause,
                        format!("{:?} is sent in the place of {path:?}", field.name()),
                    );
                } else {
                    fits(&column.kind, field, &path, mismatch);
                }
            }
            return;
        }
        _ => false,
    };
    if !fine {
        let text = format!(
            "{path:?} is {}, and {} cannot go there",
            wanted.text(),
            sent.data_type()
        );
        mismatch.add(Cause::TypeIncompatible, text);
    }
}

/// The batch as its table stores it: all columns, in the table's order and types.
///
/// # Errors
/// A sentence about the first column that does not fit.
pub fn conform(batch: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch, String> {
    const STRICT: CastOptions<'static> = CastOptions {
        safe: false,
        format_options: arrow::util::display::FormatOptions::new(),
    };
    let mut columns = Vec::with_capacity(stored.fields().len());
    for field in stored.fields() {
        let column = match batch.column_by_name(field.name()) {
            None => new_null_array(field.data_type(), batch.num_rows()),
            Some(column) if column.data_type() == field.data_type() => column.clone(),
            Some(column) => cast_with_options(column, field.data_type(), &STRICT)
                .map_err(|error| format!("column {:?}: {error}", field.name()))?,
        };
        if !field.is_nullable() && column.logical_null_count() > 0 {
            let row = (0..column.len())
                .find(|row| column.is_null(*row))
                .unwrap_or_default();
            return Err(format!(
                "column {:?} allows no nulls, and row {row} has one",
                field.name()
            ));
        }
        columns.push(column);
    }
    RecordBatch::try_new(stored.clone(), columns).map_err(|error| error.to_string())
}
