//! What a person reads about a run.
//!
//! The options come first, so that they are known even if nothing else comes. A failure is told in
//! the order in which one wants to know it: which invariant and what it means, the lines before it,
//! what was predicted and what was seen, the digest, and the command that repeats it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::beyond::{Beyond, Outlook};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::options::{EVENTS_DEFAULT, Options, Profile};
use crate::rest::Rests;
use crate::swarm::REPEATED_EVERY;
use crate::world::{Repairs, Stats};

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its options.
    pub options: Options,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Whether it proves little: no crash, no election, no disk at rest, or a class of faults without any
    /// effect.
    pub is_vacuous: bool,
    /// How far entries were committed.
    pub committed: u64,
    /// How much time was simulated, in microseconds.
    pub now_us: u64,
    /// The digest of everything that happened.
    pub digest: u64,
    /// What was counted.
    pub stats: Stats,
    /// Whether it was run again and compared.
    pub is_repeated: bool,
    /// The lines before a failure.
    pub lines: Vec<String>,
    /// What each node lacked, if the cluster did not get going again.
    pub lacking: Vec<String>,
    /// What it was run from.
    pub origin: Origin,
}

/// What a run was made from: how it can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The seed and the options.
    Seed,
    /// A tape, in this file.
    Tape(String),
    /// The seed and the options, with a workload that this program does not know.
    Workload,
    /// A tape, with such a workload.
    WorkloadTape,
}

impl Report {
    /// The exit code that says how the run went.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.failure.as_ref().map_or(0, Failure::exit_code)
    }

    /// One word for how the run went.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match &self.failure {
            Some(_) => "FAILED",
            None if self.is_vacuous => "passed (vacuous)",
            None => "passed",
        }
    }

    /// The command that repeats the run, and the version that a seed is bound to.
    #[must_use]
    pub fn reproduce(&self) -> String {
        match &self.origin {
            Origin::Seed => {}
            Origin::Tape(tape) => return format!("cargo run -p raft-sim -- replay {tape} -v"),
            Origin::Workload => return self.of_workload(),
            Origin::WorkloadTape => {
                return format!("this workload with its tape # raft-sim {}", version());
            }
        }
        let Options { seed, events, profile, .. } = self.options;
        let mut line = format!("cargo run -p raft-sim -- --seed {seed:#x}");
        if events != EVENTS_DEFAULT {
            line.push_str(&format!(" --events {events}"));
        }
        if profile != Profile::Swarm {
            line.push_str(&format!(" --profile {profile}"));
        }
        for (name, value) in self.options.turned() {
            line.push_str(&format!(" --set '{name}={value}'"));
        }
        format!("{line} -v # raft-sim {}", version())
    }

    /// The run of a workload is repeated by whoever has it.
    fn of_workload(&self) -> String {
        let Options { seed, events, profile, .. } = self.options;
        let turned = self.options.turned().into_iter();
        let set: String = turned.map(|(name, value)| format!(", {name}={value}")).collect();
        let version = version();
        let drawn = if profile == Profile::Swarm {
            format!("draw({seed:#x}, {events})")
        } else {
            format!("draw_as({seed:#x}, {events}, Profile::{profile:?})")
        };
        format!("this workload with Options::{drawn}{set} # raft-sim {version}")
    }
}

/// The version of this program, and the commit that it was built from if its builder has said so: the
/// environment variable `RAFT_SIM_COMMIT`, when it was compiled. A seed is bound to both.
#[must_use]
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("RAFT_SIM_COMMIT") {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.stats;
        writeln!(f, "verdict    {}", self.verdict())?;
        let (s, ms) = (self.now_us / 1_000_000, self.now_us / 1_000 % 1_000);
        writeln!(f, "events     {} in {s}.{ms:03}s of simulated time", stats.events)?;
        writeln!(
            f,
            "cluster    {} elections, {} committed, {} crashes, {} starts, {} snapshots restored",
            stats.elections, self.committed, stats.crashes, stats.starts, stats.restored
        )?;
        writeln!(
            f,
            "work       {} writes, {} reads, {} sessions, {} frames, {} syncs",
            stats.writes, stats.reads, stats.sessions, stats.frames, stats.syncs
        )?;
        if stats.rests != Rests::default() {
            writeln!(f, "rests      {}", stats.rests)?;
        }
        if stats.judged > 0 {
            writeln!(f, "history    linearizable, as judged without looking inside")?;
        }
        write!(f, "faults     injected/effective:")?;
        for fault in self.options.faults.iter() {
            let (injected, effective) = stats.tally.of(fault);
            write!(f, " {} {injected}/{effective}", fault.name())?;
            let withdrawn = stats.tally.show_withdrawals(fault);
            if !withdrawn.is_empty() {
                write!(f, " ({withdrawn})")?;
            }
        }
        writeln!(f)?;
        if let Some(Beyond { predicted, actual }) = &stats.beyond {
            writeln!(f, "beyond     foretold: {predicted}; reported: {actual}")?;
        }
        if let Some(failure) = &self.failure {
            self.tell(failure, f)?;
        }
        write!(f, "digest     {:016x}", self.digest)?;
        if self.failure.is_some() {
            write!(f, "\nreproduce  {}", self.reproduce())?;
        }
        Ok(())
    }
}

