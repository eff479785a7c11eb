//! Cluster membership changes, through `step`: §6, thesis §4.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::membership::MEMBERS_MAX;
use raft_core::{
    AppendResult, Body, ChangeError, Envelope, Index, Member, MemberStep, Membership,
    MembershipChange, MembershipError, Message, NodeId, Observation, Outcome, PeerStatus, Refused,
    Rejection, RoleName, Rpc, Ticket,
};

use crate::support::{Cluster, Disk, config, member, membership};

const HEARTBEAT: u64 = 100;

#[test]
fn a_node_that_was_given_nothing_joins_as_a_learner_and_is_promoted_by_way_of_a_joint_membership() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    start_blank(&mut cluster, member(4));
    change(&mut cluster, 1, 2, vec![MemberStep::AddLearner(member(4))]);
    settle(&mut cluster, 1);
    assert_eq!(*cluster.status(4).membership, membership(&[1, 2, 3], &[4]));
    assert_eq!(cluster.log_of(4), cluster.log_of(1));
    assert!(committed(&cluster, 1, 2));
    let founders = cluster.server(4).disk.snapshot.membership.clone();
    assert_eq!(founders, membership(&[1, 2, 3], &[]), "the genesis came as a snapshot");

    change(&mut cluster, 1, 3, vec![MemberStep::Promote(NodeId(4))]);
    let joint = cluster.status(1).membership;
    assert!(joint.is_joint() && joint.auto_leave());
    settle(&mut cluster, 1);
    for id in [1, 2, 3, 4] {
        assert_eq!(*cluster.status(id).membership, membership(&[1, 2, 3, 4], &[]), "n{id}");
    }
    let deadline = cluster.server(4).raft.next_deadline();
    assert!(deadline.is_some(), "a voter has an election timer");
}

/// A promoted follower has an election timer from the moment it votes, though its leader dies.
#[test]
fn a_follower_that_becomes_a_voter_has_an_election_timer_at_once() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    assert_eq!(cluster.server(4).raft.next_deadline(), None, "a learner never campaigns");
    change(&mut cluster, 1, 1, vec![MemberStep::Promote(NodeId(4))]);
    cluster.deliver_if(|envelope| envelope.to == member(4));
    assert!(cluster.status(4).membership.is_joint());
    assert!(cluster.server(4).raft.next_deadline().is_some());
}

#[test]
fn a_joint_membership_commits_by_both_halves_alone() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4, 5]);
    cluster.elect(1);
    let before = cluster.status(1).commit;
    let steps = vec![
        MemberStep::Replace { old: NodeId(2), new: NodeId(4) },
        MemberStep::Replace { old: NodeId(3), new: NodeId(5) },
    ];
    change(&mut cluster, 1, 1, steps);
    // The incoming half is 1, 4, 5: it agrees, and it is not enough.
    let held = [member(2), member(3)];
    cluster.deliver_if(|envelope| !held.contains(&envelope.to));
    assert_eq!(cluster.status(1).commit, before);
    cluster.tick(1, HEARTBEAT);
    cluster.deliver_if(|envelope| envelope.to != member(3));
    cluster.tick(1, HEARTBEAT);
    cluster.deliver_if(|envelope| envelope.to != member(3));
    assert!(cluster.status(1).commit > before, "with n2 the outgoing half agrees as well");
    assert_eq!(*cluster.status(1).membership, membership(&[1, 4, 5], &[]));
}

/// The leader that began the change is gone: the next one finds the joint entry in its log.
#[test]
fn any_leader_leaves_a_joint_membership_after_a_commit_of_its_own_term() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    change(&mut cluster, 1, 1, vec![MemberStep::Promote(NodeId(4))]);
    // Everybody stores the joint entry, and the leader never hears of it.
    cluster.deliver_if(|envelope| envelope.from == member(1));
    cluster.servers.remove(&1);
    cluster.step(2, Body::ForgetLeader);
    cluster.step(3, Body::ForgetLeader);
    cluster.step(4, Body::ForgetLeader);
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(|envelope| !matches!(envelope.rpc, Rpc::AppendEntries { .. }));
    assert_eq!(cluster.status(2).role, RoleName::Leader);
    assert!(cluster.status(2).membership.is_joint(), "nothing of its own term is committed yet");
    settle(&mut cluster, 2);
    assert_eq!(*cluster.status(2).membership, membership(&[1, 2, 3, 4], &[]));
}

