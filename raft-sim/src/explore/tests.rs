//! What is told of a broken promise, and that what is left out changes nothing, group by group.

use std::hash::BuildHasher;

use raft_core::RoleName;
use rustc_hash::FxBuildHasher;

use super::facts::Fact;
use super::facts::forbidden::forbid;
use super::host::Host;
use super::seen::Seen;
use super::*;
use crate::script::play;

fn small() -> Bounds {
    Bounds { nodes: 2, terms: 1, entries: 0, crashes: 0, ..Bounds::default() }
}

fn leases() -> Bounds {
    Bounds { terms: 2, reads: 1, heartbeats: 1, leases: true, ..small() }
}

/// Requires that something forbidden is found, and that its story and its trace are told to the end.
#[track_caller]
fn violated(report: &Report) {
    let Verdict::Violated { broken, path, trace, is_nearest, depth } = report.verdict() else {
        panic!("{report}");
    };
    assert!(broken.what.ends_with(" is forbidden") && *is_nearest, "{report}");
    let told = format!("violated {}: {}\n  {0} means: ", broken.id, broken.what);
    assert_eq!(path.matches("\nviolated ").count(), 1, "{path}");
    assert!(path.contains(&told) && path.lines().count() > *depth, "{path}");
    assert_eq!(play(path).as_ref(), Ok(path), "a transcript plays to itself");
    let lines = trace.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines: Vec<_> = lines.map(|line| line.expect("each line is an object")).collect();
    assert!(lines.len() > *depth && lines.iter().all(serde_json::Value::is_object), "{trace}");
}

fn explored(bounds: &Bounds) -> Report {
    run(bounds, 1, &AtomicBool::new(false), |_| ())
}

#[test]
fn a_broken_promise_of_three_servers_is_told() {
    forbid(|fact, host| *fact == Fact::Leads && host.raft.status().term.0 == 2);
    let bounds = Bounds { nodes: 3, terms: 2, crashes: 1, ..small() };
    violated(&explored(&bounds));
    let depth = |report: Report| match report.verdict() {
        Verdict::Violated { depth, .. } => *depth,
        Verdict::Complete | Verdict::Stopped => panic!("{report}"),
    };
    let in_one = explored(&Bounds { gather: true, ..bounds });
    violated(&in_one);
    assert_eq!(depth(in_one), depth(explored(&bounds)), "a shortest way hears votes one by one");
}

/// Somebody leads after its promise was over, so time has passed.
#[test]
fn a_broken_promise_with_leases_is_told() {
    fn is_forbidden(fact: &Fact, host: &Host) -> bool {
        *fact == Fact::Leads && host.disk.hard_state().promise > raft_core::Span(0)
    }
    forbid(is_forbidden);
    let report = explored(&leases());
    violated(&report);
    let Verdict::Violated { path, .. } = report.verdict() else { unreachable!("it is one") };
    assert!(path.contains("\n> pass "), "{path}");
}

#[test]
fn a_broken_promise_of_a_lossy_disk_is_told() {
    forbid(|fact, _| matches!(fact, Fact::Knows { .. }));
    violated(&explored(&Bounds { nodes: 3, crashes: 1, lost_tails: 1, heartbeats: 1, ..small() }));
}

/// Who goes hands over to one of two that are alike.
#[test]
fn a_broken_promise_after_a_story_is_told() {
    let script = include_str!("../../tests/scripts/both_replaced.txt");
    forbid(|fact, host| *fact == Fact::Leads && host.raft.status().term.0 == 2);
    let bounds = Bounds { terms: 2, campaigns: Some(0), ..small() };
    let stop = AtomicBool::new(false);
    violated(&run_from("it", script, &bounds, 1, &stop, |_| ()).expect("it is a script"));
}

#[test]
fn a_path_that_may_not_be_the_shortest_is_told_as_such() {
    forbid(|fact, _| *fact == Fact::Leads);
    let (stop, mut states) = (AtomicBool::new(false), 0);
    let bounds = Bounds { nodes: 4, gather: true, ..small() };
    let report = run(&bounds, 1, &stop, |progress| {
        // The second search begins with a single state.
        stop.fetch_or(progress.states < states, std::sync::atomic::Ordering::Relaxed);
        states = progress.states;
    });
    assert!(matches!(report.verdict(), Verdict::Violated { is_nearest: false, .. }), "{report}");
    assert!(report.to_string().contains("\nstopped    before it was known whether a shorter"));
    let Verdict::Violated { path, .. } = report.verdict() else { unreachable!("it is one") };
    assert_eq!(play(path).as_ref(), Ok(path), "it has every vote that was heard");
}

#[test]
fn states_with_fewer_messages_add_no_group() {
    for bounds in [
        leases(),
        Bounds { terms: 2, entries: 1, crashes: 1, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, ..small() },
        Bounds { crashes: 1, damages: 1, snapshots: 2, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, rot: true, ..small() },
        Bounds { entries: 1, reads: 1, ..small() },
        Bounds { learners: 1, changes: 1, ..small() },
        Bounds { nodes: 3, snapshots: 1, heartbeats: 1, ..small() },
    ] {
        let start = Start::founded(&bounds, |_| {});
        let least = Seen::from(&start, &bounds);
        let whole = Seen::from(&start, &Bounds { subsume: false, ..bounds });
        assert!(least.states <= whole.states);
        assert!(least.groups() == whole.groups());
    }
}

