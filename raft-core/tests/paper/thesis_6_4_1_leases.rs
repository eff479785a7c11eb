//! Thesis §6.4.1: reads that rely on clocks instead of messages; and thesis §6.4: reads at followers.
//!
//! The promise behind a lease has many more sides (restarts, clocks, members that leave); those that
//! the thesis does not speak of are tested with the core's other rules.

use raft_core::{
    Body, Envelope, Index, NodeId, Outcome, ReadMode, RoleName, Rpc, RpcKind, Ticket, Time,
};

use crate::peers::{lead, one, request, say};
use crate::support::{Cluster, member};

const LEASE: u64 = 500;

/// Node 1 leads five voters that have promised nothing yet; clocks differ by at most a tenth.
fn led() -> Cluster {
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], &[], |config| {
        config.lease_us = LEASE;
        config.clock_drift_percent = 10;
        config.check_quorum = false;
        config.pre_vote = false;
    });
    lead(&mut cluster, 1);
    cluster
}

fn read(cluster: &mut Cluster, id: u64, ticket: u64, mode: ReadMode) {
    cluster.step(id, Body::Read { ticket: Ticket(ticket), mode });
}

fn until(cluster: &Cluster, ticket: u64) -> Option<Time> {
    cluster.server(1).valid_until.get(&Ticket(ticket)).copied()
}

fn among(ids: &[u64]) -> impl Fn(&Envelope) -> bool + '_ {
    |sent| ids.contains(&sent.from.id.0) && ids.contains(&sent.to.id.0)
}

/// Thesis §6.4.1: a leader has a lease once a majority has acknowledged its heartbeat, counted from
/// the moment at which the heartbeat was sent.
#[test]
fn a_majority_of_acknowledgements_makes_a_lease() {
    for (answering, has_lease) in [(&[1_u64, 2][..], false), (&[1, 2, 3], true)] {
        let mut cluster = led();
        cluster.tick(1, 100);
        let sent = cluster.now;
        cluster.now.0 += 50;
        cluster.deliver_if(among(answering));
        read(&mut cluster, 1, 1, ReadMode::Lease);
        let expected = has_lease.then(|| Time(sent.0 + LEASE));
        assert_eq!(until(&cluster, 1), expected, "{answering:?}");
        assert_eq!(cluster.network.is_empty(), has_lease, "with a lease nobody is asked");
    }
}

/// Thesis §6.4.1: heartbeats extend it; when they are not answered it ends, and reads take a round
/// of messages again.
#[test]
fn a_lease_ends_unless_heartbeats_extend_it() {
    let mut cluster = led();
    for beat in 1..=10 {
        cluster.tick(1, 100);
        cluster.deliver();
        read(&mut cluster, 1, beat, ReadMode::Lease);
        assert_eq!(until(&cluster, beat), Some(Time(cluster.now.0 + LEASE)));
    }
    cluster.now.0 += LEASE;
    read(&mut cluster, 1, 11, ReadMode::Lease);
    assert!(!cluster.server(1).reads.contains_key(&Ticket(11)));
    cluster.deliver();
    assert!(cluster.server(1).reads.contains_key(&Ticket(11)));
    assert_eq!(until(&cluster, 11), None, "it rests on the round, not on a clock");
}

/// Thesis §6.4.1: as long as the lease may last by the slowest clock, no follower helps another
/// leader into office by the fastest one. Its own candidacy is no exception.
#[test]
fn nobody_else_is_elected_while_a_lease_may_last() {
    let promise = LEASE + LEASE / 10;
    for (after, is_free) in [(promise - 1, false), (promise, true)] {
        let mut cluster = led();
        cluster.tick(1, 100);
        cluster.deliver();
        cluster.now.0 += after;
        let (last, term) = (cluster.status(2).last, 2);
        let answers = say(&mut cluster, 9, 2, term, request(last));
        assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: is_free }, "{after}us");
        cluster.step(3, Body::Campaign);
        assert_eq!(cluster.status(3).role == RoleName::Candidate, is_free, "{after}us");
    }
}

