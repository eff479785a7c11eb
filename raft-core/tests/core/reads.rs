//! Linearizable reads without log entries: ReadIndex (thesis §6.4).

use raft_core::{
    AppendResult, Body, Envelope, Index, Outcome, ReadMode, Refused, Rejection, Rpc, Session,
    Ticket,
};

use crate::support::{Cluster, member};

fn read(cluster: &mut Cluster, id: u64, ticket: u64) {
    cluster.step(id, Body::Read { ticket: Ticket(ticket), mode: ReadMode::ReadIndex });
}

/// The answers to the leader, kept back instead of delivered.
fn answers(cluster: &mut Cluster) -> Vec<Envelope> {
    let mut kept = Vec::new();
    cluster.deliver_if(|sent| {
        if sent.to == member(1) {
            kept.push(sent.clone());
        }
        sent.to != member(1)
    });
    kept
}

/// Reads that wait are counted, at the leader and at a follower that forwards them.
#[test]
fn reads_that_wait_are_limited() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.requests_max = 2);
    cluster.elect(1);
    for ticket in 1..=3 {
        read(&mut cluster, 2, ticket);
    }
    assert_eq!(cluster.server(2).outcomes[&Ticket(3)], Outcome::Refused(Rejection::Busy));
    for ticket in 1..=3 {
        read(&mut cluster, 1, ticket);
    }
    assert_eq!(cluster.server(1).outcomes[&Ticket(3)], Outcome::Refused(Rejection::Busy));
}

/// An answer of another stream of appends counts neither for the commit index nor for a read.
#[test]
fn an_answer_of_another_session_counts_for_nothing() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    read(&mut cluster, 1, 2);
    let kept = answers(&mut cluster);
    let mut matched = 0;
    for mut answer in kept {
        match &mut answer.rpc {
            Rpc::AppendEntriesResponse { session, result, .. } => {
                *session = Session(session.0 + 7);
                matched += u64::from(matches!(result, AppendResult::Matched { .. }));
            }
            Rpc::HeartbeatResponse { session, .. } => *session = Session(session.0 + 7),
            Rpc::RequestPreVote { .. }
            | Rpc::RequestPreVoteResponse { .. }
            | Rpc::RequestVote { .. }
            | Rpc::RequestVoteResponse { .. }
            | Rpc::AppendEntries { .. }
            | Rpc::Commit { .. }
            | Rpc::Heartbeat { .. }
            | Rpc::InstallSnapshot { .. }
            | Rpc::InstallSnapshotResponse { .. }
            | Rpc::TimeoutNow
            | Rpc::ReadIndex { .. }
            | Rpc::ReadIndexResponse { .. } => {}
        }
        cluster.step(1, Body::Peer(answer));
    }
    assert!(matched >= 2, "both followers have acknowledged the entry, in another stream");
    assert_eq!(cluster.status(1).commit, Index(1));
    assert!(cluster.server(1).reads.is_empty());
    let is_stale = |reason: &Refused| matches!(reason, Refused::StaleSession { .. });
    assert!(cluster.refusals(1).iter().any(is_stale));
}
