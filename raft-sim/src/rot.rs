//! What becomes of sectors at rest: bits that rot, sectors that read as zeroes or as others.
//!
//! Only what is durable is hurt, and only where something is written: what a power loss may take back
//! is another fault. The bytes before are kept, so that a wound beyond what the cluster must bear is
//! as if it had never been.
//!
//! Absent: reads that fail or that differ from time to time; snapshots.

use crate::disk::{Inode, Platter, SECTOR_BYTES};
use crate::fault::Fault;
use crate::rng::Draw;

/// A sector that has been hurt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wound {
    inode: usize,
    start: usize,
    before: Vec<u8>,
}

/// Hurts a sector. A file is drawn first: the hard state is as likely to be hit as a long segment.
pub(crate) fn hurt(platter: &mut Platter, fault: Fault, draw: &mut Draw) -> Option<Wound> {
    let is_chosen =
        |path: &str| path.starts_with("wal/") || path.starts_with("hs.") || path == "IDENTITY";
    // What is on its way to the disk hides what is there.
    if !platter.pending.is_empty() || platter.inodes.iter().any(|inode| !inode.dirty.is_empty()) {
        return None;
    }
    let named = platter
        .durable_names
        .iter()
        .filter(|&(path, inode)| is_chosen(path) && platter.names.get(path) == Some(inode));
    let files: Vec<usize> = named.map(|(_, &inode)| inode).collect();
    let &at = files.get(draw.position(files.len().max(1)))?;
    let inode = &mut platter.inodes[at];
    let sectors = written(inode);
    let &sector = sectors.get(draw.position(sectors.len().max(1)))?;
    let other = sectors[draw.position(sectors.len())];
    let span = span(inode, sector);
    let before = inode.data[span.clone()].to_vec();
    match fault {
        Fault::ZeroedSector => inode.data[span.clone()].fill(0),
        Fault::Misdirected => {
            let from = self::span(inode, other);
            let len = from.len().min(span.len());
            inode.data.copy_within(from.start..from.start + len, span.start);
        }
        Fault::BitRot => {
            let bit = draw.position(span.len() * 8);
            inode.data[span.start + bit / 8] ^= 1 << (bit % 8);
        }
        Fault::Loss
        | Fault::Duplication
        | Fault::Reorder
        | Fault::Corruption
        | Fault::Overflow
        | Fault::Partition
        | Fault::Clog
        | Fault::Reset
        | Fault::Crash
        | Fault::PowerLoss
        | Fault::TornWork
        | Fault::Blackout
        | Fault::Pause
        | Fault::Skew
        | Fault::Jump
        | Fault::Stall
        | Fault::WriteError
        | Fault::SyncDrops
        | Fault::SyncKeeps
        | Fault::Membership
        | Fault::Transfer
        | Fault::StepDown
        | Fault::ForgetLeader => unreachable!("sectors at rest do not suffer from this"),
    }
    let start = span.start;
    if inode.data[span] == before {
        return None;
    }
    Some(Wound { inode: at, start, before })
}

/// Takes a wound back.
pub(crate) fn mend(platter: &mut Platter, wound: &Wound) {
    let Wound { inode, start, before } = wound;
    platter.inodes[*inode].data[*start..start + before.len()].copy_from_slice(before);
}

/// The durable sectors of a file that say anything.
fn written(inode: &Inode) -> Vec<usize> {
    let whole = inode.data.len().min(inode.durable_len);
    let sectors = (0..whole.div_ceil(SECTOR_BYTES))
        .filter(|&sector| inode.data[span(inode, sector)].iter().any(|&byte| byte != 0));
    sectors.collect()
}

fn span(inode: &Inode, sector: usize) -> std::ops::Range<usize> {
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
        assert_eq!(disk.hurt(Fault::BitRot, &mut stream.draw()), None);
        disk.sync(&file).unwrap();
        disk.sync_dir("").unwrap();
        disk.sync_dir("wal").unwrap();

        let before = disk.contents();
        for fault in [Fault::BitRot, Fault::ZeroedSector, Fault::Misdirected] {
            let mut wounds = (0..8).filter_map(|_| disk.hurt(fault, &mut stream.draw()));
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
}
