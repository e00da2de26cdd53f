//! Which columns of a file are worth a dictionary, by a sample of its rows.
//!
//! Parquet's writer looks every value of a column up in a dictionary, unless told not to, and gives the dictionary
//! up once it is larger than 1 MiB. Where that is foreseeable, or where it would save little, looking up is the
//! larger part of the time that the column takes.
//!
//! Invariants:
//! - It decides over size and time only: a reader sees the same values either way.
//! - In doubt a column has a dictionary, which is what other writers do.
//! - A sample costs the same however large the batch is.
//!
//! It says nothing of what lies in lists and maps: those keep their dictionaries.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::schema::types::ColumnPath;

/// The columns that go without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dictionaries {
    without: Vec<Vec<String>>,
}

/// Rows are looked at in runs of so many, because neighbours are often equal.
const RUN: usize = 64;
const RUNS: usize = 32;
/// What Parquet's writer lets a dictionary grow to.
const LARGEST: f64 = (1 << 20) as f64;
/// A dictionary must save three tenths of what the column would measure without.
const WORTH: f64 = 0.7;
/// A batch of fewer rows is taken for all that there is.
const MANY: usize = 8_192;
/// Rows of a row group, which has dictionaries of its own.
const ROW_GROUP: usize = 1 << 20;

impl Dictionaries {
    /// For a file whose first rows these are: all of them, or, if they are many, the first of a row group.
    pub fn of(batch: &RecordBatch, compressed: bool) -> Dictionaries {
        Dictionaries::of_files(std::slice::from_ref(batch), compressed)
    }

    /// For several files, of which these are examples.
    pub fn of_files(examples: &[RecordBatch], compressed: bool) -> Dictionaries {
        let mut sizes: HashMap<Vec<String>, Size> = HashMap::new();
        let hasher = RandomState::new();
        for batch in examples {
            let rows = batch.num_rows();
            let sample = Sample {
                runs: runs(rows),
                file: if rows >= MANY { rows.max(ROW_GROUP) } else { rows },
                compressed,
                hasher: &hasher,
            };
            for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
                sample.look(vec![field.name().clone()], array, &mut sizes);
            }
        }
        let mut without: Vec<Vec<String>> = sizes
            .into_iter()
            .filter(|(_, size)| size.with > WORTH * size.without)
            .map(|(path, _)| path)
            .collect();
        without.sort_unstable();
        Dictionaries { without }
    }

    pub fn set(&self, properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
        self.without.iter().fold(properties, |properties, path| {
            properties.set_column_dictionary_enabled(ColumnPath::new(path.clone()), false)
        })
    }
}

/// Bytes that a column would take in the files, about.
#[derive(Default)]
struct Size {
    with: f64,
    without: f64,
}

struct Sample<'a> {
    /// First rows of runs, and their length.
    runs: Vec<(usize, usize)>,
    /// Rows that the file is going to have.
    file: usize,
    compressed: bool,
    hasher: &'a RandomState,
}

fn runs(rows: usize) -> Vec<(usize, usize)> {
    if rows <= RUN * RUNS {
        return vec![(0, rows)];
    }
    (0..RUNS)
        .map(|run| (run * (rows - RUN) / (RUNS - 1), RUN))
        .collect()
}

impl Sample<'_> {
    fn look(&self, path: Vec<String>, array: &ArrayRef, sizes: &mut HashMap<Vec<String>, Size>) {
        macro_rules! bytes {
            ($values:expr) => {{
                let values = $values;
                self.estimate(
                    array,
                    |row| values.value(row).len(),
                    |row| self.hasher.hash_one::<&[u8]>(values.value(row).as_ref()),
                )
            }};
        }
        let size = match array.data_type() {
            DataType::Struct(fields) => {
                for (field, child) in fields.iter().zip(array.as_struct().columns()) {
                    let mut path = path.clone();
                    path.push(field.name().clone());
                    self.look(path, child, sizes);
                }
                return;
            }
            DataType::Utf8 => bytes!(array.as_string::<i32>()),
            DataType::LargeUtf8 => bytes!(array.as_string::<i64>()),
            DataType::Utf8View => bytes!(array.as_string_view()),
            DataType::Binary => bytes!(array.as_binary::<i32>()),
            DataType::LargeBinary => bytes!(array.as_binary::<i64>()),
            DataType::BinaryView => bytes!(array.as_binary_view()),
            // Integers, floats, dates, times; decimals of few digits, which the file holds as integers. Others it
            // holds in fixed bytes, for which its writer makes no dictionaries.
            found => match found.primitive_width() {
                Some(width @ 1..=8) => {
                    let data = array.to_data();
                    let (first, values) = (data.offset() * width, data.buffers()[0].as_slice());
                    let value = |row: usize| &values[first + row * width..first + (row + 1) * width];
                    // The file knows no integers of fewer bytes.
                    self.estimate(array, |_| width.max(4), |row| self.hasher.hash_one(value(row)))
                }
                _ => return,
            },
        };
        let known = sizes.entry(path).or_default();
        known.with += size.with;
        known.without += size.without;
    }

    fn estimate(
        &self,
        array: &ArrayRef,
        length: impl Fn(usize) -> usize,
        hash: impl Fn(usize) -> u64,
    ) -> Size {
        let nulls = array.logical_nulls();
        let (mut values, mut bytes, mut changes, mut distinct_in_runs) = (0, 0, 0, 0);
        let mut distinct = HashSet::with_capacity(RUN * RUNS);
        let mut in_run = HashSet::with_capacity(RUN);
        for (start, length_of_run) in &self.runs {
            let mut before = None;
            // One long run is all rows of a small batch, and its values are drawn one by one.
            in_run.clear();
            for row in *start..start + length_of_run {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    continue;
                }
                let value = hash(row);
                values += 1;
                bytes += length(row);
                changes += usize::from(before.replace(value) != Some(value));
                distinct_in_runs += usize::from(in_run.insert(value));
                distinct.insert(value);
            }
        }
        if values == 0 {
            return Size::default();
        }
        let sampled: usize = self.runs.iter().map(|(_, length)| length).sum();
        let scale = self.file as f64 / sampled as f64;
        let width = bytes as f64 / values as f64;
        let (in_file, runs_in_file) = (values as f64 * scale, changes as f64 * scale);
        let different = if self.runs.len() == 1 && self.file == sampled {
            distinct.len() as f64
        } else {
            in_all(distinct_in_runs as f64, distinct.len() as f64, scale)
        };
        // Lengths of texts stand in the file too.
        let stored = if array.data_type().is_primitive() {
            width
        } else {
            width + 4.0
        };
        let plain = in_file * stored;
        // Compression shortens what repeats itself at once, to some bytes for each repeated value.
        let without = if self.compressed {
            plain.min(runs_in_file * (stored + 7.0))
        } else {
            plain
        };
        let index = different.max(2.0).log2().ceil();
        let indices = (in_file * index / 8.0).min(runs_in_file * (index / 8.0 + 2.0));
        let dictionary = different * stored;
        let with = if dictionary > LARGEST {
            f64::INFINITY
        } else {
            dictionary + indices
        };
        Size { with, without }
    }
}

