//! One server: a node, its disk, and the host that does at once what the node asks for, but writes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft_core::{
    Body, Chunk, ChunkRequest, Config, Effect, Entry, EntryId, Envelope, Index, LoadRequest,
    Message, Observation, PersistBatch, Raft, RoleName, Ticket, Time,
};

use super::machine::{applied, image, restore};
use crate::ideal_disk::{Disk, Loss};
use crate::museum::story::Untold;
use crate::museum::subject::{Applied, Claim, Outcome, ReadAnswer, Role, View, id};

/// A node with what surrounds it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: Config,
    /// `None` while it is down.
    raft: Option<Raft>,
    disk: Disk,
    now: Time,
    writes: VecDeque<PersistBatch>,
    machine: Vec<Applied>,
    outcomes: BTreeMap<u64, Outcome>,
    reads: BTreeMap<u64, ReadAnswer>,
    complaints: Vec<String>,
    refusals: Vec<String>,
    /// Whether the disk gives entries back.
    reads_disk: bool,
    /// Reads of the disk that have failed; the node hears of it when time passes.
    failed: Vec<LoadRequest>,
    /// What it has sent and the network has not taken yet.
    pub(super) outbox: Vec<Envelope>,
}

impl Server {
    /// A server that is down.
    pub(super) fn new(config: Config, disk: Disk) -> Self {
        Self {
            config,
            raft: None,
            disk,
            now: Time(0),
            writes: VecDeque::new(),
            machine: Vec::new(),
            outcomes: BTreeMap::new(),
            reads: BTreeMap::new(),
            complaints: Vec::new(),
            refusals: Vec::new(),
            reads_disk: true,
            failed: Vec::new(),
            outbox: Vec::new(),
        }
    }

    /// Starts from its disk.
    pub(super) fn start(&mut self, claim: Claim) -> Result<(), Untold> {
        let found = self.disk.recovered(Index(claim.commit), Index(claim.applied));
        let kept = usize::try_from(claim.applied).unwrap_or(usize::MAX);
        match Raft::recover(self.config.clone(), found, self.now) {
            Ok((raft, effects)) => {
                self.machine.truncate(kept);
                self.raft = Some(raft);
                self.execute(effects);
                Ok(())
            }
            Err(error) => Err(Untold::Broken(format!("{} starts: {error}", self.config.id))),
        }
    }

    /// The power fails.
    pub(super) fn crash(&mut self, pieces: usize) {
        let mut left = pieces;
        for batch in std::mem::take(&mut self.writes) {
            let kept = left.min(Disk::pieces(&batch));
            left -= kept;
            self.disk.write(&batch, kept);
            if left == 0 {
                break;
            }
        }
        self.raft = None;
        self.failed.clear();
        self.disk.staged.clear();
        self.outcomes.clear();
        self.reads.clear();
        self.outbox.clear();
    }

    pub(super) fn raft(&self) -> Option<&Raft> {
        self.raft.as_ref()
    }

    pub(super) fn step(&mut self, body: Body) {
        let now = self.now;
        let Some(raft) = &mut self.raft else { return };
        let effects = raft.step(Message { now, body });
        self.execute(effects);
    }

    /// Lets the clock move on; each timer that is due on the way fires.
    pub(super) fn pass(&mut self, span_us: u64) {
        let target = Time(self.now.0 + span_us);
        for request in std::mem::take(&mut self.failed) {
            self.step(Body::Loaded { request, entries: None });
        }
        while let Some(deadline) = self.raft.as_ref().and_then(Raft::next_deadline) {
            if deadline > target {
                break;
            }
            self.now = self.now.max(deadline);
            self.step(Body::Tick);
            if self.raft.as_ref().and_then(Raft::next_deadline) == Some(deadline) {
                break;
            }
        }
        self.now = target;
    }

    /// Lets the clock move on while the process is paused.
    pub(super) fn pause(&mut self, span_us: u64) {
        self.now = Time(self.now.0 + span_us);
    }

    /// Sets the clock back, which a monotonic one never is.
    pub(super) fn set_back(&mut self, span_us: u64) {
        self.now = Time(self.now.0.saturating_sub(span_us));
    }

    /// An entry that is durable cannot be read any more.
    pub(super) fn damage(&mut self, index: u64) {
        assert!(self.raft.is_none(), "a disk rots while its server is down");
        self.disk.lose(Loss::Entry(Index(index)));
    }

    pub(super) fn writes(&self) -> Vec<usize> {
        self.writes.iter().map(Disk::pieces).collect()
    }

    /// The oldest writes become durable.
    pub(super) fn complete(&mut self, writes: usize) {
        let mut last = None;
        for batch in self.writes.drain(..writes.min(self.writes.len())) {
            self.disk.write(&batch, usize::MAX);
            last = Some(batch.seq);
        }
        if let Some(seq) = last {
            self.step(Body::Persisted { seq });
        }
    }

    /// Makes a snapshot of what is applied.
    pub(super) fn snapshot(&mut self) {
        let Some(raft) = &self.raft else { return };
        let applied = raft.status().applied;
        if let Some(snapshot) = raft.snapshot_at(applied) {
            self.disk.save(std::sync::Arc::clone(&snapshot), image(&self.machine));
            self.step(Body::SnapshotTaken { snapshot });
        }
    }

