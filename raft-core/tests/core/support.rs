//! A few nodes in one process, driven by hand: messages, disks and crashes are what a test says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_core::{
    Body, ClusterId, Config, Effect, Entries, Entry, EntryId, Envelope, GroupId, HardState, Index,
    LoadRequest, Member, Membership, Message, Observation, Outcome, Payload, PersistBatch,
    PersistSeq, Raft, Recorded, RecordedBatch, RecordedStart, RecoveredState, Refused, RoleName,
    Rpc, Slot, SnapshotMeta, Status, Term, Ticket, Time, Violation,
};

/// The member with this id; its lineage is ten times the id.
pub(crate) fn member(id: u64) -> Member {
    Member::new(id, id * 10)
}

pub(crate) fn membership(voters: &[u64], learners: &[u64]) -> Membership {
    let members = |ids: &[u64]| ids.iter().map(|id| member(*id)).collect();
    Membership::new(members(voters), members(learners)).expect("a test names each member once")
}

pub(crate) fn config(id: u64) -> Config {
    let mut config = Config::new(ClusterId(7), GroupId(1), member(id));
    config.election_timeout_us = 1_000;
    config.heartbeat_interval_us = 100;
    config
}

/// What a disk holds: executes batches as their contract says.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: std::sync::Arc<SnapshotMeta>,
    pub(crate) before: EntryId,
    pub(crate) log: Vec<Entry>,
    pub(crate) founding: bool,
    /// Entries that cannot be read any more.
    pub(crate) damaged: BTreeSet<Index>,
    /// The bytes of the snapshot cannot be read any more.
    pub(crate) is_snapshot_damaged: bool,
}

impl Disk {
    pub(crate) fn genesis(membership: Membership) -> Self {
        let found = RecoveredState::genesis(membership);
        Self {
            hard_state: found.hard_state,
            snapshot: found.snapshot,
            before: found.before,
            log: Vec::new(),
            founding: true,
            damaged: BTreeSet::new(),
            is_snapshot_damaged: false,
        }
    }

    pub(crate) fn write(&mut self, batch: &PersistBatch) {
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(install) = &batch.install {
            let keeps = install.last == self.before
                || self.log.iter().any(|entry| entry.id() == install.last);
            self.log.retain(|entry| keeps && entry.index() > install.last.index);
            self.before = install.last;
            self.snapshot = install.clone();
            self.founding = false;
            self.is_snapshot_damaged = false;
        }
        if let Some(from) = batch.truncate_from {
            self.log.retain(|entry| entry.index() < from);
            self.damaged.retain(|index| *index < from);
        }
        for entry in batch.heal.iter().flat_map(|run| run.iter()) {
            let there = self.log.iter().find(|there| there.index() == entry.index());
            assert_eq!(there, Some(entry), "what heals is what was there");
            self.damaged.remove(&entry.index());
        }
        self.log.extend(batch.append.iter().cloned());
        if let Some(through) = batch.compact_to {
            let base = self.log.iter().find(|entry| entry.index() == through).map(Entry::id);
            if let Some(base) = base {
                self.before = base;
                self.log.retain(|entry| entry.index() > through);
            }
        }
        let kept = |index: &Index| self.log.iter().any(|entry| entry.index() == *index);
        self.damaged.retain(kept);
    }

    /// The entries that a request asks for.
    pub(crate) fn load(&self, request: &LoadRequest) -> Entries {
        let wanted = |entry: &&Entry| {
            request.after.index < entry.index() && entry.index() <= request.through
        };
        let items = self.log.iter().filter(wanted);
        let items = items.take_while(|entry| !self.damaged.contains(&entry.index()));
        Entries::after(request.after, items.map(|entry| (entry.term(), entry.payload().clone())))
    }

    pub(crate) fn recovered(&self) -> RecoveredState {
        RecoveredState {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            slots: self.log.iter().map(|entry| self.slot(entry)).collect(),
            before: self.before,
            commit: Index::ZERO,
            applied: Index::ZERO,
            founding: self.founding,
            is_snapshot_damaged: self.is_snapshot_damaged,
        }
    }

