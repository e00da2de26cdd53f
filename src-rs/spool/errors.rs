//! Errors of the disk below the spool → our codes; `specs/errors.md` has the table.
//!
//! Invariant: an error that the table does not name is `SPOOL_FAILED`.
//!
//! It does not decide whether a call is made again.

use std::io;
use std::path::Path;

use arrow::error::ArrowError;

use crate::error::{Code, Error};

/// An error of a call on this path.
pub fn of_io(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(code(error), format!("{what} {}: {error}", path.display())).during("spool")
}

/// An error of what writes Arrow files.
pub fn of_arrow(path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => of_io("cannot write", path, &error),
        error => Error::new(Code::Unsupported, format!("cannot write {}", path.display()))
            .caused_by(&error)
            .during("spool"),
    }
}

fn code(error: &io::Error) -> Code {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Code::SpoolFull,
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Code::PermissionDenied,
        Kind::NotADirectory
        | Kind::IsADirectory
        | Kind::AlreadyExists
        | Kind::InvalidFilename
        | Kind::InvalidInput => Code::ConfigInvalid,
        Kind::Unsupported => Code::Unsupported,
        _ => Code::SpoolFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_writer_of_arrow_files_says_is_the_disks_or_of_the_type() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = of_arrow(Path::new("a"), ArrowError::IoError("no".into(), full));
        assert_eq!(error.code(), Code::SpoolFull);
        let error = of_arrow(Path::new("a"), ArrowError::NotYetImplemented("that".into()));
        assert_eq!(error.code(), Code::Unsupported);
        for (kind, code) in [
            (io::ErrorKind::ReadOnlyFilesystem, Code::PermissionDenied),
            (io::ErrorKind::NotADirectory, Code::ConfigInvalid),
            (io::ErrorKind::Unsupported, Code::Unsupported),
            (io::ErrorKind::Other, Code::SpoolFailed),
        ] {
            assert_eq!(of_io("cannot read", Path::new("a"), &kind.into()).code(), code);
        }
    }
}
