//! Two clusters that live the same life and execute their effects in different orders.
//!
//! What must keep its order, keeps it: batches, entries to apply, messages of one kind from one
//! node to another (two of those are not the same in another order, though just as safe). Everything else
//! that one step asks for is done in any order, and completions are told one by one or together.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, Effect, Envelope, HaltReason, Member, Membership, Message, Observation,
    ReadMode, RoleName, Rpc, Ticket, Time,
};

use crate::dice::Dice;
use crate::requests::change;
use crate::server::{Job, Left, Server};
use crate::shape::Shape;

/// One input for one node. Servers are taken modulo their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next deadline of a server passes.
    Fire(usize),
    /// The oldest message between two servers arrives; which two, modulo those that have one.
    Deliver(usize),
    /// All messages for a server arrive in one batch.
    DeliverAll(usize),
    /// The oldest message between two servers is lost.
    Lose(usize),
    /// A client proposes commands of this size.
    Propose {
        /// The server.
        at: usize,
        /// In bytes.
        size: usize,
        /// How many.
        count: usize,
    },
    /// A client reads.
    Read(usize),
    /// An operator wants another membership.
    Change {
        /// The server.
        at: usize,
        /// Which kind of change.
        what: usize,
        /// About whom: two servers, one in the remainder and one in the quotient.
        who: usize,
    },
    /// An operator wants another leader.
    Transfer(usize),
    /// The host makes a snapshot.
    Snapshot(usize),
    /// An operator wants an election.
    Campaign(usize),
    /// A connection breaks.
    Disconnect(usize, usize),
    /// A server starts again.
    Restart(usize),
    /// An operator wants the leader to follow.
    StepDown(usize),
    /// A host says that the leader is gone.
    ForgetLeader(usize),
    /// An operator declares the quorum lost; only the first one in a life is heard, for two that go on
    /// alone would be two clusters.
    Force(usize),
    /// A server has no room left on its disk, or has some again.
    Fill {
        /// The server.
        at: usize,
        /// Whether the disk is full.
        is_full: bool,
    },
    /// A server's disk loses something, if no other one has, and it starts again.
    Hurt {
        /// The server.
        at: usize,
        /// What.
        choice: usize,
    },
}

/// Lets two clusters live through the same turns. Between turns every node is left without work;
/// then each of them equals its twin, in its digest, in what it has sent and in what its clients
/// were told.
///
/// All entries stay in memory, unless a server is alone: when one is applied decides when its payload
/// may go, and that decides how the appends are cut that must load it again.
///
/// # Panics
/// If twins differ.
pub fn twins(shape: Shape, turns: &[Turn], seed: u64) -> Reached {
    let shape = if shape.servers() == 1 { shape } else { shape.all_in_memory() };
    let mut one = World::new(shape, Dice::unused());
    let mut two = World::new(shape, Dice::new(seed));
    for turn in turns {
        one.take(*turn);
        two.take(*turn);
        for (server, twin) in one.servers.iter().zip(&two.servers) {
            let (raft, twin) = (&server.raft, &twin.raft);
            assert!(raft.digest() == twin.digest(), "after {turn:?}: {raft:#?}\n{twin:#?}");
            assert_eq!(raft, twin, "equal digests, equal states");
        }
        assert_eq!(one.said(), two.said(), "after {turn:?}");
        assert_eq!(one.answers, two.answers, "after {turn:?}");
    }
    one.reached
}

/// What came about in the life of the first twin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// How often a server became leader.
    pub leaders: usize,
    /// How often damaged entries were replaced by intact copies.
    pub healed: usize,
    /// How often a log whose end was unknown was known again.
    pub certain: usize,
    /// How often a server was left behind by a forced membership.
    pub left_behind: usize,
    /// How often entries were read back from a disk.
    pub loads: usize,
    /// How often a leader or follower refused something because its disk was full.
    pub full_disks: usize,
}

impl Reached {
    fn note(&mut self, observation: &Observation) {
        use Observation::{Halted, Healed, Refused, RoleChanged, TailCertain};
        let refused = if let Refused { reason, .. } = observation { Some(reason) } else { None };
        self.full_disks += usize::from(refused == Some(&raft_core::Refused::DiskFull));
        let leads = matches!(observation, RoleChanged { role: RoleName::Leader, .. });
        let reason = if let Halted { reason } = observation { Some(reason) } else { None };
        self.leaders += usize::from(leads);
        self.healed += usize::from(matches!(observation, Healed { .. }));
        self.certain += usize::from(*observation == TailCertain);
        self.left_behind += usize::from(matches!(reason, Some(HaltReason::LeftBehind { .. })));
    }
}

