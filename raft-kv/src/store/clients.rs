//! Named clients: a command that is tried again takes effect once (thesis §6.3).
//!
//! A client numbers its commands and waits for one before it sends the next. For each client the last
//! number and its answer are kept, part of every snapshot. When there are too many clients, the one
//! that was silent for longest is forgotten; a retry of its last command would be executed again, so
//! the table is large.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::Index;
use raft_replica::session::{Executed, SessionId, Sessions, Verdict};
use serde::{Deserialize, Serialize};

use super::StoreResponse;

/// How many clients are remembered. All members must agree on it, so it is no option.
const CLIENTS_MAX: u32 = 10_000;

/// What makes a second try of a command known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Once {
    /// The client's name, of its own choice.
    pub client: Bytes,
    /// Rises from command to command of the client; equal for the tries of one.
    pub serial: u64,
}

/// What is known of a command.
#[derive(Debug)]
pub(super) enum Admitted {
    /// It is new: execute it, then record its response.
    Fresh(SessionId),
    /// It was executed before, with this response.
    Before(StoreResponse),
    /// A later one was.
    Overtaken,
}

/// The table of clients.
///
/// Invariant: the names lead to different sessions, each of which is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clients {
    names: BTreeMap<Bytes, SessionId>,
    sessions: Sessions,
}

impl Clients {
    pub(super) fn admit(&mut self, index: Index, once: &Once) -> Admitted {
        let session = match self.names.get(&once.client) {
            Some(session) => *session,
            None => self.open(index, once.client.clone()),
        };
        match self.sessions.admit(index, session, once.serial) {
            Verdict::Fresh => Admitted::Fresh(session),
            Verdict::Duplicate(executed) => Admitted::Before(
                postcard::from_bytes(&executed.response).unwrap_or(StoreResponse::Overtaken),
            ),
            Verdict::Stale => Admitted::Overtaken,
            Verdict::Expired => unreachable!("a name leads to an open session"),
        }
    }

    pub(super) fn record(
        &mut self,
        session: SessionId,
        index: Index,
        serial: u64,
        response: &StoreResponse,
    ) {
        let response = postcard::to_allocvec(response).expect("numbers always serialize").into();
        self.sessions.record(session, Executed { serial, index, response });
    }

    /// Whether the invariant holds for a table that was read.
    pub(super) fn is_valid(&self, last: Index) -> bool {
        let mut named: Vec<SessionId> = self.names.values().copied().collect();
        named.sort_unstable();
        named.windows(2).all(|pair| pair[0] < pair[1])
            && named.len() == self.sessions.len()
            && named.iter().all(|session| self.sessions.is_open(*session))
            && self.sessions.is_valid(last)
    }

    fn open(&mut self, index: Index, client: Bytes) -> SessionId {
        let session = self.sessions.open(index, CLIENTS_MAX);
        self.names.insert(client, session);
        if self.names.len() > self.sessions.len() {
            let sessions = &self.sessions;
            self.names.retain(|_, session| sessions.is_open(*session));
        }
        session
    }
}
