//! The kill matrix: `raft-sim mutants`. A simulator is as good as the bugs that it finds.
//!
//! `mutants.toml` lists mutations of the code that ships. Each is applied to a copy of the tree,
//! built, and looked for: by a swarm of seeds until one fails, or by an exploration. A mutant that
//! survives is a hole in the simulator.
//!
//! Read in this order: [`list`] (what a mutant is), `plan` (which commands judge it), `tree` (the
//! copy, one mutation at a time), `child` (a process, its lines and its end), `verdict` (what the
//! lines say), `table` (what a person reads).
//!
//! Deliberately absent: hooks in the shipped code, and any judgement of the runner's own. Nothing
//! here is part of a simulation, so it may look at files and start processes.

mod child;
pub mod list;
mod plan;
mod table;
mod tree;
mod verdict;

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use list::{Kind, List, Mutant};
use plan::{Judge, Plan};
use table::{Row, Table};
use tree::Tree;
use verdict::Verdict;

/// A mutant has survived.
pub const EXIT_SURVIVED: u8 = 5;
/// A mutation does not apply or does not build, or the code fails without any.
pub const EXIT_BROKEN: u8 = 1;
/// The arguments name no mutant.
pub const EXIT_USAGE: u8 = 64;
/// Interrupted: what is shown is a part.
pub const EXIT_INTERRUPTED: u8 = 130;

/// The root of the workspace that this program was built from.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where the matrix is kept, from the root.
pub const MATRIX: &str = "raft-sim/mutants.toml";
/// Where its results are published, from the root.
const PUBLISHED: &str = "raft-sim/MUTANTS.md";

/// Breaks the code in each way of a list, and shows how soon the simulator notices.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Only this mutant of raft-sim/mutants.toml; may be given several times.
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Only what is looked for in this way.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// How many threads build and run [default: one per processor].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Write the results to raft-sim/MUTANTS.md; what was not run keeps its earlier line there.
    #[arg(long)]
    write: bool,
}

/// Runs the matrix, or a part of it, until `stop` is set. `show` takes what belongs on standard
/// output. Returns the exit code.
pub fn main(options: &Options, stop: &AtomicBool, mut show: impl FnMut(&dyn fmt::Display)) -> u8 {
    let root = Path::new(ROOT);
    let list = match List::read(root) {
        Ok(list) => list,
        Err(error) => return broken(&error),
    };
    let plan = match Plan::new(&list, &options.only, options.kind) {
        Ok(plan) => plan,
        Err(mistake) => {
            tell(format_args!("error: {mistake} (see --help)"));
            return EXIT_USAGE;
        }
    };
    let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZeroUsize::get);
    let mut table = Table::default();
    let ended = run(root, &plan, jobs, stop, &mut table);
    if !table.rows.is_empty() {
        show(&table);
    }
    if options.write && !table.rows.is_empty() {
        match table.publish(&root.join(PUBLISHED), &list) {
            Ok(()) => tell(format_args!("written    {PUBLISHED}")),
            Err(error) => return broken(&format!("cannot write {PUBLISHED}: {error}")),
        }
    }
    match ended {
        Err(error) => broken(&error),
        Ok(()) if table.is_broken() => EXIT_BROKEN,
        Ok(()) if table.has_survivors() => EXIT_SURVIVED,
        Ok(()) if stop.load(Ordering::Relaxed) => EXIT_INTERRUPTED,
        Ok(()) => 0,
    }
}

/// Judges the plan's mutants one after the other; the copy of the tree is gone afterwards.
fn run(
    root: &Path,
    plan: &Plan<'_>,
    jobs: usize,
    stop: &AtomicBool,
    table: &mut Table,
) -> Result<(), String> {
    for (mutant, _) in &plan.mutants {
        mutant.check(root)?;
    }
    tell("copy       the tree, without any mutation, must pass first");
    let mut tree = Tree::copy(root, jobs)?;
    tree.build_unchanged(stop)?;
    for judge in &plan.baseline {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        tell(format_args!("baseline   raft-sim {judge}"));
        let (verdict, _) = verdict::judge(tree.program(), judge, jobs, stop)?;
        match verdict {
            Verdict::Survived { .. } | Verdict::Interrupted => {}
            other @ (Verdict::Killed { .. } | Verdict::Weak { .. } | Verdict::DoesNotBuild) => {
                return Err(format!("raft-sim {judge} fails without any mutation: {other}"));
            }
        }
    }
    let total = plan.mutants.len();
    for (number, (mutant, judges)) in plan.mutants.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        tell(format_args!("mutant     {}/{total} {}", number + 1, mutant.id));
        let text = tree.mutate(mutant)?;
        let judged = one(&tree, mutant, judges, jobs, stop, table);
        tree.restore(&mutant.file, &text)?;
        judged?;
    }
    Ok(())
}

/// Builds a mutant and runs all that judges it.
fn one(
    tree: &Tree,
    mutant: &Mutant,
    judges: &[Judge],
    jobs: usize,
    stop: &AtomicBool,
    table: &mut Table,
) -> Result<(), String> {
    let is_built = tree.build_mutant(mutant, stop)?;
    for judge in judges {
        let (verdict, cpu_ms) = if stop.load(Ordering::Relaxed) {
            (Verdict::Interrupted, None)
        } else if is_built {
            verdict::judge(tree.program(), judge, jobs, stop)?
        } else {
            (Verdict::DoesNotBuild, None)
        };
        if verdict != Verdict::Interrupted {
            let row = Row::new(mutant, judge.kind(), verdict, cpu_ms);
            tell(format_args!("           {row}"));
            table.rows.push(row);
        }
    }
    Ok(())
}

fn broken(error: &dyn fmt::Display) -> u8 {
    tell(format_args!("error: {error}"));
    EXIT_BROKEN
}

/// A line for the person who waits. It says nothing that matters if nobody can read it.
fn tell(line: impl fmt::Display) {
    drop(writeln!(io::stderr(), "{line}"));
}
