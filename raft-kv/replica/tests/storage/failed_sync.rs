//! A sync fails, the process starts again, and the power goes in that start.
//!
//! After a failed sync the cache shows what the disk may not have. Whatever the start writes or
//! removes next may be torn or lost, and must not cost what was promised before. A vote that is
//! forgotten is a vote that can be given twice.

use raft_core::Term;
use raft_replica::storage::Found;

use crate::crash::fates as pattern;
use crate::crash::{Rng, formatted, open, reopen};
use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Script, entries};

/// Confirmed by a sync before anything fails.
const PROMISED: u64 = 4;

/// The calls of one write of the hard state: both files are written, then both are synced.
const CALLS: u64 = 4;

/// Unsynced sectors of the hard state that a power cut decides about: two pairs in two files.
const SECTORS: u32 = 4;

/// A node that has promised one term, and failed in one call while it wrote the next.
fn failed_in(call: u64) -> MemoryDisk {
    let disk = formatted();
    let mut storage = open(&disk).unwrap().0;
    let mut script = Script::founding();
    for term in 1..=PROMISED {
        script.term(term, Some(1));
    }
    script.sync().run(&mut storage).unwrap();
    let mut next = Script::new(script.now().clone());
    disk.fail_at(call);
    assert!(next.term(PROMISED + 1, Some(2)).run(&mut storage).is_err(), "call {call}");
    disk
}

/// The number spells the fates of the sectors of the hard state, whose files are the first of the
/// disk. All else that is unsynced is lost.
fn fates(mut number: u32) -> impl FnMut() -> Fate {
    move || {
        let fate = [Fate::Old, Fate::New, Fate::Garbage][(number % 3) as usize];
        number /= 3;
        fate
    }
}

/// What is found must be what was promised, or the attempt after it; a start that went through
/// promises what it found.
fn promised(disk: &MemoryDisk, least: Term, context: &str) -> Term {
    let (_, Found { hard_state, .. }) =
        open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(hard_state.term >= least, "{context}: {least} was promised, found {hard_state}");
    hard_state.term
}

/// Cuts the power in the calls of a start, one in `step`, with each of these fates: what was promised is
/// found every time. How often the attempt that came after it is.
fn cut_in_a_start(disk: &MemoryDisk, (step, numbers): (usize, &[u32]), context: &str) -> usize {
    let mut newer = 0;
    for cut in (1..).step_by(step) {
        let start = disk.fork();
        start.crash_at(cut);
        let through = open(&start).is_ok();
        for number in numbers {
            let left = start.fork();
            left.crash(fates(*number));
            let context = format!("{context}, cut in {cut}, fates {number}");
            newer += usize::from(promised(&left, Term(PROMISED), &context) > Term(PROMISED));
        }
        if through {
            break;
        }
    }
    newer
}

/// Every failed call, every call of the start in which the power goes, every choice of what is left.
#[test]
fn a_power_cut_in_the_start_after_a_failed_sync_keeps_the_promise() {
    let mut newer = 0;
    for failed in 1..=CALLS {
        let disk = failed_in(failed);
        let all: Vec<u32> = (0..3_u32.pow(SECTORS)).collect();
        newer += cut_in_a_start(&disk, (1, &all), &format!("failed in {failed}"));
    }
    assert!(newer > 1000, "only {newer} have found the attempt");
}

/// The start fails too, and the next one is cut off.
#[test]
fn the_promise_outlives_two_failures_and_a_power_cut() {
    let mut failures = 0;
    for first in 1..=CALLS {
        let disk = failed_in(first);
        for second in 1.. {
            let failed = disk.fork();
            failed.fail_at(second);
            if open(&failed).is_ok() {
                break;
            }
            failures += 1;
            let context = format!("failed in {first}, {second}");
            cut_in_a_start(&failed, (2, &[0, 2, 8, 26, 80, 54, 60, 20]), &context);
        }
    }
    assert!(failures > 100, "only {failures} failures");
}

/// What a start has found is promised by it, although the sync of it had failed.
#[test]
fn what_a_start_has_found_is_promised() {
    for failed in 1..=CALLS {
        let disk = failed_in(failed);
        let term = promised(&disk, Term(PROMISED), "at first");
        disk.crash(|| Fate::Old);
        assert_eq!(promised(&disk, term, "later"), term, "failed in {failed}");
    }
}

/// With one copy rotten, the start must not put the other one at risk: the good one is written only
/// when its twin is whole again.
#[test]
fn a_rotten_copy_is_restored_before_its_twin_is_touched() {
    let pristine = formatted();
    let mut script = Script::founding();
    script.term(1, Some(1)).term(PROMISED, Some(1)).sync();
    script.run(&mut open(&pristine).unwrap().0).unwrap();
    for (file, page) in [("hs.a", 0), ("hs.a", 4096), ("hs.b", 0), ("hs.b", 4096)] {
        let disk = pristine.fork();
        disk.overwrite(file, page, &[0xa5; 512]);
        for cut in 1.. {
            let start = disk.fork();
            start.crash_at(cut);
            let through = open(&start).is_ok();
            for number in 0..3_u32.pow(SECTORS) {
                let left = start.fork();
                left.crash(fates(number));
                promised(&left, Term(PROMISED), &format!("{file} at {page}, cut in {cut}"));
            }
            if through {
                break;
            }
        }
    }
}

