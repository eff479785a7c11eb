//! Where a payload is looked for that its own place cannot give back: healed copies, and the ring.

use raft_core::{EntryId, Payload};

use super::batch::SlotRecord;
use super::error::StorageError;
use super::heal::Heals;
use super::ring::Kept;
use super::scan::Body;
use crate::disk::Disk;

/// Where payloads are kept that the log itself cannot give back.
#[derive(Debug)]
pub(super) struct Spares {
    pub(super) ring: Vec<Kept>,
    pub(super) heals: Heals,
}

impl Spares {
    /// A payload that its place cannot give back.
    pub(super) fn find<D: Disk>(
        &self,
        disk: &mut D,
        slot: &SlotRecord,
        before: EntryId,
    ) -> Result<Body, StorageError> {
        if let Some((payload, place)) = self.heals.find(disk, slot.id, before)? {
            return Ok(Body::Healed(payload, place));
        }
        let kept = self.ring.iter().find(|kept| {
            let chain = raft_core::entry::chain_after;
            let EntryId { index, term, .. } = slot.id;
            kept.id == slot.id && chain(before.chain, term, index, &kept.payload) == slot.id.chain
        });
        Ok(kept.map_or(Body::Damaged, |kept| Body::Exposed(kept.payload.clone())))
    }

    /// A payload that stands in its place, behind a header that does not.
    pub(super) fn healed_or_exposed<D: Disk>(
        &self,
        disk: &mut D,
        slot: &SlotRecord,
        before: EntryId,
        payload: Payload,
    ) -> Result<Body, StorageError> {
        let healed = self.heals.find(disk, slot.id, before)?;
        Ok(healed.map_or(Body::Exposed(payload), |(payload, place)| Body::Healed(payload, place)))
    }
}
