//! What this very server wrote in an earlier directory, in the place where it stood there: blocks of a disk
//! that show through after the directory was formatted anew. Of other servers see `foreign.rs`.
//! Deliberately absent: its hard state, which nothing tells from the present one.

use raft_core::Index;

use crate::evidence::{after_rest, whole};
use crate::model::Script;
use crate::verdict::{FIRST_BATCH, open};

/// A life of so many entries of this size each, in two batches.
fn entries(size: usize) -> Script {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[size; 12]).sync().append(&[size; 4]).sync();
    script
}

/// Slots of another log: the entries that stand there follow each other, so it is the slots that are
/// wrong, and nothing is damaged under a name that it never had.
#[test]
fn slots_of_an_earlier_directory_are_not_believed() {
    for size in [20, 31] {
        let script = entries(30);
        let (disk, other) = (after_rest(&script), after_rest(&entries(size)));
        let file = "wal/seg-1-1.wal";
        for sector in [8192, 8192 + 512] {
            let struck = disk.fork();
            struck.overwrite(file, sector, &other.bytes(file).unwrap()[sector..sector + 512]);
            // The last entry has nothing behind it that could tell.
            let lasts: Vec<Index> = if sector > 8192 { vec![Index(16)] } else { Vec::new() };
            let context = format!("{size} at {sector}");
            let (_, found) = open(&struck.fork()).unwrap();
            let damaged: Vec<Index> = found.report.damaged().map(|id| id.index).collect();
            assert_eq!(damaged, lasts, "{context}: {}", found.report);
            if lasts.is_empty() {
                whole(&struck, script.now(), &context);
            }
        }
    }
}

/// Of an entry that nothing follows, its slot is believed: nobody can say which of both is right.
#[test]
fn an_entry_that_nothing_follows_is_damaged_as_its_slot_says() {
    let script = entries(30);
    let (disk, other) = (after_rest(&script), after_rest(&entries(31)));
    let file = "wal/seg-1-1.wal";
    disk.overwrite(file, 8192, &other.bytes(file).unwrap()[8192..8192 + 512]);
    // What follows the eighth entry cannot be read.
    disk.overwrite(file, FIRST_BATCH + 64 + 8 * 70, &[0xa5; 70]);
    let (_, found) = open(&disk).unwrap();
    let damaged: Vec<Index> = found.report.damaged().map(|id| id.index).collect();
    assert_eq!(damaged, [Index(8), Index(9)], "{}", found.report);
}
