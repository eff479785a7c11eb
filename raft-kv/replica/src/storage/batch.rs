//! The records inside a segment: batches of entries, and apart from them one slot for each entry.
//!
//! ```text
//! batch, on a page boundary     | header | entry header, payload | entry header, payload | ..
//! slot, in the segment's table  index, term, chain, where and how long, which batch, checksum
//! ```
//! A slot says of an entry all but its payload, so that a damaged payload still has an identity.
//! Every checksum is seeded with whose log it is and with the position (epoch, batch, offset): bytes that
//! the disk has put elsewhere, or kept from an earlier use, do not pass, nor do those of another server
//! or group, nor what a client has sent and looks like a record. A payload has no checksum of its own,
//! the chain of its entry covers it: a chain is the same on every server, and says nothing of the place.

use bytes::Bytes;
use raft_core::entry::chain_after;
use raft_core::wire::{decode_payload, encode_payload};
use raft_core::{Chain, EntryId, Index, Payload, Term};
use twox_hash::XxHash3_64;

use super::frame::{Flaw, Owner, Reader};
use super::record::{put_u32, put_u64};

/// Batches begin on a multiple of this, so that none shares a page with an acknowledged one.
pub(super) const PAGE: u32 = 4096;
/// A slot divides the sector: it never straddles two.
pub(super) const SLOT_BYTES: u32 = 64;
/// The header of a batch.
pub(super) const BATCH_HEADER: u32 = 64;
/// The header of an entry.
pub(super) const ENTRY_HEADER: u32 = 40;

const MAGIC: &[u8; 4] = b"RBAT";
const VERSION: u16 = 1;

/// The file in which a record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Home {
    /// Whose log it is.
    pub(super) owner: Owner,
    /// The epoch of the segment.
    pub(super) epoch: u64,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) home: Home,
    /// The number of the batch in the segment, from 1.
    pub(super) batch: u32,
    /// Its offset in the file.
    pub(super) offset: u32,
}

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// How many entries follow.
    pub(super) entries: u16,
    /// The length of the batch, header included.
    pub(super) bytes: u32,
    /// The index of its first entry.
    pub(super) first: Index,
    /// The chain before its first entry: it continues what stands before it.
    pub(super) chain_before: Chain,
    /// Known to be committed when it was written, and durable before it.
    pub(super) commit: Index,
    /// The generation of the hard state that was durable before it.
    pub(super) generation: u64,
}

impl BatchHeader {
    fn encode(&self, place: Place) -> [u8; BATCH_HEADER as usize] {
        let mut bytes = Vec::with_capacity(BATCH_HEADER as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.entries.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        put_u64(&mut bytes, place.home.epoch);
        put_u32(&mut bytes, place.batch);
        put_u32(&mut bytes, self.bytes);
        put_u64(&mut bytes, self.first.0);
        put_u64(&mut bytes, self.chain_before.0);
        put_u64(&mut bytes, self.commit.0);
        put_u64(&mut bytes, self.generation);
        let checksum = Self::checksum(&bytes, place);
        put_u64(&mut bytes, checksum);
        bytes.try_into().expect("the fields fill the header")
    }

    /// Where a batch with this header ends that begins at `start` of a file of this length.
    pub(super) fn end(&self, start: u32, file_bytes: u32) -> u32 {
        start.saturating_add(self.bytes).min(file_bytes)
    }

    fn checksum(covered: &[u8], place: Place) -> u64 {
        // What it covers says the epoch, and the number of the batch.
        let seed = place.home.owner.0 ^ u64::from(place.offset);
        XxHash3_64::oneshot_with_seed(seed, covered)
    }

    /// The header of any batch that stands at `offset` of a segment, and its number.
    pub(super) fn decode_any(bytes: &[u8], home: Home, offset: u32) -> Result<(u32, Self), Flaw> {
        let batch = bytes.get(16..).and_then(|bytes| Reader(bytes).u32()).ok_or(Flaw::Bad)?;
        Ok((batch, Self::decode(bytes, Place { home, batch, offset })?))
    }

    /// The header of the batch at `place`, unless something else stands there.
    pub(super) fn decode(bytes: &[u8], place: Place) -> Result<Self, Flaw> {
        let (version, header) = Self::read(bytes, place).ok_or(Flaw::Bad)?;
        if version == VERSION { Ok(header) } else { Err(Flaw::Newer(u32::from(version))) }
    }

    /// The header at `place`, of any version: where it ends, and what says that it is one, never change.
    fn read(bytes: &[u8], place: Place) -> Option<(u16, Self)> {
        let mut read = Reader(bytes);
        let covered = bytes.get(..BATCH_HEADER as usize - 8)?;
        let magic = read.take(4)?;
        let (entries, version) = (read.u16()?, read.u16()?);
        let (epoch, batch) = (read.u64()?, read.u32()?);
        let header = Self {
            entries,
            bytes: read.u32()?,
            first: Index(read.u64()?),
            chain_before: Chain(read.u64()?),
            commit: Index(read.u64()?),
            generation: read.u64()?,
        };
        let here = magic == MAGIC && (epoch, batch) == (place.home.epoch, place.batch);
        let whole = read.u64()? == Self::checksum(covered, place);
        let is_some = header.entries > 0 && header.bytes >= BATCH_HEADER;
        (here && whole && (is_some || version != VERSION)).then_some((version, header))
    }
}

/// What is kept of an entry apart from its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotRecord {
    pub(super) id: EntryId,
    /// The length of the payload.
    pub(super) len: u32,
    /// Where the entry's header stands in the file.
    pub(super) offset: u32,
    /// The batch that it came with, its place there, and how many came with it.
    pub(super) batch: u32,
    pub(super) position: u16,
    pub(super) entries: u16,
    /// The kind of the payload.
    pub(super) kind: u8,
}

