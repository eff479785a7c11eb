//! `raft-sim swarm`: a range of seeds, and their sum.

use std::num::NonZeroUsize;
use std::ops::Range;

use clap::Args;

use super::EXIT_INTERRUPTED;
use super::one::parse_seed;
use super::output::{Output, stop_on_interrupt, tell};
use crate::options::EVENTS_DEFAULT;
use crate::report::worse;
use crate::run::How;
use crate::swarm::Swarm;

/// Which runs.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The seeds, from FIRST to just before END. Each that 16 divides is run twice, to compare.
    #[arg(long, value_name = "FIRST..END", value_parser = parse_range)]
    seeds: Range<u64>,
    /// How many threads [default: one per processor].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// How many events the faults of each run last.
    #[arg(long, default_value_t = EVENTS_DEFAULT)]
    events: u64,
}

/// Runs the seeds.
pub(super) fn main(many: &Arguments, mut output: Output) -> u8 {
    let stop =
        stop_on_interrupt("interrupted: the runs under way are the last (once more: end at once)");
    let jobs = many.jobs.or_else(|| std::thread::available_parallelism().ok());
    let swarm = Swarm {
        seeds: many.seeds.clone(),
        jobs: jobs.map_or(1, NonZeroUsize::get),
        how: How::once(many.events),
    };
    let (summary, speed) = swarm.run(stop, |report| {
        if let Some(failure) = &report.failure {
            let (seed, id) = (report.options.seed, failure.id());
            output.line(format_args!("seed {seed:#x}: {id}: {failure}\n  {}", report.reproduce()));
        }
    });
    output.line(&summary);
    tell(format_args!("speed      {speed}"));
    let is_partial = summary.seeds < summary.asked;
    output.finish(worse(summary.exit_code, if is_partial { EXIT_INTERRUPTED } else { 0 }))
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("a range of seeds is FIRST..END")?;
    let range = parse_seed(first)?..parse_seed(end)?;
    if range.is_empty() { Err("the range of seeds is empty".to_owned()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_two_ends_and_are_not_empty() {
        assert_eq!(parse_range("1..0x10"), Ok(1..16));
        for bad in ["1", "5..5", "6..5", "..3", "1..x"] {
            assert!(parse_range(bad).is_err(), "{bad}");
        }
    }
}
