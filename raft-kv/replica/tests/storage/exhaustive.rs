//! Every state that a crash can leave of a short workload: at each call that changes something, every
//! choice of which unsynced sectors and names are on the disk.
//!
//! Of a few unsynced things, each is old, new or garbage, in every combination. Of more, each is old
//! or new in every combination, and each is garbage once among survivors and once among losses. Where
//! there are too many for that, so many choices are drawn, and all those with one survivor or one
//! loss; the summary says how often. What is found must be what [`crate::model`] allows.
//!
//! A recovery writes over what was acknowledged, so it is crashed as well. Most states open to one of a few
//! disks; of the states that open to another one than those before them, the first is crashed in each call of
//! its recovery that changes something, with every choice as above. Of the others, some are, with a few
//! choices each.

use std::collections::BTreeSet;
use std::hash::Hasher as _;

use raft_core::{EntryId, Index, Term};
use raft_replica::storage::Storage;

use crate::crash::{Opened, Rng, fates, formatted, open, reopen};
use crate::memory_disk::{Fate, MemoryDisk};
use crate::model::{Durable, Script, entries};
use crate::verdict::{contents, run};

/// Up to so many unsynced things, every choice of old, new and garbage is made.
const ALL_WITH_GARBAGE_MAX: usize = 6;
/// Up to so many, every choice of old and new.
const ALL_MAX: usize = 16;
/// Of more, so many choices are drawn.
const DRAWN: u64 = 400;
/// Every so many states, the recovery is crashed too.
const AGAIN: u64 = 61;
/// And of those of a call that has so many, which differ little.
const AGAIN_OF_MANY: u64 = 61 * 32;
/// In each call of a recovery, up to so many unsynced things: every choice of old, new and garbage.
const RECOVERY_WITH_GARBAGE_MAX: usize = 4;
/// Up to so many, every choice of old and new; of more, so many choices are drawn.
const RECOVERY_MAX: usize = 7;
/// The disks that a script may open to, and whose recoveries are crashed in every way.
const OPENED_MAX: usize = 16;
/// So many states of one call.
const MANY: u64 = 1 << 13;

#[derive(Debug, Default)]
struct Seen {
    /// Calls at which the machine went down, with another set of unsynced things than before.
    calls: u64,
    /// Of those, the ones with too many unsynced things for every choice.
    drawn: u64,
    /// The most unsynced things of which every choice was made.
    most: usize,
    states: u64,
    /// Of the present call.
    of_call: u64,
    /// States in which something that was never confirmed counts as damaged.
    conservative: u64,
    /// States of a recovery that was crashed.
    again: u64,
    /// The disks that states have opened to, and how many states there were of recoveries that led there.
    opened: BTreeSet<u64>,
    of_opened: u64,
}

struct Explorer<'a> {
    script: &'a Script,
    seen: Seen,
    rng: Rng,
}

/// Explores a script that goes on from `base`.
fn explore(name: &str, base: &MemoryDisk, script: &Script) -> u64 {
    let rng = Rng(name.bytes().map(u64::from).sum());
    let mut explorer = Explorer { script, seen: Seen::default(), rng };
    let mut last = None;
    for call in 1.. {
        let crashed = base.fork();
        let mut storage = open(&crashed).unwrap().0;
        crashed.crash_at(call);
        let Err((step, _)) = script.run(&mut storage) else { break };
        assert!(crashed.is_down(), "{name}: call {call} failed by itself");
        let signature = (step, crashed.fingerprint());
        if last.as_ref() != Some(&signature) {
            explorer.crash(&crashed, script.allowed(step), &format!("{name}: call {call}"));
        }
        last = Some(signature);
    }
    let Seen { calls, drawn, most, states, conservative, again, opened, of_opened, .. } =
        explorer.seen;
    println!(
        "{name}: {states} states of crashes in {calls} calls (drawn, not all, in {drawn}), of up to {most} \
         unsynced things, {conservative} of them conservative; {again} of crashes in their recovery; \
         {} disks that they open to, {of_opened} of crashes on the way to the first {OPENED_MAX}",
        opened.len()
    );
    assert!(states > 50 && again > 20, "{name}: {states} states, {again} in recovery");
    assert!(of_opened > 1000, "{name}: {of_opened} in recoveries");
    states
}

