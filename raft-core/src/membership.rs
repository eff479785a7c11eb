//! Who belongs to a group (§6): voters, the outgoing voters of a joint configuration, learners.
//!
//! A membership comes from the snapshot and the log alone and is in force from the moment it is
//! appended (thesis §4.1). Voters change only by way of a joint membership, in which both halves
//! must agree. This file knows which membership follows from which; when a change may be made is
//! for the rules of reconfiguration.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{Member, NodeId};

/// The most members that one half of a membership may have.
pub const MEMBERS_MAX: usize = 64;

/// A configuration of a group.
///
/// Deserializing one checks nothing: code that does so itself calls [`Membership::validate`].
/// The wire format does so for frames and records, `recover` for what it is given, and `step` refuses
/// entries and snapshots with a membership that is not valid. Invariants, established by
/// [`Membership::new`] and kept by every change:
/// 1. every list is sorted by id and names each id at most once;
/// 2. every list has at most [`MEMBERS_MAX`] members;
/// 3. no learner is a voter of either half;
/// 4. learners-to-be (`learners_next`) are voters of the outgoing half;
/// 5. `outgoing`, `learners_next` and `auto_leave` are empty or false unless it is joint;
/// 6. unless it is joint, no id is named twice. (A joint one may replace a server by itself with
///    another lineage: the outgoing half names the old one, the learners the new one.)
/// 7. a joint membership is left for one that keeps these invariants.
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
        if self.is_joint() {
            // What it is left for is appended by itself, and must be one as well.
            return self.left().validate();
        }
        let names = |id| self.incoming.binary_search_by_key(&id, |voter: &Member| voter.id).is_ok();
        if self.learners.iter().any(|learner| names(learner.id)) {
            return Err(MembershipError::NotSortedOrRepeated);
        }
        Ok(())
    }

    /// The membership that a change leads to next: a joint one if voters change.
    ///
    /// # Errors
    /// [`ChangeError`] says why the change makes no sense here.
    pub fn changed(&self, change: &MembershipChange) -> Result<Self, ChangeError> {
        let (steps, auto_leave) = match change {
            MembershipChange::LeaveJoint if self.is_joint() => return Ok(self.left()),
            MembershipChange::LeaveJoint => return Err(ChangeError::NotJoint),
            MembershipChange::Steps(steps) => (steps, true),
            MembershipChange::EnterJoint(steps) => (steps, false),
        };
        if self.is_joint() {
            return Err(ChangeError::Joint);
        }
        let mut target = Self { auto_leave: false, ..self.clone() };
        for step in steps {
            target.take(step)?;
        }
        if target == *self {
            return Err(ChangeError::NoChange);
        }
        // What a joint membership is left for must be one too; by then nobody could refuse it.
        target.validate().map_err(ChangeError::Invalid)?;
        if target.incoming != self.incoming {
            target.outgoing.clone_from(&self.incoming);
            target.auto_leave = auto_leave;
            let (next, learners) =
                target.learners.iter().partition(|learner| contains(&self.incoming, **learner));
            (target.learners_next, target.learners) = (next, learners);
        }
        target.validate().map_err(ChangeError::Invalid)?;
        Ok(target)
    }

    /// The membership after the joint one: its incoming half, with those that become learners.
    #[must_use]
    pub fn left(&self) -> Self {
        let mut learners = self.learners.clone();
        learners.extend(&self.learners_next);
        learners.sort_unstable();
        Self { incoming: self.incoming.clone(), learners, ..Self::default() }
    }

    /// One step towards the target; only `incoming` and `learners` change.
    fn take(&mut self, step: &MemberStep) -> Result<(), ChangeError> {
        match *step {
            MemberStep::AddLearner(member) => {
                if self.find(member.id).is_none() {
                    insert(&mut self.learners, member);
                } else if !contains(&self.learners, member) {
                    return Err(ChangeError::Invalid(MembershipError::NotSortedOrRepeated));
                }
            }
            MemberStep::Promote(id) => {
                if let Some(learner) = remove(&mut self.learners, id) {
                    insert(&mut self.incoming, learner);
                } else if self.find(id).is_none() {
                    return Err(ChangeError::UnknownMember);
                }
            }
            MemberStep::Demote(id) => {
                if let Some(voter) = remove(&mut self.incoming, id) {
                    insert(&mut self.learners, voter);
                } else if self.find(id).is_none() {
                    return Err(ChangeError::UnknownMember);
                }
            }
            MemberStep::Remove(id) => {
                let removed = remove(&mut self.incoming, id);
                removed
                    .or_else(|| remove(&mut self.learners, id))
                    .ok_or(ChangeError::UnknownMember)?;
            }
            MemberStep::Replace { old, new } => {
                self.take(&MemberStep::Promote(new))?;
                self.take(&MemberStep::Remove(old))?;
            }
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
        let lists = [&self.incoming, &self.outgoing, &self.learners];
        let mut all = Vec::with_capacity(lists.iter().map(|list| list.len()).sum());
        lists.into_iter().for_each(|list| all.extend_from_slice(list));
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

/// What an operator asks for (§6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MembershipChange {
    /// Steps from the membership in force, taken in order and put into force together. If voters
    /// change, by way of a joint membership that every leader leaves by itself.
    Steps(Vec<MemberStep>),
    /// The same, but the membership stays joint until `LeaveJoint`.
    EnterJoint(Vec<MemberStep>),
    /// Leave a joint membership.
    LeaveJoint,
}

/// One step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberStep {
    /// A new member, which receives the log and does not vote. Everyone joins like this.
    AddLearner(Member),
    /// A learner that has caught up becomes a voter.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A voter or learner leaves.
    Remove(NodeId),
    /// The learner `new` becomes a voter and `old` leaves, in one change.
    Replace {
        /// Who leaves.
        old: NodeId,
        /// Who becomes a voter.
        new: NodeId,
    },
}

