//! What a swarm has found, as lines of JSON, so that many machines can share a range of seeds.
//!
//! There are two kinds of lines. A `part` sums up a stretch of seeds that ran one after the other,
//! and a `failure` tells of one run. A file is good up to its last whole line, so a machine that is
//! taken away costs the part that it was working on. Parts of several files are added up only if they
//! are about different seeds: evidence that is counted twice is none.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::report::{Report, Summary, version, worse};

/// A part is written after this many seeds, at the latest.
const PART_SEEDS: u64 = 100;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// A stretch of seeds.
    Part(Box<Part>),
    /// A run that failed.
    Failure(Found),
}

/// A stretch of seeds, from `first` to just before `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The version of the program, and its commit if it knows it: a seed is bound to it.
    pub version: String,
    /// The profile and the options that all runs have in common, as on the command line.
    pub setup: String,
    /// The first seed.
    pub first: u64,
    /// The seed after the last one.
    pub end: u64,
    /// Their sum.
    pub summary: Summary,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Found {
    /// How many events it took: the shortest run is the easiest to read.
    pub events: u64,
    /// Its seed.
    pub seed: u64,
    /// The exit code of its run.
    pub exit_code: u8,
    /// What is violated.
    pub id: String,
    /// What was seen.
    pub what: String,
    /// The command that repeats it.
    pub reproduce: String,
}

impl Found {
    /// What a report says about a failure, if it is one.
    #[must_use]
    pub fn of(report: &Report) -> Option<Self> {
        report.failure.as_ref().map(|failure| Self {
            events: report.stats.events,
            seed: report.options.seed,
            exit_code: report.exit_code(),
            id: failure.id().to_string(),
            what: failure.to_string(),
            reproduce: report.reproduce(),
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, seed, exit_code: _, id, what, reproduce } = self;
        write!(f, "seed {seed:#x}: {id}: {what}\n  {reproduce}, {events} events")
    }
}

/// Writes the lines of a swarm.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    setup: String,
    first: u64,
    summary: Summary,
}

impl<W: Write> Writer<W> {
    /// A writer for runs from `first` on with this setup, as on the command line.
    pub fn new(to: W, setup: String, first: u64) -> Self {
        Self { to, setup, first, summary: Summary::default() }
    }

    /// Adds the next seed, and its report if it was run.
    ///
    /// # Errors
    /// What the file says.
    pub fn add(&mut self, report: Option<&Report>) -> io::Result<()> {
        if let Some(found) = report.and_then(Found::of) {
            // Told at once, whatever becomes of this machine.
            self.line(&Line::Failure(found))?;
            self.to.flush()?;
        }
        self.summary.add(report);
        if self.summary.seeds < PART_SEEDS { Ok(()) } else { self.end() }
    }

    /// Writes what has not been written yet.
    ///
    /// # Errors
    /// What the file says.
    pub fn end(&mut self) -> io::Result<()> {
        let summary = std::mem::take(&mut self.summary);
        if summary.seeds == 0 {
            return Ok(());
        }
        let first = self.first;
        self.first += summary.seeds;
        self.line(&Line::Part(Box::new(Part {
            version: version(),
            setup: self.setup.clone(),
            first,
            end: self.first,
            summary,
        })))?;
        self.to.flush()
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line).map_err(io::Error::other)?;
        text.push('\n');
        self.to.write_all(text.as_bytes())
    }
}

/// The sum of the lines of many files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The sum of all parts.
    pub summary: Summary,
    /// The failing runs, the shortest first.
    pub found: BTreeSet<Found>,
    /// The versions and setups that the parts are of.
    pub setups: BTreeSet<(String, String)>,
    /// Version, setup, first seed and seed after the last one of each part.
    stretches: Vec<(String, String, u64, u64)>,
}

impl Merged {
    /// Adds the text of a file.
    ///
    /// # Errors
    /// The number of the first line that cannot be added, and why. The lines before it are added. A
    /// last line without an end is not read: its writer was interrupted.
    pub fn add(&mut self, text: &str) -> Result<(), (usize, String)> {
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for (at, line) in whole.lines().enumerate() {
            let line = serde_json::from_str(line).map_err(|error| {
                (at + 1, format!("a line that `swarm --json` has written was expected: {error}"))
            })?;
            match line {
                Line::Part(part) => self.part(*part).map_err(|why| (at + 1, why))?,
                Line::Failure(found) => drop(self.found.insert(found)),
            }
        }
        Ok(())
    }

