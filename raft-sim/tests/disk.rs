//! The simulated disk keeps what a disk promises, and no more.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use raft_replica::disk::{Disk, DiskError};
use raft_sim::disk::{Failed, Lie, SECTOR_BYTES, SimDisk, SyncFailure};
use raft_sim::fault::Fault;
use raft_sim::options::{ClientOptions, Options};
use raft_sim::power::PowerLoss;
use raft_sim::report::Report;
use raft_sim::rng::{Purpose, Stream};
use raft_sim::run::{self, How};

const OLD: u8 = 1;
const NEW: u8 = 2;
const SECTORS: usize = 8;

fn stream(entity: u64) -> Stream {
    Stream::new(7, Purpose::DiskCrash, entity)
}

/// A disk with a durable file of old sectors.
fn disk(lie: Lie) -> (SimDisk, raft_sim::disk::SimFile) {
    let mut disk = SimDisk::new(lie);
    let file = disk.create("hs.a", 0).unwrap();
    disk.write(&file, 0, &[OLD; SECTORS * SECTOR_BYTES]).unwrap();
    disk.sync(&file).unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

fn read(disk: &mut SimDisk, file: &raft_sim::disk::SimFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.len(file).unwrap()).unwrap()];
    disk.read(file, 0, &mut bytes).unwrap();
    bytes
}

/// What became of each sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sector {
    Old,
    New,
    Garbage,
}

fn sectors(bytes: &[u8]) -> Vec<Sector> {
    let judge = |sector: &[u8]| match sector {
        all if all.iter().all(|&byte| byte == OLD) => Sector::Old,
        all if all.iter().all(|&byte| byte == NEW) => Sector::New,
        _ => Sector::Garbage,
    };
    bytes.chunks(SECTOR_BYTES).map(judge).collect()
}

#[test]
fn what_was_synced_survives_every_power_loss() {
    let (mut disk, file) = disk(Lie::None);
    for entity in 0..50 {
        assert_eq!(disk.lose_power(&mut stream(entity)), PowerLoss::default());
        assert_eq!(sectors(&read(&mut disk, &file)), [Sector::Old; SECTORS]);
    }
}

#[test]
fn an_unsynced_sector_is_old_new_or_garbage_each_by_itself() {
    let mut seen = std::collections::BTreeSet::new();
    for entity in 0..400 {
        let (mut disk, file) = disk(Lie::None);
        disk.write(&file, 0, &[NEW; 4 * SECTOR_BYTES]).unwrap();
        let loss = disk.lose_power(&mut stream(entity));
        let after = sectors(&read(&mut disk, &file));
        assert_eq!(after[4..], [Sector::Old; 4], "what was not written does not change");
        assert_eq!(loss.old + loss.new, 4);
        let is_new = after == [[Sector::New; 4], [Sector::Old; 4]].concat();
        assert_eq!(loss.is_effective(), !is_new, "{loss:?} {after:?}");
        seen.insert(after[..4].to_vec());
    }
    let has = |sectors: [Sector; 4]| seen.contains(sectors.as_slice());
    assert!(has([Sector::Old; 4]) && has([Sector::New; 4]), "nothing and everything");
    assert!(has([Sector::New, Sector::Old, Sector::New, Sector::Old]), "any subset");
    assert!(seen.iter().any(|sectors| sectors.contains(&Sector::Garbage)));
    assert!(seen.len() > 30, "{} outcomes", seen.len());
}

#[test]
fn a_sector_written_twice_may_be_left_as_it_was_in_between() {
    let mut between = 0;
    for entity in 0..100 {
        let (mut disk, file) = disk(Lie::None);
        disk.write(&file, 0, &[NEW; SECTOR_BYTES]).unwrap();
        disk.write(&file, 0, &[3; SECTOR_BYTES]).unwrap();
        let _ = disk.lose_power(&mut stream(entity));
        between += usize::from(sectors(&read(&mut disk, &file))[0] == Sector::New);
    }
    assert!(between > 5, "{between}");
}

