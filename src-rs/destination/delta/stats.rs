//! What a finished Parquet file says about itself → the statistics of its `add` action.
//!
//! Invariants:
//! - A reader that skips a file by these numbers never loses a row: a minimum is never above, a
//!   maximum never below any value of the file.
//! - Every column of which statistics are wanted has both bounds, unless it is null throughout: one that is
//!   missing makes PyPI deltalake's `to_pyarrow_dataset` skip the file for filters on that column, and a
//!   date that Python does not know stops it altogether. So `conform` takes the years 1 to 9999 alone; a
//!   bound outside them would be left away.
//! - A float column with a NaN is bounded by the infinities: Parquet's own statistics leave NaN out.
//!   Infinities are written as Spark writes them, as strings. Zero is -0.0 as a minimum and 0.0 as a maximum,
//!   since some readers tell them apart.
//! - Numbers are written as exact decimal text: a decimal(38) that went through a double would lie.
//!
//! It collects for the leaves of structs, not inside lists and maps, for as many columns as the table
//! asks (`delta.dataSkippingNumIndexedCols`, 32 unless told) or those it names.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use parquet::basic::{LogicalType, Type};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

/// Which columns a table wants statistics of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatisticsColumns {
    First(usize),
    Named(HashSet<String>),
}

impl StatisticsColumns {
    pub fn of(configuration: &HashMap<String, String>) -> StatisticsColumns {
        if let Some(names) = configuration.get("delta.dataSkippingStatsColumns") {
            let names = names.split(',').map(|name| name.trim().replace('`', ""));
            return StatisticsColumns::Named(names.filter(|name| !name.is_empty()).collect());
        }
        match configuration
            .get("delta.dataSkippingNumIndexedCols")
            .and_then(|text| text.parse::<i64>().ok())
        {
            Some(-1) => StatisticsColumns::First(usize::MAX),
            Some(number) => StatisticsColumns::First(usize::try_from(number).unwrap_or(32)),
            None => StatisticsColumns::First(32),
        }
    }

    fn takes(&self, index: usize, path: &[String]) -> bool {
        match self {
            StatisticsColumns::First(number) => index < *number,
            // A struct's name stands for all of its fields.
            StatisticsColumns::Named(names) => {
                (1..=path.len()).any(|depth| names.contains(&path[..depth].join(".")))
            }
        }
    }
}

const LEAST: &str = "\"-Infinity\"";
const MOST: &str = "\"Infinity\"";

/// The JSON of the statistics. `nan` holds the dotted paths of float columns with a NaN in the file.
pub fn to_json(metadata: &ParquetMetaData, wanted: &StatisticsColumns, nan: &HashSet<String>) -> String {
    let (mut min, mut max, mut nulls) = (Tree::default(), Tree::default(), Tree::default());
    let descriptors = metadata.file_metadata().schema_descr();
    for (index, column) in descriptors.columns().iter().enumerate() {
        let path = column.path().parts();
        if column.max_rep_level() > 0 || !wanted.takes(index, path) {
            continue;
        }
        let Some(bounds) = bounds(metadata, index, column) else {
            continue;
        };
        nulls.insert(path, bounds.nulls.to_string());
        if nan.contains(&path.join(".")) {
            min.insert(path, LEAST.to_string());
            max.insert(path, MOST.to_string());
            continue;
        }
        if let Some(text) = bounds.min {
            min.insert(path, text);
        }
        if let Some(text) = bounds.max {
            max.insert(path, text);
        }
    }
    format!(
        r#"{{"numRecords":{},"minValues":{},"maxValues":{},"nullCount":{}}}"#,
        metadata.file_metadata().num_rows(),
        min.to_json(),
        max.to_json(),
        nulls.to_json()
    )
}

/// Adds the paths of float columns of this batch that hold a NaN.
pub fn note_nan(batch: &RecordBatch, nan: &mut HashSet<String>) {
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        note_nan_in(field.name().clone(), array, nan);
    }
}

fn note_nan_in(path: String, array: &ArrayRef, nan: &mut HashSet<String>) {
    let found = match array.data_type() {
        // A fold without an early exit is what the compiler can vectorise.
        DataType::Float32 => array
            .as_primitive::<Float32Type>()
            .values()
            .iter()
            .fold(false, |any, v| any | v.is_nan()),
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .fold(false, |any, v| any | v.is_nan()),
        DataType::Struct(fields) => {
            for (field, child) in fields.iter().zip(array.as_struct().columns()) {
                note_nan_in(format!("{path}.{}", field.name()), child, nan);
            }
            false
        }
        _ => false,
    };
    if found {
        nan.insert(path);
    }
}

/// A column's bounds as JSON text.
struct Bounds {
    min: Option<String>,
    max: Option<String>,
    nulls: u64,
}

