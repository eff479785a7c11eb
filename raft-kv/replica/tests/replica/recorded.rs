//! What the core is given can be taken, and plays its life again.

use bytes::Bytes;
use raft_core::{Recorded, Replay};
use raft_replica::recording::{self, Records};

use crate::cluster::{Cluster, put};

fn recorded_cluster() -> Cluster {
    let mut cluster = Cluster::with(3, |options| {
        options.is_recorded = true;
        options.snapshot_after_entries = 5;
    });
    cluster.elect(0);
    let session = cluster.open_session(0);
    for serial in 1..=12 {
        cluster.call(0, put(session, serial, "key", "value"));
    }
    cluster
}

fn play(records: impl IntoIterator<Item = Recorded>) -> Replay {
    let mut replay = Replay::new();
    for recorded in records {
        replay.play(recorded).expect("the life is the same");
    }
    replay
}

#[test]
fn every_replica_is_played_again_from_its_file() {
    let mut cluster = recorded_cluster();
    for server in 0..3 {
        let mut file = recording::MAGIC.to_vec();
        let recorded = cluster.servers[server].replica.take_recorded();
        recorded.iter().for_each(|recorded| recording::write(recorded, &mut file));
        // A restart goes on in the same file.
        cluster.restart(server, None);
        let again = cluster.servers[server].replica.take_recorded();
        assert!(matches!(again[0], Recorded::Start(_)));
        again.iter().for_each(|recorded| recording::write(recorded, &mut file));

        let mut records = Records::of(Bytes::from(file)).expect("it begins like one");
        let replay = play(records.by_ref().map(|record| record.expect("it was written")));
        assert_eq!(records.left(), 0);
        assert_eq!(replay.played(), (recorded.len() + again.len()) as u64);
        assert_eq!(replay.raft(), Some(cluster.servers[server].replica.raft()));
    }
}

#[test]
fn a_record_that_is_cut_is_left_over() {
    let mut cluster = recorded_cluster();
    let recorded = cluster.servers[0].replica.take_recorded();
    let mut file = recording::MAGIC.to_vec();
    recorded[..2].iter().for_each(|recorded| recording::write(recorded, &mut file));
    let whole = file.len();
    recording::write(&recorded[2], &mut file);
    let file = Bytes::from(file);
    for end in whole..file.len() {
        let mut records = Records::of(file.slice(..end)).expect("it begins like one");
        let read: Vec<_> = records.by_ref().map(|record| record.expect("it is whole")).collect();
        assert_eq!(read, recorded[..2]);
        assert_eq!(records.left(), end - whole);
    }
    assert!(Records::of(file.slice(1..)).is_none());
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for_or_once_it_is_over() {
    let mut plain = Cluster::new(1);
    plain.elect(0);
    assert_eq!(plain.servers[0].replica.take_recorded(), []);
    let mut cluster = recorded_cluster();
    cluster.servers[0].replica.stop_recording();
    cluster.pass(3);
    assert_eq!(cluster.servers[0].replica.take_recorded(), []);
    assert!(!cluster.servers[1].replica.take_recorded().is_empty());
}
