//! Single stories of damage: what is evidence, what is kept twice, what is refused.

use std::collections::BTreeSet;

use raft_core::{Index, Member, Membership, RecoveredState};
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Identity, Storage, StorageError, StorageOptions, What, inspect};

use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, checksum, identity, meta};
use crate::verdict::{FIRST_BATCH, SIZES, Verdict, contents, judge, open};

/// A disk on which a new node has done this.
pub(crate) fn after(script: &Script) -> MemoryDisk {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    script.run(&mut open(&disk).unwrap().0).unwrap();
    disk
}

/// The same, and then it has come to rest.
pub(crate) fn after_rest(script: &Script) -> MemoryDisk {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut storage = open(&disk).unwrap().0;
    script.run(&mut storage).unwrap();
    storage.rest().unwrap();
    disk
}

pub(crate) fn whole(disk: &MemoryDisk, expected: &Durable, context: &str) {
    assert_eq!(judge(disk, expected, &BTreeSet::new(), context), Verdict::Whole, "{context}");
}

fn amnesia(disk: &MemoryDisk, expected: &Durable, context: &str) {
    assert_eq!(judge(disk, expected, &BTreeSet::new(), context), Verdict::Amnesia, "{context}");
}

/// What is repaired is there twice again: the next fault may take the other copy.
#[test]
fn each_copy_may_go_if_there_was_a_start_in_between() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10; 20]).sync().membership(4).sync().snapshot(3, &[7; 900]);
    script.append(&[1]).sync();
    let (disk, expected) = (after(&script), script.now());
    for file in ["IDENTITY", "hs.a", "wal/seg-1-1.wal"] {
        for offset in [0, 4096, 0, 4096] {
            disk.overwrite(file, offset, &[0; 512]);
            whole(&disk, expected, file);
        }
    }
    for file in ["hs.a", "hs.b", "hs.a"] {
        disk.overwrite(file, 3 * 4096, &[0; 4 * 8192]);
        whole(&disk, expected, "the ring");
    }
    for file in ["snap/3-1.manifest", "snap/3-1.manifest2", "snap/3-1.manifest"] {
        disk.lose(file);
        whole(&disk, expected, file);
    }
}

/// Without genesis the directory would look like that of a node that has never run.
#[test]
fn a_log_without_a_snapshot_is_named() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1, 2]).sync();
    let disk = after(&script);
    disk.lose("snap/0-0.manifest");
    disk.lose("snap/0-0.manifest2");
    let before = contents(&disk);
    let error = open(&disk).unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { file, .. } if file == "snap"), "{error}");
    assert!(contents(&disk) == before);
}

/// A slot that is whole and names another entry: the entry is not believed, and neither is the slot's
/// higher term without the hard state that goes with it.
#[test]
fn a_slot_that_contradicts_its_entry_is_damage() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20]).sync().term(2, None).sync();
    for (term, verdict) in [(2, None), (3, Some(Verdict::Amnesia))] {
        let disk = after(&script);
        let file = "wal/seg-1-1.wal";
        let mut slot = disk.bytes(file).unwrap()[8192 + 64..8192 + 64 + 56].to_vec();
        slot[8] = term;
        slot.extend_from_slice(&checksum(file, &slot));
        disk.overwrite(file, 8192 + 64, &slot);
        if let Some(verdict) = verdict {
            assert_eq!(judge(&disk, script.now(), &BTreeSet::new(), "the slot"), verdict);
            continue;
        }
        let (_, found) = open(&disk).unwrap();
        let damaged: Vec<_> = found.report.damaged().collect();
        assert_eq!(damaged.len(), 1, "{}", found.report);
        assert_eq!((damaged[0].index, damaged[0].term.0), (Index(2), 2));
    }
}

