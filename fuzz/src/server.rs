//! One server of the fuzzed cluster: a node, its disk, and the work that its host has not done.
//!
//! The host is as careless as the contract allows. Batches are written in order, as late as one
//! likes, and told of late, together or twice; entries are applied in order; everything else is
//! done in any order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Body, Chunk, ChunkId, ChunkRequest, Config, Effect, EntryId, Index, LoadRequest, Member,
    Membership, PersistBatch, PersistSeq, Raft, SnapshotMeta, Ticket, Time,
};

use crate::disk::{Disk, Fault, Found};

/// A node with what surrounds it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    config: Config,
    /// What the node starts from if its disk is empty: the founders, or nothing.
    genesis: Membership,
    pub(crate) raft: Raft,
    pub(crate) disk: Disk,
    /// Batches that are not durable, oldest first.
    pub(crate) unsynced: VecDeque<PersistBatch>,
    /// The newest durable batch, and whether the node knows.
    durable: Option<(PersistSeq, bool)>,
    /// What was handed out and is not applied, oldest first.
    pub(crate) unapplied: VecDeque<Index>,
    pub(crate) jobs: Vec<Job>,
    /// The chunks of a snapshot that came so far.
    staged: Option<(EntryId, Vec<u8>)>,
    /// Everything through here was handed out to be applied.
    pub(crate) handed_out: Index,
    /// Requests without an outcome.
    pub(crate) open: BTreeMap<Ticket, Request>,
}

/// Work that the host does at some time, in any order.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// Read a chunk.
    Read(ChunkRequest),
    /// Keep a chunk.
    Stage { id: ChunkId, snapshot: EntryId, offset: u64, data: Bytes },
    /// Read entries.
    Load(LoadRequest),
    /// Make a snapshot.
    Snapshot,
}

/// What a client or an operator waits for.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// That this command is committed.
    Command(Bytes),
    /// To read all that was committed when it asked: through this index.
    Read(Index),
    /// That a membership is committed.
    Change,
    /// That another leads.
    Transfer,
}

impl Server {
    /// A server that starts for the first time, and its first effects.
    pub(crate) fn new(config: Config, genesis: Membership) -> (Self, Vec<Effect>) {
        let disk = Disk::new();
        let (raft, effects) = start(&config, &disk, &genesis, Found::default(), Time(0));
        let server = Self {
            config,
            genesis,
            raft,
            disk,
            unsynced: VecDeque::new(),
            durable: None,
            unapplied: VecDeque::new(),
            jobs: Vec::new(),
            staged: None,
            handed_out: Index::ZERO,
            open: BTreeMap::new(),
        };
        (server, effects)
    }

    pub(crate) fn member(&self) -> Member {
        self.config.member()
    }

    /// The server's own clock. Clocks of different servers run apart, by as much as is allowed.
    pub(crate) fn clock(&self, now: Time) -> Time {
        Time(now.0 / 100 * self.rate() + now.0 % 100 * self.rate() / 100)
    }

    /// The first moment at which the server's clock has reached a reading.
    pub(crate) fn moment(&self, reading: Time) -> Time {
        let now = Time((reading.0 / self.rate()) * 100);
        let late = (0..=200).map(|us| Time(now.0 + us)).find(|now| self.clock(*now) >= reading);
        late.expect("a clock that runs at least as fast as time gets there")
    }

    fn rate(&self) -> u64 {
        100 + u64::from(self.config.clock_drift_percent) / 2 * (self.config.id.0 % 3)
    }

    /// The power fails. Whole batches are left, then a beginning of the next one; everything else
    /// that was under way is gone. The server starts again from what its disk holds.
    pub(crate) fn crash(&mut self, left: Left, now: Time) -> Vec<Effect> {
        let batches: Vec<PersistBatch> =
            self.unsynced.drain(..).take(left.whole.saturating_add(1)).collect();
        for (position, batch) in batches.iter().enumerate() {
            let steps = if position < left.whole { usize::MAX } else { left.steps };
            self.write(batch, steps);
        }
        let status = self.raft.status();
        let mut found = Found::default();
        if left.state {
            (found.applied, found.commit) = (status.applied, status.applied);
        }
        if self.config.resident_bytes_max < self.config.command_bytes_max {
            found.cold = status.applied;
        }
        self.start(found, now)
    }

    /// What the disk may lose; which of it, modulo what is there.
    pub(crate) fn fault(&self, choice: usize) -> Option<Fault> {
        let ids: Vec<EntryId> = self.disk.ids().collect();
        if choice % 8 == 7 {
            return Some(Fault::Snapshot);
        }
        let (kind, choice) = (choice % 4, choice / 4);
        let place = choice.checked_rem(ids.len())?;
        if kind == 0 {
            // A few of the last ones.
            let place = ids.len() - 1 - place.min(2);
            Some(Fault::Tail(ids[place].index))
        } else {
            Some(Fault::Entry(ids[place].index))
        }
    }

