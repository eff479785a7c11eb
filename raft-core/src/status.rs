//! What a host may see of a node between two steps.

use alloc::sync::Arc;

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
    /// The membership in force.
    pub membership: Arc<Membership>,
}
