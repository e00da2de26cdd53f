//! Rows → partitions: which rows go where, and what the log and the path call it.
//!
//! Invariants:
//! - Equal values are one partition, nulls are one too, and rows keep their order within it.
//! - The value in the log is exact; the directory is only a convention, and no reader may rely on it.
//! - The protocol writes null as the empty string, so an empty string cannot be a partition value: it
//!   would come back as null. It is refused, naming its row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, SchemaRef, TimestampMicrosecondType,
};
use arrow::row::{RowConverter, SortField};
use arrow::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};

use super::stats::decimal;
use crate::error::{Code, Error, Result};

/// One partition: its values as the log has them, and its directory.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub values: Vec<(String, Option<String>)>,
    /// Relative to the table, with a slash at its end; empty for a table without partitions.
    pub directory: String,
}

impl Key {
    pub fn whole_table() -> Key {
        Key {
            values: Vec::new(),
            directory: String::new(),
        }
    }
}

/// Splits batches of one schema by some of its columns.
pub struct Splitter {
    columns: Vec<usize>,
    kept: Vec<usize>,
    types: Vec<DataType>,
    names: Vec<String>,
    rows: RowConverter,
    known: HashMap<Box<[u8]>, Arc<Key>>,
}

impl Splitter {
    /// # Errors
    /// `SCHEMA_MISMATCH` for a partition column of a type that has no exact text.
    pub fn new(schema: &SchemaRef, by: &[String]) -> Result<Splitter> {
        let mut columns = Vec::new();
        let mut types = Vec::new();
        for name in by {
            let index = schema.index_of(name).map_err(|_| {
                Error::new(
                    Code::SchemaMismatch,
                    format!("partition column {name} is not in the table"),
                )
                .in_field(name)
            })?;
            let plain = plain(schema.field(index).data_type()).ok_or_else(|| {
                let found = schema.field(index).data_type();
                Error::new(
                    Code::SchemaMismatch,
                    format!(
                        "column {name} ({found}) cannot partition a table: its values have no exact text"
                    ),
                )
                .in_field(name)
            })?;
            columns.push(index);
            types.push(plain);
        }
        let fields = types.iter().cloned().map(SortField::new).collect();
        let rows = RowConverter::new(fields).map_err(|error| {
            Error::new(Code::Internal, "partition values cannot be compared").caused_by(&error)
        })?;
        Ok(Splitter {
            kept: (0..schema.fields().len())
                .filter(|index| !columns.contains(index))
                .collect(),
            columns,
            types,
            names: by.to_vec(),
            rows,
            known: HashMap::new(),
        })
    }

    /// The batch without partition columns, in one piece per partition.
    pub fn split(&mut self, batch: &RecordBatch) -> Result<Vec<(Arc<Key>, RecordBatch)>> {
        let internal =
            |error| Error::new(Code::Internal, "rows cannot be split by partition").caused_by(&error);
        let values: Vec<ArrayRef> = self
            .columns
            .iter()
            .zip(&self.types)
            .map(|(index, plain)| cast(batch.column(*index), plain).map_err(internal))
            .collect::<Result<_>>()?;
        let rows = self.rows.convert_columns(&values).map_err(internal)?;
        let mut groups: HashMap<&[u8], usize> = HashMap::new();
        let mut members: Vec<Vec<u32>> = Vec::new();
        let mut last: Option<(&[u8], usize)> = None;
        for (number, row) in rows.iter().enumerate() {
            let bytes = row.data();
            let group = match last {
                // Data is often sorted or nearly so; then no hash is needed.
                Some((before, group)) if before == bytes => group,
                _ => *groups.entry(bytes).or_insert_with(|| {
                    members.push(Vec::new());
                    members.len() - 1
                }),
            };
            last = Some((bytes, group));
            members[group].push(number as u32);
        }
        let kept = batch.project(&self.kept).map_err(internal)?;
        let mut parts = Vec::with_capacity(members.len());
        for members in members {
            let first = members[0] as usize;
            let key = self.key(rows.row(first).data(), &values, first)?;
            let part = if members.len() == batch.num_rows() {
                kept.clone()
            } else {
                take_record_batch(&kept, &UInt32Array::from(members)).map_err(internal)?
            };
            parts.push((key, part));
        }
        Ok(parts)
    }