/// None unless every row group knows: a bound over some of them is no bound.
fn bounds(metadata: &ParquetMetaData, index: usize, column: &ColumnDescriptor) -> Option<Bounds> {
    let (mut min, mut max, mut nulls): (Option<Value>, Option<Value>, u64) = (None, None, 0);
    let mut unbounded = false;
    for group in metadata.row_groups() {
        let statistics = group.column(index).statistics()?;
        let missing = statistics.null_count_opt()?;
        nulls += missing;
        if i64::try_from(missing) == Ok(group.num_rows()) {
            continue;
        }
        match (value(statistics, column, false), value(statistics, column, true)) {
            (Some(low), Some(high)) => {
                min = Some(min.map_or(low.clone(), |known| known.lesser(low)));
                max = Some(max.map_or(high.clone(), |known| known.greater(high)));
            }
            _ => unbounded = true,
        }
    }
    if unbounded {
        (min, max) = (None, None);
    }
    Some(Bounds {
        min: min.and_then(|value| value.render(false)),
        max: max.and_then(|value| value.render(true)),
        nulls,
    })
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Flag(bool),
    Whole(i64),
    Float(f64),
    Date(i32),
    /// Microseconds; the flag says whether they are UTC.
    Time(i64, bool),
    Decimal(i128, i32),
    Text(String),
}

impl Value {
    fn lesser(self, other: Value) -> Value {
        if other.precedes(&self) { other } else { self }
    }

    fn greater(self, other: Value) -> Value {
        if self.precedes(&other) { other } else { self }
    }

