//! Reads by lease (thesis §6.4.1): while a host may still answer, nobody else leads.

use raft_core::{
    Body, Config, Envelope, Index, MemberStep, MembershipChange, Observation, Outcome, ReadMode,
    Refused, RoleName, Rpc, RpcKind, Span, Term, Ticket, Time,
};

use crate::support::{Cluster, member};

/// The lease of these tests. With a drift of 10 percent a promise lasts 660.
const LEASE: u64 = 600;
const PROMISE: u64 = 660;

fn leased(config: &mut Config) {
    config.lease_us = LEASE;
    config.clock_drift_percent = 10;
}

/// Node 1 leads three voters that have just promised.
fn with_lease(adjust: impl Fn(&mut Config)) -> Cluster {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        leased(config);
        adjust(config);
    });
    cluster.elect(1);
    cluster.tick(1, 100);
    cluster.deliver();
    cluster
}

fn read(cluster: &mut Cluster, id: u64, ticket: u64) -> Option<Time> {
    cluster.step(id, Body::Read { ticket: Ticket(ticket), mode: ReadMode::Lease });
    cluster.server(id).valid_until.get(&Ticket(ticket)).copied()
}

/// The newest refusal at a node.
fn last_refusal(cluster: &Cluster, id: u64) -> Option<Refused> {
    cluster.refusals(id).last().copied()
}

fn at(cluster: &mut Cluster, time: u64, id: u64, body: Body) {
    cluster.now = Time(time);
    cluster.step(id, body);
}

/// One answered heartbeat is worth the lease from the moment at which it was sent, and no message.
#[test]
fn a_lease_answers_at_once_and_says_until_when() {
    let mut cluster = with_lease(|_| {});
    assert_eq!(cluster.now, Time(100), "the heartbeat was sent now");
    assert_eq!(read(&mut cluster, 1, 1), Some(Time(100 + LEASE)));
    cluster.now = Time(400);
    assert_eq!(read(&mut cluster, 1, 2), Some(Time(100 + LEASE)), "time alone wins nothing");
    assert!(cluster.network.is_empty(), "nobody was asked");
    assert_eq!(cluster.server(1).reads[&Ticket(2)], cluster.status(1).commit);
}

/// What counts is when the heartbeat left, however long its answer took.
#[test]
fn the_lease_counts_from_the_sending_of_the_heartbeat() {
    let mut cluster = with_lease(|_| {});
    cluster.tick(1, 100);
    let (sent, answered) = (cluster.now.0, cluster.now.0 + 300);
    cluster.now = Time(answered);
    cluster.deliver();
    assert_eq!(read(&mut cluster, 1, 1), Some(Time(sent + LEASE)));
}

/// Every lease that is over, or was never given, makes the read wait for a round.
#[test]
fn without_a_lease_a_read_waits_for_a_round() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], leased);
    cluster.elect(1);
    assert_eq!(read(&mut cluster, 1, 1), None, "nobody has promised yet");
    cluster.deliver();
    assert_eq!(cluster.server(1).reads[&Ticket(1)], Index(1));
    cluster.tick(1, 100);
    cluster.deliver();
    cluster.now = Time(100 + LEASE);
    assert_eq!(read(&mut cluster, 1, 2), None, "the lease is over");
    cluster.deliver();
    assert_eq!(cluster.server(1).reads[&Ticket(2)], Index(1));
    assert!(cluster.server(1).valid_until.is_empty());

    let mut off = Cluster::new(&[1, 2, 3], &[]);
    off.elect(1);
    off.tick(1, 100);
    off.deliver();
    assert_eq!(read(&mut off, 1, 1), None, "a lease of zero is none");
    off.deliver();
    assert_eq!(off.server(1).reads[&Ticket(1)], Index(1));
}

/// §8: what a new leader knows to be committed may be less than what is.
#[test]
fn a_new_leader_reads_by_lease_only_after_its_first_commit() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], leased);
    cluster.step(1, Body::Campaign);
    let is_append = |sent: &Envelope| sent.rpc.kind() == RpcKind::AppendEntries;
    cluster.deliver_if(|sent| !is_append(sent));
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| !is_append(sent));
    assert_eq!(read(&mut cluster, 1, 1), None);
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.server(1).reads[&Ticket(1)], Index(1));
    assert!(read(&mut cluster, 1, 2).is_some());
}

