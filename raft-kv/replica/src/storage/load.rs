//! Reads entries of the log back while it runs, for who does not keep them in memory (§7).
//!
//! The slots of the table say where the entries stand. What is read is believed only if its
//! identity is the one that the log has in memory, which the chain proves of the payload as well.
//! Absent: any repair. What cannot be read is not there, and the next start says why.

use raft_core::entry::chain_after;
use raft_core::wire::decode_payload;
use raft_core::{Entries, EntryId, Index, LoadRequest, Payload, Term};

use super::batch::{ENTRY_HEADER, SLOT_BYTES, SlotRecord};
use super::log::Log;
use super::segment::{SegmentName, TABLE_OFFSET};
use crate::disk::Disk;

/// The most entries that are read at once: their slots are read together.
const ENTRIES_MAX: u64 = 1024;

impl<F> Log<F> {
    /// Entries that follow `request.after`, from one segment: at least one, as many as the request
    /// admits. `None` if the first one is not there, or not intact.
    pub(super) fn load<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        request: &LoadRequest,
    ) -> Option<Entries> {
        let after = request.after;
        let first = after.index.next();
        if self.id(after.index) != Some(after) {
            return None;
        }
        let (name, end) = self.segment_of(first)?;
        let last = request.through.min(end).min(self.durable().index);
        let last = last.min(Index(after.index.0.saturating_add(ENTRIES_MAX)));
        let count = usize::try_from(last.0.checked_sub(after.index.0)?).ok()?;
        let file = disk.open(&name.path()).ok()?;
        let mut table = vec![0; count * SLOT_BYTES as usize];
        let offset = (first.0 - name.first.0) * u64::from(SLOT_BYTES);
        disk.read(&file, u64::from(TABLE_OFFSET) + offset, &mut table).ok()?;
        let mut items: Vec<(Term, Payload)> = Vec::with_capacity(count);
        let (mut before, mut bytes) = (after, 0usize);
        for slot in table.chunks_exact(SLOT_BYTES as usize) {
            let id = self.id(before.index.next())?;
            let slot = SlotRecord::decode(slot, name.epoch, id.index).filter(|slot| slot.id == id);
            let Some(slot) = slot else { break };
            let Some(payload) = read_payload(disk, &file, &slot, before) else { break };
            bytes = bytes.saturating_add(payload.len());
            if !items.is_empty() && bytes > request.bytes_max {
                break;
            }
            items.push((id.term, payload));
            before = id;
        }
        (!items.is_empty()).then(|| Entries::after(after, items))
    }

    /// The segment that holds the entry at `index`, and its last entry.
    fn segment_of(&self, index: Index) -> Option<(SegmentName, Index)> {
        let active = self.active.as_ref().map(|segment| segment.name)?;
        if active.first <= index {
            return Some((active, Index(u64::MAX)));
        }
        let later = self.sealed.partition_point(|name| name.first <= index);
        let name = *self.sealed.get(later.checked_sub(1)?)?;
        let next = self.sealed.get(later).map_or(active.first, |next| next.first);
        Some((name, next.prev()))
    }
}

/// The payload that a slot describes, if it gives the chain that the slot names.
fn read_payload<D: Disk>(
    disk: &mut D,
    file: &D::File,
    slot: &SlotRecord,
    before: EntryId,
) -> Option<Payload> {
    let mut bytes = vec![0; slot.len as usize];
    disk.read(file, u64::from(slot.offset) + u64::from(ENTRY_HEADER), &mut bytes).ok()?;
    let payload = decode_payload(slot.kind, bytes.into()).ok()?;
    let EntryId { index, term, chain } = slot.id;
    (chain_after(before.chain, term, index, &payload) == chain).then_some(payload)
}
