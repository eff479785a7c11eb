//! Damage that comes while the storage runs: what asks for an entry is told, and a scrub finds the
//! rest.

use std::collections::BTreeSet;

use raft_core::{EntryId, Index, LoadPurpose, LoadRequest};
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{ScrubStep, Storage, StorageError, What};

use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, identity};
use crate::verdict::{FIRST_BATCH, ROOMY, healing, open, run};

/// A node that runs and has everything: sealed segments, two snapshots, a ring.
fn running() -> (MemoryDisk, Storage<MemoryDisk>, Durable) {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 12]).sync().commit(10).snapshot(4, &[6; 900]);
    script.append(&[2; 9]).sync().append(&[700, 700, 700]).sync().membership(4).sync();
    script.snapshot(9, &[7; 2000]).append(&[30, 40]).sync();
    let mut storage = open(&disk).unwrap().0;
    script.run(&mut storage).unwrap();
    (disk, storage, script.now().clone())
}

/// Entries of these sizes, each in a batch of its own; the disk was told that it rests.
fn one_by_one(sizes: &[usize]) -> (MemoryDisk, Storage<MemoryDisk>, Script) {
    let mut script = Script::founding();
    script.term(1, None);
    for size in sizes {
        script.append(&[*size]).sync();
    }
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut storage = Storage::open(disk.clone(), ROOMY, Some(identity())).unwrap().0;
    script.run(&mut storage).unwrap();
    storage.rest().unwrap();
    (disk, storage, script)
}

/// A whole round in steps of a few bytes.
fn round(storage: &mut Storage<MemoryDisk>, bytes: u64) -> ScrubStep {
    let mut all = ScrubStep::default();
    for _ in 0..10_000 {
        let step = storage.scrub(bytes).unwrap();
        assert!(step.bytes > 0 || step.is_round_over, "it goes on");
        all.bytes += step.bytes;
        all.repaired += step.repaired;
        all.damaged.extend(step.damaged);
        all.snapshots.extend(step.snapshots);
        if step.is_round_over {
            return all;
        }
    }
    panic!("a round ends");
}

#[test]
fn a_whole_disk_is_left_alone() {
    let (disk, mut storage, _) = running();
    let before = (disk.fingerprint(), disk.syncs());
    for bytes in [1, 300, 1 << 20] {
        let step = round(&mut storage, bytes);
        assert_eq!((step.repaired, step.damaged.len(), step.snapshots.len()), (0, 0, 0));
        assert!(step.bytes > 2900 + 2100, "{step:?}");
    }
    assert_eq!((disk.fingerprint(), disk.syncs()), before, "nothing is written");
}

/// Each sector of each file goes bad in turn: what is there twice is repaired, payloads and snapshots
/// are named, an older snapshot goes, and a second round finds only what the first one could not repair.
#[test]
fn every_bad_sector_is_repaired_or_named() {
    let (mut repaired, mut named, mut snapshots, mut nothing) = (0, 0, 0, 0);
    let (pristine, ..) = running();
    for file in pristine.files() {
        for offset in (0..pristine.bytes(&file).unwrap().len()).step_by(512) {
            let (disk, mut storage, expected) = running();
            let length = disk.bytes(&file).unwrap().len().min(offset + 512) - offset;
            disk.overwrite(&file, offset, &vec![0xa5; length]);
            let context = format!("{file} at {offset}");
            let first = round(&mut storage, 500);
            let second = round(&mut storage, 1 << 20);
            assert_eq!(second.repaired, 0, "{context}");
            assert_eq!(first.snapshots, second.snapshots, "{context}");
            assert_eq!(first.damaged, second.damaged, "{context}");
            repaired += u64::from(first.repaired > 0);
            named += u64::from(!first.damaged.is_empty());
            snapshots += u64::from(!first.snapshots.is_empty());
            nothing += u64::from(first == ScrubStep { bytes: first.bytes, ..Default::default() });
            if first.damaged.is_empty() && first.snapshots.is_empty() {
                drop(storage);
                let (mut storage, found) = open(&disk).unwrap();
                assert_eq!(Durable::found(&mut storage, &found), expected, "{context}");
            }
        }
    }
    println!(
        "{repaired} repaired, {named} named, {snapshots} of snapshots, {nothing} hold nothing"
    );
    assert!(repaired > 15 && named > 8 && snapshots > 3, "{repaired} {named} {snapshots}");
}

