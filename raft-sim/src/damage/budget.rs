//! What a group can bear: of all that is lost on its disks, it heals.
//!
//! Entries are lost on any number of disks, and again once they are healed, as long as one member is left
//! that has each of them for certain. What no quorum has is nobody's duty: its last copy may be lost, if so
//! many voters are certain never to have had it that a leader may discard it. Of every half of a membership
//! a minority at most may be without a vote, for they do not know where their logs ended, or wait for a
//! snapshot, or have lost what they had promised.
//!
//! All of it is asked anew for each wound, of all disks at once: a wound here may meet the last
//! copy of what is damaged elsewhere, or silence a voter whose answer is needed there.

use raft_core::{EntryId, Member, Membership};

use super::{is_hurt, lost_snapshot};
use crate::event::NodeAt;
use crate::workload::Workload;
use crate::world::World;

/// What a wound takes.
#[derive(Debug)]
pub(super) struct Toll {
    /// Payloads.
    pub(super) damaged: Vec<EntryId>,
    /// Entries that would be given up, if the power failed when it hurts.
    pub(super) tail: Vec<EntryId>,
    /// Whether the node would not know then where its log ended.
    pub(super) is_doubt: bool,
    /// The end of the newest snapshot.
    pub(super) snapshot: Option<EntryId>,
}

impl<W: Workload> World<W> {
    /// Whether the group heals of what this node's disk has lost by now, and of all that others have lost
    /// before.
    pub(super) fn is_borne(&self, at: NodeAt, toll: &Toll) -> bool {
        let costs_vote = !toll.tail.is_empty() || toll.is_doubt || toll.snapshot.is_some();
        if costs_vote && !self.can_spare(at) {
            return false;
        }
        let silent = costs_vote.then_some(at);
        let heals = |id: &EntryId| self.heals(at, *id, silent);
        let tail_heals = |id: &EntryId| !self.is_needed(*id, silent) || self.has_copy(at, *id);
        toll.damaged.iter().all(heals)
            && toll.tail.iter().all(tail_heals)
            && toll.snapshot.is_none_or(|id| self.has_all_through(at, id))
            && self.others_heal(at, silent)
    }

    /// Whether everything heals that is damaged on other disks, where this one is as it is.
    fn others_heal(&self, at: NodeAt, silent: Option<NodeAt>) -> bool {
        let others = (0..self.nodes.len()).filter(|&other| other != at && self.is_damaged(other));
        others.clone().flat_map(|other| self.views(other).map(move |found| (other, found))).all(
            |(other, found)| {
                let Some(found) = found else { return true };
                found.report.damaged().all(|id| self.heals(other, id, silent))
                    && lost_snapshot(&found).is_none_or(|last| self.has_all_through(other, last))
            },
        )
    }

    /// Whether an entry that is damaged on a disk is healed from another one, or discarded by whoever leads
    /// with it. `silent`: who will not vote.
    fn heals(&self, at: NodeAt, id: EntryId, silent: Option<NodeAt>) -> bool {
        let mut copies = self.others_with(at, id).filter(|&other| Some(other) != silent);
        copies.next().is_some()
            || (!self.is_needed(id, silent) && self.is_ruled_out(at, id, silent))
    }

    /// Whether an entry is committed, or may be without anybody knowing: who is in doubt may have had it.
    fn is_needed(&self, id: EntryId, silent: Option<NodeAt>) -> bool {
        let may_have = |voter: &&Member| {
            self.place_of(**voter).is_none_or(|at| {
                self.checker.is_durable(voter.id, id) || self.is_silent(at) || Some(at) == silent
            })
        };
        let is_quorum = |half: &[Member]| half.iter().filter(may_have).count() > half.len() / 2;
        id.index <= self.checker.committed()
            || self.checker.memberships().any(|one| is_quorum(one.incoming()))
            || self.checker.memberships().any(|one| is_quorum(one.outgoing()))
    }

