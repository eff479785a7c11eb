//! A log as the ghost sees it: identities and memberships, no payloads.
//!
//! A chain covers everything before it, so two logs that have one entry in common have all before
//! it in common: every comparison here looks at one entry, or halves its way to one. Entries that
//! a node has compacted stay; the ghost forgets only what a snapshot has replaced.

use std::sync::Arc;

use raft_core::{
    Chain, Entry, EntryId, Index, Membership, Payload, PersistBatch, SnapshotMeta, Term,
};

/// The log of one node, in memory or on its disk.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// The entry before the first one: genesis, or the end of an installed snapshot.
    base: EntryId,
    /// Term and chain of the entries after it.
    ids: Vec<(Term, Chain)>,
    /// The memberships of base and log, each from its index on; never empty.
    memberships: Vec<(Index, Arc<Membership>)>,
}

impl Log {
    /// The log that consists of a snapshot alone.
    pub(super) fn new(base: EntryId, membership: Membership) -> Self {
        Self { base, ids: Vec::new(), memberships: vec![(base.index, Arc::new(membership))] }
    }

    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    pub(super) fn last(&self) -> EntryId {
        match self.ids.last() {
            Some(&(term, chain)) => EntryId { index: self.last_index(), term, chain },
            None => self.base,
        }
    }

    pub(super) fn last_index(&self) -> Index {
        Index(self.base.index.0 + self.ids.len() as u64)
    }

    /// The membership in force at its end (thesis §4.1).
    pub(super) fn membership(&self) -> &Arc<Membership> {
        &self.memberships.last().expect("the base has a membership").1
    }

    /// The memberships of base and log, each from its index on.
    pub(super) fn memberships(&self) -> &[(Index, Arc<Membership>)] {
        &self.memberships
    }

    /// The membership that the entry at `index` carries, if it is one.
    pub(super) fn membership_at(&self, index: Index) -> Option<&Arc<Membership>> {
        let newest_first = self.memberships.iter().rev();
        let mut down_to = newest_first.take_while(|(since, _)| *since >= index);
        down_to.find(|(since, _)| *since == index).map(|(_, membership)| membership)
    }

    /// The entry at `index`; `None` outside of the log and below its base.
    pub(super) fn at(&self, index: Index) -> Option<EntryId> {
        if index == self.base.index {
            return Some(self.base);
        }
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        let &(term, chain) = self.ids.get(usize::try_from(offset).ok()?)?;
        Some(EntryId { index, term, chain })
    }

    /// What a report says about the entry at `index`.
    pub(super) fn show(&self, index: Index) -> String {
        match self.at(index) {
            Some(id) => format!("entry {id}"),
            None if index < self.base.index => format!("a snapshot through {}", self.base),
            None => format!("log through {} only", self.last()),
        }
    }

    /// Whether it contains the entry, or a snapshot that has replaced its index.
    pub(super) fn holds(&self, id: EntryId) -> bool {
        id.index < self.base.index || self.at(id.index) == Some(id)
    }

