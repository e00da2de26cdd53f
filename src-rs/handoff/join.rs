//! Small batches of one schema → one batch, their rows copied side by side.
//!
//! Importing a batch takes as long as copying a few dozen kilobytes, however small it is, and whoever
//! joins imported batches copies them after all. So small ones are copied first and imported once.
//! Invariants:
//! - What is interpreted, and what is returned, is a copy, checked in full after it was made: nothing
//!   refers to pinned memory any more.
//! - All or nothing. Where one of the batches is wrong, nothing is said about it: imported by itself,
//!   its error names row and column, and its neighbours pass.
//!
//! It knows flat columns only: those whose buffers can be put one behind the other.

use std::sync::Arc;

use arrow::array::{BooleanBufferBuilder, OffsetSizeTrait, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{Field, Schema};

use super::cdata::{self, CArray};
use super::foreign::Foreign;
use super::layout::{MAX_ROWS, Shape, shape};
use super::pool::{Block, Pool};
use super::structure::{Rows, validity};
use super::{ColumnBuffers, Node};

/// Several batches as one.
#[derive(Debug)]
pub struct JoinedBatch {
    pub batch: RecordBatch,
    /// Of each batch given, in order.
    pub parts: Vec<JoinedPart>,
}

/// What one of the batches has in the joined one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JoinedPart {
    pub rows: usize,
    /// As [`ImportedBatches::bytes`](super::ImportedBatches::bytes).
    pub bytes: usize,
    /// As [`ImportedBatches::realigned_buffers`](super::ImportedBatches::realigned_buffers).
    pub realigned_buffers: usize,
}

/// Whether batches of this schema can be joined.
pub fn can_join(schema: &Schema) -> bool {
    schema.fields().iter().all(|field| {
        matches!(
            shape(field.data_type()),
            Ok(Shape::Null | Shape::Bool | Shape::Fixed { .. } | Shape::Bytes { .. })
        )
    })
}

/// `None`: they are to be imported one by one.
pub(super) fn join(batches: &[ColumnBuffers], pool: &Arc<Pool>) -> Option<JoinedBatch> {
    let schema = &batches.first()?.schema;
    let same = |batch: &ColumnBuffers| Arc::ptr_eq(&batch.schema, schema) || batch.schema == *schema;
    if !batches.iter().all(same) {
        return None;
    }
    let rows = batches
        .iter()
        .try_fold(0_usize, |sum, batch| sum.checked_add(batch.rows))?;
    if rows > MAX_ROWS {
        return None;
    }
    let mut side_by_side = SideBySide {
        batches,
        rows,
        node: 0,
        buffer: 0,
        parts: batches
            .iter()
            .map(|batch| JoinedPart {
                rows: batch.rows,
                ..JoinedPart::default()
            })
            .collect(),
        pool,
    };
    let mut arrays = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let array = side_by_side.column(field)?;
        // SAFETY: `column` has made every buffer as long as the type asks for, and offsets that ascend
        // within their values.
        let data = unsafe { cdata::import(array, field.data_type().clone()) }.ok()?;
        data.validate_full().ok()?;
        arrays.push(make_array(data));
    }
    // What is left over does not belong to this schema.
    let whole = |batch: &ColumnBuffers| {
        batch.nodes.len() == side_by_side.node && batch.buffers.len() == side_by_side.buffer
    };
    if !batches.iter().all(whole) {
        return None;
    }
    // Without columns nothing else says how many rows there are.
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).ok()?;
    Some(JoinedBatch {
        batch,
        parts: side_by_side.parts,
    })
}

/// The walk over the same column of all batches.
struct SideBySide<'a> {
    batches: &'a [ColumnBuffers],
    rows: usize,
    /// Of each batch, where the column begins.
    node: usize,
    buffer: usize,
    parts: Vec<JoinedPart>,
    pool: &'a Arc<Pool>,
}