/// Two faults are more than anyone can repair, but they are not to be believed.
#[test]
fn an_older_vote_is_not_believed_when_the_log_knows_of_a_later_one() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[10]).sync().term(2, Some(2)).append(&[20]).sync();
    // Generation 6: formatted, opened, founded, a term, the first batch of the segment, a term.
    let forget = |disk: &MemoryDisk| {
        for file in ["hs.a", "hs.b"] {
            disk.overwrite(file, 0, &[0; 512]);
        }
    };
    let disk = after(&script);
    forget(&disk);
    amnesia(&disk, script.now(), "the second vote is lost");
    // The header of a torn batch is read although none of its entries is intact: it names the
    // generation of the hard state that was durable before it.
    disk.overwrite("wal/seg-1-1.wal", FIRST_BATCH + 4096 + 64, &[0xa5; 200]);
    amnesia(&disk, script.now(), "the second vote is lost, and the entries");
}

/// A file from a backup: whole, but of another past.
#[test]
fn copies_of_the_hard_state_with_different_pasts_are_amnesia() {
    let mut script = Script::founding();
    script.term(1, Some(1)).term(2, Some(2)).term(3, None).sync();
    let mut other = Script::founding();
    other.term(1, Some(1)).term(2, Some(3)).sync();
    let (disk, other) = (after(&script), after(&other));
    disk.overwrite("hs.a", 0, &other.bytes("hs.a").unwrap());
    amnesia(&disk, script.now(), "another vote in term 2");
}

#[test]
fn a_segment_that_does_not_say_what_it_is_is_amnesia() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10; 20]).sync();
    let disk = after(&script);
    disk.overwrite("wal/seg-1-1.wal", 0, &[0; 512]);
    disk.overwrite("wal/seg-1-1.wal", 4096, &[0; 512]);
    amnesia(&disk, script.now(), "both heads");
}

#[test]
fn a_prefix_that_no_snapshot_covers_stays() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 40]).sync();
    script.persist(|batch| batch.compact_to = Some(Index(35))).sync();
    whole(&after(&script), script.now(), "compacted too far");
}

/// The price of one sync for each batch: of the batch that was acknowledged last, an entry that rots
/// before anything else is written looks like one that was torn. A rest ends that.
#[test]
fn the_last_batch_alone_may_be_taken_for_torn() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20]).sync().append(&[30, 40]).sync();
    let (file, batch) = ("wal/seg-1-1.wal", FIRST_BATCH + 4096);
    let torn = |what: &What| matches!(what, What::Torn { .. });
    // The header of the third entry, its payload, the payload of the fourth.
    for (offset, left) in [(64, 2), (64 + 40, 2), (64 + 40 + 30 + 40, 3)] {
        let disk = after(&script);
        disk.overwrite(file, batch + offset, &[0xa5; 10]);
        let (_, found) = open(&disk).unwrap();
        assert_eq!(found.slots.len(), left, "{}", found.report);
        assert!(!found.hard_state.is_tail_unknown);
        assert!(found.report.findings.iter().any(|found| torn(&found.what)), "{}", found.report);

        let disk = after_rest(&script);
        disk.overwrite(file, batch + offset, &[0xa5; 10]);
        let (_, found) = open(&disk).unwrap();
        assert_eq!(found.slots.len(), 4, "{}", found.report);
        let is_header = offset == 64;
        assert_eq!(found.report.damaged().count(), usize::from(!is_header), "{}", found.report);
        assert!(!found.report.findings.iter().any(|found| torn(&found.what)), "{}", found.report);
    }
}

