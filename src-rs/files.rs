//! Bytes and files → record batches: JSON, CSV and Parquet.
//!
//! Invariants:
//! - The input is hostile: what it claims is checked before it is allocated for, memory is bounded by
//!   [`InputLimits`] and one batch, and a panic of a library is an error of the input.
//! - Nothing is bent. Values of text follow the rules of rows (`specs/rows.md`, `specs/inputs.md`); a line that does
//!   not fit is left out and reported alone, by its physical number.
//! - What ends an input comes after everything before it.
//! - [`Decoder::step`] reads local files and computes; it waits for nothing else, and ends after a bounded
//!   amount of text.
//!
//! It does not know of Node, and it sends nothing: whoever calls does.

mod columns;
mod csv;
mod input;
mod json;
mod lines;
mod parquet;
mod part;
mod refusal;
mod text;
mod values;

use std::fs::File;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::columns::Columns;
use self::csv::Csv;
use self::input::{Filled, InputWindow, Source, invalid, too_large};
use self::lines::{Elements, Lines};
use self::parquet::{ParquetDecoder, Seekable};
use self::text::{RowFinder, TextDecoder};
use crate::error::{Code, Error, Result};

pub use self::csv::CsvOptions;
pub use self::input::{InputLimits, Queue};
pub use self::refusal::LineRejection;

/// What bytes are.
#[derive(Debug, Clone)]
pub enum Format {
    Json,
    Csv(CsvOptions),
    Parquet,
}

/// How an input is decoded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None`: Parquet and JSON are known by their content.
    pub format: Option<Format>,
    /// What it is where the content does not tell: as its name says.
    pub fallback: Option<Format>,
    /// Bytes at which a batch ends.
    pub batch_bytes: usize,
    /// Whether names that the schema does not have are left out.
    pub drop_unknown: bool,
    /// Row groups that are decoded at the same time.
    pub side_by_side: usize,
    pub limits: InputLimits,
}

/// Rows of one delivery to be, and the lines that were left out among them.
#[derive(Debug)]
pub struct Decoded {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub rows: usize,
    /// Row within the part, and the line where it begins; the rows behind it stand on the lines behind it. Empty
    /// where there are no lines.
    pub runs: Vec<(u64, u64)>,
    pub rejections: Vec<LineRejection>,
}

/// What came of a step.
#[derive(Debug)]
pub enum Step {
    Part(Decoded),
    /// More bytes are needed; `rows` says whether some are waiting for company.
    Input {
        rows: bool,
    },
    /// Nothing yet.
    Again,
    /// It is text, and there is no schema yet.
    SchemaWanted,
    Done,
}

/// Decodes one input.
pub struct Decoder {
    settings: Settings,
    schema: Option<SchemaRef>,
    window: InputWindow,
    state: State,
}

enum State {
    Start,
    Text(Box<TextDecoder>),
    Gathering(Temporary),
    Parquet(Box<ParquetDecoder>),
    Over,
}

impl Decoder {
    /// Of bytes that are pushed to the queue. A schema that is given here is asked of Parquet, too.
    pub fn of_queue(queue: Queue, settings: Settings, schema: Option<SchemaRef>) -> Decoder {
        Decoder::new(Source::Pushed(queue), settings, schema)
    }

    /// Of a local file, which is read by whoever calls [`Decoder::step`].
    pub fn of_file(file: File, settings: Settings, schema: Option<SchemaRef>) -> Decoder {
        Decoder::new(Source::File(file), settings, schema)
    }

    fn new(source: Source, settings: Settings, schema: Option<SchemaRef>) -> Decoder {
        Decoder {
            window: InputWindow::new(source, settings.limits),
            settings,
            schema,
            state: State::Start,
        }
    }

    /// The schema that JSON or CSV is decoded by, once a step has said that one is wanted.
    pub fn set_schema(&mut self, schema: SchemaRef) {
        self.schema = Some(schema);
    }

    /// Bytes of the input that were read so far, as they are.
    pub fn read(&self) -> u64 {
        match &self.state {
            State::Parquet(decoder) => decoder.read().max(self.window.read()),
            _ => self.window.read(),
        }
    }

    /// Goes on. With `cut`, rows that are there are given at once.
    ///
    /// # Errors
    /// What ends the input, after everything before it; any further call says [`Step::Done`].
    pub fn step(&mut self, cut: bool) -> Result<Step> {
        let result = self.advance(cut);
        if matches!(result, Err(_) | Ok(Step::Done)) {
            self.state = State::Over;
        }
        result
    }

    fn advance(&mut self, cut: bool) -> Result<Step> {
        match &mut self.state {
            State::Start => self.start(),
            State::Text(decoder) => decoder.step(&mut self.window, cut),
            State::Gathering(temporary) => {
                let bytes = self.window.bytes();
                temporary.write(bytes)?;
                let length = bytes.len();
                self.window.take(length);
                match self.window.fill()? {
                    Filled::More => Ok(Step::Again),
                    Filled::Pending => Ok(Step::Input { rows: false }),
                    Filled::Ended => {
                        let source = std::mem::take(temporary).finish()?;
                        self.parquet(source)
                    }
                }
            }
            State::Parquet(decoder) => decoder.step(),
            State::Over => Ok(Step::Done),
        }
    }

