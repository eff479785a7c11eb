//! `raft-kv cluster`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{arg, command, free_base, output, run, text};

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

/// Runs it elsewhere.
fn run_in(directory: &Path, words: &[&str]) -> Output {
    command(words).current_dir(directory).output().expect("the binary runs")
}

#[test]
fn a_cluster_is_the_same_one_from_wherever_it_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let ports = [free_base(), free_base()].map(|base| base.to_string());
    let start = ["cluster", "start", "--client-port", &ports[0], "--peer-port", &ports[1]];
    let dir = here.join("raft-kv-cluster");
    let stopper = Stopper(dir.clone());
    let started = run_in(here, &start);
    assert!(started.status.success(), "{}", text(&started.stderr));
    let endpoint = format!("127.0.0.1:{}", ports[0].parse::<u16>().unwrap() + 1);
    assert_eq!(output(&["put", "k", "v", "--endpoints", &endpoint]), "ok\n");

    // It was started by a relative name, in another place than this.
    let link = here.join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    let clean = run(&["cluster", "--dir", arg(&link), "clean"]);
    assert_eq!(clean.status.code(), Some(1), "{}", text(&clean.stdout));
    assert_eq!(output(&["cluster", "--dir", arg(&dir), "kill", "1"]), "node1 has ended\n");
    let elsewhere = here.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let again = run_in(&elsewhere, &["cluster", "--dir", arg(&dir), "start-node", "1"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    // It has its data: a stranger would wait to be added.
    assert_eq!(output(&["get", "k", "--endpoints", &endpoint, "--timeout=60"]), "v");
    assert!(std::fs::read_dir(&elsewhere).unwrap().next().is_none(), "nothing is written there");

    // Even under a name that no process knows.
    let moved = here.join("moved");
    std::fs::rename(&dir, &moved).unwrap();
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(moved.join("cluster.toml"), dir.join("cluster.toml")).unwrap();
    for id in 1..=3 {
        std::os::unix::fs::symlink(moved.join(format!("node{id}")), dir.join(format!("node{id}")))
            .unwrap();
    }
    let clean = run_in(here, &["cluster", "clean"]);
    assert_eq!(clean.status.code(), Some(1), "{}", text(&clean.stdout));
    assert!(text(&clean.stderr).contains("runs; stop it first"), "{}", text(&clean.stderr));
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::rename(&moved, &dir).unwrap();
    drop(stopper);
    let clean = run_in(here, &["cluster", "clean"]);
    assert!(clean.status.success(), "{}", text(&clean.stderr));
    assert!(!dir.exists());
}

#[test]
fn a_cluster_is_ready_only_if_its_own_nodes_are() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("cluster");
    let ports = [free_base(), free_base()];
    let (clients, peers) = (ports[0].to_string(), ports[1].to_string());
    let start = |more: &[&str]| {
        let words = ["cluster", "--dir", arg(&dir), "start"];
        run(&[&words, &["--client-port", &clients, "--peer-port", &peers], more].concat())
    };
    let stopper = Stopper(dir.clone());
    // Somebody else is at a node's port, and has an answer to everything.
    let other = TcpListener::bind(("127.0.0.1", ports[0] + 1)).unwrap();
    let closer = other.try_clone().unwrap();
    let answers = std::thread::spawn(move || {
        while let Ok((mut client, _)) = other.accept() {
            let mut request = [0; 1024];
            if client.read(&mut request).unwrap_or_default() == 0 {
                return;
            }
            let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
            // Who has gone away needs no answer.
            drop(client.write_all(answer));
        }
    });
    let taken = start(&[]);
    assert_eq!(taken.status.code(), Some(1), "{}", text(&taken.stdout));
    let said = text(&taken.stderr);
    assert!(said.contains(&format!("cannot listen at 127.0.0.1:{}: ", ports[0] + 1)), "{said}");
    assert!(!dir.join("cluster.toml").exists(), "the next try may ask for other ports");
    // A connection that says nothing ends the other program.
    drop(std::net::TcpStream::connect(closer.local_addr().unwrap()).unwrap());
    answers.join().unwrap();
    drop(closer);

    assert!(text(&start(&[]).stdout).contains("\nready: "));
    assert!(text(&start(&["--nodes=3"]).stdout).contains("node1 runs already\n"));
    for (more, flag) in [("--nodes=5", "--nodes"), ("--client-port=7000", "--client-port")] {
        let words = ["cluster", "--dir", arg(&dir), "start", more];
        let said = text(&run(&words).stderr);
        assert!(said.starts_with(&format!("raft-kv: {flag} is not what ")), "{said}");
    }
    // A node that ends at once is told from one that is slow.
    output(&["cluster", "--dir", arg(&dir), "kill", "2"]);
    std::fs::write(dir.join("node2/founding.toml"), "garbage").unwrap();
    std::fs::write(dir.join("node2/founding.copy.toml"), "garbage").unwrap();
    let said = text(&start(&[]).stderr);
    assert!(said.starts_with("raft-kv: node2 has ended: "), "{said}");
    drop(stopper);
    let far = directory.path().join("far");
    let words = ["cluster", "--dir", arg(&far), "start", "--client-port=65535"];
    assert!(text(&run(&words).stderr).contains("there is no port 65535+1"));
}

/// Ends what a failed test leaves running.
struct Stopper(PathBuf);

impl Drop for Stopper {
    fn drop(&mut self) {
        drop(run(&["cluster", "--dir", arg(&self.0), "stop"]));
    }
}
