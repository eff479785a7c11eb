//! What a mutant is, and the list of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::ValueEnum;
use serde::Deserialize;

use super::MATRIX;

/// The short names under which mutants are expected to be caught: the invariants of the checker, what
/// only a whole run shows, what a node itself reports, and what the simulator says about itself.
pub const KNOWN: [&str; 23] = [
    "ES", "MT", "PS", "LM", "CQ", "LC", "CI", "SM", "LIN", "EO", "LZ", "ET", "CF", "REC", "DMG",
    "BND", "LV", "QS", "DT", "REPORTED", "SELF", "INERT", "MISSED",
];

/// How a mutant is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// By seeds, until one fails.
    Seeds,
    /// By visiting every state within bounds.
    Explore,
    /// By the simulator itself, which must notice that it does not do what it says.
    #[value(name = "self")]
    SelfCheck,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Seeds, Self::Explore, Self::SelfCheck];

    /// Its name on the command line and in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seeds => "seeds",
            Self::Explore => "explore",
            Self::SelfCheck => "self",
        }
    }
}

/// One way to break the code.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Its name.
    pub id: String,
    /// The part of the stack that it breaks.
    pub layer: String,
    /// The file, from the root of the workspace.
    pub file: String,
    /// Text that stands there exactly once.
    pub find: String,
    /// What takes its place.
    pub replace: String,
    /// Why that is a bug.
    pub why: String,
    /// Who must catch it: one or several short names.
    pub invariant: String,
    /// Within how many seeds, if seeds look for it.
    pub seeds: Option<u64>,
    /// What else the swarm is told, if it is one that looks just where this can show.
    pub directed: Option<String>,
    /// The arguments of `raft-sim explore`, if an exploration looks for it.
    pub explore: Option<String>,
    /// Within how many seeds `raft-sim self-check` must notice, if the simulator itself is broken.
    pub self_check: Option<u64>,
}

impl Mutant {
    /// Whether it is looked for in this way.
    #[must_use]
    pub fn is_looked_for(&self, kind: Kind) -> bool {
        match kind {
            Kind::Seeds => self.seeds.is_some(),
            Kind::Explore => self.explore.is_some(),
            Kind::SelfCheck => self.self_check.is_some(),
        }
    }

    /// The text of the file with the mutation in it.
    ///
    /// # Errors
    /// The text to be replaced is not there exactly once.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        let Self { id, file, find, .. } = self;
        match text.matches(find.as_str()).count() {
            1 => Ok(text.replacen(find, &self.replace, 1)),
            count => {
                Err(format!("mutant {id}: its text is found {count} times in {file}, not once"))
            }
        }
    }

    /// Whether the mutation applies to the tree at `root`.
    ///
    /// # Errors
    /// It does not, or the file cannot be read.
    pub fn check(&self, root: &Path) -> Result<(), String> {
        let Self { id, file, .. } = self;
        let text = fs::read_to_string(root.join(file))
            .map_err(|error| format!("mutant {id}: cannot read {file}: {error}"))?;
        self.apply(&text).map(drop)
    }

    /// Whether this short name is one of those that must catch it.
    #[must_use]
    pub fn expects(&self, invariant: &str) -> bool {
        self.invariant.split(' ').any(|expected| expected == invariant)
    }

    fn validate(&self) -> Result<(), String> {
        let Self { id, find, replace, invariant, .. } = self;
        let is_kebab =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if id.is_empty() || !id.bytes().all(is_kebab) {
            return Err(format!("mutant {id:?}: an id is of small letters, digits and dashes"));
        }
        if find.is_empty() || find == replace {
            return Err(format!("mutant {id}: it changes nothing"));
        }
        if let Some(unknown) = invariant.split(' ').find(|name| !KNOWN.contains(name)) {
            return Err(format!("mutant {id}: there is no invariant {unknown:?}"));
        }
        let is_none = |seeds: Option<u64>| seeds.is_none_or(|seeds| seeds == 0);
        if is_none(self.seeds) && self.explore.is_none() && is_none(self.self_check) {
            return Err(format!("mutant {id}: nothing looks for it"));
        }
        if self.directed.is_some() && self.seeds.is_none() {
            return Err(format!("mutant {id}: there is no swarm to direct"));
        }
        Ok(())
    }
}

/// All mutants, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The mutants.
    #[serde(rename = "mutant")]
    pub mutants: Vec<Mutant>,
}

impl List {
    /// Reads the list of the tree at `root`.
    ///
    /// # Errors
    /// A sentence that names the file, and the mutant if one is wrong.
    pub fn read(root: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(root.join(MATRIX))
            .map_err(|error| format!("cannot read {MATRIX}: {error}"))?;
        Self::parse(&text).map_err(|error| format!("{MATRIX}: {error}"))
    }

    /// Reads a list and checks each of its mutants, and that no two have the same name.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut ids = BTreeSet::new();
        for mutant in &list.mutants {
            mutant.validate()?;
            if !ids.insert(&mutant.id) {
                return Err(format!("mutant {}: there are two of this name", mutant.id));
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"
        [[mutant]]
        id = "a-1"
        layer = "vote"
        file = "f"
        find = "x"
        replace = "y"
        why = "w"
        invariant = "ES MT"
        seeds = 1
    "#;

    #[test]
    fn a_mutation_applies_where_its_text_stands_once() {
        let list = List::parse(ONE).expect("the list is right");
        let mutant = &list.mutants[0];
        assert_eq!(mutant.apply("a x b"), Ok("a y b".to_owned()));
        for (text, count) in [("a b", 0), ("x x", 2)] {
            let error = mutant.apply(text).expect_err("it does not stand there once");
            assert_eq!(
                error,
                format!("mutant a-1: its text is found {count} times in f, not once")
            );
        }
        assert!(mutant.expects("MT") && !mutant.expects("CQ"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let wrong = [
            ("a-1", "A 1", "an id is of small letters"),
            ("find = \"x\"", "find = \"y\"", "changes nothing"),
            ("ES MT", "ES or MT", "no invariant \"or\""),
            ("seeds = 1", "seeds = 0", "nothing looks for it"),
            ("seeds = 1", "seed = 1", "unknown field `seed`"),
            ("seeds = 1", "self_check = 1\ndirected = \"--events 9\"", "no swarm to direct"),
        ];
        for (from, to, part) in wrong {
            let error = List::parse(&ONE.replace(from, to)).expect_err("it is refused");
            assert!(error.contains(part), "{part:?} is missing: {error}");
        }
        let twice = List::parse(&format!("{ONE}{ONE}")).expect_err("a name is one mutant's");
        assert_eq!(twice, "mutant a-1: there are two of this name");
    }
}
