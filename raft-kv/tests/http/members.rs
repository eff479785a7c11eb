//! Members come and go.

use hyper::Method;
use raft_kv::client::{Answer, Ask};
use serde_json::json;

use crate::support::{Cluster, address, other, read};

async fn add(cluster: &Cluster, at: u64, id: u64) -> Answer {
    let body = json!({ "id": id, "addr": cluster.address(id) }).to_string();
    cluster.asked(at, &Ask::new(Method::POST, "/cluster/members").body(body)).await
}

async fn has_voters(cluster: &Cluster, at: u64, voters: &[u64]) {
    cluster
        .until(&format!("the voters are {voters:?}"), async || {
            let members = cluster.json(at, "/cluster/members").await;
            members["membership"] == json!({ "voters": voters, "learners": [], "outgoing": [] })
        })
        .await;
}

/// Starts a server that is told of the founders and waits.
async fn stranger(cluster: &mut Cluster, id: u64) {
    cluster.run(id).await;
    cluster
        .until("it waits", async || {
            cluster.once(id, &read("/readyz")).await.text().contains("waiting to be")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_learns_votes_and_serves() {
    let mut cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    stranger(&mut cluster, 4).await;
    let answer = add(&cluster, 2, 4).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    has_voters(&cluster, 1, &[1, 2, 3, 4]).await;
    cluster.is_ready(4).await;
    assert_eq!(cluster.get(4, "/kv/k").await.text(), "v");
    assert_eq!(cluster.put(4, "/kv/k", "w").await.status, 200);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_the_place_of_another() {
    let mut cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    stranger(&mut cluster, 4).await;
    let leader = cluster.leader(1, None).await;
    let old = other(leader);
    cluster.halt(old).await;
    let body = json!({ "old": old, "new": 4, "addr": address(4) }).to_string();
    let ask = Ask::new(Method::POST, "/cluster/members/replace").body(body);
    let answer = cluster.asked(leader, &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let voters: Vec<u64> = (1..=4).filter(|id| *id != old).collect();
    has_voters(&cluster, leader, &voters).await;
    assert_eq!(cluster.get(4, "/kv/k").await.text(), "v");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_disk_comes_back_as_somebody_new() {
    let mut cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    let leader = cluster.leader(1, None).await;
    let lost = other(leader);
    cluster.halt(lost).await;
    cluster.wipe(lost);
    stranger(&mut cluster, lost).await;
    let answer = add(&cluster, leader, lost).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    has_voters(&cluster, leader, &[1, 2, 3]).await;
    cluster.is_ready(lost).await;
    assert_eq!(cluster.get(lost, "/kv/k").await.text(), "v");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_removed_and_forgotten_comes_back_as_somebody_new() {
    let mut cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    let leader = cluster.leader(1, None).await;
    let gone = other(leader);
    cluster
        .until("all addresses are in the book", async || {
            let members = cluster.json(leader, "/cluster/members").await;
            members["members"]
                .as_array()
                .unwrap()
                .iter()
                .all(|member| member["address"].is_string())
        })
        .await;
    let ask = Ask::new(Method::DELETE, format!("/cluster/members/{gone}"));
    let answer = cluster.asked(leader, &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // It hears of it before it ends: then nothing is left to tell it, and nobody keeps its address.
    cluster
        .until("the others have no link to it", async || {
            let status = cluster.json(leader, "/status").await;
            status["peers"].as_array().unwrap().iter().all(|peer| peer["id"] != gone)
        })
        .await;
    cluster.halt(gone).await;
    cluster.wipe(gone);
    stranger(&mut cluster, gone).await;
    let answer = add(&cluster, leader, gone).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    has_voters(&cluster, leader, &[1, 2, 3]).await;
    cluster.is_ready(gone).await;
    assert_eq!(cluster.get(gone, "/kv/k").await.text(), "v");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_asked_in_and_removed_at_once_leaves_nothing_behind() {
    let mut cluster = Cluster::ready(3).await;
    stranger(&mut cluster, 4).await;
    let leader = cluster.leader(1, None).await;
    let answer = add(&cluster, leader, 4).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let remove = Ask::new(Method::DELETE, "/cluster/members/4");
    cluster
        .until("it is removed", async || cluster.asked(leader, &remove).await.status == 200)
        .await;
    has_voters(&cluster, leader, &[1, 2, 3]).await;
    assert_eq!(cluster.asked(leader, &remove).await.status, 409, "nobody waits for it");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_would_lose_the_quorum_is_refused() {
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader(1, None).await;
    let (down, up) = (other(leader), other(other(leader)));
    cluster.halt(down).await;
    cluster
        .until("whoever leads misses it", async || {
            let mut is_missed = false;
            for id in [leader, up] {
                is_missed |= cluster.json(id, "/status").await["quorum"]["can_fail"] == 0;
            }
            is_missed
        })
        .await;
    let ask = Ask::new(Method::DELETE, format!("/cluster/members/{up}"));
    let answer = cluster.asked(leader, &ask).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("quorum_at_risk"), "{}", answer.text());
    let ask = Ask::new(Method::DELETE, format!("/cluster/members/{down}"));
    assert_eq!(cluster.asked(leader, &ask).await.status, 200);
    let mut voters = [leader, up];
    voters.sort_unstable();
    has_voters(&cluster, leader, &voters).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_goes_where_the_operator_says() {
    let cluster = Cluster::ready(3).await;
    let leader = cluster.leader(1, None).await;
    let to = other(leader);
    let body = json!({ "to": to }).to_string();
    let ask = Ask::new(Method::POST, "/cluster/transfer-leader").body(body);
    let answer = cluster.asked(to, &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(cluster.leader(to, Some(leader)).await, to);
    let ask = Ask::new(Method::POST, "/cluster/transfer-leader").body(r#"{"to": 9}"#);
    assert_eq!(cluster.asked(1, &ask).await.status, 409);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_added_who_does_not_answer_or_is_somebody_else() {
    let cluster = Cluster::ready(3).await;
    let answer = add(&cluster, 1, 9).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    let body = json!({ "id": 9, "addr": address(2) }).to_string();
    let ask = Ask::new(Method::POST, "/cluster/members").body(body);
    let answer = cluster.asked(1, &ask).await;
    assert!(answer.text().contains("is 2, not 9"), "{}", answer.text());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_well_does_not_lose_its_place_to_another_under_its_number() {
    let cluster = Cluster::ready(3).await;
    let leader = cluster.leader(1, None).await;
    let id = other(leader);
    let before = cluster.json(leader, "/cluster/members").await["members"].clone();
    let mut config = cluster.config(id);
    config.addr = "impostor".to_owned();
    config.data_dir = cluster.directory.path().join("impostor");
    let end = std::sync::Arc::new(cluster.network.end("impostor"));
    let impostor = raft_kv::server::Server::start(config, end).await.unwrap();
    let client = raft_kv::client::Client::new(&[impostor.client_address().to_string()]);
    let ready = Ask::new(Method::GET, "/readyz");
    cluster
        .until("it waits", async || {
            client.once(&ready).await.unwrap().text().contains("waiting to be")
        })
        .await;
    let body = json!({ "id": id, "addr": "impostor" }).to_string();
    let ask = Ask::new(Method::POST, "/cluster/members").body(body);
    let answer = cluster.asked(leader, &ask).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("is a member and answers"), "{}", answer.text());
    let after = cluster.json(leader, "/cluster/members").await["members"].clone();
    let lineages = |members: &serde_json::Value| -> Vec<String> {
        let members = members.as_array().unwrap().iter();
        members.map(|member| member["lineage"].to_string()).collect()
    };
    assert_eq!(lineages(&after), lineages(&before));
    impostor.halt().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_votes_already_takes_nobodys_place() {
    let cluster = Cluster::ready(3).await;
    let leader = cluster.leader(1, None).await;
    let (old, new) = (other(leader), other(other(leader)));
    for (old, new, why) in [(old, new, "votes already"), (old, old, "cannot replace itself")] {
        let body = json!({ "old": old, "new": new, "addr": address(new) }).to_string();
        let ask = Ask::new(Method::POST, "/cluster/members/replace").body(body);
        let answer = cluster.asked(leader, &ask).await;
        assert_eq!(answer.status, 409, "{}", answer.text());
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    has_voters(&cluster, leader, &[1, 2, 3]).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_whole_or_refused() {
    let cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    let bytes = cluster.get(2, "/cluster/snapshot").await.body;
    let backup = raft_kv::backup::decode(&bytes).unwrap();
    assert_eq!(backup.kv.get(b"k").map(|found| &found.value[..]), Some(&b"v"[..]));
    for at in 0..bytes.len() {
        let mut rotten = bytes.to_vec();
        rotten[at] ^= 1;
        assert!(raft_kv::backup::decode(&rotten).is_err(), "byte {at}");
        assert!(raft_kv::backup::decode(&bytes[..at]).is_err(), "{at} bytes");
    }
    cluster.end().await;
}
