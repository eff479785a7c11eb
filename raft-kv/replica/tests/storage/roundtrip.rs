//! Storage on a disk that does not fail: what was written is found again.

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, entries, identity, meta};
use raft_core::{EntryId, Index, Term};
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Storage, StorageOptions};

#[test]
fn what_is_written_is_found() {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let (mut storage, found) =
        Storage::open(disk.clone(), StorageOptions::small(), Some(identity())).unwrap();
    assert_eq!(found.snapshot, None);
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[0, 10, 20]).sync();
    script.term(2, None).rewrite(3, &[7, 7, 7]).append(&[9000, 5]).sync();
    script.commit(4).append(&[1; 100]).sync();
    script.snapshot(60, &[9; 10_000]).append(&[3]).sync();
    script.run(&mut storage).unwrap();
    for _ in 0..3 {
        let (mut storage, found) =
            Storage::open(disk.clone(), StorageOptions::small(), Some(identity())).unwrap();
        assert_eq!(Durable::found(&found), *script.now());
        assert!(found.commit >= Index(4));
        let snapshot = found.snapshot.unwrap();
        let done = storage.write(Work::LoadSnapshot { snapshot: snapshot.clone() }).unwrap();
        let Some(Done::SnapshotLoaded { data: Some(data), .. }) = done else { panic!("{done:?}") };
        assert_eq!(data.len(), 10_000);
    }
    let elsewhere = entries(EntryId { index: Index(500), ..EntryId::default() }, Term(3), &[1]);
    let far = elsewhere[0].id();
    let mut script = Script::new(script.now().clone());
    script.receive(far, &[8; 9000], 1000).sync();
    let (mut storage, _) = Storage::open(disk.clone(), StorageOptions::small(), None).unwrap();
    script.term(3, None).append(&[5, 5]).sync();
    script.run(&mut storage).unwrap();
    let (_, found) = Storage::open(disk, StorageOptions::small(), None).unwrap();
    assert_eq!(Durable::found(&found), *script.now());
    assert_eq!(found.snapshot, Some(meta(far)));
}
