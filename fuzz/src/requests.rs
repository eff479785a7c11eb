//! What clients and operators want of a cluster.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{Body, Member, MemberStep, MembershipChange, NodeId, ReadMode};

use crate::cluster::Cluster;
use crate::server::Request;

impl Cluster {
    /// A command of this size, and some of one byte, all at once.
    pub(crate) fn propose(&mut self, at: usize, size: usize, more: usize) {
        let at = self.server(at);
        let sizes = [size].into_iter().chain((0..more).map(|_| 1));
        let mut proposals = Vec::new();
        for size in sizes {
            let number = self.next_ticket().to_le_bytes();
            let command: Bytes = number.into_iter().cycle().take(size).collect();
            let ticket = self.open(at, Request::Command(command.clone()));
            proposals.push((ticket, command));
        }
        self.step(at, Body::ProposeBatch { proposals });
    }

    pub(crate) fn read(&mut self, at: usize, is_by_lease: bool) {
        let at = self.server(at);
        let mode = if is_by_lease { ReadMode::Lease } else { ReadMode::ReadIndex };
        let ticket = self.open(at, Request::Read(self.ghost.last_committed()));
        self.step(at, Body::Read { ticket, mode });
    }

    pub(crate) fn campaign(&mut self, at: usize) {
        let at = self.server(at);
        self.step(at, Body::Campaign);
    }

    pub(crate) fn fail(&mut self, at: usize) {
        let at = self.server(at);
        self.step(at, Body::PersistFailed);
        self.forget_leases(at);
        assert!(self.servers[at].open.is_empty(), "a node that halts ends every ticket");
    }

    pub(crate) fn transfer(&mut self, at: usize, to: Option<usize>) {
        let at = self.server(at);
        let to = to.map(|to| self.member(self.server(to)).id);
        let ticket = self.open(at, Request::Transfer);
        self.step(at, Body::TransferLeadership { ticket, to });
    }

    /// Nobody writes less because a disk is full: what was accepted has its room.
    pub(crate) fn fill(&mut self, at: usize, is_full: bool) {
        let at = self.server(at);
        self.step(at, Body::DiskFull { is_full });
    }

    pub(crate) fn step_down(&mut self, at: usize) {
        let at = self.server(at);
        self.step(at, Body::StepDown);
    }

    pub(crate) fn forget_leader(&mut self, at: usize) {
        let at = self.server(at);
        self.step(at, Body::ForgetLeader);
    }

    /// A change about one or two servers, some of them made only if the membership is the one that
    /// the operator sees.
    pub(crate) fn change(&mut self, at: usize, what: usize, who: usize) {
        if self.servers.iter().any(|server| server.disk.is_hurt()) {
            return; // A smaller group might not bear what this one does.
        }
        let at = self.server(at);
        let one = self.member(self.server(who));
        let two = self.member(self.server(who / self.servers.len()));
        let status = self.servers[at].raft.status();
        let expect = what.is_multiple_of(3).then(|| Arc::clone(&status.membership));
        let change = change(what, one, two);
        let ticket = self.open(at, Request::Change);
        self.step(at, Body::ProposeMembership { ticket, change, expect });
    }

    /// A server that nobody takes for a member is formatted anew.
    pub(crate) fn replace_disk(&mut self, at: usize) {
        let at = self.server(at);
        let member = self.member(at);
        let names = |other: &crate::server::Server| {
            other.raft.status().membership.is_member(member) && other.member() != member
        };
        let is_blank = self.servers[at].raft.status().membership.is_empty();
        if is_blank || !(self.ghost.is_member(member) || self.servers.iter().any(names)) {
            self.wipe(at);
        }
    }

    /// The quorum is lost for good: all other servers are, and one goes on alone. The others join
    /// again as who they are now, with empty directories. At most once, for whoever is forced must
    /// know of it before another is.
    pub(crate) fn force(&mut self, at: usize) {
        let at = self.server(at);
        let epoch = self.servers[at].raft.status().epoch;
        let is_hurt = self.servers.iter().any(|server| server.disk.is_hurt());
        if epoch.0 > 0 || self.life.epochs > 0 || is_hurt {
            return;
        }
        let ticket = self.open(at, Request::Change);
        self.step(at, Body::ForceMembership { ticket });
        if self.servers[at].raft.status().epoch == epoch {
            return;
        }
        for other in (0..self.servers.len()).filter(|other| *other != at) {
            self.wipe(other);
        }
        self.sync(at, usize::MAX);
        self.tell(at);
    }
}

/// A change of a kind about two members.
pub(crate) fn change(what: usize, one: Member, two: Member) -> MembershipChange {
    let (id, other): (NodeId, NodeId) = (one.id, two.id);
    let steps = match what % 10 {
        0 | 1 => vec![MemberStep::AddLearner(one)],
        2 | 3 => vec![MemberStep::Promote(id)],
        4 => vec![MemberStep::Demote(id)],
        5 => vec![MemberStep::Remove(id)],
        6 => vec![MemberStep::Replace { old: id, new: other }],
        7 => vec![MemberStep::Remove(id), MemberStep::AddLearner(one)],
        8 => vec![MemberStep::Demote(id), MemberStep::Promote(other)],
        _ => return MembershipChange::LeaveJoint,
    };
    if (what / 10).is_multiple_of(4) {
        MembershipChange::EnterJoint(steps)
    } else {
        MembershipChange::Steps(steps)
    }
}
