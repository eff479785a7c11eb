//! Disks that lose what was durable, as far as a group can bear it: of everything that is committed an
//! intact copy is left with a member, and a server forgets the end of its log only while nothing else is
//! damaged.

use raft_core::{EntryId, Envelope, Index, Member, Membership, Payload, Rpc};

use crate::cluster::Cluster;
use crate::disk::Fault;
use crate::server::Server;

fn brings_membership(envelope: &Envelope) -> bool {
    let Rpc::AppendEntries { entries, .. } = &envelope.rpc else { return false };
    entries.iter().any(|entry| matches!(entry.payload(), Payload::Membership(_)))
}

impl Cluster {
    /// A server stops, its disk loses something if the group can bear that, and it starts again.
    pub(crate) fn hurt(&mut self, at: usize, choice: usize) {
        let at = self.server(at);
        // A member that is about to leave takes its copies along.
        let is_joint = |server: &Server| server.raft.status().membership.is_joint();
        let is_changing =
            self.servers.iter().any(is_joint) || self.frame(brings_membership).is_some();
        let fault = self.servers[at].fault(choice).filter(|fault| self.can_bear(at, *fault));
        let Some(fault) = fault.filter(|_| !is_changing) else { return };
        self.life.crashes += 1;
        self.forget_leases(at);
        let now = self.now;
        let effects = self.servers[at].hurt(fault, now);
        self.execute(at, effects);
    }

    fn can_bear(&self, at: usize, fault: Fault) -> bool {
        let disk = &self.servers[at].disk;
        match fault {
            Fault::Entry(index) => {
                let id = disk.id_at(index).expect("the fault is about an entry of the log");
                // Storage keeps memberships twice, so that no one fault takes them.
                !disk.is_membership(index) && (self.has_copy(at, id) || self.is_lonely(at, id))
            }
            Fault::Tail(from) => {
                // Who does not know what it had cannot say that it never had what another one misses.
                let is_hurt = |server: &Server| server.disk.is_hurt();
                let mut gone = disk.ids().filter(|id| id.index >= from);
                self.has_votes(3)
                    && !self.servers.iter().any(is_hurt)
                    && gone.all(|id| self.has_copy(at, id) || self.is_lonely(at, id))
            }
            Fault::Snapshot => {
                let Some(last) = disk.snapshot().map(|snapshot| snapshot.last) else {
                    return false;
                };
                let reaches = |server: &Server| server.raft.status().applied >= last.index;
                last.index > Index::ZERO && self.others(at).any(reaches)
            }
        }
    }

    /// Whether every membership that may be in force has so many voters. With three, a quorum can do
    /// without one; with two, the other one can say that it never had an entry.
    fn has_votes(&self, count: usize) -> bool {
        let is_enough = |half: &[Member]| half.is_empty() || half.len() >= count;
        let known = self.servers.iter().map(|server| server.raft.status().membership);
        let mut known = known.filter(|membership| !membership.is_empty());
        known.all(|membership| is_enough(membership.incoming()))
    }

    /// Whether another member can read the entry.
    fn has_copy(&self, at: usize, id: EntryId) -> bool {
        self.others(at).any(|server| server.disk.has_intact(id))
    }

    /// Whether nobody else ever was sent the entry, and everybody else can say so.
    fn is_lonely(&self, at: usize, id: EntryId) -> bool {
        let has = |server: &Server| {
            server.raft.entry_id(id.index) == Some(id)
                || server.disk.held(id)
                || server.disk.is_hurt()
                || server.disk.snapshot().is_none()
        };
        let others = self.servers.iter().enumerate().filter(|(other, _)| *other != at);
        // Whoever decided alone when it was appended is the only one who could tell.
        let then = self.servers[at].disk.membership_at(id.index);
        let can_be_told = then.is_some_and(|then| then.incoming().len() > 1);
        id.index > self.ghost.last_committed()
            && can_be_told
            && !self.is_wiped
            && self.has_votes(2)
            && !others.map(|(_, server)| server).any(has)
            && self.frame(|envelope| envelope.from == self.member(at)).is_none()
    }

    fn others(&self, at: usize) -> impl Iterator<Item = &Server> {
        // Whoever leads in the end must ask it, also if a membership that is not durable is forgotten.
        let is_member = |member| {
            let is_named =
                |membership: &Membership| membership.is_empty() || membership.is_member(member);
            self.servers.iter().all(|server| {
                let durable = server.disk.membership_at(server.disk.last().index);
                is_named(&server.raft.status().membership) && durable.is_none_or(is_named)
            })
        };
        let is_other = move |(other, server): &(usize, &Server)| {
            *other != at && self.ghost.is_member(server.member()) && is_member(server.member())
        };
        self.servers.iter().enumerate().filter(is_other).map(|(_, server)| server)
    }
}
