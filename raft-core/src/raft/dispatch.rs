//! Dispatch of peer messages: the term rule (§5.1), then one chapter's handler.

use alloc::sync::Arc;

use super::Raft;
use crate::effect::{HaltReason, Refused, Violation};
use crate::gate::Reply;
use crate::message::{Envelope, Rpc, RpcKind};
use crate::node::Node;
use crate::progress::Progress;
use crate::role::{Cause, Role, Transition};
use crate::types::{Incarnation, Index, Member, ReadId, Round, Session};
use crate::{admission, barrier, compaction, election, lease, read, repair, replication};

impl Raft {
    /// Takes a message: checked whole, then by the term rule, then by its chapter.
    #[inline(never)]
    pub(super) fn on_peer(&mut self, envelope: &mut Envelope) {
        match admission::check(&self.node, envelope) {
            Ok(()) => {}
            // A leader or candidate of an epoch that is over must hear of it, so that it halts.
            Err(reason @ Refused::StaleEpoch { .. }) => return self.on_stale(envelope, reason),
            Err(reason) => {
                return self.node.refuse_peer(envelope.from, envelope.rpc.kind(), reason);
            }
        }
        if envelope.epoch > self.node.hard_state().epoch {
            if !self.node.is_blank() {
                let reason = HaltReason::LeftBehind { epoch: envelope.epoch };
                self.become_next(Transition::Halt(reason));
                return;
            }
            // A node without a history cannot have been left behind.
            self.node.enter_epoch(envelope.epoch);
        }
        let term = self.node.term();
        if envelope.term < term {
            self.on_stale(envelope, Refused::StaleTerm { mine: term, theirs: envelope.term });
            return;
        }
        // The leader of this very term has asked the candidate to campaign: nobody needs to stick
        // to that leader any more, and what was promised to it is released.
        let is_released = envelope.term > term
            && envelope.term == term.next()
            && matches!(envelope.rpc, Rpc::RequestVote { is_forced: true, .. });
        if envelope.term > term && !self.enter_later_term(envelope, is_released) {
            return;
        }
        if envelope.rpc.is_from_leader() && !self.hear_leader(envelope) {
            return;
        }
        let transition = self.on_rpc(envelope, is_released);
        self.become_next(transition);
    }

    /// The term rule (§5.1): a later term is adopted, except from a candidate that challenges a
    /// leader which is alive. `false`: the message is refused.
    fn enter_later_term(&mut self, envelope: &Envelope, is_released: bool) -> bool {
        let is_candidate =
            matches!(envelope.rpc, Rpc::RequestVote { .. } | Rpc::RequestPreVote { .. });
        // Nor may a removed server that campaigns in vain depose that leader by a question about damage,
        // or by its answer to one.
        let asks_for_help = matches!(&envelope.rpc, Rpc::Repair(rpc) if rpc.is_request());
        let is_outsider = !self.node.membership().is_member(envelope.from)
            && !envelope.rpc.is_from_leader()
            && !repair::needs_anybody(&self.node, &self.role);
        if (is_candidate || asks_for_help || is_outsider)
            && !is_released
            && let Some(reason) = election::stickiness(&self.node, &self.role)
        {
            if is_candidate {
                election::refuse_candidate(&mut self.node, envelope.from, &envelope.rpc, reason);
            } else {
                self.node.refuse_peer(envelope.from, envelope.rpc.kind(), reason);
            }
            return false;
        }
        let leader = envelope.rpc.is_from_leader().then_some(envelope.from);
        self.abandon_leadership(leader, Some(envelope.term));
        self.node.enter_term(envelope.term);
        // A later term does not restart a follower's election timer; only a leader or a vote given does
        // (§5.2). Otherwise candidates that cannot win could keep those that can from trying.
        let waiting = match &self.role {
            Role::Follower(follower) if leader.is_none() => Some(follower.election),
            Role::Follower(_)
            | Role::PreCandidate(_)
            | Role::Candidate(_)
            | Role::Leader(_)
            | Role::Halted => None,
        };
        self.become_follower(leader);
        if let (Role::Follower(follower), Some(election)) = (&mut self.role, waiting) {
            follower.election = election;
        }
        true
    }

    /// A message of an earlier term or epoch is refused; a candidate or leader is told the present
    /// one, and steps down or halts.
    fn on_stale(&mut self, envelope: &Envelope, reason: Refused) {
        let (node, from, kind) = (&mut self.node, envelope.from, envelope.rpc.kind());
        node.refuse_peer(from, kind, reason);
        if envelope.rpc.is_request() {
            // The answer must carry the present term and nothing else. A refused vote would be counted if
            // the sender campaigns in this term by now. A session and round that are echoed could confirm
            // what it has not asked yet if it leads this term, for both begin anew in each term. No stream
            // has the session 0.
            let (session, round) = (Session::ZERO, Round::ZERO);
            node.send(from, Rpc::HeartbeatResponse { session, round });
        }
    }

    /// The leader of this term speaks: a candidate gives up (§5.2). `false`: it cannot be
    /// the leader, for another one is.
    fn hear_leader(&mut self, envelope: &Envelope) -> bool {
        let from = envelope.from;
        if let Role::Follower(follower) = &mut self.role
            && follower.leader == Some(from)
        {
            election::on_leader_contact(&self.node, follower);
            return true; // Nearly always.
        }
        match self.role.leader(self.node.member()) {
            Some(known) => {
                let (term, other) = (self.node.term(), from);
                self.node.violation(Violation::TwoLeaders { term, known, other });
                self.node.refuse_peer(from, envelope.rpc.kind(), Refused::Impossible);
                false
            }
            None => {
                self.become_follower(Some(from));
                true
            }
        }
    }

