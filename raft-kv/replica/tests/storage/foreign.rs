//! What somebody else has written, in a place of the same name: another server of the cluster, another
//! group of this server, another cluster. A file that was copied, a page that went to the wrong disk, bytes
//! that a client has sent. It is damage of that place, and never believed.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft_core::{ClusterId, Entries, GroupId, Index, Member, Payload, Term};
use raft_replica::storage::{Identity, Storage, StorageError, inspect};
use twox_hash::XxHash3_64;

use crate::evidence::whole;
use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, identity, seed};
use crate::verdict::{FIRST_BATCH, ROOMY, SIZES, Verdict, contents, judge, open};

const SEGMENT: &str = "wal/seg-1-1.wal";

/// Everybody whose directory has the same files, and a word for each.
fn others() -> [(&'static str, Identity); 3] {
    [
        ("another server", Identity { member: Member::new(2, 101), ..identity() }),
        ("another group", Identity { group: GroupId(8), ..identity() }),
        ("another cluster", Identity { cluster: ClusterId(0xc2), ..identity() }),
    ]
}

/// A life of so many entries of this size each, in two batches, with a snapshot and a membership; its files
/// have the same names whatever the size.
fn life(size: usize, votes: u64) -> Script {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[size; 12]).sync().commit(10).snapshot(4, &[6; 900]);
    script.append(&[size]).sync().membership(4).sync();
    script.snapshot(7, &[u8::try_from(size).unwrap(); 2000]);
    for vote in 0..votes {
        script.term(2 + vote, Some(3)).sync();
    }
    script
}

/// The disk of this node after a life, at rest.
fn disk_of(identity: Identity, script: &Script) -> MemoryDisk {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity).unwrap();
    let (mut storage, _) = Storage::open(disk.clone(), SIZES, Some(identity)).unwrap();
    script.run(&mut storage).unwrap();
    storage.rest().unwrap();
    disk
}

