//! Snapshots (§7): taken by policy, sent in chunks, loaded at a start, refused when damaged.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{Index, RoleName};
use raft_replica::kv::{Kv, KvError};
use raft_replica::request::{Failure, Input, Output, Reply, Request};
use raft_replica::session::SessionId;
use raft_replica::storage::work::{Done, Work};
use raft_replica::{ImageError, RestoreError};

use crate::cluster::{Cluster, Hold, get, put};

/// How much of a snapshot is read at once.
const PART_BYTES: usize = 64;

/// Three replicas that make a snapshot every 20 entries, and send it and read it in small pieces.
fn cluster() -> Cluster {
    Cluster::with(3, |options| {
        options.snapshot_after_entries = 20;
        options.restore_part_bytes = PART_BYTES;
        options.config.snapshot_chunk_bytes = 100;
    })
}

/// Writes `count` values, with serials from `first`, and returns the last reply.
fn write(
    cluster: &mut Cluster,
    server: usize,
    session: SessionId,
    first: u64,
    count: u64,
) -> Reply<Kv> {
    let mut last = None;
    for serial in first..first + count {
        let reply = cluster.call(server, put(session, serial, &format!("k{serial}"), "value"));
        assert!(matches!(reply, Reply::Response { .. }), "{reply:?}");
        last = Some(reply);
    }
    last.expect("at least one value is written")
}

fn count(cluster: &Cluster, server: usize, wanted: impl Fn(&Output<Kv>) -> bool) -> usize {
    cluster.servers[server].outputs.iter().filter(|output| wanted(output)).count()
}

fn is_save(output: &Output<Kv>) -> bool {
    matches!(output, Output::Save { .. })
}

#[test]
fn the_log_is_compacted_behind_a_snapshot() {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    cluster.pass(2);
    for server in 0..3 {
        assert_eq!(count(&cluster, server, is_save), 2, "every 20 of 52 entries");
        assert!(cluster.servers[server].store.log.len() < 20);
    }
    // Equal states give equal bytes, on every member.
    let [one, two, three] = [0, 1, 2].map(|server| &cluster.servers[server].store.snapshots);
    assert!(one == two && two == three);
}

#[test]
fn a_snapshot_is_due_after_so_many_bytes_too() {
    let mut cluster = Cluster::with(1, |options| options.snapshot_after_bytes = 1000);
    cluster.elect(0);
    let session = cluster.open_session(0);
    cluster.call(0, put(session, 1, "a", &"v".repeat(900)));
    assert_eq!(count(&cluster, 0, is_save), 0);
    cluster.call(0, put(session, 2, "a", &"v".repeat(100)));
    assert_eq!(count(&cluster, 0, is_save), 1);
}

#[test]
fn a_follower_that_lags_behind_the_log_catches_up_by_chunks() {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 15);
    cluster.cut.insert(2);
    let last = write(&mut cluster, 0, session, 16, 35);
    cluster.cut.clear();
    cluster.pass(30);
    assert!(cluster.servers[2].store.chunks > 3, "the snapshot came in pieces");
    let is_restored = |output: &Output<Kv>| matches!(output, Output::Restored { .. });
    assert_eq!(count(&cluster, 2, is_restored), 1);
    assert_eq!(count(&cluster, 2, is_save), 0, "it counts from the snapshot that it received");
    let states = cluster.states();
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    // The snapshot brought the sessions along: a retry is recognised there.
    cluster.cut.insert(0);
    cluster.elect(2);
    assert_eq!(cluster.call(2, put(session, 50, "k50", "value")), last);
    assert_eq!(cluster.get(2, "k1").map(|found| found.0), Some("value".to_owned()));
}

#[test]
fn a_restart_gives_the_same_state() {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    let last = write(&mut cluster, 0, session, 1, 50);
    cluster.pass(2);
    let before = cluster.states();
    for server in 0..3 {
        cluster.restart(server, None);
    }
    cluster.elect(1);
    cluster.pass(2);
    assert!(cluster.states()[1].0 > before[1].0, "the new leader's first entry is applied");
    assert_eq!(cluster.call(1, put(session, 50, "k50", "value")), last);
    let states = cluster.states();
    cluster.pass(2);
    assert!(cluster.states().iter().all(|state| *state == states[1]), "{states:?}");
}

