//! What the ghost knows, for those who choose what to strike and judge whether all is well.

use raft_core::{EntryId, Index, Membership, NodeId, PersistSeq, Term};

use super::Checker;
use super::ghost::ends_at;
use crate::workload::Workload;

impl<W: Workload> Checker<W> {
    /// Whether what a node waits for through `seq` changes its hard state.
    #[must_use]
    pub fn is_hard_state_pending(&self, node: NodeId, seq: PersistSeq) -> bool {
        let mut pending = self.ghost.nodes[self.ghost.slot(node)].pending.iter();
        pending.any(|batch| batch.seq <= seq && batch.hard_state.is_some())
    }

    /// The highest index known to be committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.ghost.committed.last_index()
    }

    /// The newest committed membership.
    #[must_use]
    pub fn committed_membership(&self) -> &Membership {
        &self.ghost.committed.membership().1
    }

    /// Every membership that may be in force or come into force: the newest committed one, and all
    /// after it in any log, in memory or on a disk.
    pub fn memberships(&self) -> impl Iterator<Item = &Membership> {
        let (index, committed) = self.ghost.committed.membership();
        // What is only in the log of a lineage that is gone will never come into force.
        let views = self.ghost.living().flat_map(|node| [&node.issued, &node.durable]);
        let all = views.flat_map(|view| view.log.memberships());
        let later = all.filter(|(since, _)| since > index).map(|(_, membership)| &**membership);
        std::iter::once(&**committed).chain(later)
    }

    /// The last entry on a node's disk.
    #[must_use]
    pub fn durable_last(&self, node: NodeId) -> Index {
        self.ghost.nodes[self.ghost.slot(node)].durable.log.last_index()
    }

    /// Through where a node's hard state says that its log was durable, at least.
    #[must_use]
    pub fn vouched(&self, node: NodeId) -> Index {
        let node = &self.ghost.nodes[self.ghost.slot(node)];
        // What is on its way may have stopped to count some of it already.
        let mut vouched = node.vouched;
        node.pending.iter().filter_map(ends_at).for_each(|end| vouched = vouched.min(end));
        vouched
    }

    /// Through where a node's disk knows that its log was acknowledged, because it was told at rest since the
    /// node has started.
    #[must_use]
    pub fn told_through(&self, node: NodeId) -> Index {
        let node = &self.ghost.nodes[self.ghost.slot(node)];
        node.pending.iter().filter_map(ends_at).fold(node.named, Index::min)
    }

    /// Through where nothing that a node is writing cuts its log off, or takes the place of what is there.
    #[must_use]
    pub fn kept(&self, node: NodeId) -> Index {
        let node = &self.ghost.nodes[self.ghost.slot(node)];
        let last = node.durable.log.last_index();
        let replaced = node.pending.iter().filter_map(|batch| batch.append.first());
        let kept = replaced.map(|entry| entry.index().prev());
        node.pending.iter().filter_map(ends_at).chain(kept).fold(last, Index::min)
    }

    /// Whether a node's disk says that it does not know where its log ended.
    #[must_use]
    pub fn is_in_doubt(&self, node: NodeId) -> bool {
        self.ghost.nodes[self.ghost.slot(node)].durable.hard_state.is_tail_unknown
    }

    /// Whether an entry, or a snapshot that covers it, is on a node's disk.
    #[must_use]
    pub fn is_durable(&self, node: NodeId, id: EntryId) -> bool {
        self.ghost.nodes[self.ghost.slot(node)].durable.log.holds(id)
    }

    /// The entry at `index` on a node's disk, unless a snapshot has replaced it.
    #[must_use]
    pub fn durable_entry(&self, node: NodeId, index: Index) -> Option<EntryId> {
        self.ghost.nodes[self.ghost.slot(node)].durable.log.at(index)
    }

    /// Whether everything committed is durable on a node.
    #[must_use]
    pub fn has_all_committed(&self, node: NodeId) -> bool {
        let node = &self.ghost.nodes[self.ghost.slot(node)];
        node.durable.log.holds(self.ghost.committed.last())
    }

    /// The index through which a node's state machine has applied.
    #[must_use]
    pub fn applied_index(&self, node: NodeId) -> Index {
        self.ghost.nodes[self.ghost.slot(node)].applied
    }

    /// The leader of a term, if it had one.
    #[must_use]
    pub fn leader(&self, term: Term) -> Option<NodeId> {
        self.ghost.reigns.get(term).map(|reign| reign.leader)
    }
}
