//! `raft-sim self-check`: does this build do what it says, and would it notice if it did not?

use std::num::NonZeroUsize;
use std::ops::Range;
use std::process::Command;

use clap::Args;

use super::output::{Output, stop_on_interrupt, tell};
use super::{EXIT_INTERRUPTED, EXIT_SELF};
use crate::options::EVENTS_DEFAULT;
use crate::report::worse;
use crate::run::{self, How};
use crate::self_check::{self, Finding};

/// Seeds whose runs are compared with those of another process.
const COMPARED: Range<u64> = 1..3;

/// How much is looked at.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The seeds, from FIRST to just before END, in which each class of faults must have an effect.
    #[arg(long, value_name = "FIRST..END", value_parser = super::swarm::parse_range)]
    #[arg(default_value = "0..64")]
    seeds: Range<u64>,
    /// How many threads, with a world each [default: one per processor].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
}

/// Looks, and tells what is not as it should be.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    let stop = stop_on_interrupt("interrupted: the runs under way are the last");
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZeroUsize::get);
    let (findings, effects) = self_check::swarm(arguments.seeds.clone(), jobs, stop);
    let mut exit_code = 0;
    let mut note = |finding: &Finding, output: &mut Output| {
        output.line(finding);
        exit_code = worse(
            exit_code,
            match finding {
                Finding::Failed(found) => found.exit_code,
                Finding::Inert { .. } | Finding::Missed { .. } | Finding::Differs { .. } => {
                    EXIT_SELF
                }
            },
        );
    };
    findings.iter().for_each(|finding| note(finding, &mut output));
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        return output.finish(worse(exit_code, EXIT_INTERRUPTED));
    }
    for finding in COMPARED.filter_map(differs).chain(self_check::claims()) {
        note(&finding, &mut output);
    }
    let few: Vec<&str> = effects.unjudged().into_iter().map(|fault| fault.name()).collect();
    if !few.is_empty() {
        output.line(format_args!("unjudged   {}: on in too few of these runs", few.join(", ")));
    }
    let verdict = if exit_code == 0 { "passed" } else { "FAILED" };
    output.line(format_args!("verdict    {verdict}"));
    output.finish(exit_code)
}

/// Runs a seed here and in another process of this program.
fn differs(seed: u64) -> Option<Finding> {
    let digest = run::seed(seed, How::once(EVENTS_DEFAULT)).digest;
    let program = std::env::current_exe().ok()?;
    let mut command = Command::new(program);
    command.args(["ladder", "--seed", &seed.to_string(), "--every", &u64::MAX.to_string()]);
    let Ok(there) = command.output() else {
        tell("there is no other process: only runs of this one are compared");
        return None;
    };
    let there = String::from_utf8_lossy(&there.stdout).into_owned();
    let is_same = there.lines().last() == Some(&format!("end {digest:016x}"));
    (!is_same).then_some(Finding::Differs { seed })
}
