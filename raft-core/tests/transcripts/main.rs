//! Golden transcripts: the stories from which a reader learns Raft, told by the core itself.
//!
//! Each `NAME.txt` beside this file is a script and its outcome. Lines that begin with `#` speak to
//! the reader, lines that begin with `>` are commands (see `script.rs`), and all others are what
//! the nodes did, as the one `Display` of effects, messages and status prints it. A plain run
//! compares; a run with `UPDATE_EXPECT=1` in the environment writes the outcome anew: commit only
//! what you can explain line by line.

mod script;
#[expect(dead_code, reason = "shared with tests of the core that look at more")]
#[path = "../core/support.rs"]
mod support;

use std::fs;
use std::path::PathBuf;

const STORIES: &[&str] = &[
    "election",
    "figure_7",
    "figure_8",
    "joint_change",
    "lagging_commit",
    "lease",
    "lost_quorum",
    "restart",
    "snapshot",
    "transfer",
];

#[test]
fn a_leader_is_elected() {
    compare("election");
}

#[test]
fn the_logs_of_figure_7_converge() {
    compare("figure_7");
}

#[test]
fn the_story_of_figure_8_cannot_lose_a_committed_entry() {
    compare("figure_8");
}

#[test]
fn a_server_is_replaced_through_a_joint_membership() {
    compare("joint_change");
}

#[test]
fn a_leader_hands_over() {
    compare("transfer");
}

#[test]
fn a_follower_learns_the_commit_index_late() {
    compare("lagging_commit");
}

#[test]
fn a_leader_reads_by_lease() {
    compare("lease");
}

#[test]
fn an_operator_overrides_a_lost_quorum() {
    compare("lost_quorum");
}

#[test]
fn a_server_comes_back_in_the_same_term() {
    compare("restart");
}

#[test]
fn a_snapshot_replaces_a_log_that_is_gone() {
    compare("snapshot");
}

/// A story that no test names would never be compared.
#[test]
fn every_story_has_its_test() {
    let folder = fs::read_dir(path("")).expect("the stories are beside this file");
    let mut found: Vec<String> = folder
        .map(|entry| entry.expect("the folder is readable").file_name())
        .filter_map(|name| name.to_string_lossy().strip_suffix(".txt").map(str::to_owned))
        .collect();
    found.sort();
    assert_eq!(found, STORIES);
}

fn compare(story: &str) {
    assert!(STORIES.contains(&story), "{story} is listed");
    let path = path(&format!("{story}.txt"));
    let before = fs::read_to_string(&path).expect("the story is beside this file");
    let after = script::tell(&before);
    if is_update() {
        fs::write(&path, after).expect("the story can be written");
        return;
    }
    for (line, (expected, found)) in before.lines().zip(after.lines()).enumerate() {
        let at = line + 1;
        assert_eq!(expected, found, "{story}.txt:{at}; UPDATE_EXPECT=1 writes it anew");
    }
    assert_eq!(before.lines().count(), after.lines().count(), "{story}.txt: lines at the end");
}

#[expect(clippy::disallowed_methods, reason = "whether to write or to compare is asked outside")]
fn is_update() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name)
}
