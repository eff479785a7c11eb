//! The readers of a [`Raft`]: its status, its peers, and single entries of its log.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Raft;
use crate::durable::SnapshotMeta;
use crate::membership::Membership;
use crate::progress::{Progress, ProgressState};
use crate::role::Role;
use crate::status::{Flow, PeerStatus, Status};
use crate::types::{EntryId, Index, Member};

impl Raft {
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
            is_snapshot_damaged: node.is_snapshot_damaged(),
            damaged: node.gate.hole_count(),
            first_damaged: node.gate.first_hole(),
            is_tail_unknown: hard_state.is_tail_unknown,
            barrier: node.doubt.and_then(|doubt| doubt.barrier),
            is_disk_full: node.is_disk_full,
            transferee: self.transferee(),
            membership: Arc::clone(node.membership()),
        }
    }

    fn transferee(&self) -> Option<Member> {
        let Role::Leader(leader) = &self.role else { return None };
        leader.transfer.as_ref().map(|transfer| transfer.to)
    }

    /// How entries flow to each peer; empty unless this node leads.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let status = |peer: &Progress| PeerStatus {
            member: peer.member,
            flow: match &peer.state {
                ProgressState::Probe { .. } => Flow::Probe,
                ProgressState::Replicate { inflight, .. } => {
                    let (appends, bytes) = inflight.load();
                    Flow::Replicate { appends, bytes }
                }
                ProgressState::Snapshot { snapshot, staged, .. } => {
                    Flow::Snapshot { last: snapshot.last, staged: *staged }
                }
                ProgressState::Diverged => Flow::Diverged,
            },
            match_index: peer.match_index,
            next_index: peer.next_index,
            incarnation: peer.incarnation,
            is_active: peer.is_active,
            is_leaving: peer.removed_by.is_some(),
        };
        leader.peers.iter().map(status).collect()
    }

    /// How many bytes of payloads the log has in memory, and through which index it has let go of them.
    #[must_use]
    pub fn resident(&self) -> (usize, Index) {
        let log = self.node.log();
        (log.resident_bytes(), log.cold_through())
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
}
