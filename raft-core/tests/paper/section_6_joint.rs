//! §6 and thesis §4.1, §4.3: the membership changes by way of a joint one.

use std::sync::Arc;

use raft_core::{
    Body, Envelope, Index, MemberStep, Membership, MembershipChange, NodeId, Outcome, Payload,
    Rejection, RoleName, Rpc, RpcKind, Ticket,
};

use crate::peers::{answer, grant, lead, matched, say, sent_by, to};
use crate::support::{Cluster, member, membership};

const CHANGE: u64 = 1_000;

fn change(cluster: &mut Cluster, leader: u64, ticket: u64, change: MembershipChange) {
    let ticket = Ticket(ticket);
    cluster.step(leader, Body::ProposeMembership { ticket, change, expect: None });
}

fn replace(old: u64, new: u64) -> MemberStep {
    MemberStep::Replace { old: NodeId(old), new: NodeId(new) }
}

/// Three voters of which two are to be replaced by two learners that have caught up: everything
/// is committed, nothing is on its way.
fn before_the_change() -> Cluster {
    let mut cluster = Cluster::with(&[1, 2, 3], &[4, 5], |config| {
        config.pre_vote = false;
        config.check_quorum = false;
    });
    lead(&mut cluster, 1);
    cluster
}

/// The change is appended, and not yet sent: old voters {1, 2, 3}, new ones {1, 4, 5}.
fn joint() -> Cluster {
    let mut cluster = before_the_change();
    let steps = vec![replace(2, 4), replace(3, 5)];
    change(&mut cluster, 1, CHANGE, MembershipChange::Steps(steps));
    assert!(cluster.status(1).membership.is_joint());
    cluster
}

fn among(ids: &[u64]) -> impl Fn(&Envelope) -> bool + '_ {
    |sent| ids.contains(&sent.from.id.0) && ids.contains(&sent.to.id.0)
}

fn refusal(cluster: &Cluster, id: u64, ticket: u64) -> Rejection {
    match cluster.server(id).outcomes.get(&Ticket(ticket)) {
        Some(Outcome::Refused(rejection)) => *rejection,
        other => panic!("it is refused, not {other:?}"),
    }
}

/// §6, thesis §4.1: a membership is an entry of the log, replicated like any other, to the servers
/// of both halves; commands go on in the meantime.
#[test]
fn a_membership_is_an_entry_that_goes_to_both_halves() {
    let mut cluster = joint();
    cluster.propose(1, 1, "x");
    let sent = sent_by(&mut cluster, 1);
    for peer in 2..=5 {
        let entries = sent.iter().filter(|sent| sent.to == member(peer)).flat_map(|sent| {
            let Rpc::AppendEntries { entries, .. } = &sent.rpc else { panic!("only appends") };
            entries.iter().cloned().collect::<Vec<_>>()
        });
        let payloads: Vec<Payload> = entries.map(|entry| entry.payload().clone()).collect();
        assert!(matches!(payloads[..], [Payload::Membership(_), Payload::Command(_)]), "n{peer}");
    }
}

/// §6, thesis §4.3: in a joint membership an entry is committed by a majority of the old servers
/// and a majority of the new ones, separately.
#[test]
fn a_joint_commit_needs_both_majorities() {
    for (acknowledging, is_enough) in [
        (&[2_u64, 3][..], false),
        (&[4, 5], false),
        (&[2, 4], true),
        (&[3, 5], true),
        (&[2, 3, 4], true),
    ] {
        let mut cluster = joint();
        let sent = sent_by(&mut cluster, 1);
        for peer in acknowledging {
            answer(&mut cluster, to(&sent, *peer), matched(2));
        }
        let is_committed = cluster.status(1).commit >= Index(2);
        assert_eq!(is_committed, is_enough, "n1 and {acknowledging:?}");
    }
}

/// §6, thesis §4.3: and so is an election.
#[test]
fn a_joint_election_needs_both_majorities() {
    for (voters, is_enough) in
        [(&[2_u64, 3][..], false), (&[4, 5], false), (&[2, 4], true), (&[3, 5], true)]
    {
        let mut cluster = joint();
        cluster.step(1, Body::StepDown);
        cluster.step(1, Body::Campaign);
        let term = cluster.status(1).term.0;
        for voter in voters {
            say(&mut cluster, *voter, 1, term, grant());
        }
        let leads = cluster.status(1).role == RoleName::Leader;
        assert_eq!(leads, is_enough, "n1 and {voters:?}");
    }
}

