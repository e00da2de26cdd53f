//! From native threads to the JavaScript thread: one hop delivers everything that is ready.
//!
//! Invariants:
//! - Posting never blocks and never fails; after the environment is gone it does nothing.
//! - At most one hop is on its way. A hop takes one block of events: a hundred thousand outcomes at once would hold
//!   up everything else on the JavaScript thread. JavaScript asks for the next block in a later turn of its event
//!   loop. So it does after small blocks that make a full one: Node goes on with hops that are posted while it is in
//!   one, up to a thousand, without a turn for anything else.
//! - The thread that posts an event writes it into the block. If one thread allocates and another frees, each waits
//!   for the other's allocator, at the rate of small batches.
//!
//! `events` has the layout of a block, `references` the JavaScript values that pins keep alive.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::sys;

use super::events::{EventBlock, JsEvent};
use super::references::References;

/// Pins let go of, and bytes of theirs, whose references may wait for an event to go along with.
const MAX_RELEASED: usize = 256;
const MAX_BYTES: usize = 1 << 20;
/// Events of a block that may wait for another one to go along with.
const MAX_WAITING: usize = 256;
/// An emptied list that is larger is not kept.
const SPARE_BYTES: usize = 256 << 10;

/// What waits for the JavaScript thread. Shared by all threads.
#[derive(Default)]
pub struct EventQueue {
    state: Mutex<State>,
    /// Whether pins were let go of whose references are not dropped yet; to be asked without the lock.
    has_released: AtomicBool,
}

#[derive(Default)]
struct State {
    function: Option<Function>,
    /// Or JavaScript was told that there is more, and has not asked for it.
    hop_under_way: bool,
    /// Blocks that JavaScript was given since it last asked for more, by their [`share`](EventBlock::share).
    given: f64,
    /// A hop is to follow as soon as JavaScript has asked for more.
    wanted: bool,
    /// The next event is written to the last one.
    blocks: VecDeque<EventBlock>,
    released_pins: Vec<u64>,
    /// JavaScript memory that only waits for their references to be dropped.
    released_bytes: usize,
    /// JavaScript waits for something, so an event is to come that others can go along with.
    awaited: bool,
}

/// A thread-safe function that is not finalized.
struct Function(sys::napi_threadsafe_function);

// SAFETY: Node documents calling a thread-safe function from any thread; it is reached only under the
// queue's lock, and `finalized` takes it out under the same lock before Node frees it.
unsafe impl Send for Function {}

/// What only the JavaScript thread may touch.
pub struct EventReceiver {
    queue: Arc<EventQueue>,
    references: References,
    /// Deliveries, tickets and operations that JavaScript waits for.
    open: Cell<usize>,
    /// The client is done; what is left is to delete references.
    closing: Cell<bool>,
    /// Emptied lists, for what is posted next: growing them anew each time costs the threads that post.
    spare_numbers: Cell<Vec<f64>>,
    spare_pins: Cell<Vec<u64>>,
}

impl EventQueue {
    pub fn post(&self, event: JsEvent) {
        // Not under the lock, which JavaScript's thread takes too: there may be a million refused rows.
        let detail = event.detail();
        let mut state = self.lock();
        let waits = event.can_wait() && state.awaited;
        let block = state.block();
        block.write(&event, detail);
        // A hop for each fact of a write would cost the JavaScript thread more than a batch of a megabyte does.
        if !waits || block.count() >= MAX_WAITING {
            state.hop();
        }
    }

    /// JavaScript has had a turn of its event loop since the event *more*.
    pub fn resume(&self) {
        let mut state = self.lock();
        state.hop_under_way = false;
        state.given = 0.0;
        if std::mem::take(&mut state.wanted) {
            state.hop();
        }
    }

