//! A leader that is watched: the node, its model beside it, and a look at both after each input.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::{
    Body, Chunk, ChunkPurpose, ChunkRequest, Effect, Entries, Entry, Envelope, Epoch, Flow,
    Incarnation, Index, Message, Observation, Payload, PeerStatus, Raft, RecoveredState, Refused,
    RoleName, Round, Rpc, Session, Slot, Term, Ticket, Time,
};

use super::model::{
    Answer, MESSAGE_BYTES, MESSAGE_ENTRIES, Model, Sent, View, WINDOW, WINDOW_BYTES,
};
use crate::support::{config, member, membership};

/// What happens to a leader besides answers.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// So many commands of one size are proposed in one batch.
    Propose(usize, usize),
    /// A snapshot of all that is applied is taken.
    Compact,
    /// A heartbeat is due.
    Beat,
    /// The transport has lost the peer.
    Unreachable,
    /// The host has read a part of a snapshot, or has it no more.
    Read(bool),
}

/// The term of the leader; all terms of the logs before are lower.
pub(super) const TERM: u64 = 20;
/// The bytes of every snapshot; a chunk has four.
const SNAPSHOT: &[u8] = b"abcdef";

/// A leader, its model, and all that it has sent and has been said since the last look.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) raft: Raft,
    pub(super) model: Model,
    now: Time,
    tickets: u64,
    kept: u64,
    /// Parts of snapshots that the host has still to read.
    pub(super) reads: VecDeque<ChunkRequest>,
    sent: Vec<Rpc>,
    /// The same in the words of the model, with what is to be read.
    told: Vec<Sent>,
    refused: Vec<Refused>,
    /// Appends that are on their way in a probe.
    probes: usize,
}

impl Watched {
    /// A leader whose log was made in these terms, with its first probe on the way.
    pub(super) fn new(terms: &[u64], kept: u64) -> Result<(Self, Vec<Rpc>), TestCaseError> {
        let mut found = RecoveredState::genesis(membership(&[1], &[2]));
        let genesis = found.before;
        let command = |term: &u64| (Term(*term), Payload::Command(Bytes::from_static(b"two")));
        let entries = Entries::after(genesis, terms.iter().map(command));
        let slot = |entry: &Entry| {
            let (id, payload) = (entry.id(), entry.payload().clone());
            Slot::Resident { id, payload }
        };
        found.slots = entries.iter().map(slot).collect();
        found.hard_state.term = Term(TERM - 1);
        found.founding = false;
        let mut config = config(1);
        config.inflight_appends_max = WINDOW;
        config.inflight_bytes_max = WINDOW_BYTES;
        config.append_bytes_max = MESSAGE_BYTES;
        config.append_entries_max = MESSAGE_ENTRIES;
        config.snapshot_chunk_bytes = 4;
        config.kept_behind_snapshot = kept;
        let now = Time(0);
        let (raft, first) = Raft::recover(config, found, now).expect("the disk is intact");
        let log = [(0, 0)].into_iter().chain(terms.iter().map(|term| (*term, 3)));
        let log = log.chain([(TERM, 0)]).collect();
        let mut watched = Self {
            raft,
            model: Model::new(log, genesis),
            now,
            tickets: 0,
            kept,
            reads: VecDeque::new(),
            sent: Vec::new(),
            told: Vec::new(),
            refused: Vec::new(),
            probes: 0,
        };
        watched.execute(first);
        watched.step(Body::Campaign);
        assert_eq!(watched.raft.status().role, RoleName::Leader, "nobody else has a vote");
        let sent = watched.check(vec![], None)?;
        watched.count_probes(false, &sent)?;
        Ok((watched, sent))
    }

    fn step(&mut self, body: Body) {
        let effects = self.raft.step(Message { now: self.now, body });
        self.execute(effects);
    }

