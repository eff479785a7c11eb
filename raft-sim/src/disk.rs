//! The simulated disk: a [`Disk`](raft_replica::disk::Disk) that forgets what was not synced.
//!
//! A sector has 512 bytes and is the unit of tearing. Of every sector that was written since the
//! last sync of its file, the disk keeps the bytes before each write; a power loss picks, for each
//! such sector by itself, the durable bytes, those of any write since, or garbage. Names are cached
//! in the same way: each unsynced creation, rename, removal or new directory has happened or not.
//! A write copies the sectors that it touches and nothing else.
//!
//! Storage owns one handle, the simulated machine another: what is on the disk outlives the process
//! that wrote it. A process that is killed without a power loss leaves the cache as it is.

#[cfg(test)]
mod by_hand;
mod calls;
mod inode;
mod marks;
mod room;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use raft_replica::disk::DiskError;

pub(crate) use self::inode::Inode;
use crate::fault::Fault;
use crate::look::{Found, Look, View};
use crate::power::{DirOp, PowerLoss};
use crate::rng::{Draw, Ratio, Stream};
use crate::rot::Wound;

/// The unit of tearing, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A handle on one simulated disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Rc<RefCell<Platter>>);

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimFile(usize);

/// How a failing sync treats what was to be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFailure {
    /// Some of the pages are dropped: reads show the old bytes again.
    DropsPages,
    /// The cache keeps showing the new bytes and calls them clean: no later sync writes them.
    KeepsPages,
}

/// An injected error that has come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Of which class it is.
    pub fault: Fault,
    /// Whether the disk differs by more than the error: pages are gone, or called clean.
    pub took_hold: bool,
    /// The call, if it is one that changes a directory.
    pub call: Option<Call>,
}

/// A call that changes a directory, or makes such changes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A file is made.
    Create,
    /// A directory is made.
    CreateDir,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
    /// A directory is synced.
    SyncDir,
}

/// How a disk is broken on purpose; see [`crate::sabotage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// It is honest.
    #[default]
    None,
    /// No sync makes anything durable.
    AllSyncs,
    /// A sync of a hard-state file makes nothing durable.
    HardStateSyncs,
}

