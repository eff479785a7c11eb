//! Scripts of whole clusters: each `scripts/NAME.txt` is a story and its outcome, as it is told by
//! `raft_sim::script`.
//!
//! A plain run compares; a run with `UPDATE_EXPECT=1` in the environment writes the outcome anew.
//! Commit only what you can explain line by line.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use raft_sim::explore::{Bounds, Verdict, run_from};
use raft_sim::script;

#[test]
fn every_story_is_told_as_it_is_written() {
    let stories = stories();
    assert!(!stories.is_empty(), "there are stories beside this file");
    for path in stories {
        let before = read(&path);
        let after = script::play(&before).unwrap_or_else(|wrong| panic!("{path:?}: {wrong}"));
        if is_update() {
            fs::write(&path, after).expect("the story can be written");
            continue;
        }
        for (line, (expected, found)) in before.lines().zip(after.lines()).enumerate() {
            let at = line + 1;
            assert_eq!(expected, found, "{path:?}:{at}; UPDATE_EXPECT=1 writes it anew");
        }
        assert_eq!(before, after, "{path:?}: all lines; UPDATE_EXPECT=1 writes them anew");
    }
}

#[test]
fn no_story_breaks_a_promise() {
    for path in stories() {
        let told = script::play(&read(&path)).unwrap_or_else(|wrong| panic!("{path:?}: {wrong}"));
        let violated = told.lines().find(|line| line.starts_with("violated"));
        assert_eq!(violated, None, "{path:?}");
    }
}

/// From stories that stop in the middle, everything that can follow within small bounds, and all that
/// the story wants to be reached.
#[test]
fn what_follows_a_story_keeps_every_promise() {
    let least = Bounds { entries: 0, crashes: 0, attempts: 1, heartbeats: 0, ..Bounds::default() };
    for (name, bounds) in [
        ("figure_8", Bounds { terms: 4, heartbeats: 1, ..least.clone() }),
        ("half_finished_joint_change", Bounds { terms: 1, ..least.clone() }),
        ("both_replaced", Bounds { terms: 2, ..least.clone() }),
        ("longer_older_log", Bounds { terms: 3, ..least.clone() }),
        ("removed_leader", Bounds { terms: 2, ..least.clone() }),
        ("stale_answer", Bounds { terms: 3, reads: 1, ..least.clone() }),
        ("transfer_under_way", Bounds { terms: 2, heartbeats: 1, ..least.clone() }),
        ("doubtful_between_two_leaders", Bounds { terms: 2, heartbeats: 1, ..least.clone() }),
        ("damaged_twice", Bounds { terms: 2, ..least.clone() }),
        ("damaged_snapshot", Bounds { terms: 2, snapshots: 1, ..least }),
    ] {
        let story = stories().into_iter().find(|path| path.file_stem() == Some(name.as_ref()));
        let script = read(&story.expect("it is beside this file"));
        let stop = AtomicBool::new(false);
        let report = run_from(name, &script, &bounds, 1, &stop, |_| {}).expect("it is a script");
        assert_eq!(*report.verdict(), Verdict::Complete, "{name}: {report}");
        assert!(script.contains("\n> reach ") && !report.is_vacuous(), "{name}: {report}");
    }
}

fn stories() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = fs::read_dir(folder).expect("the stories are beside this file");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the folder is readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    paths.sort();
    paths
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("the story can be read")
}

#[expect(clippy::disallowed_methods, reason = "whether to write or to compare is asked outside")]
fn is_update() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}
