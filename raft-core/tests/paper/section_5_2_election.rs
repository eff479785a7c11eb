//! §5.2: leader election.

use std::collections::BTreeSet;

use raft_core::{Body, RoleName, Rpc, RpcKind, Term};

use crate::peers::{genesis, grant, heartbeat, lead, one, plain, request, say, sent_by};
use crate::support::{Cluster, member};

/// §5.2: servers start as followers, in the term in which they stopped, and stay so while a leader
/// speaks.
#[test]
fn servers_start_as_followers_and_stay_so_while_a_leader_speaks() {
    let mut cluster = plain(&[1, 2, 3]);
    lead(&mut cluster, 1);
    cluster.crash(1);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    assert_eq!(cluster.status(1).term, Term(1));
    for _ in 0..50 {
        cluster.tick(1, 900);
        say(&mut cluster, 2, 1, 2, heartbeat(0));
        assert_eq!(cluster.status(1).role, RoleName::Follower);
    }
}

/// §5.2: heartbeats of a leader keep a whole cluster quiet.
#[test]
fn a_cluster_with_a_leader_has_no_elections() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5], &[]);
    lead(&mut cluster, 3);
    for _ in 0..100 {
        cluster.now.0 += 100;
        for id in 1..=5 {
            cluster.tick(id, 0);
        }
        cluster.deliver();
    }
    assert!((1..=5).all(|id| cluster.status(id).term == Term(1)));
    assert!((1..=5).all(|id| cluster.status(id).leader == Some(member(3))));
}

/// §5.2: votes of the same term count, those of another one do not; nor do refusals.
#[test]
fn only_votes_for_the_same_term_count() {
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    cluster.step(1, Body::Campaign);
    cluster.step(1, Body::Campaign);
    assert_eq!(cluster.status(1).term, Term(2));
    say(&mut cluster, 2, 1, 1, grant());
    say(&mut cluster, 3, 1, 1, grant());
    say(&mut cluster, 4, 1, 2, Rpc::RequestVoteResponse { granted: false });
    say(&mut cluster, 5, 1, 2, grant());
    assert_eq!(cluster.status(1).role, RoleName::Candidate, "two of five");
    say(&mut cluster, 2, 1, 2, grant());
    assert_eq!(cluster.status(1).role, RoleName::Leader);
}

/// §5.2 (Election Safety): first come, first served. However the requests of two candidates of one
/// term are interleaved, at most one of them wins.
#[test]
fn two_candidates_of_one_term_cannot_both_win() {
    // Each bit says which candidate a voter hears first.
    for order in 0..8_u32 {
        let mut cluster = plain(&[1, 2, 3, 4, 5]);
        cluster.step(1, Body::Campaign);
        cluster.step(5, Body::Campaign);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for request in cluster.take(|_| true) {
            let voter = request.to.id.0;
            let is_first = !(2..=4).contains(&voter) || (order >> (voter - 2)) & 1 == 0;
            let hears_first = is_first == (request.from == member(1));
            if hears_first { first.push(request) } else { second.push(request) }
        }
        cluster.network = first;
        cluster.network.append(&mut second);
        cluster.deliver_if(|sent| {
            matches!(sent.rpc.kind(), RpcKind::RequestVote | RpcKind::RequestVoteResponse)
        });
        let leads = |id: u64| cluster.status(id).role == RoleName::Leader;
        assert!(leads(1) != leads(5), "three voters decide between the two, order {order:03b}");
        assert_eq!(leads(1), order.count_ones() <= 1, "the one that most have heard first");
    }
}

/// §5.2: a candidate does not believe a leader of an earlier term, and stays a candidate.
#[test]
fn a_candidate_ignores_a_leader_of_an_earlier_term() {
    let mut cluster = plain(&[1, 2, 3]);
    cluster.step(1, Body::Campaign);
    cluster.step(1, Body::Campaign);
    sent_by(&mut cluster, 1);
    let answers = say(&mut cluster, 2, 1, 1, heartbeat(0));
    assert_eq!(answers[0].term, Term(2));
    assert_eq!(cluster.status(1).role, RoleName::Candidate);
}

/// §5.2: a split vote elects nobody; the next timeouts differ, and the election after it succeeds.
#[test]
fn a_split_vote_is_resolved_by_timeouts_that_differ() {
    let mut cluster = plain(&[1, 2, 3, 4]);
    cluster.step(1, Body::Campaign);
    cluster.step(4, Body::Campaign);
    // n2 hears n1 first, n3 hears n4: two votes each.
    cluster.deliver_if(|sent| {
        let pair = (sent.from.id.0, sent.to.id.0);
        matches!(pair, (1, 2) | (2, 1) | (4, 3) | (3, 4))
    });
    assert!((1..=4).all(|id| cluster.status(id).role != RoleName::Leader));
    let next = |id: u64| cluster.server(id).raft.next_deadline().expect("all have timers");
    let first = (1..=4).min_by_key(|id| next(*id)).expect("four servers");
    let deadlines: BTreeSet<_> = (1..=4).map(next).collect();
    assert_eq!(deadlines.len(), 4, "no two time out together");
    let wait = next(first).0 - cluster.now.0;
    cluster.tick(first, wait);
    cluster.deliver();
    assert_eq!(cluster.status(first).role, RoleName::Leader);
}

/// §5.2: timeouts are drawn from an interval, anew for every server, term and attempt.
#[test]
fn timeouts_are_drawn_anew_for_every_attempt() {
    let mut cluster = plain(&[1, 2, 3]);
    let mut drawn = BTreeSet::new();
    for _ in 0..20 {
        let deadline = cluster.server(1).raft.next_deadline().expect("it has a timer").0;
        let timeout = deadline - cluster.now.0;
        assert!((1_000..2_000).contains(&timeout));
        drawn.insert(timeout);
        cluster.tick(1, timeout);
    }
    assert!(drawn.len() > 15, "hardly ever the same: {drawn:?}");
}

/// §5.2: a server whose vote is asked answers whatever its role; a leader or candidate of the term
/// has voted for itself.
#[test]
fn candidates_and_leaders_refuse_others_of_their_term() {
    for is_leader in [false, true] {
        let mut cluster = plain(&[1, 2, 3]);
        if is_leader {
            lead(&mut cluster, 1);
        } else {
            cluster.step(1, Body::Campaign);
            sent_by(&mut cluster, 1);
        }
        let last = genesis(&cluster);
        let answers = say(&mut cluster, 3, 1, 1, request(last));
        assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: false });
        assert_eq!(cluster.status(1).vote, Some(member(1)));
    }
}
