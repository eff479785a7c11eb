//! What the command line understands, and what it says when it does not.

use std::net::TcpListener;

use crate::support::{arg, command, run, text};

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.toml");
    let content = "heartbeat_ms = 60\nelection_timeout_ms = 600\nrequest_timeout_ms = 6000\n\
        [nodes.node1]\nid = 1\naddr = \"127.0.0.1:9001\"\nclient_addr = \"127.0.0.1:8001\"\n\
        data_dir = \"data/node1\"\n\
        [nodes.node2]\nid = 2\naddr = \"127.0.0.1:9002\"\n";
    std::fs::write(&file, content).unwrap();
    let words = ["-c", arg(&file), "-n", "node1", "--heartbeat-ms", "80", "--print-config"];
    let output = command(&words)
        .env("RAFT_KV_HEARTBEAT_MS", "70")
        .env("RAFT_KV_ELECTION_TIMEOUT_MS", "700")
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    for line in [
        "heartbeat_ms = 80",
        "election_timeout_ms = 700",
        "request_timeout_ms = 6000",
        "on_follower = \"forward\"",
        "[nodes.node2]",
        "addr = \"127.0.0.1:9002\"",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (file, token) = (directory.path().join("printed.toml"), directory.path().join("token"));
    std::fs::write(&token, "sesame").unwrap();
    let told = [
        "--id=2",
        "--addr=127.0.0.1:1",
        "--client-addr=127.0.0.1:2",
        "--data-dir=d",
        "--peers=1=127.0.0.1:3,3=127.0.0.1:4",
        "--max-value-bytes=77",
        "--print-config",
    ];
    let with = |more: &str| text(&run(&[&told[..], &[more]].concat()).stdout);
    let by_file = format!("--client-token-file={}", token.display());
    for (name, printed) in [
        ("node2", with(&by_file)),
        ("node2", with("--log-format=json")),
        ("node2", with("--token=sesame")),
    ] {
        std::fs::write(&file, &printed).unwrap();
        let again = run(&["-c", arg(&file), "-n", name, "--print-config"]);
        let said = text(&again.stderr);
        let secret = "# A token is set, and not shown here.\n";
        assert_eq!(text(&again.stdout), printed.trim_start_matches(secret), "{said}");
        assert!(!printed.contains("sesame") && printed.contains("max_value_bytes = 77"));
    }
    assert!(with("--token=sesame").starts_with('#'), "it is said that there is one");
    assert!(with(&by_file).contains("client_token_file = "));
}

