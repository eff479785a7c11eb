//! How entries and the commit index flow to a peer: windows, notices, limits (§5.3, thesis
//! §10.2.2).

use bytes::Bytes;
use raft_core::{
    Body, Entries, Envelope, Index, MemberStep, MembershipChange, NodeId, Observation, Outcome,
    Refused, Rejection, Rpc, RpcKind, Ticket,
};

use crate::support::{Cluster, member};

fn is_to(envelope: &Envelope, id: u64, kind: RpcKind) -> bool {
    envelope.to == member(id) && envelope.rpc.kind() == kind
}

fn propose_bytes(cluster: &mut Cluster, ticket: u64, bytes: usize) {
    let command = Bytes::from(vec![7; bytes]);
    cluster.step(1, Body::Propose { ticket: Ticket(ticket), command });
}

/// The entries on their way to a peer, message by message.
fn on_their_way(cluster: &Cluster, id: u64) -> Vec<Entries> {
    let appends = cluster.network.iter().filter(|envelope| envelope.to == member(id));
    appends
        .filter_map(|envelope| {
            let Rpc::AppendEntries { entries, .. } = &envelope.rpc else { return None };
            Some(entries.clone())
        })
        .collect()
}

/// §5.3: a follower that has everything is told the commit index in a message of its own, which
/// costs no answer: half a round trip after the leader knows.
#[test]
fn the_commit_index_travels_without_entries_and_without_an_answer() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    let mut kinds = Vec::new();
    cluster.deliver_if(|sent| {
        kinds.push((sent.to.id.0, sent.rpc.kind()));
        true
    });
    let expected = [
        (2, RpcKind::AppendEntries),
        (3, RpcKind::AppendEntries),
        (1, RpcKind::AppendEntriesResponse),
        (1, RpcKind::AppendEntriesResponse),
        (2, RpcKind::Commit),
        (3, RpcKind::Commit),
    ];
    assert_eq!(kinds, expected);
    assert!([1, 2, 3].iter().all(|id| cluster.status(*id).commit == Index(2)));
}

/// A notice may be lost: the next heartbeat says the same.
#[test]
fn a_lost_commit_notice_is_made_good_by_a_heartbeat() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|sent| !is_to(sent, 2, RpcKind::Commit));
    assert_eq!((cluster.status(2).commit, cluster.status(3).commit), (Index(1), Index(2)));
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| sent.rpc.kind() == RpcKind::Heartbeat);
    assert_eq!(cluster.status(2).commit, Index(2));
}

/// A follower is told of no commit beyond what it has acknowledged: a notice has no previous entry
/// that it could compare.
#[test]
fn a_commit_notice_is_bounded_by_the_match() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    let delayed = cluster.take(|sent| is_to(sent, 3, RpcKind::AppendEntries));
    cluster.deliver_if(|sent| {
        assert!(!is_to(sent, 3, RpcKind::Commit), "it has not acknowledged anything new");
        true
    });
    assert_eq!((cluster.status(1).commit, cluster.status(3).commit), (Index(2), Index(1)));
    cluster.network.extend(delayed);
    cluster.deliver();
    assert_eq!(cluster.status(3).commit, Index(2));
}

/// Thesis §10.2.2: what is on its way to one peer is limited in bytes, and freed by answers.
#[test]
fn a_window_is_limited_in_bytes() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.append_bytes_max = 100;
        config.inflight_bytes_max = 250;
    });
    cluster.elect(1);
    for ticket in 1..=9 {
        propose_bytes(&mut cluster, ticket, 50);
    }
    let sent = on_their_way(&cluster, 2);
    let bytes: Vec<usize> = sent.iter().map(|entries| entries.bytes()).collect();
    assert_eq!(bytes, [50, 50, 50, 50], "there is no room for a whole message after these");
    let mut appends = cluster.take(|sent| sent.to == member(2));
    cluster.network.clear();
    cluster.step(2, Body::Peer(appends.remove(0)));
    let answer = cluster.network.remove(0);
    cluster.step(1, Body::Peer(answer));
    let sent = on_their_way(&cluster, 2);
    assert_eq!(sent.len(), 1, "the answer has freed one slot");
    assert_eq!(sent[0].bytes(), 100, "and what has come together goes in one message");
    cluster.network.splice(0..0, appends);
    cluster.deliver();
    cluster.tick(1, 100);
    cluster.deliver();
    assert!([1, 2, 3].iter().all(|id| cluster.status(*id).commit == Index(10)));
}

/// One message is always admitted, however large its entry is and however narrow the window.
#[test]
fn a_window_always_admits_one_message() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.append_bytes_max = 1;
        config.inflight_bytes_max = 1;
    });
    cluster.elect(1);
    for ticket in 1..=3 {
        propose_bytes(&mut cluster, ticket, 1000);
    }
    let counts: Vec<usize> = on_their_way(&cluster, 2).iter().map(|sent| sent.len()).collect();
    assert_eq!(counts, [1], "the window is full with one");
    cluster.deliver();
    assert!([1, 2, 3].iter().all(|id| cluster.status(*id).commit == Index(4)));
}

