//! Leadership transfer (thesis §3.10), step-down, a forgotten leader and election priority, through
//! `step`.

use raft_core::{
    Body, Config, Envelope, MemberStep, MembershipChange, NodeId, Outcome, Refused, Rejection,
    RoleName, Rpc, Term, Ticket,
};

use crate::support::{Cluster, member};

const ELECTION_TIMEOUT: u64 = 1_000;
const HEARTBEAT: u64 = 100;

#[test]
fn the_successor_leads_the_next_term_though_everybody_hears_the_old_leader() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    transfer(&mut cluster, 1, 1, Some(3));
    cluster.deliver();
    assert_eq!(cluster.status(3).role, RoleName::Leader);
    assert_eq!(cluster.status(3).term, Term(2), "no pre-vote, no lost election");
    assert_eq!(outcome(&cluster, 1, 1), Some(Outcome::Transferred { term: Term(2) }));
    assert_eq!(cluster.status(1).role, RoleName::Follower);
}

/// An election that the leader did not ask for meets followers that hear it.
#[test]
fn only_the_leaders_own_wish_passes_stickiness_and_only_in_the_next_term() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    transfer(&mut cluster, 1, 1, Some(3));
    let asked = cluster.take(|envelope| envelope.rpc == Rpc::TimeoutNow);
    cluster.step(3, Body::Peer(asked[0].clone()));
    let requests = cluster.take(|envelope| matches!(envelope.rpc, Rpc::RequestVote { .. }));
    for envelope in requests.iter().filter(|envelope| envelope.to == member(2)) {
        let Rpc::RequestVote { last, is_forced: true } = envelope.rpc else {
            panic!("the successor says why it campaigns: {envelope}")
        };
        let unforced = Rpc::RequestVote { last, is_forced: false };
        cluster.step(2, Body::Peer(Envelope { rpc: unforced, ..envelope.clone() }));
        let later = Envelope { term: envelope.term.next(), ..envelope.clone() };
        cluster.step(2, Body::Peer(later));
        let is_sticky = |refused: &Refused| matches!(refused, Refused::StickyLeader { .. });
        assert_eq!(cluster.refusals(2).iter().filter(|refused| is_sticky(refused)).count(), 2);
        assert_eq!(cluster.status(2).term, Term(1));
        cluster.step(2, Body::Peer(envelope.clone()));
        assert_eq!(cluster.status(2).vote, Some(member(3)));
    }
}

#[test]
fn the_successor_gets_the_whole_log_first_and_proposals_wait_elsewhere() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|envelope| envelope.to != member(3));
    transfer(&mut cluster, 1, 2, Some(3));
    assert!(cluster.take(|envelope| envelope.rpc == Rpc::TimeoutNow).is_empty(), "it lacks x");
    cluster.propose(1, 3, "y");
    assert_eq!(outcome(&cluster, 1, 3), Some(Outcome::Refused(Rejection::Transferring)));
    let steps = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(2))]);
    let ticket = Ticket(4);
    cluster.step(1, Body::ProposeMembership { ticket, change: steps, expect: None });
    assert_eq!(outcome(&cluster, 1, 4), Some(Outcome::Refused(Rejection::Transferring)));
    cluster.tick(1, HEARTBEAT);
    cluster.deliver();
    assert_eq!(cluster.status(3).role, RoleName::Leader);
    assert_eq!(cluster.log_of(3), cluster.log_of(1));
}

#[test]
fn a_transfer_that_does_not_come_about_is_given_up_after_an_election_timeout() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.check_quorum = false);
    cluster.elect(1);
    transfer(&mut cluster, 1, 1, Some(3));
    cluster.network.clear();
    cluster.tick(1, ELECTION_TIMEOUT - 1);
    assert_eq!(outcome(&cluster, 1, 1), None);
    cluster.tick(1, 1);
    assert_eq!(outcome(&cluster, 1, 1), Some(Outcome::Refused(Rejection::TransferAborted)));
    cluster.propose(1, 2, "x");
    cluster.deliver();
    assert!(matches!(outcome(&cluster, 1, 2), Some(Outcome::Committed { .. })), "it leads on");
}

