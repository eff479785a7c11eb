//! The vocabulary: one newtype for each thing that must not be mixed up with another.
//!
//! An index, a term, an incarnation and a session are all counters; none of them is a `u64` here.
//! Counters are bounded by [`LIMIT`], so that whatever a rule adds to them cannot overflow.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Terms, indices, incarnations, sessions, epochs and read rounds are below this bound (2^62).
///
/// Input at or above it is refused before any state changes; nothing that the rules compute from
/// values below it can overflow a `u64`.
pub const LIMIT: u64 = 1 << 62;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The first value: nothing has happened yet.
            pub const ZERO: Self = Self(0);

            /// The value after this one.
            ///
            /// # Panics
            /// At `u64::MAX`, far above [`LIMIT`].
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// Whether the value lies below [`LIMIT`].
            #[must_use]
            pub fn is_valid(self) -> bool {
                self.0 < LIMIT
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

counter!(
    /// A term (§5.1): the logical clock of elections. `t0` is before the first election.
    Term,
    "t"
);
counter!(
    /// A position in the log. Entries start at 1; index 0 is the genesis snapshot.
    Index,
    "i"
);
counter!(
    /// How often a node of one lineage has started. Raised, and durable, before the node speaks.
    Incarnation,
    "inc"
);
counter!(
    /// One stream of appends from a leader to a peer. Responses echo it; those of another session
    /// are dropped, so a delayed acknowledgement from an earlier life of the peer counts for
    /// nothing: it could belong to what the peer has lost since, in the same term.
    Session,
    "s"
);
counter!(
    /// The cluster epoch: raised only when an operator overrides a lost quorum. A message of a
    /// lower epoch is refused, one of a higher epoch halts the node that was left behind.
    Epoch,
    "e"
);
counter!(
    /// A round of ReadIndex confirmations (thesis §6.4), numbered by the leader within its term.
    Round,
    "r"
);

impl Index {
    /// The index before this one; zero stays zero.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

identity!(
    /// The name by which operators know a server. A replaced disk keeps the id and changes the
    /// [`Lineage`].
    NodeId,
    "n{}"
);
identity!(
    /// A random number drawn by the host when a data directory is formatted. A wiped node cannot
    /// know that it was wiped; its new directory makes it somebody else.
    Lineage,
    "l{:x}"
);
identity!(
    /// The cluster that a message belongs to; drawn once when the cluster is founded.
    ClusterId,
    "c{:x}"
);
identity!(
    /// One Raft group among the many that a cluster may host.
    GroupId,
    "g{}"
);
identity!(
    /// The host's name for a request. No ticket ends twice; when one may stay open, see
    /// [`Outcome`](crate::Outcome). The host must not use one for two requests that are open at the same
    /// time.
    Ticket,
    "#{}"
);
identity!(
    /// The checksum of the log through one entry: equal chains, equal histories.
    ///
    /// See [`crate::entry`] for what is hashed.
    Chain,
    "{:016x}"
);

/// A member of a group: a server id together with the lineage of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The server.
    pub id: NodeId,
    /// The data directory that the group admitted.
    pub lineage: Lineage,
}

impl Member {
    /// The member `id` with the data directory `lineage`.
    #[must_use]
    pub fn new(id: u64, lineage: u64) -> Self {
        Self { id: NodeId(id), lineage: Lineage(lineage) }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// What identifies an entry of the log apart from its payload.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EntryId {
    /// Where it stands.
    pub index: Index,
    /// The term of the leader that created it.
    pub term: Term,
    /// The checksum of the log through it.
    pub chain: Chain,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.term, self.index)
    }
}

/// A moment of the host's monotonic clock, in microseconds. Only differences matter.
///
/// A node takes the latest reading that it has seen for the present: where a clock goes back, its time
/// stands still until the clock has caught up. Elections, heartbeats and the end of promises come later
/// then, which does no harm; a lease would last too long, so a leader that sees its clock go back has none
/// any more. What happens between two messages nobody sees: a host must not rely on that.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// The span from `earlier` to this moment; zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Follows a reading of the host's clock, forward only; how far that was.
    pub(crate) fn follow(&mut self, reading: Self) -> Span {
        let elapsed = reading.since(*self);
        *self = self.after(elapsed);
        elapsed
    }

    /// The moment `span` later, or the end of time.
    #[must_use]
    pub fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

/// A length of time in microseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Span {
    /// What is left of this span after `elapsed`, saturating at zero.
    #[must_use]
    pub fn less(self, elapsed: Self) -> Self {
        Self(self.0.saturating_sub(elapsed.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

/// The number of a persist batch: the incarnation that issued it, then a counter from 1.
///
/// The incarnation makes a completion that outlives a restart recognisable.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PersistSeq {
    /// The incarnation that issued the batch.
    pub incarnation: Incarnation,
    /// The position in that incarnation's stream, from 1.
    pub n: u64,
}

/// A question about the read index that a follower asks its leader.
///
/// The incarnation keeps the answer to an earlier life of the asker from answering a later one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ReadId {
    /// The incarnation of the node that asks.
    pub incarnation: Incarnation,
    /// The position among that incarnation's questions, from 1.
    pub n: u64,
}

/// A chunk of a snapshot that the host was asked to stage.
///
/// Every chunk has a number of its own, also when it comes a second time: so an answer that is late
/// or repeated cannot stand for another chunk, whatever snapshot and place the two have in common.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ChunkId {
    /// The incarnation that asked.
    pub incarnation: Incarnation,
    /// The position among that incarnation's chunks, from 1.
    pub n: u64,
}

/// A question about a damaged entry that a node asks its peers.
///
/// The incarnation keeps an answer from answering what a later life of the asker has asked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RepairId {
    /// The incarnation of the node that asks.
    pub incarnation: Incarnation,
    /// The position among that incarnation's questions, from 1.
    pub n: u64,
}

impl fmt::Display for RepairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation.0, self.n)
    }
}

impl fmt::Display for ReadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation.0, self.n)
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation.0, self.n)
    }
}

impl fmt::Display for PersistSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation.0, self.n)
    }
}
