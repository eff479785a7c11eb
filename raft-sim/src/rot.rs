//! What becomes of what a disk holds at rest: bits that rot, sectors that read as zeroes, as others or
//! as before, sectors that cannot be read, a log whose end is gone.
//!
//! Only what is durable is hurt, and only where something is written: what a power loss may take back
//! is another fault. What was there before is kept, so that a wound beyond what the cluster must bear is
//! as if it had never been.

#[cfg(test)]
pub(crate) mod by_hand;
mod evidence;
mod part;

use std::ops::Range;

pub(crate) use self::evidence::{
    has_met_slot, is_left, is_of_payloads, is_unwritten, met, slots_through, trace_of,
};
pub(crate) use self::part::part_of;
use crate::disk::{Inode, Platter, SECTOR_BYTES};
use crate::fault::Fault;
use crate::rng::{Draw, Ratio};

/// Where a segment has its slots.
const TABLE: usize = 8192;
/// Batches begin on a multiple of this.
const PAGE: usize = 4096;
/// How a batch begins.
const BATCH: &[u8] = b"RBAT";

/// What has been hurt, and how it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wound {
    patches: Vec<Patch>,
    /// The file and the sector that cannot be read.
    bad: Option<(usize, usize)>,
    /// The name that is lost, and the file.
    name: Option<(String, usize)>,
}

/// Bytes that were overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Patch {
    inode: usize,
    start: usize,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Wound {
    /// Whether it is a sector that cannot be read, and nothing else.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.patches.is_empty() && self.bad.is_some()
    }

    /// Whether a whole file is gone.
    pub(crate) fn is_removal(&self) -> bool {
        self.name.is_some()
    }

    /// Overwrites bytes of a file, and remembers them.
    fn overwrite(&mut self, platter: &mut Platter, at: usize, start: usize, bytes: &[u8]) {
        let there = &mut platter.inodes[at].data[start..start + bytes.len()];
        if *there != *bytes {
            let (before, after) = (there.to_vec(), bytes.to_vec());
            self.patches.push(Patch { inode: at, start, before, after });
            there.copy_from_slice(bytes);
        }
    }

    fn zero(&mut self, platter: &mut Platter, at: usize, span: Range<usize>) {
        let zeros = vec![0; span.len()];
        self.overwrite(platter, at, span.start, &zeros);
    }

    fn is_any(&self) -> bool {
        !self.patches.is_empty() || self.bad.is_some() || self.name.is_some()
    }
}

/// Whether nothing is on its way to the disk; it would hide what is there.
pub(crate) fn is_at_rest(platter: &Platter) -> bool {
    platter.pending.is_empty() && platter.inodes.iter().all(|inode| inode.dirty.is_empty())
}

/// Hurts something. A file is drawn first: the hard state is as likely to be hit as a long segment.
/// `is_down`: no process has the files open.
pub(crate) fn hurt(
    platter: &mut Platter,
    fault: Fault,
    is_down: bool,
    draw: &mut Draw,
) -> Option<Wound> {
    if !is_at_rest(platter) {
        return None;
    }
    let wound = if fault == Fault::LostTail {
        lose_tail(platter, is_down, draw)?
    } else if fault == Fault::StrayWrite {
        stray(platter, draw)?
    } else {
        hurt_sector(platter, fault, draw)?
    };
    wound.is_any().then_some(wound)
}

/// The hard state or the identity goes, in one of the ways in which it can.
pub(crate) fn forget_promises(platter: &mut Platter, draw: &mut Draw) -> bool {
    if !is_at_rest(platter) {
        return false;
    }
    let kind = draw.below(4);
    let word = draw.word() | 1;
    let paths = if kind == 3 { &["IDENTITY"][..] } else { &["hs.a", "hs.b"] };
    if !paths.iter().all(|path| platter.names.contains_key(*path)) {
        return false;
    }
    for path in paths {
        let at = platter.names[*path];
        if kind == 0 || (kind == 1 && (*path == "hs.b") == (word >> 1 & 1 == 1)) {
            platter.names.remove(*path);
            platter.durable_names.remove(*path);
        } else if kind >= 2 {
            // Both copies of it, of both generations, and what a start may have left beside them.
            let data = &mut platter.inodes[at].data;
            let end = data.len().min(3 * PAGE);
            for (byte, key) in data[..end].iter_mut().zip(word.to_le_bytes().iter().cycle()) {
                *byte ^= key;
            }
        }
    }
    true
}

