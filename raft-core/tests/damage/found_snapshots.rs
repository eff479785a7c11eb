//! Damaged snapshots, and snapshots in the place of what is damaged: what reading the rules again has
//! found, each as the story that went wrong.

use raft_core::{
    Body, Effect, Envelope, Index, MemberStep, MembershipChange, NodeId, Observation, Raft,
    RepairRpc, RoleName, Rpc, RpcKind, Term, Ticket,
};

use crate::follower::{beat, led};
use crate::found::forget;
use crate::snapshots::{break_snapshot, take_snapshot};
use crate::support::{Cluster, member, membership};

/// A hole below the base is nowhere in the log: the node panics.
#[test]
fn compaction_ends_the_holes_that_it_covers() {
    let mut cluster = led(4);
    forget(&mut cluster, 2);
    let id = cluster.server(2).raft.entry_id(Index(3)).unwrap();
    cluster.step(2, Body::Damaged { entries: vec![id] });
    take_snapshot(&mut cluster, 2);
    assert_eq!(cluster.status(2).damaged, 0);
}

/// A snapshot is described with a membership that was not in force there.
#[test]
fn who_has_lost_a_membership_describes_no_snapshot_after_it() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    let change = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(4))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(1), change, expect: None });
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    let right = cluster.server(2).raft.snapshot_at(Index(2)).unwrap();
    // Its state machine is durable by itself: it has applied both entries.
    let mut server = cluster.servers.remove(&2).unwrap();
    server.disk.damaged.insert(Index(2));
    let mut found = server.disk.recovered();
    (found.commit, found.applied) = (Index(2), Index(2));
    let (raft, _) = Raft::recover(server.config.clone(), found, cluster.now).unwrap();
    server.raft = raft;
    cluster.servers.insert(2, server);
    let said = cluster.server(2).raft.snapshot_at(Index(2));
    assert!(said.is_none_or(|said| said == right), "the learner was removed at 2");
}

/// A snapshot that a dead leader began to send keeps all others away, for ever.
#[test]
fn a_transfer_that_its_leader_left_does_not_bar_another() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.snapshot_chunk_bytes = 10);
    cluster.elect(1);
    for ticket in 1..=4 {
        cluster.propose(1, ticket, "command");
    }
    beat(&mut cluster, 1);
    take_snapshot(&mut cluster, 1);
    take_snapshot(&mut cluster, 3);
    cluster.break_entries(2, &[3]);
    cluster.deliver();
    cluster.tick(1, 100);
    let mut chunks = 0;
    for _ in 0..3 {
        cluster.deliver_if(|sent| {
            chunks += usize::from(sent.rpc.kind() == RpcKind::InstallSnapshot);
            sent.rpc.kind() != RpcKind::InstallSnapshotResponse
        });
        if chunks > 0 {
            break;
        }
        cluster.tick(1, 100);
    }
    assert_eq!((chunks, cluster.server(2).staged.len()), (1, 10), "one part has come");
    cluster.servers.remove(&1);
    cluster.fall_silent();
    cluster.step(2, Body::Campaign);
    cluster.deliver();
    assert_eq!(cluster.status(2).role, RoleName::Leader);
    for _ in 0..200 {
        cluster.tick(2, 100);
        cluster.deliver();
    }
    assert_eq!(cluster.status(2).role, RoleName::Leader, "it leads all the time");
    assert_eq!(cluster.status(2).damaged, 0, "n3 has the snapshot, and offers it all the time");
}

/// A leader whose snapshot is damaged waits for one that nobody can take: nobody hears from it that
/// more is committed.
#[test]
fn a_leader_without_its_snapshot_does_not_wait_for_ever() {
    let mut cluster = led(3);
    cluster.propose(1, 9, "x");
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::Commit);
    assert_eq!((cluster.status(1).applied, cluster.status(2).applied), (Index(5), Index(4)));
    take_snapshot(&mut cluster, 1);
    break_snapshot(&mut cluster, 1);
    cluster.fall_silent();
    cluster.step(1, Body::Campaign);
    cluster.deliver();
    for _ in 0..300 {
        cluster.tick(1, 100);
        cluster.deliver();
        for id in [2, 3] {
            // A host that does what it is told: takes a snapshot when one is wanted.
            let wanted = |seen: &Observation| {
                matches!(seen, Observation::SnapshotWanted { index, .. }
                    if *index <= cluster.status(id).applied
                        && cluster.status(id).snapshot.index < *index)
            };
            if cluster.server(id).observations.iter().any(wanted) {
                take_snapshot(&mut cluster, id);
            }
        }
    }
    let leads = |id: u64| cluster.status(id).role == RoleName::Leader;
    assert!(!leads(1) || !cluster.status(1).is_snapshot_damaged, "all other logs are whole");
}