/// Who loads what has rotted gets what is before it, and is told which entries are gone; once they are
/// healed, they are there.
#[test]
fn what_is_loaded_and_damaged_is_named_and_healed() {
    let (disk, mut storage, expected) = running();
    let log = &expected.log;
    // The batch of three large entries, 22 to 24: the second and the third.
    let batch = FIRST_BATCH + 4096;
    disk.overwrite("wal/seg-17-1.wal", batch + 1024, &[0xa5; 1024]);
    let at = |index: u64| log.iter().position(|(id, _)| id.index == Index(index)).unwrap();
    let load = |storage: &mut Storage<MemoryDisk>, after: u64| {
        let request = LoadRequest {
            purpose: LoadPurpose::Apply,
            after: log[at(after)].0,
            through: Index(25),
            bytes_max: 1 << 20,
        };
        match storage.write(Work::Load(request)).unwrap() {
            Some(Done::Loaded { entries, damaged, .. }) => {
                let ids: Vec<u64> = entries
                    .iter()
                    .flat_map(|run| run.iter())
                    .map(|entry| entry.index().0)
                    .collect();
                let damaged: Vec<EntryId> = damaged;
                (ids, damaged.iter().map(|id| id.index.0).collect::<Vec<_>>())
            }
            other => panic!("{other:?}"),
        }
    };
    let (ids, damaged) = load(&mut storage, 20);
    assert_eq!((ids.last(), damaged.as_slice()), (Some(&22), [23].as_slice()));
    assert_eq!(load(&mut storage, 22), (vec![], vec![23, 24]));
    let named: BTreeSet<u64> =
        round(&mut storage, 1000).damaged.iter().map(|id| id.index.0).collect();
    assert_eq!(named, BTreeSet::from([23, 24]));
    let single = |index: u64| {
        let (id, payload) = log[at(index)].clone();
        run(log[at(index) - 1].0, id, payload.unwrap())
    };
    let batch = healing(vec![single(23), single(24)]);
    storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
    assert_eq!(load(&mut storage, 22), (vec![23, 24], vec![]), "the segment ends there");
    assert_eq!(round(&mut storage, 1000).damaged, []);
    drop(storage);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), expected);
}

/// An entry whose header is gone is kept apart: a power cut may take its slot, which it shares a sector
/// with others that are being written.
#[test]
fn an_entry_that_its_slot_alone_names_is_kept_apart() {
    let (disk, mut storage, expected) = running();
    let before = round(&mut storage, 1000);
    assert_eq!((before.repaired, before.damaged.len()), (0, 0));
    let first = FIRST_BATCH + 64;
    disk.overwrite("wal/seg-17-1.wal", first, &[0xa5; 40]);
    assert_eq!(round(&mut storage, 1000).repaired, 1);
    assert_eq!(round(&mut storage, 1000).repaired, 0);
    // What is kept apart rots as well, and is kept apart once more.
    disk.overwrite("wal/heal-1.wal", 0, &[0xa5; 64]);
    assert_eq!(round(&mut storage, 1000).repaired, 1);
    assert_eq!(round(&mut storage, 1000).repaired, 0);
    disk.overwrite("wal/seg-17-1.wal", 8192, &[0xa5; 64]);
    drop(storage);
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), expected, "{}", found.report);
}

/// Of the batch that was acknowledged last, one entry has lost its header, and is kept apart: from
/// then on it is known of all of that batch that it was durable, and what rots of it is missed.
#[test]
fn what_is_kept_apart_vouches_for_its_batch() {
    for other in 0..3 {
        let mut script = Script::founding();
        script.term(1, None).append(&[10]).sync().append(&[20, 20, 20, 20]).sync();
        let mut disk = MemoryDisk::default();
        Storage::format(&mut disk, identity()).unwrap();
        let mut storage = Storage::open(disk.clone(), ROOMY, Some(identity())).unwrap().0;
        script.run(&mut storage).unwrap();
        let header = |entry: usize| FIRST_BATCH + 4096 + 64 + entry * (40 + 20);
        disk.overwrite("wal/seg-1-1.wal", header(3), &[0xa5; 40]);
        assert_eq!(round(&mut storage, 1000).repaired, 1);
        disk.overwrite("wal/seg-1-1.wal", header(other) + 40, &[0xa5; 20]);
        drop(storage);
        let (mut storage, found) = Storage::open(disk, ROOMY, Some(identity())).unwrap();
        let mut expected = script.now().clone();
        expected.log[1 + other].1 = None;
        assert_eq!(Durable::found(&mut storage, &found), expected, "{other}: {}", found.report);
    }
}

