//! What the service does not take, found before it is asked.
//!
//! Invariants:
//! - A schema is refused with every reason at once, each naming its column.
//! - Measuring reads no payload but offsets, and no row alone unless a range that holds it is too large.
//!
//! It changes nothing; rows that are too large are named and left to others.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema};

use super::super::flight::arrays::{Sink, walk};
use crate::error::{Code, Error, Result};

pub const COLUMNS: usize = 2_000;
pub const ROW_BYTES: usize = 4_194_285;
/// What a message may take: four MiB, less what its header and padding need.
pub const MESSAGE_BYTES: usize = (4 << 20) - (64 << 10);
/// What the official client cuts a batch by, as `arrow-flight` does by default.
const CUT_BYTES: usize = 2 << 20;
/// Of one column, itself included.
pub const NESTING: usize = 10;

/// Letters, digits and underscores: what tables, columns and fields may be called.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// # Errors
/// `SCHEMA_MISMATCH` naming every column that the service would refuse.
pub fn check_schema(schema: &Schema) -> Result<()> {
    let mut mistakes = Vec::new();
    let count = schema.fields().len();
    if count > COLUMNS {
        let first = schema.field(COLUMNS).name();
        mistakes.push((
            first.clone(),
            format!("one of {count} columns, and the service takes {COLUMNS}"),
        ));
    }
    for field in schema.fields() {
        check_names(field, field.name(), &mut mistakes);
        let depth = depth(field.data_type());
        if depth > NESTING {
            let text = format!("nested {depth} deep, and the service takes {NESTING}");
            mistakes.push((field.name().clone(), text));
        }
    }
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(mismatch(&mistakes)),
    }
}

fn check_names(field: &Field, path: &str, mistakes: &mut Vec<(String, String)>) {
    if !is_name(field.name()) {
        let text = "the service takes letters, digits and underscores in a name";
        mistakes.push((path.to_string(), text.to_string()));
    }
    fields_of_structs(field.data_type(), &mut |inner| {
        check_names(inner, &format!("{path}.{}", inner.name()), mistakes);
    });
}

/// The fields that a column has names for: items of lists and entries of maps have none of their own.
fn fields_of_structs(data_type: &DataType, each: &mut impl FnMut(&Field)) {
    match data_type {
        DataType::Struct(fields) => fields.iter().for_each(|field| each(field)),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            fields_of_structs(item.data_type(), each);
        }
        DataType::Map(entries, _) => {
            if let DataType::Struct(entries) = entries.data_type() {
                for entry in entries {
                    fields_of_structs(entry.data_type(), each);
                }
            }
        }
        _ => {}
    }
}

fn depth(data_type: &DataType) -> usize {
    let deepest = |fields: &mut dyn Iterator<Item = &DataType>| fields.map(depth).max().unwrap_or(0);
    1 + match data_type {
        DataType::Struct(fields) => deepest(&mut fields.iter().map(|field| field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            depth(item.data_type())
        }
        // The struct between a map and its values is Arrow's, not the table's.
        DataType::Map(entries, _) => depth(entries.data_type()) - 1,
        _ => 0,
    }
}

/// The rows that are too large, with their bytes.
pub fn large_rows(batch: &RecordBatch, limit: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    search(batch, 0, batch.num_rows(), limit, &mut found);
    found
}

fn search(batch: &RecordBatch, start: usize, rows: usize, limit: usize, found: &mut Vec<(usize, usize)>) {
    // All rows together are no smaller than any of them.
    let bytes = bytes(batch, start, rows);
    if rows == 0 || bytes <= limit {
        return;
    }
    if rows == 1 {
        return found.push((start, bytes));
    }
    let half = rows / 2;
    search(batch, start, half, limit, found);
    search(batch, start + half, rows - half, limit, found);
}

/// The same rows in batches that the official client will not cut into a message above `limit`: it cuts by
/// the number of rows, so that a few large rows among small ones end up in one part.
pub fn evened(batch: RecordBatch, limit: usize, evened: &mut Vec<RecordBatch>) {
    let rows = batch.num_rows();
    if rows < 2 || bytes(&batch, 0, rows) <= limit {
        return evened.push(batch);
    }
    let columns = batch.columns().iter();
    let memory: usize = columns.map(|column| column.get_buffer_memory_size()).sum();
    let cut = (rows / (memory / CUT_BYTES + 1)).max(1);
    let fits = |start| bytes(&batch, start, cut.min(rows - start)) <= limit;
    if (0..rows).step_by(cut).all(fits) {
        return evened.push(batch);
    }
    let half = rows / 2;
    self::evened(batch.slice(0, half), limit, evened);
    self::evened(batch.slice(half, rows - half), limit, evened);
}

fn bytes(batch: &RecordBatch, start: usize, rows: usize) -> usize {
    let mut scale = Scale(0);
    for column in batch.columns() {
        let column: ArrayRef = column.slice(start, rows);
        walk(&column, &mut scale);
    }
    scale.0
}

struct Scale(usize);

impl Sink for Scale {
    fn node(&mut self, _: usize, _: usize) {}
    fn buffer(&mut self, length: usize, _: impl FnOnce() -> Buffer) {
        self.0 += length;
    }
    fn variadic(&mut self, _: usize) {}
}

/// Everything that is wrong with a schema, in one error that names the first column in `field`.
pub fn mismatch(mistakes: &[(String, String)]) -> Error {
    let lines: Vec<String> = mistakes
        .iter()
        .map(|(field, text)| format!("{field}: {text}"))
        .collect();
    let error = Error::new(Code::SchemaMismatch, lines.join("; ")).during("open");
    match mistakes.first() {
        Some((field, _)) => error.in_field(field),
        None => error,
    }
}
