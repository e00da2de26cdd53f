//! Columns that are filled value by value, from text.
//!
//! Invariants:
//! - Every value is checked, and none is changed to fit: `specs/rows.md` has the rules, `specs/inputs.md` what is
//!   different where values come as text.
//! - A row that is refused in the midst leaves nothing behind: [`Columns::truncate`] takes it back from every
//!   column, in a time that does not depend on how many rows there are.
//! - Memory is bounded by the text that was read: nothing is allocated for what is only claimed.
//!
//! It does not know where text comes from.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, FixedSizeListArray,
    LargeBinaryArray, LargeListArray, LargeStringArray, ListArray, MapArray, NullArray, NullBufferBuilder,
    RecordBatch, RecordBatchOptions, StringArray, StructArray, make_array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef, TimeUnit, i256};
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::refusal::{Misfit, VALUE_MISSING, VALUE_RANGE, VALUE_TYPE, number_given, text_given};
use super::values::{self, Wrong};
use crate::error::{Code, Error, Result};

/// How deep a schema may go.
const MAX_DEPTH: usize = 64;

/// The columns of one batch under way.
pub struct Columns {
    schema: SchemaRef,
    /// The row as a value: its members are the columns.
    pub members: Members,
    rows: usize,
}

impl Columns {
    /// # Errors
    /// `SCHEMA_MISMATCH` naming the column that text cannot fill.
    pub fn new(schema: SchemaRef, flat: bool) -> Result<Columns> {
        let members = Members::new(schema.fields(), "", 0)?;
        if flat && let Some(nested) = members.columns.iter().find(|column| column.kind.is_nested()) {
            return Err(unfillable(
                &nested.name,
                "lists, structs and maps have no form in CSV",
            ));
        }
        Ok(Columns {
            schema,
            members,
            rows: 0,
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A row is complete.
    pub fn row_done(&mut self) {
        self.rows += 1;
    }

    /// Takes back what came of a row that is not complete.
    pub fn undo(&mut self) {
        self.members.truncate(self.rows);
    }

    /// Of all values so far.
    pub fn bytes(&self) -> usize {
        self.members.columns.iter().map(TextColumn::bytes).sum()
    }

    /// All rows as batches, more than one only where a dictionary cannot count all of their values. The columns
    /// are empty after it.
    pub fn finish(&mut self) -> Result<Vec<RecordBatch>> {
        let rows = std::mem::take(&mut self.rows);
        let mut arrays = Vec::with_capacity(self.members.columns.len());
        for column in &mut self.members.columns {
            arrays.push(column.finish().map_err(|error| internal(&error))?);
        }
        let mut batches = Vec::new();
        self.encoded(&arrays, rows, &mut batches)?;
        Ok(batches)
    }

    fn encoded(&self, plain: &[ArrayRef], rows: usize, batches: &mut Vec<RecordBatch>) -> Result<()> {
        let mut arrays = Vec::with_capacity(plain.len());
        for (array, field) in plain.iter().zip(self.schema.fields()) {
            if array.data_type() == field.data_type() {
                arrays.push(array.clone());
                continue;
            }
            match cast(array, field.data_type()) {
                Ok(array) => arrays.push(array),
                Err(error) if rows <= 1 => return Err(internal(&error)),
                Err(_) => {
                    let half = rows / 2;
                    let part = |from, rows| -> Vec<ArrayRef> {
                        plain.iter().map(|array| array.slice(from, rows)).collect()
                    };
                    self.encoded(&part(0, half), half, batches)?;
                    return self.encoded(&part(half, rows - half), rows - half, batches);
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options);
        batches.push(batch.map_err(|error| internal(&error))?);
        Ok(())
    }
}

fn internal(error: &ArrowError) -> Error {
    Error::new(Code::Internal, "decoded columns make no batch").caused_by(error)
}

fn unfillable(path: &str, why: &str) -> Error {
    Error::new(
        Code::SchemaMismatch,
        format!("column {path} cannot be filled from text: {why}"),
    )
    .in_field(path)
}

/// Columns by name: of the row, or of a struct.
pub struct Members {
    pub columns: Vec<TextColumn>,
    by_name: HashMap<Box<str>, usize>,
}

impl Members {
    fn new(fields: &Fields, parent: &str, depth: usize) -> Result<Members> {
        let mut by_name = HashMap::with_capacity(fields.len());
        let mut columns = Vec::with_capacity(fields.len());
        for (index, field) in fields.iter().enumerate() {
            let path = match parent {
                "" => field.name().clone(),
                _ => format!("{parent}.{}", field.name()),
            };
            if by_name.insert(field.name().as_str().into(), index).is_some() {
                return Err(unfillable(&path, "the name stands twice"));
            }
            columns.push(TextColumn::new(field, &path, depth)?);
        }
        Ok(Members { columns, by_name })
    }

    /// The column of that name; `hint` is where it is looked for first.
    #[inline]
    pub fn position(&self, name: &str, hint: usize) -> Option<usize> {
        match self.columns.get(hint) {
            Some(column) if *column.name == *name => Some(hint),
            _ => self.by_name.get(name).copied(),
        }
    }

    fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }
}

pub struct TextColumn {
    pub name: Box<str>,
    pub kind: Kind,
    nullable: bool,
    /// What the values are in, without dictionaries and views.
    plain: DataType,
    nulls: NullBufferBuilder,
    values: Values,
    rows: usize,
}

/// What values are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Null,
    Bool,
    /// From least to most.
    Whole {
        least: i128,
        most: i128,
    },
    Half,
    Single,
    Double,
    Decimal {
        scale: i32,
        most: i256,
    },
    Text,
    Bytes,
    FixedBytes {
        width: usize,
    },
    /// Days, in units of which so many make a day.
    Day {
        per_day: i64,
    },
    Time {
        per_second: i64,
    },
    Instant {
        per_second: i64,
        zoned: bool,
    },
    Length {
        per_second: i64,
    },
    List,
    FixedList {
        items: usize,
    },
    Struct,
    Map,
}

impl Kind {
    pub fn is_nested(self) -> bool {
        matches!(
            self,
            Kind::List | Kind::FixedList { .. } | Kind::Struct | Kind::Map
        )
    }

    /// For messages.
    fn wanted(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "true or false",
            Kind::Whole { .. } => "a whole number in range",
            Kind::Half | Kind::Single | Kind::Double => "a number",
            Kind::Decimal { .. } => "a decimal that scale and precision hold",
            Kind::Text => "text",
            Kind::Bytes => "base64 text",
            Kind::FixedBytes { .. } => "base64 text of the column's width (of 16 bytes, also a UUID)",
            Kind::Day { .. } => "a day as YYYY-MM-DD",
            Kind::Time { .. } => "a time of day as HH:MM:SS that the unit holds",
            Kind::Instant { zoned: true, .. } => "an instant as YYYY-MM-DDTHH:MM:SSZ that the unit holds",
            Kind::Instant { zoned: false, .. } => {
                "a date and time as YYYY-MM-DDTHH:MM:SS that the unit holds"
            }
            Kind::Length { .. } => "a length of time as PnDTnHnMnS that the unit holds",
            Kind::List => "an array",
            Kind::FixedList { .. } => "an array of the column's length",
            Kind::Struct => "an object",
            Kind::Map => "an object, or an array of pairs",
        }
    }
}

enum Values {
    None,
    Bits(BooleanBufferBuilder),
    W1(Vec<i8>),
    W2(Vec<i16>),
    W4(Vec<i32>),
    W8(Vec<i64>),
    W16(Vec<i128>),
    W32(Vec<i256>),
    /// Bytes of all values, and where each ends.
    Bytes {
        ends: Vec<usize>,
        bytes: Vec<u8>,
    },
    Fixed {
        width: usize,
        bytes: Vec<u8>,
    },
    List {
        ends: Vec<usize>,
        items: Box<TextColumn>,
    },
    FixedList {
        items: Box<TextColumn>,
    },
    Struct(Members),
    Map {
        ends: Vec<usize>,
        keys: Box<TextColumn>,
        values: Box<TextColumn>,
    },
}

impl TextColumn {
    fn new(field: &Field, path: &str, depth: usize) -> Result<TextColumn> {
        if depth > MAX_DEPTH {
            return Err(unfillable(path, "it is nested too deeply"));
        }
        let child = |field: &Field| {
            TextColumn::new(field, &format!("{path}.{}", field.name()), depth + 1).map(Box::new)
        };
        let per_second = |unit: &TimeUnit| match unit {
            TimeUnit::Second => 1,
            TimeUnit::Millisecond => 1_000,
            TimeUnit::Microsecond => 1_000_000,
            TimeUnit::Nanosecond => 1_000_000_000,
        };
        let whole = |bits: u32, signed: bool| match signed {
            true => Kind::Whole {
                least: -(1i128 << (bits - 1)),
                most: (1i128 << (bits - 1)) - 1,
            },
            false => Kind::Whole {
                least: 0,
                most: (1i128 << bits) - 1,
            },
        };
        let decimal = |precision: u8, scale: i8, bits: u32| {
            let of_precision =
                (0..precision).try_fold(i256::ONE, |power, _| power.checked_mul(i256::from_i128(10)));
            let of_bits = match bits {
                256 => i256::MAX,
                _ => i256::from_i128(i128::MAX >> (128 - bits)),
            };
            Kind::Decimal {
                scale: i32::from(scale),
                most: of_precision.map_or(of_bits, |power| power.wrapping_sub(i256::ONE).min(of_bits)),
            }
        };
        let bytes = || Values::Bytes {
            ends: Vec::new(),
            bytes: Vec::new(),
        };
        let data_type = match field.data_type() {
            DataType::Dictionary(_, values) => values,
            other => other,
        };
        let mut plain = data_type.clone();
        let (kind, values) = match data_type {
            DataType::Null => (Kind::Null, Values::None),
            DataType::Boolean => (Kind::Bool, Values::Bits(BooleanBufferBuilder::new(0))),
            DataType::Int8 => (whole(8, true), Values::W1(Vec::new())),
            DataType::Int16 => (whole(16, true), Values::W2(Vec::new())),
            DataType::Int32 => (whole(32, true), Values::W4(Vec::new())),
            DataType::Int64 => (whole(64, true), Values::W8(Vec::new())),
            DataType::UInt8 => (whole(8, false), Values::W1(Vec::new())),
            DataType::UInt16 => (whole(16, false), Values::W2(Vec::new())),
            DataType::UInt32 => (whole(32, false), Values::W4(Vec::new())),
            DataType::UInt64 => (whole(64, false), Values::W8(Vec::new())),
            DataType::Float16 => (Kind::Half, Values::W2(Vec::new())),
            DataType::Float32 => (Kind::Single, Values::W4(Vec::new())),
            DataType::Float64 => (Kind::Double, Values::W8(Vec::new())),
            DataType::Decimal32(precision, scale) => {
                (decimal(*precision, *scale, 32), Values::W4(Vec::new()))
            }
            DataType::Decimal64(precision, scale) => {
                (decimal(*precision, *scale, 64), Values::W8(Vec::new()))
            }
            DataType::Decimal128(precision, scale) => {
                (decimal(*precision, *scale, 128), Values::W16(Vec::new()))
            }
            DataType::Decimal256(precision, scale) => {
                (decimal(*precision, *scale, 256), Values::W32(Vec::new()))
            }
            DataType::Date32 => (Kind::Day { per_day: 1 }, Values::W4(Vec::new())),
            DataType::Date64 => (Kind::Day { per_day: 86_400_000 }, Values::W8(Vec::new())),
            DataType::Time32(unit) => (
                Kind::Time {
                    per_second: per_second(unit),
                },
                Values::W4(Vec::new()),
            ),
            DataType::Time64(unit) => (
                Kind::Time {
                    per_second: per_second(unit),
                },
                Values::W8(Vec::new()),
            ),
            DataType::Timestamp(unit, zone) => (
                Kind::Instant {
                    per_second: per_second(unit),
                    zoned: zone.is_some(),
                },
                Values::W8(Vec::new()),
            ),
            DataType::Duration(unit) => (
                Kind::Length {
                    per_second: per_second(unit),
                },
                Values::W8(Vec::new()),
            ),
            DataType::Utf8 | DataType::LargeUtf8 => (Kind::Text, bytes()),
            DataType::Utf8View => {
                plain = DataType::LargeUtf8;
                (Kind::Text, bytes())
            }
            DataType::Binary | DataType::LargeBinary => (Kind::Bytes, bytes()),
            DataType::BinaryView => {
                plain = DataType::LargeBinary;
                (Kind::Bytes, bytes())
            }
            DataType::FixedSizeBinary(width) => {
                let width = usize::try_from(*width).unwrap_or(0);
                let bytes = Vec::new();
                (Kind::FixedBytes { width }, Values::Fixed { width, bytes })
            }
            DataType::List(item) | DataType::LargeList(item) => {
                let items = child(item)?;
                let ends = Vec::new();
                plain = match data_type {
                    DataType::List(_) => DataType::List(items.plain_field(item)),
                    _ => DataType::LargeList(items.plain_field(item)),
                };
                (Kind::List, Values::List { ends, items })
            }
            DataType::FixedSizeList(item, size) => {
                let items = child(item)?;
                plain = DataType::FixedSizeList(items.plain_field(item), *size);
                let size = usize::try_from(*size).unwrap_or(0);
                (Kind::FixedList { items: size }, Values::FixedList { items })
            }
            DataType::Struct(fields) => {
                let members = Members::new(fields, path, depth + 1)?;
                plain = DataType::Struct(
                    fields
                        .iter()
                        .zip(&members.columns)
                        .map(|(field, column)| column.plain_field(field))
                        .collect(),
                );
                (Kind::Struct, Values::Struct(members))
            }
            DataType::Map(entries, sorted) => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(unfillable(path, "its entries are no structs"));
                };
                let [key, value] = &fields[..] else {
                    return Err(unfillable(path, "its entries are no pairs"));
                };
                let (mut keys, values) = (child(key)?, child(value)?);
                keys.nullable = false;
                let pair = Fields::from(vec![keys.plain_field(key), values.plain_field(value)]);
                let entries = Field::new(entries.name(), DataType::Struct(pair), false)
                    .with_metadata(entries.metadata().clone());
                plain = DataType::Map(Arc::new(entries), *sorted);
                let ends = Vec::new();
                (Kind::Map, Values::Map { ends, keys, values })
            }
            other => return Err(unfillable(path, &format!("no text is a value of {other}"))),
        };
        Ok(TextColumn {
            name: field.name().as_str().into(),
            kind,
            nullable: field.is_nullable() || kind == Kind::Null,
            plain,
            nulls: NullBufferBuilder::new(0),
            values,
            rows: 0,
        })
    }

