//! What clients and servers say to each other, told to the checker: EO, LIN.

use raft_core::{Index, NodeId, PersistBatch, Time};
use raft_replica::request::RequestId;

use super::history::{Answered, Asked, ClientId, OperationId};
use super::tickets::{Fate, Wish};
use super::violation::{Invariant, Violation};
use super::{Checker, exactly_once, linearizability};
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
    /// EO.
    pub fn settled(
        &mut self,
        node: NodeId,
        attempt: RequestId,
        fate: Fate,
    ) -> Result<(), Violation> {
        self.tickets.ended(&self.ghost, self.ghost.slot(node), attempt, fate)
    }
}
