//! Servers that come back: removed and added again, blank after a compaction, under another lineage.

use raft_core::{
    Body, Config, Envelope, Index, Member, MemberStep, Membership, MembershipChange, NodeId,
    Outcome, Refused, RoleName, Round, Rpc, RpcKind, Session, Term, Ticket,
};

use crate::support::{Cluster, Disk, config, member, membership};

fn change(cluster: &mut Cluster, ticket: u64, steps: Vec<MemberStep>) {
    let (ticket, change) = (Ticket(ticket), MembershipChange::Steps(steps));
    cluster.step(1, Body::ProposeMembership { ticket, change, expect: None });
}

/// A few heartbeats of the leader, with everything delivered.
fn settle(cluster: &mut Cluster) {
    settle_with(cluster, 1);
}

fn settle_with(cluster: &mut Cluster, leader: u64) {
    for _ in 0..4 {
        cluster.deliver();
        cluster.tick(leader, 100);
    }
    cluster.deliver();
}

fn committed(cluster: &Cluster, ticket: u64) -> bool {
    let outcome = cluster.server(1).outcomes.get(&Ticket(ticket));
    matches!(outcome, Some(Outcome::Committed { .. }))
}

/// A node that comes back to the group it was removed from, in one and the same term: what it
/// acknowledged before belongs to a stream that is over. Between the two its disk may have changed.
#[test]
fn an_acknowledgement_from_before_the_removal_counts_for_nothing_after_the_return() {
    let mut cluster = Cluster::new(&[1, 2], &[3]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    let mut early = Vec::new();
    cluster.deliver_if(|sent| {
        let is_early = sent.from == member(3) && sent.rpc.kind() == RpcKind::AppendEntriesResponse;
        early.extend(is_early.then(|| sent.clone()));
        true
    });
    assert!(!early.is_empty());
    change(&mut cluster, 2, vec![MemberStep::Remove(NodeId(3))]);
    settle(&mut cluster);
    change(&mut cluster, 3, vec![MemberStep::AddLearner(member(3))]);
    cluster.network.clear();
    for answer in &early {
        cluster.step(1, Body::Peer(answer.clone()));
        let refused = cluster.refusals(1).last().copied();
        assert!(matches!(refused, Some(Refused::StaleSession { .. })), "{refused:?}");
    }
    settle(&mut cluster);
    assert!(committed(&cluster, 3));
    assert_eq!(cluster.log_of(3), cluster.log_of(1));
    change(&mut cluster, 4, vec![MemberStep::Promote(NodeId(3))]);
    settle(&mut cluster);
    assert_eq!(*cluster.status(3).membership, membership(&[1, 2, 3], &[]));
}

/// A blank node joins a group whose early log is gone: the snapshot brings it the membership and
/// the state, the log the rest.
#[test]
fn a_blank_node_joins_by_a_snapshot_of_later_state() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    for ticket in 1..=5 {
        cluster.propose(1, ticket, "x");
    }
    settle(&mut cluster);
    let snapshot = cluster.server(1).raft.snapshot_at(Index(4)).expect("it is applied");
    cluster.step(1, Body::SnapshotTaken { snapshot });
    assert_eq!(cluster.status(1).base.index, Index(4));
    cluster.start(config(4), Disk::genesis(Membership::default()));
    change(&mut cluster, 10, vec![MemberStep::AddLearner(member(4))]);
    settle(&mut cluster);
    let status = cluster.status(4);
    assert_eq!((status.base.index, status.applied), (Index(4), cluster.status(1).commit));
    assert_eq!(*status.membership, membership(&[1, 2, 3], &[4]));
    assert_eq!(status.last, cluster.status(1).last, "one history, by its chain");
    change(&mut cluster, 11, vec![MemberStep::Promote(NodeId(4))]);
    settle(&mut cluster);
    assert!(committed(&cluster, 11));
    // A crash finds all of it on the disk.
    let before = cluster.status(4);
    cluster.crash(4);
    let after = cluster.status(4);
    assert_eq!((after.last, after.membership), (before.last, before.membership));
}

