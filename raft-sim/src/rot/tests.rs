//! Wounds are what they say, can be mended, and are found where they are looked for.

use super::*;
use crate::disk::{Call, Lie, SimDisk};
use crate::rng::{Purpose, Stream};
use raft_replica::disk::Disk;

#[test]
fn one_durable_sector_is_hurt_and_can_be_mended() {
    let mut disk = SimDisk::new(Lie::None);
    disk.create_dir("wal").unwrap();
    let file = disk.create("wal/seg", 4096).unwrap();
    let bytes: Vec<u8> = (0..2048u16).map(|n| u8::try_from(n / 100 + 1).unwrap()).collect();
    disk.write(&file, 512, &bytes).unwrap();
    let mut stream = Stream::new(1, Purpose::Nemesis, 0);
    assert_eq!(disk.hurt(Fault::BitRot, true, &mut stream.draw()), None);
    disk.sync(&file).unwrap();
    disk.sync_dir("").unwrap();
    disk.sync_dir("wal").unwrap();

    let before = disk.contents();
    for fault in [Fault::BitRot, Fault::ZeroedSector, Fault::Misdirected] {
        let mut wounds = (0..8).filter_map(|_| disk.hurt(fault, true, &mut stream.draw()));
        let wound = wounds.next().unwrap();
        let after = disk.contents();
        let pairs = before[0].1.iter().zip(&after[0].1).enumerate();
        let changed: Vec<usize> =
            pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at / SECTOR_BYTES).collect();
        assert!(changed.iter().all(|sector| (1..5).contains(sector)), "{changed:?}");
        assert_eq!(changed.first(), changed.last(), "one sector only");
        assert_eq!(disk.file_of(&wound).as_deref(), Some("wal/seg"));
        assert!(disk.is_open(&wound));
        disk.mend(&wound);
        assert_eq!(disk.contents(), before);
        assert!(!disk.is_open(&wound));
    }
}

#[test]
fn what_a_sync_has_lied_about_is_taken_back_unless_another_one_was_honest() {
    for is_honest in [false, true] {
        let mut disk = SimDisk::new(Lie::None);
        let file = disk.create("hs.a", 1024).unwrap();
        disk.write(&file, 0, &[1; 1024]).unwrap();
        disk.sync(&file).unwrap();
        disk.sync_dir("").unwrap();
        disk.lie_next_sync();
        disk.write(&file, 0, &[2; 512]).unwrap();
        disk.write(&file, 0, &[3; 512]).unwrap();
        disk.sync(&file).unwrap();
        assert_eq!(disk.unsynced(|_| false), None, "so it says");
        if is_honest {
            disk.sync(&file).unwrap();
        }
        assert_eq!(disk.contents()[0].1[..512], [3; 512]);
        let wound = disk.take_back();
        assert_eq!(wound.is_none(), is_honest);
        let there = if is_honest { 3 } else { 1 };
        assert_eq!(disk.contents()[0].1[..512], [there; 512]);
        if let Some(wound) = wound {
            assert_eq!(disk.file_of(&wound).as_deref(), Some("hs.a"));
            disk.mend(&wound);
            assert_eq!(disk.contents()[0].1[..512], [3; 512]);
        }
    }
}

#[test]
fn a_write_goes_astray_or_stops_half_way() {
    let mut disk = SimDisk::new(Lie::None);
    disk.keep_past();
    let file = disk.create("hs.a", 1024).unwrap();
    for byte in [1, 2] {
        disk.write(&file, 0, &[byte; 512]).unwrap();
        disk.write(&file, 512, &[byte + 4; 512]).unwrap();
        disk.sync(&file).unwrap();
    }
    disk.sync_dir("").unwrap();
    let mut stream = Stream::new(1, Purpose::Nemesis, 0);
    let wound =
        (0..8).find_map(|_| disk.hurt(Fault::StrayWrite, true, &mut stream.draw())).unwrap();
    let sectors = |disk: &SimDisk| [0, 512].map(|at| disk.contents()[0].1[at]);
    assert!([[1, 2], [6, 5]].contains(&sectors(&disk)), "{:?}", sectors(&disk));
    disk.mend(&wound);
    assert_eq!(sectors(&disk), [2, 6]);

    disk.cut_next_write(stream.draw());
    assert!(disk.write(&file, 0, &[9; 1024]).is_err());
    let failed = disk.take_failed().unwrap();
    assert_eq!((failed.fault, failed.took_hold), (Fault::ShortWrite, true));
    let bytes = &disk.contents()[0].1;
    let part = bytes.iter().take_while(|byte| **byte == 9).count();
    assert!(0 < part && part < 1024 && !bytes[part..].contains(&9), "{part}");
    assert_eq!(disk.write(&file, 0, &[9; 1024]), Ok(()));

    disk.fail_writes(3);
    for fails in [true, true, true, false] {
        assert_eq!(disk.write(&file, 0, &[9; 8]).is_err(), fails);
        assert_eq!(
            disk.take_failed().map(|failed| failed.fault == Fault::WriteError).is_some(),
            fails
        );
    }
}

