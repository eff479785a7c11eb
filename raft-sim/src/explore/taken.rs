//! A step of one server, as coverage and landmarks look at it.

use raft_core::{Effect, EntryId, Envelope, Index, Observation, RoleName, Rpc, Status};

use super::facts::Fact;
use super::host::{Host, Input};

/// A step of one server, with what can be seen of it.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) before: &'a Host,
    pub(crate) input: &'a Input,
    pub(crate) effects: &'a [Effect],
    pub(crate) facts: &'a [Fact],
    pub(crate) after: &'a Host,
    /// The status before and after.
    pub(crate) was: Status,
    pub(crate) is: Status,
}

impl<'a> Taken<'a> {
    pub(crate) fn new(
        before: &'a Host,
        input: &'a Input,
        effects: &'a [Effect],
        facts: &'a [Fact],
        after: &'a Host,
    ) -> Self {
        let (was, is) = (before.raft.status(), after.raft.status());
        Self { before, input, effects, facts, after, was, is }
    }

    /// The message that arrives, if one does.
    pub(crate) fn letter(&self) -> Option<&Envelope> {
        if let Input::Deliver(envelope) = self.input { Some(envelope) } else { None }
    }

    pub(crate) fn is_crash(&self) -> bool {
        matches!(self.input, Input::Crash { .. })
    }

    /// Whether it sends such a message.
    pub(crate) fn sends(&self, is_meant: impl Fn(&Rpc) -> bool) -> bool {
        self.effects.iter().any(|effect| match effect {
            Effect::Send(envelope) => is_meant(&envelope.rpc),
            Effect::Persist(_)
            | Effect::Apply { .. }
            | Effect::RestoreState { .. }
            | Effect::Outcome { .. }
            | Effect::ReadReady { .. }
            | Effect::Load(_)
            | Effect::ReadChunk(_)
            | Effect::StageChunk { .. }
            | Effect::Observe(_) => false,
        })
    }

    pub(crate) fn observes(&self, is_meant: impl Fn(&Observation) -> bool) -> bool {
        let is = |effect: &Effect| matches!(effect, Effect::Observe(seen) if is_meant(seen));
        self.effects.iter().any(is)
    }

    pub(crate) fn is_fact(&self, is_meant: impl Fn(&Fact) -> bool) -> bool {
        self.facts.iter().any(is_meant)
    }

    /// Whether the role changes from one to another, by other means than a crash.
    pub(crate) fn turns(&self, from: RoleName, to: RoleName) -> bool {
        self.was.role == from && self.is.role == to && !self.is_crash()
    }

    /// Entries that the log had before and has no more.
    pub(crate) fn lost(&self) -> impl Iterator<Item = EntryId> {
        let span = self.was.base.index.0 + 1..=self.was.last.index.0;
        let old = span.filter_map(|index| self.before.raft.entry_id(Index(index)));
        old.filter(|id| {
            id.index > self.is.base.index && self.after.raft.entry_id(id.index) != Some(*id)
        })
    }

    /// A vote that a crash takes back.
    pub(crate) fn is_vote_lost(&self) -> bool {
        let is_kept = self.was.term == self.is.term && self.was.vote == self.is.vote;
        self.is_crash() && self.was.vote.is_some() && !is_kept
    }
}
