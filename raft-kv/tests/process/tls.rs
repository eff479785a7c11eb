//! Three servers that believe certificates alone.

use std::path::Path;

use raft_kv::tls::Files;
use rustix::process::Signal;

use crate::support::{Three, arg, output, run, text};

/// What names all the secret files of a server.
fn secrets(certs: &Path) -> Vec<String> {
    let files = [
        ("peer-ca", "peer-ca.pem"),
        ("peer-cert", "peer.pem"),
        ("peer-key", "peer.key"),
        ("client-ca", "client-ca.pem"),
        ("client-cert", "server.pem"),
        ("client-key", "server.key"),
        ("client-token-file", "token"),
    ];
    files.iter().map(|(flag, name)| format!("--{flag}={}", certs.join(name).display())).collect()
}

#[test]
fn three_servers_and_their_clients_show_certificates_and_a_token() {
    let mut three = Three::of(|directory| {
        let certs = directory.join("certs");
        assert_eq!(output(&["certs", "--host", "127.0.0.1", "--dir", arg(&certs)]), "");
        std::fs::write(certs.join("token"), "sesame\n").unwrap();
        let mut flags = secrets(&certs);
        flags.push("--client-auth".to_owned());
        flags
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

/// Who listens at a name tells others that name, and no address that no certificate knows.
#[test]
fn certificates_may_be_made_out_to_names_alone() {
    let mut three = Three::of(|directory| {
        let certs = directory.join("certs");
        assert_eq!(output(&["certs", "--host", "localhost", "--dir", arg(&certs)]), "");
        std::fs::write(certs.join("token"), "sesame\n").unwrap();
        secrets(&certs)
    });
    three.host = "localhost";
    for id in 1..=3 {
        three.run(id);
    }
    let certs = three.directory.path().join("certs");
    let ca = format!("--ca={}", certs.join("client-ca.pem").display());
    for (id, value) in [(1, "a"), (2, "b"), (3, "c")] {
        let endpoint = format!("--endpoints={}", three.client_address(id));
        let put = run(&["put", "k", value, "--timeout=60", "--auth=sesame", &ca, &endpoint]);
        assert_eq!(text(&put.stdout), "ok\n", "{}{}", text(&put.stderr), three.log(id));
    }
    for id in 1..=3 {
        assert!(!three.log(id).contains("invalid peer certificate"), "{}", three.log(id));
    }
}

#[test]
fn a_set_with_one_bad_file_changes_nothing_and_a_good_one_changes_all() {
    let mut three = Three::of(|directory| {
        let certs = directory.join("certs");
        assert_eq!(output(&["certs", "--host", "127.0.0.1", "--dir", arg(&certs)]), "");
        let next = directory.join("next");
        assert_eq!(output(&["certs", "--host", "127.0.0.1", "--dir", arg(&next)]), "");
        std::fs::write(certs.join("token"), "sesame\n").unwrap();
        secrets(&certs)
    });
    let (certs, next) = (three.directory.path().join("certs"), three.directory.path().join("next"));
    let again = run(&["certs", "--host", "127.0.0.1", "--dir", arg(&certs)]);
    assert_eq!(again.status.code(), Some(1), "what is there is never replaced");
    std::fs::remove_file(next.join("client.key")).unwrap();
    let before = std::fs::read_dir(&next).unwrap().count();
    assert_eq!(run(&["certs", "--dir", arg(&next)]).status.code(), Some(1));
    assert_eq!(std::fs::read_dir(&next).unwrap().count(), before, "not even what is missing");

    let peer_files = |dir: &Path| Files {
        cert: dir.join("peer.pem"),
        key: dir.join("peer.key"),
        ca: dir.join("peer-ca.pem"),
    };
    let old = three.directory.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for name in ["peer.pem", "peer.key", "peer-ca.pem", "client-ca.pem"] {
        std::fs::copy(certs.join(name), old.join(name)).unwrap();
    }
    three.run(1);
    three.until_log(1, "listening");
    assert!(three.lets_in(1, &peer_files(&old)));

    // The peers' files are good, and the token's; the clients' are not.
    for name in ["peer.pem", "peer.key", "peer-ca.pem"] {
        std::fs::copy(next.join(name), certs.join(name)).unwrap();
    }
    std::fs::write(certs.join("token"), "open\n").unwrap();
    std::fs::write(certs.join("server.pem"), "no certificate").unwrap();
    let is_let_in = |three: &Three, ca: &Path, token: &str| {
        let words = ["get", "k", "--timeout=1", "--auth", token, "--ca"];
        let endpoint = format!("--endpoints={}", three.client_address(1));
        let said = text(&run(&[&words[..], &[arg(ca), &endpoint]].concat()).stderr);
        // Alone it has no leader; whoever is told so was let in.
        !said.contains("a bearer token is needed") && !said.contains("invalid peer certificate")
    };
    three.signal(1, Signal::HUP);
    three.until_log(1, "nothing was read again: all stays as it was");
    assert!(three.log(1).contains("server.pem: it holds no certificate"), "{}", three.log(1));
    assert!(three.lets_in(1, &peer_files(&old)), "the peers' set is the one before");
    assert!(!three.lets_in(1, &peer_files(&next)));
    assert!(is_let_in(&three, &old.join("client-ca.pem"), "sesame"), "the token is the one before");

    for name in ["server.pem", "server.key", "client-ca.pem"] {
        std::fs::copy(next.join(name), certs.join(name)).unwrap();
    }
    three.signal(1, Signal::HUP);
    let read =
        "read again: the certificates between servers, the certificates towards clients, the token";
    three.until_log(1, read);
    assert!(three.lets_in(1, &peer_files(&next)) && !three.lets_in(1, &peer_files(&old)));
    assert!(is_let_in(&three, &next.join("client-ca.pem"), "open"));
    assert!(!is_let_in(&three, &next.join("client-ca.pem"), "sesame"));
    assert!(!is_let_in(&three, &old.join("client-ca.pem"), "open"));
}
