//! What servers tell each other and their clients of where they are, over real TCP.

use hyper::Method;
use raft_kv::client::Ask;
use raft_kv::config::OnFollower;
use serde_json::{Value, json};

use crate::support::{Cluster, write};

/// Where the members are, as the address book of this server says.
async fn book(cluster: &Cluster, at: u64) -> Vec<(u64, Value, Value)> {
    let members = cluster.json(at, "/cluster/members").await["members"].take();
    let row =
        |row: &Value| (row["id"].as_u64().unwrap(), row["address"].clone(), row["url"].clone());
    members.as_array().unwrap().iter().map(row).collect()
}

/// The name under which clients reach a server.
fn url(cluster: &Cluster, id: u64) -> String {
    format!("http://localhost:{}", cluster.url(id).rsplit(':').next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_listen_at_a_name_are_known_by_it() {
    let mut cluster = Cluster::over_tcp(3, 4, "localhost");
    for id in 1..=3 {
        cluster.run(id).await;
    }
    for id in 1..=3 {
        cluster.is_ready(id).await;
        assert_eq!(cluster.put(id, "/kv/k", "v").await.status, 200, "forwarded by {id}");
    }
    cluster.adjust = |config| config.on_follower = OnFollower::Redirect;
    cluster.run(4).await;
    let add = json!({ "id": 4, "addr": cluster.address(4) }).to_string();
    let add = Ask::new(Method::POST, "/cluster/members").body(add);
    cluster
        .until("the fourth one is let in", async || cluster.asked(1, &add).await.status == 200)
        .await;
    cluster.is_ready(4).await;
    let named = |id| (id, json!(cluster.address(id)), json!(url(&cluster, id)));
    let names: Vec<_> = (1..=4).map(named).collect();
    cluster.until("all are known", async || book(&cluster, 1).await == names).await;
    // A redirect names the leader in the same way.
    let lead = Ask::new(Method::POST, "/cluster/transfer-leader").body(r#"{"to":1}"#);
    cluster
        .until("the new one sends clients to the leader", async || {
            if cluster.leader(4, None).await == 4 {
                cluster.once(4, &lead).await;
            }
            let answer = cluster.once(4, &write("/kv/k", "w")).await;
            let location = answer.header("location").unwrap_or_default();
            let leaders = [1, 2, 3].map(|id| url(&cluster, id) + "/kv/k");
            assert!(answer.status != 307 || leaders.iter().any(|it| it == location), "{location}");
            answer.status == 307
        })
        .await;
    let nowhere = Ask::new(Method::POST, "/cluster/members").body(r#"{"id":5,"addr":"0.0.0.0:1"}"#);
    assert_eq!(cluster.asked(1, &nowhere).await.status, 400);
    cluster.end().await;
}
