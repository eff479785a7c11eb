//! The log against a plain list of entries that remembers how many of them are cold.

use alloc::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::entry::Payload;

/// Entries after `base`, of which the first `cold` have no payload in memory.
#[derive(Clone, Debug)]
struct Naive {
    base: EntryId,
    entries: Vec<Entry>,
    cold: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// Entries with these payload lengths, the first of a term this much higher.
    Append(u64, Vec<usize>),
    TruncateTo(usize),
    CompactTo(usize),
    Evict(usize, usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let lengths = proptest::collection::vec(0usize..5, 1..6);
    prop_oneof![
        4 => (0u64..3, lengths).prop_map(|(terms, lengths)| Step::Append(terms, lengths)),
        1 => any::<usize>().prop_map(Step::TruncateTo),
        1 => any::<usize>().prop_map(Step::CompactTo),
        3 => (any::<usize>(), 0usize..12).prop_map(|(to, max)| Step::Evict(to, max)),
    ]
}

impl Naive {
    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, Entry::id)
    }

    /// The identity of the place `count` after the base.
    fn place(&self, count: usize) -> EntryId {
        count.checked_sub(1).map_or(self.base, |last| self.entries[last].id())
    }

    fn bytes(entries: &[Entry]) -> usize {
        entries.iter().map(|entry| entry.payload().len()).sum()
    }

    fn take(&mut self, step: &Step, log: &mut Log) {
        match step {
            Step::Append(terms, lengths) => {
                let term = Term(self.last().term.0 + terms);
                let items = lengths
                    .iter()
                    .map(|length| (term, Payload::Command(Bytes::from(alloc::vec![7; *length]))));
                let entries = Entries::after(self.last(), items);
                self.entries.extend(entries.iter().cloned());
                log.append(entries);
            }
            Step::TruncateTo(to) => {
                let kept = to % (self.entries.len() + 1);
                log.truncate_from(self.place(kept).index.next());
                self.entries.truncate(kept);
                self.cold = self.cold.min(kept);
            }
            Step::CompactTo(to) => {
                let gone = to % (self.entries.len() + 1);
                self.base = self.place(gone);
                log.compact_to(self.base.index);
                self.entries.drain(..gone);
                self.cold = self.cold.saturating_sub(gone);
            }
            Step::Evict(to, max) => {
                let most = to % (self.entries.len() + 1);
                log.evict(self.place(most).index, *max);
                while self.cold < most && Self::bytes(&self.entries[self.cold..]) > *max {
                    self.cold += 1;
                }
            }
        }
    }

    /// The same log, cut into runs of one entry each.
    fn rebuilt(&self) -> Log {
        let mut log = Log::new(self.base);
        for (place, entry) in self.entries.iter().enumerate() {
            if place < self.cold {
                let bytes = u32::try_from(entry.payload().len()).expect("short");
                log.append_cold(entry.id(), bytes);
            } else {
                let item = (entry.term(), entry.payload().clone());
                log.append(Entries::after(log.last(), [item]));
            }
        }
        log
    }

    fn assert_same(&self, log: &Log) {
        assert_eq!((log.base(), log.last()), (self.base, self.last()));
        assert_eq!(log.cold_through(), self.place(self.cold).index);
        assert_eq!(log.resident_bytes, Self::bytes(&self.entries[self.cold..]));
        let end = self.last().index;
        assert_eq!((log.id(end.next()), log.bytes_at(end.next())), (None, 0));
        if self.base.index > Index::ZERO {
            assert_eq!(log.id(self.base.index.prev()), None);
        }
        for (place, entry) in self.entries.iter().enumerate() {
            assert_eq!(log.id(entry.index()), Some(entry.id()));
            assert_eq!(log.bytes_at(entry.index()), entry.payload().len());
            assert_eq!(log.is_cold(entry.index()), place < self.cold);
            let before = Self::bytes(&self.entries[..=place]);
            assert_eq!(log.bytes_between(self.base.index, entry.index()), before);
            let after = Self::bytes(&self.entries[place + 1..]);
            assert_eq!(log.bytes_between(entry.index(), end), after);
        }
        let rebuilt = self.rebuilt();
        assert!(*log == rebuilt, "equality does not see how runs are cut");
    }

    fn assert_reads(&self, log: &Log, bytes_max: usize, entries_max: usize) {
        let (total, cold) = (self.entries.len(), self.cold);
        for (from, to) in (0..total).flat_map(|from| (from + 1..=total).map(move |to| (from, to))) {
            let end = if from < cold { to.min(cold) } else { to };
            let mut count = 1;
            while from + count < end
                && count < entries_max
                && Self::bytes(&self.entries[from..=from + count]) <= bytes_max
            {
                count += 1;
            }
            let (after, through) = (self.place(from), self.place(to).index);
            let fits = &self.entries[from..from + count];
            let items = fits.iter().map(|entry| (entry.term(), entry.payload().clone()));
            assert!(log.has(after, &Entries::after(after, items)));
            if from < cold {
                let last = log.cold_range(after.index, through, bytes_max, entries_max);
                assert_eq!(last, self.place(from + count).index);
            } else {
                let read = log.read(after.index, through, bytes_max, entries_max);
                assert_eq!(&read[..], fits);
            }
        }
    }

    fn assert_searches(&self, log: &Log, limit: Index, term: Term) {
        let ids = [self.base].into_iter().chain(self.entries.iter().map(Entry::id));
        let found = ids.filter(|id| id.index <= limit && id.term <= term).last();
        assert_eq!(log.last_at_most(limit, term), found);
    }
}

