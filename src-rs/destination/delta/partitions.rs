//! Rows → partitions: which rows go where, and what the log and the path call it.
//!
//! Invariants:
//! - Equal values are one partition, nulls are one too, and rows keep their order within it, through all batches
//!   of a commit.
//! - The value in the log is exact; the directory is only a convention, and no reader may rely on it.
//! - The protocol writes null as the empty string, so an empty string cannot be a partition value: it
//!   would come back as null. It is refused, naming its row, before the batch is taken.
//! - What a row costs here does not depend on how many partitions there are, nor on how they are mixed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
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

/// Finds the partitions of batches of one schema by some of its columns, and numbers them as they come.
pub struct Splitter {
    columns: Vec<usize>,
    kept: Vec<usize>,
    types: Vec<DataType>,
    names: Vec<String>,
    rows: RowConverter,
    /// Of this commit, as `keys`: a producer that runs for months has ever new ones.
    numbers: HashMap<Box<[u8]>, u32>,
    keys: Vec<Arc<Key>>,
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
            numbers: HashMap::new(),
            keys: Vec::new(),
        })
    }

    /// The partition of each row, by its number.
    ///
    /// # Errors
    /// `BATCH_INVALID` naming column and row for a value that cannot be one of a partition.
    pub fn number(&mut self, batch: &RecordBatch) -> Result<Vec<u32>> {
        let internal =
            |error| Error::new(Code::Internal, "rows cannot be split by partition").caused_by(&error);
        let values: Vec<ArrayRef> = self
            .columns
            .iter()
            .zip(&self.types)
            .map(|(index, plain)| cast(batch.column(*index), plain).map_err(internal))
            .collect::<Result<_>>()?;
        let rows = self.rows.convert_columns(&values).map_err(internal)?;
        let mut numbers = Vec::with_capacity(batch.num_rows());
        let mut last: Option<(&[u8], u32)> = None;
        for (row, bytes) in rows.iter().enumerate() {
            let bytes = bytes.data();
            let number = match last {
                // Data is often sorted or nearly so; then no hash is needed.
                Some((before, number)) if before == bytes => number,
                _ => match self.numbers.get(bytes) {
                    Some(number) => *number,
                    None => {
                        let key = self.key(&values, row)?;
                        // A commit has fewer rows than that: each of them costs bytes of the budget.
                        let number = self.keys.len() as u32;
                        self.keys.push(Arc::new(key));
                        self.numbers.insert(bytes.into(), number);
                        number
                    }
                },
            };
            last = Some((bytes, number));
            numbers.push(number);
        }
        Ok(numbers)
    }

    /// The batch without its partition columns, which the log holds.
    pub fn stored(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        batch.project(&self.kept).map_err(|error| {
            Error::new(Code::Internal, "rows cannot be split by partition").caused_by(&error)
        })
    }

    /// The partitions by their numbers; numbering begins anew.
    pub fn take_keys(&mut self) -> Vec<Arc<Key>> {
        self.numbers = HashMap::new();
        std::mem::take(&mut self.keys)
    }

    fn key(&self, values: &[ArrayRef], row: usize) -> Result<Key> {
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
        Ok(Key {
            values: pairs,
            directory,
        })
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
        DataType::Timestamp(_, zone) => {
            // Of the protocol's two forms, the one without a zone is read by Spark in its session's.
            let (form, length) = match zone {
                Some(_) => ("%Y-%m-%dT%H:%M:%S%.6fZ", 27),
                None => ("%Y-%m-%d %H:%M:%S%.6f", 26),
            };
            timestamp_us_to_datetime(array.as_primitive::<TimestampMicrosecondType>().value(row))
                .map(|time| time.format(form).to_string())
                .filter(|text| text.len() == length)
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
