//! §6 and thesis §4.2: servers that join, leaders that leave, servers that disturb.

use std::sync::Arc;

use raft_core::{
    Body, Index, MemberStep, Membership, MembershipChange, NodeId, Observation, Outcome, Rejection,
    RoleName, RpcKind, Ticket,
};

use crate::peers::{lead, terms};
use crate::support::{Cluster, Disk, config, member, membership};

fn change(cluster: &mut Cluster, leader: u64, ticket: u64, steps: Vec<MemberStep>) {
    let (ticket, change) = (Ticket(ticket), MembershipChange::Steps(steps));
    cluster.step(leader, Body::ProposeMembership { ticket, change, expect: None });
}

/// A server that was given nothing: it knows nobody, and waits to be added.
fn start_blank(cluster: &mut Cluster, id: u64) {
    cluster.start(config(id), Disk::genesis(Membership::default()));
}

fn beat(cluster: &mut Cluster, leader: u64, times: usize) {
    for _ in 0..times {
        cluster.tick(leader, 100);
        cluster.deliver();
    }
}

/// Thesis §4.2.1: a server joins without a vote and with an empty log; it gets everything, and
/// then its vote.
#[test]
fn a_new_server_catches_up_before_it_votes() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    for ticket in 1..=10 {
        cluster.propose(1, ticket, "x");
    }
    cluster.deliver();
    start_blank(&mut cluster, 4);
    change(&mut cluster, 1, 20, vec![MemberStep::AddLearner(member(4))]);
    assert!(!cluster.status(1).membership.is_joint(), "no voter changes");
    cluster.deliver();
    beat(&mut cluster, 1, 5);
    assert_eq!(terms(&cluster, 4), [1; 12]);
    assert_eq!(cluster.server(4).raft.next_deadline(), None, "no vote yet");
    change(&mut cluster, 1, 21, vec![MemberStep::Promote(NodeId(4))]);
    cluster.deliver();
    beat(&mut cluster, 1, 2);
    for id in 1..=4 {
        assert_eq!(*cluster.status(id).membership, membership(&[1, 2, 3, 4], &[]), "n{id}");
    }
    assert!(cluster.server(4).raft.next_deadline().is_some());
}

/// Thesis §4.2.1: while it catches up it delays nobody: commits need it as little as elections do.
#[test]
fn a_new_server_delays_nobody() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    // It is added and never answers.
    change(&mut cluster, 1, 20, vec![MemberStep::AddLearner(member(4))]);
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|sent| sent.from != member(3) && sent.to != member(3));
    assert_eq!(cluster.status(1).commit, Index(3), "n1 and n2 are a majority of three");
}

/// Thesis §4.2.1: a change that needs a server which is not there, or lags too far behind, is
/// refused; nothing has happened, and it can be tried again.
#[test]
fn a_server_that_has_not_caught_up_gets_no_vote() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[4], |config| {
        config.promotion_lag_entries_max = 5;
    });
    lead(&mut cluster, 1);
    let away = |sent: &raft_core::Envelope| sent.from != member(4) && sent.to != member(4);
    for ticket in 1..=6 {
        cluster.propose(1, ticket, "x");
        cluster.deliver_if(away);
    }
    let refused = |cluster: &Cluster, ticket: u64| {
        let outcome = cluster.server(1).outcomes.get(&Ticket(ticket));
        matches!(outcome, Some(Outcome::Refused(Rejection::NotCaughtUp { .. })))
    };
    change(&mut cluster, 1, 20, vec![MemberStep::Promote(NodeId(4))]);
    assert!(refused(&cluster, 20), "six entries behind");
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 3], &[4]));
    // A voter cannot be made out of nobody either, in one step.
    let steps = vec![MemberStep::AddLearner(member(5)), MemberStep::Promote(NodeId(5))];
    change(&mut cluster, 1, 21, steps);
    assert!(refused(&cluster, 21));
    beat(&mut cluster, 1, 3);
    change(&mut cluster, 1, 22, vec![MemberStep::Promote(NodeId(4))]);
    cluster.deliver();
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 3, 4], &[]));
}

/// Thesis §4.2.2: a leader that is being removed leads on until the membership without it is
/// committed, and does not count itself for that.
#[test]
fn a_leader_that_is_removed_does_not_count_itself() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4], &[]);
    lead(&mut cluster, 1);
    change(&mut cluster, 1, 20, vec![MemberStep::Remove(NodeId(1))]);
    // The joint membership is committed with n2 and n3; then nobody but n2 gets what follows.
    let mut seen = 0;
    cluster.deliver_if(|sent| {
        let is_joint_only = cluster_last(sent).is_none_or(|last| last <= 2);
        seen += u32::from(!is_joint_only);
        is_joint_only || sent.to == member(2) || sent.from == member(2)
    });
    assert!(seen > 0, "the new membership is on its way");
    let status = cluster.status(1);
    assert_eq!(*status.membership, membership(&[2, 3, 4], &[]));
    assert_eq!((status.role, status.commit), (RoleName::Leader, Index(2)), "one of three holds it");
    beat(&mut cluster, 1, 2);
    assert_ne!(cluster.status(1).role, RoleName::Leader);
}

