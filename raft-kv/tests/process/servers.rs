//! Three terminals.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use hyper::Method;
use hyper::header::AUTHORIZATION;
use raft_kv::client::{Ask, Client, IDEMPOTENCY_KEY};
use raft_replica::file_disk::FileDisk;
use raft_replica::storage::inspect;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PROGRAM, Three, arg, free_ports, output, run, text};

#[test]
fn three_command_lines_are_a_cluster_that_survives_kill_9_and_restarts() {
    let mut three = Three::start();
    assert_eq!(three.put(1, "/kv/k", "1"), "ok");
    let leader = three.leader(1);
    let survivor = leader % 3 + 1;
    three.end(leader, Signal::KILL);
    assert_eq!(three.put(survivor, "/kv/k", "2"), "ok");
    three.run(leader);
    assert_eq!(three.get(leader, "/kv/k"), "2");

    for id in 1..=3 {
        three.end(id, Signal::KILL);
    }
    for id in 1..=3 {
        three.run(id);
    }
    for id in 1..=3 {
        assert_eq!(three.get(id, "/kv/k"), "2", "server {id}");
    }
    for id in 1..=3 {
        assert_eq!(three.end(id, Signal::TERM).code(), Some(0), "{}", three.log(id));
    }
}

#[test]
fn a_cluster_that_comes_back_at_other_addresses_is_the_same_cluster() {
    let mut three = Three::start();
    assert_eq!(three.put(1, "/kv/k", "1"), "ok");
    let members = |three: &Three| -> serde_json::Value {
        serde_json::from_str(&three.get(1, "/cluster/members")).unwrap()
    };
    // Only what is in the book can be in the way.
    let is_noted = |three: &Three| {
        let members = members(three);
        let members = members["members"].as_array().unwrap().clone();
        (1..=3).all(|id| members.iter().any(|it| it["address"] == three.peer_address(id).as_str()))
    };
    let began = std::time::Instant::now();
    while !is_noted(&three) {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", members(&three));
    }
    for id in 1..=3 {
        three.end(id, Signal::TERM);
    }
    three.ports = free_ports(6);
    for id in 1..=3 {
        three.run(id);
    }
    for id in 1..=3 {
        assert_eq!(three.get(id, "/kv/k"), "1", "server {id}");
    }
    assert_eq!(three.put(2, "/kv/k", "2"), "ok");
    let began = std::time::Instant::now();
    while !is_noted(&three) {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", members(&three));
    }
}

#[test]
fn the_verbs_follow_the_leader() {
    let three = Three::start();
    let servers = three.endpoints();
    let verb = |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain(["--endpoints", &servers]).collect();
        output(&words)
    };
    assert_eq!(verb(&["put", "fruit/apple", "red"]), "ok\n");
    assert_eq!(verb(&["put", "fruit/pear", "green"]), "ok\n");
    assert_eq!(verb(&["get", "fruit/apple"]), "red");
    assert_eq!(verb(&["list", "fruit/"]), "fruit/apple\nfruit/pear\n");
    assert_eq!(verb(&["delete", "fruit/pear"]), "ok\n");
    assert!(verb(&["status"]).contains("\"can_fail\": "));
    assert!(verb(&["member", "list"]).contains("\"voters\": ["));
    assert!(verb(&["transfer"]).contains("\"term\""));

    let file = three.directory.path().join("backup");
    assert_eq!(verb(&["put", "stone", "grey"]), "ok\n");
    assert!(verb(&["backup", arg(&file)]).starts_with("2 keys through index "));
    let names = std::fs::read_dir(three.directory.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.contains(&"backup.new".into()), "nothing is left beside it: {names:?}");
    assert_eq!(verb(&["delete", "stone"]), "ok\n");
    assert_eq!(verb(&["put", "fruit/apple", "yellow"]), "ok\n");
    assert_eq!(verb(&["restore", arg(&file)]), "1 keys written, 1 were there and kept\n");
    assert_eq!(verb(&["get", "fruit/apple"]), "yellow");
    assert!(verb(&["restore", "--overwrite", arg(&file)]).starts_with("2 keys written"));
    assert_eq!(verb(&["get", "fruit/apple"]), "red");

    let absent = run(&["get", "nothing", "--endpoints", &servers]);
    assert_eq!(
        (absent.status.code(), text(&absent.stderr).as_str()),
        (Some(1), "raft-kv: the key is absent\n")
    );
}

