//! What a start may say about a disk with one fault, and what it must never say.
//!
//! [`judge`] opens such a disk and compares with what was there before the fault: an entry is either
//! there, intact, or its identity is there and its payload is called damaged, or the log ends before
//! it and the node knows that it may have been longer. An older vote, another payload, an end of the
//! log that looks like one, or a panic are never right. Then it opens it again, which must find the
//! same, and heals, which must make it whole.

use std::collections::BTreeSet;

use raft_core::{Entries, EntryId, Index, Payload, PersistBatch, PersistSeq};
use raft_replica::storage::work::Work;
use raft_replica::storage::{Found, Storage, StorageError, StorageOptions};

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, identity};

/// Small sizes, with a gap between the slots and the entries.
pub(crate) const SIZES: StorageOptions = StorageOptions {
    segment_slots: 16,
    segment_bytes: 8192,
    guard_bytes: 4096,
    chunk_bytes: 700,
    resident_bytes: 900,
};
/// The same with segments that have room for many batches.
pub(crate) const ROOMY: StorageOptions = StorageOptions { segment_bytes: 32 << 10, ..SIZES };
/// Where batches begin in a segment: behind its head, its table and the gap.
pub(crate) const FIRST_BATCH: usize = 8192 + 4096 + 4096;

/// What a start said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Everything is there.
    Whole,
    /// Payloads are damaged, identities are not.
    Damaged,
    /// The log ends early, and the node knows.
    TailUnknown,
    /// An older snapshot takes the place of the newest.
    OlderSnapshot,
    /// The newest snapshot is damaged, and none takes its place.
    SnapshotDamaged,
    /// The node has lost what it has promised, and refuses to start.
    Amnesia,
}

pub(crate) type Opened = (Storage<MemoryDisk>, Found);

pub(crate) fn open(disk: &MemoryDisk) -> Result<Opened, StorageError> {
    Storage::open(disk.clone(), SIZES, Some(identity()))
}

pub(crate) fn contents(disk: &MemoryDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.files().into_iter().map(|file| (file.clone(), disk.bytes(&file))).collect()
}

/// Opens a disk with one fault that may have hit the payloads at `victims`.
pub(crate) fn judge(
    disk: &MemoryDisk,
    expected: &Durable,
    victims: &BTreeSet<Index>,
    context: &str,
) -> Verdict {
    let before = contents(disk);
    let looked = Storage::look(&mut disk.clone(), &SIZES, Some(identity()));
    assert!(contents(disk) == before, "{context}: changed by who only looked");
    let (mut storage, found) = match open(disk) {
        Ok(opened) => opened,
        Err(StorageError::Amnesia { file, what }) => {
            assert!(!file.is_empty() && !what.is_empty(), "{context}");
            assert!(contents(disk) == before, "{context}: changed before it was refused");
            assert_eq!(looked, Err(StorageError::Amnesia { file, what }), "{context}: looked at");
            return Verdict::Amnesia;
        }
        Err(error) => panic!("{context}: {error}"),
    };
    assert_eq!(looked.as_ref(), Ok(&found), "{context}: looked at");
    let first = Durable::found(&mut storage, &found);
    let verdict = compare(&first, &found, expected, victims, context);
    if verdict == Verdict::Damaged {
        let end = first.snapshot.unwrap_or_default().index;
        let named = found.report.damaged().filter(|id| id.index > end);
        let holes = first.log.iter().filter(|(_, payload)| payload.is_none());
        assert!(named.eq(holes.map(|(id, _)| *id)), "{context}: the report\n{}", found.report);
    }
    let (mut storage, again) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(Durable::found(&mut storage, &again), first, "{context}, again");
    assert_eq!(again.is_snapshot_damaged, found.is_snapshot_damaged, "{context}, again");
    if verdict == Verdict::Damaged {
        heal(&mut storage, &first, expected);
        for _ in 0..2 {
            let (mut storage, found) = open(disk).unwrap();
            let healed = Durable::found(&mut storage, &found);
            assert_eq!(healed, *expected, "{context}, healed");
        }
    }
    verdict
}