#[derive(Debug, Default)]
pub(crate) struct Platter {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) names: BTreeMap<String, usize>,
    pub(crate) durable_names: BTreeMap<String, usize>,
    pub(crate) dirs: BTreeSet<String>,
    pub(crate) durable_dirs: BTreeSet<String>,
    pub(crate) pending: Vec<DirOp>,
    /// The power fails when this many more operations that change something have begun.
    armed: Option<u32>,
    dead: bool,
    /// How many writes fail from now on.
    fail_writes: u64,
    /// The next call of this kind fails.
    fail_call: Option<(Call, Draw)>,
    /// Of the next write, only a part is written.
    cut_write: Option<Draw>,
    fail_sync: Option<(SyncFailure, Draw)>,
    /// The next sync makes nothing durable.
    lie_sync: bool,
    failed: Option<Failed>,
    /// There is no space for a new file, nor for a longer one.
    is_full: bool,
    /// How many bytes all files may have until somebody makes space.
    squeezed_to: Option<u64>,
    /// How many bytes all files may have, if that is limited.
    capacity: Option<u64>,
    /// Whether what a write replaces is remembered: it may come back.
    keeps_past: bool,
    /// How much more a start reads at once than it needs, if anything.
    read_ahead: u64,
    /// Somebody looks who is none of the machine: reads change nothing.
    is_peeking: bool,
    lie: Lie,
    operations: u64,
    /// Names what a start would read: whatever may change that changes the name.
    pub(crate) state: u64,
    /// What was found in which state; see [`crate::look`].
    pub(crate) looks: [Option<Look>; 3],
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(lie: Lie) -> Self {
        Self(Rc::new(RefCell::new(Platter { lie, ..Platter::default() })))
    }

    /// Another empty disk of the same make.
    pub(crate) fn another(&self) -> Self {
        let Platter { lie, keeps_past, read_ahead, capacity, .. } = *self.0.borrow();
        let platter = Platter { lie, keeps_past, read_ahead, capacity, ..Platter::default() };
        Self(Rc::new(RefCell::new(platter)))
    }

    /// A start reads so many bytes at once; a sector where nobody has said.
    pub fn set_read_ahead(&self, bytes: u64) {
        self.0.borrow_mut().read_ahead = bytes;
    }

    /// Cuts the power when `operations` more operations that change something have begun.
    pub fn arm(&self, operations: u32) {
        self.0.borrow_mut().armed = Some(operations);
    }

    /// As [`Self::arm`], but leaves the disk alone if the power is already going to fail.
    pub fn arm_unless_armed(&self, operations: u32) {
        self.0.borrow_mut().armed.get_or_insert(operations);
    }

    /// Whether the power has failed inside a call.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.0.borrow().dead
    }

    /// The next write fails and writes nothing.
    pub fn fail_next_write(&self) {
        self.fail_writes(1);
    }

    /// So many writes from now on fail and write nothing.
    pub fn fail_writes(&self, writes: u64) {
        self.0.borrow_mut().fail_writes = writes;
    }

    /// The next call of this kind fails; `draw` picks whether it is done all the same.
    pub(crate) fn fail_next(&self, call: Call, draw: Draw) {
        self.0.borrow_mut().fail_call = Some((call, draw));
    }

    /// The next write fails and writes a part; `draw` picks how much.
    pub(crate) fn cut_next_write(&self, draw: Draw) {
        self.0.borrow_mut().cut_write = Some(draw);
    }

    /// The next sync makes nothing durable, and says that it has. What it was about stays where a
    /// power loss can take it back until the file is synced again; see [`Self::take_back`].
    pub(crate) fn lie_next_sync(&self) {
        self.0.borrow_mut().lie_sync = true;
    }

    /// What was never made durable, although a sync has said so, is gone. After a power loss.
    pub(crate) fn take_back(&self) -> Option<Wound> {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        crate::rot::take_back(&mut platter)
    }

    /// The next sync fails; `draw` picks the pages that are lost.
    pub fn fail_next_sync(&self, how: SyncFailure, draw: Draw) {
        self.0.borrow_mut().fail_sync = Some((how, draw));
    }

    /// The injected error that has come out since this was last asked.
    #[must_use]
    pub fn take_failed(&self) -> Option<Failed> {
        std::mem::take(&mut self.0.borrow_mut().failed)
    }

    /// Remembers from now on, of files made from now on, what each sector held before.
    pub(crate) fn keep_past(&self) {
        self.0.borrow_mut().keeps_past = true;
    }

    /// Reads as a start would; no fault is used up by it.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&mut Self) -> T) -> T {
        self.0.borrow_mut().is_peeking = true;
        let seen = look(&mut self.clone());
        self.0.borrow_mut().is_peeking = false;
        seen
    }

    /// As [`Self::peek`], where all slots of the newest segment are torn.
    pub(crate) fn peek_without_slots<T>(&self, look: impl FnOnce(&mut Self) -> T) -> T {
        let wound = crate::rot::tear_slots(&mut self.0.borrow_mut());
        let seen = self.peek(look);
        crate::rot::mend(&mut self.0.borrow_mut(), &wound);
        seen
    }

    /// As [`Self::peek`], where nothing is there that no sync has made durable.
    pub(crate) fn peek_as_durable<T>(&self, look: impl FnOnce(&mut Self) -> T) -> T {
        let mut platter = self.0.borrow_mut();
        let durable_names = platter.durable_names.clone();
        let names = std::mem::replace(&mut platter.names, durable_names);
        let mut shown = Vec::new();
        for (at, inode) in platter.inodes.iter_mut().enumerate() {
            if !inode.dirty.is_empty() {
                shown.push((at, inode.data.clone()));
                inode.show_durable();
            }
        }
        drop(platter);
        let seen = self.peek(look);
        let mut platter = self.0.borrow_mut();
        platter.names = names;
        for (at, data) in shown {
            platter.inodes[at].data = data;
        }
        seen
    }

    /// What is known of the present state without another look.
    pub(crate) fn known(&self, view: View) -> Option<Found> {
        let platter = self.0.borrow();
        let look = platter.looks[view as usize].as_ref();
        look.filter(|look| look.state == platter.state).map(|look| look.found.clone())
    }

    /// Remembers what a look at the present state has found.
    pub(crate) fn know(&self, view: View, found: &Found) {
        let mut platter = self.0.borrow_mut();
        let look = Look { state: platter.state, found: found.clone() };
        platter.looks[view as usize] = Some(look);
    }

    /// Withdraws all faults that have been armed and not yet come out.
    pub fn disarm(&self) {
        let mut platter = self.0.borrow_mut();
        platter.armed = None;
        platter.fail_writes = 0;
        platter.fail_call = None;
        platter.cut_write = None;
        platter.fail_sync = None;
        platter.lie_sync = false;
    }

    /// A process has taken the disk and made durable what it found: it answers for its own writes
    /// from now on, and no longer for what an earlier one has left unsynced.
    pub fn taken(&self) {
        let mut platter = self.0.borrow_mut();
        for dirty in platter.inodes.iter_mut().flat_map(|inode| &mut inode.dirty) {
            dirty.left_over = true;
        }
    }

    /// The first file with bytes, or the first name, that a power loss could take back now, among
    /// those under which a process that starts would look; a removal takes nothing back. Says
    /// nothing of a file for which `is_scratch` holds, of bytes that were there when a process
    /// last took the disk, nor of what the disk lies about.
    #[must_use]
    pub fn unsynced(&self, is_scratch: impl Fn(&str) -> bool) -> Option<String> {
        let platter = self.0.borrow();
        let name = platter.pending.iter().find_map(|op| op.adds().filter(|path| !is_scratch(path)));
        if let Some(path) = name {
            return Some(format!("the name {path}"));
        }
        let lies = |inode: &Inode| inode.hard_state && platter.lie == Lie::HardStateSyncs;
        let is_unsynced = |inode: &Inode| inode.is_unsynced() && !lies(inode);
        let mut named = platter.names.iter();
        let file = named.find(|&(path, &at)| is_unsynced(&platter.inodes[at]) && !is_scratch(path));
        file.map(|(path, _)| format!("bytes of {path}"))
    }

    /// Whether nothing is on its way to the disk.
    pub(crate) fn is_at_rest(&self) -> bool {
        crate::rot::is_at_rest(&self.0.borrow())
    }

    /// Something becomes of what is durable in one of the files that keep log, promises and
    /// snapshots; `is_down`: no process has them open; what to give back to [`Self::mend`]. Nothing
    /// if there is no such sector.
    pub(crate) fn hurt(&self, fault: Fault, is_down: bool, draw: &mut Draw) -> Option<Wound> {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        crate::rot::hurt(&mut platter, fault, is_down, draw)
    }

    /// A sector that another disk was to get has come to this one; see [`Self::hurt`].
    pub(crate) fn misplace(&self, meant: &Self, draw: &mut Draw) -> Option<Wound> {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        crate::rot::misplace(&mut platter, &meant.0.borrow(), draw)
    }

    /// What its node has promised is lost, or who it is: all copies, or a file of the two. Returns
    /// whether it is: not while anything is on its way to the disk.
    pub(crate) fn forget_promises(&self, draw: &mut Draw) -> bool {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        crate::rot::forget_promises(&mut platter, draw)
    }

    /// A copy of what is kept twice is lost; see [`Self::hurt`]. Which one follows from the number.
    pub(crate) fn spoil_copy(&self, number: usize) -> Option<Wound> {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        crate::rot::spoil_copy(&mut platter, number)
    }

    /// The sectors in which payloads of the log may stand, newest segment first: file and sector.
    pub(crate) fn payload_sectors(&self) -> Vec<(usize, usize)> {
        crate::rot::payload_sectors(&self.0.borrow())
    }

    /// A sector reads as zeroes.
    pub(crate) fn blank(&self, sector: (usize, usize)) -> Wound {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        crate::rot::blank(&mut platter, sector)
    }

    /// Whether the bytes of a snapshot can be hurt now.
    pub(crate) fn has_snapshot(&self) -> bool {
        crate::rot::has_snapshot(&self.0.borrow())
    }

    /// A sector is again as it was, as if nothing had happened.
    pub(crate) fn mend(&self, wound: &Wound) {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        crate::rot::mend(&mut platter, wound);
    }

    /// How many calls the disk has served.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// The power fails and comes back: decides what is left of everything that was not synced.
    pub fn lose_power(&self, stream: &mut Stream) -> PowerLoss {
        let mut platter = self.0.borrow_mut();
        platter.dead = false;
        platter.armed = None;
        // Whoever could have been told has no power.
        platter.failed = None;
        platter.state += 1;
        crate::power::lose(&mut platter, stream)
    }

    /// Whether a power cut may bring back a file that was removed.
    pub(crate) fn may_bring_back(&self) -> bool {
        self.0.borrow().pending.iter().any(|op| matches!(op, DirOp::Unlink { .. }))
    }

    /// Everything in the files, for a test or a digest.
    #[must_use]
    pub fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let platter = self.0.borrow();
        let named = platter.names.iter();
        named.map(|(name, &inode)| (name.clone(), platter.inodes[inode].data.clone())).collect()
    }
}

