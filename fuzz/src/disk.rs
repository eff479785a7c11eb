//! A disk that keeps exactly what the contract of [`PersistBatch`] promises, and no more.

use std::collections::BTreeSet;
use std::sync::Arc;

use raft_core::{
    Entries, Entry, EntryId, HardState, Index, LoadRequest, Membership, Payload, PersistBatch,
    RecoveredState, Slot, SnapshotMeta, Term,
};

/// What the host knows beside what the core wrote: where its state machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) applied: Index,
    pub(crate) commit: Index,
    /// Commands through here are left on the disk until they are asked for.
    pub(crate) cold: Index,
}

/// What one node has made durable.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    hard_state: HardState,
    /// `None` until the genesis is installed.
    snapshot: Option<Arc<SnapshotMeta>>,
    /// The entry before the log's first one.
    before: EntryId,
    log: Vec<Entry>,
    /// Entries of the log that cannot be read any more.
    damaged: BTreeSet<Index>,
    /// The bytes of the snapshot cannot be read any more.
    is_snapshot_damaged: bool,
    /// Entries that were durable here until the disk lost them.
    lost: BTreeSet<EntryId>,
}

/// What a disk may lose although it was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The payload of one entry.
    Entry(Index),
    /// The entries from here on, without a trace but for the fact that some are gone.
    Tail(Index),
    /// The bytes of the newest snapshot.
    Snapshot,
}

impl Disk {
    /// A formatted disk on which nothing was ever written.
    pub(crate) fn new() -> Self {
        let hard_state = HardState::default();
        Self {
            hard_state,
            snapshot: None,
            before: EntryId::default(),
            log: Vec::new(),
            damaged: BTreeSet::new(),
            is_snapshot_damaged: false,
            lost: BTreeSet::new(),
        }
    }

    /// What a node finds; founders start from the same membership.
    pub(crate) fn recovered(&self, founders: &Membership, found: Found) -> RecoveredState {
        let genesis = RecoveredState::genesis(founders.clone());
        let hard_state = self.hard_state;
        let Some(snapshot) = self.snapshot.clone() else {
            return RecoveredState { hard_state, ..genesis };
        };
        let damaged = |entry: &Entry| Slot::Damaged {
            id: entry.id(),
            bytes: entry.payload().len(),
            is_membership: matches!(entry.payload(), Payload::Membership(_)),
        };
        let slot = |entry: &Entry| match entry.payload() {
            Payload::Command(command) if entry.index() <= found.cold => {
                Slot::Cold { id: entry.id(), bytes: command.len() }
            }
            payload @ (Payload::Noop | Payload::Command(_) | Payload::Membership(_)) => {
                Slot::Resident { id: entry.id(), payload: payload.clone() }
            }
        };
        RecoveredState {
            hard_state,
            commit: found.commit.max(snapshot.last.index),
            snapshot,
            slots: self
                .log
                .iter()
                .map(|entry| {
                    let is_damaged = self.damaged.contains(&entry.index());
                    if is_damaged { damaged(entry) } else { slot(entry) }
                })
                .collect(),
            before: self.before,
            applied: found.applied,
            founding: false,
            is_snapshot_damaged: self.is_snapshot_damaged,
        }
    }

    /// Loses something.
    pub(crate) fn hurt(&mut self, fault: Fault) {
        match fault {
            Fault::Entry(index) => {
                self.damaged.insert(index);
            }
            Fault::Tail(from) => {
                let gone = self.log.iter().map(Entry::id).filter(|id| id.index >= from);
                self.lost.extend(gone);
                self.log.retain(|entry| entry.index() < from);
                self.damaged.retain(|index| *index < from);
                self.hard_state.is_tail_unknown = true;
                // A log that ends before the snapshot is of no use: it begins anew after it.
                if let Some(snapshot) = &self.snapshot
                    && self.last().index < snapshot.last.index
                {
                    self.before = snapshot.last;
                    self.log.clear();
                    self.damaged.clear();
                }
            }
            Fault::Snapshot => self.is_snapshot_damaged = true,
        }
    }

    /// Whether anything here waits to be healed.
    pub(crate) fn is_hurt(&self) -> bool {
        !self.damaged.is_empty() || self.is_snapshot_damaged || self.hard_state.is_tail_unknown
    }

    /// The first entry that cannot be read and is in no snapshot here.
    pub(crate) fn first_damaged(&self) -> Option<Index> {
        let covered = self.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        let covered = if self.is_snapshot_damaged { Index::ZERO } else { covered };
        self.damaged.iter().copied().find(|index| *index > covered)
    }

    /// Whether the entry can be read here, or a snapshot that covers it.
    pub(crate) fn has_intact(&self, id: EntryId) -> bool {
        let covers = |snapshot: &Arc<SnapshotMeta>| snapshot.last.index >= id.index;
        let is_covered = !self.is_snapshot_damaged && self.snapshot.as_ref().is_some_and(covers);
        let is_here = self.log.iter().any(|entry| entry.id() == id);
        is_covered || (is_here && !self.damaged.contains(&id.index))
    }

