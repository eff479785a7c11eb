// A cluster in one thread, whose clock, network and crashes are in the caller's hands: what the
// examples of the guide stand on, and a beginning for the tests of a host. Its disks are perfect
// and at once; its state machine is a text to which commands are appended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Body, Chunk, ClusterId, Config, Effect, Entries, Entry, Envelope, GroupId, Index, Member,
    Membership, Message, Observation, Outcome, Payload, PersistBatch, Raft, RecoveredState,
    RoleName, Slot, SnapshotMeta, Ticket, Time,
};

pub fn member(id: u64) -> Member {
    Member::new(id, 1000 + id)
}

/// What a snapshot covers, and its bytes.
pub type Snapshot = (Arc<SnapshotMeta>, Bytes);

pub struct Server {
    pub config: Config,
    pub raft: Raft,
    pub disk: RecoveredState,
    /// The state machine.
    pub text: String,
    pub outcomes: BTreeMap<Ticket, Outcome>,
    pub reads: BTreeMap<Ticket, (Index, Option<Time>)>,
    pub observed: Vec<Observation>,
    pub snapshot: Option<Snapshot>,
    pub staged: Vec<u8>,
}

pub struct Cluster {
    pub now: Time,
    pub servers: BTreeMap<u64, Server>,
    pub network: VecDeque<Envelope>,
    /// Messages to and from these servers are lost.
    pub cut_off: Vec<u64>,
}

impl Cluster {
    /// Founds a group of these voters.
    pub fn new(voters: &[u64]) -> Self {
        Self::with(voters, |_| {})
    }

    pub fn with(voters: &[u64], adjust: impl Fn(&mut Config)) -> Self {
        let now = Time(0);
        let mut cluster =
            Self { now, servers: BTreeMap::new(), network: VecDeque::new(), cut_off: vec![] };
        let voters: Vec<Member> = voters.iter().copied().map(member).collect();
        let founders = Membership::new(voters.clone(), vec![]).expect("each is named once");
        for voter in voters {
            let mut config = Config::new(ClusterId(1), GroupId(0), voter);
            adjust(&mut config);
            cluster.start(config, RecoveredState::genesis(founders.clone()), None);
        }
        cluster
    }

    /// Starts a server that knows nothing and waits to be added.
    pub fn start_blank(&mut self, id: u64) {
        let config = Config::new(ClusterId(1), GroupId(0), member(id));
        self.start(config, RecoveredState::genesis(Membership::default()), None);
    }

    fn start(&mut self, config: Config, disk: RecoveredState, snapshot: Option<Snapshot>) {
        let (raft, effects) =
            Raft::recover(config.clone(), disk.clone(), self.now).expect("the disk is intact");
        let id = config.id.0;
        let server = Server {
            config,
            raft,
            disk,
            text: String::new(),
            outcomes: BTreeMap::new(),
            reads: BTreeMap::new(),
            observed: vec![],
            snapshot,
            staged: vec![],
        };
        self.servers.insert(id, server);
        self.execute(id, effects);
    }

    /// A server forgets everything but its disk, and starts again.
    pub fn restart(&mut self, id: u64) {
        let Server { config, disk, snapshot, .. } = self.servers.remove(&id).expect("it exists");
        self.start(config, disk, snapshot);
    }

    pub fn server(&self, id: u64) -> &Server {
        &self.servers[&id]
    }

    pub fn role(&self, id: u64) -> RoleName {
        self.server(id).raft.status().role
    }

    /// Gives a server one input, and lets everything that follows from it happen.
    pub fn step(&mut self, id: u64, body: Body) {
        let now = self.now;
        let effects =
            self.servers.get_mut(&id).expect("it exists").raft.step(Message { now, body });
        self.execute(id, effects);
        self.deliver();
    }

    pub fn elect(&mut self, id: u64) {
        self.step(id, Body::Campaign);
        assert_eq!(self.role(id), RoleName::Leader);
    }

    pub fn propose(&mut self, id: u64, ticket: u64, command: &str) -> Option<Outcome> {
        let command = Bytes::from(command.to_owned());
        self.step(id, Body::Propose { ticket: Ticket(ticket), command });
        self.outcome(id, ticket)
    }

    pub fn outcome(&self, id: u64, ticket: u64) -> Option<Outcome> {
        self.server(id).outcomes.get(&Ticket(ticket)).copied()
    }

