//! The cursor: what was settled, and the mark that the last opening left at the destination.
//!
//! Invariants:
//! - A writing goes to the slot that the last one is not in, so there is always a whole one.
//! - A writing or sync that failed is not tried again: the next one goes to a new file, which takes the place of
//!   the old one. So does the first of a process, unless the disk is full: then nothing is deleted that could make
//!   room for it.
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
    /// A writing or a sync of this process has failed.
    failed: bool,
    last: CursorSlot,
}

impl Cursor {
    /// One whose file is made at the first writing.
    pub fn new(directory: &Path, last: CursorSlot) -> Cursor {
        Cursor {
            directory: directory.into(),
            file: None,
            failed: false,
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
        let written = match self.file.take() {
            Some(file) => write_slot(&*file, &bytes, slot.number).map(|()| file),
            None => match self.replace(disk, &bytes, slot.number) {
                Err(error) if is_full(&error) && !self.failed => self.reuse(disk, &bytes, slot.number),
                // A failure from here on is no reason to write to what has the name now: as long as the directory
                // cannot be synced, a power cut brings the old file back.
                replaced => replaced.and_then(|file| disk.sync_directory(&self.directory).map(|()| file)),
            },
        };
        self.failed |= written.is_err();
        self.file = Some(written?);
        self.last = slot;
        Ok(())
    }

    /// Into the file that an earlier process has left.
    fn reuse(&self, disk: &dyn Disk, bytes: &[u8], number: u64) -> io::Result<Box<dyn DiskFile>> {
        let _ = disk.unlink(&self.directory.join(NEW));
        let file = disk.open(&self.directory.join(NAME))?;
        write_slot(&*file, bytes, number)?;
        Ok(file)
    }

    /// Whose name is not synced yet.
    fn replace(&self, disk: &dyn Disk, bytes: &[u8], number: u64) -> io::Result<Box<dyn DiskFile>> {
        let staged = self.directory.join(NEW);
        match disk.unlink(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create_private(&staged)?;
        // The other slot must be in the file, and no hole in it: the first writing to it would change its length, or
        // find no room on a disk that is full, which nothing would then be deleted from.
        let mut both = vec![0; SECOND_SLOT as usize + SLOT];
        let place = CursorSlot::place(number) as usize;
        both[place..place + bytes.len()].copy_from_slice(bytes);
        file.write_all_at(&both, 0)?;
        file.sync()?;
        disk.rename(&staged, &self.directory.join(NAME))?;
        Ok(file)
    }
}

fn write_slot(file: &(dyn DiskFile + 'static), bytes: &[u8], number: u64) -> io::Result<()> {
    file.write_all_at(bytes, CursorSlot::place(number))?;
    file.sync_data()
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::StorageFull | Kind::QuotaExceeded)
}