impl Platter {
    /// Counts an operation. `Err` once the power has failed.
    fn look(&mut self) -> Result<(), DiskError> {
        self.operations += 1;
        if self.dead { Err(DiskError::Failed("no power".to_owned())) } else { Ok(()) }
    }

    /// Something is about to be changed; whether the power fails during it. A call that is refused
    /// changes nothing, and must not be the one in which the power fails: whoever expects the refusal
    /// would go on without a disk.
    fn change(&mut self) -> bool {
        self.state += 1;
        let Some(left) = &mut self.armed else { return false };
        *left = left.saturating_sub(1);
        self.dead = *left == 0;
        self.dead
    }

    /// Whether a call that changes a directory fails, by error or for want of power, and whether it is done
    /// all the same.
    fn call(&mut self, call: Call) -> Outcome {
        let dies = self.change();
        let Some((_, mut draw)) = self.fail_call.take_if(|(due, _)| *due == call) else {
            return Outcome { is_done: true, error: dies.then_some("the power failed") };
        };
        let (fault, took_hold) = (Fault::DirectoryError, true);
        self.failed = Some(Failed { fault, took_hold, call: Some(call) });
        let is_done = draw.chance(Ratio::new(1, 2));
        Outcome { is_done, error: Some("injected error of a directory") }
    }

