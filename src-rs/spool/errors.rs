//! Errors of the disk below the spool → our codes; `specs/errors.md` has the table.
//!
//! Invariant: an error that the table does not name is `SPOOL_FAILED`.
//!
//! It does not decide whether a call is made again.

use std::io;
use std::path::Path;

use crate::error::{Code, Error};

/// An error of a call on this path.
pub fn of_io(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(code(error), format!("{what} {}: {error}", path.display())).during("spool")
}

fn code(error: &io::Error) -> Code {
    use io::ErrorKind as RecordKind;
    match error.kind() {
        RecordKind::StorageFull | RecordKind::QuotaExceeded | RecordKind::FileTooLarge => Code::SpoolFull,
        RecordKind::PermissionDenied | RecordKind::ReadOnlyFilesystem => Code::PermissionDenied,
        RecordKind::NotADirectory
        | RecordKind::IsADirectory
        | RecordKind::AlreadyExists
        | RecordKind::InvalidFilename
        | RecordKind::InvalidInput => Code::ConfigInvalid,
        RecordKind::Unsupported => Code::Unsupported,
        _ => Code::SpoolFailed,
    }
}
