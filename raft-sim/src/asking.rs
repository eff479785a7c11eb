//! What clients do to the world: they wake up, ask nodes, and wait.

use raft_core::Time;
use raft_replica::request::{Input, RequestId};

use crate::client::{Act, request};
use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::workload::Workload;
use crate::world::World;

impl<W: Workload> World<W> {
    /// A client's timer has fired.
    pub(crate) fn on_client(&mut self, client: usize) -> Result<(), Failure> {
        let is_quiet = self.is_quiet();
        self.unbind_clients_if_due();
        let one = &mut self.clients[client];
        if one.is_idle() && is_quiet {
            return Ok(());
        }
        match one.wake() {
            Act::GiveUp { id, outcome } => {
                let delay_us = one.think_us();
                self.set_client_timer(client, delay_us);
                let now = Time(self.queue.now());
                self.watch_answered(client_id(client), id, &outcome);
                self.checker.replied(client_id(client), id, &outcome, now)?;
            }
            Act::Send { begins, attempts } => {
                let timeout_us = one.timeout_us();
                self.set_client_timer(client, timeout_us);
                if begins {
                    let now = Time(self.queue.now());
                    let (id, operation) =
                        self.clients[client].operation().expect("it has just begun");
                    self.checker.invoked(client_id(client), id, operation, now);
                    self.trace.asked::<W>(client_id(client), id, operation);
                    self.note_invoked(client);
                }
                for (attempt, at) in attempts.into_iter().flatten() {
                    self.ask(client, at, RequestId(attempt))?;
                }
            }
        }
        Ok(())
    }

    /// A client asks a node for what it has open, unless an earlier attempt was answered by now.
    fn ask(&mut self, client: usize, at: NodeAt, id: RequestId) -> Result<(), Failure> {
        let one = &mut self.clients[client];
        let Some((_, operation)) = one.operation() else { return Ok(()) };
        let request = request::<W>(operation, one.mode());
        if self.nodes[at].process.is_some() {
            return self.deliver(at, Input::Request { id, request });
        }
        one.refused();
        let delay_us = one.backoff_us();
        self.set_client_timer(client, delay_us);
        Ok(())
    }

    pub(crate) fn set_client_timer(&mut self, client: usize, delay_us: u64) {
        let one = &mut self.clients[client];
        one.generation += 1;
        self.queue.after(delay_us, Event::Client { client, generation: one.generation });
    }
}

/// How the checker calls a client.
pub(crate) fn client_id(client: usize) -> crate::check::ClientId {
    crate::check::ClientId(client as u64)
}
