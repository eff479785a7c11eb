//! What becomes of what a disk holds at rest: bits that rot, sectors that read as zeroes, as others or
//! as before, sectors that cannot be read, a log whose end is gone.
//!
//! Only what is durable is hurt, and only where something is written: what a power loss may take back
//! is another fault. What was there before is kept, so that a wound beyond what the cluster must bear is
//! as if it had never been.

use std::ops::Range;

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
}

impl Wound {
    /// Overwrites bytes of a file, and remembers them.
    fn overwrite(&mut self, platter: &mut Platter, at: usize, start: usize, bytes: &[u8]) {
        let there = &mut platter.inodes[at].data[start..start + bytes.len()];
        if *there != *bytes {
            self.patches.push(Patch { inode: at, start, before: there.to_vec() });
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
    } else {
        hurt_sector(platter, fault, draw)?
    };
    wound.is_any().then_some(wound)
}

fn hurt_sector(platter: &mut Platter, fault: Fault, draw: &mut Draw) -> Option<Wound> {
    let is_chosen = |path: &str| {
        if fault == Fault::SnapshotRot {
            path.starts_with("snap/") && path.ends_with(".data")
        } else {
            path.starts_with("wal/") || path.starts_with("hs.") || path == "IDENTITY"
        }
    };
    let named = platter
        .durable_names
        .iter()
        .filter(|&(path, inode)| is_chosen(path) && platter.names.get(path) == Some(inode));
    let files: Vec<usize> = named.map(|(_, &inode)| inode).collect();
    let &at = files.get(draw.position(files.len().max(1)))?;
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
        let from = self::span(inode, other);
        let len = from.len().min(span.len());
        bytes[..len].copy_from_slice(&inode.data[from.start..from.start + len]);
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
    wound.zero(platter, at, from..end);
    if draw.chance(Ratio::new(2, 3)) {
        let slot = usize::try_from(first.checked_sub(of_segment)?).ok()? * 64 + TABLE;
        wound.zero(platter, at, slot.min(table_end)..table_end);
    }
    Some(wound)
}

/// All slots of the newest segment are gone, as if its table were being written in a power cut.
pub(crate) fn tear_slots(platter: &mut Platter) -> Wound {
    let mut wound = Wound::default();
    if let Some((_, at)) = newest_segment(platter)
        && let Some(&table_end) = batches(&platter.inodes[at]).first()
    {
        wound.zero(platter, at, TABLE..table_end);
    }
    wound
}

/// Takes a wound back.
pub(crate) fn mend(platter: &mut Platter, wound: &Wound) {
    let Wound { patches, bad, name } = wound;
    for Patch { inode, start, before } in patches {
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
    let start = sector * SECTOR_BYTES;
    start..inode.data.len().min(start + SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Lie, SimDisk};
    use crate::rng::{Purpose, Stream};
    use raft_replica::disk::Disk;

    #[test]
    fn one_durable_sector_is_hurt_and_can_be_mended() {
        let mut disk = SimDisk::new(Lie::None);
        disk.create_dir("wal").unwrap();
        let file = disk.create("wal/seg", 4096).unwrap();
        let bytes: Vec<u8> = (0..2048u16).map(|n| u8::try_from(n / 100 + 1).unwrap()).collect();
        disk.write(&file, 512, &bytes).unwrap();
        let mut stream = Stream::new(1, Purpose::Nemesis, 0);
        assert_eq!(disk.hurt(Fault::BitRot, true, &mut stream.draw()), None);
        disk.sync(&file).unwrap();
        disk.sync_dir("").unwrap();
        disk.sync_dir("wal").unwrap();

        let before = disk.contents();
        for fault in [Fault::BitRot, Fault::ZeroedSector, Fault::Misdirected] {
            let mut wounds = (0..8).filter_map(|_| disk.hurt(fault, true, &mut stream.draw()));
            let wound = wounds.next().unwrap();
            let after = disk.contents();
            let pairs = before[0].1.iter().zip(&after[0].1).enumerate();
            let changed: Vec<usize> =
                pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at / SECTOR_BYTES).collect();
            assert!(changed.iter().all(|sector| (1..5).contains(sector)), "{changed:?}");
            assert_eq!(changed.first(), changed.last(), "one sector only");
            disk.mend(&wound);
            assert_eq!(disk.contents(), before);
        }
    }

    #[test]
    fn sectors_come_back_as_before_or_not_at_all() {
        let mut disk = SimDisk::new(Lie::None);
        disk.keep_past();
        disk.create_dir("wal").unwrap();
        let file = disk.create("wal/seg-1-1.wal", 16384).unwrap();
        disk.sync_dir("").unwrap();
        disk.sync_dir("wal").unwrap();
        for byte in [7, 9] {
            disk.write(&file, 8192, &[byte; 512]).unwrap();
            disk.sync(&file).unwrap();
        }
        let mut stream = Stream::new(1, Purpose::Nemesis, 0);
        let read = |disk: &mut SimDisk| {
            let mut bytes = [0; 512];
            disk.read(&file, 8192, &mut bytes).map(|()| bytes)
        };
        let wound = disk.hurt(Fault::LostWrite, true, &mut stream.draw()).unwrap();
        assert_eq!(read(&mut disk), Ok([7; 512]));
        disk.mend(&wound);
        assert_eq!(read(&mut disk), Ok([9; 512]));

        let (mut sticky, mut transient) = (0, 0);
        for _ in 0..32 {
            let wound = disk.hurt(Fault::Unreadable, true, &mut stream.draw()).unwrap();
            assert!(disk.peek(read).is_err());
            let is_over = (0..8).any(|_| read(&mut disk).is_ok());
            *(if is_over { &mut transient } else { &mut sticky }) += 1;
            disk.mend(&wound);
            assert!(read(&mut disk).is_ok());
        }
        assert!(sticky > 4 && transient > 4, "{sticky} {transient}");
        disk.hurt(Fault::Unreadable, true, &mut stream.draw()).unwrap();
        disk.write(&file, 8192, &[1; 512]).unwrap();
        assert_eq!(read(&mut disk), Ok([1; 512]));
    }

    #[test]
    fn the_end_of_a_log_is_lost_and_can_be_given_back() {
        let mut disk = SimDisk::new(Lie::None);
        disk.create_dir("wal").unwrap();
        for (name, len) in [("wal/seg-1-1.wal", 16384), ("wal/seg-5-2.wal", 24576)] {
            let file = disk.create(name, len).unwrap();
            for page in (12288..len).step_by(PAGE) {
                disk.write(&file, page, b"RBAT").unwrap();
                disk.write(&file, page + 24, &(5 + page / 16384).to_le_bytes()).unwrap();
            }
            disk.write(&file, 8192, &[1; 128]).unwrap();
            disk.sync(&file).unwrap();
        }
        disk.sync_dir("").unwrap();
        disk.sync_dir("wal").unwrap();
        let before = disk.contents();
        let mut stream = Stream::new(1, Purpose::Nemesis, 0);
        let (mut names, mut ends) = (0, 0);
        for _ in 0..32 {
            let wound = disk.hurt(Fault::LostTail, true, &mut stream.draw()).unwrap();
            let after = disk.contents();
            assert_eq!(after[0], before[0], "the older segment is left alone");
            names += usize::from(after.len() < before.len());
            ends += usize::from(after.len() == before.len());
            disk.mend(&wound);
            assert_eq!(disk.contents(), before);
        }
        assert!(names > 2 && ends > 2, "{names} {ends}");
        let is_whole = |disk: &mut SimDisk| disk.contents()[1] == before[1];
        assert!(!disk.peek_without_slots(is_whole) && is_whole(&mut disk));
    }
}
