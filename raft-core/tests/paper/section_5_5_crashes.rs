//! §5.5, §5.6 and thesis §3.8: crashes, restarts, timing.

use std::collections::BTreeSet;

use raft_core::{Config, ConfigError, Index, RecoverError, RoleName, Rpc, Term, Ticket, Time};

use crate::peers::{append, found, genesis, log, one, plain, request, say, terms};
use crate::support::{Cluster, config, member};

/// §5.5: a follower that crashes is asked again until it is back, and then has everything.
#[test]
fn a_crashed_follower_catches_up_when_it_is_back() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    for ticket in 1..=3 {
        cluster.propose(1, ticket, "x");
        cluster.deliver_if(|sent| sent.to != member(3));
    }
    cluster.crash(3);
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.status(3).applied, Index(4));
}

/// §5.5: a server that crashed after it had done what was asked, and before it could say so, is
/// asked again; a request has the same effect and the same answer a second time.
#[test]
fn requests_have_the_same_effect_if_repeated() {
    let mut cluster = plain(&[1, 2, 3]);
    let (prev, entries) = (genesis(&cluster), log(&cluster, &[4, 4]));
    let requests = [request(prev), append(prev, entries, 1)];
    for request in requests {
        let first = say(&mut cluster, 1, 2, 4, request.clone());
        let disk = cluster.server(2).disk.clone();
        cluster.crash(2);
        let second = say(&mut cluster, 1, 2, 4, request);
        assert_eq!(one(&first), one(&second));
        assert_eq!(disk.log, cluster.server(2).disk.log);
        assert_eq!(disk.hard_state.vote, cluster.server(2).disk.hard_state.vote);
    }
    assert_eq!(cluster.status(2).commit, Index(1));
}

/// Thesis §3.8: a server that restarts does not vote twice in a term.
#[test]
fn a_restarted_server_does_not_vote_twice() {
    let mut cluster = plain(&[1, 2, 3]);
    let last = genesis(&cluster);
    say(&mut cluster, 1, 2, 5, request(last));
    cluster.crash(2);
    let answers = say(&mut cluster, 3, 2, 5, request(last));
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: false });
    assert_eq!(cluster.status(2).vote, Some(member(1)));
}

/// Thesis §3.8: nor does it let a deposed leader replace entries of a newer one.
#[test]
fn a_restarted_server_refuses_a_deposed_leader() {
    let mut cluster = plain(&[1, 2, 3]);
    let (prev, new) = (genesis(&cluster), log(&cluster, &[6]));
    say(&mut cluster, 1, 2, 6, append(prev, new, 0));
    cluster.crash(2);
    let old = log(&cluster, &[5, 5]);
    say(&mut cluster, 3, 2, 5, append(prev, old, 2));
    assert_eq!((terms(&cluster, 2), cluster.status(2).commit), (vec![6], Index(0)));
}

/// Thesis §3.8: an entry counts towards its commitment only from where it is durable, so no
/// restart can take a committed entry back.
#[test]
fn an_entry_counts_only_where_it_is_durable() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.slow_disks = BTreeSet::from([2, 3]);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    assert_eq!(cluster.status(1).commit, Index(1), "three have it, one has it on disk");
    cluster.crash(2);
    assert_eq!(cluster.status(2).last.index, Index(1), "and it can be lost");
    cluster.sync(3);
    cluster.deliver();
    assert_eq!(cluster.status(1).commit, Index(2));
    cluster.crash(3);
    assert_eq!(cluster.status(3).last.index, Index(2), "now it cannot");
}

/// Thesis §3.8: after everyone has restarted at once nobody knows what is committed; a leader
/// learns it with its first own commit, and tells the others. State machines that start empty are
/// given the log again.
#[test]
fn a_cluster_that_restarts_finds_its_commit_index_again() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    for id in 1..=3 {
        cluster.crash(id);
        assert_eq!(cluster.status(id).commit, Index(0));
    }
    cluster.elect(2);
    for id in 1..=3 {
        assert_eq!(cluster.status(id).commit, Index(3));
        assert_eq!(cluster.server(id).applied.len(), 3);
    }
}

/// Thesis §3.8: a state machine that keeps what it has applied is not given it again.
#[test]
fn a_persistent_state_machine_is_not_given_entries_twice() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 1, &[1, 1, 1]);
    let mut state = cluster.server(2).disk.recovered();
    (state.commit, state.applied) = (Index(3), Index(2));
    let (_, effects) = raft_core::Raft::recover(config(2), state, Time(0)).expect("it is valid");
    let applied: Vec<Index> = effects
        .iter()
        .filter_map(|effect| {
            let raft_core::Effect::Apply { entries } = effect else { return None };
            Some(entries.iter().map(raft_core::Entry::index).collect::<Vec<_>>())
        })
        .flatten()
        .collect();
    assert_eq!(applied, [Index(3)]);
}

/// Thesis §3.8: a server that has lost part of what it must keep does not start as if it had not.
#[test]
fn a_server_that_lost_its_term_does_not_start() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 4, &[1, 4]);
    let mut state = cluster.server(2).disk.recovered();
    state.hard_state.term = Term(3);
    let error = raft_core::Raft::recover(config(2), state, Time(0)).expect_err("the term is lost");
    assert_eq!(error, RecoverError::TermBehindLog { term: Term(3), log: Term(4) });
}

/// §5.6: heartbeats must come well within an election timeout; options that cannot work are
/// refused.
#[test]
fn heartbeats_must_come_within_an_election_timeout() {
    let with = |heartbeat, election| {
        let adjusted =
            Config { heartbeat_interval_us: heartbeat, election_timeout_us: election, ..config(1) };
        adjusted.validate()
    };
    assert_eq!(with(100, 1_000), Ok(()));
    assert_eq!(with(1_000, 1_500), Err(ConfigError::ElectionTimeoutTooShort));
    assert_eq!(with(0, 1_000), Err(ConfigError::ZeroHeartbeat));
}

/// §5.6: safety does not depend on timing: clocks that stand still, jump, or disagree can cost a
/// leader, never an entry.
#[test]
fn clocks_that_jump_cost_no_entry() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    for (step, jump) in [(1, 0), (2, 1 << 40), (3, 5), (4, 1 << 41), (5, 0)] {
        cluster.propose(1, step, "x");
        cluster.tick(2, jump);
        cluster.tick(3, jump / 2);
        cluster.deliver();
        cluster.tick(1, jump);
        cluster.deliver();
    }
    // Whoever leads in the end: the others agree with it.
    for _ in 0..10 {
        cluster.now.0 += 500;
        for id in 1..=3 {
            cluster.tick(id, 0);
            cluster.deliver();
        }
    }
    let leader = (1..=3).find(|id| cluster.status(*id).role == RoleName::Leader);
    let leader = leader.expect("somebody leads once time runs evenly");
    assert_eq!(terms(&cluster, 1), terms(&cluster, leader));
    let committed = |ticket: &Ticket| {
        let outcome = cluster.server(1).outcomes.get(ticket);
        matches!(outcome, Some(raft_core::Outcome::Committed { .. }))
    };
    let answered: Vec<Ticket> = (1..=5).map(Ticket).filter(committed).collect();
    assert!(!answered.is_empty());
    let kept = cluster.server(leader).applied.iter();
    let kept = kept.filter(|entry| matches!(entry.payload(), raft_core::Payload::Command(_)));
    assert!(kept.count() >= answered.len(), "every command that was answered is applied");
    assert!((1..=3).all(|id| cluster.violations(id).is_empty()));
}
