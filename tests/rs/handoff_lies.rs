//! buffers that contradict their schema or themselves are refused, naming column and row.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::Buffer;
use arrow::datatypes::*;
use arrow_ingest::error::{Code, Error};
use arrow_ingest::handoff::{
    ColumnBuffers, Foreign, HandoffBatch, IpcBytes, Node, PayloadUse, Pins, Pool, charge, join,
};

use crate::handoff_explode::{Heap, Shape};
use crate::handoff_random::MODES;

fn refused(given: &RecordBatch, lie: impl Fn(&mut ColumnBuffers)) -> Error {
    let [moved, computed] = MODES.map(|payload| {
        let mut columns = Heap::owned(Shape::default()).columns(given);
        lie(&mut columns);
        let error = HandoffBatch::Columns(columns)
            .import(payload, &Pool::new(0))
            .unwrap_err();
        assert_eq!(error.code(), Code::BatchInvalid, "{error}");
        error
    });
    assert_eq!(moved.to_string(), computed.to_string(), "both modes see the same");
    moved
}

/// The column "a.b.c" and the row that an error names.
fn names(error: &Error, field: &str, row: impl Into<Option<u64>>) {
    assert_eq!((error.field(), error.row()), (Some(field), row.into()), "{error}");
    assert!(error.message().contains(field), "{error}");
}

fn one(array: impl Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("c", Arc::new(array) as ArrayRef, true)]).unwrap()
}

fn bytes<T: ArrowNativeType>(values: &[T]) -> Option<Foreign> {
    Some(Foreign::from_buffer(Buffer::from_slice_ref(values)))
}

#[test]
fn lengths_that_lie() {
    let numbers = one(Int64Array::from(vec![1, 2, 3]));
    names(&refused(&numbers, |c| c.buffers[1] = bytes(&[1i64, 2])), "c", 2);
    names(&refused(&numbers, |c| c.buffers[1] = None), "c", 0);
    names(&refused(&numbers, |c| c.nodes[0].length = usize::MAX), "c", None);
    names(&refused(&numbers, |c| c.nodes[0].length = 2), "c", None);
    let huge = |c: &mut ColumnBuffers| {
        c.rows = usize::MAX;
        c.nodes[0].length = usize::MAX;
    };
    assert!(refused(&numbers, huge).message().contains("more than"));
    let most = |c: &mut ColumnBuffers| {
        c.rows = u32::MAX as usize;
        c.nodes[0].length = u32::MAX as usize;
    };
    names(&refused(&numbers, most), "c", 3);
    assert!(
        refused(&numbers, |c| c.nodes.push(c.nodes[0]))
            .message()
            .contains("left over")
    );
    assert!(
        refused(&numbers, |c| c.buffers.push(None))
            .message()
            .contains("left over")
    );
    names(&refused(&numbers, |c| c.nodes.clear()), "c", None);
    names(&refused(&numbers, |c| c.buffers.truncate(1)), "c", None);
    names(
        &refused(&one(BooleanArray::from(vec![true; 20])), |c| {
            c.buffers[1] = bytes(&[0u8; 2])
        }),
        "c",
        16,
    );
    names(
        &refused(&one(BooleanArray::from(vec![true; 20])), |c| {
            c.nodes[0].offset = usize::MAX - 3
        }),
        "c",
        0,
    );
}

#[test]
fn bitmaps_that_lie() {
    let given = one(Int8Array::from_iter((0..20).map(|n| (n != 4).then_some(n))));
    names(&refused(&given, |c| c.buffers[0] = bytes(&[0u8])), "c", 8);
    names(&refused(&given, |c| c.nodes[0].offset = 1 << 40), "c", 0);
    for stated in [2, -2, 21] {
        names(&refused(&given, |c| c.nodes[0].null_count = stated), "c", None);
    }
    names(&refused(&given, |c| c.buffers[0] = None), "c", None);
}

