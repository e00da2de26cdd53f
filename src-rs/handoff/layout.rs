//! Which buffers an Arrow type is made of, and which types are no types at all.
//!
//! `specs/boundary.md` has the same table in prose. This file knows no bytes.

use arrow::array::{BufferSpec, layout};
use arrow::datatypes::{DataType, FieldRef, Fields, UnionFields, UnionMode};

use super::fault::BatchFault;

/// How deep fields may be nested. Everything that walks a type recurses, so that without a bound a
/// hostile schema overflows the stack, which nothing can catch; real ones stay below ten.
pub(super) const MAX_DEPTH: usize = 64;

/// How long an array may be. Types without buffers (nulls, empty structs) can claim any length, and
/// arrow-rs allocates a bit for each row now and then: this bounds that at 512 MiB.
pub(super) const MAX_ROWS: usize = u32::MAX as usize;

/// The buffers of one node, apart from validity.
pub(super) enum Shape<'a> {
    Null,
    Bool,
    /// Values of `width` bytes that Rust wants aligned to `alignment`.
    Fixed {
        width: usize,
        alignment: usize,
    },
    /// Offsets, of 8 bytes if `wide` or else 4, then values.
    Bytes {
        text: bool,
        wide: bool,
    },
    Views {
        text: bool,
    },
    List {
        wide: bool,
        item: &'a FieldRef,
    },
    FixedSizeList {
        item: &'a FieldRef,
        size: usize,
    },
    Struct(&'a Fields),
    Union {
        fields: &'a UnionFields,
        dense: bool,
    },
    Dictionary {
        keys: &'a DataType,
        values: &'a DataType,
    },
}

/// # Errors
/// The types that only IPC bytes can carry, by name.
pub(super) fn shape(data_type: &DataType) -> Result<Shape<'_>, BatchFault> {
    Ok(match data_type {
        DataType::Null => Shape::Null,
        DataType::Boolean => Shape::Bool,
        DataType::Utf8 => Shape::Bytes {
            text: true,
            wide: false,
        },
        DataType::LargeUtf8 => Shape::Bytes {
            text: true,
            wide: true,
        },
        DataType::Binary => Shape::Bytes {
            text: false,
            wide: false,
        },
        DataType::LargeBinary => Shape::Bytes {
            text: false,
            wide: true,
        },
        DataType::Utf8View => Shape::Views { text: true },
        DataType::BinaryView => Shape::Views { text: false },
        DataType::List(item) | DataType::Map(item, _) => Shape::List { wide: false, item },
        DataType::LargeList(item) => Shape::List { wide: true, item },
        DataType::FixedSizeList(item, size) => Shape::FixedSizeList {
            item,
            size: usize::try_from(*size).map_err(|_| negative(data_type))?,
        },
        DataType::Struct(fields) => Shape::Struct(fields),
        DataType::Union(fields, mode) => Shape::Union {
            fields,
            dense: *mode == UnionMode::Dense,
        },
        DataType::Dictionary(keys, values) => Shape::Dictionary { keys, values },
        // Arrow's own table panics at a negative width.
        DataType::FixedSizeBinary(width) if *width < 0 => return Err(negative(data_type)),
        // Their numbers are aligned to less than their width.
        DataType::Interval(_) => by_arrows_table(data_type)?,
        other => match other.primitive_width() {
            // Arrow's own table allocates, for each column of each batch.
            Some(width) if width <= 8 => Shape::Fixed {
                width,
                alignment: width,
            },
            _ => by_arrows_table(data_type)?,
        },
    })
}

/// As arrow lays it out, which is what its import will look for.
fn by_arrows_table(data_type: &DataType) -> Result<Shape<'static>, BatchFault> {
    match layout(data_type).buffers.as_slice() {
        [
            BufferSpec::FixedWidth {
                byte_width,
                alignment,
            },
        ] => Ok(Shape::Fixed {
            width: *byte_width,
            alignment: *alignment,
        }),
        _ => Err(BatchFault::new(format!(
            "{data_type} columns cross as IPC bytes only, not as buffers"
        ))),
    }
}

/// Refuses what arrow-rs would panic at, read wrongly or never return from.
pub(super) fn check_type(data_type: &DataType, depth: usize) -> Result<(), BatchFault> {
    if depth > MAX_DEPTH {
        return Err(BatchFault::new(format!(
            "fields are nested deeper than {MAX_DEPTH} levels"
        )));
    }
    let inner = |field: &FieldRef| {
        check_type(field.data_type(), depth + 1).map_err(|fault| fault.within(field.name()))
    };
    match data_type {
        DataType::FixedSizeBinary(width) if *width < 0 => Err(negative(data_type)),
        DataType::FixedSizeList(_, size) if *size < 0 => Err(negative(data_type)),
        DataType::Map(entries, _) => {
            match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 && !fields[0].is_nullable() => {}
                _ => {
                    return Err(BatchFault::new(
                        "the entries of a map are structs of two fields, the first not nullable",
                    ));
                }
            }
            if entries.is_nullable() {
                return Err(BatchFault::new("the entries of a map cannot be nullable"));
            }
            inner(entries)
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => inner(item),
        DataType::Struct(fields) => fields.iter().try_for_each(inner),
        DataType::Union(fields, _) => {
            if fields.iter().any(|(id, _)| id < 0) {
                return Err(BatchFault::new("a type id of the union is negative"));
            }
            fields.iter().map(|(_, field)| field).try_for_each(inner)
        }
        DataType::RunEndEncoded(run_ends, values) => {
            if !run_ends.data_type().is_run_ends_type() || run_ends.is_nullable() {
                return Err(BatchFault::new(
                    "run ends are Int16, Int32 or Int64, and never null",
                ));
            }
            inner(values)
        }
        DataType::Dictionary(keys, values) => {
            if !keys.is_dictionary_key_type() {
                return Err(BatchFault::new(format!(
                    "{keys} cannot be the key of a dictionary"
                )));
            }
            check_type(values, depth + 1)
        }
        _ => Ok(()),
    }
}

fn negative(data_type: &DataType) -> BatchFault {
    BatchFault::new(format!("{data_type} has a negative size"))
}
