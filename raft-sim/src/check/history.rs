//! What clients see: their requests, and how these end.
//!
//! The ghost knows in which order the log has put the writes, so a history needs no search: every
//! completed request has a place in the log, and it is enough to keep the highest place of all
//! that are complete. A request that begins now must come after it.

use std::collections::BTreeMap;

use raft_core::{Index, Time};
use raft_replica::machine::StateMachine;
use raft_replica::session::SessionId;

/// A simulated client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A client's request, numbered by the client. All attempts at one request share the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<C, Q> {
    /// A new session.
    OpenSession,
    /// A change, to take effect once.
    Command {
        /// The session.
        session: SessionId,
        /// The client's number for this change within the session.
        serial: u64,
        /// The change.
        command: C,
    },
    /// A linearizable read.
    Query {
        /// The question.
        query: Q,
    },
}

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R, A> {
    /// The session is open.
    Opened {
        /// Its name.
        session: SessionId,
    },
    /// The change took effect.
    Response {
        /// What the state machine answered.
        response: R,
        /// Where in the log it took effect.
        index: Index,
    },
    /// The read was answered.
    Answer {
        /// What the state machine answered.
        answer: A,
        /// The last entry that the answer takes into account.
        index: Index,
    },
    /// The session is not open: the last attempt had no effect, an earlier one may have had.
    Expired,
    /// The session has executed a later serial: the last attempt had no effect.
    Stale,
    /// The request never took effect and never will: no attempt at it is in any log.
    Failed,
    /// The client gave up without knowing.
    Unknown,
}

/// What the clients of a state machine ask for.
pub type Asked<M> = Operation<<M as StateMachine>::Command, <M as StateMachine>::Query>;
/// How their requests end.
pub type Answered<M> = Outcome<<M as StateMachine>::Response, <M as StateMachine>::Answer>;

/// A request without an outcome.
#[derive(Clone, Debug)]
pub(super) struct Open<M: StateMachine> {
    pub(super) operation: Asked<M>,
    /// When it began.
    pub(super) since: Time,
    /// The highest place in the log of all that was complete when it began.
    pub(super) floor: Index,
}

/// The requests of all clients.
#[derive(Clone, Debug)]
pub(super) struct History<M: StateMachine> {
    open: BTreeMap<(ClientId, OperationId), Open<M>>,
    /// The highest place in the log of all that is complete.
    floor: Index,
}

impl<M: StateMachine> History<M> {
    pub(super) fn new() -> Self {
        Self { open: BTreeMap::new(), floor: Index::ZERO }
    }

    pub(super) fn begin(&mut self, key: (ClientId, OperationId), operation: Asked<M>, now: Time) {
        let open = Open { operation, since: now, floor: self.floor };
        assert!(self.open.insert(key, open).is_none(), "a request begins once");
    }

    pub(super) fn end(&mut self, key: (ClientId, OperationId)) -> Open<M> {
        self.open.remove(&key).expect("a request begins before it ends, and ends once")
    }

    /// A request is complete, with its place in the log.
    pub(super) fn complete(&mut self, index: Index) {
        self.floor = self.floor.max(index);
    }

    /// Before this index nobody will be told what there was.
    pub(super) fn horizon(&self) -> Index {
        self.open.values().map(|open| open.floor).min().unwrap_or(self.floor)
    }
}
