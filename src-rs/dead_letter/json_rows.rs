//! Refused rows that are no Arrow values → dead letters with one column of JSON.
//!
//! It reads what `src-ts/client/dead-rows.ts` writes (`specs/boundary.md`) and does not look into the JSON of a row:
//! it is text here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde::Deserialize;

use super::DeadLetterRows;
use crate::outcome::Rejection;
use crate::row_files::FileError;

/// The column. A name that a schema of rows is unlikely to have; readers go by the metadata.
const COLUMN: &str = "row_json";

#[derive(Deserialize)]
struct JsonRows {
    metadata: HashMap<String, String>,
    rows: Vec<JsonRow>,
}

#[derive(Deserialize)]
struct JsonRow {
    row: u64,
    code: String,
    message: String,
    json: String,
}

impl DeadLetterRows {
    /// # Errors
    /// `text` is not what the other side of the boundary writes.
    pub fn of_json(sequence: u64, text: &str) -> Result<DeadLetterRows, FileError> {
        let JsonRows { metadata, rows } =
            serde_json::from_str(text).map_err(|error| FileError::Rows(error.to_string()))?;
        let schema = Arc::new(Schema::new_with_metadata(
            vec![Field::new(COLUMN, DataType::Utf8, false)],
            metadata,
        ));
        let column = StringArray::from_iter_values(rows.iter().map(|row| &row.json));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(column)])?;
        let rejections = rows.into_iter().map(|row| Rejection {
            row: row.row,
            code: row.code,
            message: row.message,
        });
        Ok(DeadLetterRows {
            schema,
            batches: vec![batch],
            sequence,
            rejections: rejections.collect(),
        })
    }
}
