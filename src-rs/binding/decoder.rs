//! The decoder object of `specs/boundary.md`: bytes and files of other formats → Arrow IPC.
//!
//! Steps run on the threads of libuv, as Node's own decompression does: they read local files, compute for some
//! milliseconds, and Node itself waits for those under way when an environment ends. What is pushed is copied at once,
//! and what is decoded is copied into memory that JavaScript has made: memory of ours behind an ArrayBuffer could not be
//! lent again, as Node ends the process when an environment with such a buffer goes that cannot be detached.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use napi::bindgen_prelude::{AsyncTask, Float64Array, Uint8Array};
use napi::{Env, Task};
use napi_derive::napi;
use serde_json::{Value, json};

use super::thrown;
use crate::error::{Code, Error, Result};
use crate::files::{CsvOptions, Decoded, Decoder, Format, InputLimits, Queue, Settings, Step};
use crate::handoff::{contained, decode_schema};

#[napi]
pub struct NativeDecoder {
    queue: Queue,
    place: Arc<Mutex<Place>>,
    /// Of the last part, until it is taken.
    ipc: Arc<Mutex<Vec<u8>>>,
}

/// A decoder, or what one is made of when it is first asked for something.
enum Place {
    Path(String, Box<Settings>, Option<SchemaRef>),
    Open(Box<Decoder>),
    Gone,
}

/// What came of a step. State: 0 a part, 1 more bytes are needed, 2 the same and rows wait, 3 nothing yet,
/// 4 the end, 5 a schema is wanted.
#[napi(object)]
pub struct DecodedStep {
    pub state: u32,
    pub rows: f64,
    /// Bytes of the input that were read so far.
    pub read: f64,
    /// Bytes of its Arrow IPC stream, to be taken.
    pub bytes: f64,
    /// Row and line, in turn.
    pub lines: Option<Float64Array>,
    /// JSON, if there are some.
    pub rejections: Option<String>,
}

#[napi]
impl NativeDecoder {
    /// Of the file at `path` in the options, which are JSON; without one, of bytes that are pushed.
    #[napi(constructor, catch_unwind)]
    pub fn new(options: String, schema: Option<&[u8]>) -> napi::Result<NativeDecoder> {
        let made = settings(&options).and_then(|(settings, path)| {
            let schema = schema.map(decode_schema).transpose()?;
            let queue = Queue::default();
            let place = match path {
                Some(path) => Place::Path(path, Box::new(settings), schema),
                None => Place::Open(Box::new(Decoder::of_queue(queue.clone(), settings, schema))),
            };
            let place = Arc::new(Mutex::new(place));
            let ipc = Arc::default();
            Ok(NativeDecoder { queue, place, ipc })
        });
        made.map_err(|error| thrown(&error))
    }

    /// Copies the bytes.
    #[napi(catch_unwind)]
    pub fn push(&self, bytes: &[u8]) {
        self.queue.push(Bytes::copy_from_slice(bytes));
    }

    /// Bytes that wait to be decoded.
    #[napi(catch_unwind)]
    pub fn queued(&self) -> f64 {
        self.queue.bytes() as f64
    }

    /// After a step has said that a schema is wanted: an Arrow IPC stream that holds one.
    #[napi(catch_unwind)]
    pub fn use_schema(&self, message: &[u8]) -> napi::Result<()> {
        let schema = decode_schema(message).map_err(|error| thrown(&error))?;
        if let Place::Open(decoder) = &mut *self.place.lock().unwrap_or_else(PoisonError::into_inner) {
            decoder.set_schema(schema);
        }
        Ok(())
    }

    /// Nothing more is pushed.
    #[napi(catch_unwind)]
    pub fn end(&self) {
        self.queue.end();
    }

    /// Decodes on. One at a time; with `cut`, rows that are there are given at once.
    #[napi(catch_unwind, ts_return_type = "Promise<DecodedStep>")]
    pub fn step(&self, cut: bool) -> AsyncTask<DecodeStep> {
        AsyncTask::new(DecodeStep {
            place: self.place.clone(),
            ipc: self.ipc.clone(),
            cut,
        })
    }

    /// Copies the part that the last step gave, before there is another step. Nobody else may use the memory until then.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn take(&self, into: Uint8Array) -> AsyncTask<TakePart> {
        let ipc = std::mem::take(&mut *self.ipc.lock().unwrap_or_else(PoisonError::into_inner));
        AsyncTask::new(TakePart { ipc, into })
    }
}

pub struct TakePart {
    ipc: Vec<u8>,
    into: Uint8Array,
}

impl Task for TakePart {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<()> {
        let ipc = std::mem::take(&mut self.ipc);
        // SAFETY: the task's reference keeps the memory; `src-ts/binding.ts` has made it for this call and shows it to
        // nobody before the call is answered, so nothing detaches or writes it.
        let into = unsafe { self.into.as_mut() };
        if into.len() != ipc.len() {
            return Err(thrown(
                &Error::new(Code::Internal, "the part has another length").during("decode"),
            ));
        }
        into.copy_from_slice(&ipc);
        Ok(())
    }

    fn resolve(&mut self, _env: Env, (): ()) -> napi::Result<()> {
        Ok(())
    }
}

pub struct DecodeStep {
    place: Arc<Mutex<Place>>,
    ipc: Arc<Mutex<Vec<u8>>>,
    cut: bool,
}

