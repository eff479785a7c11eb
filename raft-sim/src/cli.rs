//! The command line: `raft-sim --seed N`, and `raft-sim swarm`.
//!
//! What a run says goes to standard output and is the same every time; progress and rates go to
//! standard error. A mistake in the arguments is one line on standard error and exit code 64, since
//! 2 means that an invariant is broken.

use std::cell::RefCell;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use xxhash_rust::xxh3::xxh3_64;

use crate::options::{EVENTS_DEFAULT, Options};
use crate::run::{self, How};
use crate::swarm::Swarm;
use crate::trace::Trace;

/// The arguments make no sense.
pub const EXIT_USAGE: u8 = 64;
/// Standard output cannot be written.
const EXIT_OUTPUT: u8 = 74;

/// Simulates whole clusters from a seed and checks every promise that they make.
#[derive(Clone, Debug, Parser)]
#[command(name = "raft-sim", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    one: Option<One>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Runs a range of seeds and sums up.
    Swarm(Many),
}

#[derive(Clone, Debug, Args)]
struct One {
    /// The seed: decimal, hexadecimal with 0x, or a commit hash, which is what 40 hexadecimal
    /// digits without 0x are taken for.
    #[arg(long, value_parser = parse_seed)]
    seed: u64,
    /// How many events the faults last.
    #[arg(long, default_value_t = EVENTS_DEFAULT)]
    events: u64,
    /// Print a line for each transition.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Debug, Args)]
struct Many {
    /// The seeds, as FIRST..END.
    #[arg(long, value_parser = parse_range)]
    seeds: Range<u64>,
    /// How many threads [default: one per processor].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// How many events the faults of each run last.
    #[arg(long, default_value_t = EVENTS_DEFAULT)]
    events: u64,
}

/// Runs the program with these arguments (the first is its name) and returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = String>) -> u8 {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let cli = Cli::command().try_get_matches_from(arguments);
    let cli = match cli.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            return finish(write!(out, "{error}"), 0);
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or("the arguments make no sense");
            return finish(writeln!(err, "{line} (see --help)"), EXIT_USAGE);
        }
    };
    run::catch_panics();
    match (cli.command, cli.one) {
        (Some(Command::Swarm(many)), _) => swarm(&many, &mut out),
        (None, Some(one)) => single(&one, &mut out),
        (None, None) => {
            finish(writeln!(err, "error: a seed is needed: --seed N (see --help)"), EXIT_USAGE)
        }
    }
}

fn single(one: &One, out: &mut impl Write) -> u8 {
    let written = writeln!(out, "{}\n", Options::draw(one.seed, one.events));
    let broken = Rc::new(RefCell::new(written));
    let shown = Rc::clone(&broken);
    let trace = Trace::shown(move |line| {
        let mut written = shown.borrow_mut();
        if written.is_ok() {
            *written = writeln!(io::stdout(), "{line}");
        }
    });
    let how = How { twice: true, ..How::once(one.events) };
    let report = run::traced(one.seed, how, if one.verbose { trace } else { Trace::off() });
    let written = broken.replace(Ok(())).and_then(|()| writeln!(out, "{report}"));
    finish(written, report.exit_code())
}

fn swarm(many: &Many, out: &mut impl Write) -> u8 {
    let jobs = many.jobs.or_else(|| std::thread::available_parallelism().ok());
    let swarm = Swarm {
        seeds: many.seeds.clone(),
        jobs: jobs.map_or(1, NonZeroUsize::get),
        how: How::once(many.events),
    };
    let mut written = Ok(());
    let (summary, speed) = swarm.run(|report| {
        let line = report.failure.as_ref().map(|failure| format!("{}: {failure}", failure.id()));
        let result = writeln!(out, "{}\n  {}", line.unwrap_or_default(), report.reproduce());
        if written.is_ok() {
            written = result;
        }
    });
    let written = written
        .and_then(|()| writeln!(out, "{summary}"))
        .and_then(|()| writeln!(io::stderr(), "speed      {speed}"));
    finish(written, summary.exit_code)
}

/// The exit code, unless what it is about could not be told.
fn finish(written: io::Result<()>, exit_code: u8) -> u8 {
    written.map_or(EXIT_OUTPUT, |()| exit_code)
}

/// Reads a seed.
///
/// # Errors
/// A sentence that says what a seed looks like.
pub fn parse_seed(text: &str) -> Result<u64, String> {
    let is_hash = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash {
        return Ok(xxh3_64(text.to_ascii_lowercase().as_bytes()));
    }
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // The standard library also takes a sign, which no seed has.
    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
    is_number.then(|| u64::from_str_radix(digits, radix).ok()).flatten().ok_or_else(|| {
        "a seed is a number of 64 bits, decimal or with 0x, or a commit hash of 40 digits"
            .to_owned()
    })
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
    fn seeds_are_decimal_hexadecimal_or_commit_hashes() {
        assert_eq!(parse_seed("7"), Ok(7));
        assert_eq!(parse_seed("0xFF"), Ok(255));
        let hash = "9C8D17F0123456789abcdef0123456789abcdef0";
        assert_eq!(parse_seed(hash), parse_seed(&hash.to_ascii_lowercase()));
        for bad in ["", "-1", "+7", "0x", "0x+7", " 7", "seven", "18446744073709551616", "9c8d17f"]
        {
            assert!(parse_seed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_have_two_ends_and_are_not_empty() {
        assert_eq!(parse_range("1..0x10"), Ok(1..16));
        for bad in ["1", "5..5", "6..5", "..3", "1..x"] {
            assert!(parse_range(bad).is_err(), "{bad}");
        }
    }
}