impl fmt::Display for MembershipChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = match self {
            Self::Steps(steps) => steps,
            Self::EnterJoint(steps) => {
                f.write_str("joint:")?;
                steps
            }
            Self::LeaveJoint => return f.write_str("leave joint"),
        };
        for (position, step) in steps.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MemberStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddLearner(member) => write!(f, "add learner {member}"),
            Self::Promote(id) => write!(f, "promote {id}"),
            Self::Demote(id) => write!(f, "demote {id}"),
            Self::Remove(id) => write!(f, "remove {id}"),
            Self::Replace { old, new } => write!(f, "replace {old} by {new}"),
        }
    }
}

/// Why a change does not lead to a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeError {
    /// The membership is joint: it must be left first.
    Joint,
    /// The membership is not joint: there is nothing to leave.
    NotJoint,
    /// A step names a server that is not in the membership.
    UnknownMember,
    /// The steps lead to where they began.
    NoChange,
    /// The resulting membership would be invalid.
    Invalid(MembershipError),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joint => f.write_str("the membership is joint and must be left first"),
            Self::NotJoint => f.write_str("the membership is not joint"),
            Self::UnknownMember => f.write_str("a step names a server that is no member"),
            Self::NoChange => f.write_str("the steps change nothing"),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ChangeError {}

/// Why a membership is invalid.
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
    // Nearly all lists are short, and every step needs this: a linear search costs less.
    const FEW: usize = 8;
    if sorted.len() <= FEW {
        sorted.contains(&member)
    } else {
        sorted.binary_search(&member).is_ok()
    }
}

fn insert(sorted: &mut Vec<Member>, member: Member) {
    if let Err(position) = sorted.binary_search(&member) {
        sorted.insert(position, member);
    }
}

fn remove(sorted: &mut Vec<Member>, id: NodeId) -> Option<Member> {
    let position = sorted.binary_search_by_key(&id, |member| member.id).ok()?;
    Some(sorted.remove(position))
}

fn list(f: &mut fmt::Formatter<'_>, name: &str, members: &[Member]) -> fmt::Result {
    write!(f, "{name}=")?;
    for (position, member) in members.iter().enumerate() {
        let separator = if position == 0 { "" } else { "," };
        write!(f, "{separator}{member}")?;
    }
    Ok(())
}
