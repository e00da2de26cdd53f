//! From native threads to the JavaScript thread: one hop delivers everything that is ready.
//!
//! Invariants:
//! - Posting never blocks and never fails; after the environment is gone it does nothing.
//! - At most one hop is on its way; it takes what was posted until it runs, but no more than a slice: a hundred
//!   thousand outcomes at once would hold up everything else on the JavaScript thread. The next slice is told when
//!   JavaScript asks for it, in a later turn of its event loop.
//! - A letter is written down by the thread that posts it, which is the one that has made it: what one thread
//!   allocates and another frees has them wait for each other's allocator, at the rate of small batches.
//! - References to JavaScript values are deleted here, on their own thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::sys;
use serde_json::{Value, json};
use slab::Slab;

use crate::callbacks::HeadersReason;
use crate::error::Error;
use crate::outcome::{Outcome, Position, Status};
use crate::transmitter::{Event, Log};

/// Pins let go of, and bytes of theirs, whose references may wait for a letter to go along with.
const MAX_RELEASED: usize = 256;
const MAX_BYTES: usize = 1 << 20;
/// Letters of a slice. JavaScript takes microseconds for each, more for one in words.
const MAX_LETTERS: usize = 1_024;
const MAX_DETAILS: usize = 512;
const MAX_DETAIL_BYTES: usize = 512 << 10;
/// Places for references that stay ready while there is none.
const MAX_PLACES: usize = 4_096;
/// An emptied list that is larger is not kept.
const SPARE_BYTES: usize = 256 << 10;

/// What waits for the JavaScript thread. Shared by all threads.
#[derive(Default)]
pub struct Mailbox {
    state: Mutex<State>,
    /// Whether pins were let go of whose references are not dropped yet; to be asked without the lock.
    has_released: AtomicBool,
}

#[derive(Default)]
struct State {
    function: Option<Function>,
    /// Or JavaScript has more to take and has not asked for it.
    hop_under_way: bool,
    /// In slices. The last one is written to.
    letters: VecDeque<Letters>,
    released_pins: Vec<u64>,
    /// JavaScript memory that only waits for their references to be dropped.
    released_bytes: usize,
    /// JavaScript waits for something, so a letter is to come.
    awaited: bool,
}

/// Letters as `specs/boundary.md` has them.
#[derive(Default)]
struct Letters {
    numbers: Vec<f64>,
    /// What the numbers refer to by index, each as JSON.
    details: Vec<String>,
    detail_bytes: usize,
    count: usize,
    /// How many of them JavaScript waits for.
    told: usize,
}

/// What JavaScript is told.
pub enum Letter {
    Transmitter(Event),
    Answered {
        operation: f64,
        error: Option<Error>,
    },
    HeadersWanted {
        request: u64,
        reason: HeadersReason,
    },
    RetryAsked {
        request: u64,
        error: Error,
    },
    /// An operation of an emulator, done.
    #[cfg(feature = "emulator")]
    Replied {
        operation: f64,
        value: Value,
    },
    /// An event of an emulator. Nobody waits for one.
    #[cfg(feature = "emulator")]
    Happened(Value),
}

/// A thread-safe function that is not finalized.
struct Function(sys::napi_threadsafe_function);

// SAFETY: Node documents calling a thread-safe function from any thread; it is reached only under the
// mailbox's lock, and `finalized` takes it out under the same lock before Node frees it.
unsafe impl Send for Function {}

/// What only the JavaScript thread may touch.
pub struct Desk {
    mailbox: Arc<Mailbox>,
    /// By the number of their pin. A number is given again once it was let go of.
    references: RefCell<Slab<sys::napi_ref>>,
    /// Deliveries, tickets and operations that JavaScript waits for.
    open: Cell<usize>,
    /// The client is done; what is left is to delete references.
    closing: Cell<bool>,
    /// Emptied lists, for what is posted next: growing them anew each time costs the threads that post.
    spare_numbers: Cell<Vec<f64>>,
    spare_pins: Cell<Vec<u64>>,
}