/// The parts of a snapshot that a server has asked its disk for: where each begins.
fn parts(cluster: &Cluster, server: usize) -> Vec<u64> {
    let asked = cluster.servers[server].outputs.iter().filter_map(|output| match output {
        Output::Work(Work::LoadSnapshot { offset, bytes_max: PART_BYTES, .. }) => Some(*offset),
        Output::Work(_)
        | Output::Send { .. }
        | Output::Reply { .. }
        | Output::Save { .. }
        | Output::Applied { .. }
        | Output::Restored { .. }
        | Output::Observe(_)
        | Output::BadFrame(_)
        | Output::BadSnapshot { .. } => None,
    });
    asked.collect()
}

#[test]
fn the_state_comes_back_part_by_part_and_nobody_sees_half_of_it() {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    let bytes = cluster.servers[0].store.snapshots.values().next_back().unwrap().len();
    let expected: Vec<u64> = (0..bytes as u64).step_by(PART_BYTES).collect();
    assert!(expected.len() > 5);
    cluster.restart(0, Some(Hold::Loads));
    for asked in 1..expected.len() {
        assert_eq!(parts(&cluster, 0), expected[..asked]);
        let replica = &cluster.servers[0].replica;
        assert_eq!((replica.applied(), replica.machine().len()), (Index::ZERO, 0));
        cluster.release_one(0);
    }
    assert_eq!(parts(&cluster, 0), expected);
    cluster.release(0);
    assert!(cluster.servers[0].replica.machine().len() >= 40);
}

#[test]
fn entries_and_reads_wait_for_the_snapshot_before_them() {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    cluster.restart(0, Some(Hold::Loads));
    cluster.elect(0);
    assert_eq!(cluster.servers[0].replica.applied(), Index::ZERO);
    let written = cluster.ask(0, put(session, 51, "k51", "late"));
    cluster.settle();
    let read = cluster.ask(0, get("k51"));
    cluster.settle();
    assert_eq!((cluster.reply(written), cluster.reply(read)), (None, None));
    cluster.release(0);
    assert!(matches!(cluster.reply(written), Some(Reply::Response { .. })));
    assert!(matches!(cluster.reply(read), Some(Reply::Answer { .. })));
    assert_eq!(cluster.get(0, "k51").map(|found| found.0), Some("late".to_owned()));
}

#[test]
fn a_response_that_came_as_part_of_a_snapshot_is_recalled() {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    let other = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    // A leader commits a command while it is still loading its state, and is cut off.
    cluster.restart(0, Some(Hold::Loads));
    cluster.elect(0);
    let written = cluster.ask(0, put(other, 7, "a", "1"));
    let opened = cluster.ask(0, Request::OpenSession);
    cluster.settle();
    cluster.pass(1);
    cluster.cut.insert(0);
    cluster.elect(1);
    write(&mut cluster, 1, session, 51, 50);
    let expected = cluster.call(1, put(other, 7, "a", "1"));
    assert_eq!((cluster.reply(written), cluster.reply(opened)), (None, None));
    // What it learns next is a snapshot with that command in it.
    cluster.cut.clear();
    cluster.pass(30);
    cluster.release(0);
    cluster.pass(30);
    assert_eq!(cluster.reply(written), Some(expected));
    let Some(Reply::SessionOpened { session }) = cluster.reply(opened) else {
        panic!("the session is open");
    };
    assert!(cluster.servers[1].replica.sessions().is_open(session));
}

/// A leader that is still loading its state, and a session.
fn loading_leader(requests_max: usize) -> (Cluster, SessionId) {
    let mut cluster = Cluster::with(3, |options| {
        options.snapshot_after_entries = 20;
        options.config.requests_max = requests_max;
    });
    cluster.elect(0);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    cluster.restart(0, Some(Hold::Loads));
    cluster.elect(0);
    (cluster, session)
}

#[test]
fn requests_that_wait_for_the_state_end_when_the_disk_fails() {
    let (mut cluster, session) = loading_leader(100);
    let written = cluster.ask(0, put(session, 51, "a", "1"));
    cluster.settle();
    let read = cluster.ask(0, get("a"));
    cluster.settle();
    cluster.feed(0, Input::Done(Done::Failed));
    assert_eq!(cluster.reply(written), Some(Reply::Failed(Failure::Unknown)));
    assert_eq!(cluster.reply(read), Some(Reply::Failed(Failure::Halted)));
    // The snapshot that comes too late is of no use.
    cluster.release(0);
    assert_eq!(cluster.servers[0].replica.applied(), Index::ZERO);
}

