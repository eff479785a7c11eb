//! Damage that a snapshot covers, and damaged snapshots.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Body, Effect, EntryResult, Envelope, Index, Member, MemberStep, MembershipChange, Observation,
    Outcome, Refused, RepairRpc, RoleName, Round, Rpc, RpcKind, Session, SnapshotMeta, Ticket,
    Violation,
};

use crate::follower::{beat, led};
use crate::support::{Cluster, member, membership};

/// A node makes a snapshot of all that it has applied, and keeps no log before it.
pub(crate) fn take_snapshot(cluster: &mut Cluster, id: u64) {
    let applied = cluster.status(id).applied;
    let snapshot = cluster.server(id).raft.snapshot_at(applied).expect("applied");
    let server = cluster.servers.get_mut(&id).expect("a node of the cluster");
    server.disk.snapshot = snapshot.clone();
    cluster.step(id, Body::SnapshotTaken { snapshot });
}

/// The snapshot of a node breaks, and it starts again.
pub(crate) fn break_snapshot(cluster: &mut Cluster, id: u64) {
    let mut server = cluster.servers.remove(&id).expect("a node of the cluster");
    server.disk.is_snapshot_damaged = true;
    cluster.start(server.config, server.disk);
}

#[test]
fn the_leaders_snapshot_replaces_what_is_damaged_and_keeps_what_follows() {
    let mut cluster = led(4);
    take_snapshot(&mut cluster, 1);
    cluster.propose(1, 9, "after it");
    beat(&mut cluster, 1);
    cluster.break_entries(2, &[3]);
    assert_eq!(cluster.status(2).last.index, Index(6));
    beat(&mut cluster, 1);
    for _ in 0..4 {
        beat(&mut cluster, 1);
    }
    let status = cluster.status(2);
    assert_eq!((status.damaged, status.snapshot.index), (0, Index(5)));
    assert_eq!(status.last.index, Index(6), "what follows is kept");
    assert_eq!(status.applied, Index(6));
}

#[test]
fn what_the_own_snapshot_covers_is_not_missed() {
    let mut cluster = led(4);
    let mut server = cluster.servers.remove(&2).unwrap();
    server.config.kept_behind_snapshot = 3;
    cluster.start(server.config, server.disk);
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    take_snapshot(&mut cluster, 2);
    assert_eq!(cluster.log_of(2).first().unwrap().1, Index(3), "some of it is kept for others");
    cluster.break_entries(2, &[4]);
    assert_eq!(cluster.status(2).damaged, 0);
    assert_eq!(cluster.status(2).base.index, Index(4), "the log begins after it");
    assert_eq!(cluster.log_of(2).first().unwrap().1, Index(5));
}

#[test]
fn a_damaged_snapshot_is_fetched_from_a_peer_chunk_by_chunk() {
    let mut cluster = led(4);
    let adjusted = |cluster: &mut Cluster, id: u64| {
        let mut server = cluster.servers.remove(&id).unwrap();
        server.config.snapshot_chunk_bytes = 10;
        cluster.start(server.config, server.disk);
    };
    adjusted(&mut cluster, 3);
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    take_snapshot(&mut cluster, 2);
    break_snapshot(&mut cluster, 2);
    let status = cluster.status(2);
    assert!(status.is_snapshot_damaged && status.applied == Index::ZERO);
    beat(&mut cluster, 1);
    assert_eq!(cluster.status(2).applied, Index::ZERO, "nothing is applied without it");
    // Nobody has one: a host may take one now.
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestPreVote);
    let wanted = Observation::SnapshotWanted { by: member(2), index: Index(5) };
    assert!(cluster.server(3).observations.contains(&wanted));
    take_snapshot(&mut cluster, 3);
    cluster.tick(1, 100);
    cluster.deliver();
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestPreVote);
    let status = cluster.status(2);
    assert!(!status.is_snapshot_damaged);
    assert_eq!((status.snapshot.index, status.applied), (Index(5), Index(5)));
    let server = cluster.server(2);
    assert_eq!(server.staged, server.snapshot, "all of its bytes");
    cluster.propose(1, 9, "next");
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    assert_eq!(cluster.status(2).applied, Index(6));
}

