//! Which mutants are run, by which commands, and what must pass without any mutation first.

use std::fmt;

use super::list::{Kind, List, Mutant};

/// A command that judges a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    /// `raft-sim swarm --seeds 0..N`.
    Swarm {
        /// How many seeds.
        seeds: u64,
    },
    /// `raft-sim explore ARGS`.
    Explore {
        /// Its arguments.
        arguments: String,
    },
}

impl Judge {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Swarm { .. } => Kind::Seeds,
            Self::Explore { .. } => Kind::Explore,
        }
    }

    /// The arguments of `raft-sim`.
    pub(super) fn arguments(&self) -> Vec<String> {
        self.to_string().split_whitespace().map(str::to_owned).collect()
    }
}

impl fmt::Display for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Swarm { seeds } => write!(f, "swarm --seeds 0..{seeds}"),
            Self::Explore { arguments } => write!(f, "explore {arguments}"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan<'a> {
    /// Each mutant, with what judges it.
    pub(super) mutants: Vec<(&'a Mutant, Vec<Judge>)>,
    /// What the unchanged code must pass: all seeds that any mutant is given, all explorations.
    pub(super) baseline: Vec<Judge>,
}

impl<'a> Plan<'a> {
    /// The mutants of these names (all if there is none), as far as they are looked for in this way.
    pub(super) fn new(list: &'a List, only: &[String], kind: Option<Kind>) -> Result<Self, String> {
        let known = |id: &String| list.mutants.iter().any(|mutant| mutant.id == *id);
        if let Some(unknown) = only.iter().find(|id| !known(id)) {
            return Err(format!("there is no mutant '{unknown}'"));
        }
        let wanted = |mutant: &&Mutant| only.is_empty() || only.contains(&mutant.id);
        let mutants: Vec<_> = list
            .mutants
            .iter()
            .filter(wanted)
            .map(|mutant| (mutant, judges(mutant, kind)))
            .filter(|(_, judges)| !judges.is_empty())
            .collect();
        if mutants.is_empty() {
            return Err("none of these mutants is looked for in this way".to_owned());
        }
        let baseline = baseline(&mutants);
        Ok(Self { mutants, baseline })
    }
}

fn judges(mutant: &Mutant, kind: Option<Kind>) -> Vec<Judge> {
    let swarm = mutant.seeds.map(|seeds| Judge::Swarm { seeds });
    let explore = mutant.explore.clone().map(|arguments| Judge::Explore { arguments });
    let wanted = |judge: &Judge| kind.is_none_or(|kind| kind == judge.kind());
    [swarm, explore].into_iter().flatten().filter(wanted).collect()
}

fn baseline(mutants: &[(&Mutant, Vec<Judge>)]) -> Vec<Judge> {
    let mut all: Vec<Judge> = Vec::new();
    let mut most = None;
    for judge in mutants.iter().flat_map(|(_, judges)| judges) {
        match judge {
            // The seeds begin with the same one everywhere, so the longest swarm is all of them.
            Judge::Swarm { seeds } => most = most.max(Some(*seeds)),
            Judge::Explore { .. } if all.contains(judge) => {}
            Judge::Explore { .. } => all.push(judge.clone()),
        }
    }
    all.extend(most.map(|seeds| Judge::Swarm { seeds }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let mutant = |id: &str, seeds: Option<u64>, explore: Option<&str>| Mutant {
            id: id.to_owned(),
            layer: "vote".to_owned(),
            file: "f".to_owned(),
            find: "x".to_owned(),
            replace: "y".to_owned(),
            why: "w".to_owned(),
            invariant: "ES".to_owned(),
            seeds,
            explore: explore.map(str::to_owned),
        };
        let mutants = vec![
            mutant("one", Some(50), None),
            mutant("two", Some(2000), Some("--nodes 3")),
            mutant("three", None, Some("--nodes 3")),
        ];
        List { mutants }
    }

    #[test]
    fn the_baseline_is_what_the_mutants_are_given() {
        let list = list();
        let plan = Plan::new(&list, &[], None).expect("there are mutants");
        assert_eq!(plan.mutants.len(), 3);
        let shown: Vec<String> = plan.baseline.iter().map(Judge::to_string).collect();
        assert_eq!(shown, ["explore --nodes 3", "swarm --seeds 0..2000"]);
        let only = Plan::new(&list, &["one".to_owned()], None).expect("there is one");
        assert_eq!(only.baseline, [Judge::Swarm { seeds: 50 }]);
    }

    #[test]
    fn a_kind_leaves_out_what_is_not_looked_for_in_it() {
        let list = list();
        let plan = Plan::new(&list, &[], Some(Kind::Explore)).expect("there are mutants");
        let ids: Vec<&str> = plan.mutants.iter().map(|(mutant, _)| mutant.id.as_str()).collect();
        assert_eq!(ids, ["two", "three"]);
        assert!(plan.mutants.iter().all(|(_, judges)| judges.len() == 1));
        let none = Plan::new(&list, &["one".to_owned()], Some(Kind::Explore));
        assert_eq!(none, Err("none of these mutants is looked for in this way".to_owned()));
        let unknown = Plan::new(&list, &["four".to_owned()], None);
        assert_eq!(unknown, Err("there is no mutant 'four'".to_owned()));
    }
}