/// An entry at the end of the log that is lost in both its places, and each thing that says that it
/// was durable, alone: what a power cut would leave without it is an unknown tail with it.
#[test]
fn evidence_makes_the_tail_unknown() {
    let file = "wal/seg-1-1.wal";
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20]).sync();
    let lost = |disk: &MemoryDisk, what: &str, expected: &Durable, verdict: bool| {
        disk.overwrite(file, FIRST_BATCH + 64, &[0xa5; 40]);
        disk.overwrite(file, 8192, &[0xa5; 64]);
        let (mut storage, found) = open(disk).unwrap();
        assert_eq!(found.hard_state.is_tail_unknown, verdict, "{what}: {}", found.report);
        assert_eq!(Durable::found(&mut storage, &found).log, [], "{what}");
        if verdict {
            // The flag outlives further starts, until it is cleared by a batch.
            let first = open(disk).unwrap().1.hard_state;
            assert!(first.is_tail_unknown, "{what}");
            let mut next = Script::new(Durable { hard_state: first, ..expected.clone() });
            let cleared = raft_core::HardState { is_tail_unknown: false, ..first };
            next.persist(|batch| batch.hard_state = Some(cleared)).sync();
            next.run(&mut open(disk).unwrap().0).unwrap();
            assert!(!open(disk).unwrap().1.hard_state.is_tail_unknown, "{what}");
        }
    };
    lost(&after(&script), "the hard state: it is written with the first batch", script.now(), true);
    let mut last = script.clone();
    last.append(&[30]).sync();
    let disk = after(&last);
    disk.overwrite(file, FIRST_BATCH + 4096 + 64, &[0xa5; 40]);
    let found = open(&disk).unwrap().1;
    assert_eq!(
        (found.slots.len(), found.hard_state.is_tail_unknown),
        (2, false),
        "nothing says so"
    );

    // The other slot of the same batch: it was written after the sync.
    lost(&after_rest(&script), "a slot of the same batch", script.now(), true);

    let mut later = script.clone();
    later.append(&[30]).sync();
    let (header, slot) = (after_rest(&later), after_rest(&later));
    header.overwrite(file, 8192 + 64, &[0; 64]);
    header.overwrite(file, 8192 + 2 * 64, &[0; 64]);
    lost(&header, "the header of a later batch", later.now(), true);
    slot.overwrite(file, 8192 + 64, &[0; 64]);
    slot.overwrite(file, FIRST_BATCH + 4096, &[0; 4096]);
    lost(&slot, "a slot of a later batch", later.now(), true);

    let mut full = script.clone();
    full.append(&[7000]).sync();
    let rolled = after(&full);
    assert!(rolled.files().contains(&"wal/seg-3-1.wal".to_owned()), "{:?}", rolled.files());
    rolled.overwrite("wal/seg-3-1.wal", FIRST_BATCH, &[0; 4096]);
    rolled.overwrite(file, 8192 + 64, &[0; 64]);
    lost(&rolled, "a segment after it, with nothing in it", full.now(), true);

    let mut voted = script.clone();
    voted.term(2, Some(2)).sync();
    lost(&after(&voted), "a later hard state", voted.now(), true);
}

/// The flag is durable before anything is written that could hide why it was raised.
#[test]
fn the_unknown_tail_is_durable_first() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20]).sync().append(&[30]).sync().term(2, None).sync();
    let disk = after(&script);
    for at in [0, 64] {
        disk.overwrite("wal/seg-1-1.wal", 8192 + at, &[0xa5; 64]);
    }
    disk.overwrite("wal/seg-1-1.wal", FIRST_BATCH, &[0xa5; 200]);
    let (mut starts, mut calls) = (0, 0);
    for call in 1.. {
        let start = disk.fork();
        start.crash_at(call);
        let is_through = open(&start).is_ok();
        for fate in [Fate::Old, Fate::New, Fate::Garbage] {
            let left = start.fork();
            left.crash(|| fate);
            let (_, found) = open(&left).unwrap();
            assert!(found.hard_state.is_tail_unknown, "call {call}, {fate:?}");
            starts += 1;
        }
        calls = call;
        if is_through {
            break;
        }
    }
    assert!(calls > 30 && starts > 90, "{calls} calls");
}

