//! The page that is published: one line for each mutant and way, and what they add up to.
//!
//! The page is its own memory. What a part of the matrix does not run again keeps the line that it
//! had, as long as the mutant is in the list, and what has a line need not be run again. So a run
//! that is stopped goes on where it was, and each line says of which code it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use super::list::{Kind, List};
use super::table::{Row, SURVIVED, UNEXPECTED, WEAK};

const PREFACE: &str = "\
# The kill matrix

A simulator is as good as the bugs that it finds. Each line below is a way to break the code
(`mutants.toml` says where and why), which invariant must notice, and which one did. Of the code that
ships, *seeds* counts the seeds of the swarm until one failed, all families of faults at once unless
`mutants.toml` directs it, and *explore* the states of an exploration, with the depth of the shortest path. *self* is a way to break the simulator itself, which
`raft-sim self-check` must notice: SELF is a simulator that does not do what it was told, INERT a class
of faults without effect, MISSED a stack that was broken on purpose and passed.

The processor time, in milliseconds, is that of the run until then, on the machine at hand; it depends
on the number of threads, as seeds that run at the same time count as well. *Code* is the last commit
that changed what was judged or who judged it, with a `+` if there were changes beyond it.

- *weak*: a panic, or a process that hangs or ends otherwise, says that something is wrong, but not
  what.
- *unexpected*: another invariant noticed before those that were named. That is weak as well.
- *SURVIVED*: a hole in the simulator, or a rule that another one makes up for; or, with fewer seeds
  than `mutants.toml` asks for, nothing yet.

To run it all, or one mutant, and to write this page; `--missing` leaves out what has a line here:

    cargo run --release -p raft-sim -- mutants --write --missing
    cargo run --release -p raft-sim -- mutants --write --only vote-not-persisted

Exit codes: 0 all are killed, 5 one survives, 1 one does not apply or build or the code fails without
any of them, 64 usage. A tree in which the code fails without any mutation proves nothing, so the
same seeds and explorations are run on the unchanged copy first.
";

const HEAD: &str = "\
| mutant | looked for by | expected | killed by | after | CPU ms | code |
|---|---|---|---|---|---:|---|
";

/// The lines of a page, by mutant and way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    lines: BTreeMap<(String, Kind), Vec<String>>,
}

impl Page {
    /// Reads the page at `path`; there need not be one.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            let Some(line) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"))
            else {
                continue;
            };
            let cells: Vec<String> = line.split(" | ").map(str::to_owned).collect();
            let kind =
                cells.get(1).and_then(|name| Kind::ALL.into_iter().find(|k| k.name() == *name));
            if let Some(kind) = kind {
                page.lines.insert((cells[0].clone(), kind), cells);
            }
        }
        page
    }

    /// What has a line.
    pub(super) fn known(&self) -> BTreeSet<(String, Kind)> {
        self.lines.keys().cloned().collect()
    }

    /// Takes a result, of this code, in place of what the page said about it before.
    pub(super) fn take(&mut self, row: &Row, code: &str) {
        let cells = row.cells().into_iter().chain([code.to_owned()]);
        let cells = cells.map(|cell| cell.replace('|', "/")).collect();
        self.lines.insert(row.key(), cells);
    }

    /// Writes the page, of the mutants in this list.
    pub(super) fn write(&self, path: &Path, list: &List) -> io::Result<()> {
        fs::write(path, self.text(list))
    }

    fn text(&self, list: &List) -> String {
        let ids = list.mutants.iter().map(|mutant| &mutant.id);
        let keys = ids.flat_map(|id| Kind::ALL.map(|kind| (id.clone(), kind)));
        let lines: Vec<&Vec<String>> = keys.filter_map(|key| self.lines.get(&key)).collect();
        let mut text = format!("{PREFACE}\n{}{}\n{HEAD}", sum(&lines, list), self.missing(list));
        for line in lines {
            writeln!(text, "| {} |", line.join(" | ")).expect("a text takes everything");
        }
        text
    }

    /// What has no line.
    fn missing(&self, list: &List) -> String {
        let ways = list.mutants.iter().flat_map(|mutant| {
            let kinds = Kind::ALL.into_iter().filter(|kind| mutant.is_looked_for(*kind));
            kinds.map(move |kind| (mutant.id.clone(), kind))
        });
        let missing = ways.filter(|way| !self.lines.contains_key(way));
        let names: Vec<String> =
            missing.map(|(id, kind)| format!("{id} ({})", kind.name())).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("- not run yet: {names}\n")
    }
}

