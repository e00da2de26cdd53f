//! The one hot entry: the numbers of a `submit` call → deliveries.
//!
//! Invariants:
//! - Its time grows with the number of buffers, never with their bytes (but for those to be copied).
//! - All deliveries of a call are checked before one is accepted.
//! - An address is taken only within its ArrayBuffer's length at the time of the call. The strong reference
//!   holds the array that was given: that its elements are what they were, and stay, is the packer's promise
//!   (`specs/boundary.md`).
//! - The numbers are copied before JavaScript can run again, and read from the copy: what was checked is what
//!   is used, and an accessor in the array cannot take them away.
//! - Only what a delivery keeps is allocated for it. The rest lies in [`Scratch`], which is reused: every
//!   allocation here is freed by another thread, and they would wait for each other's allocator.

use std::cell::Cell;
use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use napi::sys;

use super::event_queue::EventReceiver;
use super::malformed;
use super::schemas::Schemas;
use crate::error::{Code, Error, Result};
use crate::handoff::{
    ColumnBuffers, Foreign, HandoffBatch, IpcBytes, Node, PayloadUse, Pin, Pins, Pool, charge,
};
use crate::transmitter::{Admit, Delivery, PayloadDigest, Transmitter};

const PIN: f64 = 0.0;
const COPY: f64 = 1.0;
const ABSENT: f64 = 2.0;
const IPC: f64 = -1.0;

pub struct CallReader<'a> {
    pub env: sys::napi_env,
    pub receiver: &'a EventReceiver,
    pub pins: &'a Arc<Pins>,
    pub pool: &'a Arc<Pool>,
    pub schemas: &'a Schemas,
    pub last_sequence: &'a Cell<f64>,
    pub verify_payload: bool,
    pub scratch: &'a Cell<Scratch>,
}

/// A call as its numbers describe it, in memory that the next call uses again.
#[derive(Default)]
pub struct Scratch {
    numbers: Vec<f64>,
    elements: Vec<sys::napi_value>,
    regions: Vec<Region>,
    deliveries: Vec<DeliveryNumbers>,
    /// Of all deliveries, one after the other.
    batches: Vec<BatchNumbers>,
    /// Of all batches, one after the other.
    spans: Vec<BufferSpan>,
}

impl Scratch {
    /// What a call leaves is forgotten, and what a large one took is given back.
    fn clear(mut self) -> Self {
        const MOST: usize = 16_384;
        let batches = self.batches.capacity().max(self.deliveries.capacity());
        if self.spans.capacity().max(batches).max(self.regions.capacity()) > MOST
            || self.numbers.capacity() > 4 * MOST
        {
            return Scratch::default();
        }
        self.numbers.clear();
        self.elements.clear();
        self.regions.clear();
        self.deliveries.clear();
        self.batches.clear();
        self.spans.clear();
        self
    }
}

/// An ArrayBuffer as it is during this call.
#[derive(Clone, Copy)]
struct Region {
    address: *const u8,
    length: usize,
    /// Whether any span of it is to be pinned.
    wanted: bool,
}

/// A delivery as the numbers describe it, before any memory is touched.
struct DeliveryNumbers {
    sequence: u64,
    batch_count: usize,
}

struct BatchNumbers {
    /// `None` for IPC bytes.
    schema: Option<SchemaRef>,
    rows: Option<usize>,
    nodes: Vec<Node>,
    span_count: usize,
}

/// Bytes within one ArrayBuffer of the call, within its bounds.
#[derive(Clone, Copy)]
enum BufferSpan {
    Absent,
    Bytes {
        index: usize,
        offset: usize,
        length: usize,
        pinned: bool,
    },
}