/// The answer to an append confirms a round for a read, but nobody has promised anything.
#[test]
fn only_the_answer_to_a_heartbeat_promises() {
    let mut cluster = with_lease(|_| {});
    cluster.now = Time(100 + LEASE);
    cluster.step(1, Body::Tick);
    let is_heartbeat = |sent: &Envelope| sent.rpc.kind() == RpcKind::Heartbeat;
    cluster.deliver_if(|sent| !is_heartbeat(sent));
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|sent| !is_heartbeat(sent));
    assert!(matches!(cluster.server(1).outcomes[&Ticket(1)], Outcome::Committed { .. }));
    assert_eq!(read(&mut cluster, 1, 2), None);
}

/// One voter of three and the leader are a quorum; learners promise, but it counts for nothing.
#[test]
fn a_lease_needs_a_quorum_of_voters() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], &[6, 7], leased);
    cluster.elect(1);
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| [1, 2, 3, 6, 7].contains(&sent.from.id.0));
    let only = [member(1), member(2), member(6), member(7)];
    assert!(read(&mut cluster, 1, 1).is_some(), "three of five have promised at first");
    cluster.now = Time(100 + LEASE);
    cluster.step(1, Body::Tick);
    cluster.deliver_if(|sent| only.contains(&sent.from) && only.contains(&sent.to));
    assert_eq!(read(&mut cluster, 1, 2), None, "two of five are no quorum");
}

/// A clock that is set back makes every lease last too long: a leader that sees it has none any more. What
/// it has given out holds as long as it did, and so does a promise; both may only take longer.
#[test]
fn a_clock_that_goes_back_ends_every_lease() {
    let mut cluster = with_lease(|_| {});
    let until = read(&mut cluster, 1, 1).expect("a quorum has promised");
    cluster.now = Time(99);
    assert_eq!(read(&mut cluster, 1, 2), None, "by this clock nobody can tell how long it lasts");
    cluster.deliver();
    assert_eq!(cluster.server(1).reads[&Ticket(2)], Index(1), "a round of messages can");
    let transfer = Body::TransferLeadership { ticket: Ticket(3), to: Some(member(2).id) };
    cluster.step(1, transfer);
    assert!(cluster.take(|sent| sent.rpc.kind() == RpcKind::TimeoutNow).is_empty());
    at(&mut cluster, 50, 2, Body::Campaign);
    assert!(matches!(last_refusal(&cluster, 2), Some(Refused::Promised { .. })));
    at(&mut cluster, until.0, 1, Body::Tick);
    assert_eq!(cluster.take(|sent| sent.rpc.kind() == RpcKind::TimeoutNow).len(), 1);

    // New rounds give new leases.
    let mut cluster = with_lease(|_| {});
    cluster.now = Time(0);
    assert_eq!(read(&mut cluster, 1, 1), None);
    cluster.tick(1, 200);
    cluster.deliver();
    assert_eq!(read(&mut cluster, 1, 2), Some(Time(200 + LEASE)));
}

/// Heartbeats that leave while the clock shows less than before bring no lease: time stands still for it until
/// the clock has caught up, and not for those who promise.
#[test]
fn a_lease_that_is_asked_for_while_the_clock_is_behind_does_not_count() {
    let mut cluster = with_lease(|_| {});
    cluster.now = Time(200);
    cluster.step(1, Body::PeerUnreachable { peer: member(9) });
    at(&mut cluster, 50, 1, Body::Tick);
    let mut promises = Vec::new();
    cluster.deliver_if(|sent| {
        promises.extend((sent.to == member(1)).then(|| sent.clone()));
        sent.to != member(1)
    });
    assert_eq!(promises.len(), 2);
    for promise in promises {
        at(&mut cluster, 201, 1, Body::Peer(promise));
    }
    assert_eq!(
        read(&mut cluster, 1, 1),
        None,
        "so much time may have passed since it was asked for"
    );
    cluster.tick(1, 300);
    cluster.deliver();
    assert_eq!(read(&mut cluster, 1, 2), Some(Time(501 + LEASE)));
}