#[test]
fn requests_that_wait_for_the_state_are_bounded() {
    let (mut cluster, session) = loading_leader(2);
    for serial in 51..55 {
        let id = cluster.ask(0, put(session, serial, "a", "1"));
        cluster.settle();
        assert_eq!(cluster.reply(id), None);
    }
    let busy = Reply::Failed(Failure::Busy);
    assert_eq!(cluster.call(0, put(session, 55, "a", "1")), busy);
    assert_eq!(cluster.call(0, get("a")), busy);
}

#[test]
fn one_snapshot_is_saved_at_a_time() {
    let mut cluster = cluster();
    cluster.elect(0);
    cluster.servers[0].hold = Some(Hold::Saves);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    assert_eq!(count(&cluster, 0, is_save), 1);
    cluster.release(0);
    assert_eq!(count(&cluster, 0, is_save), 2, "the next one is overdue");
}

/// Restarts a server whose snapshots were changed, and returns what it says about them.
fn restart_with(damage: impl Fn(&mut BTreeMap<Index, Bytes>)) -> (Cluster, RestoreError<KvError>) {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    damage(&mut cluster.servers[0].store.snapshots);
    cluster.restart(0, None);
    let errors: Vec<_> = cluster.servers[0]
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::BadSnapshot { error, .. } => Some(*error),
            Output::Send { .. }
            | Output::Reply { .. }
            | Output::Work(_)
            | Output::Save { .. }
            | Output::Applied { .. }
            | Output::Restored { .. }
            | Output::Observe(_)
            | Output::BadFrame(_) => None,
        })
        .collect();
    assert_eq!(errors.len(), 1);
    (cluster, errors[0])
}

#[test]
fn a_damaged_snapshot_halts_the_replica_and_is_never_served() {
    let (mut cluster, error) = restart_with(|snapshots| {
        let newest = snapshots.values_mut().next_back().expect("a snapshot was made");
        let mut bytes = newest.to_vec();
        bytes[40] ^= 1;
        *newest = bytes.into();
    });
    assert_eq!(error, RestoreError::Image(ImageError::WrongChecksum));
    assert!(cluster.servers[0].replica.machine().is_empty());
    assert_eq!(cluster.servers[0].replica.status().role, RoleName::Halted);
    assert_eq!(cluster.call(0, get("k1")), Reply::Failed(Failure::Halted));
    // The others go on without it.
    cluster.elect(1);
    assert!(cluster.get(1, "k1").is_some());
}

#[test]
fn a_snapshot_of_another_entry_is_refused() {
    let (_, error) = restart_with(|snapshots| {
        let oldest = snapshots.values().next().expect("a snapshot was made").clone();
        snapshots.values_mut().for_each(|snapshot| *snapshot = oldest.clone());
    });
    assert!(matches!(error, RestoreError::OtherEntry { .. }), "{error}");
}

#[test]
fn a_snapshot_that_is_gone_halts_the_replica() {
    let (cluster, error) = restart_with(BTreeMap::clear);
    assert_eq!(error, RestoreError::Unreadable);
    assert_eq!(cluster.servers[0].replica.status().role, RoleName::Halted);
}

/// The newest snapshot rots while the replica runs: it makes another one, of the same entry if nothing
/// was applied since, and that is all.
#[test]
fn a_snapshot_that_rots_is_made_again() {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    let mut saved = 0;
    for (first, values) in [(1, 18), (19, 3)] {
        write(&mut cluster, 0, session, first, values);
        saved += usize::from(first == 1);
        assert_eq!(count(&cluster, 0, is_save), saved);
        let snapshot = cluster.servers[0].replica.status().snapshot;
        cluster.feed(0, Input::Done(Done::SnapshotDamaged { snapshot }));
        saved += 1;
        assert_eq!(count(&cluster, 0, is_save), saved, "after {first}");
        let again = cluster.servers[0].replica.status().snapshot;
        assert_eq!(again.index, cluster.servers[0].replica.applied());
        cluster.pass(1);
        assert_eq!(count(&cluster, 0, is_save), saved);
    }
}
