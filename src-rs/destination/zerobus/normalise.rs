//! Batches as they are given → batches as the stream has them. Pure.
//!
//! Invariants:
//! - A value arrives as it left, in another wrapping at most, or its row is named: there is no lossy
//!   cast in this file. Casts that can lose are undone and compared.
//! - What can be known from the schemas alone is refused before any row is looked at.
//! - A batch that has the stream's types already goes through untouched.
//!
//! It does not decide what becomes of the rows that it names.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, GenericListArray, Int64Array, MapArray, OffsetSizeTrait,
    RecordBatch, RecordBatchOptions, StructArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions, array_value_to_string};

use super::limits::mismatch;
use super::matching::{matched, same, under};
use super::types::{TypeRule, rule};
use crate::error::{Code, Error, Result};
use crate::handoff::{can_own, own};

/// How the batches of a session become the stream's.
#[derive(Debug, Clone)]
pub struct StreamConversion {
    given: SchemaRef,
    wanted: SchemaRef,
    /// Where each column of the stream comes from; none if it is filled with nulls.
    columns: Vec<Option<usize>>,
    unchanged: bool,
}

/// A batch in the stream's schema, without the rows that do not fit it.
#[derive(Debug)]
pub struct Normalised {
    pub batch: RecordBatch,
    /// Rows of the batch as it was given, ascending.
    pub refused: Vec<RowMismatch>,
}

/// A row that the stream's schema cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowMismatch {
    pub row: usize,
    /// The column, as a dotted path.
    pub field: String,
    pub reason: String,
}

impl StreamConversion {
    /// # Errors
    /// `SCHEMA_MISMATCH` naming every column that no cast can save, the type given and the type wanted.
    pub fn new(given: &SchemaRef, wanted: &SchemaRef) -> Result<StreamConversion> {
        let mut mistakes = Vec::new();
        let columns = matched(given.fields(), wanted.fields(), "", &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mismatch(&mistakes));
        }
        let in_place = columns.iter().copied().eq((0..given.fields().len()).map(Some));
        let unchanged = in_place
            && given.fields().iter().zip(wanted.fields()).all(|(given, wanted)| {
                given.data_type() == wanted.data_type() && (wanted.is_nullable() || !given.is_nullable())
            });
        Ok(StreamConversion {
            given: Arc::clone(given),
            wanted: Arc::clone(wanted),
            columns,
            unchanged,
        })
    }

    /// Whether batches go through as they are.
    pub fn is_free(&self) -> bool {
        self.unchanged
    }

    /// # Errors
    /// `BATCH_INVALID` for a batch that Arrow cannot take apart or put together, `SCHEMA_MISMATCH` for one
    /// of another schema than was planned for.
    pub fn apply(&self, batch: &RecordBatch) -> Result<Normalised> {
        if !Arc::ptr_eq(batch.schema_ref(), &self.given) && !same(batch.schema_ref(), &self.given) {
            let text = "the batch has other columns than the session";
            return Err(Error::new(Code::SchemaMismatch, text).during("write"));
        }
        if self.unchanged {
            return Ok(Normalised {
                batch: self.labelled(batch.columns().to_vec(), batch.num_rows())?,
                refused: Vec::new(),
            });
        }
        let batch = &self.stable(batch)?;
        let mut mismatches = Vec::new();
        let columns = self.convert(batch, &mut mismatches)?;
        if mismatches.is_empty() {
            return Ok(Normalised {
                batch: self.labelled(complete(columns)?, batch.num_rows())?,
                refused: Vec::new(),
            });
        }
        // Columns come one after the other; the error of a row that fails in several columns names the first.
        mismatches.sort_by_key(|mismatch| mismatch.row);
        mismatches.dedup_by_key(|mismatch| mismatch.row);
        let rest = without(batch, mismatches.iter().map(|mismatch| mismatch.row))?;
        let mut none = Vec::new();
        let columns = self.convert(&rest, &mut none)?;
        Ok(Normalised {
            batch: self.labelled(complete(columns)?, rest.num_rows())?,
            refused: mismatches,
        })
    }

    /// The batch with those columns copied that are to be cast: JavaScript may still write to them.
    fn stable(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut stable = batch.columns().to_vec();
        for (source, wanted) in self.columns.iter().zip(self.wanted.fields()) {
            if let Some(index) = source
                && stable[*index].data_type() != wanted.data_type()
                && can_own(stable[*index].data_type())
            {
                stable[*index] = own(&stable[*index]).map_err(|error| error.in_field(wanted.name()))?;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(batch.schema(), stable, &options).map_err(invalid)
    }

    fn convert(
        &self,
        batch: &RecordBatch,
        mismatches: &mut Vec<RowMismatch>,
    ) -> Result<Vec<Option<ArrayRef>>> {
        let columns = self.columns.iter().zip(self.wanted.fields());
        columns
            .map(|(source, wanted)| match source {
                Some(index) => {
                    convert(batch.column(*index), wanted, wanted.name(), mismatches).map_err(invalid)
                }
                None => Ok(Some(new_null_array(wanted.data_type(), batch.num_rows()))),
            })
            .collect()
    }

    fn labelled(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.wanted), columns, &options).map_err(invalid)
    }
}

