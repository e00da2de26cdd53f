//! Files: partitions, sizes, statistics.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_ingest::error::{Code, Error};
use serde_json::{Value, json};

use crate::support::{Table, columns, error, rows};

/// A small commit is one file, however many writes it took.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_commit_is_one_file() {
    let table = Table::new();
    let batches: Vec<RecordBatch> = (0..50).map(|n| rows(n * 10, n * 10 + 10)).collect();
    table.append(&batches, json!({})).await.unwrap();
    assert_eq!(table.adds().len(), 1);
    assert_eq!(table.ids(), (0..500).collect::<Vec<_>>());
}

/// A large commit is written by several encoders, and files roll at the target size.
#[tokio::test(flavor = "multi_thread")]
async fn files_roll_at_the_target_size() {
    let table = Table::new();
    let options = json!({"delta": {"targetFileSize": "100KB", "compression": "none"}});
    let batches: Vec<RecordBatch> = (0..10).map(|n| rows(n * 20_000, n * 20_000 + 20_000)).collect();
    table.append(&batches, options).await.unwrap();
    let adds = table.adds();
    assert!(adds.len() > 5, "{}", adds.len());
    for add in &adds {
        let size = add["size"].as_u64().unwrap();
        assert!(size < 250_000, "{size}");
        let path = table.path().join(add["path"].as_str().unwrap());
        assert_eq!(std::fs::metadata(path).unwrap().len(), size);
    }
    assert_eq!(table.ids(), (0..200_000).collect::<Vec<_>>());
}

/// Every codec is one that readers know.
#[tokio::test(flavor = "multi_thread")]
async fn every_compression_can_be_read() {
    for compression in ["none", "snappy", "zstd", "lz4"] {
        let table = Table::new();
        table
            .append(&[rows(0, 1000)], json!({"delta": {"compression": compression}}))
            .await
            .unwrap();
        assert_eq!(table.ids().len(), 1000);
        let path = table.adds()[0]["path"].as_str().unwrap().to_string();
        assert_eq!(path.contains(compression), compression != "none", "{path}");
    }
}

fn partitioned(keys: Vec<Option<&str>>) -> RecordBatch {
    let ids = Int64Array::from_iter_values(0..keys.len() as i64);
    columns(vec![
        ("id", Arc::new(ids) as ArrayRef),
        ("key", Arc::new(StringArray::from(keys))),
    ])
}