/// A membership that was made joint by hand is left by hand, whoever leads.
#[test]
fn a_joint_membership_without_automatic_leave_stays_until_it_is_left() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    let enter = MembershipChange::EnterJoint(vec![MemberStep::Promote(NodeId(4))]);
    propose(&mut cluster, 1, 1, enter, None);
    settle(&mut cluster, 1);
    assert!(committed(&cluster, 1, 1));
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(2), to: Some(NodeId(2)) });
    settle(&mut cluster, 2);
    let joint = cluster.status(2).membership;
    assert_eq!(cluster.status(2).role, RoleName::Leader);
    assert!(joint.is_joint() && !joint.auto_leave());
    change(&mut cluster, 2, 3, vec![MemberStep::Demote(NodeId(3))]);
    assert_eq!(refusal(&cluster, 2, 3), Some(Rejection::MembershipPending));
    propose(&mut cluster, 2, 4, MembershipChange::LeaveJoint, Some(joint.as_ref().clone()));
    settle(&mut cluster, 2);
    assert!(committed(&cluster, 2, 4));
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 3, 4], &[]));
}

#[test]
fn a_second_change_waits_for_the_first_and_the_first_for_an_own_commit() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(|envelope| !matches!(envelope.rpc, Rpc::AppendEntries { .. }));
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    change(&mut cluster, 1, 1, vec![MemberStep::Remove(NodeId(4))]);
    assert_eq!(refusal(&cluster, 1, 1), Some(Rejection::NoOwnCommit));
    cluster.tick(1, HEARTBEAT);
    cluster.deliver();
    change(&mut cluster, 1, 2, vec![MemberStep::Promote(NodeId(4))]);
    change(&mut cluster, 1, 3, vec![MemberStep::Demote(NodeId(2))]);
    assert_eq!(refusal(&cluster, 1, 3), Some(Rejection::MembershipPending));
    settle(&mut cluster, 1);
    change(&mut cluster, 1, 4, vec![MemberStep::Demote(NodeId(2))]);
    settle(&mut cluster, 1);
    assert_eq!(*cluster.status(2).membership, membership(&[1, 3, 4], &[2]));
}

#[test]
fn a_change_is_refused_unless_it_makes_sense_here() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    let cases = [
        (MemberStep::Remove(NodeId(9)), Rejection::UnknownMember),
        (MemberStep::Promote(NodeId(9)), Rejection::UnknownMember),
        (MemberStep::Promote(NodeId(2)), Rejection::NoChange),
        (MemberStep::AddLearner(member(4)), Rejection::NoChange),
    ];
    for (ticket, (step, expected)) in (10..).zip(cases) {
        change(&mut cluster, 1, ticket, vec![step]);
        assert_eq!(refusal(&cluster, 1, ticket), Some(expected), "{step}");
    }
    change(&mut cluster, 1, 20, vec![MemberStep::AddLearner(Member::new(2, 5))]);
    assert!(matches!(refusal(&cluster, 1, 20), Some(Rejection::InvalidMembership(_))));
    let everyone = [1, 2, 3].map(|id| MemberStep::Remove(NodeId(id))).to_vec();
    change(&mut cluster, 1, 21, everyone);
    assert!(matches!(refusal(&cluster, 1, 21), Some(Rejection::InvalidMembership(_))));
    propose(&mut cluster, 1, 22, MembershipChange::LeaveJoint, None);
    assert_eq!(refusal(&cluster, 1, 22), Some(Rejection::NotJoint));
    let other = membership(&[1, 2], &[]);
    let steps = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(4))]);
    propose(&mut cluster, 1, 23, steps.clone(), Some(other));
    assert_eq!(refusal(&cluster, 1, 23), Some(Rejection::MembershipDiffers));
    propose(&mut cluster, 2, 24, steps.clone(), None);
    let hint = Some(member(1));
    assert_eq!(refusal(&cluster, 2, 24), Some(Rejection::NotLeader { hint }));
    propose(&mut cluster, 1, 25, steps, Some(membership(&[1, 2, 3], &[4])));
    settle(&mut cluster, 1);
    assert!(committed(&cluster, 1, 25), "what was expected is in force");
    assert!(!cluster.status(1).membership.is_joint(), "learners alone change in one entry");
}