/// An entry that has been healed keeps its place in the log. If its slot goes as well, a scrub
/// writes it again: a header, or the healed copy, would be the last that names it.
#[test]
fn the_slot_of_a_healed_entry_is_written_again() {
    // The second of the batch of three large entries, 22 to 24: its payload, or its header as well. The first
    // of that batch, with the header of the batch. The first of the segment.
    let second = FIRST_BATCH + 4096 + 1024;
    for (start, bytes, index) in [
        (second, 256, 23),
        (second - 200, 456, 23),
        (FIRST_BATCH + 4096, 512, 22),
        (FIRST_BATCH, 105, 17),
    ] {
        let (disk, mut storage, expected) = running();
        disk.overwrite("wal/seg-17-1.wal", start, &vec![0xa5; bytes]);
        let damaged = round(&mut storage, 1000).damaged;
        assert_eq!(damaged.iter().map(|id| id.index.0).collect::<Vec<_>>(), [index]);
        let log = &expected.log;
        let at = log.iter().position(|(id, _)| *id == damaged[0]).unwrap();
        let (id, payload) = log[at].clone();
        let batch = healing(vec![run(log[at - 1].0, id, payload.unwrap())]);
        storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
        assert_eq!(round(&mut storage, 1000).repaired, 0);
        let slot = 8192 + usize::try_from(index - 17).unwrap() * 64;
        let name =
            |disk: &MemoryDisk| disk.bytes("wal/seg-17-1.wal").unwrap()[slot..slot + 32].to_vec();
        let before = name(&disk);
        disk.overwrite("wal/seg-17-1.wal", slot, &[0xa5; 64]);
        assert_eq!(round(&mut storage, 1000).repaired, 1, "{index}");
        // All that is known of it, but how many entries its batch has.
        assert_eq!(name(&disk)[..30], before[..30], "{index}");
        assert_eq!(round(&mut storage, 1000).repaired, 0);
        drop(storage);
        let (mut storage, found) = open(&disk).unwrap();
        assert_eq!(Durable::found(&mut storage, &found), expected, "{}", found.report);
        let is_bad_slot = |what: &What| matches!(what, What::BadSlot { .. });
        assert!(!found.report.findings.iter().any(|finding| is_bad_slot(&finding.what)));
    }
}

/// A slot that a scrub has written again does not say how many entries its batch has. The batch does: it is
/// whole, and nothing was being written.
#[test]
fn a_slot_that_is_written_again_makes_no_batch_look_torn() {
    // The last batch, of two entries: the first one's slot, the last one's.
    for slot in [1, 2] {
        let (disk, mut storage, expected) = running();
        storage.rest().unwrap();
        disk.overwrite("wal/seg-25-1.wal", 8192 + slot * 64, &[0xa5; 64]);
        assert_eq!(round(&mut storage, 1000).repaired, 1);
        drop(storage);
        let (mut storage, found) = open(&disk).unwrap();
        assert_eq!(Durable::found(&mut storage, &found), expected);
        assert!(found.report.is_clean(), "{slot}: {}", found.report);
    }
}

/// Neighbours have been healed of which nothing is left in their places, so that no header leads from one to
/// the next. If their slots go as well, a scrub writes all of them again, and a start misses nothing.
#[test]
fn the_slots_of_healed_neighbours_are_written_again() {
    // The batch of three large entries, 22 to 24; the last two of it; the first two batches.
    let second = FIRST_BATCH + 4096;
    for (start, bytes, healed) in [
        (second, 2300, 22..=24u64),
        (second + 1024, 1500, 23..=24),
        (FIRST_BATCH, 4096 + 2300, 17..=24),
    ] {
        let healed: Vec<u64> = healed.collect();
        let (disk, mut storage, expected) = running();
        disk.overwrite("wal/seg-17-1.wal", start, &vec![0xa5; bytes]);
        let damaged = round(&mut storage, 1000).damaged;
        assert_eq!(damaged.iter().map(|id| id.index.0).collect::<Vec<_>>(), healed);
        let log = &expected.log;
        let at = log.iter().position(|(id, _)| *id == damaged[0]).unwrap();
        let of = |at: usize| run(log[at - 1].0, log[at].0, log[at].1.clone().unwrap());
        let batch = healing((at..at + healed.len()).map(of).collect());
        storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
        assert_eq!(round(&mut storage, 1000).repaired, 0);
        let slot = 8192 + usize::try_from(healed[0] - 17).unwrap() * 64;
        disk.overwrite("wal/seg-17-1.wal", slot, &vec![0xa5; 64 * healed.len()]);
        assert_eq!(round(&mut storage, 1000).repaired, healed.len() as u64);
        assert_eq!(round(&mut storage, 1000).repaired, 0);
        drop(storage);
        let (mut storage, found) = open(&disk).unwrap();
        assert_eq!(Durable::found(&mut storage, &found), expected, "{}", found.report);
        let is_bad_slot = |what: &What| matches!(what, What::BadSlot { .. });
        let bad = found.report.findings.iter().filter(|finding| is_bad_slot(&finding.what));
        assert_eq!(bad.count(), 0, "{}", found.report);
    }
}

