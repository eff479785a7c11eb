//! A server whose disk has lost what it had promised, and still has what the others have lost.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use hyper::Method;
use raft_kv::client::Ask;
use rustix::process::Signal;

use crate::support::{Three, arg, output, run, text};

/// Flips a byte in the middle of the value, in the log of a server.
fn hurt(data: &Path) {
    for entry in std::fs::read_dir(data.join("raft/wal")).unwrap() {
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

#[test]
fn a_server_without_its_promises_brings_back_the_last_good_copy_of_an_entry() {
    let mut three = Three::of(|_| vec!["--scrub-bytes-per-s=1073741824".to_owned()]);
    for id in 1..=3 {
        three.run(id);
    }
    let put = |three: &Three, path: &str, value: Vec<u8>| {
        let ask = Ask::new(Method::PUT, path.to_owned()).body(value);
        assert_eq!(three.ask(1, &ask).text(), "ok");
    };
    put(&three, "/kv/lost", vec![b'v'; 100_000]);
    // What is newer is in memory after a start, and would be written again from there.
    for key in 0..18 {
        put(&three, &format!("/kv/{key}"), vec![b'x'; 1 << 20]);
    }
    for id in 1..=3 {
        assert_eq!(three.get(id, "/kv/17").len(), 1 << 20);
    }
    for id in 1..=3 {
        three.end(id, Signal::TERM);
    }
    let data = three.data(3);
    for file in ["hs.a", "hs.b"] {
        std::fs::remove_file(data.join("raft").join(file)).unwrap();
    }
    for id in [1, 2] {
        three.run(id);
    }
    for id in [1, 2] {
        assert_eq!(three.get(id, "/kv/17").len(), 1 << 20);
        hurt(&three.data(id));
    }
    for id in [1, 2] {
        let is_lost = |status: &serde_json::Value| status["disk"]["damaged_entries"] == 1;
        three.until_status(id, "nobody has it", is_lost);
    }

    // It does not start: it might vote twice.
    three.run(3);
    assert_eq!(three.ended(3).code(), Some(1), "{}", three.log(3));
    assert!(three.log(3).contains("cannot know what it has promised"), "{}", three.log(3));
    let readmit = ["readmit", "--id", "3", "--data-dir", arg(&data)];
    output(&readmit);
    let again = run(&readmit);
    assert_eq!(again.status.code(), Some(1));
    let said = text(&again.stderr);
    assert!(said.contains("it needs no new lineage"), "{said}");

    three.run(3);
    assert_eq!(three.get(3, "/livez"), "ok", "whoever is asked for it answers");
    let (servers, address) = (three.endpoints(), three.peer_address(3));
    output(&["member", "add", "3", &address, "--endpoints", &servers]);
    for id in [1, 2] {
        let is_whole = |status: &serde_json::Value| status["disk"]["damaged_entries"] == 0;
        three.until_status(id, "the third one has it", is_whole);
    }
    assert_eq!(three.get(3, "/kv/lost").len(), 100_000);
    for id in 1..=3 {
        assert_eq!(three.end(id, Signal::TERM).code(), Some(0), "{}", three.log(id));
    }
}

/// A crash between the new lineage on the disk and its name in the directory: the next attempt goes on
/// with what is there.
#[test]
fn a_readmission_that_was_cut_short_is_finished() {
    let mut three = Three::start();
    assert_eq!(three.put(1, "/kv/k", "v"), "ok");
    assert_eq!(three.get(3, "/kv/k"), "v");
    three.end(3, Signal::KILL);
    let data = three.data(3);
    let names = ["founding.toml", "founding.copy.toml"];
    let before = names.map(|name| std::fs::read(data.join(name)).unwrap());
    std::fs::remove_file(data.join("raft/hs.b")).unwrap();
    let readmit = ["readmit", "--id", "3", "--data-dir", arg(&data)];
    let said = text(&run(&readmit).stderr);
    let lineage = |said: &str| said.split("new lineage ").nth(1).map(|said| said[..16].to_owned());
    let first = lineage(&said).expect("it has one");
    for (name, bytes) in names.iter().zip(before) {
        std::fs::write(data.join(name), bytes).unwrap();
    }
    three.run(3);
    assert_eq!(
        three.ended(3).code(),
        Some(1),
        "it is not who the directory says: {}",
        three.log(3)
    );
    let said = text(&run(&readmit).stderr);
    assert_eq!(lineage(&said), Some(first), "{said}");
    three.run(3);
    assert_eq!(three.get(3, "/livez"), "ok", "whoever is asked for it answers");
    let (servers, address) = (three.endpoints(), three.peer_address(3));
    output(&["member", "add", "3", &address, "--endpoints", &servers]);
    assert_eq!(three.get(3, "/kv/k"), "v");
}
