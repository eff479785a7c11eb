//! The disk is full: nothing that was acknowledged is at risk, and the same work is handed in again
//! once there is space.

use bytes::Bytes;
use raft_core::{ChunkId, EntryId, Index, Member, Term};
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Identity, Storage, StorageError};

use crate::crash::{Rng, fates, formatted, open, reopen};
use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, Step, entries, identity, meta};
use crate::verdict::{SIZES, contents};

fn everything() -> Script {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 6]).sync().append(&[2; 6]).sync().commit(9);
    script.term(2, None).rewrite(11, &[900, 2]).membership(4).sync().snapshot(5, &[1; 900]);
    script.append(&[3; 5]).sync().snapshot(9, &[2; 90]).append(&[9000]).sync();
    let before = EntryId { index: Index(39), ..EntryId::default() };
    let last = entries(before, Term(2), &[1])[0].id();
    script.receive(last, &[6; 1500], 400).append(&[2; 2]).sync();
    script
}

fn take(storage: &mut Storage<MemoryDisk>, step: &Step) -> Result<(), StorageError> {
    let work = match step.clone() {
        Step::Write(work) => work,
        Step::Sync | Step::Rest | Step::Scrub => return step.clone().take(storage).map(drop),
    };
    let mut end = 0;
    if let Work::StageChunk { offset, data, .. } = &work {
        end = offset + data.len() as u64;
    }
    let done = storage.write(work)?;
    if let Some(Done::ChunkStaged { staged, .. }) = done
        && staged != end
    {
        assert_eq!(staged, 0, "of a snapshot that is received, nothing is kept without space");
        return Err(StorageError::NoSpace { file: "snap/stage.data".to_owned() });
    }
    Ok(())
}

/// For each amount of space: wherever it ends, a crash there costs nothing that was confirmed, and
/// with more space the script goes on as if nothing had been.
#[test]
fn work_waits_for_space_and_nothing_is_lost() {
    let script = everything();
    let (mut full, mut crashes) = (0, 0);
    let mut rng = Rng(5);
    let start = {
        let disk = formatted();
        drop(open(&disk).unwrap());
        used(&disk)
    };
    for space in (start..start + 80_000).step_by(700) {
        let disk = formatted();
        let mut storage = open(&disk).unwrap().0;
        let mut space = space;
        disk.limit_space(space);
        for (number, step) in script.steps.iter().enumerate() {
            let mut attempts = 0;
            while let Err(error) = take(&mut storage, step) {
                let context = format!("{space} bytes, step {number}");
                let is_full = matches!(&error, StorageError::NoSpace { file } if !file.is_empty());
                assert!(is_full, "{context}: {error}");
                full += 1;
                attempts += 1;
                assert!(attempts < 200, "{context}: it fits at last");
                let crashed = disk.fork();
                crashed.crash(fates(full % 7, &mut rng));
                reopen(&crashed, script.allowed(number), script.now(), &context);
                crashes += 1;
                // A part of a received snapshot that had no space takes its beginning with it.
                let again = script.restart_of_receive(number);
                space += 2000;
                disk.limit_space(space);
                for step in again {
                    while take(&mut storage, &script.steps[step]).is_err() {
                        space += 2000;
                        disk.limit_space(space);
                    }
                }
            }
        }
        drop(storage);
        disk.limit_space(u64::MAX);
        let (mut storage, found) = open(&disk).unwrap();
        assert_eq!(Durable::found(&mut storage, &found), *script.now(), "{space} bytes");
    }
    println!("the disk was full {full} times, and crashed {crashes} times while it was");
    assert!(full > 200, "only {full} times");
}

/// A start that does not fit says so, and works when there is space. Before it knows that it fits it changes
/// nothing: not one byte, however much is missing.
#[test]
fn a_start_without_space_says_so_and_changes_nothing() {
    let script = everything();
    let disk = formatted();
    script.run(&mut open(&disk).unwrap().0).unwrap();
    let contents = |disk: &MemoryDisk| {
        let named = |file: String| (disk.bytes(&file).unwrap(), file);
        disk.files().into_iter().map(named).collect::<Vec<_>>()
    };
    let (before, start) = (contents(&disk), used(&disk));
    let mut refused = 0;
    for space in (0..).map(|more| start + more * 512) {
        let less = disk.fork();
        less.limit_space(space);
        let Err(error) = open(&less) else { break };
        assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("no space"), "{error}");
        assert!(contents(&less) == before, "{space} bytes: something was modified");
        refused += 1;
        less.limit_space(u64::MAX);
        let (mut storage, found) = open(&less).unwrap();
        assert_eq!(Durable::found(&mut storage, &found), *script.now());
    }
    assert!(refused > 16, "only {refused} times");
}

