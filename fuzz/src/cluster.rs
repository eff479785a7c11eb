//! A few servers and a network, driven by whoever calls, and watched by a [`Ghost`].

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::wire::{self, Limits};
use raft_core::{
    Body, ClusterId, Config, Effect, Envelope, GroupId, Index, Member, Membership, Message,
    Observation, Outcome, ReadMode, RoleName, Status, Ticket, Time,
};

use crate::dice::Dice;
use crate::disk::Disk;
use crate::ghost::Ghost;
use crate::server::{Job, Left, Request, Server};

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
    /// Snapshots that came from a leader or from the disk and were restored.
    pub restores: u64,
    /// Servers that started again.
    pub crashes: u64,
    /// Different leaders.
    pub leaders: u64,
}

/// Who founds a cluster, and with which options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// From 1 to 5.
    pub voters: usize,
    /// Beside the voters.
    pub learners: usize,
    /// Each bit is a choice: see the configuration of a fuzzed server.
    pub options: u8,
}

impl Shape {
    /// Two bytes, read as a shape.
    #[must_use]
    pub fn from_bytes(options: u8, size: u8) -> Self {
        let voters = [3, 3, 1, 2, 4, 5, 3, 2][usize::from(size % 8)];
        Self { voters, learners: usize::from(size / 8 % 4 == 3), options }
    }

    /// Who founds the cluster, as a membership and as a list.
    pub(crate) fn members(&self) -> (Membership, Vec<Member>) {
        let member = |id: usize| Member::new(id as u64, id as u64 * 7);
        let all: Vec<Member> = (1..=self.servers()).map(member).collect();
        let (voters, learners) = all.split_at(self.voters);
        let founders = Membership::new(voters.to_vec(), learners.to_vec());
        (founders.expect("each is named once"), all)
    }