/// The last index in an append.
fn cluster_last(sent: &raft_core::Envelope) -> Option<u64> {
    let raft_core::Rpc::AppendEntries { entries, .. } = &sent.rpc else { return None };
    entries.last().map(|entry| entry.index().0)
}

/// Thesis §4.2.2: once that is committed it steps down, and one of the new servers leads. Ours hands
/// over (thesis §3.10), so that nobody has to wait.
#[test]
fn a_removed_leader_steps_down_and_hands_over() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4], &[]);
    lead(&mut cluster, 1);
    change(&mut cluster, 1, 20, vec![MemberStep::Remove(NodeId(1))]);
    cluster.deliver();
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    let retired = |seen: &Observation| matches!(seen, Observation::Retired { successor: Some(_) });
    assert_eq!(cluster.server(1).observations.iter().filter(|seen| retired(seen)).count(), 1);
    let leader = (2..=4).find(|id| cluster.status(*id).role == RoleName::Leader);
    let leader = leader.expect("one of the new servers leads without a timeout");
    cluster.propose(leader, 1, "x");
    cluster.deliver();
    assert!((2..=4).all(|id| *cluster.status(id).membership == membership(&[2, 3, 4], &[])));
    assert_eq!(cluster.status(leader).commit, cluster.status(leader).last.index);
}

/// Thesis §4.2.2: until then it is needed: with two servers, the one that stays cannot win without
/// the entry that only the removed leader has. So it must not step down early.
#[test]
fn a_removed_leader_stays_until_it_is_not_needed() {
    let mut cluster = Cluster::new(&[1, 2], &[]);
    lead(&mut cluster, 1);
    change(&mut cluster, 1, 20, vec![MemberStep::Remove(NodeId(1))]);
    cluster.deliver_if(|sent| cluster_last(sent).is_none_or(|last| last <= 2));
    let status = cluster.status(1);
    assert_eq!(*status.membership, membership(&[2], &[]));
    assert_eq!((status.role, status.commit), (RoleName::Leader, Index(2)));
    beat(&mut cluster, 1, 2);
    assert_eq!(cluster.status(2).role, RoleName::Leader, "it has handed over");
}

/// Thesis §4.2.3: a removed server that learns of its removal does not campaign; our leader tells it
/// before it forgets it.
#[test]
fn a_removed_server_is_told() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    change(&mut cluster, 1, 20, vec![MemberStep::Remove(NodeId(3))]);
    cluster.deliver();
    beat(&mut cluster, 1, 2);
    assert_eq!(*cluster.status(3).membership, membership(&[1, 2], &[]));
    assert_eq!(cluster.server(3).raft.next_deadline(), None);
    cluster.tick(1, 100);
    let to_it = cluster.network.iter().filter(|sent| sent.to == member(3));
    assert_eq!(to_it.count(), 0, "and then it is left alone");
}

/// Thesis §4.2.3: one that does not learn of it times out, and disturbs nobody that hears a leader,
/// be it with pre-vote or without.
#[test]
fn a_removed_server_disturbs_nobody() {
    for pre_vote in [true, false] {
        let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = pre_vote);
        lead(&mut cluster, 1);
        change(&mut cluster, 1, 20, vec![MemberStep::Remove(NodeId(3))]);
        let mut asked = 0;
        for _ in 0..50 {
            cluster.deliver_if(|sent| {
                let kind = sent.rpc.kind();
                asked += u32::from(kind == RpcKind::RequestPreVote || kind == RpcKind::RequestVote);
                sent.to != member(3)
            });
            cluster.tick(1, 100);
            cluster.tick(3, 0);
        }
        assert!(asked > 2, "n3 has tried again and again");
        let status = cluster.status(1);
        assert_eq!((status.role, status.term.0), (RoleName::Leader, 1), "pre_vote={pre_vote}");
        assert_eq!(Arc::as_ref(&status.membership), &membership(&[1, 2], &[]));
        assert_eq!(status.commit, status.last.index);
    }
}

/// Thesis §4.2.2: a server that is not in its newest membership still campaigns while that is not
/// committed: it may be the only one that can win. Without counting itself.
#[test]
fn a_removed_leader_that_crashed_campaigns_again_while_it_is_needed() {
    let mut cluster = Cluster::new(&[1, 2], &[]);
    lead(&mut cluster, 1);
    change(&mut cluster, 1, 20, vec![MemberStep::Remove(NodeId(1))]);
    // n1 alone has the entry that removes it; n2 has the joint membership, and needs n1's vote.
    cluster.deliver_if(|sent| cluster_last(sent).is_none_or(|last| last <= 2));
    assert_eq!(terms(&cluster, 1).len(), 3);
    assert_eq!(terms(&cluster, 2).len(), 2);
    cluster.crash(1);
    for _ in 0..100 {
        cluster.now.0 += 200;
        for id in [1, 2] {
            cluster.tick(id, 0);
            cluster.deliver();
        }
    }
    let leads = |id: u64| cluster.status(id).role == RoleName::Leader;
    assert!(leads(2), "n1: {}\nn2: {}", cluster.status(1), cluster.status(2));
}
