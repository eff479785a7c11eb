//! A crash at every disk call of a workload, with many choices of what survives it.
//!
//! After each crash the storage is opened again: what is found must be a state that the contract of
//! `PersistBatch` allows. Then the machine goes down in the middle of that recovery, recovers,
//! goes on with more work, goes down in the middle of it, and recovers: nothing that was cut off
//! may come back, and nothing that was found may be lost.

use std::collections::BTreeSet;

use raft_core::{EntryId, Index, Term};
use raft_replica::storage::{Found, Storage, StorageError, StorageOptions};

use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, entries, identity};

/// Eight entries or two pages to a segment, so that short workloads roll.
pub(crate) const TINY: StorageOptions = StorageOptions {
    segment_slots: 8,
    segment_bytes: 8192,
    guard_bytes: 0,
    chunk_bytes: 700,
    resident_bytes: 500,
};

/// A small generator of our own: the same sequence on every machine.
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How a crash chooses. The first three are pure; the others mix, most of them with a bias, so
/// that single survivors and single losses are common.
pub(crate) fn fates(pattern: u64, rng: &mut Rng) -> impl FnMut() -> Fate {
    use Fate::{Garbage, New, Old};
    let choices: &[Fate] = match pattern {
        0 => &[Old],
        1 => &[New],
        2 => &[Garbage],
        3 => &[New, New, New, Old],
        4 => &[Old, Old, Old, New],
        5 => &[New, New, New, Garbage],
        _ => &[Old, New, Garbage],
    };
    let mut rng = Rng(rng.next());
    move || choices[usize::try_from(rng.below(choices.len() as u64)).unwrap()]
}

const PATTERNS: u64 = 10;

pub(crate) type Opened = (Storage<MemoryDisk>, Found);

pub(crate) fn open(disk: &MemoryDisk) -> Result<Opened, StorageError> {
    Storage::open(disk.clone(), TINY, Some(identity()))
}

pub(crate) fn formatted() -> MemoryDisk {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    disk
}

/// What a run of the explorer has seen.
#[derive(Default)]
struct Seen {
    crashes: u64,
    /// Of those, the ones that lost something accepted.
    losses: u64,
    /// Of the crashes, those after which something that was never confirmed counts as damaged.
    conservative: u64,
    states: BTreeSet<String>,
}

/// Opens after a crash; what is found must be allowed, and what is called committed must be what
/// the script has there in the `end`.
pub(crate) fn reopen(
    disk: &MemoryDisk,
    allowed: &[Durable],
    end: &Durable,
    context: &str,
) -> Opened {
    let (mut storage, found) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let durable = Durable::found(&mut storage, &found);
    let is_allowed = allowed.iter().any(|state| durable.is_like(state, &allowed[0]));
    assert!(is_allowed, "{context}: found {durable:#?}, allowed only {allowed:#?}");
    assert!(!found.is_snapshot_damaged, "{context}: a crash damages no snapshot");
    assert!(found.commit <= durable.last().index, "{context}: commit");
    for (id, _) in durable.log.iter().filter(|(id, _)| id.index <= found.commit) {
        let snapshot = end.snapshot.unwrap_or_default().index;
        let kept = id.index <= snapshot || end.log.iter().any(|(other, _)| other == id);
        assert!(kept, "{context}: {id} is called committed");
    }
    (storage, found)
}

/// Crashes the script, started on `base` where `start` is durable, in each of its calls.
fn explore(name: &str, base: &MemoryDisk, script: &Script) -> Seen {
    let whole = base.fork();
    let mut storage = open(&whole).unwrap().0;
    script.run(&mut storage).unwrap();
    let (mut storage, found) = open(&whole).unwrap();
    let durable = Durable::found(&mut storage, &found);
    assert_eq!(durable, *script.now(), "{name}: without a crash");
    assert!(found.commit <= script.committed(), "{name}: commit is not invented");

    let mut seen = Seen::default();
    let mut rng = Rng(name.bytes().map(u64::from).sum());
    for call in 1.. {
        let crashed = base.fork();
        crashed.crash_at(call);
        let allowed = match open(&crashed) {
            Err(_) => script.allowed(0)[..1].to_vec(),
            Ok((mut storage, _)) => match script.run(&mut storage) {
                Ok(()) => break,
                Err((step, _)) => script.allowed(step).to_vec(),
            },
        };
        assert!(crashed.is_down(), "{name}: call {call} failed by itself");
        for pattern in 0..PATTERNS {
            let context = format!("{name}: call {call}, pattern {pattern}");
            let disk = crashed.fork();
            disk.crash(fates(pattern, &mut rng));
            let state = crash_again(&disk, &allowed, script.now(), &mut rng, &context);
            seen.crashes += 1;
            seen.losses += u64::from(Some(&state) != allowed.last());
            seen.conservative += u64::from(state.damaged() > 0);
            seen.states.insert(format!("{state:?}"));
        }
    }
    seen
}

