//! `raft-kv cluster`.

use crate::support::{arg, free_base, output, run, text};

#[test]
fn one_command_starts_a_cluster_and_the_others_manage_it() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("cluster");
    let cluster = |words: &[&str]| {
        let words: Vec<&str> =
            ["cluster", "--dir", arg(&dir)].into_iter().chain(words.iter().copied()).collect();
        output(&words)
    };
    let ports = [free_base(), free_base()];
    let (clients, peers) = (ports[0].to_string(), ports[1].to_string());
    let started = cluster(&["start", "--client-port", &clients, "--peer-port", &peers]);
    assert!(started.contains("\nready: 127.0.0.1:"), "{started}");
    let stopper = Stopper(dir.clone());
    let endpoint = format!("127.0.0.1:{}", ports[0] + 1);
    let servers = ["--endpoints", endpoint.as_str()];
    assert_eq!(output(&["put", "k", "v", servers[0], servers[1]]), "ok\n");

    assert_eq!(cluster(&["kill", "2"]), "node2 has ended\n");
    assert!(cluster(&["status"]).contains(" does not run"));
    assert_eq!(output(&["put", "k", "w", servers[0], servers[1]]), "ok\n");
    assert!(cluster(&["start-node", "2"]).starts_with("node2 runs as process "));
    let logs = cluster(&["logs"]);
    assert!(logs.contains("\u{1b}[36mnode1\u{1b}[0m") && logs.contains("listening"), "{logs}");

    let early = run(&["cluster", "--dir", arg(&dir), "clean"]);
    assert_eq!(early.status.code(), Some(1));
    assert!(text(&early.stderr).contains("runs; stop it first"));
    assert_eq!(cluster(&["stop"]).lines().count(), 3);
    drop(stopper);
    cluster(&["clean"]);
    assert!(!dir.exists());
}

/// Ends what a failed test leaves running.
struct Stopper(std::path::PathBuf);

impl Drop for Stopper {
    fn drop(&mut self) {
        drop(run(&["cluster", "--dir", arg(&self.0), "stop"]));
    }
}