#[test]
fn a_server_that_hangs_up_reads_its_token_again_and_goes_on() {
    let mut three = Three::of(|directory| {
        std::fs::write(directory.join("token"), "sesame").unwrap();
        vec![format!("--client-token-file={}", directory.join("token").display())]
    });
    let token = three.directory.path().join("token");
    three.run(1);
    three.until_log(1, "listening");
    // Alone it has no leader, which is told to whoever is let in.
    let status = |three: &Three, token: &str| {
        let header = format!("Bearer {token}");
        three.once(1, &Ask::new(Method::GET, "/client/status").header(AUTHORIZATION, &header))
    };
    assert_eq!((status(&three, "sesame"), status(&three, "open")), (503, 401));
    std::fs::write(&token, " ").unwrap();
    three.signal(1, Signal::HUP);
    three.until_log(1, "token: it holds no token");
    assert_eq!((status(&three, "sesame"), status(&three, "open")), (503, 401));
    std::fs::write(&token, "open").unwrap();
    three.signal(1, Signal::HUP);
    three.until_log(1, "read again: the token");
    assert_eq!((status(&three, "sesame"), status(&three, "open")), (401, 503));
    assert_eq!(three.end(1, Signal::TERM).code(), Some(0));

    let mut plain = Three::of(|_| Vec::new());
    plain.run(1);
    plain.until_log(1, "listening");
    plain.signal(1, Signal::HUP);
    plain.until_log(1, "there is nothing to read again");
    assert_eq!(plain.end(1, Signal::TERM).code(), Some(0));
}

#[test]
fn a_cluster_whose_quorum_is_lost_goes_on_as_one_and_fences_the_others() {
    let mut three = Three::start();
    assert_eq!(three.put(1, "/kv/k", "1"), "ok");
    assert_eq!(three.get(2, "/kv/k"), "1");
    for id in 1..=3 {
        three.end(id, Signal::KILL);
    }
    let data = three.data(2);
    let words = ["recover", "--id", "2", "--data-dir", arg(&data), "--as-single"];
    let asked = run(&words);
    assert_eq!(asked.status.code(), Some(1));
    assert!(text(&asked.stderr).contains("servers 1, 3"), "{}", text(&asked.stderr));
    let accepted: Vec<&str> = words.into_iter().chain(["--accept-data-loss"]).collect();
    output(&accepted);
    three.run(2);
    assert_eq!(three.get(2, "/kv/k"), "1");
    assert_eq!(three.put(2, "/kv/k", "2"), "ok");

    // Whatever a server of the old cluster says is refused; it ends if it hears of the new epoch.
    three.run(1);
    assert_eq!(three.put(2, "/kv/k", "3"), "ok");
    let status = three.get(2, "/status");
    assert!(status.contains("\"epoch\":1,"), "{status}");
    assert!(status.contains("\"voters\":[2],"), "{status}");
    assert_eq!(three.get(2, "/kv/k"), "3");
}

/// Every file of a directory, with its bytes.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            all.insert(path, bytes);
        }
    }
    all
}

/// Whatever there is to mend: the operator may have another use for it.
#[test]
fn who_asks_what_a_recovery_would_do_changes_nothing() {
    let mut three = Three::start();
    assert_eq!(three.put(1, "/kv/k", "1"), "ok");
    assert_eq!(three.get(2, "/kv/k"), "1");
    for id in 1..=3 {
        three.end(id, Signal::KILL);
    }
    let data = three.data(2);
    let only_looks = |found: &str| {
        let before = contents(&data);
        let asked = run(&["recover", "--id", "2", "--data-dir", arg(&data), "--as-single"]);
        assert_eq!(asked.status.code(), Some(1));
        let told = text(&asked.stderr);
        assert!(told.contains("this log ends at index") && told.contains("nothing was done"));
        let after = contents(&data);
        let changed = before.keys().chain(after.keys());
        let changed: BTreeSet<_> =
            changed.filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "{found}: {changed:?} changed");
    };
    only_looks("as the end of the process has left it");

    let segments = inspect(&mut FileDisk::read_only(data.join("raft")).unwrap()).unwrap().segments;
    let newest = segments.last().unwrap();
    let path = data.join("raft").join(&newest.file);
    let (mut bytes, end) = (std::fs::read(&path).unwrap(), newest.data_end as usize);
    bytes[(end - 1) / 4096 * 4096..end].fill(0);
    std::fs::write(&path, bytes).unwrap();
    only_looks("the last batch is damaged");
    std::fs::write(data.join("founding.copy.toml"), "rot").unwrap();
    only_looks("so is a copy of the founding");
}

