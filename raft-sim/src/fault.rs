//! The classes of faults, and how often each was injected and took effect.
//!
//! What operators do counts as well: a change that nobody would dare in a storm finds the faults
//! that a storm alone does not.
//!
//! An injection is an act: a partition was made, a frame was marked for loss. An effect is something
//! that went otherwise because of it: a frame that a partition stopped, a sector that a power loss
//! took back. A class that is injected without effects tests nothing, so both are counted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A class of faults.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All classes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The class of this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|fault| fault.name() == name)
            }

            /// Its name in options and reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

faults! {
    /// A frame is lost. Effect: it does not arrive at a process that is there.
    Loss = "loss",
    /// A frame arrives twice. Effect: the second copy is delivered.
    Duplication = "duplication",
    /// Frames overtake each other. Injection: one would come before an earlier one of its link. Effect: one
    /// arrives after a later one.
    Reorder = "reorder",
    /// A frame is cut, or a bit of it flipped. Effect: the receiver refuses it.
    Corruption = "corruption",
    /// A link holds few frames, and for a while its end takes none. Effect: one is dropped because
    /// the link is full, and there is a process that would have taken it.
    Overflow = "overflow",
    /// Some links pass nothing: two halves, one direction, a bridge, a ring. Effect: a frame is
    /// stopped, on its way to a process that is there.
    Partition = "partition",
    /// A link holds what is sent and releases it later. Effect: a frame is held.
    Clog = "clog",
    /// Connections break. Effect: frames in flight are lost and the sender is told.
    Reset = "reset",
    /// A process is killed; its disk cache survives. Effect: the process was running.
    Crash = "crash",
    /// A machine loses power. Effect: something that was not synced is not as it was.
    PowerLoss = "power-loss",
    /// A machine loses power in the midst of a piece of disk work. Effect: as for power loss.
    TornWork = "torn-work",
    /// All machines lose power at once. Effect: as for power loss.
    Blackout = "blackout",
    /// A process stands still while its clock goes on. Effect: something waited for it.
    Pause = "pause",
    /// Clocks run at different rates. Effect: a deadline was due by a reading that is off.
    Skew = "skew",
    /// A clock jumps, forward or backward. Effect: a running process reads another time.
    Jump = "jump",
    /// A disk stands still. Effect: a piece of disk work waited.
    Stall = "stall",
    /// A write fails and writes nothing. Effect: storage has seen the error.
    WriteError = "write-error",
    /// A sync fails and drops pages. Effect: reads show old bytes again.
    SyncDrops = "sync-drops",
    /// A sync fails and calls clean what it did not write. Effect: no later sync writes it.
    SyncKeeps = "sync-keeps",
    /// An operator changes the membership. Effect: the first entry of the change is committed.
    Membership = "membership",
    /// An operator asks for another leader. Effect: a later term has begun.
    Transfer = "transfer",
    /// An operator makes the leader a follower. Effect: it led.
    StepDown = "step-down",
    /// A host makes a follower forget its leader. Effect: it had one.
    ForgetLeader = "forget-leader",
    /// A bit of a sector that was durable changes. Effect: a start would notice.
    BitRot = "bit-rot",
    /// A sector that was durable reads as zeroes. Effect: a start would notice.
    ZeroedSector = "zeroed-sector",
    /// A sector that was durable reads as another one, of its file, of its disk, or of a file of this name
    /// on another disk. Effect: a start would notice.
    Misdirected = "misdirected",
    /// A sector that was durable reads as before it was last written. Effect: a start would notice.
    LostWrite = "lost-write",
    /// A sector cannot be read, a few times or until it is written again. Effect: a start would
    /// notice.
    Unreadable = "unreadable",
    /// The end of the log reads as if it had never been written, or the file that holds it has no
    /// name any more. Effect: a start would notice.
    LostTail = "lost-tail",
    /// The bytes of a snapshot change. Effect: a start would notice.
    SnapshotRot = "snapshot-rot",
    /// A disk has no space for more, for a while. Effect: storage has seen the error.
    NoSpace = "no-space",
    /// A write fails and has written a part. Effect: something of it is there, and storage has seen
    /// the error.
    ShortWrite = "short-write",
    /// A write has gone to another sector, of its file or of another one of its disk, and is missing where
    /// it belongs. Effect: a start would notice.
    StrayWrite = "stray-write",
    /// A sync says that it is done and is not, until the next one of its file. Effect: a power loss
    /// takes back what it was about, and a start would notice.
    LyingSync = "lying-sync",
    /// A server loses its directory and gets an empty one. Effect: the group has admitted it again,
    /// under a new lineage.
    Wipe = "wipe",
    /// A server loses its hard state, or its identity: all copies, or one of the two files of the hard
    /// state, so that nobody can tell which was the newest. Effect: a start has refused,
    /// and the group has admitted the server again, under a new lineage.
    Amnesia = "amnesia",
    /// An operator asks a node to campaign. Effect: it does.
    Campaign = "campaign",
    /// A call that makes, renames or removes a file, or syncs a directory, fails, and has been done or
    /// not. Effect: storage has seen the error.
    DirectoryError = "directory-error",
    /// A machine is slower than the others for as long as the run lasts: its disk, and its process to look
    /// at what has arrived. Effect: something took longer there.
    SlowNode = "slow-node",
    /// A process is told to end: it hands over if it leads, lets its disk finish and tells it that it is
    /// at rest. Effect: all of that was done, and it has ended.
    GracefulStop = "graceful-stop",
    /// Somebody asks for a command that this version does not know. Effect: it is in the log, and does
    /// nothing.
    Malformed = "malformed",
    /// Somebody asks for a command that is too large. Effect: it is refused for that.
    Oversized = "oversized",
    /// Clocks differ by more than leases bear, and they may jump: nothing holds then of what is answered by
    /// a lease, and all else does. Effect: a deadline was due by a clock that is too fast or too slow.
    Drift = "drift",
    /// A process speaks another version of the wire format for a while, in all that it says or in some of
    /// it; its checksums are right. Effect: a receiver refuses it for its version.
    WireVersion = "wire-version",
}

