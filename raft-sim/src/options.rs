//! What a run is made of: cluster, protocol options, network, disk, clients and fault classes.
//!
//! Everything is drawn from the seed, each option from a stream of its own, so that a new option
//! does not change the others. Intensities are drawn with a uniform logarithm: mild and harsh runs
//! are equally common.

mod check;
mod display;
mod gaps;
mod knobs;
mod latest;
mod link;
mod plain;
mod profile;

use serde::{Deserialize, Serialize};

use crate::fault::{DAMAGE, EXILES, Fault, FaultSet, LATER, LATEST, LOSSES};
use crate::rng::{Draw, Purpose, Ratio, Stream};

pub use gaps::Gaps;
pub use knobs::KnobError;
pub(crate) use latest::skew_within;
use latest::{draw_latest, draw_skew};
pub use link::{DelayLaw, LinkOptions};
pub use profile::Profile;

/// How many events the chaos of a run has unless the command line says otherwise.
pub const EVENTS_DEFAULT: u64 = 20_000;

/// The clients and what they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientOptions {
    /// How many there are.
    pub clients: usize,
    /// How many keys they share.
    pub keys: u64,
    /// The mean pause between two requests, in microseconds.
    pub think_us: u64,
    /// How long one waits for an answer before it tries again, in microseconds.
    pub timeout_us: u64,
    /// How often a request is a read.
    pub reads: Ratio,
    /// How often a request is sent to two nodes at once.
    pub twice: Ratio,
    /// How often a request is larger than what the nodes admit.
    pub oversized: Ratio,
    /// The bytes of a value beyond those that make it unique.
    pub padding: usize,
}

/// The options of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The family of faults that was drawn from.
    #[serde(skip)]
    pub profile: Profile,
    /// The seed that everything is drawn from.
    pub seed: u64,
    /// How many events the chaos lasts, and up to a quarter more while a class has had no effect.
    pub events: u64,
    /// Founding members that vote.
    pub voters: usize,
    /// Founding members that do not.
    pub learners: usize,
    /// Nodes that are given nothing and belong to no membership until an operator adds them.
    pub spares: usize,
    /// The classes of faults that are on.
    pub faults: FaultSet,
    /// [`raft_core::Config::election_timeout_us`].
    pub election_timeout_us: u64,
    /// [`raft_core::Config::heartbeat_interval_us`].
    pub heartbeat_interval_us: u64,
    /// [`raft_core::Config::pre_vote`].
    pub pre_vote: bool,
    /// Whether about half of the nodes do otherwise, and each changes its mind whenever it starts: as
    /// where operators turn it on or off, node by node.
    pub has_mixed_pre_vote: bool,
    /// [`raft_core::Config::check_quorum`].
    pub check_quorum: bool,
    /// [`raft_core::Config::lease_us`]; the clients read by lease as well unless it is zero.
    pub lease_us: u64,
    /// [`raft_core::Config::clock_drift_percent`].
    pub clock_drift_percent: u8,
    /// Whether the nodes have different [`raft_core::Config::priority`].
    pub has_priorities: bool,
    /// [`raft_core::Config::promotion_lag_entries_max`].
    pub promotion_lag_entries_max: u64,
    /// [`raft_core::Config::append_entries_max`].
    pub append_entries_max: usize,
    /// [`raft_core::Config::inflight_appends_max`].
    pub inflight_appends_max: usize,
    /// [`raft_core::Config::inflight_bytes_max`].
    pub inflight_bytes_max: usize,
    /// [`raft_core::Config::unapplied_bytes_max`].
    pub unapplied_bytes_max: usize,
    /// [`raft_core::Config::resident_bytes_max`].
    pub resident_bytes_max: usize,
    /// [`raft_core::Config::uncommitted_bytes_max`].
    pub uncommitted_bytes_max: usize,
    /// [`raft_core::Config::requests_max`].
    pub requests_max: usize,
    /// [`raft_core::Config::snapshot_chunk_bytes`].
    pub snapshot_chunk_bytes: usize,
    /// [`raft_core::Config::kept_behind_snapshot`].
    pub kept_behind_snapshot: u64,
    /// A snapshot is taken after this many entries.
    pub snapshot_after_entries: u64,
    /// The most client sessions that stay open.
    pub sessions_max: u32,
    /// Entries in one segment of the log on disk.
    pub segment_slots: u32,
    /// Empty bytes between the table and the data of a segment.
    pub guard_bytes: u32,
    /// How many bytes the files of a node may have; no seed draws a limit.
    pub disk_bytes: u64,
    /// How long a node leaves its inbox unread, in microseconds: what arrives meanwhile is handled
    /// as one batch.
    pub inbox_us: u64,
    /// The mean time that a disk takes to write, in microseconds; a sync takes twice as long.
    pub disk_us: u64,
    /// How many times as long a slow machine takes for that, and for its inbox.
    pub slow_factor: u64,
    /// How long a disk has nothing to write before it is told that it is at rest, in microseconds;
    /// zero: it never is.
    pub rest_after_us: u64,
    /// The network.
    pub link: LinkOptions,
    /// The clients.
    pub client: ClientOptions,
    /// The mean number of events between two strikes of one class of the nemesis; those that come less
    /// often by nature take a multiple of it.
    pub strike_events: u64,
    /// The same for single classes, whatever the other one says.
    pub strikes: Gaps,
    /// How long faults last, in the mean, in microseconds.
    pub fault_us: u64,
    /// The largest skew of a clock, in parts per million.
    pub skew_ppm: u64,
    /// Whether disks lose more than the group can bear, once it has healed from all else.
    pub is_beyond: bool,
}