proptest! {
    #[test]
    fn the_log_is_the_naive_one(
        steps in proptest::collection::vec(any_step(), 1..24),
        bytes_max in 1usize..12,
        entries_max in 1usize..6,
    ) {
        let base = EntryId { index: Index(3), term: Term(2), chain: Chain(99) };
        let mut log = Log::new(base);
        let mut naive = Naive { base, entries: Vec::new(), cold: 0 };
        for step in &steps {
            naive.take(step, &mut log);
            naive.assert_same(&log);
        }
        naive.assert_reads(&log, bytes_max, entries_max);
        for limit in 0..=naive.last().index.0 + 1 {
            for term in 0..=naive.last().term.0 + 1 {
                naive.assert_searches(&log, Index(limit), Term(term));
            }
        }
    }

    /// A run keeps the weight of what it holds, however it was cut or joined.
    #[test]
    fn a_run_knows_its_bytes(
        lengths in proptest::collection::vec(0usize..5, 1..8), cut in 0u64..9, count in 0usize..9,
    ) {
        let items = lengths
            .iter()
            .map(|length| (Term(1), Payload::Command(Bytes::from(alloc::vec![7; *length]))));
        let all = Entries::after(EntryId::default(), items);
        let (front, back) =
            (all.slice(Index::ZERO, Index(cut)), all.slice(Index(cut), Index(u64::MAX)));
        let mut skipped = all.clone();
        skipped.skip(count.min(all.len() - 1));
        let whole = Entries::concat(&[front.clone(), back.clone()]);
        for run in [&all, &front, &back, &front.clone().take(count), &skipped, &whole] {
            prop_assert_eq!(run.bytes(), Naive::bytes(run));
        }
    }

    /// What a leader sends meets cold entries as it meets whole ones.
    #[test]
    fn entries_meet_cold_ones_by_identity(cold in 0usize..5, from in 0usize..4, is_other: bool) {
        let command = |byte: u8| Payload::Command(Bytes::from(alloc::vec![byte]));
        let ours = Entries::after(EntryId::default(), (0..4).map(|_| (Term(1), command(1))));
        let mut log = Log::new(EntryId::default());
        log.append(ours.clone());
        log.evict(Index(cold as u64), 0);
        let before = from.checked_sub(1).map_or(EntryId::default(), |last| ours[last].id());
        let same = Entries::after(before, (from..6).map(|_| (Term(1), command(1))));
        prop_assert_eq!(log.meet(&same), Meeting::Extends(Index(5)));
        prop_assert_eq!(log.meet(&ours), Meeting::Present);
        let term = if is_other { Term(2) } else { Term(1) };
        let other = Entries::after(before, [(term, command(2))]);
        let (mine, theirs) = (ours[from].id(), other[0].id());
        let expected = if is_other {
            Meeting::Conflicts(mine.index)
        } else {
            Meeting::Diverges(TwoEntries { mine, theirs })
        };
        prop_assert_eq!(log.meet(&other), expected);
        prop_assert!(!log.has(before, &other));
    }
}

/// Identities of cold entries are small: that is what makes a long log affordable.
#[test]
fn a_cold_entry_takes_24_bytes() {
    assert_eq!(size_of::<Cold>(), 24);
}
