//! Reads entries of the log back while it runs, for who does not keep them in memory (§7).
//!
//! The slots of the table say where the entries stand. What is read is believed only if its
//! identity is the one that the log has in memory, which the chain proves of the payload as well.
//! What cannot be read is named, so that a peer can be asked for it; nothing is repaired here.

use core::cell::Cell;

use bytes::BytesMut;
use raft_core::{Entries, EntryId, Index, LoadRequest, Payload, Term};

use super::batch::{
    BATCH_HEADER, BatchHeader, ENTRY_HEADER, EntryHead, Home, PAGE, Place, SLOT_BYTES, SlotRecord,
    read_payload,
};
use super::error::{InFile, StorageError};
use super::heal::HealPlace;
use super::log::Log;
use super::read::read_lossy;
use super::segment::{SegmentName, TABLE_OFFSET, open_head, round_up};
use crate::disk::Disk;

/// The most entries that are read at once.
const ENTRIES_MAX: u64 = 1024;

/// Entries that were asked for.
#[derive(Debug, Default)]
pub(super) struct LoadedEntries {
    /// The first of them; `None` if the first one is not there.
    pub(super) entries: Option<Entries>,
    /// Those that were looked at and cannot be read.
    pub(super) damaged: Vec<EntryId>,
}

/// A segment that is open for reading.
#[derive(Debug)]
pub(super) struct OpenForRead<F> {
    pub(super) name: SegmentName,
    pub(super) home: Home,
    pub(super) path: String,
    pub(super) file: F,
    /// Its last entry.
    pub(super) end: Index,
    /// How far headers have led the last time that a slot could not be read.
    reached: Cell<Option<Reached>>,
}

/// Before an entry whose slot cannot be read: where the one before it ends, and in which batch.
#[derive(Clone, Copy, Debug)]
struct Reached {
    next: Index,
    batch: u32,
    position: u16,
    at: u32,
    /// Nothing says that the batch goes on.
    is_last: bool,
    /// The place is a guess.
    is_astray: bool,
}

/// What an entry is found to be.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) payload: Option<Payload>,
    /// Whether its slot alone says who it is: the header at its place cannot be read.
    pub(super) is_exposed: bool,
    /// What its slot should say, if that could not be read.
    pub(super) slot_again: Option<SlotRecord>,
}

impl<F> Log<F> {
    /// Entries that follow `request.after`, from one segment: at least one, as many as the request
    /// admits. Nothing if the log is another one there. What cannot be read ends them.
    pub(super) fn load<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        request: &LoadRequest,
    ) -> Result<LoadedEntries, StorageError> {
        let after = request.after;
        let first = after.index.next();
        let mut loaded = LoadedEntries::default();
        let last = request.through.min(self.durable().index);
        let last = last.min(Index(after.index.0.saturating_add(ENTRIES_MAX)));
        if self.id(after.index) != Some(after) || first > last {
            return Ok(loaded);
        }
        let segment = self.open_segment_of(disk, first)?;
        let mut items: Vec<(Term, Payload)> = Vec::new();
        let (mut before, mut bytes) = (after, 0usize);
        while before.index < last.min(segment.end) {
            let id = self.id(before.index.next()).expect("it is durable");
            let payload = self.look(disk, &segment, id, before)?.payload;
            let Some(payload) = payload else {
                loaded.damaged.push(id);
                before = id;
                if items.is_empty() { continue } else { break }
            };
            bytes = bytes.saturating_add(payload.len());
            if !loaded.damaged.is_empty() || (!items.is_empty() && bytes > request.bytes_max) {
                break;
            }
            items.push((id.term, payload));
            before = id;
        }
        loaded.entries = (!items.is_empty()).then(|| Entries::after(after, items));
        Ok(loaded)
    }

    /// Reads the entry `id`, which follows `before` and stands in this segment.
    pub(super) fn look<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        segment: &OpenForRead<F>,
        id: EntryId,
        before: EntryId,
    ) -> Result<Looked, StorageError> {
        let (mut payload, mut is_exposed) = (None, false);
        let active = self.active.as_ref().filter(|active| active.name == segment.name);
        let known = match active.and_then(|active| active.unwritten_slot(id.index)) {
            Some(slot) => Some(slot),
            None => segment.slot(disk, id.index)?.filter(|slot| slot.id == id),
        };
        let slot = match known {
            Some(slot) => Some(slot),
            None => {
                let id_at = |index| self.id(index).expect("it is in the segment");
                segment.find(disk, id, id_at, |index| self.heals.place(index))?
            }
        };
        if let Some(slot) = slot {
            (payload, is_exposed) = segment.payload(disk, &slot, before)?;
        }
        if payload.is_none()
            && let Some(place) = self.heals.place(id.index)
        {
            payload = place.read(disk, id, before)?;
        }
        // A healed entry has its place in the log as well, and its slot there may be the last that names it.
        let slot_again = slot.filter(|_| known.is_none() && payload.is_some());
        is_exposed &= payload.is_some() && self.heals.place(id.index).is_none();
        Ok(Looked { payload, is_exposed, slot_again })
    }

    /// The segment that holds the entry at `index`, which is durable, and the last entry that it may hold.
    pub(super) fn segment_of(&self, index: Index) -> (SegmentName, Index) {
        let active = self.active.as_ref().expect("what is durable is in a segment").name;
        let later = self.sealed.partition_point(|name| name.first <= index);
        if active.first <= index {
            return (active, Index(u64::MAX));
        }
        let name = self.sealed[later.checked_sub(1).expect("it is in a sealed segment")];
        let next = self.sealed.get(later).map_or(active.first, |next| next.first);
        (name, next.prev())
    }

    /// Opens the segment that holds the entry at `index`, which is durable.
    pub(super) fn open_segment_of<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        index: Index,
    ) -> Result<OpenForRead<F>, StorageError> {
        let (name, end) = self.segment_of(index);
        let path = name.path();
        let file = disk.open(&path).in_file(&path)?;
        let home = self.home(name.epoch);
        Ok(OpenForRead { name, home, path, file, end, reached: Cell::new(None) })
    }
}

