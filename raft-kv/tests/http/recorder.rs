//! What a server's flight recorder has written can be played.

use std::path::Path;

use raft_core::{Raft, Replay, Status};
use raft_replica::recording::Records;

use crate::support::Cluster;

/// Plays all of a file.
fn played(path: &Path) -> Status {
    let content = std::fs::read(path).unwrap();
    let mut records = Records::of(content.into()).expect("it begins as a recording does");
    let mut replay = Replay::new();
    for recorded in records.by_ref() {
        replay.play(recorded.unwrap()).unwrap();
    }
    assert_eq!(records.left(), 0, "{}", path.display());
    replay.raft().map(Raft::status).expect("it has a start")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_life_of_a_server_can_be_played() {
    let mut cluster = Cluster::with(3, |config| {
        config.flight_recorder = Some(config.data_dir.with_extension("flight"));
    })
    .await;
    for id in 1..=3 {
        cluster.is_ready(id).await;
    }
    assert_eq!(cluster.put(1, "/kv/k", "v").await.status, 200);
    let status = cluster.json(1, "/status").await;
    cluster.halt(1).await;
    let file = cluster.path(1).with_extension("flight");
    let first = played(&file);
    assert_eq!(first.member.id.0, 1);
    assert!(Some(first.commit.0) >= status["commit"].as_u64() && first.commit.0 > 1, "{first}");
    // The next start begins a file of its own, and keeps the last.
    cluster.run(1).await;
    cluster.is_ready(1).await;
    assert_eq!(cluster.put(1, "/kv/k", "w").await.status, 200);
    // Who leads has answered; that it is committed comes here with the next heartbeat at the latest.
    let commit = async || cluster.json(1, "/status").await["commit"].as_u64();
    let knows = async || commit().await > Some(first.commit.0);
    cluster.until("server 1 knows that its second life goes on", knows).await;
    cluster.halt(1).await;
    assert_eq!(played(&file.with_extension("flight.1")), first);
    let second = played(&file);
    assert!(second.incarnation > first.incarnation && second.commit > first.commit);
    cluster.end().await;
}

/// A recorder has a limit; the server goes on without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_recorder_ends_and_its_server_goes_on() {
    let mut cluster = Cluster::with(1, |config| {
        config.flight_recorder = Some(config.data_dir.with_extension("flight"));
        config.flight_recorder_bytes = 4096;
    })
    .await;
    cluster.is_ready(1).await;
    for _ in 0..100 {
        let value = "a value of some length, so that four kilobytes are soon full";
        assert_eq!(cluster.put(1, "/kv/k", value).await.status, 200);
    }
    let file = cluster.path(1).with_extension("flight");
    cluster.halt(1).await;
    let length = std::fs::metadata(&file).unwrap().len();
    assert!((2048..=4096).contains(&length), "{length} bytes");
    assert!(played(&file).commit.0 < 100, "the end is not in it");
    cluster.end().await;
}
