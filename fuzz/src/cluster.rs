//! A few servers and a network, driven by whoever calls, and watched by a [`Ghost`].

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::wire::{self, Limits};
use raft_core::{
    Body, Effect, Envelope, HaltReason, Index, Member, Membership, Message, Observation, Outcome,
    Refused, RoleName, Status, Ticket, Time,
};

use crate::disk::Disk;
use crate::ghost::Ghost;
use crate::server::{Job, Left, Request, Server};
use crate::shape::Shape;

/// Whoever leads, where an event names a server.
pub const LEADER: usize = usize::MAX;

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
    /// Of those, by a lease.
    pub leases: u64,
    /// Snapshots that came from a leader or from the disk and were restored.
    pub restores: u64,
    /// Servers that started again.
    pub crashes: u64,
    /// Different leaders.
    pub leaders: u64,
    /// Membership changes that were acknowledged as committed.
    pub changes: u64,
    /// Transfers that ended in a later term.
    pub transfers: u64,
    /// New epochs.
    pub epochs: u64,
    /// What a server refused because its disk was full.
    pub full_disks: u64,
    /// Damaged entries that were healed.
    pub healed: u64,
    /// Damaged entries that were found to be uncommitted, and dropped by a leader.
    pub discarded: u64,
    /// Servers that did not know the end of their log, and do now.
    pub doubts: u64,
}

impl Life {
    pub(crate) fn count(&mut self, observation: &Observation) {
        if let Observation::Healed { count, .. } = observation {
            self.healed += count;
        }
        if let Observation::Refused { reason: Refused::DiskFull, .. } = observation {
            self.full_disks += 1;
        }
        self.discarded += u64::from(matches!(observation, Observation::EntryDiscarded { .. }));
        self.doubts += u64::from(matches!(observation, Observation::TailCertain));
    }
}

/// A cluster whose every promise is checked at every step.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    network: VecDeque<Bytes>,
    pub(crate) now: Time,
    /// Whether a member was ever replaced by another one with an empty disk.
    pub(crate) is_wiped: bool,
    pub(crate) ghost: Ghost,
    tickets: u64,
    /// Until when, by which server's clock, nobody else may begin to lead.
    lent: Vec<(usize, Time)>,
    pub(crate) life: Life,
}

impl Cluster {
    /// Founders that have just started, and servers that know nothing.
    pub(crate) fn new(shape: Shape) -> Self {
        let mut cluster = Self {
            servers: Vec::new(),
            network: VecDeque::new(),
            now: Time(0),
            is_wiped: false,
            ghost: Ghost::default(),
            tickets: 0,
            lent: Vec::new(),
            life: Life::default(),
        };
        let founders = shape.founders();
        for (at, member) in shape.members().into_iter().enumerate() {
            let is_founder = founders.is_member(member);
            let genesis = if is_founder { founders.clone() } else { Membership::default() };
            let (server, effects) = Server::new(shape.config(member), genesis);
            cluster.servers.push(server);
            cluster.execute(at, effects);
        }
        cluster
    }

    pub(crate) fn fire(&mut self, at: usize) {
        let at = self.server(at);
        if let Some(deadline) = self.deadline(at) {
            self.now = self.now.max(deadline);
            self.step(at, Body::Tick);
        }
    }

    /// When a server's next deadline has passed by its own clock.
    pub(crate) fn deadline(&self, at: usize) -> Option<Time> {
        let server = &self.servers[at];
        server.raft.next_deadline().map(|reading| server.moment(reading))
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
        // A member that was wiped is gone; who has its place hears what was meant for it.
        let is_there = |server: &Server| server.member().id == envelope.to.id;
        let at = self.servers.iter().position(is_there).expect("nodes know each other");
        self.step(at, Body::Peer(envelope));
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

    /// Where the first frame stands of which something is true.
    pub(crate) fn frame(&self, is: impl Fn(&Envelope) -> bool) -> Option<usize> {
        self.network.iter().position(|frame| is(&decode(frame.clone())))
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
        let done = self.servers[at].work(choice, choice % 4 < 3);
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
        self.forget_leases(at);
        let effects = self.servers[at].crash(left, self.now);
        self.execute(at, effects);
    }

    /// The directory of a server is formatted anew. Not while something is damaged: it might be the
    /// last copy.
    pub(crate) fn wipe(&mut self, at: usize) {
        if self.servers.iter().any(|server| server.disk.is_hurt()) {
            return;
        }
        self.is_wiped = true;
        self.forget_leases(at);
        let effects = self.servers[at].wipe(self.now);
        self.execute(at, effects);
    }

    /// A host that is down answers nobody by a lease.
    pub(crate) fn forget_leases(&mut self, at: usize) {
        self.lent.retain(|(by, _)| *by != at);
    }

    pub(crate) fn disconnect(&mut self, at: usize, to: usize) {
        let (at, to) = (self.server(at), self.server(to));
        let peer = self.servers[to].member();
        self.step(at, Body::PeerUnreachable { peer });
    }

    /// Which server an event means.
    pub(crate) fn server(&self, at: usize) -> usize {
        if at == LEADER {
            return self.leader().unwrap_or(0);
        }
        at % self.servers.len()
    }

    pub(crate) fn open(&mut self, at: usize, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.servers[at].open.insert(ticket, request);
        ticket
    }

    /// The number that the next ticket will have.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.tickets + 1
    }

