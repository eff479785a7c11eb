//! Preconditions (compare-and-swap) and commands that are tried twice.

use hyper::Method;
use hyper::header::{IF_MATCH, IF_NONE_MATCH};
use raft_kv::client::{Ask, IDEMPOTENCY_KEY};

use crate::support::{Cluster, other};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_may_demand_that_the_key_is_absent() {
    let cluster = Cluster::ready(3).await;
    let absent = (IF_NONE_MATCH, "*");
    let first = cluster.put_if(1, "/kv/lock", absent.clone(), "mine").await;
    assert_eq!(first.status, 200);
    let second = cluster.put_if(2, "/kv/lock", absent, "no, mine").await;
    assert_eq!(second.status, 412);
    assert_eq!(second.header("etag"), first.header("etag"));
    assert_eq!(cluster.get(3, "/kv/lock").await.text(), "mine");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_may_demand_a_version() {
    let cluster = Cluster::ready(3).await;
    let old = cluster.put(1, "/kv/k", "1").await.header("etag").unwrap().to_owned();
    let swapped = cluster.put_if(2, "/kv/k", (IF_MATCH, &old), "2").await;
    assert_eq!(swapped.status, 200);
    let new = swapped.header("etag").unwrap().to_owned();
    assert_ne!(new, old);

    let late = cluster.put_if(3, "/kv/k", (IF_MATCH, &old), "3").await;
    assert_eq!((late.status.as_u16(), late.header("etag")), (412, Some(new.as_str())));
    let delete = Ask::new(Method::DELETE, "/kv/k").header(IF_MATCH, &old);
    assert_eq!(cluster.asked(1, &delete).await.status, 412);
    let delete = Ask::new(Method::DELETE, "/kv/k").header(IF_MATCH, &format!("\"0\", {new}"));
    assert_eq!(cluster.asked(1, &delete).await.status, 200);
    // What is no tag is a mistake of who asks, and says nothing about the key.
    for wrong in ["45", "abc", "\"5", "\"5\", 6"] {
        let answer = cluster.put_if(1, "/kv/k", (IF_MATCH, wrong), "no").await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    let gone = cluster.put_if(1, "/kv/k", (IF_MATCH, "*"), "4").await;
    assert_eq!((gone.status.as_u16(), gone.header("etag")), (412, None));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_the_version_gets_no_body() {
    let cluster = Cluster::ready(1).await;
    let etag = cluster.put(1, "/kv/k", "v").await.header("etag").unwrap().to_owned();
    let ask = Ask::new(Method::GET, "/kv/k").header(IF_NONE_MATCH, &etag);
    let answer = cluster.asked(1, &ask).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_tried_twice_takes_effect_once_also_at_another_leader() {
    let mut cluster = Cluster::ready(3).await;
    let first = cluster.put_if(1, "/kv/k", (IDEMPOTENCY_KEY, "alice/1"), "1").await;
    assert_eq!(first.status, 200);
    assert_eq!(cluster.put(1, "/kv/k", "2").await.status, 200);
    let leader = cluster.leader(1, None).await;
    cluster.halt(leader).await;

    let survivor = other(leader);
    let again = cluster.put_if(survivor, "/kv/k", (IDEMPOTENCY_KEY, "alice/1"), "1").await;
    assert_eq!(again.status, 200);
    assert_eq!(again.header("etag"), first.header("etag"));
    assert_eq!(cluster.get(survivor, "/kv/k").await.text(), "2");

    let next = cluster.put_if(survivor, "/kv/k", (IDEMPOTENCY_KEY, "alice/2"), "3").await;
    assert_eq!(next.status, 200);
    let late = cluster.put_if(survivor, "/kv/k", (IDEMPOTENCY_KEY, "alice/1"), "1").await;
    assert_eq!(late.status, 409);
    assert_eq!(cluster.get(survivor, "/kv/k").await.text(), "3");
    for odd in ["alice/0", "alice/one", "/1", ""] {
        let odd = cluster.put_if(survivor, "/kv/k", (IDEMPOTENCY_KEY, odd), "1").await;
        assert_eq!(odd.status, 400);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_a_client_that_nobody_remembers_is_refused_unless_it_is_its_first() {
    let cluster = Cluster::ready(1).await;
    let named =
        async |name: &str, value| cluster.put_if(1, "/kv/k", (IDEMPOTENCY_KEY, name), value).await;
    let seventh = named("alice/7", "7").await;
    assert_eq!(seventh.status, 409, "{}", seventh.text());
    assert!(seventh.text().contains("\"forgotten\""), "{}", seventh.text());
    assert_eq!(cluster.get(1, "/kv/k").await.status, 404, "it was not executed");
    assert_eq!(named("alice/1", "1").await.status, 200);
    assert_eq!(named("alice/7", "7").await.status, 200);

    let single = named("4b1f", "8").await;
    assert_eq!(named("alice/8", "9").await.status, 200);
    assert_eq!(named("4b1f", "8").await.header("etag"), single.header("etag"));
    assert_eq!(cluster.get(1, "/kv/k").await.text(), "9");
    let page = cluster.get(1, "/metrics").await.text();
    for line in ["raft_kv_names 2\n", "raft_kv_forgotten_clients_total 0\n"] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_did_once_outlives_snapshots() {
    let mut cluster = Cluster::with(1, |config| config.snapshot_after_entries = 8).await;
    cluster.is_ready(1).await;
    let first = cluster.put_if(1, "/kv/k", (IDEMPOTENCY_KEY, "alice/1"), "1").await;
    for _ in 0..32 {
        assert_eq!(cluster.put(1, "/kv/k", "2").await.status, 200);
    }
    cluster
        .until("there is a snapshot", async || {
            cluster.json(1, "/status").await["snapshot"].as_u64().unwrap() >= 8
        })
        .await;
    cluster.halt(1).await;
    cluster.run(1).await;
    cluster.is_ready(1).await;
    let again = cluster.put_if(1, "/kv/k", (IDEMPOTENCY_KEY, "alice/1"), "1").await;
    assert_eq!(again.header("etag"), first.header("etag"));
    assert_eq!(cluster.get(1, "/kv/k").await.text(), "2");
    cluster.end().await;
}