    /// The last index through which both logs are the same; a snapshot counts as the log that it
    /// replaces.
    pub(super) fn agreement(&self, other: &Self) -> Index {
        let start = self.base.index.max(other.base.index);
        let end = self.last_index().min(other.last_index());
        let same = |index: Index| self.at(index) == other.at(index);
        if end < start {
            return end;
        }
        if same(end) {
            return end;
        }
        if !same(start) {
            return Index::ZERO;
        }
        let (mut low, mut high) = (start.0, end.0);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if same(Index(middle)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Index(low)
    }

    /// Adds one entry at its end.
    pub(super) fn push(&mut self, id: EntryId, payload: &Payload) {
        assert!(id.index == self.last_index().next(), "entries of the ghost have no gaps");
        self.ids.push((id.term, id.chain));
        if let Payload::Membership(membership) = payload {
            self.memberships.push((id.index, Arc::clone(membership)));
        }
    }

    /// Drops the entries from `from` on.
    pub(super) fn truncate(&mut self, from: Index) {
        let kept = from.0.saturating_sub(self.base.index.0 + 1);
        self.ids.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        let base = self.base.index;
        self.memberships.retain(|&(index, _)| index < from || index <= base);
    }

    /// Puts a snapshot under the log: what follows stays if the log has the snapshot's last entry.
    pub(super) fn install(&mut self, snapshot: &SnapshotMeta) {
        if !self.holds(snapshot.last) {
            *self = Self::new(snapshot.last, snapshot.membership.clone());
        }
    }

    /// Adds entries at its end.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.push(entry.id(), entry.payload());
        }
    }

    /// Executes the part of a batch that concerns the log.
    pub(super) fn apply(&mut self, batch: &PersistBatch) {
        if let Some(snapshot) = &batch.install {
            self.install(snapshot);
        }
        if let Some(from) = batch.truncate_from {
            self.truncate(from);
        }
        self.append(&batch.append);
    }

    /// Becomes equal to `other`, by copying only where they differ.
    pub(super) fn copy_from(&mut self, other: &Self) {
        if self.base != other.base {
            *self = other.clone();
            return;
        }
        let same = self.agreement(other).0 - self.base.index.0;
        let same = usize::try_from(same).expect("a log is far shorter than the address space");
        self.ids.truncate(same);
        self.ids.extend_from_slice(&other.ids[same..]);
        self.memberships.clone_from(&other.memberships);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::{Entries, Member};

    fn log(terms: &[u64]) -> Log {
        let membership = Membership::new(vec![Member::new(1, 1)], vec![]).unwrap();
        let mut log = Log::new(EntryId::default(), membership);
        let items = terms.iter().map(|&term| (Term(term), Payload::Noop));
        for entry in Entries::after(EntryId::default(), items).iter() {
            log.push(entry.id(), entry.payload());
        }
        log
    }

    #[test]
    fn agreement_is_the_longest_common_beginning() {
        assert_eq!(log(&[1, 1, 2]).agreement(&log(&[1, 1, 2])), Index(3));
        assert_eq!(log(&[1, 1, 2]).agreement(&log(&[1, 1])), Index(2));
        assert_eq!(log(&[1, 1, 1, 1, 2]).agreement(&log(&[1, 3, 3, 3, 3])), Index(1));
        assert_eq!(log(&[2]).agreement(&log(&[1])), Index(0));
        for common in 0..9 {
            let mine: Vec<u64> = (0..9).map(|n| if n < common { 1 } else { 2 }).collect();
            let theirs: Vec<u64> = (0..9).map(|n| if n < common { 1 } else { 3 }).collect();
            assert_eq!(log(&mine).agreement(&log(&theirs)), Index(common));
        }
    }

    #[test]
    fn a_snapshot_replaces_what_does_not_lead_to_it() {
        let other = log(&[1, 3]);
        let membership = Membership::clone(other.membership());
        let snapshot = SnapshotMeta { last: other.last(), membership };
        let mut differs = log(&[1, 2, 2]);
        differs.install(&snapshot);
        assert_eq!((differs.base(), differs.last()), (other.last(), other.last()));
        let mut contains = log(&[1, 3, 3]);
        contains.install(&snapshot);
        assert_eq!(contains.last_index(), Index(3));
    }

    #[test]
    fn a_membership_goes_with_the_entry_that_carries_it() {
        let mut log = log(&[1]);
        let wider = Membership::new(vec![Member::new(1, 1), Member::new(2, 2)], vec![]).unwrap();
        let before = log.membership().clone();
        let payload = Payload::Membership(wider.clone().into());
        let id = EntryId { index: Index(2), term: Term(1), chain: Chain(7) };
        log.push(id, &payload);
        assert_eq!(**log.membership(), wider);
        log.truncate(Index(2));
        assert_eq!(*log.membership(), before);
    }

    #[test]
    fn a_copy_is_equal_whatever_was_there_before() {
        for from in [&[1, 1, 1][..], &[1], &[2, 2], &[]] {
            let mut copy = log(from);
            copy.copy_from(&log(&[1, 1, 2]));
            assert_eq!(copy.last(), log(&[1, 1, 2]).last());
            assert_eq!(copy.at(Index(1)), log(&[1, 1, 2]).at(Index(1)));
        }
    }
}
