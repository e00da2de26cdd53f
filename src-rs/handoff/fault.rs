//! What is wrong with a batch, on its way up from the array where it was found.
//!
//! Invariant: `row` is counted in the rows of the array that the fault has reached. Each parent turns
//! it into a row of its own before it hands the fault on, so that at the top it is a row of the batch.

use crate::error::{Code, Error};

#[derive(Debug)]
pub(super) struct BatchFault {
    code: Code,
    message: String,
    /// Innermost first.
    path: Vec<String>,
    row: Option<usize>,
}

impl BatchFault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        BatchFault {
            code: Code::BatchInvalid,
            message: message.into(),
            path: Vec::new(),
            row: None,
        }
    }

    pub(super) fn at(mut self, row: usize) -> Self {
        self.row = Some(row);
        self
    }

    /// The row in terms of the parent; `None` if no row of the parent shows it.
    pub(super) fn row_in_parent(mut self, map: impl FnOnce(usize) -> Option<usize>) -> Self {
        self.row = self.row.and_then(map);
        self
    }

    pub(super) fn within(mut self, field: &str) -> Self {
        self.path.push(field.to_string());
        self
    }
}

impl From<Error> for BatchFault {
    fn from(error: Error) -> Self {
        BatchFault {
            code: error.code(),
            message: error.message().to_string(),
            path: Vec::new(),
            row: None,
        }
    }
}

impl From<BatchFault> for Error {
    fn from(fault: BatchFault) -> Self {
        let path: Vec<&str> = fault.path.iter().rev().map(String::as_str).collect();
        let path = path.join(".");
        let mut message = String::new();
        if !path.is_empty() {
            message.push_str(&format!("column {path:?}"));
            if let Some(row) = fault.row {
                message.push_str(&format!(", row {row}"));
            }
            message.push_str(": ");
        }
        message.push_str(&fault.message);
        let mut error = Error::new(fault.code, message).during("handoff");
        if !path.is_empty() {
            error = error.in_field(path);
        }
        match fault.row {
            Some(row) => error.at_row(row as u64),
            None => error,
        }
    }
}
