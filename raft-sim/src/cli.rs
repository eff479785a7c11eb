//! The command line: `raft-sim --seed N`, and its subcommands.
//!
//! What a run says goes to standard output and is the same every time; progress and rates go to
//! standard error, and whether those can be written changes nothing. A mistake in the arguments is
//! one line on standard error and exit code 64, since 2 means that an invariant is broken.

mod explore;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use xxhash_rust::xxh3::xxh3_64;

use crate::mutants;
use crate::options::{EVENTS_DEFAULT, Options};
use crate::report::worse;
use crate::run::{self, How};
use crate::swarm::Swarm;
use crate::trace::Trace;

/// The arguments make no sense.
pub const EXIT_USAGE: u8 = 64;
/// Standard output cannot be written, and nothing worse is to be told.
pub const EXIT_OUTPUT: u8 = 74;
/// Somebody has pressed Ctrl-C, or memory has reached its limit, and nothing worse is to be told.
pub const EXIT_INTERRUPTED: u8 = 130;

/// From how many events on a single run shows its progress.
const LONG_EVENTS: u64 = 200_001;

const AFTER_HELP: &str = "\
Exit codes (if several apply, a failure of the cluster comes first):
    0  passed
    1  a mutant cannot be tested
    2  safety: an invariant is violated
    3  liveness: the healed cluster does not get going again; or an exploration is complete
       and has not reached what its bounds demand
    4  determinism: two runs of one seed differ
    5  a mutant has survived
   64  the arguments make no sense
   74  standard output cannot be written
  101  the product has panicked
  130  interrupted by Ctrl-C, or stopped at --memory-max

A seed is bound to one version of the program: another version may make another run of it.";

/// Simulates whole clusters from a seed and checks every promise that they make.
#[derive(Clone, Debug, Parser)]
#[command(name = "raft-sim", version, args_conflicts_with_subcommands = true)]
#[command(after_help = AFTER_HELP)]
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
    /// Breaks the code on purpose, again and again, and shows who notices.
    Mutants(mutants::Options),
    /// Visits every state that a small cluster can get into, and checks every promise there.
    Explore(explore::Arguments),
}

#[derive(Clone, Debug, Args)]
struct One {
    /// The seed: decimal, hexadecimal with 0x, or a commit hash, which is what 40 hexadecimal
    /// digits without 0x are taken for.
    #[arg(long, value_name = "N", value_parser = parse_seed)]
    seed: u64,
    /// How many events the faults last.
    #[arg(long, default_value_t = EVENTS_DEFAULT)]
    events: u64,
    /// Print a line for each transition, as it happens.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Debug, Args)]
struct Many {
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

/// Runs the program with these arguments (the first is its name) and returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let mut output = Output::default();
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(Refusal::Asked(text)) => {
            output.line(text.trim_end());
            return output.finish(0);
        }
        Err(Refusal::Mistake(line)) => {
            tell(format_args!("error: {line} (see --help)"));
            return EXIT_USAGE;
        }
    };
    run::catch_panics();
    match (cli.command, cli.one) {
        (Some(Command::Swarm(many)), _) => swarm(&many, output),
        (Some(Command::Mutants(options)), _) => {
            let exit_code =
                mutants::main(&options, stop_on_interrupt("interrupted: cleaning up"), |shown| {
                    output.line(shown)
                });
            output.finish(exit_code)
        }
        (Some(Command::Explore(arguments)), _) => explore::main(&arguments, output),
        (None, Some(one)) => single(&one, output),
        (None, None) => {
            tell(format_args!("error: {} (see --help)", missing(&[])));
            EXIT_USAGE
        }
    }
}

