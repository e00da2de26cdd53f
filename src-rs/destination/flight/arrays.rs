//! An Arrow array → the nodes and buffers of the IPC format, for every type.
//!
//! Invariants:
//! - A buffer is what the rows at hand need and no more: a slice sends its slice. Where that moves
//!   what others point at (offsets, views, run ends), a rebased copy of the pointers is sent.
//! - Payload is never read, only referred to; so it may be memory that others still write to.
//! - Measuring and encoding are one walk, so a part that was measured to fit does fit.
//!
//! It frames nothing and compresses nothing; that is the business of the [`Sink`].

use std::collections::HashMap;

use arrow::array::{
    AnyDictionaryArray, Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, GenericByteArray,
    GenericListViewArray, OffsetSizeTrait, PrimitiveArray, RunArray, UnionArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowNativeType, BinaryType, ByteArrayType, DataType, Int16Type, Int32Type, Int64Type, LargeBinaryType,
    LargeUtf8Type, RunEndIndexType, ToByteSlice, UnionMode, Utf8Type,
};

use super::views;

/// Takes the nodes and buffers of a message, in the order of the format.
pub trait Sink {
    fn node(&mut self, length: usize, nulls: usize);
    /// `make` gives exactly `length` bytes. Whoever only measures never calls it.
    fn buffer(&mut self, length: usize, make: impl FnOnce() -> Buffer);
    /// The same for what has to be written anew: `write` finds `length` zeros.
    fn written(&mut self, length: usize, write: impl FnOnce(&mut [u8])) {
        self.buffer(length, || fresh(length, write));
    }
    /// How many data buffers a view column has.
    fn variadic(&mut self, count: usize);
    /// Bytes that there will be, though not in this array. Only measuring meets them.
    fn extra(&mut self, _bytes: usize) {}
    /// Whether dictionaries are to be counted as the values that will replace them.
    fn hydrates(&self) -> bool {
        false
    }
}

/// Walks one column, depth first.
pub fn walk(array: &dyn Array, sink: &mut impl Sink) {
    let length = array.len();
    match array.data_type() {
        DataType::Null => return sink.node(length, length),
        DataType::Dictionary(_, _) if sink.hydrates() => return hydrated_size(array, sink),
        // These two have no validity of their own.
        DataType::Union(_, mode) => {
            sink.node(length, 0);
            return union(array.as_union(), *mode, sink);
        }
        DataType::RunEndEncoded(_, _) => {
            sink.node(length, 0);
            let (ends, values) = runs(array);
            walk(&ends, sink);
            return walk(&values, sink);
        }
        _ => {}
    }
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => {
            sink.node(length, nulls.null_count());
            sink.buffer(length.div_ceil(8), || nulls.inner().sliced());
        }
        None => {
            sink.node(length, 0);
            sink.buffer(0, empty);
        }
    }
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().values();
            sink.buffer(length.div_ceil(8), || values.sliced());
        }
        DataType::Utf8 => bytes::<Utf8Type>(array.as_bytes(), sink),
        DataType::Binary => bytes::<BinaryType>(array.as_bytes(), sink),
        DataType::LargeUtf8 => bytes::<LargeUtf8Type>(array.as_bytes(), sink),
        DataType::LargeBinary => bytes::<LargeBinaryType>(array.as_bytes(), sink),
        DataType::Utf8View => view(&array.as_string_view().clone().to_binary_view(), sink),
        DataType::BinaryView => view(array.as_binary_view(), sink),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            rebased(list.offsets(), sink, |range, sink| {
                walk(&list.values().slice(range.0, range.1), sink);
            });
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            rebased(list.offsets(), sink, |range, sink| {
                walk(&list.values().slice(range.0, range.1), sink);
            });
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            rebased(map.offsets(), sink, |range, sink| {
                walk(&map.entries().slice(range.0, range.1), sink);
            });
        }
        DataType::ListView(_) => list_view(array.as_list_view::<i32>(), sink),
        DataType::LargeListView(_) => list_view(array.as_list_view::<i64>(), sink),
        DataType::FixedSizeList(_, _) => walk(array.as_fixed_size_list().values(), sink),
        DataType::Struct(_) => array
            .as_struct()
            .columns()
            .iter()
            .for_each(|column| walk(column, sink)),
        DataType::Dictionary(_, _) => fixed_width(array.as_any_dictionary().keys(), sink),
        _ => fixed_width(array, sink),
    }
}

