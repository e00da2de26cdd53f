//! Work that keeps a processor busy, for all clients of the process: importing, casting, encoding.
//!
//! Invariants:
//! - Once [`dedicate_threads`] was called, at most as many tasks run at once as there are processors (and two
//!   where there is one); the others wait their turn, in order.
//! - No task waits, whether for a disk, a network or another task: a task that waited would hold up every client.
//!   Work that waits for a disk belongs to [`crate::disk`], other waiting to the runtime's own blocking threads.
//! - No task asks for the current runtime: these threads have one that nobody drives.
//! - JavaScript goes first: [`go_last`].
//! - A task that panics ends alone: its handle reports the panic.
//!
//! The runtime's blocking threads would do it as well, and do where no threads were dedicated. But of those
//! there is a new one whenever none is idle, and any of them may be next: the batches of a stream were cast on
//! eleven, on two processors, and memory was 20 to 30 MiB more (`specs/decisions/0005`).

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};

static THREADS: OnceLock<Runtime> = OnceLock::new();
/// Of two threads that want one processor the one with this gets a quarter.
#[cfg(target_os = "linux")]
const NICER: i32 = 5;

/// From here on the process has threads for such work, one a processor and two at least. A thread that idles ends after some
/// seconds, and comes back when it is needed.
pub fn dedicate_threads() {
    THREADS.get_or_init(|| {
        Builder::new_current_thread()
            // One is enough to stall everybody, where a library computes for long.
            .max_blocking_threads(thread::available_parallelism().map_or(2, usize::from).max(2))
            .thread_name("arrow-compute")
            .on_thread_start(go_last)
            .build()
            .expect("a runtime without drivers asks the system for nothing")
    });
}

/// Lowers the priority of the calling thread, where threads have one of their own (Linux): with as many threads
/// busy as there are processors, JavaScript waited behind them for 4 ms and more (`specs/decisions/0006`).
pub fn go_last() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpid, getpriority_process, setpriority_process};
        // The process is its first thread, and no process is the calling thread, here. Not what the thread has:
        // it may have that from one that goes last. A sandbox that refuses it costs some delay.
        if let Ok(first) = getpriority_process(Some(getpid())) {
            let _ = setpriority_process(None, (first + NICER).min(19));
        }
    }
}

/// Begins a task as soon as there is a thread for it.
///
/// # Panics
/// Outside of a runtime, where no threads were dedicated.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    Task::of(match THREADS.get() {
        Some(threads) => threads.spawn_blocking(work),
        None => tokio::task::spawn_blocking(work),
    })
}

/// Work that was asked for. Dropped, it is not done any more, unless it has begun: what a client that ended
/// has left in the queue must not hold up the others, nor hold its memory for longer than it takes to pass by.
pub struct Task<T>(JoinHandle<T>);

impl<T> Task<T> {
    pub(crate) fn of(handle: JoinHandle<T>) -> Task<T> {
        Task(handle)
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
