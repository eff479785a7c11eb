//! Client sessions (thesis §6.3): how a command that is sent twice takes effect once.
//!
//! A client opens a session through the log; the index of that entry is the session's name. Each
//! of its commands carries the session and a serial number that rises from command to command. The
//! table remembers, per session, the last serial and its response: a retry of the last command is
//! answered from there, anything older is refused. The table is part of the replicated state and
//! of its snapshots, so this holds across restarts and changes of leader.
//!
//! The table is bounded. When it is full, opening a session expires the one whose last use lies
//! furthest back in the log; a command of an expired session is refused and changes nothing. The
//! bound travels in the log entry that opens a session, because members may be configured
//! differently, and must nevertheless expire the same sessions.
//!
//! One thing is absent: sessions do not expire by time. The table holds one response each, so its
//! size is bounded all the same.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use bytes::Bytes;
use raft_core::Index;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The format of commands in the log, the first byte of each.
const COMMAND_VERSION: u8 = 1;

/// The name of a session: the index of the log entry that opened it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The session that the entry at `index` opens.
    #[must_use]
    pub fn opened_at(index: Index) -> Self {
        Self(index.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// What a command entry of the log says: a version byte, then this in `postcard`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogCommand<C> {
    /// Opens a session, named by the index of this entry.
    OpenSession {
        /// The most sessions that stay open, this one included; zero counts as one.
        sessions_max: u32,
    },
    /// Executes a command of the state machine, unless the session has executed it already.
    Apply {
        /// The client's session.
        session: SessionId,
        /// Rises from command to command of the session; equal for the retries of one.
        serial: u64,
        /// The command.
        command: C,
    },
}

impl<C: Serialize> LogCommand<C> {
    /// The bytes of a log entry.
    ///
    /// # Panics
    /// If the command breaks its contract, which says that it always serializes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![COMMAND_VERSION])
            .expect("commands serialize by the contract of a state machine")
            .into()
    }
}

impl<C: DeserializeOwned> LogCommand<C> {
    /// Reads back what [`LogCommand::encode`] wrote.
    ///
    /// # Errors
    /// [`MalformedCommand`] if the version is unknown, or the bytes are not exactly one command.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedCommand> {
        let Some((&COMMAND_VERSION, rest)) = bytes.split_first() else {
            return Err(MalformedCommand);
        };
        match postcard::take_from_bytes(rest) {
            Ok((command, [])) => Ok(command),
            Ok(_) | Err(_) => Err(MalformedCommand),
        }
    }
}

/// A log entry that is no command of this version. It changes nothing, on every member alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MalformedCommand;

impl fmt::Display for MalformedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the log entry is not a command of this version")
    }
}

impl Error for MalformedCommand {}

/// What the table says to a command before it is executed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is new: execute it, then [`Sessions::record`] its response.
    Fresh,
    /// It is a retry of the session's last command: answer the same again.
    Duplicate(Executed),
    /// Its serial is below the session's last one: it was executed and its response is gone, or a
    /// later command overtook it and it never will be.
    Stale,
    /// The session is not open: never opened, or expired.
    Expired,
}

/// The last command that a session has executed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Executed {
    /// Its serial.
    pub serial: u64,
    /// Where in the log it took effect.
    pub index: Index,
    /// Its encoded response.
    pub response: Bytes,
}

/// The table of sessions.
///
/// Invariants:
/// 1. a session's name is at most the index of its last use, and that is at most the last index
///    that the table was given;
/// 2. no two sessions have the same index of last use, since an entry concerns one session: so the
///    order of expiry is total.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sessions {
    open: BTreeMap<SessionId, Session>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Session {
    used: Index,
    last: Option<Executed>,
}

impl Sessions {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a session is open.
    #[must_use]
    pub fn is_open(&self, session: SessionId) -> bool {
        self.open.contains_key(&session)
    }

    /// The last command that a session has executed, if it is still open and has executed one.
    #[must_use]
    pub fn last(&self, session: SessionId) -> Option<&Executed> {
        self.open.get(&session)?.last.as_ref()
    }

    /// Opens the session named by `index`; those used least recently expire until at most
    /// `sessions_max` are open, the new one included.
    ///
    /// Looks at all sessions to find the one to expire: sessions are opened rarely, and an index by
    /// last use would cost every command.
    pub fn open(&mut self, index: Index, sessions_max: u32) -> SessionId {
        let session = SessionId::opened_at(index);
        while self.open.len() as u64 >= u64::from(sessions_max.max(1)) {
            let oldest = self.open.iter().min_by_key(|(_, session)| session.used);
            let Some((&oldest, _)) = oldest else { break };
            self.open.remove(&oldest);
        }
        self.open.insert(session, Session { used: index, last: None });
        session
    }

    /// Looks at a command that stands at `index`, which counts as a use of its session.
    pub fn admit(&mut self, index: Index, session: SessionId, serial: u64) -> Verdict {
        let Some(session) = self.open.get_mut(&session) else { return Verdict::Expired };
        session.used = index;
        match &session.last {
            Some(last) if serial < last.serial => Verdict::Stale,
            Some(last) if serial == last.serial => Verdict::Duplicate(last.clone()),
            Some(_) | None => Verdict::Fresh,
        }
    }

    /// Remembers the response of a command that was found [`Verdict::Fresh`].
    ///
    /// # Panics
    /// If the session is not open, or has executed that serial or a later one.
    pub fn record(&mut self, session: SessionId, executed: Executed) {
        let open = self.open.get_mut(&session).expect("an admitted command has a session");
        let is_newer = open.last.as_ref().is_none_or(|last| last.serial < executed.serial);
        assert!(is_newer, "serials of a session only rise");
        open.last = Some(executed);
    }

    /// Whether the invariants of the type hold for a table read from a snapshot through `last`.
    #[must_use]
    pub fn is_valid(&self, last: Index) -> bool {
        let mut uses: Vec<Index> = self.open.values().map(|session| session.used).collect();
        uses.sort_unstable();
        uses.windows(2).all(|pair| pair[0] < pair[1])
            && self.open.iter().all(|(id, session)| {
                let executed = session.last.as_ref().is_none_or(|last| last.index <= session.used);
                id.0 <= session.used.0 && session.used <= last && executed
            })
    }
}