    /// A server stops, its disk loses something, and it starts again.
    pub(crate) fn hurt(&mut self, fault: Fault, now: Time) -> Vec<Effect> {
        self.unsynced.clear();
        self.disk.hurt(fault);
        self.start(Found::default(), now)
    }

    /// The directory is formatted anew: the server becomes another member, which knows nothing.
    pub(crate) fn wipe(&mut self, now: Time) -> Vec<Effect> {
        self.config.lineage.0 += 1000;
        self.genesis = Membership::default();
        self.disk = Disk::new();
        self.unsynced.clear();
        self.start(Found::default(), now)
    }

    fn start(&mut self, found: Found, now: Time) -> Vec<Effect> {
        self.durable = None;
        self.unapplied.clear();
        self.jobs.clear();
        self.staged = None;
        self.open.clear();
        self.handed_out = found.applied;
        let now = self.clock(now);
        let (raft, effects) = start(&self.config, &self.disk, &self.genesis, found, now);
        self.raft = raft;
        effects
    }

    /// Makes this many batches durable without a word to the node.
    pub(crate) fn sync(&mut self, batches: usize) {
        let batches: Vec<PersistBatch> =
            self.unsynced.drain(..batches.min(self.unsynced.len())).collect();
        for batch in batches {
            self.write(&batch, usize::MAX);
            self.durable = Some((batch.seq, false));
        }
    }

    /// Whether something is durable of which the node has not heard.
    pub(crate) fn owes_word(&self) -> bool {
        self.durable.is_some_and(|(_, is_told)| !is_told)
    }

    /// What to tell the node about the disk: also if it has heard it before.
    pub(crate) fn tell(&mut self) -> Option<Body> {
        let (seq, is_told) = self.durable.as_mut()?;
        *is_told = true;
        Some(Body::Persisted { seq: *seq })
    }

    /// Applies what was handed out, this many times; what to tell the node.
    pub(crate) fn apply(&mut self, times: usize) -> Option<Body> {
        let through = self.unapplied.drain(..times.min(self.unapplied.len())).next_back()?;
        Some(Body::Applied { through })
    }

    /// Does one of the jobs, or finds that it cannot read the log now; what to tell the node.
    pub(crate) fn work(&mut self, choice: usize, can_load: bool) -> Option<Body> {
        let position = choice.checked_rem(self.jobs.len())?;
        Some(match self.jobs.remove(position) {
            Job::Snapshot => return self.snapshot(),
            Job::Read(request) => Body::ChunkRead { request, chunk: self.chunk(&request) },
            Job::Stage { id, snapshot, offset, data } => {
                Body::ChunkStaged { id, staged: self.stage(snapshot, offset, &data) }
            }
            Job::Load(request) => {
                let entries = self.disk.load(&request).filter(|_| can_load);
                Body::Loaded { request, entries }
            }
        })
    }

    /// Whether the host has done everything that it was asked to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.unsynced.is_empty()
            && !self.owes_word()
            && self.unapplied.is_empty()
            && self.jobs.is_empty()
    }

    /// Makes a snapshot of what is applied, if there is anything new; what to tell the node.
    pub(crate) fn snapshot(&mut self) -> Option<Body> {
        let snapshot = self.raft.snapshot_at(self.raft.status().applied)?;
        let newest = self.disk.snapshot()?.last.index.0;
        if snapshot.last.index.0 < newest + u64::from(!self.raft.status().is_snapshot_damaged) {
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

    fn write(&mut self, batch: &PersistBatch, steps: usize) {
        let install = batch.install.as_ref().map(|snapshot: &Arc<SnapshotMeta>| snapshot.last);
        if let Some(last) = install.filter(|last| last.index > Index::ZERO) {
            let expected = Some((last, content(last)));
            assert_eq!(self.staged, expected, "a snapshot is staged whole before it is installed");
        }
        self.disk.write_beginning(batch, steps);
    }
}

/// What a crash leaves of the persist stream: whole batches, then a beginning of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) whole: usize,
    /// Fields and entries of the batch after them.
    pub(crate) steps: usize,
    /// Whether the state machine is on the disk too, as far as the node knows; otherwise it starts
    /// from the snapshot.
    pub(crate) state: bool,
}

fn start(
    config: &Config,
    disk: &Disk,
    genesis: &Membership,
    found: Found,
    now: Time,
) -> (Raft, Vec<Effect>) {
    Raft::recover(config.clone(), disk.recovered(genesis, found), now)
        .unwrap_or_else(|error| panic!("an honest disk is accepted: {error}; {disk:?}"))
}

/// The state machine's bytes at an entry: different ones of different lengths.
fn content(last: EntryId) -> Vec<u8> {
    let length = usize::try_from(last.chain.0 % 11).expect("a small number");
    last.chain.0.to_le_bytes().into_iter().cycle().take(length).collect()
}