/// Nulls, separators, spaces, other scripts and very long values are partitions like any other.
#[tokio::test(flavor = "multi_thread")]
async fn partition_values_survive_whatever_they_hold() {
    let long = "lang/".repeat(100);
    let keys = vec![
        Some("plain"),
        None,
        Some("a/b=c"),
        Some(" space "),
        Some("ü–漢"),
        Some("%41"),
        Some("plain"),
        Some(".."),
        Some(&long),
        None,
        Some("'quote\"\\"),
        Some("__HIVE_DEFAULT_PARTITION__x"),
    ];
    let table = Table::new();
    let options = json!({"delta": {"partitionBy": ["key"]}});
    table
        .append(
            &[partitioned(keys.clone()), partitioned(keys.clone())],
            options.clone(),
        )
        .await
        .unwrap();
    let adds = table.adds();
    assert_eq!(adds.len(), 10);
    let mut seen = 0;
    for add in &adds {
        let value = &add["partitionValues"]["key"];
        for batch in table.read(add) {
            assert_eq!(batch.num_columns(), 1, "partition columns are not in the file");
            for id in
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(0)).values()
            {
                assert_eq!(value.as_str(), keys[*id as usize], "{add}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 2 * keys.len());
    assert_eq!(table.by_deltalake().await.get_file_uris().unwrap().count(), 10);
    // By another order of columns, or by none, it is not the same table.
    let other = error(table.connect(json!({"delta": {"partitionBy": ["id"]}})).await);
    assert_eq!(other.code(), Code::SchemaMismatch);
    table
        .append(&[partitioned(vec![Some("x")])], json!({}))
        .await
        .unwrap();
}

/// The protocol writes null as an empty string, so an empty string is refused rather than lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_string_is_no_partition_value() {
    let table = Table::new();
    let options = json!({"delta": {"partitionBy": ["key"]}});
    let mut writer = table.writer(&partitioned(vec![None]), options).await.unwrap();
    let batches = [
        partitioned(vec![Some("x"), None]),
        partitioned(vec![Some("x"), Some("")]),
    ];
    let refused = error(writer.write_all(0, &batches).await);
    assert_eq!(refused.code(), Code::BatchInvalid);
    assert_eq!((refused.field(), refused.row()), (Some("key"), Some(3)));
}

/// R-12: all that is wrong with a write is known at once, in whichever column and batch it is.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_at_fault_is_named_at_once() {
    let table = Table::new();
    let options = json!({"delta": {"partitionBy": ["key"]}});
    let strict = |ids: Vec<Option<i64>>, keys: Vec<Option<&str>>| {
        columns(vec![
            ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
            ("key", Arc::new(StringArray::from(keys)) as ArrayRef),
        ])
    };
    let good = strict(vec![Some(0)], vec![Some("x")]);
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("key", DataType::Utf8, true),
    ];
    let made = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
    table.writer(&made, options.clone()).await.unwrap();
    let mut writer = table.writer(&good, options).await.unwrap();
    let many = 5_000;
    let batches = [
        // The empty key is found first in the second column, the null before it in the first.
        strict(
            vec![Some(0), None, Some(2), Some(3)],
            vec![Some(""), Some("x"), Some("x"), Some("")],
        ),
        good.clone(),
        strict(
            (0..many).map(|n| Some(n).filter(|n| n % 1_000 != 999)).collect(),
            vec![Some("x"); many as usize],
        ),
    ];
    let refused = error(writer.write_all(0, &batches).await);
    let mut found: Vec<u64> = refused.into_faults().iter().filter_map(Error::row).collect();
    found.sort_unstable();
    let expected: Vec<u64> = [0, 1, 3]
        .into_iter()
        .chain((0..5).map(|n| 5 + 1_000 * n + 999))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_by_every_scalar_type() {
    let n = 4;
    let typed: Vec<(&str, ArrayRef, [&str; 2])> = vec![
        (
            "bool",
            Arc::new(BooleanArray::from(vec![true, false, true, false])),
            ["true", "false"],
        ),
        ("int", Arc::new(Int32Array::from(vec![-1, 2, -1, 2])), ["-1", "2"]),
        (
            "i8",
            Arc::new(arrow::array::Int8Array::from(vec![-1, 2, -1, 2])),
            ["-1", "2"],
        ),
        (
            "i16",
            Arc::new(arrow::array::Int16Array::from(vec![-1, 2, -1, 2])),
            ["-1", "2"],
        ),
        ("i64", Arc::new(Int64Array::from(vec![-1, 2, -1, 2])), ["-1", "2"]),
        (
            "f32",
            Arc::new(arrow::array::Float32Array::from(vec![0.1, 2.0, 0.1, 2.0])),
            ["0.1", "2.0"],
        ),
        (
            "double",
            Arc::new(Float64Array::from(vec![0.5, -3.0, 0.5, -3.0])),
            ["0.5", "-3.0"],
        ),
        (
            "date",
            Arc::new(Date32Array::from(vec![0, 19_000, 0, 19_000])),
            ["1970-01-01", "2022-01-08"],
        ),
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from(vec![1, -1, 1, -1]).with_timezone("UTC")),
            ["1970-01-01T00:00:00.000001Z", "1969-12-31T23:59:59.999999Z"],
        ),
        (
            "wall",
            Arc::new(TimestampMicrosecondArray::from(vec![1, -1, 1, -1])),
            ["1970-01-01 00:00:00.000001", "1969-12-31 23:59:59.999999"],
        ),
        (
            "money",
            Arc::new(
                Decimal128Array::from(vec![-105, 2, -105, 2])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
            ["-1.05", "0.02"],
        ),
    ];
    for (name, array, expected) in typed {
        let table = Table::new();
        let batch = columns(vec![
            ("id", Arc::new(Int64Array::from_iter_values(0..n)) as ArrayRef),
            (name, array),
        ]);
        table
            .append(&[batch], json!({"delta": {"partitionBy": [name]}}))
            .await
            .unwrap();
        let mut values: Vec<String> = table
            .adds()
            .iter()
            .map(|add| add["partitionValues"][name].as_str().unwrap().to_string())
            .collect();
        values.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(values, expected);
    }
    let dictionary = columns(vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..3)) as ArrayRef),
        (
            "key",
            Arc::new(
                vec!["a", "b", "a"]
                    .into_iter()
                    .collect::<arrow::array::DictionaryArray<arrow::datatypes::Int8Type>>(),
            ),
        ),
    ]);
    let table = Table::new();
    table
        .append(&[dictionary], json!({"delta": {"partitionBy": ["key"]}}))
        .await
        .unwrap();
    assert_eq!(table.adds().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_cannot_be_are_refused() {
    let cases: [(Value, Code); 3] = [
        (json!(["nowhere"]), Code::SchemaMismatch),
        (json!(["id", "key"]), Code::ConfigInvalid),
        (json!(["blob"]), Code::SchemaMismatch),
    ];
    for (by, code) in cases {
        let table = Table::new();
        let mut batch = partitioned(vec![Some("x")]);
        if by == json!(["blob"]) {
            let blob: ArrayRef = Arc::new(arrow::array::BinaryArray::from(vec![b"x".as_slice()]));
            batch = columns(vec![("id", batch.column(0).clone()), ("blob", blob)]);
        }
        let refused = error(
            table
                .append(&[batch], json!({"delta": {"partitionBy": by}}))
                .await,
        );
        assert_eq!(refused.code(), code, "{refused}");
        assert!(!table.commit_path(0).exists());
    }
}

/// A batch whose rows lie in these partitions, with ids from `first`.
fn keyed(first: i64, keys: impl Iterator<Item = String>) -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(keys));
    let ids = Int64Array::from_iter_values(first..first + keys.len() as i64);
    columns(vec![("id", Arc::new(ids) as ArrayRef), ("key", keys)])
}