/// The follower's promise: no vote, no pre-vote, no candidacy of its own, whatever an operator
/// or a missing check of the quorum may say; only time ends it.
#[test]
fn a_promise_outlives_forget_leader_and_campaign_even_without_check_quorum() {
    for check_quorum in [true, false] {
        let mut cluster = with_lease(|config| config.check_quorum = check_quorum);
        let until = read(&mut cluster, 1, 1).expect("a quorum has promised");
        for id in [2, 3] {
            at(&mut cluster, until.0 - 1, id, Body::ForgetLeader);
            cluster.step(id, Body::Campaign);
            assert!(matches!(last_refusal(&cluster, id), Some(Refused::Promised { .. })));
            assert_eq!(cluster.status(id).role, RoleName::Follower);
        }
        // A candidate that has promised nothing gets no vote either, and its term is ignored.
        let request = Rpc::RequestVote { last: cluster.status(2).last, is_forced: false };
        cluster.say(3, 2, 2, request);
        let left = Span(100 + PROMISE - (until.0 - 1));
        assert_eq!(last_refusal(&cluster, 2), Some(Refused::Promised { left }));
        assert_eq!(cluster.status(2).term, Term(1));
        // Time ends it.
        at(&mut cluster, 100 + PROMISE, 2, Body::Campaign);
        cluster.network.retain(|sent| sent.from == member(2));
        cluster.deliver_if(|sent| sent.to != member(1) && sent.from != member(1));
        assert_eq!(cluster.status(2).role, RoleName::Leader);
    }
}

/// A message that a peer has not sent but could have.
/// A start waits out the longest promise ever given, since the crash may have come right after it.
#[test]
fn a_restarted_node_waits_out_its_promise() {
    let mut cluster = with_lease(|_| {});
    let until = read(&mut cluster, 1, 1).expect("a quorum has promised");
    cluster.now = Time(300);
    for id in [2, 3] {
        cluster.crash(id);
        assert_eq!(cluster.server(id).disk.hard_state.promise, Span(PROMISE));
        cluster.step(id, Body::Campaign);
        assert_eq!(last_refusal(&cluster, id), Some(Refused::Promised { left: Span(PROMISE) }));
    }
    let request = Rpc::RequestVote { last: cluster.status(2).last, is_forced: false };
    cluster.now = Time(until.0);
    cluster.say(3, 2, 2, request.clone());
    let left = Span(300 + PROMISE - until.0);
    assert_eq!(last_refusal(&cluster, 2), Some(Refused::Promised { left }));
    cluster.now = Time(300 + PROMISE);
    cluster.say(3, 2, 2, request);
    assert_eq!(cluster.server(2).disk.hard_state.vote, Some(member(3)));
}

/// The first promise is durable before its answer leaves: a crash cannot forget it.
#[test]
fn a_promise_that_grows_is_durable_before_it_is_told() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], leased);
    cluster.elect(1);
    cluster.is_disk_immediate = false;
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(read(&mut cluster, 1, 1), None, "no answer has left");
    cluster.sync(2);
    assert_eq!(cluster.server(2).disk.hard_state.promise, Span(PROMISE));
    cluster.deliver();
    assert!(read(&mut cluster, 1, 2).is_some());
    // From now on a heartbeat is answered without the disk.
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| sent.to != member(3));
    assert!(cluster.server(2).unsynced.is_empty());
    assert_eq!(read(&mut cluster, 1, 3), Some(Time(200 + LEASE)));
}

/// The follower's clock runs ten percent faster: when its promise is over, so is the lease.
#[test]
fn a_fast_follower_keeps_its_promise_as_long_as_a_slow_leader_needs() {
    let mut cluster = with_lease(|_| {});
    let until = read(&mut cluster, 1, 1).expect("a quorum has promised");
    // Both clocks read 100 when the heartbeat went. At the leader's 699 the follower reads 758.
    let fast = |leader: u64| 100 + (leader - 100) * 11 / 10;
    at(&mut cluster, fast(until.0 - 1), 2, Body::Campaign);
    assert!(matches!(last_refusal(&cluster, 2), Some(Refused::Promised { .. })));
    at(&mut cluster, fast(until.0), 2, Body::Campaign);
    assert_eq!(cluster.status(2).role, RoleName::PreCandidate, "not a moment longer than needed");
}

