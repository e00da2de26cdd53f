//! What the drivers of several cases share.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};

/// Seconds of CPU time of this process.
pub fn cpu() -> f64 {
    let mut total = 0.0;
    // The threads that are, and those that were, count into the process's own numbers.
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    for field in [11, 12] {
        total += fields[field].parse::<f64>().expect("ticks") / 100.0;
    }
    total
}

/// Five columns of different types, 48 bytes a row.
pub fn batch(rows: usize) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("value", DataType::Float64, false),
        Field::new("code", DataType::Int32, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(
            (0..rows).map(|row| row as i64 * 7919),
        )),
        Arc::new(Float64Array::from_iter_values(
            (0..rows).map(|row| row as f64 / 3.0),
        )),
        Arc::new(Int32Array::from_iter_values(
            (0..rows).map(|row| row as i32 % 1000),
        )),
        Arc::new(StringArray::from_iter_values(
            (0..rows).map(|row| format!("name-{:011}", row * 31 % 99_991)),
        )),
        Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(
            (0..rows).map(|row| 1_700_000_000_000_000 + row as i64),
        )),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).expect("five columns")
}