fn fixed_width(array: &dyn Array, sink: &mut impl Sink) {
    let width = match array.data_type() {
        DataType::FixedSizeBinary(width) => *width as usize,
        other => other.primitive_width().unwrap_or(0),
    };
    let length = array.len() * width;
    sink.buffer(length, || {
        let data = array.to_data();
        data.buffers()[0].slice_with_length(data.offset() * width, length)
    });
}

fn bytes<T: ByteArrayType>(array: &GenericByteArray<T>, sink: &mut impl Sink) {
    rebased(array.offsets(), sink, |(start, length), sink| {
        sink.buffer(length, || array.values().slice_with_length(start, length));
    });
}

/// Offsets from zero, then what is between the first and the last of them as (start, length).
fn rebased<O: OffsetSizeTrait, S: Sink>(
    offsets: &OffsetBuffer<O>,
    sink: &mut S,
    then: impl FnOnce((usize, usize), &mut S),
) {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let length = std::mem::size_of_val::<[O]>(offsets);
    if first.as_usize() == 0 {
        sink.buffer(length, || offsets.inner().inner().clone());
    } else {
        sink.written(length, |bytes| {
            put(bytes, offsets.iter().map(|offset| *offset - first));
        });
    }
    then((first.as_usize(), last.as_usize() - first.as_usize()), sink);
}

fn view(array: &BinaryViewArray, sink: &mut impl Sink) {
    let plan = views::plan(array);
    sink.buffer(array.len() * 16, || plan.views(array));
    sink.variadic(plan.buffers());
    plan.each(array, |length, make| sink.buffer(length, make));
}

fn list_view<O: OffsetSizeTrait>(array: &GenericListViewArray<O>, sink: &mut impl Sink) {
    let pairs = || array.offsets().iter().zip(array.sizes().iter());
    let used = || pairs().filter(|(_, size)| size.as_usize() > 0);
    let first = used().map(|(offset, _)| offset.as_usize()).min().unwrap_or(0);
    let last = used()
        .map(|(offset, size)| offset.as_usize() + size.as_usize())
        .max()
        .unwrap_or(0);
    let length = array.len() * size_of::<O>();
    sink.written(length, |bytes| {
        // An empty list may point anywhere, also to what is not sent.
        let rebase = |(offset, size): (&O, &O)| match size.as_usize() {
            0 => O::usize_as(0),
            _ => O::usize_as(offset.as_usize() - first),
        };
        put(bytes, pairs().map(rebase));
    });
    sink.buffer(length, || array.sizes().inner().slice_with_length(0, length));
    walk(&array.values().slice(first, last - first), sink);
}

fn union(array: &UnionArray, mode: UnionMode, sink: &mut impl Sink) {
    let DataType::Union(fields, _) = array.data_type() else {
        return;
    };
    let ids = array.type_ids();
    sink.buffer(ids.len(), || ids.inner().slice_with_length(0, ids.len()));
    let (UnionMode::Dense, Some(offsets)) = (mode, array.offsets()) else {
        for (id, _) in fields.iter() {
            walk(array.child(id), sink);
        }
        return;
    };
    // What of each child is pointed at, by type id.
    let mut ranges = [(i32::MAX, i32::MIN); 128];
    for (id, offset) in ids.iter().zip(offsets.iter()) {
        let range = &mut ranges[*id as usize & 127];
        *range = (range.0.min(*offset), range.1.max(*offset));
    }
    sink.written(offsets.len() * 4, |bytes| {
        let rebase = |(id, offset): (&i8, &i32)| offset - ranges[*id as usize & 127].0;
        put(bytes, ids.iter().zip(offsets.iter()).map(rebase));
    });
    for (id, _) in fields.iter() {
        let child = match ranges[id as usize & 127] {
            (first, last) if first <= last => {
                array.child(id).slice(first as usize, (last - first) as usize + 1)
            }
            _ => array.child(id).slice(0, 0),
        };
        walk(&child, sink);
    }
}

/// Run ends from zero and the values that go with them, for the rows at hand.
pub fn runs(array: &dyn Array) -> (ArrayRef, ArrayRef) {
    match array.data_type() {
        DataType::RunEndEncoded(ends, _) if *ends.data_type() == DataType::Int16 => {
            runs_of::<Int16Type>(array.as_run())
        }
        DataType::RunEndEncoded(ends, _) if *ends.data_type() == DataType::Int64 => {
            runs_of::<Int64Type>(array.as_run())
        }
        _ => runs_of::<Int32Type>(array.as_run()),
    }
}