    /// The entries of the log.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.log.iter().map(Entry::id)
    }

    /// Whether the log has a membership there.
    pub(crate) fn is_membership(&self, index: Index) -> bool {
        let is_it = |entry: &Entry| matches!(entry.payload(), Payload::Membership(_));
        self.log.iter().any(|entry| entry.index() == index && is_it(entry))
    }

    /// The membership in force at an entry of the log.
    pub(crate) fn membership_at(&self, index: Index) -> Option<&Membership> {
        let newest_first = self.log.iter().rev().filter(|entry| entry.index() <= index);
        let appended = newest_first.filter_map(|entry| match entry.payload() {
            Payload::Membership(membership) => Some(&**membership),
            Payload::Noop | Payload::Command(_) => None,
        });
        let snapshot = self.snapshot.as_ref().map(|snapshot| &snapshot.membership);
        appended.chain(snapshot).next()
    }

    /// As [`Self::holds`], or it did until the disk lost it.
    pub(crate) fn held(&self, id: EntryId) -> bool {
        self.holds(id) || self.lost.contains(&id)
    }

    /// Entries that a node does not keep in memory, within the limit; `None` if they are gone.
    pub(crate) fn load(&self, request: &LoadRequest) -> Option<Entries> {
        if self.id_at(request.after.index) != Some(request.after) {
            return None;
        }
        let mut bytes = 0;
        let wanted = request.after.index.next()..=request.through;
        let items: Vec<(Term, Payload)> = self
            .log
            .iter()
            .filter(|entry| wanted.contains(&entry.index()))
            .take_while(|entry| !self.damaged.contains(&entry.index()))
            .enumerate()
            .take_while(|(position, entry)| {
                bytes += entry.payload().len();
                *position == 0 || bytes <= request.bytes_max
            })
            .map(|(_, entry)| (entry.term(), entry.payload().clone()))
            .collect();
        (!items.is_empty()).then(|| Entries::after(request.after, items))
    }

    pub(crate) fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub(crate) fn snapshot(&self) -> Option<&Arc<SnapshotMeta>> {
        self.snapshot.as_ref()
    }

    /// Whether the log, or the snapshot in its place, reaches this entry and agrees with it where
    /// that can be told.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        match self.id_at(id.index) {
            Some(mine) => mine == id,
            None => id.index <= self.before.index,
        }
    }

    /// The entry at this index, if its identity is still there.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        let at_snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.last);
        [Some(self.before), at_snapshot]
            .into_iter()
            .flatten()
            .chain(self.log.iter().map(Entry::id))
            .find(|id| id.index == index)
    }

    pub(crate) fn last(&self) -> EntryId {
        self.log.last().map_or(self.before, Entry::id)
    }

    /// Makes a beginning of a batch durable: `steps` of its fields and entries, in their order;
    /// `usize::MAX` for the whole batch.
    pub(crate) fn write_beginning(&mut self, batch: &PersistBatch, mut steps: usize) {
        let mut is_next = |wanted: bool| {
            let is_next = wanted && steps > 0;
            steps -= usize::from(is_next);
            is_next
        };
        if let Some(hard_state) = batch.hard_state.filter(|_| is_next(true)) {
            self.hard_state = hard_state;
        }
        if let Some(snapshot) = batch.install.clone().filter(|_| is_next(true)) {
            self.install(snapshot);
        }
        if let Some(from) = batch.truncate_from.filter(|_| is_next(true)) {
            assert!(from > self.before.index, "what a snapshot covers is never truncated");
            self.log.retain(|entry| entry.index() < from);
            self.damaged.retain(|index| *index < from);
        }
        for entry in batch.heal.iter().flat_map(|run| run.iter()) {
            if is_next(true) {
                assert_eq!(self.id_at(entry.index()), Some(entry.id()), "what heals was there");
                self.damaged.remove(&entry.index());
            }
        }
        for entry in batch.append.iter() {
            if is_next(true) {
                assert_eq!(entry.index(), self.last().index.next(), "appends follow the log");
                self.log.push(entry.clone());
            }
        }
        if let Some(through) = batch.compact_to.filter(|_| is_next(true)) {
            self.compact(through);
        }
    }

    /// A snapshot that the host made by itself is durable; the log stays.
    pub(crate) fn save(&mut self, snapshot: Arc<SnapshotMeta>) {
        self.snapshot = Some(snapshot);
        self.is_snapshot_damaged = false;
    }

    fn install(&mut self, snapshot: Arc<SnapshotMeta>) {
        let last = snapshot.last;
        if self.id_at(last.index) == Some(last) {
            self.log.retain(|entry| entry.index() > last.index);
            self.damaged.retain(|index| *index > last.index);
        } else {
            self.log.clear();
            self.damaged.clear();
        }
        self.is_snapshot_damaged = false;
        self.before = last;
        self.snapshot = Some(snapshot);
    }

    fn compact(&mut self, through: Index) {
        let covered = self.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        assert!(through <= covered, "only what a snapshot covers is compacted");
        if let Some(id) = self.id_at(through).filter(|id| id.index > self.before.index) {
            self.before = id;
            self.log.retain(|entry| entry.index() > through);
            self.damaged.retain(|index| *index > through);
        }
    }
}
