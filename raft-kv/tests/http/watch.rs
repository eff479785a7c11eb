//! Changes as they happen.

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use raft_kv::client::Ask;

use crate::support::{Cluster, other};

/// Reads a stream of events until it holds `what`.
async fn read_until(body: &mut Incoming, what: &str) -> String {
    let mut text = String::new();
    while !text.contains(what) {
        let frame = body.frame().await.expect("the stream goes on").expect("it is not broken");
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_what_was_and_what_comes_and_nothing_else() {
    let cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/fruit/apple", "1").await;
    cluster.put(1, "/kv/stone", "1").await;
    let ask = Ask::new(Method::GET, "/kv?prefix=fruit/&watch=0");
    let response = cluster.client(other(1)).open(&ask).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let seen = read_until(&mut body, "fruit/apple").await;
    assert!(!seen.contains("stone"), "{seen}");

    let written = cluster.put(2, "/kv/fruit/pear", "2").await;
    let index = written.header("raft-kv-index").unwrap();
    let seen = read_until(&mut body, "\n\n").await;
    let event = format!(
        "id: {index}\nevent: put\ndata: {{\"key\":\"fruit/pear\",\"value\":\"2\",\"index\":{index}}}"
    );
    assert!(seen.contains(&event), "{seen}");
    cluster.asked(3, &Ask::new(Method::DELETE, "/kv/fruit/pear")).await;
    let seen = read_until(&mut body, "\n\n").await;
    assert!(seen.contains("event: delete\n"), "{seen}");
    drop(body);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_comes_back_says_what_it_has_seen() {
    let cluster = Cluster::ready(1).await;
    let first = cluster.put(1, "/kv/a", "1").await;
    let seen = first.header("raft-kv-index").unwrap().to_owned();
    cluster.put(1, "/kv/b", "2").await;
    let name = hyper::header::HeaderName::from_static("last-event-id");
    let ask = Ask::new(Method::GET, "/kv?watch=0").header(name.clone(), &seen);
    let mut body = cluster.client(1).open(&ask).await.unwrap().into_body();
    let told = read_until(&mut body, "\"b\"").await;
    assert!(!told.contains("\"a\""), "{told}");
    let odd = Ask::new(Method::GET, "/kv?watch=0").header(name, "yesterday");
    assert_eq!(cluster.asked(1, &odd).await.status, 400);
    drop(body);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_only_a_snapshot_holds_are_gone() {
    let mut cluster = Cluster::with(1, |config| config.snapshot_after_entries = 4).await;
    cluster.is_ready(1).await;
    for _ in 0..16 {
        cluster.put(1, "/kv/k", "v").await;
    }
    cluster
        .until("there is a snapshot", async || {
            cluster.json(1, "/status").await["snapshot"].as_u64().unwrap() >= 4
        })
        .await;
    cluster.halt(1).await;
    cluster.run(1).await;
    cluster.is_ready(1).await;
    let answer = cluster.get(1, "/kv?watch=0").await;
    assert_eq!(answer.status, 410, "{}", answer.text());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_watch_at_a_time() {
    let cluster = Cluster::with(1, |config| config.watchers_max = 1).await;
    cluster.is_ready(1).await;
    let ask = Ask::new(Method::GET, "/kv?watch=0");
    let first = cluster.client(1).open(&ask).await.unwrap();
    assert_eq!(first.status(), 200);
    let second = cluster.client(1).open(&ask).await.unwrap();
    assert_eq!(second.status(), 429);
    drop(first);
    cluster
        .until("there is a place again", async || {
            cluster.client(1).open(&ask).await.unwrap().status() == 200
        })
        .await;
    cluster.end().await;
}
