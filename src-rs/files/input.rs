//! The bytes of an input: pushed or read from a file, compressed or not.
//!
//! Invariants:
//! - Nothing waits: where pushed bytes have run out and more are to come, reading says so ([`Filled::Pending`]).
//! - Gzip and Zstandard are known by their first bytes, whatever a name says. Members and frames may follow one
//!   another. What breaks off, or follows the last one, is an error.
//! - What is decompressed is bounded by what was read, [`InputLimits::max_expansion`] times, beyond the first 16 MiB.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::error::{Code, Error, Result};

/// What may be decompressed from however little.
const FREE_EXPANSION: u64 = 16 << 20;
/// What one read asks for at least.
const READ_BYTES: usize = 256 << 10;

/// What an input may cost.
#[derive(Debug, Clone, Copy)]
pub struct InputLimits {
    /// Bytes of one line, one record of CSV or one element of an array.
    pub max_record_bytes: usize,
    /// Bytes out for each byte in.
    pub max_expansion: u64,
    /// Bytes of Parquet that are kept on the disk where they cannot be read in their place.
    pub max_temporary_bytes: u64,
}

/// Bytes that are pushed from another thread.
#[derive(Clone, Default)]
pub struct Queue(Arc<Mutex<Queued>>);

#[derive(Default)]
struct Queued {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
}

impl Queue {
    pub fn push(&self, bytes: Bytes) {
        let mut queued = self.lock();
        queued.bytes += bytes.len();
        queued.chunks.push_back(bytes);
    }

    /// How many wait to be read.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Nothing more is pushed.
    pub fn end(&self) {
        self.lock().ended = true;
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Queue {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut queued = self.lock();
        loop {
            let Some(chunk) = queued.chunks.front_mut() else {
                return match queued.ended {
                    true => Ok(0),
                    false => Err(ErrorKind::WouldBlock.into()),
                };
            };
            if chunk.is_empty() {
                queued.chunks.pop_front();
                continue;
            }
            let length = chunk.len().min(into.len());
            chunk.copy_to_slice(&mut into[..length]);
            queued.bytes -= length;
            return Ok(length);
        }
    }
}

/// Where bytes come from.
pub enum Source {
    Pushed(Queue),
    File(File),
}

/// Counts what is read, by all who look.
struct Raw {
    source: Source,
    /// Read ahead, to see what it is.
    head: Bytes,
    read: Arc<Mutex<u64>>,
}

impl Read for Raw {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.head.is_empty() {
            let length = self.head.len().min(into.len());
            self.head.copy_to_slice(&mut into[..length]);
            return Ok(length);
        }
        let length = match &mut self.source {
            Source::Pushed(queue) => queue.read(into)?,
            Source::File(file) => file.read(into)?,
        };
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) += length as u64;
        Ok(length)
    }
}

enum Stream {
    /// Nobody has seen enough of it.
    Unknown(Raw),
    Plain(Raw),
    Gzip(Box<MultiGzDecoder<BufReader<Raw>>>),
    Zstd(Box<ZstdDecoder<'static, BufReader<Raw>>>),
    /// Between two of these.
    Gone,
}

/// What a fill did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    More,
    /// What was pushed is read, and more is to come.
    Pending,
    Ended,
}

/// What was read and not yet taken.
pub struct InputWindow {
    stream: Stream,
    read: Arc<Mutex<u64>>,
    limits: InputLimits,
    buffer: Vec<u8>,
    start: usize,
    produced: u64,
    taken: u64,
    ended: bool,
}

impl InputWindow {
    pub fn new(source: Source, limits: InputLimits) -> InputWindow {
        let read = Arc::<Mutex<u64>>::default();
        InputWindow {
            stream: Stream::Unknown(Raw {
                source,
                head: Bytes::new(),
                read: read.clone(),
            }),
            read,
            limits,
            buffer: Vec::new(),
            start: 0,
            produced: 0,
            taken: 0,
            ended: false,
        }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    #[inline]
    pub fn take(&mut self, length: usize) {
        self.start += length;
        self.taken += length as u64;
    }

    /// Bytes that were taken, after decompression.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    pub fn limits(&self) -> &InputLimits {
        &self.limits
    }

