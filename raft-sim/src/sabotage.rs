//! Ways to break the stack on purpose, to prove that the checker notices.
//!
//! A simulator that has never seen a violation proves nothing. Each of these breaks one assumption
//! at a seam of the world (the disk, the network, the state machine, a snapshot's bytes) while the
//! product runs unchanged; `tests/sabotage.rs` shows which invariant catches each. No run that is
//! started from the command line has any of them.

use bytes::Bytes;
use raft_core::wire::{self, Limits};
use raft_core::{
    AppendResult, EntryId, Envelope, Incarnation, Index, Payload, PersistBatch, RecoveredState,
    Rpc, Slot,
};
use raft_replica::Image;
use raft_replica::kv::{Kv, KvCommand};
use raft_replica::machine::{Restore, StateMachine};
use raft_replica::session::Sessions;

use crate::disk::Lie;
use crate::event::NodeAt;
use crate::said::Said;

/// A way to break the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing is broken.
    #[default]
    None,
    /// Syncs succeed and do nothing: storage confirms what is not durable.
    SyncDoesNothing,
    /// Batches are confirmed when their sync begins.
    ConfirmedEarly,
    /// So are those that do not change the hard state, and no others.
    AppendsConfirmedEarly,
    /// Hard-state files forget their last writes at a power loss, although they were synced.
    HardStateLost,
    /// After a restart the hard state names no vote.
    VoteLost,
    /// After a restart the log continues as it did before its suffix was last replaced.
    SuffixResurrected,
    /// The network claims a longer match in the name of a follower.
    AcknowledgementForged,
    /// The network turns a refused vote into a granted one.
    VoteForged,
    /// The network confirms a read round in the name of a node that cannot be reached.
    RoundForged,
    /// The state machine of one node skips a command now and then.
    CommandSkipped,
    /// A snapshot contains no sessions.
    SessionsForgotten,
    /// A snapshot of the key-value store has another value than was written, of the same version.
    ValueReplaced,
    /// The state machine of one node panics.
    MachinePanics,
}

impl Sabotage {
    /// How it breaks the disks.
    #[must_use]
    pub fn lie(self) -> Lie {
        match self {
            Self::SyncDoesNothing => Lie::AllSyncs,
            Self::HardStateLost => Lie::HardStateSyncs,
            Self::None
            | Self::ConfirmedEarly
            | Self::AppendsConfirmedEarly
            | Self::VoteLost
            | Self::SuffixResurrected
            | Self::AcknowledgementForged
            | Self::VoteForged
            | Self::RoundForged
            | Self::CommandSkipped
            | Self::SessionsForgotten
            | Self::ValueReplaced
            | Self::MachinePanics => Lie::None,
        }
    }

    /// Whether batches are confirmed before they are synced, if these change the hard state or not.
    #[must_use]
    pub fn confirms_early(self, has_hard_state: impl FnOnce() -> bool) -> bool {
        self == Self::ConfirmedEarly || self == Self::AppendsConfirmedEarly && !has_hard_state()
    }

    /// What the network delivers instead of a message, if it is one to forge.
    #[must_use]
    pub fn forge(self, envelope: &Envelope) -> Option<Bytes> {
        if !matches!(self, Self::AcknowledgementForged | Self::VoteForged) {
            return None;
        }
        let rpc = match (self, envelope.rpc.clone()) {
            (
                Self::AcknowledgementForged,
                Rpc::AppendEntriesResponse {
                    session,
                    round,
                    result: AppendResult::Matched { index },
                },
            ) => {
                let result = AppendResult::Matched { index: index.next() };
                Rpc::AppendEntriesResponse { session, round, result }
            }
            (Self::VoteForged, Rpc::RequestVoteResponse { granted: false }) => {
                Rpc::RequestVoteResponse { granted: true }
            }
            _ => return None,
        };
        Some(wire::encode(&Envelope { rpc, ..envelope.clone() }))
    }

    /// The answer that the network gives in the name of a node that it did not reach.
    #[must_use]
    pub fn forge_answer(self, frame: &Bytes, incarnation: Incarnation) -> Option<Bytes> {
        if self != Self::RoundForged {
            return None;
        }
        let asked = wire::decode(frame.clone(), &Limits::default()).ok()?;
        let Rpc::Heartbeat { session, round, .. } = asked.rpc else { return None };
        let rpc = Rpc::HeartbeatResponse { session, round };
        Some(wire::encode(&Envelope { from: asked.to, to: asked.from, incarnation, rpc, ..asked }))
    }

