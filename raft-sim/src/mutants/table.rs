//! The results as a person reads them who has waited for them: a table on standard output.

use std::fmt::{self, Write};

use super::list::{Kind, Mutant};
use super::verdict::Verdict;

/// What the table says of who was not noticed.
pub(super) const SURVIVED: &str = "SURVIVED";
/// How it marks a failure that says nothing about why.
pub(super) const WEAK: &str = "(weak)";
/// How it marks a kill by an invariant that was not named: who noticed may have done so by chance.
pub(super) const UNEXPECTED: &str = "(unexpected)";

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

    /// Whether something noticed, and not what should have.
    fn is_weak(&self) -> bool {
        match self.verdict {
            Verdict::Weak { .. } => true,
            Verdict::Killed { .. } => !self.is_expected,
            Verdict::Survived { .. } | Verdict::DoesNotBuild | Verdict::Interrupted => false,
        }
    }

    /// By whom, and after what.
    fn told(&self) -> (String, &str) {
        match &self.verdict {
            Verdict::Survived { looked } => (SURVIVED.to_owned(), looked),
            Verdict::Killed { by, after } if self.is_expected => (by.clone(), after),
            Verdict::Killed { by, after } => (format!("{by} {UNEXPECTED}"), after),
            Verdict::Weak { how, after } => (format!("{how} {WEAK}"), after),
            Verdict::DoesNotBuild => ("DOES NOT BUILD".to_owned(), "-"),
            Verdict::Interrupted => ("interrupted".to_owned(), "-"),
        }
    }

    /// What it is about.
    pub(super) fn key(&self) -> (String, Kind) {
        (self.id.clone(), self.kind)
    }

    /// The cells of its line.
    pub(super) fn cells(&self) -> [String; 6] {
        let (by, after) = self.told();
        let cpu = match self.cpu_ms {
            None => "-".to_owned(),
            Some(0) => "<10".to_owned(), // Less than one tick of the system's clock.
            Some(ms) => ms.to_string(),
        };
        let (id, kind, expected) = (self.id.clone(), self.kind.name().to_owned(), &self.expected);
        [id, kind, expected.replace(' ', ", "), by, after.to_owned(), cpu]
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
        let count = |is: fn(&Row) -> bool| self.rows.iter().filter(|row| is(row)).count();
        let killed = count(|row| row.is_expected);
        let weak = count(Row::is_weak);
        let survived = count(|row| matches!(row.verdict, Verdict::Survived { .. }));
        write!(f, "{} runs: {killed} killed, {weak} weak, {survived} survived", self.rows.len())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn mutant(id: &str) -> Mutant {
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
            directed: None,
            self_check: None,
        }
    }

    pub(in super::super) fn row(id: &str, verdict: Verdict) -> Row {
        Row::new(&mutant(id), Kind::Seeds, verdict, Some(20))
    }

    pub(in super::super) fn killed(by: &str) -> Verdict {
        Verdict::Killed { by: by.to_owned(), after: "3 seeds".to_owned() }
    }

    #[test]
    fn a_kill_by_another_invariant_is_shown_and_weak() {
        let survived = Verdict::Survived { looked: "50 seeds".to_owned() };
        let rows = vec![row("a", killed("MT")), row("b", killed("PS")), row("c", survived)];
        let table = Table { rows };
        assert!(table.has_survivors() && !table.is_broken());
        let expected = "\
mutant  kind   expected  killed by        after     CPU ms
a       seeds  ES, MT    MT               3 seeds   20
b       seeds  ES, MT    PS (unexpected)  3 seeds   20
c       seeds  ES, MT    SURVIVED         50 seeds  20
3 runs: 1 killed, 1 weak, 1 survived";
        assert_eq!(table.to_string(), expected);
    }
}
