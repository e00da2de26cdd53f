//! What the destination said last of the table's schema, kept beside the log: by it, rows that come without a schema
//! are read while the destination is away.
//!
//! Invariants:
//! - The name is given to a file that is whole and synced; until then the file that was there before has it.
//! - A file that cannot be read, is damaged, or is for another target is as good as none.
//!
//! It does not know what a schema is: the bytes come back as they were given.

use std::io;
use std::path::Path;

use super::format;
use super::shared::SharedSpool;
use crate::file_system::Disk;

const NAME: &str = "schema";
const NEW: &str = "schema.new";
/// Of the file. It is no part of `spool.maxBytes`, so it is bounded here.
const MAX_BYTES: u64 = 1 << 20;

/// Durable when this returns. Writes nothing where the same is kept already.
///
/// # Errors
/// What the disk says, and `FileTooLarge`. What was kept before may be there or not.
pub fn keep(shared: &SharedSpool, target: &str, schema: &[u8]) -> io::Result<()> {
    let (disk, directory) = (&*shared.disk, shared.directory.as_path());
    if kept(disk, directory, target).as_deref() == Some(schema) {
        return Ok(());
    }
    let bytes = format::table_schema(target, schema);
    if bytes.len() as u64 > MAX_BYTES {
        let text = format!("it takes more than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let staged = directory.join(NEW);
    match disk.unlink(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create_private(&staged)?;
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&staged, &directory.join(NAME))?;
    // A failure of this sync may be that of the name of a segment, which nobody would be told again.
    shared.sync_names()
}

/// What was kept for this target.
pub fn kept(disk: &dyn Disk, directory: &Path, target: &str) -> Option<Vec<u8>> {
    let file = disk.open_to_read(&directory.join(NAME)).ok()?;
    // A file that somebody else has put there may be of any size.
    if file.length().ok()? > MAX_BYTES {
        return None;
    }
    let bytes = file.read_to_end_at(0).ok()?;
    Some(format::parse_table_schema(&bytes, target)?.to_vec())
}