/// Goes down during recovery, and during the work after it.
fn crash_again(
    disk: &MemoryDisk,
    allowed: &[Durable],
    end: &Durable,
    rng: &mut Rng,
    context: &str,
) -> Durable {
    reopen(&disk.fork(), allowed, end, context);
    let probe = disk.fork();
    drop(open(&probe));
    let calls = probe.calls();
    let middle = disk.fork();
    middle.crash_at(1 + rng.below(calls));
    open(&middle).expect_err("the machine goes down during recovery");
    middle.crash(fates(rng.below(PATTERNS), rng));
    let context = format!("{context}, again in recovery");
    let (mut storage, found) = reopen(&middle, allowed, end, &context);

    let start = Durable::found(&mut storage, &found);
    let script = more_work(start.clone());
    let before = middle.calls();
    let unharmed = middle.fork();
    script.run(&mut open(&unharmed).unwrap().0).unwrap();
    let (mut reopened, after) = open(&unharmed).unwrap();
    let after = Durable::found(&mut reopened, &after);
    assert_eq!(after, *script.now(), "{context}, more work");

    middle.crash_at(1 + rng.below(before.max(8)));
    let allowed = match script.run(&mut storage) {
        Ok(()) => vec![script.now().clone()],
        Err((step, _)) => script.allowed(step).to_vec(),
    };
    middle.crash(fates(rng.below(PATTERNS), rng));
    reopen(&middle, &allowed, script.now(), &format!("{context}, again in more work"));
    start
}

/// What a node does after a restart: it raises its incarnation, finds that its last entry
/// conflicts, and appends.
fn more_work(start: Durable) -> Script {
    let founded = start.snapshot.is_some();
    let mut script = if founded { Script::new(start) } else { Script::founding_after(start) };
    let term = script.now().hard_state.term.0 + 1;
    script.term(term, None);
    if let Some((last, _)) = script.now().log.last() {
        let last = last.index.0;
        script.rewrite(last, &[3]);
    }
    script.append(&[1, 2, 600]).sync().append(&[4]).append(&[5]).sync();
    script
}

fn check(name: &str, script: &Script, states: usize) {
    let seen = explore(name, &formatted(), script);
    let Seen { crashes, losses, conservative, states: found } = seen;
    println!(
        "{name}: {crashes} crashes, {} states, {losses} lost something that was not confirmed, \
         {conservative} call it damaged",
        found.len()
    );
    assert!(found.len() >= states, "{name}: only {} states in {crashes} crashes", found.len());
    assert!(losses > crashes / 20, "{name}: only {losses} of {crashes} crashes lost anything");
}

#[test]
fn founding() {
    check("founding", &Script::founding(), 3);
}

#[test]
fn appends_are_a_prefix() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[0]).sync();
    script.append(&[10, 200]).append(&[900, 30]).sync().append(&[5000]).sync();
    check("appends", &script, 8);
}

#[test]
fn a_truncated_suffix_stays_away() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20, 30, 40]).sync();
    script.term(2, None).rewrite(3, &[50]).sync();
    script.term(3, None).rewrite(2, &[60, 70, 80]).append(&[1]).rewrite(4, &[5]).sync();
    script.rewrite(3, &[9000, 1]).sync();
    check("truncation", &script, 12);
}

#[test]
fn a_truncation_alone_is_durable() {
    let mut script = Script::founding();
    script.term(1, None).append(&[10, 20, 30]).sync().term(1, None);
    script.persist(|batch| batch.truncate_from = Some(Index(2))).sync().append(&[7]).sync();
    check("truncation alone", &script, 5);
}

/// One step may issue several batches, all with the commit index that it ends with: by then the
/// log that the first of them finds has been replaced.
#[test]
fn what_is_called_committed_stays() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1, 2, 3, 4]).sync().commit(1).append(&[5]).sync().commit(4);
    script.append(&[6]).term(2, None).append(&[7]).rewrite(3, &[8, 9]).sync();
    script.commit(5).append(&[10]).sync().term(3, None).commit(6).append(&[11]).sync();
    check("commit", &script, 12);
}

#[test]
fn the_hard_state_never_regresses() {
    let mut script = Script::founding();
    for term in 1..6 {
        script.term(term, None).term(term, Some(1 + term % 3)).append(&[9]);
        if term % 2 == 0 {
            script.sync();
        }
    }
    script.sync();
    check("hard state", &script, 12);
}

