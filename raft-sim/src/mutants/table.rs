//! The results as a person reads them: a table on standard output, and the page that is published.
//!
//! The page is its own memory: what a part of the matrix does not run again keeps the line that it
//! had, as long as the mutant is in the list.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::Path;

use super::list::{Kind, List, Mutant};
use super::verdict::Verdict;

const PREFACE: &str = "\
# The kill matrix

A simulator is as good as the bugs that it finds. Each line below is a way to break the code that
ships (`mutants.toml` says where and why), which invariant must notice, and which one did: within
how many seeds of the swarm, or after how many states of the exploration and at which depth. The
processor time, in milliseconds, is that of the run until then, on the machine at hand; it depends
on the number of threads, as seeds that run at the same time count as well.

- *weak*: a panic, or a process that hangs or ends otherwise, says that something is wrong, but not
  what.
- *survived*: a hole in the simulator, or a rule that another one makes up for.

To run it all, or one mutant, and to write this page:

    cargo run --release -p raft-sim -- mutants --write
    cargo run --release -p raft-sim -- mutants --only vote-not-persisted

Exit codes: 0 all are killed, 5 one survives, 1 one does not apply or build or the code fails without
any of them, 64 usage. A tree in which the code fails without any mutation proves nothing, so the
same seeds and explorations are run on the unchanged copy first.

| mutant | looked for by | expected | killed by | after | CPU ms |
|---|---|---|---|---|---:|
";

/// What came of one mutant, looked for in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    id: String,
    kind: Kind,
    expected: String,
    verdict: Verdict,
    is_expected: bool,
    cpu_ms: Option<u64>,
}

impl Row {
    pub(super) fn new(mutant: &Mutant, kind: Kind, verdict: Verdict, cpu_ms: Option<u64>) -> Self {
        let is_expected = match &verdict {
            Verdict::Killed { by, .. } => mutant.expects(by),
            Verdict::Survived { .. }
            | Verdict::Weak { .. }
            | Verdict::DoesNotBuild
            | Verdict::Interrupted => false,
        };
        let (id, expected) = (mutant.id.clone(), mutant.invariant.clone());
        Self { id, kind, expected, verdict, is_expected, cpu_ms }
    }

    /// By whom, and after what.
    fn told(&self) -> (String, &str) {
        match &self.verdict {
            Verdict::Survived { looked } => ("SURVIVED".to_owned(), looked),
            Verdict::Killed { by, after } if self.is_expected => (by.clone(), after),
            Verdict::Killed { by, after } => (format!("{by} (unexpected)"), after),
            Verdict::Weak { how, after } => (format!("{how} (weak)"), after),
            Verdict::DoesNotBuild => ("DOES NOT BUILD".to_owned(), "-"),
            Verdict::Interrupted => ("interrupted".to_owned(), "-"),
        }
    }

    fn cells(&self) -> [String; 6] {
        let (by, after) = self.told();
        let cpu = match self.cpu_ms {
            None => "-".to_owned(),
            Some(0) => "<10".to_owned(), // Less than one tick of the system's clock.
            Some(ms) => ms.to_string(),
        };
        let (id, kind, expected) = (self.id.clone(), self.kind.name().to_owned(), &self.expected);
        [id, kind, expected.replace(' ', ", "), by, after.to_owned(), cpu]
    }

    /// The line of the published table.
    fn line(&self) -> String {
        format!("| {} |", self.cells().map(|cell| cell.replace('|', "/")).join(" | "))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, after) = self.told();
        write!(f, "{by} after {after}")
    }
}

/// All results, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

