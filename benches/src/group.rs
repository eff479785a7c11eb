//! A whole group in one thread: the smallest host that keeps every promise of a real one.
//!
//! Every server has an inbox, which it takes as one batch. What a batch asks to be written is
//! durable when the server's next batch begins, so a write costs a step but no time. Clients work
//! in a closed loop: a committed command makes room for the next one. Snapshots are taken now and
//! then, so that the log stays as long as in a server that runs for months. No faults, no ticks.

use bytes::Bytes;
use raft_core::wire::{self, Limits};
use raft_core::{
    Body, ClusterId, Config, Effect, Entries, Envelope, GroupId, Index, Member, Membership,
    Message, Outcome, Raft, RecoveredState, RoleName, Ticket, Time,
};

/// Entries that a server applies from one snapshot to the next.
const SNAPSHOT_EVERY: u64 = 4096;

/// What a group is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Voters, from 1.
    pub servers: usize,
    /// Proposals on their way at any time, from 1 to the core's limit of 4096.
    pub outstanding: u64,
    /// The size of each command.
    pub command_bytes: usize,
    /// How messages travel.
    pub link: Link,
}

/// How a message reaches the other server's inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// As it is: servers share the memory of the entries.
    Direct,
    /// Encoded to a frame and decoded from it.
    Wire,
}

/// What a group has done since it was elected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// Commands that were committed.
    pub commits: u64,
    /// Batches of inputs, of all servers.
    pub steps: u64,
    /// Messages between servers.
    pub messages: u64,
    /// The bytes of their frames; zero unless the link is [`Link::Wire`].
    pub frame_bytes: u64,
    /// Persist batches, of all servers.
    pub persists: u64,
}

impl Costs {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            commits: self.commits - earlier.commits,
            steps: self.steps - earlier.steps,
            messages: self.messages - earlier.messages,
            frame_bytes: self.frame_bytes - earlier.frame_bytes,
            persists: self.persists - earlier.persists,
        }
    }
}

/// The replicas of one group; the first one leads.
#[derive(Debug)]
pub struct Group {
    servers: Vec<Server>,
    link: Link,
    limits: Limits,
    outstanding: u64,
    command: Bytes,
    /// Proposals that the clients have yet to make.
    to_propose: u64,
    tickets: u64,
    now: Time,
    /// Lent to every step and always returned empty.
    effects: Vec<Effect>,
    costs: Costs,
}

#[derive(Debug)]
struct Server {
    member: Member,
    raft: Raft,
    inbox: Vec<Body>,
    /// The last index that the state machine has applied; the core learns it from the inbox.
    applied: Index,
    /// The last index that a snapshot covers.
    snapshot: Index,
}

const LEADER: usize = 0;

impl Group {
    /// A group whose first server has been elected, at rest.
    ///
    /// # Panics
    /// If the load has no server, or more than a membership may have.
    #[must_use]
    pub fn new(load: Load) -> Self {
        let members: Vec<Member> =
            (1u64..).take(load.servers).map(|id| Member::new(id, 0x5eed)).collect();
        let founders =
            Membership::new(members.clone(), Vec::new()).expect("the load names a legal size");
        let limits = Limits::default();
        let mut group = Self {
            servers: Vec::new(),
            link: load.link,
            limits,
            outstanding: load.outstanding,
            command: Bytes::from(vec![0x5a; load.command_bytes]),
            to_propose: 0,
            tickets: 0,
            now: Time(0),
            effects: Vec::new(),
            costs: Costs::default(),
        };
        for (position, member) in members.into_iter().enumerate() {
            let config = Config::new(ClusterId(1), GroupId(0), member);
            let found = RecoveredState::genesis(founders.clone());
            let (raft, effects) = Raft::recover(config, found, group.now).expect("genesis fits");
            group.servers.push(Server {
                member,
                raft,
                inbox: Vec::new(),
                applied: Index::ZERO,
                snapshot: Index::ZERO,
            });
            group.execute(position, effects);
        }
        group.run();
        group.servers[LEADER].inbox.push(Body::Campaign);
        group.run();
        let role = group.servers[LEADER].raft.status().role;
        assert_eq!(role, RoleName::Leader, "nobody stands in the way");
        group.costs = Costs::default();
        group
    }