/// What an earlier process was making holds nothing: it does not keep a start from its room.
#[test]
fn a_start_takes_the_room_of_what_was_never_finished() {
    let disk = formatted();
    let mut storage = open(&disk).unwrap().0;
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 6]).sync();
    script.run(&mut storage).unwrap();
    let last = script.now().last();
    storage.begin_snapshot(&meta(last), &vec![7; 90_000].into()).unwrap();
    assert_eq!(storage.save_part(40_000).unwrap(), None);
    drop(storage);
    disk.limit_space(used(&disk));
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
}

/// Where there is no space for a directory, none is begun: the same may be tried again.
/// A new lineage takes the old one's promises away, so whether there is room is asked before.
#[test]
fn a_new_lineage_without_space_changes_nothing() {
    let (disk, storage, _) = full();
    drop(storage);
    disk.lose("hs.a");
    disk.limit_space(used(&disk));
    let again = Identity { member: Member::new(1, 900), ..identity() };
    let before = contents(&disk);
    let refused = Storage::readmit(disk.clone(), SIZES, again).unwrap_err();
    assert!(matches!(refused, StorageError::NoSpace { .. }), "{refused}");
    assert!(contents(&disk) == before);
    disk.limit_space(u64::MAX);
    Storage::readmit(disk, SIZES, again).unwrap();
}

#[test]
fn a_format_without_space_makes_nothing() {
    let mut disk = MemoryDisk::default();
    disk.limit_space(40_000);
    let error = Storage::format(&mut disk, identity()).unwrap_err();
    assert!(matches!(&error, StorageError::NoSpace { file } if file == "IDENTITY"), "{error}");
    disk.limit_space(u64::MAX);
    Storage::format(&mut disk, identity()).unwrap();
    open(&disk).unwrap();
}

/// The identity is gone, and there is no room for another file: the scrub waits, and nothing else does.
#[test]
fn a_scrub_that_misses_the_identity_on_a_full_disk_does_not_end_the_storage() {
    let disk = formatted();
    let mut storage = open(&disk).unwrap().0;
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 6]).sync();
    script.run(&mut storage).unwrap();
    disk.lose("IDENTITY");
    disk.limit_space(used(&disk));
    let full = storage.scrub(1 << 20).unwrap_err();
    assert!(matches!(full, StorageError::NoSpace { .. }), "{full}");
    let from = script.steps.len();
    script.append(&[2]).term(2, None).sync();
    for step in &script.steps[from..] {
        take(&mut storage, step).unwrap();
    }
    disk.limit_space(u64::MAX);
    assert_eq!(storage.scrub(1 << 20).unwrap().repaired, 2);
    drop(storage);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
}

/// How many bytes all files have.
fn used(disk: &MemoryDisk) -> u64 {
    disk.files().iter().map(|file| disk.bytes(file).unwrap().len() as u64).sum()
}

/// A node whose log has five segments, all but the last of them covered by a snapshot, and as much space
/// as it uses.
fn full() -> (MemoryDisk, Storage<MemoryDisk>, Script) {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 40]).sync();
    script.snapshot(39, &[7; 10]);
    // The batch that lets the log go comes later.
    script.steps.pop();
    let disk = formatted();
    let mut storage = open(&disk).unwrap().0;
    for step in &script.steps {
        take(&mut storage, step).unwrap();
    }
    disk.limit_space(used(&disk));
    (disk, storage, script)
}

/// A batch that needs a segment, and one that lets the log go, under one sync.
#[test]
fn what_the_log_lets_go_makes_room_for_what_is_added() {
    let (disk, mut storage, mut script) = full();
    let from = script.steps.len();
    script.append(&[5; 9]);
    script.persist(|batch| batch.compact_to = Some(Index(39)));
    for step in &script.steps[from..] {
        take(&mut storage, step).unwrap();
    }
    storage.sync().expect("there is room once the log before the snapshot has gone");
    drop(storage);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
}

