//! Work that keeps a processor busy, for all clients of the process: importing, casting, encoding.
//!
//! Invariants:
//! - Once [`dedicate_threads`] was called, at most as many pieces run at once as there are processors; the
//!   others wait their turn, in order.
//! - Nothing that runs here waits, whether for a disk, a network or another piece: one that did would hold
//!   up every client. What waits belongs on the runtime's own blocking threads.
//! - A piece that panics takes nothing with it: its handle says so.
//!
//! The runtime's blocking threads would do it as well, and do where no threads were dedicated. But of those
//! there is a new one whenever none is idle, and they take turns: a stream of batches went through fourteen,
//! and each kept what its allocations had ever come to, together half as much again as the batches.

use std::sync::OnceLock;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

static THREADS: OnceLock<Runtime> = OnceLock::new();

/// From here on the process has threads for such work, one a processor. A thread that idles ends after some
/// seconds, and comes back when it is needed.
pub fn dedicate_threads() {
    THREADS.get_or_init(|| {
        Builder::new_current_thread()
            // One is enough to stall everybody, where a library computes for long.
            .max_blocking_threads(thread::available_parallelism().map_or(2, usize::from).max(2))
            .thread_name("arrow-compute")
            .build()
            .expect("a runtime without drivers asks the system for nothing")
    });
}

/// Begins a piece of work as soon as there is a thread for it. Once begun it is not cancelled.
///
/// # Panics
/// Outside of a runtime, where no threads were dedicated.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match THREADS.get() {
        Some(threads) => threads.spawn_blocking(work),
        None => tokio::task::spawn_blocking(work),
    }
}
