//! `raft-sim options`: what a run is made of, one option a line.

use clap::Args;

use super::one::parse_seed;
use super::output::Output;
use super::{EXIT_USAGE, setup};

/// Whose options.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The seed.
    #[arg(long, value_name = "N", value_parser = parse_seed)]
    seed: u64,
    #[command(flatten)]
    setup: setup::Knobs,
}

/// Prints them.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    let Some(options) = arguments.setup.options(arguments.seed) else { return EXIT_USAGE };
    for (name, value) in options.knobs() {
        output.line(format_args!("{name}={value}"));
    }
    output.finish(0)
}
