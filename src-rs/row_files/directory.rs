//! The files of a directory, and which of them are too many.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::names::FileKind;

/// One file that is whole.
#[derive(Debug, Clone)]
pub struct WholeFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub finished: SystemTime,
}

/// What may stay in a directory.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Of all files together.
    pub bytes: u64,
    pub files: usize,
    /// Files that were closed longer ago are removed.
    pub age: Option<Duration>,
}

/// The oldest first: names begin with the time.
///
/// # Errors
/// What the file system says.
pub fn list(directory: &Path, kinds: &[FileKind]) -> io::Result<Vec<WholeFile>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        // Another client on this directory may have removed it since.
        if kinds.iter().any(|kind| kind.is_final(&path))
            && let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            entries.push(WholeFile {
                path,
                bytes: metadata.len(),
                finished: metadata.modified()?,
            });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Removes the oldest files until the rest is within bounds, and those that are too old. The newest file
/// stays, however large. Returns what was removed.
///
/// # Errors
/// What the file system says.
pub fn tidy(
    directory: &Path,
    kinds: &[FileKind],
    bounds: &Bounds,
    now: SystemTime,
) -> io::Result<Vec<PathBuf>> {
    let entries = list(directory, kinds)?;
    let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let mut files = entries.len();
    let mut removed = Vec::new();
    for entry in &entries {
        let age = now.duration_since(entry.finished).unwrap_or(Duration::ZERO);
        let too_old = bounds.age.is_some_and(|most| age > most);
        let too_much = files > 1 && (bytes > bounds.bytes || files > bounds.files);
        if !too_old && !too_much {
            continue;
        }
        match fs::remove_file(&entry.path) {
            Ok(()) => removed.push(entry.path.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        bytes -= entry.bytes;
        files -= 1;
    }
    Ok(removed)
}
