//! Which batches may travel in one session.
//!
//! Two schemas that differ only in nullability or metadata go together: the later batch is relabelled with the
//! session's schema. Batches of any other schema get a session of their own.
//!
//! Invariants:
//! - Relabelling changes no value.
//! - A batch with nulls in a column is never relabelled with a schema in which that column has none: the
//!   destination would rely on a schema that is wrong.
//!
//! It does not cast: a destination does, to the types of its table.

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
    if batch.num_columns() != schema.fields().len() {
        // `zip` below would drop the columns that are too many.
        return Err(Error::new(Code::Internal, "a batch does not fit its session"));
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

/// The names of a map's entries differ between libraries and are no part of the type.
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

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, UnionArray, new_empty_array, new_null_array};
    use arrow::datatypes::{Fields, Schema, UnionFields};

    use super::*;

    fn of(data_type: DataType, nullable: bool, rows: usize) -> RecordBatch {
        let column = if nullable {
            new_null_array(&data_type, rows)
        } else {
            new_empty_array(&data_type)
        };
        let field = Field::new("c", data_type, nullable);
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
    }

    fn leaf(name: &str, nullable: bool, unit: &str) -> Arc<Field> {
        let field = Field::new(name, DataType::Int64, nullable);
        Arc::new(field.with_metadata([("unit".to_string(), unit.to_string())].into()))
    }

    fn entries(name: &str, key: &str, unit: &str) -> Arc<Field> {
        let fields = Fields::from(vec![leaf(key, false, unit), leaf("value", true, unit)]);
        Arc::new(Field::new(name, DataType::Struct(fields), false))
    }

    /// Every nested type, its insides labelled in two ways.
    fn pairs() -> Vec<(DataType, DataType)> {
        let both =
            |make: fn(Arc<Field>) -> DataType| (make(leaf("i", false, "m")), make(leaf("i", true, "km")));
        vec![
            both(DataType::List),
            both(DataType::LargeList),
            both(|field| DataType::FixedSizeList(field, 2)),
            both(|field| DataType::Struct(vec![field].into())),
            (
                DataType::Map(entries("entries", "key", "m"), false),
                DataType::Map(entries("key_value", "keys", "km"), false),
            ),
        ]
    }

    #[test]
    fn insides_are_relabelled() {
        for (given, wanted) in pairs() {
            let batch = of(given.clone(), false, 0);
            let target = of(wanted.clone(), true, 0).schema();
            assert_eq!(fit(&batch, &target), Fit::Relabelled, "{given} as {wanted}");
            let relabelled = relabel(batch.clone(), &target).unwrap();
            assert_eq!(relabelled.schema(), target);
            assert_eq!(relabelled.column(0).data_type(), &wanted);
            assert_eq!(fit(&relabelled, &target), Fit::Same);
            assert_eq!(relabel(relabelled.clone(), &target).unwrap(), relabelled);
        }
    }

    #[test]
    fn promises_are_not_broken_by_relabelling() {
        // Deeper down nobody looks for nulls: what may hold some does not fit where none may be.
        for (wanted, given) in pairs().into_iter().take(4) {
            let batch = of(given, true, 2);
            assert_eq!(fit(&batch, &of(wanted, true, 0).schema()), Fit::Different);
        }
        let nulls = of(DataType::Int64, true, 3);
        let strict = Arc::new(Schema::new(vec![Field::new("c", DataType::Int64, false)]));
        assert_eq!(fit(&nulls, &strict), Fit::Different);
        let none = nulls.slice(0, 0);
        assert_eq!(fit(&none, &strict), Fit::Relabelled);
        assert_eq!(relabel(none, &strict).unwrap().schema(), strict);
    }

    #[test]
    fn real_changes_are_changes() {
        let batch = of(DataType::Int64, true, 2);
        for other in [of(DataType::Int32, true, 0).schema(), Arc::new(Schema::empty())] {
            assert_eq!(fit(&batch, &other), Fit::Different);
            assert_eq!(relabel(batch.clone(), &other).unwrap_err().code(), Code::Internal);
        }
        let renamed = Arc::new(Schema::new(vec![Field::new("d", DataType::Int64, true)]));
        assert_eq!(fit(&batch, &renamed), Fit::Different);
        let map = |name: &str, sorted| DataType::Map(entries(name, "key", "m"), sorted);
        let sorted = of(map("entries", true), true, 0).schema();
        assert_eq!(fit(&of(map("entries", false), true, 0), &sorted), Fit::Different);
        let list = DataType::Map(leaf("entries", false, "m"), false);
        assert!(!type_fits(&list, &map("entries", false)));
    }

    /// A union's insides would have to be rebuilt: it gets a session of its own.
    #[test]
    fn unions_with_other_labels_do_not_travel_together() {
        let union = |unit: &str| {
            let fields = UnionFields::try_new([0], [leaf("a", true, unit)]).unwrap();
            let child: ArrayRef = Arc::new(Int64Array::from(vec![1]));
            let array = UnionArray::try_new(fields, vec![0].into(), None, vec![child]).unwrap();
            let field = Field::new("c", array.data_type().clone(), false);
            RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(array)]).unwrap()
        };
        assert_eq!(fit(&union("m"), &union("km").schema()), Fit::Different);
        assert_eq!(fit(&union("m"), &union("m").schema()), Fit::Same);
    }
}
