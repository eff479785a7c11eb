//! A disk that keeps what the contract of [`PersistBatch`] promises, and no more.

use std::sync::Arc;

use raft_core::{
    Entries, Entry, EntryId, HardState, Index, LoadRequest, Membership, Payload, PersistBatch,
    RecoveredState, Slot, SnapshotMeta, Term,
};

use super::machine::command_of;
use crate::museum::subject::Claim;

/// What one server has made durable.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    hard_state: HardState,
    snapshot: Arc<SnapshotMeta>,
    /// The bytes of that snapshot; empty for genesis.
    image: Vec<u8>,
    /// Bytes of a snapshot that is on its way.
    pub(super) staged: Vec<u8>,
    before: EntryId,
    log: Vec<Entry>,
    founding: bool,
}

impl Disk {
    /// A formatted disk on which nothing was ever written.
    pub(super) fn new(founders: Membership) -> Self {
        let found = RecoveredState::genesis(founders);
        Self {
            hard_state: found.hard_state,
            snapshot: found.snapshot,
            image: Vec::new(),
            staged: Vec::new(),
            before: found.before,
            log: Vec::new(),
            founding: true,
        }
    }

    /// The same with a log and a term: entries of one index and term are the same on all disks.
    pub(super) fn with_log(mut self, terms: &[u64], term: u64) -> Self {
        let last = terms.last().copied().unwrap_or_default();
        self.hard_state.term = Term(term.max(last));
        let items = terms.iter().zip(1..).map(|(term, index)| {
            (Term(*term), Payload::Command(command_of(*term, index).into_bytes().into()))
        });
        self.log = Entries::after(self.before, items).to_vec();
        self.founding = false;
        self
    }

    /// What the server finds when it starts.
    pub(super) fn recovered(&self, claim: Claim) -> RecoveredState {
        let slot =
            |entry: &Entry| Slot::Resident { id: entry.id(), payload: entry.payload().clone() };
        RecoveredState {
            hard_state: self.hard_state,
            snapshot: Arc::clone(&self.snapshot),
            slots: self.log.iter().map(slot).collect(),
            before: self.before,
            commit: Index(claim.commit.max(self.snapshot.last.index.0)),
            applied: Index(claim.applied),
            founding: self.founding,
        }
    }

    /// The bytes of the newest snapshot, if it is the one asked for.
    pub(super) fn image(&self, last: EntryId) -> Option<&[u8]> {
        (self.snapshot.last == last).then_some(&self.image)
    }

    /// Durable entries that follow this one, within the limits of a request; one is always given.
    pub(super) fn entries(&self, request: &LoadRequest) -> Option<Entries> {
        let mut bytes = 0;
        let wanted = |entry: &&Entry| {
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
    pub(super) fn pieces(batch: &PersistBatch) -> usize {
        let fields = [
            batch.hard_state.is_some(),
            batch.install.is_some(),
            batch.truncate_from.is_some(),
            batch.compact_to.is_some(),
        ];
        fields.into_iter().filter(|is_there| *is_there).count() + batch.append.len()
    }

    /// Writes a beginning of a batch: so many of its pieces, in their order.
    pub(super) fn write(&mut self, batch: &PersistBatch, pieces: usize) {
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
        }
    }

    /// The server has made a snapshot by itself.
    pub(super) fn save(&mut self, snapshot: Arc<SnapshotMeta>, image: Vec<u8>) {
        self.snapshot = snapshot;
        self.image = image;
    }

    fn install(&mut self, snapshot: &Arc<SnapshotMeta>) {
        let last = snapshot.last;
        let is_on_log = self.log.iter().any(|entry| entry.id() == last);
        self.log.retain(|entry| is_on_log && entry.index() > last.index);
        self.before = last;
        self.snapshot = Arc::clone(snapshot);
        self.image = if last.index == Index::ZERO { Vec::new() } else { self.staged.clone() };
        self.founding = false;
    }
}
