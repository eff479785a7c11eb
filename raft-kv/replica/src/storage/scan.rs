//! Reads one segment back, entry by entry, and tells what a crash tore from what is damaged.
//!
//! Of each entry there are two things: the entry with its payload, in a batch, and its slot, in
//! the table. Both say who it is, so one of them is enough to know that. A batch is written once the
//! one before it is durable, and with it the slots of that one. So only the last batch can be torn, and
//! a slot proves that its entry was durable:
//!
//! | entry | slot | before the last batch | in the last batch |
//! |---|---|---|---|
//! | ok | ok, the same | keep | keep |
//! | ok | ok, another | damaged, as the slot says | the same |
//! | ok, and the next one or the next batch goes on from it | ok, another | keep, write the slot again | the same |
//! | ok | not ok | keep, write the slot again | keep, write the slot again |
//! | payload not ok | ok | damaged | damaged |
//! | payload not ok, header ok | not ok | damaged | torn, unless there is evidence |
//! | not ok | not ok | the log ends here, its tail is unknown | torn, unless there is evidence |
//!
//! A damaged payload is taken from a healed copy, or from the ring of memberships, if it is there. A
//! good entry with a bad slot is ordinary: the last batch has no slots yet, and the sector of a slot is
//! shared with its neighbours, so that a crash may tear it for all of them. A good entry with a bad
//! header is told by its slot.
//!
//! # The last batch: what is known, and what is not
//! An entry of the last batch that cannot be read and has no slot is taken for torn, and the log is cut
//! there, unless anything says that it was durable. If something does, it is damaged where its header
//! names it; where nothing does, the log is cut and its tail is called unknown. Evidence is:
//! * an intact slot of the same batch or of a later one, or an intact header of a later one;
//! * a sector that the disk cannot read, in what cannot be read or behind it, or a file that ends before it
//!   should: a crash leaves old bytes, new ones or garbage, and the file its length;
//! * a segment that goes on after it, even an empty one, unless a snapshot covers all before it: then
//!   the segment that was begun after this one may have been removed, and this one have come back;
//! * the hard state: what it counts was durable when it was written. It is written with every change
//!   of term or vote, before every truncation, by every start, and with the first batch of a segment, so
//!   that one which is gone as a whole is missed; and the slots are before it.
//!
//! Without any of these the entry is taken for torn. That is a limit: of the single batch that was
//! acknowledged last, an entry that rots before anything else is written is given up silently on this
//! node. (To write the slots with their own batch instead would keep its name, and turn every power
//! cut that keeps slots and loses entries into damage: if it strikes the whole group, nobody could say
//! any more that such an entry was never acknowledged.) A host that has nothing to write ends it by
//! [`crate::storage::Storage::rest`]. Another limit is an entry that rots in both places further up:
//! what follows it is intact and is given up all the same, aloud, because where the log is cut the
//! node asks its group before it votes again.

mod ending;
mod stray;

use std::collections::BTreeMap;

use raft_core::{EntryId, Index, Payload};

use super::batch::{
    BATCH_HEADER, BatchHeader, ENTRY_HEADER, EntryHead, PAGE, Place, SLOT_BYTES, SlotRecord,
    read_payload,
};
use super::error::{StorageError, known};
use super::heal::{HealPlace, Identified};
use super::load::latest_offset;
use super::read::{InWindow, Window, read_lossy};
use super::record::{SegmentHead, encode_segment_head};
use super::segment::{OpenSegment, SegmentName, TABLE_OFFSET, round_up};
use super::spares::Spares;
use crate::disk::Disk;

pub(super) use ending::Ending;

/// The kind of a membership in a slot, as the core's encoding numbers it.
pub(super) const PAYLOAD_MEMBERSHIP: u8 = 2;

/// Slots that share a sector.
const SLOTS_PER_SECTOR: u64 = 512 / SLOT_BYTES as u64;

/// An entry whose identity is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    pub(super) slot: SlotRecord,
    /// The payload, or what became of it.
    pub(super) body: Body,
    /// Whether the slot could not be read.
    pub(super) is_slot_bad: bool,
}

/// The payload of an entry.
#[derive(Clone, Debug, Default)]
pub(super) enum Body {
    /// It stands where it was written, and so does its header.
    Intact(Payload),
    /// It can be read, but its place is no longer whole: it has to be kept a second time.
    Exposed(Payload),
    /// It was healed and is read from there.
    Healed(Payload, HealPlace),
    /// It is not there.
    #[default]
    Damaged,
}

/// What stands where a slot says that its entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// The header of this entry.
    Same,
    /// That of another one.
    Other,
    /// None that can be read.
    Unread,
}

