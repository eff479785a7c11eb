//! What clients, operators and servers say to each other, told to the checker: EO, LIN.

use raft_core::{Index, NodeId, PersistBatch, Term, Time};
use raft_replica::request::RequestId;

use super::history::{Answered, Asked, ClientId, OperationId};
use super::tickets::{Fate, Wish};
use super::violation::{Invariant, Violation};
use super::{Checker, commit_quorum, exactly_once, linearizability};
use crate::workload::{Command, Model, Workload};

impl<W: Workload> Checker<W> {
    /// Keeps what clients see from now on, for [`Self::judge_sample`].
    pub fn keep_sample(&mut self) {
        self.machine.model.keep_history();
    }

    /// Judges what clients saw without the ghost: whether it was found to be linearizable, or `None`
    /// if it was not kept.
    ///
    /// # Errors
    /// LIN.
    pub fn judge_sample(&self) -> Result<Option<bool>, Violation> {
        self.machine.model.judge_history().map_err(|why| {
            let predicted = "an order of what clients asked for, for each key".to_owned();
            Violation::new(Invariant::Linearizability, predicted, why).at(Index(0))
        })
    }

    /// A client makes a request: once per request, not per attempt.
    ///
    /// # Panics
    /// If the client has a request of that number already.
    pub fn invoked(
        &mut self,
        client: ClientId,
        id: OperationId,
        operation: &Asked<W::Machine>,
        now: Time,
    ) {
        self.machine.model.invoked((client, id), operation);
        self.history.begin((client, id), operation.clone(), now);
    }

    /// A request has ended for its client: at most once per request.
    ///
    /// # Errors
    /// EO, LIN.
    ///
    /// # Panics
    /// If the client has no open request of that number.
    pub fn replied(
        &mut self,
        client: ClientId,
        id: OperationId,
        outcome: &Answered<W::Machine>,
        now: Time,
    ) -> Result<(), Violation> {
        let asker = (client, id);
        let open = self.history.end(asker);
        exactly_once::ended(&mut self.told, &self.machine, asker, &open.operation, outcome)?;
        linearizability::ended(&mut self.history, &self.machine, &open, outcome, now)?;
        self.machine.model.ended(asker, outcome);
        self.machine.model.forget(self.history.horizon());
        Ok(())
    }

    /// A server has taken these attempts in one step, and has asked for these batches in it.
    pub fn took<'a>(
        &mut self,
        node: NodeId,
        attempts: &[(RequestId, Wish)],
        batches: impl Iterator<Item = &'a PersistBatch>,
    ) {
        let slot = self.ghost.slot(node);
        self.tickets.took::<Command<W>>(&self.ghost, slot, attempts, batches);
    }

    /// A server has ended an attempt.
    ///
    /// # Errors
    /// EO; CQ, if a change of the membership is said to be committed and is not.
    pub fn settled(
        &mut self,
        node: NodeId,
        attempt: RequestId,
        fate: Fate,
    ) -> Result<(), Violation> {
        let slot = self.ghost.slot(node);
        if let Fate::CommittedAt(index) = fate {
            commit_quorum::claimed(&mut self.ghost, slot, index)?;
        }
        self.tickets.ended(&self.ghost, slot, attempt, fate)
    }

    /// A server tells an operator that it has handed over: this term has begun since.
    ///
    /// # Errors
    /// EO.
    pub fn handed_over(&self, node: NodeId, term: Term) -> Result<(), Violation> {
        let slot = self.ghost.slot(node);
        let has_entered = |other: &usize| {
            *other != slot && self.ghost.nodes[*other].issued.hard_state.term >= term
        };
        let is_later = self.ghost.nodes[slot].led < Some(term);
        if is_later && (0..self.ghost.nodes.len()).any(|other| has_entered(&other)) {
            return Ok(());
        }
        let predicted = format!("somebody else has begun {term} since it led");
        let actual = "nobody has, and an operator is told so".to_owned();
        Err(Violation::new(Invariant::ExactlyOnce, predicted, actual).on(node))
    }
}