impl Mailbox {
    pub fn post(&self, letter: Letter) {
        // Not under the lock, which JavaScript's thread takes too: there may be a million refused rows.
        let detail = letter.detail();
        let mut state = self.lock();
        state.slice().write(&letter, detail);
        state.hop();
    }

    /// JavaScript has had a turn of its event loop since it was told that there is more.
    pub fn resume(&self) {
        let mut state = self.lock();
        state.hop_under_way = false;
        if state.letters.iter().any(|slice| slice.count > 0) {
            state.hop();
        }
    }

    /// Its reference goes with the next letter: a hop for each would cost the JavaScript thread more than
    /// taking the batch did. It does not wait where that would hold much memory, or where no letter is due.
    pub fn pin_released(&self, id: u64, freed_bytes: usize) {
        let mut state = self.lock();
        state.released_pins.push(id);
        self.has_released.store(true, Ordering::Relaxed);
        state.released_bytes += freed_bytes;
        if !state.awaited || state.released_pins.len() >= MAX_RELEASED || state.released_bytes >= MAX_BYTES {
            state.hop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Where the next letter is written.
    fn slice(&mut self) -> &mut Letters {
        if self.letters.back().is_none_or(Letters::is_full) {
            self.letters.push_back(Letters::default());
        }
        let last = self.letters.len() - 1;
        &mut self.letters[last]
    }

    fn hop(&mut self) {
        if self.hop_under_way {
            return;
        }
        let Some(Function(function)) = &self.function else {
            return;
        };
        // SAFETY: the function is not finalized, or it would have been taken out under this lock.
        let status = unsafe {
            sys::napi_call_threadsafe_function(
                *function,
                ptr::null_mut(),
                sys::ThreadsafeFunctionCallMode::nonblocking,
            )
        };
        if status == sys::Status::napi_ok {
            self.hop_under_way = true;
        } else {
            // Closing: Node forbids to use it again.
            self.function = None;
        }
    }
}

impl Desk {
    /// Makes the thread-safe function around `on_events`. Unreferenced: it keeps no process alive.
    ///
    /// # Safety
    /// `env` and `on_events` are live on the calling thread, which is the JavaScript thread of `env`.
    pub unsafe fn open(env: sys::napi_env, on_events: sys::napi_value) -> napi::Result<Rc<Desk>> {
        let desk = Rc::new(Desk {
            mailbox: Arc::default(),
            references: RefCell::default(),
            open: Cell::new(0),
            closing: Cell::new(false),
            spare_numbers: Cell::default(),
            spare_pins: Cell::default(),
        });
        let context = Rc::into_raw(desk.clone()).cast_mut().cast::<c_void>();
        let mut name = ptr::null_mut();
        let mut function = ptr::null_mut();
        // SAFETY: the pointers are live for the calls; `context` is given back in `finalized`, which
        // Node calls exactly once if and only if the creation succeeds.
        let status = unsafe {
            sys::napi_create_string_utf8(env, c"arrow-ingest".as_ptr(), 12, &mut name);
            sys::napi_create_threadsafe_function(
                env,
                on_events,
                ptr::null_mut(),
                name,
                0,
                1,
                ptr::null_mut(),
                Some(finalized),
                context,
                Some(on_hop),
                &mut function,
            )
        };
        if status != sys::Status::napi_ok {
            // SAFETY: `context` came from `Rc::into_raw` and nobody else will take it back.
            drop(unsafe { Rc::from_raw(context.cast_const().cast::<Desk>()) });
            return Err(napi::Error::from_reason("the event callback is not a function"));
        }
        // SAFETY: just created, on its own thread.
        unsafe { sys::napi_unref_threadsafe_function(env, function) };
        desk.mailbox.lock().function = Some(Function(function));
        Ok(desk)
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
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
        Ok(self.references.borrow_mut().insert(reference) as u64)
    }

    /// Lets go of what `hold` kept, on the JavaScript thread, when nothing was pinned after all.
    ///
    /// # Safety
    /// `env` is live on the calling thread, its JavaScript thread.
    pub unsafe fn let_go(&self, env: sys::napi_env, id: u64) {
        let mut references = self.references.borrow_mut();
        if let Some(reference) = references.try_remove(id as usize) {
            // SAFETY: the reference was made in this environment and is deleted once.
            unsafe { sys::napi_delete_reference(env, reference) };
        }
        // A crowd's places are not kept for ever.
        if references.is_empty() && references.capacity() > MAX_PLACES {
            *references = Slab::new();
        }
    }

    /// JavaScript waits for `count` more things: the process must not end before they are told.
    ///
    /// # Safety
    /// `env` is live on the calling thread, its JavaScript thread.
    pub unsafe fn expect(&self, env: sys::napi_env, count: usize) {
        let before = self.open.get();
        self.open.set(before + count);
        if before > 0 || count == 0 {
            return;
        }
        let mut state = self.mailbox.lock();
        state.awaited = true;
        if let Some(Function(function)) = &state.function {
            // SAFETY: not finalized (see `State::hop`), and this is its own thread.
            unsafe { sys::napi_ref_threadsafe_function(env, *function) };
        }
    }

    /// `count` things that JavaScript waited for were told, or given up.
    ///
    /// # Safety
    /// `env` is live on the calling thread, its JavaScript thread.
    pub unsafe fn fulfil(&self, env: sys::napi_env, count: usize) {
        let before = self.open.get();
        self.open.set(before.saturating_sub(count));
        if before == 0 || before > count {
            return;
        }
        {
            let mut state = self.mailbox.lock();
            state.awaited = false;
            if let Some(Function(function)) = &state.function {
                // SAFETY: as in `expect`.
                unsafe { sys::napi_unref_threadsafe_function(env, *function) };
            }
        }
        // What was let go of since the last letter was taken has none to go along with.
        self.delete_released(env);
    }

    /// The client is done: nothing more will be told. Node may free the function as soon as the last
    /// reference is deleted.
    ///
    /// # Safety
    /// `env` is live on the calling thread, its JavaScript thread.
    pub unsafe fn close(&self, env: sys::napi_env) {
        self.closing.set(true);
        self.delete_released(env);
        self.close_if_done();
    }

    fn close_if_done(&self) {
        if !self.closing.get() || !self.references.borrow().is_empty() {
            return;
        }
        let function = self.mailbox.lock().function.take();
        if let Some(Function(function)) = function {
            // SAFETY: taken out under the lock, so nobody calls it after this.
            unsafe {
                sys::napi_release_threadsafe_function(function, sys::ThreadsafeFunctionReleaseMode::abort);
            }
        }
    }

    /// Drops the references of pins that were let go of. A producer whose calls are admitted at once may
    /// never let a hop run, and the memory of all that it has sent would pile up.
    ///
    /// # Safety
    /// `env` is live on the calling thread, its JavaScript thread.
    pub unsafe fn tidy(&self, env: sys::napi_env) {
        if self.mailbox.has_released.load(Ordering::Relaxed) {
            self.delete_released(env);
        }
    }

    fn delete_released(&self, env: sys::napi_env) {
        let mut released = {
            let mut state = self.mailbox.lock();
            state.released_bytes = 0;
            self.mailbox.has_released.store(false, Ordering::Relaxed);
            std::mem::replace(&mut state.released_pins, self.spare_pins.take())
        };
        for id in released.drain(..) {
            // SAFETY: every caller is on the JavaScript thread of `env`.
            unsafe { self.let_go(env, id) };
        }
        keep(&self.spare_pins, released);
    }

    /// Everything that is ready, as one call's arguments.
    fn take(&self, env: sys::napi_env) -> (Vec<f64>, String) {
        let letters = {
            let mut state = self.mailbox.lock();
            let mut letters = state.letters.pop_front().unwrap_or_default();
            // A slice that nothing was written to is the one for the next letter.
            let more = state.letters.iter().any(|slice| slice.count > 0);
            if more {
                letters.numbers.extend([9.0, 2.0]);
            } else if state.letters.is_empty() {
                let numbers = self.spare_numbers.take();
                state.letters.push_back(Letters {
                    numbers,
                    ..Letters::default()
                });
            }
            state.hop_under_way = more;
            letters
        };
        self.delete_released(env);
        self.close_if_done();
        // SAFETY: the callers are on the JavaScript thread of `env`.
        unsafe { self.fulfil(env, letters.told) };
        let details = match letters.details.as_slice() {
            [] => String::new(),
            details => format!("[{}]", details.join(",")),
        };
        (letters.numbers, details)
    }
}

/// Empties a list and keeps it for the next time, unless a burst has made it huge.
fn keep<T>(spare: &Cell<Vec<T>>, mut list: Vec<T>) {
    list.clear();
    if size_of::<T>() * list.capacity() <= SPARE_BYTES {
        spare.set(list);
    }
}

impl Letter {
    /// What is told in words, beside the numbers, as JSON.
    fn detail(&self) -> Option<String> {
        match self {
            Letter::Transmitter(Event::Settled(outcome)) => {
                let has_any = outcome.error.is_some() || !outcome.rejections.is_empty();
                has_any.then(|| {
                    let error = outcome.error.as_ref().map(Error::to_json);
                    json!({ "error": error, "rejections": outcome.rejections }).to_string()
                })
            }
            Letter::Transmitter(Event::Log(Log {
                level,
                message,
                fields,
            })) => Some(json!({ "level": level, "message": message, "fields": fields }).to_string()),
            Letter::Answered { error, .. } => error.as_ref().map(|error| error.to_json().to_string()),
            Letter::RetryAsked { error, .. } => Some(error.to_json().to_string()),
            #[cfg(feature = "emulator")]
            Letter::Replied { value, .. } | Letter::Happened(value) => Some(value.to_string()),
            Letter::Transmitter(Event::Granted(_)) | Letter::HeadersWanted { .. } => None,
        }
    }
}

impl Letters {
    fn is_full(&self) -> bool {
        self.count >= MAX_LETTERS
            || self.details.len() >= MAX_DETAILS
            || self.detail_bytes >= MAX_DETAIL_BYTES
    }

    fn write(&mut self, letter: &Letter, detail: Option<String>) {
        self.count += 1;
        let index = match detail {
            None => -1.0,
            Some(detail) => {
                // Many that end together end for one reason, in the same words.
                if self.details.last() != Some(&detail) {
                    self.detail_bytes += detail.len();
                    self.details.push(detail);
                }
                (self.details.len() - 1) as f64
            }
        };
        match letter {
            Letter::Transmitter(Event::Settled(outcome)) => {
                self.told += 1;
                self.numbers.extend(settled(outcome, index));
            }
            // A granted ticket stays open until it is redeemed or cancelled.
            Letter::Transmitter(Event::Granted(ticket)) => self.numbers.extend([2.0, 3.0, *ticket as f64]),
            Letter::Transmitter(Event::Log(_)) => self.numbers.extend([4.0, 3.0, index]),
            Letter::Answered { operation, .. } => {
                self.told += 1;
                self.numbers.extend([3.0, 4.0, *operation, index]);
            }
            Letter::HeadersWanted { request, reason } => {
                let reason = match reason {
                    HeadersReason::Connect => 0.0,
                    HeadersReason::Unauthenticated => 1.0,
                };
                self.numbers.extend([5.0, 4.0, *request as f64, reason]);
            }
            Letter::RetryAsked { request, .. } => {
                self.numbers.extend([8.0, 4.0, *request as f64, index]);
            }
            #[cfg(feature = "emulator")]
            Letter::Replied { operation, .. } => {
                self.told += 1;
                self.numbers.extend([6.0, 4.0, *operation, index]);
            }
            #[cfg(feature = "emulator")]
            Letter::Happened(_) => self.numbers.extend([7.0, 3.0, index]),
        }
    }
}

fn settled(outcome: &Outcome, detail: f64) -> [f64; 24] {
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let (kind, position) = match outcome.position {
        Position::None => (0.0, 0.0),
        Position::Version(version) => (1.0, version as f64),
        Position::Offset(offset) => (2.0, offset as f64),
    };
    let status = match outcome.status {
        Status::Acknowledged => 0.0,
        Status::Partial => 1.0,
        Status::Failed => 2.0,
        Status::Unknown => 3.0,
    };
    [
        1.0,
        24.0,
        outcome.sequence as f64,
        status,
        outcome.rows as f64,
        outcome.accepted_rows as f64,
        outcome.rejections.len() as f64,
        f64::from(outcome.attempts),
        outcome.bytes as f64,
        outcome.buffers_copied_for_pin_limit as f64,
        outcome.buffers_realigned as f64,
        kind,
        position,
        ms(outcome.timings.handoff),
        ms(outcome.timings.queue),
        ms(outcome.timings.encode),
        ms(outcome.timings.transmit),
        ms(outcome.timings.acknowledge),
        ms(outcome.timings.latency),
        detail,
        f64::from(outcome.retries),
        f64::from(outcome.writes),
        f64::from(u8::from(outcome.payload_changed)),
        0.0,
    ]
}

/// Runs on the JavaScript thread for every hop.
unsafe extern "C" fn on_hop(
    env: sys::napi_env,
    on_events: sys::napi_value,
    context: *mut c_void,
    _data: *mut c_void,
) {
    // The environment is going; there is nobody to tell.
    if env.is_null() || on_events.is_null() {
        return;
    }
    let desk = context.cast_const().cast::<Desk>();
    // SAFETY: `context` is the desk that `open` leaked, alive until `finalized`. JavaScript is called below
    // and the desk used afterwards, so it is held here as well.
    let desk = unsafe {
        Rc::increment_strong_count(desk);
        Rc::from_raw(desk)
    };
    // A panic here would cross into C++.
    let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| desk.take(env)));
    let Ok((numbers, details)) = taken else { return };
    if !numbers.is_empty() {
        // SAFETY: `env` is live and this is its thread, inside a handle scope of Node's.
        unsafe { tell(env, on_events, &numbers, &details) };
    }
    keep(&desk.spare_numbers, numbers);
}

