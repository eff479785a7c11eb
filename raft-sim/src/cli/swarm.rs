//! `raft-sim swarm`: a range of seeds, and their sum.

use std::fs::File;
use std::io::{self, BufWriter};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::one::parse_seed;
use super::output::{Output, stop_on_interrupt, tell};
use super::{EXIT_INTERRUPTED, EXIT_OUTPUT, EXIT_USAGE, setup};
use crate::report::{Report, worse};
use crate::results::{Found, Writer};
use crate::run::How;
use crate::swarm::{Ended, Swarm};

/// Which runs.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The seeds, from FIRST to just before END, or without end. Each that 16 divides is run twice,
    /// to compare [default with --time: 0..].
    #[arg(long, value_name = "FIRST..[END]", value_parser = parse_range)]
    #[arg(required_unless_present = "time")]
    seeds: Option<Range<u64>>,
    /// For how long runs begin: 90s, 10m, 2h.
    #[arg(long, value_parser = parse_time)]
    time: Option<Duration>,
    /// The Ith of N equal parts of the seeds, from 1/N to N/N, for many machines.
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<Shard>,
    /// How many threads, with a world each [default: one per processor].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Go on after a run that fails.
    #[arg(long)]
    keep_going: bool,
    /// Write what is found as lines of JSON, for `raft-sim merge`.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    setup: setup::Knobs,
}

/// One of several parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    /// From 1 on.
    number: u64,
    of: u64,
}

impl Shard {
    /// Its part of a range.
    fn part(self, seeds: &Range<u64>) -> Range<u64> {
        let len = u128::from(seeds.end - seeds.start);
        let at = |number: u64| {
            let skipped = len * u128::from(number) / u128::from(self.of);
            seeds.start + u64::try_from(skipped).expect("at most the length of the range")
        };
        at(self.number - 1)..at(self.number)
    }
}

/// Runs the seeds.
pub(super) fn main(many: &Arguments, mut output: Output) -> u8 {
    let seeds = many.seeds.clone().unwrap_or(0..u64::MAX);
    let seeds = many.shard.map_or(seeds.clone(), |shard| shard.part(&seeds));
    // What is wrong with the first seed is most likely wrong with all.
    if many.setup.options(seeds.start).is_none() {
        return EXIT_USAGE;
    }
    let mut file = match many.json.as_deref().map(|path| Json::create(path, many, seeds.start)) {
        None => None,
        Some(Ok(file)) => Some(file),
        Some(Err(exit_code)) => return exit_code,
    };
    let stop =
        stop_on_interrupt("interrupted: the runs under way are the last (once more: end at once)");
    let jobs = many.jobs.or_else(|| std::thread::available_parallelism().ok());
    let setup = many.setup.setup();
    let swarm = Swarm {
        seeds,
        time: many.time,
        jobs: jobs.map_or(1, NonZeroUsize::get),
        how: How::once(setup.events),
        setup,
        keep_going: many.keep_going,
    };
    let mut shortest: Option<Found> = None;
    let (summary, speed, ended) = swarm.run(stop, |report| {
        if let Some(file) = &mut file {
            file.add(report);
        }
        if let Some(found) = report.and_then(Found::of) {
            output.line(&found);
            shortest = shortest.take().into_iter().chain([found]).min();
        }
    });
    if let Some(line) = why(ended, summary.seeds) {
        output.line(line);
    }
    output.line(&summary);
    if let Some(shortest) = shortest.filter(|_| summary.failed > 1) {
        output.line(format_args!("\nThe shortest of {} failures:\n{shortest}", summary.failed));
    }
    tell(format_args!("speed      {speed}"));
    let interrupted = if ended == Ended::Interrupted { EXIT_INTERRUPTED } else { 0 };
    let unwritten = file.map_or(0, Json::end);
    output.finish(worse(worse(summary.exit_code, unwritten), interrupted))
}

/// Why the range is not whole, if it is not.
fn why(ended: Ended, seeds: u64) -> Option<String> {
    match ended {
        Ended::Whole | Ended::Time => None,
        Ended::Failure => Some(format!(
            "partial    the first failure ends it, after {seeds} seeds (--keep-going)"
        )),
        Ended::Interrupted => Some(format!("partial    interrupted after {seeds} seeds")),
    }
}

/// The file that results go to, and what has gone wrong with it.
struct Json {
    name: String,
    writer: Writer<BufWriter<File>>,
    broken: Option<io::Error>,
}

impl Json {
    fn create(path: &Path, many: &Arguments, first: u64) -> Result<Self, u8> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|error| {
            tell(format_args!("error: cannot write to {name}: {error}"));
            EXIT_OUTPUT
        })?;
        let writer = Writer::new(BufWriter::new(file), many.setup.setup().to_string(), first);
        Ok(Self { name, writer, broken: None })
    }

    fn add(&mut self, report: Option<&Report>) {
        if self.broken.is_none() {
            self.broken = self.writer.add(report).err();
        }
    }

    /// The exit code.
    fn end(mut self) -> u8 {
        let Some(error) = self.broken.take().or_else(|| self.writer.end().err()) else { return 0 };
        tell(format_args!("error: cannot write to {}: {error}", self.name));
        EXIT_OUTPUT
    }
}

pub(super) fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("a range of seeds is FIRST..END or FIRST..")?;
    let end = if end.is_empty() { Ok(u64::MAX) } else { parse_seed(end) };
    let range = parse_seed(first)?..end?;
    if range.is_empty() { Err("the range of seeds is empty".to_owned()) } else { Ok(range) }
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    let wrong = "a shard is I/N, from 1/N to N/N";
    let (number, of) = text.split_once('/').ok_or(wrong)?;
    let (number, of) = (number.parse().map_err(|_| wrong)?, of.parse().map_err(|_| wrong)?);
    if (1..=of).contains(&number) { Ok(Shard { number, of }) } else { Err(wrong.to_owned()) }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number with s, m or h, like 90s or 10m".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_not_empty_and_may_be_without_end() {
        assert_eq!(parse_range("1..0x10"), Ok(1..16));
        assert_eq!(parse_range("7.."), Ok(7..u64::MAX));
        for bad in ["1", "5..5", "6..5", "..3", "1..x"] {
            assert!(parse_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shards_cover_a_range_without_overlap() {
        for seeds in [0..1000, 3..10, 0..u64::MAX] {
            let mut turn = seeds.start;
            for number in 1..=7 {
                let part = parse_shard(&format!("{number}/7")).unwrap().part(&seeds);
                assert_eq!(part.start, turn);
                turn = part.end;
            }
            assert_eq!(turn, seeds.end);
        }
        for bad in ["0/4", "5/4", "1", "1/0", "/3", "a/b"] {
            assert!(parse_shard(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_time("2h"), Ok(Duration::from_secs(7_200)));
        for bad in ["", "m", "10", "-1s", "1d", "1µ", "18446744073709551615h"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
