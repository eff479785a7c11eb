//! Tests that start processes: what `raft-inspect` prints, and a node's storage that is killed.
//!
//! They have a program of their own, with one thread: a child that is being started holds, for a
//! moment, copies of its parent's locks. `cargo test -p raft-replica --test processes -- --rounds 500`
//! kills more often.
#![expect(clippy::unwrap_used, reason = "a test that fails names its line")]
#![expect(clippy::print_stdout, reason = "there is no harness that says what was tested")]

mod inspect;
mod kill;
mod life;

const ROUNDS: u64 = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, directory] = arguments.as_slice()
        && first == kill::CHILD
    {
        return life::live(directory.as_ref());
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let rounds = arguments.iter().position(|argument| argument == "--rounds");
    let rounds = rounds.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(ROUNDS);
    inspect::an_inspection_shows_what_is_there();
    inspect::an_inspection_says_why_it_cannot();
    inspect::a_log_that_may_have_reached_further_is_amiss();
    #[cfg(target_os = "linux")]
    inspect::an_inspection_that_cannot_be_written_fails();
    println!("raft-inspect says what is there, and why it cannot");
    kill::nothing_acknowledged_is_lost(rounds);
}

/// A directory of its own for a test, removed when the test is over.
pub(crate) struct Directory(pub(crate) std::path::PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("raft-processes-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing to be done about a directory that will not go.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