/// How long a slow machine leaves its inbox unread at least, before it is multiplied, in microseconds.
pub const SLOW_INBOX_US: u64 = 20;

/// The largest command that the nodes admit, in bytes.
pub const COMMAND_BYTES_MAX: usize = 4096;

impl Options {
    /// Whether every candidate asks before it raises its term.
    #[must_use]
    pub fn all_ask_first(&self) -> bool {
        self.pre_vote && !self.has_mixed_pre_vote
    }

    /// Whether disks lose what was durable, be it at the very end.
    #[must_use]
    pub fn has_damage(&self) -> bool {
        self.faults.has_damage() || self.is_beyond
    }

    /// Draws the options of the run of `seed`.
    #[must_use]
    pub fn draw(seed: u64, events: u64) -> Self {
        Self::draw_as(seed, events, Profile::Swarm)
    }

    /// Draws the options of the run of `seed` in a profile.
    #[must_use]
    pub fn draw_as(seed: u64, events: u64, profile: Profile) -> Self {
        let mut pick = Pick { seed, option: 0 };
        let voters = draw_voters(&mut pick);
        let learners = pick.next().below(8).saturating_sub(5);
        let mut faults = draw_faults(&mut pick);
        // What came later than the rest: seeds keep what they had before.
        let [mut later, mut damage, mut losses, mut exiles, mut narrow, mut urgent, mut rest] =
            [16, 17, 18, 19, 24, 25, 26].map(|shift| Pick { seed, option: 1 << shift });
        draw_operations(&mut later, &mut faults);
        draw_damage(&mut damage, voters, &mut faults);
        draw_losses(&mut losses, voters, &mut faults);
        draw_exiles(&mut exiles, voters, &mut faults);
        if faults.iter().count() > 1 && urgent.next().chance(Ratio::new(1, 4)) {
            faults.insert(Fault::Campaign);
        }
        draw_latest(seed, &mut faults);
        profile.narrow(&mut narrow, voters, &mut faults);
        let spares = later.next().range(1, 3);
        let spares = if faults.contains(Fault::Membership) { to_usize(spares) } else { 0 };
        drop_idle(voters, to_usize(learners), spares, &mut faults);
        let election_timeout_us = pick.next().log_uniform(20_000, 600_000);
        let heartbeat_interval_us = election_timeout_us / pick.next().range(3, 10);
        let (lease_us, drift) = draw_lease(&mut later, election_timeout_us, &mut faults);
        let skew_ppm = draw_skew(&mut pick, (lease_us, drift), faults);
        let has_priorities = later.next().chance(Ratio::new(1, 4));
        let promotion_lag_entries_max = later.next().log_uniform(1, 256);
        let mut bytes = |low| to_usize(later.next().log_uniform(low, 1 << 20));
        let [inflight_bytes_max, unapplied_bytes_max, resident_bytes_max] =
            [64, 256, 256].map(&mut bytes);
        let (entries, inflight, uncommitted, chunk, kept, after, sessions, slots) =
            draw_sizes(&mut pick);
        // What is never taken cannot rot.
        let after = if faults.contains(Fault::SnapshotRot) { after.min(32) } else { after };
        Self {
            profile,
            seed,
            events,
            voters,
            learners: to_usize(learners),
            spares,
            faults,
            election_timeout_us,
            heartbeat_interval_us,
            pre_vote: pick.next().chance(Ratio::new(3, 4)),
            check_quorum: pick.next().chance(Ratio::new(3, 4)),
            lease_us,
            clock_drift_percent: u8::try_from(drift).expect("at most 100"),
            has_priorities,
            promotion_lag_entries_max,
            append_entries_max: to_usize(entries),
            inflight_appends_max: to_usize(inflight),
            // A quota that takes longer to drain than clients wait makes every answer late: overload,
            // which no protocol cures, and no fault.
            inflight_bytes_max: inflight_bytes_max.max(to_usize(uncommitted) / 8),
            unapplied_bytes_max,
            resident_bytes_max,
            uncommitted_bytes_max: to_usize(uncommitted),
            snapshot_chunk_bytes: to_usize(chunk),
            kept_behind_snapshot: kept.saturating_sub(20),
            snapshot_after_entries: after,
            sessions_max: u32::try_from(sessions).expect("at most 64"),
            segment_slots: u32::try_from(slots).expect("at most 256"),
            inbox_us: pick.next().below(2) * pick.next().log_uniform(1, 500),
            disk_us: pick.next().log_uniform(5, election_timeout_us / 64),
            rest_after_us: draw_rest(&mut rest, election_timeout_us),
            link: draw_link(&mut pick, faults, election_timeout_us),
            client: profile.clients(draw_clients(&mut pick, election_timeout_us), &mut narrow),
            strike_events: pick.next().log_uniform(64, 2048) / profile.haste(),
            fault_us: pick.next().log_uniform(election_timeout_us / 4, election_timeout_us * 8),
            skew_ppm,
            is_beyond: profile == Profile::Beyond,
            guard_bytes: 4096 * to_u32(pick.next().below(2)),
            ..Self::default()
        }
        .with_latest()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.voters + self.learners + self.spares
    }
}