    fn slot(&self, entry: &Entry) -> Slot {
        let (id, payload) = (entry.id(), entry.payload().clone());
        if self.damaged.contains(&id.index) {
            let is_membership = matches!(payload, Payload::Membership(_));
            return Slot::Damaged { id, bytes: payload.len(), is_membership };
        }
        Slot::Resident { id, payload }
    }
}

/// One node with its disk. Effects that the test does not execute wait here.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) raft: Raft,
    pub(crate) disk: Disk,
    /// Batches that are issued and not yet durable.
    pub(crate) unsynced: Vec<PersistBatch>,
    pub(crate) applied: Vec<Entry>,
    pub(crate) outcomes: BTreeMap<Ticket, Outcome>,
    pub(crate) reads: BTreeMap<Ticket, Index>,
    /// Until when reads by lease may be answered.
    pub(crate) valid_until: BTreeMap<Ticket, Time>,
    pub(crate) observations: Vec<Observation>,
    /// What the core has asked to be read so far.
    pub(crate) loads: Vec<LoadRequest>,
    /// The bytes of the newest snapshot, and of one that is being staged.
    pub(crate) snapshot: Bytes,
    pub(crate) staged: Vec<u8>,
}

/// A cluster whose network, disks and clock the test moves.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) servers: BTreeMap<u64, Server>,
    /// Messages on their way, oldest first.
    pub(crate) network: Vec<Envelope>,
    /// Persist batches at once (`true`), or when the test says so.
    pub(crate) is_disk_immediate: bool,
    /// Whether entries can be read back from the disks.
    pub(crate) is_reading: bool,
    /// Nodes whose disks write only when the test says so, even if others' write at once.
    pub(crate) slow_disks: BTreeSet<u64>,
    /// Nodes whose state machines have not finished anything, for all that is known.
    pub(crate) slow_machines: BTreeSet<u64>,
    /// Every effect so far, with the node that it came from.
    pub(crate) trace: Vec<(u64, Effect)>,
    /// What each node was given in all its lives, if a test wants it to be written down.
    pub(crate) recordings: Option<BTreeMap<u64, Vec<Recorded>>>,
}

impl Cluster {
    pub(crate) fn new(voters: &[u64], learners: &[u64]) -> Self {
        Self::with(voters, learners, |_| {})
    }

    pub(crate) fn with(voters: &[u64], learners: &[u64], adjust: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self {
            now: Time(0),
            servers: BTreeMap::new(),
            network: Vec::new(),
            is_disk_immediate: true,
            is_reading: true,
            slow_disks: BTreeSet::new(),
            slow_machines: BTreeSet::new(),
            trace: Vec::new(),
            recordings: None,
        };
        for id in voters.iter().chain(learners) {
            let mut config = config(*id);
            adjust(&mut config);
            let disk = Disk::genesis(membership(voters, learners));
            cluster.start(config, disk);
        }
        cluster
    }

    /// A node starts from what its disk holds.
    pub(crate) fn start(&mut self, config: Config, disk: Disk) {
        let id = config.id.0;
        let now = self.now;
        let (raft, effects) = Raft::recover(config.clone(), disk.recovered(), now)
            .expect("the disk holds a valid state");
        if self.recordings.is_some() {
            let (config, found, digest) = (config.clone(), disk.recovered(), raft.digest());
            let start = RecordedStart { config, found, now, digest };
            self.record(id, Recorded::Start(Box::new(start)));
        }
        let server = Server {
            config,
            raft,
            disk,
            unsynced: Vec::new(),
            applied: Vec::new(),
            outcomes: BTreeMap::new(),
            reads: BTreeMap::new(),
            valid_until: BTreeMap::new(),
            observations: Vec::new(),
            loads: Vec::new(),
            snapshot: Bytes::from_static(b"a snapshot of more than one chunk"),
            staged: Vec::new(),
        };
        self.servers.insert(id, server);
        self.execute(id, effects);
    }

