//! `discard:` validates, encodes, counts and throws away.
//!
//! For dry runs, and for load tests of a producer without a destination. Encoding is Arrow IPC, as for a server.
//!
//! Invariant: a write is acknowledged once it was encoded and its rows were counted.
//!
//! It keeps nothing, so it cannot say what landed.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use async_trait::async_trait;

use super::{
    Acknowledgement, Acknowledgements, Capabilities, Destination, Opened, Opening, Position, Session, Write,
};
use crate::error::{Code, Error, Result};

pub struct Discard;

impl Discard {
    /// # Errors
    /// `CONFIG_INVALID` if anything follows the colon: a path would be ignored without a word.
    pub fn new(target: &str) -> Result<Self> {
        match target.strip_prefix("discard:") {
            Some("") => Ok(Discard),
            _ => Err(Error::new(
                Code::ConfigInvalid,
                format!("{target:?}: discard: takes nothing after the colon"),
            )),
        }
    }
}

#[async_trait]
impl Destination for Discard {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "discard",
            tells_what_landed: false,
            refusals_are_atomic: false,
            joins: true,
        }
    }

    fn computes_on(&self, _: &Schema) -> bool {
        false
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn open(&self, opening: Opening) -> Result<Opened> {
        let session = DiscardSession {
            schema: opening.schema,
            acknowledgements: opening.acknowledgements,
        };
        Ok(Opened {
            session: Box::new(session),
            landed: Vec::new(),
            conclusive: true,
        })
    }
}

struct DiscardSession {
    schema: SchemaRef,
    acknowledgements: Acknowledgements,
}

#[async_trait]
impl Session for DiscardSession {
    async fn write(&mut self, write: Arc<Write>) -> Result<()> {
        let mut writer = StreamWriter::try_new(std::io::sink(), &self.schema).map_err(encoding)?;
        for batch in &write.batches {
            // The writer would encode it all the same, as bytes that no reader understands.
            if batch.schema() != self.schema {
                let text = "a batch is not of the session's schema";
                return Err(Error::new(Code::SchemaMismatch, text).during("write"));
            }
            writer.write(batch).map_err(encoding)?;
        }
        writer.finish().map_err(encoding)?;
        write.counted(write.batches.iter().map(RecordBatch::num_rows).sum())?;
        self.acknowledgements.send(Acknowledgement::Through {
            id: write.id,
            position: Position::None,
        });
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn encoding(error: arrow::error::ArrowError) -> Error {
    Error::new(Code::BatchInvalid, "the batch cannot be encoded")
        .caused_by(&error)
        .during("write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_encoded_is_the_fault_of_the_batch_and_says_why() {
        let cause = arrow::error::ArrowError::InvalidArgumentError("no such type".into());
        let error = encoding(cause);
        assert_eq!(error.code(), Code::BatchInvalid);
        assert!(error.causes()[0].contains("no such type"));
    }
}