/// How many different values a file has of which a sample found `distinct` among `drawn`, with `scale` times as many
/// to draw: of so many equally likely ones that `drawn` of them would show just `distinct`.
fn in_all(drawn: f64, distinct: f64, scale: f64) -> f64 {
    let most = drawn * scale;
    if distinct >= drawn {
        return most;
    }
    let seen = |all: f64, draws: f64| all * (1.0 - (-draws / all).exp());
    let (mut low, mut high) = (distinct, drawn * drawn);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if seen(middle, drawn) < distinct {
            low = middle;
        } else {
            high = middle;
        }
    }
    seen(low, most)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Decimal128Array, Float64Array, Int8Array, Int64Array, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Field;

    use super::*;

    fn without(column: ArrayRef, compressed: bool) -> bool {
        let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let found = Dictionaries::of(&batch, compressed);
        assert!(found.without.len() <= 1);
        !found.without.is_empty()
    }

    fn numbers(rows: i64, value: impl Fn(i64) -> i64) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..rows).map(value)))
    }

    /// As good as random: multiples of a constant are spread too evenly to recur by chance.
    fn mixed(row: i64) -> i64 {
        let mut z = (row as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 1) as i64
    }

    #[test]
    fn values_that_recur_have_a_dictionary() {
        assert!(!without(numbers(60_000, |row| mixed(row) % 1_000), true));
        assert!(!without(numbers(60_000, |row| mixed(row) % 50_000), true));
        assert!(!without(numbers(100, |row| row % 7), true));
        let texts =
            StringArray::from_iter_values((0..20_000).map(|row| format!("place {}", mixed(row) % 300)));
        assert!(!without(Arc::new(texts), true));
        // Sorted, in runs: a dictionary of few, or repeated bytes.
        assert!(!without(numbers(60_000, |row| row / 1_000), false));
    }

    #[test]
    fn values_that_do_not_recur_have_none() {
        assert!(without(numbers(60_000, mixed), true));
        assert!(without(numbers(60_000, |row| row), true));
        assert!(without(numbers(100, |row| row), true));
        assert!(without(numbers(1, |row| row), true));
        let instants =
            TimestampMicrosecondArray::from_iter_values((0..60_000).map(|row| row / 14 * 60_000_000));
        assert!(without(Arc::new(instants), true));
        let floats = Float64Array::from_iter_values((0..60_000).map(|row| mixed(row) as f64 / 3.0));
        assert!(without(Arc::new(floats), true));
        let texts = StringArray::from_iter_values((0..20_000).map(|row| format!("order {}", mixed(row))));
        assert!(without(Arc::new(texts), true));
    }

    #[test]
    fn what_says_nothing_keeps_its_dictionary() {
        let nothing = Int64Array::from(vec![None; 100]);
        assert!(!without(Arc::new(nothing), true));
        let wide = Decimal128Array::from_iter_values((0..100).map(i128::from));
        assert!(!without(Arc::new(wide), true));
        // A byte has 256 values, and the file's integers have four bytes.
        assert!(!without(
            Arc::new(Int8Array::from_iter_values((0..9_000).map(|row| row as i8))),
            true
        ));
    }

    #[test]
    fn leaves_of_structs_are_columns_of_their_own() {
        let fields = ["few", "many"].map(|name| Arc::new(Field::new(name, DataType::Int64, true)));
        let few = numbers(9_000, |row| mixed(row) % 10);
        let pair = StructArray::from(vec![
            (Arc::clone(&fields[0]), few),
            (Arc::clone(&fields[1]), numbers(9_000, mixed)),
        ]);
        let batch = RecordBatch::try_from_iter([("s", Arc::new(pair) as ArrayRef)]).unwrap();
        let found = Dictionaries::of(&batch.slice(17, 8_900), true);
        assert_eq!(found.without, [["s".to_string(), "many".to_string()]]);
    }

    #[test]
    fn the_number_of_values_in_a_file_is_foreseen() {
        for all in [50_f64, 1_000.0, 20_000.0] {
            let seen = all * (1.0 - (-2_048.0 / all).exp());
            let found = in_all(2_048.0, seen.round(), 500.0);
            assert!((found / all - 1.0).abs() < 0.1, "{found} of {all}");
        }
        assert_eq!(in_all(10.0, 10.0, 3.0), 30.0);
    }
}
