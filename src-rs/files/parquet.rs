//! Parquet: row groups in order, several decoded side by side.
//!
//! Invariants:
//! - What a file claims is checked against its length before it is read or allocated for: where columns lie, and
//!   how much they expand to.
//! - A panic of the library is an error of the input.
//! - Rows come in the order of the file. What is decoded ahead is bounded by [`AHEAD`] batches for each group.
//!
//! Values are taken as the file has them: nothing is cast.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

use super::input::{InputLimits, invalid, too_large};
use super::{Decoded, Step};
use crate::error::{Code, Error, Result};

const MAX_ROWS: usize = 65_536;
/// Batches that wait, of each row group.
const AHEAD: usize = 4;
/// What may be claimed however small a file is.
const FREE_EXPANSION: i64 = 16 << 20;

/// A file, or bytes, read at any place by any thread.
#[derive(Clone)]
pub enum Seekable {
    File(Arc<File>, u64),
    Bytes(Bytes),
}

impl Seekable {
    pub fn file(file: File) -> io::Result<Seekable> {
        let length = file.metadata()?.len();
        Ok(Seekable::File(Arc::new(file), length))
    }

    fn slice(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(ParquetError::EOF(format!(
                "bytes {start}..+{length} lie behind the end"
            )));
        }
        match self {
            Seekable::Bytes(bytes) => Ok(bytes.slice(start as usize..start as usize + length)),
            Seekable::File(file, _) => {
                let mut bytes = vec![0; length];
                let mut filled = 0;
                while filled < length {
                    match read_at(file, &mut bytes[filled..], start + filled as u64)? {
                        0 => return Err(ParquetError::EOF("the file became shorter".to_owned())),
                        more => filled += more,
                    }
                }
                Ok(bytes.into())
            }
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, into, at)
}

#[cfg(windows)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, into, at)
}

