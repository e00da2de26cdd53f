//! Flat nodes and buffers, in the order of `specs/boundary.md` → checked arrays.
//!
//! Invariants:
//! - A parent asks each child for exactly the rows that it refers to, and a child that is shorter is
//!   refused: every length in the result agrees with every other.
//! - After an import with [`PayloadUse::Computed`] nothing refers to pinned memory.
//! - Every node and buffer given is used, or the batch is refused: what is left over means that the
//!   two sides disagree about the schema.
//!
//! Rows that nobody refers to (before and after a slice) are neither copied nor looked at.

use std::sync::Arc;

use arrow::array::{OffsetSizeTrait, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, UnionFields};

use super::cdata::{self, CArray};
use super::fault::BatchFault;
use super::foreign::Foreign;
use super::layout::{MAX_ROWS, Shape, check_type, shape};
use super::pool::Pool;
use super::structure::{Offsets, Rows, bounds, check_keys, copy_values, key_positions, offsets, validity};
use super::text::Text;
use super::views::views;
use super::{ColumnBuffers, ImportedBatches, Node, PayloadUse, invalid};
use crate::error::Result;

pub(super) fn import(
    columns: &ColumnBuffers,
    payload: PayloadUse,
    pool: &Arc<Pool>,
) -> Result<ImportedBatches> {
    match payload {
        PayloadUse::Moved => check(columns, payload, pool, Text::Named),
        // What is copied is checked by arrow, which is fast and names no row. So whoever is refused is
        // looked at once more.
        PayloadUse::Computed => check(columns, payload, pool, Text::LeftToArrow)
            .or_else(|_| check(columns, payload, pool, Text::Named)),
    }
}

fn check(
    columns: &ColumnBuffers,
    payload: PayloadUse,
    pool: &Arc<Pool>,
    text: Text,
) -> Result<ImportedBatches> {
    let ColumnBuffers {
        schema,
        rows,
        nodes,
        buffers,
    } = columns;
    let rows = *rows;
    // Without columns nothing else bounds it, and whoever adds up rows would overflow.
    if rows > MAX_ROWS {
        return Err(invalid(format!(
            "the batch has {rows} rows, more than {MAX_ROWS}"
        )));
    }
    let mut walk = Walk {
        nodes: nodes.iter(),
        buffers: buffers.iter(),
        payload,
        pool,
        text,
        realigned: 0,
        bytes: 0,
    };
    let mut arrays = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let array = walk
            .column(field, rows)
            .map_err(|fault| fault.within(field.name()))?;
        // SAFETY: `column` has checked every buffer against the type; see the module's invariants.
        let data = unsafe { cdata::import(array, field.data_type().clone()) }
            .map_err(|error| invalid("the column cannot be imported").caused_by(&error))?;
        if payload == PayloadUse::Computed {
            // From here on, kernels rely on this without checking.
            data.validate_full().map_err(|error| {
                invalid(format!("column {:?}: {error}", field.name())).in_field(field.name())
            })?;
        }
        arrays.push(make_array(data));
    }
    if walk.nodes.len() > 0 || walk.buffers.len() > 0 {
        return Err(invalid(format!(
            "{} nodes and {} buffers are left over: they do not belong to this schema",
            walk.nodes.len(),
            walk.buffers.len()
        )));
    }
    // Without columns nothing else says how many rows there are.
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(|error| invalid(error.to_string()).caused_by(&error))?;
    Ok(ImportedBatches {
        batches: vec![batch],
        realigned_buffers: walk.realigned,
        bytes: walk.bytes,
    })
}

/// Which rows of a node are wanted.
#[derive(Clone, Copy)]
enum NeededRows {
    All,
    Only(Rows),
}

/// A checked array, and its nulls for whoever has to compare them.
struct CheckedArray {
    array: CArray,
    nulls: Option<NullBuffer>,
}

struct Walk<'a> {
    nodes: std::slice::Iter<'a, Node>,
    buffers: std::slice::Iter<'a, Option<Foreign>>,
    payload: PayloadUse,
    pool: &'a Arc<Pool>,
    text: Text,
    realigned: usize,
    bytes: usize,
}