/// A copy rots, the start that writes it again fails in any call, and in the start after that the power
/// goes: what the cache shows of the copy must not be taken for a copy.
#[test]
fn a_rotten_copy_whose_repair_fails_is_not_counted_on() {
    let pristine = formatted();
    let mut script = Script::founding();
    script.term(1, Some(1)).term(PROMISED, Some(1)).sync();
    script.run(&mut open(&pristine).unwrap().0).unwrap();
    let mut failures = 0;
    for (file, page) in [("hs.a", 0), ("hs.a", 4096), ("hs.b", 0), ("hs.b", 4096)] {
        for failed in 1.. {
            let disk = pristine.fork();
            disk.overwrite(file, page, &[0xa5; 512]);
            disk.fail_at(failed);
            let syncs = disk.syncs();
            if open(&disk).is_ok() {
                break;
            }
            if disk.syncs() == syncs {
                continue;
            }
            failures += 1;
            let context = format!("{file} at {page}, failed in {failed}");
            cut_in_a_start(&disk, (1, &[0, 1, 2, 3, 4, 5, 6, 7, 8]), &context);
        }
    }
    assert!(failures > 80, "only {failures} failures");
}

/// Three starts in a row end where they make the hard state durable that they have read, each in any of
/// the four places, by a failed sync or a power cut. Then all of one file is lost.
#[test]
fn starts_that_end_one_after_the_other_leave_a_copy_in_each_file() {
    let disk = formatted();
    let mut script = Script::founding();
    script.term(1, Some(1)).term(PROMISED, Some(1)).sync();
    script.run(&mut open(&disk).unwrap().0).unwrap();
    let mut left = vec![disk];
    for _ in 0..3 {
        left = left.iter().flat_map(ends).collect();
    }
    assert!(left.len() > 1000, "only {} ends", left.len());
    for disk in left {
        for file in ["hs.a", "hs.b"] {
            let hurt = disk.fork();
            hurt.overwrite(file, 0, &[0xa5; 3 * 4096]);
            promised(&hurt, Term(PROMISED), file);
        }
    }
}

/// What is left of a disk when a start ends in one of the first syncs of the hard state.
fn ends(disk: &MemoryDisk) -> Vec<MemoryDisk> {
    let state = |disk: &MemoryDisk| ["hs.a", "hs.b"].map(|file| disk.bytes(file).unwrap());
    let is_first = |call: &u64| {
        let start = disk.fork();
        start.fail_at(*call + 1);
        assert!(open(&start).is_err());
        state(&start) != state(disk)
    };
    let first = (1..).find(is_first).unwrap();
    let mut left = Vec::new();
    for sync in (first + 1..).step_by(2).take(4) {
        let failed = disk.fork();
        failed.fail_at(sync);
        assert!(open(&failed).is_err());
        left.push(failed);
        for fate in [Fate::Old, Fate::Garbage] {
            let cut = disk.fork();
            cut.crash_at(sync);
            assert!(open(&cut).is_err());
            cut.crash(|| fate);
            left.push(cut);
        }
    }
    left
}

/// Any call fails, not only one for the hard state: nothing is older than what was confirmed, and
/// nothing is called damaged.
#[test]
fn a_power_cut_in_the_start_after_any_failure_costs_nothing() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 6]).sync().append(&[2; 6]).sync().commit(9);
    script.term(2, None).rewrite(11, &[900, 2]).membership(4).sync().snapshot(5, &[1; 900]);
    script.append(&[3; 5]).sync().snapshot(9, &[2; 90]).append(&[3; 5]).sync();
    let last = entries(script.now().last(), Term(2), &[7, 7, 7])[2].id();
    script.receive(last, &[6; 1500], 400).append(&[2; 2]).sync();
    let mut rng = Rng(11);
    let mut starts = 0;
    for call in 1.. {
        let disk = formatted();
        let mut storage = open(&disk).unwrap().0;
        disk.fail_at(call);
        let Err((step, _)) = script.run(&mut storage) else { break };
        for cut in 1.. {
            let start = disk.fork();
            start.crash_at(cut);
            let through = open(&start).is_ok();
            for number in [0, 2, 3, 4, 6] {
                let left = start.fork();
                left.crash(pattern(number, &mut rng));
                let context = format!("failed in {call}, cut in {cut}, pattern {number}");
                reopen(&left, script.allowed(step), script.now(), &context);
                starts += 1;
            }
            if through {
                break;
            }
        }
    }
    assert!(starts > 10_000, "only {starts} starts");
}