/// A host whose state machine has survived may take the damaged snapshot once more.
#[test]
fn a_damaged_snapshot_is_replaced_by_one_of_the_same_state() {
    let mut cluster = led(3);
    take_snapshot(&mut cluster, 2);
    let mut server = cluster.servers.remove(&2).unwrap();
    let mut found = server.disk.recovered();
    found.is_snapshot_damaged = true;
    found.applied = Index(4);
    let (raft, _) = Raft::recover(server.config.clone(), found, cluster.now).unwrap();
    server.raft = raft;
    cluster.servers.insert(2, server);
    assert!(cluster.status(2).is_snapshot_damaged);
    take_snapshot(&mut cluster, 2);
    assert!(!cluster.status(2).is_snapshot_damaged);
}

/// A snapshot is staged before the one before it, whose bytes are staged too, is installed.
#[test]
fn nothing_is_staged_while_an_installation_waits() {
    let mut cluster = led(4);
    take_snapshot(&mut cluster, 3);
    for ticket in 10..13 {
        cluster.propose(1, ticket, "later");
    }
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    cluster.servers.remove(&1);
    // n2: entries 3 and 7 are damaged, its disk is slow.
    cluster.slow_disks.insert(2);
    cluster.break_entries(2, &[3, 7]);
    cluster.sync(2);
    cluster.trace.clear();
    // n3 offers its snapshot at 5, and it is staged as a whole; n3 takes the next one at 8.
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| {
        let is_about_7 = matches!(&sent.rpc, Rpc::Repair(RepairRpc::RequestEntry { wanted, .. })
            if wanted.index == Index(7));
        sent.rpc.kind() != RpcKind::RequestPreVote && !is_about_7
    });
    assert!(cluster.server(2).unsynced.iter().any(|batch| batch.install.is_some()));
    take_snapshot(&mut cluster, 3);
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestPreVote);
    assert!(cluster.server(2).unsynced.iter().any(|batch| batch.install.is_some()), "not durable");
    let staged = |(id, effect): &(u64, Effect)| {
        let Effect::StageChunk { snapshot, .. } = effect else { return None };
        (*id == 2).then_some(snapshot.last.index.0)
    };
    let stages: Vec<u64> = cluster.trace.iter().filter_map(staged).collect();
    assert_eq!(stages, [5], "the host may do this before it installs");
    cluster.sync(2);
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestPreVote);
    cluster.sync(2);
    assert_eq!(cluster.status(2).damaged, 0);
}

/// A snapshot is put together from the bytes of two: its sender has fetched another one meanwhile.
#[test]
fn a_transfer_does_not_survive_its_senders_snapshot() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.snapshot_chunk_bytes = 10);
    cluster.elect(1);
    for ticket in 1..=4 {
        cluster.propose(1, ticket, "command");
    }
    beat(&mut cluster, 1);
    // n1 and n3 have snapshots of the same state, in other bytes.
    take_snapshot(&mut cluster, 1);
    take_snapshot(&mut cluster, 3);
    let other = bytes::Bytes::from_static(b"THE SAME STATE, WRITTEN OTHERWISE");
    cluster.servers.get_mut(&3).unwrap().snapshot = other.clone();
    cluster.break_entries(2, &[3]);
    cluster.deliver();
    let mut chunks = 0;
    for _ in 0..3 {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| {
            chunks += usize::from(sent.rpc.kind() == RpcKind::InstallSnapshot);
            sent.rpc.kind() != RpcKind::InstallSnapshotResponse
        });
        if chunks > 0 {
            break;
        }
    }
    assert_eq!(cluster.server(2).staged.len(), 10, "one part has come");
    // n1 starts again, its snapshot is damaged; it fetches n3's, and leads again.
    break_snapshot(&mut cluster, 1);
    // What it will serve from now on, if anything, is what it fetches.
    cluster.servers.get_mut(&1).unwrap().snapshot = other.clone();
    cluster.fall_silent();
    cluster.step(1, Body::Campaign);
    let not_asked = |sent: &Envelope| sent.from != member(2) || sent.to != member(3);
    for _ in 0..30 {
        cluster.deliver_if(|sent| {
            not_asked(sent) && sent.rpc.kind() != RpcKind::RequestEntryResponse
                || (sent.from == member(3) && sent.to == member(1))
        });
        cluster.tick(1, 100);
        if !cluster.status(1).is_snapshot_damaged {
            break;
        }
    }
    assert!(!cluster.status(1).is_snapshot_damaged);
    assert_eq!(cluster.server(1).staged, other);
    for _ in 0..30 {
        beat(&mut cluster, 1);
    }
    assert_eq!(cluster.status(2).damaged, 0);
    let staged = &cluster.server(2).staged;
    assert_eq!(*staged, other, "{}", String::from_utf8_lossy(staged));
}