/// Of the only server that is left the newest files of the log are gone, and its hard state knew
/// that more was committed. Nobody has the rest: it goes on without.
#[test]
fn who_recovers_a_log_that_has_lost_its_end_goes_on_without_it() {
    let mut three = Three::of(|_| Vec::new());
    let data = three.data(2);
    let look = || inspect(&mut FileDisk::read_only(data.join("raft")).unwrap()).unwrap();
    let lives = [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"]].map(|values| {
        for id in 1..=3 {
            three.run(id);
        }
        for value in values {
            // It has the entry before there is another, and learns with that one that it is committed.
            assert_eq!(three.put(1, "/kv/k", value), "ok");
            assert_eq!(three.get(2, "/kv/k"), value);
        }
        for id in 1..=3 {
            assert_eq!(three.end(id, Signal::TERM).code(), Some(0), "{}", three.log(id));
        }
        look().segments
    });
    // A start makes a file, and writes in the hard state how far the log is known to be committed.
    let is_old = |file: &str| lives[0].iter().any(|segment| segment.file == file);
    for segment in lives[2].iter().filter(|segment| !is_old(&segment.file)) {
        std::fs::remove_file(data.join("raft").join(&segment.file)).unwrap();
    }
    let found = look();
    assert!(found.is_tail_unknown && found.last.index < found.commit, "{found}");

    let words = ["recover", "--id", "2", "--data-dir", arg(&data), "--as-single"];
    let asked = run(&words);
    assert!(text(&asked.stderr).contains("The end of this log is unknown"), "{found}");
    let accepted: Vec<&str> = words.into_iter().chain(["--accept-data-loss"]).collect();
    output(&accepted);
    let found = look();
    assert!(!found.is_tail_unknown && found.report.is_clean(), "{found}");

    // What was written last is lost before it is started: a name is left of it.
    let newest = found.segments.last().unwrap();
    let path = data.join("raft").join(&newest.file);
    let (whole, end) = (std::fs::read(&path).unwrap(), newest.data_end as usize);
    let mut rotten = whole.clone();
    rotten[(end - 1) / 4096 * 4096..end].fill(0);
    std::fs::write(&path, rotten).unwrap();
    assert_eq!((look().last, look().report.is_clean()), (found.last, false), "{}", look());
    std::fs::write(&path, whole).unwrap();

    three.run(2);
    let left = three.get(2, "/kv/k");
    assert!(["1", "2", "3"].contains(&left.as_str()), "of its first life: {left}");
    assert_eq!(three.put(2, "/kv/k", "10"), "ok");
    assert_eq!(three.get(2, "/kv/k"), "10");
}

