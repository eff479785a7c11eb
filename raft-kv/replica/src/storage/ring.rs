//! The newest membership entries a second time, in a ring behind the hard state.
//!
//! A node must never be unsure which quorums apply because the entry that the disk has damaged *is*
//! the membership (§6). The newest of a batch are written here, to both files, and synced before they
//! are written to the log; if a place in the log turns out to be unreadable, its membership is taken from
//! here. A start fills in what the ring has lost, once the log has it for certain.

use raft_core::wire::{decode_payload, encode_payload};
use raft_core::{Entry, EntryId, Payload, Slot};

use super::batch::PAGE;
use super::error::{InFile, StorageError};
use super::frame::{CHECKSUM, Flaw, HEAD, Owner, framed_bytes, seal, unseal};
use super::hard_state::FILES;
use super::read::read_framed;
use super::record::{entry_id, put_entry_id, put_u32, put_u64};
use crate::disk::Disk;

/// How many memberships are kept: the newest two of the log, and two that are on their way.
const PLACES: u32 = 4;
/// How many of one kind.
const NEWEST: usize = 2;
/// The largest membership has 256 names of at most 20 bytes.
const PLACE_BYTES: u32 = 2 * PAGE;
/// Behind the pages of the hard state.
const OFFSET: u32 = super::hard_state::BYTES;
/// What the ring adds to each file.
pub(super) const BYTES: u32 = PLACES * PLACE_BYTES;

const MAGIC: &[u8; 8] = b"raft-cfg";

/// A membership entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Counts what was ever kept.
    number: u64,
    pub(super) id: EntryId,
    pub(super) payload: Payload,
}

/// A copy that cannot be read, of what its twin still says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bad {
    copy: u32,
    place: u32,
    kept: Kept,
}

/// What the ring holds.
#[derive(Debug, Default)]
pub(super) struct Ring {
    owner: Owner,
    /// In the order in which it was written; what cannot be read is left out.
    pub(super) kept: Vec<Kept>,
    bad: Vec<Bad>,
}

impl Ring {
    /// Reads both copies.
    pub(super) fn read<D: Disk>(
        disk: &mut D,
        files: &[D::File; 2],
        owner: Owner,
    ) -> Result<Self, StorageError> {
        let mut found = [const { [const { None }; PLACES as usize] }; 2];
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for place in 0..PLACES {
            let offset = u64::from(OFFSET + place * PLACE_BYTES);
            for (copy, bytes) in [&mut first, &mut second].into_iter().enumerate() {
                let (name, file) = (FILES[copy], &files[copy]);
                read_framed(disk, file, name, offset, PLACE_BYTES as usize, bytes)?;
            }
            let kept = decode(&first, owner, place).ok();
            found[1][place as usize] = match &kept {
                Some(kept) if is_twin(&second, owner, PLACES + place, &first) => Some(kept.clone()),
                Some(_) | None => decode(&second, owner, PLACES + place).ok(),
            };
            found[0][place as usize] = kept;
        }
        Ok(Self { owner, ..Self::compare(found) })
    }

    fn compare(found: [[Option<Kept>; PLACES as usize]; 2]) -> Self {
        let mut ring = Self::default();
        let [first, second] = &found;
        for (place, (first, second)) in (0u32..).zip(first.iter().zip(second)) {
            let newest = first.iter().chain(second).max_by_key(|kept| kept.number);
            for (copy, one) in [(0, first), (1, second)] {
                let bad = newest.filter(|newest| one.as_ref() != Some(*newest));
                ring.bad.extend(bad.map(|kept| Bad { copy, place, kept: kept.clone() }));
            }
        }
        // One file after the other.
        ring.bad.sort_by_key(|bad| bad.copy);
        ring.kept.extend(found.into_iter().flatten().flatten());
        ring.kept.sort_unstable_by_key(|kept| kept.number);
        ring.kept.dedup();
        ring
    }

    /// The copies that cannot be read and whose twins can, and their files.
    pub(super) fn bad_copies(&self) -> impl Iterator<Item = (u32, &'static str)> {
        self.bad.iter().map(|bad| (bad.copy, FILES[bad.copy as usize]))
    }

    /// Writes those again, durably; says how many there were.
    pub(super) fn repair<D: Disk>(
        &self,
        disk: &mut D,
        files: &[D::File; 2],
    ) -> Result<u64, StorageError> {
        // One file after the other: a power cut tears one copy at most.
        for of_file in self.bad.chunk_by(|one, next| one.copy == next.copy) {
            let copy = of_file[0].copy;
            let (name, file) = (FILES[copy as usize], &files[copy as usize]);
            for Bad { place, kept: Kept { number, id, payload }, .. } in of_file {
                let record = encode((*id, payload), self.owner, *number, copy * PLACES + place);
                let offset = u64::from(OFFSET + place * PLACE_BYTES);
                disk.write(file, offset, &record).in_file(name)?;
            }
            disk.sync(file).in_file(name)?;
        }
        Ok(self.bad.len() as u64)
    }

