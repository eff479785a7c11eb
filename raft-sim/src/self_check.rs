//! The simulator looks at itself: does it do what it says, and would it notice?
//!
//! A class of faults that looks injected and does nothing makes every run pass. So do a check that is
//! switched off, a crash that keeps what was not synced, and a run that is never the same. Here a
//! swarm is asked for the effects of each class that is on in it, and of each thing that a power loss
//! can take back; then the stack is broken in each way of a list, and somebody must notice.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;

use crate::claims::{CLAIMS, Claim};
use crate::disk::Call;
use crate::fault::{Fault, Part};
use crate::options::Profile;
use crate::power::PowerLoss;
use crate::report::Report;
use crate::rest::Rests;
use crate::results::Found;
use crate::run::How;
use crate::setup::Setup;
use crate::swarm::Swarm;
use crate::world::Repairs;

/// A class that is on in so many runs must have had an effect in one of them.
pub const RUNS_MIN: u64 = 8;

/// What does not work as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A run without anything broken has failed.
    Failed(Found),
    /// A class of faults, or a part of one, without effect.
    Inert {
        /// Which.
        what: &'static str,
        /// In how many runs it was on.
        runs: u64,
        /// How often it was injected there.
        injected: u64,
    },
    /// Nobody has noticed what was broken, or not who must.
    Missed {
        /// What.
        claim: Claim,
        /// Who has noticed instead.
        by: Option<&'static str>,
    },
    /// Another process has made another run of a seed.
    Differs {
        /// The seed.
        seed: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(found) => found.fmt(f),
            Self::Inert { what, runs, injected } => write!(
                f,
                "missing INERT: {what}: on in {runs} runs, injected {injected} times, and nothing \
                 came of it"
            ),
            Self::Missed { claim: Claim { sabotage, end, by: must, .. }, by } => {
                let by = by.unwrap_or("nobody");
                let must = must.join(" or ");
                write!(f, "missing MISSED: {sabotage:?}: {must} must notice within {end} seeds, ")?;
                write!(f, "{by} has")
            }
            Self::Differs { seed } => write!(
                f,
                "missing DT: another process: seed {seed:#x} goes otherwise there than here"
            ),
        }
    }
}

/// What runs have shown of each class of faults.
#[derive(Clone, Debug)]
pub struct Effects {
    /// For each class: the runs in which it was on, its injections, its effects.
    classes: [(u64, u64, u64); Fault::ALL.len()],
    runs: u64,
    power_losses: u64,
    lost: PowerLoss,
    failed_calls: BTreeMap<Call, u64>,
    wounds: BTreeMap<Part, u64>,
    repairs: Repairs,
    rests: Rests,
    /// The runs in which disks lose what was durable.
    damaged_runs: u64,
}

/// What calls that fail would have done. A directory is made in an empty one only, in which nothing fails.
const CALLS: [(Call, &str); 4] = [
    (Call::Create, "files that cannot be made"),
    (Call::Rename, "files that cannot be renamed"),
    (Call::Remove, "files that cannot be removed"),
    (Call::SyncDir, "directories that cannot be synced"),
];

impl Default for Effects {
    fn default() -> Self {
        let classes = [(0, 0, 0); Fault::ALL.len()];
        Self {
            classes,
            runs: 0,
            power_losses: 0,
            lost: PowerLoss::default(),
            failed_calls: BTreeMap::new(),
            wounds: BTreeMap::new(),
            repairs: Repairs::default(),
            rests: Rests::default(),
            damaged_runs: 0,
        }
    }
}