/// Who is to become a learner counts as one: the joint membership would have room for all of them,
/// and the one after it would not, so that no peer would take its entry.
#[test]
fn a_change_is_refused_if_the_joint_membership_could_not_be_left() {
    let learners: Vec<u64> = (10..10 + MEMBERS_MAX as u64).collect();
    let full = membership(&[1, 2, 3], &learners);
    let demote = MembershipChange::Steps(vec![MemberStep::Demote(NodeId(3))]);
    let refused = Err(ChangeError::Invalid(MembershipError::TooManyMembers));
    assert_eq!(full.changed(&demote), refused);
    let steps = vec![MemberStep::Remove(NodeId(10)), MemberStep::Demote(NodeId(3))];
    let joint = full.changed(&MembershipChange::Steps(steps)).expect("there is room for it");
    assert_eq!(joint.left().validate(), Ok(()));
}

/// A leader that becomes a learner hands over like one that is removed, and goes on as a learner.
#[test]
fn a_demoted_leader_hands_over_and_learns() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    change(&mut cluster, 1, 1, vec![MemberStep::Demote(NodeId(1))]);
    settle(&mut cluster, 1);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    let leader = cluster.status(1).leader.expect("it follows its successor");
    assert_eq!(*cluster.status(leader.id.0).membership, membership(&[2, 3], &[1]));
    cluster.propose(leader.id.0, 2, "x");
    settle(&mut cluster, leader.id.0);
    assert_eq!(cluster.log_of(1), cluster.log_of(leader.id.0));
    assert_eq!(cluster.server(1).raft.next_deadline(), None, "a learner never campaigns");
}

/// Thesis §4.2.1: a voter that lacks the log would only make the quorum larger.
#[test]
fn a_learner_that_lags_is_not_promoted() {
    let mut cluster =
        Cluster::with(&[1, 2, 3], &[4], |config| config.promotion_lag_entries_max = 0);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|envelope| envelope.to != member(4));
    change(&mut cluster, 1, 2, vec![MemberStep::Promote(NodeId(4))]);
    let (matched, needed) = (Index(1), Index(2));
    let expected = Rejection::NotCaughtUp { member: member(4), matched, needed };
    assert_eq!(refusal(&cluster, 1, 2), Some(expected));
    settle(&mut cluster, 1);
    change(&mut cluster, 1, 3, vec![MemberStep::Promote(NodeId(4))]);
    settle(&mut cluster, 1);
    assert_eq!(*cluster.status(4).membership, membership(&[1, 2, 3, 4], &[]));
}

/// Who has the whole log may be gone since. What it lacks then is an answer, and not an entry.
#[test]
fn a_learner_that_has_fallen_silent_is_not_promoted() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    settle(&mut cluster, 1);
    for _ in 0..20 {
        cluster.tick(1, HEARTBEAT);
        cluster.deliver_if(|envelope| envelope.to != member(4));
    }
    let peers = cluster.server(1).raft.peers();
    let silent = peers.iter().find(|peer| peer.member == member(4)).expect("it is a learner");
    assert_eq!(silent.match_index, cluster.status(1).last.index);
    change(&mut cluster, 1, 1, vec![MemberStep::Promote(NodeId(4))]);
    let expected = Rejection::NotHeard { member: member(4) };
    assert_eq!(refusal(&cluster, 1, 1), Some(expected));
    cluster.tick(1, HEARTBEAT);
    cluster.deliver();
    change(&mut cluster, 1, 2, vec![MemberStep::Promote(NodeId(4))]);
    assert_eq!(refusal(&cluster, 1, 2), None);
}

