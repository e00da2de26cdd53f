//! What a stream of one schema looks like on the wire: the same for every stream of a session. Pure.
//!
//! Invariants:
//! - The same rows give the same messages, in whatever session and on whatever machine.
//! - A batch of another schema is refused: it would be read as if it were of this one.
//!
//! It opens nothing and sends nothing.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};

use super::dictionaries::{has_dictionary, has_direct_nesting, hydrated, hydrated_schema, is_joinable};
use super::encode::{Encoder, Message};
use super::plan::{Limits, MessagePart, MessagePlan, plan};
use crate::config::{Compression, FlightDictionaries, FlightOptions};
use crate::error::{Code, Error, Result};

/// How batches of one schema are sent.
pub struct WireFormat {
    schema: SchemaRef,
    /// The schema with values for dictionaries, if that is how they are sent.
    hydrated: Option<SchemaRef>,
    compression: Compression,
    limits: Limits,
}

impl WireFormat {
    /// `reserved`: bytes of each message that are kept for metadata of the application.
    ///
    /// # Errors
    /// `SCHEMA_MISMATCH` for what Arrow IPC cannot say.
    pub fn new(schema: SchemaRef, options: &FlightOptions, reserved: usize) -> Result<WireFormat> {
        let keep = options.dictionaries == FlightDictionaries::Keep;
        let fields = || schema.fields().iter().map(|field| field.data_type());
        if keep && fields().any(has_direct_nesting) {
            let text =
                "a dictionary of dictionaries cannot be sent as one: use flight.dictionaries \"hydrate\"";
            return Err(Error::new(Code::SchemaMismatch, text).during("open"));
        }
        Ok(WireFormat {
            hydrated: (!keep && fields().any(has_dictionary)).then(|| hydrated_schema(&schema)),
            compression: options.compression,
            limits: Limits {
                message: options.max_message_size - reserved,
                hydrate: !keep,
                join: fields().all(is_joinable),
            },
            schema,
        })
    }

    /// The schema that the server is told.
    pub fn sent_schema(&self) -> &SchemaRef {
        self.hydrated.as_ref().unwrap_or(&self.schema)
    }

    /// # Errors
    /// `SCHEMA_MISMATCH` for a batch of other columns than the stream's.
    pub fn check(&self, batch: &RecordBatch) -> Result<()> {
        if Arc::ptr_eq(batch.schema_ref(), &self.schema) {
            return Ok(());
        }
        let (given, wanted) = (batch.schema_ref().fields(), self.schema.fields());
        let same = |(given, wanted): (&FieldRef, &FieldRef)| {
            given.name() == wanted.name() && given.data_type() == wanted.data_type()
        };
        if given.len() == wanted.len() && given.iter().zip(wanted).all(same) {
            return Ok(());
        }
        let text = "the batch has other columns than the stream";
        Err(Error::new(Code::SchemaMismatch, text).during("write"))
    }

    /// As [`plan`].
    pub fn plan(&self, batches: &[RecordBatch], skip: usize) -> MessagePlan {
        plan(batches, skip, self.limits)
    }

    /// Whether making messages takes no time worth a thread of its own: nothing is compressed or looked up.
    pub fn is_cheap(&self) -> bool {
        self.compression == Compression::None && self.hydrated.is_none()
    }

    /// The messages of one part of a write.
    ///
    /// # Errors
    /// As [`messages`](Self::messages); `BATCH_INVALID` if Arrow cannot put the rows together.
    pub fn part(
        &self,
        encoder: &mut Encoder,
        batches: &[RecordBatch],
        part: &MessagePart,
        metadata: &[u8],
    ) -> Result<Vec<Message>> {
        if self.is_cheap()
            && part.is_joined()
            && let Some(message) = encoder.joined(&part.slices(batches), metadata)?
        {
            return Ok(vec![message]);
        }
        let batch = part.batch(batches, &self.schema)?;
        self.messages(encoder, &batch, metadata)
    }

    /// The messages of one batch, dictionaries that the server does not have before it.
    ///
    /// # Errors
    /// `BATCH_INVALID` for a dictionary that is larger than a message or does not resolve, or if something does not
    /// compress.
    pub fn messages(
        &self,
        encoder: &mut Encoder,
        batch: &RecordBatch,
        metadata: &[u8],
    ) -> Result<Vec<Message>> {
        let plain = match &self.hydrated {
            Some(schema) if batch.num_rows() > 0 => Some(hydrated(batch, schema).map_err(|error| {
                Error::new(Code::BatchInvalid, "a dictionary cannot be resolved")
                    .caused_by(&error)
                    .during("write")
            })?),
            _ => None,
        };
        let batch = plain.as_ref().unwrap_or(batch);
        let mut messages = encoder.dictionaries(batch)?;
        for message in &messages {
            if message.length > self.limits.message {
                let text = format!(
                    "a dictionary takes {} bytes, and a message at most {}: flight.dictionaries \"hydrate\" sends values instead",
                    message.length, self.limits.message
                );
                return Err(Error::new(Code::BatchInvalid, text).during("write"));
            }
        }
        messages.push(encoder.batch(batch, metadata)?);
        Ok(messages)
    }
}
