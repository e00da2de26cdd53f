//! The layouts of `specs/spool-format.md`: the one place that knows them.
//!
//! Invariants:
//! - What is decoded was checked by its CRC; lengths and offsets in it are still only numbers, which whoever
//!   reads holds against the file.
//! - A record is good in one place only: id of the spool, segment and offset are part of its CRC.
//!
//! It reads and writes no file.

use std::ops::Range;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};

/// Of the format that this release writes.
pub const VERSION: u32 = 1;
/// Records and the buffers in them begin at multiples of this.
pub const ALIGNMENT: u64 = 64;
pub const SEGMENT_HEADER: usize = 128;
pub const RECORD_HEADER: usize = 64;
pub const SLOT: usize = 128;
/// Where the second slot of a cursor is: far enough that one torn write does not reach both.
pub const SECOND_SLOT: u64 = 4096;

const SEGMENT_MAGIC: &[u8; 8] = b"ARROWSPL";
const CURSOR_MAGIC: &[u8; 8] = b"ARROWCUR";
const TABLE_SCHEMA_MAGIC: &[u8; 8] = b"ARROWSCH";
const RECORD_MAGIC: &[u8; 4] = b"ASRC";
/// A payload that claims more is none: no disk holds it, and sums of lengths stay far from their end.
const MAX_PAYLOAD: u64 = 1 << 56;

pub type SpoolId = [u8; 16];

/// What the first bytes of a file of ours say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodedHeader<T> {
    Whole(T),
    /// Written by a release that knows more: its version.
    Newer(u32),
    Damaged,
}

fn begin(bytes: &mut [u8], magic: &[u8; 8]) {
    bytes[..8].copy_from_slice(magic);
    put32(bytes, 8, VERSION);
    let crc = crc32c(&bytes[..12]);
    put32(bytes, 12, crc);
}

/// None if it is ours and of our version.
fn begins<T>(bytes: &[u8], magic: &[u8; 8]) -> Option<DecodedHeader<T>> {
    if bytes.len() < 16 || &bytes[..8] != magic || get32(bytes, 12) != crc32c(&bytes[..12]) {
        return Some(DecodedHeader::Damaged);
    }
    match get32(bytes, 8) {
        VERSION => None,
        version => Some(DecodedHeader::Newer(version)),
    }
}

/// What a segment's name says. It stands in for the header where that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    pub sequence: u64,
    pub first: u64,
}

impl SegmentName {
    pub const ENDING: &str = ".segment";
    /// A higher one has more digits than a name has room for: no opening would find the segment.
    pub const MAX_SEQUENCE: u64 = 9_999_999_999;

    pub fn of(path: &Path) -> Option<SegmentName> {
        let name = path.file_name()?.to_str()?.strip_suffix(SegmentName::ENDING)?;
        let (first, sequence) = name.split_once('-')?;
        let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(first, 20) || !digits(sequence, 10) {
            return None;
        }
        Some(SegmentName {
            sequence: sequence.parse().ok()?,
            first: first.parse().ok()?,
        })
    }

    /// Without its ending.
    pub fn stem(&self) -> String {
        format!("{:020}-{:010}", self.first, self.sequence)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    pub id: SpoolId,
    pub name: SegmentName,
    pub created_ms: u64,
    /// What was appended to the spool before this segment.
    pub rows_before: u64,
    pub deliveries_before: u64,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        begin(&mut bytes, SEGMENT_MAGIC);
        bytes[16..32].copy_from_slice(&self.id);
        put64(&mut bytes, 32, self.name.sequence);
        put64(&mut bytes, 40, self.name.first);
        put64(&mut bytes, 48, self.created_ms);
        put64(&mut bytes, 56, self.rows_before);
        put64(&mut bytes, 64, self.deliveries_before);
        seal(&mut bytes);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> DecodedHeader<SegmentHeader> {
        if let Some(other) = begins(bytes, SEGMENT_MAGIC) {
            return other;
        }
        if !is_sealed(bytes, SEGMENT_HEADER) {
            return DecodedHeader::Damaged;
        }
        DecodedHeader::Whole(SegmentHeader {
            id: id(bytes),
            name: SegmentName {
                sequence: get64(bytes, 32),
                first: get64(bytes, 40),
            },
            created_ms: get64(bytes, 48),
            rows_before: get64(bytes, 56),
            deliveries_before: get64(bytes, 64),
        })
    }
}

/// What one slot of the cursor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorSlot {
    pub id: SpoolId,
    pub number: u64,
    /// Every row below is settled.
    pub through: u64,
    pub mark: SpoolId,
}

impl CursorSlot {
    pub fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        begin(&mut bytes, CURSOR_MAGIC);
        bytes[16..32].copy_from_slice(&self.id);
        put64(&mut bytes, 32, self.number);
        put64(&mut bytes, 40, self.through);
        bytes[48..64].copy_from_slice(&self.mark);
        seal(&mut bytes);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> DecodedHeader<CursorSlot> {
        if let Some(other) = begins(bytes, CURSOR_MAGIC) {
            return other;
        }
        if !is_sealed(bytes, SLOT) {
            return DecodedHeader::Damaged;
        }
        let mut mark = [0; 16];
        mark.copy_from_slice(&bytes[48..64]);
        DecodedHeader::Whole(CursorSlot {
            id: id(bytes),
            number: get64(bytes, 32),
            through: get64(bytes, 40),
            mark,
        })
    }