/// Why there is nothing to run.
enum Refusal {
    /// Help or the version was asked for: a text for standard output.
    Asked(String),
    /// One line says what is wrong.
    Mistake(String),
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    let text = |argument: OsString| {
        argument.into_string().map_err(|argument| {
            Refusal::Mistake(format!("the argument {argument:?} is not valid Unicode"))
        })
    };
    let arguments: Vec<String> = arguments.into_iter().map(text).collect::<Result<_, _>>()?;
    let matches = Cli::command().try_get_matches_from(arguments);
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        if !error.use_stderr() {
            return Refusal::Asked(error.to_string());
        }
        Refusal::Mistake(match (error.kind(), error.get(ContextKind::InvalidArg)) {
            (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(names))) => {
                missing(names)
            }
            _ => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or("the arguments make no sense");
                line.trim_start_matches("error: ").to_owned()
            }
        })
    })
}

/// What is missing, and a command to start from.
fn missing(names: &[String]) -> String {
    if names.iter().any(|name| name.starts_with("--seeds")) {
        "missing --seeds FIRST..END, as in: raft-sim swarm --seeds 0..1000".to_owned()
    } else {
        "missing --seed N, as in: raft-sim --seed 7".to_owned()
    }
}

fn single(one: &One, output: Output) -> u8 {
    on_interrupt(|| {
        tell("interrupted: the run has no verdict");
        process::exit(EXIT_INTERRUPTED.into());
    });
    let output = Rc::new(RefCell::new(output));
    output.borrow_mut().line(format_args!("{}\n", Options::draw(one.seed, one.events)));
    let trace = if one.verbose {
        let output = Rc::clone(&output);
        Trace::shown(move |line| output.borrow_mut().line(line))
    } else {
        Trace::off()
    };
    let how = How { twice: true, ..How::once(one.events) };
    let report = match bar(one) {
        None => run::traced(one.seed, how, trace),
        Some(bar) => {
            let events = one.events;
            let (one_run, again) = (bar.clone(), bar.clone());
            let trace = trace.with_progress(move |at| one_run.set_position(at.min(events)));
            let report = run::traced_twice(one.seed, how, trace, |trace| {
                trace.with_progress(move |at| again.set_position(events + at.min(events)))
            });
            bar.finish_and_clear();
            report
        }
    };
    output.borrow_mut().line(&report);
    output.take().finish(report.exit_code())
}

fn swarm(many: &Many, mut output: Output) -> u8 {
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

/// Progress through both runs, if they are long and somebody waits at a terminal for them; not among
/// the lines of `-v`, which show how far a run is.
fn bar(one: &One) -> Option<ProgressBar> {
    if one.events < LONG_EVENTS || one.verbose || !io::stderr().is_terminal() {
        return None;
    }
    let template = "{bar:30} {pos}/{len} events (of two runs), {elapsed}, {per_sec}";
    let style = ProgressStyle::with_template(template).expect("the template is right");
    Some(ProgressBar::new(one.events.saturating_mul(2)).with_style(style))
}

/// A flag that the first interrupt sets, with a line for the person who pressed; the second one ends
/// the process.
fn stop_on_interrupt(line: &'static str) -> &'static AtomicBool {
    static STOP: AtomicBool = AtomicBool::new(false);
    on_interrupt(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            process::exit(EXIT_INTERRUPTED.into());
        }
        tell(line);
    });
    &STOP
}

/// Without a handler, which is no reason not to run, an interrupt just ends the process.
fn on_interrupt(handler: impl FnMut() + Send + 'static) {
    drop(ctrlc::set_handler(handler));
}

/// A line for the person who waits. It says nothing that matters if nobody can read it.
fn tell(line: impl fmt::Display) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Standard output, and the first thing that went wrong with it.
#[derive(Debug, Default)]
struct Output {
    broken: Option<io::Error>,
}

impl Output {
    fn line(&mut self, line: impl fmt::Display) {
        if self.broken.is_none() {
            self.broken = writeln!(io::stdout(), "{line}").err();
        }
    }

    /// The exit code, given that of the runs.
    fn finish(self, exit_code: u8) -> u8 {
        match self.broken {
            None => exit_code,
            // Whoever closes a pipe has seen enough.
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => exit_code,
            Some(error) => {
                tell(format_args!("error: cannot write to standard output: {error}"));
                worse(exit_code, EXIT_OUTPUT)
            }
        }
    }
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