    /// Takes what it needs out of the message.
    #[inline(always)] // Its only caller hands it nearly every message.
    fn on_rpc(&mut self, envelope: &mut Envelope, is_released: bool) -> Transition {
        let Envelope { from, incarnation, ref mut rpc, .. } = *envelope;
        let node = &mut self.node;
        let reply = |session, round| Reply { to: from, session, round };
        match *rpc {
            Rpc::RequestPreVote { last, attempt } => {
                election::on_request_pre_vote(node, &self.role, from, last, attempt);
            }
            Rpc::RequestVote { last, is_forced: _ } => {
                let leader = self.role.leader(node.member());
                return election::on_request_vote(node, leader, from, last, is_released);
            }
            Rpc::RequestPreVoteResponse { attempt, granted } => {
                return self.on_pre_vote(from, attempt, granted);
            }
            Rpc::RequestVoteResponse { granted } => {
                let Role::Candidate(campaign) = &mut self.role else {
                    node.refuse_peer(from, RpcKind::RequestVoteResponse, Refused::Unasked);
                    return Transition::Stay;
                };
                let kind = RpcKind::RequestVoteResponse;
                return election::on_vote(node, campaign, from, kind, granted);
            }
            Rpc::AppendEntries { session, round, prev, ref mut entries, commit } => {
                replication::on_append(node, reply(session, round), prev, entries, commit);
            }
            Rpc::Commit { session: _, commit } => replication::on_commit(node, from, commit),
            Rpc::Heartbeat { session, round, commit, lease } => {
                replication::on_heartbeat(node, reply(session, round), commit, lease);
                barrier::ask(node, from);
                self.ask_again();
            }
            Rpc::InstallSnapshot { session, round, ref snapshot, offset, ref data, done } => {
                let (snapshot, data) = (Arc::clone(snapshot), data.clone());
                let part = compaction::Part { incarnation, snapshot, offset, data, done };
                compaction::on_install_snapshot(node, reply(session, round), part);
            }
            Rpc::AppendEntriesResponse { session, round, result } => {
                let kind = RpcKind::AppendEntriesResponse;
                if let Some((node, peer)) = self.admit(from, incarnation, kind, session, round) {
                    replication::on_append_response(node, peer, result);
                }
            }
            Rpc::HeartbeatResponse { session, round } => {
                let kind = RpcKind::HeartbeatResponse;
                if let Some((node, peer)) = self.admit(from, incarnation, kind, session, round) {
                    lease::on_heartbeat_response(peer, round);
                    replication::on_heartbeat_response(node, peer);
                }
            }
            Rpc::InstallSnapshotResponse { session, round, snapshot, staged } => {
                let kind = RpcKind::InstallSnapshotResponse;
                if let Some((_, peer)) = self.admit(from, incarnation, kind, session, round) {
                    compaction::on_install_snapshot_response(peer, snapshot, staged);
                }
            }
            Rpc::TimeoutNow => match election::may_campaign(node) {
                Ok(()) => return Transition::Campaign(Cause::TimeoutNow),
                Err(reason) => node.refuse_peer(from, RpcKind::TimeoutNow, reason),
            },
            Rpc::ReadIndex { id } => self.on_read_index(from, id),
            Rpc::ReadIndexResponse { id, index } => self.on_read_index_response(from, id, index),
            Rpc::Repair(_) => return self.on_repair_rpc(envelope),
        }
        Transition::Stay
    }

    fn on_pre_vote(&mut self, from: Member, attempt: u64, granted: bool) -> Transition {
        let (node, kind) = (&mut self.node, RpcKind::RequestPreVoteResponse);
        let mine = node.attempt();
        match &mut self.role {
            Role::PreCandidate(campaign) if attempt == mine => {
                return election::on_vote(node, campaign, from, kind, granted);
            }
            Role::PreCandidate(_) => {
                node.refuse_peer(from, kind, Refused::StaleAttempt { mine, theirs: attempt });
            }
            Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) | Role::Halted => {
                node.refuse_peer(from, kind, Refused::Unasked);
            }
        }
        Transition::Stay
    }

    /// A heartbeat of the leader has come: reads that wait for it may have been lost.
    fn ask_again(&mut self) {
        if let Role::Follower(follower) = &mut self.role {
            read::ask_again(&mut self.node, follower);
        }
    }

    fn on_read_index(&mut self, from: Member, id: ReadId) {
        let node = &mut self.node;
        let done = match &mut self.role {
            Role::Leader(leader) => read::on_read_index(node, leader, from, id),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => {
                Err(Refused::NotLeader)
            }
        };
        if let Err(reason) = done {
            node.refuse_peer(from, RpcKind::ReadIndex, reason);
        }
    }

    fn on_read_index_response(&mut self, from: Member, id: ReadId, index: Index) {
        let node = &mut self.node;
        let done = match &mut self.role {
            Role::Follower(follower) => read::on_read_index_response(node, follower, id, index),
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) | Role::Halted => {
                Err(Refused::Unasked)
            }
        };
        if let Err(reason) = done {
            node.refuse_peer(from, RpcKind::ReadIndexResponse, reason);
        }
    }

    /// An answer that only the leader of this term can have asked for, in the present stream.
    #[inline(always)] // A part of the loop over an inbox.
    fn admit(
        &mut self,
        from: Member,
        incarnation: Incarnation,
        kind: RpcKind,
        session: Session,
        round: Round,
    ) -> Option<(&mut Node, &mut Progress)> {
        let node = &mut self.node;
        let Role::Leader(leader) = &mut self.role else {
            node.refuse_peer(from, kind, Refused::Unasked);
            return None;
        };
        match replication::admit_response(leader, from, incarnation, session, round) {
            Ok(peer) => Some((node, peer)),
            Err(reason) => {
                node.refuse_peer(from, kind, reason);
                None
            }
        }
    }
}