#[test]
fn nulls_where_none_are_allowed() {
    let schema = Schema::new(vec![Field::new("c", DataType::Int8, false)]);
    let given = one(Int8Array::from_iter(
        (0..20).map(|n| (n != 4 && n != 9).then_some(n)),
    ));
    let lie = |c: &mut ColumnBuffers| c.schema = Arc::new(schema.clone());
    names(&refused(&given, lie), "c", 4);

    // Within structs, a null of the parent excuses one of the child.
    let inner = Arc::new(Int8Array::from(vec![Some(1), None, None]));
    let nulls = Some(vec![true, false, true].into());
    let fields = Fields::from(vec![Field::new("x", DataType::Int8, true)]);
    let given = one(StructArray::new(fields, vec![inner], nulls));
    let strict = Fields::from(vec![Field::new("x", DataType::Int8, false)]);
    let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Struct(strict), true)]));
    names(&refused(&given, |c| c.schema = Arc::clone(&schema)), "c.x", 2);

    // Within lists, none does; within fixed size lists, it does.
    let given = one(ListArray::from_iter_primitive::<Int8Type, _, _>([
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
        Some(vec![Some(3), None]),
    ]));
    let item = Arc::new(Field::new_list_field(DataType::Int8, false));
    let schema = Arc::new(Schema::new(vec![Field::new(
        "c",
        DataType::List(Arc::clone(&item)),
        true,
    )]));
    names(&refused(&given, |c| c.schema = Arc::clone(&schema)), "c.item", 2);
    let given = one(FixedSizeListArray::from_iter_primitive::<Int8Type, _, _>(
        [Some(vec![Some(1), Some(2)]), None, Some(vec![None, Some(4)])],
        2,
    ));
    let schema = Arc::new(Schema::new(vec![Field::new(
        "c",
        DataType::FixedSizeList(item, 2),
        true,
    )]));
    names(&refused(&given, |c| c.schema = Arc::clone(&schema)), "c.item", 2);
}

#[test]
fn offsets_that_lie() {
    let text = one(StringArray::from(vec!["one", "two", "three"]));
    names(
        &refused(&text, |c| c.buffers[1] = bytes(&[0i32, 3, 2, 11])),
        "c",
        1,
    );
    names(
        &refused(&text, |c| c.buffers[1] = bytes(&[-1i32, 3, 6, 11])),
        "c",
        0,
    );
    names(
        &refused(&text, |c| c.buffers[1] = bytes(&[0i32, 3, 12, 12])),
        "c",
        1,
    );
    names(
        &refused(&text, |c| c.buffers[1] = bytes(&[2i32, 3, 6, 12])),
        "c",
        2,
    );
    names(&refused(&text, |c| c.buffers[1] = bytes(&[0i32, 3, 6])), "c", 2);
    names(&refused(&text, |c| c.buffers[1] = None), "c", 0);
    names(&refused(&text, |c| c.buffers[2] = None), "c", 0);
    let large = one(LargeBinaryArray::from_vec(vec![b"one", b"two"]));
    names(
        &refused(&large, |c| c.buffers[1] = bytes(&[0i64, 3, i64::MAX])),
        "c",
        1,
    );
    names(
        &refused(&large, |c| c.buffers[1] = bytes(&[0i64, i64::MIN, 6])),
        "c",
        0,
    );
    let lists = one(ListArray::from_iter_primitive::<Int8Type, _, _>([
        Some(vec![Some(1)]),
        Some(vec![Some(2); 3]),
    ]));
    names(
        &refused(&lists, |c| c.buffers[1] = bytes(&[0i32, 1, 5])),
        "c.item",
        1,
    );
    names(&refused(&lists, |c| c.nodes[1].length = 3), "c.item", 1);
    names(
        &refused(&lists, |c| c.nodes[1].length = usize::MAX),
        "c.item",
        None,
    );
}

#[test]
fn text_that_is_none() {
    let text = one(StringArray::from(vec!["one", "", "two", "three"]));
    let values = |bytes: &'static [u8]| {
        move |c: &mut ColumnBuffers| c.buffers[2] = Some(Foreign::from_buffer(bytes.into()))
    };
    names(&refused(&text, values(b"one\xFFwothree")), "c", 2);
    names(&refused(&text, values(b"onetwothre\xC3")), "c", 3);
    // The whole is UTF-8; the pieces are not.
    names(&refused(&text, values("onétwothre".as_bytes())), "c", 0);
    // The last character is cut off, just where the values end.
    names(
        &refused(&text, values("onetwothr漢".as_bytes().split_last().unwrap().1)),
        "c",
        3,
    );
    // Far in, at the seam of the chunks in which it is read.
    for place in 8_185..8_200 {
        let rows = vec!["漢字".repeat(10); 1_000];
        let given = one(StringArray::from(rows.clone()));
        let mut bytes = rows.concat().into_bytes();
        bytes[place] = 0xFF;
        let bytes = Foreign::from_buffer(bytes.into());
        names(
            &refused(&given, |c| c.buffers[2] = Some(bytes.clone())),
            "c",
            place as u64 / 60,
        );
    }
    let views = one(StringViewArray::from(vec!["short", "rather longer than a view"]));
    let values = Foreign::from_buffer(Buffer::from(b"rather longer than a \xFFiew"));
    names(&refused(&views, |c| c.buffers[2] = Some(values.clone())), "c", 1);
}