/// R-10: however the rows of a commit are mixed and however many partitions there are, each is one file, and its
/// rows are in the order in which they came.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_a_commit_is_one_file() {
    const PARTITIONS: i64 = 600;
    let mix = |first: i64, rows: i64| {
        let keys =
            (first..first + rows).map(|id| format!("p{}", id.wrapping_mul(2_654_435_761) % PARTITIONS));
        keyed(first, keys)
    };
    let table = Table::new();
    let options = json!({"delta": {"partitionBy": ["key"], "commitInterval": "1h"}});
    let mut writer = table.writer(&mix(0, 1), options).await.unwrap();
    // Large ones, small ones that are joined, and one without rows.
    writer
        .write_all(0, &[mix(0, 10_000), mix(10_000, 10)])
        .await
        .unwrap();
    writer
        .write_all(1, &[mix(10_010, 3), mix(10_013, 0), mix(10_013, 7)])
        .await
        .unwrap();
    writer.write_all(2, &[mix(10_020, 10_000)]).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(table.adds().len() as i64, PARTITIONS);
    // The next commit knows nothing of the partitions of the one before.
    writer.write(3, &mix(20_020, 10)).await.unwrap();
    writer.close().await.unwrap();
    let adds = table.adds();
    assert_eq!(adds.len() as i64, PARTITIONS + 10);
    assert_eq!(table.ids(), (0..20_030).collect::<Vec<_>>());
    for add in adds {
        let partition: i64 = add["partitionValues"]["key"].as_str().unwrap()[1..]
            .parse()
            .unwrap();
        let ids: Vec<i64> = table
            .read(&add)
            .iter()
            .flat_map(|batch| {
                let ids = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(0));
                ids.values().to_vec()
            })
            .collect();
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(
            ids.iter()
                .all(|id| id.wrapping_mul(2_654_435_761) % PARTITIONS == partition)
        );
    }
}

