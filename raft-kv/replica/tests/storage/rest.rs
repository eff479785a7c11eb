//! What a disk at rest has been told: all of its log was acknowledged, and none of it may go unmissed.

use raft_core::Index;
use raft_replica::storage::{Storage, StorageOptions};

use crate::memory_disk::MemoryDisk;
use crate::model::{Script, identity};
use crate::verdict::{FIRST_BATCH, Opened, ROOMY};

const FILE: &str = "wal/seg-1-1.wal";

fn open(disk: &MemoryDisk, options: StorageOptions) -> Opened {
    Storage::open(disk.clone(), options, Some(identity())).unwrap()
}

fn formatted() -> MemoryDisk {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    disk
}

/// One batch after another in one segment, under one term: the hard state was last written with the
/// first of them.
fn calm(batches: u64) -> Script {
    let mut script = Script::founding();
    script.term(1, Some(1));
    for _ in 0..batches {
        script.append(&[10, 20]).sync();
    }
    script
}

/// Every end of the log goes with its slots, as where writes were lost or a file came back from an
/// older image.
#[test]
fn an_end_that_is_gone_with_its_slots_is_missed() {
    let batches = 6;
    for left in 1..batches {
        for rests in [false, true] {
            let disk = formatted();
            let mut storage = open(&disk, ROOMY).0;
            calm(batches).run(&mut storage).unwrap();
            if rests {
                storage.rest().unwrap();
            }
            drop(storage);
            let bytes = disk.bytes(FILE).unwrap().len();
            let slots = 8192 + 2 * 64 * usize::try_from(left).unwrap();
            let data = FIRST_BATCH + 4096 * usize::try_from(left).unwrap();
            disk.overwrite(FILE, slots, &vec![0; FIRST_BATCH - 4096 - slots]);
            disk.overwrite(FILE, data, &vec![0; bytes - data]);
            let (_, found) = open(&disk, ROOMY);
            assert_eq!(found.slots.len() as u64, 2 * left, "{}", found.report);
            assert_eq!(found.hard_state.is_tail_unknown, rests, "{}", found.report);
        }
    }
}

/// The segment that a truncation began is gone, before anything was written to it: the old end is back.
#[test]
fn a_truncation_that_is_gone_is_missed() {
    let mut script = calm(3);
    script.persist(|batch| batch.truncate_from = Some(Index(4))).sync();
    for rests in [false, true] {
        let disk = formatted();
        let mut storage = open(&disk, ROOMY).0;
        script.run(&mut storage).unwrap();
        if rests {
            storage.rest().unwrap();
        }
        drop(storage);
        disk.lose("wal/seg-4-2.wal");
        let (_, found) = open(&disk, ROOMY);
        assert_eq!(found.slots.len(), 6, "{}", found.report);
        assert_eq!(found.hard_state.is_tail_unknown, rests, "{}", found.report);
    }
}

/// What is told once is not told again, and a start tells it as well.
#[test]
fn to_rest_again_costs_nothing() {
    let disk = formatted();
    let mut storage = open(&disk, ROOMY).0;
    calm(3).run(&mut storage).unwrap();
    let cost = |storage: &mut Storage<MemoryDisk>| {
        let (calls, syncs) = (disk.calls(), disk.syncs());
        storage.rest().unwrap();
        (disk.calls() - calls, disk.syncs() - syncs)
    };
    // The slots; the hard state twice.
    assert_eq!(cost(&mut storage), (6, 3));
    assert_eq!(cost(&mut storage), (0, 0));
    let mut storage = open(&disk, ROOMY).0;
    assert_eq!(cost(&mut storage), (0, 0));
}