/// Stretches of ASCII and of other text, longer and shorter than what is read at once.
#[test]
fn a_flaw_anywhere_in_mixed_text_is_named_by_its_row() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut sound = 0;
    for _ in 0..300 {
        let mut rows = Vec::new();
        for _ in 0..random.usize(1..6) {
            let word = *random.choice(&["plain ", "naïve ", "漢", "🦀"]).unwrap();
            let count = random.usize(1..9_000);
            for _ in 0..random.usize(1..30) {
                rows.push(word.repeat(count / 30));
            }
        }
        let given = one(StringArray::from(rows.clone()));
        let mut values = rows.concat().into_bytes();
        let mut offsets = vec![0_i32];
        offsets.extend(rows.iter().scan(0, |end, row| {
            *end += row.len() as i32;
            Some(*end)
        }));
        if random.bool() && !values.is_empty() {
            let place = random.usize(..values.len());
            values[place] = *random.choice(&[0xFF, 0x80, 0xC3, b'a']).unwrap();
        }
        if random.bool() {
            let (index, by) = (random.usize(..rows.len()), random.i32(1..3));
            if offsets[index] + by <= offsets[index + 1] {
                offsets[index] += i32::from(index > 0) * by;
            }
        }
        let is_flawed = |cut: &[i32]| std::str::from_utf8(&values[cut[0] as usize..cut[1] as usize]).is_err();
        let flawed = offsets.windows(2).position(is_flawed);
        let values = Foreign::from_buffer(Buffer::from(values.as_slice()));
        let lie = |columns: &mut ColumnBuffers| {
            columns.buffers[1] = bytes(&offsets);
            columns.buffers[2] = Some(values.clone());
        };
        let Some(row) = flawed else {
            sound += 1;
            for payload in MODES {
                let mut columns = Heap::owned(Shape::default()).columns(&given);
                lie(&mut columns);
                HandoffBatch::Columns(columns)
                    .import(payload, &Pool::new(0))
                    .expect("it is text");
            }
            continue;
        };
        names(&refused(&given, lie), "c", row as u64);
    }
    assert!((50..250).contains(&sound), "{sound} of 300 were sound");
}

fn view(length: u32, prefix: &[u8; 4], buffer: u32, offset: u32) -> u128 {
    ByteView::new(length, prefix)
        .with_buffer_index(buffer)
        .with_offset(offset)
        .as_u128()
}

#[test]
fn views_that_lie() {
    let given = one(StringViewArray::from(vec!["short", "rather longer than a view"]));
    let short = u128::from_le_bytes(*b"\x05\0\0\0short\0\0\0\0\0\0\0");
    let good = view(25, b"rath", 0, 0);
    let with =
        |views: [u128; 2]| move |c: &mut ColumnBuffers| c.buffers[1] = bytes(&views.map(|view| view as i128));
    names(&refused(&given, with([short, view(25, b"rath", 1, 0)])), "c", 1);
    names(&refused(&given, with([view(25, b"rath", 0, 1), good])), "c", 0);
    names(
        &refused(&given, with([view(25, b"rath", 0, u32::MAX), good])),
        "c",
        0,
    );
    names(
        &refused(&given, with([view(u32::MAX, b"rath", 0, 0), good])),
        "c",
        0,
    );
    names(&refused(&given, with([short, view(25, b"rat?", 0, 0)])), "c", 1);
    names(&refused(&given, with([short | 1 << 120, good])), "c", 0);
    names(&refused(&given, with([short ^ 0xFF << 32, good])), "c", 0);
    names(
        &refused(&given, |c| c.buffers[1] = bytes(&[good as i128])),
        "c",
        1,
    );
    names(&refused(&given, |c| c.nodes[0].variadic = 2), "c", None);
    names(&refused(&given, |c| c.buffers[2] = None), "c", 1);
}

