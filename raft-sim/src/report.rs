//! What a person reads about a run.
//!
//! The options come first, so that they are known even if nothing else comes. A failure is told in
//! the order in which one wants to know it: which invariant and what it means, the lines before it,
//! what was predicted and what was seen, the digest, and the command that repeats it.

use std::fmt;

use crate::failure::Failure;
use crate::fault::Fault;
use crate::options::{EVENTS_DEFAULT, Options};
use crate::world::Stats;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its options.
    pub options: Options,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Whether it proves little: no crash, no election, or a class of faults without any effect.
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

    /// The command that repeats the run.
    #[must_use]
    pub fn reproduce(&self) -> String {
        let Options { seed, events, .. } = self.options;
        let events =
            if events == EVENTS_DEFAULT { String::new() } else { format!(" --events {events}") };
        format!("cargo run -p raft-sim -- --seed {seed:#x}{events} -v")
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
            "work       {} writes, {} reads, {} frames, {} syncs",
            stats.writes, stats.reads, stats.frames, stats.syncs
        )?;
        write!(f, "faults     injected/effective:")?;
        for fault in self.options.faults.iter() {
            let (injected, effective) = stats.tally.of(fault);
            write!(f, " {} {injected}/{effective}", fault.name())?;
        }
        writeln!(f)?;
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
            | Failure::Determinism { .. }
            | Failure::Panic(_)) => {
                let (seed, event) = (self.options.seed, self.stats.events);
                writeln!(f, "actual     {other}, in seed {seed:#x} at event {event}")
            }
        }
    }
}

/// The sum of many runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many seeds have run.
    pub seeds: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them proved little.
    pub vacuous: u64,
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
    /// Their faults.
    pub tally: crate::fault::Tally,
    /// The worst exit code.
    pub exit_code: u8,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.failed += u64::from(report.failure.is_some());
        self.vacuous += u64::from(report.failure.is_none() && report.is_vacuous);
        self.events += report.stats.events;
        self.elections += report.stats.elections;
        self.committed += report.committed;
        self.crashes += report.stats.crashes;
        self.restored += report.stats.restored;
        self.writes += report.stats.writes;
        self.reads += report.stats.reads;
        self.tally.add(&report.stats.tally);
        self.exit_code = worse(self.exit_code, report.exit_code());
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seeds      {}: {} failed, {} passed, {} of them vacuous",
            self.seeds,
            self.failed,
            self.seeds - self.failed,
            self.vacuous
        )?;
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
        write!(f, "faults     injected/effective:")?;
        for &fault in Fault::ALL {
            let (injected, effective) = self.tally.of(fault);
            write!(f, "\n           {:<12} {injected:>9} {effective:>9}", fault.name())?;
        }
        Ok(())
    }
}

/// The exit code that matters more: a panic, then safety, determinism and liveness.
#[must_use]
pub fn worse(one: u8, other: u8) -> u8 {
    let rank = |code: u8| match code {
        0 => 0,
        3 => 1,
        4 => 2,
        2 => 3,
        _ => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_code_of_a_swarm_wins() {
        assert_eq!([0, 3, 0, 2, 4].into_iter().fold(0, worse), 2);
        assert_eq!(worse(2, 101), 101);
        assert_eq!(worse(101, 2), 101);
        assert_eq!(worse(0, 0), 0);
    }
}
