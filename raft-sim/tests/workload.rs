//! A state machine that is not the key-value store, and what is found if it is wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use raft_core::Index;
use raft_replica::machine::{Gathered, StateMachine};
use raft_sim::check::Invariant;
use raft_sim::failure::Failure;
use raft_sim::options::{Options, Profile};
use raft_sim::report::Report;
use raft_sim::rng::Draw;
use raft_sim::run::{self, How};
use raft_sim::sabotage::Sabotage;
use raft_sim::shrink::shrink_workload;
use raft_sim::tape::Tape;
use raft_sim::trace::Trace;
use raft_sim::workload::{Replay, Turn, Workload};

/// A number that grows by what it is told, modulo a prime; it may have a mistake.
#[derive(Clone, Debug)]
struct Counter {
    sum: u64,
    mistake: Mistake,
}

const PRIME: u64 = 1_000_003;

/// What no two answers of the host have in common.
static HOST: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// The sum becomes something that it must never be.
    Overflows,
    /// A snapshot has lost a little of it.
    SnapshotRounds,
    /// Reading answers something older.
    ReadsBehind,
    /// Each copy of the machine answers something else.
    DependsOnTheHost,
}

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;
    type Snapshot = u64;
    type Error = postcard::Error;
    type Restore = Gathered;

    fn apply(&mut self, _: Index, add: u64) -> u64 {
        let sum = self.sum + add;
        self.sum = if self.mistake == Mistake::Overflows { sum } else { sum % PRIME };
        if self.mistake == Mistake::DependsOnTheHost {
            // Something that is never the same again, like a clock or the order of a hash map.
            return HOST.fetch_add(1, Ordering::Relaxed);
        }
        self.sum
    }

    fn query(&self, (): &()) -> u64 {
        if self.mistake == Mistake::ReadsBehind { self.sum / 2 * 2 } else { self.sum }
    }

    fn snapshot(&self) -> u64 {
        let mask = if self.mistake == Mistake::SnapshotRounds { !1 } else { !0 };
        self.sum & mask
    }

    fn encode(sum: &u64, bytes: &mut Vec<u8>) {
        bytes.extend(postcard::to_allocvec(sum).expect("a number serializes"));
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), postcard::Error> {
        self.sum = postcard::from_bytes(snapshot)?;
        Ok(())
    }
}

/// The model never has the mistake of the machine.
#[derive(Clone, Debug)]
struct Right(Replay<Counter>);

impl raft_sim::workload::Model<Counter> for Right {
    fn new(machine: Counter) -> Self {
        Self(Replay::new(Counter { mistake: Mistake::None, ..machine }))
    }

    fn apply(&mut self, index: Index, command: &u64) -> u64 {
        self.0.apply(index, command)
    }

    fn judge(
        &self,
        index: Index,
        query: &(),
        answer: &u64,
    ) -> Result<(), raft_sim::workload::Mismatch> {
        self.0.judge(index, query, answer)
    }

    fn forget(&mut self, before: Index) {
        self.0.forget(before);
    }
}

#[derive(Clone, Debug)]
struct Count(Mistake);

impl Workload for Count {
    type Machine = Counter;
    type Model = Right;

    fn machine(&self) -> Counter {
        Counter { sum: 0, mistake: self.0 }
    }

    fn command(&mut self, _: Turn, draw: &mut Draw) -> u64 {
        draw.below(PRIME)
    }

    fn query(&mut self, _: Turn, _: &mut Draw) {}

    fn invariant(counter: &Counter) -> Result<(), String> {
        if counter.sum < PRIME { Ok(()) } else { Err(format!("{} is too much", counter.sum)) }
    }
}

fn count(mistake: Mistake, seed: u64, sabotage: Sabotage) -> Report {
    let how = How { sabotage, ..How::once(2_000) };
    run::workload(Count(mistake), &Options::draw(seed, how.events), how)
}

/// The first failure among some seeds.
fn first(mistake: Mistake, sabotage: Sabotage) -> Report {
    (0..64)
        .map(|seed| count(mistake, seed, sabotage))
        .find(|report| report.failure.is_some())
        .unwrap_or_else(|| panic!("{mistake:?} with {sabotage:?} is found within 64 seeds"))
}