impl Explorer<'_> {
    fn crash(&mut self, crashed: &MemoryDisk, allowed: &[Durable], context: &str) {
        let count = crashed.unsynced();
        self.seen.calls += 1;
        self.seen.of_call = 0;
        self.seen.most = self.seen.most.max(if count <= ALL_MAX { count } else { 0 });
        if count <= ALL_WITH_GARBAGE_MAX {
            let digits = u32::try_from(count).unwrap();
            for choice in 0..3_usize.pow(digits) {
                let digit = |at: usize| choice / 3_usize.pow(u32::try_from(at).unwrap()) % 3;
                let fate = |at| [Fate::Old, Fate::New, Fate::Garbage][digit(at)];
                self.state(crashed, allowed, context, fate);
            }
            return;
        }
        if count <= ALL_MAX {
            for choice in 0..1_u64 << count {
                self.state(crashed, allowed, context, |at| pick(choice >> at & 1 == 1));
            }
        } else {
            self.seen.drawn += 1;
            for _ in 0..DRAWN {
                let choice = [self.rng.next(), self.rng.next()];
                self.state(crashed, allowed, context, |at| {
                    pick(choice[at / 64 % 2] >> (at % 64) & 1 == 1)
                });
            }
        }
        for special in 0..count {
            for others in [Fate::Old, Fate::New] {
                let garbage = |at| if at == special { Fate::Garbage } else { others };
                self.state(crashed, allowed, context, garbage);
                let alone = |at| pick((at == special) != (others == Fate::New));
                self.state(crashed, allowed, context, alone);
            }
        }
    }

    fn state(
        &mut self,
        crashed: &MemoryDisk,
        allowed: &[Durable],
        context: &str,
        fate: impl Fn(usize) -> Fate,
    ) {
        let disk = crashed.fork();
        let mut at = 0;
        let mut spelled = String::new();
        disk.crash(|| {
            at += 1;
            let fate = fate(at - 1);
            spelled.push(format!("{fate:?}").chars().next().unwrap());
            fate
        });
        let context = format!("{context}, {spelled}");
        let again = if self.seen.of_call < MANY { AGAIN } else { AGAIN_OF_MANY };
        self.seen.of_call += 1;
        let is_again = self.seen.states.is_multiple_of(again);
        let untouched = is_again.then(|| disk.fork());
        let (mut storage, found) = reopen(&disk, allowed, self.script.now(), &context);
        assert!(!found.hard_state.is_tail_unknown, "{context}: nothing was lost");
        self.seen.states += 1;
        self.seen.conservative += u64::from(Durable::found(&mut storage, &found).damaged() > 0);
        if let Some(disk) = untouched {
            self.crash_recovery(&disk, allowed, &context);
        }
        drop(storage);
        let is_new = self.seen.opened.insert(fingerprint(&disk));
        if is_new && self.seen.opened.len() <= OPENED_MAX {
            let disk = crashed.fork();
            let mut at = 0;
            disk.crash(|| {
                at += 1;
                fate(at - 1)
            });
            self.crash_opening(&disk, allowed, &context);
        }
    }

    /// Crashes the recovery in each of its calls that changes something, with every choice.
    fn crash_opening(&mut self, disk: &MemoryDisk, allowed: &[Durable], context: &str) {
        let mut last = None;
        for call in 1.. {
            let again = disk.fork();
            again.crash_at(call);
            if open(&again).is_ok() {
                break;
            }
            let signature = Some(again.fingerprint());
            if last == signature {
                continue;
            }
            last = signature;
            let count = again.unsynced();
            let base = if count <= RECOVERY_WITH_GARBAGE_MAX { 3 } else { 2_usize };
            let all = base.pow(u32::try_from(count.min(RECOVERY_MAX)).unwrap());
            for choice in 0..all {
                let drawn = usize::try_from(self.rng.next() >> 1).unwrap();
                let choice = if count > RECOVERY_MAX { drawn } else { choice };
                let disk = again.fork();
                let mut rest = choice;
                disk.crash(|| {
                    let fate = [Fate::Old, Fate::New, Fate::Garbage][rest % base];
                    rest /= base;
                    fate
                });
                let context = format!("{context}, opening call {call}, choice {choice}");
                reopen(&disk, allowed, self.script.now(), &context);
                self.seen.of_opened += 1;
            }
        }
    }

    /// Crashes the recovery in each of its calls, with a few choices each.
    fn crash_recovery(&mut self, disk: &MemoryDisk, allowed: &[Durable], context: &str) {
        for call in 1.. {
            let again = disk.fork();
            again.crash_at(call);
            if open(&again).is_ok() {
                break;
            }
            for pattern in [0, 1, 3, 6] {
                let disk = again.fork();
                disk.crash(fates(pattern, &mut self.rng));
                let context = format!("{context}, recovery call {call}, pattern {pattern}");
                reopen(&disk, allowed, self.script.now(), &context);
                self.seen.again += 1;
            }
        }
    }
}

/// Names a disk of which all is synced by what is in its files.
fn fingerprint(disk: &MemoryDisk) -> u64 {
    let mut hash = twox_hash::XxHash3_64::new();
    for (file, bytes) in contents(disk) {
        hash.write(file.as_bytes());
        hash.write(&bytes.unwrap());
    }
    hash.finish()
}

fn pick(is_new: bool) -> Fate {
    if is_new { Fate::New } else { Fate::Old }
}

/// A node that has done this, and a script that goes on from there.
fn after(first: &Script) -> (MemoryDisk, Script) {
    let disk = formatted();
    let mut storage = open(&disk).unwrap().0;
    first.run(&mut storage).unwrap();
    drop(storage);
    let mut next = Script::new(first.now().clone());
    next.commit(first.committed().0);
    (disk, next)
}

fn founded() -> Script {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1, 2, 3]).sync();
    script
}