    fn step_if(&mut self, at: usize, body: Option<Body>) {
        if let Some(body) = body {
            self.step(at, body);
        }
    }

    pub(crate) fn step(&mut self, at: usize, body: Body) {
        self.step_batch(at, vec![body]);
    }

    fn step_batch(&mut self, at: usize, bodies: Vec<Body>) {
        let now = self.servers[at].clock(self.now);
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
        let after = raft.status();
        if after.epoch > before.epoch && !before.membership.is_empty() {
            ghost.begins_anew(raft);
            self.lent.clear();
            self.life.epochs += 1;
        }
        if after.role == RoleName::Leader {
            let is_new = ghost.leads(raft);
            self.life.leaders += u64::from(is_new);
            let is_over =
                |(by, until): &(usize, Time)| *by == at || servers[*by].clock(self.now) >= *until;
            assert!(!is_new || self.lent.iter().all(is_over), "who reads by lease leads alone");
        }
        let disk = |member| -> Option<&Disk> {
            servers.iter().find(|server| server.member() == member).map(|server| &server.disk)
        };
        ghost.moved(before, raft, disk);
    }

    pub(crate) fn execute(&mut self, at: usize, effects: Vec<Effect>) {
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
                        let damaged = server.disk.first_damaged();
                        assert!(
                            damaged.is_none_or(|damaged| id.index < damaged),
                            "and intact: {id}"
                        );
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
                Effect::ReadReady { ticket, index, valid_until } => {
                    self.serve(at, ticket, index, valid_until);
                }
                Effect::Load(request) => server.jobs.push(Job::Load(request)),
                Effect::ReadChunk(request) => server.jobs.push(Job::Read(request)),
                Effect::StageChunk { id, snapshot, offset, data, done: _ } => {
                    let snapshot = snapshot.last;
                    server.jobs.push(Job::Stage { id, snapshot, offset, data });
                }
                Effect::Observe(observation) => {
                    let lost = |reason| matches!(reason, HaltReason::CommittedLost { .. });
                    let is_violation = matches!(observation, Observation::Violation(_))
                        || matches!(observation, Observation::Halted { reason } if lost(reason));
                    assert!(!is_violation, "an honest cluster sees a {observation:?}");
                    if let Observation::SnapshotWanted { .. } = observation {
                        server.jobs.push(Job::Snapshot);
                    }
                    self.life.count(&observation);
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
                self.ghost.acknowledges(term, index, Some(&command));
            }
            (Outcome::Committed { term, index }, Request::Change) => {
                self.life.changes += 1;
                self.ghost.acknowledges(term, index, None);
            }
            (Outcome::Superseded, Request::Command(command)) => {
                self.life.losses += 1;
                self.ghost.loses(command);
            }
            (Outcome::Superseded, Request::Change) | (Outcome::Unknown | Outcome::Halted, _) => {
                self.life.losses += 1
            }
            (Outcome::Transferred { term }, Request::Transfer) => {
                self.life.transfers += 1;
                assert_eq!(term, self.servers[at].raft.status().term, "a later term has begun");
            }
            (Outcome::Refused(_), _) => {}
            (outcome, request) => panic!("{request:?} ends as {outcome:?}"),
        }
    }

    fn serve(&mut self, at: usize, ticket: Ticket, index: Index, valid_until: Option<Time>) {
        let server = &mut self.servers[at];
        let Some(Request::Read(floor)) = server.open.remove(&ticket) else {
            panic!("{ticket} is no open read")
        };
        // The host looks at its clock again, and asks anew if the moment has passed.
        if valid_until.is_none_or(|until| server.clock(self.now) < until) {
            self.life.reads += 1;
            self.life.leases += u64::from(valid_until.is_some());
            self.lent.extend(valid_until.map(|until| (at, until)));
            assert!(index >= floor, "a read at {index} misses {floor}");
        }
    }

    /// Which servers' identities the network and the others know.
    pub(crate) fn member(&self, at: usize) -> Member {
        self.servers[at].member()
    }
}

fn decode(frame: Bytes) -> Envelope {
    wire::decode(frame, &Limits::default()).expect("nodes speak correctly")
}
