//! How a cluster is founded, and who is not part of it.

use std::sync::Arc;

use raft_core::NodeId;
use raft_kv::bootstrap::{DataDirectory, DirectoryError};
use raft_kv::clock::Clock;
use raft_kv::hello::Hello;
use raft_kv::links::Links;
use raft_kv::node::End;
use raft_kv::server::{Server, StartError};
use raft_kv::transport::Transport as _;
use tokio::sync::watch;

use crate::support::{self, Cluster, address, read, write};

#[tokio::test(flavor = "multi_thread")]
async fn founding_needs_every_founder_once_and_from_then_on_a_quorum() {
    let mut cluster = Cluster::start(3).await;
    cluster.halt(3).await;
    // Whatever the two have come to, it is one cluster once the third is there.
    cluster.run(3).await;
    for id in 1..=3 {
        cluster.is_ready(id).await;
    }
    let named = cluster.json(1, "/status").await["cluster"].clone();
    for id in 1..=3 {
        assert_eq!(cluster.json(id, "/status").await["cluster"], named);
        cluster.halt(id).await;
    }
    for id in [1, 2] {
        cluster.run(id).await;
    }
    cluster.is_ready(1).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn founders_that_wait_say_for_whom() {
    let mut cluster = Cluster::start(3).await;
    for id in 1..=3 {
        cluster.halt(id).await;
    }
    for id in 1..=3 {
        cluster.wipe(id);
    }
    cluster.run(1).await;
    cluster.run(2).await;
    cluster
        .until("they wait for the third", async || {
            let answer = cluster.once(1, &read("/readyz")).await;
            answer.status == 503 && answer.text().contains("waiting for the founders 3")
        })
        .await;
    assert_eq!(cluster.get(1, "/livez").await.text(), "ok");
    assert_eq!(cluster.once(1, &write("/kv/k", "v")).await.status, 503);
    assert_eq!(cluster.json(1, "/client/leader").await["leader"], serde_json::json!(null));
    cluster.run(3).await;
    cluster.is_ready(1).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn founders_that_were_told_of_different_ones_found_nothing_and_say_so() {
    let mut cluster = Cluster::of(3, |config| {
        if config.id == NodeId(1) {
            config.peers.remove(&NodeId(3));
        }
    });
    cluster.run(1).await;
    cluster.run(2).await;
    cluster.run(3).await;
    let lists = ["server 1 is told that the founders are 1, 2,", "that they are 1, 2, 3;"];
    cluster
        .until("the first one says so", async || {
            let answer = cluster.once(1, &read("/readyz")).await;
            answer.status == 503 && lists.iter().all(|list| answer.text().contains(list))
        })
        .await;
    let other = "and server 1 that they are 1, 2;";
    for id in [2, 3] {
        cluster
            .until("so do the others, as soon as they have heard it", async || {
                // The third one is not known to the first one; it hears of it all the same.
                cluster.once(id, &read("/readyz")).await.text().contains(other)
            })
            .await;
    }
    cluster.halt(1).await;
    cluster.adjust = |_| {};
    cluster.run(1).await;
    for id in 1..=3 {
        cluster.is_ready(id).await;
    }
    let members = cluster.json(1, "/cluster/members").await;
    assert_eq!(members["membership"]["voters"], serde_json::json!([1, 2, 3]));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_crashed_before_it_heard_of_the_cluster_adopts_it() {
    let mut cluster = Cluster::of(3, |_| {});
    cluster.run(1).await;
    cluster.run(3).await;
    // The second founder speaks until the others have agreed, and never learns of it.
    let directory = DataDirectory::open(&cluster.path(2), NodeId(2)).unwrap();
    let me = directory.founding().member;
    let (address, client_url) = (address(2), String::new());
    let end = Arc::new(cluster.network.end(&address));
    let listener = end.listen(&address).await.unwrap();
    let configured = (1..=3).map(NodeId).collect();
    let founders = vec![me];
    let hello = Hello { member: me, address, client_url, cluster: None, founders, configured };
    let (hello, said) = watch::channel(hello);
    let links = Links::new(end, said, 1 << 20, Clock::start());
    let mut founders = vec![me];
    for id in [1, 3] {
        founders.push(links.ask(&support::address(id)).await.unwrap().member);
    }
    founders.sort_unstable();
    hello.send_modify(|hello| hello.founders = founders);
    let speaking = tokio::spawn(links.listen(listener));
    cluster.is_ready(1).await;
    speaking.abort();
    assert!(speaking.await.is_err());
    drop(directory);

    let named = cluster.json(1, "/status").await["cluster"].clone();
    cluster.run(2).await;
    cluster.is_ready(2).await;
    assert_eq!(cluster.json(2, "/status").await["cluster"], named);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_lost_its_disk_is_nobody_and_waits_to_be_added() {
    let mut cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    cluster.halt(2).await;
    cluster.wipe(2);
    cluster.run(2).await;
    cluster
        .until("it says what it waits for", async || {
            let answer = cluster.once(2, &read("/readyz")).await;
            answer.status == 503 && answer.text().contains("waiting to be added")
        })
        .await;
    let status = cluster.json(1, "/status").await;
    assert_eq!(status["membership"]["voters"], serde_json::json!([1, 2, 3]));
    assert_eq!(cluster.put(1, "/kv/k", "w").await.status, 200);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_one_owner_at_a_time_and_one_server_for_ever() {
    let mut cluster = Cluster::ready(1).await;
    let mut config = cluster.config(1);
    config.addr = "elsewhere".to_owned();
    let end = Arc::new(cluster.network.end("elsewhere"));
    let error = Server::start(config, end).await.unwrap_err();
    assert!(matches!(error, StartError::Directory(DirectoryError::InUse { .. })), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");

    cluster.halt(1).await;
    let mut config = cluster.config(1);
    config.id = NodeId(7);
    let error =
        Server::start(config, Arc::new(cluster.network.end(&address(7)))).await.unwrap_err();
    assert!(error.to_string().contains("belongs to server 1, not to server 7"), "{error}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_cluster_is_refused_and_both_are_named() {
    let mut cluster = Cluster::ready(3).await;
    let theirs = cluster.json(2, "/status").await["cluster"].as_str().unwrap().to_owned();
    cluster.halt(1).await;
    cluster.wipe(1);
    // The first server founds a cluster of its own, and then meets the others.
    let mut alone = Cluster::of(1, |_| {});
    std::mem::swap(&mut alone.directory, &mut cluster.directory);
    alone.run(1).await;
    alone.is_ready(1).await;
    let mine = alone.json(1, "/status").await["cluster"].as_str().unwrap().to_owned();
    alone.halt(1).await;
    std::mem::swap(&mut alone.directory, &mut cluster.directory);
    cluster.run(1).await;
    let End::Failed(reason) = cluster.take(1).ended().await else { panic!("it fails") };
    let expected =
        format!("the data directory belongs to cluster {mine}, the peers to cluster {theirs}");
    assert_eq!(reason, expected);
    assert_eq!(cluster.put(2, "/kv/k", "v").await.status, 200);
    alone.end().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_holds_something_else_is_left_alone() {
    let cluster = Cluster::start(0).await;
    std::fs::create_dir(cluster.path(1)).unwrap();
    std::fs::write(cluster.path(1).join("thesis.tex"), "chapter 1").unwrap();
    let end = Arc::new(cluster.network.end(&address(1)));
    let error = Server::start(cluster.config(1), end).await.unwrap_err();
    assert!(error.to_string().contains("it holds thesis.tex"), "{error}");
    assert_eq!(std::fs::read_dir(cluster.path(1)).unwrap().count(), 1);
    cluster.end().await;
}