#[test]
fn a_call_that_changes_a_directory_fails_and_has_been_done_or_not() {
    let mut stream = Stream::new(1, Purpose::Nemesis, 0);
    let mut seen = [[false; 2]; 5];
    for _ in 0..16 {
        for call in [Call::Create, Call::CreateDir, Call::Rename, Call::Remove, Call::SyncDir] {
            let mut disk = SimDisk::new(Lie::None);
            disk.create("old", 0).unwrap();
            disk.fail_next(call, stream.draw());
            // What is of another kind is spared.
            match call {
                Call::Create => disk.create_dir("other").unwrap(),
                Call::CreateDir | Call::Rename | Call::Remove | Call::SyncDir => {
                    disk.create("other", 0).map(drop).unwrap();
                }
            }
            let failed = match call {
                Call::Create => disk.create("new", 0).map(drop),
                Call::CreateDir => disk.create_dir("new"),
                Call::Rename => disk.rename("old", "new"),
                Call::Remove => disk.remove("old"),
                Call::SyncDir => disk.sync_dir(""),
            };
            assert!(failed.is_err());
            assert_eq!(disk.take_failed().and_then(|failed| failed.call), Some(call));
            disk.sync_dir("").map(drop).unwrap();
            let names = disk.list("").unwrap();
            let is_done = match call {
                Call::Create | Call::CreateDir | Call::Rename => names.contains(&"new".to_owned()),
                Call::Remove => !names.contains(&"old".to_owned()),
                Call::SyncDir => names.len() == 2,
            };
            seen[call as usize][usize::from(is_done)] = true;
        }
    }
    let [made, dir, renamed, removed, synced] = seen;
    assert_eq!([made, dir, renamed, removed], [[true; 2]; 4]);
    // What a failed one has left, the next one makes durable.
    assert_eq!(synced, [false, true]);
}

#[test]
fn sectors_come_back_as_before_or_not_at_all() {
    let mut disk = SimDisk::new(Lie::None);
    disk.keep_past();
    disk.create_dir("wal").unwrap();
    let file = disk.create("wal/seg-1-1.wal", 16384).unwrap();
    disk.sync_dir("").unwrap();
    disk.sync_dir("wal").unwrap();
    for byte in [7, 9] {
        disk.write(&file, 8192, &[byte; 512]).unwrap();
        disk.sync(&file).unwrap();
    }
    let mut stream = Stream::new(1, Purpose::Nemesis, 0);
    let read = |disk: &mut SimDisk| {
        let mut bytes = [0; 512];
        disk.read(&file, 8192, &mut bytes).map(|()| bytes)
    };
    let wound = disk.hurt(Fault::LostWrite, true, &mut stream.draw()).unwrap();
    assert_eq!(read(&mut disk), Ok([7; 512]));
    disk.mend(&wound);
    assert_eq!(read(&mut disk), Ok([9; 512]));

    let (mut sticky, mut transient) = (0, 0);
    for _ in 0..32 {
        let wound = disk.hurt(Fault::Unreadable, true, &mut stream.draw()).unwrap();
        assert!(disk.peek(read).is_err());
        let is_over = (0..8).any(|_| read(&mut disk).is_ok());
        *(if is_over { &mut transient } else { &mut sticky }) += 1;
        disk.mend(&wound);
        assert!(read(&mut disk).is_ok());
    }
    assert!(sticky > 4 && transient > 4, "{sticky} {transient}");
    let wound = disk.hurt(Fault::Unreadable, true, &mut stream.draw()).unwrap();
    disk.write(&file, 8192, &[1; 512]).unwrap();
    assert_eq!(read(&mut disk), Ok([1; 512]));
    assert!(disk.is_open(&wound), "a power cut could bring it back");
    disk.sync(&file).unwrap();
    assert!(!disk.is_open(&wound));
}

#[test]
fn the_end_of_a_log_is_lost_and_can_be_given_back() {
    // The headers of the newest segment may have come from an earlier one.
    for first in [5, 2] {
        loses_its_end(first);
    }
}

