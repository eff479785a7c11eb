//! Thesis §9.6: pre-vote. A server raises its term only if an election could be won.

use raft_core::{Body, EntryId, Refused, RoleName, Rpc, RpcKind, Term};

use crate::peers::{end, found, genesis, heartbeat, lead, one, say, sent_by};
use crate::support::{Cluster, member};

fn asks(last: EntryId) -> Rpc {
    Rpc::RequestPreVote { last, attempt: 1 }
}

fn granted(is_granted: bool) -> Rpc {
    Rpc::RequestPreVoteResponse { attempt: 1, granted: is_granted }
}

/// Thesis §9.6: a server asks first, in its present term, and changes nothing on any disk by it.
#[test]
fn asking_changes_no_term_and_no_vote() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let last = genesis(&cluster);
    let before = cluster.server(2).disk.hard_state;
    cluster.step(1, Body::Campaign);
    assert_eq!(cluster.status(1).role, RoleName::PreCandidate);
    assert_eq!((cluster.status(1).term, cluster.status(1).vote), (Term(0), None));
    for asker in [1, 3, 1] {
        let answers = say(&mut cluster, asker, 2, 0, asks(last));
        assert_eq!(one(&answers), &granted(true), "a pre-vote binds nobody");
    }
    assert_eq!(cluster.server(2).disk.hard_state, before);
}

/// Thesis §9.6: a majority must be willing; then, and only then, the term rises and a real election
/// begins.
#[test]
fn a_majority_of_pre_votes_begins_a_real_election() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5], &[]);
    cluster.step(1, Body::Campaign);
    sent_by(&mut cluster, 1);
    say(&mut cluster, 2, 1, 0, granted(true));
    say(&mut cluster, 2, 1, 0, granted(true));
    say(&mut cluster, 3, 1, 0, granted(false));
    assert_eq!(cluster.status(1).role, RoleName::PreCandidate, "two of five");
    let sent = say(&mut cluster, 4, 1, 0, granted(true));
    let status = cluster.status(1);
    assert_eq!((status.role, status.term), (RoleName::Candidate, Term(1)));
    assert!(sent.iter().all(|sent| sent.rpc.kind() == RpcKind::RequestVote));
    assert_eq!(sent.len(), 4, "everyone is asked, whatever it said before");
}

/// Thesis §9.6: a server is willing only if it would vote for that log (§5.4.1).
#[test]
fn a_pre_vote_is_refused_to_a_log_that_is_behind() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    found(&mut cluster, 2, 3, &[1, 3]);
    let (mine, theirs) = (end(&cluster, &[1, 3]), end(&cluster, &[1, 1, 1]));
    let answers = say(&mut cluster, 1, 2, 3, asks(theirs));
    assert_eq!(one(&answers), &granted(false));
    assert_eq!(cluster.refusals(2), [Refused::LogBehind { mine, theirs }]);
}

/// Thesis §9.6: and only if it has not heard a leader for an election timeout.
#[test]
fn a_pre_vote_is_refused_while_a_leader_is_heard() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let last = genesis(&cluster);
    say(&mut cluster, 1, 2, 1, heartbeat(0));
    cluster.now.0 += 999;
    assert_eq!(one(&say(&mut cluster, 3, 2, 1, asks(last))), &granted(false));
    cluster.now.0 += 1;
    assert_eq!(one(&say(&mut cluster, 3, 2, 1, asks(last))), &granted(true));
}

/// Thesis §9.6: a leader is never willing, however long nobody has answered it.
#[test]
fn a_leader_grants_no_pre_vote() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    cluster.now.0 += 5_000;
    let last = cluster.status(1).last;
    assert_eq!(one(&say(&mut cluster, 3, 1, 1, asks(last))), &granted(false));
    assert_eq!(cluster.status(1).role, RoleName::Leader);
}

/// Thesis §9.6: a server that was cut off comes back in the term in which it left, and follows its
/// leader at the first heartbeat. Nobody else notices.
#[test]
fn a_server_that_comes_back_disrupts_nobody() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    for _ in 0..50 {
        cluster.tick(1, 100);
        cluster.tick(3, 0);
        cluster.deliver_if(|sent| sent.from != member(3) && sent.to != member(3));
    }
    assert_eq!(cluster.status(3).role, RoleName::PreCandidate);
    cluster.tick(3, 2_000);
    cluster.tick(2, 0);
    cluster.tick(1, 0);
    cluster.deliver();
    for id in 1..=3 {
        assert_eq!(cluster.status(id).term, Term(1));
        assert_eq!(cluster.status(id).leader, Some(member(1)));
    }
}

/// Thesis §9.6: with or without check-quorum, which says when a leader gives up by itself.
#[test]
fn a_pre_vote_is_refused_while_a_leader_is_heard_without_check_quorum_too() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.check_quorum = false);
    let last = genesis(&cluster);
    say(&mut cluster, 1, 2, 1, heartbeat(0));
    cluster.now.0 += 999;
    assert_eq!(one(&say(&mut cluster, 3, 2, 1, asks(last))), &granted(false));
    cluster.now.0 += 1;
    assert_eq!(one(&say(&mut cluster, 3, 2, 1, asks(last))), &granted(true));
}