impl Report {
    /// One, if what was foretold has come about and is of this kind.
    fn foretold(&self, is_kind: impl Fn(&Outlook) -> bool) -> u64 {
        let beyond = self.stats.beyond.as_ref();
        u64::from(beyond.is_some_and(|one| one.actual == one.predicted && is_kind(&one.actual)))
    }

    fn tell(&self, failure: &Failure, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}", failure.id(), failure.meaning())?;
        for line in &self.lines {
            writeln!(f, "  {line}")?;
        }
        match failure {
            Failure::Violation(violation) => {
                if let Some(node) = violation.node {
                    writeln!(f, "node       {node}")?;
                }
                if let Some(index) = violation.index {
                    writeln!(f, "index      {index}")?;
                }
                writeln!(f, "predicted  {}", violation.predicted)?;
                writeln!(f, "actual     {}", violation.actual)
            }
            other @ (Failure::Reported { .. }
            | Failure::Storage { .. }
            | Failure::Recover { .. }
            | Failure::Liveness(_)
            | Failure::Unrest(_)
            | Failure::Determinism { .. }
            | Failure::Simulator(_)
            | Failure::Panic(_)) => {
                for line in &self.lacking {
                    writeln!(f, "{line}")?;
                }
                if let Some(predicted) = other.predicted() {
                    writeln!(f, "predicted  {predicted}")?;
                }
                let (seed, event) = (self.options.seed, self.stats.events);
                writeln!(f, "actual     {other}, in seed {seed:#x} at event {event}")
            }
        }
    }
}

/// The sum of many runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// How many seeds there were.
    pub seeds: u64,
    /// How many of them were not run: no cluster runs with what they draw and what is set by hand.
    pub unfit: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them passed, but proved little.
    pub vacuous: u64,
    /// How many of them were run twice, to compare.
    pub repeated: u64,
    /// Their events.
    pub events: u64,
    /// Their elections.
    pub elections: u64,
    /// Their committed entries.
    pub committed: u64,
    /// Their crashes.
    pub crashes: u64,
    /// Snapshots that replaced a state, at a start or from a peer.
    pub restored: u64,
    /// Their acknowledged writes.
    pub writes: u64,
    /// Their answered reads.
    pub reads: u64,
    /// Histories of their clients that were judged without looking inside.
    pub judged: u64,
    /// Those for which that was given up.
    pub undecided: u64,
    /// Groups that were seen to be quiet in the end.
    pub rested: u64,
    /// Starts that rightly found the end of a log to be unknown.
    pub doubts: u64,
    /// Those of logs that had lost nothing.
    pub needless_doubts: u64,
    /// How often the rules for damaged entries were needed.
    pub repairs: Repairs,
    /// Disks that were told that they are at rest, and what came of it.
    pub rests: Rests,
    /// Those in which disks lost more than the group can bear, and it stalled as foretold.
    pub stalled: u64,
    /// Those in which it waited, as foretold.
    pub waited: u64,
    /// Their faults.
    pub tally: crate::fault::Tally,
    /// The worst exit code.
    pub exit_code: u8,
}

impl Summary {
    /// Adds a seed, and its report if it was run.
    pub fn add(&mut self, report: Option<&Report>) {
        let Some(report) = report else {
            return self.merge(&Self { seeds: 1, unfit: 1, ..Self::default() });
        };
        self.merge(&Self {
            seeds: 1,
            unfit: 0,
            failed: u64::from(report.failure.is_some()),
            vacuous: u64::from(report.failure.is_none() && report.is_vacuous),
            repeated: u64::from(report.is_repeated),
            events: report.stats.events,
            elections: report.stats.elections,
            committed: report.committed,
            crashes: report.stats.crashes,
            restored: report.stats.restored,
            writes: report.stats.writes,
            reads: report.stats.reads,
            judged: report.stats.judged,
            undecided: report.stats.undecided,
            rested: report.stats.rested,
            doubts: report.stats.doubts,
            needless_doubts: report.stats.needless_doubts,
            repairs: report.stats.repairs,
            rests: report.stats.rests,
            stalled: report.foretold(|actual| matches!(actual, Outlook::Stalls { .. })),
            waited: report.foretold(|actual| matches!(actual, Outlook::Waits { .. })),
            tally: report.stats.tally.clone(),
            exit_code: report.exit_code(),
        });
    }

