//! The command line: `raft-sim --seed N`, and its subcommands.
//!
//! What a run says goes to standard output and is the same every time; progress and rates go to
//! standard error, and whether those can be written changes nothing. A mistake in the arguments is
//! one line on standard error and exit code 64, since 2 means that an invariant is broken.

mod check;
mod determinism;
mod explore;
mod file;
mod html;
mod merge;
mod one;
mod options;
mod output;
mod recording;
mod replay;
mod self_check;
mod setup;
mod shrink;
mod swarm;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::explored;
use crate::mutants;
use crate::run;
use output::{Output, stop_on_interrupt, tell};

/// Two runs of one seed differ.
pub const EXIT_DETERMINISM: u8 = 4;
/// The simulator does not do what it says.
pub const EXIT_SELF: u8 = 7;
/// The arguments make no sense.
pub const EXIT_USAGE: u8 = 64;
/// Standard output, or a file that was asked for, cannot be written, and nothing worse is to be told.
pub const EXIT_OUTPUT: u8 = 74;
/// Somebody has pressed Ctrl-C or ended the process (SIGTERM), or memory has reached its limit, and nothing worse is to be told.
pub const EXIT_INTERRUPTED: u8 = 130;

const AFTER_HELP: &str = "\
Exit codes (if several apply, a failure of the cluster comes first):
    0  passed
    1  a mutant cannot be tested, or an exploration has other figures than those listed
    2  safety: an invariant is violated
    3  liveness: the healed cluster does not get going again; or an exploration is complete
       and has not reached what its bounds demand
    4  determinism: two runs of one seed differ
    5  a mutant has survived
    6  a history could not be judged
    7  the simulator does not do what it says: a run of it proves nothing
   64  the arguments make no sense
   74  standard output or a file cannot be written, or a file cannot be read
  101  the product has panicked
  130  interrupted by Ctrl-C or SIGTERM, or stopped at --memory-max

A seed is bound to one version of the program: another version may make another run of it.";

/// Simulates whole clusters from a seed and checks every promise that they make.
#[derive(Clone, Debug, Parser)]
#[command(name = "raft-sim", version, args_conflicts_with_subcommands = true)]
#[command(override_usage = "raft-sim --seed <N> [OPTIONS]\n       raft-sim <COMMAND>")]
#[command(after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    one: one::Arguments,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Runs a range of seeds and sums up.
    Swarm(swarm::Arguments),
    /// Adds up what swarms on many machines have written.
    Merge(merge::Arguments),
    /// Compares the runs of a seed in several processes and builds, event by event.
    Determinism(determinism::Arguments),
    /// Prints digests of a run.
    #[command(hide = true)]
    Ladder(determinism::Ladder),
    /// Prints the names and values of all options of a run, as --set takes them.
    Options(options::Arguments),
    /// Runs a tape that was recorded, without its seed; or plays what a server's flight recorder has
    /// written.
    Replay(replay::Arguments),
    /// Looks for the least run that fails as a seed or a tape does.
    Shrink(shrink::Arguments),
    /// Breaks the code on purpose, again and again, and shows who notices.
    Mutants(mutants::Options),
    /// Shows that this build injects what it says, and notices what is broken on purpose.
    SelfCheck(self_check::Arguments),
    /// Visits every state that a small cluster can get into, and checks every promise there.
    Explore(explore::Arguments),
    /// Explores once more what raft-sim/explored.toml lists, and compares the figures.
    Explored(explored::Options),
    /// Judges histories: whether what clients saw is what one machine could have told them.
    Check(check::Arguments),
    /// Writes a page that shows the run of a seed or a tape in a browser, moment by moment.
    Html(html::Arguments),
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
    match cli.command {
        Some(Command::Swarm(many)) => swarm::main(&many, output),
        Some(Command::Replay(arguments)) => replay::main(&arguments, output),
        Some(Command::Shrink(arguments)) => shrink::main(&arguments, output),
        Some(Command::Merge(arguments)) => merge::main(&arguments, output),
        Some(Command::Determinism(arguments)) => determinism::main(&arguments, output),
        Some(Command::Ladder(arguments)) => determinism::ladder(&arguments, output),
        Some(Command::Options(arguments)) => options::main(&arguments, output),
        Some(Command::Mutants(options)) => {
            let exit_code =
                mutants::main(&options, stop_on_interrupt("interrupted: cleaning up"), |shown| {
                    output.line(shown)
                });
            output.finish(exit_code)
        }
        Some(Command::SelfCheck(arguments)) => self_check::main(&arguments, output),
        Some(Command::Explore(arguments)) => explore::main(&arguments, output),
        Some(Command::Explored(options)) => {
            let stop = stop_on_interrupt("interrupted: the last row is not complete");
            let exit_code = explored::main(&options, stop, |shown| output.line(shown));
            output.finish(exit_code)
        }
        Some(Command::Check(arguments)) => check::main(&arguments, output),
        Some(Command::Html(arguments)) => html::main(&arguments, output),
        None => one::main(&cli.one, output).unwrap_or_else(|| {
            tell(format_args!("error: {} (see --help)", missing(&[], "")));
            EXIT_USAGE
        }),
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
    let verb = arguments.get(1).cloned().unwrap_or_default();
    let matches = Cli::command().try_get_matches_from(arguments);
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        if !error.use_stderr() {
            return Refusal::Asked(error.to_string());
        }
        Refusal::Mistake(match (error.kind(), error.get(ContextKind::InvalidArg)) {
            (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(names))) => {
                missing(names, &verb)
            }
            _ => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or("the arguments make no sense");
                line.trim_start_matches("error: ").to_owned()
            }
        })
    })
}

/// What is missing after a verb, and a command to start from.
fn missing(names: &[String], verb: &str) -> String {
    let is_missing = |start| names.iter().any(|name| name.starts_with(start));
    if is_missing("--seeds") {
        return "missing --seeds FIRST..END, as in: raft-sim swarm --seeds 0..1000".to_owned();
    }
    if names.is_empty() || is_missing("--seed") {
        return "missing --seed N, as in: raft-sim --seed 7".to_owned();
    }
    if is_missing("<FILE>") {
        return match verb {
            "shrink" | "html" => {
                format!("missing FILE or --seed N, as in: raft-sim {verb} --seed 7")
            }
            "replay" => "missing FILE, as in: raft-sim replay failing.tape".to_owned(),
            _ => "missing FILE, as in: raft-sim check history.jsonl".to_owned(),
        };
    }
    format!("missing {}", names.join(" "))
}
