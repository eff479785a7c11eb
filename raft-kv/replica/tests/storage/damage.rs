//! What no crash leaves behind: rotten and misplaced sectors, lost files, somebody else's files.
//!
//! One fault at a time, everywhere: either everything is found nevertheless, or the error names a
//! file and nothing has been changed. A shorter log, an older vote, or a panic are never right.

use raft_core::{Index, Member, Payload};
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Found, Identity, Storage, StorageError, StorageOptions};
use xxhash_rust::xxh3::xxh3_64;

use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, identity};

const TINY: StorageOptions =
    StorageOptions { segment_slots: 16, segment_bytes: 8192, guard_bytes: 4096, chunk_bytes: 700 };
const SECTOR: usize = 512;

/// A node that has done everything once. Its last act is a hard state, which vouches for the log.
fn lived_in() -> (MemoryDisk, Durable) {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 12]).sync().commit(10).snapshot(9, &[7; 2000]);
    script.append(&[2; 9]).sync().append(&[700, 700, 700]).sync().membership(4).sync();
    script.term(2, Some(3)).rewrite(24, &[5, 6]).append(&[600]).sync().membership(5).sync();
    script.append(&[3, 4]).sync().term(3, Some(2)).sync();
    (after(&script), script.now().clone())
}

type Opened = (Storage<MemoryDisk>, Found);

fn open(disk: &MemoryDisk) -> Result<Opened, StorageError> {
    Storage::open(disk.clone(), TINY, Some(identity()))
}

fn contents(disk: &MemoryDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.files().into_iter().map(|file| (file.clone(), disk.bytes(&file))).collect()
}

/// Opens a disk with one fault: true if all is found, false if the fault is named.
fn survives(disk: &MemoryDisk, expected: &Durable, context: &str) -> bool {
    let before = contents(disk);
    match open(disk) {
        Ok((_, found)) => {
            assert_eq!(Durable::found(&found), *expected, "{context}");
            let again = open(disk).unwrap_or_else(|error| panic!("{context}, again: {error}"));
            assert_eq!(Durable::found(&again.1), *expected, "{context}, again");
            true
        }
        Err(StorageError::Damaged { file, what }) => {
            assert!(!file.is_empty() && !what.is_empty(), "{context}");
            assert!(contents(disk) == before, "{context}: changed before it was refused");
            false
        }
        Err(error) => panic!("{context}: {error}"),
    }
}

/// Which faults of a file must be survived: those of what is there twice, or not at all.
fn redundant(file: &str, offset: usize, bytes: &[u8]) -> bool {
    let table = 8192..8192 + 16 * 64;
    match file.split('/').next().unwrap() {
        "IDENTITY" | "hs.a" | "hs.b" => true,
        "wal" => offset < 8192 || table.contains(&offset) || bytes.iter().all(|byte| *byte == 0),
        _ => file.ends_with(".data"),
    }
}

#[test]
fn one_bad_sector_is_repaired_or_named() {
    let (pristine, expected) = lived_in();
    let (mut repaired, mut named) = (0, 0);
    for file in pristine.files() {
        let length = pristine.bytes(&file).unwrap().len();
        for offset in (0..length).step_by(SECTOR) {
            let old = pristine.bytes(&file).unwrap()[offset..length.min(offset + SECTOR)].to_vec();
            let mut flipped = old.clone();
            let bit = offset / SECTOR * 37 % (8 * old.len());
            flipped[bit / 8] ^= 1 << (bit % 8);
            for new in [vec![0; old.len()], vec![0xa5; old.len()], flipped] {
                let disk = pristine.fork();
                disk.overwrite(&file, offset, &new);
                let context = format!("{file} at {offset}, {:02x}", new[0]);
                let survived = survives(&disk, &expected, &context);
                assert!(survived || !redundant(&file, offset, &old), "{context}: there twice");
                *if survived { &mut repaired } else { &mut named } += 1;
            }
        }
    }
    assert!(repaired > 500 && named > 20, "{repaired} repaired, {named} named");
}

