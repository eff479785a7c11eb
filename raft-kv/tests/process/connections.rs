//! All connections are taken.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::Method;
use raft_kv::client::{Ask, Client};

use crate::support::{PROGRAM, free_ports, text};

/// One request on a connection of its own, and what comes of it: the connection, with the head of the answer
/// or, at the end of it, with all.
fn raw(address: &str, path: &str, to_end: bool) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    // It may be cut off before.
    drop(stream.write_all(request.as_bytes()));
    let mut seen = [0; 4096];
    let mut answer = String::new();
    while let Ok(length) = stream.read(&mut seen)
        && length > 0
    {
        answer += &text(&seen[..length]);
        if !to_end {
            break;
        }
    }
    (stream, answer)
}

#[test]
fn watchers_leave_room_and_who_finds_none_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", PROGRAM, "--id=1", "--addr=127.0.0.1:0"])
        .args(["--client-addr", &address, "--disk-reserve-bytes=0", "--data-dir"])
        .arg(directory.path().join("data"))
        .arg("--request-timeout-ms=60000")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = Client::new(std::slice::from_ref(&address));
    client.timeout = Duration::from_secs(30);
    let ready = Ask::new(Method::GET, "/readyz");
    assert_eq!(runtime.block_on(client.ask(&ready)).unwrap().status, 200);
    drop((client, runtime));
    // 16 connections: half of them for who watches.
    let watch = |_| raw(&address, "/kv?watch=0", false);
    let watchers: Vec<_> = (0..20).map(watch).filter(|(_, it)| it.contains(" 200 ")).collect();
    assert_eq!(watchers.len(), 8);

    let mut idle = Vec::new();
    let refused = loop {
        let (stream, answer) = raw(&address, "/kv/k", false);
        if !answer.contains(" 404 ") {
            break answer;
        }
        idle.push(stream);
        assert!(idle.len() < 16, "there are so many connections, and no more");
    };
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    for part in ["connection: close\r\n", "\"code\":\"crowded\"", "retry-after: 1\r\n"] {
        assert!(raw(&address, "/kv/k", true).1.contains(part), "{part} is not in {refused}");
    }
    let (_, alive) = raw(&address, "/livez", true);
    assert!(alive.starts_with("HTTP/1.1 200 ") && alive.ends_with("ok"), "{alive}");
    drop((watchers, idle));
    child.kill().unwrap();
    child.wait().unwrap();
}
