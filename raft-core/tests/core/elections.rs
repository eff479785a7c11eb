//! Elections beyond the paper: what waits for the disk, bounds, halting. The paper's own rules are in
//! `tests/paper`.

use raft_core::{
    Body, Effect, EntryId, HaltReason, Index, Message, Observation, Outcome, Refused, Rejection,
    RoleName, Round, Rpc, RpcKind, Session, Span, Term, Ticket, Time,
};

use crate::support::{Cluster, member};

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index), ..EntryId::default() }
}

/// §5.2: the jitter differs by node even when the seed is the same.
#[test]
fn nodes_with_one_seed_draw_different_timeouts() {
    let cluster = Cluster::new(&[1, 2, 3], &[]);
    let deadline = |id| cluster.server(id).raft.next_deadline();
    assert_ne!(deadline(1), deadline(2));
    assert_ne!(deadline(2), deadline(3));
}

/// A request for votes that still waits for the disk when the winner of the term is heard must not
/// leave any more: it advertises a log that the winner may already have replaced.
#[test]
fn a_lost_candidacy_withdraws_the_requests_that_wait() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    cluster.is_disk_immediate = false;
    cluster.sync_all();
    cluster.step(1, Body::Campaign);
    let heartbeat =
        Rpc::Heartbeat { session: Session(1), round: Round(0), commit: Index(0), lease: Span(0) };
    cluster.say(2, 1, 1, heartbeat);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    cluster.sync(1);
    let kinds: Vec<RpcKind> = cluster.network.iter().map(|sent| sent.rpc.kind()).collect();
    assert_eq!(kinds, [RpcKind::HeartbeatResponse]);
}

/// A node that knows the leader of a term does not vote in it any more, although its vote is free.
#[test]
fn a_node_that_knows_the_leader_does_not_vote_in_that_term() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.check_quorum = false);
    let (session, round, commit) = (Session(1), Round(0), Index(0));
    let heartbeat = Rpc::Heartbeat { session, round, commit, lease: Span(0) };
    cluster.say(1, 2, 4, heartbeat);
    let before = cluster.server(2).raft.next_deadline();
    cluster.now = Time(100);
    let request = Rpc::RequestVote { last: id(3, 9), is_forced: false };
    cluster.say(3, 2, 4, request);
    assert_eq!(cluster.refusals(2), [Refused::LeaderKnown { leader: member(1) }]);
    assert_eq!(cluster.status(2).vote, None);
    assert_eq!(cluster.server(2).raft.next_deadline(), before, "and waits no longer than before");
}

/// Pre-vote must not deadlock: a long log in a low term and a short log in a high term find a
/// common term, because a refusal carries the refuser's term.
#[test]
fn a_refused_pre_vote_spreads_the_higher_term() {
    let mut cluster = Cluster::new(&[1, 2], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.take(|sent| sent.to == member(2));
    // n2 has the shorter log; a higher term reaches it alone.
    cluster.now = Time(cluster.now.0 + 1_000);
    cluster.say(1, 2, 7, Rpc::RequestVoteResponse { granted: false });
    assert_eq!(cluster.status(2).term, Term(7));
    // n1 gives up its leadership, for nobody answers, and asks for pre-votes in term 1.
    for _ in 0..3 {
        cluster.tick(1, 1_000);
        cluster.network.clear();
    }
    for _ in 0..4 {
        cluster.tick(1, 2_000);
        cluster.deliver();
    }
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert!(cluster.status(1).term > Term(7));
}

/// A term near the end of the numbers is refused, so that no term can overflow.
#[test]
fn a_term_beyond_the_limit_is_refused() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.say(1, 2, u64::MAX, Rpc::RequestVote { last: id(0, 0), is_forced: false });
    assert_eq!(cluster.status(2).term, Term(0));
    assert_eq!(cluster.refusals(2), [Refused::OutOfBounds]);
}

/// A failed write halts the node: it is silent, and every open ticket ends.
#[test]
fn a_failed_write_halts_the_node_and_ends_every_ticket() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.step(1, Body::Read { ticket: Ticket(2), mode: raft_core::ReadMode::ReadIndex });
    cluster.network.clear();
    cluster.step(1, Body::PersistFailed);
    let server = cluster.server(1);
    assert_eq!(server.outcomes[&Ticket(1)], Outcome::Halted);
    assert_eq!(server.outcomes[&Ticket(2)], Outcome::Halted);
    let halted = Observation::Halted { reason: HaltReason::PersistFailed };
    assert!(server.observations.contains(&halted));
    cluster.tick(1, 10_000);
    cluster.propose(1, 3, "y");
    assert!(cluster.network.is_empty(), "not even a heartbeat");
    assert_eq!(cluster.server(1).outcomes[&Ticket(3)], Outcome::Refused(Rejection::Halted));
    assert_eq!(cluster.server(1).raft.next_deadline(), None);
}

/// A message of a higher cluster epoch halts a node that was left behind; a lower one is refused.
#[test]
fn a_node_of_an_earlier_epoch_halts() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let request = Rpc::RequestVote { last: id(0, 0), is_forced: false };
    let mut envelope = cluster.envelope(1, 2, 1, request);
    envelope.epoch = envelope.epoch.next();
    cluster.step(2, Body::Peer(envelope));
    assert_eq!(cluster.status(2).role, RoleName::Halted);
}

/// Timers fire on a tick alone: any other input only moves the clock, which never goes back.
#[test]
fn only_a_tick_fires_timers_and_the_clock_never_goes_back() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let raft = &mut cluster.servers.get_mut(&1).expect("n1 is there").raft;
    let late = Time(1_000_000);
    let refused = Body::Propose { ticket: Ticket(1), command: bytes::Bytes::new() };
    let effects = raft.step(Message { now: late, body: refused });
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Send(_))));
    assert_eq!(raft.next_deadline(), Some(late), "the deadline has passed and waits for a tick");
    raft.step(Message { now: Time(0), body: Body::PeerUnreachable { peer: member(2) } });
    let effects = raft.step(Message { now: Time(5), body: Body::Tick });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Send(_))));
    assert!(raft.next_deadline() > Some(late));
}

/// A request for votes of an earlier term arrives late, after the vote of the present term was given
/// to the same candidate: what answers it must not be taken for a refusal of that vote.
#[test]
fn an_answer_to_an_earlier_candidacy_costs_no_vote() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    cluster.step(1, Body::Campaign);
    let earlier = cluster.take(|sent| sent.to == member(2)).remove(0);
    cluster.tick(1, 3_000);
    let present = cluster.take(|sent| sent.to == member(2)).remove(0);
    assert!(present.term > earlier.term, "the second candidacy has a term of its own");
    cluster.network.clear();
    cluster.step(2, Body::Peer(present));
    cluster.step(2, Body::Peer(earlier));
    // The network turns the two answers round.
    let mut answers = cluster.take(|sent| sent.from == member(2));
    answers.reverse();
    for answer in answers {
        cluster.step(1, Body::Peer(answer));
    }
    assert_eq!(cluster.status(1).role, RoleName::Leader);
}
