//! Which batches may travel in one session.
//!
//! Two schemas that differ only in nullability or metadata go together: the later batch is
//! relabelled, its data untouched. Anything else is a real change. A batch that has nulls where the
//! session promises none is a real change too; relabelling it would lie to the destination.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, MapArray, RecordBatch,
    RecordBatchOptions, StructArray,
};
use arrow::datatypes::{DataType, Field, SchemaRef};

use crate::error::{Code, Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    Same,
    /// Fits once relabelled.
    Relabelled,
    Different,
}

pub fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Fit {
    let own = batch.schema_ref();
    if Arc::ptr_eq(own, schema) || own == schema {
        return Fit::Same;
    }
    let same_length = own.fields().len() == schema.fields().len();
    let fits = same_length
        && own
            .fields()
            .iter()
            .zip(schema.fields())
            .zip(batch.columns())
            .all(|((given, wanted), column)| field_fits(given, wanted, Some(column)));
    if fits { Fit::Relabelled } else { Fit::Different }
}

/// # Errors
/// `INTERNAL` if the batch does not fit: `fit` is to be asked first.
pub fn relabel(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if Arc::ptr_eq(batch.schema_ref(), schema) || batch.schema_ref() == schema {
        return Ok(batch);
    }
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| relabel_array(column, field.data_type()))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| Error::new(Code::Internal, "a batch does not fit its session").caused_by(&error))
}

fn field_fits(given: &Field, wanted: &Field, column: Option<&ArrayRef>) -> bool {
    let nullability = !given.is_nullable()
        || wanted.is_nullable()
        // Deeper down the nulls of a parent hide those of a child; only the top level is looked at.
        || column.is_some_and(|column| column.logical_null_count() == 0);
    given.name() == wanted.name() && nullability && type_fits(given.data_type(), wanted.data_type())
}

fn type_fits(given: &DataType, wanted: &DataType) -> bool {
    match (given, wanted) {
        _ if given == wanted => true,
        (DataType::List(a), DataType::List(b)) | (DataType::LargeList(a), DataType::LargeList(b)) => {
            field_fits(a, b, None)
        }
        (DataType::FixedSizeList(a, n), DataType::FixedSizeList(b, m)) => n == m && field_fits(a, b, None),
        (DataType::Map(a, sorted), DataType::Map(b, wanted)) => sorted == wanted && entries_fit(a, b),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| field_fits(a, b, None))
        }
        // Unions and dictionaries would need their insides rebuilt; a session of their own is cheaper.
        _ => false,
    }
}

/// The names of a map's entries are a habit of libraries, not a part of the type.
fn entries_fit(given: &Field, wanted: &Field) -> bool {
    match (given.data_type(), wanted.data_type()) {
        (DataType::Struct(a), DataType::Struct(b)) => {
            let unnamed = |field: &Field| field.clone().with_name("");
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| field_fits(&unnamed(a), &unnamed(b), None))
        }
        _ => false,
    }
}

/// The same data under another label. Types were compared by `type_fits`, so only nested ones differ.
fn relabel_array(array: &ArrayRef, wanted: &DataType) -> ArrayRef {
    if array.data_type() == wanted {
        return array.clone();
    }
    let nulls = array.nulls().cloned();
    match wanted {
        DataType::Struct(fields) => {
            let given = array.as_struct();
            let columns = given
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, field)| relabel_array(column, field.data_type()))
                .collect();
            match StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len()) {
                Ok(array) => Arc::new(array),
                Err(_) => array.clone(),
            }
        }
        DataType::List(field) => {
            let given = array.as_list::<i32>();
            let values = relabel_array(given.values(), field.data_type());
            match ListArray::try_new(field.clone(), given.offsets().clone(), values, nulls) {
                Ok(array) => Arc::new(array),
                Err(_) => array.clone(),
            }
        }
        DataType::LargeList(field) => {
            let given = array.as_list::<i64>();
            let values = relabel_array(given.values(), field.data_type());
            match LargeListArray::try_new(field.clone(), given.offsets().clone(), values, nulls) {
                Ok(array) => Arc::new(array),
                Err(_) => array.clone(),
            }
        }
        DataType::FixedSizeList(field, size) => {
            let given = array.as_fixed_size_list();
            let values = relabel_array(given.values(), field.data_type());
            match FixedSizeListArray::try_new_with_length(field.clone(), *size, values, nulls, array.len()) {
                Ok(array) => Arc::new(array),
                Err(_) => array.clone(),
            }
        }
        DataType::Map(field, sorted) => {
            let given = array.as_map();
            let entries: ArrayRef = Arc::new(given.entries().clone());
            let entries = relabel_array(&entries, field.data_type());
            let entries = entries.as_struct().clone();
            match MapArray::try_new(field.clone(), given.offsets().clone(), entries, nulls, *sorted) {
                Ok(array) => Arc::new(array),
                Err(_) => array.clone(),
            }
        }
        // Left as it is: the record batch's own check then refuses it with a clear error.
        _ => array.clone(),
    }
}