impl SlotRecord {
    pub(super) fn encode(&self, home: Home, out: &mut Vec<u8>) {
        let start = out.len();
        put_u64(out, self.id.index.0);
        put_u64(out, self.id.term.0);
        put_u32(out, self.len);
        put_u32(out, self.offset);
        put_u32(out, self.batch);
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        put_u32(out, u32::from(self.kind));
        put_u32(out, 0);
        put_u64(out, self.id.chain.0);
        put_u64(out, home.epoch);
        let checksum = XxHash3_64::oneshot_with_seed(home.owner.0, &out[start..]);
        put_u64(out, checksum);
    }

    /// The slot of `index` in a segment, unless something else stands there.
    pub(super) fn decode(bytes: &[u8], home: Home, index: Index) -> Option<Self> {
        let mut slot = Self::default();
        slot.read(bytes, home, index).then_some(slot)
    }

    /// Becomes the slot of `index` in a segment; says no if something else stands there,
    /// and then it is any slot. A start looks at very many: none is copied.
    pub(super) fn read(&mut self, bytes: &[u8], home: Home, index: Index) -> bool {
        // Most slots that are looked at are empty.
        let Some(bytes) = bytes.first_chunk::<{ SLOT_BYTES as usize }>() else { return false };
        let word = |at: usize| u64::from_le_bytes(array(bytes, at));
        if word(0) != index.0 {
            return false;
        }
        let half = |at: usize| u32::from_le_bytes(array(bytes, at));
        let quarter = |at: usize| u16::from_le_bytes(array(bytes, at));
        (self.len, self.offset, self.batch) = (half(16), half(20), half(24));
        (self.position, self.entries) = (quarter(28), quarter(30));
        (self.id.index, self.id.term, self.id.chain) = (index, Term(word(8)), Chain(word(40)));
        let Ok(kind) = u8::try_from(half(32)) else { return false };
        self.kind = kind;
        let covered = &bytes[..SLOT_BYTES as usize - 8];
        word(48) == home.epoch && word(56) == XxHash3_64::oneshot_with_seed(home.owner.0, covered)
    }
}

/// So many bytes from `at` on.
fn array<const N: usize>(bytes: &[u8; SLOT_BYTES as usize], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("as many")
}

/// What one entry of a batch takes.
pub(super) fn entry_bytes(payload: &Payload) -> u64 {
    let payload = match payload {
        Payload::Noop | Payload::Command(_) => payload.len(),
        Payload::Membership(_) => encode_payload(payload).1.len(),
    };
    u64::from(ENTRY_HEADER) + payload as u64
}

/// A batch in the making. The buffers are kept from one batch to the next.
#[derive(Debug, Default)]
pub(super) struct BatchWriter {
    /// The batch: header, then entries.
    pub(super) data: Vec<u8>,
    /// The table's part for its entries.
    pub(super) table: Vec<u8>,
    slots: Vec<SlotRecord>,
}