/// §6, thesis §4.3: a server of either half may lead.
#[test]
fn a_server_of_either_half_may_lead() {
    for candidate in [2, 5] {
        let mut cluster = joint();
        // Everyone has the joint entry; nobody knows that it is committed, the leader crashes.
        let is_append = |sent: &Envelope| sent.rpc.kind() == RpcKind::AppendEntries;
        cluster.deliver_if(is_append);
        cluster.crash(1);
        assert!(cluster.status(candidate).membership.is_joint());
        cluster.step(candidate, Body::Campaign);
        cluster.deliver_if(is_election);
        assert_eq!(cluster.status(candidate).role, RoleName::Leader);
    }
}

/// §6, thesis §4.1: a server uses the newest membership in its log, committed or not.
#[test]
fn a_membership_is_in_force_from_when_it_is_appended() {
    let mut cluster = joint();
    assert_eq!(cluster.status(1).commit, Index(1), "it is not committed");
    let sent = sent_by(&mut cluster, 1);
    assert!(!cluster.status(4).membership.is_voter(member(4)));
    cluster.step(4, Body::Peer(to(&sent, 4).clone()));
    let status = cluster.status(4);
    assert!(status.membership.is_joint() && status.membership.is_voter(member(4)));
    assert_eq!(status.commit, Index(1));
    assert!(cluster.server(4).raft.next_deadline().is_some(), "a voter has an election timer");
}

/// Thesis §4.1: an entry that makes a membership can be removed again; then the one before it is in
/// force.
#[test]
fn a_membership_that_is_truncated_falls_back() {
    let mut cluster = joint();
    let sent = sent_by(&mut cluster, 1);
    cluster.step(2, Body::Peer(to(&sent, 2).clone()));
    cluster.step(4, Body::Peer(to(&sent, 4).clone()));
    cluster.network.clear();
    cluster.crash(1);
    // n3 has never heard of the change. Only old servers, by their old rules, can make it lead:
    // n1 and n2 hold a longer log, so it needs an entry of a later term first.
    let before = membership(&[1, 2, 3], &[4, 5]);
    assert_eq!(*cluster.status(3).membership, before);
    let noop =
        raft_core::Entries::after(cluster.status(3).last, [(raft_core::Term(7), Payload::Noop)]);
    let append = crate::peers::append(cluster.status(3).last, noop, 0);
    for id in [2, 4] {
        say(&mut cluster, 3, id, 7, append.clone());
        assert_eq!(*cluster.status(id).membership, before);
    }
    assert_eq!(cluster.server(4).raft.next_deadline(), None, "a learner again");
}

/// §6, thesis §4.3: once the joint membership is committed the new one is appended; it is committed
/// by a majority of the new servers alone, and those that it leaves out are not needed any more.
#[test]
fn the_new_membership_is_committed_by_the_new_servers() {
    let mut cluster = joint();
    cluster.deliver_if(among(&[1, 2, 4]));
    assert!(!cluster.status(1).membership.is_joint(), "left as soon as it was committed");
    assert_eq!(*cluster.status(1).membership, membership(&[1, 4, 5], &[]));
    assert_eq!(cluster.status(1).commit, Index(3), "n1 and n4 hold it");
    cluster.propose(1, 1, "x");
    cluster.deliver_if(among(&[1, 4]));
    assert_eq!(cluster.status(1).commit, Index(4));
    let committed = Outcome::Committed { term: raft_core::Term(1), index: Index(2) };
    assert_eq!(cluster.server(1).outcomes[&Ticket(CHANGE)], committed);
}

/// §6: not before: while the joint membership is not committed, the new servers alone decide
/// nothing and the next entry is not there.
#[test]
fn a_joint_membership_is_not_left_before_it_is_committed() {
    let mut cluster = joint();
    cluster.deliver_if(among(&[1, 4, 5]));
    for _ in 0..5 {
        cluster.tick(1, 100);
        cluster.deliver_if(among(&[1, 4, 5]));
    }
    let status = cluster.status(1);
    assert!(status.membership.is_joint());
    assert_eq!((status.commit, status.last.index), (Index(1), Index(2)));
}

/// §6, thesis §4.3: whoever leads next completes the change: the log says that it is not complete.
#[test]
fn a_later_leader_completes_the_change() {
    let mut cluster = joint();
    cluster.deliver_if(|sent| sent.rpc.kind() == RpcKind::AppendEntries);
    cluster.crash(1);
    lead(&mut cluster, 5);
    cluster.tick(5, 100);
    cluster.deliver();
    for id in [1, 4, 5] {
        assert_eq!(*cluster.status(id).membership, membership(&[1, 4, 5], &[]), "n{id}");
        assert_eq!(cluster.status(id).commit, cluster.status(5).last.index);
    }
}