    /// Its reference goes with the next event: a hop for each would cost the JavaScript thread more than
    /// taking the batch did. It does not wait where that would hold much memory, or where no event is due.
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
    /// Where the next event is written.
    fn block(&mut self) -> &mut EventBlock {
        if self.blocks.back().is_none_or(EventBlock::is_full) {
            self.blocks.push_back(EventBlock::default());
        }
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    fn hop(&mut self) {
        if self.hop_under_way {
            self.wanted = true;
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

impl EventReceiver {
    /// Makes the thread-safe function around `on_events`. Unreferenced: it keeps no process alive.
    ///
    /// # Safety
    /// `env` and `on_events` are live on the calling thread, which is the JavaScript thread of `env`.
    pub unsafe fn open(env: sys::napi_env, on_events: sys::napi_value) -> napi::Result<Rc<EventReceiver>> {
        let receiver = Rc::new(EventReceiver {
            queue: Arc::default(),
            references: References::default(),
            open: Cell::new(0),
            closing: Cell::new(false),
            spare_numbers: Cell::default(),
            spare_pins: Cell::default(),
        });
        let context = Rc::into_raw(receiver.clone()).cast_mut().cast::<c_void>();
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
            drop(unsafe { Rc::from_raw(context.cast_const().cast::<EventReceiver>()) });
            return Err(napi::Error::from_reason("the event callback is not a function"));
        }
        // SAFETY: just created, on its own thread.
        unsafe { sys::napi_unref_threadsafe_function(env, function) };
        receiver.queue.lock().function = Some(Function(function));
        Ok(receiver)
    }

    pub fn queue(&self) -> &Arc<EventQueue> {
        &self.queue
    }

    pub fn references(&self) -> &References {
        &self.references
    }

    /// JavaScript waits for `count` more things: the process must not end before their events.
    ///
    /// # Safety
    /// `env` is live on the calling thread, its JavaScript thread.
    pub unsafe fn expect(&self, env: sys::napi_env, count: usize) {
        let before = self.open.get();
        self.open.set(before + count);
        if before > 0 || count == 0 {
            return;
        }
        let mut state = self.queue.lock();
        state.awaited = true;
        if let Some(Function(function)) = &state.function {
            // SAFETY: not finalized (see `State::hop`), and this is its own thread.
            unsafe { sys::napi_ref_threadsafe_function(env, *function) };
        }
    }

    /// JavaScript no longer waits for `count` things: it has their events, or gave up.
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
            let mut state = self.queue.lock();
            state.awaited = false;
            // What was posted since the last event was taken, to go along with the next one, has none to come.
            if state.blocks.iter().any(|block| !block.is_empty()) {
                state.hop();
            }
            if let Some(Function(function)) = &state.function {
                // SAFETY: as in `expect`.
                unsafe { sys::napi_unref_threadsafe_function(env, *function) };
            }
        }
        // What was let go of since the last event was taken has none to go along with.
        self.delete_released(env);
    }

    /// The client is done: no event follows. Node may free the function as soon as the last
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
        if !self.closing.get() || !self.references.is_empty() {
            return;
        }
        let function = self.queue.lock().function.take();
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
        if self.queue.has_released.load(Ordering::Relaxed) {
            self.delete_released(env);
        }
    }

    fn delete_released(&self, env: sys::napi_env) {
        let mut released = {
            let mut state = self.queue.lock();
            state.released_bytes = 0;
            self.queue.has_released.store(false, Ordering::Relaxed);
            std::mem::replace(&mut state.released_pins, self.spare_pins.take())
        };
        for id in released.drain(..) {
            // SAFETY: every caller is on the JavaScript thread of `env`.
            unsafe { self.references.let_go(env, id) };
        }
        keep(&self.spare_pins, released);
    }

    /// Everything that is ready, as one call's arguments.
    fn take(&self, env: sys::napi_env) -> (Vec<f64>, String) {
        let events = {
            let mut state = self.queue.lock();
            let mut events = state.blocks.pop_front().unwrap_or_default();
            state.given += events.share();
            // A block that nothing was written to is the one for the next event.
            let has_more = state.blocks.iter().any(|block| !block.is_empty());
            let more = has_more || state.given >= 1.0;
            if more {
                events.say_more();
            }
            if state.blocks.is_empty() {
                state
                    .blocks
                    .push_back(EventBlock::reusing(self.spare_numbers.take()));
            }
            state.hop_under_way = more;
            state.wanted = has_more;
            events
        };
        self.delete_released(env);
        self.close_if_done();
        // SAFETY: the callers are on the JavaScript thread of `env`.
        unsafe { self.fulfil(env, events.awaited()) };
        events.into_arguments()
    }
}

/// Empties a list and keeps it for the next time, unless a burst has made it huge.
fn keep<T>(spare: &Cell<Vec<T>>, mut list: Vec<T>) {
    list.clear();
    if size_of::<T>() * list.capacity() <= SPARE_BYTES {
        spare.set(list);
    }
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
    let receiver = context.cast_const().cast::<EventReceiver>();
    // SAFETY: `context` is the receiver that `open` leaked, alive until `finalized`. JavaScript is called below
    // and the receiver used afterwards, so it is held here as well.
    let receiver = unsafe {
        Rc::increment_strong_count(receiver);
        Rc::from_raw(receiver)
    };
    // A panic here would cross into C++.
    let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| receiver.take(env)));
    let Ok((numbers, details)) = taken else { return };
    if !numbers.is_empty() {
        // SAFETY: `env` is live and this is its thread, inside a handle scope of Node's.
        let is_told = unsafe { tell(env, on_events, &numbers, &details) };
        if !is_told {
            // JavaScript does not know that it is to ask for more.
            receiver.queue.resume();
        }
    }
    keep(&receiver.spare_numbers, numbers);
}

/// Calls `on_events` with the events. False if there is no memory for them.
///
/// # Safety
/// `env` and `on_events` are live on the calling thread, which is the JavaScript thread of `env`.
unsafe fn tell(env: sys::napi_env, on_events: sys::napi_value, numbers: &[f64], details: &str) -> bool {
    // SAFETY: the caller's; `bytes` is what Node says the new ArrayBuffer has, and nobody else has seen it.
    unsafe {
        let size = size_of_val(numbers);
        let (mut bytes, mut buffer, mut array, mut text) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        if sys::napi_create_arraybuffer(env, size, &mut bytes, &mut buffer) != sys::Status::napi_ok {
            return false;
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
            return false;
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
    true
}

/// Node frees the thread-safe function after this. Runs on the JavaScript thread.
unsafe extern "C" fn finalized(_env: sys::napi_env, _data: *mut c_void, context: *mut c_void) {
    // SAFETY: `open` leaked exactly one count of this receiver, for this call, on this thread.
    let receiver = unsafe { Rc::from_raw(context.cast_const().cast::<EventReceiver>()) };
    receiver.queue.lock().function = None;
}