    fn precedes(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Flag(a), Value::Flag(b)) => a < b,
            (Value::Whole(a), Value::Whole(b)) => a < b,
            (Value::Float(a), Value::Float(b)) => a < b,
            (Value::Date(a), Value::Date(b)) => a < b,
            (Value::Time(a, _), Value::Time(b, _)) => a < b,
            (Value::Decimal(a, _), Value::Decimal(b, _)) => a < b,
            (Value::Text(a), Value::Text(b)) => a < b,
            _ => false,
        }
    }

    fn render(self, is_max: bool) -> Option<String> {
        match self {
            Value::Whole(number) => Some(number.to_string()),
            Value::Flag(flag) => Some(flag.to_string()),
            Value::Float(f64::INFINITY) => Some(MOST.to_string()),
            Value::Float(f64::NEG_INFINITY) => Some(LEAST.to_string()),
            Value::Float(number) => number.is_finite().then(|| format!("{number:?}")),
            Value::Date(days) => {
                let date = date32_to_datetime(days)?;
                let text = date.format("%Y-%m-%d").to_string();
                (text.len() == 10).then(|| quote(&text))
            }
            Value::Time(micros, utc) => {
                let time = timestamp_us_to_datetime(micros)?;
                let text = time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
                (text.len() == 26).then(|| quote(&if utc { text + "Z" } else { text }))
            }
            Value::Decimal(unscaled, scale) => Some(decimal(unscaled, scale)),
            Value::Text(text) => shorten(&text, is_max).map(|text| quote(&text)),
        }
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `-105` with scale 2 → `-1.05`.
pub fn decimal(unscaled: i128, scale: i32) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = unscaled.unsigned_abs().to_string();
    let Ok(scale @ 1..) = usize::try_from(scale) else {
        return format!("{sign}{digits}");
    };
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The protocol's 32 characters; a maximum that was cut gets a character that no other exceeds.
fn shorten(text: &str, is_max: bool) -> Option<String> {
    const MOST: usize = 32;
    const LAST: char = '\u{10FFFF}';
    let Some((mut cut, _)) = text.char_indices().nth(MOST) else {
        return Some(text.to_string());
    };
    if !is_max {
        return Some(text[..cut].to_string());
    }
    // What follows the cut could itself begin with that character; then it must stay.
    while let Some(next) = text[cut..].chars().next().filter(|next| *next == LAST) {
        cut += next.len_utf8();
    }
    Some(format!("{}{LAST}", &text[..cut]))
}

fn value(statistics: &Statistics, column: &ColumnDescriptor, is_max: bool) -> Option<Value> {
    macro_rules! pick {
        ($of:expr) => {
            if is_max { $of.max_opt() } else { $of.min_opt() }
        };
    }
    match (statistics, column.logical_type_ref()) {
        (Statistics::Boolean(of), _) => pick!(of).map(|flag| Value::Flag(*flag)),
        (Statistics::Int32(of), Some(LogicalType::Date)) => pick!(of).map(|days| Value::Date(*days)),
        (Statistics::Int32(of), Some(LogicalType::Decimal(decimal))) => {
            pick!(of).map(|number| Value::Decimal(i128::from(*number), decimal.scale))
        }
        (Statistics::Int32(of), _) => pick!(of).map(|number| Value::Whole(i64::from(*number))),
        (Statistics::Int64(of), Some(LogicalType::Timestamp(time))) => {
            pick!(of).map(|micros| Value::Time(*micros, time.is_adjusted_to_u_t_c))
        }
        (Statistics::Int64(of), Some(LogicalType::Decimal(decimal))) => {
            pick!(of).map(|number| Value::Decimal(i128::from(*number), decimal.scale))
        }
        (Statistics::Int64(of), _) => pick!(of).map(|number| Value::Whole(*number)),
        // As the double of the same value: a float's shortest text is not the shortest for a double.
        (Statistics::Float(of), _) => pick!(of).map(|number| Value::Float(f64::from(*number))),
        (Statistics::Double(of), _) => pick!(of).map(|number| Value::Float(*number)),
        (Statistics::FixedLenByteArray(of), Some(LogicalType::Decimal(decimal))) => {
            let bytes = pick!(of)?.data();
            Some(Value::Decimal(big_endian(bytes)?, decimal.scale))
        }
        (Statistics::ByteArray(of), Some(LogicalType::String))
            if column.physical_type() == Type::BYTE_ARRAY =>
        {
            let text = std::str::from_utf8(pick!(of)?.data()).ok()?;
            Some(Value::Text(text.to_string()))
        }
        _ => None,
    }
}

fn big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let mut wide = [if first & 0x80 == 0 { 0 } else { 0xFF }; 16];
    let start = 16_usize.checked_sub(bytes.len())?;
    wide[start..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

/// Nested objects by path, with leaves that are JSON already.
#[derive(Default)]
struct Tree {
    leaf: Option<String>,
    children: BTreeMap<String, Tree>,
}

impl Tree {
    fn insert(&mut self, path: &[String], leaf: String) {
        match path.split_first() {
            Some((first, rest)) => self.children.entry(first.clone()).or_default().insert(rest, leaf),
            None => self.leaf = Some(leaf),
        }
    }

    fn to_json(&self) -> String {
        if let Some(leaf) = &self.leaf {
            return leaf.clone();
        }
        let fields: Vec<String> = self
            .children
            .iter()
            .map(|(name, child)| format!("{}:{}", quote(name), child.to_json()))
            .collect();
        format!("{{{}}}", fields.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal(-105, 2), "-1.05");
        assert_eq!(decimal(5, 3), "0.005");
        assert_eq!(decimal(-42, 0), "-42");
        let most = 99_999_999_999_999_999_999_999_999_999_999_999_999_i128;
        assert_eq!(decimal(most, 1), "9999999999999999999999999999999999999.9");
        assert_eq!(big_endian(&[0xFF, 0x85]), Some(-123));
        assert_eq!(big_endian(&[]), None);
    }

    #[test]
    fn a_cut_maximum_stays_above_what_it_was_cut_from() {
        let text = "ü".repeat(40);
        let low = shorten(&text, false).unwrap();
        let high = shorten(&text, true).unwrap();
        assert_eq!(low.chars().count(), 32);
        assert!(low < text && text < high);
        let last = format!("{}{}z", "a".repeat(32), "\u{10FFFF}".repeat(3));
        assert!(last < shorten(&last, true).unwrap());
        assert_eq!(shorten("short", true).unwrap(), "short");
    }

    #[test]
    fn years_that_json_dates_cannot_write_have_no_bound() {
        assert_eq!(Value::Date(0).render(true).unwrap(), "\"1970-01-01\"");
        assert_eq!(Value::Date(i32::MAX).render(true), None);
        assert_eq!(Value::Time(i64::MAX, true).render(true), None);
        assert_eq!(
            Value::Time(1, true).render(true).unwrap(),
            "\"1970-01-01T00:00:00.000001Z\""
        );
        assert_eq!(
            Value::Time(0, false).render(true).unwrap(),
            "\"1970-01-01T00:00:00.000000\""
        );
        assert_eq!(Value::Float(f64::INFINITY).render(true).unwrap(), "\"Infinity\"");
        assert_eq!(
            Value::Float(f64::NEG_INFINITY).render(false).unwrap(),
            "\"-Infinity\""
        );
        assert_eq!(Value::Float(f64::NAN).render(false), None);
    }

    #[test]
    fn a_table_says_which_columns_it_wants() {
        let pair = |key: &str, value: &str| HashMap::from([(key.to_string(), value.to_string())]);
        let named = StatisticsColumns::of(&pair("delta.dataSkippingStatsColumns", "a, `s`"));
        assert!(named.takes(99, &["s".into(), "x".into()]));
        assert!(!named.takes(0, &["b".into()]));
        assert_eq!(
            StatisticsColumns::of(&pair("delta.dataSkippingNumIndexedCols", "-1")),
            StatisticsColumns::First(usize::MAX)
        );
        assert_eq!(
            StatisticsColumns::of(&pair("delta.dataSkippingNumIndexedCols", "2")),
            StatisticsColumns::First(2)
        );
        assert_eq!(
            StatisticsColumns::of(&HashMap::new()),
            StatisticsColumns::First(32)
        );
    }
}
