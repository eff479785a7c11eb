//! `raft-sim html`: the run of a seed or of a tape, as a page for a browser.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;

use super::file::{end_on_interrupt, must_be_writable, write};
use super::output::Output;
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
    let path = arguments.output.clone().unwrap_or_else(|| match &source {
        Source::Options(options) => PathBuf::from(format!("run-{:#x}.html", options.seed)),
        Source::Tape(_, file) => file.with_extension("html"),
    });
    if let Err(exit_code) = must_be_writable(&path) {
        return exit_code;
    }
    end_on_interrupt("interrupted: no page is written");
    let record = Rc::new(RefCell::new(Record::new::<KeyValue>()));
    let trace = Trace::off().watched_by(Rc::clone(&record));
    let report = match source {
        Source::Options(options) => {
            let how = How::once(options.events);
            run::options_twice(&options, how, trace, |trace| trace)
        }
        Source::Tape(tape, file) => {
            let report = run::replay(&tape, false, Sabotage::None, trace);
            let origin = Origin::Tape(file.display().to_string());
            Report { origin, ..report }
        }
    };
    let page = page::html(record.replace(Record::new::<KeyValue>()), &report);
    let written = write(&path, &page);
    if written != 0 {
        return worse(report.exit_code(), written);
    }
    output.line(&report);
    output.line(format_args!("page       {}, {} kB", path.display(), page.len().div_ceil(1000)));
    output.finish(report.exit_code())
}