impl Piece {
    pub(super) fn is_membership(&self) -> bool {
        self.slot.kind == PAYLOAD_MEMBERSHIP
    }
}

/// One segment that is being read.
#[derive(Debug)]
pub(super) struct Scan<F> {
    pub(super) name: SegmentName,
    pub(super) path: String,
    pub(super) head: SegmentHead,
    pub(super) file: F,
    /// The copy of its head that cannot be read.
    bad_copy: Option<u32>,
    table: Vec<u8>,
    window: Window,
    /// The batch that is being read: its number, from 1, and its first entry.
    batch: u32,
    batch_first: Index,
    /// How many entries it has; zero if nothing says so.
    batch_entries: u16,
    /// Where it ends, as its header says; zero if that cannot be read.
    batch_end: u32,
    /// Behind the last entry.
    at: u32,
    /// Whether that is a guess, because nothing says any more where the last entry stood.
    is_astray: bool,
    /// The headers of the batches that have been read.
    pub(super) headers: Vec<BatchHeader>,
    /// Slots of intact entries that are to be written again.
    slots_again: BTreeMap<Index, SlotRecord>,
    /// Entries of which the slot alone, or the header alone, says who they are.
    fragile: Vec<Index>,
}

impl<F> Scan<F> {
    /// Reads the table of a segment, as far as it counts: the next segment begins at `limit`.
    pub(super) fn begin<D: Disk<File = F>>(
        disk: &mut D,
        name: SegmentName,
        limit: Option<Index>,
        segment: OpenSegment<F>,
        window: Window,
    ) -> Result<Self, StorageError> {
        let OpenSegment { file, path, head, bad_copy } = segment;
        let counts = limit.and_then(|limit| u32::try_from(limit.0 - name.first.0).ok());
        let slots = counts.map_or(head.slots, |counts| counts.min(head.slots));
        let mut table = vec![0; slots as usize * SLOT_BYTES as usize];
        read_lossy(disk, &file, &path, u64::from(TABLE_OFFSET), &mut table)?;
        Ok(Self {
            name,
            path,
            head,
            file,
            bad_copy,
            table,
            window: window.for_another_file(),
            batch: 0,
            batch_first: name.first,
            batch_entries: 0,
            batch_end: 0,
            at: head.data_offset,
            is_astray: false,
            headers: Vec::new(),
            slots_again: BTreeMap::new(),
            fragile: Vec::new(),
        })
    }

