//! Counters that anybody may read at any time without waiting for anybody.
//!
//! The transmitter writes, `stats()` reads. Each number stands alone: two of them read together may
//! be from different moments.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Totals since the client was made, unless said otherwise.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }
    };
}

counters! {
    /// Deliveries admitted.
    deliveries_admitted,
    /// Deliveries settled, by status.
    deliveries_acknowledged,
    deliveries_partial,
    deliveries_failed,
    deliveries_unknown,
    deliveries_spooled,
    rows_admitted,
    rows_accepted,
    rows_rejected,
    bytes_admitted,
    bytes_accepted,
    /// Writes handed to the destination, replays included.
    writes_sent,
    writes_acknowledged,
    /// Writes and parts of writes refused for rows that were then looked for.
    writes_refused,
    /// Refused rows that are in the dead-letter directory.
    dead_letters_kept,
    /// Refused rows that could not be put there.
    dead_letters_failed,
    /// Dead-letter files that were removed to make room.
    dead_letter_files_removed,
    /// Dead-letter files that could not be read to their end and were set aside.
    dead_letter_files_damaged,
    /// Rows in capture files.
    capture_rows_written,
    /// Rows that were not recorded because too many waited for the disk.
    capture_rows_dropped,
    /// Rows that could not be recorded.
    capture_rows_failed,
    /// Capture files that were removed to make room, or for their age.
    capture_files_removed,
    /// Sessions opened, reconnects included.
    sessions_opened,
    /// Sessions that broke.
    sessions_broken,
    /// Sessions that ended because the destination asked for another one.
    sessions_rotated,
    /// Times that what a session left was tried again.
    retries,
    /// Those before which the destination asked for patience.
    pauses,
    /// Now: milliseconds before the next try, until a session is open again.
    retry_delay_ms,
    /// Now: 1 while somebody follows each write.
    followed,
    /// Now: deliveries that are being imported.
    arriving,
    /// Now: deliveries that are admitted and not settled.
    unsettled,
    /// Now: writes handed over and not acknowledged.
    window,
    /// Now: failures that still slow the pace down.
    strikes,
    /// Now: with a spool, 1 while its rows wait for a destination that fails.
    paused,
    /// With a spool: bytes that could not be read and were set aside.
    spool_damaged_bytes,
    /// Buffers that were copied because they were misaligned for their type.
    buffers_realigned,
    /// Buffers that were copied because too much memory was pinned.
    buffers_copied_for_pin_limit,
}

/// One number.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }
    pub fn sub(&self, amount: usize) {
        self.0.fetch_sub(amount as u64, Ordering::Relaxed);
    }
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
