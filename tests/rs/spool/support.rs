//! A spool on the simulated disk, whose writer does one turn when it is told to: no thread, no chance.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow_ingest::error::{Error, Result};
use arrow_ingest::spool::{
    Appended, Damage, Durable, Recovered, Spool, SpoolEntry, SpoolOptions, SpoolRows, Writer, WriterTurn,
};
use futures::FutureExt as _;

use crate::simulated::Simulated;

pub const SPOOL: &str = "/d/spool/default";

pub fn disk() -> Simulated {
    Simulated::with(&["/d"])
}

pub fn options() -> SpoolOptions {
    SpoolOptions::new("/d/spool", "delta:///table")
}

pub fn schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, false)]))
}

pub fn batch(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_new(schema("n"), vec![column]).unwrap()
}

pub fn values(batches: &[RecordBatch]) -> Vec<i64> {
    let columns = batches
        .iter()
        .map(|batch| batch.column(0).as_primitive::<Int64Type>());
    columns.flat_map(|column| column.values().to_vec()).collect()
}

pub struct Rig {
    pub disk: Simulated,
    pub spool: Spool,
    pub writer: Writer,
    pub recovered: Recovered,
}

pub fn try_open(disk: &Simulated, options: &SpoolOptions) -> Result<Rig> {
    let (spool, recovered, writer) = Spool::open_undriven(Arc::new(disk.clone()), options)?;
    Ok(Rig {
        disk: disk.clone(),
        spool,
        writer,
        recovered,
    })
}

pub fn open(disk: &Simulated) -> Rig {
    try_open(disk, &options()).unwrap()
}

impl Rig {
    /// One delivery. None if there is no room.
    pub fn offer(&self, batches: &[RecordBatch], identity: u64) -> Option<Result<Appended>> {
        self.spool.append(batches, identity).now_or_never()
    }

    pub fn append(&self, values: impl IntoIterator<Item = i64>) -> Appended {
        let batch = batch(values);
        let identity = batch.column(0).as_primitive::<Int64Type>().value(0) as u64;
        self.offer(&[batch], identity).unwrap().unwrap()
    }

    /// A delivery that is on the disk, and its position.
    pub fn keep(&mut self, values: impl IntoIterator<Item = i64>) -> u64 {
        let appended = self.append(values);
        self.turn();
        answer(appended.durable).unwrap().unwrap();
        appended.position
    }

    /// As [`Rig::keep`], of more than is encoded on the spot.
    pub fn keep_large(&mut self, values: impl IntoIterator<Item = i64>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batch = batch(values);
        let appended = runtime.block_on(self.spool.append(&[batch], 0)).unwrap();
        self.turn();
        answer(appended.durable).unwrap().unwrap();
    }

    pub fn turn(&mut self) -> WriterTurn {
        self.writer.turn(Instant::now())
    }

    /// A turn after the cursor's second.
    pub fn turn_later(&mut self) -> WriterTurn {
        self.writer.turn(Instant::now() + Duration::from_secs(2))
    }

    pub fn read(&mut self) -> Read {
        self.read_from(0)
    }

    pub fn read_from(&mut self, position: u64) -> Read {
        let mut reader = self.spool.read_from(position);
        let mut read = Read::default();
        loop {
            match reader.next().unwrap() {
                Some(SpoolEntry::Rows(rows)) => read.rows.push(rows),
                Some(SpoolEntry::Damage(damage)) => read.damage.push(damage),
                None => return read,
            }
        }
    }

    /// What is not settled, as a new reader finds it.
    pub fn values(&mut self) -> Vec<i64> {
        self.read().values()
    }

    pub fn close(mut self) -> Simulated {
        let disk = self.disk.clone();
        drop(self.spool);
        while self.writer.turn(Instant::now()) != WriterTurn::End {}
        disk
    }

    /// The process is killed.
    pub fn kill(self) -> Simulated {
        self.disk.after_kill()
    }
}

#[derive(Debug, Default)]
pub struct Read {
    pub rows: Vec<SpoolRows>,
    pub damage: Vec<Damage>,
}

impl Read {
    pub fn values(&self) -> Vec<i64> {
        self.rows.iter().flat_map(|rows| values(&rows.batches)).collect()
    }
}

/// What is known of it by now.
pub fn answer(durable: Durable) -> Option<Result<()>> {
    durable.now_or_never()
}

pub fn refused(durable: Durable) -> Error {
    answer(durable).unwrap().unwrap_err()
}

/// The log's files, in their order.
pub fn segments(disk: &Simulated) -> Vec<PathBuf> {
    let files = disk.files().into_keys();
    files
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect()
}

pub fn path(name: &str) -> PathBuf {
    Path::new(SPOOL).join(name)
}

/// How often something was called, by the disk's own story.
pub fn count(disk: &Simulated, call: &str, within: &str) -> usize {
    let story = disk.story();
    let matches = |line: &&String| line.starts_with(&format!("{call} ")) && line.contains(within);
    story.iter().filter(matches).count()
}