#[test]
fn one_misplaced_page_is_repaired_or_named() {
    const PAGE: usize = 4096;
    let (pristine, expected) = lived_in();
    let pages: Vec<(String, usize)> = pristine
        .files()
        .into_iter()
        .flat_map(|file| {
            let pages = pristine.bytes(&file).unwrap().len() / PAGE;
            (0..pages).map(move |page| (file.clone(), page * PAGE))
        })
        .collect();
    let (mut repaired, mut named) = (0, 0);
    for (from, from_offset) in &pages {
        let page = pristine.bytes(from).unwrap()[*from_offset..from_offset + PAGE].to_vec();
        for (to, to_offset) in &pages {
            let disk = pristine.fork();
            disk.overwrite(to, *to_offset, &page);
            let context = format!("{from} at {from_offset} over {to} at {to_offset}");
            let survived = survives(&disk, &expected, &context);
            *if survived { &mut repaired } else { &mut named } += 1;
        }
    }
    assert!(repaired > 200 && named > 50, "{repaired} repaired, {named} named");
}

#[test]
fn one_lost_file_is_named() {
    let (pristine, expected) = lived_in();
    for file in pristine.files() {
        let disk = pristine.fork();
        disk.lose(&file);
        let error = match open(&disk) {
            Ok((_, found)) => {
                // The older one is not missed; without the newer one, the log still reaches back.
                assert!(file.ends_with(".manifest"), "{file} is missed");
                let found = Durable::found(&found);
                assert!(found.log.ends_with(&expected.log), "{file}");
                assert_eq!(found.hard_state, expected.hard_state, "{file}");
                continue;
            }
            Err(error) => error,
        };
        let missing = StorageError::Missing { file: file.clone() };
        let damaged = matches!(&error, StorageError::Damaged { .. });
        assert!(if file == "IDENTITY" { error == missing } else { damaged }, "{file}: {error}");
    }
}

/// Without genesis the directory would look like that of a node that has never run.
#[test]
fn a_log_without_a_snapshot_is_named() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1, 2]).sync();
    let disk = after(&script);
    disk.lose("snap/0-0.manifest");
    assert!(!survives(&disk, script.now(), "genesis"));
}

#[test]
fn a_damaged_membership_entry_is_taken_from_the_ring() {
    let (disk, expected) = lived_in();
    let is_membership = |payload: &Payload| matches!(payload, Payload::Membership(_));
    let entry = expected.log.iter().find(|(_, payload)| is_membership(payload)).unwrap();
    let chain = entry.0.chain.0.to_le_bytes();
    let mut damaged = 0;
    for file in disk.files().into_iter().filter(|file| file.starts_with("wal/")) {
        let bytes = disk.bytes(&file).unwrap();
        // In the data: the header of the entry, with its chain after index and term.
        for at in (FIRST_BATCH..bytes.len() - 8).filter(|at| bytes[*at..*at + 8] == chain) {
            let header = bytes[at - 16..at - 8] == entry.0.index.0.to_le_bytes();
            if header {
                disk.overwrite(&file, at, &[0xa5; 24]);
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    assert!(survives(&disk, &expected, "the membership"));
    for file in ["hs.a", "hs.b"] {
        disk.overwrite(file, 8192, &[0; 4 * 8192]);
    }
    assert!(survives(&disk, &expected, "the log has been healed"));
}

#[test]
fn a_damaged_snapshot_is_never_served() {
    let (disk, expected) = lived_in();
    let data = disk.files().into_iter().find(|file| file.ends_with(".data")).unwrap();
    disk.overwrite(&data, 1500, &[0xa5]);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&found), expected);
    let snapshot = found.snapshot.unwrap();
    let done = storage.write(Work::LoadSnapshot { snapshot: snapshot.clone() }).unwrap();
    assert_eq!(done, Some(Done::SnapshotLoaded { snapshot, data: None }));
}

/// What is in the ring is durable before the log has the entry, so it outlives a power cut and a
/// bad sector together, even in the last batch.
#[test]
fn the_ring_is_durable_before_the_log() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10]).sync().membership(4).sync();
    let disk = after(&script);
    disk.crash(|| Fate::Old);
    let batch = FIRST_BATCH + 4096;
    disk.overwrite("wal/seg-1-1.wal", batch + 64, &[0xa5]);
    assert!(survives(&disk, script.now(), "the membership"));
}

