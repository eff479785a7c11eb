//! The log (§5.3): identities of what is cold, then a deque of runs, looked up from its end.
//!
//! ```text
//!   snapshot | identities alone | whole entries, in runs |
//!           base              cold                      last
//! ```
//!
//! It knows the identity of every entry after its base. What lies at or below the base is in a snapshot.
//! The payloads of the oldest entries may be with the host alone, and are asked for with `Load`. What is
//! committed or durable is known to [`crate::node`] and [`crate::gate`], not here.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::entry::{Entries, Entry};
use crate::types::{Chain, EntryId, Index, Term};

/// A read that takes at least this many entries from its first run ends there, and copies none.
const ALONE_ENTRIES: usize = 64;

/// The same for at least this many payload bytes.
const ALONE_BYTES: usize = 16 << 10;

/// How many of the newest runs are looked at one by one before all are searched.
const FEW_RUNS: usize = 4;

/// The least room that is made for more runs at a time: idle groups need no more than this.
const ROOM_RUNS: usize = 2;

/// Entries after `base`, consecutive.
///
/// Invariants: every run is non-empty and follows what is before it by index and chain; `last` is
/// the identity of the last entry, or the base; `resident_bytes` is the sum over `runs`.
#[derive(Clone, Debug)]
#[repr(C)] // For cache locality alone: the fields that every step reads are adjacent.
pub(crate) struct Log {
    base: EntryId,
    /// The entries right after the base whose payloads are not here.
    cold: VecDeque<Cold>,
    /// All entries after those.
    runs: VecDeque<Entries>,
    resident_bytes: usize,
    last: EntryId,
}

