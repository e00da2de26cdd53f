//! Spools that this process has let go of, and whose writers still wait for the disk.
//!
//! Whoever opens such a spool waits a while. A close is answered after some seconds whatever the disk does, and without
//! this a slow disk made the next opening an error, although nobody used the spool any more.
//!
//! One that is opened by another path, through a link, is not waited for. It grows with writers that wait for a disk, and a writer leaves it as it ends.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static CLOSING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static CLOSED: Condvar = Condvar::new();

/// Nobody uses the spool any more.
pub fn begin(directory: &Path) {
    closing().push(directory.to_path_buf());
}

/// The spool is free again.
pub fn end(directory: &Path) {
    let mut closing = closing();
    if let Some(index) = closing.iter().position(|path| path == directory) {
        closing.swap_remove(index);
    }
    drop(closing);
    CLOSED.notify_all();
}

/// Waits while the spool is being closed, at most so long. Whether it is still being closed.
pub fn wait(directory: &Path, patience: Duration) -> bool {
    let is_closing = |closing: &mut Vec<PathBuf>| closing.iter().any(|path| path == directory);
    let waited = CLOSED.wait_timeout_while(closing(), patience, is_closing);
    waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
}

fn closing() -> MutexGuard<'static, Vec<PathBuf>> {
    // What is done under the lock does not panic half-way.
    CLOSING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Spool, SpoolOptions};
    use super::*;
    use crate::file_system::RealDisk;

    /// One that stayed would hold up each opening that meets somebody else's lock.
    #[test]
    fn a_spool_that_was_closed_or_dropped_is_not_being_closed_any_more() {
        let home = tempfile::tempdir().unwrap();
        let options = SpoolOptions::new(home.path(), "discard:");
        let directory = home.path().join("default");
        for is_dropped in [false, true] {
            let (spool, _) = Spool::open(Arc::new(RealDisk), &options).unwrap();
            assert!(!wait(&directory, Duration::ZERO));
            match is_dropped {
                true => drop(spool),
                false => spool.close(),
            }
            // Its writer ends without anybody who waits for it.
            assert!(!wait(&directory, Duration::from_secs(30)));
        }
        let (spool, _, writer) = Spool::open_undriven(Arc::new(RealDisk), &options).unwrap();
        drop(spool);
        assert!(wait(&directory, Duration::ZERO));
        drop(writer);
        assert!(!wait(&directory, Duration::ZERO));
    }
}