fn compare(
    durable: &Durable,
    found: &Found,
    expected: &Durable,
    victims: &BTreeSet<Index>,
    context: &str,
) -> Verdict {
    let is_unknown = found.hard_state.is_tail_unknown;
    let hard_state = raft_core::HardState { is_tail_unknown: false, ..found.hard_state };
    assert_eq!(hard_state, expected.hard_state, "{context}");
    let end = |state: &Durable| state.snapshot.unwrap_or_default().index;
    if durable.snapshot != expected.snapshot {
        assert!(end(durable) < end(expected), "{context}: another snapshot");
        assert!(durable.log.ends_with(&expected.log), "{context}: {durable:#?}");
        return Verdict::OlderSnapshot;
    }
    let is_shorter = durable.log.len() < expected.log.len();
    assert!(!is_shorter || is_unknown, "{context}: found {durable:#?}, without a word");
    assert!(durable.log.len() <= expected.log.len() || is_unknown, "{context}: from nowhere");
    for ((id, payload), (other, wanted)) in durable.log.iter().zip(&expected.log) {
        if id != other {
            // Without the segment that fenced them off, truncated entries are back.
            assert!(is_unknown, "{context}: {id} is not {other}");
            break;
        }
        let is_right = payload == wanted || (payload.is_none() && victims.contains(&id.index));
        assert!(is_right, "{context}: {id} is {payload:?}, was {wanted:?}");
    }
    if is_unknown {
        Verdict::TailUnknown
    } else if found.is_snapshot_damaged {
        Verdict::SnapshotDamaged
    } else if durable.damaged() > 0 {
        Verdict::Damaged
    } else {
        Verdict::Whole
    }
}

/// Gives back what is missing, one batch for all of it.
pub(crate) fn heal(storage: &mut Storage<MemoryDisk>, damaged: &Durable, whole: &Durable) {
    let mut before = whole.snapshot.unwrap_or_default();
    let mut runs = Vec::new();
    for ((id, payload), (_, there)) in whole.log.iter().zip(&damaged.log) {
        if there.is_none() {
            runs.push(run(before, *id, payload.clone().unwrap()));
        }
        before = *id;
    }
    assert!(!runs.is_empty(), "something is to be healed");
    let batch = healing(runs);
    storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
    storage.sync().unwrap();
}

/// The entry `id` alone, which follows `before`.
pub(crate) fn run(before: EntryId, id: EntryId, payload: Payload) -> Entries {
    let run = Entries::after(before, [(id.term, payload)]);
    assert_eq!(run[0].id(), id, "the payload makes the identity");
    run
}

pub(crate) fn healing(heal: Vec<Entries>) -> PersistBatch {
    PersistBatch {
        seq: PersistSeq::default(),
        hard_state: None,
        install: None,
        truncate_from: None,
        heal,
        append: Entries::empty(),
        compact_to: None,
    }
}

/// The entries of which some byte lies in this part of a file, as the slots of the file tell.
pub(crate) fn victims(disk: &MemoryDisk, file: &str, from: usize, to: usize) -> BTreeSet<Index> {
    let bytes = disk.bytes(file).unwrap();
    if file.starts_with("wal/heal") {
        // Whoever is healed may be anywhere in it.
        return (0..1000).map(Index).collect();
    }
    if !file.starts_with("wal/") {
        return BTreeSet::new();
    }
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let slots = (8192..FIRST_BATCH - 4096).step_by(64).filter(|at| word(*at) > 0);
    slots
        .filter(|at| {
            let (len, offset) = (half(at + 16), half(at + 20));
            offset < to && from < offset + 40 + len
        })
        .map(|at| Index(word(at)))
        .collect()
}
