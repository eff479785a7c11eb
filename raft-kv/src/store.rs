//! What the servers replicate: the map, what named clients have done, where the members are.
//!
//! [`Store`] is the key-value machine of `raft-replica` with three things that clients and operators
//! of a server need around it:
//!
//! * *conditions* on a key's version, which are HTTP's preconditions;
//! * *exactly-once* for commands that name their client and a number, or have a name of their own. A
//!   name is the client's choice and needs no session to be opened first (thesis §6.3);
//! * the *address book*: where the members listen. Consensus knows them by id and lineage alone.
//!
//! The last changes are kept for who watches. They are no part of the replicated state: every server
//! has those that it applied itself, and says so when it is asked for older ones.

mod clients;
mod recent;
mod restore;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::mem;

use bytes::Bytes;
use raft_core::{Index, Member, NodeId};
use raft_replica::kv::{Kv, KvAnswer, KvCommand, KvError, KvQuery, KvResponse};
use raft_replica::machine::{StateMachine, restore_at_once};
use serde::{Deserialize, Serialize};

pub use clients::Once;
pub use recent::{Change, Page, TooOld};
pub use restore::StoreRestore;

use clients::{Admitted, Clients};
use recent::Recent;

/// The format of a snapshot, its last byte.
const SNAPSHOT_VERSION: u8 = 2;

/// The bytes behind the second part of a snapshot: its length and the version.
const TRAILER_BYTES: usize = 5;

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreCommand {
    /// A client's command.
    Write {
        /// What makes a second try of it known; `None`: every try counts.
        once: Option<Once>,
        /// What must be so.
        condition: Condition,
        /// What to change then.
        write: KvCommand,
    },
    /// A member listens here.
    SetPeer(Peer),
    /// Forget where a member listened, unless something newer is noted of it.
    RemovePeer {
        /// Who.
        id: NodeId,
        /// The index of the entry of the book that is meant.
        since: Index,
    },
}

impl StoreCommand {
    /// The single name that it has.
    #[must_use]
    pub fn single(&self) -> Option<&Bytes> {
        match self {
            Self::Write { once: Some(Once::Single { name }), .. } => Some(name),
            Self::Write { once: Some(Once::Next { .. }) | None, .. }
            | Self::SetPeer(_)
            | Self::RemovePeer { .. } => None,
        }
    }
}

/// What must be so before a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing.
    Always,
    /// The key is absent.
    Absent,
    /// The key is there, whatever its version.
    Present,
    /// The key is there in one of these versions.
    VersionIn(Vec<Index>),
}

impl Condition {
    fn holds(&self, found: Option<Index>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::VersionIn(versions) => found.is_some_and(|found| versions.contains(&found)),
        }
    }
}

/// Where a member listens, and what it is meant to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The member.
    pub member: Member,
    /// Its address for other servers.
    pub address: String,
    /// The base of its URLs for clients.
    pub client_url: String,
    /// Whether it shall vote once it has caught up; whoever leads then promotes it.
    pub shall_vote: bool,
    /// Who leaves when it is promoted.
    pub replaces: Option<NodeId>,
    /// Whether it was no member yet when this was noted. The note comes first, then the change of the
    /// membership: in between it is a stranger, and must not be taken for one who has left.
    pub is_joining: bool,
}

/// An entry of the address book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// What was noted last.
    pub peer: Peer,
    /// The index of the command that noted it.
    pub since: Index,
}

/// The address book.
pub type Book = BTreeMap<NodeId, Noted>;

/// The answer to a [`StoreCommand`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreResponse {
    /// The change is made.
    Written {
        /// The version of the value, or the index at which the key went.
        version: Index,
        /// The version that was there before.
        previous: Option<Index>,
    },
    /// The condition does not hold: nothing is changed.
    Unmet {
        /// The version that is there.
        found: Option<Index>,
    },
    /// The key is too long: nothing is changed.
    KeyTooLong,
    /// The client has had a later command executed. Whether this one was, the answer to it said.
    Overtaken,
    /// The client is not known, and this is not its first command: nothing is changed now. It may be the
    /// second try of one that was executed before the client was forgotten.
    Forgotten,
    /// The address book is changed.
    Noted,
}

/// The replicated state of a server.
#[derive(Clone, Debug, Default)]
pub struct Store {
    kv: Kv,
    clients: Clients,
    peers: Book,
    /// The last command that was applied.
    last: Index,
    recent: Recent,
}

/// The state as of one moment. The map is shared with the present one; the rest is bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSnapshot {
    kv: Kv,
    tail: Tail,
}

/// What a snapshot holds behind the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tail {
    last: Index,
    clients: Clients,
    peers: Book,
}

impl Store {
    /// The map.
    #[must_use]
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// Where the members listen, as far as somebody has said.
    #[must_use]
    pub fn peers(&self) -> &Book {
        &self.peers
    }

