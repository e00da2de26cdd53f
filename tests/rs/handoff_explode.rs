//! What `src-ts/handoff.ts` does to a batch, redone here: nodes and buffers as in `specs/boundary.md`.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, RecordBatch, layout, make_array};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, UnionMode};
use arrow_ingest::handoff::{ColumnBuffers, Foreign, HandoffBatch, Node, Pin, Pins};

/// How the buffers lie in memory.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// Bits before the first row in bitmaps: `Data.offset` of apache-arrow.
    pub shift: usize,
    /// Bytes by which every buffer misses its alignment.
    pub misalign: usize,
    /// Null counts are -1, as after a slice in apache-arrow.
    pub unknown_nulls: bool,
    /// Absent bitmaps are empty buffers instead, as in apache-arrow.
    pub empty_bitmaps: bool,
}

/// Memory that stands in for JavaScript's: never freed, so that a test cannot read freed memory either.
pub struct Heap {
    pub shape: Shape,
    pin: Option<Arc<Pin>>,
    /// (address, length) of all that was placed.
    pub places: Vec<(usize, usize)>,
}

impl Heap {
    pub fn owned(shape: Shape) -> Heap {
        Heap {
            shape,
            pin: None,
            places: Vec::new(),
        }
    }

    pub fn pinned(shape: Shape, pins: &Arc<Pins>) -> Heap {
        Heap {
            shape,
            pin: Some(pins.pin(7, vec![(0x1000, 1)]).unwrap()),
            places: Vec::new(),
        }
    }

    pub fn place(&mut self, bytes: &[u8]) -> Foreign {
        let misalign = self.shape.misalign;
        let mut memory = MutableBuffer::with_capacity(bytes.len() + misalign);
        memory.extend_from_slice(&vec![0xAAu8; misalign]);
        memory.extend_from_slice(bytes);
        let buffer = Buffer::from(memory).slice(misalign);
        let Some(pin) = &self.pin else {
            return Foreign::from_buffer(buffer);
        };
        let (pointer, length) = (buffer.as_ptr(), buffer.len());
        std::mem::forget(buffer);
        self.places.push((pointer as usize, length));
        // SAFETY: the buffer was forgotten, so its memory is never freed.
        unsafe { Foreign::pinned(pointer, length, Arc::clone(pin)) }
    }

    pub fn columns(&mut self, batch: &RecordBatch) -> ColumnBuffers {
        let mut columns = ColumnBuffers {
            schema: batch.schema(),
            rows: batch.num_rows(),
            nodes: Vec::new(),
            buffers: Vec::new(),
        };
        for column in batch.columns() {
            self.array(&column.to_data(), &mut columns);
        }
        columns
    }

    pub fn handoff_batch(&mut self, batch: &RecordBatch) -> HandoffBatch {
        HandoffBatch::Columns(self.columns(batch))
    }

    fn bits(&mut self, length: usize, bit: impl Fn(usize) -> bool) -> Foreign {
        let shift = self.shape.shift;
        // What lies outside of the rows is all ones: reading it would show.
        let mut bytes = vec![0xFFu8; (shift + length).div_ceil(8)];
        for index in 0..length {
            if !bit(index) {
                bytes[(shift + index) / 8] &= !(1 << ((shift + index) % 8));
            }
        }
        self.place(&bytes)
    }

    fn validity(&mut self, data: &ArrayData) -> Option<Foreign> {
        match data.nulls() {
            Some(nulls) if nulls.null_count() > 0 => Some(self.bits(data.len(), |row| nulls.is_valid(row))),
            _ if self.shape.empty_bitmaps => Some(Foreign::from_buffer(Buffer::default())),
            _ => None,
        }
    }

    /// How many values are not handed over, because no row refers to them: where bitmaps are shifted too.
    fn before(&self, offsets: &[u8], width: usize) -> usize {
        match offsets.get(..width) {
            Some(first) if self.shape.shift > 0 => {
                let mut bytes = [0; 8];
                bytes[..width].copy_from_slice(first);
                u64::from_le_bytes(bytes) as usize
            }
            _ => 0,
        }
    }