    /// A disk and a state machine that are at once; the network and reads of snapshots wait.
    fn execute(&mut self, effects: Vec<Effect>) {
        let mut completions = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(batch) => completions.push(Body::Persisted { seq: batch.seq }),
                Effect::Apply { entries } => {
                    let through = entries.last().expect("never empty").index();
                    completions.push(Body::Applied { through });
                }
                Effect::Send(envelope) => {
                    self.told.extend(told(&envelope.rpc));
                    self.sent.push(envelope.rpc);
                }
                Effect::ReadChunk(request) => {
                    let (last, offset) = (request.snapshot, request.offset);
                    self.told.push(Sent::Read { last, offset });
                    self.reads.push_back(request);
                }
                Effect::Observe(Observation::Refused { reason, .. }) => self.refused.push(reason),
                Effect::Observe(_) | Effect::Outcome { .. } | Effect::ReadReady { .. } => {}
                Effect::StageChunk { .. } | Effect::RestoreState { .. } | Effect::Load(_) => {
                    panic!("a leader with its log in memory does not ask for {effect}")
                }
            }
        }
        completions.into_iter().for_each(|body| self.step(body));
    }

    /// The leader has done what the model says, sees what it sees, and what it sees makes sense.
    fn check(
        &mut self,
        mut expected: Vec<Sent>,
        refused: Option<Refused>,
    ) -> Result<Vec<Rpc>, TestCaseError> {
        expected.extend(self.model.settle());
        prop_assert_eq!(std::mem::take(&mut self.told), expected);
        prop_assert_eq!(std::mem::take(&mut self.refused), Vec::from_iter(refused));
        let peer = self.peer();
        let flow = match &self.model.view {
            View::Probe { .. } => Flow::Probe,
            View::Replicate { sent, .. } => {
                let bytes = sent.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(sent.len() <= WINDOW && (sent.len() == 1 || bytes <= WINDOW_BYTES));
                Flow::Replicate { appends: sent.len(), bytes }
            }
            View::Snapshot { last, staged, .. } => Flow::Snapshot { last: *last, staged: *staged },
            View::Diverged => Flow::Diverged,
        };
        prop_assert_eq!(peer.flow, flow);
        prop_assert_eq!(peer.match_index, Index(self.model.matched));
        prop_assert_eq!(peer.next_index, Index(self.model.next));
        prop_assert_eq!(peer.incarnation, Incarnation(self.model.life));
        prop_assert!(peer.match_index < peer.next_index);
        prop_assert!(peer.next_index <= self.raft.status().last.index.next());
        let sent = std::mem::take(&mut self.sent);
        for rpc in &sent {
            let (session, commit) = stream(rpc);
            prop_assert_eq!(session, Session(self.model.session), "{}", rpc);
            let is_known = commit.is_none_or(|commit| commit <= peer.match_index);
            prop_assert!(is_known, "a peer may commit what it is known to match: {}", rpc);
        }
        Ok(sent)
    }

    pub(super) fn peer(&self) -> PeerStatus {
        let [peer] = &self.raft.peers()[..] else { panic!("there is one peer") };
        peer.clone()
    }

    /// Anything but an answer: what comes must not send a second probe.
    pub(super) fn happens(&mut self, event: &Event) -> Result<Vec<Rpc>, TestCaseError> {
        let (before, mut is_again) = (self.peer(), false);
        let (mut sent, mut refused) = (vec![], None);
        match *event {
            Event::Propose(size, count) => {
                let proposals = (0..count).map(|_| {
                    self.tickets += 1;
                    self.model.log.push((TERM, size));
                    (Ticket(self.tickets), Bytes::from(vec![7; size]))
                });
                let proposals = proposals.collect();
                self.step(Body::ProposeBatch { proposals });
            }
            Event::Compact => {
                let status = self.raft.status();
                if status.applied == status.snapshot.index {
                    return Ok(vec![]);
                }
                let taken = self.raft.snapshot_at(status.applied).expect("it is applied");
                self.model.compact(taken.last, self.kept);
                self.step(Body::SnapshotTaken { snapshot: taken });
            }
            Event::Beat => {
                self.now = Time(self.now.0 + 100);
                self.model.beat();
                self.step(Body::Tick);
            }
            Event::Unreachable => {
                self.model.unreachable();
                self.step(Body::PeerUnreachable { peer: member(2) });
                is_again = before.flow != Flow::Probe;
            }
            Event::Read(is_there) => {
                let Some(request) = self.reads.pop_front() else { return Ok(vec![]) };
                let ChunkPurpose::Lag { session } = request.purpose else {
                    panic!("nothing is damaged: {request}")
                };
                match self.model.read((session.0, request.snapshot, request.offset), is_there) {
                    Ok(chunk) => sent.extend(chunk),
                    Err(reason) => refused = Some(reason),
                }
                let chunk = is_there.then(|| chunk_at(&request));
                self.step(Body::ChunkRead { request, chunk });
            }
        }
        let sent = self.check(sent, refused)?;
        prop_assert!(self.peer().match_index == before.match_index, "only an answer moves it");
        self.count_probes(is_again, &sent)?;
        Ok(sent)
    }

    /// The peer says something, in a stream and in a life.
    pub(super) fn answers(
        &mut self,
        session: u64,
        life: u64,
        answer: Answer,
    ) -> Result<Vec<Rpc>, TestCaseError> {
        let (before, digest) = (self.peer(), self.raft.digest());
        let refused = self.model.answer(session, life, answer).err();
        let envelope = Envelope {
            cluster: config(1).cluster,
            group: config(1).group,
            from: member(2),
            to: member(1),
            epoch: Epoch::ZERO,
            incarnation: Incarnation(life),
            term: Term(TERM),
            rpc: rpc_of(Session(session), answer),
        };
        self.step(Body::Peer(envelope));
        let sent = self.check(vec![], refused)?;
        let after = self.peer();
        let is_reborn = after.incarnation > before.incarnation;
        if after.match_index < before.match_index {
            prop_assert!(is_reborn && before.incarnation > Incarnation::ZERO);
            prop_assert_eq!(after.match_index, Index::ZERO);
        }
        // An answer in the present stream that claims too much shows all the same that the peer is alive.
        let is_sign_of_life = refused == Some(Refused::Impossible) && !before.is_active;
        if is_sign_of_life && !is_reborn {
            let alive = PeerStatus { is_active: after.is_active, ..before };
            prop_assert_eq!(after, alive, "what is refused changes nothing else");
        } else if refused.is_some() && !is_reborn {
            prop_assert_eq!(self.raft.digest(), digest, "what is refused changes nothing");
        }
        self.count_probes(refused.is_none() || is_reborn, &sent)?;
        Ok(sent)
    }

    /// In a probe at most one append is on the way; another one may follow an answer.
    fn count_probes(&mut self, is_again: bool, sent: &[Rpc]) -> Result<(), TestCaseError> {
        let appends = sent.iter().filter(|rpc| matches!(rpc, Rpc::AppendEntries { .. })).count();
        let is_probing = self.peer().flow == Flow::Probe;
        self.probes = if is_again || !is_probing { 0 } else { self.probes };
        self.probes += if is_probing { appends } else { 0 };
        prop_assert!(self.probes <= 1, "{} probes", self.probes);
        Ok(())
    }
}

