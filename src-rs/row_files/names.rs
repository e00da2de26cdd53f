//! The names of files, and who holds them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::locked_file::LockedFile;

/// What is behind the end of a name while the file is written to.
const PART: &str = ".part";
/// What is behind the end of a name when not all of the file can be read. Nobody removes it.
const DAMAGED: &str = ".damaged";

/// How the names of some files begin and end; between them stand the time and something that is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    pub start: &'static str,
    pub end: &'static str,
}

impl FileKind {
    /// A new file, locked: until it is dropped, by us or by the end of the process, nobody takes it for left behind.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(&self, directory: &Path) -> io::Result<(LockedFile, PathBuf)> {
        const TRIES: usize = 32;
        for _ in 1..TRIES {
            if let Some(created) = self.try_to_create(directory)? {
                return Ok(created);
            }
        }
        self.try_to_create(directory)?
            .ok_or_else(|| io::Error::from(io::ErrorKind::WouldBlock))
    }

    /// None if another client took it for left behind before it was locked, and holds or has removed it.
    fn try_to_create(&self, directory: &Path) -> io::Result<Option<(LockedFile, PathBuf)>> {
        let path = self.new_path(directory);
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        let Some(file) = LockedFile::try_lock(file)? else {
            return Ok(None);
        };
        if !path.try_exists()? {
            return Ok(None);
        }
        sync_directory_of(&path)?;
        Ok(Some((file, path)))
    }

    fn new_path(&self, directory: &Path) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unique = Uuid::new_v4().simple().to_string();
        let FileKind { start, end } = self;
        // As text in the order of time, until the year 2286.
        directory.join(format!(
            "{start}{:016}-{}{end}{PART}",
            now.as_micros(),
            &unique[..8]
        ))
    }

    /// Whether a file has a final name of this kind.
    pub fn is_final(&self, path: &Path) -> bool {
        self.has_end(path, "")
    }

    /// Whether a name is one that we give.
    fn has_end(&self, path: &Path, behind: &str) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        let middle = name.and_then(|name| {
            let rest = name.strip_prefix(self.start)?.strip_suffix(behind)?;
            rest.strip_suffix(self.end)
        });
        let parted = middle.and_then(|middle| middle.split_once('-'));
        let all = |text: &str, fits: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(fits);
        parted.is_some_and(|(time, unique)| {
            all(time, u8::is_ascii_digit) && all(unique, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    /// Files that were never finished, by us or by another client that still lives.
    ///
    /// # Errors
    /// What the file system says.
    pub fn left_behind(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // A link may lead anywhere, and a pipe that nobody writes to would be read for ever.
            if self.has_end(&entry.path(), PART) && entry.file_type()?.is_file() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Gives a file that is written to its final name.
///
/// # Errors
/// What the file system says.
pub fn rename(part: &Path) -> io::Result<()> {
    rename_to(part, "").map(drop)
}

/// Gives a file that cannot be read to its end a name that nobody removes.
pub fn set_aside(part: &Path) -> io::Result<PathBuf> {
    rename_to(part, DAMAGED)
}

fn rename_to(part: &Path, behind: &str) -> io::Result<PathBuf> {
    let text = part.to_string_lossy();
    let named = PathBuf::from(format!("{}{behind}", text.strip_suffix(PART).unwrap_or(&text)));
    fs::rename(part, &named)?;
    sync_directory_of(&named)?;
    Ok(named)
}

/// Whether a file still has its name: whoever clears the directory takes it away from under us.
pub fn is_still(path: &Path, file: &File) -> bool {
    let own = file.metadata();
    match (fs::symlink_metadata(path), own) {
        #[cfg(unix)]
        (Ok(named), Ok(own)) => {
            use std::os::unix::fs::MetadataExt as _;
            (named.dev(), named.ino()) == (own.dev(), own.ino())
        }
        (named, _) => named.is_ok(),
    }
}

/// The directory, its owner's alone if it has to be made.
///
/// # Errors
/// What the file system says.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = directory.ancestors().take_while(is_missing).collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    missing.into_iter().try_for_each(sync_directory_of)
}

/// A name is on the disk once the directory that holds it is.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    // Windows opens no directories.
    if cfg!(windows) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        let directory = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
