//! Thesis §10.2: the leader's disk in parallel, batching, pipelining. None of them changes what is
//! safe.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft_core::{Body, Effect, Envelope, Index, Outcome, Rpc, Ticket};

use crate::peers::{answer, lead, matched, sent_by, terms, to};
use crate::support::{Cluster, member};

fn entries_to(sent: &[Envelope], id: u64) -> Vec<Vec<u64>> {
    let to_it = sent.iter().filter(|envelope| envelope.to == member(id));
    to_it
        .filter_map(|envelope| {
            let Rpc::AppendEntries { entries, .. } = &envelope.rpc else { return None };
            let indices: Vec<u64> = entries.iter().map(|entry| entry.index().0).collect();
            (!indices.is_empty()).then_some(indices)
        })
        .collect()
}

/// Thesis §10.2.1: the leader sends an entry while its own disk still writes it.
#[test]
fn appends_do_not_wait_for_the_leaders_disk() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    cluster.slow_disks = BTreeSet::from([1]);
    cluster.propose(1, 1, "x");
    assert_eq!(cluster.server(1).unsynced.len(), 1);
    let sent = sent_by(&mut cluster, 1);
    assert_eq!(entries_to(&sent, 2), [[2]]);
}

/// Thesis §10.2.1: an entry that a majority of others holds is committed even before the leader's
/// own disk has it. The leader applies it when its own disk has it too.
#[test]
fn a_majority_without_the_leader_commits() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    cluster.slow_disks = BTreeSet::from([1]);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    let status = cluster.status(1);
    assert_eq!((status.commit, status.durable), (Index(2), Index(1)));
    assert!(matches!(cluster.server(1).outcomes[&Ticket(1)], Outcome::Committed { .. }));
    assert_eq!(status.applied, Index(1));
    cluster.sync(1);
    assert_eq!(cluster.status(1).applied, Index(2));
}

/// Thesis §10.2.1: and if the leader loses it in a crash, it is committed all the same: whoever
/// wins has it.
#[test]
fn an_entry_that_the_leader_lost_stays_committed() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.check_quorum = false);
    lead(&mut cluster, 1);
    cluster.slow_disks = BTreeSet::from([1]);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    cluster.slow_disks.clear();
    cluster.crash(1);
    assert_eq!(terms(&cluster, 1), [1], "lost here");
    cluster.step(1, Body::Campaign);
    cluster.deliver();
    cluster.elect(2);
    assert_eq!(terms(&cluster, 1), [1, 1, 2]);
    assert!((1..=3).all(|id| cluster.violations(id).is_empty()));
}

/// Thesis §10.2.2: commands that come together travel in one message and in one batch to the disk.
#[test]
fn commands_that_come_together_travel_together() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    cluster.trace.clear();
    let command = Bytes::from_static(b"command");
    let proposals = (0..256).map(|ticket| (Ticket(ticket), command.clone())).collect();
    cluster.step(1, Body::ProposeBatch { proposals });
    let sent = sent_by(&mut cluster, 1);
    for follower in [2, 3] {
        let messages = entries_to(&sent, follower);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].len(), 256);
    }
    let batches = cluster.trace.iter().filter(|(_, effect)| matches!(effect, Effect::Persist(_)));
    assert_eq!(batches.count(), 1);
}

/// Thesis §10.2.2: a message has a limit in bytes, and takes at least one entry.
#[test]
fn a_message_is_limited_in_bytes() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.append_bytes_max = 10);
    lead(&mut cluster, 1);
    let sizes = [4_usize, 4, 4, 30, 4];
    let proposals = sizes.iter().zip(1..);
    let proposals =
        proposals.map(|(size, ticket)| (Ticket(ticket), Bytes::from(vec![b'x'; *size]))).collect();
    cluster.step(1, Body::ProposeBatch { proposals });
    let sent = sent_by(&mut cluster, 1);
    assert_eq!(entries_to(&sent, 2), [vec![2, 3], vec![4], vec![5], vec![6]]);
}

/// Thesis §10.2.2: once the logs meet, the next entry goes out behind the previous one without
/// waiting for its answer, up to a window.
#[test]
fn appends_are_pipelined_up_to_a_window() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.inflight_appends_max = 3);
    lead(&mut cluster, 1);
    for ticket in 1..=5 {
        cluster.propose(1, ticket, "x");
    }
    let sent = sent_by(&mut cluster, 1);
    assert_eq!(entries_to(&sent, 2), [[2], [3], [4]], "two wait for room");
    let more = answer(&mut cluster, to(&sent, 2), matched(2));
    assert_eq!(entries_to(&more, 2), [[5, 6]], "and then travel together");
}

/// Thesis §10.2.2: appends that arrive out of order do no harm: the consistency check refuses what
/// came too early, and it is sent again.
#[test]
fn appends_out_of_order_do_no_harm() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    for ticket in 1..=4 {
        cluster.propose(1, ticket, "x");
    }
    cluster.network.reverse();
    cluster.deliver();
    cluster.tick(1, 100);
    cluster.deliver();
    for id in 1..=3 {
        assert_eq!(terms(&cluster, id), [1; 5]);
        assert_eq!(cluster.status(id).applied, Index(5));
    }
}
