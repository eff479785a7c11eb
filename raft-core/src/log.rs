//! The log (§5.3): a deque of runs, looked up from its end.
//!
//! It knows the identity of every entry after its base. What lies at or below the base is in a
//! snapshot. It does not know what is committed or durable; [`crate::node`] and [`crate::gate`] do.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::entry::{Entries, Entry};
use crate::types::{EntryId, Index, Term};

/// Entries after `base`, consecutive.
///
/// Invariants: every run is non-empty and follows the one before it by index and chain; `last` is
/// the identity of the last entry, or the base.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    base: EntryId,
    runs: VecDeque<Entries>,
    last: EntryId,
}

/// How entries that a leader sends meet the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// The log has all of them.
    Present,
    /// The log has those before this index; it ends there.
    Extends(Index),
    /// At this index the log has an entry of another term.
    Conflicts(Index),
    /// At this index the log has another entry of the same term: one of the two is a lie.
    Diverges(TwoEntries),
}

/// The two identities that should have been one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TwoEntries {
    pub(crate) mine: EntryId,
    pub(crate) theirs: EntryId,
}

impl Log {
    /// A log without entries after `base`.
    pub(crate) fn new(base: EntryId) -> Self {
        Self { base, runs: VecDeque::new(), last: base }
    }

    /// The entry before the first one.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, or the base.
    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    /// The identity at `index`; `None` below the base and after the end.
    pub(crate) fn id(&self, index: Index) -> Option<EntryId> {
        if index == self.last.index {
            return Some(self.last);
        }
        if index == self.base.index {
            return Some(self.base);
        }
        self.entry(index).map(Entry::id)
    }

    /// The term at `index`; `None` below the base and after the end.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        self.id(index).map(|id| id.term)
    }

    /// The payload bytes at `index`; none below the base and after the end.
    pub(crate) fn bytes_at(&self, index: Index) -> usize {
        self.entry(index).map_or(0, |entry| entry.payload().len())
    }

    /// The entries that follow the last one.
    ///
    /// # Panics
    /// If they do not: every caller has checked the chain.
    pub(crate) fn append(&mut self, entries: Entries) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        assert!(first.index() == self.last.index.next(), "appended entries follow by index");
        assert!(entries.chain_before() == self.last.chain, "appended entries follow by chain");
        assert!(first.term() >= self.last.term, "terms never fall along the log");
        self.last = last.id();
        self.runs.push_back(entries);
    }

    /// Drops the entry at `from` and all after it.
    ///
    /// # Panics
    /// If `from` is not after the base.
    pub(crate) fn truncate_from(&mut self, from: Index) {
        assert!(from > self.base.index, "what a snapshot covers is never truncated");
        while let Some(run) = self.runs.pop_back() {
            if run[0].index() < from {
                self.runs.push_back(run.slice(Index::ZERO, from));
                break;
            }
        }
        self.last = self.runs.back().and_then(|run| run.last()).map_or(self.base, Entry::id);
    }

    /// Drops the entries through `through`, which becomes the base.
    ///
    /// # Panics
    /// If `through` is not in the log.
    pub(crate) fn compact_to(&mut self, through: Index) {
        let base = self.id(through).expect("the new base is in the log");
        while let Some(run) = self.runs.pop_front() {
            let rest = run.slice(through.next(), Index(u64::MAX));
            if !rest.is_empty() {
                self.runs.push_front(rest);
                break;
            }
        }
        self.base = base;
    }

    /// The entries after `after`, at least one if there is one, within the limits.
    ///
    /// Runs are joined when one alone would waste a message: that copies entries, not payloads.
    pub(crate) fn read(
        &self,
        after: Index,
        through: Index,
        bytes_max: usize,
        entries_max: usize,
    ) -> Entries {
        let mut bytes = 0usize;
        let mut count = 0usize;
        let mut parts: Vec<Entries> = Vec::new();
        let start = self.run_of(after.next());
        for run in self.runs.iter().skip(start) {
            let part = run.slice(after.next(), through.next());
            let fits = part.iter().take_while(|entry| {
                bytes = bytes.saturating_add(entry.payload().len());
                let admitted = count == 0 || (bytes <= bytes_max && count < entries_max);
                count += usize::from(admitted);
                admitted
            });
            let taken = fits.count();
            if taken == 0 {
                break;
            }
            let whole = taken == part.len();
            let end = part[taken - 1].index().next();
            let part = part.slice(Index::ZERO, end);
            if parts.is_empty() && (!whole || end > through || end > self.last.index) {
                return part;
            }
            parts.push(part);
            if !whole {
                break;
            }
        }
        if parts.len() == 1 { parts.remove(0) } else { Entries::concat(&parts) }
    }

    /// The runs that hold the entries after `after`, in order, cut at it.
    pub(crate) fn iter_after(&self, after: Index) -> impl Iterator<Item = &Entry> {
        self.runs
            .iter()
            .skip(self.run_of(after.next()))
            .flat_map(|run| run.iter())
            .skip_while(move |entry| entry.index() <= after)
    }

    /// Where `entries` (which follow an entry that the log has) first add or change something.
    pub(crate) fn meet(&self, entries: &Entries) -> Meeting {
        for entry in entries.iter() {
            let Some(mine) = self.id(entry.index()) else {
                return Meeting::Extends(entry.index());
            };
            if mine.term != entry.term() {
                return Meeting::Conflicts(entry.index());
            }
            if mine.chain != entry.chain() {
                return Meeting::Diverges(TwoEntries { mine, theirs: entry.id() });
            }
        }
        Meeting::Present
    }

    /// The last index at or below `limit` whose term is at most `term`: the last place at which a
    /// log with `term` at `limit` can match this one (§5.3, used on both sides).
    ///
    /// `None` if even the base has a higher term, or lies after `limit`.
    pub(crate) fn last_at_most(&self, limit: Index, term: Term) -> Option<EntryId> {
        let (mut low, mut high) = (self.base.index.0, limit.min(self.last.index).0);
        if high < low || self.base.term > term {
            return None;
        }
        // Terms never fall along the log: the entry at `low` qualifies, what follows `high` does not.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.term(Index(middle)).is_some_and(|found| found <= term) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        self.id(Index(low))
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        let run = self.runs.get(self.run_of(index))?;
        let first = run.first()?.index();
        let offset = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        run.get(offset)
    }

    /// The position of the run that holds `index`, if any does. The newest run is asked first:
    /// nearly every question is about the end of the log.
    fn run_of(&self, index: Index) -> usize {
        let starts_by = |run: &Entries| run.first().is_some_and(|first| first.index() <= index);
        if self.runs.back().is_some_and(starts_by) {
            return self.runs.len() - 1;
        }
        self.runs.partition_point(starts_by).saturating_sub(1)
    }
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        self.base == other.base
            && self.last == other.last
            && self.iter_after(self.base.index).eq(other.iter_after(other.base.index))
    }
}

impl Eq for Log {}

impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The last chain covers everything between the ends.
        self.base.hash(state);
        self.last.hash(state);
    }
}