/// Whether a line is of fewer seeds than are due.
fn is_short(line: &[String], list: &List) -> bool {
    let [id, kind, .., after, _, _] = line else { return false };
    let due = list.mutants.iter().find(|mutant| mutant.id == *id).and_then(|mutant| mutant.seeds);
    let looked = after.split(' ').next().and_then(|seeds| seeds.parse::<u64>().ok());
    *kind == Kind::Seeds.name() && due.zip(looked).is_some_and(|(due, looked)| looked < due)
}

/// What the lines add up to, and who is not killed as he should be.
fn sum(lines: &[&Vec<String>], list: &List) -> String {
    let verdict = |line: &[String]| line.get(3).cloned().unwrap_or_default();
    let those = |is: &dyn Fn(&[String]) -> bool| -> Vec<&str> {
        let lines = lines.iter().filter(|line| is(line));
        lines.filter_map(|line| line.first().map(String::as_str)).collect()
    };
    let survives = |line: &[String]| verdict(line) == SURVIVED;
    let survived = those(&|line| survives(line) && !is_short(line, list));
    let short = those(&|line| survives(line) && is_short(line, list));
    let is_weak = |verdict: String| verdict.ends_with(WEAK) || verdict.ends_with(UNEXPECTED);
    let weak = those(&|line| is_weak(verdict(line)));
    let cpu = lines.iter().filter_map(|line| line.get(5)?.parse::<u64>().ok()).sum::<u64>();
    let named = |ids: &[&str]| if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    let killed = lines.len() - survived.len() - short.len() - weak.len();
    format!(
        "{} lines: {killed} killed by an invariant, {} weak, {} survived, {} not found yet, in {} s of \
         processor time without the builds.\n\n- weak: {}\n- survived: {}\n- not found yet, in fewer \
         seeds than are due: {}\n",
        lines.len(),
        weak.len(),
        survived.len(),
        short.len(),
        cpu.div_ceil(1000),
        named(&weak),
        named(&survived),
        named(&short),
    )
}

#[cfg(test)]
mod tests {
    use super::super::list::Mutant;
    use super::super::table::tests::{killed, mutant, row};
    use super::super::verdict::Verdict;
    use super::*;

    fn page(text: &str, rows: &[Row]) -> Page {
        let mut page = Page::parse(text);
        rows.iter().for_each(|row| page.take(row, "c0de"));
        page
    }

    #[test]
    fn the_page_keeps_what_was_not_run_again_and_forgets_what_is_gone() {
        let list = List { mutants: vec![mutant("a"), mutant("b")] };
        let first = page("", &[row("b", killed("ES")), row("gone", killed("ES"))]).text(&list);
        let line = "|---|\n| b | seeds | ES, MT | ES | 3 seeds | 20 | c0de |\n";
        assert!(first.ends_with(line), "{first}");
        let second = page(&first, &[row("a", killed("PS"))]);
        assert_eq!(second.known().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["a", "b"]);
        let lines = "\
| a | seeds | ES, MT | PS (unexpected) | 3 seeds | 20 | c0de |
| b | seeds | ES, MT | ES | 3 seeds | 20 | c0de |
";
        let text = second.text(&list);
        assert!(text.ends_with(&format!("|---|\n{lines}")), "{text}");
        assert_eq!(page(&text, &[]).text(&list), text, "what is read is what was written");
    }

    #[test]
    fn the_page_says_who_is_not_killed() {
        let list = List { mutants: vec![mutant("a"), mutant("b"), mutant("c")] };
        let survived = Verdict::Survived { looked: "50 seeds".to_owned() };
        let weak = Verdict::Weak { how: "panic".to_owned(), after: "1 seed".to_owned() };
        let rows = [row("a", survived), row("b", weak), row("c", killed("MT"))];
        let text = page("", &rows).text(&list);
        let told = "\n3 lines: 1 killed by an invariant, 1 weak, 1 survived, 0 not found yet, in 1 s of \
                    processor time without the builds.\n\n- weak: b\n- survived: a\n- not found yet, in \
                    fewer seeds than are due: none\n- not run yet: none\n";
        assert!(text.contains(told), "{text}");
        let text = page("", &[row("a", killed("PS"))]).text(&list);
        assert!(text.contains("0 killed by an invariant, 1 weak, 0 survived"), "{text}");
        assert!(text.contains("\n- not run yet: b (seeds), c (seeds)\n"), "{text}");
    }

    #[test]
    fn who_was_not_looked_for_long_enough_has_not_survived() {
        let more = Mutant { seeds: Some(51), ..mutant("a") };
        let survived = || Verdict::Survived { looked: "50 seeds".to_owned() };
        let list = List { mutants: vec![more, mutant("b")] };
        let text = page("", &[row("a", survived()), row("b", survived())]).text(&list);
        assert!(
            text.contains("\n- survived: b\n- not found yet, in fewer seeds than are due: a\n"),
            "{text}"
        );
    }
}
