//! A quorum that is lost for good: one node goes on alone in a new cluster epoch, and nothing of the
//! old one can reach it.

use raft_core::{
    Body, Effect, Envelope, Epoch, HaltReason, Index, MemberStep, Membership, MembershipChange,
    Message, NodeId, Observation, Outcome, ReadMode, Refused, Rejection, RoleName, Rpc, RpcKind,
    Ticket,
};

use crate::support::{Cluster, Disk, config, member, membership};

fn force(cluster: &mut Cluster, id: u64, ticket: u64) {
    cluster.step(id, Body::ForceMembership { ticket: Ticket(ticket) });
}

fn outcome(cluster: &Cluster, id: u64, ticket: u64) -> Option<Outcome> {
    cluster.server(id).outcomes.get(&Ticket(ticket)).copied()
}

fn is_committed(cluster: &Cluster, id: u64, ticket: u64) -> bool {
    matches!(outcome(cluster, id, ticket), Some(Outcome::Committed { .. }))
}

fn is_alone(cluster: &Cluster, id: u64) -> bool {
    let status = cluster.status(id);
    *status.membership == membership(&[id], &[]) && status.role == RoleName::Leader
}

/// A follower, a learner, a node in a joint membership and the leader itself can be the last one.
#[test]
fn every_member_can_go_on_alone_with_all_that_it_has() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    let enter = MembershipChange::EnterJoint(vec![MemberStep::Promote(NodeId(4))]);
    let mut joint = cluster.clone();
    joint.step(1, Body::ProposeMembership { ticket: Ticket(2), change: enter, expect: None });
    joint.deliver();
    assert!(joint.status(3).membership.is_joint());
    for (mut lost, id) in [(cluster.clone(), 2), (cluster.clone(), 4), (joint, 3), (cluster, 1)] {
        let last = lost.status(id).last.index;
        force(&mut lost, id, 9);
        assert!(is_committed(&lost, id, 9) && is_alone(&lost, id), "n{id}");
        assert_eq!(lost.status(id).epoch, Epoch(1));
        assert!(lost.status(id).commit > last, "what it had is committed, and kept");
        lost.propose(id, 10, "y");
        assert!(is_committed(&lost, id, 10));
    }
}

/// Whoever is nobody's member has nothing to go on with; whoever is alone needs no force.
#[test]
fn force_is_refused_where_it_means_nothing() {
    let mut cluster = Cluster::new(&[1], &[]);
    force(&mut cluster, 1, 1);
    assert_eq!(outcome(&cluster, 1, 1), Some(Outcome::Refused(Rejection::NoChange)));
    cluster.start(config(2), Disk::genesis(Membership::default()));
    force(&mut cluster, 2, 1);
    assert_eq!(outcome(&cluster, 2, 1), Some(Outcome::Refused(Rejection::UnknownMember)));
    cluster.step(1, Body::PersistFailed);
    force(&mut cluster, 1, 2);
    assert_eq!(outcome(&cluster, 1, 2), Some(Outcome::Refused(Rejection::Halted)));
    for id in [1, 2] {
        assert_eq!(cluster.status(id).epoch, Epoch::ZERO);
    }
}

/// The old quorum was not dead after all: it halts when it hears of the new epoch, and ends what it
/// had accepted; a restart does not bring it back.
#[test]
fn a_node_of_the_old_epoch_halts_when_it_hears_of_the_new_one() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    force(&mut cluster, 3, 1);
    cluster.network.clear();
    cluster.propose(1, 2, "x");
    cluster.step(1, Body::Read { ticket: Ticket(3), mode: ReadMode::ReadIndex });
    cluster.network.clear();
    // An operator errs: the old disk is not a member of the new epoch, and cannot become one.
    for id in [1, 2] {
        let change = MembershipChange::Steps(vec![MemberStep::AddLearner(member(id))]);
        let ticket = Ticket(10 + id);
        cluster.step(3, Body::ProposeMembership { ticket, change, expect: None });
        cluster.deliver();
        assert_eq!(cluster.status(id).role, RoleName::Halted);
        let halted = Observation::Halted { reason: HaltReason::LeftBehind { epoch: Epoch(1) } };
        assert!(cluster.server(id).observations.contains(&halted));
    }
    assert_eq!(outcome(&cluster, 1, 2), Some(Outcome::Halted));
    assert_eq!(outcome(&cluster, 1, 3), Some(Outcome::Halted));
    assert_eq!(cluster.status(1).commit, Index(1), "x is not committed, and never will be");
    cluster.crash(2);
    assert_eq!(cluster.status(2).epoch, Epoch::ZERO, "it has taken nothing over");
    cluster.step(2, Body::Campaign);
    cluster.deliver();
    let stale = Refused::StaleEpoch { mine: Epoch(1), theirs: Epoch::ZERO };
    assert!(cluster.refusals(3).contains(&stale));
    cluster.tick(3, 100);
    cluster.deliver();
    assert_eq!(cluster.status(2).role, RoleName::Halted);
    assert_eq!(cluster.status(3).role, RoleName::Leader);
}

