//! Foreign buffers → record batches.
//!
//! A batch crosses as a [`HandoffBatch`]: either flat buffers, [`ColumnBuffers`], which become the structs of the
//! Arrow C data interface and are imported through them, or IPC bytes, [`IpcBytes`]. Both end as
//! arrow-rs record batches. Invariants:
//! - JavaScript may write to pinned memory at any moment. Whatever a reader follows (validity,
//!   offsets, views, type ids, keys) is copied first, and the copies are checked in full.
//! - Payload stays where it is only for destinations that merely move bytes ([`PayloadUse::Moved`]).
//!   For all others it is copied, checked after copying, and the pin is gone when the import returns.
//! - The input is hostile: every length is checked before it is used or allocated for, nesting is
//!   bounded, and a panic in a library is an error of the batch, not the end of the process.
//! - As many rows arrive as were given, or nothing does.
//!
//! It does not know of Node, of who waits, or of where batches go. It keeps no batch. This folder and
//! `binding` are the only places with `unsafe`.

mod cdata;
mod columns;
mod fault;
mod foreign;
mod ipc;
mod ipc_blame;
mod ipc_compression;
mod ipc_frame;
mod join;
mod layout;
mod pins;
mod pool;
mod rows;
mod structure;
mod text;
mod views;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub use foreign::Foreign;
pub use join::{JoinedBatch, JoinedPart, can_join};
pub use pins::{Pin, Pins};
pub use pool::{Pool, PoolStats};
pub use rows::{can_own, own, trim};

use crate::error::{Code, Error, Result};

/// One batch as it crossed.
#[derive(Debug)]
pub enum HandoffBatch {
    Columns(ColumnBuffers),
    Ipc(IpcBytes),
}

/// Flat buffers, in the order of `specs/boundary.md`.
#[derive(Debug)]
pub struct ColumnBuffers {
    pub schema: SchemaRef,
    pub rows: usize,
    pub nodes: Vec<Node>,
    /// `None` where a buffer is absent.
    pub buffers: Vec<Option<Foreign>>,
}

/// One array of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// In rows.
    pub length: usize,
    /// -1 if unknown.
    pub null_count: i64,
    /// In bits, of the validity bitmap and of boolean values only.
    pub offset: usize,
    /// Data buffers of a view column. Of text, binary and lists: how many bytes or items come before the first
    /// that was handed over; offsets count them all the same.
    pub variadic: usize,
}

/// What of the budget a delivery takes beside its payload: its entries in the books and its outcome, and the
/// structures that its batches are imported through. Without it, deliveries of one row would be free.
const DELIVERY_FLOOR: usize = 1_024;
/// The same for each batch, node and buffer.
const ENTRY_FLOOR: usize = 128;

/// What a delivery takes of the budget, in bytes, as `specs/boundary.md` has it.
pub fn charge(handoff_batches: &[HandoffBatch]) -> usize {
    handoff_batches.iter().fold(DELIVERY_FLOOR, |sum, handoff_batch| {
        let entries = match handoff_batch {
            HandoffBatch::Columns(columns) => 1 + columns.nodes.len() + columns.buffers.len(),
            // Whether it is there or not.
            HandoffBatch::Ipc(_) => 2,
        };
        sum.saturating_add(handoff_batch.bytes())
            .saturating_add(ENTRY_FLOOR * entries)
    })
}

/// An IPC stream or file, whole.
#[derive(Debug)]
pub struct IpcBytes {
    pub bytes: Foreign,
    /// What the caller knows the bytes to hold.
    pub rows: Option<usize>,
}

/// What the destination does with payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadUse {
    /// It moves bytes and looks at none: pinned payload may stay where it is.
    Moved,
    /// It computes on them, so they must not change: payload is copied first.
    Computed,
}

#[derive(Debug)]
pub struct ImportedBatches {
    pub batches: Vec<RecordBatch>,
    /// Payload buffers copied because their address did not suit their type.
    pub realigned_buffers: usize,
    /// What the batches hold on to, pinned or in the pool; shared buffers count once per column.
    pub bytes: usize,
}

