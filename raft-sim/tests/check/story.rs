//! A cluster that exists only in what is reported about it: stories are told to the checker.
//!
//! Each test tells a story in which one promise is broken, and its near twin in which it is kept.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    AppendResult, ClusterId, Entries, EntryId, Envelope, Epoch, GroupId, HardState, Incarnation,
    Index, Member, Membership, NodeId, Payload, PersistBatch, PersistSeq, RecoveredState, Round,
    Rpc, Session, Slot, SnapshotMeta, Span, Term,
};
use raft_replica::kv::Kv;
use raft_sim::check::{Checker, Invariant, Violation};

/// What a node of the story knows; its disk is the checker's business.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) member: Member,
    pub(crate) hard_state: HardState,
    pub(crate) before: EntryId,
    pub(crate) log: Vec<(EntryId, Payload)>,
    seq: u64,
}

/// The story so far.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) checker: Checker,
    pub(crate) founders: Membership,
    pub(crate) actors: Vec<Actor>,
}

impl Story {
    /// Voters 1 to `voters`, started and with their first incarnation on disk.
    pub(crate) fn new(voters: u64) -> Self {
        let members: Vec<Member> = (1..=voters).map(|id| Member::new(id, 100 + id)).collect();
        let founders = Membership::new(members.clone(), vec![]).unwrap();
        let genesis = RecoveredState::genesis(founders.clone());
        let actor = |&member: &Member| Actor {
            member,
            hard_state: HardState::default(),
            before: genesis.before,
            log: Vec::new(),
            seq: 0,
        };
        let actors: Vec<Actor> = members.iter().map(actor).collect();
        let checker = Checker::new(&members, &founders, Kv::new());
        let mut story = Self { checker, founders, actors };
        for id in 1..=voters {
            story.checker.recovered(NodeId(id), &genesis).unwrap();
            story.raise_incarnation(id);
        }
        story
    }

    pub(crate) fn actor(&mut self, id: u64) -> &mut Actor {
        &mut self.actors[usize::try_from(id - 1).unwrap()]
    }

    /// The next batch of a node, empty.
    pub(crate) fn batch(&mut self, id: u64) -> PersistBatch {
        let actor = self.actor(id);
        actor.seq += 1;
        PersistBatch {
            seq: PersistSeq { incarnation: actor.hard_state.incarnation, n: actor.seq },
            hard_state: None,
            install: None,
            truncate_from: None,
            heal: Vec::new(),
            append: Entries::empty(),
            compact_to: None,
        }
    }

    pub(crate) fn issue(&mut self, id: u64, batch: &PersistBatch) -> Result<(), Violation> {
        self.checker.persist_issued(NodeId(id), batch)
    }

    /// Everything that a node has asked for becomes durable.
    pub(crate) fn sync(&mut self, id: u64) -> Result<(), Violation> {
        let actor = self.actor(id);
        let seq = PersistSeq { incarnation: actor.hard_state.incarnation, n: actor.seq };
        self.checker.persist_durable(NodeId(id), seq)
    }

    pub(crate) fn raise_incarnation(&mut self, id: u64) {
        self.actor(id).hard_state.incarnation = self.actor(id).hard_state.incarnation.next();
        self.actor(id).seq = 0;
        let mut batch = self.batch(id);
        batch.hard_state = Some(self.actor(id).hard_state);
        self.issue(id, &batch).unwrap();
        self.sync(id).unwrap();
    }

    /// Asks for a hard state with this term and vote.
    pub(crate) fn hard_state(
        &mut self,
        id: u64,
        term: u64,
        vote: Option<u64>,
    ) -> Result<(), Violation> {
        let vote = vote.map(|vote| self.actor(vote).member);
        let actor = self.actor(id);
        actor.hard_state = HardState { term: Term(term), vote, ..actor.hard_state };
        let mut batch = self.batch(id);
        batch.hard_state = Some(self.actor(id).hard_state);
        self.issue(id, &batch)
    }

    /// A vote that is durable and, unless it is for the voter itself, told.
    pub(crate) fn vote(&mut self, id: u64, term: u64, candidate: u64) -> Result<(), Violation> {
        self.hard_state(id, term, Some(candidate))?;
        self.sync(id)?;
        if id == candidate { Ok(()) } else { self.grant(id, candidate) }
    }

