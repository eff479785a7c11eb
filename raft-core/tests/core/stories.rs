//! Two stories in which published libraries lose committed data: a message that speaks of a vote
//! leaves before the vote is durable; after a crash the node leads the same term twice.

use raft_core::{Body, Entry, Index, Outcome, RoleName, RpcKind, Term, Ticket, Time};

use crate::support::{Cluster, member};

/// etcd-io/raft with asynchronous storage writes: the candidate's requests leave at once, the
/// candidate crashes before its own vote is durable, and leads term 1 again with another log.
#[test]
fn a_candidate_asks_for_votes_only_when_its_own_is_durable() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], &[], |config| config.pre_vote = false);
    cluster.is_disk_immediate = false;
    cluster.sync_all();

    cluster.step(1, Body::Campaign);
    assert!(cluster.network.is_empty(), "nothing of term 1 leaves before (1, vote=n1) is durable");
    assert_eq!(cluster.status(1).term, Term(1));

    // The crash that made the story possible: nothing of term 1 is left, and nobody has heard it.
    cluster.crash(1);
    cluster.sync(1);
    assert_eq!(cluster.status(1).term, Term(0));

    // The second candidacy is the only one of term 1 that anybody hears of.
    cluster.step(1, Body::Campaign);
    cluster.sync(1);
    assert!(cluster.network.iter().all(|sent| sent.rpc.kind() == RpcKind::RequestVote));
    assert_eq!(cluster.network.len(), 4);
    cluster.deliver_if(|sent| sent.to != member(2));
    cluster.sync_all();
    cluster.deliver_if(|sent| sent.to != member(2));
    assert_eq!(cluster.status(1).role, RoleName::Leader);

    // X is on n1 and n2 only. A crash of n1 keeps the term, so it can never lead term 1 again.
    cluster.propose(1, 1, "X");
    cluster.deliver_if(|sent| sent.to == member(2));
    cluster.sync(2);
    cluster.network.clear();
    cluster.crash(1);
    cluster.sync(1);
    assert_eq!(cluster.status(1).term, Term(1), "the vote of term 1 survived");
    cluster.step(1, Body::Campaign);
    assert_eq!(cluster.status(1).term, Term(2), "so the next candidacy is for term 2");
}

/// Every grant and every entry of term 1 that is on its way while the candidate's disk is slow
/// belongs to one and the same log: the nodes that commit at index 2 commit the same command.
#[test]
fn no_two_nodes_commit_different_entries_after_a_candidate_crashed() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], &[], |config| config.pre_vote = false);
    cluster.is_disk_immediate = false;
    cluster.sync_all();
    for command in ["X", "Y"] {
        // Long enough for everyone to give up the leader that they may have heard.
        cluster.now = Time(cluster.now.0 + 1_000);
        cluster.step(1, Body::Campaign);
        cluster.sync(1);
        rest(&mut cluster, |_| true);
        cluster.propose(1, 1, command);
        // Only n2 stores what the first leadership proposes.
        rest(&mut cluster, |to| command == "Y" || to == 2);
        if command == "X" {
            cluster.crash(1);
            cluster.sync(1);
        }
    }
    rest(&mut cluster, |_| true);
    let at_two: Vec<Entry> = (1..=5)
        .filter_map(|id| cluster.server(id).applied.iter().find(|e| e.index() == Index(2)))
        .cloned()
        .collect();
    assert_eq!(at_two.len(), 5, "everyone has applied index 2");
    assert!(at_two.windows(2).all(|pair| pair[0] == pair[1]), "and it is the same everywhere");
    assert!((1..=5).all(|id| cluster.violations(id).is_empty()));
}

/// tikv's raft-rs: a sole voter leads at once, and its first append leaves before its vote is
/// durable; a crash makes it lead term 1 again with another command in the same slot.
#[test]
fn a_sole_voter_replicates_only_when_its_vote_is_durable() {
    let mut cluster = Cluster::new(&[1], &[2]);
    cluster.is_disk_immediate = false;
    cluster.sync_all();

    cluster.step(1, Body::Campaign);
    assert_eq!(cluster.status(1).role, RoleName::Candidate, "its own vote does not count yet");
    assert!(cluster.network.is_empty(), "the learner hears nothing of term 1");
    cluster.propose(1, 1, "X");
    assert!(matches!(cluster.server(1).outcomes[&Ticket(1)], Outcome::Refused(_)));

    cluster.crash(1);
    cluster.sync(1);
    cluster.step(1, Body::Campaign);
    cluster.sync(1);
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    cluster.propose(1, 2, "Y");
    rest(&mut cluster, |_| true);

    let one = &cluster.server(1).applied;
    let two = &cluster.server(2).applied;
    assert_eq!(one.len(), 2);
    assert_eq!(one, two, "the learner applies what the voter applies");
    assert!(cluster.violations(2).is_empty());
}

/// Disks and network do their work until nothing happens any more.
fn rest(cluster: &mut Cluster, passes: impl Fn(u64) -> bool) {
    for _ in 0..50 {
        cluster.sync_all();
        cluster.deliver_if(|sent| passes(sent.to.id.0));
    }
    assert!(cluster.servers.values().all(|server| server.unsynced.is_empty()));
}
