//! A copy of the tree, in which one file at a time is mutated, and what is built of it.
//!
//! Cargo judges by the time at which a file was changed. A file that is as old as the last build
//! would not be compiled again, and the mutant before it, or none at all, would be tested under its
//! name. So whatever is written here is made newer than the last program, and a program that is the
//! same as without any mutation is an error.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::child::{self, End, Ended};
use super::list::Mutant;

/// A linker may work for long without a word.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// The copy; it is removed when it goes out of use.
#[derive(Debug)]
pub(super) struct Tree {
    directory: PathBuf,
    program: PathBuf,
    jobs: usize,
    /// The checksum of the program without any mutation, once it was built.
    unchanged: Option<u64>,
}

impl Tree {
    /// Copies the tree at `root`: what git tracks or would track, or all but hidden and built files
    /// where there is no git.
    pub(super) fn copy(root: &Path, jobs: usize) -> Result<Self, String> {
        let directory = std::env::temp_dir().join(format!("raft-sim-mutants-{}", process::id()));
        let program = directory
            .join("target/release/raft-sim")
            .with_extension(std::env::consts::EXE_EXTENSION);
        let tree = Self { directory, program, jobs, unchanged: None };
        let files = match tracked(root) {
            Some(files) => files,
            None => walk(root).map_err(|error| format!("cannot read the tree: {error}"))?,
        };
        for file in files {
            // Git also tracks what was removed and not committed yet.
            let from = root.join(&file);
            if from.is_file() {
                let to = tree.directory.join(&file);
                copy_file(&from, &to)
                    .map_err(|error| format!("cannot copy {}: {error}", file.display()))?;
            }
        }
        Ok(tree)
    }

    /// The program that was built last.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Builds the copy as it is.
    pub(super) fn build_unchanged(&mut self, stop: &AtomicBool) -> Result<(), String> {
        let ended = self.build(stop)?;
        match ended.end {
            End::Code(0) => self.unchanged = Some(self.checksum()?),
            End::Interrupted => {}
            End::Code(_) | End::Signal | End::Enough | End::Silent => {
                return Err(format!(
                    "the tree does not build without any mutation:\n{}",
                    told(&ended)
                ));
            }
        }
        Ok(())
    }

    /// Builds a mutant; `false` if it does not compile.
    pub(super) fn build_mutant(&self, mutant: &Mutant, stop: &AtomicBool) -> Result<bool, String> {
        let ended = self.build(stop)?;
        match ended.end {
            End::Code(0) => {}
            End::Interrupted => return Ok(true),
            End::Code(_) | End::Signal | End::Enough | End::Silent => {
                drop(writeln!(io::stderr(), "{}", told(&ended)));
                return Ok(false);
            }
        }
        if Some(self.checksum()?) == self.unchanged {
            let id = &mutant.id;
            return Err(format!("mutant {id}: the program is the same as without the mutation"));
        }
        Ok(true)
    }

    /// Applies a mutation; returns what stood in the file before.
    pub(super) fn mutate(&self, mutant: &Mutant) -> Result<String, String> {
        let Mutant { id, file, .. } = mutant;
        let text = fs::read_to_string(self.directory.join(file))
            .map_err(|error| format!("mutant {id}: cannot read {file}: {error}"))?;
        self.write(file, &mutant.apply(&text)?)?;
        Ok(text)
    }

    /// Puts a file back as it was before its mutation.
    pub(super) fn restore(&self, file: &str, text: &str) -> Result<(), String> {
        self.write(file, text)
    }

    /// Writes a file, newer than the program.
    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        write_newer(&self.directory.join(file), text, &self.program)
            .map_err(|error| format!("cannot write {file} in the copy: {error}"))
    }

    fn build(&self, stop: &AtomicBool) -> Result<Ended, String> {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--release", "--locked", "--package", "raft-sim", "--bin", "raft-sim"])
            .args(["--jobs", &self.jobs.to_string()])
            .current_dir(&self.directory)
            // The copy's own, whatever the caller's environment says.
            .env("CARGO_TARGET_DIR", self.directory.join("target"))
            // None of them changes what the program does; all make the next build shorter.
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true");
        child::run(&mut cargo, PATIENCE, stop, |_| false)
    }

    fn checksum(&self) -> Result<u64, String> {
        let program = fs::read(&self.program)
            .map_err(|error| format!("cannot read the program that was built: {error}"))?;
        Ok(XxHash3_64::oneshot(&program))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            let directory = self.directory.display();
            drop(writeln!(io::stderr(), "cannot remove {directory}: {error}"));
        }
    }
}

