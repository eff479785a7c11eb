//! A whole group of ours in one thread: the smallest host that keeps every promise of a real one.
//!
//! Every server has an inbox, which it takes as one batch. A follower waits for its disk, since it
//! owes an answer; the leader goes on, and hears from its disk together with the next message. What
//! the state machine has applied is reported with the next batch, too. Clients work in a closed
//! loop: a committed command makes room for the next one. Snapshots are taken now and then, so that
//! the log stays as long as in a server that runs for months. Time stands still, but for
//! [`Group::pass_interval`].

use raft_core::wire::{self, Limits};
use raft_core::{
    Body, ClusterId, Config, Effect, Entries, Envelope, GroupId, Index, Member, Membership,
    Message, Outcome, Raft, RecoveredState, RoleName, Rpc, Span, Ticket, Time,
};

use crate::contest::{COMPACT_EVERY, Compaction, Cut, Link, Shape};
use crate::frames::Frames;

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

/// The replicas of one group; the first one will lead.
#[derive(Debug)]
pub struct Group {
    servers: Vec<Server>,
    shape: Shape,
    /// None as long as nothing was put into them.
    buffers: Option<Box<Buffers>>,
    limits: Limits,
    cut: Cut,
    /// Proposals that the clients have yet to make.
    to_propose: u64,
    tickets: u64,
    now: Time,
    interval: Span,
    costs: Costs,
}

/// What belongs to a host, and not to the nodes.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Lent to every step and always returned empty.
    effects: Vec<Effect>,
    frames: Frames,
    /// Of each server, in their order.
    inboxes: Vec<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    messages: Vec<Message>,
    /// What it holds must not wait for more.
    is_awake: bool,
    /// It holds the disk's confirmation: that may wait for a message, but not for ever.
    is_owed: bool,
    /// The state machine has gone on since the last turn.
    has_applied: bool,
}

