//! Dictionary-encoded columns: as plain values, or in their dictionaries.
//!
//! Invariants:
//! - Hydrating moves values; it never looks into them, so it may work on memory that others write to.
//! - Dictionaries are numbered as the schema's encoder numbers them: values before the column itself,
//!   depth first.
//!
//! It sends nothing.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, GenericListViewArray, MapArray,
    OffsetSizeTrait, RecordBatch, RecordBatchOptions, RunArray, StructArray, UnionArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    DataType, Field, FieldRef, Int16Type, Int32Type, Int64Type, Schema, SchemaRef, UnionFields, UnionMode,
};
use arrow::error::ArrowError;

use super::arrays::runs;

/// Whether there is a dictionary anywhere in it.
pub fn has_dictionary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(_, _))
        || children(data_type)
            .iter()
            .any(|child| has_dictionary(child.data_type()))
}

/// Whether a dictionary holds a dictionary with nothing between, which Arrow IPC cannot say.
pub fn has_direct_nesting(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => {
            matches!(values.as_ref(), DataType::Dictionary(_, _)) || has_direct_nesting(values)
        }
        other => children(other)
            .iter()
            .any(|child| has_direct_nesting(child.data_type())),
    }
}

/// Whether batches can be joined at no more than the sum of their sizes, and without looking into
/// payload. Dictionaries would have to be merged; list views and dense unions drag along what they do
/// not point at.
pub fn is_joinable(data_type: &DataType) -> bool {
    let of_itself = !matches!(
        data_type,
        DataType::Dictionary(_, _)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::Union(_, UnionMode::Dense)
    );
    of_itself
        && children(data_type)
            .iter()
            .all(|child| is_joinable(child.data_type()))
}

fn children(data_type: &DataType) -> Vec<FieldRef> {
    match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => vec![field.clone()],
        DataType::Struct(fields) => fields.iter().cloned().collect(),
        DataType::Union(fields, _) => fields.iter().map(|(_, field)| field.clone()).collect(),
        DataType::RunEndEncoded(ends, values) => vec![ends.clone(), values.clone()],
        _ => Vec::new(),
    }
}