/// Gives each option a draw of its own.
struct Pick {
    seed: u64,
    option: u64,
}

impl Pick {
    fn next(&mut self) -> Draw {
        self.option += 1;
        Stream::new(self.seed, Purpose::Options, self.option).draw()
    }
}

/// What cannot happen to a node that has no peers.
const NETWORK_FAULTS: [Fault; 9] = [
    Fault::Loss,
    Fault::Duplication,
    Fault::Reorder,
    Fault::Corruption,
    Fault::Overflow,
    Fault::Partition,
    Fault::Clog,
    Fault::Reset,
    Fault::WireVersion,
];

/// What shows that a sync has lied.
const POWER: [Fault; 3] = [Fault::PowerLoss, Fault::TornWork, Fault::Blackout];

/// What ends processes.
const CRASHES: [Fault; 4] = [Fault::Crash, Fault::PowerLoss, Fault::TornWork, Fault::Blackout];

/// Takes away what cannot have an effect in such a cluster.
fn drop_idle(voters: usize, learners: usize, spares: usize, faults: &mut FaultSet) {
    if !POWER.iter().any(|&fault| faults.contains(fault)) {
        faults.remove(Fault::LyingSync);
    }
    if voters + learners + spares == 1 {
        NETWORK_FAULTS.iter().for_each(|&fault| faults.remove(fault));
        faults.remove(Fault::ForgetLeader);
    }
    if voters == 1 {
        // It may get a second one, but hardly ever while anything strikes.
        faults.remove(Fault::Transfer);
        faults.remove(Fault::Campaign);
    }
}