/// The command line wins also where it says the same thing in another way.
#[test]
fn a_flag_wins_over_the_other_form_of_its_setting() {
    let directory = tempfile::tempdir().unwrap();
    let (file, token) = (directory.path().join("cluster.toml"), directory.path().join("token"));
    std::fs::write(&token, "sesame").unwrap();
    let content = "token = \"from the file\"\n[nodes.node1]\nid = 1\naddr = \"127.0.0.1:1\"\n\
        client_addr = \"127.0.0.1:2\"\ndata_dir = \"d\"\n";
    std::fs::write(&file, content).unwrap();
    let base = ["-c", arg(&file), "-n", "node1", "--print-config"];
    let by_file = format!("--client-token-file={}", token.display());
    let shown = |flags: &[&str], name: &str, value: &str| {
        let output = command(&[&base[..], flags].concat()).env(name, value).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let names_file = |printed: &str| printed.contains("client_token_file");
    assert!(names_file(&shown(&[&by_file], "RAFT_KV_HEARTBEAT_MS", "50")), "over the file");
    assert!(names_file(&shown(&[&by_file], "RAFT_KV_TOKEN", "from here")), "over the environment");
    assert!(!names_file(&shown(&["--token=x"], "RAFT_KV_CLIENT_TOKEN_FILE", arg(&token))));
    assert!(names_file(&shown(&[], "RAFT_KV_CLIENT_TOKEN_FILE", arg(&token))));
    let peers = shown(&["--peer=2=127.0.0.1:5"], "RAFT_KV_PEERS", "2=127.0.0.1:4,3=127.0.0.1:6");
    assert!(peers.contains("127.0.0.1:5") && !peers.contains("127.0.0.1:6"), "{peers}");

    let both = run(&[&base[..], &[&by_file, "--token=x"]].concat());
    assert_eq!(both.status.code(), Some(64), "two on one line are one too many");
}

#[test]
fn peers_may_be_named_all_in_one() {
    let words = [
        "--id=1",
        "--addr=127.0.0.1:1",
        "--client-addr=127.0.0.1:2",
        "--data-dir=d",
        "--peers=2=127.0.0.1:3,3=127.0.0.1:4",
        "--print-config",
    ];
    let printed = text(&run(&words).stdout);
    for line in ["[nodes.node2]\nid = 2\naddr = \"127.0.0.1:3\"\n", "addr = \"127.0.0.1:4\"\n"] {
        assert!(printed.contains(line), "{line} is not in\n{printed}");
    }
}

/// The arguments of a server that would start, with these instead or in addition.
fn refused(words: &[&str], code: i32, says: &str) {
    let output = run(words);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    assert!(said.contains(says), "{words:?}: {said}");
}

#[test]
fn what_makes_no_sense_is_said_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = arg(&data);
    let base = ["--id=1", "--addr=127.0.0.1:0", "--client-addr=127.0.0.1:0", "--data-dir", data];
    let with = |more: &[&'static str]| -> Vec<&str> {
        base.iter().copied().chain(more.iter().copied()).collect()
    };
    refused(&[], 64, "raft-kv: --id is missing\n");
    refused(&["--id", "one"], 64, "invalid value 'one'");
    refused(&with(&["--peer", "127.0.0.1:9002"]), 64, "it is ID=HOST:PORT");
    refused(&with(&["--peer", "1=127.0.0.1:9002"]), 64, "--peer names this server itself");
    refused(&with(&["--peer", "2=a:1", "--peer", "2=b:1"]), 64, "server 2 is named twice");
    refused(&with(&["--heartbeat-ms", "200"]), 64, "election timeout is less than two heartbeat");
    refused(&with(&["-c", "nowhere.toml", "-n", "node1"]), 64, "nowhere.toml: ");
    refused(&with(&["--max-key-bytes", "9999"]), 64, "--max-key-bytes is 1 to 4096");
    refused(&["frobnicate"], 64, "unrecognized subcommand");
    refused(&with(&["--peer", "2=somewhere"]), 64, "somewhere is no HOST:PORT");
    refused(&with(&["--advertise-addr", "here"]), 64, "--advertise-addr is HOST:PORT, not here\n");
    let everywhere = |flags: &[&'static str], says: &str| {
        let base = ["--id=1", "--data-dir", data];
        refused(&[&base[..], flags].concat(), 64, says);
    };
    everywhere(
        &["--addr=0.0.0.0:9001", "--client-addr=127.0.0.1:0"],
        "raft-kv: --addr 0.0.0.0:9001 is every address of a machine: --advertise-addr must say",
    );
    everywhere(
        &["--addr=127.0.0.1:0", "--client-addr=[::]:8001"],
        "--client-addr [::]:8001 is every address of a machine: --advertise-client-url must say",
    );
    refused(&with(&["--advertise-addr=[::]:1"]), 64, "--advertise-addr [::]:1 is every address");
    refused(&with(&["--advertise-client-url=http://0.0.0.0:1"]), 64, "is every address");
    refused(&with(&["--peer=2=0.0.0.0:1"]), 64, "server 2 cannot be reached at 0.0.0.0:1, ");
    refused(&with(&["--request-timeout-ms", "0"]), 64, "--request-timeout-ms is at least 1\n");
    refused(&with(&["--snapshot-after-entries", "0"]), 64, "entries is at least 1\n");
    refused(&with(&["--max-value-bytes", "0"]), 64, "--max-value-bytes is 1 to ");
    let huge = "--max-inflight-bytes=9999999999999999999";
    refused(&with(&[huge]), 64, "raft-kv: --max-inflight-bytes is at most 1099511627776 (1 TiB)\n");
    refused(&["get", "k", "--endpoints", "nonsense"], 1, "nonsense is no HOST:PORT and no URL\n");
    refused(&["get", "k", "--endpoints", ""], 1, " is no HOST:PORT and no URL\n");
    refused(
        &with(&["--peer-cert", "a.pem"]),
        64,
        "--peer-cert, --peer-key and --peer-ca go together",
    );
    refused(&with(&["--client-auth"]), 64, "--client-auth needs --client-cert");
    refused(&with(&["--client-token-file", "nowhere.token"]), 64, "nowhere.token: ");
    refused(&["restore", "nowhere.backup"], 1, "raft-kv: nowhere.backup: ");
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_does_not_start_as_if_it_had_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let base = ["--id=1", "--addr=127.0.0.1:0", "--client-addr=127.0.0.1:0", "--data-dir"];
    for kind in ["peer", "client"] {
        let files = ["cert", "key", "ca"].map(|file| format!("--{kind}-{file}={file}.pem"));
        let words = base.iter().copied().chain([arg(&data)]);
        let words: Vec<&str> = words.chain(files.iter().map(String::as_str)).collect();
        refused(&words, 1, "cert.pem asks for TLS, and this program was built without");
    }
    refused(&["get", "k", "--ca", "ca.pem"], 1, "ca.pem asks for TLS");
}

#[test]
fn a_port_in_use_and_a_directory_of_something_else_end_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = directory.path().join("data");
    let words =
        ["--id=1", "--addr", &address, "--client-addr=127.0.0.1:0", "--data-dir", arg(&data)];
    refused(&words, 1, &format!("raft-kv: cannot listen at {address}: "));

    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let words =
        ["--id=1", "--addr=127.0.0.1:0", "--client-addr=127.0.0.1:0", "--data-dir", arg(&file)];
    refused(&words, 1, "file: not a directory\n");

    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let words =
        ["--id=1", "--addr=127.0.0.1:0", "--client-addr=127.0.0.1:0", "--data-dir", arg(&foreign)];
    refused(&words, 1, "is no data directory, and it is not empty: it holds letter.txt\n");
}