    /// Whether so many voters will say that they never had an entry that no quorum can have it. Who has
    /// lost it is none of them, even if nobody knows yet that it ever was durable there.
    fn is_ruled_out(&self, loser: NodeAt, id: EntryId, silent: Option<NodeAt>) -> bool {
        let never = |voter: &&Member| {
            self.place_of(**voter).is_some_and(|at| {
                let is_certain = !self.is_silent(at) && Some(at) != silent && at != loser;
                is_certain && !self.checker.is_durable(voter.id, id)
            })
        };
        let is_blocked = |half: &[Member]| {
            let majority = half.len() / 2 + 1;
            half.iter().filter(never).count() + majority > half.len()
        };
        self.checker.memberships().all(|one| is_blocked(one.incoming()))
    }

    /// Where a member is, unless its lineage is gone.
    fn place_of(&self, member: Member) -> Option<NodeAt> {
        self.nodes.iter().position(|node| node.member == member)
    }

    /// Whether a node does not vote, or would not after a power cut.
    fn is_silent(&self, at: NodeAt) -> bool {
        self.nodes[at].is_amnesiac || self.is_doubtful(at) || self.has_lost_snapshot(at)
    }

    /// Whether the group can do without a vote of this node for a while, and without those who are silent
    /// already, whichever membership comes into force: who has no vote yet may get one.
    pub(crate) fn can_spare(&self, at: NodeAt) -> bool {
        let is_silent = |other: &NodeAt| *other == at || self.is_silent(*other);
        let silent = (0..self.nodes.len()).filter(is_silent).count();
        // Two voters need each other.
        let bears =
            |half: &[Member]| half.is_empty() || (half.len() > 2 && silent <= (half.len() - 1) / 2);
        let is_borne = |one: &Membership| [one.incoming(), one.outgoing()].into_iter().all(bears);
        !self.is_any_gone()
            && self.checker.memberships().all(is_borne)
            && self.memberships_under_way().iter().all(|one| is_borne(one))
    }

    fn has_lost_snapshot(&self, at: NodeAt) -> bool {
        self.nodes[at].was_hurt
            && self.inspect(at).is_none_or(|found| lost_snapshot(&found).is_some())
    }

    /// Whether another node, which every membership that may come into force names, has an entry for
    /// certain.
    fn has_copy(&self, at: NodeAt, id: EntryId) -> bool {
        self.others_with(at, id).next().is_some()
    }

    /// Whether another node has all that a snapshot through this entry stands for: the last entry is
    /// not enough, where one before it is damaged.
    fn has_all_through(&self, at: NodeAt, last: EntryId) -> bool {
        self.others_with(at, last).any(|other| {
            !self.nodes[other].was_hurt || self.misses_none(other, |id| id.index <= last.index)
        })
    }

    /// Whether none of these entries is damaged on a disk, whatever a power cut takes.
    fn misses_none(&self, at: NodeAt, is_asked_for: impl Fn(EntryId) -> bool) -> bool {
        self.views(at)
            .into_iter()
            .all(|found| found.is_some_and(|found| !found.report.damaged().any(&is_asked_for)))
    }

    /// The other nodes, named by every membership that may come into force, that have an entry for
    /// certain, and can read it.
    fn others_with(&self, at: NodeAt, id: EntryId) -> impl Iterator<Item = NodeAt> {
        let is_member = |member| self.checker.memberships().all(|one| one.is_member(member));
        let can_read = move |other: NodeAt| {
            !self.nodes[other].was_hurt || self.misses_none(other, |bad| bad == id)
        };
        (0..self.nodes.len()).filter(move |&other| {
            let member = self.nodes[other].member;
            other != at
                && is_member(member)
                && self.checker.is_durable(member.id, id)
                && !self.is_silent(other)
                && can_read(other)
        })
    }

    /// Whether anything that is damaged has a single copy left, or none: a change of the membership could
    /// take it away.
    pub(crate) fn is_any_copy_last(&self) -> bool {
        (0..self.nodes.len()).filter(|&at| self.is_damaged(at)).any(|at| {
            self.inspect(at).is_none_or(|found| {
                is_hurt(&found)
                    && found.report.damaged().any(|id| self.others_with(at, id).count() < 2)
            })
        })
    }
}
