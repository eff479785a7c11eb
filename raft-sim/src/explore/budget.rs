//! How much disks may lose so that the group can bear it.
//!
//! Beyond this, too, no promise may be broken; but nobody can ask a group to go on that has lost the
//! last copy of an entry. Within it, one of two things is true of every entry that a disk loses:
//!
//! - A member of every membership that may be in force has an intact copy, durably. Whoever leads asks
//!   it or is it, and what is committed is not lost. (What is about to leave takes its copies along.)
//! - It is not committed, nobody else has it on a disk, and all others know the ends of their logs: so
//!   all of them can say that they never had it. One who has it in memory alone can say so until its
//!   write is durable, and from then on it has a copy.
//!
//! And of every half of every membership so many voters know the end of their logs that they are a
//! quorum: the others do not vote. Nobody forgets the end of its log while another one has a damaged
//! entry, nor the other way round unless there is a copy: who is in doubt cannot say that it never had
//! what the other one misses, and who misses it may be the one that leads, and has to be heard to end
//! the doubt.
//!
//! Memberships are not damaged one by one, since storage keeps each of them twice; the end of a log
//! takes them along.
//!
//! A snapshot is lost where somebody who is always a member can make its state anew, or has it: then
//! its entries are there for whoever asks, and more than one loss takes none of them away.

use std::sync::Arc;

use raft_core::{EntryId, Member};

use super::ghost::Ghost;
use super::host::Host;
use crate::ideal_disk::{Disk, Loss};

/// What a server would lose, and those around it.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    pub(crate) hosts: &'a [Arc<Host>],
    /// Who loses.
    pub(crate) at: usize,
    /// What a crash has left on its disk.
    pub(crate) disk: &'a Disk,
    pub(crate) ghost: &'a Ghost,
}

impl Budget<'_> {
    /// Whether the group can bear that this disk loses this.
    pub(crate) fn can_bear(&self, loss: Loss) -> bool {
        match loss {
            Loss::Entry(index) => {
                let id = self.disk.id_at(index).expect("what is lost was there");
                let is_covered = index <= self.disk.snapshot().index;
                !self.disk.is_membership(index) && (is_covered || self.can_miss(id))
            }
            Loss::Snapshot => {
                let last = self.disk.snapshot();
                self.others().any(|(_, host)| {
                    self.is_always_member(host.raft.status().member) && host.disk.has_state(last)
                })
            }
            Loss::Tail(from) => {
                let mut gone = self.disk.ids().filter(|id| id.index >= from);
                let is_whole = |disk: &Disk| disk.is_whole() && !disk.is_snapshot_damaged();
                is_whole(self.disk)
                    && self.others().all(|(_, host)| is_whole(&host.disk))
                    && self.is_quorum_left()
                    && gone.all(|id| self.can_miss(id))
            }
        }
    }

    /// Whether there is a copy, or everybody else can say that it never had the entry.
    fn can_miss(&self, id: EntryId) -> bool {
        let has_copy = self.others().any(|(_, host)| {
            self.is_always_member(host.raft.status().member) && host.disk.has_intact(id)
        });
        let may_have = |host: &Host| host.disk.holds(id) || host.disk.hard_state().is_tail_unknown;
        let is_denied = self.others().all(|(_, host)| !may_have(host));
        has_copy || (is_denied && self.hosts.len() > 1 && !self.ghost.is_committed(id))
    }

    /// Whether a quorum knows the ends of their logs after this one does not.
    fn is_quorum_left(&self) -> bool {
        let is_in_doubt = |member: Member| {
            let mut hosts = self.hosts.iter().enumerate();
            hosts.any(|(at, host)| {
                let is_known = at != self.at && !host.disk.hard_state().is_tail_unknown;
                host.raft.status().member == member && !is_known
            })
        };
        let knows = |half: &[Member]| {
            let known = half.iter().filter(|member| !is_in_doubt(**member)).count();
            half.is_empty() || known * 2 > half.len()
        };
        let memberships = self.hosts.iter().map(|host| host.raft.status().membership);
        let mut memberships = memberships.filter(|membership| !membership.is_empty());
        memberships.all(|known| knows(known.incoming()) && knows(known.outgoing()))
    }

    fn is_always_member(&self, member: Member) -> bool {
        let memberships = self.hosts.iter().map(|host| host.raft.status().membership);
        let mut memberships = memberships.filter(|membership| !membership.is_empty());
        memberships.all(|membership| membership.is_member(member))
    }

    fn others(&self) -> impl Iterator<Item = (usize, &Arc<Host>)> {
        self.hosts.iter().enumerate().filter(|(at, _)| *at != self.at)
    }
}