/// Who answered a heartbeat ago is there, though the leader has begun to count anew since.
#[test]
fn a_learner_is_promoted_in_the_moment_after_a_check_of_the_quorum() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    for _ in 0..9 {
        cluster.tick(1, HEARTBEAT);
        cluster.deliver();
    }
    cluster.tick(1, HEARTBEAT);
    cluster.network.clear();
    let is_fresh = |peer: &PeerStatus| peer.is_active;
    assert!(!cluster.server(1).raft.peers().iter().any(is_fresh), "the check was just made");
    change(&mut cluster, 1, 1, vec![MemberStep::Promote(NodeId(4))]);
    assert_eq!(refusal(&cluster, 1, 1), None);
}

/// Thesis §4.2.2: until its removal is committed a leader leads, without counting itself.
#[test]
fn a_removed_leader_does_not_count_itself_and_hands_over() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4], &[]);
    cluster.elect(1);
    let leave = cluster.status(1).last.index.next().next();
    change(&mut cluster, 1, 1, vec![MemberStep::Remove(NodeId(1))]);
    // Of the acknowledgements of the last entry only n2's arrives.
    let acknowledges_it = |envelope: &Envelope| {
        let Rpc::AppendEntriesResponse { result, .. } = envelope.rpc else { return false };
        matches!(result, AppendResult::Matched { index } if index >= leave)
    };
    cluster.deliver_if(|envelope| envelope.from == member(2) || !acknowledges_it(envelope));
    assert_eq!(*cluster.status(1).membership, membership(&[2, 3, 4], &[]));
    assert_eq!(cluster.status(1).last.index, leave);
    assert_eq!(cluster.status(1).commit.next(), leave, "n1 and n2 are no quorum of n2, n3 and n4");
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    settle(&mut cluster, 1);
    assert_ne!(cluster.status(1).role, RoleName::Leader);
    let retired = |observation: &Observation| matches!(observation, Observation::Retired { .. });
    assert!(cluster.server(1).observations.iter().any(retired));
    let leaders = [2, 3, 4].map(|id| cluster.status(id).role);
    assert!(leaders.contains(&RoleName::Leader), "it was asked to campaign: {leaders:?}");
    assert_eq!(cluster.server(1).raft.next_deadline(), None, "who votes no more never campaigns");
}

/// What a removed leader appends after the entry that removes it is decided by others, and nobody
/// tells it how: it takes no such proposal, or the ticket would never end.
#[test]
fn a_removed_leader_takes_no_proposal_whose_fate_it_cannot_learn() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    change(&mut cluster, 1, 1, vec![MemberStep::Remove(NodeId(1))]);
    let leave = cluster.status(1).last.index.next();
    cluster.propose(1, 2, "before");
    cluster.deliver_if(|sent| {
        let Rpc::AppendEntriesResponse { result, .. } = sent.rpc else { return true };
        !matches!(result, AppendResult::Matched { index } if index > leave)
    });
    assert!(!cluster.status(1).membership.is_member(member(1)), "it is in force");
    assert_eq!(cluster.status(1).role, RoleName::Leader, "and not committed");
    cluster.propose(1, 3, "after");
    assert_eq!(refusal(&cluster, 1, 3), Some(Rejection::Transferring));
    settle(&mut cluster, 1);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    assert!(committed(&cluster, 1, 1) && committed(&cluster, 1, 2));
}