    fn array(&mut self, data: &ArrayData, out: &mut ColumnBuffers) {
        let kind = data.data_type();
        let length = data.len();
        let is_view = matches!(kind, DataType::Utf8View | DataType::BinaryView);
        out.nodes.push(Node {
            length,
            null_count: match kind {
                DataType::Null => length as i64,
                DataType::Union(..) => 0,
                _ if self.shape.unknown_nulls => -1,
                _ => data.null_count() as i64,
            },
            offset: self.shape.shift,
            variadic: if is_view { data.buffers().len() - 1 } else { 0 },
        });
        let part = |buffer: usize, extra: usize, width: usize| {
            let from = data.offset() * width;
            let bytes = &data.buffers()[buffer];
            let upto = from + (length + extra) * width;
            bytes.as_slice()[from.min(bytes.len())..upto.min(bytes.len())].to_vec()
        };
        match kind {
            DataType::Null => {}
            DataType::Boolean => {
                let validity = self.validity(data);
                let bytes = data.buffers()[0].clone();
                let values = self.bits(length, |row| {
                    let bit = data.offset() + row;
                    bytes[bit / 8] >> (bit % 8) & 1 == 1
                });
                out.buffers.extend([validity, Some(values)]);
            }
            DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => {
                let width = if matches!(kind, DataType::Utf8 | DataType::Binary) {
                    4
                } else {
                    8
                };
                let validity = self.validity(data);
                let (offsets, before) = (part(0, 1, width), self.before(&part(0, 1, width), width));
                out.nodes.last_mut().unwrap().variadic = before;
                let offsets = self.place(&offsets);
                let values = self.place(&data.buffers()[1][before..]);
                out.buffers.extend([validity, Some(offsets), Some(values)]);
            }
            DataType::Utf8View | DataType::BinaryView => {
                let validity = self.validity(data);
                let views = self.place(&part(0, 0, 16));
                out.buffers.extend([validity, Some(views)]);
                for buffer in &data.buffers()[1..] {
                    let placed = self.place(buffer);
                    out.buffers.push(Some(placed));
                }
            }
            DataType::List(_) | DataType::Map(..) | DataType::LargeList(_) => {
                let width = if matches!(kind, DataType::LargeList(_)) {
                    8
                } else {
                    4
                };
                let validity = self.validity(data);
                let (offsets, before) = (part(0, 1, width), self.before(&part(0, 1, width), width));
                out.nodes.last_mut().unwrap().variadic = before;
                let offsets = self.place(&offsets);
                out.buffers.extend([validity, Some(offsets)]);
                let items = &data.child_data()[0];
                // Not `ArrayData::slice`, which leaves an offset beside children that are cut already.
                let items = make_array(items.clone()).slice(before, items.len() - before);
                self.array(&items.to_data(), out);
            }
            DataType::FixedSizeList(_, size) => {
                let validity = self.validity(data);
                out.buffers.push(validity);
                let size = *size as usize;
                let child = data.child_data()[0].slice(data.offset() * size, length * size);
                self.array(&child, out);
            }
            DataType::Struct(_) => {
                let validity = self.validity(data);
                out.buffers.push(validity);
                for child in data.child_data() {
                    self.array(&child.slice(data.offset(), length), out);
                }
            }
            DataType::Union(_, mode) => {
                let ids = self.place(&part(0, 0, 1));
                out.buffers.push(Some(ids));
                if *mode == UnionMode::Dense {
                    let places = self.place(&part(1, 0, 4));
                    out.buffers.push(Some(places));
                }
                for child in data.child_data() {
                    match mode {
                        UnionMode::Dense => self.array(child, out),
                        UnionMode::Sparse => self.array(&child.slice(data.offset(), length), out),
                    }
                }
            }
            DataType::Dictionary(key, _) => {
                let validity = self.validity(data);
                let keys = self.place(&part(0, 0, key.primitive_width().unwrap()));
                out.buffers.extend([validity, Some(keys)]);
                self.array(&data.child_data()[0], out);
            }
            other => {
                let width = match other {
                    DataType::FixedSizeBinary(width) => width.as_usize(),
                    other => other
                        .primitive_width()
                        .unwrap_or_else(|| panic!("{:?}", layout(other))),
                };
                let validity = self.validity(data);
                let values = self.place(&part(0, 0, width));
                out.buffers.extend([validity, Some(values)]);
            }
        }
    }
}

/// Whether a type has buffers in `specs/boundary.md` at all.
pub fn crosses_as_buffers(kind: &DataType) -> bool {
    match kind {
        DataType::RunEndEncoded(..) | DataType::ListView(_) | DataType::LargeListView(_) => false,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => crosses_as_buffers(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| crosses_as_buffers(field.data_type())),
        DataType::Union(fields, _) => fields
            .iter()
            .all(|(_, field)| crosses_as_buffers(field.data_type())),
        DataType::Dictionary(_, values) => crosses_as_buffers(values),
        _ => true,
    }
}