/// The leader promises too: it may have stepped down while its host still answers.
#[test]
fn a_leader_that_steps_down_neither_votes_nor_campaigns_while_its_host_may_answer() {
    let mut cluster = with_lease(|config| config.check_quorum = false);
    let until = read(&mut cluster, 1, 1).expect("a quorum has promised");
    cluster.now = Time(until.0 - 50);
    cluster.step(1, Body::StepDown);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    cluster.step(1, Body::Campaign);
    assert_eq!(last_refusal(&cluster, 1), Some(Refused::Promised { left: Span(50) }));
    let request = Rpc::RequestVote { last: cluster.status(1).last, is_forced: false };
    cluster.say(3, 1, 2, request.clone());
    assert_eq!(last_refusal(&cluster, 1), Some(Refused::Promised { left: Span(50) }));
    cluster.now = until;
    cluster.say(3, 1, 2, request);
    assert_eq!(cluster.server(1).disk.hard_state.vote, Some(member(3)));
}

/// A leader that leads by a later term starts without a lease: the promises were given to the term
/// before.
#[test]
fn a_leader_that_is_elected_again_needs_new_promises() {
    let mut cluster = with_lease(|_| {});
    cluster.step(1, Body::StepDown);
    // The others stick to it for an election timeout, which is longer than they have promised.
    cluster.now = Time(100 + 1_000);
    cluster.elect(1);
    assert_eq!(cluster.status(1).term, Term(2));
    assert_eq!(read(&mut cluster, 1, 1), None);
    cluster.deliver();
    assert_eq!(cluster.server(1).reads.len(), 1, "by a round");
}

/// Thesis §3.10 with §6.4.1: a transfer passes all promises, so the request to campaign waits
/// until nothing that was given out can be answered, and nothing is given out any more.
#[test]
fn a_transfer_waits_until_what_was_lent_is_over() {
    let mut cluster = with_lease(|_| {});
    let until = read(&mut cluster, 1, 1).expect("a quorum has promised");
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(2), to: Some(member(2).id) });
    assert_eq!(read(&mut cluster, 1, 3), None, "the lease is revoked first");
    let is_timeout_now = |sent: &Envelope| sent.rpc.kind() == RpcKind::TimeoutNow;
    while cluster.now < until {
        assert!(!cluster.network.iter().any(is_timeout_now), "not before {until}");
        cluster.deliver();
        cluster.tick(1, 100);
    }
    assert!(cluster.network.iter().any(is_timeout_now));
    cluster.deliver();
    assert_eq!(cluster.status(2).role, RoleName::Leader, "promises do not stand in its way");
    assert_eq!(cluster.server(1).outcomes[&Ticket(2)], Outcome::Transferred { term: Term(2) });
}

/// A transfer to a node that nobody can reach is given up, and the lease is not: nothing was sent.
/// Once a request to campaign is out, it is gone for the rest of the term.
#[test]
fn a_lease_is_gone_for_the_term_once_a_successor_was_asked() {
    let mut cluster = with_lease(|_| {});
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|sent| sent.to != member(3));
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(2), to: Some(member(3).id) });
    for _ in 0..10 {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| sent.to != member(3));
    }
    assert!(cluster.server(1).outcomes.contains_key(&Ticket(2)), "given up");
    assert!(read(&mut cluster, 1, 3).is_some(), "the target lacked an entry: it was not asked");

    cluster.tick(1, LEASE);
    cluster.deliver();
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(4), to: Some(member(3).id) });
    let asked = cluster.take(|sent| sent.rpc.kind() == RpcKind::TimeoutNow);
    assert_eq!(asked.len(), 1, "the target has all, and nothing is lent");
    for _ in 0..10 {
        cluster.tick(1, 100);
        cluster.deliver();
    }
    assert!(cluster.server(1).outcomes.contains_key(&Ticket(4)), "given up");
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert_eq!(read(&mut cluster, 1, 5), None, "the message may arrive at any time");
    let again = asked.into_iter().next().expect("one");
    cluster.step(3, Body::Peer(again));
    cluster.deliver();
    assert_eq!(cluster.status(3).role, RoleName::Leader, "as it does now");
}

