//! The state machine: dispatch, the term rule, and settle. The only writer of the role.
//!
//! Chapters never call each other. They meet here in two places: *dispatch* applies the term rule
//! and calls one chapter's handler, whose [`Transition`] is carried out; *settle*, once at the end
//! of a step or batch, lets each chapter act on the facts that the others have left.

mod dispatch;
mod repairs;
mod requests;
mod view;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::BorrowMut;
use core::hash::{Hash, Hasher};

use crate::config::Config;
use crate::digest::CanonicalHasher;
use crate::durable::RecoveredState;
use crate::effect::{Effect, HaltReason, Observation, Outcome, Refused, Rejection};
use crate::entry::Entries;
use crate::message::{Body, Chunk, ChunkPurpose, ChunkRequest, LoadPurpose, LoadRequest, Message};
use crate::node::Node;
use crate::recovery::{self, RecoverError};
use crate::role::{Follower, Leader, Role, Transition};
use crate::types::{ChunkId, Member, PersistSeq, Term, Ticket, Time};
use crate::{
    barrier, commit, compaction, election, lease, read, reconfiguration, repair, replication,
    transfer,
};

/// A member of one Raft group: messages in, effects out.
///
/// It is a value: `Clone`, comparable, hashable. Two of them that are equal decide equally. What does not
/// count: the moment at which they got there, how many batches they have made durable before, and how
/// the log lies in memory. The last may show: two equal nodes may send or apply the same entries cut
/// into messages in different places, once there are 64 of them or 16 KiB.
#[derive(Clone, Debug)]
#[repr(C)] // For cache locality alone; not part of the interface.
pub struct Raft {
    node: Node,
    role: Role,
    now: Time,
}

impl Raft {
    /// Starts a node from what its disk holds. The effects are executed like those of a step: the
    /// first batch, which makes the new incarnation durable before the node speaks; a
    /// `RestoreState` if the host's state machine lies behind the snapshot; an `Apply` of what is
    /// known to be committed after it.
    ///
    /// `now` must be a reading of the clock that later messages carry. From it the node waits out
    /// what it had promised before the crash, and its election timeout: with a moment long past,
    /// such as `Time(0)` by a clock that does not start there, the first step would end both.
    ///
    /// # Errors
    /// [`RecoverError`] says what does not fit together; nothing has been written then.
    pub fn recover(
        config: Config,
        found: RecoveredState,
        now: Time,
    ) -> Result<(Self, Vec<Effect>), RecoverError> {
        let node = recovery::restart(config, found)?;
        let election = node.election_timer();
        let role = Role::Follower(Follower { election, ..election::follower(&node, None) });
        let mut raft = Self { now, node, role };
        raft.settle();
        let effects = core::mem::take(&mut raft.node.effects);
        Ok((raft, effects))
    }

