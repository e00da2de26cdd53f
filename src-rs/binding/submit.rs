//! The one hot entry: the numbers of a `submit` call → deliveries.
//!
//! Invariants:
//! - Its time grows with the number of buffers, never with their bytes (but for those to be copied).
//! - All deliveries of a call are checked before one is accepted.
//! - An address is taken only from an ArrayBuffer that a strong reference holds, and only within its
//!   length at the time of the call.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use napi::sys;

use super::mailbox::Desk;
use super::malformed;
use crate::error::{Code, Error, Result};
use crate::handoff::{Columns, Foreign, IpcBytes, Node, Parcel, Payload, Pin, Pins, Pool};
use crate::transmitter::{Admit, Submission, Transmitter, Witness};

const PIN: f64 = 0.0;
const COPY: f64 = 1.0;
const ABSENT: f64 = 2.0;
const IPC: f64 = -1.0;

pub struct Handover<'a> {
    pub env: sys::napi_env,
    pub desk: &'a Desk,
    pub pins: &'a Arc<Pins>,
    pub pool: &'a Arc<Pool>,
    pub schemas: &'a [SchemaRef],
    pub last_sequence: &'a Cell<f64>,
    pub verify_payload: bool,
}

/// An ArrayBuffer as it is during this call.
#[derive(Clone, Copy)]
struct Region {
    address: *const u8,
    length: usize,
}

/// A delivery as the numbers describe it, before any memory is touched.
struct Described {
    sequence: u64,
    batches: Vec<DescribedBatch>,
}

struct DescribedBatch {
    /// `None` for IPC bytes.
    schema: Option<SchemaRef>,
    rows: Option<usize>,
    nodes: Vec<Node>,
    buffers: Vec<Stretch>,
}

/// Bytes within one ArrayBuffer of the call, within its bounds.
#[derive(Clone, Copy)]
enum Stretch {
    Absent,
    Pinned {
        index: usize,
        offset: usize,
        length: usize,
    },
    Copied {
        index: usize,
        offset: usize,
        length: usize,
    },
}

