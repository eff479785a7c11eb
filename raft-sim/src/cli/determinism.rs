//! `raft-sim determinism`: the same seed in several processes and builds must do the same.
//!
//! Each process prints a ladder, the digest after every so many events. Where two ladders part, the
//! rungs in between are printed one by one, and so the first event is found that went otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::one::parse_seed;
use super::output::{Output, tell};
use super::{EXIT_DETERMINISM, EXIT_OUTPUT, EXIT_USAGE, setup};
use crate::run::{self, How};
use crate::trace::Trace;

/// Events between two rungs of the first ladder.
const RUNG: u64 = 1_024;

/// The tree that this program was built from.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// An exit code, and what to tell.
type Fail = (u8, String);

/// Which run, and who makes it.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The seed.
    #[arg(long, value_name = "N", value_parser = parse_seed)]
    seed: u64,
    /// Another build of this program, as often as one likes [default: cargo builds one with and one
    /// without optimisations].
    #[arg(long = "with", value_name = "PROGRAM")]
    others: Vec<PathBuf>,
    #[command(flatten)]
    setup: setup::Knobs,
}

/// A part of the ladder of a run.
#[derive(Clone, Debug, Args)]
pub(super) struct Ladder {
    #[arg(long, value_parser = parse_seed)]
    seed: u64,
    /// A digest after every so many events.
    #[arg(long)]
    every: u64,
    /// The first event that counts.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// The last one.
    #[arg(long, default_value_t = u64::MAX)]
    to: u64,
    #[command(flatten)]
    setup: setup::Knobs,
}

/// Prints a part of a ladder: an event and a digest a line, and the last digest of all.
pub(super) fn ladder(arguments: &Ladder, output: Output) -> u8 {
    let Ladder { seed, every, from, to, ref setup } = *arguments;
    let Some(options) = setup.options(seed) else { return EXIT_USAGE };
    let output = std::rc::Rc::new(std::cell::RefCell::new(output));
    let told = std::rc::Rc::clone(&output);
    let trace = Trace::off().with_ladder(move |event, digest| {
        if event.is_multiple_of(every.max(1)) && (from..=to).contains(&event) {
            told.borrow_mut().line(format_args!("{event} {:016x}", digest.value()));
        }
    });
    let report = run::options_twice(&options, How::once(options.events), trace, |trace| trace);
    output.borrow_mut().line(format_args!("end {:016x}", report.digest));
    output.take().finish(0)
}

/// Compares the runs of all builds.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    if arguments.setup.options(arguments.seed).is_none() {
        return EXIT_USAGE;
    }
    let compared = programs(&arguments.others).and_then(|programs| {
        let ladders = programs.iter().map(|program| arguments.ladder(program, RUNG, 0, u64::MAX));
        let ladders = ladders.collect::<Result<Vec<_>, _>>()?;
        let other = ladders.iter().position(|ladder| *ladder != ladders[0]);
        let first = other.map(|other| arguments.part(&programs, &ladders, other)).transpose()?;
        Ok((programs, ladders, first))
    });
    let (programs, ladders, parted) = match compared {
        Ok(compared) => compared,
        Err((exit_code, error)) => {
            tell(format_args!("error: {error}"));
            return exit_code;
        }
    };
    for (program, ladder) in programs.iter().zip(&ladders) {
        let end = ladder.last().map_or("", String::as_str);
        output.line(format_args!("{end:<22} {}", program.display()));
    }
    let Some(parted) = parted else {
        output.line("verdict    passed: all of them did the same");
        return output.finish(0);
    };
    output.line(format_args!("verdict    FAILED\n\n{parted}"));
    output.finish(EXIT_DETERMINISM)
}

impl Arguments {
    /// The rungs of a program's ladder.
    fn ladder(&self, program: &Path, every: u64, from: u64, to: u64) -> Result<Vec<String>, Fail> {
        let mut command = self.command(program, &["ladder"]);
        for (name, value) in [("--every", every), ("--from", from), ("--to", to)] {
            command.args([name, &value.to_string()]);
        }
        let ladder = lines(&mut command)?;
        if ladder.last().is_some_and(|last| last.starts_with("end ")) {
            return Ok(ladder);
        }
        let program = program.display();
        Err((EXIT_USAGE, format!("{program} is no raft-sim: it tells of no run to its end")))
    }

    fn command(&self, program: &Path, subcommand: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(subcommand).args(["--seed", &self.seed.to_string()]);
        command.args(self.setup.setup().arguments());
        command
    }

    /// Says where the ladder of `other` parts from the first one.
    fn part(
        &self,
        programs: &[PathBuf],
        ladders: &[Vec<String>],
        other: usize,
    ) -> Result<String, Fail> {
        let pair = [&programs[0], &programs[other]];
        // The rung below the first difference, where they were still the same.
        let common = common(&ladders[0], &ladders[other]) as u64 * RUNG;
        let mut steps = Vec::new();
        for program in pair {
            steps.push(self.ladder(program, 1, common, common + 2 * RUNG)?);
        }
        let at = common_len(&steps);
        let event = steps[0].get(at).and_then(|rung| rung.split_once(' ')?.0.parse::<u64>().ok());
        let Some(event) = event else {
            return Ok("they part at their ends, and at no event".to_owned());
        };
        let mut told = format!("the first event that goes otherwise is {event}:");
        for program in pair {
            let shown = lines(self.command(program, &[]).arg("-v"))?;
            let start = format!("{event:>7} ");
            let line = shown.into_iter().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| "(an event that shows nothing)".to_owned());
            told.push_str(&format!("\n  {line}\n    by {}", program.display()));
        }
        Ok(told)
    }
}

/// How many rungs two ladders have in common.
fn common(one: &[String], other: &[String]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn common_len(steps: &[Vec<String>]) -> usize {
    common(&steps[0], &steps[1])
}

/// This program twice, since two processes are two, and the other builds.
fn programs(others: &[PathBuf]) -> Result<Vec<PathBuf>, Fail> {
    let this = std::env::current_exe()
        .map_err(|error| (EXIT_OUTPUT, format!("where is this program: {error}")))?;
    let mut programs = vec![this.clone(), this];
    if others.is_empty() {
        programs.push(build("dev", "debug")?);
        programs.push(build("release", "release")?);
    }
    programs.extend(others.iter().cloned());
    Ok(programs)
}

/// Lets cargo build the program with a profile.
fn build(profile: &str, folder: &str) -> Result<PathBuf, Fail> {
    tell(format_args!("building   with the profile {profile}"));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--locked", "--package", "raft-sim", "--bin", "raft-sim"]);
    // Where the program is then, whatever the environment says.
    cargo.args(["--profile", profile, "--target-dir", "target"]).current_dir(ROOT);
    let name = |(code, error): Fail| (code, format!("{error}; or name a build: --with PROGRAM"));
    lines(&mut cargo).map_err(name)?;
    let program = Path::new(ROOT).join("target").join(folder).join("raft-sim");
    Ok(program.with_extension(std::env::consts::EXE_EXTENSION))
}

/// What a command prints, if it succeeds or at least has found something.
fn lines(command: &mut Command) -> Result<Vec<String>, Fail> {
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .map_err(|error| (EXIT_OUTPUT, format!("cannot start {program}: {error}")))?;
    let is_run = output.status.success() || !output.stdout.is_empty();
    if !is_run {
        let told = String::from_utf8_lossy(&output.stderr);
        let last = told.lines().last().unwrap_or("it says nothing").to_owned();
        return Err((EXIT_USAGE, format!("{program} fails: {last}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
