//! Operators: they change the membership, hand leadership over, replace disks (§6, thesis §3.10).
//!
//! They work while everything else goes wrong, by what the leader shows, which may be out of date
//! when they ask. A server that was removed may come back as it is, or with an empty disk and thus
//! as somebody else; a disk is replaced only when no membership that may come into force names its
//! server. Absent: the forced membership, which gives up what was committed.

use std::sync::Arc;

use raft_core::{Member, MemberStep, Membership, MembershipChange, NodeId, RoleName};
use raft_replica::request::{Input, Reply, Request, RequestId};

use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::nemesis::Strike;
use crate::rng::{Draw, Purpose, Ratio};
use crate::workload::{Machine, Workload};
use crate::world::World;

/// Requests of operators are named from here on; those of clients end before it.
const OPERATOR: u64 = 0xffff << 48;

/// Whether a request came from an operator.
pub(crate) fn is_operator(id: RequestId) -> bool {
    id.0 >= OPERATOR
}

impl<W: Workload> World<W> {
    /// Asks the leader for another membership, be it a sensible one or not.
    pub(crate) fn change_membership(&mut self) -> Result<(), Failure> {
        let Some((leader, membership)) = self.leading() else { return Ok(()) };
        let mut stream = self.choices.stream(Purpose::Operator, self.operations);
        let mut draw = stream.draw();
        if membership.is_joint() {
            // One that leaves by itself refuses to be told, unless somebody is faster.
            let is_due = !membership.auto_leave() || draw.chance(Ratio::new(1, 8));
            let change = MembershipChange::LeaveJoint;
            return if is_due { self.ask_for(leader, change, None) } else { Ok(()) };
        }
        let mut steps = Vec::new();
        let wanted = if draw.chance(Ratio::new(1, 4)) { 2 } else { 1 };
        for _ in 0..wanted {
            let draw = stream.draw();
            steps.extend(self.pick_step(leader, &membership, draw)?);
        }
        let stays_joint = draw.chance(Ratio::new(1, 8));
        let expect = draw.chance(Ratio::new(1, 4)).then_some(membership);
        let change = if stays_joint {
            MembershipChange::EnterJoint(steps)
        } else {
            MembershipChange::Steps(steps)
        };
        self.ask_for(leader, change, expect)
    }

    fn pick_step(
        &mut self,
        leader: NodeAt,
        membership: &Membership,
        mut draw: Draw,
    ) -> Result<Option<MemberStep>, Failure> {
        let (voters, learners) = (membership.incoming(), membership.learners());
        let pick = |list: &[Member], draw: &mut Draw| list.get(draw.position(list.len())).copied();
        let voter = if draw.chance(Ratio::new(1, 4)) {
            Some(self.nodes[leader].member)
        } else {
            pick(voters, &mut draw)
        };
        let learner = pick(learners, &mut draw);
        let id = |member: Member| member.id;
        // A group that shrinks is grown again, and the other way round.
        let is_small = voters.len() < self.options.voters.max(3);
        let kind = draw.below(8);
        // Where one voter decides alone, hardly anything can go wrong: a group stays there for once only.
        let only_grows = voters.len() < 3 && !draw.chance(Ratio::new(1, 8));
        Ok(match (kind, voter.map(id), learner.map(id)) {
            (0 | 1, _, Some(learner)) => Some(MemberStep::Promote(learner)),
            (_, _, Some(learner)) if only_grows => Some(MemberStep::Promote(learner)),
            (_, _, None) if only_grows => {
                self.newcomer(membership, draw)?.map(MemberStep::AddLearner)
            }
            (2, Some(old), Some(new)) => Some(MemberStep::Replace { old, new }),
            (3, Some(voter), _) => Some(MemberStep::Demote(voter)),
            (4 | 5, Some(voter), _) if !is_small => Some(MemberStep::Remove(voter)),
            (5, _, Some(learner)) if !is_small => Some(MemberStep::Remove(learner)),
            (6, Some(voter), _) => Some(MemberStep::Remove(voter)),
            (0..=7, _, Some(learner)) if draw.chance(Ratio::new(1, 2)) => {
                Some(MemberStep::Promote(learner))
            }
            (_, _, _) => self.newcomer(membership, draw)?.map(MemberStep::AddLearner),
        })
    }

