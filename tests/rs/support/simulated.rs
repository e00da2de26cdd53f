//! A disk that keeps what it must and nothing more.
//!
//! What was written and not synced may survive a power cut or not, each piece for itself: bytes by the sector,
//! lengths, names that came, changed or went, in any order. A directory that was lost takes with it what it
//! holds. Calls can fail or hang, once or from some point on, and writes can fall short. The disk may have an end. A
//! process may die and leave what it wrote, unsynced, to the next.

#![allow(dead_code)] // Each test binary uses its own part.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use arrow_ingest::file_system::{Disk, DiskFile};

const SECTOR: usize = 512;

/// What a call may be made to fail with.
pub const EPERM: i32 = 1;
pub const EIO: i32 = 5;
pub const EACCES: i32 = 13;
pub const EXDEV: i32 = 18;
pub const EINVAL: i32 = 22;
pub const EMFILE: i32 = 24;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
pub const ENOSYS: i32 = 38;
pub const EOPNOTSUPP: i32 = 95;
pub const EDQUOT: i32 = 122;
/// Not of a disk: whoever makes the call panics.
pub const PANIC: i32 = -1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Create,
    Open,
    Read,
    Write,
    SetLength,
    Sync,
    Link,
    Rename,
    RenameNew,
    Unlink,
    CreateDirectory,
    SyncDirectory,
    List,
    Lock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
}

#[derive(Debug, Clone)]
enum Change {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync.
    changes: Vec<Change>,
}

/// These calls on paths that hold this text fail from the n-th on, so many times.
#[derive(Debug, Clone)]
struct Failure {
    call: Call,
    within: &'static str,
    nth: usize,
    times: usize,
    errno: i32,
}