/// This node's disk, what it knows, and the disks of the others, who have lived longer.
fn disks() -> (MemoryDisk, Durable, Vec<(&'static str, MemoryDisk)>) {
    let script = life(30, 1);
    let theirs = others().map(|(name, other)| (name, disk_of(other, &life(31, 9))));
    (disk_of(identity(), &script), script.now().clone(), theirs.into())
}

fn copy(from: &MemoryDisk, to: &MemoryDisk, file: &str, part: core::ops::Range<usize>) {
    to.overwrite(file, part.start, &from.bytes(file).unwrap()[part]);
}

fn copy_whole(from: &MemoryDisk, to: &MemoryDisk, file: &str) {
    to.replace(file, &from.bytes(file).unwrap());
}

/// A later hard state, whole, under both names: it has another term and another vote.
#[test]
fn a_hard_state_of_somebody_else_is_amnesia() {
    let (disk, expected, theirs) = disks();
    for (name, other) in theirs {
        let struck = disk.fork();
        for file in ["hs.a", "hs.b"] {
            copy_whole(&other, &struck, file);
        }
        let verdict = judge(&struck, &expected, &BTreeSet::new(), name);
        assert_eq!(verdict, Verdict::Amnesia, "{name}");
        // Of one file there is the other one, of the ring behind the hard state as well.
        for file in ["hs.a", "hs.b"] {
            let struck = disk.fork();
            copy_whole(&other, &struck, file);
            whole(&struck, &expected, &format!("{name}: {file}"));
            let (_, found) = open(&struck).unwrap();
            assert!(found.report.is_clean(), "{name}: {file} again: {}", found.report);
        }
    }
}

/// A copy of the identity can be read by all: whose the hard state is says which one is right.
#[test]
fn an_identity_of_somebody_else_is_told_by_the_hard_state() {
    let (disk, expected, theirs) = disks();
    for (name, other) in theirs {
        for page in [0, 4096] {
            let struck = disk.fork();
            copy(&other, &struck, "IDENTITY", page..page + 512);
            let found = inspect(&mut struck.clone()).unwrap();
            assert_eq!(found.identity, identity(), "{name}");
            assert_eq!(found.report.findings.len(), 1, "{name}: {}", found.report);
            // One page of its hard state may have come here as well.
            copy(&other, &struck, "hs.a", page..page + 512);
            whole(&struck, &expected, &format!("{name}: IDENTITY at {page}"));
            assert!(inspect(&mut struck.clone()).unwrap().report.is_clean(), "{name}");
        }
        let struck = disk.fork();
        copy_whole(&other, &struck, "IDENTITY");
        assert!(matches!(open(&struck), Err(StorageError::OtherNode { .. })), "{name}");
        assert!(
            matches!(inspect(&mut struck.clone()), Err(StorageError::Amnesia { .. })),
            "{name}"
        );
    }
    // An earlier directory of the same server: nobody can say which of both this is.
    let earlier = Identity { member: Member::new(1, 0xbeef), ..identity() };
    copy(&disk_of(earlier, &life(30, 1)), &disk, "IDENTITY", 0..512);
    assert_eq!(judge(&disk, &expected, &BTreeSet::new(), "earlier"), Verdict::Amnesia);
}

#[test]
fn a_segment_of_somebody_else_is_none() {
    let (disk, expected, theirs) = disks();
    for (name, other) in theirs {
        let end = disk.bytes(SEGMENT).unwrap().len();
        let struck = disk.fork();
        copy_whole(&other, &struck, SEGMENT);
        let verdict = judge(&struck, &expected, &BTreeSet::new(), name);
        assert_eq!(verdict, Verdict::Amnesia, "{name}: both heads");
        // All but its heads: nothing of what is there is an entry.
        let struck = disk.fork();
        copy(&other, &struck, SEGMENT, 8192..end);
        let verdict = judge(&struck, &expected, &BTreeSet::new(), name);
        assert_eq!(verdict, Verdict::TailUnknown, "{name}: slots and batches");
        let struck = disk.fork();
        copy(&other, &struck, SEGMENT, FIRST_BATCH..end);
        let all: BTreeSet<Index> = (1..=14).map(Index).collect();
        let verdict = judge(&struck, &expected, &all, name);
        assert_eq!(verdict, Verdict::Damaged, "{name}: batches");
    }
}

/// Slots are the second name of an entry: one that another node has written names none.
#[test]
fn slots_of_somebody_else_are_written_again() {
    let (disk, expected, theirs) = disks();
    for (name, other) in theirs {
        for sector in [8192, 8192 + 512] {
            let struck = disk.fork();
            copy(&other, &struck, SEGMENT, sector..sector + 512);
            // With what followed it lost, nothing but the slots could say who the last entry was.
            whole(&struck, &expected, &format!("{name}: slots at {sector}"));
        }
    }
}

#[test]
fn a_manifest_of_somebody_else_describes_nothing() {
    let (disk, expected, theirs) = disks();
    let files = ["snap/7-1.manifest", "snap/7-1.manifest2"];
    for (name, other) in theirs {
        for file in files {
            let struck = disk.fork();
            copy_whole(&other, &struck, file);
            whole(&struck, &expected, &format!("{name}: {file}"));
        }
        // Both, and the bytes with them: as if the snapshot were lost.
        let struck = disk.fork();
        for file in files.into_iter().chain(["snap/7-1.data"]) {
            copy_whole(&other, &struck, file);
        }
        let verdict = judge(&struck, &expected, &BTreeSet::new(), name);
        assert_eq!(verdict, Verdict::OlderSnapshot, "{name}");
    }
}

/// Who has lost its identity comes back as the server that it was, and as no other: of another one's
/// records it could read none, and would take all that is there for lost.
#[test]
fn a_directory_without_identity_is_nobody_elses() {
    let (disk, expected, _) = disks();
    disk.lose("IDENTITY");
    let before = contents(&disk);
    for (name, other) in others() {
        let error = Storage::readmit(disk.clone(), SIZES, other).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{name}: {error}");
        assert!(error.to_string().contains("IDENTITY"), "{name}: {error}");
        assert!(contents(&disk) == before, "{name}");
    }
    let again = Identity { member: Member::new(1, 0xbeef), ..identity() };
    let (mut storage, found) = Storage::readmit(disk, SIZES, again).unwrap();
    assert_eq!(Durable::found(&mut storage, &found).log, expected.log);
}

/// What follows each other in a batch: its header, the header of its one entry.
const HEADERS: usize = 64 + 40;

/// A page that says of itself, with the right checksum for this seed and place, that it is the header of a
/// later batch, written under a later hard state, when more was committed.
fn page(seed: u64, offset: usize, version: u8) -> Vec<u8> {
    let mut header = b"RBAT".to_vec();
    header.extend([1, 0, version, 0]);
    header.extend(1u64.to_le_bytes());
    header.extend(9u32.to_le_bytes());
    header.extend(100u32.to_le_bytes());
    for word in [900u64, 0xc4a1, 899, 777] {
        header.extend(word.to_le_bytes());
    }
    let checksum = XxHash3_64::oneshot_with_seed(seed ^ offset as u64, &header);
    header.extend(checksum.to_le_bytes());
    header
}

/// Where the second batch begins, and the pages of the command in it.
const LAST: usize = FIRST_BATCH + 4096;
const PAGES: [usize; 2] = [LAST + 4096, LAST + 2 * 4096];

/// A node whose last entry, in a batch of its own, is a command that looks like pages of the log; and what
/// it knew before.
fn fooled(seed: u64, version: u8) -> (MemoryDisk, Durable) {
    let start = LAST + HEADERS;
    let mut command = vec![7; 3 * 4096 - HEADERS];
    for offset in PAGES {
        let page = page(seed, offset, version);
        command[offset - start..offset - start + page.len()].copy_from_slice(&page);
    }
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[10]).sync();
    let before = script.now().clone();
    let payload = Payload::Command(Bytes::from(command));
    let entries = Entries::after(before.last(), [(Term(1), payload)]);
    script.persist(|batch| batch.append = entries).sync();
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    script.run(&mut Storage::open(disk.clone(), ROOMY, None).unwrap().0).unwrap();
    let bytes = disk.bytes(SEGMENT).unwrap();
    assert!([LAST].iter().chain(&PAGES).all(|at| bytes[*at..].starts_with(b"RBAT")));
    (disk, before)
}

/// The command is torn with the header of its batch: its pages are no evidence of anything, for it would
/// have to say whose log this is.
#[test]
fn what_a_client_has_sent_is_no_evidence() {
    let mut seeds = vec![("nobody", 0)];
    seeds.extend(others().map(|(name, other)| (name, seed(other))));
    for (name, seed) in seeds {
        let (disk, before) = fooled(seed, 1);
        disk.overwrite(SEGMENT, LAST, &[0; 4096]);
        whole(&disk, &before, name);
    }
}

/// Even if it does: where the header of the batch is there, all of the batch is the client's. Its end is
/// torn, so that the payload is gone, or the header of the entry.
#[test]
fn what_a_client_has_sent_is_no_evidence_within_its_batch() {
    for (at, version) in [(LAST + HEADERS, 1), (LAST + 64, 1), (LAST + HEADERS, 2), (LAST + 64, 2)]
    {
        let (disk, before) = fooled(seed(identity()), version);
        disk.overwrite(SEGMENT, at, &[0; 512]);
        whole(&disk, &before, &format!("torn at {at}, version {version}"));
    }
}