    pub(crate) fn grant(&mut self, id: u64, candidate: u64) -> Result<(), Violation> {
        self.send(id, candidate, Rpc::RequestVoteResponse { granted: true })
    }

    /// `voters`, the leader among them, elect a leader of `term`.
    pub(crate) fn elect(
        &mut self,
        leader: u64,
        term: u64,
        voters: &[u64],
    ) -> Result<(), Violation> {
        for &voter in voters {
            self.vote(voter, term, leader)?;
        }
        self.checker.became_leader(NodeId(leader), Term(term))
    }

    pub(crate) fn last(&mut self, id: u64) -> EntryId {
        let actor = self.actor(id);
        actor.log.last().map_or(actor.before, |(id, _)| *id)
    }

    pub(crate) fn at(&mut self, id: u64, index: u64) -> EntryId {
        let actor = self.actor(id);
        let position = index.checked_sub(actor.before.index.0 + 1);
        position.map_or(actor.before, |position| actor.log[usize::try_from(position).unwrap()].0)
    }

    /// A node's log from `from` on, as a message or a batch would carry it.
    pub(crate) fn entries(&mut self, id: u64, from: u64) -> Entries {
        let before = self.at(id, from - 1);
        let log = self.actor(id).log.iter().filter(|(id, _)| id.index.0 >= from);
        Entries::after(before, log.map(|(id, payload)| (id.term, payload.clone())))
    }

    /// A node appends entries of its own; asked for, not durable.
    pub(crate) fn propose(
        &mut self,
        id: u64,
        term: u64,
        payloads: Vec<Payload>,
    ) -> Result<(), Violation> {
        let items = payloads.into_iter().map(|payload| (Term(term), payload));
        let entries = Entries::after(self.last(id), items);
        self.write(id, None, &entries)
    }

    pub(crate) fn noop(&mut self, id: u64, term: u64) -> Result<(), Violation> {
        self.propose(id, term, vec![Payload::Noop])
    }

    /// A node truncates its log if told to, then appends; asked for, not durable.
    pub(crate) fn write(
        &mut self,
        id: u64,
        truncate_from: Option<u64>,
        entries: &Entries,
    ) -> Result<(), Violation> {
        let mut batch = self.batch(id);
        batch.truncate_from = truncate_from.map(Index);
        batch.append = entries.clone();
        let actor = self.actor(id);
        if let Some(from) = truncate_from {
            actor.log.retain(|(id, _)| id.index.0 < from);
        }
        let entries = entries.iter();
        actor.log.extend(entries.map(|entry| (entry.id(), entry.payload().clone())));
        self.issue(id, &batch)
    }

    /// A node takes over a leader's log from `from` on, and asks its disk to.
    pub(crate) fn follow(&mut self, id: u64, leader: u64, from: u64) -> Result<(), Violation> {
        let entries = self.entries(leader, from);
        let truncates = self.last(id).index.0 >= from;
        self.write(id, truncates.then_some(from), &entries)
    }

    /// The same, made durable and acknowledged.
    pub(crate) fn replicate(&mut self, leader: u64, id: u64, from: u64) -> Result<(), Violation> {
        let term = self.actor(leader).hard_state.term.0;
        if self.actor(id).hard_state.term.0 < term {
            self.hard_state(id, term, None)?;
        }
        self.follow(id, leader, from)?;
        self.sync(id)?;
        let last = self.last(id).index.0;
        self.acknowledge(id, leader, last)
    }

    pub(crate) fn acknowledge(
        &mut self,
        id: u64,
        leader: u64,
        index: u64,
    ) -> Result<(), Violation> {
        let result = AppendResult::Matched { index: Index(index) };
        let rpc = Rpc::AppendEntriesResponse { session: Session(1), round: Round(0), result };
        self.send(id, leader, rpc)
    }

    pub(crate) fn heartbeat(&mut self, id: u64, to: u64, commit: u64) -> Result<(), Violation> {
        let commit = Index(commit);
        self.send(
            id,
            to,
            Rpc::Heartbeat { session: Session(1), round: Round(0), commit, lease: Span(0) },
        )
    }