    fn part(&mut self, part: Part) -> Result<(), String> {
        let Part { version, setup, first, end, summary } = part;
        if end.checked_sub(first) != Some(summary.seeds) {
            return Err(format!("{} seeds cannot fill {first:#x}..{end:#x}", summary.seeds));
        }
        let is_known = |(version_, setup_, first_, end_): &&(String, String, u64, u64)| {
            (version_, setup_) == (&version, &setup) && *first_ < end && first < *end_
        };
        if let Some((_, _, first_, end_)) = self.stretches.iter().find(is_known) {
            return Err(format!(
                "seeds {first:#x}..{end:#x} overlap {first_:#x}..{end_:#x}, which are counted already"
            ));
        }
        self.summary.merge(&summary);
        self.setups.insert((version.clone(), setup.clone()));
        self.stretches.push((version, setup, first, end));
        Ok(())
    }

    /// The exit code of all runs together.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.found.iter().map(|found| found.exit_code).fold(self.summary.exit_code, worse)
    }

    /// Whether nothing was added up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.summary.seeds == 0 && self.found.is_empty()
    }
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (version, setup) in &self.setups {
            writeln!(f, "setup      raft-sim {version}, {setup}")?;
        }
        let builds: BTreeSet<&String> = self.setups.iter().map(|(version, _)| version).collect();
        if builds.len() > 1 {
            writeln!(f, "builds     {} of them: a seed is not the same run in each", builds.len())?;
        }
        for found in &self.found {
            writeln!(f, "{found}")?;
        }
        write!(f, "{}", self.summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{self, How};
    use crate::sabotage::Sabotage;

    fn lines(seeds: std::ops::Range<u64>, sabotage: Sabotage) -> (String, Summary) {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, "default".to_owned(), seeds.start);
        let mut summary = Summary::default();
        for seed in seeds {
            let report = run::seed(seed, How { sabotage, ..How::once(200) });
            writer.add(Some(&report)).unwrap();
            summary.add(Some(&report));
        }
        writer.end().unwrap();
        writer.end().unwrap();
        (String::from_utf8(bytes).unwrap(), summary)
    }

    #[test]
    fn shards_add_up_to_the_whole() {
        let (_, whole) = lines(0..12, Sabotage::None);
        let mut merged = Merged::default();
        for seeds in [7..12, 0..4, 4..7] {
            merged.add(&lines(seeds, Sabotage::None).0).unwrap();
        }
        assert_eq!(merged.summary, whole);
        assert!(merged.found.is_empty());
        assert!(merged.to_string().starts_with("setup      raft-sim "), "{merged}");
    }

    #[test]
    fn shards_of_different_builds_are_told_apart() {
        let (text, _) = lines(0..2, Sabotage::None);
        let (later, _) = lines(2..4, Sabotage::None);
        let mut merged = Merged::default();
        merged.add(&text).unwrap();
        merged.add(&later).unwrap();
        assert!(!merged.to_string().contains("builds"), "{merged}");
        let mut mixed = Merged::default();
        mixed.add(&text).unwrap();
        let built = format!("\"version\":\"{}", version());
        mixed.add(&later.replace(&built, &format!("{built} (c0de)"))).unwrap();
        assert!(mixed.to_string().contains("\nbuilds     2 of them"), "{mixed}");
    }

    #[test]
    fn failures_are_told_the_shortest_first() {
        let (text, summary) = lines(0..20, Sabotage::SyncDoesNothing);
        let mut merged = Merged::default();
        merged.add(&text).unwrap();
        assert!(summary.failed > 1 && merged.found.len() as u64 == summary.failed);
        let events: Vec<u64> = merged.found.iter().map(|found| found.events).collect();
        assert!(events.is_sorted(), "{events:?}");
        assert_eq!(merged.exit_code(), summary.exit_code);

        // The machine is gone before its first part is whole.
        let mut early = Merged::default();
        assert!(early.is_empty());
        early.add(&format!("{}\n", text.lines().next().expect("a failure"))).unwrap();
        assert!(!early.is_empty());
        assert_ne!((early.summary.seeds, early.exit_code()), (0, 0));
    }

    #[test]
    fn nothing_is_counted_twice_and_no_garbage_is_counted() {
        let (text, whole) = lines(3..6, Sabotage::None);
        let mut merged = Merged::default();
        merged.add(&text).unwrap();
        let (line, why) = merged.add(&text).unwrap_err();
        assert_eq!((line, why.contains("overlap")), (1, true), "{why}");
        assert_eq!(merged.add("{\"kind\":\"part\"}\n").unwrap_err().0, 1);
        assert_eq!(merged.add(&text.replace("\"end\":6", "\"end\":7")).unwrap_err().0, 1);
        assert_eq!(merged.add("{\"kind\":\"pa"), Ok(()), "a line that has no end");
        assert_eq!(merged.summary, whole);
    }
}
