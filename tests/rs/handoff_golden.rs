//! the Arrow project's own integration files. They are read where they lie, beside the
//! project or where `ARROW_TESTING` says, and are no part of it; a clone without them skips these tests, and
//! `npm test` says so at its end.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow_ingest::error::Code;
use arrow_ingest::handoff::{Foreign, HandoffBatch, IpcBytes, Pool, decode_schema};

use crate::golden::{golden_root, no_golden_files};
use crate::handoff_explode::{Shape, crosses_as_buffers};
use crate::handoff_random::{MODES, arrives};
use crate::skipped::skipped;

fn cases(test: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(folders) = fs::read_dir(golden_root()) else {
        skipped(test, &no_golden_files());
        return Vec::new();
    };
    let mut cases: Vec<PathBuf> = folders
        .flatten()
        .filter(|folder| wanted(&folder.file_name().to_string_lossy()))
        .flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "stream" || end == "arrow_file")
        })
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn little_endian(test: &str) -> Vec<PathBuf> {
    cases(test, |folder| {
        folder.starts_with(|first: char| first.is_ascii_digit()) && !folder.contains("bigendian")
    })
}

fn ipc(bytes: &[u8], rows: Option<usize>) -> HandoffBatch {
    HandoffBatch::Ipc(IpcBytes {
        bytes: Foreign::from_buffer(bytes.to_vec().into()),
        rows,
    })
}

/// What arrow-rs reads when it is left alone with a file that it can trust.
fn expected(path: &Path) -> Vec<RecordBatch> {
    let file = fs::File::open(path).unwrap();
    match path.extension().unwrap().to_str() {
        Some("stream") => StreamReader::try_new(file, None)
            .unwrap()
            .map(Result::unwrap)
            .collect(),
        _ => FileReader::try_new(file, None)
            .unwrap()
            .map(Result::unwrap)
            .collect(),
    }
}

#[test]
fn golden_ipc_bytes_arrive_whole() {
    for path in little_endian("golden_ipc_bytes_arrive_whole") {
        let expected = expected(&path);
        let rows = expected.iter().map(RecordBatch::num_rows).sum();
        let bytes = fs::read(&path).unwrap();
        for payload in MODES {
            let imported = ipc(&bytes, Some(rows))
                .import(payload, &Pool::new(1 << 20))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(imported.batches, expected, "{}", path.display());
        }
        let wrong = ipc(&bytes, Some(rows + 1))
            .import(MODES[0], &Pool::new(0))
            .unwrap_err();
        assert_eq!(wrong.code(), Code::BatchInvalid);
    }
}

#[test]
fn golden_batches_cross_as_buffers() {
    for path in little_endian("golden_batches_cross_as_buffers") {
        for batch in expected(&path) {
            if !batch
                .schema()
                .fields()
                .iter()
                .all(|field| crosses_as_buffers(field.data_type()))
            {
                continue;
            }
            for (shift, misalign) in [(0, 0), (5, 1), (64, 8)] {
                for payload in MODES {
                    let shape = Shape {
                        shift,
                        misalign,
                        ..Shape::default()
                    };
                    arrives(&batch, &shape, payload);
                    let start = batch.num_rows() / 3;
                    arrives(&batch.slice(start, batch.num_rows() - start), &shape, payload);
                }
            }
        }
    }
}

#[test]
fn golden_big_endian_bytes_are_refused_in_so_many_words() {
    for path in cases("golden_big_endian_bytes_are_refused_in_so_many_words", |folder| {
        folder.contains("bigendian")
    }) {
        let bytes = fs::read(&path).unwrap();
        let error = ipc(&bytes, None).import(MODES[1], &Pool::new(0)).unwrap_err();
        assert_eq!(error.code(), Code::BatchInvalid);
        assert!(
            error.message().contains("big-endian"),
            "{}: {error}",
            path.display()
        );
        if path.extension().is_some_and(|end| end == "stream") {
            assert!(
                decode_schema(&bytes)
                    .unwrap_err()
                    .message()
                    .contains("big-endian")
            );
        }
    }
}