#[derive(Debug, Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Names that came (or changed) and went, since their directory was synced.
    names: Vec<(PathBuf, Option<Node>)>,
    calls: usize,
    /// The power goes after so many calls: from then on nothing has an effect.
    lasts: Option<usize>,
    failures: Vec<Failure>,
    /// These calls on paths that hold this text do not come back.
    hangs: Vec<(Call, &'static str)>,
    /// How many are waiting.
    hanging: usize,
    /// Told when nothing hangs any more.
    healed: Arc<Condvar>,
    /// How many calls were made to fail.
    failed: usize,
    short_writes: bool,
    /// All files together take no more bytes than this.
    capacity: Option<usize>,
    /// It does not show in what is said to be free, as a quota does not.
    is_quota: bool,
    /// How often inodes are open: they take room for as long as they are, whether they have a name or not.
    open: BTreeMap<usize, usize>,
    /// Inodes that somebody has locked.
    locked: BTreeSet<usize>,
    /// The names of the calls, for a test that has failed.
    story: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    /// An empty disk with these directories on it, durable.
    pub fn with(directories: &[&str]) -> Simulated {
        let mut state = State::default();
        for directory in directories {
            for above in Path::new(directory).ancestors() {
                state.live.insert(above.into(), Node::Directory);
            }
        }
        state.durable = state.live.clone();
        Simulated(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn calls(&self) -> usize {
        self.state().calls
    }

    /// How many calls were made to fail.
    pub fn failed(&self) -> usize {
        self.state().failed
    }

    pub fn story(&self) -> Vec<String> {
        self.state().story.clone()
    }

    pub fn lasts(&self, calls: usize) {
        self.state().lasts = Some(calls);
    }

    /// The `nth` call of this kind from now on (from 0) and `times - 1` after it fail.
    pub fn fail(&self, call: Call, nth: usize, times: usize, errno: i32) {
        self.fail_within("", call, nth, times, errno);
    }

    /// As [`Simulated::fail`], of paths that hold this text.
    pub fn fail_within(&self, within: &'static str, call: Call, nth: usize, times: usize, errno: i32) {
        let failure = Failure {
            call,
            within,
            nth,
            times,
            errno,
        };
        self.state().failures.push(failure);
    }

    /// From now on such calls do not come back until the disk heals.
    pub fn hang(&self, within: &'static str, call: Call) {
        self.state().hangs.push((call, within));
    }

    /// How many calls hang now.
    pub fn hanging(&self) -> usize {
        self.state().hanging
    }

    pub fn heal(&self) {
        let mut state = self.state();
        state.failures.clear();
        state.hangs.clear();
        state.healed.notify_all();
    }

    pub fn write_short(&self) {
        self.state().short_writes = true;
    }

    /// No more than so many bytes fit, those that are there included.
    pub fn holds(&self, capacity: Option<usize>) {
        let mut state = self.state();
        (state.capacity, state.is_quota) = (capacity, false);
    }

    /// As [`Simulated::holds`], and nobody can tell before.
    pub fn allows(&self, quota: Option<usize>) {
        let mut state = self.state();
        (state.capacity, state.is_quota) = (quota, true);
    }

    /// Bytes of all files that have a name, or are open.
    pub fn used(&self) -> usize {
        self.state().used()
    }

    /// The disk as another process finds it when this one was killed: everything that was written is there,
    /// durable or not, and what this process had open has no effect any more.
    pub fn after_kill(&self) -> Simulated {
        let mut state = self.state();
        let calls = state.calls;
        let next = State {
            calls: 0,
            lasts: None,
            failures: Vec::new(),
            hangs: Vec::new(),
            hanging: 0,
            healed: Arc::default(),
            short_writes: false,
            open: BTreeMap::new(),
            locked: BTreeSet::new(),
            story: Vec::new(),
            ..state.clone()
        };
        state.lasts = Some(calls);
        Simulated(Arc::new(Mutex::new(next)))
    }

    /// Changes a file behind everybody's back, durably.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.file(path).unwrap();
        let inode = &mut state.inodes[id];
        change(&mut inode.live);
        inode.durable = inode.live.clone();
        inode.changes.clear();
    }

    /// What everybody sees, power on.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        files(&state.live, |id| state.inodes[id].live.clone())
    }

    /// The disk after the power has gone and come again. Seed 0 loses everything that may be lost, seed 1
    /// nothing; the others decide for each piece.
    pub fn after_power_cut(&self, seed: u64) -> Simulated {
        let state = self.state();
        let mut dice = Dice(seed);
        let mut names = state.durable.clone();
        let mut changes: Vec<_> = state.names.iter().filter(|_| dice.keeps()).cloned().collect();
        if seed > 1 && dice.keeps() {
            // Names of one directory reach the disk in any order, those of one name in theirs.
            changes.sort_by_key(|(path, _)| {
                let mut order = Dice(seed ^ path.to_string_lossy().bytes().map(u64::from).sum::<u64>());
                order.next()
            });
        }
        for (path, node) in changes {
            match node {
                Some(node) => names.insert(path, node),
                None => names.remove(&path),
            };
        }
        let lost: BTreeSet<PathBuf> = names
            .keys()
            .filter(|path| {
                path.ancestors()
                    .skip(1)
                    .any(|above| names.get(above) != Some(&Node::Directory))
            })
            .cloned()
            .collect();
        names.retain(|path, _| !lost.contains(path));
        let inodes = state
            .inodes
            .iter()
            .map(|inode| {
                let bytes = survived(inode, &mut dice);
                Inode {
                    live: bytes.clone(),
                    durable: bytes,
                    changes: Vec::new(),
                }
            })
            .collect();
        Simulated(Arc::new(Mutex::new(State {
            inodes,
            live: names.clone(),
            durable: names,
            ..State::default()
        })))
    }

    fn call<T>(
        &self,
        call: Call,
        what: &Path,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut guard = self.state();
        if guard.lasts.is_some_and(|lasts| guard.calls >= lasts) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        guard.calls += 1;
        guard.story.push(format!("{call:?} {}", what.display()));
        let what = what.to_string_lossy();
        let hangs = |state: &State| {
            let mut hangs = state.hangs.iter();
            hangs.any(|(hung, within)| *hung == call && what.contains(within))
        };
        if hangs(&guard) {
            let healed = Arc::clone(&guard.healed);
            guard.hanging += 1;
            while hangs(&guard) {
                guard = healed.wait(guard).unwrap();
            }
            guard.hanging -= 1;
        }
        let state = &mut *guard;
        for failure in state
            .failures
            .iter_mut()
            .filter(|one| one.call == call && what.contains(one.within))
        {
            if failure.nth > 0 {
                failure.nth -= 1;
            } else if failure.times > 0 {
                failure.times -= 1;
                let errno = failure.errno;
                state.failed += 1;
                if errno == PANIC {
                    // Or its lock would be poisoned.
                    drop(guard);
                    panic!("a call of the disk");
                }
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        work(state)
    }
}

fn files(names: &BTreeMap<PathBuf, Node>, bytes: impl Fn(usize) -> Vec<u8>) -> BTreeMap<PathBuf, Vec<u8>> {
    names
        .iter()
        .filter_map(|(path, node)| match node {
            Node::File(id) => Some((path.clone(), bytes(*id))),
            Node::Directory => None,
        })
        .collect()
}

/// A file's bytes after the power was gone: what was synced, and any part of what came after it.
fn survived(inode: &Inode, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = inode.durable.clone();
    for change in &inode.changes {
        match change {
            Change::Length(length) if dice.keeps() => bytes.resize(*length, 0),
            Change::Length(_) => {}
            Change::Bytes(offset, new) => {
                // The length may be there without the bytes, which are zeros then.
                if dice.keeps() {
                    bytes.resize(bytes.len().max(offset + new.len()), 0);
                }
                for (index, sector) in new.chunks(SECTOR).enumerate() {
                    let from = offset + index * SECTOR;
                    if dice.keeps() {
                        bytes.resize(bytes.len().max(from + sector.len()), 0);
                        bytes[from..from + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
    }
    bytes
}

/// Numbers that look random and are those of the seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn keeps(&mut self) -> bool {
        match self.0 {
            0 => false,
            1 => true,
            _ => self.next().is_multiple_of(2),
        }
    }
}

fn kind(kind: io::ErrorKind) -> io::Error {
    kind.into()
}

impl State {
    fn used(&self) -> usize {
        let ids = self.live.values().filter_map(|node| match node {
            Node::File(id) => Some(*id),
            Node::Directory => None,
        });
        let ids: BTreeSet<usize> = ids.chain(self.open.keys().copied()).collect();
        ids.iter().map(|id| self.inodes[*id].live.len()).sum()
    }

    /// How many of so many bytes at the place there is room for.
    fn room(&self, id: usize, offset: usize, length: usize) -> io::Result<usize> {
        let Some(capacity) = self.capacity else {
            return Ok(length);
        };
        let has = self.inodes[id].live.len();
        let room = (has + capacity.saturating_sub(self.used())).saturating_sub(offset);
        match room.min(length) {
            0 if length > 0 => Err(io::Error::from_raw_os_error(ENOSPC)),
            fits => Ok(fits),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.live.get(path) {
            Some(Node::File(id)) => Ok(*id),
            Some(Node::Directory) => Err(kind(io::ErrorKind::IsADirectory)),
            None => Err(kind(io::ErrorKind::NotFound)),
        }
    }

    fn free(&self, path: &Path) -> io::Result<()> {
        if self.live.contains_key(path) {
            return Err(kind(io::ErrorKind::AlreadyExists));
        }
        match path.parent().and_then(|above| self.live.get(above)) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(kind(io::ErrorKind::NotADirectory)),
            None => Err(kind(io::ErrorKind::NotFound)),
        }
    }

    fn name(&mut self, path: &Path, node: Option<Node>) {
        match node {
            Some(node) => self.live.insert(path.into(), node),
            None => self.live.remove(path),
        };
        self.names.push((path.into(), node));
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.file(from)?;
        // Two changes, of which a power cut may keep either.
        self.name(to, Some(Node::File(id)));
        self.name(from, None);
        Ok(())
    }
}

impl Disk for Simulated {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let id = self.call(Call::Create, path, |state| {
            state.free(path)?;
            state.inodes.push(Inode::default());
            let id = state.inodes.len() - 1;
            state.name(path, Some(Node::File(id)));
            Ok(id)
        })?;
        Ok(SimulatedFile::opened(self, id, path))
    }

    fn create_private(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let id = self.call(Call::Open, path, |state| state.file(path))?;
        Ok(SimulatedFile::opened(self, id, path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Link, to, |state| {
            let id = state.file(from)?;
            state.free(to)?;
            state.name(to, Some(Node::File(id)));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename, to, |state| state.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::RenameNew, to, |state| {
            state.free(to)?;
            state.rename(from, to)
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Unlink, path, |state| {
            state.file(path)?;
            state.name(path, None);
            Ok(())
        })
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.call(Call::CreateDirectory, path, |state| {
            state.free(path)?;
            state.name(path, Some(Node::Directory));
            Ok(())
        })
    }

    fn create_private_directory(&self, path: &Path) -> io::Result<()> {
        self.create_directory(path)
    }

    fn make_private(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let synced = self.call(Call::SyncDirectory, path, |state| {
            if state.live.get(path) != Some(&Node::Directory) {
                return Err(kind(io::ErrorKind::NotFound));
            }
            for (name, node) in state.names.iter().filter(|(name, _)| name.parent() == Some(path)) {
                match node {
                    Some(node) => state.durable.insert(name.clone(), *node),
                    None => state.durable.remove(name),
                };
            }
            Ok(())
        });
        let mut state = self.state();
        // As with bytes, unless the directory was not even opened. Without power nothing changes any more.
        let asked = |error: &io::Error| !arrow_ingest::file_system::was_not_synced(error);
        let powered = state.lasts.is_none_or(|lasts| state.calls < lasts);
        if synced
            .as_ref()
            .map_or_else(|error| powered && asked(error), |()| true)
        {
            state.names.retain(|(name, _)| name.parent() != Some(path));
        }
        synced
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.call(Call::List, directory, |state| {
            if !state.live.contains_key(directory) {
                return Err(kind(io::ErrorKind::NotFound));
            }
            let inside = state.live.keys().filter(|path| path.parent() == Some(directory));
            Ok(inside.cloned().collect())
        })
    }

    fn is_directory(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        let node = state
            .live
            .get(path)
            .ok_or_else(|| kind(io::ErrorKind::NotFound))?;
        Ok(*node == Node::Directory)
    }

    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        let state = self.state();
        let told = state.capacity.filter(|_| !state.is_quota);
        let free = told.unwrap_or(usize::MAX).saturating_sub(state.used());
        Ok(free as u64)
    }
}

#[derive(Debug)]
struct SimulatedFile(Simulated, usize, PathBuf, AtomicBool);

impl SimulatedFile {
    fn opened(disk: &Simulated, id: usize, path: &Path) -> Box<dyn DiskFile> {
        *disk.state().open.entry(id).or_default() += 1;
        Box::new(SimulatedFile(
            disk.clone(),
            id,
            path.into(),
            AtomicBool::new(false),
        ))
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.call(Call::Read, &self.2, |state| {
            let live = &state.inodes[self.1].live;
            let from = (offset as usize).min(live.len());
            let length = bytes.len().min(live.len() - from);
            bytes[..length].copy_from_slice(&live[from..from + length]);
            Ok(length)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.call(Call::Write, &self.2, |state| {
            let length = match state.short_writes && bytes.len() > 1 {
                true => bytes.len() / 2,
                false => bytes.len(),
            };
            let length = state.room(self.1, offset as usize, length)?;
            let (bytes, offset) = (&bytes[..length], offset as usize);
            let inode = &mut state.inodes[self.1];
            inode.live.resize(inode.live.len().max(offset + length), 0);
            inode.live[offset..offset + length].copy_from_slice(bytes);
            inode.changes.push(Change::Bytes(offset, bytes.to_vec()));
            Ok(length)
        })
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.write_at(&whole, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.state().inodes[self.1].live.len() as u64)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.call(Call::SetLength, &self.2, |state| {
            let inode = &mut state.inodes[self.1];
            inode.live.resize(length as usize, 0);
            inode.changes.push(Change::Length(length as usize));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.0.call(Call::Sync, &self.2, |state| {
            let inode = &mut state.inodes[self.1];
            inode.durable = survived(inode, &mut Dice(1));
            Ok(())
        });
        let mut state = self.0.state();
        // What a failed sync has not written, no later one writes. Without power nothing changes any more.
        if state.lasts.is_none_or(|lasts| state.calls < lasts) || synced.is_ok() {
            state.inodes[self.1].changes.clear();
        }
        synced
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.0
            .call(Call::Lock, &self.2, |state| Ok(state.locked.insert(self.1)))
            .inspect(|got| self.3.store(*got, Ordering::Relaxed))
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(times) = state.open.get_mut(&self.1) {
            *times -= 1;
            if *times == 0 {
                state.open.remove(&self.1);
            }
        }
        if *self.3.get_mut() {
            state.locked.remove(&self.1);
        }
    }
}
