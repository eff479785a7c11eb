//! A follower that does what it is told (§5.3, §7) and remembers only indices and terms. Terms that
//! its log does not share with the leader's are never the leader's, so an entry is known by these.

use std::collections::BTreeMap;

use raft_core::{AppendResult, EntryId, Index, Rpc, Session, Term};

use super::model::Answer;

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) life: u64,
    /// The term at each index, from the end of its snapshot on; nothing if it has never had a log.
    pub(crate) log: BTreeMap<u64, u64>,
    /// Whose bytes it has, and how many.
    staged: Option<(EntryId, u64)>,
}

impl Peer {
    pub(crate) fn new(log: BTreeMap<u64, u64>) -> Self {
        Self { life: 1, log, staged: None }
    }

    pub(crate) fn restart(&mut self) {
        self.life += 1;
        self.staged = None;
    }

    /// Takes what the leader sends, and answers in its stream.
    pub(crate) fn hear(&mut self, rpc: &Rpc) -> Option<(Session, Answer)> {
        if let Rpc::Heartbeat { session, .. } = rpc {
            return Some((*session, Answer::Heartbeat));
        }
        if let Rpc::AppendEntries { session, prev, entries, .. } = rpc {
            let terms: Vec<u64> = entries.iter().map(|entry| entry.term().0).collect();
            return Some((*session, Answer::Append(self.append(*prev, &terms))));
        }
        if let Rpc::InstallSnapshot { session, snapshot, offset, data, done, .. } = rpc {
            let (last, end) = (snapshot.last, offset + data.len() as u64);
            let staged = self.stage(last, *offset, data.len() as u64);
            if *done && staged == end {
                self.install(last);
                let result = AppendResult::Matched { index: last.index };
                return Some((*session, Answer::Append(result)));
            }
            return Some((*session, Answer::Staged { last, staged }));
        }
        assert!(matches!(rpc, Rpc::Commit { .. }), "a leader does not say {rpc} here");
        None
    }

    fn append(&mut self, prev: EntryId, terms: &[u64]) -> AppendResult {
        let (Some((base, _)), Some((last, last_term))) =
            (self.log.first_key_value(), self.log.last_key_value())
        else {
            return AppendResult::Blank;
        };
        let (base, rejected) = (*base, prev.index);
        let end = prev.index.0 + terms.len() as u64;
        if prev.index.0 > *last {
            let (hint, hint_term) = (Index(*last), Term(*last_term));
            return AppendResult::Conflict { rejected, hint, hint_term };
        }
        let is_covered = prev.index.0 < base;
        if is_covered && end < base || !is_covered && self.log[&prev.index.0] != prev.term.0 {
            let before = self.log.range(..prev.index.0.max(base)).rev();
            let known = self.log.first_key_value().expect("it has a log");
            let (hint, term) =
                before.into_iter().find(|(_, term)| **term <= prev.term.0).unwrap_or(known);
            return AppendResult::Conflict { rejected, hint: Index(*hint), hint_term: Term(*term) };
        }
        for (index, term) in (prev.index.0 + 1..).zip(terms).filter(|(index, _)| *index > base) {
            if self.log.get(&index).is_some_and(|found| found != term) {
                self.log.split_off(&index);
            }
            self.log.insert(index, *term);
        }
        AppendResult::Matched { index: Index(end.max(base)) }
    }

    /// Returns how much it has of this snapshot now.
    fn stage(&mut self, last: EntryId, offset: u64, length: u64) -> u64 {
        let staged = self.staged.filter(|(of, _)| *of == last).map_or(0, |(_, staged)| staged);
        let staged = if staged == offset { staged + length } else { staged };
        self.staged = Some((last, staged));
        staged
    }

    fn install(&mut self, last: EntryId) {
        self.staged = None;
        let base = self.log.first_key_value().map(|(base, _)| *base);
        if base.is_some_and(|base| base >= last.index.0) {
            return;
        }
        let rest = self.log.split_off(&last.index.0);
        let is_on_log = rest.get(&last.index.0) == Some(&last.term.0);
        self.log = if is_on_log { rest } else { BTreeMap::from([(last.index.0, last.term.0)]) };
    }
}
