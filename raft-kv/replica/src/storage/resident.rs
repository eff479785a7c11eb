//! Which payloads a start keeps in memory, told before it reads them.
//!
//! A start keeps the payloads of the newest entries, up to a limit, and they share the memory that they
//! were read into. If each were kept until newer ones have come, the whole log would be read into memory
//! that is no longer in the processor's cache, which takes twice as long as to use the same piece again
//! and again. The slots tell how much there is in the newest segments before these are read.
//!
//! Nothing depends on it but time: what is not kept is read when it is asked for.

use raft_core::Index;

use super::batch::{Home, SLOT_BYTES, SlotRecord};
use super::error::{InFile, StorageError};
use super::frame::Owner;
use super::read::read_lossy;
use super::scan::PAYLOAD_MEMBERSHIP;
use super::segment::{SegmentName, TABLE_OFFSET};
use crate::disk::Disk;

/// With fewer segments than this, it is not worth while.
const SEGMENTS_MIN: usize = 4;

/// The length of a slot.
const SLOT: usize = SLOT_BYTES as usize;

/// Slots that are read at once.
const SLOTS: u64 = 1024;

/// The last entry that is certainly not kept: its payload and those after it are more than
/// `bytes_max`, if the slots of these segments, oldest first, tell the truth.
pub(super) fn not_kept_through<D: Disk>(
    disk: &mut D,
    owner: Owner,
    names: &[(SegmentName, Option<Index>)],
    bytes_max: usize,
) -> Result<Index, StorageError> {
    if bytes_max == 0 {
        return Ok(Index(u64::MAX));
    }
    let mut bytes = 0;
    // The newest segment has no limit, and its last batch no slots: how much it holds is not certain.
    for (name, limit) in names.iter().rev().filter(|_| names.len() >= SEGMENTS_MIN) {
        let Some(limit) = limit else { continue };
        let path = name.path();
        let file = disk.open(&path).in_file(&path)?;
        let mut end = *limit;
        while end > name.first {
            let first = Index(end.0.saturating_sub(SLOTS).max(name.first.0));
            let mut table = vec![0; usize::try_from(end.0 - first.0).expect("few") * SLOT];
            let offset = u64::from(TABLE_OFFSET) + (first.0 - name.first.0) * SLOT as u64;
            read_lossy(disk, &file, &path, offset, &mut table)?;
            for slot in table.rchunks_exact(SLOT) {
                end = end.prev();
                bytes += payload_bytes(slot, Home { owner, epoch: name.epoch }, end);
                if bytes > bytes_max {
                    return Ok(end);
                }
            }
        }
    }
    Ok(Index::ZERO)
}

/// What an entry counts; nothing if its slot does not say, or it is a membership.
fn payload_bytes(slot: &[u8], home: Home, index: Index) -> usize {
    let slot = SlotRecord::decode(slot, home, index);
    slot.filter(|slot| slot.kind != PAYLOAD_MEMBERSHIP).map_or(0, |slot| slot.len as usize)
}
