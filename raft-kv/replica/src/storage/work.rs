//! What a replica asks of its storage, and what comes back.
//!
//! A host hands each [`Work`] to the storage in the order in which the replica issued it: on a
//! thread of its own in the server, as events in the simulator.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Chunk, ChunkId, ChunkRequest, Entries, EntryId, Index, LoadRequest, PersistBatch, PersistSeq,
    SnapshotMeta,
};

/// A piece of disk work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Write a batch of the persist stream; durable once the storage is synced.
    Persist {
        /// The batch.
        batch: PersistBatch,
        /// The commit index after the step that issued it, the same for all batches of a step: a
        /// hint that is stored along with later ones.
        commit: Index,
    },
    /// Write a snapshot of the state machine, wholly durable, beside the ones that are there.
    SaveSnapshot {
        /// What it covers.
        snapshot: Arc<SnapshotMeta>,
        /// The state machine's bytes.
        data: Bytes,
    },
    /// Read the next part of a durable snapshot that the state is to be replaced by.
    LoadSnapshot {
        /// What it covers.
        snapshot: Arc<SnapshotMeta>,
        /// Where the part begins.
        offset: u64,
        /// The most bytes of it, at least 1.
        bytes_max: usize,
    },
    /// Read entries of the log that are durable.
    Load(LoadRequest),
    /// Read a part of a durable snapshot.
    ReadChunk(ChunkRequest),
    /// Keep a part of a snapshot that is being received; offset 0 discards what was staged before.
    StageChunk {
        /// What the completion names.
        id: ChunkId,
        /// What it covers.
        snapshot: Arc<SnapshotMeta>,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// Whether the snapshot ends with them.
        done: bool,
    },
}

/// A completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// All batches through `seq` are durable.
    Persisted {
        /// The last durable batch.
        seq: PersistSeq,
    },
    /// A write or a sync failed. The storage refuses all further work.
    Failed,
    /// A snapshot of the state machine is durable.
    SnapshotSaved {
        /// What it covers.
        snapshot: Arc<SnapshotMeta>,
    },
    /// A part of the snapshot that the state is to be replaced by, or `None` if it cannot be read.
    SnapshotLoaded {
        /// What it covers.
        snapshot: Arc<SnapshotMeta>,
        /// Where the part begins.
        offset: u64,
        /// Its bytes.
        chunk: Option<Chunk>,
    },
    /// Entries of the log, or `None` if they are not there, or not intact.
    Loaded {
        /// What was asked for.
        request: LoadRequest,
        /// The entries that follow `request.after`, at least one.
        entries: Option<Entries>,
        /// Entries that were looked at and cannot be read any more: a peer may still have them.
        damaged: Vec<EntryId>,
    },
    /// Entries that cannot be read any more, found by a scrub.
    Damaged {
        /// Which.
        entries: Vec<EntryId>,
    },
    /// The bytes of the newest snapshot cannot be read any more, found by a scrub: the replica makes
    /// another one.
    SnapshotDamaged {
        /// What it covers.
        snapshot: EntryId,
    },
    /// A part of a snapshot, or `None` if it is not there any more.
    ChunkRead {
        /// What was asked for.
        request: ChunkRequest,
        /// The bytes.
        chunk: Option<Chunk>,
    },
    /// A part of a snapshot is kept.
    ChunkStaged {
        /// Which part.
        id: ChunkId,
        /// How many bytes of its snapshot are there now.
        staged: u64,
    },
}