/// A bit flips in a sector of the hard state or of the identity, both of which are kept twice: so many of
/// their sectors further, in a circle.
pub(crate) fn spoil_copy(platter: &mut Platter, number: usize) -> Option<Wound> {
    if !is_at_rest(platter) {
        return None;
    }
    let paths = ["IDENTITY", "hs.a", "hs.b"];
    let files = paths.iter().filter_map(|path| platter.durable_names.get(*path).copied());
    let sectors_of = |at: usize| written(&platter.inodes[at]).into_iter().map(move |one| (at, one));
    let sectors: Vec<(usize, usize)> = files.flat_map(sectors_of).collect();
    let &(at, sector) = sectors.get(number % sectors.len().max(1))?;
    let span = span(&platter.inodes[at], sector);
    let mut bytes = platter.inodes[at].data[span.clone()].to_vec();
    bytes[0] ^= 1;
    let mut wound = Wound::default();
    wound.overwrite(platter, at, span.start, &bytes);
    Some(wound)
}

fn hurt_sector(platter: &mut Platter, fault: Fault, draw: &mut Draw) -> Option<Wound> {
    // Of an older snapshot, most starts do not look at the bytes.
    let newest = newest_snapshot(platter).filter(|_| draw.chance(Ratio::new(3, 4)));
    let is_chosen = |path: &str| match (fault == Fault::SnapshotRot, &newest) {
        (true, Some(newest)) => path == newest,
        (true, None) => is_snapshot(path),
        (false, _) => is_kept(path),
    };
    let at = pick_file(platter, is_chosen, draw)?;
    let inode = &platter.inodes[at];
    let sectors = written(inode);
    let &sector = sectors.get(draw.position(sectors.len().max(1)))?;
    let other = sectors[draw.position(sectors.len())];
    let span = span(inode, sector);
    let mut wound = Wound::default();
    let mut bytes = inode.data[span.clone()].to_vec();
    if fault == Fault::ZeroedSector {
        bytes.fill(0);
    } else if fault == Fault::Misdirected {
        // What was meant for another file of this disk has its own way of not being believed.
        let meant = pick_file(platter, is_kept, draw).filter(|_| draw.chance(Ratio::new(1, 2)));
        let meant = meant.and_then(|at| {
            let sectors = written(&platter.inodes[at]);
            Some((at, *sectors.get(draw.position(sectors.len().max(1)))?))
        });
        let (of, other) = meant.unwrap_or((at, other));
        let from = &platter.inodes[of].data[self::span(&platter.inodes[of], other)];
        let len = from.len().min(span.len());
        bytes[..len].copy_from_slice(&from[..len]);
    } else if fault == Fault::LostWrite {
        bytes.copy_from_slice(inode.past.as_ref()?.get(&sector)?.get(..span.len())?);
    } else if fault == Fault::Unreadable {
        let reads = draw.chance(Ratio::new(1, 2)).then(|| 1 + (draw.word() & 3) as u32);
        platter.inodes[at].bad.insert(sector, reads);
        wound.bad = Some((at, sector));
    } else {
        let bit = draw.position(span.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    wound.overwrite(platter, at, span.start, &bytes);
    Some(wound)
}

/// What was meant for another disk has been written to this one, into a file of the same name: to the same
/// place mostly, which is the one where it would be believed.
pub(crate) fn misplace(platter: &mut Platter, meant: &Platter, draw: &mut Draw) -> Option<Wound> {
    if !is_at_rest(platter) {
        return None;
    }
    let at = pick_file(platter, is_kept, draw)?;
    let (path, _) = platter.names.iter().find(|&(_, inode)| *inode == at)?;
    let theirs = &meant.inodes[*meant.names.get(path)?];
    let [sectors, others] = [written(&platter.inodes[at]), written(theirs)];
    let &here = sectors.get(draw.position(sectors.len().max(1)))?;
    let &other = others.get(draw.position(others.len().max(1)))?;
    let is_same = others.contains(&here) && draw.chance(Ratio::new(3, 4));
    let from = span(theirs, if is_same { here } else { other });
    let to = span(&platter.inodes[at], here);
    let len = from.len().min(to.len());
    let mut wound = Wound::default();
    wound.overwrite(platter, at, to.start, &theirs.data[from.start..from.start + len]);
    wound.is_any().then_some(wound)
}

fn is_snapshot(path: &str) -> bool {
    path.starts_with("snap/") && path.ends_with(".data")
}

/// The name of the newest snapshot's bytes.
fn newest_snapshot(platter: &Platter) -> Option<String> {
    let number = |path: &str| {
        let (index, term) = path.strip_prefix("snap/")?.strip_suffix(".data")?.split_once('-')?;
        Some((index.parse::<u64>().ok()?, term.parse::<u64>().ok()?))
    };
    let numbered = platter.durable_names.keys().filter_map(|path| Some((number(path)?, path)));
    numbered.max().map(|(_, path)| path.clone())
}

/// Whether the newest snapshot has bytes that can be hurt now.
pub(crate) fn has_snapshot(platter: &Platter) -> bool {
    let newest = newest_snapshot(platter).and_then(|path| platter.names.get(&path).copied());
    is_at_rest(platter) && newest.is_some_and(|at| !written(&platter.inodes[at]).is_empty())
}

/// Whether a file keeps log or promises, or says what a snapshot covers.
fn is_kept(path: &str) -> bool {
    let is_manifest = path.starts_with("snap/") && path.contains(".manifest");
    path.starts_with("wal/") || path.starts_with("hs.") || path == "IDENTITY" || is_manifest
}

/// One of the durable files that are chosen.
fn pick_file(
    platter: &Platter,
    is_chosen: impl Fn(&str) -> bool,
    draw: &mut Draw,
) -> Option<usize> {
    let named = platter
        .durable_names
        .iter()
        .filter(|&(path, inode)| is_chosen(path) && platter.names.get(path) == Some(inode));
    let files: Vec<usize> = named.map(|(_, &inode)| inode).collect();
    files.get(draw.position(files.len().max(1))).copied()
}

/// The last write of a sector has gone to another one, of the same file or of another one.
fn stray(platter: &mut Platter, draw: &mut Draw) -> Option<Wound> {
    let at = pick_file(platter, is_kept, draw)?;
    let other = pick_file(platter, is_kept, draw).filter(|_| draw.chance(Ratio::new(1, 2)));
    // Of the two files of the hard state, such a write takes both copies of a generation, and leaves the
    // one before it, which was promised as well: no disk could tell.
    let is_pair = |other: &usize| [at, *other].iter().all(|&at| is_of_hard_state(platter, at));
    let other = other.filter(|other| !is_pair(other)).unwrap_or(at);
    let inode = &platter.inodes[at];
    let (sectors, others) = (written(inode), written(&platter.inodes[other]));
    let here = sectors.get(draw.position(sectors.len().max(1)));
    let there = others.get(draw.position(others.len().max(1)));
    let is_apart = |(here, there): &(&usize, &usize)| (at, here) != (other, there);
    let (&here, &there) = here.zip(there).filter(is_apart)?;
    let (from, to) = (span(inode, here), span(&platter.inodes[other], there));
    let before = inode.past.as_ref()?.get(&here)?.get(..from.len())?.to_vec();
    let len = from.len().min(to.len());
    let bytes = inode.data[from.start..from.start + len].to_vec();
    let mut wound = Wound::default();
    wound.overwrite(platter, other, to.start, &bytes);
    wound.overwrite(platter, at, from.start, &before);
    Some(wound)
}

fn is_of_hard_state(platter: &Platter, at: usize) -> bool {
    platter.names.iter().any(|(path, &inode)| inode == at && path.starts_with("hs."))
}

/// What syncs have lied about is as the disk has it; they are forgiven.
pub(crate) fn take_back(platter: &mut Platter) -> Option<Wound> {
    let mut wound = Wound::default();
    for at in 0..platter.inodes.len() {
        for (sector, before) in std::mem::take(&mut platter.inodes[at].lied) {
            let span = span(&platter.inodes[at], sector);
            let len = span.len().min(before.len());
            if !span.is_empty() {
                wound.overwrite(platter, at, span.start, &before[..len]);
            }
        }
    }
    wound.is_any().then_some(wound)
}

/// The newest segment loses its last batches, with or without their slots, or its name.
fn lose_tail(platter: &mut Platter, is_down: bool, draw: &mut Draw) -> Option<Wound> {
    let (path, at) = newest_segment(platter)?;
    let mut wound = Wound::default();
    if is_down && draw.chance(Ratio::new(1, 3)) {
        platter.names.remove(&path);
        platter.durable_names.remove(&path);
        wound.name = Some((path, at));
        return Some(wound);
    }
    let batches = batches(&platter.inodes[at]);
    let &from = batches.get(draw.position(batches.len().max(1)))?;
    let data = &platter.inodes[at].data;
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let first = number(&data[from + 24..from + 32]);
    let (_, of_segment) = numbers(&path)?;
    let (end, table_end) = (data.len(), batches[0]);
    // The header may have rotted before, or be that of another segment.
    let slot = first.checked_sub(of_segment).and_then(|slot| usize::try_from(slot).ok());
    wound.zero(platter, at, from..end);
    if draw.chance(Ratio::new(2, 3))
        && let Some(slot) = slot
    {
        let slot_at = slot.saturating_mul(64).saturating_add(TABLE);
        wound.zero(platter, at, slot_at.min(table_end)..table_end);
    }
    Some(wound)
}

/// All slots of the newest segment are gone, as if its table were being written in a power cut.
pub(crate) fn tear_slots(platter: &mut Platter) -> Wound {
    let mut wound = Wound::default();
    if let Some((_, at)) = newest_segment(platter) {
        let inode = &platter.inodes[at];
        // Where no batch has a header any more, only slots tell of what stood there.
        let table_end = batches(inode).first().copied().unwrap_or(inode.data.len());
        wound.zero(platter, at, TABLE.min(table_end)..table_end);
    }
    wound
}

/// Takes a wound back.
pub(crate) fn mend(platter: &mut Platter, wound: &Wound) {
    let Wound { patches, bad, name } = wound;
    for Patch { inode, start, before, .. } in patches {
        platter.inodes[*inode].data[*start..start + before.len()].copy_from_slice(before);
    }
    if let Some((at, sector)) = bad {
        platter.inodes[*at].bad.remove(sector);
    }
    if let Some((path, at)) = name {
        platter.names.insert(path.clone(), *at);
        platter.durable_names.insert(path.clone(), *at);
    }
}

/// The file of which a wound has hurt one sector and nothing else; of the two files of the hard state,
/// any sectors of one: each has a twin in the other.
pub(crate) fn file_of(platter: &Platter, wound: &Wound) -> Option<String> {
    let Wound { patches, bad, name } = wound;
    let mut files = patches.iter().map(|patch| patch.inode).chain(bad.map(|(inode, _)| inode));
    let at = files.next().filter(|at| name.is_none() && files.all(|file| file == *at))?;
    let mut named = platter.names.iter();
    let (path, _) = named.find(|&(path, inode)| *inode == at && is_kept(path))?;
    let is_one = match patches.as_slice() {
        [] => true,
        [patch] => patch.before.len() <= SECTOR_BYTES && bad.is_none(),
        _ => false,
    };
    (is_one || path.starts_with("hs.")).then(|| path.clone())
}

/// Whether anything of a wound is still on the disk. A name that is gone is not: a start has long
/// drawn its conclusions.
pub(crate) fn is_open(platter: &Platter, wound: &Wound) -> bool {
    let is_on_its_way = |inode: usize| !platter.inodes[inode].dirty.is_empty();
    let is_there = |patch: &Patch| {
        let Patch { inode, start, before, after } = patch;
        let there = platter.inodes[*inode].data.get(*start..*start + after.len());
        // What was written since has covered a part of it at most.
        let is_left = |there: &[u8]| {
            let sectors = there.chunks(SECTOR_BYTES).zip(after.chunks(SECTOR_BYTES));
            let mut sectors = sectors.zip(before.chunks(SECTOR_BYTES));
            sectors.any(|((there, after), before)| there == after && after != before)
        };
        there.is_some_and(|there| is_left(there) || is_on_its_way(*inode))
    };
    let is_bad = |&(inode, sector): &(usize, usize)| {
        platter.inodes[inode].bad.contains_key(&sector) || is_on_its_way(inode)
    };
    wound.patches.iter().any(is_there) || wound.bad.iter().any(is_bad)
}

/// The name and the file of the segment that was made last.
fn newest_segment(platter: &Platter) -> Option<(String, usize)> {
    let segments = platter.durable_names.iter().filter(|(path, _)| numbers(path).is_some());
    let newest = segments.max_by_key(|(path, _)| numbers(path))?;
    Some((newest.0.clone(), *newest.1))
}

/// The epoch of a segment, and its first entry.
fn numbers(path: &str) -> Option<(u64, u64)> {
    let name = path.strip_prefix("wal/seg-")?.strip_suffix(".wal")?;
    let (first, epoch) = name.split_once('-')?;
    Some((epoch.parse().ok()?, first.parse().ok()?))
}

/// The sectors in which payloads may stand, newest segment first.
pub(crate) fn payload_sectors(platter: &Platter) -> Vec<(usize, usize)> {
    let mut segments: Vec<_> =
        platter.durable_names.iter().filter_map(|(path, &at)| Some((numbers(path)?, at))).collect();
    segments.sort_unstable();
    let healed = platter.durable_names.iter().filter(|(path, _)| path.starts_with("wal/heal-"));
    let files = segments.iter().rev().map(|&(_, at)| at).chain(healed.map(|(_, &at)| at));
    files
        .flat_map(|at| written(&platter.inodes[at]).into_iter().map(move |sector| (at, sector)))
        .collect()
}

/// A sector reads as zeroes.
pub(crate) fn blank(platter: &mut Platter, (at, sector): (usize, usize)) -> Wound {
    let span = span(&platter.inodes[at], sector);
    let mut wound = Wound::default();
    wound.zero(platter, at, span);
    wound
}

/// Where the batches of a segment begin.
fn batches(inode: &Inode) -> Vec<usize> {
    let pages = (TABLE..inode.data.len()).step_by(PAGE);
    pages.filter(|&at| inode.data[at..].starts_with(BATCH)).collect()
}

/// The durable sectors of a file that say anything.
fn written(inode: &Inode) -> Vec<usize> {
    let whole = inode.data.len().min(inode.durable_len);
    let sectors = (0..whole.div_ceil(SECTOR_BYTES))
        .filter(|&sector| inode.data[span(inode, sector)].iter().any(|&byte| byte != 0));
    sectors.collect()
}

fn span(inode: &Inode, sector: usize) -> Range<usize> {
    let end = inode.data.len();
    end.min(sector * SECTOR_BYTES)..end.min((sector + 1) * SECTOR_BYTES)
}

#[cfg(test)]
mod tests;