/// Calls `on_events` with the letters.
///
/// # Safety
/// `env` and `on_events` are live on the calling thread, which is the JavaScript thread of `env`.
unsafe fn tell(env: sys::napi_env, on_events: sys::napi_value, numbers: &[f64], details: &str) {
    // SAFETY: the caller's; `bytes` is what Node says the new ArrayBuffer has, and nobody else has seen it.
    unsafe {
        let size = size_of_val(numbers);
        let (mut bytes, mut buffer, mut array, mut text) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        if sys::napi_create_arraybuffer(env, size, &mut bytes, &mut buffer) != sys::Status::napi_ok {
            return;
        }
        ptr::copy_nonoverlapping(numbers.as_ptr().cast::<u8>(), bytes.cast::<u8>(), size);
        sys::napi_create_typedarray(
            env,
            sys::TypedarrayType::float64_array,
            numbers.len(),
            buffer,
            0,
            &mut array,
        );
        // Longer than a string of JavaScript may be (a row refused is a line, and there may be millions):
        // outcomes without their details are better than none, and than a value that is none.
        for details in [details, ""] {
            let length = details.len() as isize;
            if sys::napi_create_string_utf8(env, details.as_ptr().cast(), length, &mut text)
                == sys::Status::napi_ok
            {
                break;
            }
        }
        let mut this = ptr::null_mut();
        sys::napi_get_undefined(env, &mut this);
        if array.is_null() || text.is_null() || this.is_null() {
            return;
        }
        let arguments = [array, text];
        let status = sys::napi_call_function(env, this, on_events, 2, arguments.as_ptr(), ptr::null_mut());
        if status == sys::Status::napi_pending_exception {
            // Swallowed, it would leave promises pending without a word.
            let mut exception = ptr::null_mut();
            sys::napi_get_and_clear_last_exception(env, &mut exception);
            sys::napi_fatal_exception(env, exception);
        }
    }
}

/// Node frees the thread-safe function after this. Runs on the JavaScript thread.
unsafe extern "C" fn finalized(_env: sys::napi_env, _data: *mut c_void, context: *mut c_void) {
    // SAFETY: `open` leaked exactly one count of this desk, for this call, on this thread.
    let desk = unsafe { Rc::from_raw(context.cast_const().cast::<Desk>()) };
    desk.mailbox.lock().function = None;
}
