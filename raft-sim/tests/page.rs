//! The page of a run, in a real browser.
//!
//! Pages of three runs are written: one of 20,000 events that passes, one whose network forges votes,
//! and one in which snapshots take the place of logs.
//! `page/check.mjs` opens them in a headless Chromium and uses them as a person would. It needs
//! `node` (18 or newer) and `chromium`, and nothing else; without
//! them only what needs no browser is tested, and the output says so.
//!
//! Not under the usual harness, which would show neither what was skipped nor what was measured.
#![expect(clippy::print_stdout, reason = "this is a test runner")]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;

use raft_sim::page::{self, Record};
use raft_sim::report::Report;
use raft_sim::run::{self, How};
use raft_sim::sabotage::Sabotage;
use raft_sim::trace::Trace;
use raft_sim::workload::KeyValue;

fn page_of(seed: u64, how: How) -> (Report, String) {
    let record = Rc::new(RefCell::new(Record::new::<KeyValue>()));
    let report = run::traced(seed, how, Trace::off().watched_by(Rc::clone(&record)));
    let page = page::html(record.replace(Record::new::<KeyValue>()), &report);
    (report, page)
}

/// The seed of a run with a forged vote that elects a second leader.
fn failing() -> (u64, How) {
    let how = How { sabotage: Sabotage::VoteForged, ..How::once(20_000) };
    let fails = |&seed: &u64| run::seed(seed, how).failure.is_some();
    ((0..50).find(fails).expect("forged votes are noticed"), how)
}

fn write(directory: &Path, name: &str, page: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, page).expect("the directory of the build can be written");
    path
}

/// The first of these programs that there is.
fn find(names: &[&str]) -> Option<String> {
    let answers = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    names.iter().find(answers).map(|name| (*name).to_owned())
}

fn main() -> ExitCode {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (report, passing) = page_of(1, How::once(20_000));
    assert!(report.failure.is_none(), "{report}");
    assert_eq!(passing, page_of(1, How::once(20_000)).1, "a seed has one page");
    assert!(passing.len() < 4_000_000, "a page of 20000 events is small: {}", passing.len());
    let (seed, how) = failing();
    let (report, broken) = page_of(seed, how);
    assert!(report.failure.is_some(), "{report}");
    let (report, snapshots) = page_of(2, How::once(20_000));
    assert!(report.stats.restored > 10, "{report}");
    for page in [&passing, &broken, &snapshots] {
        assert_eq!(page.matches("<script").count(), 2, "the data and the program");
        assert_eq!(page.matches("</script").count(), 2, "nothing in the data ends it");
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing is elsewhere");
    }
    let pages =
        [("passing.html", &passing), ("broken.html", &broken), ("snapshots.html", &snapshots)];
    let paths = pages.map(|(name, page)| write(directory, name, page));
    println!("test a_page_is_one_file_and_the_same_every_time ... ok");
    in_browser(directory, &paths)
}

fn in_browser(directory: &Path, pages: &[PathBuf]) -> ExitCode {
    let browsers = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let (node, browser) = (find(&["node"]), find(&browsers));
    let (Some(node), Some(browser)) = (node, browser) else {
        println!(
            "test a_page_in_a_browser ... SKIPPED: node and chromium are needed, and not here"
        );
        return ExitCode::SUCCESS;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/check.mjs");
    let mut command = Command::new(node);
    let status = command.arg(script).arg(browser).arg(directory).args(pages).status();
    let is_ok = status.expect("node starts").success();
    println!("test a_page_in_a_browser ... {}", if is_ok { "ok" } else { "FAILED" });
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
