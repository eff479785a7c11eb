//! `raft-sim html`: the run of a seed or of a tape, as a page for a browser.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process;
use std::rc::Rc;

use clap::Args;

use super::EXIT_INTERRUPTED;
use super::file::refused;
use super::output::{Output, on_interrupt, tell};
use super::setup::{Source, Which};
use crate::page::{self, Record};
use crate::report::{Origin, Report, worse};
use crate::run::{self, How};
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::workload::KeyValue;

/// Which run, and where its page goes.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The file of the page [default: run-0xN.html, or that of the tape, ending in .html].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Makes the run and writes its page. The exit code is that of the run.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    let source = match arguments.which.source() {
        Ok(source) => source,
        Err(exit_code) => return exit_code,
    };
    on_interrupt(|| {
        tell("interrupted: no page is written");
        process::exit(EXIT_INTERRUPTED.into());
    });
    let record = Rc::new(RefCell::new(Record::new::<KeyValue>()));
    let trace = Trace::off().watched_by(Rc::clone(&record));
    let (report, path) = match source {
        Source::Options(options) => {
            let how = How::once(options.events);
            let path = PathBuf::from(format!("run-{:#x}.html", options.seed));
            (run::options_twice(&options, how, trace, |trace| trace), path)
        }
        Source::Tape(tape, file) => {
            let report = run::replay(&tape, false, Sabotage::None, trace);
            let origin = Origin::Tape(file.display().to_string());
            (Report { origin, ..report }, file.with_extension("html"))
        }
    };
    let page = page::html(record.replace(Record::new::<KeyValue>()), &report);
    let path = arguments.output.clone().unwrap_or(path);
    if let Err(error) = fs::write(&path, &page) {
        return worse(report.exit_code(), refused(&path, &error));
    }
    output.line(&report);
    output.line(format_args!("page       {}, {} kB", path.display(), page.len().div_ceil(1000)));
    output.finish(report.exit_code())
}
