//! A sector is lost while the node runs; the node goes on, and then the power fails in a write.
//!
//! The power cut may take from an entry the name that the bad sector has left it, because slots
//! share their sectors. What was confirmed is then found, or is called damaged, or the log ends
//! before it and the node knows that it may have been longer. It never ends there without a word.

use raft_replica::storage::{Storage, StorageError};

use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, identity};
use crate::verdict::{Opened, ROOMY};

const SECTOR: usize = 512;
const FILE: &str = "wal/seg-1-1.wal";

fn open(disk: &MemoryDisk) -> Result<Opened, StorageError> {
    Storage::open(disk.clone(), ROOMY, Some(identity()))
}

/// Batches of one sector and of several, with and without payloads.
fn first() -> Script {
    let mut script = Script::founding();
    script.term(1, None).append(&[10]).sync().append(&[0]).sync();
    script.append(&[600]).sync().append(&[40, 0, 30]).sync();
    script
}

/// What the node does after a sector was lost.
fn later(start: &Durable) -> Script {
    let mut script = Script::new(start.clone());
    script.append(&[0]).sync().append(&[50]).sync().append(&[7, 8]).sync();
    script
}

/// The sectors of the log that hold anything after the first part.
fn sectors() -> Vec<usize> {
    let disk = run(&first(), |_| ()).0;
    let bytes = disk.bytes(FILE).unwrap();
    let has_bytes = |at: &usize| bytes[*at..*at + SECTOR].iter().any(|byte| *byte != 0);
    (0..bytes.len()).step_by(SECTOR).filter(has_bytes).collect()
}

/// A disk after the first part, a rest, `hurt`, and so much of what comes later as the disk allows;
/// and the number of the step that was not completed.
fn run(script: &Script, hurt: impl Fn(&MemoryDisk)) -> (MemoryDisk, Option<usize>) {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut storage = open(&disk).unwrap().0;
    first().run(&mut storage).unwrap();
    storage.rest().unwrap();
    hurt(&disk);
    let left = script.run(&mut storage).err().map(|(number, _)| number);
    (disk, left)
}

/// The fates of the unsynced sectors, as the digits of a number.
fn fates(mut number: usize) -> impl FnMut() -> Fate {
    move || {
        let fate = [Fate::Old, Fate::New, Fate::Garbage][number % 3];
        number /= 3;
        fate
    }
}

/// Whether the end of the log is unknown; panics if something confirmed is missing without a word.
fn is_unknown(disk: &MemoryDisk, certain: &Durable, whole: &Durable, context: &str) -> bool {
    let (mut storage, found) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let is_unknown = found.hard_state.is_tail_unknown;
    let durable = Durable::found(&mut storage, &found);
    let is_there = durable.log.len() >= certain.log.len();
    assert!(is_there || is_unknown, "{context}, without a word:\n{}", found.report);
    for ((id, payload), (other, wanted)) in durable.log.iter().zip(&whole.log) {
        assert_eq!(id, other, "{context}");
        assert!(payload.is_none() || payload == wanted, "{context}: {id}");
    }
    is_unknown
}

#[test]
fn no_power_cut_after_a_bad_sector_takes_anything_without_a_word() {
    let later = later(first().now());
    let (mut all, mut unknown) = (0, 0);
    for sector in sectors() {
        for (what, byte) in [("zeroed", 0), ("spoilt", 0xa5)] {
            for call in 1.. {
                let hurt = |disk: &MemoryDisk| {
                    disk.overwrite(FILE, sector, &[byte; SECTOR]);
                    disk.crash_at(call);
                };
                let (disk, left) = run(&later, hurt);
                let Some(step) = left else { break };
                for number in 0..27 {
                    let disk = disk.fork();
                    disk.crash(fates(number));
                    let context = format!("{sector} {what}, call {call}, fates {number}");
                    let certain = &later.allowed(step)[0];
                    unknown += u64::from(is_unknown(&disk, certain, later.now(), &context));
                    all += 1;
                }
            }
        }
    }
    println!("a bad sector, then a power cut: {all} states, {unknown} unknown tails");
    assert!(all > 1000 && 0 < unknown && unknown < all / 4, "{unknown} of {all}");
}