/// The others have all that the snapshot covers, and do not know that it is committed. Who misses it may
/// be the only one that could lead them to it, so it says so by asking.
#[test]
fn who_misses_a_snapshot_tells_what_it_covered() {
    let mut cluster = led(4);
    take_snapshot(&mut cluster, 1);
    for id in [2, 3] {
        let server = cluster.servers.remove(&id).unwrap();
        cluster.start(server.config, server.disk);
    }
    break_snapshot(&mut cluster, 1);
    let known = |cluster: &Cluster| (cluster.status(2).commit, cluster.status(2).applied);
    assert!(known(&cluster).0 < Index(5), "it is not known there");
    let ask = |cluster: &mut Cluster| {
        cluster.tick(1, 1_000);
        cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestPreVote);
    };
    ask(&mut cluster);
    assert_eq!(known(&cluster), (Index(5), Index(5)));
    take_snapshot(&mut cluster, 2);
    ask(&mut cluster);
    let status = cluster.status(1);
    assert!(!status.is_snapshot_damaged && status.applied == Index(5));
}

#[test]
fn a_part_that_is_lost_is_asked_for_again() {
    let mut cluster = led(4);
    take_snapshot(&mut cluster, 2);
    take_snapshot(&mut cluster, 3);
    break_snapshot(&mut cluster, 2);
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| {
        !matches!(sent.rpc.kind(), RpcKind::RequestSnapshotResponse | RpcKind::RequestPreVote)
    });
    assert!(cluster.status(2).is_snapshot_damaged);
    for _ in 0..3 {
        cluster.tick(2, 1_000);
        cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestPreVote);
    }
    assert!(!cluster.status(2).is_snapshot_damaged);
}

#[test]
fn a_leader_fetches_a_snapshot_of_what_only_a_peer_has() {
    let mut cluster = led(4);
    take_snapshot(&mut cluster, 3);
    cluster.servers.remove(&2);
    cluster.break_entries(1, &[2]);
    cluster.fall_silent();
    cluster.elect(1);
    beat(&mut cluster, 1);
    let status = cluster.status(1);
    assert_eq!((status.damaged, status.snapshot.index), (0, Index(5)));
    cluster.propose(1, 9, "served");
    beat(&mut cluster, 1);
    let outcome = cluster.server(1).outcomes[&Ticket(9)];
    assert!(matches!(outcome, Outcome::Committed { .. }));
    assert_eq!(cluster.status(1).role, RoleName::Leader);
}

/// What is kept behind the own snapshot rots, and is found while the node runs. Nobody else has it, no
/// newer snapshot can come before something commits, and nothing would commit behind a hole.
#[test]
fn what_the_own_snapshot_covers_is_not_missed_when_it_is_found_later() {
    let mut cluster = Cluster::with(&[1], &[], |config| {
        config.kept_behind_snapshot = 3;
        config.resident_bytes_max = 1;
    });
    cluster.elect(1);
    for ticket in 1..=5 {
        cluster.propose(1, ticket, "command");
    }
    take_snapshot(&mut cluster, 1);
    let (base, applied) = (cluster.status(1).base.index, cluster.status(1).applied);
    assert_eq!((base, applied), (Index(3), Index(6)));
    let lost = cluster.server(1).raft.entry_id(Index(5)).expect("it is kept");
    cluster.step(1, Body::Damaged { entries: vec![lost] });
    assert_eq!((cluster.status(1).damaged, cluster.status(1).base), (0, lost));
    cluster.propose(1, 9, "after it");
    assert!(matches!(cluster.server(1).outcomes[&Ticket(9)], Outcome::Committed { .. }));
    cluster.crash(1);
    assert_eq!((cluster.status(1).damaged, cluster.status(1).last.index), (0, Index(7)));
}

