//! Reads one segment back, and tells what a crash tore from what is damaged.
//!
//! Of each entry there are two things: the entry with its payload, in a batch, and its slot, in
//! the table. Everything before the last batch of the log was synced before that batch was
//! written, so only the last one can be torn:
//!
//! | entry | slot | before the last batch | in the last batch |
//! |---|---|---|---|
//! | ok | ok, the same | keep | keep |
//! | ok | ok, another | damaged | damaged |
//! | ok | not ok | keep, write the slot again | keep, write the slot again |
//! | not ok | any | damaged | torn, unless there is evidence that it was durable |
//!
//! A membership entry that is not intact is taken from the ring before it is given up.
//!
//! A good entry with a bad slot is ordinary: the sector of the slot is shared with its neighbours,
//! and a crash may tear it for all of them.
//!
//! # The last batch: what is known, and what is not
//! A batch and its slots are written together and share one sync, in any order. So a power cut may
//! keep every slot of a batch that was never acknowledged and tear its entries, and an acknowledged
//! batch whose entries rot looks the same. It is damaged, and the storage refuses to open, if
//! anything says that it was durable:
//! * an intact slot of a later batch, or an intact header of the batch after it: either was written
//!   after the sync;
//! * a segment that goes on after it, even an empty one;
//! * the hard state: `log_through` and `commit` count only what is durable. Both are written with
//!   every change of term or vote, before every truncation, and by every start, so whatever a start
//!   has found is never taken for torn afterwards.
//!
//! Without any of these it is taken for torn and cut off. That is a limit, and a known one: of the
//! single batch that was acknowledged last, since the last start and the last hard state, an entry
//! that rots before anything else is written is given up silently on this node, intact slot or not.
//! To refuse instead would turn ordinary power cuts into nodes that do not start, as long as there
//! is no repair from peers; to sync the entries before the slots would double the syncs of every
//! commit. The rest of its quorum still has the entry, but this node may now help to elect a leader
//! that does not: the promise that committed entries stay is kept against crashes, failed syncs and
//! rot in all else, and not against rot in this batch.

use bytes::Bytes;
use raft_core::entry::chain_after;
use raft_core::wire::encode_payload;
use raft_core::{EntryId, Index};

use super::batch::{
    BATCH_HEADER, BatchHeader, ENTRY_HEADER, FoundEntry, PAGE, Place, SLOT_BYTES, SlotRecord,
    encode_entry, read_entry,
};
use super::error::{InFile, StorageError};
use super::record::{SegmentHead, encode_segment_head};
use super::ring;
use super::segment::{SegmentName, TABLE_OFFSET, open_head, round_up};
use crate::disk::Disk;

/// How much of a batch is read before its length is known: a sector, often all of it.
const FIRST_READ: usize = 512;

/// The kind of a membership in a slot, as the core's encoding numbers it.
const PAYLOAD_MEMBERSHIP: u8 = 2;

/// A batch as it was read, and what is taken of it.
struct Batch<'a, F> {
    header: BatchHeader,
    bytes: Bytes,
    limit: Option<Index>,
    ring: &'a [F; 2],
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan<F> {
    pub(super) name: SegmentName,
    pub(super) path: String,
    pub(super) head: SegmentHead,
    pub(super) file: F,
    /// The intact entries, consecutive from the first.
    pub(super) entries: Vec<FoundEntry>,
    /// The headers of the batches, the torn one included.
    pub(super) batches: Vec<BatchHeader>,
    /// In the newest segment, a trace of a later batch than the last one found: what ends here was
    /// durable further on.
    pub(super) cut: bool,
    table: Vec<u8>,
    /// The copy of its head that cannot be read.
    bad_head: Option<u32>,
    /// Membership entries that were found in the ring instead.
    healed: Vec<FoundEntry>,
}

impl<F> Scan<F> {
    /// Reads the entries below `limit`; a later segment holds what was there from then on.
    ///
    /// # Errors
    /// An unreadable head, a slot that contradicts its entry, or a disk error. Where the entries
    /// end is for the caller to judge.
    pub(super) fn read<D: Disk<File = F>>(
        disk: &mut D,
        name: SegmentName,
        limit: Option<Index>,
        ring: &[F; 2],
    ) -> Result<Self, StorageError> {
        let (file, head, bad_head) = open_head(disk, name)?;
        let path = name.path();
        let mut table = vec![0; head.slots as usize * SLOT_BYTES as usize];
        disk.read(&file, u64::from(TABLE_OFFSET), &mut table).in_file(&path)?;
        let (entries, batches, healed) = (Vec::new(), Vec::new(), Vec::new());
        let cut = false;
        let mut scan =
            Self { name, path, head, file, entries, batches, cut, table, bad_head, healed };
        let mut place = Place { epoch: head.epoch, batch: 1, offset: head.data_offset };
        while limit.is_none_or(|limit| scan.last().index.next() < limit) {
            let Some((header, bytes)) = scan.read_batch(disk, place)? else { break };
            let whole = scan.take_entries(disk, place, &Batch { header, bytes, limit, ring })?;
            place.offset = round_up(place.offset + header.bytes);
            if !whole {
                // The next batch was written only after this one was durable.
                place.batch += 1;
                scan.cut = scan.read_batch_at(disk, place)?.is_some();
                place.batch -= 1;
                break;
            }
            place.batch += 1;
        }
        scan.cut |= limit.is_none() && scan.slots_after(place.batch);
        Ok(scan)
    }