struct World {
    servers: Vec<Server>,
    links: BTreeMap<(Member, Member), VecDeque<Envelope>>,
    /// In this turn.
    sent: Vec<Envelope>,
    answers: BTreeMap<Ticket, Effect>,
    tickets: u64,
    now: Time,
    is_forced: bool,
    reached: Reached,
    dice: Dice,
}

impl World {
    fn new(shape: Shape, dice: Dice) -> Self {
        let mut world = Self {
            servers: Vec::new(),
            links: BTreeMap::new(),
            sent: Vec::new(),
            answers: BTreeMap::new(),
            tickets: 0,
            now: Time(0),
            is_forced: false,
            reached: Reached::default(),
            dice,
        };
        let founders = shape.founders();
        for (at, member) in shape.members().into_iter().enumerate() {
            let is_founder = founders.is_member(member);
            let genesis = if is_founder { founders.clone() } else { Membership::default() };
            let (server, effects) = Server::new(shape.config(member), genesis);
            world.servers.push(server);
            world.execute(at, effects);
            world.finish(at);
        }
        world
    }

    fn take(&mut self, turn: Turn) {
        let count = self.servers.len();
        match turn {
            Turn::Fire(at) => {
                let server = &self.servers[at % count];
                if let Some(reading) = server.raft.next_deadline() {
                    self.now = self.now.max(server.moment(reading));
                    self.turn(at % count, vec![Body::Tick]);
                }
            }
            Turn::Deliver(choice) => {
                if let Some(envelope) = self.oldest(choice) {
                    let at = self.at(envelope.to);
                    self.turn(at, vec![Body::Peer(envelope)]);
                }
            }
            Turn::DeliverAll(at) => self.deliver_all(at % count),
            Turn::Lose(choice) => drop(self.oldest(choice)),
            Turn::Propose { at, size, count: number } => {
                let command = Bytes::from(vec![7; size]);
                let proposals = (0..number).map(|_| (self.ticket(), command.clone()));
                let proposals = proposals.collect();
                self.turn(at % count, vec![Body::ProposeBatch { proposals }]);
            }
            Turn::Read(at) => {
                let (ticket, mode) = (self.ticket(), ReadMode::Lease);
                self.turn(at % count, vec![Body::Read { ticket, mode }]);
            }
            Turn::Change { at, what, who } => {
                let (one, two) = (
                    self.servers[who % count].member(),
                    self.servers[who / count % count].member(),
                );
                let (ticket, change) = (self.ticket(), change(what, one, two));
                self.turn(
                    at % count,
                    vec![Body::ProposeMembership { ticket, change, expect: None }],
                );
            }
            Turn::Transfer(at) => {
                let ticket = self.ticket();
                self.turn(at % count, vec![Body::TransferLeadership { ticket, to: None }]);
            }
            Turn::Snapshot(at) => {
                let taken = self.servers[at % count].snapshot();
                self.turn(at % count, taken.into_iter().collect());
            }
            Turn::Campaign(at) => self.turn(at % count, vec![Body::Campaign]),
            Turn::Disconnect(at, to) => {
                let peer = self.servers[to % count].member();
                self.turn(at % count, vec![Body::PeerUnreachable { peer }]);
            }
            Turn::Restart(at) => self.restart(at % count),
            Turn::StepDown(at) => self.turn(at % count, vec![Body::StepDown]),
            Turn::ForgetLeader(at) => self.turn(at % count, vec![Body::ForgetLeader]),
            Turn::Force(at) => {
                if !std::mem::replace(&mut self.is_forced, true) {
                    let ticket = self.ticket();
                    self.turn(at % count, vec![Body::ForceMembership { ticket }]);
                }
            }
            Turn::Fill { at, is_full } => {
                self.turn(at % count, vec![Body::DiskFull { is_full }]);
            }
            Turn::Hurt { at, choice } => self.hurt(at % count, choice),
        }
    }

    fn hurt(&mut self, at: usize, choice: usize) {
        if self.servers.iter().any(|server| server.disk.is_hurt()) {
            return;
        }
        let Some(fault) = self.servers[at].fault(choice) else { return };
        let effects = self.servers[at].hurt(fault, self.now);
        self.execute(at, effects);
        self.finish(at);
    }

    fn restart(&mut self, at: usize) {
        let left = Left { whole: 0, steps: 0, state: false };
        let effects = self.servers[at].crash(left, self.now);
        self.execute(at, effects);
        self.finish(at);
    }

    fn deliver_all(&mut self, at: usize) {
        let to = self.servers[at].member();
        let links = self.links.iter_mut().filter(|(link, _)| link.1 == to);
        let bodies: Vec<Body> =
            links.flat_map(|(_, link)| link.drain(..)).map(Body::Peer).collect();
        self.turn(at, bodies);
    }