    /// Whether there is an entry after `before` whose slot or header can be read; then it is put into
    /// `piece`. A start reads very many: none is copied.
    pub(super) fn next<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        before: EntryId,
        spares: &Spares,
        piece: &mut Piece,
    ) -> Result<bool, StorageError> {
        let index = before.index.next();
        let is_known = self.read_slot(index, &mut piece.slot) && piece.slot.id.term >= before.term;
        let followed = if is_known { self.follow(disk, &piece.slot, before)? } else { None };
        piece.is_slot_bad = followed.is_none();
        let head = if let Some(head) = followed {
            head
        } else {
            let found = match self.find(disk, before)? {
                None if self.is_astray && self.find_batch(disk, before)? => {
                    self.find(disk, before)?
                }
                found => found,
            };
            let Some(slot) = found else { return self.identify(disk, before, spares, piece) };
            piece.slot = slot;
            Head::Same
        };
        let slot = &piece.slot;
        let payload = if head == Head::Other { None } else { self.payload(disk, slot, before)? };
        piece.body = match payload {
            Some(payload) if head == Head::Same => Body::Intact(payload),
            Some(payload) => spares.healed_or_exposed(disk, slot, before, payload)?,
            None => spares.find(disk, slot, before)?,
        };
        self.at = slot.offset + ENTRY_HEADER + slot.len;
        // A slot that an earlier start has written again may name a place that was a guess.
        self.is_astray = head != Head::Same;
        self.note(piece, head != Head::Unread);
        Ok(true)
    }

    /// What could not be read and is known nevertheless, and where it belongs: a copy of the head,
    /// the slots of intact entries. The last batch of the log is copied, and needs none.
    pub(super) fn repairs(&self, is_newest: bool) -> Vec<(u64, Vec<u8>)> {
        let mut repairs = Vec::new();
        if let Some(copy) = self.bad_copy {
            repairs.push((u64::from(copy * PAGE), encode_segment_head(&self.head, copy)));
        }
        let sector = |index: Index| (index.0 - self.name.first.0) / SLOTS_PER_SECTOR;
        for (index, slot) in &self.slots_again {
            if is_newest && slot.batch == self.batch {
                continue;
            }
            // To write a sector is to put it at risk, and here it holds what is nowhere else.
            if self.fragile.iter().any(|other| sector(*other) == sector(*index)) {
                continue;
            }
            let mut bytes = Vec::new();
            slot.encode(self.head.home(), &mut bytes);
            repairs.push((self.slot_offset(*index), bytes));
        }
        repairs
    }

    /// The copy of its head that cannot be read.
    pub(super) fn bad_copy(&self) -> Option<u32> {
        self.bad_copy
    }

    /// The number of the batch that was read last.
    pub(super) fn batch(&self) -> u32 {
        self.batch
    }

    /// Where the entries end that were read.
    pub(super) fn data_end(&self) -> u32 {
        self.at
    }

    /// Whether all entries of the present batch have been read; unknown counts as no.
    fn is_batch_whole(&self, last: Index) -> bool {
        let read = last.0 + 1 - self.batch_first.0;
        self.batch == 0 || (self.batch_entries > 0 && read >= u64::from(self.batch_entries))
    }

    /// Follows a slot into its batch.
    fn come_to<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        slot: &SlotRecord,
    ) -> Result<(), StorageError> {
        if slot.batch != self.batch {
            let start = slot.offset.saturating_sub(BATCH_HEADER);
            let start = if slot.position == 0 { start } else { round_up(self.at) };
            let first = Index(slot.id.index.0.saturating_sub(u64::from(slot.position)));
            self.enter(disk, slot.batch, start, first)?;
        }
        // A slot that a scrub has written again does not say it.
        if slot.entries > 0 {
            self.batch_entries = slot.entries;
        }
        Ok(())
    }

    fn enter<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        batch: u32,
        start: u32,
        first: Index,
    ) -> Result<(), StorageError> {
        let place = Place { home: self.head.home(), batch, offset: start };
        let found = BatchHeader::decode(self.peek(disk, start, BATCH_HEADER)?, place);
        let header = known(found, &self.path)?;
        (self.batch, self.batch_first) = (batch, first);
        self.batch_entries = header.map_or(0, |header| header.entries);
        self.batch_end = header.map_or(0, |header| header.end(start, self.head.file_bytes));
        self.headers.extend(header);
        Ok(())
    }

    /// Looks for the entry after `before` where it must stand if its slot cannot be read: behind the
    /// last one, or at the beginning of the next batch.
    fn find<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        before: EntryId,
    ) -> Result<Option<SlotRecord>, StorageError> {
        let index = before.index.next();
        if index.0 - self.name.first.0 >= u64::from(self.head.slots) {
            return Ok(None);
        }
        let start = round_up(self.at);
        let next = (self.batch + 1, start + BATCH_HEADER);
        let is_whole = self.is_batch_whole(before.index);
        let same = (!is_whole).then_some((self.batch, self.at));
        for (batch, offset) in same.into_iter().chain([next]) {
            let found = self.entry_head(disk, batch, offset, index)?;
            let Some(found) = found.filter(|found| found.id.term >= before.term) else { continue };
            if batch != self.batch {
                self.enter(disk, batch, start, index)?;
            }
            let position = u16::try_from(index.0 - self.batch_first.0).unwrap_or(u16::MAX);
            let EntryHead { id, len, kind } = found;
            let entries = self.batch_entries;
            return Ok(Some(SlotRecord { id, len, offset, batch, position, entries, kind }));
        }
        Ok(None)
    }

    /// Goes to the batch that says of itself that it comes after `before`, wherever it begins.
    fn find_batch<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        before: EntryId,
    ) -> Result<bool, StorageError> {
        let index = before.index.next();
        for offset in (round_up(self.at)..self.head.file_bytes).step_by(PAGE as usize) {
            let home = self.head.home();
            let found =
                BatchHeader::decode_any(self.peek(disk, offset, BATCH_HEADER)?, home, offset);
            let Some((batch, header)) = known(found, &self.path)? else { continue };
            if (header.first, header.chain_before) == (index, before.chain) && batch >= self.batch {
                self.enter(disk, batch, offset, index)?;
                self.at = offset + BATCH_HEADER;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there is an entry after `before` of which only its healed copy says who it is.
    fn identify<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        before: EntryId,
        spares: &Spares,
        piece: &mut Piece,
    ) -> Result<bool, StorageError> {
        let found = spares.heals.identify(disk, before, self.name)?;
        let Some(Identified { id, payload, place }) = found else { return Ok(false) };
        if self.is_batch_whole(before.index) {
            let start = round_up(self.at);
            self.enter(disk, self.batch + 1, start, id.index)?;
            self.at = start + BATCH_HEADER;
        }
        let (len, kind) = place.shape();
        let position = u16::try_from(id.index.0 - self.batch_first.0).unwrap_or(u16::MAX);
        let (batch, entries) = (self.batch, self.batch_entries);
        // What was lost before it may have been shorter than what is guessed of it.
        let offset = latest_offset(self.head.file_bytes, len).map_or(self.at, |at| at.min(self.at));
        let slot = SlotRecord { id, len, offset, batch, position, entries, kind };
        self.at = offset + ENTRY_HEADER + len;
        self.is_astray = true;
        *piece = Piece { slot, body: Body::Healed(payload, place), is_slot_bad: true };
        self.note(piece, false);
        Ok(true)
    }

    fn note(&mut self, piece: &Piece, is_header_ok: bool) {
        let index = piece.slot.id.index;
        let is_intact = match &piece.body {
            Body::Intact(_) => true,
            Body::Exposed(_) | Body::Healed(..) | Body::Damaged => false,
        };
        if piece.is_slot_bad {
            self.slots_again.insert(index, piece.slot);
        }
        if !is_intact && !piece.is_slot_bad && !is_header_ok {
            self.fragile.push(index);
        }
    }

    fn slot_offset(&self, index: Index) -> u64 {
        u64::from(TABLE_OFFSET) + (index.0 - self.name.first.0) * u64::from(SLOT_BYTES)
    }

    fn slot(&self, index: Index) -> Option<SlotRecord> {
        let mut slot = SlotRecord::default();
        self.read_slot(index, &mut slot).then_some(slot)
    }

    /// Whether the slot of an entry can be read; then it is put into `slot`.
    fn read_slot(&self, index: Index, slot: &mut SlotRecord) -> bool {
        let number = index.0.checked_sub(self.name.first.0).map(usize::try_from);
        let Some(Ok(Some(start))) =
            number.map(|number| number.map(|number| number.checked_mul(SLOT_BYTES as usize)))
        else {
            return false;
        };
        let Some(bytes) = self.table.get(start..start + SLOT_BYTES as usize) else { return false };
        let end = |slot: &SlotRecord| {
            u64::from(slot.offset) + u64::from(ENTRY_HEADER) + u64::from(slot.len)
        };
        slot.read(bytes, self.head.home(), index)
            && slot.offset >= self.head.data_offset + BATCH_HEADER
            && end(slot) <= u64::from(self.head.file_bytes)
    }

    fn entry_head<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        batch: u32,
        offset: u32,
        index: Index,
    ) -> Result<Option<EntryHead>, StorageError> {
        let place = Place { home: self.head.home(), batch, offset };
        let file_bytes = self.head.file_bytes;
        let bytes = self.peek(disk, offset, ENTRY_HEADER)?;
        Ok(EntryHead::decode(bytes, place, index).filter(|head| head.fits(offset, file_bytes)))
    }

    /// The header where a slot says that its entry stands.
    fn compare_head<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        slot: &SlotRecord,
    ) -> Result<Head, StorageError> {
        let place = Place { home: self.head.home(), batch: slot.batch, offset: slot.offset };
        let file_bytes = self.head.file_bytes;
        let bytes = self.peek(disk, slot.offset, ENTRY_HEADER)?;
        Ok(match EntryHead::decode(bytes, place, slot.id.index) {
            Some(head) if (head.id, head.len, head.kind) == (slot.id, slot.len, slot.kind) => {
                Head::Same
            }
            Some(head) if head.fits(slot.offset, file_bytes) => Head::Other,
            Some(_) | None => Head::Unread,
        })
    }

    fn payload<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        slot: &SlotRecord,
        before: EntryId,
    ) -> Result<Option<Payload>, StorageError> {
        let file_bytes = u64::from(self.head.file_bytes);
        let of = InWindow { file: &self.file, path: &self.path, file_bytes };
        let offset = u64::from(slot.offset) + u64::from(ENTRY_HEADER);
        let bytes = self.window.get(disk, of, offset, slot.len as usize)?;
        Ok(read_payload(bytes, slot.kind, slot.id, before))
    }

    /// The memory that was read into, for the next segment.
    pub(super) fn into_parts(self) -> (F, String, Window) {
        (self.file, self.path, self.window)
    }

    fn peek<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        offset: u32,
        len: u32,
    ) -> Result<&[u8], StorageError> {
        let file_bytes = u64::from(self.head.file_bytes);
        let of = InWindow { file: &self.file, path: &self.path, file_bytes };
        self.window.peek(disk, of, u64::from(offset), len as usize)
    }
}
