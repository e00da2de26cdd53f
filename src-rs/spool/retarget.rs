//! Sends what is in a spool to another destination from now on.
//!
//! Invariants:
//! - It holds the lock, so no client delivers meanwhile.
//! - Rows, positions, identities and the mark stay as they are: openings are counted on.
//!
//! What the old destination has taken of rows that are not settled stays there: those rows go to the new one, too.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::inspect::Inspection;
use super::recover::Unsettled;
use super::writer::WriterTurn;
use super::{Spool, SpoolOptions};
use crate::error::Result;
use crate::file_system::Disk;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retargeted {
    /// The target that was there. None if it could not be read, or there was none yet.
    pub from: Option<String>,
    pub to: String,
    pub left: Unsettled,
}

/// Waits for the disk. Whether a destination answers to the target is not known here.
///
/// # Errors
/// `NOT_FOUND`, `SPOOL_LOCKED` naming who has it open, `SPOOL_FORMAT`, and what the disk says.
pub fn retarget(disk: &Arc<dyn Disk>, directory: &Path, name: &str, target: &str) -> Result<Retargeted> {
    // Opening makes a spool where there is none.
    let from = Inspection::open(Arc::clone(disk), directory, name)?
        .facts()
        .target;
    let options = SpoolOptions {
        name: name.into(),
        retarget: true,
        owner: "arrow-ingest spool retarget".into(),
        ..SpoolOptions::new(directory, target)
    };
    let (spool, recovered, mut writer) = Spool::open_undriven(Arc::clone(disk), &options)?;
    drop(spool);
    while writer.turn(Instant::now()) != WriterTurn::End {}
    drop(writer);
    let now = Inspection::open(Arc::clone(disk), directory, name)?.facts();
    Ok(Retargeted {
        from,
        to: now.target.unwrap_or_default(),
        left: recovered.left,
    })
}
