//! The newest memberships are kept a second time, whatever becomes of their place in the log.

use raft_core::Payload;
use raft_replica::storage::Storage;

use crate::evidence::{after, after_rest, whole};
use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, identity};
use crate::verdict::{FIRST_BATCH, open};

fn is_membership(payload: &Option<Payload>) -> bool {
    matches!(payload, Some(Payload::Membership(_)))
}

/// A membership entry that has rotted, header and all, is taken from the ring, and is kept apart from
/// then on.
#[test]
fn a_damaged_membership_entry_is_taken_from_the_ring() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1]).sync().membership(4).append(&[2, 3]).sync();
    script.append(&[4]).sync();
    let (disk, expected) = (after(&script), script.now());
    let bytes = disk.bytes("wal/seg-1-1.wal").unwrap();
    let entry = expected.log.iter().find(|(_, payload)| is_membership(payload)).unwrap();
    let chain = entry.0.chain.0.to_le_bytes();
    let mut places = FIRST_BATCH..bytes.len() - 8;
    let at = places.find(|at| bytes[*at..*at + 8] == chain).unwrap();
    disk.overwrite("wal/seg-1-1.wal", at, &[0xa5; 40]);
    whole(&disk, expected, "the membership");
    for file in ["hs.a", "hs.b"] {
        disk.overwrite(file, 3 * 4096, &[0; 4 * 8192]);
    }
    whole(&disk, expected, "it is kept apart");
}

/// However often a node starts, the membership in force is in the ring: not even an older one of the log
/// that the ring has no place for takes its place.
#[test]
fn starts_leave_the_newest_membership_in_the_ring() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1]).sync();
    for learner in 4..9 {
        script.membership(learner).sync();
    }
    // The last one is gone again, and with it the place of the first.
    let last = script.now().last().index.0;
    script.rewrite(last, &[2]).sync().append(&[3]).sync();
    let (disk, expected) = (after(&script), script.now());
    let memberships = expected.log.iter().rev().filter(|(_, payload)| is_membership(payload));
    let newest: Vec<_> = memberships.take(2).map(|(id, _)| id.chain.0.to_le_bytes()).collect();
    for start in 0..6 {
        for chain in &newest {
            let hurt = disk.fork();
            for file in hurt.files().into_iter().filter(|file| file.starts_with("wal/")) {
                let bytes = hurt.bytes(&file).unwrap();
                for at in (FIRST_BATCH..bytes.len() - 8).filter(|at| bytes[*at..*at + 8] == *chain)
                {
                    hurt.overwrite(&file, at, &[0xa5; 40]);
                }
            }
            whole(&hurt, expected, &format!("after {start} starts"));
        }
        whole(&disk, expected, "nothing is damaged");
    }
}

/// What is in the ring is durable before the log has the entry, so it outlives a power cut and a
/// bad sector together, even in the last batch.
#[test]
fn the_ring_is_durable_before_the_log() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10]).sync().membership(4).sync();
    let disk = after_rest(&script);
    disk.crash(|| Fate::Old);
    let batch = FIRST_BATCH + 4096;
    disk.overwrite("wal/seg-1-1.wal", batch + 64, &[0xa5]);
    whole(&disk, script.now(), "the membership");
}

/// Many changes may come in one batch. Until it is durable the membership before them is in force, and
/// must be there twice, whatever became of its place in the log.
#[test]
fn changes_that_were_lost_leave_the_membership_before_them() {
    for call in 1.. {
        let mut script = Script::founding();
        script.term(1, None).append(&[10]).sync().membership(4).append(&[20]).sync();
        let mut disk = MemoryDisk::default();
        Storage::format(&mut disk, identity()).unwrap();
        let mut storage = open(&disk).unwrap().0;
        script.run(&mut storage).unwrap();
        storage.rest().unwrap();
        let mut later = Script::new(script.now().clone());
        later.membership(5).membership(6).membership(7).membership(8).membership(9).sync();
        // The header and the payload of the membership in force.
        disk.overwrite("wal/seg-1-1.wal", FIRST_BATCH + 4096 + 64, &[0xa5; 60]);
        disk.crash_at(call);
        if later.run(&mut storage).is_ok() {
            assert!(call > 6, "{call}");
            break;
        }
        drop(storage);
        disk.crash(|| Fate::Old);
        let (mut storage, found) = open(&disk).unwrap();
        let log = Durable::found(&mut storage, &found).log;
        let is_all = log == script.now().log || log == later.now().log;
        assert!(is_all, "{call}: {}", found.report);
    }
}
