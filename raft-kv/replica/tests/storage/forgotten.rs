//! A scrub wants to hear from the medium, and not from a cache.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use raft_replica::disk::{Disk, DiskError};
use raft_replica::layer::Layer;
use raft_replica::storage::Storage;

use crate::memory_disk::MemoryDisk;
use crate::model::{Script, identity};
use crate::verdict::SIZES;

/// What was asked of the files that were opened, by their numbers.
#[derive(Debug, Default)]
struct Seen {
    names: BTreeMap<usize, String>,
    /// How often each was read since it was to be forgotten; nothing if it never was.
    reads: BTreeMap<usize, u32>,
    forgotten: BTreeMap<usize, u32>,
}

struct Watched(MemoryDisk, Rc<RefCell<Seen>>);

impl Layer for Watched {
    type Below = MemoryDisk;

    fn below(&mut self) -> &mut MemoryDisk {
        &mut self.0
    }

    fn open(&mut self, path: &str) -> Result<usize, DiskError> {
        let file = Disk::open(&mut self.0, path)?;
        self.1.borrow_mut().names.insert(file, path.to_owned());
        Ok(file)
    }

    fn forget(&mut self, file: &usize) {
        let mut seen = self.1.borrow_mut();
        assert_eq!(seen.reads.get(file), None, "it is forgotten before it is read");
        *seen.forgotten.entry(*file).or_default() += 1;
    }

    fn read(&mut self, file: &usize, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        // The first pages of a segment are its heads, which are kept twice and looked at before the log.
        let mut seen = self.1.borrow_mut();
        if offset >= 8192 || seen.names.get(file).is_some_and(|name| name.ends_with(".data")) {
            *seen.reads.entry(*file).or_default() += 1;
        }
        drop(seen);
        Disk::read(&mut self.0, file, offset, buffer)
    }
}

#[test]
fn what_is_scrubbed_is_forgotten_first_and_once_in_a_round() {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 12]).sync().commit(10).snapshot(4, &[6; 900]);
    script.append(&[2; 9]).sync().append(&[700, 700, 700]).sync().append(&[30, 40]).sync();
    let seen = Rc::new(RefCell::new(Seen::default()));
    let watched = Watched(disk, Rc::clone(&seen));
    let mut storage = Storage::open(watched, SIZES, Some(identity())).unwrap().0;
    script.run(&mut storage).unwrap();
    for round in 1..=2 {
        seen.replace(Seen::default());
        while !storage.scrub(200).unwrap().is_round_over {}
        let seen = seen.borrow();
        let named = |part: &str| {
            let of = seen.names.iter().filter(move |(_, name)| name.contains(part));
            of.map(|(file, _)| *file).collect::<Vec<usize>>()
        };
        let (segments, snapshots) = (named("wal/seg"), named(".data"));
        let (last, sealed) = segments.split_last().unwrap();
        assert!(sealed.len() > 1 && !snapshots.is_empty(), "round {round}: {seen:?}");
        for file in sealed.iter().chain(&snapshots) {
            assert!(seen.reads[file] > 1, "it is read in several steps");
            assert_eq!(seen.forgotten.get(file), Some(&1), "{}", seen.names[file]);
        }
        assert_eq!(seen.forgotten.get(last), None, "it is still written to");
    }
}
