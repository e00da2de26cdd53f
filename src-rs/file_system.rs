//! The file system behind a trait: what must survive a power cut is written through it.
//!
//! Invariants:
//! - Nothing is durable before it was synced: a file's bytes and length by [`DiskFile::sync`], a name (new,
//!   changed or gone) by [`Disk::sync_directory`] of the directory that holds it.
//! - A sync that failed is not tried again: the second one can succeed although the bytes are lost.
//! - [`write_new`] gives a name to a file that is whole and synced, or to none; it never replaces one.
//!
//! The tests have a second implementation, which loses whatever was not synced
//! (`tests/rs/support/simulated.rs`); `tests/rs/file_system.rs` holds both to one behaviour.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use uuid::Uuid;

/// What a file system does, as far as we ask it to. Every call blocks.
pub trait Disk: fmt::Debug + Send + Sync {
    /// A new file, open for reading and writing. `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// As [`Disk::create`], for nobody but its owner (0600).
    fn create_private(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there, open for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there, open for reading alone.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }
    /// A second name for a file. `AlreadyExists` if it is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Another name for a file, in place of the file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Another name for a file. `AlreadyExists` if it is taken, `Unsupported` or `InvalidInput` where the
    /// system or the file system has no such call.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// One directory, whose parent is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// As [`Disk::create_directory`], for nobody but its owner (0700).
    fn create_private_directory(&self, path: &Path) -> io::Result<()>;
    /// Takes a directory that is there away from everybody but its owner (0700).
    fn make_private(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
    fn is_directory(&self, path: &Path) -> io::Result<bool>;
    /// What users without privileges may still write to the file system of a directory, in bytes.
    /// `Unsupported` where the system does not say.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
}

/// An open file. Reads and writes name their place, so that several threads may share it.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// May read less than asked for; nothing at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// May write less than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// All parts behind each other in one call, which may write less than given.
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    fn length(&self) -> io::Result<u64>;
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Makes bytes and length durable.
    fn sync(&self) -> io::Result<()>;
    /// As [`DiskFile::sync`], without the time of the last change and other such facts.
    fn sync_data(&self) -> io::Result<()>;
    /// Locks the file against everybody else, this process included, until it is dropped. False if somebody
    /// has it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// So many parts a system takes in one call, at least.
const PARTS_AT_ONCE: usize = 1024;
/// Read or written by one call at most. A thread of ours that copies tens of MiB in the kernel keeps its processor
/// there, and JavaScript waited behind it for 4 ms and more.
const BYTES_AT_ONCE: usize = 1 << 20;

impl dyn DiskFile {
    /// All of it, however many writes that takes.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }

    /// All of the parts behind each other, however many writes that takes.
    pub fn write_all_vectored_at(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        for parts in parts.chunks(PARTS_AT_ONCE) {
            let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut slices = slices.as_mut_slice();
            // Without bytes a write of none would be taken for a disk that takes no more.
            IoSlice::advance_slices(&mut slices, 0);
            while !slices.is_empty() {
                match self.write_vectored_at(slices, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        IoSlice::advance_slices(&mut slices, written);
                        offset += written as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// As many bytes from the place on as there are and fit.
    pub fn read_full_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// From the place to the end of the file.
    pub fn read_to_end_at(&self, offset: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.length()?.saturating_sub(offset)).unwrap_or(usize::MAX)];
        let filled = self.read_full_at(&mut bytes, offset)?;
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// A file that is written from its beginning to its end, by one thread at a time.
#[derive(Debug)]
pub struct Appender {
    file: Box<dyn DiskFile>,
    length: AtomicU64,
}

impl Appender {
    pub fn new(file: Box<dyn DiskFile>) -> Appender {
        Appender {
            file,
            length: AtomicU64::new(0),
        }
    }

    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let length = self.length.load(Ordering::Acquire);
        self.file.write_all_at(bytes, length)?;
        self.length.store(length + bytes.len() as u64, Ordering::Release);
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    pub fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Creates a directory and all above it. Their names are not durable before [`sync_ancestors`].
pub fn make_directories(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    descend(disk, directory, &|path| disk.create_directory(path))
}

/// As [`make_directories`], for nobody but their owner.
pub fn make_private_directories(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    descend(disk, directory, &|path| disk.create_private_directory(path))
}

fn descend(disk: &dyn Disk, directory: &Path, create: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    if disk.is_directory(directory).is_ok_and(|is| is) {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        descend(disk, above, create)?;
    }
    match create(directory) {
        // Somebody else made it just now.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && disk.is_directory(directory)? => Ok(()),
        made => made,
    }
}

/// Makes the name of a directory durable, and the names of all above it: whoever made one of them may have ended
/// before it was synced. A directory that this user cannot open, or that lies on a file system without such a
/// call, is passed over: it is not one that this user has made.
pub fn sync_ancestors(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    directory
        .ancestors()
        .skip(1)
        .filter(|above| !above.as_os_str().is_empty())
        .try_for_each(|above| match disk.sync_directory(above) {
            Err(error) if is_not_ours(&error) => Ok(()),
            synced => synced,
        })
}

fn is_not_ours(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::PermissionDenied | Kind::ReadOnlyFilesystem) || cannot(error)
}

/// Whether [`Disk::sync_directory`] failed before the system was asked to sync: the directory could not be opened.
/// Such a sync may be tried again.
pub fn was_not_synced(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::NotFound | Kind::NotADirectory | Kind::PermissionDenied
    ) || (cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE)))
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

pub fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Gives a synced file its name if nobody has that name yet: by a link, or by a rename that does not replace
/// where the file system has no links. The first name is gone afterwards, whatever happens.
///
/// # Errors
/// `AlreadyExists` if the name is taken; `Unsupported` where the file system can do neither.
pub fn name_new(disk: &dyn Disk, staged: &Path, path: &Path) -> io::Result<()> {
    // Unlike a plain rename, neither ever replaces what another writer has put there.
    let named = match disk.link(staged, path) {
        Err(error) if cannot(&error) => match disk.rename_new(staged, path) {
            Err(also) if cannot(&also) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the file system has neither hard links ({error}) nor a rename that does not replace ({also}): \
                     a commit there could destroy another writer's, or be seen half-written"
                ),
            )),
            renamed => return renamed.inspect_err(|_| drop(disk.unlink(staged))),
        },
        linked => linked,
    };
    // A name that stays is one that nobody lists.
    let _ = disk.unlink(staged);
    named
}