#[test]
fn a_second_transfer_replaces_the_first() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    transfer(&mut cluster, 1, 2, Some(3));
    transfer(&mut cluster, 1, 3, Some(2));
    assert_eq!(outcome(&cluster, 1, 2), Some(Outcome::Refused(Rejection::TransferAborted)));
    cluster.deliver();
    assert_eq!(cluster.status(2).role, RoleName::Leader);
}

#[test]
fn a_transfer_needs_another_voter() {
    let mut cluster = Cluster::new(&[1, 2], &[3]);
    cluster.elect(1);
    let cases =
        [(1, Rejection::NoChange), (3, Rejection::UnknownMember), (9, Rejection::UnknownMember)];
    for (ticket, (to, expected)) in (1..).zip(cases) {
        transfer(&mut cluster, 1, ticket, Some(to));
        assert_eq!(outcome(&cluster, 1, ticket), Some(Outcome::Refused(expected)), "to n{to}");
    }
    let hint = Some(member(1));
    transfer(&mut cluster, 2, 9, Some(2));
    assert_eq!(outcome(&cluster, 2, 9), Some(Outcome::Refused(Rejection::NotLeader { hint })));
    transfer(&mut cluster, 1, 10, None);
    cluster.deliver();
    assert_eq!(cluster.status(2).role, RoleName::Leader, "the best voter, when none is named");
}

/// A node that is no voter any more does not campaign, whoever asks.
#[test]
fn a_request_to_campaign_at_a_learner_is_refused() {
    let mut cluster = Cluster::new(&[1, 2], &[3]);
    cluster.elect(1);
    transfer(&mut cluster, 1, 1, Some(2));
    let mut asked = cluster.take(|envelope| envelope.rpc == Rpc::TimeoutNow);
    asked[0].to = member(3);
    cluster.step(3, Body::Peer(asked[0].clone()));
    assert!(cluster.refusals(3).contains(&Refused::NotAVoter));
    assert_eq!(cluster.status(3).role, RoleName::Follower);
}

/// A successor that loses its vote while it is waited for cannot lead.
#[test]
fn a_transfer_to_a_voter_that_is_demoted_is_given_up() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let change = MembershipChange::Steps(vec![MemberStep::Demote(NodeId(2))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(1), change, expect: None });
    transfer(&mut cluster, 1, 2, Some(2));
    assert_eq!(outcome(&cluster, 1, 2), None, "while the membership is joint it has a vote");
    cluster.deliver_if(|envelope| envelope.to != member(2));
    assert!(!cluster.status(1).membership.is_joint());
    assert_eq!(outcome(&cluster, 1, 2), Some(Outcome::Refused(Rejection::TransferAborted)));
}

/// What a leader appends after it has asked its successor to campaign makes the others' logs longer
/// than the successor's: the election that it wanted would be lost.
#[test]
fn a_joint_membership_is_not_left_once_the_successor_was_asked() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    let change = MembershipChange::Steps(vec![MemberStep::Promote(NodeId(4))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(1), change, expect: None });
    // n2 has the joint entry, and the answers of n3 and n4 are late: it is not committed yet.
    let answers = |sent: &Envelope| sent.to == member(1) && sent.from != member(2);
    let mut late = Vec::new();
    cluster.deliver_if(|sent| {
        late.extend(answers(sent).then(|| sent.clone()));
        !answers(sent)
    });
    transfer(&mut cluster, 1, 2, Some(2));
    let asked = cluster.take(|sent| sent.rpc == Rpc::TimeoutNow);
    for answer in late {
        cluster.step(1, Body::Peer(answer));
    }
    let joint = cluster.status(1);
    assert!(joint.commit == joint.last.index && joint.membership.is_joint());
    cluster.network.extend(asked);
    cluster.deliver();
    assert_eq!(cluster.status(2).role, RoleName::Leader);
    assert!(!cluster.status(2).membership.is_joint(), "the successor leaves it");
}

