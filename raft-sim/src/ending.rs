//! How a server ends when it is told to: the way that the server takes at a signal to terminate.
//!
//! It takes no more requests of clients; a leader asks the best follower to lead, and waits for that, but
//! not for ever. Then nothing is taken or said any more. What its disk was asked for is done and synced, the
//! disk is told that it is at rest, and the process ends. A disk without room for it is not waited for.

use raft_core::RoleName;
use raft_replica::request::Request;

use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::nemesis::Strike;
use crate::process::Closing;
use crate::work::is_scratch;
use crate::workload::Workload;
use crate::world::World;

/// How long a leader waits for somebody else to lead, in election timeouts.
const HAND_OVER_TIMEOUTS: u64 = 2;

/// A leader looks so often in an election timeout whether somebody else leads.
const LOOKS: u64 = 8;

impl<W: Workload> World<W> {
    /// Tells a process to end, unless it was told before.
    pub(crate) fn tell_to_end(&mut self, at: NodeAt, strike: &Strike) -> Result<(), Failure> {
        let by = self.queue.now() + HAND_OVER_TIMEOUTS * self.options.election_timeout_us;
        let node = &mut self.nodes[at];
        let Some(process) = node.process.as_mut().filter(|one| one.leaves_by.is_none()) else {
            return Ok(());
        };
        process.leaves_by = Some(by);
        let (status, life) = (process.replica.status(), node.life);
        node.away_us = strike.lasts_us;
        self.stats.tally.injected(Fault::GracefulStop);
        self.queue.after(1, Event::Leave { node: at, life });
        if status.role == RoleName::Leader && status.membership.incoming().len() > 1 {
            self.operate(at, Request::TransferLeadership { to: None })?;
        }
        Ok(())
    }

    /// A process that was told to end does so as soon as it does not lead, or has waited for long enough.
    pub(crate) fn on_leave(&mut self, at: NodeAt) -> Result<(), Failure> {
        let now = self.queue.now();
        let node = &mut self.nodes[at];
        let life = node.life;
        let process = node.process.as_mut().expect("a life has a process while it lasts");
        let is_over = process.leaves_by.is_none_or(|by| by <= now);
        let leads = process.replica.status().role == RoleName::Leader;
        if node.paused || (leads && !is_over) {
            let wait_us = 1 + self.options.election_timeout_us / LOOKS;
            self.queue.after(wait_us, Event::Leave { node: at, life });
            return Ok(());
        }
        let closing = process.close();
        // Nobody sees it any more.
        node.deadline = (node.deadline.0 + 1, u64::MAX);
        node.seen.role = None;
        node.is_urged = false;
        match closing {
            Closing::Begins(kind) => self.begin_disk(at, kind),
            Closing::Busy => {}
            Closing::Over => return self.end_in_order(at, false),
        }
        Ok(())
    }

    /// The disk of a process that ends has nothing more to do; whether it knows that it is at rest.
    pub(crate) fn end_in_order(&mut self, at: NodeAt, has_rested: bool) -> Result<(), Failure> {
        let away_us = self.nodes[at].away_us;
        if self.stop(at) {
            if has_rested {
                self.stats.tally.effective(Fault::GracefulStop);
            }
            self.restart_after(at, 1 + away_us);
        }
        // Nobody asks any more what its disk was told to do, but it must have been done.
        let node = &self.nodes[at];
        let unsynced = node.disk.unsynced(is_scratch).filter(|_| has_rested);
        Ok(self.checker.confirmed(node.member.id, unsynced)?)
    }
}
