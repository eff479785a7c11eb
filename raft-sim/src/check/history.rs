//! What clients see: their requests and the answers to them, in the checker's own words.

use bytes::Bytes;
use raft_core::Index;

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
    /// A change, under a session and with a serial number that makes it take effect once.
    Write {
        /// The session: the index of the entry that opened it.
        session: Index,
        /// The client's number for this write within the session.
        serial: u64,
        /// The change.
        write: Write,
    },
    /// The value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// The first keys with a prefix, in order, with their values.
    Scan {
        /// The prefix.
        prefix: Bytes,
        /// The most keys.
        limit: usize,
    },
}

/// A change to the key-value store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key has this value from now on.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// The key has no value from now on.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// The key's value becomes `new` if it is `expect`.
    Cas {
        /// The key.
        key: Bytes,
        /// The value that it must have; `None`: no value.
        expect: Option<Bytes>,
        /// The value that it then gets; `None`: no value.
        new: Option<Bytes>,
    },
}

impl Write {
    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Cas { key, .. } => key,
        }
    }
}

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The session is open.
    Opened {
        /// The session: the index of its entry.
        session: Index,
    },
    /// The write took effect.
    Written {
        /// The index that the answer names.
        index: Index,
        /// Whether the key was changed: false for a compare-and-swap that found another value.
        changed: bool,
        /// The value of the key before.
        previous: Option<Bytes>,
    },
    /// The value of a key.
    Got {
        /// The index through which the machine that answered had applied the log.
        index: Index,
        /// The value.
        value: Option<Bytes>,
    },
    /// The keys of a scan with their values.
    Scanned {
        /// The index through which the machine that answered had applied the log.
        index: Index,
        /// Keys and values, in the order of the answer.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// The session is not known: this attempt had no effect, an earlier one may have had.
    Expired,
    /// The serial is older than the session's newest: this attempt had no effect.
    Stale,
    /// The request certainly never took effect and never will: no attempt at it is in any log.
    Failed,
    /// The client gave up without knowing.
    Unknown,
}
