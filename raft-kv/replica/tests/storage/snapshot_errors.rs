//! What is damage of a snapshot, and what says nothing about its bytes.

use raft_core::Index;
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Storage, StorageError};

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, identity, meta};
use crate::verdict::open;

/// A node with two snapshots, whose log the newest one covers as far as it is not needed.
fn two_snapshots() -> (MemoryDisk, Script) {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 12]).sync().snapshot(4, &[6; 900]).snapshot(9, &[7; 2000]);
    script.append(&[2]).sync();
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    script.run(&mut open(&disk).unwrap().0).unwrap();
    (disk, script)
}

fn bytes(disk: &MemoryDisk) -> Vec<Option<Vec<u8>>> {
    ["snap/4-1.data", "snap/9-1.data"].map(|file| disk.bytes(file)).into()
}

/// Whichever call of a round of scrubbing fails, no snapshot goes by it.
#[test]
fn a_call_that_fails_damages_no_snapshot() {
    let mut failed = 0;
    for call in 1.. {
        let (disk, script) = two_snapshots();
        let mut storage = open(&disk).unwrap().0;
        let whole = bytes(&disk);
        disk.fail_at(call);
        let step = storage.scrub(1 << 20);
        drop(storage);
        assert!(bytes(&disk) == whole, "call {call}");
        if let Ok(step) = step {
            assert_eq!((step.repaired, step.snapshots), (0, Vec::new()));
            break;
        }
        failed += 1;
        let (mut storage, found) = open(&disk).unwrap();
        assert_eq!(Durable::found(&mut storage, &found), *script.now(), "call {call}");
    }
    assert!(failed > 30, "{failed} calls");
}

/// Nor by one that cannot be read at first, and can a moment later.
#[test]
fn what_can_be_read_the_second_time_is_no_damage() {
    for file in ["snap/4-1.data", "snap/9-1.data"] {
        let (disk, script) = two_snapshots();
        let mut storage = open(&disk).unwrap().0;
        let whole = bytes(&disk);
        disk.spoil_once(file, 512);
        let step = storage.scrub(1 << 20).unwrap();
        assert!(step.is_round_over);
        assert_eq!((step.repaired, step.snapshots), (0, Vec::new()), "{file}");
        assert!(bytes(&disk) == whole, "{file}");
        disk.spoil_once(file, 512);
        let snapshot = meta(script.now().snapshot.unwrap());
        let load = Work::LoadSnapshot { snapshot, offset: 0, bytes_max: usize::MAX };
        let done = storage.write(load).unwrap();
        assert!(matches!(done, Some(Done::SnapshotLoaded { chunk: Some(_), .. })), "{file}");
    }
}

/// A disk that fails while a snapshot is read has said nothing about it: the storage halts, as for the log.
#[test]
fn a_failed_read_is_not_an_answer() {
    let (disk, script) = two_snapshots();
    let mut storage = open(&disk).unwrap().0;
    let snapshot = meta(script.now().snapshot.unwrap());
    disk.fail_at(1);
    let load = Work::LoadSnapshot { snapshot, offset: 0, bytes_max: usize::MAX };
    let failed = storage.write(load);
    assert!(matches!(failed, Err(StorageError::Disk { .. })), "{failed:?}");
    assert_eq!(storage.scrub(1), Err(StorageError::Poisoned));
}

/// What a snapshot covers stays as long as its bytes are known to be damaged.
#[test]
fn a_damaged_snapshot_covers_nothing() {
    let (disk, script) = two_snapshots();
    let mut storage = open(&disk).unwrap().0;
    disk.overwrite("snap/9-1.data", 600, &[0xa5; 20]);
    let step = storage.scrub(1 << 20).unwrap();
    assert_eq!(step.snapshots, [script.now().snapshot.unwrap()]);
    let mut more = Script::new(script.now().clone());
    more.append(&[1; 20]).sync();
    more.persist(|batch| batch.compact_to = Some(Index(9))).sync();
    more.run(&mut storage).unwrap();
    drop(storage);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(found.snapshot.as_ref().map(|meta| meta.last.index), Some(Index(4)));
    assert!(!found.is_snapshot_damaged && found.before.index <= Index(4), "{}", found.report);
    let log = Durable::found(&mut storage, &found).log;
    assert!(log.ends_with(&more.now().log));
}