#[test]
fn a_damaged_snapshot_is_never_served() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 12]).sync().snapshot(9, &[7; 2000]).sync();
    let disk = after(&script);
    let (mut storage, found) = open(&disk).unwrap();
    disk.overwrite("snap/9-1.data", 1500, &[0xa5]);
    let snapshot = found.snapshot.unwrap();
    let (offset, bytes_max) = (0, usize::MAX);
    let load = Work::LoadSnapshot { snapshot: snapshot.clone(), offset, bytes_max };
    let done = storage.write(load).unwrap();
    assert_eq!(done, Some(Done::SnapshotLoaded { snapshot, offset, chunk: None }));
}

/// A snapshot that cannot be read is replaced by one that is received, at the same index.
#[test]
fn a_damaged_snapshot_is_received_again() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 12]).sync();
    let last = script.now().log[8].0;
    script.receive(last, &[7; 2000], 700).sync();
    let disk = after(&script);
    drop(open(&disk).unwrap());
    disk.overwrite("snap/9-1.data", 1500, &[0xa5]);
    disk.lose("snap/0-0.manifest");
    disk.lose("snap/0-0.manifest2");
    let (mut storage, found) = open(&disk).unwrap();
    assert!(found.is_snapshot_damaged, "{}", found.report);
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
    let mut again = Script::new(script.now().clone());
    again.receive(last, &[7; 2000], 700).sync();
    again.run(&mut storage).unwrap();
    whole(&disk, script.now(), "received again");
    assert!(!open(&disk).unwrap().1.is_snapshot_damaged);
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let disk = after(&Script::founding());
    let before = contents(&disk);
    let others = [
        Identity { member: Member::new(2, 102), ..identity() },
        Identity { cluster: raft_core::ClusterId(0xc2), ..identity() },
    ];
    for other in others {
        let error = Storage::open(disk.clone(), SIZES, Some(other)).unwrap_err();
        let file = "IDENTITY".to_owned();
        assert_eq!(error, StorageError::OtherNode { file, found: identity(), expected: other });
        assert!(error.to_string().starts_with("IDENTITY: "), "{error}");
    }
    assert!(contents(&disk) == before);
    assert!(Storage::open(disk, SIZES, None).is_ok());
}

#[test]
fn a_later_format_is_refused() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 12]).sync().snapshot(9, &[7; 2000]).sync();
    let records = [
        ("IDENTITY", 0),
        ("hs.b", 4096),
        ("wal/seg-1-1.wal", 4096),
        ("snap/9-1.manifest", 0),
        ("snap/9-1.manifest2", 0),
    ];
    for (name, offset) in records {
        let disk = after(&script);
        let file = name.to_owned();
        let bytes = disk.bytes(&file).unwrap();
        let length = u32::from_le_bytes(bytes[offset + 12..offset + 16].try_into().unwrap());
        let mut record = bytes[offset..offset + 16 + length as usize].to_vec();
        record[8] = 2;
        record.extend_from_slice(&checksum(name, &record));
        disk.overwrite(&file, offset, &record);
        let before = contents(&disk);
        let error = open(&disk).unwrap_err();
        assert_eq!(error, StorageError::NewerFormat { file, found: 2, supported: 1 });
        assert!(contents(&disk) == before, "{name}");
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let disk = after(&Script::founding());
    for options in [
        StorageOptions { segment_slots: 0, ..SIZES },
        StorageOptions { chunk_bytes: 0, ..SIZES },
        StorageOptions { segment_bytes: u32::MAX, ..SIZES },
    ] {
        let error = Storage::open(disk.clone(), options, None).unwrap_err();
        assert!(matches!(error, StorageError::Options { .. }), "{error}");
    }
}

