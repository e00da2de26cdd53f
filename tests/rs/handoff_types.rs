//! Batches of any type, filled from a seed.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer};
use arrow::datatypes::*;

/// splitmix64: a seed is all that a failure needs to be repeated.
pub struct Seed(pub u64);

impl Seed {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 6] = ["a", "é", "漢字", "🦀", "plain ascii of some length", ""];
        (0..self.below(4))
            .map(|_| PIECES[self.below(PIECES.len())])
            .collect()
    }
}

pub fn nulls(nullable: bool, length: usize, seed: &mut Seed) -> Option<NullBuffer> {
    (nullable && seed.below(4) > 0)
        .then(|| NullBuffer::from((0..length).map(|_| seed.below(3) > 0).collect::<Vec<bool>>()))
}

pub fn batch(schema: &SchemaRef, rows: usize, seed: &mut Seed) -> RecordBatch {
    let columns = schema
        .fields()
        .iter()
        .map(|field| array(field, rows, seed))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).unwrap()
}

pub fn array(field: &Field, length: usize, seed: &mut Seed) -> ArrayRef {
    let kind = field.data_type();
    let valid = nulls(field.is_nullable(), length, seed);
    let is_valid = |row: usize| valid.as_ref().is_none_or(|valid| valid.is_valid(row));
    let builder = ArrayData::builder(kind.clone()).len(length);
    match kind {
        DataType::Null => Arc::new(NullArray::new(length)),
        DataType::Boolean => Arc::new(
            (0..length)
                .map(|row| is_valid(row).then(|| seed.below(2) == 0))
                .collect::<BooleanArray>(),
        ),
        DataType::Utf8 => Arc::new(
            (0..length)
                .map(|row| is_valid(row).then(|| seed.text()))
                .collect::<StringArray>(),
        ),
        DataType::LargeUtf8 => Arc::new(
            (0..length)
                .map(|row| is_valid(row).then(|| seed.text()))
                .collect::<LargeStringArray>(),
        ),
        DataType::Utf8View => Arc::new(
            (0..length)
                .map(|row| is_valid(row).then(|| seed.text()))
                .collect::<StringViewArray>(),
        ),
        DataType::Binary => Arc::new(
            (0..length)
                .map(|row| is_valid(row).then(|| seed.text().into_bytes()))
                .collect::<BinaryArray>(),
        ),
        DataType::LargeBinary => Arc::new(
            (0..length)
                .map(|row| is_valid(row).then(|| seed.text().into_bytes()))
                .collect::<LargeBinaryArray>(),
        ),
        DataType::BinaryView => Arc::new(
            (0..length)
                .map(|row| is_valid(row).then(|| seed.text().into_bytes()))
                .collect::<BinaryViewArray>(),
        ),
        DataType::List(item) | DataType::Map(item, _) => {
            let mut offsets = vec![seed.below(3) as i32];
            for row in 0..length {
                offsets.push(offsets[row] + seed.below(4) as i32);
            }
            let child = array(item, offsets[length] as usize + seed.below(3), seed);
            finish(
                builder
                    .add_buffer(Buffer::from_vec(offsets))
                    .add_child_data(child.to_data())
                    .nulls(valid),
            )
        }
        DataType::LargeList(item) => {
            let mut offsets = vec![seed.below(3) as i64];
            for row in 0..length {
                offsets.push(offsets[row] + seed.below(4) as i64);
            }
            let child = array(item, offsets[length] as usize + seed.below(3), seed);
            finish(
                builder
                    .add_buffer(Buffer::from_vec(offsets))
                    .add_child_data(child.to_data())
                    .nulls(valid),
            )
        }
        DataType::FixedSizeList(item, size) => {
            let child = array(item, length * *size as usize, seed);
            finish(builder.add_child_data(child.to_data()).nulls(valid))
        }
        DataType::Struct(fields) => {
            let children = fields
                .iter()
                .map(|field| array(field, length, seed).to_data())
                .collect();
            finish(builder.child_data(children).nulls(valid))
        }
        DataType::Union(fields, mode) => {
            let all: Vec<i8> = fields.iter().map(|(id, _)| id).collect();
            let ids: Vec<i8> = (0..length).map(|_| all[seed.below(all.len())]).collect();
            let mut buffers = vec![Buffer::from_vec(ids)];
            let mut child_length = length;
            if *mode == UnionMode::Dense {
                child_length = length / 2 + 1;
                let places: Vec<i32> = (0..length).map(|_| seed.below(child_length) as i32).collect();
                buffers.push(Buffer::from_vec(places));
            }
            let children = fields
                .iter()
                .map(|(_, field)| array(field, child_length, seed).to_data())
                .collect();
            finish(builder.buffers(buffers).child_data(children))
        }
        DataType::Dictionary(key, values) => {
            let values = array(&Field::new("values", values.as_ref().clone(), true), 5, seed);
            let width = key.primitive_width().unwrap();
            let mut keys = MutableBuffer::new(length * width);
            for row in 0..length {
                // Null rows may hold any key: readers must not follow it.
                let key = if is_valid(row) { seed.below(5) as u64 } else { 99 };
                keys.extend_from_slice(&key.to_le_bytes()[..width]);
            }
            finish(
                builder
                    .add_buffer(keys.into())
                    .add_child_data(values.to_data())
                    .nulls(valid),
            )
        }
        other => {
            let width = match other {
                DataType::FixedSizeBinary(width) => *width as usize,
                other => other.primitive_width().unwrap(),
            };
            let mut bytes = MutableBuffer::new(length * width);
            for _ in 0..length * width {
                bytes.push(seed.next() as u8);
            }
            finish(builder.add_buffer(bytes.into()).nulls(valid))
        }
    }
}

