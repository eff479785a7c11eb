//! What a server knows of the damage to its own disk, and how its state is made whole again.
//!
//! Deliberately absent: whom to ask and whom to believe (the chapters on repair and the barrier).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Node;
use crate::durable::SnapshotMeta;
use crate::effect::{Observation, Violation};
use crate::entry::{Entries, Entry, Payload};
use crate::membership::Membership;
use crate::timers::Timer;
use crate::types::{EntryId, Index, Member, RepairId, Span};

/// The end of the log is unknown: how far a leader of this term had come when it was asked, and how
/// far this log is known to equal that leader's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Doubt {
    pub(crate) barrier: Option<Index>,
    pub(crate) matched: Index,
}

/// A question to all peers about a damaged entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Repair {
    pub(crate) id: RepairId,
    /// The entry.
    pub(crate) wanted: EntryId,
    /// Whether a snapshot through it is wanted.
    pub(crate) is_snapshot: bool,
    /// Until it is over, nobody is asked again.
    pub(crate) patience: Timer,
    /// Whether `patience` has ended before, and nobody had helped.
    pub(crate) is_overdue: bool,
    /// The answers so far, sorted by member.
    pub(crate) answers: Vec<(Member, Nack)>,
}

/// The answer of a peer that it cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Nack {
    /// It never had the entry.
    Never,
    /// It may have had it.
    Damaged,
}

/// A peer waits for what the host reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lending {
    pub(crate) to: Member,
    pub(crate) id: RepairId,
    pub(crate) what: Lent,
}

/// What a host reads for a peer in repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lent {
    /// A cold entry.
    Entry(EntryId),
    /// A part of the newest snapshot.
    Chunk,
}

impl Lending {
    /// Whether the other one has to wait until this one has been read.
    pub(crate) fn is_in_the_way_of(&self, other: &Self) -> bool {
        let is_entry = |lending: &Self| matches!(lending.what, Lent::Entry(_));
        self.to == other.to && is_entry(self) == is_entry(other)
    }
}

impl Node {
    /// The log is known to hold all that this node may ever have acknowledged.
    pub(crate) fn end_doubt(&mut self) {
        assert!(self.hard_state.is_tail_unknown, "only a doubt can end");
        self.doubt = None;
        self.hard_state.is_tail_unknown = false;
        self.gate.stage_amended(self.hard_state);
        self.refresh_standing();
        self.observe(Observation::TailCertain);
    }

    /// The log equals that of the term's leader through `index`.
    pub(crate) fn note_match(&mut self, index: Index) {
        if let Some(doubt) = &mut self.doubt {
            doubt.matched = doubt.matched.max(index);
        }
    }

    /// The log ends at `last` now, so nothing beyond counts as compared with the leader's log. An honest
    /// leader never takes away what matched within its term; the cap keeps a faulty one from ending the
    /// doubt too early.
    #[cold]
    pub(crate) fn cap_match(&mut self, last: Index) {
        if let Some(doubt) = &mut self.doubt {
            doubt.matched = doubt.matched.min(last);
        }
    }

    /// Puts those of `entries` that are damaged here, and that nothing heals yet, in the place of the
    /// damaged ones. All of them have the identities that the log has.
    pub(crate) fn heal(&mut self, entries: &Entries) {
        let gate = &self.gate;
        let is_wanted = |entry: &&Entry| gate.is_open_hole(entry.index());
        let wanted: Vec<Index> =
            entries.iter().filter(is_wanted).map(|entry| entry.index()).collect();
        if wanted.is_empty() {
            return;
        }
        let runs = wanted.chunk_by(|a, b| a.next() == *b);
        let runs = runs.map(|run| entries.slice(run[0], run[run.len() - 1].next()));
        let runs: Vec<Entries> = runs.collect();
        for entry in runs.iter().flat_map(|run| run.iter()) {
            assert!(self.log.id(entry.index()) == Some(entry.id()), "what heals is what was there");
            self.find_membership(entry);
        }
        self.gate.stage_heal(runs);
        self.observe(Observation::Healed { first: wanted[0], count: wanted.len() as u64 });
    }

    /// A membership whose entry was damaged is known again.
    fn find_membership(&mut self, entry: &Entry) {
        let Payload::Membership(membership) = entry.payload() else { return };
        let index = entry.index();
        self.lost_memberships.retain(|lost| *lost != index);
        let position = self.memberships.partition_point(|(at, _)| *at < index);
        if self.memberships.get(position).is_none_or(|(at, _)| *at != index) {
            self.memberships.insert(position, (index, Arc::clone(membership)));
        }
        self.refresh_standing();
        let membership = Membership::clone(self.membership());
        self.observe(Observation::MembershipChanged { membership });
    }

    /// Whether a snapshot through `index` would replace something that is damaged here.
    pub(crate) fn is_missed_by(&self, index: Index) -> bool {
        self.is_snapshot_damaged || self.gate.first_open_hole().is_some_and(|hole| hole <= index)
    }

    /// How a snapshot contradicts the log, if it does: the log has another history at its last entry although
    /// index and term are equal, or although the entry here is committed; or another membership there,
    /// which the chain of that entry does not cover. Then nothing is installed or acknowledged.
    pub(crate) fn contradiction(&self, snapshot: &SnapshotMeta) -> Option<Violation> {
        let last = snapshot.last;
        let mine = self.log.id(last.index)?;
        let (index, commit) = (last.index, self.commit);
        if mine == last {
            let known = self.membership_at(index);
            let is_other = known.is_some_and(|known| **known != snapshot.membership);
            is_other.then_some(Violation::MembershipMismatch { index })
        } else if mine.term == last.term {
            Some(Violation::ChainMismatch { index, mine: mine.chain, theirs: last.chain })
        } else {
            (index <= commit).then_some(Violation::CommittedConflict { index, commit })
        }
    }

    /// Lets time pass for what does not belong to a role.
    pub(crate) fn pass(&mut self, elapsed: Span) {
        self.promise.pass(elapsed);
        if let Some(repair) = &mut self.repair {
            repair.patience.pass(elapsed);
        }
    }

    /// The first damaged entry; the end of the log if there is none.
    pub(crate) fn damaged_at(&self) -> Index {
        self.gate.first_hole().unwrap_or(self.log.last().index)
    }

    /// The membership that was appended as the entry at `index`, if it is known.
    pub(crate) fn membership_appended_at(&self, index: Index) -> Option<Arc<Membership>> {
        if index <= self.snapshot.last.index {
            return None; // What is kept for this index may be the snapshot's, appended elsewhere.
        }
        let found = self.memberships.binary_search_by_key(&index, |(at, _)| *at).ok()?;
        Some(Arc::clone(&self.memberships[found].1))
    }

    /// Whether only the description of the snapshot is left here.
    pub(crate) fn is_snapshot_damaged(&self) -> bool {
        self.is_snapshot_damaged
    }

    /// Whether anything of the state is damaged, healed but not durable included.
    #[inline]
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_snapshot_damaged || self.gate.hole_count() > 0
    }
}
