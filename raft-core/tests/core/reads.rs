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
            | Rpc::ReadIndexResponse { .. }
            | Rpc::Repair(_) => {}
        }
        cluster.step(1, Body::Peer(answer));
    }
    assert!(matched >= 2, "both followers have acknowledged the entry, in another stream");
    assert_eq!(cluster.status(1).commit, Index(1));
    assert!(cluster.server(1).reads.is_empty());
    let is_stale = |reason: &Refused| matches!(reason, Refused::StaleSession { .. });
    assert!(cluster.refusals(1).iter().any(is_stale));
}

/// Sessions and rounds are numbered anew in each term. So who answers a message of an earlier term
/// only tells the present one: an echo could confirm a round that was not even open by then, and
/// the reader would miss what a later leader has acknowledged meanwhile.
#[test]
fn an_answer_to_an_earlier_term_confirms_no_read() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.check_quorum = false);
    cluster.elect(1);
    read(&mut cluster, 1, 1);
    let late = cluster.take(|sent| sent.to == member(2));
    assert_eq!(late.len(), 1, "what asks node 2 to confirm the round is on its way");
    cluster.step(1, Body::StepDown);
    cluster.step(2, Body::ForgetLeader);
    cluster.step(3, Body::ForgetLeader);
    cluster.elect(1);
    for envelope in late {
        cluster.step(2, Body::Peer(envelope));
    }
    let late = cluster.take(|sent| sent.from == member(2));
    assert_eq!(late.len(), 1, "node 2 tells the present term");

    // Node 1 hears nobody, while the others elect a leader that commits something.
    cluster.step(2, Body::ForgetLeader);
    cluster.step(3, Body::ForgetLeader);
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(|sent| sent.to != member(1));
    cluster.propose(2, 2, "x");
    cluster.deliver_if(|sent| sent.to != member(1));
    assert!(matches!(cluster.server(2).outcomes[&Ticket(2)], Outcome::Committed { .. }));

    read(&mut cluster, 1, 3);
    for envelope in late {
        cluster.step(1, Body::Peer(envelope));
    }
    assert!(!cluster.server(1).reads.contains_key(&Ticket(3)), "it would miss x");
}