/// One entry must be kept apart, for which a full disk has no room, and two others are damaged: these are
/// named once, at once, and the first is kept apart when there is room.
#[test]
fn a_full_disk_does_not_hide_what_is_damaged() {
    let (disk, mut storage, _) = running();
    disk.overwrite("wal/seg-17-1.wal", FIRST_BATCH + 64, &[0xa5; 40]);
    disk.overwrite("wal/seg-17-1.wal", FIRST_BATCH + 4096 + 1024, &[0xa5; 1024]);
    disk.limit_space(0);
    let step = storage.scrub(1 << 20).unwrap();
    let named: Vec<u64> = step.damaged.iter().map(|id| id.index.0).collect();
    assert_eq!((named.as_slice(), step.repaired), ([23, 24].as_slice(), 0));
    for _ in 0..3 {
        let error = storage.scrub(1 << 20).unwrap_err();
        assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
    }
    disk.limit_space(u64::MAX);
    let step = round(&mut storage, 1 << 20);
    assert_eq!((step.repaired, step.damaged.len()), (1, 0), "the rest of that round");
    let again: Vec<u64> =
        round(&mut storage, 1 << 20).damaged.iter().map(|id| id.index.0).collect();
    assert_eq!(again, named, "another round names them again");
}

/// The end of a log is gone, and what of it had been vouched for is healed: the rest is not forgotten.
#[test]
fn what_is_healed_is_no_proof_that_there_was_no_more() {
    let mut script = Script::founding();
    script
        .term(1, None)
        .append(&[10])
        .sync()
        .append(&[20])
        .sync()
        .term(2, None)
        .append(&[30])
        .sync();
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut storage = Storage::open(disk.clone(), ROOMY, Some(identity())).unwrap().0;
    script.run(&mut storage).unwrap();
    for from in [8192 + 64, FIRST_BATCH + 4096, FIRST_BATCH + 2 * 4096] {
        disk.overwrite("wal/seg-1-1.wal", from, &[0; 448]);
    }
    assert_eq!(round(&mut storage, 1000).damaged.len(), 2);
    let log = &script.now().log;
    let (id, payload) = log[1].clone();
    let batch = healing(vec![run(log[0].0, id, payload.unwrap())]);
    storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
    drop(storage);
    let found = Storage::open(disk, ROOMY, Some(identity())).unwrap().1;
    let is_there = found.slots.len() == 3;
    assert!(is_there || found.hard_state.is_tail_unknown, "{}", found.report);
}

/// One entry has lost its header, and its neighbour its slot, or has none yet: what names the first
/// is written together with that slot, and must not be lost in whichever call the power fails.
#[test]
fn no_name_is_put_at_risk() {
    // The second and the third of the batch of three large entries, 22 to 24. The last entry before
    // those that have no slots yet.
    let large = ("wal/seg-17-1.wal", FIRST_BATCH + 4096 + 64 + 40 + 700);
    let last = ("wal/seg-25-1.wal", FIRST_BATCH + 64);
    for ((file, header), slot) in [(large, Some(8192 + (24 - 17) * 64)), (last, None)] {
        for call in 1.. {
            let (disk, mut storage, expected) = running();
            disk.overwrite(file, header, &[0xa5; 40]);
            if let Some(slot) = slot {
                storage.rest().unwrap();
                disk.overwrite(file, slot, &[0xa5; 64]);
            }
            disk.crash_at(call);
            let is_over = storage.scrub(1 << 20).map(|step| step.repaired);
            drop(storage);
            disk.crash(|| Fate::Garbage);
            let (mut storage, found) = open(&disk).unwrap();
            assert_eq!(Durable::found(&mut storage, &found), expected, "{call}: {}", found.report);
            if let Ok(repaired) = is_over {
                assert_eq!(repaired, 1 + u64::from(slot.is_some()), "the entry and the slot");
                break;
            }
        }
    }
}