#[test]
fn memberships_are_written_before_the_log() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1]).membership(4).append(&[2]).sync().membership(5).sync();
    script.membership(6).membership(7).append(&[600]).membership(8).sync();
    check("memberships", &script, 8);
}

#[test]
fn segments_roll() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 6]).sync().append(&[2; 6]).append(&[3; 9]).sync();
    script.append(&[3000, 3000, 9000, 10]).sync().append(&[20_000]).sync().append(&[1]).sync();
    check("rolling", &script, 12);
}

#[test]
fn a_truncation_reaches_into_an_older_segment() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 6]).sync().append(&[2; 6]).sync().append(&[3; 6]).sync();
    script.term(2, None).rewrite(5, &[4; 9]).sync().term(3, None).rewrite(2, &[5; 3]).sync();
    check("deep truncation", &script, 12);
}

#[test]
fn snapshots_let_the_log_go() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 12]).sync().commit(10);
    script.snapshot(9, &[7; 2000]).append(&[2; 12]).sync().append(&[3]).sync();
    script.snapshot(20, &[8; 100]).append(&[4; 3]).sync();
    script.snapshot(27, &[]).append(&[5]).sync();
    check("snapshots", &script, 10);
}

/// An entry of another history than the script's.
fn elsewhere(index: u64, term: u64) -> EntryId {
    let before = EntryId { index: Index(index - 1), ..EntryId::default() };
    entries(before, Term(term), &[77])[0].id()
}

#[test]
fn an_installed_snapshot_ahead_of_the_log_replaces_it() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 10]).sync();
    script.receive(elsewhere(30, 1), &[6; 1500], 400).append(&[2; 2]).sync();
    script.append(&[4; 2]).receive(elsewhere(40, 1), &[5; 10], 400).sync().append(&[3]).sync();
    check("install ahead", &script, 10);
}

#[test]
fn an_installed_snapshot_of_another_history_replaces_the_log() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 20]).sync().term(2, None);
    script.receive(elsewhere(12, 2), &[6; 1500], 1500).append(&[2; 2]).sync();
    check("install elsewhere", &script, 5);
}

#[test]
fn an_installed_snapshot_of_this_history_keeps_what_follows() {
    let mut script = Script::founding();
    script.term(1, None).append(&[1; 20]).sync();
    let last = script.now().log[12].0;
    script.receive(last, &[6; 1500], 1400).append(&[2; 2]).sync().append(&[3; 4]);
    let last = script.now().log[9].0;
    script.receive(last, &[6; 1500], 1400).append(&[2; 2]).sync();
    check("install inside", &script, 12);
}

#[test]
fn a_directory_is_formatted_whole_or_not_at_all() {
    let mut whole = 0;
    for call in 1.. {
        let mut disk = MemoryDisk::default();
        disk.crash_at(call);
        if Storage::format(&mut disk, identity()).is_ok() {
            break;
        }
        for pattern in 0..PATTERNS {
            let disk = disk.fork();
            disk.crash(fates(pattern, &mut Rng(call)));
            match open(&disk) {
                Ok((_, found)) => {
                    whole += 1;
                    assert_eq!(found.identity, identity());
                }
                Err(error) => {
                    let expected = StorageError::Missing { file: "IDENTITY".to_owned() };
                    assert_eq!(error, expected, "call {call}, pattern {pattern}");
                }
            }
        }
    }
    assert!(whole > 0, "some crash comes after everything has been written");
}

/// A sync that fails leaves pages that the cache shows and calls clean. What is found after a
/// restart of the process, without one of the machine, must survive one of the machine.
#[test]
fn what_is_found_after_a_failed_sync_is_durable() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 6]).sync().append(&[2; 6]).sync();
    script.term(2, None).rewrite(5, &[900, 2]).sync().snapshot(5, &[1; 900]);
    script.receive(elsewhere(30, 2), &[6; 1500], 400).append(&[2; 2]).sync();
    let (mut failures, mut kept) = (0, 0);
    for call in 1.. {
        let disk = formatted();
        let mut storage = open(&disk).unwrap().0;
        disk.fail_at(call);
        let Err((step, _)) = script.run(&mut storage) else { break };
        failures += 1;
        assert_eq!(storage.sync(), Err(StorageError::Poisoned), "nothing is retried");
        let context = format!("call {call}");
        let (mut storage, found) = reopen(&disk, script.allowed(step), script.now(), &context);
        let found = Durable::found(&mut storage, &found);
        kept += u64::from(Some(&found) == script.allowed(step).last());
        disk.crash(|| Fate::Old);
        let (mut storage, again) = open(&disk).unwrap();
        assert_eq!(Durable::found(&mut storage, &again), found, "{context}");
    }
    assert!(failures > 80 && kept > 20, "{failures} failures, {kept} that kept everything");
}