/// A full window whose answers are lost opens again: a heartbeat that is answered makes the leader
/// ask once more. It sends nothing blindly, or the memory of a peer whose disk hangs would fill.
#[test]
fn an_answered_heartbeat_opens_a_full_window() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.append_bytes_max = 10;
        config.inflight_bytes_max = 10;
    });
    cluster.elect(1);
    propose_bytes(&mut cluster, 1, 10);
    propose_bytes(&mut cluster, 2, 10);
    // What was sent arrives, and all answers are lost.
    cluster.deliver_if(|sent| sent.to != member(1));
    assert_eq!(cluster.status(2).last.index, Index(2), "the window holds one");
    cluster.tick(1, 100);
    let is_heartbeat = |kind| matches!(kind, RpcKind::Heartbeat | RpcKind::HeartbeatResponse);
    cluster.deliver_if(|sent| is_heartbeat(sent.rpc.kind()) || sent.to != member(1));
    assert_eq!(cluster.status(2).last.index, Index(2), "nothing new without an answer");
    cluster.tick(1, 100);
    cluster.deliver();
    assert!([1, 2, 3].iter().all(|id| cluster.status(*id).commit == Index(3)));
}

/// A quota bounds what clients ask for. The no-op of a new leader is no request: it is never
/// refused, or a leader with a full quota could not commit anything.
#[test]
fn an_empty_quota_admits_one_and_a_noop_needs_none() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.uncommitted_bytes_max = 4);
    cluster.elect(1);
    propose_bytes(&mut cluster, 1, 100);
    propose_bytes(&mut cluster, 2, 1);
    let busy = Outcome::Refused(Rejection::Busy);
    assert_eq!(cluster.server(1).outcomes.get(&Ticket(1)), None, "larger than an empty quota");
    assert_eq!(cluster.server(1).outcomes[&Ticket(2)], busy);
    cluster.network.clear();
    // The same node leads again, with the large entry still uncommitted: its no-op goes out.
    cluster.step(1, Body::StepDown);
    cluster.step(2, Body::ForgetLeader);
    cluster.step(3, Body::ForgetLeader);
    cluster.elect(1);
    assert_eq!(cluster.status(1).commit, Index(3));
    assert_eq!(cluster.status(3).commit, Index(3));
    propose_bytes(&mut cluster, 3, 100);
    cluster.deliver();
    assert!(matches!(cluster.server(1).outcomes[&Ticket(3)], Outcome::Committed { .. }));
}

/// Requests that wait are counted whatever they weigh; those that end make room.
#[test]
fn a_limit_on_requests_refuses_and_is_freed() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.requests_max = 2);
    cluster.elect(1);
    for ticket in 1..=3 {
        propose_bytes(&mut cluster, ticket, 0);
    }
    assert_eq!(cluster.server(1).outcomes[&Ticket(3)], Outcome::Refused(Rejection::Busy));
    cluster.deliver();
    propose_bytes(&mut cluster, 4, 0);
    cluster.deliver();
    assert!(matches!(cluster.server(1).outcomes[&Ticket(4)], Outcome::Committed { .. }));
    assert_eq!(cluster.server(1).outcomes.len(), 4);
}

/// Whoever leads leaves a joint membership, with every limit on what clients may ask reached: two
/// quorums must agree until it is left.
#[test]
fn a_joint_membership_is_left_with_every_limit_reached() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.uncommitted_bytes_max = 1;
        config.requests_max = 2;
    });
    cluster.elect(1);
    let change = MembershipChange::Steps(vec![MemberStep::Demote(NodeId(3))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(1), change, expect: None });
    propose_bytes(&mut cluster, 2, 100);
    propose_bytes(&mut cluster, 3, 0);
    assert_eq!(cluster.server(1).outcomes[&Ticket(3)], Outcome::Refused(Rejection::Busy));
    // The joint entry is committed before the command: the quota is full when the leave is due.
    cluster.deliver();
    let membership = cluster.status(1).membership;
    assert!(!membership.is_joint() && membership.learners() == [member(3)]);
    assert_eq!(cluster.status(1).commit, cluster.status(1).last.index);
}

/// A group whose limits are a kilobyte.
fn narrow() -> Cluster {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.resident_bytes_max = 1 << 10;
        config.unapplied_bytes_max = 1 << 10;
        config.uncommitted_bytes_max = 1 << 10;
    });
    cluster.elect(1);
    cluster
}

/// The payload bytes in a node's memory, counted in its text: 1 KiB commands are made of sevens.
fn held(cluster: &Cluster, id: u64) -> usize {
    format!("{:?}", cluster.server(id).raft).matches("\\x07").count()
}