    fn inode(&self, path: &str) -> Result<usize, DiskError> {
        self.names.get(path).copied().ok_or(DiskError::NotFound)
    }

    fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.dirs.contains(dir)
    }

    /// Makes the changes of names durable that wait for it in these directories.
    fn make_names_durable(&mut self, is_meant: impl Fn(&str) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        let (now, later) = pending.into_iter().partition(|op| is_meant(directory(op.path())));
        self.pending = later;
        let now: Vec<DirOp> = now;
        for op in &now {
            let replaced = op.make_durable(self);
            for inode in op.inode().into_iter().chain(replaced) {
                self.free(inode);
            }
        }
    }

    /// Frees the data of files that no name can reach any more, whatever a crash may do.
    fn free(&mut self, inode: usize) {
        let named = |names: &BTreeMap<String, usize>| names.values().any(|&named| named == inode);
        let pending = self.pending.iter().any(|op| op.inode() == Some(inode));
        if !pending && !named(&self.names) && !named(&self.durable_names) {
            self.inodes[inode] = Inode::default();
        }
    }
}

/// What comes of a call that changes a directory.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    is_done: bool,
    error: Option<&'static str>,
}

impl Outcome {
    fn or<T>(self, value: T) -> Result<T, DiskError> {
        self.error.map_or(Ok(value), |error| Err(DiskError::Failed(error.to_owned())))
    }
}

/// The directory that a name is in.
pub(crate) fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
