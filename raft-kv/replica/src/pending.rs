//! Requests that wait for their reply, and what each of them waits for.
//!
//! A proposal waits for its outcome from the core, and once it is committed for its entry to be
//! applied here; a request that repeats its command waits with it, and costs no entry. A read waits
//! for its index from the core, and then for the state to reach it; if its answer is good for a
//! limited time (a lease), that may be over by then. What an operator asks for waits for its
//! outcome alone.

use std::collections::{BTreeMap, btree_map};

use raft_core::{Index, ReadMode, Ticket, Time};

use crate::machine::StateMachine;
use crate::request::RequestId;
use crate::session::SessionId;

/// A proposal: what must be known of it to answer from the session once its entry is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) id: RequestId,
    pub(crate) asked: Asked,
}

/// What a proposal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A session.
    Session,
    /// A command.
    Command { session: SessionId, serial: u64 },
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read<M: StateMachine> {
    pub(crate) id: RequestId,
    pub(crate) query: M::Query,
    pub(crate) mode: ReadMode,
}

/// A read that may be answered once the state has reached its index.
#[derive(Clone, Debug)]
struct Confirmed<M: StateMachine> {
    read: Read<M>,
    /// From this moment on the confirmation is worth nothing.
    valid_until: Option<Time>,
}

/// What is to be done for a read whose index the state has reached.
#[derive(Debug)]
pub(crate) enum Readable<M: StateMachine> {
    /// Answer it.
    Now(Read<M>),
    /// Its lease has run out meanwhile: ask the core anew.
    TooLate(Read<M>),
}

/// Who waits for a command.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// How many proposals of it there are: one that the core has taken, and one that it refuses
    /// because the replica does not lead any more.
    proposals: usize,
    /// The requests that repeat it.
    repetitions: Vec<RequestId>,
}

/// All requests without a reply.
///
/// Invariants:
/// 1. a ticket or an index stands in one of the maps: a request waits for one thing;
/// 2. there are at most `requests_max` requests;
/// 3. a command whose repetitions wait has a proposal that waits.
#[derive(Clone, Debug)]
pub(crate) struct Pending<M: StateMachine> {
    requests_max: usize,
    last: Ticket,
    proposals: BTreeMap<Ticket, Proposal>,
    committed: BTreeMap<Index, Proposal>,
    /// The commands among them.
    commands: BTreeMap<(SessionId, u64), Waiting>,
    repetitions: usize,
    reads: BTreeMap<Ticket, Read<M>>,
    confirmed: BTreeMap<(Index, Ticket), Confirmed<M>>,
    operations: BTreeMap<Ticket, RequestId>,
}

