//! What seeds draw last of all: each has a stream of its own, so that they keep what they had before.

use super::{Gaps, Options, Pick, SLOW_INBOX_US};
use crate::fault::{Fault, FaultSet, LATEST};
use crate::nemesis::{STRIKING, rarity};
use crate::rng::{Purpose, Ratio, Stream};

/// The largest skew that is drawn, in parts per million.
const SKEW_MAX_PPM: u64 = 800_000;

impl Options {
    /// With what follows from the other options.
    pub(super) fn with_latest(self) -> Self {
        let longest_us = self.inbox_us.max(self.disk_us);
        Self {
            has_mixed_pre_vote: self.voters > 1 && draw_mixture(self.seed),
            requests_max: draw_requests_max(self.seed),
            slow_factor: draw_slowness(self.seed, self.election_timeout_us, longest_us),
            strikes: draw_strikes(self.seed, self.strike_events, self.faults),
            ..self
        }
    }
}

/// What seeds have drawn last of all, each in a third of the runs in which anything happens.
pub(super) fn draw_latest(seed: u64, faults: &mut FaultSet) {
    let is_calm = faults.iter().count() == 1;
    for fault in LATEST {
        let mut draw = Stream::new(seed, Purpose::Options, 1 << 28 | fault as u64).draw();
        if draw.chance(Ratio::new(1, 3)) && !is_calm {
            faults.insert(fault);
        }
    }
}

/// One group in eight is about to turn pre-vote on, or off.
fn draw_mixture(seed: u64) -> bool {
    let mut pick = Pick { seed, option: 1 << 32 };
    pick.next().chance(Ratio::new(1, 8))
}

/// From so few that a handful of clients fill them, to more than any run has.
fn draw_requests_max(seed: u64) -> usize {
    let mut pick = Pick { seed, option: 1 << 27 };
    super::to_usize(pick.next().log_uniform(4, 4096))
}

/// From twice to 64 times, as far as elections bear it: `longest_us` is what takes longest otherwise.
fn draw_slowness(seed: u64, election_timeout_us: u64, longest_us: u64) -> u64 {
    let mut pick = Pick { seed, option: 1 << 29 };
    let borne = election_timeout_us / 16 / longest_us.max(SLOW_INBOX_US);
    pick.next().log_uniform(2, 64).min(borne).max(2)
}

/// How often each class strikes that is on: mild and harsh ones are equally common.
fn draw_strikes(seed: u64, strike_events: u64, faults: FaultSet) -> Gaps {
    let mut gaps = Gaps::default();
    for fault in faults.iter().filter(|fault| STRIKING.contains(fault)) {
        let mut pick = Pick { seed, option: 1 << 31 | (fault as u64) << 8 };
        let gap = pick.next().log_uniform((strike_events / 4).max(1), strike_events * 4);
        gaps.set(fault, gap * rarity(fault));
    }
    gaps
}

/// The largest skew of a clock: within what leases bear, or far beyond it.
pub(super) fn draw_skew(pick: &mut Pick, (lease_us, drift): (u64, u64), faults: FaultSet) -> u64 {
    let (drawn, seed) = (pick.next().log_uniform(100, 400_000), pick.seed);
    if faults.contains(Fault::Drift) {
        let mut pick = Pick { seed, option: 1 << 30 };
        return (skew_within(drift) * pick.next().range(4, 16)).min(SKEW_MAX_PPM);
    }
    if !faults.contains(Fault::Skew) {
        return 0;
    }
    if lease_us > 0 { drawn.min(skew_within(drift)) } else { drawn }
}

/// The largest skew s, in parts per million, with (1 + s) / (1 - s) at most 1 + `percent` / 100.
pub(crate) fn skew_within(percent: u64) -> u64 {
    percent * 1_000_000 / (200 + percent)
}
