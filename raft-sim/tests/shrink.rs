//! Runs that fail shrink to what a person can follow, and the tapes that were kept pass.
//!
//! Nothing in the product fails, so the stack is broken on purpose; the bounds are part of the claim.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use raft_sim::options::Options;
use raft_sim::run::{self, How};
use raft_sim::sabotage::Sabotage;
use raft_sim::shrink::{Shrunk, Size, shrink};
use raft_sim::tape::Tape;
use raft_sim::trace::Trace;

const EVENTS: u64 = 3_000;

/// The first seed that is looked at. The bounds are those of what the first run from here on shrinks to: of
/// seed 11 a smallest run stays that is shorter, and has two dozen draws, none of which can go alone.
const FIRST: u64 = 12;

/// The first tape that fails, and breaks this.
fn failing(sabotage: Sabotage, id: &str) -> Tape {
    let how = How { sabotage, ..How::once(EVENTS) };
    let mut options = (FIRST..400).map(|seed| Options::draw(seed, EVENTS));
    let fails = |options: &Options| run::options(options, how).failure;
    let options = options.find(|one| fails(one).is_some_and(|failure| failure.id() == id));
    run::record(&options.expect("some seed fails"), sabotage).1
}

/// Shrinks the first run that fails, and checks that the tape as a text fails in the same way.
fn shrunk(sabotage: Sabotage, id: &str) -> Shrunk {
    let tape = failing(sabotage, id);
    let shrunk = shrink(&tape, sabotage, &AtomicBool::new(false), &mut |_, _| ());
    let shrunk = shrunk.unwrap_or_else(|report| panic!("{report}"));
    let read: Tape = shrunk.tape.to_string().parse().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, shrunk.tape);
    let again = run::replay(&read, true, sabotage, Trace::off());
    assert_eq!(again.failure.as_ref().map(|failure| failure.id()), Some(id));
    assert_eq!(again.digest, shrunk.report.digest);
    assert_eq!(again.stats.events, shrunk.after.events);
    shrunk
}

fn assert_small(sabotage: Sabotage, id: &str, most: Size) {
    let Shrunk { after, report, before, .. } = shrunk(sabotage, id);
    let is_small = after.events <= most.events
        && after.nodes <= most.nodes
        && after.clients <= most.clients
        && after.faults <= most.faults
        && after.options <= most.options
        && after.strikes <= most.strikes
        && after.draws <= most.draws;
    assert!(is_small, "{sabotage:?}: {before}\nbecame {after}\n{report}");
}

#[test]
fn a_lying_disk_takes_one_node() {
    let most =
        Size { events: 20, nodes: 1, clients: 1, faults: 1, options: 3, strikes: 0, draws: 2 };
    assert_small(Sabotage::SyncDoesNothing, "PS", most);
}

#[test]
fn a_forged_vote_takes_three_nodes() {
    let most =
        Size { events: 80, nodes: 3, clients: 1, faults: 2, options: 8, strikes: 4, draws: 12 };
    assert_small(Sabotage::VoteForged, "ES", most);
}

#[test]
fn a_forged_acknowledgement_takes_a_few_entries() {
    let most =
        Size { events: 80, nodes: 3, clients: 1, faults: 2, options: 8, strikes: 2, draws: 12 };
    assert_small(Sabotage::AcknowledgementForged, "CQ", most);
}

#[test]
fn a_skipped_command_takes_sixteen_entries() {
    let most =
        Size { events: 300, nodes: 2, clients: 1, faults: 2, options: 4, strikes: 3, draws: 8 };
    assert_small(Sabotage::CommandSkipped, "SM", most);
}

#[test]
fn a_lost_vote_takes_a_restart() {
    let most =
        Size { events: 40, nodes: 2, clients: 1, faults: 1, options: 8, strikes: 1, draws: 8 };
    assert_small(Sabotage::VoteLost, "MT", most);
}

/// A disk too small to live on shows only after the faults have ended, and hardly any of them matters.
#[test]
fn a_failure_after_the_faults_needs_few_of_them() {
    let mut options = Options::draw(7, EVENTS);
    for (name, value) in [("disk_bytes", "200000"), ("voters", "3"), ("learners", "0")] {
        options.set(name, value).expect("it is a number");
    }
    (options.spares, options.client.clients) = (0, 2);
    let (report, tape) = run::record(&options, Sabotage::None);
    assert_eq!(report.failure.as_ref().map(|failure| failure.id()), Some("LV"), "{report}");
    let shrunk = shrink(&tape, Sabotage::None, &AtomicBool::new(false), &mut |_, _| ());
    let Shrunk { after, report, before, tape, tried } =
        shrunk.unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(report.failure.as_ref().map(|failure| failure.id()), Some("LV"), "{report}");
    let is_small = tape.options.events <= 500 && after.strikes <= 4 && after.nodes == 1;
    assert!(is_small && after.events * 4 < before.events, "{before}\nbecame {after}\n{report}");
    assert!(tried < 4_000, "{tried}");
}

#[test]
fn a_run_that_passes_is_not_shrunk() {
    let (report, tape) = run::record(&Options::draw(1, 300), Sabotage::None);
    let result = shrink(&tape, Sabotage::None, &AtomicBool::new(false), &mut |_, _| ());
    assert_eq!(result.err().map(|passed| passed.digest), Some(report.digest));
}

#[test]
fn who_stops_keeps_the_best_so_far() {
    let tape = failing(Sabotage::SyncDoesNothing, "PS");
    let stopped = shrink(&tape, Sabotage::SyncDoesNothing, &AtomicBool::new(true), &mut |_, _| ());
    let stopped = stopped.expect("it fails");
    assert_eq!((stopped.before, stopped.tried), (stopped.after, 0));
    assert!(stopped.report.failure.is_some());
}

/// What each tape shows: what must be broken for it to fail, and how it fails then.
const KEPT: [(&str, Sabotage, &str); 4] = [
    ("forged_acknowledgement.tape", Sabotage::AcknowledgementForged, "CQ"),
    ("forged_vote.tape", Sabotage::VoteForged, "ES"),
    ("lost_vote.tape", Sabotage::VoteLost, "MT"),
    ("lying_sync.tape", Sabotage::SyncDoesNothing, "PS"),
];

/// The tapes that are kept pass, each for a reason that is named above.
#[test]
fn the_tapes_that_were_kept_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tapes");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("there are tapes")
        .map(|entry| entry.expect("the folder can be read").file_name().display().to_string())
        .collect();
    names.sort();
    assert_eq!(names, KEPT.map(|(name, ..)| name));
    for (name, sabotage, id) in KEPT {
        let text = fs::read_to_string(folder.join(name)).expect("a tape is a text");
        let tape: Tape = text.parse().unwrap_or_else(|error| panic!("{name}, {error}"));
        let report = run::replay(&tape, true, Sabotage::None, Trace::off());
        assert_eq!(report.failure, None, "{name}\n{report}");
        let broken = run::replay(&tape, true, sabotage, Trace::off());
        let failure = broken.failure.as_ref().map(|failure| failure.id());
        assert_eq!(failure, Some(id), "{name}\n{broken}");
    }
}