    /// Voters and learners.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.voters + self.learners
    }
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
    /// Founders that have just started.
    pub(crate) fn new(shape: Shape) -> Self {
        let (founders, all) = shape.members();
        let mut cluster = Self {
            config: config(all[0], shape.options),
            founders,
            servers: Vec::new(),
            network: VecDeque::new(),
            now: Time(0),
            ghost: Ghost::default(),
            tickets: 0,
            life: Life::default(),
        };
        for (at, member) in all.into_iter().enumerate() {
            let (server, effects) = Server::new(cluster.config_of(member), &cluster.founders);
            cluster.servers.push(server);
            cluster.execute(at, effects);
        }
        cluster
    }

    pub(crate) fn fire(&mut self, at: usize) {
        let at = self.server(at);
        if let Some(deadline) = self.servers[at].raft.next_deadline() {
            self.now = self.now.max(deadline);
            self.step(at, Body::Tick);
        }
    }

    pub(crate) fn pass(&mut self, us: u64) {
        self.now = Time(self.now.0 + us);
    }

    pub(crate) fn deliver(&mut self, choice: usize, is_kept: bool) {
        let Some(position) = choice.checked_rem(self.network.len()) else { return };
        let frame = self.network.remove(position).expect("the position lies in the network");
        if is_kept {
            self.network.push_back(frame.clone());
        }
        let envelope = decode(frame);
        let receiver = self.servers.iter().position(|server| server.member() == envelope.to);
        self.step(receiver.expect("nodes know each other"), Body::Peer(envelope));
    }

    pub(crate) fn deliver_all(&mut self, at: usize) {
        let at = self.server(at);
        let to = self.servers[at].member();
        let frames = std::mem::take(&mut self.network);
        let mut bodies = Vec::new();
        for frame in frames {
            let envelope = decode(frame.clone());
            if envelope.to == to {
                bodies.push(Body::Peer(envelope));
            } else {
                self.network.push_back(frame);
            }
        }
        self.step_batch(at, bodies);
    }

    pub(crate) fn lose(&mut self, choice: usize) {
        if let Some(position) = choice.checked_rem(self.network.len()) {
            self.network.remove(position);
        }
    }

    pub(crate) fn sync(&mut self, at: usize, batches: usize) {
        let at = self.server(at);
        self.servers[at].sync(batches);
    }

    pub(crate) fn tell(&mut self, at: usize) {
        let at = self.server(at);
        let word = self.servers[at].tell();
        self.step_if(at, word);
    }

    pub(crate) fn apply(&mut self, at: usize, times: usize) {
        let at = self.server(at);
        let done = self.servers[at].apply(times);
        self.step_if(at, done);
    }

    pub(crate) fn work(&mut self, at: usize, choice: usize) {
        let at = self.server(at);
        let done = self.servers[at].work(choice);
        self.step_if(at, done);
    }

    pub(crate) fn snapshot(&mut self, at: usize) {
        let at = self.server(at);
        let done = self.servers[at].snapshot();
        self.step_if(at, done);
    }

    pub(crate) fn crash(&mut self, at: usize, left: Left) {
        let at = self.server(at);
        self.life.crashes += 1;
        let config = self.config_of(self.servers[at].member());
        let effects = self.servers[at].crash(left, config, &self.founders, self.now);
        self.execute(at, effects);
    }

    /// A command of this size, and some of one byte, all at once.
    pub(crate) fn propose(&mut self, at: usize, size: usize, more: usize) {
        let at = self.server(at);
        let sizes = [size].into_iter().chain((0..more).map(|_| 1));
        let mut proposals = Vec::new();
        for size in sizes {
            let number = (self.tickets + 1).to_le_bytes();
            let command: Bytes = number.into_iter().cycle().take(size).collect();
            let ticket = self.open(at, Request::Command(command.clone()));
            proposals.push((ticket, command));
        }
        self.step(at, Body::ProposeBatch { proposals });
    }

    pub(crate) fn read(&mut self, at: usize) {
        let at = self.server(at);
        let ticket = self.open(at, Request::Read(self.ghost.last_committed()));
        self.step(at, Body::Read { ticket, mode: ReadMode::ReadIndex });
    }

    pub(crate) fn campaign(&mut self, at: usize) {
        let at = self.server(at);
        self.step(at, Body::Campaign);
    }

    pub(crate) fn fail(&mut self, at: usize) {
        let at = self.server(at);
        self.step(at, Body::PersistFailed);
        assert!(self.servers[at].open.is_empty(), "a node that halts ends every ticket");
    }

    pub(crate) fn disconnect(&mut self, at: usize, to: usize) {
        let (at, to) = (self.server(at), self.server(to));
        let peer = self.servers[to].member();
        self.step(at, Body::PeerUnreachable { peer });
    }

    /// The worst order of effects, for so many of them.
    pub(crate) fn rush(&mut self, things: usize, seed: u8) {
        let mut dice = Dice::new(u64::from(seed));
        for _ in 0..things {
            let choice = dice.below(1 << 24);
            let late = |server: &Server| !server.jobs.is_empty() || !server.unapplied.is_empty();
            if !self.network.is_empty() {
                self.deliver(choice, choice >> 20 == 0);
            } else if let Some(at) = self.find(choice, late) {
                self.work(at, choice);
                self.apply(at, 1);
            } else if let Some(at) = self.find(choice, Server::owes_word) {
                self.tell(at);
            } else if let Some(at) = self.find(choice, |server| !server.unsynced.is_empty()) {
                self.sync(at, 1);
            } else {
                self.fire_earliest();
            }
        }
    }

    /// Everything that is under way happens, until nothing is. A server that is cut off takes no
    /// part: frames from it and to it are lost.
    pub(crate) fn settle(&mut self, cut_off: Option<usize>) {
        let cut_off = cut_off.map(|at| self.server(at));
        let cut = cut_off.map(|at| self.servers[at].member());
        for _ in 0..2000 {
            let mut is_quiet = true;
            for at in (0..self.servers.len()).filter(|&at| Some(at) != cut_off) {
                is_quiet &= self.servers[at].is_idle();
                self.sync(at, usize::MAX);
                if self.servers[at].owes_word() {
                    self.tell(at);
                }
                self.work(at, 0);
                self.apply(at, 1);
            }
            if let Some(frame) = self.network.front().cloned() {
                is_quiet = false;
                let envelope = decode(frame);
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

    /// Two servers do all their work and hear each other, until they have nothing to say.
    pub(crate) fn talk(&mut self, one: usize, two: usize) {
        let pair = [self.server(one), self.server(two)];
        let members = pair.map(|at| self.servers[at].member());
        for _ in 0..200 {
            for at in pair {
                self.sync(at, usize::MAX);
                if self.servers[at].owes_word() {
                    self.tell(at);
                }
                self.work(at, 0);
                self.apply(at, 1);
            }
            let is_between = |frame: &Bytes| {
                let envelope = decode(frame.clone());
                members.contains(&envelope.from) && members.contains(&envelope.to)
            };
            match self.network.iter().position(is_between) {
                Some(position) => self.deliver(position, false),
                None if pair.iter().all(|at| self.servers[*at].is_idle()) => return,
                None => {}
            }
        }
        panic!("two servers come to rest");
    }

    /// All faults end: a command is committed, everyone learns of it, every request has ended.
    pub(crate) fn heal(&mut self) {
        for at in 0..self.servers.len() {
            if self.servers[at].raft.status().role == RoleName::Halted {
                self.crash(at, Left { whole: usize::MAX - 1, steps: 0, state: false });
            }
        }
        self.settle(None);
        let before = self.life.commits;
        for _ in 0..200 {
            if self.life.commits > before {
                break;
            }
            self.fire_earliest();
            self.settle(None);
            if let Some(at) = self.leader() {
                self.propose(at, 1, 0);
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
            self.settle(None);
        }
        for server in &self.servers {
            let status = server.raft.status();
            assert!(status.applied >= committed, "everyone catches up: {status:?}");
            assert!(server.open.is_empty(), "every request ends: {:?}", server.open);
        }
        self.ghost.check_losses();
    }

    fn fire_earliest(&mut self) {
        let deadline = |at: &usize| self.servers[*at].raft.next_deadline();
        let at = (0..self.servers.len()).min_by_key(|at| deadline(at).unwrap_or(Time(u64::MAX)));
        self.fire(at.expect("there are servers"));
    }

    /// The leader of the latest term.
    fn leader(&self) -> Option<usize> {
        let term = |at: &usize| self.servers[*at].raft.status().term;
        let leads = |at: &usize| self.servers[*at].raft.status().role == RoleName::Leader;
        (0..self.servers.len()).filter(leads).max_by_key(term)
    }

    /// One of the servers of which something is true.
    fn find(&self, choice: usize, is: impl Fn(&Server) -> bool) -> Option<usize> {
        let count = self.servers.len();
        (0..count).map(|step| (choice + step) % count).find(|&at| is(&self.servers[at]))
    }

    fn server(&self, at: usize) -> usize {
        at % self.servers.len()
    }

    fn open(&mut self, at: usize, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.servers[at].open.insert(ticket, request);
        ticket
    }

    fn step_if(&mut self, at: usize, body: Option<Body>) {
        if let Some(body) = body {
            self.step(at, body);
        }
    }

    fn step(&mut self, at: usize, body: Body) {
        self.step_batch(at, vec![body]);
    }

    fn step_batch(&mut self, at: usize, bodies: Vec<Body>) {
        let now = self.now;
        let before = self.servers[at].raft.status();
        let mut effects = Vec::new();
        let messages = bodies.into_iter().map(|body| Message { now, body });
        self.servers[at].raft.step_batch(messages, &mut effects);
        self.look(at, &before);
        self.execute(at, effects);
    }

    /// The ghost looks at a node that has moved.
    fn look(&mut self, at: usize, before: &Status) {
        let Self { servers, ghost, .. } = self;
        let raft = &servers[at].raft;
        if raft.status().role == RoleName::Leader {
            self.life.leaders += u64::from(ghost.leads(raft));
        }
        let disk = |member| -> Option<&Disk> {
            servers.iter().find(|server| server.member() == member).map(|server| &server.disk)
        };
        ghost.moved(before, raft, disk);
    }

    fn execute(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            let server = &mut self.servers[at];
            match effect {
                Effect::Persist(batch) => {
                    self.ghost.writes(&batch.append);
                    server.unsynced.push_back(batch);
                }
                Effect::Send(envelope) => self.send(at, &envelope),
                Effect::Apply { entries } => {
                    for entry in entries.iter() {
                        let id = entry.id();
                        assert_eq!(id.index, server.handed_out.next(), "in order, and once");
                        assert!(server.disk.holds(id), "what is applied is durable here: {id}");
                        self.ghost.is_committed(id);
                        server.handed_out = id.index;
                    }
                    server.unapplied.push_back(server.handed_out);
                }
                Effect::RestoreState { snapshot } => {
                    let durable = server.disk.snapshot().map(|durable| durable.last);
                    assert_eq!(durable, Some(snapshot.last), "what is restored is durable");
                    self.ghost.is_committed(snapshot.last);
                    server.handed_out = snapshot.last.index;
                    server.unapplied.push_back(server.handed_out);
                    self.life.restores += 1;
                }
                Effect::Outcome { ticket, outcome } => self.end(at, ticket, outcome),
                Effect::ReadReady { ticket, index } => self.serve(at, ticket, index),
                Effect::ReadChunk(request) => server.jobs.push(Job::Read(request)),
                Effect::StageChunk { snapshot, offset, data, done: _ } => {
                    let snapshot = snapshot.last;
                    server.jobs.push(Job::Stage { snapshot, offset, data });
                }
                Effect::Observe(observation) => {
                    let is_violation = matches!(observation, Observation::Violation(_));
                    assert!(!is_violation, "an honest cluster sees a {observation:?}");
                }
            }
        }
    }

    fn send(&mut self, at: usize, envelope: &Envelope) {
        let receiver = self.servers.iter().find(|server| server.member() == envelope.to);
        let receiver = receiver.map(|server| &server.raft);
        self.ghost.hears(envelope, &self.servers[at].disk, receiver);
        if self.network.len() == FRAMES_MAX {
            self.network.pop_front();
        }
        self.network.push_back(wire::encode(envelope));
    }

    fn end(&mut self, at: usize, ticket: Ticket, outcome: Outcome) {
        let request = self.servers[at].open.remove(&ticket);
        let request = request.unwrap_or_else(|| panic!("{ticket} ends twice"));
        match (outcome, request) {
            (Outcome::Committed { term, index }, Request::Command(command)) => {
                self.life.commits += 1;
                self.ghost.acknowledges(term, index, &command);
            }
            (Outcome::Superseded, Request::Command(command)) => {
                self.life.losses += 1;
                self.ghost.loses(command);
            }
            (Outcome::Unknown | Outcome::Halted, _) => self.life.losses += 1,
            (Outcome::Refused(_), _) => {}
            (Outcome::Committed { .. } | Outcome::Superseded, Request::Read(_)) => {
                panic!("a read is not {outcome:?}")
            }
        }
    }

    fn serve(&mut self, at: usize, ticket: Ticket, index: Index) {
        self.life.reads += 1;
        let Some(Request::Read(floor)) = self.servers[at].open.remove(&ticket) else {
            panic!("{ticket} is no open read")
        };
        assert!(index >= floor, "a read at {index} misses {floor}");
    }

    fn config_of(&self, member: Member) -> Config {
        Config { id: member.id, lineage: member.lineage, ..self.config.clone() }
    }
}

fn decode(frame: Bytes) -> Envelope {
    wire::decode(frame, &Limits::default()).expect("nodes speak correctly")
}

/// Small limits, so that a few steps reach them.
pub(crate) fn config(member: Member, options: u8) -> Config {
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
