//! A node that has lost who it is, or what it has promised, and its way back.

use raft_core::{Member, Payload, Slot, Term};
use raft_replica::storage::{Found, Identity, Storage, StorageError};

use crate::crash::{Rng, fates};
use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, identity};
use crate::verdict::{FIRST_BATCH, SIZES, contents, open};

fn lived_in() -> (MemoryDisk, Script) {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 12]).sync().snapshot(9, &[7; 2000]);
    script.term(4, Some(2)).append(&[700, 2]).sync().membership(4).append(&[3]).sync();
    script.run(&mut open(&disk).unwrap().0).unwrap();
    (disk, script)
}

fn again() -> Identity {
    Identity {
        member: Member { lineage: raft_core::Lineage(0xbeef), ..identity().member },
        ..identity()
    }
}

/// Ways to lose it. Each leaves a directory in which nothing else is wrong.
type Loss = fn(&MemoryDisk);
const LOSSES: [(&str, Loss); 6] = [
    ("both copies of the identity", |disk| {
        disk.overwrite("IDENTITY", 0, &[0; 512]);
        disk.overwrite("IDENTITY", 4096, &[0xa5; 512]);
    }),
    ("the file of the identity", |disk| disk.lose("IDENTITY")),
    ("one file of the hard state", |disk| disk.lose("hs.a")),
    ("both files of the hard state", |disk| {
        disk.lose("hs.a");
        disk.lose("hs.b");
    }),
    ("all copies of the hard state", |disk| {
        for file in ["hs.a", "hs.b"] {
            disk.overwrite(file, 0, &[0xa5; 8192]);
        }
    }),
    ("both heads of a segment", |disk| {
        let file = disk.files().into_iter().rfind(|file| file.starts_with("wal/")).unwrap();
        disk.overwrite(&file, 0, &[0; 512]);
        disk.overwrite(&file, 4096, &[0; 512]);
    }),
];

fn readmit(disk: &MemoryDisk) -> Result<(Storage<MemoryDisk>, Found), StorageError> {
    Storage::readmit(disk.clone(), SIZES, again())
}

#[test]
fn what_is_lost_is_amnesia_and_nothing_is_modified() {
    for (name, lose) in LOSSES {
        let (disk, _) = lived_in();
        lose(&disk);
        let before = contents(&disk);
        for _ in 0..2 {
            let error = open(&disk).unwrap_err();
            assert!(matches!(&error, StorageError::Amnesia { .. }), "{name}: {error}");
            assert!(contents(&disk) == before, "{name}");
        }
    }
}

/// It promises nothing under its new lineage, has the highest term that the log knows, and keeps the
/// log and the snapshot.
#[test]
fn it_comes_back_under_a_new_lineage_with_its_log() {
    for (name, lose) in LOSSES {
        let (disk, script) = lived_in();
        lose(&disk);
        let (mut storage, found) = readmit(&disk).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = script.now();
        assert_eq!(found.identity, again(), "{name}");
        assert_eq!((found.hard_state.vote, found.hard_state.incarnation.0), (None, 0), "{name}");
        assert!(!found.hard_state.is_tail_unknown, "{name}: nothing is promised, nothing unknown");
        let state = Durable::found(&mut storage, &found);
        assert_eq!(state.snapshot, expected.snapshot, "{name}");
        if name == "both heads of a segment" {
            assert!(state.log.len() < expected.log.len(), "{name}");
            assert_eq!(found.hard_state.term, Term(4), "the files of the hard state still say so");
        } else {
            assert_eq!(state.log, expected.log, "{name}");
            assert_eq!(found.hard_state.term, Term(4), "{name}");
        }
        let is_membership =
            |slot: &Slot| matches!(slot, Slot::Resident { payload: Payload::Membership(_), .. });
        let has_membership = found.slots.iter().any(is_membership);
        assert!(has_membership || state.log.len() < expected.log.len(), "{name}");
        drop(storage);
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, StorageError::OtherNode { .. }), "{name}: {error}");
        let (mut storage, found) = Storage::open(disk.clone(), SIZES, Some(again())).unwrap();
        assert_eq!(Durable::found(&mut storage, &found), state, "{name}");
        let mut more = Script::new(state);
        more.term(5, None).append(&[9]).sync();
        more.run(&mut storage).unwrap();
        let (mut storage, found) = Storage::open(disk.clone(), SIZES, Some(again())).unwrap();
        assert_eq!(Durable::found(&mut storage, &found), *more.now(), "{name}");
    }
}