    pub(crate) fn server(&self, id: u64) -> &Server {
        &self.servers[&id]
    }

    pub(crate) fn status(&self, id: u64) -> Status {
        self.server(id).raft.status()
    }

    /// Gives a node one input and executes what comes out.
    pub(crate) fn step(&mut self, id: u64, body: Body) {
        self.step_batch(id, [Message { now: self.now, body }]);
    }

    /// Gives a node an inbox at once.
    pub(crate) fn step_batch(&mut self, id: u64, inbox: impl IntoIterator<Item = Message>) {
        let server = self.servers.get_mut(&id).expect("the test names a node of the cluster");
        let mut effects = Vec::new();
        if self.recordings.is_some() {
            let messages: Vec<Message> = inbox.into_iter().collect();
            server.raft.step_batch(messages.clone(), &mut effects);
            let digest = server.raft.digest();
            self.record(id, Recorded::Batch(RecordedBatch { messages, digest }));
        } else {
            server.raft.step_batch(inbox, &mut effects);
        }
        self.execute(id, effects);
    }

    fn record(&mut self, id: u64, recorded: Recorded) {
        if let Some(all) = &mut self.recordings {
            all.entry(id).or_default().push(recorded);
        }
    }

    /// A message as `from` would send it, in a term of the test's choice.
    pub(crate) fn envelope(&self, from: u64, to: u64, term: u64, rpc: Rpc) -> Envelope {
        let status = self.status(from);
        let config = &self.server(from).config;
        Envelope {
            cluster: config.cluster,
            group: config.group,
            from: member(from),
            to: member(to),
            epoch: status.epoch,
            incarnation: status.incarnation,
            term: Term(term),
            rpc,
        }
    }

    /// Such a message arrives.
    pub(crate) fn say(&mut self, from: u64, to: u64, term: u64, rpc: Rpc) {
        let envelope = self.envelope(from, to, term, rpc);
        self.step(to, Body::Peer(envelope));
    }

    pub(crate) fn propose(&mut self, id: u64, ticket: u64, command: &'static str) {
        let command = Bytes::from_static(command.as_bytes());
        self.step(id, Body::Propose { ticket: Ticket(ticket), command });
    }

    /// Makes a node's unsynced batches durable.
    pub(crate) fn sync(&mut self, id: u64) {
        let server = self.servers.get_mut(&id).expect("the test names a node of the cluster");
        let batches: Vec<PersistBatch> = server.unsynced.drain(..).collect();
        for batch in &batches {
            server.disk.write(batch);
        }
        if let Some(last) = batches.last() {
            self.step(id, Body::Persisted { seq: last.seq });
        }
    }

    pub(crate) fn sync_all(&mut self) {
        let ids: Vec<u64> = self.servers.keys().copied().collect();
        for id in ids {
            self.sync(id);
        }
    }

    /// A node loses everything that is not durable, and starts again.
    pub(crate) fn crash(&mut self, id: u64) {
        let server = self.servers.remove(&id).expect("the test names a node of the cluster");
        self.start(server.config, server.disk);
    }

    /// Delivers the messages that the filter lets through, until none is left.
    pub(crate) fn deliver_if(&mut self, mut passes: impl FnMut(&Envelope) -> bool) {
        for _ in 0..10_000 {
            if self.network.is_empty() {
                return;
            }
            let envelope = self.network.remove(0);
            let to = envelope.to.id.0;
            if passes(&envelope) && self.servers.contains_key(&to) {
                self.step(to, Body::Peer(envelope));
            }
        }
        panic!("the cluster does not come to rest");
    }

    pub(crate) fn deliver(&mut self) {
        self.deliver_if(|_| true);
    }

    /// Removes and returns the messages that the filter picks.
    pub(crate) fn take(&mut self, picks: impl Fn(&Envelope) -> bool) -> Vec<Envelope> {
        let all = std::mem::take(&mut self.network);
        let (taken, left) = all.into_iter().partition(|envelope| picks(envelope));
        self.network = left;
        taken
    }