    pub(crate) fn append(
        &mut self,
        id: u64,
        to: u64,
        from: u64,
        commit: u64,
    ) -> Result<(), Violation> {
        let (prev, entries) = (self.at(id, from - 1), self.entries(id, from));
        let (session, round, commit) = (Session(1), Round(0), Index(commit));
        self.send(id, to, Rpc::AppendEntries { session, round, prev, entries, commit })
    }

    pub(crate) fn send(&mut self, id: u64, to: u64, rpc: Rpc) -> Result<(), Violation> {
        let envelope = self.envelope(id, to, rpc);
        self.checker.sent(NodeId(id), &envelope)
    }

    pub(crate) fn envelope(&mut self, id: u64, to: u64, rpc: Rpc) -> Envelope {
        let to = self.actor(to).member;
        let actor = self.actor(id);
        Envelope {
            cluster: ClusterId(1),
            group: GroupId(1),
            from: actor.member,
            to,
            epoch: Epoch(0),
            incarnation: actor.hard_state.incarnation,
            term: actor.hard_state.term,
            rpc,
        }
    }

    pub(crate) fn commit(&mut self, id: u64, commit: u64) -> Result<(), Violation> {
        self.checker.commit_observed(NodeId(id), Index(commit))
    }

    /// A node applies its log `from..=through`.
    pub(crate) fn apply(
        &mut self,
        id: u64,
        from: u64,
        through: u64,
        digest: u64,
    ) -> Result<(), Violation> {
        let entries = self.entries(id, from).slice(Index(from), Index(through + 1));
        self.checker.applied(NodeId(id), &entries, digest)
    }

    /// A snapshot of a node's log through `index`.
    pub(crate) fn snapshot(&mut self, id: u64, index: u64) -> Arc<SnapshotMeta> {
        let last = self.at(id, index);
        Arc::new(SnapshotMeta { last, membership: self.founders.clone() })
    }

    /// A node becomes a copy of what its disk is said to have kept: the log through `last`.
    pub(crate) fn crash(&mut self, id: u64, kept: HardState, last: u64) -> Result<(), Violation> {
        self.checker.crashed(NodeId(id));
        let actor = self.actor(id);
        actor.hard_state = kept;
        actor.log.retain(|(id, _)| id.index.0 <= last);
        let found = self.found(id);
        self.checker.recovered(NodeId(id), &found)?;
        self.raise_incarnation(id);
        Ok(())
    }

    /// What a disk would give back that holds all that the node knows.
    pub(crate) fn found(&mut self, id: u64) -> RecoveredState {
        let genesis = RecoveredState::genesis(self.founders.clone());
        let actor = self.actor(id);
        let slots = actor.log.iter().cloned();
        RecoveredState {
            hard_state: actor.hard_state,
            slots: slots.map(|(id, payload)| Slot::Resident { id, payload }).collect(),
            founding: false,
            ..genesis
        }
    }

    /// Three voters; n1 leads term 1 and has committed and applied its no-op everywhere.
    pub(crate) fn led() -> Self {
        let mut story = Self::new(3);
        story.elect(1, 1, &[1, 2]).unwrap();
        story.hard_state(3, 1, None).unwrap();
        story.noop(1, 1).unwrap();
        story.sync(1).unwrap();
        for follower in [2, 3] {
            story.replicate(1, follower, 1).unwrap();
        }
        for id in 1..=3 {
            story.commit(id, 1).unwrap();
            story.apply(id, 1, 1, 1).unwrap();
        }
        story
    }
}

pub(crate) fn command(bytes: &'static [u8]) -> Payload {
    Payload::Command(Bytes::from_static(bytes))
}

pub(crate) fn hard_state(term: u64, incarnation: u64, vote: Option<Member>) -> HardState {
    HardState {
        epoch: Epoch(0),
        incarnation: Incarnation(incarnation),
        term: Term(term),
        vote,
        promise: Span(0),
        is_tail_unknown: false,
    }
}

/// Asserts that a story ends in a violation of `invariant` by `node`, and that it can be read.
#[track_caller]
pub(crate) fn broken(end: Result<(), Violation>, invariant: Invariant, node: Option<u64>) {
    let violation = end.expect_err("the story breaks a promise");
    assert_eq!(violation.invariant, invariant, "{violation}");
    assert_eq!(violation.node, node.map(NodeId), "{violation}");
    assert!(!violation.predicted.is_empty() && violation.predicted != violation.actual);
}