    /// Adds the memberships by which a node with this log may have to go, unless they are here: the
    /// newest one, and the one before it, should the newest be truncated. Each must have another place
    /// by now: what stood in the ring before is overwritten.
    pub(super) fn refill<D: Disk>(
        &self,
        disk: &mut D,
        files: &[D::File; 2],
        log: &[Slot],
    ) -> Result<(), StorageError> {
        let mut wanted: Vec<_> = log.iter().rev().filter_map(membership).take(NEWEST).collect();
        let is_here = |(id, payload): &(EntryId, &Payload)| {
            self.kept.iter().any(|kept| kept.id == *id && kept.payload == **payload)
        };
        if wanted.iter().all(is_here) {
            return Ok(());
        }
        // Both, so that none is left in a place that will be used again soon.
        wanted.reverse();
        self.add(disk, files, &wanted)
    }

    /// Writes entries to the places after the newest one, durably.
    fn add<D: Disk>(
        &self,
        disk: &mut D,
        files: &[D::File; 2],
        entries: &[(EntryId, &Payload)],
    ) -> Result<(), StorageError> {
        let newest = self.kept.last().map_or(0, |kept| kept.number);
        // One file after the other: a power cut takes what was in a place before from one file only.
        for (copy, (name, file)) in (0u32..).zip(FILES.into_iter().zip(files)) {
            for (number, (id, payload)) in (newest + 1..).zip(entries) {
                let place = u32::try_from(number % u64::from(PLACES)).expect("it is below PLACES");
                let record = encode((*id, payload), self.owner, number, copy * PLACES + place);
                let offset = OFFSET + place * PLACE_BYTES;
                disk.write(file, u64::from(offset), &record).in_file(name)?;
            }
            disk.sync(file).in_file(name)?;
        }
        Ok(())
    }
}

/// Adds memberships that are about to be written to the log, durably: the newest ones. What they replace is
/// in force again if the log does not get them, so it must not leave the ring before they are there.
pub(super) fn keep<D: Disk>(
    disk: &mut D,
    files: &[D::File; 2],
    owner: Owner,
    memberships: &[Entry],
) -> Result<(), StorageError> {
    let newest = &memberships[memberships.len().saturating_sub(NEWEST)..];
    let memberships: Vec<_> = newest.iter().map(|entry| (entry.id(), entry.payload())).collect();
    Ring::read(disk, files, owner)?.add(disk, files, &memberships)
}

fn membership(slot: &Slot) -> Option<(EntryId, &Payload)> {
    let Slot::Resident { id, payload } = slot else { return None };
    matches!(payload, Payload::Membership(_)).then_some((*id, payload))
}

fn encode((id, payload): (EntryId, &Payload), owner: Owner, number: u64, place: u32) -> Vec<u8> {
    let (kind, payload) = encode_payload(payload);
    let mut body = Vec::with_capacity(48 + payload.len());
    put_u32(&mut body, place);
    put_u64(&mut body, number);
    put_entry_id(&mut body, id);
    body.push(kind);
    body.extend_from_slice(&payload);
    let record = seal(MAGIC, owner, &body);
    assert!(record.len() <= PLACE_BYTES as usize, "the largest membership fits");
    record
}

/// Whether these bytes are a record of this place that says the same as the other copy, which is one
/// that can be read: most are, and a membership takes longer to decode than to compare.
fn is_twin(bytes: &[u8], owner: Owner, place: u32, other: &[u8]) -> bool {
    let Ok(mut body) = unseal(MAGIC, owner, bytes) else { return false };
    // The body begins with its place.
    let says = framed_bytes(other) - CHECKSUM;
    body.u32() == Some(place) && other.get(HEAD + 4..says) == Some(body.0)
}

fn decode(bytes: &[u8], owner: Owner, place: u32) -> Result<Kept, Flaw> {
    let mut body = unseal(MAGIC, owner, bytes)?;
    let mut read = || {
        let here = body.u32()? == place;
        let number = body.u64()?;
        let id = entry_id(&mut body)?;
        let kind = body.take(1)?[0];
        let payload = decode_payload(kind, body.0.to_vec().into()).ok()?;
        (here && number < u64::MAX / 2).then_some(Kept { number, id, payload })
    };
    read().ok_or(Flaw::Bad)
}
