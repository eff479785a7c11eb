//! A group of real replicas whose every step is reported to a checker.
//!
//! The network loses, repeats and reorders; a disk completes its work late, and a crash leaves any
//! beginning of what it was asked for. Everything is drawn from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::wire::{self, Limits};
use raft_core::{
    Chunk, ClusterId, Config, Entry, EntryId, GroupId, HardState, Index, Member, Membership,
    Observation, PersistBatch, ReadMode, RecoveredState, RoleName, Slot, SnapshotMeta, Time,
};
use raft_replica::kv::{Kv, KvCommand, KvQuery};
use raft_replica::replica::{Replica, ReplicaOptions};
use raft_replica::request::{Failure, Input, Output, Reply, Request, RequestId};
use raft_replica::session::SessionId;
use raft_replica::storage::work::{Done, Work};
use raft_sim::check::{Checker, ClientId, Operation, OperationId, Outcome, Violation};

/// A small generator, good enough to mix events.
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) * bound) >> 31
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a disk holds, all of it durable.
#[derive(Clone)]
struct Disk {
    hard_state: HardState,
    snapshot: Arc<SnapshotMeta>,
    founded: bool,
    before: EntryId,
    log: Vec<Entry>,
    images: BTreeMap<Index, Bytes>,
    staged: Vec<u8>,
}

impl Disk {
    fn new(founders: &Membership) -> Self {
        let genesis = RecoveredState::genesis(founders.clone());
        Self {
            hard_state: genesis.hard_state,
            snapshot: genesis.snapshot,
            founded: false,
            before: genesis.before,
            log: Vec::new(),
            images: BTreeMap::new(),
            staged: Vec::new(),
        }
    }

    fn found(&self) -> RecoveredState {
        let slots = self.log.iter();
        let slots = slots.map(|e| Slot::Resident { id: e.id(), payload: e.payload().clone() });
        RecoveredState {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            slots: slots.collect(),
            before: self.before,
            commit: Index::ZERO,
            applied: Index::ZERO,
            founding: !self.founded,
            is_snapshot_damaged: false,
        }
    }

    /// Executes a batch; only its first `entries` entries, and then nothing behind them.
    fn persist(&mut self, batch: &PersistBatch, entries: usize) {
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
        if let Some(install) = &batch.install {
            let last = install.last;
            self.founded = true;
            if last.index > Index::ZERO {
                self.images.insert(last.index, std::mem::take(&mut self.staged).into());
            }
            let holds = self.log.iter().any(|entry| entry.id() == last);
            self.log.retain(|entry| holds && entry.index() > last.index);
            self.before = last;
            self.snapshot = install.clone();
        }
        if let Some(from) = batch.truncate_from {
            self.log.retain(|entry| entry.index() < from);
        }
        self.log.extend(batch.append.iter().take(entries).cloned());
        if let Some(through) = batch.compact_to {
            let gone = self.log.partition_point(|entry| entry.index() <= through);
            if let Some(last) = self.log.drain(..gone).last() {
                self.before = last.id();
            }
        }
    }

    fn execute(&mut self, work: Work) -> Done {
        match work {
            Work::Persist { batch, .. } => {
                self.persist(&batch, usize::MAX);
                Done::Persisted { seq: batch.seq }
            }
            Work::SaveSnapshot { snapshot, data } => {
                self.images.insert(snapshot.last.index, data);
                self.snapshot = snapshot.clone();
                Done::SnapshotSaved { snapshot }
            }
            Work::LoadSnapshot { snapshot, offset, bytes_max } => {
                let data = self.images.get(&snapshot.last.index);
                let chunk = data.map(|data| chunk(data, offset, bytes_max));
                Done::SnapshotLoaded { snapshot, offset, chunk }
            }
            Work::Load(request) => Done::Loaded { request, entries: None, damaged: Vec::new() },
            Work::ReadChunk(request) => {
                let data = self.images.get(&request.snapshot.index);
                let chunk = data.map(|data| chunk(data, request.offset, request.bytes_max));
                Done::ChunkRead { request, chunk }
            }
            Work::StageChunk { id, offset, data, .. } => {
                self.staged.truncate(usize::try_from(offset).unwrap());
                self.staged.extend_from_slice(&data);
                Done::ChunkStaged { id, staged: self.staged.len() as u64 }
            }
        }
    }
}