#[test]
fn servers_that_differ_only_in_their_names_add_no_group() {
    for bounds in [
        leases(),
        Bounds { terms: 2, ..small() },
        Bounds { entries: 1, crashes: 1, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, beyond: true, ..small() },
        Bounds { crashes: 1, damages: 1, snapshots: 2, ..small() },
        Bounds { entries: 1, crashes: 1, damages: 1, rot: true, ..small() },
        Bounds { nodes: 3, ..small() },
    ] {
        let start = Start::founded(&bounds, |_| {});
        let alike = Seen::from(&start, &bounds);
        let apart = Seen::from(&start, &Bounds { symmetry: false, ..bounds });
        assert!(alike.states < apart.states);
        assert!(alike.groups() == apart.groups());
    }
}

/// A hash of a server without the votes that it has heard, if it is a candidate, and without its
/// timers.
fn without_votes(host: &Host) -> u64 {
    let status = host.raft.status();
    if !matches!(status.role, RoleName::PreCandidate | RoleName::Candidate) {
        return FxBuildHasher.hash_one(host);
    }
    let unsynced = host.unsynced.iter().map(|batch| (batch.hard_state, batch.append.clone()));
    let unsynced: Vec<_> = unsynced.collect();
    FxBuildHasher.hash_one((status, &host.disk, unsynced, host.campaigns, &host.lent))
}

#[test]
fn candidates_that_hear_votes_in_one_go_miss_nothing_but_their_counts() {
    let script = include_str!("../../tests/scripts/half_finished_joint_change.txt");
    let joint = Start::from_script(script).expect("it is a script");
    let joint = (joint.within(&small()), joint);
    let founded = [
        leases(),
        Bounds { terms: 2, entries: 1, crashes: 1, ..small() },
        Bounds { terms: 2, pre_vote: true, ..small() },
        Bounds { nodes: 3, terms: 2, ..small() },
        Bounds { nodes: 3, crashes: 1, ..small() },
        Bounds { nodes: 3, crashes: 1, lost_tails: 1, ..small() },
        Bounds { nodes: 3, pre_vote: true, attempts: 1, ..small() },
    ];
    let founded = founded.map(|bounds| (bounds.clone(), Start::founded(&bounds, |_| {})));
    let mut spared = 0;
    for (bounds, start) in founded.into_iter().chain([joint]) {
        let in_one = Bounds { gather: true, ..bounds.clone() };
        let one_by_one = Seen::by(&start, &bounds, without_votes);
        let in_one = Seen::by(&start, &in_one, without_votes);
        assert!(in_one.groups() == one_by_one.groups(), "{bounds:?}");
        spared += one_by_one.states - in_one.states;
    }
    assert!(spared > 100, "{spared} states");
}

/// What was on its way to a disk when the story ended is completed at once, if nothing else may be.
#[test]
fn a_start_hurries_like_all_that_follows() {
    let script = "> cluster 1 2 3 pre_vote=off check_quorum=off disk=slow\n> fire 1 ; fire 2\n\
                  > reach a server wins an election\n";
    let start = Start::from_script(script).expect("it is a script");
    for (campaigns, unsynced) in [(Some(1), 0), (None, 1)] {
        let bounds = start.within(&Bounds { campaigns, ..small() });
        let mut search = Search::new(bounds, start.clone(), Order::Breadth);
        let first = search.visited.state(0)[0];
        let store = search.store.get_mut().expect("no thread panics");
        assert_eq!(store.hosts.get(first).unsynced.len(), unsynced);
    }
    forbid(|fact, _| *fact == Fact::Leads);
    let bounds = Bounds { campaigns: Some(1), ..small() };
    let stop = AtomicBool::new(false);
    violated(&run_from("it", script, &bounds, 1, &stop, |_| ()).expect("it is a script"));
}

/// What a state of a server would do with a crash that is spent, or with a loss of another kind, never
/// happens, so it is no part of what was covered.
#[test]
fn what_cannot_happen_within_the_bounds_is_not_covered() {
    let again = "a doubt outlives a crash";
    let reached = |bounds: Bounds| {
        let report = explored(&bounds);
        let crashes = report.coverage.to_string();
        (report.reached().any(|what| what == again), crashes.contains("crash, damage"))
    };
    let once = Bounds { nodes: 3, crashes: 1, lost_tails: 1, ..small() };
    assert_eq!(reached(once.clone()), (false, false));
    assert_eq!(
        reached(Bounds { nodes: 2, crashes: 2, lost_tails: 1, beyond: true, ..once }),
        (true, false)
    );
    let script = include_str!("../../tests/scripts/both_replaced.txt");
    let campaigns = |campaigns| {
        let bounds = Bounds { terms: 2, campaigns: Some(campaigns), ..small() };
        let stop = AtomicBool::new(false);
        let report = run_from("it", script, &bounds, 1, &stop, |_| ()).expect("it is a script");
        let covered = report.coverage.to_string();
        covered.lines().any(|row| row.contains(" fire ") && row.contains("campaigns"))
    };
    assert_eq!((campaigns(0), campaigns(1)), (false, true));
}

/// Silence after a story proves something only if the story says what must follow it.
#[test]
fn a_story_that_demands_nothing_is_not_explored() {
    let script = "> cluster 1 2 pre_vote=off check_quorum=off\n> fire 1\n";
    let stop = AtomicBool::new(false);
    let explored = |script: &str, crashes| {
        let bounds = Bounds { crashes, ..small() };
        run_from("it", script, &bounds, 1, &stop, |_| ())
    };
    let refused = explored(script, 0).expect_err("it is refused");
    assert_eq!(refused.line, 2);
    let wants = format!("{script}> reach with crashes a server wins an election\n");
    let counts = |crashes| explored(&wants, crashes).expect("it is a script").demands.len();
    assert_eq!((counts(0), counts(1)), (0, 1));
}
