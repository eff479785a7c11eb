//! The types that describe a node and its peers to the host.

use alloc::sync::Arc;
use core::fmt;

use crate::effect::RoleName;
use crate::membership::Membership;
use crate::types::{EntryId, Epoch, Incarnation, Index, Member, Term};

/// What can be seen of a node between two steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// This node.
    pub member: Member,
    /// Its role.
    pub role: RoleName,
    /// Its cluster epoch.
    pub epoch: Epoch,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its term (Figure 2, `currentTerm`).
    pub term: Term,
    /// Its vote in that term (`votedFor`).
    pub vote: Option<Member>,
    /// The leader of the term, as far as it knows.
    pub leader: Option<Member>,
    /// The highest index known to be committed (`commitIndex`).
    pub commit: Index,
    /// The highest index that the host has applied (`lastApplied`).
    pub applied: Index,
    /// The log equals what is durable through here.
    pub durable: Index,
    /// The last entry of the log.
    pub last: EntryId,
    /// The entry before the first one that the log still has.
    pub base: EntryId,
    /// The last entry that the newest snapshot covers.
    pub snapshot: EntryId,
    /// Whether only the description of that snapshot is left.
    pub is_snapshot_damaged: bool,
    /// How many entries of the log are damaged and not durably healed.
    pub damaged: usize,
    /// The first of them: nothing from there on is acknowledged or applied.
    pub first_damaged: Option<Index>,
    /// Whether the node may have acknowledged entries that it has not got: it votes for nobody.
    pub is_tail_unknown: bool,
    /// How far its log must then equal the leader's, durably and intact, so that it may vote again;
    /// `None` while the tail is known, or no leader of the term has said it yet.
    pub barrier: Option<Index>,
    /// Whether the disk has no room for entries.
    pub is_disk_full: bool,
    /// Whom a leader hands over to.
    pub transferee: Option<Member>,
    /// The membership in force.
    pub membership: Arc<Membership>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member, role, epoch, term, commit, applied, durable, last, .. } = self;
        write!(f, "{member} {role:<13} {term} vote=")?;
        show_member(f, self.vote)?;
        f.write_str(" leader=")?;
        show_member(f, self.leader)?;
        write!(f, " last={last} durable={durable} commit={commit} applied={applied}")?;
        if self.base.index > Index::ZERO {
            write!(f, " base={}", self.base)?;
        }
        if self.snapshot.index > Index::ZERO {
            write!(f, " snapshot={}", self.snapshot)?;
        }
        if self.is_snapshot_damaged {
            f.write_str(" (damaged)")?;
        }
        if let Some(first) = self.first_damaged {
            write!(f, " damaged={} from {first}", self.damaged)?;
        }
        if self.is_tail_unknown {
            f.write_str(" tail=unknown")?;
        }
        if self.is_disk_full {
            f.write_str(" disk=full")?;
        }
        if let Some(to) = self.transferee {
            write!(f, " transferee={to}")?;
        }
        if *epoch > Epoch::ZERO {
            write!(f, " {epoch}")?;
        }
        write!(f, " {}", self.membership)
    }
}

fn show_member(f: &mut fmt::Formatter<'_>, member: Option<Member>) -> fmt::Result {
    match member {
        Some(member) => write!(f, "{member}"),
        None => f.write_str("none"),
    }
}

/// How a leader's entries flow to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerStatus {
    /// The peer.
    pub member: Member,
    /// How entries flow to it.
    pub flow: Flow,
    /// Its log equals the leader's through here, durably (Figure 2, `matchIndex`).
    pub match_index: Index,
    /// The next entry to send (Figure 2, `nextIndex`).
    pub next_index: Index,
    /// The newest of its incarnations that has answered, which is the one that has acknowledged; zero
    /// if none has.
    pub incarnation: Incarnation,
    /// Whether it has answered since the last check of the quorum.
    pub is_active: bool,
    /// Whether it is removed from the membership, and not known to know it yet.
    pub is_leaving: bool,
}

/// The three ways in which entries flow to a peer (thesis §10.2.2), and the one in which they do
/// not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// The leader looks for the point where the logs match.
    Probe,
    /// The logs match: appends are pipelined.
    Replicate {
        /// Appends on their way.
        appends: usize,
        /// Their payload bytes.
        bytes: usize,
    },
    /// A snapshot is on its way.
    Snapshot {
        /// Its last entry.
        last: EntryId,
        /// The bytes that the peer has.
        staged: u64,
    },
    /// The peer's history contradicts the leader's: somebody must look.
    Diverged,
}
