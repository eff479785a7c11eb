//! A server that has ended leaves nothing behind.

use std::sync::Arc;

use raft_core::NodeId;
use raft_kv::bootstrap::DataDirectory;
use raft_kv::client::Client;
use raft_kv::server::Server;

use crate::support::{Cluster, address, read};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_halted_or_dropped_dials_and_votes_no_more() {
    let mut cluster = Cluster::ready(3).await;
    cluster.halt(1).await;
    for is_halted in [true, false] {
        let transport = Arc::new(cluster.network.end(&address(1)));
        let left = Arc::downgrade(&transport);
        let server = Server::start(cluster.config(1), transport).await.unwrap();
        let client = Client::new(&[server.client_address().to_string()]);
        cluster
            .until("it is ready", async || {
                client.once(&read("/readyz")).await.is_ok_and(|answer| answer.status == 200)
            })
            .await;
        if is_halted {
            server.halt().await;
            let free = DataDirectory::open(&cluster.path(1), NodeId(1));
            assert!(free.is_ok(), "{free:?}");
        } else {
            drop(server);
        }
        cluster.until("nobody dials for it", async || left.upgrade().is_none()).await;
        cluster
            .until("nobody has its directory", async || {
                DataDirectory::open(&cluster.path(1), NodeId(1)).is_ok()
            })
            .await;
    }
    cluster.end().await;
}

/// Whatever it is about to do then.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_halted_while_it_starts_leaves_nobody_in_its_directory() {
    let mut cluster = Cluster::ready(1).await;
    cluster.halt(1).await;
    for steps in 0..40 {
        cluster.run(1).await;
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        cluster.halt(1).await;
        cluster
            .until("nobody has its directory", async || {
                DataDirectory::open(&cluster.path(1), NodeId(1)).is_ok()
            })
            .await;
    }
    cluster.end().await;
}
