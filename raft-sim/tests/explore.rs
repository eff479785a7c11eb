//! The smallest explorations, to the end: their figures, what they reach, and that none of it depends
//! on threads or on what is left out to save time.

use std::sync::atomic::AtomicBool;

use raft_sim::explore::{self, ANY_NUMBER, Bounds, Report, Verdict};

fn small() -> Bounds {
    Bounds { nodes: 2, terms: 1, entries: 0, crashes: 0, ..Bounds::default() }
}

fn leases() -> Bounds {
    Bounds { terms: 2, reads: 1, heartbeats: 1, leases: true, ..small() }
}

fn explored(bounds: &Bounds, jobs: usize) -> Report {
    explore::run(bounds, jobs, &AtomicBool::new(false), |_| ())
}

/// Explores to the end, and requires that everything was found right and everything was reached.
#[track_caller]
fn complete(bounds: &Bounds) -> Report {
    let report = explored(bounds, 1);
    assert_eq!(*report.verdict(), Verdict::Complete, "{report}");
    assert!(!report.is_vacuous(), "{report}");
    assert_eq!(report.progress().frontier, 0);
    report
}

/// States, transitions and depth: golden. They change when the core or what is left out changes, and
/// then one should know why.
#[test]
fn the_figures_of_the_smallest_bounds_are_known() {
    let one = Bounds { nodes: 1, terms: 2, entries: 1, crashes: 1, ..small() };
    let two = Bounds { terms: 2, ..small() };
    let crash = Bounds { entries: 1, crashes: 1, ..small() };
    let three = Bounds { nodes: 3, ..small() };
    let expected = [(136, 201, 7), (137, 262, 18), (392, 1086, 18), (226, 589, 15)];
    for (bounds, expected) in [one, two, crash, three].iter().zip(expected) {
        let progress = complete(bounds).progress();
        let figures = (progress.states, progress.transitions, progress.depth);
        assert_eq!(figures, expected, "{bounds:?}");
    }
}

/// To reach more than can be reached is as wrong as to reach less.
#[test]
fn the_landmarks_of_the_smallest_bounds_are_known() {
    let report = complete(&Bounds { entries: 1, crashes: 1, ..small() });
    let reached: Vec<&str> = report.reached().collect();
    let expected = [
        "a server wins an election",
        "a vote is refused because it is given",
        "a vote is given once more to the candidate that has it",
        "an acknowledgement waits for the disk",
        "a leader commits by counting",
        "a follower learns what is committed",
        "a leader crashes",
        "a crash comes between two writes: the first is kept, the second is lost",
        "a crash takes back a vote that nobody has heard of",
        "a crash takes entries that nobody was promised",
        "a client's command is committed",
    ];
    assert_eq!(reached, expected);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for bounds in [
        Bounds { entries: 1, crashes: 1, ..small() },
        Bounds { learners: 1, changes: 1, ..small() },
        Bounds { nodes: 3, snapshots: 1, ..small() },
    ] {
        let (one, two) = (explored(&bounds, 1), explored(&bounds, 2));
        assert_eq!(one.to_string(), two.to_string());
        assert_eq!(one, two);
    }
}

/// What is the same if nothing is left out: the verdict, what was reached, and in how many ways the
/// group's history can go.
#[track_caller]
fn is_alike(one: &Report, other: &Report) {
    assert_eq!(one.verdict(), other.verdict());
    assert!(one.reached().eq(other.reached()), "{one}\n{other}");
    assert_eq!(one.names().histories, other.names().histories);
}

