//! A disk that keeps what the contract of [`PersistBatch`] promises, and no more.

use std::collections::BTreeSet;
use std::sync::Arc;

use raft_core::{
    Entries, Entry, EntryId, HardState, Index, LoadRequest, Membership, Payload, PersistBatch,
    RecoveredState, Slot, SnapshotMeta, Term,
};

/// What a disk loses although it was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Loss {
    /// The entry at this index cannot be read any more; what it was is known.
    Entry(Index),
    /// The log from this index on; it shows that there was more, and not what.
    Tail(Index),
    /// The bytes of the newest snapshot; what it covers is known.
    Snapshot,
}

/// What one server has made durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    hard_state: HardState,
    snapshot: Arc<SnapshotMeta>,
    /// The bytes of that snapshot; empty for genesis, and where they cannot be read any more.
    image: Vec<u8>,
    /// Bytes of a snapshot that is on its way.
    pub(crate) staged: Vec<u8>,
    before: EntryId,
    log: Vec<Entry>,
    /// Entries of the log that cannot be read any more.
    damaged: BTreeSet<Index>,
    founding: bool,
}

impl Disk {
    /// A formatted disk on which nothing was ever written.
    pub(crate) fn new(founders: Membership) -> Self {
        let found = RecoveredState::genesis(founders);
        Self {
            hard_state: found.hard_state,
            snapshot: found.snapshot,
            image: Vec::new(),
            staged: Vec::new(),
            before: found.before,
            log: Vec::new(),
            damaged: BTreeSet::new(),
            founding: true,
        }
    }

    /// The same with a log and a term, as if both had been written before.
    pub(crate) fn with_log(
        mut self,
        items: impl IntoIterator<Item = (Term, Payload)>,
        term: Term,
    ) -> Self {
        self.log = Entries::after(self.before, items).to_vec();
        self.hard_state.term = term.max(self.last().term);
        self.founding = false;
        self
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The last entry that the newest snapshot covers.
    pub(crate) fn snapshot(&self) -> EntryId {
        self.snapshot.last
    }

    /// The last entry of the log, or the one before it.
    pub(crate) fn last(&self) -> EntryId {
        self.log.last().map_or(self.before, Entry::id)
    }

    /// The entry at this index, if its identity is still there.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        let known = [self.before, self.snapshot.last].into_iter();
        known.chain(self.log.iter().map(Entry::id)).find(|id| id.index == index)
    }

    /// The membership of the snapshot, then those that the log names after it, by index.
    pub(crate) fn memberships(&self) -> Vec<(Index, Arc<Membership>)> {
        let base = &self.snapshot;
        let mut found = vec![(base.last.index, Arc::new(base.membership.clone()))];
        found.extend(self.log.iter().filter_map(|entry| match entry.payload() {
            Payload::Membership(membership) if entry.index() > base.last.index => {
                Some((entry.index(), Arc::clone(membership)))
            }
            Payload::Membership(_) | Payload::Noop | Payload::Command(_) => None,
        }));
        found
    }

