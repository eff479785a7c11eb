//! Replicas in one process, on a network that keeps order and disks that never lose anything.
//!
//! Nothing happens unless a test asks for it: time stands still, frames are delivered by `settle`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Chunk, ClusterId, Config, Entries, Entry, EntryId, GroupId, HardState, Index, Member,
    Membership, Observation, PersistBatch, ReadMode, RecoveredState, RoleName, Slot, SnapshotMeta,
    Time,
};
use raft_replica::kv::{Kv, KvAnswer, KvCommand, KvQuery};
use raft_replica::replica::{Replica, ReplicaOptions};
use raft_replica::request::{Input, Output, Reply, Request, RequestId};
use raft_replica::session::SessionId;
use raft_replica::storage::work::{Done, Work};

/// What a disk holds.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    hard_state: HardState,
    commit: Index,
    snapshot: Arc<SnapshotMeta>,
    founded: bool,
    before: EntryId,
    pub(crate) log: Vec<Entry>,
    pub(crate) snapshots: BTreeMap<Index, Bytes>,
    staged: Vec<u8>,
    /// How many chunks were staged, and how many batches and entries written.
    pub(crate) chunks: usize,
    pub(crate) batches: usize,
    pub(crate) entries: usize,
}

impl Store {
    pub(crate) fn new(founders: &Membership) -> Self {
        let genesis = RecoveredState::genesis(founders.clone());
        Self {
            hard_state: genesis.hard_state,
            commit: Index::ZERO,
            snapshot: genesis.snapshot,
            founded: false,
            before: genesis.before,
            log: Vec::new(),
            snapshots: BTreeMap::new(),
            staged: Vec::new(),
            chunks: 0,
            batches: 0,
            entries: 0,
        }
    }

    pub(crate) fn found(&self) -> RecoveredState {
        let slot =
            |entry: &Entry| Slot::Resident { id: entry.id(), payload: entry.payload().clone() };
        let last = self.log.last().map_or(self.before.index, Entry::index);
        RecoveredState {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            slots: self.log.iter().map(slot).collect(),
            before: self.before,
            commit: self.commit.min(last),
            applied: Index::ZERO,
            founding: !self.founded,
            is_snapshot_damaged: false,
        }
    }

    pub(crate) fn execute(&mut self, work: Work) -> Done {
        match work {
            Work::Persist { batch, commit } => {
                let seq = batch.seq;
                self.commit = self.commit.max(commit);
                self.persist(batch);
                Done::Persisted { seq }
            }
            Work::SaveSnapshot { snapshot, data } => {
                self.snapshots.insert(snapshot.last.index, data);
                self.snapshot = snapshot.clone();
                Done::SnapshotSaved { snapshot }
            }
            Work::LoadSnapshot { snapshot, offset, bytes_max } => {
                let data = self.snapshots.get(&snapshot.last.index);
                let chunk = data.map(|data| chunk(data, offset, bytes_max));
                Done::SnapshotLoaded { snapshot, offset, chunk }
            }
            Work::Load(request) => {
                let wanted = |entry: &&Entry| {
                    (request.after.index.next()..=request.through).contains(&entry.index())
                };
                let wanted = self.log.iter().filter(wanted);
                let items = wanted.map(|entry| (entry.term(), entry.payload().clone()));
                let entries = Entries::after(request.after, items);
                let entries = (!entries.is_empty()).then_some(entries);
                Done::Loaded { request, entries, damaged: Vec::new() }
            }
            Work::ReadChunk(request) => {
                let data = self.snapshots.get(&request.snapshot.index);
                let chunk = data.map(|data| chunk(data, request.offset, request.bytes_max));
                Done::ChunkRead { request, chunk }
            }
            Work::StageChunk { id, offset, data, .. } => {
                self.chunks += 1;
                self.staged.truncate(self::offset(offset));
                assert_eq!(self.staged.len() as u64, offset, "chunks are staged without a gap");
                self.staged.extend_from_slice(&data);
                Done::ChunkStaged { id, staged: self.staged.len() as u64 }
            }
        }
    }

    fn persist(&mut self, batch: PersistBatch) {
        self.batches += 1;
        self.entries += batch.append.len();
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
        if let Some(install) = batch.install {
            let last = install.last;
            self.founded = true;
            if last.index > Index::ZERO {
                self.snapshots.insert(last.index, std::mem::take(&mut self.staged).into());
            }
            let matches = self.log.iter().any(|entry| entry.id() == last);
            self.log.retain(|entry| matches && entry.index() > last.index);
            self.before = last;
            self.snapshot = install;
        }
        if let Some(from) = batch.truncate_from {
            self.log.retain(|entry| entry.index() < from);
        }
        let healed = batch.heal.iter().flat_map(|run| run.iter());
        for entry in healed {
            assert!(self.log.contains(entry), "what heals is what was there");
        }
        for entry in batch.append.iter() {
            let last = self.log.last().map_or(self.before.index, Entry::index);
            assert_eq!(entry.index(), last.next(), "entries follow the end of the log");
            self.log.push(entry.clone());
        }
        if let Some(through) = batch.compact_to {
            let kept = self.log.partition_point(|entry| entry.index() <= through);
            if let Some(last) = self.log.drain(..kept).last() {
                self.before = last.id();
            }
        }
    }
}

