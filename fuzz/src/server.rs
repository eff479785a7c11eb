//! One server of the fuzzed cluster: a node, its disk, and the work that its host has not done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Body, Chunk, ChunkRequest, Config, Effect, EntryId, Index, Member, Membership, PersistBatch,
    Raft, SnapshotMeta, Ticket, Time,
};

use crate::disk::Disk;

/// A node with what surrounds it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) raft: Raft,
    pub(crate) disk: Disk,
    /// Batches that are written and not synced.
    pub(crate) unsynced: VecDeque<PersistBatch>,
    pub(crate) jobs: VecDeque<Job>,
    /// The chunks of a snapshot that came so far.
    staged: Option<(EntryId, Vec<u8>)>,
    /// Everything through here was handed out to be applied.
    pub(crate) handed_out: Index,
    /// Requests without an outcome, each with what was committed when it was made.
    pub(crate) open: BTreeMap<Ticket, Index>,
}

/// Work that the host does at some time, in this order.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// Apply through this index.
    Apply(Index),
    /// Read a chunk.
    Read(ChunkRequest),
    /// Keep a chunk.
    Stage { snapshot: EntryId, offset: u64, data: Bytes },
}

impl Server {
    /// A server that starts for the first time, and its first effects.
    pub(crate) fn new(config: Config, founders: &Membership) -> (Self, Vec<Effect>) {
        let disk = Disk::new();
        let (raft, effects) = start(config, &disk, founders, Time(0));
        let server = Self {
            raft,
            disk,
            unsynced: VecDeque::new(),
            jobs: VecDeque::new(),
            staged: None,
            handed_out: Index::ZERO,
            open: BTreeMap::new(),
        };
        (server, effects)
    }

    pub(crate) fn member(&self) -> Member {
        self.raft.status().member
    }

    /// The power fails. Whole batches are left, then a beginning of the next one; everything else
    /// that was under way is gone. The server starts again from what its disk holds.
    pub(crate) fn crash(
        &mut self,
        whole: usize,
        steps: usize,
        config: Config,
        founders: &Membership,
        now: Time,
    ) -> Vec<Effect> {
        for batch in self.unsynced.drain(..).take(whole + 1).enumerate() {
            match batch {
                (position, batch) if position < whole => {
                    write(&mut self.disk, &self.staged, &batch, usize::MAX)
                }
                (_, batch) => write(&mut self.disk, &self.staged, &batch, steps),
            }
        }
        self.jobs.clear();
        self.staged = None;
        self.open.clear();
        self.handed_out = Index::ZERO;
        let (raft, effects) = start(config, &self.disk, founders, now);
        self.raft = raft;
        effects
    }

    /// Syncs this many batches; what to tell the node.
    pub(crate) fn sync(&mut self, batches: usize) -> Option<Body> {
        let mut seq = None;
        for batch in self.unsynced.drain(..batches.min(self.unsynced.len())) {
            write(&mut self.disk, &self.staged, &batch, usize::MAX);
            seq = Some(batch.seq);
        }
        seq.map(|seq| Body::Persisted { seq })
    }

    /// Does the oldest job; what to tell the node.
    pub(crate) fn work(&mut self) -> Option<Body> {
        Some(match self.jobs.pop_front()? {
            Job::Apply(through) => Body::Applied { through },
            Job::Read(request) => Body::ChunkRead { request, chunk: self.chunk(&request) },
            Job::Stage { snapshot, offset, data } => {
                Body::ChunkStaged { snapshot, staged: self.stage(snapshot, offset, &data) }
            }
        })
    }

    /// Makes a snapshot of what is applied, if there is anything new; what to tell the node.
    pub(crate) fn snapshot(&mut self) -> Option<Body> {
        let snapshot = self.raft.snapshot_at(self.raft.status().applied)?;
        let newest = self.disk.snapshot()?.last.index;
        if snapshot.last.index <= newest {
            return None;
        }
        self.disk.save(Arc::clone(&snapshot));
        Some(Body::SnapshotTaken { snapshot })
    }

    fn chunk(&self, request: &ChunkRequest) -> Option<Chunk> {
        let content = content(self.disk.snapshot()?.last);
        let start = usize::try_from(request.offset).ok()?;
        if self.disk.snapshot()?.last != request.snapshot || start > content.len() {
            return None;
        }
        let end = content.len().min(start + request.bytes_max);
        let data = Bytes::copy_from_slice(&content[start..end]);
        Some(Chunk { data, done: end == content.len() })
    }

    fn stage(&mut self, snapshot: EntryId, offset: u64, data: &[u8]) -> u64 {
        if offset == 0 {
            self.staged = Some((snapshot, Vec::new()));
        }
        let (staged, content) = self.staged.as_mut().expect("the first chunk comes first");
        assert_eq!(*staged, snapshot, "chunks of one snapshot follow each other");
        assert_eq!(content.len() as u64, offset, "a chunk begins where the last one ended");
        content.extend_from_slice(data);
        content.len() as u64
    }
}

fn start(config: Config, disk: &Disk, founders: &Membership, now: Time) -> (Raft, Vec<Effect>) {
    Raft::recover(config, disk.recovered(founders), now)
        .unwrap_or_else(|error| panic!("an honest disk is accepted: {error}; {disk:?}"))
}

fn write(disk: &mut Disk, staged: &Option<(EntryId, Vec<u8>)>, batch: &PersistBatch, steps: usize) {
    let install = batch.install.as_ref().map(|snapshot: &Arc<SnapshotMeta>| snapshot.last);
    if let Some(last) = install.filter(|last| last.index > Index::ZERO) {
        let expected = Some((last, content(last)));
        assert_eq!(*staged, expected, "a snapshot is staged whole before it is installed");
    }
    disk.write_beginning(batch, steps);
}

/// The state machine's bytes at an entry: different ones of different lengths.
fn content(last: EntryId) -> Vec<u8> {
    let length = usize::try_from(last.chain.0 % 11).expect("a small number");
    last.chain.0.to_le_bytes().into_iter().cycle().take(length).collect()
}
