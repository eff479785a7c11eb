//! The checker: what must never happen, looked at the moment a promise is made.
//!
//! It keeps a *ghost*: what each node has asked its disk for, what is really durable, what was
//! committed by which quorum, what clients were told. The ghost records facts and compares them;
//! it contains no rule of the product.
//!
//! The world reports every step of a node in this order: its outputs, in the order in which they
//! came, then [`Checker::commit_observed`], which closes the step. An answer to a client is
//! judged when the step is closed.

mod history;
mod violation;

use raft_core::{
    Entries, Envelope, Index, Member, Membership, NodeId, PersistBatch, PersistSeq, RecoveredState,
    SnapshotMeta, Term, Time,
};

pub use history::{ClientId, Operation, OperationId, Outcome, Write};
pub use violation::{Invariant, Violation};

/// The simulator's own truth about a cluster, and the judge of every step.
#[derive(Clone, Debug)]
pub struct Checker {
    founders: Membership,
    members: Vec<Member>,
    committed: Index,
    sessions_max: usize,
}

impl Checker {
    /// A checker for these nodes, none of which has started, founded by `founders`.
    #[must_use]
    pub fn new(members: &[Member], founders: &Membership) -> Self {
        Self {
            founders: founders.clone(),
            members: members.to_vec(),
            committed: Index::ZERO,
            sessions_max: usize::MAX,
        }
    }

    /// The same, for replicas that keep at most so many client sessions.
    #[must_use]
    pub fn with_sessions_max(self, sessions_max: usize) -> Self {
        Self { sessions_max, ..self }
    }

    /// A node asks its storage to make a batch durable.
    ///
    /// # Errors
    /// LM, MT, CI.
    pub fn persist_issued(&mut self, node: NodeId, batch: &PersistBatch) -> Result<(), Violation> {
        let _ = (node, batch);
        Ok(())
    }

    /// All of a node's batches through `seq` are durable: what the disk really holds, not what it
    /// has confirmed.
    ///
    /// # Errors
    /// MT, ES.
    pub fn persist_durable(&mut self, node: NodeId, seq: PersistSeq) -> Result<(), Violation> {
        let _ = (node, seq);
        Ok(())
    }

    /// A node hands a message to its network.
    ///
    /// # Errors
    /// ES, PS, LM, LC, CQ, CI.
    pub fn sent(&mut self, node: NodeId, envelope: &Envelope) -> Result<(), Violation> {
        let _ = (node, envelope);
        Ok(())
    }

    /// A node says that it leads.
    ///
    /// # Errors
    /// ES, LC.
    pub fn became_leader(&mut self, node: NodeId, term: Term) -> Result<(), Violation> {
        let _ = (node, term);
        Ok(())
    }

    /// Closes a step of a node, whose commit index is now `commit`.
    ///
    /// # Errors
    /// CQ, CI for the commit index; EO, LIN for the answers of the step.
    pub fn commit_observed(&mut self, node: NodeId, commit: Index) -> Result<(), Violation> {
        let _ = (node, commit);
        Ok(())
    }

    /// A node has applied these entries; `digest` covers all that it has applied.
    ///
    /// # Errors
    /// CQ, CI, PS, SM, EO.
    pub fn applied(
        &mut self,
        node: NodeId,
        entries: &Entries,
        digest: u64,
    ) -> Result<(), Violation> {
        let _ = (node, entries, digest);
        Ok(())
    }

    /// A node has replaced its state machine by a snapshot.
    ///
    /// # Errors
    /// PS, SM.
    pub fn restored(
        &mut self,
        node: NodeId,
        snapshot: &SnapshotMeta,
        digest: u64,
    ) -> Result<(), Violation> {
        let _ = (node, snapshot, digest);
        Ok(())
    }

    /// A node's process has ended; what was not durable may be lost.
    pub fn crashed(&mut self, node: NodeId) {
        let _ = node;
    }

    /// A node starts again, from what its storage found. Also allowed for the first start.
    ///
    /// # Errors
    /// MT, REC, CI.
    pub fn recovered(&mut self, node: NodeId, found: &RecoveredState) -> Result<(), Violation> {
        let _ = (node, found);
        Ok(())
    }

    /// A client makes a request: once per request, not per attempt.
    ///
    /// # Errors
    /// EO, LIN for answers that were given before.
    pub fn invoked(
        &mut self,
        client: ClientId,
        id: OperationId,
        operation: &Operation,
        time: Time,
    ) -> Result<(), Violation> {
        let _ = (client, id, operation, time);
        Ok(())
    }

    /// A request has ended for its client: at most once per request.
    ///
    /// # Errors
    /// EO, LIN; most are found when the step is closed.
    pub fn replied(
        &mut self,
        client: ClientId,
        id: OperationId,
        outcome: &Outcome,
        time: Time,
    ) -> Result<(), Violation> {
        let _ = (client, id, outcome, time);
        Ok(())
    }

    /// The highest index known to be committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// The last entry on a node's disk.
    #[must_use]
    pub fn durable_last(&self, node: NodeId) -> Index {
        let _ = node;
        Index::ZERO
    }

    /// Whether everything committed is durable on a node.
    #[must_use]
    pub fn has_all_committed(&self, node: NodeId) -> bool {
        let _ = node;
        true
    }

    /// The index through which a node's state machine has applied.
    #[must_use]
    pub fn applied_index(&self, node: NodeId) -> Index {
        let _ = node;
        Index::ZERO
    }

    /// The leader of a term, if it had one.
    #[must_use]
    pub fn leader(&self, term: Term) -> Option<NodeId> {
        let _ = term;
        None
    }
}
