//! The end of an environment: `worker.terminate()`, `process.exit`, or just the end.
//!
//! After the hook returns, Node frees the memory of every ArrayBuffer. So the hook stops the client
//! and waits until no native thread reads memory that the environment owns. It is the one place
//! where the JavaScript thread waits for a native one; nothing that it waits for needs that thread.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use napi::sys;

use super::client::Core;

/// Longer than any copy of a batch takes. After it, going on is all that is left.
const LIMIT: Duration = Duration::from_secs(60);

/// Calls `Core::end` before the environment goes.
///
/// # Safety
/// `env` is live on the calling thread, its JavaScript thread.
pub unsafe fn watch(env: sys::napi_env, core: &Arc<Core>) {
    let argument = Arc::into_raw(core.clone()).cast_mut().cast::<c_void>();
    // SAFETY: `argument` stays counted until `on_end` or `unwatch` takes it back, whichever is first.
    unsafe { sys::napi_add_env_cleanup_hook(env, Some(on_end), argument) };
}

/// The client ended by itself.
///
/// # Safety
/// As for `watch`, which was called once before for this core, and whose hook has not run.
pub unsafe fn unwatch(env: sys::napi_env, core: &Arc<Core>) {
    let argument = Arc::as_ptr(core).cast_mut().cast::<c_void>();
    // SAFETY: the same function and argument as in `watch`; the count that `watch` leaked is given back.
    unsafe {
        sys::napi_remove_env_cleanup_hook(env, Some(on_end), argument);
        drop(Arc::from_raw(argument.cast_const().cast::<Core>()));
    }
}

unsafe extern "C" fn on_end(argument: *mut c_void) {
    // SAFETY: the count that `watch` leaked; Node runs a hook at most once.
    let core = unsafe { Arc::from_raw(argument.cast_const().cast::<Core>()) };
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| core.end(LIMIT)));
}
