//! A follower with damaged entries: it votes by their identities, claims nothing from the first of
//! them on, and is healed in place.

use raft_core::{
    AppendResult, Body, Effect, Index, Member, MemberStep, MembershipChange, NodeId, Observation,
    Outcome, PersistBatch, Refused, RoleName, Rpc, RpcKind, Ticket,
};

use crate::support::{Cluster, member, membership};

/// Three voters, of which n1 leads and all have its no-op and `count` commands.
pub(crate) fn led(count: u64) -> Cluster {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    for ticket in 1..=count {
        cluster.propose(1, ticket, "command");
    }
    beat(&mut cluster, 1);
    cluster
}

/// A heartbeat of a leader, with everything delivered.
pub(crate) fn beat(cluster: &mut Cluster, leader: u64) {
    cluster.deliver();
    cluster.tick(leader, 100);
    cluster.deliver();
}

pub(crate) fn batches(cluster: &Cluster, id: u64) -> Vec<PersistBatch> {
    let persisted = |(from, effect): &(u64, Effect)| {
        let Effect::Persist(batch) = effect else { return None };
        (*from == id).then(|| batch.clone())
    };
    cluster.trace.iter().filter_map(persisted).collect()
}

pub(crate) fn heals(cluster: &Cluster, id: u64) -> Vec<Index> {
    let batches = batches(cluster, id);
    let runs = batches.iter().flat_map(|batch| &batch.heal);
    runs.flat_map(|run| run.iter()).map(|entry| entry.index()).collect()
}

/// What a node has claimed to leaders since the trace was cleared.
fn claims(cluster: &Cluster, id: u64) -> Vec<Index> {
    let claim = |(from, effect): &(u64, Effect)| {
        let Effect::Send(sent) = effect else { return None };
        let Rpc::AppendEntriesResponse { result, .. } = sent.rpc else { return None };
        let AppendResult::Matched { index } = result else { return None };
        (*from == id).then_some(index)
    };
    cluster.trace.iter().filter_map(claim).collect()
}

/// What a node said last about the entry that it misses: who never had it, who may have had it.
pub(crate) fn missed(cluster: &Cluster, id: u64) -> Option<(Index, Vec<Member>, Vec<Member>)> {
    cluster.server(id).observations.iter().rev().find_map(|seen| {
        let Observation::EntryMissed { id, never, damaged } = seen else { return None };
        Some((id.index, never.clone(), damaged.clone()))
    })
}

#[test]
fn a_damaged_entry_is_healed_in_place_by_the_leaders_appends() {
    for broken in [&[1][..], &[3], &[2, 3], &[1, 4], &[5], &[1, 2, 3, 4, 5]] {
        let mut cluster = led(4);
        cluster.break_entries(2, broken);
        assert_eq!(cluster.status(2).damaged, broken.len());
        assert_eq!(cluster.status(2).last.index, Index(5), "its place in the log is kept");
        cluster.trace.clear();
        beat(&mut cluster, 1);
        beat(&mut cluster, 1);
        let healed = heals(&cluster, 2);
        assert_eq!(healed, broken.iter().map(|index| Index(*index)).collect::<Vec<_>>());
        let is_cut = |batch: &PersistBatch| batch.truncate_from.is_some();
        assert!(!batches(&cluster, 2).iter().any(is_cut), "the log never gets shorter");
        assert_eq!(cluster.status(2).damaged, 0);
        let claims = claims(&cluster, 2);
        assert_eq!(claims.first(), Some(&Index(broken[0] - 1)), "as far as it is intact");
        assert_eq!(claims.last(), Some(&Index(5)));
        assert_eq!(cluster.server(2).applied.len(), 5);
    }
}

#[test]
fn what_is_healed_is_claimed_only_once_it_is_durable() {
    let mut cluster = led(3);
    cluster.slow_disks.insert(2);
    cluster.break_entries(2, &[2]);
    cluster.sync(2);
    cluster.trace.clear();
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    assert_eq!(heals(&cluster, 2), [Index(2)]);
    assert!(claims(&cluster, 2).iter().all(|claim| *claim == Index(1)));
    assert_eq!(cluster.server(2).applied.len(), 1, "nor is it applied");
    cluster.sync(2);
    assert_eq!(claims(&cluster, 2).last(), Some(&Index(4)));
    assert_eq!(cluster.server(2).applied.len(), 4);
}

#[test]
fn a_damaged_node_votes_by_the_identities_it_has() {
    let mut cluster = led(3);
    cluster.break_entries(2, &[3, 4]);
    // n3 lacks the last entry that n2 has an identity of: n2 does not vote for it.
    let from = Index(4);
    let mut server = cluster.servers.remove(&3).unwrap();
    server.disk.log.retain(|entry| entry.index() < from);
    cluster.start(server.config, server.disk);
    cluster.servers.remove(&1);
    cluster.fall_silent();
    cluster.step(3, Body::Campaign);
    cluster.deliver();
    assert!(cluster.refusals(2).iter().any(|why| matches!(why, Refused::LogBehind { .. })));
    assert_ne!(cluster.status(3).role, RoleName::Leader);
    // n3 with the whole log has its vote.
    let mut cluster = led(3);
    cluster.break_entries(2, &[3, 4]);
    cluster.servers.remove(&1);
    cluster.fall_silent();
    cluster.elect(3);
}

