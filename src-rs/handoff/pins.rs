//! Which JavaScript memory is held, and until when.
//!
//! Invariants:
//! - An `ArrayBuffer` that several pins name is counted once, for as long as any of them lives.
//! - A [`Pin`] is alive exactly as long as Rust may read the memory it names.
//! - When [`Pins::wait_until_empty`] says yes, every `on_release` has returned.
//!
//! It holds no JavaScript reference and knows of none: whoever made the pin keeps the reference under
//! the pin's id and drops it when `on_release` names that id.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts pinned memory by distinct `ArrayBuffer`, and bounds it.
pub struct Pins {
    max_bytes: usize,
    on_release: OnRelease,
    state: Mutex<State>,
    emptied: Condvar,
}

/// Told a pin's id, and the bytes that nobody holds any more now that it is gone.
pub type OnRelease = Box<dyn Fn(u64, usize) + Send + Sync>;

#[derive(Default)]
struct State {
    /// (address, length) of an `ArrayBuffer` → how many pins name it.
    regions: HashMap<(usize, usize), usize, BuildHasherDefault<AddressHasher>>,
    bytes: usize,
    peak_bytes: usize,
    /// Pins whose release has not returned yet.
    pins: usize,
}

impl State {
    /// Takes back one count of each. Returns the bytes that nobody names any more.
    fn uncount(&mut self, regions: &[(usize, usize)]) -> usize {
        let mut freed = 0;
        for region in regions {
            if let Some(pins) = self.regions.get_mut(region) {
                *pins -= 1;
                if *pins == 0 {
                    self.regions.remove(region);
                    freed += region.1;
                }
            }
        }
        freed
    }
}

/// Spreads addresses, which are nobody's to choose: the standard hasher's defence against chosen keys
/// would cost the JavaScript thread more than the rest of the count.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        // The table takes its bits from both ends, and addresses vary in the middle.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

impl Pins {
    /// `on_release` is called on whichever thread lets go of a pin last; it must not block.
    pub fn new(max_bytes: usize, on_release: OnRelease) -> Arc<Pins> {
        Arc::new(Pins {
            max_bytes,
            on_release,
            state: Mutex::default(),
            emptied: Condvar::new(),
        })
    }

    /// Counts the regions, (address, length in bytes) of whole `ArrayBuffer`s, as held by pin `id`.
    ///
    /// `None`, with nothing counted, when that would go over `max_bytes`: the caller copies instead.
    pub fn pin(self: &Arc<Self>, id: u64, mut regions: Vec<(usize, usize)>) -> Option<Arc<Pin>> {
        // An empty ArrayBuffer holds nothing, and many of them share one address.
        regions.retain(|(_, length)| *length > 0);
        let mut state = self.lock();
        let mut total = state.bytes;
        state.regions.reserve(regions.len());
        for (counted, region) in regions.iter().enumerate() {
            let pins = state.regions.entry(*region).or_insert(0);
            *pins += 1;
            if *pins > 1 {
                continue;
            }
            // A pin that adds nothing is let through even when the limit was lowered to nothing.
            match total.checked_add(region.1) {
                Some(sum) if sum <= self.max_bytes => total = sum,
                _ => {
                    state.uncount(&regions[..=counted]);
                    return None;
                }
            }
        }
        state.bytes = total;
        state.peak_bytes = state.peak_bytes.max(total);
        state.pins += 1;
        drop(state);
        Some(Arc::new(Pin {
            id,
            regions,
            pins: Arc::clone(self),
        }))
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The most bytes ever held at once.
    pub fn peak_bytes(&self) -> usize {
        self.lock().peak_bytes
    }

    /// Pins alive, or whose release is being told.
    pub fn count(&self) -> usize {
        self.lock().pins
    }

    /// Waits until no pin is left, at most `limit`; whether that came true.
    ///
    /// An environment that ends calls this last: memory of JavaScript is freed right after it.
    pub fn wait_until_empty(&self, limit: Duration) -> bool {
        // A limit beyond the clock is no limit.
        let until = Instant::now().checked_add(limit);
        let mut state = self.lock();
        while state.pins > 0 {
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return false;
            }
            state = self
                .emptied
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// JavaScript memory that stays where it is for as long as this lives.
pub struct Pin {
    id: u64,
    regions: Vec<(usize, usize)>,
    pins: Arc<Pins>,
}

impl Pin {
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let freed = {
            let mut state = self.pins.lock();
            let freed = state.uncount(&self.regions);
            state.bytes -= freed;
            freed
        };
        // Not under the lock, or a callback that asks for `bytes()` waits for itself. Caught, or a
        // panic would leave the count above zero and the clean-up hook waiting for nobody.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.pins.on_release)(self.id, freed)));
        self.pins.lock().pins -= 1;
        self.pins.emptied.notify_all();
    }
}