/// New voters alone have promised nothing: what was lent under the old ones is waited for.
#[test]
fn a_joint_membership_is_not_left_while_a_lease_rests_on_the_outgoing_voters() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[4, 5], leased);
    cluster.elect(1);
    cluster.tick(1, 100);
    cluster.deliver();
    let until = read(&mut cluster, 1, 1).expect("a quorum has promised");
    let steps = [(2, 4), (3, 5)]
        .map(|(old, new)| MemberStep::Replace { old: member(old).id, new: member(new).id });
    let change = MembershipChange::Steps(steps.to_vec());
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(2), change, expect: None });
    while cluster.now < until {
        cluster.deliver();
        assert!(cluster.status(1).membership.is_joint(), "not left before {until}");
        let ticket = 100 + cluster.now.0;
        assert_eq!(read(&mut cluster, 1, ticket), None, "or it could never be left");
        cluster.tick(1, 100);
    }
    cluster.deliver();
    assert!(!cluster.status(1).membership.is_joint());
    assert!(matches!(cluster.server(1).outcomes[&Ticket(2)], Outcome::Committed { .. }));
    cluster.tick(1, 100);
    cluster.deliver();
    assert!(read(&mut cluster, 1, 3).is_some(), "by the promises of the new voters");
}

/// The same for a leave that an operator asks for.
#[test]
fn leaving_by_hand_is_refused_while_a_lease_rests_on_the_outgoing_voters() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[4], leased);
    cluster.elect(1);
    cluster.tick(1, 100);
    cluster.deliver();
    let until = read(&mut cluster, 1, 1).expect("a quorum has promised");
    let enter = MembershipChange::EnterJoint(vec![MemberStep::Promote(member(4).id)]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(2), change: enter, expect: None });
    cluster.deliver();
    let leave = |cluster: &mut Cluster, ticket| {
        let change = MembershipChange::LeaveJoint;
        let ticket = Ticket(ticket);
        cluster.step(1, Body::ProposeMembership { ticket, change, expect: None });
        cluster.deliver();
        cluster.server(1).outcomes[&ticket]
    };
    let pending = Outcome::Refused(raft_core::Rejection::MembershipPending);
    assert_eq!(leave(&mut cluster, 3), pending);
    cluster.now = until;
    assert!(matches!(leave(&mut cluster, 4), Outcome::Committed { .. }));
}

/// A voter alone needs nobody's promise but its own.
#[test]
fn a_sole_voter_has_a_lease_once_its_heartbeat_is_due() {
    let mut cluster = Cluster::with(&[1], &[2], leased);
    cluster.elect(1);
    cluster.tick(1, 100);
    assert_eq!(read(&mut cluster, 1, 1), Some(Time(100 + LEASE)));
}

/// A read by lease at a node that does not lead is one like any other.
#[test]
fn a_follower_that_was_promised_nothing_gives_no_lease() {
    let mut cluster = with_lease(|_| {});
    assert_eq!(read(&mut cluster, 2, 1), None);
    cluster.deliver();
    assert!(cluster.server(2).valid_until.is_empty());
}

/// Two leaders at once are possible, two that serve are not: a leader that was cut off answers
/// nothing after its last `valid_until`, and nobody is elected before it.
#[test]
fn a_leader_that_is_cut_off_stops_before_another_one_starts() {
    for check_quorum in [true, false] {
        let mut cluster = with_lease(|config| config.check_quorum = check_quorum);
        let mut last = Time(0);
        let mut successor = None;
        let mut ticket = 1;
        while successor.is_none() && cluster.now < Time(10_000) {
            for id in [1, 2, 3] {
                cluster.step(id, Body::Tick);
            }
            cluster.deliver_if(|sent| sent.from != member(1) && sent.to != member(1));
            ticket += 1;
            last = last.max(read(&mut cluster, 1, ticket).unwrap_or_default());
            let is_leader = |id: &u64| cluster.status(*id).role == RoleName::Leader;
            successor = [2, 3].into_iter().find(is_leader);
            cluster.now = Time(cluster.now.0 + 10);
        }
        assert!(successor.is_some() && last >= Time(100 + LEASE));
        assert!(cluster.now > last, "elected at {} although {last} was promised", cluster.now);
        let led = cluster.server(1).observations.iter().any(|observation| {
            matches!(observation, Observation::RoleChanged { role: RoleName::Leader, .. })
        });
        assert!(led);
    }
}