#[test]
fn keys_that_lie() {
    let keys = Int8Array::from(vec![Some(0), None, Some(1), Some(0)]);
    let values = Arc::new(StringArray::from(vec!["x", "y"]));
    let given = one(DictionaryArray::new(keys, values));
    names(
        &refused(&given, |c| c.buffers[1] = bytes(&[0i8, 0, 2, 0])),
        "c",
        2,
    );
    names(
        &refused(&given, |c| c.buffers[1] = bytes(&[0i8, 0, 1, -1])),
        "c",
        3,
    );
    names(&refused(&given, |c| c.buffers[1] = bytes(&[0i8, 0, 1])), "c", 3);
    // What is wrong with a value shows in the first row that has it.
    names(&refused(&given, |c| c.buffers[4] = bytes(b"x\xFF")), "c", 2);
    for kind in [
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
    ] {
        let width = kind.primitive_width().unwrap();
        let schema = schema_with(DataType::Dictionary(Box::new(kind), Box::new(DataType::Utf8)));
        let mut keys = vec![0u8; 4 * width];
        keys[2 * width] = 77;
        names(
            &refused(&given, |c| {
                c.schema = Arc::clone(&schema);
                c.buffers[1] = bytes(&keys);
            }),
            "c",
            2,
        );
    }
}

fn schema_with(kind: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("c", kind, true)]))
}

#[test]
fn unions_that_lie() {
    let fields = UnionFields::try_new(
        [5, 7],
        [
            Field::new("n", DataType::Int32, true),
            Field::new("s", DataType::Utf8, true),
        ],
    )
    .unwrap();
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let children = vec![numbers, text];
    let dense = one(UnionArray::try_new(
        fields.clone(),
        vec![5, 7, 5].into(),
        Some(vec![0, 1, 2].into()),
        children.clone(),
    )
    .unwrap());
    for id in [6i8, -1, 127] {
        names(&refused(&dense, |c| c.buffers[0] = bytes(&[5i8, id, 5])), "c", 1);
    }
    names(&refused(&dense, |c| c.buffers[1] = bytes(&[0i32, 1, 3])), "c", 2);
    names(&refused(&dense, |c| c.buffers[1] = bytes(&[0i32, -1, 2])), "c", 1);
    names(&refused(&dense, |c| c.buffers[1] = bytes(&[0i32, 1])), "c", 2);
    names(
        &refused(&dense, |c| *c.buffers.last_mut().unwrap() = bytes(b"a\xFFc")),
        "c.s",
        1,
    );
    let sparse = one(UnionArray::try_new(fields, vec![5, 7, 5].into(), None, children).unwrap());
    names(&refused(&sparse, |c| c.buffers[0] = bytes(&[5i8, 7])), "c", 2);
    names(&refused(&sparse, |c| c.nodes[2].length = 2), "c.s", 2);
    names(
        &refused(&sparse, |c| *c.buffers.last_mut().unwrap() = bytes(b"ab\xFF")),
        "c.s",
        2,
    );
}

#[test]
fn paths_and_rows_lead_through_all_levels() {
    let text = StringArray::from(vec!["a", "b", "c", "d", "e", "f"]);
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("name", DataType::Utf8, true)),
        Arc::new(text) as ArrayRef,
    )]);
    let item = Arc::new(Field::new("who", inner.data_type().clone(), true));
    let pairs = FixedSizeListArray::new(item, 2, Arc::new(inner), None);
    let item = Arc::new(Field::new("pair", pairs.data_type().clone(), true));
    let given = one(ListArray::new(
        item,
        arrow::buffer::OffsetBuffer::from_lengths([1, 0, 2]),
        Arc::new(pairs),
        None,
    ));
    // "d" is of the second pair, which is the first of the third row.
    names(
        &refused(&given, |c| *c.buffers.last_mut().unwrap() = bytes(b"abc\xFFef")),
        "c.pair.who.name",
        2,
    );
    names(&refused(&given, |c| c.nodes[1].length = 2), "c.pair", 2);
    names(&refused(&given, |c| c.nodes[2].length = 5), "c.pair.who", 2);
}