impl Table {
    /// Whether somebody has survived.
    pub(super) fn has_survivors(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.verdict, Verdict::Survived { .. }))
    }

    /// Whether some mutant does not build.
    pub(super) fn is_broken(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::DoesNotBuild)
    }

    /// Writes the page: these results, and for the rest of the list what it said before.
    pub(super) fn publish(&self, path: &Path, list: &List) -> io::Result<()> {
        let before = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        fs::write(path, self.page(&before, list))
    }

    fn page(&self, before: &str, list: &List) -> String {
        let mut lines: BTreeMap<(String, String), String> = BTreeMap::new();
        for line in before.lines() {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            if let (Some(id), Some(kind)) = (cells.next(), cells.next()) {
                lines.insert((id.to_owned(), kind.to_owned()), line.to_owned());
            }
        }
        for row in &self.rows {
            lines.insert((row.id.clone(), row.kind.name().to_owned()), row.line());
        }
        let mut page = PREFACE.to_owned();
        for mutant in &list.mutants {
            for kind in [Kind::Seeds, Kind::Explore] {
                if let Some(line) = lines.get(&(mutant.id.clone(), kind.name().to_owned())) {
                    page.push_str(line);
                    page.push('\n');
                }
            }
        }
        page
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["mutant", "kind", "expected", "killed by", "after", "CPU ms"];
        let mut lines = vec![head.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        for line in &lines {
            let mut shown = String::new();
            for (width, cell) in widths.iter().zip(line) {
                write!(shown, "{cell:<width$}  ")?;
            }
            writeln!(f, "{}", shown.trim_end())?;
        }
        let count =
            |is: fn(&Verdict) -> bool| self.rows.iter().filter(|row| is(&row.verdict)).count();
        let killed = count(|verdict| matches!(verdict, Verdict::Killed { .. }));
        let weak = count(|verdict| matches!(verdict, Verdict::Weak { .. }));
        let survived = count(|verdict| matches!(verdict, Verdict::Survived { .. }));
        write!(f, "{} runs: {killed} killed, {weak} weak, {survived} survived", self.rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(id: &str) -> Mutant {
        Mutant {
            id: id.to_owned(),
            layer: "vote".to_owned(),
            file: "f".to_owned(),
            find: "x".to_owned(),
            replace: "y".to_owned(),
            why: "w".to_owned(),
            invariant: "ES MT".to_owned(),
            seeds: Some(1),
            explore: None,
        }
    }

    fn row(id: &str, verdict: Verdict) -> Row {
        Row::new(&mutant(id), Kind::Seeds, verdict, Some(20))
    }

    fn killed(by: &str) -> Verdict {
        Verdict::Killed { by: by.to_owned(), after: "3 seeds".to_owned() }
    }

    #[test]
    fn a_kill_by_another_invariant_counts_and_is_shown() {
        let survived = Verdict::Survived { looked: "50 seeds".to_owned() };
        let rows = vec![row("a", killed("MT")), row("b", killed("PS")), row("c", survived)];
        let table = Table { rows };
        assert!(table.has_survivors() && !table.is_broken());
        let expected = "\
mutant  kind   expected  killed by        after     CPU ms
a       seeds  ES, MT    MT               3 seeds   20
b       seeds  ES, MT    PS (unexpected)  3 seeds   20
c       seeds  ES, MT    SURVIVED         50 seeds  20
3 runs: 2 killed, 0 weak, 1 survived";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn the_page_keeps_what_was_not_run_again_and_forgets_what_is_gone() {
        let list = List { mutants: vec![mutant("a"), mutant("b")] };
        let first = Table { rows: vec![row("b", killed("ES")), row("gone", killed("ES"))] };
        let page = first.page("", &list);
        assert!(page.ends_with("|---:|\n| b | seeds | ES, MT | ES | 3 seeds | 20 |\n"), "{page}");
        let second = Table { rows: vec![row("a", killed("PS"))] };
        let page = second.page(&page, &list);
        let lines = "\
| a | seeds | ES, MT | PS (unexpected) | 3 seeds | 20 |
| b | seeds | ES, MT | ES | 3 seeds | 20 |
";
        assert!(page.ends_with(&format!("|---:|\n{lines}")), "{page}");
    }
}