/// Whoever has the id of a voter but another disk has no vote, no acknowledgement and no question.
#[test]
fn another_lineage_counts_for_nothing_until_it_is_admitted() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestVote);
    assert_eq!(cluster.status(1).role, RoleName::Candidate);
    let stranger = Member::new(3, 333);
    let says = |cluster: &mut Cluster, rpc: Rpc| {
        let like = cluster.server(3).raft.status();
        let Config { cluster: id, group, .. } = cluster.server(3).config;
        let envelope = Envelope {
            cluster: id,
            group,
            from: stranger,
            to: member(1),
            epoch: like.epoch,
            incarnation: like.incarnation,
            term: Term(1),
            rpc,
        };
        cluster.step(1, Body::Peer(envelope));
        cluster.refusals(1).last().copied()
    };
    let vote = Rpc::RequestVoteResponse { granted: true };
    assert_eq!(says(&mut cluster, vote), Some(Refused::Unasked));
    assert_eq!(cluster.status(1).role, RoleName::Candidate, "the vote of a stranger");
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let heartbeat = Rpc::HeartbeatResponse { session: Session(1), round: Round::ZERO };
    assert_eq!(says(&mut cluster, heartbeat), Some(Refused::Unasked));
    let id = raft_core::ReadId { n: 1, ..Default::default() };
    assert_eq!(says(&mut cluster, Rpc::ReadIndex { id }), Some(Refused::NotAMember));
}

/// A removed server that does not answer is not talked to for ever.
#[test]
fn a_removed_server_that_is_silent_is_given_up() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let is_apart = |sent: &Envelope| [sent.from, sent.to].contains(&member(3));
    change(&mut cluster, 1, vec![MemberStep::Remove(NodeId(3))]);
    let mut last = 0;
    for beat in 1..=30 {
        cluster.deliver_if(|sent| !is_apart(sent));
        cluster.tick(1, 100);
        if cluster.network.iter().any(is_apart) {
            last = beat;
        }
    }
    assert!(committed(&cluster, 1));
    assert!((5..=20).contains(&last), "told for one or two checks of the quorum: {last} beats");
}

/// A leader that is removed while it is cut off is told nothing any more, and what it was asked last stays
/// open, as the guide says. If it comes back, each ticket ends by what it then hears: those whose entries
/// others have replaced, those whose entries nothing has come so far to replace, and those whose place in
/// the log is gone.
#[test]
fn the_last_tickets_of_a_leader_that_was_removed_end_when_it_comes_back() {
    for (is_compacted, fate) in [(false, Outcome::Superseded), (true, Outcome::Unknown)] {
        let mut cluster = Cluster::new(&[1, 2, 3, 4], &[]);
        cluster.elect(4);
        settle_with(&mut cluster, 4);
        // n4 alone has ten commands.
        (10..20).for_each(|ticket| cluster.propose(4, ticket, "lonely"));
        cluster.network.clear();
        cluster.now.0 += 2_000;
        cluster.step(1, Body::Campaign);
        cluster.deliver_if(|sent| sent.to != member(4));
        change(&mut cluster, 1, vec![MemberStep::Remove(NodeId(4))]);
        for _ in 0..30 {
            cluster.deliver_if(|sent| sent.to != member(4));
            cluster.tick(1, 100);
        }
        assert!(committed(&cluster, 1));
        let end = cluster.status(1).last.index;
        assert!(end < cluster.status(4).last.index, "what has replaced its entries is shorter");
        // All can hear each other again, and nobody speaks to it.
        for _ in 0..50 {
            cluster.tick(4, 100);
            settle(&mut cluster);
        }
        assert_ne!(cluster.status(4).role, RoleName::Leader);
        assert!(cluster.server(4).outcomes.is_empty(), "it cannot know");
        if is_compacted {
            (20..40).for_each(|ticket| cluster.propose(1, ticket, "later"));
            settle(&mut cluster);
            let snapshot = cluster.server(1).raft.snapshot_at(cluster.status(1).applied);
            cluster.step(1, Body::SnapshotTaken { snapshot: snapshot.expect("applied") });
        }
        change(&mut cluster, 2, vec![MemberStep::AddLearner(member(4))]);
        (0..3).for_each(|_| settle(&mut cluster));
        assert_eq!(cluster.status(4).last, cluster.status(1).last);
        let outcomes = &cluster.server(4).outcomes;
        let ended: Vec<(u64, Outcome)> = outcomes.iter().map(|(it, how)| (it.0, *how)).collect();
        assert_eq!(ended, (10..20).map(|ticket| (ticket, fate)).collect::<Vec<_>>());
    }
}
