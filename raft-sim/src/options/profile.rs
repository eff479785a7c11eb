//! Profiles: runs that belong to one family of faults, harsher in it than the mixture is.
//!
//! A mixture finds what no family finds alone; a profile looks longer where somebody has just worked.

use std::fmt;
use std::str::FromStr;

use super::{ClientOptions, Pick};
use crate::fault::{Fault, FaultSet};
use crate::rng::Ratio;

/// Which faults a run draws from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// All of them, mixed.
    #[default]
    Swarm,
    /// Those of the network.
    Net,
    /// Those of processes: crashes, power, pauses.
    Process,
    /// Those of clocks.
    Clock,
    /// Those of disks, and the loss of power that shows them.
    Disk,
    /// What operators do.
    Membership,
    /// Those of disks, and in the end more of them than any group can bear.
    Beyond,
    /// Many clients that ask twice, too soon and too much.
    Client,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 8] = [
        Self::Swarm,
        Self::Net,
        Self::Process,
        Self::Clock,
        Self::Disk,
        Self::Membership,
        Self::Client,
        Self::Beyond,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Net => "net",
            Self::Process => "process",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Membership => "membership",
            Self::Client => "client",
            Self::Beyond => "beyond",
        }
    }

    /// The classes that it draws from.
    fn family(self) -> &'static [Fault] {
        match self {
            Self::Swarm => Fault::ALL,
            Self::Net => &super::NETWORK_FAULTS,
            Self::Process => &[
                Fault::Crash,
                Fault::PowerLoss,
                Fault::TornWork,
                Fault::Blackout,
                Fault::Pause,
                Fault::Wipe,
                Fault::SlowNode,
                Fault::GracefulStop,
            ],
            Self::Clock => &[Fault::Skew, Fault::Jump, Fault::Pause, Fault::Drift],
            Self::Disk | Self::Beyond => &[
                Fault::PowerLoss,
                Fault::TornWork,
                Fault::Blackout,
                Fault::Stall,
                Fault::WriteError,
                Fault::SyncDrops,
                Fault::SyncKeeps,
                Fault::BitRot,
                Fault::ZeroedSector,
                Fault::Misdirected,
                Fault::LostWrite,
                Fault::Unreadable,
                Fault::LostTail,
                Fault::SnapshotRot,
                Fault::NoSpace,
                Fault::ShortWrite,
                Fault::StrayWrite,
                Fault::LyingSync,
                Fault::Amnesia,
                Fault::DirectoryError,
                Fault::SlowNode,
            ],
            Self::Membership => &[
                Fault::Membership,
                Fault::Transfer,
                Fault::StepDown,
                Fault::ForgetLeader,
                Fault::Campaign,
            ],
            Self::Client => &[
                Fault::Partition,
                Fault::Reset,
                Fault::Transfer,
                Fault::Malformed,
                Fault::Oversized,
            ],
        }
    }

    /// Draws the classes of a run anew, each of the family with three quarters, at least one; and
    /// one by which processes end.
    pub(super) fn narrow(self, pick: &mut Pick, voters: usize, faults: &mut FaultSet) {
        if self == Self::Swarm {
            return;
        }
        *faults = FaultSet::default();
        let family: Vec<Fault> = self
            .family()
            .iter()
            .copied()
            .filter(|fault| voters >= 3 || !fault.needs_three())
            .collect();
        faults.insert(family[pick.next().position(family.len())]);
        for fault in family {
            if pick.next().chance(Ratio::new(3, 4)) {
                faults.insert(fault);
            }
        }
        faults.insert(super::CRASHES[pick.next().position(super::CRASHES.len())]);
    }

    /// How many times as often its faults strike.
    pub(super) fn haste(self) -> u64 {
        match self {
            Self::Swarm | Self::Beyond => 1,
            Self::Net
            | Self::Process
            | Self::Clock
            | Self::Disk
            | Self::Membership
            | Self::Client => 2,
        }
    }

    /// The clients of a run, given those that were drawn.
    pub(super) fn clients(self, drawn: ClientOptions, pick: &mut Pick) -> ClientOptions {
        if self != Self::Client {
            return drawn;
        }
        ClientOptions {
            clients: 8 + pick.next().position(9),
            keys: 1 + pick.next().below(4),
            think_us: 1 + drawn.think_us / 4,
            timeout_us: 1 + drawn.timeout_us / 2,
            twice: Ratio::new(1, 2),
            oversized: Ratio::new(1, 16),
            ..drawn
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|profile| profile.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("a profile is one of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{EVENTS_DEFAULT, Options};

    #[test]
    fn a_profile_draws_from_its_family_and_ends_processes() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
            for seed in 0..100 {
                let options = Options::draw_as(seed, EVENTS_DEFAULT, profile);
                let is_ours = |fault| {
                    profile.family().contains(&fault) || super::super::CRASHES.contains(&fault)
                };
                assert!(options.faults.iter().all(is_ours), "{profile}: {options}");
                assert_eq!(options.check(), Ok(()), "{profile}: {options}");
            }
        }
        assert!("nemesis".parse::<Profile>().is_err());
    }

    #[test]
    fn without_a_profile_seeds_keep_their_options() {
        for seed in 0..100 {
            let mixed = Options::draw_as(seed, EVENTS_DEFAULT, Profile::Swarm);
            assert_eq!(mixed, Options::draw(seed, EVENTS_DEFAULT));
        }
    }
}
