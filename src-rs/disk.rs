//! Work that waits for a disk, for all clients of the process: making files, writing, syncing, deleting them.
//!
//! Invariants:
//! - At most [`THREADS`] tasks run at once; the others wait their turn, in order. So threads do not grow with
//!   clients, and a file system is not asked for more at once than helps: of eight syncs a journal makes one.
//! - A thread that idles ends after some seconds. None belongs to a client.
//! - No task waits for another task, or all threads could wait for each other.
//! - No task asks for the current runtime: these threads have one that nobody drives.
//! - JavaScript goes first: [`compute::go_last`].
//!
//! When the tasks of a disk that does not answer have taken all threads, every client that needs one waits. An opening
//! of a spool that waits for one which is being closed has a thread for up to five seconds.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use crate::compute::{self, Task};

pub const THREADS: usize = 8;

/// Begins a task as soon as there is a thread for it.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    Task::of(pool().spawn_blocking(work))
}

static POOL: OnceLock<Runtime> = OnceLock::new();

fn pool() -> &'static Runtime {
    POOL.get_or_init(|| {
        let mut builder = Builder::new_current_thread();
        builder.max_blocking_threads(THREADS);
        builder.thread_name("arrow-disk");
        builder.on_thread_start(compute::go_last);
        let built = builder.build();
        built.expect("a runtime without drivers asks the system for nothing")
    })
}