fn loses_its_end(first: u64) {
    let mut disk = SimDisk::new(Lie::None);
    disk.create_dir("wal").unwrap();
    for (name, len) in [("wal/seg-1-1.wal", 16384), ("wal/seg-5-2.wal", 24576)] {
        let file = disk.create(name, len).unwrap();
        for page in (12288..len).step_by(PAGE) {
            disk.write(&file, page, b"RBAT").unwrap();
            disk.write(&file, page + 24, &(first + page / 16384).to_le_bytes()).unwrap();
        }
        disk.write(&file, 8192, &[1; 128]).unwrap();
        disk.sync(&file).unwrap();
    }
    disk.sync_dir("").unwrap();
    disk.sync_dir("wal").unwrap();
    let before = disk.contents();
    let mut stream = Stream::new(1, Purpose::Nemesis, 0);
    let (mut names, mut ends) = (0, 0);
    for _ in 0..32 {
        let wound = disk.hurt(Fault::LostTail, true, &mut stream.draw()).unwrap();
        let after = disk.contents();
        assert_eq!(after[0], before[0], "the older segment is left alone");
        names += usize::from(after.len() < before.len());
        ends += usize::from(after.len() == before.len());
        disk.mend(&wound);
        assert_eq!(disk.contents(), before);
    }
    assert!(names > 2 && ends > 2, "{names} {ends}");
    let is_whole = |disk: &mut SimDisk| disk.contents()[1] == before[1];
    assert!(!disk.peek_without_slots(is_whole) && is_whole(&mut disk));
}

/// Slots that alone know of an entry are at risk in every later write of their sector.
#[test]
fn slots_are_torn_even_where_no_batch_is_left() {
    let mut disk = SimDisk::new(Lie::None);
    disk.create_dir("wal").unwrap();
    let file = disk.create("wal/seg-1-1.wal", (TABLE + 2 * SECTOR_BYTES) as u64).unwrap();
    disk.write(&file, TABLE as u64, &[7; SECTOR_BYTES]).unwrap();
    disk.sync(&file).unwrap();
    disk.sync_dir("").unwrap();
    disk.sync_dir("wal").unwrap();
    let mut slot = [0; 64];
    disk.peek_without_slots(|disk| disk.read(&file, TABLE as u64, &mut slot)).unwrap();
    assert_eq!(slot, [0; 64]);
    disk.read(&file, TABLE as u64, &mut slot).unwrap();
    assert_eq!(slot, [7; 64]);
}

/// What another disk was to get comes to the file of the same name, to the same place mostly; and what one
/// file was to get, to another one of the same disk.
#[test]
fn a_write_goes_to_another_file_or_to_another_disk() {
    let of = |byte: u8| {
        let mut disk = SimDisk::new(Lie::None);
        for (name, byte) in [("hs.a", byte), ("hs.b", byte + 1), ("IDENTITY", byte + 2)] {
            let file = disk.create(name, 2048).unwrap();
            // Each sector has another word at its beginning.
            for sector in 0..4u8 {
                let bytes = [&[byte, sector][..], &[byte; 510]].concat();
                disk.write(&file, u64::from(sector) * 512, &bytes).unwrap();
            }
            disk.sync(&file).unwrap();
        }
        disk.sync_dir("").unwrap();
        disk
    };
    let (disk, other) = (of(10), of(20));
    let before = disk.contents();
    let mut stream = Stream::new(1, Purpose::Nemesis, 0);
    let changed = |disk: &SimDisk| -> Vec<(u8, u8, usize, u8)> {
        let after = disk.contents();
        let files = before.iter().zip(&after).map(|((_, old), (_, new))| (old, new));
        files
            .flat_map(|(old, new)| (0..4).map(move |sector| (old, new, sector)))
            .filter(|(old, new, sector)| old[sector * 512..][..512] != new[sector * 512..][..512])
            .map(|(old, new, sector)| (old[0], new[sector * 512], sector, new[sector * 512 + 1]))
            .collect()
    };
    let (mut same, mut apart, mut between) = (0, 0, 0);
    for _ in 0..64 {
        let wound = disk.misplace(&other, &mut stream.draw()).expect("all is written");
        let [(was, is, sector, meant)] = changed(&disk)[..] else { panic!("one sector") };
        assert_eq!(is, was + 10, "of the file of the same name");
        *(if sector == usize::from(meant) { &mut same } else { &mut apart }) += 1;
        disk.mend(&wound);
        assert_eq!(disk.contents(), before);

        if let Some(wound) = disk.hurt(Fault::Misdirected, true, &mut stream.draw()) {
            let [(was, is, ..)] = changed(&disk)[..] else { panic!("one sector") };
            between += usize::from(was != is);
            disk.mend(&wound);
        }
    }
    assert!(same > apart && apart > 4 && between > 8, "{same} {apart} {between}");
}