    /// Has so many commands committed and applied everywhere, then comes to rest.
    pub fn commit(&mut self, commands: u64) {
        let goal = self.costs.commits + commands;
        self.to_propose = commands;
        for _ in 0..self.outstanding.min(commands) {
            self.propose();
        }
        self.run();
        assert_eq!(self.costs.commits, goal, "a group without faults commits everything");
    }

    /// What the group has done since it was elected.
    #[must_use]
    pub fn costs(&self) -> Costs {
        self.costs
    }

    fn propose(&mut self) {
        if self.to_propose == 0 {
            return;
        }
        self.to_propose -= 1;
        self.tickets += 1;
        let (ticket, command) = (Ticket(self.tickets), self.command.clone());
        self.servers[LEADER].inbox.push(Body::Propose { ticket, command });
    }

    /// Lets every server take its inbox, in turn, until all are empty.
    fn run(&mut self) {
        while self.servers.iter().any(|server| !server.inbox.is_empty()) {
            self.now = Time(self.now.0 + 1);
            for position in 0..self.servers.len() {
                self.step(position);
            }
        }
    }

    fn step(&mut self, position: usize) {
        let (now, server) = (self.now, &mut self.servers[position]);
        if server.inbox.is_empty() {
            return;
        }
        let mut effects = core::mem::take(&mut self.effects);
        let applied = server.applied;
        let messages = server.inbox.drain(..).map(|body| Message { now, body });
        server.raft.step_batch(messages, &mut effects);
        if applied.0 >= server.snapshot.0 + SNAPSHOT_EVERY {
            server.take_snapshot(applied);
        }
        self.costs.steps += 1;
        self.effects = self.execute(position, effects);
    }

    /// Executes the effects of one server and gives their buffer back, empty.
    fn execute(&mut self, position: usize, mut effects: Vec<Effect>) -> Vec<Effect> {
        let mut durable = None;
        for effect in effects.drain(..) {
            match effect {
                Effect::Persist(batch) => {
                    self.costs.persists += 1;
                    durable = Some(batch.seq);
                }
                Effect::Send(envelope) => self.send(envelope),
                Effect::Apply { entries } => self.servers[position].apply(&entries),
                Effect::RestoreState { .. }
                | Effect::ReadReady { .. }
                | Effect::Load(_)
                | Effect::ReadChunk(_)
                | Effect::StageChunk { .. } => {
                    unreachable!("nobody reads, and nobody lags behind a snapshot")
                }
                Effect::Outcome { outcome, .. } => {
                    assert!(matches!(outcome, Outcome::Committed { .. }), "nothing is refused");
                    self.costs.commits += 1;
                    self.propose();
                }
                Effect::Observe(_) => {}
            }
        }
        if let Some(seq) = durable {
            self.servers[position].inbox.push(Body::Persisted { seq });
        }
        effects
    }

    fn send(&mut self, envelope: Envelope) {
        self.costs.messages += 1;
        let envelope = match self.link {
            Link::Direct => envelope,
            Link::Wire => {
                let frame = wire::encode(&envelope);
                self.costs.frame_bytes += frame.len() as u64;
                wire::decode(frame, &self.limits).expect("an intact frame is understood")
            }
        };
        let to = envelope.to;
        let receiver = self.servers.iter_mut().find(|server| server.member == to);
        receiver.expect("members send to members").inbox.push(Body::Peer(envelope));
    }
}

impl Server {
    /// The state machine does nothing, at once.
    fn apply(&mut self, entries: &Entries) {
        self.applied = entries.last().expect("never empty").index();
        self.inbox.push(Body::Applied { through: self.applied });
    }

    fn take_snapshot(&mut self, applied: Index) {
        let snapshot = self.raft.snapshot_at(applied).expect("an applied entry is in the log");
        self.snapshot = applied;
        self.inbox.push(Body::SnapshotTaken { snapshot });
    }
}
