//! Boundary to a WebAssembly host: converts, never decides. `specs/wasm.md` has what crosses.
//!
//! Invariants:
//! - The host gives bytes where this module says, and reads the answer where it says: no address comes from the host,
//!   so there is nothing to trust and no `unsafe`.
//! - A request is used up by its call, and an answer by the next request: nothing is left to free.
//! - Every request ends in an answer. A panic, also one for want of memory, is an error with a code: a trap would leave
//!   a module behind that nobody may use again.
//!
//! It has no clock, no thread and no import: it asks its host for nothing.

mod encoding;
mod envelope;
mod schemas;
mod settling;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use self::envelope::{Answer, Request};
use crate::error::{Code, Error, Result};

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Let go of when memory is out, so that there is enough to say so.
    static RESERVE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static IS_OUT_OF_MEMORY: Cell<bool> = const { Cell::new(false) };
}

const RESERVED: usize = 64 << 10;

/// Makes room for a request of so many bytes, and lets go of the answer before. Returns where to write it; 0 if there
/// is no memory for it.
#[unsafe(no_mangle)]
pub extern "C" fn arrow_ingest_input(length: usize) -> *mut u8 {
    survive_want_of_memory();
    OUTPUT.take();
    INPUT.take();
    let mut input = Vec::new();
    if !is_reserved() || input.try_reserve_exact(length.max(1)).is_err() {
        return std::ptr::null_mut();
    }
    input.resize(length, 0);
    INPUT.with_borrow_mut(|place| {
        *place = input;
        place.as_mut_ptr()
    })
}

/// Carries out the request that was written. Returns how many bytes the answer has.
#[unsafe(no_mangle)]
pub extern "C" fn arrow_ingest_call() -> usize {
    let answer = guarded(INPUT.take());
    OUTPUT.with_borrow_mut(|place| {
        *place = answer;
        place.len()
    })
}

/// Where the answer is, until the next request.
#[unsafe(no_mangle)]
pub extern "C" fn arrow_ingest_output() -> *const u8 {
    OUTPUT.with_borrow(Vec::as_ptr)
}

fn guarded(input: Vec<u8>) -> Vec<u8> {
    let done = catch_unwind(AssertUnwindSafe(|| answer(input)));
    if IS_OUT_OF_MEMORY.take() {
        let text = "there is no memory for it: send fewer rows at a time";
        return envelope::refusal(&Error::new(Code::ResourceExhausted, text));
    }
    done.unwrap_or_else(|_| {
        let text = "a panic of the module; the request was given up";
        envelope::refusal(&Error::new(Code::Internal, text))
    })
}

fn answer(input: Vec<u8>) -> Vec<u8> {
    match carried_out(input).and_then(Answer::into_bytes) {
        Ok(answer) => answer,
        Err(error) => envelope::refusal(&error),
    }
}

fn carried_out(input: Vec<u8>) -> Result<Answer> {
    let request = Request::parse(input)?;
    match request.operation() {
        "encode" => encoding::encode(request),
        "schema" => schemas::schema(request),
        "settle" => settling::settle(request),
        other => {
            let text = format!("there is no {other:?}: use encode, schema or settle");
            Err(Error::new(Code::ConfigInvalid, text))
        }
    }
}

/// Whether there is enough to say that there is not enough for more.
fn is_reserved() -> bool {
    RESERVE.with_borrow_mut(|reserve| reserve.try_reserve_exact(RESERVED).is_ok())
}

/// The standard library ends the program when memory is out, which is a trap. Its hook may panic instead; only
/// compilers that build the standard library, as `scripts/wasm.mjs` has them do, let anybody set it.
fn survive_want_of_memory() {
    #[cfg(alloc_error_hook)]
    std::alloc::set_alloc_error_hook(|_| {
        RESERVE.take();
        IS_OUT_OF_MEMORY.set(true);
        std::panic::panic_any("no memory");
    });
}

#[cfg(test)]
#[path = "../tests/rs/wasm.rs"]
mod tests;