impl<'a> SideBySide<'a> {
    fn column(&mut self, field: &Field) -> Option<CArray> {
        // Looked up for all at once: what is missing is missing for good.
        for batch in self.batches {
            if batch.nodes.get(self.node)?.length != batch.rows {
                return None;
            }
        }
        let array = match shape(field.data_type()).ok()? {
            Shape::Null => CArray {
                length: self.rows,
                null_count: self.rows,
                offset: 0,
                buffers: Vec::new(),
                children: Vec::new(),
                dictionary: None,
            },
            Shape::Bool => {
                let nulls = self.nulls(field)?;
                let values = self.bits()?;
                self.flat(nulls, vec![values])
            }
            Shape::Fixed { width, alignment } => {
                let nulls = self.nulls(field)?;
                let values = self.fixed(width, alignment)?;
                self.flat(nulls, vec![values])
            }
            Shape::Bytes { wide: false, .. } => self.bytes::<i32>(field)?,
            Shape::Bytes { wide: true, .. } => self.bytes::<i64>(field)?,
            _ => return None,
        };
        self.node += 1;
        Some(array)
    }

    fn flat(&self, nulls: Option<NullBuffer>, values: Vec<Option<Foreign>>) -> CArray {
        let valid = nulls
            .as_ref()
            .map(|nulls| Foreign::from_buffer(nulls.buffer().clone()));
        CArray {
            length: self.rows,
            null_count: nulls.as_ref().map_or(0, NullBuffer::null_count),
            offset: 0,
            buffers: std::iter::once(valid).chain(values).collect(),
            children: Vec::new(),
            dictionary: None,
        }
    }

