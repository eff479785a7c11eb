//! Stories about how much a node holds and sends at once: BND.

use bytes::Bytes;
use raft_core::{
    ClusterId, Config, Flow, GroupId, Incarnation, Index, Member, NodeId, Payload, PeerStatus,
    Round, Rpc, Session,
};
use raft_replica::replica::ReplicaOptions;
use raft_sim::check::{Invariant, Load, Resident};

use crate::story::{Story, broken};

const RESIDENT_MAX: usize = 50;
const COMMAND_MAX: usize = 31;

/// A leader with small bounds, and the commands of so many bytes that it has appended.
fn led_within_bounds(commands: &[usize]) -> Story {
    let mut story = Story::led();
    story.checker.expect_bounds(ReplicaOptions {
        sessions_max: 2,
        ..ReplicaOptions::new(Config {
            append_entries_max: 2,
            append_bytes_max: 10,
            inflight_appends_max: 2,
            inflight_bytes_max: 20,
            uncommitted_bytes_max: 30,
            unapplied_bytes_max: 10,
            requests_max: 3,
            snapshot_chunk_bytes: 8,
            resident_bytes_max: RESIDENT_MAX,
            command_bytes_max: COMMAND_MAX,
            ..Config::new(ClusterId(1), GroupId(1), Member::new(1, 101))
        })
    });
    let payloads = commands.iter().map(|&bytes| Payload::Command(Bytes::from(vec![7; bytes])));
    story.propose(1, 1, payloads.collect()).unwrap();
    story
}

fn append(story: &mut Story, from: u64, end: u64) -> Result<(), raft_sim::check::Violation> {
    let (prev, entries) = (story.at(1, from - 1), story.entries(1, from));
    let entries = entries.slice(Index(from), Index(end));
    let (session, round, commit) = (Session(1), Round(0), Index(1));
    story.send(1, 2, Rpc::AppendEntries { session, round, prev, entries, commit })
}

#[test]
fn a_message_is_as_large_as_it_may_be() {
    let mut story = led_within_bounds(&[5, 5, 1, 20, 1]);
    append(&mut story, 2, 4).unwrap();
    // One entry is always admitted.
    append(&mut story, 5, 6).unwrap();
    broken(append(&mut story.clone(), 2, 5), Invariant::Bounds, Some(1));
    broken(append(&mut story.clone(), 4, 6), Invariant::Bounds, Some(1));
    let part = |bytes: usize| Rpc::InstallSnapshot {
        session: Session(1),
        round: Round(0),
        snapshot: story.clone().snapshot(1, 1),
        offset: 0,
        data: Bytes::from(vec![0; bytes]),
        done: false,
    };
    let (fits, too_large) = (part(8), part(9));
    story.send(1, 2, fits).unwrap();
    broken(story.send(1, 2, too_large), Invariant::Bounds, Some(1));
}

#[test]
fn what_a_leader_has_not_committed_is_bounded() {
    let mut full = led_within_bounds(&[10, 20]);
    full.commit(1, 1).unwrap();
    let mut one = led_within_bounds(&[31]);
    one.commit(1, 1).unwrap();
    let mut over = led_within_bounds(&[10, 21]);
    broken(over.clone().commit(1, 1), Invariant::Bounds, Some(1));
    // Of what is committed nobody asks any more, nor of what another leader may commit.
    let mut deposed = over.clone();
    deposed.hard_state(1, 2, None).unwrap();
    deposed.commit(1, 1).unwrap();
    over.sync(1).unwrap();
    over.replicate(1, 2, 2).unwrap();
    over.commit(1, 2).unwrap();
}

#[test]
fn what_is_applied_at_once_is_bounded() {
    let mut story = led_within_bounds(&[4, 6, 1, 29]);
    story.sync(1).unwrap();
    story.replicate(1, 2, 2).unwrap();
    story.commit(1, 5).unwrap();
    let mut over = story.clone();
    broken(over.apply(1, 2, 4, 2), Invariant::Bounds, Some(1));
    story.apply(1, 2, 3, 2).unwrap();
    story.apply(1, 4, 4, 3).unwrap();
    story.apply(1, 5, 5, 4).unwrap();
}

#[test]
fn what_a_node_holds_is_bounded() {
    let story = led_within_bounds(&[]);
    let load = |appends: usize, bytes: usize, requests: usize, sessions: usize| {
        let peer = PeerStatus {
            member: Member::new(2, 102),
            flow: Flow::Replicate { appends, bytes },
            match_index: Index(1),
            next_index: Index(2),
            incarnation: Incarnation(1),
            is_active: true,
            is_leaving: false,
        };
        let (peers, resident) = (vec![peer], Resident::default());
        story.checker.load_observed(NodeId(1), &Load { peers, requests, sessions, resident })
    };
    load(2, 20, 6, 2).unwrap();
    load(1, 21, 0, 0).unwrap();
    for (appends, bytes, requests, sessions) in
        [(3, 3, 0, 0), (2, 21, 0, 0), (0, 0, 7, 0), (0, 0, 0, 3)]
    {
        broken(load(appends, bytes, requests, sessions), Invariant::Bounds, Some(1));
    }
}

#[test]
fn what_a_log_keeps_in_memory_is_bounded() {
    let story = led_within_bounds(&[]);
    let keeps = |bytes: usize, cold: u64, settled: u64| {
        let resident = Resident { bytes, cold: Index(cold), settled: Index(settled) };
        let load = Load { peers: Vec::new(), requests: 0, sessions: 0, resident };
        story.checker.load_observed(NodeId(1), &load)
    };
    keeps(RESIDENT_MAX, 0, 9).unwrap();
    // What is not durable and applied has to stay.
    keeps(RESIDENT_MAX + 1, 9, 9).unwrap();
    broken(keeps(RESIDENT_MAX + 1, 8, 9), Invariant::Bounds, Some(1));
    // But no more is taken than this.
    let most = RESIDENT_MAX + 10 + 30 + COMMAND_MAX;
    keeps(most, 9, 9).unwrap();
    broken(keeps(most + 1, 9, 9), Invariant::Bounds, Some(1));
}

#[test]
fn a_command_that_is_appended_is_not_too_large() {
    let mut story = led_within_bounds(&[COMMAND_MAX]);
    let large = Payload::Command(Bytes::from(vec![7; COMMAND_MAX + 1]));
    broken(story.propose(1, 1, vec![large]), Invariant::Bounds, Some(1));
}
