//! What a node was given, as bytes, plays its life again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_core::wire::{self, Limits};
use raft_core::{
    Body, Index, MemberStep, MembershipChange, Message, NodeId, ReadMode, Recorded, RecordedBatch,
    RecoverError, Replay, ReplayError, RoleName, Ticket,
};

use crate::dice::Dice;
use crate::support::{Cluster, Disk, config, member, membership};

/// Three voters and a learner, whose logs are cold and whose snapshots take several chunks.
fn recorded_cluster() -> Cluster {
    let mut cluster = Cluster::new(&[], &[]);
    cluster.recordings = Some(BTreeMap::new());
    for id in 1..=4 {
        let mut config = config(id);
        (config.lease_us, config.resident_bytes_max) = (500, 1);
        (config.append_bytes_max, config.snapshot_chunk_bytes) = (30, 8);
        cluster.start(config, Disk::genesis(membership(&[1, 2, 3], &[4])));
    }
    cluster
}

/// Elections, proposals, reads, changes, damage, snapshots, lost messages and crashes, in any order.
fn live(cluster: &mut Cluster, dice: &mut Dice, events: u64) {
    cluster.elect(1);
    for event in 1..=events {
        let id = 1 + dice.below(4);
        match dice.below(16) {
            0..=5 => deliver_some(cluster, dice),
            6 => cluster.deliver(),
            7 | 8 => cluster.tick(id, 50 * dice.below(12)),
            9 | 10 => {
                for id in 1..=4 {
                    cluster.propose(id, event, "ten bytes.");
                }
            }
            11 => cluster.sync_all(),
            12 if event % 8 == 0 => cluster.crash(id),
            12 if dice.below(4) > 0 => hurry(cluster),
            12 => cluster.is_disk_immediate = false,
            13 => take_snapshot(cluster, id),
            14 if event % 4 == 0 => damage(cluster, id),
            14 if event % 4 == 1 => {
                let is_full = dice.below(2) > 0;
                cluster.step(id, Body::DiskFull { is_full });
            }
            _ => {
                let body = request(dice, Ticket(event));
                cluster.step(id, body);
            }
        }
    }
    hurry(cluster);
    cluster.deliver();
}

/// Disks write at once from here on; what waits comes first.
fn hurry(cluster: &mut Cluster) {
    while cluster.servers.values().any(|server| !server.unsynced.is_empty()) {
        cluster.sync_all();
    }
    cluster.is_disk_immediate = true;
}

/// A few messages in any order; one of them is lost.
fn deliver_some(cluster: &mut Cluster, dice: &mut Dice) {
    for _ in 0..8 {
        if cluster.network.is_empty() {
            return;
        }
        let place = dice.place(cluster.network.len());
        let envelope = cluster.network.remove(place);
        if dice.below(8) > 0 {
            cluster.step(envelope.to.id.0, Body::Peer(envelope));
        }
    }
}

fn take_snapshot(cluster: &mut Cluster, id: u64) {
    let raft = &cluster.server(id).raft;
    let (applied, newest) = (raft.status().applied, raft.status().snapshot.index);
    let Some(snapshot) = raft.snapshot_at(applied).filter(|it| it.last.index > newest) else {
        return;
    };
    let server = cluster.servers.get_mut(&id).expect("it is there");
    server.disk.snapshot = snapshot.clone();
    cluster.step(id, Body::SnapshotTaken { snapshot });
}

fn damage(cluster: &mut Cluster, id: u64) {
    let server = cluster.servers.get_mut(&id).expect("it is there");
    let Some(entry) = server.disk.log.last().map(raft_core::Entry::id) else { return };
    server.disk.damaged.insert(entry.index);
    cluster.step(id, Body::Damaged { entries: vec![entry] });
}

fn request(dice: &mut Dice, ticket: Ticket) -> Body {
    let who = NodeId(1 + dice.below(4));
    let steps = |step| MembershipChange::Steps(vec![step]);
    let change = |change| Body::ProposeMembership { ticket, change, expect: None };
    match dice.below(12) {
        0 => Body::Read { ticket, mode: ReadMode::ReadIndex },
        1 => Body::Read { ticket, mode: ReadMode::Lease },
        2 => change(steps(MemberStep::Promote(who))),
        3 => change(steps(MemberStep::Demote(who))),
        4 => Body::TransferLeadership { ticket, to: Some(who) },
        5 => Body::TransferLeadership { ticket, to: None },
        6 => Body::Campaign,
        7 => Body::StepDown,
        8 => Body::ForgetLeader,
        9 => Body::PeerUnreachable { peer: member(who.0) },
        _ => {
            let second = Ticket(ticket.0 + (1 << 32));
            let proposals = [ticket, second].map(|ticket| (ticket, Bytes::from_static(b"both")));
            Body::ProposeBatch { proposals: proposals.to_vec() }
        }
    }
}

