//! What is appended is found again, as it was, in order.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, NullArray,
    RecordBatch, RecordBatchOptions, StringArray, StringViewArray, StructArray,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use arrow_ingest::error::Code;
use arrow_ingest::spool::{Durability, SpoolCompression, SpoolOptions};

use crate::simulated::Simulated;
use crate::support::{Rig, answer, batch, count, disk, open, options, path, schema, segments, try_open};

/// with positions and identities, each once.
#[test]
fn what_was_appended_is_found_by_the_next_opening_in_order() {
    let disk = disk();
    let mut rig = open(&disk);
    assert_eq!(rig.keep(0..3), 0);
    assert_eq!(rig.keep(3..10), 3);
    assert_eq!(rig.values(), (0..10).collect::<Vec<_>>());
    rig.keep([10]);
    let mut rig = open(&rig.close());
    assert_eq!(rig.recovered.left.deliveries, 3);
    assert_eq!(rig.recovered.left.rows, 11);
    assert!(rig.recovered.left.oldest_ms.is_some() && rig.recovered.left.bytes > 3 * 64);
    assert_eq!(rig.keep([11, 12]), 11);
    let read = rig.read();
    assert_eq!(read.values(), (0..13).collect::<Vec<_>>());
    let told: Vec<_> = read
        .rows
        .iter()
        .map(|rows| (rows.positions.clone(), rows.identity))
        .collect();
    assert_eq!(told, [(0..3, 0), (3..10, 3), (10..11, 10), (11..13, 11)]);
    assert!(read.damage.is_empty() && read.rows.iter().all(|rows| rows.delivery == rows.positions));
    // From the middle of a delivery, the rest of it.
    let read = rig.read_from(5);
    assert_eq!(read.values(), (5..13).collect::<Vec<_>>());
    assert_eq!(
        (read.rows[0].positions.clone(), read.rows[0].delivery.clone()),
        (5..10, 3..10)
    );
}