impl CallReader<'_> {
    /// 0 if admitted, else a ticket.
    pub fn run(&self, transmitter: &Transmitter, call: &[f64], buffers: sys::napi_value) -> Result<f64> {
        let start = Instant::now();
        // SAFETY: the JavaScript thread, in a call.
        unsafe { self.receiver.tidy(self.env) };
        let mut numbers = Numbers { rest: call };
        let ticket = numbers.count("ticket")?;
        let budget = numbers.count("budgetBytes")?;
        if ticket == 0 {
            if let Admit::Queued(ticket) = transmitter.request(budget)? {
                // SAFETY: the JavaScript thread, in a call.
                unsafe { self.receiver.expect(self.env, 1) };
                return Ok(ticket as f64);
            }
        } else {
            let redeemed = transmitter.redeem(ticket as u64, budget);
            // SAFETY: as above. Redeemed or void, the ticket is no longer waited for.
            unsafe { self.receiver.fulfil(self.env, 1) };
            redeemed?;
        }
        let deliveries = self.read(&numbers, buffers, start).and_then(|deliveries| {
            let charge = deliveries
                .iter()
                .fold(0_usize, |sum, delivery| sum.saturating_add(delivery.charge));
            if charge != budget {
                return Err(malformed(format!(
                    "budgetBytes is {budget}, the deliveries take {charge}"
                )));
            }
            Ok(deliveries)
        });
        let deliveries = deliveries.inspect_err(|_| transmitter.give_back(budget))?;
        if let Some(last) = deliveries.last() {
            self.last_sequence.set(last.sequence as f64);
        }
        // SAFETY: as above.
        unsafe { self.receiver.expect(self.env, deliveries.len()) };
        for delivery in deliveries {
            transmitter.deliver(delivery);
        }
        Ok(0.0)
    }

    /// Imports the batches of a call and writes each as an IPC stream. Sends nothing.
    pub fn echo(&self, call: &[f64], buffers: sys::napi_value, payload: PayloadUse) -> Result<Vec<Vec<u8>>> {
        let mut numbers = Numbers { rest: call };
        numbers.count("ticket")?;
        numbers.count("budgetBytes")?;
        let deliveries = self.read(&numbers, buffers, Instant::now())?;
        let mut streams = Vec::new();
        for handoff_batch in deliveries
            .into_iter()
            .flat_map(|delivery| delivery.handoff_batches)
        {
            let imported = handoff_batch.import(payload, self.pool)?;
            let Some(first) = imported.batches.first() else {
                continue;
            };
            streams.push(encode(&first.schema(), &imported.batches)?);
        }
        Ok(streams)
    }

    fn read(&self, numbers: &Numbers<'_>, buffers: sys::napi_value, start: Instant) -> Result<Vec<Delivery>> {
        // Taken out: an accessor in place of a buffer may call in once more, and finds an empty one.
        let mut scratch = self.scratch.take();
        let mut copy = mem::take(&mut scratch.numbers);
        copy.extend_from_slice(numbers.rest);
        let deliveries = self.read_with(&mut scratch, &mut Numbers { rest: &copy }, buffers, start);
        scratch.numbers = copy;
        self.scratch.set(scratch.clear());
        deliveries
    }

    fn read_with(
        &self,
        scratch: &mut Scratch,
        numbers: &mut Numbers<'_>,
        buffers: sys::napi_value,
        start: Instant,
    ) -> Result<Vec<Delivery>> {
        // Each is named by four numbers at least; an array that only says it is long is not walked.
        self.locate(scratch, buffers, numbers.rest.len() / 4)?;
        self.describe(scratch, numbers)?;
        let pin = self.pin(&scratch.regions, buffers)?;
        let Scratch {
            regions,
            deliveries: described,
            batches,
            spans,
            ..
        } = scratch;
        let mut batches = batches.drain(..);
        let mut spans = spans.iter();
        let mut deliveries = Vec::with_capacity(described.len());
        for delivery in described.iter() {
            let batches = batches.by_ref().take(delivery.batch_count);
            deliveries.push(self.take(delivery, batches, &mut spans, regions, pin.as_ref(), start));
        }
        // Each delivery is charged its share of what the call cost the thread.
        let handoff = start.elapsed() / u32::try_from(deliveries.len().max(1)).unwrap_or(u32::MAX);
        for delivery in &mut deliveries {
            delivery.handoff = handoff;
        }
        Ok(deliveries)
    }

    // ---- what the numbers say -----------------------------------------------------------------

    fn describe(&self, scratch: &mut Scratch, numbers: &mut Numbers<'_>) -> Result<()> {
        let mut last = self.last_sequence.get();
        for _ in 0..numbers.count("deliveryCount")? {
            let sequence = numbers.count("sequence")? as f64;
            if sequence <= last {
                return Err(malformed(format!("sequence {sequence} does not follow {last}")));
            }
            last = sequence;
            let _flags = numbers.count("flags")?;
            let batch_count = numbers.count("batchCount")?;
            for index in 0..batch_count {
                self.describe_batch(scratch, numbers).map_err(|error| {
                    malformed(format!("delivery {sequence}, batch {index}: {}", error.message()))
                })?;
            }
            scratch.deliveries.push(DeliveryNumbers {
                sequence: sequence as u64,
                batch_count,
            });
        }
        if !numbers.rest.is_empty() {
            return Err(malformed(format!("{} numbers too many", numbers.rest.len())));
        }
        Ok(())
    }

    fn describe_batch(&self, scratch: &mut Scratch, numbers: &mut Numbers<'_>) -> Result<()> {
        let schema_id = numbers.next("schemaId")?;
        let rows = numbers.next("rows")?;
        let node_count = numbers.count("nodeCount")?;
        let span_count = numbers.count("bufferCount")?;
        let schema = if schema_id == IPC {
            if node_count != 0 || span_count != 1 {
                return Err(malformed("IPC bytes are one buffer and no node"));
            }
            None
        } else {
            let schema = self.schemas.get(whole(schema_id, "schemaId")?);
            Some(
                schema
                    .cloned()
                    .ok_or_else(|| malformed(format!("schema {schema_id} is not registered")))?,
            )
        };
        let rows = match rows {
            -1.0 if schema.is_none() => None,
            rows => Some(whole(rows, "rows")?),
        };
        let mut nodes = Vec::with_capacity(node_count.min(numbers.rest.len() / 4));
        for _ in 0..node_count {
            nodes.push(Node {
                length: numbers.count("length")?,
                null_count: match numbers.next("nullCount")? {
                    -1.0 => -1,
                    count => whole(count, "nullCount")? as i64,
                },
                offset: numbers.count("offset")?,
                variadic: numbers.count("variadicCount")?,
            });
        }
        for index in 0..span_count {
            let place = |error: Error| malformed(format!("buffer {index}: {}", error.message()));
            let span = span(numbers, &mut scratch.regions).map_err(place)?;
            scratch.spans.push(span);
        }
        scratch.batches.push(BatchNumbers {
            schema,
            rows,
            nodes,
            span_count,
        });
        Ok(())
    }

    // ---- the memory ---------------------------------------------------------------------------

    /// Looks up where every ArrayBuffer of the call is, and how long.
    fn locate(&self, scratch: &mut Scratch, buffers: sys::napi_value, most: usize) -> Result<()> {
        let mut count = 0;
        // SAFETY: `buffers` is an array, an argument of the call under way.
        unsafe { sys::napi_get_array_length(self.env, buffers, &mut count) };
        if count as usize > most {
            return Err(malformed(format!("{count} ArrayBuffers, and numbers for {most}")));
        }
        scratch.elements.resize(count as usize, ptr::null_mut());
        for (index, element) in (0..count).zip(&mut scratch.elements) {
            // SAFETY: as above. It may run JavaScript (an accessor in place of an element), which may
            // free what another element has; so no address is asked for before the last one is there.
            unsafe { sys::napi_get_element(self.env, buffers, index, element) };
        }
        scratch.regions.reserve(scratch.elements.len());
        for (index, element) in scratch.elements.iter().enumerate() {
            let mut address: *mut c_void = ptr::null_mut();
            let mut length = 0;
            // SAFETY: it only reads, and it refuses what is no ArrayBuffer, a missing value too.
            let status =
                unsafe { sys::napi_get_arraybuffer_info(self.env, *element, &mut address, &mut length) };
            if status != sys::Status::napi_ok {
                return Err(malformed(format!("buffers[{index}] is not an ArrayBuffer")));
            }
            scratch.regions.push(Region {
                address: address.cast_const().cast(),
                length,
                wanted: false,
            });
        }
        Ok(())
    }

    /// Pins what is to be pinned. `None` where there is nothing to pin, or no room to.
    fn pin(&self, regions: &[Region], buffers: sys::napi_value) -> Result<Option<Arc<Pin>>> {
        let mut named = Vec::with_capacity(regions.len());
        for region in regions.iter().filter(|region| region.wanted) {
            named.push((region.address as usize, region.length));
        }
        if named.is_empty() {
            return Ok(None);
        }
        // SAFETY: the JavaScript thread, in a call.
        let id = unsafe { self.receiver.references().hold(self.env, buffers) }
            .map_err(|error| Error::new(Code::Internal, error.reason.clone()))?;
        let pin = self.pins.pin(id, named);
        if pin.is_none() {
            // SAFETY: as above.
            unsafe { self.receiver.references().let_go(self.env, id) };
        }
        Ok(pin)
    }

    fn take(
        &self,
        delivery: &DeliveryNumbers,
        batches: impl Iterator<Item = BatchNumbers>,
        spans: &mut slice::Iter<'_, BufferSpan>,
        regions: &[Region],
        pin: Option<&Arc<Pin>>,
        start: Instant,
    ) -> Delivery {
        let mut watched = Vec::new();
        let mut copied_for_limit = 0;
        let mut handoff_batches = Vec::with_capacity(delivery.batch_count);
        for batch in batches {
            let mut buffers = Vec::with_capacity(batch.span_count);
            for span in spans.by_ref().take(batch.span_count) {
                let BufferSpan::Bytes {
                    index,
                    offset,
                    length,
                    pinned,
                } = *span
                else {
                    buffers.push(None);
                    continue;
                };
                if length == 0 {
                    buffers.push(Some(empty()));
                    continue;
                }
                // SAFETY: `span` has checked that `offset + length` is within the region.
                let address = unsafe { regions[index].address.add(offset) };
                let foreign = match pin {
                    // SAFETY: the pin's reference keeps the ArrayBuffer, and its bytes with it,
                    // until the pin is dropped: `src-ts/handoff.ts` asks for pins only of memory
                    // that can be neither detached nor resized, and the clean-up hook waits.
                    Some(pin) if pinned => unsafe { Foreign::pinned(address, length, pin.clone()) },
                    _ => {
                        copied_for_limit += usize::from(pinned);
                        // SAFETY: an argument of the call under way: no JavaScript runs before
                        // the copy is made, so nothing can free it.
                        unsafe { Foreign::copied(address, length, self.pool) }
                    }
                };
                if self.verify_payload {
                    watched.push(foreign.clone());
                }
                buffers.push(Some(foreign));
            }
            handoff_batches.push(match batch.schema {
                None => HandoffBatch::Ipc(IpcBytes {
                    bytes: buffers.into_iter().next().flatten().unwrap_or_else(empty),
                    rows: batch.rows,
                }),
                Some(schema) => HandoffBatch::Columns(ColumnBuffers {
                    schema,
                    rows: batch.rows.unwrap_or_default(),
                    nodes: batch.nodes,
                    buffers,
                }),
            });
        }
        Delivery {
            sequence: delivery.sequence,
            bytes: handoff_batches.iter().map(HandoffBatch::bytes).sum(),
            charge: charge(&handoff_batches),
            handoff_batches,
            admitted: start,
            handoff: std::time::Duration::ZERO,
            buffers_copied_for_pin_limit: copied_for_limit,
            payload_digest: self.verify_payload.then(|| payload_digest(watched)),
        }
    }
}

fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let failed = |error: ArrowError| malformed("the batch cannot be encoded").caused_by(&error);
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

/// One buffer of a batch, checked against the ArrayBuffer it names.
fn span(numbers: &mut Numbers<'_>, regions: &mut [Region]) -> Result<BufferSpan> {
    let mode = numbers.next("mode")?;
    let index = numbers.count("bufferIndex")?;
    let offset = numbers.count("byteOffset")?;
    let length = numbers.count("byteLength")?;
    if mode == ABSENT {
        return Ok(BufferSpan::Absent);
    }
    let Some(region) = regions.get_mut(index) else {
        return Err(malformed(format!("there is no ArrayBuffer {index}")));
    };
    if offset.checked_add(length).is_none_or(|end| end > region.length) {
        return Err(malformed(format!(
            "bytes {offset}..+{length} lie outside an ArrayBuffer of {} bytes; was it detached?",
            region.length
        )));
    }
    let pinned = match mode {
        PIN => true,
        COPY => false,
        _ => return Err(malformed(format!("mode {mode} is unknown"))),
    };
    region.wanted |= pinned;
    Ok(BufferSpan::Bytes {
        index,
        offset,
        length,
        pinned,
    })
}

fn empty() -> Foreign {
    Foreign::from_buffer(Buffer::from(Vec::<u8>::new()))
}

fn payload_digest(watched: Vec<Foreign>) -> PayloadDigest {
    let digests: Vec<u32> = watched.iter().map(Foreign::digest).collect();
    Box::new(move || {
        let unchanged = |(buffer, digest): (&Foreign, &u32)| buffer.digest() == *digest;
        watched.iter().zip(&digests).all(unchanged)
    })
}

/// The rest of a call, read from the front.
struct Numbers<'a> {
    rest: &'a [f64],
}

impl Numbers<'_> {
    fn next(&mut self, name: &str) -> Result<f64> {
        let (first, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| malformed(format!("the call ends before {name}")))?;
        self.rest = rest;
        Ok(*first)
    }

    fn count(&mut self, name: &str) -> Result<usize> {
        whole(self.next(name)?, name)
    }
}

fn whole(number: f64, name: &str) -> Result<usize> {
    // There and back, and not `fract`, which calls into the C library for each of a batch's hundred numbers.
    let count = number as i64;
    // Beyond 2^53 a double no longer tells neighbours apart.
    if count as f64 == number && (0..9_007_199_254_740_992).contains(&count) {
        return Ok(count as usize);
    }
    Err(malformed(format!("{name} is {number}, not a whole number")))
}
