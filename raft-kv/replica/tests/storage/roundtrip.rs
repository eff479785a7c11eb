//! Storage on a disk that does not fail: what was written is found again, and what that costs.

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, entries, identity, meta};
use bytes::Bytes;
use raft_core::{ChunkRequest, Entries, EntryId, Index, PersistBatch, PersistSeq, Session, Term};
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Storage, StorageError, StorageOptions};

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
    script.commit(4).append(&[1; 50]).commit(5).append(&[1; 50]).sync();
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

/// A disk with a founded node, open, and the script that founded it.
fn founded() -> (MemoryDisk, Storage<MemoryDisk>, Script) {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let (mut storage, _) = Storage::open(disk.clone(), StorageOptions::small(), None).unwrap();
    let mut script = Script::founding();
    script.term(1, None).append(&[1]).sync();
    script.run(&mut storage).unwrap();
    let start = Script::new(script.now().clone());
    (disk, storage, start)
}

/// Disk calls and, of those, syncs that a script takes.
fn cost(fill: impl FnOnce(&mut Script) -> &mut Script) -> (u64, u64) {
    let (disk, mut storage, mut script) = founded();
    fill(&mut script);
    let before = (disk.calls(), disk.syncs());
    script.run(&mut storage).unwrap();
    (disk.calls() - before.0, disk.syncs() - before.1)
}

#[test]
fn batches_share_a_sync_and_hard_states_pay_for_themselves() {
    assert_eq!(cost(|script| script.sync()), (0, 0), "nothing to do");
    let one = cost(|script| script.append(&[9]).sync());
    assert_eq!(one, (3, 1), "one batch: its entries, its slots, a sync");
    let three = cost(|script| script.append(&[9; 5]).append(&[9]).append(&[9]).sync());
    assert_eq!(three, (3, 1), "three batches cost what one does");
    let vote = cost(|script| script.term(2, Some(1)).sync());
    assert_eq!(vote, (4, 2), "a vote: two files");
    let both = cost(|script| script.append(&[9]).term(2, None).sync());
    assert_eq!(both, (7, 3), "a vote after a batch: the batch is durable first");
    let rewrite = cost(|script| script.rewrite(1, &[9]).sync());
    assert_eq!(rewrite, (10, 3), "a truncation, and a batch: a new segment");
    let vouched = cost(|script| script.term(2, None).rewrite(1, &[9]).sync());
    assert_eq!(vouched, (4 + 4 + 10, 2 + 2 + 3), "the hard state stops vouching first");
}

/// The hard state that was read, one file after the other; the manifest and its name; the segment of
/// a new epoch, its name, and the names that went; the next hard state.
#[test]
fn a_start_costs_a_few_syncs() {
    let (disk, storage, _) = founded();
    drop(storage);
    for _ in 0..3 {
        let before = disk.syncs();
        drop(Storage::open(disk.clone(), StorageOptions::small(), None).unwrap());
        assert_eq!(disk.syncs() - before, 2 + 2 + 3 + 2);
    }
}

#[test]
fn chunks_are_read_and_staged_as_they_are_asked_for() {
    let (_, mut storage, mut script) = founded();
    let data: Vec<u8> = (0..10_000u32).map(|number| number.to_le_bytes()[0]).collect();
    script.snapshot(1, &data).sync();
    script.run(&mut storage).unwrap();
    let snapshot = script.now().snapshot.unwrap();
    let mut read = Vec::new();
    loop {
        let offset = read.len() as u64;
        let (to, session) = (identity().member, Session(1));
        let request = ChunkRequest { to, session, snapshot, offset, bytes_max: 3000 };
        let done = storage.write(Work::ReadChunk(request)).unwrap();
        let Some(Done::ChunkRead { chunk: Some(chunk), .. }) = done else { panic!("{done:?}") };
        read.extend_from_slice(&chunk.data);
        if chunk.done {
            break;
        }
    }
    assert_eq!(read, data);
    let gone = EntryId { index: Index(7), ..snapshot };
    let load = Work::LoadSnapshot { snapshot: meta(gone) };
    let done = storage.write(load).unwrap();
    assert_eq!(done, Some(Done::SnapshotLoaded { snapshot: meta(gone), data: None }));

    let mut stage = |offset, length, done| {
        let data = Bytes::from(vec![1; length]);
        let work = Work::StageChunk { snapshot: meta(gone), offset, data, done };
        let Some(Done::ChunkStaged { staged, .. }) = storage.write(work).unwrap() else { panic!() };
        staged
    };
    assert_eq!(stage(500, 10, false), 0, "nothing has been staged before it");
    assert_eq!(stage(0, 500, false), 500);
    assert_eq!(stage(600, 10, false), 500, "a gap is not filled");
    assert_eq!(stage(500, 10, false), 510);
    assert_eq!(stage(500, 10, false), 510, "a part that comes twice is kept once");
    assert_eq!(stage(0, 20, false), 20, "offset 0 starts again");
}

#[test]
fn work_out_of_order_is_refused_and_nothing_after_it_accepted() {
    let misplaced = |batch: &mut PersistBatch| {
        let before = EntryId { index: Index(5), ..EntryId::default() };
        batch.append = entries(before, Term(1), &[1]);
    };
    let unstaged = |batch: &mut PersistBatch| {
        batch.install = Some(meta(EntryId { index: Index(9), ..EntryId::default() }));
    };
    let committed = |batch: &mut PersistBatch| batch.truncate_from = Some(Index(1));
    type Fill = dyn Fn(&mut PersistBatch);
    let fills: [&Fill; 3] = [&misplaced, &unstaged, &committed];
    for (number, fill) in fills.into_iter().enumerate() {
        let (_, mut storage, mut script) = founded();
        script.commit(1).term(3, None).commit(2).append(&[1]).sync();
        script.run(&mut storage).unwrap();
        let seq = PersistSeq::default();
        let (hard_state, install, truncate_from, compact_to) = (None, None, None, None);
        let append = Entries::empty();
        let mut batch =
            PersistBatch { seq, hard_state, install, truncate_from, append, compact_to };
        fill(&mut batch);
        let error = storage.write(Work::Persist { batch, commit: Index(1) }).unwrap_err();
        let refused = if number == 1 {
            matches!(error, StorageError::NotStaged { .. })
        } else {
            matches!(error, StorageError::OutOfOrder { .. })
        };
        assert!(refused, "{number}: {error}");
        assert_eq!(storage.sync(), Err(StorageError::Poisoned));
    }
}