/// What a slow state machine does not take leaves memory once it is durable, at leaders and
/// followers, and is read again when it is wanted.
#[test]
fn a_state_machine_that_hangs_does_not_fill_memory() {
    let mut cluster = narrow();
    cluster.slow_machines.extend([1, 2]);
    for ticket in 1..=50 {
        propose_bytes(&mut cluster, ticket, 1 << 10);
        cluster.deliver();
    }
    assert_eq!(cluster.status(1).commit, Index(51), "a group does not wait for state machines");
    for id in [1, 2] {
        assert!(held(&cluster, id) <= 3 << 10, "n{id} holds {} bytes", held(&cluster, id));
        assert!(cluster.server(id).loads.is_empty() && cluster.server(id).applied.len() < 4);
    }
    cluster.slow_machines.clear();
    for id in [1, 2] {
        let through = cluster.server(id).applied.last().expect("the first ones").index();
        cluster.step(id, Body::Applied { through });
        let applied = cluster.server(id).applied.iter().map(|entry| entry.index().0);
        assert!(applied.eq(1..=51), "all of them, once, in order");
    }
}

/// A group commits without its leader's disk. What that has to write yet is bounded all the same: by
/// refusing commands, until something is durable.
#[test]
fn a_leader_does_not_run_away_from_its_disk() {
    let mut cluster = narrow();
    cluster.slow_disks.insert(1);
    for ticket in 1..=50 {
        propose_bytes(&mut cluster, ticket, 1 << 10);
        cluster.deliver();
    }
    let outcomes = cluster.server(1).outcomes.values();
    let refused = outcomes.filter(|one| **one == Outcome::Refused(Rejection::Busy)).count();
    assert_eq!(refused, 46, "three limits of memory, and the command that passes them, are let in");
    assert_eq!(cluster.status(1).commit, cluster.status(1).last.index);
    assert_eq!(held(&cluster, 1), 4 << 10);
    cluster.sync(1);
    propose_bytes(&mut cluster, 51, 1 << 10);
    cluster.deliver();
    assert!(matches!(cluster.server(1).outcomes[&Ticket(51)], Outcome::Committed { .. }));
}

/// Nor does a group make a follower hold more than its disk has taken, whoever sends how much: it
/// takes none of it until there is room, and is sent it again.
#[test]
fn a_follower_whose_disk_hangs_takes_only_so_much() {
    let mut cluster = narrow();
    cluster.slow_disks.insert(3);
    for ticket in 1..=50 {
        propose_bytes(&mut cluster, ticket, 1 << 10);
        cluster.deliver();
    }
    assert_eq!(cluster.status(1).commit, Index(51), "two of three are a quorum");
    assert!(held(&cluster, 3) <= 4 << 10, "it holds {} bytes", held(&cluster, 3));
    let kind = RpcKind::AppendEntries;
    let busy =
        Observation::Refused { from: Some(member(1)), kind: Some(kind), reason: Refused::Busy };
    assert!(cluster.server(3).observations.contains(&busy));
    cluster.slow_disks.clear();
    cluster.sync(3);
    for _ in 0..3 {
        cluster.deliver();
        cluster.tick(1, 100);
    }
    cluster.deliver();
    assert_eq!(cluster.status(3).applied, Index(51));
}

/// Batches cost memory too, whatever they weigh.
#[test]
fn a_leader_does_not_count_on_a_disk_for_ever() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.slow_disks.insert(1);
    for ticket in 1..=5_000 {
        propose_bytes(&mut cluster, ticket, 0);
        cluster.deliver();
    }
    let outcomes = cluster.server(1).outcomes.values();
    let refused = outcomes.filter(|one| **one == Outcome::Refused(Rejection::Busy)).count();
    assert_eq!(refused, 5_000 - 4_096);
}

/// What is committed no longer counts against the quota of its leader, wherever it is: here most of it
/// has left memory before it was committed.
#[test]
fn what_has_left_memory_gives_its_quota_back() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.resident_bytes_max = 1 << 10;
        config.unapplied_bytes_max = 1 << 10;
        config.uncommitted_bytes_max = 8 << 10;
    });
    cluster.elect(1);
    for ticket in 1..=6 {
        propose_bytes(&mut cluster, ticket, 1 << 10);
    }
    assert!(held(&cluster, 1) <= 3 << 10, "it holds {} bytes", held(&cluster, 1));
    let is_append = |sent: &Envelope| sent.rpc.kind() == RpcKind::AppendEntries;
    for append in cluster.take(is_append) {
        cluster.step(append.to.id.0, Body::Peer(append));
    }
    // The seventh command gets lost, so that the quota is not simply empty when six are committed.
    propose_bytes(&mut cluster, 7, 1 << 10);
    cluster.take(is_append);
    cluster.deliver();
    assert_eq!((cluster.status(1).commit, cluster.status(1).last.index), (Index(7), Index(8)));
    for ticket in 8..=14 {
        propose_bytes(&mut cluster, ticket, 1 << 10);
    }
    assert!(cluster.server(1).outcomes.keys().all(|ticket| ticket.0 <= 6), "the quota has room");
    propose_bytes(&mut cluster, 15, 1 << 10);
    assert_eq!(cluster.server(1).outcomes[&Ticket(15)], Outcome::Refused(Rejection::Busy));
}