/// Whether a file system says that it has no such call, and not that the call went wrong. EPERM is what FAT
/// says of links, EINVAL what many say of a flag that they do not know.
fn cannot(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Unsupported | Kind::CrossesDevices | Kind::InvalidInput
    ) || (cfg!(unix) && error.raw_os_error() == Some(1))
}

/// Whether files can be made in the directory (or in the nearest one above it that exists), named as
/// [`name_new`] does it, and whether the names can be synced.
///
/// # Errors
/// `Unsupported`, in words, where an acknowledgement could not keep its word.
pub fn probe(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    let nearest = nearest(disk, directory)?;
    let name = |end: &str| nearest.join(format!(".arrow-ingest-{}{end}", Uuid::new_v4()));
    let (staged, named) = (name("#1"), name(""));
    disk.create(&staged)?;
    name_new(disk, &staged, &named)?;
    let synced = disk.sync_directory(nearest);
    disk.unlink(&named)?;
    synced.map_err(|error| match cannot(&error) {
        true => io::Error::new(
            io::ErrorKind::Unsupported,
            format!("the file system cannot sync a directory ({error}): what is acknowledged there could be gone after a power cut"),
        ),
        false => error,
    })
}

fn nearest<'a>(disk: &dyn Disk, directory: &'a Path) -> io::Result<&'a Path> {
    match disk.is_directory(directory) {
        Ok(true) => Ok(directory),
        Ok(false) => Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match directory.parent() {
            Some(above) => nearest(disk, above),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(RealFile::new(file)))
    }

    fn create_private(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(RealFile::new(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Box::new(RealFile::new(file)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true);
        // Or a pipe that somebody has put there would be waited for until somebody writes to it.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(
            &mut options,
            rustix::fs::OFlags::NONBLOCK.bits() as i32,
        );
        Ok(Box::new(RealFile::new(options.open(path)?)))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from)
        }
        // Windows has links wherever it has a file system that we would write to.
        #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
        {
            let _ = (from, to);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create_private_directory(&self, path: &Path) -> io::Result<()> {
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)
    }

    fn make_private(&self, path: &Path) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(path)?.permissions().mode();
            if mode & 0o077 != 0 {
                fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            }
        }
        let _ = path;
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        // Windows has no such call and needs none: its file systems log names themselves.
        if cfg!(windows) {
            return Ok(());
        }
        File::open(path)?.sync_all()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn is_directory(&self, path: &Path) -> io::Result<bool> {
        Ok(fs::metadata(path)?.is_dir())
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        #[cfg(unix)]
        {
            let facts = rustix::fs::statvfs(directory)?;
            Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
        }
        #[cfg(not(unix))]
        {
            let _ = directory;
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

/// A file, and whether we have locked it.
#[derive(Debug)]
struct RealFile(File, AtomicBool);

impl RealFile {
    fn new(file: File) -> RealFile {
        RealFile(file, AtomicBool::new(false))
    }
}

impl Drop for RealFile {
    fn drop(&mut self) {
        if *self.1.get_mut() {
            // As with `LockedFile`: a program that is being started has it open a moment longer.
            let _ = self.0.unlock();
        }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let most = bytes.len().min(BYTES_AT_ONCE);
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(&self.0, &mut bytes[..most], offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(&self.0, &mut bytes[..most], offset);
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(BYTES_AT_ONCE)];
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::write_at(&self.0, bytes, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset);
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        {
            let mut bytes = 0;
            let fit = parts.iter().take(PARTS_AT_ONCE).take_while(|part| {
                bytes += part.len();
                bytes <= BYTES_AT_ONCE
            });
            let fit = fit.count();
            if fit > 1 {
                return Ok(rustix::io::pwritev(&self.0, &parts[..fit], offset)?);
            }
        }
        let first = parts.iter().find(|part| !part.is_empty());
        first.map_or(Ok(0), |part| self.write_at(part, offset))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => {
                self.1.store(true, Ordering::Relaxed);
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