fn finish(builder: ArrayDataBuilder) -> ArrayRef {
    make_array(builder.build().unwrap())
}

pub fn leaves() -> Vec<DataType> {
    use DataType::*;
    vec![
        Null,
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float16,
        Float32,
        Float64,
        Utf8,
        LargeUtf8,
        Binary,
        LargeBinary,
        Utf8View,
        BinaryView,
        Date32,
        Date64,
        Time32(TimeUnit::Second),
        Time64(TimeUnit::Nanosecond),
        Timestamp(TimeUnit::Microsecond, None),
        Timestamp(TimeUnit::Millisecond, Some("Europe/Paris".into())),
        Duration(TimeUnit::Second),
        Interval(IntervalUnit::YearMonth),
        Interval(IntervalUnit::DayTime),
        Interval(IntervalUnit::MonthDayNano),
        Decimal32(7, 2),
        Decimal64(15, 2),
        Decimal128(38, 10),
        Decimal256(70, 10),
        FixedSizeBinary(3),
        FixedSizeBinary(0),
        Dictionary(Box::new(Int8), Box::new(Utf8)),
        Dictionary(Box::new(UInt64), Box::new(Int32)),
        Dictionary(
            Box::new(UInt16),
            Box::new(Dictionary(Box::new(Int32), Box::new(Utf8))),
        ),
    ]
}

pub fn nested(item: &DataType) -> Vec<DataType> {
    let field = |name: &str| Arc::new(Field::new(name, item.clone(), true));
    let map = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", item.clone(), true),
    ]);
    let members = UnionFields::try_new(
        [3, 1, 0],
        [
            Field::new("x", item.clone(), true),
            Field::new("y", DataType::Int16, true),
            Field::new("z", DataType::Boolean, true),
        ],
    )
    .unwrap();
    vec![
        DataType::List(field("item")),
        DataType::LargeList(field("item")),
        DataType::FixedSizeList(field("item"), 3),
        DataType::FixedSizeList(field("item"), 0),
        DataType::Struct(Fields::from(vec![
            field("x"),
            Arc::new(Field::new("y", DataType::Boolean, false)),
        ])),
        DataType::Struct(Fields::empty()),
        DataType::Map(
            Arc::new(Field::new("entries", DataType::Struct(map), false)),
            false,
        ),
        DataType::Union(members.clone(), UnionMode::Sparse),
        DataType::Union(members, UnionMode::Dense),
    ]
}

pub fn schema_of(kinds: impl IntoIterator<Item = DataType>) -> SchemaRef {
    let fields: Vec<Field> = kinds
        .into_iter()
        .enumerate()
        .map(|(index, kind)| Field::new(format!("c{index}"), kind, true))
        .collect();
    Arc::new(Schema::new(fields))
}
