//! A replica (Figure 1): the consensus module, the state machine and the sessions as one, sans IO.
//!
//! [`Replica`] takes [`Input`]s (a frame, a request, a completed piece of disk work) and gives
//! [`Output`]s (a frame, a reply, a piece of disk work). It waits for nothing, owns no clock, no
//! socket and no storage: a server and a simulator drive this one type, each in its own way.
//!
//! ```text
//!   frame, request, done            frame, reply, work
//!          |                               ^
//!          v                               |
//!     [ Replica: wire | Raft | sessions | machine ]
//! ```
//!
//! The inputs of one call reach the core as one batch, so that commands which arrive together share
//! messages and disk writes. What the core hands out is applied at once, within the call, except
//! while a snapshot is being loaded: entries wait behind it.

mod due;
mod options;
mod recorded;
mod reply;
mod restoring;

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use raft_core::wire::{self, Limits};
use raft_core::{
    Body, Effect, Entries, EntryId, Index, Message, Observation, Outcome, Raft, ReadMode, Recorded,
    RecoverError, RecoveredState, RoleName, Status, Ticket, Time,
};

use crate::applier::Applier;
use crate::machine::StateMachine;
use crate::pending::{Asked, Pending, Proposal, Read, Readable};
use crate::request::{Failure, Input, Output, Reply, Request, RequestId};
use crate::session::{LogCommand, Sessions};
use crate::storage::work::{Done, Work};
use due::Due;
pub use options::ReplicaOptions;
use reply::{failed, recall, refusal, repeat, reply_to};
use restoring::Restoring;

/// One member of a group, with its copy of the state machine.
///
/// Invariants:
/// 1. entries wait in `backlog` only while a snapshot is `restoring`;
/// 2. one snapshot is saved at a time;
/// 3. between calls, the core has been told of everything that was applied.
#[derive(Clone, Debug)]
pub struct Replica<M: StateMachine> {
    raft: Raft,
    options: ReplicaOptions,
    limits: Limits,
    applier: Applier<M>,
    pending: Pending<M>,
    /// The snapshot that the state is to be replaced by, while the storage reads it.
    restoring: Option<Restoring<M>>,
    /// Entries that follow that snapshot. The core bounds their bytes: it waits for `Applied`.
    backlog: VecDeque<Entries>,
    due: Due,
    leased_until: Option<Time>,
    halted: bool,
    /// What the host has yet to take.
    recorded: Vec<Recorded>,
    /// Three buffers, empty between calls.
    bodies: Vec<Body>,
    effects: Vec<Effect>,
    replies: Vec<Output<M>>,
}

impl<M: StateMachine> Replica<M> {
    /// Starts from what the storage found, with a machine that has applied nothing: its state comes
    /// from the snapshot and the log.
    ///
    /// # Errors
    /// [`RecoverError`] if the options or what was found make no sense.
    pub fn start(
        options: ReplicaOptions,
        mut found: RecoveredState,
        machine: M,
        now: Time,
        out: &mut Vec<Output<M>>,
    ) -> Result<Self, RecoverError> {
        found.applied = Index::ZERO;
        let founded = found.snapshot.last;
        let genesis = if founded.index == Index::ZERO { founded } else { EntryId::default() };
        let (raft, mut effects, recorded) = recorded::recover(&options, found, now)?;
        let mut replica = Self {
            raft,
            recorded,
            limits: Limits::for_config(&options.config),
            applier: Applier::new(machine, genesis),
            pending: Pending::new(options.config.requests_max.saturating_mul(2)),
            options,
            restoring: None,
            backlog: VecDeque::new(),
            due: Due::default(),
            leased_until: None,
            halted: false,
            bodies: Vec::new(),
            effects: Vec::new(),
            replies: Vec::new(),
        };
        for effect in effects.drain(..) {
            replica.execute(effect, out);
        }
        replica.run(now, out);
        Ok(replica)
    }

    /// Takes one input; a batch of one.
    pub fn handle(&mut self, now: Time, input: Input<M>, out: &mut Vec<Output<M>>) {
        self.handle_batch(now, [input], out);
    }

