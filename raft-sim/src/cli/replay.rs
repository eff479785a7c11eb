//! `raft-sim replay FILE`: the run of a tape, without its seed; or what a server has recorded.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;

use super::file::{TraceTo, end_on_interrupt, write};
use super::output::{Output, tell};
use super::recording;
use super::{EXIT_OUTPUT, EXIT_USAGE};
use crate::options::Options;
use crate::report::{Origin, Report, worse};
use crate::run;
use crate::sabotage::Sabotage;
use crate::tape::Tape;
use crate::trace::Trace;

/// Which tape, or which recording.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// A tape that `--record` or `shrink` has written, or a person; or the recording of a server's
    /// flight recorder.
    file: PathBuf,
    /// Print a line for each transition, as it happens.
    #[arg(short, long)]
    verbose: bool,
    /// Write each step of each node to FILE, a JSON object a line, for other programs.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Runs the tape, twice, like a seed.
pub(super) fn main(one: &Arguments, output: Output) -> u8 {
    let content = match content(&one.file) {
        Ok(content) => content,
        Err(exit_code) => return exit_code,
    };
    if recording::is_recording(&content) {
        if one.trace.is_some() {
            tell("error: --trace is for the runs of tapes; -v shows a recording");
            return EXIT_USAGE;
        }
        return recording::main(content, one.verbose, output);
    }
    let tape = match parse(&one.file, content) {
        Ok(tape) => tape,
        Err(exit_code) => return exit_code,
    };
    end_on_interrupt("interrupted: the run has no verdict");
    let file = match one.trace.as_ref().map(TraceTo::create).transpose() {
        Ok(file) => file,
        Err(exit_code) => return exit_code,
    };
    let output = Rc::new(RefCell::new(output));
    output.borrow_mut().line(format_args!("{}\n", tape.options));
    let trace = if one.verbose {
        let output = Rc::clone(&output);
        Trace::shown(move |line| output.borrow_mut().line(line))
    } else {
        Trace::off()
    };
    let trace = match &file {
        Some(file) => file.watch(trace),
        None => trace,
    };
    let report = run::replay(&tape, true, Sabotage::None, trace);
    let report = Report { origin: Origin::Tape(one.file.display().to_string()), ..report };
    output.borrow_mut().line(&report);
    let incomplete = file.map_or(0, |file| file.finish());
    output.take().finish(worse(report.exit_code(), incomplete))
}

/// Reads a tape; a line on standard error and an exit code if there is none.
pub(super) fn read(path: &Path) -> Result<Tape, u8> {
    parse(path, content(path)?)
}

fn content(path: &Path) -> Result<Vec<u8>, u8> {
    fs::read(path).map_err(|error| {
        tell(format_args!("error: cannot read {}: {error}", path.display()));
        EXIT_OUTPUT
    })
}

fn parse(path: &Path, content: Vec<u8>) -> Result<Tape, u8> {
    let name = path.display();
    let text = String::from_utf8(content).map_err(|_| {
        tell(format_args!("error: {name} is neither a tape nor a recording"));
        EXIT_USAGE
    })?;
    text.parse().map_err(|error| {
        tell(format_args!("error: {name}, {error}"));
        EXIT_USAGE
    })
}

/// Records the run of these options. Returns the exit code of writing it.
pub(super) fn record(options: &Options, path: &Path) -> u8 {
    let (report, tape) = run::record(options, Sabotage::None);
    write(path, &with_head(&tape, &[headline(&report)]))
}

/// What a tape shows, for its head.
pub(super) fn headline(report: &Report) -> String {
    match &report.failure {
        None => format!("It passes, with the digest {:016x}.", report.digest),
        Some(failure) => format!("{}: {failure}", failure.id()).replace(['\n', '\r'], " "),
    }
}

/// The text of a tape with comments after its first line.
pub(super) fn with_head(tape: &Tape, comments: &[String]) -> String {
    let text = tape.to_string();
    let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let comments: String = comments.iter().map(|line| format!("# {line}\n")).collect();
    format!("{head}\n{comments}{rest}")
}
