//! Two logs that have grown apart (§5.3): where they part, against naive answers, and how they find
//! out by hints.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Log, Meeting, TwoEntries};
use crate::entry::{Entries, Entry, Payload};
use crate::types::{EntryId, Index, Term};

/// How much the term rises at each entry, and how many bytes it has.
type Items = Vec<(u64, usize)>;

fn items(count_max: usize) -> impl Strategy<Value = Items> {
    prop::collection::vec((0u64..2, 0usize..3), 0..=count_max)
}

/// Entries that follow `before`, whose bytes tell them from others at the same place.
fn entries(before: EntryId, items: &Items, mark: u8) -> Entries {
    let mut term = before.term;
    let items = items.iter().map(|(rise, size)| {
        term = Term(term.0 + rise);
        (term, Payload::Command(Bytes::from(vec![mark; *size])))
    });
    Entries::after(before, items)
}

/// Some entries that two logs share, of which the first are cold.
fn shared(common: &Items, cold: usize) -> (Log, Vec<Entry>) {
    let base = EntryId { index: Index(3), term: Term(1), ..EntryId::default() };
    let mut log = Log::new(base);
    let common = entries(base, common, 0);
    log.append(common.clone());
    log.evict(Index(base.index.0 + cold.min(common.len()) as u64), 0);
    (log, common.to_vec())
}

proptest! {
    /// The first difference between a log and what a leader sends decides.
    #[test]
    fn entries_meet_a_log_where_they_first_differ(
        common in items(5),
        cold in 0usize..6,
        mine in items(4),
        theirs in items(4),
        kept in 0usize..5,
        is_liar in any::<bool>(),
    ) {
        let (mut log, mut naive) = shared(&common, cold);
        let before = log.last();
        let own = entries(before, &mine, 1);
        naive.extend(own.iter().cloned());
        log.append(own.clone());
        // The first ones are the log's own; then another leader's, or the same leader's lie.
        let head = own.slice(Index::ZERO, Index(before.index.0 + 1 + kept as u64));
        let from = head.last().map_or(before, Entry::id);
        let tail = entries(from, &theirs, if is_liar { 2 } else { 1 });
        let all = head.iter().chain(tail.iter());
        let sent = Entries::after(
            before,
            all.map(|entry| (entry.term(), entry.payload().clone())).collect::<Vec<_>>(),
        );
        let mut expected = Meeting::Present;
        for entry in sent.iter() {
            match naive.iter().map(Entry::id).find(|id| id.index == entry.index()) {
                None => expected = Meeting::Extends(entry.index()),
                Some(mine) if mine == entry.id() => continue,
                Some(mine) if mine.term == entry.term() => {
                    expected = Meeting::Diverges(TwoEntries { mine, theirs: entry.id() });
                }
                Some(_) => expected = Meeting::Conflicts(entry.index()),
            }
            break;
        }
        prop_assert_eq!(log.meet(&sent), expected);
    }

    /// By hints alone, used on both sides, two logs find the last entry that they share, in no
    /// more rounds than there are terms in both.
    #[test]
    fn two_logs_find_their_last_common_entry_by_hints(
        common in items(5),
        cold in 0usize..6,
        mine in items(8),
        theirs in items(8),
    ) {
        let (log, _) = shared(&common, cold);
        let last_common = log.last();
        let (mut leader, mut follower) = (log.clone(), log);
        // Different leaders wrote the two ends: odd terms here, even ones there.
        let ends = |items: &Items, first: u64| -> Items {
            let rise = |at: usize, rise: u64| if at == 0 { first } else { 2 * rise };
            items.iter().enumerate().map(|(at, (up, size))| (rise(at, *up), *size)).collect()
        };
        leader.append(entries(last_common, &ends(&mine, 1), 1));
        follower.append(entries(last_common, &ends(&theirs, 2), 2));
        let terms = |log: &Log| {
            let ids = (log.base().index.0..=log.last().index.0).map(|index| log.term(Index(index)));
            let mut terms = ids.collect::<Vec<_>>();
            terms.dedup();
            terms.len()
        };
        let mut rounds = 0;
        let mut probe = leader.last();
        while follower.id(probe.index) != Some(probe) {
            rounds += 1;
            prop_assert!(rounds <= terms(&leader) + terms(&follower));
            let hint = match follower.id(probe.index) {
                None => follower.last(),
                Some(_) => follower
                    .last_at_most(probe.index.prev(), probe.term)
                    .expect("both begin with the same base"),
            };
            probe = leader.last_at_most(hint.index, hint.term).expect("the base is shared");
        }
        prop_assert_eq!(probe, last_common);
    }
}