/// Each class with one half, one run in sixteen without any; but processes end in every run.
fn draw_faults(pick: &mut Pick) -> FaultSet {
    let mut faults = FaultSet::default();
    let crash = CRASHES[pick.next().position(CRASHES.len())];
    let calm = pick.next().chance(Ratio::new(1, 16));
    let is_later =
        |fault: &Fault| fault.needs_three() || LATER.contains(fault) || LATEST.contains(fault);
    for &fault in Fault::ALL.iter().filter(|fault| !is_later(fault)) {
        if pick.next().chance(Ratio::new(1, 2)) && !calm {
            faults.insert(fault);
        }
    }
    if !CRASHES.iter().any(|&fault| faults.contains(fault)) {
        faults.insert(crash);
    }
    faults
}

fn draw_voters(pick: &mut Pick) -> usize {
    match pick.next().below(16) {
        0 => 1,
        1 => 2,
        2..=7 => 3,
        8 => 4,
        9..=12 => 5,
        13 => 6,
        14.. => 7,
    }
}

/// What operators do, each with one half; nothing in a run that is calm otherwise.
fn draw_operations(pick: &mut Pick, faults: &mut FaultSet) {
    let is_calm = faults.iter().count() == 1;
    for fault in [Fault::Membership, Fault::Transfer, Fault::StepDown, Fault::ForgetLeader] {
        if pick.next().chance(Ratio::new(1, 2)) && !is_calm {
            faults.insert(fault);
        }
    }
}

/// What happens to sectors at rest, in half of the runs in which anything happens: with fewer than
/// three voters hardly anything can be borne.
fn draw_damage(pick: &mut Pick, voters: usize, faults: &mut FaultSet) {
    let is_calm = faults.iter().count() == 1;
    if !pick.next().chance(Ratio::new(1, 2)) || is_calm || voters < 3 {
        return;
    }
    faults.insert(DAMAGE[pick.next().position(DAMAGE.len())]);
    for fault in DAMAGE {
        if pick.next().chance(Ratio::new(1, 2)) {
            faults.insert(fault);
        }
    }
}

/// Sizes and limits, in the order of their fields.
fn draw_sizes(pick: &mut Pick) -> (u64, u64, u64, u64, u64, u64, u64, u64) {
    (
        pick.next().log_uniform(1, 128),
        pick.next().log_uniform(1, 64),
        pick.next().log_uniform(256, 1 << 20),
        pick.next().log_uniform(64, 8192),
        pick.next().below(40),
        pick.next().log_uniform(8, 256),
        pick.next().log_uniform(2, 64),
        pick.next().log_uniform(16, 256),
    )
}

/// What else disks lose, in half of the runs in which anything happens; and disks that are full, in
/// a quarter.
fn draw_losses(pick: &mut Pick, voters: usize, faults: &mut FaultSet) {
    let is_calm = faults.iter().count() == 1;
    let (is_lossy, is_full) =
        (pick.next().chance(Ratio::new(1, 2)), pick.next().chance(Ratio::new(1, 4)));
    if is_calm {
        return;
    }
    if is_full {
        faults.insert(Fault::NoSpace);
    }
    for fault in LOSSES {
        if pick.next().chance(Ratio::new(1, 3)) && is_lossy && voters >= 3 {
            faults.insert(fault);
        }
    }
    for fault in [Fault::ShortWrite, Fault::DirectoryError] {
        if pick.next().chance(Ratio::new(1, 4)) {
            faults.insert(fault);
        }
    }
}

