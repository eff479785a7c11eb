//! The command line: what it prints where, and how it ends.

use std::process::{Command, Output};

fn raft_sim(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_raft-sim");
    Command::new(program).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes text")
}

#[test]
fn a_seed_prints_the_same_bytes_every_time_and_nothing_else() {
    let (one, two) = (raft_sim(&["--seed", "7"]), raft_sim(&["--seed", "0x7"]));
    assert_eq!(one.status.code(), Some(0), "{}", text(&one.stdout));
    assert_eq!(text(&one.stdout), text(&two.stdout));
    assert!(one.stderr.is_empty(), "{}", text(&one.stderr));
    let shown = text(&one.stdout);
    for part in ["seed       0x7, 20000 events", "\nverdict    passed", "\ndigest     "] {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
}

#[test]
fn verbose_adds_a_line_for_each_transition_and_changes_nothing() {
    let arguments = ["--seed", "3", "--events", "2000"];
    let (plain, verbose) = (raft_sim(&arguments), raft_sim(&[&arguments[..], &["-v"]].concat()));
    let (plain, verbose) = (text(&plain.stdout), text(&verbose.stdout));
    let last = |shown: &str| shown.lines().last().map(str::to_owned);
    assert_eq!(last(&plain), last(&verbose), "the digest is the same");
    assert!(verbose.lines().count() > plain.lines().count() + 50);
    assert!(verbose.contains(" | n1 L t"), "somebody leads");
}

#[test]
fn a_commit_hash_is_a_seed() {
    let hash = "9c8d17f0123456789abcdef0123456789abcdef0";
    let output = raft_sim(&["--seed", hash, "--events", "200"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn mistakes_are_one_line_on_standard_error_and_code_64() {
    let mistakes: [&[&str]; 8] = [
        &[],
        &["--seed"],
        &["--seed", "seven"],
        &["--seed", "1", "--events", "-1"],
        &["--sneed", "1"],
        &["swarm"],
        &["swarm", "--seeds", "5..5"],
        &["swarm", "--seeds", "0..1", "--jobs", "0"],
    ];
    for arguments in mistakes {
        let output = raft_sim(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
        assert!(told.starts_with("error: "), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_is_no_mistake() {
    let output = raft_sim(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("swarm"));
}

#[test]
fn a_swarm_prints_the_same_whatever_the_number_of_threads() {
    let swarm = |jobs| raft_sim(&["swarm", "--seeds", "0..6", "--events", "2000", "--jobs", jobs]);
    let (one, three) = (swarm("1"), swarm("3"));
    assert_eq!(one.status.code(), Some(0));
    assert_eq!(text(&one.stdout), text(&three.stdout));
    assert!(text(&one.stdout).starts_with("seeds      6: 0 failed, 6 passed"));
    assert!(text(&one.stderr).contains("events and"), "the speed goes to standard error");
}
