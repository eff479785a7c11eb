//! What a crash tore long ago, and a snapshot covers by now.
//!
//! Files that a snapshot makes useless are removed without waiting for it, so a later crash may bring
//! back any of them without the others. What was torn in one of them is torn, and not damaged.

use raft_replica::storage::{Storage, StorageError};

use crate::crash::formatted;
use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, identity};
use crate::verdict::{Opened, ROOMY};

fn open(disk: &MemoryDisk) -> Result<Opened, StorageError> {
    Storage::open(disk.clone(), ROOMY, Some(identity()))
}

/// A disk on which the power failed in this call of an append, and what was appended.
fn torn(call: u64, number: usize) -> Option<(MemoryDisk, Script)> {
    let disk = formatted();
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20]).sync().append(&[30]).sync();
    let mut storage = open(&disk).unwrap().0;
    script.run(&mut storage).unwrap();
    let mut later = Script::new(script.now().clone());
    later.append(&[1100]).sync();
    disk.crash_at(call);
    later.run(&mut storage).err()?;
    let mut digits = number;
    disk.crash(|| {
        let fate = [Fate::Old, Fate::New, Fate::Garbage][digits % 3];
        digits /= 3;
        fate
    });
    Some((disk, later))
}

#[test]
fn what_comes_back_after_a_snapshot_was_installed_is_not_damaged() {
    let (mut all, mut came_back) = (0, 0);
    for (call, number) in (1..).flat_map(|call| (0..81).map(move |number| (call, number))) {
        let Some((disk, later)) = torn(call, number) else { break };
        let (mut storage, found) = open(&disk).unwrap();
        let mut script = Script::new(Durable::found(&mut storage, &found));
        script.receive(later.now().last(), &[7; 700], 300);
        script.run(&mut storage).unwrap();
        let unsynced = disk.unsynced();
        assert!(unsynced < 8, "{unsynced}");
        for kept in 0..1_usize << unsynced {
            let disk = disk.fork();
            let mut bits = kept;
            disk.crash(|| {
                let fate = if bits & 1 == 1 { Fate::New } else { Fate::Old };
                bits >>= 1;
                fate
            });
            let segments = disk.files().iter().filter(|path| path.ends_with(".wal")).count();
            let (mut storage, found) = open(&disk).unwrap();
            let context = format!("call {call}, fates {number}, kept {kept:b}:\n{}", found.report);
            assert_eq!(found.report.damaged().count(), 0, "{context}");
            assert!(!found.hard_state.is_tail_unknown, "{context}");
            let is_there = Durable::found(&mut storage, &found).is_like(script.now(), script.now());
            assert!(is_there, "{context}");
            all += 1;
            came_back += u64::from(segments > 1);
        }
    }
    println!("covered by a snapshot: {all} states, in {came_back} of them a file comes back");
    assert!(all > 500 && came_back > 100, "{came_back} of {all}");
}
