//! Bytes read as whatever a target asks for: numbers, members, entries, memberships.
//!
//! Small numbers are likely, so that different parts of an input speak of the same things; numbers
//! around the limits are possible. An input that has ended reads as zeros.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Chain, Entries, EntryId, Index, LIMIT, Member, MemberStep, Membership, MembershipChange,
    Payload, SnapshotMeta, Term,
};

/// An input that is being read.
pub(crate) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        byte
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, which is at most 256.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            0xf8 => LIMIT - 2,
            0xf9 => LIMIT - 1,
            0xfa => LIMIT,
            0xfb => LIMIT + 1,
            0xfc..=0xff => u64::MAX,
            small => u64::from(small % 12),
        }
    }

    /// One of three members, a stranger, or a member's id with another lineage.
    pub(crate) fn member(&mut self) -> Member {
        match self.below(5) {
            3 => Member::new(9, 9),
            4 => Member::new(2, 99),
            known => Member::new(known as u64 + 1, (known as u64 + 1) * 7),
        }
    }

    pub(crate) fn entry_id(&mut self) -> EntryId {
        let (index, term) = (Index(self.number()), Term(self.number()));
        EntryId { index, term, chain: Chain(self.number()) }
    }

    pub(crate) fn command(&mut self) -> Bytes {
        let length = self.below(12);
        Bytes::from(vec![self.byte(); length])
    }

    pub(crate) fn payload(&mut self) -> Payload {
        match self.below(8) {
            0 | 1 => Payload::Noop,
            2 => Payload::Membership(Arc::new(self.membership())),
            _ => Payload::Command(self.command()),
        }
    }

    /// Entries whose terms may do anything. `before` is far enough from overflowing.
    pub(crate) fn entries(&mut self, before: EntryId) -> Entries {
        let items = (0..self.below(5)).map(|_| (Term(self.number()), self.payload()));
        let items: Vec<_> = items.collect();
        if before.index.0 > LIMIT { Entries::empty() } else { Entries::after(before, items) }
    }

    /// Any membership that can be made: the invalid ones cannot.
    pub(crate) fn membership(&mut self) -> Membership {
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        for _ in 0..self.below(4) {
            let list = if self.flag() { &mut learners } else { &mut voters };
            list.push(self.member());
        }
        Membership::new(voters, learners).unwrap_or_default()
    }

    /// Any change of a membership.
    pub(crate) fn change(&mut self) -> MembershipChange {
        let kind = self.below(5);
        if kind == 4 {
            return MembershipChange::LeaveJoint;
        }
        let steps = (0..self.below(4)).map(|_| self.member_step()).collect();
        if kind == 3 { MembershipChange::EnterJoint(steps) } else { MembershipChange::Steps(steps) }
    }

    fn member_step(&mut self) -> MemberStep {
        match self.below(5) {
            0 => MemberStep::AddLearner(self.member()),
            1 => MemberStep::Promote(self.member().id),
            2 => MemberStep::Demote(self.member().id),
            3 => MemberStep::Remove(self.member().id),
            _ => MemberStep::Replace { old: self.member().id, new: self.member().id },
        }
    }

    pub(crate) fn snapshot(&mut self) -> Arc<SnapshotMeta> {
        let last = self.entry_id();
        Arc::new(SnapshotMeta { last, membership: self.membership() })
    }
}