#[derive(Debug)]
struct Server {
    member: Member,
    raft: Raft,
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
    /// If the shape has no server, or more than a membership may have.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let mut group = Self::cold(shape);
        group.elect();
        group
    }

    /// A group whose servers have just started.
    ///
    /// # Panics
    /// If the shape has no server, or more than a membership may have.
    #[must_use]
    pub fn cold(shape: Shape) -> Self {
        let members: Vec<Member> =
            (1u64..).take(shape.servers).map(|id| Member::new(id, 0x5eed)).collect();
        let founders =
            Membership::new(members.clone(), Vec::new()).expect("the shape names a legal size");
        let mut group = Self {
            servers: Vec::with_capacity(shape.servers),
            shape,
            buffers: None,
            limits: Limits::default(),
            cut: Cut::Nobody,
            to_propose: 0,
            tickets: 0,
            now: Time(0),
            interval: Span(0),
            costs: Costs::default(),
        };
        let mut buffers = group.take_buffers();
        for (position, member) in members.into_iter().enumerate() {
            let mut config = Config::new(ClusterId(1), GroupId(0), member);
            // Disks are memory: nothing in a log is colder than the rest.
            config.resident_bytes_max = 1 << 31;
            group.interval = config.heartbeat_interval();
            let found = RecoveredState::genesis(founders.clone());
            let (raft, effects) = Raft::recover(config, found, group.now).expect("genesis fits");
            group.servers.push(Server {
                member,
                raft,
                applied: Index::ZERO,
                snapshot: Index::ZERO,
            });
            buffers.effects = effects;
            group.execute(position, &mut buffers);
        }
        group.run(buffers);
        group
    }

    /// Has the first server campaign, and win.
    ///
    /// # Panics
    /// If it does not.
    pub fn elect(&mut self) {
        let mut buffers = self.take_buffers();
        buffers.inboxes[LEADER].wake(self.now, Body::Campaign);
        self.run(buffers);
        let role = self.servers[LEADER].raft.status().role;
        assert_eq!(role, RoleName::Leader, "nobody stands in the way");
        self.costs = Costs::default();
    }

    /// Has so many commands committed and applied everywhere, `outstanding` at a time.
    pub fn commit(&mut self, commands: u64, outstanding: u64) {
        let goal = self.costs.commits + commands;
        self.to_propose = commands;
        let mut buffers = self.take_buffers();
        for _ in 0..outstanding.min(commands) {
            self.propose(&mut buffers.inboxes[LEADER]);
        }
        self.run(buffers);
        assert_eq!(self.costs.commits, goal, "a group without faults commits everything");
    }

    /// Hands over one batch of commands, and comes to rest.
    pub fn commit_batch(&mut self, size: u64) {
        let proposals = (0..size)
            .map(|_| {
                self.tickets += 1;
                (Ticket(self.tickets), self.shape.command())
            })
            .collect();
        let mut buffers = self.take_buffers();
        buffers.inboxes[LEADER].wake(self.now, Body::ProposeBatch { proposals });
        self.run(buffers);
    }

    /// Separates servers from now on; the leader's transport is told.
    pub fn cut(&mut self, cut: Cut) {
        self.cut = cut;
        let mut buffers = self.take_buffers();
        for position in 1..self.servers.len() {
            if cut.hits(position, self.servers.len()) {
                let peer = self.servers[position].member;
                buffers.inboxes[LEADER].wake(self.now, Body::PeerUnreachable { peer });
            }
        }
        self.run(buffers);
    }

    /// One heartbeat interval: every server whose deadline has come is told so.
    pub fn pass_interval(&mut self) {
        self.now = self.now.after(self.interval);
        let mut buffers = self.take_buffers();
        for (server, inbox) in self.servers.iter().zip(&mut buffers.inboxes) {
            if server.raft.next_deadline().is_some_and(|deadline| deadline <= self.now) {
                inbox.wake(self.now, Body::Tick);
            }
        }
        self.run(buffers);
    }

    /// Exchanges the buffers that belong to this host, not to the nodes, unless something waits in them.
    pub fn exchange(&mut self, buffers: &mut Option<Box<Buffers>>) {
        if self.buffers.as_ref().is_none_or(|own| own.is_empty()) {
            core::mem::swap(&mut self.buffers, buffers);
        }
    }

    /// The buffers, for the length of a run.
    fn take_buffers(&mut self) -> Box<Buffers> {
        let mut buffers = self.buffers.take().unwrap_or_default();
        if buffers.inboxes.len() != self.shape.servers {
            buffers.inboxes.resize_with(self.shape.servers, Inbox::default);
        }
        buffers
    }

    /// Whether every state machine is where the leader's is.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.servers.iter().all(|server| server.applied == self.servers[LEADER].applied)
    }

    /// What the group has done since it was elected.
    #[must_use]
    pub fn costs(&self) -> Costs {
        self.costs
    }

    fn propose(&mut self, leader: &mut Inbox) {
        if self.to_propose == 0 {
            return;
        }
        self.to_propose -= 1;
        self.tickets += 1;
        let (ticket, command) = (Ticket(self.tickets), self.shape.command());
        leader.wake(self.now, Body::Propose { ticket, command });
    }

    /// Lets every server take its inbox, in turn, until nothing is left that anybody waits for.
    fn run(&mut self, mut buffers: Box<Buffers>) {
        loop {
            self.now = Time(self.now.0 + 1);
            let mut is_quiet = true;
            for position in 0..self.servers.len() {
                while buffers.inboxes[position].is_awake {
                    is_quiet = false;
                    self.step(position, &mut buffers);
                }
            }
            if is_quiet {
                let mut is_over = true;
                for (server, inbox) in self.servers.iter().zip(&mut buffers.inboxes) {
                    inbox.is_awake = inbox.is_due(server);
                    is_over &= !inbox.is_awake;
                }
                if is_over {
                    break;
                }
            }
        }
        self.buffers = Some(buffers);
    }

    #[inline]
    fn step(&mut self, position: usize, buffers: &mut Buffers) {
        let (now, server) = (self.now, &mut self.servers[position]);
        let inbox = &mut buffers.inboxes[position];
        inbox.is_awake = false;
        inbox.is_owed = false;
        server.raft.step_batch(&mut inbox.messages, &mut buffers.effects);
        inbox.messages.clear();
        if core::mem::take(&mut inbox.has_applied) {
            let is_due = server.applied.0 >= server.snapshot.0 + COMPACT_EVERY;
            if is_due && self.shape.compaction == Compaction::Regular {
                server.take_snapshot(now, inbox);
            }
        }
        self.costs.steps += 1;
        self.execute(position, buffers);
    }

    /// Executes the effects of one server, and leaves their buffer empty.
    #[inline(always)]
    fn execute(&mut self, position: usize, buffers: &mut Buffers) {
        let Buffers { effects, frames, inboxes } = buffers;
        let (now, mut durable) = (self.now, None);
        for effect in &mut *effects {
            // Looked at where it stands, for it is large: a match by value would move all of it.
            match effect {
                Effect::Persist(batch) => {
                    self.costs.persists += 1;
                    durable = Some(batch.seq);
                }
                Effect::Send(envelope) => self.send(position, envelope, inboxes, frames),
                Effect::Apply { entries } => {
                    self.servers[position].apply(now, entries, &mut inboxes[position])
                }
                Effect::Outcome { outcome, .. } => {
                    assert!(matches!(outcome, Outcome::Committed { .. }), "nothing is refused");
                    self.costs.commits += 1;
                    self.propose(&mut inboxes[LEADER]);
                }
                Effect::Observe(_) => {}
                Effect::RestoreState { .. }
                | Effect::ReadReady { .. }
                | Effect::Load(_)
                | Effect::ReadChunk(_)
                | Effect::StageChunk { .. } => {
                    unreachable!("nobody reads or needs a snapshot, and logs stay in memory")
                }
            }
        }
        effects.clear();
        if let Some(seq) = durable {
            let inbox = &mut inboxes[position];
            inbox.receive(now, || Body::Persisted { seq });
            inbox.is_owed = true;
            inbox.is_awake |= position != LEADER;
        }
    }

    #[inline]
    fn send(
        &mut self,
        from: usize,
        envelope: &mut Envelope,
        inboxes: &mut [Inbox],
        frames: &mut Frames,
    ) {
        self.costs.messages += 1;
        let members = inboxes.len();
        let to = usize::try_from(envelope.to.id.0).expect("a small id") - 1;
        if self.cut.hits(from, members) || self.cut.hits(to, members) {
            return;
        }
        let inbox = &mut inboxes[to];
        match self.shape.link {
            Link::Direct => inbox.receive(self.now, || Body::Peer(taken(envelope))),
            Link::Wire => self.send_frame(envelope, inbox, frames),
        }
        inbox.is_awake = true;
    }

    #[inline(never)]
    fn send_frame(&mut self, envelope: &Envelope, inbox: &mut Inbox, frames: &mut Frames) {
        let frame = wire::encode_split(envelope, frames.buffer());
        self.costs.frame_bytes += frame.len() as u64;
        frames.make_room_for_another(frame.len());
        let envelope = wire::decode(frame, &self.limits);
        let intact = || envelope.expect("an intact frame is understood");
        inbox.receive(self.now, || Body::Peer(intact()));
    }
}