/// Everything of the new epoch becomes durable together: a crash before that undoes it, and no
/// message tells of it.
#[test]
fn a_crash_before_the_new_epoch_is_durable_leaves_the_old_one() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.is_disk_immediate = false;
    force(&mut cluster, 3, 1);
    assert_eq!((outcome(&cluster, 3, 1), cluster.network.len()), (None, 0));
    assert_eq!(cluster.server(3).unsynced.len(), 1, "one batch has epoch, term, vote and entry");
    cluster.crash(3);
    cluster.sync(3);
    assert_eq!(cluster.status(3).epoch, Epoch::ZERO);
    cluster.is_disk_immediate = true;
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.status(3).leader, Some(member(1)));
    force(&mut cluster, 3, 1);
    cluster.crash(3);
    assert_eq!(cluster.status(3).epoch, Epoch(1));
    assert_eq!(*cluster.status(3).membership, membership(&[3], &[]));
    cluster.step(3, Body::Campaign);
    assert!(is_alone(&cluster, 3), "and this one survives");
}

/// A chunk of the old leader's snapshot is with the host when the operator decides. Once it is
/// staged it must not be installed: it would bring the old membership back.
#[test]
fn a_snapshot_of_the_old_epoch_is_not_installed() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    for ticket in 1..=5 {
        cluster.propose(1, ticket, "x");
    }
    cluster.deliver_if(|sent| sent.to != member(3));
    let snapshot = cluster.server(1).raft.snapshot_at(Index(6)).expect("it is applied");
    cluster.step(1, Body::SnapshotTaken { snapshot });
    let is_chunk = |sent: &Envelope| sent.rpc.kind() == RpcKind::InstallSnapshot;
    let mut chunks = Vec::new();
    for _ in 0..4 {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| {
            chunks.extend(is_chunk(sent).then(|| sent.clone()));
            !is_chunk(sent)
        });
    }
    let chunk = chunks.first().expect("the follower needs the snapshot").clone();
    let Rpc::InstallSnapshot { ref data, done: true, .. } = chunk.rpc else {
        panic!("one chunk is all of it")
    };
    let staged = data.len() as u64;
    // The host takes its time with the only chunk.
    let (now, body) = (cluster.now, Body::Peer(chunk));
    let server = cluster.servers.get_mut(&3).expect("it is there");
    let effects = server.raft.step(Message { now, body });
    let id = effects.iter().find_map(|effect| {
        let Effect::StageChunk { id, .. } = effect else { return None };
        Some(*id)
    });
    let id = id.expect("the chunk is to be staged");
    force(&mut cluster, 3, 9);
    assert!(is_alone(&cluster, 3));
    let before = cluster.status(3);
    cluster.step(3, Body::ChunkStaged { id, staged });
    assert_eq!(cluster.status(3), before, "nothing has changed");
    assert!(is_alone(&cluster, 3));
}

/// A promise to a leader that is gone for good binds nobody: the node decides alone.
#[test]
fn a_promise_does_not_stand_in_the_way() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.lease_us = 600);
    cluster.elect(1);
    cluster.tick(1, 100);
    cluster.deliver();
    cluster.step(3, Body::Campaign);
    assert!(matches!(cluster.refusals(3).last(), Some(Refused::Promised { .. })));
    force(&mut cluster, 3, 1);
    assert!(is_committed(&cluster, 3, 1) && is_alone(&cluster, 3));
}