    /// The next buffer of every batch, with its node.
    fn next(
        &mut self,
    ) -> impl Iterator<Item = Option<(&'a ColumnBuffers, &'a Node, Option<&'a Foreign>)>> + use<'a> {
        let (node, buffer) = (self.node, self.buffer);
        self.buffer += 1;
        self.batches.iter().map(move |batch| {
            let foreign = batch.buffers.get(buffer)?.as_ref();
            Some((batch, batch.nodes.get(node)?, foreign))
        })
    }

    fn nulls(&mut self, field: &Field) -> Option<Option<NullBuffer>> {
        let mut joined: Option<BooleanBufferBuilder> = None;
        let mut before = 0;
        let (all, pool) = (self.rows, self.pool);
        for (index, part) in self.next().enumerate() {
            let (batch, node, bitmap) = part?;
            let rows = Rows {
                start: 0,
                length: batch.rows,
            };
            let valid = validity(
                bitmap,
                node.null_count,
                node.length,
                node.offset,
                rows,
                false,
                pool,
            );
            match (valid.ok()?.nulls, &mut joined) {
                (None, None) => {}
                (None, Some(joined)) => joined.append_n(batch.rows, true),
                // Where the schema allows none, the row is named when the batch is imported by itself.
                (Some(_), _) if !field.is_nullable() => return None,
                (Some(nulls), joined) => {
                    let joined = joined.get_or_insert_with(|| {
                        let mut valid = BooleanBufferBuilder::new(all);
                        valid.append_n(before, true);
                        valid
                    });
                    joined.append_buffer(nulls.inner());
                    self.parts[index].bytes += nulls.buffer().len();
                }
            }
            before += batch.rows;
        }
        Some(joined.map(|mut joined| NullBuffer::new(joined.finish())))
    }

    fn bits(&mut self) -> Option<Option<Foreign>> {
        let mut joined = BooleanBufferBuilder::new(self.rows);
        let mut aside = Vec::new();
        for (index, part) in self.next().enumerate() {
            let (batch, node, bits) = part?;
            if batch.rows == 0 {
                continue;
            }
            let bits = bits?;
            let (first, bit) = (node.offset / 8, node.offset % 8);
            let end = bit.checked_add(batch.rows)?;
            let length = end.div_ceil(8);
            // Before anything is allocated for it: there is no catching an allocation that is refused.
            if first.checked_add(length)? > bits.len() {
                return None;
            }
            aside.clear();
            aside.resize(length, 0);
            if bits.read(first, &mut aside) < length {
                return None;
            }
            joined.append_packed_range(bit..end, &aside);
            self.parts[index].bytes += length;
        }
        Some(held(joined.finish().into_inner()))
    }

    fn fixed(&mut self, width: usize, alignment: usize) -> Option<Option<Foreign>> {
        let mut joined = self.pool.room(self.rows.checked_mul(width)?).ok()?;
        for (index, part) in self.next().enumerate() {
            let (batch, _, values) = part?;
            let length = batch.rows * width;
            if length > 0 {
                self.parts[index].take(values?, 0, length, alignment, &mut joined)?;
            }
        }
        Some(held(joined.freeze()))
    }

    fn bytes<T: OffsetSizeTrait>(&mut self, field: &Field) -> Option<CArray> {
        let nulls = self.nulls(field)?;
        let size = size_of::<T>();
        let mut cuts = self.pool.room((self.rows + 1).checked_mul(size)?).ok()?;
        cuts.zeros(size);
        // Of each batch: where its values begin, and how many bytes they are.
        let mut used = Vec::with_capacity(self.batches.len());
        let (mut before, mut end) = (0, 0_usize);
        for (index, part) in self.next().enumerate() {
            let (batch, node, offsets) = part?;
            if batch.rows == 0 {
                used.push((0, 0));
                continue;
            }
            // Its first offset goes where the last of the batch before is: both say where it begins.
            cuts.truncate(before * size);
            let length = (batch.rows + 1).checked_mul(size)?;
            self.parts[index].take(offsets?, 0, length, 1, &mut cuts)?;
            let numbers = &mut cuts.numbers_mut::<T>()[before..];
            let (first, last) = (numbers[0], numbers[batch.rows]);
            let falls = numbers
                .windows(2)
                .fold(false, |falls, pair| falls | (pair[0] > pair[1]));
            if first < T::usize_as(0) || falls {
                return None;
            }
            let (first, length) = (first.as_usize(), last.as_usize() - first.as_usize());
            // Beyond what an offset can say, the sums below would wrap.
            let begin = T::from_usize(end)?;
            end = end.checked_add(length)?;
            T::from_usize(end)?;
            let start = T::usize_as(first);
            for number in numbers {
                *number = *number - start + begin;
            }
            // Values of which the first ones were not handed over; `take` looks at the other end.
            let from = match length {
                0 => 0,
                _ => first.checked_sub(node.variadic)?,
            };
            used.push((from, length));
            before += batch.rows;
        }
        let mut values = self.pool.room(end).ok()?;
        for ((index, part), (first, length)) in self.next().enumerate().zip(used) {
            let (_, _, bytes) = part?;
            if length > 0 {
                self.parts[index].take(bytes?, first, length, 1, &mut values)?;
            }
        }
        let cuts = Some(Foreign::from_buffer(cuts.freeze()));
        Some(self.flat(nulls, vec![cuts, held(values.freeze())]))
    }
}

impl JoinedPart {
    /// Copies a part of a buffer behind what is there; `None` if it has no such part.
    fn take(
        &mut self,
        buffer: &Foreign,
        start: usize,
        length: usize,
        alignment: usize,
        into: &mut Block,
    ) -> Option<()> {
        let part = buffer.slice(start, length)?;
        part.usable().ok()?;
        let aligned = (part.pointer() as usize).is_multiple_of(alignment);
        self.realigned_buffers += usize::from(!aligned);
        self.bytes += length;
        part.append_to(into);
        Some(())
    }
}

/// As an import has it: nothing is no buffer.
fn held(buffer: Buffer) -> Option<Foreign> {
    (!buffer.is_empty()).then(|| Foreign::from_buffer(buffer))
}