fn told(rpc: &Rpc) -> Option<Sent> {
    if let Rpc::AppendEntries { prev, entries, .. } = rpc {
        let through = entries.last().map_or(prev.index, Entry::index).0;
        return Some(Sent::Append { after: prev.index.0, through });
    }
    let Rpc::InstallSnapshot { snapshot, offset, .. } = rpc else { return None };
    Some(Sent::Chunk { last: snapshot.last, offset: *offset })
}

/// The stream to which a message belongs, and the commit index that it tells without a look at the
/// entry before.
fn stream(rpc: &Rpc) -> (Session, Option<Index>) {
    if let Rpc::Commit { session, commit } | Rpc::Heartbeat { session, commit, .. } = rpc {
        return (*session, Some(*commit));
    }
    let (Rpc::AppendEntries { session, .. } | Rpc::InstallSnapshot { session, .. }) = rpc else {
        panic!("a leader does not say {rpc} here")
    };
    (*session, None)
}

fn rpc_of(session: Session, answer: Answer) -> Rpc {
    let round = Round::ZERO;
    match answer {
        Answer::Append(result) => Rpc::AppendEntriesResponse { session, round, result },
        Answer::Heartbeat => Rpc::HeartbeatResponse { session, round },
        Answer::Staged { last: snapshot, staged } => {
            Rpc::InstallSnapshotResponse { session, round, snapshot, staged }
        }
    }
}

fn chunk_at(request: &ChunkRequest) -> Chunk {
    let from = usize::try_from(request.offset).expect("small").min(SNAPSHOT.len());
    let end = SNAPSHOT.len().min(from + request.bytes_max);
    Chunk { data: Bytes::from_static(&SNAPSHOT[from..end]), done: end == SNAPSHOT.len() }
}