    /// The bytes of a snapshot as they are written.
    #[must_use]
    pub fn snapshot(self, data: Bytes) -> Bytes {
        if !matches!(self, Self::SessionsForgotten | Self::ValueReplaced) {
            return data;
        }
        let image = Image::decode(&data).expect("a replica's own snapshot is an image");
        if self == Self::SessionsForgotten {
            return Image { sessions: Sessions::new(), ..image }.encode();
        }
        let machine = replace_value(image.machine);
        Image { machine: &machine, ..image }.encode()
    }
}

/// The snapshot of a key-value store with another value for its first key, of the same version.
fn replace_value(snapshot: &[u8]) -> Vec<u8> {
    let mut store = Kv::new();
    store.restore(snapshot).expect("it is a snapshot of the store");
    let first = store.iter().next().map(|(key, found)| (key.clone(), found.version));
    if let Some((key, version)) = first {
        store.apply(version, KvCommand::Put { key, value: Bytes::from_static(b"another") });
    }
    let mut bytes = Vec::new();
    Kv::encode(&store.snapshot(), &mut bytes);
    bytes
}

/// The state machine of a simulated replica: the one of the workload, which may skip commands.
#[derive(Clone, Debug)]
pub struct Flawed<M> {
    machine: M,
    flaw: Option<Flaw>,
}

/// What is wrong with a machine, at every 16th index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Skips,
    Panics,
}

impl<M> Flawed<M> {
    /// The machine of the node at this position: the first one has the flaw, if there is any.
    #[must_use]
    pub fn new(machine: M, sabotage: Sabotage, node: NodeAt) -> Self {
        let flaw = if sabotage == Sabotage::CommandSkipped {
            Some(Flaw::Skips)
        } else if sabotage == Sabotage::MachinePanics {
            Some(Flaw::Panics)
        } else {
            None
        };
        Self { machine, flaw: flaw.filter(|_| node == 0) }
    }

    /// The machine of the workload.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }
}

impl<M: StateMachine + Clone> StateMachine for Flawed<M> {
    type Command = Said<M::Command>;
    type Response = M::Response;
    type Query = M::Query;
    type Answer = M::Answer;
    type Snapshot = M::Snapshot;
    type Error = M::Error;
    type Restore = Unflawed<M::Restore>;

    fn apply(&mut self, index: Index, command: Said<M::Command>) -> M::Response {
        let command = command.into_command();
        match self.flaw.filter(|_| index.0.is_multiple_of(16)) {
            None => self.machine.apply(index, command),
            Some(Flaw::Skips) => self.machine.clone().apply(index, command),
            Some(Flaw::Panics) => panic!("sabotaged at {index}"),
        }
    }

    fn query(&self, query: &M::Query) -> M::Answer {
        self.machine.query(query)
    }

    fn snapshot(&self) -> M::Snapshot {
        self.machine.snapshot()
    }

    fn encode(snapshot: &M::Snapshot, bytes: &mut Vec<u8>) {
        M::encode(snapshot, bytes);
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), M::Error> {
        self.machine.restore(snapshot)
    }
}

/// What is read back is what was written, whatever a machine does with it later.
#[derive(Clone, Debug, Default)]
pub struct Unflawed<R>(R);

impl<M: StateMachine + Clone> Restore<Flawed<M>> for Unflawed<M::Restore> {
    fn feed(&mut self, part: &[u8]) -> Result<(), M::Error> {
        self.0.feed(part)
    }

    fn finish(self, flawed: &mut Flawed<M>) -> Result<(), M::Error> {
        self.0.finish(&mut flawed.machine)
    }
}

/// The suffixes that a log has lost: what [`Sabotage::SuffixResurrected`] brings back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graveyard {
    log: Vec<(EntryId, Payload)>,
    lost: Vec<(EntryId, Payload)>,
}

impl Graveyard {
    /// A node asks for a batch to be written.
    pub(crate) fn persist(&mut self, batch: &PersistBatch) {
        if let Some(index) = batch.truncate_from {
            let kept = self.log.partition_point(|(id, _)| id.index < index);
            self.lost = self.log.split_off(kept);
        }
        let appended = batch.append.iter();
        self.log.extend(appended.map(|entry| (entry.id(), entry.payload().clone())));
    }

    /// The log that was found continues as it did before it was last cut.
    pub(crate) fn resurrect(&mut self, found: &mut RecoveredState) {
        let Some((first, _)) = self.lost.first() else { return };
        let Some(kept) = first.index.0.checked_sub(found.before.index.0 + 1) else { return };
        let Ok(kept) = usize::try_from(kept) else { return };
        if kept <= found.slots.len() {
            let lost = self.lost.drain(..);
            found.slots.truncate(kept);
            found.slots.extend(lost.map(|(id, payload)| Slot::Resident { id, payload }));
        }
    }
}
