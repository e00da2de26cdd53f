//! Arrow ↔ Delta types: one table, which `specs/delta-types.md` says in prose.
//!
//! Invariants:
//! - A type has one Delta type, or none and a reason; a wider one that would hold the values is not
//!   chosen silently.
//! - What is allowed here is exact for every value, or [`super::conform`] looks at the values.

use std::sync::Arc;

use arrow::datatypes::{DataType as Arrow, Field, Fields, Schema, TimeUnit};
use deltalake_core::kernel::{
    ArrayType, DataType as Delta, DecimalType, MapType, PrimitiveType as P, StructField, StructType,
};

use crate::error::{Code, Error, Result};

/// The Delta schema of a table that is created for these batches.
///
/// # Errors
/// `SCHEMA_MISMATCH` naming every column without an exact Delta type.
pub fn table_schema(schema: &Schema) -> Result<Vec<StructField>> {
    let mut mistakes = duplicates(schema);
    let mut fields = Vec::new();
    for field in schema.fields() {
        match delta_type(field.data_type()) {
            Ok(delta) => fields.push(StructField::new(field.name(), delta, field.is_nullable())),
            Err(why) => mistakes.push(format!("{}: {why}", field.name())),
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

pub fn mismatch(mistakes: &[String]) -> Error {
    Error::new(
        Code::SchemaMismatch,
        format!(
            "the table cannot hold these columns exactly: {}",
            mistakes.join("; ")
        ),
    )
    .during("open")
}

pub fn duplicates(schema: &Schema) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    schema
        .fields()
        .iter()
        .filter(|field| !seen.insert(field.name().to_lowercase()))
        .map(|field| format!("{}: given twice", field.name()))
        .collect()
}

type Why<T> = std::result::Result<T, String>;

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
                    DecimalType::try_new(*precision, unsigned).map_err(|error| error.to_string())?;
                primitive(P::Decimal(decimal))
            }
            _ => Err(format!(
                "decimal({precision}, {scale}) is beyond Delta's decimal(38, 0…38)"
            )),
        },
        Arrow::Dictionary(_, values) => match values.as_ref() {
            nested if nested.is_nested() => Err("a dictionary of nested values has no Delta type".into()),
            Arrow::Dictionary(_, _) => Err("a dictionary of dictionaries has no Delta type".into()),
            values => delta_type(values),
        },
        Arrow::List(item) | Arrow::LargeList(item) | Arrow::FixedSizeList(item, _) => {
            let element = delta_type(item.data_type())?;
            Ok(Delta::Array(Box::new(ArrayType::new(
                element,
                item.is_nullable(),
            ))))
        }
        Arrow::Struct(fields) => {
            if fields.is_empty() {
                return Err("a struct without fields has no Delta type".into());
            }
            let twice = duplicates(&Schema::new(fields.clone()));
            if let Some(first) = twice.first() {
                return Err(format!("field {first}"));
            }
            let fields: Why<Vec<StructField>> = fields
                .iter()
                .map(|field| {
                    let inner =
                        delta_type(field.data_type()).map_err(|why| format!("{}: {why}", field.name()))?;
                    Ok(StructField::new(field.name(), inner, field.is_nullable()))
                })
                .collect();
            let fields = StructType::try_new(fields?).map_err(|error| error.to_string())?;
            Ok(Delta::Struct(Box::new(fields)))
        }
        Arrow::Map(entries, _) => {
            let Arrow::Struct(pair) = entries.data_type() else {
                return Err("a map without entries".into());
            };
            let (key, value) = (&pair[0], &pair[1]);
            let Delta::Primitive(key_type) = delta_type(key.data_type())? else {
                return Err("a map with nested keys has no reader that agrees on it".into());
            };
            let value_type = delta_type(value.data_type())?;
            let map = MapType::new(Delta::Primitive(key_type), value_type, value.is_nullable());
            Ok(Delta::Map(Box::new(map)))
        }
        Arrow::Null => Err("a column of nothing but nulls has no type to store".into()),
        Arrow::UInt8 | Arrow::UInt16 | Arrow::UInt32 | Arrow::UInt64 => Err(format!(
            "{arrow} is unsigned and Delta's integers are not; cast it to a wider signed type"
        )),
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
            let element = physical(item.data_type(), array.element_type())?;
            Ok(Arrow::List(Arc::new(Field::new(
                "element",
                element,
                array.contains_null(),
            ))))
        }
        (Arrow::Struct(given), Delta::Struct(wanted)) => {
            let names: Vec<&String> = given.iter().map(|field| field.name()).collect();
            if let Some(extra) = names.iter().find(|name| wanted.field(name).is_none()) {
                return Err(format!("the table's struct has no field {extra}"));
            }
            if let Some(twice) = duplicates(&Schema::new(given.clone())).first() {
                return Err(format!("field {twice}"));
            }
            let fields: Why<Vec<Field>> = wanted
                .fields()
                .map(|field| {
                    let inner = match given.find(&field.name) {
                        Some((_, found)) => physical(found.data_type(), &field.data_type)
                            .map_err(|why| format!("{}: {why}", field.name))?,
                        None if field.nullable => natural(&field.data_type),
                        None => return Err(format!("field {} is missing and not nullable", field.name)),
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
            let key = physical(pair[0].data_type(), map.key_type())?;
            let value = physical(pair[1].data_type(), map.value_type())?;
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
            found => Err(format!(
                "is {} here and {} in the table",
                describe(&found),
                describe(delta)
            )),
        },
        _ => match delta_type(arrow) {
            Ok(found) => Err(format!(
                "is {} here and {} in the table",
                describe(&found),
                describe(delta)
            )),
            Err(why) => Err(why),
        },
    }
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