#[test]
fn names_that_were_not_synced_may_be_gone_or_old() {
    let mut outcomes = std::collections::BTreeSet::new();
    for entity in 0..200 {
        let (mut disk, _) = disk(Lie::None);
        disk.rename("hs.a", "hs.b").unwrap();
        let file = disk.create("new", 100).unwrap();
        disk.sync(&file).unwrap();
        let _ = disk.lose_power(&mut stream(entity));
        outcomes.insert(disk.list("").unwrap());
    }
    let has = |names: &[&str]| outcomes.iter().any(|outcome| outcome == names);
    assert!(has(&["hs.a"]) && has(&["hs.b"]) && has(&["hs.a", "new"]) && has(&["hs.b", "new"]));
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn synced_names_stay_and_a_lost_directory_takes_its_files_along() {
    let (mut disk, _) = disk(Lie::None);
    disk.create_dir("wal").unwrap();
    disk.sync_dir("").unwrap();
    disk.create_dir("snap").unwrap();
    disk.create("snap/1", 10).unwrap();
    disk.sync_dir("snap").unwrap();
    disk.remove("hs.a").unwrap();
    disk.sync_dir("").unwrap();
    for entity in 0..50 {
        let _ = disk.lose_power(&mut stream(entity));
        assert_eq!(disk.list("").unwrap(), ["snap", "wal"]);
    }
    assert_eq!(disk.list("snap").unwrap(), ["1"]);
    assert_eq!(disk.open("hs.a"), Err(DiskError::NotFound));
    assert_eq!(disk.list("other"), Err(DiskError::NotFound));
}

#[test]
fn what_is_removed_makes_room_on_a_small_disk() {
    let (mut disk, file) = disk(Lie::None);
    let old = (SECTORS * SECTOR_BYTES) as u64;
    disk.set_capacity(old + 3000);
    let one = disk.create("one", 2000).unwrap();
    assert!(disk.has_room(1000) && !disk.has_room(1001));
    assert_eq!(disk.create("two", 1001), Err(DiskError::NoSpace));
    assert_eq!(disk.write(&file, old, &[NEW; 1001]), Err(DiskError::NoSpace));
    disk.write(&file, old - 1, &[NEW; 1001]).unwrap();
    assert!(disk.has_room(0) && !disk.has_room(1));
    disk.write(&one, 0, &[NEW; 2000]).unwrap();
    disk.remove("one").unwrap();
    assert!(disk.has_room(2000) && !disk.has_room(2001));
    disk.create("two", 2000).unwrap();
    assert_eq!(disk.create("three", 1), Err(DiskError::NoSpace));
}

#[test]
fn what_is_removed_makes_room_on_a_disk_that_somebody_else_fills_unless_nothing_does() {
    let (mut disk, _) = disk(Lie::None);
    disk.create("one", 2000).unwrap();
    disk.fill(Some(1000));
    assert!(disk.has_room(1000) && !disk.has_room(1001));
    disk.fill(Some(3000));
    assert!(!disk.has_room(1001), "nobody makes space by taking some");
    disk.remove("one").unwrap();
    assert!(disk.has_room(3000) && !disk.has_room(3001));
    disk.create("two", 2000).unwrap();
    assert_eq!(disk.create("three", 1001), Err(DiskError::NoSpace));
    disk.fill(None);
    disk.remove("two").unwrap();
    assert!(!disk.has_room(0), "nor is there room for an empty file");
    disk.make_space();
    assert!(disk.has_room(1 << 40));
}

#[test]
fn a_file_that_has_lost_its_room_does_not_come_back() {
    let mut came_back = [0, 0];
    for entity in 0..100 {
        let (mut disk, _) = disk(Lie::None);
        let capacity = (SECTORS * SECTOR_BYTES) as u64 + 3000;
        disk.set_capacity(capacity);
        for name in ["one", "other"] {
            let file = disk.create(name, 1500).unwrap();
            disk.sync(&file).unwrap();
        }
        disk.sync_dir("").unwrap();
        disk.remove("one").unwrap();
        let needs_room = entity % 2 == 0;
        if needs_room {
            let new = disk.create("new", 1000).unwrap();
            disk.sync(&new).unwrap();
        }
        let _ = disk.lose_power(&mut stream(entity));
        let files = disk.contents();
        came_back[usize::from(needs_room)] += usize::from(files.iter().any(|file| file.0 == "one"));
        let used: usize = files.iter().map(|(_, data)| data.len()).sum();
        assert!(used as u64 <= capacity, "{used} bytes of {capacity}");
        assert!(files.iter().any(|file| file.0 == "other"));
    }
    assert!(came_back[0] > 10, "without anything in its place it may");
    assert_eq!(came_back[1], 0);
}

#[test]
fn an_armed_disk_dies_in_the_midst_of_an_operation() {
    for operations in 1..=3 {
        let (mut disk, file) = disk(Lie::None);
        disk.arm(operations);
        let results = [
            disk.write(&file, 0, &[NEW; SECTOR_BYTES]),
            disk.write(&file, 512, &[NEW; SECTOR_BYTES]),
            disk.sync(&file),
        ];
        let done = results.iter().take_while(|result| result.is_ok()).count();
        assert_eq!(done + 1, operations as usize);
        assert!(disk.is_dead());
        assert!(disk.open("hs.a").is_err(), "a dead disk serves nothing");
        let _ = disk.lose_power(&mut stream(3));
        assert!(!disk.is_dead() && disk.open("hs.a").is_ok());
    }
}

/// Who removes a file that may be absent takes the refusal for success: the power must not have
/// failed in that call.
#[test]
fn an_armed_disk_does_not_die_in_a_call_that_it_refuses() {
    let (mut disk, file) = disk(Lie::None);
    disk.arm(1);
    assert_eq!(disk.remove("absent"), Err(DiskError::NotFound));
    assert_eq!(disk.rename("absent", "other"), Err(DiskError::NotFound));
    assert_eq!(disk.create("hs.a", 512).err(), Some(DiskError::Exists));
    assert!(!disk.is_dead());
    assert!(disk.sync(&file).is_err() && disk.is_dead());
}

#[test]
fn a_failed_sync_drops_pages_or_hides_that_they_are_lost() {
    let (mut dropping, file) = disk(Lie::None);
    dropping.write(&file, 0, &[NEW; SECTORS * SECTOR_BYTES]).unwrap();
    dropping.fail_next_sync(SyncFailure::DropsPages, stream(1).draw());
    assert!(dropping.sync(&file).is_err());
    let failed = Failed { fault: Fault::SyncDrops, took_hold: true, call: None };
    assert_eq!((dropping.take_failed(), dropping.take_failed()), (Some(failed), None));
    let shown = sectors(&read(&mut dropping, &file));
    assert!(shown.contains(&Sector::Old) && shown.contains(&Sector::New), "{shown:?}");

    let (mut keeping, file) = disk(Lie::None);
    keeping.write(&file, 0, &[NEW; SECTORS * SECTOR_BYTES]).unwrap();
    keeping.fail_next_sync(SyncFailure::KeepsPages, stream(1).draw());
    assert!(keeping.sync(&file).is_err());
    keeping.sync(&file).unwrap();
    assert_eq!(sectors(&read(&mut keeping, &file)), [Sector::New; SECTORS]);
    keeping.write(&file, 0, &[NEW; SECTOR_BYTES]).unwrap();
    keeping.sync(&file).unwrap();
    let loss = (0..20).map(|entity| keeping.lose_power(&mut stream(entity)).old).max();
    assert!(loss > Some(0), "the sync that succeeded did not write what the cache called clean");
    assert_eq!(sectors(&read(&mut keeping, &file))[0], Sector::New, "what was rewritten is there");
}

#[test]
fn what_a_power_loss_could_take_back_is_named() {
    let (mut disk, file) = disk(Lie::None);
    let unsynced = |disk: &SimDisk| disk.unsynced(|path| path == "scratch");
    assert_eq!(unsynced(&disk), None);
    disk.write(&file, 0, &[NEW]).unwrap();
    assert_eq!(unsynced(&disk).as_deref(), Some("bytes of hs.a"));
    disk.sync(&file).unwrap();
    disk.create("scratch", 1).unwrap();
    assert_eq!(unsynced(&disk), None, "a scratch file promises nothing");
    disk.rename("scratch", "new").unwrap();
    assert_eq!(unsynced(&disk).as_deref(), Some("the name new"));
    disk.sync_dir("").unwrap();
    assert_eq!(unsynced(&disk).as_deref(), Some("bytes of new"));
    let new = disk.open("new").unwrap();
    disk.sync(&new).unwrap();
    disk.remove("new").unwrap();
    assert_eq!(unsynced(&disk), None, "a removal takes nothing back");
    disk.write(&file, 0, &[NEW]).unwrap();
    disk.fail_next_sync(SyncFailure::KeepsPages, stream(1).draw());
    assert!(disk.sync(&file).is_err());
    disk.sync(&file).unwrap();
    assert_eq!(unsynced(&disk).as_deref(), Some("bytes of hs.a"), "a retry writes nothing");
    disk.taken();
    assert_eq!(unsynced(&disk), None, "the next process does not answer for that");
}

#[test]
fn a_lying_disk_lies() {
    let (mut all, file) = disk(Lie::AllSyncs);
    assert_eq!(all.unsynced(|_| false).as_deref(), Some("the name hs.a"));
    let lost = (0..20).map(|entity| all.lose_power(&mut stream(entity))).any(|loss| loss.names > 0);
    assert!(lost && all.list("").unwrap().is_empty());
    assert!(all.read(&file, 0, &mut [0]).is_err());

    let (mut vote, file) = disk(Lie::HardStateSyncs);
    assert_eq!(vote.unsynced(|_| false), None, "nobody is told of this lie");
    let _ = vote.lose_power(&mut stream(9));
    vote.write(&file, 0, &[NEW; SECTOR_BYTES]).unwrap();
    vote.sync(&file).unwrap();
    let old = (0..20).map(|entity| vote.lose_power(&mut stream(entity)).old).max();
    assert!(old > Some(0));
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let (mut disk, file) = disk(Lie::None);
    assert_eq!(disk.create("hs.a", 0).unwrap_err(), DiskError::Exists);
    assert_eq!(disk.create("no/such", 0).unwrap_err(), DiskError::NotFound);
    assert_eq!(disk.rename("none", "other"), Err(DiskError::NotFound));
    assert_eq!(disk.remove("none"), Err(DiskError::NotFound));
    assert_eq!(disk.read(&file, u64::MAX, &mut [0]), Err(DiskError::NoSpace));
    assert_eq!(disk.read(&file, 4090, &mut [0; 7]), Err(DiskError::Short));
    disk.fail_next_write();
    assert!(disk.write(&file, 0, &[NEW]).is_err());
    assert_eq!(sectors(&read(&mut disk, &file)), [Sector::Old; SECTORS], "nothing was written");
}

/// A cluster without faults whose nodes have so much room for their files.
fn cluster(disk_bytes: u64, snapshot_after_entries: u64) -> Report {
    let options = Options {
        disk_bytes,
        snapshot_after_entries,
        segment_slots: 64,
        client: ClientOptions { padding: 1000, ..ClientOptions::default() },
        ..Options::default()
    };
    run::options(&options, How::once(options.events))
}

/// All that is written would fill them many times.
#[test]
fn a_cluster_on_small_disks_goes_on_as_long_as_it_takes_snapshots() {
    const DISK_BYTES: u64 = 400 << 10;
    // There is one client: each of its commands is a batch, and that begins on a page of its own.
    const PAGE: u64 = 4096;
    let report = cluster(DISK_BYTES, 24);
    assert!(report.failure.is_none(), "{report}");
    let written = report.committed * PAGE;
    assert!(written > 4 * DISK_BYTES, "only {written} bytes on {DISK_BYTES}");

    let report = cluster(DISK_BYTES, u64::MAX);
    let failure = report.failure.as_ref().map(|failure| failure.id());
    assert_eq!(failure, Some("LV"), "without snapshots it stands still: {report}");
    assert!(report.committed * PAGE < DISK_BYTES, "{} entries", report.committed);
}