    /// The field of this column, without dictionaries and views below it.
    fn plain_field(&self, field: &Field) -> FieldRef {
        Arc::new(field.clone().with_data_type(self.plain.clone()))
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::None => 0,
            Values::Bits(bits) => bits.len() / 8,
            Values::W1(values) => values.len(),
            Values::W2(values) => values.len() * 2,
            Values::W4(values) => values.len() * 4,
            Values::W8(values) => values.len() * 8,
            Values::W16(values) => values.len() * 16,
            Values::W32(values) => values.len() * 32,
            Values::Bytes { ends, bytes } => ends.len() * 8 + bytes.len(),
            Values::Fixed { bytes, .. } => bytes.len(),
            Values::List { ends, items } => ends.len() * 8 + items.bytes(),
            Values::FixedList { items } => items.bytes(),
            Values::Struct(members) => members.columns.iter().map(TextColumn::bytes).sum(),
            Values::Map { ends, keys, values } => ends.len() * 8 + keys.bytes() + values.bytes(),
        };
        values + self.rows / 8
    }

    fn truncate(&mut self, rows: usize) {
        if self.nulls.len() > rows {
            self.nulls.truncate(rows);
        }
        self.rows = self.rows.min(rows);
        match &mut self.values {
            Values::None => {}
            Values::Bits(bits) if bits.len() > rows => bits.truncate(rows),
            Values::Bits(_) => {}
            Values::W1(values) => values.truncate(rows),
            Values::W2(values) => values.truncate(rows),
            Values::W4(values) => values.truncate(rows),
            Values::W8(values) => values.truncate(rows),
            Values::W16(values) => values.truncate(rows),
            Values::W32(values) => values.truncate(rows),
            Values::Bytes { ends, bytes } => {
                ends.truncate(rows);
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::Fixed { width, bytes } => bytes.truncate(rows * *width),
            Values::List { ends, items } => {
                ends.truncate(rows);
                items.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::FixedList { items } => {
                if let Kind::FixedList { items: size } = self.kind {
                    items.truncate(rows * size);
                }
            }
            Values::Struct(members) => members.truncate(rows),
            Values::Map { ends, keys, values } => {
                ends.truncate(rows);
                let end = ends.last().copied().unwrap_or(0);
                keys.truncate(end);
                values.truncate(end);
            }
        }
    }

    // ---- values -------------------------------------------------------------------------------

    #[inline]
    fn done(&mut self) {
        self.nulls.append_non_null();
        self.rows += 1;
    }

    #[cold]
    fn refuse(&self, wrong: Wrong, given: &str) -> Misfit {
        Misfit::wrong(wrong, given, self.kind.wanted())
    }

    #[cold]
    pub fn wrong_type(&self, given: &str) -> Misfit {
        Misfit::new(
            VALUE_TYPE,
            format!("{given} was given; {} is wanted", self.kind.wanted()),
        )
    }

    pub fn null(&mut self) -> Result<(), Misfit> {
        if !self.nullable {
            return Err(Misfit::new(
                VALUE_MISSING,
                format!("null was given; {} is wanted", self.kind.wanted()),
            ));
        }
        self.pad();
        Ok(())
    }

    /// A row without a value; the fields of a struct that is null take it whether they are nullable or not.
    fn pad(&mut self) {
        self.nulls.append_null();
        self.rows += 1;
        match &mut self.values {
            Values::None => {}
            Values::Bits(bits) => bits.append(false),
            Values::W1(values) => values.push(0),
            Values::W2(values) => values.push(0),
            Values::W4(values) => values.push(0),
            Values::W8(values) => values.push(0),
            Values::W16(values) => values.push(0),
            Values::W32(values) => values.push(i256::ZERO),
            Values::Bytes { ends, bytes } => ends.push(bytes.len()),
            Values::Fixed { width, bytes } => bytes.resize(bytes.len() + *width, 0),
            Values::List { ends, items } => ends.push(items.rows),
            Values::FixedList { items } => {
                if let Kind::FixedList { items: size } = self.kind {
                    (0..size).for_each(|_| items.pad());
                }
            }
            Values::Struct(members) => members.columns.iter_mut().for_each(TextColumn::pad),
            Values::Map { ends, keys, .. } => ends.push(keys.rows),
        }
    }

    pub fn bool(&mut self, value: bool) -> Result<(), Misfit> {
        let Values::Bits(bits) = &mut self.values else {
            return Err(self.wrong_type(if value { "true" } else { "false" }));
        };
        bits.append(value);
        self.done();
        Ok(())
    }

    /// From a number with the text of a value, if it is one that the column holds.
    #[inline]
    pub fn short_whole(&mut self, value: i64) -> bool {
        let Kind::Whole { least, most } = self.kind else {
            return false;
        };
        let fits = (least..=most).contains(&i128::from(value));
        if fits {
            self.push_whole(i128::from(value));
            self.done();
        }
        fits
    }

    /// From text that [`values::is_number`] takes.
    pub fn number(&mut self, text: &[u8]) -> Result<(), Misfit> {
        let refused = |column: &TextColumn, wrong| Err(column.refuse(wrong, &number_given(text)));
        match self.kind {
            Kind::Whole { least, most } => match values::whole(text) {
                Ok(value) if (least..=most).contains(&value) => self.push_whole(value),
                Ok(_) => return refused(self, Wrong::Range),
                Err(wrong) => return refused(self, wrong),
            },
            Kind::Half | Kind::Single | Kind::Double => {
                let text = std::str::from_utf8(text).unwrap_or_default();
                return self.float(text, false);
            }
            Kind::Decimal { scale, most } => match values::decimal(text, scale) {
                Ok(units) if units <= most && units >= most.wrapping_neg() => self.push_decimal(units),
                Ok(_) => return refused(self, Wrong::Range),
                Err(wrong) => return refused(self, wrong),
            },
            Kind::Day { .. } | Kind::Time { .. } | Kind::Instant { .. } | Kind::Length { .. } => {
                return match values::whole(text)
                    .and_then(|count| i64::try_from(count).map_err(|_| Wrong::Range))
                {
                    Ok(count) => self.count(count, text),
                    Err(wrong) => refused(self, wrong),
                };
            }
            _ => return Err(self.wrong_type(&number_given(text))),
        }
        self.done();
        Ok(())
    }

    /// A number of the unit of a day, a time, an instant or a length of time.
    fn count(&mut self, count: i64, text: &[u8]) -> Result<(), Misfit> {
        let wrong = match self.kind {
            Kind::Day { per_day } if count % per_day != 0 => Some(Wrong::Inexact),
            Kind::Day { per_day: 1 } if i32::try_from(count).is_err() => Some(Wrong::Range),
            Kind::Time { per_second } if !(0..86_400 * per_second).contains(&count) => Some(Wrong::Range),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(self.refuse(wrong, &number_given(text)));
        }
        self.push_count(count);
        self.done();
        Ok(())
    }

    /// From text that a number's may be, or, where `words` are taken, NaN and the infinities.
    pub fn float(&mut self, text: &str, words: bool) -> Result<(), Misfit> {
        let value: f64 = match text.parse() {
            Ok(value) => value,
            Err(_) => return Err(self.refuse(Wrong::Malformed, &text_given(text))),
        };
        let (bits, infinite) = match self.kind {
            Kind::Half => {
                let half = half::f16::from_f64(value);
                (i64::from(half.to_bits()), half.is_infinite())
            }
            // Straight from the digits: through a double it would be rounded twice.
            Kind::Single => {
                let single: f32 = text.parse().unwrap_or(f32::NAN);
                (i64::from(single.to_bits()), single.is_infinite())
            }
            _ => (value.to_bits() as i64, value.is_infinite()),
        };
        let is_named = || words && text.bytes().any(|byte| matches!(byte, b'n' | b'N'));
        if infinite && !is_named() {
            return Err(self.refuse(Wrong::Range, &number_given(text.as_bytes())));
        }
        match &mut self.values {
            Values::W2(values) => values.push(bits as i16),
            Values::W4(values) => values.push(bits as i32),
            Values::W8(values) => values.push(bits),
            _ => return Err(self.wrong_type(&number_given(text.as_bytes()))),
        }
        self.done();
        Ok(())
    }

    pub fn text(&mut self, text: &str) -> Result<(), Misfit> {
        let refused = |column: &TextColumn, wrong| Err(column.refuse(wrong, &text_given(text)));
        match self.kind {
            Kind::Text => {
                if let Values::Bytes { ends, bytes } = &mut self.values {
                    bytes.extend_from_slice(text.as_bytes());
                    ends.push(bytes.len());
                }
            }
            Kind::Bytes => {
                if let Values::Bytes { ends, bytes } = &mut self.values {
                    if STANDARD.decode_vec(text, bytes).is_err() {
                        bytes.truncate(ends.last().copied().unwrap_or(0));
                        return refused(self, Wrong::Malformed);
                    }
                    ends.push(bytes.len());
                }
            }
            Kind::FixedBytes { width } => {
                let given = match values::uuid(text.as_bytes()) {
                    Some(uuid) if width == 16 => uuid.to_vec(),
                    _ => match STANDARD.decode(text) {
                        Ok(given) if given.len() == width => given,
                        Ok(_) => return refused(self, Wrong::Range),
                        Err(_) => return refused(self, Wrong::Malformed),
                    },
                };
                if let Values::Fixed { bytes, .. } = &mut self.values {
                    bytes.extend_from_slice(&given);
                }
            }
            Kind::Decimal { scale, most } => match values::decimal(text.as_bytes(), scale) {
                Ok(units) if units <= most && units >= most.wrapping_neg() => self.push_decimal(units),
                Ok(_) => return refused(self, Wrong::Range),
                Err(wrong) => return refused(self, wrong),
            },
            Kind::Day { per_day } => match values::day(text.as_bytes()) {
                Ok(day) if per_day > 1 || i32::try_from(day).is_ok() => self.push_count(day * per_day),
                Ok(_) => return refused(self, Wrong::Range),
                Err(wrong) => return refused(self, wrong),
            },
            Kind::Time { per_second } => {
                match values::time(text.as_bytes()).and_then(|time| time.count(per_second)) {
                    Ok(count) => self.push_count(count),
                    Err(wrong) => return refused(self, wrong),
                }
            }
            Kind::Instant { per_second, zoned } => match values::moment(text.as_bytes()) {
                // An instant without an offset could be anywhere; a date and time with one says more than is kept.
                Ok(moment) if moment.has_offset != zoned => return refused(self, Wrong::Malformed),
                Ok(moment) => match moment.count(per_second) {
                    Ok(count) => self.push_count(count),
                    Err(wrong) => return refused(self, wrong),
                },
                Err(wrong) => return refused(self, wrong),
            },
            Kind::Length { per_second } => match values::length(text.as_bytes(), per_second) {
                Ok(count) => self.push_count(count),
                Err(wrong) => return refused(self, wrong),
            },
            _ => return Err(self.wrong_type(&text_given(text))),
        }
        self.done();
        Ok(())
    }

    #[inline]
    fn push_whole(&mut self, value: i128) {
        match &mut self.values {
            Values::W1(values) => values.push(value as i8),
            Values::W2(values) => values.push(value as i16),
            Values::W4(values) => values.push(value as i32),
            Values::W8(values) => values.push(value as i64),
            _ => {}
        }
    }

    fn push_decimal(&mut self, units: i256) {
        match &mut self.values {
            Values::W4(values) => values.push(units.as_i128() as i32),
            Values::W8(values) => values.push(units.as_i128() as i64),
            Values::W16(values) => values.push(units.as_i128()),
            Values::W32(values) => values.push(units),
            _ => {}
        }
    }

    fn push_count(&mut self, count: i64) {
        match &mut self.values {
            Values::W4(values) => values.push(count as i32),
            Values::W8(values) => values.push(count),
            _ => {}
        }
    }

    // ---- what is nested -----------------------------------------------------------------------

    /// The items of a list, and how many of them there must be.
    pub fn items(&mut self) -> Option<(&mut TextColumn, Option<usize>)> {
        let size = match self.kind {
            Kind::FixedList { items } => Some(items),
            _ => None,
        };
        match &mut self.values {
            Values::List { items, .. } | Values::FixedList { items } => Some((items, size)),
            _ => None,
        }
    }

    pub fn members(&mut self) -> Option<&mut Members> {
        match &mut self.values {
            Values::Struct(members) => Some(members),
            _ => None,
        }
    }

    pub fn entries(&mut self) -> Option<(&mut TextColumn, &mut TextColumn)> {
        match &mut self.values {
            Values::Map { keys, values, .. } => Some((keys, values)),
            _ => None,
        }
    }

    /// All of a list, struct or map is there.
    ///
    /// # Errors
    /// A list of the wrong length.
    pub fn close(&mut self) -> Result<(), Misfit> {
        match &mut self.values {
            Values::List { ends, items } => ends.push(items.rows),
            Values::Map { ends, keys, .. } => ends.push(keys.rows),
            Values::FixedList { items } => {
                if let Kind::FixedList { items: size } = self.kind
                    && items.rows != (self.rows + 1) * size
                {
                    let given = items.rows - self.rows * size;
                    return Err(Misfit::new(
                        VALUE_RANGE,
                        format!("an array of {given} was given; one of {size} is wanted"),
                    ));
                }
            }
            _ => {}
        }
        self.done();
        Ok(())
    }

    // ---- arrays -------------------------------------------------------------------------------

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        let rows = std::mem::take(&mut self.rows);
        let fixed = |buffer: Buffer| -> Result<ArrayRef, ArrowError> {
            let data = ArrayData::builder(self.plain.clone())
                .len(rows)
                .add_buffer(buffer)
                .nulls(nulls.clone())
                .build()?;
            Ok(make_array(data))
        };
        Ok(match &mut self.values {
            Values::None => Arc::new(NullArray::new(rows)),
            Values::Bits(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::W1(values) => fixed(Buffer::from_vec(std::mem::take(values)))?,
            Values::W2(values) => fixed(Buffer::from_vec(std::mem::take(values)))?,
            Values::W4(values) => fixed(Buffer::from_vec(std::mem::take(values)))?,
            Values::W8(values) => fixed(Buffer::from_vec(std::mem::take(values)))?,
            Values::W16(values) => fixed(Buffer::from_vec(std::mem::take(values)))?,
            Values::W32(values) => fixed(Buffer::from_vec(std::mem::take(values)))?,
            Values::Fixed { bytes, .. } => fixed(Buffer::from_vec(std::mem::take(bytes)))?,
            Values::Bytes { ends, bytes } => {
                let bytes = Buffer::from_vec(std::mem::take(bytes));
                match &self.plain {
                    DataType::Utf8 => Arc::new(StringArray::try_new(short(ends)?, bytes, nulls)?),
                    DataType::LargeUtf8 => Arc::new(LargeStringArray::try_new(long(ends), bytes, nulls)?),
                    DataType::Binary => Arc::new(BinaryArray::try_new(short(ends)?, bytes, nulls)?),
                    _ => Arc::new(LargeBinaryArray::try_new(long(ends), bytes, nulls)?),
                }
            }
            Values::List { ends, items } => match &self.plain {
                DataType::LargeList(item) => Arc::new(LargeListArray::try_new(
                    item.clone(),
                    long(ends),
                    items.finish()?,
                    nulls,
                )?),
                DataType::List(item) => Arc::new(ListArray::try_new(
                    item.clone(),
                    short(ends)?,
                    items.finish()?,
                    nulls,
                )?),
                _ => unreachable!("a list has the type of one"),
            },
            Values::FixedList { items } => match &self.plain {
                DataType::FixedSizeList(item, size) => {
                    let items = items.finish()?;
                    Arc::new(FixedSizeListArray::try_new_with_length(
                        item.clone(),
                        *size,
                        items,
                        nulls,
                        rows,
                    )?)
                }
                _ => unreachable!("a list has the type of one"),
            },
            Values::Struct(members) => match &self.plain {
                DataType::Struct(fields) => {
                    let mut arrays = Vec::with_capacity(members.columns.len());
                    for column in &mut members.columns {
                        arrays.push(column.finish()?);
                    }
                    Arc::new(StructArray::try_new_with_length(
                        fields.clone(),
                        arrays,
                        nulls,
                        rows,
                    )?)
                }
                _ => unreachable!("a struct has the type of one"),
            },
            Values::Map { ends, keys, values } => match &self.plain {
                DataType::Map(entries, sorted) => {
                    let DataType::Struct(fields) = entries.data_type() else {
                        unreachable!("entries are structs");
                    };
                    let pairs =
                        StructArray::try_new(fields.clone(), vec![keys.finish()?, values.finish()?], None)?;
                    let ends = short(ends)?;
                    Arc::new(MapArray::try_new(entries.clone(), ends, pairs, nulls, *sorted)?)
                }
                _ => unreachable!("a map has the type of one"),
            },
        })
    }
}

fn short(ends: &mut Vec<usize>) -> Result<OffsetBuffer<i32>, ArrowError> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    for end in ends.drain(..) {
        offsets.push(i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end))?);
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

fn long(ends: &mut Vec<usize>) -> OffsetBuffer<i64> {
    let offsets: Vec<i64> = std::iter::once(0)
        .chain(ends.drain(..).map(|end| end as i64))
        .collect();
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}