    /// Takes everything that has arrived, in order, and appends to `out` what is to be done.
    ///
    /// `now` is the host's monotonic clock, read after the last input arrived.
    pub fn handle_batch(
        &mut self,
        now: Time,
        inputs: impl IntoIterator<Item = Input<M>>,
        out: &mut Vec<Output<M>>,
    ) {
        for input in inputs {
            match input {
                Input::Tick => self.bodies.push(Body::Tick),
                Input::Frame(frame) => match wire::decode(frame, &self.limits) {
                    Ok(envelope) => self.bodies.push(Body::Peer(envelope)),
                    Err(error) => out.push(Output::BadFrame(error)),
                },
                Input::Unreachable(peer) => self.bodies.push(Body::PeerUnreachable { peer }),
                Input::Request { id, request } => self.on_request(id, request, out),
                Input::Done(done) => self.on_done(done, out),
                Input::Campaign => self.bodies.push(Body::Campaign),
                Input::StepDown => self.bodies.push(Body::StepDown),
                Input::ForgetLeader => self.bodies.push(Body::ForgetLeader),
                Input::DiskFull { is_full } => self.bodies.push(Body::DiskFull { is_full }),
            }
        }
        self.run(now, out);
    }

    /// When the next [`Input::Tick`] is due; `None`: nothing will happen until an input arrives.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.raft.next_deadline()
    }

    /// Until when, by the host's clock, reads by a lease may be answered without asking anybody: the
    /// latest end of all leases that the core has given in this life; `None` if it gave none. No
    /// other node leads before that.
    #[must_use]
    pub fn leased_until(&self) -> Option<Time> {
        self.leased_until
    }

    /// The state of the core.
    #[must_use]
    pub fn status(&self) -> Status {
        self.raft.status()
    }

    /// The core.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The state machine, as of [`Replica::applied`]. Reading it here is not linearizable.
    #[must_use]
    pub fn machine(&self) -> &M {
        self.applier.machine()
    }

    /// The client sessions, as of [`Replica::applied`].
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        self.applier.sessions()
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applier.applied().index
    }

    /// A checksum of the history and of every response through [`Replica::applied`], equal on all
    /// members at one index, however each of them came there.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.applier.digest()
    }

    /// How many requests have no reply yet.
    #[must_use]
    pub fn requests_open(&self) -> usize {
        self.pending.len()
    }

    fn on_request(&mut self, id: RequestId, request: Request<M>, out: &mut Vec<Output<M>>) {
        if self.pending.is_full() {
            return out.push(failed(id, Failure::Busy));
        }
        match request {
            Request::OpenSession => {
                let sessions_max = self.options.sessions_max;
                let command = LogCommand::<M::Command>::OpenSession { sessions_max }.encode();
                self.propose(Proposal { id, asked: Asked::Session }, command);
            }
            Request::Command { session, serial, command } => {
                let proposal = Proposal { id, asked: Asked::Command { session, serial } };
                if !self.repeats(proposal, out) {
                    let command = LogCommand::Apply { session, serial, command }.encode();
                    self.propose(proposal, command);
                }
            }
            Request::Query { query, mode } => self.read(Read { id, query, mode }),
            Request::ChangeMembership { change, expect } => {
                let ticket = self.pending.operate(id);
                self.bodies.push(Body::ProposeMembership { ticket, change, expect });
            }
            Request::TransferLeadership { to } => {
                let ticket = self.pending.operate(id);
                self.bodies.push(Body::TransferLeadership { ticket, to });
            }
            Request::ForceMembership => {
                let ticket = self.pending.operate(id);
                self.bodies.push(Body::ForceMembership { ticket });
            }
        }
    }

    /// Answers a command that was executed before, or lets it wait with the proposal that is under
    /// way; says whether it did. Otherwise a client that is less patient than the log is long would
    /// make the log longer with every try, until nobody is answered in time any more.
    fn repeats(&mut self, proposal: Proposal, out: &mut Vec<Output<M>>) -> bool {
        let Asked::Command { session, serial } = proposal.asked else { return false };
        if self.halted {
            return false;
        }
        // What was executed stays executed: whoever leads would say the same.
        if let Some(last) = self.sessions().last(session).filter(|last| last.serial == serial) {
            out.push(Output::Reply { id: proposal.id, reply: repeat(last) });
            return true;
        }
        // A replica that does not lead any more knows a better place to ask.
        if !self.pending.has(proposal.asked) || self.raft.status().role != RoleName::Leader {
            return false;
        }
        if !self.pending.join(proposal) {
            out.push(failed(proposal.id, Failure::Busy));
        }
        true
    }

    fn read(&mut self, read: Read<M>) {
        let mode = read.mode;
        let ticket = self.pending.read(read);
        self.bodies.push(Body::Read { ticket, mode });
    }

    fn propose(&mut self, proposal: Proposal, command: Bytes) {
        let ticket = self.pending.propose(proposal);
        self.bodies.push(Body::Propose { ticket, command });
    }

    fn on_done(&mut self, done: Done, out: &mut Vec<Output<M>>) {
        match done {
            Done::Persisted { seq } => self.bodies.push(Body::Persisted { seq }),
            Done::Failed => self.bodies.push(Body::PersistFailed),
            Done::Loaded { request, entries, damaged } => {
                self.bodies.push(Body::Loaded { request, entries });
                if !damaged.is_empty() {
                    self.bodies.push(Body::Damaged { entries: damaged });
                }
            }
            Done::Damaged { entries } => self.bodies.push(Body::Damaged { entries }),
            Done::SnapshotDamaged { snapshot } => self.due.rotted(snapshot),
            Done::SnapshotSaved { snapshot } => {
                self.due.saved();
                self.bodies.push(Body::SnapshotTaken { snapshot });
            }
            Done::SnapshotLoaded { snapshot, offset, chunk } => {
                self.on_loaded(&snapshot, offset, chunk, out);
            }
            Done::ChunkRead { request, chunk } => {
                self.bodies.push(Body::ChunkRead { request, chunk });
            }
            Done::ChunkStaged { id, staged } => {
                self.bodies.push(Body::ChunkStaged { id, staged });
            }
        }
    }

    /// Applies, tells the core, does what it says, until nothing is left to tell it.
    fn run(&mut self, now: Time, out: &mut Vec<Output<M>>) {
        self.catch_up(out);
        while !self.bodies.is_empty() {
            let mut bodies = mem::take(&mut self.bodies);
            let mut effects = mem::take(&mut self.effects);
            let messages = bodies.drain(..).map(|body| Message { now, body });
            if self.options.is_recorded {
                self.step_recorded(messages, &mut effects);
            } else {
                self.raft.step_batch(messages, &mut effects);
            }
            self.bodies = bodies;
            for effect in effects.drain(..) {
                self.execute(effect, out);
            }
            self.effects = effects;
            self.catch_up(out);
            self.answer(now, out);
        }
        self.answer(now, out);
        self.save_snapshot(out);
    }

    fn execute(&mut self, effect: Effect, out: &mut Vec<Output<M>>) {
        match effect {
            Effect::Persist(batch) => {
                let commit = self.raft.status().commit;
                out.push(Output::Work(Work::Persist { batch, commit }));
            }
            Effect::Send(envelope) => {
                out.push(Output::Send { to: envelope.to, frame: wire::encode(&envelope) });
            }
            // Applied after the other effects: outcomes among them say who waits for the entries.
            Effect::Apply { entries } => self.backlog.push_back(entries),
            Effect::RestoreState { snapshot } => {
                self.backlog.clear();
                self.restore(snapshot, out);
            }
            Effect::Outcome { ticket, outcome } => self.on_outcome(ticket, outcome, out),
            Effect::ReadReady { ticket, index, valid_until } => {
                self.leased_until = self.leased_until.max(valid_until);
                self.pending.confirm(ticket, index, valid_until);
            }
            Effect::Load(request) => out.push(Output::Work(Work::Load(request))),
            Effect::ReadChunk(request) => out.push(Output::Work(Work::ReadChunk(request))),
            Effect::StageChunk { id, snapshot, offset, data, done } => {
                out.push(Output::Work(Work::StageChunk { id, snapshot, offset, data, done }));
            }
            Effect::Observe(observation) => {
                if matches!(observation, Observation::Halted { .. }) {
                    self.halt();
                }
                if matches!(observation, Observation::SnapshotWanted { .. }) {
                    self.due.wanted();
                }
                out.push(Output::Observe(observation));
            }
        }
    }

    fn on_outcome(&mut self, ticket: Ticket, outcome: Outcome, out: &mut Vec<Output<M>>) {
        let failure = match outcome {
            Outcome::Committed { index, .. } => {
                if let Some(id) = self.pending.commit(ticket, index) {
                    let reply = Reply::MembershipChanged { index };
                    out.push(Output::Reply { id, reply });
                }
                return;
            }
            Outcome::Transferred { term } => {
                let reply = |id| Output::Reply { id, reply: Reply::Transferred { term } };
                return out.extend(self.pending.end(ticket).into_iter().map(reply));
            }
            Outcome::Refused(rejection) => refusal(rejection),
            Outcome::Superseded => Failure::Superseded,
            Outcome::Unknown => Failure::Unknown,
            Outcome::Halted => Failure::Halted,
        };
        out.extend(self.pending.end(ticket).into_iter().map(|id| failed(id, failure)));
    }

    /// Nothing more will be applied: the core hands out nothing, and takes no `Applied`.
    fn halt(&mut self) {
        self.halted = true;
        self.restoring = None;
        self.backlog.clear();
    }

    /// Applies what has been handed out, unless it must wait for a snapshot.
    fn catch_up(&mut self, out: &mut Vec<Output<M>>) {
        if self.restoring.is_some() {
            return;
        }
        while let Some(entries) = self.backlog.pop_front() {
            self.apply(entries, out);
        }
    }

    fn apply(&mut self, entries: Entries, out: &mut Vec<Output<M>>) {
        let Some(last) = entries.last() else { return };
        let through = last.index();
        if self.applied() == Index::ZERO {
            // A node that was given nothing has learned the group's genesis since it started.
            self.applier.found(entries.chain_before());
        }
        assert!(
            entries.chain_before() == self.applier.applied().chain,
            "entries continue the history that was applied"
        );
        for entry in entries.iter() {
            let applied = self.applier.apply(entry);
            if let Some(proposal) = self.pending.take_applied(entry.index()) {
                let reply = reply_to(applied, entry.index());
                let failure =
                    if let Reply::Failed(failure) = &reply { Some(*failure) } else { None };
                self.replies.push(Output::Reply { id: proposal.id, reply });
                for id in self.pending.repetitions(proposal.asked) {
                    let recalled = || recall(self.sessions(), proposal.asked, entry.index());
                    let reply = failure.map_or_else(recalled, Reply::Failed);
                    self.replies.push(Output::Reply { id, reply });
                }
            }
        }
        self.due.applied(&entries);
        self.bodies.push(Body::Applied { through });
        out.push(Output::Applied { entries, digest: self.applier.digest() });
        out.append(&mut self.replies);
    }

    /// Answers what waited for the state to come as far as it has come now.
    fn answer(&mut self, now: Time, out: &mut Vec<Output<M>>) {
        let applied = self.applied();
        while let Some((index, proposal)) = self.pending.take_passed(applied) {
            for id in self.pending.all(proposal) {
                out.push(Output::Reply {
                    id,
                    reply: recall(self.sessions(), proposal.asked, index),
                });
            }
        }
        while let Some(readable) = self.pending.take_readable(applied, now) {
            match readable {
                Readable::Now(Read { id, query, .. }) => {
                    let answer = self.applier.machine().query(&query);
                    out.push(Output::Reply { id, reply: Reply::Answer { answer, index: applied } });
                }
                // By a round now, which no clock limits: leases may be shorter than the way of an
                // entry into the state machine.
                Readable::TooLate(read) => self.read(Read { mode: ReadMode::ReadIndex, ..read }),
            }
        }
        if self.halted {
            let (committed, confirmed) = self.pending.abandon();
            out.extend(committed.into_iter().map(|id| failed(id, Failure::Unknown)));
            out.extend(confirmed.into_iter().map(|id| failed(id, Failure::Halted)));
        }
    }

    /// Makes a snapshot if enough was applied since the last one (§7), or if one is wanted for what is
    /// damaged here or elsewhere and this one would be new.
    fn save_snapshot(&mut self, out: &mut Vec<Output<M>>) {
        if !self.due.is_now(&self.options) || self.halted || self.restoring.is_some() {
            return;
        }
        let Status { snapshot: newest, is_snapshot_damaged, .. } = self.raft.status();
        let is_damaged = self.due.takes_up(newest) || is_snapshot_damaged;
        let Some(snapshot) = self.raft.snapshot_at(self.applied()) else { return };
        if snapshot.last.index == newest.index && !is_damaged {
            return;
        }
        self.due.saves();
        out.push(Output::Save { snapshot, state: self.applier.freeze() });
    }
}
