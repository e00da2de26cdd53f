//! A clock of the system that is set by writing to a file: seconds by which it is ahead, eight bytes, of the machine's
//! order. Preloaded, it stands before libc's own in every program that asks libc for the time. `spool_clock.test.ts`
//! compiles it. Clocks that nobody sets are left as they are.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

const REALTIME: c_int = 0;
const REALTIME_COARSE: c_int = 5;

#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: c_long = 228;
#[cfg(target_arch = "aarch64")]
const CLOCK_GETTIME: c_long = 113;

#[repr(C)]
pub struct Time {
    seconds: i64,
    /// Nanoseconds or microseconds, as the call has them.
    parts: i64,
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn mmap(
        at: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
}

static AHEAD: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());
const READ: c_int = 1;
const SHARED: c_int = 1;

fn seconds_ahead() -> i64 {
    let mut ahead = AHEAD.load(Ordering::Acquire);
    if ahead.is_null() {
        // SAFETY: the name ends in a zero, and so does what the environment has.
        let path = unsafe { getenv(c"CLOCK_FILE".as_ptr()) };
        if path.is_null() {
            return 0;
        }
        // SAFETY: a path that ends in a zero; eight bytes of a file that has as many, never unmapped.
        ahead = unsafe { mmap(ptr::null_mut(), 8, READ, SHARED, open(path, 0), 0) }.cast();
        if ahead.addr() == usize::MAX {
            return 0;
        }
        AHEAD.store(ahead, Ordering::Release);
    }
    // SAFETY: the page stays mapped, and eight bytes at its beginning are aligned.
    unsafe { (*ahead).load(Ordering::Relaxed) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Time) -> c_int {
    // SAFETY: the caller's pointer, as libc takes it.
    let answer = unsafe { syscall(CLOCK_GETTIME, clock, time) };
    if answer == 0 && matches!(clock, REALTIME | REALTIME_COARSE) {
        // SAFETY: the call has written to it.
        unsafe { (*time).seconds += seconds_ahead() };
    }
    answer as c_int
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut Time, _zone: *mut c_void) -> c_int {
    // SAFETY: the caller's pointer, as libc takes it.
    let answer = unsafe { clock_gettime(REALTIME, time) };
    if answer == 0 {
        // SAFETY: the call has written to it.
        unsafe { (*time).parts /= 1_000 };
    }
    answer
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(seconds: *mut i64) -> i64 {
    let mut now = Time { seconds: 0, parts: 0 };
    // SAFETY: a place of ours.
    unsafe { clock_gettime(REALTIME, &raw mut now) };
    if !seconds.is_null() {
        // SAFETY: the caller's pointer, as libc takes it.
        unsafe { *seconds = now.seconds };
    }
    now.seconds
}
