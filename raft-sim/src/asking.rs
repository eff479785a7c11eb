//! What clients do to the world: they wake up, ask nodes, and wait.

use raft_core::{MembershipChange, RoleName, Time};
use raft_replica::machine::StateMachine;
use raft_replica::request::{Failure as Failed, Input, Output, Reply, Request, RequestId};
use raft_replica::session::SessionId;
use raft_replica::storage::work::Work;

use crate::check::{Fate, Wish};
use crate::client::{Act, request};
use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::nemesis::Strike;
use crate::said::Said;
use crate::workload::{Machine, Turn, Workload};
use crate::world::World;

impl<W: Workload> World<W> {
    /// A client's timer has fired.
    pub(crate) fn on_client(&mut self, client: usize) -> Result<(), Failure> {
        let is_quiet = self.is_quiet_for(client);
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
                if self.is_judged(client) {
                    self.checker.replied(client_id(client), id, &outcome, now)?;
                }
            }
            Act::Send { begins, attempts } => {
                let timeout_us = one.timeout_us();
                self.set_client_timer(client, timeout_us);
                if begins {
                    self.stats.asked_beyond += u64::from(self.is_beyond);
                    let now = Time(self.queue.now());
                    let is_judged = self.is_judged(client);
                    let (id, operation) =
                        self.clients[client].operation().expect("it has just begun");
                    if is_judged {
                        self.checker.invoked(client_id(client), id, operation, now);
                    }
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

    /// Whether what a client's present request comes to must be right: not what is read by a lease while
    /// clocks differ by more than leases bear.
    pub(crate) fn is_judged(&self, client: usize) -> bool {
        !(self.options.faults.contains(Fault::Drift) && self.clients[client].is_lease_read())
    }

    /// A client asks a node for what it has open, unless an earlier attempt was answered by now.
    fn ask(&mut self, client: usize, at: NodeAt, id: RequestId) -> Result<(), Failure> {
        let one = &mut self.clients[client];
        let Some((_, operation)) = one.operation() else { return Ok(()) };
        let request = request::<W>(operation, one.mode());
        if self.nodes[at].serves() {
            return self.deliver(at, Input::Request { id, request });
        }
        one.refused();
        let delay_us = one.backoff_us();
        self.set_client_timer(client, delay_us);
        Ok(())
    }

    /// The checker hears which entries a node has appended in a step for what it was asked for.
    pub(crate) fn note_attempts(&mut self, at: NodeAt, outputs: &[Output<Machine<W>>]) {
        if self.attempts.is_empty() {
            return;
        }
        let batches = outputs.iter().filter_map(|output| {
            let Output::Work(Work::Persist { batch, .. }) = output else { return None };
            Some(batch)
        });
        self.checker.took(self.nodes[at].member.id, &self.attempts, batches);
        self.attempts.clear();
    }

    /// The checker hears how a node has ended an attempt.
    pub(crate) fn settle(
        &mut self,
        at: NodeAt,
        id: RequestId,
        reply: &Reply<Machine<W>>,
    ) -> Result<(), Failure> {
        let node = &self.nodes[at];
        let fate = match reply {
            Reply::SessionOpened { .. } | Reply::Response { .. } => Fate::Committed,
            Reply::MembershipChanged { index } => Fate::CommittedAt(*index),
            Reply::Transferred { term } => {
                self.checker.handed_over(node.member.id, *term)?;
                Fate::None
            }
            Reply::Failed(failed) => match failed {
                Failed::Expired | Failed::StaleSerial | Failed::Malformed => Fate::Committed,
                Failed::Superseded => Fate::Superseded,
                Failed::Unknown => {
                    let process = node.process.as_ref();
                    let role = process.map(|process| process.replica.status().role);
                    Fate::Unknown { is_over: role == Some(RoleName::Halted) }
                }
                Failed::NotLeader { .. }
                | Failed::Busy
                | Failed::TooLarge
                | Failed::Transferring
                | Failed::Refused(_) => Fate::Refused,
                // They promise nothing.
                Failed::Halted | _ => Fate::None,
            },
            Reply::Answer { .. } => Fate::None,
        };
        Ok(self.checker.settled(node.member.id, id, fate)?)
    }

    pub(crate) fn set_client_timer(&mut self, client: usize, delay_us: u64) {
        let one = &mut self.clients[client];
        one.generation += 1;
        self.queue.after(delay_us, Event::Client { client, generation: one.generation });
    }
}

/// Requests that no client and no operator has made are named from here on, until those of operators.
const MISSPOKEN: u64 = 0xfffe << 48;

/// Whether a request was made by somebody who has another version.
pub(crate) fn is_misspoken(id: RequestId) -> bool {
    (MISSPOKEN..MISSPOKEN + (1 << 48)).contains(&id.0)
}

impl<W: Workload> World<W> {
    /// Somebody asks the leader, in the name of a client, for a command of another version, or for one that
    /// is too large.
    pub(crate) fn misspeak(&mut self, at: NodeAt, mut strike: Strike) -> Result<(), Failure> {
        let at = self.leader().unwrap_or(at);
        if !self.nodes[at].serves() {
            return Ok(());
        }
        let clients = self.clients.len() as u64;
        let client = usize::try_from(strike.clients % clients).expect("there are few clients");
        let (session, serial) = self.clients[client].name().unwrap_or((SessionId(u64::MAX), 1));
        self.operations += 1;
        let turn = Turn { client: clients, request: self.operations };
        let command = self.workload.command(turn, &mut strike.draw);
        let is_large = strike.fault == Fault::Oversized;
        let command = if is_large { Said::Swollen(command) } else { Said::Newer(command) };
        self.stats.tally.injected(strike.fault);
        let id = RequestId(MISSPOKEN | self.operations);
        let request = Request::Command { session, serial, command };
        self.deliver(at, Input::Request { id, request })
    }

    /// Such a request was answered. It may have waited with one of the client that says the same in this
    /// version, and be answered with it.
    pub(crate) fn misspoken(&mut self, reply: &Reply<Machine<W>>) {
        if let Reply::Failed(Failed::Malformed) = reply {
            self.stats.tally.effective(Fault::Malformed);
        } else if let Reply::Failed(Failed::TooLarge) = reply {
            self.stats.tally.effective(Fault::Oversized);
        }
    }
}

/// How the checker calls a client.
pub(crate) fn client_id(client: usize) -> crate::check::ClientId {
    crate::check::ClientId(client as u64)
}

/// What an input asks a node to have in its log, if it does.
pub(crate) fn attempt<M: StateMachine>(input: &Input<M>) -> Option<(RequestId, Wish)> {
    let Input::Request { id, request } = input else { return None };
    match request {
        Request::OpenSession => Some((*id, Wish::Session)),
        Request::Command { session, serial, .. } => Some((*id, Wish::Command(*session, *serial))),
        Request::ChangeMembership { change, .. } => {
            let leaves = *change == MembershipChange::LeaveJoint;
            Some((*id, Wish::Membership { leaves }))
        }
        Request::Query { .. } | Request::TransferLeadership { .. } | Request::ForceMembership => {
            None
        }
    }
}
