//! memory that is shared, counted, bounded and let go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::*;
use arrow::datatypes::*;
use arrow_ingest::error::Code;
use arrow_ingest::handoff::{Foreign, HandoffBatch, IpcBytes, PayloadUse, Pins, Pool};

use crate::handoff_explode::{Heap, Shape};
use crate::handoff_random::MODES;
use crate::handoff_types::{Seed, batch, leaves, nested, schema_of};

fn pins(most: usize) -> (Arc<Pins>, Arc<Mutex<Vec<u64>>>) {
    let released = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&released);
    (
        Pins::new(most, Box::new(move |id, _| log.lock().unwrap().push(id))),
        released,
    )
}

#[test]
fn a_buffer_that_several_batches_share_is_counted_once() {
    let (pins, released) = pins(1_000);
    let one = pins
        .pin(1, vec![(0x10, 400), (0x20, 100), (0x10, 400), (0x30, 0)])
        .unwrap();
    assert_eq!((pins.bytes(), pins.count(), one.id()), (500, 1, 1));
    let two = pins.pin(2, vec![(0x10, 400)]).unwrap();
    assert_eq!((pins.bytes(), pins.count()), (500, 2));
    drop(one);
    assert_eq!((pins.bytes(), pins.count()), (400, 1));
    drop(two);
    assert_eq!((pins.bytes(), pins.count(), pins.peak_bytes()), (0, 0, 500));
    assert_eq!(*released.lock().unwrap(), [1, 2]);
}

#[test]
fn beyond_the_limit_nothing_is_pinned_nor_counted() {
    let (pins, released) = pins(1_000);
    let held = pins.pin(1, vec![(0x10, 900)]).unwrap();
    assert!(pins.pin(2, vec![(0x20, 101)]).is_none());
    assert!(
        pins.pin(3, vec![(0x20, usize::MAX), (0x30, usize::MAX)])
            .is_none()
    );
    assert_eq!((pins.bytes(), pins.count()), (900, 1));
    assert!(pins.pin(4, vec![(0x10, 900), (0x20, 100)]).is_some());
    drop(held);
    assert_eq!(*released.lock().unwrap(), [4, 1]);
}

#[test]
fn waiting_for_the_last_pin_ends_when_its_release_was_told() {
    let told = Arc::new(AtomicU64::new(0));
    let teller = Arc::clone(&told);
    let pins = Pins::new(
        10,
        Box::new(move |id, _| {
            thread::sleep(Duration::from_millis(30));
            teller.store(id, Ordering::SeqCst);
        }),
    );
    assert!(pins.wait_until_empty(Duration::ZERO));
    let pin = pins.pin(9, vec![(1, 1)]).unwrap();
    assert!(!pins.wait_until_empty(Duration::from_millis(10)));
    let holder = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        drop(pin);
    });
    assert!(pins.wait_until_empty(Duration::MAX));
    assert_eq!(told.load(Ordering::SeqCst), 9);
    holder.join().unwrap();
}

#[test]
fn a_release_that_panics_is_a_release() {
    let pins = Pins::new(10, Box::new(|_, _| panic!("as a test does")));
    drop(pins.pin(1, vec![(1, 1)]));
    assert!(pins.wait_until_empty(Duration::ZERO));
    assert_eq!(pins.bytes(), 0);
}

#[test]
fn the_pool_uses_memory_again_and_keeps_a_bounded_amount() {
    let pool = Pool::new(300);
    let copy = |bytes: &[u8]| {
        // SAFETY: the slice outlives the call.
        unsafe { pool.copy(bytes.as_ptr(), bytes.len()) }.unwrap()
    };
    let one = copy(&[7; 200]);
    let two = copy(&[8; 100]);
    assert_eq!((one.as_slice(), two.as_slice()), (&[7; 200][..], &[8; 100][..]));
    assert_eq!(one.as_ptr() as usize % 64, 0);
    let stats = pool.stats();
    assert_eq!(
        (stats.allocated, stats.in_use, stats.peak, stats.fresh_count),
        (336, 336, 336, 2)
    );
    let slice = one.slice(10);
    drop((one, two));
    // A slice keeps its block; of the other one, the pool keeps the memory.
    assert_eq!(pool.stats().in_use, 224);
    drop(slice);
    // Both together would be beyond what it may keep.
    let stats = pool.stats();
    assert_eq!((stats.allocated, stats.in_use, stats.peak), (112, 0, 336));
    let again = copy(&[9; 110]);
    assert_eq!(again.as_slice(), &[9; 110]);
    assert_eq!((pool.stats().reused_count, pool.stats().fresh_count), (1, 2));
    assert!(copy(&[]).is_empty());
    assert_eq!(pool.stats().fresh_count, 2);
}

