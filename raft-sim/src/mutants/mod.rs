//! The kill matrix: `raft-sim mutants`. A simulator is as good as the bugs that it finds.
//!
//! `mutants.toml` lists mutations of the code that ships. Each is applied to a copy of the tree,
//! built, and looked for: by a swarm of seeds until one fails, or by an exploration. A mutant that
//! survives is a hole in the simulator. Others break the simulator itself, and its own check must
//! notice.
//!
//! Read in this order: [`list`] (what a mutant is), `plan` (which commands judge it), `tree` (the
//! copy, one mutation at a time), `child` (a process, its lines and its end), `verdict` (what the
//! lines say), `table` (what a person reads), `page` (what is published, line by line).
//!
//! Deliberately absent: hooks in the shipped code, and any judgement of the runner's own. Nothing
//! here is part of a simulation, so it may look at files and start processes.

pub(crate) mod child;
pub mod list;
mod page;
mod plan;
mod table;
mod tree;
mod verdict;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use list::{Kind, List, Mutant};
use page::Page;
use plan::{Judge, Plan, Wanted};
use table::{Row, Table};
use tree::Tree;
pub(crate) use tree::code;
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
    /// No more than so many seeds for each.
    #[arg(long, value_name = "N")]
    seeds_max: Option<NonZeroU64>,
    /// Only what raft-sim/MUTANTS.md has no line of: a run that was stopped goes on.
    #[arg(long)]
    missing: bool,
    /// How many threads build and run [default: one per processor].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Write each result to raft-sim/MUTANTS.md at once; what was not run keeps its earlier line.
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
    let path = root.join(PUBLISHED);
    let page = match Page::read(&path) {
        Ok(page) => page,
        Err(error) => return broken(&format!("cannot read {PUBLISHED}: {error}")),
    };
    let Options { ref only, kind, .. } = *options;
    let known = if options.missing { page.known() } else { BTreeSet::new() };
    let wanted = Wanted { only, kind, seeds_max: options.seeds_max.map(NonZeroU64::get), known };
    let plan = match Plan::new(&list, &wanted) {
        Ok(plan) => plan,
        Err(mistake) => {
            tell(format_args!("error: {mistake} (see --help)"));
            return EXIT_USAGE;
        }
    };
    let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZeroUsize::get);
    let published = options.write.then_some(Published { path, page, list: &list });
    let mut runner = Runner { jobs, stop, code: code(root), published, table: Table::default() };
    let ended = if plan.mutants.is_empty() { Ok(()) } else { runner.run(root, &plan) };
    let table = runner.table;
    if !table.rows.is_empty() {
        show(&table);
    }
    match ended {
        Err(error) => broken(&error),
        Ok(()) if table.is_broken() => EXIT_BROKEN,
        Ok(()) if table.has_survivors() => EXIT_SURVIVED,
        Ok(()) if stop.load(Ordering::Relaxed) => EXIT_INTERRUPTED,
        Ok(()) => 0,
    }
}

/// The page that results are written to.
struct Published<'a> {
    path: PathBuf,
    page: Page,
    list: &'a List,
}

/// Who runs a plan.
struct Runner<'a> {
    jobs: usize,
    stop: &'a AtomicBool,
    /// What is judged: the name of its last change.
    code: String,
    published: Option<Published<'a>>,
    table: Table,
}

impl Runner<'_> {
    /// Judges the plan's mutants one after the other; the copy of the tree is gone afterwards.
    fn run(&mut self, root: &Path, plan: &Plan<'_>) -> Result<(), String> {
        for (mutant, _) in &plan.mutants {
            mutant.check(root)?;
        }
        tell(format_args!("copy       {}, which must pass without any mutation", self.code));
        let mut tree = Tree::copy(root, self.jobs)?;
        tree.build_unchanged(self.stop)?;
        for judge in &plan.baseline {
            if self.is_stopped() {
                return Ok(());
            }
            tell(format_args!("baseline   raft-sim {judge}"));
            let (verdict, _) = verdict::judge(tree.program(), judge, self.jobs, self.stop)?;
            match verdict {
                Verdict::Survived { .. } | Verdict::Interrupted => {}
                other @ (Verdict::Killed { .. } | Verdict::Weak { .. } | Verdict::DoesNotBuild) => {
                    return Err(format!("raft-sim {judge} fails without any mutation: {other}"));
                }
            }
        }
        let total = plan.mutants.len();
        for (number, (mutant, judges)) in plan.mutants.iter().enumerate() {
            if self.is_stopped() {
                return Ok(());
            }
            tell(format_args!("mutant     {}/{total} {}", number + 1, mutant.id));
            let text = tree.mutate(mutant)?;
            let judged = self.one(&tree, mutant, judges);
            tree.restore(&mutant.file, &text)?;
            judged?;
        }
        Ok(())
    }

    /// Builds a mutant and runs all that judges it.
    fn one(&mut self, tree: &Tree, mutant: &Mutant, judges: &[Judge]) -> Result<(), String> {
        let is_built = tree.build_mutant(mutant, self.stop)?;
        for judge in judges {
            let (verdict, cpu_ms) = if self.is_stopped() {
                (Verdict::Interrupted, None)
            } else if is_built {
                verdict::judge(tree.program(), judge, self.jobs, self.stop)?
            } else {
                (Verdict::DoesNotBuild, None)
            };
            if verdict != Verdict::Interrupted {
                self.note(Row::new(mutant, judge.kind(), verdict, cpu_ms))?;
            }
        }
        Ok(())
    }

    /// A result is told and published at once: whatever becomes of this run, it is known.
    fn note(&mut self, row: Row) -> Result<(), String> {
        tell(format_args!("           {row}"));
        if let Some(Published { path, page, list }) = &mut self.published {
            page.take(&row, &self.code);
            page.write(path, list).map_err(|error| format!("cannot write {PUBLISHED}: {error}"))?;
        }
        self.table.rows.push(row);
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn broken(error: &dyn fmt::Display) -> u8 {
    tell(format_args!("error: {error}"));
    EXIT_BROKEN
}

/// A line for the person who waits. It says nothing that matters if nobody can read it.
fn tell(line: impl fmt::Display) {
    drop(writeln!(io::stderr(), "{line}"));
}