/// Its memberships are there twice again after its way back: the one in the log may be damaged next.
#[test]
fn it_comes_back_with_its_memberships_twice() {
    let (disk, _) = lived_in();
    disk.lose("hs.a");
    disk.lose("hs.b");
    let (mut storage, found) = readmit(&disk).unwrap();
    let before = Durable::found(&mut storage, &found);
    let is_membership = |payload: &Option<Payload>| matches!(payload, Some(Payload::Membership(_)));
    let (id, _) = before.log.iter().find(|(_, payload)| is_membership(payload)).unwrap();
    let chain = id.chain.0.to_le_bytes();
    for file in disk.files().into_iter().filter(|file| file.starts_with("wal/")) {
        let bytes = disk.bytes(&file).unwrap();
        // Its slot stays; its header and its payload go.
        for at in (FIRST_BATCH..bytes.len() - 8).filter(|at| bytes[*at..*at + 8] == chain) {
            disk.overwrite(&file, at, &[0xa5; 40]);
        }
    }
    let (mut storage, found) = Storage::open(disk, SIZES, Some(again())).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), before);
    assert!(!found.report.is_clean(), "something was damaged");
}

/// A crash in the middle leaves the old node with its promises or none, or the new one: never the old
/// one as if it had promised nothing.
#[test]
fn a_crash_in_the_middle_forgets_no_vote_of_the_old_lineage() {
    let (mut starts, mut amnesias, mut news) = (0, 0, 0);
    for (name, lose) in LOSSES {
        let (disk, script) = lived_in();
        lose(&disk);
        let mut rng = Rng(17);
        for call in 1.. {
            let crashed = disk.fork();
            crashed.crash_at(call);
            let is_through = readmit(&crashed).is_ok();
            for pattern in [0, 1, 2, 3, 6, 7, 8] {
                let left = crashed.fork();
                left.crash(fates(pattern, &mut rng));
                let context = format!("{name}: call {call}, pattern {pattern}");
                starts += 1;
                match Storage::open(left.clone(), SIZES, None) {
                    Ok((_, found)) if found.identity == identity() => {
                        assert_eq!(found.hard_state, script.now().hard_state, "{context}");
                    }
                    Ok((_, found)) => {
                        assert_eq!(found.identity, again(), "{context}");
                        news += 1;
                    }
                    Err(StorageError::Amnesia { .. }) => {
                        amnesias += 1;
                        // It is drawn another lineage, and comes back all the same.
                        let lineage = raft_core::Lineage(0xcafe);
                        let member = Member { lineage, ..identity().member };
                        let third = Identity { member, ..identity() };
                        let (mut storage, found) =
                            Storage::readmit(left.clone(), SIZES, third).unwrap();
                        let state = Durable::found(&mut storage, &found);
                        assert_eq!(state.snapshot, script.now().snapshot, "{context}");
                    }
                    Err(error) => panic!("{context}: {error}"),
                }
            }
            if is_through {
                break;
            }
        }
    }
    println!("{starts} starts after a crash: {amnesias} amnesias, {news} new lineages");
    assert!(amnesias > 100 && news > 100);
}

#[test]
fn it_does_not_come_back_as_itself_nor_as_somebody_else() {
    let (disk, _) = lived_in();
    disk.lose("hs.b");
    let before = contents(&disk);
    let stranger = Identity { member: Member::new(2, 0xbeef), ..identity() };
    let elsewhere = Identity { cluster: raft_core::ClusterId(9), ..again() };
    for other in [identity(), stranger, elsewhere] {
        let error = Storage::readmit(disk.clone(), SIZES, other).unwrap_err();
        assert!(matches!(error, StorageError::OtherNode { .. }), "{error}");
        assert!(contents(&disk) == before);
    }
}

/// What never was a data directory has nothing to come back to.
#[test]
fn an_empty_or_half_formatted_directory_is_neither() {
    for call in 1.. {
        let mut disk = MemoryDisk::default();
        disk.crash_at(call);
        if Storage::format(&mut disk, identity()).is_ok() {
            break;
        }
        for pattern in 0..4 {
            let disk = disk.fork();
            disk.crash(fates(pattern, &mut Rng(call)));
            let Err(error) = open(&disk) else { continue };
            let missing = StorageError::Missing { file: "IDENTITY".to_owned() };
            assert_eq!(error, missing, "call {call}, pattern {pattern}");
            assert_eq!(readmit(&disk).unwrap_err(), missing, "call {call}, pattern {pattern}");
        }
    }
    let empty = MemoryDisk::default();
    assert_eq!(open(&empty).unwrap_err(), StorageError::Missing { file: "IDENTITY".to_owned() });
}