#[test]
fn types_that_cannot_be() {
    let node = Node {
        length: 0,
        null_count: 0,
        offset: 0,
        variadic: 0,
    };
    let field = |kind| Arc::new(Field::new("f", kind, false));
    let entries = |fields: Vec<Field>, nullable| {
        DataType::Map(
            Arc::new(Field::new("f", DataType::Struct(fields.into()), nullable)),
            false,
        )
    };
    let key = || Field::new("key", DataType::Utf8, false);
    let mut deep = DataType::Int8;
    for _ in 0..64 {
        deep = DataType::List(field(deep));
    }
    let negative = UnionFields::try_new([-3i8], [Field::new("x", DataType::Int8, true)]);
    for (kind, reason) in [
        (DataType::FixedSizeBinary(-1), "negative"),
        (DataType::FixedSizeList(field(DataType::Int8), -1), "negative"),
        (deep, "nested deeper"),
        (entries(vec![key()], false), "entries of a map"),
        (entries(vec![key(), key()], true), "nullable"),
        (DataType::Map(field(DataType::Int8), false), "entries of a map"),
        (
            DataType::Dictionary(Box::new(DataType::Utf8), Box::new(DataType::Utf8)),
            "key of a dictionary",
        ),
        (
            DataType::RunEndEncoded(field(DataType::Int32), field(DataType::Utf8)),
            "IPC bytes only",
        ),
        (
            DataType::RunEndEncoded(field(DataType::Int8), field(DataType::Utf8)),
            "run ends",
        ),
        (DataType::ListView(field(DataType::Utf8)), "IPC bytes only"),
        (DataType::LargeListView(field(DataType::Utf8)), "IPC bytes only"),
        (
            DataType::FixedSizeList(field(DataType::Null), i32::MAX),
            "beyond all memory",
        ),
    ]
    .into_iter()
    .chain(
        negative
            .ok()
            .map(|fields| (DataType::Union(fields, UnionMode::Sparse), "negative")),
    ) {
        let rows = if reason == "beyond all memory" {
            u32::MAX as usize
        } else {
            0
        };
        let columns = ColumnBuffers {
            schema: schema_with(kind),
            rows,
            nodes: vec![Node { length: rows, ..node }; 3],
            buffers: vec![None; 3],
        };
        let error = HandoffBatch::Columns(columns)
            .import(PayloadUse::Moved, &Pool::new(0))
            .unwrap_err();
        assert!(error.message().contains(reason) || rows > 0, "{error}");
        assert!(
            error.field().is_some_and(|field| field.starts_with('c')),
            "{error}"
        );
    }
}

/// whatever is wrong, the memory is let go.
#[test]
fn a_refused_batch_lets_go_of_everything() {
    let pins = Pins::new(1 << 20, Box::new(|_, _| {}));
    let pool = Pool::new(1 << 20);
    for payload in MODES {
        let mut heap = Heap::pinned(Shape::default(), &pins);
        let mut columns = heap.columns(&one(StringArray::from(vec!["a", "b"])));
        columns.buffers.push(None);
        drop(heap);
        HandoffBatch::Columns(columns).import(payload, &pool).unwrap_err();
        assert_eq!((pins.count(), pool.stats().in_use), (0, 0));
    }
}

/// `firstValue` of `specs/boundary.md`: values that are said to begin where the offsets do not.
#[test]
fn values_that_begin_elsewhere() {
    let text = one(StringArray::from(vec!["ab", "cd"]));
    for before in [1, 3, usize::MAX] {
        names(&refused(&text, |c| c.nodes[0].variadic = before), "c", 0);
    }
    // The offsets of no rows refer to nothing, wherever values begin.
    let none = Heap::owned(Shape::default()).columns(&text.slice(0, 0));
    let nodes = vec![Node {
        variadic: usize::MAX,
        ..none.nodes[0]
    }];
    let columns = ColumnBuffers { nodes, ..none };
    let imported = HandoffBatch::Columns(columns)
        .import(PayloadUse::Moved, &Pool::new(0))
        .unwrap();
    assert_eq!(imported.batches[0].num_rows(), 0);
    let lists = one(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(
        vec![Some(1), Some(2)],
    )]));
    names(&refused(&lists, |c| c.nodes[0].variadic = 1), "c", 0);
    // Between honest ones, none is joined.
    let shape = Heap::owned(Shape::default()).columns(&text);
    let mut liar = Heap::owned(Shape::default()).columns(&text);
    liar.nodes[0].variadic = 2;
    assert!(join(&[shape, liar], &Pool::new(0)).is_none());
}

/// What the budget is charged for a delivery has a floor for all that is described of it.
#[test]
fn a_delivery_is_charged_for_more_than_its_payload() {
    let text = one(StringArray::from(vec!["ab", "cd"]));
    let columns = || Heap::owned(Shape::default()).handoff_batch(&text);
    let payload = columns().bytes();
    assert_eq!(charge(&[columns()]), 1_024 + 128 * (1 + 1 + 3) + payload);
    assert_eq!(charge(&[columns(), columns()]), 1_024 + 2 * (128 * 5 + payload));
    let ipc = HandoffBatch::Ipc(IpcBytes {
        bytes: Foreign::from_buffer(vec![0_u8; 7].into()),
        rows: None,
    });
    assert_eq!(charge(&[ipc]), 1_024 + 128 * 2 + 7);
    assert_eq!(charge(&[]), 1_024);
}