impl HandoffBatch {
    /// The batches. Runs off the JavaScript thread; takes time proportional to the structure, and to
    /// the payload too where it is copied or is text.
    ///
    /// # Errors
    /// `BATCH_INVALID` for buffers that contradict their schema or themselves, with the column as a
    /// dotted path and the row where there is one; `RESOURCE_EXHAUSTED` if there is no memory for a
    /// copy.
    pub fn import(self, payload: PayloadUse, pool: &Arc<Pool>) -> Result<ImportedBatches> {
        contained(|| match self {
            HandoffBatch::Columns(columns) => columns::import(&columns, payload, pool),
            HandoffBatch::Ipc(ipc) => ipc::import(ipc, pool),
        })
    }

    /// Of its batches; IPC bytes say theirs when they are read.
    pub fn schema(&self) -> Option<&SchemaRef> {
        match self {
            HandoffBatch::Columns(columns) => Some(&columns.schema),
            HandoffBatch::Ipc(_) => None,
        }
    }

    /// As many as the caller says; nobody knows how many IPC bytes hold before they are read.
    pub fn rows(&self) -> Option<usize> {
        match self {
            HandoffBatch::Columns(columns) => Some(columns.rows),
            HandoffBatch::Ipc(ipc) => ipc.rows,
        }
    }

    /// The bytes of all buffers as they crossed.
    pub fn bytes(&self) -> usize {
        self.buffers().map(Foreign::len).sum()
    }

    /// CRC-32C over all buffers in order, as they are now.
    pub fn digest(&self) -> u32 {
        self.buffers()
            .fold(0, |digest, buffer| buffer.digest_onto(digest))
    }

    /// Whether any of its buffers is JavaScript's own memory.
    pub fn is_pinned(&self) -> bool {
        self.buffers().any(Foreign::is_pinned)
    }

    fn buffers(&self) -> impl Iterator<Item = &Foreign> {
        let (columns, ipc) = match self {
            HandoffBatch::Columns(columns) => (Some(columns), None),
            HandoffBatch::Ipc(ipc) => (None, Some(&ipc.bytes)),
        };
        columns
            .into_iter()
            .flat_map(|columns| columns.buffers.iter().flatten())
            .chain(ipc)
    }
}

/// Imports small batches of one schema as one. `None`: they are to be imported one by one, because one of
/// them is wrong, because there is no memory for the copy, or because the schema is none that [`can_join`].
pub fn join(batches: &[ColumnBuffers], pool: &Arc<Pool>) -> Option<JoinedBatch> {
    contained(|| Ok(join::join(batches, pool))).ok().flatten()
}

/// The schema in an IPC stream that holds just that.
///
/// # Errors
/// `BATCH_INVALID` if it is none, is not little-endian, or is nested too deeply.
pub fn decode_schema(message: &[u8]) -> Result<SchemaRef> {
    contained(|| ipc::schema(message))
}

/// The batches of an IPC stream, which came over a network. The bytes are copied.
///
/// # Errors
/// `BATCH_INVALID` for everything that is not what it should be.
pub fn decode_stream(stream: &[u8]) -> Result<Vec<RecordBatch>> {
    contained(|| ipc::batches(stream))
}

thread_local! {
    /// Whether a panic of this thread is caught by [`contained`].
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Turns a panic of a library into an error: the input is hostile and the process is the user's.
///
/// # Errors
/// What `work` says; `BATCH_INVALID` if it panicked.
pub fn contained<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    // An error of the batch is not printed to the user's stderr as well, unless the user asks for that.
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CONTAINED.get() || std::env::var_os("RUST_BACKTRACE").is_some_and(|how| how == "full") {
                loud(info);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    // Whatever the work was changing is dropped with it, so nothing half-done is seen afterwards.
    let done = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    done.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(invalid(format!("the batch cannot be decoded: {text}")))
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::BatchInvalid, message).during("handoff")
}
