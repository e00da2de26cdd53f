//! References to JavaScript values, one for each pin, made and deleted on their own thread.

use std::cell::RefCell;
use std::ptr;

use napi::sys;
use slab::Slab;

/// Places that stay ready while there is no reference.
const MAX_PLACES: usize = 4_096;

/// Only the JavaScript thread may touch them.
#[derive(Default)]
pub struct References {
    /// By the number of their pin. A number is given again once its reference is deleted.
    slab: RefCell<Slab<sys::napi_ref>>,
}

impl References {
    pub fn is_empty(&self) -> bool {
        self.slab.borrow().is_empty()
    }

    /// Keeps `value` alive until its pin is released. Returns the pin's id.
    ///
    /// # Safety
    /// `env` and `value` are live on the calling thread, the JavaScript thread of `env`.
    pub unsafe fn hold(&self, env: sys::napi_env, value: sys::napi_value) -> napi::Result<u64> {
        let mut reference = ptr::null_mut();
        // SAFETY: passed on to the caller.
        let status = unsafe { sys::napi_create_reference(env, value, 1, &mut reference) };
        if status != sys::Status::napi_ok {
            return Err(napi::Error::from_reason("a batch cannot be held"));
        }
        Ok(self.slab.borrow_mut().insert(reference) as u64)
    }

    /// Deletes the reference that `hold` made.
    ///
    /// # Safety
    /// `env` is live on the calling thread, its JavaScript thread.
    pub unsafe fn let_go(&self, env: sys::napi_env, id: u64) {
        let mut references = self.slab.borrow_mut();
        if let Some(reference) = references.try_remove(id as usize) {
            // SAFETY: the reference was made in this environment and is deleted once.
            unsafe { sys::napi_delete_reference(env, reference) };
        }
        // A crowd's places are not kept for ever.
        if references.is_empty() && references.capacity() > MAX_PLACES {
            *references = Slab::new();
        }
    }
}
