//! Arrow ↔ Delta types: one table, which `specs/delta-types.md` says in prose.
//!
//! Invariants:
//! - A type has one Delta type, or none and a reason; a wider one that would hold the values is not
//!   chosen silently.
//! - What is allowed here is exact for every value, or [`super::conform`] looks at the values.
//! - A column that is new to a table has a name that every reader takes: one that only some take makes
//!   a table that the others cannot open, or not alter, for good. Columns that a table has are written
//!   as it spells them.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{DataType as Arrow, Field, Fields, Schema, TimeUnit};
use deltalake_core::kernel::{
    ArrayType, DataType as Delta, DecimalType, MapType, PrimitiveType as P, StructField, StructType,
};

use super::super::flight::arrays::keys_of;
use crate::error::{Code, Error, Result};

/// A column that a table cannot take, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// A dotted path; empty if no column is at fault.
    column: String,
    why: String,
}

impl Mistake {
    pub fn of(column: &str, why: impl Into<String>) -> Mistake {
        Mistake {
            column: column.to_string(),
            why: why.into(),
        }
    }

    /// The same, of a column that is inside the one named.
    pub fn within(mut self, column: &str) -> Mistake {
        let inner = std::mem::take(&mut self.column);
        self.column = match inner.is_empty() {
            true => column.to_string(),
            false => format!("{column}.{inner}"),
        };
        self
    }
}

/// Of the column itself, or of what the caller names with [`Mistake::within`].
fn mistake(why: impl Into<String>) -> Mistake {
    Mistake::of("", why)
}

impl From<&str> for Mistake {
    fn from(why: &str) -> Mistake {
        mistake(why)
    }
}

impl From<String> for Mistake {
    fn from(why: String) -> Mistake {
        mistake(why)
    }
}

