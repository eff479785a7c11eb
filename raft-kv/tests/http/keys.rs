//! Keys: what curl does.

use std::time::Duration;

use hyper::Method;
use raft_kv::client::Ask;
use serde_json::json;

use crate::support::{Cluster, other, read};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_was_told_every_server_answers() {
    let cluster = Cluster::ready(3).await;
    let written = cluster.put(1, "/kv/a/b", "hello").await;
    assert_eq!((written.status.as_u16(), written.text().as_str()), (200, "ok"));
    for id in 1..=3 {
        let read = cluster.get(id, "/kv/a/b").await;
        assert_eq!((read.status.as_u16(), read.text().as_str()), (200, "hello"), "server {id}");
        assert_eq!(read.header("etag"), written.header("etag"), "server {id}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_deleted_is_absent() {
    let cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    let deleted = cluster.asked(2, &Ask::new(Method::DELETE, "/kv/k")).await;
    assert_eq!((deleted.status.as_u16(), deleted.text().as_str()), (200, "ok"));
    let read = cluster.get(3, "/kv/k").await;
    assert_eq!(read.status, 404);
    let told: serde_json::Value = serde_json::from_slice(&read.body).unwrap();
    assert_eq!(told["code"], "not_found");
    let again = cluster.asked(2, &Ask::new(Method::DELETE, "/kv/k")).await;
    assert_eq!(again.status, 200);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_may_come_as_json_and_a_key_percent_encoded() {
    let cluster = Cluster::ready(1).await;
    let ask = Ask::new(Method::POST, "/kv/caf%C3%A9%20au%20lait").body(r#"{"value": "2.50"}"#);
    assert_eq!(cluster.asked(1, &ask).await.status, 200);
    assert_eq!(cluster.get(1, "/kv/caf%c3%a9%20au%20lait").await.text(), "2.50");
    let listed = cluster.json(1, "/kv?prefix=caf").await;
    assert_eq!(listed["keys"][0]["key"], "café au lait");

    let wrong = Ask::new(Method::POST, "/kv/k").body("2.50");
    assert_eq!(cluster.asked(1, &wrong).await.status, 400);
    for malformed in ["/kv/%zz", "/kv/100%", "/kv/a%4"] {
        assert_eq!(cluster.get(1, malformed).await.status, 400, "{malformed}");
    }
    let bytes = cluster.get(1, "/kv/%ff").await;
    assert_eq!(bytes.status, 400);
    assert_eq!(cluster.get(1, "/kvetch").await.status, 404);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_in_pages() {
    let cluster = Cluster::ready(1).await;
    for path in ["/kv/fruit/apple", "/kv/fruit/pear", "/kv/fruit/plum", "/kv/stone"] {
        cluster.put(1, path, "1").await;
    }
    let first = cluster.json(1, "/kv?prefix=fruit/&limit=2").await;
    let keys = |page: &serde_json::Value| -> Vec<String> {
        let keys = page["keys"].as_array().unwrap().iter();
        keys.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&first), ["fruit/apple", "fruit/pear"]);
    assert_eq!(first["next"], "fruit/pear");
    assert_eq!(first["keys"][0]["value"], "1");
    let second = cluster.json(1, "/kv?prefix=fruit/&limit=2&after=fruit/pear").await;
    assert_eq!(keys(&second), ["fruit/plum"]);
    assert_eq!(second["next"], json!(null));

    let names = cluster.json(1, "/kv?keys_only=true").await;
    assert_eq!(keys(&names).len(), 4);
    assert!(names["keys"][0].get("value").is_none());
    assert_eq!(cluster.get(1, "/kv?limit=0").await.status, 400);
    assert_eq!(cluster.get(1, "/kv?limit=many").await.status, 400);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_no_text_is_listed_in_base64() {
    let cluster = Cluster::ready(1).await;
    let ask = Ask::new(Method::PUT, "/kv/k").body(vec![0xff, 0x00]);
    assert_eq!(cluster.asked(1, &ask).await.status, 200);
    assert_eq!(&cluster.get(1, "/kv/k").await.body[..], [0xff, 0x00]);
    let listed = cluster.json(1, "/kv").await;
    assert_eq!(listed["keys"][0]["value_base64"], "/wA=");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_applied_nothing_since_its_start_has_no_stale_answer() {
    let mut cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    for id in 1..=3 {
        cluster.halt(id).await;
    }
    cluster.adjust = |config| config.request_timeout = Duration::from_millis(200);
    // Alone it learns of no commit; what it knew to be committed before is what there is.
    cluster.run(1).await;
    let mut answer = cluster.once(1, &read("/kv/k?consistency=stale")).await;
    cluster
        .until("it has started", async || {
            answer = cluster.once(1, &read("/kv/k?consistency=stale")).await;
            !answer.text().contains("\"starting\"")
        })
        .await;
    match answer.header("raft-kv-index") {
        Some(index) => assert!(index.parse::<u64>().unwrap() > 0, "{}", answer.text()),
        None => {
            assert_eq!((answer.status.as_u16(), answer.text().contains("too_stale")), (503, true))
        }
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_may_be_by_lease_or_stale_and_stale_ones_say_how_old_they_are() {
    let cluster = Cluster::ready(3).await;
    let leader = cluster.leader(1, None).await;
    let written = cluster.put(1, "/kv/k", "v").await;
    let index = written.header("raft-kv-index").unwrap().to_owned();

    let leased = cluster.get(leader, "/kv/k?consistency=lease").await;
    assert_eq!((leased.status.as_u16(), leased.text().as_str()), (200, "v"));
    assert_eq!(leased.header("raft-kv-stale"), None);

    let follower = other(leader);
    let path = format!("/kv/k?consistency=stale&min_index={index}");
    let stale = cluster.get(follower, &path).await;
    assert_eq!(stale.text(), "v");
    // An election in between has an entry of its own: what is told is what was applied, not what was asked.
    let [told, asked] = [stale.header("raft-kv-index").unwrap(), index.as_str()];
    assert!(told.parse::<u64>().unwrap() >= asked.parse().unwrap(), "{told}, {asked}");
    assert_eq!(stale.header("raft-kv-stale"), Some("true"), "whether its age is known or not");
    cluster
        .until("an answer is young", async || {
            let young = cluster.get(follower, "/kv/k?consistency=stale&max_stale_ms=1000").await;
            assert_eq!(young.header("raft-kv-stale"), Some("true"));
            young.header("raft-kv-age-ms").unwrap().parse::<u64>().unwrap() <= 1000
        })
        .await;
    // What a round has confirmed is as old as the question, and that took some time.
    let fresh = cluster.get(follower, "/kv/k?consistency=stale&max_stale_ms=0").await;
    assert!(fresh.header("raft-kv-age-ms").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(cluster.get(1, "/kv/k?consistency=eventual").await.status, 400);
    cluster.end().await;
}
