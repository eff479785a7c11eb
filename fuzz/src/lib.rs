//! Fuzzing: what no tester thought of.
//!
//! Each target is a function here that takes bytes and panics if a promise is broken, so the same
//! body serves two purposes. `cargo test` replays the committed corpus through it, with a stable
//! compiler and no engine. `cargo +nightly fuzz run <target>` lets libFuzzer look for new inputs,
//! and `cargo run -p fuzz --bin <target> -- <file>..` replays what it found.
//!
//! | target | bytes are | promise |
//! |---|---|---|
//! | [`wire`](fn@wire) | frames and durable records | refused or understood, never a panic; understood alike again |
//! | [`step`](fn@step) | events in the life of up to eight servers | Raft is safe, and live once faults end |
//! | [`hostile`](fn@hostile) | everything that a node can be told | it stays up and claims only what is durable |
//! | [`recover`](fn@recover) | what a node finds on its disk | refused, or a node that lives |
//! | [`tape`](fn@tape) | what a run of the simulator leaves to chance | no invariant is ever broken |

mod cluster;
mod damage;
mod dice;
mod disk;
mod event;
mod ghost;
mod hostile;
mod quiet;
mod recover;
mod requests;
mod script;
mod server;
mod shape;
mod step;
mod tape;
mod twins;
mod wire;

use std::{env, fs, io};

pub use cluster::{LEADER, Life};
pub use event::Event;
pub use hostile::{hostile, hostile_life};
pub use recover::recover;
pub use shape::Shape;
pub use step::{live, step, step_life};
pub use tape::{tape, tape_run};
pub use twins::{Reached, Turn, twins};
pub use wire::wire;

/// Runs a target's body on every file that the command line names.
///
/// # Errors
/// If a file cannot be read.
///
/// # Panics
/// If a file breaks a promise of the target.
pub fn replay_arguments(body: fn(&[u8])) -> io::Result<()> {
    for path in env::args_os().skip(1) {
        body(&fs::read(path)?);
    }
    Ok(())
}