    /// How many clients and single commands are remembered for their retries, and how many clients have
    /// been forgotten for others.
    #[must_use]
    pub fn names(&self) -> (usize, u64) {
        (self.clients.len(), self.clients.forgotten())
    }

    /// Whether a command under this single name is remembered.
    #[must_use]
    pub fn knows_single(&self, name: &Bytes) -> bool {
        self.clients.knows_single(name)
    }

    /// A page of the changes after an index of keys with a prefix, and the index through which nothing is
    /// missing in them.
    ///
    /// # Errors
    /// [`TooOld`] if older changes than are kept would belong to them.
    pub fn changes(
        &self,
        after: Index,
        prefix: &[u8],
        page: Page,
    ) -> Result<(Vec<Change>, Index), TooOld> {
        self.recent.after(after, prefix, page, self.last)
    }

    fn write(&mut self, index: Index, condition: &Condition, write: KvCommand) -> StoreResponse {
        // Most writes have no condition, and to look for the key is most of their work.
        if *condition != Condition::Always {
            let found = self.kv.get(write.key()).map(|found| found.version);
            if !condition.holds(found) {
                return StoreResponse::Unmet { found };
            }
        }
        let (key, value) = match &write {
            KvCommand::Put { key, value } => (key.clone(), Some(value.clone())),
            KvCommand::Delete { key } => (key.clone(), None),
            KvCommand::CompareAndSwap { key, new, .. } => (key.clone(), new.clone()),
        };
        match self.kv.apply(index, write) {
            KvResponse::Changed { previous } => {
                if value.is_some() || previous.is_some() {
                    self.recent.push(Change { index, key, value });
                }
                StoreResponse::Written { version: index, previous }
            }
            KvResponse::Differs { found } => StoreResponse::Unmet { found },
            KvResponse::KeyTooLong => StoreResponse::KeyTooLong,
        }
    }
}

impl StateMachine for Store {
    type Command = StoreCommand;
    type Response = StoreResponse;
    type Query = KvQuery;
    type Answer = KvAnswer;
    type Snapshot = StoreSnapshot;
    type Error = StoreError;
    type Restore = StoreRestore;

    fn apply(&mut self, index: Index, command: StoreCommand) -> StoreResponse {
        self.last = index;
        match command {
            StoreCommand::Write { once: None, condition, write } => {
                self.write(index, &condition, write)
            }
            StoreCommand::Write { once: Some(once), condition, write } => {
                match self.clients.admit(index, &once) {
                    Admitted::Before(response) => response,
                    Admitted::Overtaken => StoreResponse::Overtaken,
                    Admitted::Forgotten => StoreResponse::Forgotten,
                    Admitted::Fresh => {
                        let response = self.write(index, &condition, write);
                        self.clients.record(index, &once, &response);
                        response
                    }
                }
            }
            StoreCommand::SetPeer(peer) => {
                self.peers.insert(peer.member.id, Noted { peer, since: index });
                StoreResponse::Noted
            }
            StoreCommand::RemovePeer { id, since } => {
                if self.peers.get(&id).is_some_and(|noted| noted.since == since) {
                    self.peers.remove(&id);
                }
                StoreResponse::Noted
            }
        }
    }

    fn query(&self, query: &KvQuery) -> KvAnswer {
        self.kv.query(query)
    }

    fn snapshot(&self) -> StoreSnapshot {
        let tail =
            Tail { last: self.last, clients: self.clients.clone(), peers: self.peers.clone() };
        StoreSnapshot { kv: self.kv.snapshot(), tail }
    }

    /// The map comes first, so that what is by far the largest part is written once: its bytes, the
    /// rest in `postcard`, the rest's length as 4 bytes (little-endian), the version.
    fn encode(snapshot: &StoreSnapshot, bytes: &mut Vec<u8>) {
        Kv::encode(&snapshot.kv, bytes);
        let map_end = bytes.len();
        *bytes = postcard::to_extend(&snapshot.tail, mem::take(bytes))
            .expect("maps of strings and numbers serialize");
        let tail_bytes = u32::try_from(bytes.len() - map_end).expect("the tables are bounded");
        bytes.extend_from_slice(&tail_bytes.to_le_bytes());
        bytes.push(SNAPSHOT_VERSION);
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), StoreError> {
        restore_at_once(self, snapshot)
    }
}

/// Why bytes are not a snapshot of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreError {
    /// They are of a version that is not known here.
    UnknownVersion(u8),
    /// They do not decode, or the tables in them cannot be.
    Malformed,
    /// The map's part is wrong.
    Map(KvError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion(version) => {
                write!(f, "the snapshot of the store has the unknown version {version}")
            }
            Self::Malformed => f.write_str("the snapshot of the store is malformed"),
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl Error for StoreError {}
