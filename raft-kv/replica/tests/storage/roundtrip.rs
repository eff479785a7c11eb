//! Storage on a disk that does not fail: what was written is found again, and what that costs.

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, entries, identity, meta};
use bytes::Bytes;
use raft_core::{
    ChunkId, ChunkPurpose, ChunkRequest, Entries, EntryId, Index, LoadPurpose, LoadRequest,
    Membership, Payload, PersistBatch, PersistSeq, RecoveredState, Session, Term,
};
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
        assert_eq!(Durable::found(&mut storage, &found), *script.now());
        assert!(found.commit >= Index(4));
        let snapshot = found.snapshot.unwrap();
        for (offset, bytes_max, length) in [(0, usize::MAX, 10_000), (4000, 5000, 5000)] {
            let snapshot = snapshot.clone();
            let load = Work::LoadSnapshot { snapshot, offset, bytes_max };
            let done = storage.write(load).unwrap();
            let Some(Done::SnapshotLoaded { chunk: Some(chunk), .. }) = done else {
                panic!("{done:?}")
            };
            assert_eq!((chunk.data.len(), chunk.done), (length, offset == 0));
        }
    }
    let elsewhere = entries(EntryId { index: Index(500), ..EntryId::default() }, Term(3), &[1]);
    let far = elsewhere[0].id();
    let mut script = Script::new(script.now().clone());
    script.receive(far, &[8; 9000], 1000).sync();
    let (mut storage, _) = Storage::open(disk.clone(), StorageOptions::small(), None).unwrap();
    script.term(3, None).append(&[5, 5]).sync();
    script.run(&mut storage).unwrap();
    let (mut storage, found) = Storage::open(disk, StorageOptions::small(), None).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
    assert_eq!(found.snapshot, Some(meta(far)));
}

/// Reads the whole log back in ranges of a few bytes, and what comes is what was written: across
/// segments, after a truncation, a membership and a restart.
#[test]
fn entries_are_loaded_as_they_were_written() {
    let (disk, mut storage, mut script) = founded();
    script.append(&[10; 70]).sync().term(2, None).rewrite(40, &[7, 9000, 5]).membership(9).sync();
    script.append(&[30; 70]).sync();
    script.run(&mut storage).unwrap();
    let log = &script.now().log;
    let through = log.last().unwrap().0.index;
    for _ in 0..2 {
        let mut loaded: Vec<(EntryId, Option<Payload>)> = vec![log[0].clone()];
        while loaded.last() != log.last() {
            let after = loaded.last().unwrap().0;
            let entries = load(&mut storage, after, through, 100).expect("the entries are there");
            let bytes: usize = entries.iter().map(|entry| entry.payload().len()).sum();
            assert!(entries.len() == 1 || bytes <= 100, "{} entries of {bytes}", entries.len());
            loaded.extend(entries.iter().map(|entry| (entry.id(), Some(entry.payload().clone()))));
        }
        assert_eq!(loaded, *log);
        let last = log.last().unwrap().0;
        assert_eq!(
            load(&mut storage, last, last.index.next(), 100),
            None,
            "nothing follows the end"
        );
        let other = EntryId { term: Term(9), ..log[5].0 };
        assert_eq!(load(&mut storage, other, through, 100), None, "another log");
        storage = Storage::open(disk.clone(), StorageOptions::small(), None).unwrap().0;
    }
}

/// An entry whose bytes have rotted is not there; those before it are.
#[test]
fn a_rotten_entry_is_not_loaded() {
    let (disk, mut storage, mut script) = founded();
    script.append(&[10, 20, 30]).sync();
    script.run(&mut storage).unwrap();
    let log = &script.now().log;
    let path = "wal/seg-1-1.wal";
    let bytes = disk.bytes(path).unwrap();
    let Some(Payload::Command(command)) = &log[2].1 else { panic!("a command") };
    let at = bytes.windows(command.len()).rposition(|found| found == &command[..]).unwrap();
    disk.overwrite(path, at + 4, &[!bytes[at + 4]]);
    let entries = load(&mut storage, log[0].0, log[3].0.index, 1 << 20).unwrap();
    assert_eq!(entries.last().map(|entry| entry.id()), Some(log[1].0));
    assert_eq!(load(&mut storage, log[1].0, log[3].0.index, 1 << 20), None);
}

