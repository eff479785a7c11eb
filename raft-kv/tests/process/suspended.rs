//! A process that stands still, as a machine that is suspended does, and goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::support::Three;

/// What a server answers to a read by its lease that reaches it while it stands still, once it goes on.
fn read_across(three: &Three, id: usize, meanwhile: impl FnOnce()) -> String {
    three.signal(id, Signal::STOP);
    meanwhile();
    let mut stream = TcpStream::connect(three.client_address(id)).unwrap();
    let ask = "GET /kv/k?consistency=lease HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    three.signal(id, Signal::CONT);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_leader_that_was_suspended_knows_that_its_lease_is_over() {
    let three = Three::start();
    assert_eq!(three.put(1, "/kv/k", "before"), "ok");
    for value in ["after one", "after two"] {
        let leader = three.leader(1);
        let other = leader % 3 + 1;
        assert!(!three.get(leader, "/kv/k?consistency=lease").is_empty(), "it has a lease");
        let answer = read_across(&three, leader, || {
            three.until_status(other, "another one leads", |status| {
                status["leader"]["id"].as_u64().is_some_and(|id| id != leader as u64)
            });
            assert_eq!(three.put(other, "/kv/k", value), "ok");
        });
        let is_refused = answer.starts_with("HTTP/1.1 503");
        assert!(is_refused || answer.ends_with(value), "{answer}");
    }
}