struct Server {
    options: ReplicaOptions,
    replica: Replica<Kv>,
    disk: Disk,
    work: VecDeque<Work>,
}

/// What happened in a run, to show that it was one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) elections: u64,
    pub(crate) crashes: u64,
    pub(crate) truncations: u64,
    pub(crate) installs: u64,
    pub(crate) answers: u64,
    pub(crate) reads: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.elections += other.elections;
        self.crashes += other.crashes;
        self.truncations += other.truncations;
        self.installs += other.installs;
        self.answers += other.answers;
        self.reads += other.reads;
    }
}

/// The group, its checker and one client at a time.
pub(crate) struct Group {
    pub(crate) checker: Checker,
    pub(crate) counts: Counts,
    dice: Dice,
    now: Time,
    servers: Vec<Server>,
    /// From, to, and what.
    frames: Vec<(usize, usize, Bytes)>,
    /// Two nodes that are cut off from the others, or one, if they are the same.
    cut: [usize; 2],
    /// Requests at replicas, by name: the operation that each is an attempt at.
    attempts: BTreeMap<u64, u64>,
    operations: BTreeMap<u64, Request<Kv>>,
    last_attempt: u64,
    last_operation: u64,
    session: Option<(SessionId, u64)>,
}

impl Group {
    pub(crate) fn new(seed: u64, voters: u64) -> Result<Self, Violation> {
        let members: Vec<Member> = (1..=voters).map(|id| Member::new(id, id)).collect();
        let founders = Membership::new(members.clone(), vec![]).unwrap();
        let start = |&member: &Member| {
            let mut config = Config::new(ClusterId(1), GroupId(1), member);
            config.seed = seed;
            config.snapshot_chunk_bytes = 64;
            config.heartbeat_interval_us = config.election_timeout_us / 2;
            config.append_entries_max = usize::try_from(1 + seed % 7).unwrap();
            config.pre_vote = seed.is_multiple_of(2);
            config.check_quorum = seed.is_multiple_of(3);
            let options =
                ReplicaOptions { snapshot_after_entries: 24, ..ReplicaOptions::new(config) };
            let disk = Disk::new(&founders);
            let (mut outputs, found) = (Vec::new(), disk.found());
            let replica =
                Replica::start(options.clone(), found, Kv::new(), Time(0), &mut outputs).unwrap();
            (Server { options, replica, disk, work: VecDeque::new() }, outputs)
        };
        let (servers, outputs): (Vec<Server>, Vec<_>) = members.iter().map(start).unzip();
        let mut group = Self {
            checker: Checker::new(&members, &founders, Kv::new()),
            counts: Counts::default(),
            dice: Dice(seed),
            now: Time(0),
            servers,
            frames: Vec::new(),
            cut: [usize::MAX; 2],
            attempts: BTreeMap::new(),
            operations: BTreeMap::new(),
            last_attempt: 0,
            last_operation: 0,
            session: None,
        };
        for (at, outputs) in outputs.into_iter().enumerate() {
            group.report(at, outputs)?;
        }
        Ok(group)
    }

