//! Sets aside what the spool cannot read, in `damaged/` of its directory.
//!
//! Invariants:
//! - Nothing of the log is deleted: bytes are copied, and a file is moved as a whole.
//! - A copy gets its final name after its bytes are synced.
//! - What was set aside before is not overwritten.
//!
//! It does not decide what is damaged, and it does not shorten the file that it copies from: its callers do.

use std::io;
use std::path::{Path, PathBuf};

use crate::file_system::{self, Disk, DiskFile};

const DIRECTORY: &str = "damaged";
const UNFINISHED: &str = "part";
const CHUNK: usize = 1 << 20;

/// Copies some bytes of a segment: where they are, and how many more than were there. None if that was done before.
///
/// # Errors
/// What the disk says; nothing has the final name then.
pub fn copy(
    disk: &dyn Disk,
    spool: &Path,
    sync_spool: &dyn Fn() -> io::Result<()>,
    stem: &str,
    file: &(dyn DiskFile + 'static),
    from: u64,
    to: u64,
) -> io::Result<Option<(PathBuf, u64)>> {
    let directory = made(disk, spool, sync_spool)?;
    let path = place(spool, stem, from);
    let before = disk.open(&path).and_then(|copy| copy.length()).ok();
    // Damage that has grown since has bytes that nobody has kept yet.
    if before.is_some_and(|length| length >= to - from) {
        return Ok(None);
    }
    let staged = path.with_extension(UNFINISHED);
    match disk.unlink(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let copy = disk.create_private(&staged)?;
    let mut chunk = vec![0; CHUNK.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        let length = chunk.len().min((to - at) as usize);
        let read = file.read_full_at(&mut chunk[..length], at)?;
        if read == 0 {
            break;
        }
        copy.write_all_at(&chunk[..read], at - from)?;
        at += read as u64;
    }
    copy.sync()?;
    disk.rename(&staged, &path)?;
    disk.sync_directory(&directory)?;
    Ok(Some((path, to - from - before.unwrap_or(0))))
}

/// Where bytes of a segment are once they are set aside.
fn place(spool: &Path, stem: &str, from: u64) -> PathBuf {
    spool.join(DIRECTORY).join(format!("{stem}-{from:020}.bytes"))
}

/// Where these bytes are, if they were set aside whole.
pub fn kept(disk: &dyn Disk, spool: &Path, stem: &str, from: u64, bytes: u64) -> Option<PathBuf> {
    let path = place(spool, stem, from);
    let length = disk.open_to_read(&path).and_then(|copy| copy.length());
    length.is_ok_and(|length| length >= bytes).then_some(path)
}

/// Takes a file as it is out of the spool.
///
/// # Errors
/// What the disk says.
pub fn take(disk: &dyn Disk, spool: &Path, path: &Path) -> io::Result<()> {
    let directory = made(disk, spool, &|| disk.sync_directory(spool))?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    // A name that is taken holds other bytes.
    let mut target = directory.join(&name);
    let mut copies = 1;
    while disk.open(&target).is_ok() {
        target = directory.join(format!("{name}.{copies}"));
        copies += 1;
    }
    disk.rename(path, &target)?;
    disk.sync_directory(&directory)?;
    disk.sync_directory(spool)
}

/// What was set aside so far.
#[derive(Debug, Default)]
pub struct AsideContent {
    pub bytes: u64,
    /// Each file, and its bytes.
    pub files: Vec<(PathBuf, u64)>,
    /// Names of copies that were begun and not finished: they begin with those of their segments.
    unfinished: Vec<String>,
}

impl AsideContent {
    /// Whether some bytes of the segment were told of as damaged, and no copy of them is whole.
    pub fn lacks(&self, stem: &str) -> bool {
        self.unfinished.iter().any(|name| name.starts_with(stem))
    }
}

/// # Errors
/// What the disk says.
pub fn content(disk: &dyn Disk, spool: &Path) -> io::Result<AsideContent> {
    let mut content = AsideContent::default();
    let paths = match disk.list(&spool.join(DIRECTORY)) {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(content),
        Err(error) => return Err(error),
    };
    for path in paths {
        if path.extension().is_some_and(|end| end == UNFINISHED) {
            let name = path.file_name().unwrap_or_default();
            content.unfinished.push(name.to_string_lossy().into_owned());
        }
        // What is no file of ours, as a directory that somebody has made there, is not counted.
        if disk.is_directory(&path).is_ok_and(|is| !is)
            && let Ok(file) = disk.open_to_read(&path)
        {
            let bytes = file.length()?;
            content.bytes += bytes;
            content.files.push((path, bytes));
        }
    }
    content.files.sort();
    Ok(content)
}

fn made(disk: &dyn Disk, spool: &Path, sync_spool: &dyn Fn() -> io::Result<()>) -> io::Result<PathBuf> {
    let directory = spool.join(DIRECTORY);
    file_system::make_private_directories(disk, &directory)?;
    sync_spool()?;
    Ok(directory)
}