    /// Moves the clock and ticks one node.
    pub(crate) fn tick(&mut self, id: u64, after_us: u64) {
        self.now = Time(self.now.0 + after_us);
        self.step(id, Body::Tick);
    }

    /// One node campaigns and wins, with the help of all that are there.
    pub(crate) fn elect(&mut self, id: u64) {
        self.step(id, Body::Campaign);
        self.deliver();
        assert_eq!(self.status(id).role, RoleName::Leader, "nobody stood in its way");
    }

    pub(crate) fn log_of(&self, id: u64) -> Vec<(Term, Index)> {
        let log = &self.server(id).disk.log;
        log.iter().map(|entry| (entry.term(), entry.index())).collect()
    }

    pub(crate) fn refusals(&self, id: u64) -> Vec<Refused> {
        let observations = self.server(id).observations.iter();
        observations
            .filter_map(|observation| {
                let Observation::Refused { reason, .. } = observation else { return None };
                Some(*reason)
            })
            .collect()
    }

    pub(crate) fn violations(&self, id: u64) -> Vec<Violation> {
        let observations = self.server(id).observations.iter();
        observations
            .filter_map(|observation| {
                let Observation::Violation(violation) = observation else { return None };
                Some(*violation)
            })
            .collect()
    }

    fn execute(&mut self, id: u64, effects: Vec<Effect>) {
        let mut follow_up = Vec::new();
        let is_reading = self.is_reading;
        let is_disk_immediate = self.is_disk_immediate && !self.slow_disks.contains(&id);
        self.trace.extend(effects.iter().map(|effect| (id, effect.clone())));
        let server = self.servers.get_mut(&id).expect("effects come from a node of the cluster");
        let mut durable: Option<PersistSeq> = None;
        for effect in effects {
            match effect {
                Effect::Persist(batch) => {
                    if is_disk_immediate {
                        server.disk.write(&batch);
                        durable = Some(batch.seq);
                    } else {
                        server.unsynced.push(batch);
                    }
                }
                Effect::Send(envelope) => self.network.push(envelope),
                Effect::Apply { entries } => {
                    server.applied.extend(entries.iter().cloned());
                    let through = entries.last().expect("never empty").index();
                    if !self.slow_machines.contains(&id) {
                        follow_up.push(Body::Applied { through });
                    }
                }
                Effect::RestoreState { snapshot } => {
                    follow_up.push(Body::Applied { through: snapshot.last.index });
                }
                Effect::Outcome { ticket, outcome } => {
                    let before = server.outcomes.insert(ticket, outcome);
                    assert_eq!(before, None, "a ticket ends once");
                }
                Effect::ReadReady { ticket, index, valid_until } => {
                    let before = server.reads.insert(ticket, index);
                    assert_eq!(before, None, "a read is answered once");
                    server.valid_until.extend(valid_until.map(|until| (ticket, until)));
                }
                Effect::Load(request) => {
                    server.loads.push(request);
                    let entries = is_reading.then(|| server.disk.load(&request));
                    let entries = entries.filter(|entries| !entries.is_empty());
                    follow_up.push(Body::Loaded { request, entries });
                }
                Effect::ReadChunk(request) => {
                    let start = usize::try_from(request.offset).expect("small");
                    let end = server.snapshot.len().min(start + request.bytes_max);
                    let data = server.snapshot.slice(start..end);
                    let done = end == server.snapshot.len();
                    let chunk = Some(raft_core::Chunk { data, done });
                    follow_up.push(Body::ChunkRead { request, chunk });
                }
                Effect::StageChunk { id, offset, data, .. } => {
                    server.staged.truncate(usize::try_from(offset).expect("small"));
                    server.staged.extend_from_slice(&data);
                    let staged = server.staged.len() as u64;
                    follow_up.push(Body::ChunkStaged { id, staged });
                }
                Effect::Observe(observation) => server.observations.push(observation),
            }
        }
        if let Some(seq) = durable {
            follow_up.insert(0, Body::Persisted { seq });
        }
        for body in follow_up {
            self.step(id, body);
        }
    }
}
