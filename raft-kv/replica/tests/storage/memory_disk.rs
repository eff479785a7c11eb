//! A disk in memory that can crash at any call and keep any part of what was not synced.
//!
//! Written sectors stay in a cache until their file is synced, names until their directory is. A
//! crash asks for every such sector whether it is old, new or garbage, and for every such name
//! whether it is old or new, each independently of the others. Clones are handles of one disk.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use raft_replica::disk::{Disk, DiskError};

const SECTOR: usize = 512;

/// What a crash decides about one unsynced thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As before it was written.
    Old,
    /// As it was written.
    New,
    /// Neither; for a name or a length, old.
    Garbage,
}

/// A handle of a disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    dirs: BTreeSet<String>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names that are not durable, in order.
    pending: Vec<Change>,
    calls: u64,
    syncs: u64,
    crash_at: Option<u64>,
    fail_at: Option<u64>,
    down: bool,
    /// How many bytes all files may have.
    space: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    cached: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Sectors that cannot be read until they are written again.
    bad: BTreeSet<usize>,
    /// Those that cannot be read the next time.
    sick: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(String, usize),
    Unlink(String),
    Rename(String, String, usize),
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, _, _) => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl MemoryDisk {
    /// The machine goes down in the call with this number, counted from now, from 1.
    pub(crate) fn crash_at(&self, call: u64) {
        let mut state = self.0.borrow_mut();
        let calls = state.calls;
        state.crash_at = Some(calls + call);
    }

    /// The call with this number, counted from now, from 1, fails. If it is a sync, the cache goes
    /// on showing what was written and calls it clean, as file systems do.
    pub(crate) fn fail_at(&self, call: u64) {
        let mut state = self.0.borrow_mut();
        let calls = state.calls;
        state.fail_at = Some(calls + call);
    }

    /// The calls made so far.
    pub(crate) fn calls(&self) -> u64 {
        self.0.borrow().calls
    }

    /// The syncs made so far, of files and of directories.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.borrow().syncs
    }

    /// Whether it went down.
    pub(crate) fn is_down(&self) -> bool {
        self.0.borrow().down
    }

    /// Comes up again with what `fate` decides about everything that was not synced.
    pub(crate) fn crash(&self, mut fate: impl FnMut() -> Fate) {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        for number in 0..state.inodes.len() {
            // What no name can reach any more is not worth a decision.
            if state.is_reachable(number) {
                state.inodes[number].crash(&mut fate);
            }
        }
        for change in state.pending.drain(..) {
            if fate() == Fate::New {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        (state.crash_at, state.fail_at) = (None, None);
        state.down = false;
    }

    /// Tells states of the disk and its cache apart.
    pub(crate) fn fingerprint(&self) -> u64 {
        let state = self.0.borrow();
        let mut text = format!("{:?} {:?}", state.names, state.pending);
        for inode in &state.inodes {
            let cached = twox_hash::XxHash3_64::oneshot(&inode.cached);
            let durable = twox_hash::XxHash3_64::oneshot(&inode.durable);
            text += &format!("{cached} {durable} {:?}", inode.dirty);
        }
        twox_hash::XxHash3_64::oneshot(text.as_bytes())
    }

    /// How many things are not synced: a crash decides about each.
    pub(crate) fn unsynced(&self) -> usize {
        let mut count = 0;
        self.fork().crash(|| {
            count += 1;
            Fate::Old
        });
        count
    }

    /// An independent copy of what is there, cache included.
    pub(crate) fn fork(&self) -> Self {
        let state = self.0.borrow();
        let copy = State {
            inodes: state.inodes.clone(),
            dirs: state.dirs.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending: state.pending.clone(),
            ..State::default()
        };
        Self(Rc::new(RefCell::new(copy)))
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        state.names.get(path).map(|inode| state.inodes[*inode].cached.clone())
    }

    /// Damages a file durably.
    pub(crate) fn overwrite(&self, path: &str, offset: usize, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        inode.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        inode.durable[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// A file holds something else from now on, durably.
    pub(crate) fn replace(&self, path: &str, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        inode.cached = bytes.to_vec();
        inode.durable = bytes.to_vec();
    }

    /// A sector of a file cannot be read any more, until it is written again.
    pub(crate) fn spoil(&self, path: &str, offset: usize) {
        let mut state = self.0.borrow_mut();
        let inode = state.names[path];
        state.inodes[inode].bad.insert(offset / SECTOR);
    }

    /// A sector of a file cannot be read the next time that somebody tries.
    pub(crate) fn spoil_once(&self, path: &str, offset: usize) {
        let mut state = self.0.borrow_mut();
        let inode = state.names[path];
        state.inodes[inode].sick.insert(offset / SECTOR);
    }

    /// A file ends here from now on, durably.
    pub(crate) fn cut_off(&self, path: &str, bytes: usize) {
        let mut state = self.0.borrow_mut();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        inode.cached.truncate(bytes);
        inode.durable.truncate(bytes);
    }

    /// How many bytes of files there may be from now on, those that are there included.
    pub(crate) fn limit_space(&self, bytes: u64) {
        self.0.borrow_mut().space = Some(bytes);
    }

    /// Removes a file durably.
    pub(crate) fn lose(&self, path: &str) {
        let mut state = self.0.borrow_mut();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// The files, in all directories.
    pub(crate) fn files(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    /// Counts a call. In the one that the machine goes down in, `effect` still reaches the cache;
    /// one that fails has no effect.
    fn call<T>(
        &mut self,
        effect: impl FnOnce(&mut State) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let state = &mut *self.0.borrow_mut();
        match state.count()? {
            Fault::None => effect(state),
            Fault::Crash => effect(state).and(Err(DiskError::Failed("power cut".to_owned()))),
            Fault::Failure => Err(DiskError::Failed("sick".to_owned())),
        }
    }

    /// Counts a sync; `settle` is told whether it makes things durable or only calls them so.
    fn sync_call(&mut self, settle: impl FnOnce(&mut State, bool)) -> Result<(), DiskError> {
        let state = &mut *self.0.borrow_mut();
        state.syncs += 1;
        match state.count()? {
            Fault::None => settle(state, true),
            Fault::Crash => return Err(DiskError::Failed("power cut".to_owned())),
            Fault::Failure => {
                settle(state, false);
                return Err(DiskError::Failed("sick".to_owned()));
            }
        }
        Ok(())
    }
}

/// What happens to a call.
enum Fault {
    None,
    Crash,
    Failure,
}

impl Inode {
    fn crash(&mut self, fate: &mut impl FnMut() -> Fate) {
        if self.cached.len() != self.durable.len() && fate() == Fate::New {
            self.durable.resize(self.cached.len(), 0);
        }
        for sector in core::mem::take(&mut self.dirty) {
            match fate() {
                Fate::Old => {}
                Fate::New => self.settle(sector),
                Fate::Garbage => {
                    let range = self.range(sector);
                    self.durable[range].fill(0xa5);
                }
            }
        }
        self.cached.clone_from(&self.durable);
    }

    fn settle(&mut self, sector: usize) {
        let range = self.range(sector);
        self.durable[range.clone()].copy_from_slice(&self.cached[range]);
    }

    /// The part of a sector that the durable file has.
    fn range(&self, sector: usize) -> core::ops::Range<usize> {
        let end = self.durable.len();
        (sector * SECTOR).min(end)..((sector + 1) * SECTOR).min(end)
    }
}

impl State {
    fn count(&mut self) -> Result<Fault, DiskError> {
        if self.down {
            return Err(DiskError::Failed("down".to_owned()));
        }
        self.calls += 1;
        self.down = self.crash_at == Some(self.calls);
        Ok(match (self.down, self.fail_at == Some(self.calls)) {
            (true, _) => Fault::Crash,
            (false, true) => Fault::Failure,
            (false, false) => Fault::None,
        })
    }

    fn is_reachable(&self, inode: usize) -> bool {
        let named = |names: &BTreeMap<String, usize>| names.values().any(|named| *named == inode);
        let pending = self.pending.iter().any(|change| match change {
            Change::Link(_, linked) | Change::Rename(_, _, linked) => *linked == inode,
            Change::Unlink(_) => false,
        });
        pending || named(&self.names) || named(&self.durable_names)
    }

    /// Makes a file longer, if there is space.
    fn take_space(&self, more: usize) -> Result<(), DiskError> {
        let named: BTreeSet<usize> = self.names.values().copied().collect();
        let used: usize = named.into_iter().map(|inode| self.inodes[inode].cached.len()).sum();
        let is_full = |space| more > 0 && (used + more) as u64 > space;
        if self.space.is_some_and(is_full) { Err(DiskError::NoSpace) } else { Ok(()) }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Disk for MemoryDisk {
    type File = usize;

    fn open(&mut self, path: &str) -> Result<usize, DiskError> {
        self.call(|state| state.names.get(path).copied().ok_or(DiskError::NotFound))
    }

    fn create(&mut self, path: &str, len: u64) -> Result<usize, DiskError> {
        self.call(|state| {
            if state.names.contains_key(path) {
                return Err(DiskError::Exists);
            }
            state.take_space(usize::try_from(len).unwrap())?;
            let cached = vec![0; usize::try_from(len).unwrap()];
            state.inodes.push(Inode { cached, ..Inode::default() });
            let inode = state.inodes.len() - 1;
            state.change(Change::Link(path.to_owned(), inode));
            Ok(inode)
        })
    }

    fn has_room(&mut self, bytes: u64) -> bool {
        self.0.borrow().take_space(usize::try_from(bytes).unwrap()).is_ok()
    }

    fn len(&mut self, file: &usize) -> Result<u64, DiskError> {
        self.call(|state| Ok(state.inodes[*file].cached.len() as u64))
    }

    fn read(&mut self, file: &usize, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.call(|state| {
            let start = usize::try_from(offset).unwrap();
            let inode = &mut state.inodes[*file];
            let sectors = start / SECTOR..(start + buffer.len()).div_ceil(SECTOR);
            let is_sick = inode.sick.range(sectors.clone()).next().is_some();
            inode.sick.retain(|sector| !sectors.contains(sector));
            if is_sick || inode.bad.range(sectors).next().is_some() {
                return Err(DiskError::Unreadable);
            }
            let found = inode.cached.get(start..start + buffer.len());
            buffer.copy_from_slice(found.ok_or(DiskError::Short)?);
            Ok(())
        })
    }

    fn write(&mut self, file: &usize, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.call(|state| {
            let start = usize::try_from(offset).unwrap();
            let end = start + data.len();
            let more = end.saturating_sub(state.inodes[*file].cached.len());
            state.take_space(more)?;
            let inode = &mut state.inodes[*file];
            inode.bad.retain(|sector| !(start / SECTOR..end.div_ceil(SECTOR)).contains(sector));
            if inode.cached.len() < end {
                inode.cached.resize(end, 0);
            }
            inode.cached[start..end].copy_from_slice(data);
            inode.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
            Ok(())
        })
    }

    fn sync(&mut self, file: &usize) -> Result<(), DiskError> {
        self.sync_call(|state, durable| {
            let inode = &mut state.inodes[*file];
            let dirty = core::mem::take(&mut inode.dirty);
            if durable {
                inode.durable.resize(inode.cached.len(), 0);
                for sector in dirty {
                    inode.settle(sector);
                }
            }
        })
    }

    fn create_dir(&mut self, path: &str) -> Result<(), DiskError> {
        self.call(|state| {
            state.dirs.insert(path.to_owned());
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.call(|state| {
            let inode = *state.names.get(from).ok_or(DiskError::NotFound)?;
            state.change(Change::Rename(from.to_owned(), to.to_owned(), inode));
            Ok(())
        })
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.call(|state| {
            if !state.names.contains_key(path) {
                return Err(DiskError::NotFound);
            }
            state.change(Change::Unlink(path.to_owned()));
            Ok(())
        })
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.call(|state| {
            if !dir.is_empty() && !state.dirs.contains(dir) {
                return Err(DiskError::NotFound);
            }
            let inside = |path: &String| {
                let name = if dir.is_empty() { path } else { path.strip_prefix(dir)?.get(1..)? };
                (!name.contains('/')).then(|| name.to_owned())
            };
            let files = state.names.keys().filter(|path| dir_of(path) == dir);
            let mut names: Vec<String> = files.filter_map(inside).collect();
            if dir.is_empty() {
                names.extend(state.dirs.iter().cloned());
                names.sort();
            }
            Ok(names)
        })
    }

    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        self.sync_call(|state, durable| {
            for change in core::mem::take(&mut state.pending) {
                if dir_of(change.path()) != dir {
                    state.pending.push(change);
                } else if durable {
                    change.apply(&mut state.durable_names);
                }
            }
        })
    }
}
