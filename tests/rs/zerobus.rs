//! What `specs/zerobus.md` promises of `zerobus:`, on the whole road through
//! the transmitter, against the emulator.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // In a test an unwrap is the assertion.

#[path = "support/mod.rs"]
mod harness;

#[path = "emulator/support.rs"]
#[allow(dead_code)]
mod emulated;

#[path = "zerobus/support.rs"]
mod support;

#[path = "zerobus/connecting.rs"]
mod connecting;
#[path = "zerobus/faults.rs"]
mod faults;
#[path = "zerobus/refusing.rs"]
mod refusing;
#[path = "zerobus/schemas.rs"]
mod schemas;
