//! Who belongs to a group (§6): voters, the outgoing voters of a joint configuration, learners.
//!
//! A membership comes from the snapshot and the log alone and is in force from the moment it is
//! appended (thesis §4.1). In this version it is fixed by the genesis; the joint form is already
//! part of the type, of the wire format and of every quorum, so that changes need no new format.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{Member, NodeId};

/// The most members that one half of a membership may have.
pub const MEMBERS_MAX: usize = 64;

/// A configuration of a group.
///
/// Invariants, established by [`Membership::new`] and by decoding through
/// [`Membership::validate`]:
/// 1. every list is sorted by id and names each id at most once;
/// 2. every list has at most [`MEMBERS_MAX`] members;
/// 3. no learner is a voter of either half;
/// 4. learners-to-be (`learners_next`) are voters of the outgoing half;
/// 5. `outgoing`, `learners_next` and `auto_leave` are empty or false unless it is joint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    incoming: Vec<Member>,
    outgoing: Vec<Member>,
    learners: Vec<Member>,
    learners_next: Vec<Member>,
    auto_leave: bool,
}

impl Membership {
    /// A simple membership of voters and learners, in any order.
    ///
    /// # Errors
    /// [`MembershipError`] names the first invariant that does not hold.
    pub fn new(
        mut voters: Vec<Member>,
        mut learners: Vec<Member>,
    ) -> Result<Self, MembershipError> {
        voters.sort_unstable();
        learners.sort_unstable();
        let membership = Self { incoming: voters, learners, ..Self::default() };
        membership.validate()?;
        Ok(membership)
    }

    /// Checks the invariants of the type; decoded memberships come through here.
    ///
    /// # Errors
    /// [`MembershipError`] names the first invariant that does not hold.
    pub fn validate(&self) -> Result<(), MembershipError> {
        let lists = [&self.incoming, &self.outgoing, &self.learners, &self.learners_next];
        for list in lists {
            if list.len() > MEMBERS_MAX {
                return Err(MembershipError::TooManyMembers);
            }
            if list.windows(2).any(|pair| pair[0].id >= pair[1].id) {
                return Err(MembershipError::NotSortedOrRepeated);
            }
        }
        if self.learners.iter().any(|learner| self.is_voter(*learner)) {
            return Err(MembershipError::LearnerIsVoter);
        }
        if !self.learners_next.iter().all(|learner| contains(&self.outgoing, *learner)) {
            return Err(MembershipError::LearnerNextIsNoOutgoingVoter);
        }
        if self.incoming.is_empty() && !(self.outgoing.is_empty() && self.learners.is_empty()) {
            return Err(MembershipError::NoVoters);
        }
        if self.outgoing.is_empty() && (!self.learners_next.is_empty() || self.auto_leave) {
            return Err(MembershipError::JointPartsWithoutOutgoing);
        }
        Ok(())
    }

    /// The voters of the incoming half; all voters when the membership is not joint.
    #[must_use]
    pub fn incoming(&self) -> &[Member] {
        &self.incoming
    }

    /// The voters of the outgoing half; empty unless the membership is joint.
    #[must_use]
    pub fn outgoing(&self) -> &[Member] {
        &self.outgoing
    }

    /// Members that receive the log and do not vote.
    #[must_use]
    pub fn learners(&self) -> &[Member] {
        &self.learners
    }

    /// Outgoing voters that become learners when the joint membership is left.
    #[must_use]
    pub fn learners_next(&self) -> &[Member] {
        &self.learners_next
    }

    /// Whether the leader leaves the joint membership by itself.
    #[must_use]
    pub fn auto_leave(&self) -> bool {
        self.auto_leave
    }

    /// Whether two halves must agree (§6).
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether nobody belongs to it: a node that was given nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.incoming.is_empty()
    }

    /// Whether the member votes in either half.
    #[must_use]
    pub fn is_voter(&self, member: Member) -> bool {
        contains(&self.incoming, member) || contains(&self.outgoing, member)
    }

    /// Whether the member votes or learns.
    #[must_use]
    pub fn is_member(&self, member: Member) -> bool {
        self.is_voter(member) || contains(&self.learners, member)
    }

    /// Everyone who receives the log, sorted, each once.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let mut all: Vec<Member> = [&self.incoming, &self.outgoing, &self.learners]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The member with this server id, if any list names it.
    #[must_use]
    pub fn find(&self, id: NodeId) -> Option<Member> {
        [&self.incoming, &self.outgoing, &self.learners]
            .into_iter()
            .flatten()
            .find(|member| member.id == id)
            .copied()
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, "voters", &self.incoming)?;
        if self.is_joint() {
            list(f, " outgoing", &self.outgoing)?;
        }
        if !self.learners.is_empty() {
            list(f, " learners", &self.learners)?;
        }
        Ok(())
    }
}

/// Why a membership is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MembershipError {
    /// A list has more than [`MEMBERS_MAX`] members.
    TooManyMembers,
    /// A list is not sorted by id, or names an id twice.
    NotSortedOrRepeated,
    /// A learner also votes.
    LearnerIsVoter,
    /// A learner-to-be does not vote in the outgoing half.
    LearnerNextIsNoOutgoingVoter,
    /// There are members but no voters.
    NoVoters,
    /// Parts of a joint membership without an outgoing half.
    JointPartsWithoutOutgoing,
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyMembers => "a membership list has too many members",
            Self::NotSortedOrRepeated => "a membership list is not sorted or names an id twice",
            Self::LearnerIsVoter => "a learner of the membership also votes",
            Self::LearnerNextIsNoOutgoingVoter => {
                "a learner-to-be does not vote in the outgoing half"
            }
            Self::NoVoters => "the membership has members but no voters",
            Self::JointPartsWithoutOutgoing => {
                "the membership has joint parts but no outgoing half"
            }
        })
    }
}

impl core::error::Error for MembershipError {}

fn contains(sorted: &[Member], member: Member) -> bool {
    sorted.binary_search(&member).is_ok()
}

fn list(f: &mut fmt::Formatter<'_>, name: &str, members: &[Member]) -> fmt::Result {
    write!(f, "{name}=")?;
    for (position, member) in members.iter().enumerate() {
        let separator = if position == 0 { "" } else { "," };
        write!(f, "{separator}{member}")?;
    }
    Ok(())
}
