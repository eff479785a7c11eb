//! The five-minute tour of the README, as it stands: every command, and what it prints.

use std::path::Path;
use std::process::Command;

use crate::support::{PROGRAM, free_base, text};

/// A command of the tour and the lines that follow it. A line `...` stands for any lines.
struct Step {
    command: String,
    expected: Vec<String>,
}

fn steps(readme: &str) -> Vec<Step> {
    let tour = readme.split("```console\n").nth(1).expect("the README has a tour");
    let tour = tour.split("```").next().expect("a split has a first part");
    let mut steps: Vec<Step> = Vec::new();
    for line in tour.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => {
                steps.push(Step { command: command.to_owned(), expected: Vec::new() });
            }
            None => steps.last_mut().expect("a command").expected.push(line.to_owned()),
        }
    }
    steps
}

#[test]
fn the_tour_of_the_readme_prints_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() > 10, "the tour is longer than that");
    let directory = tempfile::tempdir().unwrap();
    let programs = Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let ports = [free_base(), free_base()];
    let endpoints: Vec<String> = (1..=3).map(|id| format!("127.0.0.1:{}", ports[0] + id)).collect();
    let _stopper = Stopper(directory.path());
    for Step { command, expected } in steps {
        // Only the ports may be others here: somebody else may have the usual ones.
        let mut here = command.clone();
        if command.ends_with("cluster start") {
            here += &format!(" --client-port {} --peer-port {}", ports[0], ports[1]);
        }
        for (id, endpoint) in (1..).zip(&endpoints) {
            here = here.replace(&format!("127.0.0.1:800{id}"), endpoint);
        }
        let output = Command::new("sh")
            .args(["-c", &here])
            .current_dir(directory.path())
            .env("PATH", &path)
            .env("RAFT_KV_ENDPOINTS", endpoints.join(","))
            .env("RAFT_KV_DISK_RESERVE_BYTES", "0")
            .output()
            .unwrap();
        assert!(output.status.success(), "$ {command}\n{}", text(&output.stderr));
        let printed = text(&output.stdout);
        let printed: Vec<&str> = printed.lines().collect();
        if expected.iter().any(|line| line == "...") {
            continue;
        }
        assert_eq!(printed, expected, "$ {command}\n{}", text(&output.stderr));
    }
}

/// Ends what a failed test leaves running.
struct Stopper<'a>(&'a Path);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        let stop = Command::new(PROGRAM).args(["cluster", "stop"]).current_dir(self.0).output();
        drop(stop);
    }
}