/// The chain of the last entry does not cover what a snapshot says of the members: the log does.
#[test]
fn a_snapshot_with_another_membership_is_not_fetched() {
    let mut cluster = led(4);
    take_snapshot(&mut cluster, 1);
    break_snapshot(&mut cluster, 1);
    cluster.fall_silent();
    cluster.step(1, Body::Campaign);
    let asks = |sent: &Envelope| sent.rpc.kind() == RpcKind::RequestEntry;
    cluster.deliver_if(|sent| !asks(sent));
    cluster.tick(1, 1_000);
    let question = cluster.take(asks).remove(0);
    let Rpc::Repair(RepairRpc::RequestEntry { id, wanted, .. }) = question.rpc else {
        unreachable!("nothing else was taken")
    };
    let answer = |from: Member, voters: &[u64]| {
        let membership = membership(voters, &[]);
        let snapshot = Arc::new(SnapshotMeta { last: wanted, membership });
        let result = EntryResult::HaveSnapshot { snapshot };
        let rpc = Rpc::Repair(RepairRpc::RequestEntryResponse { id, result });
        Body::Peer(Envelope { from, to: member(1), rpc, ..question.clone() })
    };
    cluster.step(1, answer(member(9), &[1, 2, 3]));
    assert_eq!(cluster.refusals(1).last(), Some(&Refused::NotAMember), "nobody has asked n9");
    cluster.step(1, answer(member(2), &[2, 3]));
    let violation = Violation::MembershipMismatch { index: wanted.index };
    assert_eq!(cluster.violations(1), [violation]);
    let is_fetched = |sent: &Envelope| sent.rpc.kind() == RpcKind::RequestSnapshot;
    assert!(cluster.take(is_fetched).is_empty());
    cluster.step(1, answer(member(2), &[1, 2, 3]));
    assert_eq!(cluster.take(is_fetched).len(), 1);
}

/// The snapshot is damaged, and with it the last change of members before it: what was in force before that
/// change is not what the snapshot says, and who offers what holds there does not lie.
#[test]
fn an_older_snapshot_with_the_older_members_is_no_lie() {
    let mut cluster = led(2);
    let older = cluster.server(1).raft.snapshot_at(Index(3)).expect("applied");
    let change = MembershipChange::Steps(vec![MemberStep::AddLearner(member(4))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(8), change, expect: None });
    cluster.propose(1, 9, "after it");
    beat(&mut cluster, 1);
    let mut server = cluster.servers.remove(&2).unwrap();
    server.config.kept_behind_snapshot = 9;
    cluster.start(server.config, server.disk);
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    take_snapshot(&mut cluster, 2);
    let mut server = cluster.servers.remove(&2).unwrap();
    assert_ne!(server.disk.snapshot.membership, older.membership);
    server.disk.is_snapshot_damaged = true;
    server.disk.damaged.extend([Index(2), Index(4)]);
    cluster.start(server.config, server.disk);
    assert_eq!(cluster.status(2).damaged, 2);
    beat(&mut cluster, 1);
    let rpc = Rpc::InstallSnapshot {
        session: Session(1),
        round: Round(0),
        snapshot: older,
        offset: 0,
        data: Bytes::from_static(b"state"),
        done: true,
    };
    let heard = heard_by(&cluster, 2);
    cluster.step(2, Body::Peer(Envelope { rpc, ..heard }));
    assert_eq!(cluster.violations(2), []);
}

/// The last message of n1, the leader, to a node.
fn heard_by(cluster: &Cluster, id: u64) -> Envelope {
    let heard = cluster.trace.iter().rev().find_map(|(from, effect)| {
        let Effect::Send(sent) = effect else { return None };
        (*from == 1 && sent.to == member(id)).then(|| sent.clone())
    });
    heard.expect("n1 leads")
}

/// n4 and n5 become learners, in a change each.
fn add_two_learners(cluster: &mut Cluster) {
    for (ticket, id) in [(8, 4), (9, 5)] {
        let change = MembershipChange::Steps(vec![MemberStep::AddLearner(member(id))]);
        cluster.step(1, Body::ProposeMembership { ticket: Ticket(ticket), change, expect: None });
        beat(cluster, 1);
    }
    cluster.propose(1, 10, "after them");
}

/// n2 takes a snapshot and keeps its log; both it and these entries rot, and n2 starts again.
fn damage_behind_snapshot(cluster: &mut Cluster, lost: &[u64]) {
    let mut server = cluster.servers.remove(&2).expect("it is there");
    server.config.kept_behind_snapshot = 9;
    cluster.start(server.config, server.disk);
    beat(cluster, 1);
    beat(cluster, 1);
    take_snapshot(cluster, 2);
    let mut server = cluster.servers.remove(&2).expect("it is there");
    server.disk.is_snapshot_damaged = true;
    server.disk.damaged.extend(lost.iter().copied().map(Index));
    cluster.start(server.config, server.disk);
}

