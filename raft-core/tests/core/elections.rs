//! Leader election: §5.2, §5.4.1, thesis §4.2.3, §6.2, §9.6.

use raft_core::{
    Body, Effect, EntryId, Envelope, HaltReason, Index, Message, Observation, Outcome, Refused,
    Rejection, RoleName, Round, Rpc, RpcKind, Session, Term, Ticket, Time,
};

use crate::support::{Cluster, member};

/// A message as a peer would send it, in a term of the test's choice.
fn from_peer(cluster: &Cluster, from: u64, to: u64, term: u64, rpc: Rpc) -> Body {
    let status = cluster.status(from);
    let config = &cluster.server(from).config;
    Body::Peer(Envelope {
        cluster: config.cluster,
        group: config.group,
        from: member(from),
        to: member(to),
        epoch: status.epoch,
        incarnation: status.incarnation,
        term: Term(term),
        rpc,
    })
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index), ..EntryId::default() }
}

/// §5.2: followers start as such, and campaign after an election timeout without a leader.
#[test]
fn a_follower_that_hears_no_leader_campaigns() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let deadline = cluster.server(1).raft.next_deadline().expect("its election timer is armed");
    assert!((1_000..2_000).contains(&deadline.0), "at least one timeout, less than two");
    cluster.tick(1, deadline.0 - 1);
    assert!(cluster.network.is_empty());
    cluster.tick(1, 1);
    assert_eq!(cluster.status(1).role, RoleName::PreCandidate);
    cluster.deliver();
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert_eq!(cluster.status(1).term, Term(1));
}

/// §5.2: the jitter differs by node even when the seed is the same.
#[test]
fn nodes_with_one_seed_draw_different_timeouts() {
    let cluster = Cluster::new(&[1, 2, 3], &[]);
    let deadline = |id| cluster.server(id).raft.next_deadline();
    assert_ne!(deadline(1), deadline(2));
    assert_ne!(deadline(2), deadline(3));
}

/// §5.2: one vote in a term, first come first served; a repeated request gets the same answer.
#[test]
fn a_vote_is_given_once_in_a_term() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    for (candidate, granted) in [(1, true), (3, false), (1, true)] {
        let request = from_peer(
            &cluster,
            candidate,
            2,
            5,
            Rpc::RequestVote { last: id(0, 0), is_forced: false },
        );
        cluster.step(2, request);
        let answer = cluster.network.pop().expect("every candidate is answered");
        assert_eq!(answer.rpc, Rpc::RequestVoteResponse { granted });
    }
    assert_eq!(cluster.refusals(2), [Refused::AlreadyVoted { candidate: member(1) }]);
    assert_eq!(cluster.server(2).disk.hard_state.vote, Some(member(1)));
}

/// The vote survives a crash: after it the node still refuses the other candidate.
#[test]
fn a_vote_is_remembered_across_a_crash() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let request =
        from_peer(&cluster, 1, 2, 5, Rpc::RequestVote { last: id(0, 0), is_forced: false });
    cluster.step(2, request);
    cluster.crash(2);
    let request =
        from_peer(&cluster, 3, 2, 5, Rpc::RequestVote { last: id(0, 0), is_forced: false });
    cluster.step(2, request);
    let answer = cluster.network.pop().expect("every candidate is answered");
    assert_eq!(answer.rpc, Rpc::RequestVoteResponse { granted: false });
}

/// A vote leaves only once it is durable, and in the meantime nothing else of its term does.
#[test]
fn a_granted_vote_waits_for_the_disk() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.is_disk_immediate = false;
    let request =
        from_peer(&cluster, 1, 2, 5, Rpc::RequestVote { last: id(0, 0), is_forced: false });
    cluster.step(2, request);
    assert!(cluster.network.is_empty());
    cluster.sync(2);
    assert_eq!(cluster.network[0].rpc, Rpc::RequestVoteResponse { granted: true });
}

/// §5.4.1: the later last term wins, then the longer log. Indices alone decide nothing.
#[test]
fn a_candidate_whose_log_is_behind_is_refused() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.check_quorum = false);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    let mine = cluster.status(2).last;
    for (theirs, granted) in [
        (id(0, 100), false),
        (id(1, 1), false),
        (EntryId { chain: mine.chain, ..id(1, 2) }, true),
        (id(2, 1), true),
    ] {
        let mut voter = cluster.clone();
        let request =
            from_peer(&voter, 3, 2, 7, Rpc::RequestVote { last: theirs, is_forced: false });
        voter.step(2, request);
        let answer = voter.network.pop().expect("every candidate is answered");
        assert_eq!(answer.rpc, Rpc::RequestVoteResponse { granted }, "{theirs}");
        let refused = voter.refusals(2).contains(&Refused::LogBehind { mine, theirs });
        assert_eq!(refused, !granted);
    }
}

/// A stale or repeated grant never counts: one voter is one voter, and a term is a term.
#[test]
fn stale_and_repeated_grants_do_not_count() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], &[], |config| config.pre_vote = false);
    cluster.step(1, Body::Campaign);
    cluster.step(1, Body::Campaign);
    assert_eq!(cluster.status(1).term, Term(2));
    let grant = Rpc::RequestVoteResponse { granted: true };
    for term in [1, 1, 2, 2, 2] {
        let answer = from_peer(&cluster, 2, 1, term, grant.clone());
        cluster.step(1, answer);
        assert_eq!(cluster.status(1).role, RoleName::Candidate, "two of five is no majority");
    }
    let answer = from_peer(&cluster, 3, 1, 2, grant);
    cluster.step(1, answer);
    assert_eq!(cluster.status(1).role, RoleName::Leader);
}

