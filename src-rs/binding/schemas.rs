//! Schemas by number: what `registerSchema` gives, and `forgetSchema` takes back.
//!
//! Invariants:
//! - Whoever registers a schema that is known gets the object that is known, so that batches of it are recognised
//!   by pointer. It is forgotten when as many have forgotten it as have registered it.
//! - Registering and looking up take the same time however many there are.
//!
//! A schema goes to JavaScript as an IPC stream that holds just that, as it came from there ([`message`]).
//!
//! It bounds nothing: the packer in `src-ts/handoff.ts` does, which alone knows which are used.

use std::collections::HashMap;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use slab::Slab;

use crate::error::{Code, Error, Result};

#[derive(Default)]
pub struct Schemas {
    known: Slab<Known>,
    numbers: HashMap<SchemaRef, usize>,
}

struct Known {
    schema: SchemaRef,
    users: usize,
}

impl Schemas {
    pub fn register(&mut self, schema: SchemaRef) -> usize {
        if let Some(number) = self.numbers.get(&schema) {
            self.known[*number].users += 1;
            return *number;
        }
        let number = self.known.insert(Known {
            schema: schema.clone(),
            users: 1,
        });
        self.numbers.insert(schema, number);
        number
    }

    pub fn get(&self, number: usize) -> Option<&SchemaRef> {
        self.known.get(number).map(|known| &known.schema)
    }

    /// What is not known is forgotten already.
    pub fn forget(&mut self, number: usize) {
        let Some(known) = self.known.get_mut(number) else {
            return;
        };
        known.users -= 1;
        if known.users == 0 {
            let Known { schema, .. } = self.known.remove(number);
            self.numbers.remove(&schema);
        }
    }
}

/// An IPC stream that holds just a schema.
///
/// # Errors
/// `UNSUPPORTED`: a type that cannot be written.
pub fn message(schema: &Schema) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(unwritable)?;
    writer.finish().map_err(unwritable)?;
    writer.into_inner().map_err(unwritable)
}

fn unwritable(error: arrow::error::ArrowError) -> Error {
    Error::new(Code::Unsupported, "the table's schema cannot be told")
        .caused_by(&error)
        .during("schema")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn named(name: &str) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(name, DataType::Int32, true)]))
    }

    #[test]
    fn a_schema_is_one_object_until_all_who_registered_it_have_forgotten_it() {
        let mut schemas = Schemas::default();
        let (a, b) = (schemas.register(named("a")), schemas.register(named("b")));
        assert_eq!(schemas.register(named("a")), a);
        assert_ne!(a, b);
        let first = schemas.get(a).cloned().unwrap();
        schemas.forget(a);
        assert!(Arc::ptr_eq(schemas.get(a).unwrap(), &first));
        schemas.forget(a);
        assert!(schemas.get(a).is_none());
        schemas.forget(a);
        schemas.forget(usize::MAX);
        let again = schemas.register(named("a"));
        assert!(!Arc::ptr_eq(schemas.get(again).unwrap(), &first));
        assert_eq!(schemas.get(b).unwrap(), &named("b"));
        assert_eq!((schemas.known.len(), schemas.numbers.len()), (2, 2));
    }

    #[test]
    fn a_schema_that_is_told_is_the_same_and_one_that_cannot_be_is_unsupported() {
        let bytes = message(&named("a")).unwrap();
        assert_eq!(crate::handoff::decode_schema(&bytes).unwrap(), named("a"));
        let error = unwritable(arrow::error::ArrowError::NotYetImplemented("that".into()));
        assert_eq!(error.code(), Code::Unsupported);
        assert_eq!(error.causes().len(), 1);
    }
}