/// A disk on which a new node has done this.
fn after(script: &Script) -> MemoryDisk {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    script.run(&mut open(&disk).unwrap().0).unwrap();
    disk
}

/// Where batches begin in a segment: behind its head, its table and the gap.
const FIRST_BATCH: usize = 8192 + 4096 + 4096;

/// What is repaired is there twice again: the next fault may take the other copy.
#[test]
fn each_copy_may_go_if_there_was_a_start_in_between() {
    let (disk, expected) = lived_in();
    let sealed = disk.files().into_iter().find(|file| file.starts_with("wal/")).unwrap();
    for file in ["IDENTITY", "hs.a", &sealed] {
        for offset in [0, 4096, 0, 4096] {
            disk.overwrite(file, offset, &[0; 512]);
            assert!(survives(&disk, &expected, file));
        }
    }
}

#[test]
fn a_slot_that_contradicts_its_entry_is_named() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20]).sync();
    let disk = after(&script);
    let file = "wal/seg-1-1.wal";
    let mut slot = disk.bytes(file).unwrap()[8192..8192 + 56].to_vec();
    slot[8] += 1;
    let checksum = xxh3_64(&slot).to_le_bytes();
    slot.extend_from_slice(&checksum);
    disk.overwrite(file, 8192, &slot);
    assert!(!survives(&disk, script.now(), "the slot"));
}

/// Two faults are more than anyone can repair, but they are not to be believed.
#[test]
fn an_older_vote_is_not_believed_when_the_log_knows_of_a_later_one() {
    let mut script = Script::founding();
    script.term(1, Some(1)).term(2, Some(2)).append(&[10, 20]).sync();
    let disk = after(&script);
    // Generation 5: formatted, opened, founded, and two terms.
    for file in ["hs.a", "hs.b"] {
        disk.overwrite(file, 4096, &[0; 512]);
    }
    assert!(!survives(&disk, script.now(), "the second vote is lost"));
}

/// A file from a backup: whole, but of another past.
#[test]
fn copies_of_the_hard_state_with_different_pasts_are_named() {
    let mut script = Script::founding();
    script.term(1, Some(1)).term(2, Some(2)).term(3, None).sync();
    let mut other = Script::founding();
    other.term(1, Some(1)).term(2, Some(3)).sync();
    let (disk, other) = (after(&script), after(&other));
    disk.overwrite("hs.a", 0, &other.bytes("hs.a").unwrap());
    assert!(!survives(&disk, script.now(), "another vote in term 2"));
}

#[test]
fn a_truncation_that_lost_its_segment_is_named() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20, 30]).sync();
    script.persist(|batch| batch.truncate_from = Some(Index(2))).term(2, None).sync();
    let disk = after(&script);
    disk.lose("wal/seg-2-2.wal");
    assert!(!survives(&disk, script.now(), "the fence"));
}

#[test]
fn a_prefix_that_no_snapshot_covers_stays() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 40]).sync();
    script.persist(|batch| batch.compact_to = Some(Index(35))).sync();
    let disk = after(&script);
    assert!(survives(&disk, script.now(), "compacted too far"));
}

/// The price of one sync for each batch: if nothing was written after it, an acknowledged batch
/// that rots looks like one that was torn.
#[test]
fn the_last_batch_alone_may_be_taken_for_torn() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20]).sync().append(&[30, 40]).sync();
    let (disk, data) = (after(&script), FIRST_BATCH);
    for (offset, found) in [(data + 4096 + 64 + 40, Some(2)), (data + 4096, Some(2)), (data, None)]
    {
        let disk = disk.fork();
        disk.overwrite("wal/seg-1-1.wal", offset, &[0xa5]);
        let log = open(&disk).ok().map(|(_, found)| found.slots.len());
        assert_eq!(log, found, "at {offset}");
    }
}

