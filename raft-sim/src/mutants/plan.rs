//! Which mutants are run, by which commands, and what must pass without any mutation first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::list::{Kind, List, Mutant};

/// A command that judges a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    /// `raft-sim swarm --seeds 0..N ARGS`.
    Swarm {
        /// How many seeds.
        seeds: u64,
        /// What else it is told; mostly nothing.
        directed: String,
    },
    /// `raft-sim explore ARGS`.
    Explore {
        /// Its arguments.
        arguments: String,
    },
    /// `raft-sim self-check --seeds 0..N`.
    SelfCheck {
        /// How many seeds.
        seeds: u64,
    },
}

impl Judge {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Swarm { .. } => Kind::Seeds,
            Self::Explore { .. } => Kind::Explore,
            Self::SelfCheck { .. } => Kind::SelfCheck,
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
            Self::Swarm { seeds, directed } if directed.is_empty() => {
                write!(f, "swarm --seeds 0..{seeds}")
            }
            Self::Swarm { seeds, directed } => write!(f, "swarm --seeds 0..{seeds} {directed}"),
            Self::Explore { arguments } => write!(f, "explore {arguments}"),
            Self::SelfCheck { seeds } => write!(f, "self-check --seeds 0..{seeds}"),
        }
    }
}

/// Which part of the list is to be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted<'a> {
    /// The mutants of these names; all if there is none.
    pub(super) only: &'a [String],
    /// What is looked for in this way; in any way if there is none.
    pub(super) kind: Option<Kind>,
    /// No more seeds than so many for each.
    pub(super) seeds_max: Option<u64>,
    /// What is known already, and left out.
    pub(super) known: BTreeSet<(String, Kind)>,
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
    /// The mutants that are wanted, as far as they are looked for in the ways that are.
    pub(super) fn new(list: &'a List, wanted: &Wanted<'_>) -> Result<Self, String> {
        let only = wanted.only;
        let exists = |id: &String| list.mutants.iter().any(|mutant| mutant.id == *id);
        if let Some(unknown) = only.iter().find(|id| !exists(id)) {
            return Err(format!("there is no mutant '{unknown}'"));
        }
        let is_named = |mutant: &&Mutant| only.is_empty() || only.contains(&mutant.id);
        let mutants: Vec<_> = list
            .mutants
            .iter()
            .filter(is_named)
            .map(|mutant| (mutant, judges(mutant, wanted)))
            .filter(|(_, judges)| !judges.is_empty())
            .collect();
        if mutants.is_empty() && wanted.known.is_empty() {
            return Err("none of these mutants is looked for in this way".to_owned());
        }
        let baseline = baseline(&mutants);
        Ok(Self { mutants, baseline })
    }
}

fn judges(mutant: &Mutant, wanted: &Wanted<'_>) -> Vec<Judge> {
    let most = wanted.seeds_max.unwrap_or(u64::MAX);
    let directed = mutant.directed.clone().unwrap_or_default();
    let swarm = mutant.seeds.map(|seeds| Judge::Swarm { seeds: seeds.min(most), directed });
    let explore = mutant.explore.clone().map(|arguments| Judge::Explore { arguments });
    let self_check = mutant.self_check.map(|seeds| Judge::SelfCheck { seeds });
    let is_wanted = |judge: &Judge| {
        let kind = judge.kind();
        let is_known = wanted.known.contains(&(mutant.id.clone(), kind));
        wanted.kind.is_none_or(|one| one == kind) && !is_known
    };
    [swarm, explore, self_check].into_iter().flatten().filter(is_wanted).collect()
}

