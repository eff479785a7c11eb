//! What the memberships in the log mean for this server: a cache.
//!
//! All of it follows from the memberships, so it takes no part in comparisons and hashes. Nearly every
//! step needs it, and to compute it means to follow three pointers. In a host with many idle groups,
//! whose memory is in no cache of the processor, that was a quarter of what a heartbeat costs.

use alloc::sync::Arc;
use core::hash::{Hash, Hasher};

use super::Node;
use crate::membership::Membership;
use crate::types::{Index, Member};

/// Where this server stands in its group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Where the membership in force stands in the log; at most the base if it is older than that.
    index: Index,
    /// Whether the membership in force is joint.
    is_joint: bool,
    /// Whether this server votes in the membership in force.
    is_voter: bool,
    /// Whether this server may be needed to lead.
    is_electable: bool,
}

impl Standing {
    /// The standing of `me`, given the membership at the base of the log and those after it, and
    /// whether it knows all of them and the end of its log.
    pub(super) fn of(
        me: Member,
        memberships: &[(Index, Arc<Membership>)],
        commit: Index,
        is_whole: bool,
    ) -> Self {
        let (index, membership) = memberships.last().expect("the base has a membership");
        Self {
            index: *index,
            is_joint: membership.is_joint(),
            is_voter: membership.is_voter(me),
            // A node that may have forgotten what it acknowledged must not lead, nor one that does not
            // know whose votes decide.
            is_electable: is_whole && is_electable(me, memberships, commit),
        }
    }

    /// The fields, to be compared: as a type, all standings are equal.
    fn facts(self) -> (Index, bool, bool, bool) {
        (self.index, self.is_joint, self.is_voter, self.is_electable)
    }
}

impl Node {
    /// The memberships that entries after `after` through `through` brought, where it is known what they
    /// said.
    pub(crate) fn memberships_within(
        &self,
        after: Index,
        through: Index,
    ) -> impl Iterator<Item = Arc<Membership>> {
        let known = self.memberships.iter().rev().take_while(move |(at, _)| *at > after);
        known.filter(move |(at, _)| *at <= through).map(|(_, membership)| Arc::clone(membership))
    }

    /// Where the membership in force stands in the log; at most the base if it is older than that.
    pub(crate) fn membership_index(&self) -> Index {
        self.standing.index
    }

    /// Whether the membership in force is joint (§6).
    pub(crate) fn is_joint(&self) -> bool {
        self.standing.is_joint
    }

    /// Whether this server votes in the membership in force.
    pub(crate) fn is_voter(&self) -> bool {
        self.standing.is_voter
    }

    /// Whether the node may be needed to lead (thesis §4.2.2).
    pub(crate) fn is_electable(&self) -> bool {
        self.standing.is_electable
    }

    /// To be called whenever a membership has come or gone, or a newer one may be committed.
    pub(super) fn refresh_standing(&mut self) {
        self.standing = self.compute_standing();
    }

    /// Whether the standing is what the memberships say.
    pub(crate) fn knows_its_standing(&self) -> bool {
        self.standing.facts() == self.compute_standing().facts()
    }

    fn compute_standing(&self) -> Standing {
        let is_whole = self.lost_memberships.is_empty() && !self.hard_state.is_tail_unknown;
        Standing::of(self.member(), &self.memberships, self.commit, is_whole)
    }
}

/// Whether `me` votes in the membership in force, or in an earlier one that may still decide because
/// no later one is known to be committed. A voter that is being removed may hold the longest log, and
/// then nobody else can be elected (thesis §4.2.2). It does not count its own vote.
fn is_electable(me: Member, memberships: &[(Index, Arc<Membership>)], commit: Index) -> bool {
    for (index, membership) in memberships.iter().rev() {
        if membership.is_voter(me) {
            return true;
        }
        if *index <= commit {
            return false; // Earlier memberships decide nothing any more.
        }
    }
    false
}

impl PartialEq for Standing {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Standing {}

impl Hash for Standing {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
