//! The cursor: what was settled, and the mark that the last opening left at the destination.
//!
//! Invariants:
//! - A writing goes to the slot that the last one is not in, so there is always a whole one.
//! - A writing or sync that failed is not tried again: the next one goes to a new file, which takes the place of
//!   the old one.
//!
//! It does not know whether what it is told is durable in the log: its caller does.

use std::io;
use std::path::{Path, PathBuf};

use super::format::{CursorSlot, DecodedHeader, SECOND_SLOT, SLOT, SpoolId};
use crate::file_system::{Disk, DiskFile};

pub const NAME: &str = "cursor";
const NEW: &str = "cursor.new";

/// What a cursor's file holds.
#[derive(Debug, Default)]
pub struct FoundCursor {
    /// Whole slots, of any spool.
    pub slots: Vec<CursorSlot>,
    /// The version of a release that knows more.
    pub newer: Option<u32>,
    /// There are bytes, and no slot is whole.
    pub damaged: bool,
}

/// # Errors
/// What the disk says, but for a file that is not there.
pub fn read(disk: &dyn Disk, directory: &Path) -> io::Result<FoundCursor> {
    let bytes = match disk.open_to_read(&directory.join(NAME)) {
        Ok(file) => file.read_to_end_at(0)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FoundCursor::default()),
        Err(error) => return Err(error),
    };
    let mut found = FoundCursor::default();
    for place in [0, SECOND_SLOT as usize] {
        let slot = bytes.get(place..).unwrap_or(&[]);
        match CursorSlot::decode(&slot[..slot.len().min(SLOT)]) {
            DecodedHeader::Whole(slot) => found.slots.push(slot),
            DecodedHeader::Newer(version) => found.newer = Some(version),
            DecodedHeader::Damaged => {}
        }
    }
    found.damaged = found.slots.is_empty() && bytes.iter().any(|byte| *byte != 0);
    Ok(found)
}

#[derive(Debug)]
pub struct Cursor {
    directory: PathBuf,
    /// None: the next writing makes a new one.
    file: Option<Box<dyn DiskFile>>,
    last: CursorSlot,
}

impl Cursor {
    /// One whose file is made at the first writing.
    pub fn new(directory: &Path, last: CursorSlot) -> Cursor {
        Cursor {
            directory: directory.into(),
            file: None,
            last,
        }
    }

    /// Whether this process has written it: one that was found may be known to the system only.
    pub fn is_synced(&self) -> bool {
        self.file.is_some()
    }

    /// As it was written last.
    pub fn last(&self) -> &CursorSlot {
        &self.last
    }

    /// Written and synced when this returns.
    ///
    /// # Errors
    /// What the disk says. Either the last writing counts or this one.
    pub fn write(&mut self, disk: &dyn Disk, through: u64, mark: SpoolId) -> io::Result<()> {
        let slot = CursorSlot {
            id: self.last.id,
            number: self.last.number + 1,
            through,
            mark,
        };
        let bytes = slot.encode();
        match self.file.take() {
            Some(file) => {
                file.write_all_at(&bytes, CursorSlot::place(slot.number))?;
                file.sync_data()?;
                self.file = Some(file);
            }
            None => self.file = Some(self.replace(disk, &bytes, slot.number)?),
        }
        self.last = slot;
        Ok(())
    }

    fn replace(&self, disk: &dyn Disk, bytes: &[u8], number: u64) -> io::Result<Box<dyn DiskFile>> {
        let staged = self.directory.join(NEW);
        match disk.unlink(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create_private(&staged)?;
        file.write_all_at(bytes, CursorSlot::place(number))?;
        // The other slot must be in the file, or the first writing to it would change its length.
        file.set_length(SECOND_SLOT + SLOT as u64)?;
        file.sync()?;
        disk.rename(&staged, &self.directory.join(NAME))?;
        disk.sync_directory(&self.directory)?;
        Ok(file)
    }
}
