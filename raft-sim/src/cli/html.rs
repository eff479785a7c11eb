//! `raft-sim html --seed N`: one run, as a page for a browser.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process;
use std::rc::Rc;

use clap::Args;

use super::file::refused;
use super::one::parse_seed;
use super::output::{Output, on_interrupt, tell};
use super::{EXIT_INTERRUPTED, EXIT_USAGE, setup};
use crate::page::{self, Record};
use crate::report::worse;
use crate::run::{self, How};
use crate::trace::Trace;
use crate::workload::KeyValue;

/// Which run, and where its page goes.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The seed, as for a single run.
    #[arg(long, value_name = "N", value_parser = parse_seed)]
    seed: u64,
    #[command(flatten)]
    setup: setup::Knobs,
    /// The file of the page [default: run-0xN.html].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the seed and writes its page. The exit code is that of the run.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    let Some(options) = arguments.setup.options(arguments.seed) else { return EXIT_USAGE };
    on_interrupt(|| {
        tell("interrupted: no page is written");
        process::exit(EXIT_INTERRUPTED.into());
    });
    let record = Rc::new(RefCell::new(Record::new::<KeyValue>()));
    let trace = Trace::off().watched_by(Rc::clone(&record));
    let how = How::once(options.events);
    let report = run::options_twice(&options, how, trace, |trace| trace);
    let page = page::html(record.replace(Record::new::<KeyValue>()), &report);
    let path = arguments.output.clone();
    let path = path.unwrap_or_else(|| PathBuf::from(format!("run-{:#x}.html", arguments.seed)));
    if let Err(error) = fs::write(&path, &page) {
        return worse(report.exit_code(), refused(&path, &error));
    }
    output.line(&report);
    output.line(format_args!("page       {}, {} kB", path.display(), page.len().div_ceil(1000)));
    output.finish(report.exit_code())
}