/// Moves a message out of a buffer that is about to be cleared.
fn taken(envelope: &mut Envelope) -> Envelope {
    let rpc = core::mem::replace(&mut envelope.rpc, Rpc::TimeoutNow);
    Envelope { rpc, ..*envelope }
}

impl Buffers {
    fn is_empty(&self) -> bool {
        self.inboxes.iter().all(|inbox| inbox.messages.is_empty())
    }
}

impl Inbox {
    /// Takes in what has arrived; it is made where it stays, for it is large.
    fn receive(&mut self, now: Time, make: impl FnOnce() -> Body) {
        self.messages.extend(core::iter::once_with(|| Message { now, body: make() }));
    }

    fn wake(&mut self, now: Time, body: Body) {
        self.receive(now, || body);
        self.is_awake = true;
    }

    /// Nothing else will come: whether what was put off is what the node waits for.
    fn is_due(&self, server: &Server) -> bool {
        let has_more_to_apply = || server.raft.status().commit > server.applied;
        self.is_owed || (!self.messages.is_empty() && has_more_to_apply())
    }
}

impl Server {
    /// The state machine does nothing, at once.
    fn apply(&mut self, now: Time, entries: &Entries, inbox: &mut Inbox) {
        let through = entries.last().expect("never empty").index();
        self.applied = through;
        inbox.receive(now, || Body::Applied { through });
        inbox.has_applied = true;
    }

    fn take_snapshot(&mut self, now: Time, inbox: &mut Inbox) {
        let snapshot = self.raft.snapshot_at(self.applied).expect("an applied entry is in the log");
        self.snapshot = self.applied;
        inbox.receive(now, || Body::SnapshotTaken { snapshot });
    }
}
