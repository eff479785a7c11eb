//! Snapshots (§7): taken by policy, sent in chunks, loaded at a start, refused when damaged.

use bytes::Bytes;
use raft_core::{Index, RoleName};
use raft_replica::kv::Kv;
use raft_replica::request::{Failure, Output, Reply};
use raft_replica::session::SessionId;
use raft_replica::storage::work::Work;
use raft_replica::{ImageError, RestoreError};

use crate::cluster::{Cluster, get, put};

/// Three replicas that make a snapshot every 20 entries and send it in small pieces.
fn cluster() -> Cluster {
    Cluster::with(3, |options| {
        options.snapshot_after_entries = 20;
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
    matches!(output, Output::Work(Work::SaveSnapshot { .. }))
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
    cluster.cut.insert(2);
    let last = write(&mut cluster, 0, session, 1, 50);
    cluster.cut.clear();
    cluster.pass(30);
    assert!(cluster.servers[2].store.chunks > 3, "the snapshot came in pieces");
    let is_restored = |output: &Output<Kv>| matches!(output, Output::Restored { .. });
    assert_eq!(count(&cluster, 2, is_restored), 1);
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
        cluster.restart(server, false);
    }
    cluster.elect(1);
    cluster.pass(2);
    assert!(cluster.states()[1].0 > before[1].0, "the new leader's first entry is applied");
    assert_eq!(cluster.call(1, put(session, 50, "k50", "value")), last);
    let states = cluster.states();
    cluster.pass(2);
    assert!(cluster.states().iter().all(|state| *state == states[1]), "{states:?}");
}

#[test]
fn entries_and_reads_wait_for_the_snapshot_before_them() {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    cluster.restart(0, true);
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
    cluster.restart(0, true);
    cluster.elect(0);
    let written = cluster.ask(0, put(other, 7, "a", "1"));
    cluster.settle();
    cluster.pass(1);
    cluster.cut.insert(0);
    cluster.elect(1);
    write(&mut cluster, 1, session, 51, 50);
    let expected = cluster.call(1, put(other, 7, "a", "1"));
    assert_eq!(cluster.reply(written), None);
    // What it learns next is a snapshot with that command in it.
    cluster.cut.clear();
    cluster.pass(30);
    cluster.release(0);
    cluster.pass(30);
    assert_eq!(cluster.reply(written), Some(expected));
}

fn restart_with(
    damage: impl Fn(&mut Vec<u8>),
) -> (Cluster, RestoreError<raft_replica::kv::KvError>) {
    let mut cluster = cluster();
    cluster.elect(0);
    let session = cluster.open_session(0);
    write(&mut cluster, 0, session, 1, 50);
    let newest = cluster.servers[0].store.snapshots.values_mut().next_back();
    let newest = newest.expect("a snapshot was made");
    let mut bytes = newest.to_vec();
    damage(&mut bytes);
    *newest = Bytes::from(bytes);
    cluster.restart(0, false);
    let errors: Vec<_> = cluster.servers[0]
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::BadSnapshot { error, .. } => Some(*error),
            Output::Send { .. }
            | Output::Reply { .. }
            | Output::Work(_)
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
    let (mut cluster, error) = restart_with(|bytes| bytes[40] ^= 1);
    assert_eq!(error, RestoreError::Image(ImageError::WrongChecksum));
    assert_eq!(cluster.servers[0].replica.status().role, RoleName::Halted);
    assert_eq!(cluster.call(0, get("k1")), Reply::Failed(Failure::Halted));
    let (_, error) = restart_with(Vec::clear);
    assert_eq!(error, RestoreError::Image(ImageError::Malformed));
    // The others go on without it.
    cluster.elect(1);
    assert!(cluster.get(1, "k1").is_some());
}