/// The promise: the bytes are the life.
#[test]
fn every_life_is_played_again_from_its_bytes() {
    let (mut told, mut starts) = (BTreeSet::new(), 0);
    for seed in 1..=4 {
        let mut cluster = recorded_cluster();
        live(&mut cluster, &mut Dice(seed), 600);
        let recordings = cluster.recordings.take().expect("it was asked for");
        for (id, recording) in recordings {
            let mut replay = Replay::new();
            for recorded in &recording {
                let decoded =
                    wire::decode_recorded(wire::encode_recorded(recorded), &Limits::for_recorded());
                assert_eq!(decoded.as_ref(), Ok(recorded), "seed {seed}, n{id}");
                replay.play(decoded.expect("compared above")).expect("the life is the same");
                match recorded {
                    Recorded::Start(_) => starts += 1,
                    Recorded::Batch(batch) => told.extend(batch.messages.iter().map(first_word)),
                }
            }
            assert_eq!(replay.played(), recording.len() as u64);
            assert_eq!(replay.raft(), Some(&cluster.server(id).raft), "seed {seed}, n{id}");
        }
    }
    assert!(starts > 4 * 4 + 10, "nodes have crashed: {starts} starts");
    let words =
        "applied campaign change damaged forget have loaded persisted propose read receive staged \
                 step taken the tick transfer unreachable"
            .split_whitespace();
    assert!(told.iter().map(String::as_str).eq(words), "all of it has happened: {told:?}");
}

/// What a message is, as traces tell it.
fn first_word(message: &Message) -> String {
    message.body.to_string().split(' ').next().expect("it says something").to_owned()
}

/// A leader's recording: it was elected and has proposed.
fn recording() -> Vec<Recorded> {
    let mut cluster = recorded_cluster();
    cluster.elect(1);
    for ticket in 1..=3 {
        cluster.propose(1, ticket, "ten bytes.");
        cluster.deliver();
    }
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    cluster.recordings.take().expect("it was asked for").remove(&1).expect("it has lived")
}

fn play(recording: Vec<Recorded>) -> Result<Replay, ReplayError> {
    let mut replay = Replay::new();
    recording.into_iter().try_for_each(|recorded| replay.play(recorded).map(drop))?;
    Ok(replay)
}

/// The batches of one proposal each.
fn proposals(recording: &mut [Recorded]) -> Vec<(usize, &mut RecordedBatch)> {
    let batches = recording.iter_mut().enumerate().filter_map(|(place, recorded)| match recorded {
        Recorded::Batch(batch) => Some((place, batch)),
        Recorded::Start(_) => None,
    });
    let is_proposal = |body: &Body| matches!(body, Body::Propose { .. });
    batches.filter(|(_, batch)| batch.messages.iter().all(|it| is_proposal(&it.body))).collect()
}

#[test]
fn the_first_batch_that_differs_is_named() {
    let original = recording();
    assert_eq!(play(original.clone()).map(|replay| replay.played()), Ok(original.len() as u64));
    let places: Vec<usize> =
        proposals(&mut original.clone()).iter().map(|(place, _)| *place).collect();
    assert_eq!(places.len(), 3);
    for (which, place) in places.iter().enumerate() {
        let mut changed = original.clone();
        let (_, batch) = proposals(&mut changed).swap_remove(which);
        let Body::Propose { command, .. } = &mut batch.messages[0].body else {
            panic!("it is a proposal")
        };
        *command = Bytes::from_static(b"ten others");
        let expected = batch.digest;
        match play(changed) {
            Err(ReplayError::Differs { position, expected: named, actual }) => {
                assert_eq!((position, named), (*place as u64, expected));
                assert_ne!(actual, expected);
            }
            other => panic!("proposal {which}: {other:?}"),
        }
    }
}

#[test]
fn a_batch_that_is_missing_is_noticed_at_the_next_one_that_depends_on_it() {
    let mut cut = recording();
    let (place, _) = proposals(&mut cut)[0];
    cut.remove(place);
    let noticed = play(cut).expect_err("the entry is missing");
    assert!(matches!(noticed, ReplayError::Differs { position, .. } if position >= place as u64));
}

#[test]
fn what_does_not_begin_with_a_start_or_starts_nothing_is_no_recording() {
    let mut headless = recording();
    let start = headless.remove(0);
    assert_eq!(play(headless).map(|replay| replay.played()), Err(ReplayError::NoStart));
    let Recorded::Start(mut start) = start else { panic!("it begins with a start") };
    (start.found.commit, start.found.applied) = (Index(7), Index(7));
    let error = RecoverError::CommitBeyondLog { commit: Index(7), last: Index(0) };
    let refused = ReplayError::Refused { position: 0, error };
    assert_eq!(play(vec![Recorded::Start(start)]).map(|replay| replay.played()), Err(refused));
}

/// A start is compared too, and a later one stands for a crash.
#[test]
fn a_start_that_leads_elsewhere_is_named() {
    let mut twice = recording();
    let Recorded::Start(mut start) = twice[0].clone() else { panic!("it begins with a start") };
    start.config.seed += 1;
    let position = twice.len() as u64;
    twice.push(Recorded::Start(start));
    let noticed = play(twice).map(|replay| replay.played());
    assert!(matches!(noticed, Err(ReplayError::Differs { position: at, .. }) if at == position));
}
