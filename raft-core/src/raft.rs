//! The state machine: dispatch, the term rule, and settle. The only writer of the role.
//!
//! Chapters never call each other. They meet here in two places: *dispatch* applies the term rule
//! and calls one chapter's handler, whose [`Transition`] is carried out; *settle*, once at the end
//! of a step or batch, lets each chapter act on the facts that the others have left.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use bytes::Bytes;

use crate::config::Config;
use crate::digest::CanonicalHasher;
use crate::durable::{RecoveredState, SnapshotMeta};
use crate::effect::{
    Effect, HaltReason, Observation, Outcome, Refused, Rejection, RoleName, Violation,
};
use crate::gate::Reply;
use crate::membership::Membership;
use crate::message::{Body, Chunk, ChunkRequest, Envelope, Message, ReadMode, Rpc};
use crate::node::{Node, pass};
use crate::recovery::{self, RecoverError};
use crate::replication::Append;
use crate::role::{Leader, Role, Transition};
use crate::types::{EntryId, Epoch, Incarnation, Index, Member, Span, Term, Ticket, Time};
use crate::{admission, commit, compaction, election, read, replication};

/// A member of one Raft group: messages in, effects out.
///
/// It is a value: `Clone`, comparable, hashable. Two of them are equal when they will behave
/// equally; the moment at which they got there does not count.
#[derive(Clone, Debug)]
pub struct Raft {
    now: Time,
    node: Node,
    role: Role,
}

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