/// One batch that replaces a suffix and lets the log go.
#[test]
fn what_a_batch_lets_go_makes_room_for_its_own_fence() {
    let (_, mut storage, mut script) = full();
    let from = script.steps.len();
    script.rewrite(40, &[3]);
    let Some(Step::Write(Work::Persist { batch, .. })) = script.steps.last_mut() else {
        panic!("a rewrite is a batch");
    };
    batch.compact_to = Some(Index(39));
    for step in &script.steps[from..] {
        take(&mut storage, step).expect("there is room");
    }
}

/// A snapshot that is being received has taken the room that the log needs.
#[test]
fn what_is_received_in_part_gives_way_to_what_was_accepted() {
    for is_whole in [false, true] {
        let (disk, mut storage, mut script) = full();
        // More than two segments, in two parts.
        let last = EntryId { index: Index(90), term: Term(1), ..EntryId::default() };
        let (first, second) = (Bytes::from(vec![1; 50_000]), Bytes::from(vec![2; 100]));
        let stage = |storage: &mut Storage<MemoryDisk>, offset, data: &Bytes, done| {
            let (id, snapshot, data) = (ChunkId::default(), meta(last), data.clone());
            storage.write(Work::StageChunk { id, snapshot, offset, data, done }).unwrap()
        };
        let staged = |bytes| Some(Done::ChunkStaged { id: ChunkId::default(), staged: bytes });
        disk.limit_space(used(&disk) + 50_100);
        assert_eq!(stage(&mut storage, 0, &first, false), staged(50_000));
        if is_whole {
            assert_eq!(stage(&mut storage, 50_000, &second, true), staged(50_100));
        }
        disk.limit_space(used(&disk));
        script.append(&[5; 9]);
        take(&mut storage, script.steps.last().unwrap()).unwrap();
        let outcome = storage.sync();
        let is_there = disk.files().iter().any(|name| name == "snap/stage.data");
        assert_eq!(is_there, is_whole, "what is whole is about to be installed");
        if is_whole {
            assert!(matches!(outcome, Err(StorageError::NoSpace { .. })), "{outcome:?}");
            continue;
        }
        assert!(outcome.expect("there is room").is_some());
        // Its sender is told to begin again, and can.
        disk.limit_space(u64::MAX);
        assert_eq!(stage(&mut storage, 50_000, &second, true), staged(0));
        assert_eq!(stage(&mut storage, 0, &first, false), staged(50_000));
        assert_eq!(stage(&mut storage, 50_000, &second, true), staged(50_100));
    }
}

/// The manifests of a snapshot wait for space, and another one begins to come.
#[test]
fn what_is_received_goes_on_when_another_one_is_installed() {
    let (disk, mut storage, mut script) = full();
    let before = EntryId { index: Index(89), ..EntryId::default() };
    let last = entries(before, Term(1), &[1])[0].id();
    disk.limit_space(u64::MAX);
    let from = script.steps.len();
    script.receive(last, &[6; 1500], 1500);
    let [received, installed] = &script.steps[from..] else { panic!("it comes in one part") };
    take(&mut storage, received).unwrap();
    disk.limit_space(used(&disk));
    assert!(matches!(take(&mut storage, installed), Err(StorageError::NoSpace { .. })));

    disk.limit_space(u64::MAX);
    let next = meta(EntryId { index: Index(99), ..last });
    let stage = |storage: &mut Storage<MemoryDisk>, offset| {
        let (id, snapshot, data) = (ChunkId::default(), next.clone(), Bytes::from(vec![7; 100]));
        let done = storage.write(Work::StageChunk { id, snapshot, offset, data, done: false });
        let Ok(Some(Done::ChunkStaged { staged, .. })) = done else { panic!("{done:?}") };
        staged
    };
    assert_eq!(stage(&mut storage, 0), 100);
    take(&mut storage, installed).expect("there is room");
    assert_eq!(stage(&mut storage, 100), 200, "it is still there");
    assert_eq!(stage(&mut storage, 0), 100, "and may begin again");
    drop(storage);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
}

/// The batch that lets the log go stands behind one that needs its room.
#[test]
fn what_a_later_batch_lets_go_makes_room_for_an_earlier_one() {
    let (_, mut storage, mut script) = full();
    script.append(&[5; 9]);
    take(&mut storage, script.steps.last().unwrap()).unwrap();
    assert!(matches!(storage.sync(), Err(StorageError::NoSpace { .. })), "nothing may go yet");
    storage.may_compact(Index(39));
    assert!(storage.sync().unwrap().is_some());
}
