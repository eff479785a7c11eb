//! A power loss: what is left of everything that a disk was told and not asked to sync.
//!
//! What a file system may do is drawn per crash, from "nothing that was unsynced is there" over
//! "all of it is" (persisted but never acknowledged) to every sector and every name by itself. A
//! sector may also hold garbage, and a file that was growing may have any length in between.

use std::collections::BTreeMap;

use crate::disk::{Inode, Platter, SECTOR_BYTES, directory};
use crate::rng::{Draw, Ratio, Stream};

/// What a power loss did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerLoss {
    /// Sectors that went back to older bytes.
    pub old: u64,
    /// Sectors that kept their newest bytes although nobody had asked for it.
    pub new: u64,
    /// Sectors that hold garbage.
    pub garbage: u64,
    /// Directory operations that have not happened.
    pub names: u64,
    /// Files that are shorter than they were.
    pub shortened: u64,
}

impl PowerLoss {
    /// Whether anything is not as it was when the power failed.
    #[must_use]
    pub fn is_effective(&self) -> bool {
        self.old + self.garbage + self.names + self.shortened > 0
    }

    /// Adds what another one did.
    pub fn add(&mut self, other: &Self) {
        self.old += other.old;
        self.new += other.new;
        self.garbage += other.garbage;
        self.names += other.names;
        self.shortened += other.shortened;
    }
}

/// What a file system happens to have written back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    /// Nothing.
    Old,
    /// Everything.
    New,
    /// Everything up to a moment.
    Prefix,
    /// Anything.
    Adversarial,
}

/// A change of a directory that is in the cache.
#[derive(Clone, Debug)]
pub(crate) enum DirOp {
    /// A file was created.
    Link { path: String, inode: usize },
    /// A file was renamed.
    Rename { from: String, to: String, inode: usize },
    /// A file was removed.
    Unlink { path: String, inode: usize },
    /// A directory was created.
    Directory { path: String },
}

impl DirOp {
    /// The path whose directory must be synced.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Link { path, .. } | Self::Unlink { path, .. } | Self::Directory { path } => path,
            Self::Rename { to, .. } => to,
        }
    }

    /// The path that it makes or changes, unless it takes one away.
    pub(crate) fn adds(&self) -> Option<&str> {
        match self {
            Self::Link { path, .. } | Self::Rename { to: path, .. } | Self::Directory { path } => {
                Some(path)
            }
            Self::Unlink { .. } => None,
        }
    }

    /// The file that it is about.
    pub(crate) fn inode(&self) -> Option<usize> {
        match self {
            Self::Link { inode, .. } | Self::Rename { inode, .. } | Self::Unlink { inode, .. } => {
                Some(*inode)
            }
            Self::Directory { .. } => None,
        }
    }

    /// Applies it to the durable names; returns the file whose name it took.
    pub(crate) fn make_durable(&self, platter: &mut Platter) -> Option<usize> {
        let names = &mut platter.durable_names;
        match self {
            Self::Link { path, inode } => names.insert(path.clone(), *inode),
            Self::Rename { from, to, inode } => {
                remove_if(names, from, *inode);
                names.insert(to.clone(), *inode)
            }
            Self::Unlink { path, inode } => {
                remove_if(names, path, *inode);
                None
            }
            Self::Directory { path } => {
                platter.durable_dirs.insert(path.clone());
                None
            }
        }
    }
}

/// Removes a name if it still belongs to this file: an earlier operation may not have happened.
fn remove_if(names: &mut BTreeMap<String, usize>, path: &str, inode: usize) {
    if names.get(path) == Some(&inode) {
        names.remove(path);
    }
}

/// Decides what is left; afterwards nothing is unsynced.
pub(crate) fn lose(platter: &mut Platter, stream: &mut Stream) -> PowerLoss {
    let mut loss = PowerLoss::default();
    let mut draw = stream.draw();
    // Where nothing special happens, nothing is lost.
    let profile = match draw.below_or(8, 1) {
        0 => Profile::Old,
        1 => Profile::New,
        2 | 3 => Profile::Prefix,
        4.. => Profile::Adversarial,
    };
    let garbage = if draw.chance(Ratio::new(1, 2)) { Ratio::new(1, 6) } else { Ratio::NEVER };
    lose_names(platter, profile, stream, &mut loss);
    for inode in &mut platter.inodes {
        if !inode.dirty.is_empty() || inode.durable_len < inode.data.len() {
            lose_sectors(inode, profile, garbage, stream, &mut loss);
        }
    }
    loss
}