fn every_type() -> RecordBatch {
    let dictionary: DictionaryArray<Int32Type> =
        [Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    let lists = [Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(2)])];
    let inner: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "int",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
        ),
        (
            "float",
            Arc::new(Float64Array::from(vec![0.5, f64::NAN, -0.0, f64::INFINITY])),
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![
                Some("x"),
                None,
                Some(""),
                Some("long enough to be no view"),
            ])),
        ),
        (
            "view",
            Arc::new(StringViewArray::from(vec![
                Some("long enough to be no view"),
                None,
                Some(""),
                Some("y"),
            ])),
        ),
        (
            "bool",
            Arc::new(BooleanArray::from(vec![
                Some(true),
                None,
                Some(false),
                Some(true),
            ])),
        ),
        ("dictionary", Arc::new(dictionary)),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
        ),
        ("nothing", Arc::new(NullArray::new(4))),
        (
            "struct",
            Arc::new(StructArray::from(vec![(
                Arc::new(Field::new("in", DataType::Int32, false)),
                inner,
            )])),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Debug text, because NaN is not equal to itself.
fn text(batches: &[RecordBatch]) -> String {
    format!("{batches:?}")
}

#[test]
fn every_kind_of_column_comes_back_as_it_was_compressed_or_not() {
    for compression in [None, Some(SpoolCompression::Lz4), Some(SpoolCompression::Zstd)] {
        let disk = disk();
        let mut rig = try_open(
            &disk,
            &SpoolOptions {
                compression,
                ..options()
            },
        )
        .unwrap();
        let whole = every_type();
        // Slices have offsets; several batches are one delivery, and their dictionaries may differ.
        let other: DictionaryArray<Int32Type> = [Some("z"), Some("a"), None, None].into_iter().collect();
        let mut columns = whole.columns().to_vec();
        columns[5] = Arc::new(other);
        let changed = RecordBatch::try_new(whole.schema(), columns).unwrap();
        let deliveries = [
            vec![whole.clone()],
            vec![whole.slice(1, 2), changed.clone(), whole.slice(3, 1)],
            vec![changed],
        ];
        for (number, delivery) in deliveries.iter().enumerate() {
            rig.offer(delivery, number as u64).unwrap().unwrap();
        }
        rig.turn();
        let mut rig = open(&rig.close());
        let read = rig.read();
        assert_eq!(read.rows.len(), 3);
        for (rows, delivery) in read.rows.iter().zip(&deliveries) {
            assert_eq!(text(&rows.batches), text(delivery), "{compression:?}");
        }
    }
}

#[test]
fn a_new_schema_is_written_once_and_old_rows_keep_theirs() {
    let disk = disk();
    let mut rig = open(&disk);
    let mut other = batch(10..12);
    other = RecordBatch::try_new(schema("m"), other.columns().to_vec()).unwrap();
    for delivery in [batch(0..2), batch(2..4), other.clone(), other, batch(4..5)] {
        rig.offer(&[delivery], 0).unwrap().unwrap();
    }
    rig.turn();
    let mut rig = open(&rig.close());
    let read = rig.read();
    let names: Vec<String> = read
        .rows
        .iter()
        .map(|rows| rows.batches[0].schema().field(0).name().clone())
        .collect();
    assert_eq!(names, ["n", "n", "m", "m", "n"]);
    assert_eq!(read.values(), [0, 1, 2, 3, 10, 11, 10, 11, 4]);
}

#[test]
fn deliveries_without_rows_are_durable_at_once_and_take_no_room() {
    let disk = disk();
    let rig = open(&disk);
    let before = disk.calls();
    let appended = rig.append_nothing();
    assert_eq!(appended, 0);
    assert_eq!(disk.calls(), before);
}

impl Rig {
    fn append_nothing(&self) -> u64 {
        let appended = self.offer(&[batch([])], 7).unwrap().unwrap();
        answer(appended.durable).unwrap().unwrap();
        appended.position
    }
}

#[test]
fn rows_without_columns_are_rows() {
    let disk = disk();
    let mut rig = open(&disk);
    let options = RecordBatchOptions::new().with_row_count(Some(5));
    let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    let appended = rig.offer(&[empty], 1).unwrap().unwrap();
    rig.turn();
    answer(appended.durable).unwrap().unwrap();
    assert_eq!(rig.keep(0..2), 5);
    let read = rig.read();
    assert_eq!(read.rows[0].batches[0].num_rows(), 5);
    assert_eq!(read.rows[1].positions, 5..7);
}

#[test]
fn what_is_no_delivery_is_refused_and_nothing_is_taken() {
    let disk = disk();
    let mut rig = open(&disk);
    let other = RecordBatch::try_new(schema("m"), batch(0..1).columns().to_vec()).unwrap();
    for batches in [vec![], vec![batch(0..1), other]] {
        let error = rig.offer(&batches, 0).unwrap().unwrap_err();
        assert_eq!(error.code(), Code::BatchInvalid);
    }
    assert_eq!(rig.keep(0..1), 0);
}

/// all who wait share one sync.
#[test]
fn appends_that_wait_together_share_one_write_and_one_sync() {
    let disk = disk();
    let mut rig = open(&disk);
    rig.keep([0]);
    let (writes, syncs) = (
        count(&disk, "Write", ".segment"),
        count(&disk, "Sync", ".segment"),
    );
    let waiting: Vec<_> = (1..100).map(|n| rig.append([n]).durable).collect();
    let unanswered = waiting.iter().filter(|_| true).count();
    rig.turn();
    for durable in waiting {
        answer(durable).unwrap().unwrap();
    }
    assert_eq!(unanswered, 99);
    assert_eq!(count(&disk, "Sync", ".segment") - syncs, 1);
    assert_eq!(count(&disk, "Write", ".segment") - writes, 1);
    assert_eq!(rig.values(), (0..100).collect::<Vec<_>>());
}

/// Before the bytes and the name of their file are synced, nobody is told that they are durable.
#[test]
fn nobody_is_answered_before_the_sync() {
    let disk = disk();
    let rig = open(&disk);
    let appended = rig.append(0..3);
    assert!(answer(appended.durable).is_none());
    assert!(segments(&disk).is_empty());
}

/// `written` survives the process and costs no sync; a reader gets rows only when they are synced.
#[test]
fn written_is_answered_without_a_sync_and_read_after_one() {
    let disk = disk();
    let written = SpoolOptions {
        durability: Durability::Written,
        ..options()
    };
    let mut rig = try_open(&disk, &written).unwrap();
    assert_eq!(rig.spool.durability(), Durability::Written);
    rig.keep(0..3);
    rig.keep(3..5);
    assert_eq!(count(&disk, "Sync", ".segment"), 0);
    // Killed, it is there.
    let mut after = open(&disk.after_kill_copy());
    assert_eq!(after.values(), [0, 1, 2, 3, 4]);
    // Read, it is asked for.
    assert_eq!(rig.values(), Vec::<i64>::new());
    rig.turn();
    assert_eq!(count(&disk, "Sync", ".segment"), 1);
    assert_eq!(rig.values(), [0, 1, 2, 3, 4]);
    rig.keep([5]);
    let synced = rig.spool.sync();
    rig.turn();
    answer(synced).unwrap().unwrap();
    assert_eq!(open(&disk.after_power_cut(0)).values(), [0, 1, 2, 3, 4, 5]);
}

impl Simulated {
    /// As another process would find the disk, while this one goes on.
    fn after_kill_copy(&self) -> Simulated {
        // Everything that is written is what a power cut that loses nothing leaves.
        self.after_power_cut(1)
    }
}

/// What JavaScript may still write to is copied before it is checksummed.
#[test]
fn what_is_overwritten_after_the_append_is_written_as_it_was() {
    let disk = disk();
    let mut rig = open(&disk);
    let memory: Arc<[AtomicI64]> = [1, 2, 3].map(AtomicI64::new).into();
    let start = NonNull::new(memory.as_ptr().cast_mut().cast::<u8>()).unwrap();
    // SAFETY: the memory is 24 bytes, aligned, and lives as long as the buffer, which holds it.
    let buffer = unsafe { Buffer::from_custom_allocation(start, 24, Arc::new(Held(memory.clone()))) };
    let column: ArrayRef = Arc::new(Int64Array::new(buffer.into(), None));
    let batch = RecordBatch::try_new(schema("n"), vec![column]).unwrap();
    let appended = rig.offer(&[batch], 0).unwrap().unwrap();
    memory[1].store(99, Ordering::SeqCst);
    rig.turn();
    answer(appended.durable).unwrap().unwrap();
    let read = rig.read();
    assert_eq!((read.values(), read.damage.len()), (vec![1, 2, 3], 0));
}

struct Held(#[expect(dead_code, reason = "it is held, not read")] Arc<[AtomicI64]>);

// What is held is atomic and is left as it is by a panic.
impl std::panic::RefUnwindSafe for Held {}

/// Segments end where they are full, and a delivery that is larger than one has one to itself.
#[test]
fn segments_are_bounded_and_a_delivery_is_never_split() {
    let disk = disk();
    let small = SpoolOptions {
        segment_bytes: 4096,
        ..options()
    };
    let mut rig = try_open(&disk, &small).unwrap();
    for first in (0..200).step_by(20) {
        rig.keep(first..first + 20);
    }
    rig.keep(200..2000);
    rig.keep(2000..2001);
    let sizes: Vec<usize> = segments(&disk)
        .iter()
        .map(|path| disk.files()[path].len())
        .collect();
    assert!(sizes.len() > 3, "{sizes:?}");
    assert_eq!(sizes.iter().filter(|size| **size > 4096).count(), 1, "{sizes:?}");
    assert_eq!(rig.values(), (0..2001).collect::<Vec<_>>());
    assert_eq!(rig.read_from(1999).values(), [1999, 2000]);
    // Names sort as positions do.
    let names: Vec<String> = segments(&disk)
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(
        names[0],
        path("00000000000000000000-0000000001.segment")
            .display()
            .to_string()
    );
    let mut rig = try_open(&rig.kill(), &small).unwrap();
    assert_eq!(rig.values(), (0..2001).collect::<Vec<_>>());
    assert_eq!(rig.recovered.left.rows, 2001);
    assert_eq!(rig.recovered.left.deliveries, 12);
}

/// Short writes are gone on with.
#[test]
fn a_disk_that_writes_less_than_given_gets_the_rest() {
    let disk = disk();
    disk.write_short();
    let mut rig = open(&disk);
    rig.keep(0..1000);
    rig.append(1000..1001);
    rig.append(1001..1500);
    rig.turn();
    assert_eq!(
        open(&disk.after_power_cut(0)).values(),
        (0..1500).collect::<Vec<_>>()
    );
}

/// Offsets that somebody overwrites while they are read are an error of the append, and no panic of the caller.
#[test]
fn a_batch_that_contradicts_itself_is_refused() {
    let disk = disk();
    let mut rig = open(&disk);
    let offsets = arrow::buffer::ScalarBuffer::from(vec![0i32, 1_000, 2_000]);
    // SAFETY: nothing reads the values: what reads the offsets checks that there are bytes for them.
    let text = unsafe {
        arrow::array::StringArray::new_unchecked(
            arrow::buffer::OffsetBuffer::new_unchecked(offsets),
            arrow::buffer::Buffer::from(b"short"),
            None,
        )
    };
    let column: arrow::array::ArrayRef = Arc::new(text);
    let broken = RecordBatch::try_from_iter([("s", column)]).unwrap();
    let error = rig.offer(&[broken], 0).unwrap().unwrap_err();
    assert_eq!(error.code(), arrow_ingest::error::Code::Internal);
    assert_eq!(rig.keep(0..3), 0);
}