/// What stays of an entry whose payload is not here; its index follows from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cold {
    term: Term,
    chain: Chain,
    /// The length of the payload. Narrow, so that all is 24 bytes; a payload is at most 2^30.
    bytes: u32,
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
        Self { base, cold: VecDeque::new(), runs: VecDeque::new(), resident_bytes: 0, last: base }
    }

    /// The entry before the first one.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, or the base.
    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    /// The last entry whose payload is not here; the base if all are.
    pub(crate) fn cold_through(&self) -> Index {
        Index(self.base.index.0 + self.cold.len() as u64)
    }

    /// Whether the log has the entry, but not its payload.
    pub(crate) fn is_cold(&self, index: Index) -> bool {
        self.base.index < index && index <= self.cold_through()
    }

    /// The identity at `index`; `None` below the base and after the end.
    #[inline]
    pub(crate) fn id(&self, index: Index) -> Option<EntryId> {
        // Nearly every question is about the end of the log.
        if index == self.last.index { Some(self.last) } else { self.id_before_last(index) }
    }

    #[inline(never)]
    fn id_before_last(&self, index: Index) -> Option<EntryId> {
        if index == self.base.index {
            return Some(self.base);
        }
        if let Some(Cold { term, chain, .. }) = self.cold_at(index) {
            return Some(EntryId { index, term, chain });
        }
        self.entry(index).map(Entry::id)
    }

    /// The term at `index`; `None` below the base and after the end.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        self.id(index).map(|id| id.term)
    }

    /// The payload bytes at `index`; none below the base and after the end.
    pub(crate) fn bytes_at(&self, index: Index) -> usize {
        match self.cold_at(index) {
            Some(cold) => cold.bytes as usize,
            None => self.entry(index).map_or(0, |entry| entry.payload().len()),
        }
    }

    /// The payload bytes of the entries after `after` through `through`.
    pub(crate) fn bytes_between(&self, after: Index, through: Index) -> usize {
        let skipped = self.cold_count(after);
        let counted = self.cold_count(through).saturating_sub(skipped);
        let cold = self.cold.iter().skip(skipped).take(counted).map(|cold| cold.bytes as usize);
        let from = after.max(self.cold_through()).next();
        let runs = self.runs.range(self.run_of(from)..);
        let parts = runs.map(|run| run.slice(from, through.next()));
        let resident = parts.take_while(|part| !part.is_empty()).map(|part| part.bytes());
        cold.chain(resident).fold(0, usize::saturating_add)
    }

    /// The entry after the last one, of which only the identity is known.
    ///
    /// # Panics
    /// If it does not follow, or whole entries are there already: recovery has checked both.
    pub(crate) fn append_cold(&mut self, id: EntryId, bytes: u32) {
        assert!(id.index == self.last.index.next(), "appended entries follow by index");
        assert!(id.term >= self.last.term, "terms never fall along the log");
        assert!(self.runs.is_empty(), "what is cold lies before all that is not");
        self.cold.push_back(Cold { term: id.term, chain: id.chain, bytes });
        self.last = id;
    }

    /// The entries that follow the last one.
    ///
    /// # Panics
    /// If they do not: every caller has checked the chain.
    #[inline(always)] // A part of the node's append.
    pub(crate) fn append(&mut self, entries: Entries) {
        let run: &[Entry] = &entries;
        let ([first, ..], [.., last]) = (run, run) else { return };
        assert!(first.index() == self.last.index.next(), "appended entries follow by index");
        assert!(entries.chain_before() == self.last.chain, "appended entries follow by chain");
        assert!(first.term() >= self.last.term, "terms never fall along the log");
        self.last = last.id();
        self.resident_bytes += entries.bytes();
        if self.runs.len() == self.runs.capacity() {
            self.make_room();
        }
        self.runs.push_back(entries);
    }

    /// By half, not to twice the size: a leader that cannot commit has many runs.
    #[cold]
    fn make_room(&mut self) {
        self.runs.reserve_exact((self.runs.len() / 2).max(ROOM_RUNS));
    }

    /// Drops the entry at `from` and all after it.
    ///
    /// # Panics
    /// If `from` is not after the base.
    pub(crate) fn truncate_from(&mut self, from: Index) {
        assert!(from > self.base.index, "what a snapshot covers is never truncated");
        while let Some(run) = self.runs.pop_back() {
            self.resident_bytes -= run.bytes();
            if run[0].index() < from {
                let rest = run.slice(Index::ZERO, from);
                self.resident_bytes += rest.bytes();
                self.runs.push_back(rest);
                break;
            }
        }
        self.cold.truncate(self.cold_count(from.prev()));
        self.last = match self.runs.back().and_then(|run| run.last()) {
            Some(entry) => entry.id(),
            None => self.cold.back().map_or(self.base, |cold| EntryId {
                index: self.cold_through(),
                term: cold.term,
                chain: cold.chain,
            }),
        };
    }

    /// Drops the entries through `through`, which becomes the base.
    ///
    /// # Panics
    /// If `through` is not in the log.
    pub(crate) fn compact_to(&mut self, through: Index) {
        let base = self.id(through).expect("the new base is in the log");
        let mut before = self.cold_through();
        self.cold.drain(..self.cold_count(through));
        if self.cold.capacity() / 4 > self.cold.len() {
            self.cold.shrink_to(2 * self.cold.len());
        }
        while let Some(run) = self.runs.front_mut()
            && before < through
        {
            self.resident_bytes -= run.bytes();
            before = run.end_after(before);
            if before <= through {
                self.runs.pop_front();
            } else {
                *run = run.slice(through.next(), Index(u64::MAX));
                self.resident_bytes += run.bytes();
            }
        }
        self.base = base;
    }

    /// How many bytes of payloads there are.
    #[inline]
    pub(crate) fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// Lets go of the oldest payloads, at most through `through`, while there are more than
    /// `bytes_max` bytes of them. Their identities stay.
    ///
    /// What is let go of depends on the entries alone, not on how they are cut into runs; memory is
    /// free once a run is gone as a whole, and a run is never longer than one message.
    pub(crate) fn evict(&mut self, through: Index, bytes_max: usize) {
        while self.resident_bytes > bytes_max
            && let Some(run) = self.runs.front_mut()
        {
            let mut gone = 0;
            for entry in run.iter() {
                if entry.index() > through || self.resident_bytes <= bytes_max {
                    break;
                }
                let (bytes, EntryId { term, chain, .. }) = (entry.payload().len(), entry.id());
                self.resident_bytes -= bytes;
                let bytes = u32::try_from(bytes).expect("a payload has at most 2^30 bytes");
                self.cold.push_back(Cold { term, chain, bytes });
                gone += 1;
            }
            if gone < run.len() {
                run.skip(gone);
                return;
            }
            self.runs.pop_front();
        }
    }

    /// The entries after `after`, at least one if there is one, within the limits.
    ///
    /// Runs are joined when one alone would waste a message: that copies entries, not payloads, but
    /// it costs more than a message does once a run is of some length.
    ///
    /// # Panics
    /// If the first of them is cold.
    #[inline]
    pub(crate) fn read(
        &self,
        after: Index,
        through: Index,
        bytes_max: usize,
        entries_max: usize,
    ) -> Entries {
        assert!(!self.is_cold(after.next()), "what is cold is loaded, not read");
        match self.newest_run(after, through, bytes_max, entries_max) {
            Some(run) => run.clone(),
            None => self.gather((after.next(), through), bytes_max, entries_max),
        }
    }

    /// The run that is just what [`Log::read`] gives: the last one or, if the read ends sooner, the one
    /// before. `None` if it is not. A peer that keeps up, and a state machine that does, read runs as
    /// they were appended.
    #[inline(always)] // Nearly always this is all that a step does with the log.
    pub(crate) fn newest_run(
        &self,
        after: Index,
        through: Index,
        bytes_max: usize,
        entries_max: usize,
    ) -> Option<&Entries> {
        let last = through.min(self.last.index);
        let back = if last == self.last.index { 1 } else { 2 };
        let run = &self.runs[self.runs.len().checked_sub(back)?];
        run.is_whole_read(after, last, bytes_max, entries_max).then_some(run)
    }

    /// The entries from `first` through `through` within the limits, from wherever they are.
    #[inline(never)] // What is left of `read` shall be part of its callers.
    fn gather(
        &self,
        (first, through): (Index, Index),
        bytes_max: usize,
        entries_max: usize,
    ) -> Entries {
        let last = through.min(self.last.index);
        let (mut bytes, mut count) = (0usize, 0usize);
        let mut parts: Vec<Entries> = Vec::new();
        for run in self.runs.range(self.run_of(first)..) {
            let part = run.slice(first, last.next());
            let before = count;
            for entry in part.iter() {
                bytes = bytes.saturating_add(entry.payload().len());
                if count > 0 && (bytes > bytes_max || count >= entries_max) {
                    break;
                }
                count += 1;
            }
            let taken = count - before;
            let is_end = first.0 + count as u64 > last.0;
            let is_full = taken < part.len() || is_end;
            let is_worth_it = taken >= ALONE_ENTRIES || bytes >= ALONE_BYTES;
            if parts.is_empty() && (is_full || is_worth_it) {
                return part.take(taken);
            }
            if taken > 0 {
                parts.push(part.take(taken));
            }
            if is_full {
                break;
            }
        }
        Entries::concat(&parts)
    }

    /// The last of the cold entries after `after` that are within the limits; at least one is.
    pub(crate) fn cold_range(
        &self,
        after: Index,
        through: Index,
        bytes_max: usize,
        entries_max: usize,
    ) -> Index {
        let mut bytes = 0usize;
        let cold = self.cold.iter().skip(self.cold_count(after)).take(entries_max.max(1));
        let fits = cold.take_while(|cold| {
            bytes = bytes.saturating_add(cold.bytes as usize);
            bytes <= bytes_max
        });
        let count = fits.count().max(1) as u64;
        Index(after.0 + count).min(through).min(self.cold_through())
    }

    /// Whether these are the log's own entries, from the one after `after` on. Their chains were
    /// computed from what they say, so the ends speak for all.
    pub(crate) fn has(&self, after: EntryId, entries: &Entries) -> bool {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return false };
        self.id(after.index) == Some(after)
            && first.index() == after.index.next()
            && entries.chain_before() == after.chain
            && self.id(last.index()) == Some(last.id())
    }

    /// The resident entries after `after`, which is not before what is cold.
    pub(crate) fn iter_after(&self, after: Index) -> impl Iterator<Item = &Entry> {
        self.runs
            .iter()
            .skip(self.run_of(after.next()))
            .flat_map(|run| run.iter())
            .skip_while(move |entry| entry.index() <= after)
    }

    /// Where `entries` (which follow an entry that the log has) first add or change something.
    #[inline(never)] // Nearly always the log ends before them, and nobody needs to ask.
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

    fn cold_at(&self, index: Index) -> Option<Cold> {
        if self.cold.is_empty() {
            return None;
        }
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        self.cold.get(usize::try_from(place).ok()?).copied()
    }

    /// How many cold entries there are through `index`.
    fn cold_count(&self, index: Index) -> usize {
        let entries = index.0.saturating_sub(self.base.index.0);
        usize::try_from(entries).map_or(self.cold.len(), |entries| entries.min(self.cold.len()))
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        let run = self.runs.get(self.run_of(index))?;
        let first = run.first()?.index();
        let offset = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        run.get(offset)
    }

    /// The position of the run that holds `index`, if any does. Nearly every question is about the
    /// end of the log.
    #[inline]
    fn run_of(&self, index: Index) -> usize {
        let count = self.runs.len();
        for place in (count.saturating_sub(FEW_RUNS)..count).rev() {
            if self.runs[place].starts_by(index) {
                return place;
            }
        }
        self.search(index)
    }

    /// The search begins at the end, and doubles what it has looked through.
    fn search(&self, index: Index) -> usize {
        let starts_by = |place: usize| self.runs[place].starts_by(index);
        let count = self.runs.len();
        let mut high = count;
        while high > 0 {
            let mut low = high.saturating_sub((count - high).max(1));
            if starts_by(low) {
                while low + 1 < high {
                    let middle = usize::midpoint(low, high);
                    if starts_by(middle) { low = middle } else { high = middle }
                }
                return low;
            }
            high = low;
        }
        0
    }
}

/// What is cold is compared, for it decides what is loaded. How the rest is cut into runs is not, though a
/// read of [`ALONE_ENTRIES`] or [`ALONE_BYTES`] may end with a run.
impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        let from = self.cold_through();
        self.base == other.base
            && self.last == other.last
            && self.cold == other.cold
            && self.iter_after(from).eq(other.iter_after(from))
    }
}

impl Eq for Log {}

impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The last chain covers everything between the ends.
        self.base.hash(state);
        self.cold.len().hash(state);
        self.last.hash(state);
    }
}

#[cfg(test)]
mod meeting;
#[cfg(test)]
mod tests;
