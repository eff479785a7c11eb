//! The last entries but one are known by their healed copies alone: their pages are lost, and their slots.
//!
//! A start writes such slots again, and can only guess where the entries stood. If the power fails in that
//! start, the next one reads these slots. What comes behind the healed entries must then be found if it was
//! confirmed, and must not be taken for the trace of something later if it was torn.

use raft_core::Index;
use raft_replica::storage::{Storage, StorageError};

use crate::crash::{Rng, fates as pattern};
use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, identity};
use crate::verdict::{FIRST_BATCH, Opened, ROOMY, run};

const FILE: &str = "wal/seg-1-1.wal";
const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// The second sector of slots, from index 9 on.
const SLOTS: usize = 2 * PAGE + SECTOR;

fn open(disk: &MemoryDisk) -> Result<Opened, StorageError> {
    Storage::open(disk.clone(), ROOMY, Some(identity()))
}

/// Eight entries in a batch, then this many alone.
fn first(alone: usize) -> Script {
    let mut script = Script::founding();
    script.term(1, None).append(&[10; 8]).sync();
    for _ in 0..alone {
        script.append(&[40]).sync();
    }
    script
}

/// What has been written after the entries were healed: one entry more, of two sectors.
fn last(start: &Durable) -> Script {
    let mut script = Script::new(start.clone());
    script.append(&[600]).sync();
    script
}

/// So many entries are lost with their headers, healed, and then lose their slots; one entry follows, and is
/// confirmed, or the power fails while it is written.
fn written(alone: usize, fate_of_last: Option<[Fate; 2]>) -> (MemoryDisk, Durable) {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut storage = open(&disk).unwrap().0;
    let first = first(alone);
    first.run(&mut storage).unwrap();
    storage.rest().unwrap();
    let log = &first.now().log;
    let mut heal = Script::new(first.now().clone());
    let runs =
        log.windows(2).skip(7).map(|pair| run(pair[0].0, pair[1].0, pair[1].1.clone().unwrap()));
    heal.heal(&runs.collect::<Vec<_>>()).sync();
    for batch in 1..=alone {
        disk.overwrite(FILE, FIRST_BATCH + batch * PAGE, &[0xa5; SECTOR]);
    }
    heal.run(&mut storage).unwrap();
    disk.overwrite(FILE, SLOTS, &[0; SECTOR]);
    let last = last(first.now());
    let Some(fates) = fate_of_last else {
        last.run(&mut storage).unwrap();
        return (disk, last.now().clone());
    };
    disk.crash_at(2);
    last.run(&mut storage).unwrap_err();
    assert_eq!(disk.unsynced(), 2, "the last entry has two sectors");
    let mut fates = fates.into_iter();
    disk.crash(|| fates.next().unwrap());
    (disk, first.now().clone())
}

/// Cuts the power in every call of a start, and looks what the next one finds; says how many did.
fn starts(disk: &MemoryDisk, expected: &Durable, context: &str) -> usize {
    let (mut rng, mut count) = (Rng(7), 0);
    for cut in 1.. {
        let start = disk.fork();
        start.crash_at(cut);
        let through = open(&start).is_ok();
        for number in 0..7 {
            let left = start.fork();
            left.crash(pattern(number, &mut rng));
            let context = format!("{context}, cut in {cut}, pattern {number}");
            let (mut storage, found) =
                open(&left).unwrap_or_else(|error| panic!("{context}: {error}"));
            let is_unknown = found.hard_state.is_tail_unknown;
            assert!(!is_unknown, "{context}: in doubt for nothing:\n{}", found.report);
            let durable = Durable::found(&mut storage, &found);
            assert!(durable.log.starts_with(&expected.log), "{context}: lost:\n{}", found.report);
            assert!(durable.last().index <= expected.last().index.next(), "{context}");
            count += 1;
        }
        if through {
            break;
        }
    }
    count
}

#[test]
fn what_was_confirmed_behind_healed_entries_is_found() {
    let mut count = 0;
    for alone in 1..=3 {
        let (disk, expected) = written(alone, None);
        assert_eq!(expected.last().index, Index(9 + alone as u64));
        count += starts(&disk, &expected, &format!("{alone} healed"));
    }
    assert!(count > 500, "only {count} starts");
}

#[test]
fn what_was_torn_behind_healed_entries_raises_no_doubt() {
    use Fate::{Garbage, New, Old};
    let mut count = 0;
    for alone in 1..=3 {
        for fates in [[New, Old], [New, Garbage], [Old, New], [Garbage, New], [Old, Old]] {
            let (disk, expected) = written(alone, Some(fates));
            count += starts(&disk, &expected, &format!("{alone} healed, {fates:?}"));
        }
    }
    assert!(count > 2500, "only {count} starts");
}
