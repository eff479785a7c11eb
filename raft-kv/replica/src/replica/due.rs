//! When a snapshot is made (§7).

use raft_core::{Entries, EntryId};

use super::ReplicaOptions;

/// What has happened since the last snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    entries: u64,
    bytes: u64,
    /// One is being saved.
    is_saving: bool,
    /// Somebody wants one before it is due: for what is damaged here or elsewhere.
    is_wanted: bool,
    /// The newest one, if it has rotted while the replica runs.
    rotten: Option<EntryId>,
}

impl Due {
    pub(super) fn applied(&mut self, entries: &Entries) {
        self.entries += entries.len() as u64;
        self.bytes += entries.bytes() as u64;
    }

    /// The state is a snapshot's now.
    pub(super) fn restored(&mut self) {
        (self.entries, self.bytes) = (0, 0);
    }

    pub(super) fn wanted(&mut self) {
        self.is_wanted = true;
    }

    pub(super) fn rotted(&mut self, snapshot: EntryId) {
        self.is_wanted = true;
        self.rotten = Some(snapshot);
    }

    pub(super) fn saved(&mut self) {
        self.is_saving = false;
        self.rotten = None;
    }

    /// Whether one should be made now.
    pub(super) fn is_now(&self, options: &ReplicaOptions) -> bool {
        let is_due = self.is_wanted
            || self.entries >= options.snapshot_after_entries.max(1)
            || self.bytes >= options.snapshot_after_bytes.max(1);
        is_due && !self.is_saving
    }

    /// It is looked into whether one can be made; says whether the newest one, at `newest`, has rotted.
    pub(super) fn takes_up(&mut self, newest: EntryId) -> bool {
        self.is_wanted = false;
        self.rotten == Some(newest)
    }

    /// One is being saved.
    pub(super) fn saves(&mut self) {
        self.is_saving = true;
        (self.entries, self.bytes) = (0, 0);
    }
}
