//! Who must notice which way of breaking the stack, and within how many seeds.
//!
//! A check that is never seen to fail may as well not be there. Each invariant that a broken seam of
//! the world can violate has a claim here: `tests/sabotage.rs` holds them against this program, and
//! `raft-sim self-check` against any build of it.

use crate::failure::Failure;
use crate::fault::Fault;
use crate::options::{EVENTS_DEFAULT, Options};
use crate::report::Report;
use crate::run::{self, How};
use crate::sabotage::Sabotage;

/// Which seeds a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// All.
    All,
    /// Those of clusters with leases, and clocks that these bear.
    WithLeases,
    /// Those of clusters without.
    WithoutLeases,
}

/// A way of breaking the stack, and who must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is broken.
    pub sabotage: Sabotage,
    /// Of the seeds from 0 to just before this one ...
    pub end: u64,
    /// ... these are run, until one fails as it should.
    pub seeds: Seeds,
    /// The short names of which one must be the first to notice, in one of these runs.
    pub by: &'static [&'static str],
    /// A part of what must have been predicted: where two checks of an invariant see the same, the
    /// second would hide that the first is gone. Empty: anything.
    pub predicting: &'static str,
}

const fn claim(sabotage: Sabotage, end: u64, by: &'static [&'static str]) -> Claim {
    Claim { sabotage, end, seeds: Seeds::All, by, predicting: "" }
}

impl Claim {
    const fn predicting(self, predicting: &'static str) -> Self {
        Self { predicting, ..self }
    }
}

/// All claims.
pub const CLAIMS: [Claim; 14] = [
    claim(Sabotage::SyncDoesNothing, 1, &["PS"]),
    claim(Sabotage::ConfirmedEarly, 1, &["PS"]).predicting("has them on disk"),
    claim(Sabotage::AppendsConfirmedEarly, 4, &["PS"]).predicting("promises that log on disk"),
    // Here the storage itself may notice that its log is ahead of the hard state.
    claim(Sabotage::HardStateLost, 50, &["REC", "MT"]),
    claim(Sabotage::VoteLost, 50, &["MT"]),
    claim(Sabotage::SuffixResurrected, 200, &["REC"]),
    claim(Sabotage::AcknowledgementForged, 50, &["CQ"]),
    claim(Sabotage::VoteForged, 50, &["ES"]).predicting("durable votes of a quorum"),
    // Such an answer is also taken for a promise: where leases are in use, they are the first to be
    // wrong, before anybody has read by one. Few clusters have leases, and half of these clocks that
    // drift further than leases bear.
    Claim { seeds: Seeds::WithLeases, ..claim(Sabotage::RoundForged, 1000, &["LZ"]) }
        .predicting("nobody is elected before"),
    Claim { seeds: Seeds::WithoutLeases, ..claim(Sabotage::RoundForged, 400, &["LIN"]) },
    // By another replica that applies the same, or by a client that is answered before that.
    claim(Sabotage::CommandSkipped, 10, &["SM", "LIN"]),
    claim(Sabotage::SessionsForgotten, 100, &["EO", "SM"]),
    // By nobody else, before a client reads it.
    claim(Sabotage::ValueReplaced, 50, &["SM"]).predicting("what the committed commands have made"),
    claim(Sabotage::MachinePanics, 10, &["PANIC"]),
];

impl Claim {
    /// The first run that shows the claim to be right; if there is none, the first that fails at all. In
    /// other runs somebody else may be the first to notice.
    #[must_use]
    pub fn first_failure(&self) -> Option<Report> {
        let how = How { sabotage: self.sabotage, ..How::once(EVENTS_DEFAULT) };
        let mut other = None;
        for seed in (0..self.end).filter(|&seed| self.is_about(seed)) {
            let report = run::seed(seed, how);
            if self.is_kept(Some(&report)) {
                return Some(report);
            }
            other = other.or(report.failure.is_some().then_some(report));
        }
        other
    }

    /// Whether this run shows the claim to be right.
    #[must_use]
    pub fn is_kept(&self, first: Option<&Report>) -> bool {
        let failure = first.and_then(|report| report.failure.as_ref());
        let is_predicted = |failure: &Failure| {
            if let Failure::Violation(violation) = failure {
                violation.predicted.contains(self.predicting)
            } else {
                self.predicting.is_empty()
            }
        };
        failure.is_some_and(|failure| self.by.contains(&failure.id()) && is_predicted(failure))
    }

    fn is_about(&self, seed: u64) -> bool {
        let options = || Options::draw(seed, EVENTS_DEFAULT);
        match self.seeds {
            Seeds::All => true,
            Seeds::WithLeases => {
                let options = options();
                options.lease_us > 0 && !options.faults.contains(Fault::Drift)
            }
            Seeds::WithoutLeases => options().lease_us == 0,
        }
    }
}