impl Walk<'_> {
    fn column(&mut self, field: &Field, rows: usize) -> Result<CArray, BatchFault> {
        check_type(field.data_type(), 1)?;
        match self.nodes.as_slice().first() {
            Some(node) if node.length != rows => {
                return Err(BatchFault::new(format!(
                    "it has {} rows where the batch has {rows}",
                    node.length
                )));
            }
            _ => {}
        }
        let taken = self.take(field.data_type(), NeededRows::All)?;
        refuse_nulls(field, &taken, |_| true)?;
        Ok(taken.array)
    }

    fn take(&mut self, data_type: &DataType, needed: NeededRows) -> Result<CheckedArray, BatchFault> {
        let node = self
            .nodes
            .next()
            .ok_or_else(|| BatchFault::new("its node is missing"))?;
        let rows = match needed {
            NeededRows::All => Rows {
                start: 0,
                length: node.length,
            },
            NeededRows::Only(rows) => rows,
        };
        if rows
            .start
            .checked_add(rows.length)
            .is_none_or(|end| end > node.length)
        {
            return Err(BatchFault::new(format!(
                "it has {} rows where {} are referred to, from row {} on",
                node.length, rows.length, rows.start
            ))
            .at(node.length.saturating_sub(rows.start)));
        }
        if node.length > MAX_ROWS {
            return Err(BatchFault::new(format!(
                "it has {} rows, more than {MAX_ROWS}",
                node.length
            )));
        }
        match shape(data_type)? {
            Shape::Null => Ok(CheckedArray {
                array: CArray {
                    length: rows.length,
                    null_count: rows.length,
                    offset: 0,
                    buffers: Vec::new(),
                    children: Vec::new(),
                    dictionary: None,
                },
                nulls: None,
            }),
            Shape::Bool => self.bools(node, rows),
            Shape::Fixed { width, alignment } => {
                let (nulls, valid) = self.nulls(node, rows)?;
                let values = self.buffer()?;
                let (from, bytes) = bounds("values", values.as_ref(), rows, 0, width)?;
                let values = self.payload(values, from, bytes, alignment)?;
                Ok(finish(rows, nulls, vec![valid, values], Vec::new()))
            }
            Shape::Bytes { text, wide: false } => self.bytes::<i32>(node, rows, text),
            Shape::Bytes { text, wide: true } => self.bytes::<i64>(node, rows, text),
            Shape::Views { text } => self.views(node, rows, text),
            Shape::List { wide: false, item } => self.list::<i32>(node, rows, item),
            Shape::List { wide: true, item } => self.list::<i64>(node, rows, item),
            Shape::FixedSizeList { item, size } => self.fixed_size_list(node, rows, item, size),
            Shape::Struct(fields) => {
                let (nulls, valid) = self.nulls(node, rows)?;
                let mut children = Vec::with_capacity(fields.len());
                for field in fields {
                    let is_valid = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
                    let child = self.child(field, NeededRows::Only(rows), is_valid, Some)?;
                    children.push(child);
                }
                Ok(finish(rows, nulls, vec![valid], children))
            }
            Shape::Union { fields, dense } => self.union(rows, fields, dense),
            Shape::Dictionary { keys, values } => self.dictionary(node, rows, keys, values),
        }
    }

    /// A child with a field of its own. `parent_is_valid` says of each of its rows whether a null there
    /// is its own doing; `to_row` turns its rows into the parent's.
    fn child(
        &mut self,
        field: &FieldRef,
        needed: NeededRows,
        parent_is_valid: impl Fn(usize) -> bool,
        to_row: impl Fn(usize) -> Option<usize>,
    ) -> Result<CArray, BatchFault> {
        self.take(field.data_type(), needed)
            .and_then(|taken| {
                refuse_nulls(field, &taken, parent_is_valid)?;
                Ok(taken.array)
            })
            .map_err(|fault| fault.within(field.name()).row_in_parent(to_row))
    }

    fn bools(&mut self, node: &Node, rows: Rows) -> Result<CheckedArray, BatchFault> {
        let valid = self.buffer()?;
        let valid = validity(
            valid.as_ref(),
            node.null_count,
            node.length,
            node.offset,
            rows,
            true,
            self.pool,
        )?;
        let values = self.buffer()?;
        let first = node.offset + rows.start;
        let bits = valid.bit + rows.length;
        let available = values.as_ref().map_or(0, Foreign::len);
        if rows.length > 0 && available < (first / 8).saturating_add(bits.div_ceil(8)) {
            let held = available.saturating_mul(8).saturating_sub(first);
            return Err(BatchFault::new(format!(
                "its values buffer has {available} bytes, too few for {} rows from bit {first} on",
                rows.length
            ))
            .at(held.min(rows.length - 1)));
        }
        let (from, bytes) = match rows.length {
            0 => (0, 0),
            _ => (first / 8, bits.div_ceil(8)),
        };
        let values = self.payload(values, from, bytes, 1)?;
        let mask = self.hold_nulls(valid.nulls.as_ref());
        let mut taken = finish(rows, valid.nulls, vec![mask, values], Vec::new());
        if rows.length > 0 {
            taken.array.offset = valid.bit;
        }
        Ok(taken)
    }

    fn bytes<T: OffsetSizeTrait>(
        &mut self,
        node: &Node,
        rows: Rows,
        text: bool,
    ) -> Result<CheckedArray, BatchFault> {
        let (nulls, valid) = self.nulls(node, rows)?;
        let cuts = self.offsets::<T>(rows)?;
        let from = handed_over(&cuts, node.variadic)?;
        let values = self.buffer()?;
        let available = values
            .as_ref()
            .map_or(0, Foreign::len)
            .saturating_add(node.variadic);
        if cuts.last > available {
            return Err(
                BatchFault::new(format!("its offsets reach to byte {} of {available}", cuts.last))
                    .at(past_the_end::<T>(&cuts, available)),
            );
        }
        let values = self.payload(values, from, cuts.last - cuts.first, 1)?;
        if text && let Some(values) = &values {
            let numbers: &[T] = cuts.buffer.typed_data();
            self.text
                .check(values, 0, numbers)
                .map_err(|row| BatchFault::new("it is not UTF-8").at(row))?;
        }
        let buffers = vec![valid, Some(Foreign::from_buffer(cuts.buffer)), values];
        Ok(finish(rows, nulls, buffers, Vec::new()))
    }

    fn views(&mut self, node: &Node, rows: Rows, text: bool) -> Result<CheckedArray, BatchFault> {
        let (nulls, valid) = self.nulls(node, rows)?;
        let buffer = self.buffer()?;
        if node.variadic > self.buffers.len() {
            return Err(BatchFault::new(format!(
                "{} data buffers are announced and {} are left",
                node.variadic,
                self.buffers.len()
            )));
        }
        let data: Vec<_> = self.buffers.by_ref().take(node.variadic).cloned().collect();
        let mut views = views(buffer.as_ref(), rows, nulls.as_ref(), &data, self.pool)?;
        let mut parts = Vec::with_capacity(data.len());
        for (index, buffer) in data.into_iter().enumerate() {
            let (start, end) = views.used[index];
            // The C data interface wants a pointer for every data buffer, an unused one too.
            let part = self.payload(buffer, start, end - start, 1)?;
            parts.push(part.unwrap_or_else(|| Foreign::from_buffer(Default::default())));
        }
        views.rebase(&parts, text.then_some(self.text))?;
        let views = views.freeze();
        let lengths: Vec<i64> = parts.iter().map(|part| part.len() as i64).collect();
        self.bytes += views.len();
        let mut buffers = vec![valid, Some(views)];
        buffers.extend(parts.into_iter().map(Some));
        buffers.push(Some(Foreign::from_buffer(lengths.into())));
        Ok(finish(rows, nulls, buffers, Vec::new()))
    }

    fn list<T: OffsetSizeTrait>(
        &mut self,
        node: &Node,
        rows: Rows,
        item: &FieldRef,
    ) -> Result<CheckedArray, BatchFault> {
        let (nulls, valid) = self.nulls(node, rows)?;
        let cuts = self.offsets::<T>(rows)?;
        let needed = NeededRows::Only(Rows {
            start: handed_over(&cuts, node.variadic)?,
            length: cuts.last - cuts.first,
        });
        let child = self.child(item, needed, |_| true, |index| cuts.row_of::<T>(index))?;
        let buffers = vec![valid, Some(Foreign::from_buffer(cuts.buffer))];
        Ok(finish(rows, nulls, buffers, vec![child]))
    }

    fn fixed_size_list(
        &mut self,
        node: &Node,
        rows: Rows,
        item: &FieldRef,
        size: usize,
    ) -> Result<CheckedArray, BatchFault> {
        let (nulls, valid) = self.nulls(node, rows)?;
        let (Some(start), Some(length)) = (rows.start.checked_mul(size), rows.length.checked_mul(size))
        else {
            return Err(BatchFault::new(format!(
                "{} rows of {size} items are beyond all memory",
                rows.length
            )));
        };
        let needed = NeededRows::Only(Rows { start, length });
        // Items of a null list are there, and may be null whatever their field says.
        let is_valid = |index: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(index / size));
        let child = self.child(item, needed, is_valid, |index| index.checked_div(size))?;
        Ok(finish(rows, nulls, vec![valid], vec![child]))
    }

    fn union(&mut self, rows: Rows, fields: &UnionFields, dense: bool) -> Result<CheckedArray, BatchFault> {
        let ids = self.buffer()?;
        let ids = copy_values("type ids", ids.as_ref(), rows, 0, 1, self.pool)?.freeze();
        let mut child_of = [None; 128];
        for (index, (id, _)) in fields.iter().enumerate() {
            child_of[id as usize] = Some(index);
        }
        let child_at = |row: usize| child_of.get(usize::from(ids[row])).copied().flatten();
        if let Some(row) = (0..rows.length).find(|row| child_at(*row).is_none()) {
            return Err(BatchFault::new(format!(
                "its type id {} is not one of the union's",
                ids[row] as i8
            ))
            .at(row));
        }
        let places = match dense {
            true => {
                let places = self.buffer()?;
                Some(copy_values("offsets", places.as_ref(), rows, 0, 4, self.pool)?.freeze())
            }
            false => None,
        };
        let places_of: &[i32] = places.as_ref().map_or(&[], |places| places.typed_data());
        let mut children = Vec::with_capacity(fields.len());
        for (index, (_, field)) in fields.iter().enumerate() {
            // Union children keep their own nullability to themselves, as in arrow-rs.
            let child = self
                .take(
                    field.data_type(),
                    if dense {
                        NeededRows::All
                    } else {
                        NeededRows::Only(rows)
                    },
                )
                .map_err(|fault| {
                    fault.within(field.name()).row_in_parent(|place| match dense {
                        true => (0..rows.length).find(|row| {
                            child_at(*row) == Some(index) && usize::try_from(places_of[*row]) == Ok(place)
                        }),
                        false => Some(place),
                    })
                })?
                .array;
            children.push(child);
        }
        for (row, place) in places_of.iter().enumerate() {
            let length = child_at(row).map_or(0, |child| children[child].length);
            if usize::try_from(*place).is_ok_and(|place| place < length) {
                continue;
            }
            return Err(BatchFault::new(format!(
                "its offset {place} is not within the {length} rows of its child"
            ))
            .at(row));
        }
        self.bytes += ids.len() + places.as_ref().map_or(0, |places| places.len());
        let buffers = std::iter::once(ids)
            .chain(places)
            .map(|buffer| Some(Foreign::from_buffer(buffer)));
        Ok(finish(rows, None, buffers.collect(), children))
    }

    fn dictionary(
        &mut self,
        node: &Node,
        rows: Rows,
        key_type: &DataType,
        value_type: &DataType,
    ) -> Result<CheckedArray, BatchFault> {
        let (nulls, valid) = self.nulls(node, rows)?;
        let width = key_type
            .primitive_width()
            .ok_or_else(|| BatchFault::new(format!("{key_type} cannot be the key of a dictionary")))?;
        let keys = self.buffer()?;
        let keys = copy_values("keys", keys.as_ref(), rows, 0, width, self.pool)?.freeze();
        let values = self.take(value_type, NeededRows::All).map_err(|fault| {
            fault.row_in_parent(|value| key_positions(&keys, key_type, |_, key| key == Some(value)))
        })?;
        check_keys(&keys, key_type, nulls.as_ref(), values.array.length)?;
        self.bytes += keys.len();
        let buffers = vec![valid, Some(Foreign::from_buffer(keys))];
        let mut taken = finish(rows, nulls, buffers, Vec::new());
        taken.array.dictionary = Some(Box::new(values.array));
        Ok(taken)
    }

    /// The next buffer; the inner `None` is an absent one.
    fn buffer(&mut self) -> Result<Option<Foreign>, BatchFault> {
        let buffer = self
            .buffers
            .next()
            .ok_or_else(|| BatchFault::new("one of its buffers is missing"))?;
        if let Some(buffer) = buffer {
            buffer.usable()?;
        }
        Ok(buffer.clone())
    }

    fn nulls(
        &mut self,
        node: &Node,
        rows: Rows,
    ) -> Result<(Option<NullBuffer>, Option<Foreign>), BatchFault> {
        let buffer = self.buffer()?;
        let valid = validity(
            buffer.as_ref(),
            node.null_count,
            node.length,
            node.offset,
            rows,
            false,
            self.pool,
        )?;
        let held = self.hold_nulls(valid.nulls.as_ref());
        Ok((valid.nulls, held))
    }

    fn hold_nulls(&mut self, nulls: Option<&NullBuffer>) -> Option<Foreign> {
        let buffer = nulls?.buffer().clone();
        self.bytes += buffer.len();
        Some(Foreign::from_buffer(buffer))
    }

    fn offsets<T: OffsetSizeTrait>(&mut self, rows: Rows) -> Result<Offsets, BatchFault> {
        let buffer = self.buffer()?;
        let cuts = offsets::<T>(buffer.as_ref(), rows, self.pool)?;
        self.bytes += cuts.buffer.len();
        Ok(cuts)
    }

    /// The part of a payload buffer that is used: where it is if that will do, or else in the pool.
    fn payload(
        &mut self,
        buffer: Option<Foreign>,
        from: usize,
        bytes: usize,
        alignment: usize,
    ) -> Result<Option<Foreign>, BatchFault> {
        let Some(buffer) = buffer.filter(|_| bytes > 0) else {
            return Ok(None);
        };
        let part = buffer
            .slice(from, bytes)
            .ok_or_else(|| BatchFault::new("a buffer ends before its values"))?;
        self.bytes += bytes;
        let aligned = (part.pointer() as usize).is_multiple_of(alignment);
        self.realigned += usize::from(!aligned);
        let computed = self.payload == PayloadUse::Computed && part.is_pinned();
        if aligned && !computed {
            return Ok(Some(part));
        }
        let copy = part.copy(0, bytes, self.pool)?;
        Ok(Some(Foreign::from_buffer(copy.freeze())))
    }
}

