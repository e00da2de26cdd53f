//! Reads a segment from record to record, and goes on behind what is damaged.
//!
//! Invariants:
//! - Memory is bounded by the largest record, and nothing is allocated for a length that the file does not have.
//! - A scan always goes forward, so it ends: at worst after the last byte.
//! - What it gives was checked by both checksums.

use std::io;
use std::sync::Arc;

use arrow::buffer::{Buffer, MutableBuffer};

use super::format::{ALIGNMENT, RECORD_HEADER, RecordHeader, RecordPlace, SEGMENT_HEADER};
use crate::file_system::DiskFile;

/// Small records are read so many bytes at a time.
const AHEAD: u64 = 256 << 10;

#[derive(Debug)]
pub struct Record {
    pub header: RecordHeader,
    pub offset: u64,
    pub payload: Buffer,
}

#[derive(Debug)]
pub enum ScanStep {
    Record(Record),
    /// Bytes that are no record, and records may follow.
    Damage {
        from: u64,
        to: u64,
    },
    /// The rest of the segment.
    End(SegmentEnd),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentEnd {
    Nothing,
    /// An append that was never answered.
    Torn(u64),
    /// From here on.
    Damaged(u64),
}

#[derive(Debug)]
pub struct SegmentScan {
    file: Arc<dyn DiskFile>,
    place: RecordPlace,
    /// Where the file ends, for us.
    end: u64,
    at: u64,
    window: Buffer,
    window_at: u64,
    /// What is read at once for a header: less where records are large.
    ahead: u64,
}

impl SegmentScan {
    pub fn new(file: Arc<dyn DiskFile>, place: RecordPlace, end: u64) -> SegmentScan {
        SegmentScan {
            file,
            place,
            end,
            at: SEGMENT_HEADER as u64,
            window: Buffer::from(&[]),
            window_at: 0,
            ahead: AHEAD,
        }
    }

    /// The segment has grown.
    pub fn extend(&mut self, end: u64) {
        if end > self.end {
            self.end = end;
            // What was read ahead may have ended in the middle of a record.
            self.window = Buffer::from(&[]);
        }
    }

    /// Where the next record is looked for.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Goes on here, where a record begins.
    pub fn seek(&mut self, offset: u64) {
        self.at = offset;
    }

    /// # Errors
    /// What the disk says; the same step may be tried again.
    pub fn next(&mut self) -> io::Result<ScanStep> {
        let from = self.at;
        if from >= self.end {
            return Ok(ScanStep::End(SegmentEnd::Nothing));
        }
        let Some(header) = self.header(from)? else {
            return self.search(from, from + ALIGNMENT);
        };
        let behind = from + header.total();
        if from + RECORD_HEADER as u64 + header.length > self.end {
            // Nothing of what lies in a payload is a record of this place.
            self.at = self.end;
            return Ok(ScanStep::End(SegmentEnd::Torn(from)));
        }
        match self.payload(from, &header)? {
            Some(payload) => {
                self.at = behind;
                self.ahead = if header.total() < AHEAD / 2 {
                    AHEAD
                } else {
                    RECORD_HEADER as u64
                };
                Ok(ScanStep::Record(Record {
                    header,
                    offset: from,
                    payload,
                }))
            }
            None if behind >= self.end => {
                self.at = self.end;
                Ok(ScanStep::End(SegmentEnd::Damaged(from)))
            }
            None => {
                self.at = behind;
                Ok(ScanStep::Damage { from, to: behind })
            }
        }
    }

    /// Goes over records whose rows are all below the position, by their headers alone. Tells how many
    /// deliveries and rows that were.
    ///
    /// # Errors
    /// As [`SegmentScan::next`].
    pub fn skip_below(&mut self, position: u64, mut seen: impl FnMut(&RecordHeader)) -> io::Result<()> {
        loop {
            let Some(header) = self.header(self.at)? else {
                return Ok(());
            };
            let behind = self.at + header.total();
            if header.positions().end > position || behind > self.end {
                return Ok(());
            }
            seen(&header);
            self.ahead = if header.total() < AHEAD / 2 {
                AHEAD
            } else {
                RECORD_HEADER as u64
            };
            self.at = behind;
        }
    }

    /// The record at this place, if there is one.
    ///
    /// # Errors
    /// As [`SegmentScan::next`].
    pub fn record_at(&mut self, offset: u64) -> io::Result<Option<Record>> {
        let Some(header) = self.header(offset)? else {
            return Ok(None);
        };
        let payload = self.payload(offset, &header)?;
        Ok(payload.map(|payload| Record {
            header,
            offset,
            payload,
        }))
    }

    /// The header at this place, whose payload is not looked at.
    fn header(&mut self, offset: u64) -> io::Result<Option<RecordHeader>> {
        let bytes = self.bytes(offset, RECORD_HEADER as u64)?;
        Ok(bytes.and_then(|bytes| RecordHeader::decode(&bytes, self.place, offset)))
    }

    fn payload(&mut self, offset: u64, header: &RecordHeader) -> io::Result<Option<Buffer>> {
        let bytes = self.bytes(offset + RECORD_HEADER as u64, header.length)?;
        Ok(bytes.filter(|bytes| crc32c::crc32c(bytes) == header.payload_crc))
    }

    /// Looks for the next record.
    fn search(&mut self, from: u64, mut at: u64) -> io::Result<ScanStep> {
        self.ahead = AHEAD;
        let mut zeros = self.is_zero(from, at.min(self.end))?;
        while at < self.end {
            if let Some(header) = self.header(at)?
                && self.payload(at, &header)?.is_some()
            {
                self.at = at;
                return Ok(ScanStep::Damage { from, to: at });
            }
            let next = (at + ALIGNMENT).min(self.end);
            zeros = zeros && self.is_zero(at, next)?;
            at = next;
        }
        self.at = self.end;
        let torn = zeros || self.end - from < RECORD_HEADER as u64;
        Ok(ScanStep::End(if torn {
            SegmentEnd::Torn(from)
        } else {
            SegmentEnd::Damaged(from)
        }))
    }

    fn is_zero(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let bytes = self.bytes(from, to - from)?;
        Ok(bytes.is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0)))
    }

    /// None if the file has not so many.
    fn bytes(&mut self, offset: u64, length: u64) -> io::Result<Option<Buffer>> {
        if offset.checked_add(length).is_none_or(|end| end > self.end) {
            return Ok(None);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + length > window_end {
            if length > AHEAD / 2 {
                let read = self.read(offset, length)?;
                return Ok((read.len() as u64 == length).then_some(read));
            }
            let ahead = self.ahead.max(length).min(self.end - offset);
            self.window = self.read(offset, ahead)?;
            self.window_at = offset;
            if (self.window.len() as u64) < length {
                return Ok(None);
            }
        }
        let start = (offset - self.window_at) as usize;
        Ok(Some(self.window.slice_with_length(start, length as usize)))
    }

    fn read(&self, offset: u64, length: u64) -> io::Result<Buffer> {
        let mut bytes = MutableBuffer::from_len_zeroed(length as usize);
        let read = self.file.read_full_at(bytes.as_slice_mut(), offset)?;
        bytes.truncate(read);
        Ok(bytes.into())
    }
}
