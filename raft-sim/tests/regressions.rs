//! Seeds that once failed. A later change of the simulator may lead them elsewhere; they are cheap,
//! and they must pass wherever they lead.

use raft_sim::options::{Options, Profile};
use raft_sim::run::{self, How};
use raft_sim::setup::Setup;

/// Seed, events, and what it found.
const ONCE_FAILED: &[(u64, u64, &str)] = &[
    (
        0xa15c,
        20_000,
        "the first chunk of a new transfer discarding what an installation still needed",
    ),
    (
        0xf5,
        20_000,
        "a request for votes that left after the candidacy was over, with a log that was gone",
    ),
    (0x133, 20_000, "the commit index of a halted node, taken for a promise"),
    (0x4154, 20_000, "elections that a leader outside the core made necessary, held against it"),
    (0x28, 20_000, "a removed voter whose log alone held its removal, and that did not campaign"),
    (0x52, 20_000, "a short log of high priority that kept a long one from campaigning"),
    (0x2df, 20_000, "a match that a blank node claimed before its first history was durable"),
    (0x2e1, 20_000, "a window so small that the quota behind it outlasted every client"),
    (0x3a9, 20_000, "a deaf node of high priority whose vain campaigns put off all others"),
    (0x428, 20_000, "a change of a leader that lost it and got it back, held against it"),
    (0x1ac, 20_000, "the same, with a leader whose disk fails as well"),
    (0x182, 20_000, "a lost batch with a torn slot, taken for the clean end of a log"),
    (0x3c0, 20_000, "a lost end of a log that was forgotten once a part of it was healed"),
    (
        0x25e,
        20_000,
        "a copy of the hard state that only the cache had, taken for durable at a start",
    ),
    (0xb0, 20_000, "a membership on its way, not counted when one of its voters was lost for good"),
    (0x7a3a4, 20_000, "removed servers that went on campaigning, for a disk was hurt"),
];

/// The same of runs that take more than a group can bear.
const ONCE_FAILED_BEYOND: &[(u64, u64, &str)] = &[
    (0x81, 4_000, "a readmitted node that kept its memberships once"),
    (0xaaff9, 20_000, "the head of a torn batch behind healed entries, taken for a later trace"),
    (0x2dc882, 20_000, "a log that its snapshot had replaced, taken for one that has lost its end"),
    (0x59, 4_000, "a node that had lost its promises, taken for back before it had started"),
];

/// The same of runs in which disks are what fails.
const ONCE_FAILED_ON_DISK: &[(u64, u64, &str)] = &[
    (0x4fd2, 20_000, "a lost membership that a damaged snapshot still names, taken for unknown"),
    (0xe4e545, 20_000, "a disk that says it is another server's, taken for one that starts"),
    (0xf42746, 20_000, "a lost end of a log that nobody was told of"),
    (0x1036760, 20_000, "a leader without its snapshot, and nobody who knew that it was committed"),
];

#[test]
fn seeds_that_once_failed_pass() {
    for &(seed, events, found) in ONCE_FAILED {
        passes(&Options::draw(seed, events), found);
    }
}

#[test]
fn seeds_that_once_failed_beyond_the_budget_pass() {
    for &(seed, events, found) in ONCE_FAILED_BEYOND {
        passes(&Options::draw_as(seed, events, Profile::Beyond), found);
    }
}

#[test]
fn seeds_that_once_failed_on_disk_pass() {
    for &(seed, events, found) in ONCE_FAILED_ON_DISK {
        passes(&Options::draw_as(seed, events, Profile::Disk), found);
    }
}

/// As the seed has it, and on the way that it took before disks were told that they rest.
fn passes(drawn: &Options, found: &str) {
    for options in [drawn.clone(), Options { rest_after_us: 0, ..drawn.clone() }] {
        let report = run::options(&options, How::once(options.events));
        assert_eq!(report.failure, None, "it once found {found}\n{report}");
    }
}

/// Stalls that would last longer than the whole cluster has to get going again.
#[test]
fn a_stall_ends_when_the_world_heals() {
    let knobs = [("faults", "stall"), ("fault_us", "30000000")];
    let knobs = knobs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let setup = Setup { events: 2_000, knobs, ..Setup::default() };
    for seed in [1, 3, 4] {
        let options = setup.options(seed).unwrap_or_else(|error| panic!("{error}"));
        let report = run::options(&options, How::once(options.events));
        assert_eq!(report.failure, None, "{report}");
    }
}
