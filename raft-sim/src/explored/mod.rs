//! The figures of `EXPLORED.md`, and the command that proves them: `raft-sim explored`.
//!
//! `explored.toml` lists bounds with what their exploration has found. Each is explored once more, by
//! a process of its own, so that its memory is its own too, and has to find the same: states and
//! transitions do not depend on the machine. `--write` puts down what was found instead.
//!
//! Read in this order: [`list`] (a row, and the file), `measure` (a process and what it tells), `page`
//! (the table in `EXPLORED.md`).
//!
//! Nothing here is part of a simulation, so it may look at files and start processes.

pub mod list;
mod measure;
mod page;

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use crate::mutants;
use list::{Figures, List, Row};
use measure::Measured;

/// A row is not what the exploration finds, or a file cannot be read or written.
pub const EXIT_OTHERWISE: u8 = 1;
/// The arguments name no row.
pub const EXIT_USAGE: u8 = 64;
/// Interrupted: what is shown is a part.
pub const EXIT_INTERRUPTED: u8 = 130;

/// The root of the workspace that this program was built from.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where the rows are kept, from the root.
pub const LIST: &str = "raft-sim/explored.toml";
/// Where they are published, from the root.
const PUBLISHED: &str = "raft-sim/EXPLORED.md";

/// Explores once more what raft-sim/explored.toml lists, and compares the figures.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Only rows with this among their arguments; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    only: Vec<String>,
    /// Only rows that took no more processor time than this, all of them together, the shortest first.
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    /// Write what is found to raft-sim/explored.toml and raft-sim/EXPLORED.md, each row at once.
    #[arg(long)]
    write: bool,
}

/// Explores the rows, or a part of them, until `stop` is set. `show` takes what belongs on standard
/// output. Returns the exit code.
pub fn main(options: &Options, stop: &AtomicBool, mut show: impl FnMut(&dyn fmt::Display)) -> u8 {
    let root = Path::new(ROOT);
    let mut list = match List::read(root) {
        Ok(list) => list,
        Err(error) => return fail(&error),
    };
    let wanted = list.wanted(&options.only, options.within.map(|seconds| seconds * 1_000));
    if wanted.is_empty() {
        tell("error: no row is meant (see --help)");
        return EXIT_USAGE;
    }
    let code = mutants::code(root);
    let (mut same, mut otherwise) = (0_usize, 0_usize);
    for at in wanted {
        let explored = measure::explore(root, &list.rows[at].explore, stop);
        if stop.load(Ordering::Relaxed) {
            return EXIT_INTERRUPTED;
        }
        let found = match explored {
            Ok(found) => found,
            Err(error) => return fail(&format!("{}: {error}", list.rows[at].explore)),
        };
        let row = &mut list.rows[at];
        let difference = row.difference(&found);
        match &difference {
            None => same += 1,
            Some(_) => otherwise += 1,
        }
        show(&Told { row, found: &found, difference });
        if options.write {
            row.take(&found, &code);
            if let Err(error) = write(root, &list) {
                return fail(&error);
            }
        }
    }
    show(&format_args!("{same} as listed, {otherwise} otherwise"));
    if otherwise > 0 && !options.write { EXIT_OTHERWISE } else { 0 }
}

/// A row and what was found.
struct Told<'a> {
    row: &'a Row,
    found: &'a Measured,
    difference: Option<String>,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.difference.as_deref().unwrap_or("as listed");
        let Figures { states, transitions, .. } = self.found.figures;
        write!(
            f,
            "{states:>9} states, {transitions:>10} transitions: {}: {verdict}",
            self.row.explore
        )
    }
}

fn write(root: &Path, list: &List) -> Result<(), String> {
    let put = |name: &str, text: String| {
        fs::write(root.join(name), text).map_err(|error| format!("cannot write {name}: {error}"))
    };
    let published = fs::read_to_string(root.join(PUBLISHED))
        .map_err(|error| format!("cannot read {PUBLISHED}: {error}"))?;
    put(LIST, list.text())?;
    put(PUBLISHED, page::with_table(&published, list)?)
}

fn fail(error: &dyn fmt::Display) -> u8 {
    tell(format_args!("error: {error}"));
    EXIT_OTHERWISE
}

/// A line for the person who waits. It says nothing that matters if nobody can read it.
fn tell(line: impl fmt::Display) {
    drop(writeln!(io::stderr(), "{line}"));
}
