//! The framed records that need more than one field: hard state, segment head, manifest.
//!
//! Integers are little-endian and have a fixed width; what the core names (hard state, membership)
//! is in the core's durable encoding. None of these may change without a new version number.

use std::sync::Arc;

use raft_core::wire::{
    decode_hard_state, decode_snapshot_meta, encode_hard_state, encode_snapshot_meta,
};
use raft_core::{Chain, EntryId, HardState, Index, LIMIT, SnapshotMeta, Term};
use twox_hash::XxHash3_64;

use super::batch::Home;
use super::frame::{Flaw, Owner, Reader, seal, unseal};

/// The hard state as it stands on the disk, with what it knows about the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HardRecord {
    /// Counts the writes.
    pub(super) generation: u64,
    /// The digest of the generation before this one.
    pub(super) parent: u64,
    pub(super) state: HardState,
    /// The log was durable through here when this was written: one that ends before has lost
    /// something. A truncation lowers it first.
    pub(super) log_through: Index,
    /// Known to be committed, and durable here.
    pub(super) commit: Index,
    /// A segment of this epoch is durable: if none is found, it has been lost.
    pub(super) log_epoch: u64,
}

const HARD_STATE: &[u8; 8] = b"raft-hs\0";

impl HardRecord {
    fn body(&self) -> Vec<u8> {
        let Self { generation, parent, state, log_through, commit, log_epoch } = self;
        let mut body = Vec::with_capacity(96);
        for word in [*generation, *parent, log_through.0, commit.0, *log_epoch] {
            put_u64(&mut body, word);
        }
        body.extend_from_slice(&encode_hard_state(state));
        body
    }

    /// What the next generation calls its parent.
    pub(super) fn digest(&self) -> u64 {
        XxHash3_64::oneshot(&self.body())
    }
}

/// `slot` names the place, `turn` counts the times that a start has written this generation: see
/// `hard_state.rs`.
pub(super) fn encode_hard_record(
    record: &HardRecord,
    owner: Owner,
    slot: u32,
    turn: u64,
) -> Vec<u8> {
    let mut body = Vec::with_capacity(108);
    put_u32(&mut body, slot);
    put_u64(&mut body, turn);
    body.extend_from_slice(&record.body());
    seal(HARD_STATE, owner, &body)
}

/// The record and its turn.
pub(super) fn decode_hard_record(
    bytes: &[u8],
    owner: Owner,
    slot: u32,
) -> Result<(HardRecord, u64), Flaw> {
    let mut body = unseal(HARD_STATE, owner, bytes)?;
    let mut read = || {
        let here = body.u32()? == slot;
        let turn = body.u64()?;
        let (generation, parent) = (body.u64()?, body.u64()?);
        let (log_through, commit) = (Index(body.u64()?), Index(body.u64()?));
        let log_epoch = body.u64()?;
        let state = decode_hard_state(body.0).ok()?;
        let record = HardRecord { generation, parent, state, log_through, commit, log_epoch };
        (here && generation < LIMIT && turn < LIMIT).then_some((record, turn))
    };
    read().ok_or(Flaw::Bad)
}

/// What a segment of the log says about itself, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    /// Whose log it is: the seed of all checksums in the segment.
    pub(super) owner: Owner,
    /// Grows with every truncation and every start: a segment of a higher epoch replaces, from its
    /// first entry on, everything of a lower one.
    pub(super) epoch: u64,
    /// The entry before its first one.
    pub(super) before: EntryId,
    /// How many entries its table has room for.
    pub(super) slots: u32,
    /// Where its batches begin.
    pub(super) data_offset: u32,
    /// Where they must end: the length of the file.
    pub(super) file_bytes: u32,
}

impl SegmentHead {
    /// Where its records stand.
    pub(super) fn home(&self) -> Home {
        Home { owner: self.owner, epoch: self.epoch }
    }
}

const SEGMENT: &[u8; 8] = b"raft-seg";

pub(super) fn encode_segment_head(head: &SegmentHead, copy: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(48);
    put_u32(&mut body, copy);
    put_u64(&mut body, head.epoch);
    put_entry_id(&mut body, head.before);
    for word in [head.slots, head.data_offset, head.file_bytes] {
        put_u32(&mut body, word);
    }
    seal(SEGMENT, head.owner, &body)
}

pub(super) fn decode_segment_head(
    bytes: &[u8],
    owner: Owner,
    copy: u32,
) -> Result<SegmentHead, Flaw> {
    let mut body = unseal(SEGMENT, owner, bytes)?;
    let mut read = || {
        let here = body.u32()? == copy;
        let epoch = body.u64()?;
        let before = entry_id(&mut body)?;
        let (slots, data_offset, file_bytes) = (body.u32()?, body.u32()?, body.u32()?);
        (here && before.index.is_valid()).then_some(SegmentHead {
            owner,
            epoch,
            before,
            slots,
            data_offset,
            file_bytes,
        })
    };
    read().ok_or(Flaw::Bad)
}

/// What a snapshot covers and how its bytes are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) meta: Arc<SnapshotMeta>,
    /// The length of the state machine's bytes.
    pub(super) bytes: u64,
    /// The length of every chunk but the last.
    pub(super) chunk_bytes: u32,
    /// XXH3-64 of each chunk: what the bytes are, whoever has written them.
    pub(super) digests: Vec<u64>,
}

const MANIFEST: &[u8; 8] = b"raft-snp";

pub(super) fn encode_manifest(manifest: &Manifest, owner: Owner) -> Vec<u8> {
    let meta = encode_snapshot_meta(&manifest.meta);
    let mut body = Vec::with_capacity(16 + meta.len() + 8 * manifest.digests.len());
    put_u64(&mut body, manifest.bytes);
    put_u32(&mut body, manifest.chunk_bytes);
    put_u32(&mut body, u32::try_from(meta.len()).expect("a membership is a few KiB"));
    body.extend_from_slice(&meta);
    for digest in &manifest.digests {
        put_u64(&mut body, *digest);
    }
    seal(MANIFEST, owner, &body)
}

pub(super) fn decode_manifest(bytes: &[u8], owner: Owner) -> Result<Manifest, Flaw> {
    let mut body = unseal(MANIFEST, owner, bytes)?;
    let mut read = || {
        let (bytes, chunk_bytes) = (body.u64()?, body.u32()?);
        let length = body.u32()? as usize;
        let meta = Arc::new(decode_snapshot_meta(body.take(length)?).ok()?);
        let mut digests = Vec::with_capacity(body.0.len() / 8);
        while !body.0.is_empty() {
            digests.push(body.u64()?);
        }
        let fits =
            chunk_bytes > 0 && bytes.div_ceil(u64::from(chunk_bytes)) == digests.len() as u64;
        fits.then_some(Manifest { meta, bytes, chunk_bytes, digests })
    };
    read().ok_or(Flaw::Bad)
}

pub(super) fn put_u32(bytes: &mut Vec<u8>, word: u32) {
    bytes.extend_from_slice(&word.to_le_bytes());
}

pub(super) fn put_u64(bytes: &mut Vec<u8>, word: u64) {
    bytes.extend_from_slice(&word.to_le_bytes());
}

pub(super) fn put_entry_id(bytes: &mut Vec<u8>, id: EntryId) {
    put_u64(bytes, id.index.0);
    put_u64(bytes, id.term.0);
    put_u64(bytes, id.chain.0);
}

pub(super) fn entry_id(body: &mut Reader<'_>) -> Option<EntryId> {
    Some(EntryId { index: Index(body.u64()?), term: Term(body.u64()?), chain: Chain(body.u64()?) })
}