/// Thesis §6.4.1: so whatever a leader answers by lease, at every moment until the lease is over no
/// other leader has committed anything.
#[test]
fn a_read_by_lease_is_never_behind_another_leader() {
    let mut cluster = led();
    cluster.tick(1, 100);
    cluster.deliver();
    read(&mut cluster, 1, 1, ReadMode::Lease);
    let valid_until = until(&cluster, 1).expect("the lease is fresh");
    // n1 is cut off; the others try to replace it at every opportunity.
    let others = [2, 3, 4, 5];
    let newer = loop {
        cluster.now.0 += 10;
        cluster.step(2, Body::Campaign);
        cluster.network.retain(among(&others));
        cluster.deliver_if(among(&others));
        if cluster.status(2).commit > cluster.status(1).commit {
            break cluster.now;
        }
    };
    assert!(newer >= valid_until, "{newer}, but the lease lasts until {valid_until}");
    assert!(newer.0 < valid_until.0 + LEASE, "and they do not wait for much longer");
}

/// Thesis §6.4.1: a leader lets its lease run out before it hands over: the election that it asks
/// for is the one that no promise holds up.
#[test]
fn a_lease_is_over_before_leadership_is_transferred() {
    let mut cluster = led();
    cluster.tick(1, 100);
    cluster.deliver();
    read(&mut cluster, 1, 1, ReadMode::Lease);
    let valid_until = until(&cluster, 1).expect("the lease is fresh");
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(2), to: Some(NodeId(2)) });
    read(&mut cluster, 1, 3, ReadMode::Lease);
    assert_eq!(until(&cluster, 3), None, "no read by lease from now on");
    let mut asked_at = None;
    while asked_at.is_none() && cluster.now.0 < 2_000 {
        let asks = |sent: &Envelope| sent.rpc.kind() == RpcKind::TimeoutNow;
        asked_at = cluster.network.iter().any(asks).then_some(cluster.now);
        cluster.deliver();
        cluster.tick(1, 50);
    }
    let asked_at = asked_at.expect("it hands over in the end");
    assert!(asked_at >= valid_until, "{asked_at}, but the lease lasts until {valid_until}");
    assert_eq!(cluster.status(2).role, RoleName::Leader);
}

/// Thesis §6.4: a follower serves a read by asking its leader for the index alone; the leader
/// confirms that it leads before it answers, and the follower waits until it has applied so far.
#[test]
fn a_follower_reads_at_its_leaders_index() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    lead(&mut cluster, 1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    for reader in [3, 4] {
        read(&mut cluster, reader, 7, ReadMode::ReadIndex);
        let asked: Vec<RpcKind> = cluster.network.iter().map(|sent| sent.rpc.kind()).collect();
        assert_eq!(asked, [RpcKind::ReadIndex]);
        // The question alone is not enough: the leader must hear a majority after it.
        cluster.deliver_if(among(&[1, reader, 4]));
        cluster.tick(1, 100);
        cluster.deliver();
        assert_eq!(cluster.server(reader).reads[&Ticket(7)], Index(2));
        assert!(cluster.status(reader).applied >= Index(2));
    }
}

/// Thesis §6.4: a follower that is cut off, or whose leader was replaced without knowing it, serves
/// nothing.
#[test]
fn a_follower_that_is_cut_off_serves_nothing() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], &[], |config| {
        config.pre_vote = false;
        config.check_quorum = false;
    });
    lead(&mut cluster, 1);
    cluster.step(3, Body::Campaign);
    cluster.deliver_if(among(&[3, 4, 5]));
    cluster.propose(3, 1, "newer");
    cluster.deliver_if(among(&[3, 4, 5]));
    assert_eq!(cluster.status(3).commit, Index(3));
    // n2 still follows n1, which still believes that it leads.
    read(&mut cluster, 2, 7, ReadMode::ReadIndex);
    for _ in 0..5 {
        cluster.deliver_if(among(&[1, 2]));
        cluster.tick(1, 100);
    }
    assert!(cluster.server(2).reads.is_empty());
    cluster.deliver();
    cluster.tick(3, 100);
    cluster.deliver();
    assert!(cluster.server(2).reads.is_empty());
    let refused = matches!(cluster.server(2).outcomes[&Ticket(7)], Outcome::Refused(_));
    assert!(refused, "its reader asks again, and then the new leader");
    assert_eq!(cluster.status(2).leader, Some(member(3)));
}