/// A snapshot that reaches further than what is left of the log is no excuse for what is missing: it
/// was made of the log, and more stood behind it.
#[test]
fn a_snapshot_hides_no_lost_end() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20, 30]).sync().term(2, Some(1)).append(&[40]).sync();
    for with_snapshot in [false, true] {
        let mut disk = MemoryDisk::default();
        Storage::format(&mut disk, identity()).unwrap();
        let mut storage = open(&disk).unwrap().0;
        script.run(&mut storage).unwrap();
        if with_snapshot {
            let snapshot = meta(script.now().log[2].0);
            let data = b"a state"[..].into();
            storage.write(Work::SaveSnapshot { snapshot, data }).unwrap();
        }
        // All but the first entry goes, and all that told of it.
        let bytes = disk.bytes("wal/seg-1-1.wal").unwrap().len();
        for (from, to) in [(8192 + 64, FIRST_BATCH), (FIRST_BATCH + 64 + 40 + 10, bytes)] {
            disk.overwrite("wal/seg-1-1.wal", from, &vec![0; to - from]);
        }
        let (_, found) = open(&disk).unwrap();
        assert!(found.hard_state.is_tail_unknown, "{with_snapshot}:\n{}", found.report);
    }
}

/// Without its newest segment a log shows again what that one had replaced. The end is unknown then,
/// and nothing of it is called committed: the old entry would be applied.
#[test]
fn what_was_replaced_is_not_committed_again() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20, 30]).sync();
    script.term(2, None).rewrite(3, &[40, 50]).sync().commit(4).append(&[60]).sync();
    script.term(3, None).sync().commit(5).term(4, None).sync();
    let disk = after(&script);
    disk.lose("wal/seg-3-2.wal");
    for context in ["the first start", "the next one"] {
        let (mut storage, found) = open(&disk).unwrap();
        assert!(found.hard_state.is_tail_unknown, "{context}");
        let log = Durable::found(&mut storage, &found).log;
        assert_ne!(log[2].0, script.now().log[2].0, "{context}: it is the old one");
        assert_eq!(found.commit, Index::ZERO, "{context}: the snapshot's");
    }
}

/// A segment that is gone as a whole is missed, though the log had gone on in it without any change of
/// the hard state.
#[test]
fn a_newest_segment_that_is_gone_is_missed() {
    for entries in 1..=3_u64 {
        let mut script = Script::founding();
        script.term(1, Some(1));
        let slots = u64::from(SIZES.segment_slots);
        for _ in 0..slots + entries {
            script.append(&[1]).sync();
        }
        let disk = after(&script);
        disk.lose(&format!("wal/seg-{}-1.wal", slots + 1));
        let found = open(&disk).unwrap().1;
        assert!(found.hard_state.is_tail_unknown, "{entries}: {}", found.report);
    }
}

/// The genesis of a blank node gives way to that of its group, in whichever call the power fails:
/// while the two copies of the manifest are not the same, an inspection says so, and the next start
/// makes them the same.
#[test]
fn a_copy_that_was_not_replaced_yet_is_named() {
    let copies = |disk: &MemoryDisk| {
        ["snap/0-0.manifest", "snap/0-0.manifest2"].map(|file| disk.bytes(file).unwrap())
    };
    let mut differed = 0;
    for call in 1.. {
        let disk = after(&Script::founding());
        let mut storage = open(&disk).unwrap().0;
        let mut script = Script::founding();
        script.persist(|batch| {
            let others = Membership::new(vec![Member::new(1, 101)], Vec::new()).unwrap();
            batch.install = Some(RecoveredState::genesis(others).snapshot);
        });
        disk.crash_at(call);
        let is_done = script.sync().run(&mut storage).is_ok();
        drop(storage);
        disk.crash(|| Fate::New);
        let [first, second] = copies(&disk);
        let is_bad_copy = |what: &What| matches!(what, What::BadCopy { record: "manifest", .. });
        let found = inspect(&mut disk.clone()).unwrap();
        let named = found.report.findings.iter().filter(|finding| is_bad_copy(&finding.what));
        assert_eq!(named.count(), usize::from(first != second), "{call}: {}", found.report);
        differed += u32::from(first != second);
        drop(open(&disk).unwrap());
        let [first, second] = copies(&disk);
        assert!(first == second, "{call}");
        if is_done {
            break;
        }
    }
    assert!(differed > 0, "some call comes between the two");
}
