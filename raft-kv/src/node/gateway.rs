//! The session under which this server has the commands of its clients executed.
//!
//! A replica executes nothing outside of a session (thesis §6.3). Clients of the server need none: this
//! one is the server's own, opened when it first leads, and numbers the commands in the order in which
//! they are proposed. It never tries one twice, so it needs the session's memory for nothing; clients
//! that do try twice say so (`store::Once`), and that holds across servers.

use std::mem;

use raft_replica::request::RequestId;
use raft_replica::session::SessionId;
use tokio::sync::oneshot;

use super::{Reply, Share, Store, StoreCommand};

/// A command with who waits for its reply.
#[derive(Debug)]
pub(crate) struct Write {
    pub(super) command: StoreCommand,
    pub(super) answer: oneshot::Sender<Reply<Store>>,
    /// What it takes of what may be under way.
    pub(super) share: Option<Share>,
}

/// The state of the session.
#[derive(Debug, Default)]
pub(super) enum Gateway {
    /// There is none.
    #[default]
    Closed,
    /// It is being opened; these wait for it.
    Opening { request: RequestId, writes: Vec<Write> },
    /// It is open.
    Open { session: SessionId, serial: u64 },
}

impl Gateway {
    /// The session and the number of the next command, if it is open.
    pub(super) fn next(&mut self) -> Option<(SessionId, u64)> {
        let Self::Open { session, serial } = self else { return None };
        *serial += 1;
        Some((*session, *serial))
    }

    /// Takes note of the answer to its request: what waited, to be proposed if the session is open.
    pub(super) fn opened(&mut self, session: Option<SessionId>) -> Vec<Write> {
        let next = session.map_or(Self::Closed, |session| Self::Open { session, serial: 0 });
        match mem::replace(self, next) {
            Self::Opening { writes, .. } => writes,
            Self::Closed | Self::Open { .. } => Vec::new(),
        }
    }

    /// The session is gone. What waits for the next one goes on waiting.
    pub(super) fn close(&mut self) {
        if matches!(self, Self::Open { .. }) {
            *self = Self::Closed;
        }
    }

    /// Whether this is its request.
    pub(super) fn asked(&self, id: RequestId) -> bool {
        matches!(self, Self::Opening { request, .. } if *request == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_gone_takes_nobody_along_who_waits_for_the_next() {
        let request = RequestId(7);
        let (answer, _reply) = oneshot::channel();
        let command =
            StoreCommand::RemovePeer { id: raft_core::NodeId(1), since: raft_core::Index(1) };
        let writes = vec![Write { command, answer, share: None }];
        let mut gateway = Gateway::Opening { request, writes };
        gateway.close();
        assert!(gateway.asked(request));
        let session = SessionId(3);
        assert_eq!(gateway.opened(Some(session)).len(), 1, "they are still there");
        assert!(gateway.next().is_some());
        gateway.close();
        assert!(gateway.next().is_none());
    }
}