#[test]
fn append() {
    let (disk, mut script) = after(&founded());
    script.append(&[10, 600]).append(&[0]).sync().append(&[900, 30, 5]).sync();
    explore("append", &disk, &script);
}

/// One batch in many sectors, of entries and of slots.
#[test]
fn append_much() {
    let (disk, mut script) = after(&founded());
    script.append(&[1500, 1000, 900, 2000]).sync();
    explore("append much", &disk, &script);
}

/// One batch that fills a segment: sixteen sectors, in each of the ways in which some of them are written.
#[test]
fn append_a_whole_segment() {
    let (disk, mut script) = after(&founded());
    script.append(&[4000, 2000, 1000, 900]).sync();
    let states = explore("append a whole segment", &disk, &script);
    assert!(states > 1 << ALL_MAX, "{states} states");
}

#[test]
fn truncate_and_rewrite() {
    let (disk, mut script) = after(&founded());
    script.term(2, None).rewrite(2, &[700, 4]).sync().append(&[5]).sync();
    explore("truncate and rewrite", &disk, &script);
}

#[test]
fn hard_state_changes() {
    let (disk, mut script) = after(&founded());
    script.term(2, None).term(2, Some(2)).append(&[9]).sync().term(3, Some(1)).sync();
    explore("hard state changes", &disk, &script);
}

#[test]
fn segment_rolls() {
    let (disk, mut script) = after(&founded());
    script.append(&[1; 4]).sync().append(&[2; 5]).sync().append(&[3]).sync();
    explore("segment rolls", &disk, &script);
}

#[test]
fn memberships_change() {
    let (disk, mut script) = after(&founded());
    script.membership(4).sync().append(&[5]).membership(5).sync();
    explore("memberships change", &disk, &script);
}

#[test]
fn snapshot_and_compaction() {
    let mut first = founded();
    first.append(&[1; 8]).sync().snapshot(4, &[6; 600]).append(&[1; 8]).sync().commit(18);
    let (disk, mut script) = after(&first);
    script.snapshot(17, &[7; 900]).sync().append(&[3]).sync();
    explore("snapshot and compaction", &disk, &script);
}

#[test]
fn install_ahead() {
    let (disk, mut script) = after(&founded());
    let before = EntryId { index: Index(29), ..EntryId::default() };
    let last = entries(before, Term(1), &[77])[0].id();
    script.receive(last, &[6; 900], 500).append(&[2]).sync();
    explore("install ahead", &disk, &script);
}

#[test]
fn install_inside() {
    let mut first = founded();
    first.append(&[1; 8]).sync();
    let (disk, mut script) = after(&first);
    let last = script.now().log[8].0;
    script.receive(last, &[6; 900], 900).append(&[2]).sync();
    explore("install inside", &disk, &script);
}

/// The slots and the hard state tell of the last batch, and nothing else changes.
#[test]
fn rests_between_batches() {
    let (disk, mut script) = after(&founded());
    script.append(&[10, 600]).sync().rest().append(&[3]).sync().rest().rest();
    script.term(2, None).rewrite(5, &[7]).sync().rest();
    explore("rests between batches", &disk, &script);
}

/// A scrub of a whole disk writes nothing, wherever it comes.
#[test]
fn scrubs_between_batches() {
    let (disk, mut script) = after(&founded());
    script.scrub().append(&[9, 600]).sync().scrub().rest().scrub().append(&[700, 30, 5]).sync();
    explore("scrubs between batches", &disk, &script);
}

/// Two runs are healed, one of two entries, where both payloads and headers have rotted.
#[test]
fn heal() {
    let mut first = founded();
    first.append(&[100, 600, 600, 20]).sync().append(&[5, 6]).sync();
    let (disk, _) = after(&first);
    // A start copies the last batch, so the first two stay where they were written.
    drop(open(&disk).unwrap());
    let batch = 8192 + 4096;
    disk.overwrite("wal/seg-1-1.wal", batch + 64, &[0xa5; 300]);
    disk.overwrite("wal/seg-1-1.wal", batch + 4096 + 64, &[0xa5; 1000]);
    let (mut storage, found): Opened = open(&disk).unwrap();
    let damaged = Durable::found(&mut storage, &found);
    assert_eq!(damaged.damaged(), 6, "{damaged:#?}");
    drop(storage);
    let whole = first.now();
    let id = |at: usize| whole.log[at].0;
    let single = |at: usize| {
        let before = if at == 0 { whole.snapshot.unwrap() } else { id(at - 1) };
        run(before, id(at), whole.log[at].1.clone().unwrap())
    };
    let mut script = Script::new(damaged);
    script.heal(&[single(0), single(1)]).append(&[7]).sync().heal(&[single(3), single(4)]);
    script.heal(&[single(2)]).term(2, None).rewrite(9, &[8]).sync();
    explore("heal", &disk, &script);
    let mut storage: Storage<MemoryDisk> = open(&disk).unwrap().0;
    script.run(&mut storage).unwrap();
    let (mut storage, found) = open(&disk).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
}