/// What crosses, before it does.
pub struct Stepped {
    state: u32,
    rows: usize,
    read: u64,
    bytes: usize,
    lines: Option<Vec<f64>>,
    rejections: Option<String>,
}

impl Task for DecodeStep {
    type Output = Stepped;
    type JsValue = DecodedStep;

    fn compute(&mut self) -> napi::Result<Stepped> {
        // A panic must not reach libuv, which would end the process.
        contained(|| self.run()).map_err(|error| thrown(&error))
    }

    fn resolve(&mut self, _env: Env, stepped: Stepped) -> napi::Result<DecodedStep> {
        Ok(DecodedStep {
            state: stepped.state,
            rows: stepped.rows as f64,
            read: stepped.read as f64,
            bytes: stepped.bytes as f64,
            lines: stepped.lines.map(Float64Array::from),
            rejections: stepped.rejections,
        })
    }
}

impl DecodeStep {
    fn run(&self) -> Result<Stepped> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Place::Path(..) = &*place
            && let Place::Path(path, settings, schema) = std::mem::replace(&mut *place, Place::Gone)
        {
            let file = File::open(&path).map_err(|error| {
                Error::new(Code::InputInvalid, format!("{path} cannot be read"))
                    .caused_by(&error)
                    .during("decode")
            })?;
            *place = Place::Open(Box::new(Decoder::of_file(file, *settings, schema)));
        }
        let Place::Open(decoder) = &mut *place else {
            return Ok(stepped(4, 0));
        };
        let step = decoder.step(self.cut)?;
        let read = decoder.read();
        drop(place);
        match step {
            Step::Part(decoded) => {
                let (stepped, ipc) = part(decoded, read)?;
                *self.ipc.lock().unwrap_or_else(PoisonError::into_inner) = ipc;
                Ok(stepped)
            }
            Step::Input { rows } => Ok(stepped(1 + u32::from(rows), read)),
            Step::Again => Ok(stepped(3, read)),
            Step::Done => Ok(stepped(4, read)),
            Step::SchemaWanted => Ok(stepped(5, read)),
        }
    }
}

fn stepped(state: u32, read: u64) -> Stepped {
    Stepped {
        state,
        rows: 0,
        read,
        bytes: 0,
        lines: None,
        rejections: None,
    }
}

fn part(decoded: Decoded, read: u64) -> Result<(Stepped, Vec<u8>)> {
    let failed = |error: arrow::error::ArrowError| {
        Error::new(Code::Internal, "decoded rows cannot be handed over")
            .caused_by(&error)
            .during("decode")
    };
    let bytes: usize = decoded
        .batches
        .iter()
        .map(|batch| batch.get_array_memory_size())
        .sum();
    // What comes beside the columns; one buffer that has to grow would be copied.
    let room = bytes + bytes / 64 + (64 << 10);
    let mut writer = StreamWriter::try_new(Vec::with_capacity(room), &decoded.schema).map_err(failed)?;
    for batch in &decoded.batches {
        writer.write(batch).map_err(failed)?;
    }
    let ipc = writer.into_inner().map_err(failed)?;
    let rejections = (!decoded.rejections.is_empty()).then(|| {
        let list: Vec<Value> = decoded
            .rejections
            .iter()
            .map(|one| json!({ "line": one.line, "row": one.row, "path": one.path, "code": one.code, "message": one.message }))
            .collect();
        Value::Array(list).to_string()
    });
    let lines = decoded
        .runs
        .iter()
        .flat_map(|(row, line)| [*row as f64, *line as f64]);
    let stepped = Stepped {
        state: 0,
        rows: decoded.rows,
        read,
        bytes: ipc.len(),
        lines: Some(lines.collect()),
        rejections,
    };
    Ok((stepped, ipc))
}

fn settings(options: &str) -> Result<(Settings, Option<String>)> {
    let malformed = || Error::new(Code::ConfigInvalid, "options of a decoder are malformed").during("decode");
    let options: Value = serde_json::from_str(options).map_err(|_| malformed())?;
    let count = |name: &str| options[name].as_u64().ok_or_else(malformed);
    let csv = CsvOptions {
        delimiter: u8::try_from(options["csv"]["delimiter"].as_u64().unwrap_or(44))
            .map_err(|_| malformed())?,
        header: options["csv"]["header"].as_bool().unwrap_or(true),
        nulls: match &options["csv"]["nulls"] {
            Value::Array(nulls) => nulls
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            _ => vec![String::new()],
        },
    };
    let format = |name: &str| match options[name].as_str() {
        None => Ok(None),
        Some("json") => Ok(Some(Format::Json)),
        Some("csv") => Ok(Some(Format::Csv(csv.clone()))),
        Some("parquet") => Ok(Some(Format::Parquet)),
        Some(_) => Err(malformed()),
    };
    let settings = Settings {
        format: format("format")?,
        fallback: format("fallback")?,
        batch_bytes: count("batchBytes")? as usize,
        drop_unknown: options["dropUnknown"].as_bool().unwrap_or(false),
        side_by_side: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
        limits: InputLimits {
            max_record_bytes: count("maxRecordBytes")? as usize,
            max_expansion: count("maxExpansion")?,
            max_temporary_bytes: count("maxTemporaryBytes")?,
        },
    };
    Ok((settings, options["path"].as_str().map(str::to_owned)))
}