/// The request to campaign may arrive when its receiver is no member any more.
#[test]
fn a_late_request_to_campaign_at_a_removed_server_is_refused() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.check_quorum = false);
    cluster.elect(1);
    transfer(&mut cluster, 1, 1, Some(3));
    let asked = cluster.take(|envelope| envelope.rpc == Rpc::TimeoutNow);
    cluster.tick(1, ELECTION_TIMEOUT);
    cluster.deliver();
    let change = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(3))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(2), change, expect: None });
    cluster.deliver();
    cluster.step(3, Body::Peer(asked[0].clone()));
    assert_eq!(cluster.refusals(3).last(), Some(&Refused::NotAVoter));
    assert_eq!(cluster.status(3).role, RoleName::Follower);
}

#[test]
fn a_leader_steps_down_when_told_to_and_nobody_else_can() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.step(2, Body::StepDown);
    assert!(cluster.refusals(2).contains(&Refused::NotLeader));
    cluster.step(1, Body::StepDown);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    assert_eq!(cluster.status(1).leader, None);
    for id in [1, 2, 3] {
        cluster.step(id, Body::ForgetLeader);
    }
    cluster.elect(1);
    cluster.step(1, Body::ForgetLeader);
    assert!(cluster.refusals(1).contains(&Refused::NotFollower));
}

/// With its leader known to be gone, a group need not wait out the election timeout.
#[test]
fn followers_that_forget_their_leader_vote_for_another_at_once() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.servers.remove(&1);
    cluster.step(2, Body::Campaign);
    cluster.deliver();
    assert_eq!(cluster.status(2).role, RoleName::PreCandidate, "n3 still hears n1");
    cluster.step(3, Body::ForgetLeader);
    cluster.step(2, Body::Campaign);
    cluster.deliver();
    assert_eq!(cluster.status(2).role, RoleName::Leader);
}

/// Priority delays and never excludes: where only nodes of low priority are left, one of them leads.
#[test]
fn a_node_of_low_priority_waits_longer_and_leads_when_alone() {
    let prefers_three =
        |config: &mut Config| config.priority = if config.id.0 == 3 { 7 } else { 0 };
    let mut cluster = Cluster::with(&[1, 2, 3], &[], prefers_three);
    let deadline = |cluster: &Cluster, id: u64| {
        cluster.server(id).raft.next_deadline().expect("a voter has a timer").0
    };
    assert!(deadline(&cluster, 3) < 2 * ELECTION_TIMEOUT);
    let delay = 7 * ELECTION_TIMEOUT / 2;
    for id in [1, 2] {
        let after = deadline(&cluster, id);
        assert!((ELECTION_TIMEOUT + delay..2 * ELECTION_TIMEOUT + delay).contains(&after));
    }
    cluster.servers.remove(&3);
    let after = deadline(&cluster, 1);
    cluster.tick(1, after);
    cluster.deliver();
    assert_eq!(cluster.status(1).role, RoleName::Leader);
}

/// A candidate of high priority that hears no answers asks again and again. Who has voted for it in
/// vain does not wait longer than it for the next attempt.
#[test]
fn priority_counts_no_more_once_votes_are_given() {
    let low = |config: &mut Config| config.priority = if config.id.0 == 3 { 7 } else { 0 };
    let mut cluster = Cluster::with(&[1, 2, 3], &[], low);
    cluster.step(3, Body::Campaign);
    cluster.deliver_if(|sent| !matches!(sent.rpc, Rpc::RequestVoteResponse { .. }));
    assert_eq!(cluster.status(2).vote, Some(member(3)), "the vote is given, and lost");
    for id in [1, 2, 3] {
        let deadline = cluster.server(id).raft.next_deadline().expect("a voter has a timer").0;
        assert!((ELECTION_TIMEOUT..2 * ELECTION_TIMEOUT).contains(&deadline), "n{id}");
    }
}

fn transfer(cluster: &mut Cluster, id: u64, ticket: u64, to: Option<u64>) {
    let (ticket, to) = (Ticket(ticket), to.map(NodeId));
    cluster.step(id, Body::TransferLeadership { ticket, to });
}

fn outcome(cluster: &Cluster, id: u64, ticket: u64) -> Option<Outcome> {
    cluster.server(id).outcomes.get(&Ticket(ticket)).copied()
}
