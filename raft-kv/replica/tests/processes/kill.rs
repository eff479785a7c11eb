//! A process that works on a directory is killed, again and again, in the middle of what it does:
//! what it said was durable is there, intact, and its successor goes on from it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use raft_replica::file_disk::FileDisk;
use raft_replica::storage::Storage;

use crate::Directory;
use crate::life::{check, identity, open};

/// The argument that makes this program the one that is killed.
pub(crate) const CHILD: &str = "--live-in";

pub(crate) fn nothing_acknowledged_is_lost(rounds: u64) {
    let directory = Directory::new("kill");
    Storage::format(&mut FileDisk::new(&directory.0).unwrap(), identity()).unwrap();
    let (mut acknowledged, mut read, mut ahead) = (0, 0, 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(CHILD)
            .arg(&directory.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Not a time but so many acknowledgements: the blow falls somewhere in the work for the next.
        let wanted = 1 + round * 37 % 29;
        let mut last = (0, 0);
        for _ in 0..wanted {
            last = acknowledgement(&lines.next().unwrap().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            last = acknowledgement(&line.unwrap());
        }
        let (mut storage, found) = open(&directory.0);
        let end = found.slots.last().map_or(found.before, raft_core::Slot::id).index.0;
        let term = found.hard_state.term.0;
        assert!(end >= last.0, "round {round}: {} was acknowledged, the log ends at {end}", last.0);
        assert!(term >= last.1, "round {round}: term {} was promised, found {term}", last.1);
        assert!(!found.hard_state.is_tail_unknown, "round {round}: {}", found.report);
        read += check(&mut storage, &found);
        acknowledged = last.0;
        ahead += u64::from(end > last.0 || term > last.1);
    }
    println!(
        "{rounds} kills, {acknowledged} entries acknowledged, {read} read back; after {ahead} of the \
         kills there was more than what had been acknowledged"
    );
    assert!(acknowledged > rounds * 10 && read > acknowledged);
}

/// The index and the term that are durable.
fn acknowledgement(line: &str) -> (u64, u64) {
    let (index, term) = line.split_once(' ').unwrap();
    (index.parse().unwrap(), term.parse().unwrap())
}