impl Effects {
    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        let tally = &report.stats.tally;
        for fault in report.options.faults.iter() {
            let (injected, effective) = tally.of(fault);
            let class = &mut self.classes[fault as usize];
            *class = (class.0 + 1, class.1 + injected, class.2 + effective);
        }
        self.runs += 1;
        let power = [Fault::PowerLoss, Fault::TornWork, Fault::Blackout];
        self.power_losses += power.map(|fault| tally.of(fault).0).iter().sum::<u64>();
        self.lost.add(&report.stats.lost);
        for (&call, count) in &report.stats.failed_calls {
            *self.failed_calls.entry(call).or_default() += count;
        }
        self.repairs.add(&report.stats.repairs);
        self.rests.add(&report.stats.rests);
        self.damaged_runs += u64::from(report.options.faults.has_damage());
        for (&part, count) in &report.stats.wounds {
            *self.wounds.entry(part).or_default() += count;
        }
    }

    /// What had no effect, although it was on in enough runs.
    #[must_use]
    pub fn inert(&self) -> Vec<Finding> {
        let classes = Fault::ALL.iter().map(|&fault| {
            let (runs, injected, effective) = self.classes[fault as usize];
            (fault.name(), runs, injected, effective)
        });
        let PowerLoss { old, new, garbage, names, shortened } = self.lost;
        let parts = [
            ("sectors that a power loss takes back", old),
            ("sectors that a power loss leaves as they are", new),
            ("garbage after a power loss", garbage),
            ("names that a power loss takes back", names),
            ("files that a power loss makes shorter", shortened),
        ];
        let parts = parts.map(|(what, count)| (what, self.runs, self.power_losses, count));
        let Rests { told, broken, .. } = self.rests;
        let rests = [("disks that are told that they rest", told), ("rests that fail", broken)];
        let rests = rests.map(|(what, count)| (what, self.runs, told, count));
        let silent = classes
            .chain(parts)
            .chain(rests)
            .chain(self.calls())
            .chain(self.parts())
            .filter(|&(_, runs, _, effective)| runs >= RUNS_MIN && effective == 0);
        silent.map(|(what, runs, injected, _)| Finding::Inert { what, runs, injected }).collect()
    }

    /// What was to fail of directories: in how many runs, of how many, and how often it has.
    fn calls(&self) -> impl Iterator<Item = (&'static str, u64, u64, u64)> {
        let (runs, injected, _) = self.classes[Fault::DirectoryError as usize];
        let failed = |call| self.failed_calls.get(&call).copied().unwrap_or_default();
        CALLS.into_iter().map(move |(call, what)| (what, runs, injected, failed(call)))
    }

    /// What was to be lost of disks: in how many runs, of how many injections, and how often it was.
    fn parts(&self) -> impl Iterator<Item = (&'static str, u64, u64, u64)> {
        let losses = Fault::ALL.iter().filter(|fault| fault.is_loss());
        let injected = losses.map(|fault| self.classes[*fault as usize].1).sum();
        let lost = |part| self.wounds.get(&part).copied().unwrap_or_default();
        let runs = self.damaged_runs;
        let of = move |(part, what)| (what, runs, injected, lost(part));
        let Repairs { leaders, nacks, discards } = self.repairs;
        let rules = [
            ("leaders with damaged entries", leaders),
            ("answers that an entry was never there", nacks),
            ("damaged entries that nobody else had, discarded", discards),
            ("damage that is found because a disk was told that it rests", self.rests.found),
        ];
        let rules = rules.map(move |(what, count)| (what, runs, injected, count));
        Part::ALL.into_iter().map(of).chain(rules)
    }

    /// The classes that were on in too few runs to be judged.
    #[must_use]
    pub fn unjudged(&self) -> Vec<Fault> {
        let few = |fault: &&Fault| self.classes[**fault as usize].0 < RUNS_MIN;
        Fault::ALL.iter().filter(few).copied().collect()
    }
}

