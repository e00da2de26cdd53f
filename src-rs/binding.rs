//! BOUNDARY. All that knows of Node; converts, never decides.
//!
//! `specs/boundary.md` is the contract with `src-ts/binding.ts`. Invariants:
//! - No panic crosses: every entry catches unwinds.
//! - Nothing here waits on the JavaScript thread, but for the clean-up hook, which must.
//! - JavaScript values (references, the thread-safe function) are touched on their own thread only.

mod client;
mod decoder;
#[cfg(feature = "emulator")]
mod emulator;
mod environment;
mod event_queue;
mod events;
mod headers;
mod lines;
mod questions;
mod references;
mod retry;
mod schemas;
mod spool;
mod submit;

use std::future::Future;
use std::sync::OnceLock;

use napi_derive::napi;
use tokio::runtime::Runtime;

use crate::compute;
use crate::config::Config;
use crate::destination;
use crate::error::{Code, Error};

/// What this build is, as JSON: `{ version, arrow, delta, target }`.
#[napi(catch_unwind)]
#[cfg_attr(test, allow(dead_code))]
pub fn version() -> String {
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "arrow": arrow::ARROW_VERSION,
        "delta": deltalake_core::crate_version(),
        "target": format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
    })
    .to_string()
}

/// The options as they would be in force, as JSON: `{ options, issues, fault }`. `fault` is what is wrong with the
/// target, an error, or null; it is looked at where the options have no mistake. Nothing is reached for.
#[napi(catch_unwind)]
#[cfg_attr(test, allow(dead_code))]
pub fn explain_options(target: Option<String>, options: String) -> napi::Result<String> {
    let options = serde_json::from_str(&options)
        .map_err(|error| thrown(&Error::new(Code::ConfigInvalid, "options are no JSON").caused_by(&error)))?;
    let (facts, issues) = Config::explain(&options);
    let fault = match (target, Config::from_json(&options)) {
        (Some(target), Ok(config)) => destination::validate(&target, &config).err(),
        _ => None,
    };
    let fault = fault.map(|fault| fault.to_json());
    Ok(serde_json::json!({ "options": facts, "issues": issues, "fault": fault }).to_string())
}

/// The one runtime of the process, shared by all environments.
///
/// It is never shut down: `build.rs` sees to it that the library stays mapped, so its threads may
/// outlive the worker that started them.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        compute::dedicate_threads();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers(cores))
            .max_blocking_threads(BLOCKING)
            .thread_name("arrow-ingest")
            .enable_all()
            .build()
            .expect("the operating system gives no threads")
    })
}

/// Reads of local files and names that are looked up, for all clients; without a bound there would be a thread for
/// each client that reads its table's log. A task here may wait for another only if few of its kind run at
/// once: checkpoints do, two of them.
const BLOCKING: usize = 8;

/// A processor is left to JavaScript: see `specs/decisions/0006`.
fn workers(processors: usize) -> usize {
    processors.saturating_sub(1).clamp(1, 8)
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    runtime().spawn(task);
}

/// Errors cross as an `Error` whose message is the JSON of ours.
fn thrown(error: &Error) -> napi::Error {
    napi::Error::from_reason(error.to_json().to_string())
}

/// A value from JavaScript that is not what `specs/boundary.md` says.
fn malformed(message: impl Into<String>) -> Error {
    Error::new(Code::BatchInvalid, message).during("handoff")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_processor_is_left_to_javascript() {
        assert_eq!([1, 2, 3, 9, 64].map(super::workers), [1, 1, 2, 8, 8]);
    }
}
