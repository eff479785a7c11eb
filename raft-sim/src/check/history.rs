//! What clients see: their requests, and how these end.
//!
//! The ghost knows in which order the log has put the writes, so a history needs no search: every
//! completed request has a place in the log, and it is enough to keep the highest place of all
//! that are complete. A request that begins now must come after it.

use std::collections::BTreeMap;

use raft_core::{Index, Time};
use raft_replica::kv::{KvAnswer, KvCommand, KvQuery, KvResponse};
use raft_replica::session::SessionId;

/// A simulated client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A client's request, numbered by the client. All attempts at one request share the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new session.
    OpenSession,
    /// A change, to take effect once.
    Command {
        /// The session.
        session: SessionId,
        /// The client's number for this change within the session.
        serial: u64,
        /// The change.
        command: KvCommand,
    },
    /// A linearizable read.
    Query {
        /// The question.
        query: KvQuery,
    },
}

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The session is open.
    Opened {
        /// Its name.
        session: SessionId,
    },
    /// The change took effect.
    Response {
        /// What the state machine answered.
        response: KvResponse,
        /// Where in the log it took effect.
        index: Index,
    },
    /// The read was answered.
    Answer {
        /// What the state machine answered.
        answer: KvAnswer,
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

/// A request without an outcome.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) operation: Operation,
    /// When it began.
    pub(super) since: Time,
    /// The highest place in the log of all that was complete when it began.
    pub(super) floor: Index,
}

/// The requests of all clients.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    open: BTreeMap<(ClientId, OperationId), Open>,
    /// The highest place in the log of all that is complete.
    floor: Index,
}

impl History {
    pub(super) fn begin(&mut self, key: (ClientId, OperationId), operation: Operation, now: Time) {
        let open = Open { operation, since: now, floor: self.floor };
        assert!(self.open.insert(key, open).is_none(), "a request begins once");
    }

    pub(super) fn end(&mut self, key: (ClientId, OperationId)) -> Open {
        self.open.remove(&key).expect("a request begins before it ends, and ends once")
    }

    /// A request is complete, with its place in the log.
    pub(super) fn complete(&mut self, index: Index) {
        self.floor = self.floor.max(index);
    }
}
