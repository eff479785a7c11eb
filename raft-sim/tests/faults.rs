//! Classes of faults that a cluster bears, and what they do to it.

use raft_sim::fault::{Fault, FaultSet};
use raft_sim::options::Options;
use raft_sim::report::Report;
use raft_sim::rng::Ratio;
use raft_sim::run::{self, How};

/// Runs of three servers in which nothing strikes but these, and a crash now and then.
fn runs(faults: &[Fault], turn: impl Fn(&mut Options)) -> Vec<Report> {
    let mut set = FaultSet::default();
    faults.iter().chain([&Fault::Crash]).for_each(|&fault| set.insert(fault));
    let runs = (0..8).map(|seed| {
        let mut options =
            Options { seed, faults: set, events: 4_000, strike_events: 128, ..Options::default() };
        turn(&mut options);
        assert_eq!(options.check(), Ok(()));
        let report = run::options(&options, How::once(options.events));
        assert_eq!(report.failure, None, "{report}");
        report
    });
    runs.collect()
}

/// Each of these had an effect in each run.
fn assert_effective(reports: &[Report], fault: Fault) {
    for report in reports {
        let (injected, effective) = report.stats.tally.of(fault);
        assert!(injected > 0 && effective > 0, "{} {injected}/{effective}\n{report}", fault.name());
    }
}

#[test]
fn a_slow_machine_is_borne_and_makes_a_difference() {
    let slow = runs(&[Fault::SlowNode], |_| ());
    assert_effective(&slow, Fault::SlowNode);
    let quick = runs(&[Fault::SlowNode], |options| options.slow_factor = 1);
    for (slow, quick) in slow.iter().zip(&quick) {
        assert_ne!(slow.digest, quick.digest);
        assert_eq!(quick.stats.tally.of(Fault::SlowNode), (0, 0), "{quick}");
    }
}

#[test]
fn servers_with_pre_vote_and_without_elect_leaders() {
    for pre_vote in [true, false] {
        let mixed = runs(&[Fault::Partition], |options| {
            (options.pre_vote, options.has_mixed_pre_vote) = (pre_vote, true);
        });
        assert_effective(&mixed, Fault::Partition);
        let alike = runs(&[Fault::Partition], |options| options.pre_vote = pre_vote);
        for (mixed, alike) in mixed.iter().zip(&alike) {
            assert_ne!(mixed.digest, alike.digest, "{mixed}");
            assert!(mixed.stats.elections > 1, "{mixed}");
        }
    }
}

#[test]
fn a_server_that_is_told_to_end_leaves_a_disk_that_knows_all() {
    let reports = runs(&[Fault::GracefulStop], |_| ());
    assert_effective(&reports, Fault::GracefulStop);
    // Most of them have something to tell their disks, and nobody else does.
    assert!(reports.iter().map(|report| report.stats.rests.told).sum::<u64>() > 16);
    // Some of them led, and somebody else took over without an election timeout.
    assert!(
        reports.iter().all(|report| report.stats.starts > report.stats.tally.of(Fault::Crash).1)
    );
}

#[test]
fn what_another_version_asks_for_is_in_the_log_and_does_nothing() {
    let reports = runs(&[Fault::Malformed, Fault::Oversized], |_| ());
    assert_effective(&reports, Fault::Malformed);
    assert_effective(&reports, Fault::Oversized);
}

#[test]
fn frames_of_another_version_are_refused_and_the_others_taken() {
    let reports = runs(&[Fault::WireVersion, Fault::Corruption], |options| {
        options.link.corruption = Ratio::new(1, 64);
    });
    assert_effective(&reports, Fault::WireVersion);
    assert_effective(&reports, Fault::Corruption);
}

#[test]
fn clocks_that_leases_do_not_bear_cost_answers_by_a_lease_and_nothing_else() {
    let drifts = |options: &mut Options| {
        options.lease_us = options.election_timeout_us;
        options.clock_drift_percent = 1;
        options.skew_ppm = 400_000;
        options.client.reads = Ratio::new(3, 4);
        options.client.clients = 4;
    };
    let reports = runs(&[Fault::Drift, Fault::Jump], drifts);
    assert_effective(&reports, Fault::Drift);
    assert_effective(&reports, Fault::Jump);
    // The class is what excuses them: without it such clocks are refused.
    let mut options = Options::default();
    drifts(&mut options);
    assert!(options.check().unwrap_err().to_string().contains("leases bear"));
}
