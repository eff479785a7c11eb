//! A look at the node between two of its steps.

use raft_core::{Index, Member, NodeId, Span, Time};
use raft_replica::replica::Replica;
use raft_replica::storage::ScrubStep;

use crate::links::Links;
use crate::store::Store;

/// The node as it is now.
#[derive(Debug)]
pub struct View<'a> {
    /// The replica.
    pub replica: &'a Replica<Store>,
    /// The present moment.
    pub now: Time,
    pub(super) links: &'a Links,
    pub(super) current: Option<Time>,
    pub(super) election_timeout: Span,
    pub(super) scrubbed: &'a Scrubbed,
}

/// What looking through the disk has come to, in this life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// How often all of it was looked through.
    pub rounds: u64,
    /// Bad copies and slots that were written again.
    pub repaired: u64,
    /// Entries whose payloads could not be read; the others were asked for them.
    pub entries: u64,
    /// Snapshots of which some bytes cannot be read, as of the last round.
    pub snapshots: u64,
    /// Those of the round that goes on.
    snapshots_so_far: u64,
}

impl Scrubbed {
    pub(super) fn add(&mut self, step: &ScrubStep) {
        self.repaired += step.repaired;
        self.entries += step.damaged.len() as u64;
        self.snapshots_so_far += step.snapshots.len() as u64;
        self.snapshots = self.snapshots.max(self.snapshots_so_far);
        if step.is_round_over {
            self.rounds += 1;
            self.snapshots = std::mem::take(&mut self.snapshots_so_far);
        }
    }
}

impl View<'_> {
    /// The store, as of the last applied entry.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.replica.machine()
    }

    /// What looking through the disk has come to.
    #[must_use]
    pub fn scrubbed(&self) -> Scrubbed {
        *self.scrubbed
    }

    /// The last applied index.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.replica.applied()
    }

    /// How long ago a server was heard; `None`: never in this life.
    #[must_use]
    pub fn silence(&self, id: NodeId) -> Option<Span> {
        self.links.silence(id)
    }

    /// Whether a member is this server, or was heard within the last two election timeouts. Somebody else
    /// under its id does not count.
    #[must_use]
    pub fn is_alive(&self, member: Member) -> bool {
        let patience = self.election_timeout.0.saturating_mul(2);
        member == self.replica.status().member
            || self.links.silence_of(member).is_some_and(|silence| silence.0 < patience)
    }

    /// Whether there is another voter that is heard: somebody who could lead instead. Which one is best, the
    /// core knows.
    #[must_use]
    pub fn has_heir(&self) -> bool {
        let status = self.replica.status();
        let mut voters = status.membership.incoming().iter();
        voters.any(|voter| *voter != status.member && self.is_alive(*voter))
    }

    /// How old the state may be: whatever was answered anywhere before so long ago is in it. `None`:
    /// no read has been confirmed in this life yet. Every linearizable read makes it young.
    #[must_use]
    pub fn age(&self) -> Option<Span> {
        self.current.map(|current| self.now.since(current))
    }
}
