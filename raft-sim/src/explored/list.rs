//! What was explored to the end, and what was found.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::LIST;
use super::measure::Measured;

/// What an exploration finds wherever it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Distinct states.
    pub states: u64,
    /// Steps between them.
    pub transitions: u64,
    /// The greatest number of steps in which a state was found.
    pub depth: u64,
    /// Facts that had to be reached, and were.
    pub landmarks: u64,
}

/// One exploration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The arguments of `raft-sim explore`; a script's path begins at the root of the workspace.
    pub explore: String,
    /// What it has found.
    pub found: Figures,
    /// Processor time, in milliseconds, of one thread.
    pub cpu_ms: u64,
    /// The memory of the whole process at its largest, in MiB.
    pub mib: u64,
    /// The last commit that changed what was explored, or who did, with a `+` if there were changes
    /// beyond it.
    pub code: String,
}

impl Row {
    /// In what it differs from what was found.
    pub(super) fn difference(&self, found: &Measured) -> Option<String> {
        let pairs = |figures: &Figures| {
            let Figures { states, transitions, depth, landmarks } = *figures;
            let named = [("states", states), ("transitions", transitions)];
            named.into_iter().chain([("depth", depth), ("landmarks", landmarks)])
        };
        let differing = pairs(&self.found).zip(pairs(&found.figures));
        let lines: Vec<String> = differing
            .filter(|(listed, now)| listed != now)
            .map(|((name, listed), (_, now))| format!("{name} {now} and not {listed}"))
            .collect();
        (!lines.is_empty()).then(|| format!("OTHERWISE: {}", lines.join(", ")))
    }

    /// Takes what was found, of this code.
    pub(super) fn take(&mut self, found: &Measured, code: &str) {
        let Measured { figures, cpu_ms, mib } = *found;
        (self.found, self.cpu_ms, self.mib) = (figures, cpu_ms, mib);
        code.clone_into(&mut self.code);
    }
}

/// All rows, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The rows.
    #[serde(rename = "row")]
    pub rows: Vec<Row>,
}

const PREFACE: &str = "\
# What was explored to the end. `raft-sim explored` explores it once more and compares; with --write it
# puts down what it finds, here and in EXPLORED.md.
#
# explore  the arguments of `raft-sim explore`
# found    what it finds, on every machine, with any number of threads
# cpu_ms   processor time, in milliseconds, of one thread on the machine at hand
# mib      memory of the whole process at its largest
# code     the last commit that changed what was explored, or who did it
";

impl List {
    /// Reads the list of the tree at `root`.
    ///
    /// # Errors
    /// A sentence that names the file, and what is wrong with it.
    pub fn read(root: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(root.join(LIST))
            .map_err(|error| format!("cannot read {LIST}: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("{LIST}: {error}"))
    }

    /// The rows that have one of these texts, or any, among their arguments, and take no more time
    /// together, by their positions.
    pub(super) fn wanted(&self, only: &[String], within_ms: Option<u64>) -> Vec<usize> {
        let is_meant = |row: &Row| {
            only.is_empty() || only.iter().any(|text| row.explore.contains(text.as_str()))
        };
        let mut meant: Vec<usize> =
            (0..self.rows.len()).filter(|at| is_meant(&self.rows[*at])).collect();
        if let Some(most) = within_ms {
            meant.sort_by_key(|at| self.rows[*at].cpu_ms);
            let mut spent = 0_u64;
            meant.retain(|at| {
                spent = spent.saturating_add(self.rows[*at].cpu_ms);
                spent <= most
            });
        }
        meant
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let mut text = PREFACE.to_owned();
        for Row { explore, found, cpu_ms, mib, code } in &self.rows {
            let Figures { states, transitions, depth, landmarks } = found;
            write!(
                text,
                "\n[[row]]\nexplore = \"{explore}\"\nfound = {{ states = {states}, transitions = \
                 {transitions}, depth = {depth}, landmarks = {landmarks} }}\ncpu_ms = {cpu_ms}\nmib = \
                 {mib}\ncode = \"{code}\"\n"
            )
            .expect("a text takes everything");
        }
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn row(explore: &str, states: u64, cpu_ms: u64) -> Row {
        let found = Figures { states, transitions: 1_234_567, depth: 3, landmarks: 4 };
        Row { explore: explore.to_owned(), found, cpu_ms, mib: 5, code: "c0de".to_owned() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let list = List { rows: vec![row("--nodes 3", 7, 10), row("--nodes 2", 8, 20)] };
        assert_eq!(toml::from_str::<List>(&list.text()), Ok(list));
    }

    #[test]
    fn other_figures_are_told_one_by_one() {
        let row = row("--nodes 3", 7, 10);
        let found = |states, depth| {
            let figures = Figures { states, depth, ..row.found };
            row.difference(&Measured { figures, cpu_ms: 99, mib: 99 })
        };
        assert_eq!(found(7, 3), None, "time and memory are the machine's");
        let told = "OTHERWISE: states 8 and not 7, depth 2 and not 3";
        assert_eq!(found(8, 2).as_deref(), Some(told));
    }

    #[test]
    fn the_shortest_rows_come_first_where_time_is_limited() {
        let rows = vec![row("--nodes 3", 1, 30), row("--nodes 2", 1, 10), row("--leases", 1, 25)];
        let list = List { rows };
        let wanted = |only: &[&str], within| {
            let only: Vec<String> = only.iter().map(|text| (*text).to_owned()).collect();
            list.wanted(&only, within)
        };
        assert_eq!(wanted(&[], None), [0, 1, 2]);
        assert_eq!(wanted(&["--nodes"], None), [0, 1]);
        assert_eq!(wanted(&[], Some(40)), [1, 2]);
        assert_eq!(wanted(&["--nodes"], Some(40)), [1, 0]);
        assert_eq!(wanted(&["--beyond"], None), [0; 0]);
    }
}