/// Runs the seeds on so many threads, mixed and with the faults of disks alone, until one fails, and
/// returns what was found and what was seen.
pub fn swarm(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    stop: &AtomicBool,
) -> (Vec<Finding>, Effects) {
    let (mut effects, mut findings) = (Effects::default(), Vec::new());
    // What is rare among all faults is not where disks alone fail.
    for profile in [Profile::Swarm, Profile::Disk] {
        let setup = Setup { profile, ..Setup::default() };
        let (how, seeds) = (How::once(setup.events), seeds.clone());
        let swarm = Swarm { seeds, time: None, jobs, setup, how, keep_going: false };
        swarm.run(stop, |report| {
            let Some(report) = report else { return };
            effects.add(report);
            findings.extend(Found::of(report).map(Finding::Failed));
        });
    }
    if findings.is_empty() {
        findings = effects.inert();
    }
    (findings, effects)
}

/// The claims that are not kept.
pub fn claims() -> impl Iterator<Item = Finding> {
    CLAIMS.iter().filter_map(|claim| {
        let first = claim.first_failure();
        let by = first.as_ref().and_then(|report| report.failure.as_ref()).map(|one| one.id());
        let is_kept = claim.is_kept(first.as_ref());
        (!is_kept).then_some(Finding::Missed { claim: *claim, by })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sabotage::Sabotage;

    #[test]
    fn a_class_that_is_on_in_enough_runs_must_have_an_effect() {
        let mut effects = Effects { runs: RUNS_MIN - 1, ..Effects::default() };
        effects.classes[Fault::Loss as usize] = (RUNS_MIN, 70, 0);
        effects.classes[Fault::Clog as usize] = (RUNS_MIN, 70, 1);
        effects.classes[Fault::Reset as usize] = (RUNS_MIN - 1, 70, 0);
        let inert = Finding::Inert { what: "loss", runs: RUNS_MIN, injected: 70 };
        let told = "missing INERT: loss: on in 8 runs, injected 70 times, and nothing came of it";
        assert_eq!(inert.to_string(), told);
        assert_eq!(effects.inert(), [inert]);
        assert!(!effects.unjudged().contains(&Fault::Clog));
        assert!(effects.unjudged().contains(&Fault::Reset));

        effects.runs = RUNS_MIN;
        effects.rests = Rests { told: 1, broken: 1, found: 0 };
        effects.lost = PowerLoss { old: 1, new: 1, garbage: 1, names: 0, shortened: 1 };
        let what = "names that a power loss takes back";
        let names = Finding::Inert { what, runs: RUNS_MIN, injected: 0 };
        assert_eq!(effects.inert()[1..], [names]);

        effects.lost.names = 1;
        effects.rests = Rests { told: 1, broken: 0, found: 0 };
        let broken = Finding::Inert { what: "rests that fail", runs: RUNS_MIN, injected: 1 };
        assert_eq!(effects.inert()[1..], [broken]);

        effects.rests = Rests { told: 1, broken: 1, found: 1 };
        effects.damaged_runs = RUNS_MIN;
        effects.repairs = Repairs { leaders: 1, nacks: 1, discards: 1 };
        effects.wounds = Part::ALL[1..].iter().map(|(part, _)| (*part, 1)).collect();
        let what = "copies of the identity that are lost";
        let identity = Finding::Inert { what, runs: RUNS_MIN, injected: 0 };
        assert_eq!(effects.inert()[1..], [identity]);
        effects.classes[Fault::DirectoryError as usize] = (RUNS_MIN, 7, 7);
        let inert = effects.inert();
        let calls = inert.iter().filter(|finding| {
            CALLS.iter().any(|(_, what)| {
            matches!(finding, Finding::Inert { what: silent, .. } if silent == what)
        })
        });
        assert_eq!(calls.count(), CALLS.len());
    }

    #[test]
    fn what_nobody_has_noticed_is_told_with_who_must() {
        let claim = CLAIMS.into_iter().find(|claim| claim.sabotage == Sabotage::HardStateLost);
        let claim = claim.expect("there is one");
        assert!(!claim.is_kept(None));
        assert_eq!(
            Finding::Missed { claim, by: Some("ES") }.to_string(),
            "missing MISSED: HardStateLost: REC or MT must notice within 50 seeds, ES has"
        );
    }
}