#[test]
fn messages_that_are_forgotten_and_steps_that_wait_are_not_missed() {
    for bounds in [
        leases(),
        Bounds { terms: 2, ..small() },
        Bounds { terms: 2, entries: 1, crashes: 1, ..small() },
        Bounds { entries: 1, reads: 1, ..small() },
        Bounds { entries: 1, reads: 1, forward: true, ..small() },
        Bounds { entries: 1, crashes: 1, heartbeats: 1, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, ..small() },
        Bounds { crashes: 1, damages: 1, snapshots: 2, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, rot: true, ..small() },
        Bounds { nodes: 3, ..small() },
    ] {
        // Which of several images stands for a state may depend on what is left out.
        let bounds = Bounds { symmetry: false, ..bounds };
        let whole = complete(&Bounds { collect: false, ..bounds.clone() });
        is_alike(&complete(&bounds), &whole);
    }
}

#[test]
fn states_with_fewer_messages_are_not_missed() {
    for bounds in [
        leases(),
        Bounds { terms: 2, ..small() },
        Bounds { terms: 2, entries: 1, crashes: 1, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, ..small() },
        Bounds { crashes: 1, damages: 1, snapshots: 2, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, rot: true, ..small() },
        Bounds { entries: 1, reads: 1, ..small() },
        Bounds { learners: 1, changes: 1, ..small() },
        Bounds { nodes: 3, snapshots: 1, heartbeats: 1, ..small() },
        Bounds { nodes: 3, entries: 1, ..small() },
    ] {
        let whole = complete(&Bounds { subsume: false, ..bounds.clone() });
        let least = complete(&bounds);
        assert!(least.progress().states <= whole.progress().states);
        is_alike(&least, &whole);
    }
}

#[test]
fn writes_that_are_completed_at_once_are_not_missed() {
    for bounds in [
        Bounds { terms: 2, entries: 1, crashes: 1, ..small() },
        Bounds { terms: 2, crashes: 1, pre_vote: true, ..small() },
        Bounds { nodes: 3, crashes: 1, ..small() },
    ] {
        let bounds = Bounds { symmetry: false, ..bounds };
        let slow = complete(&Bounds { hurry: false, ..bounds.clone() });
        let fast = complete(&bounds);
        assert!(fast.progress().states < slow.progress().states);
        is_alike(&fast, &slow);
    }
}

#[test]
fn servers_that_differ_only_in_their_names_are_not_missed() {
    for bounds in [
        leases(),
        Bounds { terms: 2, ..small() },
        Bounds { entries: 1, crashes: 1, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, beyond: true, ..small() },
        Bounds { crashes: 1, damages: 1, snapshots: 2, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, rot: true, ..small() },
        Bounds { nodes: 3, ..small() },
    ] {
        let (half, whole) =
            (complete(&bounds), complete(&Bounds { symmetry: false, ..bounds.clone() }));
        assert!(half.progress().states < whole.progress().states);
        assert!(half.reached().eq(whole.reached()), "{half}\n{whole}");
    }
}

#[test]
fn as_many_campaigns_begin_as_are_counted() {
    let script = include_str!("scripts/both_replaced.txt");
    let explored = |campaigns, hurry| {
        let bounds = Bounds { terms: 2, campaigns, hurry, ..small() };
        let stop = AtomicBool::new(false);
        let report =
            explore::run_from("", script, &bounds, 1, &stop, |_| ()).expect("it is a script");
        assert_eq!(*report.verdict(), Verdict::Complete, "{report}");
        report
    };
    let (slow, fast) = (explored(Some(9), false), explored(Some(9), true));
    assert!(fast.progress().states < slow.progress().states);
    is_alike(&fast, &slow);
    // More than there can be bound nothing, and none leaves the one that the leader hands over to.
    assert!(explored(None, true).reached().eq(slow.reached()));
    let handed = explored(Some(0), true);
    assert!(handed.progress().states < explored(Some(1), true).progress().states);
    let later = "a server wins an election in a later term than the first";
    assert!(handed.reached().any(|what| what == later), "{handed}");
}

