//! Thesis §3.10: leadership transfer.

use raft_core::{
    Body, Index, NodeId, Outcome, Refused, Rejection, RoleName, Rpc, RpcKind, Term, Ticket,
};

use crate::peers::{append, end, heartbeat, lead, one, say, sent_by, terms};
use crate::support::{Cluster, member};

const TRANSFER: Ticket = Ticket(1_000);

fn led() -> Cluster {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    cluster
}

fn transfer(cluster: &mut Cluster, from: u64, to: u64) {
    let to = Some(NodeId(to));
    cluster.step(from, Body::TransferLeadership { ticket: TRANSFER, to });
}

fn kinds_to(cluster: &Cluster, id: u64) -> Vec<RpcKind> {
    let to_it = cluster.network.iter().filter(|sent| sent.to == member(id));
    to_it.map(|sent| sent.rpc.kind()).collect()
}

/// Thesis §3.10 step 1: the leader takes no requests any more, from the moment on at which it is
/// told to hand over.
#[test]
fn a_leader_that_hands_over_takes_no_commands() {
    let mut cluster = led();
    cluster.propose(1, 1, "before");
    transfer(&mut cluster, 1, 3);
    cluster.propose(1, 2, "after");
    let refused = Outcome::Refused(Rejection::Transferring);
    assert_eq!(cluster.server(1).outcomes[&Ticket(2)], refused);
    cluster.deliver();
    assert!(matches!(cluster.server(1).outcomes[&Ticket(1)], Outcome::Committed { .. }));
}

/// Thesis §3.10 step 2: its successor gets the whole log first, by ordinary appends.
#[test]
fn the_successor_gets_the_whole_log_first() {
    let mut cluster = led();
    cluster.propose(1, 1, "x");
    transfer(&mut cluster, 1, 3);
    assert!(!kinds_to(&cluster, 3).contains(&RpcKind::TimeoutNow), "n3 has not answered yet");
    cluster.deliver_if(|sent| sent.from != member(3) && sent.to != member(3));
    for _ in 0..3 {
        cluster.tick(1, 100);
        assert!(!kinds_to(&cluster, 3).contains(&RpcKind::TimeoutNow), "nor has it by now");
        cluster.deliver_if(|sent| sent.from != member(3) && sent.to != member(3));
    }
    cluster.tick(1, 100);
    let mut at_timeout = None;
    for _ in 0..20 {
        if kinds_to(&cluster, 3).contains(&RpcKind::TimeoutNow) {
            at_timeout = Some(terms(&cluster, 3));
            break;
        }
        let envelope = cluster.network.remove(0);
        cluster.step(envelope.to.id.0, Body::Peer(envelope));
    }
    assert_eq!(at_timeout, Some(vec![1, 1]));
}

/// Thesis §3.10 step 3: the successor acts as if its election timer had fired: the next term, a vote
/// for itself, requests to everyone. It asks nobody first (§9.6): it was told that it can win.
#[test]
fn the_successor_campaigns_at_once() {
    let mut cluster = led();
    let sent = say(&mut cluster, 1, 3, 1, Rpc::TimeoutNow);
    let status = cluster.status(3);
    assert_eq!((status.role, status.term), (RoleName::Candidate, Term(2)));
    assert_eq!(status.vote, Some(member(3)));
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|sent| matches!(sent.rpc, Rpc::RequestVote { is_forced: true, .. })));
}

/// Thesis §3.10, §4.2.3: others vote in that election although they hear their leader, for the
/// leader itself has asked for it.
#[test]
fn others_vote_although_they_hear_their_leader() {
    let mut cluster = led();
    let last = cluster.status(2).last;
    let ordinary = Rpc::RequestVote { last, is_forced: false };
    let forced = Rpc::RequestVote { last, is_forced: true };
    let answers = say(&mut cluster, 3, 2, 2, ordinary);
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: false });
    assert!(matches!(cluster.refusals(2)[..], [Refused::StickyLeader { .. }]));
    let answers = say(&mut cluster, 3, 2, 2, forced);
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: true });
}