    fn key(&mut self, bytes: &[u8], values: &[ArrayRef], row: usize) -> Result<Arc<Key>> {
        // A bound for producers that run for months over ever new partitions.
        const REMEMBERED: usize = 10_000;
        if let Some(key) = self.known.get(bytes) {
            return Ok(Arc::clone(key));
        }
        let mut directory = String::new();
        let mut pairs = Vec::with_capacity(self.names.len());
        for (name, array) in self.names.iter().zip(values) {
            let text = text(array, row).map_err(|why| {
                Error::new(Code::BatchInvalid, format!("column {name}: {why}"))
                    .in_field(name)
                    .at_row(row as u64)
                    .during("write")
            })?;
            directory.push_str(&segment(name, text.as_deref()));
            directory.push('/');
            pairs.push((name.clone(), text));
        }
        let key = Arc::new(Key {
            values: pairs,
            directory,
        });
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(bytes.into(), Arc::clone(&key));
        Ok(key)
    }
}

/// The type under dictionaries, views and long offsets; none if it cannot partition.
fn plain(found: &DataType) -> Option<DataType> {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::LargeUtf8),
        DataType::Dictionary(_, values) => plain(values),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Timestamp(_, _)
        | DataType::Decimal128(_, _) => Some(found.clone()),
        _ => None,
    }
}

fn text(array: &ArrayRef, row: usize) -> std::result::Result<Option<String>, String> {
    if array.is_null(row) {
        return Ok(None);
    }
    let text = match array.data_type() {
        DataType::LargeUtf8 => {
            let text = array.as_string::<i64>().value(row);
            if text.is_empty() {
                return Err("an empty string in a partition column would come back as null".into());
            }
            text.to_string()
        }
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => format!("{:?}", array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Date32 => date32_to_datetime(array.as_primitive::<Date32Type>().value(row))
            .map(|date| date.format("%Y-%m-%d").to_string())
            .filter(|text| text.len() == 10)
            .ok_or("a date outside the years 0 to 9999 cannot be a partition value")?,
        DataType::Timestamp(_, _) => {
            timestamp_us_to_datetime(array.as_primitive::<TimestampMicrosecondType>().value(row))
                .map(|time| time.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
                .filter(|text| text.len() == 26)
                .ok_or("a time outside the years 0 to 9999 cannot be a partition value")?
        }
        DataType::Decimal128(_, scale) => decimal(
            array.as_primitive::<Decimal128Type>().value(row),
            i32::from(*scale),
        ),
        other => return Err(format!("{other} cannot be a partition value")),
    };
    Ok(Some(text))
}

/// `name=value`, escaped as Hive does, and short enough for a file system.
fn segment(name: &str, value: Option<&str>) -> String {
    const MOST: usize = 200;
    let whole = format!(
        "{}={}",
        escape(name),
        value.map_or("__HIVE_DEFAULT_PARTITION__".into(), escape)
    );
    if whole.len() <= MOST {
        return whole;
    }
    // Names end at 255 bytes. Two long values may share the prefix, so their checksum tells them apart.
    let head: String = whole.chars().take(MOST - 12).collect();
    format!(
        "{}~{:08x}",
        head.trim_end_matches('%'),
        crc32c::crc32c(whole.as_bytes())
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => escaped.push(char::from(byte)),
            // A name of dots alone is a directory of its own.
            b'.' if text.len() > 2 => escaped.push('.'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_name_is_safe_on_any_file_system() {
        assert_eq!(segment("k", Some("a/b =ü.")), "k=a%2Fb%20%3D%C3%BC.");
        assert_eq!(segment("k", Some("..")), "k=%2E%2E");
        assert_eq!(segment("k", None), "k=__HIVE_DEFAULT_PARTITION__");
        let (one, two) = ("x".repeat(400) + "1", "x".repeat(400) + "2");
        assert!(segment("k", Some(&one)).len() < 220);
        assert_ne!(segment("k", Some(&one)), segment("k", Some(&two)));
    }
}
