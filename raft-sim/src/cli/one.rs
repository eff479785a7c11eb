//! `raft-sim --seed N`: one run, twice, and what came of it.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use twox_hash::XxHash3_64;

use super::file::{TraceTo, end_on_interrupt, must_be_writable};
use super::output::Output;
use super::{EXIT_USAGE, replay, setup};
use crate::report::worse;
use crate::run::{self, How};
use crate::trace::Trace;

/// From how many events on a single run shows its progress.
const LONG_EVENTS: u64 = 200_001;

/// Which run.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The seed: decimal, hexadecimal with 0x, or a commit hash, which is what 40 hexadecimal
    /// digits without 0x are taken for.
    #[arg(long, value_name = "N", value_parser = parse_seed)]
    seed: Option<u64>,
    #[command(flatten)]
    setup: setup::Knobs,
    /// Print a line for each transition, as it happens.
    #[arg(short, long)]
    verbose: bool,
    /// Write each step of each node to FILE, a JSON object a line, for other programs.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a tape of the run, which outlives the meaning of its seed: see `raft-sim replay`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// Runs the seed, if there is one.
pub(super) fn main(one: &Arguments, output: Output) -> Option<u8> {
    let seed = one.seed?;
    let Some(options) = one.setup.options(seed) else { return Some(EXIT_USAGE) };
    if let Some(Err(exit_code)) = one.record.as_ref().map(|path| must_be_writable(path)) {
        return Some(exit_code);
    }
    end_on_interrupt("interrupted: the run has no verdict");
    let file = match one.trace.as_ref().map(TraceTo::create).transpose() {
        Ok(file) => file,
        Err(exit_code) => return Some(exit_code),
    };
    let output = Rc::new(RefCell::new(output));
    output.borrow_mut().line(format_args!("{options}\n"));
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
    let events = options.events;
    let how = How { twice: true, ..How::once(events) };
    let report = match bar(one, events) {
        None => run::options_twice(&options, how, trace, |trace| trace),
        Some(bar) => {
            let (one_run, again) = (bar.clone(), bar.clone());
            let trace = trace.with_progress(move |at| one_run.set_position(at.min(events)));
            let report = run::options_twice(&options, how, trace, |trace| {
                trace.with_progress(move |at| again.set_position(events + at.min(events)))
            });
            bar.finish_and_clear();
            report
        }
    };
    output.borrow_mut().line(&report);
    let incomplete = file.map_or(0, |file| file.finish());
    let recorded = one.record.as_ref().map_or(0, |path| replay::record(&options, path));
    Some(output.take().finish(worse(report.exit_code(), worse(incomplete, recorded))))
}

/// Progress through both runs, if they are long and somebody waits at a terminal for them; not among
/// the lines of `-v`, which show how far a run is.
fn bar(one: &Arguments, events: u64) -> Option<ProgressBar> {
    if events < LONG_EVENTS || one.verbose || !io::stderr().is_terminal() {
        return None;
    }
    let template = "{bar:30} {pos}/{len} events (of two runs), {elapsed}, {per_sec}";
    let style = ProgressStyle::with_template(template).expect("the template is right");
    Some(ProgressBar::new(events.saturating_mul(2)).with_style(style))
}

/// Reads a seed.
///
/// # Errors
/// A sentence that says what a seed looks like.
pub(super) fn parse_seed(text: &str) -> Result<u64, String> {
    let is_hash = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash {
        return Ok(XxHash3_64::oneshot(text.to_ascii_lowercase().as_bytes()));
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
}
