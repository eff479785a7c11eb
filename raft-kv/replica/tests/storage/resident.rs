//! What a start keeps in memory: the payloads of the newest entries, as many as fit, and memberships.

use raft_core::Slot;
use raft_replica::storage::{Storage, StorageOptions};

use crate::crash::{TINY, formatted, open};
use crate::memory_disk::MemoryDisk;
use crate::model::{Script, identity};

/// A log of many segments, with entries of all sizes and some memberships.
fn written() -> MemoryDisk {
    let disk = formatted();
    let mut script = Script::founding();
    script.term(1, None);
    for round in 0..12 {
        script.append(&[round * 40, 0, 7]).sync().append(&[300; 3]).sync();
        if round % 4 == 1 {
            script.membership(4 + round as u64).sync();
        }
    }
    script.run(&mut open(&disk).unwrap().0).unwrap();
    let segments = disk.files().iter().filter(|name| name.starts_with("wal/seg-")).count();
    assert!(segments > 6, "only {segments} segments");
    disk
}

/// The slots that a start finds if it may keep so many bytes.
fn found(disk: &MemoryDisk, resident_bytes: u64) -> Vec<Slot> {
    let options = StorageOptions { resident_bytes, ..TINY };
    Storage::open(disk.fork(), options, Some(identity())).unwrap().1.slots
}

/// The length of a payload, and whether it counts: a membership does not, and is always kept.
fn bytes(slot: &Slot) -> (usize, bool) {
    match slot {
        Slot::Resident { payload, .. } => {
            (payload.len(), !matches!(payload, raft_core::Payload::Membership(_)))
        }
        Slot::Cold { bytes, .. } | Slot::Damaged { bytes, .. } => (*bytes, true),
    }
}

#[test]
fn a_start_keeps_as_many_of_the_newest_payloads_as_fit() {
    let disk = written();
    let all = found(&disk, u64::MAX);
    assert!(all.iter().all(|slot| matches!(slot, Slot::Resident { .. })));
    let mut after = 0;
    // As many as from each entry on, one byte less, and one more.
    let limits = all.iter().rev().map(|slot| {
        let (length, counts) = bytes(slot);
        after += if counts { length as u64 } else { 0 };
        after
    });
    for limit in limits.flat_map(|bytes| [bytes.saturating_sub(1), bytes, bytes + 1]) {
        let slots = found(&disk, limit);
        let mut left = Some(limit);
        for (slot, whole) in slots.iter().zip(&all).rev() {
            let (length, counts) = bytes(whole);
            if !counts {
                assert_eq!(slot, whole, "within {limit}");
                continue;
            }
            left = left.and_then(|left| left.checked_sub(length as u64)).filter(|_| limit > 0);
            match (left, slot) {
                (Some(_), slot) => assert_eq!(slot, whole, "within {limit}"),
                (None, Slot::Cold { bytes, .. }) => assert_eq!(*bytes, length, "within {limit}"),
                (None, slot) => panic!("{slot:?} is kept within {limit}"),
            }
        }
        assert_eq!(slots.len(), all.len());
    }
}