/// The same when all of it comes in one batch: requests keep their order.
#[test]
fn proposals_before_a_change_are_appended_before_it() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let enter = MembershipChange::EnterJoint(vec![MemberStep::Remove(NodeId(1))]);
    propose(&mut cluster, 1, 1, enter, None);
    settle(&mut cluster, 1);
    let (now, change) = (cluster.now, MembershipChange::LeaveJoint);
    let bodies = [
        Body::Propose { ticket: Ticket(2), command: Bytes::from_static(b"before") },
        Body::ProposeMembership { ticket: Ticket(3), change, expect: None },
        Body::Propose { ticket: Ticket(4), command: Bytes::from_static(b"after") },
    ];
    cluster.step_batch(1, bodies.map(|body| Message { now, body }));
    settle(&mut cluster, 1);
    let index = |ticket| match outcome(&cluster, 1, ticket) {
        Some(Outcome::Committed { index, .. }) => Some(index),
        _ => None,
    };
    assert!(index(2).is_some() && index(2) < index(3), "{:?} {:?}", index(2), index(3));
    assert_eq!(refusal(&cluster, 1, 4), Some(Rejection::Transferring));
}

/// A transfer that is under way when the leader retires has named its successor: two forced
/// elections at once would split the votes.
#[test]
fn a_leader_that_retires_asks_the_successor_that_it_has_asked_already() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let leave = cluster.status(1).last.index.next().next();
    change(&mut cluster, 1, 1, vec![MemberStep::Remove(NodeId(1))]);
    // n3 has all first, and the request to campaign is slow.
    let acknowledges_it = |sent: &Envelope| {
        let Rpc::AppendEntriesResponse { result, .. } = sent.rpc else { return false };
        matches!(result, AppendResult::Matched { index } if index >= leave)
    };
    cluster.deliver_if(|sent| sent.from == member(3) || !acknowledges_it(sent));
    assert_eq!(cluster.status(1).last.index, leave);
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(2), to: Some(NodeId(3)) });
    let asked_first = cluster.take(|sent| sent.rpc == Rpc::TimeoutNow);
    assert_eq!(asked_first.len(), 1);
    let mut asked = Vec::new();
    for _ in 0..3 {
        cluster.tick(1, HEARTBEAT);
        cluster.deliver_if(|sent| {
            asked.extend((sent.rpc == Rpc::TimeoutNow).then_some(sent.to));
            sent.rpc != Rpc::TimeoutNow
        });
    }
    let retired = Observation::Retired { successor: Some(member(3)) };
    assert!(cluster.server(1).observations.contains(&retired));
    assert!(!asked.contains(&member(2)), "{asked:?}");
}

/// A removed follower hears of its removal, so it stops campaigning by itself.
#[test]
fn a_removed_follower_learns_that_it_is_removed() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    change(&mut cluster, 1, 1, vec![MemberStep::Remove(NodeId(3))]);
    settle(&mut cluster, 1);
    assert_eq!(*cluster.status(3).membership, membership(&[1, 2], &[]));
    assert_eq!(cluster.server(3).raft.next_deadline(), None);
    cluster.network.clear();
    cluster.tick(1, HEARTBEAT);
    let to_removed = cluster.take(|envelope| envelope.to == member(3));
    assert!(to_removed.is_empty(), "and then it is left alone");
}

/// Thesis §4.1: a membership is in force on append, and rolls back with a truncated one.
#[test]
fn a_truncated_membership_rolls_back() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    change(&mut cluster, 1, 1, vec![MemberStep::Promote(NodeId(4))]);
    assert!(cluster.status(1).membership.is_joint());
    cluster.network.clear();
    cluster.step(2, Body::ForgetLeader);
    cluster.step(3, Body::ForgetLeader);
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(|envelope| envelope.to != member(1));
    assert_eq!(cluster.status(2).role, RoleName::Leader);
    settle(&mut cluster, 2);
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 3], &[4]));
    assert_eq!(outcome(&cluster, 1, 1), Some(Outcome::Superseded));
}