    /// Whether the log, or the snapshot in its place, reaches this entry and agrees with it where
    /// that can be told.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        match self.id_at(id.index) {
            Some(mine) => mine == id,
            None => id.index <= self.before.index,
        }
    }

    /// Whether the entry can be read here, or is covered by a snapshot that can.
    pub(crate) fn has_intact(&self, id: EntryId) -> bool {
        if id.index <= self.snapshot.last.index && !self.is_snapshot_damaged() {
            return self.id_at(id.index).is_none_or(|mine| mine == id);
        }
        id.index > self.before.index && self.holds(id) && !self.damaged.contains(&id.index)
    }

    /// Whether a state machine that has applied this entry can be made of what can be read here.
    pub(crate) fn has_state(&self, id: EntryId) -> bool {
        let is_covered = id.index <= self.snapshot.last.index;
        let is_reached = is_covered || self.is_intact_through(id.index);
        !self.is_snapshot_damaged() && is_reached && self.holds(id)
    }

    /// Whether the bytes of the newest snapshot cannot be read.
    pub(crate) fn is_snapshot_damaged(&self) -> bool {
        self.snapshot.last.index > Index::ZERO && self.image.is_empty()
    }

    /// Whether nothing through this index is damaged.
    pub(crate) fn is_intact_through(&self, index: Index) -> bool {
        self.damaged.first().is_none_or(|first| *first > index)
    }

    /// The same but for some entries.
    pub(crate) fn is_intact_but(&self, known: &BTreeSet<Index>, through: Index) -> bool {
        self.damaged.iter().all(|index| *index > through || known.contains(index))
    }

    /// Whether the entry at this index cannot be read.
    pub(crate) fn is_damaged(&self, index: Index) -> bool {
        self.damaged.contains(&index)
    }

    /// Whether nothing of the log is damaged.
    pub(crate) fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    /// The entries of the log, oldest first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.log.iter().map(Entry::id)
    }

    /// Whether the entry at this index is a membership.
    pub(crate) fn is_membership(&self, index: Index) -> bool {
        let found = self.log.iter().find(|entry| entry.index() == index);
        found.is_some_and(|entry| matches!(entry.payload(), Payload::Membership(_)))
    }

    /// What of it may be lost: any entry that can be read, the end of the log from any entry on that
    /// the snapshot does not cover, and the snapshot where the log begins. One that the log reaches
    /// behind has another one before it, from which storage starts: as if there never was a newer one.
    pub(crate) fn losses(&self) -> Vec<Loss> {
        let indices = || self.log.iter().map(Entry::index);
        let entries = indices().filter(|index| !self.damaged.contains(index)).map(Loss::Entry);
        let tails = indices().filter(|index| *index > self.snapshot.last.index).map(Loss::Tail);
        let is_base = self.before == self.snapshot.last && self.before.index > Index::ZERO;
        let snapshot = (is_base && !self.is_snapshot_damaged()).then_some(Loss::Snapshot);
        entries.chain(tails).chain(snapshot).collect()
    }

    /// Loses something that was durable.
    pub(crate) fn lose(&mut self, loss: Loss) {
        match loss {
            Loss::Entry(index) => {
                self.damaged.insert(index);
            }
            Loss::Tail(from) => {
                self.log.retain(|entry| entry.index() < from);
                self.damaged.retain(|index| *index < from);
                self.hard_state.is_tail_unknown = true;
            }
            Loss::Snapshot => self.image.clear(),
        }
    }

    /// What the server finds when it starts, and what its host says of the state machine: that it
    /// is durable as it was after `applied`, and that `commit` is known to be committed.
    pub(crate) fn recovered(&self, commit: Index, applied: Index) -> RecoveredState {
        let slot = |entry: &Entry| match (entry.id(), entry.payload().clone()) {
            (id, payload) if self.damaged.contains(&id.index) => {
                let is_membership = matches!(payload, Payload::Membership(_));
                Slot::Damaged { id, bytes: payload.len(), is_membership }
            }
            (id, payload) => Slot::Resident { id, payload },
        };
        RecoveredState {
            hard_state: self.hard_state,
            snapshot: Arc::clone(&self.snapshot),
            slots: self.log.iter().map(slot).collect(),
            before: self.before,
            commit: commit.max(self.snapshot.last.index),
            applied,
            founding: self.founding,
            is_snapshot_damaged: self.is_snapshot_damaged(),
        }
    }

    /// The bytes of the newest snapshot, if it is the one asked for and they can be read.
    pub(crate) fn image(&self, last: EntryId) -> Option<&[u8]> {
        (self.snapshot.last == last && !self.is_snapshot_damaged()).then_some(&self.image)
    }

    /// Durable entries that follow this one, within the limits of a request; one is always given.
    pub(crate) fn entries(&self, request: &LoadRequest) -> Option<Entries> {
        let mut bytes = 0;
        let wanted = |entry: &&Entry| {
            if self.damaged.contains(&entry.index()) {
                return false;
            }
            bytes += entry.payload().len();
            let is_first = entry.index() == request.after.index.next();
            entry.index() <= request.through && (is_first || bytes <= request.bytes_max)
        };
        let from = self.log.iter().skip_while(|entry| entry.index() <= request.after.index);
        let items: Vec<(Term, Payload)> =
            from.take_while(wanted).map(|entry| (entry.term(), entry.payload().clone())).collect();
        (!items.is_empty()).then(|| Entries::after(request.after, items))
    }

    /// How many pieces a batch consists of.
    pub(crate) fn pieces(batch: &PersistBatch) -> usize {
        let fields = [
            batch.hard_state.is_some(),
            batch.install.is_some(),
            batch.truncate_from.is_some(),
            batch.compact_to.is_some(),
        ];
        let healed: usize = batch.heal.iter().map(|run| run.len()).sum();
        fields.into_iter().filter(|is_there| *is_there).count() + healed + batch.append.len()
    }

    /// Writes a beginning of a batch: so many of its pieces, in their order.
    pub(crate) fn write(&mut self, batch: &PersistBatch, pieces: usize) {
        let mut left = pieces;
        let mut is_next = || {
            let is_next = left > 0;
            left -= usize::from(is_next);
            is_next
        };
        if let Some(hard_state) = batch.hard_state.filter(|_| is_next()) {
            self.hard_state = hard_state;
        }
        if let Some(snapshot) = batch.install.as_ref().filter(|_| is_next()) {
            self.install(snapshot);
        }
        if let Some(from) = batch.truncate_from.filter(|_| is_next()) {
            self.log.retain(|entry| entry.index() < from);
            self.damaged.retain(|index| *index < from);
        }
        for entry in batch.heal.iter().flat_map(|run| run.iter()).filter(|_| is_next()) {
            let is_there = self.log.iter().any(|there| there == entry);
            assert!(is_there, "what heals is what was there");
            self.damaged.remove(&entry.index());
        }
        for entry in batch.append.iter().filter(|_| is_next()) {
            let last = self.log.last().map_or(self.before, Entry::id);
            assert!(entry.index() == last.index.next(), "appends follow the log on the disk");
            self.log.push(entry.clone());
        }
        if let Some(through) = batch.compact_to.filter(|_| is_next())
            && let Some(base) = self.log.iter().find(|entry| entry.index() == through)
        {
            self.before = base.id();
            self.log.retain(|entry| entry.index() > through);
            self.damaged.retain(|index| *index > through);
        }
    }

    /// The server has made a snapshot by itself.
    pub(crate) fn save(&mut self, snapshot: Arc<SnapshotMeta>, image: Vec<u8>) {
        self.snapshot = snapshot;
        self.image = image;
    }

    fn install(&mut self, snapshot: &Arc<SnapshotMeta>) {
        let last = snapshot.last;
        let is_on_log = self.before == last || self.log.iter().any(|entry| entry.id() == last);
        self.log.retain(|entry| is_on_log && entry.index() > last.index);
        self.damaged.retain(|index| is_on_log && *index > last.index);
        self.before = last;
        self.snapshot = Arc::clone(snapshot);
        self.image = if last.index == Index::ZERO { Vec::new() } else { self.staged.clone() };
        self.founding = false;
    }
}