/// What happens to sectors at rest.
pub const DAMAGE: [Fault; 3] = [Fault::BitRot, Fault::ZeroedSector, Fault::Misdirected];

/// What else happens to what was durable.
pub const LOSSES: [Fault; 6] = [
    Fault::LostWrite,
    Fault::Unreadable,
    Fault::LostTail,
    Fault::SnapshotRot,
    Fault::StrayWrite,
    Fault::LyingSync,
];

/// What runs draw apart from the rest, as seeds had the rest before these.
pub(crate) const LATER: [Fault; 4] =
    [Fault::NoSpace, Fault::ShortWrite, Fault::Campaign, Fault::DirectoryError];

/// What came later still, and is drawn apart as well: each with one third.
pub(crate) const LATEST: [Fault; 6] = [
    Fault::SlowNode,
    Fault::GracefulStop,
    Fault::Malformed,
    Fault::Oversized,
    Fault::Drift,
    Fault::WireVersion,
];

/// What costs the group a member for a while.
pub const EXILES: [Fault; 2] = [Fault::Wipe, Fault::Amnesia];

impl Fault {
    /// Whether a group of fewer than three voters cannot bear it.
    #[must_use]
    pub fn needs_three(self) -> bool {
        self.is_loss() || EXILES.contains(&self)
    }

    /// Whether a disk loses by it what was durable: a group of three voters or more may bear that.
    #[must_use]
    pub fn is_loss(self) -> bool {
        DAMAGE.contains(&self) || LOSSES.contains(&self)
    }
}

/// A part of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Whose it is, twice.
    Identity,
    /// The hard state, in two files.
    HardState,
    /// The newest memberships a second time, behind the hard state.
    Ring,
    /// What a segment of the log says about itself, twice.
    Head,
    /// The names of a segment's entries, apart from them.
    Slot,
    /// The batches of a segment.
    Payload,
    /// Payloads that were healed.
    Heal,
    /// What a snapshot covers, twice.
    Manifest,
    /// The bytes of a snapshot.
    Data,
}

impl Part {
    /// All of them, each with what is lost of it.
    pub const ALL: [(Self, &str); 9] = [
        (Self::Identity, "copies of the identity that are lost"),
        (Self::HardState, "copies of the hard state that are lost"),
        (Self::Ring, "copies of memberships that are lost"),
        (Self::Head, "heads of segments that are lost"),
        (Self::Slot, "slots that are lost"),
        (Self::Payload, "payloads that are lost"),
        (Self::Heal, "healed payloads that are lost"),
        (Self::Manifest, "manifests that are lost"),
        (Self::Data, "bytes of snapshots that are lost"),
    ];
}

/// A set of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    /// Adds a class.
    pub fn insert(&mut self, fault: Fault) {
        self.0 |= 1 << fault as u32;
    }

    /// Removes a class.
    pub fn remove(&mut self, fault: Fault) {
        self.0 &= !(1 << fault as u32);
    }

    /// Whether a class is in it.
    #[must_use]
    pub fn contains(self, fault: Fault) -> bool {
        self.0 >> fault as u32 & 1 == 1
    }

    /// Whether disks lose what was durable.
    #[must_use]
    pub fn has_damage(self) -> bool {
        self.iter().any(Fault::is_loss)
    }

    /// Its classes in order.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(move |&fault| self.contains(fault))
    }
}