#[test]
fn each_feature_reaches_its_landmarks() {
    for bounds in [
        Bounds { crashes: 1, ..leases() },
        Bounds { terms: 2, reads: 1, ..small() },
        Bounds { terms: 2, transfers: 1, ..small() },
        Bounds { transfers: 2, entries: 1, ..small() },
        Bounds { terms: 2, reads: 2, forward: true, ..small() },
        Bounds { nodes: 3, terms: 2, reads: 1, forward: true, ..small() },
        Bounds { learners: 1, changes: 1, ..small() },
        Bounds { changes: 1, ..small() },
        Bounds { nodes: 3, snapshots: 1, heartbeats: 1, ..small() },
        Bounds { terms: 2, pre_vote: true, ..small() },
        Bounds { terms: 2, check_quorum: true, ..small() },
        Bounds { check_quorum: true, heartbeats: 4, ..small() },
        Bounds { nodes: 3, crashes: 1, damages: 1, ..small() },
        Bounds { nodes: 3, crashes: 1, lost_tails: 1, heartbeats: 1, ..small() },
        Bounds { crashes: 1, damages: 1, snapshots: 1, ..small() },
        Bounds { damages: 1, rot: true, ..small() },
        Bounds { terms: 2, crashes: 1, damages: 1, snapshots: 2, ..small() },
    ] {
        complete(&bounds);
    }
}

/// Whoever has not heard its leader for a timeout grants a pre-vote before its own timer fires.
#[test]
fn followers_fall_silent_wherever_they_stick_to_a_leader() {
    for (pre_vote, check_quorum) in [(false, false), (true, false), (false, true), (true, true)] {
        let report = complete(&Bounds { pre_vote, check_quorum, ..small() });
        let is_silent = report.to_string().contains("\n  follower      silence");
        assert_eq!(is_silent, pre_vote || check_quorum, "{report}");
    }
}

#[test]
fn an_exploration_that_is_stopped_tells_what_it_has_covered() {
    let mut told = 0;
    let bounds = Bounds { nodes: 3, terms: 2, ..small() };
    let report = explore::run(&bounds, 1, &AtomicBool::new(true), |_| told += 1);
    assert_eq!((told, report.verdict()), (1, &Verdict::Stopped));
    assert!(report.progress().frontier > 0);
    assert!(!report.is_vacuous(), "nothing can be demanded of it");
    let shown = report.to_string();
    assert!(shown.starts_with("verdict    stopped: "), "{shown}");
    assert!(shown.contains("\n  follower      fire"), "{shown}");
}

#[test]
fn a_script_with_leases_goes_with_nothing_that_has_no_clocks() {
    let refused = |script: &str, bounds: &Bounds| {
        let stop = AtomicBool::new(false);
        explore::run_from("", script, bounds, 1, &stop, |_| ())
            .expect_err("it is refused")
            .to_string()
    };
    let asked = include_str!("scripts/lease_asked.txt");
    let lossy = Bounds { crashes: 1, damages: 1, ..leases() };
    assert!(
        refused(asked, &lossy)
            .ends_with("leases go without pre-votes, checks of the quorum and lossy disks")
    );
    let figure_8 = include_str!("scripts/figure_8.txt");
    assert!(refused(figure_8, &leases()).ends_with("its cluster has no leases=on"));
}

/// A leader's timers come back to where they were, so no bound is needed: from some number on, more
/// of them lead nowhere.
#[test]
fn the_timers_of_a_leader_may_fire_as_often_as_they_like() {
    let explored = |heartbeats| complete(&Bounds { terms: 2, heartbeats, ..small() });
    let (few, any) = (explored(1), explored(ANY_NUMBER));
    assert_eq!(any.names().histories, few.names().histories);
    assert!(few.reached().all(|what| any.reached().any(|other| what == other)));
    let fires = |report: &Report| report.to_string().contains("\n  leader        fire");
    assert!(fires(&any) && !fires(&explored(0)));
    complete(&Bounds { check_quorum: true, heartbeats: ANY_NUMBER, ..small() });
}