impl BatchWriter {
    /// Starts a batch at `place`.
    pub(super) fn begin(&mut self) {
        self.data.clear();
        self.data.resize(BATCH_HEADER as usize, 0);
        self.table.clear();
        self.slots.clear();
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds an entry if the batch stays within `bytes_max`; says whether it did.
    pub(super) fn push(
        &mut self,
        place: Place,
        id: EntryId,
        payload: &Payload,
        bytes_max: u32,
    ) -> bool {
        let (kind, bytes) = encode_payload(payload);
        let start = self.data.len();
        let end = start + ENTRY_HEADER as usize + bytes.len();
        if end > bytes_max as usize || self.slots.len() == usize::from(u16::MAX) {
            return false;
        }
        let start = u32::try_from(start).expect("a batch fits in its segment");
        let len = u32::try_from(bytes.len()).expect("a payload fits in its segment");
        let offset = place.offset + start;
        let position = u16::try_from(self.slots.len()).expect("bounded above");
        let batch = place.batch;
        let slot = SlotRecord { id, len, offset, batch, position, entries: 0, kind };
        encode_entry(&slot, place.home, &bytes, &mut self.data);
        self.slots.push(slot);
        true
    }

    /// Adds an entry whose payload is not there: zeros take its place, and their chain is wrong.
    pub(super) fn push_hole(&mut self, place: Place, found: &SlotRecord, bytes_max: u32) -> bool {
        let start = self.data.len();
        let end = start + ENTRY_HEADER as usize + found.len as usize;
        if end > bytes_max as usize || self.slots.len() == usize::from(u16::MAX) {
            return false;
        }
        let offset = place.offset + u32::try_from(start).expect("a batch fits in its segment");
        let position = u16::try_from(self.slots.len()).expect("bounded above");
        let slot = SlotRecord { offset, batch: place.batch, position, entries: 0, ..*found };
        encode_entry(&slot, place.home, &[], &mut self.data);
        self.data.resize(end, 0);
        self.slots.push(slot);
        true
    }

    /// The slots of the batch, in order.
    pub(super) fn slots(&self) -> &[SlotRecord] {
        &self.slots
    }

    /// Completes the header and the table.
    pub(super) fn finish(&mut self, place: Place, before: EntryId, commit: Index, generation: u64) {
        let entries = u16::try_from(self.slots.len()).expect("bounded by push");
        let header = BatchHeader {
            entries,
            bytes: u32::try_from(self.data.len()).expect("a batch fits in its segment"),
            first: before.index.next(),
            chain_before: before.chain,
            commit,
            generation,
        };
        self.data[..BATCH_HEADER as usize].copy_from_slice(&header.encode(place));
        for slot in &mut self.slots {
            slot.entries = entries;
            slot.encode(place.home, &mut self.table);
        }
    }
}

/// The entry that a slot describes: header and payload.
pub(super) fn encode_entry(slot: &SlotRecord, home: Home, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    put_u64(out, slot.id.index.0);
    put_u64(out, slot.id.term.0);
    put_u64(out, slot.id.chain.0);
    put_u32(out, slot.len);
    put_u32(out, u32::from(slot.kind));
    let place = Place { home, batch: slot.batch, offset: slot.offset };
    let checksum = XxHash3_64::oneshot_with_seed(seed(place), &out[start..]);
    put_u64(out, checksum);
    out.extend_from_slice(payload);
}

/// What the header of an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHead {
    pub(super) id: EntryId,
    pub(super) len: u32,
    pub(super) kind: u8,
}

impl EntryHead {
    /// Whether the entry ends within the file if its header stands at `offset`.
    pub(super) fn fits(&self, offset: u32, file_bytes: u32) -> bool {
        u64::from(offset) + u64::from(ENTRY_HEADER) + u64::from(self.len) <= u64::from(file_bytes)
    }

    /// The header of the entry at `index` that stands at `place.offset`, unless something else does.
    pub(super) fn decode(bytes: &[u8], place: Place, index: Index) -> Option<Self> {
        let mut read = Reader(bytes);
        let covered = bytes.get(..ENTRY_HEADER as usize - 8)?;
        let (found, term, chain) = (Index(read.u64()?), Term(read.u64()?), Chain(read.u64()?));
        let (len, flags) = (read.u32()?, read.u32()?);
        let whole = read.u64()? == XxHash3_64::oneshot_with_seed(seed(place), covered);
        let kind = u8::try_from(flags).ok()?;
        let id = EntryId { index, term, chain };
        (whole && found == index).then_some(Self { id, len, kind })
    }
}

/// The payload in these bytes, if it makes an entry of this identity after `before`.
pub(super) fn read_payload(
    bytes: Bytes,
    kind: u8,
    id: EntryId,
    before: EntryId,
) -> Option<Payload> {
    let payload = decode_payload(kind, bytes).ok()?;
    (chain_after(before.chain, id.term, id.index, &payload) == id.chain).then_some(payload)
}

/// Ties a checksum to a position. The multiplier spreads the epoch over all bits.
fn seed(Place { home, batch, offset }: Place) -> u64 {
    let position = u64::from(batch) << 32 | u64::from(offset);
    home.epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ position ^ home.owner.0
}