/// A rotten entry at the end of the log, its slot intact, and each thing that says that it was
/// durable, alone: what a power cut would leave without it is damage with it.
#[test]
fn evidence_keeps_the_last_batch_from_being_taken_for_torn() {
    let file = "wal/seg-1-1.wal";
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20]).sync();
    let torn = |disk: &MemoryDisk| {
        disk.overwrite(file, FIRST_BATCH + 64 + 40, &[0xa5]);
        open(disk).map(|(_, found)| found.slots.len())
    };
    assert_eq!(torn(&after(&script)), Ok(0), "nothing says so");
    let named = |what: &str, result: Result<usize, StorageError>| {
        assert!(matches!(result, Err(StorageError::Damaged { .. })), "{what}: {result:?}");
    };

    let mut later = script.clone();
    later.append(&[30]).sync();
    let (header, slot) = (after(&later), after(&later));
    header.overwrite(file, 8192 + 2 * 64, &[0; 64]);
    named("the header of a later batch", torn(&header));
    slot.overwrite(file, FIRST_BATCH + 4096, &[0; 4096]);
    named("a slot of a later batch", torn(&slot));

    let mut full = script.clone();
    full.append(&[7000]).sync();
    let rolled = after(&full);
    assert!(rolled.files().contains(&"wal/seg-3-1.wal".to_owned()), "{:?}", rolled.files());
    rolled.overwrite("wal/seg-3-1.wal", FIRST_BATCH, &[0; 4096]);
    named("a segment after it, with nothing in it", torn(&rolled));

    let mut voted = script.clone();
    voted.term(2, Some(2)).sync();
    named("a later hard state", torn(&after(&voted)));

    let started = after(&script);
    drop(open(&started).unwrap());
    let newest = started.files().into_iter().find(|file| file.starts_with("wal/")).unwrap();
    started.overwrite(&newest, FIRST_BATCH + 64 + 40, &[0xa5]);
    named("a start", open(&started).map(|(_, found)| found.slots.len()));
}

/// The header of a torn batch is read although none of its entries is intact: it names the
/// generation of the hard state that was durable before it.
#[test]
fn the_header_of_a_torn_batch_is_evidence() {
    let mut script = Script::founding();
    script.term(1, Some(1)).term(2, Some(2)).append(&[10]).sync();
    let disk = after(&script);
    disk.overwrite("wal/seg-1-1.wal", FIRST_BATCH + 64 + 40, &[0xa5]);
    for file in ["hs.a", "hs.b"] {
        disk.overwrite(file, 4096, &[0; 512]);
    }
    assert!(!survives(&disk, script.now(), "the second vote is lost"));
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let (disk, _) = lived_in();
    let other = Identity { member: Member::new(2, 102), ..identity() };
    let error = Storage::open(disk.clone(), TINY, Some(other)).unwrap_err();
    let file = "IDENTITY".to_owned();
    assert_eq!(error, StorageError::OtherNode { file, found: identity(), expected: other });
    assert!(error.to_string().starts_with("IDENTITY: "), "{error}");
    assert!(Storage::open(disk, TINY, None).is_ok());
}

#[test]
fn a_later_format_is_refused() {
    let records = [("IDENTITY", 0), ("hs.b", 4096), ("wal/", 4096), ("snap/9-1.manifest", 0)];
    for (name, offset) in records {
        let (disk, _) = lived_in();
        let file = disk.files().into_iter().find(|file| file.starts_with(name)).unwrap();
        let bytes = disk.bytes(&file).unwrap();
        let length = u32::from_le_bytes(bytes[offset + 12..offset + 16].try_into().unwrap());
        let mut record = bytes[offset..offset + 16 + length as usize].to_vec();
        record[8] = 2;
        let checksum = xxh3_64(&record).to_le_bytes();
        record.extend_from_slice(&checksum);
        disk.overwrite(&file, offset, &record);
        let error = open(&disk).unwrap_err();
        assert_eq!(error, StorageError::NewerFormat { file, found: 2, supported: 1 });
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let (disk, _) = lived_in();
    for options in [
        StorageOptions { segment_slots: 0, ..TINY },
        StorageOptions { chunk_bytes: 0, ..TINY },
        StorageOptions { segment_bytes: u32::MAX, ..TINY },
    ] {
        let error = Storage::open(disk.clone(), options, None).unwrap_err();
        assert!(matches!(error, StorageError::Options { .. }), "{error}");
    }
}