    /// The last intact entry, or the one before the segment.
    pub(super) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.head.before, |entry| entry.slot.id)
    }

    /// What could not be read and is known nevertheless, and where it belongs: a copy of the head,
    /// the slots of intact entries, entries that were found in the ring.
    pub(super) fn repairs(&self) -> Vec<(u64, Vec<u8>)> {
        let mut repairs = Vec::new();
        if let Some(copy) = self.bad_head {
            repairs.push((u64::from(copy * PAGE), encode_segment_head(&self.head, copy)));
        }
        for found in &self.healed {
            let mut bytes = Vec::new();
            let payload = encode_payload(&found.payload).1;
            encode_entry(&found.slot, self.head.epoch, &payload, &mut bytes);
            repairs.push((u64::from(found.slot.offset), bytes));
        }
        for FoundEntry { slot, .. } in &self.entries {
            if self.slot(slot.id.index).is_none() {
                let mut bytes = Vec::new();
                slot.encode(self.head.epoch, &mut bytes);
                let number = slot.id.index.0 - self.name.first.0;
                let offset = u64::from(TABLE_OFFSET) + number * u64::from(SLOT_BYTES);
                repairs.push((offset, bytes));
            }
        }
        repairs
    }

    /// The first entry of the last batch of which anything is intact.
    pub(super) fn tail(&self) -> Option<Index> {
        let last = self.entries.last()?;
        Some(Index(last.slot.id.index.0 - u64::from(last.slot.position)))
    }

    fn slot(&self, index: Index) -> Option<SlotRecord> {
        let number = usize::try_from(index.0 - self.name.first.0).ok()?;
        let start = number.checked_mul(SLOT_BYTES as usize)?;
        let bytes = self.table.get(start..start + SLOT_BYTES as usize)?;
        SlotRecord::decode(bytes, self.head.epoch, index)
    }

    /// Whether the table has a slot, past what was found, of a later batch than this.
    fn slots_after(&self, batch: u32) -> bool {
        let first = self.name.first.0 + self.entries.len() as u64;
        let last = self.name.first.0 + u64::from(self.head.slots);
        (first..last).any(|index| self.slot(Index(index)).is_some_and(|slot| slot.batch > batch))
    }

    /// The batch at `place`, if one is there that continues what was found.
    fn read_batch<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        place: Place,
    ) -> Result<Option<(BatchHeader, Bytes)>, StorageError> {
        let Some((header, mut bytes)) = self.read_batch_at(disk, place)? else { return Ok(None) };
        let last = self.last();
        if (header.first, header.chain_before) != (last.index.next(), last.chain) {
            let what = format!("batch {} does not follow the one before it", place.batch);
            return Err(StorageError::damaged(&self.path, what));
        }
        let read = bytes.len().min(header.bytes as usize);
        bytes.resize(header.bytes as usize, 0);
        if let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            let offset = u64::from(place.offset) + read as u64;
            disk.read(&self.file, offset, rest).in_file(&self.path)?;
        }
        Ok(Some((header, Bytes::from(bytes))))
    }

    /// The header at `place` and what follows it in its sector, if it is a header at all.
    fn read_batch_at<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        place: Place,
    ) -> Result<Option<(BatchHeader, Vec<u8>)>, StorageError> {
        if place.offset >= self.head.file_bytes {
            return Ok(None);
        }
        let mut bytes = vec![0; FIRST_READ];
        disk.read(&self.file, u64::from(place.offset), &mut bytes).in_file(&self.path)?;
        let header = BatchHeader::decode(&bytes, place)
            .filter(|header| header.bytes <= self.head.file_bytes - place.offset);
        Ok(header.map(|header| (header, bytes)))
    }

    /// Takes the entries of a batch up to the first that is not intact; says whether all are.
    fn take_entries<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        place: Place,
        batch: &Batch<'_, F>,
    ) -> Result<bool, StorageError> {
        let Batch { header, bytes, limit, ring } = batch;
        // A header is evidence of what was durable before it, even if no entry behind it is intact.
        self.batches.push(*header);
        let mut at = BATCH_HEADER;
        for _ in 0..header.entries {
            let last = self.last();
            if limit.is_some_and(|limit| last.index.next() >= limit) {
                break;
            }
            if self.entries.len() == self.head.slots as usize {
                return Ok(false);
            }
            let mut found = read_entry(bytes, place, at, header, last);
            if found.is_none() {
                let here = Place { offset: place.offset + at, ..place };
                found = self.heal(disk, here, last, ring)?;
            }
            let Some(entry) = found else { return Ok(false) };
            if self.slot(entry.slot.id.index).is_some_and(|slot| slot != entry.slot) {
                let what = format!("the slot of {} contradicts it", entry.slot.id);
                return Err(StorageError::damaged(&self.path, what));
            }
            at += ENTRY_HEADER + entry.slot.len;
            self.entries.push(entry);
        }
        Ok(true)
    }

    /// The entry after `last`, if it is a membership whose slot is intact and which is in the ring.
    fn heal<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        place: Place,
        last: EntryId,
        ring: &[F; 2],
    ) -> Result<Option<FoundEntry>, StorageError> {
        let slot = self.slot(last.index.next()).filter(|slot| {
            let here = (slot.batch, slot.offset) == (place.batch, place.offset);
            here && slot.kind == PAYLOAD_MEMBERSHIP
        });
        let Some(slot) = slot else { return Ok(None) };
        let EntryId { index, term, chain } = slot.id;
        let kept = ring::read(disk, ring)?.into_iter().find(|kept| {
            kept.id == slot.id && chain_after(last.chain, term, index, &kept.payload) == chain
        });
        let found = kept.map(|kept| FoundEntry { slot, payload: kept.payload });
        self.healed.extend(found.clone());
        Ok(found)
    }
}
