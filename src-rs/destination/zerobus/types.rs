//! The type table of `specs/zerobus.md` in code: what may become what, and what goes onto the wire.
//!
//! Invariants:
//! - A pair of types that is not named here does not go.
//! - A rule is exact, or it is checked value by value; there is no third kind.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};

use super::limits::mismatch;
use crate::error::Result;

/// How one type becomes another.
#[derive(Debug)]
pub enum TypeRule<'t> {
    Same,
    /// Every value has its like.
    Exact,
    /// Some values have none; each is cast back and compared.
    Checked,
    /// A column of nothing.
    Nulls,
    /// Values that are written down once and pointed at: they are looked up first, then judged again.
    Decoded(DataType),
    Struct(&'t Fields, &'t Fields),
    List(&'t FieldRef, &'t FieldRef),
    /// Key and value of both.
    Map(&'t Fields, &'t Fields),
}

/// None if values of one type cannot be had as the other.
pub fn rule<'t>(given: &'t DataType, wanted: &'t DataType) -> Option<TypeRule<'t>> {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Dictionary, FixedSizeBinary, FixedSizeList, LargeBinary,
        LargeList, LargeListView, LargeUtf8, List, ListView, Map, Null, RunEndEncoded, Struct, Timestamp,
        Utf8, Utf8View,
    };
    if given == wanted {
        return Some(TypeRule::Same);
    }
    Some(match (given, wanted) {
        (Null, _) => TypeRule::Nulls,
        (Dictionary(_, values), _) => TypeRule::Decoded(values.as_ref().clone()),
        (RunEndEncoded(_, values), _) => TypeRule::Decoded(values.data_type().clone()),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => TypeRule::Exact,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => TypeRule::Exact,
        (FixedSizeBinary(_), Binary | LargeBinary) => TypeRule::Exact,
        (Date32, Date64) => TypeRule::Exact,
        (Date64, Date32) => TypeRule::Checked,
        // An instant is not a reading of a clock on some wall.
        (Timestamp(given, zone), Timestamp(wanted, utc)) if zone.is_some() == utc.is_some() => {
            match given == wanted {
                true => TypeRule::Exact,
                false => TypeRule::Checked,
            }
        }
        (given, Utf8 | LargeUtf8) if given.is_decimal() => TypeRule::Exact,
        (given, wanted) if given.is_decimal() && wanted.is_decimal() => TypeRule::Checked,
        (given, wanted)
            if given.is_integer() && wanted.is_integer() || given.is_floating() && wanted.is_floating() =>
        {
            match widens(given, wanted) {
                true => TypeRule::Exact,
                false => TypeRule::Checked,
            }
        }
        (Struct(given), Struct(wanted)) => TypeRule::Struct(given, wanted),
        (
            List(given) | LargeList(given) | ListView(given) | LargeListView(given) | FixedSizeList(given, _),
            List(wanted) | LargeList(wanted),
        ) => TypeRule::List(given, wanted),
        (Map(given, _), Map(wanted, _)) => match (given.data_type(), wanted.data_type()) {
            (Struct(given), Struct(wanted)) if given.len() == 2 && wanted.len() == 2 => {
                TypeRule::Map(given, wanted)
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether every number of one type is one of the other.
fn widens(given: &DataType, wanted: &DataType) -> bool {
    let width = |number: &DataType| number.primitive_width().unwrap_or_default();
    let (signed, wanted_signed) = (!given.is_unsigned_integer(), !wanted.is_unsigned_integer());
    match (signed, wanted_signed) {
        (true, false) => false,
        _ => width(given) < width(wanted),
    }
}

/// A schema as the service would have it, for a table that nobody could be asked about.
///
/// # Errors
/// `SCHEMA_MISMATCH` naming every column that has no like there.
pub fn on_the_wire(schema: &Schema) -> Result<Schema> {
    let mut mistakes = Vec::new();
    let fields: Fields = schema
        .fields()
        .iter()
        .map(|field| wire_field(field, field.name(), &mut mistakes))
        .collect();
    match mistakes.is_empty() {
        true => Ok(Schema::new(fields)),
        false => Err(mismatch(&mistakes)),
    }
}

fn wire_field(field: &Field, path: &str, mistakes: &mut Vec<(String, String)>) -> FieldRef {
    let data_type = wire_type(field.data_type(), path, mistakes);
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

fn wire_type(given: &DataType, path: &str, mistakes: &mut Vec<(String, String)>) -> DataType {
    use DataType as T;
    let text = T::LargeUtf8;
    match given {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 => given.clone(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 | T::UInt64 => T::Int64,
        T::Float16 => T::Float32,
        T::Utf8 | T::LargeUtf8 | T::Binary | T::LargeBinary | T::Date32 => given.clone(),
        T::Utf8View => text,
        T::BinaryView | T::FixedSizeBinary(_) => T::LargeBinary,
        T::Date64 => T::Date32,
        T::Timestamp(_, Some(_)) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Timestamp(_, None) => T::Timestamp(TimeUnit::Microsecond, None),
        // The service reads decimals as text.
        given if given.is_decimal() => text,
        T::Dictionary(_, values) => wire_type(values, path, mistakes),
        T::RunEndEncoded(_, values) => wire_type(values.data_type(), path, mistakes),
        T::List(item)
        | T::LargeList(item)
        | T::ListView(item)
        | T::LargeListView(item)
        | T::FixedSizeList(item, _) => {
            let item = wire_type(item.data_type(), path, mistakes);
            T::List(Arc::new(Field::new("item", item, true)))
        }
        T::Struct(fields) => T::Struct(
            fields
                .iter()
                .map(|field| wire_field(field, &format!("{path}.{}", field.name()), mistakes))
                .collect(),
        ),
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(entries) if entries.len() == 2 => {
                let mut part = |index: usize, name: &str, nullable| {
                    let at = format!("{path}.{name}");
                    Field::new(
                        name,
                        wire_type(entries[index].data_type(), &at, mistakes),
                        nullable,
                    )
                };
                let entries = Fields::from(vec![part(0, "keys", false), part(1, "values", true)]);
                T::Map(Arc::new(Field::new("entries", T::Struct(entries), false)), false)
            }
            _ => refused(given, path, mistakes),
        },
        _ => refused(given, path, mistakes),
    }
}

fn refused(given: &DataType, path: &str, mistakes: &mut Vec<(String, String)>) -> DataType {
    let text = format!("given as {given}, and the service has no such type");
    mistakes.push((path.to_string(), text));
    given.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, data_type: DataType) -> FieldRef {
        Arc::new(Field::new(name, data_type, true))
    }

    /// what nobody could be asked about goes as the service would have it, inside and out.
    #[test]
    fn nested_types_go_onto_the_wire_from_the_inside() {
        let words = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View));
        let entries = DataType::Struct(Fields::from(vec![
            Arc::new(Field::new("k", DataType::Utf8, false)),
            field("v", DataType::UInt8),
        ]));
        let schema = Schema::new(vec![
            field("list", DataType::FixedSizeList(field("i", words), 2)),
            field("map", DataType::Map(field("pairs", entries), false)),
            field(
                "struct",
                DataType::Struct(Fields::from(vec![field("d", DataType::Date64)])),
            ),
        ]);
        let wire = on_the_wire(&schema).unwrap();
        let types: Vec<String> = wire.fields().iter().map(|f| f.data_type().to_string()).collect();
        assert!(
            types[0].starts_with("List(") && types[0].contains("LargeUtf8"),
            "{types:?}"
        );
        assert!(
            types[1].starts_with("Map(") && types[1].contains("Int16"),
            "{types:?}"
        );
        assert!(types[2].contains("Date32"), "{types:?}");
        for (given, wanted) in schema.fields().iter().zip(wire.fields()) {
            assert!(
                rule(given.data_type(), wanted.data_type()).is_some(),
                "{given} has no way to {wanted}"
            );
        }
    }

    /// every column that cannot go is named, not only the first.
    #[test]
    fn what_has_no_like_there_is_named() {
        let schema = Schema::new(vec![
            field("span", DataType::Duration(TimeUnit::Second)),
            field("fine", DataType::Int64),
            field(
                "deep",
                DataType::new_list(DataType::Time32(TimeUnit::Second), true),
            ),
        ]);
        let error = on_the_wire(&schema).unwrap_err().to_string();
        assert!(error.contains("span") && error.contains("deep"), "{error}");
        assert!(!error.contains("fine"), "{error}");
    }
}
