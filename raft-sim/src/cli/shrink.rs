//! `raft-sim shrink`: the least run that fails as a seed or a tape does.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
#[expect(clippy::disallowed_types, reason = "only what is told looks at the clock")]
use std::time::Instant;

use clap::Args;

use super::file::{must_be_writable, write};
use super::output::{Output, stop_on_interrupt, tell};
use super::replay::{headline, with_head};
use super::setup::{Source, Which};
use super::{EXIT_INTERRUPTED, EXIT_USAGE};
use crate::failure::Failure;
use crate::report::{Origin, Report, worse};
use crate::run;
use crate::sabotage::Sabotage;
use crate::shrink::{Shrunk, shrink};
use crate::tape::Tape;

/// What is too long.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Where the least run goes.
    #[arg(short, long, value_name = "FILE", default_value = "shrunk.tape")]
    output: PathBuf,
}

/// Shrinks it.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    let source = arguments.which.source();
    // It may take hours, and what it finds must not be lost then.
    let source = source.and_then(|source| must_be_writable(&arguments.output).map(|()| source));
    let tape = match source {
        Ok(Source::Tape(tape, _)) => *tape,
        Ok(Source::Options(options)) => run::record(&options, Sabotage::None).1,
        Err(exit_code) => return exit_code,
    };
    let stop =
        stop_on_interrupt("interrupted: the best so far is written (once more: end at once)");
    #[expect(clippy::disallowed_types, reason = "only what is told looks at the clock")]
    let begin = Instant::now();
    let shrunk = shrink(&tape, Sabotage::None, stop, &mut |what, size| {
        tell(format_args!("shrink     {size} ({what})"));
    });
    let shrunk = match shrunk {
        Ok(shrunk) => shrunk,
        Err(report) => {
            output.line(&*report);
            tell("error: this run passes: there is nothing to shrink");
            return output.finish(EXIT_USAGE);
        }
    };
    let exit_code = tell_shrunk(&shrunk, begin.elapsed(), arguments, &mut output);
    let is_interrupted = stop.load(Ordering::Relaxed);
    let interrupted = if is_interrupted { EXIT_INTERRUPTED } else { 0 };
    output.finish(worse(exit_code, interrupted))
}

fn tell_shrunk(
    shrunk: &Shrunk,
    elapsed: Duration,
    arguments: &Arguments,
    output: &mut Output,
) -> u8 {
    let Shrunk { tape, report, before, after, tried } = shrunk;
    let file = arguments.output.display().to_string();
    let report = Report { origin: Origin::Tape(file), ..report.clone() };
    output.line(&tape.options);
    output.line(format_args!("\n{report}"));
    output.line(format_args!("\nbefore     {before}\nafter      {after}"));
    let (s, ms) = (elapsed.as_secs(), elapsed.subsec_millis());
    tell(format_args!("shrunk in {s}.{ms:03}s by {tried} runs"));
    let comments = [headline(&report), format!("Shrunk from {before}.")];
    let written = write(&arguments.output, &with_head(tape, &comments));
    let told = tell_story(tape, &report, arguments, output);
    worse(report.exit_code(), worse(written, told))
}

/// Writes the run as a script as well, if the script ends as the run does, and says so. Returns the
/// exit code of writing it.
fn tell_story(tape: &Tape, report: &Report, arguments: &Arguments, output: &mut Output) -> u8 {
    let Some(story) = run::story(tape, Sabotage::None) else {
        output.line("script     none: no script has so many servers");
        return 0;
    };
    if story.violated != report.failure.as_ref().map(Failure::id) {
        let untold = if story.untold.is_empty() { "" } else { "; it has no words for:" };
        output.line(format_args!("script     none: it does not end in this violation{untold}"));
        listed(&story.untold)
            .iter()
            .for_each(|what| output.line(format_args!("           {what}")));
        return 0;
    }
    let path = arguments.output.with_extension("txt");
    output.line(format_args!("script     {}", path.display()));
    write(&path, &format!("# {}\n\n{}", headline(report), story.text))
}

/// So many are told of what a script has no words for.
const UNTOLD_MAX: usize = 10;

/// The first of them, and how many more there are.
fn listed(untold: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = untold.iter().take(UNTOLD_MAX).cloned().collect();
    if untold.len() > UNTOLD_MAX {
        lines.push(format!("and {} more", untold.len() - UNTOLD_MAX));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_are_told_and_the_others_counted() {
        let untold: Vec<String> = (1..=12).map(|number| number.to_string()).collect();
        assert_eq!(listed(&untold[..10]), untold[..10]);
        let told = listed(&untold);
        assert_eq!((told.len(), told[10].as_str()), (11, "and 2 more"));
    }
}