/// The Delta schema of a table that is created for these batches.
///
/// # Errors
/// `SCHEMA_MISMATCH` naming every column without an exact Delta type.
pub fn table_schema(schema: &Schema) -> Result<Vec<StructField>> {
    let mut mistakes = duplicates(schema.fields());
    let mut fields = Vec::new();
    for field in schema.fields() {
        match new_field(field) {
            Ok(field) => fields.push(field),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if schema.fields().is_empty() {
        mistakes.push("a table needs at least one column".into());
    }
    if mistakes.is_empty() {
        Ok(fields)
    } else {
        Err(mismatch(&mistakes))
    }
}

/// A table's own schema in Arrow. Its columns need no conversion on their way into the files.
pub fn arrow_schema(table: &StructType) -> Schema {
    let columns = table.fields();
    Schema::new(
        columns
            .map(|column| Field::new(&column.name, natural(&column.data_type), column.nullable))
            .collect::<Vec<_>>(),
    )
}

pub fn mismatch(mistakes: &[Mistake]) -> Error {
    let texts: Vec<String> = mistakes
        .iter()
        .map(|mistake| match mistake.column.as_str() {
            "" => mistake.why.clone(),
            column => format!("{column}: {}", mistake.why),
        })
        .collect();
    let text = format!(
        "the table cannot hold these columns exactly: {}",
        texts.join("; ")
    );
    let error = Error::new(Code::SchemaMismatch, text).during("open");
    match mistakes {
        [one] if !one.column.is_empty() => error.in_field(&one.column),
        _ => error,
    }
}

/// Delta does not tell names apart by case.
pub fn duplicates(fields: &Fields) -> Vec<Mistake> {
    let mut seen = std::collections::HashSet::new();
    fields
        .iter()
        .filter(|field| !seen.insert(field.name().to_lowercase()))
        .map(|field| Mistake::of(field.name(), "given twice"))
        .collect()
}

/// A column that a table does not have yet.
///
/// # Errors
/// A name that not every reader takes, or a type without an exact Delta type.
pub fn new_field(field: &Field) -> Why<StructField> {
    let named = |mistake: Mistake| mistake.within(field.name());
    readable(field.name()).map_err(named)?;
    let delta = delta_type(field.data_type()).map_err(named)?;
    Ok(StructField::new(field.name(), delta, field.is_nullable()))
}

/// Without column mapping Spark refuses these characters: it reads and appends to such a table, and never
/// alters it. With a NUL no reader over the Arrow C interface opens it.
fn readable(name: &str) -> Why<()> {
    const RESERVED: &str = " ,;{}()=";
    if name.is_empty() {
        return Err("a column needs a name".into());
    }
    match name
        .chars()
        .find(|one| one.is_control() || RESERVED.contains(*one))
    {
        Some(odd) => Err(mistake(format!(
            "{odd:?} cannot be in the name of a new column, since not every reader takes it: rename the column"
        ))),
        None => Ok(()),
    }
}

pub type Why<T> = std::result::Result<T, Mistake>;

/// The table of types. Everything else in this file follows it.
pub fn delta_type(arrow: &Arrow) -> Why<Delta> {
    let primitive = |primitive| Ok(Delta::Primitive(primitive));
    match arrow {
        Arrow::Boolean => primitive(P::Boolean),
        Arrow::Int8 => primitive(P::Byte),
        Arrow::Int16 => primitive(P::Short),
        Arrow::Int32 => primitive(P::Integer),
        Arrow::Int64 => primitive(P::Long),
        Arrow::Float32 => primitive(P::Float),
        Arrow::Float64 => primitive(P::Double),
        Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View => primitive(P::String),
        Arrow::Binary | Arrow::LargeBinary | Arrow::BinaryView | Arrow::FixedSizeBinary(_) => {
            primitive(P::Binary)
        }
        Arrow::Date32 | Arrow::Date64 => primitive(P::Date),
        Arrow::Timestamp(_, Some(_)) => primitive(P::Timestamp),
        Arrow::Timestamp(_, None) => primitive(P::TimestampNtz),
        Arrow::Decimal32(precision, scale)
        | Arrow::Decimal64(precision, scale)
        | Arrow::Decimal128(precision, scale)
        | Arrow::Decimal256(precision, scale) => match u8::try_from(*scale) {
            Ok(unsigned) if *precision <= 38 && unsigned <= *precision => {
                let decimal =
                    DecimalType::try_new(*precision, unsigned).map_err(|error| mistake(error.to_string()))?;
                primitive(P::Decimal(decimal))
            }
            _ => Err(mistake(format!(
                "decimal({precision}, {scale}) is beyond Delta's decimal(38, 0…38)"
            ))),
        },
        Arrow::Dictionary(_, values) => match values.as_ref() {
            nested if nested.is_nested() => Err("a dictionary of nested values has no Delta type".into()),
            Arrow::Dictionary(_, _) => Err("a dictionary of dictionaries has no Delta type".into()),
            values => delta_type(values),
        },
        Arrow::List(item) | Arrow::LargeList(item) | Arrow::FixedSizeList(item, _) => {
            let element = delta_type(item.data_type()).map_err(|inner| inner.within("element"))?;
            Ok(Delta::Array(Box::new(ArrayType::new(
                element,
                item.is_nullable(),
            ))))
        }
        Arrow::Struct(fields) => {
            if fields.is_empty() {
                return Err("a struct without fields has no Delta type".into());
            }
            if let Some(twice) = duplicates(fields).into_iter().next() {
                return Err(twice);
            }
            let fields: Why<Vec<StructField>> = fields.iter().map(|field| new_field(field)).collect();
            let fields = StructType::try_new(fields?).map_err(|error| mistake(error.to_string()))?;
            Ok(Delta::Struct(Box::new(fields)))
        }
        Arrow::Map(entries, _) => {
            let Arrow::Struct(pair) = entries.data_type() else {
                return Err("a map without entries".into());
            };
            let (key, value) = (&pair[0], &pair[1]);
            let key_type = delta_type(key.data_type()).map_err(|inner| inner.within("key"))?;
            let Delta::Primitive(key_type) = key_type else {
                return Err("a map with nested keys has no reader that agrees on it".into());
            };
            let value_type = delta_type(value.data_type()).map_err(|inner| inner.within("value"))?;
            let map = MapType::new(Delta::Primitive(key_type), value_type, value.is_nullable());
            Ok(Delta::Map(Box::new(map)))
        }
        Arrow::Null => Err("a column of nothing but nulls has no type to store".into()),
        Arrow::UInt8 | Arrow::UInt16 | Arrow::UInt32 | Arrow::UInt64 => Err(mistake(format!(
            "{arrow} is unsigned and Delta's integers are not; cast it to a wider signed type"
        ))),
        Arrow::Float16 => Err("Float16 has no Delta type; cast it to Float32".into()),
        Arrow::Time32(_) | Arrow::Time64(_) => Err("a time of day has no Delta type".into()),
        Arrow::Duration(_) | Arrow::Interval(_) => Err("durations and intervals have no Delta type".into()),
        Arrow::Union(_, _) => Err("a union has no Delta type".into()),
        Arrow::ListView(_) | Arrow::LargeListView(_) => {
            Err("list views are not taken; cast them to lists".into())
        }
        Arrow::RunEndEncoded(_, _) => Err("run-end encoding is not taken; decode it first".into()),
    }
}

/// The Arrow type that goes into the files for a column of this Arrow type in this Delta column.
///
/// Equal to the given one wherever Parquet writes that exactly, so that most columns are not touched.
pub fn physical(arrow: &Arrow, delta: &Delta) -> Why<Arrow> {
    if let (Arrow::Null, Delta::Primitive(_) | Delta::Array(_) | Delta::Struct(_) | Delta::Map(_)) =
        (arrow, delta)
    {
        return Ok(natural(delta));
    }
    match (arrow, delta) {
        (Arrow::List(item) | Arrow::LargeList(item) | Arrow::FixedSizeList(item, _), Delta::Array(array)) => {
            let element =
                physical(item.data_type(), array.element_type()).map_err(|inner| inner.within("element"))?;
            Ok(Arrow::List(Arc::new(Field::new(
                "element",
                element,
                array.contains_null(),
            ))))
        }
        (Arrow::Struct(given), Delta::Struct(wanted)) => {
            let names: Vec<&String> = given.iter().map(|field| field.name()).collect();
            if let Some(extra) = names.iter().find(|name| wanted.field(name).is_none()) {
                return Err(Mistake::of(extra, "the table's struct has no such field"));
            }
            if let Some(twice) = duplicates(given).into_iter().next() {
                return Err(twice);
            }
            let fields: Why<Vec<Field>> = wanted
                .fields()
                .map(|field| {
                    let inner = match given.find(&field.name) {
                        Some((_, found)) => physical(found.data_type(), &field.data_type)
                            .map_err(|inner| inner.within(&field.name))?,
                        None => absent(field)?,
                    };
                    Ok(Field::new(&field.name, inner, field.nullable))
                })
                .collect();
            Ok(Arrow::Struct(Fields::from(fields?)))
        }
        (Arrow::Map(entries, _), Delta::Map(map)) => {
            let Arrow::Struct(pair) = entries.data_type() else {
                return Err("a map without entries".into());
            };
            let key = physical(pair[0].data_type(), map.key_type()).map_err(|inner| inner.within("key"))?;
            let value =
                physical(pair[1].data_type(), map.value_type()).map_err(|inner| inner.within("value"))?;
            Ok(map_of(key, value, map.value_contains_null()))
        }
        (_, Delta::Primitive(wanted)) => match delta_type(arrow)? {
            Delta::Primitive(found) if found == *wanted => Ok(match arrow {
                // Parquet's writer takes every string and dictionary of strings as it is.
                Arrow::LargeUtf8 | Arrow::Utf8View | Arrow::LargeBinary | Arrow::BinaryView => arrow.clone(),
                Arrow::Dictionary(_, values) if matches!(values.as_ref(), Arrow::Utf8 | Arrow::LargeUtf8) => {
                    arrow.clone()
                }
                _ => natural(delta),
            }),
            found => Err(differs(&found, delta)),
        },
        _ => Err(delta_type(arrow).map_or_else(|why| why, |found| differs(&found, delta))),
    }
}

/// What the files hold for a column or field of the table that batches lack.
///
/// # Errors
/// If that is not null: the table allows none, or says by an expression what it is.
pub fn absent(field: &StructField) -> Why<Arrow> {
    if let Some(default) = default_of(field) {
        return Err(Mistake::of(
            &field.name,
            format!(
                "missing, and the table's default for it ({default}) is not computed by this writer: give it in every batch"
            ),
        ));
    }
    if !field.nullable {
        return Err(Mistake::of(
            &field.name,
            "missing, and the table does not allow nulls there",
        ));
    }
    Ok(natural(&field.data_type))
}

/// The expression that stands for a value that is not given, unless that is null anyway.
fn default_of(field: &StructField) -> Option<String> {
    let default = field.metadata.get("CURRENT_DEFAULT")?.to_string();
    (!default.trim().eq_ignore_ascii_case("null")).then_some(default)
}

/// How many characters the table allows in a string column: Spark's `VARCHAR(n)` and `CHAR(n)`, which the
/// log has as plain strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    AtMost(usize),
    /// Spark pads what is shorter, and compares with what is padded.
    Exactly(usize),
}

impl Length {
    pub const KEY: &str = "__CHAR_VARCHAR_TYPE_STRING";

    /// None if any will do, or if the word is one that [`super::features`] refuses.
    pub fn of(field: &StructField) -> Option<Length> {
        let text = field.metadata.get(Self::KEY)?.to_string();
        let (kind, rest) = text.split_once('(')?;
        let most = rest.strip_suffix(')')?.trim().parse().ok()?;
        match (kind, &field.data_type) {
            ("varchar", Delta::Primitive(P::String)) => Some(Length::AtMost(most)),
            ("char", Delta::Primitive(P::String)) => Some(Length::Exactly(most)),
            _ => None,
        }
    }

    pub fn says(self) -> &'static str {
        match self {
            Length::AtMost(_) => "has more characters than the table allows there",
            Length::Exactly(_) => {
                "has not as many characters as the table asks for there (CHAR is padded with blanks)"
            }
        }
    }

    /// The first row of a text that is not of this length.
    pub fn first_odd(self, array: &ArrayRef) -> Option<usize> {
        let odd = |text: &str| match self {
            // As many bytes as characters is the least there can be.
            Length::AtMost(most) => text.len() > most && text.chars().count() > most,
            Length::Exactly(count) => text.chars().count() != count,
        };
        match array.data_type() {
            Arrow::Utf8 => first_text(array.as_string::<i32>(), odd),
            Arrow::LargeUtf8 => first_text(array.as_string::<i64>(), odd),
            Arrow::Utf8View => first_text(array.as_string_view(), odd),
            Arrow::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                let values = dictionary.values();
                let bad: Vec<bool> = (0..values.len())
                    .map(|value| self.first_odd(&values.slice(value, 1)).is_some())
                    .collect();
                let keys = keys_of(dictionary);
                (0..array.len()).find(|row| array.is_valid(*row) && bad.get(keys[*row]) == Some(&true))
            }
            _ => None,
        }
    }
}