impl Length for Seekable {
    fn len(&self) -> u64 {
        match self {
            Seekable::File(_, length) => *length,
            Seekable::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

impl ChunkReader for Seekable {
    type T = BufReader<ReadFrom>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(ReadFrom {
            source: self.clone(),
            at: start,
        }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.slice(start, length)
    }
}

/// Reads on from a place.
pub struct ReadFrom {
    source: Seekable,
    at: u64,
}

impl Read for ReadFrom {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(self.at);
        let length = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match &self.source {
            Seekable::File(file, _) => read_at(file, &mut into[..length], self.at)?,
            Seekable::Bytes(bytes) => {
                let at = self.at.min(bytes.len() as u64) as usize;
                into[..length].copy_from_slice(&bytes[at..at + length]);
                length
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

pub struct ParquetDecoder {
    source: Seekable,
    metadata: ArrowReaderMetadata,
    projection: ProjectionMask,
    /// Of what is given.
    schema: SchemaRef,
    /// Of each column of the schema, where it is in the batches that are read.
    order: Vec<usize>,
    next_group: usize,
    lanes: VecDeque<Lane>,
    width: usize,
    batch_bytes: usize,
    given: u64,
}

/// One row group under way.
struct Lane {
    reader: ParquetRecordBatchReader,
    ready: VecDeque<RecordBatch>,
    over: bool,
}

impl Lane {
    fn advance(&mut self) -> Result<()> {
        let next = catch_unwind(AssertUnwindSafe(|| self.reader.next())).unwrap_or_else(|_| {
            self.over = true;
            Some(Err(arrow::error::ArrowError::ParquetError(
                "the reader panicked".to_owned(),
            )))
        });
        match next {
            Some(Ok(batch)) => self.ready.push_back(batch),
            Some(Err(error)) => {
                self.over = true;
                return Err(damaged().caused_by(&error));
            }
            None => self.over = true,
        }
        Ok(())
    }
}

fn damaged() -> Error {
    invalid("the Parquet file is damaged, or was cut off")
}

impl ParquetDecoder {
    /// # Errors
    /// `INPUT_INVALID`: no Parquet, or what it claims cannot be. `INPUT_TOO_LARGE`: it claims to expand beyond the
    /// bound. `SCHEMA_MISMATCH`: it does not have the columns that are wanted.
    pub fn open(
        source: Seekable,
        wanted: Option<&SchemaRef>,
        limits: &InputLimits,
        batch_bytes: usize,
        width: usize,
    ) -> Result<ParquetDecoder> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let metadata = catch_unwind(AssertUnwindSafe(|| ArrowReaderMetadata::load(&source, options)))
            .map_err(|_| damaged())?
            .map_err(|error| damaged().caused_by(&error))?;
        for group in metadata.metadata().row_groups() {
            check(group, source.len(), limits)?;
        }
        let (projection, order, schema) = match wanted {
            None => {
                let order = (0..metadata.schema().fields().len()).collect();
                (ProjectionMask::all(), order, metadata.schema().clone())
            }
            Some(wanted) => select(wanted, &metadata)?,
        };
        Ok(ParquetDecoder {
            source,
            metadata,
            projection,
            schema,
            order,
            next_group: 0,
            lanes: VecDeque::new(),
            width: width.max(1),
            batch_bytes,
            given: 0,
        })
    }

    /// Rows that the file says it has.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Bytes of the file, as far as it is decoded.
    pub fn read(&self) -> u64 {
        let share = self.given as f64 / self.rows().max(1) as f64;
        (self.source.len() as f64 * share.min(1.0)) as u64
    }

    /// The next batch, in the order of the file.
    pub fn step(&mut self) -> Result<Step> {
        loop {
            while self.lanes.len() < self.width && self.next_group < self.metadata.metadata().num_row_groups()
            {
                let lane = self.lane(self.next_group)?;
                self.lanes.push_back(lane);
                self.next_group += 1;
            }
            self.advance()?;
            let Some(lane) = self.lanes.front_mut() else {
                return self.end();
            };
            if let Some(batch) = lane.ready.pop_front() {
                return self.part(batch).map(Step::Part);
            }
            if lane.over {
                self.lanes.pop_front();
            }
        }
    }

    /// One batch of each group that has room for one, at the same time.
    fn advance(&mut self) -> Result<()> {
        let mut due: Vec<&mut Lane> = self
            .lanes
            .iter_mut()
            .enumerate()
            .filter(|(index, lane)| !lane.over && lane.ready.len() < if *index == 0 { 1 } else { AHEAD })
            .map(|(_, lane)| lane)
            .collect();
        let Some(first) = due.pop() else {
            return Ok(());
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = due
                .into_iter()
                .map(|lane| scope.spawn(|| lane.advance()))
                .collect();
            let mut result = first.advance();
            for other in others {
                result = other.join().unwrap_or_else(|_| Err(damaged())).and(result);
            }
            result
        })
    }

    fn lane(&self, group: usize) -> Result<Lane> {
        let rows = self.batch_rows(self.metadata.metadata().row_group(group));
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.source.clone(), self.metadata.clone())
                .with_row_groups(vec![group])
                .with_projection(self.projection.clone())
                .with_batch_size(rows);
        let reader = catch_unwind(AssertUnwindSafe(|| builder.build()))
            .map_err(|_| damaged())?
            .map_err(|error| damaged().caused_by(&error))?;
        Ok(Lane {
            reader,
            ready: VecDeque::new(),
            over: false,
        })
    }

    /// How many rows make a batch of the size asked for, as far as the footer tells.
    fn batch_rows(&self, group: &RowGroupMetaData) -> usize {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        let stored = u64::try_from(group.total_byte_size()).unwrap_or(0) / rows;
        // Dictionaries and runs are shorter in the file than in memory.
        let widths: usize = self
            .schema
            .fields()
            .iter()
            .map(|field| width(field.data_type()))
            .sum();
        let row = usize::try_from(stored).unwrap_or(usize::MAX).max(widths).max(1);
        (self.batch_bytes / row).clamp(1, MAX_ROWS)
    }

    fn part(&mut self, batch: RecordBatch) -> Result<Decoded> {
        let rows = batch.num_rows();
        self.given += rows as u64;
        let columns = self
            .order
            .iter()
            .map(|index| batch.column(*index).clone())
            .collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|error| {
                Error::new(Code::SchemaMismatch, "the Parquet file does not fit the schema")
                    .caused_by(&error)
                    .during("decode")
            })?;
        Ok(Decoded {
            schema: self.schema.clone(),
            batches: vec![batch],
            rows,
            runs: Vec::new(),
            rejections: Vec::new(),
        })
    }

    fn end(&self) -> Result<Step> {
        if self.given == self.rows() {
            return Ok(Step::Done);
        }
        Err(invalid(format!(
            "the Parquet file says that it has {} rows, and {} were found",
            self.rows(),
            self.given
        )))
    }
}

/// What a value takes in memory, roughly.
fn width(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(match data_type {
        DataType::Boolean | DataType::Null => 1,
        _ => 24,
    })
}

/// Whether what a row group claims can be.
fn check(group: &RowGroupMetaData, length: u64, limits: &InputLimits) -> Result<()> {
    let most_expansion = i64::try_from(limits.max_expansion).unwrap_or(i64::MAX);
    if group.num_rows() < 0 {
        return Err(damaged());
    }
    for column in group.columns() {
        let start = column
            .dictionary_page_offset()
            .unwrap_or(column.data_page_offset());
        let (start, stored) = (start.min(column.data_page_offset()), column.compressed_size());
        let end = u64::try_from(start).ok().zip(u64::try_from(stored).ok());
        if end.is_none_or(|(start, stored)| start.checked_add(stored).is_none_or(|end| end > length)) {
            return Err(invalid(format!(
                "column {} of the Parquet file is said to lie behind the end of the file",
                column.column_path().string()
            )));
        }
        let most = stored.saturating_mul(most_expansion).max(FREE_EXPANSION);
        if column.uncompressed_size() > most {
            return Err(too_large(format!(
                "column {} of the Parquet file expands to more than {most_expansion} times its size (maxExpansion)",
                column.column_path().string()
            )));
        }
    }
    Ok(())
}

/// The columns that are wanted, in their order.
fn select(
    wanted: &SchemaRef,
    metadata: &ArrowReaderMetadata,
) -> Result<(ProjectionMask, Vec<usize>, SchemaRef)> {
    let found = metadata.schema();
    let mismatch = |name: &str, why: String| {
        Error::new(
            Code::SchemaMismatch,
            format!("column {name} of the Parquet file {why}"),
        )
        .in_field(name)
        .during("decode")
    };
    let mut roots = Vec::with_capacity(wanted.fields().len());
    for field in wanted.fields() {
        let name = field.name();
        let index = found
            .index_of(name)
            .map_err(|_| mismatch(name, "is missing".to_owned()))?;
        let given = found.field(index).data_type();
        if given != field.data_type() {
            return Err(mismatch(
                name,
                format!("is {given}; the schema wants {}", field.data_type()),
            ));
        }
        roots.push(index);
    }
    let mut sorted = roots.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let order = roots
        .iter()
        .map(|root| sorted.binary_search(root).unwrap_or(0))
        .collect();
    let mask = ProjectionMask::roots(metadata.parquet_schema(), sorted);
    Ok((mask, order, wanted.clone()))
}