#[test]
fn the_pool_serves_many_threads() {
    let pool = Pool::new(1 << 16);
    thread::scope(|scope| {
        for mark in 0..8u8 {
            let pool = &pool;
            scope.spawn(move || {
                for length in 0..500 {
                    let bytes = vec![mark; length];
                    // SAFETY: the vector outlives the call.
                    let copy = unsafe { pool.copy(bytes.as_ptr(), length) }.unwrap();
                    assert_eq!(copy.as_slice(), &bytes[..]);
                }
            });
        }
    });
    assert_eq!(pool.stats().in_use, 0);
    assert!(pool.stats().allocated <= 1 << 16);
    assert!(pool.stats().reused_count > 1_000);
}

/// A copy that there is no memory for is an error of its batch; the process lives on.
#[test]
fn a_copy_without_memory_is_an_error() {
    let pool = Pool::new(0);
    for length in [1usize << 60, usize::MAX] {
        // SAFETY: the allocation fails before any byte is read.
        let foreign = unsafe { Foreign::copied([0u8].as_ptr(), length, &pool) };
        assert!(!foreign.is_pinned() && !foreign.is_empty());
        assert_eq!(foreign.digest(), 0);
        assert!(format!("{foreign:?}").contains("failed"));
        let given = batch(&schema_of([DataType::Int32]), 3, &mut Seed(1));
        let mut columns = Heap::owned(Shape::default()).columns(&given);
        columns.buffers[1] = Some(foreign.clone());
        let error = HandoffBatch::Columns(columns)
            .import(PayloadUse::Moved, &pool)
            .unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        let ipc = HandoffBatch::Ipc(IpcBytes {
            bytes: foreign,
            rows: None,
        });
        assert_eq!(
            ipc.import(PayloadUse::Moved, &pool).unwrap_err().code(),
            Code::ResourceExhausted
        );
    }
    assert_eq!((pool.stats().in_use, pool.stats().allocated), (0, 0));
}

#[test]
fn a_copied_buffer_is_a_copy() {
    let pool = Pool::new(1 << 10);
    let mut bytes = *b"before";
    // SAFETY: the array outlives the call.
    let foreign = unsafe { Foreign::copied(bytes.as_ptr(), bytes.len(), &pool) };
    let digest = foreign.digest();
    bytes.copy_from_slice(b"after!");
    assert_eq!((foreign.digest(), foreign.len()), (digest, 6));
    assert_eq!(digest, crc32c_of(b"before"));
    let (pins, _) = pins(10);
    let pin = pins.pin(1, vec![(1, 6)]).unwrap();
    // SAFETY: the array outlives the pin.
    let pinned = unsafe { Foreign::pinned(bytes.as_ptr(), bytes.len(), pin) };
    assert_eq!(pinned.digest(), crc32c_of(b"after!"));
    assert_eq!(
        format!("{pinned:?} {foreign:?}"),
        "Foreign(pinned, 6 bytes) Foreign(owned, 6 bytes)"
    );
}

/// Bit by bit, so that it shares no mistake with the library.
fn crc32c_of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}

