//! A segment that loses all its slots while it runs: the headers lead from one entry to the next.

use raft_replica::storage::{Storage, StorageOptions};

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, identity};
use crate::verdict::SIZES;

const ENTRIES: usize = 500;
const LARGE: StorageOptions =
    StorageOptions { segment_slots: 512, segment_bytes: 256 << 10, guard_bytes: 0, ..SIZES };

#[test]
fn to_find_the_next_entry_takes_no_longer_than_to_find_the_first() {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let open = |disk: &MemoryDisk| Storage::open(disk.clone(), LARGE, Some(identity())).unwrap();
    let mut script = Script::founding();
    script.term(1, None);
    (0..ENTRIES / 10).for_each(|_| {
        script.append(&[20; 10]).sync();
    });
    let mut storage = open(&disk).0;
    script.run(&mut storage).unwrap();
    storage.rest().unwrap();
    disk.overwrite("wal/seg-1-1.wal", 8192, &vec![0; 64 * ENTRIES]);
    let before = disk.calls();
    let mut repaired = 0;
    loop {
        let step = storage.scrub(1 << 20).unwrap();
        assert_eq!(step.damaged, [], "every header leads on");
        repaired += step.repaired;
        if step.is_round_over {
            break;
        }
    }
    // Each is looked at once, and again by the seven that share its sector when it is written; each time a
    // few calls.
    let calls = disk.calls() - before;
    assert!(calls < 60 * ENTRIES as u64, "{calls} calls");
    println!("{calls} calls for {ENTRIES} entries");
    assert_eq!(repaired, ENTRIES as u64);
    drop(storage);
    let (mut storage, found) = open(&disk);
    assert!(found.report.is_clean(), "{}", found.report);
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
}
