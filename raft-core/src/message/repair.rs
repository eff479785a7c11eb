//! What nodes say to each other about damage to their disks.

use alloc::sync::Arc;

use bytes::Bytes;

use crate::durable::SnapshotMeta;
use crate::entry::Entries;
use crate::types::{EntryId, Incarnation, Index, RepairId};

/// A message about damage: a log whose end is unknown, an entry or a snapshot that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RepairRpc {
    /// A node that does not know how far its log once went asks its leader how far the leader's
    /// goes: once its own has come that far, it lacks nothing that it may have acknowledged.
    Barrier,
    /// The answer to `Barrier`.
    BarrierResponse {
        /// The incarnation that asked.
        incarnation: Incarnation,
        /// The last entry of the leader's log.
        index: Index,
    },
    /// A node with a damaged entry asks for an intact copy.
    RequestEntry {
        /// Names the question.
        id: RepairId,
        /// The entry.
        wanted: EntryId,
        /// Whether a snapshot through it is wanted, because the asker's own is damaged. Such a question
        /// asserts that the entry is committed, and the log before it, for a snapshot covers nothing
        /// else: a receiver that has this very entry takes its index for its own commit index.
        is_snapshot: bool,
    },
    /// The answer to `RequestEntry`.
    RequestEntryResponse {
        /// The echoed name.
        id: RepairId,
        /// What the peer has.
        result: EntryResult,
    },
    /// A node asks for a part of a snapshot that covers what is damaged there.
    RequestSnapshot {
        /// Names the question.
        id: RepairId,
        /// The last entry of the snapshot.
        snapshot: EntryId,
        /// The first byte.
        offset: u64,
    },
    /// The answer to `RequestSnapshot`.
    RequestSnapshotResponse {
        /// The echoed name.
        id: RepairId,
        /// What the snapshot covers.
        snapshot: Arc<SnapshotMeta>,
        /// Where in the snapshot the bytes belong.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// Whether the snapshot ends with them.
        done: bool,
    },
}

/// What a peer has of an entry that is damaged elsewhere (Alagappan et al., FAST'18, section 3.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntryResult {
    /// The entry itself, and no other.
    Have {
        /// It alone.
        entries: Entries,
    },
    /// A snapshot that covers it.
    HaveSnapshot {
        /// What it covers.
        snapshot: Arc<SnapshotMeta>,
    },
    /// The sender has no such entry, and would know if it had ever acknowledged it.
    DontHave,
    /// It may have had it: no information.
    HaveDamaged,
}