    /// Takes one input. Total: it never panics, whatever the message says.
    pub fn step(&mut self, message: Message) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.step_batch([message], &mut effects);
        effects
    }

    /// Takes an inbox at once and appends the effects to the host's buffer.
    ///
    /// Appends and the commit index go out once, at the end: 256 proposals in one batch make one
    /// message to each peer.
    ///
    /// The inbox may be messages, or mutable references to them: what is needed is taken out, and
    /// what is left means nothing. Messages are large; a host that keeps its inbox, `step_batch(&mut
    /// inbox, ..)` and then `inbox.clear()`, does not move them.
    pub fn step_batch(
        &mut self,
        messages: impl IntoIterator<Item = impl BorrowMut<Message>>,
        effects: &mut Vec<Effect>,
    ) {
        core::mem::swap(&mut self.node.effects, effects);
        let start = self.node.effects.len();
        let mut reading = self.now;
        for mut message in messages {
            let message = message.borrow_mut();
            reading = message.now;
            if reading != self.now {
                self.pass(reading); // Of most inboxes only the first message tells a new time.
            }
            self.dispatch(&mut message.body);
        }
        self.settle();
        if reading < self.now {
            self.end_leases(); // Those that were asked for meanwhile: time stands still for them.
        }
        if let Role::Halted = self.role {
            // A halted node sends nothing, not even what this batch brought about before it halted.
            let tail = self.node.effects.split_off(start);
            let silent = tail.into_iter().filter(|effect| !matches!(effect, Effect::Send(_)));
            self.node.effects.extend(silent);
        }
        core::mem::swap(&mut self.node.effects, effects);
    }

    /// When the host owes the next `Tick`; `None`: nothing will happen until an input arrives.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let patience = self.node.repair.as_ref().and_then(|repair| repair.patience.left());
        let of_role = match &self.role {
            Role::Follower(Follower { election, contact, reads, .. }) => {
                let silence = contact.left().filter(|_| !reads.is_empty());
                let election = election.left();
                silence.map_or(election, |left| Some(election.map_or(left, |it| it.min(left))))
            }
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.election.left(),
            Role::Leader(leader) => {
                let next = leader.heartbeat.left().min(leader.quorum.left());
                let transfer = leader.transfer.and_then(|transfer| transfer.timeout.left());
                transfer.map_or(next, |left| next.min(Some(left)))
            }
            Role::Halted => return None,
        };
        let left = match (of_role, patience) {
            (Some(left), Some(patience)) => Some(left.min(patience)),
            (left, None) => left,
            (None, patience) => patience,
        };
        left.map(|left| self.now.after(left))
    }

    /// A canonical hash of the whole state: equal states, equal digests, on every machine.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = CanonicalHasher::default();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Lets the time pass that the host's clock shows. If the clock shows less than before, no time passes
    /// for timers: one that fires late does no harm. A lease that lasts too long would, so it ends.
    #[inline(never)]
    fn pass(&mut self, reading: Time) {
        if reading < self.now {
            self.end_leases();
        }
        let elapsed = self.now.follow(reading);
        self.role.pass(elapsed);
        self.node.pass(elapsed);
    }

    #[cold]
    fn end_leases(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            lease::end(leader);
        }
    }

    /// Takes out of the body only what a rule needs: to move a whole body costs more than most rules.
    ///
    /// Handlers that do more than a little are not inlined: the loop over an inbox would make ready for
    /// them in every step.
    #[inline(always)] // A part of the loop over an inbox.
    fn dispatch(&mut self, body: &mut Body) {
        if let Role::Halted = self.role {
            self.refuse_halted(body);
            return;
        }
        match *body {
            Body::Tick => {
                self.node.loading.retry();
                self.on_tick();
            }
            Body::Peer(ref mut envelope) => self.on_peer(envelope),
            Body::PeerUnreachable { peer } => {
                if let Role::Leader(leader) = &mut self.role {
                    replication::on_unreachable(leader, peer);
                }
            }
            Body::Propose { ticket, ref mut command } => {
                self.on_propose(ticket, core::mem::take(command));
            }
            Body::ProposeBatch { ref mut proposals } => self.on_propose_batch(proposals),
            Body::ProposeMembership { ticket, ref change, ref expect } => {
                self.on_propose_membership(ticket, change, expect.as_deref());
            }
            Body::Read { ticket, mode } => self.on_read(ticket, mode),
            Body::TransferLeadership { ticket, to } => self.on_transfer(ticket, to),
            Body::Campaign => self.on_campaign(),
            Body::StepDown => self.on_step_down(),
            Body::ForgetLeader => self.on_forget_leader(),
            Body::ForceMembership { ticket } => {
                let transition = reconfiguration::on_force_membership(&mut self.node, ticket);
                self.become_next(transition);
            }
            Body::Persisted { seq } => self.on_persisted(seq),
            Body::PersistFailed => {
                self.become_next(Transition::Halt(HaltReason::PersistFailed));
            }
            Body::DiskFull { is_full } => self.on_disk_full(is_full),
            Body::Applied { through } => commit::on_applied(&mut self.node, through),
            Body::Loaded { ref request, ref mut entries } => {
                self.on_loaded(request, entries.take())
            }
            Body::Damaged { ref entries } => repair::on_damaged(&mut self.node, entries),
            Body::SnapshotTaken { ref snapshot } => {
                compaction::on_snapshot_taken(&mut self.node, Arc::clone(snapshot));
            }
            Body::ChunkRead { request, ref mut chunk } => self.on_chunk_read(request, chunk.take()),
            Body::ChunkStaged { id, staged } => self.on_chunk_staged(id, staged),
        }
    }

    /// Every chapter acts once on what the others have left. One pass is enough: nothing that is
    /// appended here can commit before a later `Persisted`.
    fn settle(&mut self) {
        let node = &mut self.node;
        match &mut self.role {
            Role::Leader(leader) => {
                repair::resume_if_whole(node, leader);
                let appended = replication::append_proposals(node, leader);
                commit::advance(node, leader);
                reconfiguration::leave_joint(node, leader);
                replication::track_members(node, leader);
                transfer::relieve(node, leader);
                transfer::hand_over(node, leader);
                read::open_round(node, leader);
                replication::send_appends(node, leader, appended.as_ref());
                compaction::want_chunks(node, leader);
                read::close_rounds(node, leader);
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Halted => return,
        }
        commit::end_tickets(node);
        if node.doubt.is_some() {
            barrier::pass(node);
        }
        if node.is_damaged() || node.repair.is_some() {
            repair::ask(node, &self.role);
        }
        node.gate.flush(&mut node.effects);
        commit::hand_out(node);
        node.evict();
        // Not in release, where it would cost what the cache saves.
        debug_assert!(node.knows_its_standing(), "the standing follows the memberships");
        self.settle_role();
    }

    /// What the membership in force means for the role.
    fn settle_role(&mut self) {
        match &mut self.role {
            Role::Follower(follower) => {
                election::reconcile_timer(&self.node, follower);
                read::ask(&mut self.node, follower);
            }
            Role::Leader(leader) => {
                let transition = reconfiguration::retire(&mut self.node, leader);
                self.become_next(transition);
            }
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => {}
        }
    }

    #[inline(never)]
    fn on_tick(&mut self) {
        let node = &mut self.node;
        if node.repair.as_ref().is_some_and(|repair| repair.patience.is_due()) {
            repair::on_patience_over(node);
        }
        if let Role::Follower(follower) = &mut self.role
            && follower.contact.is_due()
        {
            read::give_up(node, follower);
        }
        let transition = match &mut self.role {
            Role::Follower(follower) if follower.election.is_due() => {
                election::on_election_timeout(node, &mut self.role)
            }
            Role::PreCandidate(campaign) | Role::Candidate(campaign)
                if campaign.election.is_due() =>
            {
                election::on_election_timeout(node, &mut self.role)
            }
            Role::Leader(leader) => {
                if leader.transfer.is_some_and(|transfer| transfer.timeout.is_due()) {
                    transfer::end(node, leader, None);
                }
                if leader.heartbeat.is_due() {
                    lease::ask(node, leader);
                    replication::on_heartbeat_timeout(node, leader);
                }
                if leader.quorum.is_due() {
                    election::on_quorum_timeout(node, leader)
                } else {
                    Transition::Stay
                }
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => {
                Transition::Stay
            }
        };
        self.become_next(transition);
    }

    #[inline(never)]
    fn on_persisted(&mut self, seq: PersistSeq) {
        self.node.on_persisted(seq);
        if let Role::Candidate(campaign) = &mut self.role {
            let transition = election::on_durable(&self.node, campaign);
            self.become_next(transition);
        }
    }

    #[inline(never)]
    fn on_chunk_staged(&mut self, id: ChunkId, staged: u64) {
        let leader = self.role.leader(self.node.member());
        let before = self.node.incoming.as_ref().map(|incoming| incoming.staged);
        let is_installed = compaction::on_chunk_staged(&mut self.node, leader, id, staged);
        if is_installed && matches!(self.role, Role::Candidate(_)) {
            // Its votes were requested under another membership. The one in the snapshot may have been made
            // by the leader of this very term, and the votes given here may be a quorum of it.
            self.become_next(Transition::Follow(None));
        }
        let incoming = self.node.incoming.as_ref();
        if incoming.is_some_and(|incoming| Some(incoming.staged) > before) {
            repair::request_chunk(&mut self.node);
        }
    }

    #[inline(never)]
    fn on_loaded(&mut self, request: &LoadRequest, entries: Option<Entries>) {
        match (request.purpose, &mut self.role) {
            (LoadPurpose::Apply, _) => commit::on_loaded(&mut self.node, request, entries),
            (LoadPurpose::Peer { member, session }, Role::Leader(leader)) => {
                let stream = (member, session);
                replication::on_loaded(&mut self.node, leader, stream, request, entries);
            }
            (LoadPurpose::Peer { .. }, _) => self.node.refuse(Refused::UnknownLoad),
            (LoadPurpose::Repair { .. }, _) => repair::on_loaded(&mut self.node, request, entries),
        }
    }

    #[inline(never)]
    fn on_chunk_read(&mut self, request: ChunkRequest, chunk: Option<Chunk>) {
        if let ChunkPurpose::Repair { id } = request.purpose {
            repair::on_chunk_read(&mut self.node, request, id, chunk);
        } else if let Role::Leader(leader) = &mut self.role {
            compaction::on_chunk_read(&mut self.node, leader, request, chunk);
        } else {
            self.node.refuse(Refused::Unasked);
        }
    }

    /// Carries out what a rule wants. A transition may lead to the next one: a sole voter passes
    /// its own pre-vote at once.
    #[inline]
    fn become_next(&mut self, transition: Transition) {
        if transition != Transition::Stay {
            self.carry_out(transition);
        }
    }

    fn carry_out(&mut self, transition: Transition) {
        let mut next = transition;
        loop {
            next = match next {
                Transition::Stay => return,
                Transition::Follow(leader) => {
                    self.abandon_leadership(leader, None);
                    self.become_follower(leader);
                    Transition::Stay
                }
                Transition::PreCampaign => {
                    let (campaign, then) = election::pre_campaign(&mut self.node);
                    self.set_role(Role::PreCandidate(campaign));
                    then
                }
                Transition::Campaign(cause) => {
                    let campaign = election::campaign(&mut self.node, cause);
                    self.set_role(Role::Candidate(campaign));
                    Transition::Stay
                }
                Transition::Force(ticket) => {
                    self.abandon_leadership(None, None);
                    let campaign = reconfiguration::force(&mut self.node, ticket);
                    self.set_role(Role::Candidate(campaign));
                    Transition::Stay
                }
                Transition::Lead => {
                    let leader = replication::lead(&mut self.node);
                    self.set_role(Role::Leader(Box::new(leader)));
                    repair::on_elected(&mut self.node);
                    Transition::Stay
                }
                Transition::Halt(reason) => {
                    self.halt(reason);
                    Transition::Stay
                }
            };
        }
    }

    fn become_follower(&mut self, leader: Option<Member>) {
        self.node.gate.withdraw_candidacy();
        let follower = election::follower(&self.node, leader);
        self.set_role(Role::Follower(follower));
    }

    fn set_role(&mut self, role: Role) {
        let me = self.node.member();
        let (name_before, leader_before) = (self.role.name(), self.role.leader(me));
        let forwarded = self.forwarded();
        self.role = role;
        let (role, leader, term) = (self.role.name(), self.role.leader(me), self.node.term());
        if role != name_before {
            self.node.observe(Observation::RoleChanged { role, term });
        }
        if leader != leader_before {
            self.node.observe(Observation::LeaderChanged { leader, term });
        }
        for ticket in forwarded {
            self.node.reject(ticket, Rejection::NotLeader { hint: leader });
        }
    }

    /// All reads that wait for a leader's answer, which will not come any more.
    fn forwarded(&mut self) -> Vec<Ticket> {
        let Role::Follower(follower) = &mut self.role else { return Vec::new() };
        follower.reads.drain(..).map(|read| read.ticket).collect()
    }

    /// A leader that ceases to lead refuses what it had accepted but not appended, and its reads.
    /// A transfer has come about if a later term has begun.
    fn abandon_leadership(&mut self, hint: Option<Member>, later: Option<Term>) {
        let Role::Leader(leader) = &mut self.role else { return };
        transfer::end(&mut self.node, leader, later);
        let proposals = leader.proposals.drain(..).map(|(ticket, _)| ticket);
        let mut tickets: Vec<Ticket> = proposals.collect();
        tickets.append(&mut read::abandoned(leader));
        for ticket in tickets {
            self.node.reject(ticket, Rejection::NotLeader { hint });
        }
    }

    /// The disk may lie from now on, or the group has gone on without this node: it is silent
    /// until it is recovered, and every open ticket ends.
    fn halt(&mut self, reason: HaltReason) {
        let mut open: Vec<Ticket> = self.node.tickets.drain(..).map(|open| open.ticket).collect();
        if let Role::Leader(leader) = &mut self.role {
            let Leader { proposals, transfer, .. } = &mut **leader;
            open.extend(transfer.take().and_then(|transfer| transfer.ticket));
            open.extend(proposals.drain(..).map(|(ticket, _)| ticket));
            open.append(&mut read::abandoned(leader));
        }
        open.append(&mut self.forwarded());
        for ticket in open {
            self.node.end(ticket, Outcome::Halted);
        }
        self.node.gate.close();
        self.set_role(Role::Halted);
        self.node.observe(Observation::Halted { reason });
    }
}

impl PartialEq for Raft {
    fn eq(&self, other: &Self) -> bool {
        let Self { now: _, node, role } = self;
        *node == other.node && *role == other.role
    }
}

impl Eq for Raft {}

impl Hash for Raft {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { now: _, node, role } = self;
        node.hash(state);
        role.hash(state);
    }
}