fn told(ended: &Ended) -> String {
    ended.stderr.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// Writes `path` and makes it newer than `other`, if that is there.
fn write_newer(path: &Path, text: &str, other: &Path) -> io::Result<()> {
    fs::write(path, text)?;
    let Ok(other) = fs::metadata(other).and_then(|metadata| metadata.modified()) else {
        return Ok(());
    };
    // The clock of a file system may be coarse.
    if fs::metadata(path)?.modified()? <= other {
        File::options().write(true).open(path)?.set_modified(other + Duration::from_secs(1))?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::copy(from, to).map(drop)
}

/// What git tracks, and what it would if it were added; `None` without git.
fn tracked(root: &Path) -> Option<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let output = git.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let files: Vec<_> =
        text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    (!files.is_empty()).then_some(files)
}

/// What is judged, and who judges it; the runner of the matrix is neither.
const JUDGED: [&str; 4] =
    ["raft-core", "raft-kv/replica", "raft-sim/src", ":(exclude)raft-sim/src/mutants"];

/// The last commit that changed what is judged or who judges it, with a `+` if there are changes
/// beyond it; `-` without git.
pub(crate) fn code(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments).arg("--").args(JUDGED).current_dir(root);
        let output = git.output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["log", "-1", "--format=%h"]).filter(|commit| !commit.trim().is_empty());
    let Some(commit) = commit else { return "-".to_owned() };
    let is_changed = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    format!("{}{}", commit.trim(), if is_changed { "+" } else { "" })
}

/// All files below `root`, relative to it, that are neither hidden nor built.
fn walk(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut directories) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let name = entry.file_name();
            let is_hidden = name.to_string_lossy().starts_with('.');
            if is_hidden || name == "target" {
                continue;
            }
            let path = directory.join(name);
            if entry.file_type()?.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let directory = format!("raft-sim-test-{}-{name}", process::id());
            let directory = std::env::temp_dir().join(directory);
            for file in ["Cargo.toml", "a/src/lib.rs", "target/x", "a/target/y", ".git/z"] {
                let path = directory.join(file);
                fs::create_dir_all(path.parent().expect("it is in the directory")).expect("made");
                fs::write(path, "one two").expect("written");
            }
            Self(directory)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("removed");
        }
    }

    #[test]
    fn without_git_a_walk_leaves_out_what_is_hidden_or_built() {
        let scratch = Scratch::new("walk");
        let files = walk(&scratch.0).expect("it can be read");
        assert_eq!(files, [Path::new("Cargo.toml"), Path::new("a/src/lib.rs")]);
    }

    #[test]
    fn what_is_written_is_newer_than_the_last_program() {
        let scratch = Scratch::new("newer");
        let (file, program) = (scratch.0.join("Cargo.toml"), scratch.0.join("target/x"));
        let modified = |path: &Path| {
            fs::metadata(path).and_then(|metadata| metadata.modified()).expect("it has a time")
        };
        let later = modified(&program) + Duration::from_secs(100);
        let open = File::options().write(true).open(&program).expect("it is there");
        open.set_modified(later).expect("set");
        write_newer(&file, "mutated", &program).expect("written");
        assert!(modified(&file) > later, "a build would take the file for old");
        assert_eq!(fs::read_to_string(&file).expect("read"), "mutated");
        write_newer(&file, "restored", &scratch.0.join("target/none"))
            .expect("no program, no time");
    }

    #[test]
    fn a_mutation_is_applied_to_the_copy_and_undone_there() {
        let scratch = Scratch::new("mutate");
        let mutant = Mutant {
            id: "m".to_owned(),
            layer: "vote".to_owned(),
            file: "a/src/lib.rs".to_owned(),
            find: "two".to_owned(),
            replace: "three".to_owned(),
            why: "w".to_owned(),
            invariant: "ES".to_owned(),
            seeds: Some(1),
            explore: None,
            directed: None,
            self_check: None,
        };
        let directory = scratch.0.join("copy");
        let tree = Tree { program: directory.join("p"), directory, jobs: 1, unchanged: None };
        let (from, to) = (scratch.0.join(&mutant.file), tree.directory.join(&mutant.file));
        copy_file(&from, &to).expect("copied");
        let text = tree.mutate(&mutant).expect("it applies");
        assert_eq!(fs::read_to_string(&to).expect("read"), "one three");
        assert!(tree.mutate(&mutant).is_err(), "its text is gone");
        tree.restore(&mutant.file, &text).expect("restored");
        assert_eq!(fs::read_to_string(&to).expect("read"), "one two");
        drop(tree);
        assert!(!to.exists(), "the copy goes");
        assert_eq!(fs::read_to_string(&from).expect("read"), "one two");
    }
}
