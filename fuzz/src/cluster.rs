//! Three servers and a network, driven by whoever calls, and watched by a [`Ghost`].

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::wire::{self, Limits};
use raft_core::{
    Body, ClusterId, Config, Effect, EntryId, GroupId, Index, Member, Membership, Message,
    Observation, Outcome, ReadMode, RoleName, Term, Ticket, Time,
};

use crate::ghost::{Ghost, check_claims};
use crate::server::{Job, Server};

/// How many servers there are.
pub(crate) const SERVERS: usize = 3;

/// Frames on their way; older ones are lost.
const FRAMES_MAX: usize = 64;

/// What has happened in a cluster, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Proposals that were acknowledged as committed.
    pub commits: u64,
    /// Proposals that were acknowledged as lost, or of which nothing is known.
    pub losses: u64,
    /// Reads that were served.
    pub reads: u64,
    /// Snapshots that came from a leader and were restored.
    pub restores: u64,
    /// Servers that started again.
    pub crashes: u64,
    /// Different leaders.
    pub leaders: u64,
}

/// A cluster whose every promise is checked at every step.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    founders: Membership,
    /// The options, with the identity of the first server.
    config: Config,
    servers: Vec<Server>,
    network: VecDeque<Bytes>,
    now: Time,
    ghost: Ghost,
    tickets: u64,
    pub(crate) life: Life,
}

impl Cluster {
    /// Founders that have just started. The byte chooses the options.
    pub(crate) fn new(options: u8) -> Self {
        let members: Vec<Member> = (1..=SERVERS as u64).map(|id| Member::new(id, id * 7)).collect();
        let config = config(members[0], options);
        let founders = Membership::new(members.clone(), Vec::new()).expect("three voters");
        let mut cluster = Self {
            founders,
            config,
            servers: Vec::new(),
            network: VecDeque::new(),
            now: Time(0),
            ghost: Ghost::default(),
            tickets: 0,
            life: Life::default(),
        };
        for (at, member) in members.into_iter().enumerate() {
            let (server, effects) = Server::new(cluster.config_of(member), &cluster.founders);
            cluster.servers.push(server);
            cluster.execute(at, effects);
        }
        cluster
    }

    /// The server's next deadline passes.
    pub(crate) fn fire(&mut self, at: usize) {
        if let Some(deadline) = self.servers[at].raft.next_deadline() {
            self.now = self.now.max(deadline);
            self.step(at, Body::Tick);
        }
    }

    /// One of the frames arrives; if it is kept, it arrives again later.
    pub(crate) fn deliver(&mut self, choice: usize, is_kept: bool) {
        let Some(position) = choice.checked_rem(self.network.len()) else { return };
        let frame = self.network.remove(position).expect("the position lies in the network");
        if is_kept {
            self.network.push_back(frame.clone());
        }
        let envelope = wire::decode(frame, &Limits::default()).expect("nodes speak correctly");
        let receiver = self.servers.iter().position(|server| server.member() == envelope.to);
        self.step(receiver.expect("nodes know each other"), Body::Peer(envelope));
    }

    /// One of the frames is lost.
    pub(crate) fn lose(&mut self, choice: usize) {
        if let Some(position) = choice.checked_rem(self.network.len()) {
            self.network.remove(position);
        }
    }

    /// The disk syncs some batches.
    pub(crate) fn sync(&mut self, at: usize, batches: usize) {
        let done = self.servers[at].sync(batches);
        self.step_if(at, done);
    }

    /// The host does its oldest job.
    pub(crate) fn work(&mut self, at: usize) {
        let done = self.servers[at].work();
        self.step_if(at, done);
    }

    /// The host makes a snapshot.
    pub(crate) fn snapshot(&mut self, at: usize) {
        let done = self.servers[at].snapshot();
        self.step_if(at, done);
    }

    /// The power fails and comes back.
    pub(crate) fn crash(&mut self, at: usize, whole: usize, steps: usize) {
        self.life.crashes += 1;
        let config = self.config_of(self.servers[at].member());
        let effects = self.servers[at].crash(whole, steps, config, &self.founders, self.now);
        self.execute(at, effects);
    }

