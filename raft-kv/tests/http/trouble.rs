//! What the server answers when things are wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Method;
use raft_core::NodeId;
use raft_kv::client::Ask;
use raft_kv::config::{OnFollower, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Cluster, address, other, read, write};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_a_write_is_refused_or_its_outcome_unknown_and_stale_reads_go_on() {
    let mut cluster = Cluster::with(3, |config| {
        config.request_timeout = Duration::from_secs(2);
    })
    .await;
    for id in 1..=3 {
        cluster.is_ready(id).await;
    }
    cluster.put(1, "/kv/k", "v").await;
    let leader = cluster.leader(1, None).await;
    let (second, third) = (other(leader), other(other(leader)));
    cluster.halt(second).await;
    cluster.halt(third).await;

    cluster
        .until("the leader has stepped down", async || {
            let answer = cluster.once(leader, &write("/kv/k", "w")).await;
            // Until it has, it does not know.
            assert!([503, 504].contains(&answer.status.as_u16()), "{}", answer.text());
            answer.status == 503
        })
        .await;
    let refused = cluster.once(leader, &write("/kv/k", "w")).await;
    let told: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!((&told["leader"], &told["node"]), (&json!(null), &json!(leader)));
    assert_eq!(told["reachable"], json!([]));
    assert!(told["retry_after_ms"].as_u64().is_some());
    for (path, status) in [
        ("/kv/k", 503),
        ("/kv/k?consistency=stale", 200),
        ("/kv/k?consistency=stale&max_stale_ms=1", 503),
        ("/livez", 200),
        ("/readyz", 503),
    ] {
        assert_eq!(cluster.once(leader, &read(path)).await.status, status, "{path}");
    }

    cluster.run(second).await;
    cluster.is_ready(leader).await;
    assert_eq!(cluster.put(leader, "/kv/k", "x").await.status, 200);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_may_redirect_or_refuse() {
    let redirecting = Cluster::with(3, |config| config.on_follower = OnFollower::Redirect).await;
    for id in 1..=3 {
        redirecting.is_ready(id).await;
    }
    redirecting
        .until("a follower redirects to the leader", async || {
            // On a busy machine another one may lead meanwhile.
            let leader = redirecting.leader(1, None).await;
            let answer = redirecting.put(other(leader), "/kv/a%20b?x=1", "v").await;
            let location = format!("http://{}/kv/a%20b?x=1", redirecting.url(leader));
            answer.status == 307
                && answer.header("location") == Some(location.as_str())
                && redirecting.get(other(leader), "/kv/k").await.status == 307
                && redirecting.put(leader, "/kv/k", "v").await.status == 200
        })
        .await;
    redirecting.end().await;

    let refusing = Cluster::with(3, |config| config.on_follower = OnFollower::Refuse).await;
    for id in 1..=3 {
        refusing.is_ready(id).await;
    }
    refusing
        .until("a follower refuses", async || {
            let leader = refusing.leader(1, None).await;
            let answer = refusing.once(other(leader), &write("/kv/k", "v")).await;
            answer.status == 503
                && answer.text() == "not the leader"
                && refusing.once(leader, &write("/kv/k", "v")).await.status == 200
        })
        .await;
    refusing.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced_and_comes_back() {
    let cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    let leader = cluster.leader(1, None).await;
    let survivor = other(leader);
    cluster.network.isolate(&address(leader));
    let next = cluster.leader(survivor, Some(leader)).await;
    assert_ne!(next, leader);
    assert_eq!(cluster.put(survivor, "/kv/k", "w").await.status, 200);
    cluster.network.rejoin(&address(leader));
    cluster.is_ready(leader).await;
    assert_eq!(cluster.get(leader, "/kv/k").await.text(), "w");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_grows_and_nothing_else() {
    let cluster = Cluster::with(1, |config| config.disk_reserve_bytes = u64::MAX).await;
    cluster.is_ready(1).await;
    cluster.until("it is noticed", async || cluster.put(1, "/kv/k", "v").await.status == 507).await;
    assert_eq!(cluster.asked(1, &Ask::new(Method::DELETE, "/kv/k")).await.status, 200);
    assert_eq!(cluster.get(1, "/kv/k").await.status, 404);
    assert_eq!(cluster.json(1, "/status").await["disk"]["has_room"], false);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_is_nearly_full_hands_over_to_one_that_has_room() {
    let starved = 1;
    let cluster = Cluster::with(3, |config| {
        if config.id == NodeId(1) {
            config.disk_reserve_bytes = u64::MAX;
        }
    })
    .await;
    for id in 1..=3 {
        cluster.is_ready(id).await;
    }
    let told = cluster.json(2, "/client/leader").await;
    let (leader, term) = (told["leader"].as_u64(), told["term"].as_u64().unwrap());
    // If it has not led yet, it does from the next term on, and somebody else from the one after. In a later
    // term it may have led, and handed over, before anybody looked; then it would keep what it gets back.
    let may_have_led = leader != Some(starved) && term > 1;
    let after = match leader {
        Some(id) if id == starved => term + 1,
        _ if may_have_led => term,
        _ => term + 2,
    };
    if leader != Some(starved) && !may_have_led {
        let ask = Ask::new(Method::POST, "/cluster/transfer-leader").body("{\"to\":1}");
        let answer = cluster.asked(2, &ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut next = None;
    cluster
        .until("it has handed over", async || {
            let told = cluster.json(2, "/client/leader").await;
            next = told["leader"].as_u64().filter(|leader| *leader != starved);
            next.is_some() && told["term"].as_u64() >= Some(after)
        })
        .await;
    let next = next.unwrap();
    cluster
        .until("whoever asks the one without room gets the other", async || {
            cluster.put(starved, "/kv/k", "v").await.status == 200
        })
        .await;
    assert_eq!(cluster.json(starved, "/status").await["disk"]["has_room"], false);
    assert_eq!(cluster.json(next, "/status").await["disk"]["has_room"], true);
    assert_eq!(cluster.get(starved, "/kv/k").await.text(), "v");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_or_cut_off_and_harms_nobody() {
    let cluster = Cluster::ready(3).await;
    let mut stream = tokio::net::TcpStream::connect(cluster.url(1)).await.unwrap();
    stream.write_all(b"\x16\x03\x01 is this TLS?\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));

    use raft_kv::transport::Transport as _;
    let mut peer = cluster.network.end("stranger").connect(&address(1)).await.unwrap();
    peer.write_all(&[0xff; 4096]).await.unwrap();
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "nobody answers garbage");
    assert_eq!(cluster.put(1, "/kv/k", "v").await.status, 200);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_only_the_supervisor_is_answered() {
    let cluster = Cluster::with(1, |config| config.token = Some("sesame".to_owned().into())).await;
    cluster.is_ready(1).await;
    assert_eq!(cluster.get(1, "/kv/k").await.status, 401);
    assert_eq!(cluster.get(1, "/livez").await.status, 200);
    let ask = Ask::new(Method::GET, "/kv/k");
    let answer = cluster.client(1).with_token("sesame").once(&ask).await.unwrap();
    assert_eq!(answer.status, 404);
    let answer = cluster.client(1).with_token("sesamo").once(&ask).await.unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let small = ask.header(hyper::header::AUTHORIZATION, "bearer sesame");
    assert_eq!(cluster.once(1, &small).await.status, 404, "the scheme is no secret");
    let odd = Ask::new(Method::GET, "/kv/k").header(hyper::header::AUTHORIZATION, "sesame");
    assert_eq!(cluster.once(1, &odd).await.status, 401);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_what_it_looks_for() {
    let cluster = Cluster::ready(1).await;
    cluster.put(1, "/kv/k", "v").await;
    let page = cluster.get(1, "/metrics").await.text();
    for name in [
        "raft_kv_commit_seconds_bucket",
        "raft_kv_fsync_seconds_count",
        "raft_kv_apply_seconds_sum",
        "raft_kv_read_seconds_count",
        "raft_kv_elections_total 1",
        "raft_kv_is_leader 1",
        "raft_kv_keys 1",
    ] {
        assert!(page.contains(name), "{name} is not in\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
    cluster.end().await;
}

/// The operations page lists what there is to watch: all of it, and nothing that there is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_those_of_the_operations_page() {
    let cluster = Cluster::ready(3).await;
    cluster.put(1, "/kv/k", "v").await;
    let mut page = String::new();
    let count = |page: &str, name: &str| page.matches(&format!("\nraft_kv_{name}{{peer=")).count();
    cluster
        .until("a leader has heard both others", async || {
            let leader = cluster.leader(1, None).await;
            page = cluster.get(leader, "/metrics").await.text();
            let by_peer = ["peer_connected", "peer_lag_entries", "peer_silence_milliseconds"];
            by_peer.iter().all(|name| count(&page, name) == 2)
        })
        .await;
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names = kinds.map(|(name, kind)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    });
    let told: BTreeSet<String> = names.collect();
    let docs = include_str!("../../docs/operations.md");
    let rows = docs.split_once("## What to watch").unwrap().1.lines();
    let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split(" |").next());
    let names = cells.flat_map(|cell| cell.split(['`', ',', ' ']).filter(|name| !name.is_empty()));
    let listed: BTreeSet<String> = names.map(str::to_owned).collect();
    assert_eq!(told, listed);
    for level in ["voters 3", "learners 0", "has_leader 1", "keys 1", "watchers 0", "is_full 0"] {
        assert!(page.contains(&format!("\nraft_kv_{level}\n")), "{level} is not in\n{page}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_end_hands_over_first() {
    // So long that nobody else asks for an election, however busy the machine is.
    let patient = |config: &mut ServerConfig| config.election_timeout = Duration::from_secs(3);
    let mut cluster = Cluster::with(3, patient).await;
    for id in 1..=3 {
        cluster.is_ready(id).await;
    }
    cluster.put(1, "/kv/k", "v").await;
    let leader = cluster.leader(1, None).await;
    let survivor = other(leader);
    let before = cluster.json(survivor, "/client/leader").await["term"].as_u64().unwrap();
    cluster.take(leader).stop().await;
    let after = cluster.json(survivor, "/client/leader").await;
    assert_eq!(after["term"], before + 1, "one election, asked for, is all it takes: {after}");
    assert_ne!(after["leader"], json!(leader));
    assert_eq!(cluster.put(survivor, "/kv/k", "w").await.status, 200);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_in_a_wrong_way_is_told_so_in_json() {
    let cluster = Cluster::ready(1).await;
    let patch = cluster.asked(1, &Ask::new(Method::PATCH, "/kv/k").body("v")).await;
    let told: Value = serde_json::from_slice(&patch.body).unwrap();
    assert_eq!((patch.status.as_u16(), &told["code"]), (405, &json!("wrong_method")));
    let delete = cluster.asked(1, &Ask::new(Method::DELETE, "/cluster/members/one")).await;
    let told: Value = serde_json::from_slice(&delete.body).unwrap();
    assert_eq!((delete.status.as_u16(), &told["code"]), (400, &json!("bad_request")));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_does_not_hold_up_a_server_that_ends() {
    let mut cluster = Cluster::ready(1).await;
    let watch = Ask::new(Method::GET, "/kv?watch=0");
    let watcher = cluster.client(1).open(&watch).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(4), cluster.take(1).stop());
    ended.await.expect("sooner than open requests are cut off");
    let told = http_body_util::BodyExt::collect(watcher.into_body()).await.unwrap().to_bytes();
    assert!(told.starts_with(b": changes after 0\n"), "the stream has ended in order");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_at_rest_is_found_by_looking_through_the_disk_and_healed_from_the_others() {
    let mut cluster = Cluster::with(3, |config| config.scrub_bytes_per_s = 1 << 30).await;
    for id in 1..=3 {
        cluster.is_ready(id).await;
    }
    let value = vec![b'v'; 100_000];
    for key in 0..4 {
        let put = Ask::new(Method::PUT, format!("/kv/{key}")).body(value.clone());
        assert_eq!(cluster.asked(1, &put).await.status, 200);
    }
    let follower = other(cluster.leader(1, None).await);
    let applied = cluster.json(1, "/client/status").await["applied"].as_u64();
    cluster
        .until("the follower has it all", async || {
            cluster.json(follower, "/client/status").await["applied"].as_u64() >= applied
        })
        .await;
    hurt(&cluster.path(follower));
    cluster
        .until("it is found and healed", async || {
            let disk = cluster.json(follower, "/status").await["disk"].clone();
            disk["scrub"]["damaged_entries"].as_u64() > Some(0) && disk["damaged_entries"] == 0
        })
        .await;
    let page = cluster.get(follower, "/metrics").await.text();
    assert!(page.contains("raft_kv_scrub_damaged_total"), "{page}");
    assert!(!page.contains("raft_kv_repairs_total 0"), "{page}");

    cluster.take(follower).stop().await;
    cluster.run(follower).await;
    cluster.is_ready(follower).await;
    for key in 0..4 {
        let found = cluster.get(follower, &format!("/kv/{key}?consistency=stale")).await;
        assert_eq!((found.status.as_u16(), &found.body[..]), (200, &value[..]), "key {key}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_repairs_its_log_says_that_it_passes() {
    let mut cluster = Cluster::ready(1).await;
    let put = Ask::new(Method::PUT, "/kv/k").body(vec![b'v'; 100_000]);
    assert_eq!(cluster.asked(1, &put).await.status, 200);
    // What came after it shows that it was durable.
    for _ in 0..4 {
        assert_eq!(cluster.put(1, "/kv/other", "v").await.status, 200);
    }
    cluster.take(1).stop().await;
    hurt(&cluster.path(1));
    cluster.run(1).await;
    let code = |answer: &raft_kv::client::Answer| {
        let told = serde_json::from_slice(&answer.body);
        let told: Value = told.unwrap_or_else(|_| panic!("{answer:?}"));
        (answer.status.as_u16(), told["code"].clone(), told["retry_after_ms"].is_u64())
    };
    // Nobody else has what is missing: it leads, and serves nothing.
    cluster
        .until("a write is refused for that reason", async || {
            let told = code(&cluster.once(1, &write("/kv/other", "w")).await);
            assert_eq!((told.0, told.2), (503, true), "{told:?}");
            told.1 == "repairing"
        })
        .await;
    let read = code(&cluster.once(1, &read("/kv/k")).await);
    assert_eq!((read.0, read.2), (503, true), "{read:?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_does_not_take_the_time_of_the_others() {
    let cluster = Cluster::ready(1).await;
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = [hung.local_addr().unwrap().to_string(), cluster.url(1)];
    let mut client = raft_kv::client::Client::new(&endpoints);
    client.timeout = Duration::from_secs(20);
    let named = Ask::new(Method::PUT, "/kv/k")
        .body("v")
        .header(raft_kv::client::IDEMPOTENCY_KEY, "alice/1");
    for ask in [named, Ask::new(Method::GET, "/kv/k")] {
        assert_eq!(client.ask(&ask).await.unwrap().status, 200, "{ask:?}");
    }
    // What may not be done twice is not asked of another one.
    client.timeout = Duration::from_millis(100);
    let plain = Ask::new(Method::PUT, "/kv/k").body("w");
    assert!(client.ask(&plain).await.is_err());
    assert_eq!(cluster.get(1, "/kv/k").await.text(), "v");
    cluster.end().await;
}

/// What the disk lost while the server was down is told and counted by kind.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_finds_on_the_disk_is_counted() {
    let mut cluster = Cluster::ready(3).await;
    let value = vec![b'v'; 100_000];
    for key in 0..4 {
        let put = Ask::new(Method::PUT, format!("/kv/{key}")).body(value.clone());
        assert_eq!(cluster.asked(1, &put).await.status, 200);
    }
    let follower = other(cluster.leader(1, None).await);
    cluster.is_ready(follower).await;
    let count = |page: &str, kind: &str| {
        let name = format!("raft_kv_found_at_start_total{{kind=\"{kind}\"}} ");
        let line =
            page.lines().find_map(|line| line.strip_prefix(name.as_str()).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{name}: {page}"))
    };
    let page = cluster.get(follower, "/metrics").await.text();
    assert_eq!([count(&page, "damaged"), count(&page, "tail_unknown")], ["0", "0"]);
    cluster.take(follower).stop().await;
    hurt(&cluster.path(follower));
    cluster.run(follower).await;
    cluster.is_ready(follower).await;
    let page = cluster.get(follower, "/metrics").await.text();
    assert_eq!([count(&page, "damaged"), count(&page, "tail_unknown")], ["1", "0"]);
    cluster.end().await;
}

/// Flips a byte in the middle of a value, in the log of a server.
fn hurt(path: &std::path::Path) {
    use std::os::unix::fs::FileExt as _;
    for entry in std::fs::read_dir(path.join("raft/wal")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let run = [b'v'; 1000];
        let Some(at) = bytes.windows(run.len()).position(|window| window == run) else { continue };
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"x", at as u64 + 500).unwrap();
        return;
    }
    panic!("no value is in the log");
}
