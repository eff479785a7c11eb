//! What is left of a loss once a start has seen it: the doubt lasts, and ends, and the loss is not
//! noticed a second time; the name of a lost file is not given again.

use raft_core::{HardState, Index};
use raft_replica::storage::{Storage, inspect};

use crate::evidence::after;
use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, identity};
use crate::verdict::{FIRST_BATCH, ROOMY, open, run};

/// The hard state knew that more was committed than is left: while the doubt lasts, starts find nothing
/// new to say; when it is ended, by the log's having come back or by force, it is over.
#[test]
fn a_doubt_that_has_ended_is_not_raised_again() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10]).sync().append(&[20]).sync().append(&[30]).sync();
    script.commit(2).term(2, None).sync().commit(3).term(3, Some(1)).sync();
    for rewritten in [0, 1, 5] {
        let disk = after(&script);
        let length = disk.bytes("wal/seg-1-1.wal").unwrap().len();
        for (from, to) in [(8192 + 64, FIRST_BATCH), (FIRST_BATCH + 4096, length)] {
            disk.overwrite("wal/seg-1-1.wal", from, &vec![0; to - from]);
        }
        let known = inspect(&mut disk.clone()).unwrap();
        assert_eq!((known.commit, known.last.index), (Index(2), Index(1)));

        let (mut storage, found) = open(&disk).unwrap();
        let in_doubt = Durable::found(&mut storage, &found);
        assert!(in_doubt.hard_state.is_tail_unknown && in_doubt.log.len() == 1);
        let (mut storage, again) = open(&disk).unwrap();
        assert_eq!(Durable::found(&mut storage, &again), in_doubt, "the doubt lasts");
        assert!(again.report.is_clean(), "nothing more is lost: {}", again.report);

        let mut end = Script::new(in_doubt.clone());
        for _ in 0..rewritten {
            end.append(&[40]).sync();
        }
        let hard_state = HardState { is_tail_unknown: false, ..in_doubt.hard_state };
        end.persist(|batch| batch.hard_state = Some(hard_state)).sync();
        end.run(&mut storage).unwrap();
        for _ in 0..2 {
            let (mut storage, found) = open(&disk).unwrap();
            assert_eq!(Durable::found(&mut storage, &found), *end.now(), "{}", found.report);
            assert!(found.report.is_clean(), "{rewritten}: {}", found.report);
        }
    }
}

/// A file of the log is lost, and a healed copy of its first entry is left, which names it. What
/// stands in the place of that entry from then on, and rots in its turn, is missed: it is not the
/// one that was lost.
#[test]
fn a_lost_file_gives_its_name_to_no_other() {
    let open = |disk: &MemoryDisk| Storage::open(disk.clone(), ROOMY, Some(identity())).unwrap();
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 9]).sync().append(&[20]).sync();
    script.term(2, None).rewrite(10, &[30]).sync().append(&[40]).sync().term(3, None).sync();
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut storage = open(&disk).0;
    script.run(&mut storage).unwrap();
    // The second and the third entry, and the one that replaced the tenth.
    let (old, lost) = ("wal/seg-1-1.wal", "wal/seg-10-2.wal");
    for (file, at) in [(old, 64 + 41 + 40), (old, 64 + 2 * 41 + 40), (lost, 64 + 40)] {
        disk.overwrite(file, FIRST_BATCH + at, &[0xa5]);
    }
    let log = &script.now().log;
    let single =
        |at: usize| run(log[at - 1].0, log[at].0, log[at].1.clone().expect("it was whole"));
    let mut heal = Script::new(script.now().clone());
    heal.heal(&[single(1), single(9)]);
    // So often that there is a second file, and the first one is not copied by the next start.
    while disk.bytes("wal/heal-2.wal").is_none() {
        heal.heal(&[single(2)]).sync();
        heal.run(&mut storage).unwrap();
        heal.steps.clear();
    }
    drop(storage);
    let (mut storage, found) = open(&disk.fork());
    assert_eq!(Durable::found(&mut storage, &found), *script.now(), "{}", found.report);

    disk.lose(lost);
    let (mut storage, found) = open(&disk);
    let left = Durable::found(&mut storage, &found);
    assert!(left.hard_state.is_tail_unknown && left.last().index == Index(10));
    assert_ne!(left.last(), log[9].0, "it is the one that was replaced");
    assert!(disk.files().contains(&"wal/heal-1.wal".to_owned()), "{:?}", disk.files());
    let hard_state = HardState { is_tail_unknown: false, ..left.hard_state };
    let mut end = Script::new(left.clone());
    end.persist(|batch| batch.hard_state = Some(hard_state)).sync().run(&mut storage).unwrap();
    drop(storage);

    let newest = inspect(&mut disk.clone()).unwrap().segments.pop().unwrap();
    assert_eq!(newest.first, Index(10));
    assert_ne!(newest.file, lost);
    disk.overwrite(&newest.file, FIRST_BATCH, &[0xa5; 512]);
    disk.overwrite(&newest.file, 8192, &[0xa5; 64]);
    let (mut storage, found) = open(&disk);
    let rotten = Durable::found(&mut storage, &found);
    assert!(rotten.hard_state.is_tail_unknown, "{}", found.report);
    assert_eq!(rotten.log, left.log[..9]);
}
