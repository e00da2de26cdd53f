//! Slices of batches → the batches of one write. Pure.
//!
//! Invariants:
//! - Rows keep their order; only runs of small batches are copied.
//! - Dictionaries are not joined: that would compute on values which JavaScript may still write to.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Code, Error, Result};
use crate::handoff::contained;
use crate::transmitter::batch_slice::{BatchSlice, is_small};
use crate::transmitter::schema;

/// Relabels every slice with the schema and, if `joins`, copies runs of small ones into one batch each.
///
/// # Errors
/// `BATCH_INVALID` where batches cannot be joined.
pub fn joined_batches(schema: &SchemaRef, queue: Vec<BatchSlice>, joins: bool) -> Result<Vec<RecordBatch>> {
    let may_join = joins
        && !schema
            .fields()
            .iter()
            .any(|field| holds_dictionary(field.data_type()));
    let mut slices: Vec<BatchSlice> = Vec::new();
    for queued in queue {
        if !slices.last_mut().is_some_and(|last| last.extend(&queued)) {
            slices.push(queued);
        }
    }
    let mut batches = Vec::with_capacity(slices.len());
    let mut run: Vec<RecordBatch> = Vec::with_capacity(slices.len());
    for slice in slices {
        let small = may_join && is_small(slice.rows(), slice.bytes());
        let batch = schema::relabel(slice.into_batch(), schema)?;
        if !small {
            join(schema, &mut run, &mut batches)?;
            batches.push(batch);
        } else {
            run.push(batch);
        }
    }
    join(schema, &mut run, &mut batches)?;
    Ok(batches)
}

fn join(schema: &SchemaRef, run: &mut Vec<RecordBatch>, batches: &mut Vec<RecordBatch>) -> Result<()> {
    match run.len() {
        0 => {}
        1 => batches.append(run),
        _ => {
            // It panics where the offsets of lists would overflow; on this task, everybody would hang.
            match contained(|| Ok(concat_batches(schema, run.iter()))) {
                Ok(Ok(batch)) => batches.push(batch),
                // What cannot be joined (offsets that would overflow 32 bits) goes as it is.
                Err(_) | Ok(Err(arrow::error::ArrowError::OffsetOverflowError(_))) => batches.append(run),
                Ok(Err(error)) => {
                    return Err(Error::new(Code::BatchInvalid, "batches cannot be joined")
                        .caused_by(&error)
                        .during("batch"));
                }
            }
            run.clear();
        }
    }
    Ok(())
}

pub(super) fn holds_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_dictionary(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_dictionary(field.data_type())),
        DataType::Union(fields, _) => fields
            .iter()
            .any(|(_, field)| holds_dictionary(field.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, UnionFields, UnionMode};

    use super::*;

    #[test]
    fn a_dictionary_is_found_wherever_it_is() {
        let word = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        let runs = DataType::RunEndEncoded(
            Arc::new(Field::new("run_ends", DataType::Int32, false)),
            Arc::new(Field::new("values", DataType::Utf8, true)),
        );
        for (inner, has) in [(word, true), (runs, true), (DataType::Utf8, false)] {
            let field = Arc::new(Field::new("item", inner.clone(), true));
            let fields = UnionFields::from_fields([field.clone()]);
            for outer in [
                inner,
                DataType::List(field.clone()),
                DataType::LargeList(field.clone()),
                DataType::ListView(field.clone()),
                DataType::LargeListView(field.clone()),
                DataType::FixedSizeList(field.clone(), 2),
                DataType::Map(field.clone(), false),
                DataType::Struct(vec![field].into()),
                DataType::Union(fields, UnionMode::Dense),
            ] {
                assert_eq!(holds_dictionary(&outer), has, "{outer}");
            }
        }
    }

    #[test]
    fn what_arrow_does_not_join_is_an_error() {
        use arrow::array::{ArrayRef, Int32Array, StringArray};
        let batch = |column: ArrayRef| RecordBatch::try_from_iter([("n", column)]).expect("one column");
        let numbers = batch(Arc::new(Int32Array::from(vec![1])));
        let words = batch(Arc::new(StringArray::from(vec!["a"])));
        let mut batches = Vec::new();
        let mut run = vec![numbers.clone(), words];
        let error = join(&numbers.schema(), &mut run, &mut batches).expect_err("two types");
        assert_eq!(error.code(), Code::BatchInvalid);
        assert!(batches.is_empty());
    }
}