/// What costs the group a member for a while, each in a quarter of the runs in which anything happens.
fn draw_exiles(pick: &mut Pick, voters: usize, faults: &mut FaultSet) {
    let is_calm = faults.iter().count() == 1;
    for fault in EXILES {
        if pick.next().chance(Ratio::new(1, 4)) && !is_calm && voters >= 3 {
            faults.insert(fault);
        }
    }
}

/// The lease, zero in one half of all runs, and the drift of clocks that it bears, in percent. No
/// clock outruns another by more than that then, and none jumps: leases rest on it. Only where clocks are
/// to drift by more, they do.
fn draw_lease(pick: &mut Pick, election_timeout_us: u64, faults: &mut FaultSet) -> (u64, u64) {
    let quarters = pick.next().range(1, 4);
    let drift = pick.next().log_uniform(1, 100);
    if !pick.next().chance(Ratio::new(1, 2)) {
        // There is nothing to bear.
        faults.remove(Fault::Drift);
        return (0, drift);
    }
    if !faults.contains(Fault::Drift) {
        faults.remove(Fault::Jump);
    }
    (election_timeout_us / 4 * quarters, drift)
}

/// From hardly longer than it takes to write, to so long that few disks get there.
fn draw_rest(pick: &mut Pick, election_timeout_us: u64) -> u64 {
    pick.next().log_uniform(election_timeout_us / 64, election_timeout_us * 2)
}

fn draw_link(pick: &mut Pick, faults: FaultSet, election_timeout_us: u64) -> LinkOptions {
    let low_us = pick.next().log_uniform(20, election_timeout_us / 100);
    let delay = match pick.next().below(3) {
        0 => DelayLaw::Uniform { low_us, high_us: low_us * pick.next().range(2, 6) },
        1 => DelayLaw::Exponential { low_us, mean_us: low_us * pick.next().range(1, 5) },
        2.. => DelayLaw::HeavyTail { low_us: low_us.div_ceil(4) },
    };
    let queue_max = to_u32(pick.next().log_uniform(1, 8));
    // A frame that is alone on its way overtakes nobody.
    let queue_max = if faults.contains(Fault::Reorder) { queue_max.max(3) } else { queue_max };
    let mut ratio = |fault, most: u64| {
        // Often enough that it has an effect in a cluster that says little.
        let den = pick.next().log_uniform(most, most * 128).min(256);
        if faults.contains(fault) { Ratio::new(1, to_u32(den)) } else { Ratio::NEVER }
    };
    LinkOptions {
        delay,
        reorder: faults.contains(Fault::Reorder),
        late_us: election_timeout_us / 2,
        loss: ratio(Fault::Loss, 4),
        duplication: ratio(Fault::Duplication, 2),
        corruption: ratio(Fault::Corruption, 8),
        queue_max: if faults.contains(Fault::Overflow) { queue_max } else { u32::MAX },
    }
}

fn draw_clients(pick: &mut Pick, election_timeout_us: u64) -> ClientOptions {
    ClientOptions {
        clients: to_usize(pick.next().range(1, 8)),
        keys: pick.next().log_uniform(1, 64),
        think_us: pick.next().log_uniform(election_timeout_us / 128, election_timeout_us / 4),
        timeout_us: pick.next().log_uniform(election_timeout_us / 2, election_timeout_us * 4),
        reads: Ratio::new(to_u32(1 + pick.next().below(6)), 8),
        twice: Ratio::new(to_u32(pick.next().below(3)), 8),
        oversized: Ratio::new(to_u32(pick.next().below(2)), 64),
        padding: to_usize(pick.next().log_uniform(1, 600)),
    }
}

fn to_u32(value: u64) -> u32 {
    u32::try_from(value).expect("options are small")
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("options are small")
}

#[cfg(test)]
mod tests;