/// Which completions a disk holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Persists,
    Saves,
    Loads,
}

/// One server: a replica, its disk, and completions that a test holds back.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) replica: Replica<Kv>,
    pub(crate) store: Store,
    /// Completions of this kind are held back until `release`.
    pub(crate) hold: Option<Hold>,
    held: Vec<Done>,
    pub(crate) outputs: Vec<Output<Kv>>,
}

/// Some servers and the frames between them.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    options: Vec<ReplicaOptions>,
    frames: VecDeque<(Member, Member, Bytes)>,
    /// Servers (from 0) that neither send nor receive.
    pub(crate) cut: BTreeSet<usize>,
    now: Time,
    requests: u64,
    open: BTreeSet<RequestId>,
    replies: BTreeMap<RequestId, Reply<Kv>>,
}

pub(crate) fn member(server: usize) -> Member {
    Member::new(server as u64 + 1, 77)
}

pub(crate) fn options(server: usize) -> ReplicaOptions {
    ReplicaOptions::new(Config::new(ClusterId(5), GroupId(6), member(server)))
}

pub(crate) fn founders(size: usize) -> Membership {
    Membership::new((0..size).map(member).collect(), Vec::new()).expect("the members differ")
}

fn place(member: Member) -> usize {
    usize::try_from(member.id.0 - 1).expect("a cluster here is small")
}

fn chunk(data: &Bytes, from: u64, bytes_max: usize) -> Chunk {
    let from = offset(from);
    let to = data.len().min(from.saturating_add(bytes_max));
    Chunk { data: data.slice(from..to), done: to == data.len() }
}

fn offset(offset: u64) -> usize {
    usize::try_from(offset).expect("a snapshot here is small")
}

impl Cluster {
    pub(crate) fn new(size: usize) -> Self {
        Self::with(size, |_| {})
    }

    pub(crate) fn with(size: usize, tweak: impl Fn(&mut ReplicaOptions)) -> Self {
        let mut cluster = Self {
            servers: Vec::new(),
            options: (0..size).map(options).collect(),
            frames: VecDeque::new(),
            cut: BTreeSet::new(),
            now: Time(1_000),
            requests: 0,
            open: BTreeSet::new(),
            replies: BTreeMap::new(),
        };
        cluster.options.iter_mut().for_each(tweak);
        for server in 0..size {
            let store = Store::new(&founders(size));
            let (fresh, outputs) = cluster.start(server, store, None);
            cluster.servers.push(fresh);
            cluster.process(server, outputs);
        }
        cluster.settle();
        cluster
    }

    fn start(&self, server: usize, store: Store, hold: Option<Hold>) -> (Server, Vec<Output<Kv>>) {
        let mut out = Vec::new();
        let options = self.options[server].clone();
        let replica = Replica::start(options, store.found(), Kv::new(), self.now, &mut out)
            .expect("what the disk holds makes sense");
        let held = Vec::new();
        let outputs = Vec::new();
        (Server { replica, store, hold, held, outputs }, out)
    }

    /// Starts a server again from its disk.
    pub(crate) fn restart(&mut self, server: usize, hold: Option<Hold>) {
        let store = self.servers[server].store.clone();
        let (fresh, outputs) = self.start(server, store, hold);
        self.servers[server] = fresh;
        self.process(server, outputs);
        self.settle();
    }

    /// Hands over one input, and what the disk completes because of it.
    pub(crate) fn feed(&mut self, server: usize, input: Input<Kv>) {
        self.feed_all(server, vec![input]);
    }

    pub(crate) fn feed_all(&mut self, server: usize, inputs: Vec<Input<Kv>>) {
        let mut out = Vec::new();
        self.servers[server].replica.handle_batch(self.now, inputs, &mut out);
        self.process(server, out);
    }

    fn process(&mut self, server: usize, mut out: Vec<Output<Kv>>) {
        while !out.is_empty() {
            let mut inputs = Vec::new();
            for output in std::mem::take(&mut out) {
                self.servers[server].outputs.push(output.clone());
                match output {
                    Output::Send { to, frame } => {
                        self.frames.push_back((member(server), to, frame));
                    }
                    Output::Reply { id, reply } => {
                        assert!(self.open.remove(&id), "a request is answered once");
                        self.replies.insert(id, reply);
                    }
                    Output::Work(work) => inputs.extend(self.work(server, work)),
                    Output::Save { snapshot, state } => {
                        let work = Work::SaveSnapshot { snapshot, data: state.encode() };
                        inputs.extend(self.work(server, work));
                    }
                    Output::Observe(Observation::Violation(violation)) => {
                        panic!("{violation:?}");
                    }
                    Output::Applied { .. }
                    | Output::Restored { .. }
                    | Output::Observe(_)
                    | Output::BadFrame(_)
                    | Output::BadSnapshot { .. } => {}
                }
            }
            let replica = &mut self.servers[server].replica;
            replica.handle_batch(self.now, inputs, &mut out);
        }
    }