    /// Where the writing with this number goes.
    pub fn place(number: u64) -> u64 {
        (number % 2) * SECOND_SLOT
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    State = 1,
    Schema = 2,
    Batches = 3,
    Settled = 4,
}

impl RecordKind {
    /// None for what a later release of the same format may write, and this one passes over.
    pub fn of(byte: u8) -> Option<RecordKind> {
        [
            RecordKind::State,
            RecordKind::Schema,
            RecordKind::Batches,
            RecordKind::Settled,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Where records are: part of their CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace(u32);

impl RecordPlace {
    pub fn new(id: &SpoolId, sequence: u64) -> RecordPlace {
        RecordPlace(crc32c_append(crc32c(id), &sequence.to_le_bytes()))
    }

    fn crc(self, offset: u64, header: &[u8]) -> u32 {
        crc32c_append(crc32c_append(self.0, &offset.to_le_bytes()), header)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    pub kind: u8,
    /// Of the payload, in bytes.
    pub length: u64,
    pub first: u64,
    pub rows: u64,
    pub identity: u64,
    pub time_ms: u64,
    /// Offset of the schema's record.
    pub schema: u64,
    pub payload_crc: u32,
}

impl RecordHeader {
    pub fn encode(&self, place: RecordPlace, offset: u64) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[..4].copy_from_slice(RECORD_MAGIC);
        bytes[4] = self.kind;
        put64(&mut bytes, 8, self.length);
        put64(&mut bytes, 16, self.first);
        put64(&mut bytes, 24, self.rows);
        put64(&mut bytes, 32, self.identity);
        put64(&mut bytes, 40, self.time_ms);
        put64(&mut bytes, 48, self.schema);
        put32(&mut bytes, 56, self.payload_crc);
        let crc = place.crc(offset, &bytes[..60]);
        put32(&mut bytes, 60, crc);
        bytes
    }

    /// None if there is no record at this place.
    pub fn decode(bytes: &[u8], place: RecordPlace, offset: u64) -> Option<RecordHeader> {
        if bytes.len() < RECORD_HEADER
            || &bytes[..4] != RECORD_MAGIC
            || get32(bytes, 60) != place.crc(offset, &bytes[..60])
        {
            return None;
        }
        let header = RecordHeader {
            kind: bytes[4],
            length: get64(bytes, 8),
            first: get64(bytes, 16),
            rows: get64(bytes, 24),
            identity: get64(bytes, 32),
            time_ms: get64(bytes, 40),
            schema: get64(bytes, 48),
            payload_crc: get32(bytes, 56),
        };
        (header.length <= MAX_PAYLOAD && header.first.checked_add(header.rows).is_some()).then_some(header)
    }

    /// Of its rows.
    pub fn positions(&self) -> Range<u64> {
        self.first..self.first + self.rows
    }

    /// With header and padding, in bytes.
    pub fn total(&self) -> u64 {
        padded(RECORD_HEADER as u64 + self.length)
    }
}

pub fn padded(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT)
}

/// What a record with such a payload takes; one without is not written.
pub fn record_bytes(payload: usize) -> u64 {
    match payload {
        0 => 0,
        payload => padded((RECORD_HEADER + payload) as u64),
    }
}

/// What is known as a segment begins.
pub fn state(target: &str, ranges: &[Range<u64>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + target.len() + 16 * ranges.len());
    bytes.extend_from_slice(&(target.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(ranges.len() as u32).to_le_bytes());
    bytes.extend_from_slice(target.as_bytes());
    bytes.extend_from_slice(&settled(ranges));
    bytes
}

/// Target and ranges. None if lengths and bytes contradict each other.
pub fn parse_state(bytes: &[u8]) -> Option<(String, Vec<Range<u64>>)> {
    if bytes.len() < 8 {
        return None;
    }
    let end = 8 + get32(bytes, 0) as usize;
    let target = String::from_utf8(bytes.get(8..end)?.to_vec()).ok()?;
    let ranges = parse_settled(&bytes[end..])?;
    (ranges.len() == get32(bytes, 4) as usize).then_some((target, ranges))
}

pub fn settled(ranges: &[Range<u64>]) -> Vec<u8> {
    let numbers = ranges.iter().flat_map(|range| [range.start, range.end]);
    numbers.flat_map(u64::to_le_bytes).collect()
}

pub fn parse_settled(bytes: &[u8]) -> Option<Vec<Range<u64>>> {
    let pairs = bytes.chunks(16).map(|pair| {
        let range = (pair.len() == 16).then(|| get64(pair, 0)..get64(pair, 8));
        range.filter(|range| range.start <= range.end)
    });
    pairs.collect()
}

/// The file that keeps the table's schema for a target.
pub fn table_schema(target: &str, schema: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    begin(&mut bytes, TABLE_SCHEMA_MAGIC);
    put64(&mut bytes, 16, target.len() as u64);
    put64(&mut bytes, 24, schema.len() as u64);
    bytes.extend_from_slice(target.as_bytes());
    bytes.extend_from_slice(schema);
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The schema in such a file. None if it is damaged, of a later release or for another target.
pub fn parse_table_schema<'a>(bytes: &'a [u8], target: &str) -> Option<&'a [u8]> {
    if begins::<()>(bytes, TABLE_SCHEMA_MAGIC).is_some() || bytes.len() < 36 || !is_sealed(bytes, bytes.len())
    {
        return None;
    }
    let behind = &bytes[32..bytes.len() - 4];
    let (has, schema) = behind.split_at_checked(usize::try_from(get64(bytes, 16)).ok()?)?;
    (has == target.as_bytes() && schema.len() as u64 == get64(bytes, 24)).then_some(schema)
}

fn seal(bytes: &mut [u8; 128]) {
    let crc = crc32c(&bytes[..124]);
    put32(bytes, 124, crc);
}

fn is_sealed(bytes: &[u8], length: usize) -> bool {
    bytes.len() >= length && get32(bytes, length - 4) == crc32c(&bytes[..length - 4])
}

fn id(bytes: &[u8]) -> SpoolId {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[16..32]);
    id
}

fn put32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn put64(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn get64(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
