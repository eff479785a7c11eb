//! What is bounded: bodies, answers, backups, and the patience with those who send or read nothing.

use hyper::Method;
use raft_core::NodeId;
use raft_kv::client::Ask;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Cluster, address};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_much_is_refused() {
    let cluster = Cluster::with(1, |config| {
        config.value_bytes_max = 64;
        config.key_bytes_max = 8;
        config.inflight_bytes_max = 64 * 6 + 64;
    })
    .await;
    cluster.is_ready(1).await;
    let fits = Ask::new(Method::PUT, "/kv/12345678").body(vec![b'x'; 64]);
    assert_eq!(cluster.asked(1, &fits).await.status, 200);
    let long_key = Ask::new(Method::PUT, "/kv/123456789").body("x");
    assert_eq!(cluster.asked(1, &long_key).await.status, 413);
    let long_value = Ask::new(Method::PUT, "/kv/k").body(vec![b'x'; 65]);
    assert_eq!(cluster.asked(1, &long_value).await.status, 413);

    // Seven bodies that are announced hold nothing; what has come of them holds all that may be under way.
    let mut held = Vec::new();
    for _ in 0..7 {
        let mut stream = tokio::net::TcpStream::connect(cluster.url(1)).await.unwrap();
        let head = b"PUT /kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 64\r\n\r\n";
        stream.write_all(head).await.unwrap();
        held.push(stream);
    }
    assert_eq!(cluster.asked(1, &fits).await.status, 200);
    for stream in &mut held {
        stream.write_all(&[b'x'; 63]).await.unwrap();
    }
    cluster
        .until("there is no room for more", async || cluster.asked(1, &fits).await.status == 429)
        .await;
    drop(held);
    cluster.until("there is room", async || cluster.asked(1, &fits).await.status == 200).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_waits_for_any_more_keeps_its_share_while_it_is_under_way() {
    let cluster = Cluster::with(3, |config| {
        config.value_bytes_max = 64;
        config.inflight_bytes_max = 64 * 6 + 64;
        config.request_timeout = std::time::Duration::from_millis(100);
        // Long enough that a leader without a quorum does not find out before this test is over.
        config.election_timeout = std::time::Duration::from_secs(4);
    })
    .await;
    cluster
        .until("there is a leader that serves", async || {
            cluster.put(1, "/kv/k", "v").await.status == 200
        })
        .await;
    let leader = cluster.leader(1, None).await;
    cluster.network.isolate(&address(leader));
    let put = Ask::new(Method::PUT, "/kv/k").body(vec![b'x'; 64]);
    let mut held = 0;
    while held < 7 {
        let status = cluster.asked(leader, &put).await.status.as_u16();
        // The first one may have gone out before the links were cut.
        assert!(status == 504 || (status == 200 && held == 0), "{status}");
        held += usize::from(status == 504);
    }
    assert_eq!(cluster.asked(leader, &put).await.status, 429);
    cluster.network.rejoin(&address(leader));
    cluster
        .until("all is answered", async || cluster.asked(leader, &put).await.status == 200)
        .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_or_without_end_is_cut_off() {
    let cluster = Cluster::with(1, |config| {
        config.request_timeout = std::time::Duration::from_millis(300);
    })
    .await;
    cluster.is_ready(1).await;
    let answer_to = async |bytes: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(cluster.url(1)).await.unwrap();
        // It may be cut off before all of it is sent.
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    };
    let half_a_head = answer_to(b"GET /kv/k HTTP/1.1\r\nhost: ").await;
    assert!(!half_a_head.contains(" 200 "), "{half_a_head}");
    let half_a_body = b"PUT /kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf";
    let half_a_body = answer_to(half_a_body).await;
    assert!(half_a_body.starts_with("HTTP/1.1 408 "), "{half_a_body}");
    let endless_head = [&b"GET / HTTP/1.1\r\nx: "[..], &vec![b'x'; 1 << 20]].concat();
    let endless_head = answer_to(&endless_head).await;
    assert!(endless_head.is_empty() || endless_head.starts_with("HTTP/1.1 431 "), "{endless_head}");
    // What a connection holds counts against no budget, so it is little.
    let head = |bytes: usize| {
        let long = "x".repeat(bytes);
        format!("GET /livez HTTP/1.1\r\nconnection: close\r\nhost: x\r\nx: {long}\r\n\r\n")
    };
    let long_head = answer_to(head(20_000).as_bytes()).await;
    assert!(long_head.starts_with("HTTP/1.1 200 "), "{long_head}");
    let longer_head = answer_to(head(80_000).as_bytes()).await;
    assert!(longer_head.is_empty() || longer_head.starts_with("HTTP/1.1 431 "), "{longer_head}");
    assert_eq!(cluster.get(1, "/kv/k").await.status, 404);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_too_large_takes_no_more_until_keys_are_deleted() {
    let cluster = Cluster::with(1, |config| config.memory_bytes_max = Some(2 << 20)).await;
    cluster.is_ready(1).await;
    // The process alone is larger than that; the keys are what counts.
    let put = |key: u64| Ask::new(Method::PUT, format!("/kv/{key}")).body(vec![b'v'; 600_000]);
    assert_eq!(cluster.asked(1, &put(1)).await.status, 200);
    cluster
        .until("there are too many", async || {
            let sent = [cluster.asked(1, &put(2)).await, cluster.asked(1, &put(3)).await];
            let larger = cluster.asked(1, &put(4)).await;
            assert!(sent.iter().chain([&larger]).all(|it| it.status == 200 || it.status == 507));
            larger.status == 507
        })
        .await;
    assert_eq!(cluster.get(1, "/kv/1").await.status, 200);
    for key in 2..=4 {
        let delete = Ask::new(Method::DELETE, format!("/kv/{key}"));
        assert_eq!(cluster.asked(1, &delete).await.status, 200);
    }
    let small = Ask::new(Method::PUT, "/kv/5").body("v");
    cluster
        .until("there is room again", async || cluster.asked(1, &small).await.status == 200)
        .await;
    cluster.end().await;
}

/// A client that sends a request, and then reads nothing.
async fn deaf(cluster: &Cluster, path: &str) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(cluster.url(1).parse().unwrap()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn fill(cluster: &Cluster, keys: u64) {
    for key in 0..keys {
        let put = Ask::new(Method::PUT, format!("/kv/{key}")).body(vec![b'v'; 1 << 20]);
        assert_eq!(cluster.asked(1, &put).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_never_reads_loses_its_connection() {
    let cluster = Cluster::with(1, |config| {
        config.request_timeout = std::time::Duration::from_millis(500);
    })
    .await;
    cluster.is_ready(1).await;
    fill(&cluster, 15).await;
    for path in ["/kv?watch=0", "/cluster/snapshot"] {
        let stream = deaf(&cluster, path).await;
        // What is sent on a connection that the other side has given up is refused.
        cluster
            .until("it is cut off", async || {
                let sent = stream.try_write(b"x");
                sent.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
            })
            .await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_at_a_time() {
    let cluster = Cluster::ready(1).await;
    fill(&cluster, 16).await;
    let mut first = deaf(&cluster, "/cluster/snapshot").await;
    let mut begun = [0; 12];
    first.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    assert_eq!(cluster.get(1, "/cluster/snapshot").await.status, 429);
    drop(first);
    cluster
        .until("the first one is over", async || {
            cluster.get(1, "/cluster/snapshot").await.status == 200
        })
        .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_take_longer_values_than_others_do_not_leave_them_behind() {
    let cluster = Cluster::with(3, |config| {
        config.value_bytes_max = if config.id == NodeId(1) { 8 << 20 } else { 64 };
    })
    .await;
    for id in 1..=3 {
        cluster.is_ready(id).await;
    }
    let value = vec![b'v'; 8 << 20];
    let put = Ask::new(Method::PUT, "/kv/k").body(value.clone());
    cluster
        .until("the first one leads and takes it", async || {
            let transfer = Ask::new(Method::POST, "/cluster/transfer-leader").body("{\"to\":1}");
            cluster.asked(1, &transfer).await;
            // Another leader refuses it before it has come: then the connection may break.
            cluster.client(1).once(&put).await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    for id in 2..=3 {
        cluster
            .until("the others have it", async || {
                let found = cluster.get(id, "/kv/k?consistency=stale").await;
                found.status == 200 && found.body[..] == value
            })
            .await;
        let longer = Ask::new(Method::PUT, "/kv/k").body(vec![b'v'; 65]);
        assert_eq!(cluster.asked(id, &longer).await.status, 413, "its own clients may not");
    }
    cluster.end().await;
}
