//! What stands behind a gap in the log is no part of it any more, and may be the last good copy of something:
//! it is kept until nobody can need it.

use raft_core::{HardState, Index, Lineage, Member};
use raft_replica::storage::{Identity, Storage, StorageError, inspect};

use crate::crash::{Rng, fates};
use crate::evidence::after;
use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, identity};
use crate::verdict::{SIZES, open};

/// A log in four segments of one epoch.
fn four_segments() -> (MemoryDisk, Script) {
    let mut script = Script::founding();
    script.term(1, Some(1));
    (0..28).for_each(|_| {
        script.append(&[1; 2]).sync();
    });
    let disk = after(&script);
    let segments: Vec<String> = disk.files().into_iter().filter(|file| is_segment(file)).collect();
    assert!(segments.len() > 4, "{segments:?}");
    (disk, script)
}

fn is_segment(file: &str) -> bool {
    file.starts_with("wal/seg-")
}

/// The first entry of a segment.
fn first(file: &str) -> u64 {
    file["wal/seg-".len()..].split_once('-').unwrap().0.parse().unwrap()
}

/// The segments behind the one that begins at the lowest index after 1, with their bytes.
fn behind_the_second(disk: &MemoryDisk) -> (String, Vec<(String, Vec<u8>)>) {
    let mut segments: Vec<String> =
        disk.files().into_iter().filter(|file| is_segment(file)).collect();
    segments.sort_by_key(|file| first(file));
    let behind =
        segments[2..].iter().map(|file| (file.replace("seg-", "lost-"), disk.bytes(file).unwrap()));
    (segments[1].clone(), behind.collect())
}

fn has_all(disk: &MemoryDisk, kept: &[(String, Vec<u8>)], context: &str) {
    for (file, bytes) in kept {
        assert!(disk.bytes(file).as_ref() == Some(bytes), "{context}: {file}");
    }
}

#[test]
fn what_is_behind_a_gap_is_kept_while_the_end_is_unknown() {
    let (disk, _) = four_segments();
    let (gap, kept) = behind_the_second(&disk);
    disk.lose(&gap);
    let before = inspect(&mut disk.clone()).unwrap();
    assert_eq!(before.lost.len(), kept.len(), "{before}");
    for start in 0..3 {
        let (storage, found) = open(&disk).unwrap();
        assert!(found.hard_state.is_tail_unknown, "{}", found.report);
        drop(storage);
        has_all(&disk, &kept, &format!("start {start}"));
        let listed = inspect(&mut disk.clone()).unwrap().lost;
        assert!(kept.iter().all(|(file, _)| listed.contains(file)), "{listed:?}");
    }
    // The log goes on, in segments of the same first entries, and the doubt ends.
    let (mut storage, found) = open(&disk).unwrap();
    let mut script = Script::new(Durable::found(&mut storage, &found));
    (0..12).for_each(|_| {
        script.append(&[2; 2]).sync();
    });
    script.run(&mut storage).unwrap();
    has_all(&disk, &kept, "the log has grown");
    let mut end = Script::new(script.now().clone());
    let state = HardState { is_tail_unknown: false, ..script.now().hard_state };
    end.persist(|batch| batch.hard_state = Some(state)).sync();
    end.run(&mut storage).unwrap();
    assert!(disk.files().iter().all(|file| !file.starts_with("wal/lost-")), "{:?}", disk.files());
    drop(storage);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *end.now());
}

/// In whichever call of the start the power fails.
#[test]
fn no_crash_takes_what_is_behind_a_gap() {
    let (pristine, _) = four_segments();
    let (gap, kept) = behind_the_second(&pristine);
    pristine.lose(&gap);
    let mut rng = Rng(11);
    for call in 1.. {
        let start = pristine.fork();
        start.crash_at(call);
        let is_through = open(&start).is_ok();
        for pattern in [0, 1, 3, 6] {
            let disk = start.fork();
            disk.crash(fates(pattern, &mut rng));
            let context = format!("call {call}, pattern {pattern}");
            assert!(open(&disk).unwrap().1.hard_state.is_tail_unknown, "{context}");
            has_all(&disk, &kept, &context);
        }
        if is_through {
            assert!(call > 30, "{call} calls");
            break;
        }
    }
}

/// A node that is admitted again has no doubt, and keeps a segment that does not say any more what it is, and
/// those behind it, until its log reaches behind all of them.
#[test]
fn who_is_admitted_again_keeps_what_it_cannot_read() {
    let (disk, _) = four_segments();
    let (bad, mut kept) = behind_the_second(&disk);
    disk.overwrite(&bad, 0, &[0; 512]);
    disk.overwrite(&bad, 4096, &[0; 512]);
    kept.push((bad.replace("seg-", "lost-"), disk.bytes(&bad).unwrap()));
    assert!(matches!(open(&disk), Err(StorageError::Amnesia { .. })));
    let again =
        Identity { member: Member { lineage: Lineage(900), ..identity().member }, ..identity() };
    let (mut storage, found) = Storage::readmit(disk.clone(), SIZES, again).unwrap();
    assert!(!found.hard_state.is_tail_unknown);
    has_all(&disk, &kept, "admitted again");
    let mut script = Script::new(Durable::found(&mut storage, &found));
    script.term(2, None);
    let open = || Storage::open(disk.clone(), SIZES, Some(again)).unwrap().0;
    let is_kept = |disk: &MemoryDisk| disk.files().iter().any(|file| file.starts_with("wal/lost-"));
    let mut lengths = Vec::new();
    while is_kept(&disk) {
        script.append(&[3; 8]).sync();
        script.run(&mut storage).unwrap();
        script = Script::new(script.now().clone());
        drop(storage);
        storage = open();
        lengths.push(script.now().last().index);
        assert!(lengths.len() < 20, "{lengths:?}");
    }
    assert!(lengths.last() > Some(&Index(56)), "{lengths:?}");
}
