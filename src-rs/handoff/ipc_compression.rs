//! How much memory will the buffers of an IPC message take? Asked before any of it is allocated.
//!
//! Invariants:
//! - A buffer lies within the body, and all buffers together are no longer than it. Overlapping ones,
//!   which no writer makes, would let a small message claim any amount of memory.
//! - What a compressed buffer claims to hold is possible: LZ4 cannot expand a byte to more than 255
//!   and Zstandard cannot make more than 128 KiB of a block, the smallest of which has 3 bytes. A
//!   larger claim is a lie, and allocating for it aborts the process.
//! - One batch expands to at most 4 GiB: more than any batch that a destination takes at once, and
//!   little enough that a bomb does not take the machine along.

use arrow::buffer::Buffer;
use arrow::ipc::{CompressionType, RecordBatch};

use super::invalid;
use super::pool::exhausted;
use crate::error::Result;
#[cfg(not(feature = "zstd"))]
use crate::error::{Code, Error};

const MAX_EXPANDED: u64 = 4 << 30;
const LZ4_MOST: u64 = 255;
const ZSTD_MOST: u64 = (128 << 10) / 3;
/// What the frame's own header may account for, so that tiny frames are not refused.
const SLACK: u64 = 64 << 10;

/// The bytes that one batch has expanded to so far.
#[derive(Default)]
pub(super) struct Expansion(u64);

impl Expansion {
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// # Errors
    /// `BATCH_INVALID` for buffers that are not where they are said to be, or that claim too much;
    /// `RESOURCE_EXHAUSTED` if there is no memory for what they claim.
    pub(super) fn check(&mut self, batch: RecordBatch<'_>, body: &Buffer) -> Result<()> {
        let codec = batch.compression().map(|compression| compression.codec());
        #[cfg(not(feature = "zstd"))]
        if codec == Some(CompressionType::ZSTD) {
            let text = "Zstandard is not in this build: write the batch with LZ4 or without compression";
            return Err(Error::new(Code::Unsupported, text).during("handoff"));
        }
        let (mut together, mut claimed) = (0usize, 0u64);
        for (index, buffer) in batch.buffers().into_iter().flatten().enumerate() {
            let part = usize::try_from(buffer.offset())
                .ok()
                .zip(usize::try_from(buffer.length()).ok())
                .and_then(|(start, length)| body.get(start..start.checked_add(length)?))
                .ok_or_else(|| {
                    invalid(format!(
                        "buffer {index} claims {} bytes from {} on, in a body of {}",
                        buffer.length(),
                        buffer.offset(),
                        body.len()
                    ))
                })?;
            together = together.saturating_add(part.len());
            if let Some(codec) = codec
                && !part.is_empty()
            {
                claimed = claimed.saturating_add(claim(codec, part, index)?);
            }
        }
        if together > body.len() {
            return Err(invalid(format!(
                "its buffers have {together} bytes together, in a body of {}",
                body.len()
            )));
        }
        self.0 = self.0.saturating_add(claimed);
        if self.0 > MAX_EXPANDED {
            return Err(invalid(format!(
                "it claims to expand to {} bytes, more than {MAX_EXPANDED}",
                self.0
            )));
        }
        if claimed > 0 {
            // The decoder allocates without asking, and a failure there aborts the process.
            let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
            Vec::<u8>::new()
                .try_reserve_exact(claimed)
                .map_err(|_| exhausted(claimed))?;
        }
        Ok(())
    }
}

/// The bytes that decompressing `part` may allocate.
fn claim(codec: CompressionType, part: &[u8], index: usize) -> Result<u64> {
    let short = || invalid(format!("compressed buffer {index} has no room for its length"));
    let (length, data) = part.split_first_chunk::<8>().ok_or_else(short)?;
    let length = i64::from_le_bytes(*length);
    // -1: stored as it is.
    if length == -1 {
        return Ok(0);
    }
    let length = u64::try_from(length)
        .map_err(|_| invalid(format!("compressed buffer {index} claims to hold {length} bytes")))?;
    let most = match codec {
        CompressionType::LZ4_FRAME => LZ4_MOST,
        CompressionType::ZSTD => ZSTD_MOST,
        _ => {
            return Err(invalid(format!(
                "buffer {index} is compressed with {codec:?}, which is unknown"
            )));
        }
    };
    if length > (data.len() as u64).saturating_mul(most).saturating_add(SLACK) {
        return Err(invalid(format!(
            "compressed buffer {index} claims to hold {length} bytes in {}, which cannot be",
            data.len()
        )));
    }
    // The LZ4 decoder reads to the end of the frame whatever the claim.
    match codec {
        CompressionType::LZ4_FRAME => match lz4_bound(data) {
            Some(bound) => Ok(length.max(bound)),
            None => Err(invalid(format!("compressed buffer {index} is no LZ4 frame"))),
        },
        _ => Ok(length),
    }
}

/// The most that the blocks of an LZ4 frame can expand to. The decoder knows a second, older kind of
/// frame, which Arrow does not allow and this would not bound.
fn lz4_bound(data: &[u8]) -> Option<u64> {
    let [0x04, 0x22, 0x4D, 0x18, flags, sizes] = data.first_chunk::<6>()? else {
        return None;
    };
    let block_most = 1u64 << (8 + 2 * u32::from(sizes >> 4 & 7));
    let mut position = 7;
    position += if flags & 0x08 != 0 { 8 } else { 0 };
    position += if flags & 0x01 != 0 { 4 } else { 0 };
    let mut bound = 0u64;
    while let Some(header) = data.get(position..).and_then(|rest| rest.first_chunk::<4>()) {
        let header = u32::from_le_bytes(*header);
        let length = header & 0x7FFF_FFFF;
        if length == 0 {
            break;
        }
        bound = bound.saturating_add(block_most.min(u64::from(length) * LZ4_MOST));
        position += 4 + length as usize + if flags & 0x10 != 0 { 4 } else { 0 };
    }
    Some(bound)
}