    /// Bytes of the input that were read, as they are.
    pub fn read(&self) -> u64 {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_compressed(&self) -> bool {
        matches!(self.stream, Stream::Gzip(_) | Stream::Zstd(_))
    }

    /// The file, where bytes are read from one as they are.
    pub fn file(&self) -> Option<io::Result<File>> {
        match &self.stream {
            Stream::Plain(Raw {
                source: Source::File(file),
                ..
            }) => Some(file.try_clone()),
            _ => None,
        }
    }

    /// Reads some more behind what is there: as much as that at least, so that a record of whatever length is
    /// looked through a bounded number of times.
    ///
    /// # Errors
    /// `INPUT_INVALID`: it breaks off, or is no Gzip or Zstandard. `INPUT_TOO_LARGE`: it expands beyond the bound.
    pub fn fill(&mut self) -> Result<Filled> {
        if self.ended {
            return Ok(Filled::Ended);
        }
        if let Stream::Unknown(_) = self.stream
            && self.open()? == Filled::Pending
        {
            return Ok(Filled::Pending);
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES.max(length), 0);
        let into = &mut self.buffer[length..];
        let result = match &mut self.stream {
            Stream::Plain(raw) => raw.read(into),
            Stream::Gzip(decoder) => decoder.read(into),
            Stream::Zstd(decoder) => decoder.read(into),
            Stream::Unknown(_) | Stream::Gone => Ok(0),
        };
        self.buffer
            .truncate(length + result.as_ref().map_or(0, |read| *read));
        match result {
            Ok(0) => {
                self.ended = true;
                Ok(Filled::Ended)
            }
            Ok(more) => {
                self.produced += more as u64;
                self.check_expansion()?;
                Ok(Filled::More)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Filled::Pending),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Looks at the first bytes.
    fn open(&mut self) -> Result<Filled> {
        let Stream::Unknown(raw) = &mut self.stream else {
            return Ok(Filled::More);
        };
        while raw.head.len() < MARK {
            let mut head = raw.head.to_vec();
            let mut more = [0; MARK];
            // What was read ahead stands before what is read now.
            let ahead = std::mem::take(&mut raw.head);
            let result = raw.read(&mut more[..MARK - ahead.len()]);
            match result {
                Ok(0) => {
                    raw.head = ahead;
                    break;
                }
                Ok(length) => {
                    head.extend_from_slice(&more[..length]);
                    raw.head = head.into();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    raw.head = ahead;
                    return Ok(Filled::Pending);
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
        let Stream::Unknown(raw) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Ok(Filled::More);
        };
        self.stream = match &raw.head[..] {
            [0x1f, 0x8b, 8, ..] => Stream::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(
                READ_BYTES, raw,
            )))),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                let reader = BufReader::with_capacity(READ_BYTES, raw);
                let decoder = ZstdDecoder::with_buffer(reader).map_err(|error| self.failed(&error))?;
                Stream::Zstd(Box::new(decoder))
            }
            _ => Stream::Plain(raw),
        };
        Ok(Filled::More)
    }

    fn check_expansion(&self) -> Result<()> {
        if !self.is_compressed() {
            return Ok(());
        }
        let most = self
            .read()
            .saturating_mul(self.limits.max_expansion)
            .max(FREE_EXPANSION);
        if self.produced <= most {
            return Ok(());
        }
        Err(too_large(format!(
            "the input expands to more than {} times its size (maxExpansion)",
            self.limits.max_expansion
        )))
    }

    fn failed(&self, error: &io::Error) -> Error {
        let what = match self.stream {
            Stream::Gzip(_) => "the input is damaged Gzip, or breaks off",
            Stream::Zstd(_) => "the input is damaged Zstandard, or breaks off",
            _ => "the input cannot be read",
        };
        invalid(what).caused_by(error)
    }
}

/// As many bytes tell what an input is.
const MARK: usize = 4;

/// The bytes are not what they are said to be.
pub fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InputInvalid, message).during("decode")
}

/// A bound on what an input may cost is reached.
pub fn too_large(message: impl Into<String>) -> Error {
    Error::new(Code::InputTooLarge, message).during("decode")
}