/// JavaScript writes wherever it likes, whenever it likes. Batches may be refused or hold odd
/// values, but what their readers follow is sound.
#[test]
fn scribbling_over_pinned_memory_never_breaks_a_batch() {
    let kinds: Vec<DataType> = leaves()
        .into_iter()
        .chain(nested(&DataType::Utf8))
        .chain(nested(&DataType::Utf8View))
        .collect();
    let given = batch(&schema_of(kinds), 300, &mut Seed(11));
    let pins = Pins::new(1 << 30, Box::new(|_, _| {}));
    let pool = Pool::new(1 << 20);
    let done = AtomicBool::new(false);
    let mut heap = Heap::pinned(
        Shape {
            shift: 3,
            unknown_nulls: true,
            ..Shape::default()
        },
        &pins,
    );
    let prototype = heap.columns(&given);
    let places = heap.places.clone();
    let (mut taken, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = Seed(12);
            while !done.load(Ordering::Relaxed) {
                let (address, length) = places[seed.below(places.len())];
                if length == 0 {
                    continue;
                }
                let byte = (address + seed.below(length)) as *mut u8;
                // SAFETY: the memory is never freed, and nobody holds a reference to it: that is what
                // this test is about.
                unsafe {
                    let before = byte.read_volatile();
                    byte.write_volatile(seed.next() as u8);
                    // Mostly put back, or everything would be refused after a moment.
                    if seed.below(500) > 0 {
                        byte.write_volatile(before);
                    }
                }
            }
        });
        // For three seconds, and for longer where a machine does little in them.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3)
            || (taken <= 100 && began.elapsed() < Duration::from_secs(60))
        {
            for (index, field) in given.schema().fields().iter().enumerate() {
                for payload in MODES {
                    // One column at a time: one bad byte would refuse them all.
                    let (nodes, buffers) = part(&given, index, &prototype);
                    let handoff_batch = HandoffBatch::Columns(arrow_ingest::handoff::ColumnBuffers {
                        schema: Arc::new(Schema::new(vec![Arc::clone(field)])),
                        rows: 300,
                        nodes,
                        buffers,
                    });
                    handoff_batch.digest();
                    match handoff_batch.import(payload, &pool) {
                        Err(error) => {
                            assert_eq!(error.code(), Code::BatchInvalid, "{error}");
                            refused += 1;
                        }
                        Ok(imported) => {
                            taken += 1;
                            let data = imported.batches[0].column(0).to_data();
                            data.validate().unwrap();
                            if payload == PayloadUse::Computed {
                                data.validate_full().unwrap();
                            }
                        }
                    }
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(taken > 100, "{taken} taken, {refused} refused");
}

/// what JavaScript writes after the import shows in payload that is moved, and nowhere else.
#[test]
fn writes_after_the_import_change_moved_payload_only() {
    let kinds = leaves().into_iter().chain(nested(&DataType::Utf8View));
    let given = batch(&schema_of(kinds), 90, &mut Seed(41));
    for payload in MODES {
        let pins = Pins::new(1 << 30, Box::new(|_, _| {}));
        let mut heap = Heap::pinned(Shape::default(), &pins);
        let imported = heap.handoff_batch(&given).import(payload, &Pool::new(0)).unwrap();
        for (address, length) in &heap.places {
            // SAFETY: the memory is never freed, and nobody reads it at this moment.
            unsafe { std::ptr::write_bytes(*address as *mut u8, 0xFF, *length) };
        }
        let batch = &imported.batches[0];
        match payload {
            PayloadUse::Computed => assert_eq!(batch, &given),
            PayloadUse::Moved => assert_ne!(batch, &given),
        }
        for (column, original) in batch.columns().iter().zip(given.columns()) {
            let (now, before) = (column.to_data(), original.to_data());
            now.validate().unwrap();
            assert_eq!((now.len(), now.null_count()), (before.len(), before.null_count()));
        }
    }
}

/// The nodes and buffers of one column, cut from those of the whole batch.
fn part(
    given: &RecordBatch,
    index: usize,
    whole: &arrow_ingest::handoff::ColumnBuffers,
) -> (Vec<arrow_ingest::handoff::Node>, Vec<Option<Foreign>>) {
    let count = |upto: usize| {
        let some: Vec<usize> = (0..upto).collect();
        let columns = Heap::owned(Shape::default()).columns(&given.project(&some).unwrap());
        (columns.nodes.len(), columns.buffers.len())
    };
    let ((node, buffer), (node_end, buffer_end)) = (count(index), count(index + 1));
    (
        whole.nodes[node..node_end].to_vec(),
        whole.buffers[buffer..buffer_end].to_vec(),
    )
}