fn baseline(mutants: &[(&Mutant, Vec<Judge>)]) -> Vec<Judge> {
    let mut all: Vec<Judge> = Vec::new();
    // The seeds begin with the same one everywhere, so the longest swarm of those that are told the same
    // is all of them.
    let mut most: BTreeMap<&str, u64> = BTreeMap::new();
    for judge in mutants.iter().flat_map(|(_, judges)| judges) {
        match judge {
            Judge::Swarm { seeds, directed } => {
                let most = most.entry(directed).or_default();
                *most = (*most).max(*seeds);
            }
            Judge::Explore { .. } | Judge::SelfCheck { .. } if all.contains(judge) => {}
            Judge::Explore { .. } | Judge::SelfCheck { .. } => all.push(judge.clone()),
        }
    }
    let swarms = most.into_iter();
    all.extend(
        swarms.map(|(directed, seeds)| Judge::Swarm { seeds, directed: directed.to_owned() }),
    );
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
            directed: None,
            explore: explore.map(str::to_owned),
            self_check: None,
        };
        let mutants = vec![
            mutant("one", Some(50), None),
            mutant("two", Some(2000), Some("--nodes 3")),
            mutant("three", None, Some("--nodes 3")),
        ];
        List { mutants }
    }

    fn swarm(seeds: u64) -> Judge {
        Judge::Swarm { seeds, directed: String::new() }
    }

    #[test]
    fn the_baseline_is_what_the_mutants_are_given() {
        let list = list();
        let plan = Plan::new(&list, &Wanted::default()).expect("there are mutants");
        assert_eq!(plan.mutants.len(), 3);
        let shown: Vec<String> = plan.baseline.iter().map(Judge::to_string).collect();
        assert_eq!(shown, ["explore --nodes 3", "swarm --seeds 0..2000"]);
        let names = ["one".to_owned()];
        let only = Wanted { only: &names, ..Wanted::default() };
        let plan = Plan::new(&list, &only).expect("there is one");
        assert_eq!(plan.baseline, [swarm(50)]);
        let few = Wanted { seeds_max: Some(60), ..Wanted::default() };
        let plan = Plan::new(&list, &few).expect("there are mutants");
        assert_eq!(plan.baseline[1], swarm(60));
    }

    #[test]
    fn swarms_that_are_told_different_things_are_different_ones() {
        let mut list = list();
        list.mutants[0].directed = Some("--profile disk".to_owned());
        let plan = Plan::new(&list, &Wanted::default()).expect("there are mutants");
        let shown: Vec<String> = plan.baseline.iter().map(Judge::to_string).collect();
        let directed = "swarm --seeds 0..50 --profile disk";
        assert_eq!(shown, ["explore --nodes 3", "swarm --seeds 0..2000", directed]);
        assert_eq!(plan.mutants[0].1[0].to_string(), directed);
    }

    #[test]
    fn what_is_known_is_left_out() {
        let list = list();
        let known = [("one", Kind::Seeds), ("two", Kind::Explore), ("three", Kind::Explore)];
        let known = known.map(|(id, kind)| (id.to_owned(), kind)).into();
        let plan = Plan::new(&list, &Wanted { known, ..Wanted::default() }).expect("one is left");
        let left = [swarm(2000)];
        assert_eq!(plan.mutants, [(&list.mutants[1], left.to_vec())]);
        assert_eq!(plan.baseline, left);
    }

    #[test]
    fn a_kind_leaves_out_what_is_not_looked_for_in_it() {
        let list = list();
        let explored = Wanted { kind: Some(Kind::Explore), ..Wanted::default() };
        let plan = Plan::new(&list, &explored).expect("there are mutants");
        let ids: Vec<&str> = plan.mutants.iter().map(|(mutant, _)| mutant.id.as_str()).collect();
        assert_eq!(ids, ["two", "three"]);
        assert!(plan.mutants.iter().all(|(_, judges)| judges.len() == 1));
        let none = Plan::new(&list, &Wanted { only: &["one".to_owned()], ..explored.clone() });
        assert_eq!(none, Err("none of these mutants is looked for in this way".to_owned()));
        let unknown = Plan::new(&list, &Wanted { only: &["four".to_owned()], ..explored });
        assert_eq!(unknown, Err("there is no mutant 'four'".to_owned()));
    }
}
