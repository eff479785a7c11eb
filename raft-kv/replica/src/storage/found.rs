//! What a start hands on: the durable state as the core wants it, and a report for people.

use std::sync::Arc;

use raft_core::{EntryId, HardState, Index, Membership, RecoveredState, Slot, SnapshotMeta};

use super::{Identity, Report};

/// What was found on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose directory it is.
    pub identity: Identity,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The newest snapshot; `None` before the first batch, not even genesis is durable.
    pub snapshot: Option<Arc<SnapshotMeta>>,
    /// Whether the bytes of that snapshot cannot be read, and no older one is near enough to the log.
    pub is_snapshot_damaged: bool,
    /// The log after `before`, consecutive. It may begin before the end of the snapshot.
    pub slots: Vec<Slot>,
    /// The entry before the first slot.
    pub before: EntryId,
    /// The highest index that is known to be committed; at most the last one found.
    pub commit: Index,
    /// What is not as a clean stop leaves it.
    pub report: Report,
}

impl Found {
    /// What the core starts from: what was found, or genesis with these founders if nothing is
    /// durable yet. The state machine is in memory, so nothing has been applied.
    #[must_use]
    pub fn into_state(self, founders: &Membership) -> RecoveredState {
        let genesis = RecoveredState::genesis(founders.clone());
        let Some(snapshot) = self.snapshot else {
            return RecoveredState { hard_state: self.hard_state, ..genesis };
        };
        RecoveredState {
            hard_state: self.hard_state,
            snapshot,
            slots: self.slots,
            before: self.before,
            commit: self.commit,
            founding: false,
            is_snapshot_damaged: self.is_snapshot_damaged,
            ..genesis
        }
    }
}
