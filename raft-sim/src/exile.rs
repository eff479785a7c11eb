//! Servers that have lost their directory, or what they had promised, and their way back (§6, thesis
//! §4.1).
//!
//! A wiped disk cannot know what it has acknowledged, and a lost hard state may hide a vote, so
//! neither may speak in its old name again. Operators bring the server back as somebody else: under a
//! new lineage, which replaces the old one as a learner, and votes only once the group has promoted
//! it. Until then the group has one voter less than its membership says, so it is asked for this only
//! while it can do without: no other disk has lost anything, and no change of the membership is under
//! way. That the server gets back is demanded after the faults have ended.
//!
//! Absent: more than one such server at a time.

use raft_core::{Member, MemberStep, Membership, MembershipChange};
use raft_replica::request::{Input, Request};
use raft_replica::storage::StorageError;

use crate::check::{Invariant, Violation};
use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::nemesis::Strike;
use crate::node::Opened;
use crate::workload::{Machine, Workload};
use crate::world::World;

/// Somebody who is to be admitted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exile {
    /// How it was lost.
    pub(crate) fault: Fault,
    /// Whether it voted.
    was_voter: bool,
}

impl<W: Workload> World<W> {
    /// As [`Self::banish`], this server or the next one that can be lost.
    pub(crate) fn banish_any(&mut self, at: NodeAt, strike: &Strike) -> Result<bool, Failure> {
        let nodes = self.nodes.len();
        for next in 0..nodes {
            if self.banish((at + next) % nodes, strike.clone())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A server loses its directory, or all copies of what it has promised. Returns whether it has:
    /// the group must be able to do without it.
    fn banish(&mut self, at: NodeAt, mut strike: Strike) -> Result<bool, Failure> {
        if !self.can_lose(at) {
            return Ok(false);
        }
        let exile = Exile { fault: strike.fault, was_voter: self.votes(at) };
        if strike.fault == Fault::Wipe {
            self.wipe(at)?;
        } else {
            let node = &self.nodes[at];
            let has_lived = self.checker.durable_last(node.member.id).0 > 0;
            if !has_lived || !node.disk.forget_promises(&mut strike.draw) {
                return Ok(false);
            }
            self.stop(at);
            self.nodes[at].is_amnesiac = true;
            self.restart_after(at, 1 + strike.lasts_us / 32);
        }
        self.stats.tally.injected(strike.fault);
        self.nodes[at].exile = Some(exile);
        self.readmit_later(at);
        Ok(true)
    }

    /// Whether the group can do without a member for good, and nothing is under way that counts on it.
    fn can_lose(&self, at: NodeAt) -> bool {
        let member = self.nodes[at].member;
        let is_change = |input: &Input<Machine<W>>| {
            matches!(input, Input::Request { request: Request::ChangeMembership { .. }, .. })
        };
        let is_asked = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let is_asked = is_asked.flat_map(|process| &process.inbox).any(is_change);
        // Those at which logs begin say the same once more.
        let committed = self.checker.committed_membership();
        let is_settled = self.checker.memberships().all(|one| one == committed);
        is_settled
            && committed.is_member(member)
            && !is_asked
            && self.nodes.iter().all(|node| node.exile.is_none())
            && self.can_spare(at)
            && (0..self.nodes.len()).all(|node| !self.is_damaged(node))
            && self.memberships_under_way().is_empty()
    }

    /// Whether a member is a voter of any membership that may be in force.
    pub(crate) fn votes(&self, at: NodeAt) -> bool {
        self.checker.memberships().any(|one| one.is_voter(self.nodes[at].member))
    }

    /// Whether a membership that may come into force counts on a voter who will never speak again.
    pub(crate) fn is_any_gone(&self) -> bool {
        let is_gone = |member: &Member| {
            // Who has lost what it promised has not been told so before it starts.
            self.nodes.iter().all(|node| node.member != *member || node.is_amnesiac)
        };
        self.checker
            .memberships()
            .any(|one| one.incoming().iter().chain(one.outgoing()).any(is_gone))
    }

    /// The first one that is still to be admitted again.
    pub(crate) fn exiled(&self) -> Option<NodeAt> {
        self.nodes.iter().position(|node| node.exile.is_some())
    }

    fn readmit_later(&mut self, at: NodeAt) {
        let delay_us = self.schedule.draw().range(1, 2 * self.options.election_timeout_us);
        self.queue.after(delay_us, Event::Readmit { node: at });
    }

    /// An operator takes the next step on a server's way back, as far as the leader shows which.
    pub(crate) fn readmit(&mut self, at: NodeAt) -> Result<(), Failure> {
        let Some(exile) = self.nodes[at].exile else { return Ok(()) };
        if self.nodes[at].is_amnesiac {
            // Who has not even started has no lineage yet to come back under.
            self.readmit_later(at);
            return Ok(());
        }
        let member = self.nodes[at].member;
        let is_back = |one: &Membership| {
            !one.is_joint() && one.is_member(member) && (!exile.was_voter || one.is_voter(member))
        };
        if self.checker.memberships().all(is_back) {
            self.nodes[at].exile = None;
            self.stats.tally.effective(exile.fault);
            return Ok(());
        }
        self.readmit_later(at);
        let Some((leader, membership)) = self.leading() else { return Ok(()) };
        match way_back(&membership, member, exile.was_voter) {
            Some(change) => {
                self.operate(leader, Request::ChangeMembership { change, expect: None })
            }
            None => Ok(()),
        }
    }

    /// Opens the directory of a server as a start would: one that has lost what it had promised is
    /// refused, and opened again under a new lineage, by an operator.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub(crate) fn open(&mut self, at: NodeAt) -> Result<Result<Opened, StorageError>, Failure> {
        let node = &mut self.nodes[at];
        let opened = node.open(&self.options, &self.founders);
        if !node.is_amnesiac {
            return Ok(opened);
        }
        match opened {
            Ok((_, found)) => {
                let predicted = "who has lost what it promised is not started in its old name";
                let actual = format!("it starts with [{}]", found.hard_state);
                let broken = Violation::new(Invariant::Recovery, predicted.to_owned(), actual);
                Err(broken.on(node.member.id).into())
            }
            Err(StorageError::Amnesia { .. }) => {
                let (storage, found) = node
                    .reopen(&self.options, &self.choices)
                    .map_err(|error| Failure::Storage { node: node.member.id, error })?;
                self.checker.readmitted(node.member, &found.hard_state)?;
                Ok(Ok((storage, found)))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

/// The next change on the way back of a member whose server the group knows under another lineage.
fn way_back(membership: &Membership, member: Member, was_voter: bool) -> Option<MembershipChange> {
    if membership.is_joint() {
        return (!membership.auto_leave()).then_some(MembershipChange::LeaveJoint);
    }
    let id = member.id;
    let steps = match membership.find(id) {
        None => vec![MemberStep::AddLearner(member)],
        Some(found) if found != member => {
            vec![MemberStep::Remove(id), MemberStep::AddLearner(member)]
        }
        Some(_) if was_voter && !membership.is_voter(member) => vec![MemberStep::Promote(id)],
        Some(_) => return None,
    };
    Some(MembershipChange::Steps(steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{FaultSet, Tally};
    use crate::options::Options;
    use crate::run::{How, options};

    fn banished(fault: Fault) -> Tally {
        let mut tally = Tally::default();
        for seed in 0..6 {
            let mut faults = FaultSet::default();
            faults.insert(Fault::Crash);
            faults.insert(fault);
            let run =
                Options { seed, faults, events: 3_000, strike_events: 128, ..Options::default() };
            let report = options(&run, How::once(run.events));
            assert!(report.failure.is_none(), "{report}");
            tally.add(&report.stats.tally);
        }
        tally
    }

    #[test]
    fn who_has_lost_its_directory_or_its_promises_is_admitted_again() {
        for fault in [Fault::Wipe, Fault::Amnesia] {
            let (injected, effective) = banished(fault).of(fault);
            assert!(injected > 6 && effective == injected, "{} {injected}", fault.name());
        }
    }

    #[test]
    fn who_has_lost_its_promises_is_not_back_before_it_starts() {
        let mut world = World::of_options(Options { events: 1_000, ..Options::default() });
        world.run().expect("a run without faults passes");
        world.stop(0);
        let exile = Exile { fault: Fault::Amnesia, was_voter: true };
        for is_amnesiac in [true, false] {
            world.nodes[0].is_amnesiac = is_amnesiac;
            world.nodes[0].exile = Some(exile);
            world.readmit(0).expect("an operator breaks nothing");
            assert_eq!(world.exiled().is_some(), is_amnesiac);
        }
    }

    #[test]
    fn the_way_back_replaces_the_old_lineage_before_it_promotes_the_new_one() {
        let [a, b, old, new] = [(1, 1), (2, 2), (3, 3), (3, 9)].map(|(id, l)| Member::new(id, l));
        let of = |voters: &[Member], learners: &[Member]| {
            Membership::new(voters.to_vec(), learners.to_vec()).expect("it is one")
        };
        let next = |membership| way_back(&membership, new, true);
        let replace = vec![MemberStep::Remove(old.id), MemberStep::AddLearner(new)];
        assert_eq!(next(of(&[a, b, old], &[])), Some(MembershipChange::Steps(replace)));
        let promote = vec![MemberStep::Promote(new.id)];
        assert_eq!(next(of(&[a, b], &[new])), Some(MembershipChange::Steps(promote)));
        assert_eq!(next(of(&[a, b, new], &[])), None);
        assert_eq!(way_back(&of(&[a, b], &[new]), new, false), None);
    }
}
