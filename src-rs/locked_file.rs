//! A file that is locked until it is let go of.
//!
//! Invariants:
//! - The lock ends with the value. Closing the file is not enough: a lock is the open file's, and a program that the
//!   process is starting has that file open, too, from its fork until its `exec`. Whoever came in that moment was told
//!   that somebody has the file.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;

#[derive(Debug)]
pub struct LockedFile(File);

impl LockedFile {
    /// None if somebody has it, this process included.
    ///
    /// # Errors
    /// What the file system says.
    pub fn try_lock(file: File) -> io::Result<Option<LockedFile>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(LockedFile(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl io::Write for LockedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Where it fails, closing the file is what is left to do.
        let _ = self.0.unlock();
    }
}
