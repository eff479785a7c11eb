//! The simulator's command line; see [`raft_sim::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(raft_sim::cli::main(std::env::args_os()))
}
