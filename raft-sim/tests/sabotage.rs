//! Proof that the simulator can fail: each way of breaking the stack is caught, and by which
//! invariant. The bound on the seeds is part of the claim (`raft_sim::claims`).

use raft_sim::claims::CLAIMS;
use raft_sim::report::Report;
use raft_sim::run::{self, How};
use raft_sim::sabotage::Sabotage;

const EVENTS: u64 = 20_000;

/// Every claim about this way of breaking the stack is kept.
fn assert_caught(sabotage: Sabotage) -> Report {
    let claims = CLAIMS.iter().filter(|claim| claim.sabotage == sabotage);
    let reports = claims.map(|claim| {
        let report = claim.first_failure().unwrap_or_else(|| panic!("{claim:?}: nobody notices"));
        assert!(claim.is_kept(Some(&report)), "{claim:?} is not kept by\n{report}");
        assert!(!report.lines.is_empty(), "a failure shows the lines before it");
        report
    });
    let mut reports: Vec<Report> = reports.collect();
    reports.pop().unwrap_or_else(|| panic!("nothing is claimed of {sabotage:?}"))
}

/// The same, and it is safety that is violated.
fn assert_unsafe(sabotage: Sabotage) {
    assert_eq!(assert_caught(sabotage).exit_code(), 2, "{sabotage:?}");
}

#[test]
fn a_disk_that_confirms_what_it_has_not_synced() {
    assert_unsafe(Sabotage::SyncDoesNothing);
}

#[test]
fn a_disk_that_confirms_what_it_is_about_to_sync() {
    assert_unsafe(Sabotage::ConfirmedEarly);
}

#[test]
fn a_disk_that_confirms_entries_that_it_is_about_to_sync() {
    assert_unsafe(Sabotage::AppendsConfirmedEarly);
}

#[test]
fn a_disk_that_loses_the_vote() {
    assert_unsafe(Sabotage::VoteLost);
}

#[test]
fn a_disk_that_loses_the_hard_state() {
    assert_unsafe(Sabotage::HardStateLost);
}

#[test]
fn a_disk_that_resurrects_a_truncated_suffix() {
    assert_unsafe(Sabotage::SuffixResurrected);
}

#[test]
fn a_network_that_forges_an_acknowledgement() {
    assert_unsafe(Sabotage::AcknowledgementForged);
}

#[test]
fn a_network_that_forges_a_vote() {
    assert_unsafe(Sabotage::VoteForged);
}

#[test]
fn a_network_that_forges_the_answer_to_a_read_round() {
    assert_unsafe(Sabotage::RoundForged);
}

#[test]
fn a_state_machine_that_skips_a_command() {
    assert_unsafe(Sabotage::CommandSkipped);
}

#[test]
fn a_snapshot_that_forgets_the_sessions() {
    assert_unsafe(Sabotage::SessionsForgotten);
}

#[test]
fn a_snapshot_with_another_value_of_the_same_version() {
    assert_unsafe(Sabotage::ValueReplaced);
}

#[test]
fn a_panic_is_caught_and_told() {
    run::catch_panics();
    let report = assert_caught(Sabotage::MachinePanics);
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