/// The batch without some of its rows.
///
/// # Errors
/// `BATCH_INVALID` if Arrow cannot filter it.
pub fn without(batch: &RecordBatch, rows: impl Iterator<Item = usize>) -> Result<RecordBatch> {
    let mut kept = vec![true; batch.num_rows()];
    for row in rows {
        kept[row] = false;
    }
    filter_record_batch(batch, &BooleanArray::from(kept)).map_err(invalid)
}

fn invalid(error: ArrowError) -> Error {
    Error::new(
        Code::BatchInvalid,
        "the batch cannot be cast to the stream's schema",
    )
    .caused_by(&error)
    .during("write")
}

/// A conversion that named no row and still gave nothing would be a bug here, and is `INTERNAL`.
fn complete(columns: Vec<Option<ArrayRef>>) -> Result<Vec<ArrayRef>> {
    let complete: Option<Vec<ArrayRef>> = columns.into_iter().collect();
    complete.ok_or_else(|| Error::new(Code::Internal, "rows without a fault do not fit").during("write"))
}

/// One column as it is wanted. Rows that do not fit are named in `mismatches`; if there are such, the result
/// may be none, because required fields cannot be built around what is missing.
fn convert(
    array: &ArrayRef,
    wanted: &Field,
    path: &str,
    mismatches: &mut Vec<RowMismatch>,
) -> Result<Option<ArrayRef>, ArrowError> {
    let converted = match rule(array.data_type(), wanted.data_type()) {
        Some(TypeRule::Same) => Some(Arc::clone(array)),
        Some(TypeRule::Nulls) => Some(new_null_array(wanted.data_type(), array.len())),
        Some(TypeRule::Exact) => Some(cast(array, wanted.data_type(), false)?),
        Some(TypeRule::Checked) => Some(checked(array, wanted.data_type(), path, mismatches)?),
        Some(TypeRule::Decoded(values)) => {
            // Nulls are looked for once they are there to be seen.
            return convert(&cast(array, &values, false)?, wanted, path, mismatches);
        }
        Some(TypeRule::Struct(_, fields)) => structure(array.as_struct(), fields, path, mismatches)?,
        Some(TypeRule::List(item, wanted_item)) => match wanted.data_type() {
            DataType::LargeList(_) => {
                let list = cast(array, &DataType::LargeList(Arc::clone(item)), false)?;
                list_of(list.as_list::<i64>(), wanted_item, path, mismatches)?
            }
            _ => {
                let list = cast(array, &DataType::List(Arc::clone(item)), false)?;
                list_of(list.as_list::<i32>(), wanted_item, path, mismatches)?
            }
        },
        Some(TypeRule::Map(_, _)) => map(array.as_map(), wanted.data_type(), path, mismatches)?,
        None => return Err(ArrowError::CastError(format!("{path} is of another type"))),
    };
    if !wanted.is_nullable()
        && let Some(nulls) = array.logical_nulls()
    {
        let missing = (0..array.len()).filter(|row| nulls.is_null(*row));
        mismatches.extend(missing.map(|row| RowMismatch {
            row,
            field: path.to_string(),
            reason: "null, and the table takes none there".to_string(),
        }));
    }
    Ok(converted)
}

/// Casts there and back. What does not come back as it went is named, and is null or wrong in the result.
fn checked(
    array: &ArrayRef,
    wanted: &DataType,
    path: &str,
    mismatches: &mut Vec<RowMismatch>,
) -> Result<ArrayRef, ArrowError> {
    let there = cast(array, wanted, true)?;
    let back = cast(&there, array.data_type(), true)?;
    let differs = arrow::compute::kernels::cmp::distinct(array, &back)?;
    if differs.true_count() > 0 {
        let options = FormatOptions::default();
        // Some instants have no date in any calendar at hand; those are shown by their number.
        let numbers = cast(array, &DataType::Int64, true).ok();
        let shown = ArrayFormatter::try_new(array.as_ref(), &options).ok();
        let show = |row| shown.as_ref()?.value(row).try_to_string().ok();
        let number = |row| array_value_to_string(numbers.as_ref()?, row).ok();
        for row in differs.values().set_indices() {
            let value = show(row).or_else(|| Some(format!("{} as {}", number(row)?, array.data_type())));
            let value = value.as_deref().unwrap_or("the value");
            mismatches.push(RowMismatch {
                row,
                field: path.to_string(),
                reason: format!("{value} does not fit {wanted}"),
            });
        }
    }
    Ok(there)
}