impl<M: StateMachine> Pending<M> {
    pub(crate) fn new(requests_max: usize) -> Self {
        Self {
            requests_max,
            last: Ticket(0),
            proposals: BTreeMap::new(),
            committed: BTreeMap::new(),
            commands: BTreeMap::new(),
            repetitions: 0,
            reads: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            operations: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        let commands = self.proposals.len() + self.committed.len() + self.repetitions;
        let reads = self.reads.len() + self.confirmed.len();
        commands + reads + self.operations.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.requests_max
    }

    /// Names a proposal for the core.
    pub(crate) fn propose(&mut self, proposal: Proposal) -> Ticket {
        let ticket = self.ticket();
        self.proposals.insert(ticket, proposal);
        if let Asked::Command { session, serial } = proposal.asked {
            self.commands.entry((session, serial)).or_default().proposals += 1;
        }
        ticket
    }

    /// Whether a proposal of this command waits.
    pub(crate) fn has(&self, asked: Asked) -> bool {
        match asked {
            Asked::Command { session, serial } => self.commands.contains_key(&(session, serial)),
            Asked::Session => false,
        }
    }

    /// Lets a request wait with the proposal of the same command, which waits; says whether it does.
    /// Repetitions leave room for other requests.
    pub(crate) fn join(&mut self, proposal: Proposal) -> bool {
        let Asked::Command { session, serial } = proposal.asked else { return false };
        let Some(waiting) = self.commands.get_mut(&(session, serial)) else { return false };
        if self.repetitions >= self.requests_max / 4 {
            return false;
        }
        waiting.repetitions.push(proposal.id);
        self.repetitions += 1;
        true
    }

    /// The requests that repeat a command whose proposal waits no longer.
    pub(crate) fn repetitions(&mut self, asked: Asked) -> Vec<RequestId> {
        let Asked::Command { session, serial } = asked else { return Vec::new() };
        let btree_map::Entry::Occupied(mut entry) = self.commands.entry((session, serial)) else {
            unreachable!("a command that has a proposal is known");
        };
        entry.get_mut().proposals -= 1;
        if entry.get().proposals > 0 {
            return Vec::new();
        }
        let repetitions = entry.remove().repetitions;
        self.repetitions -= repetitions.len();
        repetitions
    }

    /// Everybody who waits for what became of a proposal, which waits no longer.
    pub(crate) fn all(&mut self, proposal: Proposal) -> impl Iterator<Item = RequestId> + use<M> {
        std::iter::once(proposal.id).chain(self.repetitions(proposal.asked))
    }

    /// Names a read for the core.
    pub(crate) fn read(&mut self, read: Read<M>) -> Ticket {
        let ticket = self.ticket();
        self.reads.insert(ticket, read);
        ticket
    }

    /// Names an operator's request for the core.
    pub(crate) fn operate(&mut self, id: RequestId) -> Ticket {
        let ticket = self.ticket();
        self.operations.insert(ticket, id);
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.last = Ticket(self.last.0 + 1);
        self.last
    }

    /// The proposal is committed and waits for its entry to be applied. An operator's request is
    /// done by that.
    pub(crate) fn commit(&mut self, ticket: Ticket, index: Index) -> Option<RequestId> {
        if let Some(id) = self.operations.remove(&ticket) {
            return Some(id);
        }
        let proposal = self.proposals.remove(&ticket).expect("every ticket ends once");
        let other = self.committed.insert(index, proposal);
        assert!(other.is_none(), "an entry has one proposal");
        None
    }

    /// The read is confirmed and waits for the state to reach its index.
    pub(crate) fn confirm(&mut self, ticket: Ticket, index: Index, valid_until: Option<Time>) {
        let read = self.reads.remove(&ticket).expect("every ticket ends once");
        self.confirmed.insert((index, ticket), Confirmed { read, valid_until });
    }

    /// The core has ended the request without a result; everybody who waits for it.
    pub(crate) fn end(&mut self, ticket: Ticket) -> Vec<RequestId> {
        if let Some(proposal) = self.proposals.remove(&ticket) {
            return self.all(proposal).collect();
        }
        if let Some(id) = self.operations.remove(&ticket) {
            return vec![id];
        }
        vec![self.reads.remove(&ticket).expect("every ticket ends once").id]
    }

    /// The proposal whose entry stands at `index`.
    pub(crate) fn take_applied(&mut self, index: Index) -> Option<Proposal> {
        self.committed.remove(&index)
    }

    /// The next proposal whose entry was passed over: it lies at `applied` or below it.
    pub(crate) fn take_passed(&mut self, applied: Index) -> Option<(Index, Proposal)> {
        let first = self.committed.first_entry().filter(|first| *first.key() <= applied)?;
        Some(first.remove_entry())
    }

    /// The next read whose index the state has reached.
    pub(crate) fn take_readable(&mut self, applied: Index, now: Time) -> Option<Readable<M>> {
        let first = self.confirmed.first_entry().filter(|first| first.key().0 <= applied)?;
        let Confirmed { read, valid_until } = first.remove();
        let is_valid = valid_until.is_none_or(|until| now < until);
        Some(if is_valid { Readable::Now(read) } else { Readable::TooLate(read) })
    }

    /// Everything that only an applied entry could have answered: committed proposals, then
    /// confirmed reads.
    pub(crate) fn abandon(&mut self) -> (Vec<RequestId>, Vec<RequestId>) {
        let committed = std::mem::take(&mut self.committed);
        let confirmed = std::mem::take(&mut self.confirmed);
        (
            committed.into_values().flat_map(|proposal| self.all(proposal)).collect(),
            confirmed.into_values().map(|confirmed| confirmed.read.id).collect(),
        )
    }
}