/// Thesis §3.10: they still vote by their logs (§5.4.1): a leader can ask for an election, not for
/// its result.
#[test]
fn others_still_vote_by_their_logs() {
    let mut cluster = led();
    cluster.propose(1, 1, "x");
    cluster.deliver();
    let last = end(&cluster, &[1]);
    let answers = say(&mut cluster, 3, 2, 2, Rpc::RequestVote { last, is_forced: true });
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: false });
}

/// Thesis §3.10: the transfer is complete when the later term reaches the old leader, which then
/// follows. Nobody has waited for an election timeout.
#[test]
fn the_later_term_completes_the_transfer() {
    let mut cluster = led();
    let before = cluster.now;
    transfer(&mut cluster, 1, 3);
    cluster.deliver();
    assert_eq!(cluster.now, before);
    assert_eq!(cluster.status(3).role, RoleName::Leader);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    let transferred = Outcome::Transferred { term: Term(2) };
    assert_eq!(cluster.server(1).outcomes[&TRANSFER], transferred);
    cluster.propose(3, 1, "x");
    cluster.deliver();
    assert_eq!(cluster.status(1).commit, Index(3));
}

/// Thesis §3.10: if nothing has come of it after an election timeout, the leader gives the transfer
/// up and takes requests again.
#[test]
fn a_transfer_is_given_up_after_an_election_timeout() {
    let mut cluster = led();
    transfer(&mut cluster, 1, 3);
    for step in 1..=10 {
        assert!(!cluster.server(1).outcomes.contains_key(&TRANSFER), "step {step}");
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| sent.to != member(3));
    }
    let aborted = Outcome::Refused(Rejection::TransferAborted);
    assert_eq!(cluster.server(1).outcomes[&TRANSFER], aborted);
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|sent| sent.to != member(3));
    assert!(matches!(cluster.server(1).outcomes[&Ticket(1)], Outcome::Committed { .. }));
}

/// Thesis §3.10: if the successor was there after all, its late election costs a term and no entry.
#[test]
fn a_late_successor_costs_one_election() {
    let mut cluster = led();
    transfer(&mut cluster, 1, 3);
    let late = cluster.take(|sent| sent.rpc == Rpc::TimeoutNow);
    assert_eq!(late.len(), 1);
    for _ in 0..12 {
        cluster.tick(1, 100);
        cluster.deliver();
    }
    cluster.propose(1, 1, "x");
    cluster.deliver();
    cluster.step(3, Body::Peer(late[0].clone()));
    cluster.deliver();
    assert_eq!(cluster.status(3).role, RoleName::Leader);
    assert!((1..=3).all(|id| terms(&cluster, id) == [1, 1, 2]));
}

/// Thesis §3.10: whom an earlier leader asked does not campaign in a later term: the message is
/// stale like any other.
#[test]
fn a_request_of_an_earlier_leader_is_stale() {
    let mut cluster = led();
    say(&mut cluster, 2, 3, 5, heartbeat(0));
    assert!(say(&mut cluster, 1, 3, 1, Rpc::TimeoutNow).is_empty());
    assert_eq!(cluster.status(3).role, RoleName::Follower);
    let prev = cluster.status(3).last;
    say(&mut cluster, 2, 3, 5, append(prev, raft_core::Entries::empty(), 0));
    assert_eq!(cluster.status(3).term, Term(5));
    assert!(sent_by(&mut cluster, 3).is_empty());
}

/// Thesis §3.10: only a voter can take over.
#[test]
fn a_server_without_a_vote_cannot_take_over() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    lead(&mut cluster, 1);
    transfer(&mut cluster, 1, 4);
    let refused = Outcome::Refused(Rejection::UnknownMember);
    assert_eq!(cluster.server(1).outcomes[&TRANSFER], refused);
    assert!(say(&mut cluster, 1, 4, 1, Rpc::TimeoutNow).is_empty());
    assert_eq!(cluster.status(4).term, Term(1));
}