impl Handover<'_> {
    /// 0 if admitted, else a ticket.
    pub fn run(&self, transmitter: &Transmitter, call: &[f64], buffers: sys::napi_value) -> Result<f64> {
        let start = Instant::now();
        // SAFETY: the JavaScript thread, in a call.
        unsafe { self.desk.tidy(self.env) };
        let mut numbers = Numbers { rest: call };
        let ticket = numbers.count("ticket")?;
        let budget = numbers.count("budgetBytes")?;
        if ticket == 0 {
            if let Admit::Queued(ticket) = transmitter.request(budget)? {
                // SAFETY: the JavaScript thread, in a call.
                unsafe { self.desk.expect(self.env, 1) };
                return Ok(ticket as f64);
            }
        } else {
            let redeemed = transmitter.redeem(ticket as u64, budget);
            // SAFETY: as above. Redeemed or void, the ticket is no longer waited for.
            unsafe { self.desk.fulfil(self.env, 1) };
            redeemed?;
        }
        let submissions = self.read(&mut numbers, buffers, start).and_then(|submissions| {
            let bytes: usize = submissions.iter().map(|submission| submission.bytes).sum();
            if bytes != budget {
                return Err(malformed(format!(
                    "budgetBytes is {budget}, the buffers have {bytes}"
                )));
            }
            Ok(submissions)
        });
        let submissions = submissions.inspect_err(|_| transmitter.give_back(budget))?;
        if let Some(last) = submissions.last() {
            self.last_sequence.set(last.sequence as f64);
        }
        // SAFETY: as above.
        unsafe { self.desk.expect(self.env, submissions.len()) };
        for submission in submissions {
            transmitter.deliver(submission);
        }
        Ok(0.0)
    }

    /// Imports the batches of a call and writes each as an IPC stream. Sends nothing.
    pub fn echo(&self, call: &[f64], buffers: sys::napi_value, payload: Payload) -> Result<Vec<Vec<u8>>> {
        let mut numbers = Numbers { rest: call };
        numbers.count("ticket")?;
        numbers.count("budgetBytes")?;
        let submissions = self.read(&mut numbers, buffers, Instant::now())?;
        let mut streams = Vec::new();
        for parcel in submissions.into_iter().flat_map(|submission| submission.parcels) {
            let imported = parcel.import(payload, self.pool)?;
            let Some(first) = imported.batches.first() else {
                continue;
            };
            streams.push(encode(&first.schema(), &imported.batches)?);
        }
        Ok(streams)
    }

    fn read(
        &self,
        numbers: &mut Numbers<'_>,
        buffers: sys::napi_value,
        start: Instant,
    ) -> Result<Vec<Submission>> {
        let regions = self.regions(buffers)?;
        let described = self.describe(numbers, &regions)?;
        let pin = self.pin(&described, &regions, buffers)?;
        let count = described.len();
        let mut submissions: Vec<Submission> = described
            .into_iter()
            .map(|delivery| self.take(delivery, &regions, pin.as_ref(), start))
            .collect();
        // Each delivery is charged its share of what the call cost the thread.
        let handoff = start.elapsed() / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        for submission in &mut submissions {
            submission.handoff = handoff;
        }
        Ok(submissions)
    }

    // ---- what the numbers say -----------------------------------------------------------------

    fn describe(&self, numbers: &mut Numbers<'_>, regions: &[Region]) -> Result<Vec<Described>> {
        let count = numbers.count("deliveryCount")?;
        let mut described = Vec::with_capacity(count.min(1_024));
        let mut last = self.last_sequence.get();
        for _ in 0..count {
            let sequence = numbers.count("sequence")? as f64;
            if sequence <= last {
                return Err(malformed(format!("sequence {sequence} does not follow {last}")));
            }
            last = sequence;
            let _flags = numbers.count("flags")?;
            let batch_count = numbers.count("batchCount")?;
            let mut batches = Vec::with_capacity(batch_count.min(4_096));
            for index in 0..batch_count {
                let place = |error: Error| {
                    malformed(format!("delivery {sequence}, batch {index}: {}", error.message()))
                };
                batches.push(self.describe_batch(numbers, regions).map_err(place)?);
            }
            described.push(Described {
                sequence: sequence as u64,
                batches,
            });
        }
        if !numbers.rest.is_empty() {
            return Err(malformed(format!("{} numbers too many", numbers.rest.len())));
        }
        Ok(described)
    }

    fn describe_batch(&self, numbers: &mut Numbers<'_>, regions: &[Region]) -> Result<DescribedBatch> {
        let schema_id = numbers.next("schemaId")?;
        let rows = numbers.next("rows")?;
        let node_count = numbers.count("nodeCount")?;
        let buffer_count = numbers.count("bufferCount")?;
        let schema = if schema_id == IPC {
            if node_count != 0 || buffer_count != 1 {
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
        let mut buffers = Vec::with_capacity(buffer_count.min(numbers.rest.len() / 4));
        for index in 0..buffer_count {
            let place = |error: Error| malformed(format!("buffer {index}: {}", error.message()));
            buffers.push(stretch(numbers, regions).map_err(place)?);
        }
        Ok(DescribedBatch {
            schema,
            rows,
            nodes,
            buffers,
        })
    }

    // ---- the memory ---------------------------------------------------------------------------

    /// Looks up where every ArrayBuffer of the call is, and how long.
    fn regions(&self, buffers: sys::napi_value) -> Result<Vec<Region>> {
        let mut count = 0;
        // SAFETY: `buffers` is an array, an argument of the call under way.
        unsafe { sys::napi_get_array_length(self.env, buffers, &mut count) };
        let mut elements = vec![ptr::null_mut(); count as usize];
        for (index, element) in (0..count).zip(&mut elements) {
            // SAFETY: as above. It may run JavaScript (an accessor in place of an element), which may
            // free what another element has; so no address is asked for before the last one is there.
            unsafe { sys::napi_get_element(self.env, buffers, index, element) };
        }
        let mut regions = Vec::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            let mut address: *mut c_void = ptr::null_mut();
            let mut length = 0;
            // SAFETY: it only reads, and it refuses what is no ArrayBuffer, a missing value too.
            let status =
                unsafe { sys::napi_get_arraybuffer_info(self.env, element, &mut address, &mut length) };
            if status != sys::Status::napi_ok {
                return Err(malformed(format!("buffers[{index}] is not an ArrayBuffer")));
            }
            regions.push(Region {
                address: address.cast_const().cast(),
                length,
            });
        }
        Ok(regions)
    }

    /// Pins what is to be pinned. `None` where there is nothing to pin, or no room to.
    fn pin(
        &self,
        described: &[Described],
        regions: &[Region],
        buffers: sys::napi_value,
    ) -> Result<Option<Arc<Pin>>> {
        let mut wanted = vec![false; regions.len()];
        for stretch in described
            .iter()
            .flat_map(|delivery| &delivery.batches)
            .flat_map(|batch| &batch.buffers)
        {
            if let Stretch::Pinned { index, .. } = stretch {
                wanted[*index] = true;
            }
        }
        let named: Vec<(usize, usize)> = regions
            .iter()
            .zip(wanted)
            .filter(|(_, wanted)| *wanted)
            .map(|(region, _)| (region.address as usize, region.length))
            .collect();
        if named.is_empty() {
            return Ok(None);
        }
        // SAFETY: the JavaScript thread, in a call.
        let id = unsafe { self.desk.hold(self.env, buffers) }
            .map_err(|error| Error::new(Code::Internal, error.reason.clone()))?;
        let pin = self.pins.pin(id, &named);
        if pin.is_none() {
            // SAFETY: as above.
            unsafe { self.desk.let_go(self.env, id) };
        }
        Ok(pin)
    }

    fn take(
        &self,
        delivery: Described,
        regions: &[Region],
        pin: Option<&Arc<Pin>>,
        start: Instant,
    ) -> Submission {
        let mut watched = Vec::new();
        let mut copied_for_limit = 0;
        let mut parcels = Vec::with_capacity(delivery.batches.len());
        for batch in delivery.batches {
            let buffers: Vec<Option<Foreign>> = batch
                .buffers
                .iter()
                .map(|stretch| {
                    let (index, offset, length, pinned) = match *stretch {
                        Stretch::Absent => return None,
                        Stretch::Pinned {
                            index,
                            offset,
                            length,
                        } => (index, offset, length, true),
                        Stretch::Copied {
                            index,
                            offset,
                            length,
                        } => (index, offset, length, false),
                    };
                    if length == 0 {
                        return Some(empty());
                    }
                    // SAFETY: `stretch` has checked that `offset + length` is within the region.
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
                    Some(foreign)
                })
                .collect();
            parcels.push(match batch.schema {
                None => Parcel::Ipc(IpcBytes {
                    bytes: buffers.into_iter().next().flatten().unwrap_or_else(empty),
                    rows: batch.rows,
                }),
                Some(schema) => Parcel::Columns(Columns {
                    schema,
                    rows: batch.rows.unwrap_or_default(),
                    nodes: batch.nodes,
                    buffers,
                }),
            });
        }
        Submission {
            sequence: delivery.sequence,
            bytes: parcels.iter().map(Parcel::bytes).sum(),
            parcels,
            admitted: start,
            handoff: std::time::Duration::ZERO,
            buffers_copied_for_pin_limit: copied_for_limit,
            witness: self.verify_payload.then(|| witness(watched)),
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
fn stretch(numbers: &mut Numbers<'_>, regions: &[Region]) -> Result<Stretch> {
    let mode = numbers.next("mode")?;
    let index = numbers.count("bufferIndex")?;
    let offset = numbers.count("byteOffset")?;
    let length = numbers.count("byteLength")?;
    if mode == ABSENT {
        return Ok(Stretch::Absent);
    }
    let Some(region) = regions.get(index) else {
        return Err(malformed(format!("there is no ArrayBuffer {index}")));
    };
    if offset.checked_add(length).is_none_or(|end| end > region.length) {
        return Err(malformed(format!(
            "bytes {offset}..+{length} lie outside an ArrayBuffer of {} bytes; was it detached?",
            region.length
        )));
    }
    match mode {
        PIN => Ok(Stretch::Pinned {
            index,
            offset,
            length,
        }),
        COPY => Ok(Stretch::Copied {
            index,
            offset,
            length,
        }),
        _ => Err(malformed(format!("mode {mode} is unknown"))),
    }
}

fn empty() -> Foreign {
    Foreign::from_buffer(Buffer::from(Vec::<u8>::new()))
}

fn witness(watched: Vec<Foreign>) -> Witness {
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
    // Beyond 2^53 a double no longer tells neighbours apart.
    if number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number) {
        return Ok(number as usize);
    }
    Err(malformed(format!("{name} is {number}, not a whole number")))
}