/// A disk without room for the snapshot keeps two nodes busy.
#[test]
fn what_cannot_be_staged_is_not_asked_for_at_once() {
    let mut cluster = led(4);
    take_snapshot(&mut cluster, 2);
    take_snapshot(&mut cluster, 3);
    break_snapshot(&mut cluster, 2);
    cluster.tick(2, 1_000);
    cluster.deliver_if(|sent| {
        !matches!(sent.rpc.kind(), RpcKind::RequestSnapshotResponse | RpcKind::RequestPreVote)
    });
    // The part comes now, and the host cannot keep it.
    cluster.tick(2, 1_000);
    let mut raft = cluster.server(2).raft.clone();
    let mut parts = Vec::new();
    cluster.deliver_if(|sent| {
        let is_part = sent.rpc.kind() == RpcKind::RequestSnapshotResponse;
        parts.extend(is_part.then(|| sent.clone()));
        !is_part && sent.rpc.kind() != RpcKind::RequestPreVote
    });
    let now = cluster.now;
    let effects = raft.step(raft_core::Message { now, body: Body::Peer(parts[0].clone()) });
    let staged = effects.iter().find_map(|effect| {
        let Effect::StageChunk { id, .. } = effect else { return None };
        Some(*id)
    });
    let id = staged.expect("it is staged");
    let effects = raft.step(raft_core::Message { now, body: Body::ChunkStaged { id, staged: 0 } });
    let asks = |effect: &Effect| {
        matches!(effect, Effect::Send(sent)
            if sent.rpc.kind() == RpcKind::RequestSnapshot)
    };
    assert!(!effects.iter().any(asks), "the same part again, at the speed of the network");
}

/// A candidate fetches a snapshot while votes for it are on their way, and counts them by a membership
/// that the leader of the very same term has made.
#[test]
fn votes_are_not_counted_by_the_membership_of_a_snapshot_that_came_meanwhile() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[4, 5], |config| config.pre_vote = false);
    cluster.elect(3);
    cluster.propose(3, 1, "command");
    beat(&mut cluster, 3);
    let replace_2 = |ticket| {
        let voters = [MemberStep::Promote(NodeId(4)), MemberStep::Promote(NodeId(5))];
        let steps = voters.into_iter().chain([MemberStep::Remove(NodeId(2))]).collect();
        let (ticket, change) = (Ticket(ticket), MembershipChange::Steps(steps));
        Body::ProposeMembership { ticket, change, expect: None }
    };
    // n3 alone has the entry by which n4 and n5 vote. It starts again, with another entry damaged.
    cluster.step(3, replace_2(2));
    cluster.break_entries(3, &[2]);
    assert!(cluster.status(3).membership.is_voter(member(5)));
    cluster.fall_silent();
    // n3 and n1 campaign in term 2. n4 and n5 vote for n3, late; n2 for n1, which leads.
    cluster.step(3, Body::Campaign);
    let mut votes = Vec::new();
    cluster.deliver_if(|sent| {
        votes.extend((sent.to == member(3)).then(|| sent.clone()));
        [member(4), member(5)].contains(&sent.to)
    });
    let without_3 = |sent: &Envelope| ![sent.from, sent.to].contains(&member(3));
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(without_3);
    for _ in 0..3 {
        cluster.tick(1, 100);
        cluster.deliver_if(without_3);
    }
    cluster.step(1, replace_2(3));
    cluster.deliver_if(without_3);
    let leads = |cluster: &Cluster, id: u64| {
        (cluster.status(id).role, cluster.status(id).term) == (RoleName::Leader, Term(2))
    };
    let new = membership(&[1, 3, 4, 5], &[]);
    assert!(leads(&cluster, 1) && *cluster.status(4).membership == new);
    take_snapshot(&mut cluster, 4);
    // n3 has asked for what is damaged, and n4 lends its snapshot.
    cluster.tick(3, 1);
    cluster.deliver_if(|sent| {
        [sent.from, sent.to].iter().all(|it| [member(3), member(4)].contains(it))
    });
    assert_eq!((cluster.status(3).damaged, &*cluster.status(3).membership), (0, &new));
    // The votes arrive: three of the four.
    for vote in votes {
        assert!(matches!(vote.rpc, Rpc::RequestVoteResponse { granted: true }));
        cluster.step(3, Body::Peer(vote));
    }
    assert!(!leads(&cluster, 3), "n1 leads the same term, of the same members");
}