    /// Lets time pass: every deadline on the way gets its tick.
    pub fn pass(&mut self, us: u64) {
        let end = Time(self.now.0 + us);
        loop {
            let deadline = |server: &Server| server.raft.next_deadline();
            let due = self.servers.iter().filter_map(|(id, server)| Some((deadline(server)?, *id)));
            let Some((at, id)) = due.min().filter(|(at, _)| *at <= end) else { break };
            self.now = at.max(self.now);
            self.step(id, Body::Tick);
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        while let Some(envelope) = self.network.pop_front() {
            let (from, to) = (envelope.from.id.0, envelope.to.id.0);
            let is_lost = self.cut_off.contains(&from) || self.cut_off.contains(&to);
            if !is_lost && self.servers.contains_key(&to) {
                let message = Message { now: self.now, body: Body::Peer(envelope) };
                let server = self.servers.get_mut(&to).expect("it exists");
                let effects = server.raft.step(message);
                self.execute(to, effects);
            }
        }
    }

    fn execute(&mut self, id: u64, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        let now = self.now;
        let server = self.servers.get_mut(&id).expect("it exists");
        while let Some(effect) = effects.pop_front() {
            let body = match effect {
                Effect::Send(envelope) => {
                    self.network.push_back(envelope);
                    continue;
                }
                effect => server.execute(effect),
            };
            effects
                .extend(body.into_iter().flat_map(|body| server.raft.step(Message { now, body })));
        }
    }
}

impl Server {
    /// Executes an effect other than `Send`, and returns what completes it.
    fn execute(&mut self, effect: Effect) -> Option<Body> {
        match effect {
            Effect::Send(_) => unreachable!("sent"),
            Effect::Load(request) => {
                let wanted = |slot: &&Slot| {
                    request.after.index < slot.id().index && slot.id().index <= request.through
                };
                let payloads = self.disk.slots.iter().filter(wanted).map_while(|slot| match slot {
                    Slot::Resident { id, payload } => Some((id.term, payload.clone())),
                    Slot::Cold { .. } | Slot::Damaged { .. } => None,
                });
                let entries = Entries::after(request.after, payloads);
                let entries = (!entries.is_empty()).then_some(entries);
                return Some(Body::Loaded { request, entries });
            }
            Effect::Persist(batch) => {
                let seq = batch.seq;
                self.write(batch);
                return Some(Body::Persisted { seq });
            }
            Effect::Apply { entries } => {
                for entry in entries.iter() {
                    match entry.payload() {
                        Payload::Command(text) => {
                            self.text.push_str(std::str::from_utf8(text).expect("it is text"));
                        }
                        Payload::Noop | Payload::Membership(_) => {}
                    }
                }
                return entries.last().map(|last| Body::Applied { through: last.index() });
            }
            Effect::RestoreState { snapshot } => {
                let bytes = self.snapshot.as_ref().map_or(&[][..], |(_, bytes)| bytes);
                self.text = String::from_utf8(bytes.to_vec()).expect("it is text");
                return Some(Body::Applied { through: snapshot.last.index });
            }
            Effect::ReadChunk(request) => {
                let from = usize::try_from(request.offset).expect("snapshots are small here");
                let bytes = self.snapshot.as_ref().map_or(Bytes::new(), |(_, it)| it.clone());
                let end = bytes.len().min(from + request.bytes_max);
                let (data, done) = (bytes.slice(from..end), end == bytes.len());
                return Some(Body::ChunkRead { request, chunk: Some(Chunk { data, done }) });
            }
            Effect::StageChunk { id, offset, data, .. } => {
                self.staged.truncate(usize::try_from(offset).expect("snapshots are small here"));
                self.staged.extend_from_slice(&data);
                let staged = self.staged.len() as u64;
                return Some(Body::ChunkStaged { id, staged });
            }
            Effect::Outcome { ticket, outcome } => drop(self.outcomes.insert(ticket, outcome)),
            Effect::ReadReady { ticket, index, valid_until } => {
                self.reads.insert(ticket, (index, valid_until));
            }
            Effect::Observe(observation) => self.observed.push(observation),
        }
        None
    }

    /// The fields of a batch take effect in the order in which they stand in it.
    fn write(&mut self, batch: PersistBatch) {
        let disk = &mut self.disk;
        disk.hard_state = batch.hard_state.unwrap_or(disk.hard_state);
        if let Some(snapshot) = batch.install {
            let last = snapshot.last;
            let is_on_log = disk.before == last || disk.slots.iter().any(|slot| slot.id() == last);
            disk.slots.retain(|slot| is_on_log && slot.id().index > last.index);
            (disk.before, disk.founding) = (last, false);
            self.snapshot = Some((Arc::clone(&snapshot), std::mem::take(&mut self.staged).into()));
            disk.snapshot = snapshot;
        }
        if let Some(from) = batch.truncate_from {
            disk.slots.retain(|slot| slot.id().index < from);
        }
        let slot =
            |entry: &Entry| Slot::Resident { id: entry.id(), payload: entry.payload().clone() };
        for entry in batch.heal.iter().flat_map(|run| run.iter()) {
            let damaged = disk.slots.iter_mut().find(|slot| slot.id() == entry.id());
            *damaged.expect("what heals is what was there") = slot(entry);
        }
        disk.slots.extend(batch.append.iter().map(slot));
        if let Some(through) = batch.compact_to {
            let last = disk.slots.iter().map(Slot::id).find(|id| id.index == through);
            disk.before = last.unwrap_or(disk.before);
            disk.slots.retain(|slot| slot.id().index > through);
        }
    }

    /// Takes a snapshot of the state machine, as a host does from time to time.
    pub fn take_snapshot(&mut self) -> Body {
        let applied = self.raft.status().applied;
        let snapshot = self.raft.snapshot_at(applied).expect("what is applied can be described");
        self.snapshot = Some((Arc::clone(&snapshot), Bytes::from(self.text.clone())));
        self.disk.snapshot = Arc::clone(&snapshot);
        Body::SnapshotTaken { snapshot }
    }
}
