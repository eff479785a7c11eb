//! Three nodes elect, replicate, read, compact, through `step` alone.

use crate::support::{Cluster, member};
use raft_core::{Body, Index, Outcome, ReadMode, RoleName, Term, Ticket};

#[test]
fn three_nodes_elect_replicate_and_apply() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    for id in [1, 2, 3] {
        assert_eq!(cluster.log_of(id), [(Term(1), Index(1)), (Term(1), Index(2))]);
        assert_eq!(cluster.server(id).applied.len(), 2, "no-op and command are applied");
        assert_eq!(cluster.status(id).leader, Some(member(1)));
    }
    let committed = Outcome::Committed { term: Term(1), index: Index(2) };
    assert_eq!(cluster.server(1).outcomes[&Ticket(1)], committed);
}

#[test]
fn a_read_waits_for_a_round_of_acknowledgements() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let ticket = Ticket(9);
    cluster.step(1, Body::Read { ticket, mode: ReadMode::ReadIndex });
    assert!(cluster.server(1).reads.is_empty(), "nobody has confirmed the round yet");
    cluster.deliver();
    assert_eq!(cluster.server(1).reads[&ticket], Index(1));
}

#[test]
fn a_follower_that_missed_a_compacted_log_gets_the_snapshot_in_chunks() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.snapshot_chunk_bytes = 10);
    cluster.elect(1);
    for ticket in 0..5 {
        cluster.propose(1, ticket, "x");
    }
    cluster.deliver_if(|envelope| envelope.to.id.0 != 3 && envelope.from.id.0 != 3);
    assert_eq!(cluster.status(1).applied, Index(6));
    let snapshot = cluster.server(1).raft.snapshot_at(Index(6)).expect("it is applied");
    cluster.step(1, Body::SnapshotTaken { snapshot });
    assert_eq!(cluster.status(1).base.index, Index(6), "the log is compacted");
    cluster.tick(1, 100);
    cluster.deliver();
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.status(3).applied, Index(6), "the snapshot is installed and restored");
    assert_eq!(cluster.server(3).staged, b"a snapshot of more than one chunk");
    cluster.propose(1, 7, "y");
    cluster.deliver();
    assert_eq!(cluster.status(3).applied, Index(7), "and replication goes on after it");
}

#[test]
fn a_sole_voter_leads_only_once_its_vote_is_durable() {
    let mut cluster = Cluster::new(&[1], &[]);
    cluster.is_disk_immediate = false;
    cluster.step(1, Body::Campaign);
    assert_eq!(cluster.status(1).role, RoleName::Candidate);
    cluster.sync(1);
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert_eq!(cluster.status(1).commit, Index(0), "its no-op is not durable yet");
    cluster.sync(1);
    assert_eq!(cluster.status(1).commit, Index(1));
}