/// Partitions of more rows than are copied at once roll at the target size; those beside them stay one file.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_partition_rolls_at_the_target_size() {
    let table = Table::new();
    let delta = json!({"partitionBy": ["key"], "compression": "none", "targetFileSize": "400KB", "commitInterval": "1h"});
    let key = |id: i64| {
        if id % 100 == 0 {
            format!("small {}", id % 700)
        } else {
            "large".to_string()
        }
    };
    let batches: Vec<RecordBatch> = (0..10)
        .map(|n| keyed(n * 20_000, (n * 20_000..n * 20_000 + 20_000).map(key)))
        .collect();
    let mut writer = table.writer(&batches[0], json!({"delta": delta})).await.unwrap();
    writer.write_all(0, &batches).await.unwrap();
    writer.close().await.unwrap();
    let adds = table.adds();
    let of = |value: &str| {
        adds.iter()
            .filter(|add| add["partitionValues"]["key"] == value)
            .count()
    };
    assert!((3..8).contains(&of("large")), "{}", of("large"));
    for small in (0..700).step_by(100) {
        assert_eq!(of(&format!("small {small}")), 1);
    }
    assert_eq!(table.ids(), (0..200_000).collect::<Vec<_>>());
}

/// Dictionaries of several batches that are too many values for one key type together.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_dictionaries_that_do_not_go_together() {
    let batch = |first: i64, rows: i64| {
        let words: arrow::array::DictionaryArray<arrow::datatypes::Int8Type> = (first..first + rows)
            .map(|id| format!("word {id}"))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect();
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
            (first..first + rows).map(|id| format!("{}", id % 3)),
        ));
        columns(vec![
            (
                "id",
                Arc::new(Int64Array::from_iter_values(first..first + rows)) as ArrayRef,
            ),
            ("word", Arc::new(words)),
            ("key", keys),
        ])
    };
    for sizes in [vec![100, 100], vec![10; 20]] {
        let table = Table::new();
        let mut next = 0;
        let batches: Vec<RecordBatch> = sizes
            .iter()
            .map(|rows| {
                next += rows;
                batch(next - rows, *rows)
            })
            .collect();
        let mut writer = table
            .writer(&batches[0], json!({"delta": {"partitionBy": ["key"]}}))
            .await
            .unwrap();
        writer.write_all(0, &batches).await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(table.adds().len(), 3);
        for rows in table.batches() {
            let ids =
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(rows.column(0)).clone();
            let words = arrow::compute::cast(rows.column(1), &DataType::Utf8).unwrap();
            let words = arrow::array::AsArray::as_string::<i32>(&words);
            for (id, word) in ids.values().iter().zip(words) {
                assert_eq!(word, Some(format!("word {id}").as_str()));
            }
        }
        assert_eq!(table.ids(), (0..200).collect::<Vec<_>>());
    }
}

/// R-19: who commits little does not wait for another's large commit; and one that is given up leaves no file.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_commit_does_not_hold_up_a_small_one() {
    let (large, small) = (Table::new(), Table::new());
    let many = keyed(0, (0..20_000).map(|id| format!("p{id}")));
    let options = json!({"delta": {"partitionBy": ["key"], "commitInterval": "1h"}});
    let mut writer = large.writer(&many, options).await.unwrap();
    writer.write(0, &many).await.unwrap();
    let flushing = tokio::spawn(async move { writer.session.flush().await });
    while large.parquet_files() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    small.append(&[rows(0, 10)], json!({})).await.unwrap();
    assert_eq!(small.latest(), 1);
    assert!(!flushing.is_finished());
    flushing.abort();
    assert!(flushing.await.unwrap_err().is_cancelled());
    let start = std::time::Instant::now();
    while large.parquet_files() > 0 {
        assert!(start.elapsed().as_secs() < 20, "{} files", large.parquet_files());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(large.latest(), 0);
}