impl<F> OpenForRead<F> {
    fn slot<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        index: Index,
    ) -> Result<Option<SlotRecord>, StorageError> {
        let mut bytes = [0; SLOT_BYTES as usize];
        let offset = self.slot_offset(index);
        read_lossy(disk, &self.file, &self.path, offset, &mut bytes)?;
        let Some(slot) = SlotRecord::decode(&bytes, self.home, index) else {
            return Ok(None);
        };
        // One that names a place outside of the file is none to a start either.
        Ok(self.within(disk, slot)?.filter(|known| *known == slot))
    }

    pub(super) fn slot_offset(&self, index: Index) -> u64 {
        u64::from(TABLE_OFFSET) + (index.0 - self.name.first.0) * u64::from(SLOT_BYTES)
    }

    /// Where the entry `id` stands, whose slot cannot be read: from the nearest entry before it that
    /// has one, or from where they have led before, or from the beginning of the segment, the headers lead
    /// there. What is lost on the way there has no length any more: behind it the headers of batches lead on.
    /// If its own header cannot be read either, but it is `healed`, it is said to stand where it may have
    /// stood, and no later.
    fn find<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        id: EntryId,
        id_at: impl Fn(Index) -> EntryId,
        healed: impl Fn(Index) -> Option<HealPlace>,
    ) -> Result<Option<SlotRecord>, StorageError> {
        let reached = self.reached.get().filter(|reached| reached.next <= id.index);
        let first = reached.map_or(self.name.first, |reached| reached.next);
        let mut anchor = None;
        let mut next = id.index;
        while next > first && anchor.is_none() {
            anchor = self.slot(disk, next.prev())?;
            if anchor.is_none() {
                next = next.prev();
            }
        }
        let Some(begun) = self.begin_at(disk, next, anchor, reached)? else { return Ok(None) };
        let Reached { mut batch, mut position, mut at, mut is_last, mut is_astray, .. } = begun;
        loop {
            let wanted = id_at(next);
            if wanted == id {
                self.reached.set(Some(Reached { next, batch, position, at, is_last, is_astray }));
            }
            let same = (batch, at, position.saturating_add(1));
            let mut other = (batch + 1, round_up(at).saturating_add(BATCH_HEADER), 0u16);
            if is_astray && let Some(begun) = self.batch_of(disk, at, wanted, id_at(next.prev()))? {
                (other, is_last) = (begun, true);
            }
            let mut found = None;
            for (batch, offset, position) in [same, other] {
                let head = self.head(disk, Place { home: self.home, batch, offset }, wanted)?;
                if let Some(EntryHead { id, len, kind }) = head {
                    let entries = 0;
                    found = Some(SlotRecord { id, len, offset, batch, position, entries, kind });
                    break;
                }
            }
            if found.is_none() && wanted == id && healed(id.index).is_none() {
                return Ok(None);
            }
            let slot = found.unwrap_or_else(|| {
                let (len, kind) = healed(wanted.index).map_or((0, 0), HealPlace::shape);
                let (batch, offset, position) = if is_last { other } else { same };
                SlotRecord { id: wanted, len, offset, batch, position, entries: 0, kind }
            });
            if wanted == id {
                let fits = self.within(disk, slot)?;
                return Ok(fits.filter(|fits| found.is_none_or(|found| *fits == found)));
            }
            (batch, position, at) = (slot.batch, slot.position, end_of(slot.offset, slot.len));
            (next, is_last, is_astray) = (next.next(), false, found.is_none());
        }
    }

    /// Where to look for the entry `next`: behind the one before it, of which `anchor` is the slot, where
    /// headers have `reached`, or at the beginning of the segment, if its head can be read.
    fn begin_at<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        next: Index,
        anchor: Option<SlotRecord>,
        reached: Option<Reached>,
    ) -> Result<Option<Reached>, StorageError> {
        let Some(slot) = anchor else {
            if reached.is_some() {
                return Ok(reached);
            }
            let Ok(segment) = open_head(disk, self.home.owner, self.name)? else { return Ok(None) };
            let at = segment.head.data_offset;
            let (batch, position, is_last, is_astray) = (0, 0, true, false);
            return Ok(Some(Reached { next, batch, position, at, is_last, is_astray }));
        };
        let SlotRecord { id, len, offset, batch, position, entries, .. } = slot;
        let place = Place { home: self.home, batch, offset };
        Ok(Some(Reached {
            next,
            batch,
            position,
            at: end_of(offset, len),
            // Nothing says of the others how many entries their batch has; nor does a slot that was written
            // again.
            is_last: entries > 0 && position + 1 >= entries,
            // A slot that was written again may be a guess as well.
            is_astray: self.head(disk, place, id)?.is_none(),
        }))
    }

    /// Where the entry `id` stands, if it begins a batch at or behind `at` that says of itself that it comes
    /// after `before`: the number of that batch, the place, and the position in it.
    fn batch_of<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        at: u32,
        id: EntryId,
        before: EntryId,
    ) -> Result<Option<(u32, u32, u16)>, StorageError> {
        let file_bytes = disk.len(&self.file).in_file(&self.path)?;
        let end = u32::try_from(file_bytes).unwrap_or(u32::MAX);
        for offset in (round_up(at)..end).step_by(PAGE as usize) {
            let mut bytes = [0; BATCH_HEADER as usize];
            read_lossy(disk, &self.file, &self.path, u64::from(offset), &mut bytes)?;
            let Ok((batch, header)) = BatchHeader::decode_any(&bytes, self.home, offset) else {
                continue;
            };
            if (header.first, header.chain_before) == (id.index, before.chain) {
                return Ok(Some((batch, offset + BATCH_HEADER, 0)));
            }
            if header.first > id.index {
                break;
            }
        }
        Ok(None)
    }

    /// The same slot, where its entry fits into the file.
    fn within<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        slot: SlotRecord,
    ) -> Result<Option<SlotRecord>, StorageError> {
        let file_bytes = u32::try_from(disk.len(&self.file).in_file(&self.path)?).ok();
        let latest = file_bytes.and_then(|bytes| latest_offset(bytes, slot.len));
        Ok(latest.map(|latest| SlotRecord { offset: slot.offset.min(latest), ..slot }))
    }

    /// The header at this place, if it is that of the entry `id`.
    fn head<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        place: Place,
        id: EntryId,
    ) -> Result<Option<EntryHead>, StorageError> {
        let mut bytes = [0; ENTRY_HEADER as usize];
        read_lossy(disk, &self.file, &self.path, u64::from(place.offset), &mut bytes)?;
        Ok(EntryHead::decode(&bytes, place, id.index).filter(|head| head.id == id))
    }

    /// The payload at the place that a slot names, if it makes its entry after `before`; and whether the
    /// header before it cannot be read.
    fn payload<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        slot: &SlotRecord,
        before: EntryId,
    ) -> Result<(Option<Payload>, bool), StorageError> {
        let mut bytes = BytesMut::zeroed(ENTRY_HEADER as usize + slot.len as usize);
        read_lossy(disk, &self.file, &self.path, u64::from(slot.offset), &mut bytes)?;
        let (batch, offset) = (slot.batch, slot.offset);
        let place = Place { home: self.home, batch, offset };
        let head = EntryHead::decode(&bytes, place, slot.id.index);
        let is_bad = head.is_none_or(|head| head.id != slot.id);
        let payload = bytes.freeze().slice(ENTRY_HEADER as usize..);
        Ok((read_payload(payload, slot.kind, slot.id, before), is_bad))
    }
}

/// The last place in a file where an entry of this length can stand.
pub(super) fn latest_offset(file_bytes: u32, len: u32) -> Option<u32> {
    file_bytes.checked_sub(ENTRY_HEADER)?.checked_sub(len)
}

/// Where an entry ends.
fn end_of(offset: u32, len: u32) -> u32 {
    offset.saturating_add(ENTRY_HEADER).saturating_add(len)
}