impl Raft {
    /// Starts a node from what its disk holds. The effects are the first batch, which makes the
    /// new incarnation durable before the node speaks, and a `RestoreState` if the host's state
    /// machine lies behind the snapshot.
    ///
    /// # Errors
    /// [`RecoverError`] says what does not fit together; nothing has been written then.
    pub fn recover(
        config: Config,
        found: RecoveredState,
        now: Time,
    ) -> Result<(Self, Vec<Effect>), RecoverError> {
        let node = recovery::restart(config, found)?;
        let role = Role::Follower(election::follower(&node, None));
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
    pub fn step_batch(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
        effects: &mut Vec<Effect>,
    ) {
        core::mem::swap(&mut self.node.effects, effects);
        for message in messages {
            self.pass(message.now);
            self.dispatch(message.body);
        }
        self.settle();
        core::mem::swap(&mut self.node.effects, effects);
    }

    /// When the host owes the next `Tick`; `None`: nothing will happen until an input arrives.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let left = match &self.role {
            Role::Follower(follower) => follower.election.left(),
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.election.left(),
            Role::Leader(leader) => leader.heartbeat.left().min(leader.quorum.left()),
            Role::Halted => None,
        };
        left.map(|left| self.now.after(left))
    }

    /// What can be seen of the node.
    #[must_use]
    pub fn status(&self) -> Status {
        let node = &self.node;
        let hard_state = node.hard_state();
        Status {
            member: node.member(),
            role: self.role.name(),
            epoch: hard_state.epoch,
            incarnation: hard_state.incarnation,
            term: hard_state.term,
            vote: hard_state.vote,
            leader: self.role.leader(node.member()),
            commit: node.commit(),
            applied: node.applied,
            durable: node.gate.durable_index(),
            last: node.log().last(),
            base: node.log().base(),
            snapshot: node.snapshot().last,
            membership: Arc::clone(node.membership()),
        }
    }

    /// The identity of the entry at `index`, if the log still has it.
    #[must_use]
    pub fn entry_id(&self, index: Index) -> Option<EntryId> {
        self.node.log().id(index)
    }

    /// What a snapshot of the state machine at `index` covers: keep it with the bytes, and hand it
    /// back in `SnapshotTaken` once they are durable.
    ///
    /// `None` unless `index` is applied and still in the log.
    #[must_use]
    pub fn snapshot_at(&self, index: Index) -> Option<Arc<SnapshotMeta>> {
        if index > self.node.applied {
            return None;
        }
        let last = self.node.log().id(index)?;
        let membership = Membership::clone(self.node.membership_at(index)?);
        Some(Arc::new(SnapshotMeta { last, membership }))
    }

    /// A canonical hash of the whole state: equal states, equal digests, on every machine.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = CanonicalHasher::default();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn pass(&mut self, reading: Time) {
        let elapsed = pass(&mut self.now, reading);
        if elapsed > Span(0) {
            for timer in self.role.timers().into_iter().flatten() {
                timer.pass(elapsed);
            }
        }
    }

    fn dispatch(&mut self, body: Body) {
        if let Role::Halted = self.role {
            self.refuse_halted(body);
            return;
        }
        match body {
            Body::Tick => self.on_tick(),
            Body::Peer(envelope) => self.on_peer(envelope),
            Body::PeerUnreachable { peer } => {
                if let Role::Leader(leader) = &mut self.role {
                    replication::on_unreachable(leader, peer);
                }
            }
            Body::Propose { ticket, command } => self.on_propose(ticket, command),
            Body::ProposeBatch { proposals } => {
                for (ticket, command) in proposals {
                    self.on_propose(ticket, command);
                }
            }
            Body::Read { ticket, mode: ReadMode::ReadIndex } => self.on_read(ticket),
            Body::Campaign => self.on_campaign(),
            Body::Persisted { seq } => {
                self.node.on_persisted(seq);
                if let Role::Candidate(campaign) = &mut self.role {
                    let transition = election::on_durable(&self.node, campaign);
                    self.become_next(transition);
                }
            }
            Body::PersistFailed => {
                self.become_next(Transition::Halt(HaltReason::PersistFailed));
            }
            Body::Applied { through } => commit::on_applied(&mut self.node, through),
            Body::SnapshotTaken { snapshot } => {
                compaction::on_snapshot_taken(&mut self.node, snapshot);
            }
            Body::ChunkRead { request, chunk } => self.on_chunk_read(request, chunk),
            Body::ChunkStaged { snapshot, staged } => {
                let leader = self.role.leader(self.node.member());
                compaction::on_chunk_staged(&mut self.node, leader, snapshot, staged);
            }
        }
    }

    /// Every chapter acts once on what the others have left. One pass is enough: nothing that is
    /// appended here can commit before a later `Persisted`.
    fn settle(&mut self) {
        let node = &mut self.node;
        if let Role::Leader(leader) = &mut self.role {
            replication::append_proposals(node, leader);
            commit::advance(node, leader);
            read::open_round(node, leader);
            replication::send_appends(node, leader);
            compaction::want_chunks(node, leader);
            read::close_rounds(node, leader);
        }
        if let Role::Halted = self.role {
            return;
        }
        commit::end_tickets(node);
        node.gate.flush(&mut node.effects);
        commit::hand_out(node);
    }

    fn on_tick(&mut self) {
        let node = &mut self.node;
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
                if leader.heartbeat.is_due() {
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

    fn on_campaign(&mut self) {
        if matches!(self.role, Role::Leader(_)) {
            return;
        }
        if !self.node.is_voter() {
            self.node.refuse(Refused::NotAVoter);
            return;
        }
        let transition = election::on_election_timeout(&mut self.node, &mut self.role);
        self.become_next(transition);
    }

    fn on_propose(&mut self, ticket: Ticket, command: Bytes) {
        if let Role::Leader(leader) = &mut self.role {
            replication::on_propose(&mut self.node, leader, ticket, command);
        } else {
            self.reject_not_leader(ticket);
        }
    }

    fn on_read(&mut self, ticket: Ticket) {
        if let Role::Leader(leader) = &mut self.role {
            read::on_read(&mut self.node, leader, ticket);
        } else {
            self.reject_not_leader(ticket);
        }
    }

    fn reject_not_leader(&mut self, ticket: Ticket) {
        let hint = self.role.leader(self.node.member());
        self.node.reject(ticket, Rejection::NotLeader { hint });
    }

    fn on_chunk_read(&mut self, request: ChunkRequest, chunk: Option<Chunk>) {
        if let Role::Leader(leader) = &mut self.role {
            compaction::on_chunk_read(&mut self.node, leader, request, chunk);
        }
    }

    fn on_peer(&mut self, envelope: Envelope) {
        let (from, kind) = (envelope.from, envelope.rpc.kind());
        if let Err(reason) = admission::check(&self.node, &envelope) {
            self.node.refuse_peer(from, kind, reason);
            return;
        }
        if envelope.epoch > self.node.hard_state().epoch {
            let reason = HaltReason::LeftBehind { epoch: envelope.epoch };
            self.become_next(Transition::Halt(reason));
            return;
        }
        let term = self.node.term();
        if envelope.term < term {
            self.on_stale_term(&envelope, Refused::StaleTerm { mine: term, theirs: envelope.term });
            return;
        }
        if envelope.term > term && !self.enter_later_term(&envelope) {
            return;
        }
        if envelope.rpc.is_from_leader() && !self.hear_leader(&envelope) {
            return;
        }
        let transition = self.on_rpc(envelope);
        self.become_next(transition);
    }

    /// The term rule (§5.1): a later term is adopted, except from a candidate that challenges a
    /// leader which is alive. `false`: the message is refused.
    fn enter_later_term(&mut self, envelope: &Envelope) -> bool {
        let is_candidate =
            matches!(envelope.rpc, Rpc::RequestVote { .. } | Rpc::RequestPreVote { .. });
        if is_candidate && let Some(reason) = election::stickiness(&self.node, &self.role) {
            let kind = envelope.rpc.kind();
            election::refuse_candidate(&mut self.node, envelope.from, kind, reason);
            return false;
        }
        self.abandon_leadership();
        self.node.enter_term(envelope.term);
        let leader = envelope.rpc.is_from_leader().then_some(envelope.from);
        self.become_follower(leader);
        true
    }

    /// A message of an earlier term is refused; a candidate or leader is told the present one.
    fn on_stale_term(&mut self, envelope: &Envelope, reason: Refused) {
        let (node, from, kind) = (&mut self.node, envelope.from, envelope.rpc.kind());
        match envelope.rpc {
            Rpc::RequestPreVote { .. } | Rpc::RequestVote { .. } => {
                election::refuse_candidate(node, from, kind, reason);
            }
            Rpc::AppendEntries { session, round, .. }
            | Rpc::Heartbeat { session, round, .. }
            | Rpc::InstallSnapshot { session, round, .. } => {
                node.refuse_peer(from, kind, reason);
                node.send(from, Rpc::HeartbeatResponse { session, round });
            }
            Rpc::RequestPreVoteResponse { .. }
            | Rpc::RequestVoteResponse { .. }
            | Rpc::AppendEntriesResponse { .. }
            | Rpc::HeartbeatResponse { .. }
            | Rpc::InstallSnapshotResponse { .. } => node.refuse_peer(from, kind, reason),
        }
    }

    /// The leader of this term speaks: whoever campaigns gives up (§5.2). `false`: it cannot be
    /// the leader, for another one is.
    fn hear_leader(&mut self, envelope: &Envelope) -> bool {
        let from = envelope.from;
        let known = self.role.leader(self.node.member());
        match (&mut self.role, known) {
            (Role::Follower(follower), Some(leader)) if leader == from => {
                election::on_leader_contact(&self.node, follower);
                true
            }
            (_, Some(known)) => {
                let (term, other) = (self.node.term(), from);
                self.node.violation(Violation::TwoLeaders { term, known, other });
                self.node.refuse_peer(from, envelope.rpc.kind(), Refused::Impossible);
                false
            }
            (_, None) => {
                self.become_follower(Some(from));
                true
            }
        }
    }

    fn on_rpc(&mut self, envelope: Envelope) -> Transition {
        let Envelope { from, incarnation, rpc, .. } = envelope;
        let node = &mut self.node;
        match rpc {
            Rpc::RequestPreVote { last } => {
                election::on_request_pre_vote(node, &self.role, from, last);
            }
            Rpc::RequestVote { last } => {
                let leader = self.role.leader(node.member());
                return election::on_request_vote(node, leader, from, last);
            }
            Rpc::RequestPreVoteResponse { granted } => {
                if let Role::PreCandidate(campaign) = &mut self.role {
                    let win = Transition::Campaign;
                    return election::on_vote(node, campaign, from, granted, win);
                }
            }
            Rpc::RequestVoteResponse { granted } => {
                if let Role::Candidate(campaign) = &mut self.role {
                    return election::on_vote(node, campaign, from, granted, Transition::Lead);
                }
            }
            Rpc::AppendEntries { session, round, prev, entries, commit } => {
                let reply = Reply { to: from, session, round };
                replication::on_append(node, reply, &Append { prev, entries: &entries, commit });
            }
            Rpc::Heartbeat { session, round, commit } => {
                let reply = Reply { to: from, session, round };
                replication::on_heartbeat(node, reply, commit);
            }
            Rpc::InstallSnapshot { session, round, snapshot, offset, data, done } => {
                let reply = Reply { to: from, session, round };
                let part = compaction::Part { snapshot, offset, data, done };
                compaction::on_install_snapshot(node, reply, part);
            }
            Rpc::AppendEntriesResponse { .. }
            | Rpc::HeartbeatResponse { .. }
            | Rpc::InstallSnapshotResponse { .. } => self.on_response(from, incarnation, &rpc),
        }
        Transition::Stay
    }

    /// The answers that only a leader of this term can have asked for.
    fn on_response(&mut self, from: Member, incarnation: Incarnation, rpc: &Rpc) {
        let node = &mut self.node;
        let Role::Leader(leader) = &mut self.role else {
            node.refuse_peer(from, rpc.kind(), Refused::Unasked);
            return;
        };
        let stream = match *rpc {
            Rpc::AppendEntriesResponse { session, round, .. }
            | Rpc::HeartbeatResponse { session, round }
            | Rpc::InstallSnapshotResponse { session, round, .. } => (session, round),
            Rpc::RequestPreVote { .. }
            | Rpc::RequestPreVoteResponse { .. }
            | Rpc::RequestVote { .. }
            | Rpc::RequestVoteResponse { .. }
            | Rpc::AppendEntries { .. }
            | Rpc::Heartbeat { .. }
            | Rpc::InstallSnapshot { .. } => return,
        };
        if let Err(reason) = replication::admit_response(leader, from, incarnation, stream) {
            node.refuse_peer(from, rpc.kind(), reason);
            return;
        }
        let peer = leader.peer(from).expect("an admitted response comes from a peer");
        match *rpc {
            Rpc::AppendEntriesResponse { result, .. } => {
                replication::on_append_response(node, peer, result);
            }
            Rpc::InstallSnapshotResponse { snapshot, staged, .. } => {
                compaction::on_install_snapshot_response(peer, snapshot, staged);
            }
            Rpc::HeartbeatResponse { .. }
            | Rpc::RequestPreVote { .. }
            | Rpc::RequestPreVoteResponse { .. }
            | Rpc::RequestVote { .. }
            | Rpc::RequestVoteResponse { .. }
            | Rpc::AppendEntries { .. }
            | Rpc::Heartbeat { .. }
            | Rpc::InstallSnapshot { .. } => replication::on_heartbeat_response(node, peer),
        }
    }

    /// Carries out what a rule wants. A transition may lead to the next one: a sole voter passes
    /// its own pre-vote at once.
    fn become_next(&mut self, transition: Transition) {
        let mut next = transition;
        loop {
            next = match next {
                Transition::Stay => return,
                Transition::Follow(leader) => {
                    self.abandon_leadership();
                    self.become_follower(leader);
                    Transition::Stay
                }
                Transition::PreCampaign => {
                    let (campaign, then) = election::pre_campaign(&mut self.node);
                    self.set_role(Role::PreCandidate(campaign));
                    then
                }
                Transition::Campaign => {
                    let campaign = election::campaign(&mut self.node);
                    self.set_role(Role::Candidate(campaign));
                    Transition::Stay
                }
                Transition::Lead => {
                    let leader = replication::lead(&mut self.node);
                    self.set_role(Role::Leader(Box::new(leader)));
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
        let follower = election::follower(&self.node, leader);
        self.set_role(Role::Follower(follower));
    }

    fn set_role(&mut self, role: Role) {
        let me = self.node.member();
        let (name_before, leader_before) = (self.role.name(), self.role.leader(me));
        self.role = role;
        let (role, leader, term) = (self.role.name(), self.role.leader(me), self.node.term());
        if role != name_before {
            self.node.observe(Observation::RoleChanged { role, term });
        }
        if leader != leader_before {
            self.node.observe(Observation::LeaderChanged { leader, term });
        }
    }

    /// A leader that ceases to lead refuses what it had accepted but not appended, and its reads.
    fn abandon_leadership(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let proposals = leader.proposals.drain(..).map(|(ticket, _)| ticket);
        let mut tickets: Vec<Ticket> = proposals.collect();
        tickets.append(&mut read::abandoned(leader));
        for ticket in tickets {
            self.node.reject(ticket, Rejection::NotLeader { hint: None });
        }
    }

    /// The disk may lie from now on, or the group has gone on without this node: it is silent
    /// until it is recovered, and every open ticket ends.
    fn halt(&mut self, reason: HaltReason) {
        let mut open: Vec<Ticket> = self.node.tickets.drain(..).map(|open| open.ticket).collect();
        if let Role::Leader(leader) = &mut self.role {
            let Leader { proposals, .. } = &mut **leader;
            open.extend(proposals.drain(..).map(|(ticket, _)| ticket));
            open.append(&mut read::abandoned(leader));
        }
        for ticket in open {
            self.node.end(ticket, Outcome::Halted);
        }
        self.node.gate.close();
        self.set_role(Role::Halted);
        self.node.observe(Observation::Halted { reason });
    }

    fn refuse_halted(&mut self, body: Body) {
        match body {
            Body::Propose { ticket, .. } | Body::Read { ticket, .. } => {
                self.node.reject(ticket, Rejection::Halted);
            }
            Body::ProposeBatch { proposals } => {
                for (ticket, _) in proposals {
                    self.node.reject(ticket, Rejection::Halted);
                }
            }
            Body::Peer(envelope) => {
                self.node.refuse_peer(envelope.from, envelope.rpc.kind(), Refused::Halted);
            }
            Body::Tick
            | Body::PeerUnreachable { .. }
            | Body::Campaign
            | Body::Persisted { .. }
            | Body::PersistFailed
            | Body::Applied { .. }
            | Body::SnapshotTaken { .. }
            | Body::ChunkRead { .. }
            | Body::ChunkStaged { .. } => {}
        }
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
