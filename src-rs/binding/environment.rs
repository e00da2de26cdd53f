//! The end of an environment: `worker.terminate()`, `process.exit`, or just the end.
//!
//! After the hook returns, Node frees the memory of every ArrayBuffer. So the hook stops the client
//! and waits until no native thread reads memory that the environment owns. It is the one place
//! where the JavaScript thread waits for a native one; nothing that it waits for needs that thread.

use std::ffi::c_void;
use std::sync::Arc;

use napi::sys;

/// What must not outlive its environment.
pub trait Ends: Send + Sync {
    /// Stops, and returns when no native thread reads memory that the environment owns.
    fn end(&self);
}

/// A hook that has not run: to be given back to [`unwatch`], at most once.
pub struct Hook(*mut c_void);

/// Calls [`Ends::end`] before the environment goes.
///
/// # Safety
/// `env` is live on the calling thread, its JavaScript thread.
pub unsafe fn watch(env: sys::napi_env, what: Arc<dyn Ends>) -> Hook {
    // Boxed, since a pointer to something `dyn` is two words and the hook's argument is one.
    let argument = Box::into_raw(Box::new(what)).cast::<c_void>();
    // SAFETY: the box stays until `on_end` or `unwatch` takes it back, whichever is first.
    unsafe { sys::napi_add_env_cleanup_hook(env, Some(on_end), argument) };
    Hook(argument)
}

/// It ended by itself.
///
/// # Safety
/// As for `watch`, which was called in this environment and gave this hook, and the hook has not run.
pub unsafe fn unwatch(env: sys::napi_env, hook: Hook) {
    // SAFETY: the same function and argument as in `watch`; the box that `watch` leaked is given back.
    unsafe {
        sys::napi_remove_env_cleanup_hook(env, Some(on_end), hook.0);
        drop(Box::from_raw(hook.0.cast::<Arc<dyn Ends>>()));
    }
}

unsafe extern "C" fn on_end(argument: *mut c_void) {
    // SAFETY: the box that `watch` leaked; Node runs a hook at most once.
    let what = unsafe { Box::from_raw(argument.cast::<Arc<dyn Ends>>()) };
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| what.end()));
}