fn first_text<'a>(
    texts: impl IntoIterator<Item = Option<&'a str>>,
    odd: impl Fn(&str) -> bool,
) -> Option<usize> {
    texts.into_iter().position(|text| text.is_some_and(&odd))
}

fn differs(found: &Delta, wanted: &Delta) -> Mistake {
    mistake(format!(
        "is {} here and {} in the table",
        describe(found),
        describe(wanted)
    ))
}

fn describe(delta: &Delta) -> String {
    match delta {
        Delta::Primitive(primitive) => primitive.to_string(),
        Delta::Array(array) => format!("array<{}>", describe(array.element_type())),
        Delta::Struct(_) => "a struct".into(),
        Delta::Map(_) => "a map".into(),
        Delta::Variant(_) => "a variant".into(),
    }
}

fn map_of(key: Arrow, value: Arrow, value_nullable: bool) -> Arrow {
    let pair = Fields::from(vec![
        Field::new("key", key, false),
        Field::new("value", value, value_nullable),
    ]);
    Arrow::Map(
        Arc::new(Field::new("key_value", Arrow::Struct(pair), false)),
        false,
    )
}

/// The Arrow type of a Delta type when nothing else is asked for.
pub fn natural(delta: &Delta) -> Arrow {
    match delta {
        Delta::Primitive(primitive) => match primitive {
            P::String => Arrow::Utf8,
            P::Long => Arrow::Int64,
            P::Integer => Arrow::Int32,
            P::Short => Arrow::Int16,
            P::Byte => Arrow::Int8,
            P::Float => Arrow::Float32,
            P::Double => Arrow::Float64,
            P::Boolean => Arrow::Boolean,
            P::Binary => Arrow::Binary,
            P::Date => Arrow::Date32,
            P::Timestamp => Arrow::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            P::TimestampNtz => Arrow::Timestamp(TimeUnit::Microsecond, None),
            P::Decimal(decimal) => Arrow::Decimal128(decimal.precision(), decimal.scale().cast_signed()),
            // No batch has such a column, and a file need not hold one that is all null.
            _ => Arrow::Null,
        },
        Delta::Array(array) => Arrow::List(Arc::new(Field::new(
            "element",
            natural(array.element_type()),
            array.contains_null(),
        ))),
        Delta::Struct(fields) | Delta::Variant(fields) => Arrow::Struct(
            fields
                .fields()
                .map(|field| Field::new(&field.name, natural(&field.data_type), field.nullable))
                .collect(),
        ),
        Delta::Map(map) => map_of(
            natural(map.key_type()),
            natural(map.value_type()),
            map.value_contains_null(),
        ),
    }
}