    /// One input, and everything that comes of it on the same server.
    fn turn(&mut self, at: usize, bodies: Vec<Body>) {
        self.step(at, bodies);
        self.finish(at);
    }

    fn finish(&mut self, at: usize) {
        self.work_off(at);
        // Of one turn, messages of different kinds may leave in any order.
        self.sent.sort_by_key(|envelope| envelope.rpc.kind());
        for (position, envelope) in self.sent.iter().enumerate() {
            let is_overtaken = |later: &Envelope| is_overtaken(envelope, later);
            if !self.sent[position + 1..].iter().any(is_overtaken) {
                let link = (envelope.from, envelope.to);
                self.links.entry(link).or_default().push_back(envelope.clone());
            }
        }
        self.sent.clear();
    }

    fn work_off(&mut self, at: usize) {
        while !self.servers[at].is_idle() {
            let mut done = Vec::new();
            // All that is to be done by now, in any order; told together, or one after the other.
            let is_together = self.dice.flag();
            for kind in self.dice.shuffled([0, 1, 2]) {
                let server = &mut self.servers[at];
                done.extend(match kind {
                    0 => {
                        server.sync(if self.dice.flag() { usize::MAX } else { 1 });
                        if server.owes_word() { server.tell() } else { None }
                    }
                    1 => server.apply(if self.dice.flag() { usize::MAX } else { 1 }),
                    _ => server.work(self.dice.below(8), true),
                });
                if !is_together {
                    self.step(at, std::mem::take(&mut done));
                }
            }
            self.step(at, done);
        }
    }

    fn step(&mut self, at: usize, bodies: Vec<Body>) {
        if bodies.is_empty() {
            return;
        }
        let now = self.servers[at].clock(self.now);
        let messages = bodies.into_iter().map(|body| Message { now, body });
        let mut effects = Vec::new();
        self.servers[at].raft.step_batch(messages, &mut effects);
        self.execute(at, effects);
    }

    fn execute(&mut self, at: usize, effects: Vec<Effect>) {
        let server = &mut self.servers[at];
        for effect in effects {
            match effect {
                Effect::Persist(batch) => server.unsynced.push_back(batch),
                Effect::Send(envelope) => self.sent.push(envelope),
                Effect::Apply { entries } => {
                    let last = entries.last().expect("never empty").index();
                    server.unapplied.push_back(last);
                }
                Effect::RestoreState { snapshot } => {
                    server.unapplied.push_back(snapshot.last.index);
                }
                Effect::Outcome { ticket, .. } | Effect::ReadReady { ticket, .. } => {
                    self.answers.insert(ticket, effect);
                }
                Effect::Load(request) => {
                    self.reached.loads += 1;
                    server.jobs.push(Job::Load(request));
                }
                Effect::ReadChunk(request) => server.jobs.push(Job::Read(request)),
                Effect::StageChunk { id, snapshot, offset, data, done: _ } => {
                    let snapshot = snapshot.last;
                    server.jobs.push(Job::Stage { id, snapshot, offset, data });
                }
                Effect::Observe(observation) => self.reached.note(&observation),
            }
        }
    }

    /// What is on its way, to read.
    fn said(&self) -> Vec<String> {
        self.links.values().flatten().map(ToString::to_string).collect()
    }

    /// The oldest message of one of the links that have any.
    fn oldest(&mut self, choice: usize) -> Option<Envelope> {
        let mut links: Vec<&mut VecDeque<Envelope>> =
            self.links.values_mut().filter(|link| !link.is_empty()).collect();
        let at = choice.checked_rem(links.len())?;
        links[at].pop_front()
    }

    fn at(&self, member: Member) -> usize {
        let at = self.servers.iter().position(|server| server.member() == member);
        at.expect("nodes know each other")
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}

/// Whether a message says part of what a later one says: how often a node is told what is durable
/// decides in how many parts it acknowledges and commits.
fn is_overtaken(envelope: &Envelope, later: &Envelope) -> bool {
    let is_to_same = envelope.to == later.to && envelope.term == later.term;
    is_to_same && is_part(&envelope.rpc, &later.rpc)
}

fn is_part(rpc: &Rpc, later: &Rpc) -> bool {
    let matched = |rpc: &Rpc| {
        let Rpc::AppendEntriesResponse { session, result, .. } = rpc else { return None };
        matches!(result, AppendResult::Matched { .. }).then_some(*session)
    };
    let commits = |rpc: &Rpc| {
        if let Rpc::Commit { session, .. } = rpc {
            return Some((*session, None));
        }
        let Rpc::AppendEntries { session, prev, entries, .. } = rpc else { return None };
        entries.is_empty().then_some((*session, Some(*prev)))
    };
    (matched(rpc).is_some() && matched(rpc) == matched(later))
        || (commits(rpc).is_some() && commits(rpc) == commits(later))
}