    /// Whether the disk gives entries back from now on.
    pub(super) fn set_reads_disk(&mut self, reads_disk: bool) {
        self.reads_disk = reads_disk;
    }

    /// The same clock under another server: the machine stays, its disk does not.
    pub(super) fn with_clock_of(mut self, other: &Self) -> Self {
        self.now = other.now;
        self
    }

    fn execute(&mut self, effects: Vec<Effect>) {
        let mut answers = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(batch) => self.writes.push_back(batch),
                Effect::Send(envelope) => self.outbox.push(envelope),
                Effect::Apply { entries } => {
                    self.machine.extend(entries.iter().map(applied));
                    let through = entries.last().map_or(Index::ZERO, Entry::index);
                    answers.push(Body::Applied { through });
                }
                Effect::RestoreState { snapshot } => {
                    let bytes = self.disk.image(snapshot.last).expect("it is durable here");
                    self.machine = restore(bytes);
                    answers.push(Body::Applied { through: snapshot.last.index });
                }
                Effect::Outcome { ticket: Ticket(ticket), outcome } => {
                    let before = self.outcomes.insert(ticket, outcome_of(&outcome));
                    assert!(before.is_none(), "a request ends once");
                }
                Effect::ReadReady { ticket: Ticket(ticket), index, valid_until } => {
                    let valid_until_us = valid_until.map(|until| until.0);
                    let answer = ReadAnswer { index: index.0, valid_until_us };
                    let before = self.reads.insert(ticket, answer);
                    assert!(before.is_none(), "a read is answered once");
                }
                Effect::ReadChunk(request) => {
                    answers.push(Body::ChunkRead { request, chunk: self.chunk(&request) });
                }
                Effect::Load(request) if self.reads_disk => {
                    let entries = self.disk.entries(&request);
                    answers.push(Body::Loaded { request, entries });
                }
                Effect::Load(request) => self.failed.push(request),
                Effect::StageChunk { id, offset, data, .. } => {
                    let staged = self.stage(offset, &data);
                    answers.push(Body::ChunkStaged { id, staged });
                }
                Effect::Observe(observation) => self.observe(&observation),
            }
        }
        for body in answers {
            self.step(body);
        }
    }

    fn chunk(&self, request: &ChunkRequest) -> Option<Chunk> {
        let image = self.disk.image(request.snapshot)?;
        let rest = image.get(usize::try_from(request.offset).ok()?..)?;
        let data = Bytes::copy_from_slice(&rest[..rest.len().min(request.bytes_max)]);
        Some(Chunk { done: data.len() == rest.len(), data })
    }

    fn stage(&mut self, offset: u64, data: &[u8]) -> u64 {
        let staged = &mut self.disk.staged;
        staged.truncate(usize::try_from(offset).expect("images of stories are short"));
        staged.extend_from_slice(data);
        staged.len() as u64
    }

    fn observe(&mut self, observation: &Observation) {
        if let Observation::Violation(violation) = observation {
            self.complaints.push(format!("{violation:?}"));
        }
        if let Observation::Refused { from: Some(_), reason, .. } = observation {
            self.refusals.push(format!("{reason:?}"));
        }
    }

    pub(super) fn view(&self) -> View {
        let mut view = View {
            role: Role::Down,
            term: 0,
            vote: None,
            leader: None,
            commit: 0,
            base: 0,
            log: Vec::new(),
            voters: Vec::new(),
            outgoing: Vec::new(),
            learners: Vec::new(),
            applied: self.machine.clone(),
            outcomes: self.outcomes.clone(),
            reads: self.reads.clone(),
            clock_us: self.now.0,
            complaints: self.complaints.clone(),
            refusals: self.refusals.clone(),
        };
        let Some(raft) = &self.raft else { return view };
        let status = raft.status();
        let numbers = |members: &[raft_core::Member]| members.iter().map(|at| at.id.0).collect();
        view.role = role_of(status.role);
        view.term = status.term.0;
        view.vote = status.vote.map(|vote| vote.id.0);
        view.leader = status.leader.map(|leader| leader.id.0);
        view.commit = status.commit.0;
        view.base = status.base.index.0;
        let places = (status.base.index.0 + 1..=status.last.index.0).map(Index);
        let entry = |EntryId { term, index, .. }| id(term.0, index.0);
        view.log = places.filter_map(|index| raft.entry_id(index)).map(entry).collect();
        view.voters = numbers(status.membership.incoming());
        view.outgoing = numbers(status.membership.outgoing());
        view.learners = numbers(status.membership.learners());
        view
    }
}

fn role_of(role: RoleName) -> Role {
    match role {
        RoleName::Follower => Role::Follower,
        RoleName::PreCandidate => Role::PreCandidate,
        RoleName::Candidate => Role::Candidate,
        RoleName::Leader => Role::Leader,
        RoleName::Halted => Role::Halted,
    }
}

fn outcome_of(outcome: &raft_core::Outcome) -> Outcome {
    match outcome {
        raft_core::Outcome::Committed { term, index } => Outcome::Committed(id(term.0, index.0)),
        raft_core::Outcome::Refused(reason) => Outcome::Refused(format!("{reason:?}")),
        raft_core::Outcome::Transferred { .. } => Outcome::Transferred,
        raft_core::Outcome::Superseded => Outcome::Lost,
        raft_core::Outcome::Unknown | raft_core::Outcome::Halted => Outcome::Unknown,
    }
}