    /// Finds out what it is.
    fn start(&mut self) -> Result<Step> {
        loop {
            let head = self.window.bytes();
            let blanks = head.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            // Enough for a mark, and for the first letter behind blanks, unless there are too many of them.
            if head.len() >= 8 && (blanks < head.len() || head.len() > 64 << 10) {
                break;
            }
            match self.window.fill()? {
                Filled::More => {}
                Filled::Pending => return Ok(Step::Input { rows: false }),
                Filled::Ended => break,
            }
        }
        if self.window.bytes().starts_with(&[0xef, 0xbb, 0xbf]) {
            self.window.take(3);
        }
        let head = self.window.bytes();
        let first = head.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
        let is_parquet = head.starts_with(b"PAR1");
        if !is_parquet && let Some(other) = other_format(head) {
            return Err(invalid(format!("the input is {other}")));
        }
        let format = match (&self.settings.format, first) {
            (Some(format), _) => format.clone(),
            (None, _) if is_parquet => Format::Parquet,
            (None, Some(b'{' | b'[')) => Format::Json,
            (None, _) => self.settings.fallback.clone().ok_or_else(unknown_format)?,
        };
        match format {
            Format::Parquet if !is_parquet => return Err(invalid("the input is no Parquet file")),
            Format::Parquet => return self.open_parquet(),
            _ if is_parquet => return Err(invalid("the input is a Parquet file, and not what format says")),
            _ => {}
        }
        let Some(schema) = self.schema.clone() else {
            return Ok(Step::SchemaWanted);
        };
        let rows: Box<dyn RowFinder> = match format {
            Format::Json if first == Some(b'[') => Box::new(Elements::new(self.settings.drop_unknown)),
            Format::Json | Format::Parquet => Box::new(Lines::new(self.settings.drop_unknown)),
            Format::Csv(options) => {
                let columns = Columns::new(schema, true)?;
                let rows = Csv::new(options, &columns, self.settings.drop_unknown);
                return self.open_text(Box::new(rows), columns);
            }
        };
        let columns = Columns::new(schema, false)?;
        self.open_text(rows, columns)
    }

    fn open_text(&mut self, rows: Box<dyn RowFinder>, columns: Columns) -> Result<Step> {
        let decoder = TextDecoder::new(rows, columns, self.settings.batch_bytes);
        self.state = State::Text(Box::new(decoder));
        Ok(Step::Again)
    }

    fn open_parquet(&mut self) -> Result<Step> {
        match self.window.file() {
            Some(file) => {
                let file = file.and_then(Seekable::file);
                self.parquet(file.map_err(|error| invalid("the file cannot be read").caused_by(&error))?)
            }
            None => {
                self.state = State::Gathering(Temporary::new(self.settings.limits.max_temporary_bytes));
                Ok(Step::Again)
            }
        }
    }

    fn parquet(&mut self, source: Seekable) -> Result<Step> {
        let wanted = self.schema.as_ref();
        let Settings {
            limits,
            batch_bytes,
            side_by_side,
            ..
        } = &self.settings;
        let decoder = ParquetDecoder::open(source, wanted, limits, *batch_bytes, *side_by_side)?;
        self.state = State::Parquet(Box::new(decoder));
        Ok(Step::Again)
    }
}

fn unknown_format() -> Error {
    invalid("the input is neither Parquet nor JSON; of CSV, say so by option format")
}

/// What bytes are that are decoded elsewhere, or by nobody.
fn other_format(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'A', b'R', b'R', b'O', b'W', b'1', 0, ..] | [0xff, 0xff, 0xff, 0xff, ..] => {
            Some("Arrow IPC, which send() and sendAll() take")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16; UTF-8 is wanted"),
        // Three letters may begin the header of a CSV.
        [b'O', b'R', b'C', 0..=0x1f | 0x80.., ..] => Some("ORC, which is not read here"),
        [b'O', b'b', b'j', 1, ..] => Some("Avro, which is not read here"),
        [b'P', b'K', 3, 4, ..] => Some("a ZIP archive, which is not read here"),
        [b'B', b'Z', b'h', _, 0x31, 0x41, 0x59, ..] => {
            Some("compressed by bzip2; Gzip and Zstandard are read")
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("compressed by xz; Gzip and Zstandard are read"),
        _ => None,
    }
}

/// Bytes of Parquet that did not come as a file: in memory, and beyond that on the disk.
#[derive(Default)]
struct Temporary {
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
    most: u64,
}

/// Of Parquet that is kept in memory.
const MEMORY_BYTES: usize = 8 << 20;

impl Temporary {
    fn new(most: u64) -> Temporary {
        Temporary {
            most,
            ..Temporary::default()
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        if self.length > self.most {
            return Err(too_large(format!(
                "Parquet that does not come as a file is kept on the disk, and this is more than {} bytes \
                 (maxTemporaryBytes); give its path",
                self.most
            )));
        }
        if self.file.is_none() && self.memory.len() + bytes.len() <= MEMORY_BYTES {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        let failed = |error: &std::io::Error| {
            Error::new(Code::ResourceExhausted, "a temporary file cannot be written")
                .caused_by(error)
                .during("decode")
        };
        let file = match &mut self.file {
            Some(file) => file,
            // It has no name, so nothing of it stays behind.
            None => self
                .file
                .insert(tempfile::tempfile().map_err(|error| failed(&error))?),
        };
        let memory = std::mem::take(&mut self.memory);
        file.write_all(&memory)
            .and_then(|()| file.write_all(bytes))
            .map_err(|error| failed(&error))
    }

    fn finish(self) -> Result<Seekable> {
        match self.file {
            None => Ok(Seekable::Bytes(self.memory.into())),
            Some(file) => {
                Seekable::file(file).map_err(|error| invalid("a temporary file is gone").caused_by(&error))
            }
        }
    }
}
