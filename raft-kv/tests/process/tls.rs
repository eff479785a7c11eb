//! Three servers that believe certificates alone.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Three, arg, output, run, text};

#[test]
fn three_servers_and_their_clients_show_certificates_and_a_token() {
    let mut three = Three::of(|directory| {
        let certs = directory.join("certs");
        assert_eq!(output(&["certs", "--host", "127.0.0.1", "--dir", arg(&certs)]), "");
        std::fs::write(certs.join("token"), "sesame\n").unwrap();
        let file = |flag: &str, name: &str| format!("--{flag}={}", certs.join(name).display());
        vec![
            file("peer-ca", "peer-ca.pem"),
            file("peer-cert", "peer.pem"),
            file("peer-key", "peer.key"),
            file("client-ca", "client-ca.pem"),
            file("client-cert", "server.pem"),
            file("client-key", "server.key"),
            "--client-auth".to_owned(),
            file("client-token-file", "token"),
        ]
    });
    for id in 1..=3 {
        three.run(id);
    }
    let certs = three.directory.path().join("certs");
    let file = |flag: &str, name: &str| format!("--{flag}={}", certs.join(name).display());
    let everything = [
        file("ca", "client-ca.pem"),
        file("cert", "client.pem"),
        file("key-file", "client.key"),
        file("auth-file", "token"),
    ];
    let verb = |words: &[&str], id: usize, flags: &[String]| {
        let endpoint = format!("--endpoints={}", three.client_address(id));
        let flags = flags.iter().map(String::as_str);
        run(&words.iter().copied().chain([&*endpoint]).chain(flags).collect::<Vec<_>>())
    };
    // Whoever is asked passes it on to the leader, over TLS as well.
    for (id, value) in [(1, "a"), (2, "b"), (3, "c")] {
        let put = verb(&["put", "k", value, "--timeout=60"], id, &everything);
        assert_eq!(text(&put.stdout), "ok\n", "{}{}", text(&put.stderr), three.log(id));
    }
    assert_eq!(text(&verb(&["get", "k"], 2, &everything).stdout), "c");

    let refused = |flags: &[String], says: &str| {
        let said = text(&verb(&["get", "k", "--timeout=1"], 1, flags).stderr);
        assert!(said.contains(says), "{said}");
    };
    refused(&everything[..3], "a bearer token is needed");
    refused(&[&everything[..1], &everything[3..]].concat(), "");
    let theirs = file("ca", "peer-ca.pem");
    refused(&[&[theirs], &everything[1..]].concat(), "UnknownIssuer");
    let plain = verb(&["get", "k", "--timeout=1"], 1, &everything[3..]);
    assert_eq!(plain.status.code(), Some(1), "plain HTTP gets no answer");
    assert_eq!(verb(&["get", "k", "--timeout=1"], 1, &everything[..1]).status.code(), Some(1));

    for id in 1..=3 {
        assert_eq!(three.end(id, Signal::TERM).code(), Some(0), "{}", three.log(id));
    }
}

#[test]
fn a_server_that_hangs_up_reads_its_certificates_again_and_goes_on() {
    let mut three = Three::of(|_| Vec::new());
    for id in 1..=3 {
        three.run(id);
    }
    assert_eq!(three.put(1, "/kv/k", "v"), "ok");
    three.signal(1, Signal::HUP);
    let began = Instant::now();
    while !three.log(1).contains("the certificates were read again") {
        assert_eq!(three.get(1, "/kv/k"), "v");
        assert!(began.elapsed() < Duration::from_secs(30), "{}", three.log(1));
    }
    assert_eq!(three.end(1, Signal::TERM).code(), Some(0));
}