fn structure(
    given: &StructArray,
    wanted: &Fields,
    path: &str,
    mismatches: &mut Vec<RowMismatch>,
) -> Result<Option<ArrayRef>, ArrowError> {
    let mut inner = Vec::new();
    let columns: Result<Option<Vec<ArrayRef>>, ArrowError> = wanted
        .iter()
        .map(|field| match given.column_by_name(field.name()) {
            Some(column) => convert(column, field, &under(path, field.name()), &mut inner),
            None => Ok(Some(new_null_array(field.data_type(), given.len()))),
        })
        .collect();
    // What is under a null does not exist.
    inner.retain(|mismatch| given.is_valid(mismatch.row));
    let fits = inner.is_empty();
    mismatches.append(&mut inner);
    let Some(columns) = columns? else { return Ok(None) };
    let nulls = given.nulls().cloned();
    match StructArray::try_new_with_length(wanted.clone(), columns, nulls, given.len()) {
        Ok(array) => Ok(Some(Arc::new(array))),
        Err(_) if !fits => Ok(None),
        Err(error) => Err(error),
    }
}

fn list_of<O: OffsetSizeTrait>(
    given: &GenericListArray<O>,
    wanted: &FieldRef,
    path: &str,
    mismatches: &mut Vec<RowMismatch>,
) -> Result<Option<ArrayRef>, ArrowError> {
    let given = &compacted(given, wanted)?;
    let (offsets, values) = trimmed(given.offsets(), given.values());
    let mut inner = Vec::new();
    let values = convert(&values, wanted, path, &mut inner)?;
    let fits = outward(inner, &offsets, given.nulls(), mismatches);
    let Some(values) = values else { return Ok(None) };
    match GenericListArray::try_new(Arc::clone(wanted), offsets, values, given.nulls().cloned()) {
        Ok(array) => Ok(Some(Arc::new(array))),
        Err(_) if !fits => Ok(None),
        Err(error) => Err(error),
    }
}

fn map(
    given: &MapArray,
    wanted: &DataType,
    path: &str,
    mismatches: &mut Vec<RowMismatch>,
) -> Result<Option<ArrayRef>, ArrowError> {
    let DataType::Map(entries, sorted) = wanted else {
        return Ok(None);
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return Ok(None);
    };
    let values: ArrayRef = Arc::new(given.entries().clone());
    let (offsets, values) = trimmed(given.offsets(), &values);
    let columns = values.as_struct().columns();
    let mut inner = Vec::new();
    let columns: Result<Option<Vec<ArrayRef>>, ArrowError> = columns
        .iter()
        .zip(fields)
        .map(|(column, field)| convert(column, field, &under(path, field.name()), &mut inner))
        .collect();
    let fits = outward(inner, &offsets, given.nulls(), mismatches);
    let Some(columns) = columns? else { return Ok(None) };
    let built =
        StructArray::try_new_with_length(fields.clone(), columns, None, values.len()).and_then(|built| {
            MapArray::try_new(
                Arc::clone(entries),
                offsets,
                built,
                given.nulls().cloned(),
                *sorted,
            )
        });
    match built {
        Ok(array) => Ok(Some(Arc::new(array))),
        Err(_) if !fits => Ok(None),
        Err(error) => Err(error),
    }
}

/// Misfits of values as mismatches of the lists that hold them. Whether there are none.
fn outward<O: OffsetSizeTrait>(
    inner: Vec<RowMismatch>,
    offsets: &OffsetBuffer<O>,
    nulls: Option<&NullBuffer>,
    mismatches: &mut Vec<RowMismatch>,
) -> bool {
    let before = mismatches.len();
    mismatches.extend(inner.into_iter().filter_map(|mismatch| {
        let row = offsets.partition_point(|offset| offset.as_usize() <= mismatch.row) - 1;
        let exists = nulls.is_none_or(|nulls| nulls.is_valid(row));
        exists.then_some(RowMismatch { row, ..mismatch })
    }));
    mismatches.len() == before
}

/// Only what the lists hold: a slice would drag along, and have cast, all that it was cut from.
fn trimmed<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, values: &ArrayRef) -> (OffsetBuffer<O>, ArrayRef) {
    let first = offsets[0];
    let last = offsets[offsets.len() - 1];
    let values = values.slice(first.as_usize(), (last - first).as_usize());
    if first == O::zero() {
        return (offsets.clone(), values);
    }
    let rebased: Vec<O> = offsets.iter().map(|offset| *offset - first).collect();
    (OffsetBuffer::new(rebased.into()), values)
}

/// Values under a null list may be anything. Where values are required that would count as a fault, so
/// such lists are rebuilt without them.
fn compacted<O: OffsetSizeTrait>(
    given: &GenericListArray<O>,
    wanted: &FieldRef,
) -> Result<GenericListArray<O>, ArrowError> {
    if wanted.is_nullable() || given.null_count() == 0 {
        return Ok(given.clone());
    }
    let all = Int64Array::from_iter_values(0..given.len() as i64);
    Ok(take(given, &all, None)?.as_list::<O>().clone())
}

fn cast(array: &ArrayRef, wanted: &DataType, safe: bool) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions {
        safe,
        ..CastOptions::default()
    };
    cast_with_options(array, wanted, &options)
}
