//! Arrow record batches out of a process and into a table.
//!
//! In the order of the flow: a batch is handed over ([`handoff`]), admitted, batched, written and
//! retried ([`transmitter`]) to a [`destination`], and what became of each of its rows is folded
//! into an [`outcome`]. With a `spool` deliveries go to the disk first, and are sent from there.
//! `files` decodes bytes of other formats before they are handed over. [`config`] says how, [`error`] says what went wrong.
//!
//! Only `binding` knows of Node; `cargo test --no-default-features --features=client` builds without it. Without
//! `client` there is what needs no socket, no disk and no thread, and `wasm` around it.

// The build of WebAssembly has the standard library compiled too, which takes a compiler that allows both.
#![cfg_attr(alloc_error_hook, feature(alloc_error_hook))]

pub mod callbacks;
#[cfg(feature = "client")]
pub mod capture;
#[cfg(feature = "client")]
pub mod compute;
pub mod config;
#[cfg(feature = "client")]
pub mod counters;
#[cfg(feature = "client")]
pub mod dead_letter;
#[cfg(feature = "client")]
pub mod destination;
#[cfg(feature = "client")]
pub mod disk;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod error;
#[cfg(feature = "client")]
pub mod file_system;
#[cfg(feature = "client")]
pub mod files;
pub mod handoff;
pub mod instant;
#[cfg(feature = "client")]
pub mod locked_file;
pub mod outcome;
#[cfg(feature = "client")]
pub mod row_files;
#[cfg(feature = "client")]
pub mod spool;
pub mod trace;
#[cfg(feature = "client")]
pub mod transmitter;

#[cfg(feature = "node")]
mod binding;

// By macros: the measure of coverage takes files for unused that are declared below a `cfg` which is off.
macro_rules! without_client {
    ($($module:item)*) => { $(#[cfg(not(feature = "client"))] $module)* };
}
macro_rules! without_client_or_in_tests {
    ($module:item) => {
        #[cfg(any(test, not(feature = "client")))]
        $module
    };
}

// The same files without those above them, which open sockets and start tasks.
without_client! {
    pub mod destination {
        pub mod flight {
            pub mod arrays;
            pub mod chunks;
            pub mod dictionaries;
            pub mod encode;
            pub mod joined;
            pub mod outgoing;
            pub mod plan;
            pub mod views;
        }
        pub mod zerobus {
            pub mod limits;
            pub mod matching;
            pub mod normalise;
            pub mod types;
        }
        mod write;

        pub use write::{Write, counted};
    }
    pub mod transmitter {
        pub mod batch_slice;
        pub mod clock;
        pub mod rows;
        pub mod schema;
        pub mod writes {
            pub mod batcher;
            pub mod joining;
        }
    }
}

// Beside a client it would be of no use; but tests compile the crate once, and measure every file of it.
without_client_or_in_tests! {
    pub mod wasm;
}

// What the tests share says `arrow_ingest`, inside and outside.
#[cfg(test)]
extern crate self as arrow_ingest;
