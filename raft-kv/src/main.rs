//! The binary: a server, or a client of one. `raft-kv --help` tells all of it.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