/// A node that was given nothing writes that down; the group's genesis replaces it for good.
#[test]
fn a_genesis_replaces_the_blank_one() {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let genesis = |membership: &Membership| RecoveredState::genesis(membership.clone()).snapshot;
    let group = Membership::new(vec![identity().member], vec![]).unwrap();
    for (n, membership) in [(1, Membership::default()), (2, group)] {
        let (mut storage, _) = Storage::open(disk.clone(), StorageOptions::small(), None).unwrap();
        let snapshot = genesis(&membership);
        let batch = PersistBatch {
            seq: PersistSeq { incarnation: raft_core::Incarnation(1), n },
            hard_state: None,
            install: Some(snapshot.clone()),
            truncate_from: None,
            heal: Vec::new(),
            append: Entries::empty(),
            compact_to: None,
        };
        storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
        storage.sync().unwrap();
        for _ in 0..2 {
            let (_, found) = Storage::open(disk.clone(), StorageOptions::small(), None).unwrap();
            assert_eq!((found.snapshot, found.before), (Some(snapshot.clone()), snapshot.last));
        }
    }
}

fn load(
    storage: &mut Storage<MemoryDisk>,
    after: EntryId,
    through: Index,
    bytes_max: usize,
) -> Option<Entries> {
    let request = LoadRequest { purpose: LoadPurpose::Apply, after, through, bytes_max };
    match storage.write(Work::Load(request)).unwrap() {
        Some(Done::Loaded { request: asked, entries, .. }) if asked == request => entries,
        other => panic!("{other:?}"),
    }
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
    assert_eq!(one, (2, 1), "one batch: its entries, a sync");
    let two = cost(|script| script.append(&[9]).sync().append(&[9]).sync());
    assert_eq!(two, (2 + 3, 1 + 1), "another one, with the slots of the one before");
    let three = cost(|script| script.append(&[9; 5]).append(&[9]).append(&[9]).sync());
    assert_eq!(three, (2, 1), "three batches cost what one does");
    let vote = cost(|script| script.term(2, Some(1)).sync());
    assert_eq!(vote, (4, 2), "a vote: two files");
    let both = cost(|script| script.append(&[9]).term(2, None).sync());
    assert_eq!(
        both,
        (2 + 2 + 4, 1 + 1 + 2),
        "a vote after a batch: it and its slots are durable first"
    );
    let rewrite = cost(|script| script.rewrite(1, &[9]).sync());
    let vouches = (2 + 4, 1 + 2);
    assert_eq!(
        rewrite,
        (4 + 9 + vouches.0, 2 + 3 + vouches.1),
        "the hard state stops vouching, a new segment with a batch, the hard state vouches for it"
    );
}

/// The hard state that was read, in four places one after the other; two manifests and their names;
/// the segment of a new epoch, its name, and the names that went; the next hard state.
#[test]
fn a_start_costs_a_few_syncs() {
    let (disk, storage, _) = founded();
    drop(storage);
    for _ in 0..3 {
        let before = disk.syncs();
        drop(Storage::open(disk.clone(), StorageOptions::small(), None).unwrap());
        assert_eq!(disk.syncs() - before, 4 + 3 + 3 + 2);
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
        let purpose = ChunkPurpose::Lag { session };
        let request = ChunkRequest { to, purpose, snapshot, offset, bytes_max: 3000 };
        let done = storage.write(Work::ReadChunk(request)).unwrap();
        let Some(Done::ChunkRead { chunk: Some(chunk), .. }) = done else { panic!("{done:?}") };
        read.extend_from_slice(&chunk.data);
        if chunk.done {
            break;
        }
    }
    assert_eq!(read, data);
    let gone = EntryId { index: Index(7), ..snapshot };
    let load = Work::LoadSnapshot { snapshot: meta(gone), offset: 0, bytes_max: 1 };
    let done = storage.write(load).unwrap();
    let none = Done::SnapshotLoaded { snapshot: meta(gone), offset: 0, chunk: None };
    assert_eq!(done, Some(none));

    let mut stage = |offset, length, done| {
        let data = Bytes::from(vec![1; length]);
        let (id, snapshot) = (ChunkId::default(), meta(gone));
        let work = Work::StageChunk { id, snapshot, offset, data, done };
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
    let another = |batch: &mut PersistBatch| {
        batch.heal = vec![entries(EntryId::default(), Term(3), &[1])];
    };
    let beyond = |batch: &mut PersistBatch| {
        let before = EntryId { index: Index(70), ..EntryId::default() };
        batch.heal = vec![entries(before, Term(3), &[1])];
    };
    type Fill = dyn Fn(&mut PersistBatch);
    let fills: [&Fill; 5] = [&misplaced, &unstaged, &committed, &another, &beyond];
    for (number, fill) in fills.into_iter().enumerate() {
        let (_, mut storage, mut script) = founded();
        script.commit(1).term(3, None).commit(2).append(&[1]).sync();
        script.run(&mut storage).unwrap();
        let seq = PersistSeq::default();
        let (hard_state, install, truncate_from, compact_to) = (None, None, None, None);
        let append = Entries::empty();
        let mut batch = PersistBatch {
            seq,
            hard_state,
            install,
            truncate_from,
            heal: Vec::new(),
            append,
            compact_to,
        };
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