/// The newest file of the log is gone, and of its entries only a healed copy is left: that what came after it
/// has been there is not forgotten.
#[test]
fn a_file_that_is_gone_is_missed_though_its_first_entry_was_healed() {
    let mut script = Script::founding();
    script.term(1, None);
    for size in [700, 1400, 700, 1400, 700, 20, 30, 40] {
        script.append(&[size]).sync();
    }
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut storage = open(&disk).unwrap().0;
    script.run(&mut storage).unwrap();
    let is_segment = |file: &String| file.starts_with("wal/seg-");
    let newest = disk.files().into_iter().filter(is_segment).max_by_key(|file| {
        file["wal/seg-".len()..].split_once('-').unwrap().0.parse::<usize>().unwrap()
    });
    let newest = newest.unwrap();
    let first = newest["wal/seg-".len()..].split_once('-').unwrap().0.parse::<usize>().unwrap();
    let log = script.now().log.clone();
    assert!(1 < first && first < log.len(), "{newest} of {}", log.len());
    disk.overwrite(&newest, FIRST_BATCH, &[0; 512]);
    assert_eq!(round(&mut storage, 1000).damaged, [log[first - 1].0]);
    let single = run(log[first - 2].0, log[first - 1].0, log[first - 1].1.clone().unwrap());
    let batch = healing(vec![single]);
    storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
    drop(storage);
    let healed = open(&disk.fork()).unwrap().1;
    assert_eq!((healed.slots.len(), healed.hard_state.is_tail_unknown), (log.len(), false));
    disk.lose(&newest);
    let found = open(&disk).unwrap().1;
    assert!(found.hard_state.is_tail_unknown, "{}", found.report);
}

/// Entries are healed of which nothing says any more where they stood; what is appended then is found
/// behind them all the same, though its slot is not written yet.
#[test]
fn what_comes_after_healed_entries_is_found() {
    let (disk, mut storage, script) = one_by_one(&[10, 20, 30]);
    for from in [8192 + 64, FIRST_BATCH + 4096, FIRST_BATCH + 2 * 4096] {
        disk.overwrite("wal/seg-1-1.wal", from, &[0; 448]);
    }
    assert_eq!(round(&mut storage, 1000).damaged.len(), 2);
    let log = script.now().log.clone();
    let runs = [1, 2].map(|at| run(log[at - 1].0, log[at].0, log[at].1.clone().unwrap()));
    let mut more = Script::new(script.now().clone());
    more.heal(&runs).sync().append(&[40]).sync();
    more.run(&mut storage).unwrap();
    drop(storage);
    let (mut storage, found) = Storage::open(disk, ROOMY, Some(identity())).unwrap();
    assert!(!found.hard_state.is_tail_unknown, "{}", found.report);
    assert_eq!(Durable::found(&mut storage, &found), *more.now());
}

/// The slots of healed entries are lost, of which nothing says any more where they stood: behind them the
/// headers of batches lead on, and what can be read there is neither damaged nor given another place.
#[test]
fn headers_of_batches_lead_on_behind_healed_entries() {
    for are_read_later in [false, true] {
        let (disk, mut storage, script) = one_by_one(&[10, 20, 30, 40, 50]);
        const FILE: &str = "wal/seg-1-1.wal";
        let slots = 8192 + 64;
        let batches = [4, 5].map(|index| FIRST_BATCH + (index - 1) * 4096);
        let mut lost = vec![2, 3];
        let kept = batches.map(|from| disk.bytes(FILE).unwrap()[from..from + 512].to_vec());
        if are_read_later {
            // Their sectors cannot be read for a while.
            batches.iter().for_each(|from| disk.overwrite(FILE, *from, &[0; 512]));
            lost.extend([4, 5]);
        }
        for from in [slots, FIRST_BATCH + 4096, FIRST_BATCH + 2 * 4096] {
            disk.overwrite(FILE, from, &[0; 448]);
        }
        let log = script.now().log.clone();
        let named: Vec<EntryId> = lost.iter().map(|index| log[index - 1].0).collect();
        assert_eq!(round(&mut storage, 1000).damaged, named);
        let runs = lost.iter().map(|&index| {
            run(log[index - 2].0, log[index - 1].0, log[index - 1].1.clone().unwrap())
        });
        let mut heal = Script::new(script.now().clone());
        heal.heal(&runs.collect::<Vec<_>>()).sync();
        heal.run(&mut storage).unwrap();

        disk.overwrite(FILE, slots, &[0; 448]);
        let step = round(&mut storage, 1000);
        assert_eq!((step.damaged, step.repaired), (Vec::new(), 4), "{are_read_later}");
        if are_read_later {
            for (from, bytes) in batches.iter().zip(&kept) {
                disk.overwrite(FILE, *from, bytes);
            }
        }
        drop(storage);
        let (mut storage, found) = Storage::open(disk, ROOMY, Some(identity())).unwrap();
        assert!(!found.hard_state.is_tail_unknown, "{}", found.report);
        assert_eq!(Durable::found(&mut storage, &found), *heal.now());
    }
}