    /// A server that the membership does not name, ready to be added: sometimes with a new disk.
    fn newcomer(
        &mut self,
        membership: &Membership,
        mut draw: Draw,
    ) -> Result<Option<Member>, Failure> {
        let is_free = |at: &NodeAt| membership.find(self.nodes[*at].member.id).is_none();
        let free: Vec<NodeAt> = (0..self.nodes.len()).filter(is_free).collect();
        let Some(&at) = free.get(draw.position(free.len())) else { return Ok(None) };
        let member = self.nodes[at].member;
        let under_way = self.memberships_under_way();
        let all = self.checker.memberships().chain(under_way.iter().map(|one| &**one));
        let is_needed = all.into_iter().any(|one| one.is_member(member));
        let has_lived = self.nodes[at].seen.last > 0;
        let is_needed = is_needed || (0..self.nodes.len()).any(|at| self.is_damaged(at));
        if has_lived && !is_needed && draw.chance(Ratio::new(1, 2)) {
            self.wipe(at)?;
        }
        Ok(Some(self.nodes[at].member))
    }

    /// Replaces the disk of a server that nobody counts on.
    pub(crate) fn wipe(&mut self, at: NodeAt) -> Result<(), Failure> {
        self.stop(at);
        let node = &mut self.nodes[at];
        node.wipe(&self.choices);
        let member = node.member;
        self.checker.replaced(member);
        self.format(at)?;
        // A start that was planned for the old disk will do no harm: there is one life only.
        self.restart_after(at, 1);
        Ok(())
    }

    fn ask_for(
        &mut self,
        at: NodeAt,
        change: MembershipChange,
        expect: Option<Arc<Membership>>,
    ) -> Result<(), Failure> {
        let is_frail = || {
            let is_exiled = self.exiled().is_some();
            is_exiled || self.is_any_doubtful() || self.is_any_gone() || self.is_any_copy_last()
        };
        if self.healed.is_none() && is_frail() {
            // Who cannot vote must not become one too many, nor may the last copy go; nor may a learner be
            // promoted who is somebody else by now. Later on, memberships only grow.
            return Ok(());
        }
        self.stats.tally.injected(Fault::Membership);
        self.operate(at, Request::ChangeMembership { change, expect })
    }

    /// Asks the leader to hand over: to the best voter, or to anybody.
    pub(crate) fn transfer(&mut self, mut strike: Strike) -> Result<(), Failure> {
        let Some((leader, membership)) = self.leading() else { return Ok(()) };
        let me = self.nodes[leader].member;
        let mut others = membership.members();
        let is_voter = |member: &Member| membership.incoming().contains(member);
        // Mostly somebody who can lead.
        let is_sensible = strike.draw.chance_or(Ratio::new(7, 8), true);
        others.retain(|member| *member != me && (is_voter(member) || !is_sensible));
        let chosen = others.get(strike.draw.position(others.len())).map(|member| member.id);
        let to: Option<NodeId> = chosen.filter(|_| strike.draw.chance(Ratio::new(1, 2)));
        self.stats.tally.injected(Fault::Transfer);
        self.operate(leader, Request::TransferLeadership { to })
    }

    /// Tells a node, most often the leader, to step down.
    pub(crate) fn step_down(&mut self, at: NodeAt) -> Result<(), Failure> {
        let at = self.leader().unwrap_or(at);
        self.stats.tally.injected(Fault::StepDown);
        if self.nodes[at].seen.role == Some(RoleName::Leader) {
            self.stats.tally.effective(Fault::StepDown);
        }
        self.deliver(at, Input::StepDown)
    }

    /// Makes a node forget its leader: this one, or the next one that has a leader.
    pub(crate) fn forget_leader(&mut self, at: NodeAt) -> Result<(), Failure> {
        self.stats.tally.injected(Fault::ForgetLeader);
        let follows = |at: &NodeAt| {
            self.nodes[*at].process.as_ref().is_some_and(|process| {
                let status = process.replica.status();
                status.role == RoleName::Follower && status.leader.is_some()
            })
        };
        let nodes = self.nodes.len();
        let follower = (0..nodes).map(|next| (at + next) % nodes).find(follows);
        if follower.is_some() {
            self.stats.tally.effective(Fault::ForgetLeader);
        }
        self.deliver(follower.unwrap_or(at), Input::ForgetLeader)
    }

