//! A snapshot that is saved in parts: batches go on meanwhile, and wherever it ends, either all of it
//! is there or nothing of it.

use bytes::Bytes;
use raft_core::EntryId;
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Storage, StorageError, StorageOptions};

use crate::crash::formatted;
use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, meta};

const SAVE: &str = "snap/save.data";

fn open(disk: &MemoryDisk) -> Storage<MemoryDisk> {
    Storage::open(disk.clone(), StorageOptions::small(), None).unwrap().0
}

/// A storage with a log, the entry that the snapshot covers, and its bytes.
fn begun() -> (MemoryDisk, Storage<MemoryDisk>, Script, EntryId, Bytes) {
    let disk = formatted();
    let mut storage = open(&disk);
    let mut script = Script::founding();
    script.term(1, None).append(&[10; 70]).sync();
    script.run(&mut storage).unwrap();
    let next = Script::new(script.now().clone());
    let last = next.now().last();
    let data = Bytes::from((0..10_000u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
    storage.begin_snapshot(&meta(last), &data).unwrap();
    (disk, storage, next, last, data)
}

fn loaded(storage: &mut Storage<MemoryDisk>, last: EntryId) -> Option<Bytes> {
    let load = Work::LoadSnapshot { snapshot: meta(last), offset: 0, bytes_max: usize::MAX };
    match storage.write(load).unwrap() {
        Some(Done::SnapshotLoaded { chunk, .. }) => chunk.map(|chunk| chunk.data),
        other => panic!("{other:?}"),
    }
}

#[test]
fn batches_go_on_between_the_parts() {
    let (disk, mut storage, mut script, last, data) = begun();
    let mut parts = 1;
    while storage.save_part(1000).unwrap().is_none() {
        parts += 1;
        assert_eq!(loaded(&mut storage, last), None, "it is not there before it is whole");
        let mut more = Script::new(script.now().clone());
        more.append(&[20; 3]).sync();
        more.run(&mut storage).unwrap();
        script = Script::new(more.now().clone());
    }
    assert_eq!(parts, 10);
    assert_eq!(storage.save_part(1000).unwrap(), None, "there is no other");
    assert_eq!(loaded(&mut storage, last), Some(data.clone()));
    drop(storage);
    let (mut storage, found) = Storage::open(disk.clone(), StorageOptions::small(), None).unwrap();
    assert_eq!(found.snapshot, Some(meta(last)));
    assert_eq!(Durable::found(&mut storage, &found).last(), script.now().last());
    assert_eq!(loaded(&mut storage, last), Some(data));
    assert!(!disk.files().contains(&SAVE.to_owned()));
}

#[test]
fn what_was_not_whole_at_the_end_is_gone_and_can_be_saved_again() {
    let (disk, mut storage, _, last, data) = begun();
    for _ in 0..5 {
        assert_eq!(storage.save_part(1000).unwrap(), None);
    }
    assert!(disk.files().contains(&SAVE.to_owned()));
    drop(storage);
    let mut storage = open(&disk);
    assert!(!disk.files().contains(&SAVE.to_owned()), "a start removes it");
    assert_eq!(loaded(&mut storage, last), None);

    // One that is given up leaves nothing in the way of the next one, whoever writes that.
    storage.begin_snapshot(&meta(last), &data).unwrap();
    assert_eq!(storage.save_part(1000).unwrap(), None);
    let whole = Work::SaveSnapshot { snapshot: meta(last), data: data.clone() };
    let done = storage.write(whole).unwrap();
    assert_eq!(done, Some(Done::SnapshotSaved { snapshot: meta(last) }));
    assert_eq!(loaded(&mut storage, last), Some(data));
    assert!(!disk.files().contains(&SAVE.to_owned()));
}

#[test]
fn without_space_it_begins_again() {
    let (disk, mut storage, _, last, data) = begun();
    assert_eq!(storage.save_part(1000).unwrap(), None);
    let used = disk.files().iter().map(|file| disk.bytes(file).unwrap().len() as u64).sum();
    disk.limit_space(used);
    for _ in 0..3 {
        let full = storage.save_part(1000).unwrap_err();
        assert!(matches!(full, StorageError::NoSpace { .. }), "{full}");
        disk.limit_space(0);
    }
    disk.limit_space(u64::MAX);
    let mut parts = 1;
    while storage.save_part(1000).unwrap().is_none() {
        parts += 1;
    }
    assert_eq!(parts, 10, "from its beginning");
    assert_eq!(loaded(&mut storage, last), Some(data));
}

/// A manifest that had no space is written by the next attempt. What the first one has kept for it must
/// not stand in for bytes that come later, when those of the attempt have rotted.
#[test]
fn bytes_that_come_again_are_not_ignored_for_an_earlier_attempt() {
    let mut failed = 0;
    for space in (0..14_000).step_by(48) {
        let (disk, mut storage, mut again, last, data) = begun();
        let used: u64 =
            disk.files().iter().map(|file| disk.bytes(file).unwrap().len() as u64).sum();
        disk.limit_space(used + space);
        let save = Work::SaveSnapshot { snapshot: meta(last), data: data.clone() };
        let first = storage.write(save.clone());
        disk.limit_space(u64::MAX);
        if matches!(first, Err(StorageError::NoSpace { .. })) {
            failed += 1;
            storage.write(save).unwrap();
        }
        let is_data = |file: &String| file.starts_with("snap/") && file.ends_with(".data");
        let files = disk.files();
        let named = files.iter().find(|file| is_data(file) && *file != SAVE).unwrap();
        disk.spoil(named, 3);
        assert_eq!(loaded(&mut storage, last), None, "{space} bytes: it has rotted");

        again.receive(last, &data, 4000);
        again.run(&mut storage).unwrap();
        assert!(loaded(&mut storage, last) == Some(data), "{space} bytes: it is whole again");
    }
    assert!(failed > 10, "only {failed} times");
}
