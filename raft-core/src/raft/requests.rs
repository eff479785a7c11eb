//! What clients and operators ask for: each request goes to its chapter if this node has the role
//! for it, and is refused with the reason if not.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Raft;
use crate::effect::{Refused, Rejection};
use crate::membership::{Membership, MembershipChange};
use crate::message::{Body, ReadMode};
use crate::role::{Role, Transition};
use crate::types::{NodeId, Ticket};
use crate::{election, lease, read, reconfiguration, replication, transfer};

impl Raft {
    #[inline(never)]
    pub(super) fn on_campaign(&mut self) {
        if matches!(self.role, Role::Leader(_)) {
            return;
        }
        if let Err(reason) = election::may_stand(&self.node) {
            self.node.refuse(reason);
            return;
        }
        let transition = election::on_election_timeout(&mut self.node, &mut self.role);
        self.become_next(transition);
    }

    #[inline(never)]
    pub(super) fn on_propose(&mut self, ticket: Ticket, command: Bytes) {
        if let Role::Leader(leader) = &mut self.role {
            replication::on_propose(&mut self.node, leader, ticket, command);
        } else {
            self.reject_not_leader(ticket);
        }
    }

    #[inline(never)]
    pub(super) fn on_propose_batch(&mut self, proposals: &mut Vec<(Ticket, Bytes)>) {
        for (ticket, command) in proposals.drain(..) {
            self.on_propose(ticket, command);
        }
    }

    #[inline(never)]
    pub(super) fn on_propose_membership(
        &mut self,
        ticket: Ticket,
        change: &MembershipChange,
        expect: Option<&Membership>,
    ) {
        if let Role::Leader(leader) = &mut self.role {
            let node = &mut self.node;
            // Proposals that came before the change are appended before it: none may follow the leader's
            // own removal.
            drop(replication::append_proposals(node, leader));
            reconfiguration::on_propose_membership(node, leader, ticket, change, expect);
        } else {
            self.reject_not_leader(ticket);
        }
    }

    #[inline(never)]
    pub(super) fn on_transfer(&mut self, ticket: Ticket, to: Option<NodeId>) {
        if let Role::Leader(leader) = &mut self.role {
            transfer::on_transfer(&mut self.node, leader, ticket, to);
        } else {
            self.reject_not_leader(ticket);
        }
    }

    #[inline(never)]
    pub(super) fn on_disk_full(&mut self, is_full: bool) {
        self.node.is_disk_full = is_full;
    }

    #[inline(never)]
    pub(super) fn on_step_down(&mut self) {
        if matches!(self.role, Role::Leader(_)) {
            self.become_next(Transition::Follow(None));
        } else {
            self.node.refuse(Refused::NotLeader);
        }
    }

    #[inline(never)]
    pub(super) fn on_forget_leader(&mut self) {
        if matches!(self.role, Role::Follower(_)) {
            self.become_next(Transition::Follow(None));
        } else {
            self.node.refuse(Refused::NotFollower);
        }
    }

    #[inline(never)]
    pub(super) fn on_read(&mut self, ticket: Ticket, mode: ReadMode) {
        let node = &mut self.node;
        match &mut self.role {
            Role::Leader(leader) => {
                let is_answered = match mode {
                    ReadMode::Lease => lease::on_read(node, leader, ticket, self.now),
                    ReadMode::ReadIndex => false,
                };
                if !is_answered {
                    read::on_read(node, leader, ticket);
                }
            }
            Role::Follower(follower) => read::on_read_to_forward(node, follower, ticket),
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => {
                self.reject_not_leader(ticket);
            }
        }
    }

    fn reject_not_leader(&mut self, ticket: Ticket) {
        let hint = self.role.leader(self.node.member());
        self.node.reject(ticket, Rejection::NotLeader { hint });
    }

    #[inline(never)]
    pub(super) fn refuse_halted(&mut self, body: &Body) {
        match *body {
            Body::Propose { ticket, .. }
            | Body::ProposeMembership { ticket, .. }
            | Body::Read { ticket, .. }
            | Body::TransferLeadership { ticket, .. }
            | Body::ForceMembership { ticket } => {
                self.node.reject(ticket, Rejection::Halted);
            }
            Body::ProposeBatch { ref proposals } => {
                for &(ticket, _) in proposals {
                    self.node.reject(ticket, Rejection::Halted);
                }
            }
            Body::Peer(ref envelope) => {
                self.node.refuse_peer(envelope.from, envelope.rpc.kind(), Refused::Halted);
            }
            Body::Tick
            | Body::PeerUnreachable { .. }
            | Body::Campaign
            | Body::StepDown
            | Body::ForgetLeader
            | Body::Loaded { .. }
            | Body::Persisted { .. }
            | Body::PersistFailed
            | Body::DiskFull { .. }
            | Body::Applied { .. }
            | Body::Damaged { .. }
            | Body::SnapshotTaken { .. }
            | Body::ChunkRead { .. }
            | Body::ChunkStaged { .. } => {}
        }
    }
}
