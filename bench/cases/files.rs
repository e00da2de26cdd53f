//! The driver of files.mjs: our decoder against the readers of arrow-json and arrow-csv, in turn, over one file.
//!
//! `bench-files <json|csv> <path> <turns>` prints one line of JSON: seconds of each turn. The reader with equal checks
//! takes numbers and instants as text and casts them strictly, which is what it takes to lose no digit by it.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json;
use arrow_ingest::files::{CsvOptions, Decoder, Format, InputLimits, Settings, Step};
use serde_json::json;

const BATCH_ROWS: usize = 65_536;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (format, path, turns) = (
        arguments.next().expect("json or csv"),
        arguments.next().expect("a path"),
        arguments
            .next()
            .expect("turns")
            .parse::<usize>()
            .expect("a number"),
    );
    let (mut ours, mut plain, mut checked) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = 0;
    // The first turn warms up and is not kept.
    for turn in 0..=turns {
        let start = Instant::now();
        rows = decode(&format, &path);
        let first = start.elapsed().as_secs_f64();
        let start = Instant::now();
        assert_eq!(read(&format, &path, schema(), None), rows);
        let second = start.elapsed().as_secs_f64();
        let start = Instant::now();
        assert_eq!(read(&format, &path, texts(), Some(schema())), rows);
        let third = start.elapsed().as_secs_f64();
        if turn > 0 {
            ours.push(first);
            plain.push(second);
            checked.push(third);
        }
    }
    let line = json!({ "rows": rows, "ours": ours, "plain": plain, "checked": checked });
    #[allow(clippy::print_stdout, reason = "it is what files.mjs reads")]
    {
        println!("{line}");
    }
}

fn schema() -> SchemaRef {
    let zone: Arc<str> = "UTC".into();
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some(zone)), true),
    ]))
}

fn texts() -> SchemaRef {
    let fields = schema();
    let fields = fields.fields().iter().map(|field| match field.data_type() {
        DataType::Boolean => field.clone(),
        _ => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn decode(format: &str, path: &str) -> usize {
    let settings = Settings {
        format: Some(match format {
            "json" => Format::Json,
            _ => Format::Csv(CsvOptions::default()),
        }),
        fallback: None,
        batch_bytes: 8 << 20,
        drop_unknown: false,
        side_by_side: 1,
        limits: InputLimits {
            max_record_bytes: 16 << 20,
            max_expansion: 256,
            max_temporary_bytes: 1 << 30,
        },
    };
    let file = File::open(path).expect("the file");
    let mut decoder = Decoder::of_file(file, settings, Some(schema()));
    let mut rows = 0;
    loop {
        match decoder.step(false).expect("a file without faults") {
            Step::Part(part) => {
                assert!(part.rejections.is_empty());
                rows += part.rows;
            }
            Step::Done => return rows,
            _ => {}
        }
    }
}

fn read(format: &str, path: &str, schema: SchemaRef, cast: Option<SchemaRef>) -> usize {
    let file = BufReader::with_capacity(256 << 10, File::open(path).expect("the file"));
    let reader: Box<dyn RecordBatchReader> = match format {
        "json" => Box::new(
            json::ReaderBuilder::new(schema)
                .with_batch_size(BATCH_ROWS)
                .with_coerce_primitive(cast.is_some())
                .with_strict_mode(true)
                .build(file)
                .expect("a reader"),
        ),
        _ => Box::new(
            csv::ReaderBuilder::new(schema)
                .with_batch_size(BATCH_ROWS)
                .with_header(true)
                .build(file)
                .expect("a reader"),
        ),
    };
    let mut rows = 0;
    for batch in reader {
        let batch = batch.expect("a file without faults");
        rows += batch.num_rows();
        if let Some(schema) = &cast {
            strictly(&batch, schema);
        }
    }
    rows
}

fn strictly(batch: &RecordBatch, schema: &SchemaRef) {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        let cast = cast_with_options(column, field.data_type(), &options).expect("values that fit");
        assert_eq!(cast.len(), batch.num_rows());
    }
}