/// Thesis §4.1, §4.3: one change at a time: until the present one is committed and left, every
/// other is refused, and can be tried again.
#[test]
fn changes_do_not_overlap() {
    let mut cluster = joint();
    let add = || MembershipChange::Steps(vec![MemberStep::AddLearner(member(6))]);
    change(&mut cluster, 1, 1, add());
    assert_eq!(refusal(&cluster, 1, 1), Rejection::MembershipPending, "not committed");
    cluster.deliver_if(among(&[1, 2, 4]));
    // Now the new membership is appended and, with n4, committed.
    change(&mut cluster, 1, 2, add());
    assert_eq!(*cluster.status(1).membership, membership(&[1, 4, 5], &[6]));
    let mut simple = before_the_change();
    change(&mut simple, 1, 1, add());
    change(&mut simple, 1, 2, MembershipChange::Steps(vec![MemberStep::AddLearner(member(7))]));
    assert_eq!(refusal(&simple, 1, 2), Rejection::MembershipPending, "a simple one neither");
    let mut held = before_the_change();
    change(&mut held, 1, 1, MembershipChange::EnterJoint(vec![replace(2, 4)]));
    held.deliver();
    assert!(held.status(1).membership.is_joint(), "committed, and left when told to");
    change(&mut held, 1, 2, add());
    assert_eq!(refusal(&held, 1, 2), Rejection::MembershipPending);
    change(&mut held, 1, 3, MembershipChange::LeaveJoint);
    held.deliver();
    assert_eq!(*held.status(1).membership, membership(&[1, 3, 4], &[5]));
}

/// Thesis §4.1 as corrected by its author in 2015: a leader begins no change before an entry of its
/// own term is committed, or it could overlap with one that it does not know.
#[test]
fn a_new_leader_changes_nothing_before_its_first_commit() {
    let mut cluster = before_the_change();
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(is_election);
    assert_eq!(cluster.status(2).role, RoleName::Leader);
    let add = || MembershipChange::Steps(vec![MemberStep::AddLearner(member(6))]);
    change(&mut cluster, 2, 1, add());
    assert_eq!(refusal(&cluster, 2, 1), Rejection::NoOwnCommit);
    cluster.tick(2, 100);
    cluster.deliver();
    change(&mut cluster, 2, 2, add());
    assert!(cluster.status(2).membership.is_member(member(6)));
}

/// §6: there is no moment at which old and new servers decide by themselves. Through a whole change,
/// step by step: whoever could win with old votes alone, and whoever could with new ones alone.
#[test]
fn old_and_new_servers_never_decide_apart() {
    for first in [[2, 3], [4, 5]] {
        let mut cluster = joint();
        let mut stages = 0;
        while !cluster.network.is_empty() {
            // These servers are ahead of the others by a whole change.
            let is_first =
                |sent: &Envelope| [sent.from, sent.to].iter().any(|end| first.contains(&end.id.0));
            let position = cluster.network.iter().position(is_first).unwrap_or(0);
            let envelope = cluster.network.remove(position);
            cluster.step(envelope.to.id.0, Body::Peer(envelope));
            stages += 1;
            let (old, new) = (winner(&cluster, [2, 3]), winner(&cluster, [4, 5]));
            assert!(old.is_none() || new.is_none(), "{old:?} and {new:?} after {stages} messages");
        }
        assert!(stages > 8, "the change took {stages} messages");
        assert_eq!(*cluster.status(1).membership, membership(&[1, 4, 5], &[]));
    }
}

/// Who of these two could win now, with nobody's votes but theirs.
fn winner(cluster: &Cluster, half: [u64; 2]) -> Option<u64> {
    half.into_iter().find(|candidate| {
        let mut split = cluster.clone();
        split.network.clear();
        split.step(*candidate, Body::Campaign);
        split.deliver_if(|sent| is_election(sent) && among(&half)(sent));
        split.status(*candidate).role == RoleName::Leader
    })
}

fn is_election(sent: &Envelope) -> bool {
    matches!(sent.rpc, Rpc::RequestVote { .. } | Rpc::RequestVoteResponse { .. })
}

/// §7, thesis §4.1: a snapshot carries the membership at its last entry, so a server that has
/// nothing else knows who belongs.
#[test]
fn a_snapshot_carries_the_membership() {
    let mut cluster = joint();
    cluster.deliver();
    let status = cluster.status(1);
    let described = cluster.server(1).raft.snapshot_at(status.applied).expect("it is applied");
    assert_eq!(described.membership, membership(&[1, 4, 5], &[]));
    let at_joint = cluster.server(1).raft.snapshot_at(Index(2)).expect("it is applied");
    assert!(at_joint.membership.is_joint());
    cluster.step(1, Body::SnapshotTaken { snapshot: Arc::clone(&described) });
    assert_eq!(*cluster.status(1).membership, described.membership);
    let whole: &Membership = &described.membership;
    assert!(!whole.is_member(member(2)));
}