    /// One event.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        let at = usize::try_from(self.dice.below(self.servers.len() as u64)).unwrap();
        match self.dice.below(1000) {
            0..=1 => self.crash(at),
            2..=5 => {
                self.cut = [at, self.cut[0]];
                Ok(())
            }
            6 => {
                self.cut = [usize::MAX; 2];
                Ok(())
            }
            7..=79 => self.tick(),
            80..=119 => self.request(),
            120..=129 => self.attempt(self.last_operation),
            130..=349 => self.work(at),
            350.. => self.deliver(),
        }
    }

    fn tick(&mut self) -> Result<(), Violation> {
        let deadlines = self.servers.iter().map(|server| server.replica.next_deadline());
        let due = deadlines.enumerate().filter_map(|(at, time)| Some((time?, at))).min();
        let Some((time, at)) = due else { return Ok(()) };
        self.now = self.now.max(time);
        self.handle(at, Input::Tick)
    }

    fn deliver(&mut self) -> Result<(), Violation> {
        let Some(count) = (!self.frames.is_empty()).then_some(self.frames.len() as u64) else {
            return Ok(());
        };
        let near = count.min(8);
        let position = usize::try_from(self.dice.below(near)).unwrap();
        let (from, to, _) = self.frames[position];
        let is_cut = self.cut.contains(&from) != self.cut.contains(&to);
        if is_cut || self.dice.one_in(20) {
            self.frames.remove(position);
            return Ok(());
        }
        let (_, to, frame) = match self.dice.one_in(20) {
            true => self.frames[position].clone(),
            false => self.frames.remove(position),
        };
        self.handle(to, Input::Frame(frame))
    }

    fn work(&mut self, at: usize) -> Result<(), Violation> {
        let server = &mut self.servers[at];
        let Some(work) = server.work.pop_front() else { return Ok(()) };
        let id = server.options.config.id;
        let done = server.disk.execute(work);
        if let Done::Persisted { seq } = done {
            self.checker.persist_durable(id, seq)?;
        }
        self.handle(at, Input::Done(done))
    }

    fn request(&mut self) -> Result<(), Violation> {
        let key = Bytes::copy_from_slice(&[b'a' + u8::try_from(self.dice.below(3)).unwrap()]);
        self.last_operation += 1;
        let number = self.last_operation;
        let (operation, request) = match self.session {
            None => (Operation::OpenSession, Request::OpenSession),
            Some(_) if self.dice.one_in(3) => {
                let query = KvQuery::Get { key };
                let mode = ReadMode::ReadIndex;
                (Operation::Query { query: query.clone() }, Request::Query { query, mode })
            }
            Some((session, serial)) => {
                let value = Bytes::copy_from_slice(&number.to_be_bytes());
                let command = KvCommand::Put { key, value };
                self.session = Some((session, serial + 1));
                let request = Request::Command { session, serial, command: command.clone() };
                (Operation::Command { session, serial, command }, request)
            }
        };
        self.checker.invoked(ClientId(1), OperationId(number), &operation, self.now);
        self.operations.insert(number, request);
        self.attempt(number)
    }

    /// One more attempt at an operation, most often at a node that believes that it leads.
    fn attempt(&mut self, number: u64) -> Result<(), Violation> {
        let Some(request) = self.operations.get(&number).cloned() else { return Ok(()) };
        let start = self.dice.below(self.servers.len() as u64);
        let start = usize::try_from(start).unwrap();
        let around = (0..self.servers.len()).map(|step| (start + step) % self.servers.len());
        let leads = |at: &usize| self.servers[*at].replica.status().role == RoleName::Leader;
        let at = around.into_iter().find(leads).unwrap_or(start);
        self.last_attempt += 1;
        self.attempts.insert(self.last_attempt, number);
        self.handle(at, Input::Request { id: RequestId(self.last_attempt), request })
    }

    /// The disk keeps all that it has executed, then any beginning of what it was asked for.
    fn crash(&mut self, at: usize) -> Result<(), Violation> {
        self.counts.crashes += 1;
        let server = &mut self.servers[at];
        let id = server.options.config.id;
        let batches: Vec<PersistBatch> = server.work.drain(..).filter_map(batch).collect();
        let kept = usize::try_from(self.dice.below(batches.len() as u64 + 1)).unwrap();
        for batch in &batches[..kept] {
            server.disk.persist(batch, usize::MAX);
        }
        if let Some(next) = batches.get(kept) {
            let most = next.append.len() as u64 + 1;
            let entries = usize::try_from(self.dice.below(most)).unwrap();
            let first = PersistBatch { compact_to: None, ..next.clone() };
            server.disk.persist(&first, entries);
        }
        let (mut outputs, found) = (Vec::new(), server.disk.found());
        self.checker.crashed(id);
        self.checker.recovered(id, &found)?;
        let options = server.options.clone();
        server.replica = Replica::start(options, found, Kv::new(), self.now, &mut outputs).unwrap();
        self.report(at, outputs)
    }

    fn handle(&mut self, at: usize, input: Input<Kv>) -> Result<(), Violation> {
        let mut outputs = Vec::new();
        self.servers[at].replica.handle(self.now, input, &mut outputs);
        self.report(at, outputs)
    }

    fn report(&mut self, at: usize, outputs: Vec<Output<Kv>>) -> Result<(), Violation> {
        let id = self.servers[at].options.config.id;
        for output in outputs {
            match output {
                Output::Send { to, frame } => {
                    let envelope = wire::decode(frame.clone(), &Limits::default()).unwrap();
                    self.checker.sent(id, &envelope)?;
                    self.frames.push((at, usize::try_from(to.id.0 - 1).unwrap(), frame));
                }
                Output::Reply { id, reply } => self.reply(id.0, reply)?,
                Output::Work(work) => {
                    if let Work::Persist { batch, .. } = &work {
                        self.counts.truncations += u64::from(batch.truncate_from.is_some());
                        let install = batch.install.as_ref();
                        let is_later = install.is_some_and(|it| it.last.index > Index::ZERO);
                        self.counts.installs += u64::from(is_later);
                        self.checker.persist_issued(id, batch)?;
                    }
                    self.servers[at].work.push_back(work);
                }
                Output::Save { snapshot, state } => {
                    let work = Work::SaveSnapshot { snapshot, data: state.encode() };
                    self.servers[at].work.push_back(work);
                }
                Output::Applied { entries, digest } => {
                    self.checker.applied(id, &entries, digest)?;
                }
                Output::Restored { snapshot, digest } => {
                    self.checker.restored(id, &snapshot, digest)?;
                }
                Output::Observe(Observation::RoleChanged { role: RoleName::Leader, term }) => {
                    self.counts.elections += 1;
                    self.checker.became_leader(id, term)?;
                }
                Output::Observe(Observation::Violation(found)) => panic!("{id} sees {found:?}"),
                Output::Observe(_) => {}
                Output::BadFrame(error) => panic!("{id} cannot read a frame: {error}"),
                Output::BadSnapshot { error, .. } => panic!("{id} cannot restore: {error}"),
            }
        }
        self.checker.commit_observed(id, self.servers[at].replica.status().commit)
    }

    fn reply(&mut self, number: u64, reply: Reply<Kv>) -> Result<(), Violation> {
        let number = self.attempts.remove(&number).expect("an attempt is answered once");
        if !self.operations.contains_key(&number) {
            return Ok(());
        }
        let outcome = match reply {
            Reply::SessionOpened { session } => {
                self.session.get_or_insert((session, 1));
                Outcome::Opened { session }
            }
            Reply::Response { response, index } => {
                self.counts.answers += 1;
                Outcome::Response { response, index }
            }
            Reply::Answer { answer, index } => {
                self.counts.reads += 1;
                Outcome::Answer { answer, index }
            }
            Reply::Failed(Failure::Expired) => Outcome::Expired,
            Reply::Failed(Failure::StaleSerial) => Outcome::Stale,
            // Another attempt may be on its way, or come later.
            Reply::MembershipChanged { .. } | Reply::Transferred { .. } | Reply::Failed(_) => {
                return Ok(());
            }
        };
        self.operations.remove(&number);
        self.checker.replied(ClientId(1), OperationId(number), &outcome, self.now)
    }
}

fn batch(work: Work) -> Option<PersistBatch> {
    match work {
        Work::Persist { batch, .. } => Some(batch),
        Work::SaveSnapshot { .. }
        | Work::LoadSnapshot { .. }
        | Work::Load(_)
        | Work::ReadChunk(_)
        | Work::StageChunk { .. } => None,
    }
}

fn chunk(data: &Bytes, from: u64, bytes_max: usize) -> Chunk {
    let from = usize::try_from(from).unwrap();
    let to = data.len().min(from.saturating_add(bytes_max));
    Chunk { data: data.slice(from..to), done: to == data.len() }
}