    /// Adds the sum of other runs.
    pub fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.unfit += other.unfit;
        self.failed += other.failed;
        self.vacuous += other.vacuous;
        self.repeated += other.repeated;
        self.events += other.events;
        self.elections += other.elections;
        self.committed += other.committed;
        self.crashes += other.crashes;
        self.restored += other.restored;
        self.writes += other.writes;
        self.reads += other.reads;
        self.judged += other.judged;
        self.undecided += other.undecided;
        self.rested += other.rested;
        self.doubts += other.doubts;
        self.needless_doubts += other.needless_doubts;
        self.repairs.add(&other.repairs);
        self.rests.add(&other.rests);
        self.stalled += other.stalled;
        self.waited += other.waited;
        self.tally.add(&other.tally);
        self.exit_code = worse(self.exit_code, other.exit_code);
    }

    /// How many runs count as evidence: they passed, and not for want of trouble.
    #[must_use]
    pub fn evidence(&self) -> u64 {
        self.seeds - self.unfit - self.failed - self.vacuous
    }

    fn tell_seeds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, unfit, failed, vacuous, repeated, .. } = self;
        let passed = seeds - unfit - failed;
        writeln!(f, "seeds      {seeds}: {failed} failed, {passed} passed, {vacuous} vacuous")?;
        if *unfit > 0 {
            writeln!(
                f,
                "unfit      {unfit}: no cluster runs with these options, so they were not run"
            )?;
        }
        match self.evidence() {
            0 => writeln!(f, "evidence   none: no run passed that was not vacuous")?,
            count => writeln!(f, "evidence   {count} runs passed and were not vacuous")?,
        }
        writeln!(
            f,
            "repeated   {repeated} (seeds divisible by {REPEATED_EVERY}, and failures), to compare digests"
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell_seeds(f)?;
        writeln!(
            f,
            "events     {}, {} elections, {} crashes, {} snapshots restored",
            self.events, self.elections, self.crashes, self.restored
        )?;
        writeln!(
            f,
            "work       {} committed, {} writes, {} reads",
            self.committed, self.writes, self.reads
        )?;
        writeln!(
            f,
            "histories  {} judged without looking inside, {} undecided",
            self.judged, self.undecided
        )?;
        writeln!(f, "rest       {} groups were quiet in the end", self.rested)?;
        if self.doubts + self.needless_doubts > 0 {
            writeln!(
                f,
                "doubts     {} about logs that had lost their ends, {} about whole ones",
                self.doubts, self.needless_doubts
            )?;
        }
        if self.repairs != Repairs::default() {
            let Repairs { leaders, nacks, discards } = self.repairs;
            writeln!(
                f,
                "repairs    {leaders} leaders had damaged entries, {nacks} times somebody had never had one, \
                 {discards} were discarded"
            )?;
        }
        if self.rests != Rests::default() {
            writeln!(f, "rests      {}", self.rests)?;
        }
        if self.stalled + self.waited > 0 {
            writeln!(
                f,
                "beyond     {} stalled at a lost entry and {} waited for lost votes, as foretold",
                self.stalled, self.waited
            )?;
        }
        write!(f, "faults     injected/effective:")?;
        for &fault in Fault::ALL {
            let (injected, effective) = self.tally.of(fault);
            write!(f, "\n           {:<12} {injected:>9} {effective:>9}", fault.name())?;
            let withdrawn = self.tally.show_withdrawals(fault);
            if !withdrawn.is_empty() {
                write!(f, ", more were {withdrawn}")?;
            }
        }
        Ok(())
    }
}

/// The exit code that matters more: a panic or a simulator that does not do what it says, then
/// safety, determinism and liveness; then that the output is incomplete (74), or the swarm (130).
#[must_use]
pub fn worse(one: u8, other: u8) -> u8 {
    let rank = |code: u8| match code {
        0 => 0,
        130 => 1,
        74 => 2,
        3 => 3,
        4 => 4,
        2 => 5,
        _ => 6,
    };
    if rank(other) > rank(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_code_of_a_swarm_wins() {
        assert_eq!([0, 3, 0, 2, 4].into_iter().fold(0, worse), 2);
        assert_eq!([130, 74, 0].into_iter().fold(0, worse), 74);
        for verdict in [2, 3, 4, 101] {
            assert_eq!(worse(verdict, 74), verdict);
            assert_eq!(worse(130, verdict), verdict);
        }
        assert_eq!(worse(2, 101), 101);
        assert_eq!(worse(101, 2), 101);
        assert_eq!(worse(0, 0), 0);
    }

    #[test]
    fn a_summary_counts_the_evidence_and_says_when_there_is_none() {
        let mut summary = Summary { seeds: 5, failed: 1, vacuous: 2, ..Summary::default() };
        let shown = summary.to_string();
        assert!(shown.starts_with("seeds      5: 1 failed, 4 passed, 2 vacuous\n"), "{shown}");
        assert!(shown.contains("\nevidence   2 runs passed"), "{shown}");

        summary.vacuous = 4;
        assert!(summary.to_string().contains("\nevidence   none: "), "{summary}");
    }
}