#[test]
fn a_watcher_goes_on_at_another_server_and_misses_nothing() {
    let mut three = Three::start();
    assert_eq!(three.put(1, "/kv/before", "0"), "ok");
    let servers = three.endpoints();
    let complaints = std::fs::File::create(three.directory.path().join("complaints")).unwrap();
    let mut watcher = crate::support::command(&["watch", "--endpoints", &servers, "--timeout=60"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .spawn()
        .unwrap();
    let lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let (tell, told) = mpsc::channel();
    // It ends with the watcher.
    let reader = std::thread::spawn(move || {
        lines.map_while(Result::ok).try_for_each(|line| tell.send(line))
    });
    let mut seen = String::new();
    let mut until = |what: &str| {
        while !seen.contains(what) {
            let line = told.recv_timeout(Duration::from_secs(60));
            seen += &line.unwrap_or_else(|_| panic!("{what} is not in {seen}"));
            seen.push('\n');
        }
        seen.clone()
    };
    until(": changes after ");
    assert_eq!(three.put(1, "/kv/a", "1"), "ok");
    until("\"key\":\"a\"");
    // It was at the first one.
    three.end(1, Signal::KILL);
    assert_eq!(three.put(2, "/kv/b", "2"), "ok");
    let seen = until("\"key\":\"b\"");
    assert_eq!(seen.matches("event: put").count(), 2, "{seen}");
    assert!(!seen.contains("before"), "it asked for what comes: {seen}");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    assert_eq!(reader.join().unwrap(), Ok(()));
}

#[test]
fn who_recovers_is_told_of_the_servers_that_there_were_last() {
    let mut three = Three::start();
    assert_eq!(three.put(1, "/kv/k", "1"), "ok");
    let began = std::time::Instant::now();
    let remove = Ask::new(Method::DELETE, "/cluster/members/3");
    while three.once(1, &remove) != 200 {
        // One who has not been heard yet is taken for lost.
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    let voters = |three: &Three| -> serde_json::Value {
        let told = three.get(2, "/cluster/members");
        serde_json::from_str::<serde_json::Value>(&told).unwrap()["membership"].take()
    };
    let two = serde_json::json!({ "voters": [1, 2], "learners": [], "outgoing": [] });
    while voters(&three) != two {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", voters(&three));
    }
    // Both have to have this on their disks, and what stands before it.
    assert_eq!(three.put(1, "/kv/k", "2"), "ok");
    for id in 1..=3 {
        three.end(id, Signal::KILL);
    }
    let data = three.data(2);
    let asked = run(&["recover", "--id", "2", "--data-dir", arg(&data), "--as-single"]);
    let told = text(&asked.stderr);
    assert!(told.contains("What servers 1 have committed"), "{told}");
    assert!(!told.contains("cannot be read") && !told.contains("is unknown"), "{told}");
}

#[test]
fn a_disk_that_fails_ends_the_server_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    // No file may grow beyond some tens of megabytes: sooner or later a snapshot is larger.
    let script = "trap '' XFSZ; ulimit -f 45000; exec \"$0\" \"$@\"";
    let child = Command::new("sh")
        .args(["-c", script, PROGRAM, "--id=1", "--addr=127.0.0.1:0", "--client-addr", &address])
        .args(["--snapshot-after-entries=16", "--disk-reserve-bytes=0", "--data-dir"])
        .arg(directory.path().join("data"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = Client::new(&[address]);
    client.timeout = Duration::from_secs(10);
    let value = vec![b'x'; 1 << 20];
    let mut acknowledged = 0;
    let broken = (0..2000).find_map(|n| {
        let ask = Ask::new(Method::PUT, format!("/kv/{}", n % 60)).body(value.clone());
        match runtime.block_on(client.ask(&ask)) {
            Ok(answer) if answer.status == 200 => {
                acknowledged += 1;
                None
            }
            Ok(answer) => Some(answer.text()),
            Err(error) => Some(error.to_string()),
        }
    });
    assert!(broken.is_some(), "the limit was reached");
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("raft-kv: the disk has failed: "), "{said}");

    // Without the limit it starts again, and has everything that it acknowledged.
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut child = Command::new(PROGRAM)
        .args(["--id=1", "--addr=127.0.0.1:0", "--client-addr", &address, "--data-dir"])
        .arg(directory.path().join("data"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = Client::new(&[address]);
    client.timeout = Duration::from_secs(30);
    for n in 0..acknowledged.min(60) {
        let ask = Ask::new(Method::GET, format!("/kv/{n}"));
        let found = runtime.block_on(client.ask(&ask)).unwrap();
        assert_eq!((found.status.as_u16(), found.body.len()), (200, 1 << 20), "key {n}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn clients_that_take_all_connections_leave_the_disk_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", PROGRAM, "--id=1", "--addr=127.0.0.1:0"])
        .args(["--client-addr", &address, "--disk-reserve-bytes=0", "--data-dir"])
        .arg(directory.path().join("data"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = Client::new(std::slice::from_ref(&address));
    client.timeout = Duration::from_secs(30);
    let put = Ask::new(Method::PUT, "/kv/k").body("v").header(IDEMPOTENCY_KEY, "test/1");
    assert_eq!(runtime.block_on(client.ask(&put)).unwrap().status, 200);
    let held: Vec<_> = (0..100).map(|_| TcpStream::connect(&address)).collect();
    assert!(held.iter().all(Result::is_ok), "the system takes them all");
    drop(held);
    let put = Ask::new(Method::PUT, "/kv/k").body("w").header(IDEMPOTENCY_KEY, "test/2");
    assert_eq!(runtime.block_on(client.ask(&put)).unwrap().status, 200);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("few files may be open"), "{said}");
    assert!(!said.contains("cannot accept"), "{said}");
}