fn runs_of<R: RunEndIndexType + ArrowPrimitiveType>(array: &RunArray<R>) -> (ArrayRef, ArrayRef) {
    let ends = array.run_ends();
    let (first, count) = match ends.is_empty() {
        true => (0, 0),
        false => {
            let first = ends.get_start_physical_index();
            (first, ends.get_end_physical_index() - first + 1)
        }
    };
    let rebase = |end: &R::Native| {
        let end = end.as_usize() - ends.offset();
        R::Native::usize_as(end.min(ends.len()))
    };
    let rebased = ends.values()[first..first + count].iter().map(rebase);
    let rebased = PrimitiveArray::<R>::from_iter_values(rebased);
    (std::sync::Arc::new(rebased), array.values().slice(first, count))
}

/// New memory that `write` has filled.
pub fn fresh(length: usize, write: impl FnOnce(&mut [u8])) -> Buffer {
    let mut bytes = vec![0; length];
    write(&mut bytes);
    Buffer::from_vec(bytes)
}

/// Writes numbers as the format has them.
fn put<T: ArrowNativeType>(bytes: &mut [u8], numbers: impl Iterator<Item = T>) {
    for (bytes, number) in bytes.chunks_exact_mut(size_of::<T>()).zip(numbers) {
        bytes.copy_from_slice(number.to_byte_slice());
    }
}

fn empty() -> Buffer {
    Buffer::from_vec(Vec::<u8>::new())
}

/// Of each row the number of its value. Of a null it may be any, also where there is no value: arrow's own function
/// panics on a dictionary without one, as a column of nothing but nulls has it.
pub fn keys_of(dictionary: &dyn AnyDictionaryArray) -> Vec<usize> {
    match dictionary.values().is_empty() {
        true => vec![0; dictionary.keys().len()],
        false => dictionary.normalized_keys(),
    }
}

/// Counts what a dictionary column comes to once it is hydrated, without hydrating it.
fn hydrated_size(array: &dyn Array, sink: &mut impl Sink) {
    let dictionary = array.as_any_dictionary();
    let (keys, values) = (dictionary.keys(), dictionary.values());
    // The shape of the column: as many nodes and buffers as its values have.
    walk(&values.slice(0, 0), sink);
    // Some rows of a large dictionary must not take the time of all its values.
    let is_dense = values.len() <= keys.len().saturating_mul(4);
    let mut by_key = vec![None; if is_dense { values.len() } else { 0 }];
    let mut of_some = HashMap::new();
    let mut bytes = keys.len().div_ceil(8);
    for (row, key) in keys_of(dictionary).into_iter().enumerate() {
        if keys.is_null(row) || key >= values.len() {
            bytes += null_width(values.data_type());
            continue;
        }
        let size = match is_dense {
            true => &mut by_key[key],
            false => of_some.entry(key).or_default(),
        };
        bytes += *size.get_or_insert_with(|| {
            let mut one = Bare::default();
            walk(&values.slice(key, 1), &mut one);
            one.bytes
        });
    }
    // Views may keep a quarter of their buffers unused.
    let views = matches!(values.data_type(), DataType::Utf8View | DataType::BinaryView);
    sink.extra(if views { bytes + bytes / 4 } else { bytes });
}

/// What a null takes: the width of a value where values have one, and else what points at it.
fn null_width(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeBinary(width) => *width as usize,
        DataType::FixedSizeList(field, size) => (null_width(field.data_type()) + 1) * *size as usize,
        DataType::Struct(fields) => fields.iter().map(|field| null_width(field.data_type()) + 1).sum(),
        other => other.primitive_width().unwrap_or(16),
    }
}

/// Bytes of buffers, without the padding that a single value would not have in company.
#[derive(Default)]
struct Bare {
    bytes: usize,
}

impl Sink for Bare {
    fn node(&mut self, length: usize, _: usize) {
        // In company it has a validity bitmap though it has no null itself.
        self.bytes += length / 8 + 1;
    }
    fn buffer(&mut self, length: usize, _: impl FnOnce() -> arrow::buffer::Buffer) {
        self.bytes += length;
    }
    fn variadic(&mut self, _: usize) {}
    fn hydrates(&self) -> bool {
        true
    }
    fn extra(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}