/// A learner's grant does not count, nor does a stranger's.
#[test]
fn only_voters_elect() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[4], |config| config.pre_vote = false);
    cluster.step(1, Body::Campaign);
    let grant = from_peer(&cluster, 4, 1, 1, Rpc::RequestVoteResponse { granted: true });
    cluster.step(1, grant);
    assert_eq!(cluster.status(1).role, RoleName::Candidate);
    assert_eq!(cluster.refusals(1), [Refused::Unasked]);
    cluster.step(4, Body::Campaign);
    assert_eq!(cluster.status(4).role, RoleName::Follower);
    assert_eq!(cluster.refusals(4), [Refused::NotAVoter]);
}

/// §5.2: a candidate that hears the leader of its term follows it, and keeps its vote.
#[test]
fn a_candidate_follows_the_leader_of_its_term_and_keeps_its_vote() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    cluster.step(1, Body::Campaign);
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(|sent| sent.from == member(1) || sent.to == member(1));
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert_eq!(cluster.status(2).role, RoleName::Follower);
    assert_eq!(cluster.status(2).vote, Some(member(2)), "a vote changes only with the term");
}

/// A request for votes that still waits for the disk when the winner of the term is heard must not
/// leave any more: it advertises a log that the winner may already have replaced.
#[test]
fn a_lost_candidacy_withdraws_the_requests_that_wait() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    cluster.is_disk_immediate = false;
    cluster.sync_all();
    cluster.step(1, Body::Campaign);
    let heartbeat = Rpc::Heartbeat {
        session: Session(1),
        round: Round(0),
        commit: Index(0),
        lease: raft_core::Span(0),
    };
    let message = from_peer(&cluster, 2, 1, 1, heartbeat);
    cluster.step(1, message);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    cluster.sync(1);
    let kinds: Vec<RpcKind> = cluster.network.iter().map(|sent| sent.rpc.kind()).collect();
    assert_eq!(kinds, [RpcKind::HeartbeatResponse]);
}

/// Thesis §4.2.3: a node that hears its leader ignores candidates, their term included.
#[test]
fn a_live_leader_is_not_disturbed() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let request =
        from_peer(&cluster, 3, 2, 9, Rpc::RequestVote { last: id(9, 9), is_forced: false });
    cluster.step(2, request);
    assert_eq!(cluster.status(2).term, Term(1));
    assert!(matches!(cluster.refusals(2)[..], [Refused::StickyLeader { .. }]));
    let request =
        from_peer(&cluster, 3, 1, 9, Rpc::RequestVote { last: id(9, 9), is_forced: false });
    cluster.step(1, request);
    assert_eq!(cluster.status(1).role, RoleName::Leader, "the leader sticks to itself");
}

/// Thesis §9.6: a node that could not win does not raise the term.
#[test]
fn a_node_that_cannot_win_does_not_disrupt() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    for _ in 0..5 {
        cluster.tick(3, 2_000);
        cluster.network.clear();
    }
    assert_eq!(cluster.status(3).role, RoleName::PreCandidate);
    assert_eq!(cluster.status(3).term, Term(1), "five attempts, no new term");
    cluster.tick(1, 0);
    cluster.deliver();
    assert_eq!(cluster.status(3).role, RoleName::Follower, "the next heartbeat brings it back");
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
    let stale = from_peer(&cluster, 1, 2, 7, Rpc::RequestVoteResponse { granted: false });
    cluster.step(2, stale);
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

/// Thesis §6.2: a leader that no quorum answers steps down, and says so to those who wait.
#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.step(1, Body::Read { ticket: Ticket(5), mode: raft_core::ReadMode::ReadIndex });
    cluster.network.clear();
    for _ in 0..2 {
        cluster.tick(1, 1_000);
        cluster.network.clear();
    }
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    let refused = Outcome::Refused(Rejection::NotLeader { hint: None });
    assert_eq!(cluster.server(1).outcomes[&Ticket(5)], refused);
}

/// A follower with a higher term than the leader must be able to get back in: its answer to the
/// stale leader carries the term.
#[test]
fn a_stale_leader_learns_the_higher_term_from_an_answer() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let stale = from_peer(&cluster, 2, 3, 8, Rpc::RequestVoteResponse { granted: false });
    cluster.step(3, stale);
    assert_eq!(cluster.status(3).term, Term(8));
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    assert_eq!(cluster.status(1).term, Term(8));
}

/// A term near the end of the numbers is refused, so that no term can overflow.
#[test]
fn a_term_beyond_the_limit_is_refused() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let message =
        from_peer(&cluster, 1, 2, u64::MAX, Rpc::RequestVote { last: id(0, 0), is_forced: false });
    cluster.step(2, message);
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
    let Body::Peer(mut envelope) =
        from_peer(&cluster, 1, 2, 1, Rpc::RequestVote { last: id(0, 0), is_forced: false })
    else {
        unreachable!("the helper builds peer messages")
    };
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