fn lose_names(platter: &mut Platter, profile: Profile, stream: &mut Stream, loss: &mut PowerLoss) {
    let pending = std::mem::take(&mut platter.pending);
    let kept_before = stream.draw().position(pending.len() + 1);
    for (position, op) in pending.iter().enumerate() {
        let done = match profile {
            Profile::Old => false,
            Profile::New => true,
            Profile::Prefix => position < kept_before,
            Profile::Adversarial => stream.draw().chance(Ratio::new(1, 2)),
        };
        if done {
            op.make_durable(platter);
        } else {
            loss.names += 1;
        }
    }
    let dirs = &platter.durable_dirs;
    platter.durable_names.retain(|path, _| {
        let dir = directory(path);
        dir.is_empty() || dirs.contains(dir)
    });
    platter.names = platter.durable_names.clone();
    platter.dirs = platter.durable_dirs.clone();
    let mut named = vec![false; platter.inodes.len()];
    platter.names.values().for_each(|&inode| named[inode] = true);
    for (file, _) in platter.inodes.iter_mut().zip(named).filter(|(_, is_named)| !is_named) {
        *file = Inode::default();
    }
}

fn lose_sectors(
    inode: &mut Inode,
    profile: Profile,
    garbage: Ratio,
    stream: &mut Stream,
    loss: &mut PowerLoss,
) {
    let cut = stream.draw().position(inode.dirty.len() + 1);
    // The writes by sector, each sector's oldest first.
    let sectors: Vec<usize> = inode.dirty.iter().map(|dirty| dirty.sector).collect();
    let mut order: Vec<usize> = (0..sectors.len()).collect();
    order.sort_by_key(|&position| sectors[position]);
    for writes in order.chunk_by(|&a, &b| sectors[a] == sectors[b]) {
        let sector = sectors[writes[0]];
        let mut draw = stream.draw();
        // How many of the sector's writes have reached the disk.
        let kept = match profile {
            Profile::Old => 0,
            Profile::New => writes.len(),
            Profile::Prefix => writes.iter().filter(|&&position| position < cut).count(),
            Profile::Adversarial => draw.position(writes.len() + 1),
        };
        let is_garbage = draw.chance(garbage);
        let Some(&lost) = writes.get(kept) else {
            loss.new += 1;
            if is_garbage {
                scramble(inode, sector, &mut draw, loss);
            }
            continue;
        };
        loss.old += u64::from(inode.restore(lost));
        if is_garbage {
            scramble(inode, sector, &mut draw, loss);
        }
    }
    shorten(inode, profile, stream, loss);
    inode.forget_writes();
    inode.durable_len = inode.data.len();
}

/// The sector holds neither the old nor the new bytes, from some byte on.
fn scramble(inode: &mut Inode, sector: usize, draw: &mut Draw, loss: &mut PowerLoss) {
    loss.garbage += 1;
    let start = sector * SECTOR_BYTES;
    let end = inode.data.len().min(start + SECTOR_BYTES);
    let from = start + draw.position(end - start);
    let key = draw.word() | 0x0101_0101_0101_0101;
    for (byte, key) in inode.data[from..end].iter_mut().zip(key.to_le_bytes().into_iter().cycle()) {
        *byte ^= key;
    }
}

/// A file that was growing has any length from the durable to the present one.
fn shorten(inode: &mut Inode, profile: Profile, stream: &mut Stream, loss: &mut PowerLoss) {
    let growth = inode.data.len().saturating_sub(inode.durable_len);
    if growth == 0 {
        return;
    }
    let kept = match profile {
        Profile::Old => 0,
        Profile::New => growth,
        Profile::Prefix | Profile::Adversarial => {
            let sectors = growth.div_ceil(SECTOR_BYTES);
            growth.min(stream.draw().position(sectors + 1) * SECTOR_BYTES)
        }
    };
    if kept < growth {
        loss.shortened += 1;
        inode.data.truncate(inode.durable_len + kept);
    }
}
