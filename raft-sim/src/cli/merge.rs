//! `raft-sim merge`: one sum of what many machines have found.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::output::{Output, tell};
use super::{EXIT_OUTPUT, EXIT_USAGE};
use crate::results::Merged;

/// Which files.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Files that `swarm --json` has written.
    #[arg(required = true, value_name = "RESULTS")]
    files: Vec<PathBuf>,
}

/// Adds them up.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    let mut merged = Merged::default();
    for path in &arguments.files {
        let name = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                tell(format_args!("error: cannot read {name}: {error}"));
                return EXIT_OUTPUT;
            }
        };
        if let Err((line, why)) = merged.add(&text) {
            tell(format_args!("error: {name}:{line}: {why}"));
            return EXIT_USAGE;
        }
    }
    if merged.is_empty() {
        tell("error: there is no result in these files");
        return EXIT_USAGE;
    }
    output.line(&merged);
    output.finish(merged.exit_code())
}
