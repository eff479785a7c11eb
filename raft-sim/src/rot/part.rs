//! Which part of a data directory a wound has hurt: each has its own way back.

use super::{PAGE, Platter, TABLE, Wound, batches};
use crate::fault::Part;

/// Where the ring begins in the files of the hard state.
const RING: usize = 3 * PAGE;

/// What a wound has hurt first, unless it has taken a whole file.
pub(crate) fn part_of(platter: &Platter, wound: &Wound) -> Option<Part> {
    let patch = wound.patches.first().map(|patch| (patch.inode, patch.start));
    let bad = wound.bad.map(|(inode, sector)| (inode, sector * super::SECTOR_BYTES));
    let (inode, start) = patch.or(bad)?;
    let (path, _) = platter.names.iter().find(|(_, at)| **at == inode)?;
    if path == "IDENTITY" {
        return Some(Part::Identity);
    }
    if path.starts_with("hs.") {
        return Some(if start < RING { Part::HardState } else { Part::Ring });
    }
    if path.starts_with("wal/heal-") {
        return Some(Part::Heal);
    }
    if path.starts_with("snap/") {
        let is_data = super::is_snapshot(path);
        return Some(if is_data { Part::Data } else { Part::Manifest });
    }
    let data = batches(&platter.inodes[inode]).first().copied();
    Some(match data {
        _ if start < TABLE => Part::Head,
        Some(data) if start >= data => Part::Payload,
        Some(_) | None => Part::Slot,
    })
}
