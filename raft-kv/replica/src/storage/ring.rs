//! The newest membership entries a second time, in a ring behind the hard state.
//!
//! A node must never be unsure which quorums apply because the entry that the disk has damaged *is*
//! the membership (§6). Each is written here, to both files, and synced before it is written to
//! the log; if its place in the log turns out to be unreadable, it is taken from here.

use raft_core::wire::{decode_payload, encode_payload};
use raft_core::{Entry, EntryId, Payload};

use super::batch::PAGE;
use super::error::{InFile, StorageError};
use super::frame::{Flaw, seal, unseal};
use super::hard_state::FILES;
use super::read::read_lossy;
use super::record::{entry_id, put_entry_id, put_u32, put_u64};
use crate::disk::Disk;

/// How many memberships are kept: a change, the one before it, and both again after a truncation.
const PLACES: u32 = 4;
/// The largest membership has 256 names of at most 20 bytes.
const PLACE_BYTES: u32 = 2 * PAGE;
/// Behind the two slots of the hard state.
const OFFSET: u32 = 2 * PAGE;
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

/// What the ring holds, in the order in which it was written; what cannot be read is left out.
pub(super) fn read<D: Disk>(disk: &mut D, files: &[D::File; 2]) -> Result<Vec<Kept>, StorageError> {
    let mut all: Vec<Kept> = Vec::new();
    let mut bytes = vec![0; BYTES as usize];
    for (number, (name, file)) in (0u32..).zip(FILES.into_iter().zip(files)) {
        read_lossy(disk, file, name, u64::from(OFFSET), &mut bytes)?;
        for (place, bytes) in (0u32..).zip(bytes.chunks_exact(PLACE_BYTES as usize)) {
            all.extend(decode(bytes, number * PLACES + place));
        }
    }
    all.sort_unstable_by_key(|kept| kept.number);
    all.dedup();
    Ok(all)
}

/// Adds entries, durably.
pub(super) fn keep<D: Disk>(
    disk: &mut D,
    files: &[D::File; 2],
    entries: &[Entry],
) -> Result<(), StorageError> {
    let newest = read(disk, files)?.last().map_or(0, |kept| kept.number);
    for (number, entry) in (newest + 1..).zip(entries) {
        let place = u32::try_from(number % u64::from(PLACES)).expect("it is below PLACES");
        for (copy, (name, file)) in (0u32..).zip(FILES.into_iter().zip(files)) {
            let record = encode(entry.id(), entry.payload(), number, copy * PLACES + place);
            let offset = OFFSET + place * PLACE_BYTES;
            disk.write(file, u64::from(offset), &record).in_file(name)?;
        }
    }
    for (name, file) in FILES.into_iter().zip(files) {
        disk.sync(file).in_file(name)?;
    }
    Ok(())
}

/// Writes copies again whose twins can be read, durably; says which there were.
pub(super) fn repair<D: Disk>(
    disk: &mut D,
    files: &[D::File; 2],
    write: bool,
) -> Result<Vec<(u32, &'static str)>, StorageError> {
    let mut newest: [Option<Kept>; PLACES as usize] = [const { None }; PLACES as usize];
    for kept in read(disk, files)? {
        let place = usize::try_from(kept.number % u64::from(PLACES)).expect("below PLACES");
        newest[place] = Some(kept);
    }
    let mut bad = Vec::new();
    for (copy, (name, file)) in (0u32..).zip(FILES.into_iter().zip(files)) {
        let before = bad.len();
        for (place, kept) in (0u32..).zip(&newest) {
            let Some(Kept { number, id, payload }) = kept else { continue };
            let record = encode(*id, payload, *number, copy * PLACES + place);
            let offset = u64::from(OFFSET + place * PLACE_BYTES);
            let mut found = vec![0; record.len()];
            read_lossy(disk, file, name, offset, &mut found)?;
            if found == record {
                continue;
            }
            bad.push((copy, name));
            if write {
                disk.write(file, offset, &record).in_file(name)?;
            }
        }
        // One file after the other: a power cut tears one copy at most.
        if write && bad.len() > before {
            disk.sync(file).in_file(name)?;
        }
    }
    Ok(bad)
}

fn encode(id: EntryId, payload: &Payload, number: u64, place: u32) -> Vec<u8> {
    let (kind, payload) = encode_payload(payload);
    let mut body = Vec::with_capacity(48 + payload.len());
    put_u32(&mut body, place);
    put_u64(&mut body, number);
    put_entry_id(&mut body, id);
    body.push(kind);
    body.extend_from_slice(&payload);
    let record = seal(MAGIC, &body);
    assert!(record.len() <= PLACE_BYTES as usize, "the largest membership fits");
    record
}

fn decode(bytes: &[u8], place: u32) -> Result<Kept, Flaw> {
    let mut body = unseal(MAGIC, bytes)?;
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
