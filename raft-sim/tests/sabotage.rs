//! Proof that the simulator can fail: each way of breaking the stack is caught, and by which
//! invariant. The bound on the seeds is part of the claim.

use raft_sim::options::Options;
use raft_sim::report::Report;
use raft_sim::run::{self, How};
use raft_sim::sabotage::Sabotage;

const EVENTS: u64 = 20_000;

/// Runs seeds until one fails.
fn first_failure(sabotage: Sabotage, seeds: impl Iterator<Item = u64>) -> Report {
    let how = How { sabotage, ..How::once(EVENTS) };
    seeds
        .map(|seed| run::seed(seed, how))
        .find(|report| report.failure.is_some())
        .unwrap_or_else(|| panic!("{sabotage:?} survives all seeds"))
}

fn assert_caught(sabotage: Sabotage, seeds: u64, by: &[&str]) {
    assert_caught_in(sabotage, 0..seeds, by);
}

fn assert_caught_in(sabotage: Sabotage, seeds: impl Iterator<Item = u64>, by: &[&str]) {
    let report = first_failure(sabotage, seeds);
    let failure = report.failure.as_ref().expect("it has failed");
    assert!(by.contains(&failure.id()), "{sabotage:?} is caught by {by:?}, not by\n{report}");
    assert_eq!(report.exit_code(), 2);
    assert!(!report.lines.is_empty(), "a failure shows the lines before it");
}

#[test]
fn a_disk_that_confirms_what_it_has_not_synced() {
    assert_caught(Sabotage::SyncDoesNothing, 1, &["PS"]);
}

#[test]
fn a_disk_that_loses_the_vote() {
    assert_caught(Sabotage::VoteLost, 50, &["MT"]);
}

/// Here the storage itself notices that its log is ahead of the hard state, and refuses to start.
#[test]
fn a_disk_that_loses_the_hard_state() {
    assert_caught(Sabotage::HardStateLost, 50, &["REC", "MT"]);
}

#[test]
fn a_disk_that_resurrects_a_truncated_suffix() {
    assert_caught(Sabotage::SuffixResurrected, 200, &["REC"]);
}

#[test]
fn a_network_that_forges_an_acknowledgement() {
    assert_caught(Sabotage::AcknowledgementForged, 50, &["CQ"]);
}

#[test]
fn a_network_that_forges_a_vote() {
    assert_caught(Sabotage::VoteForged, 50, &["ES"]);
}

#[test]
fn a_network_that_forges_the_answer_to_a_read_round() {
    // Such an answer is also taken for a promise: where leases are in use, they are the first to be
    // wrong, before anybody has read by one.
    let has_leases = |seed: &u64| Options::draw(*seed, EVENTS).lease_us > 0;
    assert_caught_in(Sabotage::RoundForged, (0..200).filter(has_leases), &["LZ"]);
    let has_none = |seed: &u64| !has_leases(seed);
    assert_caught_in(Sabotage::RoundForged, (0..400).filter(has_none), &["LIN"]);
}

#[test]
fn a_state_machine_that_skips_a_command() {
    // By another replica that applies the same, or by a client that is answered before that.
    assert_caught(Sabotage::CommandSkipped, 10, &["SM", "LIN"]);
}

#[test]
fn a_snapshot_that_forgets_the_sessions() {
    assert_caught(Sabotage::SessionsForgotten, 100, &["EO", "SM"]);
}

#[test]
fn a_panic_is_caught_and_told() {
    run::catch_panics();
    let report = first_failure(Sabotage::MachinePanics, 0..10);
    let failure = report.failure.as_ref().expect("it has failed");
    assert_eq!((failure.id(), report.exit_code()), ("PANIC", 101), "{report}");
    assert!(failure.to_string().contains("sabotaged at i"), "{failure}");
    assert!(report.to_string().contains("at event "), "{report}");
}

#[test]
fn an_unbroken_stack_passes_the_same_seeds() {
    for seed in 0..20 {
        let report = run::seed(seed, How::once(EVENTS));
        assert_eq!(report.failure, None, "{report}");
    }
}