/// R-18: a file that cannot be stored while others still come fails the next write, and then the flush.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_stored_breaks_the_session() {
    let table = Table::new();
    let options = json!({"delta": {"targetFileSize": "10KB", "commitInterval": "1h"}});
    let mut writer = table.writer(&rows(0, 1), options).await.unwrap();
    std::fs::rename(table.path(), table.home.path().join("elsewhere")).unwrap();
    std::fs::write(table.path(), "in the way").unwrap();
    let start = std::time::Instant::now();
    let failed = loop {
        match writer.write(0, &rows(0, 20_000)).await {
            Ok(()) => assert!(start.elapsed().as_secs() < 20, "nothing failed"),
            Err(failed) => break failed,
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(failed.code(), Code::ConfigInvalid, "{failed}");
    assert_eq!(error(writer.flush().await).code(), Code::ConfigInvalid);
}

/// R-18: a partition that cannot be stored fails the commit, and the others leave no file behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_cannot_be_stored_leaves_nothing_behind() {
    let table = Table::new();
    let batch = keyed(0, (0..400).map(|id| format!("p{}", id % 200)));
    let options = json!({"delta": {"partitionBy": ["key"], "commitInterval": "1h"}});
    let mut writer = table.writer(&batch, options).await.unwrap();
    std::fs::write(table.path().join("key=p77"), "in the way").unwrap();
    writer.write(0, &batch).await.unwrap();
    let failed = error(writer.flush().await);
    assert_eq!(failed.code(), Code::ConfigInvalid, "{failed}");
    drop(writer);
    let start = std::time::Instant::now();
    while table.parquet_files() > 0 {
        assert!(start.elapsed().as_secs() < 10, "{} files", table.parquet_files());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(table.latest(), 0);
}

/// R-20: statistics are bounds that hold: exact where JSON can say so, absent where it cannot.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_are_true_bounds() {
    let inner = StructArray::from(vec![
        (
            Arc::new(Field::new("x", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![Some(5), None, Some(-5)])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("f", DataType::Float64, true)),
            Arc::new(Float64Array::from(vec![f64::NAN, 1.0, 2.0])) as ArrayRef,
        ),
    ]);
    let list = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>(vec![
        Some(vec![Some(1)]),
        None,
        Some(vec![]),
    ]);
    let big = 12_345_678_901_234_567_890_123_456_789_012_345_678_i128;
    let batch = columns(vec![
        ("id", Arc::new(Int64Array::from(vec![3, 1, 2])) as ArrayRef),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("b"), None, Some(&"z".repeat(100))])),
        ),
        ("f", Arc::new(Float64Array::from(vec![1.5, -0.25, 1e300]))),
        ("nan", Arc::new(Float64Array::from(vec![1.5, f64::NAN, 2.0]))),
        (
            "f32",
            Arc::new(arrow::array::Float32Array::from(vec![0.1, 0.2, 0.3])),
        ),
        (
            "nan32",
            Arc::new(arrow::array::Float32Array::from(vec![0.1, f32::NAN, 0.3])),
        ),
        ("day", Arc::new(Date32Array::from(vec![0, 19_000, -1]))),
        (
            "utc",
            Arc::new(TimestampMicrosecondArray::from(vec![1_500, 0, 7]).with_timezone("UTC")),
        ),
        (
            "ntz",
            Arc::new(TimestampMicrosecondArray::from(vec![1_500, 0, 7])),
        ),
        (
            "small",
            Arc::new(
                Decimal128Array::from(vec![-105, 7, 0])
                    .with_precision_and_scale(5, 2)
                    .unwrap(),
            ),
        ),
        (
            "middle",
            Arc::new(
                Decimal128Array::from(vec![-105, 7, 0])
                    .with_precision_and_scale(15, 2)
                    .unwrap(),
            ),
        ),
        (
            "big",
            Arc::new(
                Decimal128Array::from(vec![-big, 7, big])
                    .with_precision_and_scale(38, 10)
                    .unwrap(),
            ),
        ),
        ("none", Arc::new(Int32Array::from(vec![None, None, None]))),
        ("flag", Arc::new(BooleanArray::from(vec![true, false, true]))),
        (
            "blob",
            Arc::new(arrow::array::BinaryArray::from(vec![b"x".as_slice(), b"y", b"z"])),
        ),
        ("s", Arc::new(inner)),
        ("list", Arc::new(list)),
    ]);
    let table = Table::new();
    table.append(&[batch], json!({})).await.unwrap();
    let add = table.adds()[0].clone();
    let stats = table.stats(&add);
    let (min, max, nulls) = (&stats["minValues"], &stats["maxValues"], &stats["nullCount"]);
    assert_eq!(stats["numRecords"], 3);
    assert_eq!((&min["id"], &max["id"]), (&json!(1), &json!(3)));
    assert_eq!(min["text"], "b");
    assert_eq!(max["text"], format!("{}\u{10FFFF}", "z".repeat(32)));
    assert_eq!(nulls["text"], 1);
    assert_eq!((&min["f"], &max["f"]), (&json!(-0.25), &json!(1e300)));
    assert_eq!(
        (&min["nan"], &max["nan"], &nulls["nan"]),
        (&json!("-Infinity"), &json!("Infinity"), &json!(0))
    );
    assert_eq!(
        (min["f32"].as_f64(), max["f32"].as_f64()),
        (Some(f64::from(0.1_f32)), Some(f64::from(0.3_f32)))
    );
    assert_eq!(min["nan32"], "-Infinity");
    assert_eq!(
        (&min["day"], &max["day"]),
        (&json!("1969-12-31"), &json!("2022-01-08"))
    );
    assert_eq!(max["utc"], "1970-01-01T00:00:00.001500Z");
    assert_eq!(max["ntz"], "1970-01-01T00:00:00.001500");
    assert_eq!((&min["small"], &max["small"]), (&json!(-1.05), &json!(0.07)));
    assert_eq!((&min["middle"], &max["middle"]), (&json!(-1.05), &json!(0.07)));
    let text = add["stats"].as_str().unwrap();
    assert!(
        text.contains(r#""big":1234567890123456789012345678.9012345678"#),
        "{text}"
    );
    assert_eq!((min.get("none"), &nulls["none"]), (None, &json!(3)));
    assert_eq!((&min["flag"], &max["flag"]), (&json!(false), &json!(true)));
    assert_eq!((min.get("blob"), &nulls["blob"]), (None, &json!(0)));
    assert_eq!(
        (&min["s"]["x"], &max["s"]["x"], &nulls["s"]["x"]),
        (&json!(-5), &json!(5), &json!(1))
    );
    assert_eq!(max["s"]["f"], "Infinity");
    assert_eq!(nulls.get("list"), None);
}