    /// A client proposes commands of these sizes, all at once.
    pub(crate) fn propose(&mut self, at: usize, sizes: &[usize]) {
        let proposals = sizes.iter().map(|&size| {
            let ticket = self.open(at);
            let byte = u8::try_from(ticket.0 % 251).expect("a small number");
            (ticket, Bytes::from(vec![byte; size]))
        });
        let proposals = proposals.collect::<Vec<_>>();
        self.step(at, Body::ProposeBatch { proposals });
    }

    /// A client wants to read.
    pub(crate) fn read(&mut self, at: usize) {
        let ticket = self.open(at);
        self.step(at, Body::Read { ticket, mode: ReadMode::ReadIndex });
    }

    /// An operator wants an election.
    pub(crate) fn campaign(&mut self, at: usize) {
        self.step(at, Body::Campaign);
    }

    /// A write fails.
    pub(crate) fn fail(&mut self, at: usize) {
        self.step(at, Body::PersistFailed);
        assert!(self.servers[at].open.is_empty(), "a node that halts ends every ticket");
    }

    /// A connection breaks.
    pub(crate) fn disconnect(&mut self, at: usize, to: usize) {
        let peer = self.servers[to].member();
        self.step(at, Body::PeerUnreachable { peer });
    }

    /// Everything that is under way happens, until nothing is. A server that is cut off takes no
    /// part: frames from it and to it are lost.
    pub(crate) fn settle(&mut self, cut_off: Option<usize>) {
        let cut = cut_off.map(|at| self.servers[at].member());
        for _ in 0..1000 {
            let mut is_quiet = true;
            for at in (0..SERVERS).filter(|&at| Some(at) != cut_off) {
                is_quiet &=
                    self.servers[at].unsynced.is_empty() && self.servers[at].jobs.is_empty();
                self.sync(at, usize::MAX);
                self.work(at);
            }
            if let Some(frame) = self.network.front().cloned() {
                is_quiet = false;
                let envelope = wire::decode(frame, &Limits::default()).expect("a frame is one");
                if cut == Some(envelope.from) || cut == Some(envelope.to) {
                    self.lose(0);
                } else {
                    self.deliver(0, false);
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("a cluster without faults comes to rest");
    }

    /// All faults end: a command is committed, everyone learns of it, every request has ended.
    pub(crate) fn heal(&mut self) {
        for at in 0..SERVERS {
            if self.servers[at].raft.status().role == RoleName::Halted {
                self.crash(at, usize::MAX - 1, 0);
            }
        }
        self.settle(None);
        let before = self.life.commits;
        for _ in 0..100 {
            if self.life.commits > before {
                break;
            }
            self.fire_earliest();
            if let Some(at) = self.leader() {
                self.propose(at, &[1]);
                self.settle(None);
            }
        }
        assert!(self.life.commits > before, "a healed cluster commits: {self:#?}");
        self.check_rest();
    }

    /// After some heartbeats, everyone has applied what is committed and owes no outcome.
    fn check_rest(&mut self) {
        let committed = self.ghost.last_committed();
        for _ in 0..20 {
            self.fire_earliest();
        }
        for server in &self.servers {
            let status = server.raft.status();
            assert!(status.applied >= committed, "everyone catches up: {status:?}");
            assert!(server.open.is_empty(), "every request ends: {:?}", server.open);
        }
    }

    fn fire_earliest(&mut self) {
        let deadline = |at: &usize| self.servers[*at].raft.next_deadline();
        let at = (0..SERVERS).min_by_key(|at| deadline(at).unwrap_or(Time(u64::MAX)));
        self.fire(at.expect("there are servers"));
        self.settle(None);
    }

    /// The leader of the latest term.
    fn leader(&self) -> Option<usize> {
        let term = |at: &usize| self.servers[*at].raft.status().term;
        let leads = |at: &usize| self.servers[*at].raft.status().role == RoleName::Leader;
        (0..SERVERS).filter(leads).max_by_key(term)
    }

    fn open(&mut self, at: usize) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.servers[at].open.insert(ticket, self.ghost.last_committed());
        ticket
    }

    fn step_if(&mut self, at: usize, body: Option<Body>) {
        if let Some(body) = body {
            self.step(at, body);
        }
    }

    fn step(&mut self, at: usize, body: Body) {
        let effects = self.servers[at].raft.step(Message { now: self.now, body });
        let status = self.servers[at].raft.status();
        if status.role == RoleName::Leader {
            let is_new = self.ghost.leads(status.term, status.member);
            self.life.leaders += u64::from(is_new);
        }
        self.execute(at, effects);
    }

    fn execute(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            let server = &mut self.servers[at];
            match effect {
                Effect::Persist(batch) => server.unsynced.push_back(batch),
                Effect::Send(envelope) => {
                    check_claims(&envelope, &server.disk);
                    if self.network.len() == FRAMES_MAX {
                        self.network.pop_front();
                    }
                    self.network.push_back(wire::encode(&envelope));
                }
                Effect::Apply { entries } => {
                    for entry in entries.iter() {
                        self.hand_out(at, entry.id());
                    }
                }
                Effect::RestoreState { snapshot } => {
                    let durable = server.disk.snapshot().map(|durable| durable.last);
                    assert_eq!(durable, Some(snapshot.last), "what is restored is durable");
                    self.life.restores += 1;
                    server.handed_out = snapshot.last.index;
                    server.jobs.push_back(Job::Apply(snapshot.last.index));
                    self.commits(snapshot.last);
                }
                Effect::Outcome { ticket, outcome } => {
                    let floor = server.open.remove(&ticket);
                    assert!(floor.is_some(), "{ticket} ends once");
                    match outcome {
                        Outcome::Committed { term, index } => self.acknowledged(term, index),
                        Outcome::Superseded | Outcome::Unknown | Outcome::Halted => {
                            self.life.losses += 1;
                        }
                        Outcome::Refused(_) | Outcome::Transferred { .. } => {}
                    }
                }
                Effect::ReadReady { ticket, index, valid_until: _ } => {
                    self.life.reads += 1;
                    let floor = server.open.remove(&ticket).expect("a read ends once");
                    assert!(index >= floor, "a read at {index} misses {floor}");
                }
                Effect::Load(request) => panic!("nothing is cold here: {request:?}"),
                Effect::ReadChunk(request) => server.jobs.push_back(Job::Read(request)),
                Effect::StageChunk { snapshot, offset, data, done: _ } => {
                    let snapshot = snapshot.last;
                    server.jobs.push_back(Job::Stage { snapshot, offset, data });
                }
                Effect::Observe(observation) => {
                    let is_violation = matches!(observation, Observation::Violation(_));
                    assert!(!is_violation, "an honest cluster sees a {observation:?}");
                }
            }
        }
    }

    fn hand_out(&mut self, at: usize, id: EntryId) {
        let server = &mut self.servers[at];
        assert_eq!(id.index, server.handed_out.next(), "entries are applied in order, once");
        assert!(server.disk.holds(id), "what is applied is durable here: {id}");
        server.handed_out = id.index;
        server.jobs.push_back(Job::Apply(id.index));
        self.commits(id);
    }

    fn acknowledged(&mut self, term: Term, index: Index) {
        let ids = self.servers.iter().filter_map(|server| server.disk.id_at(index));
        let id = ids.into_iter().find(|id| id.term == term);
        self.life.commits += 1;
        self.commits(id.expect("an acknowledged entry is on some disk"));
    }

    fn commits(&mut self, id: EntryId) {
        self.ghost.commits(id, self.servers.iter().map(|server| &server.disk));
    }

    fn config_of(&self, member: Member) -> Config {
        Config { id: member.id, lineage: member.lineage, ..self.config.clone() }
    }
}

/// Small limits, so that a few steps reach them.
fn config(member: Member, options: u8) -> Config {
    Config {
        pre_vote: options & 1 == 0,
        check_quorum: options & 2 == 0,
        kept_behind_snapshot: u64::from(options >> 2 & 3),
        seed: u64::from(options >> 4),
        command_bytes_max: 8,
        append_bytes_max: 12,
        append_entries_max: 3,
        inflight_appends_max: 2,
        uncommitted_bytes_max: 40,
        unapplied_bytes_max: 10,
        requests_max: 6,
        snapshot_chunk_bytes: 4,
        ..Config::new(ClusterId(1), GroupId(1), member)
    }
}