fn broken(report: &Report) -> Invariant {
    match &report.failure {
        Some(Failure::Violation(violation)) => violation.invariant,
        other => panic!("a violation, and not {other:?}"),
    }
}

#[test]
fn a_machine_without_a_mistake_passes() {
    let mut reads = 0;
    for seed in 0..24 {
        let report = count(Mistake::None, seed, Sabotage::None);
        assert!(report.failure.is_none(), "{report}");
        reads += report.stats.reads;
    }
    assert!(reads > 0);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let how = How { twice: true, ..How::once(2_000) };
    let report = run::workload(Count(Mistake::None), &Options::draw(5, 2_000), how);
    assert!(report.failure.is_none() && report.is_repeated, "{report}");
}

#[test]
fn a_state_that_must_not_be_is_found() {
    let report = first(Mistake::Overflows, Sabotage::None);
    assert_eq!(broken(&report), Invariant::Application);
    let text = report.to_string();
    assert!(text.contains("is too much"), "{text}");
    assert!(text.contains("reproduce  this workload with Options::draw("), "{text}");
}

#[test]
fn a_snapshot_that_loses_something_is_found() {
    let report = first(Mistake::SnapshotRounds, Sabotage::None);
    let found = [Invariant::StateMachineSafety, Invariant::Linearizability];
    assert!(found.contains(&broken(&report)), "{report}");
}

#[test]
fn a_read_that_misses_something_is_found() {
    let report = first(Mistake::ReadsBehind, Sabotage::None);
    assert_eq!(broken(&report), Invariant::Linearizability);
}

#[test]
fn a_machine_that_depends_on_the_host_is_found() {
    let report = first(Mistake::DependsOnTheHost, Sabotage::None);
    // The failing run is repeated, and goes otherwise.
    assert!(matches!(report.failure, Some(Failure::Determinism { .. })), "{report}");
}

#[test]
fn a_skipped_command_is_found() {
    let report = first(Mistake::None, Sabotage::CommandSkipped);
    let found = [Invariant::StateMachineSafety, Invariant::Linearizability];
    assert!(found.contains(&broken(&report)), "{report}");
}

#[test]
fn a_failure_of_a_workload_has_a_tape_and_a_shorter_one() {
    let found = first(Mistake::Overflows, Sabotage::None);
    let make = |_: &Options| Count(Mistake::Overflows);
    let (report, tape) =
        run::workload_recorded(make(&found.options), &found.options, Sabotage::None);
    assert_eq!((report.digest, &report.failure), (found.digest, &found.failure));

    let replay = |tape: &Tape| {
        let read: Tape = tape.to_string().parse().unwrap_or_else(|error| panic!("{error}"));
        run::workload_replayed(make(&read.options), &read, false, Sabotage::None, Trace::off())
    };
    assert_eq!(replay(&tape).digest, found.digest);
    let stop = AtomicBool::new(false);
    let shrunk = shrink_workload(&make, &tape, Sabotage::None, &stop, &mut |_, _| ());
    let shrunk = shrunk.unwrap_or_else(|report| panic!("{report}"));
    assert!(shrunk.after.nodes == 1 && shrunk.after.events < 200, "{}", shrunk.after);
    let again = replay(&shrunk.tape);
    assert_eq!(broken(&again), Invariant::Application);
    assert!(again.to_string().contains("reproduce  this workload with its tape"), "{again}");
}

#[test]
fn the_profile_is_named_that_the_options_were_drawn_from() {
    let how = How::once(2_000);
    let drawn = (0..64).map(|seed| Options::draw_as(seed, how.events, Profile::Net));
    let mut reports = drawn.map(|options| run::workload(Count(Mistake::Overflows), &options, how));
    let report = reports.find(|report| report.failure.is_some()).expect("one of many seeds fails");
    let seed = report.options.seed;
    let line = format!("Options::draw_as({seed:#x}, 2000, Profile::Net) # ");
    assert!(report.to_string().contains(&line), "{report}");
}