/// The schema with values in place of dictionaries.
pub fn hydrated_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(hydrated_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn hydrated_field(field: &FieldRef) -> FieldRef {
    if !has_dictionary(field.data_type()) {
        return field.clone();
    }
    let plain = Field::new(
        field.name(),
        hydrated_type(field.data_type()),
        field.is_nullable(),
    );
    Arc::new(plain.with_metadata(field.metadata().clone()))
}

fn hydrated_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => hydrated_type(values),
        DataType::List(field) => DataType::List(hydrated_field(field)),
        DataType::LargeList(field) => DataType::LargeList(hydrated_field(field)),
        DataType::ListView(field) => DataType::ListView(hydrated_field(field)),
        DataType::LargeListView(field) => DataType::LargeListView(hydrated_field(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(hydrated_field(field), *size),
        DataType::Map(field, sorted) => DataType::Map(hydrated_field(field), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(hydrated_field).collect()),
        DataType::Union(fields, mode) => DataType::Union(hydrated_union(fields), *mode),
        DataType::RunEndEncoded(ends, values) => {
            DataType::RunEndEncoded(ends.clone(), hydrated_field(values))
        }
        other => other.clone(),
    }
}

fn hydrated_union(fields: &UnionFields) -> UnionFields {
    fields
        .iter()
        .map(|(id, field)| (id, hydrated_field(field)))
        .collect()
}

/// The batch with values in place of dictionaries, for a schema made by [`hydrated_schema`].
///
/// # Errors
/// What Arrow says of arrays that contradict themselves.
pub fn hydrated(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(hydrate).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

fn hydrate(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !has_dictionary(array.data_type()) {
        return Ok(array.clone());
    }
    let nulls = array.nulls().cloned();
    Ok(match (array.data_type(), hydrated_type(array.data_type())) {
        (DataType::Dictionary(_, _), _) => {
            let dictionary = array.as_any_dictionary();
            take(&hydrate(dictionary.values())?, dictionary.keys(), None)?
        }
        (_, DataType::List(field)) => hydrate_list::<i32>(array, field)?,
        (_, DataType::LargeList(field)) => hydrate_list::<i64>(array, field)?,
        (_, DataType::ListView(field)) => hydrate_list_view::<i32>(array, field)?,
        (_, DataType::LargeListView(field)) => hydrate_list_view::<i64>(array, field)?,
        (_, DataType::FixedSizeList(field, size)) => {
            let values = hydrate(array.as_fixed_size_list().values())?;
            let length = array.len();
            Arc::new(FixedSizeListArray::try_new_with_length(
                field, size, values, nulls, length,
            )?)
        }
        (_, DataType::Map(field, sorted)) => {
            let map = array.as_map();
            let (offsets, start, length) = rebased(map.offsets());
            let entries: ArrayRef = Arc::new(map.entries().slice(start, length));
            let entries = hydrate(&entries)?.as_struct().clone();
            Arc::new(MapArray::try_new(field, offsets, entries, nulls, sorted)?)
        }
        (_, DataType::Struct(fields)) => {
            let columns = array.as_struct().columns().iter().map(hydrate);
            Arc::new(StructArray::try_new(
                fields,
                columns.collect::<Result<_, _>>()?,
                nulls,
            )?)
        }
        (DataType::Union(given, _), DataType::Union(fields, _)) => {
            let union = array.as_union();
            let children = given.iter().map(|(id, _)| hydrate(union.child(id)));
            let (ids, offsets) = (union.type_ids().clone(), union.offsets().cloned());
            Arc::new(UnionArray::try_new(
                fields,
                ids,
                offsets,
                children.collect::<Result<_, _>>()?,
            )?)
        }
        (_, DataType::RunEndEncoded(ends, _)) => {
            let (given, values) = runs(array);
            let values = hydrate(&values)?;
            match ends.data_type() {
                DataType::Int16 => Arc::new(RunArray::<Int16Type>::try_new(given.as_primitive(), &values)?),
                DataType::Int64 => Arc::new(RunArray::<Int64Type>::try_new(given.as_primitive(), &values)?),
                _ => Arc::new(RunArray::<Int32Type>::try_new(given.as_primitive(), &values)?),
            }
        }
        _ => array.clone(),
    })
}

fn hydrate_list<O: OffsetSizeTrait>(array: &ArrayRef, field: FieldRef) -> Result<ArrayRef, ArrowError> {
    let list = array.as_list::<O>();
    let (offsets, start, length) = rebased(list.offsets());
    let values = hydrate(&list.values().slice(start, length))?;
    let nulls = list.nulls().cloned();
    Ok(Arc::new(GenericListArray::try_new(
        field, offsets, values, nulls,
    )?))
}

fn hydrate_list_view<O: OffsetSizeTrait>(array: &ArrayRef, field: FieldRef) -> Result<ArrayRef, ArrowError> {
    let list = array.as_list_view::<O>();
    let (offsets, sizes) = (list.offsets().clone(), list.sizes().clone());
    let values = hydrate(list.values())?;
    let nulls = list.nulls().cloned();
    Ok(Arc::new(GenericListViewArray::try_new(
        field, offsets, sizes, values, nulls,
    )?))
}

/// Offsets from zero, and where and how much of the child they point at: hydrating the whole child
/// for each slice of a large batch would take a square of the time.
fn rebased<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> (OffsetBuffer<O>, usize, usize) {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let moved: ScalarBuffer<O> = offsets.iter().map(|offset| *offset - first).collect();
    (
        OffsetBuffer::new(moved),
        first.as_usize(),
        last.as_usize() - first.as_usize(),
    )
}

/// Every dictionary of a batch with its number, inner ones before those that use them.
pub fn dictionaries(batch: &RecordBatch) -> Vec<(i64, ArrayRef)> {
    let mut found = Vec::new();
    for column in batch.columns() {
        collect(column, &mut found);
    }
    found
}

fn collect(array: &ArrayRef, found: &mut Vec<(i64, ArrayRef)>) {
    if !has_dictionary(array.data_type()) {
        return;
    }
    match array.data_type() {
        DataType::Dictionary(_, _) => {
            let values = array.as_any_dictionary().values();
            collect(values, found);
            found.push((found.len() as i64, values.clone()));
        }
        DataType::List(_) => collect(array.as_list::<i32>().values(), found),
        DataType::LargeList(_) => collect(array.as_list::<i64>().values(), found),
        DataType::ListView(_) => collect(array.as_list_view::<i32>().values(), found),
        DataType::LargeListView(_) => collect(array.as_list_view::<i64>().values(), found),
        DataType::FixedSizeList(_, _) => collect(array.as_fixed_size_list().values(), found),
        DataType::Map(_, _) => {
            let entries = array.as_map().entries();
            entries.columns().iter().for_each(|column| collect(column, found));
        }
        DataType::Struct(_) => array
            .as_struct()
            .columns()
            .iter()
            .for_each(|column| collect(column, found)),
        DataType::Union(fields, _) => {
            let union = array.as_union();
            fields.iter().for_each(|(id, _)| collect(union.child(id), found));
        }
        DataType::RunEndEncoded(_, _) => collect(&runs(array).1, found),
        _ => {}
    }
}
