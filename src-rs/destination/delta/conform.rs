//! Batches → what the table's files hold.
//!
//! Invariants:
//! - A value arrives as it left or the write is refused; there is no lossy cast in this file. Where
//!   a type can hold values that Delta cannot (nanoseconds, milliseconds of a date), the values are
//!   looked at and the first bad one is named with its row. So are dates and times outside the years 1
//!   to 9999: readers that know no others lose rows by a bound that is missing, and end at one that is
//!   written.
//! - What goes to the encoder has the names, the order and the nullability of the table.
//!
//! It does not know of files, partitions or commits.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, RecordBatch, StructArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options, nullif, take};
use arrow::datatypes::{
    DataType as Arrow, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use deltalake_core::kernel::{DataType as Delta, StructField, StructType};

use super::types::{Length, Mistake, absent, duplicates, mismatch, new_field, physical};
use crate::error::{Code, Error, Result};

/// How the batches of a session become the table's rows.
#[derive(Debug, Clone)]
pub struct TableConversion {
    /// What was said when the session opened, and what every batch must look like.
    source: SchemaRef,
    columns: Vec<Column>,
    /// Columns of the batch that the table does not have, as they would be added.
    pub unknown: Vec<StructField>,
    /// What [`TableConversion::conform`] yields: the table's columns, in its order.
    pub target: SchemaRef,
    table: Vec<StructField>,
}

#[derive(Debug, Clone)]
struct Column {
    /// The index in the batch; none if the batch lacks this column.
    source: Option<usize>,
    name: String,
    delta: Delta,
    length: Option<Length>,
}

impl TableConversion {
    /// For a table of these columns, partitioned by some of them. With `grow`, columns that the table
    /// lacks are no mistake.
    ///
    /// # Errors
    /// `SCHEMA_MISMATCH` naming every column that the table cannot take as it is.
    pub fn new(source: &SchemaRef, table: &StructType, by: &[String], grow: bool) -> Result<TableConversion> {
        let mut mistakes = duplicates(source.fields());
        let mut columns = Vec::new();
        let mut target = Vec::new();
        for field in table.fields() {
            let found = source.index_of(&field.name).ok();
            let physical = match found {
                Some(index) => physical(source.field(index).data_type(), &field.data_type)
                    .map_err(|why| why.within(&field.name)),
                None => absent(field),
            };
            match physical {
                // A type that no file has a place for, as `void`: the column is left away, and reads as nulls.
                Ok(Arrow::Null) => {}
                Ok(physical) => {
                    target.push(Field::new(&field.name, physical, field.nullable));
                    columns.push(Column {
                        source: found,
                        name: field.name.clone(),
                        delta: field.data_type.clone(),
                        length: Length::of(field),
                    });
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let mut unknown = Vec::new();
        for field in source.fields() {
            if table.field(field.name()).is_some() {
                continue;
            }
            let name = field.name().to_lowercase();
            if let Some(other) = table.fields().find(|known| known.name.to_lowercase() == name) {
                // Delta tables do not tell names apart by case.
                let why = format!("the table spells it {}", other.name);
                mistakes.push(Mistake::of(field.name(), why));
                continue;
            }
            match new_field(field) {
                Ok(_) if !grow => mistakes.push(Mistake::of(
                    field.name(),
                    "not in the table (delta.schemaEvolution is \"none\")",
                )),
                Ok(new) => unknown.push(StructField::nullable(new.name, new.data_type)),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let stored = target.iter().any(|field| !by.contains(field.name()));
        if mistakes.is_empty() && unknown.is_empty() && !stored {
            // A file of no columns holds no rows either, and what was sent would be gone.
            mistakes.push("none of them would be in the table's files".into());
        }
        if !mistakes.is_empty() {
            return Err(mismatch(&mistakes));
        }
        Ok(TableConversion {
            source: Arc::clone(source),
            columns,
            unknown,
            target: Arc::new(Schema::new(target)),
            table: table.fields().cloned().collect(),
        })
    }

    /// Whether files written by this plan still belong into the table after its columns changed.
    pub fn fits(&self, table: &StructType) -> bool {
        let kept = |known: &StructField| {
            table.field(&known.name).is_some_and(|now| {
                now.data_type == known.data_type
                    && now.nullable == known.nullable
                    && Length::of(now) == Length::of(known)
            })
        };
        // What the files lack, the table must still take for null.
        let fills = |now: &StructField| self.source.index_of(&now.name).is_ok() || absent(now).is_ok();
        self.table.iter().all(kept) && table.fields().all(fills)
    }

    /// # Errors
    /// `BATCH_INVALID` naming column and row for a value that the table cannot hold;
    /// `SCHEMA_MISMATCH` for a batch of another schema than the session was opened with.
    pub fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema_ref();
        let same = schema.fields().len() == self.source.fields().len()
            && schema
                .fields()
                .iter()
                .zip(self.source.fields())
                .all(|(a, b)| a.name() == b.name() && a.data_type().equals_datatype(b.data_type()));
        if !same {
            return Err(Error::new(
                Code::SchemaMismatch,
                "the batch has another schema than its session was opened with",
            ));
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.target.fields()) {
            let array = match column.source {
                Some(index) => conform(batch.column(index), &column.delta, field, &column.name)?,
                None => new_null_array(field.data_type(), batch.num_rows()),
            };
            if !field.is_nullable()
                && let Some(nulls) = array.logical_nulls()
                && let Some(row) = (0..nulls.len()).find(|row| nulls.is_null(*row))
            {
                return Err(refuse(
                    &column.name,
                    Some(row),
                    "is null where the table allows no nulls",
                ));
            }
            if let Some(length) = column.length {
                let odd = length.first_odd(&array);
                odd.map_or(Ok(()), |row| Err(refuse(&column.name, Some(row), length.says())))?;
            }
            arrays.push(array);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.target), arrays, &options).map_err(|error| {
            Error::new(Code::Internal, "the batch does not fit the table's files").caused_by(&error)
        })
    }
}

fn refuse(column: &str, row: Option<usize>, why: &str) -> Error {
    let error = Error::new(Code::BatchInvalid, format!("column {column}: a value {why}"))
        .in_field(column)
        .during("write");
    match row {
        Some(row) => error.at_row(row as u64),
        None => error,
    }
}

fn conform(array: &ArrayRef, delta: &Delta, field: &Field, path: &str) -> Result<ArrayRef> {
    let wanted = field.data_type();
    let unchanged = array.data_type() == wanted;
    if unchanged && !array.data_type().is_nested() {
        exact(array, path)?;
        return Ok(Arc::clone(array));
    }
    let internal =
        |error| Error::new(Code::Internal, format!("column {path}: cannot be rebuilt")).caused_by(&error);
    match (array.data_type(), delta, wanted) {
        (Arrow::Null, _, _) => Ok(new_null_array(wanted, array.len())),
        (_, Delta::Array(of), Arrow::List(element)) => {
            let list = as_list(array, path)?;
            let (offsets, items) = kept(list.value_offsets(), list.nulls());
            let values = items.of(list.values()).map_err(internal)?;
            let values = conform(&values, of.element_type(), element, &format!("{path}.element"))
                .map_err(|error| in_parent(error, &offsets))?;
            no_nulls(&values, element, path).map_err(|error| in_parent(error, &offsets))?;
            let list = ListArray::try_new(Arc::clone(element), offsets, values, list.nulls().cloned());
            Ok(Arc::new(list.map_err(internal)?))
        }
        (Arrow::Struct(_), Delta::Struct(of), Arrow::Struct(fields)) => {
            let given = array.as_struct();
            let mut children = Vec::with_capacity(fields.len());
            for (field, delta) in fields.iter().zip(of.fields()) {
                let path = format!("{path}.{}", field.name());
                let child = match given.column_by_name(field.name()) {
                    Some(child) => {
                        // What lies under a null may be anything, and is no value.
                        let child = match given.nulls() {
                            Some(nulls) if nulls.null_count() > 0 => {
                                nullif(child, &BooleanArray::new(!nulls.inner(), None)).map_err(internal)?
                            }
                            _ => Arc::clone(child),
                        };
                        conform(&child, &delta.data_type, field, &path)?
                    }
                    None => new_null_array(field.data_type(), given.len()),
                };
                if !field.is_nullable()
                    && let Some(row) =
                        (0..child.len()).find(|row| child.is_null(*row) && given.is_valid(*row))
                {
                    return Err(refuse(
                        &path,
                        Some(row),
                        "is null where the table allows no nulls",
                    ));
                }
                children.push(child);
            }
            let built = StructArray::try_new(fields.clone(), children, given.nulls().cloned());
            Ok(Arc::new(built.map_err(internal)?))
        }
        (Arrow::Map(_, _), Delta::Map(of), Arrow::Map(entries, sorted)) => {
            let map = array.as_map();
            let Arrow::Struct(pair) = entries.data_type() else {
                return Err(refuse(path, None, "is no map"));
            };
            let (offsets, items) = kept(map.value_offsets(), map.nulls());
            let part = |column: &ArrayRef| items.of(column).map_err(internal);
            let keys = conform(
                &part(map.keys())?,
                of.key_type(),
                &pair[0],
                &format!("{path}.key"),
            )
            .map_err(|error| in_parent(error, &offsets))?;
            let values = conform(
                &part(map.values())?,
                of.value_type(),
                &pair[1],
                &format!("{path}.value"),
            )
            .map_err(|error| in_parent(error, &offsets))?;
            no_nulls(&keys, &pair[0], path).map_err(|error| in_parent(error, &offsets))?;
            no_nulls(&values, &pair[1], path).map_err(|error| in_parent(error, &offsets))?;
            let rows = StructArray::try_new(pair.clone(), vec![keys, values], None).map_err(internal)?;
            let built = MapArray::try_new(Arc::clone(entries), offsets, rows, map.nulls().cloned(), *sorted);
            Ok(Arc::new(built.map_err(internal)?))
        }
        _ if unchanged => Ok(Arc::clone(array)),
        (Arrow::Dictionary(_, values), _, _) if !unchanged => {
            // A value that no row refers to is no value, and may be anything.
            let plain = arrow::compute::cast(array, values).map_err(internal)?;
            conform(&plain, delta, field, path)
        }
        _ => {
            exact(array, path)?;
            let options = CastOptions {
                // An overflow must be an error: "safe" turns it into a null.
                safe: false,
                ..CastOptions::default()
            };
            cast_with_options(array, wanted, &options)
                .map_err(|error| refuse(path, None, "is out of the table's range").caused_by(&error))
        }
    }
}

fn no_nulls(array: &ArrayRef, field: &Field, path: &str) -> Result<()> {
    if !field.is_nullable()
        && let Some(nulls) = array.logical_nulls()
        && let Some(item) = (0..nulls.len()).find(|item| nulls.is_null(*item))
    {
        return Err(refuse(
            path,
            Some(item),
            "is null inside, where the table allows no nulls",
        ));
    }
    Ok(())
}

/// The row of a list or map that holds the item which the error is about.
fn in_parent(error: Error, offsets: &[i32]) -> Error {
    match error.row() {
        Some(item) => {
            let row = offsets.partition_point(|offset| *offset as u64 <= item);
            error.at_row(row.saturating_sub(1) as u64)
        }
        None => error,
    }
}

/// In seconds.
const DAY: i64 = 86_400;
/// 0001-01-01 and 9999-12-31, in days since 1970.
const FIRST_DAY: i64 = -719_162;
const LAST_DAY: i64 = 2_932_896;

/// Looks at values that the cast after it would round, at dates and times, and at decimals: a file has room for `precision`
/// digits and no more, and its writer would cut the others off without a word.
fn exact(array: &ArrayRef, path: &str) -> Result<()> {
    fn first_odd(values: &[i64], array: &dyn Array, unit: i64) -> Option<usize> {
        (0..values.len()).find(|row| values[*row] % unit != 0 && array.is_valid(*row))
    }
    fn years(
        values: impl Iterator<Item = i64> + Clone,
        array: &dyn Array,
        unit: i64,
    ) -> Option<(usize, &'static str)> {
        let span = FIRST_DAY * unit..(LAST_DAY + 1) * unit;
        // A fold without an early exit is what the compiler can vectorise.
        let outside = |value: i64| (value < span.start) | (value >= span.end);
        if !values.clone().fold(false, |any, value| any | outside(value)) {
            return None;
        }
        values
            .enumerate()
            .find(|(row, value)| outside(*value) && array.is_valid(*row))
            .map(|(row, _)| (row, "lies outside the years 1 to 9999"))
    }
    fn wide<T: DecimalType>(
        array: &ArrayRef,
        fits: impl Fn(T::Native) -> bool,
    ) -> Option<(usize, &'static str)> {
        let decimals = array.as_primitive::<T>();
        (0..decimals.len())
            .find(|row| decimals.is_valid(*row) && !fits(decimals.value(*row)))
            .map(|row| (row, "has more digits than its type allows"))
    }
    let odd = match array.data_type() {
        Arrow::Timestamp(TimeUnit::Nanosecond, _) => {
            let times = array.as_primitive::<TimestampNanosecondType>();
            first_odd(times.values(), array, 1_000)
                .map(|row| (row, "has nanoseconds, which Delta does not keep"))
        }
        Arrow::Timestamp(TimeUnit::Second, _) => {
            let times = array.as_primitive::<TimestampSecondType>();
            years(times.values().iter().copied(), array, DAY)
        }
        Arrow::Timestamp(TimeUnit::Millisecond, _) => {
            let times = array.as_primitive::<TimestampMillisecondType>();
            years(times.values().iter().copied(), array, DAY * 1_000)
        }
        Arrow::Timestamp(TimeUnit::Microsecond, _) => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            years(times.values().iter().copied(), array, DAY * 1_000_000)
        }
        Arrow::Date32 => {
            let dates = array.as_primitive::<Date32Type>();
            years(dates.values().iter().copied().map(i64::from), array, 1)
        }
        Arrow::Date64 => {
            let dates = array.as_primitive::<Date64Type>();
            first_odd(dates.values(), array, DAY * 1_000)
                .map(|row| (row, "has a time of day, which a Delta date does not keep"))
                .or_else(|| years(dates.values().iter().copied(), array, DAY * 1_000))
        }
        Arrow::Decimal32(precision, _) => wide::<Decimal32Type>(array, |value| {
            Decimal32Type::is_valid_decimal_precision(value, *precision)
        }),
        Arrow::Decimal64(precision, _) => wide::<Decimal64Type>(array, |value| {
            Decimal64Type::is_valid_decimal_precision(value, *precision)
        }),
        Arrow::Decimal128(precision, _) => wide::<Decimal128Type>(array, |value| {
            Decimal128Type::is_valid_decimal_precision(value, *precision)
        }),
        Arrow::Decimal256(precision, _) => wide::<Decimal256Type>(array, |value| {
            Decimal256Type::is_valid_decimal_precision(value, *precision)
        }),
        _ => None,
    };
    match odd {
        Some((row, why)) => Err(refuse(path, Some(row), why)),
        None => Ok(()),
    }
}

/// Any kind of list as the plain one; the values are only moved.
fn as_list(array: &ArrayRef, path: &str) -> Result<ListArray> {
    if let Some(list) = array.as_list_opt::<i32>() {
        return Ok(list.clone());
    }
    let item = match array.data_type() {
        Arrow::LargeList(item) | Arrow::FixedSizeList(item, _) => Arc::clone(item),
        _ => return Err(refuse(path, None, "is no list")),
    };
    cast_with_options(array, &Arrow::List(item), &CastOptions::default())
        .map(|list| list.as_list::<i32>().clone())
        .map_err(|error| refuse(path, None, "is a list too long for 32-bit offsets").caused_by(&error))
}

/// The items that the rows of a list or map refer to.
enum Items {
    Range(usize, usize),
    Some(UInt32Array),
}

impl Items {
    fn of(&self, values: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
        match self {
            Items::Range(first, length) => Ok(values.slice(*first, *length)),
            Items::Some(items) => take(values, items, None),
        }
    }
}

/// What lies outside of what the rows refer to may be anything, and so may what lies under a null, which Arrow
/// allows to be no empty list.
fn kept(offsets: &[i32], nulls: Option<&NullBuffer>) -> (OffsetBuffer<i32>, Items) {
    let rows = offsets.windows(2).enumerate();
    let hidden = |row: usize| nulls.is_some_and(|nulls| nulls.is_null(row));
    if !rows.clone().any(|(row, of)| of[0] < of[1] && hidden(row)) {
        let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
        let moved: ScalarBuffer<i32> = offsets.iter().map(|offset| offset - first).collect();
        let items = Items::Range(first as usize, (last - first) as usize);
        return (OffsetBuffer::new(moved), items);
    }
    let lengths = rows.clone().map(|(row, of)| match hidden(row) {
        true => 0,
        false => (of[1] - of[0]) as usize,
    });
    let offsets = OffsetBuffer::from_lengths(lengths);
    let items = rows
        .filter(|(row, _)| !hidden(*row))
        .flat_map(|(_, of)| of[0]..of[1]);
    (offsets, Items::Some(items.map(|item| item as u32).collect()))
}