#[test]
fn a_damaged_entry_that_the_leader_replaces_is_not_missed() {
    let mut cluster = led(1);
    // n1 appends an entry that nobody else gets, loses the lead, and the entry breaks.
    cluster.propose(1, 9, "lonely");
    cluster.fall_silent();
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(|sent| sent.to != member(1));
    cluster.break_entries(1, &[3]);
    cluster.propose(2, 10, "other");
    beat(&mut cluster, 2);
    beat(&mut cluster, 2);
    assert_eq!(cluster.status(1).damaged, 0);
    assert_eq!(cluster.log_of(1), cluster.log_of(2));
    assert!(heals(&cluster, 1).is_empty(), "what was there was another entry");
}

#[test]
fn damage_found_while_running_is_asked_for_from_any_peer() {
    let mut cluster = led(4);
    // The followers keep nothing in memory.
    let id = cluster.server(2).raft.entry_id(Index(3)).unwrap();
    cluster.break_entries(2, &[]);
    cluster.servers.get_mut(&2).unwrap().disk.damaged.insert(Index(3));
    let config = cluster.server(2).config.clone();
    let mut config = config;
    config.resident_bytes_max = 1;
    let server = cluster.servers.remove(&2).unwrap();
    let mut disk = server.disk;
    disk.damaged.clear();
    cluster.start(config, disk);
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    let matched = |cluster: &Cluster| {
        let peers = cluster.server(1).raft.peers();
        peers.iter().find(|peer| peer.member == member(2)).unwrap().match_index
    };
    assert_eq!(matched(&cluster), Index(5));
    cluster.servers.get_mut(&2).unwrap().disk.damaged.insert(Index(3));
    cluster.step(2, Body::Damaged { entries: vec![id] });
    assert_eq!(cluster.status(2).first_damaged, Some(Index(3)));
    assert_eq!(matched(&cluster), Index(5), "match is lowered only for a new incarnation");
    cluster.trace.clear();
    cluster.servers.remove(&1);
    cluster.tick(2, 1_000);
    cluster.deliver();
    assert_eq!(heals(&cluster, 2), [Index(3)], "n3 is no leader and has helped");
    assert_eq!(cluster.status(2).damaged, 0);
}

#[test]
fn what_is_still_in_memory_is_written_again_at_once() {
    let mut cluster = led(2);
    let id = cluster.server(3).raft.entry_id(Index(2)).unwrap();
    cluster.servers.get_mut(&3).unwrap().disk.damaged.insert(Index(2));
    cluster.trace.clear();
    cluster.step(3, Body::Damaged { entries: vec![id] });
    assert_eq!(heals(&cluster, 3), [Index(2)]);
    assert!(cluster.network.is_empty(), "nobody need be asked");
    assert_eq!(cluster.status(3).damaged, 0);
    // What is not in its log, or known already, changes nothing.
    let other = raft_core::EntryId { index: Index(9), ..id };
    cluster.trace.clear();
    cluster.step(3, Body::Damaged { entries: vec![other] });
    assert!(cluster.trace.is_empty());
}

#[test]
fn a_peer_reads_what_it_does_not_keep_in_memory() {
    let mut cluster = led(4);
    let mut server = cluster.servers.remove(&3).unwrap();
    server.config.resident_bytes_max = 1;
    cluster.start(server.config, server.disk);
    beat(&mut cluster, 1);
    cluster.servers.remove(&1);
    cluster.break_entries(2, &[4]);
    let loads = cluster.server(3).loads.len();
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestPreVote);
    assert_eq!(cluster.server(3).loads.len(), loads + 1);
    assert_eq!(cluster.status(2).damaged, 0);
}

#[test]
fn a_damaged_membership_keeps_a_node_from_campaigning_until_it_knows_it_again() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    let change = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(4))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(1), change, expect: None });
    beat(&mut cluster, 1);
    assert!(matches!(
        cluster.server(1).outcomes[&Ticket(1)],
        Outcome::Committed { index: Index(2), .. }
    ));
    beat(&mut cluster, 1);
    cluster.break_entries(2, &[2]);
    cluster.step(2, Body::Campaign);
    assert_eq!(cluster.refusals(2), [Refused::NotAVoter], "whose votes decide is not known");
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    assert_eq!(*cluster.status(2).membership, membership(&[1, 2, 3], &[]));
    assert_eq!(cluster.status(2).damaged, 0);
    cluster.servers.remove(&1);
    cluster.fall_silent();
    cluster.elect(2);
}

#[test]
fn a_damaged_node_waits_longer_before_it_campaigns() {
    let cluster = led(2);
    let deadline = |damaged: &[u64]| {
        let mut cluster = cluster.clone();
        cluster.break_entries(2, damaged);
        let server = cluster.server(2);
        let mut at = cluster.now;
        // The first thing that it will do without being spoken to, other than asking for help.
        let mut raft = server.raft.clone();
        while raft.status().role == RoleName::Follower {
            at = raft.next_deadline().unwrap();
            raft.step(raft_core::Message { now: at, body: Body::Tick });
        }
        at.0 - cluster.now.0
    };
    let (whole, damaged) = (deadline(&[]), deadline(&[2]));
    assert_eq!(damaged, whole + cluster.server(2).config.election_timeout_us);
}

#[test]
fn a_follower_says_whom_it_waits_for() {
    let mut cluster = led(2);
    cluster.servers.remove(&1);
    cluster.break_entries(3, &[2]);
    cluster.break_entries(2, &[2]);
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestPreVote);
    cluster.tick(2, 1_000);
    assert_eq!(missed(&cluster, 2), Some((Index(2), vec![], vec![member(3)])));
}