impl fmt::Display for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        for (position, fault) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { " " };
            write!(f, "{separator}{}", fault.name())?;
        }
        Ok(())
    }
}

/// Why an injection was taken back, as if it had never been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// More would have been lost than the group must bear.
    Unborne,
    /// A start would have found less than there was without a word, and rightly so: nothing was left that
    /// could tell.
    Unnoticed,
}

/// How often each class was injected and took effect, and how often an injection was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    counts: [(u64, u64); Fault::ALL.len()],
    withdrawn: [[u64; 2]; Fault::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self { counts: [(0, 0); Fault::ALL.len()], withdrawn: [[0; 2]; Fault::ALL.len()] }
    }
}

impl Tally {
    /// Counts an injection.
    pub fn injected(&mut self, fault: Fault) {
        self.counts[fault as usize].0 += 1;
    }

    /// Counts an effect.
    pub fn effective(&mut self, fault: Fault) {
        self.counts[fault as usize].1 += 1;
    }

    /// Counts an injection that is its own effect.
    pub fn both(&mut self, fault: Fault) {
        self.injected(fault);
        self.effective(fault);
    }

    /// Counts an injection that is taken back, as if it had never been. It counts as none.
    pub fn withdrawn(&mut self, fault: Fault, why: Withdrawn) {
        self.withdrawn[fault as usize][why as usize] += 1;
    }

    /// How often an injection of a class was taken back, for this reason.
    #[must_use]
    pub fn withdrawals(&self, fault: Fault, why: Withdrawn) -> u64 {
        self.withdrawn[fault as usize][why as usize]
    }

    /// The same for a report: nothing, if none was.
    pub(crate) fn show_withdrawals(&self, fault: Fault) -> String {
        let [unborne, unnoticed] = self.withdrawn[fault as usize];
        let parts = [(unborne, "unborne"), (unnoticed, "unnoticed")];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, why)| format!("{count} {why}")).collect::<Vec<_>>().join(", ")
    }

    /// Injections and effects of a class.
    #[must_use]
    pub fn of(&self, fault: Fault) -> (u64, u64) {
        self.counts[fault as usize]
    }

    /// The effects of all classes.
    #[must_use]
    pub fn effects(&self) -> u64 {
        self.counts.iter().map(|(_, effective)| effective).sum()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            mine.0 += theirs.0;
            mine.1 += theirs.1;
        }
        for (mine, theirs) in self.withdrawn.iter_mut().zip(&other.withdrawn) {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }
}

/// A map from names to injections, effects and withdrawals by reason, without the classes that have none.
impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = Fault::ALL.iter().map(|&fault| {
            let (injected, effective) = self.of(fault);
            let [unborne, unnoticed] = self.withdrawn[fault as usize];
            (fault.name(), (injected, effective, unborne, unnoticed))
        });
        serializer.collect_map(counts.filter(|(_, counts)| *counts != (0, 0, 0, 0)))
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tally = Self::default();
        let counts = BTreeMap::<String, (u64, u64, u64, u64)>::deserialize(deserializer)?;
        for (name, (injected, effective, unborne, unnoticed)) in counts {
            let fault = Fault::ALL.iter().find(|fault| fault.name() == name);
            let fault = *fault.ok_or_else(|| de::Error::custom(format!("no class {name:?}")))?;
            tally.counts[fault as usize] = (injected, effective);
            tally.withdrawn[fault as usize] = [unborne, unnoticed];
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_tallies_name_their_classes() {
        let mut set = FaultSet::default();
        assert_eq!(set.to_string(), "none");
        set.insert(Fault::SyncDrops);
        set.insert(Fault::Loss);
        set.insert(Fault::Clog);
        set.remove(Fault::Clog);
        assert_eq!(set.to_string(), "loss sync-drops");

        let mut tally = Tally::default();
        tally.injected(Fault::Clog);
        tally.both(Fault::Loss);
        tally.withdrawn(Fault::BitRot, Withdrawn::Unborne);
        assert_eq!(tally.show_withdrawals(Fault::BitRot), "1 unborne");
        tally.withdrawn(Fault::BitRot, Withdrawn::Unnoticed);
        let mut sum = tally.clone();
        sum.add(&tally);
        assert_eq!((sum.of(Fault::Clog), sum.of(Fault::Loss)), ((2, 0), (2, 2)));
        let unborne = sum.withdrawals(Fault::BitRot, Withdrawn::Unborne);
        assert_eq!((sum.of(Fault::BitRot), unborne), ((0, 0), 2));
        assert_eq!(sum.show_withdrawals(Fault::BitRot), "2 unborne, 2 unnoticed");
        assert_eq!(sum.effects(), 2);
    }
}