    fn work(&mut self, server: usize, work: Work) -> Option<Input<Kv>> {
        let server = &mut self.servers[server];
        let done = server.store.execute(work);
        let kind = match done {
            Done::Persisted { .. } => Some(Hold::Persists),
            Done::SnapshotSaved { .. } => Some(Hold::Saves),
            Done::SnapshotLoaded { .. } => Some(Hold::Loads),
            Done::Failed
            | Done::Loaded { .. }
            | Done::Damaged { .. }
            | Done::SnapshotDamaged { .. }
            | Done::ChunkRead { .. }
            | Done::ChunkStaged { .. } => None,
        };
        let is_held = kind.is_some() && kind == server.hold;
        if is_held {
            server.held.push(done);
            return None;
        }
        Some(Input::Done(done))
    }

    /// Completes what was held back first, and holds what comes of it.
    pub(crate) fn release_one(&mut self, server: usize) {
        let done = self.servers[server].held.remove(0);
        self.feed(server, Input::Done(done));
    }

    /// Completes what was held back.
    pub(crate) fn release(&mut self, server: usize) {
        let held = &mut self.servers[server];
        held.hold = None;
        let inputs = std::mem::take(&mut held.held).into_iter().map(Input::Done).collect();
        self.feed_all(server, inputs);
        self.settle();
    }

    /// Delivers frames until there are none.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some((from, to, frame)) = self.frames.pop_front() else { return };
            if !self.cut.contains(&place(from)) && !self.cut.contains(&place(to)) {
                self.feed(place(to), Input::Frame(frame));
            }
        }
        panic!("the cluster never falls silent");
    }

    /// Lets time pass, in steps of a heartbeat.
    pub(crate) fn pass(&mut self, heartbeats: usize) {
        for _ in 0..heartbeats {
            self.now = Time(self.now.0 + 100_000);
            for server in 0..self.servers.len() {
                let deadline = self.servers[server].replica.next_deadline();
                if deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.feed(server, Input::Tick);
                }
            }
            self.settle();
        }
    }

    /// Makes a server the leader, once the others have lost theirs.
    pub(crate) fn elect(&mut self, server: usize) {
        for _ in 0..20 {
            self.feed(server, Input::Campaign);
            self.settle();
            if self.servers[server].replica.status().role == RoleName::Leader {
                return;
            }
            self.pass(1);
        }
        panic!("the server does not win an election");
    }

    pub(crate) fn ask(&mut self, server: usize, request: Request<Kv>) -> RequestId {
        let (id, input) = self.request(request);
        self.feed(server, input);
        id
    }

    /// A request that is not handed over yet.
    pub(crate) fn request(&mut self, request: Request<Kv>) -> (RequestId, Input<Kv>) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.open.insert(id);
        (id, Input::Request { id, request })
    }

    pub(crate) fn reply(&mut self, id: RequestId) -> Option<Reply<Kv>> {
        self.replies.remove(&id)
    }

    /// Asks and delivers until the reply is there.
    pub(crate) fn call(&mut self, server: usize, request: Request<Kv>) -> Reply<Kv> {
        let id = self.ask(server, request);
        self.settle();
        self.reply(id).expect("the request is answered")
    }

    pub(crate) fn open_session(&mut self, server: usize) -> SessionId {
        let reply = self.call(server, Request::OpenSession);
        let Reply::SessionOpened { session } = reply else { panic!("no session: {reply:?}") };
        session
    }

    /// The value and the version of a key, read linearizably.
    pub(crate) fn get(&mut self, server: usize, key: &str) -> Option<(String, Index)> {
        let reply = self.call(server, get(key));
        let Reply::Answer { answer: KvAnswer::Value(found), .. } = reply else {
            panic!("no answer: {reply:?}");
        };
        let found = found?;
        Some((String::from_utf8_lossy(&found.value).into_owned(), found.version))
    }

    /// The applied index and the digest of every server.
    pub(crate) fn states(&self) -> Vec<(Index, u64)> {
        let state = |server: &Server| (server.replica.applied(), server.replica.digest());
        self.servers.iter().map(state).collect()
    }
}

pub(crate) fn put(session: SessionId, serial: u64, key: &str, value: &str) -> Request<Kv> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let value = Bytes::copy_from_slice(value.as_bytes());
    Request::Command { session, serial, command: KvCommand::Put { key, value } }
}

pub(crate) fn get(key: &str) -> Request<Kv> {
    Request::Query {
        query: KvQuery::Get { key: Bytes::copy_from_slice(key.as_bytes()) },
        mode: ReadMode::ReadIndex,
    }
}