/// A table says of how many columns it wants statistics.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_follow_the_table_s_wishes() {
    let table = Table::new();
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    let mut metadata = table
        .actions()
        .iter()
        .find_map(|action| action.get("metaData").cloned())
        .unwrap();
    metadata["configuration"] = json!({"delta.dataSkippingStatsColumns": "name"});
    table.write_log(2, &[json!({"metaData": metadata})]);
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    let stats = table.stats(&table.adds()[1]);
    assert_eq!(stats["minValues"], json!({"name": "name 1"}));
    metadata["configuration"] = json!({"delta.dataSkippingNumIndexedCols": "0"});
    table.write_log(4, &[json!({"metaData": metadata})]);
    table.append(&[rows(0, 10)], json!({})).await.unwrap();
    assert_eq!(table.stats(&table.adds()[2])["nullCount"], json!({}));
}

/// Batches of no columns at all have nothing to store.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_needs_a_column() {
    let table = Table::new();
    let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let refused = error(table.append(&[empty], json!({})).await);
    assert_eq!(refused.code(), Code::SchemaMismatch, "{refused}");
}

/// Several row groups in a file: its bounds are those of all of them.
#[tokio::test(flavor = "multi_thread")]
async fn bounds_cover_every_row_group() {
    const ROWS: i32 = 1_100_000;
    let flags: BooleanArray = (0..ROWS).map(|row| Some(row > 1_060_000)).collect();
    let money = Decimal128Array::from_iter_values((0..ROWS).map(i128::from));
    let texts = (0..ROWS).map(|row| if row < 1_060_000 { "a" } else { "b" });
    let batch = columns(vec![
        ("up", Arc::new(Int32Array::from_iter_values(0..ROWS)) as ArrayRef),
        ("down", Arc::new(Int32Array::from_iter_values((0..ROWS).rev()))),
        ("flag", Arc::new(flags)),
        (
            "f",
            Arc::new(Float64Array::from_iter_values((0..ROWS).map(f64::from))),
        ),
        (
            "day",
            Arc::new(Date32Array::from_iter_values((0..ROWS).map(|row| row / 1000))),
        ),
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                (0..ROWS).map(i64::from),
            )),
        ),
        ("money", Arc::new(money.with_precision_and_scale(9, 2).unwrap())),
        ("text", Arc::new(StringArray::from_iter_values(texts))),
    ]);
    let table = Table::new();
    table.append(&[batch], json!({})).await.unwrap();
    let adds = table.adds();
    assert_eq!(adds.len(), 1);
    let stats = table.stats(&adds[0]);
    let bounds = |name: &str| [stats["minValues"][name].clone(), stats["maxValues"][name].clone()];
    assert_eq!(bounds("up"), [0, 1_099_999]);
    assert_eq!(bounds("down"), [0, 1_099_999]);
    assert_eq!(bounds("flag"), [false, true]);
    assert_eq!(bounds("f"), [0.0, 1_099_999.0]);
    assert_eq!(bounds("day"), ["1970-01-01", "1973-01-04"]);
    assert_eq!(bounds("time")[1], "1970-01-01T00:00:01.099999");
    assert_eq!(bounds("money"), [0.0, 10_999.99]);
    assert_eq!(bounds("text"), ["a", "b"]);
}