/// The snapshot is damaged, and an older one takes its place. The changes of members between the two are
/// whole: each is in force from where it stands, and none of them from elsewhere on.
#[test]
fn an_older_snapshot_leaves_every_later_change_of_members_where_it_is() {
    let mut cluster = led(2);
    let older = cluster.server(1).raft.snapshot_at(Index(3)).expect("applied");
    add_two_learners(&mut cluster);
    damage_behind_snapshot(&mut cluster, &[2]);
    beat(&mut cluster, 1);
    let rpc = Rpc::InstallSnapshot {
        session: Session(1),
        round: Round(0),
        snapshot: older,
        offset: 0,
        data: Bytes::from_static(b"state"),
        done: true,
    };
    let heard = heard_by(&cluster, 2);
    cluster.step(2, Body::Peer(Envelope { rpc, ..heard }));
    beat(&mut cluster, 1);
    assert_eq!((cluster.status(2).snapshot.index, cluster.status(2).damaged), (Index(3), 0));
    let members_at = |index| {
        let snapshot = cluster.server(2).raft.snapshot_at(Index(index));
        snapshot.map(|snapshot| snapshot.membership.clone())
    };
    assert_eq!(members_at(4), Some(membership(&[1, 2, 3], &[4])));
    assert_eq!(members_at(5), Some(membership(&[1, 2, 3], &[4, 5])));
    assert_eq!(cluster.violations(2), []);
}

/// Both of the last changes of members are damaged, and the snapshot after them. The older change comes back
/// first: nobody takes what it says for what holds now.
#[test]
fn a_membership_that_comes_back_does_not_replace_the_one_of_the_snapshot() {
    let mut cluster = led(1);
    add_two_learners(&mut cluster);
    damage_behind_snapshot(&mut cluster, &[3, 4]);
    let newest = membership(&[1, 2, 3], &[4, 5]);
    assert_eq!((cluster.status(2).damaged, &*cluster.status(2).membership), (2, &newest));
    // n3 gives back one entry after the other.
    let mut answers = Vec::new();
    cluster.tick(2, 1_000);
    for left in [1, 0] {
        cluster.deliver_if(|sent| {
            let is_answer = sent.rpc.kind() == RpcKind::RequestEntryResponse;
            answers.extend((is_answer && sent.from == member(3)).then(|| sent.clone()));
            sent.rpc.kind() == RpcKind::RequestEntry && sent.to == member(3)
        });
        cluster.step(2, Body::Peer(answers.remove(0)));
        let status = cluster.status(2);
        assert_eq!((status.damaged, &*status.membership), (left, &newest));
        let refused = cluster.refusals(2);
        cluster.step(2, Body::Campaign);
        // Whose votes decide is not known before all of them are back.
        let is_refused = cluster.refusals(2)[refused.len()..] == [Refused::NotAVoter];
        assert_eq!(is_refused, left > 0);
    }
    let older = cluster.server(2).raft.snapshot_at(Index(3)).expect("applied");
    assert_eq!(older.membership, membership(&[1, 2, 3], &[4]), "each has its place");
}

/// What is told by that is one entry by its identity, and what is before it. Who has another one at its index
/// learns nothing.
#[test]
fn who_has_another_entry_there_does_not_take_it_for_committed() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5], &[]);
    cluster.elect(1);
    beat(&mut cluster, 1);
    // n1 and n2 have an entry of term 1 at 2; n3, n4 and n5 commit another one there.
    cluster.propose(1, 9, "lonely");
    cluster.deliver_if(|sent| sent.to == member(2));
    cluster.servers.remove(&1);
    cluster.fall_silent();
    cluster.step(3, Body::Campaign);
    cluster.deliver_if(|sent| ![sent.from, sent.to].contains(&member(2)));
    assert_eq!((cluster.status(3).role, cluster.status(3).commit), (RoleName::Leader, Index(2)));
    take_snapshot(&mut cluster, 3);
    break_snapshot(&mut cluster, 3);
    cluster.fall_silent();
    let asks = |sent: &Envelope| sent.rpc.kind() == RpcKind::RequestEntry;
    cluster.tick(3, 1_000);
    let mut asked = 0;
    cluster.deliver_if(|sent| {
        asked += usize::from(asks(sent) && sent.to == member(2));
        asks(sent)
    });
    assert_eq!((asked, cluster.status(2).last.index), (1, Index(2)));
    let wanted = Observation::SnapshotWanted { by: member(3), index: Index(2) };
    assert!(cluster.server(2).observations.contains(&wanted));
    assert_eq!((cluster.status(2).commit, cluster.status(4).commit), (Index(1), Index(2)));
}