    /// Asks a node to campaign: this one, or the next one that can.
    pub(crate) fn campaign(&mut self, at: NodeAt) -> Result<(), Failure> {
        let role = |at: NodeAt| self.nodes[at].seen.role;
        let nodes = self.nodes.len();
        let idle = |at: &NodeAt| role(*at) == Some(RoleName::Follower) && self.votes(*at);
        let at = (0..nodes).map(|next| (at + next) % nodes).find(idle);
        at.map_or(Ok(()), |at| self.urge(at))
    }

    /// Asks this node to campaign.
    pub(crate) fn urge(&mut self, at: NodeAt) -> Result<(), Failure> {
        if self.nodes[at].process.is_none() {
            return Ok(());
        }
        self.stats.tally.injected(Fault::Campaign);
        self.nodes[at].is_urged = true;
        self.checker.urged(self.nodes[at].member.id);
        self.deliver(at, Input::Campaign)
    }

    /// After the faults have ended: joint memberships that wait for a word are left, and one more
    /// change is made.
    pub(crate) fn look_after_membership(&mut self) -> Result<(), Failure> {
        // Not in step with anything that the nodes do each timeout.
        let delay_us = self.schedule.draw().range(1, 2 * self.options.election_timeout_us);
        self.queue.after(delay_us, Event::Operator);
        let has_changed = self.healed.as_ref().is_none_or(|healed| healed.has_changed);
        let Some((leader, membership)) = self.leading() else { return Ok(()) };
        if membership.is_joint() {
            let is_due = !membership.auto_leave();
            let change = MembershipChange::LeaveJoint;
            return if is_due { self.ask_for(leader, change, None) } else { Ok(()) };
        }
        if has_changed {
            return Ok(());
        }
        let is_up = |node: &&crate::node::Node<W>| node.process.is_some() && node.outside.is_none();
        let running: Vec<Member> =
            self.nodes.iter().filter(is_up).map(|node| node.member).collect();
        let learner = membership.learners().iter().find(|learner| running.contains(learner));
        let stranger = running.iter().find(|member| membership.find(member.id).is_none());
        let step = match (learner, stranger) {
            (Some(learner), _) => MemberStep::Promote(learner.id),
            (None, Some(stranger)) => MemberStep::AddLearner(*stranger),
            (None, None) => {
                self.membership_changed();
                return Ok(());
            }
        };
        self.ask_for(leader, MembershipChange::Steps(vec![step]), None)
    }

    /// An operator has an answer.
    pub(crate) fn operated(&mut self, reply: &Reply<Machine<W>>) {
        match reply {
            Reply::MembershipChanged { .. } => {
                if self.options.faults.contains(Fault::Membership) {
                    self.stats.tally.effective(Fault::Membership);
                }
                self.membership_changed();
            }
            Reply::Transferred { .. } => self.stats.tally.effective(Fault::Transfer),
            Reply::Failed(_) => {}
            Reply::SessionOpened { .. } | Reply::Response { .. } | Reply::Answer { .. } => {
                unreachable!("operators ask for nothing of the kind")
            }
        }
    }

    fn membership_changed(&mut self) {
        if let Some(healed) = &mut self.healed {
            healed.has_changed = true;
        }
    }

    /// The leader, and the membership that it shows.
    pub(crate) fn leading(&self) -> Option<(NodeAt, Arc<Membership>)> {
        let at = self.leader()?;
        let process = self.nodes[at].process.as_ref()?;
        Some((at, process.replica.status().membership))
    }

    pub(crate) fn operate(
        &mut self,
        at: NodeAt,
        request: Request<Machine<W>>,
    ) -> Result<(), Failure> {
        self.operations += 1;
        let id = RequestId(OPERATOR | self.operations);
        self.deliver(at, Input::Request { id, request })
    }
}
