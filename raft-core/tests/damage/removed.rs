//! Who was a member when a damaged entry was appended is asked for it, too: a removed server may have the only
//! copy. It may also be in a later term, for it campaigns in vain.

use raft_core::{
    Body, Index, MemberStep, MembershipChange, NodeId, Refused, RoleName, RpcKind, Term, Ticket,
};

use crate::follower::beat;
use crate::snapshots::{break_snapshot, take_snapshot};
use crate::support::{Cluster, member, membership};

/// n1 leads n2 and n3. n4 was removed, has not heard of it, and is in a later term.
fn without_4(prepare: impl Fn(&mut Cluster)) -> Cluster {
    let mut cluster = Cluster::with(&[1, 2, 3, 4], &[], |config| {
        (config.pre_vote, config.resident_bytes_max) = (false, 1);
    });
    cluster.elect(1);
    cluster.propose(1, 1, "command");
    beat(&mut cluster, 1);
    prepare(&mut cluster);
    let change = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(4))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(2), change, expect: None });
    for _ in 0..50 {
        cluster.deliver_if(|sent| sent.to != member(4));
        cluster.tick(1, 100);
        cluster.tick(4, 0);
    }
    cluster.network.clear();
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 3], &[]));
    assert!(cluster.status(4).term > Term(2), "it campaigns");
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    cluster
}

/// A node finds while it runs that it cannot read the command any more.
fn lose_command(cluster: &mut Cluster, id: u64) {
    let lost = cluster.server(id).raft.entry_id(Index(2)).expect("it is in the log");
    cluster.servers.get_mut(&id).expect("a node of the cluster").disk.damaged.insert(Index(2));
    cluster.step(id, Body::Damaged { entries: vec![lost] });
    assert_eq!(cluster.status(id).damaged, 1);
}

/// A follower that waits for a snapshot asks again and again. Each answer of the removed server took the
/// follower to a later term, and with it the leader out of its office.
#[test]
fn a_removed_server_that_a_follower_asks_deposes_no_leader() {
    let mut cluster = without_4(|cluster| take_snapshot(cluster, 2));
    break_snapshot(&mut cluster, 2);
    let mut asked = 0;
    for _ in 0..100 {
        cluster.deliver_if(|sent| {
            asked += u32::from(sent.rpc.kind() == RpcKind::RequestEntry && sent.to == member(4));
            true
        });
        cluster.tick(1, 100);
        (2..=4).for_each(|id| cluster.tick(id, 0));
    }
    assert!(asked > 2, "it may have a copy");
    assert!(cluster.status(2).is_snapshot_damaged, "no host has taken another one");
    let status = cluster.status(1);
    assert_eq!((status.role, status.term), (RoleName::Leader, Term(1)));
}

/// Everybody has what the leader misses, but the removed server answers first.
#[test]
fn a_removed_server_that_the_leader_asks_does_not_depose_it() {
    let mut cluster = without_4(|_| {});
    lose_command(&mut cluster, 1);
    let others = cluster.take(|sent| sent.to != member(4));
    assert_eq!(cluster.network.len(), 1, "it is asked");
    cluster.deliver();
    let refused = cluster.refusals(1);
    assert!(matches!(refused.last(), Some(Refused::StickyLeader { .. })), "{refused:?}");
    cluster.network.extend(others);
    cluster.deliver();
    let status = cluster.status(1);
    assert_eq!((status.role, status.term, status.damaged), (RoleName::Leader, Term(1), 0));
}

/// Nobody else has a copy, so its term is adopted after all, or it could never answer.
#[test]
fn a_removed_server_of_a_later_term_helps_where_nobody_else_does() {
    let mut cluster = without_4(|_| {});
    (1..=3).for_each(|id| lose_command(&mut cluster, id));
    let mut rounds = 0;
    while (1..=3).any(|id| cluster.status(id).damaged > 0) {
        cluster.deliver();
        cluster.now.0 += 100;
        (1..=4).for_each(|id| cluster.tick(id, 0));
        rounds += 1;
        assert!(rounds < 1_000, "n4 has it, and is asked");
    }
}

/// It has waited in vain as a follower. Once it leads, the others get their time to answer before the removed
/// server is heard.
#[test]
fn who_becomes_leader_hears_its_members_first() {
    let mut cluster = without_4(|_| {});
    cluster.break_entries(1, &[2]);
    cluster.fall_silent();
    cluster.tick(1, 0);
    let asked = cluster.take(|sent| sent.rpc.kind() == RpcKind::RequestEntry);
    assert_eq!(asked.len(), 3, "and all of it is lost");
    cluster.step(1, Body::Campaign);
    let mut questions = Vec::new();
    cluster.deliver_if(|sent| {
        let is_question = sent.rpc.kind() == RpcKind::RequestEntry;
        questions.extend(is_question.then(|| sent.clone()));
        !is_question
    });
    let term = cluster.status(1).term;
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert!(term < cluster.status(4).term);
    questions.sort_by_key(|sent| sent.to != member(4));
    for question in questions {
        cluster.step(question.to.id.0, Body::Peer(question));
        cluster.deliver();
    }
    let status = cluster.status(1);
    assert_eq!((status.role, status.term, status.damaged), (RoleName::Leader, term, 0));
}
