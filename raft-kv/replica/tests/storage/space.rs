//! The disk is full: nothing that was acknowledged is at risk, and the same work is handed in again
//! once there is space.

use raft_core::{EntryId, Index, Term};
use raft_replica::storage::{Storage, StorageError};

use crate::crash::{Rng, fates, formatted, open, reopen};
use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, Step, entries};

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
    match step.clone() {
        Step::Write(work) => storage.write(work).map(drop),
        Step::Sync => storage.sync().map(drop),
    }
}

/// For each amount of space: wherever it ends, a crash there costs nothing that was confirmed, and
/// with more space the script goes on as if nothing had been.
#[test]
fn work_waits_for_space_and_nothing_is_lost() {
    let script = everything();
    let (mut full, mut crashes) = (0, 0);
    let mut rng = Rng(5);
    let start: u64 = {
        let disk = formatted();
        drop(open(&disk).unwrap());
        disk.files().iter().map(|file| disk.bytes(file).unwrap().len() as u64).sum()
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

/// A start on a full disk says so, changes nothing that counts, and works when there is space.
#[test]
fn a_start_without_space_says_so() {
    let script = everything();
    let disk = formatted();
    script.run(&mut open(&disk).unwrap().0).unwrap();
    disk.limit_space(0);
    for _ in 0..3 {
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("no space"), "{error}");
    }
    disk.limit_space(u64::MAX);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
}