fn finish(
    rows: Rows,
    nulls: Option<NullBuffer>,
    buffers: Vec<Option<Foreign>>,
    children: Vec<CArray>,
) -> CheckedArray {
    CheckedArray {
        array: CArray {
            length: rows.length,
            null_count: nulls.as_ref().map_or(0, NullBuffer::null_count),
            offset: 0,
            buffers,
            children,
            dictionary: None,
        },
        nulls,
    }
}

/// Where the first value that is referred to is, among those that were handed over.
fn handed_over(cuts: &Offsets, before: usize) -> Result<usize, BatchFault> {
    match cuts.first.checked_sub(before) {
        Some(from) => Ok(from),
        // It refers to none.
        None if cuts.first == cuts.last => Ok(0),
        None => Err(BatchFault::new(format!(
            "its offsets begin at {}, before {before}, where its values begin",
            cuts.first
        ))
        .at(0)),
    }
}

/// The first row whose value reaches beyond `available` bytes.
fn past_the_end<T: OffsetSizeTrait>(cuts: &Offsets, available: usize) -> usize {
    let offsets: &[T] = cuts.buffer.typed_data();
    offsets
        .partition_point(|offset| offset.as_usize() + cuts.first <= available)
        .saturating_sub(1)
}

/// A null where the field allows none, unless its parent is null there too.
fn refuse_nulls(
    field: &Field,
    taken: &CheckedArray,
    parent_is_valid: impl Fn(usize) -> bool,
) -> Result<(), BatchFault> {
    let Some(nulls) = taken.nulls.as_ref().filter(|_| !field.is_nullable()) else {
        return Ok(());
    };
    let lone = |row: &usize| nulls.is_null(*row) && parent_is_valid(*row);
    match (0..nulls.len()).find(lone) {
        Some(row) => Err(BatchFault::new("it is null where the schema allows no nulls").at(row)),
        None => Ok(()),
    }
}
