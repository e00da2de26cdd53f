//! What is left in a spool → Arrow IPC files and a list of what each batch is.
//!
//! Invariants:
//! - The spool is only looked at ([`super::inspect`]); the folder was empty, and files are their owner's alone.
//! - A file under its final name is whole and synced, and so is the list once it is there.
//! - Rows are as they were given, each batch with its schema; positions are in the list and not in the rows.
//! - What cannot be read is told of, and everything else is exported.
//!
//! A file has many deliveries: one each would be millions of files. Another one begins where the schema changes, where
//! a column needs another dictionary, which an Arrow file cannot hold, and at [`FILE_BYTES`].

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use serde_json::json;

use super::inspect::{Depth, Inspection, SeenDelivery, Sight};
use super::reader::Damage;
use super::{encode, errors};
use crate::error::{Code, Error, Result};

/// About what a file takes.
const FILE_BYTES: u64 = 256 << 20;
/// Has a line of JSON for each batch.
const LIST: &str = "deliveries.jsonl";
const UNFINISHED: &str = "part";

/// What was exported.
#[derive(Debug, Default)]
pub struct Exported {
    pub files: Vec<PathBuf>,
    pub list: PathBuf,
    pub deliveries: u64,
    pub rows: u64,
    pub damage: Vec<Damage>,
}

/// Exports what is not settled. Waits for the disk.
///
/// # Errors
/// `CONFIG_INVALID` for a folder that is not empty, and what the disk says. What is there then can be removed.
pub fn export(inspection: &Inspection, to: &Path) -> Result<Exported> {
    prepare(to)?;
    let list = to.join(LIST);
    let staged = to.join(format!("{LIST}.{UNFINISHED}"));
    let failed = |error: io::Error| errors::of_io("cannot write", &staged, &error);
    let mut writer = ExportWriter {
        to,
        list: BufWriter::new(create(&staged).map_err(failed)?),
        open: None,
        exported: Exported {
            list: list.clone(),
            ..Exported::default()
        },
    };
    inspection.look(inspection.settled_through(), Depth::Rows, &mut |sight| {
        match sight {
            Sight::Delivery(delivery) => writer.delivery(&delivery)?,
            Sight::Damage(damage) => writer.exported.damage.push(damage),
            Sight::Unfinished(_) => {}
        }
        Ok(())
    })?;
    writer.finish()?;
    let ExportWriter {
        list: lines,
        exported,
        ..
    } = writer;
    let lines = lines.into_inner().map_err(|error| failed(error.into_error()))?;
    lines
        .sync_all()
        .and_then(|()| fs::rename(&staged, &list))
        .and_then(|()| sync_names(to))
        .map_err(failed)?;
    Ok(exported)
}

/// An empty folder, its owner's alone if it has to be made.
fn prepare(to: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let listed = builder.create(to).and_then(|()| fs::read_dir(to));
    let mut entries = listed.map_err(|error| errors::of_io("cannot create", to, &error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            let message = format!("{} is not empty, and nothing is written over", to.display());
            Err(Error::new(Code::ConfigInvalid, message).during("spool"))
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn sync_names(directory: &Path) -> io::Result<()> {
    // Windows opens no directories.
    if cfg!(windows) {
        return Ok(());
    }
    File::open(directory)?.sync_all()
}

struct ExportWriter<'export> {
    to: &'export Path,
    list: BufWriter<File>,
    open: Option<OpenFile>,
    exported: Exported,
}

struct OpenFile {
    writer: FileWriter<BufWriter<File>>,
    name: String,
    staged: PathBuf,
    batches: u64,
    bytes: u64,
}

impl ExportWriter<'_> {
    fn delivery(&mut self, delivery: &SeenDelivery) -> Result<()> {
        for left in &delivery.left {
            let mut first = left.start;
            for batch in delivery.rows(left) {
                let rows = first..first + batch.num_rows() as u64;
                first = rows.end;
                self.batch(delivery, &rows, &batch)?;
            }
        }
        self.exported.deliveries += u64::from(!delivery.left.is_empty());
        Ok(())
    }

    fn batch(&mut self, delivery: &SeenDelivery, rows: &Range<u64>, batch: &RecordBatch) -> Result<()> {
        let fits = |open: &OpenFile| open.bytes < FILE_BYTES && *open.writer.schema() == batch.schema();
        if !self.open.as_ref().is_some_and(fits) {
            self.finish()?;
        }
        let again = match &mut self.open {
            // Another dictionary, which is refused before anything of it is written.
            Some(open) => open.write(batch).is_err(),
            None => true,
        };
        if again {
            self.finish()?;
            let mut open = OpenFile::create(self.to, rows.start, batch)?;
            open.write(batch)
                .map_err(|error| errors::of_arrow(&open.staged, error))?;
            self.open = Some(open);
        }
        let Some(open) = &self.open else { return Ok(()) };
        let line = json!({
            "file": open.name,
            "batch": open.batches - 1,
            // As text: programs that take numbers for doubles would round them.
            "position": rows.start.to_string(),
            "rows": rows.end - rows.start,
            "delivery": delivery.positions.start.to_string(),
            "deliveryRows": delivery.positions.end - delivery.positions.start,
            "identity": delivery.identity.to_string(),
            "appendedMs": delivery.time_ms,
        });
        self.exported.rows += rows.end - rows.start;
        writeln!(self.list, "{line}").map_err(|error| errors::of_io("cannot write in", self.to, &error))
    }

    /// Gives the open file its name.
    fn finish(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let path = self.to.join(&open.name);
        open.writer
            .finish()
            .map_err(|error| errors::of_arrow(&open.staged, error))?;
        let file = open.writer.get_ref().get_ref();
        file.sync_all()
            .and_then(|()| fs::rename(&open.staged, &path))
            .map_err(|error| errors::of_io("cannot write", &path, &error))?;
        self.exported.files.push(path);
        Ok(())
    }
}

impl OpenFile {
    fn create(to: &Path, first: u64, batch: &RecordBatch) -> Result<OpenFile> {
        let name = format!("{first:020}.arrow");
        let staged = to.join(format!("{name}.{UNFINISHED}"));
        let file = create(&staged).map_err(|error| errors::of_io("cannot create", &staged, &error))?;
        let writer = FileWriter::try_new(BufWriter::new(file), &batch.schema())
            .map_err(|error| errors::of_arrow(&staged, error))?;
        Ok(OpenFile {
            writer,
            name,
            staged,
            batches: 0,
            bytes: 0,
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), ArrowError> {
        self.writer.write(batch)?;
        self.batches += 1;
        self.bytes += encode::size(batch) as u64;
        Ok(())
    }
}