/// Many small batches of a write are encoded together; a large partition gives its memory back as it goes.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_while_a_file_grows() {
    let table = Table::new();
    let mut writer = table.writer(&rows(0, 1), json!({})).await.unwrap();
    let small: Vec<RecordBatch> = (0..100).map(|n| rows(n * 3, n * 3 + 3)).collect();
    writer.write_all(0, &small).await.unwrap();
    let mixed = [rows(300, 310), rows(310, 10_310), rows(10_310, 10_320)];
    writer.write_all(1, &mixed).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(table.ids(), (0..10_320).collect::<Vec<_>>());
    // Fifteen rows of 5 MiB are more than the encoders keep: row groups end on the way.
    let table = Table::new();
    let long: Vec<String> = (b'a'..b'p')
        .map(|letter| char::from(letter).to_string().repeat(5 << 20))
        .collect();
    let batches: Vec<RecordBatch> = (0..)
        .zip(&long)
        .map(|(id, text)| {
            let texts: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
            columns(vec![
                ("id", Arc::new(Int64Array::from(vec![id])) as ArrayRef),
                ("text", texts),
            ])
        })
        .collect();
    let one_key: Vec<RecordBatch> = batches
        .iter()
        .map(|batch| {
            let key: ArrayRef = Arc::new(StringArray::from(vec!["one"]));
            columns(vec![
                ("id", batch.column(0).clone()),
                ("text", batch.column(1).clone()),
                ("key", key),
            ])
        })
        .collect();
    let options = json!({"delta": {"partitionBy": ["key"], "compression": "none", "targetFileSize": "1GB"}});
    table.append(&one_key, options).await.unwrap();
    let adds = table.adds();
    assert_eq!(adds.len(), 1);
    let file = std::fs::File::open(table.path().join(adds[0]["path"].as_str().unwrap())).unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(file).unwrap();
    assert!(parquet::file::reader::FileReader::metadata(&reader).num_row_groups() > 1);
    assert_eq!(table.ids(), (0..15).collect::<Vec<_>>());
}