/// A wiped server comes back as somebody else: another lineage, admitted as a learner in the same
/// change that removes the old one.
#[test]
fn a_wiped_server_is_readmitted_under_a_new_lineage() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let reborn = Member::new(3, 333);
    start_blank(&mut cluster, reborn);
    cluster.tick(1, HEARTBEAT);
    cluster.deliver();
    let not_for_me = cluster.refusals(3).contains(&Refused::NotForMe);
    assert!(not_for_me, "messages to the old lineage are not for the new one");
    let steps = vec![MemberStep::Remove(NodeId(3)), MemberStep::AddLearner(reborn)];
    change(&mut cluster, 1, 1, steps);
    settle(&mut cluster, 1);
    change(&mut cluster, 1, 2, vec![MemberStep::Promote(NodeId(3))]);
    settle(&mut cluster, 1);
    assert!(cluster.status(3).membership.is_voter(reborn));
    assert!(!cluster.status(1).membership.is_member(member(3)));
    assert_eq!(cluster.log_of(3), cluster.log_of(1));
}

/// Ends in the one thing that is safe when a quorum is gone for good: a new epoch, which the others
/// cannot follow by accident.
#[test]
fn a_forced_membership_is_fenced_by_the_cluster_epoch() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    let old = cluster.server(2).clone();
    cluster.servers.remove(&1);
    cluster.servers.remove(&2);
    cluster.step(3, Body::ForceMembership { ticket: Ticket(2) });
    assert!(committed(&cluster, 3, 2));
    assert_eq!(cluster.status(3).role, RoleName::Leader);
    assert_eq!(cluster.status(3).epoch.0, 1);
    cluster.propose(3, 3, "y");
    assert!(committed(&cluster, 3, 3), "it is a quorum by itself");
    cluster.network.clear();

    // A node of the old epoch comes back: nothing of it counts, and it halts once it hears.
    cluster.start(old.config, old.disk);
    cluster.step(2, Body::Campaign);
    cluster.deliver();
    assert_eq!(cluster.status(3).role, RoleName::Leader);
    let stale = |refused: &Refused| matches!(refused, Refused::StaleEpoch { .. });
    assert!(cluster.refusals(3).iter().any(stale));
    assert_eq!(cluster.status(2).role, RoleName::Halted, "it was told of the new epoch");
    // A fresh directory joins the new epoch without having been told of it.
    start_blank(&mut cluster, Member::new(2, 222));
    change(&mut cluster, 3, 4, vec![MemberStep::AddLearner(Member::new(2, 222))]);
    settle(&mut cluster, 3);
    assert_eq!(cluster.status(2).epoch.0, 1);
    assert_eq!(cluster.log_of(2), cluster.log_of(3));
}

fn start_blank(cluster: &mut Cluster, member: Member) {
    let config = raft_core::Config { lineage: member.lineage, ..config(member.id.0) };
    cluster.start(config, Disk::genesis(Membership::default()));
    assert_eq!(cluster.server(member.id.0).raft.next_deadline(), None, "it waits to be added");
}

fn change(cluster: &mut Cluster, id: u64, ticket: u64, steps: Vec<MemberStep>) {
    propose(cluster, id, ticket, MembershipChange::Steps(steps), None);
}

fn propose(
    cluster: &mut Cluster,
    id: u64,
    ticket: u64,
    change: MembershipChange,
    expect: Option<Membership>,
) {
    let expect = expect.map(Arc::new);
    cluster.step(id, Body::ProposeMembership { ticket: Ticket(ticket), change, expect });
}

/// A few heartbeats, with everything delivered.
fn settle(cluster: &mut Cluster, leader: u64) {
    for _ in 0..3 {
        cluster.deliver();
        cluster.tick(leader, HEARTBEAT);
    }
    cluster.deliver();
}

fn outcome(cluster: &Cluster, id: u64, ticket: u64) -> Option<Outcome> {
    cluster.server(id).outcomes.get(&Ticket(ticket)).copied()
}

fn committed(cluster: &Cluster, id: u64, ticket: u64) -> bool {
    matches!(outcome(cluster, id, ticket), Some(Outcome::Committed { .. }))
}

fn refusal(cluster: &Cluster, id: u64, ticket: u64) -> Option<Rejection> {
    match outcome(cluster, id, ticket)? {
        Outcome::Refused(rejection) => Some(rejection),
        Outcome::Committed { .. }
        | Outcome::Transferred { .. }
        | Outcome::Superseded
        | Outcome::Unknown
        | Outcome::Halted => None,
    }
}
