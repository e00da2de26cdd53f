//! Requests and answers as bytes: the length of a head (32 bits, little-endian), the head as JSON, and bytes in parts
//! whose lengths the head says.
//!
//! Invariants:
//! - Every length is checked before it is used.
//! - The bytes of a request are copied by nobody here: parts are slices of them.

use arrow::buffer::Buffer;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};

/// Of a head, in bytes: lengths and options, never rows.
const LONGEST_HEAD: usize = 4 << 20;

/// Of a request: each has a place in the answer, which a few bytes of a head must not make large.
const MOST_DELIVERIES: usize = 65_536;

/// # Errors
/// `CONFIG_INVALID` for more deliveries than a request may have.
pub fn check_deliveries(count: usize) -> Result<()> {
    if count <= MOST_DELIVERIES {
        return Ok(());
    }
    let text = format!("{count} deliveries, and a request has at most {MOST_DELIVERIES}");
    Err(Error::new(Code::ConfigInvalid, text).in_field("deliveries"))
}

pub struct Request {
    head: Map<String, Value>,
    operation: String,
    parts: Buffer,
}

impl Request {
    /// # Errors
    /// `INPUT_INVALID` for bytes that are no request.
    pub fn parse(input: Vec<u8>) -> Result<Request> {
        let bytes = Buffer::from_vec(input);
        let (length, rest) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| broken("has no length of a head"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > LONGEST_HEAD {
            return Err(broken("has a head of more than 4 MiB"));
        }
        let head = rest
            .get(..length)
            .ok_or_else(|| broken("breaks off in its head"))?;
        let mut head: Map<String, Value> = serde_json::from_slice(head)
            .map_err(|error| broken("has a head that is no object of JSON").caused_by(&error))?;
        let operation = match head.remove("do") {
            Some(Value::String(operation)) => operation,
            _ => return Err(broken("does not say what to \"do\"")),
        };
        let parts = bytes.slice(4 + length);
        Ok(Request {
            head,
            operation,
            parts,
        })
    }

    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The head as `T` knows it, and the bytes after it.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for a head of another shape.
    pub fn read<T: DeserializeOwned>(self) -> Result<(T, Parts)> {
        let head = serde_json::from_value(Value::Object(self.head)).map_err(|error| {
            let text = format!("the head of {:?}: {error}", self.operation);
            Error::new(Code::ConfigInvalid, text)
        })?;
        Ok((head, Parts(self.parts)))
    }
}

/// The bytes after the head, taken from the front.
pub struct Parts(Buffer);

impl Parts {
    /// # Errors
    /// `INPUT_INVALID` if there are fewer.
    pub fn take(&mut self, length: usize) -> Result<Buffer> {
        if length > self.0.len() {
            return Err(broken("has fewer bytes than its head says"));
        }
        let part = self.0.slice_with_length(0, length);
        self.0 = self.0.slice(length);
        Ok(part)
    }

    /// # Errors
    /// `INPUT_INVALID` if bytes are left.
    pub fn end(&self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(broken(&format!("has {left} bytes that its head does not name"))),
        }
    }
}

fn broken(what: &str) -> Error {
    Error::new(Code::InputInvalid, format!("the request {what}"))
}

#[derive(Default)]
pub struct Answer {
    pub head: Map<String, Value>,
    pub parts: Vec<bytes::Bytes>,
}

impl Answer {
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is no memory for them.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        written(&self.head, &self.parts)
    }
}

/// The answer that says why there is none.
pub fn refusal(error: &Error) -> Vec<u8> {
    let mut head = Map::new();
    head.insert("error".into(), error.to_json());
    written(&head, &[]).unwrap_or_default()
}

fn written(head: &Map<String, Value>, parts: &[bytes::Bytes]) -> Result<Vec<u8>> {
    let head = serde_json::to_vec(head)
        .map_err(|error| Error::new(Code::Internal, "the answer is no JSON").caused_by(&error))?;
    let length = parts
        .iter()
        .map(|part| part.len())
        .fold(4 + head.len(), usize::saturating_add);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| {
        let text = format!("there is no memory for an answer of {length} bytes");
        Error::new(Code::ResourceExhausted, text)
    })?;
    bytes.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&head);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}
